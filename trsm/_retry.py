"""Retry: a mutation that is canceled is made again, when what refused it changes or its time has come."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import trio

from trsm._core._mutation import Canceled, Result
from trsm._core._reasons import Explanation
from trsm._machine import Machine
from trsm._protection import protect
from trsm._waiters import Waiter, wait_any


async def retry(
    mutation: Callable[[], Result],
    /,
    *,
    tries: int | None = None,
    backoff: float = 0.1,
    cap: float = 60.0,
    deadline: float = math.inf,
    until: Waiter[object] | None = None,
) -> Result:
    """Make a mutation again and again while it is canceled, and return what became of it at last.

    Between two tries it sleeps until a state that refused it changes, or until the backoff is over: `backoff` seconds
    at first, twice as many after each try, at most `cap`, of which a random half is taken off so that many who retry
    do not come at once (exponential backoff with jitter). A machine that closes ends it.

    Checkpoints: always at least one.

    Cancellation: between two tries; no mutation is half made, and nothing is left subscribed.

    Args:
      mutation: a function that makes the mutation, such as ``lambda: machine.add(X.Foo)``.
      tries: how many times at most. Default: no bound.
      backoff: seconds before the second try. Default 0.1.
      cap: seconds between two tries at most. Default 60.
      deadline: seconds for all of it. Default: none.
      until: a waiter; once it is over, there is no further try. Default: none.

    Returns:
      The last result: false if it was canceled to the end.

    Raises:
      ValueError: a number is not positive.
      TypeError: `mutation` cannot be called, or returns no result of a mutation; `until` is no waiter.
      Whatever the mutation raises.
    """
    if not callable(mutation):
        raise TypeError(f"retry({mutation!r}): pass a function that makes the mutation, such as lambda: machine.add(…)")
    if until is not None and not isinstance(until, Waiter):
        raise TypeError(f"until={until!r}: pass a waiter, such as machine.when(…)")
    if tries is not None and (not isinstance(tries, int) or isinstance(tries, bool) or tries < 1):
        raise ValueError(f"tries={tries!r}: write a whole number, 1 or more")
    for name, value in (("backoff", backoff), ("cap", cap), ("deadline", deadline)):
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{name}={value!r}: write a positive number of seconds")
    end = trio.current_time() + deadline
    await trio.lowlevel.checkpoint()
    made = 0
    while True:
        result = mutation()
        made += 1
        if not isinstance(result, Result):
            raise TypeError(f"{mutation!r} returned {result!r}: let it return the result of machine.add(…) or its kin")
        if not isinstance(result, Canceled) or made == tries:
            return result
        machine = result._machine
        if not isinstance(machine, Machine) or machine.closed:
            return result
        pause = min(cap, backoff * 2 ** min(made - 1, 64)) * random.uniform(0.5, 1)
        waiters = [machine.when_closed(), *_changes(machine, result.explanation), *(() if until is None else (until,))]
        with trio.move_on_at(min(end, trio.current_time() + pause)):
            await wait_any(*waiters)
        if trio.current_time() >= end or (until is not None and until.done):
            return result


def _changes(machine: Machine, explanation: Explanation | None) -> list[Waiter[object]]:
    """Return waiters for changes of the states that refused; of any state, where a handler did."""
    reasons = () if explanation is None else explanation.reasons
    names = {reason.by for reason in reasons if reason.by is not None and reason.kind != "refused by"}
    if any(reason.kind == "refused by" for reason in reasons) or not names:
        before = machine.ticks
        return [machine.when_query(lambda ticks: ticks != before)]
    return [machine.when_ticks(machine.schema[name], 1) for name in sorted(names)]


protect(__name__)
