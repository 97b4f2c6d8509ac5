"""Ticks as a vector: compared, subtracted, summed and filtered."""

from __future__ import annotations

import pytest

from trsm import Engine, Schema, State, UnknownState


class Door(Schema):
    """Two states that have nothing to do with each other."""

    Open = State(multi=True)
    Lit = State()


class Other(Schema):
    """Another schema."""

    On = State()


def test_pictures_of_one_machine_are_ordered_by_time() -> None:
    """The earlier is the smaller; one is neither smaller nor greater than itself."""
    engine = Engine(Door)
    before = engine.ticks
    engine.add(Door.Open)
    after = engine.ticks
    assert before < after
    assert after > before
    assert before <= after
    assert after >= before
    assert not after <= before
    assert not before >= after
    assert not before < before
    assert not before > before
    assert before <= before
    assert before >= before


def test_two_futures_of_one_machine_cannot_be_ordered() -> None:
    """Each has a tick that is beyond the other's."""
    one, other = Engine(Door), Engine(Door)
    one.add(Door.Open)
    other.add(Door.Lit)
    assert not one.ticks <= other.ticks
    assert not other.ticks <= one.ticks
    assert not one.ticks < other.ticks


def test_differences_name_only_what_moved() -> None:
    """By how far, in declaration order, from either end."""
    engine = Engine(Door)
    engine.add(Door.Lit)
    before = engine.ticks
    engine.add(Door.Open)
    engine.add(Door.Open)
    engine.remove(Door.Lit)
    assert engine.ticks.since(before) == {Door.Open: 3, Door.Lit: 1}
    assert before.until(engine.ticks) == {Door.Open: 3, Door.Lit: 1}
    assert before.since(before) == {}


def test_sums_and_parts() -> None:
    """Of the states that are named, or of all."""
    engine = Engine(Door)
    engine.add(Door.Open)
    engine.add(Door.Open, Door.Lit)
    assert engine.ticks.sum() == 4
    assert engine.ticks.sum(Door.Open) == 3
    assert engine.ticks.filter(Door.Lit, Door.Open) == {Door.Lit: 1, Door.Open: 3}
    assert engine.ticks.is_active(Door.Open, Door.Lit)
    assert engine.ticks.active_states == (Door.Open, Door.Lit)
    assert len(engine.ticks) == 3
    assert list(engine.ticks) == [Door.Open, Door.Lit, Schema.Error]
    with pytest.raises(UnknownState):
        engine.ticks.sum(Other.On)


def test_ticks_of_another_schema_are_refused() -> None:
    """The message names both schemas, or shows what was given."""
    ticks = Engine(Door).ticks
    with pytest.raises(TypeError, match=r"ticks.since\(…\): Other is not the ticks of Door"):
        ticks.since(Engine(Other).ticks)
    with pytest.raises(TypeError, match=r"ticks.until\(…\): 3 is not the ticks of Door"):
        ticks.until(3)
    with pytest.raises(TypeError, match="Other is not the ticks of Door"):
        assert ticks <= Engine(Other).ticks
    with pytest.raises(TypeError, match="None is not the ticks of Door"):
        assert ticks >= None
