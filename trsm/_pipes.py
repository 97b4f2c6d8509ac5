"""Pipes: activations and deactivations of one machine's states, with their arguments, carried over to another.

A machine whose states are piped has one `_Outlet`, bound to it as any handlers are, once for each piped state, however
many pipes leave it: a thousand pipes cost no more to open one by one than all at once. The source holds its outlet, the
outlet its pipes; what leads back is weak, or goes when one of the two machines closes, so that nothing cyclic is left.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from typing import cast
from weakref import WeakKeyDictionary

import attrs

from trsm._core._errors import MutationError, QueueFull, ReadOnly, SchemaError, listed
from trsm._core._mutation import Canceled, Queued, Result
from trsm._core._schema import missing_arguments
from trsm._core._state import Call, Mark, State, hang
from trsm._core._transition import Transition
from trsm._machine import Machine
from trsm._protection import protect
from trsm._waiters import PIPES, OfClosing

logger = logging.getLogger("trsm")

KEPT = 100
"""How many refusals a pipe remembers; all are counted."""

AnyState = State[..., object]
Place = tuple[Machine, AnyState]
"""A state of a machine, by the first of its lineage."""
Carry = Callable[[Transition], None]


@attrs.frozen
class PipeRefusal:
    """What a pipe could not carry over."""

    state: AnyState
    """The state of the target."""
    kind: str
    """``"add"`` or ``"remove"``."""
    reason: str
    """Why the target refused it: the reason of the canceled mutation, or that its queue was full."""


@attrs.frozen
class PipeStatistics:
    """How much a pipe has carried."""

    carried: int
    """Mutations that the target has executed."""
    refused: int
    """Mutations that the target refused, or had no room for."""
    waiting: int
    """Mutations that wait in the target's queue."""


