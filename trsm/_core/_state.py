"""States, the calls that carry their arguments, and the decorators that hang code on them."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import (
    Any,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

import attrs

from trsm._core._arguments import Arguments, Shown
from trsm._core._errors import HandlerError, MutationError, SchemaError
from trsm._core._records import Record

P = ParamSpec("P")
Q = ParamSpec("Q")
A_co = TypeVar("A_co", covariant=True)
A = TypeVar("A")
R = TypeVar("R")
Negotiation = TypeVar("Negotiation", bound=Callable[..., bool])
Final = TypeVar("Final", bound=Callable[..., None])
Task = TypeVar("Task", bound=Callable[..., Coroutine[object, object, object]])
F = TypeVar("F", bound=Callable[..., object])

HandlerKind: TypeAlias = Literal[
    "can_enter", "can_exit", "can_stay", "can_change", "on_enter", "on_exit", "on_change", "task"
]
NEGOTIATION: frozenset[HandlerKind] = frozenset({"can_enter", "can_exit", "can_stay", "can_change"})
MARKS = "__trsm_marks__"
LEFT_OUT: Any = Shown("…")
"""What a decorator is given that stands with parentheses, and takes none."""


class TaskDecorator(Protocol[A]):
    """What ``task(then=S)`` returns when `S` has an args class: it takes tasks that return an instance of it."""

    def __call__(
        self, function: Callable[Q, Coroutine[object, object, A]], /
    ) -> Callable[Q, Coroutine[object, object, A]]: ...  # a protocol's method has no body to run


class Mark(Record):
    """What a decorator says about a function: on which state it hangs, and as what."""

    kind: HandlerKind
    state: State[..., object] | None
    """None for ``can_change`` and ``on_change``."""
    schema: type | None = None
    """The schema whose ``can_change`` or ``on_change`` this is; None for a state's handlers."""
    given: State[..., object] | None = None
    then: State[..., object] | None = None
    timeout: float | None = None
    limit: int | None = None
    watches: bool = False
    """Whether it only watches: an ``on_enter`` of ``Error`` that handles no error."""

    def describe(self) -> str:
        """Return how the decorator was written, for messages."""
        if self.state is not None:
            return f"@{self.state.qualified_name}.{self.kind}"
        assert self.schema is not None  # can_change and on_change hang on a schema
        return f"@{self.schema.__name__}.{self.kind}"


@attrs.frozen(eq=False)
class Call(Generic[A_co]):
    """A state together with the arguments it is called with: what ``X.Foo(…)`` returns and ``machine.add`` takes."""

    state: State[..., object]
    args: A_co
    """The instance of the state's args class; None where it has none."""


class Plain(Protocol):
    """A state that can be called with nothing: it has no args class, or one whose fields all have defaults.

    A type checker takes a state for a `State[[], object]` only if it has no args class at all.
    """

    @property
    def qualified_name(self) -> str:
        """The name with that of the schema that declares it."""
        ...  # a protocol's method has no body to run

    def __call__(self) -> Call[object]:
        """Return a call of the state with its defaults."""
        ...


@attrs.frozen
class StateRelations:
    """The states that a state names, or that name it, by relation; each in declaration order."""

    require: tuple[State[..., object], ...]
    add: tuple[State[..., object], ...]
    remove: tuple[State[..., object], ...]
    after: tuple[State[..., object], ...]


class _Owner(Protocol):
    """A schema, as its states see it."""

    def relations_of(self, state: State[..., object]) -> StateRelations:
        """Return the states that a state names."""
        ...  # a protocol's method has no body to run

    def _on_timeout_of(self, state: State[..., object]) -> State[..., object] | None:
        """Return the state that comes when a state's timeout is over."""
        ...


class Properties(Record):
    """What is declared of a state, as it was written."""

    auto: bool = False
    multi: bool = False
    latch: bool = False
    require: tuple[str | State[..., object], ...] = ()
    add: tuple[str | State[..., object], ...] = ()
    remove: tuple[str | State[..., object], ...] = ()
    after: tuple[str | State[..., object], ...] = ()
    tags: tuple[str, ...] = ()
    timeout: float | None = None
    on_timeout: tuple[str | State[..., object], ...] = ()
    """The state that comes when `timeout` is over; empty, or one."""


