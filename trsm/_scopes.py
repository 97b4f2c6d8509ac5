"""Scopes: trio cancel scopes bound to one instance of a state (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import trio

from trsm._protection import protect


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

    __slots__ = ("_enter", "_leave", "_scope")

    def __init__(self, enter: Callable[[trio.CancelScope], None], leave: Callable[[trio.CancelScope], None]) -> None:
        self._enter = enter
        self._leave = leave
        self._scope: trio.CancelScope | None = None

    def __enter__(self) -> trio.CancelScope:
        if self._scope is not None:
            raise RuntimeError("a state's scope is usable once: call while_active(…) again for another")
        scope = trio.CancelScope()
        self._enter(scope)
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
        self._leave(scope)
        return scope.__exit__(exc_type, exc_value, traceback)


protect(__name__)
