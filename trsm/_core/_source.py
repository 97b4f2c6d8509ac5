"""Where a mutation came from: bounded records of handlers and tasks, back to the first cause."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

import attrs

DEPTH = 32
"""How many records a chain of causes holds; in a longer one the middle is dropped and counted."""
_RECENT = DEPTH // 2
FINALS = ("on_exit", "on_enter", "on_change")
"""The roles of what runs as a part of its transition."""


@attrs.frozen
class Source:
    """What made a mutation: a handler or task of a transition. It holds names and numbers only."""

    machine: str
    """The id of the machine."""
    tick: int
    """The machine's own tick at that transition. For a task of `Machine.start_soon` that belongs to no state it is the
    last before the task was started."""
    kind: str
    """The kind of that transition, such as ``"add"`` or ``"auto"``."""
    called: tuple[str, ...]
    """The names of the states that it called, or asked to go."""
    handler: str
    """The qualified name of the handler or task."""
    parent: Source | None = None
    """What made that transition; None if it came from outside."""
    omitted: int = 0
    """How many records were dropped between this one and ``parent``."""
    role: str = "task"
    """What the handler is: ``"on_enter"`` and the like, ``"task"``, ``"timeout"`` or ``"cleanup"``."""
    depth: int = attrs.field(init=False)
    """How many records the chain holds, this one included."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 if self.parent is None else self.parent.depth + 1)

    def chain(self) -> tuple[Source, ...]:
        """Return this record and those before it, the newest first, but for those that were dropped."""
        records: list[Source] = []
        record: Source | None = self
        while record is not None:
            records.append(record)
            record = record.parent
        return tuple(records)

    @property
    def line(self) -> str:
        """This record alone, in words."""
        what = f"{self.kind}({', '.join(self.called)})"
        who = self.handler if self.role == "timeout" else f"{self.role} {self.handler}"
        # Who negotiates is asked before there is a transition, and what is no handler runs after it.
        when = "in" if self.role in FINALS else "asked after" if self.role.startswith("can_") else "after"
        return f"{who}, {when} transition {self.tick} of machine {self.machine!r}, {what}"

    def __str__(self) -> str:
        """Return the chain of causes in lines, the newest first, back to what came from outside."""
        lines: list[str] = []
        for record in self.chain():
            lines.append(f"by {record.line}")
            if record.omitted:
                lines.append(f"… {record.omitted} more …")
        return "\n".join([*lines, "from outside"])


def bounded(source: Source) -> Source:
    """Return the chain of causes with its middle dropped, if it is longer than `DEPTH`: the newest half is rebuilt."""
    if source.depth <= DEPTH:
        return source
    recent: list[Source] = [source]
    while len(recent) < _RECENT and recent[-1].parent is not None:
        recent.append(recent[-1].parent)
    rest = recent[-1].parent
    omitted = 0
    while rest is not None and rest.depth > DEPTH - _RECENT:
        omitted += 1 + rest.omitted
        rest = rest.parent
    for one in reversed(recent):
        rest = Source(one.machine, one.tick, one.kind, one.called, one.handler, rest, omitted, one.role)
        omitted = 0
    assert rest is not None  # `recent` holds at least the source itself
    return rest


class Calling(Protocol):
    """A transition, as those see it who ask what runs: it makes the record of a call of one of its handlers."""

    def _source_of_call(self, handler: Any = None, /) -> Source:
        """Return the record of a call of a handler; which it was the transition knows, where none is given."""
        ...  # a protocol's method has no body to run


CAUSE: ContextVar[Calling | tuple[Calling, object] | Source | None] = ContextVar("trsm cause", default=None)
"""The call of a handler, or the task, that runs in this context, or that has started what runs in it: a task that a
handler starts in a nursery of its own inherits it, and may outlive it."""

get_cause, set_cause = CAUSE.get, CAUSE.set
"""The same, looked up once for those who ask in every mutation."""


def current_source() -> Source | None:
    """Return the record of the handler or task that runs now; None outside of all."""
    cause = CAUSE.get()
    if cause is None or isinstance(cause, Source):
        return cause
    return cause[0]._source_of_call(cause[1]) if isinstance(cause, tuple) else cause._source_of_call()
