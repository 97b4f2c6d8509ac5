"""Faults to plant in trsm, one at a time: for each promise one that breaks it, and that its tests have to find.

``python -m promises.planted [NUMBER…]``, from the directory of the tests, makes each change in a copy of the package
and runs tests of that promise against it, as far as ``TRSM_PROOF=quick`` goes; they have to fail. A change that does
not fit any more has to be written anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "trsm"


@attrs.frozen
class Fault:
    promise: int
    words: str
    """What is wrong then."""
    file: str
    old: str
    new: str
    tests: str
    """A file of tests, or a test in it."""


LIVES = "promises/test_long_lives.py::test_"
RUNNER, CONSENSUS = "_core/_runner.py", "_core/_consensus.py"
FAULTS: tuple[Fault, ...] = (
    Fault(
        1,
        "what requires a state that leaves stays",
        CONSENSUS,
        "            gone = self.active & ~held\n",
        "            gone = 0\n",
        f"{LIVES}random_machines_whose_handlers_raise_refuse_and_queue",
    ),
    Fault(
        2,
        "options stand in the order of their names' hashes",
        CONSENSUS,
        "self.ranking = [index for level in levels for index in members(level)]",
        "self.ranking = [index for level in levels for index in "
        "sorted(members(level), key=lambda index: hash(relations.names[index]))]",
        f"{LIVES}other_hash_seeds_and_other_orders_make_no_other_verdict",
    ),
    Fault(
        3,
        "the first pass of a contest is made a hundred times",
        CONSENSUS,
        "certain, possible = 0, self._pass(candidates, 0)",
        "certain, possible = 0, [self._pass(candidates, 0) for _ in range(100)][0]",
        f"{LIVES}random_machines_whose_handlers_raise_refuse_and_queue",
    ),
    Fault(
        4,
        "a requirement that is missing is no reason",
        "_core/_reasons.py",
        'if missing and "requires" not in skipping:',
        'if missing and state % 2 and "requires" not in skipping:',
        "kernel/test_properties.py",
    ),
    Fault(
        5,
        "a refused mutation stands as the last transition",
        RUNNER,
        "            self._refused(ended, transition)\n            return self._canceled",
        "            self._refused(ended, transition)\n            self._last = transition\n"
        "            return self._canceled",
        f"{LIVES}random_machines_whose_handlers_raise_refuse_and_queue",
    ),
    Fault(
        6,
        "a multi state that is called again moves its tick by one",
        "_core/_journal.py",
        "            values[state] += 2 * times\n",
        "            values[state] += times\n",
        f"{LIVES}random_machines_whose_handlers_raise_refuse_and_queue",
    ),
    Fault(
        7,
        "after an on_enter that raised the on_enter of later states run all the same",
        RUNNER,
        'if failure is not None and handler.kind == "on_enter" and failure.down >> handler.state & 1:',
        "if False:",
        f"{LIVES}random_machines_whose_handlers_raise_refuse_and_queue",
    ),
    Fault(
        8,
        "an exception in negotiation only refuses, and is told to nobody",
        RUNNER,
        "                self._handler_fault(error, transition, refusal.handler)\n",
        "                pass\n",
        f"{LIVES}every_handler_call_of_random_schemas_raises_once",
    ),
    Fault(
        9,
        "states whose on_enter raised stay",
        RUNNER,
        "            if down:\n",
        "            if False:\n",
        f"{LIVES}every_handler_call_of_random_schemas_raises_once",
    ),
    Fault(
        10,
        "waiters on a state that leaves are not asked",
        "_machine.py",
        "touches = plan.touches if removal is None else members(plan.touched | removal._plan.touched)",
        "touches = members(plan.target)",
        f"{LIVES}random_waiters_against_the_log",
    ),
    Fault(
        11,
        "the subscription of a waiter that has gone stays until somebody looks",
        "_waiters.py",
        "    if get_ident() == subscription.table.thread:\n        subscription.drop()",
        "    if get_ident() == subscription.table.thread:\n        pass",
        "shell/test_waiters.py",
    ),
    Fault(
        12,
        "a task does not wait for those of the instance before its own",
        "_tasks.py",
        "while self.running_of is not None and self.running_of is not instance:",
        "while False:",
        f"{LIVES}tasks_of_very_many_activations",
    ),
    Fault(
        13,
        "a machine whose body is cancelled does not close",
        "_opening.py",
        "        machine.close()\n",
        "        machine.closed or trio.current_effective_deadline() == -float('inf') or machine.close()\n",
        "promises/test_examples.py",
    ),
    Fault(
        14,
        "nothing is protected from Ctrl-C",
        "_protection.py",
        "        trio.lowlevel.enable_ki_protection(function)\n",
        "        pass\n",
        "shell/test_interrupts.py",
    ),
    Fault(
        15,
        "what is dropped from the queue is not told so",
        RUNNER,
        "            self._finish(mutation, Canceled(reason))\n",
        "            pass\n",
        f"{LIVES}random_machines_whose_handlers_raise_refuse_and_queue",
    ),
    Fault(
        16,
        "a full queue makes room by forgetting the oldest",
        RUNNER,
        "        if len(queue) + len(firsts) >= self._limits.queue_limit:\n",
        "        if len(queue) > 2 and len(queue) + len(firsts) >= self._limits.queue_limit:\n"
        "            queue.popleft()\n"
        "        if len(queue) + len(firsts) >= self._limits.queue_limit:\n",
        f"{LIVES}a_flood_from_a_handler_tasks_and_threads",
    ),
    Fault(
        17,
        "a mutation is folded into the first that waits, not into the last",
        RUNNER,
        "            last = queue[-1]\n",
        "            last = queue[0]\n",
        "kernel/test_queue.py",
    ),
    Fault(
        18,
        "what handlers have queued waits for the next mutation",
        RUNNER,
        "            elif self._queue:\n",
        "            elif self._queue and self._tick % 2:\n",
        "shell/test_task_properties.py",
    ),
    Fault(
        19,
        "an unstable automatic round is not reported",
        RUNNER,
        "        if plan.moved:\n            states = tuple(",
        "        if False:\n            states = tuple(",
        "promises/test_rounds.py",
    ),
    Fault(
        20,
        "a machine that was joined keeps its table of waiters",
        "_machine.py",
        "            self._subscriptions = None  # nobody subscribes any more",
        "            # nobody subscribes any more",
        "shell/test_sweep.py",
    ),
    Fault(
        21,
        "a remove takes latched states too",
        CONSENSUS,
        "    held = 0 if kind is Kind.AUTO or kind is Kind.ERROR else active & dropped & latch\n",
        "    held = 0\n",
        f"{LIVES}latched_states_in_random_mutations",
    ),
    Fault(
        22,
        "there is no automatic round",
        RUNNER,
        "                refused = self._auto_turn()\n",
        "                refused = -1\n",
        "promises/test_examples.py",
    ),
    Fault(
        23,
        "every transition is kept",
        RUNNER,
        "                self._last = transition\n",
        '                self._last = transition\n                globals().setdefault("all", []).append(transition)\n',
        f"{LIVES}very_many_activations_leave_nothing",
    ),
    Fault(
        24,
        "a drain may be three times as long as its limit",
        RUNNER,
        "if turns >= limit and self._has_more():",
        "if turns >= 3 * limit and self._has_more():",
        "promises/test_drains.py",
    ),
    Fault(
        25,
        "nobody asks which thread calls",
        RUNNER,
        "        if get_ident() != self._thread:\n",
        "        if False:\n",
        "shell/test_threads.py",
    ),
    Fault(
        26,
        "candidates that exclude each other are no contest",
        CONSENSUS,
        "if require[index] & ~candidates or excludes[index] & candidates:",
        "if require[index] & ~candidates:",
        "kernel/test_consensus.py",
    ),
)


def table() -> str:
    """Return the table of docs/promises.md."""
    lines = ["| # | what was wrong | found by |", "|---|---|---|"]
    lines += [f"| P{fault.promise} | {fault.words} | `{fault.tests.replace(LIVES, LIVES[:-5])}` |" for fault in FAULTS]
    return "\n".join(lines)


TABLE = re.compile(r"(?<=<!-- planted: written by planted.py -->\n\n).*?(?=\n\n<!-- end of what was planted -->)", re.S)


def planted(fault: Fault, package: Path) -> None:
    """Make the change in a copy of the package.

    Raises:
      ValueError: the package does not have, exactly once, what is to be changed.
    """
    path = package / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"P{fault.promise}: {fault.file} has {text.count(fault.old)} times {fault.old!r}, not once")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def tests_with(fault: Fault) -> subprocess.CompletedProcess[str]:
    """Run tests of a promise, as far as a quick run goes, on a copy of trsm with a fault in it."""
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "trsm"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        planted(fault, package)
        code = (
            "import sys, pytest, trsm; "
            f"assert trsm.__file__.startswith({directory!r}), trsm.__file__; "
            "sys.exit(pytest.main(sys.argv[1:]))"
        )
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([directory, str(TESTS)]),
            "TRSM_PROOF": "quick",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.run(
            [
                sys.executable, "-c", code, "-q", "-x", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist",
                "--timeout=60", "-m", "promise", f"--promise={fault.promise}", str(TESTS / fault.tests),
            ],
            cwd=TESTS,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip


def main() -> int:
    wanted = {int(number) for number in sys.argv[1:]}
    survived = 0
    for fault in FAULTS:
        if not wanted or fault.promise in wanted:
            done = tests_with(fault)
            is_found = done.returncode == 1
            survived += not is_found
            last = done.stdout.strip().splitlines()[-1:] or [done.stderr[-300:]]
            print(f"P{fault.promise:<3} {'found' if is_found else 'NOT FOUND'}: {fault.words}; {last[0]}", flush=True)
    print(f"{survived} of {len(FAULTS)} were not found" if survived else "every fault was found")
    return survived


if __name__ == "__main__":
    sys.exit(main())
