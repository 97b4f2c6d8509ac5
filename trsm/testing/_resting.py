"""When nothing goes on any more, and who might: what lies outside of trio, which has to be waited for in real time."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

GRACE = 0.01
"""Seconds of real time for which sockets and pipes, if some task waits for one, may be silent before time passes."""


def outside() -> float | None:
    """Return how long to wait for what is outside of trio before time passes: None while a thread works."""
    if trio.to_thread.current_default_thread_limiter().borrowed_tokens:
        return None
    counts = attrs.asdict(trio.lowlevel.current_statistics().io_statistics).values()
    return GRACE if sum(count for count in counts if isinstance(count, int)) > 1 else 0.0  # one waits to be woken


def descendants(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """Iterate over a task and all that descend from it."""
    ahead = [task]
    while ahead:
        one = ahead.pop()
        yield one
        for nursery in one.child_nurseries:
            ahead.extend(nursery.child_tasks)


async def rest() -> None:
    """Wait until every task is blocked, no thread works, and sockets are silent."""
    while True:
        wait = outside()
        await wait_all_tasks_blocked(0.001 if wait is None else wait)
        if wait is not None and outside() is not None:
            return
