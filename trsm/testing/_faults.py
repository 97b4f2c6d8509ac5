"""Exceptions that are raised on purpose, and what is left when they come out again."""

from __future__ import annotations

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


def checked_error(written: str, make: Callable[[], BaseException]) -> BaseException:
    """Return the exception that a user's class or function makes.

    Raises:
      TypeError: it makes something that cannot be raised.
    """
    error: object = make()
    if not isinstance(error, BaseException):
        raise TypeError(
            f"{written}: it made {error!r}, which cannot be raised: pass an exception class, or a function without "
            "arguments that returns an exception"
        )
    return error
