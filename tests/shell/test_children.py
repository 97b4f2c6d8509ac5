"""Child machines: started ones, and those with a block of their own (DESIGN section 6)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

import trsm
from trsm import Canceled, ErrorState, Machine, MachineClosed, Observed, Queued, Schema, State, Tracer, Transition

Handler = Callable[[Transition], object]


class Top(Schema):
    On = State()
    ErrValue = ErrorState(catches=ValueError)


class Part(Schema):
    On = State()
    Failing = State()
    ErrKey = ErrorState(catches=KeyError)


async def settle() -> None:
    """Let everything that can run do so, cancelled or not."""
    with trio.CancelScope(shield=True):
        await wait_all_tasks_blocked()


async def fail_with(error: BaseException) -> None:
    raise error


def raising(error: BaseException, mark: Callable[[Handler], Handler] = Part.Failing.on_enter) -> Handler:
    """Return a handler that raises."""

    @mark
    def fail(t: Transition) -> None:
        raise error

    return fail


class Noting:
    """Writes down the exits and tasks of a machine of `Part`, by its id."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @Part.On.on_exit
    def leave(self, t: Transition) -> None:
        self.log.append(f"{t.machine.id} exit")

    @Part.On.task
    async def work(self, t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.log.append(f"{t.machine.id} cancelled")
            await settle()
            self.log.append(f"{t.machine.id} ended")


# ---- Starting -------------------------------------------------------------------------------------------------------


async def test_starting_a_child() -> None:
    """Sync: no checkpoint, no block; the parent knows it, in the order in which they were started."""
    async with trsm.open_machine(Top) as machine:
        with assert_no_checkpoints():
            first = machine.start_child(Part, id="first")
            second = machine.start_child(Part)
        assert machine.children == (first, second)
        assert first.parent is machine
        assert first.id == "first"
        assert second.id.startswith("Part-")
        assert first.schema is Part
        assert first.active_states == ()
        assert first.last_transition.kind == "open"
        assert not first.closed


async def test_child_runs_by_itself() -> None:
    """Its states and tasks are its own; it has handlers, waiters and scopes as any machine."""
    log: list[str] = []
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, Noting(log), id="c")
        other = machine.start_child(Part)
        waiter = child.when_not(Part.On)
        child.add(Part.On)
        assert other.is_inactive(Part.On)
        with child.while_active(Part.On) as scope:
            await settle()
            assert waiter.done
            again = child.when_not(Part.On)
            child.remove(Part.On)
            assert scope.cancel_called
        assert again.done
        child.close()
        await child.when_closed()
        assert log == ["c exit", "c cancelled", "c ended"]


async def test_limits_and_tracers_of_a_child() -> None:
    """They are its own, not its parent's."""

    @Part.On.on_enter
    def flood(t: Transition) -> None:
        t.machine.add(Part.Failing)
        with pytest.raises(trsm.QueueFull):
            t.machine.remove(Part.Failing)

    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, flood, queue_limit=1)
        child.add(Part.On)
        assert child.is_active(Part.Failing)


async def test_child_started_by_a_handler() -> None:
    """In a transition of its parent, and mutated at once: each machine has its own turn."""
    children = []

    @Top.On.on_enter
    def start(t: Transition) -> None:
        child = t.machine.start_child(Part)
        assert child.add(Part.On).executed
        children.append(child)

    async with trsm.open_machine(Top, start) as machine:
        machine.add(Top.On)
        assert machine.children == tuple(children)


async def test_child_started_in_a_transition_in_which_the_parent_was_closed() -> None:
    """The parent is not closing yet: the child is started, and closed with it."""
    children = []

    @Top.On.on_enter
    def start(t: Transition) -> None:
        t.machine.close()
        children.append(t.machine.start_child(Part))

    async with trsm.open_machine(Top, start) as machine:
        machine.add(Top.On)
        assert [child.closed for child in children] == [True]


