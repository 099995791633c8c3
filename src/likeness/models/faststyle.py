"""Fast style transfer: a network that makes of a photo, in one pass, what Gatys' optimisation takes minutes for.

Johnson, Alahi & Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016.  One
network f for one painting s, trained on photos x alone:

    f = argmin E_x [ content |phi_j(f(x)) - phi_j(x)|^2  +  style mean_l |G_l(f(x)) - G_l(s)|^2  +  tv TV(f(x)) ]   (5)

phi_l are the features of VGG-16, G_l their Gram matrices (eq. 3), each squared difference is divided by
|phi_j(x)|^2 or |G_l(s)|^2, so that the weights mean the same for every painting, layer and size, and the
same as in `likeness style`.  f has the paper's layers (its supplement, table 1): a 7x7 convolution, two of
stride 2, residual blocks, two that enlarge, a 7x7 one and tanh; with reflections as padding, and instance
normalisation (Ulyanov, Vedaldi & Lempitsky 2016), which takes the photo's contrast away.

The Gram matrices of the painting are kept with the weights: a run needs neither its file nor VGG to answer,
and the file no more to go on.  --network random compares features of three blocks of random convolutions,
which carry textures as well (Ustyuzhaninov et al., "What does it take to generate natural textures?", 2017):
rougher, and without any file of weights.

Departures: images of 128 or 256 pixels and some thousand of them for 160,000; style layers end with relu3_3
unless --style-layers has more, since these fit into a small file; content is compared at relu2_2; 7x7 for 9x9
at both ends; each pixel is repeated before a convolution that enlarges (Odena, Dumoulin & Olah 2016), where a
transposed one leaves a checkerboard; relative errors as above.
"""  # noqa: E501

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from ..backbones.vgg import WIDTHS
from ..core import BadData, Batch, Loss, Model, Player, Refusal, Training, option
from ..parts import quick_residual
from ..parts.perceptual import NETWORKS, Perceptual, gram, total_variation
from ..parts.translators import Residual

RANDOM_WIDTHS = (16, 32, 64)
"""channels of the blocks of --network random"""
NAME = re.compile(r"block([1-5])_conv([1-4])")
SEED = 0
EPS = 1e-12
GREY = 3 / 127.5
"""by which channels differ that are one, at most: JPEG rounds them"""
COLOURS = ((214, 72, 48), (240, 176, 40), (38, 92, 152), (24, 44, 92), (236, 226, 196), (70, 140, 110))
"""of the mosaic"""


class RandomBlocks:
    """The first three blocks of VGG-16, with fewer channels, random weights and average pooling; asked as
    Perceptual is."""

    source, sha256 = f"random weights, seed {SEED}", ""

    def __init__(self) -> None:
        chance, inside = torch.Generator().manual_seed(SEED), 3
        self.kernels = dict[str, Tensor]()
        for block, (many, width) in enumerate(zip((2, 2, 3), RANDOM_WIDTHS), 1):
            for i in range(1, many + 1):
                scale = math.sqrt(2 / (9 * inside))  # He et al. 2015, eq. 10
                self.kernels[f"block{block}_conv{i}"] = scale * torch.randn(
                    width, inside, 3, 3, generator=chance
                )
                inside = width

    def features(self, x: Tensor) -> dict[str, Tensor]:
        out = dict[str, Tensor]()
        for name, kernel in self.kernels.items():
            if name.endswith("conv1") and out:
                x = F.avg_pool2d(x, 2)
            x = out[name] = F.relu(F.conv2d(x, kernel.to(x.device), padding=1))
        return out


