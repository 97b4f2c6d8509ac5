"""Waiters one by one: what each waits for, what it gives, when it looks, and what becomes of it (DESIGN section 6)."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import suppress
from pathlib import Path
from threading import get_ident

import attrs
import outcome
import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trsm
from trsm import ErrorState, Machine, MachineClosed, MutationError, ReadOnly, Schema, State, Transition, UnknownState
from trsm import Waiter as WaiterClass
from trsm._core._bits import union
from trsm._waiters import ANY, CLOSED, PIPES, QUEUE, WOKEN, Condition, Subscriptions


@attrs.frozen
class Url:
    url: str = "/"
    retries: int = 3


class Net(Schema):
    Up = State()
    Down = State(remove=Up)
    Ready = State(require=Up)
    Ping = State(multi=True)
    Fetch = State(args=Url, multi=True)
    Load = State(args=Url, add=Up)
    ErrNet = ErrorState(catches=OSError)
    ErrMath = ErrorState(catches=ArithmeticError)


class Other(Schema):
    Up = State()


def subscribed(machine: Machine) -> int:
    """Return how many subscriptions a machine holds."""
    return 0 if machine._subscriptions is None else len(machine._subscriptions)


async def result_of(waiter: WaiterClass) -> Transition:
    """Return what an ended waiter gives."""
    assert waiter.done
    return await waiter


class Flash:
    """Enters and is removed at once, by the fault of its own handler."""

    @Net.Up.on_enter
    def fail(self, t: Transition) -> None:
        raise OSError("no route")


class Drop:
    """The same for Fetch, which enters after Ping, so that Ping stays."""

    @Net.Fetch.on_enter
    def fail(self, t: Transition) -> None:
        raise OSError("no route")


# ---- Subscribed when made, and kept ---------------------------------------------------------------------------------


async def test_mutated_before_it_is_awaited() -> None:
    """A waiter is subscribed when it is made, so what happens before the await is not missed."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up)
        assert not waiter.done
        machine.add(Net.Up)
        machine.remove(Net.Up)
        assert waiter.done
        transition = await waiter
        assert transition.entering == (Net.Up,)
        assert not machine.is_active(Net.Up)


async def test_awaited_again() -> None:
    """A waiter keeps its result, whatever happens later."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up)
        machine.add(Net.Up)
        first = await waiter
        machine.remove(Net.Up)
        machine.add(Net.Up)
        assert await result_of(waiter) is first


async def test_awaited_by_several_tasks() -> None:
    """All tasks that await one waiter wake with the same value, also one that comes after the end."""
    got: list[Transition] = []

    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up)

        async def take() -> None:
            got.append(await waiter)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(take)
            await wait_all_tasks_blocked()
            assert got == []
            machine.add(Net.Up)
            nursery.start_soon(take)
        assert got == [machine.last_transition] * 4


async def test_one_of_several_awaiting_tasks_is_cancelled() -> None:
    """A cancelled await takes nothing from the other tasks that await the same waiter."""
    got: list[str] = []

    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up)
        scope = trio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await waiter
            got.append("cancelled")

        async def patient() -> None:
            await waiter
            got.append("woken")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancelled)
            nursery.start_soon(patient)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert got == ["cancelled"]
            assert not waiter.done
            machine.add(Net.Up)
        assert got == ["cancelled", "woken"]


async def test_dropped_while_another_task_awaits_it() -> None:
    """Who awaits a waiter holds it: to drop every other reference loses nothing."""
    got: list[Transition] = []

    async with trsm.open_machine(Net) as machine:

        async def take(waiter: WaiterClass) -> None:
            got.append(await waiter)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, machine.when(Net.Up))
            await wait_all_tasks_blocked()
            gc.collect()
            machine.add(Net.Up)
        assert got == [machine.last_transition]


async def test_dropped_unawaited() -> None:
    """A waiter that is dropped unawaited unsubscribes by itself, at once, under every state it looked at."""
    async with trsm.open_machine(Net) as machine:
        waiters = [
            machine.when(Net.Up, Net.Down),
            machine.when_not(Net.Up) & machine.when_tick(Net.Up, 5),
            machine.when_query(lambda ticks: False),
            machine.when_error(),
            machine.when_closed(),
        ]
        watch = machine.watch()
        assert subscribed(machine) == 6
        assert machine._watched == -1
        del watch
        waiters.clear()
        assert subscribed(machine) == 0
        assert machine._watched == 0


async def test_ended_waiter_that_is_kept() -> None:
    """A waiter that has ended holds no subscription, though its result is kept."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up, Net.Ready)
        machine.add(Net.Up)
        assert subscribed(machine) == 1
        machine.add(Net.Ready)
        assert waiter.done
        assert subscribed(machine) == 0


async def test_a_waiter_on_several_states_looks_at_one_that_is_missing() -> None:
    """While that one stays away the others cost it nothing; when it comes, another takes its place."""
    async with trsm.open_machine(Net) as machine:
        up, ready, ping = (1 << Net._definition.numbers[state] for state in (Net.Up, Net.Ready, Net.Ping))
        waiter = machine.when(Net.Up, Net.Ping, Net.Ready)
        assert machine._watched == up
        machine.add(Net.Ping)
        assert machine._watched == up
        machine.add(Net.Up)
        assert machine._watched == ready
        machine.remove(Net.Ping)
        machine.add(Net.Ready)
        assert machine._watched == ping
        machine.remove(Net.Up)  # and Ready, which requires it
        assert machine._watched == ping
        machine.add(Net.Ping)
        assert machine._watched == up
        machine.add(Net.Up)
        machine.add(Net.Ready)
        assert waiter.done
        assert machine._watched == 0

        gone = machine.when_not(Net.Up, Net.Ping, Net.Ready)
        assert machine._watched == up
        machine.remove(Net.Up)
        assert machine._watched == ping
        machine.add(Net.Up)
        machine.remove(Net.Ping)
        assert not gone.done
        assert machine._watched == up
        machine.remove(Net.Up)
        assert gone.done
        assert machine._watched == 0


async def test_await_is_a_checkpoint_in_every_case() -> None:
    """Awaiting is a checkpoint: when it must wait, when the value is there, and when it fails."""
    async with trsm.open_machine(Net) as machine:

        def wrong(ticks: trsm.Ticks) -> bool:
            raise KeyError("wrong")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            with assert_checkpoints():
                await machine.when_not(Net.Up)
            with assert_checkpoints(), pytest.raises(KeyError):
                await machine.when_query(wrong)
            waiter = machine.when(Net.Up)
            nursery.start_soon(_later, machine.add, Net.Up)
            with assert_checkpoints():
                await waiter


