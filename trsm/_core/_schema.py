"""Schemas: classes of states, compiled once and checked for contradictions while the class is made (DESIGN 4 and 8)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

from trsm._core._arguments import signature_of
from trsm._core._bits import members, transpose, union
from trsm._core._consensus import Kind, Request
from trsm._core._errors import MutationError, SchemaError, UnknownState, listed, nearest
from trsm._core._groups import Group
from trsm._core._order import cycle
from trsm._core._plain import plain_schema, read_schema
from trsm._core._records import Record
from trsm._core._relations import Relations
from trsm._core._state import (
    ERROR,
    LEFT_OUT,
    Call,
    ErrorState,
    Final,
    Mark,
    Negotiation,
    Properties,
    State,
    StateRelations,
    hang,
)

REQUESTS = 4096
"""How many different mutations of one schema are remembered before the memory is cleared."""


class Definition(Record):
    """What a schema class compiles to. States carry no index: each schema has its own table."""

    name: str
    family: tuple[type, ...]
    """The schema and all that it inherits, in method resolution order."""
    states: tuple[State[..., object], ...]
    relations: Relations
    numbers: dict[State[..., object], int]
    """Its states, those of the same lineage that it inherits, and the lineages -> their number in declaration order.

    States of the same lineage that others declare are not kept here, lest a schema keep alive those that inherit it.
    """
    catches: tuple[tuple[int, tuple[type[Exception], ...]], ...]
    """The error states, in declaration order, and what each takes."""
    errors: int
    """``Error`` and all error states."""
    groups: tuple[Group, ...]
    """Its groups: those of the bases first, where nothing took their name."""
    timeouts: dict[int, tuple[float, int]]
    """State -> after how many seconds it is deactivated, and what comes then; -1 for nothing."""
    timed: int
    """The states that have a timeout."""
    requests: dict[tuple[Kind, int, int, int], Request]
    """What was asked -> the one request object for it."""
    asked: tuple[dict[tuple[object, ...], Request], ...]
    """For each kind: the states as they were passed -> the request, for mutations of plain states."""
    closing: Request
    """What deactivates every state when a machine closes."""
    tables: dict[tuple[object, ...], Any]
    """What was bound -> its handler table; kept here so that it goes when the schema goes."""

    @property
    def error(self) -> int:
        """The number of ``Error``, which comes last."""
        return len(self.states) - 1

    def number(self, state: object, doing: str) -> int:
        """Return the number of a state; `doing` names the mutation or decorator, for the message.

        Raises:
          MutationError: it is no state at all.
          UnknownState: it is a state, and not one of this schema.
        """
        if isinstance(state, State):
            found = self.numbers.get(cast("State[..., object]", state))
            return self._by_lineage(cast("State[..., object]", state), doing) if found is None else found
        if isinstance(state, str):
            known = state in self.relations.names
            hint = f"write {self.name}.{state}" if known else nearest(state, self.relations.names)
            raise MutationError(f"{doing}: {state!r} is a name, and a state is due: {hint}")
        if isinstance(state, Call):
            called = cast("Call[object]", state).state
            raise MutationError(
                f"{doing}: {called}(…) carries arguments, which nobody would read here: write {called.qualified_name}"
            )
        raise MutationError(
            f"{doing}: {state!r} is no state: write one of {self.name}, such as {self.states[0].qualified_name}"
        )

    def _by_lineage(self, state: State[..., object], doing: str) -> int:
        found = self.numbers.get(state._lineage)
        if found is None:
            if str(state) in self.relations.names:
                hint = (
                    f"{self.name} has a {state} of its own, and equal names make them no one: write {self.name}.{state}"
                )
            else:
                hint = nearest(str(state), self.relations.names)
            raise UnknownState(f"{doing}: {state.qualified_name} is not a state of {self.name}: {hint}")
        return found

    def request(self, kind: Kind, called: int = 0, dropped: int = 0, seeds: int = 0) -> Request:
        """Return the one request object for these sets, so that plans can be kept under its identity."""
        key = (kind, called, dropped, seeds)
        request = self.requests.get(key)
        if request is None:
            if len(self.requests) >= REQUESTS:
                self.requests.clear()
            request = self.requests[key] = Request(kind, called, dropped, seeds)
        return request


# ---- Compiling ------------------------------------------------------------------------------------------------------


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _declared(schema: SchemaMeta, namespace: Mapping[str, object], reserved: object) -> dict[str, State[..., object]]:
    """Return the states in the body of a schema class, named; refuse whatever is no state."""
    found: dict[str, State[..., object]] = {}
    for name, value in namespace.items():
        where = f"{schema.__name__}.{name}"
        if isinstance(value, State):
            state = cast("State[..., object]", value)
            if not name.isidentifier() or not _is_public(name):
                raise SchemaError(f"{where}: a state's name is an identifier without a leading underscore")
            if hasattr(reserved, name) and name != "Error":
                raise SchemaError(f"{where}: {name!r} is an attribute of every schema; choose another name")
            if state._owner is not None:
                first = state.qualified_name
                raise SchemaError(
                    f"{where} is {first} once more: one state has one name; write State(…), or {first}.extend(…) "
                    f"in a class that inherits {first.partition('.')[0]}"
                )
            state._declare(name, schema)
            found[name] = state
        elif isinstance(value, Group):
            if not name.isidentifier() or not _is_public(name):
                raise SchemaError(f"{where}: a group's name is an identifier without a leading underscore")
            if hasattr(reserved, name):
                raise SchemaError(f"{where}: {name!r} is an attribute of every schema; choose another name")
            if value._owner is not None:
                raise SchemaError(f"{where} is {value!r} once more: one group has one name; make another")
            value._owner = schema
        elif isinstance(value, type) and issubclass(value, State):
            raise SchemaError(f"{where} is the class {value.__name__} itself: write {name} = {value.__name__}(…)")
        elif _is_public(name):
            raise SchemaError(
                f"{where} is {value!r}: a schema holds states and groups of them, and nothing else; write {name} = "
                "State(…), or move it to a class of handlers"
            )
    return found


def _collected(schema: SchemaMeta, declared: dict[str, State[..., object]]) -> dict[str, State[..., object]]:
    """Return all states of a schema in declaration order: bases left to right, each once, then the body, Error last."""
    found: dict[str, State[..., object]] = {}
    bases: list[SchemaMeta] = []
    for base in schema.__bases__:
        if isinstance(base, SchemaMeta):
            bases.append(base)
        elif base is not object:
            raise SchemaError(
                f"{schema.__name__} inherits from {base.__name__}, which is no schema: a schema inherits from schemas "
                f"only; move what {base.__name__} does to a class of handlers"
            )
    for base in bases:
        for state in base.states:
            name = state.name
            winner = cast("State[..., object]", getattr(schema, name))
            is_redefined = name in declared or (winner._owner is not None and state._owner in winner._owner.__mro__)
            if winner._lineage is not state._lineage and not is_redefined:
                raise SchemaError(
                    f"{schema.__name__} inherits two states called {name}, {winner.qualified_name} and "
                    f"{state.qualified_name}, which have nothing to do with each other: declare {name} in "
                    f"{schema.__name__} anew, or rename one of them"
                )
            found[name] = winner
    for name, state in declared.items():
        lineage = state._lineage
        if lineage is not state and not any(name in base and base[name]._lineage is lineage for base in bases):
            where = f"{schema.__name__}.{name} is made from"
            owner = lineage._owner
            if owner is None:
                raise SchemaError(f"{where} a state that is declared nowhere: say all of it in one {name} = State(…)")
            if str(lineage) == name and owner in schema.__mro__[1:]:
                present = next(base[name] for base in bases if name in base).qualified_name
                raise SchemaError(
                    f"{where} {lineage.qualified_name}, whose place {present} has taken: write {present}.extend(…), "
                    f"or declare {name} anew"
                )
            raise SchemaError(
                f"{where} {lineage.qualified_name}: a state is extended and replaced under its own name, in a class "
                f"that inherits {owner.__name__}"
            )
        if name == "Error" and lineage is not ERROR:
            raise SchemaError(f"{schema.__name__}.Error is built in: write Error = Schema.Error.extend(…) to add to it")
        found[name] = state
    found["Error"] = found.pop("Error")
    return found


def _grouped(schema: SchemaMeta, namespace: Mapping[str, object], states: Mapping[str, object]) -> dict[str, Group]:
    """Return the groups of a schema by name: those of the bases first; a name is that of a group or of a state."""
    found: dict[str, Group] = {}
    for base in reversed(schema.__mro__[1:]):
        if isinstance(base, SchemaMeta) and "_definition" in vars(base):
            found |= {group.name: group for group in base._definition.groups if group._owner is base}
    found |= {name: value for name, value in namespace.items() if isinstance(value, Group)}
    for name in found:
        if name in states:
            raise SchemaError(f"{schema.__name__}.{name} is a group and a state: rename one of them")
    return found


class _Compiler:
    """Turns the declarations of one schema into bit masks, and refuses those that contradict each other."""

    def __init__(self, schema: SchemaMeta, states: dict[str, State[..., object]], groups: dict[str, Group]) -> None:
        self.schema = schema
        self.groups = groups
        self.states = tuple(states.values())
        self.names = tuple(states)
        self.place = {name: number for number, name in enumerate(states)}

    def _fail(self, state: int, message: str) -> NoReturn:
        raise SchemaError(f"{self.schema.__name__}.{self.names[state]}: {message}")

    def _target(self, state: int, relation: str, target: str | State[..., object]) -> int:
        if isinstance(target, str):
            found = self.place.get(target)
            if found is None:
                self._fail(state, f"{relation}={target!r} names no state of the schema: {nearest(target, self.names)}")
        else:
            owner = target._owner
            if owner is None:
                self._fail(
                    state, f"{relation}= holds a state that is declared nowhere: give it a name in the class body"
                )
            if owner not in self.schema.__mro__:
                self._fail(
                    state,
                    f"{relation}={target.qualified_name} is a state of another schema: inherit from {owner.__name__} "
                    f"to relate to its states",
                )
            found = self.place[target.name]
        if found == state:
            self._fail(state, f"{relation}= names the state itself: leave it out")
        return found

    def _members(self, name: str, group: Group) -> list[int]:
        """Return the numbers of a group's states."""
        found: list[int] = []
        for member in group._members:
            number = self.place.get(str(member))
            if number is None:
                where = f"{self.schema.__name__}.{name} holds {str(member)!r}"
                raise SchemaError(f"{where}, which is no state of the schema: {nearest(str(member), self.names)}")
            if isinstance(member, State) and self.states[number]._lineage is not member._lineage:
                where = f"{self.schema.__name__}.{name} holds {member.qualified_name}"
                raise SchemaError(f"{where}, which is a state of another schema: name one of {self.schema.__name__}")
            if number in found:
                raise SchemaError(f"{self.schema.__name__}.{name} holds {member} twice: leave one out")
            found.append(number)
        return found

    def _masks(self, relation: str) -> list[int]:
        masks: list[int] = []
        for state in range(len(self.states)):
            mask = 0
            for target in getattr(self._properties(state), relation):
                mask |= 1 << self._target(state, relation, target)
            masks.append(mask)
        return masks

    def _properties(self, state: int) -> Properties:
        return self.states[state]._properties

    def _flags(self, flag: str) -> int:
        return sum(1 << state for state in range(len(self.states)) if getattr(self._properties(state), flag))

    def compile(self) -> Definition:
        """Return the definition.

        Raises:
          SchemaError: a relation names what is not there, or two declarations contradict each other.
        """
        require, add, remove, after = (self._masks(relation) for relation in ("require", "add", "remove", "after"))
        for name, group in self.groups.items():
            numbers = self._members(name, group)
            if group.is_exclusive:
                together = union(1 << number for number in numbers)
                for number in numbers:
                    remove[number] |= together & ~(1 << number)
        auto, multi, latch = self._flags("auto"), self._flags("multi"), self._flags("latch")
        error = len(self.states) - 1
        catches = tuple(
            (number, state.catches) for number, state in enumerate(self.states) if isinstance(state, ErrorState)
        )
        errors = 1 << error
        for number, _ in catches:
            errors |= 1 << number
            require[number] |= 1 << error
            add[number] |= 1 << error
        for number in members(errors):
            self._check_error_state(number, auto, multi, latch, require, remove)
        # Whatever removes an error state is removed by it: an error is not refused.
        for state, mask in enumerate(remove):
            for number in members(mask & errors):
                if latch >> state & 1:
                    self._fail(
                        state,
                        f"it is latched and removes the error state {self.names[number]}: nothing refuses an error",
                    )
                remove[number] |= 1 << state
        self._check_contradictions(require, add, remove, latch)
        loop = cycle(tuple(after))
        if loop:
            chain = " after ".join(self.names[number] for number in (*loop, loop[0]))
            raise SchemaError(f"{self.schema.__name__}: a circle of after: {chain}: one of them has to come first")
        self._check_args(auto, union(add))
        known: dict[State[..., object], int] = {}
        for number, declared in enumerate(self.states):
            known[declared] = known[declared._lineage] = number
        for base in self.schema.__mro__[1:]:
            for inherited in base.states if isinstance(base, SchemaMeta) else ():
                if inherited._lineage in known:
                    known[inherited] = known[inherited._lineage]
        relations = Relations(
            self.names, tuple(require), tuple(add), tuple(remove), tuple(after), auto=auto, multi=multi, latch=latch
        )
        schema = self.schema
        for name, group in self.groups.items():
            if group._owner is schema:
                group._name, group._members = name, tuple(self.states[number] for number in self._members(name, group))
        groups = tuple(self.groups.values())
        timeouts = self._timeouts(require, latch)
        timed = union(1 << number for number in timeouts)
        return Definition(
            schema.__name__,
            schema.__mro__,
            self.states,
            relations,
            known,
            catches,
            errors,
            groups,
            timeouts,
            timed,
            requests={},
            asked=tuple({} for _ in Kind),
            closing=Request(Kind.CLOSE, 0, 0, 0),
            tables={},
        )

    def _timeouts(self, require: list[int], latch: int) -> dict[int, tuple[float, int]]:
        found: dict[int, tuple[float, int]] = {}
        for number, state in enumerate(self.states):
            properties = state._properties
            following = [self._target(number, "on_timeout", target) for target in properties.on_timeout]
            if properties.timeout is None:
                if following:
                    self._fail(
                        number, f"on_timeout={self.names[following[0]]} without a timeout: write timeout=seconds too"
                    )
                continue
            if latch >> number & 1:
                self._fail(
                    number, "it is latched and never leaves, so that it has no timeout: leave one of the two out"
                )
            for other in following:
                state_args = self.states[other].args
                missing = [] if state_args is None else missing_arguments(state_args)
                if missing:
                    self._fail(
                        number,
                        f"on_timeout={self.names[other]}, to which nobody could pass {listed(missing)}: give "
                        f"{listed(missing)} a default",
                    )
                if require[other] >> number & 1:
                    self._fail(
                        number,
                        f"on_timeout={self.names[other]}, which requires {self.names[number]}: it could not come when "
                        f"{self.names[number]} leaves",
                    )
            found[number] = properties.timeout, following[0] if following else -1
        return found

    def _check_error_state(
        self, number: int, auto: int, multi: int, latch: int, require: list[int], remove: list[int]
    ) -> None:
        if auto >> number & 1 or latch >> number & 1 or not multi >> number & 1:
            self._fail(
                number, "an error state comes with an error and may come again: it is multi, and neither auto nor latch"
            )
        if number == len(self.states) - 1 and require[number]:
            self._fail(
                number, f"Error requires {listed(self._named(require[number]))}: an error comes whatever is active"
            )
        if remove[number] & latch:
            self._fail(
                number,
                f"it removes {listed(self._named(remove[number] & latch))}, which is latched and never leaves: "
                "the error could not come",
            )

    def _named(self, mask: int) -> list[str]:
        return [self.names[number] for number in members(mask)]

    def _check_contradictions(self, require: list[int], add: list[int], remove: list[int], latch: int) -> None:
        for state in range(len(self.states)):
            for relation, masks in (("requires", require), ("adds", add)):
                both = masks[state] & remove[state]
                if both:
                    number = next(members(both))
                    other = self.names[number]
                    mutual = "" if self._says_remove(state, number) else self._why_remove(state, number)
                    self._fail(state, f"it both {relation} and removes {other}{mutual}: one of the two has to go")
            if latch >> state & 1 and require[state] & ~latch:
                other = self._named(require[state] & ~latch)[0]
                self._fail(
                    state, f"it is latched and requires {other}, which is not: {other} could leave under it; latch both"
                )

    def _says_remove(self, state: int, other: int) -> bool:
        """Return whether `state` was itself written to remove `other`: an error state removes what removes it."""
        return any(self._target(state, "remove", target) == other for target in self._properties(state).remove)

    def _why_remove(self, state: int, other: int) -> str:
        for name, group in self.groups.items():
            if group.is_exclusive and {state, other} <= set(self._members(name, group)):
                return f" (both are in the exclusive group {name})"
        return f" (because {self.names[other]} removes it, and it is an error state)"

    def _check_args(self, auto: int, added: int) -> None:
        for number, state in enumerate(self.states):
            if state.args is None or not (auto | added) >> number & 1 or not missing_arguments(state.args):
                continue
            fields = listed(missing_arguments(state.args))
            how = "it is auto" if auto >> number & 1 else "another state adds it"
            self._fail(number, f"{how}, so that nobody could pass {fields}: give {fields} a default")


