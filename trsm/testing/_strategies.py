"""Hypothesis strategies for schemas, for the mutations of a schema, and for machines that have lived a little."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast, get_type_hints

import attrs
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument, ResolutionFailed

from trsm import Call, Engine, ErrorState, Machine, Schema, State, open_machine
from trsm.testing._made import checked_schema, made_handlers
from trsm.testing._mutations import KINDS, AnyState, Mutation, MutationKind, Printer
from trsm.testing._naming import told_of

# ---- Schemas --------------------------------------------------------------------------------------------------------

NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def schemas(
    *,
    min_states: int = 1,
    max_states: int = 8,
    auto: bool = True,
    multi: bool = True,
    latch: bool = True,
    error_states: bool = False,
    name: str = "Random",
) -> st.SearchStrategy[type[Schema]]:
    """Return a strategy for schemas, valid by construction: states ``A``, ``B``, … with flags and relations.

    A schema has up to four relations for each state, so that most have valid sets of some size; contradictions of the
    kind that only `check` finds do occur. Shrinks to fewer states, without flags, with fewer relations.

    Args:
      min_states, max_states: how many states, ``Error`` not counted; at most 26.
      auto, multi, latch: whether some states may have that flag.
      error_states: whether some states may be an ``ErrorState``, of `OSError` or `ValueError`.
      name: the name of each schema.

    Raises:
      ValueError: there are to be no states, or more than 26, or fewer at most than at least.
      TypeError: a flag is neither true nor false; a name is no text.

    Example::

        @given(trsm.testing.schemas(max_states=4))
        def test_any_schema(schema: type[trsm.Schema]) -> None: ...
    """
    if not (_is_number(min_states) and _is_number(max_states) and 1 <= min_states <= max_states <= len(NAMES)):
        raise ValueError(
            f"schemas(min_states={min_states!r}, max_states={max_states!r}): write whole numbers from 1 to "
            f"{len(NAMES)}, the smaller one first"
        )
    for flag, wanted in (("auto", auto), ("multi", multi), ("latch", latch), ("error_states", error_states)):
        if not isinstance(cast("object", wanted), bool):
            raise TypeError(f"schemas({flag}={wanted!r}): write True or False")
    if not isinstance(cast("object", name), str) or not name.isidentifier():
        raise TypeError(f"schemas(name={name!r}): write the name of a class, such as 'Random'")
    flags = [flag for flag, wanted in (("auto", auto), ("multi", multi), ("latch", latch)) if wanted]
    data = _plain_schemas(name, min_states, max_states, flags, error_states)
    return st.builds(Schema.from_dict, data)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@st.composite
def _plain_schemas(
    draw: st.DrawFn, name: str, smallest: int, largest: int, flags: list[str], error_states: bool
) -> dict[str, object]:
    names = list(NAMES[: draw(st.integers(smallest, largest))])
    states: dict[str, dict[str, Any]] = {one: {} for one in names}
    for one, state in states.items():
        # The first is none, so that there is something for mutations to call.
        if error_states and one != names[0] and draw(st.sampled_from((False, False, False, True))):
            state["catches"] = [draw(st.sampled_from(("builtins:OSError", "builtins:ValueError")))]
            continue  # an error state has no flags but its own
        for flag in draw(st.lists(st.sampled_from(flags), max_size=2, unique=True)) if flags else ():
            if draw(st.booleans()):
                state[flag] = True
    latched = {one for one in names if "latch" in states[one]}
    faults = {one for one in names if "catches" in states[one]}
    pairs = draw(
        st.lists(
            st.tuples(
                st.sampled_from(names), st.sampled_from(names), st.sampled_from(("remove", "require", "add", "both"))
            ),
            max_size=4 * len(names),
            unique_by=lambda pair: pair[:2],
        )
    )
    apart: set[tuple[str, str]] = set()
    """States that an error state removes, or that remove it: that relation is mutual, and leaves room for no other."""
    together: set[tuple[str, str]] = set()
    for source, target, relation in pairs:
        if source == target or (source, target) in apart:
            continue
        has_fault = bool(faults & {source, target})
        if relation == "remove":
            # A latched state keeps no error state out.
            if not has_fault or not (latched & {source, target} or (target, source) in together):
                states[source].setdefault("remove", []).append(target)
                if has_fault:
                    apart |= {(source, target), (target, source)}
            continue
        together.add((source, target))
        if relation in ("add", "both"):
            states[source].setdefault("add", []).append(target)
        if relation in ("require", "both") and (source not in latched or target in latched):
            states[source].setdefault("require", []).append(target)
    order = draw(st.permutations(names))
    for late, early in draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=len(names))):
        after = states[late].setdefault("after", [])
        if order.index(early) < order.index(late) and early not in after:
            after.append(early)
        if not after:
            del states[late]["after"]
    return {"name": name, "states": states}


# ---- Mutations ------------------------------------------------------------------------------------------------------


def mutations(
    schema: type[Schema],
    *,
    kinds: tuple[MutationKind, ...] = KINDS,
    arguments: Mapping[AnyState, st.SearchStrategy[Call[object]]] | None = None,
    keywords: st.SearchStrategy[Mapping[str, object]] | None = None,
    max_called: int = 3,
) -> st.SearchStrategy[Mutation]:
    """Return a strategy for `Mutation` values of a schema, valid by construction. Shrinks to one state, to ``add``.

    Error states are dropped, and never called: exceptions activate them. States with an args class are called with
    arguments drawn for its fields by their types.

    Args:
      schema: the schema class.
      kinds: which mutations. Default: all.
      arguments: state -> a strategy for calls of it, where types do not say enough:
        ``{Fetch.Fetching: st.builds(Fetch.Fetching, url=urls)}``. Default: none.
      keywords: a strategy for dictionaries of free keywords. Default: there are none.
      max_called: how many states are called, or dropped, at most.

    Raises:
      TypeError: ``schema`` is none; ``arguments`` or ``keywords`` are no strategies.
      ValueError: ``kinds`` are none, or ``max_called`` is no positive number; no state is left that may be called;
        ``arguments`` are for an error state.
      UnknownState, MutationError: ``arguments`` are for a state that the schema does not have, or for something else.
      InvalidArgument: no strategy is known for the arguments of a state; later, when a strategy of yours has drawn
        something else than calls of its state, or than keywords.

    Example::

        @given(st.lists(trsm.testing.mutations(Door)))
        def test_door(steps: list[trsm.testing.Mutation]) -> None:
            door = trsm.Engine(Door)
            for step in steps:
                step.apply(door)
    """
    return checked_mutations(schema, "mutations(…, {}={})", kinds, arguments, keywords, max_called)


def checked_mutations(
    schema: type[Schema],
    written: str,
    kinds: tuple[MutationKind, ...],
    arguments: object,
    keywords: object,
    max_called: int = 3,
) -> st.SearchStrategy[Mutation]:
    """Return what `mutations` does; `written` says with ``{}={}`` how the user has written an argument."""
    checked_schema(schema, f"mutations({schema!r})")
    if not kinds or not isinstance(cast("object", kinds), (tuple, list)) or any(kind not in KINDS for kind in kinds):
        raise ValueError(
            f"{written.format('kinds', repr(kinds))}: write some of {', '.join(map(repr, KINDS))}, in a tuple"
        )
    if not _is_number(max_called) or max_called < 1:
        raise ValueError(f"{written.format('max_called', repr(max_called))}: write a whole number, 1 or more")
    every = list(schema)
    plain = [state for state in every if not isinstance(state, ErrorState) and state.name != "Error"]
    if not plain:
        raise ValueError(f"mutations({schema.__name__}): it has no states but errors, which are not called")
    given = _checked_arguments(schema, plain, arguments, written)
    if keywords is not None and not isinstance(keywords, st.SearchStrategy):
        raise TypeError(
            f"{written.format('keywords', repr(keywords))}: pass a strategy for dictionaries of free keywords, such as "
            f"st.fixed_dictionaries({{'why': st.text()}})"
        )
    calls = {state: _calls(schema, state, given.get(state.name)) for state in plain}
    # Each state is drawn with what it is called with, so that Hypothesis can leave out one or the other.
    called = st.lists(
        st.sampled_from(plain).flatmap(lambda state: st.tuples(st.just(state), calls[state])),
        min_size=1,
        max_size=max_called,
        unique_by=lambda one: one[0],
    ).map(dict)
    dropped = st.lists(st.sampled_from(every), min_size=1, max_size=max_called).map(
        lambda some: list(dict.fromkeys(some))
    )
    return _mutations(
        schema, kinds, called, dropped, _checked_keywords(cast("st.SearchStrategy[object] | None", keywords), written)
    )


def _checked_arguments(
    schema: type[Schema], plain: list[AnyState], arguments: object, written: str
) -> dict[str, st.SearchStrategy[AnyState | Call[object]]]:
    """Return state name -> what the user wants it called with."""
    if arguments is None:
        return {}
    shown = written.format("arguments", repr(arguments))
    if not isinstance(arguments, Mapping):
        raise TypeError(f"{shown}: write {{state: a strategy for calls of it}}")
    given: dict[str, st.SearchStrategy[AnyState | Call[object]]] = {}
    for state, its_calls in cast("Mapping[AnyState, object]", arguments).items():
        with told_of(written.format("arguments", "…"), "relations_of"):
            schema.relations_of(state)
        if state.name not in {one.name for one in plain}:
            raise ValueError(f"{shown}: {state} is an error state, which exceptions activate and no mutation calls")
        called = state.qualified_name
        if not isinstance(its_calls, st.SearchStrategy):
            raise TypeError(f"{shown}: {its_calls!r} is no strategy: write {{{called}: st.builds({called}, …)}}")

        def checked(call: object, state: AnyState = state, called: str = called) -> AnyState | Call[object]:
            of: object = cast("Call[object]", call).state if isinstance(call, Call) else call
            if isinstance(of, State) and cast("AnyState", of).name == state.name:
                return cast("AnyState | Call[object]", call)
            raise InvalidArgument(
                f"{written.format('arguments', '…')}: the strategy for {state} has drawn {call!r}, which is no call of "
                f"it: write {{{called}: st.builds({called}, …)}}"
            )

        given[state.name] = cast("st.SearchStrategy[object]", its_calls).map(checked)
    return given


def _checked_keywords(keywords: st.SearchStrategy[object] | None, written: str) -> st.SearchStrategy[dict[str, object]]:
    def checked(drawn: object) -> dict[str, object]:
        if isinstance(drawn, Mapping) and all(isinstance(name, str) for name in cast("Mapping[object, object]", drawn)):
            return dict(cast("Mapping[str, object]", drawn))
        raise InvalidArgument(
            f"{written.format('keywords', '…')}: the strategy has drawn {drawn!r}: let it draw dictionaries of free "
            "keywords, whose keys are texts"
        )

    return st.just({}) if keywords is None else keywords.map(checked)


def _calls(
    schema: type[Schema], state: AnyState, given: st.SearchStrategy[AnyState | Call[object]] | None
) -> st.SearchStrategy[AnyState | Call[object]]:
    """Return a strategy for what a mutation calls to call a state."""
    if given is not None:
        return given
    if state.args is None:
        return st.just(state)
    written = f"mutations({schema.__name__})"
    try:
        parameters = inspect.signature(state.args).parameters.values()
        inside = state.args.__init__ if isinstance(state.args, type) else state.args  # type: ignore[misc]
        hints = get_type_hints(inside)
        fields = {
            one.name: st.from_type(hints[one.name])
            for one in parameters
            if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
        }
        for field in fields.values():
            field.validate()
    except (KeyError, NameError, TypeError, ValueError, ResolutionFailed, InvalidArgument) as error:
        raise InvalidArgument(
            f"{written}: the types of the arguments of {state} do not say what to draw ({error!r}): pass "
            f"arguments={{{state.qualified_name}: st.builds({state.qualified_name}, …)}}"
        ) from error
    return cast("st.SearchStrategy[AnyState | Call[object]]", st.builds(cast("Callable[..., object]", state), **fields))


@st.composite
def _mutations(
    draw: st.DrawFn,
    schema: type[Schema],
    kinds: tuple[MutationKind, ...],
    called: st.SearchStrategy[dict[AnyState, AnyState | Call[object]]],
    dropped: st.SearchStrategy[list[AnyState]],
    keywords: st.SearchStrategy[dict[str, object]],
) -> Mutation:
    kind = draw(st.sampled_from(kinds))
    if kind == "remove":
        return Mutation(schema, kind, tuple(draw(dropped)), (), draw(keywords))
    calls = draw(called)
    gone = [state for state in draw(dropped) if state not in calls] if kind == "mutate" else []
    return Mutation(schema, kind, tuple(calls.values()), tuple(gone), draw(keywords))


# ---- Machines -------------------------------------------------------------------------------------------------------


@attrs.frozen(repr=False)
class Reached:
    """A machine that was driven to where it is by mutations: opened, or made as an engine, as often as you like.

    Handlers are made anew each time. What the mutations bring about in handlers happens each time too.
    """

    schema: type[Schema]
    handlers: tuple[object, ...]
    mutations: tuple[Mutation, ...]
    """What was done to it, in order."""

    def engine(self, **options: Any) -> Engine:
        """Return a new engine that has come there. Its ``task`` handlers are ignored, as in any engine.

        Args:
          options: as for `Engine`.
        """
        engine = Engine(self.schema, *self._made(), **options)
        for mutation in self.mutations:
            mutation.apply(engine)
        return engine

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncGenerator[Machine]:
        """Open a machine that has come there; its tasks begin at the first checkpoint of the block.

        Args:
          options: as for `open_machine`.

        Example::

            async with reached.open() as machine:
                machine.add(Door.Open)
        """
        async with open_machine(self.schema, *self._made(), **options) as machine:
            for mutation in self.mutations:
                mutation.apply(machine)
            yield machine

    def _made(self) -> list[object]:
        return made_handlers(self.schema, self.handlers, f"machines({self.schema.__name__}, …)")

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        """Show it so in what Hypothesis prints, too."""
        printer.text(repr(self))

    def __repr__(self) -> str:
        return f"<Reached {self.schema.__name__} by {', '.join(map(repr, self.mutations)) or 'nothing'}>"


def machines(
    schema: type[Schema],
    *handlers: object,
    min_mutations: int = 0,
    max_mutations: int = 10,
    steps: st.SearchStrategy[Mutation] | None = None,
) -> st.SearchStrategy[Reached]:
    """Return a strategy for machines that random mutations have driven to where they are.

    It gives `Reached` values, from which a test opens a machine or makes an engine. Shrinks to fewer mutations.

    Args:
      schema: the schema class.
      handlers: classes, or functions without arguments, that make handlers; each machine gets its own. Functions that
        are handlers, modules, and objects are bound as they are.
      min_mutations, max_mutations: how many mutations.
      steps: the mutations. Default: ``mutations(schema)``.

    Raises:
      TypeError: ``schema`` is none; a class or function needs arguments; ``steps`` are no strategy.
      ValueError: numbers of mutations are none, or fewer at most than at least.
      HandlerError, UnknownState: handlers do not fit the schema.

    Example::

        @given(trsm.testing.machines(Door, DoorHandlers))
        async def test_door(reached: trsm.testing.Reached) -> None:
            async with reached.open() as machine:
                assert not machine.is_active(Door.Open, Door.Locked)
    """
    checked_schema(schema, f"machines({schema!r})")
    Engine(schema, *made_handlers(schema, handlers, f"machines({schema.__name__}, …)"))
    if not (_is_number(min_mutations) and _is_number(max_mutations) and 0 <= min_mutations <= max_mutations):
        raise ValueError(
            f"machines(…, min_mutations={min_mutations!r}, max_mutations={max_mutations!r}): write whole numbers from "
            "0 on, the smaller one first"
        )
    if steps is not None and not isinstance(cast("object", steps), st.SearchStrategy):
        raise TypeError(
            f"machines(…, steps={steps!r}): pass a strategy for mutations, such as mutations({schema.__name__}, …)"
        )
    step = mutations(schema) if steps is None else steps.map(_checked_step)
    return st.builds(
        Reached,
        st.just(schema),
        st.just(handlers),
        st.lists(step, min_size=min_mutations, max_size=max_mutations).map(tuple),
    )


def _checked_step(step: object) -> Mutation:
    if not isinstance(step, Mutation):
        raise InvalidArgument(f"machines(…, steps=…): the strategy has drawn {step!r}: let it draw Mutation values")
    return step
