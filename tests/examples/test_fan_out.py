"""``examples/fan_out.py``, run as a process."""

from __future__ import annotations

from pathlib import Path

from examples.running import run


def test_results_are_gathered_in_the_order_of_the_arguments(tmp_path: Path) -> None:
    """Whatever is finished first, what is printed follows the order of the arguments."""
    ended = run("fan_out.py", "1000036000099", "12", "97", "2", cwd=tmp_path)
    assert ended.out.splitlines() == [
        "1000036000099 = 1000003 × 1000033",
        "12 = 2 × 2 × 3",
        "97 = 97",
        "2 = 2",
    ]
    assert (ended.code, ended.err) == (0, "")


def test_one_fails_and_the_others_are_gathered(tmp_path: Path) -> None:
    """A failure is told, costs its own result only, and shows in the exit code."""
    ended = run("fan_out.py", "12", "nonsense", "15", cwd=tmp_path)
    assert ended.out.splitlines() == ["12 = 2 × 2 × 3", "nonsense = failed", "15 = 3 × 5"]
    assert ended.err.splitlines() == ["failed: 'nonsense' is no whole number above one"]
    assert ended.code == 1


def test_all_fail(tmp_path: Path) -> None:
    """Each failure is told once, and the program still ends."""
    ended = run("fan_out.py", "0", "1", "1.5", cwd=tmp_path)
    assert sorted(ended.err.splitlines()) == [
        f"failed: {text!r} is no whole number above one" for text in ("0", "1", "1.5")
    ]
    assert ended.code == 1


def test_far_more_numbers_than_workers(tmp_path: Path) -> None:
    """What finds no free worker waits; more than a thousand may, and none is lost."""
    numbers = [str(2 * number) for number in range(1, 1500)]
    ended = run("fan_out.py", *numbers, "--workers", "1", cwd=tmp_path)
    assert [line.split(" = ")[0] for line in ended.out.splitlines()] == numbers
    assert ended.code == 0


def test_no_worker_is_refused_in_one_line(tmp_path: Path) -> None:
    """The message shows the number and says what to write."""
    ended = run("fan_out.py", "12", "--workers", "0", cwd=tmp_path)
    ended.assert_refused("--workers 0", "1 or more")
    assert ended.out == ""


def test_no_number_is_refused_in_one_line(tmp_path: Path) -> None:
    """The message names what is missing."""
    run("fan_out.py", cwd=tmp_path).assert_refused("NUMBER")
