"""Snapshots: a machine as plain data, and one that goes on as the original would have (row 25, issue 3)."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import itertools
import json
import math
from collections.abc import Awaitable, Callable
from typing import cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Engine, ErrorState, Machine, RestoredError, Schema, SnapshotError, State, Transition


@attrs.frozen
class Fetch:
    url: str
    retries: int = 3
    _tags: list[str] = attrs.field(factory=list)
    seen: dict[str, float | None] = attrs.field(factory=dict)


@dataclasses.dataclass(frozen=True)
class Wait:
    seconds: float = 0.5


class Job(Schema):
    Idle = State(remove=("Fetching", "Waiting"))
    Fetching = State(args=Fetch, remove="Idle")
    Waiting = State(args=Wait, remove="Idle", timeout=10, on_timeout="Idle")
    Beat = State(multi=True, timeout=7)
    Healthy = State(auto=True, require=Fetching)
    Done = State(latch=True)
    ErrNet = ErrorState(catches=OSError)


def through_json(snapshot: dict[str, object]) -> dict[str, object]:
    """Return what a snapshot is after it was a file."""
    return cast("dict[str, object]", json.loads(json.dumps(snapshot, allow_nan=False)))


def taken() -> dict[str, object]:
    """Return a snapshot with something in each field."""
    engine = Engine(Job)
    engine.add(Job.Idle)
    engine.add(Job.Fetching(url="https://a", tags=["x"], seen={"y": None}))
    engine.add(Job.Beat)
    with contextlib.suppress(ExceptionGroup):
        engine.add_error(ValueError("what"))
    return through_json(engine.snapshot())


def put(snapshot: dict[str, object], *path: object) -> dict[str, object]:
    """Return a snapshot with something else in one place."""
    *way, last, value = path
    place = snapshot
    for step in way:
        place = cast("dict[str, dict[str, object]]", place)[cast("str", step)]
    place[cast("str", last)] = value
    return snapshot


# ---- What comes back ------------------------------------------------------------------------------------------------


def test_what_a_snapshot_holds() -> None:
    """Plain data: version, schema, fingerprint, ticks, the arguments of active states, what is left, and the error."""
    snapshot = taken()
    fingerprint = snapshot.pop("fingerprint")
    assert isinstance(fingerprint, str)
    assert len(fingerprint) == 64
    assert snapshot == {
        "trsm": 1,
        "schema": "Job",
        "tick": 5,
        "ticks": {"Idle": 2, "Fetching": 1, "Waiting": 0, "Beat": 1, "Healthy": 1, "Done": 0, "ErrNet": 0, "Error": 1},
        "args": {"Fetching": {"url": "https://a", "retries": 3, "tags": ["x"], "seen": {"y": None}}},
        "activations": {},
        "timeouts": {},
        "error": {"type": "ValueError", "text": "what"},
    }


def test_a_restored_engine_is_what_it_was() -> None:
    """Ticks, active states, the machine's tick, arguments and the error; a second snapshot is the same."""
    snapshot = taken()
    engine = Engine(Job, snapshot=snapshot)
    assert [engine.tick(state) for state in Job.states] == [2, 1, 0, 1, 1, 0, 0, 1]
    assert engine.active_states == (Job.Fetching, Job.Beat, Job.Healthy, Job.Error)
    last = engine.last_transition
    assert (last.kind, last.tick, last.called, last.error) == ("open", 5, (), None)
    assert last.entering == (Job.Fetching, Job.Beat, Job.Healthy)
    assert last.args_of(Job.Fetching) == Fetch("https://a", 3, ["x"], {"y": None})
    assert last.before == last.after == engine.ticks
    assert isinstance(engine.error, RestoredError)
    assert str(engine.error) == "ValueError: what"
    assert through_json(engine.snapshot()) == snapshot
    engine.remove(Job.Fetching)
    assert engine.last_transition.tick == 6
    assert engine.active_states == (Job.Beat, Job.Error)
    engine.remove(Job.Error)
    assert engine.error is None


def test_a_snapshot_shares_nothing_with_the_machine() -> None:
    """What is changed in it later changes no argument."""
    engine = Engine(Job)
    engine.add(Job.Fetching(url="u", tags=["x"]))
    snapshot = engine.snapshot()
    cast("dict[str, dict[str, list[str]]]", snapshot["args"])["Fetching"]["tags"].append("y")
    assert engine.last_transition is not None
    assert cast("dict[str, dict[str, object]]", engine.snapshot()["args"])["Fetching"]["tags"] == ["x"]


def test_an_error_with_a_module_of_its_own_is_named_with_it() -> None:
    """The type's name says where it lives, where that is not the builtins."""
    engine = Engine(Job)
    with pytest.raises(ExceptionGroup):
        engine.add_error(json.JSONDecodeError("bad", "x", 0))
    assert engine.snapshot()["error"] == {
        "type": "json.decoder.JSONDecodeError",
        "text": "bad: line 1 column 1 (char 0)",
    }


def test_nothing_has_happened_yet() -> None:
    """A snapshot of a fresh machine restores a fresh machine."""
    engine = Engine(Job, snapshot=through_json(Engine(Job).snapshot()))
    assert engine.active_states == ()
    assert engine.last_transition.tick == 0
    assert engine.last_transition.entering == ()
    assert engine.add(Job.Idle).executed


def test_arguments_that_nobody_passed_are_the_defaults_again() -> None:
    """A state that came without a call has its class's defaults, before and after."""
    engine = Engine(Job)
    engine.add(Job.Waiting)
    assert engine.snapshot()["args"] == {}
    assert Engine(Job, snapshot=engine.snapshot()).last_transition.args_of(Job.Waiting) == Wait()


async def test_default_arguments_that_were_read_are_the_same_again() -> None:
    """The restored task finds what the first one did, and what handlers and waiters find, too."""
    numbers = itertools.count()

    @attrs.define
    class Numbered:
        number: int = attrs.field(factory=lambda: next(numbers))

    X = Schema.define("X", {"Foo": State(args=Numbered)})
    Foo = cast("State[[], Numbered]", X["Foo"])
    seen: list[Numbered] = []

    class Handlers:
        @Foo.can_enter
        def ask(self, t: Transition) -> bool:
            seen.append(t.args_of(Foo))
            return True

        @Foo.on_enter
        def act(self, t: Transition) -> None:
            seen.append(t.args_of(Foo))

        @Foo.task
        async def work(self, t: Transition) -> None:
            seen.append(t.args_of(Foo))

    async with trsm.open_machine(X, Handlers()) as machine:
        machine.add(Foo)
        await wait_all_tasks_blocked()
        seen.append((await machine.when(Foo)).args_of(Foo))
        assert len({id(one) for one in seen}) == 1 and len(seen) == 4
        snapshot = through_json(machine.snapshot())
        assert snapshot["args"] == {"Foo": {"number": seen[0].number}}
    async with trsm.open_machine(X, Handlers(), snapshot=snapshot):
        await wait_all_tasks_blocked()
        assert seen[4:] == seen[:1]


