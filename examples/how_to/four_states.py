"""A connection: two states that take time, two that last."""

import trio

import trsm
from trsm import Schema, State


class Link(Schema):
    Connecting = State()
    Connected = State()
    Disconnecting = State()
    Disconnected = State(auto=True)  # comes by itself whenever none of the others is there
    stage = trsm.exclusive(Connecting, Connected, Disconnecting, Disconnected)


class Handlers:
    @Link.Connecting.task(then=Link.Connected, timeout=10)
    async def dial(self, t: trsm.Transition) -> None:
        await trio.sleep(1)

    @Link.Connected.task
    async def talk(self, t: trsm.Transition) -> None:
        await trio.sleep_forever()  # reads from the stream, for as long as there is a connection

    @Link.Disconnecting.can_enter(given=Link.Disconnected)
    def is_anything_to_end(self, t: trsm.Transition) -> bool:
        return False

    @Link.Disconnecting.task(then=Link.Disconnected)
    async def hang_up(self, t: trsm.Transition) -> None:
        await trio.sleep(0.5)

    @Schema.on_change
    def tell(self, t: trsm.Transition) -> None:
        print(t.machine.which(Link.stage))


async def main() -> None:
    async with trsm.open_machine(Link, Handlers()) as link:
        link.add(Link.Connecting)
        await link.when(Link.Connected)
        link.add(Link.Disconnecting)
        await link.when(Link.Disconnected)
        if not link.add(Link.Disconnecting):
            print("there is nothing to end")

        link.add(Link.Connecting)
        link.add(Link.Disconnecting)  # in the middle of it: dialling is cancelled
        await link.when(Link.Disconnected)


trio.run(main)
