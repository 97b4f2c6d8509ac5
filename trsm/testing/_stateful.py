"""A Hypothesis state machine that drives a user's machine, and writes down what it did as a program."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, cast

from hypothesis import currently_in_test_context
from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from trsm import Call, Engine, Machine, Result, Schema, open_machine
from trsm.testing._driving import Life, Patience
from trsm.testing._faults import Fault, checked_error, checked_kinds
from trsm.testing._made import checked_schema, made_handlers
from trsm.testing._mutations import KINDS, AnyState, Mutation, Writer
from trsm.testing._strategies import checked_mutations

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
    * your own ``@invariant()`` methods hold; they find the machine in ``self.machine``, which is closed at times, and
      its handlers in ``self.bound``.

    Exceptions bring error states, and nothing else does. A schema with ``ErrorState(catches=OSError)`` gets there with
    ``faults = (OSError,)``, or by what its handlers raise; a `Fault` is caught by none, and closes the machine.

    A step that never comes to rest is given up after many turns of all tasks, and told as *hung*. A loop without any
    checkpoint lets nobody else run, these rules included: only Ctrl-C, or a limit such as that of pytest-timeout,
    ends it.

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
      TypeError, ValueError: when the class is made: ``schema`` is none, handlers need arguments, or another attribute
        is not what it has to be.
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
    _patience: ClassVar[Patience]

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._patience = Patience()
        written = f"class {cls.__name__}(MachineRules)"
        checked_schema(getattr(cls, "schema", None), f"{written}: schema")
        _check(cls, written)
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
        self._writer = Writer()
        self._is_by_hand = True
        """Whether nobody but the steps themselves checks the user's invariants."""
        with self._told():
            self._life = Life(
                self.schema, self._made_handlers, self.options, patience=self._own_patience(), expected=self.expected
            )

    @classmethod
    def _own_patience(cls) -> Patience:
        """Return one that wears out while Hypothesis searches; what it shows at last, and users, have all of it."""
        if currently_in_test_context():
            if not current_build_context().is_final:
                return cls._patience
            cls._patience = Patience()  # the next search begins anew
        return Patience()

    @classmethod
    def _made_handlers(cls) -> list[object]:
        return made_handlers(cls.schema, cls.handlers, f"{cls.__name__}.handlers")

    @property
    def machine(self) -> Machine:
        """The machine, the latest if there were several. It is closed after `cancel` and `close`, until `reopen`."""
        return self._life.machine

    @property
    def bound(self) -> tuple[object, ...]:
        """What is bound to the machine: what was made for it of ``handlers``, in their order, anew by each `reopen`.

        Example::

            @invariant()
            def never_in_debt(self) -> None:
                (account,) = self.bound
                assert account.money >= 0
        """
        return self._life.handlers

    @property
    def is_over(self) -> bool:
        """Whether the machine has closed and its block was left."""
        return self._life.is_over

    # ---- Steps ------------------------------------------------------------------------------------------------------

    def add(self, /, *states: AnyState | Call[object], wait: bool = True, **keywords: object) -> Result:
        """Make this mutation of the machine, then let tasks run until all are blocked.

        Args:
          states: as for ``machine.add``.
          wait: false lets the next step come before tasks have run. Default: true.
          keywords: free keywords.

        Raises:
          AssertionError: something did not hold that is checked after each step.
        """
        return self._mutate(Mutation(self.schema, "add", states, (), keywords), wait)

    def remove(self, /, *states: AnyState, wait: bool = True, **keywords: object) -> Result:
        """Make this mutation. Otherwise as `add`."""
        return self._mutate(Mutation(self.schema, "remove", states, (), keywords), wait)

    def set(self, /, *states: AnyState | Call[object], wait: bool = True, **keywords: object) -> Result:
        """Make this mutation. Otherwise as `add`."""
        return self._mutate(Mutation(self.schema, "set", states, (), keywords), wait)

    def toggle(self, /, *states: AnyState | Call[object], wait: bool = True, **keywords: object) -> Result:
        """Make this mutation. Otherwise as `add`."""
        return self._mutate(Mutation(self.schema, "toggle", states, (), keywords), wait)

    def mutate(
        self,
        /,
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

        In the program of a failure a comment stands in its place: nobody could write what it does. Raises as `add`.
        """
        name = getattr(function, "__qualname__", repr(function))
        self._steps.append(f"# here a rule of yours has made rules.call({name})")
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
        if not isinstance(after, int) or isinstance(after, bool) or after < 0:
            raise ValueError(f"fail({after!r}, …): write how many calls to let pass, a whole number, 0 or more")
        if not callable(error):
            raise TypeError(f"fail({after}, {error!r}): pass an exception class, or lambda: {error!r}")
        made = checked_error(f"fail({after}, {error!r})", error)
        written = self._writer.value(error) if which is None else f"{type(self).__name__}.faults[{which}]"
        with self._step(f"fail({after}, {written})"):
            self._life.armed.arm(after, made)

    def sleep(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline, tasks running at each.

        Raises:
          ValueError: `seconds` is negative, endless or no number; else as `add`.
        """
        if not _is_duration(seconds):
            raise ValueError(f"sleep({seconds!r}): write a number of seconds, 0 or more")
        with self._step(f"sleep({self._writer.value(seconds)})"):
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
        """Open the machine again that has ended, with new handlers.

        Raises:
          RuntimeError: it has not ended.
        """
        if not self.is_over:
            raise RuntimeError(
                "reopen(): the machine is open, and there is one at a time: close() or cancel() it first"
            )
        with self._step("reopen()"):
            self._life.open()

    def _mutate(self, mutation: Mutation, wait: bool) -> Result:
        written = self._writer.mutation(mutation)
        if not wait:
            written = f"{written[:-1]}, wait=False)"
        with self._step(written):
            return self._life.mutate(mutation, wait=wait)

    @contextmanager
    def _step(self, written: str) -> Generator[None]:
        """Note a step, and let its failure tell how it came about."""
        self._steps += [f"# in the next line, write by hand for ...: {one}" for one in self._writer.by_hand]
        self._writer.by_hand.clear()
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
        needed = sorted(self._writer.imports)
        is_empty = all(step.startswith("#") for step in self._steps)
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
            *(f"        {step}" for step in [*self._steps, *(["assert rules.machine"] if is_empty else [])]),
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
                but = ", but for what its comments say" if any(step.startswith("#") for step in self._steps) else ""
                error.add_note(f"{NOTE}{but}, to be pasted into a test:\n{self._program()}")
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
_ATTRIBUTES = ("schema", "handlers", "arguments", "keywords", "faults", "options", "expected", "seconds")


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < math.inf


def _check(cls: type[MachineRules], written: str) -> None:
    """Refuse attributes that are not what they have to be, where the class stands."""
    for name, example in (
        ("handlers", "(DoorHandlers,)"),
        ("faults", "(OSError,)"),
        ("expected", "(OSError,)"),
        ("seconds", "(1, 60)"),
    ):
        value: object = getattr(cls, name)
        if not isinstance(value, tuple):
            raise TypeError(f"{written}: {name} = {value!r}: write a tuple, such as {example}")
    for fault in cls.faults:
        where = f"{written}: faults = (… {fault!r} …)"
        if not callable(fault):
            raise TypeError(f"{where}: each time another exception is raised: write its class, or lambda: {fault!r}")
        checked_error(where, fault)
    checked_kinds(f"{written}: expected = {cls.expected!r}", cls.expected)
    for seconds in cls.seconds:
        if not _is_duration(seconds):
            raise ValueError(f"{written}: seconds = (… {seconds!r} …): write numbers of seconds, 0 or more")
    if not isinstance(cast("object", cls.options), Mapping):
        raise TypeError(f"{written}: options = {cls.options!r}: write a dictionary of keywords for open_machine")
    try:
        open_machine(cls.schema, **cls.options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{written}: options = {dict(cls.options)!r}: {error}") from None
    for name, value in vars(cls).items():
        # A slip of the pen, and nobody would read it; but an attribute of yours may well have such a name.
        meant = [] if name in _ATTRIBUTES else difflib.get_close_matches(name, _ATTRIBUTES, 1, 0.8)
        if meant and (isinstance(value, type) or type(value) is type(getattr(MachineRules, meant[0], None))):
            raise TypeError(f"{written}: {name} = {value!r}: nobody reads that: write {meant[0]} = …")


def _rules(cls: type[MachineRules]) -> dict[str, object]:
    """Return the rules of a class: they are made for its schema."""

    def is_open(rules: MachineRules) -> bool:
        return not rules.is_over

    written = f"class {cls.__name__}(MachineRules): {{}} = {{}}"
    steps = checked_mutations(cls.schema, written, KINDS, cls.arguments, cls.keywords)
    adds = checked_mutations(cls.schema, written, ("add",), cls.arguments, cls.keywords)

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
