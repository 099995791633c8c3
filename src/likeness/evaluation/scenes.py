"""What a picture of `shapes`, or a clip of `moving-shapes`, shows: read from its pixels by fitting the
renderer that draws them.

    read(x)     images (n, 3, H, W): background, and of each object shape, colour, size and place
    watch(x)    clips (n, 3, T, H, W): the same without the place, and path, direction and speed

Nothing is trained. An object m(p) of colour c on a ground g is g + m (c - g), with m the share of each
pixel that a form at p covers. With d = x - g the squared error falls, against the empty ground, by

    gain = 2 <d, m (c - g)> - |m|^2 |c - g|^2

which one product of matrices says for all forms, sizes, places and colours. The largest gain is what is
seen; it is an object where the gain is at least half of what a perfect one would have. Every form is tried
sharp and blurred, since models blur, and the whole image is read by the blur that fits it best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..core import Refusal
from ..data import moving_shapes, shapes
from ..data.pixels import resize
from ..data.shapes import COLOURS, DISTANCES, FORMS, GROUNDS, PLACES

SIZES = ("small", "large")
BLURS = (0.0, 0.016, 0.024, 0.032, 0.04)
"""standard deviations of a Gaussian, in shares of the side"""
SHIFTS = np.linspace(-1, 1, 7)
"""places that are tried along each axis, in shares of the largest shift"""
PRESENT = 0.5
"""share of an object's full gain from which on it is one"""
ROWS, CLIPS = 250, 50
"""images and clips at once"""

Scene = dict[str, Any]
"""background and objects, in the words that Data.attributes has; `off`: the rms error of the fit, in grey
levels of luma"""
CHROMA = 0.35
"""weight of a difference of chroma against one of luma: forms are read from luma, since JPEG and models blur
colours more"""
_WEIGHED = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
_WEIGHED[1:] *= CHROMA


def _weighed(x: np.ndarray) -> np.ndarray:
    """Pixels (n, 3, ...) as luma and two chromas, float32 of the same shape: distances are measured there."""
    return (_WEIGHED @ x.reshape(*x.shape[:2], -1).astype(np.float32)).reshape(x.shape)


_COLOURS, _GROUNDS = (
    _weighed(np.array(list(table.values()), np.float32)[..., None])[..., 0] for table in (COLOURS, GROUNDS)
)


@dataclass(frozen=True, eq=False)
class Templates:
    """Forms in a window of pixels, one of a column each."""

    cover: np.ndarray
    """float32 (pixels, K)"""
    energy: np.ndarray
    """(K,): |m|^2"""
    form: np.ndarray
    large: np.ndarray
    blur: np.ndarray
    """(K,) int64 each"""
    shift: np.ndarray
    """float (K, 2): x and y of the centre in the window, pixels"""


