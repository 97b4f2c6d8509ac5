"""Errors of a machine (DESIGN section 7): what is handled, what closes the machine, and what leaves its block."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from kernel.faults import MAKERS, Shape, Trial, leaves, lives, shapes
from trsm import ErrorState, Machine, Schema, State, Transition, open_machine

Handler = Callable[[Transition], object]


class Job(Schema):
    Work = State()
    Other = State()
    ErrOs = ErrorState(catches=OSError)
    ErrSlow = ErrorState(catches=trio.TooSlowError, remove=Work)
    ErrKey = ErrorState(catches=KeyError)


def fails(mark: Callable[[Handler], Handler], error: BaseException) -> Handler:
    """A sync handler that raises."""

    def failing(t: Transition) -> bool:
        raise error

    return mark(failing)


def notes(mark: Callable[[Handler], Handler], log: list[object]) -> Handler:
    """A final handler that notes each transition it was called with."""

    def noting(t: Transition) -> None:
        log.append(t)

    return mark(noting)


def failing_task(state: State[..., object], error: BaseException) -> Handler:
    """A task that raises after a checkpoint."""

    @state.task
    async def failing(t: Transition) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return failing


def stubborn_task(state: State[..., object], error: BaseException) -> Handler:
    """A task that raises when it is cancelled."""

    @state.task
    async def stubborn(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    return stubborn


@asynccontextmanager
async def leaving(
    schema: type[Schema], *handlers: object, id: str = "m"
) -> AsyncIterator[tuple[Machine, list[object]]]:
    """A machine whose block may only be left by a group of unhandled errors, which the list then holds."""
    errors: list[object] = []
    try:
        async with open_machine(schema, *handlers, id=id) as machine:
            yield machine, errors
    except ExceptionGroup as group:
        if group.message != f"unhandled in machine '{id}'":
            raise
        errors.extend(group.exceptions)


# ---- Handled --------------------------------------------------------------------------------------------------------


async def test_a_task_that_raises_activates_the_error_state_and_its_own_state_stays() -> None:
    """A task that raises does not deactivate its state; an error that a state takes closes nothing."""
    error = OSError("o")
    async with open_machine(Job, failing_task(Job.Work, error)) as machine:
        machine.add(Job.Work)
        assert await machine.when_error() is error
        assert machine.active_states == (Job.Work, Job.ErrOs, Job.Error)
        assert machine.error is error and not machine.closed
        machine.remove(Job.Error)
        assert machine.error is None


async def test_an_error_state_may_remove_the_state_whose_task_raised(autojump_clock: MockClock) -> None:
    """A task's timeout acts as if the task had raised `trio.TooSlowError`, counted from its start."""

    @Job.Work.task(timeout=5)
    async def sleep(t: Transition) -> None:
        await trio.sleep(5 if t.args.get("quick") else 6)

    async with open_machine(Job, sleep) as machine:
        await trio.sleep(3)
        began = trio.current_time()
        machine.add(Job.Work)
        error = await machine.when_error(Job.ErrSlow)
        assert isinstance(error, trio.TooSlowError) and trio.current_time() - began == 5
        assert machine.active_states == (Job.ErrSlow, Job.Error)
        assert machine.last_transition.source is not None
        assert machine.last_transition.source.handler.endswith("sleep")


async def test_a_group_of_a_task_is_split() -> None:
    """What no state takes is unhandled, and closes the machine."""
    value = ValueError("v")

    @Job.Work.task
    async def two(t: Transition) -> None:
        raise ExceptionGroup("two", [OSError("o"), value])

    async with leaving(Job, two) as (machine, errors):
        machine.add(Job.Work)
        await trio.sleep_forever()
    assert list(leaves(errors)) == [value]
    assert machine.ticks_at_close is not None and machine.ticks_at_close.is_active(Job.ErrOs, Job.Error)


