"""The **Laws** of DESIGN section 4, each as a function over one mutation and somebody who decides it.

Run them with the model, or with the real machine behind the same signature. A law that does not speak of a mutation
of that kind says nothing. One that is broken raises `AssertionError`, with the whole case in its message.

Two laws are kept elsewhere: that every loss has a reason (`reasons.reasons` asserts it, here only the target is
looked at), and that the number of passes is bounded (`consensus.search` asserts it).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import permutations
from typing import Protocol

from .consensus import (
    NOTHING,
    Kind,
    Names,
    StateForm,
    States,
    adds,
    exclude_each_other,
    is_auto,
    is_latch,
    is_multi,
    removes,
    requires,
)


class Decision(Protocol):
    @property
    def accepted(self) -> bool: ...
    @property
    def target(self) -> Names: ...


class Decide(Protocol):
    """Decides a mutation. The order of `called` and `dropped` is part of what the laws vary."""

    def __call__(
        self, states: States, active: Names, kind: Kind, called: Collection[str], dropped: Collection[str], /
    ) -> Decision: ...


class Law(Protocol):
    __name__: str

    def __call__(
        self, states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
    ) -> None: ...


def told(states: States, active: Names, kind: Kind, called: Names, dropped: Names, got: Decision, what: str) -> str:
    return (
        f"{what}\n  states  {dict(states)}\n  active  {sorted(active)}\n  kind    {kind}\n  called  {sorted(called)}"
        f"\n  dropped {sorted(dropped)}\n  {'accepted' if got.accepted else 'canceled'} target {sorted(got.target)}"
    )


def law_the_target_breaks_no_relation(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """The target never breaks a relation."""
    got = decide(states, active, kind, called, dropped)
    for name in got.target:
        missing = requires(states, name) - got.target
        assert not missing, told(states, active, kind, called, dropped, got, f"{name} requires {sorted(missing)}")
        removed = [other for other in got.target if removes(states, name, other)]
        assert not removed, told(states, active, kind, called, dropped, got, f"{name} removes {removed}")


def law_called_in_dropped_out(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """Called states are in, dropped ones out; a `set` leaves nothing of which it does not know a reason to stay."""
    got = decide(states, active, kind, called, dropped)
    if not got.accepted:
        return
    assert called <= got.target, told(states, active, kind, called, dropped, got, "a called state is not in")
    assert not dropped & got.target, told(states, active, kind, called, dropped, got, "a dropped state is in")


def law_canceled_changes_nothing(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """A canceled mutation changes nothing; one that calls nothing is canceled only by a latched state."""
    got = decide(states, active, kind, called, dropped)
    if not got.accepted:
        assert got.target == active, told(states, active, kind, called, dropped, got, "canceled, and yet it changed")
    if not called:
        latched = any(is_latch(states, name) for name in dropped & active)
        assert got.accepted != latched, told(states, active, kind, called, dropped, got, "only a latch cancels this")


def law_every_gain_is_founded(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """Every gain is called, or a chain of `add` leads to it through what came, from a called or auto state.

    In a `set` the same holds of an active state that stays without being called or latched.
    """
    got = decide(states, active, kind, called, dropped)
    if not got.accepted:
        return
    if kind == "auto":
        frontier = frozenset(name for name in got.target - active if is_auto(states, name))
    else:
        frontier = frozenset(name for name in called if name not in active or is_multi(states, name))
    brought = frontier
    while frontier:
        frontier = (frozenset(name for member in frontier for name in adds(states, member)) & got.target) - brought
        brought |= frontier
        frontier -= active
    to_found = got.target - active - called
    if kind == "set":
        to_found = got.target - called - frozenset(name for name in active if is_latch(states, name))
    unfounded = to_found - brought
    assert not unfounded, told(states, active, kind, called, dropped, got, f"nothing brings {sorted(unfounded)}")


def law_every_loss_has_a_cause(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """An active state that leaves was dropped, or lost a requirement, or is removed by something that is in."""
    got = decide(states, active, kind, called, dropped)
    if not got.accepted or kind == "set":
        return
    for name in active - got.target - dropped:
        lost = requires(states, name) - got.target
        removed = any(removes(states, other, name) for other in got.target)
        assert lost or removed, told(states, active, kind, called, dropped, got, f"{name} left without a cause")


def orders(names: Collection[str]) -> Iterator[tuple[str, ...]]:
    """All orders of few names; of many, the sorted one, its reverse and two rotations."""
    ordered = sorted(names)
    if len(ordered) <= 3:
        yield from permutations(ordered)
        return
    for shift in (0, 1, len(ordered) // 2):
        yield tuple(ordered[shift:] + ordered[:shift])
    yield tuple(reversed(ordered))


def reordered(states: States, shift: int) -> States:
    """The same schema with every relation list in another order."""

    def turned(names: list[str]) -> list[str]:
        if shift < 0:
            return names[::-1]
        by = shift % len(names) if names else 0
        return names[by:] + names[:by]

    def form(given: StateForm) -> StateForm:
        turned_form = given.copy()
        if "require" in given:
            turned_form["require"] = turned(given["require"])
        if "add" in given:
            turned_form["add"] = turned(given["add"])
        if "remove" in given:
            turned_form["remove"] = turned(given["remove"])
        if "after" in given:
            turned_form["after"] = turned(given["after"])
        return turned_form

    return {name: form(given) for name, given in states.items()}


def law_no_order_matters(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """Neither the order of the called or dropped states nor that of a relation's members matters."""
    got = decide(states, active, kind, called, dropped)

    def same(again: Decision, what: str) -> None:
        assert (again.accepted, again.target) == (got.accepted, got.target), told(
            states, active, kind, called, dropped, got,
            f"with {what}: {'accepted' if again.accepted else 'canceled'} {sorted(again.target)}",
        )  # fmt: skip

    for order in orders(called):
        same(decide(states, active, kind, order, dropped), f"called in the order {order}")
    for order in orders(dropped):
        same(decide(states, active, kind, called, order), f"dropped in the order {order}")
    for shift in (-1, 1):
        same(decide(reordered(states, shift), active, kind, called, dropped), "relation lists in another order")


