"""What mutation testing is told, and what it makes of how its mutants end: mutants.py, docs/mutation-testing.md."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import mutants
import pytest

ROOT = Path(__file__).parents[1]
SELECTION: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"][
    "pytest_add_cli_args_test_selection"
]
PAGE = (ROOT / "docs/mutation-testing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("argument", SELECTION)
def test_what_is_selected_and_left_out_is_there(argument: str) -> None:
    """A test that was renamed would be run, and what ends in a second run of it would count as killed."""
    path, _, name = argument.removeprefix("--ignore=").removeprefix("--deselect=").partition("::")
    assert (ROOT / path).exists()
    assert bool(name) == argument.startswith("--deselect=")
    if name:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert name.partition("[")[0] in tests


def test_what_did_not_fail_by_itself_is_not_killed() -> None:
    """Only a run that a test fails, or that pytest cannot go through, kills; slowness does not."""
    ended = {
        "trsm._core._a.x_one__mutmut_1": 1,
        "trsm._core._a.x_one__mutmut_2": 3,
        "trsm._core._a.x_two__mutmut_1": 0,
        "trsm._core._b.x_three__mutmut_1": 33,
        "trsm._core._b.x_three__mutmut_2": -24,
    }
    lines, share = mutants.table(ended)
    assert lines == [
        "| module | mutants | killed | stopped | survived |",
        "|---|---|---|---|---|",
        "| `_a` | 3 | 2 | 0 | 1 |",
        "| `_b` | 2 | 0 | 1 | 1 |",
        "| all | 5 | 2 | 1 | 2 |",
    ]
    assert share == 40


def test_the_page_has_the_figures_of_the_sample_that_is_taken() -> None:
    """They add up and are good enough; each survivor stands there with its reason."""
    table = re.findall(r"^\| `?(\w+)`? \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    *rows, every = [(module, *map(int, figures)) for module, *figures in table]
    assert every == ("all", *(sum(row[column] for row in rows) for column in range(1, 5)))
    assert all((ROOT / f"trsm/_core/{module}.py").exists() for module, *_ in rows)
    _, tried, killed, stopped, survived = every
    assert tried == mutants.SIZE == killed + stopped + survived
    assert 100 * killed >= mutants.DUE * tried
    assert f"{tried} mutants of the kernel, seed {mutants.SEED}" in PAGE
    assert f"**{killed} were killed, {100 * killed / tried:.1f} %.**" in PAGE
    assert len(re.findall(r"^\| `[\w.]+`.* \| .+ \| .+ \|$", PAGE.partition("## The survivors")[2], re.M)) == survived
