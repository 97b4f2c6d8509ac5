"""The page "Check your schema": its commands print what it says; its programs are run with those of all pages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trsm.testing import Findings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```console\n\$ python (.*?)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("command", "printed"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_each_command_prints_what_the_page_says(command: str, printed: str) -> None:
    """In the directory of its example, with the exit code that the page promises."""
    done = subprocess.run(
        [sys.executable, "-B", *command.split()],
        cwd=ROOT / "examples" / "checking",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == printed
    assert (done.stderr, done.returncode) == ("", 0 if "nothing found" in printed else 1)


def test_no_command_is_left_out() -> None:
    """The pattern that finds them finds each block."""
    assert len(COMMANDS) == PAGE.count("```console") == 3


def test_every_kind_of_finding_is_defined_on_the_page() -> None:
    """And nothing that is none."""
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == sorted(Findings.KINDS)
