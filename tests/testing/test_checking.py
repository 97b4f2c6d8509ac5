"""What can hardly be meant in a schema: each kind has a schema that has it, and a near miss that has not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trsm
import trsm.schemas
from model.consensus import StateForm
from model.graph import Graph, automatic, needs
from model.strategies import schemas
from testing.test_exploring import groups_of, names, real
from trsm import Consensus, Engine, ErrorState, Schema, State, exclusive
from trsm.testing import Finding, Findings, TooManySets, check


def kinds(schema: type[Schema]) -> list[str]:
    return [one.kind for one in check(schema)]


def only(schema: type[Schema]) -> Finding:
    """Return the one finding of a schema, whose path is checked on an engine."""
    (found,) = check(schema)
    engine = Engine(schema)
    found.path.replay(engine)
    assert engine.active_states == found.path.active
    return found


# ---- Contradictory requires -----------------------------------------------------------------------------------------


def test_a_state_that_requires_two_of_which_one_removes_the_other_is_contradictory() -> None:
    """Directly, in one call; the path goes as far as it can, and its last mutation is refused."""

    class Ship(Schema):
        Docked = State(remove="Sailing")
        Sailing = State()
        Loading = State(require=(Docked, Sailing))

    found = only(Ship)
    assert (found.kind, found.severity) == ("contradictory-requires", "error")
    assert found.states == (Ship.Loading,)
    assert found.what == "Loading can never be active"
    assert found.why == (
        "Loading requires Docked; it requires Sailing; and Docked removes Sailing, so that the two are never active "
        "together."
    )
    assert (
        found.instead == "take Docked or Sailing out of what Loading requires, or take away remove=Sailing of Docked."
    )
    assert str(found.path) == "add(Ship.Docked), add(Ship.Loading)"
    assert found.path.active == (Ship.Docked,)
    assert [bool(one) for one in found.path.replay(Engine(Ship))] == [True, False]


def test_what_it_requires_without_one_removing_the_other_is_no_contradiction() -> None:
    """The near miss: either may be there with it."""

    class Ship(Schema):
        Docked = State(remove="Sailing")
        Sailing = State()
        Loading = State(require=Docked)
        Fishing = State(require=Sailing)

    assert not check(Ship)


def test_requirements_of_requirements_are_followed_and_what_depends_on_it_is_told_along() -> None:
    """One finding for the root; both directions of the removal are named where there are two."""

    class Ship(Schema):
        Docked = State()
        Sailing = State()
        where = exclusive(Docked, Sailing)
        Moored = State(require=Docked)
        Racing = State(require=(Moored, Sailing))
        Winning = State(require=Racing)
        Cheering = State(require=Winning)

    found = only(Ship)
    assert found.states == (Ship.Racing, Ship.Winning, Ship.Cheering)
    assert found.what == "Racing can never be active; nor can Winning and Cheering, which require it"
    assert found.why.startswith(
        "Racing requires Moored, which requires Docked; it requires Sailing; and Docked removes"
    )
    assert found.instead.endswith("or take away remove=Sailing of Docked and remove=Docked of Sailing.")
    assert str(found.path) == "add(Ship.Docked), add(Ship.Moored), add(Ship.Racing)"


def test_a_state_that_requires_what_removes_it_is_contradictory() -> None:
    """And so is one that removes what its requirement requires."""

    class Removed(Schema):
        Floor = State(remove="Lamp")
        Lamp = State(require=Floor)

    class Remover(Schema):
        Floor = State()
        Table = State(require=Floor)
        Lamp = State(require=Table, remove=Floor)

    found = only(Removed)
    assert found.states == (Removed.Lamp,)
    assert found.why == "Lamp requires Floor; and Floor removes Lamp."
    assert found.instead == "take Floor out of what Lamp requires, or take away remove=Lamp of Floor."
    found = only(Remover)
    assert found.why == "Lamp requires Table, which requires Floor; and Lamp removes Floor."


def test_a_circle_of_require_that_contradicts_itself_is_told_once() -> None:
    """It names all of the circle, and they are added together in the path."""

    class Pair(Schema):
        Left = State(require="Right")
        Right = State(require=Left, remove="Other")
        Other = State()
        Both = State(require=(Left, Other))
        Ring = State(require="Rung")
        Rung = State(require=(Ring, Both))

    found = check(Pair)
    assert [one.states for one in found] == [(Pair.Both, Pair.Ring, Pair.Rung)]

    class Circle(Schema):
        Left = State(require="Right")
        Right = State(require=("Left", "One"))
        One = State(remove=Left)

    found_one = only(Circle)
    assert found_one.states == (Circle.Left, Circle.Right)
    assert found_one.what == "Left and Right can never be active"
    assert str(found_one.path) == "add(Circle.One), add(Circle.Left, Circle.Right)"


# ---- Never active ---------------------------------------------------------------------------------------------------


def test_a_state_that_a_guard_keeps_out_forever_is_never_active() -> None:
    """The guard comes with what the state requires, and is never away while that is there."""

    class Vault(Schema):
        Powered = State()
        Alarm = State(auto=True, require=Powered, remove="Open")
        Open = State(require=Powered)
        Emptied = State(require=Open)

    found = only(Vault)
    assert (found.kind, found.severity) == ("never-active", "error")
    assert found.states == (Vault.Open, Vault.Emptied)
    assert found.what == "Open can never come; nor can Emptied, which requires it"
    assert found.why == (
        "even with (Powered Alarm), which is nearest to it: Open cannot activate: Alarm removes it; Alarm stays, "
        "because nothing in this mutation removes Alarm."
    )
    assert found.instead.startswith("let it remove what keeps it out, or take it out of the schema")
    assert str(found.path) == "add(Vault.Powered), add(Vault.Open)"
    assert str(found).endswith(
        "  path:    add(Vault.Powered), add(Vault.Open), of which the last is refused, with (Powered Alarm)"
    )


def test_a_state_that_may_come_once_its_guard_can_be_away_is_no_finding() -> None:
    """The near miss: the guard requires something else, too."""

    class Vault(Schema):
        Powered = State()
        Armed = State()
        Alarm = State(auto=True, require=(Powered, Armed), remove="Open")
        Open = State(require=Powered)
        Emptied = State(require=Open)

    assert not check(Vault)


def test_a_state_that_is_taken_away_in_each_automatic_round_is_warned_of() -> None:
    """It does come, for as long as its handlers run; that may be meant."""

    class Gate(Schema):
        Powered = State()
        Barrier = State(auto=True, require="Car", remove="Open")
        Car = State()
        Open = State(require=Car, add="Flag")
        Flag = State(require=Open)

    found = next(one for one in check(Gate) if one.kind == "never-active")
    assert found.severity == "error"  # Car brings the barrier before

    class Flash(Schema):
        Lit = State()
        Dark = State(auto=True, remove=Lit)
        Seen = State(require=Lit)

    findings = check(Flash)
    (found,) = findings.of("never-active")
    assert found.severity == "warning"
    assert found.states == (Flash.Lit, Flash.Seen)
    assert found.what == "Lit comes and never stays: an automatic round takes it away; nor can Seen, which requires it"
    assert found.why == "Dark removes Lit, and comes whenever it can, since it is auto."
    assert found.instead.startswith("let Lit remove what takes it away")
    assert str(found.path) == "add(Flash.Lit)"
    assert str(found).endswith("path:    add(Flash.Lit), which leads to (Dark)")


def test_a_state_that_stays_after_some_automatic_round_is_no_finding() -> None:
    """The near miss: it removes what took it away."""

    class Flash(Schema):
        Lit = State(remove="Dark")
        Dark = State(auto=True, remove=Lit)
        Seen = State(require=Lit)

    assert not check(Flash)


def test_what_an_automatic_round_takes_away_through_others_is_told_too() -> None:
    """The reason is what it then lacks, or what an auto state brought."""

    class Lacking(Schema):
        Held = State()
        Hand = State(add=Held, require=Held)
        Drop = State(auto=True, remove=Held)

    (found, *_) = [one for one in check(Lacking).of("never-active") if Lacking.Held in one.states]
    assert found.why == "Drop removes Held, and comes whenever it can, since it is auto."

    class Brought(Schema):
        Power = State()
        Held = State(require=Power, add="Rope")
        Rope = State()
        Wind = State(auto=True, require=(Rope, "Gust"), add="Gust")
        Gust = State(require=Wind, remove=Held)

    (found,) = check(Brought).of("never-active")
    assert str(found.path) == "add(Brought.Power), add(Brought.Held)"
    assert found.why == "Gust removes Held, and comes whenever it can, since an auto state brings it."

    class Both(Schema):
        Left = State(require="Right")
        Right = State(require=Left)
        Wind = State(auto=True, remove=Right)

    (found,) = check(Both).of("never-active")
    assert found.states == (Both.Left, Both.Right)
    assert found.what == "Left and Right come and never stay: an automatic round takes them away"
    assert found.why == "Left requires Right, which the automatic round takes away."


# ---- Never leaves ---------------------------------------------------------------------------------------------------


def test_an_auto_state_that_always_comes_back_can_never_leave() -> None:
    """It is removed, and the automatic round brings it back in the same step."""

    class Service(Schema):
        Log = State(auto=True)
        Up = State()

    found = only(Service)
    assert (found.kind, found.severity) == ("never-leaves", "warning")
    assert found.states == (Service.Log,)
    assert found.what == "Log can never leave, once (Log) is reached"
    assert found.why.startswith("it is auto: when it is removed, the automatic round brings it back in the same step")
    assert found.instead.startswith("if it is meant to stay, say so with latch=True; else let Log require something")
    assert str(found.path) == "add(Service.Log), remove(Service.Log)"


def test_what_may_leave_or_is_said_to_stay_is_no_finding() -> None:
    """The near misses: latched, requiring what ends, or removed by something that can come."""

    class Latched(Schema):
        Log = State(auto=True, latch=True)
        Up = State()

    class Requiring(Schema):
        Log = State(auto=True, require="Up")
        Up = State()

    class Removed(Schema):
        Log = State(auto=True)
        Up = State(remove=Log)

    assert not check(Latched)
    assert not check(Requiring)
    assert not check(Removed)


def test_what_comes_back_with_an_auto_state_can_never_leave_either() -> None:
    """It takes along what brings it, which then comes again and brings it again."""

    class Service(Schema):
        Lamp = State()
        Keeper = State(auto=True, require=Lamp, add=Lamp)
        Other = State()

    lamp, keeper = check(Service).of("never-leaves")
    assert (lamp.states, keeper.states) == ((Service.Lamp,), (Service.Keeper,))
    assert lamp.why.startswith("an auto state brings it: when it is removed, the automatic round brings it back")
    assert str(lamp.path) == "add(Service.Lamp), remove(Service.Lamp)"


def test_a_state_that_can_never_leave_from_some_set_on_is_found_there() -> None:
    """Before, it came and went; the path leads to where that ends."""

    class Fire(Schema):
        Rain = State(remove="Burning")
        Wood = State()
        Roof = State(latch=True, remove=Rain)
        Burning = State(auto=True, require=Roof)

    found = only(Fire)
    assert found.states == (Fire.Burning,)
    assert found.what == "Burning can never leave, once (Roof Burning) is reached"
    assert str(found.path) == "add(Fire.Roof), remove(Fire.Burning)"

    class Simple(Schema):
        Wood = State()
        Warm = State(auto=True, require=Wood)
        Burning = State(auto=True)

    found = only(Simple)
    assert found.what == "Burning can never leave, once (Burning) is reached", "of two sets as near the smaller one"
    assert str(found.path) == "add(Simple.Burning), remove(Simple.Burning)"

    class Leaking(Schema):
        Rain = State(remove="Burning")
        Wood = State()
        Roof = State(remove=Rain)
        Burning = State(auto=True, require=Roof)

    assert not check(Leaking)


# ---- Dead ends ------------------------------------------------------------------------------------------------------


class Locks(Schema):
    Locked = State(auto=True, remove="Open")
    Open = State()
    Inside = State(require=Open)


def test_a_set_from_which_nothing_goes_on_is_a_dead_end() -> None:
    """Whatever is added is refused, whatever is removed comes back."""
    (found,) = check(Locks).of("dead-end")
    assert found.severity == "error"
    assert found.states == (Locks.Locked,)
    assert found.what == "nothing goes on with (Locked), whatever is added or removed"
    assert found.why == (
        "Locked comes back in the automatic round when removed; Open is removed by Locked; Inside requires Open."
    )
    assert "let a state that should come remove what keeps it out" in found.instead
    assert "latch the states of this set if it is an outcome" in found.instead
    assert str(found.path) == "add(Locks.Locked)"


def test_a_set_that_can_be_left_is_no_dead_end() -> None:
    """The near miss: what should come removes what kept it out."""

    class Unlocked(Schema):
        Locked = State(auto=True, remove="Open")
        Open = State(remove=Locked)
        Inside = State(require=Open)

    assert not check(Unlocked)


def test_an_outcome_is_no_dead_end() -> None:
    """Where all that is active is latched, the end was declared."""

    class Game(Schema):
        Won = State(latch=True, remove="Lost")
        Lost = State(latch=True, remove=Won)

    class Played(Schema):
        Won = State(latch=True, remove="Lost")
        Lost = State(latch=True, remove=Won)
        Shown = State(auto=True, require=("Won",))

    assert not check(Game)
    (found,) = check(Played).of("dead-end")
    assert found.path.active == (Played.Won, Played.Shown)
    assert found.why == (
        "Shown comes back in the automatic round when removed; Won is latched; Lost is removed by Won."
    )


def test_a_multi_state_that_can_be_called_again_goes_on() -> None:
    """Each call runs its handlers, though the set stays what it is."""

    class Beating(Schema):
        Heart = State(auto=True, multi=True)

    assert kinds(Beating) == ["never-leaves"]


def test_an_error_is_no_way_out_of_a_dead_end() -> None:
    """Nobody plans it; a set with an active error, which can be removed, is no dead end itself."""

    class Stuck(Schema):
        Locked = State(auto=True, remove="Open")
        Open = State()
        ErrKey = ErrorState(catches=KeyError)

    (found,) = check(Stuck).of("dead-end")
    assert found.path.active == (Stuck.Locked,)
    assert "nor in" not in found.what


def test_an_error_that_comes_back_by_itself_is_no_way_out_either() -> None:
    """`Error` is multi, and calling it again is nobody's plan."""

    class Panicking(Schema):
        Panic = State(auto=True, require="Error", add="Error")

    (found,) = check(Panicking).of("dead-end")
    assert found.path.active == (Panicking.Panic, Panicking["Error"])