async def test_child_started_while_the_parent_closes() -> None:
    """Refused, as a child cannot outlive it; where nobody catches that, it is an error of the machine."""

    @Top.On.on_exit
    def start(t: Transition) -> None:
        t.machine.start_child(Part)

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Top, start, id="top") as machine:
            machine.add(Top.On)
    (error,) = caught.value.exceptions
    assert isinstance(error, MachineClosed)
    assert "start_child: machine 'top' is closing" in str(error)
    assert machine.children == ()


async def start_very_many(count: int) -> None:
    """Start idle children and close them, and assert that no task was started for any of them."""
    async with trsm.open_machine(Top) as machine:
        tasks = trio.lowlevel.current_statistics().tasks_living
        for _ in range(count):
            machine.start_child(Part)
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        children = machine.children
        assert len(children) == count
        machine.close()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert machine.children == ()
        assert all(child.closed for child in children)


async def test_idle_children() -> None:
    """They are cheap: no task is started for any of them, neither to live nor to end."""
    await start_very_many(1000)


def test_a_hundred_thousand_idle_children() -> None:
    """They are as cheap as a thousand, each; in a process of its own, which coverage does not slow."""
    code = "import gc, trio; from shell.test_children import *; gc.disable(); trio.run(start_very_many, 100_000)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- Closing a child ------------------------------------------------------------------------------------------------


async def test_idle_child_that_closes() -> None:
    """All of it at once: states left, gone from its parent, `when_closed` told; and the parent goes on."""
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part)
        told = child.when_closed()
        child.add(Part.On)
        child.close()
        assert child.closed
        assert told.done
        assert machine.children == ()
        assert child.parent is machine
        assert machine.add(Top.On)
        await trio.lowlevel.checkpoint()
        assert not machine.closed


async def test_child_with_tasks_that_closes() -> None:
    """States leave at once; its tasks are joined and its cleanups run in the parent's nursery; then it is gone."""
    log: list[str] = []

    async def clean_up(word: str) -> None:
        log.append(word)

    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, Noting(log), id="c")
        child.defer(clean_up, "first")
        child.defer(clean_up, "second")
        child.add(Part.On)
        await settle()
        told = child.when_closed()
        child.close()
        assert log == ["c exit"]
        assert child.closed
        assert not told.done
        assert machine.children == (child,)
        await told
        assert log == ["c exit", "c cancelled", "c ended", "second", "first"]
        assert machine.children == ()
        assert not machine.closed


async def test_child_with_nothing_but_cleanups_that_closes() -> None:
    """They run in a task of the parent's nursery, named after the child."""
    names = []

    async def clean_up() -> None:
        names.append(trio.lowlevel.current_task().name)

    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, id="c")
        child.defer(clean_up)
        child.close()
        await child.when_closed()
    assert names == ["c: closing"]


async def test_child_closed_by_its_own_task() -> None:
    """The task is cancelled as all others, and joined before the child is."""
    log = []

    @Part.On.task
    async def close(t: Transition) -> None:
        t.machine.close()
        try:
            await trio.lowlevel.checkpoint()
        finally:
            await settle()
            log.append("ended")

    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, close)
        child.add(Part.On)
        await child.when_closed()
        assert log == ["ended"]


async def test_child_closed_before_its_task_began() -> None:
    """The task never runs its code, and is joined all the same."""
    ran = []

    @Part.On.task
    async def work(t: Transition) -> None:
        ran.append(t)

    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, work)
        child.add(Part.On)
        child.close()
        assert machine.children == (child,)
        await child.when_closed()
    assert ran == []


async def test_child_that_closes_while_its_old_tasks_unwind() -> None:
    """Tasks of states that left before are joined too."""
    log: list[str] = []
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, Noting(log), id="c")
        child.add(Part.On)
        await settle()
        child.remove(Part.On)
        child.add(Part.On)
        child.close()
        await child.when_closed()
        assert log == ["c exit", "c exit", "c cancelled", "c ended"]


