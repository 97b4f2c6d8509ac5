"""``examples/pipes.py``, run as a process."""

from __future__ import annotations

from pathlib import Path

from examples.running import run

RING = "refused: pipe(Light → Ringing) would close a ring: Light of 'panel' → Ringing of 'alarm' → Light of 'panel'"


def lines(*events: str, cwd: Path) -> list[str]:
    """Return what is printed for the events, without the start and the end."""
    ended = run("pipes.py", *events, cwd=cwd)
    assert ended.code == 0
    printed = ended.out.splitlines()
    assert printed[:2] == [RING, "    panel: +InService"]
    return [line.strip() for line in printed[2 : printed.index("the end:")]]


def test_what_is_carried(tmp_path: Path) -> None:
    """An open door rings the armed alarm, which lights the panel; arguments are carried too, and all is taken back."""
    assert lines("arm", "open", "close", "disarm", cwd=tmp_path) == [
        "arm:",
        "panel: +Lock",
        "alarm: +Armed",
        "open:",
        "alarm: the door was opened by Ann",
        "alarm: +DoorOpen",
        "panel: +Light",
        "alarm: +Ringing",
        "door: +Open",
        "close:",
        "panel: -Light",
        "alarm: -Ringing -DoorOpen",
        "door: -Open",
        "disarm:",
        "panel: -Lock",
        "alarm: -Armed",
        "<Pipe 'alarm' → 'panel': Ringing → Light, Armed → Lock> PipeStatistics(carried=4, refused=0, waiting=0)",
    ]


def test_what_is_refused_and_made_up_for(tmp_path: Path) -> None:
    """A panel out of service refuses, visibly, and catches up when it is back."""
    printed = lines("arm", "service", "open", "back", cwd=tmp_path)
    assert printed[printed.index("back:") + 1 :] == [
        "panel: +InService",
        "panel: +Light",
        "the panel refused add(Light):",
        "add(Light) is refused.",
        "Light cannot activate: it requires InService, which is inactive, and nothing in this mutation activates "
        "InService.",
        "<Pipe 'alarm' → 'panel': Ringing → Light, Armed → Lock> PipeStatistics(carried=2, refused=1, waiting=0)",
    ]


def test_without_arguments(tmp_path: Path) -> None:
    """It plays events that show all of it; a pipe that was cut carries nothing more, and is not caught up."""
    ended = run("pipes.py", cwd=tmp_path)
    assert ended.code == 0
    assert "add(Light) was refused" in ended.err
    assert ended.out.split("disarm:\n")[1].startswith("    alarm: -Ringing -Armed\nthe panel refused")
    assert "(closed)> PipeStatistics(carried=4, refused=1, waiting=0)" in ended.out
    assert lines("cut", "service", "back", "arm", cwd=tmp_path)[-2:] == [
        "alarm: +Armed",
        "<Pipe 'alarm' → 'panel': Ringing → Light, Armed → Lock (closed)> "
        "PipeStatistics(carried=0, refused=0, waiting=0)",
    ]


def test_an_unknown_event_is_refused_in_one_line_before_anything_happens(tmp_path: Path) -> None:
    """The message shows the word and names those that there are."""
    ended = run("pipes.py", "open", "slam", cwd=tmp_path)
    ended.assert_refused("'slam'", "open, close, arm, disarm, service, back or cut")
    assert ended.out == ""
