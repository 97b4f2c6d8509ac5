"""``task(then=…)``: a state that could never be added while the task's own is active is refused when it is bound."""

from __future__ import annotations

import pytest
from hypothesis import given

from kernel.adapter import compiled
from model import strategies
from model.consensus import Kind, Names, States, verdict
from trsm import Engine, ErrorState, HandlerError, Schema, State, Transition
from trsm._core._handlers import _is_barred_by


class Flow(Schema):
    Working = State(remove=["Done", "Mutual", "Helped", "Barred", "Both", "ErrFlow"])
    Done = State()
    Mutual = State(remove=Working)
    Helped = State(add="Carrier")
    Carrier = State(add="Helper")
    Helper = State(remove=Working)
    Barred = State(add="Both")
    Both = State(remove=Working)
    Free = State()
    ErrFlow = ErrorState(catches=OSError)


class Mended(Flow):
    Done = Flow.Done.extend(remove=Flow.Working)


def task(then: State[[], None]) -> object:
    @Flow.Working.task(then=then)
    async def work(t: Transition) -> None: ...

    work.__qualname__ = "work"
    return work


@pytest.mark.parametrize("name", ["Done", "Barred"])
def test_what_the_tasks_state_keeps_out_is_refused_with_what_to_write(name: str) -> None:
    """It removes it one-way, and nothing that comes with it lifts that: an option that both remove is no help."""
    with pytest.raises(HandlerError) as caught:
        Engine(Flow, task(Flow[name]))
    assert str(caught.value) == (
        f"@Flow.Working.task(then={name}): Working removes {name}, and nothing that comes with {name} puts Working "
        f"out, so that it would always be refused: write {name} = State(remove=Working)"
    )
    engine = Engine(Flow)
    engine.add(Flow.Working)
    assert not engine.add(Flow[name])


@pytest.mark.parametrize("name", ["Mutual", "Helped", "Both", "Free", "Working", "ErrFlow"])
def test_what_can_be_added_while_the_tasks_state_is_active_is_bound(name: str) -> None:
    """It removes it, or something that it brings does; or nothing keeps it out."""
    engine = Engine(Flow, task(Flow[name]))
    engine.add(Flow.Working)
    assert engine.add(Flow[name])


def test_it_is_judged_by_the_schema_of_the_machine() -> None:
    """An heir may have mended it; nothing has changed where it is refused."""
    engine = Engine(Mended, task(Flow.Done))
    engine.add(Flow.Working)
    assert engine.add(Flow.Done)
    base = Engine(Flow)
    with pytest.raises(HandlerError):
        base.bind(task(Flow.Done))
    assert base.add(Flow.Working)
    assert base._bound == ()


@given(situation=strategies.situations())
def test_property_what_is_refused_would_always_be_refused(situation: tuple[States, Names, Kind, Names, Names]) -> None:
    """Whatever else is active: in the model, adding it is canceled for as long as the task's state is active."""
    states, active, _, _, _ = situation
    relations = compiled(states)
    names = relations.names
    for here in active:
        for there in states:
            if _is_barred_by(relations, names.index(there), names.index(here)):
                assert not verdict(states, active, "add", frozenset({there}), frozenset()).accepted
