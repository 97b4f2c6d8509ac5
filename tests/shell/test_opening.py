"""Opening a machine, and what leaves its block (DESIGN sections 5 to 7)."""

from __future__ import annotations

import contextvars
import gc
import signal
import sys
import types
import weakref
from collections.abc import Callable, Iterator

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

import trsm
from trsm import (
    ErrorState,
    HandlerError,
    Machine,
    MachineClosed,
    Observed,
    Schema,
    State,
    Tracer,
    Transition,
    UnknownState,
)


class Job(Schema):
    Idle = State()
    Busy = State()
    Kept = State(latch=True)
    Ready = State(auto=True, require=Idle)


class Other(Schema):
    Far = State()


class Handled(Schema):
    Busy = State()
    ErrValue = ErrorState(catches=ValueError)


def raising(error: BaseException) -> Callable[[Transition], None]:
    """Return a handler of Busy's entry that raises."""

    @Job.Busy.on_enter
    def fail(t: Transition) -> None:
        raise error

    return fail


def failing(error: BaseException) -> Callable[[Transition], object]:
    """Return a task of Busy that raises at once."""

    @Job.Busy.task
    async def fail(t: Transition) -> None:
        raise error

    return fail


@Job.Busy.task
async def forever(t: Transition) -> None:
    await trio.sleep_forever()


# ---- Opening --------------------------------------------------------------------------------------------------------


async def test_opening_is_no_checkpoint_and_moves_nothing() -> None:
    """Nothing is active, not even an auto state; no tick has moved; and no other task ran in between."""
    opening = trsm.open_machine(Job)
    with assert_no_checkpoints():
        machine = await opening.__aenter__()
    try:
        assert machine.active_states == ()
        assert all(machine.tick(state) == 0 for state in Job)
        assert machine.parent is None
        assert machine.children == ()
        assert machine.ticks_at_close is None
        assert not machine.closed
    finally:
        await opening.__aexit__(None, None, None)


async def test_last_transition_of_a_machine_just_opened() -> None:
    """Opening counts as a transition, so that one is never missing."""
    async with trsm.open_machine(Job) as machine:
        opened = machine.last_transition
        assert (opened.kind, opened.tick, opened.called, opened.entering) == ("open", 0, (), ())
        assert opened.machine is machine


async def test_block_with_nothing_to_join_left_while_the_outside_is_cancelled() -> None:
    """Leaving raises nothing of its own: the cancellation is met at the next checkpoint."""
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Job):
            scope.cancel()
        behind = True
        await trio.lowlevel.checkpoint()
    assert behind
    assert scope.cancelled_caught


async def test_block_that_is_entered_twice() -> None:
    """A block is one machine's: the second time is refused, and the first goes on."""
    opening = trsm.open_machine(Job)
    async with opening as machine:
        with pytest.raises(RuntimeError, match=r"opened once: call open_machine\(…\) again"):
            await opening.__aenter__()
        assert machine.add(Job.Idle)


async def test_id_as_given() -> None:
    """It is the machine's name in messages, in its repr, and in the errors that leave the block."""
    with pytest.raises(ExceptionGroup, match=r"^unhandled in machine 'link'$"):
        async with trsm.open_machine(Job, raising(ValueError()), id="link") as machine:
            assert machine.id == "link"
            assert repr(machine) == "<Machine 'link' ()>"
            machine.add(Job.Busy)


async def test_id_by_default() -> None:
    """It is the schema's name and a number that no other machine has."""
    async with trsm.open_machine(Job) as one, trsm.open_machine(Job) as other:
        name, _, number = one.id.rpartition("-")
        assert name == "Job"
        assert number.isdigit()
        assert other.id != one.id


class Heard(Tracer):
    def __init__(self) -> None:
        self.refused: list[str] = []
        self.slow: list[tuple[str, str]] = []

    def slow_handler(self, machine: Observed, handler: str, seconds: float) -> None:
        self.slow.append((machine.id, handler))


