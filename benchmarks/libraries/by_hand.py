"""The floor, and the limit: the same work written by hand, in Python and directly in trio."""

from __future__ import annotations

import trio
import trio.testing

from floor import Floor, GuardedFloor, RingFloor
from timing import Traced, clock, import_seconds

VERSION_OF = "trio"

# ---- The floor ------------------------------------------------------------------------------------------------------


def two_states(count: int) -> float:
    return _in_turn(Floor(), count)


def guarded(count: int) -> float:
    return _in_turn(GuardedFloor(), count)


def _in_turn(floor: Floor, count: int) -> float:
    start = clock()
    for _ in range(count // 2):
        floor.fire("switch_on")
        floor.fire("switch_off")
    return clock() - start


def ring(count: int) -> float:
    floor = RingFloor(50)
    start = clock()
    for _ in range(count // 2):
        floor.fire("advance")
        floor.fire("advance")
    return clock() - start


# ---- The limit ------------------------------------------------------------------------------------------------------


async def waiter(count: int) -> float:
    """Two tasks in turn: each makes its event, sets that of the other, and waits for its own."""
    events = [trio.Event(), trio.Event()]

    async def play(mine: int, theirs: int) -> None:
        for _ in range(count // 2):
            ready = events[mine] = trio.Event()
            events[theirs].set()
            await ready.wait()
        events[theirs].set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_after, events[1], play, 1, 0)
        await trio.testing.wait_all_tasks_blocked()
        start = clock()
        await play(0, 1)
        return clock() - start


async def _after(event: trio.Event, play: object, *args: int) -> None:
    await event.wait()
    await play(*args)  # type: ignore[operator]


async def scope(count: int) -> float:
    start = clock()
    for _ in range(count):
        with trio.CancelScope():
            pass
    return clock() - start


async def task(count: int) -> float:
    """Start a task in a scope, cancel the scope when it runs, and wait until it has ended."""

    async def work(scope: trio.CancelScope, started: trio.Event, done: trio.Event) -> None:
        with scope:
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                done.set()

    async with trio.open_nursery() as nursery:
        start = clock()
        for _ in range(count):
            started, done = trio.Event(), trio.Event()
            scope = trio.CancelScope()
            nursery.start_soon(work, scope, started, done)
            await started.wait()
            scope.cancel()
            await done.wait()
        return clock() - start


async def nursery(count: int) -> float:
    start = clock()
    for _ in range(count):
        async with trio.open_nursery():
            pass
    return clock() - start


async def nurseries_with_a_task(count: int) -> int:
    """Hold many nurseries, each with a scope and a task in it that waits."""

    async def hold() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await trio.sleep_forever()

    async def work() -> None:
        with trio.CancelScope():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with Traced() as memory:
            for _ in range(count):
                nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return memory.taken


def import_(count: int) -> float:
    return sum(import_seconds("trio") for _ in range(count))


CASES = {
    "1": two_states,
    "2": guarded,
    "3": ring,
    "7": waiter,
    "8": scope,
    "9": task,
    "10 root": nursery,
    "11 task": nurseries_with_a_task,
    "12": import_,
}
