"""Tests of a machine, with pytest-trio."""

import trio
import trio.testing

import trsm
from trsm import Schema, State


class Session(Schema):
    Idle = State(remove="Expired")
    Expired = State(remove=Idle)


@Session.Idle.task(then=Session.Expired)
async def expire(t: trsm.Transition) -> None:
    await trio.sleep(3600)


async def test_an_idle_session_expires_after_an_hour(autojump_clock: trio.testing.MockClock) -> None:
    async with trsm.open_machine(Session, expire) as session:
        session.add(Session.Idle)
        await session.when(Session.Expired)
        assert trio.current_time() == 3600


async def test_a_session_that_is_used_does_not_expire(autojump_clock: trio.testing.MockClock) -> None:
    async with trsm.open_machine(Session, expire) as session:
        session.add(Session.Idle)
        await trio.testing.wait_all_tasks_blocked()  # the task has begun to wait
        session.remove(Session.Idle)
        await trio.sleep(7200)
        assert session.tick(Session.Expired) == 0  # nor was it ever, for a moment
