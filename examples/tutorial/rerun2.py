"""Run a command, and say how it went.

python examples/tutorial/rerun2.py COMMAND…
"""

from __future__ import annotations

import shlex
import subprocess
import sys

import trio

import trsm
from trsm import ErrorState, Schema, State


class Rerun(Schema):
    Running = State(remove=("Passed", "Error"))
    Passed = State(remove=Running)
    Failed = ErrorState(catches=(subprocess.CalledProcessError, OSError))


class Handlers:
    def __init__(self, command: list[str]) -> None:
        self.command = command

    @Rerun.Running.on_enter
    def announce(self, t: trsm.Transition) -> None:
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


async def main(command: list[str]) -> int:
    async with trsm.open_machine(Rerun, Handlers(command), id="rerun") as machine:
        machine.add(Rerun.Running)
        await machine.when_any(Rerun.Passed, Rerun.Failed)
        return 0 if machine.is_active(Rerun.Passed) else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("no command: write rerun2.py COMMAND…")
    sys.exit(trio.run(main, sys.argv[1:]))
