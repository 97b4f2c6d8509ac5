"""Tracers for whatever opens, `tracing`; and tracers that make handlers and tasks fail, `Saboteur`."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio

import trsm
from trsm import Engine, ErrorState, Executed, Observed, Saboteur, Schema, State, Tracer, Transition, tracing


class Job(Schema):
    Work = State()
    Done = State(remove=Work)
    ErrFault = ErrorState(catches=OSError)


class Opened(Tracer):
    """Notes who opened."""

    def __init__(self) -> None:
        self.machines: list[Observed] = []
        self.commits = 0

    def machine_opened(self, machine: Observed) -> None:
        self.machines.append(machine)

    def committed(self, machine: Observed, transition: Transition) -> None:
        self.commits += 1


# ---- Everywhere -----------------------------------------------------------------------------------------------------


async def test_machines_children_and_engines_that_open_in_the_block_are_traced() -> None:
    """Those that opened before are not; those that live on after it still are."""
    tracer = Opened()
    async with trsm.open_machine(Job) as before:
        with tracing(tracer):
            child = before.start_child(Job)
            engine = Engine(Job)
            async with trsm.open_machine(Job) as machine:
                assert tracer.machines == [child, engine, machine]
        told = tracer.commits  # of closing
        before.add(Job.Work)
        Engine(Job).add(Job.Work)
        assert tracer.commits == told
        child.add(Job.Work)
        engine.add(Job.Work)
        assert tracer.commits == told + 2


async def test_tasks_and_threads_started_in_the_block_open_traced_machines() -> None:
    """They have its context."""
    tracer = Opened()

    async def opens() -> None:
        async with trsm.open_machine(Job):
            await trio.to_thread.run_sync(Engine, Job)

    async with trio.open_nursery() as nursery:
        with tracing(tracer):
            nursery.start_soon(opens)
        nursery.start_soon(opens)
    assert len(tracer.machines) == 2


def test_blocks_inside_blocks() -> None:
    """A machine gets the tracers of all of them, each once, also if it was given one itself."""
    one, two = Opened(), Opened()
    with tracing(one), tracing(two, one):
        Engine(Job, tracers=[two])
    assert len(one.machines) == len(two.machines) == 1
    Engine(Job)
    assert len(one.machines) == 1


def test_what_is_no_tracer_is_refused() -> None:
    """At the `with`, with what it is."""
    with pytest.raises(TypeError, match="3 is no tracer"), tracing(3):  # type: ignore[arg-type]
        raise AssertionError


def test_block_keeps_nothing() -> None:
    """Once it is left, and its machines are gone, so is the tracer."""
    tracer = Opened()
    gone = weakref.ref(tracer)
    with tracing(tracer):
        Engine(Job)
    tracer.machines.clear()
    del tracer
    gc.collect()
    assert gone() is None


# ---- Faults ---------------------------------------------------------------------------------------------------------


class Breaks(Saboteur):
    """Fails what bears a name, once."""

    def __init__(self, name: str, error: BaseException) -> None:
        self.name = name
        self.error: BaseException | None = error
        self.asked: list[tuple[str, str]] = []

    def fault(self, machine: Observed, transition: Transition, handler: str, kind: str) -> BaseException | None:
        self.asked.append((handler, kind))
        if handler != self.name or self.error is None:
            return None
        error, self.error = self.error, None
        return error


class Handlers:
    def __init__(self) -> None:
        self.ran: list[str] = []

    @Job.Work.can_enter
    def may(self, t: Transition) -> bool:
        self.ran.append("may")
        return True

    @Job.Work.on_enter
    def enter(self, t: Transition) -> None:
        self.ran.append("enter")

    @Job.Work.on_exit
    def leave(self, t: Transition) -> None:
        self.ran.append("leave")

    @Job.Work.task
    async def work(self, t: Transition) -> None:
        self.ran.append("work")
        t.machine.start_soon(self.more)
        await trio.sleep_forever()

    async def more(self) -> None:
        self.ran.append("more")
        await trio.lowlevel.checkpoint()

    @Job.ErrFault.on_enter
    def take(self, t: Transition) -> None:
        self.ran.append("take")


async def lived(saboteur: Saboteur) -> tuple[list[str], Exception | None, bool]:
    handlers = Handlers()
    async with trsm.open_machine(Job, handlers, tracers=[saboteur]) as machine:
        result = machine.add(Job.Work)
        await trio.testing.wait_all_tasks_blocked()
        error = machine.error
        machine.remove(Job.Work)
    return handlers.ran, error, isinstance(result, Executed)


async def test_saboteur_that_breaks_nothing() -> None:
    """Everything runs, and it was asked of everything."""
    quiet = Breaks("", OSError())
    assert await lived(quiet) == (["may", "enter", "work", "more", "leave"], None, True)
    assert [(name.rpartition(".")[2], kind) for name, kind in quiet.asked] == [
        ("may", "can_enter"),
        ("enter", "on_enter"),
        ("work", "task"),
        ("more", "task"),
        ("leave", "on_exit"),
    ]
    assert (await lived(Saboteur()))[0] == ["may", "enter", "work", "more", "leave"]


@pytest.mark.parametrize(
    ("name", "ran", "is_executed"),
    [
        ("may", ["take"], False),
        ("enter", ["may", "take"], True),
        ("work", ["may", "enter", "take", "leave"], True),
        ("more", ["may", "enter", "work", "take", "leave"], True),
    ],
)
async def test_function_that_is_made_to_fail(name: str, ran: list[str], is_executed: bool) -> None:
    """It does not run, and its exception becomes a state as if it had raised it."""
    error = OSError("broken")
    assert await lived(Breaks(f"Handlers.{name}", error)) == (ran, error, is_executed)


async def test_fault_that_is_no_exception() -> None:
    """Interrupts close the machine and go to the caller, as from any handler."""
    with pytest.raises(KeyboardInterrupt):
        await lived(Breaks("Handlers.enter", KeyboardInterrupt()))


async def test_saboteur_that_raises_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It is detached and logged, as any tracer; what it was asked about runs."""

    class Bad(Saboteur):
        def fault(self, machine: Observed, transition: Transition, handler: str, kind: str) -> BaseException | None:
            raise ZeroDivisionError

    assert (await lived(Bad()))[0] == ["may", "enter", "work", "more", "leave"]
    assert caplog.text.count("raised and was detached") == 1


def test_first_of_several_saboteurs_wins() -> None:
    """A plain tracer among them is not asked."""
    first, second = OSError("first"), OSError("second")
    engine = Engine(
        Job,
        Handlers(),
        tracers=[Opened(), Breaks("Handlers.enter", first), Breaks("Handlers.enter", second)],
    )
    engine.add(Job.Work)
    assert engine.error is first


def test_fault_that_cannot_be_raised() -> None:
    """Python's own words become the error."""
    engine = Engine(Job, Handlers(), tracers=[Breaks("Handlers.enter", "no exception")])  # type: ignore[arg-type]
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Job.Work)
    assert "must derive from BaseException" in str(caught.value.exceptions[0])
