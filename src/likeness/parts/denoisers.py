"""The networks of denoising models: from a noisy image, a time and perhaps a class to an image, or to
several.

    unet    images, and codes that are images (unet.py)
    patches the same on squares of 2x2 pixels
    dit     the same with a transformer (dit.py)
    mlp     points in the plane and codes without neighbours

Of every one the scale 1 is a size for a laptop, and scale 2 has twice the width.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Condition, Noise, Refusal, Spec
from .conditioning import Labels, beside
from .dit import DiT
from .text import Texts
from .unet import Plan, UNet, thin, waves, zero


def network(
    net: str,
    spec: Spec,
    scale: float,
    outputs: int,
    labels: int,
    times: int = 1,
    dropout: float = 0.0,
    text: bool = False,
    reader: str = "absolute",
) -> nn.Module:
    """A network whose forward(x, t, y=None, noise=None) takes x (B, C, H, W), t (B,) or (B, times) in about 0
    to 1000, and a Condition y or None, and gives (B, outputs, H, W) in float32.

    net: auto, unet, patches, dit or mlp; auto is that of best().
    labels: number of classes, or 0.  Without y, or where its label is NONE, no class is told.
    text: whether it reads the texts of y; one of no word, or none, is not told.
    reader: what reads them (text.py).  All but the first, `absolute`, stand beside a U-Net that knows where
    in the image it is.
    spec.source: of the other image that y holds, which the network sees beside x (Beside); zeros for none.
    noise: the examples' own randomness, which dropout is drawn from; without it nothing is left out.
    """
    if spec.source[0]:
        wider = replace(spec, channels=spec.channels + spec.source[0], source=(0, 0))
        return Beside(network(net, wider, scale, outputs, labels, times, dropout, text, reader), spec)
    texts = Texts.read_by(reader, spec.vocabulary, spec.tokens, size_of(WORD, scale, 16)) if text else None
    kind = best(spec) if net == "auto" else net
    if kind not in ("unet", "patches", "dit", "mlp"):
        raise Refusal(f"there is no network {net}; type --net auto, unet, patches, dit or mlp.")
    if kind == "mlp":
        return MLP(spec, outputs, size_of(256, scale, 8), 3, labels, times, dropout, texts)
    if spec.size == 1:
        raise Refusal(
            f"--net {kind} asks for images, and these are points or codes of one pixel; type --net mlp."
        )
    if kind == "patches":
        return Patched(spec, scale, outputs, labels, times, dropout, texts)
    if kind == "unet":
        return UNet(replace(plan(spec, scale, outputs, labels, times, dropout), text=texts))
    width = size_of(96, scale, 32)
    return DiT(spec.channels, outputs, spec.size, width, 6, width // 32, labels, times, dropout, text=texts)


def best(spec: Spec) -> str:
    """The kind that learns most in equal time on a processor (docs/results); codes have been made small
    already."""
    return "mlp" if spec.size == 1 else "patches" if spec.size >= 16 and spec.levels else "unet"


class Beside(nn.Module):
    """A network that sees another image behind the channels of the noisy one, at the same resolution (Saharia
    et al., "Image Super-Resolution via Iterative Refinement", 2021, section 2.4; Saharia et al., "Palette",
    2022, section 3).  Where y holds none, it sees the middle grey that Condition.dropped() leaves."""

    def __init__(self, net: nn.Module, spec: Spec):
        """net: of spec.channels + spec.source[0] channels."""
        super().__init__()
        self.net, self.source = net, spec.source

    def forward(self, x: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None) -> Tensor:
        out: Tensor = self.net(beside(x, y, *self.source), t, y, noise)
        return out


OCTAVES = 6
"""waves of a coordinate, the longest of length 2"""


def size_of(width: int, scale: float, step: int) -> int:
    """Scaled, and a multiple of `step`."""
    return max(step, step * round(width * scale / step))


WORD = 64
"""features of a word at scale 1"""
HEAD = 64
"""features of a head of attention (Dhariwal & Nichol, "Diffusion Models Beat GANs", 2021, section 4.1)"""


def plan(spec: Spec, scale: float, outputs: int, labels: int, times: int = 1, dropout: float = 0.0) -> Plan:
    """Halved until 8 pixels or fewer are left, with attention there; fewer channels above 16 pixels a side,
    where each costs most."""
    sizes = [spec.size]
    while sizes[-1] > 8:
        sizes.append((sizes[-1] + 1) // 2)
    channels = tuple(size_of(64 if n <= 16 else 32 if n <= 32 else 16, scale, 16) for n in sizes)
    return Plan(
        inside=spec.channels,
        outside=outputs,
        channels=channels,
        attention=tuple(n <= 8 for n in sizes),
        blocks=1 if scale < 2 else 2,
        groups=groups(channels),
        head=HEAD if channels[-1] % HEAD == 0 else None,
        labels=labels,
        times=times,
        dropout=dropout,
    )


def groups(channels: tuple[int, ...]) -> int:
    """As many as the paper's 32 if they have four channels each, else fewer."""
    common = math.gcd(*channels) // 4
    return max(n for n in range(1, 33) if common % n == 0)


