"""`while_active` and `while_inactive`: trio cancel scopes bound to one instance of a state (DESIGN section 6)."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Machine, MutationError, Schema, State, StateScope, Transition, UnknownState, WrongThread


class Net(Schema):
    Up = State()
    Down = State(remove=Up)
    Ready = State(require=Up)
    Ping = State(multi=True)
    Latched = State(latch=True)
    Auto = State(auto=True, require=Up)
    ErrOs = trsm.ErrorState(catches=OSError, remove=Up)


class Other(Schema):
    Up = State()


Begin = Callable[[Machine], object]


def active(machine: Machine) -> StateScope:
    """A scope that ends when Up leaves; Up is active."""
    machine.add(Net.Up)
    return machine.while_active(Net.Up)


def inactive(machine: Machine) -> StateScope:
    """A scope that ends when Up comes; Up is inactive."""
    return machine.while_inactive(Net.Up)


BOTH_POLES = pytest.mark.parametrize("make", [active, inactive])


def end(machine: Machine) -> None:
    """End both of them."""
    machine.toggle(Net.Up)


# ---- A trio cancel scope, registered at `with` ----------------------------------------------------------------------


@BOTH_POLES
async def test_scope_is_a_cancel_scope_of_trio(
    make: Callable[[Machine], StateScope], autojump_clock: MockClock
) -> None:
    """What `with` gives is a real cancel scope: it has a deadline, can be shielded, and cancelled by its user."""
    async with trsm.open_machine(Net) as machine:
        with make(machine) as scope:
            assert type(scope) is trio.CancelScope
            scope.deadline = trio.current_time() + 2
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            await trio.sleep_forever()
        assert scope.cancelled_caught and trio.current_time() == 2
        with make(machine) as scope:
            scope.cancel()
            await trio.sleep_forever()
        assert scope.cancelled_caught


@BOTH_POLES
async def test_scope_that_is_left_in_time(make: Callable[[Machine], StateScope]) -> None:
    """While its condition holds, a scope cancels nothing; once left, nothing reaches it any more."""
    async with trsm.open_machine(Net) as machine:
        with make(machine) as scope:
            machine.add(Net.Ping)
            await trio.lowlevel.checkpoint()
        assert not scope.cancel_called
        end(machine)
        assert not scope.cancel_called


@BOTH_POLES
async def test_scope_does_not_swallow_other_exceptions(make: Callable[[Machine], StateScope]) -> None:
    """An exception of the block passes, also through a scope that has ended, and the registration is gone with it."""
    async with trsm.open_machine(Net) as machine:
        for ends in (False, True):
            with pytest.raises(KeyError):
                with make(machine) as scope:
                    if ends:
                        end(machine)
                    raise KeyError
            assert scope.cancel_called is ends
            assert not machine._scopes
            machine.remove(Net.Up)


async def test_scope_is_registered_at_with() -> None:
    """What counts is the instance at `with`, not the one when `while_active` was called."""
    async with trsm.open_machine(Net) as machine:
        early = machine.while_active(Net.Up)
        over = active(machine)
        machine.remove(Net.Up)
        with over as scope:
            assert scope.cancel_called
        machine.add(Net.Up)
        with early as scope:
            assert not scope.cancel_called
            machine.remove(Net.Up)
            assert scope.cancel_called


async def test_scope_is_entered_again() -> None:
    """A scope is usable once, whether it is over or still open, and a refused second use harms nothing."""
    async with trsm.open_machine(Net) as machine:
        state_scope = active(machine)
        with state_scope as scope:
            with pytest.raises(RuntimeError, match=r"usable once: call while_active\(…\) again for another"):
                state_scope.__enter__()
            assert not scope.cancel_called
            machine.remove(Net.Up)
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        with pytest.raises(RuntimeError, match="usable once"):
            with state_scope:
                pytest.fail("entered twice")


async def test_each_user_has_a_scope_of_its_own() -> None:
    """One user's cancellation is nobody else's; the end of the instance is everybody's."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Up)
        scopes: list[trio.CancelScope] = []

        async def use(user: int) -> None:
            with machine.while_active(Net.Up) as scope:
                scopes.append(scope)
                if user == 0:
                    scope.cancel()
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for user in range(3):
                nursery.start_soon(use, user)
            await wait_all_tasks_blocked()
            assert len(set(scopes)) == 3
            assert sorted(scope.cancel_called for scope in scopes) == [False, False, True]
            assert len(nursery.child_tasks) == 2
            machine.remove(Net.Up)
            assert all(scope.cancel_called for scope in scopes)