def test_a_start_from_which_nothing_can_be_added_is_a_dead_end() -> None:
    """With nothing active; a schema that has no states of its own has none to complain of."""

    class Never(Schema):
        One = State(require="Two", remove="Three")
        Two = State(require="Three")
        Three = State(require=One)

    class Empty(Schema):
        pass

    assert not check(Empty)
    contradiction, dead = check(Never)
    assert contradiction.what == "One, Two and Three can never be active"
    assert dead.kind == "dead-end"
    assert dead.what == "nothing goes on with nothing active, whatever is added or removed"
    assert dead.why == "One requires Two; Two requires Three; Three requires One."
    assert dead.instead == "let a state that should come remove what keeps it out, or not require what is not there."
    assert str(dead).endswith("path:    nothing, which leads to nothing active")


def test_several_dead_ends_are_told_once_with_their_number() -> None:
    """That with the shortest path."""

    class Ends(Schema):
        Left = State(auto=True, latch=True, remove=("Right", "Way"))
        Right = State(auto=True, latch=True, remove=("Left", "Way"))
        Way = State()
        Note = State(auto=True)

    (found,) = check(Ends).of("dead-end")
    assert found.what.endswith("whatever is added or removed; nor in 1 other set")


def test_each_state_that_cannot_come_in_a_dead_end_has_its_reason() -> None:
    """What removes it, what it lacks, what is latched, and what it would take away itself."""

    class Stuck(Schema):
        Base = State(auto=True)
        Held = State(auto=True, require=Base, remove="Pushed")
        Fixed = State(auto=True, latch=True)
        Pushed = State()
        Lonely = State(require=Pushed)
        Rival = State(remove=Fixed)
        Odd = State(require=Held, remove=Base)

    (found,) = check(Stuck).of("dead-end")
    assert found.why == (
        "Base and Held come back in the automatic round when removed; Fixed is latched; Pushed is removed by Held; "
        "Lonely requires Pushed; Rival would remove Fixed; Odd would take away what it requires."
    )