async def test_child_that_closes_while_the_outside_is_cancelled() -> None:
    """Steps 5 to 7 are shielded: tasks are joined and cleanups run whole before the block ends."""
    log: list[str] = []

    async def clean_up() -> None:
        await settle()
        log.append("cleaned")

    with trio.CancelScope() as scope:
        async with trsm.open_machine(Top) as machine:
            child = machine.start_child(Part, Noting(log), id="c")
            child.defer(clean_up)
            child.add(Part.On)
            await settle()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert log[-1] == "cleaned"
    assert sorted(log) == ["c cancelled", "c ended", "c exit", "cleaned"]
    assert child.when_closed().done


async def test_children_close_youngest_first() -> None:
    """Each with its own children before itself, and all of them before the parent."""
    log: list[str] = []
    async with trsm.open_machine(Part, Noting(log), id="top") as machine:
        one = machine.start_child(Part, Noting(log), id="one")
        two = machine.start_child(Part, Noting(log), id="two")
        three = one.start_child(Part, Noting(log), id="one.three")
        four = two.start_child(Part, Noting(log), id="two.four")
        for each in (machine, one, two, three, four):
            each.add(Part.On)
        machine.close()
        assert log == ["two.four exit", "two exit", "one.three exit", "one exit", "top exit"]
    assert all(each.closed and each.when_closed().done for each in (machine, one, two, three, four))


async def test_parent_that_closes_sees_its_children_closed() -> None:
    """In its own exits; and what these ask of a child is canceled."""
    seen = []

    @Top.On.on_exit
    def leave(t: Transition) -> None:
        seen.append((child.closed, child.add(Part.On).canceled))

    async with trsm.open_machine(Top, leave) as machine:
        child = machine.start_child(Part)
        machine.add(Top.On)
    assert seen == [(True, True)]


async def test_child_that_asks_its_closing_parent() -> None:
    """It is told that the parent is closing, and may read what was active when that began."""
    seen = []

    @Part.On.on_exit
    def leave(t: Transition) -> None:
        assert t.machine.parent is not None
        seen.append(t.machine.parent.add(Top.On))
        assert t.machine.parent.ticks_at_close == t.machine.parent.ticks
        t.machine.parent.close()

    async with trsm.open_machine(Top, id="top") as machine:
        child = machine.start_child(Part, leave)
        child.add(Part.On)
    (result,) = seen
    assert isinstance(result, trsm.Canceled)
    assert result.reason == "machine 'top' is closing"


# ---- Grandchildren --------------------------------------------------------------------------------------------------


async def test_grandchild() -> None:
    """A started child has children too; their tasks live in the nearest nursery above, and `parent` is who started."""
    log: list[str] = []
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part)
        grandchild = child.start_child(Part, Noting(log), id="g")
        assert grandchild.parent is child
        assert child.children == (grandchild,)
        assert machine.children == (child,)
        grandchild.add(Part.On)
        await settle()
        child.close()
        assert grandchild.closed
        await grandchild.when_closed()
        assert not machine.closed
    assert log == ["g exit", "g cancelled", "g ended"]


async def test_child_is_joined_after_its_children() -> None:
    """What a child cleans up may be in use by the tasks of its children: these end first."""
    log: list[str] = []

    async def clean_up(name: str) -> None:
        log.append(f"{name} cleaned")

    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, id="c")
        grandchild = child.start_child(Part, Noting(log), id="g")
        child.defer(clean_up, "c")
        grandchild.defer(clean_up, "g")
        grandchild.add(Part.On)
        await settle()
        told = child.when_closed()
        child.close()
        await told
        assert log == ["g exit", "g cancelled", "g ended", "g cleaned", "c cleaned"]
        assert machine.children == ()


async def test_idle_child_is_joined_after_the_tasks_of_its_children() -> None:
    """Though it has neither tasks nor cleanups of its own."""
    log: list[str] = []
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part)
        child.start_child(Part, Noting(log), id="g").add(Part.On)
        await settle()
        child.close()
        assert machine.children == (child,)
        await child.when_closed()
        assert log[-1] == "g ended"
        assert child._task_count == 0


