"""Schema classes: what may be declared, how they inherit, and every contradiction (DESIGN sections 4 and 8)."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import attrs
import pytest

from trsm import Engine, ErrorState, HandlerError, MutationError, Schema, SchemaError, State, Transition, UnknownState


class Door(Schema):
    """Two states that exclude each other, and one that depends."""

    Open = State(remove="Closed")
    Closed = State(remove=Open)
    Locked = State(require=[Closed])


def names(schema: type[Schema]) -> list[str]:
    return [state.name for state in schema]


def related(schema: type[Schema], relation: str) -> dict[str, set[str]]:
    """Return a relation as it was compiled, those that have none left out."""
    relations = schema._definition.relations
    rows = zip(relations.names, getattr(relations, relation), strict=True)
    return {name: set(relations.named(mask)) for name, mask in rows if mask}


def refused(*words: str, **states: object) -> str:
    """Check that a schema with these states is refused with all these words, and return the message."""
    with pytest.raises(SchemaError) as caught:
        Schema.define("Refused", states)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    return message


def refused_class(make: Callable[[], object], *words: str) -> None:
    """The same for a class statement."""
    with pytest.raises(SchemaError) as caught:
        make()
    for word in words:
        assert word in str(caught.value), caught.value


# --- Declarations ----------------------------------------------------------------------------------------------------


def test_a_schema_is_a_collection_of_its_states() -> None:
    """It iterates in declaration order, Error last, has a length, and finds a state by name."""
    assert list(Door) == [Door.Open, Door.Closed, Door.Locked, Door.Error]
    assert list(Door) == list(Door.states)
    assert len(Door) == 4
    assert Door["Open"] is Door.Open
    assert repr(Door) == "<Schema Door>"


def test_asking_a_schema_for_a_state_or_a_name() -> None:
    """Names, its states and states of their lineage are in it; others are not, equal names notwithstanding."""

    class Other(Schema):
        Open = State()

    class Wider(Door):
        Open = Door.Open.extend(multi=True)

    assert "Open" in Door
    assert "Opened" not in Door
    assert Door.Open in Door
    assert Wider.Open in Door
    assert Door.Open in Wider
    assert Other.Open not in Door
    assert State() not in Door
    assert 3 not in Door


def test_a_schema_without_states_has_error() -> None:
    """An empty schema is a schema, and so is the base itself."""

    class Empty(Schema):
        pass

    assert names(Empty) == ["Error"] == names(Schema)
    assert Empty.Error is Schema.Error


def test_relations_by_name_by_state_and_by_several() -> None:
    """A relation takes a state, a name, or an iterable of either, declared before or after."""

    class Forms(Schema):
        A = State(require="D", add=("B",), remove=iter(["C"]), after={"B": None})
        B = State()
        C = State(require=B, add=[B, "D"], after=(name for name in ("A", "B")))
        D = State(remove=())

    assert related(Forms, "require") == {"A": {"D"}, "C": {"B"}}
    assert related(Forms, "add") == {"A": {"B"}, "C": {"B", "D"}}
    assert related(Forms, "remove") == {"A": {"C"}}
    assert related(Forms, "after") == {"A": {"B"}, "C": {"A", "B"}}


def test_a_member_named_twice_counts_once() -> None:
    """By name and by state, it is the same one."""

    class Twice(Schema):
        A = State()
        B = State(require=[A, "A", A])

    assert related(Twice, "require") == {"B": {"A"}}


def test_flags_are_kept_and_default_to_false() -> None:
    """Each of the three has both poles, and they end in the compiled masks."""

    class Flags(Schema):
        Plain = State()
        Auto = State(auto=True)
        Multi = State(multi=True)
        Latch = State(latch=True)

    relations = Flags._definition.relations
    for flag in ("auto", "multi", "latch"):
        on = [state.name for state in Flags if getattr(state, flag)]
        assert on == [flag.capitalize()] + (["Error"] if flag == "multi" else [])
        assert relations.named(getattr(relations, flag)) == tuple(on)


def test_a_cycle_of_require_is_fine() -> None:
    """Such states come and go together."""

    class Together(Schema):
        A = State(require="B")
        B = State(require=A)

    engine = Engine(Together)
    assert not engine.add(Together.A)
    assert engine.add(Together.A, Together.B)
    assert engine.remove(Together.A)
    assert engine.active_states == ()


def test_a_cycle_of_add_and_of_remove_is_fine() -> None:
    """Only `after` needs a first one."""

    class Circles(Schema):
        A = State(add="B")
        B = State(add="A")
        C = State(remove="D")
        D = State(remove="C")

    assert related(Circles, "add") == {"A": {"B"}, "B": {"A"}}


def test_a_docstring_private_helpers_and_dunders_are_no_states() -> None:
    """What begins with an underscore and is no state may stand in the body."""

    class Documented(Schema):
        """Documented."""

        _note = "for readers"
        A: State[[], None] = State()

    assert Documented.__doc__ == "Documented."
    assert Documented._note == "for readers"
    assert names(Documented) == ["A", "Error"]


# --- Refused declarations --------------------------------------------------------------------------------------------


def test_a_body_that_holds_something_else_is_refused() -> None:
    """Constants and functions belong elsewhere."""
    for value in (3, print, Door, None):
        refused_class(
            lambda value=value: type(Schema)("Bad", (Schema,), {"limit": value}),
            f"Bad.limit is {value!r}",
            "holds states and groups of them, and nothing else",
            "limit = State(…)",
        )


@pytest.mark.parametrize("kind", [State, ErrorState])
def test_the_class_instead_of_a_state_is_refused(kind: type) -> None:
    """The parentheses were forgotten."""
    refused_class(
        lambda: type(Schema)("Bad", (Schema,), {"A": kind}),
        f"Bad.A is the class {kind.__name__} itself",
        f"A = {kind.__name__}(…)",
    )


def test_a_private_name_for_a_state_is_refused() -> None:
    """Names have no leading underscore."""
    refused_class(
        lambda: type(Schema)("Bad", (Schema,), {"_A": State()}), "Bad._A", "identifier without a leading underscore"
    )


@pytest.mark.parametrize("name", ["states", "define", "can_change", "on_change", "mro"])
def test_a_name_that_is_an_attribute_of_schema_is_refused(name: str) -> None:
    """It would hide what every schema has."""
    refused(f"Refused.{name}", "is an attribute of every schema", "another name", **{name: State()})


def test_one_state_under_two_names_is_refused() -> None:
    """A state has one name, in one body and across schemas."""
    state = State()
    refused("Refused.B is Refused.A once more", "one state has one name", A=state, B=state)
    refused("Refused.Open is Door.Open once more", "Door.Open.extend(…)", "inherits Door", Open=Door.Open)
    refused_class(lambda: type(Schema)("Wider", (Door,), {"Open": Door.Open}), "Wider.Open is Door.Open once more")


def test_error_declared_anew_is_refused() -> None:
    """It is built in; it can be extended."""
    refused("Refused.Error is built in", "Error = Schema.Error.extend(…)", Error=State(multi=True))
    refused("Refused.Error is built in", Error=ErrorState(catches=OSError))


def test_error_extended() -> None:
    """Relations can be added to Error, which stays the last, and every schema's Error is the same to a machine."""

    class Careful(Schema):
        Error = Schema.Error.extend(add="Alarm", remove="Calm")
        Calm = State()
        Alarm = State()

    assert names(Careful) == ["Calm", "Alarm", "Error"]
    engine = Engine(Careful)
    with pytest.raises(ExceptionGroup):
        engine.add_error(OSError())
    assert engine.is_active(Careful.Error, Careful.Alarm)
    assert Schema.Error in engine
    assert Door.Error in engine


