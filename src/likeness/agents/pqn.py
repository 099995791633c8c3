"""PQN: Q-learning without a memory and without a second network; many copies of the world take the place of
the one, and normalised layers that of the other.

Gallici, Fellows, Ellis, Pou, Masmitja, Foerster & Martin, "Simplifying Deep Temporal Difference Learning",
ICLR 2025.

    G_t = r_t + gamma [ lambda G_{t+1} + (1 - lambda) max_a Q(s_{t+1}, a) ],  loss = (G_t - Q(s_t, a_t))^2 / 2

with G = max Q at the end of the record (Peng & Williams 1996: no trace is cut where an action explored).

Departures: Adam for RAdam.  Images are normalised over channels and places together.  Values are computed for
all steps at once after the last one, by the same weights that acted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import option
from . import returns
from .adam import Adam
from .agent import Descending, falling, mostly
from .agent import Options as Common
from .networks import linear, tensor, torso
from .rollout import rollout
from .world import World


@dataclass
class PQNOptions(Common):
    worlds: int = option(32, "copies of the world that are stepped together", 1, 4096)
    hidden: int = option(128, "width of a layer", 1, 4096)
    rate: float = option(5e-4, "learning rate of Adam, falling to 0", 0.0, 1.0)
    clip: float = option(10.0, "norm that a gradient is cut to", 0.0)
    horizon: int = option(32, "steps of each copy before an update", 1)
    batch: int = option(128, "steps in a gradient", 1)
    epochs: int = option(2, "times that the latest steps are learnt from", 1, 1000)
    trace: float = option(0.65, "lambda of the returns: 0 is the word of Q, 1 the rewards'", 0.0, 1.0)
    exploration: float = option(0.5, "share of all steps in which random actions become rare", 0.0, 1.0)
    epsilon: float = option(0.05, "share of random actions after that", 0.0, 1.0)


def loss(q: Tensor, action: Tensor, target: Tensor) -> Tensor:
    """Half the squared error of Q(s, a) (n, actions), mean over n."""
    return 0.5 * F.mse_loss(q.gather(1, action[:, None]).squeeze(1), target)


class PQN(Descending):
    Options: ClassVar[type[Common]] = PQNOptions
    settings = {"CartPole-v1": dict(trace=0.95, rate=1e-3, gamma=0.98)}

    def build(self, options: PQNOptions) -> None:
        self.o = options
        last = linear(options.hidden, self.space.actions, 1.0)
        self.net = nn.Sequential(torso(self.space, nn.ReLU, options.hidden, norm=True), last)
        self.adam = Adam(self.net)

    def scores(self, see: np.ndarray) -> Tensor:
        out: Tensor = self.net(tensor(see))
        return out

    def choose(self, see: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """The best; with `rng` the share epsilon is uniform."""
        best = super().choose(see)
        return best if rng is None else mostly(best, self.o.epsilon, self.space.actions, rng)

    def update(self, world: World) -> dict[str, float]:
        o = self.o
        epsilon = falling(world.steps, o.exploration * o.steps, o.epsilon)
        rate = o.rate * max(0.0, 1 - world.steps / o.steps)
        see, action, target = self.experience(world, epsilon)
        return self.learn(see, action, target, rate) | {"epsilon": epsilon}

    def experience(self, world: World, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """Sights, actions and lambda-returns of `horizon` steps of each copy, without those that are not
        real."""
        with torch.inference_mode():
            r = rollout(
                world,
                self.o.horizon,
                lambda see: mostly(super(PQN, self).choose(see), epsilon, self.space.actions, self.rng),
            )

            def best(see: np.ndarray) -> np.ndarray:
                return self.scores(see).amax(1).numpy().astype(np.float64)

            value = best(r.flat).reshape(len(r.see), world.n)
            ahead = r.ahead(value, best)
        # a return that mixes lengths by lambda is a value and its generalised advantage
        a = returns.advantages(r.reward, value[:-1], ahead, r.ended, self.o.gamma, self.o.trace)
        target, keep = a + value[:-1], r.real
        return (
            tensor(r.see[:-1][keep]),
            torch.from_numpy(r.action[keep]),
            torch.from_numpy(target[keep]).float(),
        )

    def learn(self, see: Tensor, action: Tensor, target: Tensor, rate: float) -> dict[str, float]:
        errors, values = [], []
        for _ in range(self.o.epochs):
            order = torch.from_numpy(self.rng.permutation(len(action)))
            for here in order.split(self.o.batch):
                q = self.net(see[here])
                error = loss(q, action[here], target[here])
                self.adam.step(error, rate, self.o.clip)
                errors.append(error.detach())
                values.append(q.detach().mean())
        return {"loss": float(torch.stack(errors).mean()), "q": float(torch.stack(values).mean())}


KIND = PQN
