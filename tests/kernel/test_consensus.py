"""The consensus on bit masks against the slow model, against the laws, and directly where the model has no word."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import model.consensus as slow
from kernel.adapter import (
    assert_same,
    assert_same_error,
    compiled,
    in_names,
    is_simple,
    kernel,
    mask_of,
    names_of,
    request_of,
)
from kernel.fuzz import differs, random_situation
from model import enumerate3, strategies
from model.consensus import NOTHING, Names, StateForm, States
from model.laws import LAWS, Law
from proof import examples
from trsm._core import _consensus
from trsm._core._consensus import Kind, Request, decide

Situation = tuple[dict[str, StateForm], Names, slow.Kind, Names, Names, Names]
ErrorSituation = tuple[dict[str, StateForm], Names, Names, Names, Names]


def plain(*names: str, **forms: StateForm) -> dict[str, StateForm]:
    """A schema of the states given by keyword, in that order, and then of states that say nothing."""
    return {**forms, **{name: StateForm() for name in names}}


def some(states: States, smallest: int = 0) -> st.SearchStrategy[Names]:
    return strategies.some_names(states, smallest).map(frozenset)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """What the model's strategy makes, and in the automatic round some states barred."""
    states, active, kind, called, dropped = draw(strategies.situations())
    return states, active, kind, called, dropped, draw(some(states)) if kind == "auto" else NOTHING


@st.composite
def error_situations(draw: st.DrawFn) -> ErrorSituation:
    """States, active, called, seeds, barred."""
    states = draw(strategies.schemas())
    active = draw(strategies.active_sets(states))
    called = draw(some(states, smallest=1))
    return states, active, called, draw(some(states)) - called, draw(some(states)) - called


# --- Against the model -----------------------------------------------------------------------------------------------


@given(situation=situations())
@examples(500)
def test_random_situations_are_decided_as_the_model_does(situation: Situation) -> None:
    """Every field that both verdicts have is the same."""
    assert_same(*situation)


@given(situation=error_situations())
@examples(400)
def test_random_error_mutations_are_decided_as_an_add_by_the_model(situation: ErrorSituation) -> None:
    """An error mutation is an `add` whose called states add the seeds too."""
    assert_same_error(*situation)


@pytest.mark.parametrize("seed", range(4))
def test_dense_contests_are_decided_as_the_model_does(seed: int) -> None:
    """The first situations of the fuzz, with removes so dense that about half of them are contests."""
    random = Random(seed)
    for _ in range(2_500):
        assert differs(random_situation(random)) is None


@pytest.mark.promise(26)
def test_a_sample_of_three_states_is_decided_as_the_model_does(figure: Callable[..., None]) -> None:
    """Every run of 300 of the 15,625 schemas, always the same ones, the automatic round included."""
    for states in Random(26).sample(list(enumerate3.schemas()), 300):
        for active in enumerate3.valid_active_sets(states):
            for kind, called, dropped in enumerate3.mutations():
                assert_same(states, active, kind, called, dropped)
                figure(26, consensus_runs=1)
            automatic = {name: StateForm(**form, auto=True) for name, form in states.items()}
            assert_same(automatic, active, "auto")


@pytest.mark.promise(2, 21)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@given(situation=strategies.situations())
@examples(100)
def test_the_law_holds_of_the_kernel(
    law: Law, situation: tuple[dict[str, StateForm], Names, slow.Kind, Names, Names]
) -> None:
    """Each law of section 4 holds of the kernel's verdicts."""
    law(*situation, kernel)


@pytest.mark.promise(2, 21)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_law_holds_of_the_kernel_in_dense_contests(law: Law) -> None:
    """Each law of section 4 holds where half of the mutations are contests."""
    random = Random(law.__name__)
    for _ in range(300):
        law(*random_situation(random)[:5], kernel)


@given(situation=situations(), before=st.integers(0, 100), after=st.integers(0, 100))
@examples(200)
def test_states_that_have_nothing_to_do_with_it_change_nothing(situation: Situation, before: int, after: int) -> None:
    """A verdict is the same in a schema of any size, also beyond the bits of a machine word."""
    states, *rest = situation
    padded = plain(*(f"Before{number}" for number in range(before)))
    padded |= states
    padded |= plain(*(f"After{number}" for number in range(after)))
    assert kernel(padded, *rest) == kernel(states, *rest)


# --- Passes ----------------------------------------------------------------------------------------------------------