async def test_await_in_a_cancelled_scope() -> None:
    """In a cancelled scope the await is cancelled, also when the value is there; the value stays."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when_not(Net.Up)
        with trio.CancelScope() as scope:
            scope.cancel()
            await waiter
        assert scope.cancelled_caught
        assert await result_of(waiter) is machine.last_transition


async def cancel_very_many_waits(count: int) -> None:
    """Wait and be cancelled, with no mutation and the collector off, and assert that nothing is left behind."""
    async with trsm.open_machine(Net) as machine:
        kept = machine.when(Net.Up)
        gc.collect()
        gc.disable()
        try:
            with trio.CancelScope() as scope:
                scope.cancel()
                for round in range(count):
                    with suppress(trio.Cancelled):
                        await (machine.when(Net.Up, Net.Ready) if round % 2 else machine.when_next(Net.Ping))
                    assert subscribed(machine) == 1
                for _ in range(count // 100):
                    with suppress(trio.Cancelled):
                        await (kept | machine.when_error() | machine.when_query(lambda ticks: False))
            assert subscribed(machine) == 1
            assert len(kept._above) <= 2
            assert gc.collect() < 100
        finally:
            gc.enable()


@pytest.mark.promise(11)
async def test_cancelled_waits() -> None:
    """A cancelled await leaves no subscription, not even while the cancellation is handled, and no garbage."""
    await cancel_very_many_waits(1000)


@pytest.mark.promise(11)
def test_very_many_cancelled_waits(figure: Callable[..., None]) -> None:
    """P11: a hundred thousand cancelled waits leave nothing; in a process of its own, which coverage does not slow."""
    code = "import trio; from shell.test_waiters import *; trio.run(cancel_very_many_waits, 100_000)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figure(11, cancelled_waits=100_000)


@pytest.mark.promise(23)
async def test_waits_and_mutations_make_no_cyclic_garbage() -> None:
    """P23: waiting, waking, and waiting again makes no cyclic garbage, with the collector switched off."""
    async with trsm.open_machine(Net) as machine:
        watch = machine.watch()

        async def toggling() -> None:
            while True:
                machine.toggle(Net.Up)
                await trio.lowlevel.checkpoint()

        gc.collect()
        gc.disable()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(toggling)
                for _ in range(100):
                    await (machine.when_ticks(Net.Up, 1) | machine.when_error())
                    await machine.when_query(lambda ticks: True)
                    await anext(watch)
                nursery.cancel_scope.cancel()
            assert gc.collect() < 100
        finally:
            gc.enable()


async def test_waiters_are_told_apart_by_identity() -> None:
    """Two waiters for the same are two: equal only to themselves, usable in sets."""
    async with trsm.open_machine(Net) as machine:
        one, two = machine.when(Net.Up), machine.when(Net.Up)
        assert one == one
        assert one != two
        assert len({one, two, one}) == 2


async def test_repr_and_done_of_each_stage() -> None:
    """A waiter says whether it waits, is done or has failed."""

    def wrong(ticks: trsm.Ticks) -> bool:
        raise KeyError("wrong")

    async with trsm.open_machine(Net, id="net") as machine:
        waiter = machine.when(Net.Up)
        assert (repr(waiter), waiter.done) == ("<Waiter when(Up) of 'net', waiting>", False)
        machine.add(Net.Up)
        assert (repr(waiter), waiter.done) == ("<Waiter when(Up) of 'net', done>", True)
        failed = machine.when_query(wrong)
        name = "test_repr_and_done_of_each_stage.<locals>.wrong"
        assert (repr(failed), failed.done) == (f"<Waiter when_query({name}) of 'net', failed>", True)


async def test_repr_of_each_kind() -> None:
    """It is what would be written, without values, which may be secrets; of a state that has ended too."""

    class Fits:
        def __call__(self, t: Transition) -> bool:
            return False

        def __repr__(self) -> str:
            return "Fits()"

    def query(ticks: trsm.Ticks) -> bool:
        return False

    async with trsm.open_machine(Net, id="net") as machine:
        kinds = {
            "when(Up, Down)": machine.when(Net.Up, Net.Down),
            "when(Fetch, where=Fits(), url=…)": machine.when(Net.Fetch, where=Fits(), url="https://sesame"),
            "when(Up, id=…)": machine.when(Net.Up, id=3),
            "when_not(Up)": machine.when_not(Net.Up),
            "when_any(Up, Down)": machine.when_any(Net.Down, Net.Up),
            "when_tick(Up, 3)": machine.when_tick(Net.Up, 3),
            "when_tick(Ping, 2)": machine.when_ticks(Net.Ping, 2),
            "when_next(Ping)": machine.when_next(Net.Ping),
            "when_query(test_repr_of_each_kind.<locals>.query)": machine.when_query(query),
            "when_error(Error)": machine.when_error(),
            "when_error(ErrNet)": machine.when_error(Net.ErrNet),
            "when_queue(<Executed>)": machine.when_queue(machine.remove(Net.Up)),
            "when_settled()": machine.when_settled(),
            "when_closed()": machine.when_closed(),
        }
        for words, waiter in kinds.items():
            assert repr(waiter) == f"<Waiter {words} of 'net', {'done' if waiter.done else 'waiting'}>"
        assert [words for words, waiter in kinds.items() if waiter.done] == [
            "when_not(Up)", "when_queue(<Executed>)", "when_settled()",
        ]  # fmt: skip
    failed = [words for words, waiter in kinds.items() if repr(waiter) == f"<Waiter {words} of 'net', failed>"]
    assert len(failed) == 10
    closed = kinds["when_closed()"]
    assert repr(closed) == "<Waiter when_closed() of 'net', done>"
    del machine, kinds, waiter
    gc.collect()
    assert repr(closed) == "<Waiter when_closed() of a machine that is gone, done>"


async def test_repr_shows_eight_states_at_most() -> None:
    """And how many more there are."""
    many = Schema.define("Many", {f"S{number}": State() for number in range(12)})
    async with trsm.open_machine(many, id="many") as machine:
        assert (
            repr(machine.when(*many.states[:8])) == "<Waiter when(S0, S1, S2, S3, S4, S5, S6, S7) of 'many', waiting>"
        )
        assert repr(machine.when(*many.states)) == (
            "<Waiter when(S0, S1, S2, S3, S4, S5, S6, S7, … 5 more) of 'many', waiting>"
        )


async def test_repr_after_the_machine_got_another_schema() -> None:
    """Who waits still names its states; who had ended has numbers of the schema before, and names none."""

    class First(Schema):
        New = State()

    class Longer(First, Net):
        pass

    async with trsm.open_machine(Net, id="net") as machine:
        done, waiting = machine.when_not(Net.Up), machine.when(Net.Up)
        machine.extend_schema(Longer)
        assert (repr(done), repr(waiting)) == (
            "<Waiter when_not(…) of 'net', done>", "<Waiter when(Up) of 'net', waiting>",
        )  # fmt: skip


def test_waiter_made_by_hand() -> None:
    """Users get waiters from a machine, and are told so."""
    with pytest.raises(TypeError, match=r"made by a machine: machine\.when"):
        WaiterClass()


# ---- when -----------------------------------------------------------------------------------------------------------


async def test_when_of_several_states() -> None:
    """`when` of several states waits until all are active at once, and gives the transition after which they were."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up, Net.Ping)
        machine.add(Net.Ping)
        machine.remove(Net.Ping)
        machine.add(Net.Up)
        assert not waiter.done
        machine.add(Net.Ping)
        assert (await result_of(waiter)) is machine.last_transition
        assert (await result_of(waiter)).entering == (Net.Ping,)


