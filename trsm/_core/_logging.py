"""What happens in machines, as log records of the standard library: changes at INFO, decisions at DEBUG."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from trsm._core._mutation import Canceled, QueuedMutation, Result
from trsm._core._tracing import Observed, Tracer
from trsm._core._transition import Transition

ROOT = logging.getLogger("trsm")


def logger_of(id: str | None, *, is_named: bool = True) -> logging.Logger:
    """Return the logger ``trsm.<id>``.

    One that nobody has configured is not registered, only hung below ``trsm``: the standard library keeps registered
    loggers for ever, and machines come and go.
    """
    if id is None:
        return ROOT
    name = f"trsm.{id}"
    known = logging.Logger.manager.loggerDict.get(name) if is_named else None
    if isinstance(known, logging.Logger):
        return known
    logger = logging.Logger(name)
    logger.parent = ROOT
    return logger


class LogTracer(Tracer):
    """Logs what a machine does to the logger ``trsm.<machine id>``: changes at INFO, decisions and reasons at DEBUG.

    A machine gets one by itself if that logger, or ``trsm`` above it, is enabled for INFO when the machine is opened.
    Attach one with ``machine.trace(LogTracer())`` to log a machine from some point on.

    Args:
      show: the names of free keywords, and of fields of args instances, whose values may be logged; of all others only
        the names are. Default: none, so that no secret gets into a log.
    """

    def __init__(self, show: Iterable[str] = ()) -> None:
        if isinstance(show, str):
            raise TypeError(f"show={show!r}: pass the names in a list or tuple, such as show=[{show!r}]")
        self._show = frozenset(show)
        self._loggers: dict[str, logging.Logger] = {}

    def _log(self, machine: Observed, level: int, message: str, *args: object) -> None:
        logger = self._loggers.get(machine.id)
        if logger is None:
            logger = self._loggers[machine.id] = logger_of(machine.id)
        logger.log(level, message, *args)

    def _arguments(self, transition: Transition) -> str:
        """Return the arguments of a transition, with the values of those that may be shown."""
        words: list[str] = []
        for name, value in transition.args.items():
            words.append(f"{name}={value!r}" if name in self._show else f"{name}=…")
        for state in transition.called:
            if state.args is not None:
                instance: object = transition.args_of(state)
                shown = (name for name in self._show if hasattr(instance, name))
                fields = ", ".join(f"{name}={getattr(instance, name)!r}" for name in sorted(shown))
                words.append(f"{state}({fields or '…'})")
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
        names = ", ".join(str(state) for state in (*mutation.called, *mutation.dropped))
        self._log(machine, logging.DEBUG, "queued: %s(%s) at %d", mutation.kind, names, mutation.result.tick)

    def committed(self, machine: Observed, transition: Transition) -> None:
        """Log what changed."""
        signs = [f"+{state}" for state in transition.entering] + [f"-{state}" for state in transition.leaving]
        if not signs:
            return
        source = transition.source
        by = "" if source is None else f", by {source.handler} of {source.machine}"
        error = "" if transition.error is None else f": {transition.error!r}"
        arguments = self._arguments(transition)
        message = "%d %s: %s%s%s%s"
        self._log(
            machine, logging.INFO, message, transition.tick, transition.kind, " ".join(signs), arguments, by, error
        )

    def transition_ended(self, machine: Observed, transition: Transition, result: Result) -> None:
        """Log why a mutation was canceled."""
        if isinstance(result, Canceled):
            self._log(machine, logging.DEBUG, "canceled: %s", result.reason)

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
