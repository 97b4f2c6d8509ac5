"""Work that may take only so long."""

import trio

import trsm
from trsm import ErrorState, Schema, State


class Call(Schema):
    Waiting = State(remove="Error")
    TooSlow = ErrorState(catches=trio.TooSlowError)


@Call.Waiting.task(timeout=1)
async def wait(t: trsm.Transition) -> None:
    await trio.sleep_forever()


async def main() -> None:
    async with trsm.open_machine(Call, wait) as machine:
        machine.add(Call.Waiting)
        await machine.when(Call.TooSlow)
        print(machine)


trio.run(main)
