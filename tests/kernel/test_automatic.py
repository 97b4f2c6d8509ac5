"""The automatic round and multi states (DESIGN section 4): who comes, who is barred, and what is unstable."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from trsm import Engine, NotSettled, Observed, Schema, State, Tracer, Transition


class Room(Schema):
    Person = State()
    Dark = State()
    Light = State(auto=True, require=[Person, Dark])
    Heating = State(auto=True, require=Person, add="Pump")
    Pump = State()
    Other = State(multi=True)


class Log:
    """Every transition that was committed, in order."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []

    @Schema.on_change
    def changed(self, t: Transition) -> None:
        self.transitions.append(t)

    @property
    def told(self) -> list[str]:
        return [
            " ".join([t.kind, *(f"+{state}" for state in t.entering), *(f"-{state}" for state in t.leaving)])
            for t in self.transitions
        ]


class Told(Tracer):
    def __init__(self) -> None:
        self.unstable_states: list[tuple[State[..., object], ...]] = []

    def unstable(self, machine: Observed, states: tuple[State[..., object], ...]) -> None:
        assert machine.id == "traced"
        self.unstable_states.append(states)


def refusing(mark: Callable[[Callable[..., bool]], object], log: list[str] | None = None, name: str = "") -> object:
    def refuse(t: Transition) -> bool:
        if log is not None:
            log.append(name)
        return False

    return mark(refuse)


# ---- When it runs ---------------------------------------------------------------------------------------------------


def test_opening_activates_nothing() -> None:
    """Auto states wait for the first mutation, and opening counts as a transition."""

    class Eager(Schema):
        Always = State(auto=True)
        Other = State()

    engine = Engine(Eager)
    assert engine.active_states == ()
    opening = engine.last_transition
    assert (opening.kind, opening.tick, opening.is_auto) == ("open", 0, False)
    assert opening.before == opening.after == engine.ticks
    assert opening.entering == opening.leaving == opening.called == opening.target == ()
    assert engine.last_transition is opening
    engine.add(Eager.Other)
    assert engine.active_states == (Eager.Always, Eager.Other)


def test_every_inactive_auto_state_that_fits_comes_with_what_it_adds() -> None:
    """In a transition of its own, after the one that made it possible; those that do not fit stay out."""
    log = Log()
    engine = Engine(Room, log)
    engine.add(Room.Person)
    assert log.told == ["add +Person", "auto +Heating +Pump"]
    engine.add(Room.Dark)
    assert log.told[2:] == ["add +Dark", "auto +Light"]
    auto = log.transitions[-1]
    assert auto.is_auto and auto.called == auto.dropped == () and auto.source is None
    assert not log.transitions[-2].is_auto
    assert engine.last_transition is auto
    engine.remove(Room.Person)
    assert engine.active_states == (Room.Dark, Room.Pump)


def test_a_round_that_changes_nothing_leaves_no_transition() -> None:
    """The last transition is the mutation, and the machine's own tick moved by one."""
    engine = Engine(Room)
    engine.add(Room.Dark)
    assert engine.last_transition.kind == "add" and engine.last_transition.tick == 1


def test_a_mutation_that_moves_no_tick_brings_no_round() -> None:
    """Neither an add of what is there nor one that was canceled; a multi state called again does."""

    class Fickle(Schema):
        Base = State()
        Top = State(require="Nothing")
        Nothing = State()
        Many = State(multi=True)
        Auto = State(auto=True)

    refused: list[bool] = []

    @Fickle.Auto.can_enter
    def once(t: Transition) -> bool:
        refused.append(True)
        return len(refused) > 1

    engine = Engine(Fickle, once)
    engine.add(Fickle.Many)
    assert len(refused) == 1
    assert engine.remove(Fickle.Base) and not engine.add(Fickle.Top)
    assert len(refused) == 1 and Fickle.Auto not in engine
    engine.add(Fickle.Many)
    assert len(refused) == 2 and Fickle.Auto in engine


