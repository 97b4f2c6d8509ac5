"""The machine: what users hold. It adds waiters, children, the errors that leave the block, and closing."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from threading import get_ident
from typing import Any, ClassVar, TypeAlias, TypeVar, TypeVarTuple, cast, get_args

import attrs
import trio

from trsm._core._bits import lowest, members
from trsm._core._errors import MachineClosed, ReadOnly, listed
from trsm._core._limits import Limits, checked_limits, checked_tags
from trsm._core._logging import logged
from trsm._core._mutation import Canceled, Executed, Queued, Result
from trsm._core._plan import Plan
from trsm._core._runner import IDLE, READING
from trsm._core._schema import Schema, SchemaMeta
from trsm._core._source import CAUSE, Source, current_source, get_cause, set_cause
from trsm._core._state import State, is_async
from trsm._core._ticks import Ticks
from trsm._core._tracing import Tracer, checked_tracers
from trsm._core._transition import Transition as CoreTransition
from trsm._performer import Performer, name_of
from trsm._protection import protect, unprotected
from trsm._timers import Timers
from trsm._waiters import (
    ANY,
    CLOSED,
    EXTENDED,
    PIPES,
    QUEUE,
    Asking,
    Buffer,
    Condition,
    Observer,
    OfClosing,
    OfQueue,
    Overflow,
    Stream,
    Subscriptions,
    Waiter,
    Watch,
    more,
    of,
    wake,
)

T = TypeVar("T")
U = TypeVar("U")
Ts = TypeVarTuple("Ts")
_AWAITED = 20
"""How many waiters `describe` lists."""
Observing: TypeAlias = "Condition[Any] | OfQueue[Any] | OfClosing | Stream[Any]"


class Transition(CoreTransition):
    __doc__ = CoreTransition.__doc__
    __slots__ = ()

    @property
    def machine(self) -> Machine:
        """The machine; a transition does not keep it alive.

        Raises:
          ReferenceError: the machine is gone.
        """
        return cast("Machine", super().machine)


class Transitions(Buffer[Transition]):
    """An async iterator over every transition of a machine, in order, through a bounded buffer.

    Every one that was executed, those that changed nothing included; a mutation that was canceled leaves none. It ends
    quietly when the machine has closed and what was buffered has been given, closing itself as the last. One task at a
    time may iterate it.

    Checkpoints: each step is one. Cancellation: a cancelled step loses nothing.

    Raises:
      BufferFull: with ``overflow="raise"``, after what was buffered.
      BusyResourceError: another task is in a step.
      WrongThread: iterated in another thread than that of the machine.
    """

    __slots__ = ()


@attrs.frozen
class InUse:
    """What a machine holds, counted: false if that is nothing. A picture; it does not follow the machine."""

    tasks: int
    """Tasks of states and of ``start_soon`` that have not ended: run, wait for their predecessor, or clean up."""
    waiters: int
    """Waiters, ``watch()`` and ``transitions()`` that have not ended and that somebody still holds."""
    scopes: int
    """``while_active`` and ``while_inactive`` scopes that were entered, and neither left nor cancelled."""
    children: int
    """Child machines that have not ended."""
    queued: int
    """Mutations that wait for their turn."""

    def __bool__(self) -> bool:
        return any(attrs.astuple(self))


class Machine(Performer):
    """A machine that runs: states, scopes, tasks and waiters. Opened by `open_machine` or `Machine.start_child`.

    Everything it starts lives in its nursery (a started child's in that of its nearest ancestor with a block), and
    ends with it. Mutations never block: from the call to its return no other task runs.
    """

    __slots__ = (
        "_children",
        "_cleanup_timeout",
        "_deferred",
        "_errors",
        "_final",
        "_is_joined",
        "_is_left",
        "_parent",
        "_subscriptions",
    )

    _transition_type: ClassVar[type[CoreTransition]] = Transition

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise TypeError("a machine is opened: async with trsm.open_machine(…) as machine, or machine.start_child(…)")

    def __init_subclass__(cls) -> None:
        raise TypeError("Machine cannot be inherited from: put behaviour in handlers, and states in schemas")

    @classmethod
    def _made(
        cls,
        schema: type[Schema],
        handlers: tuple[object, ...],
        id: str | None,
        limits: Limits,
        tracers: tuple[Tracer, ...],
        tags: tuple[str, ...],
        nursery: trio.Nursery,
        context: contextvars.Context,
        parent: Machine | None,
        cleanup_timeout: float,
        snapshot: Mapping[str, object] | None,
    ) -> Machine:
        if not isinstance(schema, SchemaMeta):
            raise TypeError(f"{schema!r} is no schema: pass a class that inherits from trsm.Schema")
        schema.__check_handlers__(handlers)
        machine = object.__new__(cls)
        machine._start(schema, handlers, id, limits, tracers, tags)
        machine._nursery = nursery
        machine._context = context
        machine._parent = parent
        machine._cleanup_timeout = cleanup_timeout
        machine._deadlines = None
        machine._timers = None
        machine._watched = machine._held = machine._definition.timed
        machine._children = None
        machine._deferred = None
        machine._errors = None
        machine._final = None
        machine._is_joined = False
        machine._is_left = False
        machine._joined = None
        machine._scopes = None
        machine._slots = None
        machine._started = None
        machine._subscriptions = None
        machine._task_count = 0
        if snapshot is not None:
            machine._restore(snapshot)
        if parent is not None:
            if parent._children is None:
                parent._children = {}
            parent._children[machine] = None
        return machine

    _parent: Machine | None
    _cleanup_timeout: float
    _children: dict[Machine, None] | None
    _deferred: list[functools.partial[Awaitable[object]]] | None
    _errors: list[BaseException] | None
    """Errors that nothing handled, in order."""
    _final: tuple[Plan, CoreTransition, CoreTransition | None] | None
    """The last transition, whose waiters wake once body and tasks are cancelled."""
    _is_joined: bool
    """Whether body and tasks have ended and cleanups have run."""
    _is_left: bool
    """Whether the block's body has ended."""
    _subscriptions: Subscriptions | None

    @property
    def last_transition(self) -> Transition:
        """The last transition that was executed; opening counts as one. A canceled mutation leaves none."""
        return cast("Transition", super().last_transition)

    # ---- Errors -----------------------------------------------------------------------------------------------------

    def _unhandled_error(self, error: BaseException, source: Source | None) -> None:
        super()._unhandled_error(error, source)
        if not (self._closing or self._close_wanted):
            self._close_wanted = self._is_due = True
            self._close_source = source

    def _surface(self) -> None:
        """Keep what nothing handled for the block, or hand it to the parent; raise what is no `Exception`."""
        unhandled, self._unhandled = self._unhandled, None
        escaped, self._escaped = self._escaped or [], None
        if unhandled:
            if self._errors is None:
                self._errors = []
            self._errors.extend(error for error, _ in unhandled)
            escaped += self._hand_on(unhandled)
        if escaped:
            raise (escaped[0] if len(escaped) == 1 else BaseExceptionGroup(self._escaped_message, escaped))

    def _hand_on(self, errors: Iterable[tuple[BaseException, Source | None]]) -> list[BaseException]:
        """Make errors of a started child those of its parent; return what handlers there raised, no `Exception`."""
        escaped: list[BaseException] = []
        if self._is_started and self._parent is not None:
            for error, source in errors:
                try:
                    self._parent._child_error(error, source)
                except BaseException as raised:
                    escaped.append(raised)  # each error is handed on, whatever becomes of the one before
        return escaped

    @property
    def _escaped_message(self) -> str:
        return f"in handlers of machine {self.id!r}"

    def _child_error(self, error: BaseException, source: Source | None) -> None:
        """Take an error of a started child that nothing handled there; it comes from where it came from there."""
        if self._closing or not isinstance(error, Exception):
            self._unhandled_error(error, source)
        else:
            self._fault(error, source)
        self._catch_up()

    def _late_error(self, error: Exception) -> bool:
        if self._is_joined:
            return False
        self._unhandled_error(error, current_source())
        self._catch_up()
        return True

    # ---- Waiters ----------------------------------------------------------------------------------------------------

    def _finished(
        self, plan: Plan, transition: CoreTransition, removal: CoreTransition | None, bound: tuple[object, ...]
    ) -> None:
        """Start tasks, let everyone look who subscribed to what was touched, and wake those whose condition came true.

        While it closes, that waits until body and tasks are cancelled: then it is called again.
        """
        if self._closing and not self._is_closed:
            self._final = plan, transition, removal
            return
        if plan.tasks:
            self._start_tasks(plan, transition, bound)
        subscriptions = self._subscriptions
        if subscriptions is None:
            return
        touches = plan.touches if removal is None else members(plan.touched | removal._plan.touched)
        ended: list[Any] = []  # only waiters end so
        for observer in subscriptions.of((ANY, *touches)):
            try:
                if observer._observe(transition, removal):
                    ended.append(observer)
            except BaseException as error:
                self._escape(error)  # a predicate that raises no `Exception`: as a handler that does
        if ended:
            wake(ended)
            if self._tracers:
                self._tell_ended(ended)

    def _renumber(self, places: list[int], before: type[Schema]) -> None:
        super()._renumber(places, before)
        if self._subscriptions is not None:
            self._subscriptions.renumber(places)
        EXTENDED.add(self)
        self._watched = self._held | self._looked_at

    def _ask(self, predicate: Callable[[*Ts], U], source: Source | None, *args: *Ts) -> U:
        """Ask a predicate, which may look, and not change this machine; it may change others."""
        cause, phase, running = get_cause(), self._phase, self._running
        set_cause(source)
        self._phase, self._running = READING, None
        try:
            return predicate(*args)
        finally:
            self._phase, self._running = phase, running
            set_cause(cause)

    def _wake(self, ended: list[Waiter[Any]]) -> None:
        """Wake those who wait for these, and tell tracers."""
        wake(ended)
        self._tell_ended(ended)

    def _tell_ended(self, ended: list[Waiter[Any]]) -> None:
        for waiter in ended:
            self._announce(Tracer.waiter_ended, waiter)

    def _subscribers(self) -> Subscriptions:
        """Return who looks at what; made when somebody first does."""
        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self)
        return self._subscriptions

    def _subscribe(self, observer: Observing, keys: Iterable[int]) -> None:
        subscriptions = self._subscribers()
        observer._refs = tuple([subscriptions.add(observer, key) for key in keys])
        if self._tracers:
            self._announce(Tracer.waiter_subscribed, observer)

    def _condition(self, waiter: Condition[T], value: T | None) -> Waiter[T]:
        """Let a waiter that was just made end, if its condition holds or the machine is closed; else subscribe it."""
        if value is not None:
            waiter._end(value, None)
        elif self._is_closed:
            waiter.fail(self._closed_error())
        else:
            self._subscribe(waiter, members(waiter._mask) if waiter._mask else (ANY,))
        return waiter

    def _awaited(self, waiter: Condition[T], missing: int, value: T | None) -> Waiter[T]:
        """As `_condition`, for one that cannot end before each of the states that are `missing` has come, or gone.

        So it need look only when one of them moves, whichever; and then at another, if that was not enough. SAT solvers
        watch literals so (Moskewicz and others, *Chaff*, DAC 2001).
        """
        if value is not None or self._is_closed:
            return self._condition(waiter, value)
        subscriptions = self._subscriptions
        if subscriptions is None:
            subscriptions = self._subscribers()
        waiter._refs = (subscriptions.add(waiter, (missing & -missing).bit_length() - 1),)  # `lowest`, without the call
        if self._tracers:
            self._announce(Tracer.waiter_subscribed, waiter)
        return waiter

    def _still_missing(self, waiter: Condition[Any], missing: int) -> None:
        """Let a waiter look at a state that is still missing, if the one that it looked at is not."""
        (watched,) = waiter._refs
        if not missing >> watched.key & 1:
            watched.drop()
            waiter._refs = (self._subscribers().add(waiter, lowest(missing)),)

    def _now(self) -> Ticks:
        """The ticks that conditions are judged by when a waiter is made."""
        at_close = self.ticks_at_close
        return at_close if self.closed and at_close is not None else self.ticks

    def _holding(self) -> int:
        """The active states that conditions are judged by when a waiter is made."""
        if not self.closed:
            return self._active
        return sum(1 << number for number, tick in enumerate(self._now()._values) if tick & 1)

    def _youngest(self, mask: int) -> Transition:
        """Return the transition that began the youngest instance of these active states."""
        return cast("Transition", max(map(self._beginning, members(mask)), key=lambda transition: transition.tick))

    def when(
        self, /, *states: State[..., object], where: Callable[[Transition], bool] | None = None, **args: object
    ) -> Waiter[Transition]:
        """Wait until all of these states are active at once, as seen after a transition.

        Already true when made, it gives the transition that began the youngest of these instances. With `where` or
        `args` it looks forward only, as `when_next`: for a transition that calls or activates one of these states and
        fits.

        Args:
          where: a predicate on the transition; it may look and not change anything, and if it raises, the waiter fails.
          args: values that the transition's free keywords, or the fields of the states' args instances, must equal.

        Returns:
          A waiter for the transition after which they were active.

        Raises:
          UnknownState, MutationError: not states of the schema, or none.
          TypeError: `where` is no sync function.
          WrongThread: called from another thread.

        Example::

            ready = machine.when(Server.Ready)  # subscribe first, mutate after: nothing can be missed
            machine.add(Server.Start)
            await (ready | machine.when_error())
        """
        mask = self._mask(states, "when")
        if where is not None:
            _check_predicate(where, f"when(…, where={where!r})", "the transition")
        if get_ident() != self._thread:
            self._check_thread("when")
        if where is not None or args:
            return self._condition(_Fitting(self, mask, where, args), None)
        missing = mask & ~(self._holding() if self._is_closed else self._active)
        return self._awaited(_Active(self, mask), missing, None if missing else self._youngest(mask))

    def when_not(self, *states: State[..., object]) -> Waiter[Transition]:
        """Wait until none of these states is active, as seen after a transition.

        Already true when made, it gives the last transition. Raises as `when`.
        """
        mask = self._mask(states, "when_not")
        self._check_thread("when_not")
        missing = mask & self._holding()
        return self._awaited(_Inactive(self, mask), missing, None if missing else self.last_transition)

    def when_any(self, *states: State[..., object]) -> Waiter[Transition]:
        """Wait until at least one of these states is active, as seen after a transition; else as `when_not`."""
        mask = self._mask(states, "when_any")
        self._check_thread("when_any")
        return self._condition(_AnyActive(self, mask), self.last_transition if self._holding() & mask else None)

    def when_tick(self, state: State[..., object], tick: int) -> Waiter[Transition]:
        """Wait until the tick of a state is at least `tick`; it sees every tick, however short.

        Args:
          tick: a tick, counted since the machine was opened: 1 is the first activation.

        Raises:
          ValueError: `tick` is no whole number, or is negative.
          UnknownState, MutationError, WrongThread: as for `when`.
        """
        number = self._definition.number(state, "when_tick")
        _check_count("tick", tick, 0)
        self._check_thread("when_tick")
        return self._when_tick(number, tick)

    def when_ticks(self, state: State[..., object], ticks: int) -> Waiter[Transition]:
        """Wait until the tick of a state has moved by `ticks`, from now on; it sees every tick, however short.

        Args:
          ticks: how far, at least 1: 2 is once away and back, or one more call of a multi state.

        Raises:
          ValueError: `ticks` is no positive whole number.
          UnknownState, MutationError, WrongThread: as for `when`.
        """
        number = self._definition.number(state, "when_ticks")
        _check_count("ticks", ticks, 1)
        self._check_thread("when_ticks")
        return self._when_tick(number, self._now()._values[number] + ticks)

    def _when_tick(self, number: int, tick: int) -> Waiter[Transition]:
        waiter = _Reached(self, 1 << number, tick)
        return self._condition(waiter, self.last_transition if self._now()._values[number] >= tick else None)

    def when_next(self, state: State[..., object]) -> Waiter[Transition]:
        """Wait for the next transition in which a state activates, or a multi state is called again, however short.

        It looks forward only: made in a final handler, it does not see the transition that runs; made in a negotiation
        handler, which sees the machine as it was before, it does. Raises as `when`.
        """
        number = self._definition.number(state, "when_next")
        self._check_thread("when_next")
        return self._condition(_Entering[Transition](self, 1 << number), None)

    def when_query(self, query: Callable[[Ticks], bool]) -> Waiter[Transition]:
        """Wait until a predicate on the ticks is true; it is asked now, and once after each transition that moved one.

        A predicate that raises fails this waiter, not the machine.

        Args:
          query: a sync function of the `Ticks` that returns a bool; it may look and not change anything.

        Raises:
          TypeError: `query` is no sync function.
          WrongThread: called from another thread.

        Example::

            await machine.when_query(lambda ticks: ticks[Job.Failed] > ticks[Job.Done])
        """
        _check_predicate(query, f"when_query({query!r})", "the ticks")
        self._check_thread("when_query")
        waiter = _Query(self, query)
        try:
            is_true = self._ask(query, current_source(), self._now())
        except Exception as error:
            waiter.fail(error)
            return waiter
        finally:
            self._catch_up()
        return self._condition(waiter, self.last_transition if is_true else None)

    def when_error(self, state: State[..., object] | None = None) -> Waiter[Exception]:
        """Wait for the next exception that becomes a state: any, or one that `state` takes. It only watches.

        Raises:
          ValueError: `state` is no error state.
          UnknownState, MutationError, WrongThread: as for `when`.
        """
        number = self._definition.error if state is None else self._definition.number(state, "when_error")
        if not self._definition.errors >> number & 1:
            raise ValueError(f"when_error({state}): {state} is no ErrorState; wait with machine.when({state})")
        self._check_thread("when_error")
        return self._condition(_Erring(self, 1 << number), None)

    def when_queue(self, result: Result) -> Waiter[Executed | Canceled]:
        """Wait until a mutation that was queued has had its turn, and give how it ended: `Executed` or `Canceled`.

        It never fails: what is queued when the machine closes ends as canceled. Of a result that was not queued, or has
        had its turn, it gives the end at once.

        Args:
          result: what a mutation of this machine returned.

        Raises:
          TypeError: `result` is no result.
          ValueError: it waits in the queue of another machine.
          WrongThread: called from another thread.

        Example::

            @Shop.Paid.on_enter
            def pack(self, t: trsm.Transition) -> None:
                self.packing = t.machine.when_queue(t.machine.add(Shop.Packed))
        """
        self._check_thread("when_queue")
        if not isinstance(result, (Executed, Canceled, Queued)):
            raise TypeError(f"when_queue({result!r}): pass what add, remove and the like returned")
        if isinstance(result, Queued) and result._machine is not self._reference:
            raise ValueError(f"when_queue({result!r}): it is in the queue of another machine: ask that one")
        waiter = _Turn(self, result)
        if not waiter.look():
            self._subscribe(waiter, (QUEUE,))
        return waiter

    def when_settled(self) -> Waiter[Transition]:
        """Wait until the queue is empty: what was asked, implied and automatic is all done. Gives the last transition.

        Made outside of a transition, that is so already: it is for handlers. It never fails.

        Raises:
          WrongThread: called from another thread.
        """
        self._check_thread("when_settled")
        waiter = _Settled(self)
        if self._phase == IDLE or self.closed:
            waiter._end(self.last_transition, None)
        else:
            self._subscribe(waiter, (QUEUE,))
        return waiter

    def _settled(self) -> None:
        assert self._subscriptions is not None  # who wants to hear of it has subscribed
        observers = [cast("OfQueue[object]", one) for one in self._subscriptions.of((QUEUE,))]
        self._wake([one for one in observers if one.look()])

    def _catch_up(self) -> None:
        super()._catch_up()
        if self._is_settling_watched and self._phase == IDLE:
            self._settled()  # made while a handler or predicate was asked outside of a transition

    def when_closed(self) -> Waiter[None]:
        """Wait until the machine has closed, its body and tasks have ended and its cleanups have run. Never fails."""
        self._check_thread("when_closed")
        waiter = OfClosing(self)
        if self._is_joined:
            waiter._end(None, None)
        else:
            self._subscribe(waiter, (CLOSED,))
        return waiter

    def watch(self) -> Watch:
        """Return an async iterator over the ticks: the present ones first, then the latest whenever they moved.

        It ends when the machine closes; of a closed machine it gives ``ticks_at_close``, and ends.

        Raises:
          WrongThread: called from another thread.

        Example::

            async for ticks in machine.watch():
                print(ticks.active_states)
        """
        self._check_thread("watch")
        watch = Watch(self)
        if self.closed:
            watch._end()
        else:
            self._subscribe(watch, (ANY,))
        return watch

    def transitions(self, *, buffer: int, overflow: Overflow) -> Transitions:
        """Return an async iterator over every transition from now on, as `when_next`, through a bounded buffer.

        It never blocks the machine: what there is no room for is lost, in the way that `overflow` names.

        Args:
          buffer: how many transitions may wait to be read.
          overflow: ``"drop_oldest"`` and ``"drop_newest"`` lose one, and count it in ``dropped``; ``"raise"`` ends the
            iterator: its reader gets what was buffered, and then `BufferFull`.

        Raises:
          ValueError: `buffer` is no positive whole number, or `overflow` none of the three.
          WrongThread: called from another thread.

        Example::

            async for t in machine.transitions(buffer=100, overflow="drop_oldest"):
                print(t.kind, t.entering, t.leaving)
        """
        self._check_thread("transitions")
        _check_count("buffer", buffer, 1)
        if overflow not in get_args(Overflow):
            raise ValueError(f'overflow={overflow!r}: write "drop_oldest", "drop_newest" or "raise"')
        stream = Transitions(self, buffer, overflow)
        if self.closed:
            stream._end()
        else:
            self._subscribe(stream, (ANY,))
        return stream

    # ---- Looking at it ----------------------------------------------------------------------------------------------

    @property
    def in_use(self) -> InUse:
        """What it holds now, counted: tasks, waiters, scopes, children, and what is queued.

        Once ``when_closed()`` has ended all of it is 0, but for children in blocks of their own that still clean up.
        Reading raises `WrongThread` in another thread.

        Example::

            assert not machine.in_use, machine.describe()
        """
        self._check_thread("in_use", is_read=True)
        children = self._children or {}
        return InUse(
            tasks=self._task_count - sum(child._is_started for child in children),  # they are joined as tasks are
            waiters=len(self._waiters()),
            scopes=sum(map(len, (self._scopes or {}).values())),
            children=len(children),
            queued=len(self._waiting()),
        )

    def _waiters(self) -> list[Observer]:
        subscriptions = self._subscriptions
        if subscriptions is None:
            return []
        return subscriptions.of([key for key in subscriptions.tables if key != PIPES])

    def _described(self) -> list[str]:
        lines = super()._described()
        names = self._definition.relations.names
        tasks = [
            f"{names[number]} {running} running{f', {parked} waiting' if parked else ''}"
            for number, slot in sorted((self._slots or {}).items())
            for running, parked in [slot.counts()]
            if running or parked
        ]
        tasks += [
            f"start_soon({f'while_active={names[number]}' if number >= 0 else ''}) {len(some)}"
            for number, some in sorted((self._started or {}).items())
        ]
        timeouts = [
            f"{names[number]} in {seconds:g} s"
            for number, seconds in self._seconds_left().items()
            if seconds is not None
        ]
        scopes = [
            f"while_{'in' if ends_active else ''}active({names[number]}) {len(some)}"
            for (number, ends_active), some in sorted((self._scopes or {}).items(), key=lambda item: item[0])
        ]
        waiters = self._waiters()
        awaited = [*map(repr, waiters[:_AWAITED]), *more(len(waiters) - _AWAITED)]
        children = self._children or ()
        named = [repr(child.id) for child in children]
        named[5:] = more(len(children) - 5)
        for title, words in (
            ("tasks", ", ".join(tasks)),
            ("timeouts", ", ".join(timeouts)),
            ("scopes", ", ".join(scopes)),
            ("waiters", "\n  ".join([str(len(waiters)), *awaited]) if waiters else ""),
            ("children", f"{len(children)} ({', '.join(named)})" if children else ""),
        ):
            if words:
                lines.append(f"{title}: {words}")
        return lines

    # ---- Children ---------------------------------------------------------------------------------------------------

    @property
    def parent(self) -> Machine | None:
        """The machine that this one is a child of, or None."""
        return self._parent

    @property
    def children(self) -> tuple[Machine, ...]:
        """The children that have not ended, oldest first."""
        self._check_thread("children", is_read=True)
        return tuple(self._children or ())

    @property
    def _is_started(self) -> bool:
        return self._parent is not None and self._nursery is self._parent._nursery

    def _shared_timers(self) -> Timers:
        machine = self
        while machine._is_started and machine._parent is not None:
            machine = machine._parent
        if machine is not self:
            self._timers = machine._shared_timers()
        return super()._shared_timers()

    def start_child(
        self,
        schema: type[Schema],
        *handlers: object,
        id: str | None = None,
        tracers: Iterable[Tracer] = (),
        tags: str | Iterable[str] = (),
        log_args: Iterable[str] = (),
        queue_limit: int = 1000,
        drain_limit: int = 10_000,
        handler_budget: float = 0.1,
        snapshot: Mapping[str, object] | None = None,
    ) -> Machine:
        """Start a machine that lives in the nursery of this one, or of its nearest ancestor with a block.

        Sync and cheap: no block, no nursery. It lives until its own ``close()``, an unhandled error of its own (which
        becomes an error of this machine), or the closing of this machine. Arguments as for `open_machine`.

        Returns:
          The child. Its tasks run in the context of this machine's `open_machine`.

        Raises:
          MachineClosed: this machine is closing or closed.
          TypeError, HandlerError, UnknownState, ValueError, SnapshotError: as for `open_machine`.
          ReadOnly, WrongThread: as for ``add``.
        """
        self._check_thread("start_child")
        if self._phase == READING:
            raise ReadOnly(self._read_only("start_child"))
        if self._closing:
            raise MachineClosed(f"start_child: {self._closing_reason()}, and a child cannot outlive it", self)
        limits = checked_limits(queue_limit, drain_limit, handler_budget)
        watching = logged(id, log_args, checked_tracers(tracers))
        words = checked_tags(tags)
        child = Machine._made(
            schema,
            handlers,
            id,
            limits,
            watching,
            words,
            self._nursery,
            self._context,
            self,
            self._cleanup_timeout,
            snapshot,
        )
        self._task_count += 1  # it is joined as a task is
        child._announce(Tracer.machine_opened)
        return child

    # ---- Closing ----------------------------------------------------------------------------------------------------

    def defer(self, function: Callable[..., Awaitable[object]], /, *args: object) -> None:
        """Register an async cleanup, called with `args` when the machine has closed and its tasks have ended.

        Cleanups run in reverse order of registration, shielded, under one deadline (``cleanup_timeout``); their errors
        join those of the machine.

        Args:
          function: an async function.
          args: what it is called with.

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
        errors = [*(self._errors or ()), *(error for error, _ in self._unhandled or ())]
        error = MachineClosed(f"machine {self.id!r} closed{f' after {errors[0]!r}' if errors else ''}", self)
        error.__cause__ = errors[0] if errors else None
        return error

    def _descendants(self) -> list[Machine]:
        """Return the machines that descend from this one: each before its own, oldest first; of any depth."""
        found: list[Machine] = []
        ahead = list(reversed(self.children))
        while ahead:
            machine = ahead.pop()
            found.append(machine)
            ahead.extend(reversed(machine.children))
        return found

    def _close_children(self) -> None:
        if not self._children:
            return
        # Youngest first, and each after its own, so that a long line of descendants needs no deep stack.
        for child in reversed(self._descendants()):
            try:
                child._want_close(self._close_source)
            except BaseException as error:
                self._escape(error)  # from a handler of the child; this machine goes on closing

    @property
    def _is_busy(self) -> bool:
        """Whether this machine, or one that descends from it, is in a transition, and has not closed in it."""
        return any(machine._phase != IDLE and not machine._is_closed for machine in (self, *self._descendants()))

    def _want_close(self, source: Source | None) -> None:
        """Close now; after the present transition, and after those of children, which close first."""
        if self._closing or self._close_wanted:
            return
        self._close_wanted = self._is_due = True
        self._close_source = source
        if self._phase == IDLE:
            self._drain(None)
        else:
            self._ask_children()

    def _close_now(self) -> None:
        # Whatever wants it: a child in a transition closes at the end of that, and the last of them comes here again.
        if self._closing or not self._ask_children():
            super()._close_now()
        else:
            self._is_due = self._auto_due = False
            self._calls = {}  # mutations are canceled from now on
            self._drop_waiting(self._closing_reason())

    @property
    def _has_busy_children(self) -> bool:
        return bool(self._children) and any(child._is_busy for child in self.children)

    def _ask_children(self) -> bool:
        """If some children are in a transition, let all close, these at its end; return whether there are any."""
        is_put_off = self._has_busy_children
        for child in reversed(self.children) if is_put_off else ():
            try:
                child._want_close(self._close_source)
            except BaseException as error:
                self._escape(error)  # from a handler of the child's; the others are asked all the same
        return is_put_off

    def _closed(self) -> None:
        if self._scopes is not None or self._started is not None:
            self._end_scopes()
        if self._is_settling_watched:
            self._settled()
        is_started = self._parent is not None and self._is_started
        if not (is_started or (self._is_left and not self._nursery.child_tasks)):  # there may be nobody to cancel
            self._nursery.cancel_scope.cancel(f"machine {self.id!r} closed")
        final, self._final = self._final, None
        subscriptions = self._subscriptions
        if subscriptions is not None:
            # Where nothing was active, closing has touched nobody; who reads every transition reads it too.
            last = self.last_transition
            self._finished(*(final or (last._plan, last, None)), self._bound)
            error = self._closed_error()
            failed: list[Waiter[object]] = []
            for observer in subscriptions.of(key for key in list(subscriptions.tables) if key != CLOSED):
                if isinstance(observer, Stream):
                    stream = cast("Stream[object]", observer)
                    stream._end()
                    self._announce(Tracer.waiter_ended, stream)
                elif isinstance(observer, OfClosing):
                    observer.fail(error)  # it tells a pipe, and nobody awaits it
                else:
                    waiter = cast("Condition[object]", observer)
                    waiter.fail(error)
                    failed.append(waiter)
            self._wake(failed)
        if is_started:
            if self._task_count or self._deferred:
                self._context.run(functools.partial(self._nursery.start_soon, self._join, name=f"{self.id}: closing"))
            else:
                self._joined_now()
        parent = self._parent
        if parent is not None and parent._close_wanted and parent._phase == IDLE and not parent._has_busy_children:
            try:
                parent._catch_up()
            except BaseException as raised:
                self._escape(raised)  # from a handler of the parent; what this machine has to tell goes on

    async def _join(self) -> None:
        """Steps 5 to 7 of closing, for a started child."""
        with trio.CancelScope(shield=True):
            if self._task_count:
                self._joined = trio.Event()
                await self._joined.wait()
            await self._clean_up(self._unhandled_error)
            self._joined_now()
            self._catch_up()

    async def _clean_up(self, report: Callable[[BaseException, Source], None]) -> None:
        """Run what was deferred, in reverse, under one shielded deadline; report the errors as they come."""
        late: list[tuple[str, Source]] = []
        deadline = trio.current_time() + self._cleanup_timeout
        while self._deferred:
            function = self._deferred.pop()
            scope = trio.CancelScope(shield=True, deadline=deadline)
            last, name = self.last_transition, name_of(function)
            cause = self._task_source(last, name, last.source, "cleanup")
            token = CAUSE.set(cause)
            try:
                with scope:
                    await unprotected(function())
            except BaseException as error:
                report(error, cause)
            finally:
                CAUSE.reset(token)
            if scope.cancelled_caught:
                late.append((name, cause))
        if late:
            too_slow = trio.TooSlowError(
                f"cleanups of machine {self.id!r} took longer than {self._cleanup_timeout} s (cleanup_timeout): "
                f"{listed(name for name, _ in late)} had to be cancelled"
            )
            report(too_slow, late[0][1])

    def _joined_now(self) -> None:
        """Step 7 of closing: nothing of the machine runs any more."""
        self._is_joined = True
        self._slots = None  # no task is left; and they know the machine, which would be a circle
        parent = self._parent
        if parent is not None and parent._children is not None:
            parent._children.pop(self, None)
            if self._is_started:
                parent._task_ended()
        if self._subscriptions is not None:
            subscribed = self._subscriptions.of((CLOSED,))
            waiters = [cast("Waiter[object]", one) for one in subscribed]
            for waiter in waiters:
                waiter._end(None, None)
            self._subscriptions = None  # nobody subscribes any more; and it knows the machine, which would be a circle
            self._wake(waiters)


# ---- What conditions look at ----------------------------------------------------------------------------------------


class _Active(Condition[Transition]):
    """Until all of its states are active."""

    __slots__ = ()

    _method = "when"

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        missing = self._mask & ~self._machine._active
        if missing:
            self._machine._still_missing(self, missing)
            return False
        return self._end(transition, None)


class _Inactive(Condition[Transition]):
    """Until none of its states is active."""

    __slots__ = ()

    _method = "when_not"

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        missing = self._mask & self._machine._active
        if missing:
            self._machine._still_missing(self, missing)
            return False
        return self._end(transition if removal is None or not transition._plan.target & self._mask else removal, None)


class _AnyActive(Condition[Transition]):
    """Until one of its states is active."""

    __slots__ = ()

    _method = "when_any"

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        return bool(self._machine._active & self._mask) and self._end(transition, None)


class _Reached(Condition[Transition]):
    """Until the tick of its state is as high as that."""

    __slots__ = ("_tick",)

    _method = "when_tick"

    def __init__(self, machine: Machine, mask: int, tick: int) -> None:
        super().__init__(machine, mask)
        self._tick = tick

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), str(self._tick)]

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        state = self._mask.bit_length() - 1
        reached = self._machine._ticks[state]
        if reached < self._tick:
            return False
        if removal is not None and reached - (removal._plan.moved >> state & 1) < self._tick:
            return self._end(removal, None)  # what a fault brought was the last step of it
        return self._end(transition, None)


class _Query(Asking[Transition]):
    """Until a predicate on the ticks is true."""

    __slots__ = ("_query",)

    _method = "when_query"

    def __init__(self, machine: Machine, query: Callable[[Ticks], bool]) -> None:
        super().__init__(machine, 0)
        self._query = query

    def _arguments(self) -> list[str]:
        return [name_of(self._query)]

    def _look(self, transition: Transition, removal: Transition | None) -> Transition | None:
        machine = self._machine
        if not transition._plan.moved or not machine._ask(self._query, transition.source, machine.ticks):
            return None
        return transition if removal is None else removal


class _Fitting(Asking[Transition]):
    """Until all of its states are active after a transition, made later, that fits."""

    __slots__ = ("_args", "_since", "_where")

    _method = "when"

    def __init__(
        self, machine: Machine, mask: int, where: Callable[[Transition], bool] | None, args: dict[str, object]
    ) -> None:
        super().__init__(machine, mask)
        self._where = where
        self._args = args
        self._since = machine._tick
        """The machine's tick when it was made: it does not look at a transition that was committed by then."""

    def _arguments(self) -> list[str]:
        where = [] if self._where is None else [f"where={name_of(self._where)}"]
        return [*super()._arguments(), *where, *(f"{name}=…" for name in self._args)]  # values may be secrets

    def _look(self, transition: Transition, removal: Transition | None) -> Transition | None:
        machine, mask = self._machine, self._mask
        if transition.tick <= self._since or machine._active & mask != mask:
            return None
        fits = machine._ask(_fits, transition.source, transition, mask, self._where, self._args)
        return transition if fits else None


