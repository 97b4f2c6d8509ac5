"""Tracers: observers of a machine, told what happens and unable to change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from trsm._core._mutation import Result
from trsm._core._state import State


class Tracer:
    """The base of tracers: each method is called when something happens, and does nothing unless overridden.

    A tracer that raises is detached and logged; the machine goes on. Each method gets the machine's id first.
    """

    def slow_handler(self, machine: str, handler: str, seconds: float) -> None:
        """Called when a sync handler took longer than ``handler_budget`` seconds: it blocked every task."""

    def unstable(self, machine: str, states: tuple[State[..., object], ...]) -> None:
        """Called when a second automatic round would still change `states`, after a drain has settled."""

    def then_refused(self, machine: str, state: State[..., object], result: Result) -> None:
        """Called when the ``then=`` of a task was not executed; it is logged as a warning too."""


def checked_tracers(tracers: object) -> tuple[Tracer, ...]:
    """Return the tracers that a machine was given, if they are such.

    Raises:
      TypeError: it is no iterable of tracers.
    """
    if not isinstance(tracers, Iterable):
        raise TypeError(f"tracers={tracers!r}: pass several, [{tracers!r}] if it is one")
    several = tuple(cast("Iterable[object]", tracers))
    for tracer in several:
        if not isinstance(tracer, Tracer):
            raise TypeError(f"tracers=[…]: {tracer!r} is no tracer: pass objects of a class that inherits from Tracer")
    return cast("tuple[Tracer, ...]", several)
