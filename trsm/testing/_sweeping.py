"""Sweeps: an async scenario is run over and over, each time disturbed at one more point, until a run ends undisturbed.

One run is a `_Trial`: trio with time of its own, the scenario in a cancel scope, a guard that lets time pass and sees
when nothing can go on, and `Laws` on every machine. What happens at the point is a `_Disturbance`.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import signal
import sys
import threading
import traceback
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeAlias, cast

import trio
from trio.testing import wait_all_tasks_blocked

from trsm import Machine, MachineClosed, Observed, Saboteur, Transition, tracing
from trsm.testing._faults import Fault, Hung, checked_error, checked_kinds, leaves
from trsm.testing._laws import Laws
from trsm.testing._resting import descendants, outside
from trsm.testing._seeding import abort, fail_step, is_told, repeatable

Scenario: TypeAlias = Callable[[], Coroutine[object, object, object]]
MakeError: TypeAlias = Callable[[], BaseException]


class SweepFailure(AssertionError):
    """A scenario did wrong when it was disturbed at a point: the first at which it did.

    Attributes:
      point: the number of the point, to be given as ``point=`` to run it again; -1 if no disturbance was needed.
      findings: what leaked, hung or broke, in sentences.
    """

    def __init__(self, message: str, point: int, findings: tuple[str, ...]) -> None:
        super().__init__(message)
        self.point = point
        self.findings = findings


# ---- Words ----------------------------------------------------------------------------------------------------------


def _innermost(frames: Iterable[tuple[types.FrameType, int]]) -> str | None:
    """Return the innermost line that is neither trio's nor trsm's, of frames that go inwards."""
    found = None
    for frame, line in frames:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in {"trio", "outcome", "trsm"}:
            found = f"{Path(frame.f_code.co_filename).name}:{line}, in {frame.f_code.co_qualname}"
    return found


def _place(task: trio.lowlevel.Task) -> str:
    """Return where a task is."""
    found = _innermost(task.iter_await_frames())
    return f"task {task.name!r}{'' if found is None else f' at {found}'}"


def _still_running(task: trio.lowlevel.Task) -> str:
    """Return what to say of a task that outlives the scenario."""
    is_generator = task.name.startswith("close asyncgen ")  # trio names so the task in which it ends one itself
    advice = ": an async generator was left before its end: let contextlib.aclosing close it" if is_generator else ""
    return f"{_place(task)} still runs{advice}"


def _told(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    first, *more = str(error).splitlines() or [""]
    return f"{type(error).__name__}({first + ' […]'!r})" if more else repr(error)


def _origin(error: BaseException) -> str:
    """Return where an exception was raised."""
    found = _innermost(traceback.walk_tb(error.__traceback__))
    return "inside of trio" if found is None else f"at {found}"


def _written(value: object) -> str | None:
    """Return a value as the caller of a sweep may have written it; None if that cannot be known."""
    if value is None or type(value) in (bool, int, str, bytes) or (type(value) is float and math.isfinite(value)):
        return repr(value)
    if type(value) in (list, tuple):
        several = cast("Sequence[object]", value)
        inside = _joined([("", one) for one in several])
        if inside is None:
            return None
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(several) == 1 else ''})"
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, functools.partial):
        partial = cast("functools.partial[object]", value)
        parts: list[tuple[str, object]] = [("", one) for one in (partial.func, *partial.args)]
        parts += [(f"{name}=", one) for name, one in partial.keywords.items()]
        inside = _joined(parts)
        return None if inside is None else f"functools.partial({inside})"
    if isinstance(value, types.MethodType):
        owner = _written(value.__self__)
        return None if owner is None else f"{owner}.{value.__name__}"
    if isinstance(value, (type, types.FunctionType)):
        name = value.__qualname__.rpartition("<locals>.")[2]
        return None if "<" in name else name  # a lambda has no name
    return None


def _joined(parts: list[tuple[str, object]]) -> str | None:
    """Return values, each after its prefix, with commas between them; None if one of them cannot be written."""
    texts = [(prefix, _written(value)) for prefix, value in parts]
    return None if any(text is None for _, text in texts) else ", ".join(f"{prefix}{text}" for prefix, text in texts)


def _described(value: object) -> str:
    """Return what to say of a value that cannot be written."""
    if isinstance(value, types.FunctionType):
        return f"{value.__name__} of {Path(value.__code__.co_filename).name}:{value.__code__.co_firstlineno}"
    return repr(value)


# ---- Time -----------------------------------------------------------------------------------------------------------


class _Time(trio.abc.Clock):
    """A clock that stands still until it is told to jump."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_broken = False

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        if self.is_broken:  # pragma: no cover - in a process of its own: test_hang_that_nothing_ends
            raise Hung("the run could not be ended otherwise")
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0 if deadline <= self.now else 999_999


