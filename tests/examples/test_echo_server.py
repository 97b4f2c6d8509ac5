"""``examples/echo_server.py``, run as a process and talked to over loopback sockets."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from examples.running import Program, program, run

MIB = 1 << 20
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what waits in a socket's buffers")
NO_ROOM = b"no room, come back later\n"


class Server:
    """A running server, and those who called on it."""

    def __init__(self, program: Program, port: int) -> None:
        self.out, self.interrupt, self.ended = program.out, program.interrupt, program.ended
        self.port = port
        self.clients: list[trio.SocketStream] = []

    async def connect(self, *, is_narrow: bool = False) -> trio.SocketStream:
        """Connect a client, which hangs up at the end at the latest. To a narrow one little can be sent unread."""
        client = trio.socket.socket()
        if is_narrow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            await client.connect(("127.0.0.1", self.port))
        except BaseException:
            client.close()
            raise
        self.clients.append(trio.SocketStream(client))
        return self.clients[-1]


@asynccontextmanager
async def served(directory: Path, *options: object) -> AsyncIterator[Server]:
    """Run the server for the length of a block."""
    async with program("echo_server.py", *options, cwd=directory) as running:
        line = await running.out.until("listening on 127.0.0.1 port")
        server = Server(running, int(line.split()[-1]))
        try:
            yield server
        finally:
            for client in server.clients:
                await trio.aclose_forcefully(client)


async def echoed(client: trio.SocketStream, data: bytes) -> bytes:
    """Send data, and return as much as was sent."""
    got = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, data)
        while len(got) < len(data):
            more = await client.receive_some()
            assert more, "the server hung up"
            got += more
    return got


async def rest(client: trio.SocketStream) -> bytes:
    """Return everything up to the end, and hang up."""
    async with client:
        return b"".join([data async for data in client])


async def reset(client: trio.SocketStream) -> None:
    """Vanish: the other side gets a reset instead of an end."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.aclose()


async def test_a_client_gets_back_what_it_sends(tmp_path: Path) -> None:
    """Short or long, in order, and after the client's end the server hangs up too."""
    async with served(tmp_path) as server:
        client = await server.connect()
        assert await echoed(client, b"hello\n") == b"hello\n"
        large = bytes(range(256)) * 4096 * 3
        assert await echoed(client, large) == large
        await client.send_eof()
        assert await rest(client) == b""
        assert (await server.out.until("Connected")).startswith("client 1 (Connected:1 Idle:1)")
        await server.out.until("client 1 (Disconnected:1")


async def test_clients_do_not_disturb_one_another(tmp_path: Path) -> None:
    """Each of several gets its own back, also while others are silent."""
    async with served(tmp_path) as server:
        clients = [await server.connect() for _ in range(8)]
        for turn in range(3):
            for number, client in enumerate(clients):
                said = f"{turn} {number}\n".encode()
                assert await echoed(client, said) == said
        for client in clients:
            await client.send_eof()
            assert await rest(client) == b""


async def test_one_client_more_than_the_limit(tmp_path: Path) -> None:
    """It is told that there is no room and let go; when somebody has left, there is room again."""
    async with served(tmp_path, "--limit", 2) as server:
        first, second = await server.connect(), await server.connect()
        for client in (first, second):
            await echoed(client, b"x")
        assert await rest(await server.connect()) == NO_ROOM
        await server.out.until("client 3 is turned away")
        assert await echoed(first, b"still here") == b"still here"
        await first.aclose()
        await server.out.until("client 1 (Disconnected:1")
        async with await server.connect() as third:
            assert await echoed(third, b"there is room") == b"there is room"
        await second.aclose()


async def test_a_silent_client_is_let_go(tmp_path: Path) -> None:
    """Its patience over, the server ends the connection; what it echoed before has arrived."""
    async with served(tmp_path, "--idle", 0.2) as server:
        client = await server.connect()
        await client.send_all(b"only this")
        assert await rest(client) == b"only this"
        await server.out.until("client 1 was silent for too long")
        await server.out.until("client 1 (Disconnected:1")


async def test_a_client_that_does_not_take_its_echo_is_lost(tmp_path: Path) -> None:
    """It sends and never reads; the server gives it up, and serves others."""
    async with served(tmp_path, "--idle", 0.2) as server:
        client = await server.connect()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send_all(bytes(MIB))
        line = await server.out.until("client 1 (Disconnected:1")
        assert "Lost:1" in line
        await client.aclose()
        async with await server.connect() as other:
            assert await echoed(other, b"x") == b"x"


async def test_a_client_that_vanishes_by_a_reset_is_lost(tmp_path: Path) -> None:
    """The error ends in a state of that connection; the others and the server go on."""
    async with served(tmp_path) as server:
        stays, vanishes = await server.connect(), await server.connect()
        await echoed(stays, b"x")
        await echoed(vanishes, b"x")
        await reset(vanishes)
        assert "Lost:1" in await server.out.until("(Disconnected:1")
        assert await echoed(stays, b"still here") == b"still here"
        server.interrupt()
        assert await rest(stays) == b""
        ended = await server.ended()
    assert (ended.code, ended.err) == (0, "")


async def test_a_client_that_hangs_up_without_a_word(tmp_path: Path) -> None:
    """A plain close is an end like any other: nothing is lost."""
    async with served(tmp_path) as server:
        client = await server.connect()
        await client.aclose()
        assert "Lost" not in await server.out.until("client 1 (Disconnected:1")
        server.interrupt()
        ended = await server.ended()
    assert (ended.code, ended.err) == (0, "")


