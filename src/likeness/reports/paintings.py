"""What became of strokes, as people see it: what was drawn above, what the model makes of it below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import figures, storage
from ..core import Spec
from ..data import photos, user_images
from ..figures import photo_files
from ..inference.manifold import Painted
from ..inference.strokes import Stroke, drawn
from ..inference.transfer import Applied, applied, change

SIDE = 160
"""pixels a side, or a little more, of each picture of a page"""
MODEL, PHOTO = (184, 86, 15), (26, 102, 168)
"""colours of the map of shares"""
SHOWN = 512
"""pixels of the long side of a photograph on a page"""


@dataclass(frozen=True, eq=False, repr=False)
class Painting:
    """The candidates, best first, with how they are shown and written down."""

    painted: Painted
    strokes: tuple[Stroke, ...]
    recipe: dict[str, Any] = field(default_factory=dict)
    photo: Tensor | None = None
    """(C, H, W): one's own photograph in its own size"""
    applied: Applied | None = None
    """the edit, carried over to it"""
    source: str = ""
    """its file"""

    @property
    def x(self) -> Tensor:
        """(K, C, H, W) in [-1, 1], the best first."""
        return self.painted.x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Tensor:
        return self.x[i]

    def __repr__(self) -> str:
        return (
            f"<{len(self)} candidates of {len(self.strokes)} strokes by {self.painted.family}, {self.recipe}>"
        )

    def _repr_png_(self) -> bytes:
        return figures.png(self.page, self.recipe)

    @property
    def page(self) -> np.ndarray:
        """User edits above, generated images below: uint8 (height, width, 3)."""
        size = self.x.shape[-1]
        scale = max(1, round(SIDE / size))
        top, titles = [self.edits], ["your strokes"]
        if self.painted.start is not None:
            top, titles = [larger(self.painted.start, scale), *top], ["image", *titles]
        if self.painted.back is not None:
            top, titles = [*top, larger(self.painted.back, scale)], [*titles, "as the model has it"]
        above = figures.sheet([framed(picture)[None] for picture in top], titles)
        names = [f"{k + 1}: off by {float(off):.3f}" for k, off in enumerate(self.painted.off)]
        rows = [
            figures.sheet([framed(larger(x, scale))[None] for x in self.x[i : i + 4]], names[i : i + 4])
            for i in range(0, len(self.x), 4)
        ]
        pages = [above, *rows]
        if self.applied is not None and self.photo is not None:
            pages.append(self.before_after)
        return figures.stacked(*pages, gap=8)

    @property
    def edits(self) -> np.ndarray:
        """The strokes on the image, or on grey."""
        size = self.x.shape[-1]
        scale = max(1, round(SIDE / size))
        start = self.painted.start
        under = torch.zeros_like(self.x[0]) if start is None else start
        return drawn(self.strokes, larger(under, scale))

    @property
    def before_after(self) -> np.ndarray:
        """The photograph, what became of it, and how much of that is model."""
        assert self.photo is not None and self.applied is not None
        parts = [shown(self.photo), shown(self.applied.x), shown_share(self.applied, self.photo)]
        share = float(self.applied.share.mean())
        return figures.sheet(
            [part[None] for part in parts],
            ["photograph", "edited", f"orange: model's pixels, {share:.1%}; blue: photograph's"],
        )

    def save(self, target: str | Path) -> list[Path]:
        """As one page (.png, .jpg, .webp), or into a folder: the page, the best image, all candidates, the
        way there as morph.gif, and of a photograph the edited one with the map of shares.  Each has the
        recipe."""
        target = Path(target)
        if target.suffix:
            storage.make(target.parent)
            figures.write(target, self.page, self.recipe)
            return [target]
        storage.make(target)
        paths = [target / name for name in ("edits.png", "result.png", "candidates.png", "morph.gif")]
        figures.write(paths[0], self.page, self.recipe)
        figures.write(paths[1], figures.pixels(self.x[self.painted.pick][None])[0], self.recipe)
        figures.write(paths[2], figures.grid(self.x, min(4, len(self.x))), self.recipe)
        film = self.painted.film
        frames = torch.cat([film, film[-1:].expand(5, -1, -1, -1)])
        pages = np.stack([larger(frame, max(1, round(SIDE / frame.shape[-1]))) for frame in frames])
        storage.write(paths[3], figures.encode_film(paths[3], pages, self.recipe))
        return paths + (self._photo(target) if self.applied is not None else [])

    def _photo(self, target: Path) -> list[Path]:
        assert self.applied is not None and self.photo is not None
        paths = [target / name for name in ("photo.png", "share.png", "before-after.png")]
        high, wide = self.applied.x.shape[1:]
        exif, profile = photos.beside(self.source, wide, high) if self.source else (b"", b"")
        photo_files.write(
            paths[0], figures.pixels(self.applied.x[None])[0], self.recipe, exif=exif, profile=profile
        )
        figures.write(paths[1], (255 * self.applied.share).round().byte().numpy(), self.recipe)
        figures.write(paths[2], self.before_after, self.recipe)
        return paths


