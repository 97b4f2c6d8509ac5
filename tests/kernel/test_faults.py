"""Errors on the bare engine (DESIGN section 7): what a fault activates, removes, skips, owes and reports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import attrs
import pytest

import trsm
from trsm import Engine, ErrorState, Observed, Schema, Source, State, Tracer, Transition
from trsm._core import _runner

Handler = Callable[[Transition], object]


def fails(mark: Callable[[Handler], Handler], error: BaseException, log: list[object] | None = None) -> Handler:
    """A handler that raises."""

    def failing(t: Transition) -> bool:
        if log is not None:
            log.append(error)
        raise error

    return mark(failing)


def notes(mark: Callable[[Handler], Handler], log: list[object], what: object) -> Handler:
    """A final handler that notes that it was called."""

    def noting(t: Transition) -> None:
        log.append(what)

    return mark(noting)


def answers(mark: Callable[[Handler], Handler], answer: object, log: list[object] | None = None) -> Handler:
    """A negotiation handler that answers."""

    def answering(t: Transition) -> object:
        if log is not None:
            log.append(t)
        return answer

    return mark(answering)


class Plain(Schema):
    A = State()
    B = State()
    C = State()
    ErrLookup = ErrorState(catches=LookupError)
    ErrOs = ErrorState(catches=(OSError, ArithmeticError))
    ErrKey = ErrorState(catches=KeyError)


def handled(log: list[object] | None = None) -> Handler:
    """An ``on_enter`` of Error: no error is unhandled then."""

    @Plain.Error.on_enter
    def seen(t: Transition) -> None:
        if log is not None:
            log.append(t.error)

    return seen


def unhandled(group: pytest.ExceptionInfo[BaseExceptionGroup[BaseException]]) -> list[BaseException]:
    return list(group.value.exceptions)


# ---- What a fault activates -----------------------------------------------------------------------------------------


def test_an_exception_activates_error_and_every_state_that_catches_it() -> None:
    """Those whose `catches` matches come with Error; the others do not; all is well then."""
    engine = Engine(Plain, fails(Plain.A.on_exit, KeyError("k")))
    engine.add(Plain.A)
    assert engine.remove(Plain.A).executed
    assert engine.active_states == (Plain.ErrLookup, Plain.ErrKey, Plain.Error)


@pytest.mark.parametrize("error", [OSError(), FileNotFoundError(), ZeroDivisionError()])
def test_a_state_that_catches_several_types_takes_each_and_its_subclasses(error: Exception) -> None:
    """`catches` is matched as in an ``except`` clause."""
    engine = Engine(Plain)
    assert engine.add_error(error).executed
    assert engine.active_states == (Plain.ErrOs, Plain.Error)


def test_a_nested_group_is_split_and_what_no_state_takes_is_unhandled() -> None:
    """Each state takes its share, as ``except*`` does; the rest keeps the shape of the group."""
    key, os, value, kind = KeyError("k"), OSError("o"), ValueError("v"), TypeError("t")
    whole = ExceptionGroup("outer", [key, ExceptionGroup("inner", [os, value]), kind])
    engine = Engine(Plain, id="split")
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(whole)
    assert engine.is_active(Plain.ErrLookup, Plain.ErrOs, Plain.ErrKey, Plain.Error)
    assert engine.error is whole and engine.last_transition.error is whole
    assert str(caught.value) == "unhandled in machine 'split' (1 sub-exception)"
    (rest,) = caught.value.exceptions
    assert isinstance(rest, ExceptionGroup) and rest.message == "outer"
    assert isinstance(rest.exceptions[0], ExceptionGroup) and rest.exceptions[0].message == "inner"
    assert rest.exceptions[0].exceptions == (value,) and rest.exceptions[1] is kind


def test_a_group_whose_parts_are_all_taken_is_handled() -> None:
    """Every part of it was taken by a state that came."""
    engine = Engine(Plain)
    engine.add_error(ExceptionGroup("g", [KeyError(), ExceptionGroup("h", [OSError()])]))
    assert engine.active_states == (Plain.ErrLookup, Plain.ErrOs, Plain.ErrKey, Plain.Error)


@pytest.mark.parametrize("error", [ValueError("v"), ExceptionGroup("g", [ValueError("v"), TypeError()])])
def test_an_exception_that_no_state_takes_is_unhandled_as_it_is(error: Exception) -> None:
    """Error alone comes, and the very exception is in the group that the call raises."""
    engine = Engine(Plain)
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(error)
    assert unhandled(caught) == [error]
    assert engine.active_states == (Plain.Error,)


def test_an_error_state_that_matches_again_counts_as_called_again() -> None:
    """It ticks +2 and its ``on_enter`` runs again; an active one that does not match stays as it is."""
    log: list[object] = []
    engine = Engine(Plain, notes(Plain.ErrOs.on_enter, log, "os"), notes(Plain.ErrKey.on_enter, log, "key"))
    engine.add_error(ExceptionGroup("g", [OSError(), KeyError()]))
    engine.add_error(OSError())
    assert engine.last_transition.called == (Plain.ErrOs, Plain.Error)
    assert set(engine.last_transition.entering) == {Plain.ErrOs, Plain.Error}
    assert [engine.tick(state) for state in (Plain.ErrOs, Plain.ErrKey, Plain.Error)] == [3, 1, 3]
    assert log == ["os", "key", "os"]


@pytest.mark.parametrize("is_active", [False, True])
def test_an_error_state_whose_can_enter_refuses_is_left_out(is_active: bool) -> None:
    """It takes nothing then: the error is unhandled; Error comes all the same, and an active one does not tick."""
    willing = [True]

    @Plain.ErrOs.can_enter
    def may(t: Transition) -> bool:
        return willing[0]

    engine = Engine(Plain, may)
    if is_active:
        engine.add_error(OSError())
    willing[0] = False
    error = OSError("again")
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(error)
    assert unhandled(caught) == [error]
    assert engine.is_active(Plain.Error)
    assert engine.tick(Plain.ErrOs) == int(is_active)


def test_an_error_is_handled_by_one_state_where_another_is_left_out() -> None:
    """Each state is an option of its own, and the refusal of one says nothing about the others."""
    engine = Engine(Plain, answers(Plain.ErrLookup.can_enter, False))
    engine.add_error(KeyError())
    assert engine.active_states == (Plain.ErrKey, Plain.Error)


def test_error_states_that_refuse_one_after_the_other_are_left_out_together() -> None:
    """Who has refused is not asked again when the next one does."""
    refused = [Plain.ErrKey.can_enter, Plain.ErrLookup.can_enter]
    engine = Engine(Plain, *(answers(mark, False) for mark in refused))
    error = KeyError()
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(error)
    assert unhandled(caught) == [error]
    assert engine.active_states == (Plain.Error,)


def test_an_error_state_is_left_out_by_a_pair_that_refuses() -> None:
    """``can_enter(given=…)`` is asked like ``can_enter``, if that other state was active."""
    engine = Engine(Plain, answers(Plain.ErrOs.can_enter(given=Plain.A), False), handled())
    engine.add_error(OSError())
    assert engine.is_active(Plain.ErrOs)
    engine.remove(Plain.Error)
    engine.add(Plain.A)
    engine.add_error(OSError())
    assert engine.active_states == (Plain.A, Plain.Error)


def test_an_error_state_whose_can_enter_raises_is_left_out() -> None:
    """What it raised is an error of an error handler: unhandled, as is the error that it was asked about."""
    bad, error = ValueError("bad handler"), OSError("first")
    engine = Engine(Plain, fails(Plain.ErrOs.can_enter, bad))
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(error)
    assert unhandled(caught) == [bad, error]
    assert engine.active_states == (Plain.Error,)
    assert engine.tick(Plain.Error) == 1


def test_whatever_removes_an_error_state_is_removed_by_it() -> None:
    """The relation is made mutual: no incumbent refuses Error, and calling an error state puts its remover out."""

    class Guarded(Schema):
        NoError = State(remove="Error")
        NoFoo = State(remove="ErrFoo")
        ErrFoo = ErrorState(catches=OSError)

    engine = Engine(Guarded)
    engine.add(Guarded.NoError)
    engine.add_error(OSError())
    assert engine.active_states == (Guarded.ErrFoo, Guarded.Error)
    engine.add(Guarded.NoFoo)
    assert engine.active_states == (Guarded.NoFoo, Guarded.Error)
    engine.add(Guarded.ErrFoo)
    assert engine.active_states == (Guarded.ErrFoo, Guarded.Error)


def test_a_latched_state_may_not_remove_an_error_state() -> None:
    """Nothing refuses an error: such a schema is refused when it is made."""
    with pytest.raises(trsm.SchemaError, match="latched and removes the error state Error: nothing refuses an error"):
        Schema.define("Bad", {"Done": State(latch=True, remove="Error")})


@pytest.mark.parametrize("catches", [BaseException, KeyboardInterrupt, int, "OSError"])
def test_catches_takes_subclasses_of_exception_only(catches: object) -> None:
    """Everything else passes through every machine."""
    with pytest.raises(trsm.SchemaError, match="catches subclasses of Exception, and only those"):
        ErrorState(catches=catches)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["can_enter", "can_exit", "can_stay"])
def test_error_has_no_negotiation_handlers(kind: str) -> None:
    """Nothing refuses Error; the message says what to use instead."""
    with pytest.raises(trsm.HandlerError, match="nothing refuses Error; use can_enter of an ErrorState, or on_enter"):
        answers(getattr(Plain.Error, kind), True)


def test_an_error_mutation_is_not_negotiated() -> None:
    """Not asked: who leaves, who stays, a plain state that comes with an error state, ``can_change``."""

    class Quiet(Schema):
        Old = State()
        Other = State()
        New = State()
        ErrFoo = ErrorState(catches=OSError, remove=Old, add=New)

    asked: list[object] = []
    refuse = [
        answers(mark, False, asked)
        for mark in (Quiet.Old.can_exit, Quiet.Other.can_stay, Quiet.New.can_enter, Quiet.can_change)
    ]
    engine = Engine(Quiet)
    engine.add(Quiet.Old, Quiet.Other)
    for one in refuse:
        engine.bind(one)
    engine.add_error(OSError())
    assert engine.active_states == (Quiet.Other, Quiet.New, Quiet.ErrFoo, Quiet.Error)
    assert asked == []


def test_the_exception_is_shown_until_error_leaves() -> None:
    """``t.error`` keeps it; ``engine.error`` is the latest one, and None when Error has left."""
    first, second = OSError("first"), OSError("second")
    engine = Engine(Plain)
    assert engine.error is None
    engine.add_error(first)
    one = engine.last_transition
    engine.add(Plain.A)
    assert engine.error is first and engine.last_transition.error is None
    engine.add_error(second)
    assert engine.error is second
    engine.remove(Plain.Error)
    assert engine.error is None and one.error is first
    assert not engine.any_active(Plain.ErrOs, Plain.Error)  # it requires Error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), "text", OSError])
def test_only_an_exception_can_be_added(error: object) -> None:
    """Everything else is refused before any effect."""
    engine = Engine(Plain)
    with pytest.raises(TypeError, match="only an Exception can become a state; let everything else propagate"):
        engine.add_error(error)  # type: ignore[arg-type]
    assert engine.active_states == ()


# ---- Handled and unhandled ------------------------------------------------------------------------------------------


def test_an_on_enter_of_error_handles_every_error() -> None:
    """Whatever no state takes, too."""
    log: list[object] = []
    error = ValueError("v")
    engine = Engine(Plain, handled(log))
    assert engine.add_error(error).executed
    assert log == [error]


def test_an_on_exit_of_error_handles_nothing() -> None:
    """Only an ``on_enter`` or a task does."""
    with pytest.raises(ExceptionGroup):
        Engine(Plain, notes(Plain.Error.on_exit, [], "")).add_error(ValueError())


def test_the_bare_engine_ignores_the_task_of_error() -> None:
    """A task that never runs handles nothing."""

    @Plain.Error.task
    async def work(t: Transition) -> None: ...

    error = ValueError("v")
    with pytest.raises(ExceptionGroup) as caught:
        Engine(Plain, work).add_error(error)
    assert unhandled(caught) == [error]


def test_unhandled_errors_are_raised_flat_and_in_order_once_settled() -> None:
    """The queue is run to its end first; the engine goes on afterwards, and raises each error once."""
    first, second = ValueError("first"), ValueError("second")

    @Plain.A.on_enter
    def enter(t: Transition) -> None:
        engine.add(Plain.B)
        engine.add(Plain.C)

    engine = Engine(Plain, enter, fails(Plain.B.on_enter, first), fails(Plain.C.on_enter, second), id="flat")
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Plain.A)
    assert unhandled(caught) == [first, second]
    assert caught.value.message == "unhandled in machine 'flat'"
    assert engine.active_states == (Plain.A, Plain.Error) and not engine.closed
    assert engine.add(Plain.A).executed


def test_no_call_made_inside_a_handler_raises_what_is_unhandled() -> None:
    """It comes from the outermost call."""
    inner: list[object] = []

    @Plain.A.on_enter
    def enter(t: Transition) -> None:
        inner.append(engine.add_error(ValueError("v")))

    engine = Engine(Plain, enter)
    with pytest.raises(ExceptionGroup):
        engine.add(Plain.A)
    (result,) = inner
    assert isinstance(result, trsm.Queued)


def test_add_error_is_not_refused_by_a_full_queue() -> None:
    """An error is never lost for want of a place."""
    log: list[object] = []
    error = ValueError("v")

    @Plain.A.on_enter
    def enter(t: Transition) -> None:
        engine.add(Plain.B)
        with pytest.raises(trsm.QueueFull):
            engine.add(Plain.C)
        engine.add_error(error)

    engine = Engine(Plain, enter, handled(log), queue_limit=1)
    engine.add(Plain.A)
    assert log == [error]


# ---- Raised in negotiation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["can_exit", "can_enter", "can_stay", "pair", "can_change"])
def test_an_exception_in_negotiation_cancels_and_changes_nothing(kind: str) -> None:
    """Nobody else is asked, no final handler runs, the exception is reported once, and the result names the handler."""

    class Asked(Schema):
        Old = State(remove="New")
        New = State(remove="Old")
        Other = State()

    log: list[object] = []
    error = ValueError("broken")
    engine = Engine(Asked)
    engine.add(Asked.Old, Asked.Other)
    before = engine.ticks
    marks = {
        "can_exit": Asked.Old.can_exit,
        "can_enter": Asked.New.can_enter,
        "can_stay": Asked.Other.can_stay,
        "pair": Asked.New.can_enter(given=Asked.Old),
        "can_change": Asked.can_change,
    }
    order = list(marks)
    for name, mark in marks.items():
        engine.bind(fails(mark, error) if name == kind else answers(mark, True, log))
    for mark in (Asked.Old.on_exit, Asked.New.on_enter):
        engine.bind(notes(mark, log, "final"))

    @Asked.Error.on_enter
    def seen(t: Transition) -> None:
        log.append((t.error, t.before))

    engine.bind(seen)
    result = engine.add(Asked.New)
    assert result.canceled and not result
    assert len(log) == order.index(kind) + 1  # those asked before, and the report
    assert log[-1] == (error, before)
    assert engine.active_states == (Asked.Old, Asked.Other, Asked.Error)
    assert isinstance(result, trsm.Canceled)
    assert "raised ValueError('broken')" in result.reason and "failing" in result.reason


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_a_negotiation_handler_that_returns_no_bool_is_refused(answer: object) -> None:
    """It acts as if it had raised `HandlerError`, which says what to return; the first time and any other."""
    log: list[object] = []
    engine = Engine(Plain, answers(Plain.A.can_enter, answer), handled(log))
    for _ in range(2):
        assert engine.add(Plain.A).canceled
        error = log.pop()
        assert isinstance(error, trsm.HandlerError)
        assert f"returned {answer!r}: a negotiation handler returns True or False" in str(error)
        engine.remove(Plain.Error)
    assert log == []


@pytest.mark.parametrize("ask", ["can_add", "explain"])
@pytest.mark.parametrize("error", [ValueError("v"), KeyboardInterrupt()])
def test_an_exception_in_a_dry_run_goes_to_the_caller(ask: str, error: BaseException) -> None:
    """It activates nothing, and closes nothing."""
    engine = Engine(Plain, fails(Plain.A.can_enter, error))
    with pytest.raises(type(error)) as caught:
        engine.can_add(Plain.A) if ask == "can_add" else engine.explain("add", Plain.A)
    assert caught.value is error
    assert engine.active_states == () and not engine.closed


def test_an_exception_in_the_negotiation_of_an_error_state_is_an_error_of_an_error_handler() -> None:
    """Asked by an ordinary mutation, it cancels that, and is not caught."""
    error = OSError("o")
    engine = Engine(Plain, fails(Plain.ErrOs.can_exit, error))
    engine.add_error(OSError())
    with pytest.raises(ExceptionGroup) as caught:
        engine.remove(Plain.ErrOs)
    assert unhandled(caught) == [error]
    assert engine.tick(Plain.ErrOs) == 1


# ---- Raised in on_exit and on_change --------------------------------------------------------------------------------


class Swap(Schema):
    Old = State()
    New = State(remove=Old)


@pytest.mark.parametrize("where", ["on_exit", "on_change"])
def test_after_an_exception_in_on_exit_or_on_change_the_other_finals_run(where: str) -> None:
    """The state is out, the one that enters is in, the call was executed, and the error is reported."""
    log: list[object] = []
    error = ValueError(where)
    once = [error]

    def raising(t: Transition) -> None:
        log.append(where)
        if once:
            raise once.pop()

    engine = Engine(
        Swap,
        notes(Swap.Old.on_exit, log, "exit 1"),
        (Swap.Old.on_exit if where == "on_exit" else Swap.on_change)(raising),
        notes(Swap.Old.on_exit, log, "exit 3"),
        notes(Swap.New.on_enter, log, "enter"),
        notes(Swap.on_change, log, "change"),
        notes(Swap.Error.on_enter, log, "Error"),
    )
    if where == "on_change":
        once.clear()
    engine.add(Swap.Old)
    log.clear()
    once[:] = [error]
    assert engine.add(Swap.New).executed
    assert engine.active_states == (Swap.New, Swap.Error)
    expected = {
        "on_exit": ["exit 3", "on_exit", "exit 1", "enter", "change", "Error", "change"],
        "on_change": ["exit 3", "exit 1", "enter", "on_change", "change", "Error", "on_change", "change"],
    }
    assert log == expected[where]


def test_a_final_handler_that_returns_an_awaitable_has_failed() -> None:
    """Nobody would await it; it is closed, so that Python does not warn of it."""

    async def work() -> None: ...

    class Waits:
        def __await__(self) -> object: ...

    coroutine = work()
    log: list[object] = []
    for value in (coroutine, Waits()):
        engine = Engine(Plain, Plain.A.on_enter(lambda t, value=value: value), handled(log))
        assert engine.add(Plain.A).executed
        assert engine.active_states == (Plain.Error,)
    assert coroutine.cr_frame is None
    assert all(isinstance(error, trsm.HandlerError) for error in log)
    assert all("which nobody would await: make it a task" in str(error) for error in log)


def test_a_final_handler_that_returns_anything_else_is_fine() -> None:
    """What it returns is not read."""
    engine = Engine(Plain, Plain.A.on_enter(lambda t: 7))
    engine.add(Plain.A)
    assert engine.active_states == (Plain.A,)


# ---- Raised in on_enter ---------------------------------------------------------------------------------------------


def test_after_an_exception_in_on_enter_later_entering_states_are_skipped_and_all_are_removed() -> None:
    """A second transition removes the failed and the skipped ones; who entered before it stays."""
    log: list[object] = []
    error = ValueError("B")
    engine = Engine(
        Plain,
        notes(Plain.A.on_enter, log, "enter A"),
        fails(Plain.B.on_enter, error),
        notes(Plain.B.on_enter, log, "enter B"),
        notes(Plain.C.on_enter, log, "enter C"),
        notes(Plain.B.on_exit, log, "exit B"),
        notes(Plain.C.on_exit, log, "exit C"),
        Plain.on_change(lambda t: log.append((t.kind, t.tick, t.entering, t.leaving))),
        handled(log),
    )
    assert engine.add(Plain.A, Plain.B, Plain.C).executed
    assert log == [
        "enter A",
        ("add", 1, (Plain.A, Plain.B, Plain.C), ()),
        ("removal", 2, (), (Plain.C, Plain.B)),
        error,
        ("error", 3, (Plain.Error,), ()),
    ]
    assert engine.active_states == (Plain.A, Plain.Error)
    assert [engine.tick(state) for state in (Plain.A, Plain.B, Plain.C)] == [1, 2, 2]


def test_a_state_of_which_one_on_enter_returned_gets_all_its_on_exits() -> None:
    """What had begun is ended, by all handlers of the state, in the reverse of binding."""
    log: list[object] = []
    engine = Engine(
        Plain,
        notes(Plain.A.on_enter, log, "enter 1"),
        fails(Plain.A.on_enter, ValueError()),
        notes(Plain.A.on_enter, log, "enter 3"),
        notes(Plain.A.on_exit, log, "exit 1"),
        notes(Plain.A.on_exit, log, "exit 2"),
        handled(),
    )
    engine.add(Plain.A)
    assert log == ["enter 1", "exit 2", "exit 1"]


def test_a_state_that_was_not_skipped_and_has_no_on_enter_gets_its_on_exit() -> None:
    """It had come, and leaves because it requires the one that failed; a skipped one gets none."""

    class Ring(Schema):
        First = State(require="Second")  # the requirement of the first enters first
        Second = State(require=First)
        Third = State()

    log: list[object] = []
    engine = Engine(
        Ring,
        fails(Ring.First.on_enter, ValueError()),
        notes(Ring.First.on_exit, log, "exit First"),
        notes(Ring.Second.on_exit, log, "exit Second"),
        notes(Ring.Third.on_exit, log, "exit Third"),
        notes(Ring.Error.on_enter, log, "Error"),
    )
    engine.add(Ring.First, Ring.Second, Ring.Third)
    assert log == ["exit Second", "Error"]
    assert engine.active_states == (Ring.Error,)


def test_what_a_fault_removes_is_removed_by_consensus() -> None:
    """What requires a failed state goes with it, here a state that entered before it; it had entered, so it exits."""

    class Reverse(Schema):
        Base = State(after="Top")
        Top = State(require=Base)

    log: list[object] = []
    engine = Engine(
        Reverse,
        notes(Reverse.Top.on_enter, log, "enter Top"),
        fails(Reverse.Base.on_enter, ValueError()),
        notes(Reverse.Top.on_exit, log, "exit Top"),
        notes(Reverse.Base.on_exit, log, "exit Base"),
        notes(Reverse.Error.on_enter, log, "Error"),
    )
    engine.add(Reverse.Base, Reverse.Top)
    assert log == ["enter Top", "exit Top", "Error"]


def test_the_removal_is_not_negotiated_and_runs_ahead_of_everything() -> None:
    """``can_exit`` is not asked, and a mutation made with ``first=True`` before the fault still runs after it."""
    log: list[object] = []

    @Plain.A.on_enter
    def enter(t: Transition) -> None:
        engine.add(Plain.C, first=True)
        raise ValueError

    engine = Engine(
        Plain,
        enter,
        answers(Plain.A.can_exit, False, log),
        Plain.on_change(lambda t: log.append((t.kind, t.called))),
        handled(),
    )
    engine.add(Plain.A)
    assert log == [("add", (Plain.A,)), ("removal", ()), ("error", (Plain.Error,)), ("add", (Plain.C,))]


def test_a_latched_state_is_neither_skipped_nor_removed() -> None:
    """Its ``on_enter`` runs after another's fault; its own fault is reported, its other handlers run, it stays."""

    class Outcome(Schema):
        Early = State()
        Done = State(latch=True)
        Late = State()

    log: list[object] = []
    one, two = ValueError("Early"), ValueError("Done")
    engine = Engine(
        Outcome,
        fails(Outcome.Early.on_enter, one, log),
        fails(Outcome.Done.on_enter, two, log),
        notes(Outcome.Done.on_enter, log, "Done"),
        notes(Outcome.Late.on_enter, log, "Late"),
        Outcome.Error.on_enter(lambda t: log.append(("Error", t.error))),
    )
    engine.add(Outcome.Early, Outcome.Done, Outcome.Late)
    assert log == [one, two, "Done", ("Error", one), ("Error", two)]
    assert engine.active_states == (Outcome.Done, Outcome.Error)


