"""State tasks: never outside their instance, cancelled with it, and never beside their successor (DESIGN section 6)."""

from __future__ import annotations

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

    def _spawn(self, name: str, run: Callable[[*Ts], Awaitable[None]], /, *args: *Ts) -> None:
        """Start a task in the machine's nursery."""
        ...

    def _task_overflow(self, activation: Activation) -> None:
        """Report that too many activations wait for a task's `limit`."""
        ...


class Activation:
    """One activation of a state, for one of its tasks: everything that the task is run with."""

    __slots__ = ("_bound", "handler", "transition")

    def __init__(self, handler: TaskHandler, bound: object, transition: Transition) -> None:
        self.handler = handler
        self.transition = transition
        self._bound = bound
        """The object that a method belongs to; nothing is done with it if the handler is a plain function."""

    def work(self) -> Awaitable[object]:
        """Call the task's function."""
        function, transition = self.handler.function, self.transition
        work = function(transition) if self.handler.place < 0 else function(self._bound, transition)
        return cast("Awaitable[object]", work)

    @property
    def source(self) -> Source:
        """The record of the task."""
        return self.transition._source_of(self.handler)

    def _source_of_call(self, handler: object = None, /) -> Source:
        """Return the record when it is first asked for; the context has it from then on."""
        source = self.source
        CAUSE.set(source)
        return source

    @property
    def state(self) -> State[..., object]:
        """The state that the task belongs to; the handler's numbers are of the schema its transition was made on."""
        return self.transition._definition.states[self.handler.state]

    @property
    def is_of_multi(self) -> bool:
        """Whether there may be more activations of the same instance."""
        return bool(self.transition._definition.relations.multi >> self.handler.state & 1)

    @property
    def then(self) -> State[..., object] | None:
        """The state that comes when the task returns."""
        return None if self.handler.then < 0 else self.transition._definition.states[self.handler.then]

    @property
    def same(self) -> tuple[int, ...]:
        """Equal for all activations of one task: binding other handlers makes a new `TaskHandler` of the same task."""
        function = id(self.handler.function)
        return (function,) if self.handler.place < 0 else (function, id(self._bound))


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
        self.parked: dict[trio.lowlevel.Task, None] | None = None

    def start(self, activation: Activation) -> None:
        """Start one task for an activation, or let it wait where the state's ``limit`` is reached."""
        if self.instance is None:
            self.instance = Instance(self, activation.is_of_multi)
        self.instance.start(activation)

    def counts(self) -> tuple[int, int]:
        """Return how many tasks run the user's code, and how many of the present instance wait to."""
        instance = self.instance
        if instance is None:
            return self.running, 0
        mine = self.running if self.running_of is instance else 0
        return self.running, len(instance.scopes()) - mine + sum(map(len, (instance.waiting or {}).values()))

    def end(self, reason: str) -> None:
        """End the present instance: all its tasks are cancelled, and none that waits begins."""
        instance, self.instance = self.instance, None
        if instance is not None:
            instance.end(reason)

    async def turn(self, instance: Instance) -> None:
        """Wait until no other instance has user code running. Not a checkpoint if that is so already."""
        task = trio.lowlevel.current_task()
        while self.running_of is not None and self.running_of is not instance:
            parked = self.parked = self.parked or {}
            parked[task] = None

            def abort(_: object, parked: dict[trio.lowlevel.Task, None] = parked) -> trio.lowlevel.Abort:
                del parked[task]
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
            # Its instance may have ended since it was woken, when there was no wait left to cancel.
            await trio.lowlevel.checkpoint_if_cancelled()

    def done(self) -> None:
        """Note that user code has ended; the last one lets the successor begin."""
        self.running -= 1
        if not self.running:
            self.running_of = None
            parked, self.parked = self.parked, None
            for task in parked or ():
                trio.lowlevel.reschedule(task)