def test_a_state_left_out_may_be_the_way_out() -> None:
    """`without` says that the exploration does not add it, and not that nobody can."""

    class Stuck(Schema):
        Locked = State(auto=True, remove="Open")
        Open = State()
        Key = State(remove=Locked)

    assert check(Stuck, without=[Stuck.Key]).of("dead-end") == ()
    assert len(check(Locks, without=[Locks.Open]).of("dead-end")) == 1

    class Failing(Locks):
        ErrKey = ErrorState(catches=KeyError, remove=Locks.Locked)

    assert len(check(Failing, without=[Failing.ErrKey, Failing["Error"]]).of("dead-end")) == 1


# ---- Ties -----------------------------------------------------------------------------------------------------------


def test_auto_states_between_which_only_the_order_of_declaration_decides_are_tied() -> None:
    """Who comes and who would have, in one finding for each who comes."""

    class Radio(Schema):
        Power = State()
        Music = State(auto=True, require=Power, remove=("News", "Talk"))
        News = State(auto=True, require=Power, remove=("Music", "Talk"))
        Talk = State(auto=True, require=Power, remove=("Music", "News"))

    (found,) = check(Radio).of("auto-tie")
    assert found.severity == "warning"
    assert found.states == (Radio.Music, Radio.News, Radio.Talk)
    assert found.what == "only the order of declaration decides that Music comes by itself, and not News or Talk"
    assert found.why.startswith(
        "after add(Radio.Power) the automatic round could bring either; they exclude one another"
    )
    assert found.why.endswith("and Music is declared first.")
    assert found.instead.startswith("let only one remove the other")
    assert str(found.path) == "add(Radio.Power)"
    assert found.path.active == (Radio.Power, Radio.Music)


