"""Ready-made schemas to inherit from: what most programs name alike, so that tools and readers find it under one name.

Each is a schema as any: inherit one or several, add states of your own, and change those that are there with
``extend`` and ``replace``. They bring names and relations, no behaviour: hang your own handlers and tasks on them. The
one exception is `Disposable`, whose cleanups `Disposal` runs.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Concatenate, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

import trio

from trsm import ErrorState, Group, HandlerError, Machine, Schema, State, Transition, exclusive

__all__ = ["Basic", "Cleanup", "Connected", "ConnectionPool", "Disposable", "Disposal"]

logger: logging.Logger = logging.getLogger("trsm")

AsyncFunction: TypeAlias = Callable[..., Awaitable[object]]


class Basic(Schema):
    """The states of a program that runs for long: it is to run, it is ready, it lives, and what its network does.

    ``Start`` is wanted, by whoever opens the machine; removing it takes ``Ready`` along. ``Ready`` is reached, by the
    program itself. ``Heartbeat`` and ``Healthcheck`` are multi: each call is one beat or one question, counted by the
    tick, and somebody who watches sees when they stop.

    ``ErrNetwork`` takes `OSError`, since that is what trio raises where no connection could be made, and
    `trio.BrokenResourceError`; ``ErrTimeout`` takes `TimeoutError`, which is an `OSError` too, and
    `trio.TooSlowError`. A program that works with files declares an error state of its own for those.

    Example::

        import trio
        import trsm
        from trsm.schemas import Basic


        class Server(Basic):
            ErrNetwork = Basic.ErrNetwork.extend(remove=Basic.Ready)


        @Server.Start.task(then=Server.Ready)
        async def warm_up(t: trsm.Transition) -> None:
            await trio.sleep(0)


        @Server.Ready.task
        async def beat(t: trsm.Transition) -> None:
            for _ in range(3):
                t.machine.add(Server.Heartbeat)
            raise ConnectionResetError("somebody pulled the plug")


        async def main() -> None:
            async with trsm.open_machine(Server, warm_up, beat, id="server") as machine:
                machine.add(Server.Start)
                error = await machine.when_error(Server.ErrNetwork)
                print(machine, "after", error)


        trio.run(main)  # (Start:1 Heartbeat:5 ErrNetwork:1 Error:1) after somebody pulled the plug
    """

    Start: State[[], None] = State()
    Ready: State[[], None] = State(require=Start)
    Heartbeat: State[[], None] = State(multi=True, require=Start)
    Healthcheck: State[[], None] = State(multi=True, require=Start)
    ErrNetwork: ErrorState = ErrorState(catches=(OSError, trio.BrokenResourceError))
    ErrTimeout: ErrorState = ErrorState(catches=(TimeoutError, trio.TooSlowError))


class Connected(Schema):
    """The four states of a connection, one at a time, and an error that ends it.

    A connection that was lost, or never came, is ``Disconnected``: that state is auto, and comes whenever none of the
    others is there (with the first mutation, at the latest). ``ErrConnecting`` removes the other three, and keeps them
    out until it goes: ``machine.mutate(add=Connected.Connecting, remove=Connected.ErrConnecting)`` tries again.
    ``machine.which(Connected.link)`` is the state that the connection is in.

    Example::

        import trio
        import trsm
        from trsm.schemas import Connected


        class Client:
            attempts = 0

            @Connected.Connecting.task(then=Connected.Connected)
            async def connect(self, t: trsm.Transition) -> None:
                self.attempts += 1
                if self.attempts < 3:
                    raise ConnectionRefusedError(f"attempt {self.attempts}")

            @Connected.Disconnected.on_enter
            def again(self, t: trsm.Transition) -> None:
                t.machine.mutate(add=Connected.Connecting, remove=Connected.ErrConnecting)

            @Connected.ErrConnecting.on_enter
            def tell(self, t: trsm.Transition) -> None:
                print(t.error)


        async def main() -> None:
            async with trsm.open_machine(Connected, Client()) as machine:
                machine.add(Connected.Connecting)
                await machine.when(Connected.Connected)
                print(machine.which(Connected.link))


        trio.run(main)  # attempt 1, attempt 2, Connected
    """

    Connecting: State[[], None] = State()
    Connected: State[[], None] = State()
    Disconnecting: State[[], None] = State()
    Disconnected: State[[], None] = State(auto=True)
    link: Group = exclusive(Connecting, Connected, Disconnecting, Disconnected)
    ErrConnecting: ErrorState = ErrorState(
        catches=(OSError, trio.BrokenResourceError), remove=(Connecting, Connected, Disconnecting)
    )


class ConnectionPool(Schema):
    """A set of connections of which some are lent: how many there are to be had, one state at a time.

    ``Opening`` is multi: each call asks for one more connection; give its task a ``limit=``. ``Empty`` (auto), there is
    none; ``Available``, at least one is free; ``Exhausted``, there are some, and all are lent. ``Draining``, no more is
    opened or lent. ``ErrOpening``, one could not be opened; the others go on. `Connected` is the schema for each
    connection by itself, as a child machine.

    Example::

        import trio
        import trsm
        from trsm.schemas import ConnectionPool as Pool


        class Handlers:
            def __init__(self) -> None:
                self.free: list[str] = []

            @Pool.Opening.task(limit=2)
            async def open(self, t: trsm.Transition) -> None:
                await trio.sleep(0)  # such as trio.open_tcp_stream(…)
                self.give_back(t.machine, f"connection {len(self.free) + 1}")

            async def take(self, machine: trsm.Machine) -> str:
                while not self.free:
                    await machine.when(Pool.Available)
                connection = self.free.pop(0)
                if not self.free:
                    machine.add(Pool.Exhausted)
                return connection

            def give_back(self, machine: trsm.Machine, connection: str) -> None:
                self.free.append(connection)
                machine.add(Pool.Available)


        async def main() -> None:
            handlers = Handlers()
            async with trsm.open_machine(Pool, handlers) as machine:
                machine.add(Pool.Opening)
                first = await handlers.take(machine)
                print(first, "of", machine.which(Pool.supply))
                handlers.give_back(machine, first)
                machine.add(Pool.Draining)
                print(machine.explain("add", Pool.Opening))


        trio.run(main)  # connection 1 of Exhausted, add(Opening) is refused.
    """

    Opening: State[[], None] = State(multi=True)
    Draining: State[[], None] = State(remove=Opening)
    Empty: State[[], None] = State(auto=True)
    Available: State[[], None] = State()
    Exhausted: State[[], None] = State()
    supply: Group = exclusive(Empty, Available, Exhausted)
    ErrOpening: ErrorState = ErrorState(catches=(OSError, trio.BrokenResourceError))


class Cleanup:
    """What ``RegisterDisposal`` is called with: an async function, and what it is called with."""

    __slots__ = ("args", "function")

    def __init__(self, function: AsyncFunction, *args: object) -> None:
        """Take a cleanup.

        Raises:
          TypeError: `function` is not async.
        """
        called: object = function
        while isinstance(called, functools.partial):
            called = called.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not any(map(inspect.iscoroutinefunction, (called, getattr(type(called), "__call__", None)))):  # noqa: B004
            raise TypeError(f"RegisterDisposal({function!r}): a cleanup is async; put sync ones into on_exit handlers")
        self.function: AsyncFunction = function
        self.args: tuple[object, ...] = args


class Disposable(Schema):
    """What has to be cleaned up before the machine goes, asked for by mutations and seen as states.

    For most programs ``machine.defer(function)`` is all that is needed: what was deferred runs when the machine has
    closed. This schema, with a `Disposal` among the handlers, adds what a method cannot: cleanups are registered by a
    mutation, so that relations and handlers may refuse it (once disposal has begun, it always is); and they run while
    the machine still lives, so that one can wait for ``Disposed``, and the errors are states. What is left when the
    machine closes is cleaned up then, in its place among what was deferred.

    ``RegisterDisposal(function, *args)`` registers an async function, ``Disposing`` runs all of them, the last first,
    and ``Disposed`` (latched) says that it is done.

    A machine is opened on it with a `Disposal` among its handlers, or one of a class that inherits it; otherwise
    `HandlerError` says so, since a cleanup would be registered that nobody runs. If ``Disposing`` is removed while
    cleanups run, they run to their end, ``Disposed`` comes then, and until then no cleanup is registered. No
    `Machine.snapshot` can hold a cleanup, which is a function: take it before any is registered, or when they have run.

    Example::

        import trio
        import trsm
        from trsm.schemas import Disposable, Disposal


        class Session(Disposable):
            Open = trsm.State()
            Disposing = Disposable.Disposing.extend(remove=Open)


        async def say(word: str) -> None:
            print(word)


        async def main() -> None:
            async with trsm.open_machine(Session, Disposal(timeout=5), id="s") as machine:
                machine.add(Session.Open)
                machine.add(Session.RegisterDisposal(say, "the floor, last"))
                machine.add(Session.RegisterDisposal(say, "the table, first"))
                machine.add(Session.Disposing)
                await machine.when(Session.Disposed)
                print(machine)


        trio.run(main)  # the table, first; the floor, last; (Disposed:1)
    """

    RegisterDisposal: State[Concatenate[AsyncFunction, ...], Cleanup] = State(multi=True, args=Cleanup)
    Disposing: State[[], None] = State(remove=RegisterDisposal)
    Disposed: State[[], None] = State(latch=True, remove=(RegisterDisposal, Disposing))

    @classmethod
    def __check_handlers__(cls, handlers: tuple[object, ...]) -> None:
        """Refuse a machine that has no `Disposal`."""
        super().__check_handlers__(handlers)
        if not any(issubclass(type(one), Disposal) for one in handlers):
            raise HandlerError(
                f"a machine of {cls.__name__} is opened without a Disposal, so that nobody would run what "
                f"RegisterDisposal registers: write open_machine({cls.__name__}, Disposal(), …)"
            )


class _Registered:
    """A cleanup that runs once, whoever comes first: the disposal, or the machine that has closed."""

    __slots__ = ("__qualname__", "cleanup")

    def __init__(self, cleanup: Cleanup) -> None:
        self.cleanup: Cleanup | None = cleanup
        self.__qualname__ = str(getattr(cleanup.function, "__qualname__", cleanup.function))

    async def __call__(self) -> None:
        cleanup, self.cleanup = self.cleanup, None
        if cleanup is not None:
            await cleanup.function(*cleanup.args)


class Disposal:
    """The handlers of `Disposable`: bind one to each machine, or the same one to several.

    Cleanups run in reverse order of registration, shielded from cancellation, under one deadline; one that fails keeps
    no other from running. Their errors are raised together, in one group, when all have run: an `ErrorState` may catch
    them; else the machine closes, and they leave its block.

    Args:
      timeout: seconds that all cleanups of one disposal may take together; for what is left when the machine closes it
        is ``cleanup_timeout`` of `open_machine`. Default 30.

    Raises:
      ValueError: `timeout` is not positive.
    """

    def __init__(self, timeout: float = 30.0) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
            raise ValueError(f"timeout={timeout!r}: write a positive number of seconds")
        self._timeout = timeout
        self._registered: WeakKeyDictionary[Machine, list[_Registered]] = WeakKeyDictionary()
        self._disposing: WeakSet[Machine] = WeakSet()

    @Disposable.RegisterDisposal.can_enter
    def may_register(self, t: Transition) -> bool:
        """Refuse what would come too late; ``Disposing`` itself may have left while it was done."""
        return t.machine not in self._disposing

    @Disposable.RegisterDisposal.on_enter
    def register(self, t: Transition) -> None:
        """Keep a cleanup, for the disposal or for the end of the machine."""
        if not isinstance(t.machine, Machine):
            raise HandlerError(
                f"RegisterDisposal of {t.machine.id!r}, an engine, which has no tasks, and so nobody who would run it: "
                "open a machine with open_machine"
            )
        registered = _Registered(t.args_of(Disposable.RegisterDisposal))
        self._registered.setdefault(t.machine, []).append(registered)
        t.machine.defer(registered)

    @Disposable.Disposing.task
    async def dispose(self, t: Transition) -> None:
        """Run what is registered."""
        machine = t.machine
        self._disposing.add(machine)
        waiting = self._registered.pop(machine, [])
        errors: list[BaseException] = []
        late: list[str] = []
        deadline = trio.current_time() + self._timeout
        while waiting:
            registered = waiting.pop()
            scope = trio.CancelScope(shield=True, deadline=deadline)
            try:
                with scope:
                    await registered()
            except BaseException as error:
                errors.append(error)
            if scope.cancelled_caught:
                late.append(registered.__qualname__)
        self._disposing.discard(machine)
        if late:
            errors.append(
                trio.TooSlowError(
                    f"cleanups of machine {machine.id!r} took longer than {self._timeout} s (timeout of Disposal): "
                    f"{', '.join(late)} had to be cancelled"
                )
            )
        result = machine.add(Disposable.Disposed)
        if result.canceled and not machine.closed:
            logger.warning("machine %r: Disposed was refused after all cleanups had run: %r", machine.id, result)
        if errors:
            raise BaseExceptionGroup(f"cleanups of machine {machine.id!r}", errors)
