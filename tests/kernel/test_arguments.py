"""Typed arguments: checked when a state is called, before any effect, with a message that names the field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NewType, Protocol, TypedDict, TypeVar, Union, runtime_checkable

import attrs
import pytest

from trsm import Call, Engine, MutationError, Schema, State, Transition
from trsm._core._arguments import Arguments, fits

Id = NewType("Id", int)
T = TypeVar("T")


class Movie(TypedDict):
    title: str


class Silent(Protocol):
    def shout(self) -> None: ...


@runtime_checkable
class Loud(Protocol):
    def shout(self) -> None: ...


class Shouter:
    def shout(self) -> None: ...


FITS: list[tuple[object, object, bool]] = [
    ("x", str, True),
    (3, str, False),
    (3, float, True),
    (3, complex, True),
    (3.5, int, False),
    (None, None, True),
    (3, None, False),
    (None, Union[int, None], True),
    (3, int | None, True),
    ("x", int | None, False),
    ("a", Literal["a", "b"], True),
    ("c", Literal["a", "b"], False),
    (True, Literal[1], False),
    ([1], list[int], True),
    (["x"], list[int], True),
    ((1,), list[int], False),
    ([1], Sequence[int], True),
    ({"title": 1}, Movie, True),
    ("x", Movie, False),
    (3, Id, True),
    ("x", Id, False),
    (3, T, True),
    (3, Any, True),
    (3, Annotated[int, "metres"], True),
    ("x", Annotated[int, "metres"], False),
    (len, Callable[..., int], True),
    (3, Callable[..., int], False),
    (int, type[int], True),
    (3, type[int], False),
    (3, Silent, True),
    (Shouter(), Loud, True),
    (3, Loud, False),
    (3, "a string", True),
]


@pytest.mark.parametrize(("value", "hint", "expected"), FITS)
def test_a_value_fits_a_type_as_far_as_can_be_seen(value: object, hint: object, expected: bool) -> None:
    """Contents are not looked through, and what only a type checker can judge passes."""
    assert fits(value, hint) is expected


@attrs.frozen
class Fetch:
    url: str
    retries: int = attrs.field(default=3, validator=attrs.validators.ge(0))
    wait: float = 1.0


@dataclass(frozen=True)
class Move:
    to: tuple[int, int]


@attrs.frozen
class Sized:
    width: int
    tags: list[str] = attrs.Factory(list)


@dataclass
class SizedData:
    width: int
    tags: list[str] = field(default_factory=list)


class Web(Schema):
    """States with args of several kinds."""

    Fetching = State(args=Fetch, multi=True)
    Moving = State(args=Move)
    Text = State(args=str)
    Spread = State(args=lambda *names, **more: (names, more))
    Odd = State(args=range)


def test_arguments_of_the_wrong_type_are_refused_by_name() -> None:
    """The field, what was written, what is due, and what it is."""
    with pytest.raises(MutationError, match=r"Fetching\(url=3\): url is str, and this is int"):
        Web.Fetching(url=3)
    with pytest.raises(MutationError, match=r"Fetching\(retries='4'\): retries is int, and this is str"):
        Web.Fetching("https://…", retries="4")
    with pytest.raises(MutationError, match=r"Moving\(to=\[1, 2\]\): to is tuple\[int, int\], and this is list"):
        Web.Moving(to=[1, 2])
    assert Web.Fetching("https://…", wait=2).args == Fetch("https://…", wait=2)


def test_arguments_that_are_missing_or_unknown_are_refused() -> None:
    """With the signature that it takes."""
    with pytest.raises(MutationError, match=r"Fetching\(…\): missing a required argument: 'url'; it takes \(url: "):
        Web.Fetching()
    with pytest.raises(MutationError, match="unexpected keyword argument 'address'"):
        Web.Fetching("", address="")


def test_an_argument_that_is_written_wrongly_is_named_before_the_one_that_is_missing_for_it() -> None:
    """What was written is shown; where a class takes any keyword, only something else can be wrong."""
    with pytest.raises(MutationError, match=r"got an unexpected keyword argument 'ur'; it takes \(url: "):
        Web.Fetching(ur="x")
    anything = Arguments(lambda first, **more: (first, more))
    with pytest.raises(
        MutationError, match=r"Any\(…\): missing a required argument: 'first'; it takes \(first, \*\*more\)"
    ):
        anything.instance("Any", (), {"frist": 1})
    with pytest.raises(MutationError, match="too many positional arguments"):
        anything.instance("Any", (1, 2), {})
    with pytest.raises(MutationError, match=r"positional.only"):
        Arguments(lambda only, /: only).instance("Placed", (), {"only": 1})


@pytest.mark.parametrize("make", [Sized, SizedData])
def test_a_default_that_is_made_anew_is_shown_as_such(make: type[object]) -> None:
    """By one word, whichever library made the class."""
    with pytest.raises(MutationError, match=r"it takes \(width: 'int', tags: 'list\[str\]' = <factory>\)$"):
        Arguments(make).instance("Sized", (), {})


def test_what_an_args_class_itself_refuses_comes_through() -> None:
    """A validator's own exception says more than we could."""
    with pytest.raises(ValueError, match="must be >= 0"):
        Web.Fetching("https://…", retries=-1)


