"""What must type-check, in mypy --strict and in basedpyright strict: the typed claims about the public face."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import assert_type

import attrs
import trio

import trsm
from trsm import Call, ErrorState, Schema, State, Transition, Waiter
from trsm.schemas import Basic, Connected, Disposable


@attrs.frozen
class Url:
    url: str
    retries: int = 3


@dataclass(frozen=True)
class Body:
    text: str


@attrs.frozen
class Options:
    retries: int = 3


@dataclass(frozen=True)
class Limits:
    seconds: float = 3
    tries: int = 1


class Fetch(Schema):
    """One state of each kind."""

    Idle = State()
    Fetching = State(args=Url, remove=Idle)
    Fetched = State(args=Body, require="Idle")
    Tuned = State(args=Options)
    Bounded = State(args=Limits, remove=Tuned)
    Retrying = State(multi=True, latch=False, auto=False, add=(Idle, "Fetching"), after=["Idle"])
    ErrNetwork = ErrorState(catches=(OSError, TimeoutError), remove=Fetching)


class More(Fetch):
    """Inheritance keeps a state's arguments."""

    Fetching = Fetch.Fetching.extend(multi=True)
    Idle = Fetch.Idle.replace(remove=())


class Handlers:
    """Handlers keep their own types, in both decorator forms."""

    @Fetch.Fetching.can_enter
    def has_url(self, t: Transition) -> bool:
        return t.args_of(Fetch.Fetching).url != ""

    @Fetch.Fetching.can_enter(given=Fetch.Idle)
    def from_idle(self, t: Transition) -> bool:
        return True

    @Fetch.Fetching.can_exit
    @Fetch.Fetching.can_stay
    @Fetch.can_change
    def may(self, t: Transition) -> bool:
        return not t.dry_run

    @Fetch.Fetching.on_enter
    @Fetch.Fetching.on_exit
    @Fetch.on_change
    def act(self, t: Transition) -> None:
        assert_type(t.machine, trsm.Machine)

    @Fetch.Idle.task
    async def idle(self, t: Transition) -> int:
        return 1

    @Fetch.Fetching.task(then=Fetch.Fetched, timeout=2.5)
    async def fetch(self, t: Transition) -> Body:
        return Body(t.args_of(Fetch.Fetching).url)

    @Fetch.Retrying.task(then=Fetch.Idle, limit=3)
    async def retry(self, t: Transition) -> str:
        return hashlib.sha256(b"").hexdigest()


@Fetch.Error.on_enter
def complain(t: Transition) -> None:
    assert_type(t.error, Exception | None)


def decorated_functions_keep_their_types(handlers: Handlers, t: Transition) -> None:
    assert_type(handlers.may(t), bool)
    assert_type(handlers.act(t), None)


def schemas() -> None:
    door: type[Schema] = Schema.define("Door", {"Open": State(), "Closed": State(remove="Open")})
    assert_type(door["Open"], State[..., object])
    assert_type(len(door), int)
    assert_type("Open" in door, bool)
    for state in door:
        assert_type(state.name, str)
    assert_type(Fetch.Idle, State[[], None])
    assert_type(More.Fetching.multi, bool)


