"""Strokes as losses: how far an image is from what was drawn on it.

Zhu et al. 2016, section 4.1: sum_g |f_g(G(z)) - v_g|^2 over what the user asks for.  Each term is a mean over
the pixels or cells that it is about, in units of [-1, 1], so that a large stroke is worth no more than a small
one:

    colour   |mean around each pixel of the stroke - colour|^2: the mean is taken within the stroke and over half its
             radius, so that texture below the scale of the stroke is free
    sketch   |HOG - HOG of the drawn line|^2 in the cells that the line passes (hog.py)
    warp     |pixel - what was dragged there|^2; where it was dragged from, as under erase
    erase    |pixel - the surroundings, drawn on over it|^2: harmonically, that is without any bump
    keep     |pixel - the image|^2
    rest     the same, wherever no stroke reaches
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Refusal
from .hog import agreement, cell_of, hog
from .strokes import Stroke

REACH = 0.12
"""share of the side beyond a stroke in which the image may change"""
WEIGHTS = dict(colour=1.0, sketch=0.5, warp=1.0, erase=1.0, keep=2.0, rest=1.0, smooth=0.02, realism=0.02)
"""what each term counts"""
TERMS = ("colour", "sketch", "warp", "erase", "keep", "rest", "smooth", "realism")
ON_AN_IMAGE = ("warp", "keep", "erase")


class Area:
    """The pixels of a stroke, and the mean colour around each of them."""

    def __init__(self, mask: Tensor, colour: Tensor, half: int, weight: float = 1.0):
        """mask: bool (H, W), somewhere true.  colour: (C,) in [-1, 1].  half: pixels to each side that the
        mean is over."""
        self.mask, self.colour, self.half, self.weight = mask, colour, half, weight
        rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        self.box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        self.inside = mask[self.box]
        self.there = self.inside.float()
        self.share = self.around(self.there[None, None]).clamp(min=1e-6)

    def to(self, device: torch.device) -> Area:
        if self.mask.device == device:
            return self
        return Area(self.mask.to(device), self.colour.to(device), self.half, self.weight)

    def around(self, x: Tensor) -> Tensor:
        """Mean over a window of 2 half + 1 pixels, with zeros beyond the stroke's box."""
        return F.avg_pool2d(x, 2 * self.half + 1, 1, self.half) if self.half else x

    def off(self, x: Tensor) -> Tensor:
        """(B,)"""
        x = x[:, :, self.box[0], self.box[1]]
        mean = self.around(x * self.there) / self.share if self.half else x
        apart = (mean - self.colour[:, None, None]).square()
        return self.weight * apart[:, :, self.inside].flatten(1).mean(1)


@dataclass
class Constraints:
    """Strokes on images of one size.  start: (C, H, W), the image they are drawn on, if any."""

    size: int
    areas: list[Area]
    patch: Tensor | None
    """(C, H, W): what is wanted where `moved` and `erased` are"""
    moved: Tensor
    erased: Tensor
    kept: Tensor
    free: Tensor
    """bool (H, W) each; free: where the image may change"""
    lines: Tensor
    """bool (H, W)"""
    edges: Tensor | None
    """(1, bins, h, w), of the drawn lines"""
    passed: Tensor
    """bool (h, w)"""
    heavy: Tensor
    """(H, W): the weight of the stroke that has the last word there"""
    pressed: Tensor
    """(h, w): of the lines that pass a cell"""
    start: Tensor | None
    strokes: tuple[Stroke, ...]
    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))

    def on(self, start: Tensor) -> Constraints:
        """The same strokes on another image (C, H, W)."""
        return compiled(self.strokes, len(start), self.size, start.cpu(), self.weights)

    def to(self, device: torch.device) -> Constraints:
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return Constraints(**vars(self) | moved | dict(areas=[area.to(device) for area in self.areas]))

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        """How far images (B, C, H, W) are off, (B,) each, without weights; only of what was asked."""
        out: dict[str, Tensor] = {}
        if self.areas:
            out["colour"] = torch.stack([area.off(x) for area in self.areas]).mean(0)
        if self.edges is not None:
            apart = (hog(x, cell_of(self.size)) - self.edges).square().sum(1)
            out["sketch"] = (apart * self.pressed)[:, self.passed].mean(1)
        if self.patch is not None:
            for name, where in (("warp", self.moved), ("erase", self.erased)):
                if where.any():
                    out[name] = off(x, self.patch, where, self.heavy)
        if self.start is not None:
            for name, where in (("keep", self.kept), ("rest", ~self.free & ~self.kept)):
                if where.any():
                    out[name] = off(x, self.start, where, self.heavy)
        return out

    def loss(self, x: Tensor) -> Tensor:
        """(B,)"""
        return sum((self.weights[name] * term for name, term in self.terms(x).items()), x.new_zeros(len(x)))

    def asked(self, x: Tensor) -> Tensor:
        """Of what was drawn alone, without what shall stay: (B,)."""
        terms = self.terms(x)
        return sum(
            (terms[n] for n in ("colour", "sketch", "warp", "erase") if n in terms), x.new_zeros(len(x))
        )

    def agreement(self, x: Tensor) -> Tensor:
        """Between the edges of images and the sketch, (B,) from 0 to 1."""
        assert self.edges is not None
        return agreement(hog(x, cell_of(self.size)), self.edges, self.passed)

    def painted(self, x: Tensor) -> Tensor:
        """Images with the strokes laid on as they are, in the manner of a painting program: (B, C, H, W)."""
        out = x.clone()
        if self.patch is not None:
            out = torch.where(self.moved | self.erased, self.patch, out)
        for area in self.areas:
            out = torch.where(area.mask, area.colour[:, None, None], out)
        return out

    @property
    def fixed(self) -> Tensor:
        """Pixels whose values painted() says, bool (H, W)."""
        result = self.moved.clone()
        for area in self.areas:
            result |= area.mask
        return result


