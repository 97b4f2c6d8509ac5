"""The base for rule-based state machines: what it drives, what it finds, and the program that shows it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import os
import re
import subprocess
import sys
import threading
import types
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import attrs
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from trsm import ErrorState, HandlerError, Schema, SnapshotError, State, Transition, open_machine
from trsm._core._plan import Plan
from trsm._core._runner import Runner
from trsm.testing import Fault, MachineRules, Mutation, _driving
from trsm.testing._mutations import Writer

STEPS = ("add", "remove", "set", "toggle", "mutate")
QUICK = settings(max_examples=30, stateful_step_count=12, deadline=None, database=None)
SEARCH = settings(
    QUICK,
    max_examples=50,
    stateful_step_count=8,
    derandomize=True,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
)


@attrs.frozen
class Coin:
    value: int


class Gate(Schema):
    """A turnstile that also breaks."""

    Locked = State(remove="Unlocked", auto=True)
    Unlocked = State(remove=Locked, args=Coin, timeout=5)
    Busy = State(require=Unlocked)
    Counted = State(multi=True)
    ErrJam = ErrorState(catches=OSError, remove=Busy)


class Handlers:
    def __init__(self) -> None:
        self.coins = 0

    @Gate.Unlocked.can_enter
    def is_enough(self, t: Transition) -> bool:
        return t.args_of(Gate.Unlocked).value > 0

    @Gate.Unlocked.on_enter
    def take(self, t: Transition) -> None:
        self.coins += 1

    @Gate.Busy.task(then=Gate.Counted)
    async def pass_through(self, t: Transition) -> None:
        await trio.sleep(2)


class GateRules(MachineRules):
    schema = Gate
    handlers = (Handlers,)
    faults = (Fault, OSError)

    @invariant()
    def never_both(self) -> None:
        assert not self.machine.is_active(Gate.Locked, Gate.Unlocked)

    @rule()
    def look(self) -> None:
        assert self.call(lambda: self.machine.tick(Gate.Counted)) >= 0


TestGate = GateRules.TestCase
TestGate.settings = QUICK


def found(rules: type[MachineRules], *, is_shrunk: bool = True) -> BaseException:
    """Return what Hypothesis finds, which has to be something; not as it is shrunk, if that is another test's."""
    phases = SEARCH.phases if is_shrunk else (Phase.generate,)
    with pytest.raises(BaseException) as caught:
        run_state_machine_as_test(rules, settings=settings(SEARCH, phases=phases))
    return caught.value


def program_of(error: BaseException) -> str:
    """Return the program that a failure carries."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith("The same as a program")]
    assert len(notes) == 1
    return notes[0].partition("\n")[2]


def run_program(program: str, rules: type[MachineRules]) -> None:
    """Paste a program into a module, as a user would, and run its test."""
    home = types.ModuleType("pasted")
    home.__dict__[rules.__name__] = rules
    exec(program, home.__dict__)
    home.__dict__[f"test_{rules.__name__}_again"]()


# ---- What it finds --------------------------------------------------------------------------------------------------


class Two(Schema):
    Left = State()
    Right = State(args=Coin)


class BothNeverRules(MachineRules):
    schema = Two

    @invariant()
    def never_both(self) -> None:
        assert not self.machine.is_active(Two.Left, Two.Right), "both"


def test_an_invariant_that_does_not_hold_is_shown_as_a_program_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest run, with arguments, to be pasted into a test as it is."""
    error = found(BothNeverRules)
    assert isinstance(error, AssertionError) and "both" in str(error)
    program = program_of(error)
    assert "from " in program and "import BothNeverRules" in program
    assert program.count("rules.") <= 3  # one step for both, or one for each; and the end
    assert "Two.Right(value=" in program
    monkeypatch.setitem(sys.modules, BothNeverRules.__module__, sys.modules[__name__])
    with pytest.raises(AssertionError, match="both"):
        run_program(program, BothNeverRules)


class Buggy:
    """Raises when it is left."""

    @Two.Left.on_exit
    def leave(self, t: Transition) -> None:
        raise RuntimeError("nobody asked for this")