@pytest.mark.parametrize("is_error_its_own", [True, False])
def test_default_arguments_that_are_no_plain_data_are_left_out(is_error_its_own: bool) -> None:
    """Nobody passed them: another such instance is made, whatever their class makes of being looked at."""

    class Vague:
        def __eq__(self, other: object) -> bool:
            raise ValueError("neither equal nor not")

        __hash__ = None  # type: ignore[assignment]

    @attrs.define
    class Found:
        found: object = attrs.field(factory=Vague if is_error_its_own else set, init=False)

    X = Schema.define("X", {"Foo": State(args=Found)})
    Foo = cast("State[[], Found]", X["Foo"])
    engine = Engine(X)
    engine.add(Foo)
    found = engine.last_transition.args_of(Foo)
    if not is_error_its_own:
        cast("set[int]", found.found).add(1)
    assert engine.snapshot()["args"] == {}
    assert engine.last_transition.args_of(Foo) is found
    engine.remove(Foo)
    engine.add(trsm.Call(Foo, found))
    with pytest.raises(ValueError if is_error_its_own else SnapshotError):
        engine.snapshot()


def test_of_a_multi_state_the_call_that_began_the_instance_is_kept() -> None:
    """What it was called with again belongs to the tasks of those calls."""

    class Multi(Schema):
        Foo = State(multi=True, args=Wait)

    engine = Engine(Multi)
    engine.add(Multi.Foo(seconds=1))
    engine.add(Multi.Foo(seconds=2))
    assert engine.snapshot()["args"] == {"Foo": {"seconds": 1}}
    assert engine.snapshot()["ticks"] == {"Foo": 3, "Error": 0}


async def test_tasks_of_active_states_are_started_and_nothing_is_replayed() -> None:
    """A task finds its arguments in ``t.args_of``, an error's task its error in ``t.error``; no ``on_enter`` runs."""
    log: list[object] = []

    class Handlers:
        @Job.Fetching.on_enter
        def entered(self, t: Transition) -> None:
            log.append("on_enter")

        @Job.Fetching.task(then=Job.Done)
        async def fetch(self, t: Transition) -> None:
            log.append((t.kind, t.args_of(Job.Fetching).url, t.error))

        @Job.Error.task
        async def report(self, t: Transition) -> None:
            log.append(str(t.error))

        @Job.Idle.task
        async def idle(self, t: Transition) -> None:
            raise AssertionError("it is inactive")

    async with trsm.open_machine(Job, Handlers(), snapshot=taken()) as machine:
        assert log == []
        await machine.when(Job.Done)
        await wait_all_tasks_blocked()
        assert sorted(map(str, log)) == sorted(["('open', 'https://a', None)", "ValueError: what"])
        source = machine.last_transition.source
        assert source is not None
        assert (source.kind, source.tick) == ("open", 5)


async def test_waiters_of_a_restored_machine() -> None:
    """What is active holds at once, with the restored transition."""
    async with trsm.open_machine(Job, snapshot=taken()) as machine:
        assert await machine.when(Job.Fetching) is machine.last_transition
        began = await machine.when(Job.Error)  # error states have a transition of their own, with the error
        assert (began.entering, began.error) == ((Job.Error,), machine.error)
        assert began is not machine.last_transition
        assert (await machine.when(Job.Error)).error is machine.error
        assert await machine.when_tick(Job.Idle, 2) is machine.last_transition


async def test_restored_scopes_end_with_their_state() -> None:
    """The restored instance is an instance like any other."""
    async with trsm.open_machine(Job, snapshot=taken()) as machine:
        with machine.while_active(Job.Fetching) as scope:
            machine.remove(Job.Fetching)
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught


async def test_what_was_left_of_a_timeout_is_left(autojump_clock: MockClock) -> None:
    """The deadline goes on, however long the machine was away."""
    async with trsm.open_machine(Job) as machine:
        machine.add(Job.Waiting)
        await trio.sleep(4)
        machine.add(Job.Beat)
        snapshot = through_json(machine.snapshot())
    assert snapshot["timeouts"] == {"Waiting": 6, "Beat": 7}
    await trio.sleep(1000)
    async with trsm.open_machine(Job, snapshot=snapshot) as machine:
        start = trio.current_time()
        source = (await machine.when(Job.Idle)).source
        assert trio.current_time() - start == pytest.approx(6)
        assert source is not None
        assert (source.kind, source.handler) == ("open", "timeout of Waiting (10 s)")
        await machine.when_not(Job.Beat)
        assert trio.current_time() - start == pytest.approx(7)


async def test_a_timeout_that_is_due_rings_after_the_restore(mock_clock: MockClock) -> None:
    """Nothing is left, and nothing less."""
    async with trsm.open_machine(Job) as machine:
        machine.add(Job.Waiting)
        mock_clock.jump(11)
        snapshot = machine.snapshot()
        assert snapshot["timeouts"] == {"Waiting": 0}
    async with trsm.open_machine(Job, snapshot=snapshot) as machine:
        assert Job.Waiting in machine
        await machine.when(Job.Idle)


async def test_a_timeout_that_was_refused_is_not_tried_again(autojump_clock: MockClock) -> None:
    """The state stays, in the restored machine as in the original."""

    @Job.Waiting.can_exit
    def never(t: Transition) -> bool:
        return False

    async with trsm.open_machine(Job, never) as machine:
        machine.add(Job.Waiting)
        await trio.sleep(20)
        snapshot = through_json(machine.snapshot())
        assert snapshot["timeouts"] == {"Waiting": None}
    async with trsm.open_machine(Job, snapshot=snapshot) as machine:
        await trio.sleep(100)
        assert Job.Waiting in machine
        assert machine.remove(Job.Waiting)


class Tied(Schema):
    Late = State(remove="Done")
    Slow = State(timeout=10, on_timeout=Late)
    Quick = State(timeout=10, on_timeout="Done")
    Done = State(remove=Late)
    ErrValue = ErrorState(catches=ValueError, timeout=10, on_timeout=Late)


