"""Handlers: found on what a user binds, checked against the schema, and laid out for the plans that call them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from typing import TypeGuard, TypeVar, cast

from trsm._core._bits import gather, members, union
from trsm._core._consensus import Kind, Request
from trsm._core._errors import HandlerError
from trsm._core._plan import Handler, Plan, Step, TaskHandler, outline
from trsm._core._records import Record, evolved
from trsm._core._relations import Relations
from trsm._core._schema import Definition
from trsm._core._state import HandlerKind, Mark, check_colour, marks_of, unwrapped

PLANS = 8192
"""How many plans a table keeps before it starts afresh."""
TABLES = 64
"""How many different combinations of handlers a schema keeps tables for."""

T = TypeVar("T")


class Found(Record):
    """A marked function on something that was bound."""

    mark: Mark
    function: Callable[..., object]
    is_method: bool
    """Whether it is called with the object that was bound, before the transition."""


# ---- Finding --------------------------------------------------------------------------------------------------------


def _is(value: object, kind: type[T]) -> TypeGuard[T]:
    """Return what `isinstance` does, without asking the value for its ``__class__``, which may be a property."""
    return issubclass(type(value), kind)


def _name(function: object) -> str:
    return cast("str", getattr(function, "__qualname__", None) or repr(function))


def _check(mark: Mark, function: Callable[..., object], *, is_method: bool) -> None:
    check_colour(mark, function)
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # the wrapper is what is called
    except (TypeError, ValueError):
        return  # written in C, with no signature to read
    try:
        signature.bind(*((None, None) if is_method else (None,)))
    except TypeError as error:
        wanted = "(self, t)" if is_method else "(t)"
        raise HandlerError(
            f"{mark.describe()}: {_name(function)}{signature} cannot be called with the transition alone ({error}): "
            f"write {wanted}, and read arguments from t.args or t.args_of(…)"
        ) from None


def _in_class(cls: type) -> tuple[Found, ...]:
    """Return the handlers of a class: base classes first, each where it was first marked, as overridden last.

    They are read from ``vars()``, never with `getattr`, so that no property runs. What overrides a handler inherits
    its bindings. A second name for the same function is no second handler.
    """
    marks: dict[str, list[Mark]] = {}
    values: dict[str, tuple[type, object]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            values[name] = base, value
            own = marks_of(value)
            if own:
                marks.setdefault(name, []).extend(own)
    found: list[Found] = []
    seen: set[tuple[Mark, int]] = set()
    for name, held in marks.items():
        base, value = values[name]
        same = id(value)
        if not callable(unwrapped(value)):
            raise HandlerError(
                f"{base.__qualname__}.{name} = {value!r} overrides a handler ({held[0].describe()}) with what "
                "cannot be called: override it with a function that does nothing"
            )
        if _is(value, staticmethod) or _is(value, classmethod):
            function = cast("staticmethod[..., object]", value).__get__(None, cls)
            is_method = False
        else:
            function = cast("Callable[..., object]", value)
            is_method = hasattr(type(value), "__get__")  # as for Python itself
        for mark in held:
            if (mark, same) not in seen:
                seen.add((mark, same))
                _check(mark, function, is_method=is_method)
                found.append(Found(mark, function, is_method))
    return tuple(found)


def _own_functions(bound: object) -> list[Callable[..., object]]:
    """Return the marked functions of a module, or the marked function or callable object that was bound itself."""
    if _is(bound, types.ModuleType):
        marked = [value for value in vars(bound).values() if marks_of(value)]
        defined = {id(value): value for value in marked if getattr(value, "__module__", None) == bound.__name__}
        return list(defined.values())
    return [cast("Callable[..., object]", bound)] if marks_of(bound) else []


def find(bound: object) -> tuple[Found, ...]:
    """Return the handlers of an object, a module or a function, in the order in which they are bound.

    Raises:
      HandlerError: it has none, it is a class or a method, or a handler cannot be called with a transition.
    """
    if _is(bound, type):
        raise HandlerError(f"{bound.__qualname__} is a class: bind an instance, {bound.__qualname__}(…)")
    if _is(bound, types.MethodType):
        raise HandlerError(f"{_name(bound)} is a method: bind the object that it belongs to, {bound.__self__!r}")
    found = [
        Found(mark, function, is_method=False) for function in _own_functions(bound) for mark in marks_of(function)
    ]
    for one in found:
        _check(one.mark, one.function, is_method=False)
    result = (*found, *_in_class(type(bound)))
    if not result:
        raise HandlerError(
            f"{bound!r} has no handlers: mark functions with @X.Foo.on_enter and the like, X being the schema"
        )
    return result


# ---- Laying out -----------------------------------------------------------------------------------------------------


def _step(handler: Handler) -> Step:
    return handler.function, handler.place, handler


Calls = dict[tuple[int, Kind, tuple[object, ...]], Plan]
"""Active set, kind and states -> the plan of a mutation that was asked for before."""


class Table:
    """All handlers of a machine by what they hang on, and the plans that were made with them. Immutable but for those.

    It holds no bound object, only their places, so that machines with handlers of the same classes share one.
    """

    __slots__ = (
        "_by_kind",
        "_empty",
        "calls",
        "definition",
        "errors_handled",
        "errors_tasked",
        "is_traced",
        "plans",
        "tasks",
    )

    def __init__(self, definition: Definition, handlers: Sequence[Handler], *, is_traced: bool = False) -> None:
        self.definition = definition
        self.is_traced = is_traced
        """Whether somebody watches everything, so that no plan is quiet."""
        self.plans: dict[tuple[int, Request], Plan] = {}
        self.calls: Calls = {}
        """(active set, kind, states as they were passed) -> the plan, so that a call made before is one look-up."""
        self._empty = not handlers
        self._by_kind: dict[HandlerKind, dict[int, list[Handler]]] = {}
        for handler in handlers:
            self._by_kind.setdefault(handler.kind, {}).setdefault(handler.state, []).append(handler)
        error = definition.error
        self.errors_handled = any(not handler.watches for handler in self._of("on_enter", error))
        """Whether ``Error`` has an ``on_enter`` that does not only watch: then no error is unhandled."""
        self.tasks: dict[int, tuple[TaskHandler, ...]] = {
            state: tuple(handler for handler in handlers if isinstance(handler, TaskHandler))
            for state, handlers in self._by_kind.get("task", {}).items()
        }
        self.errors_tasked = error in self.tasks

    def wrapped(self, wrap: Callable[[Handler], Callable[..., object]]) -> Table:
        """Return a table whose sync handlers are wrapped, for as long as somebody watches them."""
        handlers = [
            handler if handler.kind == "task" else evolved(handler, function=wrap(handler))
            for of_kind in self._by_kind.values()
            for of_state in of_kind.values()
            for handler in of_state
        ]
        return Table(self.definition, handlers, is_traced=True)

    def _of(self, kind: HandlerKind, state: int, given: int = -1) -> list[Handler]:
        return [handler for handler in self._by_kind.get(kind, {}).get(state, ()) if handler.given == given]

    def plan(self, active: int, request: Request) -> Plan:
        """Work out the plan of a request that is not in `plans`, and put it there."""
        bare = outline(self.definition.relations, active, request)
        is_bare = not bare.accepted or (self._empty and not self.is_traced)
        plan = bare if is_bare else self._with_handlers(bare)
        if len(self.plans) >= PLANS:
            self.plans.clear()
        self.plans[active, request] = plan
        return plan

    def remember(self, active: int, kind: Kind, states: tuple[object, ...], plan: Plan) -> None:
        """Keep a plan under what was asked, word for word."""
        if len(self.calls) >= PLANS:
            self.calls.clear()
        self.calls[active, kind, states] = plan

    def _with_handlers(self, plan: Plan) -> Plan:
        exits = [handler for state in plan.leaving for handler in self._of("on_exit", state)[::-1]]
        enters = [handler for state in plan.entering for handler in self._of("on_enter", state)]
        changes = self._of("on_change", -1) if plan.moved else []
        negotiation = tuple(map(_step, self._negotiation(plan)))
        finals = tuple(map(_step, exits + enters + changes))
        tasks = tuple((state, self.tasks[state]) for state in plan.entering if state in self.tasks)
        # Those who negotiate start nothing that outlives them, and so can be told from one final handler.
        noted = (finals or negotiation)[-1][2] if negotiation and len(finals) <= 1 else None
        return evolved(
            plan,
            negotiation=negotiation,
            finals=finals,
            noted=noted,
            tasks=tasks,
            is_quiet=plan.is_quiet and not (negotiation or finals or tasks or self.is_traced),
        )

    def _negotiation(self, plan: Plan) -> list[Handler]:
        """Return whom to ask, in order (DESIGN section 5, step 3)."""
        kind = plan.request.kind
        if kind is Kind.REMOVAL or kind is Kind.CLOSE:
            return []
        errors = self.definition.errors
        entering = [state for state in plan.entering if kind is not Kind.ERROR or errors >> state & 1]
        enters = [handler for state in entering for handler in self._of("can_enter", state)]
        pairs = [
            handler
            for state in entering
            for given in members(plan.active)
            for handler in self._of("can_enter", state, given)
        ]
        if kind is Kind.ERROR:
            return enters + pairs
        exits = [handler for state in plan.leaving for handler in self._of("can_exit", state)[::-1]]
        stays: list[Handler] = []
        if kind is Kind.AUTO or plan.request.called:  # a remove calls nothing
            again = union(1 << state for state in plan.entering)
            stays = [
                handler
                for state in members(plan.active & plan.target & ~again)
                for handler in self._of("can_stay", state)
            ]
        changes = self._of("can_change", -1) if plan.moved else []
        return exits + enters + stays + pairs + changes


def _handler(definition: Definition, found: Found, place: int) -> Handler:
    """Check a mark against the schema, and return the handler.

    Raises:
      UnknownState: it names a state that the schema does not have.
      HandlerError: it asks for what its state cannot give, or is for the changes of another schema.
    """
    mark = found.mark
    doing = mark.describe()
    name = _name(found.function)
    if mark.schema is not None and mark.schema not in definition.family:
        raise HandlerError(
            f"{doing}: {definition.name} does not inherit {mark.schema.__name__}: "
            f"write @{definition.name}.{mark.kind}, or @Schema.{mark.kind} for a handler that any schema takes"
        )
    state = -1 if mark.state is None else definition.number(mark.state, doing)
    given = -1 if mark.given is None else definition.number(mark.given, f"{doing}(given=…)")
    position = place if found.is_method else -1
    if mark.kind != "task":
        return Handler(mark.kind, name, found.function, position, state, given, mark.watches)
    then = -1 if mark.then is None else definition.number(mark.then, f"{doing}(then=…)")
    if then >= 0 and _is_barred_by(definition.relations, then, state):
        here, there = definition.relations.names[state], definition.relations.names[then]
        raise HandlerError(
            f"{doing}(then={there}): {here} removes {there}, and nothing that comes with {there} puts {here} out, so "
            f"that it would always be refused: write {there} = State(remove={here})"
        )
    if mark.limit is not None and not definition.relations.multi >> state & 1:
        raise HandlerError(
            f"{doing}(limit={mark.limit}): {mark.state} is not multi, so one task runs at a time: leave limit out, "
            f"or declare {mark.state} = State(multi=True)"
        )
    return TaskHandler(
        mark.kind, name, found.function, position, state, given, then=then, timeout=mark.timeout, limit=mark.limit
    )


def _is_barred_by(relations: Relations, state: int, active: int) -> bool:
    """Return whether a state can never be added while a certain other one is active (DESIGN section 4, the table).

    That one removes it and stands its ground: the state itself does not remove it, and of all that may come with the
    state nothing puts it out, as an option does only if it alone removes.
    """
    if not relations.remove[active] >> state & 1:
        return False
    coming, frontier = 0, 1 << state
    while frontier:
        coming |= frontier
        frontier = gather(relations.add, frontier) & ~coming
    return not relations.removed_by[active] & coming & (~relations.remove[active] | 1 << state)


def table_of(definition: Definition, bound: tuple[object, ...]) -> Table:
    """Return the table of these objects on this schema, shared where they are of the same classes.

    Raises:
      HandlerError, UnknownState: something that was bound does not fit; nothing has changed then.
    """
    shared: dict[tuple[object, ...], Table] = definition.tables
    keys = tuple([_shared_as(one) for one in bound]) if bound else ()
    key = None if None in keys else keys
    table = None if key is None else shared.get(key)
    if table is None:
        found = [(one, place) for place, this in enumerate(bound) for one in find(this)]
        table = Table(definition, [_handler(definition, one, place) for one, place in found])
        if key is not None and all(_is_at_home(definition, one.mark) for one, _ in found):
            if len(shared) >= TABLES:
                shared.pop(next(iter(shared)))
            shared[key] = table
    return table


def _shared_as(bound: object) -> object:
    """Return what has to be the same for two machines to share a table; None for what is shared with nobody."""
    if _is(bound, types.ModuleType):
        # A module grows while it is imported, reloaded or typed in. The table keeps the functions, and so their ids.
        return (bound, *((id(function), *map(id, marks_of(function))) for function in _own_functions(bound)))
    cls = type(bound)
    if callable(bound) and marks_of(bound):
        return None
    marked = [value for base in cls.__mro__ for value in vars(base).values() if marks_of(value)]
    return (cls, *((id(value), *map(id, marks_of(value))) for value in marked))


def _is_at_home(definition: Definition, mark: Mark) -> bool:
    """Return whether a mark names only what the schema keeps alive anyway: no state of one that inherits it."""
    return all(state is None or state in definition.numbers for state in (mark.state, mark.given, mark.then))
