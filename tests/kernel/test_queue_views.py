"""``queue``, ``will_be`` and ``will_be_removed``: what waits for its turn, looked at from inside a transition."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trsm import Canceled, Engine, MutationError, Queued, QueuedMutation, Schema, State, Transition, UnknownState


class Lamp(Schema):
    On = State(remove="Off")
    Off = State(remove=On)
    Red = State()
    Blue = State(require=Red)
    Blink = State(multi=True, add=Red)
    Kept = State(latch=True)
    Sealed = State(latch=True)
    Go = State(multi=True)


class Other(Schema):
    On = State()


Ask = Callable[[Engine], object]


def looking(*asks: Ask, active: tuple[State[..., object], ...] = ()) -> list[object]:
    """What is returned by each of these, called in one transition of a lamp on which these states are active."""
    returned: list[object] = []
    engine = Engine(Lamp, id="lamp")
    if active:
        engine.add(*active)

    @Lamp.Go.on_enter
    def look(t: Transition) -> None:
        returned.extend(ask(engine) for ask in asks)

    engine.bind(look)
    engine.add(Lamp.Go)
    return returned


# ---- The queue ------------------------------------------------------------------------------------------------------


def test_the_queue_is_a_picture_of_what_waits_in_the_order_of_turns() -> None:
    """Each with its kind, states, arguments and the result that its caller got; what was put first is in front."""
    *results, queue, later = looking(
        lambda lamp: lamp.add(Lamp.Blink, Lamp.Red, by="me"),
        lambda lamp: lamp.remove(Lamp.Off),
        lambda lamp: lamp.set(Lamp.On),
        lambda lamp: lamp.toggle(Lamp.Red),
        lambda lamp: lamp.mutate(add=Lamp.Red, remove=[Lamp.On, Lamp.Off]),
        lambda lamp: lamp.add(Lamp.Kept, first=True),
        lambda lamp: lamp.queue,
        lambda lamp: lamp,
    )
    assert isinstance(queue, tuple) and isinstance(later, Engine)
    assert all(isinstance(one, QueuedMutation) for one in queue)
    assert [(one.kind, one.called, one.dropped, dict(one.args)) for one in queue] == [
        ("add", (Lamp.Kept,), (), {}),
        ("add", (Lamp.Red, Lamp.Blink), (), {"by": "me"}),
        ("remove", (), (Lamp.Off,), {}),
        ("set", (Lamp.On,), (), {}),
        ("toggle", (Lamp.Red,), (), {}),
        ("mutate", (Lamp.Red,), (Lamp.On, Lamp.Off), {}),
    ]
    assert [one.result for one in queue] == [results[5], *results[:5]]
    assert all(isinstance(one, Queued) and not one.queued for one in results)  # they have had their turn
    assert later.queue == ()
    with pytest.raises(TypeError):
        queue[1].args["by"] = "you"
    with pytest.raises(AttributeError):
        queue[1].kind = "remove"


def test_what_waits_is_written_as_it_would_be_asked_for() -> None:
    """But for the values of its arguments."""
    *_, queue = looking(
        lambda lamp: lamp.add(Lamp.Blink, Lamp.Red, secret="hidden", by="me"),
        lambda lamp: lamp.set(Lamp.On, by="me"),
        lambda lamp: lamp.remove(Lamp.Off, Lamp.On),
        lambda lamp: lamp.mutate(remove=Lamp.Off, by="me"),
        lambda lamp: lamp.queue,
    )
    assert list(map(str, queue)) == [
        "add(Red, Blink, secret=…, by=…)",
        "set(On, by=…)",
        "remove(On, Off)",
        "mutate(add=(), remove=(Off), by=…)",
    ]


def test_what_is_folded_is_there_once() -> None:
    """Both callers share the result that the queue shows."""
    one, same, queue = looking(
        lambda lamp: lamp.add(Lamp.Red), lambda lamp: lamp.add(Lamp.Red), lambda lamp: lamp.queue
    )
    assert [shown.result for shown in queue] == [one] == [same]


def test_errors_are_not_in_the_queue() -> None:
    """They go ahead of it all."""
    seen: list[int] = []

    @Lamp.Go.on_enter
    def fails(t: Transition) -> None:
        engine.add_error(ValueError())
        seen.append(len(engine.queue))

    engine = Engine(Lamp, fails, Lamp.Error.on_enter(lambda t: None))
    engine.add(Lamp.Go)
    assert seen == [0]


def test_outside_of_transitions_the_queue_is_empty() -> None:
    """Whatever was asked has been done when the call returns."""
    engine = Engine(Lamp)
    engine.add(Lamp.On)
    assert engine.queue == ()
    assert not engine.will_be(Lamp.On)
    assert not engine.will_be_removed(Lamp.Off)


# ---- What will be ---------------------------------------------------------------------------------------------------

NOTHING: tuple[State[..., object], ...] = ()
FORESEEN: dict[str, tuple[tuple[State[..., object], ...], list[Ask], str, str]] = {
    "nothing is queued": ((Lamp.Red,), [], "", ""),
    "an add": (NOTHING, [lambda lamp: lamp.add(Lamp.Red)], "Red", ""),
    "an add of what is active": ((Lamp.Red,), [lambda lamp: lamp.add(Lamp.Red)], "Red", ""),
    "what relations would bring or refuse": (
        (Lamp.Off,),
        [lambda lamp: lamp.add(Lamp.Blink), lambda lamp: lamp.add(Lamp.Blue), lambda lamp: lamp.add(Lamp.On)],
        "On Blue Blink",
        "",
    ),
    "a remove": ((Lamp.Red,), [lambda lamp: lamp.remove(Lamp.Red)], "", "Red"),
    "a remove of what is not active": (NOTHING, [lambda lamp: lamp.remove(Lamp.Red)], "", "Red"),
    "the last that says anything decides": (
        NOTHING,
        [lambda lamp: lamp.add(Lamp.Red, Lamp.On), lambda lamp: lamp.remove(Lamp.Red), lambda lamp: lamp.add(Lamp.Off)],
        "On Off",
        "Red",
    ),
    "added again": (
        NOTHING,
        [lambda lamp: lamp.remove(Lamp.Red), lambda lamp: lamp.add(Lamp.Red)],
        "Red",
        "",
    ),
    "what goes first is judged first": (
        NOTHING,
        [lambda lamp: lamp.remove(Lamp.Red), lambda lamp: lamp.add(Lamp.Red, first=True)],
        "",
        "Red",
    ),
    "both at once": (NOTHING, [lambda lamp: lamp.mutate(add=Lamp.On, remove=Lamp.Off)], "On", "Off"),
    "a set": (
        (Lamp.Red,),
        [lambda lamp: lamp.set(Lamp.On)],
        "On",
        "Off Red Blue Blink Kept Sealed Go Error",
    ),
    "a set of another than the first": (
        NOTHING,
        [lambda lamp: lamp.set(Lamp.Red)],
        "Red",
        "On Off Blue Blink Kept Sealed Go Error",
    ),
    "a set and what was asked before it": (
        NOTHING,
        [lambda lamp: lamp.add(Lamp.Red), lambda lamp: lamp.set(Lamp.On)],
        "On",
        "Off Red Blue Blink Kept Sealed Go Error",
    ),
    "a set says nothing of an active latched state": (
        (Lamp.Kept,),
        [lambda lamp: lamp.set(Lamp.On)],
        "On",
        "Off Red Blue Blink Sealed Go Error",
    ),
    "nor of a latched state that is asked for before it": (
        NOTHING,
        [lambda lamp: lamp.add(Lamp.Kept), lambda lamp: lamp.set(Lamp.On)],
        "On Kept",
        "Off Red Blue Blink Sealed Go Error",
    ),
    "a toggle of what is inactive": (NOTHING, [lambda lamp: lamp.toggle(Lamp.Red)], "Red", ""),
    "a toggle of what is active": ((Lamp.Red,), [lambda lamp: lamp.toggle(Lamp.Red)], "", "Red"),
    "a toggle of which one is inactive": (
        (Lamp.Red,),
        [lambda lamp: lamp.toggle(Lamp.Red, Lamp.Blue)],
        "Red Blue",
        "",
    ),
    "two toggles": (
        NOTHING,
        [lambda lamp: lamp.toggle(Lamp.Red), lambda lamp: lamp.toggle(Lamp.Red)],
        "",
        "Red",
    ),
    "a toggle after a remove": (
        (Lamp.Red,),
        [lambda lamp: lamp.remove(Lamp.Red), lambda lamp: lamp.toggle(Lamp.Red)],
        "Red",
        "",
    ),
}


@pytest.mark.parametrize("what", list(FORESEEN))
def test_what_will_be_is_what_the_queue_asks_for(what: str) -> None:
    """State by state, both poles: true of those that the last word on them asks to come, or to go."""
    active, asks, comes, goes = FORESEEN[what]
    will, removed = looking(
        *asks,
        lambda lamp: [state for state in Lamp if lamp.will_be(state)],
        lambda lamp: [state for state in Lamp if lamp.will_be_removed(state)],
        active=active,
    )[-2:]
    assert isinstance(will, list) and isinstance(removed, list)
    assert " ".join(map(str, will)) == comes
    assert " ".join(map(str, removed)) == goes


def test_several_states_have_to_come_or_go_all() -> None:
    """One that does not makes it false."""
    assert looking(
        lambda lamp: bool(lamp.mutate(add=[Lamp.Red, Lamp.Blue], remove=[Lamp.On, Lamp.Off])),
        lambda lamp: lamp.will_be(Lamp.Red, Lamp.Blue),
        lambda lamp: lamp.will_be(Lamp.Red, Lamp.On),
        lambda lamp: lamp.will_be(Lamp.Red, Lamp.Kept),
        lambda lamp: lamp.will_be_removed(Lamp.On, Lamp.Off),
        lambda lamp: lamp.will_be_removed(Lamp.On, Lamp.Red),
        lambda lamp: lamp.will_be_removed(Lamp.On, Lamp.Kept),
    ) == [True, True, False, False, True, False, False]


@pytest.mark.parametrize("name", ["will_be", "will_be_removed"])
def test_what_will_be_takes_states_of_the_schema_and_at_least_one(name: str) -> None:
    """Each mistake, with the method's name and what to write."""
    engine = Engine(Lamp)
    ask = getattr(engine, name)
    with pytest.raises(MutationError, match=rf"{name}\(\) names no state: write at least one, such as Lamp\.On"):
        ask()
    with pytest.raises(UnknownState, match=rf"{name}: Other\.On is not a state of Lamp"):
        ask(Other.On)
    with pytest.raises(MutationError, match=rf"{name}: 'On' is a name.*write Lamp\.On"):
        ask("On")


