"""Causes: each transition knows the handler, task, child or outside call that made it, across machines."""

from __future__ import annotations

import gc
from collections.abc import Callable

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Engine, ErrorState, Machine, Schema, Source, State, Ticks, Tracer, Transition
from trsm._core._source import DEPTH, bounded


class Job(Schema):
    Go = State(multi=True)
    Next = State(multi=True)
    Last = State(multi=True)
    Busy = State(remove="Done")
    Done = State(remove=Busy)
    Auto = State(auto=True, require=Next)
    Brief = State(timeout=2, on_timeout="Last")
    ErrJob = ErrorState(catches=OSError)


def named(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """A function under this qualified name, which causes show."""
    function.__qualname__ = name
    return function


def causes(machine: object) -> list[str]:
    """The lines of what the last transition of a machine came from."""
    return machine.last_transition.describe_cause().splitlines()  # type: ignore[attr-defined]


def adds(state: State[..., object], to: Callable[[], object], name: str) -> Callable[..., object]:
    return named(name, lambda t: to().add(state) and None)  # type: ignore[attr-defined]


# ---- From outside ---------------------------------------------------------------------------------------------------


async def test_an_outside_call_has_no_source() -> None:
    """Opening, a body's call, one from a task of somebody else, one from a thread, and closing with the block."""
    async with trsm.open_machine(Job, id="job") as machine, trio.open_nursery() as nursery:
        assert causes(machine) == ["open(), transition 0 of machine 'job'", "from outside"]
        machine.add(Job.Go)
        assert machine.last_transition.source is None
        assert causes(machine) == ["add(Go), transition 1 of machine 'job'", "from outside"]

        async def other() -> None:
            machine.mutate(add=Job.Busy, remove=Job.Go)

        nursery.start_soon(other)
        await machine.when(Job.Busy)
        assert causes(machine) == ["mutate(Busy, Go), transition 2 of machine 'job'", "from outside"]
        await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(machine.remove, Job.Busy))
        assert causes(machine) == ["remove(Busy), transition 3 of machine 'job'", "from outside"]
    assert causes(machine) == ["close(), transition 4 of machine 'job'", "from outside"]


def test_a_bare_engine_tells_causes_too() -> None:
    """No event loop is needed; a record that nobody saw is as good as a transition."""
    engine = Engine(Job, id="job")
    engine.add(Job.Busy)
    engine.add(Job.Busy)
    assert causes(engine) == ["add(Busy), transition 2 of machine 'job'", "from outside"]
    engine.bind(Job.Go.on_enter(adds(Job.Next, lambda: engine, "Job.go")))
    engine.add(Job.Go)
    assert causes(engine) == [
        "auto(), transition 5 of machine 'job'",
        "by on_enter Job.go, in transition 3 of machine 'job', add(Go)",
        "from outside",
    ]


# ---- Handlers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["on_enter", "on_exit", "on_change"])
def test_a_final_handler_is_in_its_transition(kind: str) -> None:
    """Whether it mutates its own machine, which is queued, or another."""
    mark = {"on_enter": Job.Busy.on_enter, "on_exit": Job.Done.on_exit, "on_change": Job.on_change}[kind]

    def acts(t: Transition) -> None:
        if Job.Busy in t.called:
            engine.add(Job.Last)
            other.add(Job.Last)

    other = Engine(Job, id="other")
    engine = Engine(Job, mark(named("Job.acts", acts)), id="job")
    engine.add(Job.Done)
    engine.add(Job.Busy)
    by = [f"by {kind} Job.acts, in transition 2 of machine 'job', add(Busy)", "from outside"]
    assert causes(engine) == ["add(Last), transition 3 of machine 'job'", *by]
    assert causes(other) == ["add(Last), transition 1 of machine 'other'", *by]
    source = other.last_transition.source
    assert source == Source("job", 2, "add", ("Busy",), "Job.acts", role=kind)


