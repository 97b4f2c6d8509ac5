"""Cleanups that have to wait."""

import trio

import trsm
from trsm import Schema, State


class Server(Schema):
    Serving = State()


async def say_goodbye(name: str) -> None:
    await trio.lowlevel.checkpoint()
    print("goodbye,", name)


async def main() -> None:
    async with trsm.open_machine(Server, cleanup_timeout=5) as machine:
        machine.add(Server.Serving)
        machine.defer(say_goodbye, "first")
        machine.defer(say_goodbye, "second")
    print("closed:", machine.closed)


trio.run(main)