# ---- One run --------------------------------------------------------------------------------------------------------


class _Trial(trio.abc.Instrument):
    """One run of a scenario, disturbed at one point or, if that is -1, not at all."""

    def __init__(self, scenario: Scenario, disturbance: _Disturbance, point: int, bound: int) -> None:
        self.scenario = scenario
        self.disturbance = disturbance
        self.point = point
        self.bound = bound
        """How many steps it may take."""
        self.points = 0
        self.steps = 0
        self.place: str | None = None
        """Where it was disturbed; None if it was not."""
        self.laws = Laws()
        self.left: list[BaseException] = []
        """What left the scenario and the run."""
        self.is_complete = False
        """Whether the scenario came to its end."""
        self.is_met = False
        """Whether the scenario's own task was told of the cancellation."""
        self.hung: str | None = None
        self.scope = trio.CancelScope()
        """What is cancelled as the disturbance."""
        self._last_resort = trio.CancelScope()
        self._resorts = 0
        self._time = _Time()
        self._main: trio.lowlevel.Task | None = None
        self._guard_task: trio.lowlevel.Task | None = None
        self._is_inside = False
        self._leaked: list[str] = []

    def reached(self, place: Callable[[], str]) -> bool:
        """Count a point, and return whether it is the one to disturb at."""
        if not self._is_inside:
            return False
        self.points += 1
        if self.points != self.point + 1:
            return False
        self.place = place()
        return True

    def run(self, seed: int) -> None:
        """Run it; what it did is in the attributes then."""
        with repeatable(seed), tracing(self.laws), self.disturbance.around(self):
            try:
                trio.run(self._run, clock=self._time, instruments=[self])
            except BaseException as error:  # pragma: no cover - the same: trio was broken off
                self._keep(error)

    def _keep(self, error: BaseException) -> None:
        """Keep what left, once, and without what ended a run that hung."""
        for one in leaves(error):
            is_ours = self.hung is not None and isinstance(one, (Hung, trio.TrioInternalError, trio.Cancelled))
            if not is_ours and not any(one is other for other in self.left):
                self.left.append(one)

    async def _run(self) -> None:
        main = self._main = trio.lowlevel.current_task()
        main.name = _name(self.scenario)
        root = trio.lowlevel.current_root_task()
        assert root is not None  # it runs
        before = {id(task) for task in descendants(root)}
        async with trio.open_nursery() as nursery:
            await nursery.start(self._guard)
            try:
                with self._last_resort, self.scope, self.disturbance.inside():
                    self._is_inside = True
                    try:
                        await self.scenario()
                        self.is_complete = True
                    finally:
                        self._is_inside = False
                    await trio.lowlevel.checkpoint()  # meets a cancellation or Ctrl-C that nobody met before
            except BaseException as error:
                self._keep(error)
            ours = {id(main), id(self._guard_task)}
            self._leaked = [_still_running(task) for task in descendants(root) if id(task) not in before | ours]
            nursery.cancel_scope.cancel()

    async def _guard(self, task_status: trio.TaskStatus[None]) -> None:
        """Let time pass when nothing else goes on, and see when nothing can."""
        self._guard_task = trio.lowlevel.current_task()
        task_status.started()
        while True:
            steps, wait = self.steps, outside()
            await wait_all_tasks_blocked(0.001 if wait is None else wait)
            if self.steps != steps or wait is None or outside() is None:
                continue  # somebody else was woken together with this task, or is about to be by a thread
            seconds = trio.lowlevel.current_statistics().seconds_to_next_deadline
            if seconds == math.inf:
                blocked = "; ".join(map(_place, self._of_scenario()))
                self._give_up(f"nothing can go on, and no time that passes will change that: {blocked}")
            else:
                self._time.now += max(seconds, 0.0)

    def _give_up(self, words: str) -> None:
        """End a run that does not end: cancel it, then what is shielded too, then break the clock, and trio with it."""
        self.hung = self.hung or words
        self._resorts += 1
        self._last_resort.cancel("the scenario hung")
        if self._resorts > 3:  # pragma: no cover - the same
            self._time.is_broken = True
        elif self._resorts > 1:
            for task in self._of_scenario():
                abort(task, Hung(words))

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Disturb before the step that is due."""
        if not self._is_inside or task is self._guard_task:
            return
        self.steps += 1
        if self.steps % self.bound == 0:
            self._give_up(f"it goes on and on: {self.steps:,} steps did not suffice, the last of {_place(task)}")
        if self._resorts > 1 and self.hung is not None and any(task is one for one in self._of_scenario()):
            fail_step(task, Hung(self.hung))
        self.disturbance.step(self, task)
        if task is self._main and is_told(task, self.scope):
            self.is_met = True

    def _of_scenario(self) -> list[trio.lowlevel.Task]:
        assert self._main is not None  # it runs
        return [task for task in descendants(self._main) if task is not self._guard_task]

    def findings(self, expected: tuple[type[BaseException], ...]) -> list[str]:
        """Return what leaked, hung or broke."""
        if self.hung is not None:
            return [f"hung: {self.hung}"]
        broke = list(self.laws.violations)
        for error in self.left:
            if not isinstance(error, expected) and not self.disturbance.is_its_own(self, error):
                broke.append(f"{_told(error)} left it, raised {_origin(error)}")
        broke += self.disturbance.judge(self)
        return [
            *(f"leaked: {words}" for words in (*self._leaked, *self.laws.left_over())),
            *(f"broke: {words}" for words in broke),
        ]


# ---- What happens at the point --------------------------------------------------------------------------------------


class _Disturbance:
    """What happens at one point of a run, and what follows from it that is no fault of the scenario."""

    name: str
    past: str
    failed: BaseException | None = None
    """Why it could not happen where it was due; this is no fault of the scenario."""

    def arguments(self) -> list[tuple[str, object]]:
        """Return what was passed besides what every sweep takes, each with its name, and ``=`` if it is a keyword."""
        return []

    def around(self, trial: _Trial) -> AbstractContextManager[object]:
        """Make ready for a run."""
        return nullcontext()

    def inside(self) -> AbstractContextManager[object]:
        """Make ready inside of the run, where trio is in place already."""
        return nullcontext()

    def step(self, trial: _Trial, task: trio.lowlevel.Task) -> None:
        """Look at a step that is due."""

    def is_its_own(self, trial: _Trial, error: BaseException) -> bool:
        """Return whether an exception that left the scenario is what the disturbance brought."""
        return False

    def happen(self, trial: _Trial) -> None:
        """Do it, at a step."""

    def judge(self, trial: _Trial) -> list[str]:
        """Return what is wrong with how the scenario took it."""
        return []


class _AtStep(_Disturbance):
    def step(self, trial: _Trial, task: trio.lowlevel.Task) -> None:
        if trial.reached(lambda: f"before a step of {_place(task)}"):
            self.happen(trial)


class _Cancel(_AtStep):
    name, past = "cancel_sweep", "cancelled"

    def happen(self, trial: _Trial) -> None:
        trial.scope.cancel(f"{self.name}, point {trial.point}")

    def judge(self, trial: _Trial) -> list[str]:
        if trial.is_met and trial.is_complete:
            return ["the scenario was told of the cancellation, swallowed it, and went on to its end"]
        return []


class _Interrupt(_AtStep):
    name, past = "interrupt_sweep", "interrupted by Ctrl-C"

    def __init__(self) -> None:
        self._is_happening = False
        self._is_meant = False
        """Whether a person has interrupted the sweep itself."""

    @contextmanager
    def inside(self) -> Generator[None]:
        trios = cast("Callable[[int, types.FrameType | None], object]", signal.getsignal(signal.SIGINT))

        def handle(number: int, frame: types.FrameType | None) -> None:
            self._is_meant |= not self._is_happening
            trios(number, frame)

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, trios)

    def happen(self, trial: _Trial) -> None:
        self._is_happening = True
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            self._is_happening = False

    def is_its_own(self, trial: _Trial, error: BaseException) -> bool:
        return isinstance(error, KeyboardInterrupt) and not self._is_meant

    def judge(self, trial: _Trial) -> list[str]:
        times = sum(isinstance(error, KeyboardInterrupt) for error in trial.left)
        if trial.place is None or times == 1:
            return []
        return [f"Ctrl-C came out of it {times} times" if times else "the scenario swallowed Ctrl-C"]


class _Close(_AtStep):
    name, past = "close_sweep", "its first machine closed"

    def happen(self, trial: _Trial) -> None:
        for machine in trial.laws.machines[:1]:
            if isinstance(machine, Machine):
                machine.close()

    def is_its_own(self, trial: _Trial, error: BaseException) -> bool:
        return isinstance(error, MachineClosed)


class _Raising(_Disturbance):
    """What raises an exception that somebody made."""

    def __init__(self, make: MakeError | None) -> None:
        self.make = make
        self.raised: BaseException | None = None

    def error(self, place: str) -> BaseException:
        """Make the exception that is raised."""
        try:
            self.raised = Fault(place) if self.make is None else _made(self.name, self.make)
        except BaseException as error:
            self.failed = error
            raise
        return self.raised

    def arguments(self) -> list[tuple[str, object]]:
        """Return it with what it raises."""
        return [] if self.make is None else [("error=", self.make)]

    def is_its_own(self, trial: _Trial, error: BaseException) -> bool:
        return trial.place is not None and error is self.raised


class _Raise(_Raising):
    name, past = "raise_sweep", "made to raise"

    def around(self, trial: _Trial) -> AbstractContextManager[object]:
        self.raised = None
        return tracing(_Breaker(trial, self))


class _Breaker(Saboteur):
    """Raises in the handler or task that is the trial's point."""

    def __init__(self, trial: _Trial, disturbance: _Raise) -> None:
        self.trial = trial
        self.disturbance = disturbance

    def fault(self, machine: Observed, transition: Transition, handler: str, kind: str) -> BaseException | None:
        """Return the exception, when it is due."""
        place = f"{kind} {handler}, in {transition!r} of machine {machine.id!r}"
        return self.disturbance.error(place) if self.trial.reached(lambda: place) else None


