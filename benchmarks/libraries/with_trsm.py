"""Every case, with trsm."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any

import trio
import trio.testing

import trsm
from timing import Resident, Traced, clock, import_seconds
from trsm import Schema, State

VERSION_OF = "trsm"


class Switch(Schema):
    """Two states in turn."""

    On = State(remove="Off")
    Off = State(remove=On)


class Guarded:
    """One guard and one enter handler."""

    def __init__(self) -> None:
        self.entered = 0

    @Switch.On.can_enter
    @Switch.Off.can_enter
    def may_enter(self, t: trsm.Transition) -> bool:
        return True

    @Switch.On.on_enter
    @Switch.Off.on_enter
    def enter(self, t: trsm.Transition) -> None:
        self.entered += 1


def switched(machine: trsm.Machine, count: int) -> float:
    """Return the seconds that so many mutations take, On and Off in turn."""
    on, off = Switch.On, Switch.Off
    machine.add(off)
    start = clock()
    for _ in range(count // 2):
        machine.add(on)
        machine.add(off)
    return clock() - start


async def two_states(count: int) -> float:
    async with trsm.open_machine(Switch) as machine:
        return switched(machine, count)


async def guarded(count: int) -> float:
    async with trsm.open_machine(Switch, Guarded()) as machine:
        return switched(machine, count)


# ---- Many states ----------------------------------------------------------------------------------------------------


@functools.cache
def ring_of(size: int) -> tuple[type[Schema], object]:
    """Return a schema of states that exclude one another, and an object with a guard and an enter handler for each."""
    names = [f"S{number}" for number in range(size)]
    states = {name: State(remove=tuple(other for other in names if other != name)) for name in names}
    schema = Schema.define("Ring", states)

    def may_enter(self: Any, t: trsm.Transition) -> bool:
        return True

    def enter(self: Any, t: trsm.Transition) -> None:
        self.entered += 1

    for state in schema:
        if str(state) != "Error":
            state.can_enter(may_enter)
            state.on_enter(enter)
    return schema, type("Handlers", (), {"may_enter": may_enter, "enter": enter, "entered": 0})()


async def ring(count: int, size: int = 50) -> float:
    schema, handlers = ring_of(size)
    states = [schema[f"S{number}"] for number in range(size)]
    async with trsm.open_machine(schema, handlers) as machine:
        machine.add(states[-1])
        start = clock()
        for _ in range(count // size):
            for state in states:
                machine.add(state)
        for state in states[: count % size]:
            machine.add(state)
        return clock() - start


@functools.cache
def chain_of(size: int) -> type[Schema]:
    """Return a schema in which each state requires the one before."""
    names = [f"S{number}" for number in range(size)]
    return Schema.define("Chain", {name: State(require=names[max(0, n - 1) : n]) for n, name in enumerate(names)})


async def chain(count: int, size: int = 200) -> float:
    schema = chain_of(size)
    last = schema[f"S{size - 1}"]
    async with trsm.open_machine(schema) as machine:
        machine.add(*(schema[f"S{number}"] for number in range(size)))
        start = clock()
        for _ in range(count // 2):
            machine.toggle(last)
            machine.toggle(last)
        return clock() - start


def pairs_of(size: int) -> type[Schema]:
    """Return a schema, a new one each time, of states in pairs that exclude each other."""
    names = [f"S{number}" for number in range(size)]
    return Schema.define("Pairs", {name: State(remove=names[number ^ 1]) for number, name in enumerate(names)})


async def never_seen(count: int, size: int = 200) -> float:
    """One pair is swapped each time, in the order of Gray's code, so that no active set comes twice.

    When all of them have been seen, it goes on with a new schema, whose caches are empty.
    """
    seconds = 0.0
    while count:
        schema = pairs_of(size)
        pairs = [(schema[f"S{number}"], schema[f"S{number + 1}"]) for number in range(0, size, 2)]
        turns = range(1, min(count + 1, 2 ** len(pairs)))
        count -= len(turns)
        swaps = [(turn & -turn).bit_length() - 1 for turn in turns]
        called = [pairs[pair][1 - (turn >> pair + 1 & 1)] for turn, pair in zip(turns, swaps, strict=True)]
        async with trsm.open_machine(schema) as machine:
            machine.add(*(first for first, _ in pairs))
            start = clock()
            for state in called:
                machine.add(state)
            seconds += clock() - start
    return seconds


@functools.cache
def switch_of(size: int) -> type[Schema]:
    """Return a schema of two states that exclude each other, and others beside them."""
    states = {"On": State(remove="Off"), "Off": State(remove="On")}
    return Schema.define("Wide", states | {f"S{number}": State() for number in range(size - 2)})


async def two_of_many(count: int, size: int) -> float:
    schema = switch_of(size)
    on, off = schema["On"], schema["Off"]
    async with trsm.open_machine(schema) as machine:
        machine.add(off)
        start = clock()
        for _ in range(count // 2):
            machine.add(on)
            machine.add(off)
        return clock() - start


# ---- Observed -------------------------------------------------------------------------------------------------------


class Silent(trsm.Tracer):
    """A tracer whose hooks are all there, and empty."""


def _nothing(self: object, *args: object) -> None:
    pass


for _name, _hook in vars(trsm.Tracer).items():
    if callable(_hook) and not _name.startswith("_"):
        setattr(Silent, _name, _nothing)


class Watched(Switch):
    """Two states in turn, and one that never comes."""

    Never = State()


async def observed(count: int) -> float:
    on, off, never = Watched.On, Watched.Off, Watched.Never
    async with trsm.open_machine(Watched, tracers=[Silent()]) as machine, trio.open_nursery() as nursery:

        async def watch() -> None:
            async for _ in machine.watch():
                pass

        nursery.start_soon(watch)
        waiters = [machine.when(state, never) for state in (on, off) for _ in range(4)]
        machine.add(off)
        await trio.testing.wait_all_tasks_blocked()
        start = clock()
        for _ in range(count // 2):
            machine.add(on)
            machine.add(off)
        seconds = clock() - start
        assert not any(one.done for one in waiters)
        nursery.cancel_scope.cancel()
    return seconds


# ---- What trio does -------------------------------------------------------------------------------------------------


async def waiter(count: int) -> float:
    """Two tasks in turn: each subscribes to the state after the next, activates the next, and waits."""
    schema, _ = ring_of(4)
    ring = [schema[f"S{number}"] for number in range(4)]

    async def play(machine: trsm.Machine, mine: int) -> None:
        for turn in range(mine, mine + count, 2):
            ready = machine.when(ring[(turn + 1) % 4])
            machine.add(ring[turn % 4])
            await ready
        machine.add(ring[(mine + count) % 4])

    async def follow(machine: trsm.Machine) -> None:
        await machine.when(ring[0])
        await play(machine, 1)

    async with trsm.open_machine(schema) as machine, trio.open_nursery() as nursery:
        nursery.start_soon(follow, machine)
        await trio.testing.wait_all_tasks_blocked()
        start = clock()
        await play(machine, 0)
        return clock() - start


async def scope(count: int) -> float:
    on = Switch.On
    async with trsm.open_machine(Switch) as machine:
        machine.add(on)
        start = clock()
        for _ in range(count):
            with machine.while_active(on):
                pass
        return clock() - start


class Job(Schema):
    """One state with a task."""

    Working = State()


class Work:
    """A task that says that it runs, waits until it is cancelled, and says that it has ended."""

    started: trio.Event
    done: trio.Event

    @Job.Working.task
    async def work(self, t: trsm.Transition) -> None:
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.done.set()


async def task(count: int) -> float:
    """Activate a state with a task, deactivate it when that runs, and wait until it has ended."""
    working, handlers = Job.Working, Work()
    async with trsm.open_machine(Job, handlers) as machine:
        start = clock()
        for _ in range(count):
            handlers.started, handlers.done = trio.Event(), trio.Event()
            machine.add(working)
            await handlers.started.wait()
            machine.remove(working)
            await handlers.done.wait()
        return clock() - start


# ---- Machines -------------------------------------------------------------------------------------------------------


async def root(count: int) -> float:
    start = clock()
    for _ in range(count):
        async with trsm.open_machine(Switch):
            pass
    return clock() - start


async def child(count: int) -> float:
    async with trsm.open_machine(Switch) as machine:
        start = clock()
        for _ in range(count):
            machine.start_child(Switch).close()
        return clock() - start


async def created(count: int) -> float:
    seconds = 0.0
    while count:
        some = min(count, 10_000)
        count -= some
        async with trsm.open_machine(Switch) as machine:
            start = clock()
            for _ in range(some):
                machine.start_child(Switch)
            seconds += clock() - start
    return seconds


async def children(count: int, memory: Traced | Resident) -> int:
    async with trsm.open_machine(Switch) as machine:
        machine.start_child(Switch)
        with memory:
            for _ in range(count):
                machine.start_child(Switch)
        return memory.taken


class Idle:
    """A task that waits."""

    @Job.Working.task
    async def work(self, t: trsm.Transition) -> None:
        await trio.sleep_forever()


async def machines_with_a_task(count: int) -> int:
    async def hold() -> None:
        async with trsm.open_machine(Job, Idle()) as machine:
            machine.add(Job.Working)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with Traced() as memory:
            for _ in range(count):
                nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return memory.taken


async def waiters(count: int) -> int:
    async with trsm.open_machine(Switch) as machine:
        kept: list[object] = [machine.when(Switch.On)] * count
        with Traced() as memory:
            for number in range(count):
                kept[number] = machine.when(Switch.On)
        return memory.taken


def import_(count: int) -> float:
    return sum(import_seconds("trsm", before="trio") for _ in range(count))


def of(size: int, case: Callable[[int, int], Coroutine[Any, Any, float]]) -> Callable[[int], Any]:
    """Return a case for so many states."""

    async def sized(count: int) -> float:
        return await case(count, size)

    return sized


async def children_traced(count: int) -> int:
    return await children(count, Traced())


async def children_resident(count: int) -> int:
    return await children(count, Resident())


CASES = {
    "1": two_states,
    "2": guarded,
    "3": ring,
    "4": chain,
    "5": never_seen,
    "6": observed,
    "7": waiter,
    "8": scope,
    "9": task,
    "10 root": root,
    "10 child": child,
    "11 created": created,
    "11 child 10,000": children_traced,
    "11 child 100,000": children_resident,
    "11 task": machines_with_a_task,
    "11 waiter": waiters,
    "12": import_,
    **{f"13: 1 with {size}": of(size, two_of_many) for size in (10, 100, 1000)},
    **{f"13: 4 with {size}": of(size, chain) for size in (10, 100, 1000)},
    **{f"13: 5 with {size}": of(size, never_seen) for size in (10, 100, 1000)},
}
