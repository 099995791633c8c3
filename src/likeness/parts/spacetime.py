"""A U-Net of clips: that of images (unet.py) on every frame, and beside each of its layers one that looks
along time.

Ho, Salimans, Gritsenko, Chan, Norouzi & Fleet, "Video Diffusion Models", 2022, section 3: space and time are
factorised.  A 2-D block knows one frame alone; after it a temporal layer knows one pixel in all frames.

    Along(x)       x + W_-1 h[t-1] + W_0 h[t] + W_1 h[t+1],  h = silu(norm(x)):  a convolution over 3 frames
    Temporal(x)    x + attention of the T features of a pixel, told the number of their frame
    Reading(x)     x + attention to the words of a text

All three begin at zero, so that a fresh network treats every frame by itself.  Frames are folded into the
batch, (B T, C, H, W), which a 2-D layer takes as it is, and channels stay last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Condition, Noise, Spec
from .conditioning import Labels, Text
from .denoisers import groups, plan, size_of
from .text import Texts
from .unet import Attention, Block, Grow, Norm, Plan, Shrink, attend, waves, zero


def planned(spec: Spec, scale: float, labels: int, dropout: float) -> Plan:
    """That of stills, with half the channels above 8 pixels a side: where most of the time goes, and there
    are as many images as frames."""
    still = plan(spec, scale, spec.channels, labels, 1, dropout)
    channels = tuple(c if at else size_of(c, 0.5, 16) for c, at in zip(still.channels, still.attention))
    return replace(still, channels=channels, groups=groups(channels))


PATCHED = 16
"""pixels a side from which on squares of 2x2 pixels are the channels of the U-Net"""


class Along(nn.Module):
    """A convolution over three frames, of every pixel by itself."""

    def __init__(self, width: int, frames: int, plan: Plan):
        super().__init__()
        self.frames = frames
        self.norm = Norm(plan.groups, width, plan.eps)
        self.conv = zero(nn.Conv2d(3 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B T, C, H, W).  Before the first frame and after the last there is nothing: zeros."""
        h = self.norm(x).unflatten(0, (-1, self.frames))
        before, after = (F.pad(h, (0, 0, 0, 0, 0, 0, *pad)) for pad in ((1, 0), (0, 1)))
        out: Tensor = x + self.conv(torch.cat([before[:, :-1], h, after[:, 1:]], 2).flatten(0, 1))
        return out


