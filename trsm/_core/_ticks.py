"""The machine's clocks, as they are read: an immutable vector with one tick for each state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from trsm._core._errors import MutationError
from trsm._core._schema import Definition
from trsm._core._state import State, States


class Ticks:
    """The ticks of all states at one moment, immutable and comparable: ``ticks[X.Foo]`` is the tick of ``Foo``.

    A tick is odd exactly while its state is active: +1 at each activation and deactivation, +2 when a multi state that
    is active is called again. Ticks never decrease. It iterates over the states in declaration order.

    Example::

        before = machine.ticks
        machine.add(Door.Open)
        assert machine.ticks[Door.Open] == before[Door.Open] + 1
    """

    __slots__ = ("_definition", "_values")

    _definition: Definition
    _values: tuple[int, ...]

    def __init__(self, definition: Definition, values: tuple[int, ...]) -> None:
        put = object.__setattr__  # they are frozen
        put(self, "_definition", definition)
        put(self, "_values", values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"ticks are a picture of one moment: {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ticks):
            return NotImplemented
        return self._definition is other._definition and self._values == other._values

    def __hash__(self) -> int:
        return hash((self._definition, self._values))

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
          MutationError: no state was given.
        """
        if not states:
            example = self._definition.states[0].qualified_name
            raise MutationError(f"ticks.is_active() names no state: write at least one, such as {example}")
        return all(self[state] % 2 for state in states)

    def sum(self, *states: State[..., object]) -> int:
        """Return the sum of the ticks of these states, of all if none is given: how much has happened to them.

        Raises:
          UnknownState: a state is not one of the machine's schema.
        """
        return sum(self[state] for state in states or self)

    def filter(self, *states: State[..., object]) -> dict[State[..., object], int]:
        """Return the ticks of these states alone, in the order given.

        Raises:
          UnknownState: a state is not one of the machine's schema.
        """
        return {state: self[state] for state in states}

    def since(self, earlier: Ticks) -> dict[State[..., object], int]:
        """Return by how far each tick has moved since an earlier picture, for those that have, in declaration order.

        Raises:
          TypeError: `earlier` is no `Ticks`, or that of another schema, unless one of the two inherits the other: what
            only the heir has counts as 0 in the other.
        """
        states, mine, theirs = self._beside(earlier, "since")
        pairs = zip(states, mine, theirs, strict=True)
        return {state: here - there for state, here, there in pairs if here != there}

    def until(self, later: Ticks) -> dict[State[..., object], int]:
        """Return by how much each state's tick moves until a later picture. Otherwise as `since`."""
        states, mine, theirs = self._beside(later, "until")
        pairs = zip(states, mine, theirs, strict=True)
        return {state: there - here for state, here, there in pairs if here != there}

    def _beside(
        self, other: object, doing: str
    ) -> tuple[tuple[State[..., object], ...], tuple[int, ...], tuple[int, ...]]:
        """Return the states of the larger schema of two, and the values of both in its order."""
        mine = self._definition
        if isinstance(other, Ticks):
            theirs = other._definition
            if theirs is mine:
                return mine.states, self._values, other._values
            if theirs.family[0] in mine.family:
                return mine.states, self._values, other._within(mine)
            if mine.family[0] in theirs.family:
                return theirs.states, self._within(theirs), other._values
        what = other._definition.name if isinstance(other, Ticks) else repr(other)
        raise TypeError(f"ticks.{doing}(…): {what} is not the ticks of {mine.name}, as these are")

    def _within(self, heir: Definition) -> tuple[int, ...]:
        """Return the values in the order of a schema that inherits this one's; what is new there has 0."""
        values = [0] * len(heir.states)
        for state, value in zip(self._definition.states, self._values, strict=True):
            if state._lineage in heir.numbers:
                values[heir.numbers[state._lineage]] = value
        return tuple(values)

    def __le__(self, other: Ticks) -> bool:
        _, mine, theirs = self._beside(other, "<=")
        return all(here <= there for here, there in zip(mine, theirs, strict=True))

    def __lt__(self, other: Ticks) -> bool:
        return self <= other and not self >= other  # not by `!=`: equal ones of a schema and its heir differ

    def __ge__(self, other: Ticks) -> bool:
        _, mine, theirs = self._beside(other, ">=")
        return all(here >= there for here, there in zip(mine, theirs, strict=True))

    def __gt__(self, other: Ticks) -> bool:
        return other < self

    @property
    def active_states(self) -> tuple[State[..., object], ...]:
        """The states that were active, in declaration order."""
        return States(state for state, tick in zip(self._definition.states, self._values, strict=True) if tick % 2)

    def __repr__(self) -> str:
        names = self._definition.relations.names
        moved = " ".join(f"{name}:{tick}" for name, tick in zip(names, self._values, strict=True) if tick)
        return f"<Ticks {moved or 'all 0'}>"
