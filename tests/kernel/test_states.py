"""States themselves: names, frozenness, arguments, what a mutation takes; latches; limits; words of messages."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import attrs
import pytest

import trsm
from trsm import (
    Call,
    Canceled,
    Engine,
    ErrorState,
    HandlerError,
    MutationError,
    Schema,
    SchemaError,
    State,
    Transition,
    UnknownState,
)
from trsm._core._errors import listed, nearest
from trsm._core._limits import checked_limits


@attrs.frozen
class Url:
    url: str
    retries: int = attrs.field(default=3, validator=attrs.validators.ge(0))


@dataclass(frozen=True)
class Size:
    width: int = 4
    tags: list[str] = field(default_factory=list)


def pair(left: str, right: str = "r") -> tuple[str, str]:
    return left, right


class Fetch(Schema):
    Idle = State()
    Fetching = State(args=Url)
    Sized = State(args=Size)
    Pair = State(args=pair)
    Count = State(args=int)
    Span = State(args=range)
    Many = State(multi=True, args=Size)


ARGUED = (Fetch.Fetching, Fetch.Sized, Fetch.Pair, Fetch.Count, Fetch.Span, Fetch.Many)


class Seen:
    """Keeps what `args_of` says of each state that enters."""

    def __init__(self) -> None:
        self.args: list[object] = []
        self.free: list[dict[str, object]] = []

    @Fetch.on_change
    def change(self, t: Transition) -> None:
        self.args.extend(t.args_of(state) for state in t.entering)
        self.free.append(dict(t.args))


# --- What a state is -------------------------------------------------------------------------------------------------


def test_a_state_says_its_name() -> None:
    """Alone, after its schema, and in a repr."""
    assert Fetch.Idle.name == "Idle" == str(Fetch.Idle)
    assert Fetch.Idle.qualified_name == "Fetch.Idle"
    assert repr(Fetch.Idle) == "<State Fetch.Idle>"
    assert repr(Fetch.Error) == "<State Schema.Error>"
    assert Fetch.Fetching.args is Url
    assert Fetch.Idle.args is None


def test_a_state_that_is_declared_nowhere_has_no_name() -> None:
    """It says so, and its repr works all the same."""
    state = ErrorState(catches=OSError)
    with pytest.raises(SchemaError, match="this state has no name yet: declare it in the body of a Schema class"):
        _ = state.name
    assert repr(state) == "<ErrorState ?.?>"
    assert str(state) == "?"


def test_a_state_is_frozen() -> None:
    """Nothing can be set or deleted, be it public, private or new."""
    for name in ("auto", "name", "_name", "_lineage", "anything"):
        with pytest.raises(AttributeError, match=f"a state is frozen: {name} cannot be set; use extend"):
            setattr(Fetch.Idle, name, True)
        with pytest.raises(AttributeError, match=f"a state is frozen: {name} cannot be deleted"):
            delattr(Fetch.Idle, name)
    assert not Fetch.Idle.auto


@pytest.mark.parametrize("base", [State, ErrorState])
def test_a_state_cannot_be_inherited_from(base: type) -> None:
    """What differs goes elsewhere."""
    with pytest.raises(TypeError, match="Mine cannot inherit from State: put what differs in its args class or handl"):
        type("Mine", (base,), {})


@pytest.mark.parametrize("flag", ["auto", "multi", "latch"])
@pytest.mark.parametrize("value", [1, 0, "yes", [], math.nan])
def test_a_flag_that_is_no_bool_is_refused(flag: str, value: object) -> None:
    """When it is declared, extended or replaced; what is refused has no effect."""
    words = re.escape(f"{flag}={value!r} is no bool: write {flag}=True or {flag}=False")
    for make in (State, Fetch.Idle.extend, Fetch.Idle.replace):
        with pytest.raises(SchemaError, match=words):
            make(**{flag: value})


@pytest.mark.parametrize("relation", ["require", "add", "remove", "after"])
@pytest.mark.parametrize(("value", "shown"), [(3, "3"), (None, "None"), (["A", 4], "4"), (b"x", "120"), (Fetch, None)])
def test_a_relation_that_holds_neither_state_nor_name_is_refused(
    relation: str, value: object, shown: str | None
) -> None:
    """The member that is wrong is shown. A schema is a collection of states, and so it is taken."""
    for make in (State, Fetch.Idle.extend):
        if shown is None:
            make(**{relation: value})
            continue
        with pytest.raises(SchemaError) as caught:
            make(**{relation: value})
        assert str(caught.value) == f"{relation}={shown}: a relation names states; write a state, its name, or several"


def test_replacing_a_relation_by_something_else_is_refused() -> None:
    """None means: not given."""
    for relation in ("require", "add", "remove", "after"):
        with pytest.raises(SchemaError, match=f"^{relation}=3: a relation names states"):
            Fetch.Idle.replace(**{relation: 3})
    Fetch.Idle.replace(after=None)


def test_args_that_cannot_be_called_are_refused() -> None:
    """It is the class of the arguments, no instance."""
    with pytest.raises(SchemaError, match=r"args=3 cannot be called: write the class of the state's arguments"):
        State(args=3)


def test_args_that_are_a_state_are_refused() -> None:
    """In a class body a state hides the args class of its own name from the states below it."""

    class Order:
        pass

    assert State(args=Order).args is Order
    with pytest.raises(SchemaError) as caught:
        exec(
            "class Shop(Schema):\n    Order = State(args=Order)\n    Paid = State(args=Order)",
            {"Schema": Schema, "State": State, "Order": Order, "__name__": __name__},
        )
    assert str(caught.value) == (
        "args= was given a state, and no class: above it in this class body stands a state of the same name; give the "
        "args class another name, such as OrderArgs"
    )


# --- Calling a state -------------------------------------------------------------------------------------------------


def test_calling_a_state_makes_its_arguments() -> None:
    """Positional, by keyword, by default: attrs, dataclass, function and builtins alike."""
    calls: list[tuple[Call[object], object]] = [
        (Fetch.Fetching("a"), Url("a", 3)),
        (Fetch.Fetching(url="a", retries=1), Url("a", 1)),
        (Fetch.Sized(), Size(4)),
        (Fetch.Sized(width=2), Size(2)),
        (Fetch.Pair("l"), ("l", "r")),
        (Fetch.Count(), 0),
        (Fetch.Count("7"), 7),
        (Fetch.Span(2, 5), range(2, 5)),
        (Fetch.Idle(), None),
    ]
    for call, args in calls:
        assert call.args == args
        assert call.state in Fetch
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        calls[0][0].args = None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: Fetch.Fetching(),
            "Fetching(…): missing a required argument: 'url'; it takes (url: 'str', retries: 'int' = 3)",
        ),
        (
            lambda: Fetch.Fetching("a", address="b"),
            "Fetching(…): got an unexpected keyword argument 'address'; it take",
        ),
        (lambda: Fetch.Sized(1, [], 3), "Sized(…): too many positional arguments; it takes (width: 'int' = 4, tags"),
        (
            lambda: Fetch.Pair(),
            "Pair(…): missing a required argument: 'left'; it takes (left: 'str', right: 'str' = 'r')",
        ),
        (lambda: Fetch.Span(), "Span(…): range expected at least 1 argument"),
        (lambda: Fetch.Count(1, 2, 3), "Count(…): "),
        (lambda: Fetch.Idle(1), "Idle takes no arguments: declare Idle = State(args=…), or pass free keywords"),
        (lambda: Fetch.Idle(a=1), "Idle takes no arguments"),
    ],
)
def test_calling_a_state_with_the_wrong_arguments(call: Callable[[], object], words: str) -> None:
    """Refused at the call, with what it takes."""
    with pytest.raises(MutationError) as caught:
        call()
    assert words in str(caught.value)


def test_what_an_args_class_itself_refuses_goes_to_the_caller() -> None:
    """A validator's exception is the user's own."""
    with pytest.raises(ValueError, match="'retries' must be >= 0") as caught:
        Fetch.Fetching("a", retries=-3)
    assert not isinstance(caught.value, MutationError)
    with pytest.raises(ValueError, match="invalid literal") as invalid:
        Fetch.Count("x")
    assert not isinstance(invalid.value, MutationError)


def test_arguments_reach_the_handlers() -> None:
    """The very instance that was passed, the class's defaults, or None where the state has no args class."""
    seen = Seen()
    engine = Engine(Fetch, seen)
    url = Fetch.Fetching("a")
    engine.add(url, Fetch.Sized, Fetch.Count, Fetch.Idle, first=True)
    assert seen.args == [None, Url("a"), Size(4), 0]
    assert seen.args[1] is url.args
    assert seen.free == [{}]