async def test_scope_is_used_in_another_task_than_the_one_that_made_it() -> None:
    """A scope belongs to the task that enters it: it cancels that one, and not its maker."""
    async with trsm.open_machine(Net) as machine:
        made = active(machine)
        ended = trio.Event()

        async def use() -> None:
            with made:
                await trio.sleep_forever()
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await wait_all_tasks_blocked()
            machine.remove(Net.Up)
            await trio.lowlevel.checkpoint()
            await ended.wait()


async def test_scope_is_entered_outside_of_the_machine_that_is_left() -> None:
    """A scope may be used by any task of the thread, and outlive the block: the closing ends it."""
    reasons: list[str | None] = []

    async def use(made: StateScope) -> None:
        try:
            with made:
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as cancelled:
                    reasons.append(cancelled.reason)
                    raise
        finally:
            reasons.append("over")

    async with trio.open_nursery() as nursery:
        async with trsm.open_machine(Net, id="m") as machine:
            nursery.start_soon(use, active(machine))
            nursery.start_soon(use, machine.while_inactive(Net.Down))
            await wait_all_tasks_blocked()
    assert sorted(str(reason) for reason in reasons) == [
        "Up left at tick 2 of machine 'm', by <Transition 3 close: -Auto -Up>",
        "machine 'm' closed",
        "over",
        "over",
    ]


# ---- Ends with the instance, in the same step, with the reason ------------------------------------------------------


async def test_state_leaves_while_its_scope_is_open() -> None:
    """The scope is cancelled before the mutation returns, after the commit and before any final handler."""
    seen: list[tuple[str, bool, bool]] = []
    scopes: list[trio.CancelScope] = []

    class Handlers:
        @Net.Up.can_exit
        def ask(self, t: Transition) -> bool:
            seen.append(("can_exit", t.machine.is_active(Net.Up), scopes[0].cancel_called))
            return True

        @Net.Up.on_exit
        def note(self, t: Transition) -> None:
            seen.append(("on_exit", t.machine.is_active(Net.Up), scopes[0].cancel_called))

    async with trsm.open_machine(Net, Handlers()) as machine:
        with active(machine) as scope:
            scopes.append(scope)
            machine.remove(Net.Up)
            assert scope.cancel_called and not scope.cancelled_caught
            assert seen == [("can_exit", True, False), ("on_exit", False, True)]
            await trio.lowlevel.checkpoint()
            pytest.fail("a checkpoint after the end")
        assert scope.cancelled_caught


async def test_state_comes_while_an_inactive_scope_is_open() -> None:
    """A `while_inactive` scope is cancelled in the commit that activates its state, before any final handler."""
    seen: list[bool] = []
    scopes: list[trio.CancelScope] = []

    @Net.Up.on_enter
    def note(t: Transition) -> None:
        seen.append(scopes[0].cancel_called)

    async with trsm.open_machine(Net, note) as machine:
        with inactive(machine) as scope:
            scopes.append(scope)
            machine.add(Net.Down)
            assert not scope.cancel_called
            machine.set(Net.Up)
            assert seen == [True]
            await trio.lowlevel.checkpoint()
            pytest.fail("a checkpoint after the end")
        assert scope.cancelled_caught


