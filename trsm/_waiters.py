"""Waiters: subscribed when they are made, awaited later, composed with ``|`` and ``&`` (DESIGN section 6)."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from threading import get_ident
from typing import Any, ClassVar, Generic, Literal, NoReturn, Protocol, Self, TypeAlias, TypeVar, cast, overload

import outcome
import trio

from trsm._core._bits import renumbered, union
from trsm._core._consensus import Kind
from trsm._core._errors import BufferFull, MachineClosed, WrongThread
from trsm._core._ticks import Ticks
from trsm._core._tracing import AnyTransition
from trsm._core._transition import Transition
from trsm._protection import protect

current_task, reschedule = trio.lowlevel.current_task, trio.lowlevel.reschedule
wait_task_rescheduled = trio.lowlevel.wait_task_rescheduled

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
V = TypeVar("V")

ANY = -1
"""The key of those who look after every transition."""
CLOSED = -2
"""The key of those who wait for the machine to close."""
QUEUE = -3
"""The key of those who wait for the queue to run empty, or for their turn in it."""
CLOSE = Kind.CLOSE
PIPES = -10
"""The key of those who tell pipes that the machine closes; they look at nothing."""
EXTENDED: weakref.WeakSet[object] = weakref.WeakSet()
"""Machines that got another schema: conditions that had ended by then have the numbers of the one before."""
_LEVELS, _CHILDREN, _STATES = 3, 4, 8
"""How much a `repr` shows: levels of composites, members of each, and states of a condition."""


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
      WrongThread: at the await, or where it is composed, in another thread than that of the machine.
      TypeError: it is asked whether it is true, as by `if` or `and`.
    """

    __slots__ = ("__weakref__", "_above", "_error", "_is_done", "_refs", "_tasks", "_thread", "_value")

    _depth: int = 0
    """How many levels of composites it has below it; those have a field of that name."""
    _value: Any  # what a waiter of this type gives
    _error: BaseException | None
    """Both are there once it is done."""

    def __init__(self) -> None:
        if type(self) is Waiter:
            raise TypeError("waiters are made by a machine: machine.when(…) and its kin")
        self._is_done = False
        self._thread = get_ident()
        self._tasks: list[trio.lowlevel.Task] | None = None
        self._above: list[weakref.ref[_Composite[object]]] | None = None
        self._refs: Sequence[Subscription] = ()

    @property
    def done(self) -> bool:
        """Whether it has ended, with a value or a failure."""
        return self._is_done

    def __await__(self) -> Generator[object, None, T_co]:
        if get_ident() != self._thread:
            _check_thread(self._thread, "a waiter")
        if self._is_done:
            yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105 - that is what it is
        else:
            tasks = self._tasks
            if tasks is None:
                tasks = self._tasks = []
            task = current_task()
            tasks.append(task)

            def abort(_: object) -> trio.lowlevel.Abort:
                tasks.remove(task)
                return trio.lowlevel.Abort.SUCCEEDED

            try:
                yield from wait_task_rescheduled(abort).__await__()
            except BaseException:
                del self  # or the traceback keeps it subscribed for as long as the exception is handled
                raise
        if self._error is not None:
            raise _fresh(self._error)
        return self._value  # type: ignore[no-any-return]  # of this waiter's type

    def __or__(self, other: Waiter[U]) -> Waiter[T_co | U]:
        if not isinstance(other, Waiter):
            return NotImplemented
        return cast("Waiter[T_co | U]", _First((self, other)))

    def __and__(self, other: Waiter[U]) -> Waiter[tuple[T_co, U]]:
        if not isinstance(other, Waiter):
            return NotImplemented
        return cast("Waiter[tuple[T_co, U]]", _All((self, other)))

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is neither true nor false: await it, ask for its .done, or combine waiters with & and | instead "
            "of `and` and `or`"
        )

    def __repr__(self) -> str:
        return f"<Waiter {self._written(_LEVELS)}, {self._status}>"

    @property
    def _status(self) -> str:
        return "waiting" if not self._is_done else "failed" if self._error is not None else "done"

    @abstractmethod
    def _written(self, levels: int) -> str:
        """Return what it waits for, as it would be written, and of which machine; `levels` of composites are left."""
        ...  # an abstract method has no body to run

    def _end(self, value: object, error: BaseException | None) -> Literal[True]:
        """Give it its result; the caller wakes whom this concerns, with `wake`. Return that it has ended."""
        self._is_done = True
        self._value = value
        self._error = error
        for subscription in self._refs:
            subscription.table.drop(subscription)
        self._refs = ()
        return True


