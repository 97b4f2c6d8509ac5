"""Every row of the feature map has tests, and a row in the documentation: features.toml is the list of them."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

import trsm

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "coming-from-asyncmachine-go.md").read_text(encoding="utf-8")
ROWS: dict[str, dict[str, object]] = tomllib.loads((ROOT / "tests" / "features.toml").read_text(encoding="utf-8"))
TABLE = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*) \|$", PAGE, re.MULTILINE)


@cache
def defined(path: str) -> frozenset[str]:
    """Return the names of all functions of a file, those of classes after the name of the class."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        before = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        names |= {before + one.name for one in inside if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    return frozenset(names)


def test_there_are_forty_eight_rows() -> None:
    """None is left out, in their order, each with a title and its tests."""
    assert list(ROWS) == [str(number) for number in range(1, 49)]
    assert all(set(row) == {"title", "tests"} for row in ROWS.values())


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_tests_that_exist(row: str) -> None:
    """At least one, none named twice: functions that pytest collects, and claims about types in a checked file."""
    tests = ROWS[row]["tests"]
    assert isinstance(tests, list) and tests
    assert len(set(tests)) == len(tests)
    for test in tests:
        path, _, name = test.partition("::")
        assert name in defined(path), f"row {row} names {test}, which is not there"
        if path in ("tests/typing/claims.py", "tests/typing/mistakes.py"):
            continue
        assert Path(path).name.startswith("test_") and name.rpartition("::")[2].startswith("test_"), test
    assert any(not test.startswith("tests/typing/") for test in tests)


def test_the_documentation_has_the_same_rows() -> None:
    """The feature map of the page for those who come from asyncmachine: the same numbers, the same titles."""
    assert [(number, title) for number, title, _, _ in TABLE] == [(row, ROWS[row]["title"]) for row in ROWS]


@pytest.mark.parametrize(("row", "right"), [(row, right) for row, _, _, right in TABLE])
def test_each_row_of_the_documentation_leads_to_what_is_there(row: str, right: str) -> None:
    """Its links name public things; only what is not needed has none, and says why."""
    links = re.findall(r"\]\(trsm\.([\w.]+)\)", right)
    assert links or right.startswith("not needed: ")
    for link in links:
        found: object = trsm
        for part in link.split("."):
            found = getattr(found, part)
