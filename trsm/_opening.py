"""Opening: a machine for the length of an ``async with`` block, with a nursery of its own (DESIGN 6 and 7)."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import cast

import trio

from trsm._core._errors import MachineClosed
from trsm._core._limits import checked_limits
from trsm._core._schema import Schema
from trsm._core._tracing import Tracer
from trsm._machine import Machine
from trsm._performer import without_closed
from trsm._protection import protect


@asynccontextmanager
async def open_machine(
    schema: type[Schema],
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
        reason = parent._closing_reason()
        raise MachineClosed(f"open_machine(parent=…): {reason}, and a child cannot outlive it", parent)
    limits = checked_limits(queue_limit, drain_limit, handler_budget)
    if not isinstance(cleanup_timeout, (int, float)) or not cleanup_timeout > 0:
        raise ValueError(f"cleanup_timeout={cleanup_timeout!r}: write a positive number of seconds")
    context = contextvars.copy_context()
    left: tuple[BaseException, ...] = ()
    machine: Machine | None = None
    body: BaseException | None = None
    cancelled: BaseException | None = None
    closing: list[BaseException] = []
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            machine = Machine._made(
                schema, handlers, id, limits, tuple(tracers), nursery, context, parent, float(cleanup_timeout)
            )
            try:
                yield machine
            except BaseException as error:
                body = without_closed(error, machine)
            closing = _close(machine)
            # The body's exception is kept aside, so that it leaves untouched; the nursery is only to say whether a
            # cancellation in it is its own, or somebody's outside.
            cancelled = _split(body, trio.Cancelled)[0]
            if cancelled is not None:
                raise cancelled
    except BaseExceptionGroup as group:
        left = cast("tuple[BaseException, ...]", group.exceptions)
    if machine is None:
        raise next(iter(left))
    tasks = [error for error in left if error is not cancelled]
    if cancelled is not None and len(tasks) == len(left):  # the nursery took it
        body = _split(body, trio.Cancelled)[1]
    errors = machine._errors = machine._errors or []  # what is reported from now on joins them
    await machine._clean_up(errors.append)
    machine._joined_now()
    others = [*errors, *closing, *tasks]
    if others:
        raise BaseExceptionGroup(f"unhandled in machine {machine.id!r}", others if body is None else [*others, body])
    if body is not None:
        raise body


def _split(error: BaseException | None, kind: type[BaseException]) -> tuple[BaseException | None, BaseException | None]:
    """Return the part of an exception that is of this kind, and the rest, as `except*` would divide it."""
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(kind)
    return (error, None) if isinstance(error, kind) else (None, error)


def _close(machine: Machine) -> list[BaseException]:
    """Close a machine whose block is left; return what a handler raised that is no `Exception`."""
    try:
        machine.close()
    except BaseException as error:
        return [error]
    return []


protect(__name__)
