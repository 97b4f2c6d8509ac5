"""The consensus asked of sets of states, without a machine: what checkers, planners and proofs work with."""

from __future__ import annotations

from trsm._core._bits import gather, members
from trsm._core._consensus import Kind, Request, decide
from trsm._core._records import Record
from trsm._core._relations import Relations
from trsm._core._schema import Definition, Schema, SchemaMeta
from trsm._core._state import State

ANSWERS = 4096
"""How many answers to one question are remembered before they are forgotten."""
QUESTIONS = 4096
"""How many questions are remembered before they are forgotten."""


class Consensus:
    """What the relations of a schema make of a mutation: a pure function of sets of states, without a machine.

    A set of states is an `int`: bit n is set when the n-th state of the schema, in declaration order, is a member; 0 is
    the empty set. Such sets are small, quick to compare and fast to hash, so that tens of thousands of them can be
    asked about each second. `set_of` and `states_of` lead there and back.

    Handlers are no part of it: a real machine does what is said here unless a handler refuses or fails.

    The active set that is passed has to be one in which relations hold, see `fits`: others never occur, and the answer
    to them means nothing.

    Args:
      schema: the schema class.

    Raises:
      TypeError: ``schema`` is no schema.

    Example::

        class Door(trsm.Schema):
            Locked = trsm.State(remove="Open")
            Open = trsm.State(remove=Locked)

        consensus = trsm.Consensus(Door)
        locked = consensus.add(0, consensus.set_of(Door.Locked))
        target = consensus.add(locked, consensus.set_of(Door.Open))
        assert consensus.states_of(target) == (Door.Open,)
    """

    __slots__ = ("_count", "_definition", "_questions", "_schema")

    def __init__(self, schema: type[Schema]) -> None:
        if not isinstance(schema, SchemaMeta):
            raise TypeError(f"{schema!r} is no schema: pass a class that inherits from trsm.Schema")
        self._schema: type[Schema] = schema
        self._definition: Definition = schema._definition
        self._count = len(schema.states)
        self._questions: dict[tuple[Kind, int], _Question] = {}

    @property
    def schema(self) -> type[Schema]:
        """The schema class."""
        return self._schema

    def __repr__(self) -> str:
        return f"<Consensus of {self._schema.__name__}>"

    # ---- Sets -------------------------------------------------------------------------------------------------------

    def set_of(self, *states: State[..., object]) -> int:
        """Return the set of these states.

        Raises:
          UnknownState: a state is not one of the schema.
          MutationError: something else than a state.
        """
        mask = 0
        for state in states:
            mask |= 1 << self._definition.number(state, "set_of")
        return mask

    def states_of(self, states: int) -> tuple[State[..., object], ...]:
        """Return the members of a set, in declaration order.

        Raises:
          ValueError: it is no set of the schema's states.
        """
        self._check(states)
        return tuple(self._definition.states[number] for number in members(states))

    def fits(self, active: int) -> bool:
        """Return whether relations allow these states together: each has what it requires, and none removes another.

        Raises:
          ValueError: it is no set of the schema's states.
        """
        self._check(active)
        relations = self._definition.relations
        return not (gather(relations.require, active) & ~active or gather(relations.remove, active) & active)

    # ---- Mutations --------------------------------------------------------------------------------------------------

    def add(self, active: int, called: int) -> int | None:
        """Return what is active after ``add``, before the automatic round; None if the relations cancel it.

        Args:
          active: the set that is active before.
          called: the states that are called, at least one.

        Raises:
          ValueError: one of the two is no set of the schema's states, or `called` is empty.
        """
        return self._answer(Kind.ADD, active, called)

    def remove(self, active: int, dropped: int) -> int | None:
        """Return what is active after ``remove``; otherwise as `add`."""
        return self._answer(Kind.REMOVE, active, dropped)

    def set(self, active: int, called: int) -> int | None:
        """Return what is active after ``set``; otherwise as `add`."""
        self._check(active)
        return self._decided(active, Request(Kind.SET, self._some(called)))

    def mutate(self, active: int, *, add: int, remove: int) -> int | None:
        """Return what is active after ``mutate(add=…, remove=…)``; otherwise as `add`.

        Raises:
          ValueError: also if a state is in both.
        """
        self._check(active)
        self._some(add | remove)
        if add & remove:
            both = ", ".join(map(str, self.states_of(add & remove)))
            raise ValueError(f"mutate: {both} cannot be both added and removed: leave one out")
        return self._decided(active, Request(Kind.MUTATE, add, remove))

    def automatic(self, active: int, *, barred: int = 0) -> int:
        """Return what is active after an automatic round.

        A machine runs one after each executed mutation that moved a tick: when the active set is another, or a multi
        state that was active is called again.

        Args:
          active: the set that is active before.
          barred: states that are kept out of this round, as those are whose negotiation is refused.

        Raises:
          ValueError: one of the two is no set of the schema's states.
        """
        target = self._answer(Kind.AUTO, active, barred)
        assert target is not None  # it calls and drops nothing that could be refused
        return target

    # ---- Asking -----------------------------------------------------------------------------------------------------

    def _check(self, states: int) -> None:
        if not isinstance(states, int):
            raise ValueError(
                f"{states!r} is no set of states: a set is an int, as Consensus.set_of({self._schema.__name__}.…) makes"
            )
        if states >> self._count:
            raise ValueError(
                f"{states} is no set of states: {self._schema.__name__} has {self._count} states, its sets are 0 "
                f"to {(1 << self._count) - 1}"
            )

    def _some(self, states: int) -> int:
        self._check(states)
        if not states:
            raise ValueError("a mutation of no state means nothing: pass at least one, as set_of(…) makes it")
        return states

    def _decided(self, active: int, request: Request) -> int | None:
        verdict = decide(self._definition.relations, active, request)
        return verdict.found if verdict.accepted else None

    def _answer(self, kind: Kind, active: int, named: int) -> int | None:
        question = self._questions.get((kind, named))
        if question is None:
            question = self._new_question(kind, named)
        if active.__class__ is not int or active >> self._count:
            self._check(active)
        part = question.answers.get(active & question.read)
        if part is None:
            target = self._decided(active, question.request)
            part = _CANCELED if target is None else target & question.moved
            if not question.is_whole:
                if len(question.answers) >= ANSWERS:
                    question.answers.clear()
                question.answers[active & question.read] = part
        return None if part == _CANCELED else active & ~question.moved | part

    def _new_question(self, kind: Kind, named: int) -> _Question:
        if kind is Kind.AUTO:
            self._check(named)
        else:
            self._some(named)
        if len(self._questions) >= QUESTIONS:
            self._questions.clear()
        request = Request(kind, named) if kind is Kind.ADD else Request(kind, 0, named)
        question = self._questions[kind, named] = _question(self._definition.relations, request)
        return question


