"""likeness learns from images that nobody labelled.

run = likeness.train("vae", "digits", minutes=1)
run.sample(64)
run.evaluate()
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Spinning threads make a busy machine 3 to 5 times slower and a quiet one no faster; read when torch is first
# imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from .api import Trained, bayes, check, devices, look, map, open, style, train

__version__ = "0.1.0"
__all__ = ["Trained", "bayes", "check", "devices", "look", "map", "open", "style", "train"]


def __dir__() -> list[str]:
    """What there is, though most of it is imported only when it is asked for; and the wings that are."""
    wings = (
        name for name, value in globals().items() if getattr(value, "__package__", "") == f"{__name__}.{name}"
    )
    return sorted({*__all__, *wings, *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> Any:
    """Import torch only when something is asked for, so that `likeness --help` is instant."""
    if name in __all__:
        return getattr(import_module(".api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