@Job.Idle.on_enter
def slowly(t: Transition) -> None:
    """Take a tenth of nothing, which is more than the budget of these tests."""


async def test_tracers_and_the_budget_of_handlers() -> None:
    """A tracer is told of a handler beyond the budget; within it, it is not."""
    heard = Heard()
    async with trsm.open_machine(Job, slowly, id="a", tracers=[heard], handler_budget=1e-12) as machine:
        machine.add(Job.Idle)
    async with trsm.open_machine(Job, slowly, id="b", tracers=iter([heard]), handler_budget=1e9) as machine:
        machine.add(Job.Idle)
    assert heard.slow == [("a", "slowly")]


async def test_queue_limit_of_the_opening() -> None:
    """It bounds the queue of this machine."""

    @Job.Idle.on_enter
    def flood(t: Transition) -> None:
        t.machine.add(Job.Busy)
        with pytest.raises(trsm.QueueFull, match="its queue_limit"):
            t.machine.add(Job.Kept)

    async with trsm.open_machine(Job, flood, queue_limit=1) as machine:
        machine.add(Job.Idle)
        assert machine.is_active(Job.Busy)
        assert machine.is_inactive(Job.Kept)


async def test_drain_limit_of_the_opening() -> None:
    """It bounds the drains of this machine; beyond it, the machine closes."""

    @Job.Idle.on_enter
    def again(t: Transition) -> None:
        t.machine.toggle(Job.Busy)

    @Job.Busy.on_enter
    @Job.Busy.on_exit
    def on(t: Transition) -> None:
        t.machine.toggle(Job.Busy)

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Job, again, on, drain_limit=5) as machine:
            machine.add(Job.Idle)
            assert machine.closed
    (error,) = caught.value.exceptions
    assert isinstance(error, trsm.NotSettled)
    assert "within 5 transitions" in str(error)


Refused = tuple[dict[str, object], type[Exception], str]
REFUSED: list[Refused] = [
    ({"queue_limit": 0}, ValueError, r"queue_limit=0: write a positive number"),
    ({"queue_limit": True}, ValueError, r"queue_limit=True: write a positive number"),
    ({"queue_limit": "many"}, ValueError, r"queue_limit='many': write a positive number"),
    ({"drain_limit": -1}, ValueError, r"drain_limit=-1: write a positive number"),
    ({"handler_budget": 0}, ValueError, r"handler_budget=0: write a positive number"),
    ({"cleanup_timeout": 0}, ValueError, r"cleanup_timeout=0: write a positive number of seconds"),
    ({"cleanup_timeout": -1.5}, ValueError, r"cleanup_timeout=-1\.5: write a positive number of seconds"),
    ({"cleanup_timeout": float("nan")}, ValueError, r"cleanup_timeout=nan: write a positive number of seconds"),
    ({"cleanup_timeout": True}, ValueError, r"cleanup_timeout=True: write a positive number of seconds"),
    ({"cleanup_timeout": None}, ValueError, r"cleanup_timeout=None: write a positive number of seconds"),
    ({"id": 3}, TypeError, r"id=3: write a string, which messages show, or leave it out"),
    ({"tracers": 3}, TypeError, r"tracers=3: pass several, \[3\] if it is one"),
    ({"tracers": [3]}, TypeError, r"tracers=\[…\]: 3 is no tracer: pass objects of a class that inherits from Tracer"),
    ({"parent": "p"}, TypeError, r"parent='p'\): pass a machine, as open_machine or start_child gives it"),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), REFUSED, ids=lambda value: str(value)[:30])
async def test_argument_that_is_refused(arguments: dict[str, object], kind: type[Exception], words: str) -> None:
    """The message shows what was written and says what to write; the body is never entered."""
    with pytest.raises(kind, match=words):
        async with trsm.open_machine(Job, **arguments):  # type: ignore[arg-type]
            pytest.fail("entered")


CHILD_REFUSED = [one for one in REFUSED if not {"cleanup_timeout", "parent"} & set(one[0])]


