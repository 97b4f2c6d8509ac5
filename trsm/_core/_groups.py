"""Groups: states of a schema that are named together; those of an exclusive group remove one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from trsm._core._errors import SchemaError
from trsm._core._state import State


class Group:
    """States that are named together, declared in the body of a `Schema` class: ``busy = Group(Reading, Writing)``.

    It iterates over its states, so that it can stand wherever several are taken: ``remove=busy``,
    ``machine.any_active(*X.busy)``; and ``machine.which(X.busy)`` is the first of them that is active. A schema that
    inherits has the group too, and may declare another under its name.

    Args:
      states: states, or the names of states of the same schema.

    Raises:
      SchemaError: no state is given, one is given twice, or something that is neither a state nor a name.
    """

    __slots__ = ("_is_exclusive", "_members", "_name", "_owner")

    def __init__(self, *states: State[..., object] | str) -> None:
        if not states:
            raise SchemaError("a group of no states means nothing: name its states")
        for state in states:
            if not isinstance(state, (State, str)):
                raise SchemaError(f"a group holds states or their names, and {state!r} is neither")
        self._members: tuple[State[..., object] | str, ...] = states
        self._is_exclusive = False
        self._name: str | None = None
        self._owner: type | None = None

    @property
    def name(self) -> str:
        """The name it is declared under.

        Raises:
          SchemaError: it is not part of a schema (yet).
        """
        if self._name is None:
            raise SchemaError("this group has no name yet: declare it in the body of a Schema class")
        return self._name

    @property
    def is_exclusive(self) -> bool:
        """Whether its states remove one another."""
        return self._is_exclusive

    @property
    def states(self) -> tuple[State[..., object], ...]:
        """Its states, in the order in which they were given.

        Raises:
          SchemaError: it is not part of a schema (yet), so that names mean nothing.
        """
        if self._name is None:
            raise SchemaError("this group has no states yet: declare it in the body of a Schema class")
        return cast("tuple[State[..., object], ...]", self._members)

    def __iter__(self) -> Iterator[State[..., object]]:
        return iter(cast("tuple[State[..., object], ...]", self._members))

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, state: object) -> bool:
        if isinstance(state, State):
            return any(isinstance(one, State) and one._lineage is state._lineage for one in self._members)
        return any(str(one) == state for one in self._members)

    def __repr__(self) -> str:
        owner = "?" if self._owner is None else self._owner.__name__
        kind = "exclusive" if self._is_exclusive else "Group"
        return f"<{kind} {owner}.{self._name or '?'}: {' '.join(map(str, self._members))}>"


def exclusive(*states: State[..., object] | str) -> Group:
    """Return a group whose states remove one another, so that at most one of them is active at a time.

    ``link = exclusive(Connecting, Connected, Disconnecting)`` says in one line what ``remove=`` of each of them would
    say in three.

    Raises:
      SchemaError: fewer than two states are given; otherwise as `Group`.
    """
    group = Group(*states)
    if len(group) < 2:
        raise SchemaError("an exclusive group of one state excludes nothing: name at least two")
    group._is_exclusive = True
    return group
