"""For tests only: a Gaussian of independent numbers, whatever they are."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from likeness.core import Batch, Condition, Loss, Model, Noise, Training, option


class TinyGauss(Model):
    width: float = option(1.0, "of samples", 0.0, 10.0, live=True)

    defaults = Training(rate=3e-2)

    def build(self) -> None:
        self.mean, self.log_std = (nn.Parameter(torch.full(self.spec.shape, 0.5)) for _ in range(2))

    def loss(self, batch: Batch) -> Loss:
        return Loss((((batch.x - self.mean) / self.log_std.exp()).square() / 2 + self.log_std).mean())

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        eps = noise.normal(*self.spec.shape)
        yield torch.zeros_like(eps)
        yield self.mean + self.width * self.log_std.exp() * eps
