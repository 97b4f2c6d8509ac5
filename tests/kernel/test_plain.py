"""Schemas as plain data, and the way back."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given

from model import strategies
from model.consensus import States
from trsm import Engine, ErrorState, Group, Schema, SchemaError, State, exclusive


@attrs.frozen
class Job:
    path: str = ""


class Whole(Schema):
    """One of everything."""

    Plain = State()
    Busy = State(multi=True, require=Plain, after="Plain", tags="work", args=Job)
    Done = State(latch=True, remove=Busy)
    Auto = State(auto=True, add=Plain)
    phase = exclusive(Plain, Done)
    some = Group(Auto)
    Failed = ErrorState(catches=(OSError, json.JSONDecodeError), remove=Busy, tags=["bad"])
    Error = Schema.Error.extend(tags="all")


def test_a_schema_with_everything_goes_there_and_back() -> None:
    """Through JSON; what comes back is the same as data, and runs the same."""
    data = json.loads(json.dumps(Whole.to_dict()))
    again = Schema.from_dict(data)
    assert again.to_dict() == Whole.to_dict()
    assert [str(state) for state in again] == [str(state) for state in Whole]
    assert again["Busy"].args is Job
    assert again["Failed"].catches == (OSError, json.JSONDecodeError)
    assert again.groups[0].is_exclusive
    engine = Engine(again)
    engine.add(again["Plain"])
    assert engine.is_active(again["Auto"])


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
    "catches no exception": (
        {"name": "X", "states": {"A": {"catches": ["builtins:int"]}}},
        "catches subclasses of Exception",
    ),
    "an error state with flags": (
        {"name": "X", "states": {"A": {"catches": ["builtins:OSError"], "auto": True}}},
        "an error state has neither flags nor args",
    ),
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
