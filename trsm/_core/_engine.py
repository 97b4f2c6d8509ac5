"""The engine: a machine that needs no event loop, and the face that every machine shows.

It checks what is asked of it and hands it to the runner, which it inherits; the machine inherits the engine and adds
nursery, scopes, waiters and tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from threading import get_ident
from types import FunctionType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Never, cast

from trsm._core._arguments import fits
from trsm._core._bits import members, renumbered, union
from trsm._core._consensus import Kind, Request
from trsm._core._errors import MachineClosed, MutationError, ReadOnly, SchemaError, SnapshotError, listed
from trsm._core._groups import Group
from trsm._core._handlers import Table, table_of
from trsm._core._journal import Journal
from trsm._core._limits import checked_limits, checked_tags
from trsm._core._logging import logged
from trsm._core._mutation import (
    EXECUTED,
    Canceled,
    Cancellable,
    Mutation,
    Queued,
    QueuedMutation,
    Result,
)
from trsm._core._plan import OPENING, Plan
from trsm._core._runner import IDLE, READING, RUNNING, Refusal, Runner
from trsm._core._schema import Schema, SchemaMeta, missing_arguments, written_arguments
from trsm._core._source import CAUSE, Source, current_source, get_cause
from trsm._core._state import Call, Plain, State, States, is_async
from trsm._core._ticks import Ticks
from trsm._core._tracing import Observed, Tracer, checked_tracers
from trsm._core._transition import Transition

if TYPE_CHECKING:
    from trsm._core._reasons import Explanation

ADD, REMOVE, SET = Kind.ADD, Kind.REMOVE, Kind.SET
"""Looked up once: members of an enumeration are slow to reach in Python 3.11."""

PLAIN: type = State
"""What nearly all states are, which need not be looked at twice."""

ExplainKind = Literal["add", "remove", "set", "toggle", "mutate"]


class Binding:
    """What ``bind()`` and ``trace()`` return: detach it to take the handlers, or the tracer, off again."""

    __slots__ = ("_bound", "_detach", "_engine")

    def __init__(self, engine: Engine, bound: object, detach: Callable[[Engine, Any], None]) -> None:
        self._engine: Engine | None = engine
        self._bound: object = bound
        self._detach = detach

    def detach(self) -> None:
        """Take it off the machine. Doing so twice is fine; what runs already goes on.

        Where the same object was bound several times, the other bindings stay.

        Raises:
          ReadOnly, WrongThread: as for `Engine.bind`.
        """
        if self._engine is not None:
            self._detach(self._engine, self._bound)
            self._engine = self._bound = None

    def __repr__(self) -> str:
        if self._engine is None:
            return "<Binding, detached>"
        bound = self._bound
        name = bound.__name__ if isinstance(bound, (FunctionType, ModuleType)) else type(bound).__name__
        return f"<Binding of {name} to {self._engine.id!r}>"


class Engine(Runner):
    """A relational, clock-based state machine that needs no event loop.

    Mutations run in the caller, to completion, before they return: no task and no other mutation runs in between.
    Handlers are called; ``task`` handlers are ignored, and unhandled errors are raised, as an `ExceptionGroup`, from
    the outermost call once the engine has settled. A `Machine` is an engine with a nursery.

    Args:
      schema: the schema class.
      handlers: objects, modules and functions with handlers, as for `bind`.
      id: its name in messages. Default: the schema's name and a number.
      queue_limit: how many mutations may wait at once. Default 1000.
      drain_limit: how many transitions one outermost call may lead to. Default 10,000.
      handler_budget: seconds after which a handler is reported to tracers as slow. Default 0.1.
      tracers: `Tracer` objects.
      tags: words of yours, one or several. Default: none.
      log_args: the names of arguments whose values may be logged, see `LogTracer`. Default: none.
      snapshot: what `snapshot` returned, to go on from there. Default: none, nothing is active.

    Raises:
      TypeError: ``schema`` is no schema, ``id`` no string, ``tracers`` are none, or ``tags`` or ``log_args`` no words.
      HandlerError, UnknownState: a handler does not fit.
      ValueError: a limit is not positive.
      SnapshotError: ``snapshot`` is none, or not one of this schema; the message names the field.

    Example::

        door = trsm.Engine(Door)
        door.add(Door.Open)
        assert Door.Open in door
    """

    __slots__ = ()

    def __init__(
        self,
        schema: type[Schema],
        *handlers: object,
        id: str | None = None,
        queue_limit: int = 1000,
        drain_limit: int = 10_000,
        handler_budget: float = 0.1,
        tracers: Iterable[Tracer] = (),
        tags: str | Iterable[str] = (),
        log_args: Iterable[str] = (),
        snapshot: Mapping[str, object] | None = None,
    ) -> None:
        if not isinstance(schema, SchemaMeta):
            raise TypeError(f"{schema!r} is no schema: pass a class that inherits from trsm.Schema")
        limits = checked_limits(queue_limit, drain_limit, handler_budget)
        watching = logged(id, log_args, checked_tracers(tracers))
        self._start(schema, handlers, id, limits, watching, checked_tags(tags))
        if snapshot is not None:
            self._restore(snapshot)
        self._announce(Tracer.machine_opened)

    # ---- What it is -------------------------------------------------------------------------------------------------

    def is_active(self, *states: State[..., object]) -> bool:
        """Return whether all of these states are active.

        Raises:
          UnknownState: a state is not one of the schema.
          MutationError: no state was given, or something else than a state.
          WrongThread: called from another thread.
        """
        self._check_thread("is_active")
        mask = self._mask(states, "is_active")
        return self._active & mask == mask

    def is_inactive(self, *states: State[..., object]) -> bool:
        """Return whether none of these states is active. Raises as `is_active`."""
        self._check_thread("is_inactive")
        return not self._active & self._mask(states, "is_inactive")

    def any_active(self, *states: State[..., object]) -> bool:
        """Return whether at least one of these states is active. Raises as `is_active`."""
        self._check_thread("any_active")
        return bool(self._active & self._mask(states, "any_active"))

    def __contains__(self, state: State[..., object]) -> bool:
        return self.is_active(state)

    def which(self, group: Group) -> State[..., object] | None:
        """Return the first state of a group that is active, in the order of the group; None if none is.

        Raises:
          TypeError: it is no `Group`.
          UnknownState: its states are not of the schema.
          WrongThread: called from another thread.
        """
        self._check_thread("which")
        if not isinstance(group, Group):
            raise TypeError(f"which({group!r}): pass a group, declared as Group(…) or exclusive(…) in the schema")
        numbers = [self._definition.number(state, "which") for state in group.states]
        return next((self._definition.states[number] for number in numbers if self._active >> number & 1), None)

    def tick(self, state: State[..., object]) -> int:
        """Return the tick of a state: odd while it is active. Raises as `is_active`."""
        self._check_thread("tick")
        return self._ticks[self._definition.number(state, "tick")]

    @property
    def ticks_at_close(self) -> Ticks | None:
        """The ticks when closing began, before the last mutation deactivated what was active; None before that."""
        at_close = self._ticks_at_close
        if isinstance(at_close, tuple):
            journal, place = at_close
            at_close = self._ticks_at_close = Ticks(journal.definition, journal.at(place))
        return at_close

    @property
    def active_states(self) -> tuple[State[..., object], ...]:
        """The active states in declaration order. Reading raises `WrongThread` in another thread."""
        self._check_thread("active_states", is_read=True)
        return States(self._definition.states[number] for number in members(self._active))

    @property
    def error(self) -> Exception | None:
        """The latest exception that activated ``Error``, until ``Error`` leaves; None then."""
        self._check_thread("error", is_read=True)
        return self._error

    @property
    def last_transition(self) -> Transition:
        """The last transition that was executed; opening counts as one. A canceled mutation leaves none."""
        self._check_thread("last_transition", is_read=True)
        return self._newest()

    def __str__(self) -> str:
        return f"({' '.join(f'{name}:{self._ticks[number]}' for number, name in self._active_names())})"

    def _active_names(self) -> list[tuple[int, str]]:
        return [(number, self._definition.relations.names[number]) for number in members(self._active)]

    def __repr__(self) -> str:
        error = 1 << self._definition.error
        plain = " ".join(
            f"{name}:{self._ticks[number]}" for number, name in self._active_names() if 1 << number != error
        )
        parts = [f"{type(self).__name__} {self.id!r} ({plain})"]
        if self._active & error:
            parts.append(f"[Error:{self._ticks[self._definition.error]}]")
        waiting = len(self._waiting())
        if waiting:
            parts.append(f"queue={waiting}")
        if self.closed:
            parts.append("closed")
        return f"<{' '.join(parts)}>"

    def describe(self) -> str:
        """Return what is going on, in lines for a person: states and ticks, what holds them, the queue, and more.

        It looks at every state, and asks nothing of handlers. Raises `WrongThread` in another thread.
        """
        self._check_thread("describe")
        return "\n".join(self._described())

    def _described(self) -> list[str]:
        relations = self._definition.relations
        active = [f"  {name}:{self._ticks[number]}{self._holds(number)}" for number, name in self._active_names()]
        idle = [
            f"{name}:{self._ticks[number]}" if self._ticks[number] else name
            for number, name in enumerate(relations.names)
            if not self._active >> number & 1
        ]
        tags = f", tagged {listed(self._tags)}" if self._tags else ""
        lines = [f"{type(self).__name__} {self.id!r} on {self._definition.name}{tags}, at transition {self._tick}"]
        if self._closing:
            lines[0] += ", closed" if self.closed else ", closing"
        lines += ["active:", *active] if active else ["active: none"]
        lines.append(f"inactive: {' '.join(idle) or 'none'}")
        if self._error is not None:
            lines.append(f"error: {self._error!r}")
        if self._waiting():
            lines.append("queue:")
            for one in self.queue:
                lines.append(f"  {one!s}")
        return lines

    def _holds(self, number: int) -> str:
        """Return what the relations of an active state do now."""
        relations, active = self._definition.relations, self._active
        parts: list[str] = []
        flags = [flag for flag in ("auto", "multi", "latch") if getattr(relations, flag) >> number & 1]
        if flags:
            parts.append(" ".join(flags))
        for words, mask in (
            ("requires", relations.require[number]),
            ("is required by", relations.required_by[number] & active),
            ("keeps out", relations.remove[number]),
        ):
            if mask:
                parts.append(f"{words} {listed(relations.named(mask))}")
        return f" ({'; '.join(parts)})" if parts else ""

    # ---- Handlers ---------------------------------------------------------------------------------------------------

    def bind(self, bound: object) -> Binding:
        """Add the handlers of an object, a module or a function; they run after those bound before.

        Nothing is replayed for states that are active already.

        Args:
          bound: an object whose class has handlers, a module that defines some, or a function that is one.

        Returns:
          A `Binding`, to take them off again.

        Raises:
          HandlerError: it has no handlers, or one of them cannot be what it is marked as.
          UnknownState: a handler is for a state that the schema does not have.
          ReadOnly: called from a negotiation handler or a predicate of this machine.
          WrongThread: called from another thread.
        """
        self._rebind((*self._bound, bound), "bind")
        return Binding(self, bound, Engine._unbind)

    def detach(self, bound: object) -> None:
        """Take off the handlers of an object that was bound; nothing happens if it is not.

        Raises:
          ReadOnly, WrongThread: as for `bind`.
        """
        self._rebind(tuple(one for one in self._bound if one is not bound), "detach")

    def trace(self, tracer: Tracer) -> Binding:
        """Attach a tracer, which is told of all that happens from now on; ``detach()`` of what is returned ends it.

        Attached in a handler, it hears of the rest of that transition too. Detaching is fine anywhere, also in the
        tracer itself: the others are told as before.

        Raises:
          TypeError: it is no `Tracer`.
          ReadOnly, WrongThread: as for `bind`.
        """
        if not isinstance(tracer, Tracer):
            raise TypeError(f"trace({tracer!r}): pass an instance of a class that inherits from trsm.Tracer")
        self._check_may_change("trace")
        self._tracers = (*self._tracers, tracer)
        self._retable(table_of(self._definition, self._bound))
        self._tell((tracer,), Tracer.machine_opened)
        self._catch_up()
        return Binding(self, tracer, Engine._untrace_once)

    def _untrace_once(self, tracer: Tracer) -> None:
        """Take off one attachment of a tracer: the last, if there are several."""
        self._check_thread("detach")
        places = [place for place, one in enumerate(self._tracers) if one is tracer][-1:]
        self._keep_tracers(tuple(one for place, one in enumerate(self._tracers) if place not in places))

    def _unbind(self, bound: object) -> None:
        """Take off one binding of an object: the last, if there are several."""
        places = [place for place, one in enumerate(self._bound) if one is bound][-1:]
        self._rebind(tuple(one for place, one in enumerate(self._bound) if place not in places), "detach")

    def break_on(
        self,
        *,
        added: State[..., object] | Iterable[State[..., object]] = (),
        removed: State[..., object] | Iterable[State[..., object]] = (),
        call: Callable[[Transition], object] | None = None,
    ) -> Binding:
        """Stop in the debugger when a transition activates, or deactivates, one of these states.

        ``breakpoint()`` is called right after the commit, before any final handler. The machine can be looked at there,
        and not changed. What `call` raises is logged, and it is called no more.

        Args:
          added: a state, or several: stop when one of them activates, or a multi one is called again.
          removed: a state, or several: stop when one of them leaves.
          call: a sync function of the transition, called in place of ``breakpoint()``.

        Returns:
          A `Binding`; ``detach()`` takes it off.

        Raises:
          MutationError: neither `added` nor `removed` names a state.
          TypeError: `call` is no sync function.
          UnknownState, ReadOnly, WrongThread: as for `bind`.

        Example::

            machine.break_on(added=Link.Broken, call=lambda t: print(t.describe_cause()))
        """
        self._check_may_change("break_on")
        comes, goes = _several(added), _several(removed)
        if not comes and not goes:
            raise MutationError("break_on() names no state: write added=…, removed=… or both")
        if call is not None and (not callable(call) or is_async(call)):
            raise TypeError(f"break_on(…, call={call!r}): pass a sync function that takes the transition")
        return self.trace(
            _Breakpoint(
                self._mask(comes, "break_on(added=…)") if comes else 0,
                self._mask(goes, "break_on(removed=…)") if goes else 0,
                call,
            )
        )

    def _check_may_change(self, doing: str) -> None:
        self._check_thread(doing)
        if self._phase == READING:
            # The plan that is being asked about holds places among what is bound now.
            raise ReadOnly(self._read_only(doing))

    def _rebind(self, bound: tuple[object, ...], doing: str) -> None:
        self._check_may_change(doing)
        table = table_of(self._definition, bound)
        self._bound = bound
        self._retable(table)

    # ---- The queue, to look at --------------------------------------------------------------------------------------

    def _waiting(self) -> tuple[Mutation, ...]:
        return (*(self._firsts or ()), *(self._queue or ()))

    @property
    def queue(self) -> tuple[QueuedMutation, ...]:
        """What waits for its turn, in that order: a picture. Outside of transitions it is empty.

        Errors, which go ahead of it all, are not among it. Reading raises `WrongThread` in another thread.
        """
        self._check_thread("queue", is_read=True)
        return tuple(self._shown(mutation) for mutation in self._waiting())

    def will_be(self, *states: State[..., object]) -> bool:
        """Return whether what is queued asks for all of these states to be active.

        For each state the last queued mutation that says anything of it decides; what relations will bring or refuse
        is not foreseen. A ``set`` speaks of every state but active latched ones; a ``toggle`` of those that it names,
        judged by what is active now and what is queued before it. False where nothing that is queued speaks of a
        state, active or not.

        Raises:
          UnknownState, MutationError, WrongThread: as for `is_active`.
        """
        mask = self._mask(states, "will_be")
        self._check_thread("will_be")
        return self._foreseen()[0] & mask == mask

    def will_be_removed(self, *states: State[..., object]) -> bool:
        """Return whether what is queued asks for all of these states to go. Otherwise as `will_be`."""
        mask = self._mask(states, "will_be_removed")
        self._check_thread("will_be_removed")
        return self._foreseen()[1] & mask == mask

    def _foreseen(self) -> tuple[int, int]:
        """Return the states that what is queued asks to come, and those that it asks to go."""
        everything = (1 << len(self._definition.states)) - 1
        comes = goes = 0
        for mutation in self._waiting():
            request = mutation.request
            expected = self._active & ~goes | comes
            if request is None:
                are_all = expected & mutation.toggle == mutation.toggle
                called, dropped = (0, mutation.toggle) if are_all else (mutation.toggle, 0)
            else:
                called, dropped = request.called, request.dropped
                if request.kind is SET:
                    dropped = everything & ~called & ~(expected & self._definition.relations.latch)
            comes, goes = comes & ~dropped | called, goes & ~called | dropped
        return comes, goes

    # ---- Asking -----------------------------------------------------------------------------------------------------

    def add(
        self,
        /,
        *states: Plain | Call[object],
        first: bool = False,
        scope: Cancellable | None = None,
        **args: object,
    ) -> Result:
        """Activate these states and what they bring, if the relations and everyone asked agree.

        It runs now, and everything that follows from it, before it returns; made inside a transition it is queued.
        No checkpoint; it never blocks, and never cancels its caller but by removing the caller's own state.

        Args:
          states: states, or calls such as ``X.Foo(url=…)`` where a state has an args class.
          first: if it is queued, run it ahead of the others. Default False.
          scope: skip it if this cancel scope is cancelled before its turn. Default: none.
          args: free keywords, which handlers find in ``t.args``.

        Returns:
          `Executed`, `Canceled` (with a ``reason``) or `Queued`. False when canceled.

        Raises:
          UnknownState: a state is not one of the schema.
          MutationError: no state was given, or one without the arguments it needs; `scope` is none; `first` is no bool,
            where it is queued.
          ReadOnly: called from a negotiation handler or a predicate of this machine.
          QueueFull: called in a transition while ``queue_limit`` mutations wait.
          WrongThread: called from another thread.

        Example::

            if not machine.add(Door.Open, card=42):
                print(machine.explain("add", Door.Open))
        """
        # Word for word what `_submit` begins with: the frame of that call would be a sixth of what an `add` costs.
        plans = self._calls
        try:
            plan = plans[self._active, ADD, states]
        except (KeyError, TypeError):
            plan = None  # nothing is done here: it would be the context of what handlers raise
        cause = get_cause()
        if (
            plan is None
            or self._phase != IDLE
            or args
            or scope is not None
            or not (cause is None or isinstance(cause, Source))
            or get_ident() != self._thread
        ):
            return self._submit(ADD, states, first, scope, args)
        if not plan.is_quiet or plan.touched & self._watched:
            return self._run(plan, cause, plans)
        journal = self._journal
        if journal is None or len(journal.plans) >= journal.size:
            journal = self._page()
        if cause is not None:
            journal.note(cause)
        if plan.active != self._active or plans is not self._calls or journal is not self._journal:
            return self._submit(ADD, states, first, scope, args)  # it has changed meanwhile: see `_run`
        self._active = plan.target
        journal.plans.append(plan)
        return EXECUTED

    def remove(
        self, /, *states: State[..., object], first: bool = False, scope: Cancellable | None = None, **args: object
    ) -> Result:
        """Deactivate these states and what requires them. Parameters, results and errors as for `add`."""
        return self._submit(REMOVE, states, first, scope, args)

    def set(
        self,
        /,
        *states: Plain | Call[object],
        first: bool = False,
        scope: Cancellable | None = None,
        **args: object,
    ) -> Result:
        """Make these states and what they bring the only active ones. Parameters, results and errors as for `add`."""
        return self._submit(SET, states, first, scope, args)

    def toggle(
        self,
        /,
        *states: Plain | Call[object],
        first: bool = False,
        scope: Cancellable | None = None,
        **args: object,
    ) -> Result:
        """Remove these states if all are active when its turn comes, else add them all. Otherwise as `add`."""
        if self._phase == IDLE and scope is None and get_ident() == self._thread:
            # Its turn is now: of states that were added before, as they are written here, it is one of those two.
            try:
                called = self._definition.asked[ADD][states].called
            except (KeyError, TypeError):
                pass
            else:
                kind = REMOVE if self._active & called == called else ADD
                return self._submit(kind, states, first, scope, args)
        called, calls = self._called(states, "toggle")
        if calls is None and not any(self._definition.states[number]._args for number in members(called)):
            self._remember(ADD, states, self._definition.request(ADD, called))
        mutation = Mutation(None, toggle=called, args=args or None, calls=calls, scope=scope)
        return self._submit_mutation(mutation, first)

    def mutate(
        self,
        /,
        *states: Never,
        add: Plain | Call[object] | Iterable[Plain | Call[object]] = (),
        remove: State[..., object] | Iterable[State[..., object]] = (),
        first: bool = False,
        scope: Cancellable | None = None,
        **args: object,
    ) -> Result:
        """Add and remove states in one atomic mutation: all of it happens, or none. Otherwise as `add`.

        Args:
          states: none; they are named by `add` and `remove`.
          add: a state or a call, or several.
          remove: a state, or several.

        Raises:
          MutationError: also if one state is both added and removed.
        """
        if states:
            raise MutationError(f"mutate({', '.join(map(str, states))}) does not say what with: write add=…, remove=…")
        request, calls = self._both(add, remove)
        mutation = Mutation(request, args=args or None, calls=calls, scope=scope)
        return self._submit_mutation(mutation, first)

    def add_error(self, error: Exception, state: State[..., object] | None = None) -> Result:
        """Activate ``Error``, and every `ErrorState` that catches this exception, as if a handler had raised it.

        Args:
          error: the exception.
          state: an `ErrorState` that takes all of it, whatever it says it catches. Only its ``can_enter`` may refuse.
            Default: none.

        Returns:
          As `add`; it is never refused by a full queue. If nothing handles it, the machine closes. On a machine that
          is closing it is canceled, and the error joins those that leave the block; when that has been left, and on a
          closed engine, it is only canceled: nobody is there to hear of it.

        Raises:
          TypeError: it is no `Exception`: nothing, `BaseException` and cancellation are never errors.
          ValueError: `state` is no `ErrorState`.
          UnknownState, MutationError, ReadOnly, WrongThread: as for `add`.
        """
        if not isinstance(error, Exception):
            raise TypeError(
                f"add_error({error!r}): only an Exception can become a state; let everything else propagate"
            )
        number = self._error_state(state, "add_error")
        self._check_may_change("add_error")
        if self._closing:
            self._late_error(error)
            return Canceled(self._closing_reason())
        if self._phase == RUNNING:
            queued = Queued(self._queue_tick, self._reference)
            self._fault(error, current_source(), number, queued)
            return queued
        self._fault(error, current_source(), number)
        self._drain(None)
        return EXECUTED

    def _error_state(self, state: State[..., object] | None, doing: str) -> int:
        if state is None:
            return -1
        number = self._definition.number(state, doing)
        if number not in dict(self._definition.catches):
            raise ValueError(f"{doing}: {state} is no ErrorState, and so takes no exception: leave state= out")
        return number

    def errors_to_state(self, state: State[..., object] | None = None) -> AbstractContextManager[None, bool]:
        """Return a context manager that makes an `Exception` out of its block an error of this machine.

        The exception goes to `add_error` and is swallowed; the code after the block goes on. Whatever else leaves the
        block (cancellation, Ctrl-C) passes, and so does the `MachineClosed` of this very machine, which is no error of
        it. A group is split accordingly. Everything passes once the machine has ended, so that no error is lost. It may
        be used any number of times.

        Args:
          state: as for `add_error`.

        Raises:
          ValueError, UnknownState, MutationError, ReadOnly, WrongThread: as for `add_error`, before the block.

        Example::

            with machine.errors_to_state():
                settings = parse(text)
        """
        self._check_thread("errors_to_state")
        number = self._error_state(state, "errors_to_state")
        return _ErrorsToState(self, None if number < 0 else self._definition.states[number])

    def can_add(self, /, *states: Plain | Call[object], **args: object) -> bool:
        """Return whether `add` would be executed now: relations and negotiation handlers are asked, nothing changes.

        Asked from inside a negotiation handler it answers by relations only. A handler that raises raises here.

        Raises:
          UnknownState, MutationError, WrongThread: as for `add`.
        """
        called, calls = self._called(states, "can_add")
        self._check_arguments(called, calls, "can_add")
        self._check_thread("can_add")
        return self._would(Mutation(self._definition.request(Kind.ADD, called), args=args or None, calls=calls))

    def can_remove(self, /, *states: State[..., object], **args: object) -> bool:
        """Return whether `remove` would be executed now. Otherwise as `can_add`."""
        dropped = self._mask(states, "can_remove")
        self._check_thread("can_remove")
        return self._would(Mutation(self._definition.request(Kind.REMOVE, 0, dropped), args=args or None))

    def explain(
        self,
        kind: ExplainKind,
        *states: State[..., object] | Call[object],
        add: State[..., object] | Call[object] | Iterable[State[..., object] | Call[object]] = (),
        remove: State[..., object] | Iterable[State[..., object]] = (),
    ) -> Explanation:
        """Return what a mutation would do now, and the reason of every state that would not come or stay.

        Handlers are asked as `can_add` does; nothing changes.

        Args:
          kind: ``"add"``, ``"remove"``, ``"set"``, ``"toggle"`` or ``"mutate"``.
          states: the states of all kinds but ``"mutate"``.
          add, remove: the states of ``"mutate"``.

        Returns:
          An `Explanation`: true if the mutation would be executed, and a text in sentences.

        Raises:
          UnknownState, MutationError, WrongThread: as for `add`.
        """
        calls: dict[int, object] | None = None
        if kind == "mutate":
            if states:
                raise MutationError('explain("mutate", …): write add=… and remove=…')
            request, calls = self._both(add, remove, check=False)
        elif kind not in ("add", "remove", "set", "toggle"):
            raise MutationError(f'explain({kind!r}): write "add", "remove", "set", "toggle" or "mutate"')
        elif _several(add) or _several(remove):
            raise MutationError(f'explain("{kind}", …): add=… and remove=… go with "mutate" only')
        elif kind == "remove":
            request = self._definition.request(Kind.REMOVE, 0, self._mask(states, 'explain("remove")'))
        else:
            called, calls = self._called(states, f'explain("{kind}")')
            if kind == "toggle":
                request = self._toggled(called)
            else:
                request = self._definition.request(Kind.ADD if kind == "add" else Kind.SET, called)
        self._check_thread("explain")
        if self._has_begun_to_close:
            from trsm._core._reasons import Explanation, describe

            return Explanation(
                False, (), f"{describe(self._definition.relations, request)} is refused: {self._closing_reason()}."
            )
        plan = self._plan(request)
        refusal = (
            None if self._phase == READING or not plan.accepted else self._asked(plan, Mutation(request, calls=calls))
        )
        return self._explained(self._definition, request, self._active, refusal)

    def _asked(self, plan: Plan, mutation: Mutation) -> Refusal | None:
        """Ask the negotiation handlers of a dry run; an exception goes to the caller."""
        if not plan.negotiation:
            return None
        mutation.source = current_source()
        transition = self._new_transition(plan, mutation)
        transition.dry_run = True
        running, outer = self._running, self._transition
        token = CAUSE.set(CAUSE.get())
        try:
            refusal = self._transact(plan, transition)
        finally:
            CAUSE.reset(token)
            self._running, self._transition = running, outer
        self._catch_up()
        assert refusal is None or isinstance(refusal, Refusal)  # nothing else comes of a dry run
        error = None if refusal is None else refusal.take()
        if error is None:
            return refusal
        try:
            raise error
        finally:
            del error  # a traceback that knows its own frame would be cyclic garbage

    def _would(self, mutation: Mutation) -> bool:
        if self._has_begun_to_close:
            return False
        assert mutation.request is not None  # can_add and can_remove make requests, never toggles
        plan = self._plan(mutation.request)
        return plan.accepted and (self._phase == READING or self._asked(plan, mutation) is None)

    # ---- Checking what was asked ------------------------------------------------------------------------------------

    def _names_none(self, doing: str) -> MutationError:
        call = doing if doing.endswith(")") else f"{doing}()"
        return MutationError(
            f"{call} names no state: write at least one, such as {self._definition.states[0].qualified_name}"
        )

    def _mask(self, states: tuple[Any, ...], doing: str) -> int:
        if not states:
            raise self._names_none(doing)
        mask = 0
        numbers = self._definition.numbers
        for state in states:
            if type(state) is PLAIN and state in numbers:
                mask |= 1 << numbers[state]
                continue
            mask |= 1 << self._definition.number(state, doing)
        return mask

    def _called(self, states: tuple[object, ...], doing: str) -> tuple[int, dict[int, object] | None]:
        """Return called states as a mask, and the arguments of those that were called with some."""
        if not states:
            raise self._names_none(doing)
        mask = 0
        calls: dict[int, object] = {}
        for value in states:
            state: object = value
            if isinstance(value, Call):
                call = cast("Call[object]", value)
                state = call.state
                number = self._definition.number(state, doing)
                if number in calls:
                    raise MutationError(
                        f"{doing}: {call.state} is called twice with arguments: make two mutations of it"
                    )
                make = self._definition.states[number]._args
                if isinstance(make, type) and not fits(call.args, make):
                    raise MutationError(
                        f"{doing}: {call.state} takes {make.__name__}, and this call carries {call.args!r}: write "
                        f"{call.state.qualified_name}(…)"
                    )
                if make is not None:
                    calls[number] = call.args
            else:
                number = self._definition.number(state, doing)
            mask |= 1 << number
        return mask, calls or None

    def _check_arguments(self, called: int, calls: dict[int, object] | None, doing: str) -> None:
        for number in members(called):
            state = self._definition.states[number]
            if state._args is None or (calls is not None and number in calls):
                continue
            missing = missing_arguments(state._args)
            if missing:
                raise MutationError(
                    f"{doing}({state}): {state} needs {listed(missing)}: write {state.qualified_name}"
                    f"({written_arguments(state._args)})"
                )

    def _both(self, add: object, remove: object, *, check: bool = True) -> tuple[Request, dict[int, object] | None]:
        added, removed = _several(add), _several(remove)
        if not added and not removed:
            raise MutationError("mutate() names no state: write add=…, remove=… or both")
        called, calls = self._called(added, "mutate(add=…)") if added else (0, None)
        dropped = self._mask(removed, "mutate(remove=…)") if removed else 0
        if called & dropped:
            both = listed(self._definition.relations.named(called & dropped))
            raise MutationError(f"mutate(…): {both} cannot be added and removed at once: leave out one of the two")
        if check:
            self._check_arguments(called, calls, "mutate")
        return self._definition.request(Kind.MUTATE, called, dropped), calls

    def _request(self, kind: Kind, states: tuple[object, ...]) -> tuple[Request, dict[int, object] | None]:
        """Check what a mutation was given, and remember it if it was plain states."""
        doing = kind.name.lower()
        if kind is Kind.REMOVE:
            calls = None
            request = self._definition.request(kind, 0, self._mask(states, doing))
        else:
            called, calls = self._called(states, doing)
            self._check_arguments(called, calls, doing)
            request = self._definition.request(kind, called)
        if calls is None:
            self._remember(kind, states, request)
        return request, calls

    def _remember(self, kind: Kind, states: tuple[object, ...], request: Request) -> None:
        """Remember what a mutation was given, if it was states of the schema, and as the schema has them."""
        if self._definition.numbers.keys() >= set(states):
            asked = self._definition.asked[kind]
            if len(asked) >= 1024:
                asked.clear()
            asked[states] = request

    # ---- The queue --------------------------------------------------------------------------------------------------

    def _submit(
        self, kind: Kind, states: tuple[object, ...], first: bool, scope: Cancellable | None, args: dict[str, object]
    ) -> Result:
        plans = self._calls
        try:
            plan = plans[self._active, kind, states]
        except (KeyError, TypeError):
            plan = None  # not asked before, or something that cannot be hashed and so is no state: see below
        cause = get_cause()
        if (
            plan is not None
            and self._phase == IDLE
            and not args
            and scope is None
            and (cause is None or isinstance(cause, Source))
            and get_ident() == self._thread
        ):
            if not plan.is_quiet or plan.touched & self._watched:
                return self._run(plan, cause, plans)
            # Nobody looks, nobody is called and nothing follows: what is left of section 5 is the commit.
            journal = self._journal
            if journal is None or len(journal.plans) >= journal.size:
                journal = self._page()
            if cause is not None:
                journal.note(cause)
            if plan.active != self._active or plans is not self._calls or journal is not self._journal:
                return self._submit(kind, states, first, scope, args)  # it has changed meanwhile: see `_run`
            self._active = plan.target
            journal.plans.append(plan)
            return EXECUTED
        calls: dict[int, object] | None = None
        try:
            request = self._definition.asked[kind][states]
        except (KeyError, TypeError):
            request = None
        if request is None:
            request, calls = self._request(kind, states)
        if (
            plan is None
            and states in self._definition.asked[kind]
            and not self._closing
            and get_ident() == self._thread  # in another one, what is active may change while the plan is made
        ):
            # Of the table as it is now, whatever is bound meanwhile: others share it.
            table, active = self._table, self._active
            table.remember(active, kind, states, table.plans.get((active, request)) or table.plan(active, request))
        return self._submit_mutation(Mutation(request, args=args or None, calls=calls, scope=scope), first)

    def _submit_mutation(self, mutation: Mutation, first: bool) -> Result:
        doing = "toggle" if mutation.request is None else mutation.request.kind.name.lower()
        self._check_thread(doing)
        if self._phase == READING:
            raise ReadOnly(self._read_only(doing))
        if mutation.scope is not None and not isinstance(getattr(mutation.scope, "cancel_called", None), bool):
            raise MutationError(f"{doing}(scope={mutation.scope!r}): pass a cancel scope, or leave scope out")
        if mutation.request is None and (self._phase == RUNNING or mutation.toggle & ~self._active):
            # One that is queued may come to add, whatever is active now.
            self._check_arguments(mutation.toggle, mutation.calls, "toggle")
        if self._has_begun_to_close:
            return Canceled(self._closing_reason())
        mutation.source = current_source()
        if self._phase == RUNNING:
            return self._enqueue(mutation, first)
        return self._drain(mutation)

    # ---- Another schema ---------------------------------------------------------------------------------------------

    def extend_schema(self, schema: type[Schema]) -> None:
        """Give the machine a schema that inherits its present one: ticks are kept, and new states are inactive.

        Nothing is mutated: what the new schema would bring by itself comes with the next mutation. Handlers stay bound,
        waiters, scopes and tasks go on, and transitions that were made before keep the schema they were made on. An
        active state that had no ``timeout`` and now has one is given all of it from now on; a deadline that runs stays,
        unless the state has no timeout any more.

        Args:
          schema: a schema class that inherits ``machine.schema``.

        Raises:
          TypeError: it is no schema.
          SchemaError: it does not inherit the present one, declares a state of it anew, or has relations that the
            active states would break.
          MutationError: called in a transition.
          HandlerError: a handler that is bound does not fit any more.
          MachineClosed: the machine is closing or closed.
          ReadOnly, WrongThread: as for `add`.

        Example::

            class Audited(Shop):
                Audit = State(require=Shop.Paid)

            machine.extend_schema(Audited)
            machine.add(Audited.Audit)
        """
        self._check_may_change("extend_schema")
        if not isinstance(schema, SchemaMeta):
            raise TypeError(f"extend_schema({schema!r}): pass a class that inherits {self._schema.__name__}")
        if self._closing:
            raise MachineClosed(f"extend_schema({schema.__name__}): {self._closing_reason()}", self)
        if self._phase != IDLE:
            raise MutationError(
                f"extend_schema({schema.__name__}) in a transition, which is of the present schema to its end: call it "
                "when the mutation has returned, or in a task"
            )
        places = self._places(schema)
        active = renumbered(self._active, places)
        from trsm._core._snapshots import broken  # not before: few programs need it, and all would wait for it

        found = broken(schema._definition, active)
        if found is not None:
            name, why = found
            raise SchemaError(f"extend_schema({schema.__name__}): {name} is active, and {why}: remove it first")
        self._become(schema, places, active, table_of(schema._definition, self._bound))

    def _places(self, schema: type[Schema]) -> list[int]:
        """Return the number of each state in a schema that is to take the place of the present one."""
        before, definition = self._schema, schema._definition
        if schema is before:
            raise SchemaError(f"extend_schema({schema.__name__}): that is its schema already")
        if not issubclass(schema, before):
            raise SchemaError(
                f"extend_schema({schema.__name__}): {schema.__name__} does not inherit {before.__name__}, the schema "
                f"of machine {self.id!r}: write class {schema.__name__}({before.__name__})"
            )
        for state in self._definition.states:
            if state._lineage not in definition.numbers:
                raise SchemaError(
                    f"extend_schema({schema.__name__}): {schema.__name__} declares {state} anew, so that "
                    f"{state.qualified_name} would be gone: write {state} = {state.qualified_name}.extend(…)"
                )
        return [definition.numbers[state._lineage] for state in self._definition.states]

    def _become(self, schema: type[Schema], places: list[int], active: int, table: Table) -> None:
        # Entries of the journal are of the present schema, which transitions know and they do not.
        self._newest()
        began = self._began
        for number in range(len(began)):
            entry = began[number]  # making one may have made others
            if isinstance(entry, tuple):
                self._transition_of(entry)
        before, definition = self._schema, schema._definition
        ticks = [0] * len(definition.states)
        for number, tick in zip(places, self._ticks, strict=True):
            ticks[number] = tick
        self._began = [None for _ in ticks]
        for number, began_by in zip(places, began, strict=True):
            self._began[number] = began_by
        self._id = self.id  # a default one is made of the schema's name
        self._schema, self._definition = schema, definition
        self._journal = Journal(definition, self._reference, self.id, tuple(ticks), self._tick)
        self._counts, self._counted, self._active = ticks, 0, active
        self._retable(table)
        self._renumber(places, before)
        self._announce(Tracer.schema_changed, before)

    def _renumber(self, places: list[int], before: type[Schema]) -> None:
        """Called when the machine has another schema, in which state i of the one before is ``places[i]``."""

    # ---- Snapshots --------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, object]:
        """Return what the machine is now, as plain data ready for JSON; ``snapshot=`` of `open_machine` restores it.

        It holds all ticks, the args instances that active states were called with (of a multi state, by the call that
        began the instance), what is left of timeouts, and the type and text of ``machine.error``. Default arguments
        that somebody has read are held too, if they are plain data. Of multi states with tasks it holds each activation
        whose tasks have not ended, with its arguments or its error: a machine starts the tasks of just these again.
        Handlers, free keywords and children are not part of it: what a restarted task needs belongs in its state's
        args class.

        Raises:
          SnapshotError: in a transition, or while something is queued; on a machine that is closing or closed; an args
            instance that was passed is not of an attrs class or dataclass, or a field of it is nothing that JSON gives
            back as it was.
          WrongThread: called from another thread.

        Example::

            path.write_text(json.dumps(machine.snapshot()))
            ...
            async with trsm.open_machine(Job, snapshot=json.loads(path.read_text())) as machine:
                ...
        """
        self._check_thread("snapshot")
        if self._closing:
            raise SnapshotError(f"snapshot: {self._closing_reason()}, and its states have left: take it before")
        if self._phase != IDLE or self._queue or self._firsts or self._faults:
            raise SnapshotError(
                f"snapshot of machine {self.id!r} in a transition, which is half of something: take it when the "
                "mutation has returned, or in a task"
            )
        began = {number: self._beginning(number) for number in members(self._active)}
        from trsm._core._snapshots import taken

        unfinished, left = self._unfinished(), self._seconds_left()
        return taken(self._definition, self._tick, self._ticks, began, unfinished, left, self._error)

    def _restore(self, snapshot: Mapping[str, object]) -> None:
        """Become what a snapshot says; nothing is mutated, and no handler is called."""
        definition = self._definition
        from trsm._core._snapshots import read_snapshot

        restored = read_snapshot(definition, snapshot)
        self._journal = Journal(definition, self._reference, self.id, tuple(restored.ticks), restored.tick)
        self._counts, self._active = restored.ticks, restored.active
        self._error = restored.error
        self._began = [None for _ in restored.ticks]
        errors = restored.active & definition.errors
        # Before the transitions that stand for the beginnings, so that those are what is noted.
        for number, activations in restored.activations.items():
            for calls, error in activations:
                self._reopen(1 << number, calls, error, 1 << number)
        tasked = restored.active & ~union(1 << number for number in restored.activations)
        # Those that came with an error find it in their transition; the others have none.
        last = self._reopen(restored.active & ~errors, restored.calls, None, tasked)
        self._reopen(errors, restored.calls, restored.error, tasked)
        self._last = last
        self._time_restored(restored.left)

    def _reopen(self, entering: int, calls: dict[int, object], error: Exception | None, tasked: int) -> Transition:
        """Let a transition stand for those that began these instances, in the machine that was; start these tasks."""
        order = self._definition.relations.in_order(entering)
        table = self._table.tasks
        tasks = tuple((number, table[number]) for number in order if number in table and tasked >> number & 1)
        plan = Plan(OPENING, self._active, accepted=True, target=self._active, entering=order, began=order, tasks=tasks)
        transition = self._new_transition(plan, Mutation(OPENING, calls=calls or None, error=error))
        for number in order:
            self._began[number] = transition
        self._reopened(plan, transition)
        return transition

    def _unfinished(self) -> dict[int, list[Transition]]:
        """Return the transitions of unfinished activations, of each active multi state that has tasks.

        An engine runs none.
        """
        return {}

    def _seconds_left(self) -> dict[int, float | None]:
        """Return what is left of the timeouts of active states, in the order in which they end; None for one that is
        over. An engine has no clock.
        """
        return {}

    def _reopened(self, plan: Plan, transition: Transition) -> None:
        """Called when a restore has made states active."""

    def _time_restored(self, left: Mapping[int, float | None]) -> None:
        """Called at the end of a restore, with what was left of timeouts."""

    # ---- Closing ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close: cancel what is queued, then deactivate every state, latched ones too; every ``on_exit`` runs.

        Sync and idempotent. Made in a transition, it runs after it. From then on mutations are canceled, with that
        reason, and ``ticks_at_close`` holds the ticks as they were.

        Raises:
          ReadOnly: called from a negotiation handler or a predicate of this machine.
          WrongThread: called from another thread.
        """
        if get_ident() != self._thread:
            self._check_thread("close")
        if self._phase == READING:
            raise ReadOnly(self._read_only("close"))
        self._want_close(current_source())


