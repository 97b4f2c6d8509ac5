"""What the consensus knows of a schema: its relations and flags, as bit masks over declaration order."""

from __future__ import annotations

from trsm._core._bits import members, transpose
from trsm._core._order import handler_order


class Relations:
    """A schema compiled: row i of each table is the set of states that state i names."""

    __slots__ = (
        "add",
        "added_by",
        "after",
        "auto",
        "entering",
        "excludes",
        "latch",
        "multi",
        "names",
        "rank",
        "remove",
        "removed_by",
        "require",
        "required_by",
    )

    names: tuple[str, ...]
    require: tuple[int, ...]
    required_by: tuple[int, ...]
    add: tuple[int, ...]
    added_by: tuple[int, ...]
    remove: tuple[int, ...]
    removed_by: tuple[int, ...]
    after: tuple[int, ...]
    auto: int
    multi: int
    latch: int
    excludes: tuple[int, ...]
    """Row i: the states that i removes or that remove i."""
    entering: tuple[int, ...]
    """All states in the order in which their handlers run on entering; leaving is its reverse."""
    rank: tuple[int, ...]
    """Row i: the place of state i in `entering`."""

    def __init__(
        self,
        names: tuple[str, ...],
        require: tuple[int, ...],
        add: tuple[int, ...],
        remove: tuple[int, ...],
        after: tuple[int, ...],
        auto: int,
        multi: int,
        latch: int,
    ) -> None:
        self.names = names
        self.require, self.required_by = require, transpose(require)
        self.add, self.added_by = add, transpose(add)
        self.remove, self.removed_by = remove, transpose(remove)
        self.after = after
        self.auto, self.multi, self.latch = auto, multi, latch
        self.excludes = tuple(mine | theirs for mine, theirs in zip(remove, self.removed_by, strict=True))
        self.entering = handler_order(after, require)
        rank = [0] * len(self.entering)
        for place, index in enumerate(self.entering):
            rank[index] = place
        self.rank = tuple(rank)

    def in_order(self, mask: int) -> tuple[int, ...]:
        """Return the members of `mask` in the order in which they enter."""
        found = tuple(members(mask))
        return found if len(found) < 2 else tuple(sorted(found, key=self.rank.__getitem__))

    def named(self, mask: int) -> tuple[str, ...]:
        """Return the names of the members of `mask`, in declaration order."""
        names = self.names
        return tuple(names[index] for index in members(mask))
