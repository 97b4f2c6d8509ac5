"""State tasks: never outside their instance, cancelled with it, never beside their successor (DESIGN section 6)."""

from __future__ import annotations

import contextvars
import gc
import logging
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TypedDict

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import (
    Canceled,
    ErrorState,
    HandlerError,
    Machine,
    Observed,
    QueueFull,
    Result,
    Schema,
    State,
    Tracer,
    Transition,
)


@attrs.frozen
class Page:
    url: str = "/"


class Job(Schema):
    Work = State()
    Other = State()
    Done = State(remove=Work)
    Kept = State()
    Guard = State(remove=Kept)
    Ping = State(multi=True)
    Pong = State(multi=True)
    Read = State(args=Page)
    ErrOs = ErrorState(catches=OSError)
    ErrStop = ErrorState(catches=KeyError, remove=[Work, Ping])
    ErrSlow = ErrorState(catches=trio.TooSlowError)
    ErrFull = ErrorState(catches=QueueFull)
    ErrHandler = ErrorState(catches=HandlerError)


Task = Callable[[Transition], Awaitable[object]]


class Pace:
    """Tasks that note what they do, and clean up, shielded, until they are let go."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []
        self.running = 0
        self.most = 0
        self.release = trio.Event()

    @contextmanager
    def counted(self, t: Transition) -> Generator[None]:
        self.log.append(("begin", t.tick))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield
        finally:
            self.running -= 1
            self.log.append(("end", t.tick))

    async def slow(self, t: Transition) -> None:
        """Run until cancelled; then clean up until released."""
        with self.counted(t):
            try:
                await trio.sleep_forever()
            finally:
                self.log.append(("cancelled", t.tick))
                with trio.CancelScope(shield=True):
                    await self.release.wait()

    async def quick(self, t: Transition) -> None:
        """Run until cancelled."""
        with self.counted(t):
            await trio.sleep_forever()

    def of(self, kind: str) -> list[int]:
        return [tick for what, tick in self.log if what == kind]


def task(mark: Callable[[Task], Task], run: Task) -> Task:
    """A handler that runs this, as marked."""

    @mark
    async def task_of_test(t: Transition) -> object:
        return await run(t)

    return task_of_test


async def forever(t: Transition) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def errors_of(errors: list[BaseException]) -> AsyncIterator[None]:
    """Collect what leaves a machine's block."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors.extend(group.exceptions)


@contextmanager
def untraced() -> Generator[None]:
    """Switch off what measures coverage: very many rounds cover nothing new, and take ten times as long under it."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def living(machine: Machine) -> list[str]:
    """The names of the tasks in the machine's nursery, without the machine's id."""
    return sorted(task.name.split(": ")[1].rsplit(".")[-1] for task in machine._nursery.child_tasks)


# ---- None outside its instance --------------------------------------------------------------------------------------


async def test_task_runs_while_its_state_is_active() -> None:
    """It begins after the transition's finals and before waiters wake up, and is cancelled when the state leaves."""
    log: list[str] = []

    class Handlers:
        @Job.Work.on_enter
        @Job.Other.on_enter
        def enter(self, t: Transition) -> None:
            log.append("on_enter")

        @Job.on_change
        def change(self, t: Transition) -> None:
            log.append("on_change")

        @Job.Work.task
        async def work(self, t: Transition) -> None:
            assert t.called == (Job.Work,) and t.machine.is_active(Job.Work)
            log.append("task")
            try:
                await trio.sleep_forever()
            finally:
                log.append("cancelled")

    async with trsm.open_machine(Job, Handlers()) as machine:
        assert living(machine) == []
        machine.add(Job.Work)
        assert log == ["on_enter", "on_change"]
        assert living(machine) == ["work"]
        await wait_all_tasks_blocked()
        assert log == ["on_enter", "on_change", "task"]
        machine.remove(Job.Work)
        await wait_all_tasks_blocked()
        assert log == ["on_enter", "on_change", "task", "on_change", "cancelled"]
        assert living(machine) == []


async def test_state_leaves_before_the_first_step() -> None:
    """A task whose instance ended before its first step never runs; the one of the next instance does, once."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Work.task, pace.quick)) as machine:
        machine.add(Job.Work)
        machine.remove(Job.Work)
        machine.add(Job.Work)
        assert len(living(machine)) == 2
        await wait_all_tasks_blocked()
        assert pace.log == [("begin", 3)]
        assert len(living(machine)) == 1


async def test_machine_closes_before_the_first_step() -> None:
    """A task whose machine closes before its first step never runs."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Work.task, pace.quick)) as machine:
        machine.add(Job.Work)
        machine.close()
    assert pace.log == []


async def test_state_leaves_in_the_same_drain() -> None:
    """A state that leaves later in the same drain never begins its task, nor does one that a fault removes."""
    pace = Pace()

    @Job.Other.on_enter
    def flash(t: Transition) -> None:
        t.machine.add(Job.Work)
        t.machine.remove(Job.Work)

    @Job.Work.on_enter
    def fail(t: Transition) -> None:
        raise OSError

    async with trsm.open_machine(Job, task(Job.Work.task, pace.quick), flash) as machine:
        machine.add(Job.Other)
        assert machine.tick(Job.Work) == 2
        await wait_all_tasks_blocked()
        machine.detach(flash)
        machine.bind(fail)
        machine.add(Job.Work)
        assert machine.tick(Job.Work) == 4
        assert living(machine) == []
        await wait_all_tasks_blocked()
    assert pace.log == []


async def test_state_fails_to_enter_and_was_active_before() -> None:
    """A multi state that was active before a fault stays, and its task of that activation starts."""
    pace = Pace()

    class Handlers:
        @Job.Ping.on_enter
        def fail(self, t: Transition) -> None:
            if t.args:
                raise OSError

    async with trsm.open_machine(Job, Handlers(), task(Job.Ping.task, pace.quick)) as machine:
        machine.add(Job.Ping)
        machine.add(Job.Ping, fail=True)
        await wait_all_tasks_blocked()
        assert sorted(pace.of("begin")) == [1, 2]