def test_a_fault_of_a_latched_state_skips_plain_ones_that_enter_later() -> None:
    """The latched one stays; the finals of later entering states are skipped, and they are removed."""

    class Outcome(Schema):
        Done = State(latch=True)
        Late = State()

    log: list[object] = []
    engine = Engine(
        Outcome,
        fails(Outcome.Done.on_enter, ValueError()),
        notes(Outcome.Late.on_enter, log, "enter"),
        notes(Outcome.Late.on_exit, log, "exit"),
        notes(Outcome.Done.on_exit, log, "exit Done"),
        Outcome.Error.on_enter(lambda t: None),
    )
    engine.add(Outcome.Done, Outcome.Late)
    assert engine.active_states == (Outcome.Done, Outcome.Error) and log == []
    engine.close()
    assert log == ["exit Done"]  # in every other exit all its handlers run


@pytest.mark.parametrize("who", ["failed", "skipped"])
def test_a_multi_state_that_was_active_before_stays(who: str) -> None:
    """Called again, it ticks +2 and is not removed, whether its handler raised or was skipped; it exits later on."""

    class Many(Schema):
        First = State(multi=True)
        Second = State(multi=True)

    log: list[object] = []
    engine = Engine(Many, notes(Many.First.on_exit, log, "exit"), notes(Many.Second.on_exit, log, "exit"))
    state = Many.First if who == "failed" else Many.Second
    engine.add(state)
    engine.bind(fails(Many.First.on_enter, ValueError()))
    engine.bind(notes(Many.Second.on_enter, log, "enter Second"))
    engine.bind(Many.Error.on_enter(lambda t: None))
    engine.add(Many.First, Many.Second)
    assert engine.active_states == (state, Many.Error)
    assert engine.tick(state) == 3
    engine.remove(state)
    assert log == ["exit"]


