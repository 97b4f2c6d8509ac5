"""Input that comes faster than it can be shown: the first at once, then the latest, once a second at most."""

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.frozen
class Reading:
    value: int


class Gauge(Schema):
    Fresh = State(multi=True, args=Reading)  # something has come that is not shown yet
    Shown = State(auto=True, require=Fresh)  # comes by itself as soon as it may
    Resting = State(timeout=1, remove=Shown)  # keeps it away for a second


class Handlers:
    def __init__(self) -> None:
        self.value = 0
        self.begun = trio.current_time()

    @Gauge.Fresh.on_enter
    def keep(self, t: trsm.Transition) -> None:
        self.value = t.args_of(Gauge.Fresh).value  # the latest is the one that counts

    @Gauge.Shown.on_enter
    def show(self, t: trsm.Transition) -> None:
        print(f"{trio.current_time() - self.begun:.1f} s: {self.value}")
        t.machine.mutate(add=Gauge.Resting, remove=Gauge.Fresh, first=True)  # before input that waits already


async def main() -> None:
    async with trsm.open_machine(Gauge, Handlers()) as gauge:
        for value in range(20):  # eight a second
            gauge.add(Gauge.Fresh(value))
            await trio.sleep(0.12)
        await gauge.when_not(Gauge.Fresh)


trio.run(main)