async def test_handlers_bound_while_the_state_is_active() -> None:
    """`bind()` replays nothing for states already active; `detach()` lets what runs go on."""
    pace = Pace()
    handler = task(Job.Work.task, pace.quick)
    async with trsm.open_machine(Job) as machine:
        machine.add(Job.Work)
        machine.bind(handler)
        await wait_all_tasks_blocked()
        assert pace.log == []
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.detach(handler)
        await wait_all_tasks_blocked()
        assert pace.log == [("begin", 3)]
        machine.remove(Job.Work)
        await wait_all_tasks_blocked()
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert pace.log == [("begin", 3), ("end", 3)]


# ---- Cancelled in the same step -------------------------------------------------------------------------------------


async def test_task_is_cancelled_before_the_mutation_returns() -> None:
    """The cancellation reaches a task in the commit that deactivates its state, before any final handler."""
    log: list[str] = []

    class Handlers:
        @Job.Work.task
        async def wait(self, t: Transition) -> None:
            def abort(raise_cancel: object) -> trio.lowlevel.Abort:
                log.append("abort")
                assert t.machine.is_inactive(Job.Work)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)

        @Job.Work.can_exit
        def ask(self, t: Transition) -> bool:
            log.append("can_exit")
            return True

        @Job.Work.on_exit
        def leave(self, t: Transition) -> None:
            log.append("on_exit")

    async with trsm.open_machine(Job, Handlers()) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert machine.add(Job.Work).executed
        assert log == []
        machine.remove(Job.Work)
        assert log == ["can_exit", "abort", "on_exit"]


