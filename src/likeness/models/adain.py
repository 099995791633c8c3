"""Any photo in the style of any painting, in one pass: a decoder of features whose statistics are a painting's.

Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", 2017.  f is
VGG to relu3_1 or relu4_1, fixed; mu and sigma are mean and deviation of each channel over the whole image.

    AdaIN(x, y) = sigma(y) (x - mu(x)) / sigma(x) + mu(y)                                  (8)
    t = AdaIN(f(c), f(s)),   T(c, s) = g(t)                                                (9, 10)
    L = L_c + lambda L_s                                                                   (11)
    L_c = |f(g(t)) - t|                                                                    (12)
    L_s = sum_l |mu(phi_l(g(t))) - mu(phi_l(s))| + |sigma(phi_l(g(t))) - sigma(phi_l(s))|  (13)
    T(c, s, alpha) = g((1 - alpha) f(c) + alpha AdaIN(f(c), f(s)))                         (14)
    T(c, s_1 ... s_K) = g(sum_k w_k AdaIN(f(c), f(s_k)))                                   (15)

Only the decoder g learns.  With two domains the photos A are the content and the paintings B the styles;
of one folder each image has the style of the one before it in its batch.  phi_l are relu1_1 to that of f.
The weights of f are kept with those of g, so a run asks for no other file to answer or to go on.

--network random has random convolutions for f, and needs no file at all: statistics of random features carry
colours and fine strokes, and no more.

Departures: images of 128 pixels and some thousand of them for 160,000 photos and paintings; relu3_1 unless
--layer says relu4_1, for it fits into a small file; errors are squared and divided by |t|^2 and by
|mu(s)|^2 + |sigma(s)|^2, and averaged over layers, so that lambda means the same for every network, layer and
size; the outputs of each layer of f are scaled to a mean of 1, which moves no zero of a ReLU; g has half of
the mirrored channels.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.layers import CAFFE
from ..backbones.vgg import WIDTHS
from ..core import Batch, Loss, Model, Player, Refusal, Training, option
from ..parts.perceptual import NETWORKS, Perceptual
from ..parts.translators import Bend, Reflected

RANDOM_WIDTHS = (16, 32, 64, 128)
"""channels of the blocks of --network random"""
DEPTHS = {"vgg16": (2, 2, 3), "vgg19": (2, 2, 4), "random": (2, 2, 3)}
"""convolutions of the blocks before the last"""
LAYERS = ("block3_conv1", "block4_conv1")
SEED = 0
BIAS = 0.3
"""deviation of random ones: without them features of middle grey would be nothing, and no style"""
EPS = 1e-5
"""of a variance, where channels have a mean of about 1"""
GREY = 3 / 127.5
"""by which channels differ that are one, at most: JPEG rounds them"""
PIXELS = 1 << 19
"""of a strip of a large image: some 0.5 GB"""


class Statistics(NamedTuple):
    """Of each channel, (B, C, 1, 1) both."""

    mean: Tensor
    deviation: Tensor


def statistics(h: Tensor) -> Statistics:
    """Of features (B, C, H, W), over the whole image; in fp32 at least."""
    h = h if h.dtype == torch.float64 else h.float()
    variance, mean = torch.var_mean(h, (2, 3), correction=0, keepdim=True)
    return Statistics(mean, (variance + EPS).sqrt())


def adain(h: Tensor, style: Statistics) -> Tensor:
    """(8): features (B, C, H, W) with these statistics."""
    own = statistics(h)
    return (h - own.mean) * (style.deviation / own.deviation) + style.mean


class Encoder(nn.Module):
    """VGG to relu<last>_1, with reflections for padding.  Its weights are buffers: nothing learns them."""

    def __init__(self, network: str, last: int):
        super().__init__()
        self.network, self.last = network, last
        widths = RANDOM_WIDTHS if network == "random" else WIDTHS
        depths = (*DEPTHS[network][: last - 1], 1)
        self.blocks = [[f"block{b}_conv{i}" for i in range(1, n + 1)] for b, n in enumerate(depths, 1)]
        self.width = widths[last - 1]
        inside = 3
        for names, width in zip(self.blocks, widths):
            for name in names:
                self.register_buffer(f"{name}_weight", torch.zeros(width, inside, 3, 3))
                self.register_buffer(f"{name}_bias", torch.zeros(width))
                inside = width

    @property
    def empty(self) -> bool:
        return not bool(self.get_buffer("block1_conv1_weight").any())

    def fill(self, weights: str) -> None:
        """The network's weights, from a file as Perceptual has it, or random ones (He et al. 2015, eq. 10).
        Raises what Perceptual raises."""
        chance = torch.Generator().manual_seed(SEED)
        net = None
        if self.network != "random":
            net = Perceptual(self.network, (self.blocks[-1][0],), weights=weights).net
        for name in (name for names in self.blocks for name in names):
            weight, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
            if net is None:
                scale = math.sqrt(2 / (9 * weight.shape[1]))
                weight.copy_(scale * torch.randn(weight.shape, generator=chance))
                bias.copy_(BIAS * torch.randn(bias.shape, generator=chance))
            else:
                weight.copy_(net.nodes[name].get_parameter("weight"))
                bias.copy_(net.nodes[name].get_parameter("bias"))
        self.level_out()

    @torch.no_grad()
    def level_out(self) -> None:
        """Scale each layer so that its outputs are 1 in the mean, of an image drawn by chance; the next one
        takes that back, so that every output is what it was, times a number."""
        noise = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(SEED))
        x = sum(F.interpolate(noise[..., :k, :k], (128, 128), mode="bilinear") for k in (4, 16, 64))
        h, before = self.prepared((0.35 * torch.as_tensor(x)).clamp(-1, 1).to(self.device)), 1.0
        for names in self.blocks:
            h = self.pooled(h) if names is not self.blocks[0] else h
            for name in names:
                weight, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
                weight.mul_(before)
                h = self.through(h, name)
                size = float(h.mean())
                weight.div_(size)
                bias.div_(size)
                h, before = h / size, size

    @property
    def device(self) -> torch.device:
        return self.get_buffer("block1_conv1_weight").device

    def prepared(self, x: Tensor) -> Tensor:
        return CAFFE.of(x) if self.network != "random" else x.expand(-1, 3, -1, -1)

    def pooled(self, h: Tensor) -> Tensor:
        return F.max_pool2d(h, 2) if self.network != "random" else F.avg_pool2d(h, 2)

    def through(self, h: Tensor, name: str) -> Tensor:
        weight, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
        return F.relu(F.conv2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), weight, bias))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Of images (B, 1 or 3, H, W) in [-1, 1], relu1_1, relu2_1 ... to the last, (B, C, H / 2^l, W /
        2^l)."""
        out, h = list[Tensor](), self.prepared(x)
        for names in self.blocks:
            h = self.pooled(h) if out else h
            for i, name in enumerate(names):
                h = self.through(h, name)
                if i == 0:
                    out.append(h)
        return out


