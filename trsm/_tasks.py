"""State tasks: never outside their instance, cancelled with it, and never beside their successor (DESIGN section 6)."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVarTuple, cast

import trio

from trsm._core._plan import TaskHandler
from trsm._core._source import CAUSE, Source
from trsm._core._state import State
from trsm._core._transition import Transition
from trsm._protection import protect, unprotected

Ts = TypeVarTuple("Ts")


class Owner(Protocol):
    """The machine, as its tasks see it."""

    def _task_returned(self, activation: Activation, value: object) -> None:
        """Do what ``then=`` asks for."""
        ...  # a protocol's methods have no body to run

    def _task_failed(self, activation: Activation, error: BaseException) -> BaseException | None:
        """Turn exceptions into errors of the machine; return what is none."""
        ...

    def _task_begins(self, activation: Activation) -> None:
        """Tell tracers that a task begins to run."""
        ...

    def _task_is_over(self, activation: Activation, error: BaseException | None) -> None:
        """Tell tracers that the user's code of a task has ended."""
        ...

    def _task_ended(self) -> None:
        """Count one task less."""
        ...

    def _spawn(self, run: Callable[[*Ts], Awaitable[None]], name: str, /, *args: *Ts) -> None:
        """Start a task in the machine's nursery."""
        ...

    def _task_overflow(self, activation: Activation) -> None:
        """Report that too many activations wait for a task's `limit`."""
        ...


class Activation:
    """One activation of a state, for one of its tasks: everything that the task is run with."""

    __slots__ = ("handler", "source", "transition", "work")

    def __init__(
        self, handler: TaskHandler, work: Callable[..., object], transition: Transition, source: Source
    ) -> None:
        self.handler = handler
        self.work = work
        """The task's function, with the object it belongs to: called with the transition, it gives an awaitable."""
        self.transition = transition
        self.source = source

    @property
    def state(self) -> State[..., object]:
        """The state that the task belongs to; the handler's numbers are of the schema its transition was made on."""
        return self.transition._definition.states[self.handler.state]

    @property
    def then(self) -> State[..., object] | None:
        """The state that comes when the task returns."""
        return None if self.handler.then < 0 else self.transition._definition.states[self.handler.then]

    @property
    def same(self) -> tuple[int, ...]:
        """Equal for all activations of one task: binding other handlers makes a new `TaskHandler` of the same task."""
        work = self.work
        return (id(work.__func__), id(work.__self__)) if isinstance(work, types.MethodType) else (id(work),)


class Slot:
    """The tasks of one state. At most one instance has user code running; the others wait or are over."""

    __slots__ = ("instance", "owner", "parked", "queue_limit", "running", "running_of")

    def __init__(self, owner: Owner, queue_limit: int) -> None:
        self.owner = owner
        self.queue_limit = queue_limit
        self.instance: Instance | None = None
        self.running = 0
        self.running_of: Instance | None = None
        """Whose user code runs; invariant: None exactly if `running` is 0."""
        self.parked: dict[trio.lowlevel.Task, None] = {}

    def start(self, activation: Activation) -> None:
        """Start one task for an activation, or let it wait where the state's ``limit`` is reached."""
        if self.instance is None:
            self.instance = Instance(self)
        self.instance.start(activation)

    def counts(self) -> tuple[int, int]:
        """Return how many tasks run the user's code, and how many of the present instance wait to."""
        instance = self.instance
        if instance is None:
            return self.running, 0
        mine = self.running if self.running_of is instance else 0
        return self.running, len(instance.scopes) - mine + sum(map(len, instance.waiting.values()))

    def end(self, reason: str) -> None:
        """End the present instance: all its tasks are cancelled, and none that waits begins."""
        instance, self.instance = self.instance, None
        if instance is not None:
            instance.end(reason)

    async def turn(self, instance: Instance) -> None:
        """Wait until no other instance has user code running. Not a checkpoint if that is so already."""
        while self.running_of is not None and self.running_of is not instance:
            task = trio.lowlevel.current_task()
            self.parked[task] = None

            def abort(_: object, task: trio.lowlevel.Task = task) -> trio.lowlevel.Abort:
                del self.parked[task]
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
            # Its instance may have ended since it was woken, when there was no wait left to cancel.
            await trio.lowlevel.checkpoint_if_cancelled()

    def done(self) -> None:
        """Note that user code has ended; the last one lets the successor begin."""
        self.running -= 1
        if not self.running:
            self.running_of = None
            parked, self.parked = self.parked, {}
            for task in parked:
                trio.lowlevel.reschedule(task)