def missing_arguments(args: Callable[..., object]) -> list[str]:
    """Return the names of the arguments without which `args` cannot be called."""
    required = _required(args)
    if required is not None:
        return [parameter.name for parameter in required]
    # Written in C, with no signature to read: such a class is cheap to ask.
    try:
        args()
    except Exception:
        return ["its arguments"]
    return []


def written_arguments(args: Callable[..., object]) -> str:
    """Return how the arguments are written without which `args` cannot be called."""
    required = _required(args)
    if required is None:
        return "…"
    return ", ".join(one.name if one.kind is one.POSITIONAL_ONLY else f"{one.name}=…" for one in required)


def _required(args: Callable[..., object]) -> list[inspect.Parameter] | None:
    """Return the parameters that have no default; None if there is no signature to read."""
    signature = signature_of(args)
    if signature is None:
        return None
    return [
        one
        for one in signature.parameters.values()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


# ---- The class ------------------------------------------------------------------------------------------------------


class SchemaMeta(type):
    """The type of schema classes: gives them the behaviour of a frozen collection of states."""

    _definition: Definition

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, object]) -> None:
        super().__init__(name, bases, namespace)
        try:
            declared = _declared(cls, namespace, Schema if bases else SchemaMeta)
            states = _collected(cls, declared)
            definition = _Compiler(cls, states, _grouped(cls, namespace, states)).compile()
        except BaseException:
            # What is refused leaves no trace: its states can be declared again once the mistake is mended.
            for value in namespace.values():
                if isinstance(value, State) and cast("State[..., object]", value)._owner is cls:
                    cast("State[..., object]", value)._declare(None, None)
                elif isinstance(value, Group) and value._owner is cls:
                    value._owner = None
            raise
        type.__setattr__(cls, "_definition", definition)

    def __setattr__(cls, name: str, value: object) -> None:
        if not (name.startswith("__") and name.endswith("__")):  # Python's own, such as ``__doc__``
            raise SchemaError(
                f"{cls.__name__}.{name} cannot be set: a schema is frozen once made; inherit from it instead"
            )
        type.__setattr__(cls, name, value)

    def __delattr__(cls, name: str) -> None:
        raise SchemaError(f"{cls.__name__}.{name} cannot be deleted: a schema is frozen once made")

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        raise SchemaError(
            f"{cls.__name__} is a schema and has no instances: open a machine, open_machine({cls.__name__})"
        )

    # To a type checker, a state that is not declared is an error; the branch for checkers never runs.
    if not TYPE_CHECKING:  # pragma: no branch

        def __getattr__(cls, name: str) -> NoReturn:
            names = () if name.startswith("_") else cls._definition.relations.names
            raise AttributeError(f"{cls.__name__} has no state {name!r}: {nearest(name, names)}")

    def __repr__(cls) -> str:
        return f"<Schema {cls.__name__}>"

    @property
    def states(cls) -> tuple[State[..., object], ...]:
        """All states in declaration order: those of the bases, left to right, then the body's; ``Error`` is last."""
        return cls._definition.states

    def __getitem__(cls, name: str) -> State[..., object]:
        """Return the state of that name.

        Raises:
          UnknownState: there is none; the message names the nearest.
        """
        names = cls._definition.relations.names
        if name not in names:
            raise UnknownState(f"{cls.__name__} has no state {name!r}: {nearest(str(name), names)}")
        return cls.states[names.index(name)]

    def __contains__(cls, state: object) -> bool:
        """Return whether the schema has this state, or a state of this name."""
        if isinstance(state, State):
            return state._lineage in cls._definition.numbers
        return state in cls._definition.relations.names

    def __iter__(cls) -> Iterator[State[..., object]]:
        return iter(cls.states)

    def __len__(cls) -> int:
        return len(cls.states)

    @property
    def groups(cls) -> tuple[Group, ...]:
        """All groups: those of the bases first, then the body's."""
        return cls._definition.groups

    def tagged(cls, *tags: str) -> tuple[State[..., object], ...]:
        """Return the states that have all of these tags, in declaration order.

        Raises:
          ValueError: no tag is given.
        """
        if not tags:
            raise ValueError("tagged() names no tag: write at least one")
        return tuple(state for state in cls.states if set(tags) <= set(state.tags))

    def _relations(cls, number: int, *, is_inbound: bool) -> StateRelations:
        relations, states = cls._definition.relations, cls.states

        def named(table: tuple[int, ...]) -> tuple[State[..., object], ...]:
            mask = transpose(table)[number] if is_inbound else table[number]
            return tuple(states[other] for other in members(mask))

        return StateRelations(
            named(relations.require), named(relations.add), named(relations.remove), named(relations.after)
        )

    def relations_of(cls, state: State[..., object]) -> StateRelations:
        """Return the states that `state` names in this schema, by relation: exclusive groups and error states included.

        Raises:
          UnknownState, MutationError: it is not a state of the schema.
        """
        return cls._relations(cls._definition.number(state, "relations_of"), is_inbound=False)

    def _on_timeout_of(cls, state: State[..., object]) -> State[..., object] | None:
        """Return the state that comes when the timeout of `state` is over, in this schema; None if there is none."""
        _, following = cls._definition.timeouts.get(cls._definition.number(state, "on_timeout"), (0, -1))
        return None if following < 0 else cls.states[following]

    def inbound(cls, state: State[..., object]) -> StateRelations:
        """Return the states that name `state` in this schema, by relation; otherwise as `relations_of`."""
        return cls._relations(cls._definition.number(state, "inbound"), is_inbound=True)

    def between(cls, one: State[..., object], other: State[..., object]) -> tuple[str, ...]:
        """Return the relations by which `one` names `other`: some of ``require``, ``add``, ``remove`` and ``after``.

        Raises:
          UnknownState, MutationError: one of them is not a state of the schema.
        """
        mine, target = cls.relations_of(one), cls.states[cls._definition.number(other, "between")]
        found = {"require": mine.require, "add": mine.add, "remove": mine.remove, "after": mine.after}
        return tuple(name for name, states in found.items() if target in states)

    def to_dict(cls) -> dict[str, object]:
        """Return the schema as plain data, ready for JSON: `from_dict` makes an equal one of it.

        Inherited states are written out. Exceptions and args classes are named, as ``module:name``. Relations are those
        that were written, without what groups and error states imply.
        """
        return plain_schema(cls.__name__, cls.states, cls.groups)

    def from_dict(cls, data: Mapping[str, object]) -> type[Schema]:
        """Make a schema from what `to_dict` returned, which may have been through JSON; it inherits from this one.

        Nothing is imported: modules of exceptions and args classes must have been.

        Raises:
          SchemaError: the data is not of that form, names what is not there, or contradicts itself.
        """
        name, members = read_schema(data, cls["Error"])
        return cls.define(name, members)

    def define(cls, name: str, states: Mapping[str, State[..., object] | Group]) -> type[Schema]:
        """Make a schema from data: a class called `name` that inherits from this one.

        Args:
          name: the name of the class, an identifier.
          states: name -> state or group, in declaration order.

        Returns:
          The schema, checked and frozen as one that a class statement makes.

        Raises:
          SchemaError: as a class statement would.

        Example::

            states = {"Locked": State(remove="Open"), "Open": State(remove="Locked")}
            Door = Schema.define("Door", states)
            Door["Open"]
        """
        if not (isinstance(name, str) and name.isidentifier()):
            raise SchemaError(f"{name!r} is no name for a schema: write an identifier")
        for key, state in states.items():
            if not isinstance(state, (State, Group)):
                raise SchemaError(f"{name}.{key} is {state!r}: write State(…)")
            if not (isinstance(key, str) and key.isidentifier() and _is_public(key)):
                raise SchemaError(f"{name}.{key}: a state's name is an identifier without a leading underscore")
        return cast("type[Schema]", SchemaMeta(name, (cls,), dict(states)))

    def can_change(cls, function: Negotiation = LEFT_OUT, /) -> Negotiation:
        """Decorate a negotiation handler that is asked last, whenever a tick would move; False cancels.

        It is sync and read-only, takes the `Transition`, and returns a bool.

        Raises:
          HandlerError: the function is async or a generator function.
        """
        return hang(Mark("can_change", None, schema=cls), function)

    def on_change(cls, function: Final = LEFT_OUT, /) -> Final:
        """Decorate a final handler that runs last in each transition that moved a tick.

        It is sync and takes the `Transition`; mutations that it makes are queued.

        Raises:
          HandlerError: the function is async or a generator function: such work is a ``task``.
        """
        return hang(Mark("on_change", None, schema=cls), function)


