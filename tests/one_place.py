"""The smallest model of points: one place, learnt as the mean of the data, and noise of a known width about
it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from likeness.core import Batch, Condition, Loss, Model, Noise, option


class OnePlace(Model):
    sigma: float = option(0.01, "standard deviation about the place", 0.0, 1.0, live=True)

    def build(self) -> None:
        self.place = nn.Parameter(torch.full((self.spec.channels,), 2.0))

    def loss(self, batch: Batch) -> Loss:
        return Loss((batch.x[:, :, 0, 0] - self.place).square().mean())

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield (self.place + self.sigma * noise.normal(self.spec.channels))[:, :, None, None]