# ---- Results --------------------------------------------------------------------------------------------------------


def test_results_tell_executed_canceled_and_queued_apart() -> None:
    """Each has exactly one of the three; a queued one becomes what its turn made of it."""
    engine = Engine(Lamp, id="lamp")
    waiting: list[str] = []
    results: list[Queued] = []

    @Lamp.Go.on_enter
    def asks(t: Transition) -> None:
        for result in (engine.add(Lamp.On), engine.add(Lamp.Blue)):
            assert isinstance(result, Queued)
            assert result and (result.executed, result.canceled, result.queued) == (False, False, True)
            assert result.outcome is None
            waiting.append(repr(result))
            results.append(result)

    engine.bind(asks)
    done = engine.add(Lamp.Go)
    assert done and (done.executed, done.canceled, done.queued) == (True, False, False)
    assert repr(done) == "<Executed>"
    refused = engine.add(Lamp.Blue)
    assert not refused and (refused.executed, refused.canceled, refused.queued) == (False, True, False)
    assert repr(refused).startswith("<Canceled: add(Blue) is refused.\nBlue cannot activate: it requires Red")
    first, second = results
    assert waiting == ["<Queued tick=1>", "<Queued tick=2>"]
    assert first and (first.executed, first.canceled, first.queued) == (True, False, False)
    assert not second and (second.executed, second.canceled, second.queued) == (False, True, False)
    assert repr(first) == "<Queued tick=1 <Executed>>"
    assert repr(second).startswith("<Queued tick=2 <Canceled: add(Blue) is refused.")
    assert isinstance(second.outcome, Canceled)
    explanation = second.outcome.explanation
    assert explanation is not None and second.outcome.explanation is explanation  # worked out once
    assert second.outcome.reason == explanation.text
    engine.close()
    closed = engine.add(Lamp.On)
    assert closed.explanation is None  # type: ignore[attr-defined]
    assert repr(closed) == "<Canceled: machine 'lamp' is closed>"
