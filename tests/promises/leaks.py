"""Very many activations with the collector switched off: memory after 2n is memory after n: P23.

``python -m promises.leaks ACTIVATIONS``, from the directory of the tests. Each round activates states with handlers,
tasks that are cancelled and tasks that end, scopes, waiters that are awaited and waiters that are dropped, children,
an error state, arguments, and a mutation that is canceled.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path

import trio

import trsm
from trsm import ErrorState, Machine, Schema, State, Transition


class Job(Schema):
    Ready = State()
    Work = State(require=Ready)
    Done = State(remove=Work)
    Ping = State(multi=True)
    Never = State(require=Work, remove=Ready)
    Auto = State(auto=True, require=Done)
    Failed = ErrorState(catches=KeyError)


class Part(Schema):
    On = State()


class Handlers:
    def __init__(self) -> None:
        self.activations = 0

    @Job.on_change
    def count(self, t: Transition) -> None:
        self.activations += len(t.entering)

    @Job.Work.can_enter
    def may(self, t: Transition) -> bool:
        return True

    @Job.Work.task(then=Job.Done)
    async def work(self, t: Transition) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    @Job.Ready.task
    async def stay(self, t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            t.machine.add(Job.Ping)

    @Job.Ping.on_enter
    def answer(self, t: Transition) -> None:
        if t.args.get("is_bad"):
            raise KeyError("bad")

    @Job.Failed.on_enter
    def clear(self, t: Transition) -> None:
        t.machine.remove(Job.Error)


async def one_round(machine: Machine, number: int) -> None:
    """Some seventy activations, of every sort."""
    machine.add(Job.Ready)
    done = machine.when_next(Job.Done)
    machine.add(Job.Work)
    with machine.while_active(Job.Ready):
        await (done | machine.when_error())
    machine.when(Job.Never)  # dropped
    for _ in range(60):
        machine.add(Job.Ping, number=number)
    assert not machine.add(Job.Never)
    assert machine.explain("add", Job.Never).reasons
    machine.add(Job.Ping, is_bad=True)
    with trio.move_on_after(0):
        await machine.when_query(lambda ticks: False)
    if number % 10 == 0:
        child = machine.start_child(Part)
        child.add(Part.On)
        child.close()
        await child.when_closed()
    machine.remove(Job.Ready, Job.Done)
    await trio.lowlevel.checkpoint()


def resident() -> int:
    """Return how many bytes this process holds, where that can be read; 0 elsewhere."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


async def main(count: int, allocated: Callable[[], int]) -> None:
    handlers = Handlers()
    async with trsm.open_machine(Job, handlers) as machine:
        number = 0

        async def until(activations: int) -> tuple[int, int]:
            nonlocal number
            while handlers.activations < activations:
                await one_round(machine, number)
                number += 1
            # What is left to collect is garbage in circles, and there has to be none. Beside that this empties the
            # lists of free objects that the interpreter keeps, which would count as held.
            garbage = gc.collect()
            assert garbage < 50, f"P23: {garbage} objects were in circles"
            return allocated(), resident()

        for number in range(100):
            await one_round(machine, number)  # in which the last modules are imported
        gc.collect()  # what imports have left
        gc.disable()
        await until(10_000)  # caches fill
        start = handlers.activations
        blocks, bytes_held = await until(start + count)
        more_blocks, more_bytes = await until(start + 2 * count)
        assert abs(more_blocks - blocks) < 200, f"P23: {more_blocks - blocks} blocks more after as many again"
        assert more_bytes <= bytes_held * 1.01, f"P23: {more_bytes - bytes_held} bytes more after as many again"
        assert not machine.in_use.waiters and not machine.in_use.scopes
        print(json.dumps({"activations": handlers.activations - start, "blocks more": max(0, more_blocks - blocks)}))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.getallocatedblocks)
