"""Waiters: subscribed when they are made, awaited later, composed with ``|`` and ``&`` (DESIGN section 6)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterable
from typing import Generic, Protocol, TypeVar, cast, overload

import trio

from trsm._core._errors import MachineClosed
from trsm._core._ticks import Ticks
from trsm._core._transition import Transition
from trsm._protection import protect

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
V = TypeVar("V")

ANY = -1
"""The key of those who look after every transition."""
CLOSED = -2
"""The key of those who wait for the machine to close."""


class Waiter(Generic[T_co]):
    """A condition that is waited for: subscribed since it was made, so that nothing that happens later is missed.

    Await it as often as you like, in several tasks; the result is kept. Dropped unawaited, it unsubscribes by itself.
    ``a | b`` ends with the value of the first that ends (the left one on a tie) and fails when both have failed;
    ``a & b`` ends with a tuple and fails at the first failure.

    Checkpoints: awaiting always is one, also when the result is there.

    Cancellation: a cancelled await leaves nothing behind; the waiter stays subscribed for those who hold it. If one
    transition both ends the scope around an await and satisfies it, the cancellation wins.

    Raises:
      MachineClosed: at the await, if the machine closed before the condition came true; its cause is the machine's
        first unhandled error.
    """

    __slots__ = ("__weakref__", "_above", "_depth", "_error", "_is_done", "_refs", "_tasks", "_value")

    _value: object
    _error: BaseException | None

    def __init__(self) -> None:
        if type(self) is Waiter:
            raise TypeError("waiters are made by a machine: machine.when(…) and its kin")
        self._is_done = False
        self._tasks: list[trio.lowlevel.Task] | None = None
        self._above: list[weakref.ref[_Composite[object]]] | None = None
        self._refs: list[Subscription] | None = None
        self._depth = 0
        self._error = None
        self._value = None

    @property
    def done(self) -> bool:
        """Whether it has ended, with a value or a failure."""
        return self._is_done

    def __await__(self) -> Generator[object, None, T_co]:
        return self._wait().__await__()

    async def _wait(self) -> T_co:
        if self._is_done:
            await trio.lowlevel.checkpoint()
        else:
            await self._park()
        if self._error is not None:
            raise _fresh(self._error)
        return cast("T_co", self._value)

    async def _park(self) -> None:
        task = trio.lowlevel.current_task()
        if self._tasks is None:
            self._tasks = []
        tasks = self._tasks
        tasks.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def __or__(self, other: Waiter[U]) -> Waiter[T_co | U]:
        if not isinstance(other, Waiter):
            return NotImplemented
        return cast("Waiter[T_co | U]", _First((self, other)))

    def __and__(self, other: Waiter[U]) -> Waiter[tuple[T_co, U]]:
        if not isinstance(other, Waiter):
            return NotImplemented
        return cast("Waiter[tuple[T_co, U]]", _All((self, other)))

    def __repr__(self) -> str:
        state = "waiting" if not self._is_done else "failed" if self._error is not None else "done"
        return f"<Waiter {state}>"

    def _end(self, value: object, error: BaseException | None) -> None:
        """Give it its result; the caller wakes whom this concerns, with `wake`."""
        self._is_done = True
        self._value = value
        self._error = error
        for subscription in self._refs or ():
            subscription.drop()
        self._refs = None


def _fresh(error: BaseException) -> BaseException:
    """Return an exception to raise: a closed machine is reported to each awaiter by an exception of its own."""
    if isinstance(error, MachineClosed):
        again = MachineClosed(str(error), error.machine)
        again.__cause__ = error.__cause__
        return again
    return error


def wake(ended: Iterable[Waiter[object]]) -> None:
    """Let composites judge what ended, innermost first, then wake every task that waits for any of it."""
    done = list(ended)
    levels: dict[int, dict[_Composite[object], None]] = {}

    def rise(waiter: Waiter[object]) -> None:
        for ref in waiter._above or ():
            composite = ref()
            if composite is not None and not composite.done:
                levels.setdefault(composite._depth, {})[composite] = None

    for waiter in done:
        rise(waiter)
    while levels:
        for composite in levels.pop(min(levels)):
            composite._judge()
            if composite.done:
                done.append(composite)
                rise(composite)
    for waiter in done:
        tasks, waiter._tasks = waiter._tasks, None
        for task in tasks or ():
            trio.lowlevel.reschedule(task)


# ---- Composition ----------------------------------------------------------------------------------------------------


class _Composite(Waiter[T_co]):
    __slots__ = ("_children",)

    def __init__(self, children: tuple[Waiter[object], ...]) -> None:
        super().__init__()
        self._children = children
        self._depth = 1 + max(child._depth for child in children)
        for child in children:
            if not child.done:
                if child._above is None:
                    child._above = []
                # What has gone is swept here, so that a waiter that is composed over and over does not grow.
                child._above[:] = [ref for ref in child._above if ref() is not None]
                child._above.append(weakref.ref(cast("_Composite[object]", self)))
        self._judge()

    def _judge(self) -> None:
        raise NotImplementedError

    def _settle(self, value: object, error: BaseException | None) -> None:
        self._end(value, error)
        self._children = ()


class _First(_Composite[T_co]):
    """The value of the first child that ends well; fails, with the first child's failure, when all have failed."""

    __slots__ = ()

    def _judge(self) -> None:
        for index, child in enumerate(self._children):
            if child.done and child._error is None:
                self._settle(self._chosen(index, child._value), None)
                return
        if all(child.done for child in self._children):
            self._settle(None, next(child._error for child in self._children))

    def _chosen(self, index: int, value: object) -> object:
        return value


