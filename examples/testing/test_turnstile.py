"""Tests of the turnstile, from the first assertion to the sweep; the page "Testing your machine" explains them.

cd examples/testing && pytest
"""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import invariant
from turnstile import Handlers, Turnstile

import trsm
import trsm.testing
from trsm.testing import OpenMachine, assert_active, assert_inactive, assert_ticks, record_transitions


async def test_a_coin_unlocks_it(machine: OpenMachine) -> None:
    gate = await machine(Turnstile, Handlers())
    gate.add(Turnstile.Locked)
    gate.add(Turnstile.Coin)
    assert_active(gate, Turnstile.Unlocked)
    assert_inactive(gate, Turnstile.Locked, Turnstile.Coin)


async def test_nobody_gets_through_while_it_is_locked(machine: OpenMachine) -> None:
    gate = await machine(Turnstile, Handlers())
    gate.add(Turnstile.Locked)
    result = gate.add(Turnstile.Push)
    assert isinstance(result, trsm.Canceled)
    assert "Push cannot activate: it requires Unlocked" in result.reason


async def test_one_coin_is_good_for_one(machine: OpenMachine) -> None:
    gate = await machine(Turnstile, Handlers())
    gate.add(Turnstile.Locked)
    gate.add(Turnstile.Coin)
    with record_transitions(gate) as recording:
        gate.add(Turnstile.Push)
        gate.add(Turnstile.Push)
    assert recording.changes == ["add: +Push", "add: -Push -Unlocked +Locked"]
    assert len(recording.refused) == 1
    assert_ticks(gate, {Turnstile.Unlocked: 2, Turnstile.Push: 2})  # each came once, and went


async def test_a_visitor_who_waits_for_the_coin_of_another(
    machine: OpenMachine, autojump_clock: trio.abc.Clock
) -> None:
    gate = await machine(Turnstile, Handlers())
    gate.add(Turnstile.Locked)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay_later, gate)
        await gate.when(Turnstile.Unlocked)
    assert trio.current_time() == 3600


async def pay_later(gate: trsm.Machine) -> None:
    await trio.sleep(3600)
    gate.add(Turnstile.Coin)


# ---- All that relations allow ---------------------------------------------------------------------------------------


def test_the_relations_are_sound() -> None:
    findings = trsm.testing.check(Turnstile)
    assert not findings, str(findings)


def test_every_set_of_states_can_be_left_for_an_unlocked_gate() -> None:
    exploration = trsm.testing.explore(Turnstile)
    assert len(exploration) == 8
    for path in exploration.paths():
        gate = trsm.Engine(Turnstile)
        path.replay(gate)
        assert gate.can_add(Turnstile.Unlocked), path


# ---- At random ------------------------------------------------------------------------------------------------------


@given(st.lists(trsm.testing.mutations(Turnstile)))
def test_everybody_is_counted_once(steps: list[trsm.testing.Mutation]) -> None:
    handlers = Handlers()
    gate = trsm.Engine(Turnstile, handlers)
    for step in steps:
        step.apply(gate)
    assert handlers.people == (gate.tick(Turnstile.Push) + 1) // 2


class TurnstileRules(trsm.testing.MachineRules):
    schema = Turnstile
    handlers = (Handlers,)

    @invariant()
    def the_coin_has_fallen(self) -> None:
        assert self.machine.is_inactive(Turnstile.Coin)


TestTurnstile = TurnstileRules.TestCase


# ---- Sweeps ---------------------------------------------------------------------------------------------------------


async def a_busy_hour() -> None:
    handlers = Handlers()
    async with trsm.open_machine(Turnstile, handlers) as gate, trio.open_nursery() as nursery:
        gate.add(Turnstile.Locked)
        nursery.start_soon(pay_later, gate)
        nursery.start_soon(visit, gate)
        nursery.start_soon(visit, gate)
        await gate.when_ticks(Turnstile.Push, 2)
        nursery.cancel_scope.cancel()
    assert handlers.people == 1


async def visit(gate: trsm.Machine) -> None:
    await gate.when(Turnstile.Unlocked)
    gate.add(Turnstile.Push)


def test_cancelled_at_any_point() -> None:
    assert trsm.testing.cancel_sweep(a_busy_hour) > 5


def test_whichever_handler_raises() -> None:
    assert trsm.testing.raise_sweep(a_busy_hour) == 2


def test_ctrl_c_at_any_point() -> None:
    assert trsm.testing.interrupt_sweep(a_busy_hour) > 5


def test_a_bolt_that_sticks() -> None:
    assert trsm.testing.call_sweep(a_busy_hour, Handlers, "let_through", error=lambda: OSError("it sticks")) == 1
