"""Threads: a machine belongs to the thread that opened it; trio's own ways in are open (DESIGN section 6, P25)."""

from __future__ import annotations

import gc
import inspect
import queue
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trsm
from trsm import Engine, Group, Machine, Schema, State, Tracer, Transition, Waiter, Watch, WrongThread


class Job(Schema):
    Idle = State(remove="Busy")
    Busy = State(remove=Idle)
    either = Group(Idle, Busy)


class Larger(Job):
    Late = State()


class Handlers:
    @Job.Idle.on_enter
    def note(self, t: Transition) -> None: ...


async def nothing() -> None: ...


EXECUTED = Engine(Job).add(Job.Idle)


NEVER_CHANGES = {"id", "schema", "parent", "tags"}
ONE_VALUE = {"closed", "ticks_at_close"}
"""Set once, when the machine closes; messages and `repr` read them anywhere."""

CALLS: dict[str, Callable[[Machine], object]] = {
    "add": lambda machine: machine.add(Job.Busy),
    "add_error": lambda machine: machine.add_error(ValueError()),
    "any_active": lambda machine: machine.any_active(Job.Idle),
    "break_on": lambda machine: machine.break_on(added=Job.Busy),
    "bind": lambda machine: machine.bind(Handlers()),
    "can_add": lambda machine: machine.can_add(Job.Busy),
    "can_remove": lambda machine: machine.can_remove(Job.Idle),
    "close": lambda machine: machine.close(),
    "defer": lambda machine: machine.defer(nothing),
    "detach": lambda machine: machine.detach(machine),
    "describe": lambda machine: machine.describe(),
    "errors_to_state": lambda machine: machine.errors_to_state(),
    "explain": lambda machine: machine.explain("add", Job.Busy),
    "extend_schema": lambda machine: machine.extend_schema(Larger),
    "is_active": lambda machine: machine.is_active(Job.Idle),
    "is_inactive": lambda machine: machine.is_inactive(Job.Idle),
    "mutate": lambda machine: machine.mutate(add=Job.Busy),
    "remove": lambda machine: machine.remove(Job.Idle),
    "set": lambda machine: machine.set(Job.Busy),
    "snapshot": lambda machine: machine.snapshot(),
    "start_child": lambda machine: machine.start_child(Job),
    "start_soon": lambda machine: machine.start_soon(nothing),
    "tick": lambda machine: machine.tick(Job.Idle),
    "toggle": lambda machine: machine.toggle(Job.Busy),
    "trace": lambda machine: machine.trace(Tracer()),
    "transitions": lambda machine: machine.transitions(buffer=1, overflow="raise"),
    "watch": lambda machine: machine.watch(),
    "when": lambda machine: machine.when(Job.Idle),
    "when_any": lambda machine: machine.when_any(Job.Idle),
    "when_closed": lambda machine: machine.when_closed(),
    "when_error": lambda machine: machine.when_error(),
    "when_next": lambda machine: machine.when_next(Job.Idle),
    "when_not": lambda machine: machine.when_not(Job.Idle),
    "when_query": lambda machine: machine.when_query(lambda ticks: True),
    "when_queue": lambda machine: machine.when_queue(EXECUTED),
    "when_settled": lambda machine: machine.when_settled(),
    "when_tick": lambda machine: machine.when_tick(Job.Idle, 1),
    "when_ticks": lambda machine: machine.when_ticks(Job.Idle, 1),
    "which": lambda machine: machine.which(Job.either),
    "while_active": lambda machine: machine.while_active(Job.Idle),
    "while_inactive": lambda machine: machine.while_inactive(Job.Idle),
    "will_be": lambda machine: machine.will_be(Job.Idle),
    "will_be_removed": lambda machine: machine.will_be_removed(Job.Idle),
}
READS: dict[str, Callable[[Machine], object]] = {
    "active_states": lambda machine: machine.active_states,
    "children": lambda machine: machine.children,
    "error": lambda machine: machine.error,
    "in_use": lambda machine: machine.in_use,
    "last_transition": lambda machine: machine.last_transition,
    "queue": lambda machine: machine.queue,
    "ticks": lambda machine: machine.ticks,
}