@attrs.define(eq=False)
class Basket:
    """Two are never equal, and what a handler puts in the next one finds."""

    items: list[str] = attrs.field(factory=list)


class Shop(Schema):
    Open = State(args=Basket)
    Till = State(auto=True, require=Open, args=Basket)
    Guard = State(auto=True, require=Open)
    Failed = State(args=Basket)
    ErrLate = ErrorState(catches=OSError)
    Error = Schema.Error.extend(add=Failed)


def test_default_arguments_are_one_instance_for_all_who_read_them() -> None:
    """Of a state that is called bare, from outside and in a handler, and for whoever reads them later."""
    seen: list[object] = []

    @Shop.Open.can_enter
    def ask(t: Transition) -> bool:
        t.args_of(Shop.Open).items.append("asked")
        return True

    @Shop.Open.on_enter
    def act(t: Transition) -> None:
        seen.append(t.args_of(Shop.Open))
        t.machine.toggle(Shop.Failed)

    @Shop.Failed.on_enter
    def failed(t: Transition) -> None:
        seen.append(t.args_of(Shop.Failed))

    engine = Engine(Shop, ask, act, failed)
    engine.add(Shop.Open)
    opened, queued = seen
    assert isinstance(opened, Basket) and opened.items == ["asked"]
    assert engine.last_transition.args_of(Shop.Failed) is queued
    engine.remove(Shop.Open)
    engine.add(Shop.Open)
    assert seen[2] is not opened and cast("Basket", seen[2]).items == ["asked"]