async def test_a_task_of_error_handles_every_error() -> None:
    """It runs with the exception in ``t.error``, and the machine goes on."""
    seen: list[object] = []

    @Job.Error.task
    async def look(t: Transition) -> None:
        seen.append(t.error)

    one, two = ValueError("one"), ValueError("two")
    async with open_machine(Job, look, fails(Job.Work.on_enter, one)) as machine:
        assert machine.add(Job.Work).executed
        await wait_all_tasks_blocked()
        assert machine.add_error(two).executed
        await wait_all_tasks_blocked()
        assert not machine.closed and machine.error is two
    assert seen == [one, two]


async def test_an_on_enter_of_error_handles_every_error() -> None:
    """As on the bare engine; an ``on_exit`` does not."""
    async with open_machine(Job, Job.Error.on_enter(lambda t: None)) as machine:
        machine.add_error(ValueError())
        assert not machine.closed
    async with leaving(Job, Job.Error.on_exit(lambda t: None)) as (machine, errors):
        machine.add_error(ValueError())
        assert machine.closed
    assert len(errors) == 1


async def test_a_waiter_only_watches() -> None:
    """`when_error` gets the exception, which is unhandled all the same."""
    error = ValueError("v")
    seen: list[object] = []
    async with leaving(Job) as (machine, errors):
        waiter = machine.when_error()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def watch() -> None:
                with trio.CancelScope(shield=True):
                    seen.append(await waiter)

            await wait_all_tasks_blocked()
            machine.add_error(error)
            assert machine.closed
    assert errors == [error] and seen == [error]


# ---- Unhandled ------------------------------------------------------------------------------------------------------


async def test_an_unhandled_error_closes_the_machine_before_the_call_returns() -> None:
    """Every state leaves, the queue is canceled, the call itself was executed, and the body is cancelled."""
    error = ValueError("v")
    results: list[trsm.Result] = []

    @Job.Work.on_enter
    def enter(t: Transition) -> None:
        results.append(machine.add(Job.Other))
        raise error

    async with leaving(Job, enter) as (machine, errors):
        assert machine.add(Job.Work).executed
        assert machine.closed and machine.active_states == ()
        assert [result.canceled for result in results] == [True]
        with pytest.raises(trio.Cancelled):
            await trio.lowlevel.checkpoint()
        assert machine.add(Job.Other).canceled
    assert errors == [error]


async def test_the_machine_closed_that_waiters_get_is_caused_by_the_first_unhandled_error() -> None:
    """And it says so."""
    one = ValueError("one")
    async with leaving(Job, fails(Job.Other.on_exit, ValueError("two"))) as (machine, errors):
        machine.add(Job.Other)
        waiter = machine.when(Job.Work)
        machine.add_error(one)
        with (
            trio.CancelScope(shield=True),
            pytest.raises(trsm.MachineClosed, match="closed after ValueError") as caught,
        ):
            await waiter
    assert caught.value.__cause__ is one and errors[0] is one


async def test_a_task_that_raises_what_nothing_handles_closes_the_machine() -> None:
    """Other tasks are cancelled and joined, and their errors follow in the group."""
    one, two = ValueError("one"), ValueError("two")
    async with leaving(Job, failing_task(Job.Work, one), stubborn_task(Job.Other, two)) as (machine, errors):
        machine.add(Job.Work, Job.Other)
        await trio.sleep_forever()
    assert errors == [one, two]


async def test_an_error_of_an_error_states_task_is_not_caught_again() -> None:
    """It closes the machine, though `ErrOs` would match it."""
    error = OSError("again")
    async with leaving(Job, failing_task(Job.ErrOs, error)) as (machine, errors):
        machine.add_error(OSError("first"))
        await trio.sleep_forever()
    assert errors == [error]
    assert machine.ticks_at_close is not None and machine.ticks_at_close[Job.ErrOs] == 1


async def test_errors_of_on_exit_while_closing_go_into_the_group() -> None:
    """They activate nothing; what tasks raise while they unwind follows."""
    one, two = OSError("on_exit"), OSError("task")
    async with leaving(Job, fails(Job.Work.on_exit, one), stubborn_task(Job.Work, two)) as (machine, errors):
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
    assert errors == [one, two]
    assert machine.ticks_at_close is not None and machine.ticks_at_close[Job.Error] == 0


