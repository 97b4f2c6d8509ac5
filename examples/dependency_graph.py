"""A build graph: what a target requires comes first, what is independent runs side by side, a failure stops the rest.

    python examples/dependency_graph.py [FILE]

FILE holds lines such as ``program: parser lexer = cc -o program parser.o lexer.o``: a target, what it requires, and the
command that makes it. Without FILE a small graph is built, with commands that need nothing but Python.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import attrs
import trio

import trsm
from trsm import ErrorState, Schema, State

SAY = f"{shlex.quote(sys.executable)} -c 'import sys; print(*sys.argv[1:])'"
BUILT_IN = f"""
    lexer:                = {SAY} make lexer
    parser: lexer         = {SAY} make parser
    docs:                 = {SAY} make docs
    program: parser lexer = {SAY} link program
    release: program docs = {SAY} pack release
"""


@attrs.frozen
class Target:
    name: str
    requires: tuple[str, ...]
    command: str


def parsed(text: str) -> list[Target]:
    targets: list[Target] = []
    for line in text.splitlines():
        if line.strip() and not line.strip().startswith("#"):
            head, equals, command = line.partition("=")
            name, colon, requires = head.partition(":")
            if not (equals and colon):
                sys.exit(f"{line.strip()!r} is no rule: write TARGET: REQUIRED… = COMMAND")
            targets.append(Target(name.strip(), tuple(requires.split()), command.strip()))
    return targets


def schema_of(targets: list[Target]) -> trsm.SchemaMeta:
    """Make two states of each target: it is being made, and it is there.

    ``Make…`` is auto: it comes by itself as soon as all that it requires is there. Once made, it is put out for good.
    """
    states: dict[str, State[..., object]] = {}
    for target in targets:
        made = f"made_{target.name}"
        states[f"make_{target.name}"] = State(
            auto=True, require=["Started", *(f"made_{one}" for one in target.requires)]
        )
        states[made] = State(remove=f"make_{target.name}")
    makes = [name for name in states if name.startswith("make_")]
    mades = [name for name in states if name.startswith("made_")]
    states["Started"] = State()
    states["AllMade"] = State(auto=True, require=mades)
    states["Failed"] = ErrorState(catches=(subprocess.CalledProcessError, OSError), remove=makes)
    return Schema.define("Build", states)


def maker(build: trsm.SchemaMeta, target: Target) -> object:
    """Return the task that makes one target; when it returns, the target is there, and others may follow."""

    @build[f"make_{target.name}"].task(then=build[f"made_{target.name}"])
    async def make(t: trsm.Transition) -> None:
        await trio.run_process(shlex.split(target.command))

    return make


async def main(targets: list[Target]) -> int:
    build = schema_of(targets)
    async with trsm.open_machine(build, *(maker(build, target) for target in targets), id="build") as machine:
        failure = machine.when_error()
        machine.add(build["Started"])
        await (machine.when(build["AllMade"]) | failure)
        made = [target.name for target in targets if machine.is_active(build[f"made_{target.name}"])]
        print(f"made: {' '.join(made) or 'nothing'}")
        if failure.done:
            print(f"failed: {await failure}", file=sys.stderr)
            for target in targets:
                if target.name not in made:
                    print(machine.explain("add", build[f"make_{target.name}"]), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    os.environ["PYTHONUNBUFFERED"] = "1"
    sys.exit(trio.run(main, parsed(Path(sys.argv[1]).read_text() if sys.argv[1:] else BUILT_IN)))