def test_default_arguments_of_a_transition_that_nobody_saw_are_one_instance() -> None:
    """It is made when it is read, and so are they."""
    engine = Engine(Shop)
    engine.add(Shop.Failed)
    first = engine.last_transition.args_of(Shop.Failed)
    assert engine.last_transition.args_of(Shop.Failed) is first
    assert engine.last_transition.args == {}


@pytest.mark.parametrize("is_from_handler", [True, False])
def test_default_arguments_are_kept_when_the_automatic_round_is_taken_again(is_from_handler: bool) -> None:
    """What was put there before somebody else refused is there still; with a cause and without."""
    seen: list[object] = []

    @Shop.Till.can_enter
    def ask(t: Transition) -> bool:
        seen.append(t.args_of(Shop.Till))
        return True

    @Shop.Guard.can_enter
    def refuse(t: Transition) -> bool:
        return False

    @Shop.Till.on_enter
    def act(t: Transition) -> None:
        seen.append(t.args_of(Shop.Till))

    @Shop.Failed.on_enter
    def opens(t: Transition) -> None:
        t.machine.add(Shop.Open)

    engine = Engine(Shop, ask, refuse, act, opens)
    engine.add(Shop.Failed if is_from_handler else Shop.Open)
    assert len(seen) == 2 and seen[0] is seen[1]
    assert (engine.last_transition.source is not None) == is_from_handler