async def machines() -> None:
    async with trsm.open_machine(Fetch, Handlers(), complain, id="fetch", queue_limit=10) as machine:
        assert_type(machine, trsm.Machine)
        assert_type(Fetch.Fetching(url="https://…"), Call[Url])
        assert_type(Fetch.Fetching("https://…", retries=1).args, Url)
        result = machine.add(Fetch.Idle, Fetch.Fetching(url="https://…"), first=True, note="free keywords", number=3)
        assert_type(result, trsm.Result)
        if isinstance(result, trsm.Canceled):
            assert_type(result.reason, str)
        elif isinstance(result, trsm.Queued):
            assert_type(result.tick, int)
        machine.set(Fetch.Idle)
        machine.toggle(Fetch.Idle, Fetch.Retrying())
        machine.add(Fetch.Tuned, Fetch.Bounded, Fetch.Tuned(retries=4))  # what has defaults needs no call
        machine.set(Fetch.Tuned)
        machine.toggle(Fetch.Bounded, Fetch.Fetching(url="https://…"))
        machine.mutate(add=Fetch.Tuned)
        machine.mutate(add=[Fetch.Tuned, Fetch.Idle, Fetch.Fetching(url="https://…")])
        assert_type(machine.can_add(Fetch.Tuned), bool)
        machine.remove(Fetch.Fetching, Fetch.Idle, scope=trio.CancelScope())
        machine.mutate(add=Fetch.Idle, remove=[Fetch.Fetching, Fetch.Fetched])
        machine.mutate(add=[Fetch.Idle, Fetch.Fetching(url="https://…")])
        assert_type(machine.can_add(Fetch.Idle), bool)
        assert_type(machine.can_remove(Fetch.Fetching), bool)
        assert_type(machine.explain("add", Fetch.Fetching), trsm.Explanation)
        assert_type(machine.is_active(Fetch.Fetching), bool)
        assert_type(Fetch.Idle in machine, bool)
        assert_type(machine.ticks[Fetch.Fetching], int)
        assert_type(machine.error, Exception | None)

        waiter = machine.when(Fetch.Fetched, text="…")
        assert_type(waiter, Waiter[Transition])
        assert_type(await waiter, Transition)
        assert_type((await waiter).args_of(Fetch.Fetched), Body)
        assert_type((await waiter).args_of(Fetch.Idle), None)
        assert_type(await machine.when_error(Fetch.ErrNetwork), Exception)
        assert_type(await (machine.when(Fetch.Idle) | machine.when_error()), Transition | Exception)
        both = machine.when(Fetch.Idle) & machine.when_error()
        assert_type(await both, tuple[Transition, Exception])
        assert_type(await trsm.wait_all(waiter, machine.when_error()), tuple[Transition, Exception])
        assert_type(await trsm.wait_any(waiter, machine.when_not(Fetch.Idle)), tuple[int, Transition])
        assert_type(await trsm.wait_any(waiter, machine.when_error()), tuple[int, Transition | Exception])
        assert_type(await trsm.wait_any(waiter, machine.when_closed()), tuple[int, Transition | None])
        three = trsm.wait_any(waiter, machine.when_error(), machine.when_closed())
        assert_type(await three, tuple[int, Transition | Exception | None])
        assert_type(await trsm.wait_any(waiter), tuple[int, Transition])
        assert_type(await trsm.wait_any(*[machine.when(state) for state in Fetch]), tuple[int, Transition])
        assert_type(await machine.when_closed(), None)
        assert_type(await machine.when_query(lambda ticks: ticks[Fetch.Idle] >= 10), Transition)
        async for ticks in machine.watch():
            assert_type(ticks, trsm.Ticks)

        with machine.while_active(Fetch.Fetching) as scope:
            assert_type(scope, trio.CancelScope)

        child = machine.start_child(More)
        assert_type(child.parent, trsm.Machine | None)
        async with trsm.open_machine(More, parent=machine):
            pass

        async def clean_up(path: str) -> None: ...

        machine.defer(clean_up, "path")
        machine.start_soon(clean_up, "path", while_active=Fetch.Fetching, name="clean up")

        async for transition in machine.transitions(buffer=9, overflow="drop_oldest"):
            assert_type(transition, Transition)
        stream = machine.transitions(buffer=9, overflow="raise")
        assert_type(stream.dropped, int)
        assert_type(await anext(stream), Transition)

        machine.extend_schema(More)
        assert_type(machine.snapshot(), dict[str, object])
        async with trsm.open_machine(More, snapshot=machine.snapshot()) as again:
            assert_type(again.error, Exception | None)


def engines() -> None:
    engine = trsm.Engine(Fetch, Handlers())
    assert_type(engine.add(Fetch.Idle), trsm.Result)
    assert_type(engine.last_transition.source, trsm.Source | None)
    trsm.Engine(Fetch, snapshot=engine.snapshot())
    assert_type(Fetch.Idle.timeout, float | None)


async def pipes(source: trsm.Machine, target: trsm.Machine) -> None:
    assert_type(trsm.pipe(source, Fetch.Idle, target), trsm.Pipe)
    trsm.pipe(source, Fetch.Fetching, target, Fetch.Fetching, sync=True)
    trsm.pipe(source, (Fetch.Idle, Fetch.Fetching), target, [Fetch.Fetched, Fetch.Idle])
    opened = trsm.pipe(source, {Fetch.Idle: Fetch.Idle, Fetch.Fetching: Fetch.Fetched}, target)
    assert_type(opened.refusals, tuple[trsm.PipeRefusal, ...])
    assert_type(opened.statistics().carried, int)
    assert_type(opened.source, trsm.Machine | None)
    assert_type(await trsm.retry(lambda: source.add(Fetch.Idle)), trsm.Result)
    await trsm.retry(lambda: source.remove(Fetch.Idle), tries=3, deadline=10, until=source.when(Fetch.Idle))


class Service(Basic, Disposable):
    Serving = State(require=Basic.Ready)


def ready_made(machine: trsm.Machine) -> None:
    machine.add(Service.Start, Service.Heartbeat)
    machine.add(Service.RegisterDisposal(trio.sleep, 1))
    assert_type(machine.which(Connected.link), State[..., object] | None)
