"""How many images there are to learn from, where that is soon known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..core import Refusal
from . import load, named
from .source import Source, parse

MANY = 5_000
"""files up to which a folder is read to count its images; of more that would be a long silence"""


def training_images(source: str | Path | Source, reading: dict[str, Any]) -> int | None:
    """Training images of a source that is read so; None where something would have to be fetched, where that
    takes long, and where it is refused."""
    source = parse(source)
    if source.kind == "name":
        rows = {row["name"]: row["here"] for row in named.listed()}
        if rows.get(source.text.partition(":")[0]) != "yes":
            return None
    elif source.path is not None and ((source.path / "config.json").exists() or _many(source.path)):
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
