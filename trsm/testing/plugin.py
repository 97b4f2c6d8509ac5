"""A pytest plugin: machines for tests, and a look at what each test leaves behind. It works with pytest-trio.

It is used by naming it, in the ``conftest.py`` at the top of your tests, and never registers itself::

    pytest_plugins = "trsm.testing.plugin"

It gives the fixture `machine`, and fails a test that passed and has leaked: a machine that was never closed, a task
that does not end, a waiter or a scope that somebody still holds when the test is over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import pytest
import trio

from trsm import tracing
from trsm.testing._laws import left_over
from trsm.testing._opened import Ended, OpenMachine, Watch

__all__ = ["machine"]

_watch_of = pytest.StashKey[Watch]()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to work without what runs async tests."""
    if not config.pluginmanager.hasplugin("trio"):
        raise pytest.UsageError(
            "trsm.testing.plugin: pytest-trio, which runs async tests, is not there: pip install trsm[testing]"
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that passed and left something behind."""
    watch = item.stash[_watch_of] = Watch()
    with tracing(watch):
        outcome = yield
    leaks = [*watch.leaks, *left_over(watch.machines)]
    if leaks:
        pytest.fail("\n".join(["this test has leaked:", *leaks]), pytrace=False)
    return outcome


@pytest.fixture
def _in_trio(request: pytest.FixtureRequest) -> None:
    """Refuse a test that pytest-trio does not run, before it fails in words of its own, and the tests that follow."""
    if request.node.get_closest_marker("trio") is None:
        name = request.node.name
        pytest.fail(
            f"{name}(machine): the fixture opens machines in trio, and this test does not run there: write async def "
            f"{name}(machine), with trio_mode = true in pytest's configuration or @pytest.mark.trio above it; in a "
            "test that is not async, use trsm.Engine(…)",
            pytrace=False,
        )


@pytest.fixture
async def machine(request: pytest.FixtureRequest, _in_trio: None) -> AsyncGenerator[OpenMachine]:
    """Open machines that live as long as the test: ``door = await machine(Door, Handlers())``."""
    watch = request.node.stash[_watch_of]
    try:
        async with trio.open_nursery() as nursery:
            opening = OpenMachine(nursery, watch)
            yield opening
            await opening.close_all()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        _, rest = group.split(Ended)  # the hook above fails the test, in words
        if rest is not None:
            raise rest from None
