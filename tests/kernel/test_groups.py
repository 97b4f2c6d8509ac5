"""Groups, tags and the getters of relations."""

from __future__ import annotations

import pytest

import trsm
from trsm import Engine, Group, Schema, SchemaError, State, UnknownState, exclusive


class Link(Schema):
    """States that remove one another, and some that are only named together."""

    Connecting = State(tags="network")
    Connected = State(tags=["network", "good"])
    Gone = State(after="Connected")
    Ready = State(auto=True, require=Connected, tags=("good", "good"))
    link = exclusive(Connecting, Connected, "Gone")
    good = Group(Connected, Ready)
    Alarm = State(remove=good, add=Gone)


def test_the_states_of_an_exclusive_group_remove_one_another() -> None:
    """At most one is active; each call puts out the one before."""
    engine = Engine(Link)
    assert engine.which(Link.link) is None
    for state in Link.link:
        assert engine.add(state).executed
        assert engine.which(Link.link) is state
        assert sum(engine.is_active(one) for one in Link.link) == 1
    assert not engine.add(Link.Connecting, Link.Connected)


def test_a_state_of_an_exclusive_group_may_remove_others_too() -> None:
    """What it removes by itself is added to the others of the group."""

    class Lift(Schema):
        Up = State(remove="Open")
        Down = State()
        Open = State()
        moves = exclusive(Up, Down)

    engine = Engine(Lift)
    engine.add(Lift.Open, Lift.Down)
    assert engine.add(Lift.Up)
    assert engine.active_states == (Lift.Up,)


def test_which_gives_the_first_active_state_in_the_order_of_the_group() -> None:
    """Of a plain group several may be active."""
    engine = Engine(Link)
    engine.add(Link.Connected)
    assert engine.is_active(Link.Ready)
    assert engine.which(Link.good) is Link.Connected


def test_a_group_stands_where_several_states_are_taken() -> None:
    """In a relation of the same class, and unpacked in a call."""
    assert Link.Alarm.relations.remove == (Link.Connected, Link.Ready)
    engine = Engine(Link)
    assert not engine.any_active(*Link.good)


def test_what_a_group_says_of_itself() -> None:
    """Name, states, length, membership by state, heir or name, and a status line."""
    assert Link.link.name == "link"
    assert Link.link.states == (Link.Connecting, Link.Connected, Link.Gone)
    assert Link.link.is_exclusive
    assert not Link.good.is_exclusive
    assert len(Link.good) == 2
    assert Link.Ready in Link.good
    assert "Ready" in Link.good
    assert Link.Gone not in Link.good
    assert "Gone" not in Link.good
    assert repr(Link.link) == "<exclusive Link.link: Connecting Connected Gone>"
    assert repr(Link.good) == "<Group Link.good: Connected Ready>"
    assert Link.groups == (Link.link, Link.good)


def test_an_heir_has_the_groups_of_its_bases() -> None:
    """With its own version of the states; it may declare another group under the name."""

    class Heir(Link):
        Connected = Link.Connected.extend(multi=True)
        Lost = State()

    class Redone(Link):
        Lost = State()
        link = exclusive(Link.Connecting, Lost)

    engine = Engine(Heir)
    engine.add(Heir.Connected)
    assert engine.which(Heir.link) is Heir.Connected
    assert Heir.groups == Link.groups
    assert Redone.groups == (Redone.link, Link.good)
    assert Redone.between(Redone.Connecting, Redone.Lost) == ("remove",)
    assert Redone.between(Redone.Connecting, Redone.Connected) == ()


def test_a_group_before_its_class_is_made() -> None:
    """It has neither name nor states, and says so."""
    group = Group("A")
    assert repr(group) == "<Group ?.?: A>"
    with pytest.raises(SchemaError, match="no name yet: declare it in the body"):
        _ = group.name
    with pytest.raises(SchemaError, match="no states yet: declare it in the body"):
        _ = group.states


def test_groups_that_mean_nothing_are_refused() -> None:
    """Empty, of one where two are due, of what is no state."""
    with pytest.raises(SchemaError, match=r"^a group of no states means nothing: name its states$"):
        Group()
    with pytest.raises(SchemaError, match="an exclusive group of one state excludes nothing: name at least two"):
        exclusive("A")
    with pytest.raises(SchemaError, match="a group holds states or their names, and 3 is neither"):
        Group(3)


def test_groups_that_contradict_their_schema_are_refused() -> None:
    """Typos, foreign states, one twice, names that are taken, one group under two names."""
    with pytest.raises(SchemaError, match=r"X.link holds 'Opn', which is no state of the schema: did you mean 'Open'"):
        Schema.define("X", {"Open": State(), "Shut": State(), "link": exclusive("Opn", "Shut")})
    with pytest.raises(SchemaError, match=r"X.link holds Link.Ready, which is a state of another schema"):
        Schema.define("X", {"Ready": State(), "Shut": State(), "link": exclusive(Link.Ready, "Shut")})
    with pytest.raises(SchemaError, match=r"X.link holds Open twice: leave one out"):
        Schema.define("X", {"Open": State(), "link": Group("Open", "Open")})
    with pytest.raises(SchemaError, match=r"both requires and removes A \(both are in the exclusive group link\)"):
        Schema.define("X", {"A": State(), "B": State(require="A"), "link": exclusive("A", "B")})
    with pytest.raises(SchemaError, match=r"both requires and removes A \(both are in the exclusive group link\)"):
        Schema.define(
            "X",
            {"A": State(), "B": State(require="A"), "both": Group("A", "B"), "link": exclusive("A", "B")},
        )
    with pytest.raises(SchemaError, match="is an attribute of every schema; choose another name"):
        Schema.define("X", {"A": State(), "states": Group("A")})
    with pytest.raises(SchemaError, match="without a leading underscore"):

        class Hidden(Schema):
            A = State()
            _some = Group(A)

    with pytest.raises(SchemaError, match="once more: one group has one name; make another"):
        Schema.define("X", {"A": State(), "again": Link.good})

    class Base(Schema):
        A = State()
        some = Group(A)

    with pytest.raises(SchemaError, match="some is a group and a state: rename one of them"):

        class Heir(Base):
            some = State()