class _Call(_Raising):
    name, past = "call_sweep", "made to fail"

    def __init__(self, owner: object, function: str, make: MakeError | None) -> None:
        super().__init__(make)
        self.owner = owner
        self.function = function

    def arguments(self) -> list[tuple[str, object]]:
        """Return it with the function."""
        return [("owner", self.owner), ("function", self.function), *super().arguments()]

    @contextmanager
    def around(self, trial: _Trial) -> Generator[None]:
        self.raised = None
        failing = self._in_place(trial)
        own: Mapping[str, object] = getattr(self.owner, "__dict__", {})
        is_own = self.function in own
        written = own.get(self.function)
        try:
            setattr(self.owner, self.function, failing)
        except (AttributeError, TypeError) as error:
            raise TypeError(
                f"call_sweep(…, {self.owner!r}, {self.function!r}): it cannot be replaced there ({error}): pass the "
                "class, module or object that has it"
            ) from None
        try:
            yield
        finally:
            if is_own:
                setattr(self.owner, self.function, written)
            else:
                delattr(self.owner, self.function)

    def _in_place(self, trial: _Trial) -> object:
        """Return what to write in place of the function, so that a look-up binds it as it does that."""
        owner, missing = self.owner, object()
        written: object = vars(owner).get(self.function, missing) if hasattr(owner, "__dict__") else missing
        is_class = isinstance(owner, type)
        if written is not missing and not is_class:
            return self._failing(cast("Callable[..., object]", written), trial)  # nothing is bound there
        for base in owner.__mro__ if isinstance(owner, type) else type(owner).__mro__:
            if written is missing:
                written = vars(base).get(self.function, missing)
        failing: object
        if isinstance(written, (staticmethod, classmethod)):
            made = self._failing(cast("classmethod[object, ..., object]", written).__func__, trial)
            failing = staticmethod(made) if isinstance(written, staticmethod) else classmethod(made)
        elif callable(written):
            failing = self._failing(written, trial)
            # A partial is bound by a look-up from Python 3.14 on; in 3.13 it has a ``__get__`` that only warns.
            unbound = functools.partial if sys.version_info < (3, 14) else ()
            if isinstance(written, unbound) or not hasattr(type(written), "__get__"):
                failing = staticmethod(failing)  # or an object that can be called
        else:
            # A property, or made by the look-up itself: by ``__getattr__``, or by the class of a class.
            found = self._failing(getattr(owner, self.function), trial)
            failing = staticmethod(found) if written is missing or not is_class else found
        return failing if is_class else getattr(failing, "__get__")(owner, type(owner))  # noqa: B009 - as a look-up would

    def _failing(self, function: Callable[..., object], trial: _Trial) -> Callable[..., object]:
        """Return a function that fails where it is the trial's turn, and else does what this one does."""
        name = getattr(function, "__qualname__", self.function)

        def may_fail() -> None:
            if trial.reached(lambda: f"call {trial.points} of {name}, by {_caller()}"):
                raise self.error(f"call of {name}")

        @functools.wraps(function)
        def failing(*args: object, **kwargs: object) -> object:
            may_fail()
            return function(*args, **kwargs)

        @functools.wraps(function)
        async def failing_later(*args: object, **kwargs: object) -> object:
            may_fail()
            return await cast("Awaitable[object]", function(*args, **kwargs))

        return failing_later if inspect.iscoroutinefunction(function) else failing


