"""A model of a user's own, outside the package, that takes whatever a Condition holds; of images
or videos."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from likeness.core import Batch, Condition, Loss, Model, Noise, Training
from likeness.parts.conditioning import Labels, Words, planes


class Conditioned(Model):
    """Draws mean + noise: the mean is linear in class, words and the other image."""

    defaults = Training(rate=1e-2, batch=16, images=320, warmup=0, ema=64)
    takes = ("label", "tokens", "image")
    videos = True

    def build(self) -> None:
        dims, spec = self.spec.dims, self.spec
        self.label = Labels(spec.labels, dims, null=True) if spec.labels else None
        self.words = Words(spec.vocabulary, spec.tokens, dims) if spec.vocabulary else None
        self.other = nn.Conv2d(1 + spec.source[0], 1, 3, padding=1) if spec.source[0] else None
        self.bias = nn.Parameter(torch.zeros(dims))

    def mean(self, n: int, y: Condition | None) -> Tensor:
        out = self.bias.expand(n, -1)
        if self.label is not None:
            out = out + self.label(y, n)
        if self.words is not None:
            out = out + self.words.vector(y, n)
        if self.other is not None:
            blank = out.new_zeros(n, 1, self.spec.size, self.spec.size)
            seen = self.other(planes(blank, y, self.spec.source[0]))
            out = out + seen.expand(-1, self.spec.channels, -1, -1).flatten(1)
        return out.view(n, *self.spec.shape)

    def loss(self, batch: Batch) -> Loss:
        y = None if batch.y is None else batch.y.dropped(batch.noise.uniform() < 0.1)
        return Loss(F.mse_loss(self.mean(len(batch), y), batch.x))

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield self.mean(len(noise), y) + 0.01 * noise.normal(*self.spec.shape)
