"""Tracers of a bare engine: what they are told and in which order, and that they change nothing and cost nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from trsm import (
    Engine,
    ErrorState,
    Observed,
    ReadOnly,
    Schema,
    State,
    Tracer,
    Transition,
)

HOOKS = tuple(name for name in vars(Tracer) if not name.startswith("_"))


class Recorder(Tracer):
    """Keeps every call, as the hook's name and what tells the calls apart."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[object, ...]]] = []

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def lines(self) -> list[str]:
        return [" ".join((name, *map(word, args))) for name, args in self.calls]


def recording(name: str) -> Callable[..., None]:
    def record(self: Recorder, machine: Observed, *args: object) -> None:
        self.calls.append((name, args))

    return record


def word(value: object) -> str:
    if hasattr(value, "dropped"):  # a transition, or a mutation in the queue
        return f"{value.kind}({', '.join(map(str, (*value.called, *value.dropped)))})"
    if isinstance(value, str):
        return value.rpartition(".")[2]
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


for hook in HOOKS:
    setattr(Recorder, hook, recording(hook))


class Job(Schema):
    Idle = State(remove="Busy")
    Busy = State(remove=Idle)
    Ready = State(auto=True, require=Busy)
    Log = State(multi=True)
    Guard = State(remove="Kept")
    Kept = State()
    ErrDisk = ErrorState(catches=OSError)


class Handlers:
    @Job.Busy.can_enter
    def may(self, t: Transition) -> bool:
        return "no" not in t.args

    @Job.Busy.on_enter
    def enter(self, t: Transition) -> None:
        if "log" in t.args:
            t._machine().add(Job.Log)
        if "fail" in t.args:
            raise OSError("disk")

    @Job.Idle.on_exit
    def leave(self, t: Transition) -> None:
        pass


def traced(*tracers: Tracer, **options: object) -> Engine:
    return Engine(Job, Handlers(), tracers=tracers, **options)  # type: ignore[arg-type]


def test_every_hook_of_a_tracer_does_nothing_unless_overridden() -> None:
    """A plain `Tracer` may be attached: it hears everything and does nothing."""
    engine = traced(Tracer())
    assert engine.add(Job.Busy)
    engine.add(Job.Busy, fail=True)
    engine.close()
    for name in HOOKS:
        count = getattr(Tracer, name).__code__.co_argcount
        assert getattr(Tracer(), name)(*[None] * (count - 1)) is None


def test_the_hooks_of_one_mutation_in_order() -> None:
    """Resolved, started, negotiation, committed, finals, ended; the automatic round the same; settled."""
    heard = Recorder()
    engine = traced(heard)
    engine.add(Job.Idle)
    engine.add(Job.Busy, log=True)
    engine.close()
    assert heard.lines() == [
        "machine_opened",
        "resolved add(Idle) True",
        "transition_started add(Idle)",
        "committed add(Idle)",
        "transition_ended add(Idle) <Executed>",
        "settled",
        "resolved add(Busy) True",
        "transition_started add(Busy)",
        "handler_started add(Busy) may",
        "handler_ended add(Busy) may None",
        "committed add(Busy)",
        "handler_started add(Busy) leave",
        "handler_ended add(Busy) leave None",
        "handler_started add(Busy) enter",
        "mutation_queued add(Log)",
        "handler_ended add(Busy) enter None",
        "transition_ended add(Busy) <Executed>",
        "resolved auto() True",
        "transition_started auto()",
        "committed auto()",
        "transition_ended auto() <Executed>",
        "resolved add(Log) True",
        "transition_started add(Log)",
        "committed add(Log)",
        "transition_ended add(Log) <Executed>",
        "settled",
        "resolved close() True",
        "transition_started close()",
        "committed close()",
        "transition_ended close() <Executed>",
        "machine_closed",
    ]


def test_a_mutation_that_relations_refuse_is_resolved_and_ended() -> None:
    """It never starts; the result says why."""
    heard = Recorder()
    engine = traced(heard)
    engine.add(Job.Guard)
    del heard.calls[:]
    engine.add(Job.Kept)
    assert heard.names == ["resolved", "transition_ended", "settled"]
    assert heard.calls[0][1][1] is False
    assert "Guard removes it" in heard.calls[1][1][1].reason  # type: ignore[attr-defined]


def test_a_mutation_that_a_handler_refuses() -> None:
    """It starts, its handler is told, and it ends canceled without having been committed."""
    heard = Recorder()
    engine = traced(heard)
    del heard.calls[:]
    engine.add(Job.Busy, no=True)
    assert heard.names == [
        "resolved",
        "transition_started",
        "handler_started",
        "handler_ended",
        "transition_ended",
        "settled",
    ]
    assert heard.calls[4][1][1].canceled  # type: ignore[attr-defined]


