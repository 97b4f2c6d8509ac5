"""The kernel's consensus behind the signature of the model's, so that the two can be held against each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import model.consensus as slow
from model.consensus import NOTHING, Names, StateForm, States
from trsm._core._bits import members
from trsm._core._consensus import Kind, Request, Verdict, decide
from trsm._core._relations import Relations

KINDS: Mapping[slow.Kind, Kind] = {
    "add": Kind.ADD,
    "remove": Kind.REMOVE,
    "set": Kind.SET,
    "mutate": Kind.MUTATE,
    "auto": Kind.AUTO,
}


def compiled(states: States) -> Relations:
    """Turn a schema in the form of the conformance cases into the kernel's tables."""
    bits = {name: 1 << place for place, name in enumerate(states)}

    def table(named: Iterable[Iterable[str]]) -> tuple[int, ...]:
        return tuple(sum(bits[name] for name in names) for names in named)

    return Relations(
        names=tuple(states),
        require=table(form.get("require", ()) for form in states.values()),
        add=table(form.get("add", ()) for form in states.values()),
        remove=table(form.get("remove", ()) for form in states.values()),
        after=table(form.get("after", ()) for form in states.values()),
        auto=sum(bits[name] for name, form in states.items() if form.get("auto")),
        multi=sum(bits[name] for name, form in states.items() if form.get("multi")),
        latch=sum(bits[name] for name, form in states.items() if form.get("latch")),
    )


def mask_of(relations: Relations, names: Iterable[str]) -> int:
    return sum(1 << relations.names.index(name) for name in names)


def names_of(relations: Relations, mask: int) -> Names:
    return frozenset(relations.names[index] for index in members(mask))


@dataclass(frozen=True)
class Answer:
    """A verdict in names: the fields that the model's verdict has too, and the called states that failed."""

    accepted: bool
    found: Names
    target: Names
    called: Names
    incumbents: Names
    options: Names
    standing_incumbents: Names
    failed: Names = NOTHING


def in_names(relations: Relations, active: Names, verdict: Verdict) -> Answer:
    found = names_of(relations, verdict.found)
    return Answer(
        accepted=verdict.accepted,
        found=found,
        target=found if verdict.accepted else active,
        called=names_of(relations, verdict.called),
        incumbents=names_of(relations, verdict.incumbents),
        options=names_of(relations, verdict.options),
        standing_incumbents=names_of(relations, verdict.standing),
        failed=names_of(relations, verdict.failed),
    )


def request_of(
    relations: Relations, kind: slow.Kind, called: Iterable[str], dropped: Iterable[str], barred: Iterable[str]
) -> Request:
    """In the automatic round the kernel reads barred states where other kinds have dropped ones."""
    gone = barred if kind == "auto" else dropped
    return Request(KINDS[kind], mask_of(relations, called), mask_of(relations, gone))


def kernel(
    states: States,
    active: Names,
    kind: slow.Kind,
    called: Collection[str] = NOTHING,
    dropped: Collection[str] = NOTHING,
    barred: Collection[str] = NOTHING,
) -> Answer:
    """What the kernel says of one mutation; it serves the laws as their `decide`."""
    relations = compiled(states)
    request = request_of(relations, kind, called, dropped, barred)
    return in_names(relations, active, decide(relations, mask_of(relations, active), request))


def why_canceled(states: States, active: Names, called: Names, dropped: Names, verdict: slow.Verdict) -> Names:
    """The called states that cannot be and the latched ones that were to leave, by the model's own words."""
    held = frozenset(name for name in dropped & active if slow.is_latch(states, name))
    failed = frozenset(
        name
        for name in called
        if any(slow.exclude_each_other(states, name, other) for other in called)
        or any(
            slow.removes(states, guard, name)
            or (slow.is_latch(states, guard) and slow.exclude_each_other(states, guard, name))
            for guard in verdict.standing_incumbents
        )
        or not slow.requires(states, name) <= verdict.found
    )
    return held | failed


def assert_same(
    states: States,
    active: Names,
    kind: slow.Kind,
    called: Names = NOTHING,
    dropped: Names = NOTHING,
    barred: Names = NOTHING,
) -> None:
    """The kernel and the model agree in every field that both have."""
    theirs = slow.verdict(states, active, kind, called, dropped, barred)
    ours = kernel(states, active, kind, called, dropped, barred)
    expected = Answer(
        accepted=theirs.accepted,
        found=theirs.found,
        target=theirs.target,
        called=theirs.called,
        incumbents=theirs.incumbents,
        options=frozenset(theirs.options),
        standing_incumbents=theirs.standing_incumbents,
        failed=why_canceled(states, active, called, dropped, theirs),
    )
    assert ours == expected, (
        f"the kernel differs from the model\n  states  {dict(states)}\n  active  {sorted(active)}\n  kind    {kind}"
        f"\n  called  {sorted(called)}\n  dropped {sorted(dropped)}\n  barred  {sorted(barred)}"
        f"\n  kernel  {ours}\n  model   {expected}"
    )


def error_as_add(states: States, called: Names, seeds: Names) -> tuple[dict[str, StateForm], dict[str, StateForm]]:
    """Two schemas in which the error mutation of the first and the `add` of the second mean the same.

    Error states are multi, so in both every called state is; in the second the first called state adds the seeds.
    """
    ours = {name: form.copy() for name, form in states.items()}
    for name in called:
        ours[name]["multi"] = True
    theirs = {name: form.copy() for name, form in ours.items()}
    first = min(called)
    theirs[first]["add"] = sorted(slow.adds(theirs, first) | seeds)
    return ours, theirs


def assert_same_error(states: States, active: Names, called: Names, seeds: Names, barred: Names) -> None:
    """The kernel's error mutation is the model's `add` by a schema in which what is called adds the seeds."""
    ours, theirs = error_as_add(states, called, seeds)
    relations = compiled(ours)
    request = Request(Kind.ERROR, mask_of(relations, called), mask_of(relations, barred), mask_of(relations, seeds))
    got = in_names(relations, active, decide(relations, mask_of(relations, active), request))
    expected = slow.verdict(theirs, active, "add", called, barred=barred)
    told = (
        f"the kernel's error mutation differs from the model's add\n  states  {ours}\n  active  {sorted(active)}"
        f"\n  called  {sorted(called)}\n  seeds   {sorted(seeds)}\n  barred  {sorted(barred)}"
        f"\n  kernel  {got}\n  model   {expected}"
    )
    assert (got.accepted, got.found, got.target) == (expected.accepted, expected.found, expected.target), told
    assert got.incumbents == expected.incumbents and got.options == expected.options.keys(), told
    assert got.standing_incumbents == expected.standing_incumbents, told
    assert got.failed == why_canceled(ours, active, called, NOTHING, expected), told


def is_simple(states: States, verdict: slow.Verdict) -> bool:
    """Whether no candidates exclude each other and no requirement is missing: then one pass answers."""
    candidates = verdict.called | verdict.incumbents | verdict.options.keys()
    return slow.is_valid(states, candidates)