@pytest.mark.parametrize("begin", [active, inactive])
async def test_refused_mutation_leaves_scopes_alone(begin: Callable[[Machine], StateScope]) -> None:
    """A mutation that is canceled, or only asked about, ends no scope."""
    refused = [False]

    class Handlers:
        @Net.Up.can_enter
        @Net.Up.can_exit
        def ask(self, t: Transition) -> bool:
            return not refused[0]

    async with trsm.open_machine(Net, Handlers()) as machine:
        with begin(machine) as scope:
            assert machine.can_remove(Net.Up) and machine.can_add(Net.Up)
            refused[0] = True
            assert machine.toggle(Net.Up).canceled
            assert not scope.cancel_called
            refused[0] = False
            assert machine.toggle(Net.Up).executed
            assert scope.cancel_called


@pytest.mark.parametrize(
    ("how", "by"),
    [
        (lambda machine: machine.remove(Net.Up), "<Transition 2 remove: -Up>"),
        (lambda machine: machine.add(Net.Down), "<Transition 2 add: +Down -Up>"),
        (lambda machine: machine.set(Net.Ping), "<Transition 2 set: +Ping -Up>"),
        (lambda machine: machine.mutate(add=Net.Ping, remove=Net.Up), "<Transition 2 mutate: +Ping -Up>"),
        (lambda machine: machine.toggle(Net.Up), "<Transition 2 remove: -Up>"),
        (lambda machine: machine.add_error(OSError()), "<Transition 2 error: +Error +ErrOs -Up>"),
        (lambda machine: machine.close(), "<Transition 2 close: -Up>"),
    ],
    ids=["remove", "add", "set", "mutate", "toggle", "error", "close"],
)
async def test_reason_says_which_state_left_when_and_by_what(how: Begin, by: str) -> None:
    """Whatever removes the state, the cancellation says the state, its tick, the machine and the transition."""

    class Plain(Net):
        Auto = Net.Auto.extend(auto=False)

    outcome: list[str | None] = []
    async with trsm.open_machine(Plain, id="m") as machine:
        with trio.CancelScope(shield=True):  # from the machine's own cancellation of the body, when it is closed
            with active(machine):
                how(machine)
                try:
                    await trio.lowlevel.checkpoint()
                except trio.Cancelled as cancelled:
                    outcome.append(cancelled.reason)
                    raise
    assert outcome == [f"Up left at tick 2 of machine 'm', by {by}"]


async def test_reason_says_which_state_came() -> None:
    """The reason of a `while_inactive` scope names the state that came."""
    async with trsm.open_machine(Net, id="m") as machine:
        with inactive(machine):
            machine.add(Net.Up, Net.Ping)
            with pytest.raises(trio.Cancelled) as caught:
                await trio.lowlevel.checkpoint()
            assert caught.value.reason == "Up came at tick 1 of machine 'm', by <Transition 1 add: +Up +Ping>"


async def test_implied_and_automatic_states_end_scopes() -> None:
    """A state that goes for want of what it requires ends its scopes; one that comes by itself ends those that wait."""
    async with trsm.open_machine(Net) as machine:
        with machine.while_inactive(Net.Auto) as waiting:
            machine.add(Net.Up)
            assert waiting.cancel_called
        machine.add(Net.Ready)
        with machine.while_active(Net.Ready) as ready, machine.while_active(Net.Auto) as auto:
            machine.remove(Net.Up)
            assert ready.cancel_called and auto.cancel_called


async def test_state_comes_and_goes_within_one_drain() -> None:
    """A scope ends with its instance even if the state is active again before the mutation returns."""

    @Net.Up.on_exit
    def again(t: Transition) -> None:
        t.machine.add(Net.Up)

    async with trsm.open_machine(Net, again) as machine:
        with active(machine) as scope:
            machine.remove(Net.Up)
            assert machine.is_active(Net.Up) and scope.cancel_called
        machine.detach(again)
        with machine.while_active(Net.Up) as scope:
            assert not scope.cancel_called
        machine.remove(Net.Up)

        @Net.Up.on_enter
        def gone(t: Transition) -> None:
            t.machine.remove(Net.Up)

        machine.bind(gone)
        with machine.while_inactive(Net.Up) as scope:
            machine.add(Net.Up)
            assert machine.is_inactive(Net.Up) and scope.cancel_called