def test_each_tie_is_told_with_a_path_that_shows_it() -> None:
    """A rival that can come later only is told by itself: the path to the first does not show it."""

    class Radio(Schema):
        Power = State()
        Mic = State(require=Power)
        Music = State(auto=True, require=Power, remove=("News", "Talk"))
        News = State(auto=True, require=Power, remove=("Music", "Talk"))
        Talk = State(auto=True, require=Mic, remove=("Music", "News"))

    first, second, *_ = check(Radio).of("auto-tie")
    assert (first.states, str(first.path)) == ((Radio.Music, Radio.News), "add(Radio.Power)")
    assert second.states == (Radio.Music, Radio.Talk)
    assert str(second.path).startswith("add(Radio.Power), add(Radio.Mic), remove(Radio.")
    assert Radio.Mic in second.path.active


def test_a_tie_that_no_rival_wins_is_told_of_who_does_not_come() -> None:
    """What decided it has not come itself: with Doors before Alarm, Fire brings both; as it is, none of the three."""

    class House(Schema):
        Fire = State(auto=True, require="Doors", add=("Alarm", "Doors"))
        Alarm = State(remove=(Fire, "Doors"))
        Doors = State()
        Night = State()

    (found,) = check(House).of("auto-tie")
    assert found.states == (House.Doors,)
    assert found.what == "only the order of declaration decides that Doors does not come by itself"
    assert found.why.startswith("after add(House.Night) the automatic round leaves Doors out, and would bring it if it")
    assert found.instead.startswith("let nothing that comes by itself bring two states of which one removes the other")
    assert found.path.active == (House.Night,)

    class Mended(House):
        Alarm = House.Alarm.replace(remove=())

    assert not check(Mended).of("auto-tie")


