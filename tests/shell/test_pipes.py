"""Pipes from one machine to another: what is carried, what is refused, how they end, and what they leave behind."""

from __future__ import annotations

import gc
import itertools
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import trsm
from trsm import (
    ErrorState,
    Machine,
    MutationError,
    PipeRefusal,
    ReadOnly,
    Schema,
    SchemaError,
    State,
    Transition,
    UnknownState,
)


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Note:
    text: str = "none"


class Source(Schema):
    Ready = State()
    Busy = State()
    Again = State(multi=True)
    Ordered = State(multi=True, args=Order)
    Noted = State(args=Note)
    Kept = State(latch=True)
    Failing = State()


class Target(Schema):
    Ready = State()
    Busy = State()
    Again = State(multi=True)
    Ordered = State(multi=True, args=Order)
    Noted = State(args=Note)
    Go = State()
    Gone = State()
    Locked = State(remove=Go)
    Kept = State(latch=True)


class Log:
    """Writes down what enters and leaves a machine of `Target`, with its arguments."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @Target.on_change
    def write(self, t: Transition) -> None:
        for sign, states in (("-", t.leaving), ("+", t.entering)):
            self.lines += [f"{sign}{state}{dict(t.args) or ''}" for state in states]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(autouse=True)
def _no_cycles() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


# ---- What is carried ------------------------------------------------------------------------------------------------


async def test_activation_and_deactivation(log: Log) -> None:
    """Both are carried at once, before the call on the source returns, with the free keywords of each."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, log) as target:
        opened = trsm.pipe(source, Source.Ready, target, Target.Go)
        assert source.add(Source.Ready, by="me").executed
        assert target.is_active(Target.Go)
        source.remove(Source.Ready, why="done")
        assert target.is_inactive(Target.Go)
        assert log.lines == ["+Go{'by': 'me'}", "-Go{'why': 'done'}"]
        assert opened.statistics() == trsm.PipeStatistics(carried=2, refused=0, waiting=0)
        assert opened.refusals == ()
        assert (opened.source, opened.target, opened.closed) == (source, target, False)


async def test_what_is_not_piped(log: Log) -> None:
    """It stays where it is, and so does what the target does by itself."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, log) as target:
        trsm.pipe(source, Source.Ready, target)
        source.add(Source.Busy)
        target.add(Target.Gone)
        assert log.lines == ["+Gone"]
        assert source.active_states == (Source.Busy,)


async def test_several_states_by_their_names(log: Log) -> None:
    """Each is carried to the state of the same name, in the order in which the source's handlers run."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, log) as target:
        trsm.pipe(source, (Source.Busy, Source.Ready), target)
        source.add(Source.Ready, Source.Busy)
        source.remove(Source.Ready, Source.Busy)
        assert log.lines == ["+Ready", "+Busy", "-Busy", "-Ready"]


@pytest.mark.parametrize("is_mapping", [True, False])
async def test_mapped_names(log: Log, is_mapping: bool) -> None:
    """States lead where a mapping, or a second list in the same order, says."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, log) as target:
        if is_mapping:
            opened = trsm.pipe(source, {Source.Ready: Target.Go, Source.Busy: Target.Gone}, target)
        else:
            opened = trsm.pipe(source, [Source.Ready, Source.Busy], target, [Target.Go, Target.Gone])
        source.add(Source.Busy)
        source.set(Source.Ready)
        assert log.lines == ["+Gone", "-Gone", "+Go"]
        assert repr(opened) == f"<Pipe {source.id!r} → {target.id!r}: Ready → Go, Busy → Gone>"
        opened.close()
        assert repr(opened).endswith("Gone (closed)>")


async def test_several_states_that_lead_to_one(log: Log) -> None:
    """It leaves with the last of them, and one that comes as another goes takes over."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, log) as target:
        trsm.pipe(source, {Source.Ready: Target.Go, Source.Busy: Target.Go}, target)
        source.add(Source.Ready)
        source.add(Source.Busy)
        source.remove(Source.Ready)
        assert log.lines == ["+Go"]
        source.set(Source.Ready)
        assert log.lines == ["+Go", "-Go", "+Go"]
        source.remove(Source.Ready)
        assert log.lines == ["+Go", "-Go", "+Go", "-Go"]


async def test_two_pipes_that_lead_to_one_state(log: Log) -> None:
    """They do not know of each other: the first that removes it has removed it."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, log) as target:
        trsm.pipe(source, Source.Ready, target, Target.Go)
        trsm.pipe(source, Source.Busy, target, Target.Go)
        source.add(Source.Ready, Source.Busy)
        source.remove(Source.Ready)
        assert log.lines == ["+Go", "-Go"]
        assert source.is_active(Source.Busy)


async def test_one_of_two_that_lead_to_one_comes_and_fails() -> None:
    """The other has left in the same transition: the target's state leaves too."""

    @Source.Failing.on_enter
    def fail(t: Transition) -> None:
        raise ValueError

    class Forgiving(Source):
        ErrValue = ErrorState(catches=ValueError)

    async with trsm.open_machine(Forgiving, fail) as source, trsm.open_machine(Target) as target:
        trsm.pipe(source, {Source.Ready: Target.Go, Source.Failing: Target.Go}, target)
        source.add(Source.Ready)
        source.mutate(add=Source.Failing, remove=Source.Ready)
        assert source.is_inactive(Source.Ready, Source.Failing)
        assert target.is_inactive(Target.Go)


