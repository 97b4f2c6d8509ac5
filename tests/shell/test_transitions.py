"""`transitions()`: every transition, through a bounded buffer whose overflow policy the caller names (row 35)."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trsm
from trsm import BufferFull, ErrorState, Machine, Schema, State, Transition, Transitions


class Lamp(Schema):
    On = State()
    Blink = State(multi=True)
    Bright = State(auto=True, require=On)
    ErrLamp = ErrorState(catches=OSError)


async def read(stream: Transitions) -> list[Transition]:
    """Return what a stream gives until it ends."""
    return [transition async for transition in stream]


def kinds(transitions: list[Transition]) -> list[str]:
    return [transition.kind for transition in transitions]


async def test_every_transition_is_given_in_order() -> None:
    """Implied, automatic and idle ones too, each once, with ticks that have no gap; closing is the last."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=100, overflow="raise")
        machine.add(Lamp.On)
        machine.add(Lamp.On)  # changes nothing
        machine.remove(Lamp.Blink)  # touches nobody
        machine.mutate(add=Lamp.Blink, remove=Lamp.On)
        machine.add_error(OSError())
        machine.set(Lamp.Blink)
    got = await read(stream)
    assert kinds(got) == ["add", "auto", "add", "remove", "mutate", "error", "set", "close"]
    assert [transition.tick for transition in got] == list(range(1, 9))
    assert got[-1] is machine.last_transition
    assert stream.dropped == 0


async def test_closing_with_nothing_active_is_given_too() -> None:
    """The last transition leaves nothing out, though it touches nobody."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=1, overflow="raise")
    assert kinds(await read(stream)) == ["close"]


async def test_a_canceled_mutation_leaves_no_transition() -> None:
    """What was refused did not happen."""

    @Lamp.On.can_enter
    def never(t: Transition) -> bool:
        return False

    async with trsm.open_machine(Lamp, never) as machine:
        stream = machine.transitions(buffer=5, overflow="raise")
        assert not machine.add(Lamp.On)
    assert kinds(await read(stream)) == ["close"]


async def test_the_removal_that_a_fault_brings_is_one_of_its_own() -> None:
    """It follows the transition in which the handler failed."""

    @Lamp.On.on_enter
    def fail(t: Transition) -> None:
        raise OSError

    async with trsm.open_machine(Lamp, fail) as machine:
        stream = machine.transitions(buffer=10, overflow="raise")
        machine.add(Lamp.On)
    got = await read(stream)
    assert kinds(got) == ["add", "removal", "error", "close"]
    assert [transition.tick for transition in got] == [1, 2, 3, 4]


async def test_it_looks_forward_only() -> None:
    """Neither what was before, nor the transition in whose handler it is made."""
    made: list[Transitions] = []

    @Lamp.On.on_enter
    def make(t: Transition) -> None:
        made.append(machine.transitions(buffer=5, overflow="raise"))
        machine.add(Lamp.Blink)

    async with trsm.open_machine(Lamp, make) as machine:
        machine.remove(Lamp.On)
        machine.add(Lamp.On)
    assert kinds(await read(made[0])) == ["auto", "add", "close"]


async def test_made_in_negotiation_it_sees_what_is_asked_about() -> None:
    """A negotiation handler sees the machine as it was before, and so does what is made in it: as with waiters."""
    made: list[Transitions] = []

    @Lamp.On.can_enter
    def make(t: Transition) -> bool:
        made.append(machine.transitions(buffer=5, overflow="raise"))
        return True

    async with trsm.open_machine(Lamp, make) as machine:
        machine.add(Lamp.On)
    assert kinds(await read(made[0])) == ["add", "auto", "close"]


async def test_drop_oldest() -> None:
    """The newest stay, and what was dropped is counted."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=2, overflow="drop_oldest")
        for _ in range(5):
            machine.add(Lamp.Blink)
        assert stream.dropped == 3
        assert [(await anext(stream)).tick, (await anext(stream)).tick] == [4, 5]
        machine.remove(Lamp.Blink)
        assert (await anext(stream)).tick == 6
    assert [transition.tick for transition in await read(stream)] == [7]
    assert stream.dropped == 3


async def test_drop_newest() -> None:
    """The oldest stay, and what was dropped is counted."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=2, overflow="drop_newest")
        for _ in range(5):
            machine.add(Lamp.Blink)
        assert stream.dropped == 3
        assert [(await anext(stream)).tick, (await anext(stream)).tick] == [1, 2]
        machine.remove(Lamp.Blink)
        assert (await anext(stream)).tick == 6
    assert stream.dropped == 3


async def test_overflow_that_raises() -> None:
    """The reader gets what was buffered, then the error once, then the end; the machine goes on."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=2, overflow="raise")
        for _ in range(5):
            machine.add(Lamp.Blink)
        assert machine.tick(Lamp.Blink) == 9
        assert machine._subscriptions is not None
        assert len(machine._subscriptions) == 0
        assert [(await anext(stream)).tick, (await anext(stream)).tick] == [1, 2]
        with assert_checkpoints(), pytest.raises(BufferFull, match=r"buffer=2, overflow='raise'.*<Transition 3 add"):
            await anext(stream)
        assert await read(stream) == []
    assert stream.dropped == 1