@pytest.mark.parametrize(("arguments", "kind", "words"), CHILD_REFUSED, ids=lambda value: str(value)[:30])
async def test_argument_that_is_refused_for_a_child(
    arguments: dict[str, object], kind: type[Exception], words: str
) -> None:
    """As for a machine with a block; the parent has no child then."""
    async with trsm.open_machine(Job) as machine:
        with pytest.raises(kind, match=words):
            machine.start_child(Job, **arguments)  # type: ignore[arg-type]
        assert machine.children == ()


@pytest.mark.parametrize("written", [3, Job.Idle, object, None])
async def test_schema_that_is_none(written: object) -> None:
    """What is no schema class is refused, by both ways to open a machine."""
    words = r"is no schema: pass a class that inherits from trsm\.Schema"
    with pytest.raises(TypeError, match=words):
        async with trsm.open_machine(written):  # type: ignore[arg-type]
            pytest.fail("entered")
    async with trsm.open_machine(Job) as machine:
        with pytest.raises(TypeError, match=words):
            machine.start_child(written)  # type: ignore[arg-type]
        assert machine.children == ()


@Other.Far.on_enter
def of_another_schema(t: Transition) -> None:
    """Belong to another schema."""


@pytest.mark.parametrize(
    ("handler", "kind", "words"),
    [(of_another_schema, UnknownState, "Far is not a state of Job"), (object(), HandlerError, "has no handlers")],
)
async def test_handler_that_does_not_fit(handler: object, kind: type[Exception], words: str) -> None:
    """The error is bare, the body is never entered, the parent knows no such child, and the outside goes on."""
    async with trsm.open_machine(Job) as parent:
        with pytest.raises(kind, match=words):
            async with trsm.open_machine(Job, handler, parent=parent):
                pytest.fail("entered")
        with pytest.raises(kind, match=words):
            parent.start_child(Job, handler)
        assert parent.children == ()
        await trio.lowlevel.checkpoint()


async def test_refused_while_the_outside_is_cancelled() -> None:
    """The refusal leaves bare all the same, and the cancellation is met at the next checkpoint."""
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(HandlerError, match="has no handlers"):
            async with trsm.open_machine(Job, object()):
                pytest.fail("entered")
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_closed_parent() -> None:
    """A child cannot outlive its parent: neither kind is opened on one that is closed, and the message says so."""
    async with trsm.open_machine(Job, id="p") as parent:
        parent.close()
        with pytest.raises(MachineClosed, match=r"parent=….: machine 'p' is closed, and a child cannot") as caught:
            async with trsm.open_machine(Job, parent=parent):
                pytest.fail("entered")
        assert caught.value.machine is parent
        with pytest.raises(MachineClosed, match=r"start_child: machine 'p' is closed, and a child cannot") as caught:
            parent.start_child(Job)
        assert caught.value.machine is parent


async def test_parent_of_another_thread() -> None:
    """A machine belongs to the thread that opened it, as a parent too; nothing of it is touched."""

    async def elsewhere(parent: Machine) -> str:
        with pytest.raises(trsm.WrongThread) as caught:
            async with trsm.open_machine(Job, parent=parent):
                pytest.fail("entered")
        return str(caught.value)

    async with trsm.open_machine(Job, id="p") as parent:
        text = await trio.to_thread.run_sync(lambda: trio.run(elsewhere, parent))
        assert "open_machine(parent=…) of machine 'p'" in text
        assert "write trio.from_thread.run(…) with a function that opens it there" in text
        assert parent.children == ()


def test_machine_made_by_hand() -> None:
    """The message says how machines are opened."""
    with pytest.raises(TypeError, match=r"async with trsm\.open_machine\(…\) as machine, or machine\.start_child"):
        Machine(Job)


def test_machine_inherited_from() -> None:
    """The message says where behaviour goes."""
    with pytest.raises(TypeError, match="Machine cannot be inherited from: put behaviour in handlers"):
        type("Mine", (Machine,), {})


