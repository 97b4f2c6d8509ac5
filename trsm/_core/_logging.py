"""What happens in machines, as log records of the standard library: changes at INFO, decisions at DEBUG."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import cast

import attrs

from trsm._core._mutation import Canceled, QueuedMutation, Result
from trsm._core._tracing import Observed, Tracer
from trsm._core._transition import Transition

ROOT = logging.getLogger("trsm")
_NONE: frozenset[str] = frozenset()


class _Hung(logging.Logger):
    """A logger hung below ``trsm``, and not registered: the standard library keeps registered ones for ever."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.parent = ROOT

    def isEnabledFor(self, level: int) -> bool:  # a name of the standard library
        """Return whether ``trsm`` is: a logger remembers its answer, and nobody would tell this one to forget it."""
        return ROOT.isEnabledFor(level)


def configured(id: str) -> logging.Logger | None:
    """Return the logger ``trsm.<id>``, if somebody has made it."""
    logger = logging.Logger.manager.loggerDict.get(f"trsm.{id}")
    return logger if isinstance(logger, logging.Logger) else None


def checked_show(show: object, what: str) -> frozenset[str]:
    """Return the names of what may be shown, if they are such; `what` is how the argument is called.

    Raises:
      TypeError: they are not.
    """
    if show == ():
        return _NONE
    if isinstance(show, str) or not isinstance(show, Iterable):
        raise TypeError(f"{what}={show!r}: pass the names in a list or tuple, such as {what}=[{show!r}]")
    names = tuple(cast("Iterable[object]", show))
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{what}=[…]: {name!r} is no name: write the names of keywords and fields")
    return frozenset(cast("tuple[str, ...]", names))


def fields_of(instance: object) -> tuple[str, ...]:
    """Return the names of the fields of an args instance, as far as its class declares any."""
    import dataclasses  # not before: few programs need it, and all would wait for it

    kind = type(instance)
    if attrs.has(kind):
        return tuple(field.name for field in attrs.fields(kind))
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return ()


def logged(id: str | None, log_args: object, tracers: tuple[Tracer, ...]) -> tuple[Tracer, ...]:
    """Return the tracers of a machine that opens, with a `LogTracer` of its own if its logger is enabled for INFO.

    `id` is None if it has no name. One that is among the tracers stays the only one.

    Raises:
      TypeError: `log_args` are no names.
    """
    show = checked_show(log_args, "log_args")
    logger = (configured(id) if isinstance(id, str) else None) or ROOT
    if not logger.isEnabledFor(logging.INFO) or any(isinstance(tracer, LogTracer) for tracer in tracers):
        return tracers
    return (LogTracer(show), *tracers)