def test_the_automatic_round_brings_no_round_of_its_own() -> None:
    """What an auto state makes possible waits for the next mutation that moves a tick."""

    log = Log()
    engine = Engine(Unstable, log)
    engine.add(Unstable.Base, Unstable.Guard)
    engine.add(Unstable.Go)
    # Guard lost Base, which takes it out but does not lift its guard in that mutation, so that Late has to wait.
    assert log.told[1:] == ["add +Go", "auto +Early -Guard -Base"]
    engine.add(Unstable.Other)
    assert log.told[3:] == ["add +Other", "auto +Late"]


def test_the_round_runs_once_for_each_mutation_and_before_what_is_queued() -> None:
    """Each queued mutation gets one of its own."""
    log = Log()

    @Room.Other.on_enter
    def act(t: Transition) -> None:
        engine.add(Room.Person)
        engine.add(Room.Dark)

    engine = Engine(Room, act, log)
    engine.add(Room.Other)
    assert log.told == [
        "add +Other", "add +Person", "auto +Heating +Pump", "add +Dark", "auto +Light",
    ]  # fmt: skip


def test_the_cause_of_a_round_is_that_of_the_mutation_before_it() -> None:
    """A round that follows a queued mutation names the handler that made that one."""
    log = Log()

    @Room.Other.on_enter
    def act(t: Transition) -> None:
        engine.add(Room.Person)

    engine = Engine(Room, act, log)
    engine.add(Room.Other)
    auto = log.transitions[-1]
    assert auto.is_auto and auto.source is not None and auto.source.handler.endswith("act")


def test_auto_states_exclude_each_other_by_declaration_order() -> None:
    """Both are as near; the one declared first comes."""

    class Pair(Schema):
        Go = State()
        One = State(auto=True, remove="Two")
        Two = State(auto=True, remove=One)

    engine = Engine(Pair)
    engine.add(Pair.Go)
    assert engine.active_states == (Pair.Go, Pair.One)


def test_an_auto_state_never_puts_out_what_removes_it() -> None:
    """What is there guards; only what the auto state alone removes leaves."""

    class Guarded(Schema):
        Guard = State(remove="Held")
        Plain = State()
        Mutual = State(remove="Both")
        Held = State(auto=True)
        Both = State(auto=True, remove=Mutual)
        Pushes = State(auto=True, remove=Plain)

    log = Log()
    Engine(Guarded, log).add(Guarded.Guard, Guarded.Plain, Guarded.Mutual)
    assert log.told == ["add +Guard +Plain +Mutual", "auto +Pushes -Plain"]


# ---- Negotiation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["can_enter", "pair"])
def test_an_auto_state_whose_entering_is_refused_is_barred_and_the_target_taken_again(question: str) -> None:
    """The others come; those that the barred one brings do not."""
    asked: list[str] = []
    mark = Room.Heating.can_enter if question == "can_enter" else Room.Heating.can_enter(given=Room.Person)
    log = Log()
    engine = Engine(Room, refusing(mark, asked, "Heating"), log)
    engine.add(Room.Person, Room.Dark)
    assert log.told == ["add +Person +Dark", "auto +Light"]
    assert asked == ["Heating"]
    engine.add(Room.Other)  # barred in that round only: it is asked anew
    assert asked == ["Heating", "Heating"]


def test_an_implied_state_that_refuses_is_barred_alone() -> None:
    """The auto state that would have brought it comes without it, unless it requires it."""
    engine = Engine(Room, refusing(Room.Pump.can_enter))
    engine.add(Room.Person)
    assert engine.active_states == (Room.Person, Room.Heating)

    class Wet(Schema):
        Go = State()
        Heating = State(auto=True, add="Pump", require="Pump")
        Pump = State()

    engine = Engine(Wet, refusing(Wet.Pump.can_enter))
    engine.add(Wet.Go)
    assert engine.active_states == (Wet.Go,)