@Tied.Error.on_enter
def taken_note_of(t: Transition) -> None:
    pass


@pytest.mark.parametrize("again", [0, 1, 2])
@pytest.mark.parametrize("slow", [Tied.Slow, Tied.ErrValue])
@pytest.mark.parametrize("is_slow_first", [True, False])
async def test_timeouts_that_end_together(
    autojump_clock: MockClock, is_slow_first: bool, slow: State[..., object], again: int
) -> None:
    """They end in the order in which they began, of error states too, however often the machine was restored."""
    snapshot: dict[str, object] | None = None
    for life in range(again + 1):
        async with trsm.open_machine(Tied, taken_note_of, snapshot=snapshot) as machine:
            if not life:
                for state in (slow, Tied.Quick) if is_slow_first else (Tied.Quick, slow):
                    if state is Tied.ErrValue:
                        machine.add_error(ValueError())
                    else:
                        machine.add(state)
            if life < again:
                snapshot = json.loads(json.dumps(machine.snapshot()))
                continue
            await trio.sleep(11)
            last, before = (Tied.Done, Tied.Late) if is_slow_first else (Tied.Late, Tied.Done)
            assert last in machine  # each puts out the other: the last to come stays
            assert machine.tick(before) == 2


async def test_a_snapshot_of_an_engine_has_whole_timeouts(autojump_clock: MockClock) -> None:
    """An engine has no clock: the time starts with the machine that is restored."""
    engine = Engine(Job)
    engine.add(Job.Waiting)
    async with trsm.open_machine(Job, snapshot=engine.snapshot()) as machine:
        await machine.when(Job.Idle)
        assert trio.current_time() == pytest.approx(10)


async def test_a_started_child_is_restored_too(autojump_clock: MockClock) -> None:
    """In the nursery of its ancestor, with its tasks and timeouts."""
    log: list[str] = []

    @Job.Fetching.task
    async def fetch(t: Transition) -> None:
        log.append(t.args_of(Job.Fetching).url)

    async with trsm.open_machine(Job) as machine:
        child = machine.start_child(Job, snapshot=taken())
        assert child.is_active(Job.Fetching, Job.Beat)
        other = machine.start_child(Job, fetch, snapshot=child.snapshot())
        await other.when_not(Job.Beat)
        assert trio.current_time() == pytest.approx(7)
        assert log == ["https://a"]
        with pytest.raises(SnapshotError):
            machine.start_child(Job, snapshot={})
        assert machine.children == (child, other)


async def test_a_bad_snapshot_opens_nothing() -> None:
    """The block is not entered, and no task is left behind."""
    with pytest.raises(SnapshotError):
        async with trsm.open_machine(Job, snapshot={"trsm": 1}):
            raise AssertionError


# ---- Activations of multi states ------------------------------------------------------------------------------------


@attrs.frozen
class Item:
    number: int = 0


class Pool(Schema):
    Working = State(multi=True, args=Item)
    Plain = State(multi=True)
    Single = State(args=Item)
    ErrNet = ErrorState(catches=OSError)


class Workers:
    """Tasks that run until they are told to end, and note what they work on."""

    def __init__(self) -> None:
        self.begun: list[object] = []
        self.ends: dict[object, trio.Event] = {}

    async def run(self, what: object) -> None:
        self.begun.append(what)
        await self.ends.setdefault(what, trio.Event()).wait()

    async def end(self, *some: object) -> None:
        for what in some:
            self.ends.setdefault(what, trio.Event()).set()
        await wait_all_tasks_blocked()

    @Pool.Working.task(limit=2)
    async def work(self, t: Transition) -> None:
        await self.run(t.args_of(Pool.Working).number)

    @Pool.Plain.task
    async def plain(self, t: Transition) -> None:
        await self.run("plain")

    @Pool.Single.task
    async def single(self, t: Transition) -> None:
        await self.run("single")

    @Pool.ErrNet.task
    async def report(self, t: Transition) -> None:
        await self.run(str(t.error))


async def begun(snapshot: dict[str, object], *handlers: object) -> list[object]:
    """Return on what the tasks of a restored machine work."""
    workers = Workers()
    async with trsm.open_machine(Pool, workers, *handlers, snapshot=snapshot):
        await wait_all_tasks_blocked()
        return sorted(workers.begun, key=str)


async def test_only_unfinished_activations_of_a_multi_state_go_on() -> None:
    """What ran and what waited, each with its own arguments, in order and under the limit; what was done is done."""
    workers = Workers()
    async with trsm.open_machine(Pool, workers) as machine:
        for number in (1, 2, 3, 4):
            machine.add(Pool.Working(number))
        await wait_all_tasks_blocked()
        await workers.end(1)
        machine.add(Pool.Working(5))
        snapshot = through_json(machine.snapshot())
        assert sorted(cast("list[int]", workers.begun)) == [1, 2, 3]
    entries = [{"number": number} for number in (2, 3, 4, 5)]
    assert snapshot["activations"] == {"Working": entries}
    assert snapshot["args"] == {"Working": {"number": 1}}
    workers = Workers()
    async with trsm.open_machine(Pool, workers, snapshot=snapshot) as machine:
        assert through_json(machine.snapshot()) == snapshot  # before they have begun
        assert await machine.when(Pool.Working) is machine.last_transition
        assert machine.last_transition.args_of(Pool.Working) == Item(1)
        await wait_all_tasks_blocked()
        assert through_json(machine.snapshot()) == snapshot
        assert sorted(cast("list[int]", workers.begun)) == [2, 3]
        machine.add(Pool.Working(6))
        await workers.end(3)
        assert workers.begun[2:] == [4]
        assert cast("dict[str, object]", machine.snapshot()["activations"])["Working"] == [
            {"number": number} for number in (2, 4, 5, 6)
        ]
        await workers.end(2)
        await workers.end(4)
        assert workers.begun[2:] == [4, 5, 6]


async def test_a_multi_state_whose_tasks_have_all_ended_starts_none() -> None:
    """It is active, and nothing is left to be done; other states have no list, and their tasks are started again."""
    workers = Workers()
    async with trsm.open_machine(Pool, workers) as machine:
        machine.add(Pool.Working(1), Pool.Plain, Pool.Single(2))
        await wait_all_tasks_blocked()
        await workers.end(1, "plain", "single")
        snapshot = through_json(machine.snapshot())
    assert snapshot["activations"] == {"Working": [], "Plain": []}
    assert await begun(snapshot) == ["single"]


