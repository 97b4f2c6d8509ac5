"""A mutation from another thread."""

import trio

import trsm
from trsm import Schema, State


class Door(Schema):
    Open = State()


async def main() -> None:
    async with trsm.open_machine(Door, id="front") as machine:

        def in_a_thread() -> None:
            try:
                machine.add(Door.Open)
            except trsm.WrongThread as error:
                print(error)
            print(trio.from_thread.run_sync(machine.add, Door.Open))

        await trio.to_thread.run_sync(in_a_thread)


trio.run(main)