def test_errors_come_first_then_the_automatic_round_then_the_queue() -> None:
    """One error mutation for each exception, in order; mutations made with ``first`` run before the others."""

    class Order(Schema):
        Old = State()
        A = State(remove=Old)
        B = State()
        C = State()
        Auto = State(auto=True, require=A)

    log: list[object] = []
    one, two = ValueError("one"), ValueError("two")

    @Order.A.on_enter
    def enter(t: Transition) -> None:
        engine.add(Order.B)
        engine.add(Order.C, first=True)

    @Order.on_change
    def change(t: Transition) -> None:
        log.append((t.kind, t.error or t.called))
        if Order.A in t.entering:
            raise two

    engine = Engine(Order, fails(Order.Old.on_exit, one), enter, change, Order.Error.on_enter(lambda t: None))
    engine.add(Order.Old)
    log.clear()
    engine.add(Order.A)
    assert log == [
        ("add", (Order.A,)),
        ("error", one),
        ("error", two),
        ("auto", ()),
        ("add", (Order.C,)),
        ("add", (Order.B,)),
    ]


# ---- Auto states ----------------------------------------------------------------------------------------------------


class Automatic(Schema):
    Go = State()
    First = State(auto=True, require=Go)
    Second = State(auto=True, require=Go)


@pytest.mark.parametrize("kind", ["on_enter", "can_enter"])
def test_an_auto_state_whose_handler_raised_is_barred_until_the_drain_has_settled(kind: str) -> None:
    """It does not come again in this drain, those that were skipped or refused with it do; the next drain tries it."""
    log: list[object] = []
    engine = Engine(
        Automatic,
        Automatic.on_change(lambda t: log.append((t.kind, t.entering))),
        fails(getattr(Automatic.First, kind), ValueError()),
        notes(Automatic.Error.on_enter, [], "handled"),
    )
    engine.add(Automatic.Go)
    tried = [("auto", (Automatic.First, Automatic.Second)), ("removal", ())]
    assert log == [
        ("add", (Automatic.Go,)),
        *(tried if kind == "on_enter" else []),
        ("error", (Automatic.Error,)),
        ("auto", (Automatic.Second,)),
    ]
    log.clear()
    engine.remove(Automatic.Error)
    assert [entry[0] for entry in log] == ["remove", *(["auto", "removal"] if kind == "on_enter" else []), "error"]


