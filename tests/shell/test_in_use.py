"""What a machine holds, counted: `Machine.in_use`."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trsm
from trsm import InUse, Machine, Schema, State, Transition, WrongThread

NOTHING = InUse(tasks=0, waiters=0, scopes=0, children=0, queued=0)


class Link(Schema):
    Up = State()
    Busy = State(require=Up)
    Ping = State(multi=True)


@Link.Up.task
async def slow_to_end(t: Transition) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)


async def test_new_machine_holds_nothing() -> None:
    """Every count is 0, and the whole is false."""
    async with trsm.open_machine(Link) as machine:
        assert machine.in_use == NOTHING
        assert not machine.in_use


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(InUse)])
def test_one_of_anything_is_in_use(field: str) -> None:
    """The whole is true as soon as one count is not 0."""
    assert attrs.evolve(NOTHING, **{field: 1})


async def test_tasks_are_counted_until_they_have_ended(autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled task that cleans up still counts, and so does a successor that waits for it."""
    async with trsm.open_machine(Link, slow_to_end) as machine:
        machine.add(Link.Up)
        assert machine.in_use.tasks == 1
        await wait_all_tasks_blocked()
        machine.remove(Link.Up)
        await wait_all_tasks_blocked()
        assert machine.in_use == attrs.evolve(NOTHING, tasks=1)
        machine.add(Link.Up)
        assert machine.in_use.tasks == 2
        await trio.sleep(1.5)
        assert machine.in_use.tasks == 1
        machine.start_soon(trio.sleep_forever)
        assert machine.in_use.tasks == 2


async def test_waiters_are_counted_while_somebody_holds_them() -> None:
    """A waiter that ended, or that was dropped, no longer counts; one for several states counts once."""
    async with trsm.open_machine(Link) as machine:
        both = machine.when(Link.Up, Link.Busy)
        watch, every, closed = machine.watch(), machine.transitions(buffer=1, overflow="raise"), machine.when_closed()
        assert machine.in_use == attrs.evolve(NOTHING, waiters=4)
        machine.add(Link.Up, Link.Busy)
        assert both.done
        assert machine.in_use.waiters == 3
        del watch, every
        assert machine.in_use.waiters == 1
    assert closed.done


async def test_pipe_is_no_waiter() -> None:
    """What a pipe needs of its machines to end with them is not counted."""
    async with trsm.open_machine(Link) as source, trsm.open_machine(Link) as target:
        pipe = trsm.pipe(source, Link.Up, target)
        assert (source.in_use, target.in_use) == (NOTHING, NOTHING)
        assert "waiters" not in source.describe()
        pipe.close()


async def test_scopes_are_counted_until_left_or_cancelled() -> None:
    """Both kinds count; one whose state has left is over, though its block goes on."""
    async with trsm.open_machine(Link) as machine:
        machine.add(Link.Up)
        with machine.while_inactive(Link.Busy), machine.while_active(Link.Up):
            assert machine.in_use == attrs.evolve(NOTHING, scopes=2)
            machine.remove(Link.Up)
            assert machine.in_use.scopes == 1
        assert not machine.in_use


async def test_children_are_counted_once_and_as_no_tasks() -> None:
    """Started ones, and those with a block of their own."""
    async with trsm.open_machine(Link) as machine, trsm.open_machine(Link, parent=machine):
        child = machine.start_child(Link)
        assert machine.in_use == attrs.evolve(NOTHING, children=2)
        child.close()
        assert machine.in_use == attrs.evolve(NOTHING, children=1)


async def test_queued_mutations_are_counted_inside_a_transition() -> None:
    """Outside of one there are none."""
    seen: list[InUse] = []

    @Link.Up.on_enter
    def queue(t: Transition) -> None:
        t.machine.add(Link.Busy)
        t.machine.add(Link.Ping, first=True)
        seen.append(t.machine.in_use)

    async with trsm.open_machine(Link, queue) as machine:
        machine.add(Link.Up)
        assert seen == [attrs.evolve(NOTHING, queued=2)]
        assert not machine.in_use


async def test_closed_machine_holds_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Once its block is left, whatever it held before."""
    async with trsm.open_machine(Link, slow_to_end) as machine:
        machine.add(Link.Up)
        child = machine.start_child(Link, slow_to_end)
        child.add(Link.Up)
        waiter = machine.when(Link.Busy)
        await wait_all_tasks_blocked()
        assert machine.in_use == attrs.evolve(NOTHING, tasks=1, waiters=1, children=1)
        child.close()
        assert child.in_use == attrs.evolve(NOTHING, tasks=1)
        assert machine.in_use.children == 1
    assert (machine.in_use, child.in_use) == (NOTHING, NOTHING)
    assert waiter.done


async def test_reading_from_another_thread() -> None:
    """It is refused, as for everything else of a machine."""

    def read(machine: Machine) -> object:
        return machine.in_use

    async with trsm.open_machine(Link) as machine:
        with pytest.raises(WrongThread, match=r"in_use of machine .* was read from a thread"):
            await trio.to_thread.run_sync(read, machine)