def test_with_in_place_of_async_with() -> None:
    """It says what to write, and nothing is opened."""
    with pytest.raises(TypeError) as caught:
        with trsm.open_machine(Job):  # type: ignore[attr-defined]
            pass
    message = "write async with trsm.open_machine(…), not with: leaving the block waits for the tasks"
    assert str(caught.value) == message


def test_opening_outside_of_trio() -> None:
    """There is no nursery to be had: the message says how to get into trio, and no machine is left over."""
    opening = trsm.open_machine(Job).__aenter__()
    with pytest.raises(RuntimeError, match=r"in a task of trio: write trio\.run\(main\), not asyncio\.run\(…\)"):
        opening.send(None)


async def test_await_in_place_of_async_with() -> None:
    """It says what to write, and nothing is opened."""
    with pytest.raises(TypeError, match=r"^write async with trsm\.open_machine\(…\) as machine, not await: "):
        await trsm.open_machine(Job)  # type: ignore[misc]


async def test_block_taken_for_its_machine() -> None:
    """The message says where the machine is, before the block is entered and in it."""
    block = trsm.open_machine(Job)
    words = r"open_machine\(…\) is a block.*write async with trsm\.open_machine\(…\) as machine, and machine\.add in"
    with pytest.raises(AttributeError, match=words):
        block.add(Job.Idle)  # type: ignore[attr-defined]
    async with block:
        with pytest.raises(AttributeError, match=words) as caught:
            block.add(Job.Idle)  # type: ignore[attr-defined]
    assert (caught.value.name, caught.value.obj) == ("add", block)
    assert not hasattr(block, "when")


async def test_tasks_see_the_context_of_the_opening() -> None:
    """Tasks run in the context variables as they were when the block was opened, whoever mutates."""
    variable = contextvars.ContextVar("variable", default="default")
    seen = []

    @Job.Busy.task
    async def look(t: Transition) -> None:
        seen.append(variable.get())

    variable.set("before")
    opening = trsm.open_machine(Job, look)
    variable.set("opened")
    async with opening as machine:
        variable.set("inside")
        machine.add(Job.Busy)
        child = machine.start_child(Job, look)
        child.add(Job.Busy)
        await wait_all_tasks_blocked()
    assert seen == ["opened", "opened"]


async def test_machine_of_a_transition_that_is_gone() -> None:
    """A transition does not keep its machine alive, and says so when asked for it."""
    async with trsm.open_machine(Job) as machine:
        machine.add(Job.Idle)
        last = machine.last_transition
        assert last.machine is machine
    del machine
    await trio.lowlevel.checkpoint()
    with pytest.raises(ReferenceError, match="the machine of this transition is gone"):
        last.machine


# ---- What leaves the block ------------------------------------------------------------------------------------------


async def test_nothing_went_wrong() -> None:
    """The block ends, and nothing leaves it."""
    async with trsm.open_machine(Job, forever) as machine:
        machine.add(Job.Busy)
    assert machine.closed


@pytest.mark.parametrize(
    "error", [ValueError("own"), ExceptionGroup("own", [ValueError()]), KeyboardInterrupt(), StopAsyncIteration()]
)
async def test_exception_of_the_body_alone(error: BaseException) -> None:
    """It leaves bare and untouched: the very object, nothing added before or behind it."""
    cause, context = KeyError("cause"), KeyError("context")
    error.__cause__, error.__context__ = cause, context
    with pytest.raises(type(error)) as caught:
        async with trsm.open_machine(Job, forever) as machine:
            machine.add(Job.Busy)
            await wait_all_tasks_blocked()
            raise error
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (cause, context)
    frames = [frame.f_code.co_name for frame, _ in _walk(error.__traceback__)]
    assert frames == ["test_exception_of_the_body_alone"]


