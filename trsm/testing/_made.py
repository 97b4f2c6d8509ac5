"""Handlers that are made anew for each machine, so that no run sees what another has left in them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable
from typing import cast

from trsm import Engine, HandlerError, Schema


def checked_schema(schema: object, written: str) -> type[Schema]:
    """Return a schema, if it is one.

    Raises:
      TypeError: it is not.
    """
    if not (isinstance(schema, type) and issubclass(schema, Schema)):
        raise TypeError(f"{written}: {schema!r} is no schema: pass a class that inherits from trsm.Schema")
    return schema


def made_handlers(schema: type[Schema], handlers: Iterable[object], written: str) -> list[object]:
    """Return what to bind: an instance of each class, and what each function without arguments makes.

    All else is bound as it is: functions that are handlers themselves, modules, objects.

    Raises:
      TypeError: a class or function needs arguments.
      HandlerError, UnknownState: what was made does not fit the schema.
    """
    return [_made(schema, one, written) for one in handlers]


def _made(schema: type[Schema], handler: object, written: str) -> object:
    if isinstance(handler, types.ModuleType) or not callable(handler) or _is_handler(schema, handler):
        return handler
    name = getattr(handler, "__name__", repr(handler))
    try:
        inspect.signature(handler).bind()
    except TypeError as error:
        raise TypeError(
            f"{written}: {name} is made anew for each machine, without arguments, and needs some ({error}): pass a "
            f"function that makes one: lambda: {name}(…)"
        ) from None
    except ValueError:
        pass  # a signature that cannot be read; calling it will tell
    return cast("Callable[[], object]", handler)()


def _is_handler(schema: type[Schema], function: object) -> bool:
    if isinstance(function, type):
        return False
    try:
        Engine(schema, function)
    except HandlerError:
        return False
    return True
