"""The first Ctrl-C takes no more work and lets the rest finish; a second one, or ten seconds, ends that too."""

import signal

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.frozen
class Job:
    seconds: float


class Server(Schema):
    Working = State(multi=True, args=Job)  # called once for each job; it leaves with the last of them
    Stopping = State(latch=True)  # there is no way back


class Handlers:
    jobs = 0

    @Server.Working.can_enter(given=Server.Stopping)
    def is_too_late(self, t: trsm.Transition) -> bool:
        return False

    @Server.Working.on_enter
    def begin(self, t: trsm.Transition) -> None:
        self.jobs += 1

    @Server.Working.task
    async def work(self, t: trsm.Transition) -> None:
        seconds = t.args_of(Server.Working).seconds
        await trio.sleep(seconds)
        print("  done in", seconds, "s")
        self.jobs -= 1
        if self.jobs == 0:
            t.machine.remove(Server.Working)

    @Server.Stopping.task
    async def stop(self, t: trsm.Transition) -> None:
        with trio.move_on_after(10):
            await t.machine.when_not(Server.Working)
        t.machine.close()  # cancels what still runs, the body included


async def listen(server: trsm.Machine) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if server.is_active(Server.Stopping):
                server.close()
            server.add(Server.Stopping)


async def main() -> None:
    for presses in (1, 2):
        print("Ctrl-C,", presses, "times:")
        async with trsm.open_machine(Server, Handlers()) as server:
            server.start_soon(listen, server)
            server.add(Server.Working(2))
            server.add(Server.Working(4))
            for _ in range(presses):
                await trio.sleep(1.5)
                signal.raise_signal(signal.SIGINT)  # as if you had pressed it
            await server.when(Server.Stopping)
            if not server.add(Server.Working(1)):
                print("  too late for more")
            await trio.sleep_forever()


trio.run(main)
