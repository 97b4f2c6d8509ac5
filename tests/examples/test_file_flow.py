"""``examples/file_flow.py``, run as a process."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
import trio

from examples.running import EXAMPLES, Ended, program, run

README = EXAMPLES.parent / "README.md"
MIB = 1 << 20

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of Unix")
needs_permissions = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything"
)


def packed(path: Path) -> bytes:
    """Return what a file that the example wrote holds."""
    return gzip.decompress(path.read_bytes())


def assert_packed(ended: Ended, source: str, target: str, content: bytes, cwd: Path) -> None:
    """The target holds the content, and the line about it the right hash."""
    assert packed(cwd / target) == content
    assert f"{hashlib.sha256(content).hexdigest()}  {source} -> {target}" in ended.out.splitlines()


def names(directory: Path) -> list[str]:
    """Return all names in a directory, hidden ones too."""
    return sorted(os.listdir(directory))


@asynccontextmanager
async def fed(pipe: Path) -> AsyncIterator[BinaryIO]:
    """Open a pipe for writing as soon as somebody reads it."""
    file = await trio.to_thread.run_sync(lambda: pipe.open("wb", buffering=0), abandon_on_cancel=True)
    try:
        yield file
    finally:
        file.close()


async def feed(file: BinaryIO, data: bytes) -> None:
    """Write into a pipe; of more than it can hold, the reader has taken a part when this returns."""

    def write() -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]

    await trio.to_thread.run_sync(write, abandon_on_cancel=True)


def test_the_command_of_the_readme(tmp_path: Path) -> None:
    """One file is hashed and packed into a directory that is made for it."""
    ended = run("file_flow.py", README, cwd=tmp_path)
    assert_packed(ended, str(README), "packed/README.md.gz", README.read_bytes(), tmp_path)
    assert ended.out.endswith("\n1 packed, 0 failed, 0 left out\n")
    assert (ended.code, ended.err) == (0, "")
    assert names(tmp_path / "packed") == ["README.md.gz"]


def test_run_twice_replaces_what_it_wrote(tmp_path: Path) -> None:
    """A target that exists is replaced by the new one, complete."""
    (tmp_path / "file").write_bytes(b"old")
    assert run("file_flow.py", "file", cwd=tmp_path).code == 0
    (tmp_path / "file").write_bytes(b"new and longer")
    ended = run("file_flow.py", "file", cwd=tmp_path)
    assert_packed(ended, "file", "packed/file.gz", b"new and longer", tmp_path)
    assert ended.code == 0
    assert names(tmp_path / "packed") == ["file.gz"]


def test_gunzip_gives_the_file_its_name_back(tmp_path: Path) -> None:
    """The name in the header is that of the file, not that of the temporary one."""
    (tmp_path / "file.txt").write_bytes(b"text")
    run("file_flow.py", "file.txt", cwd=tmp_path)
    assert b"file.txt\0" in (tmp_path / "packed/file.txt.gz").read_bytes()
    assert b".part" not in (tmp_path / "packed/file.txt.gz").read_bytes()


def test_progress_of_a_large_file_is_shown(tmp_path: Path) -> None:
    """Each tenth that is done is told, in order, and 100 % is the line with the hash."""
    content = random.Random(1).randbytes(MIB) * 10 + b"the rest"
    (tmp_path / "large").write_bytes(content)
    ended = run("file_flow.py", "large", cwd=tmp_path)
    shown = [int(line.removeprefix("large: ").removesuffix(" %")) for line in ended.err.splitlines()]
    assert shown == sorted(set(shown))
    assert len(shown) >= 5
    assert set(shown) <= set(range(10, 100, 10))
    assert_packed(ended, "large", "packed/large.gz", content, tmp_path)


def test_many_files_with_one_job(tmp_path: Path) -> None:
    """With ``--jobs 1`` they are packed one after the other, in the order of the arguments; ``--into`` says where."""
    paths = [f"file{number}" for number in range(20)]
    for path in paths:
        (tmp_path / path).write_text(path)
    ended = run("file_flow.py", *paths, "--jobs", 1, "--into", "deep/down", cwd=tmp_path)
    assert [line.split()[1] for line in ended.out.splitlines()[:-1]] == paths
    assert names(tmp_path / "deep/down") == sorted(f"{path}.gz" for path in paths)
    assert ended.out.endswith("\n20 packed, 0 failed, 0 left out\n")


def test_more_files_than_a_queue_holds_by_default(tmp_path: Path) -> None:
    """The batch is given room for as many files as there are."""
    (tmp_path / "there").write_text("x")
    ended = run("file_flow.py", *(f"missing{number}" for number in range(1200)), "there", cwd=tmp_path)
    assert ended.out.endswith("1 packed, 1200 failed, 0 left out\n")


def test_missing_files_and_directories_fail_alone(tmp_path: Path) -> None:
    """Each ends as an error of its own that is told once; the others go on."""
    (tmp_path / "good").write_bytes(b"good")
    (tmp_path / "directory").mkdir()
    ended = run("file_flow.py", "missing", "directory", "good", cwd=tmp_path)
    assert_packed(ended, "good", "packed/good.gz", b"good", tmp_path)
    assert sorted(ended.err.splitlines()) == [
        "directory: [Errno 21] Is a directory: 'directory'",
        "missing: [Errno 2] No such file or directory: 'missing'",
    ]
    assert ended.out.endswith("\n1 packed, 2 failed, 0 left out\n")
    assert ended.code == 1
    assert names(tmp_path / "packed") == ["good.gz"]


@needs_permissions
def test_an_unreadable_file_fails_alone(tmp_path: Path) -> None:
    """That it may not be read is its own error."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "secret").chmod(0)
    (tmp_path / "good").write_bytes(b"good")
    ended = run("file_flow.py", "secret", "good", cwd=tmp_path)
    assert ended.err == "secret: [Errno 13] Permission denied: 'secret'\n"
    assert ended.out.endswith("\n1 packed, 1 failed, 0 left out\n")


