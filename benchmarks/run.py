"""Measure everything, print the table, and write JSON and a plot: ``nox -s bench``, or ``python benchmarks/run.py``."""

from __future__ import annotations

import argparse
import inspect
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import floor
from budgets import HAND, TRSM
from cases import CASES
from page import PAGE, PLOT, RESULTS, page
from report import table
from workers import Worker, measure

LIBRARIES = [
    TRSM,
    HAND,
    "with_transitions",
    "with_python_statemachine",
    "with_automat",
    "with_pysm",
    "with_plumpy",
]
XSTATE = "with_xstate"


def processor() -> str:
    """Return what the processor is called."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="how many samples the best is taken of (default 15)")
    parser.add_argument(
        "--xstate-python", help="the Python of an environment with xstate-statemachine, if there is one"
    )
    parser.add_argument("--only", nargs="*", help="keys of cases, such as 1 8 '10 root' (default: all)")
    parser.add_argument("--trio-only", action="store_true", help="leave the peers out")
    parser.add_argument("--into", type=Path, help=f"a directory for {RESULTS.name} and {PLOT.name} (default: none)")
    parser.add_argument("--publish", action="store_true", help="write the committed figures, their plot and their page")
    options = parser.parse_args()

    libraries = LIBRARIES[:2] if options.trio_only else LIBRARIES
    workers = [Worker(library, sys.executable) for library in libraries]
    if options.xstate_python and not options.trio_only:
        workers.append(Worker(XSTATE, options.xstate_python))
    cases = [case for case in CASES if not options.only or case.key in options.only]
    figures = measure(cases, workers, options.repeats)
    for worker in workers:
        worker.close()
    result = {
        "python": platform.python_version(),
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "repeats": options.repeats,
        "versions": {worker.name: worker.about["version"] for worker in workers},
        "figures": figures,
    }
    print(inspect.getsource(floor))
    print(table(result))
    if options.into is not None:
        options.into.mkdir(parents=True, exist_ok=True)
        write(result, options.into / RESULTS.name, options.into / PLOT.name)
    if options.publish:
        write(result, RESULTS, PLOT)
        PAGE.write_text(page(result))


def write(result: dict[str, Any], figures: Path, plot: Path) -> None:
    """Write figures as JSON, and their plot."""
    from plot import draw  # matplotlib is needed for nothing else

    figures.write_text(json.dumps(result, indent=1) + "\n")
    draw(result, plot)


if __name__ == "__main__":
    main()
