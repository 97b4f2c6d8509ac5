"""Lives of random machines whose handlers raise, refuse and queue; what has to hold is checked after each transition.

``python -m promises.fuzz TRANSITIONS [SEED]``, from the directory of the tests. One harness for the promises that speak
of every transition: P1, P3, P5, P6, P7, P15 and P21. It works on bare engines, by the public door, and knows relations
and the order of handlers from the model alone. What it counted it prints as JSON; what broke ends it, with the seed of
the life.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random

from kernel.fuzz import counted, random_situation
from model.consensus import StateForm, is_latch, is_multi, requires
from model.consensus import removes as model_removes
from model.machine import handler_order
from trsm import (
    Canceled,
    Engine,
    ErrorState,
    Executed,
    NotSettled,
    Queued,
    QueueFull,
    Result,
    Schema,
    State,
    Transition,
)

EXECUTED = Executed()
CAUGHT: dict[str, type[Exception]] = {"ErrKey": KeyError, "ErrMath": ArithmeticError}
METHODS = ("add", "add", "add", "remove", "remove", "set", "toggle", "mutate")
FAULTS = (KeyError, ZeroDivisionError, ValueError)


class Scope:
    """What may stand as the scope of a mutation."""

    def __init__(self) -> None:
        self.cancel_called = False


class World:
    """One random schema, and tables of it that are made from the forms of its states and not by trsm."""

    def __init__(self, random: Random) -> None:
        forms = random_situation(random).states
        names = list(forms)
        plain = [name for name in names if not is_latch(forms, name)]
        self.forms: dict[str, StateForm] = forms
        for name in CAUGHT:
            removed = random.sample(plain, min(len(plain), random.choice((0, 0, 1, 2))))
            added = [other for other in random.sample(names, min(len(names), 1)) if other not in removed]
            self.forms[name] = {"multi": True, "require": ["Error"], "add": ["Error", *added], "remove": removed}
        self.forms["Error"] = {"multi": True}
        declared: dict[str, State[..., object]] = {}
        for name in names:
            declared[name] = State(**forms[name])
        for name, error in CAUGHT.items():
            form = self.forms[name]
            declared[name] = ErrorState(catches=error, add=form["add"][1:], remove=form["remove"])
        self.schema = Schema.define("World", declared)
        self.names = list(self.forms)
        self.states = [self.schema[name] for name in self.names]
        assert list(self.schema.states) == self.states
        places = {name: place for place, name in enumerate(self.names)}

        def masks(named: Callable[[str], object]) -> list[int]:
            return [sum(1 << places[other] for other in named(name)) for name in self.names]  # type: ignore[attr-defined]

        self.requires = masks(lambda name: requires(self.forms, name))
        self.removes = masks(
            lambda name: [other for other in self.names if other != name and model_removes(self.forms, name, other)]
        )
        self.latched = sum(1 << places[name] for name in self.names if is_latch(self.forms, name))
        self.multi = sum(1 << places[name] for name in self.names if is_multi(self.forms, name))
        self.places = {state: places[state.name] for state in self.states}
        order = handler_order(self.forms)
        self.entering = [places[name] for name in order]
        self.leaving = [places[name] for name in reversed(order)]
        self.callable = [state for state in self.states if state.name != "Error"]


class Life:
    """One engine on a random schema, and everything that is checked of it."""

    def __init__(self, world: World, random: Random, counts: Counter[str]) -> None:
        self.world = world
        self.random = random
        self.counts = counts
        self.finals: list[tuple[str, str, bool]] = []
        """Final handlers that ran since the last transition was checked: kind, state, whether they returned."""
        self.asked: set[tuple[str, str, Transition]] = set()
        """Negotiation handlers that were asked in this step, with the transition that they were asked about."""
        self.violations: list[AssertionError] = []
        """What broke inside handlers, where the engine would make an error state of it."""
        self.ledger: list[tuple[Result, Scope | None]] = []
        self.issued = self.refused = 0
        self.scopes: list[Scope] = []
        self.changes = self.faults = 0
        self.last_failed: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self.active = self.tick = 0
        self.is_whole = random.random() < 0.6
        """Whether every final handler is bound, and what ran is compared with what was due."""
        self.usual = [self._random_mutation() for _ in range(10)]
        """What this life is made of, mostly: what is decided for the first time is some ten times as slow."""
        self.is_raising = random.random() < 0.7
        self.is_busy = random.random() < 0.7
        self.engine = Engine(
            world.schema,
            *self._handlers(),
            queue_limit=random.choice((2, 5, 1000)),
            drain_limit=random.choice((12, 60)),
        )
        self.ticks = self.engine.ticks

    # ---- What handlers do -------------------------------------------------------------------------------------------

    def _handlers(self) -> list[object]:
        functions: list[object] = []
        is_error_handled = self.random.random() < 0.6
        for state in self.world.states:
            if self.random.random() < 0.7 and not self.is_whole:
                continue
            if state.name != "Error" and self.random.random() < 0.4:
                functions += [
                    state.can_enter(self._asking("can_enter", state.name)),
                    state.can_exit(self._asking("can_exit", state.name)),
                    state.can_stay(self._asking("can_stay", state.name)),
                ]
            if state.name != "Error" or is_error_handled:
                functions.append(state.on_enter(self._acting("on_enter", state.name)))
            functions.append(state.on_exit(self._acting("on_exit", state.name)))
        self.is_error_handled = is_error_handled
        functions.append(self.world.schema.on_change(lambda t: self._check(self._changed, t)))
        return functions

    def _asking(self, kind: str, name: str) -> Callable[[Transition], bool]:
        def ask(t: Transition) -> bool:
            key = (kind, name, t)
            if key in self.asked:
                self.violations.append(AssertionError(f"P7: {kind} of {name} was asked twice in {t!r}"))
            self.asked.add(key)
            luck = self.random.random()
            if luck < 0.01 and self.is_raising:
                self.faults += 1
                raise self.random.choice(FAULTS)(kind, name)
            return luck < 0.95

        return ask

    def _acting(self, kind: str, name: str) -> Callable[[Transition], None]:
        def act(t: Transition) -> None:
            luck = self.random.random()
            if luck < 0.03 and self.is_raising:
                self.finals.append((kind, name, False))
                self.faults += 1
                raise self.random.choice(FAULTS)(kind, name)
            self.finals.append((kind, name, True))
            if luck > 0.85 and self.is_busy:
                for _ in range(self.random.choice((1, 1, 2, 4))):
                    self._check(self._queue)

        return act

    def _check(self, function: Callable[..., None], *args: Transition) -> None:
        """Call what may find something broken."""
        try:
            function(*args)
        except AssertionError as error:
            self.violations.append(error)

    def _queue(self) -> None:
        self.mutate(is_inside=True)

    def _random_mutation(self) -> tuple[str, list[State[..., object]]]:
        random = self.random
        return random.choice(METHODS), random.sample(self.world.callable, random.choice((1, 1, 1, 2, 2, 3)))

    def mutate(self, *, is_inside: bool) -> Result | None:
        """Make a random mutation, and enter it into the ledger."""
        random = self.random
        method, states = self._random_mutation() if random.random() < 0.03 else random.choice(self.usual)
        extra: dict[str, object] = {}
        if is_inside:
            if random.random() < 0.15:
                extra["first"] = True
            if random.random() < 0.15:
                self.scopes.append(Scope())
                extra["scope"] = self.scopes[-1]
            if self.scopes and random.random() < 0.05:
                random.choice(self.scopes).cancel_called = True
        self.issued += 1
        try:
            if method == "mutate":
                result = self.engine.mutate(add=states[:1], remove=states[1:], **extra)  # type: ignore[arg-type]
            else:
                result = getattr(self.engine, method)(*states, **extra)
        except QueueFull:
            assert is_inside, "P16: only what is made inside a transition waits in the queue"
            self.refused += 1
            return None
        assert is_inside is isinstance(result, Queued), "P15: inside a transition a mutation is queued, outside it runs"
        self.ledger.append((result, extra.get("scope")))  # type: ignore[arg-type]
        return result

    # ---- What has to hold -------------------------------------------------------------------------------------------

    def _changed(self, t: Transition) -> None:
        """Check a transition that moved a tick; this is the last final handler of it."""
        world = self.world
        before, after = t.before, t.after
        assert before == self.ticks, f"P6: ticks moved between transitions, before {t!r}"
        assert t.tick > self.tick, f"P6: the machine's tick did not move in {t!r}"
        present = self.engine.active_states
        assert present == after.active_states, f"P6: {present} are active, and {after}"  # odd exactly when active
        places = [world.places[state] for state in present]
        active = sum(1 << place for place in places)
        was = self.active
        for place in places:
            assert not world.requires[place] & ~active, f"P1: {world.names[place]} lacks what it requires: {t!r}"
            assert not world.removes[place] & active, f"P1: {world.names[place]} is beside what it removes: {t!r}"
        assert not was & world.latched & ~active, f"P21: a latched state left in {t!r}"
        moved = again = 0
        for state, by in after.since(before).items():
            bit = 1 << world.places[state]
            moved |= bit
            if by == 2:
                # An error state that matches and is active counts as called again.
                is_called = state in t.called or (t.kind == "error" and state.name in CAUGHT)
                assert is_called and bit & world.multi & was, f"P6: {state} moved by 2 in {t!r}"
                again |= bit
            else:
                assert by == 1, f"P6: {state} moved by {by} in {t!r}"
        assert moved & ~again == active ^ was, f"P6: ticks and active states differ after {t!r}"
        if self.is_whole:
            self._check_finals(t, moved & ~again & was, moved & ~was | again)
            self.counts["transitions with all handlers"] += 1
        self.ticks, self.active, self.tick = after, active, t.tick
        self.changes += 1
        self.finals.clear()

    def _check_finals(self, t: Transition, leaving: int, entering: int) -> None:
        names = self.world.names
        gone = [names[place] for place in self.world.leaving if leaving >> place & 1]
        come = [names[place] for place in self.world.entering if entering >> place & 1]
        assert [state.name for state in t.leaving] == gone, f"P7: {t!r} against the ticks: {gone} leave"
        assert [state.name for state in t.entering] == come, f"P7: {t!r} against the ticks: {come} enter"
        exits = [name for kind, name, _ in self.finals if kind == "on_exit"]
        enters = [name for kind, name, _ in self.finals if kind == "on_enter"]
        failed = {name for kind, name, returned in self.finals if kind == "on_enter" and not returned}
        skipped: set[str] = set()
        if failed:
            first = min(come.index(name) for name in failed)
            skipped = {name for name in come[first + 1 :] if not is_latch(self.world.forms, name)}
        owed = [name for name in come if name not in skipped and (name != "Error" or self.is_error_handled)]
        assert enters == owed, f"P7: on_enter of {enters} ran in {t!r}, and {owed} were due"
        silent = frozenset[str]()
        if t.kind == "removal":
            silent = self.last_failed[0] | self.last_failed[1]
        due = [name for name in gone if name not in silent]
        assert exits == due, f"P7: on_exit of {exits} ran in {t!r}, and {due} were due"
        kinds = [kind for kind, *_ in self.finals]
        assert kinds == sorted(kinds, key=("on_exit", "on_enter").index), f"P7: exits run first: {self.finals}"
        self.last_failed = frozenset(failed), frozenset(skipped)

    def _place(self) -> str:
        """Return at which of its own ticks the engine says it is."""
        return self.engine.describe().partition("\n")[0]

    def step(self) -> None:
        """Make one mutation from outside, and check what it led to."""
        engine, counts = self.engine, self.counts
        faults, changes = self.faults, self.changes
        is_closely = self.random.random() < 0.2
        before = engine.last_transition if is_closely else None
        place = self._place() if is_closely else ""
        self.asked.clear()
        issued, refused = self.issued, self.refused
        result: Result | None = None
        try:
            result = self.mutate(is_inside=False)
        except ExceptionGroup as group:
            if self.faults == faults and not any(isinstance(error, NotSettled) for error in group.exceptions):
                raise  # nothing that we raised
            self.ledger.append((EXECUTED, None))  # what became of it is not told: it raised once all had settled
        if self.violations:
            raise self.violations[0]
        assert engine.ticks == self.ticks, "P6: ticks moved, and no transition says so"
        if isinstance(result, Canceled) and self.faults == faults:
            counts["canceled mutations"] += 1
            assert self.changes == changes and not self.finals, "P5: a canceled mutation ran final handlers"
            if is_closely:
                assert engine.last_transition is before, "P5: a canceled mutation left a transition"
                assert self._place() == place, "P5: a canceled mutation moved the machine's own tick"
        self.finals.clear()
        # P15: each ended in one way, and the sum of the ways is what was issued.
        told = self.refused - refused
        seen: set[int] = set()
        for one, scope in self.ledger:
            outcome: Result | None = one
            told += 1
            if isinstance(one, Queued):
                assert not one.queued, f"P15: {one!r} was left in the queue"
                outcome = one.outcome
                if id(one) in seen:
                    counts["folded"] += 1
                    continue
                seen.add(id(one))
            assert outcome is not None and outcome.executed is not outcome.canceled, f"P15: {one!r} ended in two ways"
            way = "executed"
            if isinstance(outcome, Canceled):
                way = "canceled"
                if scope is not None and outcome.reason.startswith("its scope was cancelled"):
                    assert scope.cancel_called
                    way = "skipped"
            counts[way] += 1
        assert told == self.issued - issued, f"P15: {self.issued - issued} were issued, and {told} told"
        counts["mutations"] += told
        counts["refused"] += self.refused - refused
        self.ledger.clear()
        self.scopes.clear()


def run(transitions: int, seed: int, counts: Counter[str]) -> None:
    """Live lives until there were so many transitions."""
    contests = counted()  # holds every contest against the bound on passes, too
    for number in count():
        random = Random(f"{seed} {number}")
        life = Life(World(random), random, counts)
        try:
            for steps in range(3_000):
                if life.changes > 2_000 or (steps > 100 and life.changes < steps / 3):
                    break  # enough, or so much is refused that it goes round on the spot
                life.step()
        except BaseException as error:
            error.add_note(f"in life {number} of seed {seed}: python -m promises.fuzz 1 {seed}")
            raise
        counts["transitions"] += life.changes
        counts["faults"] += life.faults
        counts["lives"] += 1
        if counts["transitions"] >= transitions and counts["transitions with all handlers"] >= transitions // 2:
            break
    counts["contests"] = contests["contests"]
    counts["most passes"] = contests["most passes"]


def main() -> None:
    counts = Counter[str]()
    run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, counts)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
