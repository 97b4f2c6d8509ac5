"""Engines that are interrupted: whatever they do, something else is done at each place where Python may call a handler.

``python -m kernel.interruptions``, from the directory of the tests: in a process of its own, whose profiler is nobody
else's. It prints how many places there were, as JSON.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

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


HANDLERS: tuple[tuple[object, ...], ...] = ((), (Looking(),))


def mutations() -> int:
    """Mutate in the midst of all work; return in how many places."""
    places = 0
    for handlers, transitions, work in itertools.product(HANDLERS, (0, PAGE - 3, PAGE - 2, PAGE - 1), WORK.values()):
        work(made(transitions, *handlers))  # from now on tables have it
        for number in itertools.count():
            engine = made(transitions, *handlers)
            ran: list[Result] = []

            def interrupt(engine: Engine = engine, ran: list[Result] = ran) -> None:
                with suppress(ReadOnly):  # a negotiation handler runs
                    ran.append(engine.toggle(Switch.On))
                    ran.append(engine.toggle(Switch.Lamp))

            if not interrupted(functools.partial(work, engine), interrupt, number):
                break
            places += 1
            check(engine)
            assert all((one.outcome if isinstance(one, Queued) else one) == EXECUTED for one in ran)
    return places


def closings() -> int:
    """Close in the midst of all work, where nothing is active, so that the set stays; return in how many places."""
    places = 0
    for handlers, transitions, work in itertools.product(HANDLERS, (0, PAGE - 1), WORK.values()):
        work(made(transitions, *handlers))
        for number in itertools.count():
            engine = made(transitions, *handlers)
            engine.remove(Switch.Off)

            def interrupt(engine: Engine = engine) -> None:
                with suppress(ReadOnly):
                    engine.close()

            if not interrupted(functools.partial(work, engine), interrupt, number):
                break
            places += 1
            check(engine)
            assert not (engine.closed and engine.active_states)
    return places


def bindings() -> int:
    """Take handlers off in the midst of what was looked up before; return in how many places."""
    places = 0
    for work in (WORK["add"], WORK["remove"], WORK["set"]):
        work(made(0, Looking(), Looking()))
        for number in itertools.count():
            first, last = Looking(), Looking()
            engine = made(0, first)
            binding = engine.bind(last)
            if not interrupted(functools.partial(work, engine), binding.detach, number):
                break
            places += 1
            check(engine)
            work(engine)
            check(engine)
    return places


def readings() -> int:
    """Read ticks while they are read, so that nothing may be counted twice; return in how many places."""
    for number in itertools.count():
        engine = made(0)
        for _ in range(10):
            engine.toggle(Switch.On)

        def read(engine: Engine = engine) -> None:
            assert engine.ticks[Switch.On] == 10

        if not interrupted(read, read, number):
            return number
        check(engine)
        read()
    raise AssertionError


if __name__ == "__main__":
    found = {function.__name__: function() for function in (mutations, closings, bindings, readings)}
    print(json.dumps(found))
