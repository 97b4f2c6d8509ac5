"""Handlers: how they are found, checked, inherited, ordered, shared and taken off (DESIGN sections 2, 5 and 8)."""

from __future__ import annotations

import functools
import gc
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NoReturn

import attrs
import pytest

import trsm
from trsm import Canceled, Engine, ErrorState, HandlerError, ReadOnly, Schema, State, Transition, UnknownState


class Door(Schema):
    Open = State(remove="Closed")
    Closed = State(remove=Open)
    Alarm = State(multi=True)
    Lit = State(auto=True, require=Open)
    ErrLock = ErrorState(catches=OSError)


FINALS = ("on_enter", "on_exit")
NEGOTIATIONS = ("can_enter", "can_exit", "can_stay")


class Log(list[str]):
    """Makes functions that note that they ran."""

    def act(self, name: str) -> Callable[[Transition], None]:
        def handler(t: Transition) -> None:
            self.append(name)

        return handler

    def allow(self, name: str, answer: object = True) -> Callable[[Transition], object]:
        def handler(t: Transition) -> object:
            self.append(name)
            return answer

        return handler


def refused(bound: object, *words: str, kind: type[Exception] = HandlerError) -> None:
    """Check that something cannot be bound, neither at opening nor later, and that nothing has changed then."""
    with pytest.raises(kind) as caught:
        Engine(Door, bound)
    for word in words:
        assert word in str(caught.value), caught.value
    log = Log()
    engine = Engine(Door, Door.on_change(log.act("present")))
    with pytest.raises(kind):
        engine.bind(bound)
    engine.add(Door.Closed)
    assert log == ["present"]


# --- Where they are found --------------------------------------------------------------------------------------------


def test_handlers_of_an_object() -> None:
    """Each kind is called when its time has come, with the object and the transition."""

    class Handlers:
        def __init__(self) -> None:
            self.log: list[str] = []

        @Door.Open.can_enter
        def may(self, t: Transition) -> bool:
            self.log.append(f"may {t.kind}")
            return True

        @Door.Open.on_enter
        def come(self, t: Transition) -> None:
            self.log.append("come")

        @Door.Open.on_exit
        def leave(self, t: Transition) -> None:
            self.log.append("leave")

        @Door.Open.task
        async def work(self, t: Transition) -> None: ...

        def ordinary(self) -> NoReturn:
            raise AssertionError

    handlers = Handlers()
    engine = Engine(Door, handlers)
    engine.add(Door.Open)
    engine.remove(Door.Open)
    assert handlers.log == ["may add", "come", "leave"]


def test_nothing_of_an_object_runs_when_it_is_bound() -> None:
    """Neither properties nor ``__getattr__`` nor proxies that its class holds: handlers are read from ``vars()``."""

    class Bomb:
        def __getattribute__(self, name: str) -> NoReturn:
            raise AssertionError(name)

        def __get__(self, instance: object, owner: type) -> NoReturn:
            raise AssertionError

    class Handlers:
        bomb = Bomb()
        log: list[str] = []

        @property
        def looks(self) -> NoReturn:
            raise AssertionError

        @functools.cached_property
        def caches(self) -> NoReturn:
            raise AssertionError

        def __getattr__(self, name: str) -> NoReturn:
            raise AssertionError(name)

        def __getattribute__(self, name: str) -> object:
            raise AssertionError(name)

        @Door.Open.on_enter
        def come(self, t: Transition) -> None:
            Handlers.log.append("come")

    Engine(Door, Handlers()).add(Door.Open)
    assert Handlers.log == ["come"]


def test_a_class_attribute_that_is_a_dead_proxy_harms_nobody() -> None:
    """Nobody asks it what it is."""

    class Target:
        pass

    class Handlers:
        gone = weakref.proxy(Target())

        @Door.Open.on_enter
        def come(self, t: Transition) -> None: ...

    assert Engine(Door, Handlers()).add(Door.Open)


def test_handlers_on_the_instance_are_not_found() -> None:
    """They are looked for in the class, along the method resolution order."""

    class Handlers:
        def __init__(self) -> None:
            self.come = Door.Open.on_enter(lambda t: None)

    refused(Handlers(), "has no handlers")


def test_handlers_along_the_method_resolution_order() -> None:
    """Base classes first, in the order in which they are declared; a diamond has each once."""
    log: list[str] = []

    class Top:
        @Door.Open.on_enter
        def top(self, t: Transition) -> None:
            log.append("top")

    class Left(Top):
        @Door.Open.on_enter
        def left(self, t: Transition) -> None:
            log.append("left")

    class Right(Top):
        @Door.Open.on_enter
        def right(self, t: Transition) -> None:
            log.append("right")

    class Bottom(Left, Right):
        @Door.Open.on_enter
        def bottom(self, t: Transition) -> None:
            log.append("bottom")

    Engine(Door, Bottom()).add(Door.Open)
    assert log == ["top", "right", "left", "bottom"]


def test_an_override_of_a_handler_inherits_its_bindings() -> None:
    """It runs in the place of what it overrides, its own bindings are added, and `super` is its own business."""
    log: list[str] = []

    class Base:
        @Door.Open.on_enter
        def first(self, t: Transition) -> None:
            log.append("base")

        @Door.Open.on_enter
        def second(self, t: Transition) -> None:
            log.append("second")

    class Mine(Base):
        def first(self, t: Transition) -> None:
            log.append("mine")
            super().first(t)

    class Also(Mine):
        @Door.Open.on_exit
        def first(self, t: Transition) -> None:
            log.append("also")

    engine = Engine(Door, Mine())
    engine.add(Door.Open)
    assert log == ["mine", "base", "second"]
    log.clear()
    engine = Engine(Door, Also())
    engine.add(Door.Open)
    engine.remove(Door.Open)
    assert log == ["also", "second", "also"]


def test_an_override_marked_the_same_way_again_runs_for_each_mark() -> None:
    """Each decorator is a binding; the one inherited and the one written are two."""
    log: list[str] = []

    class Base:
        @Door.Open.on_enter
        def come(self, t: Transition) -> None:
            log.append("base")

    class Mine(Base):
        @Door.Open.on_enter
        def come(self, t: Transition) -> None:
            log.append("mine")

    Engine(Door, Mine()).add(Door.Open)
    assert log == ["mine", "mine"]