@pytest.mark.parametrize("kind", ["on_enter", "can_enter"])
def test_an_auto_state_that_raised_when_it_was_called_is_barred_too(kind: str) -> None:
    """The automatic round that follows the error does not bring what has just failed."""

    class Held(Schema):
        Auto = State(auto=True)

    events: list[object] = []
    held = Engine(
        Held,
        fails(getattr(Held.Auto, kind), ValueError(), events),
        Held.Error.on_enter(lambda t: events.append(t.error)),
    )
    held.add(Held.Auto)
    assert len(events) == 2  # raised once, reported once
    assert held.tick(Held.Error) == 1
    held.remove(Held.Error)
    assert len(events) == 4  # the next drain's automatic round tries again


def test_a_state_that_is_not_auto_is_not_barred() -> None:
    """It may come by the automatic round, or by a queued mutation, after it failed when it was called."""

    class Brought(Schema):
        Plain = State()
        Auto = State(auto=True, add=Plain)

    once = [ValueError()]

    @Brought.Plain.on_enter
    def enter(t: Transition) -> None:
        if once:
            raise once.pop()

    engine = Engine(Brought, enter, Brought.Error.on_enter(lambda t: None))
    engine.add(Brought.Plain)
    assert engine.active_states == (Brought.Plain, Brought.Auto, Brought.Error)


