"""The whole graph of what a schema's relations allow: every set of states that can be reached, and the shortest way.

Breadth first over the consensus, from the empty set with which a machine opens. Sets are ints, see `trsm.Consensus`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeAlias, cast

import attrs

from trsm import Call, Consensus, Engine, ErrorState, Result, Schema, State, TrsmError
from trsm.testing._mutations import Mutation
from trsm.testing._naming import told_of

AnyState: TypeAlias = State[..., object]
Masks: TypeAlias = tuple[int, ...]
"""State -> a set."""
Progress: TypeAlias = Callable[[int, int], object]
"""Called with how many sets were explored so far, and how many were found."""

LIMIT = 50_000
"""How many sets may be reachable, if nothing else is said."""
_PROGRESS_EVERY = 500
"""Sets between two calls of `Progress`."""
_NAMED = 8
"""How many states, and how many parts, a message names of many."""
NOWHERE = -1
"""In the table of successors: the mutation is canceled, or asks for what is so already."""


class TooManySets(TrsmError, RuntimeError):
    """More sets of states are reachable than the bound allows; nothing was sampled, so that nothing is known.

    The message has a line for the fact, one for what to pass, and one for each part, if there are several.

    Attributes:
      limit: the bound.
      parts: the states that have nothing to do with others, together: the largest part first, and all in one if there
        is but one. Of many the message names some.
    """

    def __init__(self, message: str, limit: int, parts: tuple[tuple[AnyState, ...], ...]) -> None:
        super().__init__(message)
        self.limit: int = limit
        self.parts: tuple[tuple[AnyState, ...], ...] = parts


@attrs.frozen(repr=False)
class Path:
    """Mutations that lead a machine on which nothing is active somewhere."""

    schema: type[Schema]
    mutations: tuple[Mutation, ...]
    """In order. Each is followed by the automatic round."""
    active: tuple[AnyState, ...]
    """What is active at the end, in declaration order."""

    def __len__(self) -> int:
        return len(self.mutations)

    def __iter__(self) -> Iterator[Mutation]:
        return iter(self.mutations)

    def replay(self, machine: Engine, *calls: Call[object]) -> tuple[Result, ...]:
        """Make these mutations on a machine or engine, and return what became of each.

        The machine should be new. Its handlers may refuse what relations allow: then it ends elsewhere.

        Args:
          machine: a machine or engine of the schema.
          calls: for states that cannot be called with nothing: ``Fetch.Fetching(url="…")``, passed where it is added.

        Raises:
          MutationError: a state needs arguments, and no call of it was given.
          UnknownState: the machine is one of another schema.
          TypeError: what was passed is no machine, or no call.
        """
        if not isinstance(cast("object", machine), Engine):
            raise TypeError(f"replay({machine!r}): pass a machine or an engine of {self.schema.__name__}")
        for one in calls:
            if not isinstance(cast("object", one), Call):
                raise TypeError(f"replay(…, {one!r}): pass calls, with the arguments that a state needs: X.Foo(…)")
        given = {call.state.name: call for call in calls}
        results: list[Result] = []
        for mutation in self.mutations:
            if mutation.kind == "add":
                states = tuple(given.get(one.name, one) if isinstance(one, State) else one for one in mutation.states)
                mutation = attrs.evolve(mutation, states=states)
            results.append(mutation.apply(machine))
        return tuple(results)

    def program(self, machine: str = "machine") -> str:
        """Return it as lines of a program, for a test: ``machine.add(Door.Open)``."""
        return "\n".join(f"{machine}.{mutation!r}" for mutation in self.mutations)

    def __str__(self) -> str:
        return ", ".join(map(repr, self.mutations)) or "nothing"

    def __repr__(self) -> str:
        return f"<Path {self!s} -> ({' '.join(map(str, self.active))})>"


@attrs.frozen
class Edge:
    """One mutation, made where some states are active."""

    before: tuple[AnyState, ...]
    """What was active, in declaration order."""
    mutation: Mutation
    after: tuple[AnyState, ...]
    """What is active once the automatic round has followed."""


@attrs.frozen
class Move:
    """A mutation that is tried everywhere."""

    is_add: bool
    mask: int
    mutation: Mutation


def members(mask: int) -> Iterator[int]:
    """Iterate over the members of a set, as numbers."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def closure(table: Sequence[int], start: int) -> int:
    """Return `start` and all to which a relation leads from there."""
    found = frontier = start
    while frontier:
        following = 0
        for number in members(frontier):
            following |= table[number]
        frontier = following & ~found
        found |= frontier
    return found