class State(Generic[P, A_co]):
    """A state of a schema: a name with properties and relations, declared in the body of a `Schema` class.

    Frozen. A state belongs to the schema that declares it and to those that inherit it. Calling it with the arguments
    of its args class makes a `Call`, which mutations take: ``machine.add(X.Fetching(url="https://…"))``. The
    methods ``can_…``, ``on_…`` and ``task`` are decorators that hang code on the state.

    Args:
      auto: the automatic round that follows each change brings the state in whenever it fits. Default False.
      multi: called while active, it ticks +2, runs its enter handlers again and starts one more task. Default False.
      latch: once active it never leaves before the machine closes. Default False.
      require: states that must be active with it.
      add: states that it brings with it when it activates, where they fit.
      remove: states that cannot be active with it.
      after: states whose handlers run before its own.
      tags: words of yours, one or several, by which ``X.tagged(…)`` finds states. Default: none.
      args: the class of its arguments (attrs, dataclass or any other callable). Default: none.
      timeout: seconds after which an instance of the state is deactivated; a multi state that is called again goes on,
        and so does its deadline. It runs on trio's clock; a bare `Engine` ignores it. Default: none.
      on_timeout: a state that is added in that same mutation, or its name. Default: none.

    Each relation takes a state, the name of one declared anywhere in the same schema, or an iterable of them.

    Raises:
      SchemaError: a relation holds something that is neither a state nor a name; ``args`` cannot be called, or is a
        state; a flag is no bool; ``tags`` are no words; ``timeout`` is no positive number. All else that can be wrong
        with a state is found when its class is made.

    Example::

        class Link(Schema):
            Connected = State(remove="Connecting")
            Connecting = State(remove=Connected)
            Ready = State(auto=True, require=Connected)
    """

    __slots__ = ("_args", "_arguments", "_lineage", "_name", "_owner", "_properties")

    _name: str | None
    _owner: type | None
    _properties: Properties
    _args: Callable[..., object] | None
    _arguments: Arguments | None
    """Read from the args class when the state is first called."""
    _lineage: State[..., object]

    @overload
    def __init__(
        self: State[[], None],
        *,
        auto: bool = False,
        multi: bool = False,
        latch: bool = False,
        require: Relation = (),
        add: Relation = (),
        remove: Relation = (),
        after: Relation = (),
        tags: str | Iterable[str] = (),
        timeout: float | None = None,
        on_timeout: str | State[..., object] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: State[Q, A],
        *,
        args: Callable[Q, A],
        auto: bool = False,
        multi: bool = False,
        latch: bool = False,
        require: Relation = (),
        add: Relation = (),
        remove: Relation = (),
        after: Relation = (),
        tags: str | Iterable[str] = (),
        timeout: float | None = None,
        on_timeout: str | State[..., object] | None = None,
    ) -> None: ...

    def __init__(
        self,
        *,
        args: Callable[..., object] | None = None,
        auto: bool = False,
        multi: bool = False,
        latch: bool = False,
        require: Relation = (),
        add: Relation = (),
        remove: Relation = (),
        after: Relation = (),
        tags: str | Iterable[str] = (),
        timeout: float | None = None,
        on_timeout: str | State[..., object] | None = None,
    ) -> None:
        if isinstance(args, State):
            raise SchemaError(
                "args= was given a state, and no class: above it in this class body stands a state of the same name; "
                "give the args class another name, such as OrderArgs"
            )
        if args is not None and not callable(args):
            raise SchemaError(f"args={args!r} cannot be called: write the class of the state's arguments")
        properties = Properties(
            _flag("auto", auto, False),
            _flag("multi", multi, False),
            _flag("latch", latch, False),
            _targets("require", require),
            _targets("add", add),
            _targets("remove", remove),
            _targets("after", after),
            _tags(tags),
            *_timing(timeout, on_timeout, None, ()),
        )
        self._fill(properties, args, self)

    def _fill(self, properties: Properties, args: Callable[..., object] | None, lineage: State[..., object]) -> None:
        put = object.__setattr__
        put(self, "_name", None)
        put(self, "_owner", None)
        put(self, "_properties", properties)
        put(self, "_args", args)
        put(self, "_arguments", None)
        put(self, "_lineage", lineage)

    def _declare(self, name: str | None, owner: type | None) -> None:
        """Give the state its name, once, when the class of its schema is made; or take it back if that was refused."""
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_owner", owner)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a state is frozen: {name} cannot be set; use extend(…) or replace(…) in a subclass")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a state is frozen: {name} cannot be deleted")

    def __copy__(self) -> Self:
        return self  # a state is itself wherever it goes: in a copied args instance too

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., object], tuple[type | None, str]]:
        """Pickle it as what it is called in its schema.

        Raises:
          SchemaError: it is not part of a schema (yet).
        """
        return operator.getitem, (self._owner, self.name)

    def __init_subclass__(cls) -> None:
        if cls.__module__ != __name__:
            raise TypeError(f"{cls.__name__} cannot inherit from State: put what differs in its args class or handlers")

    # ---- What it is -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name it is declared under.

        Raises:
          SchemaError: it is not part of a schema (yet).
        """
        if self._name is None:
            raise SchemaError("this state has no name yet: declare it in the body of a Schema class")
        return self._name

    @property
    def qualified_name(self) -> str:
        """Its name after that of the schema that declares it, such as ``Door.Open``."""
        return f"{self._owner.__name__ if self._owner else '?'}.{self._name or '?'}"

    @property
    def auto(self) -> bool:
        """Whether the automatic round brings it in."""
        return self._properties.auto

    @property
    def multi(self) -> bool:
        """Whether it can be called again while it is active."""
        return self._properties.multi

    @property
    def latch(self) -> bool:
        """Whether it stays, once active, until the machine closes."""
        return self._properties.latch

    @property
    def tags(self) -> tuple[str, ...]:
        """Words by which ``X.tagged(…)`` finds it."""
        return self._properties.tags

    @property
    def timeout(self) -> float | None:
        """The seconds after which it is deactivated; None if it has no timeout."""
        return self._properties.timeout

    @property
    def on_timeout(self) -> State[..., object] | None:
        """The state that comes when its timeout is over, in the schema that declares it; None if there is none.

        Raises:
          SchemaError: it is not part of a schema (yet).
        """
        if self._owner is None:
            raise SchemaError("this state has no timeout yet: declare it in the body of a Schema class")
        return cast("_Owner", self._owner)._on_timeout_of(self)

    @property
    def relations(self) -> StateRelations:
        """The states that it names, in the schema that declares it; what an error state implies is among them.

        Raises:
          SchemaError: it is not part of a schema (yet).
        """
        if self._owner is None:
            raise SchemaError("this state has no relations yet: declare it in the body of a Schema class")
        return cast("_Owner", self._owner).relations_of(self)

    @property
    def args(self) -> Callable[..., A_co] | None:
        """The class of its arguments, or None."""
        return cast("Callable[..., A_co] | None", self._args)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.qualified_name}>"

    def __str__(self) -> str:
        return self._name or "?"

    # ---- What it is called with -------------------------------------------------------------------------------------

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[A_co]:
        """Return a call of this state with these arguments, to be given to a mutation.

        Args:
          args, kwargs: what the state's args class takes; nothing, where it has none.

        Raises:
          MutationError: the arguments are not those of the state's args class, or not of their types, as far as that
            can be seen: contents of containers are not looked through. The message names the field.
        """
        if self._args is None:
            if args or kwargs:
                raise MutationError(
                    f"{self} takes no arguments: declare {self} = State(args=…), or pass free keywords to the mutation"
                )
            return cast("Call[A_co]", Call(self, None))
        if self._arguments is None:
            object.__setattr__(self, "_arguments", Arguments(self._args))
        return cast("Call[A_co]", Call(self, cast("Arguments", self._arguments).instance(str(self), args, kwargs)))

    # ---- What can be made of it -------------------------------------------------------------------------------------

    def _derived(self, properties: Properties) -> State[P, A_co]:
        state = object.__new__(type(self))
        state._fill(properties, self._args, self._lineage)
        return state

    def extend(
        self,
        *,
        auto: bool | None = None,
        multi: bool | None = None,
        latch: bool | None = None,
        require: Relation = (),
        add: Relation = (),
        remove: Relation = (),
        after: Relation = (),
        tags: str | Iterable[str] = (),
        timeout: float | None = None,
        on_timeout: str | State[..., object] | None = None,
    ) -> State[P, A_co]:
        """Return this state with more relations, to be declared under the same name in a schema that inherits.

        Relations that are given join the present ones; a flag, ``timeout`` or ``on_timeout`` that is given replaces the
        present one, and ``timeout=math.inf`` lifts both. Handlers and mutations that name either of the two states mean
        both: they are of one lineage.

        Raises:
          SchemaError: as `State` does.
        """
        mine = self._properties
        return self._derived(
            Properties(
                _flag("auto", auto, mine.auto),
                _flag("multi", multi, mine.multi),
                _flag("latch", latch, mine.latch),
                mine.require + _targets("require", require),
                mine.add + _targets("add", add),
                mine.remove + _targets("remove", remove),
                mine.after + _targets("after", after),
                mine.tags + _tags(tags),
                *_timing(timeout, on_timeout, mine.timeout, mine.on_timeout),
            )
        )

    def replace(
        self,
        *,
        auto: bool | None = None,
        multi: bool | None = None,
        latch: bool | None = None,
        require: Relation | None = None,
        add: Relation | None = None,
        remove: Relation | None = None,
        after: Relation | None = None,
        tags: str | Iterable[str] | None = None,
        timeout: float | None = None,
        on_timeout: str | State[..., object] | tuple[()] | None = None,
    ) -> State[P, A_co]:
        """Return this state with other flags and relations in place of those given; the rest stays.

        Like `extend`, but a relation that is given replaces the present one: ``remove=()`` clears it, and
        ``on_timeout=()`` too.

        Raises:
          SchemaError: as `State` does.
        """
        mine = self._properties
        return self._derived(
            Properties(
                _flag("auto", auto, mine.auto),
                _flag("multi", multi, mine.multi),
                _flag("latch", latch, mine.latch),
                mine.require if require is None else _targets("require", require),
                mine.add if add is None else _targets("add", add),
                mine.remove if remove is None else _targets("remove", remove),
                mine.after if after is None else _targets("after", after),
                mine.tags if tags is None else _tags(tags),
                *_timing(timeout, on_timeout, mine.timeout, mine.on_timeout),
            )
        )

    # ---- What hangs on it -------------------------------------------------------------------------------------------

    @overload
    def can_enter(self, function: Negotiation, /) -> Negotiation: ...
    @overload
    def can_enter(self, *, given: State[..., object]) -> Callable[[Negotiation], Negotiation]: ...
    def can_enter(
        self, function: Negotiation | None = None, *, given: State[..., object] | None = None
    ) -> Negotiation | Callable[[Negotiation], Negotiation]:
        """Decorate a negotiation handler that is asked before the state activates; False cancels the mutation.

        The handler is sync and read-only, takes the `Transition`, and returns a bool. A multi state that is called
        again is asked again. In the automatic round a refusal only leaves this state out.

        Args:
          given: ask only when this other state was active before.

        Raises:
          HandlerError: the function is async or a generator function, or the state is ``Error``, which nothing refuses.

        Example::

            @Door.Open.can_enter
            def is_known(self, t: trsm.Transition) -> bool:
                return t.args.get("card") in self.cards
        """
        if given is not None and not isinstance(given, State):
            raise HandlerError(f"given={given!r} is no state: write the state itself, such as {self.qualified_name}")
        return _decorate(Mark("can_enter", self, given=given), function)

    def can_exit(self, function: Negotiation = LEFT_OUT, /) -> Negotiation:
        """Decorate a negotiation handler that is asked before the state deactivates; False cancels the mutation.

        It is sync and read-only, takes the `Transition`, and returns a bool. Closing does not ask.

        Raises:
          HandlerError: as `can_enter` does.
        """
        return hang(Mark("can_exit", self), function)

    def can_stay(self, function: Negotiation = LEFT_OUT, /) -> Negotiation:
        """Decorate a negotiation handler that is asked when the state was active and stays so; False cancels.

        It is not asked on a ``remove``, nor by a mutation that calls nothing, nor for a multi state called again
        (whose ``can_enter`` is asked).

        Raises:
          HandlerError: as `can_enter` does.
        """
        return hang(Mark("can_stay", self), function)

    def on_enter(self, function: Final = LEFT_OUT, /) -> Final:
        """Decorate a final handler that runs when the state has activated, or a multi state was called again.

        The handler is sync and takes the `Transition`. It acts and cannot refuse; mutations that it makes are queued.

        Raises:
          HandlerError: the function is async or a generator function: such work is a `task`.
        """
        return hang(Mark("on_enter", self), function)

    def on_exit(self, function: Final = LEFT_OUT, /) -> Final:
        """Decorate a final handler that runs when the state has deactivated, closing included.

        It is sync and takes the `Transition`. It acts and cannot refuse; mutations that it makes are queued.

        Raises:
          HandlerError: as `on_enter` does.
        """
        return hang(Mark("on_exit", self), function)

    @overload
    def task(self, function: Task, /) -> Task: ...
    @overload
    def task(
        self, *, then: State[[], None] | None = None, timeout: float | None = None, limit: int | None = None
    ) -> Callable[[Task], Task]: ...
    @overload
    def task(
        self, *, then: State[..., A], timeout: float | None = None, limit: int | None = None
    ) -> TaskDecorator[A]: ...
    def task(
        self,
        function: Callable[..., object] | None = None,
        *,
        then: object = None,
        timeout: float | None = None,
        limit: int | None = None,
    ) -> object:
        """Decorate an async function that runs in the machine's nursery for as long as the state is active.

        It starts after the transition's final handlers, never outside its instance, is cancelled in the same step in
        which the state leaves, and never overlaps its successor. An exception that it raises activates ``Error``.

        Args:
          then: a state to add when the task returns and its instance still lives; ``t.result`` is what it returned.
            If that state has an args class, the task returns an instance of it.
          timeout: seconds from the task's start, after which it acts as if it had raised `trio.TooSlowError`.
            Default: none.
          limit: how many tasks of a multi state run at once; further ones wait in order. Default: no limit.

        Raises:
          HandlerError: the function is not async; ``timeout`` is not a positive number; ``limit`` is not a positive
            whole number; ``then`` is no state.

        Example::

            @Job.Loading.task(then=Job.Loaded, timeout=5)
            async def load(self, t: trsm.Transition) -> bytes:
                return await self.path.read_bytes()
        """
        if then is not None and not isinstance(then, State):
            raise HandlerError(f"then={then!r} is no state: write the state itself, such as {self.qualified_name}")
        if timeout is not None and (timeout is True or not isinstance(timeout, (int, float)) or not timeout > 0):
            raise HandlerError(f"timeout={timeout!r} is no positive number of seconds")
        if limit is not None and (limit is True or not isinstance(limit, int) or not limit > 0):
            raise HandlerError(f"limit={limit!r} is no positive number of tasks")
        mark = Mark("task", self, then=cast("State[..., object] | None", then), timeout=timeout, limit=limit)
        return _decorate(mark, function)


class States(tuple["State[..., object]", ...]):
    """Several states; a state is among them if one of its lineage is, which an heir of its schema may have extended."""

    __slots__ = ()

    def __contains__(self, state: object) -> bool:
        if not isinstance(state, State):
            return False
        lineage = cast("State[..., object]", state)._lineage
        return any(one._lineage is lineage for one in self)


Relation: TypeAlias = "str | State[..., object] | Iterable[str | State[..., object]]"
"""What the relation arguments of a state take."""


def _flag(name: str, given: bool | None, present: bool) -> bool:
    if given is None:
        return present
    if not isinstance(given, bool):
        raise SchemaError(f"{name}={given!r} is no bool: write {name}=True or {name}=False")
    return given


def _tags(tags: str | Iterable[str]) -> tuple[str, ...]:
    if not isinstance(tags, Iterable):
        raise SchemaError(f"tags={tags!r}: write a word, or several")
    several = (tags,) if isinstance(tags, str) else tuple(tags)
    for tag in several:
        if not isinstance(tag, str) or not tag:
            raise SchemaError(f"tags={tags!r}: {tag!r} is no tag: write words")
    return tuple(dict.fromkeys(several))


def _timing(
    timeout: float | None,
    on_timeout: object,
    present: float | None,
    present_on: tuple[str | State[..., object], ...],
) -> tuple[float | None, tuple[str | State[..., object], ...]]:
    """Return the timeout and what comes after it, from what is given and what is there; infinity lifts both."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
        raise SchemaError(f"timeout={timeout!r}: write a positive number of seconds")
    seconds = present if timeout is None else float(timeout)
    is_lifted = seconds == math.inf
    if on_timeout is None:
        return (None, ()) if is_lifted else (seconds, present_on)
    if not isinstance(on_timeout, (str, State)) and on_timeout != ():
        raise SchemaError(f"on_timeout={on_timeout!r}: write a state or its name")
    return (None if is_lifted else seconds), _targets("on_timeout", cast("Relation", on_timeout))