# --- Schema.define ---------------------------------------------------------------------------------------------------


def test_a_schema_from_data() -> None:
    """It is a class like any other, with attributes, and can be inherited and define in turn."""
    light = Schema.define("Light", {"On": State(), "Off": State(remove="On")})
    assert issubclass(light, Schema)
    assert light.__name__ == "Light"
    assert names(light) == ["On", "Off", "Error"]
    assert light.On is light["On"]
    wider = light.define("Wider", {"Dim": State(require="On")})
    assert issubclass(wider, light)
    assert names(wider) == ["On", "Off", "Dim", "Error"]


def test_names_from_data_are_identifiers() -> None:
    """A class body cannot hold others, data can."""
    for name in ("not one", "", "1st", 3, "_Hidden", "__Hidden__"):
        with pytest.raises(SchemaError, match=f"Door2.{name}: a state's name is an identifier without a leading"):
            Schema.define("Door2", {name: State()})
    for name in ("not one", "", 3):
        with pytest.raises(SchemaError, match=f"{re.escape(repr(name))} is no name for a schema: write an identifier"):
            Schema.define(name, {})
    assert names(Schema.define("Letters", {"État": State(), "x1": State(), "class": State()}))[0] == "État"


def test_data_that_holds_something_else_is_refused() -> None:
    """A value that is no state is named with its key."""
    refused("Refused.A is 3: write State(…)", A=3)
    refused("Refused.A is <class", "write State(…)", A=State)


def test_what_was_refused_can_be_declared_again_once_it_is_mended() -> None:
    """A refused schema leaves no mark on its states."""
    states = {"Open": State(), "Closed": State(remove="Opne")}
    with pytest.raises(SchemaError, match="Opne"):
        Schema.define("Gate", states)
    with pytest.raises(SchemaError, match="no name yet"):
        _ = states["Open"].name
    states["Closed"] = State(remove="Open")
    assert names(Schema.define("Gate", states)) == ["Open", "Closed", "Error"]
    with pytest.raises(SchemaError, match="once more"):
        Schema.define("Gate2", states)
    assert states["Open"].qualified_name == "Gate.Open"


