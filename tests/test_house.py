"""The house stands as DESIGN section 3 draws it: rings, doors, no circles; and what users enter is documented."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trsm

PACKAGE = Path(trsm.__file__).parent
MODULES = {
    ".".join(("trsm", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
KERNEL = "trsm._core"
COMMAND = "trsm.__main__"
THIRD_PARTIES = {"trio", "attrs", "outcome"}
NO_KERNEL_MODULES = {
    "asyncio",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "os",
    "io",
    "pathlib",
}


def ring(module: str) -> int:
    """Return the ring of a module: 0 kernel, 1 shell, 2 satellites, the command and the door."""
    if module in ("trsm", COMMAND):
        return 2
    if module.startswith(KERNEL):
        return 0
    return 1 if module.split(".")[1].startswith("_") else 2


def imports(module: str) -> Iterator[str]:
    """Iterate over all that a module imports, typing imports and those inside functions included."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base


@pytest.mark.parametrize("module", list(MODULES))
def test_imports_go_inward_only(module: str) -> None:
    """No module imports an outer ring, and none but the door itself imports the package root."""
    for imported in imports(module):
        if imported in MODULES:
            assert ring(imported) <= ring(module), f"{module} imports {imported}"
            assert imported != "trsm" or ring(module) == 2, f"{module} imports the package root"


@pytest.mark.parametrize("module", [name for name in MODULES if ring(name) == 2 and name != "trsm"])
def test_satellites_use_public_doors_only(module: str) -> None:
    """A satellite imports the package root and its own parts: nothing private, and no other satellite.

    The command opens the doors of satellites too.
    """
    mine = ".".join(module.split(".")[:2])
    for imported in imports(module):
        if imported in MODULES:
            is_door = module == COMMAND and ring(imported) == 2 and "._" not in imported
            assert imported == "trsm" or imported.startswith(mine) or is_door, f"{module} imports {imported}"


def defines(source: str, name: str) -> bool:
    """Return whether some class in a source has an attribute or a method of this name."""
    return re.search(rf"\bself\.{name}\b|\bdef {name}\(|^    {name}\b|\"{name}\"", source, re.MULTILINE) is not None


@pytest.mark.parametrize("module", [name for name in MODULES if ring(name) == 2 and name != "trsm"])
def test_satellites_look_into_nothing_that_is_not_theirs(module: str) -> None:
    """An attribute with a leading underscore is one of theirs, and not one that machines, states or schemas have too.

    What is private to trio is isolated in one module, which has a test of its own.
    """
    if module == "trsm.testing._seeding":
        return
    mine = ".".join(module.split(".")[:2])
    own = "\n".join(path.read_text() for name, path in MODULES.items() if name.startswith(mine))
    inner = "\n".join(path.read_text() for name, path in MODULES.items() if ring(name) < 2)
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if not isinstance(node, ast.Attribute) or not re.fullmatch(r"_[a-z]\w*", node.attr):
            continue
        if not isinstance(node.value, ast.Name) or node.value.id not in {"self", "cls", "sys"}:
            where = f"{module}:{node.lineno} looks into {ast.unparse(node)}"
            assert defines(own, node.attr), where
            assert not defines(inner, node.attr), f"{where}, which an inner ring has too"


@pytest.mark.parametrize("module", [name for name in MODULES if ring(name) == 0])
def test_the_kernel_knows_neither_trio_nor_input_and_output(module: str) -> None:
    """It imports the standard library and attrs; ``get_ident`` is all it needs of threads."""
    for imported in imports(module):
        top = imported.split(".")[0]
        assert top in {"trsm", "attrs"} or top in sys.stdlib_module_names, f"{module} imports {imported}"
        if imported == "threading":
            assert "from threading import get_ident\n" in MODULES[module].read_text()
        else:
            assert top not in NO_KERNEL_MODULES, f"{module} imports {imported}"


@pytest.mark.parametrize("module", [name for name in MODULES if ring(name) == 1 or name == "trsm"])
def test_the_shell_needs_trio_attrs_and_outcome_alone(module: str) -> None:
    """`import trsm` works with the three packages that it declares."""
    for imported in imports(module):
        top = imported.split(".")[0]
        assert top in {"trsm", *THIRD_PARTIES} or top in sys.stdlib_module_names, f"{module} imports {imported}"


