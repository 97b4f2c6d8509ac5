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
from typing import TYPE_CHECKING, ClassVar, NoReturn, TypeVarTuple, cast

from trsm._core._bits import members, union
from trsm._core._consensus import Kind, Request
from trsm._core._errors import HandlerError, MutationError, NotSettled, QueueFull, WrongThread, listed
from trsm._core._handlers import Calls, Table, table_of
from trsm._core._journal import Journal, count
from trsm._core._limits import Limits
from trsm._core._mutation import EXECUTED, Canceled, Executed, Mutation, Queued, QueuedMutation, Result
from trsm._core._plan import OPENING, Handler, Plan, Step
from trsm._core._records import Record
from trsm._core._schema import Definition, Schema
from trsm._core._source import Source, current_source, get_cause, set_cause
from trsm._core._ticks import Ticks
from trsm._core._tracing import Observed, Saboteur, Tracer, with_tracers_of_context
from trsm._core._transition import Transition

if TYPE_CHECKING:
    from trsm._core._reasons import Explanation

Ts = TypeVarTuple("Ts")

logger = logging.getLogger("trsm")

IDLE, RUNNING, READING = 0, 1, 2
"""What a machine is doing: nothing, a transition (mutations are queued), or asking (mutations are refused)."""

_numbers = itertools.count(1)
_new = object.__new__
_FEW = 8
"""How many plans are looked through for the tick of one state, before they are counted for good."""
_LAST_TURNS = 100
"""How many transitions before ``drain_limit`` the states that move are noted, to be named by `NotSettled`."""


Entry = tuple[Journal, int]
"""A transition that nobody saw: the page of the journal, and the place on it; see `Runner._transition_of`."""


class Refusal:
    """Why negotiation ended a mutation: the handler that refused, or that raised."""

    __slots__ = ("error", "handler", "how")

    def __init__(self, handler: Handler, error: BaseException | None = None) -> None:
        self.handler = handler
        self.how = "refused" if error is None else f"raised {_shown(error)}"
        self.error = error
        """Until it is reported: its traceback leads to frames that hold this, which would be a circle."""

    def take(self) -> BaseException | None:
        """Return the exception, and forget it."""
        error, self.error = self.error, None
        return error


