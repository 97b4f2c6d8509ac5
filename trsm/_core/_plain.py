"""Schemas as plain data: what JSON can carry, and the way back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from trsm._core._errors import SchemaError, nearest
from trsm._core._groups import Group, exclusive
from trsm._core._state import ERROR, ErrorState, State

RELATIONS = ("require", "add", "remove", "after")
FLAGS = ("auto", "multi", "latch")
KEYS = (*FLAGS, *RELATIONS, "tags", "args", "catches", "timeout", "on_timeout")


def plain_schema(name: str, states: Iterable[State[..., object]], groups: Iterable[Group]) -> dict[str, object]:
    """Return a schema as plain data. ``Error`` is written only if something was added to it."""
    written = {str(state): _plain_state(state) for state in states}
    if not written["Error"]:
        del written["Error"]
    data: dict[str, object] = {"name": name, "states": written}
    plain_groups = {
        group.name: {"states": [str(state) for state in group], "exclusive": group.is_exclusive} for group in groups
    }
    if plain_groups:
        data["groups"] = plain_groups
    return data


def _plain_state(state: State[..., object]) -> dict[str, object]:
    properties = state._properties
    is_error = isinstance(state, ErrorState) or state._lineage is ERROR
    found: dict[str, object] = {
        flag: True for flag in FLAGS if getattr(properties, flag) and not (is_error and flag == "multi")
    }
    for relation in RELATIONS:
        names = [str(target) for target in getattr(properties, relation)]
        if names:
            found[relation] = list(dict.fromkeys(names))
    if properties.tags:
        found["tags"] = list(properties.tags)
    if properties.timeout is not None:
        found["timeout"] = properties.timeout
    for target in properties.on_timeout:
        found["on_timeout"] = str(target)
    if state.args is not None:
        found["args"] = _reference(state.args)
    if isinstance(state, ErrorState):
        found["catches"] = [_reference(one) for one in state.catches]
    return found


def _reference(value: object) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or name is None or _find(module, name) is not value:
        raise SchemaError(f"{value!r} cannot be named as module:name, so that plain data could not lead back to it")
    return f"{module}:{name}"


def _find(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def read_schema(data: object, error: State[..., object]) -> tuple[str, dict[str, State[..., object] | Group]]:
    """Return the name and the members of a schema that was written as plain data.

    Raises:
      SchemaError: the data is not of that form; the message says where.
    """
    top = _mapping(data, "a schema", ("name", "states", "groups"))
    name, states = top.get("name"), top.get("states")
    if not isinstance(name, str):
        raise SchemaError(f"a schema as data needs a name, a string: {name!r} is none")
    members: dict[str, State[..., object] | Group] = {}
    for key, written in _mapping(states, f"{name}: states").items():
        members[key] = _read_state(_mapping(written, f"{name}.{key}", KEYS), f"{name}.{key}", key, error)
    for key, written in _mapping(top.get("groups", {}), f"{name}: groups").items():
        where = f"{name}.{key}"
        group = _mapping(written, where, ("states", "exclusive"))
        named = _strings(group.get("states", ()), f"{where}: states")
        is_exclusive = group.get("exclusive", False)
        if not isinstance(is_exclusive, bool):
            raise SchemaError(f"{where}: exclusive={is_exclusive!r} is no bool")
        if key in members:
            raise SchemaError(f"{where} is a group and a state: rename one of them")
        members[key] = exclusive(*named) if is_exclusive else Group(*named)
    return name, members


def _read_state(written: Mapping[str, object], where: str, name: str, error: State[..., object]) -> State[..., object]:
    given: dict[str, object] = {key: _strings(written.get(key, ()), f"{where}: {key}") for key in (*RELATIONS, "tags")}
    timing = {key: written[key] for key in ("timeout", "on_timeout") if key in written}
    if name == "Error":
        for key in (*FLAGS, "args", "catches"):
            if written.get(key, False) is not False:
                raise SchemaError(f"{where}: {key} cannot be said of Error, which every schema has: leave it out")
        return _of(error.extend, given | timing, where)
    for flag in FLAGS:
        given[flag] = written.get(flag, False)
        if not isinstance(given[flag], bool):
            raise SchemaError(f"{where}: {flag}={given[flag]!r} is no bool")
    if "catches" in written:
        if any(given.pop(flag) for flag in FLAGS) or "args" in written:
            raise SchemaError(f"{where}: an error state has neither flags nor args: leave them out")
        given["catches"] = tuple(_resolved(one, where) for one in _strings(written["catches"], f"{where}: catches"))
        return _of(ErrorState, given | timing, where)
    if "args" in written:
        given["args"] = _resolved(written["args"], where)
    return _of(State, given | timing, where)


def _of(make: Callable[..., object], given: dict[str, object], where: str) -> State[..., object]:
    try:
        return cast("State[..., object]", make(**given))
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from None


def _resolved(reference: object, where: str) -> type[object]:
    if not isinstance(reference, str) or reference.count(":") != 1:
        raise SchemaError(f"{where}: {reference!r} is no reference: write module:name")
    found = _find(*reference.split(":"))
    if not callable(found):
        raise SchemaError(f"{where}: {reference!r} names nothing that has been imported: import its module first")
    return cast("type[object]", found)


def _mapping(data: object, where: str, keys: tuple[str, ...] | None = None) -> Mapping[str, object]:
    if not isinstance(data, Mapping):
        raise SchemaError(f"{where} as data is a mapping of names, and this is {data!r}")
    for key in cast("Mapping[object, object]", data):
        if not isinstance(key, str):
            raise SchemaError(f"{where}: {key!r} is no name")
        if keys is not None and key not in keys:
            raise SchemaError(f"{where}: {key!r} means nothing here: {nearest(key, keys)}")
    return cast("Mapping[str, object]", data)


def _strings(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in cast("Iterable[object]", value)):
        return tuple(cast("Iterable[str]", value))
    raise SchemaError(f"{where} as data is a list of strings, and this is {value!r}")
