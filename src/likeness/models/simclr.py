"""SimCLR: of all images in a batch, the other view of this one is to be found.

Chen, Kornblith, Norouzi & Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020. Two views are taken of each of N images; h = f(x) are features, z = g(h) their projections, and for
the pair (i, j) of one image

    sim(u, v) = u^T v / (||u|| ||v||)
    l_ij = -log  exp(sim(z_i, z_j) / tau) / sum_{k != i} exp(sim(z_i, z_k) / tau)         (1)

the loss is the mean of l_ij over both views of all images (NT-Xent).  g is thrown away: features before it
keep what the views differ in and the loss wants gone (section 4.2).

The value proves little: projections that are all the same have exactly log(2N - 1), and random ones have it
too, up to 1/d.  So beside it in the log stand that chance level and whether projections have collapsed
(collapse.py).

Departures: Adam in place of LARS, no weight decay (1e-6 there), small batches and networks. Views: at least
0.4 of the area for 0.08; colours at half strength (--jitter 0.5) and no blur, as in the paper's appendix on
CIFAR-10 (B.9); hue, saturation, brightness and contrast in one fixed order, random there; mirrored only with
--flip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Loss, Training, option
from ..parts import collapse, resnet, views


class SimCLR(views.Views):
    features: int = option(128, "numbers of h, which encode() answers", 2, 4096)
    hidden: int = option(256, "units of the hidden layer of g", 2, 8192)
    projection: int = option(64, "numbers of z", 2, 4096)
    width: int = option(16, "channels at 14 pixels", 4, 512)
    depth: int = option(1, "residual blocks a level", 0, 16)
    temperature: float = option(
        0.5, "tau of (1): the lower, the more the likest wrong images count", 0.01, 10.0
    )

    defaults = Training(batch=128, rate=2e-3, images=200_000, warmup=5_000, schedule="cosine", ema=20_000)
    whole_batch = True

    def build(self) -> None:
        self.f = resnet.rectified(self.spec.channels, self.spec.size, self.features, self.width, self.depth)
        self.g = projector(self.features, self.hidden, self.projection)
        self.health = collapse.Health()

    def loss(self, batch: Batch) -> Loss:
        z = self.g(self.f(torch.cat([self.view(batch), self.view(batch)]))).float()
        total, result = nt_xent(z, self.temperature)
        chance = total.new_full((), math.log(len(z) - 1))
        return Loss(total, {"found": result, "chance": chance, **self.health(z[: len(batch)], batch.step)})

    def encode(self, x: Tensor) -> Tensor:
        """h, (B, features), none below zero, of (B, C, H, W)."""
        h: Tensor = self.f(x)
        return h.float()

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards: whether the features have collapsed, to a point or to few dimensions."""
        h = collapse.encoded(self, batch)
        yield from collapse.verdicts(
            h,
            "lower --rate, or use a larger --batch",
            "use a larger --batch, stronger --jitter, or train longer",
        )


def projector(features: int, hidden: int, out: int) -> nn.Sequential:
    """g, of one hidden layer.  No layer has a bias that would be subtracted at once."""
    return nn.Sequential(
        nn.Linear(features, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out)
    )


def nt_xent(z: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """The mean of (1) over projections (2N, d), row i and row N + i of one image; and how often the other
    view is the likest of all."""
    with torch.autocast(z.device.type, enabled=False):  # which would round what tau then magnifies
        unit = F.normalize(z, dim=1)
        logits = (unit @ unit.T / tau).masked_fill(
            torch.eye(len(z), dtype=torch.bool, device=z.device), -math.inf
        )
    j = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(logits, j), (logits.argmax(1) == j).float().mean()