def test_default_arguments_are_kept_when_an_error_is_taken_again() -> None:
    """What an error brings has them from the first question on."""
    seen: list[object] = []

    @Shop.ErrLate.can_enter
    def refuse(t: Transition) -> bool:
        seen.append(t.args_of(Shop.Failed))
        return False

    @Shop.Failed.on_enter
    def act(t: Transition) -> None:
        seen.append(t.args_of(Shop.Failed))

    @Shop.Error.on_enter
    def handled(t: Transition) -> None:
        assert isinstance(t.error, OSError)

    Engine(Shop, refuse, act, handled).add_error(OSError())
    assert len(seen) == 2 and seen[0] is seen[1]


def test_a_dry_run_has_default_arguments_of_its_own() -> None:
    """All whom it asks read the same, and it leaves nothing to the mutation that follows."""
    seen: list[object] = []

    @Shop.Open.can_enter
    def ask(t: Transition) -> bool:
        seen.append(t.args_of(Shop.Open))
        return True

    @Shop.can_change
    def change(t: Transition) -> bool:
        if not t.is_auto:
            seen.append(t.args_of(Shop.Open))
        return True

    engine = Engine(Shop)
    engine.bind(ask)
    engine.bind(change)
    for do in (engine.can_add, partial(engine.explain, "add"), engine.add):
        do(Shop.Open)
    assert [one is seen[0] for one in seen[:3]] == [True, True, False]
    assert seen[2] is seen[3] and seen[4] is seen[5]
    assert seen[2] is not seen[4]


def test_free_keywords_reach_the_handlers() -> None:
    """`first` and `scope` are reserved, all else is free, the names of fields included."""
    seen = Seen()
    engine = Engine(Fetch, seen)
    engine.add(Fetch.Idle, url="a", kind=3, state=4, first=False, scope=None)
    engine.remove(Fetch.Idle, why="done")
    assert seen.free == [{"url": "a", "kind": 3, "state": 4}, {"why": "done"}]


def test_free_keywords_cannot_be_written_to() -> None:
    """Handlers read them."""
    engine = Engine(Fetch)
    engine.add(Fetch.Idle, note=1)
    with pytest.raises(TypeError, match="does not support item assignment"):
        engine.last_transition.args["note"] = 2


def test_arguments_of_a_state_that_neither_was_called_nor_enters() -> None:
    """There are none; a state that was called and active already has them all the same."""
    engine = Engine(Fetch)
    engine.add(Fetch.Idle)
    with pytest.raises(LookupError, match=r"t.args_of\(Sized\): this transition neither called Sized nor does Sized"):
        engine.last_transition.args_of(Fetch.Sized)
    engine.add(Fetch.Idle, Fetch.Sized(width=1))
    engine.add(Fetch.Sized(width=2))
    assert engine.last_transition.args_of(Fetch.Sized) == Size(2)
    engine.add(Fetch.Sized)
    assert engine.last_transition.args_of(Fetch.Sized) == Size(4)
    with pytest.raises(UnknownState, match=r"t\.args_of\(…\): \?\.\? is not a state of Fetch"):
        engine.last_transition.args_of(State())


def test_arguments_of_an_inherited_state_are_found_under_each_of_its_names() -> None:
    """Called by one of the lineage, read by another."""

    class Wider(Fetch):
        Fetching = Fetch.Fetching.extend(multi=True)

    engine = Engine(Wider)
    engine.add(Fetch.Fetching("a"))
    assert engine.last_transition.args_of(Wider.Fetching) == Url("a")
    engine.add(Wider.Fetching("b"))
    assert engine.last_transition.args_of(Fetch.Fetching) == Url("b")