def of(reference: weakref.ref[Any]) -> str:
    """Return of which machine something is."""
    machine = reference()
    return "of a machine that is gone" if machine is None else f"of {machine.id!r}"


def more(count: int) -> list[str]:
    """Return what to write for those that are not shown."""
    return [f"… {count} more"] if count > 0 else []


def _check_thread(owner: int, what: str) -> None:
    if get_ident() != owner:
        raise WrongThread(
            f"{what} is used in a thread that does not own its machine: await it there, with trio.from_thread.run(…)"
        )


def _fresh(error: BaseException) -> BaseException:
    """Return an exception to raise: a closed machine is reported to each awaiter by an exception of its own."""
    if isinstance(error, MachineClosed):
        again = MachineClosed(str(error), error.machine)
        again.__cause__ = error.__cause__
        return again
    return error


class _Woken(outcome.Outcome[None]):
    """What a task is woken with: nothing, as `reschedule` would give it; but one for all, and not one for each task."""

    __slots__ = ()

    def unwrap(self) -> None:
        """Return nothing, however often."""

    def send(self, gen: Generator[T, None, object]) -> T:
        """Go on with a generator."""
        return gen.send(None)

    async def asend(self, agen: AsyncGenerator[T, None]) -> T:
        """Go on with an asynchronous generator."""
        return await agen.asend(None)


WOKEN = _Woken()


def wake(ended: list[Waiter[object]]) -> None:
    """Let composites judge what ended, then wake every task that waits for any of it."""
    for waiter in ended:
        if waiter._above is not None:
            ended = _with_composites(ended)
            break
    for waiter in ended:
        tasks = waiter._tasks
        if tasks is not None:
            waiter._tasks = None
            for task in tasks:
                reschedule(task, WOKEN)


def _with_composites(ended: list[Waiter[object]]) -> list[Waiter[object]]:
    """Return what ended, and the composites that end with it: they judge it innermost first."""
    done = list(ended)
    levels: dict[int, dict[_Composite[object], None]] = {}
    for waiter in ended:
        _rise(waiter, levels)
    while levels:
        for composite in levels.pop(min(levels)):
            composite._judge()
            if composite.done:
                done.append(composite)
                _rise(composite, levels)
    return done


def _rise(waiter: Waiter[object], levels: dict[int, dict[_Composite[object], None]]) -> None:
    """Let the composites of a waiter that has ended count it, and be judged when their level's turn comes."""
    above, waiter._above = waiter._above, None
    for ref in above or ():
        composite = ref()
        if composite is not None and not composite.done:
            composite._count(waiter)
            levels.setdefault(composite._depth, {})[composite] = None


# ---- Composition ----------------------------------------------------------------------------------------------------


class _Composite(Waiter[T_co]):
    """What waits for other waiters. They know it by weak references, it holds them: who drops it drops them too.

    Children are counted as they end, and looked through only once, at the end: waiting for many is linear in them.
    """

    __slots__ = ("_children", "_depth", "_is_decided", "_pending")

    _children: tuple[Waiter[object], ...]

    def __init__(self, children: tuple[Waiter[object], ...]) -> None:
        super().__init__()
        for child in children:
            _check_thread(child._thread, "a waiter")
        self._children = children
        self._depth = 1 + max(child._depth for child in children)
        self._pending = len(children)
        self._is_decided = False
        for child in children:
            if child.done:
                self._count(child)
            else:
                child._above = _swept(child._above or [])
                child._above.append(weakref.ref(cast("_Composite[object]", self)))
        self._judge()

    def _count(self, child: Waiter[object]) -> None:
        """Count a child that has ended."""
        self._pending -= 1
        if (child._error is None) is self._is_decided_by_success:
            self._is_decided = True

    def _judge(self) -> None:
        """End, if the children that have ended suffice."""
        if self._is_decided or not self._pending:
            self._conclude()
            self._children = ()

    def _written(self, levels: int) -> str:
        if not levels or not self._children:  # which are forgotten once it has ended
            return self._joined(["…"])
        parts = [
            f"{child._written(levels - 1)}{f' ({child._status})' if child.done else ''}"
            for child in self._children[:_CHILDREN]
        ]
        return self._joined([*parts, *more(len(self._children) - _CHILDREN)])

    def _joined(self, parts: list[str]) -> str:
        if self._sign and len(parts) == 2:
            return f"({self._sign.join(parts)})"
        return f"{self._method}({', '.join(parts)})"

    _is_decided_by_success: ClassVar[bool]
    """Whether one child that ends well is enough, or one that fails."""
    _method: ClassVar[str]
    """What makes it."""
    _sign: ClassVar[str] = ""
    """What makes it of two."""

    def _conclude(self) -> None:
        """End with what the children came to."""


