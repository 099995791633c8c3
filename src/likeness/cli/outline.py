"""What a module says of itself, read from its text.

To import a module of `inference` is to import torch, which takes longer than to show a help text or to refuse
a command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast

PACKAGE = Path(__file__).parents[1]


def about(module: str) -> str:
    """The docstring of likeness.<module>."""
    import ast

    return ast.get_docstring(_tree(module), clean=False) or ""


def value(module: str, name: str) -> Any:
    """What the module sets `name` to, a literal; of a dict, whose values may be anything, the tuple of its
    keys.  Raises LookupError."""
    import ast

    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(at, ast.Name) and at.id == name for at in node.targets
        ):
            it = node.value
            return (
                tuple(ast.literal_eval(key) for key in it.keys if key)
                if isinstance(it, ast.Dict)
                else ast.literal_eval(it)
            )
    raise LookupError(f"{module} sets no {name}")


def _tree(module: str) -> ast.Module:
    import ast

    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
