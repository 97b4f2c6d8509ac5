"""Mutation testing of the kernel: break it in many small ways, and see that the tests notice. `nox -s mutation`.

mutmut makes the mutants, and knows which tests run the function that each is in. What it is to mutate and which tests
are fast enough stands in pyproject.toml. Of all mutants a sample is tried, the same in each run: its size and seed are
below. A survivor is a test that is missing, code that is not needed, or listed with its reason in
docs/mutation-testing.md.

    python tests/mutants.py [size [seed]]
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

SIZE, SEED = 200, 2026
"""About ten minutes of computing, three of which are spent before the first mutant; 1,200 stay within an hour."""
DUE = 90
"""Per cent of the mutants that have to be killed."""
MEMORY = 2 << 30
"""Bytes of address space for a process: a loop that a mutant never ends must not take all there is, and is noticed."""
MUTANTS = Path("mutants")
KILLED, SURVIVED = (1, 3), (0,)
UNTESTED = (5, 33)
"""Exit codes of pytest, and mutmut's for a function that no test of the subset runs: that is a survivor too."""


def results() -> dict[str, int | None]:
    """Return how the run of each mutant ended; None: it was not tried."""
    return {
        name: code
        for path in sorted((MUTANTS / "trsm" / "_core").glob("*.meta"))
        for name, code in json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].items()
    }


def mutmut(*names: str) -> None:
    """Run mutmut on some mutants; it makes them all first, and tries the unchanged code."""
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutation"}
    run = subprocess.run(["mutmut", "run", *names], env=environment, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"mutmut run ended with {run.returncode}:\n{run.stdout[-20_000:]}\n{run.stderr}")


def became(code: int) -> str:
    """Return what an exit code says."""
    # What neither passed nor failed ran for too long, took the interpreter with it, or did not let pytest begin. mutmut
    # does not tell these apart from a mistake in how it was set up, so they do not count as killed.
    return "killed" if code in KILLED else "survived" if code in (*SURVIVED, *UNTESTED) else "stopped"


def table(ended: dict[str, int]) -> tuple[list[str], float]:
    """Return the figures of each module, a line for each, and the share of the killed in per cent."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, code in sorted(ended.items()):
        for module in (f"`{name.split('.')[2]}`", "all"):
            counts[module][became(code)] += 1
    columns = "killed", "stopped", "survived"
    lines = [f"| {' | '.join(('module', 'mutants', *columns))} |", "|---|---|---|---|---|"]
    for module, count in sorted(counts.items(), key=lambda item: (item[0] == "all", item[0])):
        lines.append(f"| {' | '.join(map(str, (module, count.total(), *(count[column] for column in columns))))} |")
    return lines, 100 * counts["all"]["killed"] / len(ended)


def shown(name: str) -> str:
    """Return what a mutant changes."""
    return subprocess.run(["mutmut", "show", name], check=True, capture_output=True, text=True).stdout


def main(size: int = SIZE, seed: int = SEED) -> int:
    """Try a sample of the mutants, print its figures and all that was not killed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    mutmut("trsm._core._bits.x_union__*")  # a function of few mutants: they are all made, and tests are timed
    sample = random.Random(seed).sample(sorted(results()), size)
    mutmut(*sample)
    tried = results()
    ended = {name: code for name in sample if (code := tried[name]) is not None}
    assert len(ended) == size
    for name, code in sorted(ended.items()):
        if became(code) != "killed":
            print(f"\n{name}{' (no test runs it)' if code in UNTESTED else ''}\n{shown(name)}")
    lines, share = table(ended)
    print("\n".join(["", *lines, "", f"{share:.1f} % of {size} mutants were killed, {DUE} % are due"]))
    return 0 if share >= DUE else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
