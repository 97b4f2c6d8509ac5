"""`extend_schema()`: a machine that runs gets a schema that inherits its own (row 6)."""

from __future__ import annotations

from typing import cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Engine, ErrorState, MachineClosed, MutationError, Schema, SchemaError, State, Tracer, Transition


class Shop(Schema):
    Open = State()
    Paid = State(require=Open)
    Loud = State(multi=True)
    ErrNet = ErrorState(catches=OSError)


class First(Schema):
    Early = State()
    Shut = State()


class Larger(First, Shop):
    """Two bases, so that every number shifts, and Error's too."""

    Shut = First.Shut.extend(remove=Shop.Open)
    Open = Shop.Open.extend(remove="Shut")
    Late = State(auto=True, require=Shop.Paid)
    ErrLate = ErrorState(catches=KeyError)


# ---- What stays, and what changes -----------------------------------------------------------------------------------


def test_ticks_are_kept_and_new_states_are_inactive() -> None:
    """By name, whatever their numbers; the new schema's states and relations hold from now on."""
    engine = Engine(Shop, id="shop")
    engine.add(Shop.Open)
    engine.remove(Shop.Open)
    engine.add(Shop.Open, Shop.Loud)
    engine.add(Shop.Loud)
    engine.extend_schema(Larger)
    assert engine.schema is Larger
    assert engine.active_states == (Larger.Open, Larger.Loud)
    assert {str(state): tick for state, tick in engine.ticks.filter(*Larger.states).items() if tick} == {
        "Open": 3,
        "Loud": 3,
    }
    assert engine.is_active(Shop.Open)
    assert engine.tick(Shop.Loud) == 3
    assert engine.add(Shop.Paid)
    assert engine.active_states == (Larger.Open, Larger.Paid, Larger.Loud, Larger.Late)
    engine.add(Larger.Shut)
    assert engine.active_states == (Larger.Shut, Larger.Loud)
    assert engine.tick(Shop.Open) == 4


def test_transitions_made_before_keep_their_own_schema() -> None:
    """Also those that nobody had seen yet, of which only a record was kept."""
    engine = Engine(Shop)
    engine.add(Shop.Loud)
    engine.add(Shop.Open)  # a record, and so is the first, which began Loud
    engine.extend_schema(Larger)
    last = engine.last_transition
    assert (last.entering, last.target, last.tick) == ((Shop.Open,), (Shop.Open, Shop.Loud), 2)
    assert last.after.filter(*Shop.states) == {Shop.Open: 1, Shop.Paid: 0, Shop.Loud: 1, Shop.ErrNet: 0, Shop.Error: 0}
    assert len(last.before) == len(Shop)
    with pytest.raises(trsm.UnknownState):
        last.args_of(Larger.Late)
    engine.add(Larger.Early)
    assert last.entering == (Shop.Open,)
    now = engine.last_transition
    assert len(now.before) == len(Larger)
    assert now.before.since(last.after) == {}
    assert now.after.since(last.before) == {Larger.Early: 1, Larger.Open: 1}


def test_a_machine_that_did_nothing_yet() -> None:
    """There is nothing to keep."""
    engine = Engine(Shop)
    engine.extend_schema(Larger)
    assert engine.active_states == ()
    assert engine.last_transition.tick == 0
    assert engine.add(Larger.Early)


def test_twice() -> None:
    """Each time by a schema that inherits the present one."""

    class Largest(Larger):
        Last = State()

    engine = Engine(Shop)
    engine.add(Shop.Open)
    engine.extend_schema(Larger)
    engine.add(Larger.Early)
    engine.extend_schema(Largest)
    assert engine.active_states == (Largest.Early, Largest.Open)
    assert engine.add(Largest.Last)