def in_a_thread(function: Callable[[], object]) -> BaseException | None:
    """Run a function in a thread of its own, not one of trio's; return what it raised."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0]


def test_every_public_name_is_covered() -> None:
    """Whatever `Machine` has is called or read below, or stands in a list that says why not."""
    names = {name for name in dir(Machine) if not name.startswith("_")}
    properties = {name for name in names if isinstance(inspect.getattr_static(Machine, name), property)}
    assert properties == set(READS) | NEVER_CHANGES | ONE_VALUE
    assert names - properties == set(CALLS)


@pytest.mark.promise(25)
@pytest.mark.parametrize("name", sorted(CALLS))
async def test_called_from_a_foreign_thread(name: str) -> None:
    """P25: a call from a foreign thread raises at once, says what to write, and changes nothing."""
    async with trsm.open_machine(Job, id="job") as machine:
        machine.add(Job.Idle)
        before, bound = machine.ticks, machine._bound
        error = in_a_thread(lambda: CALLS[name](machine))
        assert isinstance(error, WrongThread)
        assert str(error) == (
            f"{name} of machine 'job' was called from a thread that does not own it: "
            f"write trio.from_thread.run_sync(machine.{name}, …)"
        )
        assert machine.ticks == before
        assert machine._bound is bound
        assert not machine.children
        assert not machine.closed
        assert machine._subscriptions is None
        CALLS[name](machine)  # here it is fine
        if name == "add_error":
            with pytest.raises(trio.Cancelled):
                await trio.lowlevel.checkpoint()
            machine._errors = None  # it is unhandled on purpose


@pytest.mark.promise(25)
@pytest.mark.parametrize("name", sorted(READS))
async def test_read_from_a_foreign_thread(name: str) -> None:
    """P25: what changes with transitions cannot be read in a foreign thread, where it might be half changed."""
    async with trsm.open_machine(Job, id="job") as machine:
        error = in_a_thread(lambda: READS[name](machine))
        assert isinstance(error, WrongThread)
        assert str(error) == (
            f"{name} of machine 'job' was read from a thread that does not own it: "
            f"write trio.from_thread.run_sync(lambda: machine.{name})"
        )
        READS[name](machine)


async def test_other_ways_to_call_from_a_foreign_thread() -> None:
    """`in`, and what `bind` returned, raise too."""
    async with trsm.open_machine(Job) as machine:
        binding = machine.bind(Handlers())
        assert isinstance(in_a_thread(lambda: Job.Idle in machine), WrongThread)
        assert isinstance(in_a_thread(binding.detach), WrongThread)
        error = in_a_thread(machine.trace(Tracer()).detach)
        assert isinstance(error, WrongThread)
        assert str(error).startswith("detach of machine")


async def test_what_may_be_read_anywhere() -> None:
    """What never changes, and how the machine shows itself, may be read anywhere, for logs."""
    async with trsm.open_machine(Job, id="job") as machine:
        machine.add(Job.Idle)
        seen: list[object] = []
        for read in (
            repr,
            str,
            *(lambda machine, name=name: getattr(machine, name) for name in NEVER_CHANGES | ONE_VALUE),
        ):
            assert in_a_thread(lambda read=read: seen.append(read(machine))) is None
        assert "<Machine 'job' (Idle:1)>" in seen


@pytest.mark.promise(25)
async def test_ten_thousand_calls_from_a_foreign_thread(figure: Callable[..., None]) -> None:
    """P25: none of many calls gets through, while the machine works."""
    refused = 0

    def flood() -> None:
        nonlocal refused
        for _ in range(10_000):
            try:
                machine.toggle(Job.Busy)
            except WrongThread:
                refused += 1

    async with trsm.open_machine(Job) as machine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, flood)
            for _ in range(100):
                machine.toggle(Job.Idle)
                await trio.lowlevel.checkpoint()
        assert refused == 10_000
        assert machine.tick(Job.Idle) == 100
        assert machine.tick(Job.Busy) == 0
    figure(25, calls=refused)


# ---- The ways in ----------------------------------------------------------------------------------------------------


@pytest.mark.promise(25)
async def test_from_thread_run_sync() -> None:
    """`trio.from_thread.run_sync` calls the machine in its own thread, and wakes who waits."""

    def work() -> object:
        result = trio.from_thread.run_sync(machine.add, Job.Busy)
        return result, trio.from_thread.run_sync(lambda: machine.ticks)

    async with trsm.open_machine(Job) as machine:
        waiter = machine.when(Job.Busy)
        result, ticks = await trio.to_thread.run_sync(work)
        assert result
        assert ticks[Job.Busy] == 1
        assert (await waiter).called == (Job.Busy,)


async def test_from_thread_run() -> None:
    """A thread may wait through `trio.from_thread.run`, as the message for a waiter says."""

    def work() -> Transition:
        async def wait() -> Transition:
            return await machine.when(Job.Busy)

        return trio.from_thread.run(wait)

    async with trsm.open_machine(Job) as machine:
        async with trio.open_nursery() as nursery:

            async def add() -> None:
                await wait_all_tasks_blocked()
                machine.add(Job.Busy)

            nursery.start_soon(add)
            transition = await trio.to_thread.run_sync(work)
        assert transition is machine.last_transition


async def test_run_sync_soon() -> None:
    """`run_sync_soon` runs in the machine's thread, outside of all tasks: mutations, waiters and tasks work there."""
    ran: list[Waiter] = []

    class Working:
        @Job.Busy.task(then=Job.Idle)
        async def work(self, t: Transition) -> None:
            await trio.lowlevel.checkpoint()

    async with trsm.open_machine(Job, Working()) as machine:
        token = trio.lowlevel.current_trio_token()

        def call() -> None:
            ran.append(machine.when_next(Job.Idle))
            machine.add(Job.Busy)

        waiter = machine.when(Job.Busy)
        token.run_sync_soon(call)
        await waiter
        await ran[0]
        assert machine.is_active(Job.Idle)