def test_what_an_auto_state_brings_and_requires_is_barred_with_its_fault() -> None:
    """Otherwise each automatic round would bring the two again, and the drain would not settle."""

    class Brought(Schema):
        Plain = State()
        Auto = State(auto=True, add=Plain, require=Plain)
        Go = State()

    errors: list[object] = []
    engine = Engine(
        Brought, fails(Brought.Plain.on_enter, ValueError()), notes(Brought.Error.on_enter, errors, "Error")
    )
    engine.add(Brought.Go)
    assert engine.active_states == (Brought.Go, Brought.Error) and len(errors) == 1


def test_an_exception_of_who_would_leave_cancels_the_automatic_round_for_this_drain() -> None:
    """The round changes nothing, the error is reported once, and what would have entered is not tried again."""

    class Pushes(Schema):
        Old = State()
        Auto = State(auto=True, remove=Old)

    errors: list[object] = []
    engine = Engine(Pushes, fails(Pushes.Old.can_exit, ValueError()), notes(Pushes.Error.on_enter, errors, "Error"))
    engine.add(Pushes.Old)
    assert engine.active_states == (Pushes.Old, Pushes.Error) and len(errors) == 1


# ---- Errors of error handlers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["Error", "ErrOs"])
def test_errors_of_an_error_handler_are_not_caught_again(who: str) -> None:
    """They are unhandled, and so is the error that the failed handler was to handle."""
    bad, error = OSError("bad handler"), OSError("o")
    engine = Engine(Plain, fails(Plain[who].on_enter, bad))
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(error)
    assert unhandled(caught) == [bad, error]
    assert engine.active_states == (() if who == "Error" else (Plain.Error,))
    assert engine.error is (None if who == "Error" else error)


