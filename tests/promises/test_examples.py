"""Every example, disturbed at every point (P13, P14) and replayed from its golden logs (P22)."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import trsm
import trsm.testing
from promises import golden
from promises.scenarios import EXAMPLES, scenarios
from proof import scaled

Figure = Callable[..., None]
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
SEEDS = range(scaled(1, 10))
WITHOUT_MACHINE = {"relations_quiz", "regex_nfa"}
"""These work with engines, in one step of one task: there is nothing to cancel."""
LISTENING = {"file_flow", "path_watcher"}
"""These take Ctrl-C as a signal, and make states of it: their own tests send it to them."""
MAY_LEAVE: dict[str, tuple[type[Exception], ...]] = {
    "file_flow": (FileNotFoundError,),  # one of the files is missing, and the handler that tells so may be what raises
    "echo_server": (trio.BrokenResourceError,),  # what the client sees of a server that fails
    "fan_out": (ValueError,),  # one of the items is bad, as above
}
CLOSED_MAY_LEAVE: dict[str, tuple[type[Exception], ...]] = {
    # Nothing closes these but their own block, and what comes after it or in it takes that for granted.
    "dependency_graph": (UnboundLocalError, IndexError),
    "expense_approval": (trsm.SnapshotError,),
}
pytestmark = pytest.mark.filterwarnings(
    # A file that a thread opens which is left behind, and a socket of a server that is cancelled before it serves, are
    # closed when nobody holds them any more; CPython warns of that.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def test_every_example_is_here(tmp_path: Path) -> None:
    """None was forgotten."""
    assert sorted(scenarios(tmp_path)) == NAMES
    assert sorted(path.stem for path in golden.GOLDEN.glob("*.json")) == NAMES


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Python's own handler for SIGINT: a shell may have told its children to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.promise(13)
@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_MACHINE))
def test_cancelled_or_closed_at_every_point(name: str, tmp_path: Path, figure: Figure) -> None:
    """Ticks and relations stay consistent, every task is joined, nothing is held, and nothing hangs."""
    scenario = scenarios(tmp_path)[name]
    points = trsm.testing.cancel_sweep(scenario, seeds=SEEDS, expected=MAY_LEAVE.get(name, ()))
    expected = MAY_LEAVE.get(name, ()) + CLOSED_MAY_LEAVE.get(name, ())
    points += trsm.testing.close_sweep(scenario, seeds=SEEDS, expected=expected)
    assert points > 0
    figure(13, points=points)


@pytest.mark.promise(14)
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"relations_quiz"}))
def test_every_handler_and_task_raises_once(name: str, tmp_path: Path, figure: Figure) -> None:
    """The same, and the exception comes out once, or is handled."""
    points = trsm.testing.raise_sweep(scenarios(tmp_path)[name], seeds=SEEDS, expected=MAY_LEAVE.get(name, ()))
    assert points > 0
    figure(14, points=points)


@pytest.mark.promise(14)
@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_MACHINE - LISTENING))
def test_ctrl_c_at_every_point(name: str, tmp_path: Path, figure: Figure) -> None:
    """The same, and Ctrl-C comes out once."""
    points = trsm.testing.interrupt_sweep(scenarios(tmp_path)[name], seeds=SEEDS, expected=(trio.BrokenResourceError,))
    assert points > 0
    figure(14, points=points)


def logs() -> Iterator[Any]:
    for path in sorted(golden.GOLDEN.glob("*.json")):
        for number, recorded in enumerate(json.loads(path.read_text(encoding="utf-8"))):
            yield pytest.param(recorded, id=f"{path.stem}-{number}")


@pytest.mark.promise(22)
@pytest.mark.parametrize("recorded", list(logs()))
async def test_a_golden_log_replays_to_identical_ticks(recorded: dict[str, Any], figure: Figure) -> None:
    """On an engine and on a machine: transition by transition, automatic rounds included."""
    log = recorded["log"]
    wanted = [(entry["kind"], entry["ticks"]) for entry in log]
    schema = golden.schema_of(recorded)
    is_closed = log[-1:] != [] and log[-1]["kind"] == "close"
    engine = trsm.Engine(schema, golden.handled(schema))
    assert golden.replay(engine, log[:-1] if is_closed else log) == (wanted[:-1] if is_closed else wanted)
    async with trsm.open_machine(schema, golden.handled(schema)) as machine:
        assert golden.replay(machine, log) == wanted
    figure(22, logs=1, transitions=len(log))


@pytest.mark.promise(22)
@pytest.mark.parametrize("name", ["turnstile", "pipes", "relations_quiz", "regex_nfa"])
def test_an_example_that_depends_on_nothing_does_what_its_log_says(name: str, tmp_path: Path) -> None:
    """Run today, it makes the log that was recorded: the log is that of the example, and not of an old one."""
    recorder = golden.Recorder()
    with trsm.tracing(recorder):
        trio.run(scenarios(tmp_path)[name])
    recorded = json.loads((golden.GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert [log for _, log in recorder.logs] == [one["log"] for one in recorded]
    assert [golden.without_arguments(machine.schema.to_dict()) for machine, _ in recorder.logs] == [
        one["schema"] for one in recorded
    ]
