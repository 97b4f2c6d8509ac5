"""What must not type-check: mypy and basedpyright both find each line that is marked, and no other."""

from __future__ import annotations

import attrs
import trio

import trsm
from trsm import ErrorState, Schema, State, Transition, schemas


@attrs.frozen
class Url:
    url: str
    retries: int = 3


class Fetch(Schema):
    Idle = State()
    Fetching = State(args=Url)
    Failed = ErrorState(catches=KeyboardInterrupt)  # mistake: not an Exception
    Wrong = State(auto="yes")  # mistake: no bool
    Nowhere = State(require=3)  # mistake: no state
    Late = State(timeout="soon")  # mistake: no number
    Later = State(timeout=1, on_timeout=3)  # mistake: no state


class Handlers:
    @Fetch.Idle.can_enter
    def says_nothing(self, t: Transition) -> None: ...  # mistake (see the decorator): returns no bool

    @Fetch.Idle.can_exit
    async def waits(self, t: Transition) -> bool:  # mistake (see the decorator): async where sync is due
        return True

    @Fetch.Idle.on_enter
    def answers(self, t: Transition) -> int:  # mistake (see the decorator): a final handler returns nothing
        return 1

    @Fetch.Idle.on_exit
    async def acts(self, t: Transition) -> None: ...  # mistake (see the decorator): async where sync is due

    @Fetch.Idle.task
    def blocks(self, t: Transition) -> None: ...  # mistake (see the decorator): sync where async is due

    @Fetch.Idle.task(then=Fetch.Fetching)
    async def returns(self, t: Transition) -> str:  # mistake (see the decorator): Fetching takes a Url
        return ""


async def machines(t: Transition) -> None:
    async with trsm.open_machine(Fetch) as machine:
        machine.add(Fetch.Fetching)  # mistake: needs url
        machine.add(Fetch.Fetching())  # mistake: needs url
        machine.add(Fetch.Fetching(url=3))  # mistake: url is a string
        machine.add(Fetch.Fetching(address=""))  # mistake: no such argument
        machine.add(Fetch.Idle(1))  # mistake: Idle takes none
        machine.add("Idle")  # mistake: a name
        machine.toggle(Fetch.Fetching)  # mistake: needs url
        machine.set(Fetch.Fetching)  # mistake: needs url
        machine.mutate(add=Fetch.Fetching)  # mistake: needs url
        machine.mutate(Fetch.Idle)  # mistake: add=… or remove=…
        machine.mutate(add=[Fetch.Idle, Fetch.Fetching])  # mistake: needs url
        machine.can_add(Fetch.Fetching)  # mistake: needs url
        machine.add(lambda: Fetch.Fetching(url=""))  # mistake: a function
        machine.add(Fetch.Missing)  # mistake: no such state
        machine.explain("ad", Fetch.Idle)  # mistake: no such kind
        machine.add_error(KeyboardInterrupt())  # mistake: not an Exception
        machine.defer(print)  # mistake: not async
        machine.start_soon(print)  # mistake: not async
        machine.start_soon(trio.sleep)  # mistake: needs seconds
        machine.start_soon(trio.sleep, 3, while_active="Idle")  # mistake: a name
        machine.transitions(buffer=3)  # mistake: no overflow
        machine.transitions(buffer=3, overflow="drop")  # mistake: no such policy
        machine.extend_schema(Fetch.Idle)  # mistake: no schema
        machine.when(Fetch.Idle) | 3  # mistake: no waiter
        t.args_of(Fetch.Fetching).address  # mistake: no such field
        t.tick.upper()  # mistake: a number
        t.nothing  # mistake: no such attribute
    trsm.open_machine(Fetch.Idle)  # mistake: no schema
    trsm.Engine(3)  # mistake: no schema


async def pipes(source: trsm.Machine, target: trsm.Machine) -> None:
    trsm.pipe(source, "Idle", target)  # mistake: no state
    trsm.pipe(source, Fetch.Idle, trsm.Engine(Fetch))  # mistake: no machine
    await trsm.retry(source.add(Fetch.Idle))  # mistake: no function
    await trsm.retry(lambda: source.when(Fetch.Idle))  # mistake: no result
    await trsm.retry(lambda: source.add(Fetch.Idle), until=3)  # mistake: no waiter


def ready_made(machine: trsm.Machine) -> None:
    machine.add(schemas.Disposable.RegisterDisposal)  # mistake: needs a function
    machine.add(schemas.Disposable.RegisterDisposal(print))  # mistake: not async
