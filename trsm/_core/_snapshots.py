"""Snapshots: what a machine is at one moment, as plain data that JSON can carry, and the way back.

A snapshot holds ticks, the instances of args classes that active states were called with, what is left of timeouts,
and the text of the present error; no handler, no free keyword, no transition. Whatever is wrong with one is found, and
named by its field, before any effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import attrs

from trsm._core._bits import members
from trsm._core._errors import MutationError, RestoredError, SnapshotError, nearest
from trsm._core._schema import Definition, missing_arguments
from trsm._core._state import State

VERSION = 1
"""Of the form of snapshots. One of another version is refused."""
FIELDS = ("trsm", "schema", "fingerprint", "tick", "ticks", "args", "timeouts", "error")


@attrs.frozen(eq=False, repr=False, match_args=False)
class Restored:
    """A snapshot that was read: everything in the numbers of the schema that it is for."""

    tick: int
    ticks: list[int]
    active: int
    calls: dict[int, object]
    left: dict[int, float | None]
    """State -> how many seconds are left of its timeout; None if it is over, and the state stayed. Of those that end at
    the same time the first is the first here."""
    error: RestoredError | None


def fingerprint(definition: Definition) -> str:
    """Return a digest of all that decides how a schema behaves: its names in order, flags, relations and timeouts."""
    relations = definition.relations
    tables = (relations.require, relations.add, relations.remove, relations.after)
    flags = (relations.auto, relations.multi, relations.latch)
    data = [
        [
            name,
            [list(relations.named(table[number])) for table in tables],
            [mask >> number & 1 for mask in flags],
            list(definition.timeouts.get(number, ())),
            _written(definition.states[number].args),
        ]
        for number, name in enumerate(relations.names)
    ]
    catches = [[number, [_written(one) for one in classes]] for number, classes in definition.catches]
    import hashlib  # not before: few programs need it, and all would wait for it
    import json

    return hashlib.sha256(json.dumps([data, catches]).encode()).hexdigest()


def _written(value: object) -> str | None:
    return None if value is None else f"{getattr(value, '__module__', '?')}:{getattr(value, '__qualname__', '?')}"


def broken(definition: Definition, active: int) -> tuple[str, str] | None:
    """Return a state that cannot be active as this set has it, and why; None if the set breaks no relation."""
    relations = definition.relations
    for number in members(active):
        missing = relations.require[number] & ~active
        if missing:
            return relations.names[number], f"requires {relations.names[next(members(missing))]}, which is not"
        others = relations.remove[number] & active
        if others:
            return relations.names[number], f"removes {relations.names[next(members(others))]}, which is too"
    return None


# ---- Taking ---------------------------------------------------------------------------------------------------------


def taken(
    definition: Definition,
    tick: int,
    ticks: list[int],
    calls: Mapping[int, object],
    left: Mapping[int, float | None],
    error: Exception | None,
) -> dict[str, object]:
    """Return a snapshot.

    Raises:
      SnapshotError: an instance of an args class cannot be carried by JSON.
    """
    names = definition.relations.names
    return {
        "trsm": VERSION,
        "schema": definition.name,
        "fingerprint": fingerprint(definition),
        "tick": tick,
        "ticks": dict(zip(names, ticks, strict=True)),
        "args": {names[number]: _fields(definition.states[number], calls[number]) for number in sorted(calls)},
        "timeouts": {names[number]: seconds for number, seconds in left.items()},
        "error": None if error is None else _plain_error(error),
    }


def _plain_error(error: Exception) -> dict[str, object]:
    if isinstance(error, RestoredError):
        return {"type": error.type_name, "text": error.text}
    kind = type(error)
    return {"type": kind.__qualname__ if kind.__module__ == "builtins" else _dotted(kind), "text": str(error)}


def _dotted(kind: type[Exception]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _fields(state: State[..., object], instance: object) -> dict[str, object]:
    """Return the fields of an args instance, made sure that another like it can be made of them."""
    carried, left_out = _field_names(state, instance)
    fields = _read_fields(state, instance, carried)
    try:
        other = state(**fields).args
        again = _read_fields(state, other, carried)
        both = [(name, fields[name], again[name]) for name in fields]
        both += [(name, getattr(instance, name, None), getattr(other, name, None)) for name in left_out]
        changed = [one for one in both if one[1] is not one[2] and one[1] != one[2]]
    except SnapshotError:
        raise
    except Exception as error:
        raise SnapshotError(f"the arguments of {state} cannot be made again from their fields: {error}") from error
    if changed:
        name, was, would_be = changed[0]
        raise SnapshotError(
            f"the arguments of {state} do not come back from their fields: {name} was {was!r}, and would be "
            f"{would_be!r}"
        )
    return fields


def _field_names(state: State[..., object], instance: object) -> tuple[dict[str, str], list[str]]:
    """Return what the args class takes, as it is passed and as it is read, and the fields that it sets by itself."""
    import dataclasses  # not before: few programs need it, and all would wait for it

    kind = type(instance)
    args: object = state.args
    if args is not kind:
        raise SnapshotError(
            f"the arguments of {state} are {instance!r}: a snapshot takes instances of {state}'s own args class alone, "
            "which is an attrs class or a dataclass"
        )
    if attrs.has(kind):
        found = [(field.alias or field.name, field.name, field.init) for field in attrs.fields(kind)]
    elif dataclasses.is_dataclass(kind):
        found = [(field.name, field.name, field.init) for field in dataclasses.fields(kind)]
    else:
        raise SnapshotError(
            f"the arguments of {state} are of {kind.__qualname__}, which is neither an attrs class nor a dataclass: "
            "make it one, so that its fields can be told"
        )
    carried = {key: name for key, name, is_taken in found if is_taken}
    return carried, [name for _, name, is_taken in found if not is_taken]


def _read_fields(state: State[..., object], instance: object, names: Mapping[str, str]) -> dict[str, object]:
    return {key: _plain(getattr(instance, name), f"{state}.{key}") for key, name in names.items()}


def _plain(value: object, where: str) -> object:
    """Return a copy of what JSON gives back as it was: of just these types, and no others that resemble them."""
    kind = type(value)
    if value is None or kind is bool or kind is int or kind is str:
        return value
    if kind is float and math.isfinite(cast("float", value)):
        return value
    try:
        if kind is list:
            return [_plain(one, f"{where}[{place}]") for place, one in enumerate(cast("list[object]", value))]
        if kind is dict:
            pairs = cast("dict[object, object]", value).items()
            if all(type(key) is str for key, _ in pairs):
                return {cast("str", key): _plain(one, f"{where}[{key!r}]") for key, one in pairs}
    except RecursionError:
        raise SnapshotError(f"{where.partition('[')[0]} holds itself, or is nested too deep for JSON") from None
    raise SnapshotError(
        f"{where} is {value!r}, which JSON would not give back as it was: use None, bool, int, a finite float, str, "
        "and lists and dicts of them with names as keys"
    )


# ---- Reading --------------------------------------------------------------------------------------------------------


def read_snapshot(definition: Definition, data: object) -> Restored:
    """Return what a snapshot says, in the numbers of a schema.

    Raises:
      SnapshotError: it is none, it is of another schema and has a state that is not known here, or it contradicts
        itself or the relations; the message names the field.
    """
    top = _mapping(data, "a snapshot")
    if "trsm" not in top:
        raise SnapshotError("snapshot: 'trsm' is missing: pass what machine.snapshot() returned, all of it")
    version = _whole(top, "trsm")
    if version != VERSION:
        raise SnapshotError(f"snapshot: trsm={version!r}: this version of trsm reads snapshots of form {VERSION}")
    for field in FIELDS:
        if field not in top:
            raise SnapshotError(f"snapshot: {field!r} is missing: it was truncated, or made by hand")
    for field in top:
        if field not in FIELDS:
            raise SnapshotError(f"snapshot: {field!r} means nothing: {nearest(field, FIELDS)}")
    for field in ("schema", "fingerprint"):
        if not isinstance(top[field], str):
            raise SnapshotError(f"snapshot: {field}={top[field]!r} is no string")
    is_same = top["fingerprint"] == fingerprint(definition)
    reader = _Reader(definition, is_same, cast("str", top["schema"]))
    tick = _whole(top, "tick")
    ticks = reader.ticks(top["ticks"], tick)
    active = sum(1 << number for number, value in enumerate(ticks) if value & 1)
    reader.check(active, ticks)
    calls = reader.calls(top["args"], active)
    left = reader.left(top["timeouts"], active)
    return Restored(tick, ticks, active, calls, left, reader.error(top["error"], active))


class _Reader:
    """Reads the fields of one snapshot."""

    def __init__(self, definition: Definition, is_same: bool, written_for: str) -> None:
        self.definition = definition
        self.is_same = is_same
        """Whether it was taken of a schema that behaves as this one does."""
        self.written_for = written_for

    def _numbered(self, data: object, field: str) -> dict[int, object]:
        """Return a mapping of names as one of numbers."""
        names = self.definition.relations.names
        found: dict[int, object] = {}
        for name, value in _mapping(data, f"snapshot: {field}").items():
            if name not in names:
                raise SnapshotError(
                    f"snapshot: {field}.{name}: it was taken of {self.written_for}, and {self.definition.name} has no "
                    f"state {name}: {nearest(name, names)}"
                )
            found[names.index(name)] = value
        return found

    def _active(self, data: object, field: str, active: int) -> dict[int, object]:
        found = self._numbered(data, field)
        for number in found:
            if not active >> number & 1:
                name = self.definition.relations.names[number]
                raise SnapshotError(f"snapshot: {field}.{name}: {name} is inactive, as its tick is even")
        return found

    def ticks(self, data: object, tick: int) -> list[int]:
        names = self.definition.relations.names
        found = self._numbered(data, "ticks")
        values = [0] * len(names)
        for number, name in enumerate(names):
            if number not in found:
                if self.is_same:
                    raise SnapshotError(f"snapshot: ticks.{name} is missing: it was truncated, or made by hand")
                continue  # it is new
            value = found[number]
            if type(value) is not int or value < 0:
                raise SnapshotError(f"snapshot: ticks.{name}={value!r} is no tick: it is a whole number, 0 or more")
            if value > 2 * tick:
                raise SnapshotError(
                    f"snapshot: ticks.{name}={value}: {tick} transitions (tick) cannot move a tick that far"
                )
            values[number] = value
        return values

    def check(self, active: int, ticks: list[int]) -> None:
        found = broken(self.definition, active)
        if found is not None:
            name, why = found
            number = self.definition.relations.names.index(name)
            raise SnapshotError(f"snapshot: ticks.{name}={ticks[number]}: {name} is active, and {why}")

    def calls(self, data: object, active: int) -> dict[int, object]:
        found: dict[int, object] = {}
        for number, written in self._active(data, "args", active).items():
            state = self.definition.states[number]
            fields = _mapping(written, f"snapshot: args.{state}")
            if state.args is None:
                raise SnapshotError(f"snapshot: args.{state}: {state} takes no arguments in {self.definition.name}")
            try:
                found[number] = state(**fields).args
            except MutationError as error:
                raise SnapshotError(f"snapshot: args.{state}: {error}") from None
            except Exception as error:
                raise SnapshotError(f"snapshot: args.{state}: its args class refused them: {error!r}") from error
        for number in members(active):
            state = self.definition.states[number]
            missing = [] if number in found or state.args is None else missing_arguments(state.args)
            if missing:
                raise SnapshotError(f"snapshot: args.{state} is missing: {state} is active, and needs {missing[0]}")
        return found

    def left(self, data: object, active: int) -> dict[int, float | None]:
        found: dict[int, float | None] = {}
        for number, value in self._active(data, "timeouts", active).items():
            where = f"snapshot: timeouts.{self.definition.relations.names[number]}={value!r}"
            if value is not None and (type(value) not in (int, float) or not 0 <= cast("float", value) < math.inf):
                raise SnapshotError(f"{where} is no number of seconds, 0 or more, nor null")
            seconds = cast("float | None", value)
            timeout = self.definition.timeouts.get(number, (None, -1))[0]
            if timeout is None or (seconds is not None and seconds > timeout):
                if self.is_same:
                    most = "it has no timeout" if timeout is None else f"its whole timeout is {timeout:g} s"
                    raise SnapshotError(f"{where}: {most}")
                if timeout is None:
                    continue  # it has none any more
                seconds = timeout
            found[number] = seconds
        return found

    def error(self, data: object, active: int) -> RestoredError | None:
        if data is None:
            return None
        error = _mapping(data, "snapshot: error")
        name, text = error.get("type"), error.get("text")
        if not isinstance(name, str) or not isinstance(text, str) or len(error) != 2:
            raise SnapshotError(f"snapshot: error={data!r}: it is null, or has a 'type' and a 'text', both strings")
        if not active >> self.definition.error & 1:
            raise SnapshotError("snapshot: error: there is one, and Error is inactive, as its tick is even")
        return RestoredError(name, text)


def _mapping(data: object, what: str) -> Mapping[str, object]:
    if not isinstance(data, Mapping):
        raise SnapshotError(f"{what} is a mapping of names, and this is {data!r}")
    for key in cast("Mapping[object, object]", data):
        if not isinstance(key, str):
            raise SnapshotError(f"{what} is a mapping of names, and {key!r} is none")
    return cast("Mapping[str, object]", data)


def _whole(data: Mapping[str, object], field: str) -> int:
    value = data[field]
    if type(value) is not int or value < 0:
        raise SnapshotError(f"snapshot: {field}={value!r} is no whole number, 0 or more")
    return value
