"""State-scoped time: a state that has been active for its ``timeout`` leaves, and ``on_timeout`` comes (issue 3)."""

from __future__ import annotations

import gc
import logging
import math
import weakref
from collections.abc import Iterator

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Engine, ErrorState, Machine, Result, Schema, SchemaError, State, Tracer


class Approval(Schema):
    Waiting = State(timeout=60, on_timeout="Escalated", remove=("Approved", "Escalated"))
    Approved = State(remove=(Waiting, "Escalated"))
    Escalated = State(remove=(Waiting, Approved))
    Debounce = State(timeout=0.5)
    Busy = State(multi=True, timeout=10)


def timer_tasks() -> list[str]:
    """Return the names of the timer tasks that there are."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return [task.name for task in tasks_below(root) if task.name == "timeouts of states"]


def tasks_below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from tasks_below(child)


# ---- What it does ---------------------------------------------------------------------------------------------------


async def test_a_state_is_active_for_as_long_as_its_timeout(autojump_clock: MockClock) -> None:
    """It is deactivated when it has been active that long, not before."""
    async with trsm.open_machine(Approval) as machine:
        machine.add(Approval.Debounce)
        start = trio.current_time()
        await trio.sleep(0.49)
        assert Approval.Debounce in machine
        await machine.when_not(Approval.Debounce)
        assert trio.current_time() - start == pytest.approx(0.5)


async def test_what_comes_on_timeout_comes_in_the_same_mutation(autojump_clock: MockClock) -> None:
    """The state leaves and the other comes in one transition, so that nobody sees neither or both."""
    async with trsm.open_machine(Approval) as machine:
        machine.add(Approval.Waiting)
        transition = await machine.when(Approval.Escalated)
        assert trio.current_time() == pytest.approx(60)
        assert transition.leaving == (Approval.Waiting,)
        assert transition.entering == (Approval.Escalated,)
        assert transition.kind == "mutate"


async def test_without_on_timeout_it_is_removed(autojump_clock: MockClock) -> None:
    """A timeout alone is a ``remove``."""
    async with trsm.open_machine(Approval) as machine:
        machine.add(Approval.Debounce)
        transition = await machine.when_not(Approval.Debounce)
        assert (transition.kind, transition.dropped) == ("remove", (Approval.Debounce,))


async def test_a_state_that_left_in_time_has_no_timeout(autojump_clock: MockClock) -> None:
    """The deadline goes with the instance."""
    async with trsm.open_machine(Approval) as machine:
        machine.add(Approval.Waiting)
        await trio.sleep(59)
        machine.add(Approval.Approved)
        await trio.sleep(100)
        assert machine.active_states == (Approval.Approved,)
        assert machine.tick(Approval.Escalated) == 0


async def test_each_instance_has_its_whole_time(autojump_clock: MockClock) -> None:
    """A state that left and came back starts afresh, as a debounce wants it."""
    async with trsm.open_machine(Approval) as machine:
        for _ in range(5):
            machine.remove(Approval.Debounce)
            machine.add(Approval.Debounce)
            await trio.sleep(0.4)
        assert Approval.Debounce in machine
        await trio.sleep(0.2)
        assert Approval.Debounce not in machine


async def test_a_multi_state_called_again_keeps_its_deadline(autojump_clock: MockClock) -> None:
    """It is the same instance, which goes on, and so does its time."""
    async with trsm.open_machine(Approval) as machine:
        machine.add(Approval.Busy)
        await trio.sleep(9)
        machine.add(Approval.Busy)
        await trio.sleep(1.5)
        assert Approval.Busy not in machine


async def test_an_active_state_added_again_keeps_its_deadline(autojump_clock: MockClock) -> None:
    """Adding what is active begins no instance."""
    async with trsm.open_machine(Approval) as machine:
        machine.add(Approval.Debounce)
        await trio.sleep(0.4)
        machine.add(Approval.Debounce)
        await trio.sleep(0.2)
        assert Approval.Debounce not in machine


async def test_time_counts_from_the_activation_and_not_from_the_end_of_the_drain(mock_clock: MockClock) -> None:
    """The deadline is set at the commit, and a handler that takes the state away again takes its deadline too."""

    @Approval.Debounce.on_enter
    def away(t: trsm.Transition) -> None:
        machine.remove(Approval.Debounce)

    async with trsm.open_machine(Approval, away) as machine:
        machine.add(Approval.Debounce)
        assert not machine._deadlines
        assert not machine._timers._heap


async def test_a_state_that_failed_to_enter_has_no_deadline() -> None:
    """The removal that a fault brings ends the instance, and the deadline with it."""

    class Failing(Schema):
        Up = State(timeout=5)
        ErrUp = ErrorState(catches=OSError)

    @Failing.Up.on_enter
    def fail(t: trsm.Transition) -> None:
        raise OSError

    async with trsm.open_machine(Failing, fail) as machine:
        machine.add(Failing.Up)
        assert Failing.Up not in machine
        assert not machine._deadlines


async def test_an_error_state_goes_by_itself(autojump_clock: MockClock) -> None:
    """Error states take timeouts too."""

    class Net(Schema):
        Retry = State()
        ErrNet = ErrorState(catches=OSError, timeout=30, on_timeout=Retry)

    async with trsm.open_machine(Net) as machine:
        machine.add_error(OSError())
        await machine.when(Net.Retry)
        assert trio.current_time() == pytest.approx(30)
        assert Net.ErrNet not in machine


async def test_an_auto_state_comes_back(autojump_clock: MockClock) -> None:
    """The automatic round follows a timeout as it follows any mutation."""

    class Blinker(Schema):
        On = State(auto=True, timeout=1)

    async with trsm.open_machine(Blinker) as machine:
        machine.add(Blinker.On)
        await machine.when_ticks(Blinker.On, 4)
        assert trio.current_time() == pytest.approx(2)
        assert Blinker.On in machine


async def test_an_auto_state_with_hardly_any_time_leaves_room_for_others(autojump_clock: MockClock) -> None:
    """What becomes due while timeouts ring waits for the next step, so that other tasks run in between."""

    class Blinker(Schema):
        On = State(auto=True, timeout=1e-300)

    await trio.sleep(1)  # from here on so little time is none
    async with trsm.open_machine(Blinker) as machine:
        machine.add(Blinker.On)
        for _ in range(10):
            before = machine.tick(Blinker.On)
            await trio.lowlevel.checkpoint()
            assert machine.tick(Blinker.On) - before <= 4  # a batch of trio before it, and one after


async def test_deadlines_ring_in_their_order(autojump_clock: MockClock) -> None:
    """Several states with deadlines: the earliest first; of equal ones the one that began first."""

    class Several(Schema):
        Late = State(timeout=3)
        Second = State(timeout=2)
        First = State(timeout=2)
        Early = State(timeout=1)

    left: list[State[..., object]] = []

    @Several.on_change
    def note(t: trsm.Transition) -> None:
        left.extend(t.leaving)

    async with trsm.open_machine(Several, note) as machine:
        for state in (Several.Late, Several.First, Several.Second, Several.Early):
            machine.add(state)
        await trio.sleep(5)
    assert left == [Several.Early, Several.First, Several.Second, Several.Late]


async def test_one_timeout_can_end_what_another_waits_for(autojump_clock: MockClock) -> None:
    """Two deadlines at one time: what the first took away does not ring."""

    class Pair(Schema):
        Here = State(timeout=1, on_timeout="There")
        There = State(remove="Gone")
        Gone = State(timeout=1, on_timeout="Never")
        Never = State()

    async with trsm.open_machine(Pair) as machine:
        machine.add(Pair.Here, Pair.Gone)
        await trio.sleep(2)
        assert machine.active_states == (Pair.There,)


async def test_the_source_names_the_timeout(autojump_clock: MockClock) -> None:
    """What made the mutation is the timeout, and what made that is what activated the state."""

    class Handlers:
        @Approval.Approved.on_exit
        def again(self, t: trsm.Transition) -> None:
            machine.add(Approval.Waiting)

    async with trsm.open_machine(Approval, Handlers(), id="door") as machine:
        machine.add(Approval.Approved)
        machine.remove(Approval.Approved)
        source = (await machine.when(Approval.Escalated)).source
    assert source is not None
    assert (source.machine, source.handler) == ("door", "timeout of Waiting (60 s)")
    assert (source.tick, source.kind, source.called) == (3, "add", ("Waiting",))
    assert source.parent is not None
    assert source.parent.handler.endswith("Handlers.again")


# ---- Refusals -------------------------------------------------------------------------------------------------------


class Told(Tracer):
    def __init__(self) -> None:
        self.refused: list[tuple[State[..., object], Result]] = []

    def timeout_refused(self, machine: trsm.Observed, state: State[..., object], result: Result) -> None:
        self.refused.append((state, result))


async def test_a_refused_timeout_is_logged_and_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A `can_exit` that refuses keeps the state: a warning and a tracer say so, and it is not tried again."""

    @Approval.Waiting.can_exit
    def never(t: trsm.Transition) -> bool:
        return False

    told = Told()
    async with trsm.open_machine(Approval, never, id="m", tracers=[told]) as machine:
        machine.add(Approval.Waiting)
        with caplog.at_level(logging.WARNING, "trsm"):
            await trio.sleep(200)
        assert Approval.Waiting in machine
        assert Approval.Escalated not in machine
    assert [state for state, _ in told.refused] == [Approval.Waiting]
    assert told.refused[0][1].canceled
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "'m': the timeout of Waiting (60 s) was refused: <Canceled: mutate" in record.getMessage()