async def test_activations_with_no_arguments_of_their_own() -> None:
    """Nothing is written of a state without arguments, and of defaults that nobody read; those read are kept."""
    async with trsm.open_machine(Pool, Workers()) as machine:
        machine.add(Pool.Plain)
        machine.add(Pool.Plain, Pool.Working)
        snapshot = through_json(machine.snapshot())
        await wait_all_tasks_blocked()
        after = through_json(machine.snapshot())
    assert snapshot["activations"] == {"Working": [None], "Plain": [None, None]}
    assert after["activations"] == {"Working": [{"number": 0}], "Plain": [None, None]}
    assert await begun(snapshot) == await begun(after) == [0, "plain", "plain"]


async def test_each_activation_of_an_error_state_keeps_its_error() -> None:
    """Its task finds that in ``t.error``, whatever came later; one that nobody brought with an error has none."""
    workers = Workers()
    async with trsm.open_machine(Pool, workers) as machine:
        for text in ("a", "b", "c"):
            machine.add_error(OSError(text))
        machine.add(Pool.ErrNet)
        await wait_all_tasks_blocked()
        await workers.end("a")
        snapshot = through_json(machine.snapshot())
    assert snapshot["activations"] == {
        "ErrNet": [{"type": "OSError", "text": "b"}, {"type": "OSError", "text": "c"}, None]
    }
    assert await begun(snapshot) == ["None", "OSError: b", "OSError: c"]


async def test_an_activation_with_several_unfinished_tasks_is_one() -> None:
    """All tasks of it are started again."""
    log: list[int] = []

    @Pool.Working.task
    async def note(t: Transition) -> None:
        log.append(t.args_of(Pool.Working).number)

    @Pool.Working.task
    async def wait(t: Transition) -> None:
        await trio.sleep_forever()

    async with trsm.open_machine(Pool, note, wait, Workers()) as machine:
        machine.add(Pool.Working(1))
        machine.add(Pool.Working(2))
        await wait_all_tasks_blocked()
        assert sorted(log) == [1, 2]
        snapshot = through_json(machine.snapshot())
    assert snapshot["activations"] == {"Working": [{"number": 1}, {"number": 2}]}
    assert await begun(snapshot, note) == [1, 2]
    assert sorted(log) == [1, 1, 2, 2]


async def test_without_a_list_the_task_of_the_first_call_is_started() -> None:
    """Of an engine, which has no tasks; of a machine whose state had none; and of a snapshot of an earlier version."""
    engine = Engine(Pool, Workers())
    engine.add(Pool.Working(1))
    engine.add(Pool.Working(2))
    snapshot = through_json(engine.snapshot())
    assert snapshot["activations"] == {}
    assert await begun(snapshot) == [1]
    del snapshot["activations"]
    assert await begun(snapshot) == [1]
    async with trsm.open_machine(Pool, snapshot=snapshot) as machine:
        assert machine.snapshot()["activations"] == {}


async def test_an_engine_takes_a_snapshot_with_activations() -> None:
    """It starts none of them."""
    async with trsm.open_machine(Pool, Workers()) as machine:
        machine.add(Pool.Working(1))
        engine = Engine(Pool, Workers(), snapshot=machine.snapshot())
    assert engine.snapshot()["activations"] == {}
    assert engine.last_transition.args_of(Pool.Working) == Item(1)


async def test_tasks_that_were_bound_later_have_no_activations() -> None:
    """Nothing is replayed, not by a restore either; what runs when its task is detached is kept."""
    async with trsm.open_machine(Pool) as machine:
        machine.add(Pool.Working(1))
        workers = machine.bind(Workers())
        assert machine.snapshot()["activations"] == {"Working": []}
        machine.add(Pool.Working(2))
        workers.detach()
        snapshot = machine.snapshot()
    assert snapshot["activations"] == {"Working": [{"number": 2}]}
    assert await begun(snapshot) == [2]


async def test_tasks_of_an_instance_that_is_over_are_not_restored(autojump_clock: MockClock) -> None:
    """They may clean up while those of the next instance wait: these alone count."""

    @Pool.Working.task
    async def stubborn(t: Transition) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)

    async with trsm.open_machine(Pool, stubborn) as machine:
        machine.add(Pool.Working(1))
        await wait_all_tasks_blocked()
        machine.remove(Pool.Working)
        assert machine.snapshot()["activations"] == {}
        machine.add(Pool.Working(2))
        await wait_all_tasks_blocked()
        snapshot = machine.snapshot()
        assert snapshot["activations"] == {"Working": [{"number": 2}]}
        await trio.sleep(3)
        assert machine.snapshot()["activations"] == {"Working": []}
    assert await begun(snapshot) == [2]


async def test_activations_of_a_schema_before() -> None:
    """States get other numbers; one that is multi only now goes on as one that is not, until its next instance."""

    class First(Schema):
        New = State()

    class Larger(First, Pool):
        Single = Pool.Single.extend(multi=True)

    @Larger.Single.task(limit=1)
    async def more(t: Transition) -> None:
        await trio.sleep_forever()

    async with trsm.open_machine(Pool, Workers()) as machine:
        machine.add(Pool.Working(1), Pool.Single(7))
        await wait_all_tasks_blocked()
        machine.extend_schema(Larger)
        machine.bind(more)
        machine.add(Larger.Working(2), Larger.Single(8))
        machine.add(Larger.Single(9))
        snapshot = through_json(machine.snapshot())
        assert snapshot["activations"] == {"Working": [{"number": 1}, {"number": 2}]}
        machine.remove(Larger.Single)
        machine.add(Larger.Single(10))
        assert cast("dict[str, object]", machine.snapshot()["activations"])["Single"] == [{"number": 10}]
    workers = Workers()
    async with trsm.open_machine(Larger, workers, snapshot=snapshot):
        await wait_all_tasks_blocked()
        assert sorted(workers.begun, key=str) == [1, 2, "single"]


