"""What the rows of the feature map say as a whole, where no other test does; see features.toml."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trsm
from trsm import Canceled, Engine, ErrorState, Machine, MachineClosed, Schema, State, Tracer, Transition
from trsm.testing import MachineRules

DESIGN = Path(__file__).parents[1] / "docs" / "design.md"


class Door(Schema):
    """Two states that exclude each other, a light, and what comes by itself."""

    Shut = State(remove="Open")
    Open = State(remove=Shut)
    Lit = State(multi=True)
    Warm = State(auto=True, require=Shut)


class Fails(Schema):
    """Something to wait for, and an error that becomes a state."""

    Done = State()
    ErrValue = ErrorState(catches=ValueError)


def test_each_argument_of_a_state_does_what_it_says() -> None:
    """Row 1: `auto`, `multi`, `require`, `add`, `remove`, `after` and `tags`, each by what it leads to."""

    class Ship(Schema):
        Moored = State(remove="Sailing")
        Crew = State(after="Flag")
        Sailing = State(require=Crew, add="Flag", remove=Moored)
        Flag = State(multi=True, tags=["signal", "cloth"])
        Wake = State(auto=True, require=Sailing)

    entered: list[str] = []

    @Ship.Crew.on_enter
    @Ship.Flag.on_enter
    @Ship.Wake.on_enter
    def note(t: Transition) -> None:
        entered.append(str(t.tick) + " " + " ".join(map(str, t.entering)))

    engine = Engine(Ship, note)
    engine.add(Ship.Moored)
    assert not engine.add(Ship.Sailing)  # require
    assert engine.add(Ship.Crew, Ship.Sailing)
    assert engine.is_active(Ship.Crew, Ship.Sailing, Ship.Flag, Ship.Wake)  # add, auto
    assert engine.is_inactive(Ship.Moored)  # remove
    assert entered[0] == entered[1] == "2 Flag Crew Sailing"  # after: else Crew, which is declared before Flag
    assert entered[2] == "3 Wake"
    engine.add(Ship.Flag)
    assert engine.tick(Ship.Flag) == 3 and entered[3] == "4 Flag"  # multi
    assert Ship.tagged("signal") == Ship.tagged("cloth") == (Ship.Flag,)  # tags


def test_the_design_page_documents_declaration_order() -> None:
    """Row 2: bases from left to right, each once, then the body; an override keeps its place; and so it is."""
    (rule,) = re.findall(r"\[\*\*S4\*\*\]\{#s4\} (.*?)\n\n", DESIGN.read_text(encoding="utf-8"), re.DOTALL)
    assert " ".join(rule.split()) == (
        "Declaration order: the bases from left to right, each once, then the body of the class; an override keeps its "
        "place; `Error` comes last."
    )

    class Base(Schema):
        First = State()
        Second = State()

    class Left(Base):
        Third = State()

    class Right(Base):
        Fourth = State()

    class Both(Left, Right):
        Fifth = State()
        First = Base.First.extend(multi=True)

    assert [str(state) for state in Both] == ["First", "Second", "Third", "Fourth", "Fifth", "Error"]


@pytest.mark.parametrize("name", ["add", "remove", "set", "toggle"])
def test_every_mutation_takes_one_state_or_many_and_arguments(name: str) -> None:
    """Row 10: the same form for all four, and handlers find the free keywords."""
    seen: list[object] = []

    @Door.on_change
    def note(t: Transition) -> None:
        seen.append(t.args.get("by"))

    for states in ((Door.Lit,), (Door.Open, Door.Lit)):
        engine = Engine(Door, note)
        if name == "remove":
            engine.add(*states)
        seen.clear()
        assert getattr(engine, name)(*states, by="me").executed
        assert engine.active_states == (() if name == "remove" else states)
        assert seen == ["me"]


@pytest.mark.parametrize("kind", [Engine, trsm.Machine, MachineRules])
def test_every_method_that_takes_free_keywords_lets_one_be_called_self(kind: type) -> None:
    """Row 10: none keeps that word for itself."""
    found = []
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        parameters = [*inspect.signature(method).parameters.values()]
        if parameters[-1].kind is inspect.Parameter.VAR_KEYWORD and parameters[-1].name in ("args", "keywords"):
            found.append(name)
            assert parameters[0].kind is inspect.Parameter.POSITIONAL_ONLY, name
    assert {"add", "remove", "set", "toggle", "mutate"} <= set(found)


async def test_a_scope_of_trio_skips_a_mutation_which_says_so() -> None:
    """Row 19: cancelled before its turn it is skipped, and the reason names the scope; not cancelled, it is made."""
    results: list[trsm.Result] = []

    @Door.Shut.on_enter
    def ask(t: Transition) -> None:
        gone, there = trio.CancelScope(), trio.CancelScope()
        results.extend([t.machine.add(Door.Lit, scope=gone), t.machine.add(Door.Open, scope=there)])
        gone.cancel()

    async with trsm.open_machine(Door, ask) as machine:
        machine.add(Door.Shut)
        skipped, made = results
        assert isinstance(skipped, trsm.Queued) and isinstance(skipped.outcome, Canceled)
        assert "scope" in skipped.outcome.reason and "cancelled" in skipped.outcome.reason
        assert made.executed
        assert machine.active_states == (Door.Open,)


def test_a_handler_is_told_all_of_its_transition() -> None:
    """Row 24: called, entering, leaving, target, before, after, args, source, dry_run and is_auto, at both poles."""
    told: list[tuple[object, ...]] = []

    @Door.Shut.can_enter
    def asked(t: Transition) -> bool:
        told.append(("asked", t.dry_run, t.machine.is_active(Door.Shut), t.target))
        return True

    @Door.on_change
    def changed(t: Transition) -> None:
        told.append((t.called, t.entering, t.leaving, t.target, dict(t.args), t.is_auto, t.dry_run))
        told.append((t.before[Door.Shut], t.after[Door.Shut], t.source and t.source.handler))
        if Door.Warm in t.entering:
            t.machine.remove(Door.Shut)

    engine = Engine(Door, asked, changed)
    engine.add(Door.Open)
    told.clear()
    assert engine.can_add(Door.Shut)
    engine.add(Door.Shut, why="wind")
    name = changed.__qualname__
    assert told == [
        ("asked", True, False, (Door.Shut,)),
        ("asked", False, False, (Door.Shut,)),
        ((Door.Shut,), (Door.Shut,), (Door.Open,), (Door.Shut,), {"why": "wind"}, False, False),
        (0, 1, None),
        ((), (Door.Warm,), (), (Door.Shut, Door.Warm), {}, True, False),
        (1, 1, None),
        ((), (), (Door.Warm, Door.Shut), (), {}, False, False),
        (1, 2, name),
    ]


async def test_an_error_of_one_machine_of_a_group_is_never_missed() -> None:
    """Row 33: neither one that closes its machine nor one that becomes a state, though nobody waits when it happens."""
    async with trsm.open_machine(Fails, id="one") as one, trio.open_nursery() as nursery:

        async def other(task_status: trio.TaskStatus[Machine]) -> None:
            with pytest.RaisesGroup(OSError):
                async with trsm.open_machine(Fails, id="two") as two:
                    task_status.started(two)
                    await trio.sleep_forever()

        two: Machine = await nursery.start(other)
        every = trsm.wait_all(one.when(Fails.Done), two.when(Fails.Done))
        fails = trsm.wait_any(one.when_error(), two.when_error())
        missing, gone = ValueError("missing"), OSError("gone")
        one.add_error(missing)
        assert await fails == (0, missing)
        assert not every.done
        two.add_error(gone)
        await wait_all_tasks_blocked()
        with pytest.raises(MachineClosed, match="'two'") as raised:
            await every
        assert raised.value.__cause__ is gone


async def test_a_machine_has_the_tags_that_it_is_opened_with() -> None:
    """Row 42: one word or several, of a block and of a child; none by default; what is no word is refused."""
    opened: list[object] = []

    class Note(Tracer):
        def machine_opened(self, machine: trsm.Observed) -> None:
            opened.append(machine)

    async with trsm.open_machine(Door, id="door", tags="front", tracers=[Note()]) as machine:
        assert (machine.id, machine.tags, machine.parent) == ("door", ("front",), None)
        child = machine.start_child(Door, tags=["back", "cellar"])
        assert child.tags == ("back", "cellar")
        async with trsm.open_machine(Door, parent=machine) as inner:
            assert (inner.tags, inner.parent) == ((), machine)
        assert opened == [machine]
        with pytest.raises(TypeError, match=r"tags=.*3"):
            machine.start_child(Door, tags=[3])
    with pytest.raises(TypeError, match=r"tags=.*3"):
        trsm.open_machine(Door, tags=3)
    assert Engine(Door, tags="bare").tags == ("bare",)
