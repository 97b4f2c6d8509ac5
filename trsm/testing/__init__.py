"""Tools to hold your own machines to the standard that trsm is held to: checks, random driving, sweeps, a plugin.

A satellite: it uses what `trsm` publishes, and nothing else. What needs Hypothesis is imported when it is first asked
for, so that the rest works without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trsm.testing._asserting import (
        Recording,
        assert_active,
        assert_inactive,
        assert_ticks,
        record_transitions,
    )
    from trsm.testing._checking import Finding, Findings, check
    from trsm.testing._exploring import Edge, Exploration, Path, TooManySets, explore
    from trsm.testing._faults import Fault
    from trsm.testing._mutations import Mutation
    from trsm.testing._opened import OpenMachine
    from trsm.testing._stateful import MachineRules
    from trsm.testing._strategies import Reached, machines, mutations, schemas
    from trsm.testing._sweeping import (
        SweepFailure,
        call_sweep,
        cancel_sweep,
        close_sweep,
        interrupt_sweep,
        raise_sweep,
    )

__all__ = [
    "Edge",
    "Exploration",
    "Fault",
    "Finding",
    "Findings",
    "MachineRules",
    "Mutation",
    "OpenMachine",
    "Path",
    "Reached",
    "Recording",
    "SweepFailure",
    "TooManySets",
    "assert_active",
    "assert_inactive",
    "assert_ticks",
    "call_sweep",
    "cancel_sweep",
    "check",
    "close_sweep",
    "explore",
    "interrupt_sweep",
    "machines",
    "mutations",
    "raise_sweep",
    "record_transitions",
    "schemas",
]

_HOMES = {
    "_asserting": (
        "Recording",
        "assert_active",
        "assert_inactive",
        "assert_ticks",
        "record_transitions",
    ),
    "_opened": ("OpenMachine",),
    "_checking": ("Finding", "Findings", "check"),
    "_exploring": ("Edge", "Exploration", "Path", "TooManySets", "explore"),
    "_faults": ("Fault",),
    "_mutations": ("Mutation",),
    "_stateful": ("MachineRules",),
    "_strategies": ("Reached", "machines", "mutations", "schemas"),
    "_sweeping": (
        "SweepFailure",
        "call_sweep",
        "cancel_sweep",
        "close_sweep",
        "interrupt_sweep",
        "raise_sweep",
    ),
}
"""Module -> the public names that are written there."""


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            try:
                module = importlib.import_module(f"trsm.testing.{home}")
            except ModuleNotFoundError as error:
                if error.name not in {"hypothesis", "pytest", "pytest_trio", "tqdm"}:
                    raise
                raise ImportError(f"trsm.testing.{name} needs {error.name}: pip install trsm[testing]") from error
            value = getattr(module, name)
            value.__module__ = __name__  # what a traceback or a repr shows is the name to import
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
