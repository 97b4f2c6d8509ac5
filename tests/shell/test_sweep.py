"""Programs of all kinds, disturbed at every point: what has to hold afterwards holds (promises P13, P14 and P20)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import sweep
import trio
from sweep import DISTURBANCES, Disturbance, Fault, Program, Trial, repeatable
from trio._core import _run

import trsm
from proof import scaled
from trsm import ErrorState, Machine, MachineClosed, Schema, State, Transition, Waiter

PROGRAMS: list[Program] = []
SEEDS = int(os.environ.get("TRSM_SEEDS", scaled(1, 10)))
"""How many orders of tasks every sweep tries."""


def program(function: Program) -> Program:
    """Sweep a program with every disturbance."""
    PROGRAMS.append(function)
    return function


async def told(waiter: Waiter[object]) -> None:
    """Wait for a waiter to end, well or with the closing of its machine."""
    try:
        await waiter
    except MachineClosed:
        await trio.lowlevel.checkpoint()


# ---- The programs ---------------------------------------------------------------------------------------------------


class Job(Schema):
    Idle = State()
    Loading = State(remove=Idle)
    Loaded = State(remove=Loading)
    Kept = State(latch=True)
    Ready = State(auto=True, require=Loaded)
    Ping = State(multi=True)


class Work:
    """Tasks that take their time to end, one of which goes on with `then=`."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    @Job.Loading.can_enter
    def may(self, t: Transition) -> bool:
        self.trial.point()
        return True

    @Job.Loading.task(then=Job.Loaded)
    async def load(self, t: Transition) -> int:
        with self.trial.running_task():
            try:
                self.trial.point()
                await trio.sleep(1)
                return 3
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)

    @Job.Idle.task
    async def idle(self, t: Transition) -> None:
        with self.trial.running_task():
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5)

    @Job.Ping.task(limit=2)
    async def ping(self, t: Transition) -> None:
        with self.trial.running_task():
            await trio.sleep(0.25)
            self.trial.point()


@program
async def tasks(trial: Trial) -> None:
    """States come and go while the tasks of their last instance still end; results go on by `then=`."""
    async with trsm.open_machine(Job, Work(trial)) as machine:
        machine.add(Job.Idle, Job.Kept)
        await trio.sleep(1)
        for _ in range(4):
            machine.add(Job.Ping)
        machine.add(Job.Loading)
        machine.remove(Job.Loading)
        machine.add(Job.Loading)
        loaded = await machine.when(Job.Loaded)
        assert loaded.result == 3
        machine.add(Job.Idle)
        await trio.sleep(0.1)


@program
async def waiters(trial: Trial) -> None:
    """Outsiders wait, alone and composed, for what comes, for what comes only at the close, and for what never does."""
    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Job, Work(trial)) as machine:
            both = machine.when(Job.Loaded) & machine.when_not(Job.Idle)
            for waiter in (
                both,
                machine.when(Job.Idle, Job.Loaded) | machine.when_ticks(Job.Idle, 2),
                trsm.wait_all(machine.when(Job.Kept), both),
                trsm.wait_any(machine.when_error(), machine.when_next(Job.Ping)),
                machine.when_query(lambda ticks: ticks[Job.Loading] >= 2),
                machine.when_closed(),
                machine.when_closed() | machine.when(Job.Kept),
            ):
                nursery.start_soon(told, waiter)
            nursery.start_soon(look, machine)
            machine.add(Job.Idle)
            with machine.while_active(Job.Idle):
                await trio.sleep(1)
                machine.add(Job.Loading)
                await trio.sleep_forever()
            with trio.move_on_after(0.5):
                await both
            await (both | machine.when_error())


async def look(machine: Machine) -> None:
    async for ticks in machine.watch():
        assert len(ticks) == len(Job)


class Part(Schema):
    On = State()
    Half = State(require=On)


