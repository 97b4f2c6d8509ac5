"""The queue (DESIGN section 5): when a mutation waits, in which order it runs, what is folded, and the bounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from trsm import (
    Canceled,
    Engine,
    Executed,
    MutationError,
    NotSettled,
    Queued,
    QueueFull,
    Result,
    Schema,
    State,
    Transition,
)


class Lamp(Schema):
    Go = State(multi=True)
    A = State()
    B = State()
    C = State()
    Many = State(multi=True)
    Armed = State()
    Ready = State(auto=True, require=Armed)


class Scope:
    """What a mutation's scope has to be; a trio cancel scope is one."""

    def __init__(self) -> None:
        self.cancel_called = False


class Script:
    """Runs a function in the ``on_enter`` of Go, and keeps what every transition did."""

    def __init__(self, act: Callable[[Engine], object], **limits: int) -> None:
        self.act = act
        self.log: list[str] = []
        self.engine = Engine(Lamp, self, **limits)

    def run(self) -> list[str]:
        """What follows from adding Go."""
        self.log.clear()
        self.engine.add(Lamp.Go)
        return self.log[1:]

    @Lamp.Go.on_enter
    def go(self, t: Transition) -> None:
        self.act(self.engine)

    @Lamp.on_change
    def changed(self, t: Transition) -> None:
        signs = [f"+{state}" for state in t.entering] + [f"-{state}" for state in t.leaving]
        self.log.append(" ".join(signs))


# ---- When a mutation waits ------------------------------------------------------------------------------------------


def test_a_mutation_made_in_a_handler_waits_until_the_transition_is_over() -> None:
    """It is queued, never nested: it says so, at which queue tick it will run, and later what became of it."""
    results: list[Queued] = []

    def act(engine: Engine) -> None:
        for result in (engine.add(Lamp.A), engine.remove(Lamp.A)):
            assert isinstance(result, Queued)
            assert result and result.queued and not result.executed and not result.canceled
            assert result.outcome is None
            results.append(result)
        assert engine.active_states == (Lamp.Go,)
        assert [result.tick for result in results] == [1, 2]
        assert [repr(result) for result in results] == ["<Queued tick=1>", "<Queued tick=2>"]

    assert Script(act).run() == ["+A", "-A"]
    for result in results:
        assert result and result.executed and not result.queued and not result.canceled
        assert result.outcome is not None and result.outcome.executed
    assert repr(results[0]) == "<Queued tick=1 <Executed>>"


def test_a_queued_mutation_that_is_canceled_at_its_turn() -> None:
    """Its result turns false, and has the reason in its outcome."""
    results: list[Result] = []

    @Lamp.A.can_enter
    def refuse(t: Transition) -> bool:
        return False

    script = Script(lambda engine: results.append(engine.add(Lamp.A)))
    script.engine.bind(refuse)
    assert script.run() == []
    (result,) = results
    assert isinstance(result, Queued)
    assert not result and result.canceled and not result.executed and not result.queued
    assert isinstance(result.outcome, Canceled)
    assert "refuse) refused" in result.outcome.reason and result.outcome.reason in repr(result)


def test_queue_ticks_go_on_counting_over_the_life_of_the_machine() -> None:
    """Each queued mutation that had its turn counts, whatever became of it; those that were canceled count too."""
    ticks: list[int] = []

    def act(engine: Engine) -> None:
        ticks.append(engine.add(Lamp.A).tick)
        ticks.append(engine.add(Lamp.B, scope=cancelled).tick)
        ticks.append(engine.toggle(Lamp.C, first=True).tick)

    cancelled = Scope()
    cancelled.cancel_called = True
    script = Script(act)
    script.run()
    script.run()
    assert ticks == [1, 2, 1, 3, 4, 3]


def test_outside_of_a_transition_nothing_is_queued() -> None:
    """A mutation runs in the caller, with all that follows from it, before it returns."""
    seen: list[Result] = []
    script = Script(lambda engine: seen.append(engine.add(Lamp.A)))
    result = script.engine.add(Lamp.Go)
    assert isinstance(result, Executed)
    assert script.engine.active_states == (Lamp.Go, Lamp.A)
    assert seen[0].executed


