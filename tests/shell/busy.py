"""A busy program for Ctrl-C, run by `test_interrupts` as a process of its own: ``python busy.py ROUNDS``.

Each round opens a machine that mutates without pause, asks for SIGINT from outside in the middle of a handler, a later
one each time, and looks at what is left of the machine. It prints a line when it is busy and one of what it found.
"""

from __future__ import annotations

import json
import signal
import sys

import trio

import trsm
from trsm import Schema, State, Transition, open_machine


class Busy(Schema):
    Ready = State()
    Left = State(remove="Right", require=Ready, add="Both")
    Right = State(remove=Left, require=Ready, add="Both")
    Both = State(multi=True, require=Ready)
    Auto = State(auto=True, require=Left)


class Handlers:
    """Slow enough that most signals land inside a transition."""

    def __init__(self, announce_at: int) -> None:
        self.calls = 0
        self.announce_at = announce_at
        self.depth = 0
        self.entered = dict.fromkeys((state.name for state in Busy), 0)
        self.unprotected = 0

    def work(self, t: Transition) -> None:
        self.depth += 1
        if not trio.lowlevel.currently_ki_protected():
            self.unprotected += 1
        if self.calls == self.announce_at:
            print(json.dumps("busy"), flush=True)
        self.calls += 1
        for _ in range(200):
            pass
        self.depth -= 1

    @Busy.Ready.on_enter
    @Busy.Left.on_enter
    @Busy.Right.on_enter
    @Busy.Auto.on_enter
    def enter(self, t: Transition) -> None:
        self.work(t)

    @Busy.Left.on_exit
    @Busy.Right.on_exit
    def leave(self, t: Transition) -> None:
        self.work(t)

    @Busy.on_change
    def change(self, t: Transition) -> None:
        for state in t.entering:
            self.entered[state.name] += 1
        for state in t.leaving:
            self.entered[state.name] -= 1


def wrong(ticks: trsm.Ticks, handlers: Handlers) -> list[str]:
    """What is inconsistent: relations, ticks against the active set, and handlers that did not end."""
    active = set(ticks.active_states)
    found = [f"{state} is odd and not active" for state in Busy if (ticks[state] % 2 == 1) is not (state in active)]
    if {Busy.Left, Busy.Right} <= active:
        found.append("Left and Right")
    if active and Busy.Ready not in active:
        found.append("no Ready")
    if handlers.depth:
        found.append("a handler was torn")
    if handlers.unprotected:
        found.append("a handler was unprotected")
    for state in (Busy.Ready, Busy.Left, Busy.Right, Busy.Auto):
        if handlers.entered[state.name] != ticks[state] % 2:
            found.append(
                f"{state} is {ticks[state]} and entered {handlers.entered[state.name]} times more than it left"
            )
    return found


async def main(handlers: Handlers, kept: list[trsm.Machine], seen: list[list[str]]) -> None:
    async with open_machine(Busy, handlers) as machine:
        kept.append(machine)
        try:
            machine.add(Busy.Ready)
            while True:
                await trio.lowlevel.checkpoint()  # where an interrupt that had to wait is delivered
                machine.add(Busy.Left)
                machine.add(Busy.Right)
                machine.toggle(Busy.Left)
        except KeyboardInterrupt:
            seen.append(wrong(machine.ticks, handlers))
            raise


def interrupted(announce_at: int) -> dict[str, object]:
    """One round: from opening to the end of the program that Ctrl-C leaves."""
    handlers = Handlers(announce_at)
    kept: list[trsm.Machine] = []
    seen: list[list[str]] = []
    how = "ended"
    try:
        trio.run(main, handlers, kept, seen)
    except KeyboardInterrupt:
        how = "bare"
    except BaseExceptionGroup as group:
        how = repr(group)
    (machine,) = kept
    at_close = machine.ticks_at_close
    return {
        "how": how,
        "at the interrupt": seen,
        "closed": machine.closed,
        "active": len(machine.active_states),
        "after": wrong(machine.ticks, handlers),
        "at close": at_close is not None and at_close.is_active(Busy.Ready),
        "transitions": machine.last_transition.tick,
    }


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told its children to ignore it
    for number in range(int(sys.argv[1])):
        print(json.dumps(interrupted(number)), flush=True)
