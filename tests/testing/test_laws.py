"""The laws that tools check of every transition: each is broken once, from inside, and told; a sound life keeps all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

import trsm
from trsm import Engine, InUse, Machine, Observed, Result, Schema, State, Tracer, Transition
from trsm.testing._laws import Laws, left_over


class Job(Schema):
    Idle = State()
    Loading = State(remove=Idle)
    Loaded = State(remove=Loading)
    Ready = State(require=Loaded)
    Kept = State(latch=True)
    Ping = State(multi=True)
    Never = State(require=Ready)


class Larger(Job):
    More = State()


def move(machine: Engine, state: State[..., object], ticks: int) -> None:
    """Move a tick from inside, and the state with it."""
    number = list(machine.schema).index(state)
    machine._ticks[number] += ticks
    machine._active = machine._active & ~(1 << number) | (machine._ticks[number] & 1) << number


class Spoiler(Tracer):
    """Breaks something, once, before the laws are asked."""

    def __init__(self, when: str, change: Callable[[Engine], None]) -> None:
        self.when = when
        self.change: Callable[[Engine], None] | None = change

    def spoil(self, machine: Observed, when: str) -> None:
        if when == self.when and self.change is not None:
            assert isinstance(machine, Engine)
            change, self.change = self.change, None
            change(machine)

    def committed(self, machine: Observed, transition: Transition) -> None:
        self.spoil(machine, transition.kind)

    def transition_ended(self, machine: Observed, transition: Transition, result: Result) -> None:
        self.spoil(machine, "canceled" if result.canceled else "ended")

    def settled(self, machine: Observed) -> None:
        self.spoil(machine, "settled")


def broken(when: str, change: Callable[[Engine], None], act: Callable[[Engine], object]) -> list[str]:
    """Return what the laws tell of a life in which something is broken, without the machine and transition."""
    laws = Laws()
    engine = Engine(Job, tracers=[Spoiler(when, change), laws])
    act(engine)
    return [words.rpartition(">: ")[2].rpartition("': ")[2] for words in laws.violations]


@pytest.mark.parametrize(
    ("when", "change", "act", "words"),
    [
        (
            "add",
            lambda engine: move(engine, Job.Loading, 1),
            lambda engine: engine.add(Job.Idle),
            "Loading is active beside Idle, which it removes",
        ),
        (
            "add",
            lambda engine: move(engine, Job.Ready, 1),
            lambda engine: engine.add(Job.Idle),
            "Ready is active without Loaded, which it requires",
        ),
        (
            "remove",
            lambda engine: move(engine, Job.Ping, -4),
            lambda engine: (engine.add(Job.Ping), engine.add(Job.Ping), engine.remove(Job.Ping)),
            "the tick of Ping went back from 3 to 0",
        ),
        (
            "add",
            lambda engine: move(engine, Job.Idle, 2),
            lambda engine: engine.add(Job.Idle),
            "the tick of Idle went from 0 to 3 at once",
        ),
        (
            "remove",
            lambda engine: move(engine, Job.Loaded, 2),
            lambda engine: (engine.add(Job.Loaded, Job.Ping), engine.remove(Job.Ping)),
            "the tick of Loaded went from 1 to 3 at once",
        ),
        (
            "set",
            lambda engine: move(engine, Job.Kept, 1),
            lambda engine: (engine.add(Job.Kept), engine.set(Job.Idle)),
            "Kept, which is latched, left before closing",
        ),
        (
            "add",
            lambda engine: move(engine, Job.Idle, 1),
            lambda engine: engine.add(Job.Idle),
            "Idle was called, and is not active",
        ),
        (
            "mutate",
            lambda engine: move(engine, Job.Idle, 1),
            lambda engine: (engine.add(Job.Idle), engine.mutate(add=Job.Ping, remove=Job.Idle)),
            "Idle was dropped, and is active",
        ),
        (
            "canceled",
            lambda engine: move(engine, Job.Idle, 1),
            lambda engine: engine.add(Job.Never),
            "it was canceled, and yet moved Idle",
        ),
        (
            "settled",
            lambda engine: move(engine, Job.Idle, 1),
            lambda engine: engine.add(Job.Ping),
            "ticks have moved by no transition",
        ),
        (
            "add",
            lambda engine: move(engine, Job.Idle, 1),
            lambda engine: engine.add(Job.Ping),
            "it left <Ticks Idle:1 Ping:1>, not <Ticks Ping:1>",
        ),
    ],
)
def test_law_that_is_broken(
    when: str, change: Callable[[Engine], None], act: Callable[[Engine], object], words: str
) -> None:
    """It is told, in a sentence that names the states."""
    assert words in broken(when, change, act)


def test_ticks_that_move_between_transitions() -> None:
    """They are told at the next one."""
    laws = Laws()
    engine = Engine(Job, tracers=[laws])
    move(engine, Job.Idle, 1)
    engine._journal = None  # as nobody has noted it
    engine.add(Job.Ping)
    assert "ticks had moved before it, by no transition" in laws.violations[0]
    assert laws.violations[0].startswith(f"machine {engine.id!r}, <Transition 1 add: +Ping>: ")


def test_sound_life() -> None:
    """Multi states, latches, refusals, closing: nothing is broken, and all was seen."""
    laws = Laws()
    engine = Engine(Job, tracers=[laws])
    engine.add(Job.Kept, Job.Ping)
    engine.add(Job.Ping)
    assert not engine.add(Job.Never)
    engine.toggle(Job.Idle)
    engine.set(Job.Loaded, Job.Ready)
    engine.mutate(add=Job.Loading, remove=Job.Ready)
    engine.close()
    assert laws.violations == []
    assert laws.transitions == 7
    assert laws.machines == [engine]


def test_tracer_that_is_told_twice_of_a_machine() -> None:
    """It is one machine; forgotten, it can be met again."""
    laws = Laws()
    engine = Engine(Job, tracers=[laws])
    engine.trace(laws)
    assert laws.machines == [engine]
    laws.forget()
    assert laws.machines == []
    laws.machine_opened(engine)
    assert laws.machines == [engine]


async def test_schema_that_is_changed() -> None:
    """Ticks are compared in the new one from then on."""
    laws = Laws()
    async with trsm.open_machine(Job, tracers=[laws]) as machine:
        machine.add(Job.Idle)
        machine.extend_schema(Larger)
        machine.add(Larger.More)
    assert laws.violations == []


async def test_queue_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has settled has nothing to do."""
    laws = Laws()
    async with trsm.open_machine(Job, tracers=[laws]) as machine:
        with monkeypatch.context() as patch:
            patch.setattr(Machine, "in_use", property(lambda machine: InUse(0, 0, 0, 0, queued=1)))
            machine.add(Job.Idle)
    assert f"machine {machine.id!r}: it has settled, and yet mutations wait" in laws.violations


async def test_what_machines_leave_over(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is open, one that was not joined, one that holds something, one that is active; engines hold nothing."""
    async with trsm.open_machine(Job) as machine:
        assert left_over([machine]) == [f"machine {machine.id!r} was never closed: {machine!r}"]
        child = machine.start_child(Job)
        child.defer(trio.sleep, 1)
        child.close()
        assert left_over([child]) == [f"machine {child.id!r} has closed, and was never joined"]
        await child.when_closed()
        assert left_over([child, Engine(Job)]) == []
    with monkeypatch.context() as patch:
        patch.setattr(Machine, "in_use", property(lambda machine: InUse(1, 0, 0, 0, 0)))
        assert left_over([machine]) == [f"machine {machine.id!r} has closed, and still holds {machine.in_use!r}"]
    move(machine, Job.Idle, 1)
    assert left_over([machine]) == [f"machine {machine.id!r} has closed, and Idle still active"]
