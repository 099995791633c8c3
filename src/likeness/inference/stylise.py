"""Files of a style transfer: images as it opens them, its recipe, what it writes, and the film of its way.

Whoever asks for a transfer, the command line or a page, gets the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from .. import engine, figures, storage
from ..backbones.resize import resized
from ..data import photos, user_images
from ..figures import photo_files
from ..parts.perceptual import Perceptual
from . import style
from .style import How, with_long_side

FILM_SIDE, FILM_FRAMES = 384, 60
"""of the animation: its long side, and about how many frames it has"""
LARGEST = 4096
"""pixels of the long side of a painting"""


def largest(size: int, how: How) -> int:
    """Pixels of the long side of which a painting is opened for a result of this size."""
    return min(LARGEST, max(64, round(size * how.strokes)))


def opened(
    content: str | Path,
    paintings: Sequence[str | Path],
    size: int,
    most: int,
    say: Callable[[str], None],
    colour: str = "style",
    larger: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """The content and the styles (1, 3, H, W), with long sides up to `size` and `most`; what is to be said of
    them is said.  larger: whether that size was asked for, so that a smaller photograph is worth a note.

    Raises BadData for what is no image, and Refusal for one that is too small."""
    images = [user_images.whole(content, size), *(user_images.whole(path, most) for path in paintings)]
    for path, own in zip([content, *paintings], images):
        style.large_enough(own.x, str(path))
        for note in own.notes:
            say(note)
    high, wide = images[0].x.shape[2:]
    if max(high, wide) < size and larger:
        say(f"{content} has {wide}x{high} pixels, and is not enlarged")
    for path, own in zip(paintings, images[1:]):
        if style.is_grey(own.x) and colour == "style":
            say(f"{path} is grey, and so will be the result; --colour luminance keeps the colours")
    first, *others = (own.x.to(engine.device()) for own in images)
    return first, others


def recipe(
    content: str | Path, paintings: Sequence[str | Path], size: int, net: Perceptual, how: How
) -> dict[str, Any]:
    """How the picture is made again."""
    return asdict(how) | dict(
        style=[str(path) for path in paintings],
        content=str(content),
        size=size,
        weights=net.sha256,
        source=net.source,
        style_layers=how.of_style,
        content_layer=how.of_content,
    )


def recipe_of_way(state: style.State) -> dict[str, Any]:
    """What the recipe says of where the way has ended."""
    errors = {f"{name}_error": error for name, error in state.terms._asdict().items()}
    return dict(loss=state.loss, gradients=state.step) | errors


def write(path: Path, x: Tensor, recipe: dict[str, Any], content: str | Path, new: bool = False) -> None:
    """The result, with EXIF data and colour profile of the photograph, whose orientation is applied.  new:
    raise FileExistsError rather than replace anything."""
    exif, profile = photos.beside(content, x.shape[3], x.shape[2])
    storage.make(path.parent)
    photo_files.write(path, figures.pixels(x)[0], recipe, new, exif=exif, profile=profile)


class Film:
    """Frames of a way of so many steps, in little memory."""

    def __init__(self, most: int):
        self.every, self.frames = max(1, most // FILM_FRAMES), list[Tensor]()

    def take(self, number: int, x: Tensor) -> None:
        if number % self.every == 0:
            self.frames.append(with_long_side(x, FILM_SIDE).cpu())

    def file(self, last: Tensor, recipe: dict[str, Any]) -> bytes:
        """A GIF: frames of one size, the last of which stays; its comment is the recipe."""
        frames = [*self.frames, with_long_side(last, FILM_SIDE).cpu()]
        size = (frames[-1].shape[2], frames[-1].shape[3])
        first, *others = (Image.fromarray(figures.pixels(resized(x, size))[0]) for x in frames)
        file, times = io.BytesIO(), [80] * len(others) + [2000]
        how = dict(save_all=True, append_images=others, duration=times, loop=0)
        first.save(file, "GIF", **how, comment=json.dumps(recipe, default=str).encode())
        return file.getvalue()


def sheet(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """The page of style.sheet(): its images uint8 (H, W, 3), row by row."""
    across = len(style.SHEET_WEIGHTS)
    titles = [f"--content-weight {w:g}" for w in style.SHEET_WEIGHTS]
    notes = [f"--strokes {s:g}" for s in style.SHEET_STROKES]
    return figures.sheet([np.stack(tiles[i::across]) for i in range(across)], titles, notes)


def recipe_at_once(
    what: str,
    content: str | Path,
    paintings: Sequence[str | Path],
    shares: Sequence[float] | None,
    strength: float,
    colour: str,
    size: int,
    source: str,
) -> dict[str, Any]:
    """How the picture is made again without optimisation."""
    return dict(
        arbitrary=what,
        content=str(content),
        style=[str(one) for one in paintings],
        shares=shares,
        strength=strength,
        colour=colour,
        size=size,
        source=source,
    )