def _walk(traceback: types.TracebackType | None) -> Iterator[tuple[types.FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


async def test_one_error_of_the_machine() -> None:
    """One or many makes no difference: it leaves in a group that names the machine."""
    error = ValueError("handler")
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Job, raising(error), id="m") as machine:
            machine.add(Job.Busy)
            await trio.sleep_forever()
    assert caught.value.message == "unhandled in machine 'm'"
    assert caught.value.exceptions == (error,)
    assert caught.value.__context__ is None


async def test_errors_in_their_order_and_the_body_last() -> None:
    """The group is flat: handler, then what comes up while closing, then cleanups, and the body's exception last."""
    first, exit_error, task_error, late, early, body = (ValueError(name) for name in "abcdef")

    class Handlers:
        @Job.Idle.on_exit
        def leave(self, t: Transition) -> None:
            raise exit_error

        @Job.Idle.task
        async def work(self, t: Transition) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise task_error

    async def clean_up(error: Exception) -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Job, Handlers(), raising(first)) as machine:
            machine.defer(clean_up, early)
            machine.defer(clean_up, late)
            machine.add(Job.Idle)
            await wait_all_tasks_blocked()
            machine.add(Job.Busy)
            try:
                await trio.sleep_forever()
            finally:
                raise body
    assert caught.value.exceptions == (first, exit_error, task_error, late, early, body)
    assert body.__context__.__class__ is trio.Cancelled  # as its own code made it
    assert caught.value.__context__ is None


async def test_group_of_the_body_beside_errors_of_the_machine() -> None:
    """The body's group is one member: it is not taken apart."""
    error = ValueError()
    body = ExceptionGroup("body", [KeyError(), TypeError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Job, raising(error)) as machine:
            machine.add(Job.Busy)
            raise body
    assert caught.value.exceptions == (error, body)


async def test_body_that_ends_with_its_machine_closed() -> None:
    """Shielded code that meets `MachineClosed` has ended normally, alone or in a group."""
    async with trsm.open_machine(Job) as machine:
        waiter = machine.when(Job.Idle)
        machine.close()
        with trio.CancelScope(shield=True):
            await waiter
    assert machine.closed

    async with trsm.open_machine(Job) as machine:
        waiter = machine.when(Job.Idle)
        machine.close()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    await waiter

                nursery.start_soon(wait)


async def test_body_that_ends_with_another_machine_closed() -> None:
    """Only this machine's own `MachineClosed` is an end: that of another is an error of the body, bare."""
    async with trsm.open_machine(Job, id="other") as other:
        other.close()
        with trio.CancelScope(shield=True):
            with pytest.raises(MachineClosed, match="'other'"):
                async with trsm.open_machine(Job):
                    await other.when(Job.Idle)


async def test_exception_of_a_handler_that_is_no_exception() -> None:
    """It goes to the caller, the machine closes; and the block hands it on bare, as the body let it through."""
    stop = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        async with trsm.open_machine(Job, raising(stop)) as machine:
            machine.add(Job.Idle)
            try:
                machine.add(Job.Busy)
            finally:
                assert machine.closed
                assert machine.ticks_at_close is not None
                assert machine.ticks_at_close.is_active(Job.Idle)
    assert caught.value is stop


async def test_exit_handler_that_raises_no_exception_when_the_block_is_left() -> None:
    """The caller of that close is the block: it joins the errors of the machine, and everything is still joined."""
    stop = SystemExit(3)
    ended = []

    class Handlers:
        @Job.Idle.on_exit
        def leave(self, t: Transition) -> None:
            raise stop

        @Job.Idle.task
        async def work(self, t: Transition) -> None:
            try:
                await trio.sleep_forever()
            finally:
                ended.append("task")

    async def clean_up() -> None:
        ended.append("cleanup")

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Job, Handlers()) as machine:
            machine.defer(clean_up)
            machine.add(Job.Idle)
            await wait_all_tasks_blocked()
    assert caught.value.exceptions == (stop,)
    assert ended == ["task", "cleanup"]