def test_every_final_handler_queues() -> None:
    """on_enter, on_exit and on_change alike."""
    results: list[Result] = []

    @Lamp.A.on_enter
    def entered(t: Transition) -> None:
        results.append(engine.add(Lamp.B))

    @Lamp.A.on_exit
    def left(t: Transition) -> None:
        results.append(engine.remove(Lamp.B))

    @Lamp.on_change
    def changed(t: Transition) -> None:
        if Lamp.A in t.entering or Lamp.A in t.leaving:
            results.append(engine.toggle(Lamp.C))

    engine = Engine(Lamp, entered, left, changed)
    engine.add(Lamp.A)
    engine.remove(Lamp.A)
    assert all(isinstance(result, Queued) and result.executed for result in results) and len(results) == 4
    assert [engine.tick(state) for state in (Lamp.A, Lamp.B, Lamp.C)] == [2, 2, 2]


def test_a_mutation_of_another_idle_machine_runs_at_once() -> None:
    """Each machine has a queue of its own."""
    other = Engine(Lamp)
    seen: list[Result] = []
    Script(lambda engine: seen.append(other.add(Lamp.A))).run()
    assert isinstance(seen[0], Executed)
    assert Lamp.A in other


def test_two_machines_that_call_each_other_take_turns() -> None:
    """A call back into a machine whose transition runs is queued there."""
    results: list[Result] = []

    @Lamp.A.on_enter
    def back(t: Transition) -> None:
        results.append(first.engine.add(Lamp.B))

    second = Engine(Lamp, back)
    first = Script(lambda engine: results.append(second.add(Lamp.A)))
    assert first.run() == ["+B"]
    assert isinstance(results[0], Queued) and results[0].executed
    assert isinstance(results[1], Executed)


# ---- Order ----------------------------------------------------------------------------------------------------------


def test_queued_mutations_run_in_the_order_made() -> None:
    """One after the other, each with its own transition."""

    def act(engine: Engine) -> None:
        for state in (Lamp.B, Lamp.A, Lamp.C):
            engine.add(state)
        engine.remove(Lamp.B)

    assert Script(act).run() == ["+B", "+A", "+C", "-B"]


def test_first_mutations_run_ahead_in_the_order_made() -> None:
    """Those made with ``first`` before all others, among themselves in order."""

    def act(engine: Engine) -> None:
        assert engine.add(Lamp.C).tick == 1
        assert engine.add(Lamp.A, first=True).tick == 1
        assert engine.add(Lamp.B, first=True).tick == 1
        assert engine.remove(Lamp.C).tick == 2

    assert Script(act).run() == ["+A", "+B", "+C", "-C"]


def test_first_is_as_good_as_nothing_where_nothing_waits() -> None:
    """Outside of a transition the mutation runs at once anyway."""
    engine = Engine(Lamp)
    assert isinstance(engine.add(Lamp.A, first=True), Executed)
    assert isinstance(engine.mutate(add=Lamp.B, remove=Lamp.A, first=True), Executed)
    assert engine.active_states == (Lamp.B,)


def test_first_that_is_no_bool_is_refused_where_a_mutation_has_to_wait() -> None:
    """Nothing is queued then; a mutation that runs at once does not look at it."""

    def act(engine: Engine) -> None:
        engine.add(Lamp.A, first=False)
        with pytest.raises(MutationError, match="first=3 is no bool: write first=True, or leave it out"):
            engine.add(Lamp.C, first=3)  # type: ignore[arg-type]
        engine.add(Lamp.B, first=True)

    assert Script(act).run() == ["+B", "+A"]


def test_first_made_in_a_queued_mutation_runs_before_the_rest_of_the_queue() -> None:
    """The queue is looked at anew after each mutation."""

    @Lamp.A.on_enter
    def ahead(t: Transition) -> None:
        script.engine.add(Lamp.C)
        script.engine.remove(Lamp.A, first=True)

    def act(engine: Engine) -> None:
        engine.add(Lamp.A)
        engine.add(Lamp.B)

    script = Script(act)
    script.engine.bind(ahead)
    assert script.run() == ["+A", "-A", "+B", "+C"]


