"""Assertions about machines, whose messages say what was expected, what is, and why it is so."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from trsm import Engine, Observed, Result, State, Tracer, Transition
from trsm.testing._naming import told_of

AnyState = State[..., object]


def assert_active(machine: Engine, *states: AnyState) -> None:
    """Assert that all of these states are active.

    Args:
      machine: a machine, or an engine.
      states: one state or several.

    Raises:
      AssertionError: some are not; for each the message says what an ``add`` of it would meet.
      UnknownState, MutationError, WrongThread: as for `Engine.is_active`.

    Example::

        assert_active(machine, Door.Closed, Door.Locked)
    """
    _check_machine(machine, "assert_active")
    with told_of("assert_active", "is_active"):
        if machine.is_active(*states):
            return
    missing = [state for state in states if not machine.is_active(state)]
    raise AssertionError(
        "\n".join(
            [
                f"{_listed(missing)} should be active, and {'is' if len(missing) == 1 else 'are'} not",
                *_present(machine),
                *(line for state in missing for line in _explained(machine, state)),
            ]
        )
    )


def assert_inactive(machine: Engine, *states: AnyState) -> None:
    """Assert that none of these states is active.

    Raises:
      AssertionError: some are.
      UnknownState, MutationError, WrongThread: as for `Engine.is_active`.

    Example::

        assert_inactive(machine, Door.Open)
    """
    _check_machine(machine, "assert_inactive")
    with told_of("assert_inactive", "is_inactive"):
        if machine.is_inactive(*states):
            return
    there = [state for state in states if machine.is_active(state)]
    raise AssertionError(
        "\n".join(
            [
                f"{_listed(there)} should be inactive, and {'is' if len(there) == 1 else 'are'} active",
                *_present(machine),
            ]
        )
    )


def assert_ticks(machine: Engine, ticks: Mapping[AnyState, int]) -> None:
    """Assert the ticks of some states: odd while active, +1 for each coming and going, +2 for a multi state's call.

    Args:
      machine: a machine, or an engine.
      ticks: states, and the tick that each should have. States that are not named may have any.

    Raises:
      AssertionError: some differ; the message says by how much, and what each tick means.
      TypeError: ``ticks`` is no mapping, or a tick no whole number.
      ValueError: ``ticks`` is empty, or a tick below 0.
      UnknownState, WrongThread: as for `Engine.tick`.

    Example::

        assert_ticks(machine, {Door.Open: 2, Door.Closed: 1})
    """
    _check_machine(machine, "assert_ticks")
    if not isinstance(ticks, Mapping):
        raise TypeError(f"assert_ticks(…, {ticks!r}): pass the states and their ticks: {{Door.Open: 2}}")
    if not ticks:
        raise ValueError("assert_ticks(…, {}) asserts nothing: name a state, and the tick that it should have")
    for state, tick in ticks.items():
        if not isinstance(tick, int) or isinstance(tick, bool):
            raise TypeError(f"assert_ticks(…, {{{state}: {tick!r}}}): a tick is a whole number")
        if tick < 0:
            raise ValueError(f"assert_ticks(…, {{{state}: {tick}}}): ticks begin at 0, and grow")
    with told_of("assert_ticks", "tick"):
        wrong = {state: (machine.tick(state), tick) for state, tick in ticks.items() if machine.tick(state) != tick}
    if wrong:
        lines = [
            f"  {state}: expected {_meaning(due)}; it is {_meaning(is_now)}" for state, (is_now, due) in wrong.items()
        ]
        raise AssertionError("\n".join([f"ticks of machine {machine.id!r} differ:", *lines, *_present(machine)]))


class Recording:
    """What `record_transitions` gives: the transitions of one machine, in order, while its block lasts."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []
        """Those that were executed."""
        self.refused: list[tuple[Transition, Result]] = []
        """Those that were canceled, with their results: ``result.reason`` says why."""

    @property
    def changes(self) -> list[str]:
        """The executed transitions in words, to be compared with a list: ``["add: -Closed +Open", …]``.

        First what leaves, then what enters, each in the order in which handlers run. A multi state that is called
        again enters. A transition that moves nothing says ``"add: no change"``.
        """
        return [_words(transition) for transition in self.transitions]

    @property
    def entered(self) -> list[AnyState]:
        """Every state that entered, in order, as often as it did."""
        return [state for transition in self.transitions for state in transition.entering]

    def __len__(self) -> int:
        return len(self.transitions)

    def __repr__(self) -> str:
        canceled = [f"canceled {_asked(transition)}: {_first_line(result)}" for transition, result in self.refused]
        return "\n".join(["<Recording", *(f"  {line}" for line in [*self.changes, *canceled]), ">"])


@contextmanager
def record_transitions(machine: Engine) -> Generator[Recording]:
    """Record the transitions of a machine while a ``with`` block lasts; what was recorded can be read after it too.

    Args:
      machine: a machine, or an engine.

    Raises:
      ReadOnly, WrongThread: as for `Engine.trace`.

    Example::

        with record_transitions(machine) as recording:
            machine.add(Door.Open)
        assert recording.changes == ["add: -Closed +Open"]
    """
    _check_machine(machine, "record_transitions")
    recording = Recording()
    binding = machine.trace(_Recorder(machine, recording))
    try:
        yield recording
    finally:
        binding.detach()


class _Recorder(Tracer):
    def __init__(self, machine: Engine, recording: Recording) -> None:
        self.recording = recording

    def transition_ended(self, machine: Observed, transition: Transition, result: Result) -> None:
        """Keep it."""
        if result.canceled:
            self.recording.refused.append((transition, result))
        else:
            self.recording.transitions.append(transition)


# ---- Words ----------------------------------------------------------------------------------------------------------


def _check_machine(machine: object, name: str) -> None:
    if not isinstance(machine, Engine):
        raise TypeError(f"{name}({machine!r}, …): pass a machine or an engine first")


def _listed(states: list[AnyState]) -> str:
    *others, last = map(str, states)
    return f"{', '.join(others)} and {last}" if others else last


def _present(machine: Engine) -> list[str]:
    return [f"  the machine:         {machine!r}", f"  its last transition: {machine.last_transition!r}"]


def _explained(machine: Engine, state: AnyState) -> list[str]:
    """Return what an ``add`` of a state would meet now; handlers are asked, which may want arguments."""
    try:
        explanation = machine.explain("add", state)
    except Exception as error:
        return [f"  add({state}) cannot be explained: {error}"]
    if explanation.accepted:
        return [f"  add({state}) would be executed now: nobody has asked for it, or it has left since"]
    return [f"  {line}" for line in explanation.text.splitlines()]


def _meaning(tick: int) -> str:
    return f"{tick} ({'active' if tick % 2 else 'inactive'})"


def _words(transition: Transition) -> str:
    signs = [f"-{state}" for state in transition.leaving] + [f"+{state}" for state in transition.entering]
    return f"{transition.kind}: {' '.join(signs) or 'no change'}"


def _asked(transition: Transition) -> str:
    return f"{transition.kind}({', '.join(map(str, (*transition.called, *transition.dropped)))})"


def _first_line(result: Result) -> str:
    reason: object = getattr(result, "reason", "")
    return str(reason).partition("\n")[0]
