"""Judging images by what a network knows that has seen a million others, which a few hundred cannot teach.

Sauer, Chitta, Müller & Geiger, "Projected GANs Converge Faster", NeurIPS 2021, section 3.

    D_l minimises  E[relu(1 - D_l(P_l(x)))] + E[relu(1 + D_l(P_l(G(z))))]        for each l, the mean over places
    G minimises    - sum_l E[D_l(P_l(G(z)))]

P_l are the features of a fixed network at four of its resolutions, mixed by random weights that nobody
trains: across channels by a 1x1 convolution, then across scales by 3x3 ones, from the coarsest to the finest.
Unmixed, a discriminator looks at a few features that tell drawn images apart and at no others.  D_l are
small, and their weights are divided by their largest singular value.

What is not the paper's: D_l normalise within an image, so that drawn images are not told apart by their
company; features are brought to the same size before they are mixed, because networks differ in that; and the
network sees images of 96 pixels if they have no more, since a processor is to do it.

A network that knows ImageNet's classes is also what such images are scored with (Kynkäänniemi et al., "The
Role of ImageNet Classes in FID", 2023): part of a better score may be nothing else.  So look at the samples,
and score them in the features of another network.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones import catalogue
from ..core import Condition, Refusal
from .adversarial import GAMES, pair_accuracy, spectral
from .conditioning import Labels

SEEN: dict[str, dict[str, tuple[int, int]]] = {
    "squeezenet": {
        "relu_conv1": (64, 2),
        "fire3/concat": (128, 4),
        "fire5/concat": (256, 8),
        "fire9/concat": (512, 16),
    },
    "mobilenet": {
        "conv_pw_3_relu": (128, 4),
        "conv_pw_5_relu": (256, 8),
        "conv_pw_11_relu": (512, 16),
        "conv_pw_13_relu": (1024, 32),
    },
    "mobilenet_v2": {
        "block_2_add": (24, 4),
        "block_5_add": (32, 8),
        "block_12_add": (96, 16),
        "out_relu": (1280, 32),
    },
    "vgg16": {
        "block2_conv2": (128, 2),
        "block3_conv3": (256, 4),
        "block4_conv3": (512, 8),
        "block5_conv3": (512, 16),
    },
    "resnet50": {
        "conv2_block3_out": (256, 4),
        "conv3_block4_out": (512, 8),
        "conv4_block6_out": (1024, 16),
        "conv5_block3_out": (2048, 32),
    },
}
"""layers, finest first: channels of each, and pixels from one place to the next"""
SIDE = 96
"""pixels to which smaller images are enlarged"""
WIDTH = 64
"""channels of each P_l, and of each D_l"""
FEWEST = 6
"""places a side at which a D_l halves no more"""
GROUPS = 4
LEAK = 0.2
GAME = GAMES["hinge"]


def even(x: Tensor) -> Tensor:
    """(B, C, H, W), each image's mean square 1."""
    x = x.float()
    return x * (x.square().mean((1, 2, 3), keepdim=True) + 1e-8).rsqrt()


class Head(nn.Module):
    """D_l: features (B, WIDTH, n, n) to logits (B, places).  With classes the projection of Miyato & Koyama
    2018, eq. 3, at each place."""

    def __init__(self, places: float, labels: int):
        super().__init__()
        layers = list[nn.Module]()
        for _ in range(max(1, math.ceil(math.log2(places / FEWEST)))):
            layers += [
                nn.Conv2d(WIDTH, WIDTH, 4, stride=2, padding=1),
                nn.GroupNorm(GROUPS, WIDTH),
                nn.LeakyReLU(LEAK),
            ]
        self.trunk = nn.Sequential(*layers)
        self.last = nn.Conv2d(WIDTH, 1, 3, padding=1)
        self.classes = Labels(labels, WIDTH) if labels else None
        spectral(self)

    def forward(self, x: Tensor, y: Condition | None) -> Tensor:
        h = self.trunk(x)
        logits: Tensor = self.last(h)
        if self.classes is not None:
            logits = logits + (self.classes(y)[:, :, None, None] * h).sum(1, keepdim=True)
        return logits.flatten(1).float()


