"""Hypothesis profiles, the figures of promises, and a look at every machine that a test leaves behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import HealthCheck, settings

import proof
from trsm import Machine

# A profile for each length of run; a test that is worth more or fewer examples says so with `proof.examples`.
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("default"), max_examples=20_000)
settings.register_profile("proof long", settings.get_profile("default"), max_examples=1_000)
settings.register_profile("proof quick", settings.get_profile("default"), max_examples=40)
settings.register_profile("mutation", settings.get_profile("default"), max_examples=12, derandomize=True, database=None)
PROFILES = {"ordinary": "default", "long": "proof long", "quick": "proof quick"}
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", PROFILES[proof.SCALE]))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background with Ctrl-C ignored, and so would be what the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# ---- Promises -------------------------------------------------------------------------------------------------------

_present: dict[str, dict[str, int]] = {}
"""What the test that runs has counted: promise -> unit -> count."""
_reached = proof.Reached()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-figures", action="store_true", help="write what promises have reached into docs/promises.md"
    )
    parser.addoption("--promise", type=int, metavar="NUMBER", help="run the tests of this promise only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number = config.getoption("--promise")
    if number is not None:
        config.hook.pytest_deselected(items=[item for item in items if number not in promises_of(item)])
        items[:] = [item for item in items if number in promises_of(item)]


def _count(promise: int, /, **figures: int) -> None:
    if promise not in proof.PROMISES:
        raise ValueError(f"figure({promise}, …): there are promises 1 to {max(proof.PROMISES)}")
    sums = _present.setdefault(str(promise), {})
    for unit, count in figures.items():
        unit = unit.replace("_", " ")
        sums[unit] = sums.get(unit, 0) + count


@pytest.fixture(scope="session")
def figure() -> Callable[..., None]:
    """Count for a promise, as often as you like: ``figure(7, transitions=250)``."""
    return _count


def promises_of(item: pytest.Item) -> list[int]:
    """Return the numbers of the promises that a test is marked with."""
    return sorted({number for mark in item.iter_markers("promise") for number in mark.args})


@contextmanager
def _looking_at_closed_machines() -> Iterator[list[str]]:
    """Look at each machine that has closed, in every test, as soon as it was joined: promise P20."""
    joined = Machine._joined_now
    found: list[str] = []

    @trio.lowlevel.enable_ki_protection
    def look(machine: Machine) -> None:
        joined(machine)
        if not machine.closed:
            return  # a test has seen to that
        machine.close()  # doing so twice is fine
        _count(20, machines=1)
        held = machine._subscriptions, machine._scopes, machine._slots, machine._deferred or None
        # A child with a block in another task has closed too, and may still be about to leave that block.
        in_use = attrs.evolve(machine.in_use, children=sum(not child.closed for child in machine.children))
        if in_use or held != (None, None, None, None) or machine._active or not machine.when_closed().done:
            found.append(f"{machine!r} has closed, and holds {in_use} {held}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Machine, "_joined_now", look)
        yield found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    _present.clear()
    try:
        with _looking_at_closed_machines() as found:
            outcome = yield
        assert not found, found
        return outcome
    finally:
        numbers = promises_of(item)
        if strange := set(map(int, _present)) - {*numbers, 20}:
            raise pytest.UsageError(f"{item.nodeid} counts for promises {sorted(strange)}, and is not marked with them")
        if numbers or _present:
            # Part of the report, which a worker of pytest-xdist sends on.
            item.user_properties.append(("promises", {"numbers": numbers, "figures": dict(_present)}))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.failed:
        for name, value in report.user_properties:
            if name == "promises":
                _reached.add(value["numbers"], value["figures"], passed=report.passed)


def _is_whole(config: pytest.Config) -> bool:
    """Whether all promises were asked for, and nothing but them."""
    return config.option.markexpr == "promise" and not config.option.keyword and not config.getoption("--promise")


def _is_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if MUTANT in os.environ and exitstatus == pytest.ExitCode.INTERRUPTED and session.testsfailed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED  # a test module that cannot be imported any more
    if _is_controller(config) and _is_whole(config) and exitstatus == pytest.ExitCode.OK and _reached.short():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if _is_controller(config) and config.getoption("--write-figures"):
        proof.write(_reached)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = _reached.lines()
    if not lines or "promise" not in config.option.markexpr:
        return
    terminalreporter.section(f"promises, {proof.SCALE} run")
    for line in lines:
        terminalreporter.line(line)
    if _is_whole(config):
        for line in _reached.short():
            terminalreporter.line(f"SHORT: {line}", red=True)


# ---- Mutation testing: see mutants.py -------------------------------------------------------------------------------

MUTANT = "MUTANT_UNDER_TEST"
"""What mutmut puts into the environment: which mutant is called in place of its function."""


def pytest_configure() -> None:
    """Forget the test modules, so that a mutant is there when they make their schemas and machines.

    mutmut runs pytest again and again in forks of one process, which has imported them all.
    """
    if MUTANT in os.environ:
        for name, module in list(sys.modules.items()):
            path = Path(getattr(module, "__file__", None) or "/")
            if path.is_relative_to(Path(__file__).parent) and path.stem not in ("conftest", "proof"):
                del sys.modules[name]
