"""Waiters composed: `|`, `&`, `wait_all` and `wait_any`, over one machine and several (DESIGN section 6)."""

from __future__ import annotations

import functools
import gc
import operator
from collections.abc import Callable

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trsm
from trsm import Machine, MachineClosed, Schema, State, Waiter, wait_all, wait_any


class Abc(Schema):
    A = State()
    B = State()
    C = State()
    Ping = State(multi=True)


def subscribed(machine: Machine) -> int:
    return 0 if machine._subscriptions is None else len(machine._subscriptions)


def failing(machine: Machine, state: State, error: Exception) -> Waiter:
    """Return a waiter that fails with this error once the state is active."""

    def query(ticks: trsm.Ticks) -> bool:
        if ticks.is_active(state):
            raise error
        return False

    return machine.when_query(query)


async def value(waiter: Waiter) -> object:
    assert waiter.done
    return await waiter


async def failure(waiter: Waiter) -> Exception:
    assert waiter.done
    with pytest.raises(Exception) as caught:
        await waiter
    return caught.value


# ---- The first of two -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [Abc.A, Abc.B])
async def test_first_of_two(state: State) -> None:
    """`a | b` ends with the value of the first that ends."""
    async with trsm.open_machine(Abc) as machine:
        either = machine.when(Abc.A) | machine.when(Abc.B)
        machine.add(Abc.C)
        assert not either.done
        machine.add(state)
        first = machine.last_transition
        assert await value(either) is first
        machine.add(Abc.A, Abc.B)
        assert await value(either) is first


async def test_both_end_in_one_transition() -> None:
    """On a tie the left one gives the value, whichever was made first, also through compositions of compositions."""
    async with trsm.open_machine(Abc) as machine, trsm.open_machine(Abc) as other:
        other.add(Abc.A)
        a, b = machine.when(Abc.A), machine.when_error() | machine.when_not(Abc.C) & machine.when(Abc.B)
        left, right = wait_any(a, b), wait_any(b, a)
        deep = wait_any(machine.when_error() | (machine.when_error() | a), b)
        deeper = wait_any(b, machine.when_error() | (machine.when_error() | a))
        machine.add(Abc.A, Abc.B)
        last = machine.last_transition
        assert (await value(left))[0] == 0
        assert await value(left) == (0, last)
        assert (await value(right))[0] == 0
        assert await value(deep) == (0, last)
        assert (await value(deeper))[0] == 0


async def test_one_has_ended_when_composed() -> None:
    """Composed with one that has ended, it has ended too; of two, the left one counts."""
    async with trsm.open_machine(Abc) as machine:
        machine.add(Abc.A)
        machine.add(Abc.B)
        a, b, c = machine.when(Abc.A), machine.when(Abc.B), machine.when(Abc.C)
        for waiter, expected in ((a | c, a), (c | a, a), (a | b, a), (b | a, b)):
            assert await value(waiter) is await a if expected is a else await value(waiter) is await b
        assert not (c | c).done
        assert subscribed(machine) == 1


async def test_left_fails_and_right_ends_well() -> None:
    """`a | b` fails only when both have failed: until then it waits for the other."""
    async with trsm.open_machine(Abc) as machine:
        wrong = KeyError("left")
        either = failing(machine, Abc.A, wrong) | machine.when(Abc.B)
        machine.add(Abc.A)
        assert not either.done
        machine.add(Abc.B)
        assert await value(either) is machine.last_transition


async def test_one_fails_and_one_ends_well_in_one_transition() -> None:
    """Where one transition fails the left and satisfies the right, the right one's value counts."""
    async with trsm.open_machine(Abc) as machine:
        either = failing(machine, Abc.A, KeyError()) | machine.when(Abc.A)
        machine.add(Abc.A)
        assert await value(either) is machine.last_transition


@pytest.mark.parametrize("together", [True, False])
async def test_both_fail(together: bool) -> None:
    """When both have failed, `a | b` fails with what the left one failed with, whichever was the first to fail."""
    async with trsm.open_machine(Abc) as machine:
        left, right = KeyError("left"), ValueError("right")
        either = failing(machine, Abc.A, left) | failing(machine, Abc.B, right)
        if together:
            machine.add(Abc.A, Abc.B)
        else:
            machine.add(Abc.B)
            assert not either.done
            machine.add(Abc.A)
        assert await failure(either) is left