async def test_what_a_latched_state_excludes_on_timeout_is_refused(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """All or nothing: if what should come cannot, the state stays."""

    class Latched(Schema):
        Done = State(latch=True, remove="Late")
        Open = State(timeout=1, on_timeout="Late")
        Late = State()

    async with trsm.open_machine(Latched) as machine:
        machine.add(Latched.Done, Latched.Open)
        await trio.sleep(2)
        assert machine.active_states == (Latched.Done, Latched.Open)
    assert "was refused" in caplog.text


# ---- One task -------------------------------------------------------------------------------------------------------


async def test_no_timer_task_before_it_is_needed() -> None:
    """A machine whose states with timeouts are inactive has no task."""
    async with trsm.open_machine(Approval) as machine:
        machine.add(Approval.Approved)
        await wait_all_tasks_blocked()
        assert timer_tasks() == []
        machine.add(Approval.Debounce)
        machine.add(Approval.Busy)
        await wait_all_tasks_blocked()
        assert timer_tasks() == ["timeouts of states"]
    assert timer_tasks() == []


async def test_children_share_the_timer_task_of_their_nursery(autojump_clock: MockClock) -> None:
    """However many started children wait, one task does; a child with a block of its own has another."""
    async with trsm.open_machine(Approval) as machine:
        children = [machine.start_child(Approval) for _ in range(50)]
        grandchild = children[0].start_child(Approval)
        for child in (*children, grandchild):
            child.add(Approval.Waiting)
        await trio.sleep(1)
        assert len(timer_tasks()) == 1
        async with trsm.open_machine(Approval, parent=machine) as other:
            other.add(Approval.Debounce)
            await trio.sleep(0.1)
            assert len(timer_tasks()) == 2
        await trio.sleep(60)
        assert all(Approval.Escalated in child for child in (*children, grandchild))


async def test_entries_go_with_their_instances(autojump_clock: MockClock) -> None:
    """The heap holds no more than twice what is waited for, and nothing once all have left."""
    async with trsm.open_machine(Approval) as machine:
        machine.add(Approval.Busy)
        for _ in range(1000):
            machine.add(Approval.Debounce)
            machine.remove(Approval.Debounce)
            assert len(machine._timers) <= 2
        machine.remove(Approval.Busy)
        assert len(machine._timers) == 0
        machine.add(Approval.Debounce)
        await trio.sleep(1)
        assert len(machine._timers) == 0


async def test_dropped_entries_before_and_behind_the_first(autojump_clock: MockClock) -> None:
    """Deadlines in the middle of the heap that were dropped neither ring nor keep others from ringing."""

    class Many(Schema):
        Short = State(timeout=1)
        Middle = State(timeout=2)
        Long = State(timeout=3)
        Longest = State(timeout=4)

    async with trsm.open_machine(Many) as machine:
        machine.add(Many.Short, Many.Middle, Many.Long, Many.Longest)
        machine.remove(Many.Middle)
        await trio.sleep(1.5)
        assert machine.active_states == (Many.Long, Many.Longest)
        assert machine.tick(Many.Middle) == 2
        await trio.sleep(3)
        assert machine.active_states == ()


async def test_dropped_entries_among_those_that_are_due(autojump_clock: MockClock) -> None:
    """Of several deadlines at one time, one that was dropped is passed over."""

    class Many(Schema):
        First = State(timeout=1)
        Second = State(timeout=1)
        Third = State(timeout=1)
        Long = State(timeout=5)

    async with trsm.open_machine(Many) as machine:
        machine.add(Many.First)
        machine.add(Many.Second)
        machine.add(Many.Third)
        machine.add(Many.Long)
        machine.remove(Many.Second)
        assert len(machine._timers) == 4
        await trio.sleep(2)
        assert machine.active_states == (Many.Long,)
        assert machine.tick(Many.Second) == 2
        assert len(machine._timers) == 1


async def test_a_timer_task_that_was_cancelled_is_not_needed_to_drop_deadlines() -> None:
    """Outer cancellation ends it before the machine closes; the shielded body still changes states."""
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Approval) as machine:
            machine.add(Approval.Debounce, Approval.Busy)
            await wait_all_tasks_blocked()
            with trio.CancelScope(shield=True):
                scope.cancel()
                await wait_all_tasks_blocked()
                assert timer_tasks() == []
                machine.remove(Approval.Debounce)
                assert len(machine._timers) == 1


