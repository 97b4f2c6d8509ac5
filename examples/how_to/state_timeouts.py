"""A state that may last only so long."""

import trio

import trsm
from trsm import Schema, State


class Session(Schema):
    Active = State(timeout=3, on_timeout="Locked")
    Locked = State(remove=Active)
    Notice = State(timeout=1)  # just goes


async def main() -> None:
    async with trsm.open_machine(Session, id="desk") as session:
        begun = trio.current_time()
        session.add(Session.Active, Session.Notice)
        await session.when_not(Session.Notice)
        print(round(trio.current_time() - begun), "s:", session)

        session.remove(Session.Active)  # somebody was there,
        session.add(Session.Active)  # and the three seconds begin anew
        locked = await session.when(Session.Locked)
        print(round(trio.current_time() - begun), "s:", session)
        print(locked.describe_cause())


trio.run(main)
