"""Points in the plane, on which one sees what a model does: the whole of it fits into one picture.

    ring     8 Gaussians on a circle, grid     25 on a square lattice: those of Lin et al., "PacGAN", 2018, section 4.1 (radius 1 and
             sigma 0.01; -4 to 4 and sigma 0.05), the grid divided by 4, so that both reach from -1 to 1
    moons    two half circles that interlock, spiral   two arms: laws with a shape and without modes
    disjoint two discs far from each other, with nothing in between
    density:PICTURE   dark places of a drawing hold many points, white ones none

A point is an image of one pixel whose channels are its coordinates, (N, 2, 1, 1) float32: x to the right, y
up.
"""  # noqa: E501

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..core import BadData, Refusal
from .dataset import Images, Modes, Reading
from .decode import Skip, decode
from .listing import printable
from .pixels import within
from .writer import as_colour

LAWS = {
    "ring": "points of 8 Gaussians on a circle; ring:5000 for as many; no network",
    "grid": "points of 25 Gaussians on a lattice; grid:5000 for as many; no network",
    "moons": "points of two half circles that interlock; moons:5000 for as many; no network",
    "spiral": "points of two arms of a spiral; spiral:5000 for as many; no network",
    "disjoint": "points of two discs far apart; disjoint:5000 for as many; no network",
}
DENSITY = "density"
NAMES = LAWS | {
    f"{DENSITY}:PICTURE": "points where a picture of yours is dark, as in density:drawing.png; no network"
}
COUNT = 100_000
SIDE = 512
"""pixels of the longer side of a picture whose darkness is used"""

Drawn = tuple[np.ndarray, np.ndarray]
"""points (n, 2) and the class of each, (n,)"""


def is_points(source: str) -> bool:
    """Whether this names a set of points, such as ring:5000 or density:drawing.png."""
    return source.partition(":")[0] in (*LAWS, DENSITY)


def drawing(source: str) -> str | None:
    """The path of the picture in density:PICTURE, or None for any other source."""
    law, _, path = source.partition(":")
    return path if law == DENSITY else None


# Laws


def _around(modes: Modes, n: int, rng: np.random.Generator) -> Drawn:
    y = rng.integers(0, len(modes.centres), n)
    return modes.centres[y] + modes.sigma * rng.standard_normal((n, 2)), y


def ring_modes() -> Modes:
    angle = np.arange(8) * (math.pi / 4)
    return Modes(np.stack([np.cos(angle), np.sin(angle)], 1), 0.01)


def grid_modes() -> Modes:
    along = np.linspace(-1, 1, 5)
    return Modes(np.stack(np.meshgrid(along, along), -1).reshape(-1, 2), 0.05 / 4)


def _moons(n: int, rng: np.random.Generator) -> Drawn:
    """Half circles of radius 2/3 around (-1/3, -1/6) and (1/3, 1/6), open towards each other, with noise of
    0.03."""
    y, t = rng.integers(0, 2, n), rng.uniform(0, math.pi, n)
    arc = np.where(y == 0, [np.cos(t), np.sin(t)], [1 - np.cos(t), 0.5 - np.sin(t)]).T
    return (arc - [0.5, 0.25]) / 1.5 + 0.03 * rng.standard_normal((n, 2)), y