class Restless:
    """A task that never comes to rest."""

    @Two.Left.task
    async def work(self, t: Transition) -> None:
        while True:
            await trio.lowlevel.checkpoint()


class Hanging:
    """A cleanup that nobody ends."""

    @Two.Left.task
    async def work(self, t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()


@pytest.mark.parametrize(
    ("handlers", "words"),
    [
        (Buggy, "RuntimeError('nobody asked for this') left the block of the machine, and nobody had asked for it"),
        (Restless, "tasks never come to rest"),
        (Hanging, "closes, and does not come to its end, however much time passes"),
    ],
)
def test_what_goes_wrong_in_the_machine_is_found(handlers: type, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody raised on purpose, tasks that spin, a cleanup without an end; each with its program."""

    class TwoRules(MachineRules):
        schema = Two
        faults = ()

    TwoRules.handlers = (handlers,)
    monkeypatch.setattr(_driving, "TURNS", 2_000)
    error = found(TwoRules, is_shrunk=False)
    assert words in str(error)
    program = program_of(error)
    assert "# where TwoRules is defined:" in program
    with pytest.raises(AssertionError) as caught:
        run_program(program, TwoRules)
    assert words in str(caught.value)


def test_a_machine_sees_several_mutations_before_its_end() -> None:
    """Else what takes five of them is never come to: each life has more than three of them, though ends come often."""
    steps: Counter[str] = Counter()

    class CountedRules(MachineRules):
        schema = Two

        def teardown(self) -> None:
            steps.update(step.removeprefix("rules.").partition("(")[0] for step in self._steps)
            super().teardown()

    run_state_machine_as_test(CountedRules, settings=settings(SEARCH, stateful_step_count=20, phases=(Phase.generate,)))
    made = sum(steps[name] for name in STEPS)
    assert set(STEPS) < steps.keys()
    assert all(steps[name] * 100 > steps.total() for name in ("sleep", "fail", "cancel", "close")), steps
    assert made * 3 > steps.total(), steps
    assert made > 3 * (steps["cancel"] + steps["close"]), steps


def test_errors_that_are_expected_may_leave_the_machine() -> None:
    """And so may those that were raised on purpose."""

    class TwoRules(MachineRules):
        schema = Two
        handlers = (Buggy,)
        expected = (RuntimeError,)

    run_state_machine_as_test(TwoRules, settings=QUICK)


# ---- Steps by hand --------------------------------------------------------------------------------------------------


R = TypeVar("R", bound=MachineRules)


@contextmanager
def made(kind: type[R]) -> Iterator[R]:
    rules = kind()
    try:
        yield rules
    finally:
        rules.teardown()


def by_hand(act: Callable[[GateRules], object]) -> GateRules:
    with made(GateRules) as rules:
        act(rules)
    return rules


def test_every_step_can_be_made_by_hand() -> None:
    """As the program of a failure does."""

    def act(rules: GateRules) -> None:
        assert rules.add(Gate.Unlocked(value=1))
        assert rules.add(Gate.Busy)
        rules.sleep(1.5)
        assert rules.machine.is_active(Gate.Busy)
        rules.sleep(1)
        assert rules.machine.tick(Gate.Counted) == 1
        rules.sleep(3)
        assert rules.machine.is_active(Gate.Locked)  # the timeout
        assert not rules.add(Gate.Unlocked(value=0))
        assert rules.toggle(Gate.Counted, why="so")
        assert rules.remove(Gate.Locked)
        assert rules.set(Gate.Counted)
        assert rules.mutate(add=[Gate.Unlocked(value=2)], remove=[Gate.Counted])
        first = rules.machine
        rules.cancel()
        assert first.closed
        rules.reopen()
        assert rules.machine is not first
        rules.close()
        assert rules.machine.closed

    rules = by_hand(act)
    assert "rules.toggle(Gate.Counted, why='so')" in rules._program()
    assert "rules.mutate(add=[Gate.Unlocked(value=2)], remove=[Gate.Counted])" in rules._program()


def test_a_fault_is_raised_in_the_call_that_it_is_for() -> None:
    """After as many calls as were to pass; an error state takes it, or the machine closes."""

    def taken(rules: GateRules) -> None:
        rules.fail(1, OSError)
        assert rules.add(Gate.Unlocked(value=1))  # can_enter passes, on_enter raises
        assert rules.machine.is_active(Gate.ErrJam)
        assert rules.machine.is_inactive(Gate.Unlocked)

    def unhandled(rules: GateRules) -> None:
        rules.fail(0, Fault)
        rules.add(Gate.Unlocked(value=1))
        assert rules.machine.closed

    assert "rules.fail(1, GateRules.faults[1])" in by_hand(taken)._program()
    by_hand(unhandled)


def test_a_fault_that_did_not_come_is_forgotten_when_the_machine_is_opened_again() -> None:
    def act(rules: GateRules) -> None:
        rules.fail(5, Fault)
        rules.close()
        rules.reopen()
        for _ in range(8):
            assert rules.add(Gate.Unlocked(value=1))
            assert rules.remove(Gate.Unlocked)
            assert not rules.machine.closed

    by_hand(act)


class Leaving:
    """Leaves a machine behind, in a task that nobody ends."""

    @Two.Left.on_enter
    def enter(self, t: Transition) -> None:
        trio.lowlevel.spawn_system_task(self.stay)

    async def stay(self) -> None:
        async with open_machine(Two, id="stray"):
            await trio.sleep_forever()


def test_a_machine_that_is_left_behind() -> None:
    """It is found when the one that opened it has ended."""

    class LeavingRules(MachineRules):
        schema = Two
        handlers = (Leaving,)

    with made(LeavingRules) as rules:
        rules.add(Two.Left)
        with pytest.raises(AssertionError, match="machine 'stray' was never closed"):
            rules.close()


def test_a_fault_that_cannot_be_raised() -> None:
    """It says what to pass."""
    with pytest.raises(TypeError, match=r"fail\(0, <.*>\): it made 3, which cannot be raised"):
        by_hand(lambda rules: rules.fail(0, lambda: 3))  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match=r"fail\(0, OSError\(\)\): pass an exception class, or lambda: OSError\(\)"):
        by_hand(lambda rules: rules.fail(0, OSError()))  # type: ignore[arg-type]


def test_opened_twice() -> None:
    """There is one machine at a time."""
    with pytest.raises(RuntimeError, match=r"reopen\(\): the machine is open, and there is one at a time: close"):
        by_hand(lambda rules: rules.reopen())


def test_numbers_that_make_no_sense() -> None:
    """Calls to let pass, and seconds."""
    for after in (-1, True, "1", 1.5):
        with pytest.raises(ValueError, match=r"fail\(.*, …\): write how many calls to let pass, a whole number"):
            by_hand(lambda rules, after=after: rules.fail(after, OSError))
    for seconds in (-1, True, "1", math.inf, math.nan):
        with pytest.raises(ValueError, match=r"sleep\(.*\): write a number of seconds, 0 or more"):
            by_hand(lambda rules, seconds=seconds: rules.sleep(seconds))


@pytest.mark.parametrize(
    ("attributes", "error", "words"),
    [
        ({"handlers": Leaving}, TypeError, r"handlers = <class .*>: write a tuple, such as \(DoorHandlers,\)"),
        ({"faults": [OSError]}, TypeError, r"faults = \[<class 'OSError'>\]: write a tuple, such as \(OSError,\)"),
        ({"expected": OSError}, TypeError, r"expected = <class 'OSError'>: write a tuple, such as \(OSError,\)"),
        ({"seconds": 3}, TypeError, r"seconds = 3: write a tuple, such as \(1, 60\)"),
        ({"faults": ("x",)}, TypeError, r"faults = \(… 'x' …\): each time another exception is raised: write"),
        ({"faults": (int,)}, TypeError, r"faults = \(… <class 'int'> …\): it made 0, which cannot be raised"),
        ({"expected": (int,)}, TypeError, r"expected = .*: <class 'int'> is no class of exceptions"),
        ({"seconds": (1, -2)}, ValueError, r"seconds = \(… -2 …\): write numbers of seconds, 0 or more"),
        ({"options": 3}, TypeError, r"options = 3: write a dictionary of keywords for open_machine"),
        ({"options": {"limit": 3}}, TypeError, r"options = \{'limit': 3\}: open_machine\(\) got an unexpected keyword"),
        ({"options": {"queue_limit": 0}}, ValueError, r"options = \{'queue_limit': 0\}: queue_limit=0: write"),
        ({"arguments": 3}, TypeError, r"arguments = 3: write \{state: a strategy for calls of it\}"),
        ({"keywords": {}}, TypeError, r"keywords = \{\}: pass a strategy for dictionaries"),
        ({"handler": (Leaving,)}, TypeError, r"handler = .*: nobody reads that: write handlers = …"),
        ({"handler": Leaving}, TypeError, r"handler = .*: nobody reads that: write handlers = …"),
        ({"fault": OSError}, TypeError, r"fault = .*: nobody reads that: write faults = …"),
        ({"fault": (OSError,)}, TypeError, r"fault = .*: nobody reads that: write faults = …"),
        ({"option": {"id": "x"}}, TypeError, r"option = .*: nobody reads that: write options = …"),
    ],
)
def test_attributes_that_are_not_what_they_have_to_be(
    attributes: dict[str, object], error: type[Exception], words: str
) -> None:
    """They are refused where the class stands."""
    with pytest.raises(error, match=rf"class Bad\(MachineRules\): {words}"):
        type("Bad", (MachineRules,), {"schema": Two, **attributes})


def test_attributes_of_a_user_that_only_look_alike() -> None:
    """They are the user's own: what would be read there is of another type."""
    type("Good", (MachineRules,), {"schema": Two, "handler": None, "fault": 3, "options": {"id": "x"}, "note": ()})


def test_the_program_of_nothing() -> None:
    """A machine that cannot even be closed is made, and torn down."""
    rules = by_hand(lambda rules: None)
    assert "rules.machine" in rules._program()
    assert "Gate = " not in rules._program()


class Tidy:
    """Takes time to clean up, in a task and in a child."""

    @Two.Left.on_enter
    def begin(self, t: Transition) -> None:
        t.machine.start_child(Two, Tidy()).add(Two.Right(value=1))

    @Two.Left.task
    @Two.Right.task
    async def work(self, t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)


class TidyRules(MachineRules):
    schema = Two
    handlers = (Tidy,)

    @precondition(lambda rules: rules.is_over)
    @invariant()
    def nothing_is_left(self) -> None:
        assert self.machine.closed and not self.machine.in_use


TestTidy = TidyRules.TestCase
TestTidy.settings = QUICK


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_closing_takes_the_time_that_it_takes(how: str) -> None:
    """Cleanups are waited for in the machine's own time, and preconditions of invariants are asked."""
    with made(TidyRules) as rules:
        rules.add(Two.Left)
        getattr(rules, how)()
        assert rules.is_over
        rules.reopen()
        rules.add(Two.Left)
    assert rules.is_over


def test_time_with_very_many_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """From some number on they are not waited for one by one."""
    monkeypatch.setattr(_driving, "JUMPS", 10)
    woken: list[float] = []

    class Ticking:
        @Two.Left.task
        async def work(self, t: Transition) -> None:
            while True:
                await trio.sleep(1)
                woken.append(trio.current_time())

    class TickingRules(MachineRules):
        schema = Two
        handlers = (Ticking,)

    with made(TickingRules) as rules:
        rules.add(Two.Left)
        rules.sleep(5)
        assert woken == [1, 2, 3, 4, 5]
        rules.sleep(100)
    assert woken[-1] == 105
    assert len(woken) < 20


def test_mutations_in_a_hurry() -> None:
    """The next step may come before tasks have begun; it shows in the program."""
    began: list[str] = []

    class Beginning:
        @Two.Left.task
        async def work(self, t: Transition) -> None:
            began.append(t.machine.id)

    class HurryRules(MachineRules):
        schema = Two
        handlers = (Beginning,)

    with made(HurryRules) as rules:
        rules.add(Two.Left, wait=False)
        assert began == []
        rules.remove(Two.Left)
        rules.add(Two.Left)
        assert len(began) >= 1
    assert "rules.add(Two.Left, wait=False)" in rules._program()


def test_program_with_infinity() -> None:
    """It imports what it needs."""

    class Limit(Schema):
        Of = State(args=Coin)

    class LimitRules(MachineRules):
        schema = Limit

    with made(LimitRules) as rules:
        rules.add(Limit.Of(value=1), most=math.inf)
    program = rules._program()
    assert program.startswith("from math import inf, nan\n")
    run_program(program, LimitRules)


class Colour(enum.Enum):
    RED = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Note:
    at: datetime.datetime
    colours: tuple[Colour, ...]


@attrs.frozen
class Noted:
    note: Note
    price: Decimal
    mode: Mode


class Written(Schema):
    Of = State(args=Noted)


class WrittenRules(MachineRules):
    schema = Written


def test_program_with_values_of_other_modules() -> None:
    """It imports what they are made of, and writes members of enums by their names: pasted, it runs."""
    note = Note(datetime.datetime(2026, 1, 2), (Colour.RED,))
    keywords: dict[str, object] = {
        "some": [Colour.RED, {Mode.READ: frozenset({Decimal(1)})}],
        "both": Mode.READ | Mode.WRITE,
        "one": (1,),
    }
    with made(WrittenRules) as rules:
        rules.add(Written.Of(note=note, price=Decimal("1.5"), mode=Mode.WRITE), **keywords)
    program = rules._program()
    assert program.partition("\n\n")[0].splitlines() == [
        "from decimal import Decimal",
        f"from {__name__} import Colour",
        f"from {__name__} import Mode",
        f"from {__name__} import Note",
        "import datetime",
    ]
    assert "mode=Mode.WRITE), some=[Colour.RED, {Mode.READ: frozenset({Decimal('1')})}], both=Mode" in program
    assert "note=Note(at=datetime.datetime(2026, 1, 2, 0, 0), colours=(Colour.RED,)), price=" in program
    assert "one=(1,))" in program
    run_program(program, WrittenRules)


def test_program_with_a_value_that_is_shown_in_lines() -> None:
    """Its comment is one line, and the program runs."""

    class Long:
        def __repr__(self) -> str:
            return "<long,\n    and longer>"

    class TwoRules(MachineRules):
        schema = Two

    with made(TwoRules) as rules:
        rules.add(Two.Left, thing=Long())
    assert "        # in the next line, write by hand for ...: <long, and longer>\n" in rules._program()
    run_program(rules._program(), TwoRules)


def test_program_with_a_value_that_does_not_show_how_it_is_made() -> None:
    """It is shown in a comment, for a person to write; what else can be written is."""

    class TwoRules(MachineRules):
        schema = Two

    with made(TwoRules) as rules:
        rules.add(Two.Left, thing=object(), other=3)
        rules.remove(Two.Left)
    program = rules._program()
    assert re.search(
        r"        # in the next line, write by hand for \.\.\.: <object object at .*>\n"
        r"        rules\.add\(Two\.Left, thing=\.\.\., other=3\)\n"
        r"        rules\.remove\(Two\.Left\)\n",
        program,
    )
    run_program(program, TwoRules)


class Outer:
    class Inner(enum.Enum):
        ONE = 1

    @staticmethod
    def make() -> None: ...


class Place(NamedTuple):
    row: int
    column: Colour


@pytest.mark.parametrize(
    ("value", "written", "imports"),
    [
        (Outer.Inner.ONE, "Outer.Inner.ONE", {f"from {__name__} import Outer"}),
        (Outer.make, "Outer.make", {f"from {__name__} import Outer"}),
        (
            Place(1, Colour.RED),
            "Place(row=1, column=Colour.RED)",
            {f"from {__name__} import {it}" for it in ("Place", "Colour")},
        ),
        (int, "int", set()),
        (OSError, "OSError", set()),
        (State, "State", {"from trsm import State"}),
        (set(), "set()", set()),
        ({1}, "{1}", set()),
        (frozenset({2, 1}), "frozenset({1, 2})", set()),
        ((), "()", set()),
        (datetime.timedelta(days=1), "datetime.timedelta(days=1)", {"import datetime"}),
        (uuid.UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')", {"from uuid import UUID"}),
        (PurePosixPath("/a"), "PurePosixPath('/a')", {"from pathlib import PurePosixPath"}),
        (math.nan, "nan", {"from math import inf, nan"}),
        ([math.inf, None, True, b"x", 1.5], "[inf, None, True, b'x', 1.5]", {"from math import inf, nan"}),
        ({"a": Decimal(1)}, "{'a': Decimal('1')}", {"from decimal import Decimal"}),
    ],
)
def test_values_that_can_be_written(value: object, written: str, imports: set[str]) -> None:
    """By the names that they have where they are defined, or are exported."""
    writer = Writer()
    assert writer.value(value) == written
    assert (writer.imports, writer.by_hand) == (imports, [])
    home: dict[str, object] = {}
    exec("\n".join(sorted(imports)), home)
    again = eval(written, home)
    assert again == value or (again != again and value != value)


def test_values_that_cannot_be_written() -> None:
    """Functions and classes of a function, their instances, and what has a repr that is none or lies."""

    class Local(enum.Enum):
        ONE = 1

    class Lying:
        def __repr__(self) -> str:
            return "unknown(1)"

    @attrs.frozen
    class Here:
        value: int

    class Tall:
        def __repr__(self) -> str:
            return "<Tall,\n  in two lines>"

    writer = Writer()
    writer.value(Tall())
    assert writer.by_hand == ["<Tall, in two lines>"], "a comment is one line"
    for value in (Local.ONE, Lying(), Here(1), lambda: 3, object(), Local):
        writer = Writer()
        assert writer.value(value) == "..."
        assert writer.by_hand == [repr(value)]
        assert Writer(is_program=False).value(value) == repr(value), "a person reads that"


def test_keywords_that_are_no_names() -> None:
    """They are passed in a dictionary."""
    step = Mutation(Two, "add", (Two.Left,), (), {"class": 1, "a b": 2, "good": 3})
    assert Writer().mutation(step) == "add(Two.Left, **{'class': 1}, **{'a b': 2}, good=3)"


class CallingRules(MachineRules):
    schema = Two
    faults = ()

    @rule()
    def looks(self) -> None:
        self.call(lambda: None)


class FailingRules(MachineRules):
    schema = Two
    faults = ()

    @rule()
    def fails(self) -> None:
        self.call(lambda: 1 // 0)


def test_program_of_rules_that_call_functions() -> None:
    """A comment stands in their place, and the heading says that there are some."""
    with made(CallingRules) as rules:
        rules.looks()
    assert (
        "        # here a rule of yours has made rules.call(CallingRules.looks.<locals>.<lambda>)" in rules._program()
    )
    assert "        assert rules.machine\n" in rules._program(), "a comment alone would be no program"
    run_program(rules._program(), CallingRules)
    error = found(FailingRules)
    assert error.__notes__[0].startswith("The same as a program, but for what its comments say, to be pasted into a te")
    assert "        # here a rule of yours has made rules.call(FailingRules.fails" in program_of(error)


def test_the_handlers_of_the_present_machine() -> None:
    """Invariants find them in `bound`; those of the next machine are others."""

    class TwoRules(MachineRules):
        schema = Two
        handlers = (Stubborn, Leaving)

    with made(TwoRules) as rules:
        first = rules.bound
        assert [type(one) for one in first] == [Stubborn, Leaving]
        rules.close()
        rules.reopen()
        assert [type(one) for one in rules.bound] == [Stubborn, Leaving]
        assert rules.bound[0] is not first[0]


def test_program_of_a_module(tmp_path: Path) -> None:
    """Pasted into a file of its own, it is a test that fails under pytest as the rules did."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # or a pyproject.toml above, such as trsm's own, is the file
    (tmp_path / "rules_of_mine.py").write_text(RULES)
    (tmp_path / "test_search.py").write_text("from rules_of_mine import DoorRules\nTestDoor = DoorRules.TestCase\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    bare = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(
        [*command, "test_search.py"], cwd=tmp_path, capture_output=True, text=True, env=bare, check=False
    )
    assert run.returncode == 1, run.stdout
    shown = run.stdout.partition("The same as a program")[2].partition("\n")[2]
    lines = [line.removeprefix("E").removeprefix("  ").removeprefix("  ") for line in shown.splitlines()]
    indent = len(lines[0]) - len(lines[0].lstrip())
    program: list[str] = []
    for line in (line[indent:] for line in lines):
        program.append(line)
        if line.strip() == "rules.teardown()":
            break
    (tmp_path / "test_pasted.py").write_text("\n".join(program) + "\n")
    again = subprocess.run(
        [*command, "test_pasted.py"], cwd=tmp_path, capture_output=True, text=True, env=bare, check=False
    )
    assert again.returncode == 1, again.stdout
    assert "AssertionError: the alarm is on and the door is open" in again.stdout
    assert "1 failed" in again.stdout


RULES = """
from hypothesis import Phase, settings
from hypothesis.stateful import invariant
from trsm import ErrorState, Schema, State
from trsm.testing import MachineRules

class Door(Schema):
    Open = State()
    Alarm = ErrorState(catches=OSError)

class Handlers:
    @Door.Open.on_enter
    def enter(self, t): ...
    @Door.Open.task
    async def work(self, t): ...

@settings(
    max_examples=100, stateful_step_count=20, derandomize=True, database=None, deadline=None,
    phases=(Phase.generate, Phase.shrink),
)
class DoorRules(MachineRules):
    schema = Door
    handlers = (Handlers,)
    faults = (OSError,)

    @invariant()
    def quiet(self):
        assert not self.machine.is_active(Door.Open, Door.Alarm), "the alarm is on and the door is open"
"""


# ---- Faults that are planted in trsm itself --------------------------------------------------------------------------


def spoiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the consensus forget that states remove one another."""
    transact = Runner._transact

    def spoil(self: Runner, plan: Plan, transition: Transition, *more: Any, **named: Any) -> object:
        failure = transact(self, plan, transition, *more, **named)
        if self._active.bit_count() > 1:
            self._ticks[0] += 1
            self._active ^= 1
        return failure

    monkeypatch.setattr(Runner, "_transact", spoil)


def test_kernel_that_moves_a_tick_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by the laws alone, and shown as a program that finds it again."""

    class TwoRules(MachineRules):
        schema = Two
        faults = ()

    spoiled(monkeypatch)
    error = found(TwoRules, is_shrunk=False)
    assert "ticks have moved by no transition" in str(error)
    with pytest.raises(AssertionError, match="ticks have moved by no transition"):
        run_program(program_of(error), TwoRules)


class Stubborn:
    """Spins behind a shield, beside a cleanup that takes its time."""

    @Two.Left.task
    async def spin(self, t: Transition) -> None:
        with trio.CancelScope(shield=True):
            while True:
                await trio.lowlevel.checkpoint()

    @Two.Left.task
    async def clean(self, t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)


def test_what_does_not_end_by_itself_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """By force, so that the next test finds trio as it should be."""
    monkeypatch.setattr(_driving, "TURNS", 500)

    class StubbornRules(MachineRules):
        schema = Two
        handlers = (Stubborn,)

    with pytest.raises(AssertionError, match="hung: 500 turns"), made(StubbornRules) as rules:
        rules.add(Two.Left)
    assert not trio.lowlevel.in_trio_run()


def test_what_has_hung_once_is_given_fewer_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """To find the shortest way there takes hundreds of lives; what is shown at last is given as many as ever."""
    monkeypatch.setattr(_driving, "TURNS", 2_000)
    taken: list[int] = []
    turned = _driving.Guest._turned

    def counted(self: _driving.Guest, turns: int, is_enough: Callable[[], bool]) -> bool:
        taken.append(turns)
        return turned(self, turns, is_enough)

    monkeypatch.setattr(_driving.Guest, "_turned", counted)

    class StubbornRules(MachineRules):
        schema = Two
        handlers = (Stubborn,)
        faults = ()

    error = found(StubbornRules)
    assert "hung: 2,000 turns of all tasks did not suffice" in str(error)
    assert {2_000, 500} < set(taken)
    assert not StubbornRules._patience.has_hung, "the next search begins anew"
    program = program_of(error)
    assert [line.strip() for line in program.splitlines() if "rules." in line][:1] == ["rules.add(Two.Left)"]


def test_threads_are_waited_for() -> None:
    """A step is over when they are."""

    class Threaded:
        @Two.Left.task(then=Two.Left)
        async def work(self, t: Transition) -> None:
            await trio.to_thread.run_sync(threading.Event().wait, 0.02)
            t.machine.add(Two.Right(value=3))

    class ThreadedRules(MachineRules):
        schema = Two
        handlers = (Threaded,)

    with made(ThreadedRules) as rules:
        rules.add(Two.Left)
        assert rules.machine.is_active(Two.Right)


def test_trio_that_fails() -> None:
    """What breaks trio itself is told, and does not hang."""

    async def breaks() -> None:
        raise ZeroDivisionError

    class Breaking:
        @Two.Left.on_enter
        def enter(self, t: Transition) -> None:
            trio.lowlevel.spawn_system_task(breaks)

    class BreakingRules(MachineRules):
        schema = Two
        handlers = (Breaking,)

    with pytest.raises(AssertionError, match="trio itself has failed: ") as caught, made(BreakingRules) as rules:
        rules.add(Two.Left)
    assert isinstance(caught.value.__cause__, trio.TrioInternalError)
    assert not trio.lowlevel.in_trio_run()


# ---- Mistakes -------------------------------------------------------------------------------------------------------


def test_the_base_itself_is_not_run() -> None:
    with pytest.raises(TypeError, match="MachineRules is a base: inherit it, and say which schema"):
        MachineRules()


def test_no_schema() -> None:
    with pytest.raises(TypeError, match=r"class Bad\(MachineRules\): schema: None is no schema: pass a class"):
        type("Bad", (MachineRules,), {})
    with pytest.raises(TypeError, match=r"class Bad\(MachineRules\): schema: 3 is no schema"):
        type("Bad", (MachineRules,), {"schema": 3})


def test_handlers_that_need_arguments() -> None:
    class Needy(Handlers):
        def __init__(self, path: str) -> None: ...

    with pytest.raises(TypeError, match=r"Needy is made anew for each machine, without arguments, and needs some"):
        type("Bad", (MachineRules,), {"schema": Gate, "handlers": (Needy,)})


async def test_driving_inside_of_trio() -> None:
    with pytest.raises(RuntimeError, match="MachineRules runs trio itself: drive it in a sync test, and call teardown"):
        GateRules()


def test_handlers_that_are_no_tuple() -> None:
    with pytest.raises(TypeError, match=r"handlers = <class .*Handlers'>: write a tuple, such as \(DoorHandlers,\)"):
        type("Bad", (MachineRules,), {"schema": Gate, "handlers": Handlers})


def test_machine_that_does_not_open() -> None:
    """It says why, and leaves trio behind as it should be."""

    class BadRules(MachineRules):
        schema = Gate
        options = {"snapshot": {"trsm": 0}}

    for _ in range(2):
        with pytest.raises(SnapshotError):
            BadRules()


def test_handlers_of_another_schema() -> None:
    with pytest.raises(HandlerError):
        type("Bad", (MachineRules,), {"schema": Two, "handlers": (object,)})


def test_arguments_whose_types_say_nothing() -> None:
    class Odd(Schema):
        A = State(args=lambda x: x)

    with pytest.raises(InvalidArgument, match=r"pass arguments=\{Odd.A: st.builds\(Odd.A, …\)\}"):
        type("Bad", (MachineRules,), {"schema": Odd})

    class OddRules(MachineRules):
        schema = Odd
        arguments = {Odd.A: st.builds(Odd.A, st.integers())}  # type: ignore[misc]
        keywords = st.fixed_dictionaries({"who": st.sampled_from(["Ann", "Bob"])})
        seconds = ()

    run_state_machine_as_test(OddRules, settings=settings(QUICK, max_examples=5))


@given(st.data())
@settings(max_examples=5, deadline=None)
def test_it_runs_inside_of_other_tests(data: st.DataObject) -> None:
    """Any test may drive one by hand."""
    by_hand(lambda rules: rules.add(Gate.Unlocked(value=data.draw(st.integers(1, 9)))))
