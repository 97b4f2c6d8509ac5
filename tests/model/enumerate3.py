"""Every schema of three states, every valid active set, every mutation: promise P26.

Between two distinct states, in each of the six directions, there are five choices without a contradiction: nothing,
require, add, require and add, remove (`remove` goes with neither of the others). 5 to the 6th is 15,625 schemas. They
have 47,396 valid active sets between them, and on each set there are 21 mutations: add, remove and set of each of the
seven sets of states that are not empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, permutations, product
from typing import Literal

from .consensus import NOTHING, Kind, Names, StateForm, States, is_valid

SCHEMAS = 15_625
RUNS = 995_316

NAMES = ("A", "B", "C")
PAIRS = tuple(permutations(NAMES, 2))
Relation = Literal["require", "add", "remove"]
CHOICES: tuple[tuple[Relation, ...], ...] = ((), ("require",), ("add",), ("require", "add"), ("remove",))

Run = tuple[States, Names, Kind, Names, Names]
"""States, active, kind, called, dropped: the arguments of `verdict`."""


def subsets() -> Iterator[Names]:
    """All eight sets of the three states, the empty one first."""
    return map(frozenset, chain.from_iterable(combinations(NAMES, size) for size in range(len(NAMES) + 1)))


def schemas() -> Iterator[dict[str, StateForm]]:
    for choices in product(CHOICES, repeat=len(PAIRS)):
        states: dict[str, StateForm] = {name: {} for name in NAMES}
        for (source, target), relations in zip(PAIRS, choices, strict=True):
            for relation in relations:
                states[source].setdefault(relation, []).append(target)
        yield states


def valid_active_sets(states: States) -> Iterator[Names]:
    return (names for names in subsets() if is_valid(states, names))


def mutations() -> Iterator[tuple[Kind, Names, Names]]:
    """Kind, called, dropped."""
    for names in subsets():
        if names:
            yield "add", names, NOTHING
            yield "remove", NOTHING, names
            yield "set", names, NOTHING


def runs() -> Iterator[Run]:
    for states in schemas():
        for active in valid_active_sets(states):
            for kind, called, dropped in mutations():
                yield states, active, kind, called, dropped


def assert_the_figures() -> None:
    """Count them, rather than believe the arithmetic above."""
    assert sum(1 for _ in schemas()) == SCHEMAS
    assert sum(1 for _ in runs()) == RUNS


def main() -> None:
    """Decide every run with the model, check every law but those of order, and every reason; say how long it took."""
    from time import perf_counter

    from .consensus import verdict

    assert_the_figures()
    began = perf_counter()
    accepted = sum(verdict(*run).accepted for run in runs())
    took = perf_counter() - began
    print(f"{SCHEMAS:,} schemas, {RUNS:,} verdicts, {accepted:,} accepted, {took / RUNS * 1e6:.0f} µs each")


if __name__ == "__main__":
    main()
