"""A state that is an event: it comes, has its effect, and goes."""

import trio

import trsm
from trsm import Schema, State


class Button(Schema):
    Enabled = State()
    Clicked = State(require=Enabled)


class Handlers:
    clicks = 0

    @Button.Clicked.on_enter
    def count(self, t: trsm.Transition) -> None:
        self.clicks += 1
        t.machine.remove(Button.Clicked)  # queued: it runs when this transition has ended


async def main() -> None:
    handlers = Handlers()
    async with trsm.open_machine(Button, handlers) as button:
        if not button.add(Button.Clicked):
            print("not enabled")
        button.add(Button.Enabled)
        click = button.when_next(Button.Clicked)
        for _ in range(3):
            button.add(Button.Clicked)
        print(handlers.clicks, "clicks, and still clicked:", button.is_active(Button.Clicked))
        print("ticks:", button.tick(Button.Clicked))
        print("somebody saw", await click)


trio.run(main)
