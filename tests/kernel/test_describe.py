"""``describe()``: what is going on in an engine or machine, in lines for a person."""

from __future__ import annotations

import gc

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Engine, ErrorState, Machine, Schema, State, Transition


class Shop(Schema):
    """Something of everything that a line may tell."""

    Shut = State(remove="Open")
    Open = State(remove=Shut)
    Till = State(require=Open)
    Clerk = State(require=[Open, Till])
    Bell = State(multi=True)
    Lit = State(auto=True, require=Open)
    Deed = State(latch=True)
    ErrTill = ErrorState(catches=OSError)


def test_nothing_is_active() -> None:
    """One line for what it is, and one for each list; a state that has never been active shows no tick."""
    assert Engine(Shop, id="shop").describe().splitlines() == [
        "Engine 'shop' on Shop, at transition 0",
        "active: none",
        "inactive: Shut Open Till Clerk Bell Lit Deed ErrTill Error",
    ]


def test_each_active_state_with_what_it_is_and_what_its_relations_do_now() -> None:
    """Flags, what it requires, which active states require it, and which inactive ones it keeps out."""
    engine = Engine(Shop, id="shop", tags=["corner", "bakery"])
    engine.add(Shop.Shut)
    engine.add(Shop.Open, Shop.Till, Shop.Clerk, Shop.Deed)
    engine.add(Shop.Bell)
    engine.add(Shop.Bell)
    assert engine.describe().splitlines() == [
        "Engine 'shop' on Shop, tagged corner and bakery, at transition 5",
        "active:",
        "  Open:1 (is required by Till, Clerk and Lit; keeps out Shut)",
        "  Till:1 (requires Open; is required by Clerk)",
        "  Clerk:1 (requires Open and Till)",
        "  Bell:3 (multi)",
        "  Lit:1 (auto; requires Open)",
        "  Deed:1 (latch)",
        "inactive: Shut:2 ErrTill Error",
    ]


def test_what_is_inactive_requires_nothing_now() -> None:
    """Only those who would leave with a state are named as requiring it."""
    engine = Engine(Shop)
    engine.add(Shop.Open)
    assert engine.describe().splitlines()[1:4] == [
        "active:",
        "  Open:1 (is required by Lit; keeps out Shut)",
        "  Lit:1 (auto; requires Open)",
    ]


def test_a_state_without_flags_and_relations_stands_alone() -> None:
    """No brackets around nothing; and where nothing is inactive, that is said."""

    class Bare(Schema):
        A = State()

    engine = Engine(Bare, Bare.Error.on_enter(lambda t: None), id="bare")
    engine.add(Bare.A)
    assert engine.describe().splitlines()[1:] == ["active:", "  A:1", "inactive: Error"]
    engine.add_error(ValueError("bad"))
    assert engine.describe().splitlines()[1:] == [
        "active:",
        "  A:1",
        "  Error:1 (multi)",
        "inactive: none",
        "error: ValueError('bad')",
    ]


def test_the_queue_is_shown_in_the_order_of_its_turns_without_values() -> None:
    """As it would be written; what was put first stands first, and no argument's value is shown."""
    lines: list[str] = []

    @Shop.Open.on_enter
    def asks(t: Transition) -> None:
        engine.add(Shop.Bell, secret="hidden")
        engine.mutate(add=Shop.Till, remove=[Shop.Deed, Shop.Lit])
        engine.toggle(Shop.Till)
        engine.remove(Shop.Shut, first=True)
        lines.extend(engine.describe().splitlines())

    engine = Engine(Shop, asks)
    engine.add(Shop.Open)
    assert lines[lines.index("queue:") :] == [
        "queue:",
        "  remove(Shut)",
        "  add(Bell, secret=…)",
        "  mutate(add=(Till), remove=(Lit, Deed))",
        "  toggle(Till)",
    ]
    assert "queue:" not in engine.describe()


def test_closing_and_closed() -> None:
    """While the last exits run it is closing, and then closed."""
    first: list[str] = []

    @Shop.Open.on_exit
    def looks(t: Transition) -> None:
        first.append(engine.describe().splitlines()[0])

    engine = Engine(Shop, looks, id="shop")
    engine.add(Shop.Open)
    engine.close()
    first.append(engine.describe().splitlines()[0])
    assert first == [
        "Engine 'shop' on Shop, at transition 3, closing",
        "Engine 'shop' on Shop, at transition 3, closed",
    ]


def test_handlers_are_not_asked_and_nothing_changes() -> None:
    """It may be called anywhere, in a negotiation handler too."""
    seen: list[str] = []

    @Shop.Open.can_enter
    def looks(t: Transition) -> bool:
        seen.append(engine.describe())
        return True

    engine = Engine(Shop, looks)
    engine.describe()
    assert seen == []
    engine.add(Shop.Open)
    assert len(seen) == 1
    assert "active: none" in seen[0]


# ---- Machines -------------------------------------------------------------------------------------------------------


class Work(Schema):
    Busy = State(timeout=10)
    Many = State(multi=True)
    Idle = State()


async def endless(t: Transition) -> None:
    await trio.sleep_forever()


async def forever() -> None:
    await trio.sleep_forever()


