"""Golden logs: what the machines of every example did, recorded once, and replayed wherever the suite runs: P22.

``python -m promises.golden``, from the directory of the tests, records them anew, into ``promises/golden``; do so when
an example has changed, and look at the difference. A log holds the schema as plain data, so that it can be replayed
without the example, its handlers and its arguments; and every transition, with the ticks after it.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trio

import trsm
from promises.scenarios import scenarios
from trsm import Engine, Observed, Result, Schema, State, Ticks, Tracer, Transition

GOLDEN = Path(__file__).parent / "golden"
Entry = dict[str, Any]


def named(states: Iterable[State[..., object]]) -> list[str]:
    return [state.name for state in states]


def plain(ticks: Ticks) -> dict[str, int]:
    return {state.name: ticks[state] for state in ticks if ticks[state]}


class Recorder(Tracer):
    """Writes a log for every machine that opens: each transition that was executed, and what it came to."""

    def __init__(self) -> None:
        self.logs: list[tuple[Observed, list[Entry]]] = []

    def machine_opened(self, machine: Observed) -> None:
        """Begin a log."""
        self.logs.append((machine, []))

    def transition_ended(self, machine: Observed, transition: Transition, result: Result) -> None:
        """Write an entry."""
        if result.executed:
            (log,) = (log for one, log in self.logs if one is machine)
            entry: Entry = {"kind": transition.kind, "called": named(transition.called)}
            if transition.dropped:
                entry["dropped"] = named(transition.dropped)
            if transition.error is not None:
                entry["entering"] = named(transition.entering)
            entry["ticks"] = plain(transition.after)
            log.append(entry)


def without_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema, as plain data, without the classes of its arguments, and without timeouts: a log has both."""
    for form in schema["states"].values():
        for key in ("args", "timeout", "on_timeout"):
            form.pop(key, None)
        if "catches" in form:
            form["catches"] = ["builtins:RuntimeError"]  # every Python has it; a replay says itself who takes what
    return schema


def record() -> dict[str, list[dict[str, Any]]]:
    """Run every example; return its logs."""
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, scenario in scenarios(Path(directory)).items():
            recorder = Recorder()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                with trsm.tracing(recorder):
                    trio.run(scenario)
            found[name] = [
                {"schema": without_arguments(machine.schema.to_dict()), "log": log} for machine, log in recorder.logs
            ]
    return found


# ---- Replay ---------------------------------------------------------------------------------------------------------


def replay(engine: Engine, log: list[Entry]) -> list[tuple[str, dict[str, int]]]:
    """Make the mutations of a log again; return every transition that came of it, with the ticks after it."""
    came: list[tuple[str, dict[str, int]]] = []

    class Listener(Tracer):
        def transition_ended(self, machine: Observed, transition: Transition, result: Result) -> None:
            """Keep it."""
            assert result.executed, (transition, result)
            came.append((transition.kind, plain(transition.after)))

    binding = engine.trace(Listener())
    schema = engine.schema
    for entry in log:
        called = [schema[name] for name in entry["called"]]
        dropped = [schema[name] for name in entry.get("dropped", ())]
        match entry["kind"]:
            case "auto":
                continue  # it comes by itself
            case "close":
                engine.close()
            case "error":
                # The error state that came is told to take it, whatever it catches.
                taker = next((schema[name] for name in entry["entering"] if name != "Error"), None)
                engine.add_error(RuntimeError("replayed"), taker)
            case "add" | "set" as kind:
                getattr(engine, kind)(*called)
            case "remove":
                engine.remove(*dropped)
            case "mutate":
                engine.mutate(add=called, remove=dropped)
            case kind:
                raise AssertionError(f"no replay for {kind}")
    binding.detach()
    return came


def schema_of(recorded: dict[str, Any]) -> type[Schema]:
    return Schema.from_dict(recorded["schema"])


def handled(schema: type[Schema]) -> object:
    """Return a handler that takes every error, so that a replay goes on after one."""

    @schema["Error"].on_enter
    def take(t: Transition) -> None:
        pass

    return take


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, logs in record().items():
        parts = []
        for one in logs:
            entries = ",\n  ".join(json.dumps(entry) for entry in one["log"])
            parts.append(f'{{"schema": {json.dumps(one["schema"])},\n "log": [\n  {entries}\n ]}}')
        text = ",\n".join(parts)
        (GOLDEN / f"{name}.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")
        print(name, sum(len(one["log"]) for one in logs), "transitions of", len(logs), "machines")


if __name__ == "__main__":
    main()