def test_an_override_that_copies_the_marks_of_what_it_overrides() -> None:
    """`functools.wraps` brings the same bindings along once more: they are no others."""
    log: list[str] = []

    class Base:
        @Door.Open.on_enter
        def come(self, t: Transition) -> None:
            log.append("base")

    class Mine(Base):
        @functools.wraps(Base.come)
        def come(self, t: Transition) -> None:
            log.append("mine")

    Engine(Door, Mine()).add(Door.Open)
    assert log == ["mine"]


def test_an_override_that_cannot_be_called_is_refused() -> None:
    """None and a property would leave the handler out in silence."""

    class Base:
        @Door.Open.on_enter
        def come(self, t: Transition) -> None: ...

    for value in (None, 3, property(lambda self: None), functools.cached_property(lambda self: None)):
        mine = type("Mine", (Base,), {"come": value})
        refused(
            mine(),
            "Mine.come = ",
            "overrides a handler (@Door.Open.on_enter) with what cannot be called",
            "a function that does nothing",
        )


def test_an_override_of_the_wrong_colour_is_refused() -> None:
    """It is checked as if it had been marked."""

    class Base:
        @Door.Open.on_enter
        def come(self, t: Transition) -> None: ...

        @Door.Open.task
        async def work(self, t: Transition) -> None: ...

    class Async(Base):
        async def come(self, t: Transition) -> None: ...

    class Sync(Base):
        def work(self, t: Transition) -> None: ...

    class Wrong(Base):
        def come(self) -> None: ...

    refused(Async(), "@Door.Open.on_enter", "Async.come is async, on_enter is sync")
    refused(Sync(), "@Door.Open.task", "Sync.work is sync, a task is async")
    refused(Wrong(), "Wrong.come(self)", "cannot be called with the transition alone", "write (self, t)")


def test_one_function_with_several_marks() -> None:
    """It is a handler for each."""
    log: list[str] = []

    class Handlers:
        @Door.Open.on_enter
        @Door.Open.on_exit
        @Door.Closed.on_enter
        def note(self, t: Transition) -> None:
            log.append(f"{t.entering} {t.leaving}".replace("<State Door.", "").replace(">", ""))

    engine = Engine(Door, Handlers())
    engine.add(Door.Open)
    engine.add(Door.Closed)
    assert log == ["(Open,) ()", "(Closed,) (Lit, Open)", "(Closed,) (Lit, Open)"]


def test_a_second_name_for_a_function_is_no_second_handler() -> None:
    """In a class and in a module."""
    log = Log()

    class Handlers:
        @Door.Open.on_enter
        def come(self, t: Transition) -> None:
            log.append("object")

        arrive = come

    module = types.ModuleType("aliased")
    module.come = module.arrive = Door.Open.on_enter(log.act("module"))
    module.come.__module__ = "aliased"
    Engine(Door, Handlers(), module).add(Door.Open)
    assert log == ["object", "module"]


# --- What a handler may be -------------------------------------------------------------------------------------------


def test_static_and_class_methods() -> None:
    """Marked inside or outside, they are called as Python would call them."""
    log: list[object] = []

    class Base:
        @Door.Open.on_enter
        @staticmethod
        def outer_static(t: Transition) -> None:
            log.append("outer static")

        @staticmethod
        @Door.Open.on_enter
        def inner_static(t: Transition) -> None:
            log.append("inner static")

        @Door.Open.on_enter
        @classmethod
        def outer_class(cls, t: Transition) -> None:
            log.append(cls)

        @classmethod
        @Door.Open.on_enter
        def inner_class(cls, t: Transition) -> None:
            log.append(cls)

        @Door.Open.on_enter
        def method(self, t: Transition) -> None:
            log.append("method")

    class Mine(Base):
        @staticmethod
        def method(t: Transition) -> None:
            log.append("static now")

    Engine(Door, Base()).add(Door.Open)
    assert log == ["outer static", "inner static", Base, Base, "method"]
    log.clear()
    Engine(Door, Mine()).add(Door.Open)
    assert log == ["outer static", "inner static", Mine, Mine, "static now"]


def test_static_and_class_methods_of_the_wrong_kind() -> None:
    """They are checked as the functions that they hold."""

    async def later(t: Transition) -> None: ...

    for wrap in (staticmethod, classmethod):
        with pytest.raises(HandlerError, match="later is async, on_enter is sync"):
            Door.Open.on_enter(wrap(later))

    class Handlers:
        @Door.Open.on_enter
        @staticmethod
        def come() -> None: ...

    refused(Handlers(), "Handlers.come()", "write (t), and read arguments from t.args or t.args_of(…)")


def test_plain_functions() -> None:
    """A function, a lambda and a closure take the transition alone."""
    log = Log()
    engine = Engine(Door, Door.Open.on_enter(log.act("closure")), Door.Open.on_enter(lambda t: log.append("lambda")))
    engine.add(Door.Open)
    assert log == ["closure", "lambda"]


def test_machines_with_functions_of_their_own_do_not_share_them() -> None:
    """Two closures are two handlers, made by one function or not."""
    logs = Log(), Log()
    engines = [Engine(Door, Door.Open.on_enter(log.act("mine"))) for log in logs]
    engines[0].add(Door.Open)
    assert logs == (["mine"], [])


def test_partials_and_callable_objects() -> None:
    """In a class they are called as Python calls them; bound by themselves they are handlers too."""
    log: list[str] = []

    def note(name: str, *rest: object) -> None:
        log.append(name)

    class Noter:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, t: Transition) -> None:
            log.append(self.name)

    class Handlers:
        partial = Door.Open.on_enter(functools.partial(note, "partial"))
        noter = Door.Open.on_enter(Noter("noter"))

    Engine(
        Door,
        Handlers(),
        Door.Open.on_enter(functools.partial(note, "partial alone")),
        Door.Open.on_enter(Noter("noter alone")),
    ).add(Door.Open)
    assert log == ["partial", "noter", "partial alone", "noter alone"]