async def test_several_pipes_of_one_state(log: Log) -> None:
    """They carry in the order in which they were opened; what leaves goes in the reverse."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, log) as target:
        for there in (Target.Gone, Target.Go, Target.Busy):
            trsm.pipe(source, Source.Ready, target, there)
        source.add(Source.Ready)
        source.remove(Source.Ready)
        assert log.lines == ["+Gone", "+Go", "+Busy", "-Busy", "-Go", "-Gone"]


async def test_multi_state_called_again() -> None:
    """Each call is carried: +2 where the target's state is multi too, and nothing where it is not."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        trsm.pipe(source, Source.Again, target)
        trsm.pipe(source, Source.Again, target, Target.Go)
        for _ in range(3):
            source.add(Source.Again)
        assert (target.tick(Target.Again), target.tick(Target.Go)) == (5, 1)
        source.remove(Source.Again)
        assert (target.tick(Target.Again), target.tick(Target.Go)) == (6, 2)


async def test_arguments_of_an_args_class() -> None:
    """Where both states have the same class the very instance is carried, each in its order."""
    seen: list[Order] = []

    @Target.Ordered.on_enter
    def take(t: Transition) -> None:
        seen.append(t.args_of(Target.Ordered))

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, take) as target:
        trsm.pipe(source, Source.Ordered, target)
        orders = [Order(number) for number in range(3)]
        for order in orders:
            source.add(trsm.Call(Source.Ordered, order))
        assert [id(order) for order in seen] == [id(order) for order in orders]


async def test_args_class_with_defaults_that_the_source_does_not_have() -> None:
    """The target's state comes with them."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        trsm.pipe(source, {Source.Ready: Target.Noted, Source.Noted: Target.Go}, target)
        source.add(Source.Ready)
        assert target.last_transition.args_of(Target.Noted) == Note()
        source.add(Source.Noted(text="hello"))
        assert target.is_active(Target.Go)


async def test_args_class_that_the_source_does_not_have() -> None:
    """Refused: nobody could pass what the target's state needs; the message names the field."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        with pytest.raises(SchemaError, match=r"pipe\(Ready → Ordered\): Ordered needs number, which Ready does not"):
            trsm.pipe(source, Source.Ready, target, Target.Ordered)
        source.add(Source.Ready)
        assert target.active_states == ()


async def test_states_of_a_base_schema() -> None:
    """Pipes take states of the schemas that a machine's schema inherits, changed in it or not."""

    class Heir(Source):
        Ready = Source.Ready.extend(tags="x")

    class Further(Target):
        Ready = Target.Ready.extend(tags="x")

    async with trsm.open_machine(Heir) as source, trsm.open_machine(Further) as target:
        trsm.pipe(source, {Source.Ready: Target.Ready}, target)
        with pytest.raises(MutationError, match="close a ring"):
            trsm.pipe(target, {Further.Ready: Heir.Ready}, source)
        source.add(Heir.Ready)
        assert target.is_active(Further.Ready)


async def test_cause_of_what_is_carried() -> None:
    """The target's transition knows the pipe, and what the source's transition came from."""
    async with trsm.open_machine(Source, id="a") as source, trsm.open_machine(Target) as target:
        trsm.pipe(source, Source.Ready, target)
        source.add(Source.Ready)
        cause = target.last_transition.source
        assert cause is not None
        assert (cause.machine, cause.called, cause.handler) == ("a", ("Ready",), "pipes of Ready")