def _templates(window: int, centres: np.ndarray, radii: tuple[float, float], side: int) -> Templates:
    """All forms, sizes and blurs at these centres (P, 2), in pixels, within a square of window pixels."""
    axis = np.arange(window) + 0.5
    covers, about = [], []
    for blur, share in enumerate(BLURS):
        for large, radius in enumerate(radii):
            for form, distance in enumerate(DISTANCES):
                across = axis[None, None, :] - centres[:, 0, None, None]
                down = axis[None, :, None] - centres[:, 1, None, None]
                cover = np.clip(0.5 - distance(across, down, np.array(radius)), 0, 1)
                covers.append(_blurred(cover, share * side).reshape(len(centres), -1))
                about += [(form, large, blur)] * len(centres)
    cover = np.concatenate(covers).astype(np.float32)
    form, large, blur = np.array(about).T
    shift = np.tile(centres, (len(cover) // len(centres), 1))
    return Templates(np.ascontiguousarray(cover.T), (cover**2).sum(1), form, large, blur, shift)


def _blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    """(P, H, W), by a Gaussian of `sigma` pixels; what is beyond the edge is 0."""
    if not sigma:
        return x
    near = np.arange(x.shape[-1])
    weights = np.exp(-((near[:, None] - near) ** 2) / (2 * sigma**2))
    weights /= np.exp(-(np.arange(-50, 51) ** 2) / (2 * sigma**2)).sum()
    return weights @ x @ weights.T


def _gains(d: np.ndarray, towards: np.ndarray, of: Templates) -> np.ndarray:
    """(n, colours, K) of windows d (n, 3, pixels), with towards (n, colours, 3) = c - g."""
    gain = towards @ (2 * (d @ of.cover))
    gain -= (towards**2).sum(-1, keepdims=True) * of.energy
    return gain


# Images


def read(x: np.ndarray) -> list[Scene]:
    """What each of uint8 (n, 3, H, W) shows; objects in reading order.  Raises Refusal for images without
    colour."""
    if x.ndim != 4 or x.shape[1] != 3:
        raise Refusal(
            f"the checker of shapes reads images of three colours (n, 3, H, W), and these are {x.shape}; "
            "train on shapes without --colour grey."
        )
    side = 64 if x.shape[-1] > 32 else 32
    return [scene for i in range(0, len(x), ROWS) for scene in _read(resize(x[i : i + ROWS], side))]


@lru_cache(maxsize=4)
def _cells(side: int) -> list[tuple[slice, slice, Templates]]:
    """Of each of the nine places its rows and columns, and the forms there."""
    cell, window = side / 3, math.ceil(side / 3) + 1
    radii = shapes.SIZES["small"] * cell, shapes.SIZES["large"] * cell
    shifts = np.stack(np.meshgrid(SHIFTS, SHIFTS), -1).reshape(-1, 2) * (shapes.SHIFT * cell)
    result = []
    for place in range(9):
        corner = np.array([place % 3, place // 3])
        start = np.minimum(np.floor(corner * cell).astype(int), side - window)
        centres = (corner + 0.5) * cell - start + shifts
        columns, rows = (slice(int(s), int(s) + window) for s in start)
        result.append((rows, columns, _templates(window, centres, radii, side)))
    return result


@lru_cache(maxsize=4)
def _between(side: int) -> np.ndarray:
    """bool (side, side): pixels that no object reaches."""
    cell = side / 3
    off = abs((np.arange(side) + 0.5) % cell - cell / 2)
    reach = (shapes.SIZES["large"] + shapes.SHIFT) * cell + 1
    return np.hypot(off[:, None], off) > reach


def _read(x: np.ndarray) -> list[Scene]:
    n, side, x = len(x), x.shape[-1], _weighed(x)
    ground = np.median(x[:, :, _between(side)], -1)  # (n, 3)
    d, towards = x - ground[..., None, None], _COLOURS - ground[:, None]
    full = (towards**2).sum(-1)  # (n, colours)
    best = np.empty((9, len(BLURS), n), np.float32)
    which = np.empty((9, len(BLURS), n), np.int64)
    for place, (rows, columns, of) in enumerate(_cells(side)):
        gains = _gains(d[:, :, rows, columns].reshape(n, 3, -1), towards, of)
        for blur in range(len(BLURS)):
            those = np.flatnonzero(of.blur == blur)
            part = gains[:, :, those].reshape(n, -1)
            at = part.argmax(1)
            colour, which_one = at // len(those), those[at % len(those)]
            there = part[np.arange(n), at]
            whole = full[np.arange(n), colour] * of.energy[which_one]
            best[place, blur] = np.where(there >= PRESENT * whole, there, 0)
            which[place, blur] = colour * len(of.energy) + which_one
    blur = best.sum(0).argmax(0)
    gain, chosen = best[:, blur, np.arange(n)], which[:, blur, np.arange(n)]  # (9, n)
    left = np.maximum((d**2).sum((1, 2, 3)) - gain.sum(0), 0)
    return [_scene(side, ground[i], gain[:, i], chosen[:, i], left[i] / side**2) for i in range(n)]


def _scene(side: int, ground: np.ndarray, gain: np.ndarray, which: np.ndarray, left: float) -> Scene:
    objects = []
    for place, (rows, columns, of) in enumerate(_cells(side)):
        if gain[place] <= 0:
            continue
        colour, k = divmod(int(which[place]), len(of.energy))
        objects.append(
            dict(
                shape=FORMS[of.form[k]],
                colour=tuple(COLOURS)[colour],
                size=SIZES[of.large[k]],
                place=PLACES[place],
                x=round(float(of.shift[k, 0]) + columns.start, 3),
                y=round(float(of.shift[k, 1]) + rows.start, 3),
            )
        )
    return dict(background=_name(ground), objects=objects, off=round(float(left) ** 0.5, 2))


def _name(ground: np.ndarray) -> str:
    return tuple(GROUNDS)[int(((_GROUNDS - ground) ** 2).sum(1).argmin())]


# Clips

MOST = 2
"""objects that are looked for in a clip"""
REACH = 0.08
"""how far an object may go from one frame to the next, in shares of the side"""


def watch(x: np.ndarray) -> list[Scene]:
    """What each of uint8 (n, 3, T, H, W) shows, the objects that are best seen first.

    Of each object also: x and y in pixels for every frame, vx and vy in pixels a frame by least squares,
    `bent`: the rms distance of its path from that straight line in pixels, and `kept`: the share of frames in
    which, looked at alone, it has the same shape, colour and size.  Raises Refusal for clips without colour,
    and for those of one frame, which have no direction.
    """
    if x.ndim != 5 or x.shape[1] != 3:
        raise Refusal(
            f"the checker of moving-shapes reads clips of three colours (n, 3, T, H, W), and these are "
            f"{x.shape}; train on moving-shapes without --colour grey."
        )
    if x.shape[2] < 2:
        raise Refusal("a clip of one frame has no direction; give clips of two frames or more.")
    if x.shape[-1] > 64:
        x = np.concatenate([resize(x[i : i + 1], 64) for i in range(len(x))])
    return [scene for i in range(0, len(x), CLIPS) for scene in _watch(x[i : i + CLIPS])]


@lru_cache(maxsize=4)
def _forms(side: int) -> Templates:
    small, large = (share * side for share in moving_shapes.SIZES.values())
    half = math.ceil(large + 1.5)
    shifts = np.stack(np.meshgrid(*[np.linspace(-0.9, 0.9, 7)] * 2), -1).reshape(-1, 2)
    return _templates(2 * half + 1, half + 0.5 + shifts, (small, large), side)


def _watch(x: np.ndarray) -> list[Scene]:
    n, side, x = len(x), x.shape[-1], _weighed(x)
    # most of every clip is its ground
    ground = np.median(x.reshape(n, 3, -1), -1)
    d = x.swapaxes(1, 2) - ground[:, None, :, None, None]  # (n, T, 3, side, side)
    total, size = (d**2).sum((1, 2, 3, 4)), d[0, :, 0].size
    towards = _COLOURS - ground[:, None]
    scenes: list[Scene] = [dict(background=_name(g), objects=[]) for g in ground]
    for _ in range(MOST):
        path = _followed(d, side)
        there, gain, path = _identified(d, towards, path, side, scenes)
        total = total - np.where(there, gain, 0)
        _remove(d, path, scenes, there, side)
    for scene, left in zip(scenes, total):
        scene["off"] = round(float(max(left, 0) / size) ** 0.5, 2)
    return scenes


def _followed(d: np.ndarray, side: int) -> np.ndarray:
    """Where what differs most from the ground is in each frame, int64 (n, T, 2), x and y: begun in the frame
    where it is clearest, and followed from there to both ends."""
    energy = (d**2).sum(2)
    n, t = energy.shape[:2]
    blob = _blurred(energy.reshape(n * t, side, side), 0.06 * side).reshape(n, t, side, side)
    rows, axis = np.arange(n), np.arange(side)
    begin = blob.reshape(n, t, -1).max(2).argmax(1)
    path = np.zeros((n, t, 2), np.int64)

    def peak(frame: np.ndarray, near: np.ndarray | None) -> np.ndarray:
        """(n, 2) of frame (n, side, side), no farther than REACH from `near`."""
        if near is not None:
            off = (axis[None, :, None] - near[:, 1, None, None]) ** 2
            off = off + (axis[None, None, :] - near[:, 0, None, None]) ** 2
            frame = np.where(off <= (REACH * side + 1) ** 2, frame, -1)
        at = frame.reshape(n, -1).argmax(1)
        return np.stack([at % side, at // side], 1)

    path[rows, begin] = peak(blob[rows, begin], None)
    for step in (1, -1):
        for k in range(1, t):
            now = begin + step * k
            inside = (now >= 0) & (now < t)
            here, before = np.clip(now, 0, t - 1), np.clip(now - step, 0, t - 1)
            result = peak(blob[rows, here], path[rows, before])
            path[rows[inside], now[inside]] = result[inside]
    return path


def _identified(
    d: np.ndarray, towards: np.ndarray, path: np.ndarray, side: int, scenes: list[Scene]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit one form of one colour to all frames of each clip around its path, and add it to its scene.

    Returns which clips have one, bool (n,), the gain (n,), and the path in pixels (n, T, 2)."""
    of, (n, t) = _forms(side), d.shape[:2]
    window = math.isqrt(of.cover.shape[0])
    half, kinds = window // 2, len(of.energy) // 49
    padded = np.pad(d, ((0, 0), (0, 0), (0, 0), (half, half), (half, half)))
    cut = np.lib.stride_tricks.sliding_window_view(padded, (window, window), (3, 4))
    i, k = np.ogrid[:n, :t]
    # (n, T, 3, window, window)
    seen = cut[i, k, :, path[..., 1], path[..., 0]].reshape(n, t, 3, -1)
    gains = _gains(seen, towards[:, None], of).reshape(n, t, len(COLOURS), kinds, 49)
    shift, each = gains.argmax(-1), gains.max(-1).reshape(n, t, -1)  # (n, T, colours * kinds)
    whole = ((towards**2).sum(-1)[..., None] * of.energy[::49]).reshape(n, -1)
    total = each.sum(1)
    which = total.argmax(1)
    gain = total[np.arange(n), which]
    there = gain >= PRESENT * t * whole[np.arange(n), which]
    colour, kind = which // kinds, which % kinds
    fitted = shift[np.arange(n), :, colour, kind]  # (n, T)
    where = path + of.shift[fitted] - half
    sharp = each.reshape(n, t, len(COLOURS), len(BLURS), -1).max(3).reshape(n, t, -1)
    same = sharp.argmax(2) == (colour * (kinds // len(BLURS)) + kind % (kinds // len(BLURS)))[:, None]
    for row in np.flatnonzero(there):
        form, large = int(of.form[kind[row] * 49]), int(of.large[kind[row] * 49])
        scenes[row]["objects"].append(
            dict(shape=FORMS[form], colour=tuple(COLOURS)[colour[row]], size=SIZES[large])
            | moved(where[row], side)
            | dict(kept=float(same[row].mean()))
        )
    return there, gain, where


def moved(path: np.ndarray, side: int) -> dict[str, Any]:
    """Direction and speed of a path (T, 2) in pixels, and the straight line through it."""
    t = np.arange(len(path)) - (len(path) - 1) / 2
    v = (t @ path) / (t @ t)
    bent = math.sqrt(float(((path - path.mean(0) - t[:, None] * v) ** 2).sum(1).mean()))
    way = float(np.hypot(*v)) * (len(path) - 1) / side
    names, ways = tuple(moving_shapes.SPEEDS), tuple(moving_shapes.SPEEDS.values())
    turn = round(float(np.arctan2(v[1], v[0])) / (math.pi / 4)) % 8
    return dict(
        direction=moving_shapes.DIRECTIONS[turn],
        speed=names[way > sum(ways) / 2],
        x=[round(float(a), 2) for a in path[:, 0]],
        y=[round(float(a), 2) for a in path[:, 1]],
        vx=round(float(v[0]), 4),
        vy=round(float(v[1]), 4),
        bent=round(bent, 3),
    )


def _remove(d: np.ndarray, path: np.ndarray, scenes: list[Scene], there: np.ndarray, side: int) -> None:
    """Make d (n, T, 3, side, side) ground where the last object of each scene is; all of a clip where there
    is
    none."""
    axis = np.arange(side) + 0.5
    large = np.array([bool(s["objects"]) and s["objects"][-1]["size"] == "large" for s in scenes])
    reach = np.where(large, *(moving_shapes.SIZES[s] * side + 1.2 for s in ("large", "small")))
    off = (axis[None, None, :, None] - path[:, :, 1, None, None]) ** 2
    off = off + (axis - path[:, :, 0, None, None]) ** 2
    gone = (off <= reach[:, None, None, None] ** 2) | ~there[:, None, None, None]
    d *= ~gone[:, :, None]