class Pipe:
    """What `pipe` returns: an open pipe from one machine to another. Close it with `close`, or with either machine."""

    __slots__ = (
        "__weakref__",
        "_carried",
        "_endings",
        "_held",
        "_is_closed",
        "_pairs",
        "_refusals",
        "_refused",
        "_source",
        "_target",
        "_title",
        "_waiting",
    )

    _source: weakref.ref[Machine]
    _target: weakref.ref[Machine]
    _pairs: dict[AnyState, AnyState]
    """State of the source -> state of the target, each as its machine's schema has it."""
    _held: set[AnyState]
    """States of the source that are active and were carried: what several lead to leaves with the last of them."""
    _waiting: deque[tuple[AnyState, str, Queued]]
    _carried: int
    _refused: int
    _refusals: deque[PipeRefusal]
    _is_closed: bool
    _title: str
    _endings: tuple[_Ending, ...]
    """What tells it that a machine has closed, for as long as it holds them."""

    def __init__(self) -> None:
        raise TypeError("pipes are opened: trsm.pipe(source, X.Foo, target)")

    @classmethod
    def _made(cls, source: Machine, target: Machine, pairs: dict[AnyState, AnyState]) -> Pipe:
        made = object.__new__(cls)
        made._source = weakref.ref(source)
        made._target = weakref.ref(target)
        made._pairs = pairs
        led = ", ".join(f"{here} → {there}" for here, there in pairs.items())
        made._title = f"{source.id!r} → {target.id!r}: {led}"
        made._is_closed = False
        made._held = set()
        made._carried = 0
        made._refused = 0
        made._refusals = deque(maxlen=KEPT)
        made._waiting = deque()
        made._endings = ()
        return made

    @property
    def source(self) -> Machine | None:
        """The machine that is listened to; None if it is gone."""
        return self._source()

    @property
    def target(self) -> Machine | None:
        """The machine that is changed; None if it is gone."""
        return self._target()

    @property
    def closed(self) -> bool:
        """Whether it carries nothing any more: it was closed, or one of the two machines was."""
        return self._is_closed

    @property
    def refusals(self) -> tuple[PipeRefusal, ...]:
        """What did not get through, the last 100, oldest first; each is logged as a warning too."""
        self._judge()
        return tuple(self._refusals)

    def statistics(self) -> PipeStatistics:
        """Return how much was carried and refused so far."""
        self._judge()
        return PipeStatistics(self._carried, self._refused, len(self._waiting))

    def sync(self) -> None:
        """Catch up: make the target's states active where the source's are, and inactive where they are not.

        For a pipe that was made late, or whose target refused something. States are added with the arguments with which
        their present activity began.

        Raises:
          MutationError: the pipe is closed.
          WrongThread: called from another thread.
        """
        source, target = self.source, self.target
        if self._is_closed or source is None or target is None:
            raise MutationError(f"sync() of {self!r}, which carries nothing any more: open another")
        source._check_thread("sync of a pipe", instead="trio.from_thread.run_sync(pipe.sync)")
        # In the order in which they would have entered, so that what the target's states require is there before them.
        numbers = {source._definition.number(here, "sync"): here for here in self._pairs}
        order = source._definition.relations.in_order(source._active)
        present = {numbers[number]: number for number in order if number in numbers}
        self._held = set(present)
        wanted = {self._pairs[here] for here in present}
        for there in dict.fromkeys(self._pairs.values()):
            if there not in wanted and target.is_active(there):
                self._hand_over("remove", there, there, {})
        for here, number in present.items():
            if target.is_inactive(self._pairs[here]):
                self._add(here, source._youngest(1 << number))

    def close(self) -> None:
        """Carry nothing any more; what was carried stays. Doing so twice is fine.

        Raises:
          WrongThread: called from another thread.
        """
        source = self.source
        if not (self._is_closed or source is None):
            source._check_thread("close of a pipe", instead="trio.from_thread.run_sync(pipe.close)")
            self._end()

    def _end(self) -> None:
        """Close it, whatever is going on: called when a machine has closed."""
        source = self.source
        if self._is_closed or source is None:
            return
        self._is_closed = True
        self._endings = ()
        self._judge()
        _outlets[source].drop(self, source)

    def _add(self, here: AnyState, t: Transition) -> None:
        """Carry over that a state of the source has activated, or was called again, by a transition."""
        self._held.add(here)
        there = self._pairs[here]
        call: AnyState | Call[object] = there
        if there.args is not None and there.args is here.args:
            call = Call(there, t.args_of(here))
        self._hand_over("add", there, call, t.args)

    def _remove(self, here: AnyState, t: Transition) -> None:
        """Carry over that a state of the source has deactivated."""
        self._held.discard(here)
        there = self._pairs[here]
        if not any(self._pairs[other] is there for other in self._held):
            self._hand_over("remove", there, there, t.args)

    def _hand_over(self, kind: str, there: AnyState, call: AnyState | Call[object], args: Mapping[str, object]) -> None:
        """Ask the target for a change; what does not get through is noted, and never an error of the source."""
        target = self.target
        if self._is_closed or target is None or target._closing:
            return
        self._judge()
        mutate = target.add if kind == "add" else target.remove
        try:
            result = cast("Callable[..., Result]", mutate)(call, **args)
        except (QueueFull, ReadOnly) as error:
            # Read-only: a negotiation handler or predicate of the target has changed the source.
            self._refuse(there, kind, str(error))
            return
        if isinstance(result, Queued):
            self._waiting.append((there, kind, result))
        else:
            self._judged(there, kind, result)

    def _judge(self) -> None:
        """See what became of those that had to wait in the target's queue."""
        while self._waiting and (outcome := self._waiting[0][2].outcome) is not None:
            there, kind, _ = self._waiting.popleft()
            self._judged(there, kind, outcome)

    def _judged(self, there: AnyState, kind: str, outcome: Result) -> None:
        if isinstance(outcome, Canceled):
            self._refuse(there, kind, outcome.reason)
        else:
            self._carried += 1

    def _refuse(self, state: AnyState, kind: str, reason: str) -> None:
        self._refused += 1
        self._refusals.append(PipeRefusal(state, kind, reason))
        logger.warning("%r: %s(%s) was refused: %s", self, kind, state, reason)

    def __repr__(self) -> str:
        return f"<Pipe {self._title}{' (closed)' if self._is_closed else ''}>"


class _Ending(OfClosing):
    """Tells a pipe, in the same step, that one of its machines has closed."""

    __slots__ = ("_pipe",)

    def __init__(self, pipe: Pipe, machine: Machine) -> None:
        super().__init__(machine)
        self._pipe = weakref.ref(pipe)
        self._refs = (machine._subscribers().add(self, PIPES),)  # tracers are told of waiters, and it is none

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        pipe = self._pipe()
        if pipe is not None:
            pipe._end()


