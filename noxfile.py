"""The one way to run anything: `nox` for all that has to pass, `nox -s NAME` for one session, `nox -l` for the list."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "no"
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")


def found(version: str) -> str | None:
    """Return where a Python of this version is, on the path or among pyenv's."""
    candidates = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    # pyenv's shims are on the path even where they lead nowhere, so its own directory is asked first.
    return str(candidates[-1]) if candidates else shutil.which(f"python{version}")


VERSIONS = nox.project.python_versions(PROJECT)  # those of the classifiers
PYTHONS = [path for version in VERSIONS if (path := found(version))]
if not PYTHONS:
    raise SystemExit(
        f"trsm is tested on Python {', '.join(VERSIONS)}, and none of them was found, on the path or among pyenv's; it "
        "may run on a later one, which nothing has proved: to try, add that one to the classifiers in pyproject.toml"
    )
OLDEST = PYTHONS[0]


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


def install_wheel(session: nox.Session) -> None:
    """Build the wheel and install it: what is tested is what is shipped."""
    session.install("build")
    into = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", into, ".", silent=True)
    (wheel,) = Path(into).glob("*.whl")
    session.install(str(wheel))


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=OLDEST)
def types(session: nox.Session) -> None:
    """Both type checkers in strict mode, and the typed claims about the public face."""
    session.install(*group("types"), "-e", ".")
    session.run("mypy", "-p", "trsm")
    session.run("mypy", "examples")
    session.run("basedpyright")
    session.run("basedpyright", "--verifytypes", "trsm", "--ignoreexternal")  # nothing unknown leaks out
    session.run("python", "tests/typing/check.py")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The suite, on the built wheel; on the oldest Python with branch coverage."""
    install_wheel(session)
    session.install(*group("tests"))
    coverage = ["--cov", "--cov-report=term"] if session.python == OLDEST else []
    session.run("pytest", "-q", "-n", "auto", *coverage, *session.posargs)


@nox.session(python=OLDEST)
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install(*group("docs"), ".[testing]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", f"{session.create_tmp()}/html")


@nox.session(python=OLDEST, default=False)
def exhaustive(session: nox.Session) -> None:
    """Every schema of three states: 15,625 schemas, 995,316 runs against the model."""
    install_wheel(session)
    session.install(*group("tests"))
    session.run("pytest", "-q", "-s", "--timeout=3600", "-o", "addopts=--import-mode=importlib", "tests/exhaustive")


@nox.session(python=OLDEST, default=False)
def fuzz(session: nox.Session) -> None:
    """The property tests, a hundred times as long."""
    install_wheel(session)
    session.install(*group("tests"))
    session.run("pytest", "-q", "--timeout=3600", "-k", "property or law or fuzz", env={"HYPOTHESIS_PROFILE": "long"})


@nox.session(python=OLDEST, default=False)
def bench(session: nox.Session) -> None:
    """What everything costs, beside other libraries and beside trio itself: a table, JSON and a plot."""
    xstate = Path(session.create_tmp()) / "xstate"
    session.run("python", "-m", "venv", str(xstate))
    session.run(str(xstate / "bin/pip"), "install", "-q", *group("bench-xstate"), external=True)
    install_wheel(session)
    session.install(*group("bench"))
    session.run("python", "benchmarks/run.py", "--xstate-python", str(xstate / "bin/python"), *session.posargs)


@nox.session(python=OLDEST, default=False)
def bench_compare(session: nox.Session) -> None:
    """The present tree beside a commit, to see a regression before it lands: nox -s bench_compare -- COMMIT."""
    if not session.posargs:
        session.error("name a commit: nox -s bench_compare -- HEAD~1")
    commit, *options = session.posargs
    there = Path(session.create_tmp()).resolve()
    tree, python = there / "tree", there / "venv/bin/python"
    shutil.rmtree(tree, ignore_errors=True)
    session.run("git", "worktree", "prune", external=True)
    session.run("git", "worktree", "add", "--detach", str(tree), commit, external=True)
    try:
        session.run("python", "-m", "venv", "--clear", str(there / "venv"))
        session.run(str(python), "-m", "pip", "install", "-q", str(tree), external=True)
        install_wheel(session)
        session.run("python", "benchmarks/compare.py", str(python), "--name", commit, *options)
    finally:
        session.run("git", "worktree", "remove", "--force", str(tree), external=True)


@nox.session(python=OLDEST, default=False)
def promises(session: nox.Session) -> None:
    """The promises of docs/promises.md, with the figures of the ordinary run: `-- --write-figures` keeps them."""
    install_wheel(session)
    session.install(*group("tests"))
    session.run("pytest", "-q", "-n", "auto", "-m", "promise", *session.posargs)


@nox.session(python=OLDEST, default=False)
def proof_long(session: nox.Session) -> None:
    """The promises with their long figures: within an hour on two cores."""
    install_wheel(session)
    session.install(*group("tests"))
    session.run(
        "pytest", "-q", "-n", "auto", "--dist", "worksteal", "-m", "promise", "--timeout=3600",
        "-o", "addopts=--strict-markers --strict-config --import-mode=importlib --ignore=tests/typing",
        *session.posargs,
        env={"TRSM_PROOF": "long"},
    )  # fmt: skip


@nox.session(python=OLDEST, default=False)
def planted(session: nox.Session) -> None:
    """A fault for each promise, planted in a copy of trsm, one at a time: the tests of the promise have to find it."""
    session.install(*group("tests"), ".")
    with session.chdir("tests"):
        session.run("python", "-m", "promises.planted", *session.posargs)


@nox.session(python=OLDEST, default=False)
def mutation(session: nox.Session) -> None:
    """Break the kernel in 200 small ways, and see that its tests notice; `-- 1200` takes most of an hour."""
    session.install(*group("mutation"), *PROJECT["project"]["dependencies"])  # not trsm: mutmut runs a copy of it
    session.run("python", "tests/mutants.py", *session.posargs)
