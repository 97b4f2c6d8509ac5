"""A pytest plugin: machines for tests, and a look at what each test leaves behind. It works with pytest-trio.

It is used by naming it, in the ``conftest.py`` at the top of your tests, and never registers itself::

    pytest_plugins = "trsm.testing.plugin"

It gives the fixture `machine`, and fails a test that passed and has leaked: a machine that was never closed, a task
that does not end, a waiter or a scope that somebody still holds when the test is over.
"""

from __future__ import annotations

import sys
import textwrap
import weakref
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest
import trio

from trsm import Machine, Observed, Schema, Tracer, open_machine, tracing
from trsm.testing._laws import left_over
from trsm.testing._seeding import abort

__all__ = ["OpenMachine", "machine"]

GRACE = 5.0
"""Seconds, on the test's clock, that the tasks of a machine may take to end once the test is over."""


class _Watch(Tracer):
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
_watch_of = pytest.StashKey[_Watch]()


class OpenMachine:
    """What the fixture `machine` gives: call it, and await it, to open a machine that lives as long as the test."""

    def __init__(self, nursery: trio.Nursery, watch: _Watch) -> None:
        self._nursery = nursery
        self._watch = watch
        self._machines: list[Machine] = []

    async def __call__(
        self,
        schema: type[Schema],
        *handlers: object,
        id: str | None = None,
        parent: Machine | None = None,
        tracers: Iterable[Tracer] = (),
        tags: str | Iterable[str] = (),
        queue_limit: int = 1000,
        drain_limit: int = 10_000,
        handler_budget: float = 0.1,
        cleanup_timeout: float = 30.0,
        snapshot: Mapping[str, object] | None = None,
    ) -> Machine:
        """Open a machine; it closes when the test is over, the last one opened first.

        An error that nothing handles leaves the machine's block, as ever: it cancels the test, and is what the test
        fails with. A test that expects one opens its machine with `open_machine`, in ``pytest.raises``.

        Checkpoints: one. Cancellation: then no machine is opened.

        Args: as for `open_machine`.

        Raises: as `open_machine`.
        """
        opening = open_machine(
            schema,
            *handlers,
            id=id,
            parent=parent,
            tracers=tracers,
            tags=tags,
            queue_limit=queue_limit,
            drain_limit=drain_limit,
            handler_budget=handler_budget,
            cleanup_timeout=cleanup_timeout,
            snapshot=snapshot,
        )
        refused: list[Exception] = []

        async def hold(task_status: trio.TaskStatus[Machine | None]) -> None:
            try:
                opened = await opening.__aenter__()
            except Exception as error:
                refused.append(error)  # it is the caller's, and not the nursery's
                task_status.started(None)
                return
            task_status.started(opened)
            try:
                await trio.sleep_forever()
            except BaseException as error:
                if not await opening.__aexit__(type(error), error, error.__traceback__):
                    raise

        opened = cast("Machine | None", await self._nursery.start(hold))
        if opened is None:
            raise refused[0]
        self._machines.append(opened)
        return opened

    async def _close(self) -> None:
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
                abort(task, _Ended(f"task {task.name!r} did not end by itself"))
            await trio.lowlevel.checkpoint()


class _Ended(BaseException):
    """Ends a task that does not end otherwise; no `Exception`, so that nothing takes it for an error."""


def _tasks(nursery: trio.Nursery) -> Iterable[trio.lowlevel.Task]:
    """Return all tasks that run in a nursery, and in theirs."""
    found = list(nursery.child_tasks)
    for task in found:
        for inner in task.child_nurseries:
            found.extend(inner.child_tasks)
    return found


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to work without what runs async tests."""
    if not config.pluginmanager.hasplugin("trio"):
        raise pytest.UsageError(
            "trsm.testing.plugin: pytest-trio, which runs async tests, is not there: pip install trsm[testing]"
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that passed and left something behind."""
    watch = item.stash[_watch_of] = _Watch()
    with tracing(watch):
        outcome = yield
    leaks = [*watch.leaks, *left_over(watch.machines)]
    if leaks:
        pytest.fail("\n".join(["this test has leaked:", *leaks]), pytrace=False)
    return outcome


@pytest.fixture
async def machine(request: pytest.FixtureRequest) -> AsyncGenerator[OpenMachine]:
    """Open machines that live as long as the test: ``door = await machine(Door, Handlers())``."""
    watch = request.node.stash[_watch_of]
    try:
        async with trio.open_nursery() as nursery:
            opening = OpenMachine(nursery, watch)
            yield opening
            await opening._close()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        _, rest = group.split(_Ended)  # the hook above fails the test, in words
        if rest is not None:
            raise rest from None
