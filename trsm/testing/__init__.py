"""Tools to hold your own machines to the standard that trsm is held to: checks, random driving, sweeps, a plugin.

A satellite: it uses what `trsm` publishes, and nothing else. What needs Hypothesis is imported when it is first asked
for, so that the rest works without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trsm.testing._sweeping import (
        Fault,
        SweepFailure,
        call_sweep,
        cancel_sweep,
        close_sweep,
        interrupt_sweep,
        raise_sweep,
    )

__all__ = [
    "Fault",
    "SweepFailure",
    "call_sweep",
    "cancel_sweep",
    "close_sweep",
    "interrupt_sweep",
    "raise_sweep",
]

_HOMES = {
    "_sweeping": (
        "Fault",
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
