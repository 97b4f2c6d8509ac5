"""A state whose work needs no waiting."""

import trio

import trsm
from trsm import Schema, State


class Lamp(Schema):
    On = State()


class Handlers:
    brightness = 0

    @Lamp.On.on_enter
    def light(self, t: trsm.Transition) -> None:
        self.brightness = 100

    @Lamp.On.on_exit
    def darken(self, t: trsm.Transition) -> None:
        self.brightness = 0


async def main() -> None:
    handlers = Handlers()
    async with trsm.open_machine(Lamp, handlers) as lamp:
        lamp.add(Lamp.On)
        print("on:", handlers.brightness)
        lamp.remove(Lamp.On)
        print("off:", handlers.brightness)
        lamp.add(Lamp.On)
        print("on again:", handlers.brightness)
    print("closed:", handlers.brightness)


trio.run(main)