def test_nobody_is_asked_twice_when_the_target_is_taken_again() -> None:
    """An answer is remembered within the mutation, however often somebody else is barred."""
    asked: list[str] = []

    def handler(name: str, answer: bool) -> Callable[[Transition], bool]:
        def ask(t: Transition) -> bool:
            asked.append(name)
            return answer

        return ask

    class Many(Schema):
        Go = State()
        Old = State()
        A = State(auto=True, require=Go, remove=Old)
        B = State(auto=True, require=Go)
        C = State(auto=True, require=Go)
        D = State(auto=True, require=Go)

    engine = Engine(Many)
    engine.add(Many.Old)
    for mark, name, answer in (
        (Many.Old.can_exit, "exit Old", True),
        (Many.A.can_enter, "A", True),
        (Many.B.can_enter, "B", False),
        (Many.C.can_enter, "C", True),
        (Many.D.can_enter(given=Many.Go), "D given Go", False),
        (Many.Go.can_stay, "stay Go", True),
        (Many.can_change, "change", True),
    ):
        engine.bind(mark(handler(name, answer)))
    engine.add(Many.Go)
    assert engine.active_states == (Many.Go, Many.A, Many.C)
    assert asked == ["change", "exit Old", "A", "B", "C", "stay Go", "D given Go", "change"]


def test_a_handler_that_was_never_asked_is_asked_when_the_target_is_taken_again() -> None:
    """Barring one lets another one come, which then has its say."""
    asked: list[str] = []

    class Pair(Schema):
        Go = State()
        One = State(auto=True, remove="Two")
        Two = State(auto=True, remove=One)

    engine = Engine(Pair, refusing(Pair.One.can_enter, asked, "One"), refusing(Pair.Two.can_enter, asked, "Two"))
    engine.add(Pair.Go)
    assert asked == ["One", "Two"] and engine.active_states == (Pair.Go,)
    engine = Engine(Pair, refusing(Pair.One.can_enter))
    engine.add(Pair.Go)
    assert engine.active_states == (Pair.Go, Pair.Two)


class Pushing(Schema):
    Go = State()
    Old = State()
    Stays = State()
    Pushes = State(auto=True, require=Go, remove=Old)
    Fits = State(auto=True, require=Go)


@pytest.mark.parametrize("kind", ["can_exit", "can_stay", "can_change"])
def test_any_other_refusal_cancels_the_round(kind: str) -> None:
    """Also for those that would have come; the mutation itself stands."""

    def refuse(t: Transition) -> bool:
        return not t.is_auto

    mark = {"can_exit": Pushing.Old.can_exit, "can_stay": Pushing.Stays.can_stay, "can_change": Pushing.can_change}
    tracer = Told()
    engine = Engine(Pushing, mark[kind](refuse), id="traced", tracers=[tracer])
    engine.add(Pushing.Old, Pushing.Stays)
    result = engine.add(Pushing.Go)
    assert result.executed and engine.last_transition.kind == "add"
    assert engine.active_states == (Pushing.Go, Pushing.Old, Pushing.Stays)
    assert engine.error is None
    assert tracer.unstable_states == []  # a second round would be refused as well


def test_an_error_in_the_round_bars_until_the_drain_has_settled() -> None:
    """The round after the error does not ask again; the next drain does."""
    asked: list[str] = []

    @Pushing.Fits.can_enter
    def fail(t: Transition) -> bool:
        asked.append(t.kind)
        raise ValueError

    @Pushing.Error.on_enter
    def handled(t: Transition) -> None:
        pass

    engine = Engine(Pushing, fail, handled)
    engine.add(Pushing.Go)
    assert asked == ["auto"] and engine.active_states == (Pushing.Go, Pushing.Pushes, Pushing.Error)
    engine.add(Pushing.Stays)
    assert asked == ["auto", "auto"]


# ---- Instability ----------------------------------------------------------------------------------------------------


class Unstable(Schema):
    Go = State()
    Base = State()
    Guard = State(require=Base, remove="Late")  # when it loses Base, it still guards in that mutation
    Early = State(auto=True, require=Go, remove=Base)
    Late = State(auto=True, require=Go)
    Other = State()
    Never = State(require="Missing")
    Missing = State()


def unstable(*handlers: object) -> tuple[Engine, Told]:
    tracer = Told()
    engine = Engine(Unstable, *handlers, id="traced", tracers=[tracer])
    engine.add(Unstable.Base, Unstable.Guard)
    assert tracer.unstable_states == []
    return engine, tracer


