"""Generators that are wrong on purpose, each in another way, to see which yardstick notices.

    likeness train benchmarks/bad_generators.py mnist runs/bad-blur --kind blur

All keep training images, as many as they may, and answer with what they make of them.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness.core import Batch, Loss, Model, Noise, Training, label_of, option


class BadGenerator(Model):
    kind: str = option(
        "memory",
        "what is wrong",
        choices=("memory", "blur", "half", "shift", "binarised", "missing", "pixels", "pca", "noise"),
    )
    keep: int = option(10_000, "training images kept", 1, 100_000)
    axes: int = option(100, "principal components of kind pca", 1, 1000)

    defaults = Training(batch=500, images=10_000, warmup=0, precision="fp32")

    def build(self) -> None:
        self.images = nn.Buffer(torch.zeros(self.keep, *self.spec.shape))
        self.labels = nn.Buffer(torch.zeros(self.keep, dtype=torch.int64))
        self.count = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.nothing = nn.Parameter(torch.zeros(()))

    def loss(self, batch: Batch) -> Loss:
        at = (self.count + torch.arange(len(batch), device=batch.x.device)) % self.keep
        self.images[at] = batch.x
        if (label := label_of(batch.y)) is not None:
            self.labels[at] = label
        self.count += len(batch)
        return Loss(self.nothing.square())

    @torch.no_grad()
    def sample(self, noise: Noise, y: Tensor | None = None) -> Iterator[Tensor]:
        yield getattr(self, self.kind)(noise)

    def known(self) -> Tensor:
        return self.images[: max(1, min(int(self.count), self.keep))]

    def memory(self, noise: Noise) -> Tensor:
        """Training images, as they are."""
        return self.known()[self.draw(noise, len(self.known()))]

    def draw(self, noise: Noise, n: int) -> Tensor:
        return (noise.uniform(1)[:, 0] * n).long()

    def blur(self, noise: Noise) -> Tensor:
        """The mean of 3x3 pixels."""
        return F.avg_pool2d(F.pad(self.memory(noise), (1, 1, 1, 1), mode="replicate"), 3, 1)

    def half(self, noise: Noise) -> Tensor:
        """At half the resolution."""
        x = self.memory(noise)
        return F.interpolate(F.avg_pool2d(x, 2), x.shape[2:], mode="bilinear")

    def shift(self, noise: Noise) -> Tensor:
        """Moved by one pixel to the right and one down."""
        return self.memory(noise).roll((1, 1), (2, 3))

    def binarised(self, noise: Noise) -> Tensor:
        """Black and white."""
        return torch.where(self.memory(noise) > 0, 1.0, -1.0)

    def missing(self, noise: Noise) -> Tensor:
        """Without the last class."""
        there = (self.labels[: len(self.known())] < self.spec.labels - 1).nonzero()[:, 0]
        return self.known()[there[self.draw(noise, len(there))]]

    def pixels(self, noise: Noise) -> Tensor:
        """Each pixel from an image of its own: right in every pixel, blind to all else."""
        known = self.known().flatten(1)
        at = (noise.uniform(known.shape[1]) * len(known)).long()
        return known.gather(0, at).view(-1, *self.spec.shape)

    def pca(self, noise: Noise) -> Tensor:
        """A Gaussian with the mean of the images and their largest principal components."""
        known = self.known().flatten(1).double()
        mean = known.mean(0)
        variance, axes = torch.linalg.eigh((known - mean).T @ (known - mean) / len(known))
        k = min(self.axes, len(variance))
        z = noise.normal(k).double() * variance[-k:].clamp(min=0).sqrt()
        return (mean + z @ axes[:, -k:].T).float().clamp(-1, 1).view(-1, *self.spec.shape)

    def noise(self, noise: Noise) -> Tensor:
        """Every image equally likely."""
        return 2 * noise.uniform(*self.spec.shape) - 1