def test_the_reasons_of_earlier_results_are_those_of_their_schema() -> None:
    """A canceled result works out its reason when asked, of what was then."""
    engine = Engine(Shop)
    canceled = engine.add(Shop.Paid)
    untold = engine.add(Shop.Paid)
    assert isinstance(canceled, trsm.Canceled)
    assert isinstance(untold, trsm.Canceled)
    reason = canceled.reason
    engine.extend_schema(Larger)
    assert "Paid cannot activate: it requires Open" in reason
    assert untold.reason == reason


def test_the_default_id_stays() -> None:
    """It is made of the name of the schema that the machine was opened on."""
    engine = Engine(Shop)
    name = engine.id
    engine.extend_schema(Larger)
    assert engine.id == name


def test_the_error_of_the_machine_stays() -> None:
    """Error has another number, and the same meaning."""
    engine = Engine(Shop)
    error = OSError()
    engine.add_error(error)
    engine.extend_schema(Larger)
    assert engine.error is error
    assert "[Error:1]" in repr(engine)
    with pytest.raises(ExceptionGroup):
        engine.add_error(ValueError())
    assert engine.tick(Larger.Error) == 3
    engine.remove(Larger.Error)
    assert engine.error is None
    engine.add_error(KeyError())
    assert engine.is_active(Larger.ErrLate)


def test_handlers_stay_bound() -> None:
    """They are called by the new schema's plans, once each; they may be taken off."""
    log: list[str] = []

    class Handlers:
        @Shop.Open.on_enter
        def opened(self, t: Transition) -> None:
            log.append(f"open of {engine.schema.__name__}")

        @Shop.on_change
        def changed(self, t: Transition) -> None:
            log.append(" ".join(map(str, t.entering)))

    engine = Engine(Shop)
    binding = engine.bind(Handlers())
    engine.extend_schema(Larger)
    engine.add(Larger.Open)
    assert log == ["open of Larger", "Open"]
    engine.add(Larger.Early)
    binding.detach()
    engine.add(Larger.Loud)
    assert log == ["open of Larger", "Open", "Early"]


def test_calls_that_were_made_before_are_looked_up_anew() -> None:
    """No plan of the old schema is used, though the same call was made on the same active set."""
    engine = Engine(Shop)
    for _ in range(3):
        engine.add(Shop.Open)
        engine.remove(Shop.Open)
    engine.extend_schema(Larger)
    engine.add(Larger.Shut)
    engine.add(Shop.Open)
    assert engine.active_states == (Larger.Open,)


def test_breakpoints_wait_for_the_same_states() -> None:
    """``break_on()`` goes on."""
    log: list[Transition] = []
    engine = Engine(Shop)
    engine.break_on(added=Shop.Open, removed=Shop.Loud, call=log.append)
    engine.extend_schema(Larger)
    engine.add(Larger.Early, Larger.Loud)
    assert log == []
    engine.add(Larger.Open)
    engine.remove(Larger.Loud)
    assert [transition.kind for transition in log] == ["add", "remove"]


def test_tracers_are_told() -> None:
    """With the schema that it was; the machine has the new one."""
    told: list[object] = []

    class Told(Tracer):
        def schema_changed(self, machine: trsm.Observed, before: type[Schema]) -> None:
            told.extend((machine.schema, before, len(machine.ticks)))

    engine = Engine(Shop, tracers=[Told()])
    engine.extend_schema(Larger)
    assert told == [Larger, Shop, len(Larger)]


def test_a_snapshot_afterwards_is_of_the_new_schema() -> None:
    """Arguments that were passed before are found by their state."""

    @attrs.frozen
    class Who:
        name: str

    class Typed(Schema):
        Foo = State(args=Who)

    class More(First, Typed):
        Foo = Typed.Foo.extend(tags="x")

    engine = Engine(Typed)
    engine.add(Typed.Foo(name="me"))
    engine.extend_schema(More)
    again = Engine(More, snapshot=engine.snapshot())
    assert again.active_states == (More.Foo,)
    assert again.last_transition.args_of(Typed.Foo) == Who("me")


# ---- What lives while it happens ------------------------------------------------------------------------------------