async def test_chain_of_pipes() -> None:
    """What is carried to one machine is carried on from there, and within one machine too."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        trsm.pipe(source, Source.Ready, target, Target.Ready)
        trsm.pipe(target, Target.Ready, target, Target.Go)
        trsm.pipe(target, Target.Go, source, Source.Busy)
        source.add(Source.Ready)
        assert source.is_active(Source.Busy)
        source.remove(Source.Ready)
        assert source.active_states == target.active_states == ()


async def test_target_in_a_transition(log: Log) -> None:
    """What its own handler makes of the source waits in its queue, in order, and is judged there."""

    @Target.Gone.on_enter
    def poke(t: Transition) -> None:
        source.add(Source.Ready)
        source.remove(Source.Ready)
        source.add(Source.Ready)
        source.add(Source.Busy)
        assert opened.statistics() == trsm.PipeStatistics(carried=0, refused=0, waiting=4)

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, poke, log) as target:
        opened = trsm.pipe(source, [Source.Ready, Source.Busy], target, [Target.Go, Target.Busy])
        target.add(Target.Gone)
        assert log.lines == ["+Gone", "+Go", "-Go", "+Go", "+Busy"]
        assert opened.statistics() == trsm.PipeStatistics(carried=4, refused=0, waiting=0)


async def test_target_that_answers_its_source() -> None:
    """A handler of the target changes the source: that is queued there, and carried in its turn."""

    @Target.Go.on_enter
    def answer(t: Transition) -> None:
        assert source.remove(Source.Ready).queued

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, answer) as target:
        trsm.pipe(source, Source.Ready, target, Target.Go)
        source.add(Source.Ready)
        assert source.is_inactive(Source.Ready)
        assert (target.tick(Target.Go), target.is_inactive(Target.Go)) == (2, True)


async def test_started_children() -> None:
    """They are machines as any: pipes lead from child to parent, from parent to child, and end with the child."""
    async with trsm.open_machine(Target) as parent:
        child = parent.start_child(Source)
        up = trsm.pipe(child, Source.Ready, parent, Target.Go)
        down = trsm.pipe(parent, Target.Gone, child, Source.Busy)
        child.add(Source.Ready)
        parent.add(Target.Gone)
        assert (parent.is_active(Target.Go), child.is_active(Source.Busy)) == (True, True)
        child.close()
        assert (up.closed, down.closed, parent.is_active(Target.Go)) == (True, True, False)


async def test_schemas_extended_at_run_time() -> None:
    """Pipes that are open go on, catch up, and still close a ring."""

    class MoreSource(Source):
        New = State()
        Ready = Source.Ready.extend(tags="x")

    class MoreTarget(Target):
        New = State()
        Ready = Target.Ready.extend(tags="x")

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        opened = trsm.pipe(source, (Source.Ready, Source.Ordered), target)
        source.extend_schema(MoreSource)
        target.extend_schema(MoreTarget)
        source.add(MoreSource.Ready)
        source.add(Source.Ordered(number=3))
        assert target.active_states == (MoreTarget.Ready, Target.Ordered)
        target.remove(Target.Ready, Target.Ordered)
        opened.sync()
        assert target.active_states == (MoreTarget.Ready, Target.Ordered)
        assert target.last_transition.args_of(Target.Ordered) == Order(3)
        with pytest.raises(MutationError, match="close a ring"):
            trsm.pipe(target, Target.Ready, source)
        trsm.pipe(source, MoreSource.New, target)
        source.add(MoreSource.New)
        assert target.is_active(MoreTarget.New)


# ---- What is refused ------------------------------------------------------------------------------------------------


async def test_target_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """The source goes on; the pipe keeps the reason, counts it, and logs it as a warning."""
    async with trsm.open_machine(Source, id="a") as source, trsm.open_machine(Target, id="b") as target:
        opened = trsm.pipe(source, Source.Ready, target, Target.Go)
        target.add(Target.Locked)
        with caplog.at_level(logging.WARNING, "trsm"):
            assert source.add(Source.Ready).executed
        (refusal,) = opened.refusals
        assert (refusal.state, refusal.kind) == (Target.Go, "add")
        assert "Locked removes it" in refusal.reason
        assert opened.statistics() == trsm.PipeStatistics(carried=0, refused=1, waiting=0)
        (line,) = caplog.messages
        assert line.startswith("<Pipe 'a' → 'b': Ready → Go>: add(Go) was refused: ")


async def test_target_refuses_a_removal() -> None:
    """A latched state stays, and the pipe says so."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        opened = trsm.pipe(source, Source.Ready, target, Target.Kept)
        source.add(Source.Ready)
        source.remove(Source.Ready)
        assert [(one.state, one.kind) for one in opened.refusals] == [(Target.Kept, "remove")]
        assert "latched" in opened.refusals[0].reason


async def test_target_refuses_what_had_to_wait() -> None:
    """It is seen as soon as somebody asks."""

    @Target.Locked.on_enter
    def poke(t: Transition) -> None:
        source.add(Source.Ready)

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, poke) as target:
        opened = trsm.pipe(source, Source.Ready, target, Target.Go)
        target.add(Target.Locked)
        assert [one.state for one in opened.refusals] == [Target.Go]
        assert opened.statistics() == trsm.PipeStatistics(carried=0, refused=1, waiting=0)


async def test_target_has_no_room() -> None:
    """A full queue is a refusal like any; what was accepted is kept, and `sync` makes up for it."""

    @Target.Gone.on_enter
    def poke(t: Transition) -> None:
        source.add(Source.Ready)
        source.add(Source.Busy)

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, poke, queue_limit=1) as target:
        opened = trsm.pipe(source, (Source.Ready, Source.Busy), target)
        target.add(Target.Gone)
        assert target.active_states == (Target.Ready, Target.Gone)
        (refusal,) = opened.refusals
        assert (refusal.state, refusal.kind) == (Target.Busy, "add")
        assert "queue_limit" in refusal.reason
        opened.sync()
        assert target.is_active(Target.Busy)


async def test_source_changed_while_the_target_is_asked() -> None:
    """A negotiation handler of the target may not change it by a detour either: the pipe keeps that as a refusal."""

    @Target.Gone.can_enter
    def poke(t: Transition) -> bool:
        return bool(source.add(Source.Ready))

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, poke) as target:
        opened = trsm.pipe(source, Source.Ready, target)
        target.add(Target.Gone)
        assert source.error is None
        assert target.active_states == (Target.Gone,)
        (refusal,) = opened.refusals
        assert "negotiation handler" in refusal.reason


