"""A transition: what became of one mutation, as handlers and waiters see it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar, cast
from weakref import ReferenceType

from trsm._core._consensus import KIND_NAMES, Kind
from trsm._core._journal import Journal
from trsm._core._mutation import Mutation
from trsm._core._plan import BARRING, OPENING, Handler, Plan
from trsm._core._schema import Definition, missing_arguments
from trsm._core._source import Source, bounded
from trsm._core._state import State, States
from trsm._core._ticks import Ticks

A = TypeVar("A")


class _Named(Protocol):
    """A machine, as its transitions name it."""

    @property
    def id(self) -> str:
        """Its name in messages."""
        ...  # a protocol's property has no body to run


class _Running(Protocol):
    """A machine, as its transitions look at what it does now."""

    _running: Handler | None
    _transition: Transition | None


_NO_ARGS: Mapping[str, object] = MappingProxyType({})


class Transition:
    """One transition of a machine: who was called, who enters and leaves, with which arguments, and from where.

    Handlers get it as their one argument, waiters return it. It is made by the machine, read-only, and stays readable
    after the machine has gone on; what is costly in it is built when it is read. Negotiation handlers see the machine
    as it was before, and the target here.

    Attributes:
      dry_run: whether it is only asked what would happen (``can_add``, ``can_remove``, ``explain``).
    """

    __slots__ = ("_journal", "_mutation", "_place", "_plan", "dry_run")

    _plan: Plan
    _mutation: Mutation | None
    _journal: Journal
    """The page of the machine's journal that it is written on, or would be."""
    _place: int
    """Where on that page; the complement of that, which is negative, as long as it is not committed."""
    dry_run: bool

    def __init__(self) -> None:
        raise TypeError("transitions are made by machines: read machine.last_transition, or await machine.when(…)")

    def _states(self, mask: int) -> tuple[State[..., object], ...]:
        return States(state for number, state in enumerate(self._definition.states) if mask >> number & 1)

    @property
    def _definition(self) -> Definition:
        return self._journal.definition

    @property
    def _machine(self) -> ReferenceType[object]:
        return self._journal.machine

    @property
    def _position(self) -> int:
        """How many entries of the page come before it."""
        return self._place if self._place >= 0 else ~self._place

    @property
    def tick(self) -> int:
        """The machine's own tick: how many transitions it had executed, this one included once it is committed."""
        place = self._place
        return self._journal.tick + (place + 1 if place >= 0 else ~place)

    def _source_of(self, handler: Handler) -> Source:
        """Return the record of a handler or task of this transition: what it makes carries that."""
        request = self._plan.request
        asked = request.called | (0 if request.kind in BARRING else request.dropped)
        called = self._definition.relations.named(asked)
        kind, machine = KIND_NAMES[request.kind], self._journal.machine_id
        return bounded(Source(machine, self.tick, kind, called, handler.name, self.source, role=handler.kind))

    def _source_of_call(self, handler: Handler | None = None) -> Source:
        """Return the record of the handler that runs in it; when that is over, of `handler`, or the one that was noted.

        So the handlers of a negotiation, which start nothing that outlives them, need not be noted one by one.
        """
        machine = cast("_Running | None", self._machine())
        if machine is not None and machine._running is not None and machine._transition is self:
            return self._source_of(machine._running)
        return self._source_of(cast("Handler", handler or self._plan.noted))

    # ---- What was asked ---------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """``add``, ``remove``, ``set`` or ``mutate``; or ``auto``, ``error``, ``removal``, ``close``, ``open``."""
        return KIND_NAMES[self._plan.request.kind]

    @property
    def machine(self) -> object:
        """The engine or machine; a transition does not keep it alive.

        Raises:
          ReferenceError: it is gone.
        """
        machine = self._machine()
        if machine is None:
            raise ReferenceError("the machine of this transition is gone")
        return machine

    @property
    def is_auto(self) -> bool:
        """Whether it is the automatic round."""
        return self._plan.request.kind is Kind.AUTO

    @property
    def called(self) -> tuple[State[..., object], ...]:
        """The states that the mutation called, in declaration order; what a ``remove`` drops is in ``dropped``."""
        return self._states(self._plan.request.called)

    @property
    def dropped(self) -> tuple[State[..., object], ...]:
        """The states that the mutation asked to go, active or not, in declaration order."""
        kind = self._plan.request.kind
        return () if kind is Kind.AUTO or kind is Kind.ERROR else self._states(self._plan.request.dropped)

    @property
    def args(self) -> Mapping[str, object]:
        """The free keywords of the mutation."""
        return (
            _NO_ARGS if self._mutation is None or self._mutation.args is None else MappingProxyType(self._mutation.args)
        )

    def args_of(self, state: State[..., A]) -> A:
        """Return the instance of a state's args class that it was called with, or one with the class's defaults.

        It is the same one for all who ask: handlers, tasks and waiters.

        Raises:
          LookupError: the state neither was called nor enters; or `Engine.explain` asks about it without the
            arguments that it needs.
          UnknownState: the state is not one of the machine's schema.
        """
        number = self._definition.number(state, "t.args_of(…)")
        calls = None if self._mutation is None else self._mutation.calls
        if calls is not None and number in calls:
            return cast("A", calls[number])
        if not self._plan.request.called >> number & 1 and number not in self._plan.entering:
            raise LookupError(f"t.args_of({state}): this transition neither called {state} nor does {state} enter")
        if self.dry_run and state.args is not None and missing_arguments(state.args):
            raise LookupError(f"t.args_of({state}): explained without arguments: pass {state.qualified_name}(…)")
        if state.args is None:
            return cast("A", None)
        mutation = self._mutation
        if mutation is None:  # one that carries nothing is the same as none
            made = Mutation(self._plan.request)
            mutation = self._mutation = self._mutation or made
        if mutation.defaults is None:
            mutation.defaults = {}
        if number not in mutation.defaults:
            # Only what nobody calls has no instance, and then its args class has defaults: the schema saw to it.
            mutation.defaults.setdefault(number, state.args())
        return cast("A", mutation.defaults[number])

    @property
    def result(self) -> object:
        """What the task returned that made this transition by its ``then=``; None otherwise."""
        return None if self._mutation is None else self._mutation.result

    @property
    def error(self) -> Exception | None:
        """The exception that made this transition, if it is an error's."""
        return None if self._mutation is None else self._mutation.error

    @property
    def source(self) -> Source | None:
        """The handler or task that made the mutation, with the chain of causes before it; None if from outside."""
        return None if self._mutation is None else self._mutation.source

    def describe_cause(self) -> str:
        """Return what caused it, in lines: this transition, then each handler or task, back to the first.

        The chain goes across the machines of a process. In a long one the middle is left out, and counted. An error's
        comes from who raised it, in a child too; the automatic round from what caused the transition before it.

        Example::

            print(machine.last_transition.describe_cause())
            # add(Ready), transition 4 of machine 'link'
            # by task Link.dial, after transition 3 of machine 'link', add(Connecting)
            # by on_enter Boss.begin, in transition 1 of machine 'boss', add(Working)
            # from outside
        """
        machine = cast("_Named | None", self._machine())
        called = ", ".join(map(str, (*self.called, *self.dropped)))
        what = f"{self.kind}({called})"
        if self.dry_run:
            at = "a dry run"
        else:
            at = (
                f"transition {self.tick}"
                if self._place >= 0 or self._plan.request is OPENING
                else f"negotiated after transition {self.tick}"
            )
        of = (
            f"of machine {machine.id!r}"
            if machine is not None
            else f"of a machine on {self._definition.name}, now gone"
        )
        source = self.source
        return f"{what}, {at} {of}\n{'from outside' if source is None else source}"

    # ---- What becomes of it -----------------------------------------------------------------------------------------

    @property
    def entering(self) -> tuple[State[..., object], ...]:
        """The states that activate, and multi states called again, in the order in which their handlers run."""
        return States(self._definition.states[number] for number in self._plan.entering)

    @property
    def leaving(self) -> tuple[State[..., object], ...]:
        """The states that deactivate, in the order in which their handlers run."""
        return States(self._definition.states[number] for number in self._plan.leaving)

    @property
    def target(self) -> tuple[State[..., object], ...]:
        """The states that are active after it, in declaration order."""
        return self._states(self._plan.target)

    @property
    def before(self) -> Ticks:
        """The ticks before it."""
        return Ticks(self._definition, self._journal.at(self._position))

    @property
    def after(self) -> Ticks:
        """The ticks after it."""
        return Ticks(self._definition, self._journal.at(self._position, self._plan))

    def __repr__(self) -> str:
        plan, names = self._plan, self._journal.definition.relations.names
        signs = ""
        for number in plan.entering:
            signs += f" +{names[number]}"
        for number in plan.leaving:
            signs += f" -{names[number]}"
        end = " (dry run)" if self.dry_run else ""
        return f"<Transition {self.tick} {KIND_NAMES[plan.request.kind]}:{signs or ' no change'}{end}>"
