"""Work spread over a few tasks, results gathered, and one piece of work that fails without stopping the others.

    python examples/fan_out.py NUMBER… [--workers N]

Each number is split into its prime factors, in a thread, so that nobody else is held up; at most N at a time. What is
no whole number above one fails, and costs nothing but its own result.
"""

from __future__ import annotations

import argparse
import os
import sys

import attrs
import trio

import trsm
from trsm import ErrorState, Schema, State


@attrs.frozen
class Item:
    place: int
    text: str


@attrs.frozen
class Factors:
    """What a task returns becomes the arguments of the state that its ``then=`` adds."""

    place: int
    primes: list[int]


class FanOut(Schema):
    """A multi state takes many calls; its tasks run side by side, as many as ``limit=`` says."""

    Working = State(multi=True, args=Item)
    Gathered = State(multi=True, args=Factors)
    BadItem = ErrorState(catches=ValueError)  # what is raised becomes a state: nobody else is disturbed


def factors(number: int) -> list[int]:
    found: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


class Handlers:
    def __init__(self, total: int) -> None:
        self.results: list[str] = ["failed"] * total
        self.open = total

    @FanOut.Gathered.on_enter
    def gather(self, t: trsm.Transition) -> None:
        result = t.args_of(FanOut.Gathered)
        self.results[result.place] = " × ".join(map(str, result.primes))
        self.count_down(t)

    @FanOut.BadItem.on_enter
    def note(self, t: trsm.Transition) -> None:
        print(f"failed: {t.error}", file=sys.stderr)
        self.count_down(t)

    def count_down(self, t: trsm.Transition) -> None:
        self.open -= 1
        if not self.open:
            t.machine.remove(FanOut.Working)  # everything is in: this ends the wait below


def work(workers: int) -> object:
    @FanOut.Working.task(then=FanOut.Gathered, limit=workers)
    async def split(t: trsm.Transition) -> Factors:
        item = t.args_of(FanOut.Working)
        number = int(item.text) if item.text.isdecimal() else 0
        if number < 2:
            raise ValueError(f"{item.text!r} is no whole number above one")
        return Factors(item.place, await trio.to_thread.run_sync(factors, number, abandon_on_cancel=True))

    return split


async def main(texts: list[str], workers: int) -> int:
    handlers = Handlers(len(texts))
    async with trsm.open_machine(FanOut, handlers, work(workers), queue_limit=len(texts) + 1) as machine:
        for place, text in enumerate(texts):
            machine.add(FanOut.Working(place=place, text=text))
        await machine.when_not(FanOut.Working)
        for text, result in zip(texts, handlers.results, strict=True):
            print(f"{text} = {result}", flush=True)
        return 1 if machine.is_active(FanOut.BadItem) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Split numbers into prime factors, several at once.")
    parser.add_argument("numbers", nargs="+", metavar="NUMBER")
    parser.add_argument("--workers", type=int, default=3, help="how many at once (default: 3)")
    given = parser.parse_args()
    if given.workers < 1:
        parser.error(f"--workers {given.workers}: somebody has to do the work, write 1 or more")
    try:
        sys.exit(trio.run(main, given.numbers, given.workers))
    except* BrokenPipeError:
        os._exit(1)  # nobody reads any more, though Python would write the rest
