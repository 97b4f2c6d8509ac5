"""An independent checker of reasons: DESIGN section 4, paragraph **Reasons**.

It takes the verdict for granted and looks only at the final set, `verdict.found`: of a canceled mutation that is the
set that was found. The kinds, in the order in which the first true one counts:

| kind | `by` | true if |
|---|---|---|
| "refused by" | nobody | a handler refused the state |
| "latched" | nobody | the state is active, latched, and was to be dropped |
| "excluded by" | another called state | the state is called too, and one of the two removes the other |
| "removed by" | X | X removes it, and X is in, or was active and nothing that is in puts it out |
| "requires" | R | it requires R, and R is not in |
| "nothing brings it" | nobody | it is an option, and no state that is in and fires its `add` adds it |
| "would remove" | X | it removes X, and X is in |
"""

from __future__ import annotations

from collections.abc import Iterable

from .consensus import NOTHING, Kind, Names, States, Verdict, adds, is_auto, is_latch, is_multi, removes, requires

KINDS = (
    "refused by", "latched", "excluded by", "removed by", "requires", "nothing brings it", "would remove",
)  # fmt: skip
NAMELESS = ("refused by", "latched", "nothing brings it")
"""Kinds that name no other state."""


def required_by_the_call(states: States, called: Names) -> Names:
    required = called
    while not required >= (more := frozenset(need for name in required for need in requires(states, name))):
        required |= more
    # A called state counts only if another one requires it; for the table it is called, so that this never matters.
    return required - called


def guarding(states: States, verdict: Verdict) -> Names:
    """The incumbents that nothing in the final set puts out, whether they are in themselves or not."""
    required = required_by_the_call(states, verdict.called)

    def put_out(incumbent: str) -> bool:
        for name in verdict.found - verdict.incumbents:
            if not removes(states, name, incumbent) or is_latch(states, incumbent):
                continue
            if name in verdict.called:
                return True  # also when both remove
            if not removes(states, incumbent, name) and (incumbent not in required or name in required):
                return True  # an option: only if it alone removes, and never against what the call alone requires
        return False

    return frozenset(name for name in verdict.incumbents if not put_out(name))


def firing(states: States, active: Names, kind: Kind, verdict: Verdict) -> Names:
    """The states in the final set that fire their `add`: those that activate, and called multi states."""
    return frozenset(
        name
        for name in verdict.found
        if name not in active or (name in verdict.called and is_multi(states, name) and kind != "auto")
    )


def true_reasons(
    states: States,
    active: Iterable[str],
    kind: Kind,
    called: Iterable[str],
    dropped: Iterable[str],
    verdict: Verdict,
    state: str,
    refused: Names = NOTHING,
) -> dict[str, Names]:
    """Every kind that is true of this state, in the order of the list, with all the states that `by` may name."""
    active, called, dropped = frozenset(active), frozenset(called), frozenset(dropped)
    found = verdict.found
    others = frozenset(states) - {state}
    reasons: dict[str, Names] = {}
    if state in refused:
        reasons["refused by"] = NOTHING
    if state in dropped & active and is_latch(states, state):
        reasons["latched"] = NOTHING
    if state in dropped:
        return reasons  # it was asked to go, so nothing else needs a reason
    if state in called:
        reasons["excluded by"] = frozenset(
            other for other in called & others if removes(states, other, state) or removes(states, state, other)
        )
    in_or_on_guard = found | guarding(states, verdict)
    reasons["removed by"] = frozenset(other for other in in_or_on_guard & others if removes(states, other, state))
    reasons["requires"] = requires(states, state) - found
    if (
        state in verdict.options
        and not (kind == "auto" and is_auto(states, state))
        and not any(state in adds(states, name) for name in firing(states, active, kind, verdict))
    ):
        reasons["nothing brings it"] = NOTHING
    reasons["would remove"] = frozenset(other for other in found & others if removes(states, state, other))
    return {name: by for name, by in reasons.items() if by or name in NAMELESS}


def check_reason(
    states: States,
    active: Iterable[str],
    kind: Kind,
    called: Iterable[str],
    dropped: Iterable[str],
    verdict: Verdict,
    state: str,
    reason_kind: str,
    by: str | None = None,
    refused: Names = NOTHING,
) -> str | None:
    """None if the claimed reason is the first true one, else a message that says what is wrong with it.

    `by` is the state that the reason names, and None for the kinds that name none. `refused` holds the states that a
    handler refused; that the handler really did is checked elsewhere.
    """
    if reason_kind not in KINDS:
        return f"{reason_kind!r} is no kind of reason; the kinds are {', '.join(KINDS)}"
    true = true_reasons(states, active, kind, called, dropped, verdict, state, refused)
    claim = f"{state}: {reason_kind}" + ("" if by is None else f" {by}")
    if reason_kind not in true:
        return f"{claim} is not true of {sorted(verdict.found)}; what is true: {true}"
    first = next(iter(true))
    if reason_kind != first:
        return f"{claim} is true, but {first!r} {sorted(true[first])} comes before it"
    if reason_kind in NAMELESS:
        return None if by is None else f"{claim} names {by}, and this kind names nobody"
    if by not in true[first]:
        return f"{claim} is not true of {by}; it is of {sorted(true[first])}"
    return None


def reasons(
    states: States,
    active: Iterable[str],
    kind: Kind,
    called: Iterable[str],
    dropped: Iterable[str],
    verdict: Verdict,
    refused: Names = NOTHING,
) -> dict[str, tuple[str, Names]]:
    """The first true reason of each state that has to have one, with all the states that its `by` may name.

    These are every candidate that is not in the final set and, in a canceled mutation, every called state that fails
    and every latched state that was to be dropped. A canceled mutation has at least one of the latter two.
    """
    active, called, dropped = frozenset(active), frozenset(called), frozenset(dropped)
    answers: dict[str, tuple[str, Names]] = {}
    lost = (verdict.incumbents | verdict.options.keys() | verdict.called) - verdict.found
    asked = lost | refused if verdict.accepted else lost | refused | called | dropped
    for state in states:
        if state not in asked:
            continue
        true = true_reasons(states, active, kind, called, dropped, verdict, state, refused)
        assert true or state not in lost, f"{state} is lost without a reason: {verdict}"
        if true:
            first = next(iter(true))
            answers[state] = first, true[first]
    assert verdict.accepted or answers.keys() & (called | dropped), f"canceled without a reason: {verdict}"
    return answers
