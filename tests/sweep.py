"""The sweep: run a program over and over, each time disturbed at one more point, until a run ends undisturbed.

A program is an async function that opens its machines in the scope of a `Trial`. A disturbance is what happens to it:
before the k-th step of any task it is cancelled from outside, gets Ctrl-C or has its machines closed; or the n-th call
of a handler raises. After every run the trial checks what has to hold whatever happened (promises P13, P14 and P20).

The sweeps of `trsm.testing` are for users, and see what users can see. This harness looks inside, at what a machine
still holds and whether each thing was told once; what both need, the seeded order of tasks, is theirs.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from trsm import Machine, Schema, State, Transition, Waiter, _opening
from trsm.testing._faults import leaves
from trsm.testing._seeding import repeatable

Program = Callable[["Trial"], Awaitable[None]]


class Fault(Exception):
    """What a disturbance raises in a handler or task."""


class Stop(BaseException):
    """The same, and no `Exception`."""


# ---- Disturbances ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Disturbance:
    """What happens at one point of a run."""

    name: str
    at_step: Callable[[Trial], None] | None = None
    """What is done before a step of a task."""
    at_call: Callable[[Trial], None] | None = None
    """What is done when a handler or task passes `Trial.point`."""

    def __str__(self) -> str:
        return self.name


def _cancel(trial: Trial) -> None:
    trial.scope.cancel()


def _interrupt(trial: Trial) -> None:
    trial.interrupted = True
    signal.raise_signal(signal.SIGINT)


def _close(trial: Trial) -> None:
    for machine in trial.machines[:1]:
        machine.close()


def _raise_fault(trial: Trial) -> None:
    trial.raised = Fault("in a handler")
    raise trial.raised


def _raise_stop(trial: Trial) -> None:
    trial.raised = Stop("in a handler")
    raise trial.raised


CANCEL = Disturbance("cancel", at_step=_cancel)
INTERRUPT = Disturbance("interrupt", at_step=_interrupt)
CLOSE = Disturbance("close", at_step=_close)
FAULT = Disturbance("fault", at_call=_raise_fault)
STOP = Disturbance("stop", at_call=_raise_stop)
INTERRUPT_CALL = Disturbance("interrupt in a call", at_call=_interrupt)
CANCEL_CALL = Disturbance("cancel in a call", at_call=_cancel)
DISTURBANCES = (CANCEL, INTERRUPT, CLOSE, FAULT, STOP, INTERRUPT_CALL, CANCEL_CALL)


# ---- One run --------------------------------------------------------------------------------------------------------


class Trial(trio.abc.Instrument):
    """One run of a program, disturbed at one point, and all that is to be checked of it."""

    def __init__(self, disturbance: Disturbance, number: int) -> None:
        self.disturbance = disturbance
        self.number = number
        self.fired = False
        self.machines: list[Machine] = []
        self.waiters: list[Waiter[object]] = []
        self.diary: dict[tuple[Machine, str], list[str]] = {}
        """What each state of each machine has seen: its entries and exits, in order."""
        self.running = 0
        """How many tasks run that said so, with `Trial.running_task`."""
        self.handled: list[BaseException | None] = []
        """What error states took, as a program notes it."""
        self.violations: list[str] = []
        self.left: BaseException | None = None
        """What left the program."""
        self.raised: BaseException | None = None
        self.interrupted = False
        self.is_complete = False
        """Whether the program came to its end."""
        self._steps = self._calls = 0
        self._is_inside = False

    # What a program calls

    def point(self) -> None:
        """Mark a point in a handler or task at which a disturbance may raise."""
        if self._is_inside and self.disturbance.at_call is not None:
            self._calls += 1
            if self._calls == self.number + 1:
                self.fired = True
                self.disturbance.at_call(self)

    @contextmanager
    def running_task(self) -> Iterator[None]:
        """Count a task while it runs."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    # What it does to a run

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Disturb before the step that is due."""
        if self._is_inside and self.disturbance.at_step is not None:
            self._steps += 1
            if self._steps == self.number + 1:
                self.fired = True
                self.disturbance.at_step(self)

    def run(self, program: Program, seed: int, *, is_jumping: bool = True) -> None:
        """Run a program; `is_jumping`: time passes when nothing else does, so nothing that waits in threads will do."""
        clock = MockClock(autojump_threshold=0) if is_jumping else MockClock()
        with repeatable(seed), self._witnessing():
            try:
                trio.run(self._main, program, clock=clock, instruments=[self])
            except BaseException as error:
                self.left = error

    async def _main(self, program: Program) -> None:
        with trio.CancelScope() as self.scope:
            self._is_inside = True
            try:
                await program(self)
                self.is_complete = True
            finally:
                self._is_inside = False
            await trio.lowlevel.checkpoint()

    @contextmanager
    def _witnessing(self) -> Iterator[None]:
        """Bind a witness ahead of all handlers of every machine, and keep every machine and waiter that is made."""
        made, when_closed = Machine._made, Machine.when_closed
        condition, awaited = Machine._condition, Machine._awaited
        joined, left = Machine._joined_now, _opening._Block.__aexit__

        def make(schema: type[Schema], handlers: tuple[object, ...], *args: object) -> Machine:
            machine = made(schema, (*self._witnesses(schema), *handlers), *args)  # type: ignore[arg-type]
            self.machines.append(machine)
            return machine

        def keep(waiter: Waiter[object]) -> Waiter[object]:
            self.waiters.append(waiter)
            return waiter

        def join(machine: Machine) -> None:
            self._expect(machine._task_count == 0, f"{machine!r} ended before its tasks")
            self._expect(not machine._deferred, f"{machine!r} ended before its cleanups")
            joined(machine)

        @trio.lowlevel.enable_ki_protection
        async def leave(block: object, kind: object, error: BaseException | None, traceback: object) -> bool:
            is_owed = self.scope.cancel_called and any(isinstance(one, trio.Cancelled) for one in leaves(error))
            try:
                is_taken = await left(block, kind, error, traceback)  # type: ignore[arg-type]
            except BaseException as raised:
                self._expect(
                    not is_owed or any(isinstance(one, trio.Cancelled) for one in leaves(raised)),
                    f"a block replaced the cancellation from outside by {raised!r}",
                )
                raise
            self._expect(not (is_owed and is_taken), "a block swallowed the cancellation from outside")
            return is_taken

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Machine, "_made", make)
            patch.setattr(Machine, "_condition", lambda *args: keep(condition(*args)))
            patch.setattr(Machine, "_awaited", lambda *args: keep(awaited(*args)))
            patch.setattr(Machine, "when_closed", lambda machine: keep(when_closed(machine)))
            patch.setattr(Machine, "_joined_now", join)
            patch.setattr(_opening._Block, "__aexit__", leave)
            yield

    def _witnesses(self, schema: type[Schema]) -> Iterator[object]:
        for state in schema:
            if state.name != "Error":  # which handles every error as soon as it has a handler
                yield self._entering(state)
            yield self._leaving(state)

        @schema.on_change
        def change(t: Transition) -> None:
            self._look(t)
            self.point()

        @schema.can_change
        def ask(t: Transition) -> bool:
            self.point()
            return True

        yield change
        yield ask

    def _note(self, t: Transition, state: State[..., object], word: str) -> None:
        self.diary.setdefault((t.machine, state.name), []).append(word)

    def _entering(self, state: State[..., object]) -> object:
        @state.on_enter
        def enter(t: Transition) -> None:
            word = "again" if t.before[state] % 2 else "enter"
            if state.latch:
                # What is latched stays, whatever its handlers raise, and its exit is owed.
                self._note(t, state, word)
            self.point()
            if not state.latch:
                self._note(t, state, word)

        return enter

    def _leaving(self, state: State[..., object]) -> object:
        @state.on_exit
        def leave(t: Transition) -> None:
            self._note(t, state, "exit")
            self.point()

        return leave

    # What is checked

    def _expect(self, condition: object, words: str) -> None:
        if not condition:
            self.violations.append(words)

    def _look(self, t: Transition) -> None:
        """Check a transition as observers see it."""
        machine = t.machine
        relations = machine._definition.relations
        active = machine._active
        for number, name in enumerate(relations.names):
            tick = machine._ticks[number]
            self._expect(tick % 2 == active >> number & 1, f"{t!r}: {name} has tick {tick}")
            if active >> number & 1:
                self._expect(not relations.require[number] & ~active, f"{t!r}: {name} lacks what it requires")
                self._expect(not relations.remove[number] & active, f"{t!r}: {name} stands beside what it removes")
        self._expect(
            all(before <= after for before, after in zip(t.before._values, t.after._values, strict=True)),
            f"{t!r}: a tick went back",
        )

    def check(self) -> None:
        """Check what has to hold after any run."""
        self._expect(self.running == 0, f"{self.running} tasks never ended")
        for machine in self.machines:
            self._expect(machine.closed, f"{machine!r} is open")
            self._expect(machine._is_joined, f"{machine!r} was not joined")
            self._expect(not machine._active and not any(tick % 2 for tick in machine._ticks), f"{machine!r} is active")
            held = (machine._subscriptions, machine._scopes, machine._slots, machine._deferred or None)
            self._expect(held == (None, None, None, None), f"{machine!r} holds {held}")
            self._expect(machine._task_count == 0, f"{machine!r} has {machine._task_count} tasks")
            self._expect(machine.children == (), f"{machine!r} has children")
            self._expect(not (machine._queue or machine._firsts or machine._faults), f"{machine!r} has a queue")
            self._expect(not (machine._unhandled or machine._escaped), f"{machine!r} keeps errors to itself")
        for waiter in self.waiters:
            self._expect(waiter.done, f"{waiter!r} was never told")
        for (machine, name), entries in self.diary.items():
            lives = " ".join(entry for entry in entries if entry != "again")
            wanted = " ".join(["enter exit"] * (len(lives.split()) // 2))
            if name != "Error":
                self._expect(lives == wanted, f"{name} of {machine!r} had {lives}")
        self._check_what_left()
        assert not self.violations, (self.disturbance.name, self.number, self.violations)

    def _check_what_left(self) -> None:
        """Check that what was raised, and nothing else, left the program or was handled; and that it did so once."""
        left = leaves(self.left)
        if self.raised is not None:
            times = sum(one is self.raised for one in [*left, *self.handled])
            self._expect(times == 1, f"{self.raised!r} was told {times} times: {left} {self.handled}")
        interrupts = sum(isinstance(one, KeyboardInterrupt) for one in left)
        self._expect(interrupts == self.interrupted, f"Ctrl-C came out {interrupts} times")
        strangers = [one for one in left if one is not self.raised and not isinstance(one, KeyboardInterrupt)]
        self._expect(not strangers, f"strange errors: {strangers}")
        if self.scope.cancel_called:
            # The checkpoint at the end of `_main` meets a cancellation that nobody met before.
            self._expect(self.scope.cancelled_caught or left, "the cancellation was swallowed")
        elif self.left is None:
            self._expect(self.is_complete, "the program stopped, and nothing says why")


# ---- All runs -------------------------------------------------------------------------------------------------------


def sweep(
    program: Program,
    disturbance: Disturbance,
    *,
    seeds: Iterable[int] = (0,),
    is_jumping: bool = True,
    check: Callable[[Trial], None] = Trial.check,
    limit: int = 2000,
) -> int:
    """Run a program disturbed at its first point, its second, … until one run ends undisturbed; return how many were.

    Raises:
      AssertionError: something did not hold after a run; or `limit` runs did not suffice.
    """
    points = 0
    for seed in seeds:
        for number in range(limit):
            trial = Trial(disturbance, number)
            trial.run(program, seed, is_jumping=is_jumping)
            check(trial)
            if not trial.fired:
                points += number
                break
        else:
            raise AssertionError(f"{limit} runs with {disturbance.name} did not come to the end of {program!r}")
    return points