@pytest.mark.parametrize("kind", ["can_enter", "can_exit", "can_stay", "pair", "can_change"])
def test_a_negotiation_handler_is_asked_after_the_transition_before(kind: str) -> None:
    """There is no transition yet that it could be in: the mutation may be refused."""
    mark = {
        "can_enter": Job.Busy.can_enter,
        "can_exit": Job.Done.can_exit,
        "can_stay": Job.Next.can_stay,
        "pair": Job.Busy.can_enter(given=Job.Done),
        "can_change": Job.can_change,
    }[kind]
    role = "can_enter" if kind == "pair" else kind
    other = Engine(Job, id="other")
    asked: list[str] = []

    def asks(t: Transition) -> bool:
        if Job.Busy in t.called:
            asked.append(t.describe_cause())
            other.add(Job.Go)
        return Job.Busy not in t.called

    engine = Engine(Job, id="job")
    engine.add(Job.Done, Job.Next)
    before = engine.last_transition.tick
    engine.bind(mark(named("Job.asks", asks)))
    assert not engine.add(Job.Busy)
    assert asked == [f"add(Busy), negotiated after transition {before} of machine 'job'\nfrom outside"]
    assert causes(other) == [
        "add(Go), transition 1 of machine 'other'",
        f"by {role} Job.asks, asked after transition {before} of machine 'job', add(Busy)",
        "from outside",
    ]


def test_a_transition_counts_itself_once_it_is_committed() -> None:
    """Its tick, and what it says of itself, before and after; one that was canceled never comes to that."""
    told: list[tuple[str, int, str]] = []

    class Hears(Tracer):
        def resolved(self, machine: object, transition: Transition, is_accepted: bool) -> None:
            told.append(("resolved", transition.tick, transition.describe_cause().splitlines()[0]))

        def committed(self, machine: object, transition: Transition) -> None:
            told.append(("committed", transition.tick, transition.describe_cause().splitlines()[0]))

        def transition_ended(self, machine: object, transition: Transition, result: object) -> None:
            told.append(("ended", transition.tick, transition.describe_cause().splitlines()[0]))

    engine = Engine(Job, id="job", tracers=[Hears()])
    engine.add(Job.Busy)
    engine.add(Job.Busy)  # moves nothing, and counts
    engine.mutate(add=Job.Auto, remove=Job.Busy)  # refused
    assert told == [
        ("resolved", 0, "add(Busy), negotiated after transition 0 of machine 'job'"),
        ("committed", 1, "add(Busy), transition 1 of machine 'job'"),
        ("ended", 1, "add(Busy), transition 1 of machine 'job'"),
        ("resolved", 1, "add(Busy), negotiated after transition 1 of machine 'job'"),
        ("committed", 2, "add(Busy), transition 2 of machine 'job'"),
        ("ended", 2, "add(Busy), transition 2 of machine 'job'"),
        ("resolved", 2, "mutate(Auto, Busy), negotiated after transition 2 of machine 'job'"),
        ("ended", 2, "mutate(Auto, Busy), negotiated after transition 2 of machine 'job'"),
    ]


@pytest.mark.parametrize("name", ["can_add", "can_remove", "explain"])
def test_a_dry_run_says_so_and_who_asks(name: str) -> None:
    """In a handler of another machine it comes from there."""
    asked: list[list[str]] = []

    def asks(t: Transition) -> bool:
        asked.append(t.describe_cause().splitlines())
        return True

    other = Engine(Job, Job.can_change(asks), id="other")
    other.add(Job.Last)
    del asked[:]

    def acts(t: Transition) -> None:
        if name == "can_add":
            other.can_add(Job.Go)
        elif name == "can_remove":
            other.can_remove(Job.Last)
        else:
            other.explain("add", Job.Go)

    engine = Engine(Job, Job.Go.on_enter(named("Job.acts", acts)), id="job")
    engine.add(Job.Go)
    what = "remove(Last)" if name == "can_remove" else "add(Go)"
    assert asked == [
        [
            f"{what}, a dry run of machine 'other'",
            "by on_enter Job.acts, in transition 1 of machine 'job', add(Go)",
            "from outside",
        ]
    ]
    assert other.can_add(Job.Go)
    assert asked[1] == ["add(Go), a dry run of machine 'other'", "from outside"]


