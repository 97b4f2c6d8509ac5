"""Records: classes of named fields that are set once, when they are made.

For what is internal they stand in for attrs, which writes code for each class and compiles it: the dearest thing when
trsm is imported. What users see is of attrs. Nothing may set a field later: type checkers see to that.
"""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

R = TypeVar("R", bound="Record")


@dataclass_transform(eq_default=False, frozen_default=True)
class RecordMeta(type):
    """Makes the annotations of a class its fields, in slots; what is assigned to one there is its default."""

    _fields: tuple[str, ...] = ()
    _defaults: dict[str, Any] = {}  # noqa: RUF012 - never changed: each class has its own

    def __new__(metacls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> RecordMeta:
        own = tuple(namespace.get("__annotations__", ()))
        defaults = {field: namespace.pop(field) for field in own if field in namespace}
        cls = super().__new__(metacls, name, bases, {**namespace, "__slots__": own})
        cls._fields = (*cls._fields, *own)
        cls._defaults = cls._defaults | defaults
        return cls


class Record(metaclass=RecordMeta):
    """What records inherit from. Two of them are never equal."""

    def __init__(self, *values: object, **named: object) -> None:
        cls = type(self)
        given = {**cls._defaults, **dict(zip(cls._fields, values, strict=False)), **named}
        for field in cls._fields:
            setattr(self, field, given[field])


def evolved(record: R, **changes: object) -> R:
    """Return a record like another but for these fields."""
    cls = type(record)
    return cls(**{**{field: getattr(record, field) for field in cls._fields}, **changes})
