"""Structured concurrency for trio, in which programs are relational, clock-based state machines.

Three rings, and an import goes inward only. ``trsm._core`` is the kernel: it decides, imports the standard library and
attrs, and knows neither trio nor I/O. The other ``trsm._…`` modules are the shell: they perform, on trio. Satellites
(``trsm.testing``, ``trsm.schemas``, the command) use this door like everybody else. Nothing inside imports the package
root.

A machine is one object of four classes, each of which inherits the one before, so that a mutation is one frame:
`Runner` (kernel) decides: queue, transitions, errors, closing; `Engine` (kernel) is its face, and checks what is asked;
`Performer` (shell) acts on what was committed: scopes, tasks, timeouts; `Machine` (shell) adds waiters, children, what
leaves the block, and closing as a whole. Each calls hooks of its own, which those after it override.

What few programs need is imported when it is first asked for: see `_LATER`.
"""

from __future__ import annotations

import typing

from trsm._core._engine import Binding, Engine
from trsm._core._errors import (
    BufferFull,
    HandlerError,
    MachineClosed,
    MutationError,
    NotSettled,
    QueueFull,
    ReadOnly,
    RestoredError,
    SchemaError,
    SnapshotError,
    TrsmError,
    UnknownState,
    WrongThread,
)
from trsm._core._groups import Group, exclusive
from trsm._core._logging import LogTracer
from trsm._core._mutation import Canceled, Executed, Queued, QueuedMutation, Result
from trsm._core._schema import Schema
from trsm._core._source import Source
from trsm._core._state import Call, ErrorState, State, StateRelations
from trsm._core._ticks import Ticks
from trsm._core._tracing import Observed, Saboteur, Tracer, tracing
from trsm._machine import InUse, Machine, Transition, Transitions
from trsm._opening import open_machine
from trsm._scopes import StateScope
from trsm._waiters import Waiter, Watch, wait_all, wait_any

if typing.TYPE_CHECKING:
    from trsm._core._reasons import Explanation, Reason
    from trsm._core._sets import Consensus
    from trsm._pipes import Pipe, PipeRefusal, PipeStatistics, pipe
    from trsm._retry import retry

__all__ = [
    "Binding",
    "BufferFull",
    "Call",
    "Canceled",
    "Consensus",
    "Engine",
    "ErrorState",
    "Executed",
    "Explanation",
    "Group",
    "HandlerError",
    "InUse",
    "LogTracer",
    "Machine",
    "MachineClosed",
    "MutationError",
    "NotSettled",
    "Observed",
    "Pipe",
    "PipeRefusal",
    "PipeStatistics",
    "QueueFull",
    "Queued",
    "QueuedMutation",
    "ReadOnly",
    "Reason",
    "RestoredError",
    "Result",
    "Saboteur",
    "Schema",
    "SchemaError",
    "SnapshotError",
    "Source",
    "State",
    "StateRelations",
    "StateScope",
    "Ticks",
    "Tracer",
    "Transition",
    "Transitions",
    "TrsmError",
    "UnknownState",
    "Waiter",
    "Watch",
    "WrongThread",
    "exclusive",
    "open_machine",
    "pipe",
    "retry",
    "tracing",
    "wait_all",
    "wait_any",
]

_LATER = {
    "Consensus": "trsm._core._sets",
    "Explanation": "trsm._core._reasons",
    "Pipe": "trsm._pipes",
    "PipeRefusal": "trsm._pipes",
    "PipeStatistics": "trsm._pipes",
    "Reason": "trsm._core._reasons",
    "pipe": "trsm._pipes",
    "retry": "trsm._retry",
}
"""Public name -> the module that is imported when somebody asks for it."""

for _name in __all__:
    if _name not in _LATER:
        # What a traceback or a repr shows is the name to import.
        globals()[_name].__module__ = __name__

if not typing.TYPE_CHECKING:  # pragma: no branch - it would let every name pass, and is never true when this runs

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
        value.__module__ = __name__
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})
