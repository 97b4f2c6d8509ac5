"""Pipes: activations and deactivations of one machine's states, with their arguments, carried over to another."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import cast
from weakref import WeakKeyDictionary, WeakSet

import attrs

from trsm._core._engine import Binding
from trsm._core._errors import MutationError, QueueFull, SchemaError
from trsm._core._mutation import Canceled, Queued, Result
from trsm._core._schema import missing_arguments
from trsm._core._state import Call, State
from trsm._core._transition import Transition
from trsm._machine import Machine
from trsm._protection import protect

logger = logging.getLogger("trsm")

KEPT = 100
"""How many refusals a pipe remembers; all are counted."""

AnyState = State[..., object]
_pipes: WeakKeyDictionary[Machine, WeakSet[Pipe]] = WeakKeyDictionary()
"""Source -> its pipes, so that rings are found."""


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
    """Mutations that the target has accepted, or queued and not yet judged."""
    refused: int
    """Mutations that the target refused, or had no room for."""
    waiting: int
    """Mutations that wait in the target's queue."""


class Pipe:
    """What `pipe` returns: an open pipe from one machine to another. Close it with `close`, or with either machine."""

    __slots__ = (
        "__weakref__",
        "_binding",
        "_carried",
        "_pairs",
        "_refusals",
        "_refused",
        "_source",
        "_target",
        "_waiting",
    )

    def __init__(self, source: Machine, target: Machine, pairs: dict[AnyState, AnyState]) -> None:
        # Weak: the source holds the pipe by its handlers, and a circle would be garbage for the collector.
        self._source = weakref.ref(source)
        self._target = weakref.ref(target)
        self._pairs = pairs
        self._binding: list[Binding] | None = []
        self._carried = 0
        self._refused = 0
        self._refusals: deque[PipeRefusal] = deque(maxlen=KEPT)
        self._waiting: deque[tuple[AnyState, str, Queued]] = deque()

    @property
    def source(self) -> Machine | None:
        """The machine that is listened to; None if it is gone."""
        return self._source()

    @property
    def target(self) -> Machine | None:
        """The machine that is changed; None if it is gone."""
        return self._target()

    def _open(self, source: Machine, target: Machine) -> None:
        _pipes.setdefault(source, WeakSet()).add(self)
        assert self._binding is not None  # it is new
        for here, there in self._pairs.items():
            for function in (self._entering(here, there), self._leaving(here, there)):
                function.__qualname__ = f"pipe({here} → {there} of {target.id})"
                self._binding.append(source.bind(function))

    def _entering(self, here: AnyState, there: AnyState) -> Callable[[Transition], None]:
        is_typed = there.args is not None and here.args is there.args

        @here.on_enter
        def carry(t: Transition) -> None:
            self._carry(there, "add", Call(there, t.args_of(here)) if is_typed else there, t.args)

        return carry

    def _leaving(self, here: AnyState, there: AnyState) -> Callable[[Transition], None]:
        @here.on_exit
        def carry(t: Transition) -> None:
            self._carry(there, "remove", there, t.args)

        return carry

    def _carry(self, there: AnyState, kind: str, call: AnyState | Call[object], args: Mapping[str, object]) -> None:
        """Hand one change over; what does not get through is noted, and never an error of the source."""
        target = self.target
        if self._binding is None or target is None:
            return
        self._judge()
        mutate = target.add if kind == "add" else target.remove
        try:
            result = cast("Callable[..., Result]", mutate)(call, **args)
        except QueueFull as error:
            self._refuse(there, kind, str(error))
            return
        if isinstance(result, Queued):
            self._waiting.append((there, kind, result))
        if isinstance(result, Canceled):
            if target.closed:
                self.close()
            else:
                self._refuse(there, kind, result.reason)
        else:
            self._carried += 1

    def _refuse(self, state: AnyState, kind: str, reason: str) -> None:
        self._refused += 1
        self._refusals.append(PipeRefusal(state, kind, reason))
        logger.warning(
            "%r: %s(%s) was refused: %s",
            self,
            kind,
            state,
            reason,
        )

    def _judge(self) -> None:
        """See what became of those that had to wait in the target's queue."""
        while self._waiting and self._waiting[0][2].outcome is not None:
            state, kind, result = self._waiting.popleft()
            if isinstance(result.outcome, Canceled):
                self._carried -= 1
                self._refuse(state, kind, result.outcome.reason)

    @property
    def closed(self) -> bool:
        """Whether it carries nothing any more: it was closed, or one of the two machines was."""
        source, target = self.source, self.target
        return self._binding is None or source is None or target is None or source.closed or target.closed

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

        For a pipe that was made late. The arguments of activations that happened before are not known any more.

        Raises:
          MutationError: the pipe is closed.
        """
        source, target = self.source, self.target
        if self.closed or source is None or target is None:
            raise MutationError(f"sync() of {self!r}, which carries nothing any more: open another")
        for here, there in self._pairs.items():
            if source.is_active(here) is not target.is_active(there):
                self._carry(there, "add" if source.is_active(here) else "remove", there, {})

    def close(self) -> None:
        """Carry nothing any more; what was carried stays. Doing so twice is fine."""
        bindings, self._binding = self._binding, None
        for binding in bindings or ():
            binding.detach()

    def __repr__(self) -> str:
        pairs = ", ".join(f"{here} → {there}" for here, there in self._pairs.items())
        ends = " → ".join("gone" if machine is None else repr(machine.id) for machine in (self.source, self.target))
        return f"<Pipe {ends}: {pairs}{' closed' if self.closed else ''}>"


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
    it is removed. Each is an ordinary mutation of the target, made in the source's final handlers: in order and at
    once, or queued if the target is in a transition. What the target refuses or has no room for is in
    `Pipe.refusals`, and logged.

    Args:
      source: the machine that is listened to.
      states: a state of `source`, several, or a mapping of its states to states of `target`.
      target: the machine that is changed.
      to: as many states of `target`, in the same order. Default: those with the same names.
      sync: whether to catch up at once with what is active now; see `Pipe.sync`. Default False.

    Returns:
      The open pipe. It closes with either machine, or by `Pipe.close`.

    Raises:
      MutationError: no state is given, one is piped twice, there are not as many of one as of the other, the pipe
        would close a ring that leads a state back to itself, or a machine is closed.
      SchemaError: a state of the target needs arguments that the source's state does not have.
      UnknownState: a state is not one of its machine's schema, or the target has none of that name.
      WrongThread: one of the machines belongs to another thread.
    """
    pairs = _paired(states, target, to)
    for here, there in pairs.items():
        source.is_active(here)  # refuses what is no state of the source, and a foreign thread
        target.is_active(there)
        if there.args is not None and there.args is not here.args and missing_arguments(there.args):
            needed = ", ".join(missing_arguments(there.args))
            raise SchemaError(
                f"pipe({here} → {there}): {there} needs {needed}, which {here} does not carry: give both the same args "
                "class, or the fields defaults"
            )
        road = _road(target, there, source, here)
        if road is not None:
            raise MutationError(f"pipe({here} → {there}) would close a ring: {' → '.join([str(here), *road])}")
    for machine in (source, target):
        if machine.closed:
            raise MutationError(f"pipe(…): machine {machine.id!r} is closed")
    made = Pipe(source, target, pairs)
    made._open(source, target)
    if sync:
        made.sync()
    return made


