"""P10, no lost wake-up: random programs with waiters of every kind, against a slow search of the log of each run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import trsm
from trsm import ErrorState, Machine, MachineClosed, Schema, State, Ticks, Transition, Waiter

Spec = tuple[object, ...]
"""A waiter as a term: its kind, and what it was made with."""


class Zoo(Schema):
    A = State()
    B = State(remove=A)
    C = State(require=A)
    D = State(auto=True, require=B)
    Ping = State(multi=True)
    Fragile = State(add=Ping)
    Hasty = State()
    Starter = State(remove="Hasty")
    Latch = State(latch=True)
    ErrNet = ErrorState(catches=OSError)
    ErrMath = ErrorState(catches=ArithmeticError)


class Keeper:
    """Writes the log, and makes trouble: states that fall at once, leave at once, and bring others."""

    def __init__(self) -> None:
        self.log: list[Transition] = []
        self.falls = 0

    @Zoo.on_change
    def write(self, t: Transition) -> None:
        self.log.append(t)

    @Zoo.Fragile.on_enter
    def fall(self, t: Transition) -> None:
        self.falls += 1
        if self.falls % 2:
            raise OSError(self.falls)

    @Zoo.Hasty.on_enter
    def leave(self, t: Transition) -> None:
        t.machine.remove(Zoo.Hasty)

    @Zoo.Starter.on_enter
    def start(self, t: Transition) -> None:
        t.machine.add(Zoo.Ping)
        t.machine.toggle(Zoo.A, Zoo.C)


QUERIES: tuple[Callable[[Ticks], bool], ...] = (
    lambda ticks: ticks[Zoo.Ping] >= 3 and ticks[Zoo.A] >= 1,
    lambda ticks: ticks.is_active(Zoo.A) and not ticks.is_active(Zoo.Ping),
    lambda ticks: sum(ticks[state] for state in ticks) >= 6,
    lambda ticks: ticks[Zoo.Fragile] == 2,
    lambda ticks: 1 / (3 - ticks[Zoo.Ping]) > 5,  # raises when Ping is called the second time
)
names = st.sampled_from(["A", "B", "C", "D", "Ping", "Fragile", "Hasty", "Starter", "Latch", "ErrNet", "Error"])
some = st.lists(names, min_size=1, max_size=3, unique=True).map(tuple)
ids = st.integers(0, 1)
conditions = st.one_of(
    st.tuples(st.sampled_from(["when", "when_not", "when_any"]), some),
    st.tuples(st.just("when_args"), some, ids),
    st.tuples(st.just("when_where"), some, ids),
    st.tuples(st.just("when_tick"), names, st.integers(0, 5)),
    st.tuples(st.just("when_ticks"), names, st.integers(1, 4)),
    st.tuples(st.just("when_next"), names),
    st.tuples(st.just("when_query"), st.sampled_from(range(len(QUERIES)))),
    st.tuples(st.just("when_error"), st.sampled_from(["Error", "ErrNet", "ErrMath"])),
)
waiters = st.recursive(
    conditions, lambda inner: st.tuples(st.sampled_from(["or", "and", "all", "any"]), inner, inner), max_leaves=4
)
steps = st.one_of(
    st.tuples(st.just("make"), waiters),
    st.tuples(st.sampled_from(["add", "remove", "set", "toggle"]), some, st.none() | ids),
    st.tuples(st.just("error"), st.sampled_from([OSError, ArithmeticError, ZeroDivisionError])),
    st.tuples(st.just("pass")),
)
programs = st.lists(steps, min_size=3, max_size=25)


def states(some_names: tuple[str, ...]) -> tuple[State, ...]:
    return tuple(Zoo[name] for name in some_names)


def made(machine: Machine, spec: Spec) -> Waiter:
    """Make the waiter that a term stands for."""
    match spec:
        case ("or", left, right):
            return made(machine, left) | made(machine, right)
        case ("and", left, right):
            return made(machine, left) & made(machine, right)
        case ("all", left, right):
            return trsm.wait_all(made(machine, left), made(machine, right))
        case ("any", left, right):
            return trsm.wait_any(made(machine, left), made(machine, right))
        case ("when_args", some_names, id):
            return machine.when(*states(some_names), id=id)
        case ("when_where", some_names, id):
            return machine.when(*states(some_names), where=lambda t: t.args.get("id") == id)
        case ("when" | "when_not" | "when_any" as kind, some_names):
            return getattr(machine, kind)(*states(some_names))
        case ("when_query", number):
            return machine.when_query(QUERIES[number])
        case (kind, name, *rest):
            return getattr(machine, kind)(Zoo[name], *rest)
    raise AssertionError(spec)


# ---- The reference --------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """When a waiter was made."""

    place: int
    """How much was in the log."""
    last: Transition
    ticks: Ticks


class End(NamedTuple):
    """How a waiter ended."""

    place: float
    """The place in the log of the transition; -1 if it was true when made, infinity if closing failed it."""
    failed: bool
    value: object
    """The value, or the type of the exception."""


CLOSED = End(float("inf"), True, MachineClosed)


def groups(log: list[Transition], start: int) -> list[tuple[int, list[Transition]]]:
    """Return the transitions since a place in the log, each with the removal that its fault brought."""
    found: list[tuple[int, list[Transition]]] = []
    for place, transition in enumerate(log):
        if place >= start:
            if transition.kind == "removal":
                found[-1][1].append(transition)
            else:
                found.append((place, [transition]))
    return found


def reference(spec: Spec, start: Start, log: list[Transition]) -> End:
    """Search the log for the end of the waiter that a term stands for."""
    match spec:
        case ("or" | "any" as kind, left, right):
            ends = [reference(left, start, log), reference(right, start, log)]
            well = [end for end in ends if not end.failed]
            if not well:
                return End(max(end.place for end in ends), True, ends[0].value)
            first = min(well, key=lambda end: end.place)
            return first if kind == "or" else first._replace(value=(ends.index(first), first.value))
        case ("and" | "all", left, right):
            ends = [reference(left, start, log), reference(right, start, log)]
            failed = [end for end in ends if end.failed]
            if failed:
                return min(failed, key=lambda end: end.place)
            return End(max(end.place for end in ends), False, tuple(end.value for end in ends))
        case ("when", some_names):
            wanted = states(some_names)
            if start.ticks.is_active(*wanted):
                began = [
                    max(
                        place
                        for place in range(start.place)
                        if state in log[place].entering and not log[place].before.is_active(state)
                    )
                    for state in wanted
                ]
                return End(-1, False, log[max(began)])
            for place, group in groups(log, start.place):
                if group[-1].after.is_active(*wanted):
                    return End(place, False, group[0])
        case ("when_not", some_names):
            wanted = states(some_names)
            if not any(map(start.ticks.is_active, wanted)):
                return End(-1, False, start.last)
            for place, group in groups(log, start.place):
                for transition in group:
                    if not any(map(transition.after.is_active, wanted)):
                        return End(place, False, transition)
        case ("when_any", some_names):
            wanted = states(some_names)
            if any(map(start.ticks.is_active, wanted)):
                return End(-1, False, start.last)
            for place, group in groups(log, start.place):
                if any(map(group[-1].after.is_active, wanted)):
                    return End(place, False, group[0])
        case ("when_args" | "when_where", some_names, id):
            wanted = states(some_names)
            for place, group in groups(log, start.place):
                touched = {*group[0].called, *group[0].entering} & set(wanted)
                if group[-1].after.is_active(*wanted) and touched and group[0].args.get("id") == id:
                    return End(place, False, group[0])
        case ("when_tick" | "when_ticks" as kind, name, number):
            tick = number if kind == "when_tick" else start.ticks[Zoo[name]] + number
            if start.ticks[Zoo[name]] >= tick:
                return End(-1, False, start.last)
            for place, group in groups(log, start.place):
                for transition in group:
                    if transition.after[Zoo[name]] >= tick:
                        return End(place, False, transition)
        case ("when_next", name):
            for place, group in groups(log, start.place):
                if group[0].after[Zoo[name]] > group[0].before[Zoo[name]] and group[0].after.is_active(Zoo[name]):
                    return End(place, False, group[0])
        case ("when_query", number):
            looks = [(-1, start.ticks, start.last)]
            looks += [
                (place, group[-1].after, group[-1])
                for place, group in groups(log, start.place)
                if group[0].after != group[0].before
            ]
            for place, ticks, transition in looks:
                try:
                    if QUERIES[number](ticks):
                        return End(place, False, transition)
                except ZeroDivisionError:
                    return End(place, True, ZeroDivisionError)
        case ("when_error", name):
            for place, group in groups(log, start.place):
                if group[0].error is not None and Zoo[name] in group[0].entering:
                    return End(place, False, group[0].error)
    return CLOSED


# ---- The property ---------------------------------------------------------------------------------------------------


async def lived(program: list[Spec], every: int = 1) -> None:
    """Run a program with an awaiting task for each waiter, and compare every end with the reference.

    Who has ended by now is asked after every so many steps; how each ended, at the end.
    """
    keeper = Keeper()
    log = keeper.log
    specs: list[tuple[Spec, Start]] = []
    made_waiters: list[Waiter] = []
    awaited: dict[int, tuple[bool, object]] = {}

    async def take(number: int) -> None:
        try:
            awaited[number] = False, await made_waiters[number]
        except (MachineClosed, ZeroDivisionError) as error:
            awaited[number] = True, type(error)

    def done_by_now() -> None:
        """Every waiter has ended exactly if the log says that it must have."""
        for (spec, start), waiter in zip(specs, made_waiters, strict=True):
            assert waiter.done is (reference(spec, start, log).place < len(log)), (spec, waiter)

    async with trio.open_nursery() as outside:
        async with trsm.open_machine(Zoo, keeper) as machine:
            for number, step in enumerate(program):
                match step:
                    case ("make", spec):
                        specs.append((spec, Start(len(log), machine.last_transition, machine.ticks)))
                        made_waiters.append(made(machine, spec))
                        outside.start_soon(take, len(specs) - 1)
                    case ("pass",):
                        await trio.lowlevel.checkpoint()
                    case ("error", kind):
                        machine.add_error(kind())
                    case (kind, some_names, id):
                        args = {} if id is None else {"id": id}
                        if getattr(machine, kind)(*states(some_names), **args):
                            last = machine.last_transition
                            if last.kind != "open" and last.before == last.after and last not in log:
                                log.append(last)  # it moved no tick, so nobody wrote it
                if number % every == 0:
                    done_by_now()
            subscriptions = machine._subscriptions
    for number, (spec, start) in enumerate(specs):
        expected = reference(spec, start, log)
        assert awaited[number] == expected[1:], (spec, expected)
    # P20: closing told everyone, and holds nobody any more.
    assert subscriptions is None or len(subscriptions) == 0
    assert all(waiter._tasks is None or not waiter._tasks for waiter in made_waiters)


@pytest.mark.promise(10, 20)
@given(programs)
def test_waiters_against_the_log_property(program: list[Spec]) -> None:
    """P10: every waiter ends at the transition, and with the value, that a slow search of the log finds."""
    trio.run(lived, program)
