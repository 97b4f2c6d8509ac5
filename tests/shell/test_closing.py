"""Closing: its steps in their order, who may ask for it and when, cleanups, and what holds afterwards (DESIGN 6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Canceled, ErrorState, Machine, MachineClosed, Queued, ReadOnly, Schema, State, Transition

Handler = Callable[[Transition], object]


class Door(Schema):
    Open = State()
    Lit = State(require=Open)
    Sealed = State(latch=True)
    Ring = State(multi=True)
    Ajar = State(auto=True, require=Open)
    Never = State()


class Faulty(Schema):
    Open = State()
    Shut = State()
    ErrValue = ErrorState(catches=ValueError)


@Door.Open.task
async def forever(t: Transition) -> None:
    await trio.sleep_forever()


async def settle() -> None:
    """Let everything that can run do so, cancelled or not."""
    with trio.CancelScope(shield=True):
        await wait_all_tasks_blocked()


async def fail_with(error: BaseException) -> None:
    raise error


# ---- The steps in their order ---------------------------------------------------------------------------------------


class Steps:
    """Writes down what happens to a machine, in order."""

    def __init__(self, log: list[str], name: str = "") -> None:
        self.log = log
        self.name = name

    def note(self, word: str) -> None:
        self.log.append(f"{self.name}{word}")

    @Door.Open.on_exit
    def close_door(self, t: Transition) -> None:
        assert t.kind == "close"
        self.note("exit Open")

    @Door.Lit.on_exit
    def dim(self, t: Transition) -> None:
        self.note("exit Lit")

    @Door.Sealed.on_exit
    def unseal(self, t: Transition) -> None:
        self.note("exit Sealed")

    @Door.Open.task
    async def hold(self, t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.note("task cancelled")
            await settle()
            self.note("task ended")

    async def clean_up(self, word: str) -> None:
        self.note(f"cleanup {word}")
        await trio.lowlevel.checkpoint()
        self.note(f"cleaned {word}")


async def test_all_steps_of_closing_in_their_order() -> None:
    """Children, the queue, exits of every state in order, body and tasks, cleanups in reverse, `when_closed`."""
    log: list[str] = []

    async def watch_end(machine: Machine) -> None:
        await machine.when_closed()
        log.append("when_closed")

    queued: list[trsm.Result] = []

    @Door.Never.on_enter
    def close(t: Transition) -> None:
        t.machine.close()
        queued.append(t.machine.add(Door.Ring))
        assert not t.machine.closed  # it runs after the present transition
        log.append("transition ends")

    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Door, Steps(log), close) as machine:
            nursery.start_soon(watch_end, machine)
            old = machine.start_child(Door, Steps(log, "old: "))
            young = machine.start_child(Door, Steps(log, "young: "))
            for one in (machine, old, young):
                one.add(Door.Open, Door.Lit, Door.Sealed)
            machine.defer(Steps(log).clean_up, "first")
            machine.defer(Steps(log).clean_up, "second")
            await settle()
            machine.add(Door.Never)
            log.append("closed")
            assert machine.closed
            try:
                await trio.lowlevel.checkpoint()
            finally:
                log.append("body cancelled")
                await settle()
                log.append("body ended")
        log.append("left")
    synchronous = [
        "transition ends",
        *(f"{name}exit {state}" for name in ("young: ", "old: ", "") for state in ("Sealed", "Lit", "Open")),
        "closed",
    ]
    assert log[: len(synchronous)] == synchronous
    rest = log[len(synchronous) :]
    told = {f"{name}task cancelled" for name in ("young: ", "old: ", "")} | {"body cancelled"}
    assert set(rest[:4]) == told
    joined = {f"{name}task ended" for name in ("young: ", "old: ", "")} | {"body ended"}
    assert set(rest[4:8]) == joined
    assert rest[8:12] == ["cleanup second", "cleaned second", "cleanup first", "cleaned first"]
    assert sorted(rest[12:]) == ["left", "when_closed"]
    (result,) = queued
    assert isinstance(result, Queued)
    assert result.canceled
    assert isinstance(result.outcome, Canceled)
    assert result.outcome.reason == f"machine {machine.id!r} is closing"


async def test_what_holds_right_after_the_call() -> None:
    """Steps 1 to 4 are one stretch: no task ran in between, every state has left, ticks are even, and readable."""
    async with trsm.open_machine(Door, forever, id="d") as machine:
        machine.add(Door.Open, Door.Lit, Door.Sealed)
        before = machine.ticks
        assert machine.ticks_at_close is None
        waiter = machine.when(Door.Never)
        with machine.while_active(Door.Open) as active, machine.while_inactive(Door.Never) as inactive:
            machine.close()
            assert active.cancel_called
            assert inactive.cancel_called
        assert machine.closed
        assert machine.active_states == ()
        assert all(machine.tick(state) % 2 == 0 for state in Door)
        assert machine.ticks_at_close == before
        assert before.is_active(Door.Open, Door.Lit, Door.Sealed, Door.Ajar)
        assert machine.last_transition.kind == "close"
        assert set(machine.last_transition.leaving) == {Door.Open, Door.Lit, Door.Sealed, Door.Ajar}
        assert waiter.done
        assert repr(machine) == "<Machine 'd' () closed>"


async def test_last_mutation_asks_nobody() -> None:
    """Nothing can refuse it: neither `can_exit` nor `can_change` is asked, and no automatic round follows."""
    asked = []

    class Refusing:
        @Door.Open.can_exit
        def stay(self, t: Transition) -> bool:
            asked.append("can_exit")
            return False

        @Door.can_change
        def keep(self, t: Transition) -> bool:
            return t.kind != "close"

    async with trsm.open_machine(Door, Refusing()) as machine:
        machine.add(Door.Open)
        assert machine.remove(Door.Open).canceled
        assert asked == ["can_exit"]
    assert asked == ["can_exit"]
    assert machine.active_states == ()


async def test_on_change_of_the_last_mutation() -> None:
    """`on_change` runs in it too, if anything was active."""
    kinds = []

    @Door.on_change
    def note(t: Transition) -> None:
        kinds.append(t.kind)

    async with trsm.open_machine(Door, note) as machine:
        machine.add(Door.Never)
    async with trsm.open_machine(Door, note):
        pass
    assert kinds == ["add", "close"]


async def test_waiters_at_closing() -> None:
    """Those that the last mutation satisfies wake with their value, all others fail, composites with them."""
    outcomes: dict[str, object] = {}

    async def wait(name: str, waiter: trsm.Waiter[object]) -> None:
        try:
            outcomes[name] = await waiter
        except MachineClosed as error:
            outcomes[name] = error

    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Door) as machine:
            machine.add(Door.Open)
            waiters = {
                "not": machine.when_not(Door.Open),
                "never": machine.when(Door.Never),
                "either": machine.when(Door.Never) | machine.when_not(Door.Open),
                "both": machine.when(Door.Never) & machine.when_not(Door.Open),
                "tick": machine.when_ticks(Door.Open, 1),
                "far": machine.when_ticks(Door.Open, 2),
                "error": machine.when_error(),
            }
            for name, waiter in waiters.items():
                nursery.start_soon(wait, name, waiter)
            await settle()
            assert outcomes == {}
    last = machine.last_transition
    assert {name for name, value in outcomes.items() if value is last} == {"not", "either", "tick"}
    for name in ("never", "both", "far", "error"):
        error = outcomes[name]
        assert isinstance(error, MachineClosed)
        assert error.machine is machine
        assert error.__cause__ is None


async def test_cause_of_machine_closed() -> None:
    """It is the first error that nothing handled, for who waited then and for who asks afterwards."""
    first, second = ValueError("first"), ValueError("second")

    class Failing:
        @Door.Never.on_enter
        def fail(self, t: Transition) -> None:
            raise first

        @Door.Open.on_exit
        def fail_too(self, t: Transition) -> None:
            raise second

    with pytest.raises(ExceptionGroup) as group:
        async with trsm.open_machine(Door, Failing()) as machine:
            machine.add(Door.Open)
            waiter = machine.when(Door.Ring)
            machine.add(Door.Never)
            for one in (waiter, machine.when(Door.Ring)):
                with trio.CancelScope(shield=True):
                    with pytest.raises(MachineClosed, match=r"after ValueError\('first'\)") as caught:
                        await one
                assert caught.value.__cause__ is first
    assert group.value.exceptions == (first, second)


async def test_waiters_made_after_closing() -> None:
    """A condition is judged by the ticks as closing began: satisfied then, or failed, at once."""
    async with trsm.open_machine(Door) as machine:
        machine.add(Door.Open)
        opened = machine.last_transition
    assert await machine.when(Door.Open, Door.Ajar) is not None
    assert (await machine.when_not(Door.Never)).kind == "close"
    assert await machine.when_query(lambda ticks: ticks[Door.Open] == 1)
    assert machine.when_tick(Door.Open, 1).done
    for waiter in (
        machine.when_not(Door.Open),
        machine.when(Door.Never),
        machine.when_tick(Door.Open, 2),
        machine.when_next(Door.Open),
    ):
        assert waiter.done
        with pytest.raises(MachineClosed):
            await waiter
    assert opened.machine is machine
    assert [ticks async for ticks in machine.watch()] == [machine.ticks_at_close]


async def test_scopes_after_closing() -> None:
    """Both kinds are over when they are entered."""
    async with trsm.open_machine(Door) as machine:
        machine.add(Door.Open)
    for scope in (
        machine.while_active(Door.Open),
        machine.while_active(Door.Never),
        machine.while_inactive(Door.Open),
        machine.while_inactive(Door.Never),
    ):
        with scope as entered:
            assert entered.cancel_called


# ---- Who closes, and when -------------------------------------------------------------------------------------------


async def test_closed_twice() -> None:
    """The second time does nothing: exits run once, `ticks_at_close` stays."""
    log: list[str] = []
    async with trsm.open_machine(Door, Steps(log)) as machine:
        machine.add(Door.Open)
        machine.close()
        at_close = machine.ticks_at_close
        machine.close()
        assert machine.ticks_at_close is at_close
    machine.close()
    assert log.count("exit Open") == 1


async def test_closed_by_its_body_which_goes_on_without_a_checkpoint() -> None:
    """Closing is no exception where it is called: a body that meets no checkpoint goes on to its end."""
    async with trsm.open_machine(Door) as machine:
        machine.close()
        on = True
    assert on


async def test_closed_before_the_first_checkpoint() -> None:
    """A task that was to start never does; the body is cancelled at its first checkpoint."""
    ran = []

    @Door.Open.task
    async def run(t: Transition) -> None:
        ran.append(t)

    async with trsm.open_machine(Door, run) as machine:
        machine.add(Door.Open)
        machine.close()
        await trio.lowlevel.checkpoint()
        pytest.fail("the body went on")
    assert ran == []


@pytest.mark.parametrize(
    "mark", [Door.Open.on_enter, Door.Never.on_exit, Door.on_change], ids=["on_enter", "on_exit", "on_change"]
)
async def test_closed_by_a_handler(mark: Callable[[Handler], Handler]) -> None:
    """It runs after the present transition, ahead of all that is queued; the handlers that follow still run."""
    log: list[object] = []

    @mark
    def close(t: Transition) -> None:
        if Door.Open in t.entering:
            t.machine.close()
            t.machine.close()
            log.append(t.machine.add(Door.Ring, first=True))

    @Door.on_change
    def after(t: Transition) -> None:
        log.append((t.kind, t.machine.closed))

    async with trsm.open_machine(Door, close, after) as machine:
        machine.add(Door.Never)
        del log[:]
        assert machine.mutate(add=Door.Open, remove=Door.Never)
        assert machine.closed
        queued, *kinds = log
    assert kinds == [("mutate", False), ("close", False)]
    assert isinstance(queued, Queued)
    assert queued.canceled
    assert machine.ticks_at_close is not None
    assert machine.ticks_at_close.active_states == (Door.Open,)


async def test_closed_by_an_exit_handler_while_it_closes() -> None:
    """It is closing already: nothing happens."""

    @Door.Open.on_exit
    def close(t: Transition) -> None:
        t.machine.close()

    async with trsm.open_machine(Door, close) as machine:
        machine.add(Door.Open)
    assert machine.closed


async def test_closed_by_a_task() -> None:
    """The task itself, the others and the body are cancelled and joined; the block ends without an exception."""
    log = []

    @Door.Open.task
    async def close(t: Transition) -> None:
        t.machine.close()
        log.append("closed")
        try:
            await trio.lowlevel.checkpoint()
        finally:
            await settle()
            log.append("task ended")

    async with trsm.open_machine(Door, close, forever) as machine:
        machine.add(Door.Open)
        await trio.sleep_forever()
        pytest.fail("the body went on")
    assert log == ["closed", "task ended"]


async def test_closed_by_a_handler_of_a_child() -> None:
    """Both are closed when the call that led to it returns: the child not before its own transition has ended."""
    log: list[str] = []

    @Door.Never.on_enter
    def close(t: Transition) -> None:
        child = t.machine
        assert child.parent is not None
        child.parent.close()
        assert not child.closed
        log.append("handler ends")

    async with trsm.open_machine(Door, Steps(log, "parent: ")) as machine:
        child = machine.start_child(Door, Steps(log, "child: "), close)
        machine.add(Door.Sealed)
        child.add(Door.Sealed)
        child.add(Door.Never)
        assert child.closed
        assert machine.closed
        await trio.sleep_forever()
    assert sorted(log) == ["child: exit Sealed", "handler ends", "parent: exit Sealed"]
    assert log.index("handler ends") < log.index("child: exit Sealed")


async def test_closed_by_a_task_of_a_child() -> None:
    """Both close, the child first; and the task that did it is joined before the block ends."""
    log: list[str] = []

    @Door.Ring.task
    async def close(t: Transition) -> None:
        parent = t.machine.parent
        assert parent is not None
        parent.close()
        try:
            await trio.lowlevel.checkpoint()
        finally:
            await settle()
            log.append("task ended")

    async with trsm.open_machine(Door, Steps(log, "parent: ")) as machine:
        child = machine.start_child(Door, Steps(log, "child: "), close)
        for one in (machine, child):
            one.add(Door.Sealed)
        child.add(Door.Ring)
        await trio.sleep_forever()
    assert log == ["child: exit Sealed", "parent: exit Sealed", "task ended"]


async def test_closed_by_a_predicate_or_in_negotiation() -> None:
    """Those who are asked may look and not change: `ReadOnly`, and the machine stays open."""
    raised = []

    @Door.Open.can_enter
    def ask(t: Transition) -> bool:
        with pytest.raises(ReadOnly, match="close of machine 'd' in the negotiation handler"):
            t.machine.close()
        with pytest.raises(ReadOnly, match="start_child of machine 'd' in the negotiation handler"):
            t.machine.start_child(Door)
        raised.append(t)
        return True

    async with trsm.open_machine(Door, ask, id="d") as machine:

        def query(ticks: trsm.Ticks) -> bool:
            with pytest.raises(ReadOnly, match="close of machine 'd' in a predicate"):
                machine.close()
            with pytest.raises(ReadOnly, match="start_child of machine 'd' in a predicate"):
                machine.start_child(Door)
            raised.append(ticks)
            return True

        machine.add(Door.Open)
        await machine.when_query(query)
        assert not machine.closed
        assert machine.children == ()
    assert len(raised) == 2


async def test_another_machine_closed_in_negotiation() -> None:
    """Only the machine that asks is read-only: its parent may be closed there; both are closed when it has asked."""

    async with trsm.open_machine(Door) as machine:

        @Door.Open.can_enter
        def ask(t: Transition) -> bool:
            machine.close()
            assert not t.machine.closed
            return True

        child = machine.start_child(Door, ask)
        assert child.can_add(Door.Open)
        assert child.closed
        assert machine.closed


async def test_closed_from_a_foreign_thread() -> None:
    """It is refused there, and works by trio's own way in."""
    async with trsm.open_machine(Door, id="d") as machine:

        def elsewhere() -> None:
            calls: list[Callable[[], object]] = [
                machine.close,
                machine.when_closed,
                lambda: machine.start_child(Door),
                lambda: machine.defer(settle),
                lambda: machine.children,
            ]
            for call in calls:
                with pytest.raises(trsm.WrongThread, match=r"of machine 'd' was (called|read) from a thread"):
                    call()
            trio.from_thread.run_sync(machine.close)

        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(elsewhere)
        assert machine.closed


