"""Sweeps: each finds the point at which a scenario does wrong, says what it is, and ends; what does right passes."""

from __future__ import annotations

import enum
import functools
import gc
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest
import trio
from sweep import CANCEL, Program, Trial

import trsm
from shell.test_sweep import PROGRAMS
from trsm import ErrorState, Machine, Schema, State, Transition
from trsm.testing import (
    Fault,
    SweepFailure,
    call_sweep,
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
    with pytest.raises(
        ValueError, match=rf"cancel_sweep\(good, point={points}\): it is never reached: .* has {points} points"
    ):
        cancel_sweep(good, point=points)
    with pytest.raises(ValueError, match=r"cancel_sweep\(sleep, point=9\): .* has 1 point, and the first is 0$"):
        cancel_sweep(functools.partial(trio.sleep, 1), point=9, seeds=(0, 1))
    with pytest.raises(ValueError, match=r"raise_sweep\(sleep, point=0\): .* has 0 points$"):
        raise_sweep(functools.partial(trio.sleep, 1), point=0)


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
        (leaks_a_task, r"leaked: task 'stray' still runs\n"),
        (swallows, "broke: the scenario was told of the cancellation, swallowed it, and went on to its end"),
        (waits_in_vain, r"hung: nothing can go on.*: task 'waits_in_vain' at test_sweeping.py:\d+, in waits_in_vain"),
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
    assert foot == f"to run it again: cancel_sweep({scenario.__name__}, point={failure.point})"
    assert failure.findings
    with pytest.raises(SweepFailure) as again:
        cancel_sweep(scenario, point=failure.point)
    assert again.value.point == failure.point
    assert again.value.findings[0].split(":")[0] == failure.findings[0].split(":")[0]
    for number in range(failure.point):
        assert cancel_sweep(scenario, point=number) == 1


# ---- The other sweeps -----------------------------------------------------------------------------------------------


async def swallows_everything() -> None:
    try:
        await trio.sleep(1)
        await trio.sleep(1)
    except (KeyboardInterrupt, Fault):
        await trio.lowlevel.checkpoint()


def test_swallowed_interrupt() -> None:
    """Ctrl-C that does not come out is found."""
    with pytest.raises(
        SweepFailure, match=r"interrupt_sweep\(.*, point 0: interrupted by Ctrl-C: .*\n.*swallowed Ctrl-C"
    ):
        interrupt_sweep(swallows_everything)


def test_interrupt_that_comes_out_twice() -> None:
    """So is one that is told twice."""

    async def tells_twice() -> None:
        try:
            await trio.sleep(1)
            await trio.sleep(1)
        except KeyboardInterrupt as error:
            raise BaseExceptionGroup("", [error, KeyboardInterrupt()]) from None

    with pytest.raises(SweepFailure, match="Ctrl-C came out of it 2 times"):
        interrupt_sweep(tells_twice)


def test_interrupts_that_would_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, in another thread and where they are handled."""
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    with pytest.raises(RuntimeError, match="interrupt_sweep: Ctrl-C would not arrive here: call it in the main thread"):
        interrupt_sweep(good)
    monkeypatch.undo()

    async def elsewhere() -> None:
        await trio.to_thread.run_sync(interrupt_sweep, good)

    with pytest.raises(RuntimeError, match="Ctrl-C would not arrive here"):
        trio.run(elsewhere)


def test_closing_is_met() -> None:
    """Waiters of the closed machine may fail; a scenario without a machine has nothing to close."""
    assert close_sweep(good) > 3

    async def outsider() -> None:
        async with trsm.open_machine(Job) as machine, trio.open_nursery() as nursery:
            child = machine.start_child(Job)
            child.add(Job.Loading)
            nursery.start_soon(trio.sleep, 1)
            waiter = machine.when(Job.Loaded)
            await trio.sleep(1)
            machine.add(Job.Loaded)
        await waiter

    assert close_sweep(outsider) > 3

    async def no_machine() -> None:
        trsm.Engine(Job)
        await trio.sleep(1)

    assert close_sweep(no_machine) == 1


async def with_errors() -> None:
    """Have every kind of handler, and take what they raise as a state."""
    async with trsm.open_machine(Careful, Takes()) as machine:
        machine.add(Careful.On)
        await trio.sleep(1)
        machine.remove(Careful.On)
        machine.start_soon(trio.sleep, 1)
        await trio.sleep(2)


class Careful(Schema):
    On = State()
    ErrFault = ErrorState(catches=(Fault, OSError))


class Takes:
    @Careful.On.can_enter
    def may(self, t: Transition) -> bool:
        return True

    @Careful.On.on_enter
    def enter(self, t: Transition) -> None: ...

    @Careful.On.on_exit
    def leave(self, t: Transition) -> None: ...

    @Careful.On.task
    async def work(self, t: Transition) -> None:
        await trio.sleep_forever()

    @Careful.ErrFault.task
    async def take(self, t: Transition) -> None: ...


def test_every_handler_and_task_raises_once() -> None:
    """Each call is a point; an error state takes it, or it leaves; with the exception that was asked for."""
    assert raise_sweep(with_errors) == 5
    made: list[OSError] = []

    def disk_is_full() -> OSError:
        made.append(OSError("disk full"))
        return made[-1]

    assert raise_sweep(with_errors, error=disk_is_full) == 5
    assert len(made) == 6, "one is made before the first run"
    assert raise_sweep(with_errors, error=KeyboardInterrupt) == 5


def test_fault_that_brings_something_else() -> None:
    """What leaves besides is found, with the handler that was made to raise."""

    class Breaks(Takes):
        @Careful.ErrFault.on_enter
        def also(self, t: Transition) -> None:
            raise ZeroDivisionError

    async def breaks() -> None:
        async with trsm.open_machine(Careful, Breaks()) as machine:
            machine.add(Careful.On)
            await trio.sleep(1)

    with pytest.raises(SweepFailure) as caught:
        raise_sweep(breaks)
    assert caught.value.point == 0
    assert "raise_sweep(breaks), point 0: made to raise: can_enter Takes.may, in <Transition" in str(caught.value)
    assert any(one.startswith("broke: ZeroDivisionError() left it, raised at ") for one in caught.value.findings)


class Store:
    """Where things are written, in every way that a function can be kept."""

    written = 0

    def write(self, text: str) -> None:
        Store.written += 1

    async def send(self, text: str) -> None:
        await trio.lowlevel.checkpoint()

    @staticmethod
    def plain(text: str) -> str:
        return text

    @classmethod
    def make(cls) -> Store:
        return cls()


class Shop(Store):
    """Inherits them."""


async def uses_the_store() -> None:
    for _ in range(3):
        try:
            store = Shop.make()
            store.write(store.plain("x"))
            await store.send("x")
        except (Fault, OSError):
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("function", ["write", "send", "plain", "make"])
@pytest.mark.parametrize("owner", [Store, Shop])
def test_every_call_of_a_function_fails_once(owner: type, function: str) -> None:
    """Methods, async ones, static and class methods, inherited or not; afterwards all is as before."""
    before = dict(vars(owner))
    assert call_sweep(uses_the_store, owner, function) == 3
    assert call_sweep(uses_the_store, owner, function, error=OSError) == 3
    assert dict(vars(owner)) == before | {"written": Store.written} if owner is Store else before


def test_function_of_an_object_and_of_a_module() -> None:
    """Bound as it was; the object is as before."""
    store = Store()

    async def writes() -> None:
        try:
            store.write("x")
            await store.send("x")
        except Fault:
            await trio.lowlevel.checkpoint()
        try:
            signal.getsignal(signal.SIGINT)
        except Fault:
            await trio.lowlevel.checkpoint()

    assert call_sweep(writes, store, "write") == 1
    assert call_sweep(writes, store, "send") == 1
    assert vars(store) == {}
    store.write = store.write  # type: ignore[method-assign]
    assert call_sweep(writes, store, "write") == 1
    assert list(vars(store)) == ["write"]
    assert call_sweep(writes, signal, "getsignal") >= 1


def test_call_that_breaks_a_scenario() -> None:
    """It is said which call that was, and where it was made."""

    async def fragile() -> None:
        Store().write("x")
        try:
            Store().write("y")
        except Fault as error:
            raise ZeroDivisionError from error
        await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure) as caught:
        call_sweep(fragile, Store, "write")
    words = (
        r"call_sweep\(fragile\), point 1: made to fail: call 2 of Store.write, by test_sweeping.py:\d+, in .*"
        r"fragile\n  broke: ZeroD"
    )
    assert re.match(words, str(caught.value))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_cause_of_a_failure_is_what_is_told() -> None:
    """And not the exception that was brought, if that has left too."""

    class Loading:
        @Job.Loading.on_enter
        def enter(self, t: Transition) -> None: ...

    async def scenario() -> None:
        async with trsm.open_machine(Job, Loading()) as machine:
            try:
                machine.add(Job.Loading)
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                raise LookupError("it is gone") from None

    with pytest.raises(SweepFailure, match=r"broke: LookupError\('it is gone'\) left it, raised at ") as caught:
        raise_sweep(scenario)
    assert isinstance(caught.value.__cause__, LookupError)
    line = scenario.__code__.co_firstlineno + 6
    assert caught.value.findings[-1].endswith(f"test_sweeping.py:{line}, in {scenario.__qualname__}")


def test_long_errors_and_those_of_trio_are_told_in_a_line() -> None:
    """As trio's own of what is left in the wrong order, which none of the scenario's lines has raised."""

    async def leaves_it_open() -> None:
        await trsm.open_machine(Job, id="lost").__aenter__()
        await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure) as caught:
        cancel_sweep(leaves_it_open)
    leaked, *broke = caught.value.findings
    assert leaked.startswith("leaked: machine 'lost' was never closed")
    assert broke
    for one in broke:
        assert one.endswith((" […]') left it, raised inside of trio", ' […]") left it, raised inside of trio'))
        assert "\n" not in one
        assert "\\n" not in one


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_generator_that_is_left_open() -> None:
    """Its task is trio's own, so that its name says little."""

    async def numbers() -> AsyncGenerator[int]:
        try:
            while True:
                yield 1
        finally:
            await trio.sleep(1)

    async def forgets() -> None:
        async for _ in numbers():
            break
        gc.collect()
        await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure, match=r"still runs: an async generator was left before its end: let contextlib"):
        cancel_sweep(forgets)