async def test_a_fault_that_brings_one_more_than_fits_raises_once() -> None:
    """The transition and its removal: where the first has no room, the second is not looked at."""

    @Lamp.On.on_enter
    def fail(t: Transition) -> None:
        raise OSError

    async with trsm.open_machine(Lamp, fail) as machine:
        stream = machine.transitions(buffer=1, overflow="raise")
        machine.add(Lamp.Blink)
        machine.add(Lamp.On)
        assert stream.dropped == 1
        assert kinds([await anext(stream)]) == ["add"]
        with pytest.raises(BufferFull):
            await anext(stream)


async def test_every_step_is_a_checkpoint() -> None:
    """Whether there is something, or nothing yet, or nothing any more."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=5, overflow="raise")
        machine.add(Lamp.On)
        with assert_checkpoints():
            await anext(stream)
        await anext(stream)  # the automatic round
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later, machine)
            with assert_checkpoints():
                assert (await anext(stream)).kind == "remove"
    assert (await anext(stream)).kind == "close"
    with assert_checkpoints(), pytest.raises(StopAsyncIteration):
        await anext(stream)


async def later(machine: Machine) -> None:
    await wait_all_tasks_blocked()
    machine.remove(Lamp.On)


async def test_a_cancelled_step_loses_nothing() -> None:
    """Cancelled while it waits, or with items there: the next step gives the next item."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=5, overflow="raise")
        with trio.move_on_after(0) as scope:
            await anext(stream)
        assert scope.cancelled_caught
        machine.add(Lamp.Blink)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(stream)
        assert scope.cancelled_caught
        assert (await anext(stream)).tick == 1


async def test_two_readers() -> None:
    """One task at a time; each with a stream of its own gets everything."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=5, overflow="raise")
        other = machine.transitions(buffer=5, overflow="drop_oldest")
        async with trio.open_nursery() as nursery:

            async def waiting() -> None:
                await anext(stream)

            nursery.start_soon(waiting)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match=r"transitions\(\): make one for each task"):
                await anext(stream)
            machine.add(Lamp.Blink)
        assert (await anext(other)).tick == 1


async def test_waiting_readers_see_the_end() -> None:
    """A reader outside of the block that waits when the machine closes gets the last transition, and ends."""
    got: list[str] = []

    async def reading(stream: Transitions) -> None:
        got.extend(kinds(await read(stream)))

    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Lamp) as machine:
            nursery.start_soon(reading, machine.transitions(buffer=1, overflow="raise"))
            await wait_all_tasks_blocked()
    assert got == ["close"]


async def test_a_closed_machine_gives_nothing() -> None:
    """It ends at once."""
    async with trsm.open_machine(Lamp) as machine:
        pass
    assert await read(machine.transitions(buffer=1, overflow="raise")) == []


async def test_one_that_is_dropped_unsubscribes_by_itself() -> None:
    """Nobody fills the buffer of a stream that nobody can read."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=1, overflow="raise")
        assert machine._watched == -1
        reference = weakref.ref(stream)
        gc.disable()
        try:
            del stream
            assert reference() is None
        finally:
            gc.enable()
        assert machine._watched == 0


async def test_bad_buffers_and_policies() -> None:
    """The size and the policy have to be named, and to be such."""
    async with trsm.open_machine(Lamp) as machine:
        for buffer in (0, -1, True, 1.5, "9"):
            with pytest.raises(ValueError, match=r"buffer=.*: write a whole number, 1 or more"):
                machine.transitions(buffer=buffer, overflow="raise")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match='overflow=\'drop\': write "drop_oldest", "drop_newest" or "raise"'):
            machine.transitions(buffer=1, overflow="drop")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="overflow"):
            machine.transitions(buffer=1)  # type: ignore[call-arg]


async def test_from_another_thread() -> None:
    """Neither made nor read there."""
    async with trsm.open_machine(Lamp) as machine:
        stream = machine.transitions(buffer=1, overflow="raise")

        def make() -> None:
            machine.transitions(buffer=1, overflow="raise")

        with pytest.raises(trsm.WrongThread, match="transitions of machine"):
            await trio.to_thread.run_sync(make)

        def step() -> None:
            trio.run(stream.__anext__)

        with pytest.raises(trsm.WrongThread, match=r"a transitions\(\) is used in a thread"):
            await trio.to_thread.run_sync(step)


async def test_repr_tells_how_full_the_buffer_is() -> None:
    """And what was lost; the machine may be gone by then."""
    async with trsm.open_machine(Lamp, id="lamp") as machine:
        stream = machine.transitions(buffer=2, overflow="drop_oldest")
        machine.add(Lamp.Blink)
        assert repr(stream) == "<Transitions of 'lamp', waiting, 1 of 2 in the buffer, 0 dropped>"
        machine.add(Lamp.Blink)
        machine.add(Lamp.Blink)
    assert repr(stream) == "<Transitions of 'lamp', ended, 2 of 2 in the buffer, 2 dropped>"
    del machine
    gc.collect()
    assert repr(stream) == "<Transitions of a machine that is gone, ended, 2 of 2 in the buffer, 2 dropped>"