# ---- Both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(Abc.A, Abc.B), (Abc.B, Abc.A)])
async def test_both(order: tuple[State, State]) -> None:
    """`a & b` ends when both have, with a tuple in the order written."""
    async with trsm.open_machine(Abc) as machine:
        a, b = machine.when(Abc.A), machine.when(Abc.B)
        both = a & b
        machine.add(order[0])
        assert not both.done
        machine.remove(order[0])  # that it held at once is not asked
        machine.add(order[1])
        assert await value(both) == (await value(a), await value(b))
        assert (await value(both))[0].called == (Abc.A,)


async def test_both_nested() -> None:
    """`&` makes pairs of pairs; `wait_all` is flat."""
    async with trsm.open_machine(Abc) as machine:
        a, b, c = machine.when(Abc.A), machine.when(Abc.B), machine.when(Abc.C)
        nested, flat = a & b & c, wait_all(a, b, c)
        machine.add(Abc.A)
        machine.add(Abc.B)
        assert not nested.done
        assert not flat.done
        machine.add(Abc.C)
        values = (await value(a), await value(b), await value(c))
        assert await value(nested) == ((values[0], values[1]), values[2])
        assert await value(flat) == values
        assert await value(a & b) == values[:2]


@pytest.mark.parametrize("side", [0, 1])
async def test_both_fails_at_the_first_failure(side: int) -> None:
    """`a & b` fails as soon as one has failed."""
    async with trsm.open_machine(Abc) as machine:
        wrong = KeyError("wrong")
        waiters = [machine.when(Abc.C), failing(machine, Abc.A, wrong)]
        both = waiters[side] & waiters[1 - side]
        assert not both.done
        machine.add(Abc.A)
        assert await failure(both) is wrong
        assert await failure(waiters[1] & machine.when(Abc.C)) is wrong


async def test_both_fail_in_one_transition() -> None:
    """On a tie of failures, the left one's counts."""
    async with trsm.open_machine(Abc) as machine:
        left, right = KeyError("left"), ValueError("right")
        both = failing(machine, Abc.A, left) & failing(machine, Abc.A, right)
        machine.add(Abc.A)
        assert await failure(both) is left


async def test_left_ends_well_before_right_fails() -> None:
    """`a & b` fails though the left one had ended well."""
    async with trsm.open_machine(Abc) as machine:
        wrong = KeyError("wrong")
        both = machine.when(Abc.A) & failing(machine, Abc.B, wrong)
        machine.add(Abc.A)
        assert not both.done
        machine.add(Abc.B)
        assert await failure(both) is wrong


async def test_a_waiter_composed_with_itself() -> None:
    """One waiter may stand in a composition twice."""
    async with trsm.open_machine(Abc) as machine:
        a = machine.when(Abc.A)
        both, either, three = a & a, a | a, wait_all(a, a, a)
        machine.add(Abc.A)
        last = machine.last_transition
        assert await value(both) == (last, last)
        assert await value(either) is last
        assert await value(three) == (last, last, last)


# ---- wait_all, wait_any ---------------------------------------------------------------------------------------------


async def test_wait_any_says_which() -> None:
    """`wait_any` gives the index of the one that ended, and its value."""
    async with trsm.open_machine(Abc) as machine:
        either = wait_any(machine.when(Abc.A), machine.when(Abc.B), machine.when(Abc.C))
        machine.add(Abc.B)
        assert await value(either) == (1, machine.last_transition)
        tie = wait_any(machine.when(Abc.A), machine.when_ticks(Abc.C, 1), machine.when_next(Abc.C))
        machine.add(Abc.C)
        assert await value(tie) == (1, machine.last_transition)


async def test_wait_any_where_some_fail() -> None:
    """`wait_any` passes over failures, and fails with the first one's when all have failed."""
    async with trsm.open_machine(Abc) as machine:
        first, second = KeyError("first"), ValueError("second")
        some = wait_any(failing(machine, Abc.A, first), failing(machine, Abc.B, second), machine.when(Abc.C))
        none = wait_any(failing(machine, Abc.A, first), failing(machine, Abc.B, second))
        machine.add(Abc.B)
        machine.add(Abc.A)
        assert not some.done
        assert await failure(none) is first
        machine.add(Abc.C)
        assert await value(some) == (2, machine.last_transition)


async def test_wait_all_and_wait_any_of_one() -> None:
    """Of one waiter, `wait_all` gives a tuple of one, and `wait_any` index 0."""
    async with trsm.open_machine(Abc) as machine:
        assert await value(wait_all(machine.when_not(Abc.A))) == (machine.last_transition,)
        assert await value(wait_any(machine.when_not(Abc.A))) == (0, machine.last_transition)


