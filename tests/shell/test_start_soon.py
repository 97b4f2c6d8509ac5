"""`start_soon()`: tasks of a machine, in the scope of a state's present instance or of the machine's life (row 40)."""

from __future__ import annotations

import contextvars
import functools
import gc
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trsm
from trsm import ErrorState, Machine, MachineClosed, MutationError, Schema, State, Tracer, Transition


class Link(Schema):
    Connected = State()
    Ready = State(auto=True, require=Connected)
    Lost = State(remove=Connected)
    ErrNet = ErrorState(catches=OSError)


async def forever(log: list[str], word: str = "task") -> None:
    log.append(f"{word} starts")
    try:
        await trio.sleep_forever()
    finally:
        log.append(f"{word} ends")


async def test_it_runs_with_its_arguments() -> None:
    """The function is called with the arguments, in a task of the machine's nursery that the name tells."""
    seen: list[object] = []

    async def note(*args: object) -> None:
        seen.extend((args, trio.lowlevel.current_task().name))

    async with trsm.open_machine(Link, id="m") as machine:
        machine.start_soon(note, 1, "two", name="notes")
        machine.start_soon(functools.partial(note, 3))
        assert seen == []
        await wait_all_tasks_blocked()
    assert sorted(map(str, seen)) == sorted(
        ["(1, 'two')", "m: notes", "(3,)", f"m: {test_it_runs_with_its_arguments.__qualname__}.<locals>.note"]
    )


async def test_it_is_cancelled_in_the_step_in_which_its_state_leaves() -> None:
    """The scope ends with the instance, with the reason; a task of the machine's life goes on."""
    log: list[str] = []
    async with trsm.open_machine(Link) as machine:
        machine.add(Link.Connected)
        machine.start_soon(forever, log, "of state", while_active=Link.Connected)
        machine.start_soon(forever, log, "of machine")
        await wait_all_tasks_blocked()
        machine.remove(Link.Connected)
        assert log == ["of state starts", "of machine starts"] or log == ["of machine starts", "of state starts"]
        await wait_all_tasks_blocked()
        assert log[2:] == ["of state ends"]
        machine.add(Link.Connected)
        await wait_all_tasks_blocked()
        assert log[2:] == ["of state ends"]
    assert log[2:] == ["of state ends", "of machine ends"]


async def test_the_reason_of_the_cancellation_names_the_state() -> None:
    """What is cancelled can be told why."""
    reasons: list[str] = []

    async def note() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            reasons.append(str(error))
            raise

    async with trsm.open_machine(Link, id="m") as machine:
        machine.add(Link.Connected)
        machine.start_soon(note, while_active=Link.Connected)
        await wait_all_tasks_blocked()
        machine.remove(Link.Connected)
    assert "Connected left at tick 2 of machine 'm', by <Transition 3 remove" in reasons[0]


async def test_one_whose_instance_ended_before_its_first_step_never_runs() -> None:
    """Also if the state has come back meanwhile."""
    log: list[str] = []
    async with trsm.open_machine(Link) as machine:
        machine.add(Link.Connected)
        machine.start_soon(forever, log, while_active=Link.Connected)
        machine.remove(Link.Connected)
        machine.add(Link.Connected)
        await wait_all_tasks_blocked()
        assert log == []
        assert not machine._started


async def test_an_old_task_that_cleans_up_does_not_end_with_the_next_instance() -> None:
    """Each task belongs to the instance in which it was started; the table forgets each on its own."""
    log: list[str] = []

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await released.wait()
            log.append("old is over")

    released = trio.Event()
    async with trsm.open_machine(Link) as machine:
        machine.add(Link.Connected)
        machine.start_soon(slow, while_active=Link.Connected)
        await wait_all_tasks_blocked()
        machine.remove(Link.Connected)
        machine.add(Link.Connected)
        machine.start_soon(forever, log, "new", while_active=Link.Connected)
        await wait_all_tasks_blocked()
        assert log == ["new starts"]
        released.set()
        await wait_all_tasks_blocked()
        assert log == ["new starts", "old is over"]
        machine.remove(Link.Connected)
        await wait_all_tasks_blocked()
        assert log[-1] == "new ends"
        assert not machine._started
        assert machine._watched == 0