# --- Typos -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", ["require", "add", "remove", "after"])
def test_a_relation_to_an_unknown_name(relation: str) -> None:
    """The message names the relation, what was written, and the nearest name."""
    message = refused(Processed=State(), Waiting=State(**{relation: "Procesed"}))
    assert message == f"Refused.Waiting: {relation}='Procesed' names no state of the schema: did you mean 'Processed'?"


def test_a_relation_to_a_name_that_is_like_no_other_lists_all() -> None:
    """Without a near name, what there is is listed, twenty at most."""
    refused("names no state of the schema: known: A, B, Error", A=State(require="Zzzzzz"), B=State())
    many = {f"S{number}": State() for number in range(30)}
    message = refused("known: S0, S1,", **many, Last=State(require="qqqqqqqq"))
    assert message.endswith("S19, …")


def test_an_unknown_attribute_and_an_unknown_name_give_the_nearest() -> None:
    """``X.Foo`` is an AttributeError, ``X["Foo"]`` an UnknownState; both help."""
    with pytest.raises(AttributeError, match=r"^Door has no state 'Opne': did you mean 'Open'\?$"):
        Door.Opne
    with pytest.raises(UnknownState, match=r"^Door has no state 'Opne': did you mean 'Open'\?$"):
        Door["Opne"]
    with pytest.raises(UnknownState, match="known: Open, Closed, Locked, Error"):
        Door["Zzzzzz"]
    with pytest.raises(UnknownState, match="Door has no state 3"):
        Door[3]
    with pytest.raises(AttributeError, match="Door has no state '_hidden': there are none"):
        Door._hidden
    assert not hasattr(Door, "__wrapped__")


# --- Contradictions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", ["require", "add", "remove", "after"])
def test_a_relation_to_oneself(relation: str) -> None:
    """It says nothing, or contradicts itself."""
    refused(f"Refused.A: {relation}= names the state itself: leave it out", A=State(**{relation: "A"}))


def test_a_state_that_both_removes_and_adds() -> None:
    """One of the two has to go."""
    message = refused(A=State(remove="B", add="B"), B=State())
    assert message == "Refused.A: it both adds and removes B: one of the two has to go"


def test_a_state_that_both_removes_and_requires() -> None:
    """One of the two has to go; the first of several in declaration order is named."""
    message = refused(A=State(), B=State(), C=State(remove=["B", "A"], require=("A", "B")))
    assert message == "Refused.C: it both requires and removes A: one of the two has to go"


def test_a_state_that_is_removed_by_what_it_requires_or_adds_is_no_contradiction() -> None:
    """Only the same state's own two relations contradict each other."""
    schema = Schema.define("Fine", {"A": State(require="B", add="C"), "B": State(remove="A"), "C": State(remove="A")})
    assert names(schema)[:3] == ["A", "B", "C"]


def test_a_cycle_of_after() -> None:
    """Two states and three; the whole circle is told, and nothing else."""
    message = refused(A=State(after="B"), B=State(after="A"))
    assert message == "Refused: a circle of after: A after B after A: one of them has to come first"
    refused(
        "B after C after D after B:", A=State(after="B"), B=State(after="C"), C=State(after="D"), D=State(after="B")
    )


def test_a_latch_that_requires_what_is_none() -> None:
    """What it stands on could leave under it."""
    message = refused(A=State(latch=True, require=("B", "C")), B=State(latch=True), C=State())
    assert message == "Refused.A: it is latched and requires C, which is not: C could leave under it; latch both"
    assert Schema.define("Fine", {"A": State(latch=True, require="B"), "B": State(latch=True)}).A.latch
    assert Schema.define("Fine", {"A": State(require="B"), "B": State(latch=True)}).B.latch


def test_a_relation_to_a_state_that_is_declared_nowhere() -> None:
    """A state has to have a name in the body."""
    refused("Refused.A: remove= holds a state that is declared nowhere", "give it a name", A=State(remove=State()))


def test_a_relation_to_a_state_of_another_schema() -> None:
    """It is not there; the way is to inherit."""
    message = refused(A=State(require=Door.Open))
    assert message == (
        "Refused.A: require=Door.Open is a state of another schema: inherit from Door to relate to its states"
    )


# --- Inheritance -----------------------------------------------------------------------------------------------------


class Base(Schema):
    One = State()
    Two = State(remove=One)


class Left(Base):
    Three = State(require=Base.One)


class Right(Base):
    Two = Base.Two.extend(multi=True)
    Four = State(require="Two")