def test_what_follows_from_a_mutation_has_its_cause() -> None:
    """The automatic round, and the removal that a fault brings, come from who made the mutation."""

    def fails(t: Transition) -> None:
        raise OSError

    engine = Engine(
        Job,
        Job.Go.on_enter(adds(Job.Next, lambda: engine, "Job.go")),
        Job.Last.on_enter(named("Job.fails", fails)),
        id="job",
    )
    told: list[str] = []

    class Hears(Tracer):
        def committed(self, machine: object, transition: Transition) -> None:
            source = transition.source
            told.append(f"{transition.kind} by {None if source is None else source.handler}")

    engine.trace(Hears())
    engine.add(Job.Go)
    assert told == ["add by None", "add by Job.go", "auto by Job.go"]
    del told[:]
    engine.add(Job.Last)
    assert told == ["add by None", "removal by None", "error by Job.fails"]
    assert causes(engine) == [
        "error(Error), transition 6 of machine 'job'",
        "by on_enter Job.fails, in transition 4 of machine 'job', add(Last)",
        "from outside",
    ]


def test_what_a_handler_raises_in_negotiation_is_an_error_that_it_caused() -> None:
    """Nothing was committed, so it was asked after the transition before."""

    def fails(t: Transition) -> bool:
        raise OSError

    engine = Engine(Job, Job.Busy.can_enter(named("Job.fails", fails)), id="job")
    engine.add(Job.Done)
    engine.add(Job.Busy)
    assert causes(engine) == [
        "error(Error), transition 2 of machine 'job'",
        "by can_enter Job.fails, asked after transition 1 of machine 'job', add(Busy)",
        "from outside",
    ]


def test_an_error_that_a_handler_adds_is_caused_by_it() -> None:
    """As any mutation; one that is added from outside is from there."""
    engine = Engine(Job, Job.Go.on_enter(named("Job.go", lambda t: engine.add_error(OSError()) and None)), id="job")
    engine.add(Job.Go)
    assert causes(engine) == [
        "error(Error), transition 2 of machine 'job'",
        "by on_enter Job.go, in transition 1 of machine 'job', add(Go)",
        "from outside",
    ]
    engine.add_error(OSError())
    assert causes(engine)[1:] == ["from outside"]


def test_after_a_drain_calls_come_from_outside_again() -> None:
    """Nothing of a handler's cause is left to who called; also where asking raised."""

    def fails(t: Transition) -> bool:
        raise OSError

    engine = Engine(Job, Job.Go.on_enter(lambda t: None), Job.Done.can_enter(fails))
    engine.add(Job.Go)
    engine.add(Job.Last)
    assert engine.last_transition.source is None
    with pytest.raises(OSError):
        engine.can_add(Job.Done)
    engine.add(Job.Last)
    assert engine.last_transition.source is None
    engine.add(Job.Done)
    engine.add(Job.Last)
    assert engine.last_transition.source is None


async def test_what_a_handler_starts_in_a_nursery_of_its_own_carries_that_handler(autojump_clock: MockClock) -> None:
    """Not the last of the transition: each of several final handlers is noted, also after a negotiation."""
    async with trio.open_nursery() as nursery, trsm.open_machine(Job, id="other") as other:

        async def later(state: State[..., object]) -> None:
            await trio.sleep(1)
            other.add(state)

        handlers = (
            Job.Go.can_enter(named("Job.may", lambda t: True)),
            Job.Go.on_enter(named("Job.one", lambda t: nursery.start_soon(later, Job.Next))),
            Job.Go.on_enter(named("Job.two", lambda t: nursery.start_soon(later, Job.Last))),
            Job.Busy.can_enter(named("Job.may_too", lambda t: True)),
            Job.Busy.on_enter(named("Job.alone", lambda t: nursery.start_soon(later, Job.Done))),
        )
        async with trsm.open_machine(Job, *handlers, id="job") as machine:
            for _ in range(2):  # the second time it is all known
                made = {state: other.when_next(state) for state in (Job.Next, Job.Last, Job.Done)}
                machine.add(Job.Go)
                machine.add(Job.Busy)
                for state, who in ((Job.Next, "Job.one"), (Job.Last, "Job.two"), (Job.Done, "Job.alone")):
                    source = (await made[state]).source
                    assert source is not None
                    assert source.handler == who
                other.remove(Job.Done)
                machine.remove(Job.Busy)


# ---- Tasks ----------------------------------------------------------------------------------------------------------


