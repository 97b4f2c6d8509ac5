"""Run a command, and run it again whenever a file changes; it can be paused.

python examples/tutorial/rerun5.py FILE… -- COMMAND…

Lines on its input: ``pause`` pauses or goes on, ``why`` explains. The first Ctrl-C
lets the command finish, the second one stops it.
"""

from __future__ import annotations

import functools
import os
import shlex
import signal
import subprocess
import sys

import trio

import trsm
from trsm import ErrorState, Schema, State


class Rerun(Schema):
    Watching = State()
    Paused = State(remove="Changed")
    Stopping = State(latch=True, remove=(Watching, Paused, "Changed"))
    Stopped = State(auto=True, require=Stopping)
    Changed = State(remove=("Running", "Passed", "Error"))
    Running = State(remove=(Changed, "Passed", "Error", Stopped))
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

    @Rerun.Watching.task
    async def listen(self, t: trsm.Transition) -> None:
        read = functools.partial(os.read, 0, 1000)  # from the standard input
        while text := await trio.to_thread.run_sync(read, abandon_on_cancel=True):
            for word in text.decode(errors="replace").split():
                if word == "pause":
                    t.machine.toggle(Rerun.Paused)
                    print(t.machine, flush=True)
                elif word == "why":
                    print(t.machine.explain("add", Rerun.Changed), flush=True)
                else:
                    print(f"{word!r}: write pause or why", flush=True)

    @Rerun.Changed.can_enter
    def has_all_files(self, t: trsm.Transition) -> bool:
        return None not in self.stamps()  # an editor may put a new file in its place

    @Rerun.Changed.task(then=Rerun.Running)
    async def settle(self, t: trsm.Transition) -> None:
        await trio.sleep(0.1)  # an editor may write several files

    @Rerun.Running.on_enter
    def announce(self, t: trsm.Transition) -> None:
        self.seen = self.stamps()
        print("$", shlex.join(self.command), flush=True)

    @Rerun.Running.task(then=Rerun.Passed)
    async def run(self, t: trsm.Transition) -> None:
        # in a session of its own, so that Ctrl-C is for us alone
        await trio.run_process(self.command, start_new_session=True)

    @Rerun.Passed.on_enter
    def praise(self, t: trsm.Transition) -> None:
        print("passed", t.machine, flush=True)

    @Rerun.Failed.on_enter
    def complain(self, t: trsm.Transition) -> None:
        print("failed", t.machine, t.error, flush=True)

    @Rerun.Stopped.on_enter
    def stop(self, t: trsm.Transition) -> None:
        t.machine.close()


async def main(paths: list[str], command: list[str]) -> int:
    handlers = Handlers(paths, command)
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trsm.open_machine(Rerun, handlers, id="rerun") as machine:
            machine.add(Rerun.Watching, Rerun.Running)
            async for _ in signals:
                if machine.is_active(Rerun.Stopping):
                    break
                print("stopping", flush=True)
                machine.add(Rerun.Stopping)
    ticks = machine.ticks_at_close
    assert ticks is not None  # it has closed
    runs = (ticks[Rerun.Running] + 1) // 2
    passed = (ticks[Rerun.Passed] + 1) // 2
    print(f"runs: {runs}, passed: {passed}")
    return 0 if ticks.is_active(Rerun.Passed) else 1


if __name__ == "__main__":
    if "--" not in sys.argv[2:-1]:
        sys.exit("write rerun5.py FILE… -- COMMAND…")
    end = sys.argv.index("--")
    sys.exit(trio.run(main, sys.argv[1:end], sys.argv[end + 1 :]))