async def test_multi_state_called_again() -> None:
    """A multi state that is called again goes on: it is the same instance, and its scopes stay."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Ping)
        with machine.while_active(Net.Ping) as scope:
            machine.add(Net.Ping)
            assert machine.tick(Net.Ping) == 3 and not scope.cancel_called
            machine.set(Net.Ping)
            assert machine.tick(Net.Ping) == 5 and not scope.cancel_called
            machine.remove(Net.Ping)
            assert scope.cancel_called


async def test_plain_state_called_again() -> None:
    """Adding an active plain state moves no tick and ends no scope."""
    async with trsm.open_machine(Net) as machine:
        with active(machine) as scope:
            machine.add(Net.Up)
            assert not scope.cancel_called


async def test_fault_takes_the_state_out_again() -> None:
    """A state that a fault removes has come and gone: scopes that wait for it, and those entered since, have ended."""
    scopes: list[trio.CancelScope] = []
    user: list[StateScope] = []

    class Handlers:
        @Net.Up.on_enter
        def use(self, t: Transition) -> None:
            user.append(t.machine.while_active(Net.Up))
            scopes.append(user[0].__enter__())
            assert not scopes[0].cancel_called
            raise OSError

    async with trsm.open_machine(Net, Handlers()) as machine:
        with machine.while_inactive(Net.Up) as scope:
            machine.add(Net.Up)
            assert scope.cancel_called and scopes[0].cancel_called
            user[0].__exit__(None, None, None)
        assert machine.is_inactive(Net.Up)


# ---- Already over at entry ------------------------------------------------------------------------------------------


async def test_condition_does_not_hold_at_entry() -> None:
    """A scope whose condition does not hold at `with` is over from the start, says so, and is not registered."""
    async with trsm.open_machine(Net) as machine:
        for pole, made in (("inactive", machine.while_active(Net.Up)), ("active", machine.while_inactive(Net.Ping))):
            machine.add(Net.Ping)
            with made as scope:
                assert scope.cancel_called and not machine._scopes
                machine.add(Net.Latched)  # sync code goes on to the next checkpoint
                with pytest.raises(trio.Cancelled) as caught:
                    await trio.lowlevel.checkpoint()
                assert f"was {pole} when the scope was entered" in str(caught.value.reason)


@pytest.mark.parametrize("pole", ["while_active", "while_inactive"])
async def test_machine_is_closed_at_entry(pole: str) -> None:
    """On a closed machine every scope is over from the start: no instance lives, and none will come."""
    async with trsm.open_machine(Net, id="m") as machine:
        machine.add(Net.Latched)
    for state in (Net.Latched, Net.Up):
        with getattr(machine, pole)(state) as scope:
            with pytest.raises(trio.Cancelled) as caught:
                await trio.lowlevel.checkpoint()
            assert caught.value.reason == "machine 'm' was closed when the scope was entered"
        assert scope.cancel_called and not machine._scopes


async def test_handlers_enter_scopes_while_the_machine_closes() -> None:
    """In the last mutation a scope is over if its state is; one that waits for a state is over when closing is done."""
    seen: dict[str, bool] = {}
    waiting: list[StateScope] = []

    class Handlers:
        @Net.Up.on_exit
        def use(self, t: Transition) -> None:
            with t.machine.while_active(Net.Up) as scope:
                seen["active"] = scope.cancel_called
            made = t.machine.while_inactive(Net.Up)
            waiting.append(made)
            self.scope = made.__enter__()
            seen["inactive"] = self.scope.cancel_called

    handlers = Handlers()
    async with trsm.open_machine(Net, handlers) as machine:
        machine.add(Net.Up)
        machine.close()
        assert seen == {"active": True, "inactive": False}
        assert handlers.scope.cancel_called
        waiting[0].__exit__(None, None, None)


async def test_latched_state_leaves_in_the_closing() -> None:
    """A scope of a latched state lasts until the machine closes."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Latched)
        with machine.while_active(Net.Latched) as scope:
            machine.remove(Net.Latched)
            machine.set(Net.Up)
            assert not scope.cancel_called
            machine.close()
            assert scope.cancel_called


# ---- Nested ---------------------------------------------------------------------------------------------------------


