"""What a machine is opened with besides schema and handlers: its bounds and its tags, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast


class Limits:
    """The bounds of a machine."""

    __slots__ = ("drain_limit", "handler_budget", "queue_limit")

    def __init__(self, queue_limit: int, drain_limit: int, handler_budget: float) -> None:
        self.queue_limit = queue_limit
        self.drain_limit = drain_limit
        self.handler_budget = handler_budget


_USUAL = 1000, 10_000, 0.1
USUAL_LIMITS = Limits(*_USUAL)
"""What all machines share that ask for nothing else."""


def checked_limits(queue_limit: int, drain_limit: int, handler_budget: float) -> Limits:
    """Return the limits, if they are such.

    Raises:
      ValueError: one is not a positive number, or one that is counted is no whole number.
    """
    if (queue_limit, drain_limit, handler_budget) == _USUAL:
        return USUAL_LIMITS
    for name, value in (("queue_limit", queue_limit), ("drain_limit", drain_limit), ("handler_budget", handler_budget)):
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{name}={value!r}: write a positive number")
        if not isinstance(value, int) and name != "handler_budget":
            raise ValueError(f"{name}={value!r}: write a whole number")
    return Limits(queue_limit, drain_limit, handler_budget)


def checked_tags(tags: object) -> tuple[str, ...]:
    """Return the tags of a machine, each once, if they are words.

    Raises:
      TypeError: they are not.
    """
    if tags == ():
        return ()
    several = (tags,) if isinstance(tags, str) else tags
    if not isinstance(several, Iterable):
        raise TypeError(f"tags={tags!r}: write a word, or several")
    words = tuple(cast("Iterable[object]", several))
    for word in words:
        if not isinstance(word, str) or not word:
            raise TypeError(f"tags={tags!r}: {word!r} is no tag: write words")
    return tuple(dict.fromkeys(cast("tuple[str, ...]", words)))
