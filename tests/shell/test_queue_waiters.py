"""``when_queue`` and ``when_settled``: waiters on the queue, made where it is not empty."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trsm
from trsm import Canceled, Engine, Executed, Machine, MachineClosed, Queued, Schema, State, Transition, Waiter


class Job(Schema):
    Go = State(multi=True)
    Done = State()
    Next = State(require=Done)
    Never = State(require="Nothing")
    Nothing = State()
    Ready = State(auto=True, require=Done)


class Asks:
    """Calls what it is given in the first transition of ``Go``, and keeps what that returns."""

    def __init__(self, *asks: object) -> None:
        self.asks = asks
        self.waiters: list[Waiter[object]] = []

    @Job.Go.on_enter
    def ask(self, t: Transition) -> None:
        asks, self.asks = self.asks, ()
        self.waiters += [ask(t.machine) for ask in asks]


def repr_of(*waiters: Waiter[object]) -> list[str]:
    return [repr(waiter) for waiter in waiters]


# ---- when_queue -----------------------------------------------------------------------------------------------------


async def test_it_gives_how_what_was_queued_has_ended() -> None:
    """Executed or canceled, with its reason; what was added as an error too."""
    asks = Asks(
        lambda machine: machine.when_queue(machine.add(Job.Done)),
        lambda machine: machine.when_queue(machine.add(Job.Never)),
        lambda machine: machine.when_queue(machine.add_error(ValueError())),
        lambda machine: machine.when_queue(machine.toggle(Job.Nothing)),
    )
    async with trsm.open_machine(Job, asks, Job.Error.on_enter(lambda t: None)) as machine:
        machine.add(Job.Go)
        done, never, failed, toggled = [await waiter for waiter in asks.waiters]
        assert all(isinstance(one, Executed) for one in (done, failed, toggled))
        assert isinstance(never, Canceled)
        assert "Never cannot activate: it requires Nothing" in never.reason
        assert await asks.waiters[0] is done  # kept


async def test_it_waits_while_it_waits() -> None:
    """Not done before its turn, done when the outermost call returns; awaiting it is a checkpoint all the same."""
    seen: list[str] = []
    asks = Asks(lambda machine: machine.when_queue(machine.add(Job.Done)))

    @Job.Done.on_enter
    def looks(t: Transition) -> None:
        seen.extend(repr_of(*asks.waiters))

    async with trsm.open_machine(Job, asks, looks) as machine:
        machine.add(Job.Go)
        assert seen == [f"<Waiter when_queue(<Queued tick=1>) of {machine.id!r}, waiting>"]
        [waiter] = asks.waiters
        assert waiter.done
        with assert_checkpoints():
            await waiter


async def test_of_what_was_not_queued_it_gives_the_end_at_once() -> None:
    """And of what has had its turn."""
    async with trsm.open_machine(Job) as machine:
        done, never = machine.add(Job.Done), machine.add(Job.Never)
        assert machine.when_queue(done).done
        assert await machine.when_queue(done) is done
        assert await machine.when_queue(never) is never
        late: list[trsm.Result] = []
        machine.bind(Asks(lambda machine: late.append(machine.add(Job.Next))))
        machine.add(Job.Go)
        waiter = machine.when_queue(late[0])
        assert waiter.done
        assert (await waiter).executed
        assert machine._subscriptions is None  # nobody had to subscribe


async def test_a_task_that_waits_for_it_is_woken_after_the_drain() -> None:
    """It cannot run before."""
    log: list[str] = []

    async with trsm.open_machine(Job) as machine, trio.open_nursery() as nursery:

        async def wait(waiter: Waiter[object]) -> None:
            log.append(f"{await waiter!r}")

        @Job.Go.on_enter
        def starts(t: Transition) -> None:
            nursery.start_soon(wait, t.machine.when_queue(t.machine.add(Job.Done)))

        machine.bind(starts)
        machine.add(Job.Go)
        log.append("returned")
        await wait_all_tasks_blocked()
    assert log == ["returned", "<Executed>"]


async def test_what_is_queued_when_the_machine_closes_ends_as_canceled() -> None:
    """So that the waiter has a value and does not fail; also of a machine that closed before it was asked."""
    results: list[trsm.Result] = []

    def asks_and_closes(machine: Machine) -> Waiter[object]:
        results.append(machine.add(Job.Done))
        machine.close()
        return machine.when_queue(results[0])

    asks = Asks(asks_and_closes)
    async with trsm.open_machine(Job, asks, id="job") as machine:
        machine.add(Job.Go)
    ended = await asks.waiters[0]
    assert isinstance(ended, Canceled)
    assert ended.reason == "machine 'job' is closing"
    assert await machine.when_queue(results[0]) is ended
    assert (await machine.when_queue(machine.add(Job.Go))).canceled


async def test_of_a_drain_that_does_not_settle_it_ends_as_canceled() -> None:
    """Beyond ``drain_limit`` nothing that is queued has its turn."""
    asks = Asks(lambda machine: machine.when_queue(machine.add(Job.Done)))

    @Job.Go.on_enter
    def feeds(t: Transition) -> None:
        t.machine.add(Job.Go, first=True)

    machine = None
    with pytest.raises(ExceptionGroup):
        async with trsm.open_machine(Job, asks, feeds, drain_limit=5) as machine:
            machine.add(Job.Go)
    ended = await asks.waiters[0]
    assert isinstance(ended, Canceled)
    assert "did not settle within 5 transitions" in ended.reason


async def test_it_composes_and_unsubscribes_like_any_waiter() -> None:
    """With ``|`` and ``&``; one that is dropped leaves the table, and the hot path knows of nobody."""
    asks = Asks(
        lambda machine: machine.when_queue(machine.add(Job.Done)) & machine.when_queue(machine.add(Job.Never)),
        lambda machine: machine.when_queue(machine.add(Job.Next)) | machine.when(Job.Nothing),
    )
    async with trsm.open_machine(Job, asks) as machine:
        machine.add(Job.Go)
        done, never = await asks.waiters[0]
        assert done.executed
        assert never.canceled
        assert (await asks.waiters[1]).executed
        watched: list[bool] = []

        def drops(machine: Machine) -> None:
            waiter = machine.when_queue(machine.add(Job.Nothing))
            watched.append(machine._is_settling_watched)
            del waiter
            watched.append(machine._is_settling_watched)

        machine.bind(Asks(drops))
        machine.add(Job.Go)
        assert watched == [True, False]


async def test_what_cannot_be_waited_for_is_refused() -> None:
    """No result, nothing at all, and what waits in another machine's queue."""
    async with trsm.open_machine(Job, id="one") as one, trsm.open_machine(Job) as other:
        for value in (None, True, Job.Done, trsm.Result()):
            with pytest.raises(TypeError, match=r"when_queue\(.*\): pass what add, remove and the like returned"):
                one.when_queue(value)
        refused: list[str] = []

        @Job.Go.on_enter
        def asks(t: Transition) -> None:
            with pytest.raises(ValueError) as caught:
                other.when_queue(t.machine.add(Job.Done))
            refused.append(str(caught.value))

        one.bind(asks)
        one.add(Job.Go)
        assert refused == ["when_queue(<Queued tick=1>): it is in the queue of another machine: ask that one"]
        engine = Engine(Job)
        queued: list[trsm.Result] = []
        engine.bind(Asks(lambda machine: queued.append(machine.add(Job.Done))))
        engine.add(Job.Go)
        assert isinstance(queued[0], Queued)
        with pytest.raises(ValueError, match="in the queue of another machine"):
            one.when_queue(queued[0])