def test_what_a_handler_raises_is_told_with_the_removal_and_the_error_mutation() -> None:
    """The error is given to handler_ended; the removal is a transition of its own, and so is the error."""
    heard = Recorder()
    engine = traced(heard)
    del heard.calls[:]
    engine.add(Job.Busy, fail=True)
    [error] = [args[2] for name, args in heard.calls if name == "handler_ended" and args[2] is not None]
    assert isinstance(error, OSError)
    assert [line for line in heard.lines() if line.startswith(("committed", "transition_ended"))] == [
        "committed add(Busy)",
        "committed removal(Busy)",
        "transition_ended add(Busy) <Executed>",
        "transition_ended removal(Busy) <Executed>",
        "committed error(Error)",
        "transition_ended error(Error) <Executed>",
    ]


def test_dry_runs_tell_of_handlers_alone() -> None:
    """What is only asked is neither resolved nor started for tracers; its handlers are, with ``t.dry_run``."""
    heard = Recorder()
    engine = traced(heard)
    del heard.calls[:]
    assert engine.can_add(Job.Busy)
    assert heard.names == ["handler_started", "handler_ended"]
    assert all(args[0].dry_run for _, args in heard.calls)  # type: ignore[attr-defined]


def test_what_a_second_automatic_round_would_change_is_unstable() -> None:
    """The states are named, after the drain and before settled."""

    class Guarded(Schema):
        Go = State()
        Base = State()
        Guard = State(require=Base, remove="Late")  # when it loses Base, it still guards in that mutation
        Early = State(auto=True, require=Go, remove=Base)
        Late = State(auto=True, require=Go)

    heard = Recorder()
    engine = Engine(Guarded, tracers=[heard])
    engine.add(Guarded.Base, Guarded.Guard)
    assert "unstable" not in heard.names
    engine.add(Guarded.Go)
    assert heard.lines()[-2:] == ["unstable (Late)", "settled"]
    assert engine.active_states == (Guarded.Go, Guarded.Early)
    engine.add(Guarded.Guard, Guarded.Base)
    assert heard.names.count("unstable") == 1


def test_a_handler_beyond_its_budget_is_slow() -> None:
    """It is told by name, with its seconds, after it has ended."""
    heard = Recorder()
    traced(heard, handler_budget=1e-12).add(Job.Busy)
    slow = [args for name, args in heard.calls if name == "slow_handler"]
    assert [str(name).rpartition(".")[2] for name, _ in slow] == ["may", "enter"]
    assert all(seconds > 0 for _, seconds in slow)  # type: ignore[operator]
    quick = Recorder()
    traced(quick, handler_budget=1e9).add(Job.Busy)
    assert "slow_handler" not in quick.names