def test_an_error_state_that_was_skipped_takes_nothing() -> None:
    """Error's ``on_enter`` raised before its turn came: it was removed, and the error it matched is not lost."""
    bad, error = ValueError("bad handler"), KeyError("k")
    entered: list[object] = []
    engine = Engine(Plain, fails(Plain.Error.on_enter, bad), notes(Plain.ErrKey.on_enter, entered, "key"))
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(error)
    assert unhandled(caught) == [bad, error]
    assert entered == [] and engine.active_states == ()


def test_an_error_that_error_handled_is_not_reported_again_when_an_error_state_fails() -> None:
    """``Error`` has an ``on_enter`` that returned: only the exception of the other handler is unhandled."""
    bad = ValueError("bad handler")
    seen: list[object] = []
    engine = Engine(Plain, handled(seen), fails(Plain.ErrOs.on_enter, bad))
    error = OSError("o")
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(error)
    assert unhandled(caught) == [bad] and seen == [error]


@pytest.mark.parametrize("kind", ["on_exit", "can_exit"])
def test_an_exception_when_an_error_state_leaves_is_not_caught_either(kind: str) -> None:
    """Every handler of an error state is an error handler."""
    bad = OSError("leaving")
    engine = Engine(Plain, fails(getattr(Plain.ErrOs, kind), bad), handled())
    engine.add_error(OSError())
    with pytest.raises(ExceptionGroup) as caught:
        engine.remove(Plain.ErrOs)
    assert unhandled(caught) == [bad]
    assert engine.is_active(Plain.ErrOs) is (kind == "can_exit")
    assert engine.tick(Plain.Error) == 1


def test_an_on_change_that_raises_in_an_error_mutation_is_an_error_handler() -> None:
    """Otherwise one that always raises would feed itself: it is reported for its two transitions, and no more."""
    errors: list[object] = []
    bad = ValueError("always")
    engine = Engine(Plain, fails(Plain.on_change, bad), handled(errors))
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Plain.A)
    assert errors == [bad] and unhandled(caught) == [bad]
    assert engine.active_states == (Plain.A, Plain.Error)


def test_an_on_exit_of_a_plain_state_that_an_error_state_removes_is_caught() -> None:
    """It is a handler of that state, no error handler: its exception gets an error mutation of its own."""

    class Stops(Schema):
        Work = State()
        ErrWork = ErrorState(catches=OSError, remove=Work)

    errors: list[object] = []
    error, second = OSError("first"), OSError("second")
    engine = Engine(Stops, fails(Stops.Work.on_exit, second), Stops.Error.on_enter(lambda t: errors.append(t.error)))
    engine.add(Stops.Work)
    engine.add_error(error)
    assert errors == [error, second] and engine.active_states == (Stops.ErrWork, Stops.Error)
    assert engine.tick(Stops.ErrWork) == 3


# ---- Closing, and what is no Exception ------------------------------------------------------------------------------


def test_errors_of_on_exit_while_closing_activate_nothing() -> None:
    """Every other ``on_exit`` runs, latched states' too; the errors leave in a group, in order."""
    one, two = ValueError("B"), ValueError("A")
    log: list[object] = []
    engine = Engine(
        Plain,
        fails(Plain.A.on_exit, two, log),
        fails(Plain.B.on_exit, one, log),
        notes(Plain.C.on_exit, log, "C"),
        handled(log),
    )
    engine.add(Plain.A, Plain.B, Plain.C)
    with pytest.raises(ExceptionGroup) as caught:
        engine.close()
    assert unhandled(caught) == [one, two] and log == ["C", one, two]
    assert engine.active_states == () and engine.closed and engine.tick(Plain.Error) == 0


def test_an_error_that_waits_when_closing_begins_is_unhandled() -> None:
    """`close` runs after the present transition, ahead of the errors of that transition."""
    error = OSError("o")

    @Plain.A.on_enter
    def enter(t: Transition) -> None:
        engine.close()
        raise error

    engine = Engine(Plain, enter, handled())
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Plain.A)
    assert unhandled(caught) == [error] and engine.closed and engine.tick(Plain.ErrOs) == 0


def test_an_error_that_is_added_while_closing_is_canceled_and_joins_the_others() -> None:
    """From an ``on_exit``; after closing an engine has nobody to tell."""
    error = OSError("o")
    results: list[object] = []
    engine = Engine(Plain, Plain.A.on_exit(lambda t: results.append(engine.add_error(error))), id="late")
    engine.add(Plain.A)
    with pytest.raises(ExceptionGroup) as caught:
        engine.close()
    assert unhandled(caught) == [error]
    assert isinstance(results[0], trsm.Canceled) and results[0].reason == "machine 'late' is closing"
    assert engine.add_error(error).canceled


