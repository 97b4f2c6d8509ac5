"""Sweeps: each finds the point at which a scenario does wrong, says what it is, and ends; what does right passes."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable

import pytest
import trio

import trsm
from trsm import Machine, Schema, State, Transition
from trsm.testing import (
    SweepFailure,
    cancel_sweep,
    close_sweep,
    interrupt_sweep,
    raise_sweep,
)

Sweep = Callable[..., int]
SWEEPS: tuple[Sweep, ...] = (cancel_sweep, interrupt_sweep, close_sweep, raise_sweep)


class Job(Schema):
    Idle = State()
    Loading = State(remove=Idle)
    Loaded = State(remove=Loading)
    Ready = State(auto=True, require=Loaded)


class Work:
    """Loads, and takes its time to end."""

    @Job.Loading.can_enter
    def may(self, t: Transition) -> bool:
        return True

    @Job.Loading.task(then=Job.Loaded)
    async def load(self, t: Transition) -> int:
        try:
            await trio.sleep(1)
            return 3
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    @Job.Idle.task
    async def idle(self, t: Transition) -> None:
        await trio.sleep_forever()


async def good() -> None:
    """Do nothing wrong."""
    async with trsm.open_machine(Job, Work()) as machine:
        machine.add(Job.Idle)
        await trio.sleep(1)
        machine.add(Job.Loading)
        await machine.when(Job.Ready)


# ---- A scenario that does nothing wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("sweep", SWEEPS)
def test_good_scenario(sweep: Sweep) -> None:
    """It passes, and the points were counted: for each order of tasks."""
    points = sweep(good)
    assert points >= 3
    assert sweep(good, seeds=range(3)) >= 2 * points


def test_number_of_runs() -> None:
    """One without a disturbance to begin with, one for each point, and one that comes to the end."""
    runs = 0

    async def counted() -> None:
        nonlocal runs
        runs += 1
        await good()

    points = cancel_sweep(counted)
    assert runs == points + 2


def test_single_point() -> None:
    """It alone is run again, after an undisturbed run; beyond the last there is none."""
    points = cancel_sweep(good)
    assert cancel_sweep(good, point=points - 1) == 1
    assert cancel_sweep(good, point=points) == 0


def test_points_are_where_they_are_said_to_be() -> None:
    """Each step of each task is one, in order: the cancellation comes before it."""
    cancelled_before: list[list[str]] = []

    async def steps() -> None:
        done: list[str] = []
        cancelled_before.append(done)
        done.append("begin")
        await trio.lowlevel.checkpoint()
        done.append("first")
        await trio.sleep(5)
        done.append("second")

    assert cancel_sweep(steps) == 2
    # Undisturbed; before it comes out of the checkpoint, and of the sleep; undisturbed.
    assert [len(done) for done in cancelled_before] == [3, 1, 2, 3]


def test_time_passes_in_no_time() -> None:
    """A day is slept through at once, and the clock says so."""
    seen: list[float] = []

    async def sleeps() -> None:
        began = trio.current_time()
        await trio.sleep(86_400)
        seen.append(trio.current_time() - began)

    cancel_sweep(sleeps)
    assert set(seen) == {86_400}


def test_scenario_with_threads_and_sockets() -> None:
    """They are waited for before time passes."""

    async def outside() -> None:
        with trio.fail_after(5):
            await trio.to_thread.run_sync(signal.getsignal, signal.SIGINT)
            left, right = trio.socket.socketpair()
            with left, right:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(left.send, b"x")
                    assert await right.recv(1) == b"x"
                with trio.move_on_after(3) as scope:
                    await right.recv(1)
                assert scope.cancelled_caught

    assert cancel_sweep(outside) > 3


def test_wait_all_tasks_blocked_in_a_scenario() -> None:
    """It returns before time passes."""

    async def waits() -> None:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            if trio.current_time() != began:
                raise ZeroDivisionError

    assert cancel_sweep(waits) > 2


async def wrong(error: type[BaseException]) -> None:
    await trio.lowlevel.checkpoint()
    raise error


def test_expected_exceptions() -> None:
    """They may leave, in a group too; others may not."""
    scenario = functools.partial(wrong, ZeroDivisionError)
    assert cancel_sweep(scenario, expected=ZeroDivisionError) == 1
    assert cancel_sweep(scenario, expected=(OSError, ArithmeticError)) == 1
    with pytest.raises(
        SweepFailure, match=r"wrong.*even where it is not disturbed\n  broke: ZeroDivisionError\(\) left"
    ):
        cancel_sweep(scenario, expected=OSError)


def test_checks_of_ones_own() -> None:
    """They are made after each run, and what they raise is found, with its point."""
    opened: list[int] = []

    async def opens() -> None:
        opened.append(1)
        await trio.sleep(1)
        opened.clear()

    def is_closed() -> None:
        was, opened[:] = opened[:], []
        assert not was, "left open"

    raise_sweep(opens, after=is_closed)
    with pytest.raises(SweepFailure, match=r"point 0: .*\n.*broke: is_closed raised AssertionError\('left open"):
        cancel_sweep(opens, after=is_closed)


# ---- Scenarios that do wrong ----------------------------------------------------------------------------------------


async def leaks_a_task() -> None:
    try:
        await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        await trio.sleep(1)
    except trio.Cancelled:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="stray")
        raise


async def swallows() -> None:
    await trio.lowlevel.checkpoint()
    try:
        await trio.sleep(1)
        await trio.sleep(1)
    except trio.Cancelled:
        pass


async def waits_in_vain() -> None:
    event = trio.Event()
    try:
        await trio.sleep(1)
        await trio.sleep(1)
    except trio.Cancelled:
        with trio.CancelScope(shield=True):
            await event.wait()


async def goes_round() -> None:
    try:
        await trio.sleep(1)
        await trio.sleep(1)
    except trio.Cancelled:
        with trio.CancelScope(shield=True):
            while True:
                await trio.lowlevel.checkpoint()


async def turns_it_into_an_error() -> None:
    try:
        await trio.sleep(1)
        await trio.sleep(1)
    except trio.Cancelled:
        raise ZeroDivisionError from None


def spoiled(machine: Machine, *states: State[..., object]) -> None:
    """Make states active, from inside, whatever the relations say."""
    for state in states:
        number = list(machine.schema).index(state)
        machine._ticks[number] |= 1
        machine._active |= 1 << number


async def breaks_a_relation() -> None:
    async with trsm.open_machine(Job, Work()) as machine:
        machine.add(Job.Idle)
        try:
            await trio.sleep(1)
            await trio.sleep(1)
        except trio.Cancelled:
            spoiled(machine, Job.Loading)
            machine.add(Job.Ready)
            raise


async def keeps_a_machine_open() -> None:
    try:
        await trio.sleep(1)
        await trio.sleep(1)
    except trio.Cancelled:
        opening = trsm.open_machine(Job)
        machine = await opening.__aenter__()
        machine.add(Job.Idle)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Machine, "close", lambda machine: None)
            await opening.__aexit__(None, None, None)
        raise


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (leaks_a_task, r"leaked: task 'stray' still runs"),
        (swallows, "broke: the scenario was told of the cancellation, swallowed it, and went on to its end"),
        (waits_in_vain, r"hung: nothing can go on.*: task .*test_sweeping.py:\d+, in waits_in_vain"),
        (goes_round, r"hung: it goes on and on: .* steps did not suffice, the last of task .*goes_round"),
        (turns_it_into_an_error, r"broke: ZeroDivisionError\(\) left it"),
        (breaks_a_relation, r"broke: machine 'Job-\d+': ticks have moved by no transition"),
        (keeps_a_machine_open, r"leaked: machine 'Job-\d+' was never closed: <Machine"),
    ],
)
def test_scenario_that_does_wrong_when_cancelled(scenario: Callable[[], object], words: str) -> None:
    """It is found at the first point where it happens, said where that is, and found again by its number."""
    with pytest.raises(SweepFailure, match=words) as caught:
        cancel_sweep(scenario)
    failure = caught.value
    head, *_, foot = str(failure).split("\n  ")
    assert head.startswith(
        f"cancel_sweep({scenario.__name__}), point {failure.point}: cancelled: before a step of task"
    )
    assert "test_sweeping.py:" in head or "'Job-" in head
    assert foot == f"to run it again: cancel_sweep({scenario.__name__}, …, point={failure.point})"
    assert failure.findings
    with pytest.raises(SweepFailure) as again:
        cancel_sweep(scenario, point=failure.point)
    assert again.value.point == failure.point
    assert again.value.findings[0].split(":")[0] == failure.findings[0].split(":")[0]
    for number in range(failure.point):
        assert cancel_sweep(scenario, point=number) == 1