def test_who_calls_what_fails() -> None:
    """The line of the scenario that led to it, though it is trsm that calls; a task is called by trio."""

    class Loads:
        @Job.Loading.on_enter
        def enter(self, t: Transition) -> None: ...

        @Job.Loading.task
        async def load(self, t: Transition) -> None: ...

    async def scenario() -> None:
        try:
            async with trsm.open_machine(Job, Loads()) as machine:
                machine.add(Job.Loading)
                await trio.lowlevel.checkpoint()
        except Exception:
            raise LookupError from None

    with pytest.raises(SweepFailure) as caught:
        call_sweep(scenario, Loads, "enter")
    line = scenario.__code__.co_firstlineno + 3
    assert f"Loads.enter, by test_sweeping.py:{line}, in {scenario.__qualname__}\n" in str(caught.value)
    with pytest.raises(SweepFailure, match=r"call 1 of .*Loads.load, by trio itself\n"):
        call_sweep(scenario, Loads, "load")


# ---- To run it again ------------------------------------------------------------------------------------------------


async def writes(store: type[Store], texts: Sequence[object], *, times: int = 1) -> None:
    """Not be ready for a failure."""
    try:
        for _ in range(times):
            store().write(str(texts))
    except (Fault, OSError):
        raise ZeroDivisionError from None