async def test_what_waited_is_restored_however_small_the_queue() -> None:
    """It had room; what was refused there is not restored, and what comes now is counted."""

    @Pool.Error.on_enter
    def full(t: Transition) -> None:
        assert isinstance(t.error, trsm.QueueFull)
        refused.append(t)

    refused: list[Transition] = []
    async with trsm.open_machine(Pool, Workers(), full, queue_limit=3) as machine:
        for number in range(1, 7):
            machine.add(Pool.Working(number))
        assert len(refused) == 1
        snapshot = machine.snapshot()
    assert cast("dict[str, list[object]]", snapshot["activations"])["Working"] == [
        {"number": number} for number in range(1, 6)
    ]
    workers = Workers()
    async with trsm.open_machine(Pool, workers, full, queue_limit=1, snapshot=snapshot) as machine:
        await wait_all_tasks_blocked()
        await workers.end(1, 2, 3, 4, 5)
        assert sorted(cast("list[int]", workers.begun)) == [1, 2, 3, 4, 5]
        assert len(refused) == 1
        for number in range(6, 10):
            machine.add(Pool.Working(number))
        assert len(refused) == 2


async def test_an_unfinished_activation_whose_arguments_are_no_plain_data() -> None:
    """It would be lost, and is refused; once its task has ended it does not matter."""
    workers = Workers()
    async with trsm.open_machine(Pool, workers) as machine:
        machine.add(Pool.Working(1))
        machine.add(Pool.Working(cast("int", bad := Number(2))))
        await wait_all_tasks_blocked()
        with pytest.raises(SnapshotError, match=r"Working\.number is .*, which JSON would not give back"):
            machine.snapshot()
        await workers.end(bad)
        assert machine.snapshot()["activations"] == {"Working": [{"number": 1}]}


class Number(int):
    """An int that is not just that."""


class Needy(Schema):
    Working = State(multi=True, args=Fetch)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (([],), r"activations is a mapping of names, and this is \[\]"),
        (("Wroking", []), "activations.Wroking: .* has no state Wroking: did you mean 'Working'"),
        (("Plain", []), "activations.Plain: Plain is inactive, as its tick is even"),
        (("Single", [None]), "activations.Single: Single is not multi in Pool, and is activated once"),
        (("Working", {}), r"activations.Working=\{\} is no list, with one entry for each activation"),
        (("Working", [None] * 3), "activations.Working: 3 activations cannot lead to tick 3"),
        (("Working", [None, 3]), r"activations.Working\[1\] is a mapping of names, and this is 3"),
        (("Working", [{"nmber": 3}]), r"activations.Working\[0\]: Working\(…\): got an unexpected keyword"),
        (("ErrNet", [{"type": "OSError"}]), r"activations.ErrNet\[0\]=.*: it is null, or has a 'type' and a"),
    ],
)
def test_activations_that_contradict_themselves(path: tuple[object, ...], message: str) -> None:
    """The message names the field, and the entry."""
    engine = Engine(Pool)
    engine.add(Pool.Working(1), Pool.Single(3))
    engine.add(Pool.Working(2))
    engine.add(Pool.ErrNet)
    snapshot = put(through_json(engine.snapshot()), "activations", *path)
    with pytest.raises(SnapshotError, match=f"snapshot: {message}"):
        Engine(Pool, snapshot=snapshot)


def test_activations_without_the_arguments_that_their_state_needs() -> None:
    """Null stands for defaults, and there are none."""
    engine = Engine(Needy)
    engine.add(Needy.Working("u"))
    snapshot = put(engine.snapshot(), "activations", "Working", [None])
    with pytest.raises(SnapshotError, match=r"snapshot: activations.Working\[0\] is null: Working needs url"):
        Engine(Needy, snapshot=snapshot)
    beat = put(taken(), "activations", "Beat", [{}])
    with pytest.raises(SnapshotError, match=r"snapshot: activations.Beat\[0\]: Beat takes no arguments in Job"):
        Engine(Job, snapshot=beat)


# ---- Other schemas --------------------------------------------------------------------------------------------------


def test_a_schema_that_knows_every_state_takes_the_snapshot() -> None:
    """Those that are new are inactive; ticks keep their names, wherever they are declared."""

    class First(Schema):
        New = State()

    class Larger(First, Job):
        Newer = State(auto=True)

    engine = Engine(Larger, snapshot=taken())
    assert engine.active_states == (Larger.Fetching, Larger.Beat, Larger.Healthy, Larger.Error)
    assert (engine.tick(Larger.New), engine.tick(Larger.Newer), engine.tick(Larger.Idle)) == (0, 0, 2)


def test_a_schema_without_one_of_the_states_refuses_it() -> None:
    """Even if that was inactive."""

    class Smaller(Schema):
        Idle = State()

    engine = Engine(Job)
    engine.add(Job.Idle)
    with pytest.raises(SnapshotError, match=r"ticks.Fetching: it was taken of Job, and Smaller has no state Fetching"):
        Engine(Smaller, snapshot=engine.snapshot())


def test_a_schema_whose_relations_forbid_the_active_states_refuses_it() -> None:
    """No relation is ever broken, not even by a restore."""

    class Strict(Job):
        Fetching = Job.Fetching.extend(remove="Beat")

    with pytest.raises(SnapshotError, match=r"ticks.Fetching=1: Fetching is active, and removes Beat, which is too"):
        Engine(Strict, snapshot=taken())

    class Needy(Job):
        Beat = Job.Beat.extend(require="Done")

    with pytest.raises(SnapshotError, match=r"ticks.Beat=1: Beat is active, and requires Done, which is not"):
        Engine(Needy, snapshot=taken())


async def test_a_schema_with_other_timeouts(autojump_clock: MockClock) -> None:
    """One that is shorter now cuts what was left; one that is gone is forgotten; one that is new is whole."""

    class Other(Job):
        Waiting = Job.Waiting.extend(timeout=2)
        Beat = Job.Beat.extend(timeout=math.inf)
        Done = Job.Done.replace(latch=False, timeout=3)

    async with trsm.open_machine(Job) as machine:
        machine.add(Job.Waiting, Job.Beat, Job.Done)
        snapshot = machine.snapshot()
    async with trsm.open_machine(Other, snapshot=snapshot) as machine:
        start = trio.current_time()
        assert machine.snapshot()["timeouts"] == {"Waiting": 2, "Done": 3}
        await machine.when_not(Other.Done)
        assert trio.current_time() - start == pytest.approx(3)
        await trio.sleep(10)
        assert Other.Beat in machine


def test_a_schema_of_another_name_that_behaves_the_same() -> None:
    """The fingerprint is of behaviour: a renamed schema takes what was whole."""
    Again = Schema.from_dict(Job.to_dict())
    assert Engine(Again).snapshot()["fingerprint"] == Engine(Job).snapshot()["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [
        {"Beat": Job.Beat.extend(after="Idle")},
        {"Beat": Job.Beat.extend(timeout=8)},
        {"Idle": Job.Idle.extend(latch=True)},
        {"Other": State()},
    ],
    ids=["relation", "timeout", "flag", "state"],
)
def test_the_fingerprint_tells_schemas_apart(change: dict[str, State[..., object]]) -> None:
    """Relations, timeouts, flags and states are all in it."""
    Other = Job.define("Other", change)
    assert Engine(Other).snapshot()["fingerprint"] != Engine(Job).snapshot()["fingerprint"]