class FastStyle(Model):
    style: str = option("", "image file of the painting; left out, a mosaic drawn by code", file=True)
    style_size: int = option(
        256, "pixels of the painting's shorter side: fewer make smaller strokes and shapes", 16, 4096
    )
    content_weight: float = option(1.0, "weight of what the photo shows", 0.0, 1e6)
    style_weight: float = option(5.0, "weight of how the painting is painted", 0.0, 1e6)
    tv_weight: float = option(0.1, "weight of smoothness: the squared difference of neighbours", 0.0, 1e6)
    width: int = option(32, "channels of f at full size", 4, 256)
    blocks: int = option(5, "residual blocks of f", 0, 64)
    network: str = option("vgg16", "that features are of", choices=(*NETWORKS, "random"))
    content_layer: str = option("block2_conv2", "of that network, where the photo is compared")
    style_layers: str = option(
        "block1_conv2,block2_conv2,block3_conv3", "of that network, where the painting is compared"
    )
    weights: str = option(
        "", "a file of its weights, or none for random ones; left out, the published ones", file=True
    )

    defaults = Training(batch=4, rate=2e-3, images=8_000, warmup=200, schedule="cosine", ema=500)

    def build(self) -> None:
        self.layers = tuple(name.strip() for name in self.style_layers.split(",") if name.strip())
        self.check()
        self.eye: Perceptual | RandomBlocks | None = None
        """the network of features, once it is at hand; a run does not keep its weights"""
        self.net = Residual(self.spec.channels, self.spec.channels, self.width, self.blocks, resize=True)
        self.scale, self.stride, self.halo = 1, self.net.stride, self.net.halo
        for name in self.layers:
            width = self.widths()[int(name[5]) - 1]
            self.register_buffer(f"gram_{name}", torch.zeros(width, width))

    def widths(self) -> tuple[int, ...]:
        """Channels of the network's blocks."""
        return RANDOM_WIDTHS if self.network == "random" else WIDTHS

    def check(self) -> None:
        """Refuse layers that the network has not, and what is no picture."""
        deepest = len(self.widths())
        for name in (*self.layers, self.content_layer):
            known = NAME.fullmatch(name)
            if not known or int(known[1]) > deepest:
                raise Refusal(
                    f"faststyle: {self.network} has no layer {name!r}; they are called block1_conv1 to "
                    f"block{deepest}_conv2 and so on."
                )
        for wrong, why in (
            (not self.layers, "--style-layers names no layer; leave it out for the usual ones."),
            (
                not self.spec.levels or self.spec.symbols or self.spec.channels not in (1, 3),
                "it paints grey or RGB pictures, and these are none.",
            ),
            (
                self.spec.size % 4 or self.spec.size < 8,
                f"it halves images twice, and {self.spec.size} pixels are not a multiple of 4 from 8 on; "
                f"type --size {max(8, self.spec.size // 4 * 4)}.",
            ),
            (self.style and self.style_weight == 0, "a painting of weight 0 is not seen; leave --style out."),
        ):
            if wrong:
                raise Refusal(f"faststyle: {why}")

    def prepare(self) -> None:
        """Have the network of features at hand, and the painting's Gram matrices.  Raises Offline where there
        are no weights, BadData where the painting cannot be read."""
        asked = tuple(dict.fromkeys((*self.layers, self.content_layer)))
        eye = (
            RandomBlocks()
            if self.network == "random"
            else Perceptual(self.network, asked, weights=self.weights)
        )
        self.eye = eye
        if not any(bool(g.any()) for g in self.painting().values()):
            like = next(self.net.parameters())
            with torch.no_grad():
                features = eye.features(painting(self.style, self.style_size).to(like.device))
                for name, known in self.painting().items():
                    known.copy_(gram(features[name])[0])
        for name, g in self.painting().items():
            if not float(g.square().sum()) > 0:
                raise Refusal(f"faststyle: {self.style} has nothing that {name} sees; name another picture.")

    def painting(self) -> dict[str, Tensor]:
        """Gram matrices (C, C) of the style by layer; zeros before prepare()."""
        return {name: self.get_buffer(f"gram_{name}") for name in self.layers}

    def players(self) -> tuple[Player, ...]:
        return (Player("painter", self.net, self.loss),)

    def loss(self, batch: Batch) -> Loss:
        made = self.net(batch.x).tanh()
        terms = self.terms(made.float(), batch.x)
        weights = (self.content_weight, self.style_weight, self.tv_weight)
        return Loss(torch.stack([w * t for w, t in zip(weights, terms.values())]).sum(), terms)

    def terms(self, made: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Content, style and variation of pictures (B, C, H, W) in [-1, 1] made of photos x."""
        if self.eye is None:
            self.prepare()
        assert self.eye is not None
        with torch.no_grad():
            wanted = self.eye.features(rgb(x))[self.content_layer].float()
        seen = self.eye.features(rgb(made))
        error = (seen[self.content_layer].float() - wanted).square().flatten(1).sum(1)
        content = error / wanted.square().flatten(1).sum(1).clamp(min=EPS)
        style = torch.stack([relative(gram(seen[n]), g) for n, g in self.painting().items()]).mean(0)
        return dict(content=content.mean(), style=style.mean(), variation=total_variation(made).mean())

    @torch.no_grad()
    def chance(self, batch: Batch) -> dict[str, float]:
        """How far the photos themselves are from the painting's style."""
        return {"style": float(self.terms(batch.x, batch.x)["style"])}

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """A painting without colours, while its file is there."""
        if not self.style or not os.path.exists(self.style):
            return
        photo, own = (float((x.amax(1) - x.amin(1)).max()) for x in (batch.x, painting(self.style, 256)))
        yield (
            "colours of the painting",
            own,
            f"{self.style} is grey and the photos are not, so what is painted will be grey; name a painting "
            "with colours, or type likeness style with --colour luminance, which keeps the photo's"
            if own < GREY < photo
            else "",
        )

    @torch.no_grad()
    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        """Photos (B, C, H, W) in [-1, 1], whose sides are multiples of 4 and at least 8, painted: of the
        same shape."""
        if back:
            raise Refusal("faststyle paints photos, and does not know how to take the paint off again.")
        if x.shape[2] % self.stride or x.shape[3] % self.stride or min(x.shape[2:]) < 2 * self.stride:
            raise Refusal(
                f"faststyle paints images whose sides are multiples of {self.stride} from {2 * self.stride} "
                f"on, and this has {x.shape[3]}x{x.shape[2]}; crop or enlarge it."
            )
        if not quick_residual.suits(self.net, x):
            made: Tensor = self.net(x)
            return made.float().tanh()
        return quick_residual.answer(self.net, x).tanh()


def relative(g: Tensor, wanted: Tensor) -> Tensor:
    """|g - wanted|^2 / |wanted|^2 of matrices (B, C, C) and (C, C): (B,)."""
    return (g - wanted).square().sum((1, 2)) / wanted.square().sum()


def rgb(x: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) to (B, 3, H, W)."""
    return x.expand(-1, 3, -1, -1)


def painting(file: str, size: int) -> Tensor:
    """The picture in `file` as (1, 3, H, W) in [-1, 1], its shorter side `size` pixels unless it has fewer; a
    drawn one where no file is named.  Transparent parts are white.  Raises BadData."""
    if not file:
        return torch.from_numpy(mosaic(size))[None]
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as why:
        raise BadData(
            f"--style {file} cannot be read as an image ({why}); name a PNG or JPEG file."
        ) from None
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture).convert("RGB")
    share = size / min(picture.size)
    if share < 1:
        wide, high = (max(8, round(side * share)) for side in picture.size)
        picture = picture.resize((wide, high), Image.Resampling.LANCZOS)
    if min(picture.size) < 8:
        raise BadData(f"--style {file} has {picture.width}x{picture.height} pixels; 8 a side are needed.")
    return torch.from_numpy(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def mosaic(size: int) -> np.ndarray:
    """Bent bands of six colours with dark seams, float32 (3, size, size) in [-1, 1]."""
    y, x = np.mgrid[:size, :size] / 32
    height = x + 0.8 * np.sin(1.9 * y) + 0.5 * np.sin(2.3 * x + 1.1 * y)
    band, within = np.floor(height).astype(int) % len(COLOURS), height % 1
    shade = np.where((within < 0.12) | (within > 0.88), -0.9, 0.25 * np.sin(9 * y + 3 * within))
    light = np.asarray(COLOURS, np.float32)[band].transpose(2, 0, 1) / 127.5 - 1
    return np.clip(np.where(shade < -0.5, shade, light + shade), -1, 1).astype(np.float32)