def test_a_group_of_a_refused_class_can_be_declared_again() -> None:
    """What is refused leaves no trace."""
    group = Group("A")
    with pytest.raises(SchemaError):
        Schema.define("X", {"A": State(require="Nowhere"), "some": group})
    assert Schema.define("X", {"A": State(), "some": group}).groups == (group,)


def test_which_takes_a_group_of_the_schema_only() -> None:
    """Anything else is refused, with what to write."""
    engine = Engine(Link)
    with pytest.raises(TypeError, match=r"pass a group, declared as Group\(…\) or exclusive\(…\)"):
        engine.which(Link.Ready)

    class Other(Schema):
        A = State()
        some = Group(A)

    with pytest.raises(UnknownState, match=r"Other\.A is not a state of Link"):
        engine.which(Other.some)


def test_states_are_found_by_their_tags() -> None:
    """All of the tags that are named; `extend` adds tags, `replace` puts others in place."""
    assert Link.tagged("network") == (Link.Connecting, Link.Connected)
    assert Link.tagged("network", "good") == (Link.Connected,)
    assert Link.tagged("nowhere") == ()
    assert Link.Ready.tags == ("good",)

    class Heir(Link):
        Connected = Link.Connected.extend(tags="more")
        Connecting = Link.Connecting.replace(tags=())
        Failed = trsm.ErrorState(catches=OSError, tags="bad")

    assert Heir.Connected.tags == ("network", "good", "more")
    assert Heir.Connecting.tags == ()
    assert Heir.tagged("bad") == (Heir.Failed,)
    with pytest.raises(ValueError, match="names no tag"):
        Link.tagged()
    with pytest.raises(SchemaError, match=r"tags=\[3\]: 3 is no tag"):
        State(tags=[3])
    for declare in (State, State().extend, State().replace):
        with pytest.raises(SchemaError, match=r"tags=3: write a word, or several"):
            declare(tags=3)
    with pytest.raises(SchemaError, match=r"tags=None: write a word, or several"):
        State(tags=None)
    with pytest.raises(SchemaError, match="'' is no tag"):
        State(tags="")


async def test_a_machine_has_the_tags_that_it_was_opened_with() -> None:
    """Each once, in order; one word or several; a child has its own."""
    assert Engine(Link).tags == ()
    assert Engine(Link, tags="edge").tags == ("edge",)
    assert Engine(Link, tags=iter(["b", "a", "b"])).tags == ("b", "a")
    async with trsm.open_machine(Link, tags=["outer"]) as machine:
        assert machine.tags == ("outer",)
        assert machine.start_child(Link).tags == ()
        assert machine.start_child(Link, tags=("inner", "x")).tags == ("inner", "x")
        with pytest.raises(AttributeError):
            machine.tags = ()  # type: ignore[misc]


@pytest.mark.parametrize("door", ["Engine", "open_machine", "start_child"])
async def test_tags_of_a_machine_that_are_no_words_are_refused(door: str) -> None:
    """By whatever opens it, and nothing is opened."""
    async with trsm.open_machine(Link) as machine:
        make = {"Engine": Engine, "open_machine": trsm.open_machine, "start_child": machine.start_child}[door]
        with pytest.raises(TypeError, match=r"tags=3: write a word, or several"):
            make(Link, tags=3)
        with pytest.raises(TypeError, match=r"tags=\['a', 3\]: 3 is no tag: write words"):
            make(Link, tags=["a", 3])
        with pytest.raises(TypeError, match=r"tags='': '' is no tag: write words"):
            make(Link, tags="")
        assert machine.children == ()


def test_relations_can_be_read_from_either_end() -> None:
    """What a state names, what names it, and what lies between two."""
    assert Link.Ready.relations.require == (Link.Connected,)
    assert Link.inbound(Link.Connected).require == (Link.Ready,)
    assert Link.inbound(Link.Connected).remove == (Link.Connecting, Link.Gone, Link.Alarm)
    assert Link.inbound(Link.Connected).after == (Link.Gone,)
    assert Link.relations_of(Link.Alarm).add == (Link.Gone,)
    assert Link.between(Link.Ready, Link.Connected) == ("require",)
    assert Link.between(Link.Gone, Link.Connected) == ("remove", "after")
    assert Link.between(Link.Connected, Link.Ready) == ()
    with pytest.raises(SchemaError, match="no relations yet"):
        _ = State().relations
    with pytest.raises(UnknownState):
        Link.between(Link.Ready, State())
