"""What the kernel says: sentences of reasons, status lines, and refusals that are not of a mutation."""

from __future__ import annotations

import pytest

import trsm
from kernel.adapter import compiled
from trsm import Engine, Schema, State
from trsm._core._consensus import Kind, Request
from trsm._core._reasons import Explainer, describe


class Kitchen(Schema):
    """One state of each kind of reason."""

    Gas = State()
    Flame = State(require=Gas)
    Kettle = State(require=Flame, add="Steam")
    Steam = State(remove="Window")
    Window = State(remove=Steam)
    Inspector = State(remove=Flame)
    Grease = State(latch=True)
    Clean = State(remove=Grease)
    Party = State(add=("Music", "Quiet"))
    Music = State(remove="Quiet", add="Dance")
    Quiet = State(remove=Music)
    Dance = State()
    Silent = State(add="Quiet", remove="Music")


def told(active: list[State[[], None]], kind: trsm._core._engine.ExplainKind, *states: State[[], None]) -> str:
    engine = Engine(Kitchen, id="kitchen")
    for state in active:
        assert engine.add(state).executed
    return str(engine.explain(kind, *states))


def test_a_guard_that_stays_is_told_with_its_reason() -> None:
    """Who removes, and why that one stays."""
    text = told([Kitchen.Inspector, Kitchen.Gas], "add", Kitchen.Flame)
    assert "Flame cannot activate: Inspector removes it; Inspector stays, because nothing in this mutation" in text


def test_a_latched_state_is_told_as_such() -> None:
    """It stays until the machine closes, whatever is asked."""
    assert "it is latched, and stays until the machine closes" in told([Kitchen.Grease], "remove", Kitchen.Grease)
    assert "Grease stays, because it is latched" in told([Kitchen.Grease], "add", Kitchen.Clean)


def test_two_called_states_that_exclude_each_other_are_told_from_both_sides() -> None:
    """One removes the other; which of the two is said."""
    text = told([Kitchen.Gas, Kitchen.Flame], "add", Kitchen.Inspector, Kitchen.Flame)
    assert "Flame cannot stay: Inspector is called with it, and removes it" in text
    assert "Inspector cannot activate: Flame is called with it, and Inspector removes Flame" in text


def test_a_missing_requirement_is_told_down_to_its_root() -> None:
    """What is required and inactive, what is removed by this very mutation, and what a set leaves out."""
    assert "it requires Gas, which is inactive, and nothing in this mutation activates Gas" in told(
        [], "add", Kitchen.Flame
    )
    engine = Engine(Kitchen)
    engine.add(Kitchen.Gas)
    text = str(engine.explain("mutate", add=Kitchen.Flame, remove=Kitchen.Gas))
    assert "Flame cannot activate: it requires Gas, which this mutation removes" in text
    text = str(engine.explain("set", Kitchen.Flame))
    assert "Flame cannot activate: it requires Gas, which this mutation does not set" in text


def test_an_option_that_is_left_out_is_told() -> None:
    """It comes with another and loses; what it alone would have brought does not come either."""
    text = told([], "add", Kitchen.Party)
    assert "Quiet cannot activate: Music removes it; Music comes with Party" in text
    text = told([Kitchen.Gas, Kitchen.Flame, Kitchen.Window], "add", Kitchen.Kettle)
    assert "Steam cannot activate: Window removes it" in text
    text = told([Kitchen.Silent], "add", Kitchen.Party)
    assert "Music cannot activate: Quiet removes it; Quiet stays" in text
    assert "Dance cannot activate: nothing that comes brings it" in text


def test_every_kind_of_mutation_is_described() -> None:
    """Those of users as they would be written, the machine's own by what they are."""
    relations = compiled({"A": {}, "B": {"auto": True, "remove": ["A"]}})
    kinds = {
        Request(Kind.ADD, 1): "add(A)",
        Request(Kind.SET, 3): "set(A, B)",
        Request(Kind.REMOVE, 0, 2): "remove(B)",
        Request(Kind.REMOVAL, 0, 1): "remove(A)",
        Request(Kind.MUTATE, 1, 2): "mutate(add=(A), remove=(B))",
        Request(Kind.AUTO): "the automatic round",
        Request(Kind.ERROR, 1, 0, 2): "the error mutation of A and B",
        Request(Kind.CLOSE): "close",
    }
    assert [describe(relations, request) for request in kinds] == list(kinds.values())


def test_the_automatic_round_is_explained_too() -> None:
    """What comes in it comes by itself, and puts out whom it removes."""
    relations = compiled({"A": {"auto": True}, "B": {"auto": True, "remove": ["A"]}})
    text = str(Explainer(relations, 0, Request(Kind.AUTO)).explain())
    assert "A cannot activate: B removes it; B comes by itself" in text


def test_status_lines() -> None:
    """Machines, ticks and states say in one line how they are."""

    class Door(Schema):
        Open = State(multi=True)

    @Door.Error.on_enter
    def handled(t: trsm.Transition) -> None:
        pass

    engine = Engine(Door, handled, id="door")
    assert repr(engine) == "<Engine 'door' ()>"
    assert repr(engine.ticks) == "<Ticks all 0>"
    engine.add(Door.Open)
    engine.add(Door.Open)
    engine.add_error(ValueError())
    assert repr(engine) == "<Engine 'door' (Open:3) [Error:1]>"
    assert repr(engine.ticks) == "<Ticks Open:3 Error:1>"
    assert repr(engine.last_transition) == "<Transition 3 error: +Error>"


def test_a_transition_cannot_be_made_by_hand() -> None:
    """The message says where transitions come from."""
    with pytest.raises(TypeError, match=r"transitions are made by machines: read machine\.last_transition"):
        trsm.Transition()


def test_explain_takes_the_words_of_mutations_only() -> None:
    """A kind that does not exist, and states where they do not belong, are refused before anything is asked."""
    engine = Engine(Kitchen)
    with pytest.raises(trsm.MutationError, match=r"explain\('ad'\): write \"add\", \"remove\""):
        engine.explain("ad", Kitchen.Gas)
    with pytest.raises(trsm.MutationError, match=r"explain\(\"mutate\", …\): write add=… and remove=…"):
        engine.explain("mutate", Kitchen.Gas)
    with pytest.raises(trsm.MutationError, match=r"add=… and remove=… go with \"mutate\" only"):
        engine.explain("add", Kitchen.Gas, remove=Kitchen.Flame)


def test_explain_without_the_arguments_that_a_handler_asks_for_says_what_to_pass() -> None:
    """A negotiation handler reads arguments that nobody gave to `explain`: the message says how to give them."""

    class Fetch(Schema):
        Fetching = State(args=lambda url: url)

    @Fetch.Fetching.can_enter
    def has_url(t: trsm.Transition) -> bool:
        return bool(t.args_of(Fetch.Fetching))

    engine = Engine(Fetch, has_url)
    with pytest.raises(LookupError, match=r"explained without arguments: pass Fetch.Fetching\(…\)"):
        engine.explain("add", Fetch.Fetching)
    assert engine.explain("add", Fetch.Fetching(url="https://…"))
    assert not engine.explain("add", Fetch.Fetching(url=""))
