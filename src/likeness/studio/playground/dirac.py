"""The Dirac-GAN of Mescheder, Geiger & Nowozin, "Which Training Methods for GANs do actually Converge?", 2018,
section 2: the least GAN that circles.

Real points are all 0; G draws one number, theta; D(x) = psi x.  With f the loss of the game by the logit t = psi theta,
simultaneous gradient descent of step h is

    theta' = theta - h psi f'_G(t),      psi' = psi - h (theta f'_D(t) + gamma psi)

(gamma: R1, the squared slope of D at real points, gamma/2 psi^2, their eq. 9).  Where G maximises what D minimises
(f'_D = -f'_G = f'), the continuous flow keeps theta^2 + psi^2 (their lemma 2.3): circles.  Discrete steps do not:

    theta'^2 + psi'^2 = (theta^2 + psi^2) (1 + h^2 f'(t)^2)               simultaneous: outwards, always
    theta^2 + psi^2 - h theta psi = constant                              alternating, D first, f' = 1 (wasserstein): an ellipse
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD

from ...core import Batch, Loss, Model, Noise, Player, Training, option
from ...core.condition import Condition
from ...data import Data
from ...parts.adversarial import GAMES

GAMES_OF_ONE = tuple(GAMES)


class Number(nn.Module):
    """One weight."""

    def __init__(self, value: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))


class Dirac(Model):
    game: str = option("wasserstein", "GAN loss", choices=GAMES_OF_ONE)
    r1: float = option(0.0, "gamma, weight of D's squared slope at real points", 0.0, 10.0)
    theta: float = option(1.0, "where G begins", -2.0, 2.0)
    psi: float = option(0.0, "slope of D at the beginning", -2.0, 2.0)

    defaults = Training(batch=1, rate=0.1, warmup=0, ema=0, clip=0.0)

    def build(self) -> None:
        self.G, self.D = Number(self.theta), Number(self.psi)

    def players(self) -> tuple[Player, ...]:
        return (
            Player("discriminator", self.D, self.discriminator_loss, optimizer=partial(SGD)),
            Player("generator", self.G, self.generator_loss, optimizer=partial(SGD)),
        )

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of real points x and of the generated one, (1,) each."""
        return self.D.value * x.flatten()[:1], (self.D.value * self.G.value).view(1)

    def discriminator_loss(self, batch: Batch) -> Loss:
        r, f = self.logits(batch.x)
        penalty = self.r1 / 2 * self.D.value.square()
        return Loss(GAMES[self.game].discriminator(r, f).mean() + penalty)

    def generator_loss(self, batch: Batch) -> Loss:
        return Loss(GAMES[self.game].generator(*self.logits(batch.x)).mean())

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield self.G.value.detach().expand(len(noise), 1, 1, 1)


def data() -> Data:
    """Real points: all of them are 0."""
    return Data("dirac", "dirac", np.zeros((2, 1, 1, 1), np.float32), np.arange(1), np.arange(1, 2), levels=0)


def orbit(theta: float, psi: float, h: float, game: str, r1: float, n: int = 200) -> np.ndarray:
    """The closed form that (theta, psi) would stay on, (n, 2) from there on: for wasserstein without a
    penalty the ellipse of alternating steps, D first; for the other zero-sum games the circle of the
    continuous flow; for
    wasserstein with R1 the spiral of the linear steps, exactly; empty where none is known."""
    if game == "wasserstein" and r1:
        step = matrix(h, r1)
        points, at = np.empty((n, 2)), np.array([theta, psi])
        for k in range(n):
            points[k], at = at, step @ at
        return points
    if r1 or game not in ("wasserstein", "minimax"):
        return np.empty((0, 2))
    squeeze = h if game == "wasserstein" else 0.0
    angle = np.linspace(0, 2 * np.pi, n)
    way = np.stack([np.cos(angle), np.sin(angle)], 1)
    level = theta**2 + psi**2 - squeeze * theta * psi
    return way * np.sqrt(level / (1 - squeeze * way[:, :1] * way[:, 1:]))


def matrix(h: float, r1: float = 0.0) -> np.ndarray:
    """One step of wasserstein as it trains here, D and then G, on (theta, psi): psi' = (1 - h gamma) psi - h
    theta, theta' = theta + h psi'."""
    return np.array([[1 - h * h, h * (1 - h * r1)], [-h, 1 - h * r1]])
