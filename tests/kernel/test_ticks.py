"""Ticks as a vector: compared, subtracted, summed and filtered."""

from __future__ import annotations

import pytest

from trsm import Engine, MutationError, Schema, State, UnknownState
from trsm._core._journal import PAGE


class Door(Schema):
    """Two states that have nothing to do with each other."""

    Open = State(multi=True)
    Lit = State()


class Front(Schema):
    """What comes before the states of a door in its heir."""

    Bell = State(multi=True)


class Heir(Front, Door):
    """Has other numbers for the states of a door, and one more."""


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


def test_pictures_of_a_schema_and_its_heir_are_compared_state_by_state() -> None:
    """What only the heir has counts as 0 in the other; whichever of the two is asked."""
    engine = Engine(Door)
    engine.add(Door.Lit)
    engine.add(Door.Open)
    before = engine.ticks
    engine.extend_schema(Heir)
    same = engine.ticks
    assert before <= same <= before
    assert before >= same >= before
    assert not before < same and not same < before
    assert not before > same and not same > before
    engine.add(Heir.Bell, Heir.Open)
    after = engine.ticks
    assert after.since(before) == before.until(after) == {Heir.Bell: 1, Heir.Open: 2}
    assert before.since(after) == after.until(before) == {Heir.Bell: -1, Heir.Open: -2}
    assert before < after and after > before
    assert not after < before and not before > after
    assert not after <= before and not before >= after
    assert str(next(iter(after.since(before)))) == "Bell"


def test_ticks_say_what_has_moved() -> None:
    """As a status line; a state that never moved is left out."""
    engine = Engine(Door)
    assert repr(engine.ticks) == "<Ticks all 0>"
    engine.add(Door.Open, Door.Lit)
    engine.remove(Door.Lit)
    assert repr(engine.ticks) == "<Ticks Open:1 Lit:2>"


def test_ticks_are_a_picture_that_does_not_change() -> None:
    """Equal where all ticks are, of any two machines of the schema; they can be hashed."""
    engine, other = Engine(Door), Engine(Door)
    before = engine.ticks
    engine.add(Door.Open)
    assert before[Door.Open] == 0 and engine.ticks[Door.Open] == 1
    assert before == other.ticks != engine.ticks
    assert len({before, other.ticks, engine.ticks}) == 2
    assert not before.is_active(Door.Open)
    with pytest.raises(
        MutationError, match=r"ticks\.is_active\(\) names no state: write at least one, such as Door\.Open"
    ):
        before.is_active(*Door.tagged("typo"))
    with pytest.raises(AttributeError):
        before._values = ()  # type: ignore[misc]
    with pytest.raises(UnknownState, match=r"ticks\[…\]: Other\.On is not a state of Door"):
        before[Other.On]


def test_the_ticks_around_each_transition_can_be_read_long_after_it() -> None:
    """The journal that they are rebuilt from is begun anew now and then, and whoever holds one keeps it."""
    engine = Engine(Door)
    transitions = []
    pictures = [engine.ticks]
    for number in range(2 * PAGE + 9):
        if number % 3:
            engine.add(Door.Open)
        else:
            engine.toggle(Door.Lit)
        transitions.append(engine.last_transition)
        pictures.append(engine.ticks)
    assert [one.before for one in transitions] == pictures[:-1]
    assert [one.after for one in transitions] == pictures[1:]
    assert len({id(one._journal) for one in transitions}) == 3


def test_a_state_that_an_heir_declares_anew_is_another_one() -> None:
    """Its ticks are not those of the state whose name it has."""

    class Anew(Door):
        Lit = State()

    engine, heir = Engine(Door), Engine(Anew)
    engine.add(Door.Lit, Door.Open)
    heir.add(Anew.Lit)
    assert heir.ticks.since(engine.ticks) == {Anew.Open: -1, Anew.Lit: 1}
