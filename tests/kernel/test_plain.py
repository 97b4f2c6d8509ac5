"""Schemas as plain data, and the way back."""

from __future__ import annotations

import json
import math

import attrs
import pytest
import trio
from hypothesis import given
from trio.testing import MockClock

import trsm
from model import strategies
from model.consensus import States
from trsm import Engine, ErrorState, Group, Schema, SchemaError, State, exclusive


@attrs.frozen
class Job:
    path: str = ""

    @attrs.frozen
    class Part:
        place: int = 0


class Whole(Schema):
    """One of everything."""

    Plain = State()
    Busy = State(multi=True, require=Plain, after="Plain", tags="work", args=Job)
    Done = State(latch=True, remove=Busy)
    Auto = State(auto=True, add=Plain)
    Brief = State(timeout=2.5, on_timeout=Done)
    Short = State(timeout=1)
    phase = exclusive(Plain, Done)
    some = Group(Auto)
    Failed = ErrorState(catches=(OSError, json.JSONDecodeError), remove=Busy, tags=["bad"], timeout=3, on_timeout=Plain)
    Error = Schema.Error.extend(tags="all")


def test_a_schema_with_everything_goes_there_and_back() -> None:
    """Through JSON; what comes back is the same as data, and runs the same."""
    data = json.loads(json.dumps(Whole.to_dict()))
    again = Schema.from_dict(data)
    assert again.to_dict() == Whole.to_dict()
    assert [str(state) for state in again] == [str(state) for state in Whole]
    assert again["Busy"].args is Job
    assert again["Failed"].catches == (OSError, json.JSONDecodeError)
    assert (again["Brief"].timeout, again["Brief"].on_timeout) == (2.5, again["Done"])
    assert (again["Short"].timeout, again["Short"].on_timeout) == (1, None)
    assert (again["Failed"].timeout, again["Failed"].on_timeout) == (3, again["Plain"])
    assert again["Error"].tags == ("all",)
    assert again["Plain"].timeout is None
    assert again.groups[0].is_exclusive
    assert again._definition.timeouts == Whole._definition.timeouts
    assert again._definition.catches == Whole._definition.catches
    engine = Engine(again)
    engine.add(again["Plain"])
    assert engine.is_active(again["Auto"])


async def test_what_comes_back_runs_its_timeouts(autojump_clock: MockClock) -> None:
    """On a machine, as the schema that was written does."""
    again = Schema.from_dict(json.loads(json.dumps(Whole.to_dict())))
    async with trsm.open_machine(again) as machine:
        machine.add(again["Brief"])
        done = await machine.when(again["Done"])
        assert trio.current_time() == 2.5
        assert again["Brief"] in done.leaving


def test_what_a_state_inherits_is_written_and_the_timeout_that_is_lifted_is_not() -> None:
    """The data says what holds, not how it came to that."""

    class Heir(Whole):
        Brief = Whole.Brief.extend(timeout=math.inf)
        Short = Whole.Short.extend(require=Whole.Plain)

    data = Heir.to_dict()
    assert data["states"]["Brief"] == {}
    assert data["states"]["Short"] == {"require": ["Plain"], "timeout": 1.0}
    assert Schema.from_dict(data).to_dict() == data


def test_error_is_written_only_where_something_was_added_to_it() -> None:
    """Relations, tags and a timeout may be."""

    class Quiet(Schema):
        A = State()
        Error = Schema.Error.extend(remove=A, timeout=5, on_timeout=A)

    data = Quiet.to_dict()
    assert data["states"]["Error"] == {"remove": ["A"], "timeout": 5.0, "on_timeout": "A"}
    again = Schema.from_dict(data)
    assert again.to_dict() == data
    assert again["Error"].relations.remove == (again["A"],)


def test_a_class_inside_a_class_is_found_again() -> None:
    """Its name has a dot."""
    data = Schema.define("X", {"A": State(args=Job.Part)}).to_dict()
    assert data["states"]["A"]["args"].endswith(":Job.Part")
    assert Schema.from_dict(data)["A"].args is Job.Part


def test_a_group_is_exclusive_if_the_data_says_so() -> None:
    """What is not said is false, and a group may hold one state then."""
    data = {
        "name": "X",
        "states": {"A": {}, "B": {}},
        "groups": {"both": {"states": ["A", "B"]}, "one": {"states": ["A"]}},
    }
    again = Schema.from_dict(data)
    assert [group.is_exclusive for group in again.groups] == [False, False]
    assert Engine(again).add(again["A"], again["B"])


def test_what_is_not_said_is_not_written() -> None:
    """A state that says nothing is an empty mapping, and there are no groups."""
    assert Schema.define("X", {"A": State(), "B": State(require="A")}).to_dict() == {
        "name": "X",
        "states": {"A": {}, "B": {"require": ["A"]}},
    }


@given(states=strategies.schemas())
def test_property_any_schema_goes_there_and_back(states: States) -> None:
    """Its data, and the masks that it compiles to."""
    schema = Schema.define("X", {name: State(**form) for name, form in states.items()})
    again = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again.to_dict() == schema.to_dict()
    mine, theirs = again._definition.relations, schema._definition.relations
    for table in ("names", "require", "add", "remove", "after", "auto", "multi", "latch", "entering"):
        assert getattr(mine, table) == getattr(theirs, table)