def test_callable_objects_of_one_class_are_two_handlers() -> None:
    """Their marks are their own, and machines that bind them share no table."""
    log: list[str] = []

    class Noter:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, t: Transition) -> None:
            log.append(self.name)

    one, other, unmarked = Door.Open.on_enter(Noter("one")), Door.Closed.on_enter(Noter("other")), Noter("unmarked")
    engines = [Engine(Door, one), Engine(Door, other)]
    for engine in engines:
        engine.add(Door.Open)
    assert log == ["one"]
    engines[1].add(Door.Closed)
    assert log == ["one", "other"]
    refused(unmarked, "has no handlers")


def test_a_callable_object_that_is_a_handler_and_has_some() -> None:
    """Both count, its own mark first."""
    log: list[str] = []

    class Both:
        def __call__(self, t: Transition) -> None:
            log.append("called")

        @Door.Open.on_enter
        def method(self, t: Transition) -> None:
            log.append("method")

    Engine(Door, Door.Open.on_enter(Both())).add(Door.Open)
    assert log == ["called", "method"]


def test_what_binds_as_a_method_is_one() -> None:
    """A cached function in a class gets the object, as every method does."""
    asked: list[object] = []

    class Handlers:
        @Door.Open.can_enter
        @functools.lru_cache  # noqa: B019  # the object lives as long as the test
        def may(self, t: Transition) -> bool:
            asked.append(self)
            return True

    handlers = Handlers()
    assert Engine(Door, handlers).add(Door.Open)
    assert asked == [handlers]


def test_decorators_above_and_below_the_mark() -> None:
    """What `functools.wraps` copies is the mark too; what counts is how the wrapper is called."""
    log: list[str] = []

    def with_number(function: Callable[[object, Transition, int], None]) -> Callable[[object, Transition], None]:
        @functools.wraps(function)
        def wrapper(self: object, t: Transition) -> None:
            function(self, t, 3)

        return wrapper

    class Handlers:
        @with_number
        @Door.Open.on_enter
        def above(self, t: Transition, number: int) -> None:
            log.append(f"above {number}")

        @Door.Open.on_enter
        @with_number
        def below(self, t: Transition, number: int) -> None:
            log.append(f"below {number}")

    Engine(Door, Handlers()).add(Door.Open)
    assert log == ["above 3", "below 3"]


def test_functions_written_in_c_have_no_signature_to_check() -> None:
    """They are taken as they are."""

    class Handlers:
        come = Door.Open.on_enter(functools.partial(max, 1, key=str))

    class Unreadable:
        __signature__ = "none"

        def __call__(self, t: Transition) -> None:
            log.append("ran")

    log: list[str] = []
    Engine(Door, Door.Open.on_enter(Unreadable())).add(Door.Open)
    assert log == ["ran"]
    assert Engine(Door, Handlers())


def test_a_module() -> None:
    """It gives the marked functions defined in it, no imported ones, and what its classes hold is not its own."""
    log = Log()
    module = types.ModuleType("handlers_of_a_door")
    exec(
        "class Inner:\n"
        "    @Door.Open.on_enter\n"
        "    def inner(self, t): log.append('inner')\n"
        "@Door.Open.on_enter\n"
        "def second(t): log.append('second')\n"
        "@Door.Open.on_enter\n"
        "def first(t): log.append('first')\n"
        "def unmarked(t): raise AssertionError\n"
        "import functools\n"
        "cached = Door.Open.on_enter(functools.lru_cache(lambda t: log.append('cached')))\n",
        vars(module) | {"Door": Door, "log": log},
        names := {},
    )
    for name, value in names.items():
        setattr(module, name, value)
        if isinstance(value, types.FunctionType):
            value.__module__ = module.__name__
    names["cached"].__module__ = module.__name__
    module.imported = Door.Open.on_enter(log.act("imported"))
    Engine(Door, module).add(Door.Open)
    assert log == ["second", "first", "cached"]


def test_a_module_that_grows_between_two_machines() -> None:
    """As one does that is typed in, or reloaded: each machine gets what there is when it is opened."""
    log = Log()
    module = types.ModuleType("growing")

    def define(name: str) -> None:
        handler = Door.Open.on_enter(log.act(name))
        handler.__module__ = module.__name__
        setattr(module, name, handler)

    define("one")
    Engine(Door, module).add(Door.Open)
    define("two")
    Engine(Door, module).add(Door.Open)
    assert log == ["one", "one", "two"]


def test_a_module_without_handlers_is_refused() -> None:
    """Imported ones do not count."""
    module = types.ModuleType("empty")
    refused(module, "<module 'empty'> has no handlers: mark functions with @X.Foo.on_enter")
    module.imported = Door.Open.on_enter(Log().act("imported"))
    refused(module, "has no handlers")


# --- What is refused -------------------------------------------------------------------------------------------------


def unmarked(t: Transition) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    "nothing", [None, 3, "handlers", object(), unmarked, [unmarked], print, functools.partial(print)]
)
def test_what_has_no_handlers_is_refused(nothing: object) -> None:
    """Binding it would do nothing."""
    refused(nothing, f"{nothing!r} has no handlers: mark functions with @X.Foo.on_enter and the like")


def test_a_class_instead_of_an_instance_is_refused() -> None:
    """Schemas among them."""

    class Handlers:
        @Door.Open.on_enter
        def come(self, t: Transition) -> None: ...

    refused(Handlers, "Handlers is a class: bind an instance", "Handlers(…)")
    refused(Door, "Door is a class: bind an instance")


def test_a_bound_method_is_refused() -> None:
    """Its object is what is bound."""

    class Handlers:
        @Door.Open.on_enter
        def come(self, t: Transition) -> None: ...

    handlers = Handlers()
    refused(handlers.come, "Handlers.come is a method: bind the object that it belongs to", repr(handlers))


def sync(t: Transition) -> bool:
    return True


async def coroutine(t: Transition) -> None: ...


def generator(t: Transition) -> Iterator[None]:
    yield


async def async_generator(t: Transition) -> AsyncIterator[None]:
    yield


class AsyncCall:
    async def __call__(self, t: Transition) -> None: ...


class InheritsAsyncCall(AsyncCall):
    pass