async def test_scopes_of_two_states_are_nested() -> None:
    """The inner one ends alone; the outer one takes the inner block with it."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Ping)
        with active(machine) as outer:
            with machine.while_active(Net.Ping) as inner:
                machine.remove(Net.Ping)
                await trio.sleep_forever()
            assert inner.cancelled_caught and not outer.cancel_called
            machine.add(Net.Ping)
            with machine.while_active(Net.Ping) as inner:
                machine.remove(Net.Up)
                await trio.sleep_forever()
            pytest.fail("the outer scope has ended")
        assert outer.cancelled_caught and not inner.cancelled_caught and not inner.cancel_called


async def test_scopes_of_one_instance_are_nested() -> None:
    """Both end in the same step, and the outer one catches."""
    async with trsm.open_machine(Net) as machine:
        with active(machine) as outer:
            with machine.while_active(Net.Up) as left:
                pass
            with machine.while_active(Net.Up) as inner:
                machine.remove(Net.Up)
                assert inner.cancel_called and not left.cancel_called
                await trio.sleep_forever()
            pytest.fail("the outer scope has ended")
        assert outer.cancelled_caught and not inner.cancelled_caught


async def test_both_poles_of_one_state_are_nested() -> None:
    """`while_active` inside `while_inactive` of the same state: each is told what concerns it."""
    async with trsm.open_machine(Net) as machine:
        with inactive(machine) as outer:
            with machine.while_active(Net.Up) as inner:
                assert inner.cancel_called and not outer.cancel_called
        with active(machine) as outer:
            with machine.while_inactive(Net.Up) as inner:
                assert inner.cancel_called and not outer.cancel_called


async def test_scopes_of_two_machines_are_nested() -> None:
    """Scopes are the machine's whose state they are bound to."""
    async with trsm.open_machine(Net) as machine, trsm.open_machine(Net) as other:
        with active(machine) as first, active(other) as second:
            machine.remove(Net.Up)
            assert first.cancel_called and not second.cancel_called


async def test_shielded_code_inside_a_scope() -> None:
    """What is shielded inside a scope that ends goes on to its end, as in any trio scope."""
    async with trsm.open_machine(Net) as machine:
        done = False
        with active(machine) as scope:
            machine.remove(Net.Up)
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                done = True
            await trio.lowlevel.checkpoint()
        assert done and scope.cancelled_caught


async def test_nursery_inside_a_scope() -> None:
    """All tasks of a nursery inside the scope are cancelled with it."""
    async with trsm.open_machine(Net) as machine:
        with active(machine) as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(trio.sleep_forever)
                await wait_all_tasks_blocked()
                machine.remove(Net.Up)
        assert scope.cancelled_caught


async def test_outer_cancellation_passes_through_a_scope() -> None:
    """A cancellation from outside is not the scope's to catch."""
    async with trsm.open_machine(Net) as machine:
        with trio.CancelScope() as outside:
            with active(machine) as scope:
                outside.cancel()
                await trio.sleep_forever()
        assert outside.cancelled_caught and not scope.cancel_called
        assert not machine._scopes


# ---- Refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pole", ["while_active", "while_inactive"])
async def test_scope_of_a_foreign_state_is_refused(pole: str) -> None:
    """A state of another schema, a call, and what is no state are refused at the call, by name."""
    async with trsm.open_machine(Net) as machine:
        with pytest.raises(UnknownState, match=pole):
            getattr(machine, pole)(Other.Up)
        for wrong in ("Up", None):
            with pytest.raises(MutationError, match=pole):
                getattr(machine, pole)(wrong)
        with pytest.raises(MutationError, match=rf"{pole}: Up\(…\) carries arguments.*: write Net\.Up"):
            getattr(machine, pole)(Net.Up())
        assert not machine._scopes