async def test_when_already_true() -> None:
    """Already true when made, `when` gives the transition that began the youngest of the instances."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        up = machine.last_transition
        machine.add(Net.Ping)
        ping = machine.last_transition
        machine.add(Net.Down)
        machine.remove(Net.Down)
        machine.add(Net.Up)
        again = machine.last_transition
        machine.add(Net.Ping)  # multi: the same instance goes on
        machine.add(Net.Fetch)
        assert up is not again
        assert await machine.when(Net.Ping) is ping
        assert await machine.when(Net.Up) is again
        assert await machine.when(Net.Up, Net.Ping) is again
        assert await machine.when(Net.Ping, Net.Up) is again


async def test_when_of_a_state_that_comes_and_goes_in_one_drain() -> None:
    """`when` looks after each transition, so a state that a queued mutation removes again was seen."""

    class Hasty:
        @Net.Up.on_enter
        def leave(self, t: Transition) -> None:
            t.machine.remove(Net.Up)

    async with trsm.open_machine(Net, Hasty()) as machine:
        waiter = machine.when(Net.Up)
        machine.add(Net.Up)
        assert not machine.is_active(Net.Up)
        assert (await result_of(waiter)).entering == (Net.Up,)


async def test_when_of_a_state_that_a_fault_removes() -> None:
    """The removal that a fault brings counts as part of the transition: `when` never saw the state active."""
    async with trsm.open_machine(Net, Flash()) as machine:
        waiter = machine.when(Net.Up)
        with_error = machine.when(Net.Up) | machine.when(Net.ErrNet)
        machine.add(Net.Up)
        assert machine.tick(Net.Up) == 2
        assert not waiter.done
        assert (await result_of(with_error)).error is machine.error


async def test_when_of_what_stays_where_a_fault_removes_another() -> None:
    """What the same transition brought and the fault did not touch is seen, with that transition."""
    async with trsm.open_machine(Net, Drop()) as machine:
        waiter, any_of = machine.when(Net.Ping), machine.when_any(Net.Ping, Net.Fetch)
        machine.add(Net.Fetch, Net.Ping)
        assert (await result_of(waiter)).kind == "add"
        assert (await result_of(any_of)).kind == "add"
        assert machine.ticks.active_states == (Net.Ping, Net.ErrNet, Net.Error)


@pytest.mark.promise(5)
async def test_canceled_mutation_wakes_nobody() -> None:
    """P5: a mutation that is canceled moves no tick and wakes nobody."""
    async with trsm.open_machine(Net) as machine:
        asked: list[trsm.Ticks] = []
        waiters = [machine.when(Net.Ready), machine.when_next(Net.Ready), machine.when_query(asked.append)]
        asked.clear()
        assert not machine.add(Net.Ready)
        assert [waiter.done for waiter in waiters] == [False] * 3
        assert asked == []


async def test_when_with_free_keywords() -> None:
    """With keywords `when` waits for a transition that carries them all."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Ping, id=3, name="x")
        for args in ({}, {"id": 3}, {"id": 4, "name": "x"}, {"name": "x"}):
            machine.add(Net.Ping, **args)
            assert not waiter.done
        machine.add(Net.Ping, id=3, name="x", more=1)
        assert (await result_of(waiter)).args == {"id": 3, "name": "x", "more": 1}


async def test_when_with_fields_of_the_args_class() -> None:
    """Keywords match fields of the args instances too, and mix with free keywords."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Fetch, url="/a", retries=1, who="me")
        machine.add(Net.Fetch(url="/a", retries=1))
        machine.add(Net.Fetch(url="/b", retries=1), who="me")
        machine.add(Net.Fetch(url="/a", retries=2), who="me")
        assert not waiter.done
        machine.add(Net.Fetch(url="/a", retries=1), who="me")
        assert (await result_of(waiter)).args_of(Net.Fetch) == Url("/a", 1)


async def test_when_with_fields_that_are_the_defaults() -> None:
    """A state that is called without arguments, or only enters, carries the defaults of its class: they match."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Fetch, retries=3)
        other = machine.when(Net.Fetch, retries=4)
        machine.add(Net.Fetch)
        assert waiter.done
        assert not other.done


async def test_when_with_fields_of_a_state_that_is_not_awaited() -> None:
    """Only the args instances of the states that are waited for count, and only of the transition that is looked at."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Ping, url="/a")
        both = machine.when(Net.Fetch, Net.Ping, url="/a")
        machine.add(Net.Ping, Net.Fetch(url="/a"))
        assert not waiter.done
        assert both.done
        late = machine.when(Net.Fetch, Net.Ping, url="/a")
        machine.add(Net.Ping)
        assert not late.done


async def test_when_with_a_keyword_that_nothing_has() -> None:
    """A name that neither the keywords nor the instances have matches nothing, not even None."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Fetch, nothing=None)
        machine.add(Net.Fetch(url="/a"))
        assert not waiter.done
        machine.add(Net.Fetch, nothing=None)
        assert waiter.done


async def test_when_with_arguments_looks_forward_only() -> None:
    """With arguments or `where=`, `when` looks forward only: the past does not count, and the next that fits does."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up, id=3)
        waiter = machine.when(Net.Up, id=3)
        where = machine.when(Net.Up, where=lambda t: True)
        assert not waiter.done
        assert not where.done
        machine.add(Net.Ping, id=3)  # it neither calls nor activates Up
        assert not waiter.done
        assert not where.done
        machine.add(Net.Up, id=3)  # called again, though nothing moves
        assert (await result_of(waiter)).called == (Net.Up,)
        assert where.done


async def test_when_with_a_keyword_called_self() -> None:
    """It is a free keyword like others."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up, self=3)
        machine.add(Net.Up, self=4)
        assert not waiter.done
        machine.add(Net.Up, self=3)
        assert waiter.done


async def test_when_with_arguments_where_the_state_is_implied() -> None:
    """A state that the transition brings by relations counts as activated: the call's keywords match."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up, id=3)
        machine.add(Net.Load, id=3)
        assert (await result_of(waiter)).called == (Net.Load,)


async def test_when_with_arguments_where_another_state_is_missing() -> None:
    """All states must be active in the transition that fits."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up, Net.Ping, id=3)
        machine.add(Net.Ping, id=3)
        machine.add(Net.Up)
        assert not waiter.done
        machine.add(Net.Ping, id=3)
        assert waiter.done


async def test_when_with_where() -> None:
    """`where` decides on the transition, and is asked only when the states are active."""
    asked: list[Transition] = []

    def even(t: Transition) -> bool:
        asked.append(t)
        return t.args.get("id", 1) % 2 == 0

    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Ping, where=even)
        narrow = machine.when(Net.Ping, where=even, name="x")
        machine.add(Net.Up, id=2)
        assert asked == []
        machine.add(Net.Ping, id=1)
        assert not waiter.done
        machine.add(Net.Ping, id=2)
        assert await result_of(waiter) is machine.last_transition
        assert not narrow.done
        machine.add(Net.Ping, id=2, name="x")
        assert narrow.done
        assert len(asked) == 3


# ---- when_not, when_any ---------------------------------------------------------------------------------------------


async def test_when_not() -> None:
    """`when_not` waits until none of the states is active."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up, Net.Ping)
        waiter = machine.when_not(Net.Up, Net.Ping)
        machine.remove(Net.Up)
        assert not waiter.done
        machine.remove(Net.Ping)
        assert await result_of(waiter) is machine.last_transition


async def test_when_not_already_true() -> None:
    """Already true when made, `when_not` gives the last transition, opening included."""
    async with trsm.open_machine(Net) as machine:
        assert (await machine.when_not(Net.Up)).kind == "open"
        machine.add(Net.Ping)
        assert await machine.when_not(Net.Up) is machine.last_transition


async def test_when_not_of_a_state_that_a_fault_removes() -> None:
    """`when_not` looks once after a transition with the removal that a fault brings, and gives the removal."""

    class Boot:
        @Net.Down.on_enter
        def fail(self, t: Transition) -> None:
            raise OSError("no route")

    async with trsm.open_machine(Net, Boot()) as machine:
        machine.add(Net.Up)
        waiter = machine.when_not(Net.Up, Net.Down)
        gone = machine.when_not(Net.Up)
        machine.add(Net.Down)  # puts out Up, and falls
        assert ((await result_of(waiter)).kind, (await result_of(waiter)).leaving) == ("removal", (Net.Down,))
        assert ((await result_of(gone)).kind, (await result_of(gone)).leaving) == ("add", (Net.Up,))


async def test_when_any() -> None:
    """`when_any` waits until at least one of the states is active."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when_any(Net.Up, Net.Ping)
        machine.add(Net.Down)
        assert not waiter.done
        machine.add(Net.Ping)
        assert await result_of(waiter) is machine.last_transition


async def test_when_any_of_a_state_that_a_fault_removes() -> None:
    """`when_any` does not see what the same transition lost again to a fault."""
    async with trsm.open_machine(Net, Flash()) as machine:
        waiter = machine.when_any(Net.Up, Net.Down)
        machine.add(Net.Up)
        assert not waiter.done


