"""What a trained agent does: returns of whole episodes, and films of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from ..core import Refusal
from .world import Episode, Moved, World

Choose = Callable[[np.ndarray], np.ndarray]
"""what is seen by n copies -> their actions"""


@runtime_checkable
class Remembers(Protocol):
    """What chooses by more than the last sight learns where an episode ends."""

    def moved(self, moved: Moved) -> None: ...


def step(world: World, choose: Choose) -> Moved:
    """One step of all copies."""
    moved = world.step(choose(world.see))
    if isinstance(choose, Remembers):
        choose.moved(moved)
    return moved


LONGEST = 1_000_000
"""steps after which an episode without an end is given up"""


def uniform(actions: int, rng: np.random.Generator) -> Choose:
    """The policy that looks at nothing."""
    return lambda see: rng.integers(actions, size=len(see))


def episodes(world: World, choose: Choose) -> list[Episode]:
    """The first episode of each copy of a new world, in their order: of as many begun as ended, or short ones
    would count more."""
    out: list[Episode | None] = [None] * world.n
    total, length = np.zeros(world.n), np.zeros(world.n, np.int64)
    for _ in range(LONGEST):
        moved = step(world, choose)
        total += moved.reward
        length += moved.real
        for i in np.flatnonzero(moved.ended):
            out[i] = out[i] or Episode(float(total[i]), int(length[i]))
        if all(out):
            return [one for one in out if one]
    raise Refusal(
        f"an episode has no end after {LONGEST:,} steps; register the world with max_episode_steps."
    )


def frames(world: World, choose: Choose, count: int = 1, most: int = 1000) -> Iterator[np.ndarray]:
    """Frames of so many episodes of the first copy, the last sight of each left out as it is never acted
    on."""
    while most and count:
        most -= 1
        yield world.frame(0)
        count -= bool(step(world, choose).ended[0])


def film(pictures: Sequence[np.ndarray], pace: float, kind: str) -> bytes:
    """A GIF or a lossless WebP of the frames (h, w, 3), so many a second, over and over.

    Equal neighbours are one frame of longer duration, as players show it.  A GIF counts time in hundredths.
    """
    from PIL import Image

    if not pictures:
        raise Refusal("there is no frame to show.")
    spans: list[list[int]] = []
    for i, picture in enumerate(pictures):
        if spans and np.array_equal(picture, pictures[spans[-1][0]]):
            spans[-1][1] += 1
        else:
            spans.append([i, 1])
    unit = max(20, 10 * round(100 / pace)) if kind == "GIF" else round(1000 / pace)
    first, *others = [Image.fromarray(pictures[i]) for i, _ in spans]
    file = io.BytesIO()
    how = dict(lossless=True, method=2) if kind == "WEBP" else dict(optimize=False)
    times = [unit * n for _, n in spans]
    first.save(file, kind, save_all=True, append_images=others, duration=times, loop=0, **how)
    return file.getvalue()
