"""What happens in one machine, carried over to another that it knows nothing of."""

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.frozen
class Peer:
    name: str = "?"


class Link(Schema):
    Connected = State(args=Peer)


class Shop(Schema):
    Online = State(args=Peer)
    Open = State()
    Selling = State(auto=True, require=(Online, Open))


async def main() -> None:
    async with trsm.open_machine(Link, id="link") as link, trsm.open_machine(Shop, id="shop") as shop:
        link.add(Link.Connected(name="Ann"))
        wire = trsm.pipe(link, Link.Connected, shop, Shop.Online, sync=True)  # made late, so it catches up
        shop.add(Shop.Open)
        print("shop:", shop)
        print("with", (await shop.when(Shop.Online)).args_of(Shop.Online).name)

        link.remove(Link.Connected)
        print("shop:", shop)
        print(wire.statistics())


trio.run(main)