async def test_very_many_refusals() -> None:
    """The last hundred are kept, all are counted."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        opened = trsm.pipe(source, Source.Again, target, Target.Go)
        target.add(Target.Locked)
        for _ in range(150):
            source.add(Source.Again)
        assert len(opened.refusals) == 100
        assert opened.statistics().refused == 150
        assert isinstance(opened.refusals[0], PipeRefusal)


# ---- Faults ---------------------------------------------------------------------------------------------------------


class Careful(Source):
    ErrValue = ErrorState(catches=ValueError)


def failing(state: State[[], object]) -> Callable[[Transition], None]:
    @state.on_enter
    def fail(t: Transition) -> None:
        raise ValueError("no")

    return fail


@pytest.mark.parametrize("is_late", [True, False])
async def test_handler_of_the_source_raises(log: Log, is_late: bool) -> None:
    """The state leaves again, and what was carried of it too; what never was carried is never there."""
    fail = failing(Source.Ready)
    async with trsm.open_machine(Careful, *(() if is_late else (fail,))) as source:
        async with trsm.open_machine(Target, log) as target:
            trsm.pipe(source, (Source.Ready, Source.Busy), target)
            if is_late:
                source.bind(fail)
            source.add(Source.Ready, Source.Busy)
            assert source.is_inactive(Source.Ready, Source.Busy)
            assert log.lines == (["+Ready", "-Ready"] if is_late else [])
            assert target.active_states == ()


async def test_handler_of_the_target_raises() -> None:
    """That is the target's affair: its state leaves, and the source has no error."""

    class Other(Target):
        ErrValue = ErrorState(catches=ValueError)

    async with trsm.open_machine(Source) as source, trsm.open_machine(Other, failing(Target.Go)) as target:
        opened = trsm.pipe(source, Source.Ready, target, Target.Go)
        source.add(Source.Ready)
        assert source.error is None
        assert target.is_active(Other.ErrValue)
        assert target.is_inactive(Target.Go)
        assert opened.statistics().carried == 1
        opened.sync()
        assert target.tick(Target.Go) == 4


async def test_handler_of_a_target_raises_no_exception() -> None:
    """It goes to the caller, through the source, which closes; the other pipes of that state carry all the same."""

    @Target.Go.on_enter
    def stop(t: Transition) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with trsm.open_machine(Target, id="last") as last:
            async with trsm.open_machine(Source) as source, trsm.open_machine(Target, stop) as target:
                trsm.pipe(source, Source.Ready, target, Target.Go)
                trsm.pipe(source, Source.Ready, last)
                try:
                    source.add(Source.Ready)
                finally:
                    assert last.tick(Target.Ready) == 2
                    assert source.closed
                    assert target.closed


async def test_handlers_of_two_targets_raise_no_exception() -> None:
    """Both go to the caller, in a group, as those of the machine's own handlers do."""

    @Target.Go.on_exit
    def stop(t: Transition) -> None:
        raise SystemExit(3)

    async with trsm.open_machine(Source, id="a") as source:
        async with trsm.open_machine(Target, stop) as one, trsm.open_machine(Target, stop) as two:
            for target in (one, two):
                trsm.pipe(source, Source.Ready, target, Target.Go)
            source.add(Source.Ready)
            with pytest.raises(BaseExceptionGroup, match="in handlers of machine 'a'") as caught:
                source.remove(Source.Ready)
            assert [type(one) for one in caught.value.exceptions] == [SystemExit, SystemExit]
            assert (source.closed, one.closed, two.closed) == (True, True, True)


async def test_error_is_piped(log: Log) -> None:
    """It is carried as any state; but a pipe only watches, so that what nobody handles still closes the source."""
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Target, log):
            async with trsm.open_machine(Target, log) as target, trsm.open_machine(Source) as source:
                trsm.pipe(source, Source.Error, target, Target.Gone)
                source.add_error(ValueError("nobody's"))
                assert source.closed
                assert log.lines == ["+Gone", "-Gone"]
                await trio.sleep_forever()
    assert caught.group_contains(ValueError, match="nobody's")


async def test_error_is_piped_and_handled() -> None:
    """A handler of the user's own on Error handles it, with pipes or without."""

    @Source.Error.on_enter
    def handle(t: Transition) -> None:
        pass

    async with trsm.open_machine(Source, handle) as source, trsm.open_machine(Target) as target:
        trsm.pipe(source, Source.Error, target, Target.Gone)
        source.add_error(ValueError())
        assert target.is_active(Target.Gone)
        source.remove(Source.Error)
        assert target.is_inactive(Target.Gone)


# ---- Rings ----------------------------------------------------------------------------------------------------------


async def test_ring_of_two_machines() -> None:
    """Refused, with the road; nothing is piped then. Other states may lead back."""
    async with trsm.open_machine(Source, id="a") as one, trsm.open_machine(Target, id="b") as two:
        trsm.pipe(one, Source.Ready, two, Target.Go)
        with pytest.raises(MutationError) as caught:
            trsm.pipe(two, {Target.Gone: Source.Busy, Target.Go: Source.Ready}, one)
        assert str(caught.value) == ("pipe(Go → Ready) would close a ring: Go of 'b' → Ready of 'a' → Go of 'b'")
        two.add(Target.Gone)
        assert one.is_inactive(Source.Busy)
        trsm.pipe(two, Target.Go, one, Source.Busy)
        one.add(Source.Ready)
        assert one.is_active(Source.Busy)


