"""``examples/regex_nfa.py``, run as a process, and its automaton held against ``re``."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.running import EXAMPLES, run

EXAMPLE = "regex_nfa.py"
spec = importlib.util.spec_from_file_location("regex_nfa", EXAMPLES / EXAMPLE)
assert spec is not None
assert spec.loader is not None
regex_nfa = importlib.util.module_from_spec(spec)
spec.loader.exec_module(regex_nfa)

PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "c", ".", "()", r"\*", r"\\"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda pair: f"({pair[0]}){pair[1]}"),
    ),
    max_leaves=10,
)
WORDS = st.lists(st.text("abc*\\", max_size=6), min_size=1, max_size=8)


@given(pattern=PATTERNS, words=WORDS)
def test_it_matches_what_re_matches_property(pattern: str, words: list[str]) -> None:
    """The same words, whole, for every pattern, empty parts and stars of stars included."""
    automaton = regex_nfa.Automaton(pattern)
    for word in words:
        assert automaton.matches(word) is (re.fullmatch(pattern, word) is not None), (pattern, word)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a", "'(a' ends too early"),
        ("a)", "'a)' has a ')' too many at 1"),
        ("*a", "'*a' repeats nothing at 0"),
        ("a|+", "'a|+' repeats nothing at 2"),
        ("a*?", "'a*?' repeats a repetition at 2"),
        ("a\\", "ends too early"),
    ],
)
def test_bad_pattern(pattern: str, words: str, tmp_path: Path) -> None:
    """It is refused in one line that shows where; `re` refuses it too, or means something else by it."""
    ended = run(EXAMPLE, pattern, "a", cwd=tmp_path)
    ended.assert_refused(words)
    assert ended.out == ""


def test_no_word(tmp_path: Path) -> None:
    """There is nothing to match."""
    run(EXAMPLE, "a", cwd=tmp_path).assert_refused("no WORD")


def test_in_several_places_at_once(tmp_path: Path) -> None:
    """After each letter all active places are shown; the exit code says whether every word matched."""
    ended = run(EXAMPLE, "ab|a(b|c)", "ab", "ad", cwd=tmp_path)
    assert (ended.code, ended.err) == (1, "")
    states, *lines = ended.out.splitlines()
    assert states.endswith(" states")
    assert lines[0] == "'ab':"
    assert len(lines[1].removeprefix("    a: ").split()) > 2  # the b of the first, and both of the second
    assert lines[2:4] == ["    b: Accept", "    matches"]
    assert lines[4] == "'ad':"
    assert lines[-2:] == ["    d: nowhere", "    does not match"]


def test_all_words_match(tmp_path: Path) -> None:
    """The exit code is 0; the empty word is a word."""
    ended = run(EXAMPLE, "(a|b)*", "", "ab", "bbb", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("    matches\n") == 3


def test_a_long_word(tmp_path: Path) -> None:
    """Time grows with the word, not with the number of ways through the pattern."""
    ended = run(EXAMPLE, "(a*)*(a|aa)*", "a" * 300, "a" * 300 + "b", cwd=tmp_path)
    assert ended.code == 1
    assert ended.out.count("    matches\n") == 1
