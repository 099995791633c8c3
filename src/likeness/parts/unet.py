"""The U-Net of diffusion models: a noisy image and a time to an image.

Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models", 2020, appendix B: residual blocks with group
normalisation at ever lower resolution, then back, each block on the way back beside what the one opposite has
made; self-attention at low resolutions; the time as sinusoids through a small network, added within each
block.

    block(x, t)     x + conv(silu(norm(conv(silu(norm(x))) + W e(t))))
    attention(x)    x + softmax(Q K' / sqrt(head width)) V, with Q, K, V linear in norm(x), each pixel a token

It is the very function of UNet2DModel in the library diffusers, so that weights can go there and come back.
As in the authors' code the last layer of every block, of attention and of the whole begins at zero.

At this size a step's time on a processor went half into convolutions and a third into group normalisation, so
that is done by hand (Fused); doubling the resolution and the convolution after it are one transposed
convolution; all linear maps of the time are one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from ..core import Condition, Noise
from .conditioning import Labels, Text
from .text import Texts


@dataclass(frozen=True)
class Plan:
    """All that a U-Net is built from."""

    inside: int
    """channels of the image it is given"""
    outside: int
    channels: tuple[int, ...]
    """of each level, the image's own resolution first; each next one has half the pixels a side"""
    attention: tuple[bool, ...]
    """whether attention follows each residual block of a level"""
    blocks: int = 2
    """residual blocks of a level on the way down; on the way back there is one more"""
    groups: int = 32
    """of every normalisation"""
    head: int | None = None
    """features of a head of attention; None is a single head"""
    middle: bool = True
    """attention between the two blocks of the lowest resolution"""
    labels: int = 0
    """classes; one more stands for none"""
    times: int = 1
    """numbers that say when it is"""
    dropout: float = 0.0
    eps: float = 1e-5
    """of every normalisation"""
    cosine_first: bool = True
    shift: int = 0
    """the i-th of n waves has frequency 10000 ** (-i / (n - shift))"""
    pad: int = 1
    """zeros about an image before it is halved; 0 puts one row and column behind it instead"""
    text: Texts | None = None
    """texts that are read beside the image"""


def waves(t: Tensor, n: int, shift: int = 0, cosine_first: bool = True) -> Tensor:
    """Cosines and sines of times t (B,), (B, n), from a radian a unit of time down to about 1/10000 (Vaswani
    et al. 2017, section 3.5)."""
    half = n // 2
    angle = wide(t)[:, None] * torch.exp(
        torch.arange(half, device=t.device) * (-math.log(10_000) / max(1, half - shift))
    )
    return torch.cat([angle.cos(), angle.sin()] if cosine_first else [angle.sin(), angle.cos()], 1)


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def forward_mode(x: Tensor) -> bool:
    """Whether a forward derivative is being taken (torch.func.jvp), which fused kernels do not know."""
    return forward_ad.unpack_dual(x).tangent is not None


def zero(layer: nn.Module) -> nn.Module:
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


