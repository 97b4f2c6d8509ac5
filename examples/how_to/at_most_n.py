"""Many pieces of work, of which so many run side by side."""

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.frozen
class Item:
    number: int


class Pool(Schema):
    Working = State(multi=True, args=Item)
    Done = State(multi=True, args=Item)


running = most = 0
results: list[int] = []


@Pool.Working.task(then=Pool.Done, limit=2)
async def work(t: trsm.Transition) -> Item:
    global running, most
    running += 1
    most = max(most, running)
    await trio.sleep(1)
    running -= 1
    return Item(t.args_of(Pool.Working).number ** 2)  # Done has an args class: its task returns one


@Pool.Done.on_enter
def gather(t: trsm.Transition) -> None:
    results.append(t.args_of(Pool.Done).number)


async def main() -> None:
    async with trsm.open_machine(Pool, work, gather) as machine:
        for number in (1, 2, 3):
            machine.add(Pool.Working(number))
        await machine.when_tick(Pool.Done, 5)  # called three times: its tick went 1, 3, 5
        print(sorted(results), "at once:", most)


trio.run(main)
