"""A translator that can be broken on purpose: its loss asks for something else than the target."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness.core import Batch, Loss, Model, Refusal, Training, option


class Broken(Model):
    learns: str = option(
        "target",
        "what the loss asks for",
        choices=("target", "negative", "source", "grey", "checkers"),
    )
    identity: float = option(0.0, "a remedy to type, without any use", 0.0, 10.0)

    defaults = Training(batch=16, rate=1e-2, images=1600, warmup=0, ema=64)
    takes = ("image",)

    def build(self) -> None:
        inside, outside = self.spec.source[0], self.spec.channels
        self.net = nn.Sequential(nn.Conv2d(inside, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, outside, 1))

    def wanted(self, batch: Batch) -> Tensor:
        assert batch.y is not None and batch.y.image is not None
        x = batch.x
        if self.learns == "negative":
            return -x
        return (
            batch.y.image.expand_as(x) if self.learns == "source" else 0 * x if self.learns == "grey" else x
        )

    def loss(self, batch: Batch) -> Loss:
        assert batch.y is not None and batch.y.image is not None
        return Loss(F.mse_loss(self.net(batch.y.image), self.wanted(batch)))

    @torch.no_grad()
    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        if back:
            raise Refusal("one way only.")
        out: Tensor = self.net(x)
        if self.learns == "checkers":  # as an uneven transposed convolution leaves them
            out[..., ::2, ::2] += 0.1
        return out