def law_declaration_order_decides_only_ties(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """Declaration order matters only between options that exclude each other: with none such, it does not."""
    may_be_options = [name for name in states if name not in called | dropped and (name not in active or kind == "set")]
    if any(exclude_each_other(states, one, other) for one in may_be_options for other in may_be_options):
        return
    got = decide(states, active, kind, called, dropped)
    for order in orders(list(states)):
        again = decide({name: states[name] for name in order}, active, kind, called, dropped)
        assert (again.accepted, again.target) == (got.accepted, got.target), told(
            states, active, kind, called, dropped, got,
            f"declared as {order}: {'accepted' if again.accepted else 'canceled'} {sorted(again.target)}",
        )  # fmt: skip


def law_repetition(states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /) -> None:
    """An accepted `add`, `remove` or `mutate` of plain states, repeated, changes nothing."""
    got = decide(states, active, kind, called, dropped)
    if kind not in ("add", "remove", "mutate") or not got.accepted or any(is_multi(states, name) for name in called):
        return
    again = decide(states, got.target, kind, called, dropped)
    assert again.accepted and again.target == got.target, told(
        states, active, kind, called, dropped, got,
        f"repeated: {'accepted' if again.accepted else 'canceled'} {sorted(again.target)}",
    )  # fmt: skip


def law_adding_what_is_active_moves_no_tick(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """Adding active plain states is accepted and moves no tick; every such subset of the active set is tried."""
    plain = frozenset(name for name in active if not is_multi(states, name))
    for these in (plain, *(frozenset({name}) for name in plain), called & plain):
        got = decide(states, active, "add", these, NOTHING)
        assert got.accepted and got.target == active, told(
            states, active, "add", these, NOTHING, got, "adding what is active changed something"
        )


def law_a_remove_activates_nothing(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """A remove activates nothing (before the automatic round)."""
    if kind != "remove":
        return
    got = decide(states, active, kind, called, dropped)
    assert got.target <= active, told(states, active, kind, called, dropped, got, "a remove activated something")


def law_guard(states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /) -> None:
    """An active state's removal holds unless something accepted puts it out directly.

    Whoever comes although an active state removes it, comes with something that removes that state itself. Losing a
    requirement does not lift a guard. (A dropped state guards nothing, nor does one that a `set` leaves behind.)
    """
    got = decide(states, active, kind, called, dropped)
    if not got.accepted:
        return
    guards = active - dropped
    if kind == "set":
        guards = frozenset(name for name in guards if is_latch(states, name) or name in called)
    for guard in guards:
        for name in got.target - active:
            if removes(states, guard, name):
                lifted = any(removes(states, other, guard) for other in got.target)
                assert lifted, told(states, active, kind, called, dropped, got, f"{name} passed the guard of {guard}")


def law_option(states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /) -> None:
    """A call that is accepted with every `add` and `auto` erased from the schema is accepted with them."""
    if not called:
        return

    def bare(given: StateForm) -> StateForm:
        form = given.copy()
        form.pop("add", None)
        form.pop("auto", None)
        return form

    if decide({name: bare(given) for name, given in states.items()}, active, kind, called, dropped).accepted:
        got = decide(states, active, kind, called, dropped)
        assert got.accepted, told(states, active, kind, called, dropped, got, "accepted only without options")


def law_latched_states_never_leave(
    states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide, /
) -> None:
    """Latched states never leave before closing."""
    got = decide(states, active, kind, called, dropped)
    lost = [name for name in active - got.target if is_latch(states, name)]
    assert not lost, told(states, active, kind, called, dropped, got, f"latched {lost} left")


LAWS: tuple[Law, ...] = (
    law_the_target_breaks_no_relation,
    law_called_in_dropped_out,
    law_canceled_changes_nothing,
    law_every_gain_is_founded,
    law_every_loss_has_a_cause,
    law_no_order_matters,
    law_declaration_order_decides_only_ties,
    law_repetition,
    law_adding_what_is_active_moves_no_tick,
    law_a_remove_activates_nothing,
    law_guard,
    law_option,
    law_latched_states_never_leave,
)


def check_laws(states: States, active: Names, kind: Kind, called: Names, dropped: Names, decide: Decide) -> None:
    """Every law, on one mutation."""
    for law in LAWS:
        law(states, active, kind, called, dropped, decide)
