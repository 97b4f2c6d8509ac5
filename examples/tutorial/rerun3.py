"""Run a command, and run it again whenever a file changes.

python examples/tutorial/rerun3.py FILE… -- COMMAND…
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import trio

import trsm
from trsm import ErrorState, Schema, State


class Rerun(Schema):
    Watching = State()
    Changed = State(remove=("Running", "Passed", "Error"))
    Running = State(remove=(Changed, "Passed", "Error"))
    Passed = State(remove=Running)
    Failed = ErrorState(catches=(subprocess.CalledProcessError, OSError))


def stamp(path: str) -> int | None:
    """Return when a file was last written; None if it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


class Handlers:
    def __init__(self, paths: list[str], command: list[str]) -> None:
        self.paths = paths
        self.command = command
        self.seen = self.stamps()

    def stamps(self) -> list[int | None]:
        return [stamp(path) for path in self.paths]

    @Rerun.Watching.task
    async def look(self, t: trsm.Transition) -> None:
        while True:
            await trio.sleep(0.2)
            if self.stamps() != self.seen:
                t.machine.add(Rerun.Changed)

    @Rerun.Changed.task(then=Rerun.Running)
    async def settle(self, t: trsm.Transition) -> None:
        await trio.sleep(0.1)  # an editor may write several files

    @Rerun.Running.on_enter
    def announce(self, t: trsm.Transition) -> None:
        self.seen = self.stamps()
        print("$", shlex.join(self.command), flush=True)

    @Rerun.Running.task(then=Rerun.Passed)
    async def run(self, t: trsm.Transition) -> None:
        await trio.run_process(self.command)

    @Rerun.Passed.on_enter
    def praise(self, t: trsm.Transition) -> None:
        print("passed", t.machine, flush=True)

    @Rerun.Failed.on_enter
    def complain(self, t: trsm.Transition) -> None:
        print("failed", t.machine, t.error, flush=True)


async def main(paths: list[str], command: list[str]) -> None:
    handlers = Handlers(paths, command)
    async with trsm.open_machine(Rerun, handlers, id="rerun") as machine:
        machine.add(Rerun.Watching, Rerun.Running)
        await trio.sleep_forever()


if __name__ == "__main__":
    if "--" not in sys.argv[2:-1]:
        sys.exit("write rerun3.py FILE… -- COMMAND…")
    end = sys.argv.index("--")
    trio.run(main, sys.argv[1:end], sys.argv[end + 1 :])
