"""The sweep: random schemas whose handlers raise at chosen calls, and what must hold whatever raised.

Used by the kernel's and the shell's property tests: a `Trial` counts handler calls, raises in those it is told to,
and keeps a diary from which the promises P1, P6, P8 and P9 are judged afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from hypothesis import strategies as st

from model.consensus import StateForm, is_valid
from model.strategies import schemas
from trsm import ErrorState, Schema, State, Transition

CAUGHT = {"ErrKey": (KeyError,), "ErrLookup": (LookupError,)}
NEGOTIATION = ("can_enter", "can_exit", "can_stay", "can_change")


class Fault(NamedTuple):
    """What a handler raised, and where."""

    error: BaseException
    kind: str
    state: str
    tick: int


class Shape(NamedTuple):
    """A random schema, and how its handlers behave."""

    forms: dict[str, StateForm]
    schema: type[Schema]
    enters: dict[str, int]
    """How many `on_enter` handlers each state has, from none to two."""
    follow: dict[str, str]
    """State -> the state that its first `on_enter` adds."""
    is_handled: bool
    """Whether `Error` has an `on_enter`."""
    handlers: type


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    forms = draw(schemas(2, 5))
    names = list(forms)
    plain = [name for name in names if not forms[name].get("latch")]
    declared: dict[str, State[..., object]] = {}
    errors: dict[str, StateForm] = {}
    for name in CAUGHT:
        removed = draw(st.lists(st.sampled_from(plain), unique=True, max_size=2)) if plain else []
        others = [other for other in names if other not in removed]
        added = draw(st.lists(st.sampled_from(others), unique=True, max_size=1)) if others else []
        errors[name] = {"remove": removed, "add": added, "require": ["Error"]}
        guards = [other for other in plain if other not in added and other not in removed]
        for other in draw(st.lists(st.sampled_from(guards), unique=True, max_size=1)) if guards else []:
            forms[other].setdefault("remove", []).append(name)
    for name, form in forms.items():
        declared[name] = State(**form)
    for name, form in errors.items():
        declared[name] = ErrorState(catches=CAUGHT[name], remove=form["remove"], add=form["add"])
    schema = Schema.define("Random", declared)
    every = [*names, *CAUGHT, "Error"]
    enters = {name: draw(st.integers(0, 2)) for name in every}
    follow = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(names), max_size=2))
    is_handled = draw(st.booleans())
    if not is_handled:
        enters["Error"] = 0
    return Shape(
        {**forms, **errors, "Error": {}}, schema, enters, follow, is_handled, handlers_of(schema, enters, is_handled)
    )


def handlers_of(schema: type[Schema], enters: dict[str, int], is_handled: bool) -> type:
    """A class with two handlers of each kind for each state, which tell their `Trial`; recorders stand first."""
    body: dict[str, object] = {"__init__": lambda self, trial: setattr(self, "trial", trial)}

    def put(name: str, mark: Callable[[object], object], function: object) -> None:
        body[name] = mark(function)

    def handler(kind: str, state: str, place: int) -> object:
        return lambda self, t: self.trial.called(kind, state, place, t)

    put("record", schema.on_change, lambda self, t: self.trial.changed(t))
    if is_handled:
        put("report", schema.Error.on_enter, lambda self, t: self.trial.reported(t))
    for state in schema:
        name = state.name
        kinds = ["on_enter"] * enters[name] + ["on_exit"] * 2
        if name != "Error":
            kinds += ["can_enter", "can_exit", "can_stay"]
        for place, kind in enumerate(kinds):
            put(f"{kind}_{name}_{place}", getattr(state, kind), handler(kind, name, place))
    first, second = schema.states[:2]
    put("pair", first.can_enter(given=second), handler("can_enter", first.name, 9))
    put("can_change", schema.can_change, handler("can_change", "", 0))
    put("on_change", schema.on_change, handler("on_change", "", 0))
    return type("Handlers", (), body)


class Trial:
    """One life of a machine, in which the calls numbered in `faulty` raise what `make` makes."""

    def __init__(self, shape: Shape, faulty: Collection[int], make: Callable[[], BaseException]) -> None:
        self.shape = shape
        self.faulty = faulty
        self.make = make
        self.calls = 0
        self.faults: list[Fault] = []
        self.seen: list[Exception] = []
        """What `Error.on_enter` was told."""
        self.transitions: list[Transition] = []
        """Those that moved a tick."""
        self.finals: dict[int, list[tuple[str, str, bool]]] = {}
        """Machine tick -> final handlers that were called: kind, state, whether they returned."""
        self.look: Callable[[], None] = lambda: None
        """Checks the machine's present state."""

    def changed(self, t: Transition) -> None:
        self.transitions.append(t)

    def reported(self, t: Transition) -> None:
        self.finals.setdefault(t.tick, []).append(("on_enter", "Error", True))
        if t.error is not None:
            self.seen.append(t.error)

    def called(self, kind: str, state: str, place: int, t: Transition) -> bool | None:
        self.look()
        number = self.calls
        self.calls += 1
        is_final = kind not in NEGOTIATION
        if number in self.faulty:
            error = self.make()
            self.faults.append(Fault(error, kind, state, t.tick))
            if is_final:
                self.finals.setdefault(t.tick, []).append((kind, state, False))
            raise error
        if is_final:
            self.finals.setdefault(t.tick, []).append((kind, state, True))
            if kind == "on_enter" and state in self.shape.follow and (t.source is None or t.source.depth < 3):
                machine = t._machine()  # the engine's transitions do not show it; the shell's do
                machine.add(self.shape.schema[self.shape.follow[state]])  # type: ignore[union-attr]
            return None
        return True

    # ---- What must hold ---------------------------------------------------------------------------------------------

    def check_now(self, active: Collection[State[..., object]], ticks: dict[str, int]) -> None:
        """P1 and P6: no relation is broken, and a tick is odd exactly when its state is active."""
        names = frozenset(state.name for state in active)
        assert is_valid(self.shape.forms, names), names
        assert names == {name for name, tick in ticks.items() if tick % 2}

    def check_diary(self, unhandled: list[BaseException]) -> None:
        """P8 and P9: what each fault led to, and that each error was reported exactly once."""
        self._check_chain()
        for before, after in zip([None, *self.transitions], self.transitions, strict=False):
            self._check_finals(before, after)
        for t, following in itertools.zip_longest(self.transitions, self.transitions[1:]):
            if t.kind != "close" and self._to_go(t):
                assert following is not None and following.kind == "removal", f"what failed stays after {t!r}"
        self._check_reports(unhandled)

    def _check_chain(self) -> None:
        """Nothing moved a tick but the transitions that were seen."""
        for before, after in zip(self.transitions, self.transitions[1:], strict=False):
            assert after.before == before.after

    def _enter_failure(self, t: Transition) -> tuple[set[str], set[str]]:
        """The states whose on_enter raised in a transition, and those that had to be skipped."""
        failed = {state for kind, state, returned in self.finals.get(t.tick, []) if kind == "on_enter" and not returned}
        order = [state.name for state in t.entering]
        if not failed:
            return failed, set()
        first = min(order.index(name) for name in failed)
        return failed, {name for name in order[first + 1 :] if not self.shape.forms[name].get("latch")}

    def _to_go(self, t: Transition) -> set[str]:
        """The states that a removal has to take out after a transition: those that failed and those skipped."""
        failed, skipped = self._enter_failure(t)
        return {
            name
            for name in failed | skipped
            if not self.shape.forms[name].get("latch") and not t.before[self.shape.schema[name]] % 2
        }

    def _check_finals(self, before: Transition | None, t: Transition) -> None:
        called = self.finals.get(t.tick, [])
        exits = [state for kind, state, _ in called if kind == "on_exit"]
        silent: set[str] = set()
        if t.kind == "removal":
            assert before is not None and before.tick == t.tick - 1  # ahead of everything
            failed, skipped = self._enter_failure(before)
            returned = {state for kind, state, fine in self.finals[before.tick] if kind == "on_enter" and fine}
            silent = (failed - returned) | skipped
            assert {state.name for state in t.leaving} >= self._to_go(before)
        owed = [state.name for state in t.leaving if state.name not in silent for _ in range(2)]
        assert exits == owed, (t, exits, owed)
        failed, skipped = self._enter_failure(t)
        entered = [state for kind, state, _ in called if kind == "on_enter"]
        assert not skipped & set(entered)
        for state in t.entering:
            if state.name not in skipped and state.name not in failed:
                reports = state.name == "Error" and self.shape.is_handled
                assert entered.count(state.name) == self.shape.enters[state.name] + reports
        assert [kind for kind, _, _ in called].count("on_change") == 1

    def _check_reports(self, unhandled: list[BaseException]) -> None:
        loose = list(leaves(unhandled))
        told = list(leaves(self.seen))
        is_double_fault = any(fault.state in (*CAUGHT, "Error") for fault in self.faults)
        for error in leaves(fault.error for fault in self.faults):
            inside, outside = count(told, error), count(loose, error)
            caught = sum(1 for t in self.transitions if t.kind == "error" and count(list(leaves([t.error])), error))
            assert caught <= 1 and inside <= 1 and outside <= 1
            assert caught or outside, f"{error!r} was lost"
            if self.shape.is_handled:
                assert inside + outside == 1 or is_double_fault, f"{error!r} was told {inside} and {outside} times"
            elif caught and not is_double_fault:
                (t,) = [t for t in self.transitions if t.kind == "error" and count(list(leaves([t.error])), error)]
                came = {state.name for state in t.entering} - self._enter_failure(t)[1]
                is_taken = any(isinstance(error, CAUGHT[name]) for name in came & CAUGHT.keys())
                assert outside == (not is_taken)
        assert all(count(list(leaves(fault.error for fault in self.faults)), one) for one in loose)


def leaves(errors: object) -> Iterator[BaseException]:
    """The exceptions in a list of exceptions and groups, one by one."""
    for error in errors:  # type: ignore[attr-defined]
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error.exceptions)
        else:
            yield error


def count(errors: list[BaseException], wanted: BaseException) -> int:
    return sum(1 for error in errors if error is wanted)


MAKERS: tuple[Callable[[], Exception], ...] = (
    lambda: ValueError("fault"),
    lambda: KeyError("fault"),
    lambda: ExceptionGroup("faults", [IndexError("one"), ExceptionGroup("inner", [ValueError("two")])]),
)


@st.composite
def lives(draw: st.DrawFn, shape: Shape) -> list[tuple[str, tuple[State[..., object], ...]]]:
    """A few mutations: method and states."""
    states = [state for state in shape.schema if state.name != "Error"]
    step = st.tuples(
        st.sampled_from(("add", "add", "add", "remove", "set", "toggle")),
        st.lists(st.sampled_from(states), min_size=1, max_size=2, unique=True).map(tuple),
    )
    return draw(st.lists(step, min_size=1, max_size=4))
