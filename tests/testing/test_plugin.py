"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import pytest

pytest_plugins = "pytester"

TOP = """
import pytest
import trio
import trsm
from trsm import ErrorState, Schema, State
from trsm.testing import OpenMachine, assert_active


class Door(Schema):
    Closed = State(remove="Open")
    Open = State(remove=Closed)


@Door.Open.task
async def stay(t):
    await trio.sleep_forever()


kept = []
"""


def ran(pytester: pytest.Pytester, test: str, **outcomes: int) -> str:
    """Run one test module with the plugin; return all that pytest printed."""
    pytester.makeconftest('pytest_plugins = "trsm.testing.plugin"')
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\ntrio_mode = true\nfilterwarnings = ["error"]\n')
    pytester.makepyfile(TOP + test)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=20")
    result.assert_outcomes(**outcomes)
    return "\n".join(result.outlines)


def test_machines_of_a_test(pytester: pytest.Pytester) -> None:
    """They are opened in the test, live as long as it does, and close after it, the last one first."""
    ran(
        pytester,
        """
ended = []


class Handlers:
    @Schema.on_change
    def note(self, t):
        if t.kind == "close":
            ended.append(t.machine.id)


async def test_two(machine: OpenMachine):
    door = await machine(Door, stay, Handlers(), id="first", tags="a", queue_limit=5)
    other = await machine(Door, stay, Handlers(), id="second", parent=None)
    door.add(Door.Open)
    other.add(Door.Open)
    assert door.tags == ("a",)
    await trio.testing.wait_all_tasks_blocked()
    assert door.in_use.tasks == other.in_use.tasks == 1
    assert_active(door, Door.Open)
    kept.append(door)


def test_afterwards():
    assert ended == ["second", "first"]
    assert kept[0].closed and not kept[0].in_use


async def test_closed_by_the_test(machine):
    door = await machine(Door)
    door.close()
    await door.when_closed()


def test_without_any_machine():
    pass
""",
        passed=4,
    )


def test_with_a_clock_that_jumps(pytester: pytest.Pytester) -> None:
    """An hour of a state's work takes no time, with pytest-trio's fixture."""
    ran(
        pytester,
        """
@Door.Closed.task(then=Door.Open)
async def wait(t):
    await trio.sleep(3600)


async def test_it(machine, autojump_clock):
    door = await machine(Door, wait)
    door.add(Door.Closed)
    await door.when(Door.Open)
    assert trio.current_time() == 3600
""",
        passed=1,
    )


