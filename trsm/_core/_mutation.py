"""What a mutation carries, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import attrs

from trsm._core._consensus import Request
from trsm._core._source import Source
from trsm._core._state import State

if TYPE_CHECKING:
    from trsm._core._reasons import Explanation


class Cancellable(Protocol):
    """What the ``scope`` of a mutation has to be: a trio cancel scope is one."""

    @property
    def cancel_called(self) -> bool:
        """Whether it was cancelled."""
        ...  # a protocol's property has no body to run


class Result:
    """What became of a mutation: `Executed`, `Canceled` or `Queued`. False when it was canceled, true otherwise.

    True does not mean that it was executed: one that is queued still waits.
    """

    __slots__ = ()

    @property
    def executed(self) -> bool:
        """Whether it was executed, by now."""
        return False

    @property
    def canceled(self) -> bool:
        """Whether it was canceled, by now."""
        return False

    @property
    def queued(self) -> bool:
        """Whether it still waits for its turn."""
        return False

    def __bool__(self) -> bool:
        return not self.canceled


class Executed(Result):
    """The mutation was executed, though it may have changed nothing. All executed mutations share one result."""

    __slots__ = ()

    @property
    def executed(self) -> bool:
        """True."""
        return True

    def __repr__(self) -> str:
        return "<Executed>"


class Canceled(Result):
    """The mutation was canceled: nothing has changed. ``reason`` says why, in a sentence, worked out when asked."""

    __slots__ = ("_explain", "_explanation", "_machine", "_reason", "_request")

    def __init__(
        self,
        reason: str = "",
        machine: object = None,
        explain: Callable[[], Explanation] | None = None,
        request: Request | None = None,
    ) -> None:
        self._reason = reason
        self._machine = machine
        """The machine that canceled it, if that was for its relations or handlers."""
        self._request = request
        """What was asked, if the relations refused it."""
        self._explain = explain
        self._explanation: Explanation | None = None

    @property
    def canceled(self) -> bool:
        """True."""
        return True

    @property
    def reason(self) -> str:
        """Why, down to the root cause, in the names of the schema."""
        explanation = self.explanation
        return self._reason if explanation is None else explanation.text

    @property
    def explanation(self) -> Explanation | None:
        """The reasons one by one; None if it was not for relations or handlers: its scope was gone, or the machine."""
        if self._explanation is None and self._explain is not None:
            self._explanation = self._explain()
        return self._explanation

    def __repr__(self) -> str:
        return f"<Canceled: {self.reason}>"


class Queued(Result):
    """The mutation was made inside a transition and waits for its turn.

    Attributes:
      tick: the queue tick at which it runs: how many queued mutations will have had their turn by then, itself
        included. One made with ``first=True`` runs ahead of that.
      outcome: `Executed` or `Canceled` once it had its turn, None before.
    """

    __slots__ = ("_machine", "outcome", "tick")

    def __init__(self, tick: int, machine: object) -> None:
        self._machine = machine
        """The weak reference to the machine whose queue it is in."""
        self.tick: int = tick
        self.outcome: Executed | Canceled | None = None

    @property
    def executed(self) -> bool:
        """Whether it had its turn and was executed."""
        return self.outcome is not None and self.outcome.executed

    @property
    def canceled(self) -> bool:
        """Whether it had its turn and was canceled."""
        return self.outcome is not None and self.outcome.canceled

    @property
    def queued(self) -> bool:
        """Whether it still waits."""
        return self.outcome is None

    def __repr__(self) -> str:
        return f"<Queued tick={self.tick}{'' if self.outcome is None else f' {self.outcome!r}'}>"


EXECUTED = Executed()


class Mutation:
    """A mutation that carries more than its states, or waits in the queue."""

    __slots__ = (
        "args",
        "calls",
        "defaults",
        "error",
        "outcome",
        "request",
        "result",
        "scope",
        "source",
        "toggle",
    )

    def __init__(
        self,
        request: Request | None,
        *,
        toggle: int = 0,
        args: dict[str, object] | None = None,
        calls: dict[int, object] | None = None,
        scope: Cancellable | None = None,
        source: Source | None = None,
        result: object = None,
        error: Exception | None = None,
    ) -> None:
        self.request = request
        """None for a toggle, which is decided when its turn comes."""
        self.toggle = toggle
        self.args = args
        self.calls = calls
        """State -> the instance of its args class that it was called with."""
        self.defaults: dict[int, object] | None = None
        """State -> the instance with its class's defaults that was made when it was first read; not of those called."""
        self.scope = scope
        self.source = source
        self.result = result
        self.error = error
        self.outcome: Queued | None = None

    def asks_the_same(self, request: Request) -> bool:
        """Whether it asks for the same as `request`, which need not be the same object."""
        mine = self.request
        return mine is request or (
            mine is not None
            and (mine.kind, mine.called, mine.dropped) == (request.kind, request.called, request.dropped)
        )

    @property
    def is_plain(self) -> bool:
        """Whether it carries its states and nothing else, so that an equal one can be folded into it."""
        return self.args is None and self.calls is None and self.scope is None and self.result is None


@attrs.frozen(eq=False)
class QueuedMutation:
    """A mutation that waits for its turn, as `Engine.queue` shows it: a picture that changes nothing."""

    kind: str
    """``"add"``, ``"remove"``, ``"set"``, ``"toggle"`` or ``"mutate"``."""
    called: tuple[State[..., object], ...]
    """The states that it calls, in declaration order; those of a ``toggle`` too."""
    dropped: tuple[State[..., object], ...]
    """The states that it asks to go, in declaration order."""
    args: Mapping[str, object]
    """Its free keywords."""
    result: Queued
    """What the caller got: its outcome is there once it had its turn."""

    def __str__(self) -> str:
        """Return it as it would be written, but for the values of its arguments."""
        called, dropped = (", ".join(map(str, states)) for states in (self.called, self.dropped))
        words = f"add=({called}), remove=({dropped})" if self.kind == "mutate" else called or dropped
        return f"{self.kind}({', '.join((words, *(f'{name}=…' for name in self.args)))})"
