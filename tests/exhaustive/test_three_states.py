"""Every schema of three states, every valid active set, every mutation: the kernel against the model and the laws.

About ten minutes on one core. Run it with ``-s``, or not: progress is printed either way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from time import perf_counter

import pytest

import model.consensus as slow
from kernel.adapter import KINDS, Answer, assert_same, compiled, in_names, mask_of
from model import enumerate3
from model.consensus import Kind, Names, StateForm, States
from model.laws import (
    LAWS,
    law_declaration_order_decides_only_ties,
    law_no_order_matters,
    law_option,
)
from trsm._core._consensus import Request, decide
from trsm._core._relations import Relations

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(0)]

IN_OTHER_SCHEMAS = (law_no_order_matters, law_declaration_order_decides_only_ties, law_option)
"""Laws that compare with the verdict by another schema, or with the same one put in another order."""


class Remembering:
    """The kernel as the laws' `decide`, which compiles a schema once and decides a mutation by it once.

    That the order of called states cannot matter is plain here: the kernel is given a mask. So the law of order is
    left with the order of relation lists, which are masks too, and need not be tried again in every run.
    """

    def __init__(self, states: States) -> None:
        self.states = states
        self.relations: Relations = compiled(states)
        self.answers: dict[tuple[Names, Kind, Names, Names], Answer] = {}

    def __call__(
        self, states: States, active: Names, kind: Kind, called: Collection[str], dropped: Collection[str], /
    ) -> Answer:
        assert states is self.states
        key = active, kind, frozenset(called), frozenset(dropped)
        if key not in self.answers:
            relations = self.relations
            request = Request(KINDS[kind], mask_of(relations, called), mask_of(relations, dropped))
            verdict = decide(relations, mask_of(relations, active), request)
            self.answers[key] = in_names(relations, active, verdict)
        return self.answers[key]


class RememberingAll:
    """The same for any schema, whatever the order of its states; a schema is known by what it says."""

    def __init__(self) -> None:
        self.known: dict[object, Remembering] = {}

    def __call__(
        self, states: States, active: Names, kind: Kind, called: Collection[str], dropped: Collection[str], /
    ) -> Answer:
        key = tuple(
            (name, *(tuple(sorted(form.get(relation, ()))) for relation in ("require", "add", "remove")))  # type: ignore[call-overload]
            for name, form in states.items()
        )
        remembering = self.known.get(key)
        if remembering is None:
            remembering = self.known[key] = Remembering(states)
        return remembering(remembering.states, active, kind, called, dropped)


class Progress:
    """Says how far it is, every 100,000 runs, past pytest's capture."""

    def __init__(self, capsys: pytest.CaptureFixture[str], what: str) -> None:
        self.capsys = capsys
        self.what = what
        self.runs = 0
        self.began = perf_counter()

    def __call__(self) -> None:
        self.runs += 1
        if self.runs % 100_000 == 0:
            with self.capsys.disabled():
                print(f"\n{self.what}: {self.runs:,} runs, {perf_counter() - self.began:.0f} s", end="", flush=True)


def runs_of(states: States) -> Iterator[tuple[Names, Kind, Names, Names]]:
    for active in enumerate3.valid_active_sets(states):
        for kind, called, dropped in enumerate3.mutations():
            yield active, kind, called, dropped


@pytest.mark.promise(26)
def test_every_run_is_decided_as_the_model_does(
    capsys: pytest.CaptureFixture[str], figure: Callable[..., None]
) -> None:
    """All 995,316 runs of the 15,625 schemas have the same verdict, field by field."""
    progress = Progress(capsys, "against the model")
    schemas = 0
    for states in enumerate3.schemas():
        schemas += 1
        for active, kind, called, dropped in runs_of(states):
            assert_same(states, active, kind, called, dropped)
            progress()
    assert (schemas, progress.runs) == (enumerate3.SCHEMAS, enumerate3.RUNS)
    figure(26, consensus_runs=progress.runs)


def test_every_automatic_round_is_decided_as_the_model_does(capsys: pytest.CaptureFixture[str]) -> None:
    """With every set of the three states automatic, and every set of them barred if all are, on every active set."""
    progress = Progress(capsys, "automatic rounds")
    for states in enumerate3.schemas():
        for automatic in enumerate3.subsets():
            with_auto = {name: StateForm(**form, auto=name in automatic) for name, form in states.items()}
            for active in enumerate3.valid_active_sets(states):
                for barred in enumerate3.subsets() if len(automatic) == 3 else [slow.NOTHING]:
                    assert_same(with_auto, active, "auto", barred=barred)
                    progress()


def test_every_law_holds_of_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    """All laws that speak of one schema hold of the kernel on all 995,316 runs."""
    progress = Progress(capsys, "laws")
    laws = [law for law in LAWS if law not in IN_OTHER_SCHEMAS]
    for states in enumerate3.schemas():
        remembering = Remembering(states)
        for run in runs_of(states):
            for law in laws:
                law(states, *run, remembering)
            progress()
    assert progress.runs == enumerate3.RUNS


def test_options_and_declaration_order_do_no_harm_in_any_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The option law and the law of declaration order hold of the kernel on all 995,316 runs."""
    progress = Progress(capsys, "laws that look at other schemas")
    for states in enumerate3.schemas():
        remembering = RememberingAll()
        for run in runs_of(states):
            law_option(states, *run, remembering)
            law_declaration_order_decides_only_ties(states, *run, remembering)
            progress()
    assert progress.runs == enumerate3.RUNS
