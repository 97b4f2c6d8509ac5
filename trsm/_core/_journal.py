"""The journal: what a machine has executed, in order, from which its clocks are worked out when somebody reads them.

A mutation that nobody observes writes its plan here, and that is all that it costs. Ticks, and which transition began
an instance, follow from what is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from weakref import ReferenceType

from trsm._core._plan import Plan
from trsm._core._schema import Definition
from trsm._core._source import Source

PAGE = 256
"""How many entries a page of the journal has room for, and more if there are more states: so a new page costs next to
nothing for each entry, and no vector of ticks is far from one that is known."""
_FEW = 4


class Journal:
    """A page: what was executed since a known vector of ticks. A machine starts the next one when this is full.

    A transition holds the page that it is written on, and finds the ticks around it there.
    """

    __slots__ = ("_known", "_machine_id", "base", "definition", "machine", "plans", "size", "sources", "tick")

    def __init__(
        self,
        definition: Definition,
        machine: ReferenceType[object],
        machine_id: str | int,
        base: tuple[int, ...],
        tick: int,
    ) -> None:
        self.definition = definition
        """The schema that its plans are of."""
        self.machine = machine
        self._machine_id = machine_id
        self.base = base
        """The ticks before the first entry."""
        self.tick = tick
        """The machine's own tick before the first entry: how many transitions it had executed."""
        self.plans: list[Plan] = []
        self.sources: dict[int, Source] | None = None
        """Entry -> who made it, where nobody kept a transition that knows it."""
        self.size = PAGE if len(base) <= PAGE else len(base)
        self._known: tuple[int, tuple[int, ...]] | None = None
        """How many entries were counted last, and the ticks after them: who reads in order counts each entry once."""

    @property
    def machine_id(self) -> str:
        """What names the machine, also when it is gone."""
        id = self._machine_id
        return id if isinstance(id, str) else f"{self.definition.name}-{id}"

    def note(self, source: Source) -> None:
        """Note who made what is written next."""
        if self.sources is None:
            self.sources = {}
        self.sources[len(self.plans)] = source

    def at(self, position: int, last: Plan | None = None) -> tuple[int, ...]:
        """Return the ticks after the first `position` entries, and then after `last`."""
        start, ticks = self._known or (0, self.base)
        if start > position:
            start, ticks = 0, self.base
        values = list(ticks)
        if start < position:
            count(values, self.plans[start:position])
            self._known = position, tuple(values)
        if last is not None:
            count(values, (last,))
        return tuple(values)


def count(values: list[int], plans: Sequence[Plan]) -> None:
    """Move a vector of ticks on by what these plans move."""
    # In a long stretch plans come again and again.
    often: Iterable[tuple[Plan, int]] = Counter(plans).items() if len(plans) > _FEW else zip(plans, repeat(1))
    for plan, times in often:
        for state in plan.flips:
            values[state] += times
        for state in plan.repeats:
            values[state] += 2 * times
