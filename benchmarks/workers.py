"""Workers: one process for each library, asked in turn, so that what disturbs the machine disturbs them all alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import Case

HERE = Path(__file__).parent
ENVIRONMENT = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
"""What of the environment would change what is measured: another checkout, or imports that compile each time."""


class Worker:
    """The process of one library, in the Python of some environment."""

    def __init__(self, name: str, python: str, library: str | None = None) -> None:
        self.name = name
        self.python = python
        self.library = library or name
        self._process = self._started()
        self.about = self._answer(self._process)

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, str(HERE / "worker.py"), self.library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,  # and so no checkout is imported that is not installed
            env={name: value for name, value in os.environ.items() if name not in ENVIRONMENT},
        )

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {process.wait()}; what it said is above")
        return json.loads(line)

    def knows(self, case: Case) -> bool:
        """Return whether the library has the case."""
        return case.key in self.about["cases"]

    def ask(self, case: Case, count: int | None = None) -> float | None:
        """Return one sample: seconds or bytes for each; None if it cannot. Memory is measured in a fresh process."""
        process = self._started() if case.once else self._process
        if case.once:
            self._answer(process)
            count = case.once
        assert process.stdin is not None
        process.stdin.write(json.dumps({"case": case.key} | ({} if count is None else {"count": count})) + "\n")
        process.stdin.flush()
        answer = self._answer(process)
        if case.once:
            process.stdin.close()
            process.wait()
        if "error" in answer:
            print(f"{self.name}: case {case.key} raised {answer['error']}", file=sys.stderr)
            return None
        return float(answer["each"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(cases: Sequence[Case], workers: Sequence[Worker], repeats: int) -> dict[str, dict[str, float]]:
    """Return the best of several samples for each worker and each case that it has.

    In each round all cases are taken, and for each of them all workers in turn, forwards and backwards: what slows the
    machine down for a while slows all of them down.
    """
    best: dict[str, dict[str, float]] = {worker.name: {} for worker in workers}
    failed: set[tuple[str, str]] = set()
    for turn in range(repeats):
        print(f"round {turn + 1} of {repeats}", file=sys.stderr, flush=True)
        for case in cases:
            for worker in workers if turn % 2 else workers[::-1]:
                if (case.once and turn) or not worker.knows(case) or (worker.name, case.key) in failed:
                    continue
                sample = worker.ask(case, count=1 if case.key == "12" else None)
                if sample is None:
                    failed.add((worker.name, case.key))
                else:
                    figures = best[worker.name]
                    figures[case.key] = min(sample, figures.get(case.key, sample))
    return best