@pytest.mark.parametrize(
    ("how", "by"),
    [
        (lambda machine: machine.remove(Job.Work), "2 of machine 'm', by <Transition 2 remove: -Work>"),
        (lambda machine: machine.add(Job.Done), "2 of machine 'm', by <Transition 2 add: +Done -Work>"),
        (
            lambda machine: machine.add_error(KeyError()),
            "2 of machine 'm', by <Transition 2 error: +Error +ErrStop -Work>",
        ),
        (lambda machine: machine.close(), "2 of machine 'm', by <Transition 2 close: -Work>"),
    ],
    ids=["remove", "add", "error", "close"],
)
async def test_reason_of_a_cancelled_task(how: Callable[[Machine], object], by: str) -> None:
    """The cancellation of a task says which state was left, at which tick, and by which transition."""
    reasons: list[str | None] = []

    @Job.Work.task
    async def work(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            reasons.append(cancelled.reason)
            raise

    async with trsm.open_machine(Job, work, id="m") as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        how(machine)
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
    assert reasons == [f"Work left at tick {by}"]


@pytest.mark.parametrize("other", ["while_active", "while_inactive", "waiter"])
async def test_others_look_after_the_state_of_a_task(other: str) -> None:
    """A task is cancelled with its state also after scopes and waiters of that state have come and gone."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Work.task, pace.quick)) as machine:
        if other == "while_inactive":
            with machine.while_inactive(Job.Work):
                machine.add(Job.Work)
                machine.remove(Job.Work)
            with machine.while_inactive(Job.Work):
                pass
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        if other == "while_active":
            with machine.while_active(Job.Work):
                pass
        if other == "waiter":
            waiter = machine.when_not(Job.Work)
            del waiter
        assert pace.running == 1
        machine.remove(Job.Work)
        await wait_all_tasks_blocked()
        assert pace.running == 0


async def test_task_removes_its_own_state() -> None:
    """It goes on to its next checkpoint, and ends there; the mutation itself returns."""
    log: list[object] = []

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> None:
        log.append(t.machine.remove(Job.Work))
        log.append(t.machine.add(Job.Other))
        await trio.lowlevel.checkpoint()
        pytest.fail("a checkpoint after the end")

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert [repr(one) for one in log] == ["<Executed>", "<Executed>"]
        assert machine.active_states == (Job.Other,)
        assert living(machine) == []


async def test_task_begins_a_new_instance_of_its_own_state() -> None:
    """A task that removes and adds its own state belongs to the old instance: it ends, and its successor begins."""
    pace = Pace()

    async def work(t: Transition) -> None:
        with pace.counted(t):
            if t.tick == 1:
                t.machine.remove(Job.Work)
                t.machine.add(Job.Work)
            await trio.sleep_forever()

    async with trsm.open_machine(Job, task(Job.Work.task, work)) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert pace.log == [("begin", 1), ("end", 1), ("begin", 3)]
        assert machine.is_active(Job.Work)


async def test_task_ignores_its_cancellation() -> None:
    """Inactive does not mean joined: such a task runs on, its state is inactive, its successor and the block wait."""
    pace = Pace()

    async def deaf(t: Transition) -> None:
        with pace.counted(t):
            with trio.CancelScope(shield=True):
                await pace.release.wait()

    async with trsm.open_machine(Job, task(Job.Work.task(then=Job.Done), deaf)) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert pace.log == [("begin", 1)]
        assert machine.is_active(Job.Work)
        machine.close()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert pace.running == 1 and machine.closed
        pace.release.set()
    assert pace.log == [("begin", 1), ("end", 1)]
    assert machine.ticks_at_close is not None and not machine.ticks_at_close.is_active(Job.Done)


async def test_task_swallows_its_cancellation() -> None:
    """A task that catches the cancellation and returns has ended; it did not return in its instance: no `then=`."""
    ended: list[int] = []

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            ended.append(t.tick)
        return "value"

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        machine.add(Job.Work)  # the state is active, but it is another instance
        await wait_all_tasks_blocked()
        assert ended == [1] and machine.is_active(Job.Work) and machine.tick(Job.Done) == 0


async def test_task_with_nurseries_is_cancelled() -> None:
    """All that a task has started is cancelled with it, and joined before the successor begins."""
    log: list[str] = []
    release = trio.Event()

    async def helper(slow: bool) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if slow:
                with trio.CancelScope(shield=True):
                    await release.wait()
            log.append("helper ended")

    @Job.Work.task
    async def work(t: Transition) -> None:
        log.append("begin")
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            outer.start_soon(helper, True)
            inner.start_soon(helper, False)

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert log == ["begin", "helper ended"]
        release.set()
        await wait_all_tasks_blocked()
        assert log == ["begin", "helper ended", "helper ended", "begin"]
        assert machine.is_inactive(Job.Error)


# ---- Never beside its successor -------------------------------------------------------------------------------------


async def test_successor_waits_for_slow_cleanup() -> None:
    """A successor begins when the old instance's task is done with its cleanup, not before."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Work.task, pace.slow)) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        await wait_all_tasks_blocked()
        assert machine.is_inactive(Job.Work) and pace.running == 1
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert pace.log == [("begin", 1), ("cancelled", 1)]
        pace.release.set()
        await wait_all_tasks_blocked()
        assert pace.log == [("begin", 1), ("cancelled", 1), ("end", 1), ("begin", 3)]


async def test_only_the_latest_of_several_waiting_instances_counts() -> None:
    """Instances that ended while they waited never begin, however many there were."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Work.task, pace.slow)) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        for number in range(5):
            machine.remove(Job.Work)
            if number % 2:
                await wait_all_tasks_blocked()
            machine.add(Job.Work)
            if number % 3:
                await wait_all_tasks_blocked()
        assert pace.most == 1 and pace.of("begin") == [1]
        pace.release.set()
        await wait_all_tasks_blocked()
        assert pace.of("begin") == [1, 11] and pace.most == 1
        assert len(living(machine)) == 1


async def test_waiting_instance_ends_and_no_other_follows() -> None:
    """A successor that is removed while it waits never begins, and what waits for it in the nursery is gone at once."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Work.task, pace.slow)) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        await wait_all_tasks_blocked()
        assert len(living(machine)) == 1
        pace.release.set()
        await wait_all_tasks_blocked()
        assert pace.of("begin") == [1]
        assert living(machine) == []
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert pace.of("begin") == [1, 5]


@pytest.mark.parametrize("follows", [True, False])
async def test_waiting_instance_ends_in_the_step_in_which_it_was_woken(follows: bool) -> None:
    """A successor is woken by its predecessor's end, and its state leaves in that very step: it never begins.

    Trio cannot cancel a wait that is over; the task must look again.
    """
    pace = Pace()

    async def failing(t: Transition) -> None:
        assert t.machine.is_active(Job.Work)
        try:
            await pace.slow(t)
        finally:
            if t.tick == 1:
                raise KeyError  # ErrStop removes Work, in the step in which the task ends

    class Handlers:
        @Job.ErrStop.on_enter
        def again(self, t: Transition) -> None:
            if follows:
                t.machine.mutate(add=Job.Work, remove=Job.ErrStop)

    async with trsm.open_machine(Job, task(Job.Work.task, failing), Handlers()) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert pace.of("begin") == [1]
        pace.release.set()
        await wait_all_tasks_blocked()
        assert machine.tick(Job.Work) == (5 if follows else 4)
        assert pace.of("begin") == [1, 5] if follows else [1]
        assert pace.most == 1 and len(living(machine)) == int(follows)
        pace.release.set()


async def test_outside_cancellation_reaches_a_task_that_waits_for_its_predecessor() -> None:
    """A machine that is cancelled from outside ends while an instance waits for the one before."""
    pace = Pace()
    with trio.CancelScope() as outside:
        async with trsm.open_machine(Job, task(Job.Work.task, pace.slow)) as machine:
            machine.add(Job.Work)
            await wait_all_tasks_blocked()
            machine.remove(Job.Work)
            machine.add(Job.Work)
            await wait_all_tasks_blocked()
            pace.release.set()
            outside.cancel()
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert pace.of("begin") == [1] and pace.running == 0


async def test_two_tasks_on_one_state() -> None:
    """Each runs for itself; the successors of both wait until both predecessors are done."""
    first, second = Pace(), Pace()
    handlers = [task(Job.Work.task, first.slow), task(Job.Work.task, second.slow)]
    async with trsm.open_machine(Job, *handlers) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert first.running == second.running == 1
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        first.release.set()
        await wait_all_tasks_blocked()
        assert first.log == [("begin", 1), ("cancelled", 1), ("end", 1)]
        assert second.of("begin") == [1]
        second.release.set()
        await wait_all_tasks_blocked()
        assert first.of("begin") == second.of("begin") == [1, 3]


async def test_one_of_two_tasks_returns() -> None:
    """A task that returns leaves its sibling alone; the `then=` of one may end the other, in the same step."""
    pace = Pace()
    release = trio.Event()

    @Job.Work.task
    async def brief(t: Transition) -> None:
        await trio.lowlevel.checkpoint()

    @Job.Work.task(then=Job.Done)
    async def until(t: Transition) -> None:
        await release.wait()

    async with trsm.open_machine(Job, brief, until, task(Job.Work.task, pace.quick)) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert living(machine) == ["task_of_test", "until"] and pace.running == 1
        release.set()
        await machine.when(Job.Done)
        await wait_all_tasks_blocked()
        assert living(machine) == [] and pace.running == 0


async def test_tasks_of_several_states() -> None:
    """States do not wait for one another: only a successor on the same state does."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Work.task, pace.slow), task(Job.Other.task, pace.slow)) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        machine.add(Job.Other)
        await wait_all_tasks_blocked()
        assert pace.running == 2
        pace.release.set()


# ---- Multi states ---------------------------------------------------------------------------------------------------


async def test_multi_state_runs_one_task_for_each_activation() -> None:
    """Without a limit all run side by side, in one instance, and all end with it."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Ping.task, pace.quick)) as machine:
        for _ in range(3):
            machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        assert sorted(pace.of("begin")) == [1, 2, 3] and pace.running == 3
        machine.remove(Job.Ping)
        await wait_all_tasks_blocked()
        assert pace.running == 0
        machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        assert pace.of("begin")[3:] == [5]


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("fails", [False, True])
async def test_limit_of_tasks_at_once(limit: int, fails: bool, autojump_clock: MockClock) -> None:
    """At most `limit` run at once; further ones wait and begin in order, also where those before them failed."""
    pace = Pace()

    async def work(t: Transition) -> None:
        with pace.counted(t):
            await trio.sleep(1)
            if fails:
                raise OSError

    async with trsm.open_machine(Job, task(Job.Ping.task(limit=limit), work)) as machine:
        for number in range(6):
            machine.add(Job.Ping, number=number)
        await trio.sleep(6 / limit + 0.5)
        assert living(machine) == []
        begun = pace.of("begin")
        assert pace.most == limit
        for start in range(0, 6, limit):
            assert sorted(begun[start : start + limit]) == list(range(start + 1, start + limit + 1))
        assert machine.is_active(Job.Ping) and machine.is_active(Job.ErrOs) is fails
        machine.add(Job.Ping)
        await trio.sleep(0.5)
        assert pace.running == 1


async def test_failure_ends_the_instance_that_others_wait_for() -> None:
    """Where the error of a task removes its state, the activations that waited for its place are forgotten."""
    pace = Pace()

    async def work(t: Transition) -> None:
        with pace.counted(t):
            await trio.lowlevel.checkpoint()
            raise KeyError

    async with trsm.open_machine(Job, task(Job.Ping.task(limit=1), work)) as machine:
        for _ in range(3):
            machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        assert pace.of("begin") == [1]
        assert machine.is_inactive(Job.Ping) and living(machine) == []


async def test_waiting_activations_are_forgotten_when_the_state_ends() -> None:
    """What waited for a place in an instance begins in no other."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Ping.task(limit=1), pace.slow)) as machine:
        for _ in range(4):
            machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        machine.remove(Job.Ping)
        for _ in range(2):
            machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        assert pace.of("begin") == [1]
        pace.release.set()
        await wait_all_tasks_blocked()
        assert pace.log == [("begin", 1), ("cancelled", 1), ("end", 1), ("begin", 6)]
        machine.remove(Job.Ping)
        await wait_all_tasks_blocked()
        assert living(machine) == [] and pace.of("begin") == [1, 6]


async def test_waiting_activation_is_freed_when_the_state_ends() -> None:
    """What waited for a place is let go with its arguments at once, though the task before it still cleans up."""

    class Load:
        pass

    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Ping.task(limit=1), pace.slow)) as machine:
        machine.add(Job.Ping)
        load = Load()
        freed = weakref.ref(load)
        machine.add(Job.Ping, load=load)
        del load
        await wait_all_tasks_blocked()
        machine.add(Job.Other)
        assert freed() is not None
        machine.remove(Job.Ping)
        assert freed() is None and pace.running == 1
        pace.release.set()


async def test_limits_of_two_tasks_are_their_own() -> None:
    """Each task of a state counts for itself, methods of two objects of one class too."""

    class Handlers:
        def __init__(self) -> None:
            self.pace = Pace()

        @Job.Ping.task(limit=2)
        async def two(self, t: Transition) -> None:
            await self.pace.quick(t)

    first, second, single = Handlers(), Handlers(), Pace()
    async with trsm.open_machine(Job, first, second, task(Job.Ping.task(limit=1), single.quick)) as machine:
        for _ in range(3):
            machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        assert (first.pace.running, second.pace.running, single.running) == (2, 2, 1)


@pytest.mark.parametrize("is_method", [True, False])
async def test_limit_outlasts_a_bind(is_method: bool) -> None:
    """Binding and detaching others makes no new count: the limit of a task that stays bound holds throughout."""
    pace = Pace()

    class Handlers:
        @Job.Ping.task(limit=2)
        async def run(self, t: Transition) -> None:
            await pace.quick(t)

    @Job.Other.on_enter
    def other(t: Transition) -> None:
        pass

    bound = Handlers() if is_method else task(Job.Ping.task(limit=2), pace.quick)
    async with trsm.open_machine(Job, other, bound) as machine:
        machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        machine.detach(other)
        machine.add(Job.Ping)
        machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        assert pace.running == 2
        machine.bind(other)
        machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        assert pace.running == 2
        machine.remove(Job.Ping)
        await wait_all_tasks_blocked()
        assert sorted(pace.of("begin")) == [1, 2]


async def test_more_activations_wait_than_the_queue_limit() -> None:
    """One more than `queue_limit` is an error, `QueueFull`, that says what to do; those accepted all run."""
    pace = Pace()
    done = trio.Event()

    async def work(t: Transition) -> None:
        with pace.counted(t):
            await done.wait()

    handler = task(Job.Ping.task(limit=2), work)
    async with trsm.open_machine(Job, handler, queue_limit=3) as machine:
        for _ in range(5):
            assert machine.add(Job.Ping).executed
        assert machine.is_inactive(Job.Error)
        assert machine.add(Job.Ping).executed
        assert machine.is_active(Job.ErrFull) and isinstance(machine.error, QueueFull)
        message = str(machine.error)
        assert "3 activations of Ping wait for task" in message and "task_of_test (limit=2)" in message
        assert "call it less often, or raise limit= or queue_limit=" in message
        source = machine.last_transition.source
        assert source is not None and source.tick == 6 and source.called == ("Ping",)
        assert source.handler.endswith("task_of_test") and source.parent is None
        await wait_all_tasks_blocked()
        assert pace.running == 2
        done.set()
        await wait_all_tasks_blocked()
        assert sorted(pace.of("begin")) == [1, 2, 3, 4, 5]
        assert machine.is_active(Job.Ping)


async def test_overflow_in_a_queued_mutation() -> None:
    """The error of an overflow has its source in the activation that was refused, whoever drained the queue."""

    @Job.Other.on_enter
    def flood(t: Transition) -> None:
        t.machine.add(Job.Ping)
        t.machine.add(Job.Ping)

    async with trsm.open_machine(Job, flood, task(Job.Ping.task(limit=1), forever), queue_limit=2) as machine:
        machine.add(Job.Other)
        machine.remove(Job.Other)
        assert machine.is_inactive(Job.Error)
        machine.add(Job.Other)
        assert machine.is_active(Job.ErrFull) and machine.last_transition.kind == "error"
        source = machine.last_transition.source
        assert source is not None and source.handler.endswith("task_of_test") and source.called == ("Ping",)
        assert source.parent is not None and source.parent.handler.endswith("flood")


async def test_overflow_that_nothing_handles() -> None:
    """It closes the machine, and leaves the block."""

    class Plain(Schema):
        Ping = State(multi=True)

    errors: list[BaseException] = []
    async with errors_of(errors):
        async with trsm.open_machine(Plain, task(Plain.Ping.task(limit=1), forever), queue_limit=1) as machine:
            for _ in range(3):
                machine.add(Plain.Ping)
            assert machine.closed
    assert [type(error) for error in errors] == [QueueFull]


@pytest.mark.parametrize("state", ["Error", "ErrOs"])
async def test_overflow_of_an_error_state(state: str) -> None:
    """Errors of an error handler are not caught again: an overflow there closes the machine, and goes round nowhere."""
    errors: list[BaseException] = []
    async with errors_of(errors):
        handler = task(Job[state].task(limit=1), forever)
        async with trsm.open_machine(Job, handler, queue_limit=1) as machine:
            for number in range(3):
                assert not machine.closed
                machine.add_error(OSError(number))
            assert machine.closed and machine.tick(Job.Error) == 6
    assert [type(error) for error in errors] == [QueueFull]


# ---- timeout= -------------------------------------------------------------------------------------------------------


async def test_task_takes_too_long(autojump_clock: MockClock) -> None:
    """`timeout=` acts as if the task had raised `trio.TooSlowError`; its state stays, and `then=` is not added."""

    @Job.Work.task(timeout=3, then=Job.Done)
    async def work(t: Transition) -> None:
        await trio.sleep_forever()

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        error = await machine.when_error(Job.ErrSlow)
        assert type(error) is trio.TooSlowError and trio.current_time() == 3
        assert machine.is_active(Job.Work) and machine.tick(Job.Done) == 0
        assert living(machine) == []


async def test_task_ends_in_time(autojump_clock: MockClock) -> None:
    """A task that returns before its timeout, or whose state leaves before, is not too slow, though it cleans up."""
    ended: list[float] = []

    @Job.Work.task(timeout=3)
    async def work(t: Transition) -> None:
        try:
            await trio.sleep(2.9)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            ended.append(trio.current_time())

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await trio.sleep(10)
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await trio.sleep(1)
        machine.remove(Job.Work)
        await trio.sleep(10)
        assert ended == [7.9, 16]
        assert machine.is_inactive(Job.Error)


async def test_timeout_counts_from_the_tasks_start(autojump_clock: MockClock) -> None:
    """Time in which a task waits for its predecessor, or for a place, is not counted."""
    pace = Pace()

    async def work(t: Transition) -> None:
        with pace.counted(t):
            try:
                await trio.sleep(2)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)

    async with trsm.open_machine(
        Job, task(Job.Work.task(timeout=3), work), task(Job.Ping.task(timeout=5, limit=1), work)
    ) as machine:
        machine.add(Job.Work)
        await trio.sleep(1)
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await trio.sleep(5.5)
        assert pace.log == [("begin", 1), ("end", 1), ("begin", 3)]  # from 3 to 7
        for _ in range(3):
            machine.add(Job.Ping)
        await trio.sleep(30)
        assert pace.of("end") == [1, 3, 4, 5, 6]
        assert machine.is_inactive(Job.ErrSlow)


async def test_timeout_during_which_the_state_leaves(autojump_clock: MockClock) -> None:
    """A task that is told of its timeout, and cleans up while its state leaves, ends with its state: no error."""

    @Job.Work.task(timeout=1)
    async def work(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            await trio.lowlevel.checkpoint()

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await trio.sleep(2)
        machine.remove(Job.Work)
        await trio.sleep(5)
        assert living(machine) == [] and machine.tick(Job.ErrSlow) == 0


async def test_task_raises_while_it_is_timed_out(autojump_clock: MockClock) -> None:
    """What a task raises in place of the cancellation of its timeout is its error."""

    @Job.Work.task(timeout=1)
    async def work(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("mine")

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        assert str(await machine.when_error()) == "mine"
        assert machine.is_active(Job.ErrOs) and machine.is_inactive(Job.ErrSlow)


# ---- then= ----------------------------------------------------------------------------------------------------------


async def test_task_returns_a_value() -> None:
    """`then=` adds its state when the task returns; the value is `t.result`, the task is `t.source`."""

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        return {"answer": 42}

    async with trsm.open_machine(Job, work, id="m") as machine:
        machine.add(Job.Work)
        done = await machine.when(Job.Done)
        assert done.result == {"answer": 42}
        assert done.kind == "add" and done.called == (Job.Done,) and done.leaving == (Job.Work,)
        source = done.source
        assert source is not None and source.handler.endswith("work")
        assert (source.machine, source.tick, source.kind, source.called, source.parent) == (
            "m",
            1,
            "add",
            ("Work",),
            None,
        )
        machine.add(Job.Other)
        assert machine.last_transition.result is None


async def test_task_without_then_returns_a_value() -> None:
    """Without `then=` nothing is added, and nobody reads the value."""

    @Job.Work.task
    async def work(t: Transition) -> int:
        return 1

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert machine.active_states == (Job.Work,) and machine.last_transition.tick == 1


async def test_then_takes_arguments() -> None:
    """Where the state has an args class, the task returns an instance of it: its arguments, and `t.result` too."""
    page = Page("https://example.org")

    @Job.Work.task(then=Job.Read)
    async def work(t: Transition) -> Page:
        return page

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        read = await machine.when(Job.Read)
        assert read.args_of(Job.Read) is page and read.result is page


async def test_then_takes_arguments_and_gets_others() -> None:
    """Anything else than an instance of the args class is an error of the task, which says what to return."""

    @Job.Work.task(then=Job.Read)
    async def work(t: Transition) -> Page:
        return "https://example.org"  # type: ignore[return-value]

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert machine.is_inactive(Job.Read) and machine.active_states == (Job.Work, Job.ErrHandler, Job.Error)
        message = str(machine.error)
        assert "work (then=Read) returned 'https://example.org'" in message
        assert "Read takes Page, so return an instance of Page" in message


class Keys(TypedDict):
    n: int


class Counting(Schema):
    Going = State()
    Gone = State(args=Keys)


async def test_then_takes_a_typed_dict() -> None:
    """It is no class that a value could be asked for, and is a dict."""

    @Counting.Going.task(then=Counting.Gone)
    async def goes(t: Transition) -> Keys:
        return {"n": 3}

    async with trsm.open_machine(Counting, goes) as machine:
        machine.add(Counting.Going)
        t = await machine.when(Counting.Gone)
        assert t.args_of(Counting.Gone) == {"n": 3}


async def test_then_of_an_ended_instance() -> None:
    """What a task returns after its instance has ended is dropped, though its state may be active again."""
    release = trio.Event()

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        release.set()
        await wait_all_tasks_blocked()
        assert living(machine) == [] and machine.tick(Job.Done) == 0
        machine.add(Job.Work)
        await machine.when(Job.Done)  # the other pole


async def test_then_of_a_multi_state() -> None:
    """Each activation adds its `then=`, in the order in which they return."""
    results: list[object] = []

    class Handlers:
        @Job.Ping.task(then=Job.Pong, limit=1)
        async def work(self, t: Transition) -> object:
            return t.args["number"]

        @Job.Pong.on_enter
        def note(self, t: Transition) -> None:
            results.append(t.result)

    async with trsm.open_machine(Job, Handlers()) as machine:
        for number in range(3):
            machine.add(Job.Ping, number=number)
        await machine.when_tick(Job.Pong, 5)
        assert results == [0, 1, 2]


class Listener(Tracer):
    def __init__(self) -> None:
        self.told: list[tuple[str, State[..., object], Result]] = []

    def then_refused(self, machine: Observed, state: State[..., object], result: Result) -> None:
        self.told.append((machine.id, state, result))


async def test_then_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A refused `then=` is told to tracers and logged as a warning, with the reason; it is no error."""
    listener = Listener()

    @Job.Work.task(then=Job.Kept)
    async def work(t: Transition) -> None:
        pass

    async with trsm.open_machine(Job, work, id="m", tracers=[listener]) as machine:
        machine.add(Job.Guard, Job.Work)
        await wait_all_tasks_blocked()
        assert machine.is_inactive(Job.Kept, Job.Error)
        [(name, state, result)] = listener.told
        assert name == "m" and state is Job.Kept
        assert isinstance(result, Canceled) and "Guard" in result.reason
    [record] = [record for record in caplog.records if record.name == "trsm"]
    assert record.levelno == logging.WARNING
    assert "machine 'm': then=Kept of task" in record.getMessage() and "work was refused" in record.getMessage()
    assert result.reason in record.getMessage()


async def test_then_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    """An accepted `then=`, one whose state is active already among them, is nobody's concern."""
    listener = Listener()

    @Job.Work.task(then=Job.Kept)
    async def work(t: Transition) -> None:
        pass

    async with trsm.open_machine(Job, work, tracers=[listener]) as machine:
        machine.add(Job.Work)
        await machine.when(Job.Kept)
        machine.remove(Job.Work)
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
    assert listener.told == [] and caplog.records == []


async def test_then_fails_in_a_handler() -> None:
    """An error in a handler of the `then=` state is a machine's error like any other; the task has ended well."""

    class Handlers:
        @Job.Work.task(then=Job.Kept)
        async def work(self, t: Transition) -> None:
            pass

        @Job.Kept.on_enter
        def fail(self, t: Transition) -> None:
            raise OSError("entering")

    async with trsm.open_machine(Job, Handlers()) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert str(machine.error) == "entering" and machine.is_active(Job.ErrOs)
        assert machine.is_inactive(Job.Kept)


# ---- Where tasks run ------------------------------------------------------------------------------------------------

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


async def test_tasks_run_in_the_context_of_open_machine() -> None:
    """They see the context variables of `open_machine`, not of whoever called `add`; a child's see its ancestor's."""
    seen: list[tuple[str, str]] = []

    @Job.Work.task
    @Job.Ping.task(limit=1)
    async def work(t: Transition) -> None:
        seen.append((str(t.args.get("by")), WHERE.get()))
        WHERE.set("task")
        await trio.lowlevel.checkpoint()

    WHERE.set("open")
    async with trsm.open_machine(Job, work) as machine:
        WHERE.set("body")
        child = machine.start_child(Job, work)

        async def other() -> None:
            WHERE.set("nursery")
            machine.add(Job.Work, by="other")
            child.add(Job.Work, by="child")
            machine.add(Job.Ping, by="first")
            machine.add(Job.Ping, by="second")  # which waits, and is started by the first

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
        await wait_all_tasks_blocked()
        assert sorted(seen) == [("child", "open"), ("first", "open"), ("other", "open"), ("second", "open")]
        assert WHERE.get() == "body"


async def test_source_of_what_a_task_does() -> None:
    """A mutation made in a task, or in a nursery of its own, has the task as its source, and the chain behind it."""

    @Job.Work.task
    async def work(t: Transition) -> None:
        t.machine.add(Job.Other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper, t)

    async def helper(t: Transition) -> None:
        t.machine.add(Job.Kept)

    @Job.Other.task
    async def follow(t: Transition) -> None:
        t.machine.add(Job.Ping)

    async with trsm.open_machine(Job, work, follow, id="m") as machine:
        machine.add(Job.Work)
        ping, kept = await (machine.when(Job.Ping) & machine.when(Job.Kept))
        machine.add(Job.Guard)
        assert machine.last_transition.source is None
        assert ping.source is not None and ping.source.handler.endswith("follow") and ping.source.called == ("Other",)
        parent = ping.source.parent
        assert parent is not None and parent.handler.endswith("work") and parent.tick == 1 and parent.parent is None
        assert kept.source == parent


async def test_error_of_a_task_has_the_task_as_its_source() -> None:
    """The transition that an error of a task makes says which task it was."""

    @Job.Work.task
    async def work(t: Transition) -> None:
        raise OSError

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await machine.when(Job.ErrOs)
        source = machine.last_transition.source
        assert source is not None and source.handler.endswith("work") and source.tick == 1


async def test_names_of_tasks() -> None:
    """Trio knows a task by the machine's id and the function's qualified name."""
    names: list[str] = []

    @Job.Work.task
    async def work(t: Transition) -> None:
        names.append(trio.lowlevel.current_task().name)

    async with trsm.open_machine(Job, work, id="m") as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
    assert names == ["m: test_names_of_tasks.<locals>.work"]


async def test_tasks_of_a_started_child() -> None:
    """They run in the nearest ancestor's nursery, in their state's scope: a child's end ends them, and nothing else."""
    pace = Pace()
    async with trsm.open_machine(Job, task(Job.Work.task, pace.quick), id="p") as machine:
        child = machine.start_child(Job, task(Job.Work.task, pace.slow), id="c")
        grandchild = child.start_child(Job, task(Job.Work.task, pace.quick), id="g")
        for one in (machine, child, grandchild):
            one.add(Job.Work)
        await wait_all_tasks_blocked()
        assert len(living(machine)) == 3
        child.close()
        await wait_all_tasks_blocked()
        assert pace.running == 2 and grandchild.closed and not machine.closed
        joined = child.when_closed()
        assert not joined.done
        pace.release.set()
        await joined
        assert living(machine) == ["task_of_test"]


async def test_waiting_tasks_of_a_started_child_that_closes() -> None:
    """Activations that wait, and instances that wait, are gone with the child; who cleans up is joined."""
    pace = Pace()
    async with trsm.open_machine(Job) as machine:
        child = machine.start_child(
            Job, task(Job.Ping.task(limit=1), pace.slow), task(Job.Work.task, pace.slow), queue_limit=5
        )
        child.add(Job.Ping, Job.Work)
        child.add(Job.Ping)
        await wait_all_tasks_blocked()
        child.remove(Job.Work)
        child.add(Job.Work)
        await wait_all_tasks_blocked()
        child.close()
        pace.release.set()
        await child.when_closed()
        assert pace.of("begin") == [1, 1] and pace.running == 0 and living(machine) == []


async def test_error_of_a_childs_task() -> None:
    """An error that nothing handles in a started child becomes an error of its parent."""

    class Plain(Schema):
        Work = State()

    @Plain.Work.task
    async def fail(t: Transition) -> None:
        raise OSError

    async with trsm.open_machine(Job) as machine:
        child = machine.start_child(Plain, fail)
        child.add(Plain.Work)
        await machine.when(Job.ErrOs)
        assert child.closed and not machine.closed


# ---- Errors, alone and beside a cancellation ------------------------------------------------------------------------


async def test_task_raises() -> None:
    """A task that raises does not deactivate its state; the error is the machine's."""
    error = OSError("disk")

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> None:
        raise error

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        assert await machine.when_error() is error
        assert machine.active_states == (Job.Work, Job.ErrOs, Job.Error)


async def test_task_raises_in_its_cleanup() -> None:
    """An error raised while a task is cancelled is the machine's too, though its state has left."""
    pace = Pace()

    async def work(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("cleanup")

    async with trsm.open_machine(Job, task(Job.Work.task, work), task(Job.Ping.task, pace.quick)) as machine:
        machine.add(Job.Work, Job.Ping)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        assert str(await machine.when_error()) == "cleanup"
        assert machine.is_active(Job.ErrOs) and not machine.closed and pace.running == 1


async def test_group_of_errors_and_a_cancellation() -> None:
    """What a task's nursery gathers is divided: its errors are the machine's, the cancellation is its scope's."""

    async def failing(error: Exception) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    @Job.Work.task
    async def work(t: Transition) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing, OSError(1))
            nursery.start_soon(failing, OSError(2))
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        error = await machine.when_error(Job.ErrOs)
        assert isinstance(error, ExceptionGroup) and {one.args[0] for one in error.exceptions} == {1, 2}
        assert not machine.closed and living(machine) == []


async def test_group_of_errors_and_a_cancellation_from_outside() -> None:
    """Errors beside a cancellation from outside leave the block, and the cancellation goes to its scope."""
    errors: list[BaseException] = []

    class Plain(Schema):
        Work = State()

    async def failing() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    @Plain.Work.task
    async def work(t: Transition) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing)
            nursery.start_soon(trio.sleep_forever)

    async with errors_of(errors):
        with trio.CancelScope() as outside:
            async with trsm.open_machine(Plain, work) as machine:
                machine.add(Plain.Work)
                await wait_all_tasks_blocked()
                outside.cancel()
                await trio.sleep_forever()
    assert outside.cancelled_caught
    [group] = errors
    assert isinstance(group, ExceptionGroup) and [type(one) for one in group.exceptions] == [KeyError]


