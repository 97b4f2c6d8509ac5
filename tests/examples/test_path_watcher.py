"""``examples/path_watcher.py``, run as a process on real directories."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trsm
from examples.running import ENVIRONMENT, EXAMPLES, Ended, Program, program, run

EXAMPLE = "path_watcher.py"
spec = importlib.util.spec_from_file_location("path_watcher", EXAMPLES / EXAMPLE)
assert spec is not None
assert spec.loader is not None
path_watcher = importlib.util.module_from_spec(spec)
spec.loader.exec_module(path_watcher)
Directory = path_watcher.Directory


async def told(running: Program, root: Path, *names: str) -> None:
    """Wait until all of these names were told, in one line or, on a machine that is slow, in several."""
    missing = set(names)
    while missing:
        line = await running.out.until(f"{root}: ")
        missing -= set(line.removeprefix(f"{root}: ").split(", "))


async def test_changes_are_told(tmp_path: Path) -> None:
    """New, changed and removed files, those in subdirectories too; then Ctrl-C ends it."""
    (tmp_path / "old").write_text("1")
    (tmp_path / "sub").mkdir()
    async with program(EXAMPLE, "--poll", tmp_path, cwd=tmp_path) as running:
        await running.out.until(f"watching {tmp_path}")
        (tmp_path / "new").write_text("2")
        (tmp_path / "sub" / "deep").write_text("3")
        (tmp_path / "old").unlink()
        await told(running, tmp_path, "new", "old (gone)", "sub/deep")
        (tmp_path / "new").write_text("longer")
        await told(running, tmp_path, "new")
        running.interrupt()
        ended = await running.ended()
    assert (ended.code, ended.err) == (0, "")


async def test_changes_in_quick_succession(
    tmp_path: Path, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are told in one line, once it has been quiet; what comes after that is told for itself."""
    (tmp_path / "one").touch()

    class Told(path_watcher.Handlers):
        async def watch(self, t: trsm.Transition) -> None:  # a task of Watching, as what it overrides
            for name, pause in (("one", 0.2), ("two", 0.29), ("one", 0.2), ("three", 0.31), ("four", 10)):
                t.machine.add(Directory.Changed(names=frozenset({name})))
                await trio.sleep(pause)

    async with trsm.open_machine(Directory, Told(tmp_path, None)) as machine:
        machine.add(Directory.Watching)
        await machine.when_next(Directory.Settled)
        assert trio.current_time() == pytest.approx(0.99)
        assert capsys.readouterr().out == f"{tmp_path}: one, three (gone), two (gone)\n"
        await machine.when_next(Directory.Settled)
        assert trio.current_time() == pytest.approx(1.3)
        assert capsys.readouterr().out == f"{tmp_path}: four (gone)\n"


async def test_directory_that_goes_away(tmp_path: Path) -> None:
    """It fails alone; the others are watched on, and the exit code tells of it."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    async with program(EXAMPLE, "--poll", one, two, cwd=tmp_path) as running:
        for _ in range(2):
            await running.out.until("watching")
        shutil.rmtree(one)
        assert "No such file" in await running.err.until(f"{one} is not watched any more")
        (two / "file").touch()
        await told(running, two, "file")
        running.interrupt()
        assert (await running.ended()).code == 1


async def test_all_directories_go_away(tmp_path: Path) -> None:
    """There is nothing left to watch: it ends by itself."""
    one = tmp_path / "one"
    one.mkdir()
    async with program(EXAMPLE, "--poll", one, cwd=tmp_path) as running:
        await running.out.until("watching")
        shutil.rmtree(one)
        ended = await running.ended()
    assert ended.code == 1
    assert "Traceback" not in ended.err


async def test_what_was_seen_but_not_told_when_it_ends(
    tmp_path: Path, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told at the end; and there is no empty line where nothing was seen."""

    class Restless(path_watcher.Handlers):
        async def watch(self, t: trsm.Transition) -> None:  # a task of Watching, as what it overrides
            while True:
                t.machine.add(Directory.Changed(names=frozenset({"busy"})))
                await trio.sleep(0.2)

    async with trsm.open_machine(Directory, Restless(tmp_path, None)) as machine:
        machine.add(Directory.Watching)
        await trio.sleep(3)
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == f"{tmp_path}: busy (gone)\n"
    async with trsm.open_machine(Directory, Restless(tmp_path, None)) as machine:
        machine.add(Directory.Watching)
    assert capsys.readouterr().out == ""


PRETENDED = """
import time
import trio

print("imported", flush=True)

async def awatch(path, *, rust_timeout=600_000, yield_on_timeout=False, debounce, step):
    print("begun", flush=True)
    while True:
        # As the real one: its thread is not left behind when the task is cancelled.
        await trio.to_thread.run_sync(time.sleep, rust_timeout / 1000)
        if yield_on_timeout:
            yield set()
"""


async def test_ctrl_c_while_the_library_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is heeded soon, though the library's thread is waited for; and it is watching before it says so."""
    (tmp_path / "watchfiles.py").write_text(PRETENDED)
    ways = [str(tmp_path), ENVIRONMENT.get("PYTHONPATH", "")]
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.pathsep.join(filter(None, ways)))
    async with program(EXAMPLE, tmp_path, cwd=tmp_path) as running:
        await running.out.until("watching")
        running.interrupt()
        ended = await running.ended()
    assert ended == Ended(0, f"imported\nbegun\nwatching {tmp_path}\n", "")


@pytest.mark.skipif(importlib.util.find_spec("watchfiles") is None, reason="watchfiles is not installed")
async def test_ctrl_c_by_watchfiles(tmp_path: Path) -> None:
    """Nothing that happens once it says that it is watching is missed, and Ctrl-C leaves no traceback."""
    async with program(EXAMPLE, tmp_path, cwd=tmp_path) as running:
        await running.out.until("watching")
        (tmp_path / "file").touch()
        await told(running, tmp_path, "file")
        running.interrupt()
        ended = await running.ended()
    assert (ended.code, ended.err) == (0, "")


async def test_without_asking_for_polling(tmp_path: Path) -> None:
    """By watchfiles, where that is installed, or by polling: a change is told, sooner or later."""
    async with program(EXAMPLE, tmp_path, cwd=tmp_path) as running:
        await running.out.until("watching")

        async def touch() -> None:
            for number in range(200):
                (tmp_path / "file").write_text("x" * number)
                await trio.sleep(1)  # longer than it has to be quiet; the system may not have begun to tell yet

        async with trio.open_nursery() as nursery:
            nursery.start_soon(touch)
            await told(running, tmp_path, "file")
            nursery.cancel_scope.cancel()
        running.interrupt()
        ended = await running.ended()
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.skipif(importlib.util.find_spec("watchfiles") is None, reason="watchfiles is not installed")
async def test_directory_that_goes_away_by_watchfiles(tmp_path: Path) -> None:
    """The system tells of it too."""
    one = tmp_path / "one"
    one.mkdir()
    async with program(EXAMPLE, one, cwd=tmp_path) as running:
        await running.out.until("watching")
        await trio.sleep(1)
        shutil.rmtree(one)
        assert (await running.ended()).code == 1


def test_what_is_no_directory(tmp_path: Path) -> None:
    """It is refused in one line, before anything is watched."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nowhere"):
        ended = run(EXAMPLE, tmp_path, path, cwd=tmp_path)
        ended.assert_refused(f"{path} is no directory")
        assert ended.out == ""


def test_nothing_to_watch(tmp_path: Path) -> None:
    """It is refused in one line."""
    run(EXAMPLE, cwd=tmp_path).assert_refused("DIR")
