"""The process of one library: ``python worker.py LIBRARY``; `run.py` talks to it in lines of JSON.

It is run as a script, so that this directory and no checkout is on the path, and the library is what is installed.
With ``--once`` it runs every case once, with as little as makes sense: a test that they work, and no measurement.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, cast

SAMPLE = 0.02
"""How many seconds a sample takes, about: long against the clock, short against what else runs on the machine."""


def run(case: Callable[[int], Any], count: int) -> float:
    """Run a case, in an event loop if it needs one; return what it measured for all `count` together."""
    gc.collect()
    gc.disable()
    try:
        if inspect.iscoroutinefunction(case):
            import trio

            return cast("float", trio.run(case, count))
        return cast("float", case(count))
    finally:
        gc.enable()


def calibrated(case: Callable[[int], Any]) -> int:
    """Return how many make a sample of about `SAMPLE` seconds."""
    count = 2
    while True:
        seconds = run(case, count)
        if seconds > SAMPLE / 4 or count >= 10_000_000:
            return max(2, int(count * SAMPLE / max(seconds, 1e-9)) // 2 * 2)
        count *= 4


def main(library: str, once: str = "") -> None:
    module = importlib.import_module(f"libraries.{library}")
    cases: dict[str, Callable[[int], Any]] = module.CASES
    ready = {
        "library": library,
        "version": version(module.VERSION_OF) if module.VERSION_OF else sys.version.split()[0],
        "python": sys.version.split()[0],
        "cases": list(cases),
    }
    print(json.dumps(ready), flush=True)
    counts: dict[str, int] = {}
    for line in [json.dumps({"case": key, "count": 4 if key != "12" else 1}) for key in cases] if once else sys.stdin:
        asked = json.loads(line)
        key, case = asked["case"], cases[asked["case"]]
        try:
            count = asked.get("count") or counts.get(key) or calibrated(case)
            counts[key] = count
            answer = {"case": key, "each": run(case, count) / count}
        except Exception as error:
            answer = {"case": key, "error": repr(error)}  # an older commit need not have what a case is about
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