async def test_waiters_go_on() -> None:
    """Of every kind: they were made for states, whatever their numbers are."""
    async with trsm.open_machine(Shop) as machine:
        machine.add(Shop.Loud)
        waiters = {
            "when": machine.when(Shop.Open, Shop.Paid),
            "where": machine.when(Shop.Open, where=lambda t: t.args["id"] == 3),
            "args": machine.when(Shop.Open, id=3),
            "when_not": machine.when_not(Shop.Loud),
            "when_any": machine.when_any(Shop.Paid, Shop.Error),
            "when_tick": machine.when_tick(Shop.Paid, 1),
            "when_ticks": machine.when_ticks(Shop.Loud, 1),
            "when_next": machine.when_next(Shop.Paid),
            "when_query": machine.when_query(lambda ticks: bool(ticks[Shop.Paid])),
            "both": machine.when(Shop.Open) & machine.when(Shop.Paid),
        }
        error = machine.when_error()
        network = machine.when_error(Shop.ErrNet)
        before = machine.ticks
        moved = machine.when_query(lambda ticks: ticks > before and ticks.since(before) != {})
        machine.extend_schema(Larger)
        machine.add(Larger.Early)
        assert moved.done
        machine.remove(Larger.Early)
        machine.add(Larger.Shut)
        machine.remove(Larger.Shut)
        assert not any(waiter.done for waiter in waiters.values())
        machine.add(Larger.Open, id=3)
        assert {name for name, waiter in waiters.items() if waiter.done} == {"where", "args"}
        machine.add(Larger.Paid)
        machine.remove(Larger.Loud)
        assert [name for name, waiter in waiters.items() if not waiter.done] == []
        assert await waiters["when_next"] is await waiters["when_tick"]
        machine.add_error(OSError())
        assert isinstance(await error, OSError)
        assert isinstance(await network, OSError)
        assert machine._subscriptions is not None
        assert len(machine._subscriptions) == 0
        assert machine._watched == 0


async def test_what_began_an_instance_before_is_found_as_it_was() -> None:
    """A waiter for a state that is active gives the transition that began it, of the schema before."""
    async with trsm.open_machine(Shop) as machine:
        machine.add(Shop.Loud)
        machine.add(Shop.Open)
        machine.extend_schema(Larger)
        began = await machine.when(Larger.Loud)
        assert (began.entering, began.tick, len(began.after)) == ((Shop.Loud,), 1, len(Shop))


async def test_waiters_that_were_dropped_leave_the_new_tables() -> None:
    """Unsubscribing knows the new number."""
    async with trsm.open_machine(Shop) as machine:
        waiter = machine.when(Shop.Open)
        machine.extend_schema(Larger)
        assert machine._watched == 1 << Larger._definition.number(Larger.Open, "")
        del waiter
        assert machine._watched == 0
        assert machine._subscriptions is not None
        assert machine._subscriptions.tables == {}


async def test_streams_go_on() -> None:
    """``watch()`` gives ticks of the new schema; ``transitions()`` transitions of both."""
    async with trsm.open_machine(Shop) as machine:
        watch = machine.watch()
        stream = machine.transitions(buffer=10, overflow="raise")
        await anext(watch)
        machine.add(Shop.Open)
        machine.extend_schema(Larger)
        assert machine._watched == -1
        machine.add(Larger.Early)
        assert (await anext(watch)).active_states == (Larger.Early, Larger.Open)
        assert (await anext(stream)).entering == (Shop.Open,)
        assert (await anext(stream)).entering == (Larger.Early,)


async def test_scopes_go_on() -> None:
    """Entered before and ended after, made before and entered after, left after; of both kinds."""
    async with trsm.open_machine(Shop) as machine:
        machine.add(Shop.Open)
        later = machine.while_active(Shop.Open)
        with machine.while_inactive(Shop.Loud) as quiet, machine.while_active(Shop.Open) as scope:
            with machine.while_active(Shop.Open):
                machine.extend_schema(Larger)
            with later as other:
                machine.add(Larger.Early)
                assert not (scope.cancel_called or quiet.cancel_called or other.cancel_called)
                machine.remove(Larger.Open)
                assert scope.cancel_called
                assert other.cancel_called
                machine.add(Larger.Loud)
                assert quiet.cancel_called
        assert machine._watched == 0


