"""Strategies: whatever they give is valid, all that they promise can come, and mistakes are told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TypedDict

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument, NoSuchExample

import trsm
from trsm import Engine, ErrorState, HandlerError, MutationError, Schema, State, Transition, UnknownState
from trsm.testing import Mutation, Reached, machines, mutations, schemas

FIND = settings(max_examples=1000, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink))


@attrs.frozen
class Coin:
    value: int
    _mint: str = "here"


@dataclasses.dataclass(frozen=True)
class Ticket:
    day: int


class Pair(tuple[int, int]):
    """Made of one iterable, and shown as a tuple."""

    def __new__(cls, numbers: tuple[int, int] = (1, 2)) -> Pair:
        return super().__new__(cls, numbers)


class Gate(Schema):
    Locked = State(remove="Unlocked")
    Unlocked = State(remove=Locked, args=Coin)
    Special = State(args=Ticket)
    Log = State(multi=True)
    ErrJam = ErrorState(catches=OSError)


class Handlers:
    def __init__(self) -> None:
        self.logged = 0

    @Gate.Log.on_enter
    def log(self, t: Transition) -> None:
        self.logged += 1


# ---- Values of wrong types ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: schemas(auto=1), TypeError, r"schemas\(auto=1\): write True or False"),
        (lambda: schemas(min_states="1"), ValueError, r"schemas\(min_states='1', max_states=8\): write whole numbers"),
        (lambda: schemas(name="a b"), TypeError, r"schemas\(name='a b'\): write the name of a class, such as 'Random'"),
        (lambda: schemas(name=3), TypeError, r"schemas\(name=3\): write the name of a class"),
        (lambda: mutations(Gate, max_called="x"), ValueError, r"mutations\(…, max_called='x'\): write a whole number"),
        (lambda: mutations(Gate, kinds=3), ValueError, r"mutations\(…, kinds=3\): write some of 'add', "),
        (lambda: mutations(Gate, arguments=3), TypeError, r"arguments=3\): write \{state: a strategy for calls of it"),
        (
            lambda: mutations(Gate, arguments={Gate.Unlocked: 3}),
            TypeError,
            r"3 is no strategy: write \{Gate\.Unlocked: st\.builds\(Gate\.Unlocked, …\)\}",
        ),
        (
            lambda: mutations(Gate, arguments={"Unlocked": st.just(Gate.Unlocked)}),
            MutationError,
            r"mutations\(…, arguments=…\): 'Unlocked' is a name, and a state is due",
        ),
        (
            lambda: mutations(Gate, arguments={State(): st.just(Gate.Unlocked)}),
            UnknownState,
            r"mutations\(…, arguments=…\): .* is not a state of Gate",
        ),
        (
            lambda: mutations(Gate, arguments={Gate.ErrJam: st.just(Gate.ErrJam)}),
            ValueError,
            r"ErrJam is an error state, which exceptions activate and no mutation calls",
        ),
        (lambda: mutations(Gate, keywords={}), TypeError, r"keywords=\{\}\): pass a strategy for dictionaries"),
        (lambda: machines(Gate, steps=3), TypeError, r"machines\(…, steps=3\): pass a strategy for mutations, such as"),
        (
            lambda: machines(Gate, min_mutations=3, max_mutations=2),
            ValueError,
            r"machines\(…, min_mutations=3, max_mutations=2\): write whole numbers from 0 on, the smaller one first",
        ),
        (
            lambda: Mutation(Gate, "add", (Gate.Log,), (), {}).apply(3),
            TypeError,
            r"add\(Gate\.Log\)\.apply\(3\): pass a machine or an engine",
        ),
        (
            lambda: find(mutations(Gate, keywords=st.just(3)), lambda step: True),
            InvalidArgument,
            r"keywords=…\): the strategy has drawn 3: let it draw dictionaries",
        ),
        (
            lambda: find(mutations(Gate, keywords=st.just({3: 4})), lambda step: True),
            InvalidArgument,
            r"keywords=…\): the strategy has drawn \{3: 4\}",
        ),
        (
            lambda: find(mutations(Gate, arguments={Gate.Log: st.just(3)}), lambda step: Gate.Log in step.states),
            InvalidArgument,
            r"arguments=…\): the strategy for Log has drawn 3, which is no call of it: write \{Gate\.Log: st\.builds",
        ),
        (
            lambda: find(mutations(Gate, arguments={Gate.Log: st.just(Gate.Locked)}), lambda step: False),
            InvalidArgument,
            r"the strategy for Log has drawn .*Locked.*, which is no call of it",
        ),
        (
            lambda: find(machines(Gate, steps=st.just(3), min_mutations=1), lambda reached: True),
            InvalidArgument,
            r"machines\(…, steps=…\): the strategy has drawn 3: let it draw Mutation values",
        ),
    ],
)
def test_values_of_wrong_types(call: Callable[[], object], error: type[Exception], words: str) -> None:
    """Where they are passed, or where a strategy has drawn them; what was called is named, and what to write."""
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("condition", "shortest"),
    [
        (lambda step: Gate.Log in step.states, "add(Gate.Log)"),
        (lambda step: {Gate.Log, Gate.Locked} <= set(step.states), "add(Gate.Locked, Gate.Log)"),
        (lambda step: step.kind == "remove" and Gate.ErrJam in step.states, "remove(Gate.ErrJam)"),
        (lambda step: step.kind == "set", "set(Gate.Locked)"),
    ],
)
def test_mutations_shrink(condition: Callable[[Mutation], bool], shortest: str) -> None:
    """To what the condition needs, and nothing besides."""
    found = find(mutations(Gate), condition, settings=FIND)
    assert sorted(re.findall(r"[\w.]+", repr(found))) == sorted(re.findall(r"[\w.]+", shortest))


# ---- Schemas --------------------------------------------------------------------------------------------------------


@given(schemas(error_states=True), st.data())
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_each_schema_can_be_driven(schema: type[Schema], data: st.DataObject) -> None:
    """Schemas of one to eight states, on which engines keep all relations."""
    assert 1 <= len(schema) - 1 <= 8
    engine = Engine(schema)
    if all(isinstance(state, ErrorState) or state.name == "Error" for state in schema):
        return  # nobody calls an error
    for step in data.draw(st.lists(mutations(schema), max_size=4)):
        step.apply(engine)
    for state in engine.active_states:
        assert all(engine.is_active(needed) for needed in schema.relations_of(state).require)
        assert not any(engine.is_active(other) for other in schema.relations_of(state).remove)


@given(schemas(error_states=True, min_states=2, max_states=3))
@settings(max_examples=400, database=None, phases=(Phase.generate,))
def test_error_states_keep_to_their_relations(schema: type[Schema]) -> None:
    """What removes an error state is removed by it, and so can neither require nor bring it: no schema is refused."""
    assert len(schema) >= 3


def shown(schema: type[Schema]) -> dict[str, object]:
    return schema.to_dict()["states"]  # type: ignore[return-value]


@pytest.mark.parametrize(
    "condition",
    [
        lambda schema: any(state.auto for state in schema),
        lambda schema: any(state.multi and not isinstance(state, ErrorState) for state in list(schema)[:-1]),
        lambda schema: any(state.latch for state in schema),
        lambda schema: any(isinstance(state, ErrorState) for state in list(schema)[:-1]),
        lambda schema: any(schema.relations_of(state).after for state in schema),
        lambda schema: any({"add", "require"} <= set(schema.between(a, b)) for a in schema for b in schema if a != b),
        lambda schema: any("remove" in schema.between(a, b) for a in list(schema)[:-1] for b in list(schema)[:-1]),
        lambda schema: len(schema) == 9,
        lambda schema: any(state.auto and state.multi for state in schema),
        lambda schema: any(state.auto and state.latch for state in schema),
        lambda schema: any(state.multi and state.latch for state in schema),
    ],
)
def test_everything_comes_and_shrinks(condition: Callable[[type[Schema]], bool]) -> None:
    """Each flag, relation and size is found; what is found has nothing besides."""
    found = find(schemas(error_states=True), condition, settings=FIND)
    assert sum(bool(form) for form in shown(found).values()) <= 2


def test_flags_that_are_not_wanted() -> None:
    """They do not come."""
    plain = schemas(auto=False, multi=False, latch=False, max_states=3)
    for unwanted in ("auto", "multi", "latch", "catches"):
        with pytest.raises(NoSuchExample):
            find(
                plain,
                lambda schema, unwanted=unwanted: unwanted in str(shown(schema)),
                settings=settings(FIND, max_examples=60),
            )


def test_smallest_schema() -> None:
    """One state and no more; or as many as there must be. It has the name that was asked for."""
    assert shown(find(schemas(), lambda schema: True, settings=FIND)) == {"A": {}}
    smallest = find(schemas(min_states=3, name="Mine"), lambda schema: True, settings=FIND)
    assert shown(smallest) == {"A": {}, "B": {}, "C": {}}
    assert smallest.__name__ == "Mine"


def test_failing_schema_is_shown_as_data() -> None:
    """Hypothesis prints a call that makes it again."""

    @given(schemas())
    @settings(max_examples=1, database=None, phases=(Phase.generate,))
    def fails(schema: type[Schema]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fails()
    assert "from_dict({'name':'Random','states':{'A':{}}})" in re.sub(r"\s", "", caught.value.__notes__[0])


@pytest.mark.parametrize(("smallest", "largest"), [(0, 3), (4, 3), (1, 27)])
def test_sizes_that_cannot_be(smallest: int, largest: int) -> None:
    """They are refused at once, with what to write."""
    with pytest.raises(ValueError, match="write whole numbers from 1 to 26, the smaller one first"):
        schemas(min_states=smallest, max_states=largest)


# ---- Mutations ------------------------------------------------------------------------------------------------------


@given(st.lists(mutations(Gate, keywords=st.fixed_dictionaries({"who": st.text(max_size=2)})), max_size=10))
def test_each_mutation_can_be_made(steps: list[Mutation]) -> None:
    """On an engine, and again by the text that it shows."""
    engine, written = Engine(Gate, Handlers()), Engine(Gate, Handlers())
    for step in steps:
        first = step.apply(engine)
        second = eval(f"written.{step!r}", {"written": written, "Gate": Gate})
        assert bool(first) == bool(second)
        assert engine.ticks == written.ticks


@pytest.mark.parametrize("kind", ["add", "remove", "set", "toggle", "mutate"])
def test_kinds(kind: str) -> None:
    """Each kind comes, and a choice of them is kept to."""
    assert find(mutations(Gate), lambda step: step.kind == kind, settings=FIND).kind == kind
    only = mutations(Gate, kinds=(kind,))  # type: ignore[arg-type]
    with pytest.raises(NoSuchExample):
        find(only, lambda step: step.kind != kind, settings=settings(FIND, max_examples=100))


def test_what_is_called() -> None:
    """Errors never; at most as many states as were said. The smallest adds the first state."""
    assert repr(find(mutations(Gate), lambda step: True, settings=FIND)) == "add(Gate.Locked)"
    steps = mutations(Gate, max_called=2)
    for unwanted in (
        lambda step: len(step.states) > 2 or len(step.dropped) > 2,
        lambda step: step.kind != "remove" and Gate.ErrJam in step.states,
        lambda step: set(step.states) & set(step.dropped),
    ):
        with pytest.raises(NoSuchExample):
            find(steps, unwanted, settings=settings(FIND, max_examples=100))
    assert repr(find(steps, lambda step: "remove(Gate.ErrJam)" in repr(step), settings=FIND)) == "remove(Gate.ErrJam)"


def test_arguments_are_drawn_by_their_types_and_written() -> None:
    """Fields of attrs and data classes, one without a leading underscore; of anything else what its repr says."""
    steps = mutations(Gate, kinds=("add",), max_called=1)
    coin = find(steps, lambda step: "Unlocked(" in repr(step), settings=FIND)
    assert repr(coin) == "add(Gate.Unlocked(value=0, mint=''))"
    ticket = find(steps, lambda step: "Special(" in repr(step), settings=FIND)
    assert repr(ticket) == "add(Gate.Special(day=0))"
    assert repr(Mutation(Gate, "add", (Gate.Log(),), (), {"why": "so"})) == "add(Gate.Log(), why='so')"


class Odd(Schema):
    Untyped = State(args=lambda value: value)


class Tuples(Schema):
    Of = State(args=Pair)


class Numbers(Schema):
    Of = State(args=int)


class Film(TypedDict):
    title: str


class Films(Schema):
    Shown = State(args=Film)


def test_arguments_by_a_strategy() -> None:
    """It is used in place of the types."""
    coins = st.builds(Gate.Unlocked, value=st.just(50))
    steps = mutations(Gate, arguments={Gate.Unlocked: coins}, kinds=("add",), max_called=1)
    step = find(steps, lambda one: "Unlocked" in repr(one), settings=FIND)
    assert repr(step) == "add(Gate.Unlocked(value=50, mint='here'))"
    odd = mutations(Odd, arguments={Odd.Untyped: st.builds(Odd.Untyped, st.integers())}, kinds=("add",))
    assert repr(find(odd, lambda one: True, settings=FIND)) == "add(Odd.Untyped(0))"
    tuples = mutations(Tuples, arguments={Tuples.Of: st.builds(Tuples.Of, st.just((3, 4)))}, kinds=("add",))
    assert repr(find(tuples, lambda one: True, settings=FIND)) == "add(Tuples.Of(*(3, 4)))"
    films = mutations(Films, arguments={Films.Shown: st.builds(Films.Shown, title=st.just("M"))}, kinds=("add",))
    assert repr(find(films, lambda one: True, settings=FIND)) == "add(Films.Shown(title='M'))"


def test_arguments_that_nobody_can_draw() -> None:
    """It says for which state, and what to pass."""
    words = r"mutations\(Odd\): the types of the arguments of Untyped do not say what to draw"
    with pytest.raises(InvalidArgument, match=words + r".*pass arguments=\{Odd.Untyped: st.builds\(Odd.Untyped, …\)\}"):
        mutations(Odd)
    with pytest.raises(UnknownState):
        mutations(Gate, arguments={Odd.Untyped: st.nothing()})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: mutations(Gate, kinds=()),
            "kinds=\\(\\)\\): write some of 'add', 'remove', 'set', 'toggle', 'mutate'",
        ),
        (lambda: mutations(Gate, kinds=("put",)), r"kinds=\('put',\)\): write some of 'add'"),
        (lambda: mutations(Gate, kinds="add"), r"kinds='add'\): write some of .*, in a tuple"),
        (lambda: mutations(Gate, max_called=0), r"max_called=0\): write a whole number, 1 or more"),
        (lambda: mutations(Gate, max_called=True), r"max_called=True\): write a whole number"),
        (lambda: mutations(Schema.define("Errors", {})), "Errors.*it has no states but errors"),
    ],
)
def test_mistakes(call: Callable[[], object], words: str) -> None:
    """Each is told, with what to write."""
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("strategy", [mutations, machines])
@pytest.mark.parametrize("schema", [3, int, Gate.Locked])
def test_what_is_no_schema(strategy: Callable[[object], object], schema: object) -> None:
    """It is shown, with what to pass."""
    with pytest.raises(TypeError, match=r"is no schema: pass a class that inherits from trsm\.Schema"):
        strategy(schema)


# ---- Machines -------------------------------------------------------------------------------------------------------


@given(machines(Gate, Handlers, max_mutations=5))
def test_engines_that_were_driven_somewhere(reached: Reached) -> None:
    """Each has lived the same life, with handlers of its own."""
    one, other = reached.engine(), reached.engine(id="other")
    assert one is not other
    assert other.id == "other"
    assert one.ticks == other.ticks
    again = Engine(Gate, Handlers())
    for step in reached.mutations:
        step.apply(again)
    assert again.ticks == one.ticks


@given(machines(Gate, Handlers, min_mutations=1, max_mutations=3))
async def test_machines_that_were_driven_somewhere(reached: Reached) -> None:
    """They are open for the length of a block, in the states of the engine."""
    assert 1 <= len(reached.mutations) <= 3
    async with reached.open(tags="driven") as machine:
        assert machine.ticks == reached.engine().ticks
        assert machine.tags == ("driven",)
        await trio.lowlevel.checkpoint()
    assert machine.closed


def test_any_set_of_states_is_reached() -> None:
    """With the fewest mutations that lead there, which it shows."""
    wanted = {"Unlocked", "Special", "Log"}
    reached = find(
        machines(Gate, Handlers),
        lambda one: {state.name for state in one.engine().active_states} == wanted,
        settings=FIND,
    )
    assert repr(reached).startswith("<Reached Gate by ")
    assert len(reached.mutations) <= 3
    assert repr(find(machines(Gate), lambda one: True, settings=FIND)) == "<Reached Gate by nothing>"


def test_machines_by_chosen_steps() -> None:
    """They are driven by these and no others."""
    reached = find(
        machines(Gate, steps=mutations(Gate, kinds=("set",))), lambda one: len(one.mutations) == 2, settings=FIND
    )
    assert {step.kind for step in reached.mutations} == {"set"}


@Gate.Log.on_exit
def left(t: Transition) -> None:
    """A handler by itself."""


@pytest.mark.parametrize("handler", [left, Handlers(), Handlers, lambda: Handlers()])
def test_handlers_of_every_form(handler: object) -> None:
    """A function that is a handler, an object, a class, and a function that makes one."""
    reached = find(machines(Gate, handler), lambda one: len(one.mutations) == 1, settings=FIND)
    assert reached.engine().tick(Gate.Locked) == 1


def test_modules_with_handlers() -> None:
    """They are bound as they are."""
    import sys

    module = type(sys)("handlers")
    exec("from trsm import Transition", module.__dict__)
    exec("def left(t: Transition) -> None: ...", module.__dict__)
    module.__dict__["left"] = Gate.Log.on_exit(module.__dict__["left"])
    assert find(machines(Gate, module), lambda one: True, settings=FIND).engine()


class Needy(Handlers):
    def __init__(self, path: str) -> None:
        super().__init__()


def test_handlers_that_need_arguments() -> None:
    """It says which, and what to pass."""
    words = (
        r"machines\(Gate, …\): Needy is made anew for each machine, without arguments, and needs some \(missing.*path"
    )
    with pytest.raises(TypeError, match=words + r".*pass a function that makes one: lambda: Needy\(…\)"):
        machines(Gate, Needy)
    assert isinstance(machines(Gate, lambda: Needy("x")), st.SearchStrategy)


def test_handlers_that_do_not_fit() -> None:
    """They are refused when the strategy is made."""
    with pytest.raises(HandlerError):
        machines(Gate, object)
    with pytest.raises(UnknownState):
        machines(Odd, Handlers)


def test_handler_made_by_what_shows_no_signature() -> None:
    """It is called, and says itself what is wrong."""
    with pytest.raises(HandlerError):
        machines(Gate, dict)
    assert trsm.testing.machines is machines


def test_schemas_with_error_states_have_something_to_call() -> None:
    """At least one state is none, so that mutations can be drawn for each of them."""
    with pytest.raises(NoSuchExample):
        find(
            schemas(error_states=True, max_states=3),
            lambda schema: all(isinstance(state, ErrorState) or state.name == "Error" for state in schema),
            settings=FIND,
        )
