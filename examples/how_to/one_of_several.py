"""One of several states at a time."""

import trsm
from trsm import Schema, State


class Light(Schema):
    Red = State()
    Yellow = State()
    Green = State()
    colour = trsm.exclusive(Red, Yellow, Green)


light = trsm.Engine(Light)
print(light.which(Light.colour))
for state in (Light.Red, Light.Green, Light.Yellow):
    light.add(state)
    print(light, light.which(Light.colour))