async def test_several_handlers_that_raise_no_exception() -> None:
    """They go to the caller in one group that names the machine, in the order in which they were raised."""
    first, second = SystemExit(1), SystemExit(2)

    class Handlers:
        @Job.Idle.on_exit
        def leave(self, t: Transition) -> None:
            raise first

        @Job.Busy.on_exit
        def leave_too(self, t: Transition) -> None:
            raise second

    async with trsm.open_machine(Job, Handlers(), id="m") as machine:
        machine.add(Job.Idle, Job.Busy)
        with pytest.raises(BaseExceptionGroup, match="in handlers of machine 'm'") as caught:
            machine.close()
        assert caught.value.exceptions == (second, first)


async def test_task_that_raises_no_exception() -> None:
    """The machine ends, body and all; it leaves in the group of the machine."""
    stop = KeyboardInterrupt()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Job, failing(stop)) as machine:
            machine.add(Job.Busy)
            await trio.sleep_forever()
    assert caught.value.exceptions == (stop,)
    assert machine.closed


async def test_task_that_raises_both_kinds() -> None:
    """The exceptions become errors of the machine, the rest goes on: both are in the group that leaves."""
    error, stop = ValueError(), SystemExit()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Job, failing(BaseExceptionGroup("", [error, stop]))) as machine:
            machine.add(Job.Busy)
            await trio.sleep_forever()
    taken, rest = caught.value.split(ValueError)
    assert _leaves(taken) == [error]
    assert _leaves(rest) == [stop]


def _leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [] if error is None else [error]


# ---- Cancellation from outside --------------------------------------------------------------------------------------


async def test_cancelled_from_outside_with_tasks() -> None:
    """Nothing went wrong in the machine: however many tasks it had, one bare `Cancelled` leaves, the body's own."""
    with trio.CancelScope() as scope:
        own: BaseException | None = None
        try:
            async with trsm.open_machine(Job, forever, forever) as machine:
                machine.add(Job.Busy)
                await wait_all_tasks_blocked()
                scope.cancel()
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as error:
                    own = error
                    raise
        except BaseException as left:
            assert left is own  # noqa: PT017
            raise
    assert scope.cancelled_caught
    assert machine.closed


async def test_cancelled_from_outside_while_tasks_are_joined() -> None:
    """The body was done: what its tasks met, all of them the same cancellation, leaves once and bare."""

    @Job.Busy.task
    async def slow(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()

    with trio.CancelScope() as scope:
        try:
            async with trsm.open_machine(Job, slow, slow) as machine:
                machine.add(Job.Busy)
                await wait_all_tasks_blocked()
        except BaseException as left:
            assert type(left) is trio.Cancelled  # noqa: PT017
            raise
        pytest.fail("went on")
    assert scope.cancelled_caught


async def test_cancelled_from_outside_and_by_its_own_close() -> None:
    """The outer scope sees its cancellation, though the machine's own close was met first."""
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Job, forever) as machine:
            machine.add(Job.Busy)
            machine.close()
            scope.cancel()
            await trio.sleep_forever()
        pytest.fail("went on")
    assert scope.cancelled_caught


async def test_its_own_close_is_no_cancellation_outside() -> None:
    """The block ends without an exception, and the code behind it goes on."""
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Job, forever) as machine:
            machine.add(Job.Busy)
            machine.close()
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
    assert not scope.cancelled_caught
    assert not scope.cancel_called


async def test_cancelled_from_outside_beside_an_error() -> None:
    """They leave in one group: the outer scope takes its own, and the error goes on."""

    class Handlers:
        @Job.Idle.on_exit
        def leave(self, t: Transition) -> None:
            raise error

    error = ValueError()
    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as scope:
            try:
                async with trsm.open_machine(Job, Handlers(), forever) as machine:
                    machine.add(Job.Idle, Job.Busy)
                    await wait_all_tasks_blocked()
                    scope.cancel()
                    await trio.sleep_forever()
            except BaseExceptionGroup as left:
                assert [type(one) for one in left.exceptions] == [ValueError, trio.Cancelled]  # noqa: PT017
                raise
    assert scope.cancelled_caught
    assert caught.value.message.startswith("unhandled in machine")
    assert _leaves(caught.value) == [error]