async def test_from_an_on_enter_handler() -> None:
    """The state that enters is active there, and a fault that takes it away again takes the task along."""
    log: list[str] = []

    class Handlers:
        fails = False

        @Link.Connected.on_enter
        def start(self, t: Transition) -> None:
            t.machine.start_soon(forever, log, while_active=Link.Connected)
            if self.fails:
                raise OSError

    handlers = Handlers()
    async with trsm.open_machine(Link, handlers) as machine:
        machine.add(Link.Connected)
        await wait_all_tasks_blocked()
        assert log == ["task starts"]
        machine.remove(Link.Connected)
        handlers.fails = True
        machine.add(Link.Connected)
        assert Link.Connected not in machine
        await wait_all_tasks_blocked()
        assert log == ["task starts", "task ends"]


async def test_an_error_becomes_a_state() -> None:
    """As that of a state's task does; what nothing handles leaves the block."""

    async def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Link) as machine:
            machine.start_soon(fail, OSError("one"))
            await machine.when(Link.ErrNet)
            machine.remove(Link.Error)
            machine.add(Link.Connected)
            machine.start_soon(fail, OSError("two"), while_active=Link.Connected)
            assert str(await machine.when_error(Link.ErrNet)) == "two"
            machine.start_soon(fail, KeyError("three"))
            await trio.sleep_forever()
    assert [repr(error) for error in caught.value.exceptions] == ["KeyError('three')"]


async def test_an_error_of_what_belongs_to_an_error_state_closes_the_machine() -> None:
    """Errors of an error handler are not caught again."""

    async def fail() -> None:
        raise OSError("again")

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Link) as machine:
            machine.add_error(OSError("first"))
            machine.start_soon(fail, while_active=Link.ErrNet)
            await trio.sleep_forever()
    assert [str(error) for error in caught.value.exceptions] == ["again"]


async def test_what_is_no_exception_goes_to_the_nursery() -> None:
    """Only `Exception` is ever caught, and only it becomes a state."""

    async def stop() -> None:
        raise SystemExit(4)

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Link) as machine:
            machine.start_soon(stop)
            await trio.sleep_forever()
    assert caught.group_contains(SystemExit)
    assert Link.Error not in machine


async def test_the_end_of_the_machine_is_no_error_of_the_task() -> None:
    """One that ends with `MachineClosed` of its machine has ended normally."""

    async def wait(machine: Machine) -> None:
        with trio.CancelScope(shield=True):
            await machine.when(Link.Lost)

    async with trsm.open_machine(Link) as machine:
        machine.start_soon(wait, machine)
        await wait_all_tasks_blocked()


async def test_closing_joins_it() -> None:
    """Its cleanup has ended before the block is left, and before those that were deferred."""
    log: list[str] = []

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
            log.append("task")

    async def deferred() -> None:
        log.append("deferred")

    async with trsm.open_machine(Link) as machine:
        machine.defer(deferred)
        machine.start_soon(slow)
        await wait_all_tasks_blocked()
    assert log == ["task", "deferred"]


async def test_a_started_child_takes_its_tasks_along() -> None:
    """They live in the nursery of the ancestor, and are cancelled and joined when the child closes."""
    log: list[str] = []
    gc.disable()
    try:
        async with trsm.open_machine(Link) as machine:
            child = machine.start_child(Link)
            child.add(Link.Connected)
            child.start_soon(forever, log, "a")
            child.start_soon(forever, log, "b", while_active=Link.Connected)
            await wait_all_tasks_blocked()
            child.close()
            await child.when_closed()
            assert sorted(log) == ["a ends", "a starts", "b ends", "b starts"]
            assert machine._task_count == 0
            reference = weakref.ref(child)
            del child
            assert reference() is None
    finally:
        gc.enable()


