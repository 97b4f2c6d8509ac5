"""Retrying a mutation that is canceled: when it tries again, when it gives up, and what it leaves behind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import trsm
from trsm import Machine, Result, Schema, State, Transition, Waiter


class Door(Schema):
    Open = State(require="Unlocked")
    Unlocked = State()
    Alarm = State(remove=Open)
    Other = State()


class Clocked:
    """Makes a mutation, and writes down when."""

    def __init__(self, mutation: Callable[[], Result]) -> None:
        self.mutation = mutation
        self.times: list[float] = []

    def __call__(self) -> Result:
        self.times.append(trio.current_time())
        return self.mutation()

    def pauses(self) -> list[float]:
        return [late - early for early, late in zip(self.times, self.times[1:], strict=False)]


def opening(machine: Machine) -> Clocked:
    return Clocked(lambda: machine.add(Door.Open))


# ---- When it tries again --------------------------------------------------------------------------------------------


async def test_accepted_at_once(autojump_clock: MockClock) -> None:
    """One try and one checkpoint; its result is returned."""
    async with trsm.open_machine(Door) as machine:
        machine.add(Door.Unlocked)
        with assert_checkpoints():
            result = await trsm.retry(lambda: machine.add(Door.Open))
        assert result.executed
        assert trio.current_time() == 0


async def test_refusing_state_changes(autojump_clock: MockClock) -> None:
    """It tries again at that moment, not when the backoff is over; changes of others do not wake it."""
    async with trsm.open_machine(Door) as machine, trio.open_nursery() as nursery:
        attempt = opening(machine)

        @nursery.start_soon
        async def change() -> None:
            await trio.sleep(1)
            machine.add(Door.Other)
            await trio.sleep(1)
            machine.add(Door.Unlocked)

        assert (await trsm.retry(attempt, backoff=50)).executed
        assert attempt.times == [0, 2]


async def test_refusing_state_leaves_and_another_stays(autojump_clock: MockClock) -> None:
    """It waits until nothing refuses any more, not for the first of two."""
    async with trsm.open_machine(Door) as machine, trio.open_nursery() as nursery:
        machine.add(Door.Alarm)
        attempt = opening(machine)

        @nursery.start_soon
        async def change() -> None:
            await trio.sleep(1)
            machine.remove(Door.Alarm)
            await trio.sleep(1)
            machine.add(Door.Unlocked)

        assert (await trsm.retry(attempt, backoff=50)).executed
        assert attempt.times == [0, 2]


async def test_refusing_state_is_gone_for_a_moment(autojump_clock: MockClock) -> None:
    """It was woken, comes too late, is refused again, and goes on waiting."""
    async with trsm.open_machine(Door) as machine, trio.open_nursery() as nursery:
        attempt = opening(machine)

        @nursery.start_soon
        async def change() -> None:
            await trio.sleep(1)
            machine.add(Door.Unlocked)
            machine.remove(Door.Unlocked)
            await trio.sleep(1)
            machine.add(Door.Unlocked)

        assert (await trsm.retry(attempt, backoff=50)).executed
        assert attempt.times == [0, 1, 2]


async def test_the_try_itself_makes_way(autojump_clock: MockClock) -> None:
    """What it led to in the same drain would allow it now: it tries again at once."""

    @Door.Other.on_enter
    def unlock(t: Transition) -> None:
        results.append(t.machine.add(Door.Open))
        t.machine.add(Door.Unlocked)

    def attempt() -> Result:
        if results:
            return machine.add(Door.Open)
        machine.add(Door.Other)
        return results[0]

    results: list[Result] = []
    async with trsm.open_machine(Door, unlock) as machine:
        assert (await trsm.retry(attempt)).executed
        assert results[0].canceled
        assert trio.current_time() == 0


async def test_handler_refuses(autojump_clock: MockClock) -> None:
    """Nobody knows what it looks at: any change of the machine is a reason to try again."""

    @Door.Unlocked.can_enter
    def is_alone(t: Transition) -> bool:
        return t.machine.is_active(Door.Other)

    async with trsm.open_machine(Door, is_alone) as machine, trio.open_nursery() as nursery:
        attempt = Clocked(lambda: machine.add(Door.Unlocked))

        @nursery.start_soon
        async def change() -> None:
            for state in (Door.Alarm, Door.Other):
                await trio.sleep(1)
                machine.add(state)

        assert (await trsm.retry(attempt, backoff=50)).executed
        assert attempt.times == [0, 1, 2]


async def test_handler_that_looks_outside(autojump_clock: MockClock) -> None:
    """Nothing of the machine changes: it is asked again when the backoff is over."""

    @Door.Unlocked.can_enter
    def is_late(t: Transition) -> bool:
        return trio.current_time() > 5

    async with trsm.open_machine(Door, is_late) as machine:
        attempt = Clocked(lambda: machine.add(Door.Unlocked))
        assert (await trsm.retry(attempt, backoff=1)).executed
        assert 5 < attempt.times[-1] < 16


async def test_backoff_grows_with_jitter_up_to_its_cap(autojump_clock: MockClock) -> None:
    """Each pause is twice the one before, at most the cap, less a random part of up to a half; no two are alike."""
    random.seed(1)
    async with trsm.open_machine(Door) as machine:
        attempt = opening(machine)
        assert not await trsm.retry(attempt, backoff=1, cap=8, tries=40)
        shares = []
        for number, pause in enumerate(attempt.pauses()):
            whole = min(8, 2**number)
            assert whole / 2 <= pause <= whole
            shares.append(pause / whole)
        assert len({round(share, 6) for share in shares}) > 30
        assert min(shares) < 0.6 < 0.9 < max(shares)


async def test_very_many_tries(autojump_clock: MockClock) -> None:
    """Numbers stay finite."""
    async with trsm.open_machine(Door) as machine:
        attempt = opening(machine)
        assert not await trsm.retry(attempt, backoff=0.001, cap=0.001, tries=1200)
        assert len(attempt.times) == 1200


async def test_bare_engine(autojump_clock: MockClock) -> None:
    """It has no waiters, so that only the backoff is left."""
    engine = trsm.Engine(Door)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def change() -> None:
            await trio.sleep(3)
            engine.add(Door.Unlocked)

        attempt = Clocked(lambda: engine.add(Door.Open))
        assert (await trsm.retry(attempt, backoff=2, cap=2)).executed
        assert 3 < attempt.times[-1] <= 5


# ---- When it gives up -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tries", [1, 3])
async def test_tries_are_used_up(autojump_clock: MockClock, tries: int) -> None:
    """The last result is returned, with no pause after it."""
    async with trsm.open_machine(Door) as machine:
        attempt = opening(machine)
        result = await trsm.retry(attempt, tries=tries)
        assert result.canceled
        assert isinstance(result, trsm.Canceled)
        assert "requires Unlocked" in result.reason
        assert len(attempt.times) == tries
        assert trio.current_time() == attempt.times[-1]


async def test_deadline(autojump_clock: MockClock) -> None:
    """It is not overslept, and nothing is tried after it."""
    async with trsm.open_machine(Door) as machine:
        attempt = opening(machine)
        assert (await trsm.retry(attempt, backoff=4, deadline=10)).canceled
        assert trio.current_time() == 10
        assert attempt.times[-1] < 10
        assert len(attempt.times) in (2, 3)


@pytest.mark.parametrize("is_early", [True, False])
async def test_until_has_ended(autojump_clock: MockClock, is_early: bool) -> None:
    """At that moment it gives up; the first try is made in any case."""
    async with trsm.open_machine(Door) as machine, trio.open_nursery() as nursery:
        attempt = opening(machine)

        async def change() -> None:
            await trio.sleep(0 if is_early else 3)
            machine.add(Door.Other)

        if is_early:
            await change()
        else:
            nursery.start_soon(change)
        assert (await trsm.retry(attempt, backoff=50, until=machine.when(Door.Other))).canceled
        assert attempt.times == [0]
        assert trio.current_time() == (0 if is_early else 3)


async def test_until_has_not_ended(autojump_clock: MockClock) -> None:
    """It does not matter."""
    async with trsm.open_machine(Door) as machine:
        attempt = opening(machine)
        assert (await trsm.retry(attempt, tries=3, until=machine.when(Door.Other))).canceled
        assert len(attempt.times) == 3


@pytest.mark.parametrize("how", ["closes", "raises", "one side of two", "too early"])
async def test_until_fails(autojump_clock: MockClock, how: str) -> None:
    """At that moment it gives up too: a waiter that has failed has ended, and the backoff is not slept through."""

    def no(t: Transition) -> bool:
        raise ValueError("no")

    async with trsm.open_machine(Door) as machine, trio.open_nursery() as nursery:
        other = machine.start_child(Door)
        until: Waiter[object] = other.when(Door.Other, where=None if how == "closes" else no)
        if how == "one side of two":
            until = until & machine.when(Door.Other)

        async def change() -> None:
            await trio.sleep(0 if how == "too early" else 3)
            if how == "closes":
                other.close()
            else:
                other.add(Door.Other)

        if how == "too early":
            await change()
        else:
            nursery.start_soon(change)
        attempt = opening(machine)
        assert (await trsm.retry(attempt, backoff=50, until=until)).canceled
        assert attempt.times == [0]
        assert trio.current_time() == (0 if how == "too early" else 3)


async def test_machine_closes(autojump_clock: MockClock) -> None:
    """It ends, with the result that says so."""
    async with trsm.open_machine(Door) as machine, trio.open_nursery() as nursery:
        child = machine.start_child(Door, id="child")

        @nursery.start_soon
        async def change() -> None:
            await trio.sleep(3)
            child.close()

        attempt = opening(child)
        result = await trsm.retry(attempt, backoff=50)
        assert isinstance(result, trsm.Canceled)
        assert result.reason == "machine 'child' is closed"
        assert attempt.times == [0, 3]
        assert not machine.closed


async def test_scope_of_the_mutation_is_cancelled(autojump_clock: MockClock) -> None:
    """That will not change: it ends."""
    async with trsm.open_machine(Door) as machine:
        scope = trio.CancelScope()
        scope.cancel()
        result = await trsm.retry(lambda: machine.add(Door.Unlocked, scope=scope))
        assert isinstance(result, trsm.Canceled)
        assert "scope" in result.reason


async def test_mutation_raises(autojump_clock: MockClock) -> None:
    """It comes out as it is; there is no further try."""
    async with trsm.open_machine(Door) as machine:
        with pytest.raises(trsm.MutationError, match="names no state"):
            await trsm.retry(lambda: machine.add())


async def test_mutation_that_was_queued(autojump_clock: MockClock) -> None:
    """It has been accepted, as far as anybody can say: it is not made again."""
    queued: list[Result] = []

    @Door.Other.on_enter
    def later(t: Transition) -> None:
        queued.append(t.machine.add(Door.Unlocked))

    async with trsm.open_machine(Door, later) as machine:
        machine.add(Door.Other)
        assert await trsm.retry(lambda: queued[0]) is queued[0]


# ---- Cancellation ---------------------------------------------------------------------------------------------------


async def test_cancelled_before_the_first_try(autojump_clock: MockClock) -> None:
    """Nothing was tried."""
    async with trsm.open_machine(Door) as machine:
        attempt = opening(machine)
        with trio.CancelScope() as scope:
            scope.cancel()
            await trsm.retry(attempt)
        assert scope.cancelled_caught
        assert attempt.times == []


async def test_cancelled_between_two_tries(autojump_clock: MockClock) -> None:
    """Nothing stays subscribed, not even while the cancellation is handled; and nothing is tried any more."""
    async with trsm.open_machine(Door) as machine:
        attempt = opening(machine)
        until = machine.when(Door.Other)

        async def run() -> None:
            try:
                await trsm.retry(attempt, backoff=50, until=until)
            except trio.Cancelled:
                assert len(machine._subscriptions or ()) == 1
                raise

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            assert len(machine._subscriptions or ()) == 2
            nursery.cancel_scope.cancel()
        machine.add(Door.Unlocked)
        await wait_all_tasks_blocked()
        assert attempt.times == [0]
        assert machine.is_inactive(Door.Open)


async def test_nothing_stays_subscribed_afterwards(autojump_clock: MockClock) -> None:
    """However it ends."""
    async with trsm.open_machine(Door) as machine:
        await trsm.retry(opening(machine), tries=3)
        await trsm.retry(opening(machine), deadline=1)
        assert not len(machine._subscriptions or ())


# ---- Bad arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"tries": 0}, ValueError, "tries=0: write a whole number, 1 or more"),
        ({"tries": True}, ValueError, "tries=True"),
        ({"tries": 1.5}, ValueError, "tries=1.5"),
        ({"backoff": 0}, ValueError, "backoff=0: write a positive number of seconds"),
        ({"backoff": "1"}, ValueError, "backoff='1'"),
        ({"cap": -1}, ValueError, "cap=-1"),
        ({"cap": math.nan}, ValueError, "cap=nan"),
        ({"deadline": 0}, ValueError, "deadline=0"),
        ({"deadline": True}, ValueError, "deadline=True"),
        ({"until": 5}, TypeError, r"until=5: pass a waiter, such as machine.when\(…\)"),
    ],
)
async def test_bad_arguments(keywords: dict[str, object], error: type[Exception], words: str) -> None:
    """Each is refused before the first try, and the message says what to write."""
    tried = []
    with pytest.raises(error, match=words):
        await trsm.retry(lambda: tried.append(1), **keywords)  # type: ignore[arg-type,return-value]
    assert tried == []


async def test_bad_mutation() -> None:
    """It has to be a sync function that returns a result."""

    async def asynchronous() -> None:
        raise AssertionError

    async with trsm.open_machine(Door) as machine:
        for bad in (machine.add(Door.Other), asynchronous):
            with pytest.raises(TypeError, match="pass a sync function that makes the mutation: lambda: machine"):
                await trsm.retry(bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="returned None: let it return the result of machine"):
            await trsm.retry(lambda: None)  # type: ignore[arg-type,return-value]