# ---- A tracer that misbehaves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hook",
    [
        hook
        for hook in HOOKS
        if hook
        in {
            "machine_opened",
            "resolved",
            "transition_started",
            "handler_started",
            "handler_ended",
            "committed",
            "transition_ended",
            "mutation_queued",
            "settled",
            "machine_closed",
        }
    ],
)
def test_a_tracer_that_raises_is_detached_and_logged(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the hook: the machine goes on as without it, and the other tracers are told of all."""

    def fail(self: Tracer, *args: object) -> None:
        raise ValueError("bad tracer")

    bad = type("Bad", (Recorder,), {hook: fail})()
    good, plain = Recorder(), Recorder()
    engine = traced(bad, good)
    other = traced(plain)
    for one in (engine, other):
        one.add(Job.Idle)
        one.add(Job.Busy, log=True)
        one.close()
    assert good.lines() == plain.lines()
    assert engine.ticks._values == other.ticks._values
    assert engine._tracers == (good,)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "raised and was detached" in record.getMessage() and "Bad" in record.getMessage()
    assert record.exc_info is not None and "bad tracer" in str(record.exc_info[1])


@pytest.mark.parametrize("hook", ["committed", "settled", "resolved", "handler_started"])
def test_what_is_no_exception_leaves_to_the_caller_and_closes(hook: str) -> None:
    """As from a handler: the step goes to its end, the engine closes, and the caller gets it."""

    def leave(self: Tracer, *args: object) -> None:
        raise SystemExit(3)

    bad = type("Bad", (Tracer,), {hook: leave})()
    engine = traced(bad)
    with pytest.raises(SystemExit):
        engine.add(Job.Busy)
    assert engine.closed
    assert engine._tracers == ()
    assert engine.ticks[Job.Busy] == 2  # it came, and left as the engine closed


def test_what_is_no_exception_at_opening_leaves_to_the_caller() -> None:
    """Nobody gets the engine then."""

    class Bad(Tracer):
        def machine_opened(self, machine: Observed) -> None:
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        traced(Bad())


@pytest.mark.parametrize("hook", ["machine_opened", "committed", "settled", "handler_ended", "transition_ended"])
def test_a_tracer_cannot_change_the_machine(hook: str) -> None:
    """Every mutation, binding and closing of it raises ReadOnly there; looking is fine."""
    seen: list[object] = []

    def meddle(self: Tracer, machine: Engine, *args: object) -> None:
        for change in (
            lambda: machine.add(Job.Log),
            lambda: machine.add_error(OSError()),
            lambda: machine.bind(Handlers()),
            lambda: machine.trace(Tracer()),
            machine.close,
        ):
            with pytest.raises(ReadOnly):
                change()
        seen.append((machine.id, machine.ticks, machine.can_add(Job.Log), machine.explain("add", Job.Log)))

    engine = traced(type("Meddler", (Tracer,), {hook: meddle})(), id="m")
    engine.add(Job.Busy)
    assert seen and engine.tick(Job.Log) == 0
    assert len(engine._tracers) == 1, "it was not detached: it caught what it got"


def test_what_a_tracer_does_to_another_engine_is_done_at_once() -> None:
    """It is a mutation like any other there, and its cause is the transition that was traced."""
    other = Engine(Job, id="other")

    class Forward(Tracer):
        def committed(self, machine: Observed, transition: Transition) -> None:
            if Job.Busy in transition.entering:
                other.add(Job.Log)

    traced(Forward()).add(Job.Busy)
    assert Job.Log in other


# ---- Attaching and detaching ----------------------------------------------------------------------------------------


def test_a_tracer_attached_later_hears_of_the_rest() -> None:
    """It is told that the machine is open, alone; then of what happens from now on."""
    first, second = Recorder(), Recorder()
    engine = traced(first)
    binding = engine.trace(second)
    assert first.names == second.names == ["machine_opened"]
    engine.add(Job.Idle)
    assert first.names == second.names
    binding.detach()
    binding.detach()
    engine.remove(Job.Idle)
    assert len(second.calls) < len(first.calls)


def test_a_tracer_attached_in_a_handler_hears_of_the_rest_of_the_transition() -> None:
    """Of the commit it is too late to hear."""
    heard = Recorder()

    @Job.Log.on_enter
    def attach(t: Transition) -> None:
        t._machine().trace(heard)

    engine = Engine(Job, attach)
    engine.add(Job.Log)
    assert heard.names == ["machine_opened", "transition_ended", "settled"]


def test_a_tracer_that_detaches_itself_hears_no_more() -> None:
    """Detaching in a hook is fine; the others are told as before."""

    class Once(Recorder):
        def committed(self, machine: Observed, transition: Transition) -> None:
            self.calls.append(("committed", ()))
            binding.detach()

    once, other = Once(), Recorder()
    engine = traced()
    binding = engine.trace(once)
    engine.trace(other)
    engine.add(Job.Idle)
    engine.remove(Job.Idle)
    assert once.names == ["machine_opened", "resolved", "transition_started", "committed"]
    assert other.names.count("committed") == 2


def test_one_tracer_attached_twice_is_told_twice() -> None:
    """Each binding takes off one of the two."""
    heard = Recorder()
    engine = traced()
    one, other = engine.trace(heard), engine.trace(heard)
    del heard.calls[:]
    engine.add(Job.Log)
    assert heard.names.count("committed") == 2
    one.detach()
    engine.add(Job.Log)
    assert heard.names.count("committed") == 3
    other.detach()
    engine.add(Job.Log)
    assert heard.names.count("committed") == 3


@pytest.mark.parametrize("is_raising", [False, True])
def test_the_last_tracer_gone_restores_the_fast_path(is_raising: bool) -> None:
    """The very table that machines of these handlers share is back, and warm mutations are quiet again."""
    plain = Engine(Job, Handlers())
    engine = traced()
    assert engine._table is plain._table

    class Bad(Tracer):
        def committed(self, machine: Observed, transition: Transition) -> None:
            raise ValueError

    binding = engine.trace(Bad() if is_raising else Tracer())
    assert engine._table is not plain._table
    assert engine._table.is_traced
    engine.add(Job.Idle)
    binding.detach()
    assert engine._table is plain._table
    assert engine._calls is plain._calls
    engine.add(Job.Idle)
    engine.add(Job.Idle)
    assert engine._last is None or engine._last.tick < engine._tick, "a quiet mutation leaves an entry, and no more"


def test_nothing_is_made_for_tracers_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hook is looked for, no picture of a queued mutation is drawn."""
    monkeypatch.setattr(Engine, "_tell", None)
    monkeypatch.setattr(Engine, "_shown", None)
    engine = Engine(Job, Handlers())
    engine.add(Job.Busy, log=True)
    engine.add(Job.Busy, no=True)
    engine.close()


@pytest.mark.parametrize(
    ("tracers", "words"),
    [
        (5, r"tracers=5: pass several, \[5\] if it is one"),
        ([Tracer], "is no tracer: pass objects of a class that inherits from Tracer"),
        ([None], "tracers=.….: None is no tracer"),
    ],
)
def test_what_is_no_tracer_is_refused(tracers: object, words: str) -> None:
    """Before anything is opened."""
    with pytest.raises(TypeError, match=words):
        Engine(Job, tracers=tracers)  # type: ignore[arg-type]


def test_trace_takes_tracers_only() -> None:
    """It says what to pass."""
    with pytest.raises(TypeError, match=r"trace\(3\): pass an instance of a class that inherits from trsm\.Tracer"):
        Engine(Job).trace(3)  # type: ignore[arg-type]
