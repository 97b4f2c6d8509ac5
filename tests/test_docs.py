"""The documentation keeps up: every program on it runs, every public name is on it, every rule has its anchor."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest

import trsm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")])
REFERENCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.rst")))
PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
PROGRAMS = [
    pytest.param(found[1], found[2], id=f"{path.relative_to(DOCS)}:{number}")
    for path in PAGES
    for number, found in enumerate(PROGRAM.finditer(path.read_text(encoding="utf-8")), start=1)
]


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_each_program_on_a_page_prints_what_the_page_says(program: str, output: str | None, tmp_path: Path) -> None:
    """It runs as it stands there, with warnings as errors, and what it prints is the block after it."""
    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )
    assert (run.stderr, run.returncode) == ("", 0)
    assert run.stdout == output


def test_there_are_programs_to_run() -> None:
    """The pattern that finds them finds each python block: none hides in another form."""
    blocks = sum(
        len(re.findall(r"^ *`{3,}\{?(?:python|code-block)", path.read_text(encoding="utf-8"), re.M)) for path in PAGES
    )
    assert len(PROGRAMS) == blocks > 0  # those of the how-to are files, and test_how_to.py runs them


@pytest.mark.parametrize("name", trsm.__all__)
def test_each_public_name_is_in_the_reference(name: str) -> None:
    """It is documented on one page, once."""
    kind = "exception" if name in ERRORS else "function" if name.islower() else "class"
    assert re.findall(rf"^ *\.\. auto\w+:: {name}\b(?!\.)", REFERENCE, re.MULTILINE) == [f".. auto{kind}:: {name}"]


ERRORS = {
    name for name in trsm.__all__ if isinstance(value := getattr(trsm, name), type) and issubclass(value, Exception)
}


def public_members(value: type) -> set[str]:
    """Return the names of the public methods and properties of a class, inherited from trsm's classes or its own."""
    return {
        name
        for base in value.__mro__
        if base.__module__.startswith("trsm")
        for name, member in vars(base).items()
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod)))
    }


def test_each_member_of_a_machine_is_in_the_reference() -> None:
    """They stand there one by one, sorted by what they are for, so that a new one could be forgotten."""
    listed = re.findall(r"^\.\. auto(?:method|property):: Machine\.(\w+)", REFERENCE, re.MULTILINE)
    assert sorted(listed) == sorted(public_members(trsm.Machine))


def test_each_handler_decorator_of_a_state_is_in_the_reference() -> None:
    """What is left out of the class is listed after it."""
    (left_out,) = re.findall(r":exclude-members: (.*)", REFERENCE)
    listed = re.findall(r"^\.\. automethod:: State\.(\w+)", REFERENCE, re.MULTILINE)
    assert listed == left_out.split(", ")
    decorators = {name for name in public_members(trsm.State) if name.startswith(("can_", "on_"))} - {"on_timeout"}
    assert set(listed) == decorators | {"task"}


def test_each_member_of_a_schema_class_is_in_the_reference() -> None:
    """They belong to the type of schema classes, where autodoc does not look."""
    (block,) = re.findall(r"^\.\. autoclass:: Schema\(\)\n(.*?)^\S", REFERENCE, re.MULTILINE | re.DOTALL)
    listed = re.findall(r"^ +\.\. (?:auto|py:)(?:method|property):: (\w+)", block, re.MULTILINE)
    assert set(listed) == public_members(type(trsm.Schema))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in trsm.__all__
        if isinstance(getattr(trsm, name), type) and name not in {"Engine", "Machine", "Schema", "State", *ERRORS}
    ],
)
def test_each_member_of_another_class_is_in_the_reference(name: str) -> None:
    """What a class has beyond its bases is listed, or all of it by ``:members:``, or described in its docstring."""
    value = getattr(trsm, name)
    inherited = {
        member for base in value.__mro__[1:] if base.__name__ in trsm.__all__ for member in public_members(base)
    }
    own = public_members(value) | {field.name for field in getattr(value, "__attrs_attrs__", ()) if field.init}
    (block,) = re.findall(rf"^\.\. autoclass:: {name}\b(?!\.).*\n((?:(?: .*)?\n)*)", REFERENCE, re.MULTILINE)
    listed = set(re.findall(rf"^ *\.\. auto(?:method|property):: {name}\.(\w+)", REFERENCE, re.MULTILINE))
    described = set(re.findall(r"^  (\w+): ", inspect.getdoc(value) or "", re.MULTILINE))
    for members in re.findall(r":members:(.*)", block):
        listed |= set(members.replace(",", " ").split()) or own
    assert own - inherited <= listed | described