@needs_permissions
def test_a_directory_that_may_not_be_written_into(tmp_path: Path) -> None:
    """Every file fails, with the reason, and there is no traceback."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "closed").mkdir(mode=0o500)
    ended = run("file_flow.py", "file", "--into", "closed", cwd=tmp_path)
    assert ended.err.startswith("file: [Errno 13] Permission denied: ")
    assert len(ended.err.splitlines()) == 1
    assert (ended.code, ended.out) == (1, "0 packed, 1 failed, 0 left out\n")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    """Every file fails, with the reason, and what stood there stays as it was."""
    (tmp_path / "file").write_bytes(b"x")
    ended = run("file_flow.py", "file", "--into", "file", cwd=tmp_path)
    assert ended.err == "file: [Errno 17] File exists: 'file'\n"
    assert (ended.code, ended.out) == (1, "0 packed, 1 failed, 0 left out\n")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_directory_where_the_target_should_be(tmp_path: Path) -> None:
    """The file fails when it is complete, and its temporary file is gone."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "packed/file.gz").mkdir(parents=True)
    ended = run("file_flow.py", "file", cwd=tmp_path)
    assert "file: [Errno 21] Is a directory" in ended.err
    assert ended.code == 1
    assert names(tmp_path / "packed") == ["file.gz"]


def test_files_of_one_name_get_targets_of_their_own(tmp_path: Path) -> None:
    """Neither is lost, nor is one whose own name is what the second would have got."""
    for path in ("a/same", "b/same", "c/same", "d/same-2"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(path)
    ended = run("file_flow.py", "a/same", "b/same", "c/same", "d/same-2", cwd=tmp_path)
    targets = ["same.gz", "same-2.gz", "same-2-2.gz", "same-2-2-2.gz"]
    assert names(tmp_path / "packed") == sorted(targets)
    assert [packed(tmp_path / "packed" / target) for target in targets] == [
        b"a/same",
        b"b/same",
        b"c/same",
        b"d/same-2",
    ]
    assert ended.code == 0


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    """A target that would be one of the files, by whatever path, gets another name."""
    (tmp_path / "data").write_bytes(b"data")
    (tmp_path / "data.gz").write_bytes(b"precious")
    (tmp_path / "here").mkdir()
    ended = run("file_flow.py", "data", "here/../data.gz", "--into", ".", cwd=tmp_path)
    assert ended.code == 0
    assert (tmp_path / "data.gz").read_bytes() == b"precious"
    assert packed(tmp_path / "data-2.gz") == b"data"
    assert packed(tmp_path / "data.gz.gz") == b"precious"


def test_an_empty_file(tmp_path: Path) -> None:
    """It is packed as any other."""
    (tmp_path / "empty").touch()
    ended = run("file_flow.py", "empty", cwd=tmp_path)
    assert_packed(ended, "empty", "packed/empty.gz", b"", tmp_path)
    assert (ended.code, ended.err) == (0, "")


def test_names_beyond_ascii(tmp_path: Path) -> None:
    """They are packed, and printed as they are."""
    name = "Grüße – 日本 🦆.txt"
    (tmp_path / name).write_bytes(b"x")
    ended = run("file_flow.py", name, cwd=tmp_path)
    assert_packed(ended, name, f"packed/{name}.gz", b"x", tmp_path)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names have to be text")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A file whose name is no UTF-8 is packed too, and what cannot be printed of it is escaped."""
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).write_bytes(b"x")
    ended = run("file_flow.py", name, cwd=tmp_path)
    assert "caf" in ended.out
    assert (ended.code, ended.err) == (0, "")
    assert packed(tmp_path / "packed" / f"{name}.gz") == b"x"