async def test_it_runs_in_the_context_of_open_machine() -> None:
    """Not in that of whoever called."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    seen: list[str] = []

    async def look() -> None:
        seen.append(variable.get())

    async with trsm.open_machine(Link) as machine:
        variable.set("caller")
        machine.start_soon(look)
        await wait_all_tasks_blocked()
    assert seen == ["outside"]


async def test_its_mutations_carry_a_source() -> None:
    """The record names the task and the transition that it belongs to, and before it who started it."""

    async def work(machine: Machine) -> None:
        machine.add(Link.Lost)

    class Handlers:
        @Link.Connected.on_enter
        def start(self, t: Transition) -> None:
            t.machine.start_soon(work, t.machine, while_active=Link.Connected, name="work")

    async with trsm.open_machine(Link, Handlers(), id="m") as machine:
        machine.add(Link.Connected)
        source = (await machine.when(Link.Lost)).source
        assert source is not None
        assert (source.machine, source.handler, source.tick, source.called) == ("m", "work", 1, ("Connected",))
        assert source.parent is not None
        assert source.parent.handler.endswith("Handlers.start")
        machine.set(Link.Connected)
        machine.remove(Link.Connected)
        machine.start_soon(work, machine)
        source = (await machine.when(Link.Lost)).source
        assert source is not None
        assert (source.handler.rpartition(".")[2], source.kind, source.parent) == ("work", "remove", None)


async def test_tracers_are_told() -> None:
    """That it begins, and how it ends."""
    told: list[object] = []

    class Told(Tracer):
        def task_started(self, machine: trsm.Observed, transition: object, task: str) -> None:
            told.append(task)

        def task_ended(
            self, machine: trsm.Observed, transition: object, task: str, error: BaseException | None
        ) -> None:
            told.append((task, type(error)))

    async def good() -> None:
        pass

    async def bad() -> None:
        raise OSError

    async with trsm.open_machine(Link, tracers=[Told()]) as machine:
        machine.start_soon(good, name="good")
        await wait_all_tasks_blocked()
        machine.start_soon(bad, name="bad")
        await machine.when(Link.ErrNet)
    assert told == ["good", ("good", type(None)), "bad", ("bad", OSError)]


# ---- What is refused ------------------------------------------------------------------------------------------------


async def test_sync_functions_and_coroutines() -> None:
    """An async function is due, and neither a sync one nor what calling one gives."""

    async def work() -> None:
        pass

    coroutine = work()
    async with trsm.open_machine(Link) as machine:
        for wrong in (print, coroutine, 3):
            with pytest.raises(TypeError, match=r"start_soon\(.*: pass an async function, and its arguments after it"):
                machine.start_soon(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"start_soon\(name=3\): write a string"):
            machine.start_soon(work, name=3)  # type: ignore[arg-type]
    coroutine.close()


async def test_a_state_that_is_inactive() -> None:
    """An error at once, rather than a task that silently never runs."""
    async with trsm.open_machine(Link) as machine:
        with pytest.raises(MutationError, match=r"while_active=Connected\): Connected is inactive.*add it first"):
            machine.start_soon(forever, [], while_active=Link.Connected)
        with pytest.raises(MutationError, match="is no state"):
            machine.start_soon(forever, [], while_active=3)  # type: ignore[arg-type]
        assert machine._task_count == 0


async def test_a_state_of_another_schema() -> None:
    """It is unknown."""

    class Other(Schema):
        Connected = State()

    async with trsm.open_machine(Link) as machine:
        with pytest.raises(trsm.UnknownState, match=r"start_soon\(while_active=…\): Other.Connected is not a state"):
            machine.start_soon(forever, [], while_active=Other.Connected)


async def test_a_machine_that_closes() -> None:
    """Nothing is started any more."""

    @Link.Connected.on_exit
    def late(t: Transition) -> None:
        with pytest.raises(MachineClosed, match="is closing, and a task cannot outlive it"):
            t.machine.start_soon(forever, [])

    async with trsm.open_machine(Link, late) as machine:
        machine.add(Link.Connected)
    with pytest.raises(MachineClosed, match="is closed, and a task cannot outlive it"):
        machine.start_soon(forever, [])


async def test_in_a_negotiation_handler() -> None:
    """What is asked may look, and not start anything."""

    @Link.Connected.can_enter
    def ask(t: Transition) -> bool:
        with pytest.raises(trsm.ReadOnly, match="start_soon of machine"):
            t.machine.start_soon(forever, [])
        return True

    async with trsm.open_machine(Link, ask) as machine:
        assert machine.add(Link.Connected)


async def test_from_another_thread() -> None:
    """It has to be the machine's own."""
    async with trsm.open_machine(Link) as machine:

        def call() -> None:
            machine.start_soon(forever, [])

        with pytest.raises(trsm.WrongThread, match="start_soon of machine"):
            await trio.to_thread.run_sync(call)