def _targets(relation: str, value: Relation) -> tuple[str | State[..., object], ...]:
    """Return a relation's members as they were written."""
    targets: tuple[object, ...]
    if isinstance(value, (str, State)):
        targets = (value,)
    elif isinstance(value, Iterable):
        targets = tuple(value)
    else:
        targets = (value,)
    for target in targets:
        if not isinstance(target, (str, State)):
            raise SchemaError(f"{relation}={target!r}: a relation names states; write a state, its name, or several")
    return cast("tuple[str | State[..., object], ...]", targets)


class ErrorState(State[[], None]):
    """A state that takes exceptions: when a handler or task raises one that matches, it activates beside ``Error``.

    It is multi, and requires and adds ``Error``. What no error state takes is unhandled, unless ``Error`` has an
    ``on_enter`` or a task.

    Args:
      catches: a subclass of `Exception`, or a tuple of them, matched as ``except*`` does: a group is split.
      require, add, remove, after, tags, timeout, on_timeout: as for `State`. What removes it is removed by it too.

    Raises:
      SchemaError: ``catches`` is something else: `BaseException` and its other children pass through every machine,
        and a group has no type of its own to match.

    Example::

        class Job(Schema):
            Loading = State(remove="Error")  # so that a failure ends it
            Unreadable = ErrorState(catches=OSError)
    """

    __slots__ = ("_catches",)

    _catches: tuple[type[Exception], ...]

    def __init__(
        self,
        *,
        catches: type[Exception] | tuple[type[Exception], ...],
        require: Relation = (),
        add: Relation = (),
        remove: Relation = (),
        after: Relation = (),
        tags: str | Iterable[str] = (),
        timeout: float | None = None,
        on_timeout: str | State[..., object] | None = None,
    ) -> None:
        classes = catches if isinstance(catches, tuple) else (catches,)
        if not classes:
            raise SchemaError("catches=() matches nothing: write the exceptions that this state stands for")
        for one in classes:
            if not (isinstance(one, type) and issubclass(one, Exception)):
                raise SchemaError(f"catches={one!r}: an error state catches subclasses of Exception, and only those")
            if issubclass(one, BaseExceptionGroup):
                raise SchemaError(f"catches={one.__name__}: a group is split and its members are matched; name those")
        super().__init__(
            multi=True,
            require=require,
            add=add,
            remove=remove,
            after=after,
            tags=tags,
            timeout=timeout,
            on_timeout=on_timeout,
        )
        object.__setattr__(self, "_catches", classes)

    def _derived(self, properties: Properties) -> ErrorState:
        state = object.__new__(ErrorState)
        state._fill(properties, self._args, self._lineage)
        object.__setattr__(state, "_catches", self._catches)
        return state

    @property
    def catches(self) -> tuple[type[Exception], ...]:
        """The exceptions that it takes."""
        return self._catches


