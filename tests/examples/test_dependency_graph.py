"""``examples/dependency_graph.py``, run as a process."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from examples.running import Ended, run

PYTHON = shlex.quote(sys.executable)
MARK = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
MEET = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
deadline = time.monotonic() + 60
while not pathlib.Path(sys.argv[2]).exists():
    if time.monotonic() > deadline:
        sys.exit("nobody came")
    time.sleep(0.01)
"""


def build(directory: Path, *rules: str) -> Ended:
    """Run the example on a file with these rules, where {mark} and {meet} are commands and {fail} is one that fails."""
    (directory / "mark.py").write_text(MARK)
    (directory / "meet.py").write_text(MEET)
    words = {"mark": f"{PYTHON} mark.py", "meet": f"{PYTHON} meet.py", "fail": f"{PYTHON} -c 'raise SystemExit(3)'"}
    (directory / "rules").write_text("\n".join(rules).format(**words), encoding="utf-8")
    return run("dependency_graph.py", "rules", cwd=directory)


def test_the_graph_that_is_built_in_is_made_in_order(tmp_path: Path) -> None:
    """Without a file every target is made, and what it requires is made before it."""
    ended = run("dependency_graph.py", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    *said, made = ended.out.splitlines()
    assert made == "made: lexer parser docs program release"
    assert sorted(said) == ["link program", "make docs", "make lexer", "make parser", "pack release"]
    assert said.index("make lexer") < said.index("make parser") < said.index("link program")
    assert said[-1] == "pack release"


def test_commands_really_run_and_see_what_was_made_before(tmp_path: Path) -> None:
    """The files that the commands write are there, and the second command reads what the first one wrote."""
    copy = "import shutil, sys; shutil.copy(*sys.argv[1:])"
    ended = build(
        tmp_path,
        "# a comment, and an empty line",
        "",
        f'second: first = {PYTHON} -c "{copy}" one two',
        "first: = {mark} one",
    )
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "made: second first\n"
    assert (tmp_path / "two").exists()


def test_independent_targets_run_side_by_side(tmp_path: Path) -> None:
    """Two commands that wait for each other's marker both end: one after the other, neither would."""
    ended = build(tmp_path, "left: = {meet} l r", "right: = {meet} r l", "both: left right = {mark} done")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "made: left right both\n"
    assert (tmp_path / "done").exists()


def test_a_failure_stops_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    """What requires the failed target, directly or not, is never run and explained; the rest is made."""
    ended = build(
        tmp_path,
        "broken: = {fail}",
        "needs: broken = {mark} needs",
        "indirectly: needs = {mark} indirectly",
        "other: = {mark} other",
        "after: other = {mark} after",
    )
    assert ended.code == 1
    assert ended.out == "made: other after\n"
    assert [(tmp_path / name).exists() for name in ("needs", "indirectly", "other", "after")] == [False] * 2 + [
        True
    ] * 2
    first, *reasons = ended.err.splitlines()
    assert first.startswith("broken failed: ")
    assert first.endswith("exit status 3.")
    assert [reason.partition(", ")[0] for reason in reasons] == [
        "make_needs cannot activate: it requires made_broken",
        "make_indirectly cannot activate: it requires made_needs",
    ]


def test_two_failures_at_once(tmp_path: Path) -> None:
    """Each is told, also that a command cannot be found; nothing is made."""
    ended = build(tmp_path, "one: = {fail}", "two: = no-such-command", "both: one two = {mark} both")
    assert (ended.code, ended.out) == (1, "made: nothing\n")
    assert sorted(line.partition(":")[0] for line in ended.err.splitlines()) == [
        "make_both cannot activate",
        "one failed",
        "two failed",
    ]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["only words"], ["'only words'", "TARGET: REQUIRED… = COMMAND"]),
        (["a = {mark} a"], ["'a = ", "TARGET: REQUIRED… = COMMAND"]),
        (["a: ="], ["'a: ='", "TARGET: REQUIRED… = COMMAND"]),
        (["a: = {mark} a", "a: = {mark} b"], ["'a'", "has a rule already"]),
        (["a-b: = {mark} a"], ["'a-b'", "is no name"]),
        (["a: b = {mark} a"], ["a requires 'b'", "no rule"]),
        (["a: b = {mark} a", "b: a = {mark} b"], ["circle", "a requires b", "b requires a"]),
        (["a: = {mark} 'a"], ["No closing quotation"]),
    ],
)
def test_rules_that_cannot_be_followed(tmp_path: Path, rules: list[str], words: list[str]) -> None:
    """They are refused in one line that names the file and what is wrong, before any command runs."""
    ended = build(tmp_path, "first: = {mark} first", *rules)
    ended.assert_refused("rules: ", *words)
    assert ended.out == ""
    assert not (tmp_path / "first").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is refused in one line that names it."""
    run("dependency_graph.py", "nowhere", cwd=tmp_path).assert_refused("nowhere", "No such file")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """It is refused in one line that names it."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    run("dependency_graph.py", "binary", cwd=tmp_path).assert_refused("binary", "utf-8")


def test_two_files(tmp_path: Path) -> None:
    """One graph is built at a time: more files are refused."""
    run("dependency_graph.py", "one", "two", cwd=tmp_path).assert_refused("one two", "one file is enough")