class _Outlet:
    """The handlers of one machine that carry its changes to all pipes that leave it."""

    __slots__ = ("_bound", "pipes")

    def __init__(self) -> None:
        self.pipes: dict[AnyState, dict[Pipe, AnyState]] = {}
        """Piped state of the source, by the first of its lineage -> its pipes in the order in which they were opened,
        and the state as each of them knows it."""
        self._bound: dict[AnyState, tuple[Carry, Carry]] = {}

    def add(self, pipe: Pipe, source: Machine) -> None:
        """Let a pipe hear of its states from now on.

        Raises:
          ReadOnly: a negotiation handler or predicate of the source runs; nothing has changed then.
        """
        states = {here._lineage: here for here in pipe._pairs}
        bound = {state: self._handlers(state) for state in states if state not in self._bound}
        if bound:
            source._rebind((*source._bound, *(one for both in bound.values() for one in both)), "pipe")
            self._bound |= bound
        for state, here in states.items():
            self.pipes.setdefault(state, {})[pipe] = here

    def drop(self, pipe: Pipe, source: Machine) -> None:
        """Let a pipe hear of nothing any more, and take handlers off that have nobody to tell."""
        for here in pipe._pairs:
            self.pipes[here._lineage].pop(pipe, None)
        idle = {state for state in self._bound if not self.pipes[state]}
        gone = {id(one) for state in idle for one in self._bound[state]}
        if not gone:
            return
        try:
            source._rebind(tuple(one for one in source._bound if id(one) not in gone), "close of a pipe")
        except ReadOnly:
            return  # a handler of the source, while it was asked, has closed the target: the next that drops does it
        for state in idle:
            del self._bound[state], self.pipes[state]

    def _handlers(self, state: AnyState) -> tuple[Carry, Carry]:
        def entered(t: Transition) -> None:
            self._tell(Pipe._add, t, list(self.pipes.get(state, {}).items()))

        def left(t: Transition) -> None:
            self._tell(Pipe._remove, t, list(self.pipes.get(state, {}).items())[::-1])

        for function, mark in ((entered, Mark("on_enter", state, watches=True)), (left, Mark("on_exit", state))):
            function.__qualname__ = f"pipes of {state}"
            hang(mark, function)
        return entered, left

    def _tell(
        self,
        carry: Callable[[Pipe, AnyState, Transition], None],
        t: Transition,
        pipes: list[tuple[Pipe, AnyState]],
    ) -> None:
        """Let every pipe carry a change, whatever the handlers of one of the targets do."""
        for pipe, here in pipes:
            try:
                carry(pipe, here, t)
            except BaseException as error:
                # No `Exception`: these the target keeps. It goes to the caller and closes the source too, but the state
                # has not failed: it leaves in its turn, and is carried then.
                cast("Machine", t._machine())._escape(error)


_outlets: WeakKeyDictionary[Machine, _Outlet] = WeakKeyDictionary()


def pipe(
    source: Machine,
    states: AnyState | Iterable[AnyState] | Mapping[AnyState, AnyState],
    target: Machine,
    to: AnyState | Iterable[AnyState] | None = None,
    *,
    sync: bool = False,
) -> Pipe:
    """Carry activations and deactivations of one machine's states over to states of another machine.

    When a state of `source` activates, or a multi state is called again, the state of `target` that it is piped to is
    added, with the same free keywords and, if both have the same args class, the same instance; when it deactivates,
    it is removed. Where several states of one pipe lead to one, it is removed with the last of them; another pipe that
    leads there does not know of them, and removes it with its own. Each is an ordinary mutation of the target, made in
    the source's final handlers: in order and at once, or queued if the target is in a transition. What the target
    refuses or has no room for is in `Pipe.refusals`, and logged.

    A pipe only watches: an error of the source is not handled because ``Error`` is piped.

    Args:
      source: the machine that is listened to.
      states: a state of `source`, several, or a mapping of its states to states of `target`.
      target: the machine that is changed.
      to: as many states of `target`, in the same order. Default: those with the same names.
      sync: whether to catch up at once with what is active now; see `Pipe.sync`. Default False.

    Returns:
      The open pipe. It closes with either machine, or by `Pipe.close`; it need not be kept.

    Raises:
      MutationError: no state is given, one is piped twice, there are not as many of one as of the other, the pipe
        would close a ring that leads a state back to itself, or a machine is closed.
      SchemaError: a state of the target needs arguments that the source's state does not have.
      UnknownState: a state is not one of its machine's schema, or the target has none of that name.
      TypeError: something else than a machine, or than states, is given.
      ReadOnly: called from a negotiation handler or a predicate of the source.
      WrongThread: one of the machines belongs to another thread.

    Example::

        trsm.pipe(link, Link.Connected, session, Session.Online)
        trsm.pipe(worker, {Worker.Busy: Pool.Working, Worker.Idle: Pool.Waiting}, pool)
    """
    for name, machine in (("source", source), ("target", target)):
        if not isinstance(machine, Machine):
            raise TypeError(f"pipe({name}={machine!r}): pass a machine, as open_machine or start_child gives it")
        machine._check_thread("pipe", instead="trio.from_thread.run_sync(trsm.pipe, …)")
        if machine._closing:
            raise MutationError(f"pipe(…): {machine._closing_reason()}, and carries nothing any more")
    if not isinstance(sync, bool):
        raise TypeError(f"pipe(…, sync={sync!r}): {sync!r} is no bool: write sync=True or sync=False")
    pairs = _paired(source, states, target, to)
    for here, there in pairs.items():
        missing = [] if there.args is None or there.args is here.args else missing_arguments(there.args)
        if missing:
            raise SchemaError(
                f"pipe({here} → {there}): {there} needs {listed(missing)}, which {here} does not carry: give both the "
                "same args class, or the fields defaults"
            )
    _refuse_ring(source, pairs, target)
    made = Pipe._made(source, target, pairs)
    outlet = _outlets.get(source) or _Outlet()
    outlet.add(made, source)
    _outlets[source] = outlet
    made._endings = (_Ending(made, source), _Ending(made, target))
    if sync:
        made.sync()
    return made


