"""The cases that python-statemachine has: https://pypi.org/project/python-statemachine."""

from __future__ import annotations

from statemachine import State, StateMachine

from timing import clock

VERSION_OF = "python-statemachine"


class Switch(StateMachine):
    off = State(initial=True)
    on = State()
    switch_on = off.to(on)
    switch_off = on.to(off)


class Guarded(StateMachine):
    off = State(initial=True, enter="enter")
    on = State(enter="enter")
    switch_on = off.to(on, cond="may_enter")
    switch_off = on.to(off, cond="may_enter")

    entered = 0

    def may_enter(self) -> bool:
        return True

    def enter(self) -> None:
        self.entered += 1


def _switched(machine, count: int) -> float:
    start = clock()
    for _ in range(count // 2):
        machine.switch_on()
        machine.switch_off()
    return clock() - start


def two_states(count: int) -> float:
    return _switched(Switch(), count)


def guarded(count: int) -> float:
    return _switched(Guarded(), count)


def _ring(size: int) -> type[StateMachine]:
    states = [State(f"S{number}", initial=not number, enter="enter") for number in range(size)]
    body: dict[str, object] = {f"S{number}": state for number, state in enumerate(states)}
    advance = states[0].to(states[1], cond="may_enter")
    for number in range(1, size):
        advance |= states[number].to(states[(number + 1) % size], cond="may_enter")
    body |= {"advance": advance, "entered": 0, "may_enter": Guarded.may_enter, "enter": Guarded.enter}
    return type(StateMachine)("Ring", (StateMachine,), body)


Ring = _ring(50)


def ring(count: int) -> float:
    machine = Ring()
    start = clock()
    for _ in range(count // 2):
        machine.advance()
        machine.advance()
    return clock() - start


CASES = {"1": two_states, "2": guarded, "3": ring}
