"""Why a state does not come, or does not stay: the reasons of DESIGN section 4, told in sentences, on demand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal, TypeAlias

import attrs

from trsm._core._bits import gather, members, union
from trsm._core._consensus import Kind, Request, Verdict, decide
from trsm._core._errors import listed
from trsm._core._relations import Relations

ReasonKind: TypeAlias = Literal[
    "refused by", "latched", "excluded by", "removed by", "requires", "nothing brings it", "would remove"
]


@attrs.frozen
class Reason:
    """The first thing that is true of a state that is not in the target."""

    state: str
    """The name of the state that does not come, or does not stay."""
    kind: ReasonKind
    by: str | None = None
    """The name of the other state; for ``refused by`` the handler's name; None where the kind needs none."""


@attrs.frozen
class Explanation:
    """What a mutation would do now and why: true if it would be executed, and a text in sentences.

    Attributes:
      accepted: whether the mutation would be executed.
      reasons: one for each state that was asked for or implied and would not come, or would not stay, in declaration
        order. States that are only removed because they were asked to go have none.
      text: in sentences, down to the root causes; what ``str()`` gives. Of a mutation that would be executed it tells
        all reasons, of one that would not those that make it fail: who else would not have come is in `reasons`.
    """

    accepted: bool
    reasons: tuple[Reason, ...]
    text: str

    def __bool__(self) -> bool:
        return self.accepted

    def __str__(self) -> str:
        return self.text