def looks() -> None: ...


class Programs:
    @classmethod
    async def looks_up(cls) -> None:
        try:
            signal.getsignal(signal.SIGINT)
        except OSError:
            raise ZeroDivisionError from None

    async def writes(self) -> None:
        await writes(Store, "x")


def failed(sweep: Callable[[], object]) -> tuple[SweepFailure, str, list[str]]:
    """Return how a sweep fails, the call with which that ends, and the lines below."""
    with pytest.raises(SweepFailure) as caught:
        sweep()
    call, *rest = str(caught.value).partition("\n  to run it again: ")[2].split("\n  ")
    return caught.value, call, rest


def test_a_failure_ends_with_a_call_that_can_be_pasted() -> None:
    """It has all that the sweep was given and that matters, and finds the same."""
    scenario = functools.partial(writes, Shop, ["x", ("y",), (1.5, None)], times=2)
    expected = (KeyError, LookupError)
    failure, call, rest = failed(
        lambda: call_sweep(scenario, Store, "write", error=OSError, seeds=(0, 1), expected=expected, after=looks)
    )
    assert call == (
        "call_sweep(functools.partial(writes, Shop, ['x', ('y',), (1.5, None)], times=2), Store, 'write', "
        "error=OSError, point=0, expected=(KeyError, LookupError), after=looks)"
    )
    assert not rest
    again, _, _ = failed(lambda: eval(call))
    assert (str(again), again.point) == (str(failure), failure.point)


