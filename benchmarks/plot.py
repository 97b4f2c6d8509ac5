"""The plot: an SVG that is readable on light and on dark pages, for its ground is transparent and its ink is grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

from budgets import BUDGETS, TRSM
from cases import BY_KEY
from report import NAMES

matplotlib.use("svg")
from matplotlib import pyplot  # after the back end was chosen

INK = "#808080"
OURS, OTHERS, MISSED = "#2f81f7", "#8b949e", "#d9730d"
TRANSITIONS = ("1", "2", "3")


def draw(result: dict[str, Any], into: Path) -> None:
    """Draw transitions beside those of other libraries, and every figure against its budget."""
    style = {
        "font.size": 9,
        "svg.fonttype": "none",  # text stays text, in the font of the page
        "svg.hashsalt": "trsm",  # the same figures give the same file
        "font.family": "sans-serif",
    } | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context(style):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 6.5), layout="constrained")
        _transitions(left, result["figures"])
        _budgets(right, result["figures"])
        for axes in (left, right):
            axes.patch.set_alpha(0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="x", color=INK, alpha=0.25, linewidth=0.6)
            axes.set_axisbelow(True)
        figure.savefig(into, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)


def _transitions(axes: Any, figures: dict[str, dict[str, float]]) -> None:
    names = [name for name in NAMES if name in figures][::-1]
    ticks: list[float] = []
    labels: list[str] = []
    place = 0.0
    for key in TRANSITIONS[::-1]:
        for name in names:
            if key in figures[name]:
                value = figures[name][key] * 1e6
                axes.barh(place, value, color=OURS if name == TRSM else OTHERS, height=0.8)
                axes.text(value * 1.08, place, f"{value:.3g}", va="center", fontsize=7)
                ticks.append(place)
                labels.append(NAMES[name])
                place += 1
        axes.text(0.01, place - 0.25, f"{key}: {BY_KEY[key].title}", transform=axes.get_yaxis_transform(), fontsize=8)
        place += 1.2
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("µs for one transition (logarithmic)")


def _budgets(axes: Any, figures: dict[str, dict[str, float]]) -> None:
    measured = [(budget, found) for budget in BUDGETS if (found := budget.ratio(figures)) is not None][::-1]
    for place, (budget, found) in enumerate(measured):
        part = found / budget.limit
        axes.barh(place, part, color=OURS if part <= 1 else MISSED, height=0.7)
        axes.text(part + 0.02, place, f"{part:.0%}", va="center", fontsize=7)
    axes.set_yticks(range(len(measured)), [f"{one.case}   {one.words}" for one, _ in measured], fontsize=7)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xlabel("of the budget")
