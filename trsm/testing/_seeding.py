"""All that the tools use of trio's private names: its source of random numbers, and the forced end of a blocked task.

``tests/testing/test_seeding.py`` says so when one of them moves.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn, cast

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


class _Private:
    """What is used of `trio._core._run`."""

    _r: random.Random
    _ALLOW_DETERMINISTIC_SCHEDULING: bool


class _Task:
    """What is used of a task."""

    _abort_func: object

    def _attempt_abort(self, raise_cancel: object) -> None: ...