async def test_when_any_already_true() -> None:
    """Already true when made, `when_any` gives the last transition: only `when` names the one that began it."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Ping)
        machine.add(Net.Down)
        assert await machine.when_any(Net.Up, Net.Ping) is machine.last_transition


# ---- when_tick, when_ticks, when_next -------------------------------------------------------------------------------


async def test_when_tick() -> None:
    """`when_tick` waits until a tick is reached or passed."""
    async with trsm.open_machine(Net) as machine:
        waiter, passed = machine.when_tick(Net.Ping, 3), machine.when_tick(Net.Ping, 4)
        machine.add(Net.Ping)
        assert not waiter.done
        machine.add(Net.Ping)
        assert await result_of(waiter) is machine.last_transition
        assert not passed.done
        machine.add(Net.Ping)
        assert machine.tick(Net.Ping) == 5
        assert passed.done


async def test_when_tick_already_true() -> None:
    """Already true when made, `when_tick` gives the last transition, also where the tick has long passed."""
    async with trsm.open_machine(Net) as machine:
        assert (await machine.when_tick(Net.Up, 0)).kind == "open"
        machine.add(Net.Up)
        machine.remove(Net.Up)
        machine.add(Net.Ping)
        for tick in (0, 1, 2):
            assert await machine.when_tick(Net.Up, tick) is machine.last_transition
        assert not machine.when_tick(Net.Up, 3).done


async def test_when_ticks_counts_from_now() -> None:
    """`when_ticks` waits for that many changes from now on, and is never true when made."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        one, three = machine.when_ticks(Net.Up, 1), machine.when_ticks(Net.Up, 3)
        assert not one.done
        machine.remove(Net.Up)
        assert await result_of(one) is machine.last_transition
        machine.add(Net.Up)
        assert not three.done
        machine.remove(Net.Up)
        assert await result_of(three) is machine.last_transition


async def test_tick_that_a_fault_takes_back_at_once() -> None:
    """`when_tick`, `when_ticks` and `when_next` see every tick, however short; the value is what reached it."""
    async with trsm.open_machine(Net, Flash()) as machine:
        first, second = machine.when_tick(Net.Up, 1), machine.when_tick(Net.Up, 2)
        by_one, by_two, by_three = (machine.when_ticks(Net.Up, ticks) for ticks in (1, 2, 3))
        following = machine.when_next(Net.Up)
        machine.add(Net.Up)
        assert machine.tick(Net.Up) == 2
        for waiter in (first, by_one, following):
            assert (await result_of(waiter)).kind == "add"
        for waiter in (second, by_two):
            assert ((await result_of(waiter)).kind, (await result_of(waiter)).leaving) == ("removal", (Net.Up,))
        assert not by_three.done


async def test_tick_of_a_state_that_the_fault_did_not_touch() -> None:
    """Where the removal did not move the state, the tick is the transition's."""
    async with trsm.open_machine(Net, Drop()) as machine:
        waiter = machine.when_tick(Net.Ping, 1)
        machine.add(Net.Fetch, Net.Ping)
        assert machine.tick(Net.Fetch) == 2
        assert (await result_of(waiter)).kind == "add"


async def test_when_next_of_a_plain_state() -> None:
    """`when_next` looks forward only: it waits for an activation, not for the state to be active or called."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        waiter = machine.when_next(Net.Up)
        assert not waiter.done
        machine.add(Net.Up)
        machine.remove(Net.Up)
        assert not waiter.done
        machine.add(Net.Up)
        assert await result_of(waiter) is machine.last_transition


async def test_when_next_of_a_multi_state() -> None:
    """A multi state that is called again counts for `when_next`."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Ping)
        waiter = machine.when_next(Net.Ping)
        machine.add(Net.Ping)
        assert await result_of(waiter) is machine.last_transition


class Making:
    """Makes waiters while transitions run."""

    def __init__(self, make: Callable[[Machine], WaiterClass]) -> None:
        self.make = make
        self.negotiating: list[WaiterClass] = []
        self.entering: list[WaiterClass] = []
        self.leaving: list[WaiterClass] = []

    @Net.Ping.can_enter
    def may(self, t: Transition) -> bool:
        self.negotiating.append(self.make(t.machine))
        return True

    @Net.Ping.on_enter
    def enter(self, t: Transition) -> None:
        self.entering.append(self.make(t.machine))

    @Net.Ping.on_exit
    def leave(self, t: Transition) -> None:
        self.leaving.append(self.make(t.machine))


@pytest.mark.parametrize(
    "make",
    [
        lambda machine: machine.when_next(Net.Ping),
        lambda machine: machine.when(Net.Ping, where=lambda t: True),
        lambda machine: machine.when(Net.Ping, id=3),
        lambda machine: machine.when_ticks(Net.Ping, 1),
    ],
)
async def test_made_while_the_transition_runs(make: Callable[[Machine], WaiterClass]) -> None:
    """Made before the commit it sees the transition that runs; made after it, what looks forward sees the next."""
    making = Making(make)
    async with trsm.open_machine(Net, making) as machine:
        machine.add(Net.Ping, id=3)
        assert [waiter.done for waiter in making.negotiating] == [True]
        assert [waiter.done for waiter in making.entering] == [False]
        machine.add(Net.Ping, id=3)
        assert [waiter.done for waiter in making.negotiating] == [True, True]
        assert [waiter.done for waiter in making.entering] == [True, False]
        assert (await making.entering[0]) is machine.last_transition


async def test_made_while_the_removal_after_a_fault_runs() -> None:
    """What looks forward and is made in an `on_exit` of the removal sees neither of the two transitions."""
    waiters: list[WaiterClass] = []

    class Falling:
        @Net.Ping.on_enter
        def begin(self, t: Transition) -> None: ...

        @Net.Ping.on_enter
        def fail(self, t: Transition) -> None:
            raise OSError("no route")

        @Net.Ping.on_exit
        def end(self, t: Transition) -> None:
            waiters.append(t.machine.when_next(Net.Ping))
            waiters.append(t.machine.when_not(Net.Ping))

    async with trsm.open_machine(Net, Falling()) as machine:
        machine.add(Net.Ping)
        # Error stays handled by ErrNet, so the machine lives.
        assert [waiter.done for waiter in waiters] == [False, True]
        assert (await waiters[1]).kind == "removal"


# ---- when_query -----------------------------------------------------------------------------------------------------


async def test_when_query() -> None:
    """`when_query` asks after each transition that moved a tick, with the ticks after it."""
    asked: list[trsm.Ticks] = []

    def query(ticks: trsm.Ticks) -> bool:
        asked.append(ticks)
        return ticks[Net.Ping] >= 3 and ticks[Net.Up] >= 1

    async with trsm.open_machine(Net) as machine:
        waiter = machine.when_query(query)
        machine.add(Net.Ping)
        machine.add(Net.Up)
        machine.add(Net.Up)  # executed, moves nothing
        assert len(asked) == 3
        assert not waiter.done
        machine.add(Net.Ping)
        assert await result_of(waiter) is machine.last_transition
        assert asked[-1] == machine.ticks
        machine.add(Net.Ping)
        assert len(asked) == 4


async def test_when_query_already_true() -> None:
    """Already true when made, `when_query` gives the last transition."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        machine.add(Net.Ping)
        assert await machine.when_query(lambda ticks: ticks.is_active(Net.Up)) is machine.last_transition


async def test_when_query_on_what_a_fault_left() -> None:
    """`when_query` is asked once after a transition and the removal of its fault, and gives the removal."""
    seen: list[int] = []

    def query(ticks: trsm.Ticks) -> bool:
        seen.append(ticks[Net.Up])
        return ticks[Net.Up] == 2

    async with trsm.open_machine(Net, Flash()) as machine:
        waiter = machine.when_query(query)
        machine.add(Net.Up)
        assert (await result_of(waiter)).kind == "removal"
        assert seen == [0, 2]


# ---- when_error -----------------------------------------------------------------------------------------------------


async def test_when_error() -> None:
    """`when_error` waits for the next exception that becomes a state, and gives the exception."""
    async with trsm.open_machine(Net) as machine:
        first = OSError("first")
        machine.add_error(first)
        waiter = machine.when_error()
        assert not waiter.done  # it looks forward only
        machine.add(Net.Error)  # activated without an exception
        assert not waiter.done
        second = OSError("second")
        machine.add_error(second)
        assert await result_of(waiter) is second


async def test_when_error_of_one_error_state() -> None:
    """`when_error` of a state waits for an exception that this state takes."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when_error(Net.ErrMath)
        any_error = machine.when_error()
        machine.add_error(OSError("not this"))
        assert any_error.done
        assert not waiter.done
        error = ZeroDivisionError("this")
        machine.add_error(error)
        assert await result_of(waiter) is error