class Temporal(nn.Module):
    """Self-attention of the frames, of every pixel by itself."""

    def __init__(self, width: int, frames: int, plan: Plan):
        super().__init__()
        self.frames, self.heads = frames, width // (plan.head or width)
        self.norm = Norm(plan.groups, width, plan.eps)
        self.when = nn.Parameter(torch.randn(frames, width) * 0.2)
        self.qkv, self.out = nn.Linear(width, 3 * width), zero(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """x (B T, C, H, W)."""
        h = self.norm(x, act=False).unflatten(0, (-1, self.frames)).permute(0, 3, 4, 1, 2)  # (B, H, W, T, C)
        tokens = h.flatten(0, 2) + self.when.to(h.dtype)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        return x + seen.view(h.shape).permute(0, 3, 4, 1, 2).flatten(0, 1)


class Reading(nn.Module):
    """Attention of every pixel of every frame to the words of its clip's text."""

    def __init__(self, width: int, words: int, frames: int, plan: Plan):
        super().__init__()
        self.frames, self.heads = frames, width // (plan.head or width)
        self.norm = Norm(plan.groups, width, plan.eps)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(words, 2 * width)
        self.out = zero(nn.Linear(width, width))

    def forward(self, x: Tensor, text: Text) -> Tensor:
        """x (B T, C, H, W), text of B rows."""
        h = self.norm(x, act=False).unflatten(0, (-1, self.frames)).permute(0, 1, 3, 4, 2)  # (B, T, H, W, C)
        q = self.q(h.flatten(1, 3)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(text.words).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q * q.shape[-1] ** -0.5) @ k.mT
        scores = scores.masked_fill(~text.there[:, None, None], -torch.inf)
        seen = self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return x + seen.view(h.shape).permute(0, 1, 4, 2, 3).flatten(0, 1)


class Folded:
    """The clips' own noise, as frames folded into the batch take it."""

    def __init__(self, noise: Noise, frames: int):
        self.noise, self.frames = noise, frames

    def bits(self, n: int) -> Tensor:
        return self.noise.bits(self.frames, n).flatten(0, 1)


class Cell(nn.Module):
    """A residual block, and what follows it: a look along time; where resolution is low, attention in space,
    in time and to the text."""

    def __init__(self, inside: int, outside: int, attention: bool, words: int, frames: int, plan: Plan):
        super().__init__()
        self.block, self.along = Block(inside, outside, plan), Along(outside, frames, plan)
        self.space = Attention(outside, plan) if attention else None
        self.time = Temporal(outside, frames, plan) if attention else None
        self.text = Reading(outside, words, frames, plan) if attention and words else None

    def forward(self, x: Tensor, e: Tensor, text: Text | None, noise: Any) -> Tensor:
        x = self.along(self.block(x, e, noise))
        if self.space is not None and self.time is not None:
            x = self.time(self.space(x))
        return x if self.text is None or text is None else self.text(x, text)


class SpaceTime(nn.Module):
    def __init__(
        self,
        spec: Spec,
        scale: float,
        inside: int,
        outside: int,
        labels: int = 0,
        text: bool = False,
        dropout: float = 0.0,
        reader: str = "absolute",
    ):
        """spec: of the clips.  inside, outside: channels of what it is given and of what it says.  labels: 0
        for no classes.  text: whether it reads spec.vocabulary, and reader: what by (text.py)."""
        super().__init__()
        self.frames, self.size = spec.frames, spec.size
        self.squares = spec.size >= PATCHED
        thin, half = size_of(16, scale, 8), (spec.size + 1) // 2 if self.squares else spec.size
        narrow = 4 * thin if self.squares else thin
        self.first = nn.Conv2d(inside, thin, 3, padding=1)
        self.plan = p = planned(replace(spec, channels=narrow, size=half, frames=0), scale, labels, dropout)
        width, c = 4 * p.channels[0], p.channels
        self.clock = nn.Sequential(nn.Linear(c[0], width), nn.SiLU(), nn.Linear(width, width))
        self.label = Labels(labels, width, null=True) if labels else None
        texts = Texts.read_by(reader, spec.vocabulary, spec.tokens, size_of(64, scale, 32)) if text else None
        words = 0 if texts is None else texts.width
        self.reader = None if texts is None else texts.encoder()
        self.gist = zero(nn.Linear(words, width)) if words else None
        self.build(narrow, words)
        self.last = zero(nn.Conv2d(2 * thin, outside, 3, padding=1))
        self.widths = [m.outside for m in self.modules() if isinstance(m, Block)]
        self.told = nn.Linear(width, sum(self.widths))

    def build(self, narrow: int, words: int) -> None:
        """The way down, the middle, and the way back; each block there takes what the one opposite made."""
        p, c = self.plan, self.plan.channels

        def cell(inside: int, outside: int, attention: bool) -> Cell:
            return Cell(inside, outside, attention, words, self.frames, p)

        self.enter = nn.Conv2d(narrow, c[0], 3, padding=1)
        self.down: Any = nn.ModuleList()
        self.shrink: Any = nn.ModuleList()
        made, h = [c[0]], c[0]
        for i, n in enumerate(c):
            self.down.append(nn.ModuleList(cell(n if k else h, n, p.attention[i]) for k in range(p.blocks)))
            made += [n] * p.blocks
            h = n
            if i < len(c) - 1:
                self.shrink.append(Shrink(n, p.pad))
                made.append(n)
        self.middle = nn.ModuleList([cell(h, h, True), cell(h, h, False)])
        self.up: Any = nn.ModuleList()
        self.grow: Any = nn.ModuleList()
        for i, n in reversed(list(enumerate(c))):
            before = [h] + [n] * p.blocks
            self.up.append(nn.ModuleList(cell(b + made.pop(), n, p.attention[i]) for b in before))
            h = n
            if i:
                self.grow.append(Grow(n))
        self.norm, self.leave = Norm(p.groups, h, p.eps), nn.Conv2d(h, narrow, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None) -> Tensor:
        """x (B, inside, T, H, W), t (B,) in about 0 to 1000, y: of which the classes and the words count;
        (B, outside, T, H, W) float32.  noise: the clips' own, for dropout; without it there is none."""
        text = None if self.reader is None else self.reader(y, len(x))
        x = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        if odd := self.squares * self.size % 2:
            x = F.pad(x, (0, odd, 0, odd))
        h = self.first(x)
        inner = F.pixel_unshuffle(h, 2) if self.squares else h
        inner = self.through(inner, self.when(t, y, text), text, noise and Folded(noise, self.frames))
        out = self.last(F.silu(torch.cat([h, F.pixel_shuffle(inner, 2) if self.squares else inner], 1)))
        return out[..., : self.size, : self.size].float().unflatten(0, (-1, self.frames)).transpose(1, 2)

    def through(self, x: Tensor, e: Iterator[Tensor], text: Text | None, noise: Any) -> Tensor:
        """The U-Net itself, on frames (B T, C, H, W)."""
        h = self.enter(x)
        made = [h]
        for i, level in enumerate(self.down):
            for cell in level:
                h = cell(h, next(e), text, noise)
                made.append(h)
            if i < len(self.shrink):
                h = self.shrink[i](h)
                made.append(h)
        for cell in self.middle:
            h = cell(h, next(e), text, noise)
        for i, level in enumerate(self.up):
            for cell in level:
                h = cell(torch.cat([h, made.pop()], 1), next(e), text, noise)
            if i < len(self.grow):
                h = self.grow[i].onto(h, made[-1])
        out: Tensor = self.leave(self.norm(h))
        return out

    def when(self, t: Tensor, y: Condition | None, text: Text | None) -> Iterator[Tensor]:
        """What each block is told of time, class and text, (B T, its channels), the same for all frames of a
        clip; in float32."""
        with torch.autocast(t.device.type, enabled=False):
            e = self.clock(waves(t, self.plan.channels[0]))
            if self.label is not None:
                e = e + self.label(y, len(t))
            if text is not None and self.gist is not None:
                words = text.words.float()
                e = e + self.gist(words.sum(1) / text.there.sum(1, keepdim=True))
            return iter(self.told(F.silu(e)).repeat_interleave(self.frames, 0).split(self.widths, 1))