async def test_close_wins_over_what_waits_in_the_drain() -> None:
    """An error that waits for its turn when the machine closes is unhandled: it is lost on no way."""
    error = ValueError("waits")

    @Faulty.Open.on_enter
    def close_and_fail(t: Transition) -> None:
        t.machine.close()
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Faulty, close_and_fail) as machine:
            machine.add(Faulty.Open)
            assert machine.closed
    assert caught.value.exceptions == (error,)


# ---- Mutations on a machine that closes -----------------------------------------------------------------------------


def mutations(machine: Machine) -> dict[str, trsm.Result]:
    return {
        "add": machine.add(Door.Never),
        "remove": machine.remove(Door.Open),
        "set": machine.set(Door.Never),
        "toggle": machine.toggle(Door.Open),
        "mutate": machine.mutate(add=Door.Never, remove=Door.Open),
        "first": machine.add(Door.Never, first=True, scope=trio.CancelScope(), note=1),
    }


async def test_mutations_while_closing_and_when_closed() -> None:
    """They are canceled, with that reason, and never raise: cleanup code may always call."""
    seen: dict[str, trsm.Result] = {}

    class Handlers:
        @Door.Open.on_exit
        def leave(self, t: Transition) -> None:
            seen.update({f"closing {name}": result for name, result in mutations(t.machine).items()})
            assert not t.machine.can_add(Door.Never)
            assert not t.machine.can_remove(Door.Open)

        @Door.Open.task
        async def work(self, t: Transition) -> None:
            try:
                await trio.sleep_forever()
            finally:
                seen.update({f"task {name}": result for name, result in mutations(t.machine).items()})

    async def clean_up() -> None:
        seen.update({f"cleanup {name}": result for name, result in mutations(machine).items()})

    async with trsm.open_machine(Door, Handlers(), id="d") as machine:
        machine.defer(clean_up)
        machine.add(Door.Open)
        await settle()
    seen.update({f"closed {name}": result for name, result in mutations(machine).items()})
    assert len(seen) == 4 * 6
    for when, result in seen.items():
        assert isinstance(result, Canceled)
        assert not result
        word = "closing" if when.startswith("closing") else "closed"
        assert result.reason == f"machine 'd' is {word}"
    assert not machine.can_add(Door.Never)


