"""The classic finite machine: a turnstile that a coin unlocks and a push locks again.

    python examples/turnstile.py [coin | push | explain]…

A finite machine is a small case of a relational one: states that remove one another. What happens from outside is a
state too, which leaves as soon as it has had its effect. The number after a state is its tick: it counts how often the
state came and went, and is odd while it is active.
"""

from __future__ import annotations

import os
import sys

import trio

import trsm
from trsm import Schema, State


class Turnstile(Schema):
    """Locked or unlocked, never both: each removes the other."""

    Locked = State(remove="Unlocked")
    Unlocked = State(remove=Locked)
    Coin = State()
    Push = State(require=Unlocked)  # nobody gets through a locked turnstile


class Handlers:
    def __init__(self) -> None:
        self.coins = self.people = 0

    @Turnstile.Coin.on_enter
    def take(self, t: trsm.Transition) -> None:
        self.coins += 1
        t.machine.mutate(add=Turnstile.Unlocked, remove=Turnstile.Coin)  # queued: it runs after this transition

    @Turnstile.Push.on_enter
    def let_through(self, t: trsm.Transition) -> None:
        self.people += 1
        t.machine.add(Turnstile.Locked)  # removes Unlocked, and with it Push, which requires it


async def main(events: list[str]) -> None:
    handlers = Handlers()
    async with trsm.open_machine(Turnstile, handlers, id="gate") as gate:
        gate.add(Turnstile.Locked)
        for event in events:
            if event == "coin":
                result = gate.add(Turnstile.Coin)
            elif event == "push":
                result = gate.add(Turnstile.Push)
            else:
                print(gate.explain("add", Turnstile.Push))
                continue
            print(f"{event}: {gate}{'' if result else ' refused'}")
        print(f"coins: {handlers.coins}, people: {handlers.people}; {gate!r}")


if __name__ == "__main__":
    words = sys.argv[1:] or ["push", "explain", "coin", "coin", "push", "push"]
    unknown = [word for word in words if word not in ("coin", "push", "explain")]
    if unknown:
        sys.exit(f"{unknown[0]!r} is no event: write coin, push or explain")
    try:
        trio.run(main, words)
        sys.stdout.flush()
    except* BrokenPipeError:
        os._exit(1)  # nobody reads any more, though Python would write the rest
