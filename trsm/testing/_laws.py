"""The laws that every machine keeps, checked from outside: a tracer that looks at each transition."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import attrs

from trsm import Machine, Observed, Result, Schema, State, Ticks, Tracer, Transition

AnyState = State[..., object]


@attrs.frozen
class Related:
    """The states that a state needs, and those that it cannot stand beside."""

    require: tuple[AnyState, ...]
    remove: tuple[AnyState, ...]


@functools.lru_cache(maxsize=256)
def relations(schema: type[Schema]) -> dict[AnyState, Related]:
    """Return what each state of a schema needs and removes."""
    found = {state: schema.relations_of(state) for state in schema}
    return {state: Related(one.require, one.remove) for state, one in found.items()}


def broken(schema: type[Schema], ticks: Ticks) -> list[str]:
    """Return which relations a set of active states breaks, in sentences."""
    active = set(ticks.active_states)
    table = relations(schema)
    return [
        *(
            f"{state} is active without {needed}, which it requires"
            for state in ticks.active_states
            for needed in table[state].require
            if needed not in active
        ),
        *(
            f"{state} is active beside {other}, which it removes"
            for state in ticks.active_states
            for other in table[state].remove
            if other in active
        ),
    ]


class Laws(Tracer):
    """Checks every transition of the machines that it is attached to, and keeps what was broken, in sentences.

    It never raises: a tracer that raises is taken off, and says so in the log only.
    """

    def __init__(self) -> None:
        self.machines: list[Observed] = []
        """Who opened, in order."""
        self.violations: list[str] = []
        self.transitions = 0
        """How many transitions were seen, canceled ones included."""
        self._last: dict[int, Ticks] = {}
        """Machine, by `id`, which `machines` keeps alive -> its ticks when it was last looked at."""

    def forget(self) -> None:
        """Forget machines that have ended, of which nothing is to be said any more."""
        self.machines.clear()
        self._last.clear()

    def _expect(self, condition: object, machine: Observed, transition: Transition | None, words: str) -> None:
        if not condition:
            at = "" if transition is None else f", {transition!r}"
            self.violations.append(f"machine {machine.id!r}{at}: {words}")

    def machine_opened(self, machine: Observed) -> None:
        """Take note of it."""
        if id(machine) not in self._last:
            self.machines.append(machine)
        self._last[id(machine)] = machine.ticks

    def schema_changed(self, machine: Observed, before: type[Schema]) -> None:
        """Go on with the ticks of the new schema."""
        self._last[id(machine)] = machine.ticks

    def committed(self, machine: Observed, transition: Transition) -> None:
        """Check a transition as its first observer sees it."""
        before, after = self._last[id(machine)], machine.ticks
        self._last[id(machine)] = after
        self._expect(transition.before == before, machine, transition, "ticks had moved before it, by no transition")
        self._expect(transition.after == after, machine, transition, f"it left {after!r}, not {transition.after!r}")
        for words in broken(machine.schema, after):
            self._expect(False, machine, transition, words)
        self._check_ticks(machine, transition, before, after)
        if transition.kind in ("add", "set", "mutate", "remove"):
            for state in transition.called:
                self._expect(after.is_active(state), machine, transition, f"{state} was called, and is not active")
            for state in transition.dropped if transition.kind != "set" else ():
                self._expect(not after.is_active(state), machine, transition, f"{state} was dropped, and is active")

    def _check_ticks(self, machine: Observed, transition: Transition, before: Ticks, after: Ticks) -> None:
        for state in after.since(before):
            was, now = before[state], after[state]
            self._expect(now > was, machine, transition, f"the tick of {state} went back from {was} to {now}")
            if now - was > 1:
                self._expect(
                    now - was == 2 and state.multi and was % 2,
                    machine,
                    transition,
                    f"the tick of {state} went from {was} to {now} at once",
                )
            self._expect(
                now % 2 or not state.latch or transition.kind == "close",
                machine,
                transition,
                f"{state}, which is latched, left before closing",
            )

    def transition_ended(self, machine: Observed, transition: Transition, result: Result) -> None:
        """Check that what was canceled has moved nothing."""
        self.transitions += 1
        if result.canceled:
            moved = machine.ticks.since(self._last[id(machine)])
            names = ", ".join(map(str, moved))
            self._expect(not moved, machine, transition, f"it was canceled, and yet moved {names}")

    def settled(self, machine: Observed) -> None:
        """Check that nothing waits, and that no tick has moved since the last transition."""
        self._expect(machine.ticks == self._last[id(machine)], machine, None, "ticks have moved by no transition")
        if isinstance(machine, Machine):
            self._expect(not machine.in_use.queued, machine, None, "it has settled, and yet mutations wait")

    def left_over(self) -> list[str]:
        """Return what machines still hold that should have closed by now."""
        return left_over(self.machines)


def left_over(machines: Iterable[Observed]) -> list[str]:
    """Return what machines still hold that should have closed by now, in sentences."""
    found: list[str] = []
    for machine in machines:
        if not isinstance(machine, Machine):
            continue
        if not machine.closed:
            found.append(f"machine {machine.id!r} was never closed: {machine!r}")
            continue
        if not machine.when_closed().done:
            found.append(f"machine {machine.id!r} has closed, and was never joined")
        if machine.in_use:
            found.append(f"machine {machine.id!r} has closed, and still holds {machine.in_use!r}")
        if machine.active_states:
            names = ", ".join(map(str, machine.active_states))
            found.append(f"machine {machine.id!r} has closed, and {names} still active")
    return found
