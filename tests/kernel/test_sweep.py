"""Raise in the n-th handler call, for all n, of random lives on random schemas (promises P1, P6, P8 and P9)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.faults import MAKERS, Shape, Trial, lives, shapes
from trsm import Engine, State

Steps = list[tuple[str, tuple[State[..., object], ...]]]


def live(trial: Trial, steps: Steps) -> tuple[Engine, list[BaseException]]:
    """Run a life on a bare engine; return it, and what its calls raised."""
    engine = Engine(trial.shape.schema, trial.shape.handlers(trial))
    unhandled: list[BaseException] = []

    def look() -> None:
        trial.check_now(engine.active_states, {state.name: engine.tick(state) for state in engine.schema})

    trial.look = look
    for method, states in steps:
        faults, transitions = len(trial.faults), len(trial.transitions)
        result = None
        try:
            result = getattr(engine, method)(*states)
        except BaseExceptionGroup as group:
            unhandled.extend(group.exceptions)
        except KeyboardInterrupt as stop:
            unhandled.append(stop)
        look()
        if result is not None and result.canceled and len(trial.transitions) > transitions:
            # Canceled by a fault in negotiation: what moved afterwards is the error, nothing before it.
            assert len(trial.faults) > faults
            assert trial.transitions[transitions].kind == "error"
    return engine, unhandled


@pytest.mark.promise(1, 6, 8, 9)
@settings(max_examples=settings.default.max_examples // 2)  # a sweep each
@given(data=st.data(), shape=shapes(), make=st.sampled_from(MAKERS), gap=st.integers(0, 4))
def test_property_relations_hold_and_no_error_is_lost_whichever_handler_raises(
    data: st.DataObject, shape: Shape, make: object, gap: int
) -> None:
    """After a fault in any handler: relations, ticks, owed on_exits, and each error reported exactly once."""
    steps = data.draw(lives(shape))
    number = 0
    while True:
        trial = Trial(shape, {number, number + gap} if gap else {number}, make)  # type: ignore[arg-type]
        engine, unhandled = live(trial, steps)
        trial.check_diary(unhandled)
        if not trial.faults:
            assert unhandled == [] and engine.error is None
            break
        number += 1


@pytest.mark.promise(9)
@settings(max_examples=settings.default.max_examples // 2)  # a sweep each
@given(data=st.data(), shape=shapes())
def test_property_what_is_no_exception_ends_every_state_whichever_handler_raises(
    data: st.DataObject, shape: Shape
) -> None:
    """The call raises it, the engine is closed, every tick is even, and every on_exit that was owed has run."""
    steps = data.draw(lives(shape))
    number = 0
    while True:
        trial = Trial(shape, {number}, KeyboardInterrupt)
        engine, unhandled = live(trial, steps)
        if not trial.faults:
            break
        assert unhandled == [trial.faults[0].error]
        assert engine.closed and engine.active_states == ()
        for before, after in zip([None, *trial.transitions], trial.transitions, strict=False):
            trial._check_finals(before, after)
        number += 1