def test_args_classes_without_signature_or_types_say_themselves_what_is_wrong() -> None:
    """Classes written in C, and functions without annotations."""
    assert Web.Text("x").args == "x"
    assert Web.Spread(1, 2, a=3).args == ((1, 2), {"a": 3})
    assert Web.Odd(3).args == range(3)
    with pytest.raises(MutationError, match=r"Odd\(…\)"):
        Web.Odd("x")


def test_hints_that_cannot_be_resolved_are_not_checked() -> None:
    """A name that exists for type checkers only."""

    def make(url: Nowhere) -> object:  # noqa: F821
        return url

    assert Arguments(make).instance("X", (3,), {}) == 3


def test_a_class_with_new_is_read_by_its_new() -> None:
    """Where there is no ``__init__``, ``__new__`` has the types."""

    class Made:
        def __new__(cls, number: int) -> object:
            return super().__new__(cls)

    with pytest.raises(MutationError, match=r"X\(number='x'\): number is int, and this is str"):
        Arguments(Made).instance("X", ("x",), {})


def test_a_call_made_by_hand_is_checked_too() -> None:
    """An instance of another class is refused before any effect."""
    engine = Engine(Web)
    with pytest.raises(MutationError, match=r"add: Fetching takes Fetch, and this call carries 'junk'"):
        engine.add(Call(Web.Fetching, "junk"))
    assert engine.is_inactive(Web.Fetching)
    assert engine.add(Call(Web.Fetching, Fetch("https://…"))).executed


@pytest.mark.parametrize(
    ("args", "written"),
    [
        (lambda a, b, *, c, d=3: None, "a, b and c: write X.A(a=…, b=…, c=…)"),
        (lambda a, /, b: None, "a and b: write X.A(a, b=…)"),
        (range, "its arguments: write X.A(…)"),
    ],
)
def test_what_to_write_where_arguments_are_missing(args: Callable[..., object], written: str) -> None:
    """What is passed by position alone is written so; what shows no signature cannot be named."""
    X = Schema.define("X", {"A": State(args=args)})
    with pytest.raises(MutationError) as caught:
        Engine(X).add(X["A"])
    assert str(caught.value) == f"add(A): A needs {written}"


def test_arguments_of_a_mutation_of_several_states() -> None:
    """Each state that mutate() adds is called with its own."""
    seen: list[object] = []

    class Handlers:
        @Web.Moving.on_enter
        def note(self, t: Transition) -> None:
            seen.extend((t.args_of(Web.Fetching), t.args_of(Web.Moving)))

    engine = Engine(Web, Handlers())
    assert engine.mutate(add=[Web.Fetching("https://…"), Web.Moving((1, 2))], remove=[Web.Text])
    assert seen == [Fetch("https://…"), Move((1, 2))]
