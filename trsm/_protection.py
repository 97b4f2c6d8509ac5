"""Ctrl-C never lands inside a transition: whatever changes tables is marked, at no cost per call (DESIGN section 7).

`trio.lowlevel.enable_ki_protection` marks code objects, and of the marked frames on the stack the innermost decides.
The modules of the shell mark themselves, and the kernel's from outside, so that the kernel stays free of trio. State
tasks and cleanups run user code unprotected.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Awaitable, Iterator
from typing import TypeVar, cast

import trio

T = TypeVar("T")


@trio.lowlevel.disable_ki_protection
async def unprotected(awaitable: Awaitable[T]) -> T:
    """Run a user's coroutine where Ctrl-C may land; whatever it calls of trsm is protected again."""
    return await awaitable


def protect(module: str) -> None:
    """Mark every function and method that a module, which has been imported, defines."""
    for function in functions(module):
        trio.lowlevel.enable_ki_protection(function)


def functions(module: str) -> Iterator[types.FunctionType]:
    """Iterate over the functions that a module defines: its own, and those of its classes."""
    home = vars(sys.modules[module])
    own = (module, module.partition(".")[0])  # public names say that they live in the package
    for value in list(home.values()):
        if isinstance(value, type):
            members = list(vars(value).values()) if value.__module__ in own else []
        else:
            members = [value]
        for member in members:
            if isinstance(member, (str, tuple, types.MemberDescriptorType, types.ModuleType)):
                continue  # most of what is no function: so much faster to tell than by asking for what it wraps
            function: object = member.fget if isinstance(member, property) else member
            while hasattr(function, "__wrapped__"):  # a class method, or a context manager
                function = cast("staticmethod[..., object]", function).__wrapped__
            # Where a function was written is what its globals tell.
            if isinstance(function, types.FunctionType) and function.__globals__ is home:
                yield function
