"""``examples/relations_quiz.py``, run as a process."""

from __future__ import annotations

from pathlib import Path

from examples.running import run

EXECUTED = [True, False, True, True, False, False, True, False, False, True, True]
"""The answers, found by hand from the relations of the kitchen."""


def test_every_question_is_answered_explained_and_played(tmp_path: Path) -> None:
    """The computed answers are those found by hand; each has its reason and the states that are active after it."""
    ended = run("relations_quiz.py", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    answers = [line.split(".")[0].strip() for line in ended.out.splitlines() if line.startswith(("   Yes.", "   No."))]
    assert answers == ["Yes" if is_executed else "No" for is_executed in EXECUTED]
    assert ended.out.count("?\n") == ended.out.count("Active now:") == len(EXECUTED)
    for sentence in (
        "Flame cannot activate: it requires Gas, which is inactive, and nothing in this mutation activates Gas.",
        "Gas and Flame leave.",
        "Steam cannot activate: Window removes it; Window stays, because nothing in this mutation removes Window.",
        "Flame cannot stay: Inspector removes it; Inspector is called.",
        "Grease cannot leave: it is latched, and stays until the machine closes.",
        "Active now: Gas, Flame, Kettle, Steam, Silence.",
        "Active now: Gas, Flame, Kettle, Steam, Alarm.",
    ):
        assert sentence in ended.out
    assert "right" not in ended.out
    assert "y or n" not in ended.out


def test_asked_and_all_answered_right(tmp_path: Path) -> None:
    """With ``--ask``, every right answer counts."""
    given = "".join("y\n" if is_executed else "n\n" for is_executed in EXECUTED)
    ended = run("relations_quiz.py", "--ask", cwd=tmp_path, given=given)
    assert ended.code == 0
    assert ended.out.endswith(f"{len(EXECUTED)} of {len(EXECUTED)} right\n")


def test_asked_and_always_answered_yes(tmp_path: Path) -> None:
    """With ``--ask``, a wrong answer does not count; capitals and spaces do not matter."""
    ended = run("relations_quiz.py", "--ask", cwd=tmp_path, given=" Y \n" * len(EXECUTED))
    assert ended.out.endswith(f"{sum(EXECUTED)} of {len(EXECUTED)} right\n")


def test_asked_and_answered_with_something_else(tmp_path: Path) -> None:
    """What is neither y nor n is asked again."""
    given = "perhaps\n" + "y\n" * len(EXECUTED)
    ended = run("relations_quiz.py", "--ask", cwd=tmp_path, given=given)
    assert "'perhaps' is neither." in ended.out
    assert ended.out.endswith(f"{sum(EXECUTED)} of {len(EXECUTED)} right\n")


def test_asked_and_answers_end_early(tmp_path: Path) -> None:
    """When the input ends, the quiz ends with one line and an exit code that is not 0."""
    run("relations_quiz.py", "--ask", cwd=tmp_path, given="y\n").assert_refused("no more answers")