@pytest.mark.parametrize("is_second", [False, True])
async def test_an_error_that_is_reported_while_cleanups_run_joins_the_group(is_second: bool) -> None:
    """In order with the cleanups' own, whether or not there were errors before; for `add_error` it is canceled."""
    first, late, own = ValueError("first"), ValueError("late"), ValueError("own")
    results: list[trsm.Result] = []

    async def tells() -> None:
        results.append(machine.add_error(late))

    async def raises() -> None:
        raise own

    async with leaving(Job, fails(Job.Work.on_exit, first)) as (machine, errors):
        if is_second:
            machine.add(Job.Work)
        machine.defer(raises)
        machine.defer(tells)
    assert errors == [*([first] if is_second else []), late, own]
    assert results[0].canceled
    assert machine.add_error(ValueError("too late")).canceled


class Bare(Schema):
    Work = State()


async def test_errors_of_a_started_child_become_errors_of_its_parent() -> None:
    """The child closes; the parent's error state takes the exception, and the parent goes on."""
    error = OSError("child")
    async with open_machine(Job) as machine:
        child = machine.start_child(Bare, failing_task(Bare.Work, error))
        child.add(Bare.Work)
        assert await machine.when_error(Job.ErrOs) is error
        assert child.closed and not machine.closed
        assert machine.active_states == (Job.ErrOs, Job.Error) and machine.error is error


async def test_errors_of_a_started_child_close_a_parent_that_does_not_handle_them() -> None:
    """They leave the parent's block, each once."""
    error, cleanup = ValueError("child"), OSError("cleanup")

    async def raises() -> None:
        raise cleanup

    async with leaving(Bare) as (machine, errors):
        child = machine.start_child(Bare, fails(Bare.Work.on_enter, error))
        child.defer(raises)
        child.add(Bare.Work)
        assert child.closed and machine.closed
    assert errors == [error, cleanup]


async def test_errors_of_a_child_while_its_parent_closes_join_the_parents() -> None:
    """The children close first, so theirs come first."""
    one, two = OSError("child"), OSError("parent")
    async with leaving(Job, fails(Job.Work.on_exit, two)) as (machine, errors):
        machine.add(Job.Work)
        machine.start_child(Bare, fails(Bare.Work.on_exit, one)).add(Bare.Work)
    assert errors == [one, two]


# ---- What leaves the block ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("body"),
        ExceptionGroup("mine", [ValueError("body"), ExceptionGroup("inner", [KeyError()])]),
        KeyboardInterrupt(),
        BaseExceptionGroup("mine", [KeyboardInterrupt(), ValueError()]),
    ],
)
async def test_the_bodys_own_exception_alone_leaves_bare_and_untouched(error: BaseException) -> None:
    """The very object, a group too, with neither context nor cause; and the machine has closed in good order."""
    exits: list[object] = []
    with pytest.raises(type(error)) as caught:
        async with open_machine(Job, notes(Job.Work.on_exit, exits)) as machine:
            machine.add(Job.Work)
            raise error
    assert caught.value is error
    assert error.__context__ is None and error.__cause__ is None and not error.__suppress_context__
    assert len(exits) == 1 and machine.closed


async def test_a_group_from_a_nursery_in_the_body_leaves_bare() -> None:
    """Only what is cancelled by the machine's own closing is taken out of it."""
    error = ValueError("body")

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with open_machine(Job) as machine:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(trio.sleep_forever)
                await wait_all_tasks_blocked()
                machine.close()
    assert caught.value.message == "Exceptions from Trio nursery"
    assert caught.value.exceptions == (error,)


async def test_a_body_that_is_cancelled_by_closing_leaves_without_an_exception() -> None:
    """Also if what it ends with is `MachineClosed` of this machine, alone or in a group."""
    async with open_machine(Job) as machine:
        machine.close()
        await trio.sleep_forever()
    async with open_machine(Job) as machine:
        waiter = machine.when(Job.Work)
        machine.close()
        with trio.CancelScope(shield=True):
            await waiter
    async with open_machine(Job) as machine:
        machine.close()
        raise ExceptionGroup("both", [trsm.MachineClosed("closed", machine)])