async def test_when_error_of_a_group_that_one_state_takes_in_part() -> None:
    """A group is split among the states that match; each of their waiters gets the exception that was raised."""
    async with trsm.open_machine(Net) as machine:
        waiters = [machine.when_error(Net.ErrMath), machine.when_error(Net.ErrNet), machine.when_error()]
        group = ExceptionGroup("both", [OSError(), ZeroDivisionError()])
        machine.add_error(group)
        for waiter in waiters:
            assert await result_of(waiter) is group


async def test_when_error_of_a_state_that_another_error_puts_out() -> None:
    """An error state that leaves because of another error has not taken it."""

    class Plant(Schema):
        Power = State()
        Safe = State(remove=Power)
        ErrPump = ErrorState(catches=OSError, add=Safe)
        ErrMotor = ErrorState(catches=ArithmeticError, require=Power)

    async with trsm.open_machine(Plant) as machine:
        machine.add(Plant.Power)
        machine.add_error(ZeroDivisionError())
        assert machine.is_active(Plant.ErrMotor)
        waiter = machine.when_error(Plant.ErrMotor)
        machine.add_error(OSError())
        assert not machine.is_active(Plant.ErrMotor)
        assert not waiter.done


async def test_when_error_only_watches() -> None:
    """An error that nothing but a waiter sees is unhandled: the waiter gets it, and the machine closes."""
    error = ValueError("nobody takes this")
    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Net) as machine:
            waiter = machine.when_error()
            machine.add_error(error)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    assert await result_of(waiter) is error


async def test_when_error_of_a_state_that_takes_none() -> None:
    """`when_error` of a plain state is refused, and says how to wait for it."""
    async with trsm.open_machine(Net) as machine:
        with pytest.raises(ValueError) as caught:
            machine.when_error(Net.Up)
        for words in ("when_error(Up)", "no ErrorState", "machine.when(Up)"):
            assert words in str(caught.value)
        assert not machine.when_error(Net.Error).done


# ---- Predicates that go wrong ---------------------------------------------------------------------------------------


async def test_predicate_that_raises_later() -> None:
    """A predicate that raises fails its waiter, for each who awaits it, and leaves the machine and others alone."""
    error = KeyError("wrong")

    def wrong(asked: object) -> bool:
        if machine.is_active(Net.Ping):
            raise error
        return False

    async with trsm.open_machine(Net) as machine:
        query, where = machine.when_query(wrong), machine.when(Net.Ping, where=wrong)
        fine = machine.when(Net.Ping)
        assert machine.add(Net.Ping)
        assert fine.done
        for waiter in (query, where):
            for _ in range(2):
                with pytest.raises(KeyError) as caught:
                    await waiter
                assert caught.value is error
        assert machine.ticks.active_states == (Net.Ping,)
        assert not machine.closed
        assert subscribed(machine) == 0


async def test_predicate_that_raises_when_made() -> None:
    """A query that raises as it is first asked gives a waiter that has failed, not an exception at the call."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when_query(lambda ticks: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await waiter
        assert machine.add(Net.Up)
        assert subscribed(machine) == 0


async def test_predicate_that_raises_no_exception_when_made() -> None:
    """What is no `Exception` goes to who made the waiter."""

    def stop(ticks: trsm.Ticks) -> bool:
        raise KeyboardInterrupt

    async with trsm.open_machine(Net) as machine:
        with pytest.raises(KeyboardInterrupt):
            machine.when_query(stop)
        assert machine.add(Net.Up)
        assert subscribed(machine) == 0


async def test_predicate_that_raises_no_exception_later() -> None:
    """What is no `Exception` closes the machine and goes to the caller; the predicate is not asked again."""
    asked: list[int] = []
    causes: list[object] = []

    class Stop(BaseException):
        pass

    def stop(ticks: trsm.Ticks) -> bool:
        asked.append(ticks[Net.Up])
        if ticks[Net.Up]:
            raise Stop
        return False

    async with trio.open_nursery() as outside:

        async def wait(waiter: WaiterClass) -> None:
            with pytest.raises(MachineClosed) as caught:
                await waiter
            causes.append(caught.value.__cause__)

        async with trsm.open_machine(Net) as machine:
            up = machine.when(Net.Up)
            waiter = machine.when_query(stop)
            later = machine.when(Net.Up)
            outside.start_soon(wait, waiter)
            await wait_all_tasks_blocked()
            with pytest.raises(Stop):
                machine.add(Net.Up)
            assert machine.closed
            assert up.done
            assert await_now(later) is await_now(up)
            assert asked == [0, 1]
    assert causes == [None]


def await_now(waiter: WaiterClass) -> object:
    """Return the value of a waiter that ended well, without a checkpoint."""
    assert waiter.done
    assert waiter._error is None
    return waiter._value


MUTATIONS: list[Callable[[Machine], object]] = [
    lambda machine: machine.add(Net.Down),
    lambda machine: machine.remove(Net.Up),
    lambda machine: machine.set(Net.Up),
    lambda machine: machine.toggle(Net.Up),
    lambda machine: machine.mutate(add=Net.Down),
    lambda machine: machine.add_error(ValueError()),
    lambda machine: machine.close(),
    lambda machine: machine.start_child(Net),
]


@pytest.mark.parametrize("mutate", MUTATIONS)
@pytest.mark.parametrize("at_once", [True, False])
async def test_predicate_that_mutates(mutate: Callable[[Machine], object], at_once: bool) -> None:
    """A predicate may look and not change: what it tries raises `ReadOnly` there, and fails its waiter."""
    async with trsm.open_machine(Net) as machine:
        if at_once:
            machine.add(Net.Up)
        waiter = machine.when_query(lambda ticks: ticks[Net.Up] > 0 and bool(mutate(machine)))
        machine.add(Net.Up)
        with pytest.raises(ReadOnly, match="in a predicate: what is asked may look, and not change"):
            await waiter
        assert machine.ticks.active_states == (Net.Up,)
        assert not machine.closed
        assert machine.add(Net.Ping)


async def test_where_that_mutates() -> None:
    """The same holds for `where=`."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Up, where=lambda t: bool(t.machine.remove(Net.Up)))
        machine.add(Net.Up)
        with pytest.raises(ReadOnly, match=r"remove of machine .* in a predicate"):
            await waiter


async def test_predicate_that_looks_and_waits() -> None:
    """A predicate may ask the machine anything, and make waiters."""
    made: list[WaiterClass] = []

    def look(ticks: trsm.Ticks) -> bool:
        made.append(machine.when(Net.Up))
        return machine.can_add(Net.Up) and machine.explain("add", Net.Up).accepted and machine.is_active(Net.Ping)

    async with trsm.open_machine(Net) as machine:
        waiter = machine.when_query(look)
        machine.add(Net.Ping)
        assert waiter.done
        machine.add(Net.Up)
        assert [one.done for one in made] == [True, True]


async def test_predicate_made_in_a_handler_that_changes_another_machine() -> None:
    """Only this machine is read-only: a predicate may change another, and the handler that asked is the cause."""
    async with trsm.open_machine(Other) as other, trsm.open_machine(Net) as machine:

        class Asking:
            @Net.Up.on_enter
            def ask(self, t: Transition) -> None:
                self.waiter = t.machine.when_query(lambda ticks: bool(other.add(Other.Up)))

        asking = Asking()
        machine.bind(asking)
        machine.add(Net.Up)
        assert await asking.waiter is machine.last_transition
        assert other.is_active(Other.Up)
        assert other.last_transition.source is not None
        assert other.last_transition.source.handler.endswith("Asking.ask")


