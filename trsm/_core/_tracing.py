"""Tracers: observers of a machine, told what happens and unable to change it."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias, cast

from trsm._core._mutation import QueuedMutation, Result
from trsm._core._schema import Schema
from trsm._core._state import State
from trsm._core._ticks import Ticks

AnyTransition: TypeAlias = Any
"""A transition, of a machine or of a bare engine: whoever overrides a method may say which it takes."""


class Observed(Protocol):
    """What tracers see of a machine or engine: it is the machine itself, and its methods may be called to look."""

    @property
    def id(self) -> str:
        """Its name in messages."""
        ...  # a protocol's property has no body to run

    @property
    def schema(self) -> type[Schema]:
        """The schema class."""
        ...

    @property
    def ticks(self) -> Ticks:
        """The ticks of all states now."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it has closed."""
        ...


class Tracer:
    """The base of tracers: each method is called when something happens, and does nothing unless overridden.

    Each gets the machine first. A tracer looks and does not change: a mutation that it makes of the machine raises
    `ReadOnly` there. A tracer that raises is detached and logged; the machine goes on. The transition of a mutation is
    the same object in all methods, and what it knows grows: its ``tick`` moves when it is committed.

    One mutation, in order: ``mutation_queued`` (only if it has to wait), ``resolved``, ``transition_started``,
    ``handler_started`` and ``handler_ended`` of each negotiation handler, ``scope_ended``, ``committed``, handlers
    again for each final handler, ``waiter_ended``, ``transition_ended``, and ``settled`` once nothing is left to do.
    Tasks begin after that: no task runs before an outermost mutation has returned.
    """

    # ---- Machines ---------------------------------------------------------------------------------------------------

    def machine_opened(self, machine: Observed) -> None:
        """Called when a machine has opened, or this tracer was attached to one that runs."""

    def machine_closed(self, machine: Observed) -> None:
        """Called when every state has left and mutations are canceled; tasks may still be cleaning up."""

    def schema_changed(self, machine: Observed, before: type[Schema]) -> None:
        """Called when ``extend_schema`` has given a machine another schema; `before` is what it had."""

    def settled(self, machine: Observed) -> None:
        """Called when what was asked, implied and automatic is all done, at the end of an outermost mutation."""

    # ---- Transitions ------------------------------------------------------------------------------------------------

    def mutation_queued(self, machine: Observed, mutation: QueuedMutation) -> None:
        """Called when a mutation was made inside a transition and waits for its turn."""

    def resolved(self, machine: Observed, transition: AnyTransition, is_accepted: bool) -> None:
        """Called when the consensus has judged a mutation; if it refused, ``transition_ended`` follows at once."""

    def transition_started(self, machine: Observed, transition: AnyTransition) -> None:
        """Called before negotiation."""

    def committed(self, machine: Observed, transition: AnyTransition) -> None:
        """Called when active states and ticks have changed, before any final handler."""

    def transition_ended(self, machine: Observed, transition: AnyTransition, result: Result) -> None:
        """Called when a mutation was executed, its handlers included, or canceled; then ``result.reason`` says why."""

    # ---- Handlers and tasks -----------------------------------------------------------------------------------------

    def handler_started(self, machine: Observed, transition: AnyTransition, handler: str) -> None:
        """Called before a sync handler; `handler` is its qualified name. Dry runs (``t.dry_run``) are told too."""

    def handler_ended(
        self, machine: Observed, transition: AnyTransition, handler: str, error: BaseException | None
    ) -> None:
        """Called after a sync handler; `error` is what it raised."""

    def slow_handler(self, machine: Observed, handler: str, seconds: float) -> None:
        """Called when a sync handler took longer than ``handler_budget`` seconds: it blocked every task."""

    def task_started(self, machine: Observed, transition: AnyTransition, task: str) -> None:
        """Called when a state's task begins to run; `transition` is what activated its state.

        A task that never comes to that, since its state has left before, is not told.
        """

    def task_ended(self, machine: Observed, transition: AnyTransition, task: str, error: BaseException | None) -> None:
        """Called when a state's task has ended; `error` is what it raised, cancellation included."""

    def then_refused(self, machine: Observed, state: State[..., object], result: Result) -> None:
        """Called when the ``then=`` of a task was not executed; it is logged as a warning too."""

    def timeout_refused(self, machine: Observed, state: State[..., object], result: Result) -> None:
        """Called when a state whose ``timeout`` was over could not be deactivated; it is logged as a warning too."""

    # ---- Waiters and scopes -----------------------------------------------------------------------------------------

    def waiter_subscribed(self, machine: Observed, waiter: object) -> None:
        """Called when a waiter was made that has to wait; ``watch()`` and ``transitions()`` too, composites not."""

    def waiter_ended(self, machine: Observed, waiter: object) -> None:
        """Called when what a waiter waits for has come true, or it has failed."""

    def scope_entered(self, machine: Observed, state: State[..., object]) -> None:
        """Called when a ``while_active`` or ``while_inactive`` scope was entered, over from the start or not."""

    def scope_ended(self, machine: Observed, state: State[..., object], reason: str) -> None:
        """Called when the scopes of a state were cancelled, with the reason that they were given: once for them all.

        By a transition, by closing, or as they were entered; a scope that was left before that is not told.
        """

    # ---- What should not be -----------------------------------------------------------------------------------------

    def unstable(self, machine: Observed, states: tuple[State[..., object], ...]) -> None:
        """Called when a second automatic round would still change `states`, after a drain has settled."""