@pytest.mark.parametrize("kind", ["can_enter", "on_exit", "on_enter", "on_change"])
def test_what_is_no_exception_lets_the_transition_end_closes_and_goes_to_the_caller(kind: str) -> None:
    """The other finals run, a failed state is removed, the queue is canceled, and the very object is raised, bare."""
    stop = KeyboardInterrupt()
    log: list[object] = []
    results: list[trsm.Result] = []
    engine = Engine(Swap)
    engine.add(Swap.Old)
    marks = {"can_enter": Swap.New.can_enter, "on_exit": Swap.Old.on_exit, "on_enter": Swap.New.on_enter}
    engine.bind(Swap.Old.on_exit(lambda t: results.append(engine.add(Swap.Old))))
    once = [stop]

    def stopping(t: Transition) -> None:
        if once:
            raise once.pop()

    engine.bind(marks.get(kind, Swap.on_change)(stopping))
    engine.bind(Swap.on_change(lambda t: log.append((t.kind, t.leaving))))
    engine.bind(notes(Swap.Error.on_enter, log, "Error"))
    with pytest.raises(KeyboardInterrupt) as caught:
        engine.add(Swap.New)
    assert caught.value is stop
    assert engine.closed and engine.active_states == ()
    added = [("add", (Swap.Old,))]
    assert (
        log
        == {
            "can_enter": [("close", (Swap.Old,))],
            "on_exit": [*added, ("close", (Swap.New,))],
            "on_enter": [*added, ("removal", (Swap.New,))],
            "on_change": [*added, ("close", (Swap.New,))],
        }[kind]
    )
    assert [result.canceled for result in results] == [True]  # queued by Old's on_exit, or refused in the last one
    assert engine.add(Swap.Old).canceled


def test_what_is_no_exception_goes_with_the_errors_that_nothing_handled() -> None:
    """In one group, the errors first."""
    stop, error = SystemExit(3), ValueError("v")
    engine = Engine(Plain, fails(Plain.A.on_enter, stop), fails(Plain.on_change, error))
    with pytest.raises(BaseExceptionGroup) as caught:
        engine.add(Plain.A)
    assert unhandled(caught) == [error, error, stop]  # in the removal too


def test_a_group_that_holds_what_is_no_exception_is_not_caught() -> None:
    """Only `Exception` is ever caught, so the whole of it goes to the caller."""
    group = BaseExceptionGroup("both", [ValueError(), KeyboardInterrupt()])
    engine = Engine(Plain, fails(Plain.A.on_enter, group), handled())
    with pytest.raises(BaseExceptionGroup) as caught:
        engine.add(Plain.A)
    assert caught.value is group and engine.closed


def test_what_is_no_exception_in_the_automatic_round_closes() -> None:
    """Whoever is asked or acts there: the mutation itself was executed before."""
    stop = KeyboardInterrupt()
    engine = Engine(Automatic, fails(Automatic.First.can_enter, stop))
    with pytest.raises(KeyboardInterrupt):
        engine.add(Automatic.Go)
    assert engine.closed and engine.ticks_at_close is not None and engine.ticks_at_close.is_active(Automatic.Go)


def test_what_is_no_exception_while_closing_is_raised_once_and_closes_once() -> None:
    """The other ``on_exit``s run; whoever is asked afterwards finds a closed engine, and nothing leaves again."""
    log: list[object] = []
    stop = KeyboardInterrupt()
    engine = Engine(
        Plain,
        notes(Plain.A.on_exit, log, "A"),
        fails(Plain.B.on_exit, stop, log),
        answers(Plain.C.can_enter, True),
    )
    engine.add(Plain.A, Plain.B)
    with pytest.raises(KeyboardInterrupt) as caught:
        engine.close()
    assert caught.value is stop and log == [stop, "A"]
    tick = engine.last_transition.tick
    engine.explain("add", Plain.C)
    engine.close()
    assert engine.last_transition.tick == tick and len(log) == 2


def test_errors_that_wait_when_a_drain_goes_on_for_too_long_are_unhandled() -> None:
    """They stand before `NotSettled`, which names the states that went round."""
    errors = [ValueError(str(number)) for number in range(3)]

    @Plain.A.on_enter
    def enter(t: Transition) -> None:
        for error in errors:
            engine.add_error(error)

    engine = Engine(Plain, enter, handled(), drain_limit=2)
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Plain.A)
    assert unhandled(caught)[:2] == errors[1:]
    assert isinstance(unhandled(caught)[2], trsm.NotSettled)
    assert "did not settle within 2 transitions (drain_limit)" in str(unhandled(caught)[2])


# ---- Tracers --------------------------------------------------------------------------------------------------------


class Slow(Tracer):
    def __init__(self) -> None:
        self.told: list[tuple[str, str, float]] = []

    def slow_handler(self, machine: Observed, handler: str, seconds: float) -> None:
        self.told.append((machine.id, handler, seconds))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that handlers are measured by; move it by hand."""
    now = [0.0]
    monkeypatch.setattr(_runner, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_a_handler_that_takes_too_long_is_reported_by_name(clock: list[float]) -> None:
    """Beyond `handler_budget`, of every sync kind, also if it raises; one within it is not."""

    @Plain.A.can_enter
    def ponders(t: Transition) -> bool:
        clock[0] += 0.5
        return True

    @Plain.A.on_enter
    def quick(t: Transition) -> None:
        clock[0] += 0.125

    @Plain.on_change
    def stalls(t: Transition) -> None:
        clock[0] += 0.25
        raise ValueError

    tracer = Slow()
    engine = Engine(Plain, ponders, quick, stalls, handled(), id="slow", tracers=[tracer], handler_budget=0.125)
    with pytest.raises(ExceptionGroup):
        engine.add(Plain.A)
    prefix = "test_a_handler_that_takes_too_long_is_reported_by_name.<locals>."
    assert tracer.told == [
        ("slow", f"{prefix}ponders", 0.5),
        ("slow", f"{prefix}stalls", 0.25),
        ("slow", f"{prefix}stalls", 0.25),
    ]


def test_handlers_that_are_bound_later_are_measured_too(clock: list[float]) -> None:
    """As long as a tracer is attached; what was measured first is not measured twice."""

    def later(t: Transition) -> None:
        clock[0] += 1.0

    tracer = Slow()
    engine = Engine(Plain, tracers=[tracer])
    engine.bind(Plain.A.on_enter(later))
    engine.add(Plain.A)
    assert [handler for _, handler, _ in tracer.told] == [later.__qualname__]


def test_without_a_tracer_no_time_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody observes costs nothing."""
    monkeypatch.setattr(_runner, "time", None)
    engine = Engine(Plain, notes(Plain.A.on_enter, [], "A"))
    assert engine.add(Plain.A).executed


