"""The cases that pysm has: https://pypi.org/project/pysm."""

from __future__ import annotations

from pysm import Event, State, StateMachine

from timing import clock

VERSION_OF = "pysm"


class Counting:
    def __init__(self) -> None:
        self.entered = 0

    def may_enter(self, state: object, event: object) -> bool:
        return True

    def enter(self, state: object, event: object) -> None:
        self.entered += 1


def _machine(size: int, counting: Counting | None = None) -> StateMachine:
    machine = StateMachine("machine")
    states = [State(f"S{number}") for number in range(size)]
    for number, state in enumerate(states):
        machine.add_state(state, initial=not number)
        if counting is not None:
            state.handlers = {"enter": counting.enter}
    for number, state in enumerate(states):
        more = {} if counting is None else {"condition": counting.may_enter}
        machine.add_transition(state, states[(number + 1) % size], events=["advance"], **more)
    machine.initialize()
    return machine


def _advanced(machine: StateMachine, count: int) -> float:
    start = clock()
    for _ in range(count // 2):
        machine.dispatch(Event("advance"))
        machine.dispatch(Event("advance"))
    return clock() - start


def _counted(size: int, count: int) -> float:
    counting = Counting()
    machine = _machine(size, counting)
    before = counting.entered
    seconds = _advanced(machine, count)
    assert counting.entered == before + count
    return seconds


def two_states(count: int) -> float:
    return _advanced(_machine(2), count)


def guarded(count: int) -> float:
    return _counted(2, count)


def ring(count: int) -> float:
    return _counted(50, count)


CASES = {"1": two_states, "2": guarded, "3": ring}
