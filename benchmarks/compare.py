"""Compare two environments with trsm: ``nox -s bench_compare -- COMMIT``.

Both run this tree's cases, in turn; the table has the ratio of what is in this Python's environment to the other.
"""

from __future__ import annotations

import argparse
import sys

from budgets import TRSM
from cases import CASES
from report import figure, laid_out
from workers import Worker, measure

SLOWER = 1.1
"""From which ratio on a figure is marked: less than that is noise on a busy machine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="the Python of the environment to compare with")
    parser.add_argument("--name", default="then", help="what to call it")
    parser.add_argument("--repeats", type=int, default=15, help="how many samples the best is taken of (default 15)")
    parser.add_argument("--only", nargs="*", help="keys of cases, such as 1 8 '10 root' (default: all)")
    options = parser.parse_args()
    workers = [Worker("now", sys.executable, TRSM), Worker("then", options.python, TRSM)]
    rows = [["case", "", options.name, "now", "now / then", ""]]
    cases = [case for case in CASES if not options.only or case.key in options.only]
    best = measure(cases, workers, options.repeats)
    for case in cases:
        now, then = best["now"].get(case.key), best["then"].get(case.key)
        if now is None or then is None:
            cells = [*("" if one is None else figure(case.key, one) for one in (then, now)), "", ""]
        else:
            mark = "slower" if now > then * SLOWER else "faster" if then > now * SLOWER else ""
            cells = [figure(case.key, then), figure(case.key, now), f"{now / then:.2f}", mark]
        rows.append([case.key, case.title, *cells])
    for worker in workers:
        worker.close()
    print(laid_out(rows))


if __name__ == "__main__":
    main()
