"""`watch()`: the present ticks first, then the latest only (DESIGN section 6)."""

from __future__ import annotations

import gc

import pytest
import trio
from trio.testing import Sequencer, assert_checkpoints, wait_all_tasks_blocked

import trsm
from trsm import ErrorState, Machine, Schema, State, Ticks, Transition, Watch


class Lamp(Schema):
    On = State()
    Blink = State(multi=True)
    ErrLamp = ErrorState(catches=OSError)


def subscribed(machine: Machine) -> int:
    return 0 if machine._subscriptions is None else len(machine._subscriptions)


async def test_first_item() -> None:
    """The first item is the present ticks, those at the first step and not those at the call."""
    async with trsm.open_machine(Lamp) as machine:
        machine.add(Lamp.On)
        watch = machine.watch()
        machine.add(Lamp.Blink)
        assert await anext(watch) == machine.ticks


async def test_every_step_is_a_checkpoint() -> None:
    """Each step is a checkpoint: the first, one that finds news, one that waits, and the end."""
    async with trsm.open_machine(Lamp) as machine:
        watch = machine.watch()
        with assert_checkpoints():
            await anext(watch)
        machine.add(Lamp.On)
        with assert_checkpoints():
            await anext(watch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, machine.remove, Lamp.On)
            with assert_checkpoints():
                await anext(watch)
    with assert_checkpoints(), pytest.raises(StopAsyncIteration):
        await anext(watch)


async def _later(function: object, *args: object) -> None:
    await wait_all_tasks_blocked()
    function(*args)


async def test_latest_only() -> None:
    """A slow watcher gets the latest ticks and no backlog; the machine never waits for it."""
    got: list[Ticks] = []
    order = Sequencer()

    async with trsm.open_machine(Lamp) as machine, trio.open_nursery() as nursery:

        async def watching() -> None:
            async for ticks in machine.watch():
                got.append(ticks)
                if len(got) == 2:
                    async with order(1):
                        pass

        nursery.start_soon(watching)
        await wait_all_tasks_blocked()
        async with order(0):
            machine.add(Lamp.On)
            await wait_all_tasks_blocked()
            for _ in range(50):
                machine.add(Lamp.Blink)
                await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert [(ticks[Lamp.On], ticks[Lamp.Blink]) for ticks in got] == [(0, 0), (1, 0), (1, 99)]
        nursery.cancel_scope.cancel()


async def test_transitions_of_one_drain() -> None:
    """Whatever one drain does is one item: the ticks when the watcher runs."""

    class Chain:
        @Lamp.On.on_enter
        def go_on(self, t: Transition) -> None:
            t.machine.add(Lamp.Blink)
            t.machine.remove(Lamp.On)

    async with trsm.open_machine(Lamp, Chain()) as machine:
        got: list[Ticks] = []

        async def watching() -> None:
            async for ticks in machine.watch():
                got.append(ticks)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watching)
            await wait_all_tasks_blocked()
            machine.add(Lamp.On)
            await wait_all_tasks_blocked()
            assert got[1:] == [machine.ticks]
            nursery.cancel_scope.cancel()


async def test_nothing_moved() -> None:
    """What moves no tick is no news: a canceled mutation, and an active state that is called again."""
    async with trsm.open_machine(Lamp) as machine:
        machine.add(Lamp.On)
        watch = machine.watch()
        await anext(watch)
        machine.add(Lamp.On)
        with trio.move_on_after(0) as scope:
            await anext(watch)
        assert scope.cancelled_caught


async def test_moved_by_a_fault_and_its_removal() -> None:
    """A state that a fault takes back at once is news: its tick has moved."""

    class Broken:
        @Lamp.On.on_enter
        def fail(self, t: Transition) -> None:
            raise OSError

    async with trsm.open_machine(Lamp, Broken()) as machine:
        watch = machine.watch()
        await anext(watch)
        machine.add(Lamp.On)
        ticks = await anext(watch)
        assert ticks[Lamp.On] == 2


async def test_cancelled_step_loses_nothing() -> None:
    """After a cancelled step, waiting or with news at hand, the next one gives the latest ticks."""
    async with trsm.open_machine(Lamp) as machine:
        watch = machine.watch()
        for expected in (0, 1):
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(watch)
            assert scope.cancelled_caught
            assert (await anext(watch))[Lamp.On] == expected
            with trio.move_on_after(0) as scope:
                await anext(watch)
            assert scope.cancelled_caught
            machine.add(Lamp.On)
        machine.add(Lamp.Blink)
        assert (await anext(watch)) == machine.ticks


async def test_cancelled_and_woken_in_one_step() -> None:
    """A step that had news before the cancellation gives them; the cancellation comes at the next."""
    async with trsm.open_machine(Lamp) as machine:
        watch = machine.watch()
        await anext(watch)
        got: list[Ticks] = []
        scope = trio.CancelScope()

        async def step() -> None:
            with scope:
                got.append(await anext(watch))
                got.append(await anext(watch))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(step)
            await wait_all_tasks_blocked()
            machine.add(Lamp.On)
            scope.cancel()
        assert [ticks[Lamp.On] for ticks in got] == [1]
        machine.add(Lamp.Blink)
        assert (await anext(watch))[Lamp.Blink] == 1