class Saboteur(Tracer):
    """A tracer that may also make handlers and tasks fail, to test what becomes of a machine then.

    What it brings about looks to the machine as if the user's function had raised at its first line.

    Example::

        class FullDisk(trsm.Saboteur):
            def fault(self, machine, transition, handler, kind):
                return OSError("disk full") if kind == "task" else None
    """

    def fault(
        self, machine: Observed, transition: AnyTransition, handler: str, kind: str
    ) -> BaseException | None:  # the arguments are for those who override it
        """Return an exception to be raised in place of what a handler or task does, or None to let it run.

        Called after ``handler_started`` or ``task_started``. Unless overridden it lets all run.

        Args:
          machine, transition: as for the other methods.
          handler: the qualified name of the handler or task.
          kind: how it is marked, such as ``"on_enter"`` or ``"task"``; what ``start_soon`` runs is a ``"task"`` too.
        """
        return None


_everywhere: ContextVar[tuple[Tracer, ...]] = ContextVar("trsm_tracers", default=())
"""The tracers of every machine that opens."""


@contextmanager
def tracing(*tracers: Tracer) -> Generator[None]:
    """Attach tracers to every machine and engine that opens inside a ``with`` block, for as long as each lives.

    That is: in the block, in what it calls, and in tasks and threads that are started from there, which have its
    context. With several blocks around it a machine gets the tracers of all.

    Args:
      tracers: `Tracer` objects.

    Raises:
      TypeError: something else than a tracer was given.

    Example::

        with trsm.tracing(trsm.LogTracer()):
            trio.run(main)
    """
    more = checked_tracers(tracers)
    token = _everywhere.set((*_everywhere.get(), *more))
    try:
        yield
    finally:
        _everywhere.reset(token)


def with_tracers_of_context(tracers: tuple[Tracer, ...]) -> tuple[Tracer, ...]:
    """Return the tracers of a machine that opens, with those of `tracing` after them; none twice."""
    more = _everywhere.get()
    return tuple({id(tracer): tracer for tracer in (*tracers, *more)}.values()) if more else tracers


def checked_tracers(tracers: object) -> tuple[Tracer, ...]:
    """Return the tracers that a machine was given, if they are such.

    Raises:
      TypeError: it is no iterable of tracers.
    """
    if tracers == ():
        return ()
    if not isinstance(tracers, Iterable):
        raise TypeError(f"tracers={tracers!r}: pass several, [{tracers!r}] if it is one")
    several = tuple(cast("Iterable[object]", tracers))
    for tracer in several:
        if not isinstance(tracer, Tracer):
            raise TypeError(f"tracers=[…]: {tracer!r} is no tracer: pass objects of a class that inherits from Tracer")
    return cast("tuple[Tracer, ...]", several)
