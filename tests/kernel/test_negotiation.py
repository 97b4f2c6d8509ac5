"""Negotiation (DESIGN section 5, step 3): who is asked, in which order, what they see, and what they may do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trsm import Canceled, Engine, HandlerError, ReadOnly, Schema, State, Transition


class Life(Schema):
    Base = State()
    Top = State(require=Base)
    Old = State(require="Older")
    Older = State()
    Other = State()
    New = State(require="Newer", remove=[Old, Older], add="Extra")
    Newer = State()
    Extra = State()
    Many = State(multi=True)


class Asked:
    """Binds every negotiation handler of a schema, with pairs; refuses where it is told to, and keeps a log."""

    def __init__(self, schema: type[Schema], *refuse: str) -> None:
        self.is_on = False
        self.log: list[str] = []
        self.seen: list[Transition] = []
        self.refuse = set(refuse)
        states = [state for state in schema if state.name != "Error"]
        self.functions = [
            *(self._handler(getattr(state, kind), f"{kind} {state}")
              for kind in ("can_exit", "can_enter", "can_stay") for state in states),
            *(self._handler(state.can_enter(given=other), f"can_enter {state} given {other}")
              for state in states for other in states if other is not state),
            self._handler(schema.can_change, "can_change"),
        ]  # fmt: skip

    def _handler(self, mark: Callable[[Callable[..., bool]], object], name: str) -> object:
        def asked(t: Transition) -> bool:
            if not self.is_on:
                return True
            self.log.append(name)
            self.seen.append(t)
            return name not in self.refuse

        return mark(asked)


def asking(schema: type[Schema], *refuse: str, active: tuple[State[..., object], ...] = ()) -> tuple[Engine, Asked]:
    """An engine on which these states are active, and what it will ask from now on."""
    asked = Asked(schema, *refuse)
    engine = Engine(schema, *asked.functions)
    if active:
        assert engine.add(*active)
    asked.is_on = True
    return engine, asked


# ---- Order ----------------------------------------------------------------------------------------------------------


def test_everyone_is_asked_in_the_documented_order() -> None:
    """Exits, enters, stays, pairs, change; leaving is the reverse of entering, stays in declaration order."""
    engine, asked = asking(Life, active=(Life.Old, Life.Older, Life.Other, Life.Top, Life.Base))
    assert engine.add(Life.New, Life.Newer)
    assert asked.log == [
        "can_exit Old", "can_exit Older",
        "can_enter Newer", "can_enter New", "can_enter Extra",
        "can_stay Base", "can_stay Top", "can_stay Other",
        "can_enter Newer given Base", "can_enter Newer given Top", "can_enter Newer given Old",
        "can_enter Newer given Older", "can_enter Newer given Other",
        "can_enter New given Base", "can_enter New given Top", "can_enter New given Old",
        "can_enter New given Older", "can_enter New given Other",
        "can_enter Extra given Base", "can_enter Extra given Top", "can_enter Extra given Old",
        "can_enter Extra given Older", "can_enter Extra given Other",
        "can_change",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "refusal",
    ["can_exit Older", "can_enter New", "can_enter Extra", "can_stay Top", "can_enter New given Old", "can_change"],
)
def test_the_first_refusal_ends_it(refusal: str) -> None:
    """Nobody is asked after it, nothing has changed, and an implied state's refusal cancels the call too."""
    active = (Life.Old, Life.Older, Life.Other, Life.Top, Life.Base)
    engine, asked = asking(Life, refusal, active=active)
    before, last = engine.ticks, engine.last_transition
    result = engine.add(Life.New, Life.Newer)
    assert isinstance(result, Canceled) and not result
    assert asked.log[-1] == refusal and asked.log.count(refusal) == 1
    assert engine.ticks == before and engine.last_transition is last and engine.error is None
    willing, everyone = asking(Life, active=active)
    assert willing.add(Life.New, Life.Newer)
    assert asked.log == everyone.log[: len(asked.log)]


