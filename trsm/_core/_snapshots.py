"""Snapshots: what a machine is at one moment, as plain data that JSON can carry, and the way back.

A snapshot holds ticks, the instances of args classes that active states were called with, which activations of multi
states have unfinished tasks, what is left of timeouts, and the text of the present error; no handler, no free keyword,
no transition. Whatever is wrong with one is found, and named by its field, before any effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import attrs

from trsm._core._bits import members
from trsm._core._errors import MutationError, RestoredError, SnapshotError, nearest
from trsm._core._records import Record
from trsm._core._schema import Definition, missing_arguments
from trsm._core._state import State
from trsm._core._transition import Transition

VERSION = 1
"""Of the form of snapshots. One of another version is refused."""
FIELDS = ("trsm", "schema", "fingerprint", "tick", "ticks", "args", "activations", "timeouts", "error")

Activated = tuple[dict[int, object], RestoredError | None]
"""What an activation of a multi state came with: its call, if it had arguments, and its error, if that brought it."""


class Restored(Record):
    """A snapshot that was read: everything in the numbers of the schema that it is for."""

    tick: int
    ticks: list[int]
    active: int
    calls: dict[int, object]
    activations: dict[int, list[Activated]]
    """State -> its activations whose tasks are unfinished, in order. Of others the tasks begin with the instance."""
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
    began: Mapping[int, Transition],
    unfinished: Mapping[int, list[Transition]],
    left: Mapping[int, float | None],
    error: Exception | None,
) -> dict[str, object]:
    """Return a snapshot.

    Args:
      definition, tick, ticks, left, error: what it holds.
      began: active state -> the transition that began its instance.
      unfinished: state -> the transitions of its activations whose tasks are unfinished.

    Raises:
      SnapshotError: an instance of an args class cannot be carried by JSON.
    """
    names = definition.relations.names
    args = {number: _args(definition.states[number], transition) for number, transition in began.items()}
    return {
        "trsm": VERSION,
        "schema": definition.name,
        "fingerprint": fingerprint(definition),
        "tick": tick,
        "ticks": dict(zip(names, ticks, strict=True)),
        "args": {names[number]: fields for number, fields in args.items() if fields is not None},
        "activations": {
            names[number]: [_activated(definition, number, transition) for transition in transitions]
            for number, transitions in unfinished.items()
        },
        "timeouts": {names[number]: seconds for number, seconds in left.items()},
        "error": None if error is None else _plain_error(error),
    }


def _args(state: State[..., object], transition: Transition) -> dict[str, object] | None:
    """Return the fields of the args instance that a transition has for a state; None if it has none to be kept."""
    mutation, number = transition._mutation, transition._definition.number(state, "snapshot")
    if mutation is None:
        return None
    if mutation.calls is not None and number in mutation.calls:
        return _fields(state, mutation.calls[number])
    if mutation.defaults is None or number not in mutation.defaults:
        return None
    try:
        return _fields(state, mutation.defaults[number])
    except Exception:  # nobody passed it: whatever its class makes of it, another one can be made
        return None


def _activated(definition: Definition, number: int, transition: Transition) -> dict[str, object] | None:
    """Return what an activation came with: an error state's error, the arguments of another; None for nothing."""
    if definition.errors >> number & 1:
        return None if transition.error is None else _plain_error(transition.error)
    return _args(definition.states[number], transition)


def _plain_error(error: Exception) -> dict[str, object]:
    if isinstance(error, RestoredError):
        return {"type": error.type_name, "text": error.text}
    kind = type(error)
    return {"type": kind.__qualname__ if kind.__module__ == "builtins" else _dotted(kind), "text": str(error)}