async def test_cancelled_in_its_tasks_only_beside_an_error() -> None:
    """A cancellation that only tasks met joins too, once, and the body's exception is still the last."""

    @Job.Busy.task
    async def slow(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            scope.cancel()

    class Handlers:
        @Job.Idle.on_exit
        def leave(self, t: Transition) -> None:
            raise error

    error, body = ValueError(), KeyError()
    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as scope:
            try:
                async with trsm.open_machine(Job, Handlers(), slow, slow) as machine:
                    machine.add(Job.Idle, Job.Busy)
                    await wait_all_tasks_blocked()
                    raise body
            except BaseExceptionGroup as left:
                assert [type(one) for one in left.exceptions] == [ValueError, trio.Cancelled, KeyError]  # noqa: PT017
                raise
    assert scope.cancelled_caught
    assert _leaves(caught.value) == [error, body]


async def test_body_fails_while_the_outside_is_cancelled() -> None:
    """The body's own exception alone leaves bare, whatever its tasks met."""
    with trio.CancelScope() as scope:
        with pytest.raises(KeyError):
            async with trsm.open_machine(Job, forever) as machine:
                machine.add(Job.Busy)
                await wait_all_tasks_blocked()
                scope.cancel()
                raise KeyError


async def test_body_raises_a_group_with_a_cancellation_from_outside() -> None:
    """Nothing is taken out of it: the outer scope does that."""
    body: BaseException | None = None
    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as scope:
            try:
                async with trsm.open_machine(Job):
                    try:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(_fail_when_cancelled)
                            scope.cancel()
                            await trio.sleep_forever()
                    except BaseExceptionGroup as error:
                        body = error
                        raise
            except BaseExceptionGroup as left:
                assert left is body  # noqa: PT017
                raise
    assert [type(one) for one in _leaves(caught.value)] == [KeyError]


async def test_body_raises_a_group_with_the_cancellation_of_its_own_close() -> None:
    """The machine's own cancellation is taken out of it, the rest leaves in the body's group."""
    with pytest.raises(ExceptionGroup, match="Exceptions from Trio nursery") as caught:
        async with trsm.open_machine(Job) as machine:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_fail_when_cancelled)
                machine.close()
                await trio.sleep_forever()
    assert [type(one) for one in _leaves(caught.value)] == [KeyError]
    assert caught.value.__context__ is None


async def _fail_when_cancelled() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise KeyError


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------


class Injected:
    """Delivers Ctrl-C at the n-th place in unprotected code where a signal may really arrive.

    That is where a function begins, and where one that is written in C returns; not where a coroutine is resumed.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.where: str | None = None
        self._begun: set[types.FrameType] = set()

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> None:
        if event == "call":
            if frame in self._begun:
                return
            self._begun.add(frame)
        elif event != "c_return":
            return
        sys.setprofile(None)
        if not trio.lowlevel.currently_ki_protected():
            if not self.number:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname} {event}"
                signal.raise_signal(signal.SIGINT)
            self.number -= 1
        sys.setprofile(self)


class Life:
    """What has to be true of a machine whose block was entered, however it was left."""

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self.log: list[str] = []

    @Job.Busy.on_enter
    def enter(self, t: Transition) -> None:
        self.log.append("enter")

    @Job.Busy.on_exit
    def leave(self, t: Transition) -> None:
        self.log.append("exit")

    @Job.Busy.task
    async def work(self, t: Transition) -> None:
        try:
            self.log.append("begin")
            await trio.sleep_forever()
        finally:
            self.log.append("end")

    async def run(self, injected: Injected) -> None:
        sys.setprofile(injected)
        try:
            async with trsm.open_machine(Job, self) as machine:
                self.machine = machine
                machine.add(Job.Busy)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
        finally:
            sys.setprofile(None)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What other libraries hang on the garbage collector would be hit by Ctrl-C too."""
    gc.disable()
    yield
    gc.enable()


