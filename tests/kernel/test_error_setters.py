"""``add_error`` and ``errors_to_state``: exceptions become states, whoever has them."""

from __future__ import annotations

import asyncio

import pytest
import trio

import trsm
from trsm import (
    Engine,
    ErrorState,
    Machine,
    MachineClosed,
    MutationError,
    ReadOnly,
    Schema,
    State,
    Transition,
    UnknownState,
)


class Disk(Schema):
    Idle = State()
    Busy = State(remove="ErrFull")
    ErrDisk = ErrorState(catches=OSError, remove=Busy)
    ErrFull = ErrorState(catches=MemoryError)


class Other(Schema):
    ErrDisk = ErrorState(catches=OSError)


@Disk.Error.on_enter
def handled(t: Transition) -> None:
    """Whatever the error is, it is handled."""


def names(engine: Engine) -> str:
    return " ".join(map(str, engine.active_states))


# ---- add_error ------------------------------------------------------------------------------------------------------


def test_an_error_activates_error_and_who_catches_it() -> None:
    """As if a handler had raised it: `error` holds it, and what the error state removes leaves."""
    engine = Engine(Disk)
    engine.add(Disk.Busy, Disk.Idle)
    error = OSError("full")
    assert engine.add_error(error).executed
    assert names(engine) == "Idle ErrDisk Error"
    assert engine.error is error
    last = engine.last_transition
    assert last.kind == "error" and last.error is error and last.source is None


def test_an_error_state_that_is_named_takes_the_whole_error() -> None:
    """Whatever it says it catches; those that match come beside it."""
    engine = Engine(Disk)
    engine.add_error(ValueError("odd"), Disk.ErrDisk)
    assert names(engine) == "ErrDisk Error"
    engine = Engine(Disk)
    engine.add_error(MemoryError(), state=Disk.ErrDisk)
    assert names(engine) == "ErrDisk ErrFull Error"
    group = ExceptionGroup("several", [ValueError(), KeyError()])
    engine = Engine(Disk)
    assert engine.add_error(group, Disk.ErrDisk).executed
    assert engine.error is group


def test_without_a_state_what_nobody_catches_is_unhandled() -> None:
    """A bare engine raises it from the call; with a state that takes it, nothing is raised."""
    engine = Engine(Disk, id="disk")
    error = ValueError("odd")
    with pytest.raises(ExceptionGroup, match="unhandled in machine 'disk'") as caught:
        engine.add_error(error)
    assert caught.value.exceptions == (error,)
    assert engine.is_active(Disk.Error)


def test_only_can_enter_of_the_named_state_may_refuse() -> None:
    """Then it takes nothing, and the error is unhandled; `Error` comes all the same."""
    asked: list[bool] = []

    @Disk.ErrDisk.can_enter
    def refuses(t: Transition) -> bool:
        asked.append(t.dry_run)
        return False

    @Disk.Idle.can_stay
    def never(t: Transition) -> bool:
        raise AssertionError

    engine = Engine(Disk, refuses, never)
    engine.add(Disk.Idle)
    with pytest.raises(ExceptionGroup):
        engine.add_error(ValueError(), Disk.ErrDisk)
    assert names(engine) == "Idle Error"
    assert asked == [False]


def test_in_a_transition_the_error_waits_ahead_of_the_queue() -> None:
    """Its result is queued, and executed once it had its turn, also where the queue is full."""
    results: list[trsm.Result] = []
    order: list[str] = []

    @Disk.Idle.on_enter
    def acts(t: Transition) -> None:
        results.append(engine.add(Disk.Busy))
        results.append(engine.add_error(OSError()))
        assert results[1].queued and not results[1].executed

    @Disk.Busy.on_enter
    @Disk.ErrDisk.on_enter
    def notes(t: Transition) -> None:
        order.append(t.kind)

    engine = Engine(Disk, acts, notes, queue_limit=1)
    engine.add(Disk.Idle)
    assert order == ["error"]  # ErrDisk removes Busy, and stays
    assert results[1].executed
    assert results[0].canceled


def test_in_a_transition_the_state_that_is_named_takes_the_error_in_its_turn() -> None:
    """As it does outside of one."""
    engine = Engine(Disk, Disk.Idle.on_enter(lambda t: engine.add_error(ValueError(), Disk.ErrDisk) and None))
    engine.add(Disk.Idle)
    assert names(engine) == "Idle ErrDisk Error"


def test_an_error_that_a_closing_machine_drops_ends_as_canceled() -> None:
    """It is unhandled then, and its result says why."""
    results: list[trsm.Result] = []

    @Disk.Idle.on_enter
    def acts(t: Transition) -> None:
        results.append(engine.add_error(OSError("late")))
        engine.close()

    engine = Engine(Disk, acts, id="disk")
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Disk.Idle)
    assert str(caught.value.exceptions[0]) == "late"
    assert results[0].canceled
    assert repr(results[0]) == "<Queued tick=0 <Canceled: machine 'disk' is closing>>"