def _caller() -> str:
    """Return where the function that is made to fail was called: the line of the scenario, if it is one's doing."""
    frames = list(itertools.takewhile(lambda one: one[0].f_code is not _Trial.run.__code__, traceback.walk_stack(None)))
    return _innermost(reversed(frames)) or "trio itself"


# ---- All runs -------------------------------------------------------------------------------------------------------


QUIET_BOUND = 100_000
"""How many steps a scenario may take that is not disturbed."""


def _sweep(
    scenario: Scenario,
    disturbance: _Disturbance,
    seeds: Iterable[int],
    point: int | None,
    expected: type[BaseException] | tuple[type[BaseException], ...],
    after: Callable[[], object] | None,
) -> int:
    name = disturbance.name
    _check(name, scenario, after)
    if point is not None and (not isinstance(point, int) or isinstance(point, bool) or point < 0):
        raise ValueError(f"{name}(…, point={point!r}): write the number of a point, a whole number, 0 or more")
    kinds = checked_kinds(f"{name}(…, expected={expected!r})", expected)
    points = most = 0
    for seed in _checked_seeds(name, seeds):
        quiet = _tried(scenario, disturbance, -1, seed, QUIET_BOUND, kinds, after)
        most, bound = max(most, quiet.points), 20 * quiet.steps + 1000
        if point is not None:
            points += _tried(scenario, disturbance, point, seed, bound, kinds, after).place is not None
            continue
        for number in range(10 * quiet.points + 100):
            if _tried(scenario, disturbance, number, seed, bound, kinds, after).place is None:
                points += number
                break
        else:
            raise SweepFailure(
                f"{name}({_name(scenario)}): an undisturbed run has {_points(quiet.points)}, and "
                f"{10 * quiet.points + 100} disturbed ones did not reach the end: does it remember earlier runs?",
                -1,
                (),
            )
    if point is not None and not points:
        raise ValueError(
            f"{name}({_name(scenario)}, point={point}): it is never reached: an undisturbed run has {_points(most)}"
            + (", and the first is 0" if most else "")
        )
    return points