def test_what_is_inherited_comes_first() -> None:
    """Inheriting adds to a schema; names and states of the bases can be related to; Error stays last."""
    assert names(Left) == ["One", "Two", "Three", "Error"]
    assert Left.One is Base.One
    assert related(Left, "require") == {"Three": {"One"}}
    assert names(Base) == ["One", "Two", "Error"]


def test_several_bases_left_to_right_each_state_once() -> None:
    """A diamond has its common states once; an override keeps its place, and wins as Python's attributes do."""

    class Both(Left, Right):
        Five = State()

    class Mirrored(Right, Left):
        pass

    assert names(Both) == ["One", "Two", "Three", "Four", "Five", "Error"]
    assert names(Mirrored) == ["One", "Two", "Four", "Three", "Error"]
    assert Both["Two"] is Both.Two is Right.Two
    assert Mirrored["Two"] is Mirrored.Two is Right.Two
    assert Both.Two.multi


def test_two_unrelated_bases_side_by_side() -> None:
    """Their states stand one after the other."""

    class Both(Door, Base):
        pass

    assert names(Both) == ["Open", "Closed", "Locked", "One", "Two", "Error"]


def test_an_override_keeps_its_place() -> None:
    """Extended, replaced or declared anew, the order is that of the base."""

    class Extended(Base):
        Zero = State()
        One = Base.One.extend(auto=True)

    class Anew(Base):
        One = State(latch=True)

    assert names(Extended) == ["One", "Two", "Zero", "Error"]
    assert Extended.One.auto
    assert not Base.One.auto
    assert names(Anew) == ["One", "Two", "Error"]
    assert Anew.One.latch


def test_relations_of_a_base_follow_its_overrides() -> None:
    """Whether written by name or by state, a relation means the state of that name in the present schema."""

    class Anew(Base):
        One = State()

    engine = Engine(Anew)
    engine.add(Anew.One)
    engine.add(Anew.Two)
    assert engine.active_states == (Anew.Two,)


def test_a_base_is_checked_again_with_what_was_added() -> None:
    """A contradiction that only the subclass makes is found there."""
    refused_class(
        lambda: type(Schema)("Wider", (Base,), {"Two": Base.Two.extend(require=Base.One)}),
        "Wider.Two: it both requires and removes One",
    )
    refused_class(
        lambda: type(Schema)("Wider", (Base,), {"One": State(after="Two"), "Two": State(after="One")}),
        "circle of after: One after Two after One",
    )


def test_two_unrelated_bases_with_one_name() -> None:
    """Refused, unless redefined; then it stands where it first stood."""

    class Window(Schema):
        Pane = State()
        Open = State()

    refused_class(
        lambda: type(Schema)("Both", (Door, Window), {}),
        "Both inherits two states called Open, Door.Open and Window.Open",
        "nothing to do with each other",
        "declare Open in Both anew, or rename",
    )

    class Anew(Door, Window):
        Open = State()

    class Chosen(Door, Window):
        Open = Window.Open.extend(auto=True)

    assert names(Anew) == names(Chosen) == ["Open", "Closed", "Locked", "Pane", "Error"]
    assert related(Anew, "remove") == {"Closed": {"Open"}}
    engine = Engine(Chosen)
    assert engine.is_inactive(Window.Open)
    with pytest.raises(UnknownState, match=r"Chosen has a Open of its own"):
        engine.is_inactive(Door.Open)


def test_one_base_that_declares_anew_what_another_inherits() -> None:
    """It redefines the state, as the method resolution order says, whichever of the two stands first."""

    class Anew(Base):
        One = State()

    class After(Left, Anew):
        pass

    class Before(Anew, Left):
        pass

    assert After.One is After["One"] is Before.One is Before["One"] is Anew.One
    assert names(After) == names(Before) == ["One", "Two", "Three", "Error"]


def test_one_base_declares_anew_what_another_extends() -> None:
    """Neither of the two redefines the other, whichever stands first."""

    class Anew(Base):
        Two = State()

    refused_class(lambda: type(Schema)("Both", (Right, Anew), {}), "two states called Two, Right.Two and Anew.Two")
    refused_class(lambda: type(Schema)("Both", (Anew, Right), {}), "two states called Two, Anew.Two and Right.Two")


def test_a_base_that_is_no_schema_is_refused() -> None:
    """What it holds would hide states, or be hidden."""

    class Mixin:
        Open = 3

    for bases in ((Mixin, Door), (Door, Mixin)):
        refused_class(
            lambda bases=bases: type(Schema)("Bad", bases, {}),
            "Bad inherits from Mixin, which is no schema",
            "class of handlers",
        )
    assert names(type(Schema)("Fine", (Schema, object), {})) == ["Error"]


# --- Lineage ---------------------------------------------------------------------------------------------------------


