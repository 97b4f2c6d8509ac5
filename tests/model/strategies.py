"""Hypothesis strategies for random schemas, situations, steps and refusals, in the form of the conformance cases."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from .consensus import NOTHING, Kind, Names, StateForm, States, is_latch, is_valid, requires
from .machine import Step

ALPHABET = "ABCDEFGHIJKL"
CONTRADICTION_FREE = (("remove",), ("require",), ("add",), ("require", "add"))


@st.composite
def schemas(draw: st.DrawFn, smallest: int = 2, largest: int = 12) -> dict[str, StateForm]:
    """A schema that is accepted: no relation to oneself, no contradiction, no circle of `after`, honest latches.

    Names are in declaration order. About two relations for each state, at most four, so that few schemas are dead.
    """
    names = ALPHABET[: draw(st.integers(smallest, largest))]
    states: dict[str, StateForm] = {name: {} for name in names}
    for name in names:
        properties = draw(st.integers(0, 15))  # plain states are the most frequent
        if properties & 3 == 3:
            states[name]["auto"] = True
        if properties & 12 == 12:
            states[name]["multi"] = True
        if properties in (5, 10):
            states[name]["latch"] = True

    pairs = draw(
        st.lists(
            st.tuples(st.sampled_from(names), st.sampled_from(names), st.sampled_from(CONTRADICTION_FREE)),
            max_size=4 * len(names),
            unique_by=lambda pair: (pair[0], pair[1]),
        )
    )
    for source, target, relations in pairs:
        if source == target:
            continue
        for relation in relations:
            if relation == "remove":
                states[source].setdefault("remove", []).append(target)
            elif relation == "add":
                states[source].setdefault("add", []).append(target)
            elif not is_latch(states, source) or is_latch(states, target):  # a latch requires only latches
                states[source].setdefault("require", []).append(target)

    places = {name: place for place, name in enumerate(draw(st.permutations(names)))}
    for late, early in draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=len(names))):
        if places[early] < places[late] and early not in states[late].get("after", ()):
            states[late].setdefault("after", []).append(early)
    return states


@st.composite
def active_sets(draw: st.DrawFn, states: States) -> Names:
    """A set of states that may be active together: a random one, without what does not fit."""
    active: Names = NOTHING
    for name in draw(st.lists(st.sampled_from(list(states)), unique=True)):
        with_it, frontier = active, frozenset({name})
        while frontier:  # it brings what it requires
            with_it |= frontier
            frontier = frozenset(need for member in frontier for need in requires(states, member)) - with_it
        if is_valid(states, with_it):
            active = with_it
    return active


def some_names(states: States, smallest: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(list(states)), min_size=smallest, max_size=3, unique=True)


@st.composite
def mutations(draw: st.DrawFn, states: States) -> tuple[Kind, Names, Names]:
    """Kind, called, dropped."""
    kinds: Sequence[Kind] = ("add", "set", "mutate", "remove", "auto")
    kind = draw(st.sampled_from(kinds))
    if kind == "auto":
        return kind, NOTHING, NOTHING
    names = frozenset(draw(some_names(states)))
    if kind == "remove":
        return kind, NOTHING, names
    if kind == "mutate":
        dropped = frozenset(draw(some_names(states, smallest=0)))
        return kind, names - dropped, dropped
    return kind, names, NOTHING


@st.composite
def situations(
    draw: st.DrawFn, smallest: int = 2, largest: int = 12
) -> tuple[dict[str, StateForm], Names, Kind, Names, Names]:
    """One mutation on one active set: the arguments of `verdict`."""
    states = draw(schemas(smallest, largest))
    active = draw(active_sets(states))
    kind, called, dropped = draw(mutations(states))
    return states, active, kind, called, dropped


@st.composite
def steps(draw: st.DrawFn, states: States) -> Step:
    """One step for `ModelMachine`, as the conformance cases write it."""
    mutate = draw(st.sampled_from(("add", "remove", "set", "toggle", "mutate")))
    if mutate == "mutate":
        dropped = draw(some_names(states))
        return {
            "mutate": "mutate",
            "add": [name for name in draw(some_names(states)) if name not in dropped],
            "remove": dropped,
        }
    called = draw(some_names(states))
    match mutate:
        case "add" | "remove" | "set" | "toggle":
            return {"mutate": mutate, "called": called}
        case _:
            raise AssertionError(mutate)


def refusals(states: States) -> st.SearchStrategy[list[list[str]]]:
    """Some negotiation handlers that always refuse."""
    names = list(states)
    one = [[question, name] for question in ("enter", "exit", "stay") for name in names]
    two = [["enter", name, other] for name in names for other in names if name != other]
    return st.lists(
        st.one_of(st.sampled_from(one), st.sampled_from(two)), max_size=len(names), unique_by=lambda given: tuple(given)
    )


@st.composite
def lives(
    draw: st.DrawFn, smallest: int = 2, largest: int = 12, longest: int = 8
) -> tuple[dict[str, StateForm], list[list[str]], list[Step]]:
    """A whole case: states, refusals (often none), steps."""
    states = draw(schemas(smallest, largest))
    refuse = draw(st.one_of(st.just([]), refusals(states)))
    return states, refuse, draw(st.lists(steps(states), min_size=1, max_size=longest))