class GeneratorCall:
    def __call__(self, t: Transition) -> Iterator[None]:
        yield


ASYNC = [coroutine, functools.partial(coroutine), AsyncCall(), InheritsAsyncCall(), functools.partial(AsyncCall())]
GENERATORS = [generator, async_generator, functools.partial(generator), GeneratorCall()]


@pytest.mark.parametrize("function", ASYNC)
@pytest.mark.parametrize("kind", [*NEGOTIATIONS, *FINALS, "can_change", "on_change"])
def test_an_async_function_where_sync_is_due(kind: str, function: Callable[..., object]) -> None:
    """Refused where it is written, with what to do instead: negotiation decides, finals leave waiting to a task."""
    owner = Door if kind.endswith("change") else Door.Open
    with pytest.raises(HandlerError) as caught:
        getattr(owner, kind)(function)
    at = f"@Door.{kind}" if owner is Door else f"@Door.Open.{kind}"
    instead = "decide from what is already known" if kind.startswith("can") else "move the waiting into a task"
    assert str(caught.value).startswith(f"{at}: ")
    assert str(caught.value).endswith(f" is async, {kind} is sync: write def, and {instead}")


@pytest.mark.parametrize("function", [sync, functools.partial(sync), lambda t: coroutine(t), type("C", (), {})])
def test_a_sync_function_where_async_is_due(function: Callable[..., object]) -> None:
    """A task is async, in both forms of the decorator."""
    for decorate in (Door.Open.task, Door.Open.task(timeout=1)):
        with pytest.raises(HandlerError, match=r"@Door\.Open\.task: .* is sync, a task is async: write async def"):
            decorate(function)


@pytest.mark.parametrize("function", ASYNC)
def test_an_async_function_is_a_task(function: Callable[..., object]) -> None:
    """However it is wrapped."""
    assert Door.Open.task(function) is function
    assert Door.Open.task(timeout=3)(function) is function


@pytest.mark.parametrize("function", GENERATORS)
@pytest.mark.parametrize("kind", [*NEGOTIATIONS, *FINALS, "task"])
def test_a_generator_function_is_refused(kind: str, function: Callable[..., object]) -> None:
    """A call would run nothing of it."""
    with pytest.raises(
        HandlerError, match=rf"@Door\.Open\.{kind}: .* is a generator function, so calling it would run"
    ):
        getattr(Door.Open, kind)(function)


@pytest.mark.parametrize("value", [3, None, "come", Door.Open.name])
def test_decorating_what_cannot_be_called(value: object) -> None:
    """A decorator is for functions."""
    with pytest.raises(HandlerError, match=rf"@Door\.Open\.on_enter: {value!r} cannot be called: decorate a function"):
        Door.Open.on_enter(value)
    with pytest.raises(HandlerError, match="cannot be called: decorate a function"):
        Door.Open.task(timeout=1)(value)


@pytest.mark.parametrize("kind", ["can_exit", "can_stay", "on_enter", "on_exit", "can_change", "on_change"])
def test_decorator_with_parentheses_that_takes_none(kind: str) -> None:
    """It is refused where it stands, before any function is seen."""
    owner, written = (Door, "Door") if kind.endswith("change") else (Door.Open, r"Door\.Open")
    words = rf"^@{written}\.{kind}\(\) decorates nothing: write @{written}\.{kind}, without parentheses$"
    with pytest.raises(HandlerError, match=words):

        @getattr(owner, kind)()
        def handler(t: Transition) -> bool:
            return True


def test_decorating_a_property_or_partialmethod() -> None:
    """Neither can be called."""
    for value in (property(sync), functools.partialmethod(sync)):
        with pytest.raises(HandlerError, match="cannot be called: decorate a function"):
            Door.Open.can_enter(value)


@attrs.frozen
class Frozen:
    def __call__(self, t: Transition) -> None: ...


@pytest.mark.parametrize("function", [print, int, len, Frozen(), [].append, Log().act])
def test_decorating_what_takes_no_mark(function: Callable[..., object]) -> None:
    """Builtins, frozen objects and bound methods have no room for one."""
    with pytest.raises(HandlerError, match=r"@Door\.Open\.on_enter: .* takes no mark: wrap it in a function"):
        Door.Open.on_enter(function)


def test_a_decorator_returns_the_function_itself() -> None:
    """In every form, so that it can be called and decorated again."""
    for decorate in (
        Door.Open.can_enter,
        Door.Open.can_enter(given=Door.Closed),
        Door.Open.can_enter(),
        Door.Open.can_exit,
        Door.Open.can_stay,
        Door.Open.on_enter,
        Door.Open.on_exit,
        Door.can_change,
        Door.on_change,
    ):
        assert decorate(sync) is sync
    assert Door.Open.task()(coroutine) is coroutine


@pytest.mark.parametrize("kind", NEGOTIATIONS)
def test_error_has_no_negotiation_handlers(kind: str) -> None:
    """Nothing refuses it, under whichever name; an error state may be refused."""

    class Careful(Schema):
        Error = Schema.Error.extend(add="Alarm")
        Alarm = State()

    for schema in (Schema, Door, Careful):
        with pytest.raises(
            HandlerError, match=rf"\.Error\.{kind}: nothing refuses Error; use can_enter of an ErrorSta"
        ):
            getattr(schema.Error, kind)(lambda t: True)
    getattr(Door.ErrLock, kind)(lambda t: True)
    Careful.Error.on_enter(lambda t: None)


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda t, other: None,
        lambda *, t: None,
        lambda t, *, key: None,
        functools.partial(lambda a, b, c: None, 1),
        functools.partial(lambda t: None, 1),
    ],
)
def test_a_handler_that_cannot_be_called_with_the_transition(function: Callable[..., object]) -> None:
    """Refused when it is bound, with what it should take."""
    refused(Door.Open.on_enter(function), "@Door.Open.on_enter: ", "cannot be called with the transition alone", "(t)")


def test_a_method_that_cannot_be_called_with_the_transition() -> None:
    """It takes itself and the transition."""

    class Handlers:
        @Door.Open.on_enter
        def come(self) -> None: ...

    class More:
        @Door.Open.can_exit
        def may(self, t: Transition, url: str) -> bool:
            return True

    refused(Handlers(), "@Door.Open.on_enter: ", "Handlers.come(self)", "too many positional arguments", "(self, t)")
    refused(
        More(), "More.may(self, t:", "missing a required argument: 'url'", "read arguments from t.args or t.args_of"
    )


