"""The engine against the slow model: random lives, every handler bound, and reasons confirmed by the checker."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.adapter import compiled, mask_of
from model import strategies
from model.consensus import Kind as ModelKind
from model.consensus import Names, StateForm, States, is_valid, verdict
from model.machine import Handler, ModelMachine, Step
from model.reasons import check_reason
from trsm import Engine, NotSettled, Schema, State, Transition
from trsm._core._consensus import Kind, Request
from trsm._core._reasons import Explainer
from trsm._core._schema import SchemaMeta

Situation = tuple[dict[str, StateForm], Names, ModelKind, Names, Names]


def defined(states: States) -> SchemaMeta:
    return Schema.define("X", {name: State(**form) for name, form in states.items()})


class Everything:
    """Every handler that can be bound, refusing where it is told to, with a log of who was asked and who ran."""

    def __init__(self, schema: SchemaMeta, states: States, refuse: list[list[str]]) -> None:
        self.asked: list[Handler] = []
        self.finals: list[Handler] = []
        refused = {tuple(handler) for handler in refuse}
        self.functions = []

        def ask(handler: Handler, t: Transition) -> bool:
            self.asked.append(handler)
            return handler not in refused

        def run(handler: Handler, t: Transition) -> None:
            self.finals.append(handler)

        def function(action: object, handler: Handler) -> object:
            def bound(t: Transition) -> object:
                return action(handler, t)

            self.functions.append(bound)
            return bound

        for name in states:
            state = schema[name]
            state.can_enter(function(ask, ("enter", name)))
            state.can_exit(function(ask, ("exit", name)))
            state.can_stay(function(ask, ("stay", name)))
            state.on_enter(function(run, ("enter", name)))
            state.on_exit(function(run, ("exit", name)))
            for other in states:
                if other != name:
                    state.can_enter(given=schema[other])(function(ask, ("enter", name, other)))


def mutate(engine: Engine, schema: SchemaMeta, step: Step) -> str:
    if step["mutate"] == "mutate":
        added, dropped = ([schema[name] for name in step.get(key, [])] for key in ("add", "remove"))
        result = engine.mutate(add=added, remove=dropped)
    else:
        result = getattr(engine, step["mutate"])(*(schema[name] for name in step["called"]))
    return "executed" if result.executed else "canceled"


@given(life=strategies.lives())
@settings(max_examples=300)
def test_a_random_life_is_that_of_the_model(life: tuple[States, list[list[str]], list[Step]]) -> None:
    """Result, active set, ticks, who is asked and whose final handlers run, in order: as the model says (P6, P7)."""
    states, refuse, steps = life
    schema = defined(states)
    handlers = Everything(schema, states, refuse)
    engine = Engine(schema, *handlers.functions)
    model = ModelMachine(states, refuse)
    for step in steps:
        result = mutate(engine, schema, step)
        assert result == model.step(step)
        assert {state.name for state in engine.active_states} == model.active
        assert {name: engine.tick(schema[name]) for name in states} == model.ticks
        assert handlers.asked == model.asked
        assert handlers.finals == model.finals
        transition = engine.last_transition
        assert transition.after == engine.ticks


@given(situation=strategies.situations())
@settings(max_examples=500)
def test_every_reason_is_confirmed_by_the_independent_checker(situation: Situation) -> None:
    """Each reason that is given is the first true one, every lost state has one, and the text names them all (P4)."""
    states, active, kind, called, dropped = situation
    relations = compiled(states)
    request = Request(Kind[kind.upper()], mask_of(relations, called), mask_of(relations, dropped))
    explainer = Explainer(relations, mask_of(relations, active), request)
    explanation = explainer.explain()
    decided = verdict(states, active, kind, called, dropped)
    assert explanation.accepted == decided.accepted
    for reason in explanation.reasons:
        message = check_reason(states, active, kind, called, dropped, decided, reason.state, reason.kind, reason.by)
        assert message is None
        assert reason.state in explanation.text
    lost = ((decided.incumbents | set(decided.options) | decided.called) - decided.found) - dropped
    assert {reason.state for reason in explanation.reasons} >= lost
    assert bool(explanation) == decided.accepted
    assert str(explanation) == explanation.text


@given(life=strategies.lives())
@settings(max_examples=100)
def test_explain_and_can_foretell_what_then_happens(life: tuple[States, list[list[str]], list[Step]]) -> None:
    """``can_add``, ``can_remove`` and ``explain`` agree with the mutation that follows, and change nothing."""
    states, refuse, steps = life
    schema = defined(states)
    engine = Engine(schema, *Everything(schema, states, refuse).functions)
    for step in steps:
        before = engine.ticks
        if step["mutate"] == "mutate":
            added, dropped = ([schema[name] for name in step.get(key, [])] for key in ("add", "remove"))
            foretold = [engine.explain("mutate", add=added, remove=dropped).accepted]
        else:
            called = [schema[name] for name in step["called"]]
            foretold = [engine.explain(step["mutate"], *called).accepted]
            if step["mutate"] == "add":
                foretold.append(engine.can_add(*called))
            elif step["mutate"] == "remove":
                foretold.append(engine.can_remove(*called))
        assert engine.ticks == before
        result = mutate(engine, schema, step)
        assert foretold == [result == "executed"] * len(foretold)


@st.composite
def faulty_lives(draw: st.DrawFn) -> tuple[dict[str, StateForm], list[tuple[str, str]], list[Step]]:
    states, _, steps = draw(strategies.lives(largest=8))
    places = [(kind, name) for kind in ("can_enter", "can_exit", "on_enter", "on_exit") for name in states]
    return states, draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True)), steps


@given(life=faulty_lives(), handled=st.booleans())
@settings(max_examples=300)
def test_relations_hold_after_any_fault(life: tuple[States, list[tuple[str, str]], list[Step]], handled: bool) -> None:
    """Handlers that raise leave relations true, odd ticks on active states, and no error unreported (P1, P8, P9)."""
    states, faults, steps = life
    schema = defined(states)
    raised: list[Exception] = []
    reported: list[Exception] = []

    def fail(place: tuple[str, str], t: Transition) -> bool:
        error = OSError(*place)
        raised.append(error)
        raise error

    def note(t: Transition) -> None:
        assert t.error is not None
        reported.append(t.error)

    functions = []
    for kind, name in faults:

        def function(t: Transition, call: object = partial(fail, (kind, name))) -> bool:
            return call(t)

        functions.append(getattr(schema[name], kind)(function))
    if handled:
        functions.append(schema["Error"].on_enter(note))
    engine = Engine(schema, *functions)
    for step in steps:
        try:
            mutate(engine, schema, step)
        except ExceptionGroup as group:
            reported.extend(error for error in group.exceptions if not isinstance(error, NotSettled))
        assert is_valid(states, {state.name for state in engine.active_states} - {"Error"})
        assert all(engine.is_active(state) == bool(engine.tick(state) % 2) for state in schema)
        if not handled:
            assert reported == raised
    assert set(map(id, reported)) == set(map(id, raised))


def test_the_properties_fail_on_a_planted_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consensus that forgets requirements is found out."""
    monkeypatch.setattr("trsm._core._consensus._Contest._pass", lambda self, candidates, assumed: candidates)
    with pytest.raises(BaseException):  # an AssertionError, alone or in a group of several
        test_every_reason_is_confirmed_by_the_independent_checker()
