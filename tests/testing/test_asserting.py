"""Assertions about machines: they pass where they should, and fail with words that help."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

import trsm
from trsm import Engine, MutationError, Schema, State, Transition, UnknownState
from trsm.testing import assert_active, assert_inactive, assert_ticks, record_transitions


@attrs.frozen
class Person:
    name: str


class Door(Schema):
    Closed = State(remove="Open")
    Open = State(remove=Closed, require="Unlocked")
    Unlocked = State()
    Bell = State(multi=True)
    Guest = State(args=Person)


def opened() -> Engine:
    door = Engine(Door, id="door")
    door.add(Door.Unlocked)
    door.add(Door.Open)
    return door


@Door.Guest.can_enter
def is_known(t: Transition) -> bool:
    return bool(t.args_of(Door.Guest).name)


def test_what_is_true_passes() -> None:
    """Nothing is raised, and nothing changes."""
    door = opened()
    before = door.ticks
    assert_active(door, Door.Open, Door.Unlocked)
    assert_inactive(door, Door.Closed, Door.Bell)
    assert_ticks(door, {Door.Open: 1, Door.Closed: 0})
    assert door.ticks == before


def message(call: Callable[[], object]) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        call()
    return str(caught.value).splitlines()


def test_a_state_that_should_be_active() -> None:
    """The message says what is, and for each missing state what an add of it would meet."""
    door = Engine(Door, id="door")
    door.add(Door.Closed)
    assert message(lambda: assert_active(door, Door.Closed, Door.Open, Door.Unlocked)) == [
        "Open and Unlocked should be active, and are not",
        "  the machine:         <Engine 'door' (Closed:1)>",
        "  its last transition: <Transition 1 add: +Closed>",
        "  add(Open) is refused.",
        "  Open cannot activate: it requires Unlocked, which is inactive, and nothing in this mutation activates "
        "Unlocked.",
        "  add(Unlocked) would be executed now: nobody has asked for it, or it has left since",
    ]


def test_a_state_that_cannot_be_explained_without_arguments() -> None:
    """Its handler wants arguments that nobody has: the message says so, and is still that of the assertion."""
    told = message(lambda: assert_active(Engine(Door, is_known, id="door"), Door.Guest))
    assert told[0] == "Guest should be active, and is not"
    assert told[-1].startswith("  add(Guest) cannot be explained: ")
    assert "explained without arguments" in told[-1]


def test_states_that_should_be_inactive() -> None:
    """The message names those that are active."""
    assert message(lambda: assert_inactive(opened(), Door.Closed, Door.Open)) == [
        "Open should be inactive, and is active",
        "  the machine:         <Engine 'door' (Open:1 Unlocked:1)>",
        "  its last transition: <Transition 2 add: +Open>",
    ]
    assert message(lambda: assert_inactive(opened(), Door.Unlocked, Door.Open))[0] == (
        "Unlocked and Open should be inactive, and are active"
    )


def test_ticks_that_differ() -> None:
    """The message has those that differ, and what each tick means."""
    assert message(lambda: assert_ticks(opened(), {Door.Open: 2, Door.Closed: 1, Door.Unlocked: 1})) == [
        "ticks of machine 'door' differ:",
        "  Open: expected 2 (inactive); it is 1 (active)",
        "  Closed: expected 1 (active); it is 0 (inactive)",
        "  the machine:         <Engine 'door' (Open:1 Unlocked:1)>",
        "  its last transition: <Transition 2 add: +Open>",
    ]


def test_what_is_no_machine_and_what_are_no_ticks() -> None:
    """It is refused by type, with what to write instead."""
    for call in (assert_active, assert_inactive, assert_ticks):
        with pytest.raises(
            TypeError, match=rf"{call.__name__}\(<State Door.Open>, …\): pass a machine or an engine first"
        ):
            call(Door.Open, Door.Open)
    with pytest.raises(TypeError, match=r"record_transitions\(3, …\): pass a machine or an engine first"):
        record_transitions(3).__enter__()
    with pytest.raises(TypeError, match=r"pass the states and their ticks: \{Door.Open: 2\}"):
        assert_ticks(opened(), [(Door.Open, 1)])
    for tick in (1.0, True, None):
        with pytest.raises(TypeError, match=r"assert_ticks\(…, \{Open: .*\}\): a tick is a whole number"):
            assert_ticks(opened(), {Door.Open: tick})
    with pytest.raises(ValueError, match=r"assert_ticks\(…, \{Open: -1\}\): ticks begin at 0, and grow"):
        assert_ticks(opened(), {Door.Closed: 0, Door.Open: -1})
    with pytest.raises(ValueError, match=r"assert_ticks\(…, \{\}\) asserts nothing: name a state, and the tick"):
        assert_ticks(opened(), {})
    for function in (assert_active, assert_inactive):
        with pytest.raises(MutationError, match=f"^{function.__name__}: 'Open' is a name, and a state is due"):
            function(opened(), "Open")  # type: ignore[arg-type]
        with pytest.raises(MutationError, match=rf"^{function.__name__}\(\) names no state: write at least one"):
            function(opened())
    with pytest.raises(MutationError, match=r"^assert_ticks: 'Open' is a name, and a state is due"):
        assert_ticks(opened(), {"Open": 1})  # type: ignore[dict-item]
    with pytest.raises(UnknownState):
        assert_active(opened(), Schema.define("Other", {"Open": State()})["Open"])


def test_transitions_are_recorded_while_the_block_lasts() -> None:
    """Executed ones and canceled ones, those that change nothing too; none from before or after."""
    door = opened()
    with record_transitions(door) as recording:
        door.add(Door.Closed)
        assert not door.mutate(add=Door.Open, remove=Door.Unlocked)
        door.add(Door.Bell)
        door.add(Door.Bell)
        door.remove(Door.Guest)
    door.add(Door.Guest(name="Ann"))
    assert recording.changes == ["add: -Open +Closed", "add: +Bell", "add: +Bell", "remove: no change"]
    assert recording.entered == [Door.Closed, Door.Bell, Door.Bell]
    assert len(recording) == len(recording.transitions) == 4
    ((transition, result),) = recording.refused
    assert transition.called == (Door.Open,)
    assert result.canceled
    assert repr(recording).splitlines() == [
        "<Recording",
        "  add: -Open +Closed",
        "  add: +Bell",
        "  add: +Bell",
        "  remove: no change",
        "  canceled mutate(Open, Unlocked): mutate(add=(Open), remove=(Unlocked)) is refused.",
        ">",
    ]


def test_recording_ends_with_an_exception_too() -> None:
    """The tracer is taken off, and what was recorded stays."""
    door = opened()
    recorder = record_transitions(door)
    with pytest.raises(KeyError), recorder as recording:
        door.add(Door.Bell)
        raise KeyError
    door.add(Door.Bell)
    assert len(recording) == 1


async def test_a_recording_of_a_machine() -> None:
    """Transitions that tasks and the automatic round make are in it, and its closing."""
    async with trsm.open_machine(Door, id="door") as machine:
        with record_transitions(machine) as recording:
            machine.add(Door.Closed)
            machine.close()
    assert recording.changes == ["add: +Closed", "close: -Closed"]