class _FirstIndexed(_First[T_co]):
    __slots__ = ()

    def _chosen(self, index: int, value: object) -> object:
        return index, value


class _All(_Composite[T_co]):
    """The values of all children, as a tuple; fails at the first failure."""

    __slots__ = ()

    def _judge(self) -> None:
        for child in self._children:
            if child.done and child._error is not None:
                self._settle(None, child._error)
                return
        if all(child.done for child in self._children):
            self._settle(tuple(child._value for child in self._children), None)


def _checked(waiters: tuple[object, ...], name: str) -> tuple[Waiter[object], ...]:
    if not waiters:
        raise ValueError(f"{name}() waits for nothing: pass at least one waiter")
    for waiter in waiters:
        if not isinstance(waiter, Waiter):
            raise TypeError(f"{name}({waiter!r}): pass waiters, such as machine.when(…)")
    return cast("tuple[Waiter[object], ...]", waiters)


@overload
def wait_all(first: Waiter[T], /) -> Waiter[tuple[T]]: ...
@overload
def wait_all(first: Waiter[T], second: Waiter[U], /) -> Waiter[tuple[T, U]]: ...
@overload
def wait_all(first: Waiter[T], second: Waiter[U], third: Waiter[V], /) -> Waiter[tuple[T, U, V]]: ...
@overload
def wait_all(*waiters: Waiter[T]) -> Waiter[tuple[T, ...]]: ...
def wait_all(*waiters: Waiter[object]) -> object:
    """Return a waiter for all of these, of one machine or several: a flat tuple of their values.

    It fails as soon as one of them fails.

    Raises:
      ValueError: no waiter was given.
      TypeError: something else than a waiter was given.
    """
    return _All[object](_checked(waiters, "wait_all"))


def wait_any(*waiters: Waiter[T]) -> Waiter[tuple[int, T]]:
    """Return a waiter for the first of these to end: its index here, and its value; the leftmost on a tie.

    It fails when all of them have failed.

    Raises:
      ValueError: no waiter was given.
      TypeError: something else than a waiter was given.
    """
    return cast("Waiter[tuple[int, T]]", _FirstIndexed[object](_checked(waiters, "wait_any")))


# ---- Conditions -----------------------------------------------------------------------------------------------------