@pytest.mark.parametrize("function", [wait_all, wait_any])
async def test_composing_nothing(function: Callable[..., Waiter]) -> None:
    """To wait for no waiter, or for something that is none, is refused, with what to write."""
    name = function.__name__
    with pytest.raises(ValueError) as caught:
        function()
    assert str(caught.value) == f"{name}() waits for nothing: pass at least one waiter"
    async with trsm.open_machine(Abc) as machine:
        with pytest.raises(TypeError) as wrong:
            function(machine.when(Abc.A), Abc.B)
        assert str(wrong.value) == f"{name}({Abc.B!r}): pass waiters, such as machine.when(…)"


@pytest.mark.parametrize("operation", [operator.or_, operator.and_])
async def test_composing_with_what_is_no_waiter(operation: Callable[[object, object], object]) -> None:
    """`|` and `&` take waiters only, on either side."""
    async with trsm.open_machine(Abc) as machine:
        for left, right in ((machine.when(Abc.A), Abc.B), (Abc.B, machine.when(Abc.A)), (machine.when(Abc.A), None)):
            with pytest.raises(TypeError, match="unsupported operand"):
                operation(left, right)


# ---- Several machines -----------------------------------------------------------------------------------------------


async def test_over_several_machines() -> None:
    """Waiters of several machines compose."""
    async with trsm.open_machine(Abc) as one, trsm.open_machine(Abc) as two:
        both, either = one.when(Abc.A) & two.when(Abc.B), wait_any(one.when(Abc.B), two.when(Abc.B))
        one.add(Abc.A)
        assert not both.done
        two.add(Abc.B)
        assert await value(both) == (one.last_transition, two.last_transition)
        assert await value(either) == (1, two.last_transition)


async def test_one_of_several_machines_closes() -> None:
    """A machine that closes fails its part: `&` with it, and `|` only when the other has failed too."""
    async with trsm.open_machine(Abc) as one:
        async with trsm.open_machine(Abc) as two:
            both = one.when(Abc.A) & two.when(Abc.B)
            either, last = one.when(Abc.A) | two.when(Abc.B), two.when(Abc.B) | one.when(Abc.B)
        error = await failure(both)
        assert isinstance(error, MachineClosed)
        assert error.machine is two
        assert not either.done
        one.add(Abc.A)
        assert await value(either) is one.last_transition
        assert not last.done
    error = await failure(last)
    assert isinstance(error, MachineClosed)
    assert error.machine is two


async def test_one_machine_acts_on_another_in_a_predicate() -> None:
    """A composition over two machines that both end in one call ends once, whoever looks first."""
    async with trsm.open_machine(Abc) as one, trsm.open_machine(Abc) as two:
        a = one.when(Abc.A)
        b = two.when(Abc.B)
        woken: list[object] = []

        async def wait(waiter: Waiter) -> None:
            woken.append(await waiter)

        chain = one.when(Abc.A, where=lambda t: bool(two.add(Abc.B)))
        both, either, three = a & b, b | a, wait_all(a, b, chain)
        async with trio.open_nursery() as nursery:
            for waiter in (both, either, three):
                nursery.start_soon(wait, waiter)
            await wait_all_tasks_blocked()
            one.add(Abc.A)
        assert len(woken) == 3
        assert await value(both) == (one.last_transition, two.last_transition)
        assert await value(three) == (one.last_transition, two.last_transition, one.last_transition)


async def test_all_children_of_a_machine_are_joined() -> None:
    """`wait_all` joins many children."""
    async with trsm.open_machine(Abc) as machine:
        children = [machine.start_child(Abc) for _ in range(20)]
        joined = wait_all(*(child.when_closed() for child in children))
        for child in children:
            assert not joined.done
            child.close()
        assert await value(joined) == (None,) * 20


async def test_closing_satisfies_one_and_fails_the_other() -> None:
    """What the last mutation satisfies counts before what closing fails."""
    async with trsm.open_machine(Abc) as machine:
        machine.add(Abc.A)
        gone, never = machine.when_not(Abc.A), machine.when(Abc.B)
        either, other_way, both = gone | never, never | gone, gone & never
    for waiter in (either, other_way):
        assert await value(waiter) is machine.last_transition
    assert isinstance(await failure(both), MachineClosed)


async def test_closed_error_is_fresh_through_a_composition() -> None:
    """Each await of a failed composition raises a `MachineClosed` of its own."""
    async with trsm.open_machine(Abc) as machine:
        both = machine.when(Abc.B) & machine.when(Abc.C)
    one, two = await failure(both), await failure(both)
    assert isinstance(one, MachineClosed)
    assert one is not two


