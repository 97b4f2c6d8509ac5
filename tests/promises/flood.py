"""A flood of mutations from a handler, from tasks and from threads, against a queue of a thousand: P16.

``python -m promises.flood MUTATIONS``, from the directory of the tests. Half of them are made by a handler, where they
have to wait and half find the queue full; the rest by tasks and by threads, between which the handler runs too.
"""

from __future__ import annotations

import json
import sys

import trio

import trsm
from trsm import Machine, QueueFull, Result, Schema, State, Transition

LIMIT = 1000


class Sea(Schema):
    Go = State(multi=True)
    Wave = State()
    Drop = State(multi=True)
    Foam = State()


class Flood:
    """Makes twice as many mutations as the queue has room for, whenever `Go` is called."""

    def __init__(self) -> None:
        self.made = self.refused = 0
        self.accepted: list[Result] = []
        self.ticks = {Sea.Drop: 0, Sea.Wave: 0}
        """The ticks that what was accepted has to come to."""

    @Sea.Go.on_enter
    def pour(self, t: Transition) -> None:
        toggle, add = t.machine.toggle, t.machine.add
        for number in range(2 * LIMIT):
            try:
                # Neither is folded: a toggle never is, and neither is what calls a multi state.
                result = toggle(Sea.Wave) if number % 2 else add(Sea.Drop, first=number % 3 == 0)
            except QueueFull:
                self.refused += 1
            else:
                self.accepted.append(result)
                self.ticks[Sea.Wave if number % 2 else Sea.Drop] += 2 - number % 2
        self.made += 2 * LIMIT

    def settled(self, machine: Machine) -> None:
        """Check that all that was accepted has run, and nothing twice."""
        assert all(result.executed for result in self.accepted), "P16: accepted, and not executed"
        assert len(set(map(id, self.accepted))) == len(self.accepted), "P16: two share a result"
        self.accepted.clear()
        wanted = {Sea.Drop: self.ticks[Sea.Drop] - 1, Sea.Wave: self.ticks[Sea.Wave]}  # the first time it came, +1
        ticks = machine.ticks.filter(*wanted)
        assert ticks == wanted, f"P16: what was accepted comes to {wanted}, and the ticks are {ticks}"


async def main(count: int) -> None:
    flood = Flood()
    others = 0
    async with trsm.open_machine(Sea, flood, queue_limit=LIMIT, drain_limit=10 * LIMIT) as machine:

        async def task(turns: int) -> None:
            nonlocal others
            for turn in range(turns):
                for _ in range(100):
                    assert machine.add(Sea.Drop).executed
                flood.ticks[Sea.Drop] += 200
                others += 100
                if turn % 10 == 0:
                    machine.add(Sea.Go)
                    others += 1
                    flood.settled(machine)
                await trio.lowlevel.checkpoint()

        def thread(turns: int) -> None:
            nonlocal others
            for _ in range(turns):
                assert trio.from_thread.run_sync(machine.toggle, Sea.Foam).executed
                trio.from_thread.run_sync(several)

        def several() -> None:
            nonlocal others
            for _ in range(100):
                assert machine.toggle(Sea.Foam).executed
            others += 101

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(task, count // 1000)
            for _ in range(2):
                nursery.start_soon(trio.to_thread.run_sync, thread, count // 1000)
        while flood.made + others < count:
            machine.add(Sea.Go)
            others += 1
            flood.settled(machine)
        assert flood.refused == flood.made // 2, "P16: every second one found the queue full, and was told so"
        assert machine.tick(Sea.Foam) == 2 * (count // 1000) * 101
    print(json.dumps({"mutations": flood.made + others, "refused at the call": flood.refused}))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