def larger(x: Tensor, scale: int) -> np.ndarray:
    """(C, H, W) in [-1, 1] as uint8 (s H, s W, 3)."""
    return rgb(figures.enlarge(figures.pixels(x[None])[0], scale))


def framed(x: np.ndarray) -> np.ndarray:
    """With a hairline around it, for pictures with a white ground."""
    return np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=200)


def rgb(x: np.ndarray) -> np.ndarray:
    return np.repeat(x[..., None], 3, 2) if x.ndim == 2 else np.repeat(x, 3, 2) if x.shape[2] == 1 else x


def shown(x: Tensor) -> np.ndarray:
    """A photograph, as large as a page has room for."""
    share = SHOWN / max(x.shape[1:])
    if share < 1:
        size = [max(1, round(side * share)) for side in x.shape[1:]]
        x = torch.nn.functional.interpolate(x[None], size, mode="area")[0]
    return rgb(figures.pixels(x[None])[0])


def shown_share(applied: Applied, photo: Tensor) -> np.ndarray:
    """The map over the photograph in grey: blue where its pixels are, orange where those of the model are."""
    grey = shown(photo.mean(0, keepdim=True)).astype(float)
    m = shown(2 * applied.share[None] - 1)[..., :1] / 255.0
    tint = m * np.array(MODEL) + (1 - m) * np.array(PHOTO)
    return np.rint(0.5 * grey + 0.5 * tint).astype(np.uint8)


def carried(painted: Painted, image: object, spec: Spec) -> tuple[Tensor | None, Applied | None]:
    """The photograph in `image`, if that is a file of more pixels than the model's, and the edit on it."""
    if not isinstance(image, str | Path) or painted.start is None or not Path(image).is_file():
        return None, None
    photo = user_images.whole(image).x[0]
    if min(photo.shape[1:]) <= spec.size:
        return None, None
    photo = photo if spec.channels == 3 else photo.mean(0, keepdim=True)
    before = painted.start if painted.back is None else painted.back
    way = painted.film[1:-1] if painted.family == "codes" else ()
    return photo, applied(photo, change(before, painted.x[painted.pick], list(way)))


def picked(painting: Painting, pick: int, spec: Spec) -> Painting:
    """The same with another candidate chosen, from 0 on: what run.paint(..., pick=pick + 1) makes."""
    painted = replace(painting.painted, pick=pick)
    photo, applied = carried(painted, painting.source or None, spec)
    recipe = {k: v for k, v in painting.recipe.items() if k != "pick"} | (dict(pick=pick + 1) if pick else {})
    return replace(painting, painted=painted, photo=photo, applied=applied, recipe=recipe)


def described(strokes: Sequence[Stroke]) -> list[dict[str, Any]]:
    """As a recipe has them."""
    return [stroke.facts() for stroke in strokes]