def test_a_handler_may_take_more_than_the_transition_if_it_need_not() -> None:
    """Defaults and variadic parameters are the user's own."""
    log: list[object] = []

    class Handlers:
        @Door.Open.on_enter
        def come(self, t: Transition, note: str = "default", *rest: object, **more: object) -> None:
            log.append(note)

        @Door.Open.on_enter
        def variadic(*arguments: object) -> None:
            log.append(len(arguments))

    Engine(Door, Handlers()).add(Door.Open)
    assert log == ["default", 2]


# --- Handlers and schemas --------------------------------------------------------------------------------------------


class Window(Schema):
    Open = State()
    Opened = State()


def test_a_handler_for_a_state_that_is_not_there() -> None:
    """As the state, in ``given=`` and in ``then=``; equal names do not help, near ones are told."""
    words = "Door has a Open of its own, and equal names make them no one: write Door.Open"
    refused(
        Window.Open.on_enter(lambda t: None),
        "@Window.Open.on_enter: Window.Open is not a state of Door",
        words,
        kind=UnknownState,
    )
    refused(Window.Opened.on_exit(lambda t: None), "did you mean 'Open'?", kind=UnknownState)
    refused(
        Door.Open.can_enter(given=Window.Opened)(lambda t: True),
        "@Door.Open.can_enter(given=…): Window.Opened is not a state of Door",
        kind=UnknownState,
    )

    async def work(t: Transition) -> None: ...

    refused(
        Door.Open.task(then=Window.Opened)(work),
        "@Door.Open.task(then=…): Window.Opened is not a state of Door",
        kind=UnknownState,
    )
    refused(State().on_enter(lambda t: None), "?.? is not a state of Door", kind=UnknownState)


def test_one_wrong_handler_among_good_ones_leaves_nothing_bound() -> None:
    """Refused before any effect."""
    log = Log()

    class Handlers:
        @Door.Open.on_enter
        def come(self, t: Transition) -> None:
            log.append("good")

        @Window.Open.on_enter
        def other(self, t: Transition) -> None: ...

    refused(Handlers(), "Window.Open is not a state of Door", kind=UnknownState)
    assert log == []


def test_handlers_of_the_changes_of_a_schema() -> None:
    """They fit machines of that schema and of its heirs, and those of `Schema` fit all; no others."""
    log = Log()

    class Wider(Door):
        More = State()

    both = Door.on_change(log.act("door")), Schema.on_change(log.act("any"))
    for schema in (Door, Wider):
        Engine(schema, *both).add(Door.Closed)
        assert log == ["door", "any"]
        log.clear()
    for bound in (Window.on_change(lambda t: None), Window.can_change(lambda t: True)):
        refused(bound, "@Window.", "Door does not inherit Window: write @Door.", "_change", "handler that any schema")
    refused(Wider.on_change(lambda t: None), "Door does not inherit Wider")


def test_a_limit_for_a_state_that_is_not_multi() -> None:
    """One task runs at a time there anyway."""

    async def work(t: Transition) -> None: ...

    refused(
        Door.Open.task(limit=2)(work),
        "@Door.Open.task(limit=2): Open is not multi, so one task runs at a time",
        "leave limit out, or declare Open = State(multi=True)",
    )

    async def other(t: Transition) -> None: ...

    assert Engine(Door, Door.Alarm.task(limit=2, timeout=1, then=Door.Open)(other)).add(Door.Alarm)


# --- Who is asked, and in which order --------------------------------------------------------------------------------


class Life(Schema):
    A = State()
    B = State(require=A)
    C = State(remove=B)
    D = State(multi=True)
    E = State()


def everywhere(log: Log, name: str) -> list[object]:
    """Return a handler of each kind on each state."""
    handlers: list[object] = []
    for state in (Life.A, Life.B, Life.C, Life.D):
        for kind in NEGOTIATIONS:
            handlers.append(getattr(state, kind)(log.allow(f"{name}{state}.{kind}")))
        for kind in FINALS:
            handlers.append(getattr(state, kind)(log.act(f"{name}{state}.{kind}")))
    handlers.append(Life.can_change(log.allow(f"{name}can_change")))
    handlers.append(Life.on_change(log.act(f"{name}on_change")))
    handlers.append(Life.C.can_enter(given=Life.B)(log.allow(f"{name}C given B")))
    handlers.append(Life.C.can_enter(given=Life.A)(log.allow(f"{name}C given A")))
    return handlers


def test_the_order_of_asking_and_acting() -> None:
    """Exits, enters, stays, pairs, then the change; exits and finals in their order, each state's by binding."""
    log = Log()
    engine = Engine(Life, *everywhere(log, "1:"), *everywhere(log, "2:"))
    engine.add(Life.B, Life.A)
    assert log == [
        *("1:A.can_enter", "2:A.can_enter", "1:B.can_enter", "2:B.can_enter", "1:can_change", "2:can_change"),
        *("1:A.on_enter", "2:A.on_enter", "1:B.on_enter", "2:B.on_enter", "1:on_change", "2:on_change"),
    ]
    log.clear()
    engine.add(Life.C)
    assert log == [
        *("2:B.can_exit", "1:B.can_exit", "1:C.can_enter", "2:C.can_enter", "1:A.can_stay", "2:A.can_stay"),
        *("1:C given A", "2:C given A", "1:C given B", "2:C given B", "1:can_change", "2:can_change"),
        *("2:B.on_exit", "1:B.on_exit", "1:C.on_enter", "2:C.on_enter", "1:on_change", "2:on_change"),
    ]
    log.clear()
    engine.set(Life.D)
    assert log == [
        *("2:C.can_exit", "1:C.can_exit", "2:A.can_exit", "1:A.can_exit", "1:D.can_enter", "2:D.can_enter"),
        *("1:can_change", "2:can_change"),
        *("2:C.on_exit", "1:C.on_exit", "2:A.on_exit", "1:A.on_exit", "1:D.on_enter", "2:D.on_enter"),
        *("1:on_change", "2:on_change"),
    ]


