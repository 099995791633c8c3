"""REINFORCE: actions that were followed by more than was expected become more probable.

Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", 1992.

    grad J = E[ sum_t grad log pi(a_t | s_t) (R_t - b(s_t)) ]                       (11), episodic

Departures: the baseline b is a network that fits R, by which the gradient has less variance and no bias,
since b knows nothing of a_t.  Adam, and a batch of one whole episode of each copy: all begin together, and
what a copy does after its ending is left out, or short episodes would count more.
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
from .agent import Descending
from .agent import Options as Common
from .networks import network, tensor
from .world import World


@dataclass
class ReinforceOptions(Common):
    clip: float = option(10.0, "norm that a gradient is cut to", 0.0)
    baseline: bool = option(True, "subtract what a network expects of a state")


def surrogate(logits: Tensor, action: Tensor, to_go: Tensor, baseline: Tensor) -> Tensor:
    """A number whose gradient is minus that of J: the mean over steps of -log pi(a | s) (R - b).

    logits (n, actions); action, to_go, baseline (n,), of which the last two are constants.
    """
    log = F.log_softmax(logits, 1).gather(1, action[:, None]).squeeze(1)
    return -(log * (to_go - baseline).detach()).mean()


class Reinforce(Descending):
    Options: ClassVar[type[Common]] = ReinforceOptions
    settings = {"CartPole-v1": dict(rate=5e-3), "grid": dict(rate=2e-3)}

    def build(self, options: ReinforceOptions) -> None:
        self.o = options
        self.actor = network(self.space, self.space.actions, nn.Tanh, options.hidden, 0.01)
        self.critic = network(self.space, 1, nn.Tanh, options.hidden, 1.0)
        self.adam = Adam(nn.ModuleList([self.actor, self.critic]))

    def scores(self, see: np.ndarray) -> Tensor:
        out: Tensor = self.actor(tensor(see))
        return out

    def update(self, world: World) -> dict[str, float]:
        see, action, target = self.episodes(world)
        logits, baseline = self.actor(see), self.critic(see).squeeze(1)
        if not self.o.baseline:
            baseline = torch.zeros_like(baseline)
        policy = surrogate(logits, action, target, baseline)
        error = F.mse_loss(baseline, target)
        self.adam.step(policy + 0.5 * error if self.o.baseline else policy, self.o.rate, self.o.clip)
        log = F.log_softmax(logits.detach(), 1)
        entropy = float(-(log.exp() * log).sum(1).mean())
        return {"policy": float(policy.detach()), "value": float(error.detach()), "entropy": entropy}

    def episodes(self, world: World) -> tuple[Tensor, Tensor, Tensor]:
        """Sights, actions, and discounted rewards to go of one episode of each copy."""
        world.restart()
        rows = list[tuple[np.ndarray, ...]]()
        over = np.zeros(world.n, bool)
        while not over.all():
            see = world.see
            action = self.choose(see, self.rng)
            after, reward, terminated, truncated, real = world.step(action)
            kept = ~over & real
            ahead = np.zeros(world.n)
            if (cut := truncated & ~over).any():
                with torch.inference_mode():
                    ahead[cut] = self.critic(tensor(after[cut])).numpy()[:, 0]
            rows.append((see, action, reward, ahead * self.o.baseline, terminated | truncated, kept))
            over |= terminated | truncated
            world.counted = ~over
        sights, actions, rewards, aheads, ended, mask = (np.stack(column) for column in zip(*rows))
        target = returns.to_go(rewards, aheads, ended, self.o.gamma)
        return tensor(sights[mask]), torch.from_numpy(actions[mask]), torch.from_numpy(target[mask]).float()


KIND = Reinforce
