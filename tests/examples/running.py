"""Examples as users run them: real processes, whose output is read as it comes. Timeouts are only a backstop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 60
"""Seconds after which a test fails that would hang; nothing waits so long on purpose."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""Without what would hide that an example does not flush what somebody waits for."""


@attrs.frozen
class Ended:
    code: int
    out: str
    err: str

    def assert_refused(self, *words: str) -> None:
        """Nothing was done, and the last line says why, with no traceback."""
        assert self.code not in (0, None)
        assert "Traceback" not in self.err
        last = self.err.rstrip("\n").splitlines()[-1]
        for word in words:
            assert word in last


def run(name: str, *args: object, cwd: Path, given: str = "") -> Ended:
    """Run an example to its end."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, args)],
        input=given.encode(),
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


class Output:
    """What a process writes to one of its streams."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self.stream = stream
        self.text = ""
        self.read = 0
        """How much of it has been waited for."""

    async def until(self, words: str) -> str:
        """Wait for a line that holds these words, after the last one waited for, and return it."""
        while True:
            *lines, _ = self.text[self.read :].split("\n")
            for line in lines:
                self.read += len(line) + 1
                if words in line:
                    return line
            if not (data := await self.stream.receive_some()):
                raise AssertionError(f"ended without a line with {words!r}: {self.text}")
            self.text += data.decode(errors="replace")

    async def rest(self) -> str:
        """Wait for the end, and return all that was written."""
        async for data in self.stream:
            self.text += data.decode(errors="replace")
        return self.text


class Program:
    """A running example."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.out = Output(process.stdout)
        self.err = Output(process.stderr)

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    async def ended(self) -> Ended:
        """Wait for its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.err.rest)
            await self.out.rest()
        return Ended(await self.process.wait(), self.out.text, self.err.text)


@asynccontextmanager
async def program(name: str, *args: object, cwd: Path) -> AsyncIterator[Program]:
    """Run an example for the length of a block; what still runs at its end is killed."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(EXAMPLES / name), *map(str, args)],
        cwd=str(cwd),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        with trio.fail_after(PATIENCE):
            yield Program(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                await stream.aclose()
