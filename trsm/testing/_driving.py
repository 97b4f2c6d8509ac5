"""A machine that is driven step by step from code that is not async: trio as a guest that moves only when it is told.

Hypothesis calls the steps of a state machine one by one, and draws each with a look at what became of those before. So
trio runs as a guest (`trio.lowlevel.start_guest_run`) whose host is nothing but a queue: a step takes turns from it
until what it asked for is done, and then everything stands still. Time is a `MockClock` that the steps move.
"""

from __future__ import annotations

import contextvars
import math
import queue
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar, cast

import outcome
import trio
from trio.testing import MockClock

from trsm import Machine, Observed, Result, Saboteur, Schema, open_machine, tracing
from trsm.testing._faults import Hung, leaves
from trsm.testing._laws import Laws, left_over
from trsm.testing._mutations import Mutation
from trsm.testing._resting import descendants, rest
from trsm.testing._seeding import abort, fail_step, repeatable

T = TypeVar("T")

TURNS = 20_000
"""How many turns a step may take; each is one step of every task that is due."""
FEWER_TURNS = 500
"""How many it may take at least once a step has hung, while Hypothesis looks for a shorter way to that."""
LAST_TURNS = 200
"""How many turns what is left is given to end."""
JUMPS = 1_000
"""How many deadlines one step may let pass one by one; after these, time passes at once."""


class Patience:
    """How many turns a step may take: once one has hung, no more than a few times what others have taken to end."""

    def __init__(self) -> None:
        self.has_hung = False
        self._most = 0
        """How many turns the longest step has taken that came to its end."""

    @property
    def turns(self) -> int:
        """How many turns the next step may take."""
        return min(TURNS, max(FEWER_TURNS, 5 * self._most)) if self.has_hung else TURNS

    def note(self, turns: int) -> None:
        """Note how many a step has taken that came to its end."""
        self._most = max(self._most, turns)