class Schema(metaclass=SchemaMeta):
    """The base of every schema: a class whose body declares states, frozen and checked once it is made.

    Inheriting from a schema adds to it, several bases at a time; ``Base.Foo.extend(…)`` and ``.replace(…)`` in the
    body change an inherited state. A schema iterates over its states in declaration order, and has a length;
    ``X["Foo"]`` is the state of that name and ``"Foo" in X`` asks for it. It has no instances: machines are opened on
    it.

    Raises:
      SchemaError: a relation names what is not there, two declarations contradict each other, or the body holds
        something that is no state. Raised by the class statement itself.

    Example::

        class Door(Schema):
            Locked = State(remove="Open")
            Open = State(remove=Locked)

        class AlarmedDoor(Door):
            Alarm = State()
            Open = Door.Open.extend(remove=Alarm)
    """

    Error = ERROR
    """Active after an exception in a handler or task, with the exception in ``machine.error``; multi, always last."""

    @classmethod
    def __check_handlers__(cls, handlers: tuple[object, ...]) -> None:
        """Refuse to open a machine whose handlers are not what the schema needs: override it, and raise.

        It is a class method, called before a machine is made, with the handlers that `open_machine` or
        `Machine.start_child` was given: when the block is entered, or at the call. A bare `Engine` does not call it,
        and neither do `Machine.bind` and `Machine.extend_schema`. By itself it does nothing.

        Args:
          handlers: what the machine is opened with, as it was passed.
        """
