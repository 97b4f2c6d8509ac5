"""The machine: an engine with a nursery. It performs what the engine decides: scopes, tasks, waiters, children."""

from __future__ import annotations

import contextvars
import functools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from typing import ClassVar, TypeVar, cast

import trio

from trsm._core._bits import members
from trsm._core._consensus import Kind
from trsm._core._engine import Engine
from trsm._core._errors import HandlerError, MachineClosed, QueueFull, ReadOnly, listed
from trsm._core._limits import Limits, checked_limits
from trsm._core._mutation import Mutation
from trsm._core._plan import Plan, TaskHandler
from trsm._core._runner import IDLE, READING
from trsm._core._schema import SchemaMeta
from trsm._core._source import Source, current_source
from trsm._core._state import State, is_async
from trsm._core._ticks import Ticks
from trsm._core._tracing import Tracer
from trsm._core._transition import Transition as CoreTransition
from trsm._scopes import StateScope
from trsm._tasks import Slot
from trsm._waiters import ANY, CLOSED, Condition, Subscriptions, Waiter, Watch, wake

T = TypeVar("T")
logger = logging.getLogger("trsm")


class Transition(CoreTransition):
    __doc__ = CoreTransition.__doc__
    __slots__ = ()

    @property
    def machine(self) -> Machine:
        """The machine; a transition does not keep it alive.

        Raises:
          ReferenceError: the machine is gone.
        """
        machine = self._machine()
        if machine is None:
            raise ReferenceError("the machine of this transition is gone")
        return cast("Machine", machine)