class Decoder(nn.Sequential):
    """The encoder in a mirror, (B, C, h, w) to (B, channels, 2^l h, 2^l w): no normalisation, which would
    make all styles one (section 5.2)."""

    def __init__(self, encoder: Encoder, width: int, channels: int):
        layers: list[nn.Module] = []
        inside = encoder.width
        for block in range(len(encoder.blocks), 0, -1):
            for i in range(len(encoder.blocks[block - 1]), 0, -1):
                first = i == 1
                outside = channels if first and block == 1 else width << max(0, block - 1 - first)
                layers += [Reflected(inside, outside, 3, bias=True), Bend()]
                inside = outside
            if block > 1:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        super().__init__(*layers[:-1])
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(torch.as_tensor(layer.bias))
        last = layers[-2]
        assert isinstance(last, nn.Conv2d)
        last.weight.data.mul_(0.1)


class AdaIN(Model):
    style_weight: float = option(1.0, "lambda, weight of the painting's statistics", 0.0, 1e6)
    width: int = option(32, "channels of the decoder at full size", 4, 256)
    network: str = option("vgg16", "the encoder", choices=(*NETWORKS, "random"))
    layer: str = option(LAYERS[0], "of the encoder, that is decoded: relu3_1 or relu4_1", choices=LAYERS)
    weights: str = option(
        "",
        "a file of the encoder's weights, or none for random ones; left out, the published ones",
        file=True,
    )

    defaults = Training(batch=8, rate=1e-3, images=16_000, warmup=400, schedule="cosine", ema=500)
    takes = ("image",)

    def build(self) -> None:
        self.check()
        self.encoder = Encoder(self.network, LAYERS.index(self.layer) + 3)
        self.decoder = Decoder(self.encoder, self.width, max(self.spec.channels, self.spec.source[0]))
        blocks = self.encoder.blocks
        self.stride = 1 << (len(blocks) - 1)
        self.halo = 2 * self.up(sum(len(names) << k for k, names in enumerate(blocks)))
        """pixels to each side on which one depends beside the statistics; half of them by the encoder"""
        self.whole_batch = not self.spec.source[0]

    def check(self) -> None:
        """Refuse what is no picture, and sizes that cannot be halved as often."""
        least = 2 << (LAYERS.index(self.layer) + 2)
        for wrong, why in (
            (
                not self.spec.levels
                or self.spec.symbols
                or self.spec.channels not in (1, 3)
                or self.spec.source[0] not in (0, 1, 3),
                "it paints grey or RGB pictures, and these are none.",
            ),
            (
                any(
                    size % (least // 2) or size < least
                    for size in (self.spec.size, self.spec.source[1])
                    if size
                ),
                f"its encoder halves images {int(math.log2(least)) - 1} times, and {self.spec.size} pixels "
                f"are not a multiple of {least // 2} from {least} on; type --size "
                f"{max(least, self.spec.size // (least // 2) * (least // 2))}.",
            ),
        ):
            if wrong:
                raise Refusal(f"adain: {why}")

    def prepare(self) -> None:
        """Have the encoder's weights, unless the run has kept them.  Raises Offline where there are none."""
        if self.encoder.empty:
            self.encoder.fill(self.weights)

    def players(self) -> tuple[Player, ...]:
        return (Player("decoder", self.decoder, self.loss),)

    def loss(self, batch: Batch) -> Loss:
        terms = self.terms(*sides(batch))
        return Loss(terms["content"] + self.style_weight * terms["style"], terms)  # (11)

    def terms(self, c: Tensor, s: Tensor) -> dict[str, Tensor]:
        """Content and style error of photos c (B, C, H, W) in the styles of s (B, C', H', W')."""
        self.prepare()
        with torch.no_grad():
            wanted = [statistics(h) for h in self.encoder(s)]
            t = adain(self.encoder(c)[-1], wanted[-1])  # (9)
        seen = self.encoder(self.decoder(t).float())
        content = squares(seen[-1].float() - t) / squares(t)  # (12)
        return dict(content=content.mean(), style=apart([statistics(h) for h in seen], wanted).mean())

    @torch.no_grad()
    def chance(self, batch: Batch) -> dict[str, float]:
        """How far the photos themselves are from the styles."""
        self.prepare()
        own, wanted = ([statistics(h) for h in self.encoder(x)] for x in sides(batch))
        return {"style": float(apart(own, wanted).mean())}

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """Styles without colours."""
        c, s = sides(batch)
        (a, b) = (colourful(x) for x in (c, s))
        yield (
            "colours of the styles",
            b,
            "the styles are grey and the photos are not, so what is painted will be grey; name paintings "
            "with colours, or keep the photo's by `likeness style --arbitrary RUN --colour luminance`"
            if b < GREY < a
            else "",
        )

    # Answers

    @torch.no_grad()
    def stylise(
        self, x: Tensor, styles: Sequence[Tensor], shares: Sequence[float] = (), strength: float = 1.0
    ) -> Tensor:
        """Photos (B, 1 or 3, H, W) in the styles (1 or B, 1 or 3, h, w), all in [-1, 1] and of any size:
        (B, C, H, W).

        shares: of the styles, equal where there are none (15).  strength: alpha of (14), 0 to 1.  Large
        photos go in strips, with the statistics of the whole.  Raises Refusal for shares or a strength that
        do not fit, and for images that are too small.
        """
        given = list(shares) or [1.0] * len(styles)
        if not styles or len(given) != len(styles) or min(given) < 0 or not sum(given):
            raise Refusal(f"adain: {len(styles)} styles have shares {given}; one for each, 0 or more.")
        if not 0 <= strength <= 1:
            raise Refusal(f"adain: a strength of {strength:g} is not between 0 and 1.")
        self.prepare()
        mean, deviation = (
            sum(share / sum(given) * part for share, part in zip(given, parts))
            for parts in zip(*(self.measured(s) for s in styles))
        )
        own = self.measured(x)
        gain = 1 - strength + strength * torch.as_tensor(deviation) / own.deviation
        shift = strength * mean - own.mean * (gain - 1 + strength)
        padded, out = self.fitting(x), list[Tensor]()
        for begin, end in self.strips(padded, self.halo):
            h = self.features(padded, begin, end, self.halo)
            rows = self.decoder(h * gain + shift).float()
            before = min(begin, self.halo)
            out.append(rows[:, :, before : before + end - begin].clamp(-1, 1))
        return torch.cat(out, 2)[:, :, : x.shape[2], : x.shape[3]]

    def measured(self, x: Tensor) -> Statistics:
        """Statistics of f(x), strip by strip; in double precision where there is more than one."""
        x = self.fitting(x)
        parts = list(self.strips(x, self.halo // 2))
        if len(parts) == 1:
            return statistics(self.encoder(x)[-1])
        many, mean, square = 0, torch.zeros((), device=x.device), torch.zeros((), device=x.device)
        for begin, end in parts:
            h = self.features(x, begin, end, self.halo // 2)
            before = min(begin, self.halo // 2) // self.stride
            h = h[:, :, before : before + (end - begin) // self.stride].double()
            n = h.shape[2] * h.shape[3]
            variance, here = torch.var_mean(h, (2, 3), correction=0, keepdim=True)
            off = here - mean
            square = square + n * variance + off.square() * (many * n / (many + n))
            mean, many = mean + off * (n / (many + n)), many + n
        return Statistics(mean.float(), (square / many + EPS).sqrt().float())

    def features(self, x: Tensor, begin: int, end: int, halo: int) -> Tensor:
        """f of rows begin to end of x, and of so many to both sides as there are."""
        h: Tensor = self.encoder(x[:, :, max(0, begin - halo) : end + halo])[-1]
        return h.float()

    def up(self, pixels: int) -> int:
        """A multiple of the stride."""
        return -(-pixels // self.stride) * self.stride

    def strips(self, x: Tensor, halo: int) -> Iterator[tuple[int, int]]:
        """Rows that may be looked at together."""
        high, rows = x.shape[2], max(self.stride, 2 * halo, PIXELS // (len(x) * x.shape[3]))
        rows = self.up(rows)
        yield from ((begin, min(high, begin + rows)) for begin in range(0, high, rows))

    def fitting(self, x: Tensor) -> Tensor:
        """Its last row and column repeated to multiples of the stride."""
        high, wide = x.shape[2:]
        if min(high, wide) < 2 * self.stride:
            raise Refusal(
                f"adain looks at images of {2 * self.stride} pixels a side or more, and this has "
                f"{wide}x{high}; enlarge it."
            )
        return F.pad(x, (0, -wide % self.stride, 0, -high % self.stride), mode="replicate")


def sides(batch: Batch) -> tuple[Tensor, Tensor]:
    """Content and styles: A and B, or each image and the one before it."""
    if batch.y is not None and batch.y.image is not None:
        return batch.y.image, batch.x
    return batch.x, batch.x.roll(1, 0)


def squares(h: Tensor) -> Tensor:
    """The sum of squares of each, (B, ...) to (B,)."""
    return h.square().flatten(1).sum(1)


def apart(seen: Sequence[Statistics], wanted: Sequence[Statistics]) -> Tensor:
    """(13), relative and squared: the mean over layers, (B,)."""
    each = [
        (squares(a.mean - b.mean) + squares(a.deviation - b.deviation))
        / (squares(b.mean) + squares(b.deviation))
        for a, b in zip(seen, wanted)
    ]
    return torch.stack(each).mean(0)


def colourful(x: Tensor) -> float:
    """The largest difference of two channels anywhere."""
    return float((x.amax(1) - x.amin(1)).max())