def test_who_stays_is_asked_in_declaration_order_and_only_by_calls() -> None:
    """Not on a remove, not by a mutation that calls nothing, not for a multi state that is called again."""
    log = Log()
    engine = Engine(Life, *everywhere(log, ""))
    engine.add(Life.B, Life.A, Life.D)
    log.clear()
    engine.add(Life.B)
    assert log == ["A.can_stay", "B.can_stay", "D.can_stay"]
    log.clear()
    engine.add(Life.D)
    assert log == ["D.can_enter", "A.can_stay", "B.can_stay", "can_change", "D.on_enter", "on_change"]
    log.clear()
    engine.mutate(add=Life.E, remove=Life.B)
    assert [one for one in log if "stay" in one] == ["A.can_stay", "D.can_stay"]
    log.clear()
    engine.remove(Life.E)
    engine.mutate(remove=Life.B)
    assert [one for one in log if "stay" in one] == []
    engine.toggle(Life.D)
    assert [one for one in log if "stay" in one] == []
    engine.toggle(Life.E)
    assert [one for one in log if "stay" in one] == ["A.can_stay"]


def test_changes_are_asked_and_told_only_if_a_tick_moves() -> None:
    """A mutation that changes nothing runs neither."""
    log = Log()
    engine = Engine(Life, Life.can_change(log.allow("may")), Life.on_change(log.act("did")))
    engine.add(Life.A)
    assert log == ["may", "did"]
    assert engine.add(Life.A)
    assert engine.remove(Life.C)
    assert log == ["may", "did"]


def test_a_pair_is_asked_only_if_one_was_active_and_the_other_enters() -> None:
    """Whatever becomes of the one that was active."""
    log = Log()
    engine = Engine(Life, Life.C.can_enter(given=Life.A)(log.allow("pair", False)))
    assert engine.add(Life.C)
    assert engine.add(Life.A)
    assert engine.add(Life.C)
    assert log == []
    engine.remove(Life.C)
    assert not engine.add(Life.C)
    assert not engine.set(Life.C)
    assert log == ["pair", "pair"]
    assert engine.active_states == (Life.A,)


@pytest.mark.parametrize("kind", ["can_enter", "can_exit", "can_stay", "can_change", "given"])
def test_a_refusal_cancels_and_nobody_else_is_asked(kind: str) -> None:
    """Nothing has changed, nothing was called, and the reason names the handler."""
    log = Log()

    def no(t: Transition) -> bool:
        return False

    handler = {
        "can_enter": Life.C.can_enter,
        "can_exit": Life.B.can_exit,
        "can_stay": Life.A.can_stay,
        "can_change": Life.can_change,
        "given": Life.C.can_enter(given=Life.A),
    }[kind](no)
    engine = Engine(Life)
    engine.add(Life.A, Life.B)
    engine.bind(handler)
    engine.bind(Life.can_change(log.allow("later")))
    engine.bind(Life.C.on_enter(log.act("acted")))
    result = engine.add(Life.C)
    assert isinstance(result, Canceled)
    assert "no) refused" in result.reason
    assert engine.active_states == (Life.A, Life.B)
    assert log == []
    assert not engine.can_add(Life.C)


def test_errors_ask_only_the_error_states() -> None:
    """An `ErrorState` whose `can_enter` refuses is left out; nobody else is asked, on the way in or in closing."""
    log = Log()
    answers = {"lock": False}

    @Door.ErrLock.can_enter
    def lock(t: Transition) -> bool:
        log.append("lock")
        return answers["lock"]

    handlers = (
        lock,
        Door.ErrLock.can_enter(given=Door.Open)(log.allow("pair")),
        Door.Open.can_stay(log.allow("stay")),
        Door.Open.can_exit(log.allow("exit", False)),
        Door.can_change(log.allow("change", False)),
        Door.Error.on_enter(log.act("error")),
    )
    engine = Engine(Door)
    engine.add(Door.Open)
    for handler in handlers:
        engine.bind(handler)
    engine.add_error(OSError())
    assert log == ["lock", "error"]
    assert engine.is_inactive(Door.ErrLock)
    log.clear()
    answers["lock"] = True
    engine.add_error(OSError())
    assert log == ["lock", "pair", "error"]
    assert engine.is_active(Door.ErrLock, Door.Error)
    log.clear()
    engine.close()
    assert log == []
    assert engine.active_states == ()


def test_what_an_error_brings_is_not_asked() -> None:
    """A state that Error adds, or an error state adds, has no say when an error comes; it has when it is called."""

    class Careful(Schema):
        Error = Schema.Error.extend(add="Alarm")
        Alarm = State()

    log = Log()
    engine = Engine(
        Careful, Careful.Alarm.can_enter(log.allow("alarm", False)), Careful.Error.on_enter(log.act("error"))
    )
    assert not engine.add(Careful.Alarm)
    log.clear()
    engine.add_error(OSError())
    assert log == ["error"]
    assert engine.is_active(Careful.Alarm)


def test_the_automatic_round_asks_those_who_stay() -> None:
    """A `can_stay` that refuses cancels it; a `can_enter` that refuses leaves only its own state out."""
    log = Log()

    @Door.Open.can_stay
    def stay(t: Transition) -> bool:
        log.append(f"stay {t.kind}")
        return answers["stay"]

    @Door.Lit.can_enter
    def enter(t: Transition) -> bool:
        log.append(f"enter {t.kind}")
        return answers["enter"]

    answers = {"stay": False, "enter": True}
    engine = Engine(Door, stay, enter)
    engine.add(Door.Open)
    assert log == ["enter auto", "stay auto"]
    assert engine.active_states == (Door.Open,)
    log.clear()
    answers.update(stay=True, enter=False)
    engine.add(Door.Alarm)
    assert log == ["stay add", "enter auto"]
    assert engine.active_states == (Door.Open, Door.Alarm)
    answers.update(enter=True)
    engine.add(Door.Alarm)
    assert engine.is_active(Door.Lit)


