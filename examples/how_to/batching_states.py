"""Several changes that belong together, as one: all of them, or none."""

import trio

import trsm
from trsm import Schema, State


class Plane(Schema):
    Fuelled = State()
    Boarded = State()
    OnGround = State()
    Flying = State(require=(Fuelled, Boarded))


@Schema.on_change
def tell(t: trsm.Transition) -> None:
    print(t)


async def main() -> None:
    async with trsm.open_machine(Plane, tell) as plane:
        plane.add(Plane.OnGround, Plane.Fuelled)
        if not plane.mutate(add=Plane.Flying, remove=Plane.OnGround):
            print("nobody has boarded, so that it stays where it is:", plane)
        plane.mutate(add=(Plane.Boarded, Plane.Flying), remove=Plane.OnGround)


trio.run(main)
