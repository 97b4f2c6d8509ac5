"""A drain is bounded, and is one step of one task: P24, on machines, with a sibling whose heart beats."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trsm
from trsm import ErrorState, Machine, NotSettled, Schema, State, Transition

LIMIT = 300


class Loop(Schema):
    Go = State()
    Many = State(multi=True)
    On = State()
    Other = State(remove=On)
    Armed = State()
    Ready = State(auto=True, require=Armed)
    Failed = ErrorState(catches=KeyError)


def fails(t: Transition) -> None:
    raise KeyError


Start = Callable[[Machine], object]
FEEDS: dict[str, tuple[object, Callable[[Transition], object], Start]] = {
    "on_enter": (Loop.Many.on_enter, lambda t: t.machine.add(Loop.Many), lambda m: m.add(Loop.Many)),
    "on_exit": (
        Loop.On.on_exit,
        lambda t: (t.machine.add(Loop.On), t.machine.remove(Loop.On)),
        lambda m: (m.add(Loop.On), m.remove(Loop.On)),
    ),
    "on_change": (Loop.on_change, lambda t: t.machine.toggle(Loop.On, Loop.Armed), lambda m: m.add(Loop.Go)),
    "first": (Loop.on_change, lambda t: t.machine.toggle(Loop.Other, first=True), lambda m: m.add(Loop.Go)),
    "automatic round": (Loop.Ready.on_enter, lambda t: t.machine.remove(Loop.Ready), lambda m: m.add(Loop.Armed)),
    "error state": (
        Loop.Failed.on_enter,
        lambda t: t.machine.add_error(KeyError()),
        lambda m: m.add_error(KeyError()),
    ),
    "a handler of another machine": (
        Loop.Many.on_enter,
        lambda t: (t.machine.parent or t.machine.children[0]).add(Loop.Many),
        lambda m: (m.start_child(Loop, m_feed), m.add(Loop.Many)),
    ),
}


@Loop.Many.on_enter
def m_feed(t: Transition) -> None:
    parent = t.machine.parent
    assert parent is not None
    parent.add(Loop.Many)


class Steps(trio.abc.Instrument):
    """Counts the steps of every task but one."""

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.others = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.others += task is not self.task


@pytest.mark.promise(24)
@pytest.mark.parametrize("feed", FEEDS)
async def test_a_machine_that_feeds_itself_while_a_sibling_beats(feed: str, figure: Callable[..., None]) -> None:
    """It ends in `NotSettled`; nobody else takes a step meanwhile, and everybody does again after it."""
    mark, act, start = FEEDS[feed]

    def again(t: Transition) -> None:
        act(t)

    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await trio.lowlevel.checkpoint()

    steps = Steps()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await trio.lowlevel.checkpoint()
        trio.lowlevel.add_instrument(steps)
        transitions = 0
        with pytest.raises(ExceptionGroup) as caught:
            async with trsm.open_machine(Loop, mark(again), drain_limit=LIMIT, id="loop") as machine:  # type: ignore[operator]
                steps.task = trio.lowlevel.current_task()
                before, seen = beats, steps.others
                start(machine)
                transitions = machine.last_transition.tick
                assert (beats, steps.others) == (before, seen), "one drain is one step of one task"
                await trio.sleep_forever()
        trio.lowlevel.remove_instrument(steps)
        after = beats
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert beats > after > before, "and the heart beats on"
        nursery.cancel_scope.cancel()
    told = [str(error) for error in caught.value.exceptions if isinstance(error, NotSettled)]
    assert told and f"did not settle within {LIMIT} transitions" in told[0], caught.value.exceptions
    assert LIMIT <= transitions <= LIMIT + 2  # the last of them closes
    await wait_all_tasks_blocked()
    figure(24, drains=1)
