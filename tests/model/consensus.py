"""The consensus of DESIGN section 4, on names and sets, one sentence at a time.

Read it beside the design, from **Classes** to **Auto**. It is a pure function of (schema, active states, mutation),
made to be believed rather than to be fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypedDict

Kind = Literal["add", "remove", "set", "mutate", "auto"]
Names = frozenset[str]
NOTHING: Names = frozenset()


class StateForm(TypedDict, total=False):
    """One state as the conformance cases write it; what is absent is empty or false."""

    require: list[str]
    add: list[str]
    remove: list[str]
    after: list[str]
    auto: bool
    multi: bool
    latch: bool


States = Mapping[str, StateForm]
"""A schema: states in declaration order."""


@dataclass(frozen=True)
class Verdict:
    """What the consensus says of one mutation.

    `found` is the set that was found before the called states are judged, and holds every called state; `target` is
    the same set if the mutation is accepted, else the active set, unchanged.
    """

    accepted: bool
    found: Names
    target: Names
    called: Names
    incumbents: Names
    options: dict[str, int]
    """Each optional state, with the steps of the shortest chain that leads to it."""
    standing_incumbents: Names
    """The incumbents whose guard holds, as of `found`; an incumbent that is out may be among them."""
    passes: int


# --- What the schema says --------------------------------------------------------------------------------------------


def requires(states: States, name: str) -> Names:
    return frozenset(states[name].get("require", ()))


def adds(states: States, name: str) -> Names:
    return frozenset(states[name].get("add", ()))


def removes(states: States, remover: str, removed: str) -> bool:
    return removed in states[remover].get("remove", ())


def exclude_each_other(states: States, one: str, other: str) -> bool:
    """Whether at least one of the two removes the other."""
    return removes(states, one, other) or removes(states, other, one)


def is_multi(states: States, name: str) -> bool:
    return states[name].get("multi", False)


def is_latch(states: States, name: str) -> bool:
    return states[name].get("latch", False)


def is_auto(states: States, name: str) -> bool:
    return states[name].get("auto", False)


def is_valid(states: States, names: Iterable[str]) -> bool:
    """Whether these states may be active together: every requirement among them, no two that exclude each other."""
    together = frozenset(names)
    return all(requires(states, name) <= together for name in together) and not any(
        removes(states, one, other) for one in together for other in together
    )


# --- Classes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """One mutation on one active set, and who is who in it."""

    states: States
    active: Names
    kind: Kind
    called: Names = NOTHING
    dropped: Names = NOTHING
    barred: Names = NOTHING

    @cached_property
    def incumbents(self) -> Names:
        """Active, and neither called nor dropped; for `set`, only the latched ones."""
        rest = self.active - self.called - self.dropped
        if self.kind == "set":
            return frozenset(name for name in rest if is_latch(self.states, name))
        return rest

    @cached_property
    def sources(self) -> Names:
        """Where chains begin: the called states that activate now, in the automatic round the inactive auto states."""
        if self.kind == "auto":
            return frozenset(
                name for name in self.states if is_auto(self.states, name) and name not in self.active | self.barred
            )
        return frozenset(name for name in self.called if name not in self.active or is_multi(self.states, name))

    @cached_property
    def options(self) -> dict[str, int]:
        """Whatever else a chain of `add` leads to from a source, with the number of steps of the shortest chain.

        Standing counts the shortest chain "whatever becomes of the chain", so nothing is judged here yet.
        """
        nobody = self.called | self.incumbents | self.dropped | self.barred
        steps = dict.fromkeys(self.sources, 0) if self.kind == "auto" else {}
        # An active state fires no `add` unless it is called and multi, and then it is among the sources. In a `set`
        # an active state may be reached, and stay as an option, but it brings nothing.
        frontier, step = self.sources, 0
        while frontier:
            step += 1
            reached = frozenset(name for firing in frontier for name in adds(self.states, firing))
            reached -= nobody | steps.keys()
            steps |= dict.fromkeys(reached, step)
            frontier = reached - self.active
        return steps

    @cached_property
    def candidates(self) -> Names:
        return self.called | self.incumbents | self.options.keys()

    @cached_property
    def required_by_the_call(self) -> Names:
        """What the called states require, directly or through requirements of requirements, active or not."""
        found: Names = NOTHING
        frontier = self.called
        while frontier:
            frontier = frozenset(need for name in frontier for need in requires(self.states, name)) - found
            found |= frontier
        return found

    @cached_property
    def declared(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.states)}

    def standing(self, option: str) -> tuple[int, int]:
        """Fewer steps first, then declaration order: the smaller, the higher the standing."""
        return self.options[option], self.declared[option]

    @cached_property
    def put_out_by(self) -> dict[str, Names]:
        """For each candidate, those that put it out if they are in (of incumbents: if they stand)."""
        return {
            loser: frozenset(winner for winner in self.candidates if winner != loser and puts_out(self, winner, loser))
            for loser in self.candidates
        }


def puts_out(question: Question, winner: str, loser: str) -> bool:
    """**Who puts out whom**: what the row of `winner` says in the column of `loser`."""
    states, called, incumbents, options = question.states, question.called, question.incumbents, question.options
    if not exclude_each_other(states, winner, loser):
        return False
    both = removes(states, winner, loser) and removes(states, loser, winner)
    alone = removes(states, winner, loser) and not both

    # "A latched incumbent wins every conflict it is in", so it is never put out, and always puts out.
    if loser in incumbents and is_latch(states, loser):
        return False
    if winner in incumbents and is_latch(states, winner):
        return True

    # An option against something that the called states require: the option is out, whichever of the two removes the
    # other. If the call requires both, the table decides.
    winner_is_required = winner in question.required_by_the_call
    loser_is_required = loser in question.required_by_the_call
    if loser in options and winner_is_required and not loser_is_required:
        return True
    if winner in options and loser_is_required and not winner_is_required:
        return False

    if winner in called:
        if loser in called:
            return False  # the mutation is canceled: `is_accepted` sees to that
        if loser in incumbents:
            return removes(states, winner, loser)  # if it removes it, also when both do
        return True  # an option: always, whichever of the two removes the other
    if winner in incumbents:
        if loser in called:
            return alone  # only if it alone removes; then the mutation is canceled
        if loser in incumbents:
            return False  # does not arise
        return removes(states, winner, loser)  # an option: if it removes it, also when both do
    if loser in called:
        return False  # an option never harms what was called
    if loser in incumbents:
        return alone  # only if it alone removes
    if both:  # two options that remove each other: the higher standing wins
        return question.standing(winner) < question.standing(loser)
    return alone  # one-way: the remover wins


# --- Out: the four rules ---------------------------------------------------------------------------------------------


def founded(question: Question, held: Names) -> Names:
    """The options to which a chain of `add` leads, through states that are held, from a called or auto state."""
    in_the_automatic_round = question.kind == "auto"
    reached = question.sources & held if in_the_automatic_round else NOTHING
    frontier = question.sources & held
    while frontier:
        frontier = frozenset(name for firing in frontier for name in adds(question.states, firing))
        frontier = (frontier & held & question.options.keys()) - reached
        reached |= frontier
        frontier -= question.active  # what was active brings nothing
    return reached


def stands(question: Question, incumbent: str, held: Names) -> bool:
    """An incumbent stands unless a called or optional state that is in puts it out; being out does not matter."""
    return not question.put_out_by[incumbent] & held


def one_pass(question: Question, against: Names, left_out: Names) -> Names:
    """What is left when everything is out that follows from the four rules, if `against` are those taken to be in.

    With too much in `against`, what is left is certainly in; with too little, it is possibly in.
    """
    held = question.candidates - left_out
    while True:
        brought = founded(question, held)
        guards = frozenset(name for name in question.incumbents if stands(question, name, held))
        out = {
            name
            for name in held - question.called  # called states are taken to be in, and judged last
            if not requires(question.states, name) <= held  # 1: a requirement is out or no candidate
            or (name in question.options and name not in brought)  # 2: no chain leads to it
            or question.put_out_by[name] & (against - question.incumbents)  # 3: a called or optional state that is in
            or question.put_out_by[name] & guards  # 4: a standing incumbent, judged by what this same pass still holds
        }
        if not out:
            return held
        held -= out


def alternate(question: Question, left_out: Names) -> tuple[Names, Names, int]:
    """The alternating fixpoint: what is certainly in, what is possibly in, and the number of passes it took.

    Too many are possible at first, so what holds against them is certain; too few are certain, so what holds against
    those is possible; and again, until one of the two no longer moves.
    """
    possible = question.candidates - left_out
    certain = one_pass(question, possible, left_out)
    passes = 1
    while certain != possible:
        fewer = one_pass(question, certain, left_out)
        passes += 1
        assert certain <= fewer <= possible
        if fewer in (certain, possible):
            possible = fewer
            break
        possible = fewer
        more = one_pass(question, possible, left_out)
        passes += 1
        assert certain <= more <= possible
        if more == certain:
            break
        certain = more
    return certain, possible, passes


def search(question: Question) -> tuple[Names, int]:
    """The set that is found before the called states are judged, and the number of passes that it took."""
    left_out: Names = NOTHING
    passes = 0
    while True:
        certain, possible, more_passes = alternate(question, left_out)
        passes += more_passes
        undecided = possible - certain
        if not undecided:
            break
        # What remains undecided always holds options: leave out the one of lowest standing of all, and start over.
        left_out |= {max(undecided & question.options.keys(), key=question.standing)}
    limit = (len(question.options) + 1) * (len(question.candidates) + 1)
    assert passes <= limit, f"{passes} passes, and at most {limit} are promised"

    # Then, as long as some option outside fits, the one of highest standing comes in.
    found = certain
    while fitting := [name for name in question.options if name not in found and fits(question, name, found)]:
        found |= {min(fitting, key=question.standing)}
    return found, passes


def fits(question: Question, option: str, found: Names) -> bool:
    """Whether an option that was left outside harms nothing and lacks nothing."""
    return (
        requires(question.states, option) <= found
        and option in founded(question, found | {option})
        and not any(exclude_each_other(question.states, option, name) for name in found)
        and not any(
            removes(question.states, name, option) and stands(question, name, found) for name in question.incumbents
        )
    )


# --- The verdict -----------------------------------------------------------------------------------------------------


def is_accepted(question: Question, found: Names) -> bool:
    """Judge the called states, and what was dropped: all or nothing."""
    states = question.states
    if any(is_latch(states, name) for name in question.dropped & question.active):
        return False  # a latched state never leaves while the machine lives
    for called in question.called:
        if any(exclude_each_other(states, called, other) for other in question.called):
            return False  # two of them exclude each other
        if any(stands(question, name, found) for name in question.put_out_by[called] & question.incumbents):
            return False  # a standing incumbent removes one
        if not requires(states, called) <= found:
            return False  # a requirement is not in the target
    return True


def verdict(
    states: States,
    active: Iterable[str],
    kind: Kind,
    called: Iterable[str] = NOTHING,
    dropped: Iterable[str] = NOTHING,
    barred: Iterable[str] = NOTHING,
) -> Verdict:
    """Decide one mutation. For "remove" the states are `dropped`; a toggle is an "add" or a "remove" by now."""
    question = Question(states, frozenset(active), kind, frozenset(called), frozenset(dropped), frozenset(barred))
    assert question.kind in ("add", "set", "mutate") or not question.called
    assert question.kind in ("remove", "mutate") or not question.dropped
    assert not question.called & question.dropped
    assert question.active | question.called | question.dropped | question.barred <= states.keys()
    assert is_valid(states, question.active), f"{sorted(question.active)} cannot be active together"

    found, passes = search(question)
    accepted = is_accepted(question, found)
    return Verdict(
        accepted=accepted,
        found=found,
        target=found if accepted else question.active,
        called=question.called,
        incumbents=question.incumbents,
        options=question.options,
        standing_incumbents=frozenset(name for name in question.incumbents if stands(question, name, found)),
        passes=passes,
    )


def ticks_moved(states: States, active: Iterable[str], verdict: Verdict, called: Iterable[str]) -> dict[str, int]:
    """By how much each tick moves: +1 at each activation and deactivation, +2 for an active multi state again."""
    if not verdict.accepted:
        return {}
    before = frozenset(active)
    again = {name for name in called if name in before and is_multi(states, name)}
    return {name: 2 if name in again else 1 for name in states if name in again | (before ^ verdict.target)}