_CANCELED = -1


class _Question(Record):
    """A mutation, and the answers to it: they depend on a part of the active set only, and concern a part of it."""

    request: Request
    moved: int
    """The states that may come or leave; all others stay what they are."""
    read: int
    """The states on which that depends."""
    is_whole: bool
    """Whether it depends on every state, so that no answer would ever be of use again."""
    answers: dict[int, int]
    """What is active of `read` -> what is active of `moved` afterwards, or that it is canceled."""


def _question(relations: Relations, request: Request) -> _Question:
    """Return a question with the parts of the schema that matter to it.

    What may come is called, or reached from there by chains of ``add``. What may leave is dropped, excluded by what may
    come, or requires something that may leave or fail to come. The rules look at nothing but these and what those that
    may come require: an incumbent that nothing of this touches has its requirements, and stays.
    """
    coming = frontier = relations.auto & ~request.dropped if request.kind is Kind.AUTO else request.called
    barred = request.dropped
    while frontier:
        frontier = gather(relations.add, frontier) & ~coming & ~barred
        coming |= frontier
    moved = coming | gather(relations.excludes, coming)
    if request.kind is not Kind.AUTO:
        moved |= request.dropped
    frontier = moved
    while frontier:
        frontier = gather(relations.required_by, frontier) & ~moved
        moved |= frontier
    read = moved | gather(relations.require, coming)
    return _Question(request, moved, read, read == (1 << len(relations.names)) - 1, {})