def test_extend_adds_relations_and_replaces_flags() -> None:
    """Relations that are given join; flags that are given replace; what is not given stays, False included."""

    class First(Schema):
        A = State(auto=True, latch=True, require="B", add="C", remove="D", after="B")
        B = State(latch=True)
        C = State()
        D = State()

    class Second(First):
        A = First.A.extend(auto=False, multi=True, require="E", add="D2", remove="F", after="C")
        E = State(latch=True)
        D2 = State()
        F = State()

    assert (Second.A.auto, Second.A.multi, Second.A.latch) == (False, True, True)
    assert related(Second, "require")["A"] == {"B", "E"}
    assert related(Second, "add")["A"] == {"C", "D2"}
    assert related(Second, "remove")["A"] == {"D", "F"}
    assert related(Second, "after")["A"] == {"B", "C"}
    assert related(First, "require")["A"] == {"B"}


def test_replace_puts_relations_in_place_of_those_there() -> None:
    """A relation that is given replaces, an empty one clears, one that is not given stays."""

    class First(Schema):
        A = State(multi=True, require="B", add="C", remove="D", after="B")
        B = State()
        C = State()
        D = State()

    class Second(First):
        A = First.A.replace(multi=False, latch=False, auto=True, require=(), add="D", remove="C")

    class Third(First):
        A = First.A.replace(after=[])

    assert (Second.A.auto, Second.A.multi, Second.A.latch) == (True, False, False)
    assert "A" not in related(Second, "require")
    assert related(Second, "add")["A"] == {"D"}
    assert related(Second, "remove")["A"] == {"C"}
    assert related(Second, "after")["A"] == {"B"}
    assert related(Third, "require")["A"] == {"B"}
    assert related(Third, "add")["A"] == {"C"}
    assert related(Third, "remove")["A"] == {"D"}
    assert "A" not in related(Third, "after")
    assert Third.A.multi


def test_a_state_of_the_same_lineage_is_the_same_to_a_machine() -> None:
    """Base's, own and a sibling's: all of them mean the state of that name, in mutations, questions and handlers."""

    class Own(Base):
        One = Base.One.extend(multi=True)

    class Deeper(Own):
        One = Own.One.replace(multi=False)

    class Sibling(Base):
        One = Base.One.extend(auto=True)

    seen: list[str] = []

    @Sibling.One.on_enter
    def on_sibling(t: Transition) -> None:
        seen.append("sibling")

    @Base.One.on_enter
    def on_base(t: Transition) -> None:
        seen.append("base")

    engine = Engine(Own, on_sibling, on_base)
    for state in (Base.One, Own.One, Deeper.One, Sibling.One):
        seen.clear()
        assert engine.add(state)
        assert engine.is_active(state)
        assert engine.tick(state) == engine.ticks[state] == engine.tick(Own.One)
        assert engine.active_states == (Own.One,)
        assert seen == ["sibling", "base"]
        assert engine.remove(state)
    # Called by two of its names, it is one state.
    assert engine.add(Base.One, Own.One, Sibling.One)
    assert engine.active_states == (Own.One,)


def test_an_equal_name_of_another_lineage_is_unknown() -> None:
    """A state belongs to the schema that declares it and to those that inherit it."""

    class Anew(Base):
        One = State()

    engine = Engine(Anew)
    with pytest.raises(UnknownState) as caught:
        engine.add(Base.One)
    assert str(caught.value) == (
        "add: Base.One is not a state of Anew: Anew has a One of its own, and equal names make them no one: "
        "write Anew.One"
    )
    with pytest.raises(UnknownState, match=r"remove: Door.Open is not a state of Anew: known: One, Two, Error"):
        engine.remove(Door.Open)
    with pytest.raises(UnknownState, match=r"\?\.\? is not a state of Anew"):
        engine.add(State())
    with pytest.raises(UnknownState, match="One"):
        Engine(Base).add(Anew.One)
    assert engine.active_states == ()


def test_a_state_of_a_subclass_alone_is_unknown_to_the_base() -> None:
    """What is not there cannot be added, and the nearest name helps."""

    class Wider(Base):
        Twos = State()

    with pytest.raises(UnknownState, match=r"Wider.Twos is not a state of Base: did you mean 'Two'\?"):
        Engine(Base).add(Wider.Twos)


def test_a_state_is_extended_under_its_own_name_by_an_heir() -> None:
    """Another name, another schema, and one's own body are refused."""
    refused_class(
        lambda: type(Schema)("Wider", (Base,), {"Uno": Base.One.extend()}),
        "Wider.Uno is made from Base.One",
        "under its own name, in a class that inherits Base",
    )
    refused_class(
        lambda: type(Schema)("Wider", (Base,), {"Two": Base.One.replace()}), "Wider.Two is made from Base.One"
    )
    refused("Refused.One is made from Base.One", "in a class that inherits Base", One=Base.One.extend())
    state = State()
    refused("Refused.B is made from Refused.A", "under its own name", A=state, B=state.extend())


