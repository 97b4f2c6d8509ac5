"""``LogTracer``, how it attaches itself, and ``log_args``: what a machine does, as log records without secrets."""

from __future__ import annotations

import gc
import itertools
import logging
from collections.abc import Generator
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trsm
from trsm import Engine, ErrorState, LogTracer, Schema, State, Tracer, Transition


@attrs.frozen
class Login:
    user: str = "nobody"
    password: str = "sesame"


@dataclass(frozen=True)
class Fetch:
    url: str
    token: str = "sesame"
    late: str = dataclass_field(init=False, repr=False)

    def retry(self) -> None: ...


class Web(Schema):
    Up = State(remove="Down", add="Lit")
    Down = State(remove=Up)
    Lit = State(require="Power")
    Power = State()
    LoggedIn = State(args=Login, multi=True)
    Fetching = State(args=Fetch, multi=True)
    Text = State(args=str)
    ErrNet = ErrorState(catches=OSError)


@pytest.fixture(autouse=True)
def registered() -> Generator[None]:
    """Loggers that a test makes below ``trsm`` are forgotten after it."""
    loggers = logging.Logger.manager.loggerDict
    before = set(loggers)
    yield
    for name in set(loggers) - before:
        if name.startswith("trsm."):
            del loggers[name]


@pytest.fixture
def debug(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="trsm")
    return caplog


@pytest.fixture
def info(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="trsm")
    return caplog


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.name}: {record.getMessage()}" for record in caplog.records]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# ---- Changes at INFO ------------------------------------------------------------------------------------------------


def test_changes_are_logged_at_info_with_tick_kind_and_states(info: pytest.LogCaptureFixture) -> None:
    """Opening, each transition that moves something, closing; under the machine's own name, and nothing more."""
    engine = Engine(Web, id="web")
    engine.add(Web.Down, Web.Power)
    engine.add(Web.Up)
    engine.add(Web.Up)
    assert not engine.mutate(add=Web.Lit, remove=Web.Power)
    engine.close()
    assert lines(info) == [
        "INFO trsm.web: opened on Web",
        "INFO trsm.web: 1 add: +Down +Power",
        "INFO trsm.web: 2 add: +Up +Lit -Down",
        "INFO trsm.web: 4 close: -Lit -Power -Up",
        "INFO trsm.web: closed",
    ]


def test_a_change_names_who_made_it_and_the_exception_that_did(info: pytest.LogCaptureFixture) -> None:
    """The handler of which machine; an error with what it says."""

    def begin(t: Transition) -> None:
        engine.add(Web.Power)

    def fail(t: Transition) -> None:
        raise OSError("no route")

    begin.__qualname__, fail.__qualname__ = "Web.begin", "Web.fail"
    engine = Engine(Web, Web.Up.on_enter(begin), Web.Power.on_exit(fail), id="web")
    engine.add(Web.Up)
    engine.remove(Web.Power)
    assert messages(info) == [
        "opened on Web",
        "1 add: +Up",
        "2 add: +Power, by Web.begin of web",
        "3 remove: -Power",
        "4 error: +Error +ErrNet, by Web.fail of web: OSError('no route')",
    ]


def test_another_schema_is_logged(info: pytest.LogCaptureFixture) -> None:
    """By the names of both; a default id keeps the name that it was made with."""

    class Larger(Web):
        More = State()

    engine = Engine(Web, id="web")
    engine.extend_schema(Larger)
    assert messages(info) == ["opened on Web", "schema Larger in place of Web"]


# ---- Arguments ------------------------------------------------------------------------------------------------------


def test_no_value_of_an_argument_is_logged_by_default(debug: pytest.LogCaptureFixture) -> None:
    """Neither of keywords nor of fields, at any level, in the queue too; their names are."""

    @Web.Up.on_enter
    def asks(t: Transition) -> None:
        engine.add(Web.LoggedIn("Zelda", "sesame"), key="sesame")

    engine = Engine(Web, asks, id="web")
    engine.add(Web.LoggedIn("Zelda", "sesame"), key="sesame", by="sesame")
    engine.add(Web.Text("sesame"))
    engine.add(Web.Up, Web.Fetching("sesame"))
    engine.add(Web.LoggedIn)
    engine.add(Web.Lit, key="sesame")
    text = "\n".join(messages(debug))
    assert "sesame" not in text and "Zelda" not in text
    assert "1 add: +LoggedIn with key=…, by=…, LoggedIn(user=…, password=…)" in text
    assert "2 add: +Text with Text(…)" in text
    assert "3 add: +Up +Fetching with Fetching(url=…, token=…, late=…)" in text
    assert "queued: add(LoggedIn, key=…) at 1" in text
    assert "5 add: +LoggedIn" in text.splitlines()


