"""Timeouts of states: one task for each nursery, asleep until the next deadline (DESIGN section 9)."""

from __future__ import annotations

import contextvars
import functools
import heapq
from typing import Protocol

import trio

from trsm._core._state import State
from trsm._protection import protect


class Timed(Protocol):
    """A machine, as its deadlines see it."""

    def _timed_out(self, state: State[..., object]) -> None:
        """Deactivate a state that has been active for as long as it may."""
        ...  # a protocol's method has no body to run


class Deadline:
    """When one instance of a state is over. It is of no effect, and holds no machine, once it was dropped."""

    __slots__ = ("at", "machine", "place", "state", "timers")

    def __init__(self, timers: Timers, machine: Timed, state: State[..., object], at: float, place: int) -> None:
        self.timers = timers
        self.machine: Timed | None = machine
        self.state = state
        self.at = at
        self.place = place
        """How many deadlines were made before: of equal ones the first made comes first."""

    def __lt__(self, other: Deadline) -> bool:
        return (self.at, self.place) < (other.at, other.place)

    def drop(self) -> None:
        """Forget it: the instance has ended. Nothing happens if it has rung."""
        if self.machine is not None:
            self.machine = None
            self.timers.dropped()


class Timers:
    """The deadlines of all machines of one nursery, and the task that waits for the earliest.

    The task is started when it is first needed, in the context of `open_machine`.
    """

    __slots__ = ("_context", "_count", "_dropped", "_heap", "_nursery", "_scope")

    def __init__(self, nursery: trio.Nursery, context: contextvars.Context) -> None:
        self._nursery = nursery
        self._context = context
        self._heap: list[Deadline] = []
        self._dropped = 0
        """How many in the heap were dropped. Never more than half of it, so that it holds no more than it should."""
        self._count = 0
        self._scope: trio.CancelScope | None = None
        """The task's sleep; None exactly if there is no task."""

    def __len__(self) -> int:
        return len(self._heap)

    def start(self, machine: Timed, state: State[..., object], at: float) -> Deadline:
        """Return a deadline at that time of trio's clock."""
        self._count += 1
        deadline = Deadline(self, machine, state, at, self._count)
        heapq.heappush(self._heap, deadline)
        if self._scope is None:
            self._scope = trio.CancelScope()
            self._context.run(functools.partial(self._nursery.start_soon, self._run, name="timeouts of states"))
        self._aim()
        return deadline

    def dropped(self) -> None:
        """Note that a deadline was dropped."""
        self._dropped += 1
        if self._dropped * 2 > len(self._heap):
            self._heap = [deadline for deadline in self._heap if deadline.machine is not None]
            heapq.heapify(self._heap)
            self._dropped = 0
        self._aim()

    def _aim(self) -> None:
        """Let the task sleep until the first deadline; for ever, if there is none."""
        while self._heap and self._heap[0].machine is None:
            heapq.heappop(self._heap)
            self._dropped -= 1
        if self._scope is not None:
            self._scope.deadline = self._heap[0].at if self._heap else float("inf")

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        try:
            while True:
                assert self._scope is not None  # made before the task was, and by it
                with self._scope:
                    await trio.sleep_forever()
                self._scope = trio.CancelScope()
                self._ring()
                self._aim()
        finally:
            self._scope = None

    def _ring(self) -> None:
        """Time out what is due. What becomes due meanwhile has its turn after the next sleep."""
        now, latest = trio.current_time(), self._count
        while self._heap and self._heap[0].at <= now and self._heap[0].place <= latest:
            deadline = heapq.heappop(self._heap)
            machine, deadline.machine = deadline.machine, None
            if machine is None:
                self._dropped -= 1
            else:
                machine._timed_out(deadline.state)


protect(__name__)
