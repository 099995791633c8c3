"""Networks from an image to an image, and one that judges patches.

    Residual   c7s1-k, d2k, d4k, R4k ..., u2k, uk, c7s1     Johnson, Alahi & Fei-Fei 2016; Zhu et al. 2017, appendix 7.2
    UNet       Ck-C2k-...  and back, with skips             Isola et al. 2017, appendix 6.1.1
    patches    C64-C128-...                                 Isola et al. 2017, appendix 6.1.2

All are convolutions: what they were trained on at one size they make of images of any size, if both sides are
multiples of `stride`.  `halo` is how many pixels to each side of a pixel its value can depend on, without the
statistics of a normalisation, which are of the whole image.

The generators return what comes before the tanh.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Condition, Noise, Refusal
from .norms import InstanceNorm

Norm = Callable[[int], nn.Module]
"""makes the normalisation of so many channels"""
NORMS: dict[str, Norm] = {
    "instance": InstanceNorm,
    "batch": nn.BatchNorm2d,
    "none": lambda channels: nn.Identity(),
}
MOST = 8
"""times the width that a layer of the U-Net or of the judge of patches has at most"""


class Reflected(nn.Conv2d):
    """A convolution whose image goes on as in a mirror, so that no frame of zeros is learnt."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, bias: bool = False):
        super().__init__(inside, outside, kernel, stride, bias=bias)
        self.margin = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # which would make fp32 of it, to copy pixels
            x = F.pad(x, (self.margin,) * 4, mode="reflect")
        return super().forward(x)


class Bend(nn.Module):
    """max(x, leak x), where it is."""

    def __init__(self, leak: float = 0.0):
        super().__init__()
        self.leak = leak

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(x, self.leak) if self.leak else F.relu_(x)


class Block(nn.Module):
    """x plus two convolutions of it; x itself at first, where the last normalisation has a weight to begin at
    0 (Goyal et al. 2017, section 5.1)."""

    def __init__(self, channels: int, norm: Norm = InstanceNorm):
        super().__init__()
        last = norm(channels)
        self.layers = nn.Sequential(
            Reflected(channels, channels, 3),
            norm(channels),
            Bend(),
            Reflected(channels, channels, 3),
            last,
        )
        if isinstance(weight := getattr(last, "weight", None), nn.Parameter):
            nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.layers(x)
        return h + x


class Nearest(nn.Module):
    """Each pixel as 2 x 2, and a convolution."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.conv = Reflected(inside, outside, 3)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return h


class Residual(nn.Module):
    """(B, inside, H, W) to (B, outside, H, W), H and W multiples of `stride` = 2^halvings and at least two of
    them.

    width: channels at full size, twice as many at each halving.  resize: enlarge by repetition and a
    convolution instead of a transposed one.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        width: int = 32,
        blocks: int = 6,
        halvings: int = 2,
        norm: Norm = InstanceNorm,
        resize: bool = False,
    ):
        super().__init__()
        layers: list[nn.Module] = [Reflected(inside, width, 7), norm(width), Bend()]
        for c in (width << k for k in range(halvings)):
            layers += [Reflected(c, 2 * c, 3, 2), norm(2 * c), Bend()]
        layers += [Block(width << halvings, norm) for _ in range(blocks)]
        for c in (width << k for k in reversed(range(halvings))):
            double = Nearest(2 * c, c) if resize else nn.ConvTranspose2d(2 * c, c, 4, 2, 1, bias=False)
            layers += [double, norm(c), Bend()]
        self.layers = nn.Sequential(*layers, Reflected(width, outside, 7, bias=True))
        self.stride = 1 << halvings
        self.halo = reach_of_residual(blocks, halvings, resize)
        self.apply(begin)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.layers(x)
        return h


class UNet(nn.Module):
    """(B, inside, H, W) to (B, outside, H, W), H and W multiples of `stride` = 2^depth.

    width: channels after the first halving, twice as many after each, up to eight times.  dropout: share of
    channels' values that are dropped in the first three layers of the way back, where there is noise.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        width: int = 32,
        depth: int = 4,
        norm: Norm = InstanceNorm,
        dropout: float = 0.0,
    ):
        super().__init__()
        c = [width * min(MOST, 1 << k) for k in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for k in range(depth):
            plain = k in (0, depth - 1)  # the first sees colours, the last may have but a pixel
            conv = nn.Conv2d(c[k - 1] if k else inside, c[k], 4, 2, 1, bias=plain)
            self.down.append(nn.Sequential(conv, nn.Identity() if plain else norm(c[k])))
        for k in reversed(range(depth)):
            below, after = c[k] * (1 + (k < depth - 1)), c[k - 1] if k else outside
            double = nn.ConvTranspose2d(below, after, 4, 2, 1, bias=not k)
            self.up.append(nn.Sequential(double, norm(after) if k else nn.Identity()))
        self.dropout, self.stride, self.halo = dropout, 1 << depth, _reach_of_unet(depth)
        self.apply(begin)

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        skips = list[Tensor]()
        for k, layer in enumerate(self.down):
            x = layer(F.leaky_relu(x, 0.2) if k else x)
            skips.append(x)
        h = skips.pop()
        for k, layer in enumerate(self.up):
            h = layer(F.relu(h))
            if k < min(3, len(self.up) - 1) and self.dropout and noise is not None:
                h = h * (noise.uniform(*h.shape[1:]) >= self.dropout).to(h.dtype) / (1 - self.dropout)
            if skips:
                h = torch.cat([h, skips.pop()], 1)
        return h


def patches(inside: int, width: int = 32, layers: int = 3, norm: Norm = InstanceNorm) -> nn.Sequential:
    """(B, inside, H, W) to a logit for each of overlapping patches of reach(layers) pixels a side, (B, 1, h,
    w)."""
    parts: list[nn.Module] = [nn.Conv2d(inside, width, 4, 2, 1), Bend(0.2)]
    before = width
    for k in range(1, layers + 1):
        c = width * min(MOST, 1 << k)
        parts += [nn.Conv2d(before, c, 4, 2 if k < layers else 1, 1, bias=False), norm(c), Bend(0.2)]
        before = c
    net = nn.Sequential(*parts, nn.Conv2d(before, 1, 4, 1, 1))
    net.apply(begin)
    return net


def reach(layers: int) -> int:
    """Pixels a side of a patch of patches(): 16, 34, 70, 142 with 1 to 4 layers."""
    side = 4 + 3  # the two convolutions of stride 1 at the end
    for _ in range(layers):
        side = 2 * side + 2
    return side


def fitting(size: int) -> int:
    """Layers of patches() for images of `size` pixels a side: the paper's 3 from 128 on, 2 at 64, and 1
    below."""
    return 3 if size >= 128 else 2 if size >= 64 else 1


def begin(layer: nn.Module) -> None:
    """First weights N(0, 0.02^2) (Isola et al. 2017, appendix 6.2; Zhu et al. 2017, appendix 7.1)."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


