"""What a run answers with: images and score cards that show themselves in a notebook."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from .. import figures, storage
from ..core import Refusal
from ..inference.sampling import State, kept
from ..metrics.card import Score

PAGES = figures.ENDINGS
"""endings of one picture of all images"""
PICTURES = (*PAGES, ".npy", ".npz", "")
CLIPS = (*PICTURES, *(ending for ending in figures.MOVING if ending not in PAGES))
"""and of clips"""
"""endings that images are written as; nothing is a folder"""


@dataclass(frozen=True, eq=False, repr=False)
class Pictures:
    """Images that show themselves in a notebook, clips or points.  x: (B, C, H, W) or (B, C, T, H, W) in [-1,
    1], or (B, 2, 1, 1)."""

    x: Tensor
    recipe: dict[str, Any] = field(default_factory=dict)
    page: np.ndarray | None = None
    """how they are shown, uint8 (height, width, 3), if not side by side"""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.x.numpy().astype(dtype or "float32")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Tensor:
        """One of them, (C, H, W)."""
        return self.x[i]

    def numpy(self) -> np.ndarray:
        """As .npy holds them: uint8 (N, H, W, C), (N, T, H, W, C) of clips, float32 (N, 2) of points."""
        return self.x.flatten(1).numpy() if self.points else self._levels()

    def pil(self) -> list[Image.Image]:
        """An image of Pillow each.  Raises Refusal for points."""
        if self.points:
            raise Refusal("a point is no picture of its own; numpy() has their coordinates.")
        if self.clips:
            raise Refusal("a clip is no picture; numpy() has its frames, and save('x.gif') shows it.")
        return [Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x) for x in self._levels()]

    def tensor(self) -> Tensor:
        """float32 (N, C, H, W) in [-1, 1], or (N, 2, 1, 1) of points."""
        return self.x

    def __repr__(self) -> str:
        kind = "clips" if self.clips else "images"
        what = "points" if self.points else f"{kind} of {'x'.join(map(str, self.x.shape[1:]))}"
        return f"<{len(self)} {what}, {self.recipe}>"

    @property
    def points(self) -> bool:
        return self.x.shape[1:] == (2, 1, 1)

    @property
    def clips(self) -> bool:
        return self.x.ndim == 5

    def save(self, target: str | Path) -> Path:
        """As one picture (.png, .jpg, .webp), an array (.npy; .npz with its recipe beside `x`), or files.

        Clips are one picture that moves (.gif, .apng, .webp, .mp4, .webm), or their frames in rows (.png,
        .jpg).  A name without an ending is a folder.  Arrays are as numpy() has them.

        Raises Refusal for any other suffix.
        """
        target = Path(target)
        if self.points and not target.suffix:
            raise Refusal(f"{target}: a point is no picture of its own; write them as one .png, or as .npy.")
        ending = target.suffix.lower()
        if ending not in (CLIPS if self.clips else PICTURES):
            pages = (*PAGES, *figures.MOVING) if self.clips else PAGES
            raise Refusal(
                f"{target}: {'clips' if self.clips else 'images'} are written as one picture "
                f"({', '.join(dict.fromkeys(pages))}), as .npy or .npz, or into a folder."
            )
        storage.make(target.parent if target.suffix else target)
        if self.clips and ending in figures.MOVING:
            storage.write(target, figures.encode_film(target, figures.moving(self.x), self.recipe))
        elif ending in PAGES:
            figures.write(target, self._page(), self.recipe)
        elif ending:
            self._save_array(target)
        else:
            self._save_files(target)
        return target

    def _levels(self) -> np.ndarray:
        return ((self.x.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).numpy()

    def _save_array(self, target: Path) -> None:
        blob = io.BytesIO()
        x = self.numpy()
        if target.suffix.lower() == ".npz":
            np.savez(blob, x=x, recipe=np.array(json.dumps(self.recipe, sort_keys=True, default=str)))
        else:
            np.save(blob, x)
        storage.write(target, blob.getvalue())

    def _save_files(self, target: Path) -> None:
        if self.clips:
            for number, clip in enumerate(self.x, self.recipe.get("first", 0)):
                pages = np.stack([figures.pixels(frame[None])[0] for frame in clip.unbind(1)])
                path = target / f"{number:06d}.webp"
                storage.write(path, figures.encode_film(path, pages, dict(self.recipe, number=number)))
            return
        for number, picture in enumerate(self._levels(), self.recipe.get("first", 0)):
            plain = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
            figures.write_png(target / f"{number:06d}.png", plain, dict(self.recipe, number=number))

    def _repr_png_(self) -> bytes:
        return figures.png(self._page(), self.recipe)

    def _page(self) -> np.ndarray:
        return figures.shown(self.x) if self.page is None else self.page


@dataclass(frozen=True, eq=False, repr=False)
class Page:
    """A picture that shows itself in a notebook."""

    image: np.ndarray
    """uint8 (height, width, 3)"""
    recipe: dict[str, Any] = field(default_factory=dict)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.image if dtype is None else self.image.astype(dtype)

    def __repr__(self) -> str:
        return f"<a picture of {self.image.shape[1]}x{self.image.shape[0]}, {self.recipe}>"

    def pil(self) -> Image.Image:
        return Image.fromarray(self.image)

    def save(self, target: str | Path) -> Path:
        """As .png, .jpg or .webp, with its recipe.  Raises Refusal for any other suffix."""
        target = Path(target)
        file = figures.encode(target, self.image, self.recipe)
        storage.make(target.parent)
        storage.write(target, file)
        return target

    def _repr_png_(self) -> bytes:
        return figures.png(self.image, self.recipe)


@dataclass(frozen=True, eq=False, repr=False)
class MapPage(Page):
    """A map of images."""

    y: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    """float32 (n, 2), x to the right and y up"""
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """of each, or nothing"""
    scores: tuple[Score, ...] = ()
    """how far it may be believed"""


@dataclass(frozen=True, eq=False, repr=False)
class Neighbours(Page):
    """An image and those that are nearest to it, nearest first."""

    names: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    distance: tuple[float, ...] = ()
    usual: float = 0.0
    """distance that an image here usually has to its nearest"""


@dataclass(frozen=True, eq=False)
class Partly:
    """How far something is that is no drawing of samples: the share that is done, and images of it, (k, C, H,
    W), made when they are asked for."""

    share: float
    make: Callable[[], Tensor]

    @property
    def images(self) -> Tensor:
        return self.make()


@dataclass(frozen=True, eq=False)
class Stage:
    """How far images are that are being drawn."""

    state: State | Partly
    finish: Callable[[Tensor], Pictures]

    @property
    def share(self) -> float:
        """Of the images that are done, 0 to 1."""
        return self.state.share

    @property
    def pictures(self) -> Pictures:
        """Whatever there is of them so far: made when it is asked for."""
        return self.finish(self.state.images)


def staged(states: Iterable[State], finish: Callable[[Tensor], Pictures]) -> Iterator[Stage]:
    """Stages of what a generator draws; finish: images so far, (k, C, H, W), to pictures of them."""
    return (Stage(state, finish) for state in kept(states))


@dataclass(frozen=True, eq=False, repr=False)
class Cards:
    """Score cards that show themselves as a table."""

    scores: list[Score]

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __getitem__(self, name: str) -> Score:
        """The model's own card of that name, such as "bits/dim"."""
        own = {s.name: s for s in self.scores if s.of == "model"}
        if name not in own:
            raise KeyError(f"no card is called {name!r}; there are: {', '.join(own)}")
        return own[name]

    def __repr__(self) -> str:
        return "\n".join(str(s) for s in self.scores)

    def _repr_html_(self) -> str:
        """The five that matter, and the others to unfold."""
        from . import run_page, terminal

        few = terminal.folded(self.scores)
        rest = [score for score in self.scores if score not in few]
        number = sum(score.of == "model" for score in rest)
        more = f"<details><summary>{number} more measures</summary>{run_page.cards(rest)}</details>"
        left = "<style>.likeness-cards th, .likeness-cards td {text-align: left !important}</style>"
        return f'{left}<div class="likeness-cards">{run_page.cards(few)}{more if rest else ""}</div>'
