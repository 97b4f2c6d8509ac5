"""A build graph: what is required comes first, what is independent runs side by side, a failure stops what needs it.

    python examples/dependency_graph.py [FILE]

FILE holds lines such as ``program: parser lexer = cc -o program parser.o lexer.o``: a target, what it requires, and the
command that makes it (no shell). When a command fails, what requires its target is not made; the rest goes on. Without
FILE a small graph is built, with commands that need nothing but Python.
"""

from __future__ import annotations

import graphlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import attrs
import trio

import trsm
from trsm import Schema, State

SAY = shlex.join([sys.executable, "-c", r"import sys; sys.stdout.write(' '.join(sys.argv[1:]) + '\n')"])
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
    requires: list[str]
    command: list[str]


def parsed(text: str) -> dict[str, Target]:
    """Read the rules.

    Raises:
      ValueError: they cannot be followed, with a message that says why.
    """
    targets: dict[str, Target] = {}
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            head, _, command = line.partition("=")
            name, colon, requires = head.partition(":")
            if not (colon and command.strip()):
                raise ValueError(f"{line!r} is no rule: write TARGET: REQUIRED… = COMMAND")
            name = name.strip()
            if name in targets or not name.isidentifier():
                why = "has a rule already" if name in targets else "is no name: write letters, digits and _"
                raise ValueError(f"target {name!r} {why}")
            targets[name] = Target(name, requires.split(), shlex.split(command))
    for target in targets.values():
        for name in target.requires:
            if name not in targets:
                raise ValueError(f"{target.name} requires {name!r}, which has no rule")
    try:
        graphlib.TopologicalSorter({target.name: target.requires for target in targets.values()}).prepare()
    except graphlib.CycleError as error:
        raise ValueError(f"nothing can come first in a circle: {' requires '.join(reversed(error.args[1]))}") from None
    return targets


def schema_of(targets: dict[str, Target]) -> type[Schema]:
    """Make three states of each target: it is being made, it is there, or it could not be made.

    ``make_…`` is auto: it comes by itself as soon as all that it requires is there. How it ends puts it out for good.
    ``Over`` is auto too, and comes by itself once nothing is being made and nothing can be: whatever is removes it.
    """
    states: dict[str, State[[], None]] = {"Started": State()}
    for name, target in targets.items():
        required = ["Started", *(f"made_{one}" for one in target.requires)]
        states[f"make_{name}"] = State(auto=True, require=required, remove="Over")
        states[f"made_{name}"] = State(remove=f"make_{name}")
        states[f"failed_{name}"] = State(remove=f"make_{name}")
    states["Over"] = State(auto=True, require="Started")
    return Schema.define("Build", states)


def maker(build: type[Schema], target: Target) -> object:
    """Return the task that makes one target; when it returns, the target is there, and others may follow."""

    @build[f"make_{target.name}"].task(then=build[f"made_{target.name}"])
    async def make(t: trsm.Transition) -> None:
        try:
            await trio.run_process(target.command)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{target.name} failed: {error}", file=sys.stderr, flush=True)
            t.machine.add(build[f"failed_{target.name}"])  # make_… leaves, so that made_… does not come

    return make


async def main(targets: dict[str, Target]) -> int:
    build = schema_of(targets)
    async with trsm.open_machine(build, *(maker(build, target) for target in targets.values()), id="build") as machine:
        machine.add(build["Started"])
        await machine.when(build["Over"])
        made = [name for name in targets if machine.is_active(build[f"made_{name}"])]
        print(f"made: {' '.join(made) or 'nothing'}", flush=True)
        for name in targets:
            if name not in made and machine.is_inactive(build[f"failed_{name}"]):
                explanation = machine.explain("add", build[f"make_{name}"])
                print(explanation.text.splitlines()[1], file=sys.stderr)  # the first line says that, the second why
    return 0 if len(made) == len(targets) else 1


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(f"{shlex.join(sys.argv[1:])}: one file is enough; write none for the graph that is built in")
    try:
        rules = parsed(Path(sys.argv[1]).read_text(encoding="utf-8") if sys.argv[1:] else BUILT_IN)
    except (OSError, ValueError) as problem:  # a file that is no UTF-8 is a ValueError
        sys.exit(f"{sys.argv[1]}: {problem}")
    try:
        sys.exit(trio.run(main, rules))
    except* BrokenPipeError:
        os._exit(1)  # nobody reads any more, though Python would write the rest
