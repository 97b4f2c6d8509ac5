"""What in a schema can hardly be meant: found in the whole graph of what its relations allow.

Every finding is exact about that graph, and has the shortest mutation path that shows it. What each means is said in
`check`; `docs/checking.md` shows them one by one.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Literal, get_args

import attrs

from trsm import Consensus, Engine, Schema, State
from trsm.testing._exploring import (
    LIMIT,
    NOWHERE,
    AnyState,
    Graph,
    Path,
    Progress,
    closure,
    explored,
    members,
)
from trsm.testing._mutations import Mutation

FindingKind = Literal["contradictory-requires", "never-active", "never-leaves", "auto-tie", "dead-end", "unstable-auto"]
_WRAPPER = functools.partial(textwrap.TextWrapper, width=100, break_long_words=False, break_on_hyphens=False)
Severity = Literal["error", "warning"]


@attrs.frozen(repr=False)
class Finding:
    """Something in a schema that can hardly be meant; one of what `check` returns."""

    kind: FindingKind
    severity: Severity
    """``"error"``: something can never do what it is declared for. ``"warning"``: it works, perhaps not as meant."""
    states: tuple[AnyState, ...]
    """The states that it is about, the first above all; none if nothing goes on from the start."""
    what: str
    """What is so, in a sentence."""
    why: str
    """Why it is so."""
    instead: str
    """What to write instead."""
    path: Path
    """The shortest mutation path that shows it; its last mutation may be one that is refused."""

    def __str__(self) -> str:
        is_refused = self.severity == "error" and self.kind in ("contradictory-requires", "never-active")
        end = "of which the last is refused, with" if is_refused else "which leads to"
        lines = (
            ("", f"{self.severity}: {self.what} [{self.kind}]"),
            ("  why:     ", self.why),
            ("  instead: ", self.instead),
            ("  path:    ", f"{self.path}, {end} {_set(self.path.active)}"),
        )
        return "\n".join(_WRAPPER(subsequent_indent=" " * 11, initial_indent=head).fill(text) for head, text in lines)

    def __repr__(self) -> str:
        return f"<Finding {self.kind}: {self.what}>"

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data, ready for JSON: the states by name, the path as method calls."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "states": [str(state) for state in self.states],
            "what": self.what,
            "why": self.why,
            "instead": self.instead,
            "path": [repr(mutation) for mutation in self.path],
            "active": [str(state) for state in self.path.active],
        }


@attrs.frozen(repr=False)
class Findings:
    """What `check` returns: it iterates over what was found, errors first, and is true if there is anything."""

    KINDS: ClassVar[tuple[FindingKind, ...]] = get_args(FindingKind)
    """All kinds of findings."""
    schema: type[Schema]
    sets: int
    """How many sets of states are reachable; all were looked at."""
    limit: int
    """How many would have been."""
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def of(self, kind: FindingKind) -> tuple[Finding, ...]:
        """Return those of one kind.

        Raises:
          ValueError: there is no such kind.
        """
        if kind not in self.KINDS:
            raise ValueError(f"of({kind!r}): there is no such kind: write one of {', '.join(map(repr, self.KINDS))}")
        return tuple(one for one in self.findings if one.kind == kind)

    def without(self, is_known: Callable[[Finding], bool]) -> Findings:
        """Return the same without those that a function says are known, and meant.

        Raises:
          TypeError: it is no function.
        """
        if not callable(is_known):
            raise TypeError(f"without({is_known!r}): pass a function: without(lambda one: one.kind == 'auto-tie')")
        return attrs.evolve(self, findings=tuple(one for one in self.findings if not is_known(one)))

    def __str__(self) -> str:
        errors = sum(one.severity == "error" for one in self.findings)
        counts = [_count(errors, "error"), _count(len(self) - errors, "warning")]
        found = " and ".join(one for one in counts if not one.startswith("0 ")) or "nothing found"
        head = f"{self.schema.__name__}: {found}; {_count(self.sets, 'reachable set')} of states, all looked at"
        return "\n\n".join((head, *map(str, self.findings)))

    def __repr__(self) -> str:
        return f"<Findings in {self.schema.__name__}: {', '.join(one.kind for one in self.findings) or 'none'}>"

    def to_dict(self) -> dict[str, object]:
        """Return them as plain data, ready for JSON."""
        return {
            "schema": self.schema.__name__,
            "sets": self.sets,
            "limit": self.limit,
            "findings": [one.to_dict() for one in self.findings],
        }


def check(
    schema: type[Schema],
    *,
    limit: int = LIMIT,
    without: Iterable[AnyState] = (),
    progress: Progress | None = None,
) -> Findings:
    """Look for what can hardly be meant in everything that the relations of a schema allow.

    All reachable sets are looked at, as `explore` finds them: by adding and removing one state at a time, each time
    followed by the automatic round. Handlers are no part of it. What is looked for:

    ``contradictory-requires`` (error)
      A state requires, directly or through what it requires, two states of which one removes the other, or one that
      removes it or that it removes. Whatever is called, it never comes.
    ``never-active`` (error, or warning)
      A state is in no reachable set, for another reason than that. A warning if it does come, and every time the
      automatic round that follows takes it away.
    ``never-leaves`` (warning)
      There is a reachable set from which every path keeps a state that is not latched: the automatic round brings it
      back in the same step, whenever it is removed.
    ``auto-tie`` (warning)
      In an automatic round that can happen, a state stays out that would come if it were declared before all others:
      nothing but the order of declaration decides. Told once for each state that comes in place of others, with the
      path that shows it.
    ``dead-end`` (error)
      In a reachable set no mutation has any effect that lasts: whatever is added is refused, whatever is removed comes
      back, and no active multi state can be called again. Errors that may come are no way out. A set of latched states
      alone is none: it is an outcome. Told once, of the set with the shortest path, with the number of the others.
    ``unstable-auto`` (warning)
      After a mutation and its automatic round, a second automatic round would change something, so that what is active
      changes with the next mutation, whichever that is. Told once for each change.

    States that only fail since they require one that fails are named with that one. States in ``without`` are not
    looked at themselves, nor is what never comes because it requires one. They still come where an automatic round or a
    relation brings them, so that one may be told as what comes in place of another.

    Args:
      schema, limit, without, progress: as for `explore`.

    Raises:
      TooManySets, TypeError, ValueError, UnknownState, MutationError: as `explore`.

    Example::

        def test_door_is_sound() -> None:
            findings = trsm.testing.check(Door)
            assert not findings, str(findings)
    """
    return _Checker(explored("check", schema, limit, without, progress)).findings()


# ---- Words ----------------------------------------------------------------------------------------------------------


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _listed(names: Iterable[object], link: str = "and") -> str:
    *front, last = map(str, names)
    return f"{', '.join(front)} {link} {last}" if front else last


def _verb(states: Iterable[object], one: str, several: str) -> str:
    return several if len(list(states)) > 1 else one


def _set(states: Iterable[object]) -> str:
    names = " ".join(map(str, states))
    return f"({names})" if names else "nothing active"


def _first(mask: int) -> int:
    return next(members(mask))


# ---- A schema of another order --------------------------------------------------------------------------------------


def _reordered(schema: type[Schema], first: AnyState | None = None) -> type[Schema]:
    """Return a schema of the same relations, maybe with a state declared before all others; arguments are left out."""
    members: dict[str, AnyState] = {}
    *states, error = schema.states
    for state in states if first is None else (first, *(one for one in states if one is not first)):
        relations = schema.relations_of(state)
        members[state.name] = State(
            require=_names(relations.require),
            add=_names(relations.add),
            remove=_names(relations.remove),
            auto=state.auto,
            multi=state.multi,
            latch=state.latch,
        )
    relations = schema.relations_of(error)
    members["Error"] = Schema.Error.extend(add=_names(relations.add), remove=_names(relations.remove))
    return Schema.define(schema.__name__, members)


def _names(states: Iterable[AnyState]) -> tuple[str, ...]:
    return tuple(map(str, states))


# ---- Checking -------------------------------------------------------------------------------------------------------


class _Checker:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.consensus = graph.consensus
        self.schema = graph.schema
        self.tables = graph.tables
        self.states = graph.tables.states
        self.judged = self.tables.all & ~graph.without & ~(1 << len(self.states) - 1)
        """States that are looked at themselves."""
        self.never = self.tables.all & ~(1 << len(self.states) - 1)
        """States that are in no reachable set."""
        for one in graph.sets:
            self.never &= ~one
        self.contradictory = sum(
            1 << number for number, needs in enumerate(self.tables.needs) if self.conflict(needs) is not None
        )

    def findings(self) -> Findings:
        """Look for everything; errors come first."""
        found = [
            *self.contradictions(),
            *self.never_active(),
            *self.dead_ends(),
            *self.never_leaving(),
            *self.ties(),
            *self.unstable(),
        ]
        found.sort(key=lambda one: one.severity == "warning")
        return Findings(self.schema, len(self.graph.sets), self.graph.limit, tuple(found))

    def named(self, mask: int) -> tuple[AnyState, ...]:
        return self.consensus.states_of(mask)

    def finding(
        self,
        kind: FindingKind,
        severity: Severity,
        states: tuple[int, int],
        what: str,
        why: str,
        instead: str,
        path: Path,
    ) -> Finding:
        first, others = states
        return Finding(kind, severity, (*self.named(first), *self.named(others)), what, why, instead, path)

    # ---- What never comes -------------------------------------------------------------------------------------------

    def conflict(self, needs: int) -> tuple[int, int] | None:
        """Return two states of a set of which the first removes the second, those declared first; None if none do."""
        for number in members(needs):
            removed = self.tables.remove[number] & needs
            if removed:
                return number, _first(removed)
        return None

    def roots(self, broken: int) -> Iterator[tuple[int, int]]:
        """Iterate over the circles of broken states that do not require another broken one, with what depends on it."""
        tables = self.tables
        for circle in dict.fromkeys(tables.circles[number] for number in members(broken)):
            if not tables.needs[_first(circle)] & broken & ~circle and circle & self.judged == circle:
                yield circle, closure(tables.required_by, circle) & broken & self.judged & ~circle

    def nor(self, dependents: int) -> str:
        states = self.named(dependents)
        return f"; nor can {_listed(states)}, which {_verb(states, 'requires', 'require')} it" if states else ""

    def nearest(self, circle: int) -> Path:
        """Return the path that comes nearest to states that never come: with most of what they require, then refused.

        Of several such sets it is the first, so that the path is a shortest.
        """
        sets = self.graph.sets
        needed = self.tables.needs[_first(circle)] & ~circle
        node = max(range(len(sets)), key=lambda node: ((sets[node] & needed).bit_count(), -node))
        return self.graph.path(node, Mutation(self.schema, "add", self.named(circle)))

    def contradictions(self) -> Iterator[Finding]:
        for circle, dependents in self.roots(self.contradictory):
            state = _first(circle)
            conflict = self.conflict(self.tables.needs[state])
            assert conflict is not None  # that is what makes it a contradiction
            name, remover, removed = (self.states[number] for number in (state, *conflict))
            others = [number for number in conflict if number != state]
            chains = "; it ".join(self.chain(state, number) for number in others)
            together = ", so that the two are never active together" if len(others) == 2 else ""
            relation = f"remove={removed} of {remover}"
            if (
                removed in self.schema.relations_of(remover).remove
                and remover in self.schema.relations_of(removed).remove
            ):
                relation += f" and remove={remover} of {removed}"
            yield self.finding(
                "contradictory-requires",
                "error",
                (circle, dependents),
                f"{_listed(self.named(circle))} can never be active{self.nor(dependents)}",
                f"{name} {chains}; and {remover} removes {removed}{together}.",
                f"take {_listed((self.states[number] for number in others), 'or')} out of what {name} requires, or "
                f"take away {relation}.",
                self.nearest(circle),
            )

    def chain(self, state: int, needed: int) -> str:
        """Return how a state comes to require another, through the fewest others."""
        came = {state: state}
        queue = [state]
        for number in queue:
            for other in members(self.tables.require[number]):
                if other not in came:
                    came[other] = number
                    queue.append(other)
        way = [needed]
        while came[way[-1]] != state:
            way.append(came[way[-1]])
        return "requires " + ", which requires ".join(str(self.states[number]) for number in reversed(way))

    def never_active(self) -> Iterator[Finding]:
        for circle, dependents in self.roots(self.never & ~self.contradictory):
            state = _first(circle)
            names = self.named(circle)
            passing = self.graph.passings.get(state)
            if passing is None:
                path = self.nearest(circle)
                yield self.finding(
                    "never-active",
                    "error",
                    (circle, dependents),
                    f"{_listed(names)} can never come{self.nor(dependents)}",
                    self.refusal(path),
                    "let it remove what keeps it out, or take it out of the schema: nothing that can be added or "
                    "removed makes room for it.",
                    path,
                )
            else:
                path = self.graph.path_along(*passing)
                how = _verb(
                    names,
                    "comes and never stays: an automatic round takes it away",
                    "come and never stay: an automatic round takes them away",
                )
                yield self.finding(
                    "never-active",
                    "warning",
                    (circle, dependents),
                    f"{_listed(names)} {how}{self.nor(dependents)}",
                    self.taken(state, path),
                    f"let {names[0]} remove what takes it away, or let that require something which is not there then.",
                    path,
                )

    def refusal(self, path: Path) -> str:
        """Return why the last mutation of a path is refused, as a machine explains it."""
        engine = Engine(_reordered(self.schema))  # where no state needs arguments
        *front, last = (
            attrs.evolve(one, states=tuple(engine.schema[str(state)] for state in one.states)) for one in path
        )
        for mutation in front:
            mutation.apply(engine)
        lines = str(engine.explain("add", *last.states)).splitlines()
        return f"even with {_set(engine.active_states)}, which is nearest to it: {' '.join(lines[1:])}"

    def taken(self, state: int, path: Path) -> str:
        """Return what the automatic round at the end of a path did to a state."""
        after = self.consensus.set_of(*path.active)
        name, lost = self.states[state], self.named(self.tables.require[state] & ~after)
        if not self.tables.excludes[state] & after:
            return f"{name} requires {_listed(lost)}, which the automatic round takes away."
        by = self.states[_first(self.tables.excludes[state] & after)]
        how = "it is auto" if by.auto else "an auto state brings it"
        return f"{by} removes {name}, and comes whenever it can, since {how}."

    # ---- What never leaves ------------------------------------------------------------------------------------------

    def never_leaving(self) -> Iterator[Finding]:
        """Find states that stay whatever happens from some set on.

        A removal is refused to latched states only, so that what never leaves is what automatic rounds bring back.
        """
        brought = self.tables.optional & ~self.tables.latch & self.judged
        staying = [active & brought for active in self.graph.sets]
        unsettled = [node for node in reversed(range(len(staying))) if staying[node]]
        changed = True
        while changed:
            # What stays for good in a set stays for good in all that follow it: the greatest solution of that.
            changed = False
            for node in unsettled:
                left = staying[node]
                for target in self.graph.row(node):
                    if target != NOWHERE:
                        left &= staying[target]
                if left != staying[node]:
                    staying[node] = left
                    changed = True
            unsettled = [node for node in unsettled if staying[node]]
        found: dict[int, tuple[int, int, int]] = {}
        """State -> the set to tell: of those with a shortest path the one with the fewest states; and how it ranks."""
        for node in reversed(unsettled):
            rank = self.graph.distances[node], self.graph.sets[node].bit_count(), node
            for state in members(staying[node]):
                found[state] = min(found.get(state, rank), rank)
        for state, (_, _, node) in found.items():
            yield self.stays(node, state)

    def stays(self, node: int, state: int) -> Finding:
        name = self.states[state]
        active = self.graph.sets[node]
        passing = self.consensus.remove(active, 1 << state)
        assert passing is not None  # it is not latched
        return self.finding(
            "never-leaves",
            "warning",
            (1 << state, 0),
            f"{name} can never leave, once {_set(self.named(active))} is reached",
            f"{'it is auto' if name.auto else 'an auto state brings it'}: when it is removed, the automatic round "
            "brings it back in the same step, and nothing that can be added from there keeps it out.",
            f"if it is meant to stay, say so with latch=True; else let {name} require something that ends, or let what "
            "is to end it remove it.",
            self.graph.path(node, Mutation(self.schema, "remove", (name,)), active=self.consensus.automatic(passing)),
        )

    # ---- Where nothing goes on --------------------------------------------------------------------------------------

    def dead_ends(self) -> Iterator[Finding]:
        graph, tables = self.graph, self.tables
        if not tables.all & ~tables.errors:
            return  # it has no states of its own
        is_way = [not one.is_add or bool(one.mask & ~tables.errors) for one in graph.moves]
        dead: list[int] = []
        for node, active in enumerate(graph.sets):
            is_outcome = active and not active & ~tables.latch
            if is_outcome or active & tables.multi & ~tables.errors:
                continue
            targets = (target for move, target in enumerate(graph.row(node)) if is_way[move])
            if all(target in (NOWHERE, node) for target in targets) and not self.leads_out(active):
                dead.append(node)
        if not dead:
            return
        path = graph.path(dead[0])
        active = graph.sets[dead[0]]
        others = "" if len(dead) == 1 else f"; nor in {_count(len(dead) - 1, 'other set')}"
        yield self.finding(
            "dead-end",
            "error",
            (active, 0),
            f"nothing goes on with {_set(path.active)}, whatever is added or removed{others}",
            self.stuck(active),
            "let a state that should come remove what keeps it out, or not require what is not there"
            + ("; latch the states of this set if it is an outcome." if active else "."),
            path,
        )

    def leads_out(self, active: int) -> bool:
        """Return whether a state that was not tried, being in ``without``, would lead to another set."""
        untried = self.graph.without & ~active & ~self.tables.errors
        passings = (self.consensus.add(active, 1 << number) for number in members(untried))
        return any(one is not None and self.consensus.automatic(one) != active for one in passings)

    def stuck(self, active: int) -> str:
        tables, named = self.tables, self.named
        words: list[str] = []
        back, latched = named(active & ~tables.latch), named(active & tables.latch)
        if back:
            words.append(f"{_listed(back)} {_verb(back, 'comes', 'come')} back in the automatic round when removed")
        if latched:
            words.append(f"{_listed(latched)} {_verb(latched, 'is', 'are')} latched")
        for number in members(tables.all & ~active & ~tables.errors):
            missing, guards = named(tables.require[number] & ~active), named(tables.removed_by[number] & active)
            kept = named(tables.remove[number] & active & tables.latch)
            if missing:
                words.append(f"{self.states[number]} requires {_listed(missing)}")
            elif guards:
                words.append(f"{self.states[number]} is removed by {_listed(guards)}")
            elif kept:
                words.append(f"{self.states[number]} would remove {_listed(kept)}")
            else:
                # It is refused, then: an automatic round could only take it away with what removes it.
                words.append(f"{self.states[number]} would take away what it requires")
        return f"{'; '.join(words)}."

    # ---- Automatic rounds -------------------------------------------------------------------------------------------

    def ties(self) -> Iterator[Finding]:
        """Find states that are kept out of an automatic round by the order of declaration alone."""
        graph = self.graph
        options = self.tables.optional
        rivals = [mask & options for mask in self.tables.excludes]
        if not any(rivals[number] for number in members(options)):
            return
        tables = self.tables
        firm = sum(
            1 << number
            for number in range(len(self.states))
            if not tables.removed_by[number] & ~tables.remove[number] & options or tables.latch >> number & 1
        )
        """States that no option puts out in an automatic round: what they exclude cannot come in any order."""
        first = functools.cache(self.declared_first)
        seen: set[int] = set()
        told: dict[int, int] = {}
        """Who came, or `NOWHERE` if no rival did -> who did not, and would have."""
        found: dict[tuple[int, int, int], int] = {}
        """The same for each set and move that shows it first, so that a path shows all that is said of it."""
        for node, move, target in graph.steps():
            passing, after = graph.passing(node, move), graph.sets[target]
            if passing in seen:
                continue
            seen.add(passing)
            came = after & ~passing & options
            for loser in members(options & self.judged & ~after & ~passing):
                if tables.needs[loser] & ~options & ~passing or tables.excludes[loser] & passing & firm:
                    continue  # it cannot come in any order
                winners = tuple(members(rivals[loser] & came)) or (NOWHERE,)
                fresh = [winner for winner in winners if not told.get(winner, 0) >> loser & 1]
                if fresh and first(loser)(passing) >> loser & 1:
                    for winner in fresh:
                        told[winner] = told.get(winner, 0) | 1 << loser
                        found[winner, node, move] = found.get((winner, node, move), 0) | 1 << loser
        for (winner, node, move), losers in found.items():
            path = self.graph.path_along(node, move)
            yield self.tie(winner, losers, path) if winner != NOWHERE else self.lost(losers, path)

    def declared_first(self, state: int) -> Callable[[int], int]:
        """Return what an automatic round leaves where a state is declared before all others."""
        consensus = Consensus(_reordered(self.schema, self.states[state]))
        there = [consensus.set_of(consensus.schema[str(one)]) for one in self.states]
        back = [self.consensus.set_of(self.schema[str(one)]) for one in consensus.schema]

        def automatic(passing: int) -> int:
            after = consensus.automatic(sum(there[number] for number in members(passing)))
            return sum(back[number] for number in members(after))

        return automatic

    def tie(self, winner: int, losers: int, path: Path) -> Finding:
        name, others, left_out = self.states[winner], self.named(losers), self.graph.without >> winner & 1
        return self.finding(
            "auto-tie",
            "warning",
            (1 << winner, losers),
            f"only the order of declaration decides that {name} comes by itself, and not {_listed(others, 'or')}",
            f"after {path.mutations[-1]!r} the automatic round could bring either; they exclude one another, and "
            f"{name} is declared first."
            + (f" {name} is left out, so that nobody adds it, and comes by itself all the same." if left_out else ""),
            "let only one remove the other: it wins, then, in whatever order they are declared; or let them require "
            "what is never there together; or take auto=True away from one.",
            path,
        )

    def lost(self, losers: int, path: Path) -> Finding:
        """Return a tie in which who would come excludes nobody who came: what decided it has not come itself."""
        names = self.named(losers)
        return self.finding(
            "auto-tie",
            "warning",
            (losers, 0),
            f"only the order of declaration decides that {_listed(names, 'or')} "
            + _verb(names, "does not come by itself", "do not come by themselves"),
            f"after {path.mutations[-1]!r} the automatic round leaves {_listed(names)} out, and would bring "
            f"{_verb(names, 'it if it', 'each if it')} were declared before all others: of what could come some "
            "exclude each other, and have not come either.",
            "let nothing that comes by itself bring two states of which one removes the other, or one that removes it.",
            path,
        )

    def unstable(self) -> Iterator[Finding]:
        """Find changes that a second automatic round would make."""
        told: set[int] = set()
        for node, active in enumerate(self.graph.sets):
            after = self.consensus.automatic(active)
            change = active ^ after
            if not change or change in told:
                continue
            came = self.graph.came(node)
            if came is not None:  # a machine opens with nothing active, and no automatic round has been there
                told.add(change)
                yield self.second(*came, after)

    def second(self, node: int, move: int, after: int) -> Finding:
        """Return what a second automatic round would do after a mutation and the first."""
        path = self.graph.path_along(node, move)
        active = self.consensus.set_of(*path.active)
        coming, leaving = self.named(after & ~active), self.named(active & ~after)
        changes = [
            *([f"bring {_listed(coming)}"] if coming else []),
            *([f"remove {_listed(leaving)}"] if leaving else []),
        ]
        left = self.graph.passing(node, move) & ~active
        guards = [
            f"{self.states[guard]} keeps {self.states[state]} out until the round is over, and leaves in it, since it "
            f"requires {_listed(self.named(self.tables.require[guard] & ~active))}"
            for state in members(after & ~active)
            for guard in members(left & self.tables.removed_by[state])
            if self.tables.require[guard] & ~active
        ]
        came = active & ~self.graph.passing(node, move)
        reasons = guards or [
            f"{self.states[state]} and {_listed(rivals)} exclude each other, and the first round decides for "
            f"{_listed(rivals)}, which {self.states[state]} removes once it is there"
            for state in members(after & ~active)
            if (rivals := self.named(self.tables.remove[state] & came))
        ]
        return self.finding(
            "unstable-auto",
            "warning",
            (active ^ after, 0),
            f"a second automatic round would {' and '.join(changes)}, where {_set(path.active)} is active",
            f"{'; '.join(reasons) or 'what decides it changes in the first round itself'}.",
            "let what ends a guard's requirement remove the guard too, so that all is done in one round; as it is, it "
            "is done with the next mutation, whichever that is.",
            path,
        )