def test_a_failure_of_a_class_method_and_a_module() -> None:
    """They are written as they are found."""
    failure, call, rest = failed(lambda: call_sweep(Programs.looks_up, signal, "getsignal", error=OSError))
    assert call == "call_sweep(Programs.looks_up, signal, 'getsignal', error=OSError, point=0)"
    assert not rest
    again, _, _ = failed(lambda: eval(call))
    assert again.findings == failure.findings


def test_a_failure_of_what_is_defined_in_a_test() -> None:
    """It has the name that it has there, and the order of tasks in which it was found."""
    names: list[str] = []
    allowed: set[str] = set()
    """Who came first in the first run."""

    async def comes(name: str) -> None:
        names.append(name)

    async def races() -> None:
        names.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(comes, "a")
            nursery.start_soon(comes, "b")
        allowed.update(names[:1] if not allowed else ())
        if names[0] not in allowed:
            raise ZeroDivisionError

    class Own(ArithmeticError): ...

    _, call, rest = failed(lambda: cancel_sweep(races, seeds=range(20), expected=Own))
    found = re.fullmatch(r"cancel_sweep\(races, seeds=\[(\d+)\], expected=Own\)", call)
    assert found
    assert int(found[1]) > 0
    assert not rest
    again, _, _ = failed(lambda: eval(call, globals() | {"races": races, "Own": Own}))
    assert again.point == -1


class Size(enum.IntEnum):
    SMALL = 1


@pytest.mark.parametrize(
    "argument", [Size.SMALL, float("inf"), object(), [object()], functools.partial(print, Size.SMALL)]
)
def test_a_failure_of_what_cannot_be_written(argument: object) -> None:
    """It is named by its parameter, and what that was is said below."""
    store = Store()
    error, after = (lambda: OSError()), lambda: None
    scenario = Programs().writes
    _, call, rest = failed(lambda: call_sweep(scenario, Store, "write", error=error, after=after))
    assert call == "call_sweep(scenario, Store, 'write', error=error, point=0, after=after)"
    (words,) = rest
    assert re.fullmatch(
        r"where scenario is <bound method Programs.writes of .*>; error is <lambda> of test_sweeping.py:\d+; "
        r"after is <lambda> of test_sweeping.py:\d+",
        words,
    )

    async def writes_there() -> None:
        try:
            store.write("x")
        except Fault:
            raise ZeroDivisionError from None

    _, call, rest = failed(lambda: call_sweep(writes_there, store, "write"))
    assert (call, rest) == ("call_sweep(writes_there, owner, 'write', point=0)", [f"where owner is {store!r}"])

    _, call, rest = failed(lambda: raise_sweep(functools.partial(wrong, argument)))
    assert (call, len(rest)) == ("raise_sweep(scenario)", 1)
    assert rest[0].startswith("where scenario is functools.partial(<function wrong at ")


# ---- Scenarios that hang --------------------------------------------------------------------------------------------


def test_hang_without_a_disturbance() -> None:
    """It is found before anything is disturbed."""
    with pytest.raises(SweepFailure, match="even where it is not disturbed\n  hung: nothing can go on") as caught:
        cancel_sweep(trio.sleep_forever)
    assert caught.value.point == -1