class Explainer:
    """Finds and tells the reasons of one mutation."""

    def __init__(
        self, relations: Relations, active: int, request: Request, refused: Mapping[int, str] | None = None
    ) -> None:
        self.relations = relations
        self.active = active
        self.request = request
        self.refused: Mapping[int, str] = {} if refused is None else refused
        """State -> the handler that refused it."""
        self.verdict: Verdict = decide(relations, active, request)
        self.found = self.verdict.found

    # ---- Finding ----------------------------------------------------------------------------------------------------

    def _bringing(self) -> int:
        """Return the states that are in and fire their ``add``."""
        again = self.relations.multi & self.verdict.called
        return self.found & (~self.active | again)

    def _why(self, state: int, skipping: tuple[ReasonKind, ...] = ()) -> tuple[ReasonKind, int] | None:
        """Return the first kind, of those not skipped, that is true of a state, and all states that it is true of."""
        relations, verdict, found = self.relations, self.verdict, self.found
        bit = 1 << state
        if state in self.refused:
            return "refused by", 0
        kind = self.request.kind
        dropped = 0 if kind is Kind.AUTO or kind is Kind.ERROR else self.request.dropped
        if dropped & bit:
            return ("latched", 0) if self.active & relations.latch & bit else None
        others = relations.excludes[state] & verdict.called & ~bit
        if verdict.called & bit and others:
            return "excluded by", others
        others = relations.removed_by[state] & (found | verdict.standing)
        if others:
            return "removed by", others
        missing = relations.require[state] & ~found
        if missing and "requires" not in skipping:
            return "requires", missing
        own = relations.auto if kind is Kind.AUTO else self.request.seeds
        is_brought = own & bit or relations.added_by[state] & self._bringing()
        if verdict.options & bit and not is_brought and "nothing brings it" not in skipping:
            return "nothing brings it", 0
        others = relations.remove[state] & found
        return ("would remove", others) if others else None

    def reason(self, state: int, skipping: tuple[ReasonKind, ...] = ()) -> Reason | None:
        """Return the first reason, of the kinds that are not skipped, that is true of a state; None if there is none.

        Then it is in, or it was asked to go.
        """
        why = self._why(state, skipping)
        if why is None:
            return None
        kind, others = why
        by = self.refused[state] if kind == "refused by" else None
        if others:
            by = self.relations.names[self._nearest(others)] if kind == "requires" else self._first(others)
        return Reason(self.relations.names[state], kind, by)

    def _waits_for(self, state: int) -> int:
        """Return what a state lacks, so that it does not come: a requirement, or one that brings it."""
        candidates = self.verdict.called | self.verdict.incumbents | self.verdict.options
        why = self._why(state) if candidates & ~self.found & 1 << state else None
        if why is None or why[0] not in ("requires", "nothing brings it"):
            return 0
        return why[1] or self.relations.added_by[state] & ~self.found & self.verdict.options

    @cached_property
    def _depths(self) -> dict[int, int]:
        """State -> over how many others it waits for a root cause; those that only wait for each other have none."""
        waiting = {state: self._waits_for(state) for state in range(len(self.relations.names))}
        depths = {state: 0 for state, others in waiting.items() if not others}
        depth = 0
        while len(depths) < len(waiting):
            depth += 1
            near = [s for s, others in waiting.items() if s not in depths and any(o in depths for o in members(others))]
            if not near:
                break
            depths.update(dict.fromkeys(near, depth))
        return depths

    def _nearest(self, mask: int) -> int:
        """Return the state from which a root cause is nearest, the first in declaration order of several."""
        return min(members(mask), key=lambda state: self._depths.get(state, len(self.relations.names)))

    def _first(self, mask: int) -> str:
        return self.relations.names[next(members(mask))]

    def reasons(self) -> tuple[Reason, ...]:
        """Return the reasons of all states that have to have one, in declaration order."""
        verdict = self.verdict
        asked = (verdict.called | verdict.incumbents | verdict.options) & ~self.found
        for state in self.refused:
            asked |= 1 << state
        if not verdict.accepted:
            asked |= verdict.called | self.request.dropped
        found = (self.reason(state) for state in members(asked))
        return tuple(reason for reason in found if reason is not None)

    # ---- Telling ----------------------------------------------------------------------------------------------------

    def _verb(self, state: int) -> str:
        if not self.active >> state & 1:
            return "cannot activate"
        is_dropped = self.request.dropped >> state & 1 and self.request.kind not in (Kind.AUTO, Kind.ERROR)
        return "cannot leave" if is_dropped else "cannot stay"

    def _standing_of(self, state: int) -> str:
        """Return why a state that puts another one out is there, or still stands."""
        name = self.relations.names[state]
        if self.verdict.called >> state & 1:
            return f"{name} is called"
        if self.verdict.incumbents >> state & 1:
            if self.found >> state & 1:
                how = (
                    "it is latched" if self.relations.latch >> state & 1 else f"nothing in this mutation removes {name}"
                )
                return f"{name} stays, because {how}"
            return f"{name} was active, and nothing in this mutation removes it directly"
        bringers = self.relations.added_by[state] & self._bringing()
        return f"{name} comes with {self._first(bringers)}" if bringers else f"{name} comes by itself"

    def _preference_for(self, state: int) -> str:
        """Return why a state that an option removes stands above that option."""
        relations, called = self.relations, self.verdict.called
        required, frontier = 0, called
        while frontier:
            frontier = gather(relations.require, frontier) & ~required
            required |= frontier
        is_latched = (relations.latch & self.verdict.incumbents) >> state & 1
        if (required & ~called) >> state & 1 and not is_latched:
            return f"{relations.names[state]} is required by what is called"
        return self._standing_of(state)

    def sentence(self, state: int, told: set[int], path: tuple[int, ...] = ()) -> str:
        """Return why a state does not come, and then why that is so, until there is nothing more to ask.

        `told` collects all that was said, over several sentences; `path` is what led here in this one.
        """
        reason = self.reason(state)
        assert reason is not None  # asked of states that are lost, and not because they were asked to go
        return self._tell(state, reason, told, path)

    def _tell(self, state: int, reason: Reason, told: set[int], path: tuple[int, ...]) -> str:
        told.add(state)
        path = (*path, state)
        names = self.relations.names
        start = f"{reason.state} {self._verb(state)}:"
        number = names.index(reason.by) if reason.by in names else -1
        match reason.kind:
            case "latched":
                return f"{start} it is latched, and stays until the machine closes"
            case "excluded by":
                if self.relations.remove[number] >> state & 1:
                    return f"{start} {reason.by} is called with it, and removes it"
                return f"{start} {reason.by} is called with it, and {reason.state} removes {reason.by}"
            case "removed by":
                return f"{start} {reason.by} removes it; {self._standing_of(number)}"
            case "would remove":
                return f"{start} it would remove {reason.by}; {self._preference_for(number)}"
            case "nothing brings it":
                return f"{start} nothing that comes brings it{self._not_brought(state, told, path)}"
            case _:  # "requires"
                return f"{start} it requires {reason.by}, {self._missing(number, told, path)}"

    def _not_brought(self, state: int, told: set[int], path: tuple[int, ...]) -> str:
        """Return the end of a sentence: why what would bring a state does not come, if that was not said already."""
        bringers = self.relations.added_by[state] & ~self.found & self.verdict.options
        untold = union(1 << other for other in members(bringers) if other not in told)
        if untold:
            return f"; {self.sentence(self._nearest(untold), told, path)}"
        waiting = [place for place, other in enumerate(path) if bringers >> other & 1]
        return f"; {self._beside(path[waiting[0] :], told)}" if waiting else ""

    def _missing(self, state: int, told: set[int], path: tuple[int, ...]) -> str:
        """Return the end of a sentence: why a required state is not there."""
        name = self.relations.names[state]
        candidates = self.verdict.called | self.verdict.incumbents | self.verdict.options
        if state in path:
            return f"which waits for it in turn; {self._beside(path[path.index(state) :], told)}"
        if candidates >> state & 1 and self.reason(state) is not None:
            why = ", as was said" if state in told else f"; {self.sentence(state, told, path)}"
            return f"which is not there{why}"
        if self.active >> state & 1:
            return (
                "which this mutation removes"
                if self.request.kind is not Kind.SET
                else "which this mutation does not set"
            )
        return f"which is inactive, and nothing in this mutation activates {name}"

    def _beside(self, circle: tuple[int, ...], told: set[int]) -> str:
        """Return why states that wait for each other do not come together: what is true of one beside its waiting.

        Where there is no such thing, two of them exclude each other, or one was left out to decide between others.
        """
        reached, frontier = list(circle), list(circle)
        while frontier:
            waited = union(self._waits_for(state) for state in frontier)
            frontier = [state for state in members(waited) if state not in reached]
            reached += frontier
        kinds: tuple[tuple[ReasonKind, ...], ...] = (("requires", "nothing brings it"), ("requires",))
        for skipping in kinds:
            for state in reached:
                first, reason = self.reason(state), self.reason(state, skipping)
                if reason is not None and reason != first:
                    return self._tell(state, reason, told, ())
        together = union(1 << state for state in reached)
        for state in reached:
            others = self.relations.remove[state] & together
            if others:
                return f"{self.relations.names[state]} removes {self._first(others)}, so that they never are together"
        return "where exclusions go round in a circle, what comes last in standing is left out"

    def explain(self, refusal: str | None = None) -> Explanation:
        """Return the explanation; `refusal` says what in negotiation canceled a mutation that the relations allow."""
        verdict, relations = self.verdict, self.relations
        accepted = verdict.accepted and refusal is None
        reasons = self.reasons()
        lines: list[str] = []
        if not accepted:
            what = describe(relations, self.request)
            lines.append(f"{what} is refused{f': {refusal}' if refusal else ''}.")
        else:
            again = self.active & self.found & relations.multi & verdict.called
            changes = [
                f"{listed(relations.named(mask))} {verb}{'' if mask.bit_count() > 1 else 's'}{end}"
                for mask, verb, end in (
                    (self.found & ~self.active, "activate", ""),
                    (again, "run", " again"),
                    (self.active & ~self.found, "leave", ""),
                )
                if mask
            ]
            lines.append(f"{describe(relations, self.request)}: {'; '.join(changes) or 'nothing changes'}.")
        told: set[int] = set()
        for reason in reasons:
            state = relations.names.index(reason.state)
            # Nothing comes of what is refused: there, only who fails is told, and why. A handler was named above.
            if state not in told and (accepted or verdict.failed >> state & 1):
                lines.append(f"{self.sentence(state, told)}.")
        return Explanation(accepted, reasons, "\n".join(lines))


def describe(relations: Relations, request: Request) -> str:
    """Return a mutation as a user would write it, with the states in declaration order."""
    called = ", ".join(relations.named(request.called))
    dropped = ", ".join(relations.named(request.dropped))
    match request.kind:
        case Kind.ADD | Kind.SET:
            return f"{request.kind.name.lower()}({called})"
        case Kind.REMOVE | Kind.REMOVAL:
            return f"remove({dropped})"
        case Kind.MUTATE:
            return f"mutate(add=({called}), remove=({dropped}))"
        case Kind.AUTO:
            return "the automatic round"
        case Kind.ERROR:
            return f"the error mutation of {listed(relations.named(request.called | request.seeds))}"
        case _:
            return request.kind.name.lower()
