"""What a dropped picture says of how it was made.  Read in a worker: a hostile file is not the hub's
concern."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...core import Refusal
from ...figures.files import recipe_in
from ..library import runs
from ..protocol import Answer
from ..worker import Desk

LARGEST = 32 << 20
"""bytes of a picture"""


def read(desk: Desk, args: dict[str, Any], arrays: dict[str, np.ndarray]) -> Iterator[Answer]:
    """The recipe, and the path of the run that made it, if that is here.  No pixel is decoded."""
    if "file" not in arrays or arrays["file"].nbytes > LARGEST:
        raise Refusal(f"drop one picture of at most {LARGEST >> 20} MB.")
    recipe = recipe_in(arrays["file"].tobytes())
    name = Path(str(recipe.get("run") or recipe.get("name") or "")).name
    there = [f for f in runs(desk.root) if name and f.name == name]
    yield Answer(dict(recipe=recipe, run=there[0].relative_to(desk.root).as_posix() if there else ""))


ASKS = {"read": read}
