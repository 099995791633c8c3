"""What moves in a clip: of `moving-shapes` the paths that the checker reads (scenes.py), of any videos how
much changes from one frame to the next.

Beside every number stand those of three who know no motion, or learnt nothing: a still ("best static frame":
the middle frame of a real clip of that text, in every frame), frames of different clips one after another
("independent frames"), and the training clip whose caption is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import answers
from ..data import Data
from ..data.moving_shapes import DIRECTIONS, FRAMES, SPEEDS
from ..metrics.card import Score
from . import captions, scenes
from .scenes import Scene

if TYPE_CHECKING:
    from .exam import Exam

STILL = 0x571
CHANGE = "change from frame to frame"
NOTES = {
    "direction right": "read from the pixels; chance is one of eight",
    "velocity error": "distance to the velocity that the text says, of each object; its own length where the "
    "object is missing; texts say speed only to a tenth",
    "identity kept": "share of frames that, looked at alone, show the same shape, colour and size",
    "path bent": "root mean squared distance from a straight line",
}
UNITS = {"velocity error": "pixels a frame", "path bent": "pixels"}


def stills(data: Data) -> Data:
    """One frame of each clip, chosen by its row: images as independent as the clips are."""
    at = moment(np.arange(len(data.x)), data.x.shape[2])
    x = np.concatenate([data.x[[i], :, t] for i, t in enumerate(at)])
    return replace(
        data, x=x, fingerprint=f"{data.fingerprint} stills", texts=None, attributes=None, pairs=None
    )


def moment(rows: np.ndarray, frames: int) -> np.ndarray:
    """Which frame is taken of clips number `rows` (n,)."""
    return np.random.default_rng(STILL).integers(0, frames, max([0, *rows + 1]))[rows]


def some_frames(x: np.ndarray) -> np.ndarray:
    """(n, C, T, H, W) to (n, C, H, W), a frame of each."""
    return x[np.arange(len(x)), :, moment(np.arange(len(x)), x.shape[2])]


def wanted(exam: Exam) -> int:
    """Samples that are looked at."""
    clips = "sample" in answers(exam.model) and exam.data.spec.frames > 1
    return min(exam.asked, captions.READ) if clips else 0


def cards(exam: Exam) -> Iterator[Score]:
    n = wanted(exam)
    if not n:
        return
    x, real = exam.samples[:n], np.array(exam.data.x[exam.rows[:n]])
    about = dict[str, Any](unit="levels", settings=exam.settings)
    note = "root mean squared difference of neighbouring frames"
    yield exam.card(CHANGE, changes(x), split="samples", warnings=exam.doubts, note=note, **about)
    yield exam.card(CHANGE, changes(real), of="held-out clips", **about)
    yield exam.card(CHANGE, changes(independent(real)), of="independent frames", **about)
    if captions.kind(exam.data) == "moving-shapes" and captions.wanted(exam):
        yield from _paths(exam)


def _paths(exam: Exam) -> Iterator[Score]:
    rows = captions._of(exam.data, captions.wanted(exam))
    x, real = exam.samples[: len(rows)], np.array(exam.data.x[rows])
    texts = captions.wanted_of(exam.data, rows)
    sides = {
        "model": x,
        "held-out clips": real,
        "nearest caption's clip": np.array(exam.data.x[captions.nearest_caption(exam.data, rows)]),
        "best static frame": static(real),
        "independent frames": independent(real),
    }
    seen = {of: motion(scenes.watch(part), texts, x.shape[-1]) for of, part in sides.items()}
    for name, note in NOTES.items():
        better = "higher" if name in ("direction right", "identity kept") else "lower"
        about = dict[str, Any](unit=UNITS.get(name, "share"), better=better, settings=exam.settings)
        for of, values in seen.items():
            if of != "model":
                yield exam.card(name, values[name], of=of, **about)
            elif name != "direction right":  # which captions.py says
                own = dict[str, Any](split="samples", warnings=exam.doubts, note=note)
                yield exam.card(name, values[name], **own, **about)


def static(x: np.ndarray) -> np.ndarray:
    """Clips (n, C, T, H, W) of which every frame is the middle one."""
    return np.repeat(x[:, :, x.shape[2] // 2, None], x.shape[2], 2)


def independent(x: np.ndarray) -> np.ndarray:
    """Clips (n, C, T, H, W), frame t of clip i from clip i + t."""
    n, t = len(x), x.shape[2]
    rows = (np.arange(n)[:, None] + np.arange(t)) % n
    return np.ascontiguousarray(x[rows, :, np.arange(t)].swapaxes(1, 2))


def changes(x: np.ndarray) -> np.ndarray:
    """Root mean squared difference of neighbouring frames, of uint8 (n, C, T, H, W): (n,) levels."""
    parts = [np.diff(x[i : i + 100].astype(np.float32), axis=2) for i in range(0, len(x), 100)]
    return np.concatenate([np.sqrt((d**2).mean((1, 2, 3, 4))) for d in parts])


def velocity(wanted: Scene, side: int) -> tuple[float, float]:
    """Pixels a frame, to the right and down, that a text says of an object."""
    angle = DIRECTIONS.index(wanted["direction"]) * math.pi / 4
    way = SPEEDS[wanted["speed"]] * side / (FRAMES - 1)
    return way * math.cos(angle), way * math.sin(angle)


def motion(seen: list[Scene], texts: list[Scene], side: int) -> dict[str, np.ndarray]:
    """Of each clip a mean over the objects that its text names, (n,) by the names of NOTES.  Objects are
    matched by shape, colour and size."""
    from scipy.optimize import linear_sum_assignment

    result = {name: np.full(len(seen), np.nan) for name in NOTES}
    looks = ("shape", "colour", "size")
    for row, (scene, text) in enumerate(zip(seen, texts)):
        there, asked = scene["objects"], text["objects"]
        alike = np.array([[sum(o[k] == t[k] for k in looks) for t in there] for o in asked])
        pairs = linear_sum_assignment(alike.reshape(len(asked), len(there)), maximize=True)
        beside = {int(i): there[int(k)] for i, k in zip(*pairs)}
        errors, right = [], []
        for i, o in enumerate(asked):
            v, t = velocity(o, side), beside.get(i, dict(vx=0.0, vy=0.0, direction=""))
            errors.append(math.hypot(t["vx"] - v[0], t["vy"] - v[1]))
            right.append(t["direction"] == o["direction"])
        result["velocity error"][row], result["direction right"][row] = np.mean(errors), np.mean(right)
        # of nothing nothing is kept
        result["identity kept"][row] = np.mean([t["kept"] for t in there]) if there else 0.0
        if there:
            result["path bent"][row] = np.mean([t["bent"] for t in there])
    bent = result["path bent"]
    result["path bent"] = bent[np.isfinite(bent)]
    return result
