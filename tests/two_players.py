"""For tests only: two players at different rates and numbers of moves, dropout, and a buffer that moves
without a gradient."""

import torch
from torch import Tensor, nn

from likeness.core import Batch, Loss, Model, Player, Training, option


class TwoPlayers(Model):
    width: int = option(4, "units of both", 1, 64)

    defaults = Training(rate=1e-2)

    def build(self) -> None:
        self.a = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(self.spec.dims, self.width))
        self.b = nn.Linear(self.width, self.spec.dims)
        self.steps = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def players(self) -> tuple[Player, ...]:
        return (Player("a", self.a, self.loss_a, steps=2), Player("b", self.b, self.loss_b, rate=0.1))

    def loss_a(self, batch: Batch) -> Loss:
        assert not any(p.requires_grad for p in self.b.parameters()), (
            "the other player's weights are not held"
        )
        return Loss(self.error(batch) + self.a[2].weight.square().sum() * 1e-3)

    def loss_b(self, batch: Batch) -> Loss:
        assert not any(p.requires_grad for p in self.a.parameters()), (
            "the other player's weights are not held"
        )
        return Loss(self.error(batch))

    def error(self, batch: Batch) -> Tensor:
        noisy = batch.x + 0.1 * batch.noise.normal(*self.spec.shape)
        return (self.b(self.a(noisy)) - batch.x.flatten(1)).square().mean()

    def after_step(self) -> None:
        self.steps += 1

    def encode(self, x: Tensor) -> Tensor:
        return self.a(x)