def test_auto_states_of_which_one_removes_the_other_are_not_tied() -> None:
    """The near misses: the remover wins in any order; and what is never there together is no tie."""

    class OneWay(Schema):
        Power = State()
        Music = State(auto=True, require=Power)
        News = State(auto=True, require=Power, remove=Music)

    class Apart(Schema):
        Power = State(remove="Battery")
        Battery = State(remove="Power")
        Music = State(auto=True, require=Power, remove="News")
        News = State(auto=True, require=Battery, remove=Music)

    class Steps(Schema):
        Power = State()
        News = State(remove="Music")
        Music = State(auto=True, require=Power, remove=News)
        Wake = State(auto=True, require=Power, add=News)

    for schema in (OneWay, Apart, Steps):
        assert not check(schema).of("auto-tie"), schema


def test_a_circle_of_removals_is_decided_by_the_order_of_declaration() -> None:
    """Each removes the next, so that whoever is declared last is left out first."""

    class Rock(Schema):
        Play = State()
        Paper = State(auto=True, require=Play, remove="Stone")
        Stone = State(auto=True, require=Play, remove="Scissors")
        Scissors = State(auto=True, require=Play, remove=Paper)

    found, lost = check(Rock).of("auto-tie")
    assert found.states == (Rock.Paper, Rock.Scissors)
    # Where Scissors were called, Paper is out; and Stone too, since it is declared after Paper, which removes it.
    assert lost.states == (Rock.Stone,)
    assert lost.path.active == (Rock.Play, Rock.Scissors)