async def hangs_in_a_child() -> None:
    """Have a shielded task that nobody ends, in a nursery."""

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stubborn)
        await trio.sleep(1)


def test_hang_that_is_hard_to_end() -> None:
    """A shielded task is ended by force; the next sweep finds everything in order."""
    with pytest.raises(SweepFailure, match=r"hung: nothing can go on.*hangs_in_a_child.*; task .*stubborn"):
        cancel_sweep(hangs_in_a_child)
    assert cancel_sweep(good) > 3


SPINNING = """
import sys, trio
from trsm.testing import SweepFailure, _sweeping, cancel_sweep

async def spins_and_takes_everything():
    while True:
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:
            continue

sys.unraisablehook = lambda unraisable: None
_sweeping.QUIET_BOUND = 500
try:
    cancel_sweep(spins_and_takes_everything)
except SweepFailure as failure:
    print(failure)

async def good():
    await trio.sleep(1)

print(cancel_sweep(good))
"""


def test_hang_that_nothing_ends() -> None:
    """Where even force does not help, trio is broken off, which leaves a mess; the failure is told all the same."""
    run = subprocess.run([sys.executable, "-c", SPINNING], capture_output=True, text=True, timeout=60, check=False)
    assert "hung: it goes on and on: 500 steps did not suffice, the last of task" in run.stdout
    assert run.stdout.splitlines()[-1] == "1"


def test_scenario_that_remembers() -> None:
    """One that has more to do in each run never comes to the end of its points; it says so."""
    runs = 0

    async def more_and_more() -> None:
        nonlocal runs
        runs += 1
        for _ in range(20 * runs):
            await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure, match=r"disturbed ones did not reach the end: does it remember earlier runs\?"):
        cancel_sweep(more_and_more)


def test_scenario_that_ends_by_cancelling_itself() -> None:
    """It came to an end for no reason that can be seen."""

    async def leaves_silently() -> None:
        await trio.lowlevel.checkpoint()
        raise trio.Cancelled._create()

    with pytest.raises(SweepFailure, match="broke"):
        cancel_sweep(leaves_silently)


# ---- Mistakes -------------------------------------------------------------------------------------------------------


def sync() -> None: ...


async def needs(path: str) -> None: ...


def textual(text: str) -> None: ...


class Callable_:
    async def __call__(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("sweep", SWEEPS)
def test_what_is_no_scenario(sweep: Sweep) -> None:
    """It is refused, with what to write, before anything runs."""
    name = sweep.__name__
    with pytest.raises(TypeError, match=rf"{name}\(sync\): a scenario is an async function: write async def sync\(\)"):
        sweep(sync)
    for scenario, written in ((3, "3"), (None, "None"), (lambda: good(), "<lambda>")):
        with pytest.raises(
            TypeError, match=rf"{name}\({written}\): a scenario is an async function: write async def scenario\(\)"
        ):
            sweep(scenario)
    with pytest.raises(
        TypeError, match=rf"{name}\(needs\): .*without arguments, and this one takes some \(.*path.*partial"
    ):
        sweep(needs)
    with pytest.raises(TypeError, match=rf"{name}\(…\): pass the async function itself, and do not call it"):
        sweep(good())
    with pytest.raises(TypeError, match=rf"{name}\(…, after=3\): pass a sync function without arguments"):
        sweep(good, after=3)
    for after in (good, functools.partial(good), Callable_(), textual):
        with pytest.raises(TypeError, match=rf"{name}\(…, after=.*\): pass a sync function without arguments"):
            sweep(good, after=after)
    sweep(good, after=dict)  # its signature cannot be read


@pytest.mark.parametrize("sweep", SWEEPS)
async def test_sweep_inside_of_trio(sweep: Sweep) -> None:
    """It runs trio itself."""
    with pytest.raises(RuntimeError, match=f"{sweep.__name__} runs trio itself, many times: call it in a sync test"):
        sweep(good)


def test_what_may_be_a_scenario() -> None:
    """An async function with arguments bound, and an object that is called like one."""
    assert cancel_sweep(functools.partial(functools.partial(trio.sleep, 1))) == 1
    assert cancel_sweep(Callable_()) == 1


def test_errors_that_cannot_be_raised() -> None:
    """An exception itself, where each run needs its own; and what makes none."""
    with pytest.raises(
        TypeError, match=r"raise_sweep\(…, error=OSError\(\)\): each run raises .*: pass its class, or lambda"
    ):
        raise_sweep(good, error=OSError())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"call_sweep\(…, error=3\): each run raises an exception of its own"):
        call_sweep(good, Store, "write", error=3)  # type: ignore[arg-type]

    async def makes_none() -> OSError:
        return OSError()

    with pytest.raises(TypeError, match=r"it made <coroutine object .*, which cannot be raised"):
        raise_sweep(good, error=makes_none)  # type: ignore[arg-type]
    for made in (lambda: 3, int):
        with pytest.raises(
            TypeError, match=r"error=<.*>\): it made \d, which cannot be raised: pass an exception class"
        ):
            call_sweep(uses_the_store, Store, "write", error=made)  # type: ignore[arg-type]
    for kind in (UnicodeDecodeError, trio.Cancelled):
        with pytest.raises(
            TypeError, match=rf"raise_sweep\(…, error=<.*{kind.__name__}'>\): it was called .* raised TypeError"
        ):
            raise_sweep(good, error=kind)  # type: ignore[arg-type]


