"""`python -m trsm check`: what it prints, on which stream, and with which exit code; also as a real process."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import types
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import trsm.__main__ as command
from trsm.testing import Findings

MODULE = """
import trsm
from trsm import Schema, State, exclusive

print("noise while importing")


class Door(Schema):
    Locked = State(remove="Open")
    Open = State(remove=Locked)


class Locks(Schema):
    Locked = State(auto=True, remove="Open")
    Open = State()
    Inside = State(require=Open)


class Shop:
    class Till(Schema):
        Shut = State()


sizes = (10, 10, 6)
Many = Schema.define(
    "Many",
    {f"S{g}x{n}": State() for g, size in enumerate(sizes) for n in range(size)}
    | {f"G{g}": exclusive(*(f"S{g}x{n}" for n in range(size))) for g, size in enumerate(sizes)},
)
number = 7
"""

LAZY = """
def __getattr__(name):
    if name == "Late": raise OSError("made too late")
    raise AttributeError(name)

class Shy:
    def __repr__(self):
        raise ZeroDivisionError

shy = Shy()
many = list(range(1000))
"""
TIED = """
from trsm import Schema, State

class Light(Schema):
    Power = State()
    Green = State(auto=True, require=Power, remove="Red")
    Red = State(auto=True, require=Power, remove="Green")
"""
GENERATED = """
from dataclasses import dataclass

@dataclass
class Point:
    x: int
