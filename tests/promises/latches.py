"""Walks of the consensus from set to set, on random schemas with latched states: P21.

``python -m promises.latches RUNS [SEED]``, from the directory of the tests. It counts runs in which a latched state was
active; each is a mutation of any kind but closing, errors and automatic rounds included.
"""

from __future__ import annotations

import json
import sys
from random import Random

from kernel.adapter import compiled
from kernel.fuzz import random_situation
from model.consensus import is_latch, requires
from trsm._core._consensus import Kind, Request, decide

KINDS = (Kind.ADD, Kind.ADD, Kind.REMOVE, Kind.SET, Kind.MUTATE, Kind.AUTO, Kind.ERROR, Kind.REMOVAL)


def main() -> None:
    wanted, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    runs = walks = moved = 0
    while runs < wanted:
        random = Random(f"latches {seed} {walks}")
        walks += 1
        states = random_situation(random).states
        for name in random.sample(list(states), random.randint(1, 2)):
            if all(is_latch(states, need) for need in requires(states, name)):  # as a schema demands
                states[name]["latch"] = True
        relations = compiled(states)
        latched, size = relations.latch, len(states)
        if not latched:
            continue
        active = 0
        for _ in range(200):
            kind = random.choice(KINDS)
            some = random.getrandbits(size) & random.getrandbits(size) or 1 << random.randrange(size)
            others = random.getrandbits(size) & random.getrandbits(size) & ~some
            match kind:
                case Kind.AUTO:
                    request = Request(kind, dropped=others)
                case Kind.REMOVE | Kind.REMOVAL:
                    request = Request(kind, dropped=some)
                case Kind.MUTATE | Kind.ERROR:
                    request = Request(kind, some, others, others << 1 & (1 << size) - 1 & ~some & ~others)
                case _:
                    request = Request(kind, some)
            if kind is Kind.MUTATE:
                request = Request(kind, some, others)
            verdict = decide(relations, active, request)
            target = verdict.found if verdict.accepted else active
            lost = active & latched & ~target
            assert not lost, f"P21: {relations.named(lost)} left by {request}, active {active:b}: {states}"
            runs += bool(active & latched)
            moved += target != active
            active = target
    print(json.dumps({"consensus runs": runs, "schemas": walks, "that changed something": moved}))


if __name__ == "__main__":
    main()