async def test_ring_of_three_machines() -> None:
    """It is found over any number of pipes; once one of them is closed it is none."""
    async with trsm.open_machine(Source, id="a") as one, trsm.open_machine(Source, id="b") as two:
        async with trsm.open_machine(Source, id="c") as three:
            trsm.pipe(one, Source.Ready, two)
            middle = trsm.pipe(two, {Source.Ready: Source.Busy}, three)
            with pytest.raises(MutationError, match="Busy of 'c' → Ready of 'a' → Ready of 'b' → Busy of 'c'"):
                trsm.pipe(three, {Source.Busy: Source.Ready}, one)
            middle.close()
            trsm.pipe(three, {Source.Busy: Source.Ready}, one)
            three.add(Source.Busy)
            assert two.is_active(Source.Ready)


async def test_ring_within_one_machine() -> None:
    """A state led to itself, or two that lead to each other: by one pipe, or by two."""
    async with trsm.open_machine(Source, id="a") as machine:
        with pytest.raises(MutationError, match=r"ring: Ready of 'a' → Ready of 'a'"):
            trsm.pipe(machine, Source.Ready, machine)
        with pytest.raises(MutationError, match=r"ring: Ready of 'a' → Busy of 'a' → Ready of 'a'"):
            trsm.pipe(machine, {Source.Ready: Source.Busy, Source.Busy: Source.Ready}, machine)
        trsm.pipe(machine, {Source.Ready: Source.Busy}, machine)
        with pytest.raises(MutationError, match="ring"):
            trsm.pipe(machine, {Source.Busy: Source.Ready}, machine)


async def test_ring_that_takes_two_states_of_the_new_pipe() -> None:
    """Neither of them alone would close it."""
    async with trsm.open_machine(Source, id="a") as one, trsm.open_machine(Target, id="b") as two:
        trsm.pipe(two, {Target.Ready: Source.Busy, Target.Busy: Source.Ready}, one)
        with pytest.raises(MutationError, match="Ready of 'a' → Ready of 'b' → Busy of 'a' → Busy of 'b' → Ready of"):
            trsm.pipe(one, {Source.Ready: Target.Ready, Source.Busy: Target.Busy}, two)


async def test_many_roads() -> None:
    """Diamond after diamond: each place is looked at once, however many roads lead to it."""
    async with trsm.open_machine(Source) as top:
        machines = [top.start_child(Source) for _ in range(60)]
        for one, two in itertools.pairwise(machines):
            for here in (Source.Ready, Source.Busy):
                for there in (Source.Ready, Source.Busy):
                    trsm.pipe(one, {here: there}, two)
        with pytest.raises(MutationError, match="ring"):
            trsm.pipe(machines[-1], Source.Ready, machines[0])
        machines[0].add(Source.Again)
        assert machines[-1].active_states == ()


# ---- Opening --------------------------------------------------------------------------------------------------------


async def test_bad_arguments() -> None:
    """Each is refused before any effect, and the message says what to write."""
    async with trsm.open_machine(Source, id="a") as source, trsm.open_machine(Target, id="b") as target:

        def refused(error: type[Exception], words: str, *args: object) -> None:
            with pytest.raises(error, match=words):
                trsm.pipe(*args)  # type: ignore[arg-type]

        refused(TypeError, r"pipe\(source=None\): pass a machine", None, Source.Ready, target)
        refused(TypeError, r"pipe\(target=<Engine .*pass a machine", source, Source.Ready, trsm.Engine(Target))
        a_name = "pipe: 'Ready' is a name, and a state is due: write Source.Ready"
        for name in ("Ready", ["Ready"], {"Ready": Target.Go}):
            refused(MutationError, a_name, source, name, target)
        refused(
            MutationError, "'Go' is a name, and a state is due: write Target.Go", source, Source.Ready, target, "Go"
        )
        refused(TypeError, r"pipe\(…, 5\): pass a state, several, or a mapping", source, 5, target)
        refused(TypeError, r"pipe\(…, 5\)", source, Source.Ready, target, 5)
        with pytest.raises(TypeError, match=r"pipe\(…, sync='no'\): 'no' is no bool: write sync=True or sync=False"):
            trsm.pipe(source, Source.Ready, target, sync="no")  # type: ignore[arg-type]
        refused(UnknownState, "Go", source, Target.Go, target)
        refused(UnknownState, "Busy", source, Source.Ready, target, Source.Busy)
        refused(UnknownState, "Target has no state 'Failing'", source, Source.Failing, target)
        refused(UnknownState, "Failing", source, {Source.Ready: Source.Failing}, target)
        refused(MutationError, "names no state", source, [], target)
        refused(MutationError, "names no state", source, {}, target)
        refused(MutationError, "2 states cannot be piped to 1", source, [Source.Ready, Source.Busy], target, Target.Go)
        refused(MutationError, "Ready is piped twice", source, [Source.Ready, Source.Ready], target)
        refused(MutationError, "a mapping says where", source, {Source.Ready: Target.Go}, target, Target.Go)
        two, as_many = [Source.Ready, Source.Busy], [Target.Go, Target.Gone]
        for states, to in ((set(two), as_many), (two, frozenset(as_many))):
            refused(MutationError, "a set has no order.*write lists, or one mapping", source, states, target, to)
        refused(MutationError, "5", source, [5], target)
        assert source.add(Source.Ready).executed
        assert target.active_states == ()
        with pytest.raises(TypeError, match=r"pipes are opened: trsm.pipe"):
            trsm.Pipe()