# --- What a mutation takes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["add", "set", "toggle", "mutate", "can_add"])
def test_a_state_whose_required_arguments_are_missing(kind: str) -> None:
    """Refused before any effect, with the call to write."""
    engine = Engine(Fetch)
    call: Callable[[object], object] = {
        "add": engine.add,
        "set": engine.set,
        "toggle": engine.toggle,
        "can_add": engine.can_add,
        "mutate": lambda state: engine.mutate(add=state),
    }[kind]
    with pytest.raises(MutationError) as caught:
        call(Fetch.Fetching)
    assert str(caught.value) == f"{kind}(Fetching): Fetching needs url: write Fetch.Fetching(url=…)"
    with pytest.raises(MutationError) as caught:
        call(Fetch.Span)
    assert str(caught.value) == f"{kind}(Span): Span needs its arguments: write Fetch.Span(…)"
    assert engine.tick(Fetch.Fetching) == 0
    assert call(Fetch.Fetching("a"))
    assert call(Fetch.Sized)


def test_a_toggle_that_removes_needs_no_arguments() -> None:
    """Only what is added is called with some."""
    engine = Engine(Fetch)
    engine.add(Fetch.Fetching("a"))
    assert engine.toggle(Fetch.Fetching)
    assert engine.is_inactive(Fetch.Fetching)


def test_mutations_take_states_and_no_names() -> None:
    """Strings are for relations; the message says what to write."""
    engine = Engine(Fetch)
    with pytest.raises(MutationError, match=r"^add: 'Idle' is a name, and a state is due: write Fetch\.Idle$"):
        engine.add("Idle")
    with pytest.raises(MutationError, match=r"^remove: 'Idel' is a name, and a state is due: did you mean 'Idle'\?$"):
        engine.remove("Idel")
    with pytest.raises(MutationError, match=r"is_active: 'Idle' is a name"):
        engine.is_active("Idle")
    with pytest.raises(MutationError, match=r"mutate\(remove=…\): 'Idle' is a name"):
        engine.mutate(remove="Idle")
    assert engine.active_states == ()


@pytest.mark.parametrize("wrong", [3, None, [Fetch.Idle], Fetch, object, {"a": 1}])
def test_mutations_take_states_and_nothing_else(wrong: object) -> None:
    """Whatever it is, it is shown, with an example of what to write."""
    engine = Engine(Fetch)
    for mutate in (
        engine.add,
        engine.set,
        engine.toggle,
        engine.remove,
        engine.can_add,
        engine.can_remove,
        engine.tick,
    ):
        with pytest.raises(MutationError) as caught:
            mutate(wrong)
        assert f"{wrong!r} is no state: write one of Fetch, such as Fetch.Idle" in str(caught.value)
    assert engine.last_transition.tick == 0


def test_a_mutation_names_at_least_one_state() -> None:
    """Asking for nothing is a mistake."""
    engine = Engine(Fetch)
    for doing in ("add", "remove", "set", "toggle", "can_add", "can_remove", "is_active", "is_inactive", "any_active"):
        with pytest.raises(MutationError) as caught:
            getattr(engine, doing)()
        assert str(caught.value) == f"{doing}() names no state: write at least one, such as Fetch.Idle"
    with pytest.raises(MutationError, match=r"mutate\(\) names no state: write add=…, remove=… or both"):
        engine.mutate()
    with pytest.raises(MutationError, match="Idle cannot be added and removed at once: leave out one of the two"):
        engine.mutate(add=(Fetch.Idle, Fetch.Sized), remove=[Fetch.Idle])
    with pytest.raises(MutationError, match=r"mutate\(Idle, Sized\) does not say what with: write add=…, remove=…"):
        engine.mutate(Fetch.Idle, Fetch.Sized, add=Fetch.Idle)
    assert engine.active_states == ()


def test_a_call_where_nobody_reads_arguments_is_refused() -> None:
    """Removing and asking take states."""
    engine = Engine(Fetch)
    words = r"Sized\(…\) carries arguments, which nobody would read here: write Fetch\.Sized"
    for ask in (engine.remove, engine.can_remove, engine.is_active, engine.tick):
        with pytest.raises(MutationError, match=words):
            ask(Fetch.Sized(width=1))