class _Entering(Condition[T]):
    """Until its state enters, in a transition that was made later."""

    __slots__ = ("_since",)

    _method = "when_next"

    def __init__(self, machine: Machine, mask: int) -> None:
        super().__init__(machine, mask)
        self._since = machine._tick
        """As that of `_Fitting`."""

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        if transition.tick <= self._since or self._mask.bit_length() - 1 not in transition._plan.entering:
            return False
        return self._end(self._value_of(transition), None)

    def _value_of(self, transition: Transition) -> object:
        return transition


class _Erring(_Entering[Exception]):
    """Until its error state enters with an exception, which is what it gives."""

    __slots__ = ()

    _method = "when_error"

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        return transition.error is not None and super()._observe(transition, removal)

    def _value_of(self, transition: Transition) -> object:
        return transition.error


class _Turn(OfQueue[Executed | Canceled]):
    """Until a mutation that was queued has had its turn."""

    __slots__ = ("_result",)

    def __init__(self, machine: Machine, result: Executed | Canceled | Queued) -> None:
        super().__init__(machine)
        self._result = result

    def _outcome(self) -> Executed | Canceled | None:
        return self._result.outcome if isinstance(self._result, Queued) else self._result

    def _written(self, levels: int) -> str:
        return f"when_queue({self._result!r}) {of(self._reference)}"


