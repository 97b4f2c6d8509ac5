"""``break_on``: stop when a transition activates or deactivates a state, right after the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from trsm import Engine, ErrorState, MutationError, ReadOnly, Schema, State, Transition, UnknownState


class Link(Schema):
    Up = State(remove="Down")
    Down = State(remove=Up)
    Ping = State(multi=True)
    Pong = State()
    Lit = State(auto=True, require=Up)
    ErrLink = ErrorState(catches=OSError)


class Front(Schema):
    First = State()


class Larger(Front, Link):
    """Its states have other numbers."""


class Other(Schema):
    Up = State()


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands for the debugger: where it was stopped."""
    stopped: list[str] = []

    def stop() -> None:
        stopped.append("stop")

    monkeypatch.setattr("builtins.breakpoint", stop)
    return stopped


def test_breakpoint_is_called_after_the_commit_and_before_any_final_handler(stops: list[str]) -> None:
    """What has changed can be looked at, and nothing has acted on it yet."""

    @Link.Up.can_enter
    def asked(t: Transition) -> bool:
        stops.append("asked")
        return True

    @Link.Up.on_enter
    @Link.Down.on_exit
    def acts(t: Transition) -> None:
        stops.append("acts")

    engine = Engine(Link, asked, acts)
    engine.add(Link.Down)
    engine.break_on(added=Link.Up)
    engine.add(Link.Pong)
    assert stops == []
    engine.add(Link.Up)
    assert stops == ["asked", "stop", "acts", "acts"]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"added": Link.Up}, ["+Up -Down"]),
        ({"removed": Link.Up}, ["+Down -Lit Up"]),
        ({"added": [Link.Up, Link.Down]}, ["+Down", "+Up -Down", "+Down -Lit Up"]),
        ({"removed": (Link.Up, Link.Down)}, ["+Up -Down", "+Down -Lit Up"]),
        ({"added": Link.Down, "removed": Link.Down}, ["+Down", "+Up -Down", "+Down -Lit Up"]),
        ({"added": Link.Ping}, ["+Ping", "+Ping"]),
        ({"removed": Link.Ping}, ["+ -Ping"]),
        ({"added": Link.Lit}, ["+Lit"]),
        ({"added": Link.Error}, ["+Error ErrLink"]),
        ({"added": iter([Link.ErrLink])}, ["+Error ErrLink"]),
        ({"added": Link.Pong}, []),
    ],
)
def test_it_stops_for_those_who_come_and_those_who_leave(which: dict[str, object], expected: list[str]) -> None:
    """In whatever transition: called, implied, automatic, an error's; a multi state that is called again comes too."""
    seen: list[str] = []

    def call(t: Transition) -> None:
        leaving = f" -{' '.join(map(str, t.leaving))}" if t.leaving else ""
        seen.append(f"+{' '.join(map(str, t.entering))}{leaving}")

    engine = Engine(Link)
    engine.break_on(**which, call=call)  # type: ignore[arg-type]
    engine.add(Link.Down)
    engine.add(Link.Down)
    engine.add(Link.Up)
    engine.add(Link.Ping)
    engine.add(Link.Ping)
    engine.remove(Link.Ping)
    engine.add_error(OSError())
    engine.add(Link.Down)
    assert seen == expected


def test_a_canceled_mutation_and_a_dry_run_do_not_stop(stops: list[str]) -> None:
    """Nothing was committed."""

    @Link.Up.can_enter
    def refuses(t: Transition) -> bool:
        return False

    engine = Engine(Link, refuses)
    engine.break_on(added=Link.Up)
    assert not engine.add(Link.Up)
    assert not engine.can_add(Link.Up)
    engine.detach(refuses)
    assert engine.can_add(Link.Up)
    assert stops == []


def test_the_function_that_is_called_can_look_and_not_change() -> None:
    """It gets the transition, committed, in place of ``breakpoint()``."""
    seen: list[object] = []

    def call(t: Transition) -> None:
        seen.append((t.tick, t.describe_cause(), engine.is_active(Link.Up)))
        with pytest.raises(ReadOnly):
            engine.add(Link.Pong)

    engine = Engine(Link, id="link")
    engine.break_on(added=Link.Up, call=call)
    engine.add(Link.Up)
    assert seen == [(1, "add(Up), transition 1 of machine 'link'\nfrom outside", True)]


