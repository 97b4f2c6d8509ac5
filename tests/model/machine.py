"""A machine that runs conformance steps: the model of the consensus, plus negotiation, ticks and the automatic round.

DESIGN section 5, with no queue: nothing here makes a mutation inside a handler, so each step is one drain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NotRequired, TypedDict

from .consensus import NOTHING, Kind, Names, States, Verdict, is_multi, requires, ticks_moved, verdict

Handler = tuple[str, ...]
"""("exit", X), ("enter", X), ("stay", X), or ("enter", X, Y): X enters while Y was active."""

Result = Literal["executed", "canceled"]


class Step(TypedDict):
    """One step of a conformance case; what it states of the outcome is ignored here."""

    mutate: Literal["add", "remove", "set", "toggle", "mutate"]
    called: NotRequired[list[str]]
    add: NotRequired[list[str]]
    remove: NotRequired[list[str]]
    result: NotRequired[Result]
    active: NotRequired[list[str]]
    ticks: NotRequired[dict[str, int]]


def handler_order(states: States) -> list[str]:
    """**Order of handlers**: the one stable order of a schema, in which states enter; they leave in its reverse."""
    first: dict[str, set[str]] = {name: set(form.get("after", ())) for name, form in states.items()}

    def comes_before(early: str, late: str) -> bool:
        """Whether the edges so far lead from `early` to `late`."""
        seen: set[str] = set()
        frontier = {late}
        while frontier:
            seen |= frontier
            frontier = {name for member in frontier for name in first[member]} - seen
        return early in seen

    # For each state and each of its requirements, in declaration order: the requirement first, unless that would close
    # a circle.
    for name in states:
        for need in states:
            if need in requires(states, name) and not comes_before(name, need):
                first[name].add(need)

    order: list[str] = []
    while len(order) < len(states):
        order.append(next(name for name in states if name not in order and first[name] <= set(order)))
    return order


class ModelMachine:
    """Runs steps one after another; `refuse` names the negotiation handlers that always refuse.

    Every handler that could be bound counts as bound. `asked` is the log of those that were asked, in order, over the
    whole life; `finals` the log of ("exit", X) and ("enter", X) handlers that ran after each commit.
    """

    def __init__(self, states: States, refuse: Iterable[Sequence[str]] = ()) -> None:
        self.states = states
        self.active: Names = NOTHING
        self.ticks: dict[str, int] = dict.fromkeys(states, 0)
        self.asked: list[Handler] = []
        self.finals: list[Handler] = []
        self._refuse = {tuple(handler) for handler in refuse}
        self._order = handler_order(states)

    def step(self, step: Step) -> Result:
        """Run one mutation, and the automatic round if it moved a tick."""
        called, dropped = frozenset(step.get("called", ())), NOTHING
        kind: Kind
        match step["mutate"]:
            case "toggle":  # removes them if all are active, else adds them all
                kind = "remove" if called <= self.active else "add"
            case "mutate":
                kind = "mutate"
                called, dropped = frozenset(step.get("add", ())), frozenset(step.get("remove", ()))
            case given:
                kind = given
        if kind == "remove":
            called, dropped = NOTHING, called

        decided = verdict(self.states, self.active, kind, called, dropped)
        if not decided.accepted:
            return "canceled"
        # Any refusal cancels the call, an implied state's too.
        if self._first_refusal(kind, called, decided, {}) is not None:
            return "canceled"
        if self._commit(decided, called):
            self._automatic_round()
        return "executed"

    def _automatic_round(self) -> None:
        """Take the target, bar whoever is refused, and take it again, until nobody is."""
        barred: Names = NOTHING
        answers: dict[Handler, bool] = {}  # within one mutation nobody is asked twice
        while True:
            decided = verdict(self.states, self.active, "auto", barred=barred)
            if decided.target == self.active:
                return  # a round that changes nothing leaves no transition
            refusal = self._first_refusal("auto", NOTHING, decided, answers)
            if refusal is None:
                self._commit(decided, NOTHING)
                return
            if refusal[0] != "enter":
                return  # a refused exit, or any other refusal, cancels the round
            barred |= {refusal[1]}

    def _entering(self, called: Names, target: Names) -> list[str]:
        """Those that activate, a called active multi state among them, in handler order."""
        again = {name for name in called & self.active if is_multi(self.states, name)}
        return [name for name in self._order if name in (target - self.active) | again]

    def _leaving(self, target: Names) -> list[str]:
        return [name for name in reversed(self._order) if name in self.active - target]

    def _questions(self, kind: Kind, called: Names, target: Names) -> Iterable[Handler]:
        """**Negotiate**, in this order."""
        entering = self._entering(called, target)
        for name in self._leaving(target):
            yield ("exit", name)
        for name in entering:
            yield ("enter", name)
        if kind == "auto" or called:  # not on a mutation that calls nothing, as every `remove` does
            for name in self.states:  # in declaration order
                if name in self.active & target and name not in entering:
                    yield ("stay", name)
        for name in entering:
            for other in self.states:  # one was active, whether it stays or leaves; the other enters
                if other in self.active and other != name:
                    yield ("enter", name, other)

    def _first_refusal(
        self, kind: Kind, called: Names, decided: Verdict, answers: dict[Handler, bool]
    ) -> Handler | None:
        """Ask until somebody refuses; an answer is remembered within the mutation."""
        for handler in self._questions(kind, called, decided.target):
            if handler not in answers:
                self.asked.append(handler)
                answers[handler] = handler not in self._refuse
            if not answers[handler]:
                return handler
        return None

    def _commit(self, decided: Verdict, called: Names) -> bool:
        """Change active states and ticks at once; say whether a tick moved."""
        moved = ticks_moved(self.states, self.active, decided, called)
        self.finals += [("exit", name) for name in self._leaving(decided.target)]
        self.finals += [("enter", name) for name in self._entering(called, decided.target)]
        for name, by in moved.items():
            self.ticks[name] += by
        self.active = decided.target
        assert self.active == {name for name, tick in self.ticks.items() if tick % 2}  # odd exactly when active
        return bool(moved)