async def test_two_tasks_iterate_one_watch() -> None:
    """One task at a time may iterate a watch: another is told to make its own, and the first goes on."""
    async with trsm.open_machine(Lamp) as machine:
        watch = machine.watch()
        got: list[Ticks] = []

        async def step() -> None:
            got.append(await anext(watch))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(step)
            await wait_all_tasks_blocked()
            nursery.start_soon(step)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match=r"another task is waiting on this watch\(\): make one"):
                await anext(watch)
            machine.add(Lamp.On)
        assert [ticks[Lamp.On] for ticks in got] == [0, 1]


async def test_two_tasks_take_the_first_step_at_once() -> None:
    """The same holds while the first is only passing a checkpoint, with news at hand."""
    async with trsm.open_machine(Lamp) as machine:
        watch = machine.watch()
        ends: list[object] = []

        async def step() -> None:
            try:
                ends.append(await anext(watch))
            except trio.BusyResourceError:
                ends.append("busy")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(step)
            nursery.start_soon(step)
        assert ends == ["busy", machine.ticks]


async def test_several_watches() -> None:
    """Each task has its own watch, and each is told."""
    async with trsm.open_machine(Lamp) as machine:
        watches = [machine.watch() for _ in range(3)]
        for watch in watches:
            await anext(watch)
        machine.add(Lamp.On)
        assert [await anext(watch) for watch in watches] == [machine.ticks] * 3


async def _collect(watch: Watch, into: list[Ticks]) -> None:
    async for ticks in watch:
        into.append(ticks)
    into.append("over")


async def test_ends_quietly_at_close() -> None:
    """When the machine closes, who waits is woken, and the iteration ends; the deactivation by closing is no item."""
    got: list[object] = []
    async with trio.open_nursery() as outside:
        async with trsm.open_machine(Lamp) as machine:
            machine.add(Lamp.On)
            outside.start_soon(_collect, machine.watch(), got)
            await wait_all_tasks_blocked()
            at_close = machine.ticks
    assert got == [at_close, "over"]
    assert machine.ticks != at_close


async def test_moved_right_before_the_close() -> None:
    """What had moved and was not given yet is given before the end: the ticks at close."""
    got: list[object] = []
    unstarted: list[object] = []
    async with trio.open_nursery() as outside:
        async with trsm.open_machine(Lamp) as machine:
            outside.start_soon(_collect, machine.watch(), got)
            await wait_all_tasks_blocked()
            outside.start_soon(_collect, machine.watch(), unstarted)
            machine.add(Lamp.On)
            machine.close()
        await wait_all_tasks_blocked()
    assert [ticks if ticks == "over" else ticks[Lamp.On] for ticks in got] == [0, 1, "over"]
    assert got[1] == machine.ticks_at_close
    assert unstarted == [machine.ticks_at_close, "over"]


async def test_made_after_the_close() -> None:
    """Of a closed machine a watch gives the ticks at close, and ends, again and again."""
    async with trsm.open_machine(Lamp) as machine:
        machine.add(Lamp.On)
    watch = machine.watch()
    assert [ticks async for ticks in watch] == [machine.ticks_at_close]
    assert [ticks async for ticks in watch] == []


async def test_watch_in_the_body() -> None:
    """A body that watches its own machine is cancelled by the close, as by any other wait."""
    got: list[Ticks] = []
    async with trsm.open_machine(Lamp) as machine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, machine.close)
            async for ticks in machine.watch():
                got.append(ticks)
            pytest.fail("the body went on")
    assert len(got) == 1


async def test_closed_watch_that_is_kept() -> None:
    """P20: after the close a watch holds no subscription, though somebody keeps it."""
    async with trsm.open_machine(Lamp) as machine:
        watch = machine.watch()
        subscriptions = machine._subscriptions
        assert len(subscriptions) == 1
    assert len(subscriptions) == 0
    assert watch._refs == []


async def test_dropped_watch() -> None:
    """A watch that is dropped, before its first step or in the middle, unsubscribes by itself."""
    async with trsm.open_machine(Lamp) as machine:
        machine.watch()
        assert subscribed(machine) == 0
        async for _ in machine.watch():
            break
        assert subscribed(machine) == 0
        with trio.move_on_after(0):
            async for _ in machine.watch():
                pass
        await trio.lowlevel.checkpoint()
        assert subscribed(machine) == 0


async def test_dropped_while_a_task_waits_on_it() -> None:
    """A task in the middle of an iteration holds its watch."""
    async with trsm.open_machine(Lamp) as machine:
        got: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect, machine.watch(), got)
            await wait_all_tasks_blocked()
            gc.collect()
            machine.add(Lamp.On)
            await wait_all_tasks_blocked()
            assert len(got) == 2
            nursery.cancel_scope.cancel()


async def test_repr_of_a_watch() -> None:
    """Of which machine it is, and whether it has ended."""
    async with trsm.open_machine(Lamp, id="lamp") as machine:
        watch = machine.watch()
        assert repr(watch) == "<Watch of 'lamp', waiting>"
    assert repr(watch) == "<Watch of 'lamp', ended>"
