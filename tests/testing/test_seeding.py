"""What `trsm.testing` uses of trio's private names: still there, and still doing what it is used for."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import outcome
import pytest
import trio
from trio._core import _run

from trsm.testing._seeding import abort, fail_step, is_told, repeatable


def order(seed: int) -> list[int]:
    """Return the order in which ten tasks took ten turns."""
    turns: list[int] = []

    async def take(number: int) -> None:
        for _ in range(10):
            turns.append(number)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(take, number)

    with repeatable(seed):
        trio.run(main)
    return turns


def test_private_names_of_trio() -> None:
    """They are where the tools look for them."""
    assert hasattr(_run, "_r")
    assert isinstance(_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert hasattr(trio.lowlevel.Task, "_attempt_abort")
    for name in ("_abort_func", "_next_send", "_cancel_status"):
        assert hasattr(trio.lowlevel.Task, name)
    assert hasattr(trio.Nursery, "_nested_child_finished")
    for name in ("_scope", "_parent"):
        assert name in {field.name for field in attrs.fields(_run.CancelStatus)}


def test_same_seed_gives_the_same_order() -> None:
    """And another one another, so that sweeps can try several."""
    assert order(0) == order(0)
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_scheduler_after_a_repeatable_run() -> None:
    """It is left as it was found, also after an exception."""
    before = _run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    order(0)
    assert (_run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING) == before
    with pytest.raises(ZeroDivisionError), repeatable(1):
        raise ZeroDivisionError
    assert (_run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING) == before


async def test_aborting_a_shielded_task() -> None:
    """The exception is raised where it waits; a task that waits for nothing goes on."""
    ended: list[outcome.Outcome[None]] = []

    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            ended.append(await outcome.acapture(trio.sleep_forever))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shielded)
        await trio.testing.wait_all_tasks_blocked()
        (task,) = nursery.child_tasks
        error = ZeroDivisionError()
        abort(trio.lowlevel.current_task(), error)
        abort(task, error)
        abort(task, error)
    assert ended == [outcome.Error(error)]


class Steps(trio.abc.Instrument):
    """Calls a function before each step of a task."""

    def __init__(self, task: trio.lowlevel.Task, look: Callable[[], None]) -> None:
        self.task = task
        self.look = look

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.look()


async def test_failing_the_step_of_a_shielded_task() -> None:
    """The exception is raised where it would go on."""
    me = trio.lowlevel.current_task()
    steps = Steps(me, lambda: fail_step(me, ZeroDivisionError()))
    trio.lowlevel.add_instrument(steps)
    with trio.CancelScope(shield=True), pytest.raises(ZeroDivisionError):
        await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(steps)


async def test_task_that_leaves_a_nursery_is_not_failed() -> None:
    """It would leave the nursery in pieces."""
    me = trio.lowlevel.current_task()
    steps = Steps(me, lambda: fail_step(me, ZeroDivisionError()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        trio.lowlevel.add_instrument(steps)
    trio.lowlevel.remove_instrument(steps)


async def test_first_step_of_a_task_is_not_failed() -> None:
    """A coroutine that has not begun cannot be told anything."""
    begun: list[bool] = []

    async def child() -> None:
        begun.append(True)

    class First(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            fail_step(task, ZeroDivisionError())

    first = First()
    trio.lowlevel.add_instrument(first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
    trio.lowlevel.remove_instrument(first)
    assert begun == [True]


@pytest.mark.parametrize("is_shielded", [False, True])
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_task_that_is_told_of_a_cancellation(
    is_shielded: bool, is_cancelled: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Any cancellation counts that has to come out at the scope: also that of a deadline inside, without a shield."""
    told: list[bool] = []
    me = trio.lowlevel.current_task()
    with trio.CancelScope() as scope:

        def look() -> None:
            if is_cancelled and trio.current_time() >= autojump_clock.current_time() > began:
                scope.cancel()
            told.append(is_told(me, scope))

        began = trio.current_time()
        steps = Steps(me, look)
        trio.lowlevel.add_instrument(steps)
        with trio.move_on_after(1, shield=is_shielded):
            await trio.sleep_forever()
    trio.lowlevel.remove_instrument(steps)
    assert any(told) is (is_cancelled and not is_shielded)
    assert scope.cancelled_caught is (is_cancelled and not is_shielded)
    assert not is_told(me, scope)
