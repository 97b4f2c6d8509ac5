"""The table: of figures as they were measured, and of budgets, with what is met."""

from __future__ import annotations

from typing import Any

from budgets import BUDGETS, HAND, TRSM
from cases import BY_KEY, CASES

NAMES = {
    TRSM: "trsm",
    HAND: "by hand",
    "with_automat": "automat",
    "with_pysm": "pysm",
    "with_plumpy": "plumpy",
    "with_transitions": "transitions",
    "with_xstate": "xstate-statemachine",
    "with_python_statemachine": "python-statemachine",
}


def figure(case: str, value: float) -> str:
    """Return a figure with its unit."""
    if BY_KEY[case].unit == "bytes":
        return f"{value:,.0f} B"
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if value * factor < 1000:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g} s"


def ratio(value: float) -> str:
    """Return how many times something is."""
    return f"{value:.2f} ×" if value >= 0.5 else f"1/{1 / value:.0f}" if value < 0.1 else f"1/{1 / value:.1f}"


def laid_out(rows: list[list[str]], *, is_markdown: bool = False) -> str:
    """Return rows as a table whose columns are as wide as they have to be; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    edge, gap = ("| ", " | ") if is_markdown else ("", "  ")
    lines = [
        (edge + gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + edge[::-1]).rstrip()
        for row in rows
    ]
    lines.insert(1, (edge + gap.join("-" * width for width in widths) + edge[::-1]).rstrip())
    return "\n".join(lines)


def figures(result: dict[str, Any], *, is_markdown: bool = False) -> str:
    """Return the table of what was measured."""
    names = [name for name in NAMES if name in result["figures"]]
    rows = [["case", "", *(NAMES[name] for name in names)]]
    for case in CASES:
        cells = [
            figure(case.key, result["figures"][name][case.key]) if case.key in result["figures"][name] else ""
            for name in names
        ]
        if any(cells):
            rows.append([case.key, case.title, *cells])
    return laid_out(rows, is_markdown=is_markdown)


def budgets(result: dict[str, Any], *, is_markdown: bool = False) -> str:
    """Return the table of budgets, with the column *met*."""
    rows = [["case", "", "budget", "measured", "met"]]
    for budget in BUDGETS:
        found = budget.ratio(result["figures"])
        if found is not None:
            measured = figure(budget.case, found) if budget.than is None else ratio(found)
            met = "yes" if found <= budget.limit else "no"
            rows.append([budget.case, BY_KEY[budget.case].title, budget.words, measured, met])
    return laid_out(rows, is_markdown=is_markdown)


def table(result: dict[str, Any]) -> str:
    """Return all of it, for a terminal."""
    versions = ", ".join(f"{NAMES[name]} {version}" for name, version in result["versions"].items())
    about = f"Python {result['python']}, {result['processor']}, best of {result['repeats']}\n{versions}"
    return f"{about}\n\n{figures(result)}\n\n{budgets(result)}"