async def test_nursery_of_the_children_of_a_block() -> None:
    """Tasks of what a child with a block starts are joined by that block."""
    log: list[str] = []
    async with trsm.open_machine(Top) as machine:
        async with trsm.open_machine(Part, parent=machine) as block:
            block.start_child(Part, Noting(log), id="g").add(Part.On)
            await settle()
        assert log == ["g exit", "g cancelled", "g ended"]
        assert not machine.closed


# ---- Errors of a child ----------------------------------------------------------------------------------------------


async def test_error_of_a_child_that_it_handles() -> None:
    """It stays in the child, which goes on."""
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, raising(KeyError()))
        child.add(Part.Failing)
        assert child.is_active(Part.ErrKey)
        assert not child.closed
        assert machine.is_inactive(Top.Error)


async def test_error_of_a_child_that_the_parent_handles() -> None:
    """The child closes; the error becomes one of its parent, as by `add_error`: its error state comes, and it lives."""
    error = ValueError()
    seen = []

    @Top.ErrValue.on_enter
    def note(t: Transition) -> None:
        seen.append((t.error, t.machine.error))

    async with trsm.open_machine(Top, note) as machine:
        child = machine.start_child(Part, raising(error), id="c")
        with pytest.raises(MachineClosed) as caught:
            waiter = child.when(Part.On)
            child.add(Part.Failing)
            assert child.closed
            assert machine.is_active(Top.ErrValue)
            assert machine.error is error
            await waiter
        assert caught.value.__cause__ is error
        assert machine.children == ()
        assert not machine.closed
    assert seen == [(error, error)]


async def test_error_of_a_child_that_nobody_handles() -> None:
    """The child closes, and so does its parent; it leaves the parent's block in the parent's group."""
    error = OSError()
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Top, id="top") as machine:
            child = machine.start_child(Part, raising(error))
            child.add(Part.Failing)
            assert child.closed
            assert machine.closed
            await trio.sleep_forever()
    assert caught.value.message == "unhandled in machine 'top'"
    assert caught.value.exceptions == (error,)


async def test_error_of_a_grandchild() -> None:
    """It rises from parent to parent until one handles it; those below have closed."""
    error = ValueError()
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part)
        grandchild = child.start_child(Part, raising(error))
        grandchild.add(Part.Failing)
        assert grandchild.closed
        assert child.closed
        assert machine.is_active(Top.ErrValue)
        assert not machine.closed


async def test_error_of_a_task_of_a_child() -> None:
    """As one of a handler."""
    error = ValueError()

    @Part.On.task
    async def work(t: Transition) -> None:
        raise error

    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, work)
        child.add(Part.On)
        await machine.when_error()
        assert machine.error is error
        assert child.closed
        await child.when_closed()


async def test_several_errors_of_a_child() -> None:
    """Each becomes an error of the parent, in order, whatever becomes of the one before."""
    first, second = OSError(1), ValueError(2)
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Top) as machine:
            child = machine.start_child(Part, raising(first), raising(second, Part.On.on_exit))
            child.add(Part.On)
            child.add(Part.Failing)
    # The first closes the parent; from then on an error state catches nothing.
    assert caught.value.exceptions == (first, second)


async def test_errors_of_a_child_while_its_parent_closes() -> None:
    """In its exits, tasks and cleanups: they join those of the parent, though an error state would catch them."""
    exit_error, task_error, cleanup_error = ValueError("exit"), ValueError("task"), ValueError("cleanup")

    @Part.On.task
    async def work(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise task_error

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Top) as machine:
            child = machine.start_child(Part, work, raising(exit_error, Part.On.on_exit))
            child.defer(fail_with, cleanup_error)
            child.add(Part.On)
            await settle()
    assert caught.value.exceptions == (exit_error, task_error, cleanup_error)