@needs_pipes
async def test_several_at_once_but_no_more_than_jobs(tmp_path: Path) -> None:
    """Of three pipes two are read at the same time; the third one's turn comes when one of them has ended."""
    for name in ("one", "two", "three"):
        os.mkfifo(tmp_path / name)
    async with program("file_flow.py", "one", "two", "three", "--jobs", 2, cwd=tmp_path) as flow:
        async with fed(tmp_path / "one") as one, fed(tmp_path / "two") as two:
            await feed(one, b"1" * MIB)
            await feed(two, b"2" * MIB)
            with pytest.raises(OSError, match="No such device"):  # nobody reads it
                os.open(tmp_path / "three", os.O_WRONLY | os.O_NONBLOCK)
            two.close()
            await flow.out.until("two -> packed/two.gz")
            async with fed(tmp_path / "three") as three:
                await feed(three, b"3")
            await flow.out.until("three -> packed/three.gz")
        ended = await flow.ended()
    assert_packed(ended, "one", "packed/one.gz", b"1" * MIB, tmp_path)
    assert ended.out.endswith("\n3 packed, 0 failed, 0 left out\n")


@needs_pipes
async def test_ctrl_c_in_the_middle_of_a_file_finishes_it_and_begins_no_other(tmp_path: Path) -> None:
    """The first Ctrl-C drains: the file in work is completed, what waited is left out, nothing half-written stays."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "waits").write_bytes(b"x")
    async with program("file_flow.py", "pipe", "waits", "missing", "--jobs", 1, cwd=tmp_path) as flow:
        async with fed(tmp_path / "pipe") as pipe:
            await feed(pipe, b"a" * MIB)
            (part,) = names(tmp_path / "packed")
            assert part.startswith(".pipe.gz.")
            assert part.endswith(".part")
            flow.interrupt()
            await flow.err.until("draining")
            assert names(tmp_path / "packed") == [part]
            await feed(pipe, b"b" * MIB)
        ended = await flow.ended()
    assert_packed(ended, "pipe", "packed/pipe.gz", b"a" * MIB + b"b" * MIB, tmp_path)
    assert ended.out.endswith("\n1 packed, 0 failed, 2 left out\n")
    assert ended.err == "draining: files in work are finished; Ctrl-C again stops them\n"
    assert ended.code == 1
    assert names(tmp_path / "packed") == ["pipe.gz"]


@needs_pipes
async def test_second_ctrl_c_stops_in_the_middle_of_files_and_leaves_nothing_of_them(tmp_path: Path) -> None:
    """Files that would never end are given up at once; what was complete stays, what was begun is gone."""
    os.mkfifo(tmp_path / "endless")
    os.mkfifo(tmp_path / "silent")
    (tmp_path / "good").write_bytes(b"good")
    async with program("file_flow.py", "good", "silent", "endless", "--jobs", 3, cwd=tmp_path) as flow:
        await flow.out.until("good -> packed/good.gz")
        async with fed(tmp_path / "endless") as endless:  # nobody ever writes into the other one
            await feed(endless, b"a" * MIB)
            assert len(names(tmp_path / "packed")) == 2
            flow.interrupt()
            await flow.err.until("draining")
            flow.interrupt()
            ended = await flow.ended()  # while the pipe is still open
    assert ended.out.endswith("\n1 packed, 0 failed, 2 left out\n")
    assert "Traceback" not in ended.err
    assert ended.code == 1
    assert names(tmp_path / "packed") == ["good.gz"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["PATH"]),
        (["file", "--jobs", "0"], ["--jobs 0", "at least one"]),
        (["file", "--jobs", "many"], ["--jobs", "many"]),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """They are refused in one line, and nothing is written."""
    run("file_flow.py", *arguments, cwd=tmp_path).assert_refused(*words)
    assert names(tmp_path) == []