# --- What a negotiation handler returns ------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, 1, 0, "yes", [], Canceled("no")])
def test_a_negotiation_handler_that_returns_no_bool(answer: object) -> None:
    """Refused at its first call: the mutation is canceled, nothing has changed, and the error is reported."""
    log = Log()

    @Door.Open.can_enter
    def may(t: Transition) -> object:
        return answer

    engine = Engine(Door, may, Door.Error.on_enter(log.act("error")))
    result = engine.add(Door.Open)
    assert isinstance(result, Canceled)
    assert engine.tick(Door.Open) == 0
    assert log == ["error"]
    assert isinstance(engine.error, HandlerError)
    words = f"can_enter handler {may.__qualname__} returned {answer!r}: a negotiation handler returns True or False"
    assert str(engine.error) == words
    assert "raised HandlerError" in result.reason
    with pytest.raises(HandlerError) as caught:
        engine.can_add(Door.Open)
    assert str(caught.value) == words


def test_a_negotiation_handler_that_returns_an_awaitable() -> None:
    """It is refused in the same way, and closed, so that Python has nothing to warn of."""

    class Awaitable:
        def __await__(self) -> Iterator[None]:
            yield

    for answer in (lambda: coroutine(engine.last_transition), Awaitable):
        engine = Engine(Door, Door.Open.can_enter(lambda t, answer=answer: answer()))
        with pytest.raises(ExceptionGroup) as caught:
            engine.add(Door.Open)
        assert [type(error) for error in caught.value.exceptions] == [HandlerError]
        gc.collect()


def test_a_final_handler_that_returns_an_awaitable() -> None:
    """Nobody would await it: an error of that handler, the first time and any other."""
    engine = Engine(Door, Door.Open.on_enter(lambda t: coroutine(t)))
    for _ in range(2):
        with pytest.raises(ExceptionGroup) as caught:
            engine.add(Door.Open)
        (error,) = caught.value.exceptions
        assert str(error).startswith("on_enter handler test_a_final_handler_that_returns_an_awaitable.")
        assert "which nobody would await: make it a task" in str(error)
        engine.remove(Door.Error)
    gc.collect()


# --- Binding and detaching -------------------------------------------------------------------------------------------


def test_binding_replays_nothing() -> None:
    """What is active already is not told; what comes later is, after what was bound before."""
    log = Log()
    engine = Engine(Door, Door.Open.on_exit(log.act("first")), Door.Closed.on_enter(log.act("first in")))
    engine.add(Door.Open)
    engine.bind(Door.Open.on_enter(log.act("too late")))
    engine.bind(Door.Open.on_exit(log.act("second")))
    engine.bind(Door.Closed.on_enter(log.act("second in")))
    assert log == []
    engine.add(Door.Closed)
    assert log == ["second", "first", "first in", "second in"]


def test_detaching() -> None:
    """What was detached runs no more; others go on; twice is fine, and so is what was never bound."""
    log = Log()
    engine = Engine(Door, Door.Alarm.on_enter(log.act("kept")))
    handler = Door.Alarm.on_enter(log.act("bound"))
    binding = engine.bind(handler)
    engine.add(Door.Alarm)
    binding.detach()
    binding.detach()
    engine.detach(handler)
    engine.detach(object())
    engine.add(Door.Alarm)
    assert log == ["kept", "bound", "kept"]


def test_detaching_what_was_given_at_opening() -> None:
    """By the object itself."""

    class Handlers:
        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> bool:
            return True

        @Door.Alarm.on_enter
        def come(self, t: Transition) -> None:
            log.append(self.name)

    log: list[str] = []
    one, other = Handlers("one"), Handlers("other")
    engine = Engine(Door, one, other)
    engine.detach(one)
    engine.add(Door.Alarm)
    assert log == ["other"]


def test_each_binding_of_an_object_that_is_bound_twice_is_its_own() -> None:
    """It runs twice; one binding detached leaves the other, and a detached one never touches a later one."""
    log = Log()
    handler = Door.Alarm.on_enter(log.act("ran"))
    engine = Engine(Door)
    first = engine.bind(handler)
    second = engine.bind(handler)
    engine.add(Door.Alarm)
    assert log == ["ran", "ran"]
    first.detach()
    engine.add(Door.Alarm)
    assert log == ["ran"] * 3
    first.detach()
    engine.add(Door.Alarm)
    assert log == ["ran"] * 4
    second.detach()
    third = engine.bind(handler)
    first.detach()
    second.detach()
    engine.add(Door.Alarm)
    assert log == ["ran"] * 5
    engine.bind(handler)
    engine.detach(handler)
    engine.add(Door.Alarm)
    assert log == ["ran"] * 5
    third.detach()
    engine.add(Door.Alarm)
    assert log == ["ran"] * 5


def test_binding_and_detaching_in_a_final_handler() -> None:
    """What runs already goes on; what was bound is there from the next transition."""
    log = Log()
    late = Door.Alarm.on_enter(log.act("late"))

    class Handlers:
        @Door.Alarm.on_enter
        def come(self, t: Transition) -> None:
            log.append("come")
            engine.detach(self)
            engine.bind(late)

        @Door.on_change
        def change(self, t: Transition) -> None:
            log.append("change")

    engine = Engine(Door, Handlers())
    engine.add(Door.Alarm)
    assert log == ["come", "change"]
    engine.add(Door.Alarm)
    assert log == ["come", "change", "late"]


@pytest.mark.parametrize("doing", ["bind", "detach", "binding"])
def test_binding_and_detaching_in_a_negotiation_is_refused(doing: str) -> None:
    """Who is asked may look and not change; the handlers of the other objects keep their own objects."""
    log = Log()
    errors: list[ReadOnly] = []

    class Handlers:
        def __init__(self, name: str) -> None:
            self.name = name

        @Door.Open.can_enter
        def may(self, t: Transition) -> bool:
            if self.name == "one":
                with pytest.raises(ReadOnly) as caught:
                    {"bind": lambda: engine.bind(self), "detach": lambda: engine.detach(self), "binding": one.detach}[
                        doing
                    ]()
                errors.append(caught.value)
            return True

        @Door.Open.on_enter
        def come(self, t: Transition) -> None:
            log.append(self.name)

    engine = Engine(Door)
    one = engine.bind(Handlers("one"))
    engine.bind(Handlers("two"))
    assert engine.can_add(Door.Open)
    assert engine.add(Door.Open)
    assert log == ["one", "two"]
    assert len(errors) == 2
    assert "bind" in str(errors[0]) if doing == "bind" else "detach of machine" in str(errors[0])
    assert "Handlers.may: what is asked may look, and not change; do it in an on_enter" in str(errors[0])
    one.detach()
    engine.remove(Door.Open)
    engine.add(Door.Open)
    assert log == ["one", "two", "two"]


