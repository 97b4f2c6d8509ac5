"""The order of handlers, circles, and the sets of small numbers beneath them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.adapter import compiled, mask_of
from model import strategies
from model.consensus import StateForm
from model.machine import handler_order as slow_order
from proof import examples
from trsm._core._bits import gather, members, transpose, union
from trsm._core._order import cycle, handler_order

numbers = st.sets(st.integers(0, 100))


def mask(these: set[int]) -> int:
    return sum(1 << number for number in these)


@st.composite
def graphs(draw: st.DrawFn) -> list[set[int]]:
    """Row i is the set of nodes that node i points to; itself may be among them."""
    count = draw(st.integers(0, 9))
    nodes = st.integers(0, count - 1)
    return [draw(st.sets(nodes, max_size=2)) for _ in range(count)]


# --- Sets of small numbers -------------------------------------------------------------------------------------------


@given(these=numbers)
def test_the_members_of_a_mask_come_in_ascending_order(these: set[int]) -> None:
    """Each member comes once, the smallest first, and the empty set has none."""
    assert list(members(mask(these))) == sorted(these)


@given(sets=st.lists(numbers))
def test_the_union_of_masks_is_the_union_of_the_sets(sets: list[set[int]]) -> None:
    """The union of no sets is the empty one."""
    assert union(map(mask, sets)) == mask(set().union(*sets))


@given(graph=graphs(), data=st.data())
def test_gathering_rows_of_a_table(graph: list[set[int]], data: st.DataObject) -> None:
    """What is gathered is the union of the rows that the mask names, and of no others."""
    these = {index for index in range(len(graph)) if data.draw(st.booleans())}
    assert gather(tuple(map(mask, graph)), mask(these)) == mask(set().union(*(graph[index] for index in these)))


@given(graph=graphs())
def test_a_table_turned_round(graph: list[set[int]]) -> None:
    """Bit i of row j becomes bit j of row i, and turned twice it is the same table."""
    table = tuple(map(mask, graph))
    turned = tuple(mask({index for index, row in enumerate(graph) if other in row}) for other in range(len(graph)))
    assert transpose(table) == turned
    assert transpose(turned) == table


# --- Circles ---------------------------------------------------------------------------------------------------------


def reachable(graph: list[set[int]], start: int) -> set[int]:
    """Where one step or more lead from `start`."""
    seen: set[int] = set()
    frontier = graph[start]
    while frontier:
        seen |= frontier
        frontier = set().union(*(graph[node] for node in frontier)) - seen
    return seen


@given(graph=graphs())
@examples(500)
def test_a_circle_is_found_exactly_if_there_is_one(graph: list[set[int]]) -> None:
    """What is found is a circle, each node pointing to the next and the last to the first, none twice."""
    found = cycle(tuple(map(mask, graph)))
    assert bool(found) == any(node in reachable(graph, node) for node in range(len(graph)))
    assert len(set(found)) == len(found)
    for node, following in zip(found, found[1:] + found[:1], strict=True):
        assert following in graph[node]


def test_a_circle_of_one() -> None:
    """A node that points to itself is a circle."""
    assert cycle((0b010, 0b010, 0)) == [1]


def test_a_long_chain_has_no_circle_and_overflows_nothing() -> None:
    """Ten thousand nodes one after the other, and the same with its end joined to its middle."""
    chain = tuple(1 << index + 1 for index in range(9_999))
    assert cycle((*chain, 0)) == []
    assert cycle((*chain, 1 << 5_000)) == list(range(5_000, 10_000))


# --- The order of handlers -------------------------------------------------------------------------------------------


@given(states=strategies.schemas())
@examples(400)
def test_handlers_of_random_schemas_run_in_the_order_of_the_model(states: dict[str, StateForm]) -> None:
    """The order is the one that the design's words give, circles of requirements included."""
    relations = compiled(states)
    assert [relations.names[index] for index in relations.entering] == slow_order(states)
    assert all(relations.entering[place] == index for index, place in enumerate(relations.rank))


@given(states=strategies.schemas(), data=st.data())
@examples(200)
def test_a_set_of_states_in_the_order_in_which_they_enter(states: dict[str, StateForm], data: st.DataObject) -> None:
    """The members of a set come in the one order of the schema, and their names in declaration order."""
    these = data.draw(strategies.some_names(states, 0))
    relations = compiled(states)
    assert [relations.names[index] for index in relations.in_order(mask_of(relations, these))] == [
        name for name in slow_order(states) if name in these
    ]
    assert relations.named(mask_of(relations, these)) == tuple(name for name in states if name in these)


def test_nothing_said_leaves_declaration_order() -> None:
    """Ties go to declaration order, and a schema without states has an empty order."""
    assert handler_order((0, 0, 0), (0, 0, 0)) == (0, 1, 2)
    assert handler_order((), ()) == ()


def test_a_requirement_enters_first() -> None:
    """What depends on a thing enters after it, and so is torn down before it."""
    assert handler_order((0, 0, 0), (0b110, 0b100, 0)) == (2, 1, 0)


def test_after_wins_over_a_requirement() -> None:
    """A requirement that would close a circle with `after` edges has no say."""
    assert handler_order((0, 0b001), (0b010, 0)) == (0, 1)


def test_the_first_declared_requirement_of_a_circle_has_its_say() -> None:
    """Of two states that require each other, the edge of the first declared counts, the other would close a circle."""
    assert handler_order((0, 0), (0b10, 0b01)) == (1, 0)


def test_a_circle_of_requirements_leaves_edges_outside_it_alone() -> None:
    """Only the edge that would close the circle is given up."""
    assert handler_order((0, 0, 0, 0), (0b0010, 0b0001, 0b1001, 0)) == (1, 0, 3, 2)


def test_a_long_chain_of_requirements_is_put_in_order() -> None:
    """Two thousand states, each requiring the next, enter in reverse."""
    count = 2_000
    require = tuple(1 << index + 1 for index in range(count - 1))
    assert handler_order((0,) * count, (*require, 0)) == tuple(reversed(range(count)))