def _swept(refs: list[weakref.ref[_Composite[object]]]) -> list[weakref.ref[_Composite[object]]]:
    """Return the references to composites that still wait.

    A waiter that is composed over and over must not grow. To sweep whenever the length is a power of two keeps the list
    within twice the number of those that live, at a constant cost for each.
    """
    if len(refs) & (len(refs) - 1):
        return refs
    return [ref for ref in refs if (composite := ref()) is not None and not composite.done]


class _First(_Composite[T_co]):
    """The value of the first child that ends well; fails, with the first child's failure, when all have failed."""

    __slots__ = ()

    _is_decided_by_success = True
    _method = "wait_any"
    _sign = " | "

    def _conclude(self) -> None:
        for index, child in enumerate(self._children):
            if child.done and child._error is None:
                self._end(self._chosen(index, child._value), None)
                return
        self._end(None, self._children[0]._error)

    def _chosen(self, index: int, value: object) -> object:
        return value


class _FirstIndexed(_First[T_co]):
    __slots__ = ()

    _sign = ""

    def _chosen(self, index: int, value: object) -> object:
        return index, value


class AnyEnd(_Composite[None]):
    """Ends as soon as one child has ended, well or not; never fails."""

    __slots__ = ()

    _is_decided_by_success = True
    _method = "wait_any"

    def _count(self, child: Waiter[object]) -> None:
        super()._count(child)
        self._is_decided = True

    def _conclude(self) -> None:
        self._end(None, None)


