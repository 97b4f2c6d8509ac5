"""Mutations as values: made at random, applied to a machine, written as a line of a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
        keywords = [f"{name}={value!r}" for name, value in self.keywords.items()]
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
        return [f"*{instance!r}"] if isinstance(instance, tuple) else [repr(instance)]
    return [f"{alias}={getattr(instance, name)!r}" for name, alias in names]
