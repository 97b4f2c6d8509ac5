"""Types of arguments that are hard to come by: names for type checkers alone, keys of a TypedDict, ``*`` and ``**``."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from dataclasses import InitVar
from typing import TYPE_CHECKING, Annotated, NamedTuple, NotRequired, Required, TypedDict, TypeVarTuple, Unpack

import attrs
import pytest

from trsm import Call, Engine, MutationError, Schema, State, Transition
from trsm._core._arguments import Arguments, fits

if TYPE_CHECKING:
    from decimal import Decimal

Ts = TypeVarTuple("Ts")


@attrs.frozen
class WithAttrs:
    n: int
    price: Decimal | None = None
    later: Later | None = None


@dataclasses.dataclass
class WithDataclass:
    n: int
    price: Decimal | None = None
    later: Later | None = None


class WithInit:
    def __init__(self, n: int, price: Decimal | None = None, later: Later | None = None) -> None:
        pass


class WithNew:
    def __new__(cls, n: int, price: Decimal | None = None, later: Later | None = None) -> WithNew:
        return super().__new__(cls)


class WithNames(NamedTuple):
    n: int
    price: Decimal | None = None
    later: Later | None = None


class Keys(TypedDict):
    n: int
    price: NotRequired[Decimal | None]
    later: NotRequired[Later | None]


def with_function(n: int, price: Decimal | None = None, later: Later | None = None) -> object:
    return n


@functools.wraps(with_function)
def with_wrapped(*args: object, **kwargs: object) -> object:
    return with_function(*args, **kwargs)


class Maker:
    def make(self, n: int, price: Decimal | None = None, later: Later | None = None) -> object:
        return n


class Later:
    """Made after those that take it."""


ALL: list[Callable[..., object]] = [
    WithAttrs,
    WithDataclass,
    WithInit,
    WithNew,
    WithNames,
    Keys,
    with_function,
    with_wrapped,
    Maker().make,
]


@pytest.mark.parametrize("make", ALL)
def test_one_type_that_cannot_be_resolved_leaves_the_others_checked(make: Callable[..., object]) -> None:
    """Only what is imported for type checkers alone goes unchecked."""
    arguments = Arguments(make)
    with pytest.raises(MutationError, match=r"^X\(n='bad'\): n is int, and this is str$"):
        arguments.instance("X", (), {"n": "bad"})
    with pytest.raises(MutationError, match=r"^X\(later=3\): later is .*Later.*, and this is int$"):
        arguments.instance("X", (), {"n": 1, "later": 3})
    arguments.instance("X", (), {"n": 1, "price": "what it is, nobody here can know", "later": Later()})


def test_a_class_of_no_module_is_checked_as_far_as_it_can_be() -> None:
    """What is made by ``exec`` has builtins all the same."""
    names: dict[str, object] = {"__name__": "nowhere"}
    exec("class Made:\n    def __init__(self, n: 'int', other: 'Unknown' = 0): pass", names)
    with pytest.raises(MutationError, match=r"X\(n='bad'\): n is int"):
        Arguments(names["Made"]).instance("X", ("bad",), {})
    Arguments(names["Made"]).instance("X", (1, "any"), {})


# ---- What only a dataclass takes -------------------------------------------------------------------------------------


def test_what_only_the_init_of_a_dataclass_takes_is_checked() -> None:
    """An `InitVar` is checked as the type in it."""

    @dataclasses.dataclass
    class Seeded:
        seed: InitVar[int]
        any: object = None

    with pytest.raises(MutationError, match=r"X\(seed='bad'\): seed is .*int.*, and this is str"):
        Arguments(Seeded).instance("X", ("bad",), {})
    assert isinstance(Arguments(Seeded).instance("X", (3,), {}), Seeded)


# ---- `*` and `**` ----------------------------------------------------------------------------------------------------


def spread(*rest: int, **flags: bool) -> object:
    return rest, flags


def test_each_of_many_arguments_is_checked() -> None:
    """By position, and by keyword under its own name."""
    arguments = Arguments(spread)
    with pytest.raises(MutationError, match=r"^X\(rest='bad'\): rest is int, and this is str$"):
        arguments.instance("X", (1, "bad"), {})
    with pytest.raises(MutationError, match=r"^X\(loud=3\): loud is bool, and this is int$"):
        arguments.instance("X", (), {"quiet": True, "loud": 3})
    assert arguments.instance("X", (1, 2), {"quiet": True}) == ((1, 2), {"quiet": True})


def test_what_is_unpacked_is_not_checked() -> None:
    """Only together would those values mean anything."""

    def by_place(*rest: *tuple[int, str]) -> object:
        return rest

    def of_any_types(*rest: *Ts) -> object:
        return rest

    def by_key(**more: Unpack[Keys]) -> object:
        return more

    assert Arguments(by_place).instance("X", (1, "x"), {}) == (1, "x")
    assert Arguments(of_any_types).instance("X", (1, "x"), {}) == (1, "x")
    assert Arguments(by_key).instance("X", (), {"n": 3}) == {"n": 3}
    assert fits(3, next(iter((*tuple[int, ...],))))


# ---- Keys of a TypedDict ---------------------------------------------------------------------------------------------


class Base(TypedDict):
    title: str
    year: NotRequired[int]
    place: Annotated[NotRequired[str], "a city"]


class Film(Base, total=False):
    rating: Required[float]
    tags: list[str]


class Cinema(Schema):
    """A state whose arguments are keys."""

    Shown = State(args=Film, multi=True)
    Empty = State(args=TypedDict("Empty", {}))
    Free = State(args=TypedDict("Odd", {"any thing": int}))
    Self = State(args=lambda self: self)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "argument: 'title'; it takes (*, title: str, year: NotRequired[int] = …, place: "),
        ({"title": "M"}, "missing a required argument: 'rating'"),
        ({"title": "M", "rating": 8, "name": 3}, "got an unexpected keyword argument 'name'; it takes (*, title"),
        ({"title": 3, "rating": 8}, "title is str, and this is int"),
        ({"title": "M", "rating": "8"}, "rating is Required[float], and this is str"),
        ({"title": "M", "rating": 8, "year": "1931"}, "year is NotRequired[int], and this is str"),
        ({"title": "M", "rating": 8, "tags": 3}, "tags is list[str], and this is int"),
    ],
)
def test_keys_of_a_typed_dict_are_its_arguments(given: dict[str, object], words: str) -> None:
    """What is missing, unknown or of another type is refused, as for any args class."""
    with pytest.raises(MutationError) as caught:
        Cinema.Shown(**given)
    assert words in str(caught.value)


def test_a_typed_dict_reaches_the_handlers() -> None:
    """As the dictionary that it is; keys that may be left out may."""
    seen: list[object] = []

    @Cinema.Shown.on_enter
    def note(t: Transition) -> None:
        seen.append(t.args_of(Cinema.Shown))

    engine = Engine(Cinema, note)
    assert engine.add(Cinema.Shown(title="M", rating=8))
    assert engine.add(Cinema.Shown(title="M", rating=8.3, year=1931, tags=[]))
    assert seen == [{"title": "M", "rating": 8}, {"title": "M", "rating": 8.3, "year": 1931, "tags": []}]
    with pytest.raises(MutationError, match=r"needs title and rating: write Cinema\.Shown\(title=…, rating=…\)"):
        engine.add(Cinema.Shown)
    with pytest.raises(MutationError, match=r"Shown takes Film, and this call carries 'junk'"):
        engine.add(Call(Cinema.Shown, "junk"))
    assert engine.add(Cinema.Empty)


def test_keys_that_are_no_names_are_not_checked() -> None:
    """No signature could show them."""
    assert Cinema.Free(**{"any thing": "unchecked"}).args == {"any thing": "unchecked"}


def test_a_key_whose_type_cannot_be_resolved_may_be_left_out() -> None:
    """Whether it is `NotRequired` is part of what cannot be resolved."""
    X = Schema.define("X", {"A": State(args=Keys)})
    assert X["A"](n=3).args == {"n": 3}


@pytest.mark.skipif(sys.version_info < (3, 13), reason="ReadOnly is there from Python 3.13 on")
def test_a_key_that_is_only_read_is_checked() -> None:
    """It says nothing of the value."""
    from typing import ReadOnly

    assert fits(3, ReadOnly[int])
    assert not fits("x", NotRequired[ReadOnly[int]])


# ---- The word `self` -------------------------------------------------------------------------------------------------


def test_an_argument_may_be_called_self() -> None:
    """Of an args class, and as a free keyword of each mutation and question."""
    assert Cinema.Self(self=3).args == 3
    seen: list[object] = []

    @Cinema.on_change
    def note(t: Transition) -> None:
        seen.append(t.args["self"])

    engine = Engine(Cinema, note)
    assert engine.can_add(Cinema.Empty, self=0)
    assert engine.add(Cinema.Empty, self=1)
    assert engine.can_remove(Cinema.Empty, self=0)
    assert engine.remove(Cinema.Empty, self=2)
    assert engine.toggle(Cinema.Empty, self=3)
    assert engine.set(Cinema.Empty, self=4)
    assert engine.mutate(remove=Cinema.Empty, self=5)
    assert seen == [1, 2, 3, 5]