class _All(_Composite[T_co]):
    """The values of all children, as a tuple; fails at the first failure."""

    __slots__ = ()

    _is_decided_by_success = False
    _method = "wait_all"
    _sign = " & "

    def _conclude(self) -> None:
        for child in self._children:
            if child.done and child._error is not None:
                self._end(None, child._error)
                return
        self._end(tuple(child._value for child in self._children), None)


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

    Args:
      waiters: at least one.

    Raises:
      ValueError: no waiter was given.
      TypeError: something else than a waiter was given.
    """
    return _All[object](_checked(waiters, "wait_all"))


@overload
def wait_any(first: Waiter[T], second: Waiter[U], /) -> Waiter[tuple[int, T | U]]: ...
@overload
def wait_any(first: Waiter[T], second: Waiter[U], third: Waiter[V], /) -> Waiter[tuple[int, T | U | V]]: ...
@overload
def wait_any(*waiters: Waiter[T]) -> Waiter[tuple[int, T]]: ...
def wait_any(*waiters: Waiter[object]) -> object:
    """Return a waiter for the first of these to end: its index here, and its value; the leftmost on a tie.

    It fails when all of them have failed.

    Args:
      waiters: at least one, of one machine or several.

    Raises:
      ValueError: no waiter was given.
      TypeError: something else than a waiter was given.

    Example::

        index, transition = await wait_any(*(machine.when(Job.Done) for machine in machines))
    """
    return _FirstIndexed[object](_checked(waiters, "wait_any"))


# ---- Conditions -----------------------------------------------------------------------------------------------------


class Condition(Waiter[T_co]):
    """A waiter on one machine. It is asked to look after each transition that touches what it subscribed to."""

    __slots__ = ("_machine", "_mask")

    def __init__(self, machine: Any, mask: int) -> None:
        self._is_done = False  # what `Waiter.__init__` does, without the call: it would be a third of the cost
        self._thread = machine._thread
        self._tasks = self._above = None
        self._refs = ()
        self._machine = machine
        self._mask = mask
        """The states that it looks at; 0 for all. A machine that gets another schema numbers them anew."""

    @abstractmethod
    def _observe(self, transition: AnyTransition, removal: AnyTransition | None) -> bool:
        """Look after a transition, and the removal that a fault in it brought; return whether it has ended."""
        ...  # an abstract method has no body to run

    _method: ClassVar[str]
    """What makes it."""

    def _written(self, levels: int) -> str:
        return f"{self._method}({', '.join(self._arguments())}) of {self._machine.id!r}"

    def _arguments(self) -> list[str]:
        """Return what it was made with."""
        machine, count = self._machine, self._mask.bit_count()
        if self._is_done and machine in EXTENDED:
            return ["…"]
        return [*machine._definition.relations.named(self._mask)[:_STATES], *more(count - _STATES)]

    def renumber(self, places: Sequence[int]) -> None:
        """Note that the machine has another schema."""
        self._mask = renumbered(self._mask, places)

    def fail(self, error: BaseException) -> None:
        """End it because the machine closed."""
        self._end(None, error)


class Asking(Condition[T_co]):
    """A condition that asks a predicate of the user's: one that raises ends it."""

    __slots__ = ("_is_spent",)

    def __init__(self, machine: Any, mask: int) -> None:
        super().__init__(machine, mask)
        self._is_spent = False
        """Whether the predicate raised no `Exception`: the machine closes, and does not ask it again."""

    @abstractmethod
    def _look(self, transition: AnyTransition, removal: AnyTransition | None) -> T_co | None:
        """Return its value, if that is there."""
        ...  # an abstract method has no body to run

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        """Look after a transition; return whether it has ended. An exception of a predicate ends it too."""
        if self._is_spent:
            return False
        try:
            value = self._look(transition, removal)
        except Exception as error:
            return self._end(None, error)
        except BaseException:
            self._is_spent = True
            raise
        return False if value is None else self._end(value, None)


class OfClosing(Waiter[None]):
    """A waiter for the closing of a machine. It looks at no transition."""

    __slots__ = ("_reference",)

    def __init__(self, machine: Any) -> None:
        super().__init__()
        self._reference: weakref.ref[Any] = machine._reference

    def _written(self, levels: int) -> str:
        return f"when_closed() {of(self._reference)}"

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        """See nothing."""
        return False  # pragma: no cover - no transition touches what it subscribes to

    def fail(self, error: BaseException) -> None:
        """End it because the machine closed."""
        self._end(None, error)


class OfQueue(Waiter[T_co]):
    """A waiter on the queue of one machine, which looks at it once it has run empty; no task can see it before."""

    __slots__ = ("_reference",)

    def __init__(self, machine: Any) -> None:
        super().__init__()
        self._reference: weakref.ref[Any] = machine._reference

    @abstractmethod
    def _outcome(self) -> T_co | None:
        """Return its value, if that is there."""
        ...  # an abstract method has no body to run

    def look(self) -> bool:
        """Look; return whether it has ended."""
        value = self._outcome()
        if value is None:
            return False
        self._end(value, None)
        return True

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        """See nothing: what it waits for is no transition."""
        return False  # pragma: no cover - it subscribes to the queue alone, whose observers are asked to `look`


class Observer(Protocol):
    """What may subscribe: looks after a transition, and says whether it has ended."""

    def _observe(self, transition: Transition, removal: Transition | None, /) -> bool:
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


def _gone(subscription: Any) -> None:
    # The last reference may go, or the collector run, in a thread that must not touch the tables: `of` sweeps it then.
    if get_ident() == subscription.table.thread:
        subscription.drop()


class Subject(Protocol):
    """A machine, as those who look at it see it."""

    _held: int
    _looked_at: int
    _watched: int
    _is_settling_watched: bool


