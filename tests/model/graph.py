"""Every set of states that can be reached, and what can hardly be meant in that graph: slowly, by the definitions.

Beside `trsm.testing.explore` and `check`: a machine opens with nothing active; each state is added and removed by
itself, those of a circle of `require` are also added together; the automatic round follows what moved a tick.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from .consensus import (
    NOTHING,
    Names,
    States,
    exclude_each_other,
    is_latch,
    is_multi,
    removes,
    requires,
    ticks_moved,
    verdict,
)

Move = tuple[str, Names]
"""``"add"`` or ``"remove"``, and whom."""


def needs(states: States, name: str) -> Names:
    """A state and all that it requires, directly or not."""
    found: Names = NOTHING
    frontier = frozenset({name})
    while frontier:
        found |= frontier
        frontier = frozenset(need for member in frontier for need in requires(states, member)) - found
    return found


def automatic(states: States, active: Names) -> Names:
    return frozenset(verdict(states, active, "auto").target)


class Graph:
    """All that can be reached."""

    def __init__(self, states: States) -> None:
        self.states = states
        circles = {frozenset(other for other in needs(states, name) if name in needs(states, other)) for name in states}
        self.moves: list[Move] = [
            *(("add", frozenset({name})) for name in states),
            *(("add", circle) for circle in circles if len(circle) > 1),
            *(("remove", frozenset({name})) for name in states),
        ]
        self.distance = {NOTHING: 0}
        """Each reachable set, and how many mutations it takes."""
        self.passings: set[Names] = set()
        """What is active between a mutation and the automatic round that follows it."""
        self.settled: set[Names] = set()
        """The sets in which an automatic round has ended."""
        self.following: dict[Names, set[Names]] = {}
        """Each reachable set, and the sets that one mutation leads to."""
        frontier = [NOTHING]
        for active in frontier:
            self.following[active] = set()
            for passing in self.steps(active):
                after = automatic(states, passing)
                self.passings.add(passing)
                self.settled.add(after)
                self.following[active].add(after)
                if after not in self.distance:
                    self.distance[after] = self.distance[active] + 1
                    frontier.append(after)

    def steps(self, active: Names) -> Iterator[Names]:
        """What each mutation leaves that is executed and moves a tick, before the automatic round."""
        for kind, names in self.moves:
            called, dropped = (names, NOTHING) if kind == "add" else (NOTHING, names)
            decided = verdict(self.states, active, "add" if kind == "add" else "remove", called, dropped)
            if decided.accepted and ticks_moved(self.states, active, decided, called):
                yield frozenset(decided.target)

    def all_after(self, active: Names) -> set[Names]:
        """A set, and all that can be reached from it."""
        found = {active}
        frontier = [active]
        for one in frontier:
            for other in self.following[one] - found:
                found.add(other)
                frontier.append(other)
        return found

    @cached_property
    def never_active(self) -> Names:
        return frozenset(name for name in self.states if not any(name in active for active in self.distance))

    @cached_property
    def contradictory(self) -> Names:
        """States that require two of which one removes the other."""
        return frozenset(
            name
            for name in self.states
            if any(
                removes(self.states, one, other)
                for one in needs(self.states, name)
                for other in needs(self.states, name)
            )
        )

    @cached_property
    def never_leaves(self) -> dict[str, int]:
        """States that are not latched and stay for good in some set, with the mutations that it takes to get there."""
        found: dict[str, int] = {}
        for active, distance in self.distance.items():
            for name in frozenset.intersection(*self.all_after(active)):
                if not is_latch(self.states, name) and distance < found.get(name, 1_000_000):
                    found[name] = distance
        return found

    @cached_property
    def dead_ends(self) -> set[Names]:
        """Sets that no mutation leaves, other than those of latched states alone, and of states that can be called."""
        return {
            active
            for active, after in self.following.items()
            if after <= {active}
            and not any(is_multi(self.states, name) for name in active)
            and (not active or not all(is_latch(self.states, name) for name in active))
        }

    @cached_property
    def second_rounds(self) -> set[Names]:
        """What second automatic rounds would change."""
        return {active ^ automatic(self.states, active) for active in self.settled} - {NOTHING}

    @cached_property
    def ties(self) -> set[tuple[str, str]]:
        """Who came in an automatic round, and who would have come instead, declared before all others."""
        found: set[tuple[str, str]] = set()
        for passing in self.passings:
            decided = verdict(self.states, passing, "auto")
            for loser in decided.options.keys() - decided.target:
                if loser in passing:
                    continue
                order = {loser: self.states[loser]} | dict(self.states)
                otherwise = automatic(order, passing)
                for winner in decided.target - passing:
                    is_turned = loser in otherwise and winner not in otherwise
                    if is_turned and exclude_each_other(self.states, winner, loser):
                        found.add((winner, loser))
        return found

    @cached_property
    def lost(self) -> set[str]:
        """Who would have come, declared before all others, though nobody came whom it excludes."""
        found: set[str] = set()
        for passing in self.passings:
            decided = verdict(self.states, passing, "auto")
            for loser in decided.options.keys() - decided.target - passing:
                is_won = any(
                    exclude_each_other(self.states, winner, loser)
                    for winner in (decided.target - passing) & decided.options.keys()
                )
                if not is_won and loser in automatic({loser: self.states[loser]} | dict(self.states), passing):
                    found.add(loser)
        return found
