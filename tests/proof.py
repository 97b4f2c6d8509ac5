"""The promises by their numbers: what each says, which figure its proof has to reach, and how far this run goes.

A test that proves a promise is marked ``@pytest.mark.promise(7)``. What it went through it counts with the fixture
``figure``: ``figure(7, transitions=250)``. ``pytest -m promise`` ends with the table of what was reached;
``tests/conftest.py`` gathers it, from the workers of pytest-xdist too.

One knob says how far the proofs go: the environment variable ``TRSM_PROOF``. ``long`` is the run of ``nox -s
proof_long``, ``quick`` goes as far as finding a planted fault takes, and nothing set is the ordinary suite.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

import attrs
from hypothesis import settings

Scale = Literal["quick", "ordinary", "long"]
SCALE: Scale = os.environ.get("TRSM_PROOF", "ordinary")  # type: ignore[assignment]
if SCALE not in get_args(Scale):
    raise SystemExit(f"TRSM_PROOF={SCALE}: write quick, ordinary or long, or leave it out")
TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "promises.md"
README = TESTS.parent / "README.md"
QUOTED = (1, 10, 12, 14, 16, 23)
"""The promises whose lines the README quotes, as the run prints them."""
FIGURES = TESTS / "promises" / "figures.json"


@attrs.frozen
class Promise:
    """What a user can rely on, and the figure that its proof has to reach."""

    words: str
    unit: str
    ordinary: int = 1
    """1 where the figure is "all there are"."""
    long: int = 0
    """What the long run has to reach; 0: the same."""

    def due(self, scale: Scale) -> int:
        """Return how many of the unit a run has to count; a quick one has no figure to reach."""
        return 0 if scale == "quick" else (self.long or self.ordinary) if scale == "long" else self.ordinary


PROMISES: dict[int, Promise] = {
    1: Promise(
        "After every transition the active set breaks no relation, under any fault.", "transitions", 200_000, 20_000_000
    ),
    2: Promise(
        "The same schema, active set and mutation have the same verdict, whatever the hash seed, the order of "
        "relations or the order of what is called.",
        "pairs",
        50_000,
        5_000_000,
    ),
    3: Promise("The consensus ends within a documented bound of passes.", "contests"),
    4: Promise(
        "Every refused or lost state has a reason that is true of the final set, as an independent checker confirms.",
        "reasons",
    ),
    5: Promise(
        "A canceled mutation moves no tick, and wakes nobody but who waits for the queue.", "canceled mutations"
    ),
    6: Promise(
        "A tick is odd exactly when its state is active; ticks never decrease; +2 only for a called multi state.",
        "transitions",
        200_000,
        20_000_000,
    ),
    7: Promise(
        "Each handler runs at most once in a transition; final handlers run for exactly the states that ticked, in the "
        "documented order.",
        "transitions",
        100_000,
        10_000_000,
    ),
    8: Promise(
        "An exception in negotiation cancels, changes nothing, and is reported once with its traceback.", "schemas", 200
    ),
    9: Promise(
        "An exception in a final handler leaves relations true and ticks consistent, runs every owed on_exit, and "
        "wakes the tick-based waiters of every state that did change.",
        "schemas",
        200,
    ),
    10: Promise(
        "No wake-up is lost: a condition that became true, even briefly, wakes its tick-based waiter.",
        "interleavings",
        10_000,
        1_000_000,
    ),
    11: Promise(
        "A cancelled waiter leaves no subscription behind, not even until the next tick.", "cancelled waits", 100_000
    ),
    12: Promise(
        "No task starts outside its instance, each is cancelled in the step in which its state leaves, and none "
        "overlaps its successor.",
        "activations",
        10_000,
        1_000_000,
    ),
    13: Promise(
        "Cancelling the machine at any checkpoint leaves ticks and relations consistent, and every task joined.",
        "points",
    ),
    14: Promise("The same for an exception, and for Ctrl-C, at any point.", "signals", 200),
    15: Promise(
        "Every mutation ends in exactly one way: executed, canceled, folded, skipped since its scope was gone, or "
        "refused at the call.",
        "mutations",
    ),
    16: Promise(
        "A full queue is an error at the call, and loses nothing that was accepted.", "mutations", 1_000_000
    ),
    17: Promise(
        "Mutations of one producer run in order, and folding never reverses a later request.", "words", 5_461
    ),
    18: Promise("Run to completion: no observer ever sees part of a transition.", "looks"),
    19: Promise("The automatic round ends, and what a second one would change is reported.", "rounds"),
    20: Promise(
        "After close there is no task and no subscription, every pending waiter was told, and closing twice is fine.",
        "machines",
    ),
    21: Promise("Latched states never leave before closing.", "consensus runs", 300_000),
    22: Promise(
        "A recorded log of mutations replays to identical ticks, on another machine and Python.", "logs"
    ),
    23: Promise(
        "A hundred thousand activations leak no byte and make no cyclic garbage.", "activations", 100_000, 1_000_000
    ),
    24: Promise(
        "A drain is bounded: handlers that feed themselves end in NotSettled, and one drain is one step of one task.",
        "drains",
    ),
    25: Promise(
        "Use from a foreign thread is an error at once, except through trio's own way in.", "calls", 10_000
    ),
    26: Promise(
        "Every schema of three states behaves, on every valid active set, in every mutation.", "consensus runs", 1_000,
        995_316,
    ),
}  # fmt: skip


def scaled(ordinary: int, long: int | None = None) -> int:
    """Return how often to do what an ordinary run does `ordinary` times, and a long one `long` times."""
    match SCALE:
        case "quick":
            return max(1, ordinary // 10)
        case "long":
            return ordinary if long is None else long
        case _:
            return ordinary


def examples(ordinary: int) -> settings:
    """Return Hypothesis settings for a test that is worth `ordinary` examples where the profile says 100."""
    return settings(max_examples=max(1, ordinary * settings.default.max_examples // 100), deadline=None)


def apart(module: str, *arguments: object, timeout: float = 3600) -> dict[str, int]:
    """Run a module of the tests as a process of its own, which coverage does not slow; return the figures it prints.

    Raises:
      AssertionError: it failed; with all that it said.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *(path for path in sys.path if path)])}
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, last = done.stdout.splitlines()
    return json.loads(last)


