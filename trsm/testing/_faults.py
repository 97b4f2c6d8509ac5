"""Exceptions that are raised on purpose, and what is left when they come out again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast


class Fault(Exception):
    """What is raised on purpose where nothing was said of what to raise."""


class Hung(BaseException):
    """Ends what does not end otherwise; no `Exception`, so that nothing takes it for an error."""


def leaves(error: BaseException | None) -> list[BaseException]:
    """Return the exceptions in an exception, with no groups around them."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for one in group.exceptions for leaf in leaves(one)]
    return [] if error is None else [error]


def checked_error(where: str, make: Callable[[], BaseException]) -> BaseException:
    """Return the exception that a user's class or function makes; `where` is how it was passed.

    Raises:
      TypeError: it makes none, or something that cannot be raised.
    """
    try:
        error: object = make()
    except Exception as raised:
        raise TypeError(
            f"{where}: it was called without arguments and raised {raised!r}, so that there is nothing to raise: pass "
            "a function that makes the exception, such as lambda: OSError('disk full')"
        ) from raised
    if not isinstance(error, BaseException):
        if inspect.iscoroutine(error):
            error.close()
        raise TypeError(
            f"{where}: it made {error!r}, which cannot be raised: pass an exception class, or a function without "
            "arguments that returns an exception"
        )
    return error


def checked_kinds(where: str, expected: object) -> tuple[type[BaseException], ...]:
    """Return classes of exceptions in a tuple, if they are such; `where` is how they were passed.

    Raises:
      TypeError: they are not.
    """
    kinds = cast("tuple[object, ...]", expected) if isinstance(expected, tuple) else (expected,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{where}: {kind!r} is no class of exceptions: pass one, or several in a tuple")
    return cast("tuple[type[BaseException], ...]", kinds)