# How far a pixel sees

Span = tuple[int, int]
"""first and last pixel"""


def _conv(kernel: int, stride: int, padding: int) -> Callable[[Span], Span]:
    """Of the pixels that a convolution gives, those that it sees."""
    return lambda span: (span[0] * stride - padding, span[1] * stride - padding + kernel - 1)


def _doubled(kernel: int, padding: int) -> Callable[[Span], Span]:
    """Of the pixels that a transposed one of stride 2 gives, those that it sees: o = 2i - padding + k."""
    return lambda span: (-((kernel - 1 - padding - span[0]) // 2), (span[1] + padding) // 2)


def _nearest(span: Span) -> Span:
    return span[0] // 2, span[1] // 2


def _through(span: Span, layers: Sequence[Callable[[Span], Span]]) -> Span:
    for layer in layers:
        span = layer(span)
    return span


def _most(stride: int, spans: Callable[[Span], Iterator[Span]]) -> int:
    """The furthest that any pixel of a period sees to either side."""
    return max(max(o - a, b - o) for o in range(stride) for a, b in spans((o, o)))


def reach_of_residual(blocks: int, halvings: int = 2, resize: bool = False) -> int:
    """The halo of such a Residual."""
    up = [_conv(3, 1, 1), _nearest] if resize else [_doubled(4, 1)]
    layers = [_conv(7, 1, 3), *up * halvings, *[_conv(3, 1, 1)] * 2 * blocks]
    layers += [*[_conv(3, 2, 1)] * halvings, _conv(7, 1, 3)]
    return _most(1 << halvings, lambda span: iter([_through(span, layers)]))


def _reach_of_unet(depth: int) -> int:
    def spans(span: Span) -> Iterator[Span]:
        for k in range(1, depth + 1):
            span = _doubled(4, 1)(span)
            yield _through(span, [_conv(4, 2, 1)] * k)

    return _most(1 << depth, spans)


# What models share that translate


def check(name: str, x: Tensor, channels: int, stride: int) -> None:
    """Refuse images (B, C, H, W) that a model called `name` cannot translate."""
    if x.shape[1] != channels:
        raise Refusal(
            f"{name} learnt to translate images of {channels} channels and these have {x.shape[1]}; read "
            f"them with --colour {'grey' if channels == 1 else 'rgb'}."
        )
    if any(side % stride or side < 2 * stride for side in x.shape[2:]):
        raise Refusal(
            f"{name} translates images whose sides are multiples of {stride}, {2 * stride} at least, and "
            f"these have {x.shape[3]} x {x.shape[2]} pixels."
        )


def source_of(name: str, y: Condition | None) -> Tensor:
    """The image to translate, (B, C, H, W)."""
    if y is None or y.image is None:
        raise Refusal(f"{name} makes an image of another, and there is none here; name the data it is of.")
    return y.image


class Kept:
    """What generators have made of a batch in this step, for the discriminators' move on the same images.

    The authors' CycleGAN does the same: the generators move first, and the discriminators learn from what
    was drawn before that move, so that each image is drawn once a step.  A batch that comes in pieces is kept
    in pieces, which both players meet in the same order.
    """

    def __init__(self) -> None:
        self.kept: list[tuple[int, tuple[Tensor, ...]]] = []

    def put(self, batch: Batch, *images: Tensor) -> None:
        self.kept = [one for one in self.kept if one[0] == batch.seen]
        self.kept.append((batch.seen, tuple(image.detach() for image in images)))

    def take(self, batch: Batch) -> tuple[Tensor, ...] | None:
        """What was put first, of this step and of as many images; None if nothing was."""
        if self.kept and self.kept[0][0] == batch.seen and len(self.kept[0][1][0]) == len(batch):
            return self.kept.pop(0)[1]
        return None
