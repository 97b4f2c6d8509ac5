"""The consensus: a pure function from (relations, active states, mutation) to a verdict.

Called first, then what is there, then what is optional; a guard holds until something removes it directly; an
option never harms what was called; what is still tied is decided by declaration order.

The rules are those of DESIGN section 4, whose numbers the comments name. The verdict is the well-founded model of
those rules, computed as an alternating fixpoint (A. Van Gelder, *The alternating fixpoint of logic programs with
negation*, 1993), which for a graph of attacks is the grounded extension (P. M. Dung, 1995). Nothing here knows
handlers, clocks, or trio.
"""

from __future__ import annotations

from enum import IntEnum

from trsm._core._bits import gather, members
from trsm._core._records import Record
from trsm._core._relations import Relations


class Kind(IntEnum):
    """What a mutation asks for."""

    ADD = 0
    REMOVE = 1
    SET = 2
    MUTATE = 3
    AUTO = 4
    """The automatic round: nothing is called, every inactive auto state is an option."""
    ERROR = 5
    """The error mutation: like ADD, with the error states that match seeded as options."""
    REMOVAL = 6
    """What a fault brings: like REMOVE, and not negotiated."""
    CLOSE = 7
    """The last mutation of a machine: everything leaves, latched states too."""
    OPEN = 8
    """What the first transition of a machine stands for; nothing is decided."""


KIND_NAMES = tuple(kind.name.lower() for kind in Kind)
"""By their numbers: members of an enumeration are slow to ask for their names in Python 3.11."""


class Request(Record):
    """What a mutation asks for, as sets of states: the part of it that the consensus reads."""

    kind: Kind
    called: int = 0
    dropped: int = 0
    """States that must leave; in the automatic round and the error mutation: states that are barred."""
    seeds: int = 0
    """Error states that an error mutation offers beside what chains of ``add`` reach."""


class Verdict(Record):
    """What the consensus found."""

    accepted: bool
    found: int
    """The set that was found before the called states were judged; the target, if accepted."""
    called: int
    incumbents: int
    options: int
    standing: int
    """Incumbents that nothing in the found set puts out; one that lost its requirement still stands."""
    failed: int
    """Called states that cannot be, and latched states that were to leave: why the mutation is canceled."""


def _levels(relations: Relations, active: int, request: Request, called: int, taken: int) -> list[int]:
    """Return the options level by level: level n is n steps of the shortest chain away, whatever becomes of it."""
    add, multi = relations.add, relations.multi
    if request.kind is Kind.AUTO:
        level = relations.auto & ~taken
    else:
        level = (gather(add, called & (~active | multi)) | request.seeds) & ~taken
    levels: list[int] = []
    while level:
        levels.append(level)
        taken |= level
        level = gather(add, level & ~active) & ~taken
    return levels


def decide(relations: Relations, active: int, request: Request) -> Verdict:
    """Return the verdict on `request` when `active` is active.

    At most (options + 1) × (candidates + 1) passes; when no candidates exclude each other and no requirement is
    missing, which is nearly always, one pass of bit operations over what changes.
    """
    kind, called, dropped = request.kind, request.called, request.dropped
    latch = relations.latch
    if kind is Kind.CLOSE:
        return Verdict(True, 0, 0, 0, 0, 0, 0)
    if kind is Kind.SET:
        incumbents = active & latch & ~called
        dropped = 0
    elif kind is Kind.AUTO or kind is Kind.ERROR:
        incumbents = active & ~called
    else:
        incumbents = active & ~called & ~dropped
    held = 0 if kind is Kind.AUTO or kind is Kind.ERROR else active & dropped & latch
    levels = _levels(relations, active, request, called, called | incumbents | dropped)
    options = 0
    for level in levels:
        options |= level
    candidates = called | incumbents | options

    # Nearly always: everything fits.
    require, excludes = relations.require, relations.excludes
    for index in members(candidates & ~active):
        if require[index] & ~candidates or excludes[index] & candidates:
            break
    else:
        if not gather(relations.required_by, active & ~candidates) & candidates:
            return Verdict(not held, candidates, called, incumbents, options, incumbents, held)

    return _Contest(relations, active, request, called, incumbents, levels, options).verdict(held)