async def test_a_task_is_after_the_transition_that_began_it() -> None:
    """Its own mutations, those of what it starts and of other machines, its ``then=`` and what it raises."""
    async with trsm.open_machine(Job, id="other") as other:

        async def work(t: Transition) -> None:
            machine.add(Job.Last)
            lines.append(causes(machine))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(inner)

        async def inner() -> None:
            await trio.lowlevel.checkpoint()
            other.add(Job.Go)

        async def fails(t: Transition) -> None:
            raise OSError

        lines: list[list[str]] = []
        handlers = Job.Busy.task(then=Job.Done)(named("Job.work", work)), Job.Go.task(named("Job.fails", fails))
        async with trsm.open_machine(Job, *handlers, id="job") as machine:
            machine.add(Job.Busy)
            done = await machine.when(Job.Done)
            by = ["by task Job.work, after transition 1 of machine 'job', add(Busy)", "from outside"]
            assert lines == [["add(Last), transition 2 of machine 'job'", *by]]
            assert causes(other) == ["add(Go), transition 1 of machine 'other'", *by]
            assert done.describe_cause().splitlines() == ["add(Done), transition 3 of machine 'job'", *by]
            assert done.source == Source("job", 1, "add", ("Busy",), "Job.work", role="task")
            machine.add(Job.Go)
            failed = await machine.when(Job.ErrJob)
            assert failed.describe_cause().splitlines() == [
                "error(Error), transition 5 of machine 'job'",
                "by task Job.fails, after transition 4 of machine 'job', add(Go)",
                "from outside",
            ]


async def test_a_task_that_no_mutation_of_somebody_began_goes_back_to_who_made_it() -> None:
    """From task to task, and to the handler before them: the first is the last line."""
    handlers = (
        Job.Go.on_enter(named("Job.go", lambda t: t.machine.add(Job.Next) and None)),
        Job.Next.task(then=Job.Busy)(named("Job.first", nothing_of_one)),
        Job.Busy.task(then=Job.Done)(named("Job.second", nothing_of_another)),
    )
    async with trsm.open_machine(Job, *handlers, id="job") as machine:
        machine.add(Job.Go)
        done = await machine.when(Job.Done)
    assert done.describe_cause().splitlines() == [
        "add(Done), transition 5 of machine 'job'",
        "by task Job.second, after transition 4 of machine 'job', add(Busy)",
        "by task Job.first, after transition 2 of machine 'job', add(Next)",
        "by on_enter Job.go, in transition 1 of machine 'job', add(Go)",
        "from outside",
    ]
    assert done.source is not None
    assert [one.handler for one in done.source.chain()] == ["Job.second", "Job.first", "Job.go"]
    assert done.source.depth == 3


async def nothing_of_one(t: Transition) -> None: ...


async def nothing_of_another(t: Transition) -> None: ...


async def test_what_start_soon_runs_is_a_task_of_who_started_it() -> None:
    """After the transition that began its state, or the last one; its parent is the handler that called."""

    async def dials() -> None:
        machine.add(Job.Last)

    async def fails() -> None:
        raise OSError

    def starts(t: Transition) -> None:
        t.machine.start_soon(dials, while_active=Job.Go, name="dial")

    async with trsm.open_machine(Job, Job.Go.on_enter(named("Job.starts", starts)), id="job") as machine:
        machine.add(Job.Go)
        assert (await machine.when(Job.Last)).describe_cause().splitlines() == [
            "add(Last), transition 2 of machine 'job'",
            "by task dial, after transition 1 of machine 'job', add(Go)",
            "by on_enter Job.starts, in transition 1 of machine 'job', add(Go)",
            "from outside",
        ]
        machine.remove(Job.Last)
        machine.start_soon(fails, name="fail")
        assert (await machine.when(Job.ErrJob)).describe_cause().splitlines() == [
            "error(Error), transition 4 of machine 'job'",
            "by task fail, after transition 3 of machine 'job', remove(Last)",
            "from outside",
        ]