class Instance:
    """One unbroken activity of a state, and the tasks that belong to it."""

    __slots__ = ("active", "over", "scopes", "slot", "waiting")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.over: str | None = None
        """Why it ended; None while it lives."""
        self.scopes: dict[trio.CancelScope, None] = {}
        self.active: dict[tuple[int, ...], int] = {}
        """How many tasks with a ``limit`` there are, by `Activation.same`; none is 0."""
        self.waiting: dict[tuple[int, ...], deque[Activation]] = {}
        """Activations beyond the ``limit``; none is empty."""

    def start(self, activation: Activation) -> None:
        """Start a task, or queue the activation."""
        handler = activation.handler
        if handler.limit is not None:
            same = activation.same
            active = self.active.get(same, 0)
            if active >= handler.limit:
                waiting = self.waiting.setdefault(same, deque())
                if len(waiting) >= self.slot.queue_limit:
                    self.slot.owner._task_overflow(activation)
                else:
                    waiting.append(activation)
                return
            self.active[same] = active + 1
        self.slot.owner._spawn(self.run, handler.name, activation)

    def ended(self, activation: Activation) -> None:
        """Note that a task has ended; where it had a ``limit``, the next that waits begins."""
        if activation.handler.limit is None:
            return
        same = activation.same
        self.active[same] -= 1
        if not self.active[same]:
            del self.active[same]
        waiting = self.waiting.get(same)
        if waiting is not None:
            following = waiting.popleft()
            if not waiting:
                del self.waiting[same]
            self.start(following)

    def end(self, reason: str) -> None:
        """Cancel all tasks, with the reason."""
        self.over = reason
        self.waiting.clear()
        for scope in self.scopes:
            scope.cancel(reason)

    async def run(self, activation: Activation) -> None:
        """Run one task from its first step to its last, whatever becomes of it.

        In one frame, and what the user's code raises is raised again only once: each frame that a cancellation passes
        costs a microsecond, and each coroutine that waits half a kilobyte.
        """
        owner, timeout = self.slot.owner, activation.handler.timeout
        value: object = None
        error: BaseException | None = None
        left: BaseException | None = None
        try:
            with trio.CancelScope() as scope:
                if self.over is not None:
                    return
                self.scopes[scope] = None
                CAUSE.set(activation.source)
                try:
                    try:
                        if self.slot.running_of not in (None, self):
                            await self.slot.turn(self)
                        self.slot.running_of = self
                        self.slot.running += 1
                        try:
                            try:
                                owner._task_begins(activation)
                                work = cast("Awaitable[object]", activation.work(activation.transition))
                                if timeout is None:
                                    value = await unprotected(work)
                                else:
                                    with trio.fail_after(timeout):
                                        value = await unprotected(work)
                            except BaseException as raised:
                                error = raised
                            owner._task_is_over(activation, error)
                        finally:
                            self.slot.done()
                    except BaseException as raised:  # of a turn that was not waited for to the end, or of a tracer
                        error = raised
                    if error is not None:
                        left = owner._task_failed(activation, error)
                        if left is error:
                            raise error
                        if left is not None:
                            raise left from None
                    elif self.over is None:
                        owner._task_returned(activation, value)
                finally:
                    del self.scopes[scope]
                    error = left = None  # their tracebacks hold this frame, which would be a circle
        finally:
            self.ended(activation)
            owner._task_ended()


protect(__name__)