def _tried(
    scenario: Scenario,
    disturbance: _Disturbance,
    point: int,
    seed: int,
    bound: int,
    expected: tuple[type[BaseException], ...],
    after: Callable[[], object] | None,
) -> _Trial:
    """Run a scenario once, and raise what was found."""
    trial = _Trial(scenario, disturbance, point, bound)
    trial.run(seed)
    if disturbance.failed is not None:
        raise disturbance.failed
    for error in trial.left:
        is_own = trial.place is not None and disturbance.is_its_own(trial, error)
        if isinstance(error, KeyboardInterrupt) and not isinstance(error, expected) and not is_own:
            raise error  # somebody has had enough of the sweep itself
    findings = trial.findings(expected)
    if after is not None and trial.hung is None:
        try:
            after()
        except Exception as error:
            trial.left.append(error)
            findings.append(f"broke: {_name(after)} raised {_told(error)} {_origin(error)}")
    if not findings:
        return trial
    name = f"{disturbance.name}({_name(scenario)})"
    if trial.place is None:
        head, again = f"{name}: the scenario does wrong even where it is not disturbed", []
    else:
        head, again = f"{name}, point {point}: {disturbance.past}: {trial.place}", [("point=", point)]
    arguments: list[tuple[str, object]] = [("scenario", scenario), *disturbance.arguments(), *again]
    if seed:
        arguments.append(("seeds=", [seed]))
    if expected:
        arguments.append(("expected=", expected[0] if len(expected) == 1 else expected))
    if after is not None:
        arguments.append(("after=", after))
    message = "\n  ".join([head, *findings, *_call(disturbance.name, arguments)])
    failure = SweepFailure(message, -1 if trial.place is None else point, tuple(findings))
    # What was brought on purpose may have left too; the cause is what is told.
    brought = [error for error in trial.left if disturbance.is_its_own(trial, error)]
    causes = [error for error in trial.left if not any(error is one for one in brought)] or brought
    raise failure from (causes[0] if causes else None)