async def test_a_timeout_of_a_state(autojump_clock: MockClock) -> None:
    """It names the state and the seconds, and goes back to who made that active."""

    def begins(t: Transition) -> None:
        t.machine.add(Job.Brief)

    async with trsm.open_machine(Job, Job.Go.on_enter(named("Job.begins", begins)), id="job") as machine:
        machine.add(Job.Go)
        last = await machine.when(Job.Last)
        assert last.describe_cause().splitlines() == [
            "mutate(Last, Brief), transition 3 of machine 'job'",
            "by timeout of Brief (2 s), after transition 2 of machine 'job', add(Brief)",
            "by on_enter Job.begins, in transition 1 of machine 'job', add(Go)",
            "from outside",
        ]
        assert last.source is not None and last.source.role == "timeout"


async def test_a_timeout_that_is_refused_lets_a_tracer_end_the_machine(autojump_clock: MockClock) -> None:
    """What a tracer raises there that is no exception closes it in the same step, not at the next mutation."""

    class Stop(BaseException):
        pass

    class Raises(Tracer):
        def timeout_refused(self, machine: object, state: object, result: object) -> None:
            raise Stop

    def never(t: Transition) -> bool:
        return False

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trsm.open_machine(Job, Job.Brief.can_exit(never), tracers=[Raises()]) as machine:
            machine.add(Job.Brief)
            await trio.sleep(100)
    assert [type(one) for one in caught.value.exceptions] == [Stop]
    assert trio.current_time() == 2


# ---- Across machines ------------------------------------------------------------------------------------------------


async def test_an_error_of_a_child_is_the_parents_with_the_childs_cause() -> None:
    """The handler or task that raised there, back to the parent's handler that drove the child."""
    children: list[Machine] = []

    def begins(t: Transition) -> None:
        children.append(t.machine.start_child(Task, Task.Busy.task(named("Child.work", fails)), id="child"))
        children[0].add(Task.Busy)

    class Task(Schema):
        Busy = State()

    async def fails(t: Transition) -> None:
        raise OSError

    async with trsm.open_machine(Job, Job.Go.on_enter(named("Boss.begins", begins)), id="boss") as boss:
        boss.add(Job.Go)
        failed = await boss.when(Job.ErrJob)
        assert failed.describe_cause().splitlines() == [
            "error(Error), transition 2 of machine 'boss'",
            "by task Child.work, after transition 1 of machine 'child', add(Busy)",
            "by on_enter Boss.begins, in transition 1 of machine 'boss', add(Go)",
            "from outside",
        ]
        assert causes(children[0])[0] == "close(), transition 3 of machine 'child'"
        assert causes(children[0])[1:] == failed.describe_cause().splitlines()[1:]


async def test_a_cleanup_of_a_child_is_a_cause(autojump_clock: MockClock) -> None:
    """What it does to other machines, what it raises, and that it took too long: after the child's last transition."""

    async def cleans(boss: Machine) -> None:
        boss.add(Job.Last)
        raise OSError

    async def sleeps() -> None:
        await trio.sleep_forever()

    def ends(t: Transition) -> None:
        child.close()

    class Parent(Schema):
        Go = State()
        Last = State()
        ErrLate = ErrorState(catches=trio.TooSlowError)
        ErrJob = ErrorState(catches=OSError)

    cleans.__qualname__, sleeps.__qualname__ = "Child.cleans", "Child.sleeps"
    handlers = Job.Go.on_enter(named("Boss.ends", ends))
    async with trsm.open_machine(Job, handlers, id="boss", cleanup_timeout=3) as boss:
        child = boss.start_child(Job, id="child")
        child.defer(cleans, boss)
        boss.add(Job.Go)
        failed = await boss.when(Job.ErrJob)
        by = [
            "by cleanup Child.cleans, after transition 1 of machine 'child', close()",
            "by on_enter Boss.ends, in transition 1 of machine 'boss', add(Go)",
            "from outside",
        ]
        assert failed.describe_cause().splitlines() == ["error(Error), transition 3 of machine 'boss'", *by]
        last = await boss.when(Job.Last)
        assert last.describe_cause().splitlines() == ["add(Last), transition 2 of machine 'boss'", *by]
    async with trsm.open_machine(Parent, id="boss", cleanup_timeout=3) as boss:
        child = boss.start_child(Job, id="child")
        child.defer(sleeps)
        child.close()
        late = await boss.when(Parent.ErrLate)
        assert late.describe_cause().splitlines()[1:] == [
            "by cleanup Child.sleeps, after transition 1 of machine 'child', close()",
            "from outside",
        ]


