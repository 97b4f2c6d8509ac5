"""What the consensus knows of a schema: its relations and flags, as bit masks over declaration order."""

from __future__ import annotations

import attrs

from trsm._core._bits import members, transpose
from trsm._core._order import handler_order


@attrs.frozen(eq=False, repr=False, match_args=False)
class Relations:
    """A schema compiled: row i of each table is the set of states that state i names."""

    names: tuple[str, ...]
    require: tuple[int, ...]
    add: tuple[int, ...]
    remove: tuple[int, ...]
    after: tuple[int, ...]
    auto: int
    multi: int
    latch: int
    required_by: tuple[int, ...] = attrs.field(init=False)
    removed_by: tuple[int, ...] = attrs.field(init=False)
    added_by: tuple[int, ...] = attrs.field(init=False)
    excludes: tuple[int, ...] = attrs.field(init=False)
    """Row i: the states that i removes or that remove i."""
    entering: tuple[int, ...] = attrs.field(init=False)
    """All states in the order in which their handlers run on entering; leaving is its reverse."""
    rank: tuple[int, ...] = attrs.field(init=False)
    """Row i: the place of state i in `entering`."""

    def __attrs_post_init__(self) -> None:
        removed_by = transpose(self.remove)
        put = object.__setattr__
        put(self, "required_by", transpose(self.require))
        put(self, "removed_by", removed_by)
        put(self, "added_by", transpose(self.add))
        put(self, "excludes", tuple(mine | theirs for mine, theirs in zip(self.remove, removed_by, strict=True)))
        entering = handler_order(self.after, self.require)
        rank = [0] * len(entering)
        for place, index in enumerate(entering):
            rank[index] = place
        put(self, "entering", entering)
        put(self, "rank", tuple(rank))

    def in_order(self, mask: int) -> tuple[int, ...]:
        """Return the members of `mask` in the order in which they enter."""
        found = tuple(members(mask))
        return found if len(found) < 2 else tuple(sorted(found, key=self.rank.__getitem__))

    def named(self, mask: int) -> tuple[str, ...]:
        """Return the names of the members of `mask`, in declaration order."""
        names = self.names
        return tuple(names[index] for index in members(mask))
