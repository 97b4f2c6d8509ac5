"""The benchmark itself: its cases run, and the page of its figures is what they make it. Nothing is timed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trsm

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TREE = Path(trsm.__file__).parent.parent


def run(*args: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the benchmark, with the trsm that is tested here."""
    environment = os.environ | {"PYTHONPATH": str(TREE)}
    return subprocess.run([sys.executable, *args], cwd=BENCHMARKS, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("library", ["with_trsm", "by_hand"])
def test_every_case_once(library: str) -> None:
    """Every case of trsm, and of what it is compared with in trio, runs and gives a figure."""
    done = run("worker.py", library, "--once")
    assert done.returncode == 0, done.stderr
    about, *answers = map(json.loads, done.stdout.splitlines())
    assert [answer["case"] for answer in answers] == about["cases"]
    assert [answer for answer in answers if "error" in answer] == []


def test_page_of_figures() -> None:
    """docs/costs.md is what benchmarks/page.py makes of the figures that are committed."""
    done = run("page.py", "--check")
    assert done.returncode == 0, done.stderr


def test_page_that_was_edited(tmp_path: Path) -> None:
    """A page that is not what the figures make it is found, and the command to make it is named."""
    for path in BENCHMARKS.glob("*.*"):
        (tmp_path / "benchmarks").mkdir(exist_ok=True)
        (tmp_path / "benchmarks" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "costs.md").write_text("# What it costs\n\nNothing.\n")
    done = run(str(tmp_path / "benchmarks" / "page.py"), "--check")
    assert done.returncode == 1
    assert "run python benchmarks/page.py" in done.stderr