@pytest.mark.parametrize("when", ["exit", "task", "cleanup"])
async def test_add_error_while_closing(when: str) -> None:
    """It is canceled, and the error joins those that leave the block, in its place."""
    error, before, after = ValueError("late"), ValueError("before"), ValueError("after")

    def report(machine: Machine, phase: str) -> None:
        if phase == when:
            result = machine.add_error(error)
            assert isinstance(result, Canceled)
            assert "machine 'd' is clos" in result.reason

    class Handlers:
        @Faulty.Open.on_exit
        def leave(self, t: Transition) -> None:
            report(t.machine, "exit")

        @Faulty.Open.task
        async def work(self, t: Transition) -> None:
            try:
                await trio.sleep_forever()
            finally:
                report(t.machine, "task")

    async def clean_up() -> None:
        report(machine, "cleanup")

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Faulty, Handlers(), id="d") as machine:
            machine.defer(fail_with, after)
            machine.defer(clean_up)
            machine.defer(fail_with, before)
            machine.add(Faulty.Open)
            await settle()
    assert caught.value.exceptions == ((before, error, after) if when == "cleanup" else (error, before, after))
    assert machine.error is None
    assert machine.add_error(error).canceled  # nobody is left to take it, and the result says so


async def test_exit_handlers_that_fail_while_closing() -> None:
    """All other exits run; each error goes into the group; no error state comes, though one would catch it."""
    first, second = ValueError("first"), ValueError("second")
    log = []

    class Handlers:
        @Faulty.Shut.on_exit
        def fail(self, t: Transition) -> None:
            raise first

        @Faulty.Open.on_exit
        def fail_too(self, t: Transition) -> None:
            raise second

        @Faulty.Open.on_exit
        def also(self, t: Transition) -> None:
            log.append("also")

        @Faulty.ErrValue.on_enter
        def catch(self, t: Transition) -> None:
            log.append("caught")

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Faulty, Handlers()) as machine:
            machine.add(Faulty.Open, Faulty.Shut)
    assert caught.value.exceptions == (first, second)
    assert log == ["also"]