def test_errors_then_the_automatic_round_then_first_then_the_queue() -> None:
    """What one transition leaves behind, in the order of step 6, whatever the order in which it was made."""

    @Lamp.Error.on_enter
    def handled(t: Transition) -> None:
        assert t.error is not None

    def act(engine: Engine) -> None:
        engine.add(Lamp.A)
        engine.add(Lamp.B, first=True)
        engine.add_error(ValueError())
        engine.add_error(KeyError())

    script = Script(act)
    script.engine.bind(handled)
    script.engine.add(Lamp.Armed, Lamp.Go)
    assert script.log == ["+Go +Armed", "+Error", "+Error", "+Ready", "+B", "+A"]


def test_an_automatic_round_runs_after_each_mutation_that_moves_a_tick_and_ahead_of_the_queue() -> None:
    """Also between two that wait."""

    def act(engine: Engine) -> None:
        engine.add(Lamp.Armed)
        engine.remove(Lamp.Armed)
        engine.add(Lamp.Armed)

    assert Script(act).run() == ["+Armed", "+Ready", "-Ready -Armed", "+Armed", "+Ready"]


# ---- A toggle -------------------------------------------------------------------------------------------------------


def test_a_toggle_removes_if_all_are_active_and_else_adds_all() -> None:
    """None, some, all."""
    engine = Engine(Lamp)
    engine.toggle(Lamp.A, Lamp.B)
    assert engine.active_states == (Lamp.A, Lamp.B)
    engine.remove(Lamp.A)
    assert engine.toggle(Lamp.A, Lamp.B) and engine.last_transition.kind == "add"
    assert engine.active_states == (Lamp.A, Lamp.B)
    assert engine.toggle(Lamp.A, Lamp.B) and engine.last_transition.kind == "remove"
    assert engine.active_states == ()


def test_a_toggle_is_decided_when_its_turn_comes() -> None:
    """What is active when it is made does not matter."""

    def act(engine: Engine) -> None:
        engine.toggle(Lamp.A)
        engine.toggle(Lamp.A)
        engine.add(Lamp.B)
        engine.toggle(Lamp.B, Lamp.A)
        engine.toggle(Lamp.B, Lamp.A)

    assert Script(act).run() == ["+A", "-A", "+B", "+A", "-B -A"]


def test_a_queued_toggle_may_come_to_add_and_needs_its_arguments() -> None:
    """Active now does not mean active at its turn: the missing argument is refused at the call."""

    class Fetch(Schema):
        Fetching = State(args=lambda url: url)
        Go = State()

    @Fetch.Go.on_enter
    def act(t: Transition) -> None:
        engine.remove(Fetch.Fetching)
        with pytest.raises(MutationError, match=r"toggle\(Fetching\): Fetching needs url: write Fetch\.Fetching\(url="):
            engine.toggle(Fetch.Fetching)
        engine.toggle(Fetch.Fetching("again"))

    engine = Engine(Fetch, act)
    engine.add(Fetch.Fetching("first"))
    engine.add(Fetch.Go)
    assert engine.is_active(Fetch.Fetching)
    assert engine.last_transition.args_of(Fetch.Fetching) == "again"


# ---- Folding --------------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Engine], Result]] = {
    "add": lambda engine: engine.add(Lamp.A),
    "remove": lambda engine: engine.remove(Lamp.A),
    "mutate": lambda engine: engine.mutate(add=Lamp.A, remove=Lamp.B),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_mutation_equal_to_the_last_one_queued_is_folded_into_it(kind: str) -> None:
    """They share a result and run once; the queue holds one, and the next queue tick says so."""
    results: list[Result] = []
    turns: list[str] = []

    @Lamp.A.can_enter
    def turn(t: Transition) -> bool:
        turns.append(t.kind)
        return True

    @Lamp.A.can_exit
    def turn_too(t: Transition) -> bool:
        turns.append(t.kind)
        return True

    def act(engine: Engine) -> None:
        results.extend(MAKERS[kind](engine) for _ in range(3))
        assert "queue=1" in repr(engine)
        results.append(engine.add(Lamp.C))

    script = Script(act, queue_limit=2)
    if kind == "remove":
        script.engine.add(Lamp.A)
    script.engine.bind(turn)
    script.engine.bind(turn_too)
    script.run()
    assert results[0] is results[1] is results[2] and results[0].executed
    assert isinstance(results[3], Queued) and results[3].tick == 2
    assert turns == [kind]


