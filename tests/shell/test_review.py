"""Defects that a reviewer found, each as the smallest program that showed it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import trsm
from trsm import Engine, ErrorState, MutationError, Schema, State, Transition


class Plain(Schema):
    """States that have nothing to do with one another."""

    A = State()
    B = State()
    C = State()


async def test_a_task_that_a_handler_starts_elsewhere_mutates_with_the_handler_as_its_cause() -> None:
    """The context that it inherits names the call that started it, also long after that has returned."""
    sources: list[trsm.Source | None] = []

    class Starts:
        def __init__(self, nursery: trio.Nursery) -> None:
            self.nursery = nursery

        @Plain.A.on_enter
        def start(self, t: Transition) -> None:
            self.nursery.start_soon(self.work, t.machine)

        @Plain.B.on_enter
        def note(self, t: Transition) -> None:
            sources.append(t.source)

        @Plain.C.on_enter
        def other(self, t: Transition) -> None:
            pass

        async def work(self, machine: trsm.Machine) -> None:
            machine.add(Plain.B)
            async with trsm.open_machine(Plain, self, id="other") as other:
                other.add(Plain.B)

    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Plain, Starts(nursery), id="first") as machine:
            machine.add(Plain.A)
            machine.add(Plain.C)
            await machine.when(Plain.B)
            await trio.testing.wait_all_tasks_blocked()
    assert [(source.machine, source.handler.rpartition(".")[2]) for source in sources if source] == [
        ("first", "start"),
        ("first", "start"),
    ]


def test_a_scope_that_is_none_is_refused_before_any_effect() -> None:
    """The handler that passes it hears of it at once, and the drain goes on."""
    refused: list[str] = []

    @Plain.A.on_enter
    def passes_nonsense(t: Transition) -> None:
        with pytest.raises(MutationError) as caught:
            engine.add(Plain.B, scope=object())
        refused.append(str(caught.value))
        engine.add(Plain.C)

    engine = Engine(Plain, passes_nonsense)
    engine.add(Plain.A)
    assert engine.is_active(Plain.C)
    assert engine.is_inactive(Plain.B)
    assert "pass a cancel scope, or leave scope out" in refused[0]


async def test_a_parent_that_a_childs_handler_closes_waits_for_the_child() -> None:
    """Children first, though the child is in a transition; grandchildren too."""
    log: list[str] = []

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        @Plain.A.on_exit
        def leave(self, t: Transition) -> None:
            log.append(self.name)

        @Plain.B.on_enter
        def close_all(self, t: Transition) -> None:
            root.close()
            log.append("asked")

    async with trsm.open_machine(Plain, Part("root")) as root:
        child = root.start_child(Plain, Part("child"))
        idle = root.start_child(Plain, Part("idle"))
        grandchild = child.start_child(Plain, Part("grandchild"))
        for machine in (root, child, idle, grandchild):
            machine.add(Plain.A)
        grandchild.add(Plain.B)
        assert root.closed
    assert log == ["idle", "asked", "grandchild", "child", "root"]


async def test_tasks_are_those_that_were_bound_when_the_state_entered() -> None:
    """What a handler binds runs from the next activation on, whether or not the state had a task before."""
    ran: list[str] = []

    class Task:
        def __init__(self, name: str) -> None:
            self.name = name

        @Plain.A.task
        async def work(self, t: Transition) -> None:
            ran.append(self.name)

    @Plain.A.on_enter
    def binds(t: Transition) -> None:
        if t.tick == 1:
            t.machine.bind(Task("late"))
            t.machine.detach(early)

    early = Task("early")
    async with trsm.open_machine(Plain, early, binds) as machine:
        machine.add(Plain.A)
        await trio.testing.wait_all_tasks_blocked()
        assert ran == ["early"]
        machine.remove(Plain.A)
        machine.add(Plain.A)
        await trio.testing.wait_all_tasks_blocked()
    assert ran == ["early", "late"]


def test_a_handler_that_is_put_on_a_class_later_is_found_by_machines_made_later() -> None:
    """Tables are shared by what is in a class, not by its name alone."""
    log: list[str] = []

    class Handlers:
        @Plain.A.on_enter
        def act(self, t: Transition) -> None:
            log.append("old")

        def more(self, t: Transition) -> None:
            log.append("more")

    Engine(Plain, Handlers()).add(Plain.A)

    @Plain.A.on_enter
    def act(self: object, t: Transition) -> None:
        log.append("new")

    Handlers.act = act
    Plain.A.on_enter(Handlers.more)
    Engine(Plain, Handlers()).add(Plain.A)
    assert log == ["old", "new", "more"]


def test_equal_mutations_are_folded_though_the_memory_of_requests_was_cleared() -> None:
    """They are compared by what they ask for."""
    states = {f"S{number}": State() for number in range(13)}
    many = Schema.define("Many", states)
    results: list[trsm.Result] = []

    @many["S0"].on_enter
    def asks_a_lot(t: Transition) -> None:
        results.append(engine.add(many["S1"], many["S2"]))
        many._definition.requests.clear()
        results.append(engine.add(many["S2"], many["S1"]))
        results.append(engine.add(many["S2"], many["S3"]))

    engine = Engine(many, asks_a_lot)
    engine.add(many["S0"])
    assert results[0] is results[1]
    assert results[0] is not results[2]


def test_a_drain_counts_the_same_with_and_without_arguments() -> None:
    """`drain_limit` counts transitions, the removal that a fault brings among them."""

    @Plain.A.on_enter
    def fails(t: Transition) -> None:
        raise ValueError

    @Plain.Error.on_enter
    def goes_on(t: Transition) -> None:
        if not engine.is_active(Plain.B):
            engine.add(Plain.B)

    for args in ({}, {"x": 1}):
        engine = Engine(Plain, fails, goes_on, drain_limit=3)
        with pytest.raises(ExceptionGroup) as caught:
            engine.add(Plain.A, **args)
        assert isinstance(caught.value.exceptions[0], trsm.NotSettled)


def test_an_auto_state_that_raises_in_an_error_mutation_is_barred_until_the_drain_has_settled() -> None:
    """It is called once."""
    log: list[str] = []

    class Watched(Schema):
        Auto = State(auto=True)
        Failed = ErrorState(catches=ValueError, add=Auto)

    @Watched.Auto.on_enter
    def fails(t: Transition) -> None:
        log.append("auto")
        raise TypeError

    engine = Engine(Watched, fails)
    with pytest.raises(ExceptionGroup):
        engine.add_error(ValueError())
    assert log == ["auto"]


async def test_what_several_handlers_raise_that_is_no_exception_leaves_the_block_flat() -> None:
    """One group, in order; a group that one handler raised stays one member."""

    @Plain.A.on_exit
    def first(t: Transition) -> None:
        raise SystemExit(1)

    @Plain.B.on_exit
    def second(t: Transition) -> None:
        raise BaseExceptionGroup("mine", [SystemExit(2)])

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Plain, first, second, id="flat") as machine:
            machine.add(Plain.A, Plain.B)
    assert caught.value.message == "unhandled in machine 'flat'"
    assert [type(error) for error in caught.value.exceptions] == [BaseExceptionGroup, SystemExit]

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Plain, second, id="one") as machine:
            machine.add(Plain.B)
    assert [type(error) for error in caught.value.exceptions] == [BaseExceptionGroup]


async def test_a_long_line_of_children_closes() -> None:
    """As deep as it may be: each after its own, without a deep stack."""
    log: list[str] = []

    @Plain.A.on_exit
    def leave(t: Transition) -> None:
        log.append(t.machine.id)

    async with trsm.open_machine(Plain, id="root") as machine:
        for number in range(500):
            machine = machine.start_child(Plain, leave, id=str(number))
            machine.add(Plain.A)
    assert log == [str(number) for number in reversed(range(500))]


def test_the_states_of_a_transition_are_known_by_their_lineage() -> None:
    """A handler written for a schema reads the transitions of its heirs."""

    class Base(Schema):
        A = State()
        B = State()

    class Heir(Base):
        A = Base.A.extend(require="B")

    seen: list[bool] = []

    @Base.A.on_enter
    def reads(t: Transition) -> None:
        seen.extend(Base.A in states for states in (t.entering, t.called, t.target, t.machine.active_states))
        seen.append(Base.A in t.after.active_states)

    engine = Engine(Heir, reads)
    engine.add(Base.A, Base.B)
    engine.remove(Heir.A)
    assert seen == [True] * 5
    assert Base.A in engine.last_transition.leaving
    assert Base.B not in engine.last_transition.leaving
    assert Plain.A not in engine.last_transition.leaving
    assert "A" not in engine.last_transition.leaving
    assert engine.last_transition.leaving == (Heir.A,)


def test_a_handler_mutates_a_bare_engine_as_it_would_a_machine() -> None:
    """``t.machine`` is the engine; a transition does not keep it alive."""

    @Plain.A.on_enter
    def goes_on(t: Transition) -> None:
        t.machine.add(Plain.B)

    engine = Engine(Plain, goes_on)
    engine.add(Plain.A)
    assert engine.is_active(Plain.B)
    transition = engine.last_transition
    del engine
    with pytest.raises(ReferenceError, match="the machine of this transition is gone"):
        _ = transition.machine