class Projected(nn.Module):
    """All D_l of images (B, C, H, W) in [-1, 1].  The fixed network is no part of it: a run does not keep its
    weights, and only training needs them."""

    net: Any = None
    """that network, once it is at hand"""

    def __init__(self, network: str, weights: str, size: int, labels: int = 0):
        super().__init__()
        self.network, self.weights, self.side = network, weights, max(SIDE, size)
        layers = SEEN[network].values()
        self.across = nn.ModuleList(_random(channels, 1) for channels, _ in layers)
        self.scales = nn.ModuleList(_random(WIDTH, 3) for _ in layers)
        self.heads = nn.ModuleList(Head(self.side / step, labels) for _, step in layers)
        self.known = nn.Buffer(torch.zeros(32, dtype=torch.uint8))

    def prepare(self) -> None:
        """Have the network at hand, the same as ever.  Raises Offline where its weights are not, Refusal
        where they are others than when training began."""
        net = catalogue.load(self.network, self.weights, list(SEEN[self.network]))
        values = net.used(list(SEEN[self.network]))
        digest = hashlib.sha256(
            b"".join(values[name].cpu().contiguous().numpy().tobytes() for name in sorted(values))
        ).digest()
        now = torch.frombuffer(bytearray(digest), dtype=torch.uint8).to(self.known.device)
        if self.known.any() and not torch.equal(self.known, now):
            others = (
                f"the weights of {self.network} in {net.source} are not those that this run has been "
                "trained with"
            )
            raise Refusal(f"{others}; name the file that it began with: --weights FILE")
        self.known.copy_(now)
        self.__dict__["net"] = net  # as no sub-module: it is neither saved nor averaged

    def project(self, x: Tensor) -> list[Tensor]:
        """P_l(x), finest first."""
        x = F.interpolate(x, size=(self.side, self.side), mode="bilinear") if x.shape[-1] < self.side else x
        assert self.net is not None, "prepare() first"
        known = self.net.outputs(x, list(SEEN[self.network]))
        out, coarser = list[Tensor](), None
        for name, across, scale in reversed(list(zip(SEEN[self.network], self.across, self.scales))):
            mixed = across(even(known[name]))
            if coarser is not None:
                mixed = mixed + F.interpolate(coarser, size=mixed.shape[2:], mode="bilinear")
            coarser = scale(mixed)
            out.insert(0, coarser)
        return out

    def forward(self, x: Tensor, y: Condition | None = None) -> list[Tensor]:
        """Logits (B, places) of each D_l."""
        return [head(p, y) for head, p in zip(self.heads, self.project(x))]

    def discriminator(self, real: Tensor, fake: Tensor, y: Condition | None = None) -> tuple[Tensor, Tensor]:
        """What all D_l minimise, and the share of pairs that they tell apart together."""
        pairs = [
            logits.chunk(2) for logits in self(torch.cat([real, fake]), None if y is None else y.repeat(2))
        ]
        loss = torch.stack([GAME.discriminator(r, f).mean() for r, f in pairs]).sum()
        r, f = (torch.stack([logits.detach().mean(1) for logits in side]).mean(0) for side in zip(*pairs))
        return loss, pair_accuracy(r, f)

    def generator(self, fake: Tensor, y: Condition | None = None) -> Tensor:
        """What G minimises."""
        return torch.stack([-logits.mean() for logits in self(fake, y)]).sum()


def _random(inside: int, kernel: int) -> nn.Conv2d:
    """Weights that stay as they are drawn, of a size that keeps that of what goes through (He et al. 2015):
    buffers, which no optimiser knows."""
    conv = nn.Conv2d(inside, WIDTH, kernel, padding=kernel // 2, bias=False)
    weight = nn.init.kaiming_normal_(conv.weight.detach())
    del conv.weight
    conv.register_buffer("weight", weight)
    return conv