def added(machine: Machine) -> list[str]:
    """The lines that a machine adds to an engine's."""
    lines = machine.describe().splitlines()
    return lines[next(place for place, line in enumerate(lines) if line.startswith("inactive: ")) + 1 :]


async def test_an_idle_machine_adds_nothing() -> None:
    """What is not there is not listed."""
    async with trsm.open_machine(Work, id="work") as machine:
        assert machine.describe().splitlines() == [
            "Machine 'work' on Work, at transition 0",
            "active: none",
            "inactive: Busy Many Idle Error",
        ]


async def test_tasks_that_run_and_that_wait() -> None:
    """Of each state, beyond its limit and behind the last instance; those of ``start_soon`` by what they belong to."""
    release = trio.Event()

    @Work.Busy.task
    async def slow(t: Transition) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await release.wait()

    async with trsm.open_machine(Work, Work.Many.task(limit=2)(endless), slow) as machine:
        for _ in range(5):
            machine.add(Work.Many)
        assert added(machine) == ["tasks: Many 0 running, 3 waiting"]  # no task has run yet
        machine.start_soon(forever)
        machine.start_soon(forever)
        machine.start_soon(forever, while_active=Work.Many)
        await wait_all_tasks_blocked()
        assert added(machine) == ["tasks: Many 2 running, 3 waiting, start_soon() 2, start_soon(while_active=Many) 1"]
        machine.remove(Work.Many)
        await wait_all_tasks_blocked()
        assert added(machine) == ["tasks: start_soon() 2"]
        machine.add(Work.Busy)
        await wait_all_tasks_blocked()
        machine.remove(Work.Busy)
        machine.add(Work.Busy)
        await wait_all_tasks_blocked()
        assert added(machine)[0] == "tasks: Busy 1 running, 1 waiting, start_soon() 2"
        release.set()


async def test_timeouts_of_active_states(autojump_clock: MockClock) -> None:
    """How long until each is over."""
    async with trsm.open_machine(Work) as machine:
        machine.add(Work.Busy)
        assert added(machine) == ["timeouts: Busy in 10 s"]
        await trio.sleep(7.5)
        assert added(machine) == ["timeouts: Busy in 2.5 s"]
        await trio.sleep(3)
        assert added(machine) == []


async def test_a_timeout_that_was_refused_is_not_listed(autojump_clock: MockClock) -> None:
    """Its state stays, and nothing will end it."""

    @Work.Busy.can_exit
    def never(t: Transition) -> bool:
        return t.kind == "close"

    async with trsm.open_machine(Work, never) as machine:
        machine.add(Work.Busy)
        await trio.sleep(11)
        assert machine.is_active(Work.Busy)
        assert added(machine) == []


async def test_scopes_waiters_and_children() -> None:
    """Scopes by state, waiters and iterators by what they wait for, and the first five children by name."""
    async with trsm.open_machine(Work, id="work") as machine, trsm.open_machine(Work) as other:
        machine.add(Work.Idle)
        both = machine.when(Work.Busy, Work.Many), machine.watch()
        two = "waiters: 2", "  <Waiter when(Busy, Many) of 'work', waiting>", "  <Watch of 'work', waiting>"
        with machine.while_active(Work.Idle), machine.while_active(Work.Idle), machine.while_inactive(Work.Busy):
            assert added(machine) == ["scopes: while_inactive(Busy) 1, while_active(Idle) 2", *two]
        piped = trsm.pipe(machine, Work.Many, other)
        assert added(machine) == [*two]  # a pipe waits for nothing
        del both
        gc.collect()
        assert added(machine) == []
        piped.close()
        for number in range(5):
            machine.start_child(Work, id=str(number))
        assert added(machine) == ["children: 5 ('0', '1', '2', '3', '4')"]
        machine.start_child(Work, id="more")
        machine.start_child(Work, id="most")
        assert added(machine) == ["children: 7 ('0', '1', '2', '3', '4', … 2 more)"]


async def test_twenty_waiters_are_listed_and_the_others_counted() -> None:
    """A machine may have any number of them."""
    async with trsm.open_machine(Work, id="work") as machine:
        waiters = [machine.when_next(Work.Idle) for _ in range(20)]
        one = "  <Waiter when_next(Idle) of 'work', waiting>"
        assert added(machine) == ["waiters: 20", *[one] * 20]
        waiters += [machine.when_next(Work.Idle), machine.when_next(Work.Idle)]
        assert added(machine) == ["waiters: 22", *[one] * 20, "  … 2 more"]


async def test_a_machine_that_has_ended_can_be_described() -> None:
    """Nothing is left of what it held."""

    async with trsm.open_machine(Work, Work.Busy.task(endless), id="work") as machine:
        machine.add(Work.Busy)
        machine.start_soon(forever)
        machine.start_child(Work)
        waiter = machine.when(Work.Many)
        await wait_all_tasks_blocked()
        assert len(added(machine)) == 5
    assert machine.describe().splitlines() == [
        "Machine 'work' on Work, at transition 2, closed",
        "active: none",
        "inactive: Busy:2 Many Idle Error",
    ]
    with pytest.raises(trsm.MachineClosed):
        await waiter