def test_the_fingerprint_tells_args_classes_and_exceptions_apart() -> None:
    """By where they are defined, and their names."""

    def behaves(module: str, name: str) -> object:
        made = type(name, (OSError,), {"__module__": module})
        X = Schema.define("X", {"Foo": State(args=made)})
        Y = Schema.define("Y", {"Err": ErrorState(catches=made)})
        return Engine(X).snapshot()["fingerprint"], Engine(Y).snapshot()["fingerprint"]

    one, elsewhere, other = behaves("a", "C"), behaves("b", "C"), behaves("a", "D")
    for first, second in ((one, elsewhere), (one, other)):
        assert first[0] != second[0] and first[1] != second[1]
    assert one == behaves("a", "C")


# ---- When it cannot be taken ----------------------------------------------------------------------------------------


async def test_in_a_transition() -> None:
    """Half of something is nothing: refused in handlers of both kinds, in predicates, and with a queue."""
    refused: list[str] = []

    def attempt(machine: Machine) -> None:
        with pytest.raises(SnapshotError, match=r"in a transition.*take it when the mutation has returned") as caught:
            machine.snapshot()
        refused.append(str(caught.value))

    class Handlers:
        @Job.Idle.can_enter
        def ask(self, t: Transition) -> bool:
            attempt(t.machine)
            return True

        @Job.Idle.on_enter
        def act(self, t: Transition) -> None:
            attempt(t.machine)
            t.machine.add(Job.Done)
            attempt(t.machine)

    async with trsm.open_machine(Job, Handlers()) as machine:
        machine.add(Job.Idle)
        machine.when_query(lambda ticks: attempt(machine) or True)  # type: ignore[func-returns-value]
        machine.snapshot()
    assert len(refused) == 4


async def test_of_a_closed_machine() -> None:
    """Its states have left."""
    async with trsm.open_machine(Job, id="m") as machine:
        machine.add(Job.Idle)
    with pytest.raises(SnapshotError, match="machine 'm' is closed, and its states have left: take it before"):
        machine.snapshot()


async def test_from_another_thread() -> None:
    """It has to be the machine's own."""
    async with trsm.open_machine(Job) as machine:
        with pytest.raises(trsm.WrongThread, match="snapshot of machine"):
            await trio.to_thread.run_sync(machine.snapshot)


class Colour(enum.IntEnum):
    RED = 1


circle: list[object] = []
circle.append(circle)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (b"bytes", "Foo.value is b'bytes'"),
        ((1, 2), r"Foo.value is \(1, 2\)"),
        (Colour.RED, "Foo.value is <Colour.RED"),
        (math.nan, "Foo.value is nan"),
        (math.inf, "Foo.value is inf"),
        ({1: 2}, r"Foo.value is \{1: 2\}"),
        ([0, [1, {2}]], r"Foo.value\[1\]\[1\] is \{2\}"),
        ({"a": {"b": object}}, r"Foo.value\['a'\]\['b'\] is <class 'object'>"),
        (circle, "Foo.value holds itself, or is nested too deep"),
    ],
)
def test_arguments_that_json_would_not_give_back(value: object, where: str) -> None:
    """Refused when the snapshot is taken, by the name of the field."""

    @attrs.frozen
    class Any:
        value: object

    Any_ = Schema.define("X", {"Foo": State(args=Any)})
    engine = Engine(Any_)
    engine.add(cast("Callable[..., trsm.Call[object]]", Any_["Foo"])(value=value))
    with pytest.raises(SnapshotError, match=where):
        engine.snapshot()


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "", [], {}, [None, {"a": [1, "b"]}], 10**30])
def test_arguments_that_json_gives_back(value: object) -> None:
    """All that JSON has comes back as it was."""

    @dataclasses.dataclass
    class Any:
        value: object
        half: object = dataclasses.field(init=False, default=1)

    X = Schema.define("X", {"Foo": State(args=Any)})
    engine = Engine(X)
    engine.add(cast("Callable[..., trsm.Call[object]]", X["Foo"])(value=value))
    restored = Engine(X, snapshot=through_json(engine.snapshot()))
    assert restored.last_transition.args_of(X["Foo"]) == Any(value)


def test_args_classes_whose_fields_cannot_be_told() -> None:
    """Neither an attrs class nor a dataclass; made by a function; an instance of a subclass."""

    class Plain:
        pass

    def made() -> Wait:
        return Wait()

    @dataclasses.dataclass(frozen=True)
    class Longer(Wait):
        more: int = 0

    for args, message in (
        (Plain, "of .*Plain, which is neither an attrs class nor a dataclass"),
        (made, r"a snapshot takes instances of Foo's own args class alone"),
    ):
        X = Schema.define("X", {"Foo": State(args=cast("Callable[[], object]", args))})
        engine = Engine(X)
        engine.add(cast("Callable[..., trsm.Call[object]]", X["Foo"])())
        with pytest.raises(SnapshotError, match=message):
            engine.snapshot()

    X = Schema.define("X", {"Foo": State(args=Wait)})
    engine = Engine(X)
    engine.add(trsm.Call(X["Foo"], Longer()))
    with pytest.raises(SnapshotError, match=r"Foo's own args class alone, which is an attrs class or a dataclass$"):
        engine.snapshot()


@pytest.mark.parametrize("library", ["attrs", "dataclasses"])
def test_a_field_that_is_no_argument_comes_back_or_is_refused(library: str) -> None:
    """What the class makes of its arguments is made again; what was set since then would be lost, and is refused."""
    if library == "attrs":

        @attrs.define
        class Wait:
            seconds: int
            left: int = attrs.field(init=False, default=9)
            unset: int = attrs.field(init=False)

    else:

        @dataclasses.dataclass
        class Wait:  # type: ignore[no-redef]
            seconds: int
            left: int = dataclasses.field(init=False, default=9)
            unset: int = dataclasses.field(init=False)

    X = Schema.define("X", {"Foo": State(args=Wait)})
    engine = Engine(X)
    engine.add(cast("Callable[[int], trsm.Call[Wait]]", X["Foo"])(3))
    assert engine.snapshot()["args"] == {"Foo": {"seconds": 3}}
    engine.last_transition.args_of(X["Foo"]).left = 77  # type: ignore[attr-defined]
    message = r"left, which is no argument \(init=False\), was 77, and would be 9: make it an argument, or work it out"
    with pytest.raises(SnapshotError, match=message):
        engine.snapshot()


