"""Retry: a mutation that is canceled is made again, when what refused it has gone or its time has come."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import trio

from trsm._core._mutation import Canceled, Queued, Result
from trsm._core._state import is_async
from trsm._machine import Machine
from trsm._protection import protect
from trsm._waiters import AnyEnd, Waiter


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

    Between two tries it sleeps until the states that refused it have changed so that the relations allow it; if a
    handler refused it, until any state has changed. At the latest it tries again when the backoff is over: `backoff`
    seconds at first, twice as many after each try, at most `cap`, of which up to a half is taken off at random, so that
    many who retry do not come at once (exponential backoff with jitter). A machine that closes ends it, and so does the
    mutation's own cancelled scope.

    Checkpoints: one at the start, before the first try; none between the last try and the return.

    Cancellation: between two tries; nothing is half done, and nothing stays subscribed.

    Args:
      mutation: a function that makes the mutation, such as ``lambda: machine.add(X.Foo)``.
      tries: how many times at most. Default: no bound.
      backoff: seconds before the second try. Default 0.1.
      cap: seconds between two tries at most. Default 60.
      deadline: seconds from now, not a moment of trio's clock, for all of it; none is begun after that. Default: none.
      until: a waiter; once it has ended, well or not, there is no further try. The first is always made. Default: none.

    Returns:
      The last result: false if it was canceled to the end.

    Raises:
      ValueError: a number is not positive.
      TypeError: `mutation` is no sync function, or returns no result of a mutation; `until` is no waiter.
      Whatever the mutation raises.

    Example::

        if not await trsm.retry(lambda: machine.add(Link.Connecting), deadline=30, until=machine.when(Link.Stopping)):
            print("gave up")
    """
    if not callable(mutation) or is_async(mutation):
        raise TypeError(f"retry({mutation!r}): pass a sync function that makes the mutation: lambda: machine.add(…)")
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
        outcome = result.outcome if isinstance(result, Queued) else result
        if not isinstance(outcome, Canceled) or outcome._machine is None or made == tries:
            return result
        pause = min(cap, backoff * 2 ** min(made - 1, 64)) * random.uniform(0.5, 1)
        waiters = [] if until is None else [until]
        if isinstance(outcome._machine, Machine):
            waiters.append(_change(outcome._machine, outcome))  # closing ends it too
        try:
            with trio.move_on_at(min(end, trio.current_time() + pause)):
                if waiters:
                    await AnyEnd(tuple(waiters))
                else:
                    await trio.sleep_forever()
        finally:
            del waiters  # or a traceback keeps them subscribed for as long as the exception is handled
        if trio.current_time() >= end or (until is not None and until.done):
            return result


def _change(machine: Machine, refused: Canceled) -> Waiter[object]:
    """Return a waiter for what could make a canceled mutation succeed."""
    request = refused._request
    if request is None:  # by a handler, and nobody knows what it looks at
        before = machine.ticks
        return machine.when_query(lambda ticks: ticks != before)
    # The last try may have led to more transitions, so that this is true already.
    return machine.when_query(lambda ticks: machine._plan(request).accepted)


protect(__name__)
