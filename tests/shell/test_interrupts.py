"""Ctrl-C never lands inside a transition (DESIGN section 7, promise P14)."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trsm
from proof import scaled
from trsm import Schema, State, Transition, _protection, open_machine

SIGNALS = int(os.environ.get("TRSM_SIGNALS", scaled(200)))
"""How many times the busy process gets SIGINT."""

BUSY = Path(__file__).with_name("busy.py")

PROTECTED = (
    "trsm._core._runner",
    "trsm._core._engine",
    "trsm._performer",
    "trsm._machine",
    "trsm._tasks",
    "trsm._waiters",
    "trsm._scopes",
    "trsm._opening",
    "trsm._pipes",
    "trsm._retry",
    "trsm._timers",
)
"""The modules whose functions change the tables of a machine."""


# ---- From outside ---------------------------------------------------------------------------------------------------


@pytest.mark.promise(14)
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT can be sent to a single process there")
def test_a_busy_program_is_consistent_after_each_ctrl_c_from_another_process(figure: Callable[..., None]) -> None:
    """Relations hold, a tick is odd exactly when its state is active, no handler was torn, and the machine closed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, str(BUSY), str(SIGNALS)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            for _ in range(SIGNALS):
                assert json.loads(process.stdout.readline()) == "busy"
                os.kill(process.pid, signal.SIGINT)
                told = json.loads(process.stdout.readline())
                transitions = told.pop("transitions")
                assert told == {
                    "how": "bare",
                    "at the interrupt": [[]],
                    "closed": True,
                    "active": 0,
                    "after": [],
                    "at close": True,
                }
                assert transitions >= 1
            assert process.wait() == 0
            figure(14, signals=SIGNALS)
        finally:
            process.kill()  # nothing to kill unless an assertion failed


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Python's own handler for SIGINT, which trio replaces: a shell may have told its children to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# ---- From inside ----------------------------------------------------------------------------------------------------


class Job(Schema):
    Work = State()
    Other = State()


def status() -> bool:
    """Whether Ctrl-C would wait here."""
    return trio.lowlevel.currently_ki_protected()


async def test_handlers_and_predicates_run_protected_and_user_code_that_is_async_does_not() -> None:
    """Sync handlers of every kind and predicates are protected; tasks, bodies and cleanups can be interrupted."""
    seen: dict[str, bool] = {}

    def negotiation(name: str):
        def ask(t: Transition) -> bool:
            seen[name] = status()
            return True

        return ask

    def final(name: str):
        def act(t: Transition) -> None:
            seen[name] = status()

        return act

    @Job.Work.task
    async def task(t: Transition) -> None:
        seen["task"] = status()
        t.machine.add(Job.Other)
        seen["task, after a mutation"] = status()
        await trio.lowlevel.checkpoint()
        seen["task, after a checkpoint"] = status()

    async def cleanup() -> None:
        seen["cleanup"] = status()

    def query(ticks: trsm.Ticks) -> bool:
        seen["query"] = status()
        return True

    handlers = [
        Job.Work.can_enter(negotiation("can_enter")),
        Job.Other.can_enter(negotiation("can_enter, from a task")),
        Job.Work.can_exit(negotiation("can_exit")),
        Job.Work.can_stay(negotiation("can_stay")),
        Job.can_change(negotiation("can_change")),
        Job.Work.on_enter(final("on_enter")),
        Job.Other.on_enter(final("on_enter, from a task")),
        Job.Work.on_exit(final("on_exit")),
        Job.on_change(final("on_change")),
        task,
    ]
    async with open_machine(Job, *handlers) as machine:
        seen["body"] = status()
        machine.defer(cleanup)
        machine.add(Job.Work)
        await wait_all_tasks_blocked()
        await machine.when_query(query)
        machine.add(Job.Other)
        with machine.while_active(Job.Work):
            seen["scope"] = status()
        machine.remove(Job.Work)
        seen["body, after mutations"] = status()
    seen["after the block"] = status()
    unprotected = {name for name, is_protected in seen.items() if not is_protected}
    assert unprotected == {
        "body", "body, after mutations", "after the block", "scope", "cleanup",
        "task", "task, after a mutation", "task, after a checkpoint",
    }  # fmt: skip
    assert len(seen) == len(unprotected) + len(handlers)  # ten handlers less the task, and the query


