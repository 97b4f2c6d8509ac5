"""Promises whose figures take very many runs: each in a process of its own, which coverage does not slow.

What they count is printed by ``pytest -m promise``; `planted` lists the fault that each was seen to find.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import proof
from proof import apart, scaled

Figure = Callable[..., None]
pytestmark = pytest.mark.timeout(120 if proof.SCALE != "long" else 3600)
HASH_SEEDS = (0, 1, 2, 3)
PARTS = range(2 if proof.SCALE != "long" else 16)
"""Seeds of the two longest, which are done in parts, so that two cores share them to the end."""


@pytest.mark.promise(1, 3, 5, 6, 7, 15, 21)
@pytest.mark.parametrize("seed", PARTS)
def test_random_machines_whose_handlers_raise_refuse_and_queue(seed: int, figure: Figure) -> None:
    """Relations, ticks, handlers, canceled mutations and the ledger are as promised after every transition."""
    told = apart("promises.fuzz", scaled(200_000, 20_000_000) // len(PARTS), seed)
    figure(1, transitions=told["transitions"], faults=told["faults"])
    figure(3, contests=told["contests"])
    figure(5, canceled_mutations=told["canceled mutations"])
    figure(6, transitions=told["transitions"])
    figure(7, transitions=told["transitions with all handlers"])
    ways = ("executed", "canceled", "folded", "skipped", "refused")
    assert sum(told[way] for way in ways) == told["mutations"], "what was issued, and the sum of what came of it"
    figure(15, **{way: told[way] for way in ways}, mutations=told["mutations"])
    assert min(told[way] for way in ways) > 0


@pytest.mark.promise(2)
def test_other_hash_seeds_and_other_orders_make_no_other_verdict(
    figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relations as sets and as shuffled lists, calls in another order, in processes with four hash seeds."""
    told = []
    for seed in HASH_SEEDS:
        monkeypatch.setitem(os.environ, "PYTHONHASHSEED", str(seed))
        told.append(apart("promises.orders", scaled(7_200, 715_000)))
    assert len({one["digest"] for one in told}) == 1
    verdicts = told[0]["verdicts"]
    # In each process every verdict by two arrangements, and that of the first process with each other's.
    figure(2, pairs=verdicts * len(told) + verdicts * (len(told) - 1), hash_seeds=len(told))


@pytest.mark.promise(8, 9)
def test_every_handler_call_of_random_schemas_raises_once(figure: Figure) -> None:
    """On engines and on machines: what was canceled, what was undone, who was told, and whose waiters woke."""
    told = apart("promises.raising", scaled(200))
    figure(8, schemas=told["engines"], faults_in_negotiation=told["negotiation"])
    figure(9, schemas=told["machines"], faults_in_finals=told["finals"])


@pytest.mark.promise(10)
@pytest.mark.parametrize("seed", PARTS)
def test_random_waiters_against_the_log(seed: int, figure: Figure) -> None:
    """Every waiter ends at the transition, and with the value, that a slow search of the log finds."""
    told = apart("promises.waiting", scaled(10_000, 1_000_000) // len(PARTS), seed)
    figure(10, interleavings=told["interleavings"], waiters=told["waiters"])


@pytest.mark.promise(12)
def test_tasks_of_very_many_activations(figure: Figure) -> None:
    """No task outside its instance, each cancelled with it, none beside its successor, however slowly it cleans up."""
    told = apart("promises.tasks", scaled(10_000, 1_000_000))
    figure(12, activations=told["activations"])


@pytest.mark.promise(16)
def test_a_flood_from_a_handler_tasks_and_threads(figure: Figure) -> None:
    """What was accepted has run, once; what was refused was refused at the call, by an error."""
    told = apart("promises.flood", scaled(1_000_000))
    figure(16, mutations=told["mutations"], refused_at_the_call=told["refused at the call"])


@pytest.mark.promise(21)
def test_latched_states_in_random_mutations(figure: Figure) -> None:
    """Whatever is asked but closing, a latched state that is active stays."""
    figure(21, consensus_runs=apart("promises.latches", scaled(300_000))["consensus runs"])


@pytest.mark.promise(23)
def test_very_many_activations_leave_nothing(figure: Figure) -> None:
    """With the collector off memory after as many again is what it was, and nothing waits to be collected."""
    count = scaled(100_000, 1_000_000)
    told = apart("promises.leaks", count)
    figure(23, activations=told["activations"] // 2)
