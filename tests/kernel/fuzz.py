"""The kernel against the model on very many random situations, with removes so dense that contests are the rule.

Not a part of the suite. From the root of the repository: ``PYTHONPATH=tests:. python -m kernel.fuzz [COUNT [SEED]]``.
A situation in which the two differ is shrunk and printed, ready to be kept as a test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from time import perf_counter
from typing import Literal, NamedTuple

import model.consensus as slow
from kernel.adapter import assert_same, assert_same_error
from model.consensus import NOTHING, Names, StateForm
from model.strategies import ALPHABET
from trsm._core import _consensus

Relation = Literal["require", "add", "remove", "after"]
RELATIONS: tuple[Relation, ...] = ("require", "add", "remove", "after")


class Situation(NamedTuple):
    states: dict[str, StateForm]
    active: Names
    kind: slow.Kind
    called: Names
    dropped: Names
    barred: Names
    seeds: Names
    """If there are any, it is an error mutation."""


def random_situation(random: Random) -> Situation:
    names = ALPHABET[: random.randint(2, 12)]
    many = len(names)
    often = random.choice((0.5, 1.5, 3.0, 6.0))  # relations of each sort for each state, roughly
    require_share, add_share, remove_share = random.random() ** 2, random.random() * 1.5, random.random()
    weights = [share * often / many for share in (require_share, add_share, remove_share)]
    mutual = random.choice((0.0, 0.3, 0.8))
    flags = [random.choice((0.0, 0.1, 0.5)) for _ in range(3)]
    states: dict[str, StateForm] = {name: {} for name in names}
    for name in names:
        if random.random() < flags[0]:
            states[name]["auto"] = True
        if random.random() < flags[1]:
            states[name]["multi"] = True
        if random.random() < flags[2] * 0.6:
            states[name]["latch"] = True
    removed: set[tuple[str, str]] = set()
    for source in names:
        for target in names:
            if source != target and random.random() < weights[2]:
                removed.add((source, target))
                if random.random() < mutual:
                    removed.add((target, source))
    for source, target in sorted(removed):
        states[source].setdefault("remove", []).append(target)
    for source in names:
        for target in names:
            if source == target or (source, target) in removed:
                continue
            if random.random() < weights[1]:
                states[source].setdefault("add", []).append(target)
            if random.random() < weights[0] and (not slow.is_latch(states, source) or slow.is_latch(states, target)):
                states[source].setdefault("require", []).append(target)
    active = NOTHING
    for name in random.sample(names, random.randint(0, many)):
        with_it, frontier = active, frozenset({name})
        while frontier:
            with_it |= frontier
            frontier = frozenset(need for member in frontier for need in slow.requires(states, member)) - with_it
        if slow.is_valid(states, with_it):
            active = with_it
    kinds: tuple[slow.Kind, ...] = ("add", "add", "set", "set", "mutate", "mutate", "remove", "auto", "auto")
    kind = random.choice(kinds)

    def some(least: int) -> Names:
        return frozenset(random.sample(names, min(many, random.choice((least, 1, 1, 2, 3)))))

    called, dropped, barred, seeds = NOTHING, NOTHING, NOTHING, NOTHING
    if kind == "auto":
        barred = some(0)
    elif kind == "remove":
        dropped = some(1)
    else:
        called = some(1)
        if kind == "mutate":
            dropped = some(0) - called
        if kind == "add" and random.random() < 0.5:
            seeds = some(1) - called
            barred = some(0) - called if seeds else NOTHING
    return Situation(states, active, kind, called, dropped, barred, seeds)


def differs(situation: Situation) -> str | None:
    try:
        if not slow.is_valid(situation.states, situation.active):
            return None
        if situation.seeds:
            assert_same_error(
                situation.states,
                situation.active,
                situation.called,
                situation.seeds,
                situation.barred - situation.called,
            )
        else:
            assert_same(*situation[:-1])
    except AssertionError as error:
        return str(error)
    return None


def smaller(situation: Situation) -> Iterator[Situation]:
    """Everything that is one state, one relation, one flag or one name smaller."""
    for name in situation.states:
        states = {other: deepcopy(form) for other, form in situation.states.items() if other != name}
        for form in states.values():
            for relation in RELATIONS:
                if name in form.get(relation, ()):
                    form[relation] = [other for other in form[relation] if other != name]
        yield Situation(
            states, situation.active - {name}, situation.kind,
            situation.called - {name}, situation.dropped - {name}, situation.barred - {name}, situation.seeds - {name},
        )  # fmt: skip
    for name, form in situation.states.items():
        for relation in RELATIONS:
            for other in form.get(relation, ()):
                states = deepcopy(situation.states)
                states[name][relation].remove(other)
                yield situation._replace(states=states)
        for flag in ("auto", "multi", "latch"):
            if form.get(flag):
                states = deepcopy(situation.states)
                states[name].pop(flag)
                yield situation._replace(states=states)
    for field in ("active", "called", "dropped", "barred", "seeds"):
        for name in getattr(situation, field):
            yield situation._replace(**{field: getattr(situation, field) - {name}})


def shrunk(situation: Situation) -> Situation:
    while True:
        for attempt in smaller(situation):
            if differs(attempt):
                situation = attempt
                break
        else:
            return situation


def counted() -> dict[str, int]:
    """Count from now on what the kernel goes through, and hold every contest against the bound on passes."""
    counts = dict.fromkeys(("contests", "canceled", "undecided", "fitted", "most passes"), 0)
    contest = _consensus._Contest
    a_pass, a_model, find, verdict = contest._pass, contest._model, contest._find, contest.verdict
    passes = 0
    settled = 0

    def counting_pass(self: _consensus._Contest, candidates: int, assumed: int) -> int:
        nonlocal passes
        passes += 1
        return a_pass(self, candidates, assumed)

    def counting_model(self: _consensus._Contest, candidates: int) -> tuple[int, int]:
        nonlocal settled
        settled, possible = a_model(self, candidates)
        counts["undecided"] += settled != possible
        return settled, possible

    def counting_find(self: _consensus._Contest) -> int:
        nonlocal passes
        passes = 0
        found = find(self)
        counts["contests"] += 1
        counts["fitted"] += found != settled
        counts["most passes"] = max(counts["most passes"], passes)
        candidates = self.called | self.incumbents | self.options
        bound = (self.options.bit_count() + 1) * (candidates.bit_count() + 1)
        assert passes <= bound, f"{passes} passes, at most {bound} are promised"
        return found

    def counting_verdict(self: _consensus._Contest, failed: int) -> _consensus.Verdict:
        answer = verdict(self, failed)
        counts["canceled"] += not answer.accepted
        return answer

    contest._pass = counting_pass  # type: ignore[method-assign]
    contest._model = counting_model  # type: ignore[method-assign]
    contest._find = counting_find  # type: ignore[method-assign]
    contest.verdict = counting_verdict  # type: ignore[method-assign]
    return counts


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    random = Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    began = perf_counter()
    found: list[Situation] = []
    counts = counted()
    for number in range(1, count + 1):
        situation = random_situation(random)
        if differs(situation):
            small = shrunk(situation)
            if small not in found:
                found.append(small)
                print(differs(small), flush=True)
        if number % 50_000 == 0:
            told = ", ".join(f"{many:,} {what}" for what, many in counts.items())
            print(
                f"{number:,} situations, {told}, {len(found)} differences, {perf_counter() - began:.0f} s", flush=True
            )
        if len(found) >= 5:
            break
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