DISTINCT: dict[str, Callable[[Engine], object]] = {
    "another kind": lambda engine: (engine.add(Lamp.A), engine.remove(Lamp.A)),
    "other states": lambda engine: (engine.add(Lamp.A), engine.add(Lamp.B)),
    "more states": lambda engine: (engine.add(Lamp.A), engine.add(Lamp.A, Lamp.B)),
    "not the last one": lambda engine: (engine.add(Lamp.A), engine.remove(Lamp.A), engine.add(Lamp.A)),
    "a mutate that removes elsewhere": lambda engine: (
        engine.mutate(add=Lamp.A, remove=Lamp.B),
        engine.mutate(add=Lamp.A, remove=Lamp.C),
    ),
    "a mutate that adds only": lambda engine: (engine.add(Lamp.A), engine.mutate(add=Lamp.A)),
    "set": lambda engine: (engine.set(Lamp.A), engine.set(Lamp.A)),
    "toggle": lambda engine: (engine.toggle(Lamp.A), engine.toggle(Lamp.A)),
    "an add after a toggle": lambda engine: (engine.toggle(Lamp.A), engine.add(Lamp.A)),
    "a toggle after an add": lambda engine: (engine.add(Lamp.A), engine.toggle(Lamp.A)),
    "arguments on the first": lambda engine: (engine.add(Lamp.A, why=1), engine.add(Lamp.A)),
    "arguments on the second": lambda engine: (engine.add(Lamp.A), engine.add(Lamp.A, why=1)),
    "equal arguments": lambda engine: (engine.add(Lamp.A, why=1), engine.add(Lamp.A, why=1)),
    "a scope on the first": lambda engine: (engine.add(Lamp.A, scope=Scope()), engine.add(Lamp.A)),
    "a scope on the second": lambda engine: (engine.add(Lamp.A), engine.add(Lamp.A, scope=Scope())),
    "first on the first": lambda engine: (engine.add(Lamp.A, first=True), engine.add(Lamp.A)),
    "first on the second": lambda engine: (engine.add(Lamp.A), engine.add(Lamp.A, first=True)),
    "first on both": lambda engine: (engine.add(Lamp.A, first=True), engine.add(Lamp.A, first=True)),
    "a called multi state": lambda engine: (engine.add(Lamp.A, Lamp.Many), engine.add(Lamp.A, Lamp.Many)),
    "a dropped multi state": lambda engine: (engine.remove(Lamp.Many), engine.remove(Lamp.Many)),
}


@pytest.mark.parametrize("case", DISTINCT)
def test_a_mutation_that_differs_is_not_folded(case: str) -> None:
    """Each has a result of its own."""
    results: list[Result] = []

    def act(engine: Engine) -> None:
        made = DISTINCT[case](engine)
        assert isinstance(made, tuple)
        results.extend(made)

    Script(act).run()
    assert len({id(result) for result in results}) == len(results) > 1
    assert all(result.executed for result in results)


def test_calls_with_arguments_are_not_folded() -> None:
    """Each brings its own."""

    class Fetch(Schema):
        Go = State()
        Fetching = State(args=dict)

    @Fetch.Go.on_enter
    def act(t: Transition) -> None:
        results.extend((engine.add(Fetch.Fetching(a=1)), engine.add(Fetch.Fetching(a=1)), engine.add(Fetch.Fetching)))
        results.append(engine.add(Fetch.Fetching))

    results: list[Result] = []
    engine = Engine(Fetch, act)
    engine.add(Fetch.Go)
    assert len({id(result) for result in results}) == 3 and results[2] is results[3]


