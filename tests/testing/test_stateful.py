"""The base for rule-based state machines: what it drives, what it finds, and the program that shows it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import attrs
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from trsm import ErrorState, HandlerError, Schema, State, Transition
from trsm.testing import Fault, MachineRules

QUICK = settings(max_examples=30, stateful_step_count=12, deadline=None, database=None)
SEARCH = settings(
    QUICK, max_examples=100, derandomize=True, phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False
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


def found(rules: type[MachineRules]) -> BaseException:
    """Return what Hypothesis finds, which has to be something."""
    with pytest.raises(BaseException) as caught:
        run_state_machine_as_test(rules, settings=SEARCH)
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


class Leaky:
    """Swallows its cancellation, and sleeps on."""

    @Two.Left.task
    async def work(self, t: Transition) -> None:
        while True:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                await trio.sleep_forever() if t.machine.closed else None


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
def test_what_goes_wrong_in_the_machine_is_found(handlers: type, words: str) -> None:
    """An error that nobody raised on purpose, tasks that spin, a cleanup without an end; each with its program."""

    class TwoRules(MachineRules):
        schema = Two
        faults = ()

    TwoRules.handlers = (handlers,)
    error = found(TwoRules)
    assert words in str(error)
    program = program_of(error)
    assert "# where TwoRules is defined:" in program
    with pytest.raises(AssertionError) as caught:
        run_program(program, TwoRules)
    assert words in str(caught.value)


def test_errors_that_are_expected_may_leave_the_machine() -> None:
    """And so may those that were raised on purpose."""

    class TwoRules(MachineRules):
        schema = Two
        handlers = (Buggy,)
        expected = (RuntimeError,)

    run_state_machine_as_test(TwoRules, settings=QUICK)


# ---- Steps by hand --------------------------------------------------------------------------------------------------


def by_hand(act: Callable[[GateRules], object]) -> GateRules:
    rules = GateRules()
    try:
        act(rules)
    finally:
        rules.teardown()
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


def test_a_fault_that_cannot_be_raised() -> None:
    """It says what to pass."""
    with pytest.raises(TypeError, match=r"GateRules.faults: it made 3, which cannot be raised"):
        by_hand(lambda rules: rules.fail(0, lambda: 3))  # type: ignore[arg-type,return-value]


def test_the_program_of_nothing() -> None:
    """A machine that cannot even be closed is made, and torn down."""
    rules = by_hand(lambda rules: None)
    assert "rules.machine" in rules._program()
    assert "Gate = " not in rules._program()


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
