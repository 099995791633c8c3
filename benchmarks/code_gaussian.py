"""A Gaussian with full covariance, by counting: the simplest density of an autoencoder's codes.

likeness train ae fashion-mnist runs/ae
likeness train benchmarks/code_gaussian.py runs/ae runs/ae-gaussian --images 60000
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from likeness.core import Batch, Condition, Loss, Model, Noise, Training, option


class CodeGaussian(Model):
    temperature: float = option(1.0, "times the standard deviation", 0.0, 10.0, live=True)

    defaults = Training(batch=500, images=60_000, warmup=0, ema=0, precision="fp32")

    def build(self) -> None:
        d = self.spec.dims
        self.n, self.sum, self.products = (
            nn.Buffer(torch.zeros(shape, dtype=torch.float64)) for shape in ((), (d,), (d, d))
        )
        self.nothing = nn.Parameter(torch.zeros(()))

    def loss(self, batch: Batch) -> Loss:
        z = batch.x.flatten(1).double()
        self.n += len(z)
        self.sum += z.sum(0)
        self.products += z.T @ z
        return Loss(self.nothing.square())

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        mean = self.sum / self.n.clamp(min=1)
        values, vectors = torch.linalg.eigh(self.products / self.n.clamp(min=1) - mean.outer(mean))
        eps = noise.normal(self.spec.dims).double() * self.temperature
        yield (mean + eps @ (vectors * values.clamp(min=0).sqrt()).T).float().view(-1, *self.spec.shape)
