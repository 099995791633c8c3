"""PPO: an actor and a critic that learn from their latest steps several times over, not far from where
they were.

Schulman, Wolski, Dhariwal, Radford & Klimov, "Proximal Policy Optimization Algorithms", 2017.

    r_t = pi(a_t | s_t) / pi_old(a_t | s_t)
    L = E[ min(r_t A_t, clip(r_t, 1 - e, 1 + e) A_t) ] - c1 (V - R)^2 + c2 S[pi]     (7), (9)

Departures: advantages are those of GAE (returns.py) and have mean 0 and deviation 1 in a batch, and
gradients are clipped, as in the authors' code.  log pi_old and the values are computed for all steps at
once before the first update, by the same weights that acted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import option
from . import returns
from .adam import Adam
from .agent import Agent, drawn
from .agent import Options as Common
from .networks import network, tensor
from .world import World


@dataclass
class PPOOptions(Common):
    rate: float = option(2.5e-4, "learning rate of Adam, falling to 0", 0.0, 1.0)
    horizon: int = option(128, "steps of each copy before an update", 1)
    batch: int = option(256, "steps in a gradient", 2)
    epochs: int = option(4, "times that the latest steps are learnt from", 1, 1000)
    trace: float = option(0.95, "lambda of the advantages: 0 is the critic's word, 1 the rewards'", 0.0, 1.0)
    clip_range: float = option(0.2, "e: how far the ratio may move, falling to 0", 0.0, 1.0)
    entropy: float = option(0.0, "c2: weight of the policy's entropy", 0.0)
    value: float = option(0.5, "c1: weight of the critic's error", 0.0)


class Batch(NamedTuple):
    see: Tensor
    action: Tensor
    advantage: Tensor
    target: Tensor
    """R: what the critic should have said"""
    log_old: Tensor


class Losses(NamedTuple):
    policy: Tensor
    value: Tensor
    entropy: Tensor
    ratio: Tensor


def losses(logits: Tensor, value: Tensor, batch: Batch, clip_range: float) -> Losses:
    """The three terms of (9), to be made small, large, large; logits (n, actions), value (n,)."""
    log = F.log_softmax(logits, 1)
    ratio = (log.gather(1, batch.action[:, None]).squeeze(1) - batch.log_old).exp()
    a = batch.advantage
    a = (a - a.mean()) / (a.std() + 1e-8)
    policy = -torch.min(a * ratio, a * ratio.clamp(1 - clip_range, 1 + clip_range)).mean()
    return Losses(policy, F.mse_loss(value, batch.target), -(log.exp() * log).sum(1).mean(), ratio)


class PPO(Agent):
    Options: ClassVar[type[Common]] = PPOOptions
    settings = {
        "CartPole-v1": dict(
            horizon=32, epochs=20, trace=0.8, gamma=0.98, rate=1e-3
        ),
        "grid": dict(entropy=0.01, rate=1e-3),
    }  # fmt: skip

    def build(self, options: PPOOptions) -> None:
        self.o = options
        self.actor = network(self.space, self.space.actions, nn.Tanh, options.hidden, 0.01)
        self.critic = network(self.space, 1, nn.Tanh, options.hidden, 1.0)
        self.adam = Adam(nn.ModuleList([self.actor, self.critic]), eps=1e-5)

    def scores(self, see: np.ndarray) -> Tensor:
        out: Tensor = self.actor(tensor(see))
        return out

    def update(self, world: World) -> dict[str, float]:
        left = max(0.0, 1 - world.steps / self.o.steps)
        batch = self.experience(world)
        return self.learn(batch, self.o.rate * left, self.o.clip_range * left)

    def experience(self, world: World) -> Batch:
        """`horizon` steps of each copy.  A step that was not real is left out."""
        T, n, o = self.o.horizon, world.n, self.o
        sights = np.empty((T + 1, n, *self.space.shape), self.space.dtype)
        action, reward = np.empty((T, n), np.int64), np.empty((T, n))
        terminated, truncated, real = np.empty((3, T, n), bool)
        last = list[tuple[int, np.ndarray, np.ndarray]]()
        with torch.inference_mode():
            for t in range(T):
                sights[t] = world.see
                action[t] = drawn(self.actor(tensor(world.see)).numpy(), self.rng)
                after, reward[t], terminated[t], truncated[t], real[t] = world.step(action[t])
                if truncated[t].any():
                    cut = np.flatnonzero(truncated[t])
                    last.append((t, cut, after[cut]))
            sights[T] = world.see
            see = tensor(sights.reshape(-1, *self.space.shape))
            value = self.critic(see).numpy().reshape(T + 1, n).astype(np.float64)
            log = F.log_softmax(self.actor(see[: T * n]), 1)
            ahead = np.where(terminated, 0.0, value[1:])
            for t, cut, sight in last:
                ahead[t, cut] = self.critic(tensor(sight)).numpy()[:, 0]
        ended = terminated | truncated
        a = returns.advantages(reward, value[:-1], ahead, ended, o.gamma, o.trace)
        keep = torch.from_numpy(real.ravel())
        actions = torch.from_numpy(action.ravel())
        return Batch(
            see[: T * n][keep],
            actions[keep],
            torch.from_numpy(a.ravel()).float()[keep],
            torch.from_numpy((a + value[:-1]).ravel()).float()[keep],
            log.gather(1, actions[:, None]).squeeze(1)[keep],
        )

    def learn(self, all_of_it: Batch, rate: float, clip_range: float) -> dict[str, float]:
        n, size = len(all_of_it.action), self.o.batch
        first: Losses | None = None
        for _ in range(self.o.epochs):
            order = torch.from_numpy(self.rng.permutation(n)) if n > size else None
            for at in range(0, n, size):
                if n - at < 2 and at:
                    continue  # one step alone has no deviation
                b = all_of_it if order is None else Batch(*(x[order[at : at + size]] for x in all_of_it))
                now = losses(self.actor(b.see), self.critic(b.see).squeeze(1), b, clip_range)
                first = first or now
                total = now.policy + self.o.value * now.value - self.o.entropy * now.entropy
                self.adam.step(total, rate, self.o.clip)
        assert first is not None
        far = (now.ratio - 1).abs()
        return {
            "policy": float(now.policy.detach()),
            "value": float(now.value.detach()),
            "entropy": float(now.entropy.detach()),
            "clipped": float((far > clip_range).float().mean()),
            "first ratio off": float((first.ratio - 1).abs().max().detach()),
        }

    def tensors(self) -> dict[str, Tensor]:
        return self.adam.tensors()

    def facts(self) -> dict[str, Any]:
        return dict(updates=self.adam.number, rng=self.rng.bit_generator.state)

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.adam.restore(tensors, facts["updates"])
        self.rng.bit_generator.state = facts["rng"]


KIND = PPO