MET, SEEN = 0.5, 0.04
"""the largest share of a stroke's error that may be left, and the mean square in [-1, 1] that is seen at all:
25 grey levels"""


@torch.no_grad()
def unmet(c: Constraints, first: Tensor, last: Tensor) -> tuple[str, ...]:
    """A sentence for each colour, and for the warps and the sketch, that an edit from the image `first` to
    `last`, (C, H, W) each, has hardly come nearer to."""
    out, ends = [], (first[None], last[None])
    for area in c.areas:
        before, after = (float(area.off(x)) / area.weight for x in ends)
        if after > max(SEEN, MET * before):
            there, asked = (hexed(colour) for colour in (last[:, area.mask].mean(1), area.colour))
            out.append(f"the stroke of colour {asked} is not met: its pixels are {there} on the average")
    begin, end = (c.terms(x) for x in ends)
    for name, share in (("warp", MET), ("sketch", 0.9)):
        if name in begin and (left := float(end[name] / begin[name].clamp(min=1e-9))) > share:
            out.append(f"the {name} is not met: {max(0.0, 1 - left):.0%} of its error is gone")
    cure = "the model may know no such images: train it longer or on others, or give the term more weight"
    return tuple(f"{one}; {cure}" for one in out)


def hexed(colour: Tensor) -> str:
    """A colour (C,) in [-1, 1] as it is typed."""
    levels = ((colour.expand(3) + 1) * 127.5).round().clamp(0, 255).int().tolist()
    return "#{:02x}{:02x}{:02x}".format(*levels)


def off(x: Tensor, wanted: Tensor, where: Tensor, heavy: Tensor) -> Tensor:
    return ((x - wanted).square() * heavy)[:, :, where].flatten(1).mean(1)


def compiled(
    strokes: Sequence[Stroke],
    channels: int,
    size: int,
    start: Tensor | None = None,
    weights: dict[str, float] | None = None,
) -> Constraints:
    """What strokes ask of images (channels, size, size), drawn on `start` (C, H, W) in [-1, 1] if there is
    one; the later of two strokes counts where both are.  Raises Refusal where a stroke needs an image and
    there is none."""
    if unknown := set(weights or {}) - set(WEIGHTS):
        raise Refusal(f"there is no weight of {', '.join(sorted(unknown))}; there are: {', '.join(WEIGHTS)}.")
    if bad := [name for name, w in (weights or {}).items() if not 0 <= w < 1e6]:
        raise Refusal(f"the weight of {bad[0]} is {(weights or {})[bad[0]]:g}; it is 0 or more.")
    if start is None and (needy := [s.kind for s in strokes if s.kind in ON_AN_IMAGE]):
        raise Refusal(
            f"a {needy[0]} stroke is about an image, and there is none; name one: likeness paint RUN IMAGE"
        )
    if all(s.kind == "keep" for s in strokes):
        raise Refusal("nothing is to change: all strokes say keep; draw one that asks for something.")
    layers = _Layers(channels, size, start)
    for stroke in strokes:
        layers.add(stroke)
    return layers.compiled(dict(WEIGHTS, **weights or {}))