class Machine(Engine):
    """A machine that runs: states, scopes, tasks and waiters. Opened by `open_machine` or `Machine.start_child`.

    Everything it starts lives in its nursery (a started child's in that of its nearest ancestor with a block), and
    ends with it. Mutations never block: from the call to its return no other task runs.
    """

    __slots__ = (
        "_children",
        "_cleanup_timeout",
        "_context",
        "_deferred",
        "_errors",
        "_final",
        "_is_joined",
        "_joined",
        "_nursery",
        "_parent",
        "_scopes",
        "_slots",
        "_subscriptions",
        "_task_count",
        "_watchers",
    )

    _transition_type: ClassVar[type[CoreTransition]] = Transition
    _runs_tasks: ClassVar[bool] = True

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise TypeError("a machine is opened: async with trsm.open_machine(…) as machine, or machine.start_child(…)")

    def __init_subclass__(cls) -> None:
        raise TypeError("Machine cannot be inherited from: put behaviour in handlers, and states in schemas")

    @classmethod
    def _made(
        cls,
        schema: SchemaMeta,
        handlers: tuple[object, ...],
        id: str | None,
        limits: Limits,
        tracers: tuple[Tracer, ...],
        nursery: trio.Nursery,
        context: contextvars.Context,
        parent: Machine | None,
        cleanup_timeout: float,
    ) -> Machine:
        if not isinstance(schema, SchemaMeta):
            raise TypeError(f"{schema!r} is no schema: pass a class that inherits from trsm.Schema")
        machine = object.__new__(cls)
        machine._start(schema, handlers, id, limits, tracers)
        machine._nursery = nursery
        machine._context = context
        machine._parent = parent
        machine._cleanup_timeout = cleanup_timeout
        machine._children = None
        machine._deferred = None
        machine._errors = None
        machine._final = None
        machine._is_joined = False
        machine._joined = None
        machine._scopes = None
        machine._slots = None
        machine._subscriptions = None
        machine._task_count = 0
        machine._watchers = 0
        if parent is not None:
            if parent._children is None:
                parent._children = {}
            parent._children[machine] = None
        return machine

    _nursery: trio.Nursery
    _context: contextvars.Context
    _parent: Machine | None
    _cleanup_timeout: float
    _children: dict[Machine, None] | None
    _deferred: list[Callable[[], Awaitable[object]]] | None
    _errors: list[BaseException] | None
    """Errors that nothing handled, in order."""
    _final: tuple[Plan, CoreTransition, CoreTransition | None] | None
    """The last transition, whose waiters wake once body and tasks are cancelled."""
    _is_joined: bool
    """Whether body and tasks have ended and cleanups have run."""
    _joined: trio.Event | None
    """Set when the last task has ended; made when somebody waits for it."""
    _scopes: dict[tuple[int, bool], dict[trio.CancelScope, None]] | None
    """(state, ends when it is active) -> scopes."""
    _slots: dict[int, Slot] | None
    _subscriptions: Subscriptions | None
    _task_count: int
    _watchers: int
    """Whether anybody looks after every transition."""

    @property
    def last_transition(self) -> Transition:
        """The last transition that was executed; opening counts as one. A canceled mutation leaves none."""
        return cast("Transition", super().last_transition)

    # ---- Scopes -----------------------------------------------------------------------------------------------------

    def while_active(self, state: State[..., object]) -> StateScope:
        """Return a context manager over a trio cancel scope that ends with the present instance of `state`.

        It is cancelled in the same step in which the state leaves, with the reason, and from the start if the state is
        not active at ``with``. Usable once; each user gets a scope of its own.

        Raises:
          UnknownState, MutationError: `state` is not a state of the schema.
        """
        return self._state_scope(self._definition.number(state, "while_active"), ends_active=False)

    def while_inactive(self, state: State[..., object]) -> StateScope:
        """Return a context manager over a trio cancel scope that ends when `state` activates. See `while_active`."""
        return self._state_scope(self._definition.number(state, "while_inactive"), ends_active=True)

    def _state_scope(self, number: int, *, ends_active: bool) -> StateScope:
        return StateScope(
            functools.partial(self._enter_scope, number, ends_active), functools.partial(self._leave_scope, number, ends_active)
        )

    def _enter_scope(self, number: int, ends_active: bool, scope: trio.CancelScope) -> None:
        if bool(self._active >> number & 1) is ends_active:
            name = self._definition.relations.names[number]
            scope.cancel(f"{name} was {'active' if ends_active else 'inactive'} when the scope was entered")
            return
        if self._scopes is None:
            self._scopes = {}
        self._scopes.setdefault((number, ends_active), {})[scope] = None
        self._watched |= 1 << number

    def _leave_scope(self, number: int, ends_active: bool, scope: trio.CancelScope) -> None:
        scopes = (self._scopes or {}).get((number, ends_active))
        if scopes is not None and scope in scopes:
            del scopes[scope]
            if not scopes:
                assert self._scopes is not None  # it held these scopes
                del self._scopes[number, ends_active]
                self._unwatch(number)

    def _unwatch(self, number: int) -> None:
        """Forget a state that nobody looks at any more."""
        if self._watchers:
            return
        scopes, slots, subscriptions = self._scopes or {}, self._slots or {}, self._subscriptions
        if (
            (number, False) not in scopes
            and (number, True) not in scopes
            and number not in slots
            and (subscriptions is None or number not in subscriptions.tables)
        ):
            self._watched &= ~(1 << number)

    def _rewatch(self) -> None:
        watched = 0
        for number, _ in self._scopes or ():
            watched |= 1 << number
        for number in self._slots or ():
            watched |= 1 << number
        if self._subscriptions is not None:
            for number in self._subscriptions.tables:
                if number >= 0:
                    watched |= 1 << number
        self._watched = watched

    def _subscription_changed(self, key: int, present: bool) -> None:
        if key == ANY:
            self._watchers = int(present)
            if present:
                self._watched = -1
            else:
                self._rewatch()
        elif key >= 0:
            if present:
                self._watched |= 1 << key
            else:
                self._unwatch(key)

    # ---- What the engine has committed ------------------------------------------------------------------------------

    def _committed(self, plan: Plan, transition: CoreTransition) -> None:
        if self._scopes is not None:
            for number in members(plan.moved):
                is_active = bool(plan.target >> number & 1)
                if is_active is bool(plan.active >> number & 1):
                    continue  # a multi state that was called again: the same instance
                scopes = self._scopes.pop((number, is_active), None)
                if scopes is not None:
                    reason = self._reason_of(number, transition)
                    for scope in scopes:
                        scope.cancel(reason)
                    self._unwatch(number)
        if self._slots is not None:
            for number in plan.leaving:
                slot = self._slots.get(number)
                if slot is not None:
                    slot.end(self._reason_of(number, transition))

    def _reason_of(self, number: int, transition: CoreTransition) -> str:
        name = self._definition.relations.names[number]
        verb = "came" if self._active >> number & 1 else "left"
        return f"{name} {verb} at tick {self._ticks[number]} of machine {self.id!r}, by {transition!r}"

    def _finished(self, plan: Plan, transition: CoreTransition, removal: CoreTransition | None) -> None:
        if self._closing:
            self._final = plan, transition, removal
            return
        for number in plan.tasks:
            if self._active >> number & 1:
                self._start_tasks(number, transition)
        self._look(plan, transition, removal)

    def _start_tasks(self, number: int, transition: CoreTransition) -> None:
        if self._slots is None:
            self._slots = {}
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot(self, self._limits.queue_limit)
            self._watched |= 1 << number
        for handler in self._table.tasks.get(number, ()):
            slot.start(handler, transition, self._source_of(transition, handler))

    # ---- Tasks ------------------------------------------------------------------------------------------------------

    def call_task(self, handler: TaskHandler, transition: CoreTransition) -> Awaitable[object]:
        """Call a task's function. For trsm itself."""
        place = handler.place
        called = handler.function(self._bound[place], transition) if place >= 0 else handler.function(transition)
        return cast("Awaitable[object]", called)

    def spawn(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task in the machine's nursery, in the context of `open_machine`. For trsm itself."""
        self._task_count += 1
        self._context.run(functools.partial(self._nursery.start_soon, run, name=f"{self.id}: {name}"))

    def task_ended(self) -> None:
        """Count one task less. For trsm itself."""
        self._task_count -= 1
        if not self._task_count and self._joined is not None:
            self._joined.set()

    def task_overflow(self, handler: TaskHandler) -> None:
        """Report activations beyond ``queue_limit`` that wait for a task's ``limit``. For trsm itself."""
        name = self._definition.relations.names[handler.state]
        error = QueueFull(
            f"{self._limits.queue_limit} activations of {name} wait for task {handler.name} (limit={handler.limit}); one "
            "more was refused: call it less often, or raise limit= or queue_limit="
        )
        self._fault(error, current_source())

    def task_returned(self, handler: TaskHandler, transition: CoreTransition, value: object) -> None:
        """Add the state of ``then=``. For trsm itself."""
        if handler.then < 0 or self._closing:
            return
        state = self._definition.states[handler.then]
        calls: dict[int, object] | None = None
        if state._args is not None:
            if isinstance(state._args, type) and not isinstance(value, state._args):
                wanted = state._args.__name__
                error = HandlerError(
                    f"task {handler.name} (then={state}) returned {value!r}: {state} takes {wanted}, so return an "
                    f"instance of {wanted}"
                )
                self.add_error(error)
                return
            calls = {handler.then: value}
        request = self._definition.request(Kind.ADD, 1 << handler.then)
        result = self._submit_mutation(Mutation(request, calls=calls, result=value), first=False)
        if result.canceled:
            logger.warning("machine %r: then=%s of task %s was refused: %r", self.id, state, handler.name, result)
            self._trace(lambda tracer: tracer.then_refused(self.id, state, result))

    def task_failed(self, handler: TaskHandler, error: BaseException, source: Source) -> BaseException | None:
        """Report the exceptions of a task, and return what is left for trio. For trsm itself."""
        rest = _without_closed(error, self)
        if rest is None:
            return None
        if isinstance(rest, Exception):
            self._task_error(handler, rest)
            return None
        if isinstance(rest, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", rest)
            errors, left = group.split(Exception)
            if errors is not None:
                self._task_error(handler, errors)
            return left
        return rest

    def _task_error(self, handler: TaskHandler, error: Exception) -> None:
        if self._closing:
            self._unhandled_error(error)
            self._surface()
        elif self._definition.errors >> handler.state & 1:
            self._unhandled_error(error)
            self._drain(None)
        else:
            self.add_error(error)

    # ---- Errors -----------------------------------------------------------------------------------------------------

    def _unhandled_error(self, error: BaseException) -> None:
        super()._unhandled_error(error)
        if not self._closing:
            self._close_wanted = True

    def _surface(self) -> None:
        """Keep what nothing handled for the block, or hand it to the parent; raise what is no `Exception`."""
        unhandled, self._unhandled = self._unhandled, None
        if unhandled:
            if self._errors is None:
                self._errors = []
            self._errors.extend(unhandled)
            if self._is_started and self._parent is not None:
                for error in unhandled:
                    self._parent._child_error(error)
        escaped, self._escaped = self._escaped, None
        if escaped:
            raise escaped[0] if len(escaped) == 1 else BaseExceptionGroup(f"in handlers of machine {self.id!r}", escaped)

    def _child_error(self, error: BaseException) -> None:
        if self._closing or not isinstance(error, Exception):
            self._unhandled_error(error)
            if self._phase == IDLE:
                self._drain(None)
        else:
            self._fault(error, current_source())
            if self._phase == IDLE:
                self._drain(None)

    # ---- Waiters ----------------------------------------------------------------------------------------------------

    def _look(self, plan: Plan, transition: CoreTransition, removal: CoreTransition | None) -> None:
        """Let everyone look who subscribed to what a transition touched, and wake those whose condition came true."""
        subscriptions = self._subscriptions
        if subscriptions is None:
            return
        keys = [ANY, *members(plan.touched | (0 if removal is None else removal._plan.touched))]
        with self._reading():
            ended = [observer for observer in subscriptions.of(keys) if observer.observe(transition, removal)]
        wake([observer for observer in ended if isinstance(observer, Waiter)])

    @contextmanager
    def _reading(self) -> Generator[None]:
        """While predicates run: they may look, and not change."""
        phase, running = self._phase, self._running
        self._phase, self._running = READING, None
        try:
            yield
        finally:
            self._phase, self._running = phase, running

    def _subscribe(self, observer: Condition[T] | Watch | Waiter[None], keys: Iterable[int]) -> None:
        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self._subscription_changed)
        observer._refs = self._subscriptions.add(cast("Condition[T]", observer), keys)

    def _condition(
        self,
        keys: Iterable[int],
        look: Callable[[CoreTransition, CoreTransition | None], T | None],
        born: Callable[[], T | None] | None,
    ) -> Waiter[T]:
        self._check_thread("when…")
        waiter = Condition[T](look)
        if born is not None:
            try:
                with self._reading():
                    value = born()
            except Exception as error:
                waiter.fail(error)
                return waiter
            if value is not None:
                waiter._end(value, None)
                return waiter
        if self.closed:
            waiter.fail(self._closed_error())
        else:
            self._subscribe(waiter, keys)
        return waiter

    def _now(self) -> Ticks:
        """The ticks that conditions are judged by when a waiter is made."""
        at_close = self._ticks_at_close
        return at_close if self.closed and at_close is not None else self.ticks

    def _holding(self) -> int:
        """The active states that conditions are judged by when a waiter is made."""
        if not self.closed:
            return self._active
        return sum(1 << number for number, tick in enumerate(self._now()._values) if tick & 1)

    def _youngest(self, mask: int) -> Transition:
        """Return the transition that began the youngest instance of these active states."""
        began = [transition for number in members(mask) if self._began and (transition := self._began[number])]
        return cast("Transition", max(began, key=lambda transition: transition.tick))

    def when(
        self, *states: State[..., object], where: Callable[[Transition], bool] | None = None, **args: object
    ) -> Waiter[Transition]:
        """Wait until all of these states are active at once, as seen after a transition.

        Already true when made, it gives the transition that began the youngest of these instances. With `where` or
        `args` it looks forward only: for a transition that calls or activates one of these states and fits.

        Args:
          where: a predicate on the transition; it may look and not change anything, and if it raises, the waiter fails.
          args: values that the transition's free keywords, or the fields of the states' args instances, must equal.

        Returns:
          A waiter for the transition after which they were active.

        Raises:
          UnknownState, MutationError: not states of the schema, or none.
          WrongThread: called from another thread.
        """
        mask = self._mask(states, "when")
        is_forward = where is not None or bool(args)

        def look(transition: CoreTransition, removal: CoreTransition | None) -> CoreTransition | None:
            plan = transition._plan
            if self._active & mask != mask:
                return None
            if is_forward and not (plan.touched & mask and _fits(transition, mask, args)):
                return None
            seen = transition if removal is None or plan.target & mask == mask else removal
            return seen if where is None or where(cast("Transition", seen)) else None

        def born() -> Transition | None:
            return self._youngest(mask) if self._holding() & mask == mask else None

        return self._condition(members(mask), _typed(look), None if is_forward else born)

    def when_not(self, *states: State[..., object]) -> Waiter[Transition]:
        """Wait until none of these states is active, as seen after a transition; else as `when`."""
        mask = self._mask(states, "when_not")

        def look(transition: CoreTransition, removal: CoreTransition | None) -> CoreTransition | None:
            if self._active & mask:
                return None
            return transition if removal is None or not transition._plan.target & mask else removal

        return self._condition(members(mask), _typed(look), lambda: None if self._holding() & mask else self.last_transition)

    def when_any(self, *states: State[..., object]) -> Waiter[Transition]:
        """Wait until at least one of these states is active, as seen after a transition; else as `when`."""
        mask = self._mask(states, "when_any")

        def look(transition: CoreTransition, removal: CoreTransition | None) -> CoreTransition | None:
            return transition if self._active & mask else None

        def born() -> Transition | None:
            held = self._holding() & mask
            return self._youngest(held & -held) if held else None

        return self._condition(members(mask), _typed(look), born)

    def when_tick(self, state: State[..., object], tick: int) -> Waiter[Transition]:
        """Wait until the tick of a state is at least `tick`; it sees every tick, however short.

        Raises:
          ValueError: `tick` is no whole number, or is negative.
          UnknownState, MutationError, WrongThread: as for `when`.
        """
        number = self._definition.number(state, "when_tick")
        _check_count("tick", tick, 0)
        return self._when_tick(number, tick)

    def when_ticks(self, state: State[..., object], ticks: int) -> Waiter[Transition]:
        """Wait until the tick of a state has moved by `ticks`, from now on; it sees every tick, however short.

        Raises:
          ValueError: `ticks` is no positive whole number.
          UnknownState, MutationError, WrongThread: as for `when`.
        """
        number = self._definition.number(state, "when_ticks")
        _check_count("ticks", ticks, 1)
        return self._when_tick(number, self._now()._values[number] + ticks)

    def _when_tick(self, number: int, tick: int) -> Waiter[Transition]:
        def look(transition: CoreTransition, removal: CoreTransition | None) -> CoreTransition | None:
            return transition if self._ticks[number] >= tick else None

        return self._condition(
            (number,), _typed(look), lambda: self.last_transition if self._now()._values[number] >= tick else None
        )

    def when_next(self, state: State[..., object]) -> Waiter[Transition]:
        """Wait for the next transition in which a state activates, or a multi state is called again, however short.

        It looks forward only. Raises as `when`.
        """
        number = self._definition.number(state, "when_next")

        def look(transition: CoreTransition, removal: CoreTransition | None) -> CoreTransition | None:
            return transition if number in transition._plan.entering else None

        return self._condition((number,), _typed(look), None)

    def when_query(self, query: Callable[[Ticks], bool]) -> Waiter[Transition]:
        """Wait until a predicate on the ticks is true; it is asked now, and once after each transition that moved one.

        A predicate that raises fails this waiter, not the machine.

        Raises:
          TypeError: `query` cannot be called.
          WrongThread: called from another thread.
        """
        if not callable(query):
            raise TypeError(f"when_query({query!r}): pass a function that takes the ticks and returns a bool")

        def look(transition: CoreTransition, removal: CoreTransition | None) -> CoreTransition | None:
            return transition if query(self.ticks) else None

        return self._condition((ANY,), _typed(look), lambda: self.last_transition if query(self._now()) else None)

    def when_error(self, state: State[..., object] | None = None) -> Waiter[Exception]:
        """Wait for the next exception that becomes a state: any, or one that `state` takes. It only watches.

        Raises:
          ValueError: `state` is no error state.
          UnknownState, MutationError, WrongThread: as for `when`.
        """
        number = self._definition.error if state is None else self._definition.number(state, "when_error")
        if not self._definition.errors >> number & 1:
            raise ValueError(f"when_error({state}): {state} is no ErrorState; wait with machine.when({state})")

        def look(transition: CoreTransition, removal: CoreTransition | None) -> Exception | None:
            return transition.error if number in transition._plan.entering else None

        return self._condition((number,), look, None)

    def when_closed(self) -> Waiter[None]:
        """Wait until the machine has closed, its body and tasks have ended and its cleanups have run. Never fails."""
        self._check_thread("when_closed")
        waiter = Condition[None](lambda transition, removal: None)
        if self._is_joined:
            waiter._end(None, None)
        else:
            self._subscribe(waiter, (CLOSED,))
        return waiter

    def watch(self) -> Watch:
        """Return an async iterator over the ticks: the present ones first, then the latest whenever they moved.

        Raises:
          WrongThread: called from another thread.
        """
        self._check_thread("watch")
        watch = Watch(self._now)
        if self.closed:
            watch.end()
        else:
            self._subscribe(watch, (ANY,))
        return watch

    # ---- Children ---------------------------------------------------------------------------------------------------

    @property
    def parent(self) -> Machine | None:
        """The machine that this one is a child of, or None."""
        return self._parent

    @property
    def children(self) -> tuple[Machine, ...]:
        """The children that have not ended, oldest first."""
        return tuple(self._children or ())

    @property
    def _is_started(self) -> bool:
        return self._parent is not None and self._nursery is self._parent._nursery

    def start_child(
        self,
        schema: SchemaMeta,
        *handlers: object,
        id: str | None = None,
        tracers: Iterable[Tracer] = (),
        queue_limit: int = 1000,
        drain_limit: int = 10_000,
        handler_budget: float = 0.1,
    ) -> Machine:
        """Start a machine that lives in the nursery of this one (or of its nearest ancestor with a block), and return it.

        Sync and cheap: no block, no nursery. It lives until its own ``close()``, an unhandled error of its own (which
        becomes an error of this machine), or the closing of this machine. Arguments as for `open_machine`.

        Raises:
          MachineClosed: this machine is closing or closed.
          TypeError, HandlerError, UnknownState, ValueError: as for `open_machine`.
          ReadOnly, WrongThread: as for ``add``.
        """
        self._check_thread("start_child")
        if self._phase == READING:
            raise ReadOnly(self._read_only("start_child"))
        if self._closing:
            raise MachineClosed(f"start_child: {self._closing_reason()}, and a child cannot outlive it", self)
        limits = checked_limits(queue_limit, drain_limit, handler_budget)
        return Machine._made(
            schema, handlers, id, limits, tuple(tracers), self._nursery, self._context, self, self._cleanup_timeout
        )

    # ---- Closing ----------------------------------------------------------------------------------------------------

    def defer(self, function: Callable[..., Awaitable[object]], /, *args: object) -> None:
        """Register an async cleanup, called with `args` when the machine has closed and its tasks have ended.

        Cleanups run in reverse order of registration, shielded, under one deadline (``cleanup_timeout``); their errors
        join those of the machine.

        Raises:
          TypeError: `function` is not async.
          MachineClosed: the cleanups have run already.
          WrongThread: called from another thread.
        """
        self._check_thread("defer")
        if not is_async(function):
            raise TypeError(f"defer({function!r}): a cleanup is async; put sync ones into an on_exit handler")
        if self._is_joined:
            raise MachineClosed(f"defer({function!r}): {self._closing_reason()}, and its cleanups have run", self)
        if self._deferred is None:
            self._deferred = []
        self._deferred.append(functools.partial(function, *args))

    def _closed_error(self) -> MachineClosed:
        errors = [*(self._errors or ()), *(self._unhandled or ())]
        error = MachineClosed(f"machine {self.id!r} closed{f' after {errors[0]!r}' if errors else ''}", self)
        error.__cause__ = errors[0] if errors else None
        return error

    def _close_children(self) -> None:
        for child in reversed(self.children):
            child.close()

    def _closed(self) -> None:
        if not self._is_started:
            self._nursery.cancel_scope.cancel(f"machine {self.id!r} closed")
        final, self._final = self._final, None
        if final is not None:
            self._look(*final)
        subscriptions = self._subscriptions
        if subscriptions is not None:
            error = self._closed_error()
            failed: list[Waiter[object]] = []
            for observer in subscriptions.of([key for key in subscriptions.tables if key != CLOSED]):
                if isinstance(observer, Watch):
                    observer.end()
                elif isinstance(observer, Condition):
                    observer.fail(error)
                    failed.append(cast("Waiter[object]", observer))
            wake(failed)
        if self._is_started:
            if self._task_count or self._deferred:
                self._context.run(functools.partial(self._nursery.start_soon, self._join, name=f"{self.id}: closing"))
            else:
                self._joined_now()

    @trio.lowlevel.enable_ki_protection
    async def _join(self) -> None:
        """Steps 5 to 7 of closing, for a started child."""
        with trio.CancelScope(shield=True):
            if self._task_count:
                self._joined = trio.Event()
                await self._joined.wait()
            for error in await self._clean_up():
                assert self._parent is not None  # only started children are joined here
                self._parent._child_error(error)
            self._joined_now()

    async def _clean_up(self) -> list[BaseException]:
        """Run what was deferred, in reverse, under one shielded deadline; return the errors."""
        errors: list[BaseException] = []
        late: list[str] = []
        deadline = trio.current_time() + self._cleanup_timeout
        while self._deferred:
            function = self._deferred.pop()
            with trio.CancelScope(shield=True, deadline=deadline) as scope:
                try:
                    await _unprotected_call(function)
                except trio.Cancelled:
                    raise
                except BaseException as error:
                    errors.append(error)
            if scope.cancelled_caught:
                late.append(_name_of(function))
        if late:
            errors.append(
                trio.TooSlowError(
                    f"cleanups of machine {self.id!r} took longer than {self._cleanup_timeout} s (cleanup_timeout): "
                    f"{listed(late)} had to be cancelled"
                )
            )
        return errors

    def _joined_now(self) -> None:
        """Step 7 of closing: nothing of the machine runs any more."""
        self._is_joined = True
        if self._parent is not None and self._parent._children is not None:
            self._parent._children.pop(self, None)
        if self._subscriptions is not None:
            waiters = [cast("Waiter[object]", one) for one in self._subscriptions.of((CLOSED,)) if isinstance(one, Waiter)]
            for waiter in waiters:
                waiter._end(None, None)
            wake(waiters)


def _typed(
    look: Callable[[CoreTransition, CoreTransition | None], CoreTransition | None],
) -> Callable[[CoreTransition, CoreTransition | None], Transition | None]:
    """Every transition of a `Machine` is a `Transition` of this module: ``_transition_type`` says so."""
    return cast("Callable[[CoreTransition, CoreTransition | None], Transition | None]", look)


_MISSING = object()


def _fits(transition: CoreTransition, mask: int, args: dict[str, object]) -> bool:
    """Return whether a transition carries these values, as free keywords or as fields of the called states' args."""
    instances: list[object] = []
    if transition._mutation is not None and transition._mutation.calls is not None:
        instances = [call for number, call in transition._mutation.calls.items() if mask >> number & 1]
    for name, wanted in args.items():
        values = [transition.args.get(name, _MISSING), *(getattr(instance, name, _MISSING) for instance in instances)]
        if not any(value is not _MISSING and value == wanted for value in values):
            return False
    return True


def _check_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: write a whole number, {least} or more")


def _name_of(function: object) -> str:
    if isinstance(function, functools.partial):
        function = cast("functools.partial[object]", function).func
    return str(getattr(function, "__qualname__", function))


@trio.lowlevel.disable_ki_protection
async def _unprotected_call(function: Callable[[], Awaitable[object]]) -> None:
    await function()


def _without_closed(error: BaseException, machine: Machine) -> BaseException | None:
    """Return an exception without the `MachineClosed` of this machine: who ends with it has ended normally."""

    def is_closed(one: BaseException) -> bool:
        return isinstance(one, MachineClosed) and one.machine is machine

    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(is_closed)[1]
    return None if is_closed(error) else error


# ---- Opening --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_machine(
    schema: SchemaMeta,
    *handlers: object,
    id: str | None = None,
    parent: Machine | None = None,
    tracers: Iterable[Tracer] = (),
    queue_limit: int = 1000,
    drain_limit: int = 10_000,
    handler_budget: float = 0.1,
    cleanup_timeout: float = 30.0,
) -> AsyncGenerator[Machine]:
    """Open a machine for the length of an ``async with`` block, with a nursery of its own.

    When the block is left, the machine closes: every state is deactivated, tasks are cancelled and joined, cleanups
    run. Leaving *cancels* what still runs, unlike leaving a nursery: wait in the body for what you want to see done.
    Nothing of the machine runs any more afterwards. Opening activates nothing.

    Checkpoints: opening is none; leaving is one if there is anything to join.

    Cancellation: cancels body and tasks; ``on_exit`` handlers and cleanups still run, the cleanups shielded.

    Args:
      schema: the schema class.
      handlers: objects, modules and functions with handlers.
      id: its name in messages. Default: the schema's name and a number.
      parent: a machine that knows it and closes it. Default: none.
      tracers: `Tracer` objects.
      queue_limit: how many mutations may wait at once. Default 1000.
      drain_limit: how many transitions one outermost call may lead to. Default 10,000.
      handler_budget: seconds after which a handler is reported to tracers as slow. Default 0.1.
      cleanup_timeout: seconds that all cleanups together may take. Default 30.

    Raises:
      TypeError: ``schema`` is no schema.
      HandlerError, UnknownState: a handler does not fit.
      ValueError: a limit is not positive.
      MachineClosed: the parent is closing or closed.
      ExceptionGroup: on leaving, the errors that nothing handled, flat and in order; the body's own exception joins as
        the last. The body's exception alone leaves bare and untouched.
    """
    if parent is not None and parent._closing:
        raise MachineClosed(f"open_machine(parent=…): {parent._closing_reason()}, and a child cannot outlive it", parent)
    limits = checked_limits(queue_limit, drain_limit, handler_budget)
    if not isinstance(cleanup_timeout, (int, float)) or not cleanup_timeout > 0:
        raise ValueError(f"cleanup_timeout={cleanup_timeout!r}: write a positive number of seconds")
    context = contextvars.copy_context()
    left: tuple[BaseException, ...] = ()
    machine: Machine | None = None
    body: BaseException | None = None
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            machine = Machine._made(
                schema, handlers, id, limits, tuple(tracers), nursery, context, parent, float(cleanup_timeout)
            )
            try:
                yield machine
            except BaseException as error:
                body = _without_closed(error, machine)
            closing = _close(machine)
            if body is not None and closing is not None:
                raise BaseExceptionGroup("body", [closing, body])
            if body is not None or closing is not None:
                raise body or closing or AssertionError
    except BaseExceptionGroup as group:
        left = cast("tuple[BaseException, ...]", group.exceptions)
    if machine is None:
        raise next(iter(left))
    errors = machine._errors or []
    errors.extend(await machine._clean_up())
    machine._joined_now()
    tasks = [error for error in left if error is not body]
    if not errors and not tasks:
        if left:
            raise left[0]
        return
    raise BaseExceptionGroup(f"unhandled in machine {machine.id!r}", [*errors, *tasks, *(one for one in left if one is body)])


def _close(machine: Machine) -> BaseException | None:
    """Close a machine whose block is left; return what a handler raised that is no `Exception`."""
    try:
        machine.close()
    except BaseException as error:
        return error
    return None