def test_a_tie_of_error_is_none_since_it_is_always_last() -> None:
    """No order of declaration could put `Error` before another."""

    class Odd(Schema):
        Go = State()
        Calm = State(auto=True, require=Go, remove="Error")
        Panic = State(auto=True, require=Go, add="Error")

    assert check(Odd).of("auto-tie") == ()


# ---- Unstable automatic rounds --------------------------------------------------------------------------------------


class Slow(Schema):
    Go = State()
    Rail = State()
    Guard = State(require=Rail, remove="Train")
    Train = State(auto=True)
    Storm = State(auto=True, require=Go, remove=Rail)


def test_a_change_that_a_second_automatic_round_would_make_is_found() -> None:
    """A guard that leaves in the first still keeps something out of it."""
    found = only(Slow)
    assert (found.kind, found.severity) == ("unstable-auto", "warning")
    assert found.states == (Slow.Train,)
    assert found.what == "a second automatic round would bring Train, where (Go Storm) is active"
    assert found.why == "Guard keeps Train out until the round is over, and leaves in it, since it requires Rail."
    assert found.instead.startswith("let what ends a guard's requirement remove the guard too")
    assert str(found.path) == "add(Slow.Rail), add(Slow.Guard), add(Slow.Go)"


def test_a_circle_of_exclusions_that_the_first_round_decides_otherwise_than_the_second_is_found() -> None:
    """What is there is decided about in another way than what may come."""

    class Odd(Schema):
        Lamp = State(remove="Wind")
        Rain = State(auto=True, remove=Lamp)
        Wind = State(auto=True, remove=Rain)

    (found,) = check(Odd).of("unstable-auto")
    assert found.states == (Odd.Rain, Odd.Wind)
    assert found.what == "a second automatic round would bring Wind and remove Rain, where (Rain) is active"
    assert found.why == (
        "Wind and Rain exclude each other, and the first round decides for Rain, which Wind removes once it is there."
    )
    assert str(found.path) == "add(Odd.Lamp)"


def test_a_guard_that_is_removed_itself_leaves_nothing_to_a_second_round() -> None:
    """The near miss."""

    class Quick(Slow):
        Storm = Slow.Storm.extend(remove=Slow.Guard)

    assert not check(Quick)


def test_a_change_that_several_sets_wait_for_is_told_once() -> None:
    """That with the shortest path."""

    class Beside(Slow):
        Other = State()

    (found,) = check(Beside).of("unstable-auto")
    assert found.path.active == (Beside.Go, Beside.Storm)


def test_an_engine_reports_the_same_instability() -> None:
    """What tracers are told is what was found."""
    told: list[tuple[State, ...]] = []

    class Watch(trsm.Tracer):
        def unstable(self, machine: trsm.Observed, states: tuple[State, ...]) -> None:
            told.append(states)

    only(Slow).path.replay(engine := Engine(Slow, tracers=[Watch()]))
    assert told == [(Slow.Train,)]
    assert engine.active_states == (Slow.Go, Slow.Storm)


# ---- The whole ------------------------------------------------------------------------------------------------------


def test_findings_are_a_record_to_read_and_to_pass_on() -> None:
    """Errors first; as text, and as data that JSON gives back as it was."""
    findings = check(Locks)
    assert isinstance(findings, Findings)
    assert [one.severity for one in findings] == ["error", "warning", "warning"]
    assert [one.kind for one in findings] == ["dead-end", "never-active", "never-leaves"]
    assert len(findings) == 3
    assert findings
    assert (findings.schema, findings.sets, findings.limit) == (Locks, 2, 50_000)
    assert repr(findings) == "<Findings in Locks: dead-end, never-active, never-leaves>"
    text = str(findings)
    assert text.startswith("Locks: 1 error and 2 warnings; 2 reachable sets of states, all looked at\n\nerror: nothing")
    assert all(str(one) in text for one in findings)
    assert max(map(len, text.splitlines())) <= 100
    data = findings.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["schema"] == "Locks"
    assert (data["sets"], data["limit"]) == (2, 50_000)
    first = findings.findings[0]
    assert (
        data["findings"][0]
        == first.to_dict()
        == {  # type: ignore[index]
            "kind": "dead-end",
            "severity": "error",
            "states": ["Locked"],
            "what": first.what,
            "why": first.why,
            "instead": first.instead,
            "path": ["add(Locks.Locked)"],
            "active": ["Locked"],
        }
    )
    assert repr(first) == f"<Finding dead-end: {first.what}>"
    with pytest.raises(AttributeError):
        first.what = "nothing"  # type: ignore[misc]
    assert {first, *findings} == set(findings)


