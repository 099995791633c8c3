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

import hashlib
import math
import os
import re
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.vgg import WIDTHS
from ..core import Batch, Loss, Model, Player, Refusal, Training, option
from ..parts import painting, quick_residual
from ..parts.perceptual import NETWORKS, Perceptual, gram, recognised, rgb, style, total_variation
from ..parts.translators import Residual

RANDOM_WIDTHS = (16, 32, 64)
"""channels of the blocks of --network random"""
NAME = re.compile(r"block([1-5])_conv([1-4])")
SEED = 0
EPS = 1e-12
GREY = 3 / 127.5
"""by which channels differ that are one, at most: JPEG rounds them"""


class RandomBlocks:
    """The first three blocks of VGG-16, with fewer channels, random weights and average pooling; asked as
    Perceptual is."""

    source = f"random weights, seed {SEED}"
    sha256 = hashlib.sha256(source.encode()).hexdigest()

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
        self.painted, self.known = (nn.Buffer(torch.zeros(32, dtype=torch.uint8)) for _ in range(2))
        """what remembers the painting's file, and the weights of the network of features"""
        self.register_load_state_dict_pre_hook(_older)

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
        """Have the network of features at hand, the same as ever, and the painting's Gram matrices.  Raises
        Offline where there are no weights, BadData where the painting cannot be read, Refusal where either is
        another than when training began; a painting whose file is gone is the one that it was."""
        asked = tuple(dict.fromkeys((*self.layers, self.content_layer)))
        eye = (
            RandomBlocks()
            if self.network == "random"
            else Perceptual(self.network, asked, weights=self.weights)
        )
        if not recognised(self.known, eye.sha256):
            raise Refusal(
                f"the weights of {self.network} in {eye.source} are not those that this run has been trained "
                "with; name the file that it began with: --weights FILE"
            )
        if not any(bool(g.any()) for g in self.painting().values()):
            self.look_at(eye)
        digest = painting.digest(self.style)
        if digest and not recognised(self.painted, digest):
            raise Refusal(
                f"{self.style or 'the mosaic'} is not the painting that this run has been trained with; name "
                "another folder for a run of its own, or leave --style out to go on with this one."
            )
        self.eye = eye

    def look_at(self, eye: Perceptual | RandomBlocks) -> None:
        """Learn the Gram matrices of the painting by heart."""
        like = next(self.net.parameters())
        with torch.no_grad():
            features = eye.features(painting.painting(self.style, self.style_size).to(like.device))
            grams = {name: gram(features[name])[0] for name in self.layers}
        for name, g in grams.items():
            if not float(g.square().sum()) > 0:
                raise Refusal(f"faststyle: {self.style} has nothing that {name} sees; name another picture.")
        for name, known in self.painting().items():
            known.copy_(grams[name])

    def crop(self, size: int) -> Tensor:
        """The middle of the painting, a square of at most so many pixels, (1, C, size, size) in [-1, 1].
        Raises BadData where it cannot be read any more."""
        x = painting.painting(self.style, self.style_size)
        size = min(size, *x.shape[2:])
        top, left = ((side - size) // 2 for side in x.shape[2:])
        x = x[..., top : top + size, left : left + size]
        return x if self.spec.channels == 3 else x.mean(1, keepdim=True)

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
        means = {name: error.mean() for name, error in self.errors(made, x).items()}
        return means | dict(variation=total_variation(made).mean())

    def errors(self, made: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Squared relative error of each, (B,): of the content of the photo, and of the painting's style."""
        if self.eye is None:
            self.prepare()
        assert self.eye is not None
        with torch.no_grad():
            wanted = self.eye.features(rgb(x))[self.content_layer].float()
        seen = self.eye.features(rgb(made))
        error = (seen[self.content_layer].float() - wanted).square().flatten(1).sum(1)
        content = error / wanted.square().flatten(1).sum(1).clamp(min=EPS)
        strokes = style({name: gram(seen[name]) for name in self.layers}, self.painting())
        return dict(content=content, style=strokes)

    @torch.no_grad()
    def chance(self, batch: Batch) -> dict[str, float]:
        """How far the photos themselves are from the painting's style."""
        return {"style": float(self.terms(batch.x, batch.x)["style"])}

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """A painting without colours, while its file is there."""
        if not self.style or not os.path.exists(self.style):
            return
        photo, own = (
            float((x.amax(1) - x.amin(1)).max()) for x in (batch.x, painting.painting(self.style, 256))
        )
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


def _older(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """A run from when nothing was remembered of files trusts those that it finds."""
    for name in ("painted", "known"):
        state.setdefault(prefix + name, torch.zeros(32, dtype=torch.uint8))
