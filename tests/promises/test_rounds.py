"""What a second automatic round would change is reported: P19, where autos are many and exclude each other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from kernel.fuzz import random_situation
from kernel.test_properties import Everything, Rounds, Unstable, defined, mutate
from model.consensus import StateForm
from model.machine import Step
from proof import scaled
from trsm import Engine

METHODS = ("add", "add", "remove", "set", "toggle")
UNSTABLE: dict[str, StateForm] = {
    "Ground": {},
    "Guard": {"require": ["Ground"], "remove": ["Kept"]},
    "Kept": {"auto": True},
    "Quake": {"auto": True, "remove": ["Ground"]},
}
"""Part of every other schema: the round takes the ground from a guard, who guards in that round, not in the next."""


@pytest.mark.promise(19)
def test_rounds_of_random_machines_that_are_automatic_in_most(figure: Callable[..., None]) -> None:
    """The round ends, and what a second would change is told, once; where it would change nothing, nothing is."""
    unstable = rounds = 0
    for number in range(scaled(150, 3_000)):
        random = Random(f"rounds {number}")
        states = random_situation(random).states
        for name in states:
            if random.random() < 0.5:
                states[name]["auto"] = True
        if number % 2:
            states |= UNSTABLE
        names = list(states)
        refuse = [[random.choice(("enter", "exit")), random.choice(names)] for _ in range(random.choice((0, 0, 1)))]
        schema = defined(states)
        tracer = Unstable()
        engine = Engine(schema, *Everything(schema, states, refuse).functions, tracers=[tracer])
        model = Rounds(states, refuse)
        for _ in range(6):
            step: Step = {"mutate": random.choice(METHODS), "called": random.sample(names, min(len(names), 2))}
            if number % 2 and random.random() < 0.5:
                step = {"mutate": "add", "called": ["Ground", "Guard"]}
            tracer.told.clear()
            mutate(engine, schema, step)
            model.step(step)
            assert tracer.told == ([set(model.second)] if model.second else []), f"life {number}: {step} of {states}"
            rounds += 1
            unstable += bool(model.second)
    assert unstable > rounds / 100
    figure(19, rounds=rounds, unstable=unstable)
