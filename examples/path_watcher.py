"""Watch directories, and tell what has changed in them once it has been quiet for a moment.

    python examples/path_watcher.py DIR… [--poll]

Each directory is a machine of its own, a child of the watcher; one that goes away fails alone. Many changes in quick
succession are told together (*debounce*): the state ``Unsettled`` has a timeout, each change lets it begin anew, and
when it is over ``Settled`` comes. If ``watchfiles`` is installed, the system tells of changes, in its thread; without
it, or with ``--poll``, the directories are looked through ten times a second. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import attrs
import trio

import trsm
from trsm import ErrorState, Schema, State

QUIET = 0.3  # seconds without a change, after which those that were seen are told
POLL = 0.1  # seconds between two looks


@attrs.frozen
class Changes:
    names: frozenset[str]


class Directory(Schema):
    """One directory: watched, until it is gone."""

    Watching = State()
    Changed = State(multi=True, args=Changes, require=Watching)  # once more for each look that found something
    Unsettled = State(require=Watching, timeout=QUIET, on_timeout="Settled")
    Settled = State(require=Watching)
    Gone = ErrorState(catches=OSError, remove=Watching)


class Watcher(Schema):
    Listening = State()
    Stopping = State(latch=True)


Seen = dict[str, tuple[int, int, int]]


def look(root: Path) -> Seen:
    """Return what tells whether a file is still the same, for all files below a directory."""
    os.scandir(root).close()  # raises if it is gone: `os.walk` would find nothing in it
    seen: Seen = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            try:
                state = os.lstat(path)
            except OSError:
                continue  # it went while we looked
            seen[os.path.relpath(path, root)] = state.st_mtime_ns, state.st_size, state.st_ino
    return seen


@attrs.define
class Handlers:
    root: Path
    library: ModuleType | None
    seen: set[str] = attrs.field(factory=set)

    @Directory.Watching.task
    async def watch(self, t: trsm.Transition) -> None:
        await (self.poll(t.machine) if self.library is None else self.follow(t.machine, self.library))

    async def poll(self, machine: trsm.Machine) -> None:
        before = await trio.to_thread.run_sync(look, self.root, abandon_on_cancel=True)
        print(f"watching {self.root}", flush=True)  # from now on, nothing is missed
        while True:
            await trio.sleep(POLL)
            after = await trio.to_thread.run_sync(look, self.root, abandon_on_cancel=True)
            names = frozenset(name for name in before | after if before.get(name) != after.get(name))
            if names:
                machine.add(Directory.Changed(names=names))
            before = after

    async def follow(self, machine: trsm.Machine, library: ModuleType) -> None:
        print(f"watching {self.root}", flush=True)
        async for changes in library.awatch(self.root, debounce=50, step=20):
            os.scandir(self.root).close()  # raises if it is gone
            machine.add(
                Directory.Changed(names=frozenset(str(Path(path).relative_to(self.root)) for _, path in changes))
            )

    @Directory.Changed.on_enter
    def note(self, t: trsm.Transition) -> None:
        self.seen |= t.args_of(Directory.Changed).names
        t.machine.remove(Directory.Unsettled, Directory.Settled)  # queued, and so is what follows: first this
        t.machine.add(Directory.Unsettled)  # then a new instance, whose timeout begins now

    @Directory.Settled.on_enter
    def tell(self, t: trsm.Transition) -> None:
        names = [name if os.path.lexists(self.root / name) else f"{name} (gone)" for name in sorted(self.seen)]
        print(f"{self.root}: {', '.join(names)}", flush=True)
        self.seen.clear()

    @Directory.Gone.on_enter
    def complain(self, t: trsm.Transition) -> None:
        print(f"{self.root} is not watched any more: {t.error}", file=sys.stderr, flush=True)


@Watcher.Listening.task
async def listen(t: trsm.Transition) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            t.machine.add(Watcher.Stopping)


async def main(paths: list[Path], library: ModuleType | None) -> int:
    async with trsm.open_machine(Watcher, listen) as watcher:
        watcher.add(Watcher.Listening)
        directories = [watcher.start_child(Directory, Handlers(path, library), id=str(path)) for path in paths]
        for directory in directories:
            directory.add(Directory.Watching)
        all_gone = trsm.wait_all(*(directory.when(Directory.Gone) for directory in directories))
        await (watcher.when(Watcher.Stopping) | all_gone)
        return 1 if any(directory.is_active(Directory.Gone) for directory in directories) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tell what changes in directories, once it is quiet.")
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--poll", action="store_true", help="look for changes, even if watchfiles is installed")
    given = parser.parse_args()
    for path in given.directories:
        if not path.is_dir():
            parser.error(f"{path} is no directory")
    try:
        library = None if given.poll else importlib.import_module("watchfiles")
    except ImportError:
        library = None
    sys.exit(trio.run(main, list(dict.fromkeys(path.absolute() for path in given.directories)), library))