def test_guest_mode() -> None:
    """In guest mode callbacks of the host are legitimate: they wake, start, cancel and close."""
    todo: queue.Queue[Callable[[], object]] = queue.Queue()
    events: list[object] = []
    ended: list[object] = []
    machines: list[Machine] = []

    class Working:
        @Job.Busy.task
        async def work(self, t: Transition) -> None:
            events.append("task")
            try:
                await trio.sleep_forever()
            finally:
                events.append("task cancelled")

    async def main() -> None:
        async with trsm.open_machine(Job, Working()) as machine:
            machines.append(machine)
            events.append((await machine.when(Job.Busy)).called)
            await wait_all_tasks_blocked()
            todo.put(from_the_host_again)
            async for ticks in machine.watch():
                events.append(ticks.active_states)

    def from_the_host() -> None:
        with pytest.raises(RuntimeError):
            trio.lowlevel.current_task()
        machines[0].add(Job.Busy)

    def from_the_host_again() -> None:
        machines[0].add(Job.Idle)
        todo.put(machines[0].close)

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=todo.put,
        done_callback=ended.append,
    )
    called = False
    while not ended:
        todo.get(timeout=30)()
        if machines and not called:
            called = True
            todo.put(from_the_host)
    ended[0].unwrap()
    assert machines[0].closed
    assert (Job.Busy,) in events[:2]
    assert "task" in events[:2]
    assert "task cancelled" in events
    assert machines[0].ticks_at_close is not None
    assert machines[0].ticks_at_close.active_states == (Job.Idle,)


# ---- Waiters in foreign threads -------------------------------------------------------------------------------------


async def test_waiter_awaited_in_another_trio_run() -> None:
    """A waiter that is awaited or composed in another thread raises there, whether it has ended or not."""
    async with trsm.open_machine(Job) as machine:
        waiting, done, watch = machine.when(Job.Busy), machine.when_not(Job.Busy), machine.watch()

        async def wait(waiter: Waiter) -> None:
            await waiter

        async def iterate(watch: Watch) -> None:
            async for _ in watch:
                pass

        for function, argument in ((wait, waiting), (wait, done), (iterate, watch)):
            error = await trio.to_thread.run_sync(in_a_thread, lambda f=function, a=argument: trio.run(f, a))
            assert isinstance(error, WrongThread)
            assert "does not own its machine: await it there, with trio.from_thread.run(…)" in str(error)
        for compose in (lambda: waiting | done, lambda: waiting & done, lambda: trsm.wait_all(done)):
            assert isinstance(in_a_thread(compose), WrongThread)
        assert await anext(watch) == machine.ticks
        machine.add(Job.Busy)
        assert waiting.done


async def test_waiter_dropped_in_a_foreign_thread() -> None:
    """The last reference may go in another thread: it touches no table there, and the next look sweeps."""
    async with trsm.open_machine(Job) as machine:
        held = [machine.when(Job.Busy)]
        kept = machine.when_tick(Job.Busy, 1)
        watched = machine._watched
        assert in_a_thread(held.clear) is None
        assert machine._watched == watched
        assert len(machine._subscriptions) == 2  # swept where the tables may be touched
        machine.add(Job.Busy)
        assert kept.done
        assert len(machine._subscriptions) == 0
        assert machine._watched == 0


async def test_waiter_that_the_collector_takes_in_a_foreign_thread() -> None:
    """The collector runs in whatever thread it likes: the same holds for a waiter in a circle; closing sweeps too."""

    class Holder:
        pass

    async with trsm.open_machine(Job) as machine:
        holder = Holder()
        holder.itself, holder.waiter = holder, machine.when(Job.Busy)
        subscriptions = machine._subscriptions
        del holder
        gc.disable()
        try:
            assert in_a_thread(gc.collect) is None
            assert len(subscriptions) == 1
        finally:
            gc.enable()
    assert len(subscriptions) == 0


async def test_machines_of_two_threads() -> None:
    """Each thread may have machines of its own; they do not meet."""

    async def main() -> int:
        async with AsyncExitStack() as stack:
            mine = await stack.enter_async_context(trsm.open_machine(Job))
            mine.add(Job.Busy)
            assert isinstance(in_a_thread(lambda: mine.add(Job.Idle)), WrongThread)
            with pytest.raises(WrongThread):
                machine.add(Job.Busy)
            return mine.tick(Job.Busy)

    async with trsm.open_machine(Job) as machine:
        ticks: list[int] = []
        assert await trio.to_thread.run_sync(in_a_thread, lambda: ticks.append(trio.run(main))) is None
        assert ticks == [1]
        assert machine.tick(Job.Busy) == 0
