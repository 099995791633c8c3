"""A Condition, as networks take it: a vector an example, a vector a word, or more planes of the image.

    Labels(labels, width)(y)          (B, width)       what is added to a time, to a bias, or multiplied with features
    Words(vocabulary, longest, w)(y)  (B, T, w)        for attention; .vector(y) is their mean, (B, w)
    planes(x, y, channels)            (B, C + C', H, W)   the other image beside x (Saharia et al., "Palette", 2022, section 3)
    beside(x, y, channels, size)      likewise, of another image that may have another size

Each takes a Condition of which its part may be left out (core.NONE, core.PAD), if it was made with a vector
for that.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import NONE, PAD, Condition, Refusal
from ..core.condition import PARTS

MISSING = (
    "this class-conditional model asks for the class of each image, and it is not known; give labelled "
    "images."
)


class Labels(nn.Embedding):
    """A learned vector for each class, and, if `null`, one for an example whose class is not told."""

    def __init__(self, labels: int, width: int, null: bool = False, weight: Tensor | None = None):
        """weight: first values (labels, width) in place of drawn ones."""
        super().__init__(labels + null, width, _weight=weight)
        self.labels, self.null = labels, null

    def forward(self, y: Condition | None, n: int = 0) -> Tensor:  # type: ignore[override]
        """(B, width).  n: examples where there is no y at all.  Raises Refusal where a class is missing and
        must not be."""
        label = None if y is None else y.label
        if label is None:
            if not self.null:
                raise Refusal(MISSING)
            size = n or (0 if y is None else len(y))
            return super().forward(torch.full((size,), self.labels, device=self.weight.device))
        if self.null:
            return super().forward(torch.where(label == NONE, self.labels, label))
        # a GPU is not asked: the answer would wait for the step
        if not label.is_cuda and bool((label == NONE).any()):
            raise Refusal(MISSING)
        return super().forward(label)


class Text(NamedTuple):
    words: Tensor
    """(B, T, width), 0 behind the last word"""
    there: Tensor
    """bool (B, T)"""

    @property
    def mean(self) -> Tensor:
        """Of the words of each text, (B, width); in float32 at least."""
        wide = torch.promote_types(self.words.dtype, torch.float32)
        return self.words.to(wide).sum(1) / self.there.sum(1, keepdim=True).clamp(min=1)


class Words(nn.Module):
    """A learned vector for each word of the vocabulary and for each place in a text; a text of no word is
    `nothing`."""

    def __init__(self, vocabulary: int, longest: int, width: int):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.places = nn.Parameter(torch.randn(longest, width) * 0.02)
        self.nothing = nn.Parameter(torch.zeros(width))

    def forward(self, y: Condition | None, n: int = 0) -> Text:
        tokens = y.tokens if y is not None and y.tokens is not None else None
        if tokens is None:
            size = n or (0 if y is None else len(y))
            tokens = torch.full((size, len(self.places)), PAD, device=self.places.device)
        there = tokens != PAD
        return Text((self.table(tokens) + self.places[: tokens.shape[1]]) * there[..., None], there)

    def vector(self, y: Condition | None, n: int = 0) -> Tensor:
        """The mean over the words of each text, (B, width)."""
        words, there = self(y, n)
        count = there.sum(1, keepdim=True)
        return torch.where(count > 0, words.sum(1) / count.clamp(min=1), self.nothing)


def told_and_not(y: Condition, parts: Collection[str] = PARTS, negative: Tensor | None = None) -> Condition:
    """(2 B) rows for guidance in one pass: as y is, and then the same without `parts`.

    negative: int64 (1, T), a text that the second half is told in place of none (a "negative prompt").
    """
    silent = y.dropped(torch.ones(len(y), dtype=torch.bool, device=next(iter(y.parts().values())).device))
    both = {
        name: torch.cat([part, getattr(silent, name) if name in parts else part])
        for name, part in y.parts().items()
    }
    if negative is not None and y.tokens is not None:
        texts = y.tokens, negative.to(y.tokens.device).expand(len(y), -1)
        room = max(t.shape[1] for t in texts)
        both["tokens"] = torch.cat([F.pad(t, (0, room - t.shape[1]), value=PAD) for t in texts])
    return Condition(**both)


def planes(x: Tensor, y: Condition | None, channels: int) -> Tensor:
    """x (B, C, H, W) and behind its channels those of the other image, (B, C + channels, H, W); zeros where
    there is none.

    Raises Refusal where that image has another shape.
    """
    if not channels:
        return x
    other = None if y is None else y.image
    if other is None:
        other = x.new_zeros(len(x), channels, *x.shape[2:])
    if other.shape[1:] != (channels, *x.shape[2:]):
        want = "x".join(map(str, (channels, *x.shape[2:])))
        raise Refusal(
            f"the image that this model is told should be {want}, and it is "
            f"{'x'.join(map(str, other.shape[1:]))}."
        )
    return torch.cat([x, other.to(x.dtype)], 1)


def beside(x: Tensor, y: Condition | None, channels: int, size: int) -> Tensor:
    """planes(), of another image (B, channels, size, size) that is brought to the size of x first: a smaller
    one by bicubic interpolation (Saharia et al. 2021, "SR3", section 2.4), a larger one by means over areas.

    Raises Refusal where that image has another shape.
    """
    other = None if y is None else y.image
    if other is None or other.shape[-1] == x.shape[-1]:
        return planes(x, y, channels)
    if other.shape[1:] != (channels, size, size):
        raise Refusal(
            f"the image that this model is told should be {channels}x{size}x{size}, and it is "
            f"{'x'.join(map(str, other.shape[1:]))}."
        )
    there = x.shape[2:]
    if size > there[-1]:
        return planes(x, Condition(image=F.interpolate(other.float(), there, mode="area")), channels)
    # antialias changes nothing where an image grows, but for the kernel: a = -1/2, as in Pillow and MATLAB
    larger = F.interpolate(other.float(), there, mode="bicubic", antialias=True).clamp(-1, 1)
    return planes(x, Condition(image=larger), channels)