def _call(name: str, arguments: list[tuple[str, object]]) -> list[str]:
    """Return the call that runs it again, and below what it names that cannot be written."""
    texts: list[str] = []
    unknown: list[str] = []
    for parameter, value in arguments:
        text, known = _written(value), parameter.removesuffix("=")
        if text is None:
            text = known
            unknown.append(f"{known} is {_described(value)}")
        texts.append(f"{parameter}{text}" if parameter.endswith("=") else text)
    return [f"to run it again: {name}({', '.join(texts)})", *([f"where {'; '.join(unknown)}"] if unknown else [])]


def _name(function: object) -> str:
    while isinstance(function, functools.partial):
        function = cast("functools.partial[object]", function).func
    return str(getattr(function, "__name__", function))


def _points(number: int) -> str:
    return f"{number:,} point{'' if number == 1 else 's'}"


def _checked_seeds(name: str, seeds: object) -> tuple[int, ...]:
    if not isinstance(seeds, Iterable):
        raise TypeError(f"{name}(…, seeds={seeds!r}): pass several, such as seeds=range(3), or seeds=[{seeds!r}]")
    several = tuple(cast("Iterable[object]", seeds))
    if not several:
        raise ValueError(f"{name}(…, seeds=()): nothing would be run: leave it out, or pass a number")
    for seed in several:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise TypeError(f"{name}(…, seeds=…): {seed!r} is no whole number")
    return cast("tuple[int, ...]", several)


