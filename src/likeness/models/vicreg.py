"""VICReg: features that two distorted views of an image share, learnt without labels.

Bardes, Ponce & LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
ICLR 2022. An encoder makes features of two views of each image, an expander makes embeddings Z and Z' (n, d)
of these, and

    v(Z)     = 1/d sum_j max(0, 1 - sqrt(Var(z_j) + eps))                                 (1), (2)
    C(Z)     = 1/(n - 1) sum_i (z_i - mean z)(z_i - mean z)^T                             (3)
    c(Z)     = 1/d sum_{i != j} C(Z)_ij^2                                                 (4)
    s(Z, Z') = 1/n sum_i || z_i - z'_i ||^2                                               (5)
    loss     = lambda s + mu (v(Z) + v(Z')) + nu (c(Z) + c(Z'))                           (6)

The authors' weights 25, 25 and 1 go with their code, which divides s by d as well and takes the mean of the
two v; so does this.  They train for 1000 epochs; in two, and with lambda 25, the variance never rises to
where (1) wants it: hence 10. Invariance alone would be content with features that are the same for every
image.  The variance term forbids that directly, the covariance term forbids that all dimensions say the same:
the loss compares the images of a batch.

Whether it has worked is not to be read off the loss: signs of collapse are reported of the features that are
used (collapse.py).

Departures: lambda 10 (above); Adam in place of LARS, no weight decay (1e-6 there); an expander of 256 units
for 8192; views are turned, cut and noisy, and milder in colour than those of BYOL that the paper takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Loss, Model, Training, option
from ..parts import collapse, resnet
from ..parts.views import cut, lit, seen_from

EPS = 1e-4


class VICReg(Model):
    features: int = option(128, "numbers that encode() answers", 2, 4096)
    hidden: int = option(256, "units of each layer of the expander; the loss is of the last", 2, 8192)
    width: int = option(16, "channels at 14 pixels", 4, 512)
    depth: int = option(1, "residual blocks a level", 0, 16)
    crop: float = option(0.35, "how much of the side a view may leave out", 0.0, 0.9)
    turn: float = option(15.0, "degrees that a view may be turned by", 0.0, 180.0)
    light: float = option(0.4, "how far contrast and brightness may change, as a share", 0.0, 1.0)
    grain: float = option(0.1, "largest standard deviation of noise on a view", 0.0, 2.0)
    cutout: float = option(
        0.3, "largest side of a square that a view lacks, as a share of the view's", 0.0, 0.9
    )
    flip: bool = option(False, "views may be mirrored: right for photographs, wrong for digits")
    invariance: float = option(10.0, "lambda, weight of (5)", 0.0, 1000.0)
    variance: float = option(25.0, "mu, weight of (1)", 0.0, 1000.0)
    covariance: float = option(1.0, "nu, weight of (4)", 0.0, 1000.0)

    defaults = Training(
        batch=128, rate=3e-3, images=90_000, warmup=3_000, schedule="cosine", ema=20_000, clip=0.0
    )
    whole_batch = True

    def build(self) -> None:
        self.trunk = resnet.rectified(
            self.spec.channels, self.spec.size, self.features, self.width, self.depth
        )
        self.expander = expander(self.features, self.hidden)
        self.health = collapse.Health()

    def loss(self, batch: Batch) -> Loss:
        z, other = (self.expander(self.encode(self.view(batch))).float() for _ in range(2))
        s = invariance(z, other)
        v = (variance(z) + variance(other)) / 2
        c = covariance(z) + covariance(other)
        total = self.invariance * s + self.variance * v + self.covariance * c
        known = {"chance": z.new_tensor(aim)} if (aim := unseen(self.invariance, self.variance)) else {}
        terms = {"invariance": s, "variance": v, "covariance": c}
        return Loss(total, terms | known | self.health(z, batch.step))

    def view(self, batch: Batch) -> Tensor:
        """A distortion of every image of its own, (B, C, H, W), by the batch's noise alone."""
        x, noise = batch.x, batch.noise
        x = seen_from(x, noise, self.crop, self.turn, self.flip)
        x = lit(x, noise, self.light)
        x = x + self.grain * noise.uniform(1, 1, 1) * noise.normal(*self.spec.shape)
        return cut(x, noise, self.cutout)

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, features)."""
        h: Tensor = self.trunk(x)
        return h.float()

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards: whether the features have collapsed, to a point or to few dimensions."""
        h = collapse.encoded(self, batch)
        yield from collapse.verdicts(
            h, "raise --variance, lower --rate, or use a larger --batch", "raise --covariance or train longer"
        )


def expander(features: int, units: int) -> nn.Sequential:
    """Section 4.2: two hidden layers with batch normalisation, and a last one.  No layer has a bias that
    would be subtracted at once."""
    hidden = [
        m
        for inside in (features, units)
        for m in (nn.Linear(inside, units, bias=False), nn.BatchNorm1d(units), nn.ReLU())
    ]
    return nn.Sequential(*hidden, nn.Linear(units, units, bias=False))


def unseen(invariance: float, variance: float) -> float:
    """The least loss of embeddings that know nothing of the image: drawn for each view, of independent
    numbers.  With their standard deviation u >= sqrt(EPS) it is invariance 2 (u^2 - EPS) + variance (1 - u),
    least at u = variance / (4 invariance) or, where that is more than 1, at 1: 21.9 with the paper's weights.
    A constant one has u = sqrt(EPS), 24.75.
    """
    least = EPS**0.5
    u = min(1.0, max(least, variance / (4 * invariance))) if invariance else 1.0
    return 2 * invariance * (u * u - EPS) + variance * (1 - u)


# The three terms, of embeddings (n, d)


def variance(z: Tensor) -> Tensor:
    """(1) and (2)"""
    return F.relu(1 - (z.var(0) + EPS).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """(3) and (4)"""
    z = z - z.mean(0)
    with torch.autocast(z.device.type, enabled=False):
        c = z.T @ z / (len(z) - 1)
    return (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]


def invariance(z: Tensor, other: Tensor) -> Tensor:
    """(5), divided by d"""
    return F.mse_loss(z, other)
