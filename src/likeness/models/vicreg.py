"""VICReg: features that two distorted views of an image share, learnt without labels.

Bardes, Ponce & LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR 2022.
An encoder makes features of two views of each image, an expander makes embeddings Z and Z' (n, d) of these, and

    v(Z)     = 1/d sum_j max(0, 1 - sqrt(Var(z_j) + eps))                                 (1), (2)
    C(Z)     = 1/(n - 1) sum_i (z_i - mean z)(z_i - mean z)^T                             (3)
    c(Z)     = 1/d sum_{i != j} C(Z)_ij^2                                                 (4)
    s(Z, Z') = 1/n sum_i || z_i - z'_i ||^2                                               (5)
    loss     = lambda s + mu (v(Z) + v(Z')) + nu (c(Z) + c(Z'))                           (6)

The authors' weights 25, 25 and 1 go with their code, which divides s by d as well and takes the mean of the two v; so does
this.  They train for 1000 epochs; in two, and with lambda 25, the variance never rises to where (1) wants it: hence 10.
Invariance alone would be content with features that are the same for every image.  The variance term forbids that directly,
the covariance term forbids that all dimensions say the same: the loss compares the images of a batch.

Whether it has worked is not to be read off the loss.  Two signs of collapse are reported of the features that are used:
the standard deviation of features of length one (Chen & He, "Exploring Simple Siamese Representation Learning", 2021:
1/sqrt(d) where they point everywhere, 0 where all are the same), and RankMe, the number of dimensions in use (Garrido et
al. 2023, eq. 1).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Loss, Model, Refusal, Training, option
from ..noise import Noise
from ..parts import resnet

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
    cutout: float = option(0.3, "largest side of a square that a view lacks, as a share of the view's", 0.0, 0.9)
    flip: bool = option(False, "views may be mirrored: right for photographs, wrong for digits")
    invariance: float = option(10.0, "lambda, weight of (5)", 0.0, 1000.0)
    variance: float = option(25.0, "mu, weight of (1)", 0.0, 1000.0)
    covariance: float = option(1.0, "nu, weight of (4)", 0.0, 1000.0)

    defaults = Training(batch=128, rate=3e-3, images=90_000, warmup=3_000, schedule="cosine", ema=20_000, clip=0.0)
    whole_batch = True

    def build(self) -> None:
        features = resnet.encoder(self.spec.channels, self.spec.size, self.features, self.width, self.depth)
        self.trunk = nn.Sequential(features, nn.BatchNorm1d(self.features), nn.ReLU())
        self.expander = expander(self.features, self.hidden)

    def loss(self, batch: Batch) -> Loss:
        if len(batch) < 2:
            raise Refusal("vicreg compares the images of a batch, and a batch of one has nothing to compare; use a larger --batch.")
        z, other = (self.expander(self.encode(self.view(batch))).float() for _ in range(2))
        s = invariance(z, other)
        v = (variance(z) + variance(other)) / 2
        c = covariance(z) + covariance(other)
        total = self.invariance * s + self.variance * v + self.covariance * c
        return Loss(total, {"invariance": s, "variance": v, "covariance": c})

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
        h = torch.cat([self.encode(part.x) for part in batch.split(512)])
        spread, rank = unit_spread(h), rankme(h)
        point = "all features point the same way: collapsed; raise --variance, lower --rate, or use a larger --batch"
        yield "spread of features", spread, point if spread < 0.1 else ""
        most = min(h.shape)
        few = f"only about {rank:.1f} of {most} dimensions are in use: partly collapsed; raise --covariance or train longer"
        yield "RankMe", rank, few if rank < most / 10 else ""


def expander(features: int, units: int) -> nn.Sequential:
    """Section 4.2: two hidden layers with batch normalisation, and a last one.  No layer has a bias that would be subtracted at once."""
    hidden = [m for inside in (features, units) for m in (nn.Linear(inside, units, bias=False), nn.BatchNorm1d(units), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(units, units, bias=False))


# The three terms, of embeddings (n, d)


def variance(z: Tensor) -> Tensor:
    """(1) and (2)"""
    return F.relu(1 - (z.var(0) + EPS).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """(3) and (4)"""
    z = z - z.mean(0)
    c = z.T @ z / (len(z) - 1)
    return (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]


def invariance(z: Tensor, other: Tensor) -> Tensor:
    """(5), divided by d"""
    return F.mse_loss(z, other)


# Views.  Whatever is drawn comes from the batch's noise, an image's own.


def seen_from(x: Tensor, noise: Noise, crop: float, turn: float, flip: bool) -> Tensor:
    """A window on each image: its sides, place and angle are drawn, and it is scaled back to the image's size; black beyond the image."""
    scale = 1 - crop * noise.uniform(2)
    place = (2 * noise.uniform(2) - 1) * (1 - scale)
    angle = torch.deg2rad((2 * noise.uniform() - 1) * turn)
    if flip:
        scale = scale * torch.stack([(noise.uniform() < 0.5).float() * 2 - 1, torch.ones_like(angle)], 1)
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    grid = F.affine_grid(torch.cat([turned * scale[:, None], place[..., None]], 2), list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, grid, "bilinear", "zeros", align_corners=False) - 1


def lit(x: Tensor, noise: Noise, most: float) -> Tensor:
    """Contrast multiplied and brightness added to, by draws up to `most` either way."""
    contrast, brightness = (most * (2 * noise.uniform(2, 1, 1, 1) - 1)).unbind(1)
    return x * (1 + contrast) + brightness


def cut(x: Tensor, noise: Noise, most: float) -> Tensor:
    """A square of each view, of a drawn side and place, made grey."""
    size = x.shape[-1]
    half, middle = noise.uniform(1) * most * size / 2, noise.uniform(2) * size
    near = (torch.arange(size, device=x.device) + 0.5 - middle[..., None]).abs() < half[..., None]
    return x.masked_fill((near[:, 0, :, None] & near[:, 1, None, :])[:, None], 0.0)


# Signs of collapse, of features (n, d)


def unit_spread(h: Tensor) -> float:
    """Standard deviation of features scaled to length one, mean over dimensions, times sqrt(d): 1 where they point everywhere, 0 where one way."""
    return float(F.normalize(h.double(), dim=1).std(0).mean()) * h.shape[1] ** 0.5


def rankme(h: Tensor) -> float:
    """The exponential of the entropy of the singular values: between 1 and min(n, d) (Garrido et al. 2023, eq. 1)."""
    s = torch.linalg.svdvals(h.double())
    p = s / s.sum() + 1e-7
    return float((-(p * p.log()).sum()).exp())
