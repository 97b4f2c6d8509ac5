"""Promises P12 and P18 as properties: tasks and their instances, and what observers see (DESIGN sections 5, 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
import trio
from hypothesis import event, given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trsm
from trsm import ErrorState, Machine, Schema, State, Transition

# ---- P12: no task outside its instance, each cancelled when its state leaves, none beside its successor -------------


class Work(Schema):
    One = State()
    Two = State(remove=One)
    Many = State(multi=True)
    Few = State(multi=True, require=One)
    ErrOs = ErrorState(catches=OSError)
    ErrStop = ErrorState(catches=KeyError, remove=[One, Many])


LIMITS: dict[str, tuple[int | None, ...]] = {"One": (None, None), "Two": (None,), "Many": (None, 1), "Few": (2,)}
"""State -> the limits of its tasks."""
STATES = [state for state in Work if state.name in LIMITS]


class Run:
    """A task of the test from its first step to its last."""

    def __init__(self, state: str, place: int, instance: int) -> None:
        self.state = state
        self.place = place
        self.instance = instance
        self.how = ""
        """Empty while it waits; then why it waits no more."""
        self.task = trio.lowlevel.current_task()
        self.release = trio.Event()


class Site:
    """Handlers that keep the model: instances, activations, and the tasks that run."""

    def __init__(self) -> None:
        self.instance = Counter[str]()
        """State -> how many of its instances have ended."""
        self.began: dict[tuple[str, int], int] = {}
        """State and tick of the activating transition -> instance."""
        self.due = {(name, place): 0 for name, limits in LIMITS.items() for place in range(len(limits))}
        """Task -> how many activations of the present instance it has not done yet."""
        self.runs: list[Run] = []
        self.activations = 0
        self.machine: Machine | None = None

    def enter(self, name: str, t: Transition) -> None:
        self.activations += 1
        self.began[name, t.tick] = self.instance[name]
        for place in range(len(LIMITS[name])):
            self.due[name, place] += 1

    def leave(self, name: str) -> None:
        self.instance[name] += 1
        for place in range(len(LIMITS[name])):
            self.due[name, place] = 0
        for run in self.runs:
            assert run.state != name or run.how, "told by now: its state has left, though no other task has run"

    def is_present(self, run: Run) -> bool:
        return run.instance == self.instance[run.state]

    async def work(self, state: State[..., object], place: int, t: Transition) -> None:
        name = state.name
        run = Run(name, place, self.began[name, t.tick])
        assert t.machine.is_active(state) and self.is_present(run), "no task starts outside its instance"
        assert all(other.instance == run.instance for other in self.of(name)), "none overlaps its successor"
        limit = LIMITS[name][place]
        assert limit is None or sum(other.place == place for other in self.of(name)) < limit
        self.runs.append(run)

        def abort(raise_cancel: object) -> trio.lowlevel.Abort:
            run.how = "cancelled"
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
            if run.how == "leaves":
                t.machine.remove(state)
            elif run.how == "goes round":
                t.machine.remove(state)
                t.machine.add(Work.One, state) if state is Work.Few else t.machine.add(state)
            elif run.how == "fails":
                raise OSError
            elif run.how == "stops":
                raise KeyError
            elif run.how == "lingers":
                await trio.lowlevel.checkpoint()
        finally:
            if run.how in ("cancelled", "lingers"):
                with trio.CancelScope(shield=True):
                    await run.release.wait()
            self.runs.remove(run)
            if self.is_present(run):
                self.due[name, place] -= 1

    def of(self, name: str) -> list[Run]:
        return [run for run in self.runs if run.state == name]

    def check(self, machine: Machine) -> None:
        """What holds at every moment."""
        for run in self.runs:
            assert run.how or (self.is_present(run) and run.state in str(machine)), "cancelled in the same step"
        for name in LIMITS:
            assert len({run.instance for run in self.of(name)}) <= 1, "none overlaps its successor"
        tree = machine._nursery.child_tasks
        assert tree.issuperset(run.task for run in self.runs)

    def check_settled(self, machine: Machine) -> None:
        """What holds when every task has got as far as it can: exactly these tasks are in the machine's nursery."""
        self.check(machine)
        expected = 0
        for state in STATES:
            runs = self.of(state.name)
            old = [run for run in runs if not self.is_present(run)]
            expected += len(old)
            for place, limit in enumerate(LIMITS[state.name]):
                due = self.due[state.name, place]
                assert not due or machine.is_active(state)
                at_once = due if limit is None else min(limit, due)
                expected += at_once
                assert sum(run.place == place for run in runs if self.is_present(run)) == (0 if old else at_once)
        assert len(machine._nursery.child_tasks) == expected


