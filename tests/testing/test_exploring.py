"""The whole graph of a schema: every set that can be reached, the shortest way to it, and nothing beyond a bound."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trsm
from model.consensus import Names, StateForm, States, is_auto, is_latch, is_multi
from model.graph import Graph
from model.strategies import schemas
from trsm import Consensus, Engine, ErrorState, Group, MutationError, Schema, State, UnknownState, exclusive
from trsm.testing import Exploration, TooManySets, check, explore


class Door(Schema):
    Locked = State(remove="Open")
    Open = State(remove=Locked)
    Light = State(auto=True, require=Open)


def real(states: States) -> type[Schema]:
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


def names(states: object) -> Names:
    return frozenset(map(str, states))  # type: ignore[call-overload]


def groups_of(*sizes: int) -> type[Schema]:
    """Return a schema of exclusive groups, which have nothing to do with one another."""
    members: dict[str, State | Group] = {
        f"S{group}x{number}": State() for group, size in enumerate(sizes) for number in range(size)
    }
    members |= {
        f"G{group}": exclusive(*(f"S{group}x{number}" for number in range(size))) for group, size in enumerate(sizes)
    }
    return Schema.define("Groups", members)


def test_each_reachable_set_is_there_with_a_shortest_path() -> None:
    """Nearest first; what is brought by the automatic round is there, and what is only passed is not."""
    exploration = explore(Door)
    assert list(exploration) == [(), (Door.Locked,), (Door.Open, Door.Light)]
    assert exploration.sets == (0, 1, 6)
    assert len(exploration) == 3
    assert exploration.schema is Door
    assert exploration.limit == 50_000
    assert isinstance(exploration.consensus, Consensus)
    assert [Door.Open, Door.Light] in exploration
    assert [Door.Open] not in exploration
    assert [] in exploration
    assert repr(exploration) == "<Exploration of Door: 3 sets>"
    assert exploration.never_active == ()


def test_a_path_reads_as_a_program() -> None:
    """In one line, in several, and with what is active at its end."""

    class Stairs(Schema):
        Low = State()
        High = State(require=Low)

    path = explore(Stairs).path_to(Stairs.High, Stairs.Low)
    assert path is not None
    assert str(path) == "add(Stairs.Low), add(Stairs.High)"
    assert path.program() == "machine.add(Stairs.Low)\nmachine.add(Stairs.High)"
    assert path.program("stairs") == "stairs.add(Stairs.Low)\nstairs.add(Stairs.High)"
    assert repr(path) == "<Path add(Stairs.Low), add(Stairs.High) -> (Low High)>"
    assert len(path) == len(list(path)) == 2
    assert path.schema is Stairs
    start = explore(Stairs).path_to()
    assert start is not None
    assert (str(start), repr(start), start.program(), len(start)) == ("nothing", "<Path nothing -> ()>", "", 0)


def test_a_path_to_some_states_may_end_with_others_beside_them() -> None:
    """`path_to` is exact, and `path_with` is not; where there is no way, both say None."""
    exploration = explore(Door)
    assert exploration.path_to(Door.Light) is None
    found = exploration.path_with(Door.Light)
    assert found is not None
    assert found.active == (Door.Open, Door.Light)
    assert exploration.path_with(Door.Locked, Door.Open) is None


def test_the_edges_are_all_mutations_that_do_something() -> None:
    """Also what leads back to the same set; what is canceled or asks for what is so already is left out."""

    class Bell(Schema):
        Cord = State()
        Ringing = State(multi=True, require=Cord)

    edges = [(names(one.before), repr(one.mutation), names(one.after)) for one in explore(Bell).edges()]
    nothing, cord, both = frozenset[str](), frozenset({"Cord"}), frozenset({"Cord", "Ringing"})
    assert edges == [
        (nothing, "add(Bell.Cord)", cord),
        (cord, "add(Bell.Ringing)", both),
        (cord, "remove(Bell.Cord)", nothing),
        (both, "add(Bell.Ringing)", both),
        (both, "remove(Bell.Cord)", nothing),
        (both, "remove(Bell.Ringing)", cord),
    ]


def test_states_that_require_one_another_come_together() -> None:
    """No one of them could come alone, and in one mutation they do."""

    class Pair(Schema):
        Left = State(require="Right")
        Right = State(require=Left)
        Third = State(require=Left)

    exploration = explore(Pair)
    assert list(exploration) == [(), (Pair.Left, Pair.Right), (Pair.Left, Pair.Right, Pair.Third)]
    path = exploration.path_with(Pair.Left)
    assert str(path) == "add(Pair.Left, Pair.Right)"


def test_error_is_left_out_where_no_relation_names_it() -> None:
    """It comes and goes beside everything; where something relates to it, it is a state as any."""

    class Plain(Schema):
        One = State()

    class Named(Schema):
        One = State(remove="Error")

    class Extended(Schema):
        One = State()
        Error = Schema.Error.extend(add=One)

    class Caught(Schema):
        One = State()
        ErrRead = ErrorState(catches=OSError)

    assert [len(explore(one)) for one in (Plain, Named, Extended, Caught)] == [2, 3, 4, 6]
    assert explore(Plain).path_with(Plain["Error"]) is None
    assert explore(Schema).never_active == ()
    assert len(explore(Schema)) == 1


def test_what_is_left_out_is_not_added_and_may_still_come() -> None:
    """A state `without` may be brought by relations."""

    class Brought(Schema):
        Bringer = State(add="Guest")
        Guest = State()
        Other = State()

    exploration = explore(Brought, without=[Brought.Guest, Brought.Other])
    assert {names(one) for one in exploration} == {
        frozenset(),
        frozenset({"Bringer", "Guest"}),
        frozenset({"Bringer"}),
        frozenset({"Guest"}),
    }
    assert exploration.never_active == (Brought.Other,)


def test_a_circle_of_require_with_a_state_left_out_is_not_added() -> None:
    """Nobody adds that state, alone or with others."""

    class Pair(Schema):
        Left = State(require="Right")
        Right = State(require=Left)

    assert len(explore(Pair, without=[Pair.Right])) == 1


def test_more_sets_than_the_bound_are_refused_with_what_to_do() -> None:
    """Nothing is sampled; the parts whose sets multiply are named."""

    class Switches(Schema):
        One = State()
        Two = State(require=One)
        Other = State()
        Last = State(add=Other)

    assert len(explore(Switches, limit=12)) == 12
    with pytest.raises(TooManySets) as caught:
        explore(Switches, limit=11)
    assert caught.value.limit == 11
    assert isinstance(caught.value, trsm.TrsmError)
    what, advice, why, *parts = str(caught.value).splitlines()
    assert what.startswith("Switches: more than 11 sets of states are reachable, which is the bound")
    assert what.endswith("nothing was sampled, and nothing is known")
    assert advice.startswith("  pass a higher limit=")
    assert advice.endswith("without=[Switches.…]")
    assert why.startswith("  it has 2 parts that have nothing to do with one another")
    assert why.endswith("look at those:")
    assert parts == ["    One Two", "    Other Last"]
    assert caught.value.parts == ((Switches.One, Switches.Two), (Switches.Other, Switches.Last))


def test_of_many_parts_and_states_the_message_names_some() -> None:
    """And says how many there are besides; the exception has them all."""
    states = {f"S{number}": State() for number in range(200)}
    schema = Schema.define("Free", states | {f"T{number}": State(require="S0") for number in range(20)})
    with pytest.raises(TooManySets) as caught:
        explore(schema, limit=1)
    text = str(caught.value)
    assert "Free: more than 1 set of states is reachable, which" in text
    assert "it has 200 parts that have nothing to do with one another" in text
    listed = ["S0 T0 T1 T2 T3 T4 T5 T6 and 13 more states", "S1", "S2", "S3", "S4", "S5", "S6", "S7"]
    assert text.splitlines()[3:] == [f"    {line}" for line in [*listed, "and 192 more parts"]]
    assert [len(part) for part in caught.value.parts] == [21] + [1] * 199
    assert caught.value.parts[1] == (schema["S1"],)


def test_a_schema_in_one_piece_beyond_the_bound_is_not_said_to_have_parts() -> None:
    """Nor is `Error` a part where it has relations."""

    class Hub(Schema):
        One = State(remove="Error")
        Two = State(add=One)

    with pytest.raises(TooManySets) as caught:
        explore(Hub, limit=2)
    assert "parts" not in str(caught.value)


def test_twenty_free_states_are_refused_rather_than_sampled() -> None:
    """A million sets are beyond the bound that is there if none is given."""
    schema = Schema.define("Free", {f"S{number}": State() for number in range(20)})
    with pytest.raises(TooManySets, match="more than 50,000 sets"):
        explore(schema)


def test_four_exclusive_groups_of_ten_make_14641_sets() -> None:
    """One of eleven cases for each: none of the ten, or one of them."""
    exploration = explore(groups_of(10, 10, 10, 10))
    assert len(exploration) == 11**4
    assert max(map(len, exploration.paths())) == 4


def test_progress_is_told_and_ends_with_all() -> None:
    """From time to time, and at the end: explored and found are then the same."""
    told: list[tuple[int, int]] = []
    explore(groups_of(10, 10, 6), progress=lambda done, found: told.append((done, found)))
    assert [done for done, _ in told] == [500, 847]
    assert told[-1] == (847, 847)
    assert all(done <= found for done, found in told)


def test_bad_input_is_refused_before_anything_is_explored() -> None:
    """In words that say what to write."""
    with pytest.raises(TypeError, match=r"'Door' is no schema: pass a class that inherits from trsm\.Schema"):
        explore("Door")  # type: ignore[arg-type]
    for limit in (0, -1, 1.5, "many", True):
        with pytest.raises(ValueError, match="write how many sets may be reachable, a whole number, 1 or more"):
            explore(Door, limit=limit)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"is one state: write without=\[Door\.Open\]"):
        explore(Door, without=Door.Open)  # type: ignore[arg-type]
    for function in (explore, check):
        written = rf"^{function.__name__}\(Door, without=…\): "
        with pytest.raises(MutationError, match=written + "'Open' is a name"):
            function(Door, without=["Open"])  # type: ignore[list-item]
        with pytest.raises(UnknownState, match=written + r"Groups\.S0x0 is not a state of Door"):
            function(Door, without=[groups_of(1 + 1)["S0x0"]])
        for bad in (3, "Open", None):
            with pytest.raises(TypeError, match=rf"without={bad!r}: pass states, in a list: without=\[Door\.…\]"):
                function(Door, without=bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="progress=3: pass a function, called with two numbers"):
            function(Door, progress=3)  # type: ignore[arg-type]
    exploration = explore(Door)
    with pytest.raises(MutationError, match=r"^path_to: 'Open' is a name"):
        exploration.path_to("Open")  # type: ignore[arg-type]
    with pytest.raises(UnknownState, match=r"^path_with: Groups\.S0x0 is not a state of Door"):
        exploration.path_with(groups_of(2)["S0x0"])
    with pytest.raises(MutationError, match=r"^in exploration: 'Open' is a name"):
        assert ["Open"] in exploration
    for bad in (Door.Open, 6, "Open"):
        with pytest.raises(TypeError, match=r"is no set of states: write \[Door\.…, …\] in exploration"):
            assert bad in explore(Door)


def test_a_path_is_replayed_with_the_arguments_that_its_states_need() -> None:
    """A call stands in wherever its state is added; without it, the machine refuses as it always does."""

    @attrs.frozen
    class Target:
        url: str

    class Fetch(Schema):
        Ready = State()
        Fetching = State(args=Target, require=Ready)

    path = explore(Fetch).path_with(Fetch.Fetching)
    assert path is not None
    seen: list[str] = []

    @Fetch.Fetching.on_enter
    def look(t: trsm.Transition) -> None:
        seen.append(t.args_of(Fetch.Fetching).url)

    engine = Engine(Fetch, look)
    assert [bool(one) for one in path.replay(engine, Fetch.Fetching(url="https://example.org"))] == [True, True]
    assert seen == ["https://example.org"]
    assert engine.active_states == path.active
    with pytest.raises(MutationError, match="url"):
        path.replay(Engine(Fetch))


def test_a_path_is_replayed_on_a_machine_with_calls() -> None:
    """Other things are refused, also where the path has no mutation."""
    for path in explore(Door).paths():
        for bad in (3, Door):
            with pytest.raises(TypeError, match=r"^replay\(.*\): pass a machine or an engine of Door$"):
                path.replay(bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^replay\(…, <State Door.Open>\): pass calls, with the arguments"):
            path.replay(Engine(Door), Door.Open)  # type: ignore[arg-type]


def test_handlers_may_refuse_what_relations_allow() -> None:
    """A path leads elsewhere then, and its results say so."""

    @Door.Open.can_enter
    def never(t: trsm.Transition) -> bool:
        return False

    path = explore(Door).path_with(Door.Open)
    assert path is not None
    engine = Engine(Door, never)
    (result,) = path.replay(engine)
    assert not result
    assert engine.active_states == ()


async def test_paths_lead_a_real_machine_where_they_say() -> None:
    """With its nursery and all: a machine is an engine."""
    for path in explore(Door).paths():
        async with trsm.open_machine(Door) as machine:
            path.replay(machine)
            assert machine.active_states == path.active


def check_paths(exploration: Exploration) -> None:
    for path in exploration.paths():
        engine = Engine(exploration.schema)
        assert all(path.replay(engine)), path
        assert engine.active_states == path.active, path


def test_every_path_of_a_larger_schema_leads_an_engine_where_it_says() -> None:
    """Some hundred of them."""

    class Mixed(Schema):
        Power = State()
        Idle = State(auto=True, require=Power, remove="Busy")
        Busy = State(require=Power, remove=Idle, add="Fan")
        Fan = State(remove="Quiet")
        Quiet = State()
        Beat = State(multi=True, require=Busy)
        Done = State(latch=True)
        ErrHeat = ErrorState(catches=ValueError, remove=Busy)
        Upper = State(require="Lower")
        Lower = State(require=Upper)

    exploration = explore(Mixed)
    assert len(exploration) > 100
    check_paths(exploration)


@given(st.data())
def test_the_graph_is_that_of_the_model_as_a_property(data: st.DataObject) -> None:
    """The same sets, each as few mutations away, the same steps between them; every path is true of an engine."""
    states: dict[str, StateForm] = data.draw(schemas(2, 5))
    graph = Graph(states)
    exploration = explore(real(states))
    assert {names(path.active): len(path) for path in exploration.paths()} == graph.distance
    following: dict[Names, set[Names]] = {active: set() for active in graph.distance}
    for edge in exploration.edges():
        following[names(edge.before)].add(names(edge.after))
    assert following == graph.following
    assert names(exploration.never_active) == graph.never_active
    check_paths(exploration)
