"""The suite of promises itself: none is without a test, the page says what the runs have printed, every fault fits."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import proof
from promises import planted

NUMBERS = list(proof.PROMISES)


def marked() -> Iterator[int]:
    """Iterate over the numbers that tests are marked with, as their source has them."""
    for path in proof.TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.promise":
                yield from map(ast.literal_eval, node.args)


def test_every_promise_has_a_test() -> None:
    """And no test is marked with a number that promises nothing."""
    assert sorted(set(marked())) == NUMBERS == list(range(1, 27))


def test_the_page_has_the_figures_that_were_written() -> None:
    """Its table is the one that the run fills in, of all promises, and each ordinary figure is reached."""
    figures = proof.read_figures()
    (table,) = proof.TABLE.findall(proof.PAGE.read_text(encoding="utf-8"))
    assert table == proof.table(figures)
    assert re.findall(r"^\| P(\d+) \|", table, re.MULTILINE) == list(map(str, NUMBERS))
    for number, promise in proof.PROMISES.items():
        assert promise.words in table
        assert figures["ordinary"][str(number)][promise.unit] >= promise.ordinary
        if str(number) in figures.get("long", {}):
            assert figures["long"][str(number)][promise.unit] >= promise.due("long")


def test_the_readme_quotes_what_was_printed() -> None:
    """Line by line, and only that; the figures in its lines are those on the page."""
    text = proof.README.read_text(encoding="utf-8")
    (quoted,) = proof.QUOTES.findall(text)
    printed = list(proof.read_figures()["printed"]["ordinary"].values())
    assert quoted.splitlines() == [printed[number - 1] for number in proof.QUOTED]
    for number, line in zip(proof.QUOTED, quoted.splitlines(), strict=True):
        assert f"{proof.said(proof.read_figures()['ordinary'][str(number)], proof.PROMISES[number].unit)} (" in line
    assert not re.findall(r"\d,\d{3}", text.replace(quoted, "")), "no figure that nobody has printed"


def test_the_page_has_the_faults_that_are_planted() -> None:
    """One for each promise."""
    (table,) = planted.TABLE.findall(proof.PAGE.read_text(encoding="utf-8"))
    assert table == planted.table()
    assert [fault.promise for fault in planted.FAULTS] == NUMBERS


@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: f"P{fault.promise}")
def test_a_planted_fault_fits(fault: planted.Fault) -> None:
    """What it changes stands in trsm once, and what is to find it is there."""
    assert (planted.PACKAGE / fault.file).read_text(encoding="utf-8").count(fault.old) == 1
    file, _, name = fault.tests.partition("::")
    assert f"def {name}" in (proof.TESTS / file).read_text(encoding="utf-8")


def test_a_fault_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Rather than to find that all is well with nothing planted."""
    (tmp_path / "file.py").write_text("same\nsame\n")
    for old, times in (("same", 2), ("other", 0)):
        with pytest.raises(ValueError, match=rf"P1: file.py has {times} times '{old}', not once"):
            planted.planted(planted.Fault(1, "", "file.py", old, "new", ""), tmp_path)


# ---- The marker, the fixture and the summary ------------------------------------------------------------------------


def ran(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
        cwd=proof.TESTS.parent,
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_summary_of_a_run(workers: str) -> None:
    """What tests have counted is added up, from the workers of pytest-xdist too, and what is missing is a failure."""
    done = ran("-n", workers, "-m", "promise", "tests/promises/test_drains.py")
    assert "= promises, ordinary run =" in done.stdout
    assert "P24  7 drains (7 tests)" in done.stdout
    assert "SHORT: P1 has no test in this run" in done.stdout
    assert "SHORT: P24" not in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "7 passed" in done.stdout


def test_the_tests_of_one_promise() -> None:
    """They can be run alone; then nothing is missing, and without ``-m`` nothing is printed."""
    done = ran("-m", "promise", "--promise=24", "tests/promises/test_drains.py", "tests/promises/test_rounds.py")
    assert done.returncode == 0, done.stdout
    assert "SHORT" not in done.stdout
    assert "7 passed, 1 deselected" in done.stdout
    assert "promises, ordinary run" not in ran("tests/promises/test_drains.py", "-k", "first").stdout


def test_counting_for_what_is_not_marked(tmp_path: Path) -> None:
    """It is refused, as is a number that promises nothing."""
    test = tmp_path / "test_it.py"
    test.write_text(
        "import pytest\n"
        "def test_one(figure): figure(7, transitions=1)\n"
        "@pytest.mark.promise(7)\n"
        "def test_two(figure): figure(70, transitions=1)\n"
    )
    done = ran("-c", "pyproject.toml", "--rootdir=.", "-p", "conftest", str(test))
    assert "counts for promises [7], and is not marked with them" in done.stdout
    assert "figure(70, …): there are promises 1 to 26" in done.stdout


def test_a_scale_that_there_is_not() -> None:
    """The message has those that there are."""
    done = ran("tests/promises/test_drains.py", TRSM_PROOF="longer")
    assert "TRSM_PROOF=longer: write quick, ordinary or long, or leave it out" in done.stdout + done.stderr
    assert done.returncode != 0


def test_what_is_short_of_a_figure() -> None:
    """A figure that is not reached is told, with what is promised, in the scale of the run; a quick run has none."""
    reached = proof.Reached()
    for number, promise in proof.PROMISES.items():
        reached.add([number], {str(number): {promise.unit: promise.ordinary - (number == 7)}}, passed=number != 3)
    assert reached.short("ordinary") == ["P7 counted 99,999 transitions, and 100,000 are promised"]
    assert "P12 counted 10,000 activations, and 1,000,000 are promised" in reached.short("long")
    assert reached.short("quick") == []
    assert reached.lines()[2] == "P3   1 contests (0 tests, 1 FAILED)"
    reached.add([7], {"7": {"transitions": 1, "aside": 5}}, passed=True)
    assert reached.short("ordinary") == []
    assert reached.lines()[6] == "P7   100,000 transitions, 5 aside (2 tests)"


def test_writing_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept for each scale, and fill in the page, of which all else stays."""
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text(
        "before\n<!-- table: written by the run, see below -->\n\nformer words\n\n<!-- end of the table -->\nafter\n"
    )
    monkeypatch.setattr(proof, "PAGE", page)
    monkeypatch.setattr(proof, "FIGURES", figures)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- figures: written by the run -->\n\n```text\nold\n```\nafter\n")
    monkeypatch.setattr(proof, "README", readme)
    reached = proof.Reached()
    reached.add([1], {"1": {"transitions": 1234, "faults": 5}}, passed=True)
    proof.write(reached, "ordinary")
    reached.add([1], {"1": {"transitions": 1_000_000}}, passed=True)
    proof.write(reached, "long")
    first = next(line for line in page.read_text().splitlines() if line.startswith("| P1 "))
    assert first.endswith("| 1,234 transitions<br>5 faults | 1,001,234 transitions<br>5 faults |")
    assert page.read_text().startswith("before\n") and page.read_text().endswith("\nafter\n")
    assert readme.read_text().splitlines()[3:] == ["P1   1,234 transitions, 5 faults (1 test)", "```", "after"]
    assert "former words" not in page.read_text() and "not run yet" in page.read_text()