def test_a_tracer_that_raises_is_detached_and_logged(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """The machine and the other tracers go on."""

    class Broken(Slow):
        def slow_handler(self, machine: Observed, handler: str, seconds: float) -> None:
            super().slow_handler(machine, handler, seconds)
            raise ValueError("broken tracer")

    @Plain.A.on_enter
    def slow(t: Transition) -> None:
        clock[0] += 1.0

    broken, sound = Broken(), Slow()
    engine = Engine(Plain, slow, id="traced", tracers=[broken, sound])
    with caplog.at_level(logging.ERROR, "trsm"):
        assert engine.add(Plain.A).executed
    assert engine.active_states == (Plain.A,)
    (record,) = caplog.records
    assert "of machine 'traced' raised and was detached" in record.getMessage() and record.exc_info is not None
    engine.remove(Plain.A)
    engine.add(Plain.A)
    assert len(broken.told) == 1 and len(sound.told) == 2


def test_a_tracer_is_told_of_instability_and_may_fail_at_it(caplog: pytest.LogCaptureFixture) -> None:
    """What a second automatic round would still change is reported, once for each drain."""

    class Unstable(Schema):
        Go = State()
        Base = State()
        Guard = State(require=Base, remove="Late")  # when it loses Base, it still guards in that mutation
        Early = State(auto=True, require=Go, remove=Base)
        Late = State(auto=True, require=Go)

    class Told(Tracer):
        def unstable(self, machine: Observed, states: tuple[State[..., object], ...]) -> None:
            told.append(states)
            raise ValueError

    told: list[tuple[State[..., object], ...]] = []
    engine = Engine(Unstable, tracers=[Told()])
    engine.add(Unstable.Base, Unstable.Guard)
    assert told == []
    engine.add(Unstable.Go)
    assert engine.active_states == (Unstable.Go, Unstable.Early) and told == [(Unstable.Late,)]
    engine.set(Unstable.Base, Unstable.Guard)
    engine.add(Unstable.Go)
    assert len(told) == 1 and len(caplog.records) == 1  # it was detached


# ---- Causes ---------------------------------------------------------------------------------------------------------


class Chain(Schema):
    Next = State(multi=True)


def chain(length: int) -> list[Source]:
    """Let a handler call its own state over and over; return what made each transition."""
    sources: list[Source] = []

    @Chain.Next.on_enter
    def again(t: Transition) -> None:
        if t.source is not None:
            sources.append(t.source)
        if t.tick <= length:
            engine.add(Chain.Next)

    engine = Engine(Chain, again, id="chain")
    engine.add(Chain.Next)
    assert len(sources) == length
    return sources


def records(source: Source) -> list[Source]:
    """The whole chain, newest first."""
    held = [source]
    while held[-1].parent is not None:
        held.append(held[-1].parent)
    return held


@pytest.mark.parametrize("length", [1, 31, 32, 33, 34, 48, 49, 200])
def test_causes_are_bounded_with_the_middle_dropped_and_counted(length: int) -> None:
    """At most 32 records; the newest 16 and the oldest 16 are kept, and what was dropped is counted between them."""
    last = chain(length)[-1]
    held = records(last)
    assert last.depth == len(held) == min(length, 32)
    assert sum(one.omitted for one in held) == length - len(held)
    if length > 32:
        assert [one.omitted for one in held if one.omitted] == [length - 32] and held[15].omitted
        assert [one.tick for one in held] == [*range(length, length - 16, -1), *range(16, 0, -1)]
    else:
        assert [one.tick for one in held] == [*range(length, 0, -1)]


def test_a_cause_is_a_frozen_record_of_names_and_numbers() -> None:
    """It says machine, tick, kind, called states and handler, and holds no transition, argument or exception."""
    source = chain(40)[-1]
    for one in records(source):
        assert (one.machine, one.kind, one.called) == ("chain", "add", ("Next",))
        assert one.handler.endswith("again")
        for field in attrs.fields(Source):
            value = getattr(one, field.name)
            assert value is None or isinstance(value, (str, int, Source, tuple))
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            one.tick = 0  # type: ignore[misc]


def test_an_error_says_which_handler_raised_it() -> None:
    """The error mutation's cause is the handler, of whichever phase; one that came from outside has none."""
    sources: list[Source | None] = []
    engine = Engine(
        Plain,
        fails(Plain.A.on_enter, ValueError()),
        fails(Plain.B.can_enter, ValueError()),
        Plain.Error.on_enter(lambda t: sources.append(t.source)),
    )
    engine.add(Plain.A)
    engine.add(Plain.B)
    engine.add_error(ValueError())
    first, second, third = sources
    assert first is not None and second is not None and third is None
    assert (first.kind, first.called, first.tick, first.parent) == ("add", ("A",), 1, None)
    assert second.called == ("B",) and second.handler.endswith("failing")


def test_error_is_added_by_hand_while_there_is_one() -> None:
    """What machine.error is stays, though the tick of Error has moved, until Error leaves."""
    error = ValueError("first")
    engine = Engine(Plain, fails(Plain.A.on_enter, error), handled())
    engine.add(Plain.A)
    assert engine.error is error
    for tick in (3, 5, 7):  # from the second time on as a mutation that is known already
        assert engine.add(Plain.Error) and engine.tick(Plain.Error) == tick
        assert engine.error is error
    assert engine.remove(Plain.Error) and engine.error is None