def handlers_of(site: Site) -> object:
    """An object with on_enter, on_exit and the tasks of every state."""
    body: dict[str, object] = {}

    def put(state: State[..., object]) -> None:
        name = state.name
        body[f"enter_{name}"] = state.on_enter(lambda self, t: site.enter(name, t))
        body[f"leave_{name}"] = state.on_exit(lambda self, t: site.leave(name))
        for place, limit in enumerate(LIMITS[name]):

            @state.task(limit=limit)
            async def run(self: object, t: Transition, place: int = place) -> None:
                await site.work(state, place, t)

            body[f"task_{name}_{place}"] = run

    for state in STATES:
        put(state)
    return type("Handlers", (), body)()


class Step(NamedTuple):
    """One step of a random life."""

    what: str
    state: State[..., object] | None = None
    number: int = 0


def steps() -> st.SearchStrategy[list[Step]]:
    nothing = st.just(0)
    kinds = st.sampled_from(["add", "add", "remove", "set", "toggle"])
    mutation = st.builds(Step, kinds, st.sampled_from(STATES), nothing)
    ending = st.builds(
        Step,
        st.sampled_from(["returns", "fails", "stops", "leaves", "goes round", "lingers"]),
        st.none(),
        st.integers(0, 7),
    )
    release = st.builds(Step, st.just("release"), st.none(), st.integers(0, 7))
    pause = st.builds(Step, st.sampled_from(["checkpoint", "settle"]), st.none(), nothing)
    return st.lists(st.one_of(mutation, mutation, mutation, ending, release, pause, pause), min_size=5, max_size=40)


def pick(runs: list[Run], number: int) -> Run | None:
    return runs[number % len(runs)] if runs else None


async def live(machine: Machine, site: Site, life: Iterable[Step]) -> None:
    """Take the steps, and look after each."""
    for step in life:
        match step.what:
            case "checkpoint":
                await trio.lowlevel.checkpoint()
            case "settle":
                await wait_all_tasks_blocked()
                site.check_settled(machine)
            case "release":
                run = pick([run for run in site.runs if run.how in ("cancelled", "lingers")], step.number)
                if run is not None:
                    run.release.set()
            case "add" | "remove" | "set" | "toggle":
                getattr(machine, step.what)(step.state)
            case how:
                run = pick([run for run in site.runs if not run.how], step.number)
                if run is not None:
                    run.how = how
                    trio.lowlevel.reschedule(run.task)
        site.check(machine)


@pytest.mark.promise(12, 20)
@given(life=steps(), is_started=st.booleans())
async def test_property_tasks_belong_to_their_instance(
    life: list[Step], is_started: bool, figure: Callable[..., None]
) -> None:
    """P12: whatever comes and goes, and however slowly tasks clean up, each step finds the tasks as promised."""
    site = Site()
    async with trsm.open_machine(Work) as root:
        machine = root.start_child(Work, handlers_of(site)) if is_started else root
        if not is_started:
            machine.bind(handlers_of(site))
        await live(machine, site, life)
        await wait_all_tasks_blocked()
        site.check_settled(machine)
        event(f"{min(site.activations // 10, 3)}0 activations or more")
        figure(12, activations=site.activations)
        machine.close()
        assert all(run.how for run in site.runs), "closing cancels all"
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            assert {run.how for run in site.runs} <= {"cancelled", "lingers"}
            for run in list(site.runs):
                run.release.set()
            await wait_all_tasks_blocked()
        assert site.runs == [] and root._nursery.child_tasks == frozenset()


# ---- P18: run to completion -----------------------------------------------------------------------------------------


class Life(Schema):
    Front = State()
    Back = State()
    Left = State()
    Right = State(remove=Left)
    Needs = State(require=Front)
    Auto = State(auto=True, require=[Left, Back])
    Call = State(multi=True)
    ErrOs = ErrorState(catches=OSError)