async def test_errors_of_a_child_that_closes_by_itself() -> None:
    """Those of its exits, tasks and cleanups become errors of its parent, which handles them one by one."""
    exit_error, task_error, cleanup_error = ValueError("exit"), ValueError("task"), ValueError("cleanup")
    seen: list[Exception | None] = []

    @Top.ErrValue.on_enter
    def note(t: Transition) -> None:
        seen.append(t.error)

    @Part.On.task
    async def work(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise task_error

    async with trsm.open_machine(Top, note) as machine:
        child = machine.start_child(Part, work, raising(exit_error, Part.On.on_exit))
        child.defer(fail_with, cleanup_error)
        child.add(Part.On)
        await settle()
        child.close()
        assert seen == [exit_error]
        await child.when_closed()
        assert seen == [exit_error, task_error, cleanup_error]
        assert not machine.closed


async def test_cleanups_of_a_child_that_take_too_long(autojump_clock: MockClock) -> None:
    """They have the parent's `cleanup_timeout`; who is late is named in an error that the parent gets."""
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Top, cleanup_timeout=3) as machine:
            child = machine.start_child(Part, id="c").start_child(Part, id="g")
            child.defer(trio.sleep_forever)
            child.close()
            await trio.sleep_forever()
    (error,) = caught.value.exceptions
    assert isinstance(error, trio.TooSlowError)
    assert str(error).startswith("cleanups of machine 'g' took longer than 3.0 s (cleanup_timeout): sleep_forever had")
    assert trio.current_time() == pytest.approx(3)


async def test_cleanup_of_a_child_that_raises_no_exception() -> None:
    """The parent closes, and it leaves with the parent's errors."""
    stop = SystemExit()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Top) as machine:
            child = machine.start_child(Part)
            child.defer(fail_with, stop)
            child.close()
            await trio.sleep_forever()
    assert caught.value.exceptions == (stop,)
    assert machine.closed


async def test_error_of_a_child_in_a_transition_of_its_parent() -> None:
    """The parent takes it in that drain, after the present transition."""
    error = ValueError()
    seen = []

    @Top.On.on_enter
    def drive(t: Transition) -> None:
        child.add(Part.Failing)
        assert child.closed
        seen.append(t.machine.is_active(Top.ErrValue))

    async with trsm.open_machine(Top, drive) as machine:
        child = machine.start_child(Part, raising(error))
        machine.add(Top.On)
        assert machine.is_active(Top.ErrValue)
    assert seen == [False]


async def test_where_the_error_of_a_child_came_from() -> None:
    """The source of the parent's error transition is the child's handler, and before that who drove the child."""
    sources = []

    @Top.ErrValue.on_enter
    def note(t: Transition) -> None:
        sources.append(t.source)

    @Top.On.on_enter
    def drive(t: Transition) -> None:
        child.add(Part.Failing)

    async with trsm.open_machine(Top, note, drive, id="top") as machine:
        child = machine.start_child(Part, raising(ValueError()), id="part")
        machine.add(Top.On)
    (source,) = sources
    assert source is not None
    assert (source.machine, source.kind, source.called, source.role) == ("part", "add", ("Failing",), "on_enter")
    assert source.parent is not None
    assert source.parent.machine == "top"
    assert source.parent.handler.endswith("drive")
    assert source.parent.parent is None


async def test_handler_of_a_child_that_raises_no_exception() -> None:
    """The child closes and it goes to the caller; the parent, whom nobody asked, goes on."""
    stop = SystemExit()
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, raising(stop))
        with pytest.raises(SystemExit) as caught:
            child.add(Part.Failing)
        assert caught.value is stop
        assert child.closed
        assert not machine.closed


async def test_exit_of_a_child_that_raises_no_exception_while_the_parent_closes() -> None:
    """The parent goes on closing, with all its other children; then it goes to the caller."""
    stop = SystemExit()
    log: list[str] = []
    async with trsm.open_machine(Part, Noting(log), id="top") as machine:
        old = machine.start_child(Part, Noting(log), id="old")
        young = machine.start_child(Part, raising(stop, Part.On.on_exit))
        for each in (machine, old, young):
            each.add(Part.On)
        with pytest.raises(SystemExit) as caught:
            machine.close()
        assert caught.value is stop
        assert log == ["old exit", "top exit"]


