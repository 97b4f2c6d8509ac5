"""The page "Testing your machine": its tests pass as users run them, and messages on it are those that are printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
HERE = ROOT / "examples" / "testing"
MESSAGES = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
HEAD = "from turnstile import Handlers, Turnstile\nfrom trsm.testing import assert_active\n\nkept = []\n\n"


def ran(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tests_of_the_page_pass() -> None:
    """In their directory, with nothing but pytest."""
    done = ran(HERE)
    assert done.returncode == 0, done.stdout
    source = (HERE / "test_turnstile.py").read_text(encoding="utf-8")
    tests = re.findall(r"^(?:(?:async )?def test_|Test)\w+", source, re.MULTILINE)
    assert f"{len(tests)} passed" in done.stdout


def test_every_test_is_on_the_page() -> None:
    """None is left to be found by chance."""
    source = (HERE / "test_turnstile.py").read_text(encoding="utf-8")
    for name in re.findall(r"^(?:async )?(?:def|class) (\w+)", source, re.MULTILINE):
        assert f":pyobject: {name}\n" in PAGE or f":start-at: {name}" in PAGE, name


@pytest.mark.parametrize(
    ("file", "test", "message"),
    [
        (
            "test_message.py",
            'async def test_it(machine):\n    gate = await machine(Turnstile, Handlers(), id="gate")\n'
            "    gate.add(Turnstile.Locked)\n    assert_active(gate, Turnstile.Unlocked)\n",
            0,
        ),
        (
            "test_leak.py",
            'async def test_it(machine):\n    gate = await machine(Turnstile, Handlers(), id="gate")\n'
            "    kept.append(gate.when(Turnstile.Unlocked))\n    gate.add(Turnstile.Locked)\n",
            1,
        ),
    ],
)
def test_a_message_on_the_page_is_what_is_printed(tmp_path: Path, file: str, test: str, message: int) -> None:
    """Word for word."""
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(HERE / name, tmp_path)
    shutil.copy(ROOT / "examples" / "turnstile.py", tmp_path)
    (tmp_path / file).write_text(HEAD + test)
    done = ran(tmp_path)
    assert "1 failed" in done.stdout, done.stdout
    printed = re.sub(r"^ *\|? *(?:AssertionError: )?", "", done.stdout, flags=re.MULTILINE)
    wanted = [line.strip() for line in MESSAGES[message].splitlines()]
    lines = [line.strip() for line in printed.splitlines()]
    assert any(lines[at : at + len(wanted)] == wanted for at in range(len(lines))), done.stdout
