"""Tasks and their instances over very long lives, by the site of `shell.test_task_properties`: P12.

``python -m promises.tasks ACTIVATIONS [SEED]``, from the directory of the tests. After each step the tasks that run are
held against a model, and whenever all is blocked those in the machine's nursery too. Half of the machines are started
children, whose tasks run in the nursery of their parent.
"""

from __future__ import annotations

import json
import sys
from random import Random

import trio
from trio.testing import wait_all_tasks_blocked

import trsm
from shell.test_task_properties import STATES, Site, Step, Work, handlers_of, live

MUTATIONS = ("add", "add", "remove", "set", "toggle")
ENDS = ("returns", "fails", "stops", "leaves", "goes round", "lingers")


def life(random: Random, length: int) -> list[Step]:
    steps: list[Step] = []
    for _ in range(length):
        match random.randrange(14):
            case 0 | 1:
                steps.append(Step(random.choice(ENDS), None, random.randrange(8)))
            case 2 | 3:
                steps.append(Step("release", None, random.randrange(8)))
            case 4:
                steps.append(Step("settle"))
            case 5 | 6:
                steps.append(Step("checkpoint"))
            case _:
                steps.append(Step(random.choice(MUTATIONS), random.choice(STATES)))
    return steps


async def main(activations: int, seed: int) -> None:
    done = lives = steps = 0
    while done < activations:
        random = Random(f"tasks {seed} {lives}")
        site = Site()
        async with trsm.open_machine(Work) as root:
            machine = root.start_child(Work, handlers_of(site)) if lives % 2 else root
            if machine is root:
                machine.bind(handlers_of(site))
            program = life(random, 150)
            try:
                await live(machine, site, program)
                await wait_all_tasks_blocked()
                site.check_settled(machine)
                machine.close()
                assert all(run.how for run in site.runs), "closing cancels all"
                with trio.CancelScope(shield=True):
                    await wait_all_tasks_blocked()
                    for run in list(site.runs):
                        run.release.set()
                    await wait_all_tasks_blocked()
                assert site.runs == [], "every task has ended"
            except BaseException as error:
                error.add_note(f"life {lives} of seed {seed}")
                for run in site.runs:
                    run.release.set()  # nothing that is broken is to end in waiting for ever
                raise
        assert not machine.in_use and not root.in_use
        done += site.activations
        steps += len(program)
        lives += 1
    print(json.dumps({"activations": done, "steps": steps}))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