async def test_closing_drops_the_deadlines() -> None:
    """A closed machine waits for nothing, and needs no collector."""
    gc.disable()
    try:
        async with trsm.open_machine(Approval) as machine:
            child = machine.start_child(Approval)
            child.add(Approval.Waiting)
            child.close()
            assert len(machine._timers) == 0
            reference = weakref.ref(child)
            del child
            await wait_all_tasks_blocked()
            assert reference() is None
            machine.add(Approval.Waiting)
        assert len(machine._timers) == 0
    finally:
        gc.enable()


async def test_cancelling_the_block_ends_the_timer(autojump_clock: MockClock) -> None:
    """A timer task is cancelled with its nursery, also one that a state needs after the cancellation."""
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Approval) as machine:
            scope.cancel()
            machine.add(Approval.Debounce)
            await trio.sleep_forever()
    assert timer_tasks() == []
    assert machine.closed


async def test_an_unhandled_error_of_a_timeout_closes_the_machine(autojump_clock: MockClock) -> None:
    """An error of a handler that a timeout called is an error of the machine like any other."""

    @Approval.Debounce.on_exit
    def fail(t: trsm.Transition) -> None:
        raise OSError("late")

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Approval, fail) as machine:
            machine.add(Approval.Debounce)
            await trio.sleep_forever()
    assert [repr(error) for error in caught.value.exceptions] == ["OSError('late')"]