def test_values_of_what_may_be_shown_are_logged(info: pytest.LogCaptureFixture) -> None:
    """Named once for keywords and fields alike; a field that has no value, a method and all others are not shown."""
    engine = Engine(Web, id="web", log_args=["user", "by", "url", "late", "retry", "upper"])
    engine.add(Web.LoggedIn("Zelda", "sesame"), key="sesame", by="me")
    engine.add(Web.Fetching("https://…"))
    engine.add(Web.Text("sesame"))
    engine.add(Web.Fetching("other"), Web.LoggedIn("other"))
    assert messages(info)[1:] == [
        "1 add: +LoggedIn with key=…, by='me', LoggedIn(user='Zelda', password=…)",
        "2 add: +Fetching with Fetching(url='https://…', token=…, late=…)",
        "3 add: +Text with Text(…)",
        "4 add: +LoggedIn +Fetching with LoggedIn(user='other', password=…), Fetching(url='other', token=…, late=…)",
    ]


def test_a_tracer_attached_by_hand_shows_what_it_was_made_with(info: pytest.LogCaptureFixture) -> None:
    """``show=`` is what ``log_args=`` is for those that come by themselves."""
    logging.getLogger("trsm").setLevel(logging.WARNING)
    engine = Engine(Web, id="web")
    assert engine._tracers == ()
    logging.getLogger("trsm").setLevel(logging.INFO)
    binding = engine.trace(LogTracer(["by"]))
    engine.add(Web.Power, by="me", key="sesame")
    binding.detach()
    engine.remove(Web.Power)
    assert messages(info) == ["opened on Web", "1 add: +Power with by='me', key=…"]


@pytest.mark.parametrize("what", ["log_args", "show"])
def test_what_may_be_shown_is_given_as_names(what: str) -> None:
    """One string is most likely a mistake, and so is anything that is no name."""

    def ask(value: object) -> object:
        return Engine(Web, log_args=value) if what == "log_args" else LogTracer(value)

    with pytest.raises(
        TypeError, match=rf"{what}='user': pass the names in a list or tuple, such as {what}=\['user'\]"
    ):
        ask("user")
    with pytest.raises(TypeError, match=rf"{what}=3: pass the names in a list or tuple"):
        ask(3)
    with pytest.raises(TypeError, match=rf"{what}=\[…\]: 3 is no name: write the names of keywords and fields"):
        ask(["user", 3])


# ---- Decisions at DEBUG ---------------------------------------------------------------------------------------------


def test_decisions_are_logged_at_debug_with_their_reasons(debug: pytest.LogCaptureFixture) -> None:
    """What relations left out, why a mutation was canceled: one record each, of one line."""

    def refuses(t: Transition) -> bool:
        return False

    refuses.__qualname__ = "Web.refuses"
    engine = Engine(Web, Web.Down.can_enter(refuses), id="web")
    engine.add(Web.Power)
    engine.add(Web.Down)
    engine.remove(Web.Power)
    engine.add(Web.Up)
    engine.add(Web.Lit)
    assert lines(debug) == [
        "INFO trsm.web: opened on Web",
        "INFO trsm.web: 1 add: +Power",
        "DEBUG trsm.web: canceled: add(Down) is refused: can_enter of Down (Web.refuses) refused.",
        "INFO trsm.web: 2 remove: -Power",
        "DEBUG trsm.web: resolved: add(Up): Up activates. Lit cannot activate: it requires Power, which is inactive, "
        "and nothing in this mutation activates Power.",
        "INFO trsm.web: 3 add: +Up",
        "DEBUG trsm.web: canceled: add(Lit) is refused. Lit cannot activate: it requires Power, which is inactive, "
        "and nothing in this mutation activates Power.",
    ]


def test_what_handlers_raise_is_logged_and_that_they_ran_is_not(debug: pytest.LogCaptureFixture) -> None:
    """At DEBUG; the error that becomes of it is a change."""

    def fails(t: Transition) -> None:
        raise OSError("no route")

    def works(t: Transition) -> None:
        pass

    fails.__qualname__ = "Web.fails"
    engine = Engine(Web, Web.Power.on_exit(fails), Web.Power.on_enter(works))
    engine.add(Web.Power)
    engine.remove(Web.Power)
    told = messages(debug)
    assert told[3] == "Web.fails raised OSError('no route')"
    assert not any("works" in message for message in told)