class LifeHandlers:
    """`Back` follows `Front` by mutations that handlers queue; `Call` fails half-way, and works in tasks."""

    def __init__(self) -> None:
        self.inside = 0
        self.parts = 0

    @Life.Front.on_enter
    def push(self, t: Transition) -> None:
        self.inside += 1
        t.machine.add(Life.Back)

    @Life.Front.on_exit
    def pull(self, t: Transition) -> None:
        self.inside += 1
        t.machine.remove(Life.Back)

    @Life.Back.on_enter
    @Life.Back.on_exit
    def done(self, t: Transition) -> None:
        self.inside -= 1

    @Life.Needs.on_enter
    def fail(self, t: Transition) -> None:
        self.parts += 1
        raise OSError

    @Life.ErrOs.on_enter
    def repair(self, t: Transition) -> None:
        self.parts -= 1
        t.machine.remove(Life.Error)

    @Life.Call.task(then=Life.Right, limit=2)
    async def work(self, t: Transition) -> None:
        t.machine.toggle(Life.Left)
        try:
            await trio.lowlevel.checkpoint()
            t.machine.toggle(Life.Front)
        finally:
            t.machine.toggle(Life.Right)

    def check(self, machine: Machine) -> None:
        """What holds between transitions, and never within one of them."""
        assert self.inside == 0 and self.parts == 0, "handlers of one call have all run"
        assert machine.is_active(Life.Front) is machine.is_active(Life.Back), "what handlers queued has run"
        assert not (machine.is_active(Life.Left) and machine.is_active(Life.Right)), "relations hold"
        assert machine.is_inactive(Life.Needs), "what a fault removes has gone"
        assert machine.is_inactive(Life.Error), "errors have had their turn"
        assert machine.is_active(Life.Auto) or not (machine.is_active(Life.Left) and machine.is_active(Life.Back))
        assert machine.ticks == machine.last_transition.after, "ticks are those after the last transition"
        assert "queue" not in repr(machine)
        for state in Life:
            assert machine.tick(state) % 2 == machine.is_active(state), "odd exactly when active"


class Sampler(trio.abc.Instrument):
    """Looks before and after each step of each task: at every checkpoint of the program."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look
        self.errors: list[BaseException] = []
        self.samples = 0

    def _sample(self) -> None:
        self.samples += 1
        try:
            self.look()
        except BaseException as error:  # trio would only log it, and take the instrument off
            self.errors.append(error)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._sample()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._sample()


MUTATIONS = {
    "front": lambda machine: machine.toggle(Life.Front),
    "left": lambda machine: machine.toggle(Life.Left),
    "right": lambda machine: machine.add(Life.Right),
    "call": lambda machine: machine.add(Life.Call),
    "hang up": lambda machine: machine.remove(Life.Call),
    "fail": lambda machine: machine.mutate(add=[Life.Front, Life.Needs]),
    "error": lambda machine: machine.remove(Life.ErrOs),
}


@pytest.mark.promise(18)
@given(programs=st.lists(st.lists(st.sampled_from([*MUTATIONS, "checkpoint"]), max_size=12), min_size=1, max_size=4))
async def test_property_nobody_sees_part_of_a_transition(
    programs: list[list[str]], figure: Callable[..., None]
) -> None:
    """P18: run to completion: who looks at any checkpoint, of any task, sees the machine settled."""
    handlers = LifeHandlers()
    seen = 0
    async with trsm.open_machine(Life, handlers) as machine:
        sampler = Sampler(lambda: machine.closed or handlers.check(machine))

        async def run(program: list[str]) -> None:
            for name in program:
                if name == "checkpoint":
                    await trio.lowlevel.checkpoint()
                else:
                    MUTATIONS[name](machine)
                    handlers.check(machine)

        async def watch() -> None:
            nonlocal seen
            async for ticks in machine.watch():
                assert ticks == machine.ticks
                handlers.check(machine)
                seen += 1

        trio.lowlevel.add_instrument(sampler)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                async with trio.open_nursery() as busy:
                    for program in programs:
                        busy.start_soon(run, program)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(sampler)
    assert sampler.errors == []
    assert sampler.samples > 0 and seen > 0
    figure(18, looks=sampler.samples)


def test_the_sampler_would_see_it() -> None:
    """Looked at from inside a transition, the conditions of P18 fail: they tell a part of it from the whole."""
    handlers = LifeHandlers()
    failures: list[str] = []

    class Spy:
        @Life.Front.on_enter
        @Life.Back.on_enter
        def look(self, t: Transition) -> None:
            try:
                handlers.check(t.machine)
            except AssertionError as error:
                failures.append(str(error).partition("\n")[0])

    async def main() -> None:
        async with trsm.open_machine(Life, Spy(), handlers) as machine:
            machine.add(Life.Front)
            handlers.check(machine)
            machine.add(Life.Left)
            handlers.check(machine)

    trio.run(main)
    assert failures == ["what handlers queued has run", "handlers of one call have all run"]