async def test_clients_that_are_reset_before_they_are_let_in(tmp_path: Path) -> None:
    """However early they vanish, the server goes on."""
    async with served(tmp_path) as server:
        for _ in range(20):
            await reset(await server.connect())
        async with await server.connect() as client:
            assert await echoed(client, b"x") == b"x"
        server.interrupt()
        ended = await server.ended()
    assert (ended.code, ended.err) == (0, "")


async def test_ctrl_c_with_nobody_there(tmp_path: Path) -> None:
    """As soon as the port is printed, a Ctrl-C ends the server in good order."""
    async with served(tmp_path) as server:
        server.interrupt()
        ended = await server.ended()
    assert ended.out.splitlines()[1:] == ["draining; Ctrl-C again stops at once", "stopped"]
    assert (ended.code, ended.err) == (0, "")


async def test_ctrl_c_sees_silent_clients_off_and_lets_nobody_in(tmp_path: Path) -> None:
    """The first Ctrl-C drains: clients get an end, not a reset, and new ones are refused by the system."""
    async with served(tmp_path) as server:
        clients = [await server.connect() for _ in range(3)]
        for client in clients:
            await echoed(client, b"x")
        server.interrupt()
        await server.out.until("draining")
        assert await clients[0].receive_some() == b""  # the server still waits for this one to hang up
        with pytest.raises(ConnectionRefusedError):
            while True:  # until the listening task has closed its socket, in its next step
                await trio.aclose_forcefully(await server.connect())
        for client in clients:
            assert await rest(client) == b""
        ended = await server.ended()
    for number in (1, 2, 3):
        assert f"client {number} (Disconnected:1)\n" in ended.out  # and not lost
    assert ended.out.endswith("\nstopped\n")
    assert (ended.code, ended.err) == (0, "")


@needs_linux
async def test_ctrl_c_in_the_middle_of_an_echo_finishes_it(tmp_path: Path) -> None:
    """What the server has read is echoed to its end, also when the client takes it late, and then comes the end."""
    async with served(tmp_path) as server:
        client = await server.connect(is_narrow=True)
        await echoed(client, b"x")
        taken = await stuffed(client, server.port)
        server.interrupt()
        await server.out.until("draining")
        got = await received(client)
        ended = await server.ended()
    assert len(got) >= taken
    assert got == pattern(len(got))
    assert ended.out.endswith("\nstopped\n")
    assert (ended.code, ended.err) == (0, "")


@needs_linux
async def test_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    """A client that keeps the server from draining does not keep it from stopping."""
    async with served(tmp_path) as server:
        client = await server.connect(is_narrow=True)
        await echoed(client, b"x")
        await stuffed(client, server.port)
        server.interrupt()
        await server.out.until("draining")
        server.interrupt()
        ended = await server.ended()
        await client.aclose()
    assert ended.out.endswith("\nstopped\n")
    assert "Traceback" not in ended.err
    assert ended.code == 0


def pattern(length: int) -> bytes:
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def queues(local: int, remote: int) -> tuple[int, int]:
    """Return how many bytes a TCP socket holds that the other side has not acknowledged, and that nobody has read."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, _, both, *_ = line.split()
        if (int(here.partition(":")[2], 16), int(there.partition(":")[2], 16)) == (local, remote):
            unacknowledged, _, unread = both.partition(":")
            return int(unacknowledged, 16), int(unread, 16)
    raise AssertionError(f"no socket from port {local} to {remote}")


async def stuffed(client: trio.SocketStream, port: int) -> int:
    """Send without reading until the server is stuck in the middle of an echo.

    Returns:
      How much the server has read, at least, of what was sent here.
    """
    mine = client.socket.getsockname()[1]
    data = memoryview(pattern(64 * MIB))
    sent = 0
    while True:
        with trio.move_on_after(0.02):
            sent += await client.socket.send(data[sent : sent + 65536])
        # What is on its way is counted on both sides, which makes both of these figures too low, never too high.
        waiting_here, arrived_here = queues(mine, port)
        waiting_there, arrived_there = queues(port, mine)
        taken = sent - waiting_here - arrived_there
        if taken - waiting_there - arrived_here > 0:
            return taken


async def received(client: trio.SocketStream) -> bytes:
    """Return everything up to the end or the reset that follows what was never read, and hang up."""
    got = b""
    async with client:
        try:
            async for data in client:
                got += data
        except trio.BrokenResourceError:
            pass
    return got


async def test_a_port_that_is_given_and_then_taken(tmp_path: Path) -> None:
    """A second server on the same port is refused in one line that names it."""
    async with served(tmp_path) as server:
        ended = await trio.to_thread.run_sync(lambda: run("echo_server.py", "--port", server.port, cwd=tmp_path))
    ended.assert_refused("127.0.0.1", str(server.port), "in use")
    assert ended.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "65536"], ["--port", "65535"]),
        (["--port", "http"], ["--port", "http"]),
        (["--idle", "0"], ["--idle", "more than zero"]),
        (["--idle", "nan"], ["--idle", "more than zero"]),
        (["--limit", "0"], ["--limit", "more than zero"]),
        (["--host", "no such host"], ["no such host"]),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """They are refused in one line."""
    run("echo_server.py", *arguments, cwd=tmp_path).assert_refused(*words)
