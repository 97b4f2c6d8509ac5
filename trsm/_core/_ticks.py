"""The machine's clocks: an immutable vector with one tick for each state, and the journal it is rebuilt from."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from trsm._core._schema import Definition
from trsm._core._state import State, States

Move = tuple[int, int]
"""A state's number, and how far a transition moves its tick."""


@attrs.frozen(repr=False)
class Ticks:
    """The ticks of all states at one moment, immutable and comparable: ``ticks[X.Foo]`` is the tick of ``Foo``.

    A tick is odd exactly while its state is active: +1 at each activation and deactivation, +2 when a multi state that
    is active is called again. Ticks never decrease. It iterates over the states in declaration order.

    Example::

        before = machine.ticks
        machine.add(Door.Open)
        assert machine.ticks[Door.Open] == before[Door.Open] + 1
    """

    _definition: Definition
    _values: tuple[int, ...]

    def __getitem__(self, state: State[..., object]) -> int:
        """Return the tick of a state.

        Raises:
          UnknownState: the state is not one of the machine's schema.
        """
        return self._values[self._definition.number(state, "ticks[…]")]

    def __iter__(self) -> Iterator[State[..., object]]:
        return iter(self._definition.states)

    def __len__(self) -> int:
        return len(self._values)

    def is_active(self, *states: State[..., object]) -> bool:
        """Return whether all of these states were active.

        Raises:
          UnknownState: a state is not one of the machine's schema.
        """
        return all(self[state] % 2 for state in states)

    @property
    def active_states(self) -> tuple[State[..., object], ...]:
        """The states that were active, in declaration order."""
        return States(state for state, tick in zip(self._definition.states, self._values, strict=True) if tick % 2)

    def __repr__(self) -> str:
        names = self._definition.relations.names
        moved = " ".join(f"{name}:{tick}" for name, tick in zip(names, self._values, strict=True) if tick)
        return f"<Ticks {moved or 'all 0'}>"


class Journal:
    """What moved since a known vector, so that a transition can rebuild the ticks around it when they are read.

    The machine starts a new journal every `length` transitions; a transition holds the journal that it was written to.
    """

    __slots__ = ("base", "moves")

    def __init__(self, base: tuple[int, ...]) -> None:
        self.base = base
        self.moves: list[tuple[Move, ...]] = []

    def at(self, position: int, more: tuple[Move, ...] = ()) -> tuple[int, ...]:
        """Return the ticks after the first `position` entries, and then after `more`."""
        values = list(self.base)
        for moves in self.moves[:position]:
            for state, distance in moves:
                values[state] += distance
        for state, distance in more:
            values[state] += distance
        return tuple(values)