async def test_parent_whose_handlers_raise_no_exception_when_they_get_errors_of_a_child() -> None:
    """Every error of the child is handed on all the same; what the handlers raised goes to the caller."""
    stop = SystemExit()
    first, second = KeyError("first"), OSError("second")

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Top, raising(stop, Top.On.on_exit)) as machine:
            child = machine.start_child(Part, raising(first, Part.On.on_exit), raising(second, Part.Failing.on_exit))
            machine.add(Top.On)
            child.add(Part.On, Part.Failing)
            with pytest.raises(SystemExit) as stopped:
                child.close()
            assert stopped.value is stop
            assert machine.closed
    assert caught.value.exceptions == (second, first)


async def test_errors_of_a_child_that_closes_its_parent_whose_handlers_raise_no_exception() -> None:
    """What the parent's handlers raise goes to the caller, and takes no error of the child with it."""
    stop, error = SystemExit(), OSError()

    @Part.Failing.on_enter
    def close_parent(t: Transition) -> None:
        assert t.machine.parent is not None
        t.machine.parent.close()

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Top, raising(stop, Top.On.on_exit)) as machine:
            child = machine.start_child(Part, close_parent, raising(error, Part.On.on_exit))
            machine.add(Top.On)
            child.add(Part.On)
            with pytest.raises(SystemExit) as stopped:
                child.add(Part.Failing)
            assert stopped.value is stop
    assert caught.value.exceptions == (error,)


async def test_parent_whose_handlers_raise_no_exception_when_they_get_the_error_of_a_cleanup() -> None:
    """There is no caller but the closing task: it leaves the block, and the child is joined all the same."""
    stop = SystemExit()
    first, second = OSError("first"), OSError("second")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Top, raising(stop, Top.On.on_exit)) as machine:
            child = machine.start_child(Part)
            child.defer(fail_with, second)
            child.defer(fail_with, first)
            machine.add(Top.On)
            child.close()
            await trio.sleep_forever()
    assert caught.value.exceptions == (first, second, stop)
    assert child.when_closed().done
    assert machine.children == ()


async def test_error_reported_to_a_child_that_is_being_joined() -> None:
    """Canceled there, and an error of its parent."""
    error = ValueError()

    async def clean_up() -> None:
        assert child.add_error(error).canceled

    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part)
        child.defer(clean_up)
        child.close()
        await child.when_closed()
        assert machine.error is error


# ---- Children with a block ------------------------------------------------------------------------------------------


async def test_child_with_a_block() -> None:
    """Its parent knows it while it is open, and goes on when it has ended."""
    async with trsm.open_machine(Top) as machine:
        async with trsm.open_machine(Part, parent=machine) as child:
            assert child.parent is machine
            assert machine.children == (child,)
        assert machine.children == ()
        assert not machine.closed


async def test_nested_blocks_closed_from_above() -> None:
    """All close, innermost first, and every block ends without an exception; code behind the parent goes on."""
    log: list[str] = []
    async with trsm.open_machine(Part, Noting(log), id="a") as a:
        async with trsm.open_machine(Part, Noting(log), id="b", parent=a) as b:
            async with trsm.open_machine(Part, Noting(log), id="c", parent=b) as c:
                for each in (a, b, c):
                    each.add(Part.On)
                await settle()
                a.close()
                assert log == ["c exit", "b exit", "a exit"]
                await trio.sleep_forever()
            pytest.fail("the body of b went on")
        pytest.fail("the body of a went on")
    assert sorted(entry for entry in log if entry.endswith("ended")) == ["a ended", "b ended", "c ended"]


async def test_child_with_a_block_in_another_task() -> None:
    """The parent closes it wherever it is: its block ends without an exception, and that task goes on."""
    log: list[str] = []

    async def elsewhere(machine: Machine) -> None:
        async with trsm.open_machine(Part, Noting(log), id="c", parent=machine) as child:
            child.add(Part.On)
            await trio.sleep_forever()
        log.append("went on")

    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Top) as machine:
            nursery.start_soon(elsewhere, machine)
            await settle()
            machine.close()
            assert log == ["c exit"]
    assert log == ["c exit", "c cancelled", "c ended", "went on"]