async def test_task_that_fails_while_it_is_cancelled_by_closing() -> None:
    """Its error is not lost, though the error state that would catch it comes no more."""
    error = ValueError()

    @Faulty.Open.task
    async def work(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Faulty, work) as machine:
            machine.add(Faulty.Open)
            await settle()
    assert caught.value.exceptions == (error,)


async def test_task_that_ends_well_after_the_close() -> None:
    """Its instance is over: `then=` adds nothing, and no warning is logged."""

    @Door.Open.task(then=Door.Never)
    async def work(t: Transition) -> int:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        return 3

    async with trsm.open_machine(Door, work) as machine:
        machine.add(Door.Open)
        await trio.lowlevel.checkpoint()
    assert machine.tick(Door.Never) == 0


# ---- Cancellation from outside, in every phase ----------------------------------------------------------------------


async def test_cancelled_from_outside_in_the_body() -> None:
    """Tasks may unwind before the exits; the exits still run in order, then the cleanups, shielded."""
    log: list[str] = []
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Door, Steps(log)) as machine:
            machine.defer(Steps(log).clean_up, "only")
            machine.add(Door.Open, Door.Lit, Door.Sealed)
            await settle()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [entry for entry in log if entry.startswith("exit")] == ["exit Sealed", "exit Lit", "exit Open"]
    assert log[-2:] == ["cleanup only", "cleaned only"]
    assert log.index("task ended") < log.index("cleanup only")