def test_a_sound_schema_has_no_findings() -> None:
    """False, empty, and a line that says how much was looked at."""
    findings = check(trsm.schemas.Basic)
    assert not findings
    assert list(findings) == []
    assert str(findings) == "Basic: nothing found; 45 reachable sets of states, all looked at"
    assert repr(findings) == "<Findings in Basic: none>"
    assert str(check(Schema)) == "Schema: nothing found; 1 reachable set of states, all looked at"


SCHEMAS = {name for name, value in vars(trsm.schemas).items() if isinstance(value, type) and issubclass(value, Schema)}


@pytest.mark.parametrize("name", [name for name in trsm.schemas.__all__ if name in SCHEMAS])
def test_the_ready_made_schemas_are_sound(name: str) -> None:
    """What we ship is checked as we tell others to."""
    assert not check(getattr(trsm.schemas, name))


def test_known_findings_can_be_left_out() -> None:
    """By whatever says that they are meant; the rest stays."""
    rest = check(Locks).without(lambda one: one.kind == "never-leaves" and Locks.Locked in one.states)
    assert [one.kind for one in rest] == ["dead-end", "never-active"]
    assert rest.sets == 2


def test_what_is_known_is_said_by_a_function() -> None:
    """Nothing else, also where nothing was found."""
    with pytest.raises(TypeError, match=r"without\('auto-tie'\): pass a function: without\(lambda one: one.kind == "):
        check(Locks).without("auto-tie")  # type: ignore[arg-type]


@pytest.mark.parametrize("schema", [Locks, trsm.schemas.Basic])
def test_a_kind_of_findings_that_does_not_exist(schema: type[Schema]) -> None:
    """It is told with those that do: an empty answer would read as good news."""
    findings = check(schema)
    for kind in ("deadend", "Dead-End", None):
        with pytest.raises(
            ValueError, match=rf"^of\({kind!r}\): there is no such kind: write one of 'contra.*'unstable"
        ):
            findings.of(kind)  # type: ignore[arg-type]
    for kind in Findings.KINDS:
        assert set(findings.of(kind)) <= set(findings)


def test_states_that_are_left_out_are_not_looked_at() -> None:
    """Nobody adds them, so that it is no news that they never come, nor what requires them."""

    class Partial(Schema):
        One = State()
        Two = State()
        Three = State(require=Two)
        Four = State(require=(One, "Six"))
        Five = State(auto=True)
        Six = State(remove=One)

    everything = [Partial.Two, Partial.Three, Partial.Four, Partial.Five]
    assert check(Partial, without=everything).of("never-active") == ()
    assert check(Partial, without=everything).of("contradictory-requires") == ()
    assert check(Partial, without=everything).of("never-leaves") == ()
    some = check(Partial, without=[Partial.Two])
    assert [(one.kind, one.states) for one in some] == [
        ("contradictory-requires", (Partial.Four,)),
        ("never-leaves", (Partial.Five,)),
    ]


def test_the_bound_is_that_of_explore() -> None:
    """It refuses to go beyond, and progress is told on the way."""
    with pytest.raises(TooManySets, match="more than 10 sets"):
        check(groups_of(5, 5), limit=10)
    told: list[tuple[int, int]] = []
    assert not check(groups_of(5, 5), limit=36, progress=lambda done, found: told.append((done, found)))
    assert told == [(36, 36)]
    with pytest.raises(TypeError, match="is no schema"):
        check("Door")  # type: ignore[arg-type]


def test_arguments_do_not_stand_in_the_way_of_an_explanation() -> None:
    """A state that cannot be called with nothing is explained as any."""

    class Url:
        def __init__(self, url: str) -> None: ...

    class Fetch(Schema):
        Ready = State(args=Url)
        Busy = State(auto=True, require=Ready, remove="Fetching")
        Fetching = State(args=Url, require=Ready)

    (found,) = check(Fetch)
    assert found.kind == "never-active"
    assert "Busy removes it" in found.why