# --- Sharing ---------------------------------------------------------------------------------------------------------


class Counter:
    def __init__(self) -> None:
        self.machines: list[object] = []

    @Door.Alarm.on_enter
    def come(self, t: Transition) -> None:
        self.machines.append(t._machine())


def test_one_object_handles_several_machines() -> None:
    """Each calls it with its own transition; detached from one it stays with the other."""
    counter = Counter()
    one, other = Engine(Door, counter), Engine(Door, counter)
    one.add(Door.Alarm)
    other.add(Door.Alarm)
    one.detach(counter)
    one.add(Door.Alarm)
    other.add(Door.Alarm)
    assert counter.machines == [one, other, other]


def test_machines_with_handlers_of_the_same_classes_share_their_plans() -> None:
    """And each calls its own objects, in its own order of binding."""
    counters = [Counter() for _ in range(3)]
    engines = [Engine(Door, counter) for counter in counters]
    for engine in engines:
        engine.add(Door.Alarm)
    assert engines[0]._table is engines[1]._table is engines[2]._table
    assert [counter.machines for counter in counters] == [[engine] for engine in engines]
    assert Engine(Door)._table is Engine(Door)._table is not engines[0]._table


def test_handlers_of_a_base_are_shared_by_the_machines_of_an_heir() -> None:
    """Its states are inherited, whether or not they are overridden, and plain mutations of them are remembered."""

    class Wider(Door):
        Alarm = Door.Alarm.extend(add="Open")

    class Widest(Wider):
        Alarm = Wider.Alarm.extend(add="Closed")

    class Handlers(Counter):
        @Wider.Alarm.on_exit
        def leave(self, t: Transition) -> None: ...

    handlers = Handlers()
    one, other = Engine(Widest, handlers), Engine(Widest, handlers)
    one.add(Door.Alarm)
    one.add(Wider.Alarm)
    assert one._table is other._table
    for state in (Door.Alarm, Wider.Alarm):
        assert any((state,) in asked for asked in Widest._definition.asked)
    assert handlers.machines == [one, one]


def test_shared_tables_are_bounded() -> None:
    """More combinations than are kept work all the same."""

    def made(number: int) -> object:
        class Handlers:
            @Door.Alarm.on_enter
            def come(self, t: Transition) -> None:
                log.append(number)

        return Handlers()

    log: list[int] = []
    for number in range(70):
        Engine(Door, made(number)).add(Door.Alarm)
    assert log == list(range(70))
    assert len(Door._definition.tables) <= 64


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full memory starts afresh and gives the same answers."""
    monkeypatch.setattr("trsm._core._handlers.PLANS", 2)
    log = Log()
    engine = Engine(Life, Life.on_change(log.act("changed")))
    for _ in range(3):
        for state in (Life.A, Life.C, Life.E):
            engine.add(state)
            engine.remove(state)
            assert len(engine._plans) <= 2
    assert len(log) == 18


def test_a_dropped_handler_class_is_collected_with_its_schema() -> None:
    """Nothing outside holds the classes and objects that were bound."""

    def used() -> list[weakref.ref[object]]:
        schema = Schema.define("Dropped", {"A": State(multi=True)})

        class Handlers:
            @schema.A.on_enter
            def come(self, t: Transition) -> None:
                super().__init__()

            @classmethod
            @schema.A.can_enter
            def may(cls, t: Transition) -> bool:
                return True

        handlers = Handlers()
        engine = Engine(schema, handlers)
        engine.bind(handlers)
        engine.add(schema.A)
        return [weakref.ref(one) for one in (schema, Handlers, handlers, engine)]

    references = used()
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


def test_an_object_that_was_bound_goes_with_the_last_machine() -> None:
    """A schema that lives on keeps what it worked out for a class, and no object."""
    counter = Counter()
    engine = Engine(Door, counter)
    engine.add(Door.Alarm)
    counter.machines.clear()
    gone = weakref.ref(counter)
    del counter, engine
    gc.collect()
    assert gone() is None


# --- Tracers watch handlers ------------------------------------------------------------------------------------------


def test_watched_handlers_are_the_same_handlers() -> None:
    """With a tracer attached they run in the same order, with the same objects, and tasks are left as they are."""
    counter = Counter()
    log = Log()

    async def work(t: Transition) -> None: ...

    engine = Engine(
        Door,
        counter,
        Door.Alarm.task(work),
        Door.Alarm.on_enter(log.act("1")),
        Door.Alarm.on_enter(log.act("2")),
        tracers=[trsm.Tracer()],
    )
    engine.add(Door.Alarm)
    assert counter.machines == [engine]
    assert log == ["1", "2"]
    (tasks,) = engine._table.tasks.values()
    assert tasks[0].function is work


def test_repr_of_a_binding() -> None:
    """What is bound, by the name of its class where it has none, and to what."""

    class Porter:
        @Door.Open.on_enter
        def greet(self, t: Transition) -> None: ...

    @Door.Open.on_enter
    def ring(t: Transition) -> None: ...

    module = types.ModuleType("porters")
    ring.__module__ = "porters"
    module.ring = ring  # type: ignore[attr-defined]
    engine = Engine(Door, id="door")
    bindings = [engine.bind(Porter()), engine.bind(ring), engine.bind(module), engine.trace(trsm.Tracer())]
    names = ["Porter", "ring", "porters", "Tracer"]
    assert [repr(binding) for binding in bindings] == [f"<Binding of {name} to 'door'>" for name in names]
    gone = weakref.ref(engine)
    for binding in bindings:
        binding.detach()
        assert repr(binding) == "<Binding, detached>"
    del engine
    gc.collect()
    assert gone() is None
