"""What an engine commits, performed on trio: scopes end, tasks start and end (DESIGN section 6)."""

from __future__ import annotations

import contextvars
import functools
import logging
import operator
from collections.abc import Awaitable, Callable, Mapping
from threading import get_ident
from typing import ClassVar, TypeVarTuple, cast

import trio

from trsm._core._arguments import fits
from trsm._core._bits import members, renumbered, union
from trsm._core._consensus import Kind
from trsm._core._engine import PLAIN, Engine
from trsm._core._errors import HandlerError, MachineClosed, MutationError, QueueFull, ReadOnly
from trsm._core._mutation import Mutation
from trsm._core._plan import Plan
from trsm._core._runner import READING
from trsm._core._schema import Schema
from trsm._core._source import CAUSE, Source, bounded, current_source
from trsm._core._state import State, is_async
from trsm._core._tracing import Tracer
from trsm._core._transition import Transition
from trsm._protection import protect, unprotected
from trsm._scopes import StateScope
from trsm._tasks import Activation, Slot
from trsm._timers import Deadline, Timers

logger = logging.getLogger("trsm")

Ts = TypeVarTuple("Ts")


class Performer(Engine):
    """The half of a machine that performs: it owns the cancel scopes and the tasks that belong to states."""

    __slots__ = (
        "_context",
        "_deadlines",
        "_joined",
        "_nursery",
        "_scopes",
        "_slots",
        "_started",
        "_task_count",
        "_timers",
    )

    _runs_tasks: ClassVar[bool] = True

    _nursery: trio.Nursery
    _context: contextvars.Context
    _deadlines: dict[int, Deadline] | None
    """When active states with a ``timeout`` are over."""
    _joined: trio.Event | None
    """Set when the last task has ended; made when somebody waits for it."""
    _scopes: dict[tuple[int, bool], dict[trio.CancelScope, None]] | None
    """(state, whether they end when it is active) -> scopes."""
    _slots: dict[int, Slot] | None
    _started: dict[int, dict[trio.CancelScope, None]] | None
    """State -> the scopes of what `start_soon` runs while it is active; -1 for as long as the machine lives."""
    _task_count: int
    _timers: Timers | None
    """The timers of the nursery, which all machines in it share; made when one of them has a deadline."""

    # ---- Scopes -----------------------------------------------------------------------------------------------------

    def while_active(self, state: State[..., object]) -> StateScope:
        """Return a context manager over a trio cancel scope that ends with the present instance of `state`.

        It is cancelled in the same step in which the state leaves, with the reason, and from the start if the state is
        not active at ``with``. Usable once; each user gets a scope of its own.

        Raises:
          UnknownState, MutationError: `state` is not a state of the schema.
          WrongThread: called from another thread.
        """
        if get_ident() != self._thread:
            self._check_thread("while_active")
        definition, numbers = self._definition, self._definition.numbers
        number = (
            numbers[state] if type(state) is PLAIN and state in numbers else definition.number(state, "while_active")
        )
        # By its state: it may have another number when the scope is entered or left.
        return StateScope(self, definition.states[number], False)

    def while_inactive(self, state: State[..., object]) -> StateScope:
        """Return a context manager over a trio cancel scope that ends when `state` activates, or the machine closes.

        Otherwise as `while_active`.
        """
        if get_ident() != self._thread:
            self._check_thread("while_inactive")
        return StateScope(self, self._definition.states[self._definition.number(state, "while_inactive")], True)

    def _enter_scope(
        self, state: State[..., object], ends_active: bool, scope: trio.CancelScope
    ) -> dict[trio.CancelScope, None] | None:
        """Enter a scope; return those that end with it, itself included, or None if it is over already."""
        if get_ident() != self._thread:
            self._check_thread("while_inactive" if ends_active else "while_active")
        number = self._definition.numbers[state]
        scope.__enter__()
        among: dict[trio.CancelScope, None] | None = None
        over: str | None = None
        if self._is_closed:
            over = f"machine {self.id!r} was closed when the scope was entered"
        elif (self._active >> number & 1) == ends_active:
            name = self._definition.relations.names[number]
            over = f"{name} was {'active' if ends_active else 'inactive'} when the scope was entered"
        if over is not None:
            scope.cancel(over)
        else:
            if self._scopes is None:
                self._scopes = {}
            key = number, ends_active
            among = self._scopes.get(key)
            if among is None:
                among = self._scopes[key] = {}
                bit = 1 << number
                self._held |= bit
                self._watched |= bit
            among[scope] = None
        if self._tracers:
            try:
                self._announce(Tracer.scope_entered, state)
                if over is not None:
                    self._announce(Tracer.scope_ended, state, over)
            except BaseException as error:
                # What a tracer raised that is no `Exception`: there will be no `with`, and the machine has closed.
                scope.__exit__(type(error), error, error.__traceback__)
                raise
        return among

    def _scopes_left(self, state: State[..., object], ends_active: bool) -> None:
        """Forget the scopes of a state, the last of which was left."""
        number = self._definition.numbers[state]
        assert self._scopes is not None  # it held these scopes
        del self._scopes[number, ends_active]
        self._unhold(number)

    def _hold(self, number: int) -> None:
        """Note that a state has scopes, tasks or a timeout."""
        self._held |= 1 << number
        self._watched |= 1 << number

    def _unhold(self, number: int) -> None:
        """Note that a state has lost some of its scopes, tasks or timeout."""
        scopes, slots, started = self._scopes, self._slots, self._started
        if not (
            (scopes and ((number, False) in scopes or (number, True) in scopes))
            or (slots and number in slots)
            or (started and number in started)
            or self._definition.timed >> number & 1
        ):
            self._held &= ~(1 << number)
            self._watched = self._held | self._looked_at

    def _committed(self, plan: Plan, transition: Transition) -> None:
        if self._scopes is not None:
            for number in members(plan.active ^ plan.target):
                scopes = self._scopes.pop((number, bool(plan.target >> number & 1)), None)
                if scopes is not None:
                    reason = self._reason_of(number, transition)
                    for scope in scopes:
                        scope.cancel(reason)
                    scopes.clear()  # none of them is among it any more, when it is left
                    self._unhold(number)
                    self._announce(Tracer.scope_ended, self._definition.states[number], reason)
        if self._slots is not None:
            for number in plan.leaving:
                slot = self._slots.get(number)
                if slot is not None:
                    slot.end(self._reason_of(number, transition))
        if self._started is not None:
            for number in plan.leaving:
                for scope in self._started.get(number, ()):
                    scope.cancel(self._reason_of(number, transition))
        timed = self._definition.timed
        for number in members((plan.active ^ plan.target) & timed) if timed else ():
            if plan.target >> number & 1:
                self._start_deadline(number, self._definition.timeouts[number][0])
            else:
                self._drop_deadline(number)

    def _reason_of(self, number: int, transition: Transition) -> str:
        name = self._definition.relations.names[number]
        verb = "came" if self._active >> number & 1 else "left"
        tick, id = self._tick_at(number), transition._journal.machine_id
        return f"{name} {verb} at tick {tick} of machine {id!r}, by {transition!r}"

    def _end_scopes(self) -> None:
        """Cancel what is left when every state has been deactivated: scopes that wait for one to activate."""
        scopes, self._scopes = self._scopes or {}, None
        reason = f"machine {self.id!r} closed"
        for scope in (self._started or {}).get(-1, ()):
            scope.cancel(reason)
        for (number, _), some in scopes.items():
            for scope in some:
                scope.cancel(reason)
            some.clear()
            self._announce(Tracer.scope_ended, self._definition.states[number], reason)

    def _renumber(self, places: list[int], before: type[Schema]) -> None:
        if self._scopes is not None:
            self._scopes = {(places[number], ends): some for (number, ends), some in self._scopes.items()}
        if self._slots is not None:
            self._slots = {places[number]: slot for number, slot in self._slots.items()}
        if self._started is not None:
            self._started = {-1 if number < 0 else places[number]: some for number, some in self._started.items()}
        if self._deadlines is not None:
            self._deadlines = {places[number]: deadline for number, deadline in self._deadlines.items()}
        was_timed = renumbered(before._definition.timed, places)
        timed = self._definition.timed
        held = {*(number for number, _ in self._scopes or ()), *(self._slots or ()), *(self._started or ())}
        self._held = timed | union(1 << number for number in held - {-1})
        for number in members(was_timed & ~timed):
            self._drop_deadline(number)
        for number in members(timed & ~was_timed & self._active):
            self._start_deadline(number, self._definition.timeouts[number][0])

    # ---- Timeouts ---------------------------------------------------------------------------------------------------

    def _start_deadline(self, number: int, seconds: float) -> None:
        if self._deadlines is None:
            self._deadlines = {}
        state = self._definition.states[number]
        self._deadlines[number] = self._shared_timers().start(self, state, trio.current_time() + seconds)

    def _shared_timers(self) -> Timers:
        """Return the timers of the nursery."""
        if self._timers is None:
            self._timers = Timers(self._nursery, self._context)
        return self._timers

    def _drop_deadline(self, number: int) -> None:
        deadline = None if self._deadlines is None else self._deadlines.pop(number, None)
        if deadline is not None:
            deadline.drop()

    def _seconds_left(self) -> dict[int, float | None]:
        timeouts, now, deadlines = self._definition.timeouts, trio.current_time(), self._deadlines or {}
        # In the order in which they ring: what is left does not tell it of those that end together, or are due. And no
        # more than the whole timeout: 3.3 + 0.1 - 3.3 is more than 0.1, and a deadline may be of a schema before.
        left: dict[int, float | None] = {
            number: min(timeouts[number][0], max(0.0, deadline.at - now))
            for number, deadline in sorted(deadlines.items(), key=operator.itemgetter(1))
        }
        for number in members(self._active & self._definition.timed):
            left.setdefault(number, None)
        return left

    def _unfinished(self) -> dict[int, list[Transition]]:
        found: dict[int, list[Transition]] = {}
        for number in members(self._active & self._definition.relations.multi):
            slot = None if self._slots is None else self._slots.get(number)
            if slot is not None and slot.instance is not None:
                # None if the state was not multi when it began, in a schema before: it goes on as one that is not.
                if slot.instance.unfinished is not None:
                    found[number] = list(dict.fromkeys(one.transition for one in slot.instance.unfinished))
            elif number in self._table.tasks:
                found[number] = []  # they were bound since
        return found

    def _reopened(self, plan: Plan, transition: Transition) -> None:
        self._start_tasks(plan, transition, self._bound)

    def _time_restored(self, left: Mapping[int, float | None]) -> None:
        definition = self._definition
        whole = {
            number: definition.timeouts[number][0]
            for number in definition.relations.in_order(self._active & definition.timed)
            if number not in left
        }
        for number, seconds in (*left.items(), *whole.items()):
            if seconds is not None:
                self._start_deadline(number, seconds)

    def _timed_out(self, state: State[..., object]) -> None:
        """Deactivate a state whose timeout is over, and add what is declared to come then.

        If that is refused, the state stays for as long as it likes: it is not tried again.
        """
        definition = self._definition
        number = definition.number(state, "timeout")
        self._drop_deadline(number)
        seconds, following = definition.timeouts[number]
        if following < 0:
            request = definition.request(Kind.REMOVE, 0, 1 << number)
        else:
            request = definition.request(Kind.MUTATE, 1 << following, 1 << number)
        began = self._beginning(number)
        handler = f"timeout of {state} ({seconds:g} s)"
        token = CAUSE.set(self._task_source(began, handler, began.source, "timeout"))
        try:
            result = self._submit_mutation(Mutation(request), first=False)
        finally:
            CAUSE.reset(token)
        if result.canceled:
            logger.warning("machine %r: the %s was refused: %r", self.id, handler, result)
            self._announce(Tracer.timeout_refused, state, result)

    # ---- Tasks ------------------------------------------------------------------------------------------------------

    def _task_source(self, began: Transition, name: str, parent: Source | None, role: str) -> Source:
        """Return the record of what is no handler: it runs since a transition, and `parent` is what started it."""
        asked = tuple(map(str, (*began.called, *began.dropped)))
        return bounded(Source(self.id, began.tick, began.kind, asked, name, parent, role=role))

    def _start_tasks(self, plan: Plan, transition: Transition, bound: tuple[object, ...]) -> None:
        """Start the tasks of entering states that are still active, as they were bound when the plan was committed."""
        for number, handlers in plan.tasks:
            if not self._active >> number & 1:
                continue
            if self._slots is None:
                self._slots = {}
            slot = self._slots.get(number)
            if slot is None:
                slot = self._slots[number] = Slot(self, self._limits.queue_limit)
                self._hold(number)
            for handler in handlers:
                slot.start(Activation(handler, bound[handler.place] if handler.place >= 0 else None, transition))

    def start_soon(
        self,
        function: Callable[[*Ts], Awaitable[object]],
        /,
        *args: *Ts,
        while_active: State[..., object] | None = None,
        name: str | None = None,
    ) -> None:
        """Start a task of the machine, which is cancelled with the present instance of a state, or on closing.

        It runs in the machine's nursery, in the context of `open_machine`, and is joined when the machine closes. An
        exception that it raises activates ``Error``, as that of a state's ``task`` does. Unlike such a task it is
        started once, here, and waits for no other: it may overlap those of the next instance while it cleans up.
        In a cause it is named with the transition after which it runs: the one that began that instance, or else the
        machine's last one when it was started, which need have nothing to do with it.

        Args:
          function: an async function.
          args: what it is called with.
          while_active: the state whose present instance it belongs to. If that ends before the task's first step, it
            never runs. Default: none, it belongs to the machine.
          name: what messages and causes call it. Default: the function's qualified name.

        Raises:
          TypeError: `function` is not async, or `name` no string.
          MutationError: `while_active` is inactive.
          UnknownState: it is not a state of the schema.
          MachineClosed: this machine is closing or closed.
          ReadOnly, WrongThread: as for ``add``.

        Example::

            @Link.Connected.on_enter
            def listen(self, t: trsm.Transition) -> None:
                t.machine.start_soon(self.read, t.args["stream"], while_active=Link.Connected)
        """
        self._check_thread("start_soon")
        if self._phase == READING:
            raise ReadOnly(self._read_only("start_soon"))
        if not is_async(function):
            raise TypeError(f"start_soon({function!r}): pass an async function, and its arguments after it")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"start_soon(name={name!r}): write a string, or leave it out")
        number = -1 if while_active is None else self._definition.number(while_active, "start_soon(while_active=…)")
        if self._closing:
            raise MachineClosed(f"start_soon: {self._closing_reason()}, and a task cannot outlive it", self)
        if number >= 0 and not self._active >> number & 1:
            raise MutationError(
                f"start_soon(…, while_active={while_active}): {while_active} is inactive, so that the task would never "
                f"run; add it first, or start the task in an on_enter handler of {while_active}"
            )
        label = name or name_of(function)
        began = self.last_transition if number < 0 else self._beginning(number)
        cause = self._task_source(began, label, current_source(), "task")
        scope = trio.CancelScope()
        if self._started is None:
            self._started = {}
        self._started.setdefault(number, {})[scope] = None
        if number >= 0:
            self._hold(number)

        @trio.lowlevel.enable_ki_protection
        async def run() -> None:
            try:
                with scope:
                    if scope.cancel_called:
                        return
                    CAUSE.set(cause)
                    error: BaseException | None = None
                    try:
                        self._announce(Tracer.task_started, began, label)
                        self._sabotage(began, label, "task")
                        await unprotected(function(*args))
                    except BaseException as raised:
                        error = raised
                    self._announce(Tracer.task_ended, began, label, error)
                    left = None if error is None else self._task_error(error, while_active)
                    try:
                        if left is not None:
                            raise left
                    finally:
                        del error, left  # its traceback holds this frame, which would be a circle
            finally:
                self._forget_task(while_active, scope)
                self._task_ended()

        self._spawn(label, run)

    def _forget_task(self, state: State[..., object] | None, scope: trio.CancelScope) -> None:
        number = -1 if state is None else self._definition.number(state, "start_soon")
        assert self._started is not None  # it holds the scope
        del self._started[number][scope]
        if not self._started[number]:
            del self._started[number]
            if number >= 0:
                self._unhold(number)

    def _spawn(self, name: str, run: Callable[[*Ts], Awaitable[None]], /, *args: *Ts) -> None:
        """Start a task in the machine's nursery, in the context of `open_machine`."""
        self._task_count += 1
        start_soon: Callable[..., None] = self._nursery.start_soon
        self._context.run(start_soon, run, *args, name=f"{self.id}: {name}")

    def _task_begins(self, activation: Activation) -> None:
        """Tell tracers that a task begins to run; a saboteur may fail it."""
        if self._tracers:
            self._announce(Tracer.task_started, activation.transition, activation.handler.name)
            self._sabotage(activation.transition, activation.handler.name, "task")

    def _task_is_over(self, activation: Activation, error: BaseException | None) -> None:
        """Tell tracers that the user's code of a task has ended."""
        if self._tracers:
            self._announce(Tracer.task_ended, activation.transition, activation.handler.name, error)

    def _task_ended(self) -> None:
        """Count one task less."""
        self._task_count -= 1
        if not self._task_count and self._joined is not None:
            self._joined.set()

    def _task_overflow(self, activation: Activation) -> None:
        """Report activations beyond ``queue_limit`` that wait for a task's ``limit``."""
        handler = activation.handler
        name = self._definition.relations.names[handler.state]
        error = QueueFull(
            f"{self._limits.queue_limit} activations of {name} wait for task {handler.name} (limit={handler.limit}); "
            "one more was refused: call it less often, or raise limit= or queue_limit="
        )
        if self._definition.errors >> handler.state & 1:
            self._unhandled_error(error, activation.source)  # it would activate the same state, and so on
        else:
            self._fault(error, activation.source)

    def _task_returned(self, activation: Activation, value: object) -> None:
        """Add the state of ``then=``."""
        handler = activation.handler
        if activation.then is None:
            return
        number = self._definition.number(activation.then, "then")
        state = self._definition.states[number]
        calls: dict[int, object] | None = None
        if state._args is not None:
            if isinstance(state._args, type) and not fits(value, state._args):
                wanted = state._args.__name__
                error = HandlerError(
                    f"task {handler.name} (then={state}) returned {value!r}: {state} takes {wanted}, so return an "
                    f"instance of {wanted}"
                )
                self._task_failed(activation, error)
                return
            calls = {number: value}
        request = self._definition.request(Kind.ADD, 1 << number)
        result = self._submit_mutation(Mutation(request, calls=calls, result=value), first=False)
        if result.canceled:
            logger.warning("machine %r: then=%s of task %s was refused: %r", self.id, state, handler.name, result)
            self._announce(Tracer.then_refused, state, result)

    def _task_failed(self, activation: Activation, error: BaseException) -> BaseException | None:
        """Report the exceptions of a task, and return what is left for trio."""
        if isinstance(error, trio.Cancelled):
            return error  # as nearly always
        return self._task_error(error, activation.state)

    def _task_error(self, error: BaseException, state: State[..., object] | None) -> BaseException | None:
        """Make the exceptions of a task, which belongs to a state or to none, errors of the machine."""
        rest = without_closed(error, self)
        errors: Exception | None
        left: BaseException | None
        if isinstance(rest, BaseExceptionGroup):
            errors, left = cast("BaseExceptionGroup[BaseException]", rest).split(Exception)
        else:
            errors, left = (rest, None) if isinstance(rest, Exception) else (None, rest)
        if errors is None:
            return left
        number = self._definition.error + 1 if state is None else self._definition.number(state, "task")
        if self._definition.errors >> number & 1 and not self._closing:
            self._unhandled_error(errors, current_source())  # errors of an error handler are not caught again
            self._drain(None)
        else:
            self.add_error(errors)
        return left


def without_closed(error: BaseException, machine: object) -> BaseException | None:
    """Return an exception without the `MachineClosed` of this machine: who ends with it has ended normally."""

    def is_closed(one: BaseException) -> bool:
        return isinstance(one, MachineClosed) and one.machine is machine

    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        taken, rest = group.split(is_closed)
        return group if taken is None else rest  # `split` copies a group even where it takes nothing
    return None if is_closed(error) else error


def name_of(function: object) -> str:
    """Return the qualified name of a function, also of one inside a partial."""
    if isinstance(function, functools.partial):
        function = cast("functools.partial[object]", function).func
    return str(getattr(function, "__qualname__", function))


for _module in ("trsm._core._runner", "trsm._core._engine", __name__):
    protect(_module)