# ---- Awaiting -------------------------------------------------------------------------------------------------------


async def test_awaiting_temporaries() -> None:
    """`await (a | b)` of waiters that nobody else holds wakes: who awaits a composition holds its parts."""
    async with trsm.open_machine(Abc) as machine:
        got: list[object] = []

        async def either() -> None:
            got.append(await (machine.when(Abc.A) | machine.when(Abc.B)))

        async def deep() -> None:
            got.append(
                await ((machine.when(Abc.C) | machine.when(Abc.A)) & (machine.when(Abc.A) & machine.when(Abc.A)))
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(either)
            nursery.start_soon(deep)
            await wait_all_tasks_blocked()
            gc.collect()
            machine.add(Abc.A)
        last = machine.last_transition
        assert sorted(got, key=repr) == sorted([last, (last, (last, last))], key=repr)
        assert subscribed(machine) == 0


async def test_part_that_is_awaited_too() -> None:
    """A waiter may be awaited by one task and be a part of what another awaits; both wake in one step."""
    async with trsm.open_machine(Abc) as machine:
        a = machine.when(Abc.A)
        order: list[str] = []

        async def wait(name: str, waiter: Waiter) -> None:
            await waiter
            order.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "composed", (a & machine.when_not(Abc.B)) | machine.when(Abc.B))
            nursery.start_soon(wait, "plain", a)
            await wait_all_tasks_blocked()
            machine.add(Abc.A)
            await wait_all_tasks_blocked()
            assert sorted(order) == ["composed", "plain"]


async def test_awaiting_a_composition_is_a_checkpoint() -> None:
    """Awaiting is a checkpoint also where the composition has ended, well or not."""
    async with trsm.open_machine(Abc) as machine:
        machine.add(Abc.A)
        wrong = failing(machine, Abc.A, KeyError())
        with assert_checkpoints():
            await (machine.when(Abc.A) | wrong)
        with assert_checkpoints(), pytest.raises(KeyError):
            await (machine.when(Abc.A) & wrong)


async def test_cancelled_await_of_a_composition() -> None:
    """A cancelled await leaves nothing of a composition behind, and takes nothing from those who hold a part."""
    async with trsm.open_machine(Abc) as machine:
        kept = machine.when(Abc.A)
        with trio.move_on_after(0):
            await ((kept | machine.when(Abc.B)) & machine.when_query(lambda ticks: False))
        assert subscribed(machine) == 1
        machine.add(Abc.A)
        assert kept.done


async def test_dropped_composition() -> None:
    """A composition that is dropped drops its parts, but those that somebody holds."""
    async with trsm.open_machine(Abc) as machine:
        kept = machine.when(Abc.A)
        composed = wait_all(kept | machine.when(Abc.B), machine.when(Abc.C))
        assert subscribed(machine) == 3
        del composed
        assert subscribed(machine) == 1
        assert not kept.done


async def test_ended_composition_drops_its_other_parts() -> None:
    """When `a | b` has ended by one, the other is no longer looked after, though the composition is kept."""
    async with trsm.open_machine(Abc) as machine:
        either = machine.when(Abc.A) | machine.when(Abc.B)
        both = machine.when(Abc.C) & failing(machine, Abc.A, KeyError())
        machine.add(Abc.A)
        assert either.done
        assert both.done
        assert subscribed(machine) == 0


async def test_dropped_part_of_a_living_composition() -> None:
    """A part that nobody else holds lives in its composition, and one that has ended needs no composition."""
    async with trsm.open_machine(Abc) as machine:
        a, b = machine.when(Abc.A), machine.when(Abc.B)
        outer = (a | b) & machine.when(Abc.C)
        del a, b
        machine.add(Abc.B)
        machine.add(Abc.C)
        assert outer.done


# ---- Many -----------------------------------------------------------------------------------------------------------


async def test_composed_over_and_over() -> None:
    """A waiter that lives long and is composed again and again does not grow, awaited, dropped or ended."""
    async with trsm.open_machine(Abc) as machine:
        stop = machine.when(Abc.C)
        held: list[Waiter] = []
        for round in range(200):
            machine.add(Abc.Ping)
            await (stop | machine.when(Abc.Ping))
            stop | machine.when_next(Abc.Ping)
            ended = stop | machine.when_next(Abc.A)
            machine.toggle(Abc.A)
            if round < 8:
                held.append(ended)
                held.append(stop & machine.when_next(Abc.B))
        living = sum(not waiter.done for waiter in held)
        assert 8 <= living < 16
        assert len(stop._above) <= 2 * (living + 1)
        machine.add(Abc.C, Abc.B)
        assert all(waiter.done for waiter in held)
        assert stop._above is None