# Where Ctrl-C comes just before a task's first step, Python notes that its coroutine never ran; which is true.
@pytest.mark.filterwarnings("ignore:coroutine 'Life.work' was never awaited:RuntimeWarning")
def test_ctrl_c_at_every_call_in_and_around_a_block(no_collector: None) -> None:
    """Wherever Ctrl-C lands: the machine closes, every owed exit runs, tasks are joined, and it is not lost."""
    places = []
    for number in range(1000):
        life, injected = Life(), Injected(number)
        left: list[BaseException] = []
        try:
            trio.run(life.run, injected)
        except BaseException as error:
            left = _leaves(error)
        finally:
            sys.setprofile(None)
        assert [type(error) for error in left] == ([] if injected.where is None else [KeyboardInterrupt])
        if life.machine is not None:
            assert life.machine.closed, injected.where
            assert life.log.count("exit") == life.log.count("enter"), injected.where
            assert life.log.count("end") == life.log.count("begin"), injected.where
        if injected.where is None:
            break
        places.append(injected.where)
    else:
        pytest.fail("did not end")
    gc.collect()  # while that warning is expected
    assert len(places) > 3


# ---- Nothing is left ------------------------------------------------------------------------------------------------


class Silent:
    @Job.Busy.on_enter
    def enter(self, t: Transition) -> None:
        """Enter."""

    @Job.Busy.task
    async def work(self, t: Transition) -> None:
        await trio.sleep_forever()


async def _plain() -> None:
    async with trsm.open_machine(Job, Silent()) as machine:
        machine.add(Job.Busy)
        machine.defer(trio.lowlevel.checkpoint)
        with machine.while_active(Job.Busy):
            await trio.lowlevel.checkpoint()


async def _closed() -> None:
    async with trsm.open_machine(Job, Silent()) as machine:
        machine.add(Job.Busy)
        machine.close()
        await trio.sleep_forever()


async def _waited() -> None:
    async with trsm.open_machine(Job, Silent()) as machine:
        machine.add(Job.Busy)
        await (machine.when(Job.Idle) | machine.when_not(Job.Idle))
        pending, watch = machine.when(Job.Idle) & machine.when(Job.Kept), machine.watch()
        assert not pending.done
        del watch


async def _cancelled() -> None:
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Job, Silent()) as machine:
            machine.add(Job.Busy)
            await trio.lowlevel.checkpoint()
            scope.cancel()
            await trio.lowlevel.checkpoint()


async def _cancelled_while_joined() -> None:
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Job, Silent()) as machine:
            machine.add(Job.Busy)
            await trio.lowlevel.checkpoint()
            scope.cancel()


async def _failed() -> None:
    try:
        async with trsm.open_machine(Job, Silent()) as machine:
            machine.add(Job.Busy)
            await trio.lowlevel.checkpoint()
            raise ValueError
    except ValueError:
        pass


async def _children() -> None:
    async with trsm.open_machine(Job, Silent()) as machine:
        child = machine.start_child(Job, Silent())
        child.add(Job.Busy)
        child.start_child(Job, Silent()).add(Job.Busy)
        async with trsm.open_machine(Job, parent=child):
            await trio.lowlevel.checkpoint()
        child.close()
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    "life",
    [_plain, _closed, _waited, _cancelled, _cancelled_while_joined, _failed, _children],
    ids=lambda f: f.__name__,
)
async def test_machine_after_its_block(life: Callable[[], object]) -> None:
    """It is freed by reference counting alone: with the collector off, there is nothing for it to find."""
    made = []
    original = Machine._made

    def noting(*args: object) -> Machine:
        machine = original(*args)  # type: ignore[arg-type]
        made.append(weakref.ref(machine))
        return machine

    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Machine, "_made", noting)
            await life()  # type: ignore[misc]
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        assert made
        assert [ref() for ref in made if ref() is not None] == []
        assert gc.collect() == 0
    finally:
        gc.enable()