def test_a_state_extended_before_it_was_declared_is_refused() -> None:
    """All of it can be said at once."""
    refused("Refused.A is made from a state that is declared nowhere", "A = State(…)", A=State().extend(auto=True))


def test_an_extended_state_whose_place_another_has_taken_is_refused() -> None:
    """A base has declared the name anew: the message says which."""

    class Anew(Base):
        One = State()

    refused_class(
        lambda: type(Schema)("Last", (Anew,), {"One": Base.One.extend(auto=True)}),
        "Last.One is made from Base.One, whose place Anew.One has taken",
        "write Anew.One.extend(…), or declare One anew",
    )


# --- Error states ----------------------------------------------------------------------------------------------------


class Failing(Schema):
    Ready = State(remove="ErrDisk")
    Calm = State()
    ErrDisk = ErrorState(catches=OSError)
    ErrNet = ErrorState(catches=(ConnectionError, TimeoutError), remove=Calm)


def test_an_error_state_is_multi_and_requires_and_adds_error() -> None:
    """Nobody has to write it."""
    assert Failing.ErrDisk.multi
    assert Failing.Error.multi
    assert related(Failing, "require") == {"ErrDisk": {"Error"}, "ErrNet": {"Error"}}
    assert related(Failing, "add") == {"ErrDisk": {"Error"}, "ErrNet": {"Error"}}


def test_what_removes_an_error_state_is_removed_by_it() -> None:
    """The relation is made mutual, and only that way round."""
    assert related(Failing, "remove") == {"Ready": {"ErrDisk"}, "ErrDisk": {"Ready"}, "ErrNet": {"Calm"}}


def test_what_removes_error_is_removed_by_it() -> None:
    """The built-in one too; and two error states exclude each other both ways."""

    class Off(Schema):
        Healthy = State(remove="Error")
        ErrA = ErrorState(catches=KeyError)
        ErrB = ErrorState(catches=IndexError, remove="ErrA")

    assert related(Off, "remove") == {"Healthy": {"Error"}, "Error": {"Healthy"}, "ErrA": {"ErrB"}, "ErrB": {"ErrA"}}
    engine = Engine(Off)
    engine.add(Off.Healthy)
    engine.add_error(KeyError())
    assert engine.active_states == (Off.ErrA, Off.Error)


def test_an_error_state_keeps_what_it_catches_when_it_is_extended() -> None:
    """`extend` and `replace` give an error state."""

    class Wider(Failing):
        ErrDisk = Failing.ErrDisk.extend(remove="Calm")
        ErrNet = Failing.ErrNet.replace(remove=())

    assert isinstance(Wider.ErrDisk, ErrorState)
    assert Wider.ErrDisk.catches == (OSError,)
    assert Wider.ErrNet.catches == (ConnectionError, TimeoutError)
    assert Failing.ErrDisk in Wider
    assert related(Wider, "remove") == {"Ready": {"ErrDisk"}, "ErrDisk": {"Ready", "Calm"}}


@pytest.mark.parametrize("flags", [{"auto": True}, {"latch": True}, {"multi": False}])
def test_an_error_state_is_neither_auto_nor_latch_and_always_multi(flags: dict[str, bool]) -> None:
    """It comes with an error and may come again; Error too."""
    words = "an error state comes with an error and may come again: it is multi, and neither auto nor latch"
    refused_class(
        lambda: type(Schema)("Bad", (Failing,), {"ErrDisk": Failing.ErrDisk.extend(**flags)}), "Bad.ErrDisk:", words
    )
    refused("Refused.Error:", words, Error=Schema.Error.replace(**flags))


def test_error_requires_nothing() -> None:
    """An error comes whatever is active."""
    refused(
        "Refused.Error: Error requires A and B: an error comes whatever is active",
        Error=Schema.Error.extend(require=["A", "B"]),
        A=State(),
        B=State(),
    )


def test_an_error_state_that_removes_a_latch_is_refused() -> None:
    """What never leaves would keep the error out."""
    message = refused(Done=State(latch=True), Err=ErrorState(catches=OSError, remove="Done"))
    assert message == ("Refused.Err: it removes Done, which is latched and never leaves: the error could not come")


def test_a_latch_that_removes_an_error_state_is_refused() -> None:
    """Nothing refuses an error."""
    message = refused(Done=State(latch=True, remove="Err"), Err=ErrorState(catches=OSError))
    assert message == "Refused.Done: it is latched and removes the error state Err: nothing refuses an error"
    refused("removes the error state Error", Done=State(latch=True, remove="Error"))


def test_an_error_state_that_removes_error_is_refused() -> None:
    """It requires it."""
    refused(
        "Refused.Err: it both requires and removes Error: one of the two has to go",
        Err=ErrorState(catches=OSError, remove="Error"),
    )