def test_a_multi_state_called_twice_ticks_twice() -> None:
    """This is what folding would lose."""

    def act(engine: Engine) -> None:
        engine.add(Lamp.Many)
        engine.add(Lamp.Many)

    script = Script(act)
    script.run()
    assert script.engine.tick(Lamp.Many) == 3


def test_nothing_is_folded_into_a_mutation_that_had_its_turn() -> None:
    """What runs is no longer queued."""
    results: list[Result] = []

    @Lamp.A.on_enter
    def again(t: Transition) -> None:
        results.append(script.engine.add(Lamp.A))

    script = Script(lambda engine: results.append(engine.add(Lamp.A)))
    script.engine.bind(again)
    script.run()
    assert results[0] is not results[1] and all(result.executed for result in results)


LETTERS: tuple[tuple[str, State[..., object]], ...] = (
    ("add", Lamp.A),
    ("remove", Lamp.A),
    ("add", Lamp.B),
    ("remove", Lamp.B),
)


@pytest.mark.promise(17)
def test_every_word_of_add_and_remove_ends_as_if_nothing_were_folded(figure: Callable[..., None]) -> None:
    """All words up to length 6 from a handler: the same ticks, in the same order, as one call after the other (P17)."""
    word: tuple[tuple[str, State[..., object]], ...] = ()

    def act(engine: Engine) -> None:
        results = [getattr(engine, kind)(state) for kind, state in word]
        for (one, first), (two, second) in itertools.pairwise(zip(word, results, strict=True)):
            assert (first is second) == (one == two)

    script = Script(act)
    plain = Script(lambda engine: None)
    words = 0
    for length in range(7):
        for word in itertools.product(LETTERS, repeat=length):
            script.log.clear()
            plain.log.clear()
            script.engine.set(Lamp.Go)
            plain.engine.set(Lamp.Go)
            for kind, state in word:
                getattr(plain.engine, kind)(state)
            assert script.log == plain.log
            assert script.engine.ticks == plain.engine.ticks
            script.engine.set(Lamp.C)
            plain.engine.set(Lamp.C)
            words += 1
    assert words == sum(4**length for length in range(7))
    figure(17, words=words)


# ---- A scope --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["add", "remove", "set", "toggle", "mutate"])
def test_a_mutation_whose_scope_is_cancelled_before_its_turn_is_skipped(kind: str) -> None:
    """It is canceled, with that reason; one whose scope is not cancelled runs."""
    results: list[Result] = []

    def make(engine: Engine, scope: Scope) -> Result:
        if kind == "mutate":
            return engine.mutate(add=Lamp.A, scope=scope)
        return getattr(engine, kind)(Lamp.A, scope=scope)

    def act(engine: Engine) -> None:
        open_scope, cancelled = Scope(), Scope()
        results.extend((make(engine, cancelled), make(engine, open_scope)))
        cancelled.cancel_called = True  # only now

    script = Script(act)
    script.run()
    skipped, ran = results
    assert isinstance(skipped, Queued) and isinstance(skipped.outcome, Canceled)
    assert skipped.canceled and skipped.outcome.reason == "its scope was cancelled before its turn"
    assert ran.executed
    assert script.engine.is_active(Lamp.A) == (kind != "remove")


def test_a_scope_that_is_cancelled_already_skips_the_outermost_mutation_too() -> None:
    """Nothing happens, and nobody is asked."""
    scope = Scope()
    engine = Engine(Lamp)
    assert engine.add(Lamp.A, scope=scope)
    scope.cancel_called = True
    result = engine.add(Lamp.B, scope=scope)
    assert isinstance(result, Canceled) and result.reason == "its scope was cancelled before its turn"
    assert engine.active_states == (Lamp.A,)


