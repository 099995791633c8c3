"""An edit carried over to the photograph that it was made for: the photograph keeps its resolution and detail, and
takes the change.

Zhu et al. 2016, section 4.2: what lies between G(z_0) and G(z*) is a motion and a change of colour, and both are
smooth enough to be enlarged; the result is the photograph moved and recoloured, and no enlarged G(z*).

    flow     F: after(p) ~ before(p + F(p)).  Of edges, not of colours, which change too: gradients are normalised, and moved
             by the smoothest displacement that explains them (Horn & Schunck 1981, iterated from coarse to fine), from frame
             to frame of the way from z_0 to z*
    colour   A: after(p) ~ A(p) (before(p + F(p)), 1), an affine map of colours around each pixel, by least squares over a
             window (He, Sun & Tang, "Guided Image Filtering", 2010), held to the identity where nothing speaks against it.  It
             changes slowly even where colours do not, and so takes its edges from the photograph
    share    m: how much of the change flow and colour leave unexplained, from 0 to 1.  There something new is to be seen, of
             which the photograph knows nothing, and the model's own pixels are put, enlarged

    result = (1 - m) A photo(p + F) + m G(z*)

m is the map of how much is model and how much is photograph.

Departures: the authors solve for flow and colour together, on the pixels; here one after the other.  m is ours.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.minimize import LBFGS, minimize
from .hog import votes

STIFF = 0.1
"""weight of the flow's roughness against a mismatch of edges"""
LEVELS, GRADIENTS = 3, 25
"""of the pyramid; and at each of its levels"""
WINDOW = 3
"""pixels to each side, in which one map of colours holds"""
HELD = 0.002
"""to the identity: variance of colours below which a map is not believed"""
FINE, LOST = 0.08, 0.3
"""mean difference of brightness, in units of [-1, 1], that is explained, and that is not at all"""
STILL = 0.05
"""pixels of the model's image below which nothing has moved"""
ROWS = 256
"""of the photograph at once"""


class Change(NamedTuple):
    """What has become of an image (C, h, w), in its own pixels."""

    flow: Tensor
    """(2, h, w): x and y, in pixels"""
    colour: Tensor
    """(C (C + 1), h, w): A, row by row"""
    share: Tensor
    """(h, w): m"""
    after: Tensor
    """(C, h, w)"""


def change(before: Tensor, after: Tensor, way: Sequence[Tensor] = ()) -> Change:
    """From one image (C, h, w) to another; way: images in between, in order."""
    frames = [before, *way, after]
    flow = torch.zeros(2, *before.shape[1:])
    for a, b in pairwise(frames):
        if not torch.equal(a, b):
            step = moved(a, b)
            flow = step + warped(flow, step)
    flow = torch.where(flow.square().sum(0).sqrt() < STILL, 0.0, flow)
    there = warped(before, flow)
    if off(there, after) > off(before, after):  # a motion that explains less than none
        flow, there = torch.zeros_like(flow), before
    colour = recoloured(there, after)
    left = (apply(colour, there) - after).abs().mean(0)
    share = ((left - FINE) / (LOST - FINE)).clamp(0, 1)
    share = F.max_pool2d(share[None], 3, 1, 1)[0]
    return Change(flow, colour, share, after)


