"""The one stable order in which a schema's handlers run (DESIGN section 4, "Order of handlers")."""

from __future__ import annotations

import heapq

from trsm._core._bits import members, transpose


def cycle(edges: tuple[int, ...]) -> list[int]:
    """Return one circle of the relation `edges` as a list of members, or an empty list if there is none.

    ``edges[i]`` holds what i points to. Iterative depth-first search, so that a long chain cannot overflow the stack.
    """
    finished = 0
    for root in range(len(edges)):
        if finished >> root & 1:
            continue
        path = [root]
        onpath = 1 << root
        left = [edges[root]]
        while path:
            ahead = left[-1] & ~finished
            back = ahead & onpath
            if back:
                return path[path.index(next(members(back))) :]
            if ahead:
                lowest = ahead & -ahead
                left[-1] = ahead ^ lowest
                path.append(lowest.bit_length() - 1)
                onpath |= lowest
                left.append(edges[path[-1]])
            else:
                left.pop()
                bit = 1 << path.pop()
                finished |= bit
                onpath ^= bit
    return []


def _reaches(edges: list[int], start: int, goal: int) -> bool:
    seen = frontier = 1 << start
    while frontier:
        following = 0
        for index in members(frontier):
            following |= edges[index]
        if following >> goal & 1:
            return True
        frontier = following & ~seen
        seen |= frontier
    return False


def handler_order(after: tuple[int, ...], require: tuple[int, ...]) -> tuple[int, ...]:
    """Return all states in the order in which they enter; leaving is its reverse.

    ``after[i]`` holds the states whose handlers run before those of i. They must be free of circles. A
    requirement's handlers run first too, unless that would close a circle. Ties go to declaration order
    (Kahn's algorithm with a heap).
    """
    count = len(after)
    earlier = [mine | needed for mine, needed in zip(after, require, strict=True)]
    if cycle(tuple(earlier)):
        # Some requirement edge closes a circle: take them one by one, in declaration order.
        earlier = list(after)
        for index in range(count):
            for needed in members(require[index]):
                if needed != index and not _reaches(earlier, needed, index):
                    earlier[index] |= 1 << needed
    later = transpose(tuple(earlier))
    waiting = [mask.bit_count() for mask in earlier]
    ready = [index for index in range(count) if not waiting[index]]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for follower in members(later[index]):
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    return tuple(order)