class Instance:
    """One unbroken activity of a state, and the tasks that belong to it."""

    __slots__ = ("active", "is_over", "others", "scope", "slot", "unfinished", "waiting")

    def __init__(self, slot: Slot, is_of_multi: bool) -> None:
        self.slot = slot
        self.is_over = False
        self.scope: trio.CancelScope | None = None
        """That of one of its tasks: most instances have no more, and a table would take as much as the task itself."""
        self.others: dict[trio.CancelScope, None] | None = None
        """Those of all others. Made when there is one."""
        self.active: dict[tuple[int, ...], int] | None = None
        """How many tasks with a ``limit`` there are, by `Activation.same`; none is 0. Made when there is one."""
        self.waiting: dict[tuple[int, ...], deque[Activation]] | None = None
        """Activations beyond the ``limit``; none is empty. Made when there is one."""
        self.unfinished: dict[Activation, None] | None = {} if is_of_multi else None
        """Those that run or wait, in order, for snapshots; of a multi state alone, as others have just one."""

    def start(self, activation: Activation) -> None:
        """Start a task, or queue the activation."""
        handler = activation.handler
        if handler.limit is not None and not self._has_room(activation, handler.limit):
            return
        if self.unfinished is not None:
            self.unfinished[activation] = None
        self.slot.owner._spawn(handler.name, self.run, activation)

    def _has_room(self, activation: Activation, limit: int) -> bool:
        """Count a task with a ``limit``, and return True; or queue the activation, if that is reached."""
        same = activation.same
        if self.active is None:
            self.active = {}
        active = self.active.get(same, 0)
        if active < limit:
            self.active[same] = active + 1
            return True
        if self.waiting is None:
            self.waiting = {}
        waiting = self.waiting.setdefault(same, deque())
        # What a snapshot brings has waited before: there it had room.
        if len(waiting) >= self.slot.queue_limit and activation.transition.kind != "open":
            self.slot.owner._task_overflow(activation)
        else:
            waiting.append(activation)
            if self.unfinished is not None:
                self.unfinished[activation] = None
        return False

    def ended(self, activation: Activation) -> None:
        """Note that a task with a ``limit`` has ended; the next that waits begins."""
        same = activation.same
        assert self.active is not None  # it counts this one
        self.active[same] -= 1
        if not self.active[same]:
            del self.active[same]
        waiting = None if self.waiting is None else self.waiting.get(same)
        if self.waiting is not None and waiting is not None:
            following = waiting.popleft()
            if not waiting:
                del self.waiting[same]
            self.start(following)

    def end(self, reason: str) -> None:
        """Cancel all tasks, with the reason."""
        self.is_over = True
        self.waiting = self.unfinished = None
        for scope in self.scopes():
            scope.cancel(reason)

    def scopes(self) -> tuple[trio.CancelScope, ...]:
        """Return the scopes of its tasks."""
        return (*(() if self.scope is None else (self.scope,)), *(self.others or ()))

    async def run(self, activation: Activation) -> None:
        """Run one task from its first step to its last, whatever becomes of it.

        In one frame, and what the user's code raises is caught once and goes on by hand: each coroutine that waits
        takes a third of a kilobyte, and each block that a cancellation passes half a microsecond.
        """
        slot = self.slot
        owner = slot.owner
        value: object = None
        error: BaseException | None = None
        try:
            if self.is_over:
                return
            scope = trio.CancelScope().__enter__()
            if self.scope is None:
                self.scope = scope
            elif self.others is None:
                self.others = {scope: None}
            else:
                self.others[scope] = None
            CAUSE.set(activation)
            try:
                if slot.running_of is not None and slot.running_of is not self:
                    await slot.turn(self)
                slot.running_of = self
                slot.running += 1
                try:
                    try:
                        owner._task_begins(activation)
                        if activation.handler.timeout is None:
                            value = await unprotected(activation.work())
                        else:
                            value = await _in_time(activation, activation.handler.timeout)
                    except BaseException as raised:
                        error = raised
                    owner._task_is_over(activation, error)
                finally:
                    slot.done()
            except BaseException as raised:  # its turn never came; or a tracer raised what is no `Exception`
                error = raised
            try:
                if error is not None:
                    error = owner._task_failed(activation, error)
                elif not self.is_over:
                    owner._task_returned(activation, value)
            except BaseException as raised:
                error = raised
            if self.scope is scope:
                self.scope = None
            else:
                assert self.others is not None  # it is among them
                del self.others[scope]
            # What `with` would do.
            if not scope.__exit__(type(error) if error else None, error, error.__traceback__ if error else None):
                assert error is not None
                raise error
        finally:
            del error  # its traceback holds this frame, which would be a circle
            if self.unfinished is not None:
                del self.unfinished[activation]
            if activation.handler.limit is not None:
                self.ended(activation)
            owner._task_ended()


async def _in_time(activation: Activation, timeout: float) -> object:
    with trio.fail_after(timeout):
        return await unprotected(activation.work())


protect(__name__)