def test_without_trio_mode(pytester: pytest.Pytester) -> None:
    """The marker of pytest-trio is enough."""
    pytester.makeconftest('pytest_plugins = "trsm.testing.plugin"')
    pytester.makepyfile(
        TOP
        + """
@pytest.mark.trio
async def test_it(machine):
    door = await machine(Door)
    assert door.add(Door.Open)
"""
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist").assert_outcomes(passed=1)


def test_a_test_that_trio_does_not_run(pytester: pytest.Pytester) -> None:
    """It is told so, in words that say what to write; the tests that follow run as they should."""
    printed = ran(
        pytester,
        """
def test_it(machine):
    machine(Door)


async def test_next(machine):
    await machine(Door)
""",
        errors=1,
        passed=1,
    )
    assert "test_it(machine): the fixture opens machines in trio, and this test does not run there: write" in printed
    assert "in a test that is not async, use trsm.Engine(…)" in printed


def test_a_machine_that_is_not_awaited(pytester: pytest.Pytester) -> None:
    """It says what to write; and one that is just forgotten is a warning, as ever."""
    ran(
        pytester,
        r"""
async def test_it(machine):
    with pytest.raises(AttributeError, match=r"awaited, .*: write door = await machine\(Door\), and door.add"):
        machine(Door).add(Door.Open)
    written = r"<machine\(…\) without await: write door = await machine\(Door\)>"
    with pytest.raises(TypeError, match=written + " has no states"):
        Door.Open in machine(Door)
    door = machine(Door)
    with pytest.raises(TypeError, match=rf"assert_active\({written}, …\): pass a machine"):
        assert_active(door, Door.Open)
    await door
    with pytest.raises(TypeError, match=r"write door = await machine\(Door\), not with: it lives as long as"):
        with machine(Door):
            pass
    with pytest.raises(TypeError, match=r"write door = await machine\(Door\), not async with: it lives as long as"):
        async with machine(Door):
            pass
    with pytest.warns(RuntimeWarning, match=r"coroutine 'OpenMachine._open' was never awaited"):
        machine(Door)
""",
        passed=1,
    )


def test_bad_input_is_the_callers(pytester: pytest.Pytester) -> None:
    """What `open_machine` refuses is raised where it was asked, and the test goes on."""
    ran(
        pytester,
        """
async def test_it(machine):
    with pytest.raises(TypeError, match="is no schema"):
        await machine(3)
    with pytest.raises(trsm.HandlerError):
        await machine(Door, object())
    door = await machine(Door)
    door.close()
    with pytest.raises(trsm.MachineClosed, match="a child cannot outlive it"):
        await machine(Door, parent=door)
    assert (await machine(Door)).add(Door.Open)
""",
        passed=1,
    )


def test_an_error_that_nothing_handles(pytester: pytest.Pytester) -> None:
    """It cancels the test, and is what the test fails with; nothing is said of leaks."""
    told = ran(
        pytester,
        """
@Door.Open.task
async def fail(t):
    raise OSError("the hinge broke")


async def test_it(machine):
    other = await machine(Door, stay)
    other.add(Door.Open)
    door = await machine(Door, fail)
    door.add(Door.Open)
    await trio.sleep_forever()
""",
        failed=1,
    )
    assert "OSError: the hinge broke" in told
    assert "unhandled in machine" in told
    assert "leaked" not in told


def test_a_test_that_fails_is_told_of_nothing_else(pytester: pytest.Pytester) -> None:
    """What its frame still holds is no leak."""
    told = ran(
        pytester,
        """
async def test_it(machine):
    door = await machine(Door)
    waiter = door.when(Door.Open)
    assert door.is_active(Door.Closed)
""",
        failed=1,
    )
    assert "leaked" not in told


def test_a_waiter_that_somebody_holds(pytester: pytest.Pytester) -> None:
    """The test fails, and is told which machine, how many, and where they were made; one that was dropped is none."""
    told = ran(
        pytester,
        """
async def test_it(machine):
    door = await machine(Door, id="front")
    kept.append(door.when(Door.Open))  # line 22
    kept.append(door.watch())
    door.when(Door.Open)


async def test_fine(machine):
    door = await machine(Door)
    waiter = door.when(Door.Open)
    kept.append(door.when(Door.Closed))
    door.add(Door.Closed)
    door.add(Door.Open)
    await waiter
""",
        failed=1,
        passed=1,
    )
    assert "this test has leaked:" in told
    assert "machine 'front': the test is over, and somebody still holds 2 waiters (made at " in told
    assert "test_a_waiter_that_somebody_holds.py:" in told
    assert "end the task that does, or drop them" in told
    assert "waiters: 2" in told


def test_a_scope_that_is_still_entered(pytester: pytest.Pytester) -> None:
    """It is named, with its state."""
    told = ran(
        pytester,
        """
async def test_it(machine):
    door = await machine(Door, id="front")
    door.add(Door.Open)
    trio.lowlevel.spawn_system_task(use, door)
    await trio.testing.wait_all_tasks_blocked()


async def use(door):
    with door.while_active(Door.Open):
        await trio.sleep_forever()
""",
        failed=1,
    )
    assert "machine 'front': the test is over, and somebody still holds 1 scope; end the task that does" in told
    assert "while_active(Open) 1" in told


def test_a_task_that_does_not_end(pytester: pytest.Pytester) -> None:
    """It is ended by force after a while, so that the run goes on; the test fails, and the state of it is named."""
    told = ran(
        pytester,
        """
@Door.Closed.task
async def stubborn(t):
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)


async def test_it(machine, autojump_clock):
    door = await machine(Door, stubborn, id="front")
    door.add(Door.Closed)
    await trio.testing.wait_all_tasks_blocked()


async def test_next(machine):
    assert (await machine(Door)).add(Door.Open)
""",
        failed=1,
        passed=1,
    )
    assert "machine 'front': 1 of its tasks had not ended 5 s after it was closed, and were ended by force" in told
    assert "does one shield itself from cancellation?" in told
    assert "tasks: Closed 1 running" in told


def test_a_machine_that_was_never_closed(pytester: pytest.Pytester) -> None:
    """Also one that the fixture knows nothing of."""
    told = ran(
        pytester,
        """
def test_it():
    async def main():
        opening = trsm.open_machine(Door, id="lost")
        await opening.__aenter__()  # and nobody leaves it

    with pytest.raises((RuntimeError, trio.TrioInternalError)):
        trio.run(main)
""",
        failed=1,
    )
    assert "machine 'lost' was never closed" in told


def test_tools_that_a_conftest_imports_before_the_plugin(pytester: pytest.Pytester) -> None:
    """Pytest still comes first to the plugin, and does not warn, which would be an error."""
    pytester.makeconftest('from trsm.testing import OpenMachine\npytest_plugins = "trsm.testing.plugin"')
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(passed=1)


def test_without_pytest_trio(pytester: pytest.Pytester) -> None:
    """The plugin refuses to work, and says what is missing."""
    pytester.makeconftest('pytest_plugins = "trsm.testing.plugin"')
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:trio", "-p", "no:cacheprovider", "-p", "no:xdist")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pytest-trio, which runs async tests, is not there: pip install trsm?testing?*"])


def test_the_plugin_does_not_register_itself(pytester: pytest.Pytester) -> None:
    """Who does not name it does not have it."""
    pytester.makepyfile(TOP + "def test_it(machine): pass\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(errors=1)
    assert "fixture 'machine' not found" in "\n".join(result.outlines)