async def test_after_the_cleanups_of_a_block_calls_come_from_outside_again() -> None:
    """They run in the task that leaves the block, and leave nothing of their cause to it."""

    async def cleans(other: Machine) -> None:
        other.add(Job.Go)

    cleans.__qualname__ = "cleans"
    async with trsm.open_machine(Job, id="other") as other:
        async with trsm.open_machine(Job, id="job") as machine:
            machine.defer(cleans, other)
        assert causes(other)[1:] == ["by cleanup cleans, after transition 1 of machine 'job', close()", "from outside"]
        other.add(Job.Last)
        assert other.last_transition.source is None


async def test_a_pipe_carries_the_cause() -> None:
    """From state to state over three machines, each a handler of the one before; a pipe names its state."""
    async with (
        trsm.open_machine(Job, id="a") as a,
        trsm.open_machine(Job, id="b") as b,
        trsm.open_machine(Job, id="c") as c,
    ):
        trsm.pipe(a, Job.Busy, b, Job.Go)
        trsm.pipe(b, Job.Go, c, Job.Done)
        a.add(Job.Busy)
        assert causes(c) == [
            "add(Done), transition 1 of machine 'c'",
            "by on_enter pipes of Go, in transition 1 of machine 'b', add(Go)",
            "by on_enter pipes of Busy, in transition 1 of machine 'a', add(Busy)",
            "from outside",
        ]
        a.remove(Job.Busy)
        assert causes(c) == [
            "remove(Done), transition 2 of machine 'c'",
            "by on_exit pipes of Go, in transition 2 of machine 'b', remove(Go)",
            "by on_exit pipes of Busy, in transition 2 of machine 'a', remove(Busy)",
            "from outside",
        ]


async def test_closing_has_its_cause_in_children_too() -> None:
    """The handler that closed a machine is what its last transition, and its children's, come from."""

    def ends(t: Transition) -> None:
        boss.close()

    async with trsm.open_machine(Job, id="boss") as boss:
        child = boss.start_child(Job, id="child")
        other = Engine(Job, Job.Go.on_enter(named("Other.ends", ends)), id="other")
        other.add(Job.Go)
        by = ["by on_enter Other.ends, in transition 1 of machine 'other', add(Go)", "from outside"]
        assert causes(boss) == ["close(), transition 1 of machine 'boss'", *by]
        assert causes(child) == ["close(), transition 1 of machine 'child'", *by]


async def test_what_is_no_exception_closes_with_the_handler_that_raised_it_as_its_cause() -> None:
    """As that handler would be if it had called close."""

    class Stop(BaseException):
        pass

    def stops(t: Transition) -> None:
        raise Stop

    async with trsm.open_machine(Job, Job.Go.on_enter(named("Job.stops", stops)), id="job") as machine:
        with pytest.raises(Stop):
            machine.add(Job.Go)
    assert causes(machine)[0].startswith("close(), transition ")
    assert causes(machine)[1:] == ["by on_enter Job.stops, in transition 1 of machine 'job', add(Go)", "from outside"]


async def test_a_machine_that_a_task_opens_has_that_task_as_its_cause() -> None:
    """Body, tasks and timeouts in it: they run in the context of who opened it."""
    lines: list[list[str]] = []

    async def opens(t: Transition) -> None:
        async with trsm.open_machine(Job, Job.Busy.task(then=Job.Done)(named("Inner.work", inner)), id="inner") as one:
            one.add(Job.Busy)
            await one.when(Job.Done)
            lines.append(causes(one))

    async def inner(t: Transition) -> None: ...

    async with trsm.open_machine(Job, Job.Go.task(then=Job.Last)(named("Outer.opens", opens)), id="outer") as machine:
        machine.add(Job.Go)
        await machine.when(Job.Last)
    assert lines == [
        [
            "add(Done), transition 2 of machine 'inner'",
            "by task Inner.work, after transition 1 of machine 'inner', add(Busy)",
            "by task Outer.opens, after transition 1 of machine 'outer', add(Go)",
            "from outside",
        ]
    ]