class LogTracer(Tracer):
    """Logs what a machine does to the logger ``trsm.<machine id>``: changes at INFO, decisions and reasons at DEBUG.

    A machine gets one by itself if that logger (where somebody has made it, with ``logging.getLogger``), or else
    ``trsm`` above it, is enabled for INFO when the machine is opened and none is among its ``tracers``. Attach one with
    ``machine.trace(LogTracer())`` to log a machine from some point on. Each record tells its machine: ``record.name``
    ends with the id.

    Args:
      show: the names of free keywords, and of fields of args instances (attrs classes and dataclasses), whose values
        may be logged; of all others only the names are. Default: none, so that no secret gets into a log. What an
        exception says of itself is logged.

    Raises:
      TypeError: `show` are no names.
    """

    def __init__(self, show: Iterable[str] = ()) -> None:
        self._show = checked_show(show, "show")

    def _logger(self, machine: Observed, level: int) -> logging.Logger | None:
        """Return the logger of a machine, if it is enabled: nothing is worked out for a record that nobody gets."""
        logger = configured(machine.id)
        if logger is not None:
            return logger if logger.isEnabledFor(level) else None
        # It is not kept: a tracer may see any number of machines, and outlive them all.
        return _Hung(f"trsm.{machine.id}") if ROOT.isEnabledFor(level) else None

    def _log(self, machine: Observed, level: int, message: str, *args: object) -> None:
        logger = self._logger(machine, level)
        if logger is not None:
            logger.log(level, message, *args)

    def _arguments(self, transition: Transition) -> str:
        """Return the arguments of a transition, with the values of those that may be shown."""
        words: list[str] = []
        for name, value in transition.args.items():
            words.append(f"{name}={value!r}" if name in self._show else f"{name}=…")
        calls = None if transition._mutation is None else transition._mutation.calls
        for number, instance in sorted((calls or {}).items()):
            fields = ", ".join(
                f"{name}={getattr(instance, name)!r}" if name in self._show and hasattr(instance, name) else f"{name}=…"
                for name in fields_of(instance)
            )
            words.append(f"{transition._definition.states[number]}({fields or '…'})")
        return f" with {', '.join(words)}" if words else ""

    def machine_opened(self, machine: Observed) -> None:
        """Log that a machine has opened."""
        self._log(machine, logging.INFO, "opened on %s", machine.schema.__name__)

    def machine_closed(self, machine: Observed) -> None:
        """Log that a machine has closed."""
        self._log(machine, logging.INFO, "closed")

    def schema_changed(self, machine: Observed, before: type) -> None:
        """Log that a machine has another schema."""
        self._log(machine, logging.INFO, "schema %s in place of %s", machine.schema.__name__, before.__name__)

    def mutation_queued(self, machine: Observed, mutation: QueuedMutation) -> None:
        """Log that a mutation waits."""
        self._log(machine, logging.DEBUG, "queued: %s at %d", mutation, mutation.result.tick)

    def resolved(self, machine: Observed, transition: Transition, is_accepted: bool) -> None:
        """Log why a mutation that relations allow does not bring, or keep, all that it might."""
        logger = self._logger(machine, logging.DEBUG) if is_accepted else None
        if logger is not None:
            from trsm._core._reasons import Explainer  # not before: few programs need it

            plan = transition._plan
            explanation = Explainer(transition._definition.relations, plan.active, plan.request).explain()
            if explanation.reasons:
                logger.debug("resolved: %s", _line(explanation.text))

    def committed(self, machine: Observed, transition: Transition) -> None:
        """Log what changed."""
        logger = self._logger(machine, logging.INFO)
        if logger is None:
            return
        signs = [f"+{state}" for state in transition.entering] + [f"-{state}" for state in transition.leaving]
        if not signs:
            return
        source = transition.source
        by = "" if source is None else f", by {source.handler} of {source.machine}"
        error = "" if transition.error is None else f": {transition.error!r}"
        arguments = self._arguments(transition)
        logger.info("%d %s: %s%s%s%s", transition.tick, transition.kind, " ".join(signs), arguments, by, error)

    def transition_ended(self, machine: Observed, transition: Transition, result: Result) -> None:
        """Log why a mutation was canceled."""
        logger = self._logger(machine, logging.DEBUG) if isinstance(result, Canceled) else None
        if logger is not None:
            logger.debug("canceled: %s", _line(cast("Canceled", result).reason))

    def handler_ended(
        self, machine: Observed, transition: Transition, handler: str, error: BaseException | None
    ) -> None:
        """Log what a handler raised; that it ran is of no interest."""
        if error is not None:
            self._log(machine, logging.DEBUG, "%s raised %r", handler, error)

    def slow_handler(self, machine: Observed, handler: str, seconds: float) -> None:
        """Log that a handler blocked every task."""
        self._log(machine, logging.WARNING, "%s took %.3f s, and blocked every task", handler, seconds)

    def task_started(self, machine: Observed, transition: Transition, task: str) -> None:
        """Log that a task runs."""
        self._log(machine, logging.DEBUG, "task %s started", task)

    def task_ended(self, machine: Observed, transition: Transition, task: str, error: BaseException | None) -> None:
        """Log how a task ended."""
        self._log(machine, logging.DEBUG, "task %s ended%s", task, "" if error is None else f": {error!r}")

    def unstable(self, machine: Observed, states: tuple[object, ...]) -> None:
        """Log what a second automatic round would change."""
        names = ", ".join(map(str, states))
        self._log(machine, logging.DEBUG, "a second automatic round would still change %s", names)


def _line(text: str) -> str:
    """Return sentences that stand on lines of their own as one line, as a record is."""
    return text.replace("\n", " ")
