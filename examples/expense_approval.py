"""An expense claim that a human approves within a deadline, and that survives a restart.

    python examples/expense_approval.py FILE --submit NAME AMOUNT PURPOSE [--deadline SECONDS]
    python examples/expense_approval.py FILE

The first line submits a claim, the second goes on with it. Both wait for somebody who types ``approve NAME`` or
``reject NAME REASON…``. The claim is a machine, kept in FILE as a snapshot: pull the plug if you like, start it again,
and it goes on. The deadline is the timeout of a state; the time for which the program did not run is taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.frozen
class Claim:
    name: str
    amount: float = attrs.field(validator=attrs.validators.gt(0))
    purpose: str


@attrs.frozen
class Decision:
    name: str
    reason: str = ""


class Expense(Schema):
    Submitted = State(args=Claim, latch=True)  # the arguments of active states are part of a snapshot
    Waiting = State(require=Submitted, timeout=7 * 24 * 3600, on_timeout="Expired")
    Approved = State(args=Decision, require=Submitted, latch=True)  # latched: the first decision stands
    Rejected = State(args=Decision, require=Submitted, latch=True)
    Expired = State(require=Submitted, latch=True)
    stage = trsm.exclusive(Waiting, Approved, Rejected, Expired)  # each of them removes the others
    Alone = State(require=Waiting)  # nobody is there any more who could decide


class Handlers:
    claim: Claim

    @Expense.Approved.can_enter
    def is_somebody_else(self, t: trsm.Transition) -> bool:
        return t.args_of(Expense.Approved).name != self.claim.name

    @Expense.Waiting.task  # restarted with the machine; cancelled when the claim is decided, or its time is over
    async def ask(self, t: trsm.Transition) -> None:
        self.claim = (await t.machine.when(Expense.Submitted)).args_of(Expense.Submitted)
        print(f"waiting: {self.claim.name} wants {self.claim.amount:.2f} for {self.claim.purpose}", flush=True)
        typed = b""
        # In a thread, which is left behind when the task is cancelled: nobody can take back a read that waits.
        while read := await trio.to_thread.run_sync(os.read, 0, 4096, abandon_on_cancel=True):
            *lines, typed = (typed + read).split(b"\n")
            for line in lines:
                self.obey(t.machine, line.decode(errors="replace").split())
        t.machine.add(Expense.Alone)

    def obey(self, machine: trsm.Machine, words: list[str]) -> None:
        match words:
            case ["approve", name]:
                if not machine.add(Expense.Approved(name=name)):
                    print(f"{name} cannot approve a claim of {self.claim.name}", flush=True)
            case ["reject", name, *reason] if reason:
                machine.add(Expense.Rejected(name=name, reason=" ".join(reason)))
            case _:
                print("type approve NAME, or reject NAME REASON…", flush=True)


def save(machine: trsm.Machine, path: Path, before: bytes | None) -> bytes:
    """Write a file that is whole at any moment, the old one or the new one; another process may have been faster."""
    if before != (path.read_bytes() if path.exists() else None):
        raise ValueError("another process has written it meanwhile: start again to see what it says")
    written = json.dumps({"saved": time.time(), "machine": machine.snapshot()}, indent=2).encode()
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(written)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return written


def load(path: Path) -> tuple[bytes, dict[str, object]]:
    """Read a file and the snapshot in it, and take off its timeouts the time that has gone by."""
    try:
        read = json.loads(kept := path.read_bytes())
        away = max(0.0, time.time() - read["saved"])
        timeouts = {name: max(0.0, left - away) for name, left in read["machine"]["timeouts"].items()}
        return kept, {**read["machine"], "timeouts": timeouts}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("this is no claim that was kept here") from None


async def main(path: Path, claim: Claim | None, deadline: float | None) -> int:
    class Timed(Expense):  # the schema of this run: as above, with the deadline that was asked for
        Waiting = Expense.Waiting.extend(timeout=deadline)

    kept, snapshot = (None, None) if claim else load(path)
    async with trsm.open_machine(Timed, Handlers(), id=path.name, snapshot=snapshot) as machine:
        if claim:
            machine.add(Expense.Submitted(claim.name, claim.amount, claim.purpose), Expense.Waiting)
            kept = save(machine, path, kept)
        if machine.which(Expense.stage) is None or machine.is_active(Expense.Alone):
            raise ValueError("this claim waits for nobody, and is not decided")
        await machine.when_any(Expense.Approved, Expense.Rejected, Expense.Expired, Expense.Alone)
        if machine.is_active(Expense.Waiting):
            print("still waiting")
            return 1
        save(machine, path, kept)  # before anybody is told
        for stage in (Expense.Approved, Expense.Rejected):
            if machine.is_active(stage):
                decision = (await machine.when(stage)).args_of(stage)
                print(f"{stage.name.lower()} by {decision.name}{decision.reason and ': ' + decision.reason}")
        if machine.is_active(Expense.Expired):
            print("expired: nobody has decided in time")
        return 0 if machine.is_active(Expense.Approved) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Wait for a human who approves an expense claim.")
    parser.add_argument("file", type=Path, metavar="FILE", help="where the claim is kept")
    parser.add_argument("--submit", nargs=3, metavar=("NAME", "AMOUNT", "PURPOSE"))
    parser.add_argument("--deadline", type=float, help="seconds (default: a week)")
    given = parser.parse_args()
    try:
        try:
            if given.deadline is not None and not given.submit:
                parser.error("--deadline goes with --submit: a claim keeps what it was submitted with")
            claim = Claim(given.submit[0], float(given.submit[1]), given.submit[2]) if given.submit else None
            if claim and given.file.exists():
                what = "a directory: choose" if given.file.is_dir() else "there already: go on with it, or choose"
                parser.error(f"{given.file} is {what} another file")
            code = trio.run(main, given.file, claim, given.deadline)
        except (OSError, ValueError, trsm.TrsmError) as error:
            parser.error(f"{given.file}: {error}")
        sys.stdout.flush()
    except* (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)  # nobody types or reads any more; what has been decided is in the file
    sys.exit(code)