async def test_a_predicate_has_the_cause_of_the_transition_that_it_looks_at() -> None:
    """And not of a handler that ran before, in the same drain; made by a handler, it is the handler's."""
    other = Engine(Job, id="other")
    seen: list[str | None] = []

    def looks(ticks: Ticks) -> bool:
        other.add(Job.Go)
        source = other.last_transition.source
        seen.append(None if source is None else source.handler)
        return False

    def begins(t: Transition) -> None:
        t.machine.add(Job.Last)

    async with trsm.open_machine(Job, id="job") as machine:
        query = machine.when_query(looks)
        machine.bind(Job.Go.on_enter(named("Job.begins", begins)))
        machine.bind(Job.Last.on_enter(named("Job.acts", lambda t: None)))
        machine.add(Job.Go)
        assert seen == [None, None, "Job.begins"]
        del query, seen[:]
        kept: list[object] = []
        machine.bind(Job.Busy.on_enter(named("Job.makes", lambda t: kept.append(t.machine.when_query(looks)))))
        machine.add(Job.Busy)
        assert seen == ["Job.makes", None]


# ---- The record -----------------------------------------------------------------------------------------------------


def ping_pong(rounds: int) -> Engine:
    """Two engines whose handlers mutate each other so often."""

    def to_other(t: Transition) -> None:
        if t.args["left"]:
            two.add(Job.Go, left=t.args["left"] - 1)

    def back(t: Transition) -> None:
        if t.args["left"]:
            one.add(Job.Go, left=t.args["left"] - 1)

    one = Engine(Job, Job.Go.on_enter(named("One.ping", to_other)), id="one")
    two = Engine(Job, Job.Go.on_enter(named("Two.pong", back)), id="two")
    one.add(Job.Go, left=rounds)
    return one if rounds % 2 == 0 else two


@pytest.mark.parametrize("rounds", [0, 1, DEPTH - 1, DEPTH, DEPTH + 1, DEPTH + 2, 3 * DEPTH])
def test_a_chain_is_bounded_and_its_middle_is_counted(rounds: int) -> None:
    """At most so many records; the newest and the oldest are kept, what is between them is counted in one place."""
    engine = ping_pong(rounds)
    source = engine.last_transition.source
    assert (source is None) is (rounds == 0)
    chain = () if source is None else source.chain()
    assert len(chain) == min(rounds, DEPTH) == (0 if source is None else source.depth)
    assert {record.role for record in chain} <= {"on_enter"}
    assert {record.machine for record in chain} <= {"one", "two"}
    assert [record.tick for record in chain] == sorted((record.tick for record in chain), reverse=True)
    omitted = [record.omitted for record in chain]
    assert sum(omitted) == rounds - len(chain)
    assert sum(1 for one in omitted if one) == (1 if rounds > DEPTH else 0)
    handlers = ["One.ping" if number % 2 == 0 else "Two.pong" for number in range(rounds)][::-1]
    kept = len(chain)
    gap = next((place for place, one in enumerate(omitted, start=1) if one), kept)
    assert [record.handler for record in chain] == handlers[:gap] + handlers[rounds - (kept - gap) :]
    lines = causes(engine)
    assert lines[-1] == "from outside"
    if rounds > DEPTH:
        assert lines[1 + gap] == f"… {rounds - DEPTH} more …"
        assert gap == DEPTH // 2
        assert lines[-2] == "by on_enter One.ping, in transition 1 of machine 'one', add(Go)"
    assert len(lines) == 1 + kept + (rounds > DEPTH) + 1