class Slow:
    """Works until it is cancelled, and then some."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    @Part.On.task
    async def work(self, t: Transition) -> None:
        with self.trial.running_task():
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5)


@program
async def children(trial: Trial) -> None:
    """Started children, their children, and such with blocks, here and in another task; some close before the rest."""

    async def clean_up(seconds: float) -> None:
        with trial.running_task():
            await trio.sleep(seconds)
            trial.point()

    async def elsewhere(parent: Machine) -> None:
        try:
            async with trsm.open_machine(Part, Slow(trial), parent=parent) as machine:
                machine.add(Part.On)
                await trio.sleep_forever()
        except MachineClosed:
            await trio.lowlevel.checkpoint()  # the parent was closed before this task came to open its machine

    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Job, Work(trial)) as machine:
            nursery.start_soon(elsewhere, machine)
            machine.add(Job.Idle)
            first = start(machine, trial)
            second = start(machine, trial)
            machine.defer(clean_up, 0.1)
            if not (first.closed or second.closed):  # as they are when a handler of theirs has raised
                first.defer(clean_up, 0.2)
                second.defer(clean_up, 0.2)
                grandchild = start(first, trial)
                if not grandchild.closed:
                    grandchild.defer(clean_up, 0.3)
            await trio.sleep(1)
            first.close()
            async with trsm.open_machine(Part, Slow(trial), parent=machine if second.closed else second) as inner:
                inner.add(Part.On, Part.Half)
                inner.defer(clean_up, 0.1)
                start(inner, trial)
                await first.when_closed()


def start(parent: Machine, trial: Trial) -> Machine:
    """Start a child that works; closed with its parent, if that has closed."""
    child = parent.start_child(Part, Slow(trial))
    child.add(Part.On)
    child.add(Part.Half)
    return child


@program
async def cleanups(trial: Trial) -> None:
    """Cleanups that take time, register more, and wait for what the machine was."""

    async def clean_up(depth: int) -> None:
        with trial.running_task():
            trial.point()
            try:
                await trio.sleep(0.1)
            except trio.Cancelled:
                trial.violations.append("a cleanup was cancelled, which had time enough")
                raise
            if depth:
                machine.defer(clean_up, depth - 1)
            await told(machine.when(Job.Loaded))

    async with trsm.open_machine(Job, Work(trial)) as machine:
        machine.defer(clean_up, 0)
        machine.defer(clean_up, 2)
        machine.add(Job.Idle)
        await trio.sleep(0.1)


class Caught(Schema):
    On = State()
    Other = State(auto=True, require=On)
    ErrFault = ErrorState(catches=Fault, remove=On)
    Again = State(multi=True)


class Careful:
    """Takes faults, and goes on."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    @Caught.ErrFault.on_enter
    def take(self, t: Transition) -> None:
        self.trial.handled.append(t.error)
        t.machine.add(Caught.Again)

    @Caught.On.on_exit
    def leave(self, t: Transition) -> None:
        t.machine.add(Caught.Again)
        self.trial.point()

    @Caught.On.task
    async def work(self, t: Transition) -> None:
        with self.trial.running_task():
            try:
                await trio.sleep(0.5)
                self.trial.point()
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.1)
                    self.trial.point()


@program
async def errors(trial: Trial) -> None:
    """An error state takes what is raised while the machine lives, also from a child; the rest leaves the block."""
    async with trsm.open_machine(Caught, Careful(trial)) as machine:
        machine.add(Caught.On)
        child = machine.start_child(Part, Slow(trial))
        child.add(Part.On)
        await trio.sleep(1)
        machine.remove(Caught.On)
        child.close()
        machine.set(Caught.On)
        await child.when_closed()
        await trio.sleep(1)


class ClosingWork(Work):
    @Job.Loaded.on_enter
    def close(self, t: Transition) -> None:
        t.machine.close()
        t.machine.add(Job.Ping)
        self.trial.point()


class ClosingPart(Slow):
    @Part.Half.task
    async def close_parent(self, t: Transition) -> None:
        with self.trial.running_task():
            await trio.sleep(1)
            parent = t.machine.parent
            assert parent is not None
            parent.close()
            self.trial.point()
            await trio.sleep(1)


@program
async def closed_by_a_handler(trial: Trial) -> None:
    """A handler closes the machine while its tasks run and mutations wait."""
    async with trsm.open_machine(Job, ClosingWork(trial)) as machine:
        machine.add(Job.Loading, Job.Kept)
        machine.defer(trio.sleep, 0.1)
        await trio.sleep_forever()


