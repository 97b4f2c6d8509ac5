"""The cases that automat has, without guards, which it does not know: https://pypi.org/project/automat."""

from __future__ import annotations

from typing import Protocol

from automat import TypeMachineBuilder

from timing import clock

VERSION_OF = "automat"


class Switch(Protocol):
    def switch_on(self) -> None: ...

    def switch_off(self) -> None: ...


class Ring(Protocol):
    def advance(self) -> None: ...


class Core:
    def __init__(self) -> None:
        self.entered = 0


def enter(inputs: object, core: Core) -> None:
    core.entered += 1


def _switch(*, with_handler: bool):
    builder = TypeMachineBuilder(Switch, Core)
    off, on = builder.state("off"), builder.state("on")
    steps = off.upon(Switch.switch_on).to(on), on.upon(Switch.switch_off).to(off)
    for step in steps:
        if with_handler:
            step(enter)
        else:
            step.returns(None)
    return builder.build()


def _switched(machine, count: int) -> float:
    start = clock()
    for _ in range(count // 2):
        machine.switch_on()
        machine.switch_off()
    return clock() - start


Plain, Guarded = _switch(with_handler=False), _switch(with_handler=True)


def two_states(count: int) -> float:
    return _switched(Plain(Core()), count)


def guarded(count: int) -> float:
    return _switched(Guarded(Core()), count)


def _ring(size: int):
    builder = TypeMachineBuilder(Ring, Core)
    states = [builder.state(f"S{number}") for number in range(size)]
    for number, state in enumerate(states):
        state.upon(Ring.advance).to(states[(number + 1) % size])(enter)
    return builder.build()


Fifty = _ring(50)


def ring(count: int) -> float:
    machine = Fifty(Core())
    start = clock()
    for _ in range(count // 2):
        machine.advance()
        machine.advance()
    return clock() - start


CASES = {"1": two_states, "2": guarded, "3": ring}