def test_handlers_of_one_state_are_asked_in_the_order_of_binding_and_exits_in_the_reverse() -> None:
    """What was bound last leaves first."""
    log: list[str] = []

    class Handlers:
        @Life.Many.can_enter
        def enter_one(self, t: Transition) -> bool:
            log.append("enter one")
            return True

        @Life.Many.can_exit
        def exit_one(self, t: Transition) -> bool:
            log.append("exit one")
            return True

        @Life.Many.can_enter
        def enter_two(self, t: Transition) -> bool:
            log.append("enter two")
            return True

        @Life.Many.can_exit
        def exit_two(self, t: Transition) -> bool:
            log.append("exit two")
            return True

    engine = Engine(Life, Handlers())
    engine.add(Life.Many)
    engine.remove(Life.Many)
    assert log == ["enter one", "enter two", "exit two", "exit one"]


# ---- Who is asked ---------------------------------------------------------------------------------------------------


def test_a_multi_state_that_is_called_again_is_asked_to_enter_and_not_to_stay() -> None:
    """It runs its enter handlers again; it is no reason to ask for pairs with itself."""
    engine, asked = asking(Life, active=(Life.Many, Life.Other))
    assert engine.add(Life.Many)
    assert asked.log == ["can_enter Many", "can_stay Other", "can_enter Many given Other", "can_change"]
    refusing, _ = asking(Life, "can_enter Many", active=(Life.Many,))
    assert not refusing.add(Life.Many) and refusing.tick(Life.Many) == 1


def test_a_multi_state_that_is_not_called_is_asked_to_stay() -> None:
    """Only being called again makes the difference."""
    engine, asked = asking(Life, active=(Life.Many,))
    assert engine.add(Life.Other)
    assert asked.log == ["can_enter Other", "can_stay Many", "can_enter Other given Many", "can_change"]


def test_nobody_is_asked_to_stay_where_nothing_is_called() -> None:
    """Not on a remove, not on a mutate or toggle that only removes; on one that calls active ones, they are."""
    active = (Life.Base, Life.Other)
    asks: dict[str, Callable[[Engine], object]] = {
        "remove": lambda engine: engine.remove(Life.Other),
        "mutate": lambda engine: engine.mutate(remove=Life.Other),
        "toggle": lambda engine: engine.toggle(Life.Other),
    }
    for ask in asks.values():
        engine, asked = asking(Life, "can_stay Base", active=active)
        assert ask(engine)
        assert asked.log == ["can_exit Other", "can_change"]
    for ask in (
        lambda engine: engine.add(Life.Other),
        lambda engine: engine.set(Life.Base, Life.Other),
        lambda engine: engine.mutate(add=Life.Other, remove=Life.New),
    ):
        engine, asked = asking(Life, "can_stay Base", active=active)
        assert not ask(engine)
        assert asked.log == ["can_stay Base"]


def test_what_a_called_state_is_called_on_stays_too() -> None:
    """A plain active state that is called again stays, and is asked so."""
    engine, asked = asking(Life, "can_stay Other", active=(Life.Other,))
    assert not engine.add(Life.Other)
    assert asked.log == ["can_stay Other"]


def test_changes_are_asked_about_only_if_a_tick_moves() -> None:
    """An add of what is there, or a remove of what is not, changes nothing."""
    engine, asked = asking(Life, "can_change", active=(Life.Other,))
    assert engine.add(Life.Other) and engine.remove(Life.Base)
    assert "can_change" not in asked.log
    assert not engine.add(Life.Base)
    assert asked.log[-1] == "can_change"


def test_a_pair_is_asked_where_the_other_was_active_whether_it_stays_or_leaves() -> None:
    """It is not asked where the other comes at the same time, or is not there."""
    engine, asked = asking(Life, active=(Life.Old, Life.Older))
    engine.add(Life.New, Life.Newer)
    pairs = [name for name in asked.log if "given" in name]
    assert pairs == [f"can_enter {new} given {old}" for new in ("Newer", "New", "Extra") for old in ("Old", "Older")]


