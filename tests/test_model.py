"""The model against the conformance cases, and its laws against random schemas: the ruler is measured first."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import enumerate3, strategies
from model.consensus import NOTHING, Kind, Names, StateForm, States, Verdict, is_valid, ticks_moved, verdict
from model.laws import LAWS, Law, check_laws
from model.machine import ModelMachine, Step, handler_order
from model.reasons import check_reason, guarding, reasons
from proof import examples

CONFORMANCE = Path(__file__).parent / "conformance"
CASES = {"relations": 500, "negotiation": 300, "decided": 160, "extended": 200, "corners": 162}
Situation = tuple[dict[str, StateForm], Names, Kind, Names, Names]


def cases() -> Iterator[Any]:
    for file in CASES:
        for line in (CONFORMANCE / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            yield pytest.param(case, id=case["name"])


def decide(states: States, active: Names, kind: Kind, called: Collection[str], dropped: Collection[str], /) -> Verdict:
    return verdict(states, active, kind, called, dropped)


def check_reasons(states: States, active: Names, kind: Kind, called: Names, dropped: Names, decided: Verdict) -> None:
    assert guarding(states, decided) == decided.standing_incumbents
    for name, (reason, named) in reasons(states, active, kind, called, dropped, decided).items():
        for by in named or [None]:
            assert check_reason(states, active, kind, called, dropped, decided, name, reason, by) is None


def test_there_are_as_many_cases_as_the_readme_says() -> None:
    """No case is lost on the way here."""
    for file, count in CASES.items():
        assert len((CONFORMANCE / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()) == count


@pytest.mark.parametrize("case", list(cases()))
def test_the_model_passes_the_conformance_case(case: dict[str, Any]) -> None:
    """Each step ends with the result, the active set and the ticks that the case states."""
    machine = ModelMachine(case["states"], case.get("refuse", ()))
    for number, step in enumerate(case["steps"]):
        result = machine.step(step)
        moved = {name: tick for name, tick in machine.ticks.items() if tick}
        expected = {name: tick for name, tick in step["ticks"].items() if tick}
        assert (result, machine.active, moved) == (step["result"], frozenset(step["active"]), expected), number


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@given(situation=strategies.situations())
@examples(150)
def test_the_law_holds_of_the_model(law: Law, situation: Situation) -> None:
    """Each law of section 4 holds of random mutations on random schemas."""
    law(*situation, decide)


@given(situation=strategies.situations())
@examples(400)
def test_every_loss_has_a_true_reason(situation: Situation) -> None:
    """The first true reason of every lost state exists, and the checker confirms it."""
    check_reasons(*situation, verdict(*situation))


@given(situation=strategies.situations())
@examples(100)
def test_a_false_reason_is_found_out(situation: Situation) -> None:
    """The checker takes no reason but the first true one, with a state that it is true of."""
    states, active, kind, called, dropped = situation
    decided = verdict(*situation)
    for name, (reason, named) in reasons(*situation, decided).items():
        for other in set(states) - named:
            message = check_reason(states, active, kind, called, dropped, decided, name, reason, other)
            assert message is not None
        for other_reason in ("refused by", "latched", "excluded by", "removed by", "would remove", "no such kind"):
            if other_reason != reason:
                for by in (None, *states):
                    assert check_reason(states, active, kind, called, dropped, decided, name, other_reason, by)


@given(life=strategies.lives())
@examples(200)
def test_a_life_keeps_relations_and_ticks(life: tuple[States, list[list[str]], list[Step]]) -> None:
    """After every step the active set is valid, no tick fell, odd is active, and a canceled step moved nothing."""
    states, refuse, steps = life
    machine = ModelMachine(states, refuse)
    for step in steps:
        active, ticks, finals = machine.active, dict(machine.ticks), len(machine.finals)
        result = machine.step(step)
        assert is_valid(states, machine.active)
        assert all(machine.ticks[name] >= ticks[name] for name in states)
        assert machine.active == {name for name in states if machine.ticks[name] % 2}
        if result == "canceled":
            assert (machine.active, machine.ticks, len(machine.finals)) == (active, ticks, finals)


@given(states=strategies.schemas(), data=st.data())
@examples(200)
def test_random_schemas_are_without_contradiction(states: dict[str, StateForm], data: st.DataObject) -> None:
    """What the strategies make would be accepted as a schema, and its active sets are valid."""
    for name, form in states.items():
        relations = [form.get("require", []), form.get("add", []), form.get("remove", []), form.get("after", [])]
        for members in relations:
            assert name not in members and set(members) <= states.keys() and len(members) == len(set(members))
        assert not set(form.get("remove", [])) & {*form.get("require", []), *form.get("add", [])}
        if form.get("latch"):
            assert all(states[need].get("latch") for need in form.get("require", []))
    order = handler_order(states)
    assert sorted(order) == sorted(states)
    assert all(order.index(early) < order.index(name) for name in states for early in states[name].get("after", []))
    assert is_valid(states, data.draw(strategies.active_sets(states)))


def test_ticks_moved_by_a_multi_state_that_is_called_again() -> None:
    """+2 for an active multi state that is called, +1 for what comes with it, nothing for what stays."""
    states: States = {"A": {"multi": True, "add": ["B"]}, "B": {}, "C": {}}
    decided = verdict(states, {"A", "C"}, "add", {"A"})
    assert ticks_moved(states, {"A", "C"}, decided, {"A"}) == {"A": 2, "B": 1}
    assert ticks_moved(states, {"A", "C"}, verdict(states, {"A", "C"}, "remove", (), {"A"}), ()) == {"A": 1}


def test_negotiation_asks_in_the_documented_order() -> None:
    """Exits, enters, stays, pairs; leaving is the reverse of entering; a requirement enters first."""
    states: States = {
        "Top": {"require": ["Base"]}, "Base": {"remove": ["Old", "Older"]}, "Old": {"require": ["Older"]},
        "Older": {}, "Other": {},
    }  # fmt: skip
    machine = ModelMachine(states)
    machine.step({"mutate": "add", "called": ["Old", "Older", "Other"]})
    assert machine.asked == [("enter", "Older"), ("enter", "Old"), ("enter", "Other")]
    machine.asked.clear()
    machine.step({"mutate": "add", "called": ["Top", "Base"]})
    assert machine.asked == [
        ("exit", "Old"), ("exit", "Older"), ("enter", "Base"), ("enter", "Top"), ("stay", "Other"),
        ("enter", "Base", "Old"), ("enter", "Base", "Older"), ("enter", "Base", "Other"),
        ("enter", "Top", "Old"), ("enter", "Top", "Older"), ("enter", "Top", "Other"),
    ]  # fmt: skip


def test_three_states_are_as_many_as_promised() -> None:
    """15,625 schemas and 995,316 runs, counted one by one."""
    enumerate3.assert_the_figures()


@pytest.mark.promise(26)
def test_a_sample_of_three_states_keeps_every_law(figure: Callable[..., None]) -> None:
    """Every law and every reason, on 1,000 of the runs of promise P26, always the same ones."""
    random = Random(26)
    chosen = set(random.sample(range(enumerate3.RUNS), 1_000))
    for number, run in enumerate(enumerate3.runs()):
        if number in chosen:
            check_laws(*run, decide)
            check_reasons(*run, verdict(*run))
    figure(26, consensus_runs=len(chosen))


def test_a_set_that_is_empty_or_a_round_without_autos_changes_nothing() -> None:
    """The automatic round of a schema without auto states is accepted, and its target is the active set."""
    decided = verdict({"A": {}, "B": {}}, {"B"}, "auto")
    assert decided.accepted and decided.target == {"B"} and decided.options == {} and decided.called == NOTHING