class Subscriptions:
    """Who looks at what: for each state, and for `ANY`, the observers in the order in which they came.

    The machine hears by its fields whether anybody does: a call would cost more than what is to be said.

    An observer may go at any call (the garbage collector runs where it likes), and its subscription with it. So tables
    are copied, in one step of C, before they are walked; and `add` calls nothing between finding a table and
    writing to it, or that table might be dropped in between (a subscription is hashed and compared in C).
    """

    __slots__ = ("subject", "tables", "thread", "version")

    def __init__(self, subject: Subject) -> None:
        self.tables: dict[int, dict[Subscription, None]] = {}
        self.version = 0
        """How many tables have come and gone."""
        self.thread = get_ident()
        self.subject = subject

    def __len__(self) -> int:
        return sum(len(table) for table in list(self.tables.values()))

    def add(self, observer: Observer, key: int) -> Subscription:
        """Subscribe an observer under a key."""
        subscription = Subscription(observer, _gone)
        subscription.table = self
        subscription.key = key
        table = {subscription: None}  # made first: from here on nobody else runs
        if key in self.tables:
            self.tables[key][subscription] = None
            return subscription
        self.tables[key] = table
        self.version += 1
        subject = self.subject
        if key >= 0:
            subject._looked_at |= 1 << key
            subject._watched |= 1 << key
        elif key == ANY:
            subject._looked_at = subject._watched = -1
        elif key == QUEUE:
            subject._is_settling_watched = True
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """Unsubscribe. Doing so twice is fine."""
        key = subscription.key
        try:
            table = self.tables[key]
            del table[subscription]
        except KeyError:
            return
        if not table:
            del self.tables[key]
            self.version += 1
            subject = self.subject
            if key == ANY:
                self.look_anew()
            elif key == QUEUE:
                subject._is_settling_watched = False
            elif key >= 0 and subject._looked_at >= 0:
                subject._looked_at ^= 1 << key
                subject._watched = subject._held | subject._looked_at

    def look_anew(self) -> None:
        """Tell the machine which states are looked at, all at once."""
        subject = self.subject
        subject._looked_at = subject._watched = -1  # nobody is missed who comes meanwhile
        while ANY not in self.tables:
            version = self.version
            looked_at = union(1 << key for key in list(self.tables) if key >= 0)
            if version == self.version:
                subject._looked_at = looked_at
                subject._watched = subject._held | looked_at
                break

    def renumber(self, places: Sequence[int]) -> None:
        """Give every state's table its new number. One whose observer goes meanwhile is swept by `of`."""
        tables: dict[int, dict[Subscription, None]] = {}
        for key, table in list(self.tables.items()):
            place = places[key] if key >= 0 else key
            for subscription in list(table):
                subscription.key = place
            tables[place] = table
        self.tables = tables
        self.look_anew()
        for observer in self.of(list(tables)):
            if isinstance(observer, Condition):
                cast("Condition[object]", observer).renumber(places)

    def of(self, keys: Iterable[int]) -> list[Observer]:
        """Return the observers under these keys, each once."""
        tables = self.tables
        under: list[Subscription] = []
        walked = 0
        for key in keys:
            if key in tables:
                under += tables[key]
                walked += 1
        found: list[Observer] = []
        for subscription in under:
            observer = subscription()
            if observer is not None:
                found.append(observer)
            else:
                self.drop(subscription)
        return found if walked < 2 else list({id(observer): observer for observer in found}.values())


# ---- Streams --------------------------------------------------------------------------------------------------------


class Stream(Generic[T_co]):
    """An async iterator over what happens in a machine, which it never blocks. One task at a time may iterate it."""

    __slots__ = ("__weakref__", "_is_over", "_is_parked", "_reference", "_refs", "_task", "_thread")

    def __init__(self, machine: Any) -> None:
        self._thread = get_ident()
        self._reference: weakref.ref[Any] = machine._reference
        self._is_over = False
        self._is_parked = False
        self._task: trio.lowlevel.Task | None = None
        """Who is in a step."""
        self._refs: Sequence[Subscription] = []

    @abstractmethod
    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        """Look after a transition."""
        ...  # an abstract method has no body to run

    @abstractmethod
    def _has_item(self) -> bool: ...

    @abstractmethod
    def _item(self) -> T_co:
        """Return the next item. If there is none, then because it is over."""
        ...

    def _end(self) -> None:
        """Note that there is no more to come."""
        self._is_over = True
        for subscription in self._refs:
            subscription.drop()
        self._refs = []
        self._wake()

    def _wake(self) -> None:
        if self._is_parked:
            assert self._task is not None  # who is parked is in a step
            self._is_parked = False
            reschedule(self._task)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        name = type(self).__name__.lower()
        _check_thread(self._thread, f"a {name}()")
        if self._task is not None:
            raise trio.BusyResourceError(f"another task is waiting on this {name}(): make one for each task")
        self._task = current_task()
        try:
            if self._has_item() or self._is_over:
                await trio.lowlevel.checkpoint()
            else:
                self._is_parked = True
                await wait_task_rescheduled(self._abort)
        finally:
            self._task = None
        return self._item()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._is_parked = False
        return trio.lowlevel.Abort.SUCCEEDED

    def __repr__(self) -> str:
        status = "ended" if self._is_over else "waiting"
        return f"<{type(self).__name__} {of(self._reference)}, {status}{self._holds()}>"

    def _holds(self) -> str:
        """Return what more there is to say of it."""
        return ""


