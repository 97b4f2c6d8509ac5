"""What is worked out from the journal when it is read is what would have been noted at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trsm import Engine, Schema, State
from trsm._core._bits import members
from trsm._core._journal import PAGE
from trsm._core._transition import Transition


class Lamps(Schema):
    """States that nobody handles, so that a mutation only writes its plan."""

    Red = State(multi=True)
    Green = State(remove=Red)
    Blue = State(add=Red)
    Dim = State(require=Blue)


class Observed:
    """An engine of which everything is read after each mutation, and what it was then."""

    def __init__(self) -> None:
        self.engine = Engine(Lamps)
        self.transitions: list[Transition] = [self.engine.last_transition]
        self.began: dict[int, Transition] = {}

    def do(self, kind: str, state: State[[], object], args: dict[str, int]) -> None:
        getattr(self.engine, kind)(state, **args)
        last = self.engine.last_transition
        if last is not self.transitions[-1]:
            for number, one in enumerate(self.engine.schema):
                if last.after[one] % 2 and not last.before[one] % 2:
                    self.began[number] = last
        self.transitions.append(last)


def told(transition: Transition) -> list[object]:
    return [
        transition.tick,
        transition.kind,
        transition.called,
        transition.args,
        transition.before._values,
        transition.after._values,
        repr(transition),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "toggle"]),
            st.sampled_from(list(Lamps)[:4]),
            st.sampled_from(["nothing", "nothing", "nothing", "ticks", "last", "beginnings"]),
            st.sampled_from([1, 1, 2, PAGE - 1, PAGE + 1]),
            st.sampled_from([{}, {}, {"lumen": 7}]),  # with a keyword it is more than a plan
        ),
        max_size=12,
    )
)
def test_what_is_read_late_property(steps: list[tuple[str, State[[], object], str, int, dict[str, int]]]) -> None:
    """Ticks, the last transition and who began each instance, read now and then, over several pages."""
    late, early = Engine(Lamps), Observed()
    for kind, state, read, times, args in steps:
        for _ in range(times):
            getattr(late, kind)(state, **args)
            early.do(kind, state, args)
        assert late.active_states == early.engine.active_states
        if read == "ticks":
            assert late.ticks._values == early.engine.ticks._values
        elif read == "last":
            assert told(late.last_transition) == told(early.transitions[-1])
            assert late.last_transition is late.last_transition
        elif read == "beginnings":
            for number in members(late._active):
                began = late._beginning(number)
                assert told(began) == told(early.began[number])
                assert began is late._beginning(number)
                assert (began is late.last_transition) == (began.tick == late._tick)
    assert late.ticks._values == early.engine.ticks._values
    assert told(late.last_transition) == told(early.transitions[-1])


def test_a_page_that_is_full_is_turned_at_the_next_entry() -> None:
    """What was last stays what it is, whoever asks when; a mutation that is refused turns the page too."""

    class Guard:
        @Lamps.Green.can_enter
        def never(self, t: Transition) -> bool:
            return False

    engine = Engine(Lamps, Guard())
    for _ in range(PAGE):
        engine.add(Lamps.Red)
    assert engine._journal is not None and len(engine._journal.plans) == PAGE
    assert not engine.add(Lamps.Green)
    assert engine._journal.plans == []
    assert engine.last_transition.tick == PAGE
    assert engine.last_transition.after[Lamps.Red] == 2 * PAGE - 1
    assert engine._beginning(0).tick == 1
    engine.add(Lamps.Red)
    assert engine.last_transition.tick == PAGE + 1


def test_the_ticks_before_a_page_stay_as_they_were() -> None:
    """What the machine counts on with is another vector, also after an extension and after a restore."""

    class More(Lamps):
        White = State()

    extended = Engine(Lamps)
    extended.add(Lamps.Red)
    restored = Engine(Lamps, snapshot=extended.snapshot())
    extended.extend_schema(More)
    for engine in (extended, restored):
        engine.remove(Lamps.Red)
        engine.add(Lamps.Red)
        assert engine.tick(Lamps.Red) == 3
        assert engine.last_transition.before[Lamps.Red] == 2
        assert engine.last_transition.after[Lamps.Red] == 3


def test_the_ticks_at_close_are_worked_out_without_the_machine() -> None:
    """Any thread may read them, also first: what the machine counts on with is left as it is."""
    engine = Engine(Lamps)
    for _ in range(3):
        engine.add(Lamps.Green)
        engine.remove(Lamps.Green)
    engine.close()
    counted = engine._counted
    at_close = engine.ticks_at_close
    assert at_close is not None and at_close[Lamps.Green] == 6
    assert engine._counted == counted < 7
    assert engine.ticks_at_close is at_close
    assert engine.ticks == at_close


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_transitions_of_a_page_read_in_any_order(order: list[int]) -> None:
    """Each knows the ticks around it, whichever was read before."""
    engine = Engine(Lamps)
    noted: list[tuple[Transition, tuple[int, ...], tuple[int, ...]]] = []
    for number in range(31):
        before = engine.ticks._values
        engine.toggle(list(Lamps)[number % 3], lumen=7)
        noted.append((engine.last_transition, before, engine.ticks._values))
    executed = [one for one in noted if one[1] != one[2]]
    assert len(executed) > 9
    for place in order:
        transition, before, after = executed[place % len(executed)]
        assert transition.before._values == before
        assert transition.after._values == after