def test_an_error_that_can_be_made_only_once() -> None:
    """That none can be made where it is due is told, and no fault of the scenario."""
    words = r"error=<.*>\): it was called without arguments and raised StopIteration"
    errors = iter([OSError("first")])
    with pytest.raises(TypeError, match=words):
        raise_sweep(good, error=lambda: next(errors))
    errors = iter([OSError("first")])
    with pytest.raises(TypeError, match=words):
        call_sweep(uses_the_store, Store, "write", error=lambda: next(errors))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"point": -2}, ValueError, r"point=-2\): write the number of a point, a whole number, 0 or more"),
        ({"point": True}, ValueError, r"point=True\): write the number of a point"),
        ({"point": "1"}, ValueError, r"point='1'\): write the number of a point"),
        ({"seeds": 3}, TypeError, r"seeds=3\): pass several, such as seeds=range\(3\), or seeds=\[3\]"),
        ({"seeds": ()}, ValueError, r"seeds=\(\)\): nothing would be run: leave it out, or pass a number"),
        ({"seeds": (0, "1")}, TypeError, r"seeds=…\): '1' is no whole number"),
        ({"seeds": (True,)}, TypeError, r"seeds=…\): True is no whole number"),
        ({"expected": "x"}, TypeError, r"expected='x'\): 'x' is no class of exceptions: pass one, or several"),
        ({"expected": (OSError, int)}, TypeError, r"<class 'int'> is no class of exceptions"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], error: type[Exception], words: str) -> None:
    """They are refused before anything runs."""

    async def runs() -> None:
        raise AssertionError("it ran")

    for sweep in SWEEPS:
        with pytest.raises(error, match=words):
            sweep(runs, **options)


def test_the_call_that_runs_it_again_is_complete() -> None:
    """It has all that was passed and has a name; what has none is told below."""

    async def fails() -> None:
        try:
            Store().write("x")
        except OSError:
            raise ZeroDivisionError from None

    def check() -> None: ...

    with pytest.raises(SweepFailure) as caught:
        call_sweep(fails, Store, "write", error=OSError, seeds=[7], expected=(ValueError, KeyError), after=check)
    assert str(caught.value).endswith(
        "to run it again: call_sweep(fails, Store, 'write', error=OSError, point=0, seeds=[7], "
        "expected=(ValueError, KeyError), after=check)"
    )
    with pytest.raises(SweepFailure) as caught:
        call_sweep(fails, Store, "write", error=lambda: OSError(), expected=(ValueError,))
    assert re.search(
        r"call_sweep\(fails, Store, 'write', error=error, point=0, expected=ValueError\)\n"
        r"  where error is <lambda> of test_sweeping.py:\d+$",
        str(caught.value),
    )