def test_what_a_second_round_would_change_is_reported_once_for_the_drain() -> None:
    """The next mutation that moves a tick brings it."""
    engine, tracer = unstable()
    engine.add(Unstable.Go)
    assert engine.active_states == (Unstable.Go, Unstable.Early)
    assert tracer.unstable_states == [(Unstable.Late,)]
    engine.add(Unstable.Other)
    assert Unstable.Late in engine and len(tracer.unstable_states) == 1


def test_what_is_settled_by_the_end_of_the_drain_is_not_reported() -> None:
    """Only what the last round left behind counts."""

    @Unstable.Go.on_enter
    def act(t: Transition) -> None:
        engine.add(Unstable.Other)

    engine, tracer = unstable(act)
    engine.add(Unstable.Go)
    assert Unstable.Late in engine and tracer.unstable_states == []


def test_a_mutation_after_the_round_that_changes_nothing_does_not_hide_it() -> None:
    """Neither one that was canceled nor one that had nothing to do."""

    @Unstable.Go.on_enter
    def act(t: Transition) -> None:
        assert engine.add(Unstable.Never)
        assert engine.remove(Unstable.Other)

    engine, tracer = unstable(act)
    engine.add(Unstable.Go)
    assert tracer.unstable_states == [(Unstable.Late,)]


def test_where_no_round_ran_nothing_is_unstable() -> None:
    """Auto states wait for a first mutation that moves a tick; until then it is no instability that they are out."""

    class Eager(Schema):
        Always = State(auto=True)
        Needy = State(require=Always)

    tracer = Told()
    engine = Engine(Eager, id="traced", tracers=[tracer])
    assert not engine.add(Eager.Needy, why="never")
    assert engine.remove(Eager.Needy, why="nothing to do")
    assert tracer.unstable_states == [] and engine.active_states == ()


def test_who_was_refused_is_not_unstable() -> None:
    """A second round would be refused by the same handler."""
    tracer = Told()
    engine = Engine(Room, refusing(Room.Heating.can_enter), id="traced", tracers=[tracer])
    engine.add(Room.Person, Room.Dark)
    assert Room.Light in engine and tracer.unstable_states == []


def test_a_drain_that_did_not_settle_is_not_called_unstable() -> None:
    """`NotSettled` says what was wrong with it."""

    @Unstable.Go.on_enter
    def act(t: Transition) -> None:
        engine.add(Unstable.Other)
        engine.remove(Unstable.Other)

    tracer = Told()
    engine = Engine(Unstable, act, id="traced", drain_limit=2, tracers=[tracer])
    engine.add(Unstable.Base, Unstable.Guard)
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Unstable.Go)
    assert isinstance(caught.value.exceptions[0], NotSettled)
    assert tracer.unstable_states == []