def test_a_contradiction_that_comes_from_a_mutual_relation_says_so() -> None:
    """An error state adds what removes it: the one relation was written elsewhere."""
    message = refused(Ready=State(remove="Err"), Err=ErrorState(catches=OSError, add="Ready"))
    assert message == (
        "Refused.Err: it both adds and removes Ready (because Ready removes it, and it is an error state): "
        "one of the two has to go"
    )


def test_a_written_contradiction_does_not_blame_a_mutual_one() -> None:
    """Of two contradictions the first is told, and whether it was written is judged by that one."""
    refused(
        "both adds and removes Ready (because Ready removes it",
        Ready=State(remove="Err"),
        Other=State(),
        Err=ErrorState(catches=OSError, add=["Ready", "Other"], remove="Other"),
    )
    message = refused(
        Other=State(),
        Ready=State(remove="Err"),
        Err=ErrorState(catches=OSError, add=["Ready", "Other"], remove="Other"),
    )
    assert message == "Refused.Err: it both adds and removes Other: one of the two has to go"


@pytest.mark.parametrize("wrong", [KeyboardInterrupt, BaseException, OSError(), "OSError", None, 3, int])
def test_catching_what_is_no_exception_class_is_refused(wrong: object) -> None:
    """Alone and in a tuple."""
    for catches in (wrong, (OSError, wrong)):
        with pytest.raises(SchemaError) as caught:
            ErrorState(catches=catches)
        assert str(caught.value) == f"catches={wrong!r}: an error state catches subclasses of Exception, and only those"


def test_catching_nothing_or_a_group_is_refused() -> None:
    """Groups are split, so that their members are matched."""
    with pytest.raises(
        SchemaError, match=r"^catches=\(\) matches nothing: write the exceptions that this state stands for$"
    ):
        ErrorState(catches=())
    with pytest.raises(SchemaError, match=r"catches=ExceptionGroup: a group is split and its members are matched"):
        ErrorState(catches=(OSError, ExceptionGroup))
    assert ErrorState(catches=Exception).catches == (Exception,)


# --- Arguments and what is implied -----------------------------------------------------------------------------------


@attrs.frozen
class Url:
    url: str
    retries: int = 3


@dataclass
class Size:
    width: int
    height: int


def required_by_function(*, first: str, scope: str, note: str = "") -> tuple[str, str, str]:
    return first, scope, note


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        (Url, "url"),
        (Size, "width and height"),
        (required_by_function, "first and scope"),
        (lambda a, /, b, c, *rest, d, **more: None, "a, b, c and d"),
        (range, "its arguments"),
    ],
)
def test_required_fields_of_an_auto_or_implied_state_are_refused(args: Callable[..., object], fields: str) -> None:
    """Nobody could pass them; the fields are named."""
    message = refused(A=State(auto=True, args=args))
    assert message == (f"Refused.A: it is auto, so that nobody could pass {fields}: give {fields} a default")
    message = refused(A=State(args=args), B=State(add="A"))
    assert message == (f"Refused.A: another state adds it, so that nobody could pass {fields}: give {fields} a default")


@pytest.mark.parametrize("args", [int, dict, lambda *rest, **more: None, attrs.make_class("Free", {})])
def test_states_whose_arguments_all_have_defaults_may_be_auto_and_implied(args: Callable[..., object]) -> None:
    """Nothing has to be passed."""
    schema = Schema.define("Fine", {"A": State(auto=True, args=args), "B": State(add="A")})
    assert schema.A.args is args


def test_required_fields_are_fine_where_the_state_is_only_called() -> None:
    """Also required or removed by others."""
    schema = Schema.define("Fine", {"A": State(args=Url), "B": State(require="A"), "C": State(remove="A")})
    with pytest.raises(MutationError, match="A needs url"):
        Engine(schema).add(schema.A)


# --- Frozen once made ------------------------------------------------------------------------------------------------


class Shelf(Schema):
    """Of this module, so that pickle finds it."""

    Full = State()


class Rack(Shelf):
    Full = Shelf.Full.extend(latch=True)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
@pytest.mark.parametrize("state", [Shelf.Full, Rack.Full, Rack.Error])
def test_a_copied_state_is_the_state(copied: Callable[[object], object], state: object) -> None:
    """Whatever holds states can be copied and pickled; a state is known by its schema and its name."""
    assert copied(state) is state
    assert copied([state]) == [state]


def test_a_state_of_no_schema_cannot_be_pickled() -> None:
    """Nobody would find it again."""
    with pytest.raises(SchemaError, match="no name yet: declare it in the body of a Schema class"):
        pickle.dumps(State())


def test_a_schema_is_frozen() -> None:
    """Nothing can be set or deleted, be it a state, something new, or what it is compiled to."""
    for name in ("Open", "New", "states", "_definition", "_hidden", "__private"):
        with pytest.raises(SchemaError, match=f"Door.{name} cannot be set: a schema is frozen once made; inherit"):
            setattr(Door, name, State())
    for name in ("Open", "New", "_definition", "__doc__"):
        with pytest.raises(SchemaError, match=f"Door.{name} cannot be deleted: a schema is frozen once made"):
            delattr(Door, name)
    assert names(Door) == ["Open", "Closed", "Locked", "Error"]


