"""Waiters of every kind against the log of each run, by `shell.test_waiter_properties` on many more programs: P10.

``python -m promises.waiting INTERLEAVINGS [SEED]``, from the directory of the tests. An interleaving is one order in
which waiters are made, mutations come, and tasks take their turns.
"""

from __future__ import annotations

import json
import sys
from random import Random

import trio

from shell.test_waiter_properties import QUERIES, Spec, lived

NAMES = ("A", "B", "C", "D", "Ping", "Fragile", "Hasty", "Starter", "Latch", "ErrNet", "Error")
CONDITIONS = (
    "when", "when_not", "when_any", "when_args", "when_where",
    "when_tick", "when_tick", "when_ticks", "when_ticks", "when_next", "when_next",
    "when_query", "when_error",
)  # fmt: skip
"""Those that see every tick, however short, twice as often."""


def some(random: Random) -> tuple[str, ...]:
    return tuple(random.sample(NAMES, random.choice((1, 1, 2))))


def waiter(random: Random, depth: int = 0) -> Spec:
    if depth < 2 and random.random() < 0.25:
        kind = random.choice(("or", "and", "all", "any"))
        return kind, waiter(random, depth + 1), waiter(random, depth + 1)
    kind = random.choice(CONDITIONS)
    match kind:
        case "when" | "when_not" | "when_any":
            return kind, some(random)
        case "when_args" | "when_where":
            return kind, some(random), random.randrange(2)
        case "when_tick":
            return kind, random.choice(NAMES), random.randrange(6)
        case "when_ticks":
            return kind, random.choice(NAMES), random.randint(1, 4)
        case "when_next":
            return kind, random.choice(NAMES)
        case "when_query":
            return kind, random.randrange(len(QUERIES))
        case _:
            return kind, random.choice(("Error", "ErrNet", "ErrMath"))


def program(random: Random) -> list[Spec]:
    steps: list[Spec] = []
    for _ in range(random.randint(4, 9)):
        match random.randrange(8):
            case 0 | 1 | 2:
                steps.append(("make", waiter(random)))
            case 3:
                steps.append(("pass",))
            case 4 if random.random() < 0.3:
                steps.append(("error", random.choice((OSError, ArithmeticError, ZeroDivisionError))))
            case _:
                kind = random.choice(("add", "add", "remove", "set", "toggle"))
                steps.append((kind, some(random), random.choice((None, None, 0, 1))))
    return steps


async def main(interleavings: int, seed: int) -> None:
    waiters = 0
    for number in range(interleavings):
        random = Random(f"waiting {seed} {number}")
        life = program(random)
        waiters += sum(step[0] == "make" for step in life)
        try:
            await lived(life, every=4)
        except BaseException as error:
            error.add_note(f"program {number} of seed {seed}: trio.run(lived, {life})")
            raise
    print(json.dumps({"interleavings": interleavings, "waiters": waiters}))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
