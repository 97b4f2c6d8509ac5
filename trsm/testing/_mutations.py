"""Mutations as values: made at random, applied to a machine, written as a line of a program."""

from __future__ import annotations

import ast
import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, Protocol, cast

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
        """Make it on a machine or engine, and return what became of it. Raises as the method that it is."""
        if self.kind == "mutate":
            mutate = cast("Callable[..., Result]", machine.mutate)
            return mutate(add=self.states, remove=self.dropped, **self.keywords)
        method = cast("Callable[..., Result]", getattr(machine, self.kind))
        return method(*self.states, **self.keywords)

    def __repr__(self) -> str:
        states = [self._written(one) for one in self.states]
        keywords = [f"{name}={_value(value)}" for name, value in self.keywords.items()]
        if self.kind == "mutate":
            dropped = [self._written(one) for one in self.dropped]
            states = [f"add=[{', '.join(states)}]", f"remove=[{', '.join(dropped)}]"]
        return f"{self.kind}({', '.join([*states, *keywords])})"

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        """Show it so in what Hypothesis prints, too."""
        printer.text(repr(self))

    def _written(self, one: AnyState | Call[object]) -> str:
        if not isinstance(one, Call):
            return f"{self.schema.__name__}.{one.name}"
        return f"{self.schema.__name__}.{one.state.name}({', '.join(_arguments(one.args))})"


def _arguments(instance: object) -> list[str]:
    """Return how an instance of an args class is made, as far as that can be seen."""
    if instance is None:
        return []
    names: list[tuple[str, str]]
    kind: type = type(instance)
    if attrs.has(kind):
        names = [(one.name, one.alias or one.name) for one in attrs.fields(kind) if one.init]
    elif dataclasses.is_dataclass(instance):
        names = [(one.name, one.name) for one in dataclasses.fields(instance) if one.init]
    else:
        return [f"*{instance!r}"] if isinstance(instance, tuple) else [_value(instance)]
    return [f"{alias}={_value(getattr(instance, name))}" for name, alias in names]


def _value(value: object) -> str:
    """Return a value as a program has it: what its repr says, but for members of enums, which it cannot make."""
    if isinstance(value, enum.Enum):
        kind, name = type(value), cast("str | None", value.name)  # None for several flags in one
        return f"{kind.__qualname__}.{name}" if name in kind.__members__ else f"{kind.__qualname__}({value.value!r})"
    if type(value) is list:
        return f"[{', '.join(map(_value, cast('list[object]', value)))}]"
    if type(value) is tuple:
        return f"({''.join(f'{_value(one)}, ' for one in cast('tuple[object, ...]', value)).removesuffix(' ')})"
    if type(value) is dict:
        pairs = cast("dict[object, object]", value).items()
        return f"{{{', '.join(f'{_value(key)}: {_value(one)}' for key, one in pairs)}}}"
    if not isinstance(value, type) and (attrs.has(type(value)) or dataclasses.is_dataclass(value)):
        return f"{type(value).__qualname__}({', '.join(_arguments(value))})"
    return repr(value)


def imports(lines: Iterable[str], steps: Iterable[Mutation]) -> list[str]:
    """Return what a program of these lines imports for the values that are written in them, sorted."""
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:
        return []  # some value does not show how it is made
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    prefixes = {
        node.value.id for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    found: set[str] = set()
    for step in steps:
        values = (*(one.args for one in step.states if isinstance(one, Call)), *step.keywords.values())
        for kind in {type(part) for value in values for part in _parts(value)}:
            package, outermost = kind.__module__.partition(".")[0], kind.__qualname__.partition(".")[0]
            if package in prefixes:
                found.add(f"import {package}")
            elif outermost in names and package not in ("builtins", "__main__") and "<locals>" not in kind.__qualname__:
                found.add(f"from {kind.__module__} import {outermost}")
    return sorted(found)


def _parts(value: object) -> Iterator[object]:
    """Iterate over a value, and all that its repr may show."""
    yield value
    kind: type = type(value)
    inside: Iterable[object] = ()
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value)
        inside = (*pairs, *pairs.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside = cast("Iterable[object]", value)
    elif attrs.has(kind):
        inside = [getattr(value, one.name) for one in attrs.fields(kind)]
    elif dataclasses.is_dataclass(value):
        inside = [getattr(value, one.name) for one in dataclasses.fields(value)]
    for one in inside:
        yield from _parts(one)
