"""How the documentation is built: ``nox -s docs``, or ``sphinx-build -W --keep-going -b html docs OUT``."""

from __future__ import annotations

import pkgutil
import re

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import trsm

project = "trsm"
author = "the authors of trsm"
html_title = "trsm"
html_show_copyright = False

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
    "myst_parser",
    "sphinx_copybutton",
]
myst_enable_extensions = ["attrs_inline", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

default_role = "py:obj"  # `Machine.when` in a docstring is a link
add_module_names = False
autodoc_member_order = "bysource"
autodoc_type_aliases = {"Relation": "Relation"}
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["trsm.css"]
copybutton_prompt_text = r"^\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

rst_prolog = ".. currentmodule:: trsm"  # a docstring writes `Machine`, as it is read in the source

# Public names say that they live at the door, so autodoc looks there for the words under their fields.
WORDS_OF_FIELDS = {
    ".".join(where): words
    for module in pkgutil.walk_packages(trsm.__path__, "trsm.")
    for where, words in ModuleAnalyzer.for_module(module.name).find_attr_docs().items()
}


def process_docstring(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    if what not in ("attribute", "property"):
        return
    words = WORDS_OF_FIELDS.get(name.removeprefix("trsm."))
    if words:
        lines[:] = words
    lines[:0] = ["..", ""]  # an empty comment; else napoleon takes "Whether it has: …" for a type and its description


def process_signature(
    app: Sphinx, what: str, name: str, value: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show what `async with` gives, not what wraps it."""
    return signature, returns and re.sub(r"^~?(?:[\w.]+\.)?AbstractAsyncContextManager\[([\w.~]+).*\]$", r"\1", returns)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", process_docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", process_signature)