class _ErrorsToState:
    """What ``errors_to_state()`` returns. A class: nothing may come between the block and what it makes of an error."""

    __slots__ = ("_engine", "_state")

    def __init__(self, engine: Engine, state: State[..., object] | None) -> None:
        self._engine = engine
        self._state = state

    def __enter__(self) -> None:
        self._engine._check_may_change("errors_to_state")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        taken: BaseException | None
        rest: BaseException | None
        if isinstance(error, BaseExceptionGroup):
            taken, rest = cast("BaseExceptionGroup[BaseException]", error).split(
                lambda one: self._takes(one)  # a function: before Python 3.13 it takes no bound method
            )
        else:
            taken, rest = (error, None) if error is not None and self._takes(error) else (None, error)
        if taken is None:
            return False
        taken = cast("Exception", error if rest is None else taken)  # `split` copies a group even where it takes all
        engine = self._engine
        if engine._closing:
            if not engine._late_error(taken):
                return False
        else:
            try:
                engine.add_error(taken, self._state)
            except BaseException as raised:
                if rest is None:
                    raise
                raise BaseExceptionGroup(f"unhandled in machine {engine.id!r}", [raised, rest]) from None
        if rest is not None:
            raise rest
        return True

    def _takes(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return False  # its members are asked
        return isinstance(error, Exception) and not (isinstance(error, MachineClosed) and error.machine is self._engine)


class _Breakpoint(Tracer):
    """What ``break_on()`` attaches."""

    def __init__(self, added: int, removed: int, call: Callable[[Transition], object] | None) -> None:
        self._added = added
        self._removed = removed
        self._call = call

    def schema_changed(self, machine: Observed, before: type[Schema]) -> None:
        """Wait for the same states, by their new numbers."""
        numbers = machine.schema._definition.numbers
        places = [numbers[state._lineage] for state in before.states]
        self._added, self._removed = renumbered(self._added, places), renumbered(self._removed, places)

    def committed(self, machine: object, transition: Transition) -> None:
        """Stop, if it was waited for."""
        plan = transition._plan
        entering = union(1 << state for state in plan.entering)
        leaving = union(1 << state for state in plan.leaving)
        if not (entering & self._added or leaving & self._removed):
            return
        if self._call is not None:
            self._call(transition)
        else:
            breakpoint()  # `up` leads to the transition, and to who made it


def _several(states: object) -> tuple[object, ...]:
    """Return one state or an iterable of them as a tuple; what is neither is refused where it is looked up."""
    if isinstance(states, Iterable) and not isinstance(states, (State, Call, str)):
        return tuple(cast("Iterable[object]", states))
    return (states,)
