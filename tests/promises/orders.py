"""Verdicts by arrangements that must not matter: P2.

``python -m promises.orders VERDICTS``, from the directory of the tests. It walks random schemas twice: once with each
relation as a set, in whatever order this process iterates it, and once as lists in another order, with everything that
is called or dropped in another order too. The two must agree, and so must processes with other hash seeds: what each
schema's walk came to is printed as a digest.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from random import Random
from typing import Any

from kernel.fuzz import random_situation
from trsm import Engine, Schema, State

RELATIONS = ("require", "add", "remove", "after")
MUTATIONS = 60


def shuffled(names: Iterable[Any], shuffle: Random) -> list[Any]:
    order = list(names)
    shuffle.shuffle(order)
    return order


def walk(number: int, shuffle: Random) -> tuple[str, int]:
    """Walk one schema in two arrangements; return what it came to, and how many verdicts that were."""
    random = Random(f"orders {number}")
    forms = random_situation(random).states
    engines = []
    for arrange in (frozenset, lambda names: shuffled(names, shuffle)):
        states = {
            name: State(**{key: arrange(value) if key in RELATIONS else value for key, value in form.items()})
            for name, form in forms.items()
        }
        engines.append(Engine(Schema.define("Walk", states), id="walk"))
    names = list(forms)
    told = []
    for _ in range(MUTATIONS):
        method = random.choice(("add", "add", "remove", "set", "mutate", "toggle"))
        these = random.sample(names, min(len(names), random.choice((1, 2, 2, 3, 4))))
        ends = []
        for engine in engines:
            order = list(these) if engine is engines[0] else shuffled(these, shuffle)
            if method == "mutate":
                first = sorted(these)[0]
                result = engine.mutate(
                    add=engine.schema[first], remove=[engine.schema[name] for name in order if name != first]
                )
            else:
                result = getattr(engine, method)(*(engine.schema[name] for name in order))
            reason = "" if result else result.reason  # type: ignore[attr-defined]
            ends.append((result.executed, repr(engine.ticks), repr(engine.last_transition), reason))
        assert ends[0] == ends[1], f"schema {number}, {method} of {these}: {ends}\n{forms}"
        told.append(ends[0])
    return repr(told), MUTATIONS


def main() -> None:
    wanted, shuffle = int(sys.argv[1]), Random()  # on purpose another order in each process
    verdicts, digest, number = 0, hashlib.sha256(), 0
    while verdicts < wanted:
        told, count = walk(number, shuffle)
        digest.update(told.encode())
        verdicts += count
        number += 1
    print(json.dumps({"verdicts": verdicts, "digest": int(digest.hexdigest()[:12], 16)}))


if __name__ == "__main__":
    main()
