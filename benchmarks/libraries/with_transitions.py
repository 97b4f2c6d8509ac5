"""The cases that transitions has: https://pypi.org/project/transitions."""

from __future__ import annotations

import logging

from transitions import Machine

from timing import clock

VERSION_OF = "transitions"
logging.getLogger("transitions").setLevel(logging.ERROR)


class Model:
    """What the machine drives: a guard and an enter handler."""

    def __init__(self) -> None:
        self.entered = 0

    def may_enter(self) -> bool:
        return True

    def enter(self) -> None:
        self.entered += 1


def two_states(count: int) -> float:
    model = Model()
    Machine(
        model,
        states=["off", "on"],
        transitions=[["switch_on", "off", "on"], ["switch_off", "on", "off"]],
        initial="off",
        auto_transitions=False,
    )
    return _switched(model, count)


def guarded(count: int) -> float:
    model = Model()
    Machine(
        model,
        states=[{"name": "off", "on_enter": "enter"}, {"name": "on", "on_enter": "enter"}],
        transitions=[
            {"trigger": "switch_on", "source": "off", "dest": "on", "conditions": "may_enter"},
            {"trigger": "switch_off", "source": "on", "dest": "off", "conditions": "may_enter"},
        ],
        initial="off",
        auto_transitions=False,
    )
    return _switched(model, count)


def _switched(model, count: int) -> float:
    start = clock()
    for _ in range(count // 2):
        model.switch_on()
        model.switch_off()
    return clock() - start


def ring(count: int) -> float:
    model = Model()
    names = [f"S{number}" for number in range(50)]
    Machine(
        model,
        states=[{"name": name, "on_enter": "enter"} for name in names],
        transitions=[
            {"trigger": "advance", "source": name, "dest": following, "conditions": "may_enter"}
            for name, following in zip(names, [*names[1:], names[0]], strict=True)
        ],
        initial="S0",
        auto_transitions=False,
    )
    start = clock()
    for _ in range(count // 2):
        model.advance()
        model.advance()
    return clock() - start


CASES = {"1": two_states, "2": guarded, "3": ring}