def test_while_an_engine_closes_an_error_is_raised_and_after_that_only_canceled() -> None:
    """From an exit of the last mutation it leaves with the others; a closed engine has nobody to tell."""
    error = OSError("late")
    results: list[trsm.Result] = []

    @Disk.Idle.on_exit
    def acts(t: Transition) -> None:
        results.append(engine.add_error(error))

    engine = Engine(Disk, acts, id="disk")
    engine.add(Disk.Idle)
    with pytest.raises(ExceptionGroup) as caught:
        engine.close()
    assert caught.value.exceptions == (error,)
    results.append(engine.add_error(error))
    assert [repr(result) for result in results] == [
        "<Canceled: machine 'disk' is closing>",
        "<Canceled: machine 'disk' is closed>",
    ]
    assert engine.is_inactive(Disk.Error)


async def test_an_error_joins_those_that_leave_the_block_until_that_has_been_left() -> None:
    """While body, tasks and cleanups end it is kept; later it is canceled, and nothing else."""
    results: list[trsm.Result] = []
    error = OSError("late")

    async def cleans(machine: Machine) -> None:
        results.append(machine.add_error(error))

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Disk, id="disk") as machine:
            machine.defer(cleans, machine)
    assert caught.value.exceptions == (error,)
    assert machine.add_error(OSError()).canceled
    assert repr(results[0]) == "<Canceled: machine 'disk' is closed>"


@pytest.mark.parametrize(
    "error", [None, KeyboardInterrupt(), SystemExit(1), OSError, "bad", asyncio.CancelledError(), BaseException()]
)
def test_nothing_and_what_is_no_exception_are_never_errors(error: object) -> None:
    """Refused before any effect, with what to do instead."""
    engine = Engine(Disk, handled)
    with pytest.raises(TypeError, match=r"add_error\(.*\): only an Exception can become a state; let everything else"):
        engine.add_error(error)
    assert engine.ticks == Engine(Disk).ticks


async def test_a_cancellation_is_never_an_error() -> None:
    """It is refused, and goes its way."""
    refused: list[str] = []
    async with trsm.open_machine(Disk, handled) as machine:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                with pytest.raises(TypeError) as caught:
                    machine.add_error(cancelled)
                refused.append(str(caught.value))
                raise
        assert scope.cancelled_caught
    assert "only an Exception can become a state" in refused[0]


@pytest.mark.parametrize("name", ["add_error", "errors_to_state"])
def test_the_state_of_an_error_is_an_error_state_of_the_schema(name: str) -> None:
    """Anything else is refused with what to write, before any effect."""
    engine = Engine(Disk, handled)

    def ask(state: object) -> object:
        return engine.add_error(OSError(), state) if name == "add_error" else engine.errors_to_state(state)

    for state in (Disk.Idle, Disk.Error):
        with pytest.raises(
            ValueError, match=rf"{name}: {state} is no ErrorState, and so takes no exception: leave state= out"
        ):
            ask(state)
    with pytest.raises(UnknownState, match=rf"{name}: Other\.ErrDisk is not a state of Disk"):
        ask(Other.ErrDisk)
    with pytest.raises(MutationError, match=rf"{name}: 'ErrDisk' is a name.*Disk\.ErrDisk"):
        ask("ErrDisk")
    assert names(engine) == ""


@pytest.mark.parametrize("name", ["add_error", "errors_to_state"])
def test_in_a_negotiation_handler_errors_are_refused(name: str) -> None:
    """What is asked may not change the machine; the context manager says so before its block."""
    refused: list[str] = []
    ran: list[str] = []

    @Disk.Idle.can_enter
    def asks(t: Transition) -> bool:
        with pytest.raises(ReadOnly) as caught:
            if name == "add_error":
                engine.add_error(OSError())
            else:
                with engine.errors_to_state():
                    ran.append("block")
        refused.append(str(caught.value))
        return True

    engine = Engine(Disk, asks, id="disk")
    engine.add(Disk.Idle)
    assert refused[0].startswith(f"{name} of machine 'disk' in the negotiation handler ")
    assert ran == []


# ---- errors_to_state ------------------------------------------------------------------------------------------------


def test_an_exception_out_of_the_block_becomes_a_state_and_the_code_goes_on() -> None:
    """The same object, with its traceback; a block that ends well changes nothing, and it may be used again."""
    engine = Engine(Disk)
    error = OSError("full")
    guard = engine.errors_to_state()
    with guard:
        pass
    assert names(engine) == ""
    with guard:
        raise error
    assert names(engine) == "ErrDisk Error"
    assert engine.error is error
    assert error.__traceback__ is not None
    with guard:
        raise MemoryError
    assert names(engine) == "ErrDisk ErrFull Error"


def test_the_state_that_is_named_takes_what_leaves_the_block() -> None:
    """As `add_error` does; named by a schema that is inherited, it is the heir's."""

    class Heir(Disk):
        ErrDisk = Disk.ErrDisk.extend(tags="heir")

    for schema in (Disk, Heir):
        engine = Engine(schema)
        with engine.errors_to_state(Disk.ErrDisk):
            raise ValueError("odd")
        assert names(engine) == "ErrDisk Error"


