"""The floor: the same work by hand, a class with ``__slots__`` and a dict of callables. Its source is printed."""

from __future__ import annotations

from collections.abc import Callable


class Floor:
    """Two states in turn."""

    __slots__ = ("state", "steps")

    def __init__(self) -> None:
        self.state = "off"
        self.steps: dict[tuple[str, str], Callable[[], bool]] = {
            ("off", "switch_on"): self.to_on,
            ("on", "switch_off"): self.to_off,
        }

    def fire(self, event: str) -> bool:
        return self.steps[self.state, event]()

    def to_on(self) -> bool:
        self.state = "on"
        return True

    def to_off(self) -> bool:
        self.state = "off"
        return True


class GuardedFloor(Floor):
    """The same with one guard and one enter handler."""

    __slots__ = ("entered",)

    def __init__(self) -> None:
        super().__init__()
        self.entered = 0

    def to_on(self) -> bool:
        if not self.may_enter():
            return False
        self.state = "on"
        self.on_enter()
        return True

    def to_off(self) -> bool:
        if not self.may_enter():
            return False
        self.state = "off"
        self.on_enter()
        return True

    def may_enter(self) -> bool:
        return True

    def on_enter(self) -> None:
        self.entered += 1


class RingFloor:
    """A ring of states, with one guard and one enter handler."""

    __slots__ = ("entered", "following", "state", "steps")

    def __init__(self, size: int) -> None:
        self.state = "0"
        self.entered = 0
        self.following = {str(number): str((number + 1) % size) for number in range(size)}
        self.steps: dict[tuple[str, str], Callable[[], bool]] = {
            (str(number), "advance"): self.advance for number in range(size)
        }

    def fire(self, event: str) -> bool:
        return self.steps[self.state, event]()

    def advance(self) -> bool:
        if not self.may_enter():
            return False
        self.state = self.following[self.state]
        self.on_enter()
        return True

    def may_enter(self) -> bool:
        return True

    def on_enter(self) -> None:
        self.entered += 1