@pytest.mark.parametrize("grouped", [False, True])
async def test_task_exits_the_program(grouped: bool) -> None:
    """`SystemExit` out of a task is no error of the machine: it passes, ends everything, and leaves the block."""
    log: list[str] = []

    class Handlers:
        @Job.Error.on_enter
        def note(self, t: Transition) -> None:
            log.append(repr(t.error))

        @Job.Other.on_exit
        def leave(self, t: Transition) -> None:
            log.append("on_exit")

        @Job.Work.task
        async def work(self, t: Transition) -> None:
            await trio.lowlevel.checkpoint()
            if grouped:
                raise BaseExceptionGroup("both", [SystemExit(3), OSError("beside")])
            raise SystemExit(3)

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Job, Handlers()) as machine:
            machine.add(Job.Work, Job.Other)
            await trio.sleep_forever()
    assert caught.group_contains(SystemExit) and not caught.group_contains(OSError)
    assert machine.closed
    assert (log[0].startswith("ExceptionGroup('both'") if grouped else True) and log[-1] == "on_exit"
    assert len(log) == 1 + grouped


async def test_task_of_an_error_state_raises() -> None:
    """Errors of an error handler are not caught again: they close the machine, unless it closes already."""
    for closing in (False, True):
        errors: list[BaseException] = []

        async def work(t: Transition, closing: bool = closing) -> None:
            try:
                if closing:
                    await trio.sleep_forever()
            finally:
                raise KeyError("again")

        async with errors_of(errors):
            async with trsm.open_machine(Job, task(Job.ErrOs.task, work)) as machine:
                machine.add_error(OSError())
                await wait_all_tasks_blocked()
                if closing:
                    assert not machine.closed
                    machine.close()
                else:
                    pytest.fail("the body is cancelled")
        assert [str(error) for error in errors] == ["'again'"]
        assert machine.ticks_at_close is not None and machine.ticks_at_close[Job.ErrStop] == 0


