"""Ask again when a mutation was refused: as soon as what refused it has gone."""

import trio

import trsm
from trsm import Schema, State


class Printer(Schema):
    Jammed = State()
    Printing = State(require="On")
    On = State()


@Printer.Printing.can_enter(given=Printer.Jammed)
def is_clear(t: trsm.Transition) -> bool:
    return False


async def main() -> None:
    async with trsm.open_machine(Printer, is_clear) as printer:
        begun = trio.current_time()

        async def repair() -> None:
            await trio.sleep(2)
            printer.add(Printer.On, Printer.Jammed)
            await trio.sleep(2)
            printer.remove(Printer.Jammed)

        printer.start_soon(repair)
        result = await trsm.retry(lambda: printer.add(Printer.Printing), backoff=60, deadline=300)
        print(result, "after", round(trio.current_time() - begun), "s")

        printer.remove(Printer.On)
        result = await trsm.retry(lambda: printer.add(Printer.Printing), tries=3, backoff=0.5)
        print(result.reason if isinstance(result, trsm.Canceled) else "printing")


trio.run(main)