class Watch(Stream[Ticks]):
    """An async iterator over a machine's ticks: the present ones first, then always the latest, never a backlog.

    It never blocks the machine, and ends quietly when the machine closes. What had moved before and was not yet given
    is given first, as `Engine.ticks_at_close`; that closing deactivates everything is no news. One task at a time may
    iterate it.

    Checkpoints: each step is one. Cancellation: a cancelled step loses nothing; the next one gives the latest ticks.

    Raises:
      BusyResourceError: another task is in a step.
      WrongThread: iterated in another thread than that of the machine.
    """

    __slots__ = ("_is_fresh", "_machine")

    def __init__(self, machine: Any) -> None:
        super().__init__(machine)
        self._machine = machine
        self._is_fresh = True
        """Whether there are ticks that were not given yet."""

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        """Note that ticks have moved."""
        if not self._is_fresh and transition._plan.moved and transition._plan.request.kind is not CLOSE:
            self._is_fresh = True
            self._wake()
        return False

    def _has_item(self) -> bool:
        return self._is_fresh

    def _item(self) -> Ticks:
        if not self._is_fresh:
            raise StopAsyncIteration
        self._is_fresh = False
        return cast("Ticks", self._machine._now())


Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "raise"]
"""What becomes of a transition that a buffer has no room for."""


class Buffer(Stream[T_co]):
    """A stream of every transition, through a bounded buffer."""

    __slots__ = ("_buffer", "_dropped", "_error", "_limit", "_overflow", "_since")

    def __init__(self, machine: Any, limit: int, overflow: Overflow) -> None:
        super().__init__(machine)
        self._limit = limit
        self._overflow = overflow
        self._since: int = machine._tick
        """The machine's tick when it was made: a transition that was committed by then is none of its own."""
        self._buffer: deque[Transition] = deque()
        self._dropped = 0
        self._error: BufferFull | None = None

    @property
    def dropped(self) -> int:
        """How many transitions there was no room for, so far. Where some are missing, their ticks are."""
        return self._dropped

    def _observe(self, transition: Transition, removal: Transition | None) -> bool:
        """Keep a transition, and the removal that a fault in it brought."""
        for one in (transition,) if removal is None else (transition, removal):
            if one.tick > self._since and self._error is None:
                self._keep(one)
        self._wake()
        return False

    def _keep(self, transition: Transition) -> None:
        if len(self._buffer) >= self._limit:
            self._dropped += 1
            if self._overflow == "drop_newest":
                return
            if self._overflow == "raise":
                self._error = BufferFull(
                    f"transitions(buffer={self._limit}, overflow='raise'): {transition!r} had no room, so that what "
                    "follows would have a gap: read faster, or give it a larger buffer"
                )
                self._end()
                return
            self._buffer.popleft()
        self._buffer.append(transition)

    def _holds(self) -> str:
        return f", {len(self._buffer)} of {self._limit} in the buffer, {self._dropped} dropped"

    def _has_item(self) -> bool:
        return bool(self._buffer)

    def _item(self) -> T_co:
        if self._buffer:
            return cast("T_co", self._buffer.popleft())
        error, self._error = self._error, None
        if error is None:
            raise StopAsyncIteration
        try:
            raise error
        finally:
            del error  # a traceback that knows its own frame would be cyclic garbage


protect(__name__)
