"""Small questions on relations, answered by the machine itself and explained by ``explain()``.

    python examples/relations_quiz.py [--ask]

With ``--ask`` you answer first (y or n), and get your score at the end. No answer is written down beforehand: the
machine is asked with ``explain()``, and then does what it said. No event loop is needed: an `Engine` is a machine
without a nursery.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Literal

import attrs

import trsm
from trsm import Schema, State


class Kitchen(Schema):
    """A kitchen with one stove."""

    Gas = State()
    Flame = State(require=Gas)
    Kettle = State(require=Flame, add="Steam")
    Steam = State(remove="Window")  # steam would fog up the open window …
    Window = State(remove=Steam)  # … and an open window lets the steam out
    Alarm = State(auto=True, require=Steam, remove="Silence")
    Silence = State(remove=Alarm)
    Inspector = State(remove=Flame)
    Grease = State(latch=True)  # once there, it stays
    Clean = State(remove=Grease)


@attrs.frozen
class Question:
    """A situation, and a mutation of which we ask whether it is executed."""

    active: tuple[trsm.State[[], None], ...]
    kind: Literal["add", "remove"]
    state: trsm.State[[], None]


QUESTIONS = (
    Question((Kitchen.Gas,), "add", Kitchen.Flame),
    Question((), "add", Kitchen.Flame),
    Question((Kitchen.Gas, Kitchen.Flame), "remove", Kitchen.Gas),
    Question((Kitchen.Gas, Kitchen.Flame, Kitchen.Window), "add", Kitchen.Kettle),
    Question((Kitchen.Gas, Kitchen.Flame, Kitchen.Inspector), "add", Kitchen.Kettle),
    Question((Kitchen.Inspector, Kitchen.Gas), "add", Kitchen.Flame),
    Question((Kitchen.Gas, Kitchen.Flame), "add", Kitchen.Inspector),
    Question((Kitchen.Grease,), "add", Kitchen.Clean),
    Question((Kitchen.Grease,), "remove", Kitchen.Grease),
    Question((Kitchen.Gas, Kitchen.Flame, Kitchen.Silence), "add", Kitchen.Kettle),
    Question((Kitchen.Gas, Kitchen.Flame, Kitchen.Silence, Kitchen.Kettle), "remove", Kitchen.Silence),
)


def names(states: tuple[trsm.State[..., object], ...]) -> str:
    return ", ".join(state.name for state in states) or "nothing"


def asked() -> bool:
    while (answer := input("   y or n? ").strip().lower()) not in ("y", "n"):
        print(f"   {answer!r} is neither.")
    return answer == "y"


def main(ask: bool) -> None:
    right = 0
    for number, question in enumerate(QUESTIONS, start=1):
        kitchen = trsm.Engine(Kitchen)
        for state in question.active:
            kitchen.add(state)
        mutation = f"{question.kind}({question.state})"
        print(f"{number}. Active: {names(kitchen.active_states)}. Is {mutation} executed?")
        guess = asked() if ask else None
        explanation = kitchen.explain(question.kind, question.state)  # true if it would be executed
        right += guess is bool(explanation)
        print(f"   {'Yes' if explanation else 'No'}. {explanation}".replace("\n", "\n   "))
        # What was foretold is what happens.
        result = kitchen.add(question.state) if question.kind == "add" else kitchen.remove(question.state)
        assert result.executed == bool(explanation)
        print(f"   Active now: {names(kitchen.active_states)}.")  # with what came by itself, as auto states do
    if ask:
        print(f"{right} of {len(QUESTIONS)} right")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Questions on relations, answered by the machine itself.")
    parser.add_argument("--ask", action="store_true", help="answer them yourself first")
    try:
        main(parser.parse_args().ask)
        sys.stdout.flush()
    except EOFError:
        sys.exit("\nno more answers")
    except BrokenPipeError:
        os._exit(1)  # nobody reads any more, though Python would write the rest
