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


def measure(case: Case, workers: Sequence[Worker], repeats: int) -> dict[str, float]:
    """Return the best of several samples for each worker that has the case, taken in turn, forwards and backwards."""
    knowing = [worker for worker in workers if worker.knows(case)]
    best: dict[str, float] = {}
    for turn in range(1 if case.once else repeats):
        for worker in knowing if turn % 2 else knowing[::-1]:
            sample = worker.ask(case, count=1 if case.key == "12" else None)
            if sample is None:
                knowing = [other for other in knowing if other is not worker]
            else:
                best[worker.name] = min(sample, best.get(worker.name, sample))
    return best