def test_an_engine_has_nothing_that_a_machine_does_not_have() -> None:
    """So that the reference of the one is that of the other."""
    assert public_members(trsm.Engine) < public_members(trsm.Machine)


def test_the_rules_of_the_design_page_are_numbered_without_a_gap() -> None:
    """Each rule has one anchor, which is its number; a rule that falls has to be named here."""
    text = (DOCS / "design.md").read_text(encoding="utf-8")
    rules = re.findall(r"^\[\*\*([A-Z])(\d+)\*\*\]\{#(\w+)\} ", text, re.MULTILINE)
    assert len(rules) == text.count("{#")
    for letter, number, anchor in rules:
        assert anchor == f"{letter.lower()}{number}"
    for letter in dict.fromkeys(letter for letter, _, _ in rules):
        numbers = [int(number) for one, number, _ in rules if one == letter]
        assert numbers == list(range(1, len(numbers) + 1)), letter


def test_the_order_of_the_documentation() -> None:
    """From why to the glossary; then what is for those who come from elsewhere."""
    (order,) = re.findall(
        r"```\{toctree\}\n:hidden:\n\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL
    )
    pages = [
        "why", "tutorial/index", "how-to/index", "testing", "checking", "reference/index",
        "design", "promises", "mutation-testing", "costs", "glossary",
    ]  # fmt: skip
    assert order.split() == [*pages, "coming-from-asyncmachine-go", "coming-from-transitions"]


def test_the_picture_is_text_for_both_themes() -> None:
    """It is drawn in text, has words for those who cannot see it, and colours for light and dark."""
    picture = (DOCS / "life-of-a-transition.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(picture)
    names = {child.tag.rpartition("}")[2] for child in root}
    assert {"title", "desc"} <= names
    assert "@media (prefers-color-scheme: dark)" in picture
    light, dark = picture.split("@media (prefers-color-scheme: dark)")
    styled = set(re.findall(r"^ +(\.?\w+) +\{ (?:fill: #|stroke: #|fill: none; stroke: #)", light, re.MULTILINE))
    assert styled <= set(re.findall(r"^ +(\.?\w+) +\{", dark, re.MULTILINE))
    assert len(styled) > 5


def documented() -> dict[str, str]:
    """Return the docstrings of all public names and of their members."""
    found: dict[str, str] = {}
    for name in trsm.__all__:
        value = getattr(trsm, name)
        found[name] = inspect.getdoc(value) or ""
        if isinstance(value, type):
            for member in public_members(value):
                found[f"{name}.{member}"] = inspect.getdoc(getattr(value, member)) or ""
    for member in public_members(type(trsm.Schema)):
        found[f"Schema.{member}"] = inspect.getdoc(getattr(type(trsm.Schema), member)) or ""
    return found


DOCSTRINGS = documented()
EXAMPLES = {name: text.partition("\nExample::\n")[2] for name, text in DOCSTRINGS.items() if "Example::" in text}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_each_example_in_a_docstring_is_python(name: str) -> None:
    """It stands at the end, and what it takes from trsm is there."""
    code = textwrap.dedent(EXAMPLES[name])
    tree = compile(code, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "trsm":
                assert node.attr in trsm.__all__
            elif node.value.id == "machine":
                assert node.attr in public_members(trsm.Machine)


def test_what_users_start_with_has_an_example() -> None:
    """A short one, in the docstring."""
    assert {"Schema", "State", "ErrorState", "open_machine", "Machine.add", "Machine.when", "State.task"} <= set(
        EXAMPLES
    )


@pytest.mark.parametrize("name", sorted(DOCSTRINGS))
def test_the_parts_of_a_docstring_come_in_the_order_of_the_house(name: str) -> None:
    """Checkpoints, cancellation, arguments, attributes, what is returned, what is raised, an example."""
    order = ["Checkpoints:", "Cancellation:", "Args:", "Attributes:", "Returns:", "Raises:", "Example::"]
    found = re.findall(rf"^({'|'.join(order)})", DOCSTRINGS[name], re.MULTILINE)
    assert found == sorted(found, key=order.index)
    assert len(found) == len(set(found))