def test_without_tracers_nobody_looks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody observes costs nothing."""

    def fail(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Engine, "_report_instability", fail)
    engine = Engine(Unstable)
    engine.add(Unstable.Base, Unstable.Guard)
    with caplog.at_level(logging.DEBUG):
        engine.add(Unstable.Go)
    assert caplog.records == []


# ---- Multi ----------------------------------------------------------------------------------------------------------


class Many(Schema):
    Poll = State(multi=True, add="Read")
    Read = State()
    Plain = State(add=Read)
    Auto = State(auto=True, multi=True, require=Read)


def test_a_multi_state_called_while_active_ticks_two_enters_again_and_fires_its_add_again() -> None:
    """Nothing else fires `add` twice, and nothing else ticks."""
    log: list[str] = []

    @Many.Poll.on_enter
    def enter(t: Transition) -> None:
        log.append(repr(t))

    @Many.Poll.on_exit
    def leave(t: Transition) -> None:
        log.append("left")

    engine = Engine(Many, enter, leave)
    engine.add(Many.Poll, Many.Plain)
    engine.remove(Many.Read)
    assert engine.add(Many.Plain) and Many.Read not in engine and engine.tick(Many.Plain) == 1
    assert engine.add(Many.Poll)
    assert Many.Read in engine
    assert [engine.tick(state) for state in (Many.Poll, Many.Read, Many.Plain)] == [3, 3, 1]
    again = engine.last_transition
    assert engine.add(Many.Poll) and engine.tick(Many.Poll) == 5
    t = engine.last_transition
    assert t.entering == (Many.Poll,) and t.leaving == () and t.before[Many.Poll] == 3 and t.after[Many.Poll] == 5
    assert again.is_auto and len(log) == 3
    engine.remove(Many.Poll)
    assert log[-1] == "left" and engine.tick(Many.Poll) == 6


def test_a_multi_state_in_a_set_is_called_again() -> None:
    """It is called, as by `add`."""
    engine = Engine(Many)
    engine.add(Many.Poll)
    engine.set(Many.Poll)
    assert engine.tick(Many.Poll) == 3 and Many.Read in engine


def test_a_multi_auto_state_is_not_called_again_by_the_round() -> None:
    """The round has only inactive auto states for options."""
    engine = Engine(Many)
    engine.add(Many.Read)
    assert engine.tick(Many.Auto) == 1
    engine.add(Many.Plain)
    assert engine.tick(Many.Auto) == 1
    engine.add(Many.Auto)
    assert engine.tick(Many.Auto) == 3


def test_a_multi_state_that_is_only_brought_is_not_called() -> None:
    """An active multi state that another one adds ticks no further."""

    class Bringing(Schema):
        Brings = State(add="Poll")
        Poll = State(multi=True)

    engine = Engine(Bringing)
    engine.add(Bringing.Poll)
    engine.add(Bringing.Brings)
    assert engine.tick(Bringing.Poll) == 1


# ---- Order of handlers ----------------------------------------------------------------------------------------------


def test_handlers_run_in_the_order_of_the_schema_and_leave_in_its_reverse() -> None:
    """`after` first, then requirements, then declaration order; those of one state in the order of binding."""

    class Ordered(Schema):
        Last = State(after="First")
        Top = State(require="Base")
        First = State()
        Base = State()
        Free = State()

    log: list[str] = []
    handlers: list[object] = []
    for state in (Ordered.Base, Ordered.First, Ordered.Free, Ordered.Last, Ordered.Top):
        for place in (1, 2):
            for kind in ("enter", "exit"):

                def act(t: Transition, told: str = f"{kind} {state} {place}") -> None:
                    log.append(told)

                handlers.append(getattr(state, f"on_{kind}")(act))

    @Ordered.on_change
    def changed(t: Transition) -> None:
        log.append("change")

    engine = Engine(Ordered, changed, *handlers)
    states = (Ordered.Top, Ordered.Free, Ordered.Last, Ordered.Base, Ordered.First)
    engine.add(*states)
    order = ["First", "Last", "Base", "Top", "Free"]
    assert log == [f"enter {name} {place}" for name in order for place in (1, 2)] + ["change"]
    log.clear()
    engine.remove(*states)
    assert log == [f"exit {name} {place}" for name in reversed(order) for place in (2, 1)] + ["change"]


def test_exits_come_before_enters_and_the_change_last() -> None:
    """In one transition in which some go and some come."""

    class Swap(Schema):
        Old = State()
        New = State(remove=Old)

    log: list[str] = []

    class Handlers:
        @Swap.on_change
        def changed(self, t: Transition) -> None:
            log.append("change")

        @Swap.New.on_enter
        def enter(self, t: Transition) -> None:
            assert engine.active_states == (Swap.New,) and engine.tick(Swap.Old) == 2  # committed at once, before
            log.append("enter")

        @Swap.Old.on_exit
        def leave(self, t: Transition) -> None:
            assert engine.active_states == (Swap.New,) and engine.tick(Swap.Old) == 2
            assert engine.last_transition is t and t.tick == 2
            log.append("exit")

    engine = Engine(Swap, Handlers())
    engine.add(Swap.Old)
    log.clear()
    engine.add(Swap.New)
    assert log == ["exit", "enter", "change"]
    engine.add(Swap.New)
    assert log == ["exit", "enter", "change"]  # no tick moved
    assert engine.last_transition.tick == 3