@pytest.mark.parametrize("which", ["source", "target"])
async def test_closed_machine(which: str) -> None:
    """Refused: nothing would ever be carried."""
    async with trsm.open_machine(Source, id="source") as source, trsm.open_machine(Target, id="target") as target:
        child = {"source": source, "target": target}[which].start_child(Source, id=which)
        child.close()
        ends = (child, target) if which == "source" else (source, child)
        with pytest.raises(MutationError, match=rf"machine '{which}' is closed"):
            trsm.pipe(ends[0], Source.Ready, ends[1])


async def test_another_thread() -> None:
    """A pipe is opened, synced and closed where its machines live."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        opened = trsm.pipe(source, Source.Ready, target)
        ways = {
            "trsm.pipe, …": lambda: trsm.pipe(source, Source.Ready, target),
            "pipe.sync": opened.sync,
            "pipe.close": opened.close,
        }
        for way, act in ways.items():
            with pytest.raises(trsm.WrongThread) as caught:
                await trio.to_thread.run_sync(act)
            assert str(caught.value).endswith(f": write trio.from_thread.run_sync({way})")
        assert not opened.closed
        source.add(Source.Ready)
        assert target.is_active(Target.Ready)


async def test_opened_by_a_handler(log: Log) -> None:
    """It carries from the next transition on; with `sync`, what is active by now too."""

    @Source.Ready.on_enter
    def open_pipe(t: Transition) -> None:
        trsm.pipe(t.machine, Source.Ready, target, Target.Go)
        trsm.pipe(t.machine, Source.Ready, target, Target.Gone, sync=True)

    async with trsm.open_machine(Source, open_pipe) as source, trsm.open_machine(Target, log) as target:
        source.add(Source.Ready)
        assert log.lines == ["+Gone"]
        source.remove(Source.Ready)
        assert target.active_states == ()


async def test_opened_by_a_negotiation_handler() -> None:
    """Refused, as any change of who is called is; nothing is left behind."""

    @Source.Ready.can_enter
    def open_pipe(t: Transition) -> bool:
        with pytest.raises(ReadOnly, match="pipe of machine"):
            trsm.pipe(t.machine, Source.Busy, target)
        return True

    async with trsm.open_machine(Source, open_pipe) as source, trsm.open_machine(Target) as target:
        source.add(Source.Ready)
        source.add(Source.Busy)
        assert target.active_states == ()


# ---- Catching up ----------------------------------------------------------------------------------------------------


async def test_pipe_made_late() -> None:
    """Without `sync` it carries changes only; with it, the target becomes as the source is, arguments included."""
    seen: list[object] = []

    @Target.Ordered.on_enter
    def take(t: Transition) -> None:
        seen.append((t.args_of(Target.Ordered), dict(t.args)))

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, take) as target:
        order = Order(7)
        source.add(trsm.Call(Source.Ordered, order), by="me")
        source.add(Source.Busy)
        target.add(Target.Ready)
        states = (Source.Ready, Source.Busy, Source.Ordered)
        opened = trsm.pipe(source, states, target)
        assert target.active_states == (Target.Ready,)
        opened.sync()
        assert target.active_states == (Target.Busy, Target.Ordered)
        assert seen == [(order, {"by": "me"})]
        ticks = target.ticks
        opened.sync()
        assert target.ticks == ticks
        assert opened.statistics().carried == 3


async def test_sync_of_a_restored_source() -> None:
    """What a snapshot has kept of the arguments is carried."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        source.add(Source.Ready)
        source.add(Source.Ordered(number=3))
        async with trsm.open_machine(Source, snapshot=source.snapshot()) as again:
            trsm.pipe(again, (Source.Ready, Source.Ordered), target, sync=True)
            assert target.is_active(Target.Ready)
            assert target.last_transition.args_of(Target.Ordered) == Order(3)