def test_there_is_no_circle_of_imports() -> None:
    """Typing imports included."""
    graph = {
        module: {imported for imported in imports(module) if imported in MODULES and imported != module}
        for module in MODULES
    }
    while True:
        leaves = {module for module, needed in graph.items() if not needed}
        if not leaves:
            break
        graph = {module: needed - leaves for module, needed in graph.items() if module not in leaves}
    assert not graph, f"circles among {sorted(graph)}"


@pytest.mark.parametrize("module", list(MODULES))
def test_each_module_loads_by_itself(module: str) -> None:
    """No module depends on another having been imported before."""
    if module.endswith("__main__"):
        pytest.skip("it runs when it is imported")
    code = (
        f"import sys, types; sys.modules['trsm'] = root = types.ModuleType('trsm'); root.__path__ = [{str(PACKAGE)!r}]"
    )
    if ring(module) == 2:
        code = "pass"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}; import {module}"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_importing_the_kernel_does_not_import_trio() -> None:
    """The engine works with no event loop, and without the library that brings one."""
    code = (
        "import sys, types; root = sys.modules['trsm'] = types.ModuleType('trsm')\n"
        f"root.__path__ = [{str(PACKAGE)!r}]\n"
        "sys.modules['trio'] = None\n"
        "from trsm._core._engine import Engine\n"
        "from trsm._core._schema import Schema\n"
        "from trsm._core._state import State\n"
        "engine = Engine(Schema.define('Door', {'Open': State()}))\n"
        "print(engine.add(engine.schema['Open']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "<Executed>\n", run.stderr


def test_each_public_name_has_one_door() -> None:
    """Every public name is exported in one place, sorted, and nothing else public lies about."""
    assert trsm.__all__ == sorted(trsm.__all__, key=str)
    assert len(set(trsm.__all__)) == len(trsm.__all__)
    assert set(trsm.__all__) <= set(dir(trsm))
    assert not hasattr(trsm, "Unheard")
    for name in trsm.__all__:
        getattr(trsm, name)  # some come when they are asked for
    loose = {
        name
        for name, value in vars(trsm).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert loose == set(trsm.__all__)


def test_public_names_say_that_they_live_at_the_door() -> None:
    """What a user sees in a traceback or a repr is the name to import: ``trsm.Machine``."""
    for name in trsm.__all__:
        value = getattr(trsm, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__ == "trsm", name


def test_what_few_programs_need_is_imported_when_it_is_asked_for() -> None:
    """It costs nothing before, is in ``dir()``, comes with ``from trsm import``, and a name that is none is refused."""
    code = (
        "import sys, trsm\n"
        "later = [f'trsm.{name}' for name in ('_pipes', '_retry', '_core._sets', '_core._reasons')]\n"
        "assert not [name for name in later if name in sys.modules]\n"
        "assert set(trsm.__all__) <= set(dir(trsm))\n"
        "from trsm import Consensus, Reason, pipe\n"
        "assert (trsm.pipe, trsm.Consensus) == (pipe, Consensus)\n"
        "assert trsm.Pipe.__module__ == trsm.retry.__module__ == 'trsm'\n"
        "assert not [name for name in later if name not in sys.modules]\n"
        "try:\n    trsm.Unheard\n"
        "except AttributeError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "module 'trsm' has no attribute 'Unheard'\n", run.stderr


def members(value: object) -> Iterator[tuple[str, object]]:
    """Iterate over the public methods and properties that a class defines."""
    for name, member in vars(value).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, (property, classmethod, staticmethod))):
            yield name, member


@pytest.mark.parametrize("name", trsm.__all__)
def test_each_public_name_and_member_is_documented(name: str) -> None:
    """A docstring of its own, whose first line is a sentence."""
    value = getattr(trsm, name)
    assert (inspect.getdoc(value) or "").split("\n")[0].endswith((".", ":")), name
    if inspect.isclass(value):
        for base in value.__mro__:
            if base.__module__.startswith("trsm"):
                for member_name, member in members(base):
                    first = (inspect.getdoc(member) or "").strip().split("\n\n")[0]
                    assert first.endswith((".", ":")), f"{name}.{member_name}"


def test_the_door_lists_all_that_it_opens() -> None:
    """What is imported late is there for those who look before they ask."""
    assert set(trsm.__all__) <= set(dir(trsm))
    with pytest.raises(AttributeError, match="module 'trsm' has no attribute 'Nothing'"):
        trsm.Nothing  # type: ignore[attr-defined]