@pytest.mark.parametrize("make", [active, inactive])
async def test_scope_is_entered_in_another_thread(make: Callable[[Machine], StateScope]) -> None:
    """A thread with a trio of its own cannot enter the scope, and its own scopes are unharmed by the attempt."""
    outcome: list[object] = []
    async with trsm.open_machine(Net) as machine:
        made = make(machine)

        async def elsewhere() -> None:
            try:
                with made:
                    outcome.append("entered")
            except WrongThread as error:
                outcome.append(str(error))
            with trio.CancelScope() as scope:
                scope.cancel()
                await trio.sleep_forever()
            outcome.append(scope.cancelled_caught)

        thread = threading.Thread(target=trio.run, args=(elsewhere,))
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        assert len(outcome) == 2 and outcome[1] is True
        assert f"while_{make.__name__}" in str(outcome[0])
        assert "trio.from_thread.run_sync" in str(outcome[0])
        assert not machine._scopes
        with made as scope:  # a use that was refused is no use
            end(machine)
            assert scope.cancel_called


# ---- Nothing is left behind -----------------------------------------------------------------------------------------


@BOTH_POLES
async def test_ten_thousand_scopes_leave_nothing_behind(make: Callable[[Machine], StateScope]) -> None:
    """Scopes that were left, or cancelled, are registered nowhere, and their state is no longer looked after."""
    async with trsm.open_machine(Net) as machine:
        machine.add(Net.Ping)
        for ends in (True, False) * 2500:
            with make(machine), machine.while_active(Net.Ping):
                if ends:
                    end(machine)
            machine.remove(Net.Up)
        assert not machine._scopes and not machine._watched


async def test_scope_that_was_left_is_freed_at_once() -> None:
    """Neither the machine nor a circle keeps a scope alive after its block, closed or not."""
    gc.collect()
    gc.disable()
    try:
        async with trsm.open_machine(Net) as machine:
            for ends in (False, True):
                made = active(machine)
                with made as scope:
                    if ends:
                        machine.remove(Net.Up)
                alive = [weakref.ref(scope)]
                del scope, made
                assert alive[0]() is None
    finally:
        gc.enable()


async def test_one_of_several_scopes_is_left() -> None:
    """Leaving one scope leaves those of others registered, and the state looked after, also beside a waiter."""
    async with trsm.open_machine(Net) as machine:
        waiter = machine.when(Net.Down)
        with active(machine) as first:
            with machine.while_active(Net.Up), machine.while_inactive(Net.Down):
                pass
            assert not first.cancel_called
            machine.add(Net.Down)
            assert first.cancel_called and waiter.done
        assert not machine._scopes


async def test_scope_of_an_ended_instance_is_left_beside_a_new_one() -> None:
    """A scope whose instance has ended is left late: the scopes of the next instance stay registered."""
    async with trsm.open_machine(Net) as machine:
        old = active(machine)
        scope = old.__enter__()
        machine.remove(Net.Up)
        assert scope.cancel_called
        with active(machine) as new:
            with machine.while_active(Net.Up) as inner:
                pass
            assert not new.cancel_called and not inner.cancel_called
            task_scopes = machine._scopes
            assert task_scopes and sum(map(len, task_scopes.values())) == 1
            machine.remove(Net.Up)
            assert new.cancel_called
        old.__exit__(None, None, None)
        assert not machine._scopes and not machine._watched


async def test_repr_of_each_stage() -> None:
    """Of which state and machine it is, and whether it was entered, and is over."""
    async with trsm.open_machine(Net, id="net") as machine:
        machine.add(Net.Up)
        up, down, late = machine.while_active(Net.Up), machine.while_inactive(Net.Up), machine.while_inactive(Net.Down)
        assert repr(up) == "<StateScope while_active(Up) of 'net', not entered>"
        with up, late:
            assert repr(up) == "<StateScope while_active(Up) of 'net', entered>"
            with down:
                assert repr(down) == "<StateScope while_inactive(Up) of 'net', over>"
            machine.add(Net.Down)
            assert repr(up) == "<StateScope while_active(Up) of 'net', over>"
        assert repr(late) == "<StateScope while_inactive(Down) of 'net', over>"
        with (left := machine.while_active(Net.Down)):
            pass
        assert repr(left) == "<StateScope while_active(Down) of 'net', over>"