async def test_cancelled_from_outside_while_tasks_are_joined() -> None:
    """What was under way goes on to its end: tasks are joined, cleanups run."""
    log: list[str] = []
    with trio.CancelScope() as scope:
        async with trsm.open_machine(Door, Steps(log)) as machine:

            @Door.Ring.task
            async def cancel_outside(t: Transition) -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    scope.cancel()

            machine.bind(cancel_outside)
            machine.defer(Steps(log).clean_up, "only")
            machine.add(Door.Open, Door.Ring)
            await settle()
        pytest.fail("went on")
    assert scope.cancelled_caught
    assert log == ["exit Open", "task cancelled", "task ended", "cleanup only", "cleaned only"]


async def test_cancelled_from_outside_in_a_cleanup() -> None:
    """Cleanups are shielded: all of them run whole, and the cancellation is met behind the block."""
    log: list[str] = []

    async def cancel_outside() -> None:
        scope.cancel()
        await trio.lowlevel.checkpoint()
        log.append("whole")

    with trio.CancelScope() as scope:
        async with trsm.open_machine(Door) as machine:
            machine.defer(Steps(log).clean_up, "first")
            machine.defer(cancel_outside)
        log.append("left")
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert log == ["whole", "cleanup first", "cleaned first", "left"]


async def test_deadline_outside_that_passes_in_the_body(autojump_clock: MockClock) -> None:
    """`fail_after` around a block works as it does around any code, tasks and cleanups or not."""
    log: list[str] = []
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(5):
            async with trsm.open_machine(Door, Steps(log)) as machine:
                machine.defer(Steps(log).clean_up, "only")
                machine.add(Door.Open)
                await machine.when(Door.Never)
    assert log[-1] == "cleaned only"
    assert trio.current_time() == pytest.approx(5)


