"""Machines that live as long as a test, and what a test leaves behind: the pytest plugin, without pytest.

They stand apart from the plugin so that ``from trsm.testing import OpenMachine`` does not import it: pytest wants to do
so itself.
"""

from __future__ import annotations

import sys
import textwrap
import weakref
from collections.abc import Awaitable, Coroutine, Generator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NoReturn, cast

import trio

from trsm import Machine, Observed, Schema, Tracer, open_machine
from trsm.testing._seeding import abort

GRACE = 5.0
"""Seconds, on the test's clock, that the tasks of a machine may take to end once the test is over."""


class Watch(Tracer):
    """Knows every machine that a test opens, and where its waiters were made."""

    def __init__(self) -> None:
        self.machines: list[Observed] = []
        self.made: weakref.WeakKeyDictionary[object, tuple[int, str]] = weakref.WeakKeyDictionary()
        """Waiter -> the `id` of its machine, and the line that made it."""
        self.leaks: list[str] = []
        """What the fixture has found, in words."""

    def machine_opened(self, machine: Observed) -> None:
        """Keep it."""
        self.machines.append(machine)

    def waiter_subscribed(self, machine: Observed, waiter: object) -> None:
        """Note where it was made."""
        self.made[waiter] = id(machine), _caller()

    def waiter_ended(self, machine: Observed, waiter: object) -> None:
        """Forget it."""
        self.made.pop(waiter, None)

    def look(self, machine: Machine) -> None:
        """Note what others hold of a machine when a test is over: it is about to close, and would hide it."""
        held = machine.in_use
        if held.waiters or held.scopes:
            what = " and ".join(
                f"{count} {word}{'' if count == 1 else 's'}"
                for count, word in ((held.waiters, "waiter"), (held.scopes, "scope"))
                if count
            )
            places = sorted(place for number, place in self.made.values() if number == id(machine))
            where = f" (made at {', '.join(places)})" if places and held.waiters else ""
            self.leaks.append(
                f"machine {machine.id!r}: the test is over, and somebody still holds {what}{where}; end the task that "
                f"does, or drop them\n{textwrap.indent(machine.describe(), '    ')}"
            )


def _caller() -> str:
    """Return the innermost line on the stack that is not trsm's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in _NO_CALLERS:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


_NO_CALLERS = {"trsm", "contextlib"}


class _Opening:
    """A machine that opens when this is awaited."""

    def __init__(self, opening: Coroutine[object, object, Machine]) -> None:
        self._opening = opening

    def __await__(self) -> Generator[object, object, Machine]:
        return cast("Generator[object, object, Machine]", self._opening.__await__())

    def __repr__(self) -> str:
        return "<machine(…) without await: write door = await machine(Door)>"

    def __contains__(self, state: object) -> NoReturn:
        self._opening.close()
        raise TypeError(f"{self!r} has no states")

    def __enter__(self) -> NoReturn:
        self._opening.close()
        raise TypeError("write door = await machine(Door), not with: it lives as long as the test")

    def __exit__(self, *of: object) -> None:
        raise AssertionError("__enter__ raises")  # pragma: no cover - Python looks for it before it calls __enter__

    def __getattr__(self, name: str) -> NoReturn:
        self._opening.close()
        raise AttributeError(
            f"machine(…) is awaited, and gives the machine, which may have a {name}: write door = await machine(Door), "
            f"and door.{name}",
            name=name,
            obj=self,
        )

    async def __aenter__(self) -> NoReturn:
        self._opening.close()
        raise TypeError("write door = await machine(Door), not async with: it lives as long as the test")

    async def __aexit__(self, *of: object) -> None:
        raise AssertionError("__aenter__ raises")  # pragma: no cover - Python looks for it before it calls __aenter__


class OpenMachine:
    """What the fixture `machine` gives: call it, and await it, to open a machine that lives as long as the test."""

    def __init__(self, nursery: trio.Nursery, watch: Watch) -> None:
        self._nursery = nursery
        self._watch = watch
        self._machines: list[Machine] = []

    def __call__(
        self,
        schema: type[Schema],
        *handlers: object,
        id: str | None = None,
        parent: Machine | None = None,
        tracers: Iterable[Tracer] = (),
        tags: str | Iterable[str] = (),
        log_args: Iterable[str] = (),
        queue_limit: int = 1000,
        drain_limit: int = 10_000,
        handler_budget: float = 0.1,
        cleanup_timeout: float = 30.0,
        snapshot: Mapping[str, object] | None = None,
    ) -> Awaitable[Machine]:
        """Open a machine, when it is awaited; it closes when the test is over, the last one opened first.

        An error that nothing handles leaves the machine's block, as ever: it cancels the test, and is what the test
        fails with. A test that expects one opens its machine with `open_machine`, in ``pytest.raises``.

        Checkpoints: one. Cancellation: then no machine is opened.

        Args: as for `open_machine`.

        Raises: as `open_machine`, at the call or at the await.
        """
        block = open_machine(
            schema,
            *handlers,
            id=id,
            parent=parent,
            tracers=tracers,
            tags=tags,
            log_args=log_args,
            queue_limit=queue_limit,
            drain_limit=drain_limit,
            handler_budget=handler_budget,
            cleanup_timeout=cleanup_timeout,
            snapshot=snapshot,
        )
        return _Opening(self._open(block))

    async def _open(self, block: AbstractAsyncContextManager[Machine]) -> Machine:
        refused: list[Exception] = []

        async def hold(task_status: trio.TaskStatus[Machine | None]) -> None:
            try:
                opened = await block.__aenter__()
            except Exception as error:
                refused.append(error)  # it is the caller's, and not the nursery's
                task_status.started(None)
                return
            task_status.started(opened)
            try:
                await trio.sleep_forever()
            except BaseException as error:
                if not await block.__aexit__(type(error), error, error.__traceback__):
                    raise

        opened = cast("Machine | None", await self._nursery.start(hold))
        if opened is None:
            raise refused[0]
        self._machines.append(opened)
        return opened

    async def close_all(self) -> None:
        """Close all machines and see that they end."""
        for machine in self._machines:
            if not machine.closed:
                self._watch.look(machine)
        for machine in reversed(self._machines):
            machine.close()
            with trio.move_on_after(GRACE):
                await machine.when_closed()
        late = [machine for machine in self._machines if not machine.when_closed().done]
        for machine in late:
            self._watch.leaks.append(
                f"machine {machine.id!r}: {machine.in_use.tasks} of its tasks had not ended {GRACE:g} s after it was "
                f"closed, and were ended by force: does one shield itself from cancellation?\n"
                f"{textwrap.indent(machine.describe(), '    ')}"
            )
        while any(not machine.when_closed().done for machine in late):
            for task in _tasks(self._nursery):
                abort(task, Ended(f"task {task.name!r} did not end by itself"))
            await trio.lowlevel.checkpoint()


class Ended(BaseException):
    """Ends a task that does not end otherwise; no `Exception`, so that nothing takes it for an error."""


def _tasks(nursery: trio.Nursery) -> Iterable[trio.lowlevel.Task]:
    """Return all tasks that run in a nursery, and in theirs."""
    found = list(nursery.child_tasks)
    for task in found:
        for inner in task.child_nurseries:
            found.extend(inner.child_tasks)
    return found
