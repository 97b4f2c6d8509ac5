"""The page *What it costs*, made of the committed figures: ``python benchmarks/page.py`` writes it.

With ``--check`` it writes nothing, and fails if the page is not what the figures make it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from budgets import HAND
from report import NAMES, budgets, figures

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "costs.md"
PLOT = HERE.parent / "docs" / "costs.svg"


def page(result: dict[str, Any]) -> str:
    """Return the page in Markdown."""
    versions = ", ".join(f"{NAMES[name]} {version}" for name, version in result["versions"].items() if name != HAND)
    return (
        (HERE / "costs.md.in")
        .read_text()
        .format(
            python=result["python"],
            processor=result["processor"],
            date=result["date"],
            repeats=result["repeats"],
            versions=versions,
            figures=figures(result, is_markdown=True),
            budgets=budgets(result, is_markdown=True),
        )
    )


def main() -> None:
    made = page(json.loads(RESULTS.read_text()))
    if "--check" not in sys.argv:
        PAGE.write_text(made)
    elif PAGE.read_text() != made:
        raise SystemExit(f"{PAGE.name} is not what {RESULTS.name} makes it: run python benchmarks/page.py")


if __name__ == "__main__":
    main()
