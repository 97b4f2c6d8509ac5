"""Reasons (DESIGN section 4): each kind, told in sentences, in the user's own names, down to the root."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trsm import Canceled, Engine, Explanation, MutationError, Reason, Schema, State, Transition, UnknownState
from trsm._core._consensus import Kind, Request
from trsm._core._reasons import Explainer, describe


class House(Schema):
    """Something of everything; the names say what they do."""

    Step = State()
    Paused = State(remove=Step)
    Roof = State(require="Walls")
    Walls = State(require="Floor")
    Floor = State(require="Ground")
    Ground = State()
    Hen = State(require="Egg")
    Egg = State(require=Hen)
    Vow = State(latch=True)
    Breaks = State(remove=Vow)
    Brings = State(add=["Needy", "Pushes"])
    Needy = State(add="Follows", require=Ground)
    Follows = State(add="Further")
    Further = State()
    Pushes = State(remove="Weak")
    Weak = State()
    Guard = State(require="Post", remove="Thief")
    Post = State()
    Relief = State(remove=Post, add="Thief")
    Thief = State()
    Many = State(multi=True)


def explained(engine: Engine, kind: str, *states: State[..., object], **both: object) -> Explanation:
    """What is explained of a mutation, which is then made, and must end as foretold."""
    before = engine.ticks
    explanation = engine.explain(kind, *states, **both)  # type: ignore[arg-type]
    assert engine.ticks == before
    result = getattr(engine, kind)(*states, **both)
    assert bool(explanation) is explanation.accepted is bool(result)
    assert str(explanation) == explanation.text
    if isinstance(result, Canceled):
        assert result.reason == explanation.text
    return explanation


def active(*states: State[..., object]) -> Engine:
    engine = Engine(House, id="house")
    assert engine.add(*states)
    return engine


# ---- What would happen ----------------------------------------------------------------------------------------------


def test_an_explanation_says_who_comes_runs_again_and_leaves() -> None:
    """In declaration order, in numbers that agree; nothing asked for is missing, so there is no reason."""
    engine = Engine(House)
    for expected, kind, states in (
        ("add(Ground, Many): Ground and Many activate.", "add", [House.Many, House.Ground]),
        ("add(Many): Many runs again.", "add", [House.Many]),
        ("add(Floor, Many): Floor activates; Many runs again.", "add", [House.Many, House.Floor]),
        ("set(Step): Step activates; Floor, Ground and Many leave.", "set", [House.Step]),
        ("remove(Step): Step leaves.", "remove", [House.Step]),
        ("remove(Step): nothing changes.", "remove", [House.Step]),
        ("add(Step): Step activates.", "toggle", [House.Step]),
        ("remove(Step): Step leaves.", "toggle", [House.Step]),
    ):
        assert explained(engine, kind, *states) == Explanation(True, (), expected)
    assert explained(engine, "mutate", add=[House.Weak, House.Step], remove=House.Ground).text == (
        "mutate(add=(Step, Weak), remove=(Ground)): Step and Weak activate."
    )


def test_a_mutation_that_is_accepted_has_reasons_for_what_does_not_come_and_what_does_not_stay() -> None:
    """One for each state that was implied or there, beside what happens."""
    explanation = explained(active(House.Weak), "add", House.Brings)
    assert explanation.accepted
    assert explanation.reasons == (
        Reason("Needy", "requires", "Ground"),
        Reason("Follows", "nothing brings it"),
        Reason("Further", "nothing brings it"),
        Reason("Weak", "removed by", "Pushes"),
    )
    assert explanation.text.splitlines() == [
        "add(Brings): Brings and Pushes activate; Weak leaves.",
        "Needy cannot activate: it requires Ground, which is inactive, and nothing in this mutation activates Ground.",
        "Follows cannot activate: nothing that comes brings it.",
        "Further cannot activate: nothing that comes brings it.",
        "Weak cannot stay: Pushes removes it; Pushes comes with Brings.",
    ]


# ---- Each kind of reason --------------------------------------------------------------------------------------------


def test_removed_by_a_state_that_stays() -> None:
    """The example of the design."""
    explanation = explained(active(House.Paused), "add", House.Step)
    assert explanation.reasons == (Reason("Step", "removed by", "Paused"),)
    assert explanation.text == (
        "add(Step) is refused.\nStep cannot activate: Paused removes it; "
        "Paused stays, because nothing in this mutation removes Paused."
    )


def test_removed_by_a_state_that_is_called() -> None:
    """What was there leaves, and the reason says for whom."""
    explanation = explained(active(House.Step), "add", House.Paused)
    assert explanation.accepted and explanation.reasons == (Reason("Step", "removed by", "Paused"),)
    assert explanation.text.endswith("Step cannot stay: Paused removes it; Paused is called.")


def test_removed_by_a_guard_that_lost_its_requirement() -> None:
    """It leaves, and still guards in this mutation: nothing removes it directly."""
    explanation = explained(active(House.Guard, House.Post), "add", House.Relief)
    assert explanation.reasons == (
        Reason("Guard", "requires", "Post"),
        Reason("Post", "removed by", "Relief"),
        Reason("Thief", "removed by", "Guard"),
    )
    assert explanation.text.splitlines()[1:] == [
        "Guard cannot stay: it requires Post, which is not there; Post cannot stay: Relief removes it; "
        "Relief is called.",
        "Thief cannot activate: Guard removes it; Guard was active, and nothing in this mutation removes it directly.",
    ]


def test_requires_what_is_inactive() -> None:
    """The nearest requirement that is not there."""
    explanation = explained(Engine(House), "add", House.Roof)
    assert explanation.reasons == (Reason("Roof", "requires", "Walls"),)
    assert explanation.text.endswith(
        "Roof cannot activate: it requires Walls, which is inactive, and nothing in this mutation activates Walls."
    )


def test_requires_down_to_the_root() -> None:
    """What is required and goes is followed, to what this mutation removes."""
    engine = active(House.Walls, House.Floor, House.Ground)
    explanation = explained(engine, "mutate", add=House.Roof, remove=House.Ground)
    assert [reason.kind for reason in explanation.reasons] == ["requires"] * 3
    assert explanation.text.splitlines() == [
        "mutate(add=(Roof), remove=(Ground)) is refused.",
        "Roof cannot activate: it requires Walls, which is not there; Walls cannot stay: it requires Floor, which is "
        "not there; Floor cannot stay: it requires Ground, which this mutation removes.",
    ]


def test_requires_what_the_set_leaves_out() -> None:
    """A set that does not name a requirement says so."""
    explanation = explained(active(House.Floor, House.Ground), "set", House.Floor)
    assert not explanation
    assert explanation.text.endswith("Floor cannot stay: it requires Ground, which this mutation does not set.")


def test_a_circle_of_requirements_is_told_with_the_root_outside_of_it() -> None:
    """Another requirement that is missing comes first; where there is none, the reason beside the requirements."""
    explanation = explained(active(House.Hen, House.Egg), "remove", House.Egg)
    assert explanation.accepted and explanation.reasons == (Reason("Hen", "requires", "Egg"),)
    assert explanation.text.endswith("Hen cannot stay: it requires Egg, which this mutation removes.")

    class Trio(Schema):
        Push = State(remove="Three")
        One = State(require="Two")
        Two = State(require=["Three", One])
        Three = State(require=One)

    engine = Engine(Trio)
    engine.add(Trio.One, Trio.Two, Trio.Three)
    assert engine.explain("add", Trio.Push).text == (
        "add(Push): Push activates; One, Two and Three leave.\n"
        "One cannot stay: it requires Two, which is not there; Two cannot stay: it requires Three, which is not there; "
        "Three cannot stay: Push removes it; Push is called."
    )

    class Pair(Schema):
        Go = State(add="Middle")
        Middle = State(require="Missing", add="One")
        Missing = State()
        One = State(require="Two", add="Two")
        Two = State(require=One)

    assert Engine(Pair).explain("add", Pair.Go).text == (
        "add(Go): Go activates.\n"
        "Middle cannot activate: it requires Missing, which is inactive, and nothing in this mutation activates "
        "Missing.\n"
        "One cannot activate: it requires Two, which is not there; Two cannot activate: it requires One, which waits "
        "for it in turn; One cannot activate: nothing that comes brings it."
    )


def test_a_circle_of_what_brings_what_it_requires_is_told_with_what_is_in_its_way() -> None:
    """Neither comes without the other, and both together would harm what one of them requires."""

    class Ring(Schema):
        Brought = State(remove="Base")
        Base = State()
        Go = State(add="Both")
        Both = State(require=[Brought, Base], add=Brought)

    engine = Engine(Ring)
    engine.add(Ring.Base)
    assert explained(engine, "add", Ring.Go).text == (
        "add(Go): Go activates.\n"
        "Brought cannot activate: nothing that comes brings it; Both cannot activate: it requires Brought, which waits "
        "for it in turn; Brought cannot activate: it would remove Base; Base stays, because nothing in this mutation "
        "removes Base."
    )


def test_a_circle_that_was_left_out_to_decide_is_told_as_such() -> None:
    """Two that exclude each other and need each other; and two that wait while another circle is decided."""

    class Torn(Schema):
        Go = State(add="One")
        One = State(require="Two", add="Two")
        Two = State(remove=One)

    assert explained(Engine(Torn), "add", Torn.Go).text.splitlines()[1:] == [
        "One cannot activate: it requires Two, which is not there; Two cannot activate: nothing that comes brings it; "
        "Two removes One, so that they never are together."
    ]

    class Left(Schema):
        Go = State(add=["One", "Four"])
        Also = State(add=["Two", "Three"])
        One = State(require="Four")
        Two = State(require=One)
        Three = State(require=Two, remove=One)
        Four = State(require=One)

    explanation = explained(Engine(Left), "add", Left.Go, Left.Also)
    assert explanation.text.splitlines()[:2] == [
        "add(Go, Also): Go and Also activate.",
        "One cannot activate: it requires Four, which is not there; Four cannot activate: it requires One, which waits "
        "for it in turn; where exclusions go round in a circle, what comes last in standing is left out.",
    ]


def test_what_was_told_is_not_told_again() -> None:
    """Several that lack the same each say so, and it is explained once."""

    class Upwards(Schema):
        Ground = State()
        Floor = State(require=Ground)
        Walls = State(require=Floor)
        Tower = State(require=["Mast", "Flag"])
        Chapel = State(require="Mast")
        Mast = State()
        Flag = State()

    engine = Engine(Upwards)
    assert engine.explain("add", Upwards.Tower, Upwards.Chapel).text.splitlines()[1:] == [
        "Tower cannot activate: it requires Mast, which is inactive, and nothing in this mutation activates Mast.",
        "Chapel cannot activate: it requires Mast, which is inactive, and nothing in this mutation activates Mast.",
    ]
    engine.add(Upwards.Ground, Upwards.Floor, Upwards.Walls)
    assert engine.explain("remove", Upwards.Ground).text.splitlines()[1:] == [
        "Floor cannot stay: it requires Ground, which this mutation removes.",
        "Walls cannot stay: it requires Floor, which is not there, as was said.",
    ]


def test_excluded_by_another_called_state() -> None:
    """Whichever of the two removes the other; each has its own reason, and they differ in words."""
    explanation = explained(Engine(House), "add", House.Step, House.Paused)
    assert explanation.reasons == (
        Reason("Step", "excluded by", "Paused"),
        Reason("Paused", "excluded by", "Step"),
    )
    assert explanation.text.splitlines() == [
        "add(Step, Paused) is refused.",
        "Step cannot activate: Paused is called with it, and removes it.",
        "Paused cannot activate: Step is called with it, and Paused removes Step.",
    ]


def test_latched_states_cannot_leave() -> None:
    """Neither removed nor put out."""
    engine = active(House.Vow)
    explanation = explained(engine, "remove", House.Vow, House.Step)
    assert explanation.reasons == (Reason("Vow", "latched"),)
    assert explanation.text == (
        "remove(Step, Vow) is refused.\nVow cannot leave: it is latched, and stays until the machine closes."
    )
    explanation = explained(engine, "mutate", add=House.Step, remove=House.Vow)
    assert explanation.reasons == (Reason("Vow", "latched"),)
    explanation = explained(engine, "add", House.Breaks)
    assert explanation.reasons == (Reason("Breaks", "would remove", "Vow"),)
    assert explanation.text.endswith("Breaks cannot activate: it would remove Vow; Vow stays, because it is latched.")


def test_what_was_asked_to_go_needs_no_reason() -> None:
    """Only what was not asked for has one."""
    explanation = explained(active(House.Floor, House.Ground), "remove", House.Ground)
    assert explanation.reasons == (Reason("Floor", "requires", "Ground"),)


def test_nothing_brings_it_is_told_with_the_root() -> None:
    """Why the one that would have brought it does not come, unless that was said already."""

    class Chain(Schema):
        Last = State()
        Middle = State(add=Last, require="Base")
        Go = State(add=Middle)
        Base = State()

    engine = Engine(Chain)
    explanation = engine.explain("add", Chain.Go)
    assert explanation.reasons == (Reason("Last", "nothing brings it"), Reason("Middle", "requires", "Base"))
    assert explanation.text.splitlines()[1:] == [
        "Last cannot activate: nothing that comes brings it; Middle cannot activate: it requires Base, which is "
        "inactive, and nothing in this mutation activates Base."
    ]


class Tied(Schema):
    R = State()
    Call = State(require=R, add=["O", "W"])
    O = State(remove=R)  # noqa: E741
    W = State()
    Other = State(require=W, add=["Against", W])
    Against = State(remove=W)
    Itself = State(add="Mean")
    Mean = State(remove=Itself)
    Ring = State(add=["X", "Y", "Z"])
    X = State(remove="Y")
    Y = State(remove="Z")
    Z = State(remove=X)


@pytest.mark.parametrize(
    ("call", "loser", "by", "because"),
    [
        (Tied.Call, "O", "R", "R is required by what is called"),
        (Tied.Other, "Against", "W", "W is required by what is called"),
        (Tied.Itself, "Mean", "Itself", "Itself is called"),
        (Tied.Ring, "Z", "X", "X comes with Ring"),
    ],
)
def test_would_remove_what_stands_above_it(call: State[[], object], loser: str, by: str, because: str) -> None:
    """What is called, what the call requires, or what is preferred."""
    engine = Engine(Tied)
    engine.add(Tied.R)
    explanation = engine.explain("add", call)
    assert explanation.accepted
    assert Reason(loser, "would remove", by) in explanation.reasons
    assert f"{loser} cannot activate: it would remove {by}; {because}." in explanation.text
    assert engine.add(call) and not engine.is_active(Tied[loser])


def test_the_first_state_of_all_is_preferred_and_not_required() -> None:
    """Why it stands above the other is told of it as of any."""

    class Ring(Schema):
        X = State(remove="Y")
        Y = State(remove="Z")
        Z = State(remove=X)
        Call = State(add=[X, Y, Z])

    text = Engine(Ring).explain("add", Ring.Call).text
    assert "Z cannot activate: it would remove X; X comes with Call." in text


# ---- Handlers -------------------------------------------------------------------------------------------------------


class Door(Schema):
    Shut = State()
    Open = State(remove=Shut, add="Light")
    Light = State()


HANDLERS: dict[str, tuple[Callable[[Callable[[Transition], bool]], object], tuple[Reason, ...], str]] = {
    "can_enter": (Door.Open.can_enter, (Reason("Open", "refused by", "porter"),), "can_enter of Open (porter)"),
    "an implied state": (
        Door.Light.can_enter,
        (Reason("Light", "refused by", "porter"),),
        "can_enter of Light (porter)",
    ),
    "can_exit": (Door.Shut.can_exit, (Reason("Shut", "refused by", "porter"),), "can_exit of Shut (porter)"),
    "a pair": (
        Door.Open.can_enter(given=Door.Shut),
        (Reason("Open", "refused by", "porter"),),
        "can_enter of Open (porter)",
    ),
    "can_change": (Door.can_change, (), "can_change (porter)"),
}


@pytest.mark.parametrize("which", HANDLERS)
def test_refused_by_a_handler(which: str) -> None:
    """Which handler, of which state; asked as by `can_add`, and the same is the reason of the canceled mutation."""
    mark, refused, named = HANDLERS[which]
    seen: list[bool] = []

    def porter(t: Transition) -> bool:
        seen.append(t.dry_run)
        return False

    porter.__qualname__ = "porter"
    engine = Engine(Door)
    engine.add(Door.Shut)
    engine.bind(mark(porter))
    explanation = explained(engine, "add", Door.Open)
    assert not explanation and seen == [True, False]
    assert explanation.text.splitlines()[0] == f"add(Open) is refused: {named} refused."
    shut = () if which == "can_exit" else (Reason("Shut", "removed by", "Open"),)
    assert set(explanation.reasons) == {*refused, *shut}


def test_refused_by_a_handler_of_a_state_that_would_stay() -> None:
    """The state whose ``can_stay`` refused is in the reasons, though it would not have moved."""

    @Door.Light.can_stay
    def porter(t: Transition) -> bool:
        return False

    engine = Engine(Door)
    engine.add(Door.Light)
    engine.bind(porter)
    explanation = explained(engine, "add", Door.Shut)
    (reason,) = explanation.reasons
    assert (reason.state, reason.kind) == ("Light", "refused by")
    assert "can_stay of Light (test_refused" in explanation.text


def test_a_refusal_of_a_handler_is_told_alone_and_all_reasons_are_there() -> None:
    """Who would have left with the state that may not leave has a reason; the text says which handler it fails for."""

    class Lock(Schema):
        Shut = State()
        Bolt = State(require=Shut)
        Bar = State(require=Shut)
        Open = State(remove=Shut)

    def porter(t: Transition) -> bool:
        return False

    porter.__qualname__ = "porter"
    engine = Engine(Lock, Lock.Shut.can_exit(porter))
    engine.add(Lock.Shut, Lock.Bolt, Lock.Bar)
    for mutate, written in ((engine.add, "add(Open)"), (engine.set, "set(Open)")):
        result = mutate(Lock.Open)
        assert isinstance(result, Canceled)
        assert result.reason == f"{written} is refused: can_exit of Shut (porter) refused."
    assert engine.explain("add", Lock.Open).reasons == (
        Reason("Shut", "refused by", "porter"),
        Reason("Bolt", "requires", "Shut"),
        Reason("Bar", "requires", "Shut"),
    )


def test_a_refused_mutation_tells_who_fails_and_no_option_that_would_not_come() -> None:
    """Each called state that fails, down to the root, and what it fails for; the reasons of all others are kept."""
    engine = active(House.Paused, House.Weak)
    explanation = explained(engine, "add", House.Brings, House.Walls, House.Step)
    assert not explanation
    assert explanation.text.splitlines() == [
        "add(Step, Walls, Brings) is refused.",
        "Step cannot activate: Paused removes it; Paused stays, because nothing in this mutation removes Paused.",
        "Walls cannot activate: it requires Floor, which is inactive, and nothing in this mutation activates Floor.",
    ]
    assert explanation.reasons == (
        Reason("Step", "removed by", "Paused"),
        Reason("Walls", "requires", "Floor"),
        Reason("Needy", "requires", "Ground"),
        Reason("Follows", "nothing brings it"),
        Reason("Further", "nothing brings it"),
        Reason("Weak", "removed by", "Pushes"),
    )


def test_who_fails_for_an_option_is_told_down_to_what_keeps_that_option_out() -> None:
    """The option is told where it is the cause, and only there."""

    class Chain(Schema):
        Last = State(require="Option")
        Go = State(add="Option")
        Option = State(require="Base")
        Base = State()

    explanation = explained(Engine(Chain), "add", Chain.Last, Chain.Go)
    assert explanation.text.splitlines() == [
        "add(Last, Go) is refused.",
        "Last cannot activate: it requires Option, which is not there; Option cannot activate: it requires Base, which "
        "is inactive, and nothing in this mutation activates Base.",
    ]
    assert [reason.state for reason in explanation.reasons] == ["Last", "Option"]


def test_the_handler_that_refused_is_the_reason_of_what_it_would_have_brought() -> None:
    """Beside it stands what the relations alone decided."""

    @Door.Open.can_enter
    def porter(t: Transition) -> bool:
        return False

    engine = Engine(Door, porter)
    explanation = engine.explain("mutate", add=[Door.Open], remove=[Door.Light])
    assert [reason.kind for reason in explanation.reasons] == ["refused by"]
    assert explanation.text.startswith("mutate(add=(Open), remove=(Light)) is refused: can_enter of Open (")


def test_a_canceled_mutation_whose_handler_raised_says_what() -> None:
    """The error is reported too; the reason shows it."""

    @Door.Open.can_enter
    def porter(t: Transition) -> bool:
        raise ValueError("no key")

    @Door.Error.on_enter
    def handled(t: Transition) -> None:
        pass

    result = Engine(Door, porter, handled).add(Door.Open)
    assert isinstance(result, Canceled)
    assert result.reason.splitlines()[0].endswith("raised ValueError('no key').")
    assert "is refused: can_enter of Open (" in result.reason


def test_explain_asks_handlers_only_where_the_relations_agree() -> None:
    """As the mutation would."""
    asked: list[Transition] = []

    @House.Step.can_enter
    def ask(t: Transition) -> bool:
        asked.append(t)
        return True

    engine = active(House.Paused)
    engine.bind(ask)
    assert not engine.explain("add", House.Step)
    assert asked == []
    assert engine.explain("mutate", add=House.Step, remove=House.Paused)
    assert len(asked) == 1 and asked[0].dry_run and asked[0].kind == "mutate"


def test_explain_passes_arguments_and_says_which_are_missing() -> None:
    """Relations can be asked about without any; a handler that reads what was not given says what to write."""

    class Fetch(Schema):
        Fetching = State(args=lambda url: url)
        Sized = State(args=dict)

    @Fetch.Fetching.can_enter
    def is_local(t: Transition) -> bool:
        return str(t.args_of(Fetch.Fetching)).startswith("file:")

    @Fetch.Sized.can_enter
    def is_empty(t: Transition) -> bool:
        return not t.args_of(Fetch.Sized)

    engine = Engine(Fetch, is_local, is_empty)
    assert engine.explain("add", Fetch.Fetching("file:a"))
    assert not engine.explain("add", Fetch.Fetching("http:a"))
    assert engine.explain("mutate", add=Fetch.Fetching("file:a")) and engine.explain("toggle", Fetch.Fetching("file:a"))
    assert engine.explain("add", Fetch.Sized) and not engine.explain("add", Fetch.Sized(a=1))
    with pytest.raises(LookupError, match=r"t\.args_of\(Fetching\): explained without arguments: pass Fetch\.Fetching"):
        engine.explain("add", Fetch.Fetching)
    engine.detach(is_local)
    assert engine.explain("add", Fetch.Fetching)


# ---- Asking wrongly, and too late -----------------------------------------------------------------------------------


def test_explain_is_told_how_to_be_asked() -> None:
    """Each mistake with what to write instead."""
    engine = Engine(House)
    with pytest.raises(
        MutationError, match=r"""explain\('ad'\): write "add", "remove", "set", "toggle" or "mutate"$"""
    ):
        engine.explain("ad", House.Step)  # type: ignore[arg-type]
    with pytest.raises(MutationError, match=r'explain\("mutate", …\): write add=… and remove=…'):
        engine.explain("mutate", House.Step)
    with pytest.raises(MutationError, match=r"mutate\(\) names no state: write add=…, remove=… or both"):
        engine.explain("mutate")
    with pytest.raises(MutationError, match="Step cannot be added and removed at once"):
        engine.explain("mutate", add=House.Step, remove=[House.Step])
    for kind in ("add", "remove", "set", "toggle"):
        for both in ({"add": House.Weak}, {"remove": [House.Weak]}):
            with pytest.raises(
                MutationError, match=rf'explain\("{kind}", …\): add=… and remove=… go with "mutate" only'
            ):
                engine.explain(kind, House.Step, **both)  # type: ignore[arg-type]
        with pytest.raises(MutationError, match=rf'explain\("{kind}"\) names no state'):
            engine.explain(kind)  # type: ignore[arg-type]
        with pytest.raises(MutationError, match=rf"explain\(\"{kind}\"\): 'Step' is a name.*write House\.Step"):
            engine.explain(kind, "Step")  # type: ignore[arg-type]
        with pytest.raises(UnknownState, match=r"Door\.Shut is not a state of House"):
            engine.explain(kind, Door.Shut)  # type: ignore[arg-type]


def test_a_closing_machine_explains_that_it_closes() -> None:
    """As the mutation then is canceled; no handler is asked."""
    told: list[str] = []

    @Door.Shut.on_exit
    def ask(t: Transition) -> None:
        told.append(engine.explain("add", Door.Light).text)

    engine = Engine(Door, ask, id="door")
    engine.add(Door.Shut)
    engine.close()
    assert told == ["add(Light) is refused: machine 'door' is closing."]
    explanation = engine.explain("mutate", add=Door.Light, remove=Door.Shut)
    assert explanation == Explanation(
        False, (), "mutate(add=(Light), remove=(Shut)) is refused: machine 'door' is closed."
    )
    result = engine.mutate(add=Door.Light, remove=Door.Shut)
    assert isinstance(result, Canceled) and result.reason == "machine 'door' is closed"


# ---- The automatic round, and mutations that nobody asked for -------------------------------------------------------


def test_the_automatic_round_is_explained() -> None:
    """Auto states come by themselves; what they push out, and who stands in their way, is told the same way."""

    class Room(Schema):
        Go = State()
        One = State(auto=True, require=Go, remove="Two")
        Two = State(auto=True, require=Go, remove=One)
        Never = State(auto=True, require="Missing", add="Brought")
        Brought = State()
        Missing = State()

    relations = Room._definition.relations
    explanation = Explainer(relations, 1, Request(Kind.AUTO)).explain()
    assert explanation.text.splitlines() == [
        "the automatic round: One activates.",
        "Two cannot activate: One removes it; One comes by itself.",
        "Never cannot activate: it requires Missing, which is inactive, and nothing in this mutation activates "
        "Missing.",
        "Brought cannot activate: nothing that comes brings it.",
    ]  # fmt: skip
    barred = Explainer(relations, 1, Request(Kind.AUTO, 0, 2)).explain()
    assert barred.text.splitlines()[0] == "the automatic round: Two activates."


def test_every_kind_of_mutation_is_described() -> None:
    """As a user would write it, or in words where nobody does."""
    relations = Door._definition.relations
    assert {kind: describe(relations, Request(kind, 0b010, 0b101, 0b100)) for kind in Kind} == {
        Kind.ADD: "add(Open)",
        Kind.REMOVE: "remove(Shut, Light)",
        Kind.SET: "set(Open)",
        Kind.MUTATE: "mutate(add=(Open), remove=(Shut, Light))",
        Kind.AUTO: "the automatic round",
        Kind.ERROR: "the error mutation of Open and Light",
        Kind.REMOVAL: "remove(Shut, Light)",
        Kind.CLOSE: "close",
        Kind.OPEN: "open",
    }