async def test_machine_opened_in_a_task_of_another() -> None:
    """It lives inside that task: it ends when the state does, whole, before the task does."""
    log: list[str] = []

    @Top.On.task
    async def inside(t: Transition) -> None:
        try:
            async with trsm.open_machine(Part, Noting(log), id="inner", parent=t.machine) as inner:
                inner.add(Part.On)
                await trio.sleep_forever()
        finally:
            log.append("task ends")

    async with trsm.open_machine(Top, inside) as machine:
        machine.add(Top.On)
        await settle()
        (inner,) = machine.children
        machine.remove(Top.On)
        await inner.when_closed()
        await settle()
        assert inner.closed
        assert sorted(log[:3]) == ["inner cancelled", "inner ended", "inner exit"]
        assert log[3:] == ["task ends"]
        assert machine.children == ()
        assert not machine.closed


async def test_errors_of_a_machine_opened_in_a_task_of_another() -> None:
    """They leave its block, so they are the task's, and an error state of the outer machine may take them."""
    error = ValueError()

    @Top.On.task
    async def inside(t: Transition) -> None:
        async with trsm.open_machine(Part, raising(error), parent=t.machine) as inner:
            inner.add(Part.Failing)
            await trio.sleep_forever()

    async with trsm.open_machine(Top, inside) as machine:
        machine.add(Top.On)
        await machine.when(Top.ErrValue)
        assert isinstance(machine.error, ExceptionGroup)
        assert machine.error.exceptions == (error,)


async def test_error_of_a_child_with_a_block() -> None:
    """It leaves its own block, as without a parent, and does nothing to the parent."""
    error = ValueError()
    async with trsm.open_machine(Top) as machine:
        with pytest.raises(ExceptionGroup) as caught:
            async with trsm.open_machine(Part, raising(error), parent=machine) as child:
                child.add(Part.Failing)
        assert caught.value.exceptions == (error,)
        assert machine.is_inactive(Top.Error)
        assert machine.children == ()


async def test_error_of_a_child_with_a_block_while_its_parent_closes() -> None:
    """It leaves its own block too; where that is inside the parent's, it comes to the parent as the body's own."""
    error = ValueError()
    with pytest.raises(ExceptionGroup, match="unhandled in machine 'child'") as caught:
        async with trsm.open_machine(Top) as machine:
            async with trsm.open_machine(Part, raising(error, Part.On.on_exit), parent=machine, id="child") as child:
                child.add(Part.On)
                machine.close()
                await trio.sleep_forever()
    assert caught.value.exceptions == (error,)


async def test_child_with_a_block_below_a_started_one() -> None:
    """The started child closes it, and is itself joined by its parent; the block is joined where it stands."""
    log: list[str] = []
    async with trsm.open_machine(Top) as machine:
        child = machine.start_child(Part, Noting(log), id="c")
        child.add(Part.On)
        await settle()
        async with trsm.open_machine(Part, Noting(log), id="block", parent=child) as block:
            block.add(Part.On)
            await settle()
            child.close()
            assert log == ["block exit", "c exit"]
            await trio.sleep_forever()
        assert block.closed
        await child.when_closed()
        assert not machine.closed


async def test_body_that_waits_for_its_parent() -> None:
    """When the parent closes, the child's body is cancelled with its own block, and no `MachineClosed` escapes."""
    async with trsm.open_machine(Top) as machine:
        async with trsm.open_machine(Part, parent=machine):
            waiter = machine.when(Top.On)
            machine.close()
            await waiter


async def test_child_with_a_deep_line_of_children() -> None:
    """A line of a hundred generations closes, the youngest first."""
    async with trsm.open_machine(Part) as machine:
        line = [machine]
        for _ in range(100):
            line.append(line[-1].start_child(Part))
        machine.close()
        assert all(one.closed for one in line)


# ---- Closed from a child's transition -------------------------------------------------------------------------------


class Parent(Schema):
    First = State()
    Second = State()
    Third = State()


