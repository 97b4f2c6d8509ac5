"""The command: ``python -m trsm check package.module:SchemaName``. It opens public doors only, as any program."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import os
import reprlib
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn, Protocol, cast

import trsm
from trsm import Schema, State
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


_SHOWN = reprlib.Repr()
"""Shows what is no schema, whatever it is: long ones in part."""
_SHOWN.maxother = _SHOWN.maxstring = 100


class Unusable(Exception):
    """What was asked for cannot be done; the message says what to write instead."""


# ---- Finding the schema ---------------------------------------------------------------------------------------------


def _close_to(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]}?" if match else ""


def _state_of(schema: type[Schema], option: str, name: str) -> State[..., object]:
    """Return the state that is named, with or without its schema."""
    names = [str(state) for state in schema]
    own = name.removeprefix(f"{schema.__name__}.")
    if own in names:
        return schema[own]
    listed = f": it has {', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
    raise Unusable(f"{option}: {schema.__name__} has no state {name!r}{_close_to(own, names) or listed}")


def _schemas_in(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if _is_schema(value)]


def _is_schema(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Schema) and value is not Schema


def load(target: str) -> type[Schema]:
    """Return the schema that ``module:Name`` names.

    Raises:
      Unusable: it names none.
    """
    module_name, colon, name = target.partition(":")
    is_file = module_name.endswith(".py") or "/" in module_name or os.sep in module_name
    if is_file and (Path(module_name).exists() or not _is_dotted(module_name)):
        raise Unusable(f"{target!r} names no schema: {_by_module(module_name, name.lstrip(':'))}")
    if not colon or not all(map(_is_dotted, (module_name, name))):
        raise Unusable(f"{target!r} names no schema: write package.module:SchemaName")
    module = _imported(module_name)
    value: object = module
    schemas = _schemas_in(module)
    listed = f"; schemas in {module_name}: {', '.join(schemas)}" if schemas else f"; {module_name} has no schema"
    for part in name.split("."):
        try:
            value = cast("object", getattr(value, part))
        except AttributeError:
            raise Unusable(f"{module_name} has no {name}{_close_to(name, schemas) or listed}") from None
        except Exception as error:  # a module may make what it has when it is asked for it
            raise Unusable(f"looking up {name} in {module_name} {_raised(error, module_name)}") from error
    if value is Schema:
        raise Unusable(f"{target} is the class that all schemas inherit from, and has no states of its own{listed}")
    if not _is_schema(value):
        raise Unusable(
            f"{target} is {_SHOWN.repr(value)}, and no schema: name a class that inherits from trsm.Schema{listed}"
        )
    return cast("type[Schema]", value)


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _by_module(file: str, name: str) -> str:
    """Return what to write for a schema in a file, and in which directory."""
    path = Path(file)
    root = path.parent
    if path.exists():
        root = path.resolve().parent
        while (root / "__init__.py").exists():
            root = root.parent
        path = path.resolve().relative_to(root)
        root = Path(os.path.relpath(root))
    else:
        root, path = Path(), Path(*(part for part in path.parts if part not in (path.anchor, "..")))
    dotted = ".".join(path.with_suffix("").parts)
    if not _is_dotted(dotted):
        return f"no module can be imported from {file}, since a name in an import is of letters, digits and _ only"
    where = "" if root == Path() else f", in the directory {root}"
    return f"a module is named as in an import: {dotted}:{name or 'SchemaName'}{where}"


def _imported(name: str) -> ModuleType:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of what we print
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise Unusable(f"importing {name} {_raised(error, name)}") from error
        raise Unusable(
            f"there is no module {error.name!r}: run this in the directory from which it can be imported, or install it"
        ) from error
    except SystemExit as error:
        how = "" if error.code is None else f", with {error.code!r}"
        raise Unusable(
            f"importing {name} ends the program{how}{_place(error, name)}: put what it runs under "
            'if __name__ == "__main__":'
        ) from error
    except BaseException as error:  # pytest's skip is no Exception, and a module of tests may have one
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        raise Unusable(f"importing {name} {_raised(error, name)}") from error


def _is_interrupt(error: BaseException) -> bool:
    """Return whether that is Ctrl-C, also where it comes out of a nursery, with what else came out then."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_interrupt, cast("BaseExceptionGroup[BaseException]", error).exceptions))
    return isinstance(error, KeyboardInterrupt)