def _spiral(n: int, rng: np.random.Generator) -> Drawn:
    """Two arms r = 0.95 t at the angle 3 pi t, the second turned by half a turn, with noise of 0.01.

    The density of t grows like t, as the length of an arm nearly does: points lie evenly along it.
    """
    y, t = rng.integers(0, 2, n), np.sqrt(rng.uniform(0.05, 1, n))
    angle = 3 * math.pi * t + math.pi * y
    return 0.95 * t[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.01 * rng.standard_normal(
        (n, 2)
    ), y


def _disjoint(n: int, rng: np.random.Generator) -> Drawn:
    """Discs of radius 0.2 around (-0.75, -0.75) and (0.75, 0.75), evenly filled."""
    y, angle = rng.integers(0, 2, n), rng.uniform(0, 2 * math.pi, n)
    r = 0.2 * np.sqrt(rng.uniform(size=n))[:, None]
    return (1.5 * y - 0.75)[:, None] + r * np.stack([np.cos(angle), np.sin(angle)], 1), y


MODES: dict[str, Callable[[], Modes]] = {"ring": ring_modes, "grid": grid_modes}
SHAPES: dict[str, Callable[[int, np.random.Generator], Drawn]] = {
    "moons": _moons,
    "spiral": _spiral,
    "disjoint": _disjoint,
}


# Points as data


def read(source: str, n: int, reading: Reading) -> Images:
    """The n points that `source`, a law or density:PICTURE, stands for; always the same ones.

    Raises Refusal for a wish that only images can fulfil, and BadData for a picture that cannot be used.
    """
    law = source.partition(":")[0]
    if reading.size or reading.colour != "auto" or reading.binarize:
        raise Refusal(
            f"{law} is a set of points, which have neither size, colour nor brightness; leave --size, "
            "--colour and --binarize out."
        )
    if (path := drawing(source)) is not None:
        return drawn(picture(path, reading), n)
    rng = np.random.default_rng(0)
    if law in MODES:
        modes = MODES[law]()
        classes = tuple(f"mode {k + 1}" for k in range(len(modes.centres)))
        return _images(*_around(modes, n, rng), classes, f"{n:,} points drawn by code", modes)
    return _images(*SHAPES[law](n, rng), ("part 1", "part 2"), f"{n:,} points drawn by code")


def _images(
    x: np.ndarray, y: np.ndarray | None, classes: tuple[str, ...], verdict: str, modes: Modes | None = None
) -> Images:
    points = np.ascontiguousarray(x, np.float32)
    # eight bytes are a hash already; times an odd number they are no order
    hashes = points.view(np.uint64).reshape(-1) * np.uint64(0x9E3779B97F4A7C15)
    return Images(
        points.reshape(-1, 2, 1, 1),
        hashes,
        verdict,
        0,
        None if y is None else y.astype(np.int64),
        classes,
        modes=modes,
    )


# A picture as a density


def drawn(ink: np.ndarray, n: int) -> Images:
    """n points, as many in each pixel as there is ink, uint8 (H, W), spread evenly within it.  The longer
    side reaches from -1 to 1."""
    rng, (h, w), weight = np.random.default_rng(0), ink.shape, ink.reshape(-1) / ink.sum(dtype=np.int64)
    row, column = np.divmod(rng.choice(len(weight), n, p=weight), w)
    side = max(h, w) / 2
    x, y = (column + rng.uniform(size=n) - w / 2) / side, (h / 2 - row - rng.uniform(size=n)) / side
    return _images(np.stack([x, y], 1), None, (), f"{n:,} points drawn from a picture of {w}x{h}")


def picture(path: str, reading: Reading) -> np.ndarray:
    """The darkness of a picture file, uint8 (H, W) of at most SIDE pixels a side.  Raises Refusal where there
    is none, BadData for one that is of no use."""
    place, other = (
        Path(os.path.expanduser(path)),
        ("name a picture with something dark on it, as in density:drawing.png."),
    )
    if not path or not os.path.isfile(place):
        raise Refusal(
            f"there is no picture file called {path!r}; {other}"
            if path
            else f"density has no picture; {other}"
        )
    status = place.stat()
    result = decode(
        os.fsencode(place),
        (status.st_size, status.st_mtime_ns),
        Reading(SIDE, background=reading.background, white=reading.white),
        within,
    )
    if isinstance(result, Skip):
        raise BadData(
            f"{printable(os.fsencode(place))} cannot be used as a density "
            f"({result.reason}{result.detail and ': '}{result.detail}); {other}"
        )
    ink: np.ndarray = 255 - as_colour(result.pixels[None], "grey")[0, 0]
    if not ink.any():
        raise BadData(
            f"{printable(os.fsencode(place))} is white all over, and points are put where it is dark; {other}"
        )
    return ink
