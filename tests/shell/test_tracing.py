"""Tracers of a machine: what they are told of tasks, waiters, scopes and children; row 45's breakpoints too."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from kernel.test_tracing import Recorder
from trsm import ErrorState, Machine, Observed, Schema, State, Tracer, Transition


class Job(Schema):
    Work = State(remove="Done")
    Done = State(remove=Work)
    Log = State(multi=True)
    Guard = State(remove=Done)
    ErrDisk = ErrorState(catches=OSError)


def told(heard: Recorder, *names: str) -> list[tuple[str, tuple[object, ...]]]:
    return [(name, args) for name, args in heard.calls if name in names]


# ---- Machines -------------------------------------------------------------------------------------------------------


async def test_opening_and_closing_of_machines_and_children() -> None:
    """A block, a child with a block and a started child are each told when open, and when every state has left."""
    heard = Recorder()
    async with trsm.open_machine(Job, tracers=[heard]) as machine:
        assert heard.names == ["machine_opened"]
        child = machine.start_child(Job, tracers=[heard])
        assert heard.names == ["machine_opened"] * 2
        async with trsm.open_machine(Job, parent=machine, tracers=[heard]):
            assert heard.names == ["machine_opened"] * 3
        assert heard.names.count("machine_closed") == 1
        child.close()
        assert heard.names.count("machine_closed") == 2
    assert heard.names.count("machine_closed") == 3


async def test_a_tracer_that_raises_at_opening_is_detached(caplog: pytest.LogCaptureFixture) -> None:
    """The block opens, and the child starts."""

    class Bad(Tracer):
        def machine_opened(self, machine: Observed) -> None:
            raise ValueError

    async with trsm.open_machine(Job, tracers=[Bad()]) as machine:
        child = machine.start_child(Job, tracers=[Bad()])
        assert machine._tracers == child._tracers == ()
    assert caplog.text.count("raised and was detached") == 2


class Leaving(Tracer):
    def machine_opened(self, machine: Observed) -> None:
        raise SystemExit(3)


async def test_what_is_no_exception_at_opening_leaves_before_the_block() -> None:
    """The machine has closed then, and its parent knows it no more."""
    async with trsm.open_machine(Job) as parent:
        with pytest.raises(SystemExit):
            async with trsm.open_machine(Job, parent=parent, tracers=[Leaving()]):
                pytest.fail("the block does not begin")
        assert parent.children == ()
        with pytest.raises(SystemExit):
            parent.start_child(Job, tracers=[Leaving()])
        assert parent.children == ()
        assert parent.add(Job.Work)


async def test_a_tracer_that_closes_the_parent_at_opening() -> None:
    """The child that opens closes with it: its block is cancelled at once."""

    class Closing(Tracer):
        def machine_opened(self, machine: Observed) -> None:
            parent.close()

    async with trsm.open_machine(Job) as parent:
        child = parent.start_child(Job, tracers=[Closing()])
        assert child.closed and parent.closed
        assert parent.children == ()


# ---- Tasks ----------------------------------------------------------------------------------------------------------


async def test_a_task_is_told_when_it_begins_and_when_it_has_ended(autojump_clock: MockClock) -> None:
    """It begins after the mutation has settled; its end carries what it raised, cancellation included."""
    heard = Recorder()

    @Job.Work.task
    async def work(t: Transition) -> None:
        await trio.sleep(t.args["seconds"])  # type: ignore[arg-type]
        if "fail" in t.args:
            raise OSError("disk")

    async with trsm.open_machine(Job, work, tracers=[heard]) as machine:
        machine.add(Job.Work, seconds=1)
        assert told(heard, "task_started") == []
        first = machine.last_transition
        await wait_all_tasks_blocked()
        [(_, (transition, name))] = told(heard, "task_started")
        assert transition is first and str(name).endswith("work")
        await trio.sleep(2)
        assert told(heard, "task_ended") == [("task_ended", (first, name, None))]
        machine.set(Job.Done)
        del heard.calls[:]
        machine.add(Job.Work, seconds=1, fail=True)
        await machine.when(Job.ErrDisk)
        [(_, (_, _, error))] = told(heard, "task_ended")
        assert isinstance(error, OSError)
        machine.set(Job.Done)
        del heard.calls[:]
        machine.add(Job.Work, seconds=9)
        await wait_all_tasks_blocked()
        machine.remove(Job.Work)
        await wait_all_tasks_blocked()
        [(_, (_, _, error))] = told(heard, "task_ended")
        assert isinstance(error, trio.Cancelled)


async def test_a_task_that_never_began_is_not_told() -> None:
    """Its state left before its first step."""
    heard = Recorder()

    @Job.Work.task
    async def work(t: Transition) -> None:
        pytest.fail("it never runs")

    async with trsm.open_machine(Job, work, tracers=[heard]) as machine:
        machine.add(Job.Work)
        machine.remove(Job.Work)
        await wait_all_tasks_blocked()
    assert told(heard, "task_started", "task_ended") == []


@pytest.mark.parametrize("hook", ["task_started", "task_ended"])
async def test_a_tracer_that_raises_at_a_task_is_detached(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    """The task runs and ends as without it."""

    def fail(self: Tracer, *args: object) -> None:
        raise ValueError

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> None:
        await trio.lowlevel.checkpoint()

    async with trsm.open_machine(Job, work, tracers=[type("Bad", (Tracer,), {hook: fail})()]) as machine:
        machine.add(Job.Work)
        await machine.when(Job.Done)
    assert "raised and was detached" in caplog.text


@pytest.mark.parametrize("hook", ["task_started", "task_ended", "waiter_subscribed", "scope_entered", "waiter_ended"])
async def test_what_is_no_exception_closes_the_machine(hook: str) -> None:
    """It leaves where the hook was called: out of a task, or of the body."""

    def leave(self: Tracer, *args: object) -> None:
        raise SystemExit(3)

    @Job.Work.task
    async def work(t: Transition) -> None:
        await trio.lowlevel.checkpoint()

    async def body() -> None:
        async with trsm.open_machine(Job, work, tracers=[type("Bad", (Tracer,), {hook: leave})()]) as machine:
            with machine.while_active(Job.Work):
                pass
            waiter = machine.when(Job.Work)
            machine.add(Job.Work)
            await waiter
            await trio.sleep_forever()

    with pytest.raises((SystemExit, BaseExceptionGroup)) as caught:
        await body()
    if isinstance(caught.value, BaseExceptionGroup):
        taken, rest = caught.value.split(SystemExit)
        assert taken is not None and rest is None


async def test_a_refused_then_is_told() -> None:
    """With the state and the result."""
    heard = Recorder()

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> None:
        pass

    async with trsm.open_machine(Job, work, tracers=[heard]) as machine:
        machine.add(Job.Guard, Job.Work)
        await wait_all_tasks_blocked()
    [(_, (state, result))] = told(heard, "then_refused")
    assert state is Job.Done and "Guard removes it" in result.reason  # type: ignore[attr-defined]


# ---- Waiters and scopes ---------------------------------------------------------------------------------------------


async def test_waiters_are_told_when_they_subscribe_and_when_they_end() -> None:
    """Each once, composites not at all, and those born with their value neither; closing ends what is left."""
    heard = Recorder()
    async with trsm.open_machine(Job, tracers=[heard]) as machine:
        working = machine.when(Job.Work)
        never = machine.when(Job.Guard)
        either = working | never
        watch = machine.watch()
        closed = machine.when_closed()
        assert [args[0] for _, args in told(heard, "waiter_subscribed")] == [working, never, watch, closed]
        machine.add(Job.Work)
        assert [args[0] for _, args in told(heard, "waiter_ended")] == [working]
        assert heard.names[-3:] == ["waiter_ended", "transition_ended", "settled"]
        await either
        await machine.when(Job.Work)
        assert len(told(heard, "waiter_subscribed")) == 4
        machine.close()
        assert {id(args[0]) for _, args in told(heard, "waiter_ended")} == {id(working), id(never), id(watch)}
    assert told(heard, "waiter_ended")[-1][1] == (closed,)


async def test_what_tells_pipes_that_a_machine_closes_is_told_to_nobody() -> None:
    """It is no waiter of anybody's: neither that it subscribes, nor that it ends with a machine."""
    heard = Recorder()
    async with trsm.open_machine(Job, tracers=[heard]) as source:
        child = source.start_child(Job, tracers=[heard])
        pipe, other = trsm.pipe(source, Job.Work, child), trsm.pipe(source, Job.Guard, child)
        pipe.close()
        child.close()
        assert other.closed
        assert told(heard, "waiter_subscribed", "waiter_ended") == []
        trsm.pipe(source, Job.Work, left := source.start_child(Job, tracers=[heard]))
        source.close()
        assert left.closed
    assert told(heard, "waiter_subscribed", "waiter_ended") == []


