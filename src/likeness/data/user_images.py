"""Images that a person brings to a trained model: read as its training images were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..core import BadData, Refusal, Spec
from . import read
from .dataset import Images, Reading, picture
from .decode import Scale, Skip, decode, kind
from .listing import printable
from .pixels import within
from .ranges import Values, remarks
from .source import Source, parse
from .writer import as_colour


class Own(NamedTuple):
    x: Tensor
    """(B, C, H, W) in [-1, 1]"""
    names: tuple[str, ...] | None
    """of the files, where they came from files"""
    notes: tuple[str, ...]
    """what was skipped, and what was left out"""


def images(source: str | Source, spec: Spec, settings: dict[str, Any], n: int) -> Own:
    """The first n images of a file, a folder or an array, of the model's shape; inputs.own() puts them on its
    levels.

    settings: how the training images were read.  Raises what data.load raises, and BadData for a single file
    that is no image.
    """
    known = {f.name for f in fields(Reading)}
    reading = Reading(
        **{k: v for k, v in settings.items() if k in known}
        | {"size": spec.size, "colour": "grey" if spec.channels == 1 else "rgb"}
        | {"task": "", "to": "", "tiles": False, "swap": False, "layout": "together"}
    )
    asked = parse(source)
    if spec.points or asked.kind == "points":
        return _points(asked, spec, reading, n)
    path = asked.path
    if asked.kind == "file" and path is not None and os.path.isfile(path) and kind(_head(path)):
        return Own(picture(np.array(_one(path, reading))), (printable(os.fsencode(path.name)),), ())
    result = read(asked, reading)
    return Own(
        picture(np.array(result.x[:n])),
        None if result.names is None else tuple(result.names[:n]),
        tuple(_notes(result, n)),
    )


def _points(asked: Source, spec: Spec, reading: Reading, n: int) -> Own:
    if not (spec.points and asked.kind == "points"):
        wanted = (
            ("points; name a set of these, such as ring:100")
            if spec.points
            else ("images; name a folder, an array or a file of these")
        )
        raise Refusal(f"{asked.text} does not fit a run that has learnt {wanted}.")
    result = read(asked, replace(reading, size=0, colour="auto"))
    return Own(picture(result.x[:n]), None, tuple(_notes(result, n)))


def _notes(known: Images, n: int) -> Iterator[str]:
    if known.skipped:
        yield known.verdict
    elif known.entry and (assumed := remarks(Values(**v) for v in known.entry.meta.get("values", []))):
        yield assumed.removeprefix("; ")
    if len(known.x) > n:
        yield f"these are the first {n} of {len(known.x):,} images; -n {len(known.x)} takes all"


def _head(path: Path) -> bytes:
    with suppress(OSError), path.open("rb") as file:  # read() says what is wrong
        return file.read(32)
    return b""


def _one(path: Path, reading: Reading) -> np.ndarray:
    status = path.stat()
    listed = status.st_size, status.st_mtime_ns
    result = decode(os.fsencode(path), listed, reading)
    if isinstance(result, Skip) and result.values and result.values.kind == "8-bit":
        # the white that training images of another kind of file have is none of a photograph's
        result = decode(os.fsencode(path), listed, replace(reading, white=0.0))
    if isinstance(result, Skip):
        raise BadData(f"{path} cannot be used ({result.reason}: {result.detail}); name another image.")
    return as_colour(result.pixels[None], reading.colour)


def whole(path: str | Path, side: int = 4096, background: str = "white", scale: Scale = within) -> Own:
    """An image file in its own proportions (1, 3, H, W), turned as its EXIF says, what is transparent laid on
    the background, and its long side no longer than `side`, unless it is scaled otherwise (decode.decode).
    notes: what had to be done for that.

    Raises BadData for what is no image, or cannot be read.
    """
    path = Path(os.path.expanduser(path))
    try:
        status = path.stat()
    except OSError as why:
        raise BadData(f"there is no image {path} ({why.strerror}); name a file that is one.") from None
    reading = Reading(size=min(side, 4096), background=background)
    result = decode(os.fsencode(path), (status.st_size, status.st_mtime_ns), reading, scale)
    if isinstance(result, Skip):
        raise BadData(f"{path} cannot be used ({result.reason}: {result.detail}); name another image.")
    x = picture(np.array(result.pixels[None])).float().expand(-1, 3, -1, -1).contiguous()
    notes = [
        f"{path.name}: what is transparent is laid on {background}"
        if note == "transparent"
        else f"{path.name}: {note}"
        for note in result.notes
    ]
    return Own(x, (printable(os.fsencode(path.name)),), tuple(notes))
