"""Defects that a second reviewer found, each as the smallest program that showed it."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Canceled, Engine, Machine, MutationError, Observed, Saboteur, Schema, State, Tracer, Transition, Waiter
from trsm.schemas import Disposable, Disposal


class Plain(Schema):
    """States that have nothing to do with one another."""

    A = State()
    B = State()
    C = State(require=B)


# ---- Closing --------------------------------------------------------------------------------------------------------


class Exits:
    """Writes down who leaves."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @Plain.A.on_exit
    def leave(self, t: Transition) -> None:
        self.log.append(f"{t.machine.id} leaves")


def closes_and_goes_on(parent: Machine) -> None:
    parent.close()
    parent.add(Plain.B)


def closes_and_goes_on_with_arguments(parent: Machine) -> None:
    parent.close()
    parent.add(Plain.B, because="it may")


def makes_it_fail(parent: Machine) -> None:
    @Plain.B.on_enter
    def fail(t: Transition) -> None:
        raise ValueError

    parent.bind(fail)
    parent.add(Plain.B)


@pytest.mark.parametrize("act", [closes_and_goes_on, closes_and_goes_on_with_arguments, makes_it_fail])
async def test_a_parent_that_a_handler_of_its_child_closes_waits_for_the_child(act: Callable[[Machine], None]) -> None:
    """Whatever the handler does with it after or instead: children leave first, at the end of what they run."""
    log: list[str] = []

    class Acts:
        @Plain.B.on_enter
        def act(self, t: Transition) -> None:
            act(parent)
            assert not parent.closed
            log.append("the child goes on")

    unhandled: list[BaseException] = []
    try:
        async with trsm.open_machine(Plain, Exits(log), id="parent") as parent:
            parent.add(Plain.A)
            child = parent.start_child(Plain, Exits(log), Acts(), id="child")
            child.add(Plain.A)
            child.add(Plain.B)
            assert parent.closed
    except ExceptionGroup as group:
        unhandled += group.exceptions
    assert log == ["the child goes on", "child leaves", "parent leaves"]
    assert len(unhandled) == (act is makes_it_fail)


async def test_a_saboteur_of_a_task_that_raises_no_exception(autojump_clock: MockClock) -> None:
    """It closes the machine then and there, as a handler that does; it does not wait for the next mutation."""

    class Interrupted(Saboteur):
        def fault(self, machine: Observed, transition: Transition, handler: str, kind: str) -> BaseException | None:
            raise KeyboardInterrupt

    @Plain.A.task
    async def work(t: Transition) -> None:
        await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Plain, work, tracers=[Interrupted()]) as machine:
            machine.add(Plain.A)
            with trio.fail_after(1):
                await trio.sleep_forever()
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]


# ---- Waiting --------------------------------------------------------------------------------------------------------


async def test_a_tracer_that_waits_until_the_machine_has_settled_as_it_is_told_so() -> None:
    """It is settled: what it waits for ends with the same drain."""
    waiters: list[Waiter[Transition]] = []

    class Waits(Tracer):
        def settled(self, machine: Observed) -> None:
            assert isinstance(machine, Machine)
            waiters.append(machine.when_settled())

    async with trsm.open_machine(Plain, tracers=[Waits()]) as machine:
        machine.add(Plain.A)
        assert [waiter.done for waiter in waiters] == [True]


async def test_retrying_until_a_waiter_has_failed(autojump_clock: MockClock) -> None:
    """It gives up at that moment, as it does when the waiter has ended well."""
    async with trsm.open_machine(Plain) as machine, trio.open_nursery() as nursery:
        other = machine.start_child(Plain)
        until = other.when(Plain.A)

        @nursery.start_soon
        async def change() -> None:
            await trio.sleep(1)
            other.close()

        assert (await trsm.retry(lambda: machine.add(Plain.C), backoff=50, until=until)).canceled
        assert trio.current_time() == 1


async def test_retrying_on_a_machine_that_closes_and_takes_its_time(autojump_clock: MockClock) -> None:
    """Nothing can come of it once closing has begun: it does not wait for the cleanups."""
    async with trsm.open_machine(Plain) as machine, trio.open_nursery() as nursery:
        child = machine.start_child(Plain)
        child.defer(trio.sleep, 20)

        @nursery.start_soon
        async def change() -> None:
            await trio.sleep(1)
            child.close()

        assert (await trsm.retry(lambda: child.add(Plain.C), backoff=50)).canceled
        assert trio.current_time() == 1


# ---- Snapshots ------------------------------------------------------------------------------------------------------


class Brief(Schema):
    """A state whose timeout does not come back from a sum."""

    A = State(timeout=0.1)


class Briefer(Brief):
    """The same, with less time."""

    A = Brief.A.extend(timeout=0.05)


