"""What is measured: the cases by key, in the order of the table. What each library does for one is in `libraries`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    key: str
    title: str
    unit: Literal["seconds", "bytes"] = "seconds"
    once: int = 0
    """How many are made, where one measurement in a process of its own suffices: memory. 0: time, best of several."""


CASES = [
    Case("1", "two states in turn, no handler"),
    Case("2", "two states in turn, one guard and one enter handler"),
    Case("3", "a ring of 50 states, one guard and one enter handler"),
    Case("4", "200 states active in a chain of require, the last toggled"),
    Case("5", "200 states, half of them active, a new active set each time"),
    Case("6", "two states in turn, 8 waiters that look, a tracer, a parked watch"),
    Case("7", "a waiter woken: subscribe, mutate, resume"),
    Case("8", "a scope entered and left: while_active"),
    Case("9", "a task started, cancelled and joined"),
    Case("10 root", "a machine opened and closed: open_machine"),
    Case("10 child", "a machine opened and closed: start_child"),
    Case("11 created", "an idle child created, 10,000 at once"),
    Case("11 child 10,000", "an idle child, of 10,000", "bytes", 10_000),
    Case("11 child 100,000", "an idle child, of 100,000", "bytes", 100_000),
    Case("11 task", "a machine with one task, of 10,000", "bytes", 10_000),
    Case("11 waiter", "a waiter that nobody awaits, of 10,000", "bytes", 10_000),
    Case("12", "the import"),
    Case("13: 1 with 10", "two states in turn, of 10"),
    Case("13: 1 with 100", "two states in turn, of 100"),
    Case("13: 1 with 1000", "two states in turn, of 1,000"),
    Case("13: 4 with 10", "a chain of require, of 10"),
    Case("13: 4 with 100", "a chain of require, of 100"),
    Case("13: 4 with 1000", "a chain of require, of 1,000"),
    Case("13: 5 with 10", "a new active set each time, of 10"),
    Case("13: 5 with 100", "a new active set each time, of 100"),
    Case("13: 5 with 1000", "a new active set each time, of 1,000"),
]
BY_KEY = {case.key: case for case in CASES}