async def test_machine_closed_of_another_machine_is_an_exception_like_any_other() -> None:
    """Alone it is bare; beside this machine's own it is what is left of the group."""
    async with open_machine(Job) as other:
        pass
    foreign = trsm.MachineClosed("other", other)
    with pytest.raises(trsm.MachineClosed) as caught:
        async with open_machine(Job):
            raise foreign
    assert caught.value is foreign
    with pytest.raises(ExceptionGroup) as group:
        async with open_machine(Job) as machine:
            raise ExceptionGroup("both", [foreign, trsm.MachineClosed("mine", machine)])
    assert group.value.message == "both" and group.value.exceptions == (foreign,)


@pytest.mark.parametrize(
    "body", [ValueError("body"), ExceptionGroup("mine", [ValueError("body")]), KeyboardInterrupt()]
)
async def test_the_bodys_exception_joins_the_machines_errors_as_the_last(body: BaseException) -> None:
    """In one flat group, in order, with the body's exception untouched."""
    one, two = ValueError("one"), ValueError("two")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_machine(Job, stubborn_task(Job.Work, two), id="flat") as machine:
            machine.add(Job.Work)
            await wait_all_tasks_blocked()
            machine.add_error(one)
            raise body
    assert caught.value.exceptions == (one, two, body)
    assert caught.value.message == "unhandled in machine 'flat'"
    assert isinstance(caught.value, ExceptionGroup) is isinstance(body, Exception)


async def test_one_error_of_the_machine_is_a_group_too() -> None:
    """It depends on where it came from, never on how many there are."""
    error = ValueError("one")
    with pytest.raises(ExceptionGroup) as caught:
        async with open_machine(Job) as machine:
            machine.add_error(error)
    assert caught.value.exceptions == (error,)


async def test_a_cancellation_from_outside_joins_the_group_and_its_scope_takes_it() -> None:
    """The body's `Cancelled` is the last member; the outer scope takes its own, and the errors go on."""
    error = ValueError("task")
    inside: list[BaseExceptionGroup[BaseException]] = []
    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as scope:
            try:
                async with open_machine(Job, stubborn_task(Job.Work, error)) as machine:
                    machine.add(Job.Work)
                    await wait_all_tasks_blocked()
                    scope.cancel()
                    await trio.sleep_forever()
            except BaseExceptionGroup as group:
                inside.append(group)
                raise
    (group,) = inside
    assert not isinstance(group, ExceptionGroup)
    assert group.exceptions[0] is error and isinstance(group.exceptions[-1], trio.Cancelled)
    assert scope.cancelled_caught
    assert caught.value.exceptions == (error,)
    assert caught.value.message.startswith("unhandled in machine")


async def test_a_cancellation_from_outside_alone_leaves_bare() -> None:
    """There is no error of the machine: the body's exception is what leaves, untouched."""
    seen: list[BaseException] = []
    with trio.CancelScope() as scope:
        try:
            async with open_machine(Job) as machine:
                machine.add(Job.Work)
                scope.cancel()
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as cancelled:
                    seen.append(cancelled)
                    raise
        except trio.Cancelled as cancelled:
            seen.append(cancelled)
            raise
    assert scope.cancelled_caught and len(seen) == 2 and seen[0] is seen[1]
    assert machine.closed and not machine.is_active(Job.Work)


async def test_a_group_with_a_cancellation_from_outside_keeps_the_bodys_errors() -> None:
    """The body's own nursery had both: the group leaves as it is, and the outer scope takes its part."""
    error = ValueError("body")
    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as scope:
            async with open_machine(Job):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    await wait_all_tasks_blocked()
                    scope.cancel()
                    raise error
    assert list(leaves([caught.value])) == [error] and caught.value.message == "Exceptions from Trio nursery"


