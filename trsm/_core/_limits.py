"""The bounds of a machine."""

from __future__ import annotations

import attrs


@attrs.frozen
class Limits:
    """The bounds of a machine."""

    queue_limit: int = 1000
    drain_limit: int = 10_000
    handler_budget: float = 0.1


def checked_limits(queue_limit: int, drain_limit: int, handler_budget: float) -> Limits:
    """Return the limits, if they are such.

    Raises:
      ValueError: one is not a positive number.
    """
    for name, value in (("queue_limit", queue_limit), ("drain_limit", drain_limit), ("handler_budget", handler_budget)):
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{name}={value!r}: write a positive number")
    return Limits(queue_limit, drain_limit, handler_budget)