def test_a_relation_that_cancels_asks_nobody() -> None:
    """The target is resolved first."""
    engine, asked = asking(Life)
    assert not engine.add(Life.Top)
    assert asked.log == []


# ---- What they see --------------------------------------------------------------------------------------------------


def test_negotiation_sees_the_machine_as_it_was_and_the_target() -> None:
    """Ticks and active states are those before; who comes and goes stands in `t`."""
    seen: list[bool] = []

    @Life.New.can_enter
    def look(t: Transition) -> bool:
        assert engine.active_states == (Life.Old, Life.Older)
        assert engine.tick(Life.New) == 0 and engine.last_transition is last
        assert t.before == engine.ticks and t.before[Life.New] == 0
        assert t.after[Life.New] == 1 and t.after[Life.Old] == 2
        assert t.target == (Life.New, Life.Newer, Life.Extra)
        assert t.entering == (Life.Newer, Life.New, Life.Extra) and t.leaving == (Life.Old, Life.Older)
        assert t.called == (Life.New, Life.Newer) and t.dropped == ()
        assert t.kind == "add" and not t.dry_run and not t.is_auto
        assert t.args == {"why": "test"}
        seen.append(True)
        return True

    engine = Engine(Life, look)
    engine.add(Life.Old, Life.Older)
    last = engine.last_transition
    assert engine.add(Life.New, Life.Newer, why="test")
    assert seen == [True]


def test_negotiation_sees_what_a_mutate_and_a_remove_drop() -> None:
    """Called and dropped are apart."""
    engine, asked = asking(Life, active=(Life.Base, Life.Top, Life.Other))
    engine.mutate(add=Life.Many, remove=[Life.Top, Life.Base])
    t = asked.seen[-1]
    assert (t.kind, t.called, t.dropped) == ("mutate", (Life.Many,), (Life.Base, Life.Top))
    engine.remove(Life.Other, Life.Base)
    t = asked.seen[-1]
    assert (t.kind, t.called, t.dropped) == ("remove", (), (Life.Base, Life.Other))


@pytest.mark.parametrize("answer", [None, 1, 0, "yes", [], object])
def test_a_handler_that_returns_no_bool_is_refused_at_its_first_call(answer: object) -> None:
    """The mutation is canceled with that reason, and the handler's error is reported."""

    @Life.Other.can_enter
    def vague(t: Transition) -> bool:
        return answer  # type: ignore[return-value]

    engine = Engine(Life, vague)
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Life.Other)
    (error,) = caught.value.exceptions
    assert isinstance(error, HandlerError)
    assert f"returned {answer!r}: a negotiation handler returns True or False" in str(error)
    assert engine.active_states == (Life.Error,)


# ---- What they may do -----------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Engine], object]] = {
    "add": lambda engine: engine.add(Life.Base),
    "add with arguments": lambda engine: engine.add(Life.Base, why=1),
    "remove": lambda engine: engine.remove(Life.Base),
    "set": lambda engine: engine.set(Life.Base),
    "toggle": lambda engine: engine.toggle(Life.Base),
    "mutate": lambda engine: engine.mutate(add=Life.Base),
    "add_error": lambda engine: engine.add_error(ValueError()),
    "close": lambda engine: engine.close(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["can_enter", "can_exit", "can_stay", "can_change"])
def test_a_change_of_this_machine_in_negotiation_is_refused_there(change: str, kind: str) -> None:
    """It raises `ReadOnly`, which names the handler; where that is caught, the mutation goes on."""

    def look(t: Transition) -> bool:
        with pytest.raises(ReadOnly) as caught:
            CHANGES[change](engine)
        doing = change.partition(" ")[0]
        assert f"{doing} of machine 'asked' in the negotiation handler" in str(caught.value)
        assert "look)" in str(caught.value) or "look:" in str(caught.value)
        assert "what is asked may look, and not change; do it in an on_enter or on_exit handler" in str(caught.value)
        seen.append(kind)
        return True

    seen: list[str] = []
    mark = Life.can_change if kind == "can_change" else getattr(Life.Other, kind)
    engine = Engine(Life, mark(look), id="asked")
    assert engine.add(Life.Other) and engine.add(Life.Many) and engine.remove(Life.Other)
    assert kind in seen
    assert engine.active_states == (Life.Many,) and not engine.closed


