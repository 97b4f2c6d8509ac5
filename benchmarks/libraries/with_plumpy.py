"""The cases that plumpy's base state machine has: https://pypi.org/project/plumpy."""

from __future__ import annotations

from plumpy.base.state_machine import State, StateMachine

from timing import clock

VERSION_OF = "plumpy"


def _machine(size: int, *, with_handlers: bool) -> type[StateMachine]:
    def enter(self) -> None:
        super(type(self), self).enter()
        self.state_machine.entered += 1

    states = [
        type(
            f"S{number}",
            (State,),
            {"LABEL": f"S{number}", "ALLOWED": {f"S{(number + 1) % size}"}}
            | ({"enter": enter} if with_handlers else {}),
        )
        for number in range(size)
    ]
    return type("Ring", (StateMachine,), {"STATES": states, "entered": 0, "may_enter": lambda self: True})


def _advanced(machine: StateMachine, size: int, count: int, *, with_guard: bool) -> float:
    """Its states are made anew at each transition; a guard is for the user to ask."""
    labels = [f"S{(number + 1) % size}" for number in range(size)]
    start = clock()
    for _ in range(count // size):
        for label in labels:
            if not with_guard or machine.may_enter():
                machine.transition_to(machine.create_state(label))
    for label in labels[: count % size]:
        if not with_guard or machine.may_enter():
            machine.transition_to(machine.create_state(label))
    return clock() - start


Plain, Guarded, Ring = (
    _machine(2, with_handlers=False),
    _machine(2, with_handlers=True),
    _machine(50, with_handlers=True),
)


def two_states(count: int) -> float:
    return _advanced(Plain(), 2, count, with_guard=False)


def guarded(count: int) -> float:
    return _advanced(Guarded(), 2, count, with_guard=True)


def ring(count: int) -> float:
    return _advanced(Ring(), 50, count, with_guard=True)


CASES = {"1": two_states, "2": guarded, "3": ring}