async def test_error_of_a_cleanup_while_cancelled_from_outside() -> None:
    """Neither is lost: they leave in one group, of which the outer scope takes its own."""
    error = ValueError()
    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as scope:
            async with trsm.open_machine(Door) as machine:
                machine.defer(fail_with, error)
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert caught.value.exceptions == (error,)


async def test_nursery_cancelled_around_a_machine() -> None:
    """A sibling's failure ends the machine as any cancellation does."""
    log: list[str] = []

    async def run() -> None:
        async with trsm.open_machine(Door, Steps(log)) as machine:
            machine.add(Door.Open)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await settle()
            raise ValueError
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert "exit Open" in log
    assert log[-1] in ("task ended", "exit Open")


# ---- Cleanups -------------------------------------------------------------------------------------------------------


async def test_cleanups_in_reverse_with_their_arguments() -> None:
    """The last registered runs first; each gets its arguments; one of them may register more, which run next."""
    log: list[tuple[object, ...]] = []

    async def note(*args: object) -> None:
        log.append(args)
        if args == ("second",):
            machine.defer(note, "more")

    async with trsm.open_machine(Door) as machine:
        machine.defer(note)
        machine.defer(note, "first", 1)
        machine.defer(note, "second")
    assert log == [("second",), ("more",), ("first", 1), ()]