class Tables:
    """The relations of a schema as sets, read through its public face."""

    def __init__(self, consensus: Consensus) -> None:
        schema = consensus.schema
        set_of = consensus.set_of
        self.states: tuple[AnyState, ...] = schema.states
        relations = [schema.relations_of(state) for state in schema]
        self.require: Masks = tuple(set_of(*one.require) for one in relations)
        self.add: Masks = tuple(set_of(*one.add) for one in relations)
        self.remove: Masks = tuple(set_of(*one.remove) for one in relations)
        inbound = [schema.inbound(state) for state in schema]
        self.required_by: Masks = tuple(set_of(*one.require) for one in inbound)
        self.removed_by: Masks = tuple(set_of(*one.remove) for one in inbound)
        self.excludes: Masks = tuple(mine | theirs for mine, theirs in zip(self.remove, self.removed_by, strict=True))
        self.auto: int = set_of(*(state for state in schema if state.auto))
        self.multi: int = set_of(*(state for state in schema if state.multi))
        self.latch: int = set_of(*(state for state in schema if state.latch))
        self.all: int = (1 << len(self.states)) - 1
        error = 1 << len(self.states) - 1
        self.errors: int = error | set_of(*(state for state in schema if isinstance(state, ErrorState)))
        self.optional: int = closure(self.add, self.auto)
        """What an automatic round may bring."""
        needs = tuple(closure(self.require, 1 << number) for number in range(len(self.states)))
        self.needs: Masks = needs
        """Each state, and all that it requires, directly or not."""
        self.circles: Masks = tuple(
            sum(1 << other for other in range(len(needs)) if needs[number] >> other & 1 and needs[other] >> number & 1)
            for number in range(len(needs))
        )
        """Each state, and those that it shares a circle of ``require`` with: they come and go together."""
        around = tuple(
            self.add[number] | self.require[number] | self.required_by[number] | self.excludes[number]
            for number in range(len(needs))
        )
        self.around: Masks = around
        self.has_error: bool = bool(self.errors != error or around[-1] or any(one & error for one in around))

    def parts(self) -> list[int]:
        """Return the parts of the schema that have nothing to do with one another, the largest first."""
        both = list(self.around)
        for number, mask in enumerate(self.around):
            for other in range(len(both)):
                both[other] |= (mask >> other & 1) << number
        left = self.all if self.has_error else self.all & ~(1 << len(both) - 1)
        found: list[int] = []
        while left:
            found.append(closure(both, left & -left))
            left &= ~found[-1]
        return sorted(found, key=int.bit_count, reverse=True)


