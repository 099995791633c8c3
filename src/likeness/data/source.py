"""What a user types where data are wanted, read once.

    mnist, shapes:5000                   name      a set that has one
    ring, ring:5000, density:PICTURE     points    a set of them, or a picture of where they lie
    photos/                              folder    or run, where a run will do as well: runs/source.py
    photos.zip, x.npy, cat.jpg           file
    whatever is not there                nothing

A name comes before a folder of the same name; ./NAME is the folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

from . import named, points

Kind = Literal["name", "points", "run", "folder", "file", "nothing"]


class Source(NamedTuple):
    """One that may be asked for many times, and is looked for once."""

    text: str
    """as it was typed"""
    kind: Kind
    path: Path | None = None
    """of the folder, the file or the picture, its ~ resolved; None for a name"""

    @property
    def anywhere(self) -> Source:
        """The same, by a text that finds it from any folder: a path that is there becomes absolute."""
        if self.path is None or not os.path.exists(self.path):
            return self
        whole = self.path.resolve()
        law = f"{points.DENSITY}:" if self.kind == "points" else ""
        return self._replace(text=f"{law}{whole}", path=whole)

    @property
    def stem(self) -> str:
        """What files and folders about it are called."""
        return self.text.replace(":", "-") if self.path is None else self.path.resolve().stem

    def run_folder(self, model: str, task: str = "", to: str = "") -> Path:
        """The folder of a run on it, unless another is named: MODEL-DATA, MODEL-DATA-TASK, MODEL-A-to-B."""
        beside = ("to", parse(to).stem) if to else ()
        return Path("runs") / "-".join((Path(model).stem, self.stem, *beside, *filter(None, [str(task)])))


def parse(text: str | Path | Source) -> Source:
    """The source that somebody typed.  Nothing of it is read: what is not there, read() refuses."""
    if isinstance(text, Source):
        return text
    text = str(text)
    picture = points.drawing(text)
    if picture is not None or points.is_points(text):
        return Source(text, "points", None if picture is None else Path(os.path.expanduser(picture)))
    if named.is_named(text):
        return Source(text, "name")
    path = os.path.expanduser(text)
    kind: Kind = "folder" if os.path.isdir(path) else "file" if os.path.exists(path) else "nothing"
    return Source(text, kind, Path(path))
