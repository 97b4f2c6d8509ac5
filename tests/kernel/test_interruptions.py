"""Signal handlers and finalizers: they mutate a machine between any two of its steps, in its own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import pytest

from proof import apart
from trsm import Engine, Queued, Schema, State, Tracer, Transition
from trsm._core import _engine, _journal, _runner
from trsm._core._journal import PAGE, Journal
from trsm._core._mutation import EXECUTED


def test_interrupted_anywhere() -> None:
    """Ticks, active states and relations agree, nothing waits, and nothing is executed when it has closed."""
    places = apart("kernel.interruptions")
    assert places.keys() == {"mutations", "closings", "bindings", "readings"}
    assert places["mutations"] > 1000
    assert places["closings"] > 200
    assert places["bindings"] > 20
    assert places["readings"] > 5


class Switch(Schema):
    On = State(remove="Off")
    Off = State(remove=On)
    Lamp = State()


def once(work: Callable[[], object]) -> Callable[[], None]:
    """Return a function that does some work when it is first called."""
    works = [work]

    def first() -> None:
        if works:
            works.pop()()

    return first


@pytest.mark.parametrize("kind", ["add", "remove"])
def test_mutation_between_look_up_and_commit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked up is looked up again."""
    engine = Engine(Switch)
    mutate = getattr(engine, kind)
    for state in (Switch.On, Switch.Lamp, Switch.On):
        engine.set(Switch.Lamp)
        mutate(state)  # what is looked up is there
    engine.set(Switch.Lamp)
    interrupt = once(lambda: engine.set(Switch.Off))
    get_cause = _engine.get_cause
    monkeypatch.setattr(_engine, "get_cause", lambda: (interrupt(), get_cause())[1])
    assert mutate(Switch.On)
    assert engine.active_states == ((Switch.On,) if kind == "add" else (Switch.Off,))
    assert engine.ticks.active_states == engine.active_states


def test_close_between_look_up_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is executed then."""
    engine = Engine(Switch, Switch.On.on_enter(lambda t: None), id="e")
    engine.add(Switch.On)
    engine.remove(Switch.On)
    interrupt = once(engine.close)
    get_cause = _engine.get_cause
    monkeypatch.setattr(_engine, "get_cause", lambda: (interrupt(), get_cause())[1])
    result = engine.add(Switch.On)
    assert repr(result) == "<Canceled: machine 'e' is closed>"


def test_mutation_while_ticks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted twice."""
    engine = Engine(Switch)
    engine.add(Switch.On)

    def read() -> None:
        engine.add(Switch.Lamp)
        assert engine.ticks[Switch.Lamp] == 1

    interrupt, count = once(read), _journal.count
    monkeypatch.setattr(_runner, "count", lambda *args: (interrupt(), count(*args))[1])
    assert engine.ticks[Switch.On] == 1
    assert engine.ticks[Switch.Lamp] == 1


def test_mutation_while_a_page_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is turned once."""
    engine = Engine(Switch)
    for _ in range(PAGE):
        engine.toggle(Switch.On)
    interrupt = once(lambda: engine.add(Switch.Lamp))
    monkeypatch.setattr(_runner, "Journal", lambda *args: (interrupt(), Journal(*args))[1])
    engine.toggle(Switch.On)
    assert engine.ticks[Switch.On] == PAGE + 1
    assert engine.active_states == (Switch.On, Switch.Lamp)
    assert engine.last_transition.tick == PAGE + 2


@pytest.mark.parametrize("is_warm", [True, False])
def test_mutation_when_all_has_been_done(is_warm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is queued, and its turn comes before the outermost call returns."""
    engine = Engine(Switch, Switch.On.on_enter(lambda t: None))
    if is_warm:
        engine.add(Switch.On)
        engine.remove(Switch.On)
    results: list[object] = []
    get_cause = _runner.get_cause

    def looks() -> object:
        if not results and Switch.On in engine:
            results.append(engine.add(Switch.Lamp))
        return get_cause()

    monkeypatch.setattr(_runner, "get_cause", looks)
    engine.add(Switch.On)
    (queued,) = results
    assert isinstance(queued, Queued)
    assert queued.outcome is EXECUTED
    assert engine.active_states == (Switch.On, Switch.Lamp)


def test_two_queues_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes while the queue is made has made it."""
    results: list[object] = []
    engine = Engine(Switch, Switch.On.on_enter(lambda t: results.append(t.machine.add(Switch.Off))))
    interrupt = once(lambda: results.append(engine.add(Switch.Lamp)))
    monkeypatch.setattr(_runner, "deque", lambda: (interrupt(), deque())[1])
    engine.add(Switch.On)
    assert len(results) == 2
    assert all(isinstance(one, Queued) and one.outcome is EXECUTED for one in results)
    assert engine.active_states == (Switch.Off, Switch.Lamp)


def test_finalizer_of_what_a_transition_held() -> None:
    """What it mutates takes no error away from the outermost caller."""

    class Held:
        def __del__(self) -> None:
            results.append(engine.add(Switch.Lamp))

    class Raising:
        @Switch.On.on_enter
        def enter(self, t: Transition) -> None:
            t.machine.add(Switch.Off, held=Held())
            raise ValueError("important")

        @Switch.Off.can_enter
        def may(self, t: Transition) -> bool:
            return False

    results: list[object] = []
    engine = Engine(Switch, Raising())
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Switch.On)
    assert [repr(one) for one in caught.value.exceptions] == ["ValueError('important')"]
    assert len(results) == 1


def test_last_transition_is_read_while_another_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer one is kept, with what it was called with."""
    engine = Engine(Switch)
    engine.add(Switch.On)
    interrupt, made = once(lambda: engine.add(Switch.Lamp, lumen=7)), Engine._transition_of
    monkeypatch.setattr(Engine, "_transition_of", lambda self, entry: (interrupt(), made(self, entry))[1])
    assert engine.last_transition.called == (Switch.On,)
    assert engine.last_transition.args == {"lumen": 7}


def test_beginnings_are_noted_while_another_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The later one stays."""
    engine = Engine(Switch)
    engine.add(Switch.On)
    assert engine.ticks[Switch.On] == 1
    engine.toggle(Switch.On)
    engine.toggle(Switch.On)
    interrupt, tick_of = once(lambda: (engine.remove(Switch.On), engine.add(Switch.On, lumen=7))), _runner._tick_of
    monkeypatch.setattr(_runner, "_tick_of", lambda entry: (interrupt(), tick_of(entry))[1])
    assert engine.ticks  # counts, and is interrupted in that
    assert engine.ticks[Switch.On] == 5
    engine.add(Switch.Lamp)
    assert engine._beginning(0).args == {"lumen": 7}


def test_exception_between_two_tracers() -> None:
    """It comes out when the step is over, which goes on."""

    def interrupted() -> Iterator[Tracer]:
        yield Tracer()
        raise KeyboardInterrupt

    seen: list[str] = []

    @Switch.On.on_enter
    def tells(t: Transition) -> None:
        engine._tell(interrupted(), Tracer.settled)  # type: ignore[arg-type]
        seen.append("went on")

    engine = Engine(Switch, tells)
    with pytest.raises(KeyboardInterrupt):
        engine.add(Switch.On)
    assert seen == ["went on"]
    assert engine.closed