def test_one_state_called_twice_with_arguments_is_refused() -> None:
    """Which of the two would it be?"""
    engine = Engine(Fetch)
    with pytest.raises(MutationError, match="add: Many is called twice with arguments: make two mutations of it"):
        engine.add(Fetch.Many(width=1), Fetch.Many(width=2))
    assert engine.add(Fetch.Many(width=1), Fetch.Many)
    assert engine.last_transition.args_of(Fetch.Many) == Size(1)


def test_a_call_of_a_state_of_another_schema_is_unknown() -> None:
    """As the state itself is."""

    class Other(Schema):
        Fetching = State(args=Url)

    with pytest.raises(
        UnknownState, match=r"add: Other\.Fetching is not a state of Fetch: Fetch has a Fetching of its"
    ):
        Engine(Fetch).add(Other.Fetching("a"))


def test_calls_are_not_remembered() -> None:
    """A call with nothing means its state, and each is an object of its own, which no cache holds."""
    engine = Engine(Fetch)
    call = Fetch.Idle()
    engine.add(call)
    engine.add(Fetch.Idle)
    gc.collect()
    assert not [one for one in gc.get_referrers(call) if isinstance(one, tuple)]
    assert engine.active_states == (Fetch.Idle,)


def test_remembered_mutations_are_bounded() -> None:
    """More different ones than are remembered give the same answers."""
    many = Schema.define("Many", {f"S{number}": State() for number in range(11)})
    engine = Engine(many)
    states = many.states[:11]
    for mask in range(1, 1 << 11):
        called = [state for number, state in enumerate(states) if mask >> number & 1]
        assert engine.set(*called)
        assert engine.active_states == tuple(called)
    assert max(map(len, many._definition.asked)) <= 1024


# --- Latches ---------------------------------------------------------------------------------------------------------


class Race(Schema):
    Running = State()
    Won = State(latch=True, remove="Lost")
    Lost = State(latch=True, remove=Won)
    Reset = State(remove=[Won, Lost])


def test_a_latch_never_leaves_while_the_machine_lives() -> None:
    """Neither removed nor displaced nor left out of a set."""
    engine = Engine(Race)
    assert engine.add(Race.Won, Race.Running)
    for refused in (engine.remove(Race.Won), engine.remove(Race.Won, Race.Running), engine.add(Race.Reset)):
        assert isinstance(refused, Canceled)
        assert "latched" in refused.reason
    assert not engine.toggle(Race.Won)
    assert not engine.mutate(add=Race.Running, remove=Race.Won)
    assert engine.active_states == (Race.Running, Race.Won)
    assert engine.set(Race.Running)
    assert engine.active_states == (Race.Running, Race.Won)
    assert engine.tick(Race.Won) == 1


def test_the_first_outcome_wins() -> None:
    """Two latches that exclude each other: whoever came first stays."""
    engine = Engine(Race)
    assert engine.add(Race.Lost)
    assert not engine.add(Race.Won)
    assert not engine.set(Race.Won)
    assert engine.active_states == (Race.Lost,)
    other = Engine(Race)
    assert not other.add(Race.Won, Race.Lost)
    assert other.add(Race.Won)
    assert not other.add(Race.Lost)


def test_a_latch_leaves_when_the_machine_closes() -> None:
    """Its `on_exit` runs then, and only then."""
    left: list[str] = []

    @Race.Won.on_exit
    def leave(t: Transition) -> None:
        left.append(t.kind)

    engine = Engine(Race, leave)
    engine.add(Race.Won)
    engine.remove(Race.Won)
    assert left == []
    engine.close()
    assert left == ["close"]
    assert engine.active_states == ()


# --- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["queue_limit", "drain_limit", "handler_budget"])
@pytest.mark.parametrize("value", [0, -1, True, False, "7", None, math.nan])
def test_a_limit_that_is_no_positive_number_is_refused(name: str, value: object) -> None:
    """The message says which, and what was given."""
    with pytest.raises(ValueError, match=f"{name}={value!r}: write a positive number"):
        Engine(Race, **{name: value})