async def test_opening_that_fails_leaves_the_bare_exception() -> None:
    """What cannot be opened has no errors of its own."""
    with pytest.raises(TypeError, match="is no schema"):
        async with open_machine(Job.Work):  # type: ignore[arg-type]
            raise AssertionError
    with pytest.raises(ValueError, match="cleanup_timeout=0: write a positive number of seconds"):
        async with open_machine(Job, cleanup_timeout=0):
            raise AssertionError
    with pytest.raises(ValueError, match="cleanup_timeout='1'"):
        async with open_machine(Job, cleanup_timeout="1"):  # type: ignore[arg-type]
            raise AssertionError
    async with open_machine(Job) as parent:
        parent.close()
        with pytest.raises(trsm.MachineClosed, match="is closed, and a child cannot outlive it") as caught:
            async with open_machine(Job, parent=parent):
                raise AssertionError
        assert caught.value.machine is parent


# ---- What is no Exception -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(3)])
async def test_what_is_no_exception_closes_the_machine_and_goes_to_the_caller(stop: BaseException) -> None:
    """The caller may even catch it: the machine has closed by then, and the block ends without an exception."""
    error = OSError("in the same transition")
    async with open_machine(Job, fails(Job.Work.on_enter, stop)) as machine:
        with pytest.raises(type(stop)) as caught:
            machine.add(Job.Work, Job.Other)
        assert caught.value is stop
        assert machine.closed and machine.active_states == ()
        assert machine.tick(Job.Work) == machine.tick(Job.Other) == 2
    async with leaving(Job, fails(Job.Work.on_enter, stop), fails(Job.on_change, error)) as (machine, errors):
        with pytest.raises(type(stop)):
            machine.add(Job.Work)
    assert errors == [error, error]  # on_change ran in the removal too


async def test_what_is_no_exception_leaves_the_block_when_leaving_it_closes() -> None:
    """Raised by an ``on_exit``: the other ``on_exit``s run, and the body's exception is still the last."""
    stop, body = KeyboardInterrupt(), ValueError("body")
    exits: list[object] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_machine(Job, fails(Job.Other.on_exit, stop), notes(Job.Work.on_exit, exits)) as machine:
            machine.add(Job.Work, Job.Other)
            raise body
    assert caught.value.exceptions == (stop, body) and len(exits) == 1
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_machine(Job, fails(Job.Other.on_exit, stop)) as machine:
            machine.add(Job.Other)
    assert caught.value.exceptions == (stop,)


@pytest.mark.parametrize("number", [1, 2])
async def test_what_is_no_exception_raised_by_tracers_at_the_very_end_joins_the_others(number: int) -> None:
    """They hear last of all that ``when_closed()`` has ended, when the errors of the machine and the body are there."""
    error, body = OSError("on_exit"), ValueError("body")
    stops = [SystemExit(place) for place in range(number)]

    class Leaving(trsm.Tracer):
        def __init__(self, stop: BaseException) -> None:
            self.stop = stop

        def waiter_ended(self, machine: trsm.Observed, waiter: object) -> None:
            raise self.stop

    tracers = [Leaving(stop) for stop in stops]
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_machine(Job, fails(Job.Work.on_exit, error), tracers=tracers) as machine:
            machine.add(Job.Work)
            closed = machine.when_closed()
            raise body
    assert caught.value.exceptions == (error, *stops, body)
    await closed
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_machine(Job, tracers=tracers) as machine:
            closed = machine.when_closed()
    assert caught.value.exceptions == tuple(stops)


async def test_a_machine_whose_closing_was_interrupted_closes_once() -> None:
    """An error that is reported afterwards joins the group, and no second closing runs."""
    stop, late = KeyboardInterrupt(), ValueError("late")
    ticks: list[int] = []

    async def tells() -> None:
        ticks.append(machine.last_transition.tick)
        machine.add_error(late)
        ticks.append(machine.last_transition.tick)

    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_machine(Job, fails(Job.Other.on_exit, stop)) as machine:
            machine.add(Job.Other)
            machine.defer(tells)
    assert set(caught.value.exceptions) == {stop, late}
    assert ticks == [2, 2]  # the add, and the closing