class _Contest:
    """One mutation whose candidates exclude each other, or whose requirements are not all met."""

    def __init__(
        self,
        relations: Relations,
        active: int,
        request: Request,
        called: int,
        incumbents: int,
        levels: list[int],
        options: int,
    ) -> None:
        self.relations = relations
        self.active = active
        self.called = called
        self.incumbents = incumbents
        self.options = options
        self.ranking = [index for level in levels for index in members(level)]
        """Options by standing, the highest first."""
        self.firing = called & (~active | relations.multi)
        self.roots = (relations.auto if request.kind is Kind.AUTO else request.seeds) & options
        self.beaten = gather(relations.remove, called) & incumbents & ~relations.latch
        """Incumbents that a called state puts out."""
        self.lost = 0
        """Options that a called state puts out."""
        self.hits: dict[int, int] = {}
        """State -> the options that put it out, if they are in."""
        self.guards: dict[int, int] = {}
        """Option -> the incumbents that put it out, while they stand."""
        self._tabulate()

    def _tabulate(self) -> None:
        """Apply the table "who puts out whom" to every option that excludes another candidate."""
        relations, called, incumbents = self.relations, self.called, self.incumbents
        remove, excludes, latch = relations.remove, relations.excludes, relations.latch
        required = self._required()
        candidates = called | incumbents | self.options
        place = {index: number for number, index in enumerate(self.ranking)}
        for option in self.ranking:
            bit = 1 << option
            rivals = excludes[option] & candidates
            if not rivals:
                continue
            if rivals & called:
                self.lost |= bit
                continue
            needed = required & bit
            for rival in members(rivals & incumbents):
                other = 1 << rival
                if other & latch or (other & required and not needed) or remove[rival] & bit:
                    self.guards[option] = self.guards.get(option, 0) | other
                else:
                    self.hits[rival] = self.hits.get(rival, 0) | bit
            for rival in members(rivals & self.options):
                other = 1 << rival
                if bool(other & required) != bool(needed):
                    out = bool(other & required)
                elif remove[rival] & bit:
                    out = not remove[option] & other or place[rival] < place[option]
                else:
                    out = False
                if out:
                    self.hits[option] = self.hits.get(option, 0) | other

    def _required(self) -> int:
        """Return all that the called states require, directly or through requirements of requirements."""
        require = self.relations.require
        required = 0
        frontier = gather(require, self.called)
        while frontier:
            required |= frontier
            frontier = gather(require, frontier) & ~required
        return required & ~self.called

    def _stands(self, incumbent: int, held: int) -> bool:
        return not (self.beaten >> incumbent & 1 or self.hits.get(incumbent, 0) & held)

    def _standing(self, held: int) -> int:
        standing = self.incumbents & ~self.beaten
        for index, options in self.hits.items():
            if options & held:
                standing &= ~(1 << index)
        return standing

    def _founded(self, held: int) -> int:
        """Return the options in `held` that a chain of ``add`` through `held` leads to (rule 2)."""
        add, active, options = self.relations.add, self.active, self.options
        founded = self.roots & held
        fresh = (founded | gather(add, self.firing)) & options & held
        founded = 0
        while fresh:
            founded |= fresh
            fresh = gather(add, fresh & ~active) & options & held & ~founded
        return founded

    def _pass(self, candidates: int, assumed: int) -> int:
        """Return the largest set that rules 1 to 4 leave, if just `assumed` is taken to put others out (rule 3)."""
        relations, called, options = self.relations, self.called, self.options
        require = relations.require
        held = candidates & ~self.beaten & ~self.lost
        for index, by in self.hits.items():
            if by & assumed:
                held &= ~(1 << index)
        held |= called
        before = -1
        while held != before:
            before = held
            for index in members(held & options):
                if require[index] & ~held:
                    held ^= 1 << index
            gone = self.active & ~held
            while gone:
                gone = gather(relations.required_by, gone) & held & ~called
                held &= ~gone
            held &= ~options | self._founded(held)
            for option, by in self.guards.items():
                if held >> option & 1 and any(self._stands(index, held) for index in members(by)):
                    held ^= 1 << option
        return held

    def _model(self, candidates: int) -> tuple[int, int]:
        """Return what is certainly in and what is possibly in, as an alternating fixpoint."""
        certain, possible = 0, self._pass(candidates, 0)
        if not self.hits:
            return possible, possible
        while True:
            surer = self._pass(candidates, possible)
            if surer == certain:
                return certain, possible
            certain = surer
            narrower = self._pass(candidates, certain)
            if narrower == possible:
                return certain, possible
            possible = narrower

    def _fits(self, option: int, held: int) -> bool:
        relations = self.relations
        bit = 1 << option
        return (
            not relations.require[option] & ~held
            and not relations.excludes[option] & held
            and not relations.removed_by[option] & self._standing(held)
            and bool(self._founded(held | bit) & bit)
        )

    def _find(self) -> int:
        candidates = self.called | self.incumbents | self.options
        while True:
            held, possible = self._model(candidates)
            undecided = possible & ~held & self.options
            if not undecided:
                break
            # What is undecided goes round in a circle of exclusions: the option of lowest standing is left out.
            candidates &= ~(1 << next(index for index in reversed(self.ranking) if undecided >> index & 1))
        # What fits after all comes in, the highest standing first.
        while True:
            for option in self.ranking:
                if not held >> option & 1 and self._fits(option, held):
                    held |= 1 << option
                    break
            else:
                return held

    def verdict(self, failed: int) -> Verdict:
        """Judge the called states, last of all, against what was found."""
        relations = self.relations
        held = self._find()
        standing = self._standing(held)
        for index in members(self.called):
            bit = 1 << index
            if (
                relations.excludes[index] & self.called
                or relations.removed_by[index] & standing
                or relations.excludes[index] & self.incumbents & relations.latch
                or relations.require[index] & ~held
            ):
                failed |= bit
        return Verdict(not failed, held, self.called, self.incumbents, self.options, standing, failed)
