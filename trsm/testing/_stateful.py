"""A Hypothesis state machine that drives a user's machine, and writes down what it did as a program."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from trsm import Call, Engine, Machine, Result, Schema
from trsm.testing._driving import Life
from trsm.testing._faults import Fault, checked_error
from trsm.testing._made import checked_schema, made_handlers
from trsm.testing._mutations import AnyState, Mutation, imports
from trsm.testing._strategies import mutations

T = TypeVar("T")


class MachineRules(RuleBasedStateMachine):
    """The base of Hypothesis state machines that drive a machine of yours, on trio, with time of its own.

    Inherit from it, name schema and handlers, add invariants, and let pytest find ``TestCase``. Each example opens the
    machine and does to it, at random: mutations with arguments, faults in handlers and tasks, time that passes,
    cancellation from outside, closing, and opening again. Tasks run until all are blocked after each step, but for some
    mutations. After each step it is checked that

    * in every transition, of children and other machines that handlers open too, relations held, ticks moved as they
      may and never back, latched states stayed, called states came and dropped ones went, and what was canceled moved
      nothing;
    * no exception left the machine's block but those that were raised on purpose;
    * a machine that closed came to its end, and holds nothing any more;
    * your own ``@invariant()`` methods hold; they find the machine in ``self.machine``, which is closed at times.

    What fails comes with a program to paste into a test. It makes an instance by hand and calls the methods below,
    which then check your invariants too. Rules of your own call them as well, and so are part of that program.

    Attributes:
      schema: the schema class. Required.
      handlers: classes, or functions without arguments, that make the handlers; functions that are handlers, modules
        and objects are bound as they are. Default: none.
      arguments: state -> a strategy for calls of it, as for `mutations`. Default: by the types of its args class.
      keywords: a strategy for dictionaries of free keywords, as for `mutations`. Default: there are none.
      faults: exception classes, or functions without arguments that make an exception: what handlers and tasks are made
        to raise. Default: `Fault`. Empty: nothing is.
      expected: exceptions that may leave the machine's block, though nobody raised them on purpose. Default: none.
      seconds: by how much time may pass at once. Empty: it does not. Default: from a millisecond to an hour.
      options: more keywords for `open_machine`. Default: none.

    Raises:
      TypeError: when the class is made: ``schema`` is none, or handlers need arguments.
      HandlerError, UnknownState: handlers do not fit the schema.
      InvalidArgument: no strategy is known for the arguments of a state.

    Example::

        class DoorRules(trsm.testing.MachineRules):
            schema = Door
            handlers = (DoorHandlers,)

            @invariant()
            def never_open_and_locked(self) -> None:
                assert not self.machine.is_active(Door.Open, Door.Locked)

        TestDoor = DoorRules.TestCase
    """

    schema: ClassVar[type[Schema]]
    handlers: ClassVar[tuple[object, ...]] = ()
    arguments: ClassVar[Mapping[AnyState, st.SearchStrategy[Call[object]]]] = {}
    keywords: ClassVar[st.SearchStrategy[Mapping[str, object]] | None] = None
    faults: ClassVar[tuple[Callable[[], BaseException], ...]] = (Fault,)
    options: ClassVar[Mapping[str, Any]] = {}
    expected: ClassVar[tuple[type[BaseException], ...]] = ()
    seconds: ClassVar[tuple[float, ...]] = (1, 2, 5, 10, 0.001, 0.1, 60, 3600)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        written = f"class {cls.__name__}(MachineRules)"
        checked_schema(getattr(cls, "schema", None), f"{written}: schema")
        if not isinstance(cls.handlers, tuple):
            raise TypeError(f"{written}: handlers = {cls.handlers!r}: write a tuple, such as (DoorHandlers,)")
        Engine(cls.schema, *cls._made_handlers())  # says what does not fit, where the class stands
        for name, made in _rules(cls).items():
            setattr(cls, name, made)

    def __init__(self) -> None:
        if type(self) is MachineRules:
            raise TypeError(
                "MachineRules is a base: inherit it, and say which schema: class DoorRules(MachineRules): …"
            )
        super().__init__()
        self._steps: list[str] = []
        self._mutations: list[Mutation] = []
        self._is_by_hand = True
        """Whether nobody but the steps themselves checks the user's invariants."""
        with self._told():
            self._life = Life(self.schema, self._made_handlers, self.options, expected=self.expected)

    @classmethod
    def _made_handlers(cls) -> list[object]:
        return made_handlers(cls.schema, cls.handlers, f"{cls.__name__}.handlers")

    @property
    def machine(self) -> Machine:
        """The machine, the latest if there were several. It is closed after `cancel` and `close`, until `reopen`."""
        return self._life.machine

    @property
    def is_over(self) -> bool:
        """Whether the machine has closed and its block was left."""
        return self._life.is_over

    # ---- Steps ------------------------------------------------------------------------------------------------------

    def add(self, *states: AnyState | Call[object], wait: bool = True, **keywords: object) -> Result:
        """Make this mutation of the machine, then let tasks run until all are blocked.

        Args:
          states: as for ``machine.add``.
          wait: false lets the next step come before tasks have run. Default: true.
          keywords: free keywords.

        Raises:
          AssertionError: something did not hold that is checked after each step.
        """
        return self._mutate(Mutation(self.schema, "add", states, (), keywords), wait)

    def remove(self, *states: AnyState, wait: bool = True, **keywords: object) -> Result:
        """Make this mutation. Otherwise as `add`."""
        return self._mutate(Mutation(self.schema, "remove", states, (), keywords), wait)

    def set(self, *states: AnyState | Call[object], wait: bool = True, **keywords: object) -> Result:
        """Make this mutation. Otherwise as `add`."""
        return self._mutate(Mutation(self.schema, "set", states, (), keywords), wait)

    def toggle(self, *states: AnyState | Call[object], wait: bool = True, **keywords: object) -> Result:
        """Make this mutation. Otherwise as `add`."""
        return self._mutate(Mutation(self.schema, "toggle", states, (), keywords), wait)

    def mutate(
        self,
        *,
        add: list[AnyState | Call[object]] | tuple[AnyState | Call[object], ...] = (),
        remove: list[AnyState] | tuple[AnyState, ...] = (),
        wait: bool = True,
        **keywords: object,
    ) -> Result:
        """Make this mutation, of the states in two lists. Otherwise as `add`."""
        return self._mutate(Mutation(self.schema, "mutate", tuple(add), tuple(remove), keywords), wait)

    def call(self, function: Callable[[], T]) -> T:
        """Call a sync function inside of trio, then let tasks run until all are blocked; return its value.

        It is no part of the program of a failure, which could not say what it does. Raises as `add`.
        """
        with self._told():
            value = self._life.call(function)
            self._look()
            return value

    def fail(self, after: int, error: Callable[[], BaseException]) -> None:
        """Let the call of a handler, or the start of a task, raise that comes after so many others.

        Args:
          after: how many calls to let pass.
          error: an exception class, or a function without arguments that makes an exception.

        Raises:
          TypeError: `error` makes something that cannot be raised.
        """
        which = next((number for number, one in enumerate(self.faults) if one is error), None)
        name = type(self).__name__
        written = getattr(error, "__name__", repr(error)) if which is None else f"{name}.faults[{which}]"
        with self._step(f"fail({after}, {written})"):
            self._life.armed.arm(after, checked_error(f"{name}.faults", error))

    def sleep(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline, tasks running at each. Raises as `add`."""
        with self._step(f"sleep({seconds!r})"):
            self._life.sleep(seconds)

    def cancel(self) -> None:
        """Cancel the machine's block from outside, and wait for its end. Raises as `add`."""
        with self._step("cancel()"):
            self._life.cancel()

    def close(self) -> None:
        """Close the machine, and wait for the end of its block. Raises as `add`."""
        with self._step("close()"):
            self._life.close()

    def reopen(self) -> None:
        """Open the machine again that has ended, with new handlers."""
        with self._step("reopen()"):
            self._life.open()

    def _mutate(self, mutation: Mutation, wait: bool) -> Result:
        self._mutations.append(mutation)
        written = repr(mutation)
        if not wait:
            written = f"{written[:-1]}, wait=False)"
        with self._step(written):
            return self._life.mutate(mutation, wait=wait)

    @contextmanager
    def _step(self, written: str) -> Generator[None]:
        """Note a step, and let its failure tell how it came about."""
        self._steps.append(f"rules.{written}")
        with self._told():
            yield
            self._look()

    def _look(self) -> None:
        """Check the user's invariants, unless Hypothesis does."""
        if self._is_by_hand:
            for one in self.invariants:
                if all(condition(self) for condition in one.preconditions):
                    one.function(self)

    # ---- The program ------------------------------------------------------------------------------------------------

    def _program(self) -> str:
        """Return what was done so far as a program: a test function with the imports that it needs."""
        cls, schema = type(self), self.schema.__name__
        is_local = "<locals>" in cls.__qualname__ or cls.__module__ == "__main__"
        name = cls.__name__ if is_local else cls.__qualname__
        numbers = any(word in step for step in self._steps for word in ("inf", "nan"))
        needed = [*(["from math import inf, nan"] if numbers else []), *imports(self._steps, self._mutations)]
        lines = [
            *([*needed, ""] if needed else []),
            f"# where {name} is defined:"
            if is_local
            else f"from {cls.__module__} import {cls.__qualname__.partition('.')[0]}",
            "",
            "",
            f"def test_{cls.__name__}_again() -> None:",
            f"    rules = {name}()",
            *([f"    {schema} = {name}.schema"] if any(f"{schema}." in step for step in self._steps) else []),
            "    try:",
            *(f"        {step}" for step in self._steps or ["assert rules.machine"]),
            "    finally:",
            "        rules.teardown()",
        ]
        return "\n".join(lines)

    @contextmanager
    def _told(self) -> Generator[None]:
        """Let an exception tell how it came about: once, and not to who has the program already."""
        try:
            yield
        except Exception as error:
            if not self._is_by_hand and not any(note.startswith(NOTE) for note in getattr(error, "__notes__", ())):
                error.add_note(f"{NOTE}, to be pasted into a test:\n{self._program()}")
            raise

    def check_invariants(self, *args: Any, **kwargs: Any) -> None:
        """Check invariants, and let a failure tell how it came about. Called by Hypothesis, before any step too."""
        self._is_by_hand = False
        with self._told():
            super().check_invariants(*args, **kwargs)

    def teardown(self) -> None:
        """Close the machine and end trio. Called by Hypothesis; an override calls this one too."""
        with self._told():
            self._life.end()


NOTE = "The same as a program"


def _rules(cls: type[MachineRules]) -> dict[str, object]:
    """Return the rules of a class: they are made for its schema."""

    def is_open(rules: MachineRules) -> bool:
        return not rules.is_over

    steps = mutations(cls.schema, arguments=cls.arguments, keywords=cls.keywords)
    adds = mutations(cls.schema, kinds=("add",), arguments=cls.arguments, keywords=cls.keywords)

    # Hypothesis draws a rule, each as often as any other. With a single one for mutations a machine would see two of
    # them before its end, and never come to what takes five.
    @rule(mutation=adds)
    def add(self: MachineRules, mutation: Mutation) -> None:
        self._mutate(mutation, True)

    @rule(mutation=steps)
    def mutation(self: MachineRules, mutation: Mutation) -> None:
        self._mutate(mutation, True)

    @rule(mutation=steps)
    def hurried(self: MachineRules, mutation: Mutation) -> None:
        self._mutate(mutation, False)

    @rule(seconds=st.sampled_from(cls.seconds or (0,)))
    def time_passes(self: MachineRules, seconds: float) -> None:
        self.sleep(seconds)

    @rule(after=st.integers(0, 5), error=st.sampled_from(cls.faults or (Fault,)))
    def fails(self: MachineRules, after: int, error: Callable[[], BaseException]) -> None:
        self.fail(after, error)

    @rule(how=st.sampled_from(("close", "cancel")))
    def ends(self: MachineRules, how: str) -> None:
        if how == "close":
            self.close()
        else:
            self.cancel()

    @rule()
    def opens_again(self: MachineRules) -> None:
        self.reopen()

    made: dict[str, object] = {
        "rule_add": precondition(is_open)(add),
        "rule_mutation": precondition(is_open)(mutation),
        "rule_hurried": precondition(is_open)(hurried),
        "rule_end": precondition(is_open)(ends),
        "rule_reopen": precondition(lambda rules: bool(rules.is_over))(opens_again),
    }
    if cls.seconds:
        made["rule_time"] = precondition(is_open)(time_passes)
    if cls.faults:
        made["rule_fault"] = precondition(is_open)(fails)
    return made
