"""The runner: runs mutations to completion, synchronously. The part of the engine that nobody calls directly.

The chapters follow the life of a mutation (DESIGN section 5): the queue, one transition, the automatic round, errors,
closing. `Engine` adds what is asked of it from outside.
"""

from __future__ import annotations

import itertools
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident
from types import MappingProxyType
from typing import Any, ClassVar, Concatenate, NoReturn, ParamSpec, cast

import attrs

from trsm._core._bits import members, union
from trsm._core._consensus import Kind, Request
from trsm._core._errors import HandlerError, NotSettled, QueueFull, WrongThread, listed
from trsm._core._handlers import Table, table_of
from trsm._core._limits import Limits
from trsm._core._mutation import EXECUTED, Canceled, Executed, Mutation, Queued, QueuedMutation, Result
from trsm._core._plan import BARRING, Handler, Plan
from trsm._core._reasons import Explainer, Explanation
from trsm._core._schema import Definition, Schema
from trsm._core._source import CAUSE, Source, bounded, current_source
from trsm._core._ticks import Journal, Ticks
from trsm._core._tracing import Observed, Saboteur, Tracer, with_tracers_of_context
from trsm._core._transition import Transition

P = ParamSpec("P")

logger = logging.getLogger("trsm")

IDLE, RUNNING, READING = 0, 1, 2
"""What a machine is doing: nothing, a transition (mutations are queued), or asking (mutations are refused)."""

_numbers = itertools.count(1)
_LAST_TURNS = 100
"""How many transitions before ``drain_limit`` the states that move are noted, to be named by `NotSettled`."""


Record = tuple[Plan, int, Journal, int, Source | None]
"""What a transition that nobody saw leaves behind: plan, tick, place in the journal, source; see `Runner._unfolded`."""


class Refusal:
    """Why negotiation ended a mutation: the handler that refused, or that raised."""

    __slots__ = ("error", "handler", "how")

    def __init__(self, handler: Handler, error: BaseException | None = None) -> None:
        self.handler = handler
        self.how = "refused" if error is None else f"raised {_repr_of(error)}"
        self.error = error
        """Until it is reported: its traceback leads to frames that hold this, which would be a circle."""

    def take(self) -> BaseException | None:
        """Return the exception, and forget it."""
        error, self.error = self.error, None
        return error


@attrs.frozen(eq=False, repr=False, match_args=False)
class Fault:
    """An exception that waits to become a state."""

    error: Exception
    source: Source | None
    state: int = -1
    """The error state that takes it, whatever it says it catches; -1 for none."""
    result: Queued | None = None
    """What the caller got, who made it in a transition."""


