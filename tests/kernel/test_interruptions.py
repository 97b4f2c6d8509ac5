"""Signal handlers and finalizers: they mutate a machine between any two of its steps, in its own thread."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import pytest

from trsm import Engine, Queued, ReadOnly, Result, Schema, State, Transition
from trsm._core._journal import PAGE
from trsm._core._mutation import EXECUTED


class Switch(Schema):
    On = State(remove="Off")
    Off = State(remove=On)
    Lamp = State()
    Warm = State(auto=True, require=Lamp)


class Looking:
    """Handlers of each kind."""

    @Switch.On.can_enter
    def may(self, t: Transition) -> bool:
        return True

    @Switch.On.on_enter
    def on(self, t: Transition) -> None: ...

    @Switch.Off.on_exit
    def off(self, t: Transition) -> None: ...


def interrupted(work: Callable[[], object], interrupt: Callable[[], object], number: int) -> bool:
    """Do some work, and something else at the n-th place where Python may call a signal handler; return if it has one.

    These are the start of a function that is written in Python, and the return of one that is not.
    """
    ahead = number

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal ahead
        if (
            event in ("call", "c_return")
            and "trsm" in frame.f_code.co_filename
            and "tests" not in frame.f_code.co_filename
        ):
            ahead -= 1
            if ahead < 0:
                sys.setprofile(None)
                interrupt()

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return ahead < 0


def made(transitions: int, *handlers: object) -> Engine:
    """Return an engine on which ``Off`` is active, and that has executed so many transitions more."""
    engine = Engine(Switch, *handlers, id="e")
    engine.add(Switch.Off)
    for _ in range(transitions):
        engine.add(Switch.Off)
    return engine


def check(engine: Engine) -> None:
    """Check that ticks, active states and relations agree, and that nothing waits."""
    active = set(engine.active_states)
    assert set(engine.ticks.active_states) == active
    assert not {Switch.On, Switch.Off} <= active
    assert (Switch.Lamp in active) == (Switch.Warm in active)
    assert engine.queue == ()


WORK: dict[str, Callable[[Engine], object]] = {
    "add": lambda engine: engine.add(Switch.On),
    "remove": lambda engine: engine.remove(Switch.Off),
    "set": lambda engine: engine.set(Switch.On),
    "toggle": lambda engine: engine.toggle(Switch.On),
    "followed": lambda engine: engine.add(Switch.Lamp),
    "with keywords": lambda engine: engine.add(Switch.On, why="so"),
    "reading": lambda engine: engine.ticks,
    "last": lambda engine: engine.last_transition,
}


@pytest.mark.parametrize("handlers", [(), (Looking(),)], ids=["plain", "handled"])
@pytest.mark.parametrize("transitions", [0, PAGE - 3, PAGE - 2, PAGE - 1])
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_mutation_in_the_midst_of_another(
    work: Callable[[Engine], object], transitions: int, handlers: tuple[object, ...]
) -> None:
    """It is executed or queued, wherever it comes; ticks, active states and relations agree in the end."""
    work(made(transitions, *handlers))  # from now on tables have it
    for number in itertools.count():
        engine = made(transitions, *handlers)
        ran: list[Result] = []

        def interrupt(engine: Engine = engine, ran: list[Result] = ran) -> None:
            with suppress(ReadOnly):  # a negotiation handler runs
                ran.append(engine.toggle(Switch.On))
                ran.append(engine.toggle(Switch.Lamp))

        if not interrupted(functools.partial(work, engine), interrupt, number):
            assert number > 1, "nothing was interrupted"
            break
        check(engine)
        assert all((one.outcome if isinstance(one, Queued) else one) == EXECUTED for one in ran)


@pytest.mark.parametrize("handlers", [(), (Looking(),)], ids=["plain", "handled"])
@pytest.mark.parametrize("transitions", [0, PAGE - 1])
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_closing_in_the_midst_of_a_mutation(
    work: Callable[[Engine], object], transitions: int, handlers: tuple[object, ...]
) -> None:
    """Nothing is executed once it has closed."""
    work(made(transitions, *handlers))
    for number in itertools.count():
        engine = made(transitions, *handlers)
        engine.remove(Switch.Off)  # nothing is active: closing leaves the active set as it is

        def interrupt(engine: Engine = engine) -> None:
            with suppress(ReadOnly):
                engine.close()

        if not interrupted(functools.partial(work, engine), interrupt, number):
            break
        check(engine)
        assert not engine.closed or not engine.active_states


def test_ticks_are_read_in_the_midst_of_reading_them() -> None:
    """Nothing is counted twice."""
    for number in itertools.count():
        engine = made(0)
        for _ in range(10):
            engine.toggle(Switch.On)
        if not interrupted(lambda engine=engine: engine.ticks, lambda engine=engine: engine.ticks, number):
            break
        check(engine)
        assert engine.ticks[Switch.On] == 10
