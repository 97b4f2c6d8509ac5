"""Scopes: trio cancel scopes bound to one instance of a state (DESIGN section 6)."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

import trio

from trsm._core._state import State
from trsm._protection import protect


class Holder(Protocol):
    """A machine, as its scopes see it."""

    @property
    def id(self) -> str:
        """Its name in messages."""
        ...  # a protocol's property has no body to run

    def _enter_scope(
        self, state: State[..., object], ends_active: bool, scope: trio.CancelScope
    ) -> dict[trio.CancelScope, None] | None:
        """Enter a scope; return those that end with it, itself included, or None if it is over already."""
        ...  # a protocol's method has no body to run

    def _scopes_left(self, state: State[..., object], ends_active: bool) -> None:
        """Forget the scopes of a state, the last of which was left."""
        ...


class StateScope:
    """What ``while_active`` and ``while_inactive`` return: a context manager, usable once, over a trio cancel scope.

    Registered at ``with``; cancelled in the same step in which the state leaves (or comes). If the condition does not
    hold at entry, the scope is cancelled from the start. What ``with`` gives is a `trio.CancelScope`.

    Checkpoints: entering and leaving are none.

    Cancellation: what the scope cancels ends at the ``with``, as with any trio cancel scope.

    Raises:
      RuntimeError: it was entered before.

    Example::

        with machine.while_active(Link.Connected) as scope:
            await stream.send_all(data)
        if scope.cancelled_caught:
            print("the link was lost")
    """

    __slots__ = ("_among", "_ends_active", "_holder", "_scope", "_state")

    def __init__(self, holder: Holder, state: State[..., object], ends_active: bool) -> None:
        self._holder = holder
        self._state = state
        self._ends_active = ends_active
        self._scope: trio.CancelScope | None = None
        self._among: dict[trio.CancelScope, None] | None = None
        """The scopes that end together with this one."""

    def __enter__(self) -> trio.CancelScope:
        if self._scope is not None:
            raise RuntimeError("a state's scope is usable once: call while_active(…) again for another")
        scope = trio.CancelScope()
        self._among = self._holder._enter_scope(self._state, self._ends_active, scope)
        self._scope = scope
        return scope

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        scope = self._scope
        assert scope is not None  # `with` calls __enter__ first
        among = self._among
        if among is not None and scope in among:  # the machine takes its scopes away when it ends them
            del among[scope]
            if not among:
                self._holder._scopes_left(self._state, self._ends_active)
        return scope.__exit__(exc_type, exc_value, traceback)

    def __repr__(self) -> str:
        # Whether the scope is cancelled is not asked: it would look at the clock, which there may be none of.
        among = self._among
        status = "not entered" if self._scope is None else "entered" if among and self._scope in among else "over"
        called = f"while_{'in' if self._ends_active else ''}active({self._state})"
        return f"<StateScope {called} of {self._holder.id!r}, {status}>"


protect(__name__)
