"""What a user types where a run will do as well as data: its images, or their codes."""

from __future__ import annotations

from pathlib import Path

from ..data import source
from ..data.source import Source
from .folder import is_run


def parse(text: str | Path | Source) -> Source:
    """data.source.parse, and a folder that is a run.  A folder of images may hold a config.json, too: whoever
    needs more than that looks for it.  Raises NotAllowed where that cannot be seen."""
    result = source.parse(text)
    if result.kind == "folder" and result.path is not None and is_run(result.path):
        return result._replace(kind="run")
    return result