class Patched(nn.Module):
    """A U-Net between two convolutions: squares of 2x2 pixels are its channels, and most of the work at full
    resolution, where it costs most, is saved.

    The last convolution sees what the first one found as well, so that no pixel is blurred by the way through
    the squares.
    """

    def __init__(
        self,
        spec: Spec,
        scale: float,
        outputs: int,
        labels: int,
        times: int,
        dropout: float,
        text: Texts | None = None,
    ):
        super().__init__()
        thin, half = size_of(16, scale, 8), (spec.size + 1) // 2
        self.size = spec.size
        self.first = nn.Conv2d(spec.channels, thin, 3, padding=1)
        inner = plan(replace(spec, channels=4 * thin, size=half), scale, 4 * thin, labels, times, dropout)
        self.net: UNet = UNet(replace(inner, text=text))
        cast(nn.Conv2d, self.net.last).reset_parameters()  # it is not the last here
        self.last = zero(nn.Conv2d(2 * thin, outputs, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None) -> Tensor:
        if odd := self.size % 2:
            x = F.pad(x, (0, odd, 0, odd))
        h = self.first(x)
        out: Tensor = self.last(
            F.silu(torch.cat([h, F.pixel_shuffle(self.net(F.pixel_unshuffle(h, 2), t, y, noise), 2)], 1))
        )
        return out[..., : self.size, : self.size].float()


class MLP(nn.Module):
    """A residual multi-layer perceptron on all numbers of an example: x + W2 silu(W1 silu(x) + W e(t)).

    Of points in the plane it is told waves of each coordinate as well: by itself such a network is far too
    smooth to tell the modes of a grid apart (Tancik et al., "Fourier Features Let Networks Learn High
    Frequency Functions in Low Dimensional Domains", 2020).
    """

    def __init__(
        self,
        spec: Spec,
        outputs: int,
        width: int,
        depth: int,
        labels: int = 0,
        times: int = 1,
        dropout: float = 0.0,
        text: Texts | None = None,
    ):
        super().__init__()
        self.shape, self.labels, self.dropout = (outputs, spec.size, spec.size), labels, dropout
        self.width = width
        self.time = nn.Sequential(nn.Linear(times * width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = Labels(labels, width, null=True) if labels else None
        self.text = text.encoder() if text else None
        self.pooled = nn.Linear(text.width, width) if text else None
        self.octaves = OCTAVES if spec.points else 0
        self.first = nn.Linear(spec.dims * (1 + 2 * self.octaves), width)
        self.told = nn.Linear(width, depth * width)
        self.inside = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.ModuleList(zero(nn.Linear(width, width)) for _ in range(depth))
        self.last = zero(nn.Linear(width, math.prod(self.shape)))

    def forward(self, x: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None) -> Tensor:
        """x (B, C, H, W), t (B,) or (B, times), y: of which classes and texts count, or None; (B, outputs, H,
        W) float32.  See network()."""
        h = self.first(self.seen(x.flatten(1)))
        for inside, out, e in zip(self.inside, self.out, self.when(t, y)):
            h = h + out(thin(F.silu(inside(F.silu(h)) + e), self.dropout, noise))
        return self.last(F.silu(h)).float().unflatten(1, self.shape)

    def seen(self, x: Tensor) -> Tensor:
        """x (B, dims), and its waves."""
        if not self.octaves:
            return x
        angle = x[..., None] * (math.pi * 2.0 ** torch.arange(self.octaves, device=x.device, dtype=x.dtype))
        return torch.cat([x, angle.sin().flatten(1), angle.cos().flatten(1)], 1)

    def when(self, t: Tensor, y: Condition | None) -> tuple[Tensor, ...]:
        """What each block is told of time, class and the mean of a text's words, (B, width)."""
        text = None if self.text is None else self.text(y, len(t))
        with torch.autocast(t.device.type, enabled=False):
            e = self.time(waves(t.flatten(), self.width).view(t.shape[0], -1))
            if self.label is not None:
                e = e + self.label(y, t.shape[0])
            if self.pooled is not None and text is not None:
                e = e + self.pooled(text.mean)
            return self.told(F.silu(e)).chunk(len(self.inside), 1)