class Graph:
    """What was explored, by numbers: sets, moves, and where each move leads from each set."""

    def __init__(self, consensus: Consensus, limit: int, without: int) -> None:
        self.consensus: Consensus = consensus
        self.schema: type[Schema] = consensus.schema
        self.limit: int = limit
        self.without: int = without
        self.tables: Tables = Tables(consensus)
        self.moves: list[Move] = _moves(consensus, self.tables, without)
        self.sets: list[int] = [0]
        self.numbers: dict[int, int] = {0: 0}
        """Set -> its place in `sets`: sets are known by that from here on."""
        self.origins: array[int] = array("l", [NOWHERE])
        """Set -> the set from which it was found."""
        self.found_by: array[int] = array("l", [NOWHERE])
        """Set -> the move that found it."""
        self.successors: array[int] = array("l")
        """One row for each set, with an entry for each move: the set to which it leads, or `NOWHERE`."""
        self.passed: int = 0
        """All states that were active at any time, be it only until the automatic round."""
        self.passings: dict[int, tuple[int, int]] = {}
        """State -> the set and the move after which that was so first."""

    def explore(self, progress: Progress | None) -> None:
        """Find all sets.

        Raises:
          TooManySets: there are more than the bound allows.
        """
        sets, numbers, successors = self.sets, self.numbers, self.successors
        add, remove, automatic = self.consensus.add, self.consensus.remove, self.consensus.automatic
        auto, multi, limit = self.tables.auto, self.tables.multi, self.limit
        moves = [(one.is_add, one.mask) for one in self.moves]
        node = 0
        while node < len(sets):
            active = sets[node]
            for move, (is_add, mask) in enumerate(moves):
                passing = None
                if is_add:
                    if mask & (~active | multi):
                        passing = add(active, mask)
                elif mask & active:
                    passing = remove(active, mask)
                if passing is None:
                    successors.append(NOWHERE)
                    continue
                if passing & ~self.passed:
                    self._note(passing & ~self.passed, node, move)
                target = automatic(passing) if auto else passing
                number = numbers.get(target)
                if number is None:
                    number = numbers[target] = len(sets)
                    if number >= limit:
                        raise self._refusal()
                    sets.append(target)
                    self.origins.append(node)
                    self.found_by.append(move)
                successors.append(number)
            node += 1
            if progress is not None and (node % _PROGRESS_EVERY == 0 or node == len(sets)):
                progress(node, len(sets))

    def _note(self, fresh: int, node: int, move: int) -> None:
        self.passed |= fresh
        for number in members(fresh):
            self.passings[number] = node, move

    def _refusal(self) -> TooManySets:
        name = self.schema.__name__
        parts = tuple(self.consensus.states_of(part) for part in self.tables.parts())
        sets = "set of states is" if self.limit == 1 else "sets of states are"
        words = (
            f"{name}: more than {self.limit:,} {sets} reachable, which is the bound: it was not explored "
            f"to the end, nothing was sampled, and nothing is known\n"
            f"  pass a higher limit=, if time and memory allow, or leave out states that nobody should add, such as "
            f"error states: without=[{name}.…]"
        )
        if len(parts) > 1:
            several = _some([_some(part, " ", "states") for part in parts], "\n    ", "parts")
            words += (
                f"\n  it has {len(parts)} parts that have nothing to do with one another, so that their sets multiply: "
                f"make each a schema of its own, which {name} inherits, and look at those:\n    {several}"
            )
        return TooManySets(words, self.limit, parts)

    # ---- Steps ------------------------------------------------------------------------------------------------------

    def row(self, node: int) -> array[int]:
        """Return where each move leads from a set."""
        width = len(self.moves)
        return self.successors[node * width : (node + 1) * width]

    def steps(self) -> Iterator[tuple[int, int, int]]:
        """Iterate over set, move and the set to which it leads, for all that is executed, nearest sets first."""
        width = len(self.moves)
        for place, target in enumerate(self.successors):
            if target != NOWHERE:
                node, move = divmod(place, width)
                yield node, move, target

    def passing(self, node: int, move: int) -> int:
        """Return what is active between a mutation and its automatic round."""
        ask = self.consensus.add if self.moves[move].is_add else self.consensus.remove
        passing = ask(self.sets[node], self.moves[move].mask)
        assert passing is not None  # it is one of the steps
        return passing

    def came(self, node: int) -> tuple[int, int] | None:
        """Return the first set and move that lead to a set; None if there are none, as there may be to the first."""
        if node:
            return self.origins[node], self.found_by[node]
        return next(((before, move) for before, move, target in self.steps() if not target), None)

    # ---- Paths ------------------------------------------------------------------------------------------------------

    @cached_property
    def distances(self) -> list[int]:
        """Set -> how many mutations the path to it has."""
        found = [0]
        for origin in self.origins[1:]:
            found.append(found[origin] + 1)
        return found

    def path(self, node: int, *further: Mutation, active: int | None = None) -> Path:
        """Return the path to a set, and maybe on from there to another."""
        mutations: list[Mutation] = []
        at = node
        while at:
            mutations.append(self.moves[self.found_by[at]].mutation)
            at = self.origins[at]
        end = self.sets[node] if active is None else active
        return Path(self.schema, (*reversed(mutations), *further), self.consensus.states_of(end))

    def path_along(self, node: int, move: int) -> Path:
        """Return the path to a set and through one move from there."""
        return self.path(node, self.moves[move].mutation, active=self.sets[self.row(node)[move]])