def _check(name: str, scenario: object, after: object) -> None:
    """Refuse what is no scenario, before anything runs."""
    if inspect.iscoroutine(scenario):
        scenario.close()
        raise TypeError(f"{name}(…): pass the async function itself, and do not call it: it is run many times")
    written = f"{name}({_name(scenario)})"
    if not _is_async(scenario):
        known = _written(scenario) if isinstance(scenario, types.FunctionType) else None
        raise TypeError(f"{written}: a scenario is an async function: write async def {known or 'scenario'}() -> None")
    needed = _needs(scenario)
    if needed:
        raise TypeError(
            f"{written}: a scenario is called without arguments, and this one takes some ({needed}): give it defaults, "
            "or bind them with functools.partial"
        )
    if after is not None and (not callable(after) or _is_async(after) or _needs(after)):
        raise TypeError(f"{name}(…, after={after!r}): pass a sync function without arguments, called after each run")
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(f"{name} runs trio itself, many times: call it in a sync test")


def _is_async(function: object) -> bool:
    inside = function
    while isinstance(inside, functools.partial):
        inside = cast("functools.partial[object]", inside).func
    return any(map(inspect.iscoroutinefunction, (inside, getattr(type(inside), "__call__", None))))  # noqa: B004


def _needs(function: object) -> str:
    """Return what a function needs to be called with, or nothing."""
    try:
        inspect.signature(cast("Callable[..., object]", function)).bind()
    except TypeError as error:
        return str(error)
    except ValueError:
        pass  # a signature that cannot be read; calling it will tell
    return ""


def cancel_sweep(
    scenario: Scenario,
    *,
    seeds: Iterable[int] = (0,),
    point: int | None = None,
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    after: Callable[[], object] | None = None,
) -> int:
    """Run a scenario once for each step that any of its tasks takes, cancelled from outside right before that step.

    Each run has its own trio, in which time passes as soon as nothing else goes on, and tasks take turns in the same
    order every time. After each it is checked that

    * every machine that was opened in it is closed and joined and holds nothing, and no task is left (*leaked*);
    * it came to an end: there was always a task that could go on, or would when time passes, and it took no more than
      20 times the steps of an undisturbed run, and 1000 (*hung*);
    * in every transition relations held, ticks moved as they may, and what was canceled moved none; no exception left
      the scenario but the cancellation; and that was not swallowed (*broke*).

    Threads are waited for in real time. Where a task waits for a socket, time passes after 10 ms of silence.

    Args:
      scenario: an async function without arguments that opens its machines. It is called once for each point.
      seeds: orders in which tasks take turns: the sweep is run for each. Default: one.
      point: the only point to disturb at, 0 being the first, to look into what a sweep has found. Default: all.
      expected: exceptions that may leave the scenario. Default: none.
      after: a sync function called after each run, with checks of your own. Default: none.

    Returns:
      How many points there were, which a test should compare with some number: a sweep of nothing finds nothing.

    Raises:
      SweepFailure: at the first point at which something leaked, hung or broke.
      TypeError: ``scenario`` is not async, or needs arguments; ``after`` is async; ``seeds`` are no whole numbers, or
        ``expected`` no classes of exceptions.
      ValueError: ``point`` is never reached; there are no ``seeds``.
      RuntimeError: called inside a trio run.

    Example::

        def test_cancelled_anywhere() -> None:
            assert trsm.testing.cancel_sweep(scenario) > 10
    """
    return _sweep(scenario, _Cancel(), seeds, point, expected, after)


