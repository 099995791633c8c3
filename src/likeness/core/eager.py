"""Functions that a compiler leaves alone.

`torch.compiler.disable` does that, and imports torch._dynamo and sympy to do it: more than everything else
that a verb imports.  So it is put off until something is compiled (`engine.compiled`), which few runs ask
for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])
_marked: list[tuple[Callable[..., Any], list[Callable[..., Any]]]] = []
"""of each marked function: itself, and in a list of one what is called in its place"""
_compiling = False


def eagerly(function: F) -> F:
    """A decorator: `function` runs as it is written, also within what `engine.compiled` compiles."""
    instead: list[Callable[..., Any]] = [function]

    @functools.wraps(function)
    def call(*args: Any, **more: Any) -> Any:
        return instead[0](*args, **more)

    _marked.append((function, instead))
    if _compiling:
        leave_alone()
    return call  # type: ignore[return-value]


def leave_alone() -> None:
    """Before the first compilation: from now on the compiler is told of all marked functions, of those to
    come as well."""
    global _compiling
    _compiling = True
    for function, instead in _marked:
        instead[0] = torch.compiler.disable(function)
    _marked.clear()