async def test_predicate_of_a_waiter_made_in_negotiation() -> None:
    """In a negotiation handler a predicate is asked too, and the handler goes on as before."""

    class Asking:
        @Net.Up.can_enter
        def ask(self, t: Transition) -> bool:
            self.before = t.machine.when_query(lambda ticks: ticks[Net.Up] == 0)
            self.wrong = t.machine.when_query(lambda ticks: bool(t.machine.add(Net.Ping)))
            with pytest.raises(ReadOnly, match=r"negotiation handler .*Asking\.ask"):
                t.machine.add(Net.Ping)
            return True

    asking = Asking()
    async with trsm.open_machine(Net, asking) as machine:
        assert machine.add(Net.Up)
        assert asking.before.done
        with pytest.raises(ReadOnly, match="in a predicate"):
            await asking.wrong


async def test_error_that_came_up_while_a_predicate_was_asked_when_made() -> None:
    """What a predicate did to a child whose error falls to this machine is caught up with when it has been asked."""
    error = OSError("of the child")

    async with trsm.open_machine(Net) as machine:
        child = machine.start_child(Other)
        waiter = machine.when_query(lambda ticks: bool(child.add_error(error)))
        assert waiter.done
        assert machine.error is error
        assert child.closed


# ---- Refused at the call --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["when", "when_not", "when_any"])
async def test_waiting_for_no_state(name: str) -> None:
    """To wait for no state is refused, with an example of what to write."""
    async with trsm.open_machine(Net) as machine:
        with pytest.raises(MutationError, match=rf"{name}\(\) names no state: write at least one, such as Net\.Up"):
            getattr(machine, name)()
        with pytest.raises(MutationError, match=rf"{name}: Fetch\(…\) carries arguments"):
            getattr(machine, name)(Net.Fetch(url="/"))


@pytest.mark.parametrize("name", ["when", "when_not", "when_any", "when_next", "when_error", "when_tick", "when_ticks"])
async def test_waiting_for_a_state_of_another_schema(name: str) -> None:
    """A state of another schema is refused, equal names notwithstanding."""
    async with trsm.open_machine(Net) as machine:
        args = (1,) if name in ("when_tick", "when_ticks") else ()
        with pytest.raises(UnknownState, match=name):
            getattr(machine, name)(Other.Up, *args)
        assert subscribed(machine) == 0


@pytest.mark.parametrize("value", [-1, 1.5, "1", None, True])
async def test_tick_that_is_no_count(value: object) -> None:
    """A tick must be a whole number, and not negative; the message shows what was written."""
    async with trsm.open_machine(Net) as machine:
        with pytest.raises(ValueError) as caught:
            machine.when_tick(Net.Up, value)
        assert str(caught.value) == f"tick={value!r}: write a whole number, 0 or more"


@pytest.mark.parametrize("value", [0, -1, 1.5, False])
async def test_ticks_that_are_no_positive_count(value: object) -> None:
    """A number of changes must be a whole number, 1 or more."""
    async with trsm.open_machine(Net) as machine:
        with pytest.raises(ValueError) as caught:
            machine.when_ticks(Net.Up, value)
        assert str(caught.value) == f"ticks={value!r}: write a whole number, 1 or more"


async def colourless(asked: object) -> bool:
    return True


@pytest.mark.parametrize("value", [3, "Up", colourless])
async def test_predicate_that_is_no_sync_function(value: object) -> None:
    """A predicate that cannot be called, or is async and would always be true, is refused at the call."""
    async with trsm.open_machine(Net) as machine:
        with pytest.raises(TypeError) as caught:
            machine.when_query(value)
        assert str(caught.value) == (
            f"when_query({value!r}): pass a sync function that takes the ticks and returns a bool"
        )
        with pytest.raises(TypeError) as caught:
            machine.when(Net.Up, where=value)
        assert str(caught.value) == (
            f"when(…, where={value!r}): pass a sync function that takes the transition and returns a bool"
        )
        assert subscribed(machine) == 0


# ---- Cancellation against satisfaction ------------------------------------------------------------------------------


WHEN_UP_LEAVES: list[Callable[[Machine], WaiterClass]] = [
    lambda machine: machine.when_not(Net.Up),
    lambda machine: machine.when_tick(Net.Up, 2),
    lambda machine: machine.when(Net.Down),
    lambda machine: machine.when_query(lambda ticks: not ticks.is_active(Net.Up)),
    lambda machine: machine.when_error() | machine.when_not(Net.Up),
]


@pytest.mark.parametrize("make", WHEN_UP_LEAVES)
async def test_scope_of_a_state_ends_with_what_is_awaited(make: Callable[[Machine], WaiterClass]) -> None:
    """If one transition both ends the scope around an await and satisfies it, the cancellation wins."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        waiter = make(machine)
        came = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, machine.add, Net.Down)
            with machine.while_active(Net.Up) as scope:
                await waiter
                came = True
        assert not came
        assert scope.cancelled_caught
        assert (await result_of(waiter)).leaving == (Net.Up,)


async def _later(function: Callable[..., object], *args: object) -> None:
    await wait_all_tasks_blocked()
    function(*args)


async def test_scope_ends_in_the_removal_after_a_fault() -> None:
    """The removal that a fault brings is part of the transition: the cancellation wins there too."""
    async with trsm.open_machine(Net, Flash()) as machine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, machine.add, Net.Up)
            with machine.while_inactive(Net.Up) as scope:
                await machine.when_tick(Net.Up, 1)
        assert scope.cancelled_caught


async def test_scope_outlives_what_is_awaited() -> None:
    """A wait inside the scope of a state that stays ends with its value."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, machine.add, Net.Ready)
            with machine.while_active(Net.Up) as scope:
                assert (await machine.when(Net.Ready)).entering == (Net.Ready,)
        assert not scope.cancelled_caught


async def test_woken_before_the_scope_ends_in_the_same_drain() -> None:
    """An await that an earlier transition of the drain satisfied has its value, though a later one ends the scope."""

    class Hasty:
        @Net.Ready.on_enter
        def leave(self, t: Transition) -> None:
            t.machine.remove(Net.Up)

    async with trsm.open_machine(Net, Hasty()) as machine:
        machine.add(Net.Up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, machine.add, Net.Ready)
            with machine.while_active(Net.Up) as scope:
                assert (await machine.when_next(Net.Ready)).entering == (Net.Ready,)
                assert scope.cancel_called
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught


async def test_task_of_a_state_that_waits_for_its_end() -> None:
    """A state's task that waits for its own state to leave is cancelled when it does."""
    ends: list[str] = []

    class Waiting:
        @Net.Up.task
        async def wait(self, t: Transition) -> None:
            try:
                await t.machine.when_not(Net.Up)
                ends.append("value")
            except trio.Cancelled:
                ends.append("cancelled")
                raise

    async with trsm.open_machine(Net, Waiting()) as machine:
        machine.add(Net.Up)
        await wait_all_tasks_blocked()
        machine.remove(Net.Up)
        await wait_all_tasks_blocked()
        assert ends == ["cancelled"]


# ---- Closing --------------------------------------------------------------------------------------------------------


async def outcomes(nursery: trio.Nursery, **waiters: WaiterClass) -> dict[str, object]:
    """Await each in a task of its own; return where the values and exceptions will be."""
    got: dict[str, object] = {}

    async def take(name: str, waiter: WaiterClass) -> None:
        try:
            got[name] = await waiter
        except MachineClosed as error:
            got[name] = error

    for name, waiter in waiters.items():
        nursery.start_soon(take, name, waiter)
    await wait_all_tasks_blocked()
    return got


