"""Files that are written whole or not at all, the states of runs, and the folder for what is made once and
kept (cache.py)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .atomic import flush as flush
    from .atomic import fsync as fsync
    from .atomic import make as make
    from .atomic import sweep as sweep
    from .atomic import trouble as trouble
    from .atomic import write as write
    from .states import KEEP as KEEP
    from .states import newest as newest
    from .states import save as save

_NAMES = {
    "atomic": "flush fsync make sweep trouble write",
    "states": "KEEP newest save",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Each name is imported when it is first asked for: an error can be raised, and a flag refused, without
    torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