async def test_very_many_living_compositions() -> None:
    """Waiting for many waiters at once takes time in proportion to their number: no part is looked at often."""
    async with trsm.open_machine(Abc) as machine:
        stop = machine.when(Abc.C)
        looked = 0

        class Counted(type(machine.when(Abc.A))):
            @property
            def done(self) -> bool:
                nonlocal looked
                looked += 1
                return self._is_done

        many = [Counted(machine, 1) for _ in range(500)]
        everything = wait_all(*many)
        anything = wait_any(stop, *many)
        looked = 0
        for number, part in enumerate(many):
            part._end(number, None)
            trsm._waiters.wake([part])
        assert await value(everything) == tuple(range(500))
        assert await value(anything) == (1, 0)
        assert looked <= 500 * 4


async def test_long_chains() -> None:
    """A chain of hundreds of `|` or `&` is judged from the inside out, without recursion."""
    async with trsm.open_machine(Abc) as machine:
        waiters = [machine.when(Abc.A), *(machine.when(Abc.B) for _ in range(2000))]
        either = functools.reduce(operator.or_, waiters)
        right = functools.reduce(lambda inner, outer: outer | inner, waiters)
        both = functools.reduce(operator.and_, waiters)
        machine.add(Abc.A)
        assert await value(either) is machine.last_transition
        assert await value(right) is machine.last_transition
        assert not both.done
        machine.add(Abc.B)
        assert both.done


# ---- What a waiter is not -------------------------------------------------------------------------------------------


async def test_a_waiter_has_no_truth() -> None:
    """`if` and `and` would take it for true, and `and` would drop the first of two: the message says what to do."""
    async with trsm.open_machine(Abc) as machine:
        for waiter in (machine.when(Abc.A), machine.when_closed(), machine.when(Abc.A) | machine.when(Abc.B)):
            with pytest.raises(TypeError, match=r", waiting> is neither true nor false: await it, .* & and \|") as told:
                bool(waiter)
            assert str(told.value).startswith(repr(waiter))
        with pytest.raises(TypeError, match="neither true nor false"):
            machine.when(Abc.A) and machine.when(Abc.B)
        with pytest.raises(TypeError, match=r", done> is neither true nor false: .*ask for its .done"):
            bool(machine.when_not(Abc.A))


# ---- What it looks like ---------------------------------------------------------------------------------------------


async def test_repr_of_composites() -> None:
    """What they are made of, and what has become of each part; once they have ended they know their parts no more."""
    async with trsm.open_machine(Abc, id="abc") as machine, trsm.open_machine(Abc, id="other") as other:
        a, b, c = machine.when(Abc.A), other.when(Abc.B), machine.when(Abc.C)
        both, either = a & b, a | (b & c)
        each, first = wait_all(a, b, c), wait_any(c, b)
        assert repr(both) == "<Waiter (when(A) of 'abc' & when(B) of 'other'), waiting>"
        assert repr(either) == "<Waiter (when(A) of 'abc' | (when(B) of 'other' & when(C) of 'abc')), waiting>"
        assert repr(each) == "<Waiter wait_all(when(A) of 'abc', when(B) of 'other', when(C) of 'abc'), waiting>"
        assert repr(first) == "<Waiter wait_any(when(C) of 'abc', when(B) of 'other'), waiting>"
        machine.add(Abc.A)
        assert repr(both) == "<Waiter (when(A) of 'abc' (done) & when(B) of 'other'), waiting>"
        assert repr(either) == "<Waiter wait_any(…), done>"
        machine.close()
        assert repr(each) == "<Waiter wait_all(…), failed>"
        assert repr(first) == "<Waiter wait_any(when(C) of 'abc' (failed), when(B) of 'other'), waiting>"
        other.close()


async def test_repr_of_large_composites_is_bounded() -> None:
    """Three levels are shown, and four parts of each."""
    async with trsm.open_machine(Abc, id="abc") as machine:
        a = machine.when(Abc.A)
        deep = a | a | a | a | a | a
        one = "when(A) of 'abc'"
        assert repr(deep) == f"<Waiter (((wait_any(…) | {one}) | {one}) | {one}), waiting>"
        assert repr(wait_all(*[a] * 4)) == f"<Waiter wait_all({', '.join([one] * 4)}), waiting>"
        assert repr(wait_all(*[a] * 9)) == f"<Waiter wait_all({', '.join([one] * 4)}, … 5 more), waiting>"
