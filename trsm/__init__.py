"""Structured concurrency for trio, in which programs are relational, clock-based state machines.

Three rings, and an import goes inward only. ``trsm._core`` is the kernel: it decides, imports the standard library and
attrs, and knows neither trio nor I/O. The other ``trsm._…`` modules are the shell: they perform, on trio. Satellites
(public subpackages, later) use this door like everybody else. Nothing inside imports the package root.
"""

from __future__ import annotations

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
from trsm._core._reasons import Explanation, Reason
from trsm._core._schema import Schema
from trsm._core._sets import Consensus
from trsm._core._source import Source
from trsm._core._state import Call, ErrorState, State, StateRelations
from trsm._core._ticks import Ticks
from trsm._core._tracing import Observed, Saboteur, Tracer, tracing
from trsm._machine import InUse, Machine, Transition, Transitions
from trsm._opening import open_machine
from trsm._pipes import Pipe, PipeRefusal, PipeStatistics, pipe
from trsm._retry import retry
from trsm._scopes import StateScope
from trsm._waiters import Waiter, Watch, wait_all, wait_any

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

for _name in __all__:
    # What a traceback or a repr shows is the name to import.
    globals()[_name].__module__ = __name__