class _Settled(OfQueue[Transition]):
    """Until the queue is empty."""

    __slots__ = ()

    def _outcome(self) -> Transition:
        machine = cast("Machine | None", self._reference())
        assert machine is not None  # it asks
        return machine.last_transition

    def _written(self, levels: int) -> str:
        return f"when_settled() {of(self._reference)}"


_MISSING = object()


def _fits(
    transition: CoreTransition, mask: int, where: Callable[[Transition], bool] | None, args: dict[str, object]
) -> bool:
    """Return whether a transition carries these values, as free keywords or as fields of the states' args, and fits."""
    plan = transition._plan
    states = [transition._definition.states[number] for number in members(mask & plan.touched)]
    instances = [transition.args_of(state) for state in states if state.args is not None]
    for name, wanted in args.items():
        values = [transition.args.get(name, _MISSING), *(getattr(instance, name, _MISSING) for instance in instances)]
        if not any(value is not _MISSING and value == wanted for value in values):
            return False
    return where is None or bool(where(cast("Transition", transition)))


def _check_predicate(predicate: object, written: str, what: str) -> None:
    if not callable(predicate) or is_async(predicate):
        raise TypeError(f"{written}: pass a sync function that takes {what} and returns a bool")


def _check_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: write a whole number, {least} or more")


protect(__name__)
