"""BYOL: a network predicts what a slower copy of itself says of another view.

Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020.  The
online network, of weights theta, is an encoder f, a projector g and a predictor q; the target network, of
weights xi, is an encoder and a projector.  Of two views of each image, v and v',

    z = g_theta(f_theta(v)),   z' = g_xi(f_xi(v'))
    xi <- tau xi + (1 - tau) theta                                                         (1)
    L = || q(z) / ||q(z)|| - z' / ||z'|| ||^2 = 2 - 2 <q(z), z'> / (||q(z)|| ||z'||)       (2)

plus the same with the views exchanged; no gradient reaches xi.  With --rise tau rises to 1 along a cosine
(section 3.2); else it stays.

No two images are compared, so nothing forbids that all have the same features, for which (2) is 0.  That it
does not happen is owed to the predictor and to the gradient that stops.  --target stopped does without the
slow copy: the target is the online network itself behind a stopped gradient (Chen & He, "Exploring Simple
Siamese Representation Learning", 2021: SimSiam).  --target joint lets the gradient through: the loss then
falls to 0 within a few hundred steps and projections are the same for every image, which the loss does not
say, but collapse.py does.  The features before them may still be spread out: nothing is asked of them.

Departures: Adam in place of LARS, no weight decay (1.5e-6 there), small batches and networks (256 and 64
units of g and q for 4096 and 256). tau stays at 0.99 unless --rise, from 0.996 there. Views (appendix B
there): at least 0.4 of the area for 0.08; saturation changes by up to 0.4 for 0.2, brightness, contrast and
hue as there; colours change in one fixed order, random there; no mirror, blur or solarisation unless asked
for, and then alike for both views (blur in 1 and 0.1 of them, solarisation in 0 and 0.2 there).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Loss, Training, option
from ..parts import collapse, resnet, views
from ..parts.teacher import follow, rising, teacher


class BYOL(views.Views):
    features: int = option(128, "numbers that encode() answers", 2, 4096)
    hidden: int = option(256, "units of the hidden layers of g and of q", 2, 8192)
    projection: int = option(64, "numbers of z", 2, 4096)
    width: int = option(16, "channels at 14 pixels", 4, 512)
    depth: int = option(1, "residual blocks a level", 0, 16)
    target: str = option(
        "average",
        "what is predicted: an EMA of the network, or itself behind a stopped gradient (SimSiam), or "
        "itself, which collapses",
        choices=("average", "stopped", "joint"),
    )
    tau: float = option(0.99, "how much of the target's weights a step keeps, at first", 0.0, 1.0)
    rise: int = option(
        0, "images over which tau rises to 1, best as many as --images; 0 keeps it as it is", 0, 10**13
    )

    defaults = Training(batch=128, rate=2e-3, images=200_000, warmup=5_000, schedule="cosine", ema=20_000)
    whole_batch = True

    def build(self) -> None:
        f = resnet.rectified(self.spec.channels, self.spec.size, self.features, self.width, self.depth)
        self.theta = nn.Sequential(f, projector(self.features, self.hidden, self.projection))
        self.q = projector(self.projection, self.hidden, self.projection)
        self.xi = teacher(self.theta) if self.target == "average" else None
        self.health = collapse.Health()
        self.seen = 0

    def loss(self, batch: Batch) -> Loss:
        if self.training:
            self.seen = batch.seen
        v, other = self.view(batch), self.view(batch)
        z, z_other = (self.theta(x).float() for x in (v, other))
        aims = self.aim(other, z_other), self.aim(v, z)
        total = distance(self.q(z).float(), aims[0]) + distance(self.q(z_other).float(), aims[1])
        return Loss(total, {"chance": unseen(aims[0]) + unseen(aims[1]), **self.health(z, batch.step)})

    def aim(self, x: Tensor, z: Tensor) -> Tensor:
        """z' of a view, of which the online network says z."""
        if self.xi is None:
            return z if self.target == "joint" else z.detach()
        with torch.no_grad():
            out: Tensor = self.xi(x)
            return out.float()

    def after_step(self) -> None:
        if self.xi is not None:
            follow(self.xi, self.theta, rising(self.tau, self.seen, self.rise))

    def encode(self, x: Tensor) -> Tensor:
        """f_theta(x), (B, features), none below zero, of (B, C, H, W)."""
        h: Tensor = self.theta[0](x)
        return h.float()

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards: whether the features have collapsed, to a point or to few dimensions; and the
        projections, which do so first."""
        h, remedy = (
            collapse.encoded(self, batch),
            f"{'' if self.target == 'average' else 'type --target average, '}lower --rate, or use a larger "
            "--batch",
        )
        yield from collapse.verdicts(h, remedy, f"{remedy}, or train longer")
        spread = float(collapse.unit_spread(self.theta[1](h)))
        same = spread < collapse.POINT and len(h) >= collapse.SEEN
        yield (
            collapse.PROJECTIONS,
            spread,
            (f"what is compared is the same for every image: collapsed; {remedy}") if same else "",
        )


def projector(inside: int, hidden: int, out: int) -> nn.Sequential:
    """g and q, of one hidden layer (appendix C.1)."""
    return nn.Sequential(
        nn.Linear(inside, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out)
    )


def distance(p: Tensor, z: Tensor) -> Tensor:
    """(2), of rows (B, d): their mean."""
    return 2 - 2 * F.cosine_similarity(p, z, dim=1).mean()


def unseen(z: Tensor) -> Tensor:
    """(2) of a predictor that says the same of every image, at its best: along the mean m of the rows z / |z|
    the cosines have the mean |m|.  0 where all rows point one way, as after a collapse."""
    return 2 - 2 * F.normalize(z.detach(), dim=1).mean(0).norm()