def _some(names: Sequence[object], between: str, what: str) -> str:
    """Return names, or of many the first, and how many there are besides."""
    shown = list(map(str, names[:_NAMED]))
    if len(names) > _NAMED:
        shown.append(f"and {len(names) - _NAMED} more {what}")
    return between.join(shown)


def _moves(consensus: Consensus, tables: Tables, without: int) -> list[Move]:
    """Return what is tried in each set: to add each state, or those of a circle of ``require``, and to remove each."""
    schema = consensus.schema
    numbers = range(len(tables.states) if tables.has_error else len(tables.states) - 1)
    added = [1 << number for number in numbers if not without >> number & 1]
    circles = dict.fromkeys(mask for mask in tables.circles if mask.bit_count() > 1 and not mask & without)
    moves = [Move(True, mask, Mutation(schema, "add", consensus.states_of(mask))) for mask in (*added, *circles)]
    for number in numbers:
        moves.append(Move(False, 1 << number, Mutation(schema, "remove", (tables.states[number],))))
    return moves


class Exploration:
    """Every set of states that can be active, and the shortest path to each; what `explore` returns.

    It iterates over the sets, those that fewer mutations lead to first, each as a tuple of states in declaration order.
    ``states in exploration`` asks for a set, and ``len(exploration)`` is how many there are.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph: Graph = graph

    @property
    def schema(self) -> type[Schema]:
        """The schema class."""
        return self._graph.schema

    @property
    def limit(self) -> int:
        """The bound: a schema with more reachable sets is refused."""
        return self._graph.limit

    @property
    def consensus(self) -> Consensus:
        """What was asked, which also translates `sets`."""
        return self._graph.consensus

    @cached_property
    def sets(self) -> tuple[int, ...]:
        """All reachable sets as ints, see `trsm.Consensus`, in the same order as they are iterated over."""
        return tuple(self._graph.sets)

    def __len__(self) -> int:
        return len(self._graph.sets)

    def __iter__(self) -> Iterator[tuple[AnyState, ...]]:
        return map(self.consensus.states_of, self._graph.sets)

    def __contains__(self, states: object) -> bool:
        if isinstance(states, (State, str)) or not isinstance(states, Iterable):
            raise TypeError(f"{states!r} is no set of states: write [{self.schema.__name__}.…, …] in exploration")
        return self._set_of("in exploration", tuple(cast("Iterable[AnyState]", states))) in self._graph.numbers

    def _set_of(self, asked: str, states: tuple[AnyState, ...]) -> int:
        with told_of(asked, "set_of"):
            return self.consensus.set_of(*states)

    def __repr__(self) -> str:
        return f"<Exploration of {self.schema.__name__}: {len(self)} sets>"

    @cached_property
    def never_active(self) -> tuple[AnyState, ...]:
        """The states that are in no reachable set, in declaration order; ``Error`` is none of them."""
        never = self._graph.tables.all & ~(1 << len(self.schema) - 1)
        for one in self._graph.sets:
            never &= ~one
        return self.consensus.states_of(never)

    def edges(self) -> Iterator[Edge]:
        """Iterate over all mutations that are executed, in all sets: which of them lead where.

        Left out are those that are canceled, and those that ask for what is so already.
        """
        graph, states_of = self._graph, self.consensus.states_of
        for node, move, target in graph.steps():
            yield Edge(states_of(graph.sets[node]), graph.moves[move].mutation, states_of(graph.sets[target]))

    def path_to(self, *states: AnyState) -> Path | None:
        """Return a shortest path to the set of exactly these states; None if it cannot be reached.

        Raises:
          UnknownState, MutationError: as `trsm.Consensus.set_of`.
        """
        node = self._graph.numbers.get(self._set_of("path_to", states))
        return None if node is None else self._graph.path(node)

    def path_with(self, *states: AnyState) -> Path | None:
        """Return a shortest path to a set that holds these states, and may hold others; None if there is none.

        Raises:
          UnknownState, MutationError: as `trsm.Consensus.set_of`.
        """
        mask = self._set_of("path_with", states)
        node = next((node for node, active in enumerate(self._graph.sets) if active & mask == mask), None)
        return None if node is None else self._graph.path(node)

    def paths(self) -> Iterator[Path]:
        """Iterate over a shortest path to each reachable set, shorter ones first."""
        return map(self._graph.path, range(len(self)))


def explored(
    asked: str, schema: type[Schema], limit: int, without: Iterable[AnyState], progress: Progress | None
) -> Graph:
    """Return the graph of a schema, once all that was passed to a function is found to make sense."""
    consensus = Consensus(schema)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ValueError(f"limit={limit!r}: write how many sets may be reachable, a whole number, 1 or more")
    if isinstance(without, State):
        raise TypeError(f"without={without!r} is one state: write without=[{schema.__name__}.{without}]")
    if isinstance(without, str) or not isinstance(cast("object", without), Iterable):
        raise TypeError(f"without={without!r}: pass states, in a list: without=[{schema.__name__}.…]")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress={progress!r}: pass a function, called with two numbers: how far it is, and of what")
    with told_of(f"{asked}({schema.__name__}, without=…)", "set_of"):
        left_out = consensus.set_of(*without)
    graph = Graph(consensus, limit, left_out)
    graph.explore(progress)
    return graph


def explore(
    schema: type[Schema],
    *,
    limit: int = LIMIT,
    without: Iterable[AnyState] = (),
    progress: Progress | None = None,
) -> Exploration:
    """Find every set of states that a machine of this schema can be in, and the shortest path to each.

    A machine opens with nothing active. From each set, each state is added and each is removed by itself, also a multi
    state that is active and called again; the automatic round follows, as in a machine. States that require one another
    in a circle can only come together: they are added in one mutation too. ``set`` and mutations of several other
    states are not tried: they may lead to further sets, as they have no automatic rounds between.

    Handlers are no part of it: those of a real machine can refuse, and then it does not come as far. Error states are
    added as all others are, since an error may come at any time. ``Error``, where no relation names it, is left out: it
    comes and goes beside everything else.

    It never samples. Up to 50,000 sets take less than a minute where there are some forty states; the time grows with
    sets times states.

    Args:
      schema: the schema class.
      limit: how many sets may be reachable. Default 50,000.
      without: states that are not added, though relations may bring them.
      progress: called with how many sets were explored, and how many were found, from time to time.

    Raises:
      TooManySets: more than `limit` sets are reachable.
      TypeError: ``schema`` is no schema, ``without`` no states, or ``progress`` no function.
      ValueError: ``limit`` is not positive.
      UnknownState, MutationError: what is in ``without`` is no state of the schema.

    Example::

        exploration = trsm.testing.explore(Door)
        for path in exploration.paths():
            door = trsm.Engine(Door, DoorHandlers())
            path.replay(door)
            assert door.active_states == path.active
    """
    return Exploration(explored("explore", schema, limit, without, progress))