class Fault(Record):
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
        "_counted",
        "_counts",
        "_definition",
        "_error",
        "_escaped",
        "_faults",
        "_firsts",
        "_held",
        "_id",
        "_is_closed",
        "_is_due",
        "_is_settling_watched",
        "_journal",
        "_last",
        "_limits",
        "_looked_at",
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
        self._active: int = 0
        self._counts = [0] * len(definition.states)
        """The ticks after the first `_counted` entries of the journal; see `_ticks`."""
        self._counted = 0
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
        self._is_due = False
        """Whether something has come up that `_settle` has to do."""
        self._is_settling_watched = False
        """Whether somebody wants to hear that the machine has settled."""
        self._error: Exception | None = None
        self._running: Handler | None = None
        self._held = 0
        """States of whose commits the shell wants to hear: they have scopes, tasks or timeouts."""
        self._looked_at = 0
        """States of whose transitions it wants to hear when they have ended, for somebody waits; -1 for all."""
        self._watched = 0
        """Both together."""
        self._ticks_at_close: Ticks | Entry | None = None
        """Worked out when somebody reads it, if nothing was active: then from what no thread changes any more."""
        self._journal: Journal | None = None
        """The page that is written on now; None before the first transition."""
        self._last: Transition | Entry | None = None
        """The last transition that was executed, but for those that only stand on the present page; see `_newest`."""
        self._transition: Transition | None = None
        """What runs, or is asked, now."""
        self._reference: weakref.ref[object] = weakref.ref(self)
        self._began: list[Transition | Entry | None] = []
        """State -> the transition that began its present or last instance, as far as is counted: see `_beginning`."""
        if self._tracers:
            self._retable(table)

    @property
    def id(self) -> str:
        """Its name in messages."""
        id = self._id
        if not isinstance(id, str):
            id = self._id = f"{self._definition.name}-{id}"
        return id

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

    # ---- Clocks -----------------------------------------------------------------------------------------------------

    @property
    def _tick(self) -> int:
        """The machine's own tick: how many transitions it has executed."""
        journal = self._journal
        return 0 if journal is None else journal.tick + len(journal.plans)

    @property
    def _ticks(self) -> list[int]:
        """The ticks of all states."""
        self._count()
        return self._counts

    def _tick_at(self, number: int) -> int:
        """Return the tick of a state that has moved, without counting all of them if little is to be counted."""
        journal, counted, counts = self._journal, self._counted, self._counts
        assert journal is not None  # it has moved
        plans = journal.plans
        if len(plans) - counted > _FEW:
            return self._ticks[number]
        tick = counts[number]
        for plan in plans[counted:]:
            if plan.moved >> number & 1:
                tick += 2 if number in plan.repeats else 1
        return tick

    def _count(self) -> None:
        """Bring `_counts` and `_began` up to what stands in the journal."""
        journal, counted, counts = self._journal, self._counted, self._counts
        if journal is None or counted == len(journal.plans):
            return
        plans = journal.plans[counted:]
        began = self._began
        # Of a plan that stands there several times the last counts.
        for plan, place in dict(zip(plans, itertools.count(counted), strict=False)).items():
            entry = journal, place
            for state in plan.began:
                before = began[state]
                if (before is None or _tick_of(before) <= journal.tick + place) and began[state] is before:
                    began[state] = entry
        values, position = list(counts), counted + len(plans)
        count(values, plans)
        if self._counts is counts:  # nobody has counted meanwhile: see `_run`
            self._counts, self._counted = values, position
        else:
            self._count()

    def _page(self) -> Journal:
        """Return the page of the journal that has room for an entry."""
        journal = self._journal
        if journal is not None:
            if len(journal.plans) < journal.size:
                return journal
            if self._last is None or _tick_of(self._last) != self._tick:
                self._last = journal, len(journal.plans) - 1
            self._count()
        base, tick = tuple(self._counts), 0 if journal is None else journal.tick + len(journal.plans)
        following = Journal(self._definition, self._reference, self._id, base, tick)
        if self._journal is not journal:
            return self._page()  # somebody has turned it meanwhile: see `_run`
        self._journal, self._counted = following, 0
        if not self._began:
            self._began = [None] * len(base)
        return following

    def _newest(self) -> Transition:
        """Return the last transition that was executed; opening counts as one."""
        journal, last = self._journal, self._last
        before = last
        if last is None or _tick_of(last) != self._tick:
            if journal is None or not journal.plans:
                last = self._new_transition(Plan(OPENING, 0, accepted=True, target=0), None)
            else:
                last = journal, len(journal.plans) - 1
        if isinstance(last, tuple):
            last = self._transition_of(last)
        if self._last is before:  # there is no newer one: see `_run`
            self._last = last
        return last

    def _beginning(self, number: int) -> Transition:
        """Return the transition that began the present instance of an active state."""
        self._count()
        entry = self._began[number]
        assert entry is not None
        if isinstance(entry, Transition):
            return entry
        return self._newest() if _tick_of(entry) == self._tick else self._transition_of(entry)

    def _transition_of(self, entry: Entry) -> Transition:
        """Return the transition that an entry stands for, and put it where that entry is noted."""
        self._count()
        journal, place = entry
        plan, source = journal.plans[place], (journal.sources or {}).get(place)
        mutation = None if source is None else Mutation(plan.request, source=source)
        transition = self._new_transition(plan, mutation, entry)
        transition._place = place
        for state in plan.began:
            if self._began[state] == entry:
                self._began[state] = transition
        return transition

    # ---- Messages and tracers ---------------------------------------------------------------------------------------

    def _check_thread(self, doing: str, *, is_read: bool = False, instead: str | None = None) -> None:
        """Refuse another thread; `instead` is what to write there, where that is no method of the machine."""
        if get_ident() != self._thread:
            was, call = ("read", f"lambda: machine.{doing}") if is_read else ("called", f"machine.{doing}, …")
            raise WrongThread(
                f"{doing} of machine {self.id!r} was {was} from a thread that does not own it: "
                f"write {instead or f'trio.from_thread.run_sync({call})'}"
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
        from trsm._core._reasons import Explainer  # not before: few programs need it, and all would wait for it

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
        if not (self._closing or self._close_wanted):
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
            machine._tell(machine._tracers, Tracer.handler_started, transition, handler.name)
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
                machine._tell(machine._tracers, Tracer.handler_ended, transition, handler.name, error)
                if seconds > machine._limits.handler_budget:
                    machine._tell(machine._tracers, Tracer.slow_handler, handler.name, seconds)
                del error  # a traceback that knows its own frame would be cyclic garbage

        return traced

    def _tell(self, tracers: tuple[Tracer, ...], hook: Callable[[Tracer, Observed, *Ts], None], *args: *Ts) -> None:
        """Tell tracers. They may look, and not change; one that raises is detached."""
        phase, self._phase = self._phase, READING
        running, self._running = self._running, None
        name = hook.__name__
        try:
            for tracer in tracers:
                try:
                    getattr(tracer, name)(self, *args)
                except BaseException as error:
                    self._tracer_raised(tracer, error)
        except BaseException as error:
            self._escape(error)  # of a signal handler, between two tracers
        self._phase, self._running = phase, running

    def _tell_of(
        self, hook: Callable[[Tracer, Observed, Transition, *Ts], None], transition: Transition, *args: *Ts
    ) -> None:
        """Tell every tracer of a transition. What one does to another machine then comes from where that came from."""
        mutation = transition._mutation
        cause, source = get_cause(), None if mutation is None else mutation.source
        if cause is not source:  # but whoever was called last: in the transition before, perhaps
            set_cause(source)
        self._tell(self._tracers, hook, transition, *args)
        if cause is not source:
            set_cause(cause)

    def _tracer_raised(self, tracer: Tracer, error: BaseException) -> None:
        self._untrace(tracer)
        if isinstance(error, Exception):
            logger.error("tracer %r of machine %r raised and was detached", tracer, self.id, exc_info=error)
        else:
            self._escape(error)  # as from a handler: the step goes on, the machine closes, the caller gets it

    def _sabotage(self, transition: Transition, handler: str, kind: str) -> None:
        """Raise what a saboteur wants a handler or task to raise: the first that wants anything."""
        for tracer in self._tracers:
            if isinstance(tracer, Saboteur):
                phase, self._phase = self._phase, READING
                running, self._running = self._running, None
                fault = None
                try:
                    fault = tracer.fault(self, transition, handler, kind)
                except BaseException as error:
                    self._tracer_raised(tracer, error)
                self._phase, self._running = phase, running
                self._catch_up()  # of a task nothing else follows, whatever it has raised
                if fault is not None:
                    raise fault  # whatever else it is, Python says that it cannot be raised

    def _announce(self, hook: Callable[[Tracer, Observed, *Ts], None], *args: *Ts) -> None:
        """Tell every tracer of what need not be part of a transition; what a tracer brings about is done at once."""
        if self._tracers:
            self._tell(self._tracers, hook, *args)
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

    @property
    def _has_begun_to_close(self) -> bool:
        """Whether mutations are canceled: it closes, or will as soon as its children let it."""
        return self._closing or (self._close_wanted and self._phase == IDLE)

    def _closing_reason(self) -> str:
        return f"machine {self.id!r} is {'closed' if self.closed else 'closing'}"

    def _enqueue(self, mutation: Mutation, first: bool) -> Queued:
        if first and first is not True:  # here only, where it matters: a mutation that runs at once need not look
            raise MutationError(f"first={first!r} is no bool: write first=True, or leave it out")
        if self._queue is None or self._firsts is None:
            made: tuple[deque[Mutation], deque[Mutation]] = deque(), deque()
            if self._queue is None:  # nobody has made them meanwhile: see `_run`
                self._queue, self._firsts = made
        queue, firsts = self._queue, self._firsts
        assert queue is not None
        assert firsts is not None
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
        self._is_due = True
        if first:
            mutation.outcome = Queued(self._queue_tick + 1, self._reference)
            firsts.append(mutation)
        else:
            mutation.outcome = Queued(self._queue_tick + len(queue) + 1, self._reference)
            queue.append(mutation)
        if self._tracers:
            self._tell(self._tracers, Tracer.mutation_queued, self._shown(mutation))
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

    def _run(self, plan: Plan, source: Source | None, plans: Calls) -> Result:
        """Run an outermost mutation that is resolved already, until the machine is settled; then as `_drain`.

        This is `_turn` and `_transact` in one frame, for that is what a warm mutation costs; what they do for other
        transitions than the outermost is left out.

        A signal handler or a finalizer may mutate the machine between any two steps of what stands here and in whoever
        calls it. Where nothing runs yet, its mutation runs to its end: so what was looked up is looked at again, with
        no call in between, before anything is written. Once something runs it is queued, as from any handler.

        Args:
          source: what made it, which is what `CAUSE` holds.
          plans: where the plan was looked up; a machine that binds, detaches or closes has others then.
        """
        ended: Refusal | _Failure | None = None
        outcome: Result = EXECUTED
        self._phase = RUNNING
        if not plan.accepted or plan.active != self._active or plans is not self._calls:
            return self._drain(Mutation(plan.request, source=source))
        bound = self._bound
        try:
            journal = self._journal
            if journal is None or len(journal.plans) >= journal.size:
                journal = self._page()
            transition = _new(self._transition_type)
            transition._plan = plan
            transition._mutation = None if source is None else Mutation(plan.request, source=source)
            transition._journal = journal
            position = len(journal.plans)
            transition._place = ~position  # it is not committed
            transition.dry_run = False
            self._transition = transition
            if self._tracers:
                self._tell(self._tracers, Tracer.resolved, transition, True)
                self._tell(self._tracers, Tracer.transition_started, transition)
            if plan.negotiation:
                set_cause(transition if plan.noted else (transition, plan.negotiation[-1][2]))
                self._phase = READING
                handler = plan.negotiation[0][2]
                try:
                    for function, place, handler in plan.negotiation:
                        self._running = handler
                        answer = function(bound[place], transition) if place >= 0 else function(transition)
                        if answer is not True:
                            if answer is not False:
                                _refuse_answer(handler, answer)
                            ended = Refusal(handler)
                            break
                except BaseException as error:
                    ended = Refusal(handler, error)
                self._running = None
                self._phase = RUNNING
            if ended is None:
                journal.plans.append(plan)
                transition._place = position
                self._last = transition
                began = self._began
                for state in plan.began:
                    began[state] = transition
                self._active = plan.target
                if plan.is_followed:
                    self._auto_due = self._is_due = True
                if plan.moves_error:
                    self._error = self._error_after(plan, transition)
                if plan.moved & self._held:
                    self._committed(plan, transition)
                if self._tracers:
                    self._tell_of(Tracer.committed, transition)
                for step in plan.finals:
                    function, place, handler = step
                    self._running = handler
                    if plan.noted is None:
                        set_cause((transition, handler))
                    try:
                        value = function(bound[place], transition) if place >= 0 else function(transition)
                        if value is not None:
                            _check_returned(handler, value)
                    except BaseException as error:
                        self._raised(error, transition, handler)
                        failure = self._failed(plan, handler, None) if handler.kind == "on_enter" else None
                        rest = plan.finals[plan.finals.index(step) + 1 :]
                        ended = self._call(rest, plan, transition, bound, failure)
                        break
                self._running = None
            if ended is not None:
                outcome = self._ended(plan, transition, ended, bound)
            else:
                if plan.tasks or plan.touched & self._looked_at:
                    self._finished(plan, transition, None, bound)
                if self._tracers:
                    self._tell_of(Tracer.transition_ended, transition, EXECUTED)
            if self._is_due or self._tracers or self._is_settling_watched:
                self._settle(journal.tick + position)
        finally:
            if get_cause() is not source:
                set_cause(source)
            self._transition = None
            self._phase = IDLE  # last: what goes with the transition may have finalizers
        if self._is_due:
            self._drain(None)  # something was queued when all had been done
        if self._escaped or self._unhandled:
            self._surface()
        return outcome

    def _drain(self, mutation: Mutation | None) -> Result:
        """Run one outermost mutation, or only what waits, until the machine is settled."""
        outcome: Result = EXECUTED
        cause = get_cause()
        self._phase = RUNNING
        try:
            if mutation is not None:
                start = self._tick
                outcome = Canceled(self._closing_reason()) if self._closing else self._take(mutation)
                self._settle(start)
            elif self._close_wanted:
                self._close_now()  # before all else that waits
            else:
                self._settle(self._tick)
        finally:
            if get_cause() is not cause:
                set_cause(cause)
            self._transition = None
            self._phase = IDLE
        if self._is_due:
            self._drain(None)
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
        self._is_due = False
        went = 0
        refused = -1  # who was refused in the last automatic round; -1: there was none, or it was refused as a whole
        while True:
            if self._close_wanted:
                self._close_now()
                return
            turns = self._tick - start
            if turns > max(0, limit - _LAST_TURNS):
                went |= self._newest()._plan.moved
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
                self._is_due = False  # before the last look: see `_run`
                # A tracer may have done something to another machine, which came back to this one.
                if not (self._close_wanted or self._faults or self._firsts or self._queue):
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
            self._tell(self._tracers, Tracer.settled)
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
            self._newest().source,
        )

    def _report_instability(self, barred: int) -> None:
        """Tell tracers what a second automatic round would still change; who refused the first refuses it too."""
        plan = self._plan(self._definition.request(Kind.AUTO, 0, barred))
        if plan.moved:
            states = tuple(self._definition.states[number] for number in members(plan.moved))
            self._tell(self._tracers, Tracer.unstable, states)

    # ---- One transition ---------------------------------------------------------------------------------------------

    def _plan(self, request: Request) -> Plan:
        return self._plans.get((self._active, request)) or self._table.plan(self._active, request)

    def _new_transition(self, plan: Plan, mutation: Mutation | None, entry: Entry | None = None) -> Transition:
        """Return a transition that may come now, or one that stands for an entry of the journal."""
        if entry is not None:
            journal, position = entry
        else:
            journal = self._journal or self._page()
            position = len(journal.plans)
            if position >= journal.size:
                journal, position = self._page(), 0
        transition = _new(self._transition_type)
        transition._plan = plan
        transition._mutation = mutation
        transition._journal = journal
        transition._place = ~position  # it is not committed
        transition.dry_run = False
        return transition

    def _turn(self, plan: Plan, mutation: Mutation | None) -> Executed | Canceled:
        """Negotiate, commit and finish one mutation that was resolved (DESIGN section 5, steps 3 to 5)."""
        transition, bound = self._new_transition(plan, mutation), self._bound
        if not plan.accepted:
            return self._unresolved(plan, transition)
        return self._ended(plan, transition, self._transact(plan, transition), bound)

    def _unresolved(self, plan: Plan, transition: Transition) -> Canceled:
        """Tell that the relations do not allow it."""
        if self._tracers:
            self._tell_of(Tracer.resolved, transition, False)
        return self._canceled(plan, transition, None)

    def _ended(
        self, plan: Plan, transition: Transition, ended: Refusal | _Failure | None, bound: tuple[object, ...]
    ) -> Executed | Canceled:
        """Do what is left of a mutation when `_transact` has returned."""
        if isinstance(ended, Refusal):
            self._refused(ended, transition)
            return self._canceled(plan, transition, ended)
        self._conclude(plan, transition, ended, bound)
        return EXECUTED

    def _canceled(self, plan: Plan, transition: Transition, refusal: Refusal | None) -> Canceled:
        explain = partial(self._explained, self._definition, plan.request, plan.active, refusal)
        outcome = Canceled(machine=self, explain=explain, request=plan.request if refusal is None else None)
        if self._tracers:
            self._tell_of(Tracer.transition_ended, transition, outcome)
        return outcome

    def _refused(self, refusal: Refusal, transition: Transition) -> None:
        """Report an exception of a negotiation handler; a plain refusal needs no report."""
        error = refusal.take()
        if isinstance(error, Exception):
            state = refusal.handler.state
            if state >= 0 and self._definition.errors >> state & 1:
                self._unhandled_error(error, transition._source_of(refusal.handler))
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
        bound = self._bound
        self._transition = transition
        if self._tracers and not transition.dry_run:
            self._tell_of(Tracer.resolved, transition, True)
            self._tell_of(Tracer.transition_started, transition)
        if plan.negotiation:
            set_cause(transition if plan.noted else (transition, plan.negotiation[-1][2]))
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
        transition._journal.plans.append(plan)
        transition._place = ~transition._place
        self._last = transition
        began = self._began
        for state in plan.began:
            began[state] = transition
        self._active = plan.target
        if plan.is_followed:
            self._auto_due = self._is_due = True
        if plan.moves_error:
            self._error = self._error_after(plan, transition)
        if plan.moved & self._held:
            self._committed(plan, transition)
        if self._tracers:
            self._tell_of(Tracer.committed, transition)
        return self._call(plan.finals, plan, transition, bound, None, silent)

    def _call(
        self,
        finals: tuple[Step, ...],
        plan: Plan,
        transition: Transition,
        bound: tuple[object, ...],
        failure: _Failure | None,
        silent: int = 0,
    ) -> _Failure | None:
        """Call final handlers, those that are still to come after a failure; return what the failures mean."""
        for function, place, handler in finals:
            if silent and handler.kind == "on_exit" and silent >> handler.state & 1:
                continue
            if failure is not None and handler.kind == "on_enter" and failure.down >> handler.state & 1:
                continue  # only latched states still get theirs
            self._running = handler
            if plan.noted is None:
                set_cause((transition, handler))
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
        if plan.tasks or plan.touched & self._looked_at:
            self._finished(plan, transition, removal, bound)
        if self._tracers:
            for ended in (transition,) if removal is None else (transition, removal):
                self._tell_of(Tracer.transition_ended, ended, EXECUTED)
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
            self._unhandled_error(error, transition._source_of(handler))
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

    # ---- The automatic round ----------------------------------------------------------------------------------------

    def _auto_turn(self) -> int:
        """Run one automatic round; return who was barred from it, or -1 if it was refused as a whole."""
        answers: dict[Handler, bool] = {}
        barred = self._barred
        source = self._newest().source
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
            mutation = transition._mutation  # default arguments that were read are kept there
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
        self._is_due = True
        self._faults.append(Fault(error, source, state, result))

    def _handler_fault(self, error: Exception, transition: Transition, handler: Handler) -> None:
        """Note an exception of a handler; if its state is auto, it does not come back until the drain has settled."""
        self._fault(error, transition._source_of(handler))
        if handler.state >= 0:
            self._barred |= (1 << handler.state) & self._definition.relations.auto

    def _escape(self, error: BaseException) -> None:
        """Note what is no `Exception`: the machine closes, and it goes to the caller."""
        if self._escaped is None:
            self._escaped = []
        self._escaped.append(error)
        if not self._close_wanted:
            self._close_wanted = self._is_due = True
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
            self._close_wanted = self._is_due = True
            self._close_source = source
            self._catch_up()

    def _close_now(self) -> None:
        self._close_wanted = self._is_due = False
        if self._closing:
            return
        self._closing = True
        self._calls = {}  # mutations are canceled from now on
        if self._active:
            self._ticks_at_close = Ticks(self._definition, tuple(self._ticks))
        else:  # they will not move
            journal = self._page()
            self._ticks_at_close = journal, len(journal.plans)
        self._close_children()
        if self._firsts or self._queue or self._faults:
            self._drop_waiting(self._closing_reason())
        self._auto_due = False
        closing = self._definition.closing
        plan = self._plans.get((self._active, closing)) or self._table.plan(self._active, closing)
        source = self._close_source
        if plan.moved or self._tracers:
            transition = self._new_transition(plan, None if source is None else Mutation(None, source=source))
            bound, ended = self._bound, self._transact(plan, transition)
            assert not isinstance(ended, Refusal)  # nobody is asked, and so nobody refuses
            self._conclude(plan, transition, ended, bound)
        else:  # nothing was active: nobody is called, and nobody looks
            journal = self._page()
            if source is not None:
                journal.note(source)
            journal.plans.append(plan)
        self._is_closed = True
        self._closed()
        if self._tracers:
            self._tell(self._tracers, Tracer.machine_closed)

    # ---- What the shell adds ----------------------------------------------------------------------------------------

    def _late_error(self, error: Exception) -> bool:
        """Called with an error that is reported while closing, or after it; return whether somebody will hear of it."""
        if self._phase == RUNNING:
            self._unhandled_error(error, current_source())
            return True
        return False

    def _committed(self, plan: Plan, transition: Transition) -> None:
        """Called right after a commit that moved a held state, before any final handler."""

    def _finished(
        self, plan: Plan, transition: Transition, removal: Transition | None, bound: tuple[object, ...]
    ) -> None:
        """Called after the final handlers, if a state has tasks or is looked at; `removal` is what a fault brought."""

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


def _tick_of(entry: Transition | Entry) -> int:
    """Return the machine's own tick at a transition, or at what stands in the journal for one."""
    return entry[0].tick + entry[1] + 1 if isinstance(entry, tuple) else entry.tick


def _rest(error: Exception, catches: tuple[type[Exception], ...]) -> Exception | None:
    """Return what ``except*`` would leave of an exception; None if it takes all of it."""
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        taken, rest = group.split(catches)
        return group if taken is None else rest
    return None if isinstance(error, catches) else error


def _shown(error: BaseException) -> str:
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