async def test_tasks_go_on() -> None:
    """A task is cancelled with its state, its ``then`` comes, and its error is one of the machine."""
    log: list[str] = []
    released = trio.Event()

    class Handlers:
        @Shop.Open.task(then=Shop.Loud)
        async def opened(self, t: Transition) -> None:
            await released.wait()

        @Shop.Paid.task
        async def paid(self, t: Transition) -> None:
            try:
                await trio.sleep_forever()
            finally:
                log.append("paid ends")

        @Shop.Loud.task(limit=1)
        async def loud(self, t: Transition) -> None:
            log.append("loud starts")
            await released.wait()
            raise OSError

    async with trsm.open_machine(Shop, Handlers()) as machine:
        machine.add(Shop.Open, Shop.Paid)
        machine.add(Shop.Loud)
        machine.add(Shop.Loud)
        await wait_all_tasks_blocked()
        machine.extend_schema(Larger)
        machine.add(Larger.Loud)
        machine.add(Larger.Early)
        await wait_all_tasks_blocked()
        assert log == ["loud starts"]  # the limit holds across the change
        machine.remove(Larger.Paid)
        await wait_all_tasks_blocked()
        assert log == ["loud starts", "paid ends"]
        tick = machine.tick(Larger.Loud)
        released.set()
        await machine.when(Larger.ErrNet)
        await wait_all_tasks_blocked()
        assert machine.tick(Larger.Loud) == tick + 2
        assert log.count("loud starts") == 4


async def test_a_task_that_began_before_is_a_cause_by_the_states_of_that_time() -> None:
    """Its record is made when it is first asked for, which may be in the new schema, where the numbers are others."""

    @Shop.Open.task
    async def work(t: Transition) -> None:
        await go.wait()
        for _ in range(2):
            machine.add(Shop.Loud)
            causes.append(machine.last_transition.describe_cause().splitlines()[1])

    go = trio.Event()
    causes: list[str] = []
    async with trsm.open_machine(Shop, work, id="shop") as machine:
        machine.add(Shop.Open)
        await wait_all_tasks_blocked()
        machine.extend_schema(Larger)
        go.set()
        await wait_all_tasks_blocked()
        name = work.__qualname__
        assert causes == [f"by task {name}, after transition 1 of machine 'shop', add(Open)"] * 2


async def test_a_task_of_an_error_state_goes_on() -> None:
    """Errors of an error handler are not caught again, whatever its number."""

    runs: list[Transition] = []

    @Shop.ErrNet.task
    async def fail(t: Transition) -> None:
        runs.append(t)
        await released.wait()
        raise OSError("again")

    released = trio.Event()
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Shop, fail) as machine:
            machine.add_error(OSError("first"))
            await wait_all_tasks_blocked()
            machine.extend_schema(Larger)
            released.set()
            await trio.sleep_forever()
    assert [str(error) for error in caught.value.exceptions] == ["again"]
    assert len(runs) == 1


