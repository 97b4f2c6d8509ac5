"""The how-to: each program prints what its page shows, and what the pages promise or warn of is so."""

from __future__ import annotations

import ast
import re
import runpy
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

import trsm
from trsm import ErrorState, Schema, State

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "examples" / "how_to"
INDEX = ROOT / "docs" / "how-to" / "index.md"
PAGES = sorted(path for path in INDEX.parent.glob("*.md") if path != INDEX)
SHOWN = re.compile(
    r"^```\{literalinclude\} \.\./\.\./examples/how_to/(\w+)\.py\n```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S
)
EVERY = [(path.stem, found[1], found[2]) for path in PAGES for found in SHOWN.finditer(path.read_text("utf-8"))]
TESTS = "testing"
"""The program that is a file of tests."""


@pytest.mark.parametrize(
    ("name", "output"), [pytest.param(name, text, id=name) for _, name, text in EVERY if name != TESTS]
)
def test_a_program_prints_what_its_page_shows(
    name: str,
    output: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is run as it stands there, but on a clock that jumps."""
    real = trio.run

    def run(function: Any, *args: object, clock: trio.abc.Clock | None = None) -> object:
        return real(function, *args, clock=clock or trio.testing.MockClock(autojump_threshold=0))

    monkeypatch.setattr(trio, "run", run)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(PROGRAMS / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out == output


_tests = SimpleNamespace(**runpy.run_path(str(PROGRAMS / f"{TESTS}.py")))
test_the_first_test_of_the_page_on_testing = _tests.test_an_idle_session_expires_after_an_hour
test_the_second_test_of_the_page_on_testing = _tests.test_a_session_that_is_used_does_not_expire


def test_all_tests_of_the_page_on_testing_are_run() -> None:
    """The two that are named above are all that there are."""
    assert sum(name.startswith("test_") for name in vars(_tests)) == 2


def test_each_program_is_shown_once() -> None:
    """None lies about that no page shows, and none is shown in part only."""
    assert len(EVERY) > 20
    assert sorted(name for _, name, _ in EVERY) == sorted(path.stem for path in PROGRAMS.glob("*.py"))


@pytest.mark.parametrize("page", [pytest.param(path, id=path.stem) for path in PAGES])
def test_each_page_has_its_parts(page: Path) -> None:
    """When you need it, a program from a file with its output, what you can rely on, and a common mistake."""
    text = page.read_text("utf-8")
    assert re.match(r"# .+\n\n[\w`].+\n", text), "it does not begin with when you need it"
    programs = list(SHOWN.finditer(text))
    assert programs
    assert all((found[2] is None) == (found[1] == TESTS) for found in programs)
    assert text.count("```") == sum(4 if found[2] else 2 for found in programs), "code that no test runs"
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings[0] == "What you can rely on"
    assert headings[-1] == "A common mistake"


def test_each_page_is_in_the_index() -> None:
    """In the list and in the table of contents, in the same order."""
    text = INDEX.read_text("utf-8")
    listed = re.findall(r"^- \[\]\(([\w-]+)\.md\): .+$", text, re.M)
    (contents,) = re.findall(r"^```\{toctree\}\n:hidden:\n\n(.*?)^```$", text, re.M | re.S)
    assert listed == contents.split()
    assert sorted(listed) == [path.stem for path in PAGES]


@pytest.mark.parametrize("name", sorted(path.stem for path in PROGRAMS.glob("*.py")))
def test_a_program_needs_nothing_but_trsm_and_what_comes_with_it(name: str) -> None:
    """The standard library, trio, attrs, and trsm by its door."""
    for node in ast.walk(ast.parse((PROGRAMS / f"{name}.py").read_text("utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "?"] if isinstance(node, ast.ImportFrom) else []
        for one in names:
            assert one.partition(".")[0] in {"trsm", "trio", "attrs", *sys.stdlib_module_names}
            assert not one.startswith("trsm.")


# ---- What the pages say besides -------------------------------------------------------------------------------------


Take = Callable[[str], SimpleNamespace]


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Take:
    """Return what a program defines, without running it."""

    def taken(name: str) -> SimpleNamespace:
        with monkeypatch.context() as patched:
            patched.setattr(trio, "run", lambda *args, **kwargs: None)
            return SimpleNamespace(**runpy.run_path(str(PROGRAMS / f"{name}.py")))

    return taken


def test_sync_state_an_async_handler_is_refused(take: Take) -> None:
    """When the decorator sees it."""
    with pytest.raises(trsm.HandlerError, match="move the waiting into a task"):

        @take("sync_state").Lamp.On.on_enter
        async def light(t: trsm.Transition) -> None: ...


async def test_two_states_a_task_that_swallows_its_cancellation(take: Take, autojump_clock: object) -> None:
    """Reports what nobody wants if it adds the state by hand, and not with ``then=``."""
    page = take("two_states").Page

    async def stubborn(t: trsm.Transition) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)

    @page.Loading.task
    async def by_hand(t: trsm.Transition) -> None:
        await stubborn(t)
        t.machine.add(page.Loaded)

    for task, is_reported in ((by_hand, True), (page.Loading.task(then=page.Loaded)(stubborn), False)):
        async with trsm.open_machine(page, task) as machine:
            machine.add(page.Loading)
            await trio.testing.wait_all_tasks_blocked()
            machine.remove(page.Loading)
            await trio.sleep(2)
            assert machine.is_active(page.Loaded) is is_reported


async def test_four_states_an_auto_state_waits_for_the_first_mutation(take: Take) -> None:
    """Opening activates nothing."""
    link = take("four_states").Link
    async with trsm.open_machine(link) as machine:
        assert not machine.when(link.Disconnected).done
        machine.remove(link.Connected)
        assert not machine.when(link.Disconnected).done  # it moved no tick
        machine.add(link.Connecting)
        machine.remove(link.Connecting)
        assert machine.when(link.Disconnected).done


def test_one_of_several_two_of_a_group_are_refused(take: Take) -> None:
    """They exclude each other, and nothing chooses."""
    light = take("one_of_several").Light
    engine = trsm.Engine(light)
    assert not engine.add(light.Red, light.Green)
    explanation = engine.explain("add", light.Red, light.Green)
    assert not explanation
    assert "Red" in str(explanation)
    assert engine.which(light.colour) is None


async def test_self_removing_whoever_subscribes_late_waits_for_the_next(take: Take) -> None:
    """The state is inactive again when the call returns."""
    program = take("self_removing")
    async with trsm.open_machine(program.Button, program.Handlers()) as button:
        button.add(program.Button.Enabled)
        button.add(program.Button.Clicked)
        late = button.when(program.Button.Clicked)
        assert not late.done
        moved = button.when_ticks(program.Button.Clicked, 2)
        button.add(program.Button.Clicked)
        assert late.done
        assert moved.done


async def test_at_most_n_a_state_stays_when_its_tasks_have_ended(take: Take, autojump_clock: object) -> None:
    """Until it is removed."""
    program = take("at_most_n")
    async with trsm.open_machine(program.Pool, program.work) as pool:
        pool.add(program.Pool.Working(1))
        await pool.when(program.Pool.Done)
        await trio.sleep(10)
        assert pool.is_active(program.Pool.Working)


async def test_while_active_a_scope_is_of_one_activity(take: Take) -> None:
    """Over from the start if the state is inactive, and over for good when it has left."""
    link = take("while_active").Link
    async with trsm.open_machine(link) as machine:
        with machine.while_active(link.Connected) as scope:
            await trio.lowlevel.checkpoint()
            pytest.fail("the first await ends the block")
        assert scope.cancelled_caught
        machine.add(link.Connected)
        with machine.while_active(link.Connected) as scope:
            machine.remove(link.Connected)
            machine.add(link.Connected)
            assert scope.cancel_called


async def test_throttled_input_a_pause_is_a_state_that_is_removed_and_added(autojump_clock: object) -> None:
    """Each input begins its time anew; calling a multi state again does not."""

    class Typing(Schema):
        Waiting = State(multi=True, timeout=1)

    async with trsm.open_machine(Typing) as machine:
        for is_anew in (True, False):
            machine.add(Typing.Waiting)
            await trio.sleep(0.8)
            if is_anew:
                machine.remove(Typing.Waiting)
            machine.add(Typing.Waiting)
            await trio.sleep(0.8)
            assert machine.is_active(Typing.Waiting) is is_anew
            await trio.sleep(1)
            assert machine.is_inactive(Typing.Waiting)


async def test_batching_an_error_leaves_no_line_behind(take: Take, capsys: pytest.CaptureFixture[str]) -> None:
    """Closing ends the batch."""
    program = take("batching")
    handlers = program.Handlers()
    with pytest.raises(ExceptionGroup):
        async with trsm.open_machine(program.Journal, handlers) as journal:
            handlers.log(journal, "the last")
            journal.add_error(ValueError())
    assert capsys.readouterr().out == "1 lines, the last to the last\n"


async def test_validation_a_mutation_in_negotiation_is_refused(take: Take) -> None:
    """It raises there, and the state that it is about comes or not as the handler says."""
    account = take("validation").Account

    @account.Open.can_enter
    def acts(t: trsm.Transition) -> bool:
        with pytest.raises(trsm.ReadOnly):
            t.machine.add(account.Open)
        return True

    async with trsm.open_machine(account, acts) as machine:
        assert machine.can_add(account.Open)
        assert machine.is_inactive(account.Open)  # it was only asked
        assert machine.add(account.Open)


async def test_from_negotiation_all_handlers_see_the_same_instance(take: Take) -> None:
    """The one that was called with: negotiation, final handler and task."""
    sheet = take("from_negotiation").Sheet
    seen: list[object] = []

    @sheet.Shown.can_enter
    def ask(t: trsm.Transition) -> bool:
        seen.append(t.args_of(sheet.Shown))
        return True

    @sheet.Shown.on_enter
    def act(t: trsm.Transition) -> None:
        seen.append(t.args_of(sheet.Shown))

    @sheet.Shown.task
    async def work(t: trsm.Transition) -> None:
        seen.append(t.args_of(sheet.Shown))

    async with trsm.open_machine(sheet, ask, act, work) as machine:
        machine.add(sheet.Shown("1"))
        await trio.testing.wait_all_tasks_blocked()
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1


async def test_success_or_failure_waiting_for_success_alone(take: Take, autojump_clock: object) -> None:
    """Waits for ever once the job has failed; a new attempt clears the error."""
    program = take("success_or_failure")
    async with trsm.open_machine(program.Job, program.work) as machine:
        machine.add(program.Job.Working, text="no number")
        with trio.move_on_after(1000) as scope:
            await machine.when(program.Job.Done)
        assert scope.cancelled_caught
        assert machine.is_inactive(program.Job.Working)
        machine.add(program.Job.Working, text="5")
        assert machine.is_inactive(program.Job.Error)


async def test_error_setters_an_error_state_that_is_added_has_no_exception(take: Take) -> None:
    """It is active, and nothing is in it; nor is nothing an error."""
    program = take("error_setters")
    async with trsm.open_machine(program.Feed, program.tell) as feed:
        feed.add(program.Feed.Lost)
        assert feed.is_active(program.Feed.Lost)
        assert feed.error is None
        with pytest.raises(TypeError):
            feed.add_error(None)  # type: ignore[arg-type]


async def test_task_deadline_an_error_does_not_deactivate_the_state(autojump_clock: object) -> None:
    """Unless a relation says so."""

    class Call(Schema):
        Waiting = State()
        TooSlow = ErrorState(catches=trio.TooSlowError)

    @Call.Waiting.task(timeout=1)
    async def wait(t: trsm.Transition) -> None:
        await trio.sleep_forever()

    async with trsm.open_machine(Call, wait) as machine:
        machine.add(Call.Waiting)
        await machine.when(Call.TooSlow)
        assert machine.is_active(Call.Waiting)


async def test_state_timeouts_one_that_is_refused_is_logged(
    take: Take, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The state stays."""
    session = take("state_timeouts").Session

    @session.Active.can_exit
    def never(t: trsm.Transition) -> bool:
        return False

    async with trsm.open_machine(session, never) as machine:
        machine.add(session.Active)
        await trio.sleep(100)
        assert machine.is_active(session.Active)
    assert "timeout of Active (3 s) was refused" in caplog.text


async def test_retry_does_not_repeat_what_was_executed(take: Take) -> None:
    """That its task fails afterwards is another matter."""
    page = take("two_states").Page
    made: list[trsm.Result] = []

    class Failing(page):  # type: ignore[misc]
        Broken = ErrorState(catches=ValueError)

    @page.Loading.task
    async def load(t: trsm.Transition) -> None:
        raise ValueError

    async with trsm.open_machine(Failing, load) as machine:

        def mutation() -> trsm.Result:
            made.append(machine.add(page.Loading))
            return made[-1]

        assert await trsm.retry(mutation)
        await machine.when(Failing.Broken)
    assert len(made) == 1


async def test_blocking_handlers_that_feed_themselves_end_in_not_settled() -> None:
    """After 10,000 transitions."""

    class Loop(Schema):
        Ping = State(multi=True)

    @Loop.Ping.on_enter
    def again(t: trsm.Transition) -> None:
        t.machine.add(Loop.Ping)

    with pytest.raises(ExceptionGroup) as caught:
        async with trsm.open_machine(Loop, again) as machine:
            machine.add(Loop.Ping)
    assert isinstance(caught.value.exceptions[0], trsm.NotSettled)
    assert machine.ticks_at_close is not None
    assert machine.ticks_at_close[Loop.Ping] > 19_000


async def test_several_machines_one_that_closes_fails_its_waiters(take: Take) -> None:
    """Whatever it closed after is the cause."""
    job = take("several_machines").Job
    async with trsm.open_machine(job) as good:
        with pytest.raises(ExceptionGroup):
            async with trsm.open_machine(job) as bad:
                both = trsm.wait_all(good.when(job.Done), bad.when(job.Done))
                bad.add_error(KeyError("why"))
        with pytest.raises(trsm.MachineClosed) as caught:
            await both
        assert isinstance(caught.value.__cause__, KeyError)


async def test_pipes_one_that_is_made_late(take: Take) -> None:
    """Carries only what comes from then on, unless it is told to catch up."""
    program = take("use_pipes")
    async with trsm.open_machine(program.Link) as link, trsm.open_machine(program.Shop) as shop:
        link.add(program.Link.Connected)
        wire = trsm.pipe(link, program.Link.Connected, shop, program.Shop.Online)
        assert shop.is_inactive(program.Shop.Online)
        wire.sync()
        assert shop.is_active(program.Shop.Online)


async def test_threads_one_of_your_own(take: Take) -> None:
    """It needs trio's token."""
    door = take("threads").Door
    results: list[object] = []
    async with trsm.open_machine(door) as machine:
        token = trio.lowlevel.current_trio_token()

        def in_a_thread() -> None:
            try:
                trio.from_thread.run_sync(machine.add, door.Open)
            except RuntimeError as error:
                results.append(error)
            results.append(trio.from_thread.run_sync(machine.add, door.Open, trio_token=token))

        thread = threading.Thread(target=in_a_thread)
        thread.start()
        await machine.when(door.Open)
        await trio.to_thread.run_sync(thread.join)
    assert isinstance(results[0], RuntimeError)
    assert results[1]


async def test_async_cleanup_runs_when_the_machine_has_closed(take: Take) -> None:
    """A mutation is canceled there; what was active can be read."""
    server = take("async_cleanup").Server

    async def clean_up() -> None:
        assert not machine.add(server.Serving)
        assert machine.active_states == ()
        assert machine.ticks_at_close is not None
        seen.append(machine.ticks_at_close.active_states)

    seen: list[object] = []
    async with trsm.open_machine(server) as machine:
        machine.add(server.Serving)
        machine.defer(clean_up)
    assert seen == [(server.Serving,)]


async def test_graceful_shutdown_leaving_the_block_cancels(
    take: Take, autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a job that takes too long is cut off when its ten seconds are over."""
    program = take("graceful_shutdown")
    async with trsm.open_machine(program.Server, program.Handlers()) as server:
        server.add(program.Server.Working(1))
        await trio.testing.wait_all_tasks_blocked()
    assert capsys.readouterr().out == ""
    async with trsm.open_machine(program.Server, program.Handlers()) as server:
        begun = trio.current_time()
        server.add(program.Server.Working(1000))
        server.add(program.Server.Stopping)
        await trio.sleep_forever()
    assert trio.current_time() - begun == pytest.approx(10)
    assert capsys.readouterr().out == ""


async def test_snapshots_free_keywords_are_not_kept(take: Take) -> None:
    """The restarted task finds none; args instances it does."""
    program = take("snapshots")
    delivery = program.Delivery
    seen: list[object] = []

    @delivery.Packing.task
    async def pack(t: trsm.Transition) -> None:
        seen.append(dict(t.args))
        seen.append((await t.machine.when(delivery.Ordered)).args_of(delivery.Ordered).count)

    snapshot = None
    for _ in range(2):
        async with trsm.open_machine(delivery, pack, snapshot=snapshot) as machine:
            if snapshot is None:
                machine.add(delivery.Ordered(item="books", count=3))
                machine.add(delivery.Packing, count=3)
            snapshot = machine.snapshot()
            await trio.testing.wait_all_tasks_blocked()
    assert seen == [{"count": 3}, 3, {}, 3]
