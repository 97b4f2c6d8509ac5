"""Sets of small numbers as Python integers: bit i is set when number i is a member."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def members(mask: int) -> Iterator[int]:
    """Iterate over the members of `mask` in ascending order, in proportion to their number."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def lowest(mask: int) -> int:
    """Return the smallest member of a set that has any."""
    return (mask & -mask).bit_length() - 1


def union(masks: Iterable[int]) -> int:
    """Return the union of several sets."""
    result = 0
    for mask in masks:
        result |= mask
    return result


def gather(table: tuple[int, ...], mask: int) -> int:
    """Return the union of ``table[i]`` over the members i of `mask`."""
    result = 0
    while mask:
        lowest = mask & -mask
        result |= table[lowest.bit_length() - 1]
        mask ^= lowest
    return result


def renumbered(mask: int, places: Sequence[int]) -> int:
    """Return a set whose members were numbered anew: ``places[i]`` is what i is now."""
    return union(1 << places[number] for number in members(mask))


def transpose(table: tuple[int, ...]) -> tuple[int, ...]:
    """Turn a relation round: bit i of row j becomes bit j of row i."""
    rows = [0] * len(table)
    for index, mask in enumerate(table):
        bit = 1 << index
        for other in members(mask):
            rows[other] |= bit
    return tuple(rows)