@program
async def closed_by_a_task_of_a_child(trial: Trial) -> None:
    """The parent of the machine whose task it is is closed, while its own body waits."""
    async with trsm.open_machine(Part, Slow(trial)) as machine:
        machine.add(Part.On)
        child = machine.start_child(Part, ClosingPart(trial))
        child.add(Part.On, Part.Half)
        await told(machine.when_not(Part.On))


@program
async def opened_in_a_task(trial: Trial) -> None:
    """A machine inside a task of another, and a body that fails to hold it."""

    @Job.Loading.task
    async def inside(t: Transition) -> None:
        with trial.running_task():
            async with trsm.open_machine(Part, Slow(trial), parent=t.machine) as inner:
                inner.add(Part.On)
                trial.point()
                await trio.sleep_forever()

    async with trsm.open_machine(Job, inside) as machine:
        machine.add(Job.Loading)
        await trio.sleep(1)
        machine.add(Job.Loaded)
        machine.add(Job.Loading)
        await trio.sleep(1)


def promise_of(disturbance: Disturbance) -> int:
    """Return which promise a disturbance proves: cancelling and closing, or exceptions and Ctrl-C."""
    return 13 if disturbance in (sweep.CANCEL, sweep.CLOSE, sweep.CANCEL_CALL) else 14


@pytest.mark.promise(13, 14, 20)
@pytest.mark.parametrize("disturbance", [sweep.CANCEL, sweep.INTERRUPT, sweep.CLOSE, sweep.FAULT, sweep.STOP], ids=str)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program_disturbed_at_every_point(
    program: Program, disturbance: Disturbance, figure: Callable[..., None]
) -> None:
    """Relations and ticks hold, tasks are joined, waiters told, owed exits run; nothing is swallowed or told twice."""
    points = sweep.sweep(program, disturbance, seeds=range(SEEDS))
    assert points > 5
    figure(promise_of(disturbance), points=points)


@pytest.mark.promise(13, 14)
@pytest.mark.parametrize("disturbance", [sweep.CANCEL_CALL, sweep.INTERRUPT_CALL], ids=str)
@pytest.mark.parametrize("program", [tasks, errors, closed_by_a_handler], ids=lambda program: program.__name__)
def test_program_disturbed_inside_every_call(
    program: Program, disturbance: Disturbance, figure: Callable[..., None]
) -> None:
    """What comes from outside while a handler runs is met when the transition has ended, and the same holds."""
    points = sweep.sweep(program, disturbance, seeds=range(SEEDS))
    assert points > 5
    figure(promise_of(disturbance), points=points)


# ---- The program of DESIGN section 1 --------------------------------------------------------------------------------


class FileFlow(Schema):
    """Hash one file, then say so."""

    Processing = State(remove="Processed")
    Processed = State(remove=Processing)
    InProgress = State(auto=True, require=Processing)


class FileHandlers:
    def __init__(self, trial: Trial, path: Path) -> None:
        self.trial = trial
        self.path = trio.Path(path)

    @FileFlow.Processing.can_enter
    def has_name(self, t: Transition) -> bool:
        return self.path.name != ""

    @FileFlow.Processing.on_enter
    def announce(self, t: Transition) -> None:
        self.trial.point()

    @FileFlow.Processing.task(then=FileFlow.Processed)
    async def hash(self, t: Transition) -> str:
        with self.trial.running_task():
            return hashlib.sha256(await self.path.read_bytes()).hexdigest()


