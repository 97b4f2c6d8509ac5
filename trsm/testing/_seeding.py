"""All that the tools use of trio's private names: its order of tasks, what a task is told, and how to end it by force.

``tests/testing/test_seeding.py`` says so when one of them moves.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn, cast

import outcome
import trio
from trio._core import _run


@contextmanager
def repeatable(seed: int) -> Generator[None]:
    """Let trio schedule tasks in the same order on every run with this seed.

    By itself trio shuffles what is ready at once, so that nobody relies on an order. It has a switch to sort it first,
    and its own source of random numbers, for Hypothesis: both private. Both are left as they were found.
    """
    private = cast("_Private", _run)
    source, was_sorted = private._r, private._ALLOW_DETERMINISTIC_SCHEDULING
    state = source.getstate()
    private._ALLOW_DETERMINISTIC_SCHEDULING = True
    source.seed(seed)
    try:
        yield
    finally:
        source.setstate(state)
        private._ALLOW_DETERMINISTIC_SCHEDULING = was_sorted


def abort(task: trio.lowlevel.Task, error: BaseException) -> None:
    """Raise an exception where a task is blocked, shielded or not; nothing happens if it is not blocked."""
    blocked = cast("_Task", task)

    def throw() -> NoReturn:
        raise error

    if blocked._abort_func is not None:
        blocked._attempt_abort(throw)


def fail_step(task: trio.lowlevel.Task, error: BaseException) -> None:
    """Raise an exception in the step of a task that is due, shielded or not.

    Its first step is left alone, and so is one that leaves a nursery, which has to see to its own end.
    """
    due = cast("_Task", task)
    if isinstance(due._next_send, outcome.Outcome):
        if any(frame.f_code.co_name == "_nested_child_finished" for frame, _ in task.iter_await_frames()):
            return
        due._next_send = outcome.Error(error)


def is_told(task: trio.lowlevel.Task, scope: trio.CancelScope) -> bool:
    """Return whether the step of a task that is due raises a cancellation that has to come out at this scope.

    That is: the scope is cancelled, whatever other scope around the task was too, and no shield stands between.
    """
    due = cast("_Task", task)
    told = due._next_send
    if not (scope.cancel_called and isinstance(told, outcome.Error) and isinstance(told.error, trio.Cancelled)):
        return False
    status: _CancelStatus | None = due._cancel_status
    while status is not None and status._scope is not scope:
        if status._scope.shield:
            return False
        status = status._parent
    return status is not None


class _Private:
    """What is used of `trio._core._run`."""

    _r: random.Random
    _ALLOW_DETERMINISTIC_SCHEDULING: bool


class _Task:
    """What is used of a task."""

    _abort_func: object
    _next_send: object
    _cancel_status: _CancelStatus

    def _attempt_abort(self, raise_cancel: object) -> None: ...


class _CancelStatus:
    """What is used of how scopes lie in one another."""

    _scope: trio.CancelScope
    _parent: _CancelStatus | None
