"""Every conformance case on the real machine: the bare engine, and a machine that a program opened on trio."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trsm
from trsm import Engine, Schema, State, Transition

CONFORMANCE = Path(__file__).parent.parent / "conformance"
FILES = {
    "relations": (500, "505f96dc6e5d11951d8ce8254f39e5f6a2e170e3bfd0264eb6ccfbb1ea09dc28"),
    "negotiation": (300, "10aebbe9347ba90e8d0681d891aba7fda5cb27bcd788b9abfca31fb00bd1745f"),
    "decided": (160, "a26e1ea0730186ac2915a85dad8b6684bb4c3df2f305353e76c31a75c3ab4fd4"),
    "extended": (200, "41af1a0d3c8d7995f0a723d0ac2a40a2abf41ec638762eba09112688238d1513"),
    "corners": (162, "f5acafa26c4e88c46b1c2a0a1b2eb84a58e23d275b95a9f5f916caccd7c31c37"),
}
"""File -> how many cases it holds, and the digest of it as it was handed over: no case is bent to fit a machine."""

Handler = Callable[[Transition], bool]
Case = dict[str, Any]


def cases_of(file: str) -> list[Case]:
    return [json.loads(line) for line in (CONFORMANCE / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]


CASES = [pytest.param(case, id=case["name"]) for file in FILES for case in cases_of(file)]


def schema_of(case: Case) -> type[Schema]:
    return Schema.define("Case", {name: State(**form) for name, form in case["states"].items()})


def refusing(schema: type[Schema], case: Case) -> list[Handler]:
    """The negotiation handlers that always refuse; whoever has none accepts."""

    handlers: list[Handler] = []
    for question, name, *given in case.get("refuse", ()):
        mark = getattr(schema[name], f"can_{question}")
        decorate = mark(given=schema[given[0]]) if given else mark

        def handler(t: Transition) -> bool:
            return False

        handlers.append(decorate(handler))
    return handlers


def run(machine: Engine, case: Case) -> None:
    """Take every step, and compare all that it states."""
    schema = machine.schema
    for number, step in enumerate(case["steps"]):
        if step["mutate"] == "mutate":
            added, removed = ([schema[name] for name in step.get(key, ())] for key in ("add", "remove"))
            result = machine.mutate(add=added, remove=removed)
        else:
            result = getattr(machine, step["mutate"])(*(schema[name] for name in step["called"]))
        active = sorted(state.name for state in machine.active_states)
        ticks = {state.name: tick for state in schema if (tick := machine.tick(state))}
        expected = {name: tick for name, tick in step["ticks"].items() if tick}
        became = "executed" if result.executed else "canceled"
        assert (became, active, ticks) == (step["result"], sorted(step["active"]), expected), (
            f"{machine!r}, step {number}"
        )


def test_the_cases_are_those_that_were_handed_over() -> None:
    """None is lost, added or changed."""
    for file, (count, digest) in FILES.items():
        content = (CONFORMANCE / f"{file}.jsonl").read_bytes()
        assert (len(content.splitlines()), hashlib.sha256(content).hexdigest()) == (count, digest), file


@pytest.mark.parametrize("case", CASES)
def test_the_bare_engine_passes_the_case(case: Case) -> None:
    """Each step ends with the result, the active set and the ticks that the case states."""
    schema = schema_of(case)
    run(Engine(schema, *refusing(schema, case)), case)


@pytest.mark.parametrize("file", FILES)
async def test_open_machines_pass_the_cases(file: str) -> None:
    """The same on trio, and closing afterwards leaves nothing active, latched states neither."""
    for case in cases_of(file):
        schema = schema_of(case)
        async with trsm.open_machine(schema, *refusing(schema, case), id=case["name"]) as machine:
            run(machine, case)
            last = machine.ticks
        assert machine.closed and machine.active_states == ()
        assert machine.ticks_at_close == last


def test_a_case_that_states_something_else_fails() -> None:
    """Result, active set and ticks are each compared, in each step."""
    right = {"states": {"A": {}, "B": {}}, "refuse": [["enter", "B"]]}
    step = {"mutate": "add", "called": ["A"], "result": "executed", "active": ["A"], "ticks": {"A": 1, "B": 0}}
    schema = schema_of(right)
    run(Engine(schema), {**right, "steps": [step]})
    for wrong in ({"result": "canceled"}, {"active": []}, {"ticks": {"A": 3}}, {"ticks": {}}):
        with pytest.raises(AssertionError, match="step 1"):
            run(Engine(schema), {**right, "steps": [step, {**step, **wrong}]})
    refused = {"mutate": "add", "called": ["B"], "result": "executed", "active": ["B"], "ticks": {"B": 1}}
    run(Engine(schema), {**right, "steps": [refused]})
    with pytest.raises(AssertionError, match="step 0"):
        run(Engine(schema, *refusing(schema, right)), {**right, "steps": [refused]})