async def test_several_that_are_no_exceptions_go_to_the_caller_in_a_group() -> None:
    """None is lost."""
    one, two = KeyboardInterrupt(), SystemExit()
    async with open_machine(Job, fails(Job.Work.on_enter, one), fails(Job.on_change, two), id="two") as machine:
        with pytest.raises(BaseExceptionGroup) as caught:
            machine.add(Job.Work)
    assert caught.value.exceptions == (one, two, two)
    assert caught.value.message == "in handlers of machine 'two'"


async def test_what_is_no_exception_in_a_task_closes_the_machine() -> None:
    """It leaves the block beside the machine's errors; the exceptions of its group become errors."""
    stop, error = KeyboardInterrupt(), ValueError("v")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_machine(Job, failing_task(Job.Work, BaseExceptionGroup("both", [error, stop]))) as machine:
            machine.add(Job.Work)
            await trio.sleep_forever()
    assert list(leaves(caught.value.exceptions)) == [error, stop]
    assert machine.closed


# ---- Tracers --------------------------------------------------------------------------------------------------------


async def test_a_slow_handler_is_reported_to_a_tracer_by_name_and_a_broken_tracer_is_detached(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine goes on without it."""
    now = [0.0]
    monkeypatch.setattr("trsm._core._runner.time", type("Clock", (), {"perf_counter": lambda: now[0]}))
    told: list[str] = []

    class Broken(trsm.Tracer):
        def slow_handler(self, machine: trsm.Observed, handler: str, seconds: float) -> None:
            told.append(f"{machine.id}: {handler.rpartition('.')[2]} took {seconds}")
            raise ValueError

    @Job.Work.on_enter
    def slow(t: Transition) -> None:
        now[0] += 2.0

    async with open_machine(Job, slow, id="traced", tracers=[Broken()], handler_budget=1) as machine:
        with caplog.at_level(logging.ERROR, "trsm"):
            machine.add(Job.Work)
        machine.remove(Job.Work)
        machine.add(Job.Work)
        assert machine.active_states == (Job.Work,)
    assert told == ["traced: slow took 2.0"]
    assert ["raised and was detached" in record.getMessage() for record in caplog.records] == [True]


# ---- Whichever handler raises ---------------------------------------------------------------------------------------


async def live(trial: Trial, steps: list[tuple[str, tuple[State[..., object], ...]]]) -> None:
    """Run a life on a machine, with waiters on every state, until its end or the first unhandled error."""
    schema = trial.shape.schema
    unhandled: list[BaseException] = []
    try:
        async with open_machine(schema, trial.shape.handlers(trial)) as machine:

            def look() -> None:
                trial.check_now(machine.active_states, {state.name: machine.tick(state) for state in schema})

            trial.look = look
            for method, states in steps:
                before = machine.ticks
                waiters = {state: machine.when_ticks(state, 1) for state in schema}
                getattr(machine, method)(*states)
                look()
                if machine.closed:
                    break
                for state, waiter in waiters.items():
                    assert waiter.done is (machine.tick(state) != before[state]), state
            machine.close()
            assert not machine.active_states
    except ExceptionGroup as group:
        unhandled.extend(group.exceptions)
    trial.check_diary(unhandled)


@pytest.mark.promise(8, 9)
@settings(max_examples=settings.default.max_examples // 5)  # a sweep each
@given(data=st.data(), shape=shapes(), make=st.sampled_from(MAKERS))
def test_property_a_machine_loses_no_error_and_wakes_its_waiters_whichever_handler_raises(
    data: st.DataObject, shape: Shape, make: Callable[[], Exception]
) -> None:
    """The sweep of the kernel on a machine: also each tick that moved wakes its waiter, and closing is swept too."""
    steps = data.draw(lives(shape))

    async def sweep() -> None:
        number = 0
        while True:
            trial = Trial(shape, {number}, make)
            await live(trial, steps)
            if not trial.faults:
                break
            number += 1

    trio.run(sweep)