@pytest.mark.parametrize("schema", [Brief, Briefer])
async def test_a_snapshot_of_a_timeout_that_has_just_begun(autojump_clock: MockClock, schema: type[Brief]) -> None:
    """It can be restored at any time of the clock, and after the schema was extended: the whole timeout is left."""
    await trio.sleep(3.3)
    async with trsm.open_machine(Brief) as machine:
        machine.add(Brief.A)
        if schema is not Brief:
            machine.extend_schema(schema)
        snapshot = machine.snapshot()
    began = trio.current_time()
    async with trsm.open_machine(schema, snapshot=snapshot) as machine:
        await machine.when_not(schema.A)
        assert schema.A.timeout is not None
        assert trio.current_time() - began == pytest.approx(schema.A.timeout)


# ---- Ready-made schemas ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_closed", [False, True])
async def test_disposal_whose_end_is_refused(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, is_closed: bool
) -> None:
    """It is logged, as the ``then=`` of any task is; not that a machine which has closed by then takes no state."""
    async with trsm.open_machine(
        Disposable, Disposal(), Disposable.Disposed.can_enter(lambda t: False), id="d"
    ) as machine:
        machine.add(Disposable.RegisterDisposal(trio.sleep, 1))
        machine.add(Disposable.Disposing)
        await trio.sleep(0.5 if is_closed else 2)
        assert machine.is_inactive(Disposable.Disposed)
    assert trio.current_time() == (1 if is_closed else 2)
    told = [record.getMessage() for record in caplog.records if "Disposed was refused" in record.getMessage()]
    assert len(told) == (not is_closed)


# ---- What is told ---------------------------------------------------------------------------------------------------


class Other(Schema):
    """A schema whose states come first where both are inherited."""

    X = State()
    Y = State()


class Both(Other, Plain):
    """A schema in which the states of `Plain` have other numbers."""


async def test_a_task_that_a_handler_has_started_names_the_call_after_the_schema_was_extended() -> None:
    """The transition that it came from is of the schema that the machine had then."""
    other = Engine(Plain)
    go = trio.Event()

    async def work() -> None:
        await go.wait()
        other.add(Plain.B)

    async with trio.open_nursery() as nursery, trsm.open_machine(Plain, id="m") as machine:

        @Plain.A.on_enter
        def start(t: Transition) -> None:
            nursery.start_soon(work)

        machine.bind(start)
        machine.add(Plain.A)
        machine.extend_schema(Both)
        go.set()
        await wait_all_tasks_blocked()
    source = other.last_transition.source
    assert source is not None
    assert source.called == ("A",)


@pytest.mark.parametrize("hook", ["resolved", "transition_started", "committed", "transition_ended"])
@pytest.mark.parametrize("is_refused", [False, True])
def test_what_a_tracer_does_to_another_machine_comes_from_where_the_transition_came_from(
    hook: str, is_refused: bool
) -> None:
    """Not from a handler of the transition before it, and not from one that is still to be called."""
    other = Engine(Plain)
    sources: list[trsm.Source | None] = []

    def tell(tracer: Tracer, machine: Observed, transition: Transition, *_: object) -> None:
        if Plain.B in transition.called:
            other.toggle(Plain.A)
            sources.append(other.last_transition.source)

    def begin(t: Transition) -> None:
        engine.add(Plain.A)
        engine.add(Plain.B)

    def nothing(t: Transition) -> None:
        pass

    engine = Engine(
        Plain,
        Plain.Error.on_exit(begin),
        Plain.A.on_enter(nothing),
        Plain.B.can_enter(lambda t: not is_refused),
        Plain.B.on_enter(lambda t: None),
        Plain.Error.on_enter(lambda t: None),
        tracers=[type("Tells", (Tracer,), {hook: tell})()],
    )
    engine.add_error(ValueError())
    engine.remove(Plain.Error)
    if is_refused and hook == "committed":
        assert sources == []
    else:
        (source,) = sources
        assert source is not None
        assert (source.handler, source.role) == (begin.__qualname__, "on_exit")


def test_a_toggle_that_was_made_before_is_told_by_its_name() -> None:
    """What was written is what the message says, though a toggle is one of two others by then."""
    engine = Engine(Plain)
    engine.toggle(Plain.A)
    for _ in range(2):
        with pytest.raises(MutationError, match=r"^toggle\(scope=5\): pass a cancel scope"):
            engine.toggle(Plain.A, scope=5)  # type: ignore[arg-type]
        engine.toggle(Plain.A)


