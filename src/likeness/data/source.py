"""What a user types for data: a name stays, a path becomes absolute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..core import Refusal
from . import named, points

MANY = 5_000
"""files up to which a folder is read to count its images; of more that would be a long silence"""


def default_folder(model: str, source: str) -> Path:
    picture = points.drawing(source)
    name = Path(os.path.expanduser(source if picture is None else picture)).resolve().stem
    return (
        Path("runs")
        / f"{Path(model).stem}-{source.replace(':', '-') if picture is None and named.is_named(source) else name}"  # noqa: E501
    )


def place(source: str) -> str:
    """A name stays; a path becomes absolute, so that the run finds its data from any folder."""
    picture = points.drawing(source)
    path = os.path.expanduser(source if picture is None else picture)
    if (picture is None and named.is_named(source)) or not os.path.exists(path):
        return source
    return f"{'' if picture is None else f'{points.DENSITY}:'}{Path(path).resolve()}"


def training_images(source: str, reading: dict[str, Any]) -> int | None:
    """How many images there are to learn from, read so; None where something would have to be fetched, or
    where that takes long."""
    from . import load

    path = Path(os.path.expanduser(source))
    if named.is_named(source):
        rows = {row["name"]: row["here"] for row in named.listed()}
        if rows.get(source.partition(":")[0]) != "yes":
            return None
    elif not os.path.exists(path) or (path / "config.json").exists() or _many(path):
        return None
    try:
        return len(load(source, **reading).train)
    except Refusal:
        return None


def _many(folder: Path) -> bool:
    files = 0
    for _, _, names in os.walk(folder):
        files += len(names)
        if files > MANY:
            return True
    return False