class _Layers:
    """Which stroke has the last word at each pixel."""

    def __init__(self, channels: int, size: int, start: Tensor | None):
        self.channels, self.size, self.start = channels, size, start
        self.patch = None if start is None else start.clone()
        self.owner = torch.full((size, size), -1)
        self.kinds: list[tuple[str, Stroke]] = []
        self.strokes: list[Stroke] = []
        self.lines = torch.zeros(size, size, dtype=torch.bool)
        self.touched = self.lines.clone()
        self.heavy, self.pressed = torch.ones(size, size), torch.ones(size, size)

    def _own(self, mask: Tensor, kind: str, stroke: Stroke) -> None:
        self.owner[mask], self.heavy[mask] = len(self.kinds), stroke.weight
        self.kinds.append((kind, stroke))

    def add(self, stroke: Stroke) -> None:
        self.strokes.append(stroke)
        mask = torch.from_numpy(stroke.covers(self.size))
        if stroke.kind == "sketch":
            self.lines |= mask
            self.pressed[mask] = stroke.weight
        elif stroke.kind == "warp":
            self._drag(mask, stroke)
        else:
            if stroke.kind == "erase":
                assert self.patch is not None
                self.patch = closed(self.patch, mask)
            self._own(mask, stroke.kind, stroke)
        if stroke.kind != "keep":
            far = Stroke("keep", stroke.points, min(1.0, stroke.radius + REACH))
            self.touched |= torch.from_numpy(far.covers(self.size))

    def _drag(self, source: Tensor, stroke: Stroke) -> None:
        assert self.patch is not None
        (right, down), before = stroke.shift(self.size), self.patch
        y, x = torch.meshgrid(*[torch.arange(self.size)] * 2, indexing="ij")
        from_y, from_x = y - down, x - right
        inside = (from_y >= 0) & (from_y < self.size) & (from_x >= 0) & (from_x < self.size)
        cut = from_y.clamp(0, self.size - 1), from_x.clamp(0, self.size - 1)
        arrives = inside & source[cut]
        self.patch = torch.where(arrives, before[:, cut[0], cut[1]], closed(before, source))
        self._own(source & ~arrives, "erase", stroke)
        self._own(arrives, "warp", stroke)

    def compiled(self, weights: dict[str, float]) -> Constraints:
        nothing = torch.zeros(self.size, self.size, dtype=torch.bool)
        of: dict[str, Tensor] = {}
        areas = []
        for number, (kind, stroke) in enumerate(self.kinds):
            mask = self.owner == number
            of[kind] = of.get(kind, nothing) | mask
            if kind == "colour" and mask.any():
                half = int(stroke.radius * self.size / 2)
                areas.append(Area(mask, tint(stroke, self.channels), half, stroke.weight))
        moved, erased, kept = (of.get(kind, nothing) for kind in ("warp", "erase", "keep"))
        edges, passed = None, torch.zeros(1, dtype=torch.bool)
        if self.lines.any():
            edges, passed = sketched(self.lines)
        pressed = self.pressed.where(self.lines, 0.0)[None, None]
        pressed = F.max_pool2d(pressed, cell_of(self.size), ceil_mode=True)[0, 0]
        return Constraints(
            self.size,
            areas,
            self.patch if bool((moved | erased).any()) else None,
            moved,
            erased,
            kept,
            torch.ones_like(kept) if self.start is None else self.touched & ~kept,
            self.lines,
            edges,
            passed,
            self.heavy,
            pressed,
            self.start,
            tuple(self.strokes),
            weights,
        )


def tint(stroke: Stroke, channels: int) -> Tensor:
    """The colour of a stroke, (C,) in [-1, 1]: its brightness, where images are grey."""
    assert stroke.colour is not None
    rgb = torch.tensor(stroke.colour) / 127.5 - 1
    return rgb if channels == 3 else (rgb @ torch.tensor([0.299, 0.587, 0.114])).expand(channels).clone()


def sketched(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Histograms (1, bins, h, w) of a drawn line, bool (H, W), and which cells it passes."""
    cell = cell_of(len(lines))
    picture = 2 * lines.float()[None, None] - 1
    passed = F.max_pool2d(lines.float()[None, None], cell, ceil_mode=True)[0, 0] > 0
    return hog(picture, cell), passed


def closed(x: Tensor, hole: Tensor) -> Tensor:
    """x (C, H, W) with its hole, bool (H, W), closed by the harmonic function of its rim: each pixel the mean
    of its neighbours."""
    if hole.all() or not hole.any():
        return x.clone()
    inside = hole.numpy()
    at = np.argwhere(inside)
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(len(at))
    rows, columns, values = [], [], []
    known, many = np.zeros((len(at), len(x))), np.zeros(len(at))
    picture = x.double().numpy()
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        y, x_ = at[:, 0] + dy, at[:, 1] + dx
        there = (y >= 0) & (y < len(inside)) & (x_ >= 0) & (x_ < len(inside))
        many += there
        i, y, x_ = np.flatnonzero(there), y[there], x_[there]
        unknown = inside[y, x_]
        rows.append(i[unknown])
        columns.append(number[y[unknown], x_[unknown]])
        values.append(np.full(int(unknown.sum()), -1.0))
        np.add.at(known, i[~unknown], picture[:, y[~unknown], x_[~unknown]].T)
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import spsolve

    shape = (len(at), len(at))
    system = coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    solved = spsolve((system + diags_array(many)).tocsc(), known).reshape(len(at), -1)
    out = x.clone()
    out[:, hole] = torch.from_numpy(solved.T).to(x.dtype)
    return out