async def test_task_ends_with_the_machine_it_waits_on() -> None:
    """`MachineClosed` of its own machine is a normal end of a task; that of another machine is an error."""
    async with trsm.open_machine(Job) as root:
        other = root.start_child(Job)

        @Job.Work.task
        async def own(t: Transition) -> None:
            with trio.CancelScope(shield=True):
                await t.machine.when(Job.Kept)

        @Job.Work.task
        async def foreign(t: Transition) -> None:
            with trio.CancelScope(shield=True):
                await other.when(Job.Kept)

        errors: list[BaseException] = []
        async with errors_of(errors):
            async with trsm.open_machine(Job, own, foreign) as machine:
                machine.add(Job.Work)
                await wait_all_tasks_blocked()
                other.close()
                await trio.sleep_forever()
        [error] = errors
        assert isinstance(error, trsm.MachineClosed) and error.machine is other


async def test_groups_that_hold_the_closing_of_the_own_machine() -> None:
    """It is taken out of the groups of a task's nurseries; what else they hold is an error as ever."""
    for beside in (False, True):
        errors: list[BaseException] = []

        @Job.Work.task
        async def work(t: Transition, beside: bool = beside) -> None:
            async def wait() -> None:
                with trio.CancelScope(shield=True):
                    await t.machine.when(Job.Kept)

            async def fail() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise KeyError("beside")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                if beside:
                    nursery.start_soon(fail)

        async with errors_of(errors):
            async with trsm.open_machine(Job, work) as machine:
                machine.add(Job.Work)
                await wait_all_tasks_blocked()
        assert [type(error) for error in errors] == [ExceptionGroup] * beside
        assert not beside or "MachineClosed" not in repr(errors)