def thin(x: Tensor, share: float, noise: Noise | None) -> Tensor:
    """Dropout of x (B, ...): a byte of an image's own noise decides about each feature; without noise there
    is none."""
    if noise is None or not share:
        return x
    n, limit = x[0].numel(), round(256 * share)
    chance = noise.bits(-(-n // 8)).view(torch.uint8)[:, :n].view(x.shape)
    return x * (chance >= limit).to(x.dtype).mul_(256 / (256 - limit))


# Group normalisation and silu in one


def moments(x: Tensor, e: Tensor | None, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean, and one over the standard deviation, of x + e over the pixels and the group that a channel is in,
    (B, C) each."""
    n = x[0, 0].numel()
    first, second = x.sum((2, 3)) / n, (x * x).sum((2, 3)) / n
    if e is not None:
        first, second = first + e, second + e * (2 * first + e)
    mean = over_groups(first, groups)
    return mean, (over_groups(second, groups) - mean * mean).clamp(min=0).add(eps).rsqrt()


def over_groups(x: Tensor, groups: int) -> Tensor:
    """(B, C) to the mean of the group that each channel is in, (B, C)."""
    return x.unflatten(1, (groups, -1)).mean(2, keepdim=True).expand(-1, -1, x.shape[1] // groups).flatten(1)


def affine(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a x + b of images (B, C, H, W), with a and b of each channel, (B, C)."""
    return torch.addcmul(b[:, :, None, None], x, a[:, :, None, None])


class Fused(torch.autograd.Function):
    """silu(norm(x + e)), worked out as silu(a x + b), and its derivative; in float32 within, whatever x is.

    torch's own kernels (2.13) take two to three times as long on a processor where channels are last and
    images small, and keep what lies between.
    """

    @staticmethod
    def forward(
        x: Tensor, e: Tensor | None, weight: Tensor, bias: Tensor, groups: int, eps: float, act: bool
    ) -> tuple[Tensor, ...]:
        h = wide(x)
        mean, scale = moments(h, e, groups, eps)
        a = scale * weight
        z = affine(h, a, bias + ahead(e, mean) * a)
        return (F.silu(z, inplace=True) if act else z).to(x.dtype), mean, scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, e, weight, bias, ctx.groups, _, ctx.act = inputs
        ctx.save_for_backward(x, e, weight, bias, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """With g the derivative by w n + bias, n = s (x + e - mean): s (w g - mean(w g) - n mean(w g n)),
        means over pixels and group."""
        x, e, weight, bias, mean, scale = ctx.saved_tensors
        h, off, a, n = wide(x), ahead(e, mean), scale * weight, x[0, 0].numel()
        grad = wide(grad)
        if ctx.act:
            grad = torch.ops.aten.silu_backward(grad, affine(h, a, bias + off * a))
        g = grad.sum((2, 3))
        gn = scale * ((grad * h).sum((2, 3)) + off * g)
        slope = scale * scale * over_groups(weight * gn, ctx.groups) / n
        constant = -scale * over_groups(weight * g, ctx.groups) / n - slope * off
        by_x = affine(grad, a, constant).addcmul_(h, -slope[:, :, None, None])
        by_e = None if e is None else a * g + n * constant - slope * h.sum((2, 3))
        return by_x.to(x.dtype), by_e, gn.sum(0), g.sum(0), None, None, None


def ahead(e: Tensor | None, mean: Tensor) -> Tensor:
    """What is added to x before it is scaled, (B, C)."""
    return -mean if e is None else e - mean


class Norm(nn.GroupNorm):
    def forward(self, x: Tensor, e: Tensor | None = None, act: bool = True) -> Tensor:
        """norm(x + e), or silu of it, of x (B, C, H, W) and e (B, C)."""
        if not forward_mode(x):
            out: Tensor = Fused.apply(x, e, self.weight, self.bias, self.num_groups, self.eps, act)[0]
            return out
        h = wide(x)
        mean, scale = moments(h, e, self.num_groups, self.eps)
        a = scale * self.weight
        z = affine(h, a, self.bias + ahead(e, mean) * a)
        return (F.silu(z) if act else z).to(x.dtype)


# Layers


class Heads(nn.Module):
    """Self-attention of tokens (B, T, width), without a norm and a residual."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor, there: Tensor | None = None) -> Tensor:
    """softmax(Q K' / sqrt(width)) V of (B, heads, T, width); there: bool (B, keys), those that are looked at.

    The fused kernel is for GPUs: that of processors (torch 2.13) takes twice as long in bf16, forwards and
    back, as the formula.
    """
    if q.is_cuda and not forward_mode(q):
        return F.scaled_dot_product_attention(q, k, v, None if there is None else there[:, None, None])
    logits = q * q.shape[-1] ** -0.5 @ k.mT
    if there is not None:
        logits = logits.masked_fill(~there[:, None, None], -torch.inf)
    return logits.softmax(-1) @ v


class Attention(nn.Module):
    def __init__(self, width: int, plan: Plan):
        super().__init__()
        self.norm = Norm(plan.groups, width, plan.eps)
        self.heads = Heads(width, width // (plan.head or width))
        zero(self.heads.out)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.heads(self.norm(x, act=False).flatten(2).mT)
        return x + seen.mT.unflatten(2, x.shape[2:])


class Cross(nn.Module):
    """Attention of tokens (B, N, width) to the words of a text; without a norm and a residual, and zero at
    first."""

    def __init__(self, width: int, words: int, heads: int):
        """words: features of a word."""
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(words, 2 * width)
        self.out = zero(nn.Linear(width, width))

    def forward(self, tokens: Tensor, text: Text) -> Tensor:
        q = self.q(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(text.words).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.out(attend(q, k, v, text.there).transpose(1, 2).flatten(2))
        return out


PLACES = 12
"""waves of row and column, that say where a pixel is"""


def places(rows: int, columns: int, device: torch.device) -> Tensor:
    """Sines and cosines of half a turn, one and two over the image, by row and by column, (rows * columns,
    PLACES)."""
    down, across = ((torch.arange(n, device=device) + 0.5) / n for n in (rows, columns))
    at = torch.stack([down.repeat_interleave(columns), across.repeat(rows)], 1)
    angle = at[..., None] * torch.tensor([math.pi, 2 * math.pi, 4 * math.pi], device=device)
    return torch.cat([angle.sin(), angle.cos()], 2).flatten(1)


class Reading(nn.Module):
    """x + cross attention of its pixels to a text (Saharia et al., "Photorealistic Text-to-Image Diffusion
    Models with Deep Language Understanding", 2022, section 2.4; Rombach et al. 2022, section 3.3)."""

    def __init__(self, width: int, plan: Plan):
        super().__init__()
        assert plan.text is not None
        self.norm = Norm(plan.groups, width, plan.eps)
        self.cross = Cross(width, plan.text.width, width // (plan.head or width))
        # what convolutions see is the same everywhere but at the edge, and "at the top left" is a place
        self.place = nn.Linear(PLACES, width, bias=False) if plan.text.reader != "absolute" else None

    def forward(self, x: Tensor, text: Text) -> Tensor:
        tokens = self.norm(x, act=False).flatten(2).mT
        if self.place is not None:
            tokens = tokens + self.place(places(x.shape[2], x.shape[3], x.device))
        return x + self.cross(tokens, text).mT.unflatten(2, x.shape[2:])


class Block(nn.Module):
    """A residual block."""

    def __init__(self, inside: int, outside: int, plan: Plan):
        super().__init__()
        self.outside, self.dropout = outside, plan.dropout
        self.norm1 = Norm(plan.groups, inside, plan.eps)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2 = Norm(plan.groups, outside, plan.eps)
        self.conv2 = zero(nn.Conv2d(outside, outside, 3, padding=1))
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, e: Tensor, noise: Noise | None = None) -> Tensor:
        """x (B, inside, H, W) and what it is told of the time, e (B, outside)."""
        h = self.norm2(self.conv1(self.norm1(x)), e)
        out: Tensor = self.skip(x) + self.conv2(thin(h, self.dropout, noise))
        return out


class Shrink(nn.Conv2d):
    """To half the pixels: n to (n + 1) // 2, or n // 2 without padding."""

    def __init__(self, width: int, pad: int):
        super().__init__(width, width, 3, stride=2, padding=pad)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.padding[0] else F.pad(x, (0, 1, 0, 1)))


class Grow(nn.Conv2d):
    """Every pixel fourfold, then a 3x3 convolution: each result hears of 2x2 pixels alone, so that it is a
    transposed convolution whose 4x4 kernel sums up what falls on the same pixel, at four ninths of the
    products."""

    def __init__(self, width: int):
        super().__init__(width, width, 3, padding=1)

    def onto(self, x: Tensor, like: Tensor) -> Tensor:
        """As many pixels as `like` has, twice those of x or one less."""
        w = F.avg_pool2d(F.pad(self.weight.flip(2, 3), (1, 1, 1, 1)), 2, 1, divisor_override=1)
        return F.conv_transpose2d(x, w.transpose(0, 1), self.bias, stride=2, padding=1)[
            :, :, : like.shape[2], : like.shape[3]
        ]


class Level(nn.Module):
    """One resolution: blocks that take `inside` channels each, attention after each of the first of them, and
    the way to the next resolution."""

    def __init__(
        self, inside: list[int], outside: int, attentions: int, resize: nn.Module | None, plan: Plan
    ):
        super().__init__()
        self.blocks = nn.ModuleList(Block(n, outside, plan) for n in inside)
        self.attentions = nn.ModuleList(
            Attention(outside, plan) if i < attentions else nn.Identity() for i in range(len(inside))
        )
        self.readings = nn.ModuleList(Reading(outside, plan) for _ in range(attentions if plan.text else 0))
        """after each attention, where there is a text"""
        self.resize = resize


class UNet(nn.Module):
    def __init__(self, plan: Plan):
        super().__init__()
        self.plan, c = plan, plan.channels
        width = 4 * c[0]
        self.time = nn.Sequential(nn.Linear(plan.times * c[0], width), nn.SiLU(), nn.Linear(width, width))
        self.label = Labels(plan.labels, width, null=True) if plan.labels else None
        self.text = plan.text.encoder() if plan.text else None
        self.pooled = nn.Linear(plan.text.width, width) if plan.text else None
        self.first = nn.Conv2d(plan.inside, c[0], 3, padding=1)
        self.down: Any = nn.ModuleList()
        made, h, last = [c[0]], c[0], len(c) - 1
        for i, n in enumerate(c):
            shrink = Shrink(n, plan.pad) if i < last else None
            self.down.append(
                Level([h] + [n] * (plan.blocks - 1), n, plan.blocks * plan.attention[i], shrink, plan)
            )
            made += [n] * (plan.blocks + (i < last))
            h = n
        self.middle = Level([h, h], h, int(plan.middle), None, plan)
        self.up: Any = nn.ModuleList()
        for i, n in reversed(list(enumerate(c))):
            inside = [before + made.pop() for before in [h] + [n] * plan.blocks]
            self.up.append(Level(inside, n, len(inside) * plan.attention[i], Grow(n) if i else None, plan))
            h = n
        self.norm = Norm(plan.groups, h, plan.eps)
        self.last = zero(nn.Conv2d(h, plan.outside, 3, padding=1))
        self.widths = [m.outside for m in self.modules() if isinstance(m, Block)]
        self.told = nn.Linear(width, sum(self.widths))

    def forward(self, x: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None) -> Tensor:
        """x (B, inside, H, W), t (B,) or (B, times), y: of which classes and texts count, or None; (B,
        outside, H, W) float32.

        noise: the images' own, for dropout; without it there is none.
        """
        text = None if self.text is None else self.text(y, len(x))
        e = self.when(t, y, text)

        def through(level: Any, h: Tensor, back: bool = False) -> Iterator[Tensor]:
            for i, (block, attention) in enumerate(zip(level.blocks, level.attentions)):
                h = attention(block(torch.cat([h, made.pop()], 1) if back else h, next(e), noise))
                if i < len(level.readings):
                    h = level.readings[i](h, text)
                yield h

        h = self.first(x)
        made = [h]
        for level in self.down:
            made += through(level, h)
            if level.resize is not None:
                made.append(level.resize(made[-1]))
            h = made[-1]
        *_, h = through(self.middle, h)
        for level in self.up:
            *_, h = through(level, h, back=True)
            if level.resize is not None:
                h = level.resize.onto(h, made[-1])
        return self.last(self.norm(h)).float()

    def when(self, t: Tensor, y: Condition | None, text: Text | None = None) -> Iterator[Tensor]:
        """What each block is told of time and class, and of the mean of a text's words (Saharia et al. 2022,
        section 2.4), (B, its channels); in float32, since bf16 cannot tell 501 from 500."""
        plan = self.plan
        with torch.autocast(t.device.type, enabled=False):
            e = self.time(
                waves(t.flatten(), plan.channels[0], plan.shift, plan.cosine_first).view(t.shape[0], -1)
            )
            if self.label is not None:
                e = e + self.label(y, t.shape[0])
            if self.pooled is not None and text is not None:
                e = e + self.pooled(text.mean)
            return iter(self.told(F.silu(e)).split(self.widths, 1))
