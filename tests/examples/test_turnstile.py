"""``examples/turnstile.py``, run as a process."""

from __future__ import annotations

from pathlib import Path

from examples.running import run


def test_default_events_show_a_refusal_its_reason_and_the_way_through(tmp_path: Path) -> None:
    """Without arguments a push is refused and explained, a coin unlocks, one push gets through."""
    ended = run("turnstile.py", cwd=tmp_path)
    assert ended.out.splitlines() == [
        "push: (Locked:1) refused",
        "add(Push) is refused.",
        "Push cannot activate: it requires Unlocked, which is inactive, "
        "and nothing in this mutation activates Unlocked.",
        "coin: (Unlocked:1)",
        "coin: (Unlocked:1)",
        "push: (Locked:3)",
        "push: (Locked:3) refused",
        "coins: 2, people: 1; <Machine 'gate' (Locked:3)>",
    ]
    assert (ended.code, ended.err) == (0, "")


def test_given_events_are_played_in_their_order(tmp_path: Path) -> None:
    """Two coins and two pushes, one after the other, let two people through."""
    ended = run("turnstile.py", "coin", "push", "coin", "push", cwd=tmp_path)
    assert ended.out.splitlines() == [
        "coin: (Unlocked:1)",
        "push: (Locked:3)",
        "coin: (Unlocked:3)",
        "push: (Locked:5)",
        "coins: 2, people: 2; <Machine 'gate' (Locked:5)>",
    ]


def test_explain_of_an_unlocked_turnstile_says_what_a_push_does(tmp_path: Path) -> None:
    """Once there is a coin in it, the explanation is that a push is executed."""
    assert run("turnstile.py", "coin", "explain", cwd=tmp_path).out.splitlines()[1] == "add(Push): Push activates."


def test_an_unknown_event_is_refused_in_one_line_before_anything_happens(tmp_path: Path) -> None:
    """The message shows the word and names those that there are."""
    ended = run("turnstile.py", "coin", "kick", cwd=tmp_path)
    ended.assert_refused("'kick'", "coin, push or explain")
    assert ended.out == ""
