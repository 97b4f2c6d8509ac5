"""The command: ``python -m trsm check package.module:SchemaName``. It opens public doors only, as any program."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import trsm
from trsm import Schema
from trsm.testing import Finding, Findings, TooManySets, check

CLEAN, FOUND, UNUSABLE, BROKEN, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes. A shell knows the last as that of a program that was interrupted; argparse has the third for bad usage.

That of a fault of trsm itself is none that Python would choose: 1 would read as findings.
"""

KINDS: tuple[str, ...] = Findings.KINDS
DESCRIPTION = """\
Look for what can hardly be meant in a schema: states that never come or never leave, requirements that
contradict each other, ties between auto states that only the order of declaration decides, sets from which
nothing goes on, and automatic rounds that are not done after one.

All sets of states are looked at that can be reached by adding and removing one state at a time; nothing is
sampled. Handlers are not called. The module is imported from the current directory, or wherever Python finds it."""
EPILOG = f"""\
exit codes:
  0    nothing was found, apart from what is allowed
  1    something was found
  2    it could not be looked at: bad usage, no such module or schema, or more sets than --limit
  3    trsm itself failed, which is a mistake in it; nothing is known
  130  interrupted

findings: {", ".join(KINDS)}

example:
  python -m trsm check shop.orders:Order --allow never-leaves:Log
"""
DELAY = 0.5
"""Seconds after which progress is shown."""


class Unusable(Exception):
    """What was asked for cannot be done; the message says what to write instead."""


# ---- Finding the schema ---------------------------------------------------------------------------------------------


def _close_to(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else ""


def _schemas_in(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if _is_schema(value) and value is not Schema]


def _is_schema(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Schema)


def load(target: str) -> type[Schema]:
    """Return the schema that ``module:Name`` names.

    Raises:
      Unusable: it names none.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *name.split("."))):
        hint = ""
        if module_name.endswith(".py") or "/" in module_name:
            dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
            hint = f"; a module is named as in an import: {dotted}:{name or 'SchemaName'}"
        raise Unusable(f"{target!r} names no schema: write package.module:SchemaName{hint}")
    module = _imported(module_name)
    value: object = module
    for part in name.split("."):
        if not hasattr(value, part):
            schemas = _schemas_in(module)
            there = f"; its schemas: {', '.join(schemas)}" if schemas else "; it has no schema"
            raise Unusable(f"{module_name} has no {name}{_close_to(name, schemas) or there}")
        value = cast("object", getattr(value, part))
    if not _is_schema(value):
        schemas = _schemas_in(module)
        there = f"; schemas in {module_name}: {', '.join(schemas)}" if schemas else ""
        raise Unusable(f"{target} is {value!r}, and no schema: name a class that inherits from trsm.Schema{there}")
    return cast("type[Schema]", value)


def _imported(name: str) -> ModuleType:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of what we print
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise Unusable(_failed(name, error)) from error
        raise Unusable(
            f"there is no module {error.name!r}: run this in the directory from which it can be imported, or install it"
        ) from error
    except SystemExit as error:
        raise Unusable(
            f'importing {name} ends the program: put what it runs under if __name__ == "__main__":'
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest's skip is no Exception, and a module of tests may have one
        raise Unusable(_failed(name, error)) from error


def _failed(name: str, error: BaseException) -> str:
    """Return what an import raised, and the innermost line that is neither trsm's nor that of Python's import."""
    home = str(Path(trsm.__file__).parent)
    places = [
        f" ({frame.filename}:{frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen ", home, importlib.__file__))
    ]
    return f"importing {name} raised {type(error).__name__}: {error}{places[-1] if places else ''}"


# ---- Progress -------------------------------------------------------------------------------------------------------


class _Bar(Protocol):
    """What is used of `tqdm.tqdm`."""

    n: int
    total: int

    def update(self, n: int) -> object: ...  # a protocol's method has no body to run

    def close(self) -> object: ...  # a protocol's method has no body to run


@contextlib.contextmanager
def _progress(name: str, is_shown: bool) -> Generator[Callable[[int, int], None] | None]:
    """Show how far an exploration is, on stderr, where that is a terminal; None where it is not."""
    if not is_shown or not _is_terminal():
        yield None
        return
    try:
        make = cast("Callable[..., _Bar]", importlib.import_module("tqdm").tqdm)
    except ModuleNotFoundError:
        line = _Line(name)
        try:
            yield line.show
        finally:
            line.clear()
        return
    bar = make(desc=name, unit=" sets", total=0, file=sys.stderr, delay=DELAY, leave=False)

    def show(done: int, found: int) -> None:
        bar.total = found
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        bar.close()


def _is_terminal() -> bool:
    return cast("object", sys.stderr) is not None and sys.stderr.isatty()  # it is None where a program has none


class _Line:
    """A line that is written over and over, where tqdm is not installed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.due = time.monotonic() + DELAY
        self.width = 0

    def show(self, done: int, found: int) -> None:
        now = time.monotonic()
        if now >= self.due:
            self.due = now + 0.1
            self.write(f"{self.name}: {done:,} of {found:,} sets that were found so far")

    def clear(self) -> None:
        if self.width:
            self.write("")
            sys.stderr.write("\r")

    def write(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self.width))
        sys.stderr.flush()
        self.width = max(self.width, len(text))