# ---- when_settled ---------------------------------------------------------------------------------------------------


async def test_settled_is_when_asked_implied_and_automatic_is_all_done() -> None:
    """It gives the last transition of the drain, after the queue and the automatic round."""
    asks = Asks(lambda machine: machine.when_settled(), lambda machine: machine.add(Job.Done))
    seen: list[str] = []

    @Job.Ready.on_enter
    def looks(t: Transition) -> None:
        seen.extend(repr_of(asks.waiters[0]))

    async with trsm.open_machine(Job, asks, looks) as machine:
        machine.add(Job.Go)
        assert seen == [f"<Waiter when_settled() of {machine.id!r}, waiting>"]
        last = await asks.waiters[0]
        assert isinstance(last, trsm.Transition)
        assert last is machine.last_transition
        assert last.is_auto
        machine.add(Job.Nothing)
        assert await asks.waiters[0] is last  # kept


async def test_outside_of_a_transition_it_is_settled_already() -> None:
    """Also on a machine that has ended."""
    async with trsm.open_machine(Job) as machine:
        waiter = machine.when_settled()
        assert waiter.done
        assert await waiter is machine.last_transition
        machine.add(Job.Done)
        assert await machine.when_settled() is machine.last_transition
    last = await machine.when_settled()
    assert last.kind == "close"


