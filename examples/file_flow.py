"""Hash and compress files, several at once; a file that cannot be read fails alone.

    python examples/file_flow.py PATH… [--into DIRECTORY] [--jobs N]

The batch is one machine, and each file is a machine of its own, a child of the batch. The first Ctrl-C drains: files in
work are finished, no other begins. The second one stops at once. A file is written under a temporary name and renamed
when it is complete, so that nothing half-written is ever left behind.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

import trsm
from trsm import ErrorState, Schema, State

CHUNK = 1 << 20


@attrs.frozen
class Job:
    path: Path
    target: Path


class File(Schema):
    """One file: it is packed, and ends as packed or failed."""

    Packing = State(remove="Packed")
    Packed = State(remove=Packing)
    Failed = ErrorState(catches=OSError, remove=(Packing, Packed))  # an OSError becomes this state


class Batch(Schema):
    """All files. A multi state can be called again while it is active: one activation for each file."""

    Listening = State()
    Draining = State(latch=True)
    Packing = State(multi=True, args=Job)
    Done = State(multi=True)


class FileHandlers:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.part = job.target.with_name(f".{job.target.name}.part")

    @File.Packing.task(then=File.Packed)  # runs while Packing is active, then adds Packed
    async def pack(self, t: trsm.Transition) -> str:
        digest = hashlib.sha256()
        size = max(1, self.job.path.stat().st_size)
        shown = done = 0
        with self.job.path.open("rb") as source, gzip.open(self.part, "xb") as packed:
            try:
                while chunk := await trio.to_thread.run_sync(source.read, CHUNK):
                    digest.update(chunk)
                    await trio.to_thread.run_sync(packed.write, chunk)
                    done += len(chunk)
                    if done < size and done * 10 // size > shown:
                        shown = done * 10 // size
                        print(f"{self.job.path}: {shown}0 %", file=sys.stderr, flush=True)
                packed.close()
                self.part.rename(self.job.target)
            finally:  # also when the task is cancelled
                self.part.unlink(missing_ok=True)
        return digest.hexdigest()

    @File.Packed.on_enter
    def tell(self, t: trsm.Transition) -> None:
        print(f"{t.result}  {self.job.path} -> {self.job.target}", flush=True)

    @File.Failed.on_enter
    def complain(self, t: trsm.Transition) -> None:
        print(f"{self.job.path}: {t.error}", file=sys.stderr, flush=True)


class Tally:
    """How the files ended."""

    packed = failed = skipped = 0


def packing(jobs: int, tally: Tally) -> Callable[[trsm.Transition], Awaitable[None]]:
    """Return the task that packs one file; at most `jobs` of them run at once, further files wait in order."""

    @Batch.Packing.task(then=Batch.Done, limit=jobs)
    async def pack_one(t: trsm.Transition) -> None:
        job = t.args_of(Batch.Packing)
        if t.machine.is_active(Batch.Draining):
            tally.skipped += 1
            return
        child = t.machine.start_child(File, FileHandlers(job), id=str(job.path))
        try:
            child.add(File.Packing)
            await child.when_any(File.Packed, File.Failed)
            tally.packed += child.is_active(File.Packed)
            tally.failed += child.is_active(File.Failed)
        finally:
            child.close()  # ends its task too, if that still runs

    return pack_one


@Batch.Listening.task
async def listen(t: trsm.Transition) -> None:
    """Turn Ctrl-C into states."""
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            if t.machine.is_active(Batch.Draining):
                t.machine.remove(Batch.Packing)  # cancels every task of Packing
            else:
                print("draining: files in work are finished; Ctrl-C again stops them", file=sys.stderr, flush=True)
                t.machine.add(Batch.Draining)


async def main(paths: list[Path], into: Path, jobs: int) -> int:
    await trio.Path(into).mkdir(parents=True, exist_ok=True)
    tally = Tally()
    taken: set[str] = set()
    async with trsm.open_machine(Batch, packing(jobs, tally), listen, queue_limit=len(paths) + 1) as batch:
        batch.add(Batch.Listening)
        for path in paths:
            name = path.name
            while name in taken:
                name = f"{name}-2"
            taken.add(name)
            batch.add(Batch.Packing(path=path, target=into / f"{name}.gz"))
        # Done is called once for each file: its tick goes 1, 3, 5 … and is 2n - 1 after n calls.
        await (batch.when_tick(Batch.Done, 2 * len(paths) - 1) | batch.when_not(Batch.Packing))
    stopped = len(paths) - tally.packed - tally.failed - tally.skipped
    print(f"{tally.packed} packed, {tally.failed} failed, {tally.skipped} skipped, {stopped} stopped")
    return 0 if tally.packed == len(paths) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Hash and compress files, several at once.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--into", type=Path, default=Path("packed"), help="where to write (default: packed)")
    parser.add_argument("--jobs", type=int, default=4, help="how many files at once (default: 4)")
    given = parser.parse_args()
    sys.exit(trio.run(main, given.paths, given.into, given.jobs))
