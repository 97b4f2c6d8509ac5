"""How time and memory are taken. CPU time and no wall-clock time: the machine may be busy with something else."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

clock = time.process_time


class Traced:
    """How many bytes what is made in the block has asked Python's allocators for: exact, the same each time."""

    taken: int

    def __enter__(self) -> Traced:
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *_: object) -> None:
        gc.collect()
        self.taken = tracemalloc.get_traced_memory()[0] - self._before
        tracemalloc.stop()


class Resident:
    """By how many bytes the process has grown in the block, as the system sees it."""

    taken: int

    def __enter__(self) -> Resident:
        gc.collect()
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        gc.collect()
        self.taken = self._now() - self._before

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def import_seconds(module: str, before: str = "sys") -> float:
    """Return the seconds that an import takes in a fresh process, after another import."""
    program = f"import time, {before}; start = time.process_time(); import {module}; print(time.process_time() - start)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