# ---- What was reached -----------------------------------------------------------------------------------------------


class Reached:
    """What a run has counted: for each promise its figures, and how many tests passed or failed."""

    def __init__(self) -> None:
        self.figures: dict[int, dict[str, int]] = {}
        self.passed: dict[int, int] = {}
        self.failed: dict[int, int] = {}

    def add(self, numbers: Iterable[int], figures: Mapping[str, Mapping[str, int]], *, passed: bool) -> None:
        """Take in one test."""
        for number in numbers:
            tests = self.passed if passed else self.failed
            tests[number] = tests.get(number, 0) + 1
        for number, counted in figures.items():
            sums = self.figures.setdefault(int(number), {})
            for unit, count in counted.items():
                sums[unit] = sums.get(unit, 0) + count

    def short(self, scale: Scale = SCALE) -> list[str]:
        """Return what is missing, in words."""
        missing = []
        for number, promise in PROMISES.items():
            reached = self.figures.get(number, {}).get(promise.unit, 0)
            if number not in self.passed and number not in self.failed:
                missing.append(f"P{number} has no test in this run")
            elif reached < promise.due(scale):
                missing.append(f"P{number} counted {reached:,} {promise.unit}, and {promise.due(scale):,} are promised")
        return missing

    def lines(self) -> list[str]:
        """Return the table as the run prints it."""
        lines = []
        for number in PROMISES:
            if number in self.passed or number in self.failed:
                figures = said(self.figures.get(number, {}), PROMISES[number].unit) or "nothing counted"
                failed = f", {self.failed[number]} FAILED" if number in self.failed else ""
                lines.append(f"P{number:<3} {figures} ({tests(self.passed.get(number, 0))}{failed})")
        return lines


def tests(count: int) -> str:
    return f"{count} test{'' if count == 1 else 's'}"


def said(figures: Mapping[str, int], first: str) -> str:
    """Return figures in words, the one that is promised first."""
    units = sorted(figures, key=lambda unit: (unit != first, unit))
    return ", ".join(f"{figures[unit]:,} {unit}" for unit in units)


# ---- The page -------------------------------------------------------------------------------------------------------

TABLE = re.compile(r"(?<=<!-- table: written by the run, see below -->\n\n).*?(?=\n\n<!-- end of the table -->)", re.S)


QUOTES = re.compile(r"(?<=<!-- figures: written by the run -->\n\n```text\n).*?(?=\n```)", re.S)


def read_figures() -> dict[str, dict[str, dict[str, int]]]:
    """Return the committed figures: scale -> promise -> unit -> count."""
    return json.loads(FIGURES.read_text(encoding="utf-8"))


def table(figures: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """Return the table of docs/promises.md."""
    lines = ["| # | promise | ordinary run | long run |", "|---|---|---|---|"]
    for number, promise in PROMISES.items():
        cells = [
            said(figures.get(scale, {}).get(str(number), {}), promise.unit).replace(", ", "<br>") or "not run yet"
            for scale in ("ordinary", "long")
        ]
        lines.append(f"| P{number} | {promise.words} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def write(reached: Reached, scale: Scale = SCALE) -> None:
    """Keep the figures of a run, and fill in the page."""
    figures = read_figures() if FIGURES.exists() else {}
    figures[scale] = {str(number): dict(sorted(counted.items())) for number, counted in sorted(reached.figures.items())}
    if scale == "ordinary":
        lines = reached.lines()
        quoted = "\n".join(line for line in lines if any(line.startswith(f"P{number} ") for number in QUOTED))
        README.write_text(QUOTES.sub(lambda _: quoted, README.read_text(encoding="utf-8")), encoding="utf-8")
        figures["printed"] = {"ordinary": dict(enumerate(lines, start=1))}  # type: ignore[dict-item]
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: table(figures), page), encoding="utf-8")