def test_what_cannot_be_named_cannot_be_written() -> None:
    """A lambda, or a class inside a function, has no module:name that leads back to it."""
    with pytest.raises(SchemaError, match="cannot be named as module:name"):
        Schema.define("X", {"A": State(args=lambda: None)}).to_dict()


A: dict[str, object] = {"name": "X", "states": {"A": {}}}
BAD: dict[str, tuple[object, str]] = {
    "no mapping": ([], r"a schema as data is a mapping of names, and this is \[\]"),
    "no name": ({"states": {}}, "needs a name, a string: None is none"),
    "no states": ({"name": "X"}, "X: states as data is a mapping"),
    "a typo at the top": ({"name": "X", "state": {}}, "'state' means nothing here: did you mean 'states'"),
    "a typo in a state": ({"name": "X", "states": {"A": {"requires": []}}}, "did you mean 'require'"),
    "a key that is no name": ({"name": "X", "states": {3: {}}}, "3 is no name"),
    "a name that is no identifier": ({"name": "X", "states": {"a b": {}}}, "a state's name is an identifier"),
    "a flag": ({"name": "X", "states": {"A": {"auto": 1}}}, "X.A: auto=1 is no bool"),
    "a relation": ({"name": "X", "states": {"A": {"add": "B"}}}, "X.A: add as data is a list of strings"),
    "a target": ({"name": "X", "states": {"A": {"add": ["B"]}}}, "add='B' names no state of the schema"),
    "an args class": ({"name": "X", "states": {"A": {"args": "json"}}}, "'json' is no reference: write module:name"),
    "args unknown": ({"name": "X", "states": {"A": {"args": "json:Nope"}}}, "names nothing that has been imported"),
    "a module unknown": ({"name": "X", "states": {"A": {"args": "no.such:C"}}}, "names nothing that has been imported"),
    "catches no list": ({"name": "X", "states": {"A": {"catches": 3}}}, "catches as data is a list of strings"),
    "catches unknown": (
        {"name": "X", "states": {"A": {"catches": ["json:Nope"]}}},
        "X.A: 'json:Nope' names nothing that has been imported: import its module first",
    ),
    "catches no exception": (
        {"name": "X", "states": {"A": {"catches": ["builtins:int"]}}},
        "catches subclasses of Exception",
    ),
    "an error state with flags": (
        {"name": "X", "states": {"A": {"catches": ["builtins:OSError"], "auto": True}}},
        "an error state has neither flags nor args",
    ),
    "an error state with args": (
        {"name": "X", "states": {"A": {"catches": ["builtins:OSError"], "args": "builtins:str"}}},
        "X.A: an error state has neither flags nor args: leave them out",
    ),
    "a flag of Error": (
        {"name": "X", "states": {"Error": {"auto": True}}},
        "X.Error: auto cannot be said of Error, which every schema has: leave it out",
    ),
    "args of Error": ({"name": "X", "states": {"Error": {"args": "builtins:str"}}}, "X.Error: args cannot be said"),
    "catches of Error": ({"name": "X", "states": {"Error": {"catches": []}}}, "X.Error: catches cannot be said"),
    "a timeout": (
        {"name": "X", "states": {"A": {"timeout": "1"}}},
        "X.A: timeout='1': write a positive number of seconds",
    ),
    "a timeout of an error state": (
        {"name": "X", "states": {"A": {"catches": ["builtins:OSError"], "timeout": 0}}},
        "X.A: timeout=0: write a positive number of seconds",
    ),
    "a timeout of Error": ({"name": "X", "states": {"Error": {"timeout": -1}}}, "X.Error: timeout=-1: write a posi"),
    "what comes after a timeout": (
        {"name": "X", "states": {"A": {"timeout": 1, "on_timeout": 3}}},
        "X.A: on_timeout=3: write a state or its name",
    ),
    "an unknown state after a timeout": (
        {"name": "X", "states": {"A": {"timeout": 1, "on_timeout": "B"}}},
        "on_timeout='B' names no state of the schema",
    ),
    "nothing that would time out": (
        {"name": "X", "states": {"A": {"on_timeout": "B"}, "B": {}}},
        "on_timeout=B without a timeout: write timeout=seconds too",
    ),
    "a tag": ({"name": "X", "states": {"A": {"tags": [""]}}}, "X.A: .*'' is no tag"),
    "a tag that is no string": ({"name": "X", "states": {"A": {"tags": [3]}}}, "X.A: tags as data is a list of str"),
    "a key of a group": ({**A, "groups": {"g": {"states": ["A"], "exclusiv": True}}}, "did you mean 'exclusive'"),
    "a state that is no mapping": ({"name": "X", "states": {"A": []}}, r"X.A as data is a mapping.* this is \[\]"),
    "groups that are no mapping": ({**A, "groups": []}, "X: groups as data is a mapping of names"),
    "a group": ({**A, "groups": {"g": {"states": "A"}}}, "X.g: states as data is a list of strings"),
    "a group's flag": ({**A, "groups": {"g": {"states": ["A"], "exclusive": 1}}}, "exclusive=1 is no bool"),
    "a group's name": ({**A, "groups": {"A": {"states": ["A"]}}}, "X.A is a group and a state: rename one"),
}


@pytest.mark.parametrize("what", list(BAD))
def test_data_of_another_form_is_refused(what: str) -> None:
    """The message says where it is wrong, and what is due."""
    data, message = BAD[what]
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(data)
