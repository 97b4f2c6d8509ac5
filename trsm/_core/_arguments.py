"""Arguments: what a state's args class takes, read once, and whether what was passed fits."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    NotRequired,
    Required,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import attrs

from trsm._core._errors import MutationError


class Shown:
    """A default that a signature shows as these words."""

    __slots__ = ("words",)

    def __init__(self, words: str) -> None:
        self.words = words

    def __repr__(self) -> str:
        return self.words


MADE_ANEW = Shown("<factory>")
"""As dataclasses show a default that is made for each instance; attrs would show ``NOTHING``."""
LEFT_OUT = Shown("…")
"""What stands where a key of a TypedDict may be left out."""
QUALIFIERS: tuple[object, ...] = (Annotated, Required, NotRequired, getattr(typing, "ReadOnly", Annotated))
"""What is written around a type and says nothing of the value; ``ReadOnly`` is there from Python 3.13 on."""
PROMOTED: dict[object, tuple[type, ...]] = {float: (float, int), complex: (complex, float, int)}
"""The numeric tower of the type system: an int is accepted where a float is due (PEP 484)."""


class Arguments:
    """How to make an instance of an args class, with its signature and the types of its parameters."""

    __slots__ = ("_hints", "_make", "_signature")

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make
        self._signature = signature_of(make)
        self._hints = _hints_of(make)

    def instance(self, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Return an instance made with these arguments; `name` is the state's, for messages.

        Raises:
          MutationError: they are not what the args class takes; the message names the field.
          Whatever the args class itself raises, such as a validator's `ValueError`.
        """
        if self._signature is None:
            # Some classes written in C show no signature: they say themselves what is wrong.
            try:
                return self._make(*args, **kwargs)
            except TypeError as error:
                raise MutationError(f"{name}(…): {error}") from error
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise MutationError(f"{name}(…): {self._unknown(kwargs) or error}; it takes {self._shown()}") from None
        for field, value, hint in self._passed(bound.arguments):
            if not fits(value, hint):
                raise MutationError(
                    f"{name}({field}={value!r}): {field} is {inspect.formatannotation(hint)}, and this is "
                    f"{type(value).__qualname__}"
                )
        return self._make(*args, **kwargs)

    def _passed(self, arguments: Mapping[str, object]) -> Iterator[tuple[str, object, object]]:
        """Iterate over the values whose types are known, each with its name and type; ``*`` and ``**`` take several."""
        signature = cast("inspect.Signature", self._signature)
        for field, value in arguments.items():
            if field not in self._hints:
                continue
            parameter, hint = signature.parameters[field], self._hints[field]
            if parameter.kind is parameter.VAR_POSITIONAL:
                for one in cast("tuple[object, ...]", value):
                    yield field, one, hint
            elif parameter.kind is parameter.VAR_KEYWORD:
                for name, one in cast("dict[str, object]", value).items():
                    yield name, one, hint
            else:
                yield field, value, hint

    def _unknown(self, kwargs: dict[str, object]) -> str | None:
        """Return the first of these keywords that it does not take, as Python says it; None if it takes all.

        Python itself would first say what is missing, because something else was written.
        """
        signature = cast("inspect.Signature", self._signature)
        unknown = [key for key in kwargs if key not in signature.parameters]
        if not unknown or any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values()):
            return None
        return f"got an unexpected keyword argument {unknown[0]!r}"

    def _shown(self) -> inspect.Signature:
        """Return the signature as messages show it."""
        signature = cast("inspect.Signature", self._signature)
        return signature.replace(
            parameters=[
                one.replace(default=MADE_ANEW) if one.default is attrs.NOTHING else one
                for one in signature.parameters.values()
            ],
            return_annotation=inspect.Signature.empty,
        )


def signature_of(make: Callable[..., object]) -> inspect.Signature | None:
    """Return what an args class takes; None if it is written in C, with no signature to read.

    A TypedDict takes its keys as keywords. Python has none for it, and would take anything.
    """
    try:
        if not is_typeddict(make):
            return inspect.signature(make)
        hints = _hints_of(make)
        required: frozenset[str] = getattr(make, "__required_keys__")  # noqa: B009
        return inspect.Signature(
            [
                inspect.Parameter(
                    key,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if _is_required(key in required, hints.get(key)) else LEFT_OUT,
                    annotation=hints.get(key, inspect.Parameter.empty),
                )
                for key in make.__annotations__
            ]
        )
    except (TypeError, ValueError):
        return None


def _is_required(said: bool, hint: object) -> bool:
    """Return whether a key of a TypedDict has to be there; `said` is what the class itself knows.

    It does not know what is written as text, as all is after ``from __future__ import annotations``.
    """
    while (origin := get_origin(hint)) in QUALIFIERS:
        if origin in (Required, NotRequired):
            return origin is Required
        hint = get_args(hint)[0]
    return said and hint is not None  # it may be NotRequired, where it cannot be resolved


def _hints_of(make: Callable[..., object]) -> dict[str, object]:
    """Return the types of the parameters as far as they can be known: what cannot be resolved is not checked."""
    typed: object = make
    if isinstance(make, type) and not is_typeddict(make):
        typed = getattr(make, "__new__" if make.__init__ is object.__init__ else "__init__")  # type: ignore[misc]
    try:
        return get_type_hints(typed, include_extras=True)
    except Exception:
        pass
    # A name is missing, mostly one that is imported for type checkers alone: each that does not need it can be known.
    # What made the `__init__` or `__new__` of a class may have had other names before it than the class itself has.
    names = getattr(sys.modules.get(make.__module__), "__dict__", {})
    own_names = getattr(inspect.unwrap(cast("Callable[..., object]", typed)), "__globals__", {})
    hints: dict[str, object] = {}
    for name, annotation in getattr(typed, "__annotations__", {}).items():
        with suppress(Exception):
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            hints |= get_type_hints(alone, names, own_names, include_extras=True)
    return hints


def fits(value: object, hint: object) -> bool:
    """Return whether a value is of a type, as far as that can be seen from outside: contents are not looked through."""
    origin = get_origin(hint)
    if origin in QUALIFIERS:
        return fits(value, get_args(hint)[0])
    if origin is Union or origin is types.UnionType:
        return any(fits(value, one) for one in get_args(hint))
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in get_args(hint))
    if hint is None:
        return value is None
    if isinstance(hint, NewType):
        return fits(value, hint.__supertype__)
    if isinstance(hint, TypeVar) or is_typeddict(hint):
        return not is_typeddict(hint) or isinstance(value, dict)
    if getattr(hint, "__unpacked__", False):
        return True  # as in ``*rest: *tuple[int, str]``, which is of all values at once
    kind = origin if isinstance(origin, type) else hint
    if kind is type and origin is type:
        return isinstance(value, type)
    if not isinstance(kind, type):
        import dataclasses  # not before: few programs need it, and all would wait for it

        # If it is no such field, then only a type checker can judge it.
        return not isinstance(hint, dataclasses.InitVar) or fits(value, cast("Any", hint).type)
    try:
        return isinstance(value, PROMOTED.get(kind, cast("type[object]", kind)))
    except TypeError:
        return True  # a protocol that cannot be asked at run time
