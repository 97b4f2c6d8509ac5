"""The examples as scenarios: async functions without arguments, which sweeps and recordings run in this process."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import subprocess
import sys
import types
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

import trsm

EXAMPLES = Path(__file__).parents[2] / "examples"
Scenario = Callable[[], Awaitable[object]]


@functools.cache
def example(name: str) -> types.ModuleType:
    """Import an example, which is a program, as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # attrs looks there
    spec.loader.exec_module(module)
    return module


def scenarios(directory: Path) -> dict[str, Scenario]:
    """Return for each example what runs the whole of it, once and anew at each call; files go into a directory."""
    numbers = itertools.count()

    def fresh() -> Path:
        path = directory / str(next(numbers))
        path.mkdir()
        return path

    async def turnstile() -> None:
        await example("turnstile").main(["push", "explain", "coin", "coin", "push", "push"])

    async def pipes() -> None:
        await example("pipes").main(["arm", "open", "close", "service", "open", "back", "cut", "disarm"])

    async def fan_out() -> None:
        await example("fan_out").main(["12", "97", "x"], 2)

    async def file_flow() -> None:
        where = fresh()
        for name in ("one", "two"):
            (where / name).write_text(name)
        await example("file_flow").main([where / "one", where / "two", where / "missing"], where / "packed", 2)

    async def dependency_graph() -> None:
        module = example("dependency_graph")

        async def run_process(command: list[str]) -> None:
            await trio.sleep(1)
            if command == ["false"]:
                raise subprocess.CalledProcessError(1, command)

        # A real process takes real time to end, in which the time of a sweep goes by: it would be killed for that.
        module.trio = _Instead(trio, run_process=run_process)
        await module.main(module.parsed("one: = true\ntwo: one = false\nthree: two = true\nfour: one = true\n"))

    async def path_watcher() -> None:
        module, where = example("path_watcher"), fresh()
        with trio.move_on_after(module.QUIET * 3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(module.main, [where], None)
                await trio.sleep(module.POLL * 1.5)
                (where / "new").write_text("new")

    async def echo_server() -> None:
        module = example("echo_server")
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def no_signals() -> None:
            await trio.sleep_forever()
            yield

        async with trsm.open_machine(
            module.Server, module.House(listeners, no_signals(), 60, 5), id="server"
        ) as server:
            server.add(module.Server.Serving)
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"hello")
                await stream.receive_some()
                server.add(module.Server.Draining)
                while await stream.receive_some():
                    pass
            await server.when(module.Server.Stopped)

    async def expense_approval() -> None:
        module = example("expense_approval")
        typed = iter([b"approve Ann\n", b"reject Bob too much\n", b""])
        module.os = _Instead(os, read=lambda descriptor, size: next(typed))  # in place of what would be typed
        path = fresh() / "claim"
        await module.main(path, module.Claim("Ann", 5.0, "tea"), 3600.0)

    async def relations_quiz() -> None:
        example("relations_quiz").main(False)
        await trio.lowlevel.checkpoint()

    async def regex_nfa() -> None:
        assert example("regex_nfa").Automaton("(ab?)+.").matches("abac")
        await trio.lowlevel.checkpoint()

    return {scenario.__name__: scenario for scenario in (
        turnstile, pipes, fan_out, file_flow, dependency_graph, path_watcher, echo_server, expense_approval,
        relations_quiz, regex_nfa,
    )}  # fmt: skip


class _Instead:
    """A module, but for some of what it has."""

    def __init__(self, module: types.ModuleType, **instead: object) -> None:
        self._module = module
        vars(self).update(instead)

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)