def _raised(error: BaseException, name: str) -> str:
    return f"raised {type(error).__name__}: {error}{_place(error, name)}"


def _place(error: BaseException, name: str) -> str:
    """Return the innermost line of the user's own that an error came through.

    That is one of the package that was asked for, or else one that is neither trsm's nor Python's, nor installed.
    """
    package = name.partition(".")[0]
    paths = sysconfig.get_paths()
    foreign = (trsm.__path__[0], *(paths[one] for one in ("stdlib", "platstdlib", "purelib", "platlib")))
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        is_own = str(frame.f_globals.get("__name__")).partition(".")[0] == package
        if not file.startswith("<") and (is_own or not file.startswith(tuple(f"{one}{os.sep}" for one in foreign))):
            place = f" ({file}:{line})"
    return place


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


class _Parser(argparse.ArgumentParser):
    """Tells bad usage as data too, if data was asked for."""

    is_json = False

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and exit."""
        if self.is_json:
            with contextlib.suppress(Unusable):  # nobody reads it
                _write(_json({"target": None, "error": message, "exit_code": UNUSABLE}))
        super().error(message)


def _parsers() -> tuple[_Parser, _Parser]:
    """Return the parser of the whole command line, and that of ``check``."""
    parser = _Parser(prog="python -m trsm", description="Tools for schemas of trsm.")
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
        help="a state that nobody adds, though it may come by itself or be brought; may be given several times",
    )
    checking.add_argument(
        "--limit", type=int, default=50_000, metavar="N", help="refuse more reachable sets than this; default 50000"
    )
    checking.add_argument(
        "--no-progress", action="store_true", help="show no progress, which only terminals get anyway"
    )
    return parser, checking


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what stands on the command line; of what ``check`` does not know, its own usage is told."""
    parser, checking = _parsers()
    parser.is_json = checking.is_json = "--json" in (sys.argv if arguments is None else arguments)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        checking.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _allowed(schema: type[Schema], given: Sequence[str]) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for one in given:
        kind, colon, state = one.partition(":")
        if kind not in KINDS:
            known = _close_to(kind, KINDS) or f": write one of {', '.join(KINDS)}"
            raise Unusable(f"--allow {one}: there is no finding {kind!r}{known}")
        found.append((kind, str(_state_of(schema, f"--allow {one}", state)) if colon else None))
    return found


def _checked(options: argparse.Namespace) -> int:
    target = cast("str", options.target)
    schema = load(target)
    allowed = _allowed(schema, cast("list[str]", options.allow))
    without = [_state_of(schema, f"--without {name}", name) for name in cast("list[str]", options.without)]
    if options.limit < 1:
        raise Unusable(f"--limit {options.limit}: write how many sets may be reachable, 1 or more")
    try:
        with _progress(schema.__name__, not options.no_progress) as progress:
            findings = check(schema, limit=options.limit, without=without, progress=progress)
    except TooManySets as error:
        what, _, *parts = str(error).splitlines()
        advice = (
            "  pass a higher --limit N, if time and memory allow, or leave out states that nobody should add, such as "
            "error states: --without STATE"
        )
        raise Unusable("\n".join([what, advice, *parts])) from error

    used: set[tuple[str, str | None]] = set()

    def is_known(finding: Finding) -> bool:
        first = str(finding.states[0]) if finding.states else None
        matching = {(finding.kind, None), (finding.kind, first)} & set(allowed)
        used.update(matching)
        return bool(matching)

    rest = findings.without(is_known)
    for kind, state in dict.fromkeys(allowed):
        if (kind, state) not in used:
            there = dict.fromkeys(f"{kind}:{one.states[0]}" for one in findings if one.kind == kind and one.states)
            named = f"; a finding goes by its first state: {', '.join(there)}" if there else ""
            _tell(f"--allow {kind}{'' if state is None else f':{state}'}: there is no such finding{named}")
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
    options = _options(arguments)
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