def test_functions_that_are_none() -> None:
    """What the owner does not have, what is not called, and what is no name."""
    with pytest.raises(AttributeError):
        call_sweep(good, Store, "read")
    with pytest.raises(TypeError, match=r"call_sweep\(…, 'written'\): it is \d+, which nobody calls"):
        call_sweep(good, Store, "written")
    with pytest.raises(TypeError, match=r"name the function: call_sweep\(scenario, Store, 'write'\)"):
        call_sweep(good, Store, Store.write)  # type: ignore[arg-type]


# ---- The project's own programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_programs_of_all_kinds(program: Program, sweep: Sweep) -> None:
    """Tasks, waiters, children, cleanups, errors: whatever the project's own harness runs, users' tools run too."""

    async def scenario() -> None:
        await program(Trial(CANCEL, -1))

    assert sweep(scenario) >= 1


# ---- Functions of every form, replaced ------------------------------------------------------------------------------


class Printer:
    """Has functions that a look-up does not bind, or binds otherwise."""

    def __init__(self) -> None:
        self.printed: list[object] = []

    class Stamp:
        def __call__(self, *arguments: object) -> None:
            LINES.append(arguments)

    stamp = Stamp()
    line = functools.partial(lambda *arguments: LINES.append(arguments), "line")
    twice = functools.partialmethod(lambda self, *arguments: LINES.append((type(self).__name__, *arguments)), 2)

    @property
    def lately(self) -> Callable[..., None]:
        return lambda *arguments: LINES.append(arguments)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name != "anything":
            raise AttributeError(name)
        return lambda *arguments: LINES.append((name, *arguments))


class Making(type):
    def make(cls, *arguments: object) -> None:
        LINES.append((cls.__name__, *arguments))


class Made(metaclass=Making):
    pass


LINES: list[tuple[object, ...]] = []


@pytest.mark.filterwarnings("ignore:functools.partial will be a method descriptor:FutureWarning")  # Python 3.13
@pytest.mark.parametrize(
    ("name", "line", "is_class"),
    [
        ("stamp", (1,), False),
        ("stamp", (1,), True),
        ("line", ("line", 1), False),
        ("line", ("line", 1), True),
        ("twice", ("Printer", 2, 1), False),
        ("twice", ("Printer", 2, 1), True),
        ("anything", ("anything", 1), False),
    ],
)
def test_a_function_is_called_as_it_was_before_it_was_replaced(
    name: str, line: tuple[object, ...], is_class: bool
) -> None:
    """With no argument more: a partial and an object that can be called are not bound, by a look-up at either place."""
    LINES.clear()
    printer = Printer()

    async def prints() -> None:
        getattr(printer, name)(1)

    owner = Printer if is_class else printer
    before = dict(vars(owner))
    assert call_sweep(prints, owner, name) == 1
    assert [line] * 2 == LINES, "the run that is not disturbed, and the last one"
    assert dict(vars(owner)) == before


def test_a_function_of_the_class_of_a_class() -> None:
    """It is replaced on the class, and gone from there after."""
    LINES.clear()

    async def makes() -> None:
        Made.make(1)

    assert call_sweep(makes, Made, "make") == 1
    assert LINES == [("Made", 1)] * 2
    assert "make" not in vars(Made)


def test_a_function_that_cannot_be_replaced() -> None:
    """It says so, and where else to do it."""

    class Slotted:
        __slots__ = ()

        def write(self) -> None: ...

    for owner, name in ((Slotted(), "write"), (Printer(), "lately"), (dict, "get")):
        with pytest.raises(
            TypeError, match=rf"call_sweep\(…, .*, '{name}'\): it cannot be replaced there \(.*\): pass"
        ):
            call_sweep(good, owner, name)


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("run", [1, 2])
def test_ctrl_c_of_a_person_ends_the_sweep_itself(sweep: Sweep, run: int) -> None:
    """It is no finding about the scenario, and pytest ends with it."""
    runs = 0

    async def impatient() -> None:
        nonlocal runs
        runs += 1
        async with trsm.open_machine(Job) as machine:
            if runs == run:
                signal.raise_signal(signal.SIGINT)
            machine.add(Job.Idle)
            await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        sweep(impatient)
    assert runs == run
