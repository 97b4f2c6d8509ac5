"""Watch directories, and tell what has changed in them once it has been quiet for a moment.

    python examples/path_watcher.py DIR… [--poll]

Each directory is a machine of its own, a child of the watcher; one that goes away fails alone. Many changes in quick
succession are told together (*debounce*): the state ``Unsettled`` has a timeout, each change lets it begin anew, and
when it is over ``Settled`` comes. If ``watchfiles`` is installed, the system tells of changes, in its thread; else, or
with ``--poll``, we look ten times a second. Ctrl-C ends it; what was seen and not told yet is told then.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
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
    seen: Seen = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with suppress(OSError):  # it may go while we look
                state = os.lstat(path)
                seen[path] = state.st_mtime_ns, state.st_size, state.st_ino
    return seen


async def polled(root: Path) -> AsyncGenerator[set[tuple[str, str]], None]:
    """Yield what has changed since the last look, as ``watchfiles`` does: at first nothing, once it has begun."""
    before = await trio.to_thread.run_sync(look, root, abandon_on_cancel=True)
    yield set()
    while True:
        await trio.sleep(POLL)
        after = await trio.to_thread.run_sync(look, root, abandon_on_cancel=True)
        yield {("", path) for path in before | after if before.get(path) != after.get(path)}
        before = after


@attrs.define
class Handlers:
    root: Path
    library: ModuleType | None
    seen: set[str] = attrs.field(factory=set)

    @Directory.Watching.task
    async def watch(self, t: trsm.Transition) -> None:
        # The library's thread is waited for when this is cancelled: so it comes back soon, with nothing if need be.
        soon = {"debounce": 50, "step": 20, "rust_timeout": round(1000 * POLL), "yield_on_timeout": True}
        looks = polled(self.root) if self.library is None else self.library.awatch(self.root, **soon)
        async with aclosing(looks):
            await anext(looks)
            print(f"watching {self.root}", flush=True)  # from now on, nothing is missed
            async for changes in looks:
                os.scandir(self.root).close()  # raises if it is gone
                if changes:
                    names = frozenset(str(Path(path).relative_to(self.root)) for _, path in changes)
                    t.machine.add(Directory.Changed(names=names))

    @Directory.Changed.on_enter
    def note(self, t: trsm.Transition) -> None:
        self.seen |= t.args_of(Directory.Changed).names
        t.machine.remove(Directory.Unsettled, Directory.Settled)  # queued, and so is what follows: first this
        t.machine.add(Directory.Unsettled)  # then a new instance, whose timeout begins now

    @Directory.Settled.on_enter
    @Directory.Watching.on_exit  # nothing that was seen goes untold
    def tell(self, t: trsm.Transition) -> None:
        names = [name if os.path.lexists(self.root / name) else f"{name} (gone)" for name in sorted(self.seen)]
        if names:
            print(f"{self.root}: {', '.join(names)}", flush=True)
        self.seen.clear()

    @Directory.Gone.on_enter
    def complain(self, t: trsm.Transition) -> None:
        print(f"{self.root} is not watched any more: {t.error}", file=sys.stderr, flush=True)


async def main(paths: list[Path], library: ModuleType | None) -> int:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:  # before anything is watched

        @Watcher.Listening.task(then=Watcher.Stopping)
        async def listen(t: trsm.Transition) -> None:
            await anext(signals)  # Ctrl-C

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
    is_wanted = not given.poll and importlib.util.find_spec("watchfiles")
    library = importlib.import_module("watchfiles") if is_wanted else None
    try:
        code = trio.run(main, list(dict.fromkeys(path.absolute() for path in given.directories)), library)
        sys.stdout.flush()  # what could not be printed has become an error of a directory
        sys.exit(code)
    except* (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # nobody reads any more, though Python would write the rest; or told to end once more