def test_what_is_no_exception_passes() -> None:
    """Ctrl-C and the like are nobody's state."""
    engine = Engine(Disk, handled)
    with pytest.raises(KeyboardInterrupt), engine.errors_to_state():
        raise KeyboardInterrupt
    assert names(engine) == ""


def test_a_group_is_split_into_what_becomes_a_state_and_what_passes() -> None:
    """Both are groups as `except*` would make them; one that holds exceptions only goes whole, and is the same."""
    engine = Engine(Disk, handled)
    group = ExceptionGroup("several", [OSError(), ValueError()])
    with engine.errors_to_state():
        raise group
    assert engine.error is group
    disk = OSError()
    with pytest.raises(BaseExceptionGroup) as caught, engine.errors_to_state():
        raise BaseExceptionGroup("mixed", [disk, BaseExceptionGroup("inner", [KeyboardInterrupt(), ValueError()])])
    [inner] = caught.value.exceptions
    assert isinstance(inner, BaseExceptionGroup)
    assert [type(one) for one in inner.exceptions] == [KeyboardInterrupt]
    assert isinstance(engine.error, ExceptionGroup)
    assert engine.error.exceptions[0] is disk
    with pytest.raises(BaseExceptionGroup) as caught, engine.errors_to_state():
        raise BaseExceptionGroup("none", [KeyboardInterrupt()])
    assert caught.value.message == "none"


def test_what_passes_is_not_lost_where_what_became_a_state_is_unhandled() -> None:
    """On a bare engine both leave the block together."""
    engine = Engine(Disk, id="disk")
    with pytest.raises(ExceptionGroup) as unhandled, engine.errors_to_state():
        raise ValueError("odd")
    assert [str(one) for one in unhandled.value.exceptions] == ["odd"]
    with pytest.raises(BaseExceptionGroup, match="unhandled in machine 'disk'") as caught, engine.errors_to_state():
        raise BaseExceptionGroup("mixed", [KeyboardInterrupt(), ValueError("odd")])
    raised, passed = caught.value.exceptions
    assert isinstance(raised, ExceptionGroup) and raised.message == "unhandled in machine 'disk'"
    assert isinstance(passed, BaseExceptionGroup) and passed.message == "mixed"
    assert [type(one) for one in passed.exceptions] == [KeyboardInterrupt]


def test_on_a_closed_engine_the_exception_passes() -> None:
    """Nobody would hear of it: swallowed, it would be lost."""
    engine = Engine(Disk, handled)
    engine.close()
    error = OSError()
    with pytest.raises(OSError) as caught, engine.errors_to_state():
        raise error
    assert caught.value is error
    group = BaseExceptionGroup("mixed", [KeyboardInterrupt(), OSError()])
    with pytest.raises(BaseExceptionGroup) as both, engine.errors_to_state():
        raise group
    assert both.value is group


async def test_on_a_machine_that_closes_it_joins_the_errors_of_the_block_and_later_it_passes() -> None:
    """No error is lost, neither of cleanups nor of code that runs when the block has been left."""
    error, later = OSError("cleanup"), OSError("later")

    async def cleans(machine: Machine) -> None:
        with machine.errors_to_state():
            raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Disk) as machine:
            machine.defer(cleans, machine)
    assert caught.value.exceptions == (error,)
    with pytest.raises(OSError) as passed, machine.errors_to_state():
        raise later
    assert passed.value is later


async def test_cancellation_and_the_end_of_this_very_machine_pass() -> None:
    """They are no errors of it; the end of another machine is one."""
    async with trsm.open_machine(Disk, id="other") as other:
        pass
    reached = False
    async with trsm.open_machine(Disk, handled) as machine:
        with trio.CancelScope() as scope:
            scope.cancel()
            with machine.errors_to_state():
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert names(machine) == ""
        with machine.errors_to_state():
            raise MachineClosed("closed", other)
        assert machine.is_active(Disk.Error)
        machine.remove(Disk.Error)
        with pytest.raises(MachineClosed), machine.errors_to_state():
            raise MachineClosed("closed", machine)
        with pytest.raises(ExceptionGroup) as caught, machine.errors_to_state():
            raise ExceptionGroup("both", [MachineClosed("closed", machine), OSError()])
        assert [type(one) for one in caught.value.exceptions] == [MachineClosed]
        assert machine.is_active(Disk.ErrDisk)
        reached = True
    assert reached


async def test_an_error_that_nothing_handles_closes_the_machine() -> None:
    """The block of ``with`` is left without it; it leaves the machine's block."""
    error = ValueError("odd")
    log: list[str] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Disk) as machine:
            with machine.errors_to_state():
                raise error
            assert machine.closed
            log.append("after the block")
    assert log == ["after the block"]
    assert caught.value.exceptions == (error,)