async def test_what_start_soon_has_started_goes_on() -> None:
    """It is cancelled with its state, and forgotten."""
    log: list[str] = []

    async def work(word: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.append(word)

    async with trsm.open_machine(Shop) as machine:
        machine.add(Shop.Open)
        machine.start_soon(work, "state", while_active=Shop.Open)
        machine.start_soon(work, "machine")
        await wait_all_tasks_blocked()
        machine.extend_schema(Larger)
        machine.add(Larger.Early)
        await wait_all_tasks_blocked()
        assert log == []
        machine.remove(Larger.Open)
        await wait_all_tasks_blocked()
        assert log == ["state"]
        assert machine._watched == 0
    assert log == ["state", "machine"]


async def test_timeouts_go_on(autojump_clock: MockClock) -> None:
    """A deadline that runs stays; a new timeout counts from now; one that is gone is forgotten."""

    class Timed(Schema):
        Stays = State(timeout=10)
        Loses = State(timeout=10)
        Gains = State()

    class Changed(First, Timed):
        Stays = Timed.Stays.extend(timeout=3, on_timeout="Shut")
        Loses = Timed.Loses.extend(timeout=float("inf"))
        Gains = Timed.Gains.extend(timeout=7)

    async with trsm.open_machine(Timed) as machine:
        machine.add(Timed.Stays, Timed.Loses, Timed.Gains)
        await trio.sleep(8)
        machine.extend_schema(Changed)
        await machine.when(Changed.Shut)
        assert trio.current_time() == pytest.approx(10)
        await machine.when_not(Changed.Gains)
        assert trio.current_time() == pytest.approx(15)
        await trio.sleep(100)
        assert Changed.Loses in machine
        assert len(machine._timers) == 0


async def test_children_and_pipes_go_on() -> None:
    """A child keeps its own schema, and a pipe from the machine carries on."""
    async with trsm.open_machine(Shop) as machine:
        child = machine.start_child(Shop)
        trsm.pipe(machine, Shop.Open, child)
        machine.extend_schema(Larger)
        machine.add(Larger.Open)
        assert child.schema is Shop
        assert Shop.Open in child


# ---- What is refused ------------------------------------------------------------------------------------------------


def unchanged(engine: Engine) -> None:
    assert engine.schema is Shop
    assert len(engine.ticks) == len(Shop)


def test_what_does_not_inherit_the_present_schema() -> None:
    """A stranger, a base, itself, and what is no schema."""
    engine = Engine(Shop, id="m")

    class Other(Schema):
        Open = State()

    with pytest.raises(SchemaError, match=r"Other does not inherit Shop, the schema of machine 'm': write class Other"):
        engine.extend_schema(Other)
    with pytest.raises(SchemaError, match="Schema does not inherit Shop"):
        engine.extend_schema(Schema)
    with pytest.raises(SchemaError, match=r"extend_schema\(Shop\): that is its schema already"):
        engine.extend_schema(Shop)
    with pytest.raises(TypeError, match=r"extend_schema\(3\): pass a class that inherits Shop"):
        engine.extend_schema(cast("type[Schema]", 3))
    unchanged(engine)


def test_a_state_that_is_declared_anew() -> None:
    """It would be another state under the same name."""

    class Anew(Shop):
        Open = State()
        Paid = Shop.Paid.replace(require=())

    engine = Engine(Shop)
    with pytest.raises(
        SchemaError, match=r"Anew declares Open anew, so that Shop\.Open would be gone: write Open = Shop"
    ):
        engine.extend_schema(Anew)
    unchanged(engine)


def test_relations_that_the_active_states_would_break() -> None:
    """Nothing changes; without the states in question it goes through."""

    class Needy(Shop):
        Loud = Shop.Loud.extend(require=Shop.Open)

    class Quiet(Shop):
        Loud = Shop.Loud.extend(remove=Shop.Open)

    engine = Engine(Shop)
    engine.add(Shop.Loud)
    with pytest.raises(SchemaError, match=r"extend_schema\(Needy\): Loud is active, and requires Open, which is not"):
        engine.extend_schema(Needy)
    engine.add(Shop.Open)
    with pytest.raises(SchemaError, match=r"extend_schema\(Quiet\): Loud is active, and removes Open, which is too"):
        engine.extend_schema(Quiet)
    unchanged(engine)
    engine.remove(Shop.Loud)
    engine.extend_schema(Quiet)


def test_a_handler_that_does_not_fit_any_more() -> None:
    """A task's ``limit`` is for multi states."""

    class Plain(Shop):
        Loud = Shop.Loud.extend(multi=False)

    @Shop.Loud.task(limit=2)
    async def work(t: Transition) -> None:
        pass

    engine = Engine(Shop, work)
    with pytest.raises(trsm.HandlerError, match="is not multi"):
        engine.extend_schema(Plain)
    unchanged(engine)


async def test_in_a_transition() -> None:
    """A transition is of one schema; what is asked may only look."""
    seen: list[type[Exception]] = []

    class Handlers:
        @Shop.Open.can_enter
        def ask(self, t: Transition) -> bool:
            with pytest.raises(trsm.ReadOnly, match="extend_schema of machine"):
                t.machine.extend_schema(Larger)  # type: ignore[attr-defined]
            seen.append(trsm.ReadOnly)
            return True

        @Shop.Open.on_enter
        def act(self, t: Transition) -> None:
            with pytest.raises(
                MutationError,
                match=r"^extend_schema\(Larger\) in a transition, which is of the present schema to its end: call it "
                r"when the mutation has returned, or in a task$",
            ):
                t.machine.extend_schema(Larger)  # type: ignore[attr-defined]
            seen.append(MutationError)

    async with trsm.open_machine(Shop, Handlers()) as machine:
        machine.add(Shop.Open)
        unchanged(machine)
    assert seen == [trsm.ReadOnly, MutationError]


async def test_a_closed_machine() -> None:
    """It is too late."""
    async with trsm.open_machine(Shop, id="m") as machine:
        pass
    with pytest.raises(MachineClosed, match=r"extend_schema\(Larger\): machine 'm' is closed"):
        machine.extend_schema(Larger)
    unchanged(machine)


async def test_from_another_thread() -> None:
    """It has to be the machine's own."""
    async with trsm.open_machine(Shop) as machine:

        def call() -> None:
            machine.extend_schema(Larger)

        with pytest.raises(trsm.WrongThread, match="extend_schema of machine"):
            await trio.to_thread.run_sync(call)


# ---- Ticks of both schemas ------------------------------------------------------------------------------------------


def test_ticks_of_a_schema_and_of_its_heir_compare() -> None:
    """In both directions; what only the heir has counts as 0 in the other; strangers do not."""
    engine = Engine(Shop)
    before = engine.ticks
    engine.add(Shop.Open)
    middle = engine.ticks
    engine.extend_schema(Larger)
    engine.add(Larger.Early)
    after = engine.ticks
    assert before < middle < after
    assert after > middle >= before
    assert not after <= before
    assert not before >= after
    assert after.since(before) == before.until(after) == {Larger.Early: 1, Larger.Open: 1}
    assert before.since(after) == {Larger.Early: -1, Larger.Open: -1}
    with pytest.raises(TypeError, match=r"ticks.since\(…\): First is not the ticks of Shop"):
        middle.since(Engine(First).ticks)


def test_ticks_of_an_heir_that_declares_a_state_anew() -> None:
    """What is another state is not counted."""

    class Anew(Shop):
        Open = State()

    engine, other = Engine(Shop), Engine(Anew)
    engine.add(Shop.Open)
    assert other.ticks.since(engine.ticks) == {}


# ---- At any time ----------------------------------------------------------------------------------------------------

names = st.sampled_from(["Open", "Paid", "Loud", "ErrNet"])
words = st.lists(st.tuples(st.sampled_from(["add", "remove", "toggle"]), names), max_size=10)


class Shifted(First, Shop):
    """Other numbers, the same relations."""

    Last = State()


@given(words, words)
def test_a_schema_that_changes_no_relation_changes_no_outcome_property(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    """Extended in the middle of a life, the machine goes on as one that was not."""
    plain, extended = Engine(Shop), Engine(Shop)
    for step, (what, name) in enumerate([*first, *second]):
        if step == len(first):
            extended.extend_schema(Shifted)
        for engine in (plain, extended):
            getattr(engine, what)(Shop[name])
        assert [plain.tick(state) for state in Shop.states] == [extended.tick(state) for state in Shop.states]
        assert plain.last_transition.tick == extended.last_transition.tick