def test_arguments_that_do_not_come_back_from_their_fields() -> None:
    """A converter that changes what it is given twice, and a class that does not take its own fields."""

    @attrs.frozen
    class Doubled:
        value: int = attrs.field(converter=lambda value: value * 2)

    @attrs.frozen
    class Once:
        value: int = attrs.field()

        @value.validator
        def check(self, attribute: object, value: int) -> None:
            if used:
                raise ValueError("only once")
            used.append(value)

    used: list[int] = []
    for args, message in (
        (Doubled, "arguments of Foo do not come back from their fields: value was 6, and would be 12"),
        (Once, "arguments of Foo cannot be made again from their fields: only once"),
    ):
        X = Schema.define("X", {"Foo": State(args=cast("Callable[[int], object]", args))})
        engine = Engine(X)
        engine.add(cast("Callable[..., trsm.Call[object]]", X["Foo"])(3))
        with pytest.raises(SnapshotError, match=message):
            engine.snapshot()


def test_arguments_that_change_their_kind_when_made_again() -> None:
    """A field that turns into what JSON does not have is named."""

    @attrs.frozen
    class Sly:
        value: object = attrs.field(converter=lambda value: (value,) if value == 1 else 1)

    X = Schema.define("X", {"Foo": State(args=Sly)})
    engine = Engine(X)
    engine.add(cast("Callable[..., trsm.Call[object]]", X["Foo"])(2))
    with pytest.raises(SnapshotError, match=r"Foo.value is \(1,\), .* with names as keys$"):
        engine.snapshot()


# ---- What is no snapshot --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("trsm", 2), "trsm=2: this version of trsm reads snapshots of form 1"),
        (("trsm", "1"), "trsm='1' is no whole number"),
        (("schema", 3), "schema=3 is no string"),
        (("fingerprint", None), "fingerprint=None is no string"),
        (("tick", -1), "tick=-1 is no whole number, 0 or more"),
        (("tick", 5.0), "tick=5.0 is no whole number"),
        (("tick", True), "tick=True is no whole number"),
        (("ticks", []), r"ticks is a mapping of names, and this is \[\]"),
        (("ticks", "Idel", 3), "ticks.Idel: it was taken of Job, and Job has no state Idel: did you mean 'Idle'"),
        (("ticks", "Idle", "2"), "ticks.Idle='2' is no tick"),
        (("ticks", "Idle", True), "ticks.Idle=True is no tick"),
        (("ticks", "Idle", -2), "ticks.Idle=-2 is no tick"),
        (("ticks", "Idle", 12), r"ticks.Idle=12: 5 transitions \(tick\) cannot move a tick that far"),
        (("ticks", "Idle", 3), "ticks.Idle=3: Idle is active, and removes Fetching, which is too"),
        (("ticks", "Fetching", 2), "ticks.Healthy=1: Healthy is active, and requires Fetching, which is not"),
        (("args", {}), "args.Fetching is missing: Fetching is active, and needs url"),
        (("args", "Waiting", {}), "args.Waiting: Waiting is inactive, as its tick is even"),
        (("args", "Beat", {}), "args.Beat: Beat takes no arguments in Job"),
        (("args", "Nope", {}), "args.Nope: .* has no state Nope"),
        (("args", "Fetching", 3), "args.Fetching is a mapping of names, and this is 3"),
        (("args", "Fetching", {1: 2}), "args.Fetching is a mapping of names, and 1 is none"),
        (("args", "Fetching", "uri", "x"), r"args.Fetching: Fetching\(…\): got an unexpected keyword argument 'uri'"),
        (("args", "Fetching", "url", 3), r"args.Fetching: Fetching\(url=3\): url is str, and this is int"),
        (("args", "Fetching", {}), r"args.Fetching: Fetching\(…\): missing a required argument: 'url'"),
        (("timeouts", "Beat", -1), "timeouts.Beat=-1 is no number of seconds, 0 or more, nor null"),
        (("timeouts", "Beat", "3"), "timeouts.Beat='3' is no number of seconds"),
        (("timeouts", "Beat", True), "timeouts.Beat=True is no number of seconds"),
        (("timeouts", "Beat", math.nan), "timeouts.Beat=nan is no number of seconds"),
        (("timeouts", "Beat", 8), "timeouts.Beat=8: its whole timeout is 7 s"),
        (("timeouts", "Healthy", 1), "timeouts.Healthy=1: it has no timeout"),
        (("timeouts", "Waiting", 1), "timeouts.Waiting: Waiting is inactive"),
        (
            ("error", {"type": "ValueError"}),
            r"error=\{'type': 'ValueError'\}: it is null, or has a 'type' and a 'text'",
        ),
        (("error", {"type": 1, "text": ""}), "it is null, or has a 'type' and a 'text', both strings"),
        (("error", {"type": "", "text": 1}), "it is null, or has a 'type' and a 'text', both strings"),
        (("error", "more", 1), "it is null, or has a 'type' and a 'text', both strings"),
        (("error", "ValueError"), "snapshot: error is a mapping of names, and this is 'ValueError'"),
        (("ticks", "Error", 2), "error: there is one, and Error is inactive"),
        (("extra", 1), "'extra' means nothing"),
    ],
)
def test_a_snapshot_that_contradicts_itself(path: tuple[object, ...], message: str) -> None:
    """The message names the field, and nothing was opened."""
    with pytest.raises(SnapshotError, match=message):
        Engine(Job, snapshot=put(taken(), *path))


@pytest.mark.parametrize("field", ["trsm", "schema", "fingerprint", "tick", "ticks", "args", "timeouts", "error"])
def test_a_truncated_snapshot(field: str) -> None:
    """What is missing is named."""
    snapshot = taken()
    del snapshot[field]
    with pytest.raises(SnapshotError, match=f"'{field}' is missing"):
        Engine(Job, snapshot=snapshot)


def test_a_state_is_missing() -> None:
    """In a snapshot of the same schema all are there."""
    snapshot = taken()
    del cast("dict[str, object]", snapshot["ticks"])["Done"]
    with pytest.raises(SnapshotError, match=r"ticks\.Done is missing: it was truncated"):
        Engine(Job, snapshot=snapshot)


