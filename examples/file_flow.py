"""Hash and compress files, several at once; a file that cannot be read fails alone.

    python examples/file_flow.py PATH… [--into DIRECTORY] [--jobs N]

The batch is one machine, and each file is a machine of its own, a child of the batch. The first Ctrl-C drains: files in
work are finished, no other begins. The second stops at once. What is written bears its name only once it is complete.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import trio

import trsm
from trsm import ErrorState, Schema, State


@attrs.frozen
class Job:
    path: Path
    target: Path


def jobs_of(paths: list[Path], into: Path) -> Iterator[Job]:
    """Find a target for each file that is neither another one's target nor one of the files."""
    taken = {os.path.realpath(path) for path in paths}
    for path in paths:
        target = into / f"{path.name}.gz"
        while os.path.realpath(target) in taken:
            target = target.with_name(f"{target.stem}-2.gz")
        taken.add(os.path.realpath(target))
        yield Job(path, target)


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
    def __init__(self, job: Job, ends: Counter[str]) -> None:
        self.job, self.ends = job, ends
        self.part = job.target.with_name(f".{job.target.name}.{os.getpid()}.part")

    @File.Packing.task(then=File.Packed)  # runs while Packing is active, then adds Packed
    async def pack(self, t: trsm.Transition) -> str:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        try:
            digest = await self.copy()
            self.part.replace(self.job.target)  # no await after it: whoever cancels comes too late, or in time
            return digest
        finally:  # also when the task fails or is cancelled
            self.part.unlink(missing_ok=True)

    async def copy(self) -> str:
        digest, done, shown = hashlib.sha256(), 0, 0
        # A pipe may keep us waiting for ever: a cancelled task goes, and leaves the thread that waits there behind.
        with await trio.to_thread.run_sync(io.FileIO, str(self.job.path), abandon_on_cancel=True) as source:
            size = os.fstat(source.fileno()).st_size
            with self.part.open("wb") as part:
                async with trio.wrap_file(gzip.GzipFile(self.job.path.name, "wb", fileobj=part)) as packed:
                    while chunk := await trio.to_thread.run_sync(source.read, 1 << 20, abandon_on_cancel=True):
                        digest.update(chunk)
                        await packed.write(chunk)
                        done += len(chunk)
                        if done < size and done * 10 // size > shown:
                            shown = done * 10 // size
                            print(f"{self.job.path}: {shown}0 %", file=sys.stderr, flush=True)
        return digest.hexdigest()

    @File.Packed.on_enter
    def tell(self, t: trsm.Transition) -> None:
        print(f"{t.result}  {self.job.path} -> {self.job.target}", flush=True)
        self.ends["packed"] += 1

    @File.Failed.on_enter
    def complain(self, t: trsm.Transition) -> None:
        print(f"{self.job.path}: {t.error}", file=sys.stderr, flush=True)
        self.ends["failed"] += 1


@Batch.Listening.task  # turns Ctrl-C into states
async def listen(t: trsm.Transition) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            if t.machine.is_active(Batch.Draining):
                t.machine.remove(Batch.Packing)  # cancels every task of Packing
            else:
                print("draining: files in work are finished; Ctrl-C again stops them", file=sys.stderr, flush=True)
                t.machine.add(Batch.Draining)


async def main(paths: list[Path], into: Path, jobs: int) -> int:
    ends = Counter[str]()

    @Batch.Packing.task(then=Batch.Done, limit=jobs)  # at most so many run at once, the others wait in order
    async def pack_one(t: trsm.Transition) -> None:
        job = t.args_of(Batch.Packing)
        if t.machine.is_inactive(Batch.Draining):
            async with trsm.open_machine(File, FileHandlers(job, ends), id=str(job.path), parent=t.machine) as file:
                file.add(File.Packing)
                await file.when_any(File.Packed, File.Failed)

    async with trsm.open_machine(Batch, pack_one, listen, queue_limit=len(paths)) as batch:
        batch.add(Batch.Listening)
        for job in jobs_of(paths, into):
            batch.add(Batch.Packing(job.path, job.target))
        # Done is called once for each file: its tick goes 1, 3, 5 … and is 2n - 1 after n calls.
        await (batch.when_tick(Batch.Done, 2 * len(paths) - 1) | batch.when_not(Batch.Packing))
    print(f"{ends['packed']} packed, {ends['failed']} failed, {len(paths) - ends.total()} left out", flush=True)
    return 0 if ends["packed"] == len(paths) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Hash and compress files, several at once.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--into", type=Path, default=Path("packed"), help="where to write (default: packed)")
    parser.add_argument("--jobs", type=int, default=4, help="how many files at once (default: 4)")
    given = parser.parse_args()
    if given.jobs < 1:
        parser.error(f"--jobs {given.jobs}: at least one file is packed at a time")
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal cannot show are no reason to fail
    try:
        sys.exit(trio.run(main, given.paths, given.into, given.jobs))
    except* BrokenPipeError:
        os._exit(1)  # nobody reads any more, though Python would write the rest