def test_a_chain_that_is_short_enough_is_not_copied() -> None:
    """The records of the cause are shared by all that follows from it."""
    source: Source | None = None
    for number in range(DEPTH):
        source = Source("job", number, "add", ("Go",), "acts", source)
        assert bounded(source) is source
    longer = bounded(Source("job", DEPTH, "add", ("Go",), "acts", source))
    assert longer.depth == DEPTH
    assert longer.chain()[DEPTH // 2] is source.chain()[DEPTH // 2]  # type: ignore[union-attr]


def test_a_record_is_frozen_and_holds_names_and_numbers_only() -> None:
    """No transition, argument or exception is kept alive by what it has led to."""
    kept: list[Source] = []

    class Heavy:
        pass

    def acts(t: Transition) -> None:
        other.add(Job.Last)

    other = Engine(Job, id="other")
    engine = Engine(Job, Job.Go.on_enter(named("Job.acts", acts)), id="job")
    engine.add(Job.Go, heavy=Heavy())
    source = other.last_transition.source
    assert source is not None
    kept.append(source)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        source.tick = 3  # type: ignore[misc]
    values = attrs.astuple(source, recurse=False)
    assert all(isinstance(value, (str, int, tuple, type(None))) for value in values)
    engine.remove(Job.Go)
    engine.close()
    del engine
    gc.collect()
    assert not any(isinstance(one, Heavy) for one in gc.get_objects())


def test_a_record_says_what_it_is_in_words() -> None:
    """A line for it alone, and the whole chain with what was dropped; who runs in a transition, after it, before it."""
    first = Source("a", 1, "add", ("Go",), "A.begin", role="on_enter")
    source = Source("b", 7, "mutate", ("Go", "Done"), "B.work", first, omitted=4)
    assert source.role == "task"
    assert source.line == "task B.work, after transition 7 of machine 'b', mutate(Go, Done)"
    assert str(source).splitlines() == [
        f"by {source.line}",
        "… 4 more …",
        "by on_enter A.begin, in transition 1 of machine 'a', add(Go)",
        "from outside",
    ]
    assert Source("a", 1, "add", (), "F.may", role="can_change").line == (
        "can_change F.may, asked after transition 1 of machine 'a', add()"
    )
    assert Source("a", 1, "add", ("Go",), "timeout of Go (1 s)", role="timeout").line == (
        "timeout of Go (1 s), after transition 1 of machine 'a', add(Go)"
    )
    assert Source("a", 1, "close", (), "F.clean", role="cleanup").line == (
        "cleanup F.clean, after transition 1 of machine 'a', close()"
    )


def test_a_transition_tells_its_cause_when_its_machine_is_gone() -> None:
    """By the schema's name; the causes before it name theirs."""
    others = [Engine(Job, id="other")]

    def acts(t: Transition) -> None:
        others[0].add(Job.Last)

    engine = Engine(Job, Job.Go.on_enter(named("Job.acts", acts)), id="job")
    engine.add(Job.Go)
    transition = others[0].last_transition
    others.clear()
    gc.collect()
    assert transition.describe_cause().splitlines() == [
        "add(Last), transition 1 of a machine on Job, now gone",
        "by on_enter Job.acts, in transition 1 of machine 'job', add(Go)",
        "from outside",
    ]


async def test_a_task_that_overflows_is_the_cause_of_its_error() -> None:
    """The activation that had no room, after the transition that made it."""

    async def work(t: Transition) -> None:
        await trio.sleep_forever()

    class Busy(Schema):
        Go = State(multi=True)
        ErrFull = ErrorState(catches=trsm.QueueFull)

    handler = Busy.Go.task(limit=1)(named("Busy.work", work))
    async with trsm.open_machine(Busy, handler, id="busy", queue_limit=1) as machine:
        for _ in range(3):
            machine.add(Busy.Go)
        assert causes(machine) == [
            "error(Error), transition 4 of machine 'busy'",
            "by task Busy.work, after transition 3 of machine 'busy', add(Go)",
            "from outside",
        ]
        await wait_all_tasks_blocked()


async def test_a_mutation_that_nobody_observes_keeps_its_cause() -> None:
    """Made in a task, again and again: it is an entry of the journal, and who made it stands beside it."""

    class Lamp(Schema):
        Lit = State()

    async with trsm.open_machine(Lamp, id="lamp") as lamp:

        async def work(t: Transition) -> None:
            for _ in range(3):
                lamp.add(Lamp.Lit)
                causes_of.append(lamp.last_transition.describe_cause())
                lamp.remove(Lamp.Lit)
                causes_of.append(lamp.last_transition.describe_cause())
            done.set()

        done = trio.Event()
        causes_of: list[str] = []
        async with trsm.open_machine(Job, Job.Go.task(named("Job.work", work)), id="job") as machine:
            machine.add(Job.Go)
            await done.wait()
    by = "by task Job.work, after transition 1 of machine 'job', add(Go)\nfrom outside"
    kinds = ("add", "remove")
    assert causes_of == [
        f"{kinds[number % 2]}(Lit), transition {number + 1} of machine 'lamp'\n{by}" for number in range(6)
    ]