class Runner:
    """Owns ticks, queue and handler table, and runs what it is given until it is settled."""

    __slots__ = (
        "__weakref__",
        "_active",
        "_auto_due",
        "_barred",
        "_began",
        "_bound",
        "_calls",
        "_close_source",
        "_close_wanted",
        "_closing",
        "_definition",
        "_error",
        "_escaped",
        "_faults",
        "_firsts",
        "_id",
        "_is_closed",
        "_is_settling_watched",
        "_journal",
        "_last",
        "_limits",
        "_phase",
        "_plans",
        "_queue",
        "_queue_tick",
        "_reference",
        "_running",
        "_schema",
        "_table",
        "_tags",
        "_thread",
        "_tick",
        "_ticks",
        "_ticks_at_close",
        "_tracers",
        "_transition",
        "_unhandled",
        "_watched",
    )

    _transition_type: ClassVar[type[Transition]] = Transition
    _runs_tasks: ClassVar[bool] = False

    def _start(
        self,
        schema: type[Schema],
        handlers: tuple[object, ...],
        id: str | None,
        limits: Limits,
        tracers: tuple[Tracer, ...],
        tags: tuple[str, ...],
    ) -> None:
        if id is not None and not isinstance(id, str):
            raise TypeError(f"id={id!r}: write a string, which messages show, or leave it out")
        definition = schema._definition
        table = table_of(definition, handlers)
        self._schema = schema
        self._definition = definition
        self._bound = handlers
        self._table = table
        self._plans = table.plans
        self._calls = table.calls
        self._closing = False
        self._id: str | int = next(_numbers) if id is None else id
        self._limits = limits
        self._tracers = with_tracers_of_context(tracers)
        self._tags = tags
        self._thread = get_ident()
        self._active = 0
        self._ticks = [0] * len(definition.states)
        self._tick: int = 0
        self._phase = IDLE
        self._queue: deque[Mutation] | None = None
        self._firsts: deque[Mutation] | None = None
        self._queue_tick = 0
        self._faults: list[Fault] | None = None
        self._unhandled: list[tuple[BaseException, Source | None]] | None = None
        self._escaped: list[BaseException] | None = None
        self._auto_due = False
        self._barred = 0
        self._close_wanted = False
        self._close_source: Source | None = None
        """What made it close; None if that came from outside, or if it has not."""
        self._is_closed = False
        self._is_settling_watched = False
        """Whether somebody wants to hear that the machine has settled."""
        self._error: Exception | None = None
        self._running: Handler | None = None
        self._watched = 0
        """States whose waiters, scopes or watchers the shell wants to hear of; -1 for all."""
        self._ticks_at_close: Ticks | None = None
        self._journal: Journal | None = None
        self._last: Transition | Record | None = None
        self._transition: Transition | None = None
        """What runs, or is asked, now."""
        self._reference: weakref.ref[object] = weakref.ref(self)
        self._began: list[Transition | Record | None] | None = None
        """State -> the transition that began its present or last instance."""
        if self._tracers:
            self._retable(table)

    @property
    def id(self) -> str:
        """Its name in messages."""
        return self._id if isinstance(self._id, str) else f"{self._schema.__name__}-{self._id}"

    @property
    def tags(self) -> tuple[str, ...]:
        """The words that it was opened with, each once."""
        return self._tags

    @property
    def closed(self) -> bool:
        """Whether it has closed: every state has left, and mutations are canceled from now on."""
        return self._is_closed

    @property
    def schema(self) -> type[Schema]:
        """The schema class."""
        return self._schema

    @property
    def ticks(self) -> Ticks:
        """The ticks of all states now, as an immutable vector. Reading raises `WrongThread` in another thread."""
        self._check_thread("ticks", is_read=True)
        return Ticks(self._definition, tuple(self._ticks))

    # ---- Messages and tracers ---------------------------------------------------------------------------------------

    def _check_thread(self, doing: str, *, is_read: bool = False) -> None:
        if get_ident() != self._thread:
            was, call = ("read", f"lambda: machine.{doing}") if is_read else ("called", f"machine.{doing}, …")
            raise WrongThread(
                f"{doing} of machine {self.id!r} was {was} from a thread that does not own it: "
                f"write trio.from_thread.run_sync({call})"
            )

    def _read_only(self, doing: str) -> str:
        handler = self._running
        where = "a predicate" if handler is None else f"the negotiation handler {handler.name}"
        return (
            f"{doing} of machine {self.id!r} in {where}: what is asked may look, and not change; do it in an on_enter "
            "or on_exit handler"
        )

    @staticmethod
    def _explained(definition: Definition, request: Request, active: int, refusal: Refusal | None) -> Explanation:
        if refusal is None:
            return Explainer(definition.relations, active, request).explain()
        handler = refusal.handler
        refused = {handler.state: handler.name} if handler.state >= 0 else {}
        on = f" of {definition.relations.names[handler.state]}" if handler.state >= 0 else ""
        how = f"{handler.kind}{on} ({handler.name}) {refusal.how}"
        return Explainer(definition.relations, active, request, refused).explain(how)

    def _retable(self, table: Table) -> None:
        if self._tracers:
            table = table.wrapped(self._traced)
        self._table = table
        self._plans = table.plans
        if not self._closing:
            self._calls = table.calls

    @staticmethod
    def _traced(handler: Handler) -> Callable[..., object]:
        """Wrap a handler so that tracers hear of it, and of its slowness; done only while there are tracers.

        The machine is asked of the transition: a table that knew it would be a circle.
        """
        function = handler.function

        def traced(*args: object) -> object:
            transition = cast("Transition", args[-1])
            machine = cast("Runner", transition._machine())
            machine._trace(Tracer.handler_started, transition, handler.name)
            error: BaseException | None = None
            start = time.perf_counter()
            try:
                machine._sabotage(transition, handler.name, handler.kind)
                return function(*args)
            except BaseException as raised:
                error = raised
                raise
            finally:
                seconds = time.perf_counter() - start
                machine._trace(Tracer.handler_ended, transition, handler.name, error)
                if seconds > machine._limits.handler_budget:
                    machine._trace(Tracer.slow_handler, handler.name, seconds)
                del error  # a traceback that knows its own frame would be cyclic garbage

        return traced

    def _trace(self, hook: Callable[Concatenate[Tracer, Observed, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Tell every tracer. They may look, and not change; one that raises is detached."""
        self._tell(self._tracers, hook, *args, **kwargs)

    def _trace_of(
        self,
        hook: Callable[Concatenate[Tracer, Observed, Transition, P], None],
        transition: Transition,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Tell every tracer of a transition. What one does to another machine then comes from where that came from."""
        cause = CAUSE.get()
        CAUSE.set(transition.source)  # until now, whoever was called last: in the transition before, perhaps
        self._trace(hook, transition, *args, **kwargs)
        CAUSE.set(cause)

    def _sabotage(self, transition: Transition, handler: str, kind: str) -> None:
        """Raise what a saboteur wants a handler or task to raise: the first that wants anything."""
        for tracer in self._tracers:
            if isinstance(tracer, Saboteur):
                (fault,) = self._tell((tracer,), Saboteur.fault, transition, handler, kind) or (None,)
                self._catch_up()  # of a task nothing else follows, whatever it has raised
                if fault is not None:
                    raise cast("BaseException", fault)  # whatever else it is, Python says that it cannot be raised

    def _tell(
        self,
        tracers: tuple[Tracer, ...],
        hook: Callable[Concatenate[Any, Observed, P], object],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[object]:
        """Tell tracers; return what those answered that did not raise."""
        answers: list[object] = []
        phase, self._phase = self._phase, READING
        running, self._running = self._running, None
        try:
            for tracer in tracers:
                try:
                    answers.append(getattr(tracer, hook.__name__)(self, *args, **kwargs))
                except Exception:
                    self._untrace(tracer)
                    logger.exception("tracer %r of machine %r raised and was detached", tracer, self.id)
                except BaseException as error:
                    self._untrace(tracer)
                    self._escape(error)  # as from a handler: the step goes on, the machine closes, the caller gets it
        finally:
            self._phase, self._running = phase, running
        return answers

    def _announce(
        self, hook: Callable[Concatenate[Tracer, Observed, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Tell every tracer of what need not be part of a transition; what a tracer brings about is done at once."""
        if self._tracers:
            self._trace(hook, *args, **kwargs)
            self._catch_up()

    def _untrace(self, tracer: Tracer) -> None:
        """Take a tracer off, however often it was attached."""
        self._keep_tracers(tuple(one for one in self._tracers if one is not tracer))

    def _keep_tracers(self, tracers: tuple[Tracer, ...]) -> None:
        self._tracers = tracers
        if not tracers:
            self._retable(table_of(self._definition, self._bound))

    # ---- The queue --------------------------------------------------------------------------------------------------

    def _toggled(self, mask: int) -> Request:
        if self._active & mask == mask:
            return self._definition.request(Kind.REMOVE, 0, mask)
        return self._definition.request(Kind.ADD, mask)

    def _closing_reason(self) -> str:
        return f"machine {self.id!r} is {'closed' if self.closed else 'closing'}"

    def _enqueue(self, mutation: Mutation, first: bool) -> Queued:
        queue, firsts = self._queue, self._firsts
        if queue is None or firsts is None:
            queue, firsts = self._queue, self._firsts = deque(), deque()
        request = mutation.request
        if not first and queue and request is not None and mutation.is_plain:
            last = queue[-1]
            plain = (
                request.kind is not Kind.SET
                and not (request.called | request.dropped) & self._definition.relations.multi
            )
            if plain and last.asks_the_same(request) and last.is_plain and last.outcome is not None:
                return last.outcome
        if len(queue) + len(firsts) >= self._limits.queue_limit:
            raise QueueFull(
                f"the queue of machine {self.id!r} holds {self._limits.queue_limit} mutations, its queue_limit: this "
                "one was refused, those are kept; make fewer in one transition, or open it with a higher queue_limit"
            )
        if first:
            mutation.outcome = Queued(self._queue_tick + 1, self._reference)
            firsts.append(mutation)
        else:
            mutation.outcome = Queued(self._queue_tick + len(queue) + 1, self._reference)
            queue.append(mutation)
        if self._tracers:
            self._trace(Tracer.mutation_queued, self._shown(mutation))
        return mutation.outcome

    def _shown(self, mutation: Mutation) -> QueuedMutation:
        """Return what is shown of a mutation in the queue."""
        request, result = mutation.request, mutation.outcome
        assert result is not None  # it is in the queue
        kind = "toggle" if request is None else request.kind.name.lower()
        called, dropped = (mutation.toggle, 0) if request is None else (request.called, request.dropped)
        states = self._definition.states
        return QueuedMutation(
            kind,
            tuple(states[number] for number in members(called)),
            tuple(states[number] for number in members(dropped)),
            MappingProxyType(mutation.args or {}),
            result,
        )

    def _run(self, plan: Plan, mutation: Mutation | None) -> Result:
        """Run an outermost mutation that is resolved already, until the machine is settled; then as `_drain`."""
        start, cause = self._tick, CAUSE.get()
        self._phase = RUNNING
        try:
            outcome = self._turn(plan, mutation)
            if (
                self._auto_due
                or self._faults
                or self._queue
                or self._firsts
                or self._close_wanted
                or self._tracers
                or self._is_settling_watched
            ):
                self._settle(start)
        finally:
            CAUSE.set(cause)
            self._phase = IDLE
            self._transition = None
        if self._escaped or self._unhandled:
            self._surface()
        return outcome

    def _drain(self, mutation: Mutation | None) -> Result:
        """Run one outermost mutation, or only what waits, until the machine is settled."""
        outcome: Result = EXECUTED
        start, cause = self._tick, CAUSE.get()
        self._phase = RUNNING
        try:
            if mutation is not None:
                outcome = self._take(mutation)
            self._settle(start)
        finally:
            CAUSE.set(cause)
            self._phase = IDLE
            self._transition = None
        if self._escaped or self._unhandled:
            self._surface()
        return outcome

    def _catch_up(self) -> None:
        """Run what came up while handlers or predicates were asked outside of a transition."""
        if self._phase == IDLE and (self._faults or self._unhandled or self._close_wanted):
            self._drain(None)

    def _take(self, mutation: Mutation) -> Executed | Canceled:
        """Give one mutation its turn."""
        scope = mutation.scope
        if scope is not None and scope.cancel_called:
            return Canceled("its scope was cancelled before its turn")
        request = mutation.request
        if request is None:
            request = mutation.request = self._toggled(mutation.toggle)
        return self._turn(self._plan(request), mutation)

    def _settle(self, start: int) -> None:
        """Run errors, the automatic round and the queue, until nothing is left to do (DESIGN section 5, step 6).

        `start` is the machine's own tick when this drain began.
        """
        limit = self._limits.drain_limit
        went = 0
        refused = -1  # who was refused in the last automatic round; -1: there was none, or it was refused as a whole
        while True:
            if self._close_wanted:
                self._close_now()
                return
            turns = self._tick - start
            if turns > max(0, limit - _LAST_TURNS) and self._last is not None:
                went |= (self._last._plan if isinstance(self._last, Transition) else self._last[0]).moved
            if turns >= limit and self._has_more():
                self._overrun(went)
                refused = -1
                continue
            if self._faults:
                self._fault_turn(self._faults.pop(0))
            elif self._auto_due:
                self._auto_due = False
                refused = self._auto_turn()
            elif self._firsts:
                mutation = self._firsts.popleft()
                self._finish(mutation, self._take(mutation))
            elif self._queue:
                mutation = self._queue.popleft()
                self._queue_tick += 1
                self._finish(mutation, self._take(mutation))
            else:
                self._is_settled(refused)
                if not (self._close_wanted or self._faults):  # a tracer may have done something to another machine
                    break
        self._barred = 0

    def _has_more(self) -> bool:
        """Return whether a transition is still to come in this drain."""
        if self._faults or self._firsts or self._queue:
            return True
        return self._auto_due and bool(self._plan(self._definition.request(Kind.AUTO, 0, self._barred)).moved)

    def _is_settled(self, refused: int) -> None:
        """Tell those who wait for it that nothing is left to do; `refused` is who refused the automatic round."""
        if self._is_settling_watched:
            self._settled()
        if self._tracers:
            if refused >= 0:
                self._report_instability(refused | self._barred)
            self._trace(Tracer.settled)
            if self._is_settling_watched:
                self._settled()  # a tracer has just begun to wait for it

    def _finish(self, mutation: Mutation, outcome: Executed | Canceled) -> None:
        queued = mutation.outcome
        assert queued is not None  # what was queued got its result then
        queued.outcome = outcome

    def _drop_waiting(self, reason: str) -> None:
        """Cancel what is queued; errors that wait to become states are unhandled."""
        waiting = [*(self._firsts or ()), *(self._queue or ())]
        self._queue_tick += len(self._queue or ())
        self._firsts = self._queue = None
        for mutation in waiting:
            self._finish(mutation, Canceled(reason))
        faults, self._faults = self._faults, None
        for fault in faults or ():
            if fault.result is not None:
                fault.result.outcome = Canceled(reason)
            self._unhandled_error(fault.error, fault.source)

    def _overrun(self, went: int) -> None:
        limit = self._limits.drain_limit
        names = listed(self._definition.relations.named(went))
        self._auto_due = False
        self._drop_waiting(f"machine {self.id!r} did not settle within {limit} transitions")
        self._unhandled_error(
            NotSettled(
                f"machine {self.id!r} did not settle within {limit} transitions (drain_limit); {names} went round: "
                "handlers feed themselves; break the circle, or let a task do it, which checkpoints"
            ),
            None if self._last is None or isinstance(self._last, tuple) else self._last.source,
        )

    def _report_instability(self, barred: int) -> None:
        """Tell tracers what a second automatic round would still change; who refused the first refuses it too."""
        plan = self._plan(self._definition.request(Kind.AUTO, 0, barred))
        if plan.moved:
            states = tuple(self._definition.states[number] for number in members(plan.moved))
            self._trace(Tracer.unstable, states)

    # ---- One transition ---------------------------------------------------------------------------------------------

    def _plan(self, request: Request) -> Plan:
        return self._plans.get((self._active, request)) or self._table.plan(self._active, request)

    def _new_transition(self, plan: Plan, mutation: Mutation | None) -> Transition:
        journal = self._journal
        if journal is None:
            journal = self._journal = Journal(tuple(self._ticks))
        transition = object.__new__(self._transition_type)
        transition._definition = self._definition
        transition._plan = plan
        transition._mutation = mutation
        transition._journal = journal
        transition._position = len(journal.plans)
        transition._machine = self._reference
        transition._tick = ~self._tick  # it is not committed
        transition.dry_run = False
        return transition

    def _unfolded(self, record: Record) -> Transition:
        """Return the transition that a record stands for, and put it in the record's place."""
        plan, tick, journal, position, source = record
        transition = self._new_transition(plan, None if source is None else Mutation(plan.request, source=source))
        transition._tick, transition._journal, transition._position = tick, journal, position
        if self._last is record:
            self._last = transition
        began = self._began or []
        for state in plan.began:
            if began[state] is record:
                began[state] = transition
        return transition

    def _beginning(self, number: int) -> Transition:
        """Return the transition that began the present instance of an active state."""
        assert self._began is not None  # it is active, so it began
        entry = self._began[number]
        assert entry is not None
        return entry if isinstance(entry, Transition) else self._unfolded(entry)

    def _turn(self, plan: Plan, mutation: Mutation | None) -> Executed | Canceled:
        """Negotiate, commit and finish one mutation that was resolved (DESIGN section 5, steps 3 to 5)."""
        if not plan.accepted:
            if self._tracers:
                transition = self._new_transition(plan, mutation)
                self._trace_of(Tracer.resolved, transition, False)
                return self._canceled(plan, transition, None)
            explain = partial(self._explained, self._definition, plan.request, plan.active, None)
            return Canceled(machine=self, explain=explain, request=plan.request)
        transition, bound = self._new_transition(plan, mutation), self._bound
        ended = self._transact(plan, transition)
        if ended is None and not (plan.tasks or plan.touched & self._watched or self._tracers):
            return EXECUTED
        if isinstance(ended, Refusal):
            self._refused(ended, transition)
            return self._canceled(plan, transition, ended)
        self._conclude(plan, transition, ended, bound)
        return EXECUTED

    def _canceled(self, plan: Plan, transition: Transition, refusal: Refusal | None) -> Canceled:
        explain = partial(self._explained, self._definition, plan.request, plan.active, refusal)
        outcome = Canceled(machine=self, explain=explain, request=plan.request if refusal is None else None)
        if self._tracers:
            self._trace_of(Tracer.transition_ended, transition, outcome)
        return outcome

    def _refused(self, refusal: Refusal, transition: Transition) -> None:
        """Report an exception of a negotiation handler; a plain refusal needs no report."""
        error = refusal.take()
        if isinstance(error, Exception):
            state = refusal.handler.state
            if state >= 0 and self._definition.errors >> state & 1:
                self._unhandled_error(error, self._source_of(transition, refusal.handler))
            else:
                self._handler_fault(error, transition, refusal.handler)
        elif error is not None:
            self._escape(error)

    def _transact(
        self, plan: Plan, transition: Transition, answers: dict[Handler, bool] | None = None, silent: int = 0
    ) -> Refusal | _Failure | None:
        """Ask everyone in order, commit, and call the final handlers: all in one frame, for that is what it costs.

        Args:
          answers: of those who accepted, when a target is taken again: nobody is asked twice.
          silent: states whose ``on_exit`` handlers are not called.

        Returns:
          The first refusal, and nothing has changed; or what ``on_enter`` handlers that raised mean; or None, if all
          went well, or if it is a dry run that nobody refuses.
        """
        bound, finals = self._bound, plan.finals
        self._transition = transition
        if self._tracers and not transition.dry_run:
            self._trace_of(Tracer.resolved, transition, True)
            self._trace_of(Tracer.transition_started, transition)
        if plan.negotiation:
            CAUSE.set((self, transition, (finals or plan.negotiation)[-1][2]))
            phase, self._phase = self._phase, READING
            handler = None
            try:
                for function, place, handler in plan.negotiation:
                    if answers is not None and handler in answers:
                        continue  # only those who accepted are in it: a refusal bars the state, or ends it all
                    self._running = handler
                    answer = function(bound[place], transition) if place >= 0 else function(transition)
                    if answer is not True:
                        if answer is False:
                            return Refusal(handler)
                        _refuse_answer(handler, answer)
                    if answers is not None:
                        answers[handler] = True
            except BaseException as error:
                assert handler is not None  # nothing else is called here
                return Refusal(handler, error)
            finally:
                self._phase = phase
                self._running = None
        if transition.dry_run:
            return None
        self._tick = transition._tick = self._tick + 1
        self._last = transition
        if plan.moved:
            ticks, began = self._ticks, self._began
            if began is None:
                began = self._began = [None for _ in ticks]
            for state in plan.flips:
                ticks[state] += 1
            for state in plan.repeats:
                ticks[state] += 2
            for state in plan.began:
                began[state] = transition
            self._active = plan.target
            journal = transition._journal
            journal.plans.append(plan)
            if transition._position >= journal.last:
                self._journal = None
            if plan.is_followed:
                self._auto_due = True
            if plan.moves_error:
                self._error = self._error_after(plan, transition)
            if plan.moved & self._watched:
                self._committed(plan, transition)
        if self._tracers:
            self._trace_of(Tracer.committed, transition)
        failure: _Failure | None = None
        for function, place, handler in finals:
            if silent and handler.kind == "on_exit" and silent >> handler.state & 1:
                continue
            if failure is not None and handler.kind == "on_enter" and failure.down >> handler.state & 1:
                continue  # only latched states still get theirs
            self._running = handler
            if not plan.negotiation or len(finals) > 1:
                CAUSE.set((self, transition, handler))
            try:
                value = function(bound[place], transition) if place >= 0 else function(transition)
                if value is not None:
                    _check_returned(handler, value)
            except BaseException as error:
                self._raised(error, transition, handler)
                if handler.kind == "on_enter":
                    failure = self._failed(plan, handler, failure)
        self._running = None
        return failure

    def _error_after(self, plan: Plan, transition: Transition) -> Exception | None:
        """Return what ``machine.error`` is after a commit that moves ``Error``."""
        if not plan.target >> self._definition.error & 1:
            return None
        return transition.error if plan.request.kind is Kind.ERROR else self._error

    def _conclude(self, plan: Plan, transition: Transition, failure: _Failure | None, bound: tuple[object, ...]) -> int:
        """Do the removal that a fault brings, and tell whom it concerns; return who failed or was skipped.

        `bound` is what the handlers belonged to when it began: they may bind and detach, and what runs goes on.
        """
        removal = None
        if failure is not None:
            if plan.request.kind is Kind.AUTO:
                self._barred |= failure.failed  # also those that are not auto: the next round would bring them again
            down = (failure.failed | failure.skipped) & self._active & ~self._definition.relations.latch & ~plan.active
            if down:
                undone = self._plan(self._definition.request(Kind.REMOVAL, 0, down))
                removal = self._new_transition(undone, transition._mutation)
                self._transact(undone, removal, silent=failure.silent)
        if plan.tasks or plan.touched & self._watched:
            self._finished(plan, transition, removal, bound)
        if self._tracers:
            for ended in (transition,) if removal is None else (transition, removal):
                self._trace_of(Tracer.transition_ended, ended, EXECUTED)
        return 0 if failure is None else failure.failed | failure.skipped

    def _raised(self, error: BaseException, transition: Transition, handler: Handler) -> None:
        """Note what a final handler raised; if its state is auto, it does not come back in this drain."""
        if handler.state >= 0:
            self._barred |= (1 << handler.state) & self._definition.relations.auto
        if not isinstance(error, Exception):
            self._escape(error)
        elif (
            self._closing
            or (handler.state >= 0 and self._definition.errors >> handler.state & 1)
            or (transition._plan.request.kind is Kind.ERROR and handler.kind != "on_exit")
        ):
            # Errors of an error handler are not caught again.
            self._unhandled_error(error, self._source_of(transition, handler))
        else:
            self._handler_fault(error, transition, handler)

    def _failed(self, plan: Plan, handler: Handler, failure: _Failure | None) -> _Failure:
        """Note that an ``on_enter`` raised: its state and all that enter later are to go, but for latched ones."""
        state = handler.state
        if failure is not None:  # only latched states were still called
            failure.failed |= 1 << state
            return failure
        later = plan.entering[plan.entering.index(state) + 1 :]
        skipped = union(1 << number for number in later) & ~self._definition.relations.latch
        before = next(one for _, _, one in plan.finals if one.kind == "on_enter" and one.state == state)
        return _Failure(1 << state, skipped, 1 << state if before is handler else 0, self._definition.relations.latch)

    def _source_of_call(self, transition: Transition, handler: Handler) -> Source:
        """Return the record of the handler that runs in a transition; of `handler`, if that is over.

        So the handlers of a negotiation, which start nothing that outlives them, need not be noted one by one.
        """
        running = self._running
        return self._source_of(transition, running if running and transition is self._transition else handler)

    def _source_of(self, transition: Transition, handler: Handler) -> Source:
        request = transition._plan.request
        asked = request.called | (0 if request.kind in BARRING else request.dropped)
        called = transition._definition.relations.named(asked)  # what it started may ask when there is another schema
        kind = request.kind.name.lower()
        source = Source(self.id, transition.tick, kind, called, handler.name, transition.source, role=handler.kind)
        return bounded(source)

    # ---- The automatic round ----------------------------------------------------------------------------------------

    def _auto_turn(self) -> int:
        """Run one automatic round; return who was barred from it, or -1 if it was refused as a whole."""
        answers: dict[Handler, bool] = {}
        barred = self._barred
        assert isinstance(self._last, Transition)  # what it follows was committed with one
        source = self._last.source
        mutation = None if source is None else Mutation(None, source=source)
        while True:
            plan = self._plan(self._definition.request(Kind.AUTO, 0, barred))
            if not plan.moved:
                return barred
            transition, bound = self._new_transition(plan, mutation), self._bound
            ended = self._transact(plan, transition, answers)
            if not isinstance(ended, Refusal):
                self._conclude(plan, transition, ended, bound)
                return barred
            handler = ended.handler
            self._canceled(plan, transition, ended)
            if ended.error is not None:
                entering = union(1 << state for state in plan.entering)
                self._barred |= 1 << handler.state if handler.kind == "can_enter" else entering
                self._refused(ended, transition)
                return -1
            if handler.kind != "can_enter":
                return -1
            barred |= 1 << handler.state

    # ---- Errors -----------------------------------------------------------------------------------------------------

    def _fault(self, error: Exception, source: Source | None, state: int = -1, result: Queued | None = None) -> None:
        """Note an exception; each gets an error mutation of its own, in order."""
        if self._faults is None:
            self._faults = []
        self._faults.append(Fault(error, source, state, result))

    def _handler_fault(self, error: Exception, transition: Transition, handler: Handler) -> None:
        """Note an exception of a handler; if its state is auto, it does not come back until the drain has settled."""
        self._fault(error, self._source_of(transition, handler))
        if handler.state >= 0:
            self._barred |= (1 << handler.state) & self._definition.relations.auto

    def _escape(self, error: BaseException) -> None:
        """Note what is no `Exception`: the machine closes, and it goes to the caller."""
        if self._escaped is None:
            self._escaped = []
        self._escaped.append(error)
        if not self._close_wanted:
            self._close_wanted = True
            self._close_source = current_source()

    def _unhandled_error(self, error: BaseException, source: Source | None) -> None:
        """Note an error that nothing handles, and where it came from."""
        if self._unhandled is None:
            self._unhandled = []
        self._unhandled.append((error, source))

    def _surface(self) -> None:
        """Raise from the outermost call what nothing handled."""
        escaped, self._escaped = self._escaped or [], None
        unhandled, self._unhandled = self._unhandled or [], None
        if len(escaped) == 1 and not unhandled:
            raise escaped[0]
        raise BaseExceptionGroup(f"unhandled in machine {self.id!r}", [*(error for error, _ in unhandled), *escaped])

    def _fault_turn(self, fault: Fault) -> None:
        self._error_turn(fault.error, fault.source, fault.state)
        if fault.result is not None:
            fault.result.outcome = EXECUTED

    def _error_turn(self, error: Exception, source: Source | None, named: int) -> None:
        """Activate ``Error`` and the error states that match (DESIGN section 7); `named` takes it anyway."""
        definition = self._definition
        matching = union(
            1 << state for state, catches in definition.catches if state == named or _rest(error, catches) is not error
        )
        answers: dict[Handler, bool] = {}
        barred = 0
        mutation = Mutation(None, source=source, error=error)
        while True:
            called = 1 << definition.error | (matching & self._active & ~barred)
            request = definition.request(Kind.ERROR, called, barred, matching & ~self._active & ~barred)
            plan = self._plan(request)
            assert plan.accepted  # nothing removes Error without being removed by it, and it requires nothing
            mutation.request = request
            transition, bound = self._new_transition(plan, mutation), self._bound
            ended = self._transact(plan, transition, answers)
            if not isinstance(ended, Refusal):
                break
            self._refused(ended, transition)
            self._canceled(plan, transition, ended)
            barred |= 1 << ended.handler.state
        # An error state whose on_enter raised or was skipped takes nothing.
        failed = self._conclude(plan, transition, ended, bound)
        rest: Exception | None = error
        for state, catches in definition.catches:
            if rest is not None and matching & plan.target & ~barred & ~failed & 1 << state:
                rest = None if state == named else _rest(rest, catches)
        table = self._table
        handled = table.errors_handled or (self._runs_tasks and table.errors_tasked)
        if rest is not None and (not handled or failed >> definition.error & 1):
            self._unhandled_error(rest, source)

    # ---- Closing ----------------------------------------------------------------------------------------------------

    def _want_close(self, source: Source | None) -> None:
        """Close now, or after the present transition; nothing happens if that is under way."""
        if not (self._closing or self._close_wanted):
            self._close_wanted = True
            self._close_source = source
            self._catch_up()

    def _close_now(self) -> None:
        self._close_wanted = False
        if self._closing:
            return
        self._closing = True
        self._calls = {}  # mutations are canceled from now on
        self._ticks_at_close = self.ticks
        self._close_children()
        self._drop_waiting(self._closing_reason())
        self._auto_due = False
        plan = self._plan(self._definition.request(Kind.CLOSE))
        source = self._close_source
        transition = self._new_transition(plan, None if source is None else Mutation(None, source=source))
        bound, ended = self._bound, self._transact(plan, transition)
        assert not isinstance(ended, Refusal)  # nobody is asked, and so nobody refuses
        self._conclude(plan, transition, ended, bound)
        self._is_closed = True
        self._closed()
        if self._tracers:
            self._trace(Tracer.machine_closed)

    # ---- What the shell adds ----------------------------------------------------------------------------------------

    def _late_error(self, error: Exception) -> bool:
        """Called with an error that is reported while closing, or after it; return whether somebody will hear of it."""
        if self._phase == RUNNING:
            self._unhandled_error(error, current_source())
            return True
        return False

    def _committed(self, plan: Plan, transition: Transition) -> None:
        """Called right after a commit that moved a watched state, before any final handler."""

    def _finished(
        self, plan: Plan, transition: Transition, removal: Transition | None, bound: tuple[object, ...]
    ) -> None:
        """Called after the final handlers, if a state has tasks or is watched; `removal` is what a fault brought."""

    def _settled(self) -> None:
        """Called when the queue has run empty, if somebody wants to hear of it."""

    def _close_children(self) -> None:
        """Called when closing begins."""

    def _closed(self) -> None:
        """Called when every state has left."""


class _Failure:
    """What ``on_enter`` handlers that raised mean for the states that entered."""

    __slots__ = ("down", "failed", "silent", "skipped")

    def __init__(self, failed: int, skipped: int, silent: int, latch: int) -> None:
        self.failed = failed
        self.skipped = skipped
        self.down = (failed | skipped) & ~latch
        """States whose ``on_enter`` is not called any more."""
        self.silent = silent | skipped
        """States whose ``on_exit`` does not run in the removal: nothing of them had begun."""


def _rest(error: Exception, catches: tuple[type[Exception], ...]) -> Exception | None:
    """Return what ``except*`` would leave of an exception; None if it takes all of it."""
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        taken, rest = group.split(catches)
        return group if taken is None else rest
    return None if isinstance(error, catches) else error


def _repr_of(error: BaseException) -> str:
    """Return the `repr` of an exception, which a user may have written; without it the name of its class."""
    try:
        return repr(error)
    except Exception:
        return type(error).__name__


def _refuse_answer(handler: Handler, answer: object) -> NoReturn:
    """Refuse what a negotiation handler returned that is no bool.

    Raises:
      HandlerError: always.
    """
    _never_awaited(answer)
    raise HandlerError(
        f"{handler.kind} handler {handler.name} returned {answer!r}: a negotiation handler returns True or False"
    )


def _check_returned(handler: Handler, value: object) -> None:
    """Refuse an awaitable that a final handler returned: nobody would await it.

    Raises:
      HandlerError: it is one.
    """
    if _never_awaited(value):
        raise HandlerError(
            f"{handler.kind} handler {handler.name} returned {value!r}, which nobody would await: make it a task"
        )


def _never_awaited(value: object) -> bool:
    """Return whether a value is an awaitable, and close it if so: Python would warn that nobody awaited it."""
    if not hasattr(value, "__await__"):
        return False
    close = getattr(value, "close", None)
    if callable(close):
        close()
    return True
