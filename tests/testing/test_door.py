"""The door of `trsm.testing`: one place for each name, and what is not installed is asked for in a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

import trsm.testing


def test_each_name_is_there_once() -> None:
    """Sorted, listed, and saying that it lives there."""
    assert trsm.testing.__all__ == sorted(trsm.testing.__all__)
    homes = [name for names in trsm.testing._HOMES.values() for name in names]
    assert sorted(homes) == trsm.testing.__all__
    for name in trsm.testing.__all__:
        assert getattr(trsm.testing, name).__module__ == "trsm.testing"
    assert set(trsm.testing.__all__) <= set(dir(trsm.testing))


def test_name_that_is_not_there() -> None:
    """It is an attribute error, as of any module."""
    with pytest.raises(AttributeError, match=r"module 'trsm\.testing' has no attribute 'sweep'"):
        _ = trsm.testing.sweep


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr


def test_what_needs_hypothesis_says_so() -> None:
    """The rest works without."""
    hidden = "import sys; sys.modules['hypothesis'] = None\n"
    assert run(f"{hidden}from trsm.testing import cancel_sweep, Mutation, assert_active") == ""
    for name in ("schemas", "MachineRules"):
        error = run(f"{hidden}from trsm.testing import {name}").strip().splitlines()[-1]
        assert error == f"ImportError: trsm.testing.{name} needs hypothesis: pip install trsm[testing]"


def test_what_is_missing_is_looked_for_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the extra brings is told with the extra; a module of our own is not."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "trsm.testing._strategies", raising=False)
    with pytest.raises(ImportError, match=r"trsm\.testing\.schemas needs hypothesis: pip install trsm\[testing\]"):
        trsm.testing.__getattr__("schemas")
    monkeypatch.setitem(sys.modules, "trsm.testing._laws", None)
    monkeypatch.delitem(sys.modules, "trsm.testing._sweeping", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"import of trsm\.testing\._laws halted"):
        trsm.testing.__getattr__("cancel_sweep")


def test_other_missing_modules_are_told_as_they_are() -> None:
    """They are no matter of what is installed."""
    error = run("import sys; sys.modules['trsm.testing._laws'] = None\nfrom trsm.testing import cancel_sweep")
    assert error.strip().splitlines()[-1].startswith("ModuleNotFoundError: import of trsm.testing._laws halted")


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    """Neither Hypothesis nor pytest."""
    code = "import sys, trsm.testing; print({'hypothesis', 'pytest', 'tqdm'} & set(sys.modules), file=sys.stderr)"
    assert run(code) == "set()\n"
