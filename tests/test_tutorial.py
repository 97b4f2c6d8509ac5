"""The five programs of the tutorial, run as processes; what its pages show of a session is what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGINT

import pytest
import trio

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "examples" / "tutorial"
PAGES = sorted((ROOT / "docs" / "tutorial").glob("[1-5]-*.md"))
PATIENCE = 60
"""Seconds after which a test fails that would hang; nothing waits so long on purpose."""
PYTHON = sys.executable

GREETING = "print('hello')"
BUSY = """
import os, time
print("begun", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
print("through", flush=True)
"""
"""A command that runs until a file called ``go`` is there."""


class Session:
    """A program that runs in a directory, with both its streams in one, as in a terminal."""

    def __init__(self, process: trio.Process, where: Path) -> None:
        self.process = process
        self.where = where
        self.text = ""
        self.read = 0
        """How much of it has been asked for."""
        self.saved = 0

    async def line(self) -> str:
        """Return the next line that it prints; an empty one is its end."""
        assert self.process.stdout is not None
        while "\n" not in self.text[self.read :]:
            data = await self.process.stdout.receive_some()
            if not data:
                return self.text[self.read :]
            self.text += data.decode()
        line, _, _ = self.text[self.read :].partition("\n")
        self.read += len(line) + 1
        return line

    async def until(self, line: str) -> None:
        """Read lines until this one."""
        while (found := await self.line()) != line:
            assert found, f"it ended without the line {line!r}: {self.text}"

    async def type(self, line: str) -> None:
        """Give it a line of input."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(f"{line}\n".encode())

    def save(self, name: str, text: str) -> None:
        """Write a file, at another time than ever before."""
        path = self.where / name
        path.with_name("other").write_text(text, encoding="utf-8")
        self.saved += 1
        os.utime(path.with_name("other"), ns=(self.saved, self.saved))
        path.with_name("other").replace(path)

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(SIGINT)

    async def end(self) -> int:
        """Wait for its end and return its code."""
        assert self.process.stdout is not None
        async for data in self.process.stdout:
            self.text += data.decode()
        return await self.process.wait()


@asynccontextmanager
async def session(where: Path, name: str, *args: str) -> AsyncIterator[Session]:
    """Run a program for the length of a block; what still runs at its end is killed."""
    process = await trio.lowlevel.open_process(
        [PYTHON, "-W", "error", str(PROGRAMS / name), *args],
        cwd=str(where),
        # so that `python` in a command is this one
        env={**os.environ, "PATH": os.pathsep.join([str(Path(PYTHON).parent), os.environ["PATH"]]), "PYTHONUTF8": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        with trio.fail_after(PATIENCE):
            yield Session(process, where)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.aclose()
            await process.stdout.aclose()


def shown(page: Path) -> list[list[str]]:
    """Return the sessions that a page shows, each as its lines."""
    text = page.read_text(encoding="utf-8")
    return [block.splitlines() for block in re.findall(r"^```console\n(.*?)^```\n", text, re.MULTILINE | re.DOTALL)]


ENDING = {"rerun1", "rerun2", "rerun5"}
"""Programs whose sessions go on to their end; the others run until they are killed."""
SESSIONS = [
    pytest.param(lines, id=f"{page.stem}:{number}")
    for page in PAGES
    for number, lines in enumerate(shown(page), start=1)
]


@pytest.mark.parametrize("lines", SESSIONS)
async def test_a_session_goes_as_its_page_shows_it(lines: list[str], tmp_path: Path) -> None:
    """The first line is the command, ``<`` is typed, ``#`` says what the reader does; every other line is printed."""
    python, program, *args = re.findall(r"\"[^\"]*\"|\S+", lines[0].removeprefix("$ "))
    assert python == "python"
    (tmp_path / "greet.py").write_text(GREETING)
    async with session(tmp_path, Path(program).name, *(one.strip('"') for one in args)) as running:
        for line in lines[1:]:
            if line.startswith("< "):
                await running.type(line.removeprefix("< "))
            elif line.startswith("# now write into the file: "):
                running.save("greet.py", line.removeprefix("# now write into the file: "))
            elif line == "# now rename the file, so that it is not there":
                (tmp_path / "greet.py").rename(tmp_path / "renamed.py")
            elif line == "# now press Ctrl-C":
                running.interrupt()
            else:
                assert await running.line() == line
        if Path(program).stem in ENDING:
            is_failed = any(line.startswith("failed") for line in lines)
            assert await running.end() == is_failed
            assert running.text.count("\n") == sum(line[0] not in "<#" for line in lines[1:])


def test_there_is_a_session_on_each_page() -> None:
    """The pattern that finds them finds each."""
    assert [page.name[0] for page in PAGES] == list("12345")
    for page in PAGES:
        assert len(shown(page)) == page.read_text(encoding="utf-8").count("```console") > 0


@pytest.mark.parametrize("number", range(1, 6))
def test_each_page_includes_its_program_whole(number: int) -> None:
    """And all that it shows of code is taken from that file."""
    text = PAGES[number - 1].read_text(encoding="utf-8")
    included = re.findall(r"^```\{literalinclude\} (\S+)$", text, re.MULTILINE)
    assert set(included) == {f"../../examples/tutorial/rerun{number}.py"}
    assert re.search(rf"rerun{number}\.py\n```$", text, re.MULTILINE), "nowhere whole"
    assert "```python" not in text


@pytest.mark.parametrize("number", range(1, 6))
async def test_a_program_without_a_command_says_how_to_call_it(number: int, tmp_path: Path) -> None:
    """In one line, before anything happens."""
    arguments: tuple[tuple[str, ...], ...] = ((),) if number < 3 else ((), ("file", "--"))
    for args in arguments:
        async with session(tmp_path, f"rerun{number}.py", *args) as running:
            assert await running.end() == 1
            assert f"write rerun{number}.py " in running.text
            assert running.text.count("\n") == 1


async def test_a_failing_command_on_page_1_leaves_the_block_as_a_group(tmp_path: Path) -> None:
    """As the page says: nothing takes the exception, so the machine closes."""
    async with session(tmp_path, "rerun1.py", PYTHON, "-c", "raise SystemExit(3)") as running:
        assert await running.end() == 1
        assert "ExceptionGroup: unhandled in machine 'rerun' (1 sub-exception)" in running.text
        assert "CalledProcessError" in running.text
        assert "Passed" not in running.text.split("Traceback")[0]


async def test_the_code_of_page_2_tells_failed_from_passed(tmp_path: Path) -> None:
    """Zero for a command that passed, one for a command that failed or could not start."""
    for command, code in ((("-c", ""), 0), (("-c", "raise SystemExit(3)"), 1)):
        async with session(tmp_path, "rerun2.py", PYTHON, *command) as running:
            assert await running.end() == code
    async with session(tmp_path, "rerun2.py", "./nowhere") as running:
        assert await running.end() == 1


@pytest.mark.parametrize("program", ["rerun3.py", "rerun4.py", "rerun5.py"])
async def test_a_change_during_a_run_ends_it_before_the_next_begins(program: str, tmp_path: Path) -> None:
    """The first command never comes through, and is not reported as passed or failed."""
    (tmp_path / "watched").touch()
    (tmp_path / "busy.py").write_text(BUSY)
    async with session(tmp_path, program, "watched", "--", PYTHON, "busy.py") as running:
        await running.until("begun")
        running.save("watched", "new")
        await running.until("begun")
        running.save("go", "")
        assert await running.line() == "through"
        assert await running.line() == "passed (Watching:1 Passed:1)"
        assert running.text.count("through") == 1
        assert "failed" not in running.text


@pytest.mark.parametrize("program", ["rerun3.py", "rerun4.py", "rerun5.py"])
async def test_a_command_that_failed_can_pass_later(program: str, tmp_path: Path) -> None:
    """A new run forgets the failure: neither Failed nor Error is left."""
    (tmp_path / "greet.py").write_text("raise SystemExit(3)")
    async with session(tmp_path, program, "greet.py", "--", PYTHON, "greet.py") as running:
        await running.line()
        assert (await running.line()).startswith("failed (Watching:1 Failed:1 Error:1) ")
        running.save("greet.py", GREETING)
        await running.until("passed (Watching:1 Passed:1)")


@pytest.mark.parametrize("program", ["rerun4.py", "rerun5.py"])
async def test_a_change_while_paused_is_run_afterwards(program: str, tmp_path: Path) -> None:
    """The watcher is refused, and finds the change again when it looks after the pause."""
    (tmp_path / "greet.py").write_text(GREETING)
    async with session(tmp_path, program, "greet.py", "--", PYTHON, "greet.py") as running:
        await running.until("passed (Watching:1 Passed:1)")
        await running.type("pause")
        assert await running.line() == "(Watching:1 Paused:1 Passed:1)"
        running.save("greet.py", "print('changed')")
        await running.type("why")
        assert await running.line() == "add(Changed) is refused."
        await running.type("pause")
        await running.until("changed")
        assert await running.line() == "passed (Watching:1 Passed:3)"


@pytest.mark.parametrize("program", ["rerun4.py", "rerun5.py"])
async def test_a_file_that_comes_back_is_run_and_a_strange_word_is_answered(program: str, tmp_path: Path) -> None:
    """While it is away the change is refused."""
    (tmp_path / "watched").touch()
    async with session(tmp_path, program, "watched", "--", PYTHON, "-c", "") as running:
        await running.until("passed (Watching:1 Passed:1)")
        (tmp_path / "watched").unlink()
        await running.type("what")
        assert await running.line() == "'what': write pause or why"
        await running.type("why")
        assert "Handlers.has_all_files" in await running.line()
        running.save("watched", "back")
        await running.until("passed (Watching:1 Passed:3)")


async def test_ctrl_c_lets_the_command_finish_and_starts_no_other(tmp_path: Path) -> None:
    """Nor does a change that comes after it."""
    (tmp_path / "watched").touch()
    (tmp_path / "busy.py").write_text(BUSY)
    async with session(tmp_path, "rerun5.py", "watched", "--", PYTHON, "busy.py") as running:
        await running.until("begun")
        running.interrupt()
        await running.until("stopping")
        running.save("watched", "new")
        running.save("go", "")
        await running.until("through")
        assert await running.line() == "passed (Stopping:1 Passed:1)"
        assert await running.line() == "runs: 1, passed: 1"
        assert await running.end() == 0


async def test_ctrl_c_lets_a_command_fail_to_its_end(tmp_path: Path) -> None:
    """A failure is the end of a run, too; the code says so."""
    (tmp_path / "watched").touch()
    (tmp_path / "busy.py").write_text(f"{BUSY}\nraise SystemExit(3)")
    async with session(tmp_path, "rerun5.py", "watched", "--", PYTHON, "busy.py") as running:
        await running.until("begun")
        running.interrupt()
        await running.until("stopping")
        running.save("go", "")
        await running.until("through")
        assert (await running.line()).startswith("failed (")
        assert await running.line() == "runs: 1, passed: 0"
        assert await running.end() == 1


async def test_the_second_ctrl_c_stops_the_command(tmp_path: Path) -> None:
    """It never comes through."""
    (tmp_path / "watched").touch()
    (tmp_path / "busy.py").write_text(BUSY)
    async with session(tmp_path, "rerun5.py", "watched", "--", PYTHON, "busy.py") as running:
        await running.until("begun")
        running.interrupt()
        await running.until("stopping")
        running.interrupt()
        assert await running.line() == "runs: 1, passed: 0"
        assert await running.end() == 1
        assert "through" not in running.text
        assert "Traceback" not in running.text