# ---- Closing --------------------------------------------------------------------------------------------------------


async def test_cleanup_of_a_task_mutates_while_the_machine_closes() -> None:
    """On a closing or closed machine every mutation is canceled, with that reason: cleanup code may always call."""
    results: list[Result] = []

    class Handlers:
        @Job.Work.task
        async def work(self, t: Transition) -> None:
            try:
                await trio.sleep_forever()
            finally:
                results.append(t.machine.add(Job.Other))
                results.append(t.machine.remove(Job.Work))
                results.append(t.machine.toggle(Job.Ping))
                results.append(t.machine.mutate(add=Job.Other, remove=Job.Work))

        @Job.Work.on_exit
        def leave(self, t: Transition) -> None:
            results.append(t.machine.set(Job.Other))

    async with trsm.open_machine(Job, Handlers(), id="m") as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
    assert all(isinstance(result, Canceled) and not result for result in results)
    reasons = [result.reason for result in results if isinstance(result, Canceled)]
    assert reasons == ["machine 'm' is closing"] + ["machine 'm' is closed"] * 4
    assert machine.tick(Job.Other) == 0


async def test_cleanup_of_a_task_mutates_when_its_state_leaves() -> None:
    """Where only its state has left, the mutations of a task's cleanup are carried out."""

    @Job.Work.task
    async def work(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            assert t.machine.add(Job.Other).executed

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        await wait_all_tasks_blocked()
        assert machine.active_states == (Job.Other,)


async def test_task_closes_its_machine() -> None:
    """A task may close its machine: it ends at its next checkpoint, and the block without an exception."""
    log: list[str] = []

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> None:
        t.machine.close()
        log.append("after close")
        await trio.lowlevel.checkpoint()
        pytest.fail("a checkpoint after the end")

    async with trsm.open_machine(Job, work) as machine:
        machine.add(Job.Work)
        await trio.sleep_forever()
    assert log == ["after close"] and machine.tick(Job.Done) == 0


# ---- Nothing is left behind -----------------------------------------------------------------------------------------


async def test_twenty_thousand_activations_leave_nothing_behind() -> None:
    """Slots, instances, counts and tasks: what a machine holds after many activations is what it held after few."""
    begun = 0

    @Job.Ping.task(limit=1)
    @Job.Work.task
    async def work(t: Transition) -> None:
        nonlocal begun
        begun += 1
        await trio.sleep_forever()

    def held(machine: Machine) -> tuple[int, ...]:
        slots = machine._slots
        assert slots is not None
        sizes = [len(slots), machine._task_count, len(machine._nursery.child_tasks)]
        for slot in slots.values():
            instance = slot.instance
            sizes += [slot.running, len(slot.parked or ()), slot.running_of is None, instance is None]
            if instance is not None:
                sizes += [len(instance.scopes()), len(instance.active or ()), len(instance.waiting or ())]
        return tuple(sizes)

    async def activate(machine: Machine, times: int, step: int) -> None:
        for number in range(times):
            machine.add(Job.Work, Job.Ping)
            if not number % step:
                machine.add(Job.Ping)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
            machine.remove(Job.Work, Job.Ping)
            if not number % 50:
                await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()

    async with trsm.open_machine(Job, work) as machine:
        await activate(machine, 10, 1)
        few = held(machine)
        with untraced():
            await activate(machine, 10_000, 5)
        assert held(machine) == few
        assert begun > 2_000
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        assert held(machine) != few  # the figure would show what stays


async def test_one_long_instance_holds_nothing_of_tasks_that_have_ended() -> None:
    """An instance of a multi state that lasts keeps no scope and no count of the activations it has had."""

    @Job.Ping.task
    @Job.Ping.task(limit=2)
    async def work(t: Transition) -> None:
        if t.tick % 10 == 0:
            raise OSError

    async with trsm.open_machine(Job, work) as machine:
        for _ in range(100):
            machine.add(Job.Ping)
        await wait_all_tasks_blocked()
        assert machine._slots is not None
        [slot] = machine._slots.values()
        instance = slot.instance
        assert instance is not None and machine.is_active(Job.Ping)
        assert not (instance.scopes() or instance.active or instance.waiting or slot.running or slot.parked)


async def test_activations_make_no_cyclic_garbage() -> None:
    """Tasks that return, fail, are cancelled, wait, or never begin are freed without the collector's help."""

    class Handlers:
        @Job.Work.task(then=Job.Kept, timeout=5)
        async def work(self, t: Transition) -> object:
            if "fail" in t.args:
                raise OSError
            if "wait" in t.args:
                await trio.sleep_forever()
            return None

        @Job.Ping.task(limit=1)
        async def ping(self, t: Transition) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.lowlevel.checkpoint()

    async def every_kind(machine: Machine) -> None:
        for args in ({}, {"fail": 1}, {"wait": 1}):
            machine.add(Job.Work, **args)
            await wait_all_tasks_blocked()
            machine.set(Job.Ping)
            machine.add(Job.Ping)
            await wait_all_tasks_blocked()
            machine.remove(Job.Ping)
            machine.add(Job.Ping)
            machine.remove(Job.Ping)
            machine.add(Job.Ping)
            await trio.lowlevel.checkpoint()
            machine.set(Job.Other)
            await wait_all_tasks_blocked()

    async with trsm.open_machine(Job, Handlers()) as machine:
        await every_kind(machine)
        machine.set(Job.Guard)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await every_kind(machine)
            assert gc.collect() == 0
        finally:
            gc.enable()