async def test_what_is_no_exception_leaves_the_block(autojump_clock: MockClock) -> None:
    """A `BaseException` of a handler goes to the caller, which is the timer task, and so through the nursery."""

    @Approval.Debounce.on_exit
    def stop(t: trsm.Transition) -> None:
        raise SystemExit(3)

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Approval, stop) as machine:
            machine.add(Approval.Debounce)
            await trio.sleep_forever()
    assert caught.group_contains(SystemExit)


def test_a_bare_engine_ignores_timeouts() -> None:
    """It has no clock: the state stays."""
    engine = Engine(Approval)
    engine.add(Approval.Waiting)
    engine.add(Approval.Debounce)
    assert Approval.Waiting in engine
    assert Approval.Debounce in engine


async def test_a_watcher_that_leaves_does_not_take_the_timeout_along(autojump_clock: MockClock) -> None:
    """States with timeouts stay watched when waiters and scopes of them end."""
    async with trsm.open_machine(Approval) as machine:
        with machine.while_inactive(Approval.Debounce):
            pass
        waiter = machine.when(Approval.Debounce)
        del waiter
        watch = machine.watch()
        await anext(watch)
        del watch
        machine.add(Approval.Debounce)
        await trio.sleep(1)
        assert Approval.Debounce not in machine


# ---- Declaring ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1, True, "5", math.nan])
def test_timeouts_that_are_no_positive_number(seconds: float) -> None:
    """Refused where it is written."""
    with pytest.raises(SchemaError, match=r"timeout=.*write a positive number of seconds"):
        State(timeout=seconds)


def test_on_timeout_that_is_no_state() -> None:
    """Refused where it is written."""
    with pytest.raises(SchemaError, match=r"on_timeout=3: write a state or its name"):
        State(timeout=1, on_timeout=3)  # type: ignore[arg-type]


def test_on_timeout_without_timeout() -> None:
    """It would never come."""
    with pytest.raises(SchemaError, match=r"X.Foo: on_timeout=Bar without a timeout: write timeout=seconds too"):
        Schema.define("X", {"Foo": State(on_timeout="Bar"), "Bar": State()})


def test_latch_with_timeout() -> None:
    """One says that it never leaves, the other that it does."""
    with pytest.raises(SchemaError, match=r"X.Foo: it is latched and never leaves.*leave one of the two out"):
        Schema.define("X", {"Foo": State(latch=True, timeout=1)})


def test_on_timeout_of_itself() -> None:
    """A state cannot be removed and added at once."""
    with pytest.raises(SchemaError, match=r"X.Foo: on_timeout= names the state itself"):
        Schema.define("X", {"Foo": State(timeout=1, on_timeout="Foo")})