@pytest.mark.promise(13, 14, 20)
@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=str)
def test_first_program_disturbed_at_every_point(
    tmp_path: Path, disturbance: Disturbance, figure: Callable[..., None]
) -> None:
    """The program of DESIGN section 1, on a real file, read in a real thread."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    results = []

    async def first_program(trial: Trial) -> None:
        async with trsm.open_machine(FileFlow, FileHandlers(trial, path)) as machine:
            machine.add(FileFlow.Processing)
            with trio.fail_after(5):
                done = await machine.when(FileFlow.Processed)
            results.append(done.result)

    points = sweep.sweep(first_program, disturbance, is_jumping=False)
    assert points > 5
    figure(promise_of(disturbance), points=points)
    assert set(results) == {hashlib.sha256(b"content").hexdigest()}


# ---- The harness itself ---------------------------------------------------------------------------------------------


def order(seed: int) -> list[int]:
    """Return the order in which ten tasks took ten turns."""
    turns: list[int] = []

    async def take(number: int) -> None:
        for _ in range(10):
            turns.append(number)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(take, number)

    with repeatable(seed):
        trio.run(main)
    return turns


def test_private_names_of_trio() -> None:
    """What `repeatable` relies on is still there, under the names that it uses, and does what it is used for."""
    assert hasattr(_run, "_r")
    assert isinstance(_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert order(0) == order(0)
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_scheduler_after_a_repeatable_run() -> None:
    """It is left as it was found."""
    before = _run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    order(0)
    assert (_run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING) == before


async def fine(trial: Trial) -> None:
    """Do what a program does."""
    async with trsm.open_machine(Job, Work(trial)) as machine:
        machine.add(Job.Idle)
        await trio.sleep(1)


def test_every_point_is_disturbed_once() -> None:
    """Run k is disturbed before step k, and the run that ends the sweep is not disturbed at all."""
    numbers = []

    def note(trial: Trial) -> None:
        numbers.append((trial.number, trial.fired))

    points = sweep.sweep(fine, sweep.CANCEL, seeds=(0,), check=note)
    assert numbers == [(number, number < points) for number in range(points + 1)]
    assert points >= 5


def test_sweep_without_end() -> None:
    """It says so, rather than to run on."""
    with pytest.raises(AssertionError, match="3 runs with cancel did not come to the end"):
        sweep.sweep(fine, sweep.CANCEL, limit=3)


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=str)
def test_disturbance_takes_place(disturbance: Disturbance) -> None:
    """Each leaves its mark on at least one run of a program."""
    marks = set()

    def note(trial: Trial) -> None:
        if trial.fired:
            marks.add(
                (
                    trial.scope.cancelled_caught,
                    tuple(type(one).__name__ for one in sweep.leaves(trial.left)),
                    trial.is_complete,
                )
            )
        trial.check()

    sweep.sweep(fine, disturbance, check=note)
    wanted = {
        "cancel": (True, (), False),
        "cancel in a call": (True, (), False),
        "interrupt": (False, ("KeyboardInterrupt",), False),
        "interrupt in a call": (False, ("KeyboardInterrupt",), False),
        "close": (False, (), True),
        "fault": (False, ("Fault",), False),
        "stop": (False, ("Stop",), False),
    }
    assert wanted[disturbance.name] in marks


class Broken(Exception):
    """Says what a program did wrong on purpose."""


async def leaves_a_task(trial: Trial) -> None:
    trial.running += 1
    await trio.lowlevel.checkpoint()


async def swallows(trial: Trial) -> None:
    try:
        await trio.sleep(1)
        await trio.sleep(1)
        trial.point()
    except (Fault, KeyboardInterrupt):
        await trio.lowlevel.checkpoint()


async def is_strange(trial: Trial) -> None:
    await trio.lowlevel.checkpoint()
    raise Broken


async def keeps_a_machine_open(trial: Trial) -> None:
    opening = trsm.open_machine(Job)
    machine = await opening.__aenter__()
    machine.add(Job.Idle)
    waiter = machine.when(Job.Loaded)
    assert not waiter.done
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Machine, "close", lambda machine: None)
        await opening.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("program", "disturbance", "words"),
    [
        (leaves_a_task, sweep.CANCEL, "1 tasks never ended"),
        (swallows, sweep.FAULT, "was told 0 times"),
        (swallows, sweep.INTERRUPT, "Ctrl-C came out 0 times"),
        (is_strange, sweep.CANCEL, r"strange errors: \[Broken"),
        (keeps_a_machine_open, sweep.CANCEL, "is open.*is active.*was never told.*Idle of .* had enter"),
    ],
)
def test_program_that_does_wrong(program: Program, disturbance: Disturbance, words: str) -> None:
    """The harness finds it, and says what."""
    with pytest.raises(AssertionError, match=words):
        sweep.sweep(program, disturbance)