def test_detaching_ends_it_and_the_others_go_on(stops: list[str]) -> None:
    """Each has a binding of its own; twice is fine."""
    seen: list[str] = []
    engine = Engine(Link)
    first = engine.break_on(added=Link.Up)
    second = engine.break_on(added=Link.Up, call=lambda t: seen.append(t.kind))
    first.detach()
    first.detach()
    engine.add(Link.Up)
    assert (stops, seen) == ([], ["add"])
    second.detach()
    engine.remove(Link.Up)
    engine.add(Link.Up)
    assert (stops, seen) == ([], ["add"])
    assert engine._tracers == ()


def test_what_the_function_raises_is_logged_and_it_is_called_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """The machine goes on, and the transition with it."""
    calls: list[int] = []

    def call(t: Transition) -> None:
        calls.append(t.tick)
        raise ValueError("odd")

    engine = Engine(Link, id="link")
    engine.break_on(added=Link.Ping, call=call)
    with caplog.at_level(logging.ERROR, logger="trsm"):
        assert engine.add(Link.Ping).executed
        assert engine.add(Link.Ping).executed
    assert calls == [1]
    [record] = caplog.records
    assert "of machine 'link' raised and was detached" in record.getMessage()
    assert record.exc_info is not None and str(record.exc_info[1]) == "odd"


def test_leaving_the_debugger_passes_as_what_is_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at its prompt goes to the caller, and the machine closes."""

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.breakpoint", stop)
    engine = Engine(Link)
    engine.break_on(added=Link.Up)
    with pytest.raises(KeyboardInterrupt):
        engine.add(Link.Up)
    assert engine.closed


def test_with_another_schema_it_stops_for_the_same_states() -> None:
    """They have other numbers there."""
    seen: list[str] = []
    engine = Engine(Link)
    engine.break_on(added=Link.Ping, removed=Link.Pong, call=lambda t: seen.append(t.kind))
    engine.extend_schema(Larger)
    for state in (Larger.First, Larger.Up, Larger.Pong):
        engine.add(state)
    assert seen == []
    engine.add(Larger.Ping)
    assert seen == ["add"]
    engine.remove(Larger.Ping)
    engine.remove(Larger.Pong)
    assert seen == ["add", "remove"]


Mistake = Callable[[Engine], object]
MISTAKES: dict[str, tuple[Mistake, type[Exception], str]] = {
    "no state": (
        lambda engine: engine.break_on(),
        MutationError,
        r"break_on\(\) names no state: write added=…, removed=… or both",
    ),
    "no state in what is given": (
        lambda engine: engine.break_on(added=[], removed=()),
        MutationError,
        r"break_on\(\) names no state",
    ),
    "a state of another schema": (
        lambda engine: engine.break_on(added=Other.Up),
        UnknownState,
        r"break_on\(added=…\): Other\.Up is not a state of Link",
    ),
    "a name": (
        lambda engine: engine.break_on(removed="Up"),
        MutationError,
        r"break_on\(removed=…\): 'Up' is a name.*write Link\.Up",
    ),
    "what cannot be called": (
        lambda engine: engine.break_on(added=Link.Up, call=3),
        TypeError,
        r"break_on\(…, call=3\): pass a sync function that takes the transition",
    ),
}


@pytest.mark.parametrize("what", list(MISTAKES))
def test_what_it_cannot_stop_for_is_refused(what: str) -> None:
    """With what to write instead; nothing is attached."""
    mistake, kind, message = MISTAKES[what]
    engine = Engine(Link)
    with pytest.raises(kind, match=message):
        mistake(engine)
    assert engine._tracers == ()


def test_an_async_function_is_refused() -> None:
    """Nobody would await what it returns."""

    async def call(t: Transition) -> None: ...

    with pytest.raises(TypeError, match="pass a sync function that takes the transition"):
        Engine(Link).break_on(added=Link.Up, call=call)


def test_in_a_negotiation_handler_it_is_refused() -> None:
    """It names itself, and what is asked may not change anything."""
    refused: list[str] = []

    @Link.Up.can_enter
    def asks(t: Transition) -> bool:
        with pytest.raises(ReadOnly) as caught:
            engine.break_on(added=Link.Up)
        refused.append(str(caught.value))
        return True

    engine = Engine(Link, asks, id="link")
    engine.add(Link.Up)
    assert refused[0].startswith("break_on of machine 'link' in the negotiation handler")
