"""Many small pieces, written together: when there are a hundred, when the first is a second old, or at the end."""

import trio

import trsm
from trsm import Schema, State


class Journal(Schema):
    Collecting = State(timeout=1)  # from the first line of a batch to its writing


class Handlers:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, journal: trsm.Machine, line: str) -> None:
        self.lines.append(line)
        journal.add(Journal.Collecting)  # the first begins a batch; the others change nothing
        if len(self.lines) == 100:
            journal.remove(Journal.Collecting)

    @Journal.Collecting.on_exit
    def write(self, t: trsm.Transition) -> None:
        batch, self.lines = self.lines, []
        print(f"{len(batch)} lines, {batch[0]} to {batch[-1]}")


async def main() -> None:
    handlers = Handlers()
    async with trsm.open_machine(Journal, handlers) as journal:
        for number in range(130):
            handlers.log(journal, f"line {number}")
        await trio.sleep(2)
        for number in range(130, 140):
            handlers.log(journal, f"line {number}")


trio.run(main)
