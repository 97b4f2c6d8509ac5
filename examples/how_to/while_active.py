"""A piece of code that ends with a state."""

import trio
import trio.testing

import trsm
from trsm import Schema, State


class Link(Schema):
    Connected = State()


async def main() -> None:
    async with trsm.open_machine(Link) as machine, trio.open_nursery() as nursery:
        machine.add(Link.Connected)

        async def use_the_link() -> None:
            with machine.while_active(Link.Connected) as scope:
                print("using it")
                await trio.sleep_forever()
            print("over:", scope.cancelled_caught)

        nursery.start_soon(use_the_link)
        await trio.testing.wait_all_tasks_blocked()
        machine.remove(Link.Connected)


trio.run(main)
