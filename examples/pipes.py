"""Three machines and the pipes between them: what happens in one is carried to the next, and nobody calls anybody.

    python examples/pipes.py [EVENT…]

A door, an alarm and a guard's panel. The door knows nothing of the alarm, and the alarm nothing of the panel: pipes
carry what is piped, with its arguments. Events are ``open``, ``close``, ``arm``, ``disarm``, ``service`` (the panel is
taken out of service: it refuses what it is told), ``back`` (it is back, and catches up) and ``cut`` (a pipe is closed).
"""

from __future__ import annotations

import argparse
import os
import sys

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.frozen
class Who:
    name: str = "somebody"


class Door(Schema):
    Open = State(args=Who)


class Alarm(Schema):
    Armed = State()
    DoorOpen = State(args=Who)  # where the door's Open leads
    Ringing = State(auto=True, require=(Armed, DoorOpen))  # comes by itself when both are there


class Panel(Schema):
    InService = State()
    Light = State(require=InService)  # where the alarm's Ringing leads
    Lock = State()  # and where its Armed leads


class Loud:
    """Prints what comes and goes in any of the machines."""

    @Schema.on_change
    def tell(self, t: trsm.Transition) -> None:
        signs = [f"-{state}" for state in t.leaving] + [f"+{state}" for state in t.entering]
        print(f"    {t.machine.id}: {' '.join(signs)}")


@Alarm.DoorOpen.on_enter
def name_who(t: trsm.Transition) -> None:
    print(f"    alarm: the door was opened by {t.args_of(Alarm.DoorOpen).name}")


async def main(events: list[str]) -> None:
    loud = Loud()
    async with (
        trsm.open_machine(Door, loud, id="door") as door,
        trsm.open_machine(Alarm, loud, name_who, id="alarm") as alarm,
        trsm.open_machine(Panel, loud, id="panel") as panel,
    ):
        # One state to one of another name. Both have the same args class, so that who opened it is carried too.
        trsm.pipe(door, Door.Open, alarm, Alarm.DoorOpen)
        # Several states at once. A pipe may be kept, to look at it or to close it; it need not be.
        wire = trsm.pipe(alarm, {Alarm.Ringing: Panel.Light, Alarm.Armed: Panel.Lock}, panel)
        try:
            trsm.pipe(panel, Panel.Light, alarm, Alarm.Ringing)
        except trsm.MutationError as error:
            print(f"refused: {error}")  # a state would lead back to itself
        panel.add(Panel.InService)
        for event in events:
            print(f"{event}:")
            match event:
                case "open":
                    door.add(Door.Open(name="Ann"))
                case "close":
                    door.remove(Door.Open)
                case "arm":
                    alarm.add(Alarm.Armed)
                case "disarm":
                    alarm.remove(Alarm.Armed)
                case "service":
                    panel.remove(Panel.InService)
                case "back":
                    panel.add(Panel.InService)
                    if not wire.closed:
                        wire.sync()  # makes up for what was refused
                case "cut":
                    wire.close()  # what was carried stays
        for refusal in wire.refusals:  # each was logged too, as a warning
            print(f"the panel refused {refusal.kind}({refusal.state}):")
            print("    " + refusal.reason.replace("\n", "\n    "))
        print(wire, wire.statistics())
        print("the end:")  # pipes close with their machines; what was piped until then is taken back


EVENTS = ("open", "close", "arm", "disarm", "service", "back", "cut")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Play events on a door whose alarm and panel are piped to it.")
    parser.add_argument("events", nargs="*", metavar="EVENT", help=", ".join(EVENTS))
    given = parser.parse_args()
    for event in given.events:
        if event not in EVENTS:
            parser.error(f"{event!r} is no event: write {', '.join(EVENTS[:-1])} or {EVENTS[-1]}")
    try:
        trio.run(main, given.events or ["arm", "open", "close", "service", "open", "back", "cut", "disarm"])
        sys.stdout.flush()
    except* BrokenPipeError:
        os._exit(1)  # nobody reads any more, though Python would write the rest