async def test_waiters_of_outsiders_when_the_machine_closes() -> None:
    """The last mutation satisfies those whose condition it makes true; all others fail with `MachineClosed`."""
    async with trio.open_nursery() as outside:
        async with trsm.open_machine(Net, id="link") as machine:
            machine.add(Net.Up)
            got = await outcomes(
                outside,
                left=machine.when_not(Net.Up),
                tick=machine.when_tick(Net.Up, 2),
                ticks=machine.when_ticks(Net.Up, 1),
                query=machine.when_query(lambda ticks: ticks[Net.Up] == 2),
                down=machine.when(Net.Down),
                far=machine.when_tick(Net.Up, 3),
                any=machine.when_any(Net.Down, Net.Ping),
                error=machine.when_error(),
                next=machine.when_next(Net.Up),
            )
            assert got == {}
        last = machine.last_transition
    assert (last.kind, last.leaving) == ("close", (Net.Up,))
    for name in ("left", "tick", "ticks", "query"):
        assert got[name] is last
    for name in ("down", "far", "any", "error", "next"):
        error = got[name]
        assert isinstance(error, MachineClosed)
        assert error.machine is machine
        assert str(error) == "machine 'link' closed"
        assert error.__cause__ is None
    assert machine._subscriptions is None


async def test_cause_of_machine_closed_is_the_first_unhandled_error() -> None:
    """`MachineClosed` says after which error, has the first unhandled one as its cause, and is fresh for each."""
    first = ValueError("first")
    caught: list[MachineClosed] = []

    class Failing:
        @Net.Up.on_exit
        def second(self, t: Transition) -> None:
            raise KeyError("second")

    async with trio.open_nursery() as outside:

        async def take(waiter: WaiterClass) -> None:
            for _ in range(2):
                with pytest.raises(MachineClosed) as info:
                    await waiter
                caught.append(info.value)

        with pytest.raises(ExceptionGroup) as group:
            async with trsm.open_machine(Net, Failing(), id="link") as machine:
                machine.add(Net.Up)
                waiter = machine.when(Net.Down)
                outside.start_soon(take, waiter)
                outside.start_soon(take, waiter)
                outside.start_soon(take, waiter | machine.when_error(Net.ErrMath))
                await wait_all_tasks_blocked()
                machine.add_error(first)
                await trio.sleep_forever()
        assert group.value.exceptions[0] is first
        outside.start_soon(take, machine.when(Net.Down))
    assert len(set(map(id, caught))) == 8
    for error in caught:
        assert error.__cause__ is first
        assert str(error) == "machine 'link' closed after ValueError('first')"


async def test_predicate_in_the_last_mutation() -> None:
    """Predicates are asked about the last mutation too: one that raises fails its waiter with that."""
    error = KeyError("wrong")

    def wrong(ticks: trsm.Ticks) -> bool:
        if ticks[Net.Up] == 2:
            raise error
        return False

    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        waiter = machine.when_query(wrong)
        closed_there = machine.when_query(lambda ticks: ticks[Net.Up] == 2 and bool(machine.add(Net.Up)))
    with pytest.raises(KeyError) as caught:
        await waiter
    assert caught.value is error
    with pytest.raises(ReadOnly):
        await closed_there


async def test_predicate_that_raises_no_exception_in_the_last_mutation() -> None:
    """While the machine closes, what is no `Exception` joins what leaves the block; all waiters are told."""

    class Stop(BaseException):
        pass

    def stop(ticks: trsm.Ticks) -> bool:
        if ticks[Net.Up] == 2:
            raise Stop
        return False

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Net) as machine:
            machine.add(Net.Up)
            waiter, left, down = machine.when_query(stop), machine.when_not(Net.Up), machine.when(Net.Down)
    assert [type(error) for error in caught.value.exceptions] == [Stop]
    assert await result_of(left) is machine.last_transition
    for one in (waiter, down):
        with pytest.raises(MachineClosed):
            await one


async def test_body_that_waits_when_its_machine_closes() -> None:
    """The body is cancelled before waiters are told, so an own `MachineClosed` never comes there, unless shielded."""
    ends: list[str] = []

    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, machine.close)
            try:
                await machine.when_not(Net.Up)
            except trio.Cancelled:
                ends.append("cancelled")
                raise
    assert ends == ["cancelled"]

    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, machine.close)
            with trio.CancelScope(shield=True):
                ends.append((await machine.when_not(Net.Up)).kind)
                await machine.when(Net.Down)  # ends the body, which counts as a normal end
    assert ends == ["cancelled", "close"]


async def test_made_after_the_close() -> None:
    """After the close a condition is judged by the ticks at close: born satisfied if it held then, else born failed."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        up = machine.last_transition
        machine.add(Net.Ping)
        at_close = machine.ticks
    last = machine.last_transition
    assert machine.ticks_at_close == at_close
    assert last.kind == "close"
    assert await machine.when(Net.Up) is up
    assert await machine.when_not(Net.Down) is last
    assert await machine.when_any(Net.Down, Net.Ping) is last
    assert await machine.when_tick(Net.Up, 1) is last
    assert await machine.when_query(lambda ticks: ticks == at_close) is last
    failing = [
        machine.when(Net.Down),
        machine.when_not(Net.Up),
        machine.when_any(Net.Down, Net.Ready),
        machine.when_tick(Net.Up, 2),  # reached by closing itself, after those ticks
        machine.when_ticks(Net.Up, 1),
        machine.when_query(lambda ticks: ticks[Net.Up] == 2),
        machine.when_next(Net.Up),
        machine.when_error(),
        machine.when(Net.Up, where=lambda t: True),
        machine.when(Net.Up, id=3),
    ]
    for waiter in failing:
        assert waiter.done
        with pytest.raises(MachineClosed):
            await waiter
    assert await machine.when_closed() is None


async def test_made_while_closing() -> None:
    """Made in an `on_exit` of closing, a waiter is judged by the present; what does not hold fails at the end of it."""
    made: dict[str, WaiterClass] = {}

    class Leaving:
        @Net.Up.on_exit
        def leave(self, t: Transition) -> None:
            made["left"] = t.machine.when_not(Net.Up)
            made["up"] = t.machine.when(Net.Up)
            made["closed"] = t.machine.when_closed()
            assert not made["up"].done

    async with trsm.open_machine(Net, Leaving()) as machine:
        machine.add(Net.Up)
    assert (await made["left"]).kind == "close"
    with pytest.raises(MachineClosed):
        await made["up"]
    assert await made["closed"] is None


async def test_when_closed_wakes_last(autojump_clock: trio.testing.MockClock) -> None:
    """`when_closed` wakes when tasks have ended and cleanups have run, and is then true at once."""
    events: list[str] = []

    class Slow:
        @Net.Up.task
        async def work(self, t: Transition) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
                events.append("task")

    async def cleanup() -> None:
        await trio.sleep(5)
        events.append("cleanup")

    async with trio.open_nursery() as outside:

        async def closed(machine: Machine) -> None:
            assert await machine.when_closed() is None
            events.append("closed")

        async def told(machine: Machine) -> None:
            with pytest.raises(MachineClosed):
                await machine.when(Net.Down)
            events.append("told")

        async with trsm.open_machine(Net, Slow()) as machine:
            machine.defer(cleanup)
            machine.add(Net.Up)
            outside.start_soon(closed, machine)
            outside.start_soon(told, machine)
            await wait_all_tasks_blocked()
            assert not machine.when_closed().done
    assert events == ["told", "task", "cleanup", "closed"]
    assert machine.when_closed().done


async def test_when_closed_does_not_end_with_the_first_step() -> None:
    """`when_closed` neither fails nor ends while the machine is still being joined."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when_closed()
        machine.close()
        assert machine.closed
        assert not waiter.done
        assert not machine.when_closed().done
    assert await result_of(waiter) is None


