"""What negotiation has found out, used by the final handler."""

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.define
class Table:
    text: str
    rows: list[list[int]] = attrs.field(factory=list, init=False)  # filled in when it is asked for


class Sheet(Schema):
    Shown = State(args=Table, multi=True)


class Handlers:
    @Sheet.Shown.can_enter
    def is_table(self, t: trsm.Transition) -> bool:
        table = t.args_of(Sheet.Shown)
        try:
            table.rows = [[int(cell) for cell in line.split()] for line in table.text.splitlines()]
        except ValueError:
            return False
        return True

    @Sheet.Shown.on_enter
    def show(self, t: trsm.Transition) -> None:
        print("sums:", [sum(row) for row in t.args_of(Sheet.Shown).rows])  # parsed once, and not again


async def main() -> None:
    async with trsm.open_machine(Sheet, Handlers()) as sheet:
        for text in ("1 2\n3 4", "1 two", "5 6 7"):
            if not sheet.add(Sheet.Shown(text)):
                print("no table:", text)


trio.run(main)