@pytest.mark.parametrize("name", ["queue_limit", "drain_limit"])
@pytest.mark.parametrize("value", [1.5, 3.0, math.inf])
def test_a_limit_of_what_is_counted_is_a_whole_number(name: str, value: float) -> None:
    """Seconds are not, and may be as many as there are."""
    with pytest.raises(ValueError, match=f"{name}={value!r}: write a whole number"):
        Engine(Race, **{name: value})
    Engine(Race, handler_budget=value)


def test_limits_are_taken() -> None:
    """Whole numbers, fractions of a second, and infinity."""
    limits = checked_limits(1, 2, 0.5)
    assert (limits.queue_limit, limits.drain_limit, limits.handler_budget) == (1, 2, 0.5)
    Engine(Race, handler_budget=math.inf)


# --- Words of messages -----------------------------------------------------------------------------------------------


def test_names_are_listed_in_english() -> None:
    """None, one, two and three of them."""
    assert listed([]) == "nothing"
    assert listed(["A"]) == "A"
    assert listed(["A", "B"]) == "A and B"
    assert listed(iter(["A", "B", "C"])) == "A, B and C"


def test_the_nearest_name_is_a_hint() -> None:
    """A near one, all of them, at most twenty, or none."""
    assert nearest("Opne", ["Closed", "Open"]) == "did you mean 'Open'?"
    assert nearest("Zzz", ["A", "B"]) == "known: A, B"
    assert nearest("Zzz", []) == "there are none"
    assert nearest("Zzz", [f"A{number}" for number in range(20)]).endswith(", A19")
    assert nearest("Zzz", [f"A{number}" for number in range(21)]).endswith(", A19, …")


@pytest.mark.parametrize(
    ("name", "kin"),
    [
        ("SchemaError", ValueError),
        ("UnknownState", LookupError),
        ("HandlerError", TypeError),
        ("MutationError", ValueError),
        ("ReadOnly", RuntimeError),
        ("QueueFull", RuntimeError),
        ("NotSettled", RuntimeError),
        ("WrongThread", RuntimeError),
        ("MachineClosed", RuntimeError),
    ],
)
def test_every_exception_of_trsm_has_one_base_and_its_builtin_kin(name: str, kin: type[Exception]) -> None:
    """Who catches `TrsmError` catches all of them, who catches the builtin catches its kind."""
    error = getattr(trsm, name)
    assert issubclass(error, trsm.TrsmError)
    assert issubclass(error, kin)
    assert error.__module__ == "trsm"


def test_machine_closed_knows_the_machine() -> None:
    """So that a machine can tell its own."""
    engine = Engine(Race)
    error = trsm.MachineClosed("closed", engine)
    assert error.machine is engine
    assert str(error) == "closed"


# --- Decorators of a state -------------------------------------------------------------------------------------------


def test_given_and_then_take_states() -> None:
    """Names are for relations only."""
    with pytest.raises(HandlerError, match=r"given='Won' is no state: write the state itself, such as Race\.Running"):
        Race.Running.can_enter(given="Won")
    with pytest.raises(HandlerError, match=r"then='Won' is no state: write the state itself, such as Race\.Running"):
        Race.Running.task(then="Won")


@pytest.mark.parametrize("value", [0, -1, True, False, "7", math.nan])
def test_a_timeout_or_limit_that_is_no_positive_number(value: object) -> None:
    """Refused where it is written; a limit is whole."""
    with pytest.raises(HandlerError, match=f"timeout={value!r} is no positive number of seconds"):
        Race.Running.task(timeout=value)
    with pytest.raises(HandlerError, match=f"limit={value!r} is no positive number of tasks"):
        Race.Running.task(limit=value)
    with pytest.raises(HandlerError, match=r"limit=1\.5 is no positive number of tasks"):
        Race.Running.task(limit=1.5)