def off(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


# Flow


def edges(x: Tensor) -> Tensor:
    """(1, 1, h, w): how strong edges are beside what is around them, whatever their colours."""
    m = votes(x[None]).sum(1, keepdim=True)
    m = F.avg_pool2d(m, 3, 1, 1, count_include_pad=False)
    return m / (m.amax((2, 3), keepdim=True) + 1e-3)


def moved(before: Tensor, after: Tensor) -> Tensor:
    """F of two images (C, h, w): (2, h, w)."""
    a, b, flow = edges(before), edges(after), torch.zeros(1, 2, 1, 1)
    sizes = [before.shape[-1] // 2**k for k in range(LEVELS) if before.shape[-1] // 2**k >= 8] or [
        before.shape[-1]
    ]
    for side in reversed(sizes):
        one, two = (F.adaptive_avg_pool2d(part, side) for part in (a, b))
        grown = F.interpolate(flow, (side, side), mode="bilinear", align_corners=False)
        flow = grown * (side / flow.shape[-1] if flow.shape[-1] > 1 else 1.0)

        def loss(f: Tensor, one: Tensor = one, two: Tensor = two) -> Tensor:
            rough = (f[..., 1:] - f[..., :-1]).square().sum() + (
                f[..., 1:, :] - f[..., :-1, :]
            ).square().sum()
            return (warped(one[0], f[0]) - two[0]).square().sum() + STIFF * rough + 1e-4 * f.square().sum()

        *_, last = minimize([flow], loss, GRADIENTS, 0.5, optimizer=LBFGS)
        flow = last.at[0]
    return flow[0]


def warped(x: Tensor, flow: Tensor) -> Tensor:
    """x(p + F(p)): (C, h, w), at the edge as the pixels there are."""
    high, wide = x.shape[-2:]
    y, across = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    return sampled(x, across + flow[0], y + flow[1])


def sampled(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """x (C, H, W) at places in its own pixels, (h, w) each: (C, h, w), bilinearly."""
    high, wide = x.shape[-2:]
    grid = torch.stack([(2 * across + 1) / wide - 1, (2 * down + 1) / high - 1], -1)
    return F.grid_sample(x[None], grid[None].to(x.dtype), padding_mode="border", align_corners=False)[0]


# Colour


def recoloured(before: Tensor, after: Tensor) -> Tensor:
    """A of two images (C, h, w), (C (C + 1), h, w)."""
    c = len(before)

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x[None], 2 * WINDOW + 1, 1, WINDOW, count_include_pad=False)[0]

    mu, nu = mean(before), mean(after)
    products = (
        mean((before[:, None] * before[None]).flatten(0, 1)).unflatten(0, (c, c)) - mu[:, None] * mu[None]
    )
    crossed = (
        mean((before[:, None] * after[None]).flatten(0, 1)).unflatten(0, (c, c)) - mu[:, None] * nu[None]
    )
    held = HELD * torch.eye(c)[:, :, None, None]
    gain = torch.linalg.solve((products + held).permute(2, 3, 0, 1), (crossed + held).permute(2, 3, 0, 1))
    gain = gain.permute(3, 2, 0, 1)  # (out, in, h, w)
    shift = nu - (gain * mu[None]).sum(1)
    return mean(torch.cat([gain, shift[:, None]], 1).flatten(0, 1))


def apply(colour: Tensor, x: Tensor) -> Tensor:
    """A (x, 1)."""
    c = len(x)
    a = colour.unflatten(0, (c, c + 1))
    return (a[:, :c] * x[None]).sum(1) + a[:, c]


# On the photograph


class Applied(NamedTuple):
    x: Tensor
    """(C, H, W): the photograph, edited"""
    share: Tensor
    """(H, W): m"""


@torch.no_grad()
def applied(photo: Tensor, made: Change) -> Applied:
    """The change on a photograph (C, H, W), whose middle square is what the model was shown; the rest stays
    as it is, and so does every pixel of which nothing is asked."""
    out, share = photo.clone(), torch.zeros(photo.shape[1:])
    if torch.equal(made.flow, torch.zeros_like(made.flow)) and still(made):
        return Applied(out, share)
    side = min(photo.shape[1:])
    top, left = (photo.shape[1] - side) // 2, (photo.shape[2] - side) // 2
    square, small = photo[:, top : top + side, left : left + side], made.flow.shape[-1]
    scale = side / small
    across = torch.arange(side, dtype=torch.float32)
    for row in range(0, side, ROWS):
        down = torch.arange(row, min(row + ROWS, side), dtype=torch.float32)
        at_y, at_x = torch.meshgrid(down, across, indexing="ij")
        x, y = (at_x + 0.5) / scale - 0.5, (at_y + 0.5) / scale - 0.5
        flow, colour, m, model = (
            sampled(part, x, y) for part in (made.flow, made.colour, made.share[None], made.after)
        )
        own = sampled(square, at_x + scale * flow[0], at_y + scale * flow[1])
        own = torch.where(flow.square().sum(0) > 0, own, square[:, row : row + len(down)])
        rows = slice(top + row, top + row + len(down))
        out[:, rows, left : left + side] = (1 - m) * apply(colour, own) + m * model
        share[rows, left : left + side] = m[0]
    return Applied(out.clamp(-1, 1), share)


def still(made: Change) -> bool:
    """Whether no colour has changed."""
    c = len(made.after)
    same = torch.eye(c, c + 1).flatten()[:, None, None]
    return bool((made.colour - same).abs().max() < 1e-4) and not bool(made.share.any())