class Guest:
    """A trio run that goes on only while somebody waits for `ask`."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.is_stuck = False
        """Whether something that was asked for did not end."""
        self.clock = MockClock()
        self._turns: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._asked: Callable[[], Awaitable[object]] | None = None
        self._answer: outcome.Outcome[object] | None = None
        self._asking = trio.CancelScope()
        self._ended: outcome.Outcome[None] | None = None
        self._is_over = False
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._turns.put,
            run_sync_soon_not_threadsafe=self._turns.put,
            done_callback=self._done,
            clock=self.clock,
        )

    def _done(self, ended: outcome.Outcome[None]) -> None:
        self._ended = ended

    async def _main(self) -> None:
        while not self._is_over:
            assert self._asked is not None  # nobody takes turns who has not asked
            with trio.CancelScope() as self._asking:
                self._answer = await outcome.acapture(self._asked)
            # A checkpoint and no sleep: a trio that sleeps waits in a thread, and is not where the next step finds it.
            await trio.lowlevel.checkpoint()

    def ask(self, function: Callable[[], Awaitable[T]]) -> T:
        """Let trio run until an async function has been called and has ended, and no further; return its value.

        Raises:
          AssertionError: that took too many turns.
        """
        self._asked, self._answer = function, None
        most = self._patience.turns
        if not self._turned(most, lambda: self._answer is not None) and not self.has_ended:
            self._patience.has_hung = self.is_stuck = True
            self._asking.cancel()
            self._turned(LAST_TURNS, lambda: self._answer is not None)
            raise AssertionError(f"hung: {most:,} turns of all tasks did not suffice; tasks never come to rest")
        answer = cast("outcome.Outcome[T] | None", self._answer)
        if answer is None or (isinstance(answer, outcome.Error) and isinstance(answer.error, trio.Cancelled)):
            self._turned(LAST_TURNS, lambda: False)
            assert isinstance(self._ended, outcome.Error)  # nothing else cancels whoever asks
            raise AssertionError(f"trio itself has failed: {leaves(self._ended.error)}") from self._ended.error
        return answer.unwrap()

    @property
    def has_ended(self) -> bool:
        """Whether trio has ended, by itself or as it was told."""
        return self._ended is not None

    def end(self) -> None:
        """End the run. There is nothing left in it: see `Life.end`."""
        self._is_over = True
        self._turned(LAST_TURNS, lambda: False)

    def _turned(self, turns: int, is_enough: Callable[[], bool]) -> bool:
        """Take turns until it is enough, and return whether it came to that; trio may end before."""
        for number in range(turns):
            if self.has_ended or is_enough():
                self._patience.note(number)
                break
            self._turns.get()()
        return is_enough()


class Armed(Saboteur):
    """Makes one call of a handler or task fail, when it has been told to."""

    def __init__(self) -> None:
        self._errors: dict[int, BaseException] = {}
        """How many calls to let pass -> what the next one raises."""
        self.raised: list[BaseException] = []

    def arm(self, after: int, error: BaseException) -> None:
        """Let `after` calls pass; the next one raises."""
        self._errors[after] = error

    def disarm(self) -> None:
        """Let all calls pass."""
        self._errors.clear()

    def fault(self, machine: Observed, transition: object, handler: str, kind: str) -> BaseException | None:
        """Return what is due."""
        error = self._errors.pop(0, None)
        self._errors = {after - 1: later for after, later in self._errors.items()}
        if error is not None:
            self.raised.append(error)
        return error


class Life:
    """A machine from its opening to its end, the laws that are checked on the way, and the trio that it lives in."""

    machine: Machine
    handlers: tuple[object, ...]
    """What is bound to it."""

    def __init__(
        self,
        schema: type[Schema],
        make_handlers: Callable[[], list[object]],
        options: Mapping[str, Any],
        *,
        patience: Patience,
        expected: tuple[type[BaseException], ...] = (),
        seed: int = 0,
    ) -> None:
        if trio.lowlevel.in_trio_run():
            raise RuntimeError(
                "MachineRules runs trio itself: drive it in a sync test, and call teardown() of one that you made by "
                "hand"
            )
        self._schema = schema
        self._expected = expected
        self._make_handlers = make_handlers
        self._options = options
        self._patience = patience
        self._left: list[BaseException] = []
        self._is_told = False
        """Whether something did not hold, so that nothing else is worth saying."""
        self._is_over = True
        self._scope = trio.CancelScope()
        self._task: trio.lowlevel.Task | None = None
        """Who lives in the machine's block."""
        self.armed = Armed()
        self.laws = Laws()
        self._stack = ExitStack()
        self._stack.enter_context(repeatable(seed))
        self._context = contextvars.copy_context()
        try:
            self._guest = self._context.run(self._started)
            self._stack.callback(self._guest.end)
            self.open()
        except BaseException:
            self._stack.close()
            raise

    def _started(self) -> Guest:
        with tracing(self.laws, self.armed):
            return Guest(self._patience)  # its tasks have this context

    def open(self) -> None:
        """Open the machine, again if it has ended."""
        self.laws.forget()
        self.armed.disarm()
        handlers = self._make_handlers()
        self.handlers = tuple(handlers)

        async def begin() -> None:
            opened: list[outcome.Outcome[Machine]] = []

            async def live() -> None:
                self._task = trio.lowlevel.current_task()
                try:
                    with self._scope:
                        async with open_machine(self._schema, *handlers, **self._options) as machine:
                            opened.append(outcome.Value(machine))
                            await trio.sleep_forever()
                except BaseException as error:
                    if not opened:
                        opened.append(outcome.Error(error))
                    else:
                        self._left += leaves(error)
                finally:
                    self._is_over = True

            self._scope = trio.CancelScope()
            self._is_over = False
            trio.lowlevel.spawn_system_task(live, context=contextvars.copy_context())
            while not opened:
                await trio.lowlevel.checkpoint()
            self.machine = opened[0].unwrap()

        self._guest.ask(begin)

    @property
    def is_over(self) -> bool:
        """Whether the machine has closed and its block was left."""
        return self._is_over

    def mutate(self, mutation: Mutation, *, wait: bool) -> Result:
        """Make a mutation, and wait until all tasks are blocked."""

        async def make() -> Result:
            return mutation.apply(self.machine)

        result = self._guest.ask(make)
        self._after(wait)
        return result

    def call(self, function: Callable[[], T]) -> T:
        """Call a sync function inside of trio, and wait until all tasks are blocked."""

        async def make() -> T:
            return function()

        value = self._guest.ask(make)
        self._after(True)
        return value

    def sleep(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""

        async def passing() -> None:
            until = trio.current_time() + seconds
            for _ in range(JUMPS):
                await rest()
                ahead = trio.lowlevel.current_statistics().seconds_to_next_deadline
                if trio.current_time() + ahead > until:
                    break
                self._guest.clock.jump(max(ahead, 0.0))
            self._guest.clock.jump(max(until - trio.current_time(), 0.0))
            await rest()

        self._guest.ask(passing)
        self._after(False)

    def cancel(self) -> None:
        """Cancel the block from outside, and wait for its end."""
        self._scope.cancel("by the test")
        self._after(True)

    def close(self) -> None:
        """Close the machine, and wait for the end of its block."""
        self.call(self.machine.close)

    def _after(self, wait: bool) -> None:
        """Wait, see a machine that closes to its end, and check what has to hold."""
        if wait:
            self._guest.ask(rest)
        if self.machine.closed or self._scope.cancel_called or self._is_over:
            self._guest.ask(self._ending)
        self.check()

    async def _ending(self) -> None:
        while not self._is_over:
            await rest()
            if self._is_over:
                return
            ahead = trio.lowlevel.current_statistics().seconds_to_next_deadline
            if ahead == math.inf:
                self._is_told = True
                raise AssertionError(
                    f"hung: {self.machine!r} closes, and does not come to its end, however much time passes:\n"
                    f"{self.machine.describe()}"
                )
            self._guest.clock.jump(max(ahead, 0.0))

    def check(self) -> None:
        """Check the laws, and what left the block.

        Raises:
          AssertionError: something did not hold.
        """
        broken = list(self.laws.violations)
        for error in self._left:
            if not isinstance(error, self._expected) and not any(error is one for one in self.armed.raised):
                broken.append(f"{error!r} left the block of the machine, and nobody had asked for it")
        if self._is_over:
            broken += left_over(self.laws.machines)
        if broken:
            self._is_told = True
            raise AssertionError("\n".join(broken)) from next(iter(self._left), None)

    def end(self) -> None:
        """Close the machine, check once more unless something was wrong before, and end trio."""
        try:
            if not (self._is_over or self._is_told or self._guest.is_stuck):
                self.close()
        finally:
            if not self._guest.has_ended:
                self._guest.ask(self._clear)
            self._stack.close()

    async def _clear(self) -> None:
        """End what did not end: let time pass, and then by force."""
        self._scope.cancel("the test is over")
        for number in range(LAST_TURNS):  # pragma: no branch - what takes even that is beyond help
            if self._is_over:
                return
            await trio.lowlevel.checkpoint()
            ahead = trio.lowlevel.current_statistics().seconds_to_next_deadline
            if 0 < ahead < math.inf:
                self._guest.clock.jump(ahead)
            if number > LAST_TURNS // 2:
                assert self._task is not None  # it is not over, so it began
                for task in descendants(self._task):
                    abort(task, Hung("it did not end otherwise"))
                    fail_step(task, Hung("it did not end otherwise"))
