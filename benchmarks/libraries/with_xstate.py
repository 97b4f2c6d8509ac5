"""The cases that xstate-statemachine has: https://pypi.org/project/xstate-statemachine."""

from __future__ import annotations

import logging

from xstate_statemachine import MachineLogic, SyncInterpreter, create_machine

from timing import clock

VERSION_OF = "xstate-statemachine"
logging.disable(logging.ERROR)


def may_enter(context: dict[str, int], event: object) -> bool:
    return True


def enter(interpreter: object, context: dict[str, int], event: object, action: object) -> None:
    context["entered"] += 1


def _machine(size: int, *, with_handlers: bool) -> SyncInterpreter:
    more = {"guard": "may_enter"} if with_handlers else {}
    states = {
        f"S{number}": {
            "on": {"ADVANCE": {"target": f"S{(number + 1) % size}", **more}},
            **({"entry": ["enter"]} if with_handlers else {}),
        }
        for number in range(size)
    }
    config = {"id": "machine", "initial": "S0", "context": {"entered": 0}, "states": states}
    logic = MachineLogic(actions={"enter": enter}, guards={"may_enter": may_enter}) if with_handlers else None
    return SyncInterpreter(create_machine(config, logic=logic)).start()


def _advanced(machine: SyncInterpreter, count: int) -> float:
    machine.send("ADVANCE")
    start = clock()
    for _ in range(count // 2):
        machine.send("ADVANCE")
        machine.send("ADVANCE")
    return clock() - start


def two_states(count: int) -> float:
    return _advanced(_machine(2, with_handlers=False), count)


def guarded(count: int) -> float:
    return _advanced(_machine(2, with_handlers=True), count)


def ring(count: int) -> float:
    return _advanced(_machine(50, with_handlers=True), count)


CASES = {"1": two_states, "2": guarded, "3": ring}