@pytest.mark.parametrize("wrong", [3, "scope", Scope])
def test_what_is_no_scope_is_refused_at_the_call(wrong: object) -> None:
    """It would have been found out only when its turn comes."""
    engine = Engine(Lamp)
    with pytest.raises(MutationError, match=r"add\(scope=.*\): pass a cancel scope, or leave scope out"):
        engine.add(Lamp.A, scope=wrong)  # type: ignore[arg-type]
    assert engine.last_transition.tick == 0


def test_a_scope_that_is_cancelled_at_its_turn_or_later_stops_nothing() -> None:
    """Only what is before its turn counts."""
    scope = Scope()

    @Lamp.A.on_enter
    def cancel(t: Transition) -> None:
        scope.cancel_called = True

    assert Engine(Lamp, cancel).add(Lamp.A, scope=scope).executed


# ---- Bounds ---------------------------------------------------------------------------------------------------------


def test_a_full_queue_is_an_error_for_the_caller_and_loses_nothing() -> None:
    """The limit counts those made with ``first`` too; what was accepted runs, in order."""
    results: list[Result] = []

    def act(engine: Engine) -> None:
        results.append(engine.add(Lamp.A))
        results.append(engine.remove(Lamp.A, first=True))
        results.append(engine.add(Lamp.B))
        for one_more in (
            lambda: engine.add(Lamp.C),
            lambda: engine.add(Lamp.C, first=True),
            lambda: engine.toggle(Lamp.A),
            lambda: engine.set(Lamp.C),
            lambda: engine.mutate(remove=Lamp.A),
        ):
            with pytest.raises(QueueFull) as caught:
                one_more()
            for words in ("the queue of machine 'full' holds 3 mutations", "its queue_limit", "those are kept"):
                assert words in str(caught.value)
            assert "make fewer in one transition, or open it with a higher queue_limit" in str(caught.value)
        assert engine.add(Lamp.B) is results[-1]  # folding takes no room

    script = Script(act)
    script.engine = Engine(Lamp, script, id="full", queue_limit=3)
    assert script.run() == ["+A", "+B"]
    assert all(result.executed for result in results)
    results.clear()
    assert script.run() == ["-A", "+A"]  # it has room again


def test_the_default_queue_limit_is_a_thousand() -> None:
    """The thousandth is accepted."""
    made = 0

    def act(engine: Engine) -> None:
        nonlocal made
        with pytest.raises(QueueFull, match="holds 1000 mutations"):
            while True:
                engine.toggle(Lamp.A)
                made += 1

    script = Script(act)
    script.run()
    assert made == 1000 and script.engine.tick(Lamp.A) == 1000


def test_a_queue_full_that_nobody_catches_is_a_fault_of_the_handler() -> None:
    """It is no silent loss."""

    def act(engine: Engine) -> None:
        engine.add(Lamp.A)
        engine.add(Lamp.B)

    script = Script(act, queue_limit=1)
    with pytest.raises(ExceptionGroup) as caught:
        script.run()
    assert isinstance(caught.value.exceptions[0], QueueFull)
    assert script.engine.active_states == (Lamp.A, Lamp.Error)


@pytest.mark.promise(16)
def test_a_flood_ends_in_results_that_add_up(figure: Callable[..., None]) -> None:
    """A hundred thousand from a handler: accepted ones all ran, every other one was an error at the call (P16)."""
    accepted: list[Result] = []
    refused = 0

    def act(engine: Engine) -> None:
        nonlocal refused
        for number in range(100_000):
            try:
                accepted.append(engine.toggle(Lamp.A, first=number % 3 == 0))
            except QueueFull:
                refused += 1

    script = Script(act, queue_limit=5000)
    script.run()
    assert len(accepted) == 5000 and refused == 95_000
    assert all(result.executed for result in accepted)
    assert script.engine.tick(Lamp.A) == 5000
    figure(16, mutations=100_000)


