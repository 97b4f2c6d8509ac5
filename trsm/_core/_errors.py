"""Every exception that trsm raises, on the ground floor so that import circles have nowhere to start."""

from __future__ import annotations

from collections.abc import Iterable


class TrsmError(Exception):
    """The base of every exception that trsm itself raises."""


class SchemaError(TrsmError, ValueError):
    """A schema contradicts itself or names something that is not there; raised while its class is made."""


class UnknownState(TrsmError, LookupError):
    """A state was given that is not part of the machine's schema.

    Equal names do not make two states the same: a state belongs to the schema that declares it and to the
    schemas that inherit it.
    """


class HandlerError(TrsmError, TypeError):
    """A handler cannot be bound, or it broke the contract of its kind when it was called."""


class MutationError(TrsmError, ValueError):
    """A mutation was asked for in a way that cannot mean anything; raised before any effect."""


class ReadOnly(TrsmError, RuntimeError):
    """A negotiation handler or a waiter's predicate tried to change the machine that is asking it."""


class QueueFull(TrsmError, RuntimeError):
    """The queue holds as many mutations as it may; this one was refused, the accepted ones are all kept."""


class BufferFull(TrsmError, RuntimeError):
    """The reader of a ``transitions(…, overflow="raise")`` was too slow: what it would read next has a gap."""


class SnapshotError(TrsmError, ValueError):
    """A snapshot cannot be taken now, or the one that was given cannot be restored; the message names the field."""


class RestoredError(TrsmError):
    """What ``machine.error`` is after a restore: the text of the exception that was there when the snapshot was taken.

    Attributes:
      type_name: the name of that exception's type, after its module where it is not built in.
      text: what ``str()`` gave.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


class NotSettled(TrsmError, RuntimeError):
    """A drain went on beyond ``drain_limit`` transitions: some handlers feed themselves."""


class WrongThread(TrsmError, RuntimeError):
    """A machine was called from a thread other than the one that opened it."""


class MachineClosed(TrsmError, RuntimeError):
    """The machine closed before what was waited for came true; its cause is the first unhandled error.

    Attributes:
      machine: the machine that closed.
    """

    def __init__(self, message: str, machine: object) -> None:
        super().__init__(message)
        self.machine = machine


def listed(names: Iterable[str]) -> str:
    """Join names as an English list: ``A``, ``A and B``, ``A, B and C``."""
    *front, last = list(names) or ["nothing"]
    return f"{', '.join(front)} and {last}" if front else last


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known name most like `name`, or lists all, or says there are none."""
    names = list(known)
    if not names:
        return "there are none"
    import difflib  # not before: few programs need it, and all would wait for it

    match = difflib.get_close_matches(name, names, n=1)
    if match:
        return f"did you mean {match[0]!r}?"
    return f"known: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
