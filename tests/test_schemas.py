"""The ready-made schemas of ``trsm.schemas``, inherited and used as a program does."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import ErrorState, Schema, State, Transition, schemas
from trsm.schemas import Basic, Cleanup, Connected, ConnectionPool, Disposable, Disposal

SCHEMAS = [name for name in schemas.__all__ if issubclass(getattr(schemas, name), Schema)]
PRINTED = {
    "Basic": ["(Start:1 Heartbeat:5 ErrNetwork:1 Error:1) after somebody pulled the plug"],
    "Connected": ["attempt 1", "attempt 2", "Connected"],
    "ConnectionPool": [
        "connection 1 of Exhausted",
        "add(Opening) is refused.",
        "Opening cannot activate: Draining removes it; Draining stays, because nothing in this mutation removes "
        "Draining.",
    ],
    "Disposable": ["the table, first", "the floor, last", "(Disposed:1)"],
}


async def settle() -> None:
    with trio.CancelScope(shield=True):
        await wait_all_tasks_blocked()


# ---- What holds for all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_program_in_the_docstring(name: str, tmp_path: Path) -> None:
    """It runs as it stands there, and prints what is told."""
    _, _, program = (inspect.getdoc(getattr(schemas, name)) or "").partition("Example::\n")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.stderr, run.returncode) == ("", 0)
    assert run.stdout.splitlines() == PRINTED[name]


def test_public_names() -> None:
    """All of them are documented, in the reference too, and nothing else public lies about."""
    reference = (Path(__file__).parents[1] / "docs" / "reference" / "ready-made.rst").read_text(encoding="utf-8")
    for name in schemas.__all__:
        assert (inspect.getdoc(getattr(schemas, name)) or "").split("\n")[0].endswith((".", ":"))
        assert reference.count(f".. autoclass:: {name}\n") == 1
    assert schemas.__all__ == sorted(schemas.__all__)
    own = {name for name, value in vars(schemas).items() if getattr(value, "__module__", "") == schemas.__name__}
    assert {name for name in own if not name.startswith("_")} == set(schemas.__all__)


def test_inherited_together() -> None:
    """Their names do not meet: a program may inherit all of them."""

    class Everything(Basic, Connected, ConnectionPool, Disposable):
        Serving = State(require=Basic.Ready)

    assert Everything.Serving in Everything
    assert len(Everything) == sum(len(getattr(schemas, name)) - 1 for name in SCHEMAS) + 2


# ---- Basic ----------------------------------------------------------------------------------------------------------


def test_ready_goes_with_start() -> None:
    """Nothing is ready, beats or is asked that was not started."""
    machine = trsm.Engine(Basic)
    for state in (Basic.Ready, Basic.Heartbeat, Basic.Healthcheck):
        assert machine.add(state).canceled
    machine.add(Basic.Start)
    machine.add(Basic.Ready, Basic.Heartbeat, Basic.Healthcheck)
    machine.add(Basic.Heartbeat)
    machine.add(Basic.Healthcheck)
    assert [machine.tick(state) for state in (Basic.Heartbeat, Basic.Healthcheck)] == [3, 3]
    machine.remove(Basic.Start)
    assert machine.active_states == ()


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (ConnectionResetError(), {"ErrNetwork"}),
        (trio.BrokenResourceError(), {"ErrNetwork"}),
        (trio.TooSlowError(), {"ErrTimeout"}),
        (TimeoutError(), {"ErrNetwork", "ErrTimeout"}),
    ],
)
async def test_errors_of_a_network(error: Exception, names: set[str]) -> None:
    """Each becomes its state, and the machine goes on."""
    async with trsm.open_machine(Basic) as machine:
        machine.add_error(error)
        assert {str(state) for state in machine.active_states} == {*names, "Error"}
        assert machine.error is error


async def test_error_of_another_kind() -> None:
    """It is none of theirs: it closes the machine."""
    with pytest.raises(ExceptionGroup):
        async with trsm.open_machine(Basic) as machine:
            machine.add_error(ValueError())
    assert machine.closed


# ---- Connected ------------------------------------------------------------------------------------------------------


async def test_one_state_of_a_connection_at_a_time() -> None:
    """Each puts out the one before, and where none is there it is disconnected."""
    async with trsm.open_machine(Connected) as machine:
        assert machine.which(Connected.link) is None
        for state in (Connected.Connecting, Connected.Connected, Connected.Disconnecting, Connected.Disconnected):
            machine.add(state)
            assert machine.active_states == (state,)
            assert machine.which(Connected.link) is state
        machine.add(Connected.Connected)
        machine.remove(Connected.Connected)
        assert machine.active_states == (Connected.Disconnected,)


@pytest.mark.parametrize("state", [Connected.Connecting, Connected.Connected, Connected.Disconnecting])
async def test_connection_fails(state: State[[], None]) -> None:
    """Whatever it was doing, it is disconnected then, and stays so until somebody takes the error away."""
    async with trsm.open_machine(Connected) as machine:
        machine.add(state)
        machine.add_error(ConnectionResetError())
        assert machine.active_states == (Connected.Disconnected, Connected.ErrConnecting, Connected.Error)
        assert machine.add(Connected.Connecting).canceled
        assert machine.mutate(add=Connected.Connecting, remove=Connected.ErrConnecting).executed
        assert machine.active_states == (Connected.Connecting, Connected.Error)


# ---- ConnectionPool -------------------------------------------------------------------------------------------------


async def test_supply_of_a_pool() -> None:
    """One state at a time, and empty where nothing is told."""
    async with trsm.open_machine(ConnectionPool) as machine:
        machine.add(ConnectionPool.Opening)
        assert machine.which(ConnectionPool.supply) is ConnectionPool.Empty
        machine.add(ConnectionPool.Available)
        machine.add(ConnectionPool.Exhausted)
        assert machine.which(ConnectionPool.supply) is ConnectionPool.Exhausted
        machine.remove(ConnectionPool.Exhausted)
        assert machine.which(ConnectionPool.supply) is ConnectionPool.Empty


async def test_pool_that_drains(autojump_clock: MockClock) -> None:
    """Those that are being opened are cancelled, and no other begins; what is there stays."""
    ended = []

    @ConnectionPool.Opening.task(limit=2)
    async def open_one(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(t)

    async with trsm.open_machine(ConnectionPool, open_one) as machine:
        for _ in range(3):
            machine.add(ConnectionPool.Opening)
        machine.add(ConnectionPool.Available)
        await settle()
        machine.add(ConnectionPool.Draining)
        await settle()
        assert len(ended) == 2
        assert machine.active_states == (ConnectionPool.Draining, ConnectionPool.Available)
        assert machine.add(ConnectionPool.Opening).canceled


async def test_connection_of_a_pool_fails(autojump_clock: MockClock) -> None:
    """It fails alone: the others are opened all the same."""
    opened = []

    @ConnectionPool.Opening.task(limit=1)
    async def open_one(t: Transition) -> None:
        await trio.sleep(1)
        if not opened and t.machine.is_inactive(ConnectionPool.ErrOpening):
            raise OSError
        opened.append(t)

    async with trsm.open_machine(ConnectionPool, open_one) as machine:
        for _ in range(3):
            machine.add(ConnectionPool.Opening)
        await trio.sleep(5)
        assert len(opened) == 2
        assert machine.is_active(ConnectionPool.ErrOpening, ConnectionPool.Opening)


# ---- Disposable -----------------------------------------------------------------------------------------------------


class Failing(Disposable):
    ErrValue = ErrorState(catches=(ValueError, KeyError, trio.TooSlowError))


async def note(log: list[str], word: str) -> None:
    await trio.lowlevel.checkpoint()
    log.append(word)


async def fail(error: BaseException) -> None:
    raise error


async def test_disposal_in_reverse(autojump_clock: MockClock) -> None:
    """The last first, each once; then the machine is disposed of, and lives on."""
    log: list[str] = []
    async with trsm.open_machine(Disposable, Disposal()) as machine:
        for word in "abc":
            machine.add(Disposable.RegisterDisposal(note, log, word))
        machine.add(Disposable.Disposing)
        assert machine.active_states == (Disposable.Disposing,)
        await machine.when(Disposable.Disposed)
        assert log == ["c", "b", "a"]
        assert machine.active_states == (Disposable.Disposed,)
    assert log == ["c", "b", "a"]


async def test_disposal_of_nothing() -> None:
    """It is done at once."""
    async with trsm.open_machine(Disposable, Disposal()) as machine:
        machine.add(Disposable.Disposing)
        await machine.when(Disposable.Disposed)


async def test_registered_too_late(autojump_clock: MockClock) -> None:
    """Once disposal has begun, cleanups are refused, and a disposed machine is disposed of for good."""
    async with trsm.open_machine(Disposable, Disposal()) as machine:
        machine.add(Disposable.RegisterDisposal(trio.sleep, 1))
        machine.add(Disposable.Disposing)
        assert machine.add(Disposable.RegisterDisposal(trio.sleep, 1)).canceled
        await machine.when(Disposable.Disposed)
        assert machine.add(Disposable.RegisterDisposal(trio.sleep, 1)).canceled
        assert machine.add(Disposable.Disposing).canceled
        assert machine.remove(Disposable.Disposed).canceled


async def test_errors_of_cleanups(autojump_clock: MockClock) -> None:
    """All run; their errors come as one group, and become states."""
    log: list[str] = []
    one, two = ValueError("one"), KeyError("two")
    async with trsm.open_machine(Failing, Disposal(), id="m") as machine:
        for call in ((note, log, "first"), (fail, one), (fail, two), (note, log, "last")):
            machine.add(Failing.RegisterDisposal(*call))
        failed = machine.when_error()
        machine.add(Failing.Disposing)
        error = await failed
        assert isinstance(error, ExceptionGroup)
        assert error.message == "cleanups of machine 'm'"
        assert error.exceptions == (two, one)
        assert log == ["last", "first"]
        assert machine.is_active(Failing.Disposed, Failing.ErrValue)


async def test_errors_of_cleanups_that_nobody_handles(autojump_clock: MockClock) -> None:
    """The machine closes, and they leave its block."""
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Disposable, Disposal()) as machine:
            machine.add(Disposable.RegisterDisposal(fail, ValueError("no")))
            machine.add(Disposable.Disposing)
            await trio.sleep_forever()
    assert caught.group_contains(ValueError, match="no", depth=2)


async def test_cleanups_that_take_too_long(autojump_clock: MockClock) -> None:
    """There is one deadline for all; those that it cancelled are named, those before it are not."""
    log: list[str] = []
    async with trsm.open_machine(Failing, Disposal(timeout=5), id="m") as machine:
        for call in ((trio.sleep_forever,), (trio.sleep, 6), (trio.sleep, 3), (note, log, "quick")):
            machine.add(Failing.RegisterDisposal(*call))
        failed = machine.when_error()
        machine.add(Failing.Disposing)
        error = await failed
        assert trio.current_time() == 5
        assert isinstance(error, ExceptionGroup)
        (slow,) = error.exceptions
        assert isinstance(slow, trio.TooSlowError)
        assert str(slow) == (
            "cleanups of machine 'm' took longer than 5 s (timeout of Disposal): "
            "sleep, sleep_forever had to be cancelled"
        )
        assert log == ["quick"]


@pytest.mark.parametrize("how", ["removed", "closed", "cancelled"])
async def test_disposal_is_shielded(autojump_clock: MockClock, how: str) -> None:
    """What has begun runs to its end, whatever becomes of its state, its machine, or who waits."""
    log: list[str] = []
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Disposable, Disposal()) as machine:
            machine.add(Disposable.RegisterDisposal(note, log, "first"))
            machine.add(Disposable.RegisterDisposal(trio.sleep, 2))
            machine.add(Disposable.Disposing)
            await trio.sleep(1)
            if how == "removed":
                machine.remove(Disposable.Disposing)
                refused = machine.add(Disposable.RegisterDisposal(note, log, "too late"))
                assert refused.reason.endswith("can_enter of RegisterDisposal (Disposal.may_register) refused.")
                await trio.sleep(5)
                assert machine.is_active(Disposable.Disposed)
            elif how == "closed":
                machine.close()
            else:
                scope.cancel()
    assert log == ["first"]


def test_a_registration_without_a_cleanup_says_what_to_write() -> None:
    """And that can be written."""
    engine = trsm.Engine(Disposable)
    with pytest.raises(trsm.MutationError, match=r"write Disposable.RegisterDisposal\(function=…\)"):
        engine.add(Disposable.RegisterDisposal)  # type: ignore[arg-type]
    assert Disposable.RegisterDisposal(function=trio.sleep).args.function is trio.sleep  # type: ignore[call-arg]


async def test_machine_closes_before_disposal(autojump_clock: MockClock) -> None:
    """What is registered runs then, in its place among what was deferred; errors leave the block one by one."""
    log: list[str] = []
    error = ValueError()
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Disposable, Disposal()) as machine:
            machine.defer(note, log, "deferred first")
            machine.add(Disposable.RegisterDisposal(note, log, "registered"))
            machine.add(Disposable.RegisterDisposal(fail, error))
            machine.defer(note, log, "deferred last")
    assert log == ["deferred last", "registered", "deferred first"]
    assert caught.value.exceptions == (error,)


async def test_machine_closes_and_a_cleanup_takes_too_long(autojump_clock: MockClock) -> None:
    """It is named as it was registered."""
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Disposable, Disposal(), cleanup_timeout=3) as machine:
            machine.add(Disposable.RegisterDisposal(functools.partial(trio.sleep_forever)))
            machine.add(Disposable.RegisterDisposal(trio.sleep, 4))
    assert caught.group_contains(trio.TooSlowError, match=r"cleanup_timeout.: sleep and .*sleep_forever")


async def test_one_disposal_for_two_machines(autojump_clock: MockClock) -> None:
    """Each has its own cleanups."""
    log: list[str] = []
    disposal = Disposal()
    async with trsm.open_machine(Disposable, disposal) as one, trsm.open_machine(Disposable, disposal) as two:
        one.add(Disposable.RegisterDisposal(note, log, "one"))
        two.add(Disposable.RegisterDisposal(note, log, "two"))
        one.add(Disposable.Disposing)
        await one.when(Disposable.Disposed)
        assert log == ["one"]
    assert log == ["one", "two"]


async def test_registered_when_disposing_was_removed(autojump_clock: MockClock) -> None:
    """It is refused until the cleanups that run are done, and then because the machine is disposed of."""
    log: list[str] = []
    async with trsm.open_machine(Disposable, Disposal()) as machine, trsm.open_machine(Disposable, Disposal()) as other:
        machine.add(Disposable.RegisterDisposal(trio.sleep, 2))
        machine.add(Disposable.Disposing)
        await trio.sleep(1)
        assert machine.remove(Disposable.Disposing)
        late = machine.add(Disposable.RegisterDisposal(note, log, "late"))
        assert isinstance(late, trsm.Canceled)
        assert "Disposal.may_register" in late.reason
        assert other.add(Disposable.RegisterDisposal(note, log, "other"))
        await machine.when(Disposable.Disposed)
        assert trio.current_time() == 2
        late = machine.add(Disposable.RegisterDisposal(note, log, "late"))
        assert isinstance(late, trsm.Canceled)
        assert "Disposed removes it" in late.reason
    assert log == ["other"]


async def test_registered_when_disposing_never_began() -> None:
    """Removed before its first step, it has run nothing: what is registered then is cleaned up with the rest."""
    log: list[str] = []
    async with trsm.open_machine(Disposable, Disposal()) as machine:
        machine.add(Disposable.RegisterDisposal(note, log, "one"))
        machine.add(Disposable.Disposing)
        machine.remove(Disposable.Disposing)
        assert machine.add(Disposable.RegisterDisposal(note, log, "two"))
        machine.add(Disposable.Disposing)
        await machine.when(Disposable.Disposed)
        assert log == ["two", "one"]


async def test_registered_when_disposed_was_refused() -> None:
    """The cleanups are done, so that another round may begin."""

    class Holding(Disposable):
        Hold = State(remove="Disposed")

    log: list[str] = []
    async with trsm.open_machine(Holding, Disposal()) as machine:
        machine.add(Holding.Hold)
        for word in ("one", "two"):
            assert machine.add(Holding.RegisterDisposal(note, log, word))
            machine.add(Holding.Disposing)
            await settle()
            assert machine.is_active(Holding.Disposing)
            machine.remove(Holding.Disposing)
        assert log == ["one", "two"]


class Thorough(Disposal):
    """A disposal with more to do."""


@pytest.mark.parametrize("how", ["open_machine", "start_child"])
async def test_machine_without_disposal(how: str) -> None:
    """It is not opened: what is registered would be lost. One of a class that inherits will do."""

    class Session(Disposable):
        Open = State()

    message = r"a machine of Session is opened without a Disposal, .*: write open_machine\(Session, Disposal\(\), …\)"
    async with trsm.open_machine(Basic) as parent:
        with pytest.raises(trsm.HandlerError, match=message):
            if how == "start_child":
                parent.start_child(Session)
            else:
                async with trsm.open_machine(Session):
                    pytest.fail("opened")
        parent.start_child(Session, Thorough())
    trsm.Engine(Session).add(Session.Open)  # it has nothing to await with


def test_registered_on_an_engine() -> None:
    """It has no tasks, and says so."""
    engine = trsm.Engine(Disposable, Disposal(), id="e")
    with pytest.raises(BaseExceptionGroup) as caught:
        engine.add(Disposable.RegisterDisposal(trio.lowlevel.checkpoint))
    (error,) = caught.value.exceptions
    assert isinstance(error, trsm.HandlerError)
    assert str(error) == (
        "RegisterDisposal of 'e', an engine, which has no tasks, and so nobody who would run it: open a machine with "
        "open_machine"
    )


def test_registered_without_a_function() -> None:
    """The message says what can be written."""
    with pytest.raises(trsm.MutationError, match=r"needs function: write Disposable.RegisterDisposal\(function=…\)$"):
        trsm.Engine(Disposable).add(Disposable.RegisterDisposal)  # type: ignore[arg-type]


def test_cleanup_that_is_not_async() -> None:
    """Refused where it is called; an object that is called asynchronously will do, and so will a partial."""

    class Callable:
        async def __call__(self) -> None:
            """Do nothing."""

    for good in (note, functools.partial(note, []), Callable()):
        assert Cleanup(good).function is good
    for bad in (print, functools.partial(print)):
        with pytest.raises(TypeError, match="a cleanup is async; put sync ones into on_exit handlers"):
            Disposable.RegisterDisposal(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan")])
def test_bad_timeout(timeout: float) -> None:
    """The message says what to write."""
    with pytest.raises(ValueError, match=r"timeout=.*: write a positive number of seconds"):
        Disposal(timeout)