FEEDS: dict[str, tuple[object, Callable[[Engine], object], Callable[[Engine], object], str]] = {
    "on_enter": (Lamp.Many.on_enter, lambda m: m.add(Lamp.Many), lambda m: m.add(Lamp.Many), "Many"),
    "on_exit": (Lamp.A.on_exit, lambda m: (m.add(Lamp.A), m.remove(Lamp.A)), lambda m: m.remove(Lamp.A), "A"),
    "on_change": (Lamp.on_change, lambda m: m.toggle(Lamp.A, Lamp.B), lambda m: m.add(Lamp.C), "A and B"),
    "first": (Lamp.on_change, lambda m: m.toggle(Lamp.B, first=True), lambda m: m.add(Lamp.C), "B"),
    "the automatic round": (Lamp.Ready.on_enter, lambda m: m.remove(Lamp.Ready), lambda m: m.add(Lamp.Armed), "Ready"),
}
"""Which handler feeds itself, how, what starts it, and which states go round."""


@pytest.mark.promise(24)
@pytest.mark.parametrize("feed", FEEDS)
def test_handlers_that_feed_themselves_end_in_not_settled(feed: str, figure: Callable[..., None]) -> None:
    """After ``drain_limit`` transitions; what is queued is canceled, and the states that went round are named (P24)."""
    mark, act, start, names = FEEDS[feed]
    results: list[Result] = []

    def again(t: Transition) -> None:
        made = act(engine)
        results.extend(made if isinstance(made, tuple) else (made,))

    engine = Engine(Lamp, id="loop", drain_limit=500)
    engine.add(Lamp.A)
    engine.bind(mark(again))  # type: ignore[operator]
    before = engine.last_transition.tick
    with pytest.raises(ExceptionGroup) as caught:
        start(engine)
    (error,) = caught.value.exceptions
    assert isinstance(error, NotSettled)
    assert f"machine 'loop' did not settle within 500 transitions (drain_limit); {names} went round: " in str(error)
    assert "handlers feed themselves; break the circle, or let a task do it, which checkpoints" in str(error)
    assert engine.last_transition.tick - before == 500
    ended = [result for result in results if result.canceled]
    assert len(ended) == 1
    for result in ended:
        assert isinstance(result, Queued) and isinstance(result.outcome, Canceled)
        assert result.outcome.reason == "machine 'loop' did not settle within 500 transitions"
    assert all(result.executed or result.canceled for result in results)
    assert engine.error is None and not engine.closed  # the bare engine goes on
    figure(24, drains=1)


@pytest.mark.promise(24)
def test_an_error_that_feeds_itself_ends_in_not_settled(figure: Callable[..., None]) -> None:
    """The error that waits is unhandled, and its result says that it was canceled."""
    results: list[Result] = []

    @Lamp.Error.on_enter
    def again(t: Transition) -> None:
        results.append(engine.add_error(ValueError(len(results))))

    engine = Engine(Lamp, again, drain_limit=20)
    with pytest.raises(ExceptionGroup) as caught:
        engine.add_error(ValueError())
    last, error = caught.value.exceptions
    assert isinstance(error, NotSettled) and "Error went round" in str(error)
    assert isinstance(last, ValueError) and last.args == (19,)
    assert engine.last_transition.tick == 20
    assert [result.executed for result in results] == [True] * 19 + [False]
    assert results[-1].canceled and "did not settle within 20 transitions" in repr(results[-1])
    figure(24, drains=1)


def test_as_many_transitions_as_the_limit_allows_are_fine() -> None:
    """The limit itself is not beyond it; one more is, and those before it are named and stand."""

    def act(engine: Engine) -> None:
        engine.add(Lamp.A)
        engine.add(Lamp.B)

    assert Script(act, drain_limit=3).run() == ["+A", "+B"]
    script = Script(act, drain_limit=2)
    with pytest.raises(ExceptionGroup) as caught:
        script.run()
    assert "Go and A went round" in str(caught.value.exceptions[0])
    assert script.engine.active_states == (Lamp.Go, Lamp.A)


def test_one_transition_is_within_every_limit() -> None:
    """Also where it is an error's, which was not made by a mutation."""

    @Lamp.Error.on_enter
    def handled(t: Transition) -> None:
        pass

    engine = Engine(Lamp, handled, drain_limit=1)
    assert engine.add(Lamp.A)
    assert engine.add_error(ValueError()).executed
    assert engine.active_states == (Lamp.A, Lamp.Error)
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Lamp.Armed)  # an automatic round would follow
    assert "Armed went round" in str(caught.value.exceptions[0])
    assert engine.active_states == (Lamp.A, Lamp.Armed, Lamp.Error)


