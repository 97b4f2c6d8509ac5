"""Mutations as values: made at random, applied to a machine, written as a line of a program."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import enum
import keyword
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Literal, Protocol, cast, is_typeddict

import attrs

from trsm import Call, Engine, Result, Schema, State

AnyState = State[..., object]
MutationKind = Literal["add", "remove", "set", "toggle", "mutate"]
KINDS: tuple[MutationKind, ...] = ("add", "remove", "set", "toggle", "mutate")


class Printer(Protocol):
    """What Hypothesis, as IPython, shows values with."""

    def text(self, text: str) -> None:
        """Show a text."""
        ...  # a protocol's method has no body to run


@attrs.frozen(repr=False)
class Mutation:
    """A mutation that was not made yet. Its ``repr`` is the method call that makes it."""

    schema: type[Schema]
    kind: MutationKind
    """``"add"``, ``"remove"``, ``"set"``, ``"toggle"`` or ``"mutate"``."""
    states: tuple[AnyState | Call[object], ...]
    """What is called; of ``"remove"`` what is dropped."""
    dropped: tuple[AnyState, ...] = ()
    """What ``"mutate"`` drops."""
    keywords: Mapping[str, object] = attrs.field(factory=dict[str, object], hash=False)
    """Free keywords."""

    def apply(self, machine: Engine) -> Result:
        """Make it on a machine or engine, and return what became of it.

        Raises:
          TypeError: it is neither; otherwise as the method that it is.
        """
        if not isinstance(cast("object", machine), Engine):
            raise TypeError(f"{self!r}.apply({machine!r}): pass a machine or an engine")
        if self.kind == "mutate":
            mutate = cast("Callable[..., Result]", machine.mutate)
            return mutate(add=self.states, remove=self.dropped, **self.keywords)
        method = cast("Callable[..., Result]", getattr(machine, self.kind))
        return method(*self.states, **self.keywords)

    def __repr__(self) -> str:
        return Writer(is_program=False).mutation(self)

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        """Show it so in what Hypothesis prints, too."""
        printer.text(repr(self))


PLAIN = {int, str, bool, bytes, type(None)}
"""Types whose every value has a repr that makes it again."""


@attrs.define
class Writer:
    """Writes values as a program makes them, and keeps what that program has to import, and what nobody can write."""

    is_program: bool = True
    """Whether what cannot be written becomes ``...``; else it is shown as its repr does, for a person."""
    imports: set[str] = attrs.field(factory=set[str])
    by_hand: list[str] = attrs.field(factory=list[str])
    """The reprs of what could not be written, each in one line, since somebody last took them."""

    def mutation(self, mutation: Mutation) -> str:
        """Write the method call that makes a mutation."""
        schema = mutation.schema.__name__
        states, dropped = (
            [f"{schema}.{one.name}" if isinstance(one, State) else self._call(schema, one) for one in some]
            for some in (mutation.states, mutation.dropped)
        )
        if mutation.kind == "mutate":
            states = [f"add=[{', '.join(states)}]", f"remove=[{', '.join(dropped)}]"]
        return f"{mutation.kind}({', '.join([*states, *self._named(mutation.keywords.items())])})"

    def _call(self, schema: str, call: Call[object]) -> str:
        if is_typeddict(call.state.args) and isinstance(call.args, dict):
            arguments = self._named(cast("dict[str, object]", call.args).items())
        else:
            arguments = self._arguments(call.args)
        return f"{schema}.{call.state.name}({', '.join(arguments)})"

    def _arguments(self, instance: object) -> list[str]:
        """Write what an instance of an args class is made of, as far as that can be seen."""
        if instance is None:
            return []
        fields = _fields(instance)
        if fields is not None:
            return self._named(fields)
        if isinstance(instance, tuple):
            return [f"*{self.value(tuple(cast('tuple[object, ...]', instance)))}"]
        return [self.value(instance)]

    def _named(self, values: Iterable[tuple[str, object]]) -> list[str]:
        return [
            f"{name}={self.value(value)}"
            if name.isidentifier() and not keyword.iskeyword(name)
            else f"**{{{name!r}: {self.value(value)}}}"
            for name, value in values
        ]

    def value(self, value: object) -> str:
        """Write an expression that makes a value: by what it is made of if that is known, else what its repr says."""
        kind = type(value)
        if kind in (list, tuple, set, frozenset, dict):
            return self._collection(value)
        fields = None if isinstance(value, type) else _fields(value)
        if isinstance(value, (type, FunctionType)):
            written = self._name(value)
        elif isinstance(value, enum.Enum):
            written = self._member(value)
        elif fields is not None:
            name = self._name(kind)
            written = None if name is None else f"{name}({', '.join(self._named(fields))})"
        else:
            written = repr(value) if kind in PLAIN or self._is_known(value) else None
        return self._unknown(value) if written is None else written

    def _unknown(self, value: object) -> str:
        if not self.is_program:
            return repr(value)
        self.by_hand.append(" ".join(repr(value).split()))
        return "..."

    def _collection(self, value: object) -> str:
        if isinstance(value, dict):
            pairs = cast("dict[object, object]", value).items()
            return f"{{{', '.join(f'{self.value(key)}: {self.value(one)}' for key, one in pairs)}}}"
        written = [self.value(one) for one in cast("Iterable[object]", value)]
        if isinstance(value, list):
            return f"[{', '.join(written)}]"
        if isinstance(value, tuple):
            return f"({', '.join(written)}{',' if len(written) == 1 else ''})"
        inside = f"{{{', '.join(sorted(written))}}}" if written else ""
        return inside if inside and isinstance(value, set) else f"{type(value).__name__}({inside})"

    def _member(self, member: enum.Enum) -> str | None:
        kind = self._name(type(member))
        name = cast("str | None", member.name)  # None for several flags in one
        if kind is None:
            return None
        return f"{kind}.{name}" if name in type(member).__members__ else f"{kind}({self.value(member.value)})"

    def _name(self, thing: type | FunctionType) -> str | None:
        """Write the name of a class or function, if it can be imported."""
        outermost = thing.__qualname__.partition(".")[0]
        found: object = sys.modules.get(thing.__module__)
        for name in thing.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is not thing:
            return None
        package = thing.__module__.partition(".")[0]
        is_lifted = getattr(sys.modules[package], outermost, None) is getattr(sys.modules[thing.__module__], outermost)
        home = package if is_lifted else thing.__module__
        if home not in ("builtins", "__main__"):
            self.imports.add(f"from {home} import {outermost}")
        return thing.__qualname__

    def _is_known(self, value: object) -> bool:
        """Return whether the repr of a value is a program, of nothing but known names; note what they take."""
        try:
            tree = ast.parse(repr(value), mode="eval")
        except SyntaxError:
            return False
        prefixes = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        return all(self._is_importable(type(value), node.id, node in prefixes) for node in names)

    def _is_importable(self, kind: type, name: str, is_prefix: bool) -> bool:
        if is_prefix and name in sys.modules:  # asked first: datetime is a module, and a class in it
            self.imports.add(f"import {name}")
        elif name == kind.__qualname__.partition(".")[0]:
            return self._name(kind) is not None
        elif name in ("inf", "nan"):
            self.imports.add("from math import inf, nan")
        else:
            return hasattr(builtins, name)
        return True


def _fields(value: object) -> list[tuple[str, object]] | None:
    """Return the arguments that make a value, by name, if its class tells them."""
    kind: type = type(value)
    if attrs.has(kind):
        return [(one.alias or one.name, getattr(value, one.name)) for one in attrs.fields(kind) if one.init]
    if dataclasses.is_dataclass(value):
        return [(one.name, getattr(value, one.name)) for one in dataclasses.fields(value) if one.init]
    names: tuple[str, ...] = getattr(kind, "_fields", ())
    if isinstance(value, tuple) and names:  # a named one
        return list(zip(names, cast("tuple[object, ...]", value), strict=True))
    return None