async def test_started_child_that_closes() -> None:
    """A started child tells its waiters as it closes, and keeps no subscription afterwards."""
    async with trsm.open_machine(Net) as machine:
        child = machine.start_child(Net)
        child.add(Net.Up)
        left, down, closed = child.when_not(Net.Up), child.when(Net.Down), child.when_closed()
        watch = child.watch()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_later, child.close)
            await closed
        assert (await result_of(left)).kind == "close"
        with pytest.raises(MachineClosed) as caught:
            await down
        assert caught.value.machine is child
        assert subscribed(child) == 0
        assert [ticks async for ticks in watch] == [child.ticks_at_close]


async def test_closed_machine_is_freed_without_the_collector() -> None:
    """What a closed child's waiters left behind makes no circle: it goes with its last reference."""
    async with trsm.open_machine(Net) as machine:

        def rounds() -> None:
            for _ in range(100):
                child = machine.start_child(Net)
                waiter, watch = child.when(Net.Up), child.watch()
                child.add(Net.Up)
                assert waiter.done
                child.close()
                del waiter, watch

        gc.collect()
        gc.disable()
        try:
            rounds()
            assert gc.collect() < 100
        finally:
            gc.enable()


# ---- Subscriptions --------------------------------------------------------------------------------------------------


async def test_many_waiters_of_many_states_under_changing_watchers() -> None:
    """The states that the engine reports stay right while those who look at everything come and go."""
    async with trsm.open_machine(Net) as machine:
        up = machine.when(Net.Up)
        everything = machine.when_query(lambda ticks: False)
        assert machine._watched == -1
        ping = machine.when(Net.Ping)
        del everything
        assert machine._watched == 1 << 0 | 1 << 3
        with machine.while_active(Net.Up):  # over at once
            pass
        del up
        assert machine._watched == 1 << 3
        machine.add(Net.Ping)
        assert ping.done
        assert machine._watched == 0


async def test_scope_and_waiter_of_one_state() -> None:
    """A state is forgotten only when neither a scope nor a waiter looks at it any more."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        waiter = machine.when_not(Net.Up)
        with machine.while_active(Net.Up):
            del waiter
            assert machine._watched == 1
            waiter = machine.when_not(Net.Up)
        assert machine._watched == 1
        machine.remove(Net.Up)
        assert waiter.done
        assert machine._watched == 0


class Subject:
    """What a machine has for those who look at it."""

    def __init__(self) -> None:
        self._thread = get_ident()
        self._held = 0b10
        self._looked_at = 0
        self._watched = self._held
        self._is_settling_watched = False


def unobservant() -> Condition[None]:
    return Condition(Subject(), 0)


def test_observer_goes_while_the_table_is_walked() -> None:
    """The collector may take an observer at any call, also while the others of its table are being looked up."""
    table = Subscriptions(Subject())
    observers = [unobservant() for _ in range(4)]
    for observer in observers:
        observer._refs = (table.add(observer, ANY), table.add(observer, 0))
    del observer

    def profile(frame: object, event: str, argument: object) -> None:
        if event == "c_call" and getattr(argument, "__name__", "") == "append" and observers:
            observers.pop()

    sys.setprofile(profile)
    try:
        found = table.of((ANY, 0))
    finally:
        sys.setprofile(None)
    assert len(found) == 2
    del found
    assert len(table) == 0
    assert table.tables == {}


def test_subscription_that_is_dropped_twice() -> None:
    """To unsubscribe twice is fine, also when others look at the same state."""
    subject = Subject()
    table = Subscriptions(subject)
    one, two = unobservant(), unobservant()
    first, second = table.add(one, 3), table.add(two, 3)
    assert (subject._looked_at, subject._watched) == (0b1000, 0b1010)
    first.drop()
    first.drop()
    assert (subject._looked_at, subject._watched) == (0b1000, 0b1010)
    assert table.of((3,)) == [two]
    second.drop()
    second.drop()
    assert (subject._looked_at, subject._watched) == (0, 0b10)


def test_a_state_that_nobody_waits_for_while_everything_is_watched() -> None:
    """What looks at everything goes on looking when the last of a state goes; and the other way round."""
    subject = Subject()
    table = Subscriptions(subject)
    one, everything = unobservant(), unobservant()
    of_one, of_everything = table.add(one, 3), table.add(everything, ANY)
    assert (subject._looked_at, subject._watched) == (-1, -1)
    of_one.drop()
    assert (subject._looked_at, subject._watched) == (-1, -1)
    of_one = table.add(one, 3)
    of_everything.drop()
    assert (subject._looked_at, subject._watched) == (0b1000, 0b1010)
    of_one.drop()
    assert (subject._looked_at, subject._watched) == (0, 0b10)


async def test_what_tasks_are_woken_with() -> None:
    """It is an outcome of nothing, as trio would make one for each task; but it may be used over and over."""

    def generator() -> Generator[str, None, None]:
        assert (yield "first") is None
        assert (yield "second") is None
        yield "third"

    async def asynchronous() -> AsyncGenerator[str, None]:
        assert (yield "first") is None
        yield "second"

    running, going = generator(), asynchronous()
    assert isinstance(WOKEN, outcome.Outcome)
    assert WOKEN.unwrap() is WOKEN.unwrap() is None
    assert (next(running), WOKEN.send(running), WOKEN.send(running)) == ("first", "second", "third")
    assert (await anext(going), await WOKEN.asend(going)) == ("first", "second")
    await going.aclose()


async def test_a_waiter_that_comes_while_it_is_worked_out_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer may make one at any call; it is asked like any other, and those that went are forgotten."""
    async with trsm.open_machine(Net) as machine:
        going = [machine.when(Net.Down)]
        made: list[trsm.Waiter[Transition]] = []

        def disturbed(masks: Iterable[int]) -> int:
            found = union(masks)
            going.clear()
            if not made:
                made.append(machine.when(Net.Up))
            return found

        monkeypatch.setattr("trsm._waiters.union", disturbed)
        watch = machine.watch()
        assert machine._looked_at == -1
        del watch
        assert machine._looked_at == machine._watched == 1 << list(Net).index(Net.Up)
        machine.add(Net.Up)
        assert made[0].done


async def test_a_watch_that_comes_while_it_is_worked_out_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything is."""
    async with trsm.open_machine(Net) as machine:
        watches: list[object] = []

        def disturbed(masks: Iterable[int]) -> int:
            watches.append(machine.watch())
            return union(masks)

        monkeypatch.setattr("trsm._waiters.union", disturbed)
        watch = machine.watch()
        del watch
        assert len(watches) == 1
        assert machine._looked_at == machine._watched == -1


def test_who_waits_for_the_end_or_the_queue_looks_at_no_state() -> None:
    """The machine is told of those who wait for its queue, and works out nothing."""
    machine = Subject()
    table = Subscriptions(machine)
    one, two, three = unobservant(), unobservant(), unobservant()
    of_state = table.add(three, 3)
    for key, is_watched in ((CLOSED, False), (QUEUE, True), (PIPES, False)):
        first, second = table.add(one, key), table.add(two, key)
        assert machine._is_settling_watched is is_watched
        first.drop()
        assert machine._is_settling_watched is is_watched
        second.drop()
        assert machine._is_settling_watched is False
        assert (machine._looked_at, machine._watched) == (0b1000, 0b1010)
    of_state.drop()
    assert machine._looked_at == 0


def test_everything_is_looked_at_while_states_get_new_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever comes, goes or mutates meanwhile is missed by nobody."""
    subject = Subject()
    table = Subscriptions(subject)
    one = unobservant()
    of_one = table.add(one, 1)
    seen: list[tuple[int, int]] = []

    def noted(masks: Iterable[int]) -> int:
        seen.append((subject._looked_at, subject._watched))
        return union(masks)

    monkeypatch.setattr("trsm._waiters.union", noted)
    table.renumber([0, 3])
    assert seen == [(-1, -1)]
    assert (subject._looked_at, subject._watched) == (0b1000, 0b1010)
    of_one.drop()
    assert (subject._looked_at, subject._watched) == (0, 0b10)
