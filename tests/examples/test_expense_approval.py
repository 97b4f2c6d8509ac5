"""``examples/expense_approval.py``, run as a process, stopped, and started again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples.running import ENVIRONMENT, EXAMPLES, PATIENCE, Ended, run

EXAMPLE = "expense_approval.py"
WAITING = "waiting: Ann wants 12.50 for a new chair"


def submit(directory: Path, given: str = "", *options: object) -> Ended:
    return run(EXAMPLE, "claim.json", "--submit", "Ann", 12.5, "a new chair", *options, cwd=directory, given=given)


def go_on(directory: Path, given: str = "", *options: object) -> Ended:
    return run(EXAMPLE, "claim.json", *options, cwd=directory, given=given)


def test_approved_at_once(tmp_path: Path) -> None:
    """The exit code says so; whoever starts it again is told once more, and nothing can be decided again."""
    ended = submit(tmp_path, "approve Bob\nreject Bob no\n")
    assert ended == Ended(0, f"{WAITING}\napproved by Bob\n", "")
    assert go_on(tmp_path, "reject Bob too much\n") == Ended(0, "approved by Bob\n", "")


def test_rejected_after_a_restart(tmp_path: Path) -> None:
    """The claim waits, with its arguments; what is typed wrongly, or by the wrong one, changes nothing."""
    assert submit(tmp_path) == Ended(1, f"{WAITING}\nstill waiting\n", "")
    assert go_on(tmp_path, "approve Ann\nperhaps\n") == Ended(
        1,
        f"{WAITING}\nAnn cannot approve a claim of Ann\ntype approve NAME, or reject NAME REASON…\nstill waiting\n",
        "",
    )
    assert go_on(tmp_path, "reject Bob too much") == Ended(1, f"{WAITING}\nstill waiting\n", "")
    assert go_on(tmp_path, "reject Bob too much\n") == Ended(1, f"{WAITING}\nrejected by Bob: too much\n", "")


def test_killed_while_it_waits(tmp_path: Path) -> None:
    """It goes on from the file, which was whole when it said that it waits."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / EXAMPLE, "claim.json", "--submit", "Ann", "12.5", "a new chair"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline().decode().rstrip() == WAITING
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdin.close()
        process.stdout.close()
    assert go_on(tmp_path, "approve Bob\n").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["claim.json"]


def test_deadline_that_passed_while_nothing_ran(tmp_path: Path) -> None:
    """The time away is taken off: it expires, and stays so."""
    submit(tmp_path, "", "--deadline", 3600)
    path = tmp_path / "claim.json"
    kept = json.loads(path.read_text())
    assert 3500 < kept["machine"]["timeouts"]["Waiting"] <= 3600
    kept["saved"] -= 4000
    path.write_text(json.dumps(kept))
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / EXAMPLE, "claim.json"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,  # nobody types, and nobody goes
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.read().decode().splitlines()[-1] == "expired: nobody has decided in time"
        assert process.wait(PATIENCE) == 1
    assert go_on(tmp_path, "approve Bob\n") == Ended(1, "expired: nobody has decided in time\n", "")


def test_two_processes_on_one_file(tmp_path: Path) -> None:
    """The first that decides has decided: the other is told, and writes nothing."""
    submit(tmp_path)
    late = subprocess.Popen(
        [sys.executable, EXAMPLES / EXAMPLE, "claim.json"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert late.stdout is not None
    assert late.stdout.readline().decode().rstrip() == WAITING
    assert go_on(tmp_path, "approve Bob\n").code == 0
    before = (tmp_path / "claim.json").read_bytes()
    out, err = late.communicate(b"reject Cy no\n", PATIENCE)
    Ended(late.returncode, out.decode(), err.decode()).assert_refused("claim.json: another process", "start again")
    assert (out, (tmp_path / "claim.json").read_bytes()) == (b"", before)


def test_rejected_without_a_reason(tmp_path: Path) -> None:
    """That is no decision: the hint is printed again."""
    ended = submit(tmp_path, "reject Bob\nreject Bob no\n")
    assert ended.out == f"{WAITING}\ntype approve NAME, or reject NAME REASON…\nrejected by Bob: no\n"


def test_file_that_is_there_already(tmp_path: Path) -> None:
    """A new claim does not take its place."""
    submit(tmp_path)
    before = (tmp_path / "claim.json").read_text()
    submit(tmp_path).assert_refused("claim.json is there already")
    assert (tmp_path / "claim.json").read_text() == before


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[" * 100_000, '{"saved": 1, "machine": 3}', '{"saved": "x", "machine": {"timeouts": {}}}'],
)
def test_file_that_is_no_claim(tmp_path: Path, text: str) -> None:
    """It is refused in one line."""
    (tmp_path / "claim.json").write_text(text)
    go_on(tmp_path).assert_refused("claim.json: this is no claim that was kept here")


def test_file_whose_snapshot_was_changed(tmp_path: Path) -> None:
    """A snapshot that breaks a relation is refused, by trsm, which says where."""
    submit(tmp_path)
    path = tmp_path / "claim.json"
    kept = json.loads(path.read_text())
    kept["machine"]["ticks"]["Approved"] = 1
    path.write_text(json.dumps(kept))
    go_on(tmp_path).assert_refused("Approved")


@pytest.mark.parametrize("active", [[], ["Submitted"], ["Submitted", "Waiting", "Alone"]])
def test_file_in_which_nobody_is_asked(tmp_path: Path, active: list[str]) -> None:
    """It breaks no relation, and is no claim that could go on: that is said, in one line."""
    submit(tmp_path)
    path = tmp_path / "claim.json"
    kept = json.loads(path.read_text())
    machine = kept["machine"]
    machine["ticks"] = {name: int(name in active) for name in machine["ticks"]}
    machine["args"] = {name: value for name, value in machine["args"].items() if name in active}
    machine["timeouts"] = {name: value for name, value in machine["timeouts"].items() if name in active}
    path.write_text(json.dumps(kept))
    go_on(tmp_path, "approve Bob\n").assert_refused("this claim waits for nobody, and is not decided")


def test_bad_arguments(tmp_path: Path) -> None:
    """Each is refused in one line, and nothing is written."""
    run(EXAMPLE, "claim.json", cwd=tmp_path).assert_refused("claim.json", "No such file")
    for amount in ("much", "0", "nan", "inf"):
        ended = run(EXAMPLE, "claim.json", "--submit", "Ann", amount, "chair", cwd=tmp_path)
        ended.assert_refused("claim.json", "float" if amount == "much" else "amount")
    go_on(tmp_path, "", "--deadline", 5).assert_refused("--deadline goes with --submit")
    for name in ("", "."):
        run(EXAMPLE, name, "--submit", "Ann", 5, "chair", cwd=tmp_path).assert_refused(
            ". is a directory: choose another"
        )
    submit(tmp_path, "", "--deadline", 0).assert_refused("timeout=0.0: write a positive number of seconds")
    assert list(tmp_path.iterdir()) == []
