"""For tests only: a game whose generator draws from an image of another domain."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness.core import Batch, Loss, Model, Player, Training


class Unpaired(Model):
    defaults = Training(rate=1e-3)
    takes = ("image",)

    def build(self) -> None:
        self.D = nn.Sequential(nn.Flatten(), nn.Linear(self.spec.dims, 1))
        self.G = nn.Conv2d(self.spec.source[0], self.spec.channels, 1)

    def players(self) -> tuple[Player, ...]:
        return Player("discriminator", self.D, self.telling), Player("generator", self.G, self.drawing)

    def drawn(self, batch: Batch) -> Tensor:
        assert batch.y is not None and batch.y.image is not None
        return self.G(batch.y.image)

    def telling(self, batch: Batch) -> Loss:
        with torch.no_grad():
            fake = self.drawn(batch)
        r, f = self.D(batch.x), self.D(fake)
        terms = {"on real": r.mean(), "on fake": f.mean()}
        return Loss(F.softplus(-r).mean() + F.softplus(f).mean(), terms)

    def drawing(self, batch: Batch) -> Loss:
        return Loss(F.softplus(-self.D(self.drawn(batch))).mean())
