"""What holds for every example."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.running import ENVIRONMENT, EXAMPLES, PATIENCE, run

NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
SEVEN = {"dependency_graph.py", "echo_server.py", "fan_out.py", "file_flow.py", "relations_quiz.py", "turnstile.py"}


def test_the_examples_are_there() -> None:
    """What the other tests here look at is not an empty list."""
    assert set(NAMES) >= SEVEN


@pytest.mark.parametrize("name", NAMES)
def test_example_is_short(name: str) -> None:
    """An example can be read in one sitting: it has 150 lines at most."""
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", NAMES)
def test_example_says_how_it_is_run(name: str) -> None:
    """The docstring at the top holds the command that runs it."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    assert f"python examples/{name}" in (docstring or "")


@pytest.mark.parametrize("name", NAMES)
def test_example_has_a_test(name: str) -> None:
    """Beside this file stands one that is named after the example, and runs it."""
    assert f'"{name}"' in (Path(__file__).parent / f"test_{name}").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_example_needs_nothing_but_trsm_and_what_comes_with_it(name: str) -> None:
    """It imports the standard library, what trsm depends on, and trsm by its door."""
    for node in ast.walk(ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "?"]
        else:
            continue
        for module in modules:
            assert module in ("trsm", "trio", "attrs") or module.partition(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_are_refused_without_a_traceback(name: str, tmp_path: Path) -> None:
    """An option that there is not ends in one line that shows it, and an exit code that is not 0."""
    ended = run(name, "--nonsense", "and more", cwd=tmp_path)
    ended.assert_refused("nonsense")
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


PRINTING: dict[str, list[str]] = {
    "dependency_graph.py": ["graph"],  # the built-in one has commands that print, and complain for themselves
    "echo_server.py": [],
    "expense_approval.py": ["claim.json", "--submit", "Ann", "5", "chair"],
    "fan_out.py": ["6"],
    "file_flow.py": ["file"],
    "path_watcher.py": ["--poll", "."],
    "pipes.py": [],
    "regex_nfa.py": ["a", "a"],
    "relations_quiz.py": [],
    "turnstile.py": [],
}
"""Example -> arguments with which it prints something."""


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe that nobody reads is told of in another way there")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", NAMES)
def test_nobody_reads_what_is_printed(name: str, unbuffered: str, tmp_path: Path) -> None:
    """As with ``| head -1``: it ends, without a traceback."""
    (tmp_path / "file").touch()
    (tmp_path / "graph").write_text(f"one: = {sys.executable} -c pass")
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *PRINTING[name]],
        stdin=subprocess.DEVNULL,
        stdout=written,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered},
        timeout=PATIENCE,
        check=False,
        text=True,
    )
    os.close(written)
    assert done.returncode not in (0, 120)  # 120: Python itself complains, at its end
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
