"""The consensus asked of sets of states: what a machine does, in whatever order the questions come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import model.consensus as slow
import trsm
from model.consensus import NOTHING, Names, StateForm, is_auto, is_latch, is_multi, is_valid
from model.strategies import active_sets, schemas
from trsm import Consensus, Group, MutationError, Schema, State, UnknownState


class Door(Schema):
    Locked = State(remove="Open")
    Open = State(remove=Locked)
    Light = State(auto=True, require=Open)
    Bell = State(auto=True, multi=True, require=Open)
    Broken = State(latch=True)


CONSENSUS = Consensus(Door)
LOCKED, OPEN, LIGHT, BELL, BROKEN, ERROR = (1 << number for number in range(6))


def real(states: dict[str, StateForm]) -> type[Schema]:
    """Return a schema of the form of the conformance cases as a class."""
    members: dict[str, State | Group] = {
        name: State(
            require=tuple(form.get("require", ())),
            add=tuple(form.get("add", ())),
            remove=tuple(form.get("remove", ())),
            after=tuple(form.get("after", ())),
            auto=is_auto(states, name),
            multi=is_multi(states, name),
            latch=is_latch(states, name),
        )
        for name, form in states.items()
    }
    return Schema.define("Random", members)


def test_a_set_and_its_states_lead_to_each_other() -> None:
    """Bit n is the n-th state in declaration order, `Error` the last."""
    assert CONSENSUS.set_of() == 0
    assert CONSENSUS.set_of(Door.Open, Door.Locked) == LOCKED | OPEN
    assert CONSENSUS.set_of(Door["Error"]) == ERROR
    assert CONSENSUS.states_of(LOCKED | ERROR) == (Door.Locked, Door["Error"])
    assert CONSENSUS.states_of(0) == ()
    assert CONSENSUS.schema is Door
    assert repr(CONSENSUS) == "<Consensus of Door>"


@pytest.mark.parametrize(
    ("active", "fits"),
    [(0, True), (OPEN | LIGHT, True), (LIGHT, False), (LOCKED | OPEN, False), (LOCKED | BROKEN | ERROR, True)],
)
def test_a_set_fits_if_relations_hold_in_it(active: int, fits: bool) -> None:
    """Each has what it requires, and none removes another."""
    assert CONSENSUS.fits(active) is fits


def test_each_kind_of_mutation_gives_what_is_active_afterwards() -> None:
    """Before the automatic round, which is asked for by itself; None where relations cancel."""
    assert CONSENSUS.add(LOCKED, OPEN) == OPEN
    assert CONSENSUS.add(0, LIGHT) is None
    assert CONSENSUS.remove(OPEN | LIGHT, OPEN) == 0
    assert CONSENSUS.remove(BROKEN, BROKEN) is None
    assert CONSENSUS.set(OPEN | LIGHT | BROKEN, LOCKED) == LOCKED | BROKEN
    assert CONSENSUS.set(0, LIGHT) is None
    assert CONSENSUS.mutate(OPEN, add=BROKEN, remove=OPEN) == BROKEN
    assert CONSENSUS.mutate(OPEN, add=LIGHT, remove=OPEN) is None
    assert CONSENSUS.automatic(OPEN) == OPEN | LIGHT | BELL
    assert CONSENSUS.automatic(OPEN, barred=BELL) == OPEN | LIGHT
    assert CONSENSUS.automatic(LOCKED) == LOCKED


def test_what_is_no_schema_is_refused() -> None:
    """The message says what to pass."""
    with pytest.raises(TypeError, match=r"'Door' is no schema: pass a class that inherits from trsm\.Schema"):
        Consensus("Door")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [64, -1, 1 << 40])
def test_a_number_that_is_no_set_is_refused_also_where_the_rest_was_asked_before(bad: int) -> None:
    """Whatever the question, in words that say how far sets go."""
    asks = [
        lambda: CONSENSUS.states_of(bad),
        lambda: CONSENSUS.fits(bad),
        lambda: CONSENSUS.add(bad, OPEN),
        lambda: CONSENSUS.add(0, bad),
        lambda: CONSENSUS.remove(bad, OPEN),
        lambda: CONSENSUS.remove(0, bad),
        lambda: CONSENSUS.set(bad, OPEN),
        lambda: CONSENSUS.set(0, bad),
        lambda: CONSENSUS.mutate(bad, add=OPEN, remove=0),
        lambda: CONSENSUS.mutate(0, add=bad, remove=0),
        lambda: CONSENSUS.automatic(bad),
        lambda: CONSENSUS.automatic(0, barred=bad),
    ]
    for active in range(63):
        if CONSENSUS.fits(active):
            CONSENSUS.add(active, OPEN)
    for ask in asks:
        with pytest.raises(ValueError, match="is no set of states: Door has 6 states, its sets are 0 to 63"):
            ask()


def test_what_is_no_number_is_refused() -> None:
    """A set is an int, and the message says how to make one."""
    for ask in (CONSENSUS.automatic, CONSENSUS.fits):
        with pytest.raises(ValueError, match=r"frozenset\(\) is no set of states: a set is an int, as Consensus"):
            ask(frozenset())  # type: ignore[arg-type]


def test_a_mutation_of_nothing_is_refused() -> None:
    """As a machine refuses it."""
    for ask in (CONSENSUS.add, CONSENSUS.remove, CONSENSUS.set):
        with pytest.raises(ValueError, match="a mutation of no state means nothing: pass at least one"):
            ask(0, 0)
    with pytest.raises(ValueError, match="a mutation of no state means nothing"):
        CONSENSUS.mutate(0, add=0, remove=0)


def test_a_state_that_is_added_and_removed_is_refused() -> None:
    """By name."""
    with pytest.raises(ValueError, match="mutate: Open cannot be both added and removed: leave one out"):
        CONSENSUS.mutate(0, add=OPEN, remove=OPEN | LOCKED)


def test_what_is_no_state_of_the_schema_is_refused() -> None:
    """As by a machine."""

    class Other(Schema):
        Open = State()

    with pytest.raises(UnknownState, match=r"set_of: Other\.Open is not a state of Door"):
        CONSENSUS.set_of(Other.Open)
    with pytest.raises(MutationError, match=r"set_of: 'Open' is a name, and a state is due: write Door\.Open"):
        CONSENSUS.set_of("Open")  # type: ignore[arg-type]


@given(st.data())
def test_answers_are_those_of_the_model_whatever_was_asked_before_as_a_property(data: st.DataObject) -> None:
    """One `Consensus` is asked of many sets, so that what it remembers of one is used for others."""
    states = data.draw(schemas(2, 5))
    schema = real(states)
    consensus = Consensus(schema)
    names = list(states)

    def mask(some: Names) -> int:
        return consensus.set_of(*(schema[name] for name in some))

    def named(found: int | None) -> Names | None:
        return None if found is None else frozenset(map(str, consensus.states_of(found)))

    some = st.frozensets(st.sampled_from(names), min_size=1, max_size=2)
    questions = data.draw(st.lists(some, min_size=1, max_size=3))
    barred = data.draw(st.frozensets(st.sampled_from(names), max_size=2))
    for number in range(1 << len(names)):
        active = frozenset(name for place, name in enumerate(names) if number >> place & 1)
        assert consensus.fits(mask(active)) == is_valid(states, active)
        if not is_valid(states, active):
            continue
        for called in questions:
            for kind, found in (
                ("add", consensus.add(mask(active), mask(called))),
                ("remove", consensus.remove(mask(active), mask(called))),
                ("set", consensus.set(mask(active), mask(called))),
                ("mutate", consensus.mutate(mask(active), add=mask(called - barred), remove=mask(barred)))
                if called - barred or barred
                else ("add", consensus.add(mask(active), mask(called))),
            ):
                call, drop = (NOTHING, called) if kind == "remove" else (called, NOTHING)
                if kind == "mutate":
                    call, drop = called - barred, barred
                decided = slow.verdict(states, active, kind, call, drop)
                assert named(found) == (decided.target if decided.accepted else None), (kind, active, call, drop)
        for out in (NOTHING, barred):
            decided = slow.verdict(states, active, "auto", barred=out)
            assert named(consensus.automatic(mask(active), barred=mask(out))) == decided.target


@given(st.data())
def test_it_says_what_an_engine_does_as_a_property(data: st.DataObject) -> None:
    """An engine without handlers that is brought to a set ends where consensus and automatic round say."""
    states = data.draw(schemas(2, 6))
    schema = real(states)
    consensus = Consensus(schema)
    active = consensus.set_of(*(schema[name] for name in data.draw(active_sets(states))))
    called = schema[data.draw(st.sampled_from(list(states)))]
    snapshot = dict(trsm.Engine(schema).snapshot())
    engine = trsm.Engine(schema, snapshot=at(snapshot, consensus, active))
    assert consensus.set_of(*engine.active_states) == active
    target = consensus.add(active, consensus.set_of(called))
    assert bool(engine.add(called)) == (target is not None)
    if target is None:
        target = active
    elif target != active or (called.multi and active & consensus.set_of(called)):
        target = consensus.automatic(target)
    assert consensus.set_of(*engine.active_states) == target


def at(snapshot: dict[str, object], consensus: Consensus, active: int) -> dict[str, object]:
    """Return a snapshot in which just these states are active."""
    ticks = {str(state): 0 for state in consensus.schema}
    return snapshot | {"tick": 1, "ticks": ticks | {str(state): 1 for state in consensus.states_of(active)}}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers and questions beyond a bound are forgotten, and are right when they are asked again."""
    monkeypatch.setattr("trsm._core._sets.ANSWERS", 2)
    monkeypatch.setattr("trsm._core._sets.QUESTIONS", 2)
    consensus = Consensus(Door)
    sets = [active for active in range(64) if CONSENSUS.fits(active)]
    for _ in range(2):
        for called in (LOCKED, OPEN, BROKEN):
            for active in sets:
                assert consensus.add(active, called) == CONSENSUS.add(active, called)
                assert len(consensus._questions) <= 2
                assert all(len(question.answers) <= 2 for question in consensus._questions.values())


def test_what_depends_on_every_state_is_not_remembered() -> None:
    """Such an answer would be of use for the very same set only, and sets are many."""

    class Wiped(Schema):
        One = State()
        Two = State()
        All = State(remove=(One, Two, "Error"))

    consensus = Consensus(Wiped)
    assert consensus.add(3, consensus.set_of(Wiped.All)) == consensus.set_of(Wiped.All)
    assert consensus.add(3, consensus.set_of(Wiped.One)) == 3
    assert [len(question.answers) for question in consensus._questions.values()] == [0, 1]
