"""The bare engine (DESIGN sections 3, 5): the life of a mutation from the call to its return, and what can be read."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

import trsm
from trsm import (
    Canceled,
    Engine,
    ErrorState,
    MutationError,
    Result,
    Schema,
    State,
    Ticks,
    Tracer,
    Transition,
    UnknownState,
    WrongThread,
)
from trsm._core._runner import IDLE


class Gate(Schema):
    Open = State()
    Shut = State(remove=Open)
    Lit = State(require=Open)
    Bell = State(multi=True)
    Broken = State(latch=True)


class Foreign(Schema):
    Open = State()
    Opne = State()


def is_untouched(engine: Engine) -> bool:
    return engine.last_transition.tick == 0 and engine.active_states == () and not engine.closed


# ---- Checked before any effect --------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[Engine], object], type[Exception], str]] = {
    "an unknown state": (
        lambda engine: engine.add(Gate.Open, Foreign.Opne),
        UnknownState,
        r"add: Foreign\.Opne is not a state of Gate: did you mean 'Open'\?",
    ),
    "a state of equal name": (
        lambda engine: engine.remove(Foreign.Open),
        UnknownState,
        r"remove: Foreign\.Open is not a state of Gate: Gate has a Open of its own, and equal names make them no one: "
        r"write Gate\.Open",
    ),
    "no state": (lambda engine: engine.set(), MutationError, r"set\(\) names no state: write at least one"),
    "both at once": (
        lambda engine: engine.mutate(add=[Gate.Open, Gate.Bell], remove=[Gate.Bell, Gate.Open]),
        MutationError,
        r"mutate\(…\): Open and Bell cannot be added and removed at once: leave out one of the two",
    ),
    "a name": (lambda engine: engine.toggle("Open"), MutationError, r"'Open' is a name, and a state is due"),
    "a wrong one among good ones": (
        lambda engine: engine.mutate(add=[Gate.Open], remove=[Gate.Shut, 3]),
        MutationError,
        r"mutate\(remove=…\): 3 is no state: write one of Gate, such as Gate\.Open",
    ),
    "an error that is none": (
        lambda engine: engine.add_error("no"),
        TypeError,
        r"add_error\('no'\): only an Exception can become a state; let everything else propagate",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_asked_wrongly_is_refused_before_any_effect(wrong: str) -> None:
    """Nothing has moved, also where the rest of the call was right."""
    call, error, words = WRONG[wrong]
    engine = Engine(Gate)
    with pytest.raises(error, match=words):
        call(engine)
    assert is_untouched(engine)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_asked_wrongly_inside_a_transition_is_not_queued(wrong: str) -> None:
    """It raises in the handler that made the call."""
    call, error, words = WRONG[wrong]

    @Gate.Open.on_enter
    def act(t: Transition) -> None:
        with pytest.raises(error, match=words):
            call(engine)
        assert "queue=" not in repr(engine)

    engine = Engine(Gate, act)
    engine.add(Gate.Open)
    assert engine.active_states == (Gate.Open,) and engine.last_transition.tick == 1


def test_the_door_refuses_what_is_no_schema_and_limits_that_are_none() -> None:
    """What was written is shown, with what to write."""
    for wrong in (Gate.Open, "Gate", None, object):
        with pytest.raises(TypeError, match=r"is no schema: pass a class that inherits from trsm\.Schema"):
            Engine(wrong)  # type: ignore[arg-type]
    for name in ("queue_limit", "drain_limit", "handler_budget"):
        for value in (0, -1, None, True, "many"):
            with pytest.raises(ValueError, match=rf"{name}={value!r}: write a positive number"):
                Engine(Gate, **{name: value})
    with pytest.raises(TypeError, match=r"id=3: write a string, which messages show, or leave it out"):
        Engine(Gate, id=3)  # type: ignore[arg-type]
    tracer = Tracer()
    with pytest.raises(TypeError, match=r"tracers=.*: pass several, \[.*\] if it is one"):
        Engine(Gate, tracers=tracer)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"tracers=\[…\]: 'no' is no tracer: pass objects of a class that inherits from"
    ):
        Engine(Gate, tracers=[tracer, "no"])  # type: ignore[list-item]


# ---- From the call to its return ------------------------------------------------------------------------------------


def test_a_mutation_is_done_when_it_returns() -> None:
    """Executed, committed, final handlers run; one that is canceled leaves no trace."""
    log: list[str] = []

    @Gate.Open.on_enter
    def entered(t: Transition) -> None:
        log.append("entered")

    engine = Engine(Gate, entered)
    assert engine.add(Gate.Open) and log == ["entered"]
    last = engine.last_transition
    result = engine.mutate(add=Gate.Lit, remove=Gate.Open)
    assert isinstance(result, Canceled) and not result
    assert engine.last_transition is last and engine.active_states == (Gate.Open,) and engine.tick(Gate.Open) == 1
    assert engine.set(Gate.Open, Gate.Lit) and engine.active_states == (Gate.Open, Gate.Lit)
    assert engine.remove(Gate.Open) and engine.active_states == () and engine.tick(Gate.Lit) == 2
    assert log == ["entered"]


def test_an_executed_mutation_that_moves_nothing_is_a_transition() -> None:
    """The machine's own tick counts it; no state's does."""
    engine = Engine(Gate)
    assert engine.remove(Gate.Open).executed
    t = engine.last_transition
    assert (t.tick, t.kind, t.dropped, t.called, t.leaving) == (1, "remove", (Gate.Open,), (), ())
    assert t.before == t.after == engine.ticks and repr(t) == "<Transition 1 remove: no change>"


def test_every_kind_of_mutation_shows_in_its_transition() -> None:
    """What was called and dropped, as asked; who enters and leaves, in order; ticks and target, before and after."""
    engine = Engine(Gate)
    engine.add(Gate.Lit, Gate.Open, who="me")
    t = engine.last_transition
    assert (t.kind, t.called, t.dropped) == ("add", (Gate.Open, Gate.Lit), ())
    assert t.entering == (Gate.Open, Gate.Lit) and t.target == (Gate.Open, Gate.Lit)
    assert t.args == {"who": "me"} and t.result is None and t.error is None and t.source is None
    with pytest.raises(TypeError):
        t.args["who"] = "you"  # type: ignore[index]
    engine.add(Gate.Shut)
    t = engine.last_transition
    assert t.leaving == (Gate.Lit, Gate.Open) and t.entering == (Gate.Shut,) and t.args == {}
    assert repr(t) == "<Transition 2 add: +Shut -Lit -Open>"
    engine.set(Gate.Bell)
    assert (engine.last_transition.kind, engine.last_transition.called) == ("set", (Gate.Bell,))
    engine.mutate(add=[Gate.Bell], remove=(Gate.Shut, Gate.Open))
    t = engine.last_transition
    assert (t.kind, t.called, t.dropped) == ("mutate", (Gate.Bell,), (Gate.Open, Gate.Shut))
    assert t.entering == (Gate.Bell,) and t.before[Gate.Bell] == 1 and t.after[Gate.Bell] == 3
    engine.mutate(add=Gate.Open)
    engine.mutate(remove=Gate.Open)
    engine.toggle(Gate.Broken)
    assert engine.last_transition.kind == "add"
    engine.close()
    t = engine.last_transition
    assert (t.kind, t.called, t.dropped, t.target) == ("close", (), (), ())
    assert t.leaving == (Gate.Broken, Gate.Bell)


def test_transitions_stay_readable_when_the_machine_has_gone_on() -> None:
    """However many came since: ticks before and after are rebuilt."""
    transitions: list[Transition] = []
    seen: list[tuple[Ticks, Ticks]] = []

    @Gate.on_change
    def changed(t: Transition) -> None:
        transitions.append(t)
        seen.append((t.before, engine.ticks))

    engine = Engine(Gate, changed)
    for number in range(200):
        engine.toggle(Gate.Open) if number % 3 else engine.add(Gate.Bell)
    assert [(t.before, t.after) for t in transitions] == seen
    assert [t.tick for t in transitions] == list(range(1, 201))
    assert engine.ticks == transitions[-1].after


def test_transitions_are_made_by_machines() -> None:
    """Nobody else makes one, and the message says where they are."""
    with pytest.raises(TypeError, match=r"transitions are made by machines: read machine\.last_transition, or await"):
        Transition()


def test_arguments_of_states_that_neither_were_called_nor_enter_cannot_be_read() -> None:
    """The message says which; a state of another schema is unknown."""

    class Fetch(Schema):
        Idle = State()
        Fetching = State(args=dict, add=Idle)

    engine = Engine(Fetch)
    engine.add(Fetch.Fetching(a=1))
    t = engine.last_transition
    assert t.args_of(Fetch.Fetching) == {"a": 1} and t.args_of(Fetch.Idle) is None
    engine.add(Fetch.Fetching)
    assert engine.last_transition.args_of(Fetch.Fetching) == {}
    engine.remove(Fetch.Fetching)
    with pytest.raises(LookupError, match=r"t\.args_of\(Fetching\): this transition neither called Fetching nor does"):
        engine.last_transition.args_of(Fetch.Fetching)
    with pytest.raises(UnknownState, match=r"t\.args_of\(…\): Gate\.Open is not a state of Fetch"):
        t.args_of(Gate.Open)


def test_a_handler_that_ends_the_transition_badly_leaves_the_engine_idle() -> None:
    """What is no exception goes to the caller, and the next call does not think that a transition runs."""

    @Gate.Open.on_enter
    def stop(t: Transition) -> None:
        raise SystemExit

    engine = Engine(Gate, stop)
    with pytest.raises(SystemExit):
        engine.add(Gate.Open)
    assert engine._phase == IDLE and engine.closed


# ---- What can be read -----------------------------------------------------------------------------------------------


def test_asking_for_active_states() -> None:
    """All, none, any; one by ``in``; all of them in declaration order."""
    engine = Engine(Gate)
    engine.add(Gate.Lit, Gate.Open)
    assert engine.is_active(Gate.Open) and engine.is_active(Gate.Open, Gate.Lit)
    assert not engine.is_active(Gate.Open, Gate.Shut)
    assert engine.is_inactive(Gate.Shut, Gate.Bell) and not engine.is_inactive(Gate.Shut, Gate.Open)
    assert engine.any_active(Gate.Shut, Gate.Open) and not engine.any_active(Gate.Shut, Gate.Bell)
    assert Gate.Open in engine and Gate.Shut not in engine
    assert engine.active_states == (Gate.Open, Gate.Lit)
    assert engine.schema is Gate


def test_ticks_are_a_vector_of_one_moment() -> None:
    """Immutable, comparable, in declaration order; it says which states were active."""
    engine = Engine(Gate)
    zero = engine.ticks
    assert repr(zero) == "<Ticks all 0>" and zero.active_states == ()
    engine.add(Gate.Open, Gate.Bell)
    engine.add(Gate.Bell)
    engine.remove(Gate.Open)
    ticks = engine.ticks
    assert [ticks[state] for state in ticks] == [engine.tick(state) for state in Gate] == [2, 0, 0, 3, 0, 0]
    assert list(ticks) == list(Gate.states) and len(ticks) == len(Gate) == 6
    assert ticks.active_states == (Gate.Bell,) and ticks.is_active(Gate.Bell)
    assert not ticks.is_active(Gate.Bell, Gate.Open)
    assert repr(ticks) == "<Ticks Open:2 Bell:3>"
    assert zero != ticks and ticks == engine.ticks and hash(ticks) == hash(engine.ticks)
    assert zero[Gate.Bell] == 0
    with pytest.raises(UnknownState, match=r"ticks\[…\]: Foreign\.Opne is not a state of Gate"):
        ticks[Foreign.Opne]
    with pytest.raises(AttributeError):
        ticks._values = ()  # type: ignore[misc]


def test_status_lines() -> None:
    """`str` is short, `repr` says what kind of machine, which one, what is wrong, what waits, and whether it closed."""
    lines: list[str] = []

    @Gate.Bell.on_enter
    def note(t: Transition) -> None:
        engine.add(Gate.Lit)
        engine.add(Gate.Open, first=True)
        lines.append(repr(engine))

    @Gate.Error.on_enter
    def handled(t: Transition) -> None:
        pass

    engine = Engine(Gate, note, handled, id="gate")
    assert str(engine) == "()" and repr(engine) == "<Engine 'gate' ()>"
    engine.add(Gate.Bell)
    assert lines == ["<Engine 'gate' (Bell:1) queue=2>"]
    assert str(engine) == "(Open:1 Lit:1 Bell:1)"
    engine.add_error(ValueError())
    assert repr(engine) == "<Engine 'gate' (Open:1 Lit:1 Bell:1) [Error:1]>"
    assert str(engine) == "(Open:1 Lit:1 Bell:1 Error:1)"
    engine.close()
    assert repr(engine) == "<Engine 'gate' () closed>"


def test_an_engine_without_a_name_is_called_after_its_schema() -> None:
    """With a number, so that two differ."""
    one, two = Engine(Gate), Engine(Gate)
    assert one.id.startswith("Gate-") and two.id.startswith("Gate-") and one.id != two.id
    assert Engine(Gate, id="mine").id == "mine"


def test_reading_and_calling_from_another_thread_is_refused() -> None:
    """Each says what to write instead."""
    engine = Engine(Gate)
    told: dict[str, str] = {}

    def attempt(name: str, use: Callable[[], object]) -> None:
        with pytest.raises(WrongThread) as caught:
            use()
        told[name] = str(caught.value)

    uses: dict[str, Callable[[], object]] = {
        "ticks": lambda: engine.ticks,
        "active_states": lambda: engine.active_states,
        "error": lambda: engine.error,
        "last_transition": lambda: engine.last_transition,
        "is_active": lambda: engine.is_active(Gate.Open),
        "is_inactive": lambda: engine.is_inactive(Gate.Open),
        "any_active": lambda: engine.any_active(Gate.Open),
        "tick": lambda: engine.tick(Gate.Open),
        "add": lambda: engine.add(Gate.Open),
        "remove": lambda: engine.remove(Gate.Open),
        "set": lambda: engine.set(Gate.Open),
        "toggle": lambda: engine.toggle(Gate.Open),
        "mutate": lambda: engine.mutate(add=Gate.Open),
        "add_error": lambda: engine.add_error(ValueError()),
        "can_add": lambda: engine.can_add(Gate.Open),
        "can_remove": lambda: engine.can_remove(Gate.Open),
        "explain": lambda: engine.explain("add", Gate.Open),
        "bind": lambda: engine.bind(Gate.Open.on_enter(lambda t: None)),
        "detach": lambda: engine.detach(None),
        "close": engine.close,
    }
    thread = threading.Thread(target=lambda: [attempt(name, use) for name, use in uses.items()])
    thread.start()
    thread.join()
    assert told.keys() == uses.keys()
    for name, text in told.items():
        assert f"{name} of machine {engine.id!r} was " in text and "thread that does not own it" in text
        assert "write trio.from_thread.run_sync(" in text
    assert "run_sync(machine.add, …)" in told["add"] and "run_sync(lambda: machine.ticks)" in told["ticks"]
    assert is_untouched(engine)


def test_a_machine_is_not_kept_alive_by_its_transitions_and_results() -> None:
    """They hold names and numbers, and no circle."""
    engine = Engine(Gate)
    engine.add(Gate.Open)
    transition, result = engine.last_transition, engine.add(Gate.Bell)
    gone = weakref.ref(engine)
    gc.collect()
    gc.disable()
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()
    assert transition.after[Gate.Open] == 1 and result.executed


# ---- Opening and binding --------------------------------------------------------------------------------------------


def test_opening_mutates_nothing_and_counts_as_a_transition() -> None:
    """So that there always is a last one; a canceled mutation leaves none."""
    engine = Engine(Gate)
    opening = engine.last_transition
    assert opening.kind == "open" and opening.tick == 0 and engine.error is None and engine.ticks_at_close is None
    assert opening.args == {} and opening.source is None and opening.result is None and opening.error is None
    assert not engine.add(Gate.Lit)
    assert engine.last_transition is opening
    assert repr(opening) == "<Transition 0 open: no change>"


def test_binding_replays_nothing_for_states_already_active() -> None:
    """A handler hears of what comes from then on, and of nothing after it is detached, twice if need be."""
    log: list[str] = []

    class Handlers:
        @Gate.Open.on_enter
        def entered(self, t: Transition) -> None:
            log.append("entered")

        @Gate.Open.on_exit
        def left(self, t: Transition) -> None:
            log.append("left")

    engine = Engine(Gate)
    engine.add(Gate.Open)
    binding = engine.bind(Handlers())
    assert isinstance(binding, trsm.Binding) and log == []
    engine.toggle(Gate.Open)
    engine.toggle(Gate.Open)
    assert log == ["left", "entered"]
    binding.detach()
    binding.detach()
    engine.toggle(Gate.Open)
    assert log == ["left", "entered"]


# ---- Closing --------------------------------------------------------------------------------------------------------


def test_closing_takes_every_state_out_latched_ones_too() -> None:
    """Every ``on_exit`` runs; what was active stays readable; a second time is fine."""
    log: list[str] = []

    @Gate.Broken.on_exit
    def left(t: Transition) -> None:
        assert t.kind == "close"
        log.append("left")

    @Gate.Broken.can_exit
    def refuse(t: Transition) -> bool:
        raise AssertionError

    engine = Engine(Gate, left, refuse, id="gate")
    engine.add(Gate.Broken, Gate.Open)
    before = engine.ticks
    assert not engine.closed and engine.ticks_at_close is None
    engine.close()
    assert engine.closed and log == ["left"] and engine.active_states == ()
    assert engine.ticks_at_close == before and engine.ticks[Gate.Broken] == 2
    engine.close()
    assert log == ["left"] and engine.ticks_at_close == before


def test_on_a_closed_machine_every_mutation_is_canceled_with_that_reason() -> None:
    """Cleanup code may always call; wrong calls are refused all the same."""
    engine = Engine(Gate, id="gate")
    engine.close()
    results: list[Result] = [
        engine.add(Gate.Open),
        engine.remove(Gate.Open, why="gone"),
        engine.set(Gate.Open),
        engine.toggle(Gate.Open),
        engine.mutate(add=Gate.Open),
        engine.add_error(ValueError("late")),
    ]
    for result in results:
        assert isinstance(result, Canceled) and result.reason == "machine 'gate' is closed"
    assert engine.active_states == () and engine.error is None
    with pytest.raises(UnknownState):
        engine.add(Foreign.Opne)


def test_a_close_made_in_a_handler_runs_after_the_transition() -> None:
    """What was queued is canceled; mutations in on_exit handlers are canceled too."""
    results: list[Result] = []

    @Gate.Open.on_enter
    def act(t: Transition) -> None:
        results.append(engine.add(Gate.Bell))
        results.append(engine.add(Gate.Bell, first=True))
        engine.close()
        engine.close()
        assert not engine.closed and Gate.Open in engine

    @Gate.Open.on_exit
    def leave(t: Transition) -> None:
        results.append(engine.add(Gate.Bell))
        engine.close()
        assert not engine.closed

    engine = Engine(Gate, act, leave, id="gate")
    assert engine.add(Gate.Open).executed
    assert engine.closed and engine.tick(Gate.Open) == 2 and engine.tick(Gate.Bell) == 0
    assert all(result.canceled for result in results) and len(results) == 3
    assert "machine 'gate' is closing" in repr(results[0])
    assert isinstance(results[2], Canceled) and results[2].reason == "machine 'gate' is closing"


# ---- Only what observes costs ---------------------------------------------------------------------------------------


def test_a_tracer_that_overrides_nothing_changes_nothing() -> None:
    """Its methods do nothing, and the engine does what it does without."""
    tracer = Tracer()
    tracer.slow_handler("gate", "act", 1.0)
    tracer.unstable("gate", (Gate.Open,))
    tracer.then_refused("gate", Gate.Open, Canceled("why"))
    engine = Engine(Gate, Gate.Open.on_enter(lambda t: None), tracers=(one for one in [tracer]), handler_budget=1e-9)
    assert engine.add(Gate.Open).executed and engine.active_states == (Gate.Open,)


def test_the_exception_that_activated_error_can_be_read_until_error_leaves() -> None:
    """The latest of them; an error state that catches it comes with it."""

    class Fails(Schema):
        ErrValue = ErrorState(catches=ValueError)

    engine = Engine(Fails)
    one, two = ValueError("one"), ValueError("two")
    engine.add_error(one)
    assert engine.error is one and engine.last_transition.error is one
    engine.add_error(two)
    assert engine.error is two and engine.tick(Fails.Error) == 3 and engine.tick(Fails.ErrValue) == 3
    engine.remove(Fails.ErrValue)
    assert engine.error is two
    engine.remove(Fails.Error)
    assert engine.error is None


def test_a_transition_that_is_built_late_stands_only_for_what_it_still_began() -> None:
    """One state of it has left and come back since: its present instance began with another."""

    class Pair(Schema):
        Stays = State()
        Returns = State()

    for _ in range(2):  # what was asked before leaves but a record
        engine = Engine(Pair)
        engine.add(Pair.Stays, Pair.Returns)
        engine.remove(Pair.Returns)
        engine.add(Pair.Returns)
    assert [engine._beginning(number).tick for number in (0, 1)] == [1, 3]
    assert [engine._beginning(number).tick for number in (0, 1)] == [1, 3]  # and so when it has been built


def test_what_nobody_observes_is_an_entry_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No transition is made of it, nothing is drained, once it has been asked before."""
    engine = Engine(Gate)
    for _ in range(2):
        engine.add(Gate.Open)
        engine.add(Gate.Shut)
        engine.remove(Gate.Shut)
    monkeypatch.setattr(Engine, "_run", None)
    monkeypatch.setattr(Engine, "_drain", None)
    monkeypatch.setattr(Engine, "_new_transition", None)
    engine.add(Gate.Open)
    engine.add(Gate.Shut)
    engine.remove(Gate.Shut)
    assert engine.tick(Gate.Open) == 6 and engine.tick(Gate.Shut) == 6
