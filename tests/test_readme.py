"""README.md holds what it promises: its program runs, its commands are those of the house, its links lead somewhere."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```\n", TEXT, re.MULTILINE | re.DOTALL)


def run(program: str, where: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as a process of its own, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", "-c", program],
        cwd=where,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("block", BLOCKS)
def test_each_program_runs_beside_the_readme(block: str) -> None:
    """Word for word as it stands there."""
    ended = run(block, ROOT)
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_the_first_program_hashes_the_readme() -> None:
    """It says so when it starts, and prints the right digest."""
    assert run(BLOCKS[0], ROOT).stdout == f"processing README.md\n{hashlib.sha256(README.read_bytes()).hexdigest()}\n"


def test_the_first_program_without_the_file_fails_as_the_text_says(tmp_path: Path) -> None:
    """The error comes out of the block in a group, since nothing declares how to handle it."""
    ended = run(BLOCKS[0], tmp_path)
    assert ended.stdout == "processing README.md\n"
    assert ended.returncode == 1
    assert "ExceptionGroup: unhandled in machine" in ended.stderr
    assert "FileNotFoundError" in ended.stderr


def test_the_first_program_with_the_error_state_of_the_text_ends_with_a_state(tmp_path: Path) -> None:
    """What the text tells readers to declare is enough to make a state of the error."""
    declared = "    ErrRead = ErrorState(catches=OSError)\n"
    assert declared.strip() in TEXT
    changed = (
        BLOCKS[0]
        .replace("from trsm import", "from trsm import ErrorState,")
        .replace("\n\n\nclass FileHandlers", f"\n{declared}\n\nclass FileHandlers")
        .replace(
            "await machine.when(FileFlow.Processed)", "await machine.when_any(FileFlow.Processed, FileFlow.ErrRead)"
        )
        .replace("print(done.result)", "print(done.error)")
    )
    ended = run(changed, tmp_path)
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert "No such file" in ended.stdout


def test_the_first_program_stands_in_the_first_screen() -> None:
    """It starts within the first dozen lines."""
    assert TEXT.splitlines().index("```python") < 15


def test_what_it_is_and_why_takes_five_sentences() -> None:
    """Between the title and the program."""
    opening = TEXT.split("```python")[0].removeprefix("# trsm")
    assert len(re.findall(r"\.(?=\s)", opening)) == 5


def test_the_two_commands_are_there_and_run_what_there_is() -> None:
    """The example exists, and the second command is what the build runs."""
    commands = re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)
    assert commands == ["pip install -e . && python examples/file_flow.py README.md", "pip install nox && nox"]
    assert (ROOT / "examples" / "file_flow.py").is_file()
    assert "pip install -q nox && nox" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_each_link_leads_to_a_file() -> None:
    """Links inside the repository are not broken."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("https://")]
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link
