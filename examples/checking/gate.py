"""The gate of a car park, written in a hurry. `python -m trsm check gate:Gate` says what is wrong with it."""

from trsm import Schema, State


class Gate(Schema):
    Power = State()
    Closed = State(auto=True, require=Power, remove="Open")
    Open = State(require=Power)
    Passing = State(require=Open)
    Green = State(auto=True, require=Power, remove="Red")
    Red = State(auto=True, require=Power, remove=Green)


class Mended(Schema):
    Power = State()
    Closed = State(auto=True, require=Power, remove="Open")
    Open = State(require=Power, remove=Closed)
    Passing = State(require=Open)
    Green = State(auto=True, require=Open)
    Red = State(auto=True, require=Closed)