def _dotted(kind: type[Exception]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _fields(state: State[..., object], instance: object) -> dict[str, object]:
    """Return the fields of an args instance, made sure that another like it can be made of them."""
    fields = _read_fields(state, instance)
    try:
        made = state(**fields).args
        again = _read_fields(state, made)
    except SnapshotError:
        raise
    except Exception as error:
        raise SnapshotError(f"the arguments of {state} cannot be made again from their fields: {error}") from error
    if again != fields:
        changed = next(name for name in fields if again.get(name) != fields[name])
        raise SnapshotError(
            f"the arguments of {state} do not come back from their fields: {changed} was {fields[changed]!r}, and "
            f"would be {again.get(changed)!r}"
        )
    for name in _made_fields(type(instance)):
        was, would_be = getattr(instance, name, _MISSING), getattr(made, name, _MISSING)
        if was is not would_be and was != would_be:
            raise SnapshotError(
                f"the arguments of {state} do not come back from their fields: {name}, which is no argument "
                f"(init=False), was {was!r}, and would be {would_be!r}: make it an argument, or work it out from those"
            )
    return fields


_MISSING = object()


def _made_fields(kind: type) -> list[str]:
    """Return the fields of an args class that are no arguments of it, but made by it."""
    import dataclasses

    fields = attrs.fields(kind) if attrs.has(kind) else dataclasses.fields(kind)
    return [field.name for field in fields if not field.init]


def _read_fields(state: State[..., object], instance: object) -> dict[str, object]:
    import dataclasses  # not before: few programs need it, and all would wait for it

    kind = type(instance)
    args: object = state.args
    if args is not kind:
        raise SnapshotError(
            f"the arguments of {state} are {instance!r}: a snapshot takes instances of {state}'s own args class alone, "
            "which is an attrs class or a dataclass"
        )
    if attrs.has(kind):
        names = {field.alias or field.name: field.name for field in attrs.fields(kind) if field.init}
    elif dataclasses.is_dataclass(kind):
        names = {field.name: field.name for field in dataclasses.fields(kind) if field.init}
    else:
        raise SnapshotError(
            f"the arguments of {state} are of {kind.__qualname__}, which is neither an attrs class nor a dataclass: "
            "make it one, so that its fields can be told"
        )
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
    if isinstance(data, (str, bytes)):
        raise SnapshotError(
            f"a snapshot is a mapping of names, and {data[:20]!r} begins a text: pass json.loads(…) of it"
        )
    top = _mapping(data, "a snapshot")
    if "trsm" not in top:
        raise SnapshotError("snapshot: 'trsm' is missing: pass what machine.snapshot() returned, all of it")
    version = _whole(top, "trsm")
    if version != VERSION:
        raise SnapshotError(f"snapshot: trsm={version!r}: this version of trsm reads snapshots of form {VERSION}")
    for field in FIELDS:
        if field not in top and field != "activations":  # which snapshots did not have at first
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
    activations = reader.activations(top.get("activations", {}), active, ticks)
    left = reader.left(top["timeouts"], active)
    return Restored(tick, ticks, active, calls, activations, left, reader.error(top["error"], active))


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
            found[number] = self._instance(state, written, f"snapshot: args.{state}")
        for number in members(active):
            state = self.definition.states[number]
            missing = [] if number in found or state.args is None else missing_arguments(state.args)
            if missing:
                raise SnapshotError(f"snapshot: args.{state} is missing: {state} is active, and needs {missing[0]}")
        return found

    def _instance(self, state: State[..., object], written: object, where: str) -> object:
        """Return the args instance of these fields."""
        fields = _mapping(written, where)
        if state.args is None:
            raise SnapshotError(f"{where}: {state} takes no arguments in {self.definition.name}")
        try:
            return state(**fields).args
        except MutationError as error:
            raise SnapshotError(f"{where}: {error}") from None
        except Exception as error:
            raise SnapshotError(f"{where}: its args class refused them: {error!r}") from error

    def activations(self, data: object, active: int, ticks: list[int]) -> dict[int, list[Activated]]:
        found: dict[int, list[Activated]] = {}
        for number, several in self._active(data, "activations", active).items():
            state = self.definition.states[number]
            where = f"snapshot: activations.{state}"
            if not self.definition.relations.multi >> number & 1:
                raise SnapshotError(f"{where}: {state} is not multi in {self.definition.name}, and is activated once")
            if not isinstance(several, list):
                raise SnapshotError(f"{where}={several!r} is no list, with one entry for each activation")
            entries = cast("list[object]", several)
            if len(entries) > (ticks[number] + 1) // 2:
                raise SnapshotError(f"{where}: {len(entries)} activations cannot lead to tick {ticks[number]}")
            found[number] = [self._activated(number, entry, f"{where}[{place}]") for place, entry in enumerate(entries)]
        return found

    def _activated(self, number: int, entry: object, where: str) -> Activated:
        state = self.definition.states[number]
        if entry is None:
            missing = [] if state.args is None else missing_arguments(state.args)
            if missing:
                raise SnapshotError(f"{where} is null: {state} needs {missing[0]}")
            return {}, None
        if self.definition.errors >> number & 1:
            return {}, _restored_error(entry, where)
        return {number: self._instance(state, entry, where)}, None

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
        error = _restored_error(data, "snapshot: error")
        if not active >> self.definition.error & 1:
            raise SnapshotError("snapshot: error: there is one, and Error is inactive, as its tick is even")
        return error


def _restored_error(data: object, where: str) -> RestoredError:
    error = _mapping(data, where)
    name, text = error.get("type"), error.get("text")
    if not isinstance(name, str) or not isinstance(text, str) or len(error) != 2:
        raise SnapshotError(f"{where}={data!r}: it is null, or has a 'type' and a 'text', both strings")
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
