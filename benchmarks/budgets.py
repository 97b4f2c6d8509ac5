"""The budgets of issue 5, as data: what a figure is compared to, and how many times that it may be."""

from __future__ import annotations

from dataclasses import dataclass

TRSM = "with_trsm"
HAND = "by_hand"
TRANSITIONS = "with_transitions"
PYTHON_STATEMACHINE = "with_python_statemachine"
AUTOMAT = "with_automat"


@dataclass(frozen=True)
class Budget:
    """At most `limit` times the figure of `than` (a library and a case), or of itself if there is none: `limit`."""

    case: str
    words: str
    limit: float
    than: tuple[str, str] | None = None

    def ratio(self, figures: dict[str, dict[str, float]]) -> float | None:
        """Return how many times the figure is; None if one of the two was not measured."""
        try:
            own = figures[TRSM][self.case]
            return own if self.than is None else own / figures[self.than[0]][self.than[1]]
        except KeyError:
            return None


BUDGETS = [
    Budget("1", "≤ 6 × the hand-written floor", 6, (HAND, "1")),
    Budget("1", "≤ 1/8 of transitions", 1 / 8, (TRANSITIONS, "1")),
    Budget("1", "≤ 1/80 of python-statemachine", 1 / 80, (PYTHON_STATEMACHINE, "1")),
    Budget("2", "≤ 10 × the hand-written floor", 10, (HAND, "2")),
    Budget("2", "≤ 1/6 of transitions", 1 / 6, (TRANSITIONS, "2")),
    Budget("2", "≤ 1/70 of python-statemachine", 1 / 70, (PYTHON_STATEMACHINE, "2")),
    Budget("2", "≤ 2 × automat, which has no guards", 2, (AUTOMAT, "2")),
    Budget("3", "≤ 1.2 × case 2", 1.2, (TRSM, "2")),
    Budget("3", "≤ 1/4 of automat", 1 / 4, (AUTOMAT, "3")),
    Budget("4", "≤ 2 × case 1", 2, (TRSM, "1")),
    Budget("5", "≤ 60 × case 1", 60, (TRSM, "1")),
    Budget("6", "≤ 12 × case 1", 12, (TRSM, "1")),
    Budget("7", "≤ 1.5 × trio.Event", 1.5, (HAND, "7")),
    Budget("8", "≤ 1.4 × trio.CancelScope", 1.4, (HAND, "8")),
    Budget("9", "≤ 1.5 × a nursery and a scope by hand", 1.5, (HAND, "9")),
    Budget("10 root", "≤ 2 × a bare nursery", 2, (HAND, "10 root")),
    Budget("11 created", "≤ 10 µs", 10e-6),
    Budget("11 child 10,000", "≤ 1,000 bytes", 1000),
    Budget("11 child 100,000", "≤ 1,000 bytes: 100 MB in all", 1000),
    Budget("11 task", "≤ 1.3 × a nursery, a scope and a task by hand", 1.3, (HAND, "11 task")),
    Budget("11 waiter", "≤ 400 bytes", 400),
    Budget("12", "≤ 15 % of trio's", 0.15, (HAND, "12")),
    Budget("13: 1 with 1000", "≤ 1.3 × with 10 states", 1.3, (TRSM, "13: 1 with 10")),
    Budget("13: 4 with 1000", "≤ 1.3 × with 10 states", 1.3, (TRSM, "13: 4 with 10")),
    Budget("13: 5 with 1000", "≤ 100 × with 10 states: linear", 100, (TRSM, "13: 5 with 10")),
]
