"""The same without pytest: a clock that jumps to the next deadline."""

import trio
import trio.testing

import trsm
from trsm import Schema, State


class Session(Schema):
    Idle = State(timeout=3600, on_timeout="Expired")
    Expired = State()


async def main() -> None:
    async with trsm.open_machine(Session) as session:
        session.add(Session.Idle)
        await session.when(Session.Expired)
        print("expired at", trio.current_time())


trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