def passes_of(states: States, active: Names, request: Request, monkeypatch: pytest.MonkeyPatch) -> int:
    passes = 0
    original = _consensus._Contest._pass

    def counting(self: _consensus._Contest, candidates: int, assumed: int) -> int:
        nonlocal passes
        passes += 1
        return original(self, candidates, assumed)

    relations = compiled(states)
    with monkeypatch.context() as patch:
        patch.setattr(_consensus._Contest, "_pass", counting)
        verdict = decide(relations, mask_of(relations, active), request)
    candidates = verdict.called | verdict.incumbents | verdict.options
    bound = (verdict.options.bit_count() + 1) * (candidates.bit_count() + 1)
    assert passes <= bound, f"{passes} passes, at most {bound} are promised: {states}, {sorted(active)}, {request}"
    return passes


@pytest.mark.promise(3)
def test_no_verdict_takes_more_passes_than_promised(
    monkeypatch: pytest.MonkeyPatch, figure: Callable[..., None]
) -> None:
    """At most (options + 1) × (candidates + 1) passes, also in dense contests."""
    random = Random(4)
    most = 0
    for _ in range(5_000):
        states, active, kind, called, dropped, barred, _ = random_situation(random)
        request = request_of(compiled(states), kind, called, dropped, barred)
        most = max(most, passes_of(states, active, request, monkeypatch))
        figure(3, contests=1)
    assert most > 10


@pytest.mark.promise(3)
@pytest.mark.parametrize("size", [*range(3, 12, 2), 41])
def test_a_circle_of_options_that_remove_each_other_takes_no_more_passes_than_promised(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """In a circle of odd length one option after the other is left out, and the promise is kept."""
    names = [f"Option{number}" for number in range(size)]
    states: dict[str, StateForm] = {
        name: {"auto": True, "remove": [names[(place + 1) % size]]} for place, name in enumerate(names)
    }
    assert passes_of(states, NOTHING, Request(Kind.AUTO), monkeypatch) > 2
    assert_same(states, NOTHING, "auto")


@given(situation=situations())
@examples(250)
def test_a_contest_is_made_only_when_something_does_not_fit(situation: Situation) -> None:
    """When no candidates exclude each other and no requirement is missing, one pass of bit operations answers."""
    states, active, kind, called, dropped, barred = situation
    relations = compiled(states)
    made = 0

    class Counted(_consensus._Contest):
        def _find(self) -> int:
            nonlocal made
            made += 1
            return super()._find()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_consensus, "_Contest", Counted)
        decide(relations, mask_of(relations, active), request_of(relations, kind, called, dropped, barred))
    assert made == (not is_simple(states, slow.verdict(states, active, kind, called, dropped, barred)))


# --- What the model has no word for ----------------------------------------------------------------------------------


@given(situation=situations())
@examples(100)
def test_closing_takes_everything_out(situation: Situation) -> None:
    """The last mutation is accepted whatever is active, latched or not, and its target is empty."""
    states, active, *_ = situation
    relations = compiled(states)
    verdict = decide(relations, mask_of(relations, active), Request(Kind.CLOSE))
    assert (verdict.accepted, verdict.found, verdict.failed) == (True, 0, 0)


@given(states=strategies.schemas(), data=st.data())
@examples(200)
def test_a_removal_after_a_fault_is_decided_as_a_remove(states: dict[str, StateForm], data: st.DataObject) -> None:
    """What a fault brings differs from a `remove` only in what comes after the verdict."""
    active = data.draw(strategies.active_sets(states))
    relations = compiled(states)
    dropped = mask_of(relations, data.draw(some(states)))
    verdict = decide(relations, mask_of(relations, active), Request(Kind.REMOVAL, dropped=dropped))
    expected = kernel(states, active, "remove", NOTHING, names_of(relations, dropped))
    assert in_names(relations, active, verdict) == expected


def error_mutation(
    states: States, active: Names, called: str, seeds: Names = NOTHING, barred: Names = NOTHING
) -> tuple[bool, Names, Names]:
    """Accepted, found, options."""
    relations = compiled(states)
    request = Request(Kind.ERROR, mask_of(relations, {called}), mask_of(relations, barred), mask_of(relations, seeds))
    got = in_names(relations, active, decide(relations, mask_of(relations, active), request))
    return got.accepted, got.found, got.options


ERRORS: dict[str, StateForm] = {
    "Online": {},
    "Lost": {"multi": True, "require": ["Error"], "add": ["Error", "Retry"], "remove": ["Online"]},
    "Broken": {"multi": True, "require": ["Error"], "add": ["Error"], "remove": ["Retry"]},
    "Retry": {},
    "Error": {"multi": True},
}


def test_an_error_brings_the_matching_error_state_and_what_it_adds() -> None:
    """A seed comes as an option without a chain, fires its `add`, and removes what it removes."""
    got = error_mutation(ERRORS, frozenset({"Online"}), "Error", frozenset({"Lost"}))
    assert got == (True, frozenset({"Error", "Lost", "Retry"}), frozenset({"Lost", "Retry"}))


def test_an_error_that_no_error_state_matches_brings_error_alone() -> None:
    """Without seeds an error mutation is an `add` of `Error`."""
    assert error_mutation(ERRORS, frozenset({"Online"}), "Error") == (True, frozenset({"Online", "Error"}), NOTHING)