async def test_cleanup_registered_by_an_exit_handler() -> None:
    """Closing has begun, and its cleanups have not: it runs."""
    log: list[str] = []

    @Door.Open.on_exit
    def leave(t: Transition) -> None:
        t.machine.defer(Steps(log).clean_up, "late")

    async with trsm.open_machine(Door, leave) as machine:
        machine.add(Door.Open)
    assert log == ["cleanup late", "cleaned late"]


async def test_cleanup_registered_when_they_have_run() -> None:
    """It would never run: refused, and the message says why."""
    async with trsm.open_machine(Door, id="d") as machine:
        pass
    with pytest.raises(MachineClosed, match="machine 'd' is closed, and its cleanups have run") as caught:
        machine.defer(settle)
    assert caught.value.machine is machine


@pytest.mark.parametrize("written", [lambda: None, 3, print])
async def test_cleanup_that_is_not_async(written: object) -> None:
    """Refused, and the message says where sync ones go."""
    async with trsm.open_machine(Door) as machine:
        with pytest.raises(TypeError, match="a cleanup is async; put sync ones into an on_exit handler"):
            machine.defer(written)  # type: ignore[arg-type]


async def test_cleanups_that_fail() -> None:
    """Each failure is kept, the others run all the same; what is no `Exception` too."""
    first, second, third = ValueError(), SystemExit(), KeyError()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Door, id="d") as machine:
            machine.defer(fail_with, third)
            machine.defer(fail_with, second)
            machine.defer(fail_with, first)
    assert caught.value.message == "unhandled in machine 'd'"
    assert caught.value.exceptions == (first, second, third)


async def test_cleanup_that_takes_too_long(autojump_clock: MockClock) -> None:
    """All share one deadline: who is late is cancelled and named, and who comes after it gets no more time."""
    log: list[str] = []

    async def quick() -> None:
        await trio.sleep(1)
        log.append("quick")

    async def slow() -> None:
        await trio.sleep(60)
        log.append("slow")

    async def prompt() -> None:
        log.append("prompt")

    async def last() -> None:
        await trio.lowlevel.checkpoint()
        log.append("last")

    start = trio.current_time()
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Door, id="d", cleanup_timeout=3) as machine:
            for function in (last, prompt, slow, quick):
                machine.defer(function)
    (error,) = caught.value.exceptions
    assert isinstance(error, trio.TooSlowError)
    place = "test_cleanup_that_takes_too_long.<locals>."
    assert str(error) == (
        f"cleanups of machine 'd' took longer than 3.0 s (cleanup_timeout): {place}slow and {place}last had to be "
        "cancelled"
    )
    assert log == ["quick", "prompt"]
    assert trio.current_time() - start == pytest.approx(3)


