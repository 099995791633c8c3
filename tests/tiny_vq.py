"""For tests only: the least that answers compress: patches, each the nearest of a few learnt vectors, and
p(x|z) of each pixel alone."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness.core import Batch, Loss, Model, Spec, Training, option
from likeness.parts.conditionals import level, value
from likeness.parts.likelihoods import Bernoulli, Logistic


class TinyVQ(Model):
    codes: int = option(4, "vectors", 2, 64)
    patch: int = option(2, "pixels a side that one code stands for", 1, 8)

    defaults = Training(rate=1e-2)

    def build(self) -> None:
        self.p = Bernoulli() if self.spec.levels == 2 else Logistic(self.spec.levels)
        self.encoder = nn.Conv2d(self.spec.channels, 2, self.patch, self.patch)
        self.book = nn.Parameter(torch.randn(self.codes, 2))
        self.decoder = nn.ConvTranspose2d(2, self.p.outputs * self.spec.channels, self.patch, self.patch)

    @property
    def code(self) -> Spec:
        return Spec(1, self.spec.size // self.patch, self.spec.labels, levels=self.codes, symbols=True)

    def nearest(self, h: Tensor) -> Tensor:
        return (h[:, None] - self.book[None, :, :, None, None]).square().sum(2).argmin(1, keepdim=True)

    def loss(self, batch: Batch) -> Loss:
        h = self.encoder(batch.x)
        q = self.book[self.nearest(h)[:, 0]].movedim(-1, 1)
        out = self.decoder(h + (q - h).detach())
        return Loss(
            -self.p.log_prob(batch.x, out).mean() / self.spec.dims
            + F.mse_loss(q, h.detach())
            + 0.25 * F.mse_loss(h, q.detach())
        )

    def compress(self, x: Tensor) -> Tensor:
        return value(self.nearest(self.encoder(x)), self.codes).to(x.dtype)

    def out(self, z: Tensor) -> Tensor:
        return self.decoder(self.book[level(z, self.codes)[:, 0]].movedim(-1, 1))

    def expand(self, z: Tensor) -> Tensor:
        return self.p.mean(self.out(z))

    def distortion(self, x: Tensor, z: Tensor) -> Tensor:
        return -self.p.log_prob(x, self.out(z))

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        yield "codes in use", float(len(self.compress(batch.x).unique())), ""