def interrupt_sweep(
    scenario: Scenario,
    *,
    seeds: Iterable[int] = (0,),
    point: int | None = None,
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    after: Callable[[], object] | None = None,
) -> int:
    """Run a scenario once for each step that any of its tasks takes, with Ctrl-C right before that step.

    What is checked, and all else, is as for `cancel_sweep`; `KeyboardInterrupt` has to come out of every run once.

    Raises:
      RuntimeError: also if Ctrl-C would not arrive: outside of the main thread, or where it is handled or ignored.
    """
    _check("interrupt_sweep", scenario, after)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        raise RuntimeError(
            "interrupt_sweep: Ctrl-C would not arrive here: call it in the main thread, with SIGINT handled by "
            "signal.default_int_handler"
        )
    return _sweep(scenario, _Interrupt(), seeds, point, expected, after)


def close_sweep(
    scenario: Scenario,
    *,
    seeds: Iterable[int] = (0,),
    point: int | None = None,
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    after: Callable[[], object] | None = None,
) -> int:
    """Run a scenario once for each step that any of its tasks takes, with its first machine closed before that step.

    What is checked, and all else, is as for `cancel_sweep`; `MachineClosed` may leave the scenario.
    """
    return _sweep(scenario, _Close(), seeds, point, expected, after)


def raise_sweep(
    scenario: Scenario,
    *,
    error: MakeError | None = None,
    seeds: Iterable[int] = (0,),
    point: int | None = None,
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    after: Callable[[], object] | None = None,
) -> int:
    """Run a scenario once for each call of a handler and each start of a task, which raises in place of what it does.

    What is checked, and all else, is as for `cancel_sweep`. The exception may leave the scenario, or be handled there.

    Args:
      error: an exception class, or a function without arguments that makes an exception. It is called once more, before
        the first run, to see that it makes one. Default: `Fault`.
      scenario, seeds, point, expected, after: as for `cancel_sweep`.

    Raises:
      TypeError: also if ``error`` makes no exception.

    Example::

        trsm.testing.raise_sweep(scenario, error=lambda: OSError("disk full"))
    """
    _check_error("raise_sweep", error)
    return _sweep(scenario, _Raise(error), seeds, point, expected, after)


def call_sweep(
    scenario: Scenario,
    owner: object,
    function: str,
    /,
    *,
    error: MakeError | None = None,
    seeds: Iterable[int] = (0,),
    point: int | None = None,
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    after: Callable[[], object] | None = None,
) -> int:
    """Run a scenario once for each call that it makes of a function, which raises in place of what it does.

    The function is replaced on its owner while the sweep runs, as pytest's ``monkeypatch.setattr`` would. What is
    checked, and all else, is as for `cancel_sweep`. The exception may leave the scenario, or be handled there.

    Args:
      owner: the class, module or object that has the function.
      function: the function's name there; it may be async.
      error: as for `raise_sweep`.
      scenario, seeds, point, expected, after: as for `cancel_sweep`.

    Raises:
      AttributeError: the owner has no such function.
      TypeError: also if it cannot be called, or ``error`` makes no exception.

    Example::

        trsm.testing.call_sweep(scenario, Store, "write", error=lambda: OSError("disk full"))
    """
    _check_error("call_sweep", error)
    if not isinstance(function, str):
        raise TypeError(f"call_sweep(…, {function!r}): name the function: call_sweep(scenario, Store, 'write')")
    found = getattr(owner, function)
    if not callable(found):
        raise TypeError(f"call_sweep(…, {function!r}): it is {found!r}, which nobody calls")
    return _sweep(scenario, _Call(owner, function, error), seeds, point, expected, after)


def _check_error(name: str, error: object) -> None:
    if error is not None and not callable(error):
        raise TypeError(
            f"{name}(…, error={error!r}): each run raises an exception of its own: pass its class, or lambda: {error!r}"
        )
    if error is not None:
        _made(name, cast("MakeError", error))


def _made(name: str, make: MakeError) -> BaseException:
    """Return an exception to be raised; one is made before the first run, to see that it can be."""
    return checked_error(f"{name}(…, error={make!r})", make)