# ---- Marks on functions ---------------------------------------------------------------------------------------------


def is_async(function: object) -> bool:
    """Return whether calling `function` gives an awaitable, as far as can be told without calling it."""
    return any(map(inspect.iscoroutinefunction, _called(function)))


def _called(function: object) -> tuple[object, object]:
    """Return what a call would run: the function inside a partial, or the ``__call__`` of an object's class."""
    while isinstance(function, functools.partial):
        function = cast("Callable[..., object]", function.func)
    return function, getattr(type(function), "__call__", None)  # noqa: B004  # it is read, not asked for


def check_colour(mark: Mark, function: object) -> None:
    """Refuse an async function where sync is due, and the other way round.

    Raises:
      HandlerError: the colour is wrong, or it is a generator function, whose body a call would not run; or there is
        none, as the decorator was written with parentheses.
    """
    if function is LEFT_OUT:
        raise HandlerError(f"{mark.describe()}() decorates nothing: write {mark.describe()}, without parentheses")
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function):
        raise HandlerError(f"{mark.describe()}: {function!r} cannot be called: decorate a function")
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in _called(function)):
        raise HandlerError(f"{mark.describe()}: {name} is a generator function, so calling it would run nothing of it")
    if mark.kind == "task":
        if not is_async(function):
            raise HandlerError(f"{mark.describe()}: {name} is sync, a task is async: write async def, or use on_enter")
    elif is_async(function):
        instead = "decide from what is already known" if mark.kind in NEGOTIATION else "move the waiting into a task"
        raise HandlerError(f"{mark.describe()}: {name} is async, {mark.kind} is sync: write def, and {instead}")