def graph_before(finding: Finding) -> frozenset[str]:
    """Return what is active after the last mutation of a path, before the automatic round."""
    consensus = Consensus(finding.path.schema)
    active = passing = 0
    for mutation in finding.path:
        ask = consensus.add if mutation.kind == "add" else consensus.remove
        found = ask(active, consensus.set_of(*mutation.states))
        assert found is not None
        passing, active = found, consensus.automatic(found)
    return names(consensus.states_of(passing))


def check_against(states: dict[str, StateForm]) -> list[str]:
    """Hold the findings of a schema against the definitions, applied to the slow graph; return their kinds."""
    graph = Graph(states)
    schema = real(states)
    findings = check(schema)
    told = {kind: [names(one.states) for one in findings.of(kind)] for kind in KINDS}
    contradictory = frozenset[str]().union(*told["contradictory-requires"])
    assert contradictory >= graph.contradictory
    assert all(needs(states, name) & graph.contradictory for name in contradictory)
    assert contradictory | frozenset[str]().union(*told["never-active"]) >= graph.never_active
    assert all(graph.never_active >= one for one in told["never-active"])
    passed = frozenset[str]().union(*graph.passings)
    for one in findings.of("never-active"):
        assert (one.severity == "warning") == (str(one.states[0]) in passed)
    assert {str(*one.states) for one in findings.of("never-leaves")} == graph.never_leaves.keys()
    for one in findings.of("never-leaves"):
        assert len(one.path) == graph.never_leaves[str(one.states[0])] + 1
        assert one.states[0] in one.path.active
    assert len(told["dead-end"]) == bool(graph.dead_ends)
    for one in findings.of("dead-end"):
        assert names(one.path.active) in graph.dead_ends
        assert len(one.path) == min(graph.distance[active] for active in graph.dead_ends)
    assert frozenset(told["unstable-auto"]) == graph.second_rounds
    assert len(told["unstable-auto"]) == len(graph.second_rounds)
    won = [one for one in findings.of("auto-tie") if one.states[0] in one.path.active]
    assert {(str(one.states[0]), str(other)) for one in won for other in one.states[1:]} == graph.ties
    lost = [one for one in findings.of("auto-tie") if one not in won]
    assert {str(state) for one in lost for state in one.states} == graph.lost
    for one in findings.of("auto-tie"):
        before = graph_before(one)
        for state in one.states if one in lost else one.states[1:]:
            assert str(state) in automatic({str(state): states[str(state)]} | dict(states), before), "its path shows it"
    for one in findings:
        engine = Engine(schema)
        results = one.path.replay(engine)
        assert engine.active_states == one.path.active
        is_refused = one.severity == "error" and one.kind in ("contradictory-requires", "never-active")
        assert [bool(result) for result in results] == [True] * (len(results) - is_refused) + [False] * is_refused
    return [one.kind for one in findings]


KINDS = ("contradictory-requires", "never-active", "never-leaves", "dead-end", "unstable-auto", "auto-tie")


@given(st.data())
def test_findings_are_those_of_the_definitions_as_a_property(data: st.DataObject) -> None:
    """Over random schemas: none is missing, none is wrong, and each path shows on an engine what it says."""
    check_against(data.draw(schemas(2, 5)))


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from(["remove", "remove", "remove", "require"])),
        max_size=14,
        unique_by=lambda one: one[:2],
    )
)
def test_findings_among_many_auto_states_are_those_of_the_definitions_as_a_property(
    relations: list[tuple[int, int, str]],
) -> None:
    """Where options exclude each other in all ways: here ties and second rounds are frequent."""
    states: dict[str, StateForm] = {name: {"auto": True} for name in "ABCDE"} | {"Go": {}}
    for source, target, relation in relations:
        if source != target:
            states["ABCDE"[source]].setdefault(relation, []).append("ABCDE"[target])  # type: ignore[misc]
    check_against(states)


def test_who_would_not_come_if_declared_first_is_not_tied_though_others_change() -> None:
    """F alters who is left out of a circle, and stays out itself: no tie of F with D, which is out then."""
    removes = {"A": "BCG", "B": "F", "C": "AE", "D": "CF", "E": "A", "F": "DG", "G": ""}
    states: dict[str, StateForm] = {name: {"auto": True, "remove": list(others)} for name, others in removes.items()}
    states["A"]["require"] = ["D"]
    states["Go"] = {}
    assert "auto-tie" not in check_against(states)
