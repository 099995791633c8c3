"""What a user types for data: a name stays, a path becomes absolute."""

from __future__ import annotations

import os
from pathlib import Path

from . import named, points


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
