"""Raise in the n-th handler call, for all n, on random schemas, with an engine and with a machine: P8 and P9.

``python -m promises.raising SCHEMAS``, from the directory of the tests: the sweeps of `kernel.test_sweep` and
`shell.test_errors` on so many schemas each, in a process that coverage does not slow. On the machine each state has a
waiter that has to wake exactly if its tick moves.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable

import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kernel import test_sweep
from kernel.faults import MAKERS, NEGOTIATION, Shape, Trial, lives, shapes
from shell import test_errors


def main() -> None:
    schemas = int(sys.argv[1])
    counts = Counter[str]()

    def note(trial: Trial) -> bool:
        counts["runs"] += 1
        for fault in trial.faults:
            # Its traceback leads to the handler that raised.
            assert fault.error.__traceback__ is not None, f"P8: {fault} came without its traceback"
            counts["negotiation" if fault.kind in NEGOTIATION else "finals"] += 1
        return bool(trial.faults)

    @settings(
        max_examples=schemas,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data(), shape=shapes(), make=st.sampled_from(MAKERS))
    def sweeps(data: st.DataObject, shape: Shape, make: Callable[[], Exception]) -> None:
        steps = data.draw(lives(shape))[:2]
        number = 0
        while True:
            trial = Trial(shape, {number}, make)
            engine, unhandled = test_sweep.live(trial, steps)
            trial.check_diary(unhandled)
            if not note(trial):
                assert unhandled == [] and engine.error is None
                break
            number += 1
        counts["engines"] += 1
        trio.run(sweep, shape, steps, make)
        counts["machines"] += 1

    async def sweep(shape: Shape, steps: test_sweep.Steps, make: Callable[[], Exception]) -> None:
        number = 0
        while True:
            trial = Trial(shape, {number}, make)
            await test_errors.live(trial, steps)
            if not note(trial):
                break
            number += 1

    sweeps()
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