class Condition(Waiter[T_co]):
    """A waiter on one machine. `look` is asked after each transition that touches what it subscribed to."""

    __slots__ = ("_look",)

    def __init__(self, look: Callable[[Transition, Transition | None], object]) -> None:
        super().__init__()
        self._look = look

    def observe(self, transition: Transition, removal: Transition | None) -> bool:
        """Look after a transition; return whether it has ended. An exception of a predicate ends it too."""
        try:
            value = self._look(transition, removal)
        except Exception as error:
            self._end(None, error)
            return True
        if value is None:
            return False
        self._end(value, None)
        return True

    def fail(self, error: BaseException) -> None:
        """End it because the machine closed."""
        self._end(None, error)


class Observer(Protocol):
    """What may subscribe: looks after a transition, and says whether it has ended."""

    def observe(self, transition: Transition, removal: Transition | None, /) -> bool:
        """Look after a transition."""
        ...  # a protocol's method has no body to run


class Subscription(weakref.ref["Observer"]):
    """A weak reference to who subscribed, in the table of one state; it leaves the table when its referent goes."""

    __slots__ = ("key", "table")

    table: Subscriptions
    key: int

    def drop(self) -> None:
        """Leave the table. Doing so twice is fine."""
        self.table.drop(self)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def _gone(ref: weakref.ref[Observer]) -> None:
    cast("Subscription", ref).drop()


class Subscriptions:
    """Who looks at what: for each state, and for `ANY`, the observers in the order in which they came."""

    __slots__ = ("changed", "tables")

    def __init__(self, changed: Callable[[int, bool], None]) -> None:
        self.tables: dict[int, dict[Subscription, None]] = {}
        self.changed = changed
        """Told when a key gets its first observer, or loses its last."""

    def __len__(self) -> int:
        return sum(len(table) for table in self.tables.values())

    def add(self, observer: Observer, keys: Iterable[int]) -> list[Subscription]:
        """Subscribe an observer under each key."""
        added: list[Subscription] = []
        for key in keys:
            subscription = Subscription(observer, _gone)
            subscription.table = self
            subscription.key = key
            if key not in self.tables:
                self.tables[key] = {}
                self.changed(key, True)
            self.tables[key][subscription] = None
            added.append(subscription)
        return added

    def drop(self, subscription: Subscription) -> None:
        """Unsubscribe."""
        table = self.tables.get(subscription.key)
        if table is not None and subscription in table:
            del table[subscription]
            if not table:
                del self.tables[subscription.key]
                self.changed(subscription.key, False)

    def of(self, keys: Iterable[int]) -> list[Observer]:
        """Return the observers under these keys, each once."""
        found: dict[int, Observer] = {}
        for key in keys:
            for subscription in self.tables.get(key, ()):
                observer = subscription()
                if observer is not None:
                    found[id(observer)] = observer
        return list(found.values())


# ---- The latest value -----------------------------------------------------------------------------------------------


class Watch:
    """An async iterator over a machine's ticks: the present ones first, then always the latest, never a backlog.

    It never blocks the machine, and ends quietly when the machine closes. One task at a time may iterate it.

    Checkpoints: each step is one. Cancellation: a cancelled step loses nothing; the next one gives the latest ticks.
    """

    __slots__ = ("__weakref__", "_is_fresh", "_over", "_refs", "_task", "_ticks")

    def __init__(self, ticks: Callable[[], Ticks]) -> None:
        self._ticks = ticks
        self._is_fresh = True
        self._over = False
        self._task: trio.lowlevel.Task | None = None
        self._refs: list[Subscription] = []

    def observe(self, transition: Transition, removal: Transition | None) -> bool:
        """Note that ticks have moved."""
        if transition._plan.moved:
            self._is_fresh = True
            self._wake()
        return False

    def end(self) -> None:
        """Note that the machine has closed."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Ticks:
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting on this watch(): make one for each task")
        if self._is_fresh or self._over:
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()

            def abort(_: object) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if self._over:
            raise StopAsyncIteration
        self._is_fresh = False
        return self._ticks()


protect(__name__)