async def test_scopes_are_told_when_entered_and_when_cancelled() -> None:
    """With the reason; all scopes of a state at once; none that was left before; one over from the start both ways."""
    heard = Recorder()
    async with trsm.open_machine(Job, tracers=[heard], id="m") as machine:
        with machine.while_active(Job.Work):
            pass
        assert [args for _, args in told(heard, "scope_entered")] == [(Job.Work,)]
        [(_, (state, reason))] = told(heard, "scope_ended")
        assert state is Job.Work and reason == "Work was inactive when the scope was entered"
        machine.add(Job.Work)
        del heard.calls[:]
        with machine.while_active(Job.Work):
            pass
        with machine.while_active(Job.Work) as one, machine.while_active(Job.Work):
            machine.remove(Job.Work)
            assert one.cancel_called
        assert len(told(heard, "scope_entered")) == 3
        [(_, (state, reason))] = told(heard, "scope_ended")
        assert state is Job.Work and "Work left at tick 2 of machine 'm'" in str(reason)
        assert heard.names.index("scope_ended") < heard.names.index("committed")
        with machine.while_inactive(Job.Log) as scope:
            machine.close()
            assert scope.cancel_called
        assert told(heard, "scope_ended")[-1][1] == (Job.Log, "machine 'm' closed")
        with machine.while_active(Job.Work):
            pass
        assert told(heard, "scope_ended")[-1][1] == (Job.Work, "machine 'm' was closed when the scope was entered")


async def test_nothing_of_it_is_done_without_tracers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tracer, no hook: tasks, waiters, scopes and children do not even look for one."""
    monkeypatch.setattr(Machine, "_tell", None)

    @Job.Work.task(then=Job.Done)
    async def work(t: Transition) -> None:
        await trio.lowlevel.checkpoint()

    async with trsm.open_machine(Job, work) as machine:
        child = machine.start_child(Job)
        done = machine.when(Job.Done)
        machine.add(Job.Work)
        with machine.while_active(Job.Work):
            await done
        child.close()


async def test_a_traced_machine_leaves_no_circle() -> None:
    """Once it has closed it goes with its last reference, without the collector."""

    @Job.Work.on_enter
    def enter(t: Transition) -> None:
        pass

    gc.collect()
    gc.disable()
    try:
        async with trsm.open_machine(Job, tracers=[Tracer()]) as machine:
            child = machine.start_child(Job, enter, tracers=[Tracer()])
            child.add(Job.Work)
            child.close()
            gone = weakref.ref(child)
            del child
            assert gone() is None
    finally:
        gc.enable()