def unwrapped(function: object) -> object:
    """Return the function inside a staticmethod or classmethod, or what was given."""
    if issubclass(type(function), (staticmethod, classmethod)):  # `isinstance` would ask a proxy for its ``__class__``
        return cast("staticmethod[..., object]", function).__func__
    return function


def marks_of(function: object) -> tuple[Mark, ...]:
    """Return the marks on a function, or on the one inside a staticmethod or classmethod.

    They are read from its own ``__dict__``: nothing of the user's runs, and what is called in its class is not its own.
    """
    try:
        own: object = object.__getattribute__(unwrapped(function), "__dict__")
    except AttributeError:
        return ()
    return cast("Mapping[str, tuple[Mark, ...]]", own).get(MARKS, ())


def hang(mark: Mark, function: F) -> F:
    """Write `mark` on `function`, and return it.

    Raises:
      HandlerError: see `check_colour`; also if the function takes no attributes.
    """
    plain = unwrapped(function)
    check_colour(mark, plain)
    if mark.kind in NEGOTIATION and mark.state is not None and mark.state._lineage is ERROR:
        raise HandlerError(f"{mark.describe()}: nothing refuses Error; use can_enter of an ErrorState, or on_enter")
    try:
        setattr(plain, MARKS, (*marks_of(plain), mark))
    except (AttributeError, TypeError):
        raise HandlerError(f"{mark.describe()}: {plain!r} takes no mark: wrap it in a function") from None
    return function


def _decorate(mark: Mark, function: F | None) -> F | Callable[[F], F]:
    return functools.partial(hang, mark) if function is None else hang(mark, function)


ERROR = State(multi=True)
"""The lineage of every schema's ``Error``."""