async def test_made_while_the_machine_closes_it_never_fails() -> None:
    """Closing settles it, and the last transition is the closing one."""
    waiters: list[Waiter[trsm.Transition]] = []

    @Job.Done.on_exit
    def asks(t: Transition) -> None:
        waiters.append(t.machine.when_settled())

    async with trsm.open_machine(Job, asks) as machine:
        machine.add(Job.Done)
    assert (await waiters[0]).kind == "close"


@pytest.mark.parametrize("name", ["can_add", "explain"])
async def test_made_by_a_handler_that_is_only_asked(name: str) -> None:
    """Outside of a transition it is settled when asking is over."""
    waiters: list[Waiter[trsm.Transition]] = []

    @Job.Done.can_enter
    def asks(t: Transition) -> bool:
        waiters.append(t.machine.when_settled())
        assert not waiters[0].done
        return True

    async with trsm.open_machine(Job, asks) as machine:
        machine.can_add(Job.Done) if name == "can_add" else machine.explain("add", Job.Done)
        assert waiters[0].done
        assert (await waiters[0]).kind == "open"
        assert not machine._is_settling_watched


async def test_made_by_a_predicate() -> None:
    """While a waiter is made, and after a transition."""
    waiters: list[Waiter[trsm.Transition]] = []

    async with trsm.open_machine(Job) as machine:

        def asks(ticks: trsm.Ticks) -> bool:
            waiters.append(machine.when_settled())
            return False

        query = machine.when_query(asks)
        assert waiters[0].done
        machine.add(Job.Nothing)
        assert waiters[1].done
        assert await waiters[1] is machine.last_transition
        del query


async def test_made_by_a_tracer_that_hears_of_the_closing() -> None:
    """Nothing will ever be queued again, so it is settled."""
    waiters: list[Waiter[trsm.Transition]] = []

    class Hears(trsm.Tracer):
        def machine_closed(self, machine: trsm.Observed) -> None:
            assert isinstance(machine, Machine)
            waiters.append(machine.when_settled())
            done.append(waiters[0].done)

    done: list[bool] = []
    async with trsm.open_machine(Job, tracers=[Hears()]):
        pass
    assert done == [True]
    assert (await waiters[0]).kind == "close"


async def test_other_waiters_of_the_queue_fail_never_and_all_others_do() -> None:
    """When the machine closes."""
    asks = Asks(
        lambda machine: machine.when_settled(),
        lambda machine: machine.when(Job.Nothing),
        lambda machine: machine.close(),
    )
    async with trsm.open_machine(Job, asks) as machine:
        machine.add(Job.Go)
    settled, failed, _ = asks.waiters
    assert (await settled).kind == "close"
    with pytest.raises(MachineClosed):
        await failed


async def test_tracers_are_told_of_both_ends_of_a_waiter_on_the_queue() -> None:
    """Subscribed and ended, once each."""
    told: list[tuple[str, object]] = []

    class Hears(trsm.Tracer):
        def waiter_subscribed(self, machine: object, waiter: object) -> None:
            told.append(("subscribed", waiter))

        def waiter_ended(self, machine: object, waiter: object) -> None:
            told.append(("ended", waiter))

    asks = Asks(lambda machine: machine.when_settled())
    async with trsm.open_machine(Job, asks, tracers=[Hears()]) as machine:
        machine.add(Job.Go)
        assert told == [("subscribed", asks.waiters[0]), ("ended", asks.waiters[0])]
