"""Errors about states, told of the function that a user has called, and not of what that calls itself."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from trsm import MutationError, UnknownState


@contextmanager
def told_of(function: str, inside: str) -> Generator[None]:
    """Let an error about a state name this function in place of the one inside that has found it."""
    try:
        yield
    except (MutationError, UnknownState) as error:
        raise type(error)(f"{function}{str(error).removeprefix(inside)}") from None  # "add: …", or "add() …"
