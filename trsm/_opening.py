"""Opening: a machine for the length of an ``async with`` block, with a nursery of its own (DESIGN 6 and 7)."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NoReturn, TypeAlias, cast

import trio

from trsm._core._errors import MachineClosed
from trsm._core._limits import USUAL_LIMITS, Limits, checked_limits, checked_tags
from trsm._core._logging import ROOT, logged
from trsm._core._schema import Schema
from trsm._core._tracing import Tracer, checked_tracers
from trsm._machine import Machine
from trsm._performer import without_closed
from trsm._protection import protect


def open_machine(
    schema: type[Schema],
    *handlers: object,
    id: str | None = None,
    parent: Machine | None = None,
    tracers: Iterable[Tracer] = (),
    tags: str | Iterable[str] = (),
    log_args: Iterable[str] = (),
    queue_limit: int = 1000,
    drain_limit: int = 10_000,
    handler_budget: float = 0.1,
    cleanup_timeout: float = 30.0,
    snapshot: Mapping[str, object] | None = None,
) -> AbstractAsyncContextManager[Machine]:
    """Open a machine for the length of an ``async with`` block, with a nursery of its own.

    When the block is left, the machine closes: every state is deactivated, tasks are cancelled and joined, cleanups
    run. Leaving *cancels* what still runs, unlike leaving a nursery: wait in the body for what you want to see done.
    Nothing of the machine runs any more afterwards. Opening activates nothing.

    With ``snapshot`` it goes on where that was taken: ticks and active states are as they were, what was left of
    timeouts is left, and tasks of active states are started again: of a multi state one for each activation whose tasks
    had not ended, in order, with its own arguments. No ``on_enter`` runs. ``last_transition`` then has the restored
    states as entering, all but error states: those that were active have a transition of their own, which ``when``
    gives. Its ``error``, and ``machine.error``, is a `RestoredError`.

    Checkpoints: opening is none; leaving is a schedule point.

    Cancellation: cancels body and tasks; ``on_exit`` handlers and cleanups still run, the cleanups shielded.

    Args:
      schema: the schema class.
      handlers: objects, modules and functions with handlers.
      id: its name in messages. Default: the schema's name and a number.
      parent: a machine that knows it and closes it. Default: none.
      tracers: `Tracer` objects.
      tags: words of yours, one or several, found in ``machine.tags``. Default: none.
      log_args: the names of arguments whose values may be logged, see `LogTracer`. Default: none.
      queue_limit: how many mutations may wait at once. Default 1000.
      drain_limit: how many transitions one outermost call may lead to. Default 10,000.
      handler_budget: seconds after which a handler is reported to tracers as slow. Default 0.1.
      cleanup_timeout: seconds that all cleanups together may take. Default 30.
      snapshot: what `Machine.snapshot` returned, of this schema or of one whose states are all in it. Default: none.

    Raises:
      TypeError: ``schema`` is no schema, ``parent`` no machine, ``id`` no string, ``tracers`` are none, or ``tags`` or
        ``log_args`` no words.
      HandlerError, UnknownState: a handler does not fit.
      ValueError: a limit is not positive, or ``queue_limit`` or ``drain_limit`` is no whole number.
      SnapshotError: on entering, ``snapshot`` is none, or not one of this schema; the message names the field.
      MachineClosed: the parent is closing or closed.
      RuntimeError: on entering, it is not in a task of trio, but of asyncio, say; or it was entered before.
      WrongThread: the parent belongs to another thread.
      ExceptionGroup: on leaving, the errors that nothing handled, flat and in order; the body's own exception joins as
        the last. The body's exception alone leaves bare and untouched.

    Example::

        async with trsm.open_machine(Job, Handlers("notes.txt")) as machine:
            machine.add(Job.Loading)
            await machine.when(Job.Loaded)
    """
    if parent is not None and not isinstance(parent, Machine):
        raise TypeError(f"open_machine(parent={parent!r}): pass a machine, as open_machine or start_child gives it")
    if (tracers, tags, log_args, queue_limit, drain_limit, handler_budget, cleanup_timeout) == _USUAL:
        watching = () if id is None and not ROOT.isEnabledFor(logging.INFO) else logged(id, (), ())
        return _Block((schema, handlers, id, USUAL_LIMITS, watching, (), parent, 30.0, snapshot))
    limits = checked_limits(queue_limit, drain_limit, handler_budget)
    if isinstance(cleanup_timeout, bool) or not isinstance(cleanup_timeout, (int, float)) or not cleanup_timeout > 0:
        raise ValueError(f"cleanup_timeout={cleanup_timeout!r}: write a positive number of seconds")
    watching = logged(id, log_args, checked_tracers(tracers))
    words = checked_tags(tags)
    return _Block((schema, handlers, id, limits, watching, words, parent, float(cleanup_timeout), snapshot))


_USUAL = (), (), (), 1000, 10_000, 0.1, 30.0
"""What most machines are opened with: the defaults of `open_machine`, in which there is nothing to check."""

_Asked: TypeAlias = tuple[
    type[Schema],
    tuple[object, ...],
    str | None,
    Limits,
    tuple[Tracer, ...],
    tuple[str, ...],
    Machine | None,
    float,
    Mapping[str, object] | None,
]
"""What `open_machine` was asked for, checked; in the order of `Machine._made`."""


class _Block:
    """The ``async with`` block of a machine.

    A class, as trio's nursery manager is one, and no generator: Ctrl-C could land in the frames that contextlib puts
    between the block and what closes the machine, which then stayed open.
    """

    __slots__ = ("_asked", "_machine", "_nursery_manager")

    _machine: Machine

    def __init__(self, asked: _Asked) -> None:
        self._asked: _Asked | None = asked
        """What the machine is to be; None once it is open."""
        self._nursery_manager: AbstractAsyncContextManager[trio.Nursery] | None = None

    def __await__(self) -> NoReturn:
        raise TypeError("write async with trsm.open_machine(…) as machine, not await: the machine lives in a block")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"open_machine(…) is a block, and the machine, which may have a {name}, is what it gives: write async with "
            f"trsm.open_machine(…) as machine, and machine.{name} in the block",
            name=name,
            obj=self,
        )

    def __enter__(self) -> NoReturn:
        raise TypeError("write async with trsm.open_machine(…), not with: leaving the block waits for the tasks")

    def __exit__(self, *of: object) -> None:
        raise AssertionError("__enter__ raises")  # pragma: no cover - Python looks for it before it calls __enter__

    async def __aenter__(self) -> Machine:
        asked = self._asked
        if asked is None:
            raise RuntimeError("a block is opened once: call open_machine(…) again for another machine")
        manager = trio.open_nursery(strict_exception_groups=True)
        try:
            nursery = await manager.__aenter__()
        except RuntimeError:
            raise RuntimeError(
                "open_machine(…) is entered in a task of trio: write trio.run(main), not asyncio.run(…)"
            ) from None
        machine: Machine | None = None
        try:
            schema, handlers, id, limits, watching, words, parent, cleanup_timeout, snapshot = asked
            if parent is not None:
                _check_parent(parent)
            machine = self._machine = Machine._made(
                schema,
                handlers,
                id,
                limits,
                watching,
                words,
                nursery,
                contextvars.copy_context(),
                parent,
                cleanup_timeout,
                snapshot,
            )
            if machine._tracers:
                machine._announce(Tracer.machine_opened)
        except BaseException:
            await manager.__aexit__(None, None, None)  # nothing runs in it, and the exception leaves as it is
            if machine is not None:  # a tracer raised what is no `Exception`, and the machine closed
                machine._joined_now()
            raise
        self._asked = None
        self._nursery_manager = manager
        return machine

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        machine = self._machine
        body = None if error is None else without_closed(error, machine)
        machine._is_left = True
        escaped: list[BaseException] = []
        try:
            machine.close()
        except BaseException as raised:
            escaped = _each(raised, machine)
        # The body's exception is kept aside, so that it leaves untouched; the nursery is only to say whether a
        # cancellation in it is its own, or somebody's outside.
        cancelled, rest = (None, None) if body is None else _split(body)
        manager = self._nursery_manager
        assert manager is not None  # the block was entered
        outside: BaseException | None = None
        tasks: list[BaseException] = []
        try:
            if cancelled is None:
                await manager.__aexit__(None, None, None)
            else:
                await manager.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)
        except BaseExceptionGroup as group:
            outside, tasks = _sorted(cast("tuple[BaseException, ...]", group.exceptions))
        if cancelled is not None:
            # Somebody's outside stays where it was raised, and the nursery took its own.
            body = rest if outside is None else body
            outside = None
        if machine._deferred:
            errors = machine._errors = machine._errors or []  # what is reported from now on joins them
            await machine._clean_up(lambda error, source: errors.append(error))
        try:
            machine._joined_now()
        except BaseException as raised:  # of a tracer that was told so
            tasks += _each(raised, machine)
        if error is None and not (machine._errors or escaped or tasks or outside):
            return False
        unhandled = [*(machine._errors or ()), *escaped, *tasks]
        last = [one for one in (outside, body) if one is not None]
        if unhandled:
            leaving: BaseException | None = BaseExceptionGroup(
                f"unhandled in machine {machine.id!r}", [*unhandled, *last]
            )
        else:
            leaving = last[-1] if last else None
        if leaving is None or leaving is error:
            return leaving is None
        context = leaving.__context__
        try:
            raise leaving
        finally:
            leaving.__context__ = context  # not the body's exception, which is in it
            del leaving, last, unhandled, outside, escaped, tasks, body, rest, cancelled  # no circle through this frame


def _check_parent(parent: Machine) -> None:
    """Refuse a parent that a machine cannot be opened for."""
    instead = "trio.from_thread.run(…) with a function that opens it there"
    parent._check_thread("open_machine(parent=…)", instead=instead)
    if parent._closing:
        reason = parent._closing_reason()
        raise MachineClosed(f"open_machine(parent=…): {reason}, and a child cannot outlive it", parent)


def _each(raised: BaseException, machine: Machine) -> list[BaseException]:
    """Return what handlers and tracers of a machine raised, one by one. A group that one of them raised is one."""
    if isinstance(raised, BaseExceptionGroup) and raised.message == machine._escaped_message:
        return list(cast("BaseExceptionGroup[BaseException]", raised).exceptions)
    return [raised]


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return the cancellation in an exception, and the rest, as `except*` would divide it."""
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(trio.Cancelled)
    return (error, None) if isinstance(error, trio.Cancelled) else (None, error)


def _sorted(left: tuple[BaseException, ...]) -> tuple[BaseException | None, list[BaseException]]:
    """Return the first cancellation (the others are the same one, told to other tasks), and everything else."""
    parts = [_split(error) for error in left]
    cancelled = [ended for ended, _ in parts if ended is not None]
    return cancelled[0] if cancelled else None, [other for _, other in parts if other is not None]


protect(__name__)
