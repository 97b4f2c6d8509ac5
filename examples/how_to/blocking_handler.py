"""A handler that computes for long stops everybody, and Ctrl-C too; a thread does not."""

import signal
import time

import trio

import trsm
from trsm import Schema, State


class Report(Schema):
    Blocking = State()
    Threaded = State()


def compute() -> int:  # for long; or a library that blocks
    signal.raise_signal(signal.SIGINT)  # meanwhile you press Ctrl-C
    time.sleep(0.2)
    return 42


class Handlers:
    @Report.Blocking.on_enter  # not like this
    def at_once(self, t: trsm.Transition) -> None:
        print("goes on to its end:", compute())

    @Report.Threaded.task  # but like this
    async def in_a_thread(self, t: trsm.Transition) -> None:
        await trio.to_thread.run_sync(compute, abandon_on_cancel=True)


class Slow(trsm.Tracer):
    def slow_handler(self, machine: object, handler: str, seconds: float) -> None:
        print(handler, "has blocked every task")


async def main(state: State[[], None]) -> None:
    async with trsm.open_machine(Report, Handlers(), tracers=[Slow()]) as report:
        report.add(state)
        await trio.sleep_forever()


for state in (Report.Blocking, Report.Threaded):
    try:
        trio.run(main, state)
    except KeyboardInterrupt:
        print("interrupted while", state, "was active")