def _several(states: AnyState | Iterable[AnyState]) -> list[AnyState]:
    return [states] if isinstance(states, State) else list(states)


def _paired(
    states: AnyState | Iterable[AnyState] | Mapping[AnyState, AnyState],
    target: Machine,
    to: AnyState | Iterable[AnyState] | None,
) -> dict[AnyState, AnyState]:
    if isinstance(states, Mapping):
        if to is not None:
            raise MutationError("pipe(…): a mapping says where its states lead; leave out the last argument")
        pairs = list(cast("Mapping[AnyState, AnyState]", states).items())
    else:
        here = _several(states)
        there = [target.schema[str(state)] for state in here] if to is None else _several(to)
        if len(here) != len(there):
            raise MutationError(f"pipe(…): {len(here)} states cannot be piped to {len(there)}: give as many of both")
        pairs = list(zip(here, there, strict=True))
    if not pairs:
        raise MutationError("pipe(…) names no state: give at least one")
    if len(dict(pairs)) != len(pairs):
        raise MutationError("pipe(…): a state is piped twice: make two pipes")
    return dict(pairs)


def _road(machine: Machine, state: AnyState, goal: Machine, end: AnyState) -> list[str] | None:
    """Return the names along open pipes from one machine's state to another's, or None if there is no such road."""
    name = f"{state} of {machine.id}"
    if machine is goal and str(state) == str(end):
        return [name]
    for one in _pipes.get(machine, ()):
        onward = one.target
        if one.closed or onward is None:
            continue
        for here, there in one._pairs.items():
            if str(here) == str(state):
                road = _road(onward, there, goal, end)
                if road is not None:
                    return [name, *road]
    return None


protect(__name__)