async def test_cleanups_that_end_in_time(autojump_clock: MockClock) -> None:
    """They share the deadline: three of a second each are fine within 30 seconds, the default."""
    start = trio.current_time()
    async with trsm.open_machine(Door) as machine:
        for _ in range(3):
            machine.defer(trio.sleep, 9)
    assert trio.current_time() - start == pytest.approx(27)


async def test_cleanup_that_fails_when_it_is_cancelled_for_being_late(autojump_clock: MockClock) -> None:
    """Its own error is kept, and so is that another was too slow."""
    error = ValueError()

    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Door, cleanup_timeout=3) as machine:
            machine.defer(trio.sleep_forever)
            machine.defer(fail_late)
    first, second = caught.value.exceptions
    assert first is error
    assert isinstance(second, trio.TooSlowError)
    assert "sleep_forever had to be" in str(second)
    assert "fail_late" not in str(second)


async def test_cleanup_with_a_callable_that_has_no_name(autojump_clock: MockClock) -> None:
    """It is named by what it shows of itself."""

    class Cleaner:
        async def __call__(self) -> None:
            await trio.sleep_forever()

        def __repr__(self) -> str:
            return "<the cleaner>"

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Door, cleanup_timeout=3) as machine:
            machine.defer(Cleaner())
    assert "<the cleaner> had to be cancelled" in str(caught.value.exceptions[0])


async def test_cleanups_after_an_exception_of_the_body() -> None:
    """They run, and the body's exception leaves bare."""
    log: list[str] = []
    with pytest.raises(KeyError):
        async with trsm.open_machine(Door) as machine:
            machine.defer(Steps(log).clean_up, "only")
            raise KeyError
    assert log == ["cleanup only", "cleaned only"]


async def test_cleanup_may_wait_for_what_the_machine_was() -> None:
    """Cleanups see a closed machine, and may ask it what was."""
    seen = []

    async def clean_up() -> None:
        await machine.when(Door.Open)
        seen.append(machine.ticks_at_close)
        assert machine.closed

    async with trsm.open_machine(Door) as machine:
        machine.add(Door.Open)
        machine.defer(clean_up)
    assert seen == [machine.ticks_at_close]


# ---- When it has closed ---------------------------------------------------------------------------------------------


async def test_when_closed_wakes_last() -> None:
    """It wakes when body, tasks and cleanups have ended, not when the machine closes; and asked later, at once."""
    log: list[str] = []

    async def note(waiter: Awaitable[None]) -> None:
        await waiter
        log.append("told")

    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Door, Steps(log)) as machine:
            waiter = machine.when_closed()
            nursery.start_soon(note, waiter)
            machine.defer(Steps(log).clean_up, "only")
            machine.add(Door.Open)
            await settle()
            machine.close()
            assert not waiter.done
            nursery.start_soon(note, machine.when_closed())
        assert waiter.done
    assert log[-3:] == ["cleaned only", "told", "told"]
    assert machine.when_closed().done
    await machine.when_closed()


async def test_when_closed_never_fails() -> None:
    """Neither by an error of the machine nor by an exception of its body."""
    with pytest.raises(ExceptionGroup):
        async with trsm.open_machine(Door) as machine:
            waiter = machine.when_closed()
            machine.add_error(ValueError())
            raise KeyError
    assert await waiter is None


async def test_nothing_is_subscribed_when_it_has_closed() -> None:
    """Closed machines hold no subscription, scope or task, whoever still holds waiters."""
    async with trsm.open_machine(Door, forever) as machine:
        machine.add(Door.Open)
        held = [
            machine.when(Door.Never),
            machine.when_error(),
            machine.when_next(Door.Ring),
            machine.when_query(lambda ticks: False),
            machine.when_closed(),
            machine.when(Door.Never) | machine.when_error(),
        ]
        watch = machine.watch()
        with machine.while_active(Door.Open):
            await settle()
    assert machine._subscriptions is None
    assert machine._scopes is None
    assert machine._slots is None
    assert machine._task_count == 0
    assert all(waiter.done for waiter in held)
    assert [ticks async for ticks in watch] == [machine.ticks_at_close]