async def test_sync_when_opened() -> None:
    """The same, by the argument of `pipe`; and what leaves afterwards is carried."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        source.add(Source.Ready, Source.Busy)
        trsm.pipe(source, {Source.Ready: Target.Go, Source.Busy: Target.Go}, target, sync=True)
        assert target.is_active(Target.Go)
        source.remove(Source.Ready)
        assert target.is_active(Target.Go)
        source.remove(Source.Busy)
        assert target.is_inactive(Target.Go)


async def test_sync_goes_in_the_order_of_the_source() -> None:
    """Removals first, then what others require: nothing is refused for the order alone."""

    class Chain(Schema):
        Top = State(require="Base")
        Base = State()
        Guard = State(remove=(Top, Base))

    async with trsm.open_machine(Chain) as source, trsm.open_machine(Chain) as target:
        source.add(Chain.Top, Chain.Base)
        target.add(Chain.Guard)
        opened = trsm.pipe(source, (Chain.Top, Chain.Base, Chain.Guard), target, sync=True)
        assert target.active_states == (Chain.Top, Chain.Base)
        assert opened.refusals == ()


async def test_sync_of_a_closed_pipe() -> None:
    """An error: whoever calls it believes that it carries."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        opened = trsm.pipe(source, Source.Ready, target)
        opened.close()
        with pytest.raises(MutationError, match=r"sync\(\) of <Pipe .*\(closed\)>, which carries nothing any more"):
            opened.sync()


# ---- Closing --------------------------------------------------------------------------------------------------------


