"""Changes of an image that one can differentiate through: a discriminator that sees only changed images
cannot learn a few by heart.

Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020, with its changes and their
strengths: colour, translation, cutout.  Real and drawn images go through the same kind of change, and the
generator's gradient flows through it, so that what the changes do does not become part of what is drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Noise


def colour(x: Tensor, noise: Noise) -> Tensor:
    """Brightness moved by up to a quarter of the range, saturation from none to double, contrast from one
    half to three halves."""
    bright, saturated, contrast = noise.uniform(3)[:, :, None, None, None].unbind(1)
    x = x + (bright - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturated)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def translation(x: Tensor, noise: Noise, most: float = 0.125) -> Tensor:
    """Moved by up to `most` of the side, whole pixels, each as likely; black comes in, where
    theirs is grey."""
    b, _, h, w = x.shape
    reach = round(h * most)
    down, right = (noise.uniform(2) * (2 * reach + 1)).long().sub(reach).unbind(1)
    rows = torch.arange(h, device=x.device) - down[:, None]
    columns = torch.arange(w, device=x.device) - right[:, None]
    there = ((rows >= 0) & (rows < h))[:, None, :, None] & ((columns >= 0) & (columns < w))[:, None, None, :]
    rows, columns = rows.clamp(0, h - 1), columns.clamp(0, w - 1)
    moved = x[
        torch.arange(b, device=x.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]
    ].permute(0, 3, 1, 2)
    return torch.where(there, moved, moved.new_full((), -1.0))


def cutout(x: Tensor, noise: Noise, side: float = 0.5) -> Tensor:
    """A grey square of `side` of the image's, anywhere in it, even half outside."""
    size = x.shape[-1]
    middle = noise.uniform(2, 1) * size
    rows, columns = ((torch.arange(size, device=x.device) + 0.5 - middle).abs() < size * side / 2).unbind(1)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


POLICIES = {
    "none": (),
    "translation": (translation,),
    "gentle": (translation, cutout),
    "full": (colour, translation, cutout),
}
"""by what survives in the data: digits and black-and-white drawings have no colour to change"""


def augmented(x: Tensor, noise: Noise, policy: str) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], each changed in its own way; POLICIES has the names."""
    for change in POLICIES[policy]:
        x = change(x, noise)
    return x