def test_a_read_only_that_nobody_catches_is_a_fault_in_negotiation() -> None:
    """The mutation is canceled, and the error is reported."""

    @Life.Other.can_enter
    def meddle(t: Transition) -> bool:
        return bool(engine.add(Life.Base))

    engine = Engine(Life, meddle)
    with pytest.raises(ExceptionGroup) as caught:
        engine.add(Life.Other)
    assert isinstance(caught.value.exceptions[0], ReadOnly)
    assert engine.active_states == (Life.Error,)


def test_another_machine_may_be_changed_in_negotiation() -> None:
    """Only the machine that asks is read-only."""
    other = Engine(Life)

    @Life.Other.can_enter
    def ask(t: Transition) -> bool:
        return other.add(Life.Base).executed

    assert Engine(Life, ask).add(Life.Other)
    assert Life.Base in other


def test_a_machine_that_is_changed_again_after_negotiation() -> None:
    """Being asked ends with the answer: final handlers of the same transition may mutate."""
    engine, asked = asking(Life)

    @Life.Other.on_enter
    def act(t: Transition) -> None:
        engine.add(Life.Base)

    engine.bind(act)
    assert engine.add(Life.Other)
    assert engine.active_states == (Life.Base, Life.Other) and "can_enter Base" in asked.log


# ---- Dry runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [None, "can_enter Newer", "can_exit Old", "can_change"])
def test_a_dry_run_asks_relations_and_handlers_and_changes_nothing(refusal: str | None) -> None:
    """The same questions in the same order as the mutation, with ``t.dry_run`` true, and the same answer."""
    active = (Life.Old, Life.Older)
    engine, asked = asking(Life, *([] if refusal is None else [refusal]), active=active)
    before, last = engine.ticks, engine.last_transition
    assert engine.can_add(Life.New, Life.Newer) is (refusal is None)
    assert engine.ticks == before and engine.last_transition is last
    assert all(t.dry_run for t in asked.seen)
    assert "(dry run)" in repr(asked.seen[0])
    questions = asked.log.copy()
    asked.log.clear()
    asked.seen.clear()
    assert engine.add(Life.New, Life.Newer).executed is (refusal is None)
    assert asked.log == questions
    assert not any(t.dry_run for t in asked.seen)


def test_a_dry_run_by_relations() -> None:
    """Nobody is asked about what the relations refuse anyway."""
    engine, asked = asking(Life)
    assert engine.can_add(Life.Base) and not engine.can_add(Life.Top) and engine.can_add(Life.Top, Life.Base)
    asked.log.clear()
    assert not engine.can_add(Life.Old)
    assert asked.log == []


def test_a_dry_run_of_a_remove() -> None:
    """``can_exit`` is asked; a latched state cannot go; what is not there can."""

    class Race(Schema):
        Won = State(latch=True)
        Running = State()

    engine, asked = asking(Race, "can_exit Running", active=(Race.Running, Race.Won))
    assert not engine.can_remove(Race.Running)
    assert asked.log == ["can_exit Running"]
    assert not engine.can_remove(Race.Won)
    assert engine.active_states == (Race.Won, Race.Running)
    asked.refuse.clear()
    assert engine.can_remove(Race.Running) and not engine.can_remove(Race.Running, Race.Won)
    assert engine.can_remove(Race.Error)