@pytest.mark.parametrize("data", [3, "{}", [], {1: 2}, b""])
def test_what_is_no_snapshot_at_all(data: object) -> None:
    """Anything but a mapping of names."""
    with pytest.raises(SnapshotError, match="a snapshot is a mapping of names"):
        Engine(Job, snapshot=cast("dict[str, object]", data))


@pytest.mark.parametrize("kind", [str, str.encode])
def test_snapshot_that_is_still_text(kind: Callable[[str], object]) -> None:
    """It is not printed: the message shows how it begins, and says how it is read."""
    text = json.dumps(taken())
    with pytest.raises(SnapshotError, match=r"begins a text: pass json\.loads\(…\) of it") as caught:
        Engine(Job, snapshot=cast("dict[str, object]", kind(text)))
    assert repr(kind(text[:20])) in str(caught.value)
    assert len(str(caught.value)) < 120


def test_arguments_that_their_class_refuses() -> None:
    """What a validator raises is told with the field."""

    @attrs.frozen
    class Checked:
        value: int = attrs.field(validator=attrs.validators.ge(0))

    X = Schema.define("X", {"Foo": State(args=Checked)})
    engine = Engine(X)
    engine.add(cast("Callable[..., trsm.Call[object]]", X["Foo"])(3))
    snapshot = put(engine.snapshot(), "args", "Foo", "value", -3)
    with pytest.raises(SnapshotError, match=r"args\.Foo: its args class refused them: ValueError"):
        Engine(X, snapshot=snapshot)


# ---- The rest of a life ---------------------------------------------------------------------------------------------


class Office(Job):
    Sorting = State(multi=True, args=Item)
    Filing = State(multi=True, args=Item, remove=Job.Idle)


names = st.sampled_from([str(state) for state in Office.states if state is not Office.Error])
steps = st.one_of(
    st.tuples(st.sampled_from(["add", "remove", "toggle"]), names),
    # No sum of these is a timeout: of a task that wakes at that very instant trio says not whether it comes before.
    st.tuples(st.just("sleep"), st.sampled_from([0.500001, 1.000001, 3.000001, 8.000001])),
    st.tuples(st.just("error"), st.sampled_from(["OSError", "KeyError"])),
    st.tuples(st.just("call"), st.sampled_from(["Sorting", "Filing"])),
    st.tuples(st.just("end"), st.integers(0, 3)),
)


def act(machine: Machine, step: int, what: str, value: object) -> None:
    if what == "error":
        machine.add_error(OSError(str(step)) if value == "OSError" else KeyError(step))
        return
    state = cast("State[..., object]", Office[str(value)])
    if what == "call":
        machine.add(state(step))
        return
    call = state if state is not Office.Fetching or what == "remove" else Office.Fetching(url="u")
    cast("Callable[[object], object]", getattr(machine, what))(call)


class Working:
    """Handlers that make mutations, as real ones do, and tasks of multi states, which run until they are told."""

    def __init__(self) -> None:
        self.running: list[tuple[tuple[str, str], trio.Event]] = []

    async def work(self, state: State[..., object], what: object) -> None:
        mine = (str(state), str(what)), trio.Event()
        self.running.append(mine)
        try:
            await mine[1].wait()
        finally:
            self.running.remove(mine)

    @property
    def shown(self) -> list[tuple[str, str]]:
        return sorted(what for what, _ in self.running)

    async def end(self, place: int) -> None:
        if place < len(self.running):
            what = self.shown[place]
            next(event for one, event in self.running if one == what).set()
            await wait_all_tasks_blocked()

    @Office.Sorting.task(limit=2)
    async def sort(self, t: Transition) -> None:
        await self.work(Office.Sorting, t.args_of(Office.Sorting).number)

    @Office.Filing.task
    async def file(self, t: Transition) -> None:
        await self.work(Office.Filing, t.args_of(Office.Filing).number)

    @Office.Beat.task(limit=1)
    async def listen(self, t: Transition) -> None:
        await self.work(Office.Beat, None)

    @Office.ErrNet.task(limit=2)
    async def report(self, t: Transition) -> None:
        error = t.error
        await self.work(Office.ErrNet, error.text if isinstance(error, RestoredError) else error)

    @Job.Error.on_enter
    def handled(self, t: Transition) -> None:
        pass

    @Job.Fetching.on_enter
    def beat(self, t: Transition) -> None:
        t.machine.add(Job.Beat)


async def lived(machine: Machine, working: Working, steps: list[tuple[str, object]], start: int) -> list[object]:
    log: list[object] = []
    for step, (what, value) in enumerate(steps, start):
        await wait_all_tasks_blocked()  # not after the last one: then the snapshot has tasks that have not begun
        log.append(working.shown)
        if what == "sleep":
            await trio.sleep(cast("float", value))
        elif what == "end":
            await working.end(cast("int", value))
        else:
            act(machine, step, what, value)
        log.append([machine.tick(state) for state in Office.states])
        log.append(machine.last_transition.tick)
    return log


ENDS: list[tuple[str, object]] = [("end", 0)] * 4
"""So that what waited is seen to begin."""


async def whole(first: list[tuple[str, object]], second: list[tuple[str, object]]) -> list[object]:
    working = Working()
    async with trsm.open_machine(Office, working) as machine:
        await lived(machine, working, first, 0)
        return await lived(machine, working, [*second, *ENDS], len(first))


async def halved(first: list[tuple[str, object]], second: list[tuple[str, object]]) -> list[object]:
    working = Working()
    async with trsm.open_machine(Office, working) as machine:
        await lived(machine, working, first, 0)
        snapshot = json.dumps(machine.snapshot(), allow_nan=False)
    await trio.sleep(100)
    working = Working()
    async with trsm.open_machine(Office, working, snapshot=json.loads(snapshot)) as machine:
        return await lived(machine, working, [*second, *ENDS], len(first))


@given(st.lists(steps, max_size=12), st.lists(steps, max_size=12))
def test_a_restored_machine_goes_on_as_the_original_would_have_property(
    first: list[tuple[str, object]], second: list[tuple[str, object]]
) -> None:
    """Run half, snapshot, restore, run the rest: at each step the same ticks as without the interruption, and of multi
    states tasks with the same arguments."""

    def run(life: Callable[..., Awaitable[list[object]]]) -> list[object]:
        return trio.run(life, first, second, clock=MockClock(autojump_threshold=0))

    assert run(whole) == run(halved)
