"""Sets of numbers as integers do what sets of numbers do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trsm._core._bits import gather, lowest, members, renumbered, transpose, union

MEMBERS = st.sets(st.integers(0, 8))
TABLES = st.lists(MEMBERS, min_size=9, max_size=9)


def mask(numbers: set[int]) -> int:
    """Return a set as an integer."""
    return sum(2**number for number in numbers)


@given(MEMBERS, MEMBERS)
def test_members_of_one_and_of_several(numbers: set[int], others: set[int]) -> None:
    """In ascending order; a union has those of all."""
    assert list(members(mask(numbers))) == sorted(numbers)
    assert union([mask(numbers), mask(others)]) == mask(numbers | others)
    assert union([]) == 0


@given(MEMBERS.filter(bool))
def test_the_lowest_member(numbers: set[int]) -> None:
    """Of a set that has any."""
    assert lowest(mask(numbers)) == min(numbers)


@given(TABLES, MEMBERS)
def test_relations_of_numbers(table: list[set[int]], numbers: set[int]) -> None:
    """What some of them lead to, and the relation the other way."""
    rows = tuple(map(mask, table))
    assert gather(rows, mask(numbers)) == mask(set().union(*(table[number] for number in numbers)))
    assert transpose(rows) == tuple(
        mask({index for index, row in enumerate(table) if number in row}) for number in range(9)
    )


@given(MEMBERS, st.permutations(range(9)))
def test_numbers_that_are_numbered_anew(numbers: set[int], places: list[int]) -> None:
    """Each by its place in the list."""
    assert renumbered(mask(numbers), places) == mask({places[number] for number in numbers})