def test_the_default_drain_limit_is_ten_thousand() -> None:
    """A longer chain that comes to an end is stopped all the same; the limit can be raised."""
    left = 0

    @Lamp.Many.on_enter
    def again(t: Transition) -> None:
        nonlocal left
        left -= 1
        if left:
            engine.add(Lamp.Many)

    engine = Engine(Lamp, again)
    left = 10_000
    engine.add(Lamp.Many)
    assert left == 0
    left = 10_001
    with pytest.raises(ExceptionGroup, match="unhandled in machine"):
        engine.add(Lamp.Many)
    assert left == 1
    engine = Engine(Lamp, again, drain_limit=10_001)
    left = 10_001
    engine.add(Lamp.Many)
    assert left == 0


def test_an_error_made_in_a_handler_has_a_result_too() -> None:
    """Queued at first, executed once Error came; with what waits, canceled when the machine closes before that."""
    results: list[Result] = []

    @Lamp.Error.on_enter
    def handled(t: Transition) -> None:
        assert results[0].queued

    script = Script(lambda engine: results.append(engine.add_error(ValueError())))
    script.engine.bind(handled)
    script.run()
    (result,) = results
    assert isinstance(result, Queued) and result.executed

    def act(engine: Engine) -> None:
        results.append(engine.add_error(ValueError("late")))
        results.append(engine.add(Lamp.A))
        engine.close()

    results.clear()
    script = Script(act)
    with pytest.raises(ExceptionGroup) as caught:
        script.run()
    assert str(caught.value.exceptions[0]) == "late"
    for result in results:
        assert isinstance(result, Queued) and isinstance(result.outcome, Canceled)
        assert result.outcome.reason == f"machine {script.engine.id!r} is closing"


# ---- Results --------------------------------------------------------------------------------------------------------


def test_executed_is_one_shared_result() -> None:
    """Whatever the mutation did, or did not have to do."""
    engine = Engine(Lamp)
    results = [engine.add(Lamp.A), engine.add(Lamp.A), engine.remove(Lamp.B), engine.add(Lamp.B, why=1)]
    assert all(result is results[0] for result in results)
    executed = results[0]
    assert executed and executed.executed and not executed.canceled and not executed.queued
    assert repr(executed) == "<Executed>"
    assert not hasattr(executed, "tick")


def test_a_canceled_result_works_out_its_reason_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, of the machine as it was, however far it has gone on."""

    class Door(Schema):
        Locked = State()
        Open = State(require="Unlocked")
        Unlocked = State()

    asked: list[object] = []
    explained = Engine._explained
    monkeypatch.setattr(Engine, "_explained", staticmethod(lambda *args: asked.append(args) or explained(*args)))
    engine = Engine(Door)
    result = engine.add(Door.Open)
    assert isinstance(result, Canceled) and not result
    assert result.canceled and not result.executed and not result.queued
    assert not hasattr(result, "tick")
    assert asked == []
    engine.add(Door.Unlocked)
    reason = result.reason
    assert "Open cannot activate: it requires Unlocked, which is inactive" in reason
    assert result.reason is reason and len(asked) == 1
    assert repr(result) == f"<Canceled: {reason}>"


def test_queue_ticks_count_what_was_canceled_with_the_queue() -> None:
    """After a drain that did not settle the next queue tick is that of the next queued mutation."""
    ticks: list[int] = []

    def act(engine: Engine) -> None:
        ticks.append(engine.add(Lamp.A).tick)
        engine.add(Lamp.B, first=True)
        ticks.append(engine.remove(Lamp.C).tick)

    script = Script(act, drain_limit=1)
    for _ in range(2):
        with pytest.raises(ExceptionGroup, match="unhandled"):
            script.run()
    assert ticks == [1, 2, 3, 4]