def test_on_timeout_unknown() -> None:
    """A name that is not there gets the nearest."""
    with pytest.raises(SchemaError, match=r"on_timeout='Baz' names no state of the schema: did you mean 'Bar'"):
        Schema.define("X", {"Foo": State(timeout=1, on_timeout="Baz"), "Bar": State()})


@attrs.frozen
class Needs:
    who: str


@attrs.frozen
class Has:
    who: str = "nobody"


def test_on_timeout_of_a_state_that_needs_arguments() -> None:
    """Nobody could pass them; with defaults it is fine."""
    with pytest.raises(SchemaError, match=r"X.Foo: on_timeout=Bar, to which nobody could pass who: give who a default"):
        Schema.define("X", {"Foo": State(timeout=1, on_timeout="Bar"), "Bar": State(args=Needs)})
    Schema.define("X", {"Foo": State(timeout=1, on_timeout="Bar"), "Bar": State(args=Has)})


def test_on_timeout_of_a_state_that_requires_the_one_that_leaves() -> None:
    """It could never come."""
    with pytest.raises(SchemaError, match=r"X.Foo: on_timeout=Bar, which requires Foo: it could not come"):
        Schema.define("X", {"Foo": State(timeout=1, on_timeout="Bar"), "Bar": State(require="Foo")})


def test_reading_what_was_declared() -> None:
    """A state tells its timeout and what comes then, by name or as the state itself."""
    assert (Approval.Waiting.timeout, Approval.Waiting.on_timeout) == (60, Approval.Escalated)
    assert (Approval.Debounce.timeout, Approval.Debounce.on_timeout) == (0.5, None)
    assert (Approval.Approved.timeout, Approval.Approved.on_timeout) == (None, None)
    with pytest.raises(SchemaError, match="declare it in the body of a Schema class"):
        _ = State(timeout=1).on_timeout


def test_extending_and_replacing_a_timeout() -> None:
    """What is given replaces the present; infinity lifts it; ``on_timeout=()`` clears what comes then."""

    class Other(Approval):
        Waiting = Approval.Waiting.extend(timeout=5)
        Debounce = Approval.Debounce.extend(on_timeout="Waiting")
        Busy = Approval.Busy.extend(timeout=math.inf)
        Approved = Approval.Approved.extend(remove="Busy")

    assert (Other.Waiting.timeout, Other.Waiting.on_timeout) == (5, Approval.Escalated)
    assert (Other.Debounce.timeout, Other.Debounce.on_timeout) == (0.5, Other.Waiting)
    assert (Other.Busy.timeout, Other.Busy.on_timeout) == (None, None)

    class Third(Other):
        Waiting = Other.Waiting.replace(on_timeout=())
        Debounce = Other.Debounce.replace(timeout=math.inf)
        Busy = Other.Busy.replace(timeout=1, on_timeout=Approval.Approved)

    assert (Third.Waiting.timeout, Third.Waiting.on_timeout) == (5, None)
    assert (Third.Debounce.timeout, Third.Debounce.on_timeout) == (None, None)
    assert (Third.Busy.timeout, Third.Busy.on_timeout) == (1, Other.Approved)


def test_on_timeout_with_a_timeout_that_is_lifted() -> None:
    """What comes then is left without a then."""

    with pytest.raises(SchemaError, match="on_timeout=Approved without a timeout"):

        class Never(Approval):
            Waiting = Approval.Waiting.extend(timeout=math.inf, on_timeout="Approved")


def test_timeouts_as_plain_data() -> None:
    """A schema written as data and read again has the same timeouts."""

    class Net(Approval):
        ErrNet = ErrorState(catches=OSError, timeout=3, on_timeout="Waiting")
        Error = Approval.Error.extend(timeout=7)

    again = Schema.from_dict(Net.to_dict())
    assert [(str(state), state.timeout, str(state.on_timeout)) for state in again.states] == [
        (str(state), state.timeout, str(state.on_timeout)) for state in Net.states
    ]
    assert again.to_dict() == Net.to_dict()


async def test_machines_are_not_kept_by_the_timers_of_their_nursery(autojump_clock: MockClock) -> None:
    """A state that has timed out leaves nothing behind."""

    async with trsm.open_machine(Approval) as machine:
        child: Machine | None = machine.start_child(Approval)
        assert child is not None
        child.add(Approval.Debounce)
        await child.when_not(Approval.Debounce)
        child.close()
        reference = weakref.ref(child)
        child = None
        await wait_all_tasks_blocked()
        gc.collect()
        assert reference() is None