def test_what_is_queued_is_logged(debug: pytest.LogCaptureFixture) -> None:
    """As it would be written, with the queue tick of its turn."""

    @Web.Up.on_enter
    def asks(t: Transition) -> None:
        engine.add(Web.Power)
        engine.mutate(add=Web.Down, remove=Web.Power)

    engine = Engine(Web, asks)
    engine.add(Web.Up)
    assert [message for message in messages(debug) if message.startswith("queued")] == [
        "queued: add(Power) at 1",
        "queued: mutate(add=(Down), remove=(Power)) at 2",
    ]


def test_a_slow_handler_is_a_warning(info: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It blocked every task."""
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))

    def slow(t: Transition) -> None:
        pass

    slow.__qualname__ = "Web.slow"
    Engine(Web, Web.Up.on_enter(slow), id="web").add(Web.Up)
    assert lines(info)[-1] == "WARNING trsm.web: Web.slow took 1.000 s, and blocked every task"


def test_what_a_second_automatic_round_would_change_is_logged(debug: pytest.LogCaptureFixture) -> None:
    """By the names of the states."""

    class Guarded(Schema):
        Go = State()
        Base = State()
        Guard = State(require=Base, remove="Late")  # when it loses Base, it still guards in that mutation
        Early = State(auto=True, require=Go, remove=Base)
        Late = State(auto=True, require=Go)

    engine = Engine(Guarded)
    engine.add(Guarded.Base, Guarded.Guard)
    engine.add(Guarded.Go)
    assert messages(debug)[-1] == "a second automatic round would still change Late"


async def test_tasks_and_their_ends_are_logged(debug: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    """Begun, ended, and with what."""

    async def works(t: Transition) -> None:
        await trio.sleep(1)

    async def fails(t: Transition) -> None:
        raise OSError("no route")

    works.__qualname__, fails.__qualname__ = "Web.works", "Web.fails"
    async with trsm.open_machine(Web, Web.Up.task(works), Web.Power.task(fails), id="web") as machine:
        machine.add(Web.Up)
        await trio.sleep(2)
        machine.add(Web.Power)
        await wait_all_tasks_blocked()
    assert [line for line in lines(debug) if "task" in line or "error" in line] == [
        "DEBUG trsm.web: task Web.works started",
        "DEBUG trsm.web: task Web.works ended",
        "DEBUG trsm.web: task Web.fails started",
        "DEBUG trsm.web: task Web.fails ended: OSError('no route')",
        "INFO trsm.web: 3 error: +Error +ErrNet, by Web.fails of web: OSError('no route')",
    ]


# ---- Which loggers --------------------------------------------------------------------------------------------------


def test_nothing_is_attached_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """At WARNING, which is the default, a machine has no tracer and costs nothing."""
    caplog.set_level(logging.WARNING, logger="trsm")
    assert Engine(Web)._tracers == Engine(Web, id="web")._tracers == ()


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_one_is_attached_where_trsm_is_enabled(level: int, caplog: pytest.LogCaptureFixture) -> None:
    """For INFO or more; before the tracers that were given."""
    caplog.set_level(level, logger="trsm")
    given = Tracer()
    [own, other] = Engine(Web, tracers=[given])._tracers
    assert type(own) is LogTracer
    assert other is given


def test_one_that_is_given_stays_the_only_one(info: pytest.LogCaptureFixture) -> None:
    """Or each record would come twice, once without what it may show."""
    engine = Engine(Web, id="web", tracers=[LogTracer(["by"])])
    engine.add(Web.Down, by="me")
    assert messages(info) == ["opened on Web", "1 add: +Down with by='me'"]


def test_the_logger_of_one_machine_can_be_enabled_alone(caplog: pytest.LogCaptureFixture) -> None:
    """By its id, and made before the machine is opened; the others have none."""
    caplog.set_level(logging.WARNING, logger="trsm")
    logging.getLogger("trsm.loud").setLevel(logging.INFO)
    caplog.handler.setLevel(logging.DEBUG)
    loud, quiet = Engine(Web, id="loud"), Engine(Web, id="quiet")
    loud.add(Web.Down)
    quiet.add(Web.Down)
    assert lines(caplog) == ["INFO trsm.loud: opened on Web", "INFO trsm.loud: 1 add: +Down"]
    assert quiet._tracers == ()


def test_the_logger_of_one_machine_can_be_silenced(info: pytest.LogCaptureFixture) -> None:
    """While the others go on."""
    logging.getLogger("trsm.quiet").setLevel(logging.ERROR)
    Engine(Web, id="quiet").add(Web.Down)
    Engine(Web, id="loud").add(Web.Down)
    assert [record.name for record in info.records] == ["trsm.loud"] * 2


def test_a_logger_that_is_made_later_is_used(info: pytest.LogCaptureFixture) -> None:
    """Its level counts from then on."""
    engine = Engine(Web, id="web")
    logging.getLogger("trsm.web").setLevel(logging.ERROR)
    engine.add(Web.Down)
    logging.getLogger("trsm.web").setLevel(logging.INFO)
    engine.add(Web.Up)
    assert messages(info) == ["opened on Web", "2 add: +Up -Down"]


def test_the_level_of_trsm_counts_as_it_is_now(info: pytest.LogCaptureFixture) -> None:
    """Nothing is logged, and nothing worked out, while it is above INFO."""
    engine = Engine(Web, id="web", log_args=["by"])
    engine.add(Web.Down)
    logging.getLogger("trsm").setLevel(logging.WARNING)

    class Costly:
        def __repr__(self) -> str:
            raise AssertionError

    engine.add(Web.Up, by=Costly())
    logging.getLogger("trsm").setLevel(logging.INFO)
    engine.add(Web.Down)
    assert messages(info) == ["opened on Web", "1 add: +Down", "3 add: +Down -Up"]


def test_a_logger_below_that_of_a_machine_is_no_logger_of_it(info: pytest.LogCaptureFixture) -> None:
    """What the standard library puts in the place of a logger that nobody made is left alone."""
    logging.getLogger("trsm.web.more")
    Engine(Web, id="web").add(Web.Down)
    assert lines(info)[-1] == "INFO trsm.web: 1 add: +Down"


def test_machines_leave_no_logger_behind(info: pytest.LogCaptureFixture) -> None:
    """The standard library keeps each that is registered for ever: a hundred thousand ids would be a leak."""
    before = len(logging.Logger.manager.loggerDict)
    for number in range(100):
        Engine(Web, id=f"web {number}").add(Web.Down)
    assert len(logging.Logger.manager.loggerDict) == before
    gc.collect()
    assert not any(isinstance(one, logging.Logger) and "web 1" in one.name for one in gc.get_objects())


def test_a_tracer_of_many_machines_keeps_none_of_their_loggers(info: pytest.LogCaptureFixture) -> None:
    """One that `tracing` attaches to all machines lives as long as the program."""
    tracer = LogTracer()
    for number in range(100):
        Engine(Web, id=f"site {number}", tracers=[tracer]).add(Web.Down)
    assert lines(info)[-1] == "INFO trsm.site 99: 1 add: +Down"
    gc.collect()
    assert not any(isinstance(one, logging.Logger) and "site 1" in one.name for one in gc.get_objects())
    assert tracer.__dict__ == LogTracer().__dict__


async def test_machines_and_children_are_logged_each_by_its_own_name(info: pytest.LogCaptureFixture) -> None:
    """`open_machine` and `start_child` take ``log_args`` as an engine does."""
    async with trsm.open_machine(Web, id="parent", log_args=["by"]) as machine:
        child = machine.start_child(Web, id="child", log_args=["key"])
        machine.add(Web.Down, by="me", key="sesame")
        child.add(Web.Down, by="me", key="yale")
        with pytest.raises(TypeError, match="log_args='by': pass the names in a list or tuple"):
            machine.start_child(Web, log_args="by")
        with pytest.raises(TypeError, match="log_args='by': pass the names in a list or tuple"):
            trsm.open_machine(Web, log_args="by")
    assert lines(info) == [
        "INFO trsm.parent: opened on Web",
        "INFO trsm.child: opened on Web",
        "INFO trsm.parent: 1 add: +Down with by='me', key=…",
        "INFO trsm.child: 1 add: +Down with by=…, key='yale'",
        "INFO trsm.child: 2 close: -Down",
        "INFO trsm.child: closed",
        "INFO trsm.parent: 2 close: -Down",
        "INFO trsm.parent: closed",
    ]


def test_a_machine_without_a_name_is_logged_under_the_one_that_messages_show(info: pytest.LogCaptureFixture) -> None:
    """Its schema's name and a number."""
    engine = Engine(Web)
    assert lines(info) == [f"INFO trsm.{engine.id}: opened on Web"]
