"""A regular expression as a nondeterministic automaton: a machine that is in several states at once.

    python examples/regex_nfa.py PATTERN WORD…

The automaton is in *all* of the places where the word may be. Here each place is a state. That a place is also another
one (behind an optional part, at the start of each choice) is a relation, ``add``: who comes brings them along, at once.
Reading a letter makes every place leave; those that wait for it bring the next. ``Schema.define`` makes the schema.

Patterns: letters, ``.`` (any letter), ``( )``, ``|``, ``*``, ``+``, ``?``, and ``\\`` before any of these.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

import trsm
from trsm import Schema, State

ANY = ""
REPEATS = ("*", "+", "?")
Build = Callable[[str], str]
"""What a part of a pattern is parsed to: given the place behind it, it makes its places, and returns the first."""


class Automaton:
    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0
        self.brings: dict[str, list[str]] = {"Accept": []}  # every place, and those that it brings along
        self.reads: dict[str, tuple[str, str]] = {}  # the places that wait for a letter, and what comes then
        first = self.choice()("Accept")
        if self.at < len(pattern):
            raise ValueError(f"{pattern!r} has a ')' too many at {self.at}")
        states = {name: State(add=[one for one in others if one != name]) for name, others in self.brings.items()}
        self.schema = Schema.define("Pattern", {"Alive": State(), "Start": State(add=first), **states})
        self.handlers = [self.handler(name) for name in self.reads]

    def place(self, *brings: str) -> str:
        name = f"P{len(self.brings)}"
        self.brings[name] = list(brings)
        return name

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]  # empty at the end

    def take(self) -> str:
        letter = self.peek()
        if not letter:
            raise ValueError(f"{self.pattern!r} ends too early")
        self.at += 1
        return letter

    def choice(self) -> Build:
        options = [self.sequence()]
        while self.peek() == "|":
            self.take()
            options.append(self.sequence())
        return lambda after: self.place(*(build(after) for build in options))

    def sequence(self) -> Build:
        parts: list[Build] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated())

        def build(after: str) -> str:
            for part in reversed(parts):
                after = part(after)
            return after

        return build

    def repeated(self) -> Build:
        part = self.single()
        sign = self.peek()
        if sign not in REPEATS:
            return part
        self.take()
        if self.peek() in REPEATS:
            raise ValueError(f"{self.pattern!r} repeats a repetition at {self.at}")

        def build(after: str) -> str:
            fork = self.place(after)  # here the part has been passed, or, but for +, is left out
            first = part(after if sign == "?" else fork)
            self.brings[fork].append(first)
            return first if sign == "+" else fork

        return build

    def single(self) -> Build:
        letter = self.take()
        if letter == "(":
            inner = self.choice()
            if self.take() != ")":
                raise ValueError(f"{self.pattern!r} has a '(' that nothing closes")
            return inner
        if letter in REPEATS:
            raise ValueError(f"{self.pattern!r} repeats nothing at {self.at - 1}")
        reads = ANY if letter == "." else self.take() if letter == "\\" else letter

        def build(after: str) -> str:
            name = self.place()
            self.reads[name] = reads, after
            return name

        return build

    def handler(self, name: str) -> object:
        reads, after = self.reads[name]

        @self.schema[name].on_exit
        def read(t: trsm.Transition) -> None:
            if reads in (ANY, t.args["letter"]):
                self.engine.add(self.schema[after])  # queued: it comes when all the others have left

        return read

    def matches(self, word: str, *, tell: bool = False) -> bool:
        # An engine is a machine that needs no event loop. In the worst case every place has something to bring.
        engine = self.engine = trsm.Engine(self.schema, *self.handlers, queue_limit=len(self.reads) + 1)
        engine.add(self.schema["Alive"], self.schema["Start"])
        for letter in word:
            engine.set(self.schema["Alive"], letter=letter)
            if tell:
                print(f"    {letter}: {' '.join(str(state) for state in engine.active_states[1:]) or 'nowhere'}")
        return self.schema["Accept"] in engine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Say which words a regular expression matches, place by place.")
    parser.add_argument("pattern", metavar="PATTERN")
    parser.add_argument("words", nargs="*", metavar="WORD")
    given = parser.parse_args()
    if not given.words:
        parser.error("no WORD to match: write one or more")
    try:
        automaton = Automaton(given.pattern)
    except (ValueError, RecursionError) as error:  # the latter where parentheses are too deep
        parser.error(str(error))
    missed = 0
    try:
        print(f"{len(automaton.schema) - 1} states")  # all but Error, which every schema has
        for word in given.words:
            print(f"{word!r}:")
            missed += not (is_match := automaton.matches(word, tell=True))
            print("    matches" if is_match else "    does not match", flush=True)
    except BrokenPipeError:
        os._exit(1)  # nobody reads any more, though Python would write the rest
    sys.exit(1 if missed else 0)