@pytest.mark.parametrize("doing", ["add", "remove", "set", "toggle"])
def test_what_is_raised_in_a_call_that_was_not_made_before_has_no_context(doing: str) -> None:
    """The look-up that found nothing is no business of who reads the traceback."""
    raised: list[BaseException] = []

    def fail(t: Transition) -> None:
        raise ValueError

    class Fresh(Schema):
        A = State()
        B = State(remove=A)

    engine = Engine(Fresh, Fresh.A.on_exit(fail), Fresh.Error.on_enter(lambda t: raised.append(t.error)))
    engine.mutate(add=Fresh.A)
    getattr(engine, doing)(Fresh.B if doing in ("add", "set") else Fresh.A)
    for wrong in ("A", [Fresh.A]):
        with pytest.raises(MutationError) as caught:
            getattr(engine, doing)(wrong)
        raised.append(caught.value)
    assert [type(error) for error in raised] == [ValueError, MutationError, MutationError]
    assert [error.__context__ for error in raised] == [None] * 3


def test_a_negotiation_handler_that_raises_what_cannot_be_shown() -> None:
    """It is told by its class; the error itself goes where it would."""

    class Unshown(Exception):
        def __repr__(self) -> str:
            raise ZeroDivisionError

    @Plain.A.can_enter
    def fail(t: Transition) -> bool:
        raise Unshown

    engine = Engine(Plain, fail, Plain.Error.on_enter(lambda t: None))
    result = engine.add(Plain.A)
    assert isinstance(result, Canceled)
    assert result.reason.splitlines()[0].endswith("raised Unshown.")
    assert isinstance(engine.error, Unshown)


# ---- Garbage --------------------------------------------------------------------------------------------------------


def garbage(rounds: Callable[[], None]) -> list[str]:
    """What nothing but the collector would free after some rounds, by its type."""
    rounds()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        rounds()
        gc.collect()
        return sorted({type(one).__name__ for one in gc.garbage})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("kind", ["can_enter", "can_exit", "can_change", "automatic", "dry run"])
def test_a_negotiation_handler_that_raises_leaves_no_circle(kind: str) -> None:
    """The exception goes when its state has gone; the frames that it knows hold nothing that holds it."""

    class Fresh(Schema):
        A = State()
        Auto = State(auto=True, require=A)

    def fail(t: Transition) -> bool:
        if Fresh.A in t.called or Fresh.A in t.dropped or t.is_auto:
            raise ValueError
        return True

    mark = {
        "can_enter": Fresh.A.can_enter,
        "can_exit": Fresh.A.can_exit,
        "can_change": Fresh.can_change,
        "automatic": Fresh.Auto.can_enter,
        "dry run": Fresh.A.can_enter,
    }[kind]
    engine = Engine(Fresh, mark(fail), Fresh.Error.on_enter(lambda t: None))

    def rounds() -> None:
        if kind == "dry run":
            with pytest.raises(ValueError, match=r"^$"):
                engine.can_add(Fresh.A)
        else:
            engine.add(Fresh.A)
            engine.remove(Fresh.A)
            assert engine.error is not None
            engine.remove(Fresh.Error)

    assert garbage(rounds) == []


async def test_a_stream_that_had_no_room_leaves_no_circle() -> None:
    """What it raises knows the frame of its last step, which does not know it."""
    async with trsm.open_machine(Plain) as machine:
        machine.add(Plain.A)

        async def reads() -> None:
            stream = machine.transitions(buffer=1, overflow="raise")
            machine.add(Plain.B)
            machine.remove(Plain.B)
            await stream.__anext__()
            with pytest.raises(trsm.BufferFull):
                await stream.__anext__()

        await reads()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await reads()
            gc.collect()
            assert [one for one in gc.garbage if isinstance(one, trsm.BufferFull)] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


# ---- Threads --------------------------------------------------------------------------------------------------------


def test_a_foreign_thread_leaves_no_plan_behind() -> None:
    """What is active may change between its look at it and the plan that it makes of it, and plans are shared."""

    class Fresh(Schema):
        A = State()
        B = State(remove=A)

    engine = Engine(Fresh)
    raised: list[BaseException] = []

    def asks() -> None:
        def look(frame: object, event: str, argument: object) -> None:
            if event == "call" and frame.f_code.co_name == "_plan":  # type: ignore[attr-defined]
                engine._active = 0b10  # as a mutation of the machine's own thread would, at this very moment

        sys.setprofile(look)
        try:
            engine.add(Fresh.A)
        except trsm.WrongThread as error:
            raised.append(error)
        finally:
            sys.setprofile(None)
            engine._active = 0

    thread = threading.Thread(target=asks)
    thread.start()
    thread.join()
    assert len(raised) == 1
    engine.add(Fresh.A)
    assert engine.ticks.filter(*Fresh.states) == {Fresh.A: 1, Fresh.B: 0, Fresh.Error: 0}
