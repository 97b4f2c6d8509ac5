"""A TCP server that sends back what it gets. Each connection is a machine, a child of the server's machine.

    python examples/echo_server.py [--host HOST] [--port PORT] [--idle SECONDS] [--limit N]

One client more than N is turned away; one that is silent for SECONDS, or does not take its echo, is let go. The first
Ctrl-C drains: nobody is let in, what is being echoed is echoed to its end, all are seen off. The second stops at once.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial

import trio

import trsm
from trsm import ErrorState, Schema, State


class Server(Schema):
    Serving = State()
    Draining = State(latch=True)
    Stopped = State(remove=Serving)


class Connection(Schema):
    """Each phase removes those before it, so that there is no way back."""

    Connecting = State()
    Connected = State(remove=Connecting)
    Idle = State(require=Connected, remove="Echoing")
    Echoing = State(require=Connected, remove=(Idle, "Disconnecting"), args=bytes)
    Leaving = State()  # the wish to go, for whatever reason; it is granted when nothing is echoed
    Disconnecting = State(auto=True, require=Leaving, remove=(Connecting, Connected))
    Disconnected = State(remove=(Connecting, Connected, Leaving))
    Lost = ErrorState(catches=(trio.BrokenResourceError, trio.TooSlowError), add=Disconnected)


class Client:
    """What hangs on the states of one connection."""

    def __init__(self, stream: trio.SocketStream, server: trsm.Machine, idle: float, limit: int) -> None:
        self.stream, self.server, self.idle, self.limit = stream, server, idle, limit

    @Connection.Connecting.task
    async def let_in(self, t: trsm.Transition) -> None:
        if not t.machine.mutate(add=(Connection.Connected, Connection.Idle)):
            print(t.machine.id, "is turned away", flush=True)
            await self.stream.send_all(b"no room, come back later\n")
            t.machine.add(Connection.Leaving)

    @Connection.Connected.can_enter  # the negotiation may refuse
    def is_room(self, t: trsm.Transition) -> bool:
        guests = sum(one.is_active(Connection.Connected) for one in self.server.children)
        return guests < self.limit and self.server.is_inactive(Server.Draining)

    @Connection.Idle.task  # two tasks of one state: when one of them ends it, the other is cancelled with it
    async def listen(self, t: trsm.Transition) -> None:
        data = await self.stream.receive_some()
        t.machine.add(Connection.Echoing(data) if data else Connection.Leaving)

    @Connection.Idle.task(then=Connection.Leaving)
    async def lose_patience(self, t: trsm.Transition) -> None:
        await trio.sleep(self.idle)
        print(t.machine.id, "was silent for too long", flush=True)

    @Connection.Echoing.task(then=Connection.Idle)
    async def echo(self, t: trsm.Transition) -> None:
        with trio.fail_after(self.idle):
            await self.stream.send_all(t.args_of(Connection.Echoing))

    @Connection.Disconnecting.task(then=Connection.Disconnected)
    async def see_off(self, t: trsm.Transition) -> None:
        await self.stream.send_eof()
        with trio.move_on_after(5):  # closing before the other side does could cost it the last of what we sent
            while await self.stream.receive_some():
                pass

    @Connection.Connected.on_enter
    @Connection.Disconnected.on_enter
    def tell(self, t: trsm.Transition) -> None:
        print(t.machine.id, t.machine, flush=True)  # what is active, and how often it came and went


class House:
    """What hangs on the states of the server."""

    def __init__(self, listeners: list[trio.SocketListener], signals: AsyncIterator[int], idle: float, limit: int):
        self.listeners, self.signals, self.idle, self.limit = listeners, signals, idle, limit
        self.numbers = itertools.count(1)

    @Server.Serving.task(then=Server.Stopped)
    async def serve(self, t: trsm.Transition) -> None:
        async with trio.open_nursery() as clients:  # left when the last client has gone
            with t.machine.while_inactive(Server.Draining):
                await trio.serve_listeners(partial(self.receive, t.machine), self.listeners, handler_nursery=clients)

    async def receive(self, server: trsm.Machine, stream: trio.SocketStream) -> None:
        client = Client(stream, server, self.idle, self.limit)
        name = f"client {next(self.numbers)}"
        async with trsm.open_machine(Connection, client, id=name, parent=server) as connection:
            connection.add(Connection.Connecting)
            await connection.when(Connection.Disconnected)

    @Server.Serving.task
    async def heed_ctrl_c(self, t: trsm.Transition) -> None:
        await anext(self.signals)
        t.machine.add(Server.Draining)
        await anext(self.signals)
        t.machine.close()

    @Server.Draining.on_enter
    def see_all_off(self, t: trsm.Transition) -> None:
        print("draining; Ctrl-C again stops at once", flush=True)
        for connection in t.machine.children:
            connection.add(Connection.Leaving)


async def main(host: str, port: int, idle: float, limit: int) -> None:
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        sys.exit(f"cannot listen on {host}, port {port}: {error}")
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trsm.open_machine(Server, House(listeners, signals, idle, limit), id="server") as server:
            server.add(Server.Serving)
            for listener in listeners:
                print("listening on {} port {}".format(*listener.socket.getsockname()), flush=True)
            await server.when(Server.Stopped)
    print("stopped", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send back what comes in.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="where to listen (default: 0, any free port)")
    parser.add_argument("--idle", type=float, default=60, help="seconds of patience with a client (default: 60)")
    parser.add_argument("--limit", type=int, default=100, help="how many clients at once (default: 100)")
    given = parser.parse_args()
    if not (0 <= given.port <= 65535 and given.idle > 0 and given.limit > 0):
        parser.error("--port goes from 0 to 65535, --idle and --limit are more than zero")
    try:
        trio.run(main, given.host, given.port, given.idle, given.limit)
    except* BrokenPipeError:
        os._exit(1)  # nobody reads any more, though Python would write the rest