async def test_closed_by_its_handle() -> None:
    """What was carried stays, nothing follows, and doing so twice is fine; other pipes go on."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        opened = trsm.pipe(source, Source.Ready, target)
        trsm.pipe(source, Source.Ready, target, Target.Go)
        source.add(Source.Ready)
        opened.close()
        opened.close()
        assert opened.closed
        source.remove(Source.Ready)
        assert target.active_states == (Target.Ready,)


async def test_closed_by_a_handler_of_the_target() -> None:
    """In the middle of what it carries: the rest is not carried."""

    @Target.Go.on_enter
    def stop(t: Transition) -> None:
        opened.close()

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target, stop) as target:
        opened = trsm.pipe(source, {Source.Ready: Target.Go, Source.Busy: Target.Gone}, target)
        source.add(Source.Ready, Source.Busy)
        assert target.active_states == (Target.Go,)


async def test_source_closes() -> None:
    """Its states leave, and that is the last that is carried."""
    async with trsm.open_machine(Target) as target:
        async with trsm.open_machine(Source) as source:
            opened = trsm.pipe(source, Source.Ready, target, Target.Go)
            source.add(Source.Ready)
        assert target.is_inactive(Target.Go)
        assert opened.closed
        assert target.add(Target.Go).executed


async def test_pipe_within_a_machine_that_closes() -> None:
    """Both of its ends close at once."""
    async with trsm.open_machine(Source) as machine:
        opened = trsm.pipe(machine, {Source.Ready: Source.Busy}, machine)
        machine.add(Source.Ready)
    assert opened.closed
    assert opened.statistics().carried == 1


async def test_target_closes() -> None:
    """The pipe closes in the same step, the source goes on, and refuses nothing; no refusal is noted."""
    async with trsm.open_machine(Source) as source:
        async with trsm.open_machine(Target) as target:
            opened = trsm.pipe(source, Source.Ready, target, Target.Go)
            source.add(Source.Ready)
            target.close()
            assert opened.closed
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
        source.remove(Source.Ready)
        assert opened.refusals == ()
        assert source._bound == ()


async def test_target_that_is_closing_changes_the_source() -> None:
    """What its last handlers make of the source is not carried back, and is no refusal."""

    @Target.Gone.on_exit
    def last(t: Transition) -> None:
        source.add(Source.Ready)

    async with trsm.open_machine(Source) as source:
        async with trsm.open_machine(Target, last) as target:
            opened = trsm.pipe(source, Source.Ready, target, Target.Go)
            target.add(Target.Gone)
        assert source.is_active(Source.Ready)
        assert (opened.closed, opened.refusals) == (True, ())


async def test_target_closes_with_something_in_its_queue() -> None:
    """That was refused, and is told."""

    @Target.Gone.on_enter
    def poke(t: Transition) -> None:
        source.add(Source.Ready)
        target.close()

    async with trsm.open_machine(Source) as source:
        async with trsm.open_machine(Target, poke, id="b") as target:
            opened = trsm.pipe(source, Source.Ready, target, Target.Go)
            target.add(Target.Gone)
        assert [one.reason for one in opened.refusals] == ["machine 'b' is closing"]


async def test_target_closed_while_the_source_is_asked() -> None:
    """A negotiation handler of the source closes the target: the pipe ends; its handlers go when the next one ends."""

    @Source.Busy.can_enter
    def close(t: Transition) -> bool:
        target.close()
        return True

    async with trsm.open_machine(Source, close) as source, trsm.open_machine(Target) as other:
        bound = len(source._bound)
        async with trsm.open_machine(Target) as target:
            opened = trsm.pipe(source, Source.Ready, target, Target.Go)
            source.add(Source.Busy)
            assert opened.closed
        source.add(Source.Ready)
        assert len(source._bound) == bound + 2
        again = trsm.pipe(source, Source.Ready, other)
        assert len(source._bound) == bound + 2
        again.close()
        assert len(source._bound) == bound


# ---- What is left behind --------------------------------------------------------------------------------------------


async def test_pipes_that_nobody_closed() -> None:
    """Machines and pipes go with their last reference: nothing is cyclic, and nothing keeps a machine alive."""
    gone: list[weakref.ref[object]] = []

    async def run() -> None:
        async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
            one = trsm.pipe(source, {Source.Ready: Target.Go, Source.Busy: Target.Gone}, target)
            two = trsm.pipe(target, Target.Gone, source, Source.Again)
            source.add(Source.Ready, Source.Busy)
            gone.extend(weakref.ref(each) for each in (source, target, one, two))

    await run()
    await trio.lowlevel.checkpoint()
    assert [ref() for ref in gone] == [None] * 4


async def test_pipe_that_outlives_its_machines() -> None:
    """It holds neither; it says that they are gone."""

    async def run() -> trsm.Pipe:
        async with trsm.open_machine(Source, id="a") as source, trsm.open_machine(Target, id="b") as target:
            return trsm.pipe(source, Source.Ready, target, Target.Go)

    opened = await run()
    await trio.lowlevel.checkpoint()
    assert (opened.source, opened.target, opened.closed) == (None, None, True)
    assert repr(opened) == "<Pipe 'a' → 'b': Ready → Go (closed)>"
    opened.close()


async def open_and_close(count: int) -> None:
    """Open pipes and close them, by their handle or with their target, and assert that nothing is left of them."""

    def several(times: int) -> None:
        for number in range(times):
            if number % 2:
                trsm.pipe(source, Source.Ready, target).close()
            else:
                child = target.start_child(Target)
                trsm.pipe(source, (Source.Ready, Source.Busy), child)
                child.close()

    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as target:
        several(100)
        before = len(gc.get_objects())
        several(100)  # each is the only one, so that handlers come and go
        standing = trsm.pipe(source, (Source.Ready, Source.Busy), target)
        several(count)
        standing.close()
        assert len(gc.get_objects()) - before < 100
        assert source._bound == ()


async def test_pipes_opened_and_closed() -> None:
    """The source is as it was, and no pipe lives on."""
    await open_and_close(100)


def test_ten_thousand_pipes_opened_and_closed() -> None:
    """The same; in a process of its own, which coverage does not slow."""
    code = "import gc, trio; from shell.test_pipes import *; gc.disable(); trio.run(open_and_close, 10_000)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_very_many_pipes_from_one_machine() -> None:
    """Opening one more costs no more than the first: its handlers are bound once."""
    async with trsm.open_machine(Source) as source, trsm.open_machine(Target) as top:
        children = [top.start_child(Target) for _ in range(300)]
        for child in children:
            trsm.pipe(source, (Source.Ready, Source.Busy), child)
        assert len(source._bound) == 4
        source.add(Source.Ready)
        assert all(child.is_active(Target.Ready) for child in children)


# ---- The property ---------------------------------------------------------------------------------------------------


class Life(Schema):
    A = State(remove="B")
    B = State(remove=A)
    C = State(auto=True, require=A)
    D = State(multi=True, add=A)
    E = State(require=B)
    F = State()
    ErrValue = ErrorState(catches=ValueError, remove=F)


class Mirror(Schema):
    A = State()
    B = State()
    C = State()
    D = State(multi=True)
    E = State()
    F = State()
    Any = State()


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "set", "toggle"]), st.sets(st.sampled_from("ABCDEF"), min_size=1)),
    max_size=25,
)


@settings(max_examples=60)
@given(steps=STEPS, late=st.integers(0, 10), faulty=st.sets(st.sampled_from("ABCDEF"), max_size=2), nested=STEPS)
def test_target_mirrors_any_life_of_the_source_property(
    steps: list[tuple[str, set[str]]], late: int, faulty: set[str], nested: list[tuple[str, set[str]]]
) -> None:
    """After any mutations, faults and late opening included, the piped states are active exactly where the source's
    are, those that lead to one together included, and have been active as often."""

    def fail(t: Transition) -> None:
        if t.tick % 3 == 0:
            raise ValueError

    for name in sorted(faulty):
        Life[name].on_enter(fail)

    @Mirror.on_change
    def answer(t: Transition) -> None:
        if nested and t.tick % 4 == 0:
            kind, names = nested.pop()
            getattr(source, kind)(*(Life[name] for name in sorted(names)))

    async def run() -> None:
        nonlocal source
        async with trsm.open_machine(Life, *((fail,) if faulty else ())) as source:
            async with trsm.open_machine(Mirror, answer) as target:
                for number, (kind, names) in enumerate([*steps, ("add", {"F"})]):
                    if number == min(late, len(steps)):
                        pairs = {Life[name]: Mirror[name] for name in "ABCDEF"}
                        opened = trsm.pipe(source, pairs, target, sync=True)
                        both = trsm.pipe(source, [Life.A, Life.B], target, [Mirror.Any, Mirror.Any], sync=True)
                    getattr(source, kind)(*(Life[name] for name in sorted(names)))
                for name in "ABCDEF":
                    assert source.is_active(Life[name]) is target.is_active(Mirror[name]), name
                assert source.any_active(Life.A, Life.B) is target.is_active(Mirror.Any)
                assert opened.refusals == both.refusals == ()
                assert opened.statistics().waiting == 0

    source: Machine
    trio.run(run)