def test_pythons_own_attributes_of_a_schema_can_be_set() -> None:
    """Tools rename classes and fill in their docstrings."""
    schema = Schema.define("Renamed", {"A": State()})
    schema.__doc__ = "Said later."
    schema.__module__ = "elsewhere"
    assert (schema.__doc__, schema.__module__) == ("Said later.", "elsewhere")


def test_a_schema_has_no_instances() -> None:
    """Machines are opened on it."""
    with pytest.raises(SchemaError, match=r"Door is a schema and has no instances: .*open_machine\(Door\)"):
        Door()
    with pytest.raises(SchemaError, match="no instances"):
        Schema(1, a=2)


# --- Memory ----------------------------------------------------------------------------------------------------------


def collected(make: Callable[[], type[Schema]]) -> bool:
    """Return whether the schema that `make` returns is gone once nobody holds it."""
    gone = weakref.ref(make())
    gc.collect()
    return gone() is None


def test_a_schema_that_was_dropped_is_collected() -> None:
    """Whether it was just made, or used by a machine with handlers that refer to their class in every way."""

    def plain() -> type[Schema]:
        return Schema.define("Dropped", {"A": State(), "B": State(remove="A")})

    def used() -> type[Schema]:
        class Dropped(Base):
            One = Base.One.extend(multi=True)
            Err = ErrorState(catches=OSError)

        class Handlers:
            @Dropped.One.on_enter
            def enter(self, t: Transition) -> None:
                super().__init__()

            @Dropped.One.on_exit
            @classmethod
            def leave(cls, t: Transition) -> None: ...

            @Dropped.on_change
            @staticmethod
            def change(t: Transition) -> None: ...

        engine = Engine(Dropped, Handlers())
        engine.add(Dropped.One, Base.Two)
        engine.set(Base.One)
        engine.explain("add", Dropped.Two)
        return Dropped

    assert collected(plain)
    assert collected(used)


def test_a_machine_of_the_base_does_not_keep_alive_who_inherits() -> None:
    """Its states were called by their heir's, asked for, and had handlers hung on them: no cache holds the heir."""

    def used() -> type[Schema]:
        class Dropped(Base):
            One = Base.One.extend(multi=True)

        class Handlers:
            @Dropped.One.on_enter
            def enter(self, t: Transition) -> None: ...

            @Base.Two.can_enter(given=Dropped.One)
            def may(self, t: Transition) -> bool:
                return True

        engine = Engine(Base, Handlers())
        for _ in range(2):
            engine.add(Dropped.One)
            engine.toggle(Dropped.One)
            engine.mutate(add=Dropped.One)
            engine.remove(Dropped.One)
        assert engine.is_inactive(Dropped.One)
        return Dropped

    assert collected(used)


def test_what_was_refused_is_collected() -> None:
    """Its states do not hold the class that was never made."""
    state = State()
    with pytest.raises(SchemaError):
        Schema.define("Refused", {"A": state, "B": State(require="Nobody")})
    gc.collect()
    assert [one for one in Schema.__subclasses__() if one.__name__ == "Refused"] == []


# --- Requests are remembered, and bounded -----------------------------------------------------------------------------


def test_equal_requests_are_one_object_until_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are kept under a request's identity; a full memory starts afresh and gives the same answers."""
    monkeypatch.setattr("trsm._core._schema.REQUESTS", 3)
    schema = Schema.define("Many", {f"S{number}": State() for number in range(6)})
    engine = Engine(schema)
    for _ in range(2):
        for state in schema.states[:6]:
            # A mutation with arguments goes past what is remembered of plain ones.
            assert engine.add(state, note=1)
            assert engine.is_active(state)
            assert len(schema._definition.requests) <= 3
        assert engine.remove(*schema.states[:6])
    first = schema._definition.request(1, 1)
    assert schema._definition.request(1, 1) is first


def test_an_engine_takes_a_schema_only() -> None:
    """Neither a state nor an ordinary class nor an instance."""
    for wrong in (Door.Open, int, "Door", None):
        with pytest.raises(TypeError, match=r"is no schema: pass a class that inherits from trsm\.Schema"):
            Engine(wrong)


def test_schema_changes_decorators_refuse_the_wrong_colour() -> None:
    """As those of states do, and say which schema they were written on."""

    async def later(t: Transition) -> None: ...

    with pytest.raises(HandlerError, match=r"@Door\.on_change: .*later is async, on_change is sync"):
        Door.on_change(later)
    with pytest.raises(HandlerError, match=r"@Door\.can_change: .*later is async, can_change is sync"):
        Door.can_change(later)