def _several(states: object) -> list[AnyState]:
    if isinstance(states, (State, str)):
        return [cast("AnyState", states)]  # a name is refused as one of several would be, and told what to write
    if not isinstance(states, Iterable):
        raise TypeError(f"pipe(…, {states!r}): pass a state, several, or a mapping of states to states")
    return list(cast("Iterable[AnyState]", states))


def _own(machine: Machine, states: Iterable[AnyState]) -> list[AnyState]:
    """Return states as the schema of their machine has them."""
    return [machine.schema.states[machine._definition.number(state, "pipe")] for state in states]


def _paired(
    source: Machine,
    states: AnyState | Iterable[AnyState] | Mapping[AnyState, AnyState],
    target: Machine,
    to: AnyState | Iterable[AnyState] | None,
) -> dict[AnyState, AnyState]:
    if isinstance(states, Mapping):
        if to is not None:
            raise MutationError("pipe(…): a mapping says where its states lead; leave out the last argument")
        mapping = cast("Mapping[AnyState, AnyState]", states)
        heres, theres = _own(source, mapping), _own(target, mapping.values())
    else:
        if to is not None and any(isinstance(some, Set) for some in (states, to)):
            raise MutationError("pipe(…): a set has no order, and states lead in turn: write lists, or one mapping")
        heres = _own(source, _several(states))
        theres = [target.schema[here.name] for here in heres] if to is None else _own(target, _several(to))
    if len(heres) != len(theres):
        raise MutationError(
            f"pipe(…): {len(heres)} states cannot be piped to {len(theres)}: give as many of one as of the other"
        )
    if not heres:
        raise MutationError("pipe(…) names no state: give at least one")
    twice = [here for here in dict.fromkeys(heres) if heres.count(here) > 1]
    if twice:
        raise MutationError(f"pipe(…): {listed(map(str, twice))} is piped twice: make two pipes of it")
    return dict(zip(heres, theres, strict=True))


def _refuse_ring(source: Machine, pairs: dict[AnyState, AnyState], target: Machine) -> None:
    """Refuse pairs that would, together with one another and all open pipes, lead a state back to itself.

    Raises:
      MutationError: they would; the message holds the road.
    """
    new: dict[Place, list[Place]] = {
        (source, here._lineage): [(target, there._lineage)] for here, there in pairs.items()
    }
    for here, there in pairs.items():
        goal, start = (source, here._lineage), (target, there._lineage)
        came: dict[Place, Place] = {start: goal}
        places = [start]
        for place in places:  # grows while it is walked: breadth first
            if place == goal:
                break
            for onward in [*new.get(place, ()), *_onward(place)]:
                if onward not in came:
                    came[onward] = place
                    places.append(onward)
        if goal in came:
            road = [goal]
            while len(road) == 1 or road[-1] != goal:
                road.append(came[road[-1]])
            names = " → ".join(f"{machine.schema[state.name]} of {machine.id!r}" for machine, state in reversed(road))
            raise MutationError(f"pipe({here} → {there}) would close a ring: {names}")


def _onward(place: Place) -> list[Place]:
    """Return where the open pipes of a state lead."""
    machine, state = place
    outlet = _outlets.get(machine)
    if outlet is None:
        return []
    return [
        (target, pipe._pairs[here]._lineage)
        for pipe, here in outlet.pipes.get(state, {}).items()
        if (target := pipe.target) is not None
    ]


protect(__name__)