def test_a_dry_run_passes_arguments() -> None:
    """Handlers read them as in the mutation itself."""

    class Fetch(Schema):
        Fetching = State(args=lambda url: url)

    @Fetch.Fetching.can_enter
    def is_local(t: Transition) -> bool:
        return str(t.args_of(Fetch.Fetching)).startswith("file:") and t.args == {"by": "me"}

    @Fetch.Fetching.can_exit
    def is_mine(t: Transition) -> bool:
        return t.args.get("by") == "me"

    engine = Engine(Fetch, is_local, is_mine)
    assert engine.can_add(Fetch.Fetching("file:a"), by="me")
    assert not engine.can_add(Fetch.Fetching("file:a"))
    assert not engine.can_add(Fetch.Fetching("http:a"), by="me")
    assert engine.add(Fetch.Fetching("file:a"), by="me")
    assert engine.can_remove(Fetch.Fetching, by="me") and not engine.can_remove(Fetch.Fetching, by="you")


@pytest.mark.parametrize("ask", ["can_add", "can_remove", "explain"])
def test_a_handler_that_raises_in_a_dry_run_raises_to_the_caller(ask: str) -> None:
    """And activates nothing: there is no Error, and the machine goes on."""
    error = ValueError("asked")

    def fail(t: Transition) -> bool:
        assert t.dry_run
        raise error

    engine = Engine(Life)
    engine.add(Life.Other)
    before = engine.ticks
    engine.bind(Life.Other.can_exit(fail) if ask == "can_remove" else Life.Base.can_enter(fail))
    calls: dict[str, Callable[[], object]] = {
        "can_add": lambda: engine.can_add(Life.Base),
        "can_remove": lambda: engine.can_remove(Life.Other),
        "explain": lambda: engine.explain("add", Life.Base),
    }
    with pytest.raises(ValueError, match="asked") as caught:
        calls[ask]()
    assert caught.value is error
    assert engine.ticks == before and engine.error is None
    assert engine.add(Life.Many)


def test_asked_from_a_negotiation_handler_a_dry_run_answers_by_relations_only() -> None:
    """It asks nobody, least of all the one who asks."""
    answers: list[object] = []

    @Life.Other.can_enter
    def ask(t: Transition) -> bool:
        answers.append(engine.can_add(Life.Other))
        answers.append(engine.can_add(Life.Base))
        answers.append(engine.can_add(Life.Top))
        answers.append(engine.can_remove(Life.Many))
        answers.append(engine.explain("add", Life.Base).accepted)
        answers.append(engine.explain("add", Life.Top).accepted)
        return True

    def refuse(t: Transition) -> bool:
        asked.append(t)
        return False

    asked: list[Transition] = []
    engine = Engine(Life, ask)
    engine.add(Life.Many)
    engine.bind(Life.Base.can_enter(refuse))
    engine.bind(Life.Many.can_exit(refuse))
    assert engine.add(Life.Other)
    assert answers == [True, True, False, True, True, False] and asked == []
    assert not engine.can_add(Life.Base) and not engine.can_remove(Life.Many) and len(asked) == 2


def test_a_dry_run_in_a_final_handler_asks_everyone() -> None:
    """There the machine has changed already, and the next mutation is what is asked about."""
    answers: list[bool] = []

    @Life.Base.on_enter
    def ask(t: Transition) -> None:
        answers.append(engine.can_add(Life.Top))
        answers.append(engine.can_add(Life.Other))

    engine, asked = asking(Life, "can_enter Other")
    engine.bind(ask)
    engine.add(Life.Base)
    assert answers == [True, False]
    assert asked.log[-1] == "can_enter Other"


def test_what_is_no_exception_goes_through_a_dry_run() -> None:
    """Nothing is caught there, and nothing is closed."""

    @Life.Base.can_enter
    def stop(t: Transition) -> bool:
        raise KeyboardInterrupt

    engine = Engine(Life, stop)
    with pytest.raises(KeyboardInterrupt):
        engine.can_add(Life.Base)
    assert not engine.closed and engine.add(Life.Other)


def test_a_closed_machine_can_do_nothing() -> None:
    """Nobody is asked."""
    engine, asked = asking(Life)
    engine.close()
    assert not engine.can_add(Life.Base) and not engine.can_remove(Life.Base)
    assert asked.log == []
