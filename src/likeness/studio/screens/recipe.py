"""What a dropped picture says of how it was made.  Read in a worker: a hostile file is not the hub's
concern."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...core import Refusal
from ...figures.files import recipe_in
from .. import protocol
from ..library import runs
from ..protocol import Answer
from ..worker import Desk

LONGEST = 256 << 10
"""bytes of a recipe"""
LARGEST = 32 << 20
"""bytes of a picture"""


def read(desk: Desk, args: dict[str, Any], arrays: dict[str, np.ndarray]) -> Iterator[Answer]:
    """The recipe, and the path of the run that made it, if that is here.  No pixel is decoded."""
    if "file" not in arrays or arrays["file"].nbytes > LARGEST:
        raise Refusal(f"drop one picture of at most {LARGEST >> 20} MB.")
    recipe = recipe_in(arrays["file"].tobytes())
    if protocol.deep(recipe) or len(json.dumps(recipe)) > LONGEST:
        raise Refusal("the recipe in this picture is none that likeness wrote; drop another.")
    there = made_by(recipe, runs(desk.root))
    yield Answer(dict(recipe=recipe, run=there[0].relative_to(desk.root).as_posix() if there else ""))


def made_by(recipe: dict[str, Any], folders: list[Path]) -> list[Path]:
    """The run that a recipe names, of several with that name the one whose path has most of the recipe's."""
    several = recipe.get("runs")
    first = several[0] if isinstance(several, list) and several and isinstance(several[0], dict) else {}
    told = Path(str(recipe.get("run") or recipe.get("name") or first.get("run") or "")).parts
    alike = [f for f in folders if told and f.name == told[-1]]
    return sorted(alike, key=lambda f: -_shared(f.parts, told))


def _shared(path: tuple[str, ...], told: tuple[str, ...]) -> int:
    """Parts from the end on that are the same."""
    same = [a == b for a, b in zip(reversed(path), reversed(told))]
    return same.index(False) if False in same else len(same)


ASKS = {"read": read}