Point()
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose modules can be imported, and cannot once the test is over."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "doors.py").write_text(MODULE)
    (package / "broken.py").write_text("def fail():\n    raise OSError('no such disk')\n\nfail()\n")
    (package / "needy.py").write_text("import nothing_of_this_name\n")
    (package / "script.py").write_text("import sys\nsys.exit('used as a script')\n")
    (package / "bare.py").write_text("number = 7\n")
    (package / "skipped.py").write_text("import pytest\n\npytest.skip('not here', allow_module_level=True)\n")
    (package / "wrong.py").write_text("import trsm\n\nclass Wrong(trsm.Schema):\n    A = trsm.State(require='B')\n")
    (package / "garbled.py").write_text("class Garbled(:\n")
    (package / "foreign.py").write_text("import trsm\n\nclass Tür(trsm.Schema):\n    Ä = trsm.State(auto=True)\n")
    (package / "ends.py").write_text("raise SystemExit\n")
    (package / "lazy.py").write_text(LAZY)
    (package / "parses.py").write_text("import json\n\njson.loads('{')\n")
    (package / "indirect.py").write_text("import shop.parses\n")
    (package / "generated.py").write_text(GENERATED)
    (package / "installed.py").write_text("import trio\n\n\ntrio.run(trio.sleep, 'long')\n")
    (package / "my-doors.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command.main(["check", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_sound_schema_ends_with_0(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stdout; what the module prints while it is imported goes to stderr."""
    code, out, err = run(capsys, "shop.doors:Door")
    assert (code, out) == (0, "Door: nothing found; 3 reachable sets of states, all looked at\n")
    assert err == "noise while importing\n"


def test_findings_end_with_1(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are printed as they read in Python."""
    code, out, _ = run(capsys, "shop.doors:Locks")
    assert code == 1
    assert out.startswith(
        "Locks: 1 error and 2 warnings; 2 reachable sets of states, all looked at\n\nerror: nothing goes"
    )
    assert "allowed" not in out


def test_json_is_all_that_stdout_gets(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether something was found or not."""
    code, out, _ = run(capsys, "shop.doors:Locks", "--json", "--allow", "never-leaves")
    data = json.loads(out)
    assert code == 1
    assert {name: data[name] for name in ("target", "schema", "sets", "limit", "allowed")} == {
        "target": "shop.doors:Locks",
        "schema": "Locks",
        "sets": 2,
        "limit": 50_000,
        "allowed": 1,
    }
    assert [one["kind"] for one in data["findings"]] == ["dead-end", "never-active"]
    code, out, _ = run(capsys, "shop.doors:Door", "--json")
    assert (code, json.loads(out)["findings"]) == (0, [])


def test_a_schema_inside_a_class_is_found(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its dotted name."""
    assert run(capsys, "shop.doors:Shop.Till")[0] == 0


def test_what_is_allowed_is_not_told(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of any state, or of one; the rest is."""
    code, out, err = run(capsys, "shop.doors:Locks", "--allow", "never-leaves:Locked", "--allow", "dead-end")
    assert code == 1
    assert out.startswith("Locks: 1 warning; ")
    assert out.endswith("\n\n2 allowed and not shown\n")
    assert "there is no such finding" not in err
    code, out, _ = run(
        capsys, "shop.doors:Locks", *(f"--allow={kind}" for kind in ("never-leaves", "dead-end:Locked", "never-active"))
    )
    assert (code, out.splitlines()[-1]) == (0, "3 allowed and not shown")


def test_an_allowance_that_nothing_needs_is_told_on_stderr(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is stale, or for another state; the exit code does not mind."""
    code, out, err = run(capsys, "shop.doors:Door", "--allow", "auto-tie", "--allow", "never-leaves:Open")
    assert code == 0
    assert "allowed" not in out
    assert err.splitlines()[-2:] == [
        "--allow auto-tie: there is no such finding",
        "--allow never-leaves:Open: there is no such finding",
    ]


def test_an_allowance_by_another_state_than_the_first_is_told_by_which_it_goes(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finding may name several states."""
    (shop / "shop" / "tied.py").write_text(TIED)
    code, out, err = run(capsys, "shop.tied:Light", "--allow", "auto-tie:Red")
    assert code == 1
    assert "allowed" not in out
    assert err == "--allow auto-tie:Red: there is no such finding; a finding goes by its first state: auto-tie:Green\n"
    assert run(capsys, "shop.tied:Light", "--allow", "auto-tie:Green")[::2] == (0, "")


def test_a_state_that_is_left_out_may_still_come_by_itself(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it comes in place of another, it is said that nobody has added it."""
    (shop / "shop" / "tied.py").write_text(TIED)
    words = "Green is left out, so that nobody adds it, and comes by itself all the same."
    code, out, _ = run(capsys, "shop.tied:Light", "--without", "Green")
    assert code == 1
    assert words in " ".join(out.split())
    code, out, _ = run(capsys, "shop.tied:Light")
    assert code == 1
    assert "left out" not in out
    assert run(capsys, "shop.tied:Light", "--without", "Red")[0] == 0
    assert run(capsys, "shop.tied:Light", "--without", "Light.Red")[0] == 0, "as paths write it"


def test_a_dead_start_can_be_allowed(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a finding about no state at all."""
    (shop / "shop" / "dead.py").write_text(
        "from trsm import Schema, State\n"
        "class Dead(Schema):\n"
        "    One = State(require='Two', remove='Three')\n"
        "    Two = State(require='Three')\n"
        "    Three = State(require=One)\n"
    )
    code, out, _ = run(capsys, "shop.dead:Dead", "--allow", "dead-end")
    assert code == 1
    assert "1 allowed" in out


def test_states_can_be_left_out(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in Python."""
    code, out, _ = run(capsys, "shop.doors:Door", "--without", "Open")
    assert (code, out) == (0, "Door: nothing found; 2 reachable sets of states, all looked at\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shop.doors"], "'shop.doors' names no schema: write package.module:SchemaName"),
        (["shop.doors:"], "'shop.doors:' names no schema"),
        ([":Door"], "':Door' names no schema"),
        (["shop doors:Door"], "'shop doors:Door' names no schema"),
        (["shop/doors.py:Door"], "a module is named as in an import: shop.doors:Door"),
        (["./shop/doors.py"], "a module is named as in an import: shop.doors:SchemaName"),
        (["shopp.doors:Door"], "there is no module 'shopp': run this in the directory from which it can be imported"),
        (["shop.dors:Door"], "there is no module 'shop.dors'"),
        (["shop.doors:Dor"], "shop.doors has no Dor; did you mean Door?"),
        (["shop.doors:Qqqqqq"], "shop.doors has no Qqqqqq; schemas in shop.doors: Door, Locks, Many\n"),
        (["shop.doors:Shop.Tell"], "shop.doors has no Shop.Tell"),
        (["shop.bare:Door"], "shop.bare has no Door; shop.bare has no schema\n"),
        (
            ["shop.doors:number"],
            "shop.doors:number is 7, and no schema: name a class that inherits from trsm.Schema; sch",
        ),
        (
            ["shop.doors:Shop"],
            "and no schema: name a class that inherits from trsm.Schema; schemas in shop.doors: Door, ",
        ),
        (
            ["shop.bare:number"],
            "shop.bare:number is 7, and no schema: name a class that inherits from trsm.Schema; shop.bare has no schem",
        ),
        (["shop.broken:Door"], "importing shop.broken raised OSError: no such disk ("),
        (["shop.skipped:Door"], "importing shop.skipped raised Skipped: not here ("),
        (["shop.wrong:Wrong"], "wrong.py:3)\n"),  # where the class stands, not where trsm looks at it
        (["shop.garbled:Door"], "importing shop.garbled raised SyntaxError: invalid syntax (garbled.py, line 1)\n"),
        (
            ["shop.needy:Door"],
            "importing shop.needy raised ModuleNotFoundError: No module named 'nothing_of_this_name'",
        ),
        (
            ["shop.script:Door"],
            "importing shop.script ends the program, with 'used as a script' (",
        ),
        (["shop.script:Door"], 'shop/script.py:2): put what it runs under if __name__ == "__main__":\n'),
        (["shop.ends:Door"], "importing shop.ends ends the program ("),
        (
            ["shop.doors:Schema"],
            "shop.doors:Schema is the class that all schemas inherit from, and has no states of its own; schemas in "
            "shop.doors: Door, Locks, Many\n",
        ),
        (
            ["trsm:Schema"],
            "trsm:Schema is the class that all schemas inherit from, and has no states of its own; trsm ",
        ),
        (["shop.lazy:Late"], "looking up Late in shop.lazy raised OSError: made too late ("),
        (["shop.lazy:Late"], "shop/lazy.py:3)\n"),
        (["shop.lazy:Never"], "shop.lazy has no Never"),
        (["shop.lazy:shy"], "shop.lazy:shy is <Shy instance at "),
        (["shop.lazy:many"], "shop.lazy:many is [0, 1, 2, 3, 4, 5, ...], and no schema"),
        # where the user's own file stands, and not where Python, what was installed, or generated code stands
        (["shop.parses:Door"], "shop/parses.py:3)\n"),
        (["shop.indirect:Door"], "shop/parses.py:3)\n"),
        (["shop.generated:Door"], "shop/generated.py:7)\n"),
        (["shop.installed:Door"], "shop/installed.py:4)\n"),
        (["shop.doors:Many", "--limit", "846"], "Many: more than 846 sets of states are reachable"),
        (
            ["shop.doors:Many", "--limit", "5"],
            "\n  pass a higher --limit N, if time and memory allow, or leave out states ",
        ),
        (["shop.doors:Many", "--limit", "5"], "such as error states: --without STATE\n  it has "),
        (["shop.doors:Door", "--limit", "0"], "--limit 0: write how many sets may be reachable, 1 or more"),
        (["shop.doors:Door", "--without", "Opne"], "--without Opne: Door has no state 'Opne'; did you mean Open?"),
        (["shop.doors:Door", "--without", "Door.Opne"], "Door has no state 'Door.Opne'; did you mean Open?"),
        (["shop.doors:Door", "--without", "Xyz"], "Door has no state 'Xyz': it has Locked, Open"),
        (["shop.doors:Many", "--without", "Xyz"], "Many has no state 'Xyz': it has S0x0, "),
        (["shop.doors:Many", "--without", "Xyz"], "S1x9, …\n"),
        (
            ["shop.doors:Door", "--allow", "dead-ends"],
            "--allow dead-ends: there is no finding 'dead-ends'; did you mean dead",
        ),
        (
            ["shop.doors:Door", "--allow", "x"],
            "there is no finding 'x': write one of contradictory-requires, never-active,",
        ),
        (["shop.doors:Door", "--allow", "dead-end:Opne"], "Door has no state 'Opne'; did you mean Open?"),
    ],
)
def test_what_cannot_be_looked_at_ends_with_2(
    shop: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """With what was written, why not, and what to write; nothing on stdout."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "python -m trsm check: " in err
    assert words in err


@pytest.mark.parametrize(
    "arguments", [[], ["check"], ["chek", "a:B"], ["check", "a:B", "c:D"], ["check", "a:B", "--limit=x"]]
)
def test_bad_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As argparse does it."""
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert "usage: python -m trsm" in err
    assert not out
    with pytest.raises(SystemExit):
        command.main([*arguments, "--json"])
    out = capsys.readouterr().out
    assert json.loads(out).keys() == {"target", "error", "exit_code"}
    assert json.loads(out)["exit_code"] == 2


def test_help_says_what_exit_codes_mean_and_what_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Each code on a line of its own, and each kind of finding."""
    with pytest.raises(SystemExit) as caught:
        command.main(["check", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for code in (0, 1, 2, 3, 130):
        assert re.search(rf"^  {code}  ", out, re.MULTILINE), code
    assert all(kind in out for kind in Findings.KINDS)


@pytest.mark.parametrize("arguments", [["a:B", "--lim", "3", "--alow", "x"], ["--alow", "x", "a:B"]])
def test_of_options_that_check_does_not_know_its_own_usage_is_told(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With all that it does know."""
    with pytest.raises(SystemExit) as caught:
        command.main(["check", *arguments])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert "usage: python -m trsm check [-h]" in err
    assert "--allow KIND[:STATE]" in err
    assert re.search(r"^python -m trsm check: error: unrecognized arguments: --alow", err, re.MULTILINE)


@pytest.mark.parametrize(
    ("directory", "target", "words"),
    [
        ("shop", "doors.py:Door", "shop.doors:Door, in the directory ..\n"),
        (".", "shop/doors.py:Door", "shop.doors:Door\n"),
        (".", "./shop/doors.py", "shop.doors:SchemaName\n"),
        (".", "shop/doors.py::Door", "shop.doors:Door\n"),
        (".", "plain.py:Door", "plain:Door\n"),
        ("shop", "../plain.py:Door", "plain:Door, in the directory ..\n"),
        (".", "{}/plain.py:Door", "plain:Door\n"),
        (".", "below/apart.py:Door", "apart:Door, in the directory below\n"),
        (".", "../nowhere/of.py:Door", "nowhere.of:Door\n"),
    ],
)
def test_a_file_in_place_of_a_module(
    shop: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    directory: str,
    target: str,
    words: str,
) -> None:
    """It is said what to write for it, and where; nothing is imported."""
    (shop / "plain.py").write_text("1 / 0\n")
    (shop / "below").mkdir()
    (shop / "below" / "apart.py").write_text("1 / 0\n")
    monkeypatch.chdir(shop / directory)
    target = target.format(shop)
    code, out, err = run(capsys, target)
    assert (code, out) == (2, "")
    assert f"check: {target!r} names no schema: a module is named as in an import: {words}" in err


def test_a_file_that_cannot_be_imported(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is what stands in the way."""
    monkeypatch.chdir(shop / "shop")
    code, out, err = run(capsys, "my-doors.py:Door")
    assert (code, out) == (2, "")
    assert (
        "no module can be imported from my-doors.py, since a name in an import is of letters, digits and _ only" in err
    )


def test_a_module_whose_name_is_py(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is none of a file."""
    (shop / "shop" / "py.py").write_text(MODULE)
    assert run(capsys, "shop.py:Door")[0] == 0


def test_an_interrupt_ends_with_130(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says that nothing is known."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check", interrupted)
    code, out, err = run(capsys, "shop.doors:Door")
    assert (code, out) == (130, "")
    assert err.endswith("python -m trsm check: interrupted; nothing is known\n")


def test_a_fault_of_trsm_itself_ends_with_3(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither 1, which would read as findings, nor silent: the traceback is for whoever mends it."""

    def failing(*args: object, **kwargs: object) -> None:
        raise AssertionError("this cannot be")

    monkeypatch.setattr(command, "check", failing)
    code, out, err = run(capsys, "shop.doors:Door")
    assert (code, out) == (3, "")
    assert "Traceback (most recent call last)" in err
    assert err.endswith(
        "check: trsm itself failed, and nothing is known; please report this: AssertionError: this cannot be\n"
    )


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [("shop.doors:Dor", 2, "did you mean Door?"), ("shop.doors:Door", 130, "interrupted; nothing is known")],
)
def test_json_says_why_nothing_is_known(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, target: str, code: int, words: str
) -> None:
    """As data, on stdout, so that a program that reads it does not find it empty; and in words on stderr."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check", interrupted)
    ended, out, err = run(capsys, target, "--json")
    data = json.loads(out)
    assert (ended, data["exit_code"], data["target"]) == (code, code, target)
    assert words in data["error"]
    assert words in err


# ---- Progress -------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Bar:
    """What is used of tqdm, and what was done with it."""

    made: list[Bar]

    def __init__(self, **options: object) -> None:
        self.options = options
        self.total = self.n = 0
        self.seen: list[tuple[int, int]] = []
        self.is_closed = False
        Bar.made.append(self)

    def update(self, n: int) -> None:
        self.n += n
        self.seen.append((self.n, self.total))

    def close(self) -> None:
        self.is_closed = True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal: in the test itself, as pytest puts its own there before each phase."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_progress_is_shown_by_tqdm_where_it_is_installed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, after a while, and taken away at the end."""
    tqdm = types.ModuleType("tqdm")
    tqdm.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", tqdm)
    Bar.made = []
    stream = terminal(monkeypatch)
    assert command.main(["check", "shop.doors:Many", "--limit", "847"]) == 0
    (bar,) = Bar.made
    assert bar.options == {
        "desc": "Many", "unit": " sets", "total": 0, "file": stream, "delay": 0.5, "leave": False,
    }  # fmt: skip
    assert bar.seen[-1] == (847, 847)
    assert [done for done, _ in bar.seen[:2]] == [500, 847]
    assert bar.is_closed
    assert command.main(["check", "shop.doors:Many", "--limit", "600"]) == 2
    assert Bar.made[1].is_closed


def test_progress_is_a_line_where_tqdm_is_not_installed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written over and over, and wiped at the end."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(command, "DELAY", 0)
    times = iter(range(1000))
    monkeypatch.setattr(command.time, "monotonic", lambda: next(times))
    stream = terminal(monkeypatch)
    assert command.main(["check", "shop.doors:Many"]) == 0
    lines = stream.getvalue().removeprefix("noise while importing\n").split("\r")
    assert re.fullmatch(r"Many: 500 of [\d,]+ sets that were found so far", lines[1])
    assert lines[-3].rstrip() == "Many: 847 of 847 sets that were found so far"
    assert (lines[-2].strip(), lines[-1]) == ("", "")
    assert len(lines[-2]) == max(map(len, lines))


def test_a_short_exploration_shows_no_line(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is over before anybody would wonder."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(command.time, "monotonic", lambda: 0)
    stream = terminal(monkeypatch)
    assert command.main(["check", "shop.doors:Many"]) == 0
    assert stream.getvalue() == "noise while importing\n"


def test_a_line_is_not_written_more_often_than_anybody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times a second."""
    now = 0.0
    monkeypatch.setattr(command.time, "monotonic", lambda: now)
    stream = terminal(monkeypatch)
    line = command._Line("Many")
    for step in range(16):
        now = step * 0.05
        line.show(step, 20)
    assert [int(one) for one in re.findall(r"Many: (\d+) of", stream.getvalue())] == [10, 12, 14]


@pytest.mark.parametrize("arguments", [["--no-progress"], []])
def test_progress_is_for_terminals_and_can_be_switched_off(
    shop: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """A log file gets none, and neither does who said so."""
    stream = Terminal() if arguments else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(command, "DELAY", 0)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert command.main(["check", "shop.doors:Many", *arguments]) == 0
    assert stream.getvalue() == "noise while importing\n"


# ---- As a process ---------------------------------------------------------------------------------------------------


def process(shop: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "trsm", "check", *arguments],
        cwd=shop,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "out"),
    [
        (["shop.doors:Door"], 0, "Door: nothing found"),
        (["shop.doors:Locks"], 1, "Locks: 1 error and 2 warnings"),
        (["shop.doors:Locks", "--json"], 1, '{\n  "target": "shop.doors:Locks",'),
        (["shop.doors:Nope"], 2, ""),
    ],
)
def test_a_real_process_ends_with_the_same_codes(shop: Path, arguments: list[str], code: int, out: str) -> None:
    """It finds the module in the directory that it is run in; nothing but findings is on stdout."""
    done = process(shop, *arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(out)
    assert bool(done.stdout) == bool(out)
    assert ("did you mean" in done.stderr or "has no Nope" in done.stderr) == (code == 2)
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_changes_no_exit_code(shop: Path) -> None:
    """As `head` does; there is no traceback either."""
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "trsm", "check", "shop.doors:Door"], cwd=shop, stdout=write, stderr=subprocess.PIPE
    ) as child:
        os.close(write)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, b"noise while importing\n")


@pytest.mark.parametrize("arguments", [["shop.foreign:Tür"], ["shop.foreign:Tür", "--json"]])
def test_a_stream_that_cannot_take_every_name(
    shop: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Names are written with escapes where stdout has no such letters."""
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    assert command.main(["check", *arguments]) == 1
    out = buffer.getvalue().decode("ascii")
    assert json.loads(out)["schema"] == "Tür" if "--json" in arguments else out.startswith("T\\xfcr: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full, of Linux")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_is_no_finding(shop: Path, more: list[str]) -> None:
    """What was found could not be written: that is told, with 2, and not with a code of Python's own."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trsm", "check", "shop.doors:Locks", *more],
            cwd=shop, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "what was found cannot be written: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("redirection", "code", "start"),
    [("2>&-", 1, b"Locks: 1 error"), ("2>&-", 2, b""), (">&-", 1, b"")],
)
def test_a_program_without_one_of_its_streams(shop: Path, redirection: str, code: int, start: bytes) -> None:
    """The exit code is the same, and what is for stderr never goes to stdout."""
    target = "shop.doors:Locks --allow auto-tie" if code == 1 else "shop.doors:Nope"
    line = f'"{sys.executable}" -m trsm check {target} {redirection}'
    done = subprocess.run(["sh", "-c", line], cwd=shop, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == code
    assert done.stdout.startswith(start) and bool(done.stdout) == bool(start)


def test_what_a_reader_does_not_take_is_dropped(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes after it, as Python does when it ends, gets no error."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert command.main(["check", "shop.doors:Locks"]) == 1
        stream.write("more")


@pytest.mark.parametrize("has_tqdm", [False, True])
def test_a_real_terminal_sees_progress_and_then_nothing_of_it(shop: Path, has_tqdm: bool) -> None:
    """A slow exploration; its findings are on stdout, which is none."""
    if has_tqdm:
        pytest.importorskip("tqdm")
    program = (
        "import sys, time, trsm.__main__ as command\n"
        f"if not {has_tqdm}: sys.modules['tqdm'] = None\n"
        "command.DELAY = 0\n"
        "check = command.check\n"
        "command.check = lambda *args, progress, **more: check(\n"
        "    *args, progress=lambda *counts: (time.sleep(0.1), progress(*counts)), **more)\n"
        "sys.exit(command.main(['check', 'shop.doors:Many']))\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen([sys.executable, "-c", program], cwd=shop, stdout=subprocess.PIPE, stderr=theirs) as child:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:
            pass  # Linux says so when nobody is at the other end any more
        out = child.stdout.read() if child.stdout is not None else b""
    os.close(ours)
    assert child.returncode == 0
    assert out.startswith(b"Many: nothing found; 847 reachable sets")
    assert b"Many: " in seen
    assert (b"sets that were found so far" in seen) is not has_tqdm
    assert not seen.replace(b"\x1b[A", b"").rpartition(b"\r")[2].strip()


class Strange(io.StringIO):
    """A stream that has no encoding, as an editor may set one up, and whose disk is full."""

    encoding = None  # type: ignore[assignment]

    def __init__(self, file: IO[str], error: OSError | None = None) -> None:
        super().__init__()
        self.file, self.error = file, error

    def fileno(self) -> int:
        return self.file.fileno()

    def flush(self) -> None:
        if self.error is not None:
            raise self.error


def test_streams_of_all_sorts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One without an encoding, one of which nobody reads more, one that is full, and none at all."""
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        out = Strange(file)
        monkeypatch.setattr(sys, "stdout", out)
        command._write("a → b")
        assert out.getvalue() == "a → b\n"
        monkeypatch.setattr(sys, "stdout", Strange(file, BrokenPipeError()))
        command._write("a → b")
        monkeypatch.setattr(sys, "stdout", Strange(file, OSError("No space left")))
        with pytest.raises(command.Unusable, match="what was found cannot be written: No space left"):
            command._write("a → b")
    monkeypatch.setattr(sys, "stderr", None)
    command._tell("to nobody")


def test_an_interrupt_while_the_module_is_imported(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no mistake of the module."""
    (shop / "interrupted.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    monkeypatch.chdir(shop)
    monkeypatch.syspath_prepend(str(shop))
    with pytest.raises(KeyboardInterrupt):
        command._imported("interrupted")


def test_ctrl_c_while_a_module_is_imported(shop: Path) -> None:
    """It ends the command in one line, also where trio puts it into a group."""
    (shop / "shop" / "slow.py").write_text(
        "import os, signal, trio\n\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        await trio.sleep_forever()\n\n"
        "trio.run(main)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "trsm", "check", "shop.slow:Door"],
        cwd=shop,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "python -m trsm check: interrupted; nothing is known\n"


def test_other_groups_of_a_module_are_no_interrupt(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are told as any error."""
    (shop / "shop" / "several.py").write_text("raise ExceptionGroup('several', [OSError(), ValueError()])\n")
    code, out, err = run(capsys, "shop.several:Door")
    assert (code, out) == (2, "")
    assert "importing shop.several raised ExceptionGroup: several (2 sub-exceptions) (" in err