def test_an_error_state_that_refused_is_barred_and_its_chain_with_it() -> None:
    """A barred seed is no option, and nothing is reached through it."""
    got = error_mutation(ERRORS, frozenset({"Online"}), "Error", frozenset({"Lost"}), frozenset({"Lost"}))
    assert got == (True, frozenset({"Online", "Error"}), NOTHING)


def test_a_latched_state_that_is_barred_does_not_cancel_the_error() -> None:
    """What an error mutation bars does not leave, so that a latched state among it stays and cancels nothing."""
    states = plain("Error", Done={"latch": True})
    got = error_mutation(states, frozenset({"Done"}), "Error", barred=frozenset({"Done"}))
    assert got == (True, frozenset({"Done", "Error"}), NOTHING)


def test_an_error_state_that_matches_may_remove_what_another_one_brings() -> None:
    """Among options of an error mutation the table decides as ever: one-way, the remover wins."""
    got = error_mutation(ERRORS, NOTHING, "Error", frozenset({"Lost", "Broken"}))
    assert got == (True, frozenset({"Error", "Lost", "Broken"}), frozenset({"Lost", "Broken", "Retry"}))


def test_an_error_state_that_matches_stands_above_what_it_brings() -> None:
    """Seeds are one step away: declared later, one wins against a state of the second step that it is at odds with."""
    states: dict[str, StateForm] = {
        "Retry": {"remove": ["Broken"]},
        "Lost": {"multi": True, "add": ["Retry"]},
        "Broken": {"multi": True, "remove": ["Retry"]},
        "Error": {"multi": True},
    }
    got = error_mutation(states, NOTHING, "Error", frozenset({"Lost", "Broken"}))
    assert got == (True, frozenset({"Error", "Lost", "Broken"}), frozenset({"Lost", "Broken", "Retry"}))


def test_an_error_state_that_is_active_already_is_no_option() -> None:
    """A seed that is active stays as an incumbent, and brings nothing again."""
    active = frozenset({"Error", "Lost"})
    assert error_mutation(ERRORS, active, "Error", frozenset({"Lost"})) == (True, active, NOTHING)


# --- Named rules, each by the smallest schema that shows it ----------------------------------------------------------


def test_a_guard_that_lost_its_requirement_still_guards() -> None:
    """An incumbent that leaves because its requirement was dropped keeps out what it removes, in this mutation."""
    states = plain("Base", "Source", Guard={"require": ["Base"], "remove": ["Option"]}, Option={})
    states["Source"] = {"add": ["Option"]}
    got = kernel(states, frozenset({"Guard", "Base"}), "mutate", {"Source"}, {"Base"})
    assert (got.accepted, got.target, got.standing_incumbents) == (
        True, frozenset({"Source"}), frozenset({"Guard"})
    )  # fmt: skip


def test_a_called_state_that_a_standing_guard_removes_fails() -> None:
    """The verdict names the called state that cannot be, and what was active stays."""
    states = plain("Called", "Other", Guard={"remove": ["Called"]})
    got = kernel(states, frozenset({"Guard"}), "add", {"Called", "Other"})
    assert (got.accepted, got.target, got.failed) == (False, frozenset({"Guard"}), frozenset({"Called"}))


def test_a_latched_state_that_is_dropped_fails() -> None:
    """The verdict names the latched state that was to leave, also when nothing else is the matter."""
    states = plain("Other", Done={"latch": True})
    got = kernel(states, frozenset({"Done", "Other"}), "remove", (), {"Done", "Other"})
    assert (got.accepted, got.target, got.failed) == (False, frozenset({"Done", "Other"}), frozenset({"Done"}))


def test_an_option_that_was_left_out_comes_back_in_if_it_fits() -> None:
    """What was left out to break a circle comes in if, in the end, it harms nothing and lacks nothing."""
    states = plain("Killer", "Friend", Root={"auto": True, "add": ["Killer", "Friend"]})
    states["Killer"] = {"remove": ["Root"]}
    assert_same(states, NOTHING, "auto")
    assert kernel(states, NOTHING, "auto").target == frozenset({"Root", "Friend"})


def test_an_option_that_was_left_out_stays_out_if_it_lacks_something() -> None:
    """Of a circle of three the highest stands, and what requires another of them stays out with it."""
    states: dict[str, StateForm] = {
        "First": {"auto": True, "remove": ["Second"]},
        "Second": {"auto": True, "remove": ["Third"]},
        "Third": {"auto": True, "remove": ["First"]},
        "Fourth": {"auto": True, "require": ["Second"]},
    }
    assert_same(states, NOTHING, "auto")
    assert kernel(states, NOTHING, "auto").target == frozenset({"First"})
