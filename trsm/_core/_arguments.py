"""Arguments: what a state's args class takes, read once, and whether what was passed fits."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import (
    Annotated,
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
PROMOTED: dict[object, tuple[type, ...]] = {float: (float, int), complex: (complex, float, int)}
"""The numeric tower of the type system: an int is accepted where a float is due (PEP 484)."""


class Arguments:
    """How to make an instance of an args class, with its signature and the types of its parameters."""

    __slots__ = ("_hints", "_make", "_signature")

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make
        try:
            self._signature: inspect.Signature | None = inspect.signature(make)
        except (TypeError, ValueError):
            self._signature = None  # written in C, with none to read
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
        for field, value in bound.arguments.items():
            hint = self._hints.get(field)
            parameter = self._signature.parameters[field]
            if hint is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if not fits(value, hint):
                raise MutationError(
                    f"{name}({field}={value!r}): {field} is {inspect.formatannotation(hint)}, and this is "
                    f"{type(value).__qualname__}"
                )
        return self._make(*args, **kwargs)

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


def _hints_of(make: Callable[..., object]) -> dict[str, object]:
    """Return the types of the parameters as far as they can be known: what cannot be resolved is not checked."""
    function: object = make
    if isinstance(make, type):
        function = getattr(make, "__new__" if make.__init__ is object.__init__ else "__init__")  # type: ignore[misc]
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:
        return {}


def fits(value: object, hint: object) -> bool:
    """Return whether a value is of a type, as far as that can be seen from outside: contents are not looked through."""
    origin = get_origin(hint)
    if origin in (Annotated, Required, NotRequired):
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
    kind = origin if isinstance(origin, type) else hint
    if kind is type and origin is type:
        return isinstance(value, type)
    if not isinstance(kind, type):
        return True  # Any, and whatever else only a type checker can judge
    try:
        return isinstance(value, PROMOTED.get(kind, cast("type[object]", kind)))
    except TypeError:
        return True  # a protocol that cannot be asked at run time
