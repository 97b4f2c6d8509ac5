"""Plans: all that a mutation does to an active set, worked out once and kept under (active set, request)."""

from __future__ import annotations

from collections.abc import Callable

from trsm._core._bits import members
from trsm._core._consensus import Kind, Request, decide
from trsm._core._records import Record
from trsm._core._relations import Relations
from trsm._core._state import HandlerKind


class Handler(Record):
    """One bound handler: a function, and the place of the object it belongs to among those that were bound."""

    kind: HandlerKind
    name: str
    function: Callable[..., object]
    place: int
    """Which bound object the function is called with; -1 for a plain function, which takes the transition alone."""
    state: int = -1
    given: int = -1
    watches: bool = False
    """Whether it only watches, and handles no error."""


class TaskHandler(Handler):
    """A bound task."""

    then: int = -1
    timeout: float | None = None
    limit: int | None = None


Step = tuple[Callable[..., object], int, Handler]
"""A handler laid out for the loop that calls it."""


class Plan(Record):
    """What becomes of `request` when `active` is active, in the order in which it happens."""

    request: Request
    active: int
    accepted: bool
    """Whether the relations allow it; negotiation may still refuse."""
    target: int
    entering: tuple[int, ...] = ()
    """States that activate, and multi states called again, in the order in which their handlers run."""
    leaving: tuple[int, ...] = ()
    flips: tuple[int, ...] = ()
    """States that activate or deactivate: their ticks move by 1."""
    repeats: tuple[int, ...] = ()
    """Active multi states that are called again: their ticks move by 2."""
    moved: int = 0
    began: tuple[int, ...] = ()
    """States of which an instance begins."""
    touched: int = 0
    """States that move, are called or are asked to go: what an observer may have to look at."""
    touches: tuple[int, ...] = ()
    """The same, one by one."""
    negotiation: tuple[Step, ...] = ()
    finals: tuple[Step, ...] = ()
    """``on_exit`` of those leaving, ``on_enter`` of those entering, ``on_change``."""
    noted: Handler | None = None
    """Who stands for all handlers when a cause is noted, if none of them needs a note of its own; see `CAUSE`."""
    tasks: tuple[tuple[int, tuple[TaskHandler, ...]], ...] = ()
    """Entering states that have tasks, and those."""
    moves_error: bool = False
    """Whether the tick of ``Error`` moves, and so what ``machine.error`` is may change."""
    is_followed: bool = False
    """Whether the automatic round follows it."""
    is_quiet: bool = False
    """Whether nothing but the commit remains to be done, as far as the engine knows: nobody is called or follows."""


def outline(relations: Relations, active: int, request: Request) -> Plan:
    """Return the plan of a machine without handlers."""
    verdict = decide(relations, active, request)
    if not verdict.accepted:
        return Plan(request, active, accepted=False, target=active, touched=request.called)
    target = verdict.found
    again = active & target & relations.multi & verdict.called
    entering = relations.in_order((target & ~active) | again)
    leaving = relations.in_order(active & ~target)[::-1]
    changed = active ^ target
    moved = changed | again
    touched = moved | verdict.called | (0 if request.kind in BARRING else request.dropped)
    is_followed = bool(moved and relations.auto and request.kind in FOLLOWED)
    error = 1 << len(relations.names) - 1
    return Plan(
        request,
        active,
        accepted=True,
        target=target,
        entering=entering,
        leaving=leaving,
        flips=tuple(members(changed)),
        repeats=tuple(members(again)),
        moved=moved,
        began=tuple(members(target & ~active)),
        touched=touched,
        touches=tuple(members(touched)),
        moves_error=bool(moved & error),
        is_followed=is_followed,
        is_quiet=request.kind in ASKED and not is_followed and not changed & error,
    )


ASKED = frozenset({Kind.ADD, Kind.REMOVE, Kind.SET, Kind.MUTATE})
"""What users ask for."""
FOLLOWED = ASKED | {Kind.ERROR}
"""What the automatic round follows, if it moved a tick."""
BARRING = frozenset({Kind.AUTO, Kind.ERROR})
"""Mutations whose dropped states are only kept out."""
OPENING = Request(Kind.OPEN)
"""What the first transition of each machine stands for: it mutates nothing."""