def test_ctrl_c_in_a_handler_is_delivered_when_the_mutation_has_ended() -> None:
    """Signalled in the middle of a transition: every handler runs to its end, and the program is interrupted later."""

    class Signalled(Schema):
        Work = State()
        Auto = State(auto=True)

    log: list[object] = []

    @Signalled.Work.on_enter
    def enter(t: Transition) -> None:
        signal.raise_signal(signal.SIGINT)
        log.append("entered")

    async def main() -> None:
        async with open_machine(Signalled, enter) as machine:
            machine.add(Signalled.Work)
            log.append(machine.active_states)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert log == ["entered", (Signalled.Work, Signalled.Auto)]


def test_ctrl_c_in_a_task_interrupts_it_and_leaves_the_block() -> None:
    """User code of a task is unprotected: it ends there and then, and the machine closes."""
    log: list[object] = []

    @Job.Work.task
    async def task(t: Transition) -> None:
        signal.raise_signal(signal.SIGINT)
        log.append("went on")

    @Job.Work.on_exit
    def leave(t: Transition) -> None:
        log.append("left")

    async def main() -> None:
        async with open_machine(Job, task, leave) as machine:
            machine.add(Job.Work)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]
    assert log == ["left"]


# ---- What is marked -------------------------------------------------------------------------------------------------


def is_marked(function: types.FunctionType) -> bool:
    """Whether Ctrl-C waits while this function runs, whoever calls it."""
    from trio._core import _ki  # no public way to ask; the test below says so if it moves

    try:
        return bool(_ki._CODE_KI_PROTECTION_STATUS_WMAP[function.__code__])
    except KeyError:
        return False


def test_what_trio_marks_is_found_where_it_is_looked_for() -> None:
    """The private table that `is_marked` reads is the one that trio's public decorators write."""

    def plain() -> None: ...

    assert not is_marked(plain)
    assert is_marked(trio.lowlevel.enable_ki_protection(plain))
    assert not is_marked(trio.lowlevel.disable_ki_protection(plain))


def written(module: str) -> Iterator[types.FunctionType]:
    """Every function and method written in a module, found by its file rather than as `_protection` finds them."""
    loaded = importlib.import_module(module)
    for value in vars(loaded).values():
        for member in vars(value).values() if isinstance(value, type) else (value,):
            function = member.fget if isinstance(member, property) else member
            function = getattr(function, "__func__", function)
            function = getattr(function, "__wrapped__", function)
            if isinstance(function, types.FunctionType) and function.__code__.co_filename == loaded.__file__:
                yield function


@pytest.mark.parametrize("module", PROTECTED)
def test_every_function_that_changes_tables_is_marked_protected(module: str) -> None:
    """Methods, properties, class methods and the block itself."""
    functions = list(written(module))
    assert functions
    assert [function.__qualname__ for function in functions if not is_marked(function)] == []


def test_every_module_of_the_shell_marks_itself() -> None:
    """None was forgotten: what is in the shell and not listed here holds no table."""
    shell = {
        f"trsm.{path.stem}"
        for path in Path(_protection.__file__).parent.glob("_*.py")
        if not path.stem.startswith("__")
    }
    assert shell - set(PROTECTED) == {"trsm._protection"}


def test_users_code_is_marked_unprotected() -> None:
    """`unprotected` is the one door from the shell to a user's coroutine."""
    assert not is_marked(_protection.unprotected)


def test_protection_marks_what_a_module_defines_and_nothing_that_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions, methods, properties, class and static methods; no import, no constant, no property of C."""
    source = (
        "from contextlib import contextmanager\n"
        "from textwrap import dedent\n"
        "NUMBER = 1\n"
        "def function(): ...\n"
        "@contextmanager\n"
        "def manager(): yield\n"
        "class Kind:\n"
        "    other = dedent\n"
        "    def method(self): ...\n"
        "    @property\n"
        "    def readable(self): ...\n"
        "    @classmethod\n"
        "    def of_class(cls): ...\n"
        "    @staticmethod\n"
        "    def static(): ...\n"
    )
    module = types.ModuleType("protected_for_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(source, vars(module))
    names = [function.__name__ for function in _protection.functions(module.__name__)]
    assert names == ["function", "manager", "method", "readable", "of_class", "static"]
    assert not is_marked(module.function)
    _protection.protect(module.__name__)
    assert all(is_marked(function) for function in _protection.functions(module.__name__))
    assert not is_marked(module.dedent)