async def test_close_that_a_child_puts_off() -> None:
    """It has begun: what waits is canceled, and so is what comes, until the child's transition is over."""

    class Closing:
        @Parent.First.on_enter
        def first(self, t: Transition) -> None:
            results.append(t.machine.add(Parent.Second))
            t.machine.close()

    class Child:
        @Parent.First.on_enter
        def first(self, t: Transition) -> None:
            parent = t.machine.parent
            assert parent is not None
            results.append(bool(parent.add(Parent.First)))
            assert not parent.closed
            assert parent.queue == ()
            parent.bind(Parent.Third.on_enter(lambda t: results.append(t)))
            results.extend([parent.add(Parent.Third), parent.toggle(Parent.Third)])
            assert not parent.can_add(Parent.Third)
            assert parent.explain("add", Parent.Third).text == "add(Third) is refused: machine 'parent' is closing."
            assert parent.active_states == (Parent.First,)

    results: list[object] = []
    async with trsm.open_machine(Parent, Closing(), id="parent") as parent:
        child = parent.start_child(Parent, Child())
        assert child.add(Parent.First)
        assert parent.closed
    queued, first, *late = results
    assert isinstance(queued, Queued)
    assert first is True
    for canceled in (queued.outcome, *late):
        assert isinstance(canceled, Canceled)
        assert canceled.reason == "machine 'parent' is closing"


async def test_error_after_a_close_that_a_child_puts_off() -> None:
    """It leaves the block, as what comes while closing does."""

    class Child:
        @Parent.First.on_enter
        def first(self, t: Transition) -> None:
            parent = t.machine.parent
            assert parent is not None
            parent.close()
            parent.add_error(ValueError("late"))

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Parent) as parent:
            parent.start_child(Parent, Child()).add(Parent.First)
    assert [repr(one) for one in caught.value.exceptions] == ["ValueError('late')"]


@pytest.mark.parametrize("is_block", [True, False])
async def test_tracer_of_a_child_that_has_closed_closes_the_parent(is_block: bool) -> None:
    """The child is in a transition still, and has closed: nobody waits for it."""

    class Closes(Tracer):
        def machine_closed(self, machine: Observed) -> None:
            parent.close()

    async with trsm.open_machine(Parent) as parent:
        parent.add(Parent.First)
        parent.start_soon(trio.sleep_forever)
        if is_block:
            async with trsm.open_machine(Parent, parent=parent, tracers=[Closes()]):
                pass
        else:
            parent.start_child(Parent, tracers=[Closes()]).close()
        assert parent.closed


async def test_child_that_ends_the_program_while_its_parent_is_closed_from_a_grandchild() -> None:
    """Its brothers and its parent close all the same; the exception goes to the caller."""

    class Leaving:
        @Parent.First.on_exit
        def left(self, t: Transition) -> None:
            raise SystemExit

    class Grandchild:
        @Parent.First.on_enter
        def first(self, t: Transition) -> None:
            root.close()

    async with trsm.open_machine(Parent) as root:
        root.add(Parent.First)
        root.start_soon(trio.sleep_forever)
        older = root.start_child(Parent)
        grandchild = older.start_child(Parent, Grandchild())
        younger = root.start_child(Parent, Leaving())
        younger.add(Parent.First)
        with pytest.raises(SystemExit):
            grandchild.add(Parent.First)
        assert [machine.closed for machine in (grandchild, older, younger, root)] == [True] * 4


async def test_many_children_closed_from_the_transition_of_one() -> None:
    """It takes work for each child, and not for each pair of them."""

    @Parent.First.on_enter
    def closes(t: Transition) -> None:
        t.machine.parent.close()

    async def calls(number: int) -> int:
        """Return how many functions were called to close so many children."""
        called = 0

        def count(frame: FrameType, event: str, arg: object) -> None:
            nonlocal called
            called += 1

        async with trsm.open_machine(Parent) as parent:
            for _ in range(number):
                parent.start_child(Parent)
            youngest = parent.start_child(Parent, closes)
            before = sys.getprofile()
            sys.setprofile(count)
            try:
                youngest.add(Parent.First)
            finally:
                sys.setprofile(before)
            assert parent.closed
        return called

    assert await calls(400) < 3 * await calls(200)