# ---- The command ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trsm", description="Tools for schemas of trsm.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    checking = commands.add_parser(
        "check",
        help="look for what can hardly be meant in a schema",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    checking.add_argument("target", metavar="package.module:SchemaName", help="the schema")
    checking.add_argument("--json", action="store_true", help="print findings as JSON")
    checking.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="KIND[:STATE]",
        help="a finding that is known and meant, of one state or of any; may be given several times",
    )
    checking.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="STATE",
        help="a state that nobody adds; may be given several times",
    )
    checking.add_argument(
        "--limit", type=int, default=50_000, metavar="N", help="refuse more reachable sets than this; default 50000"
    )
    checking.add_argument(
        "--no-progress", action="store_true", help="show no progress, which only terminals get anyway"
    )
    return parser


def _allowed(schema: type[Schema], given: Sequence[str]) -> list[tuple[str, str | None]]:
    names = [str(state) for state in schema]
    found: list[tuple[str, str | None]] = []
    for one in given:
        kind, colon, state = one.partition(":")
        if kind not in KINDS:
            known = _close_to(kind, KINDS) or f": write one of {', '.join(KINDS)}"
            raise Unusable(f"--allow {one}: there is no finding {kind!r}{known}")
        if colon and state not in names:
            raise Unusable(f"--allow {one}: {schema.__name__} has no state {state!r}{_close_to(state, names)}")
        found.append((kind, state if colon else None))
    return found


def _checked(options: argparse.Namespace) -> int:
    target = cast("str", options.target)
    schema = load(target)
    allowed = _allowed(schema, cast("list[str]", options.allow))
    names = [str(state) for state in schema]
    for name in cast("list[str]", options.without):
        if name not in names:
            raise Unusable(f"--without {name}: {schema.__name__} has no state {name!r}{_close_to(name, names)}")
    if options.limit < 1:
        raise Unusable(f"--limit {options.limit}: write how many sets may be reachable, 1 or more")
    without = [schema[name] for name in cast("list[str]", options.without)]
    try:
        with _progress(schema.__name__, not options.no_progress) as progress:
            findings = check(schema, limit=options.limit, without=without, progress=progress)
    except TooManySets as error:
        raise Unusable(f"{error} (here: --limit N, --without STATE)") from error

    used: set[tuple[str, str | None]] = set()

    def is_known(finding: Finding) -> bool:
        first = str(finding.states[0]) if finding.states else None
        matching = {(finding.kind, None), (finding.kind, first)} & set(allowed)
        used.update(matching)
        return bool(matching)

    rest = findings.without(is_known)
    for kind, state in dict.fromkeys(allowed):
        if (kind, state) not in used:
            _tell(f"--allow {kind}{'' if state is None else f':{state}'}: there is no such finding")
    _print(target, findings, rest, as_json=options.json)
    return FOUND if rest else CLEAN


def _print(target: str, findings: Findings, rest: Findings, *, as_json: bool) -> None:
    known = len(findings) - len(rest)
    if as_json:
        _write(_json({"target": target, **rest.to_dict(), "allowed": known}))
    else:
        _write(f"{rest}\n\n{known} allowed and not shown" if known else str(rest))


def _json(data: dict[str, object]) -> str:
    return json.dumps(data, indent=2)  # in ASCII, which every stream can take


def _write(text: str) -> None:
    """Write to stdout, whatever its encoding.

    Raises:
      Unusable: it takes no more, and not because who reads it has seen enough.
    """
    encoding: object = getattr(sys.stdout, "encoding", None)
    if isinstance(encoding, str):
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, flush=True)
    except OSError as error:
        # Python would complain of what is left when it flushes at its end, with an exit code of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # as `head` does
            raise Unusable(f"what was found cannot be written: {error}") from error


def _tell(text: str) -> None:
    """Write to stderr, if there is one and somebody reads it: an exit code does not depend on that."""
    if cast("object", sys.stderr) is not None:  # else `print` would take stdout
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code.

    Args:
      arguments: what stands after ``python -m trsm``. Default: what this program was called with.
    """
    options = _parser().parse_args(arguments)
    try:
        return _checked(options)
    except Unusable as error:
        return _failure(options, UNUSABLE, str(error))
    except KeyboardInterrupt:
        return _failure(options, INTERRUPTED, "interrupted; nothing is known")
    except Exception as error:
        _tell(traceback.format_exc())
        return _failure(
            options,
            BROKEN,
            f"trsm itself failed, and nothing is known; please report this: {type(error).__name__}: {error}",
        )


def _failure(options: argparse.Namespace, code: int, message: str) -> int:
    """Say why nothing is known, as data too if data was asked for, and return the exit code."""
    _tell(f"python -m trsm check: {message}")
    if options.json:
        with contextlib.suppress(Unusable):  # stdout is what failed, then
            _write(_json({"target": options.target, "error": message, "exit_code": code}))
    return code


if __name__ == "__main__":  # pragma: no cover: so it is only in a process of its own, as a test runs it
    sys.exit(main())
