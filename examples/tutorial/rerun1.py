"""Run a command.

python examples/tutorial/rerun1.py COMMAND…
"""

from __future__ import annotations

import shlex
import sys

import trio

import trsm
from trsm import Schema, State


class Rerun(Schema):
    Running = State(remove="Passed")
    Passed = State(remove=Running)


class Handlers:
    def __init__(self, command: list[str]) -> None:
        self.command = command

    @Rerun.Running.on_enter
    def announce(self, t: trsm.Transition) -> None:
        print("$", shlex.join(self.command), flush=True)

    @Rerun.Running.task(then=Rerun.Passed)
    async def run(self, t: trsm.Transition) -> None:
        await trio.run_process(self.command)


async def main(command: list[str]) -> None:
    async with trsm.open_machine(Rerun, Handlers(command), id="rerun") as machine:
        machine.add(Rerun.Running)
        print(machine, flush=True)
        await machine.when(Rerun.Passed)
        print(machine, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("no command: write rerun1.py COMMAND…")
    trio.run(main, sys.argv[1:])
