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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import option
from . import returns
from .adam import Adam
from .agent import Descending, drawn
from .agent import Options as Common
from .networks import Perceptron, answers, gradients, layers, network, tensor
from .rollout import rollout
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
    normalise: bool = option(True, "advantages to mean 0 and deviation 1 in a batch")


class Batch(NamedTuple):
    see: Tensor
    action: Tensor
    advantage: Tensor
    target: Tensor
    """R: what the critic should have said"""
    log_old: Tensor


class Told(NamedTuple):
    """What the log says of a batch."""

    policy: float
    value: float
    entropy: float
    ratio: np.ndarray


class Losses(NamedTuple):
    policy: Tensor
    value: Tensor
    entropy: Tensor
    ratio: Tensor

    def told(self) -> Told:
        policy, value, entropy = (float(x.detach()) for x in self[:3])
        return Told(policy, value, entropy, self.ratio.detach().numpy())


def losses(logits: Tensor, value: Tensor, batch: Batch, clip_range: float, normalise: bool = True) -> Losses:
    """The three terms of (9), to be made small, large, large; logits (n, actions), value (n,)."""
    log = F.log_softmax(logits, 1)
    ratio = (log.gather(1, batch.action[:, None]).squeeze(1) - batch.log_old).exp()
    a = batch.advantage
    if normalise:
        a = (a - a.mean()) / (a.std() + 1e-8)
    policy = -torch.min(a * ratio, a * ratio.clamp(1 - clip_range, 1 + clip_range)).mean()
    return Losses(policy, F.mse_loss(value, batch.target), -(log.exp() * log).sum(1).mean(), ratio)


class Slopes:
    """The gradient of -(9) at the logits and the values, by hand: for networks of two layers the nodes of
    autograd take longer than their products.

    With p = pi(. | s), H its entropy, and A normalised in the batch of n:
    d/dz_j = -[A r <= A clip(r)] A r ([j = a] - p_j) / n + c2 p_j (log p_j + H) / n,  d/dV = 2 c1 (V - R) / n.
    """

    def __init__(self, batch: Batch, actions: int, normalise: bool = True):
        self.batch = batch
        a = batch.advantage.numpy()
        self.n = len(a)
        self.a = (a - a.mean()) / (a.std(ddof=1) + np.float32(1e-8)) if normalise else a
        self.log_old, self.target = batch.log_old.numpy(), batch.target.numpy()
        self.place = np.arange(0, self.n * actions, actions) + batch.action.numpy()
        """of log pi(a | s) in the logits of all steps in a row"""

    def at_logits(self, logits: Tensor, clip_range: float, entropy: float) -> np.ndarray:
        log = torch.log_softmax(logits, 1).numpy()
        p = np.exp(log)
        self.ratio = np.exp(log.ravel()[self.place] - self.log_old)
        self.gain = self.a * self.ratio
        self.clipped = self.a * self.ratio.clip(1 - clip_range, 1 + clip_range)
        self.log, self.p = log, p
        pull = np.where(self.gain <= self.clipped, self.gain, np.float32(0)) * np.float32(1 / self.n)
        out = p * pull[:, None]
        out.ravel()[self.place] -= pull
        if entropy:
            out += p * (log - (p * log).sum(1, keepdims=True)) * np.float32(entropy / self.n)
        return out

    def at_values(self, value: Tensor, weight: float) -> np.ndarray:
        self.missed = value.numpy()[:, 0] - self.target
        return self.missed[:, None] * np.float32(2 * weight / self.n)

    def told(self) -> Told:
        """Of the last call."""
        policy, value = -np.minimum(self.gain, self.clipped).mean(), np.square(self.missed).mean()
        return Told(float(policy), float(value), float(-(self.p * self.log).sum(1).mean()), self.ratio)


class PPO(Descending):
    Options: ClassVar[type[Common]] = PPOOptions
    settings = {
        "CartPole-v1": dict(
            horizon=32, epochs=20, trace=0.8, gamma=0.98, rate=1e-3
        ),
        "LunarLander-v3": dict(
            steps=1_000_000, worlds=16, horizon=1024, batch=64, gamma=0.999, trace=0.98, entropy=0.01
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
        o = self.o
        with torch.inference_mode():
            actor, critic = answers(self.actor), answers(self.critic)
            r = rollout(world, o.horizon, lambda see: drawn(actor(see), self.rng))
            see, before = tensor(r.flat), r.action.size
            value = critic(r.flat).reshape(len(r.see), world.n).astype(np.float64)
            log = F.log_softmax(self.actor(see[:before]), 1)
            ahead = r.ahead(value, lambda sight: critic(sight)[:, 0])
        a = returns.advantages(r.reward, value[:-1], ahead, r.ended, o.gamma, o.trace)
        keep = torch.from_numpy(r.real.ravel())
        actions = torch.from_numpy(r.action.ravel())
        return Batch(
            see[:before][keep],
            actions[keep],
            torch.from_numpy(a.ravel()).float()[keep],
            torch.from_numpy((a + value[:-1]).ravel()).float()[keep],
            log.gather(1, actions[:, None]).squeeze(1)[keep],
        )

    def learn(self, all_of_it: Batch, rate: float, clip_range: float) -> dict[str, float]:
        first: Told | None = None
        slopes: Slopes | None = None
        now: Losses | Slopes
        for b in self._batches(all_of_it):
            if isinstance(self.actor, Perceptron) and isinstance(self.critic, Perceptron):
                if slopes is None or slopes.batch is not b:
                    slopes = Slopes(b, self.space.actions, self.o.normalise)
                now = self._by_hand(self.actor, self.critic, slopes, clip_range)
            else:
                now = self._by_autograd(b, clip_range)
            first = first or now.told()
            self.adam.descend(rate, self.o.clip)
        assert first is not None
        last = now.told()
        return {
            "policy": last.policy,
            "value": last.value,
            "entropy": last.entropy,
            "clipped": float((np.abs(last.ratio - 1) > clip_range).mean()),
            "first ratio off": float(np.abs(first.ratio - 1).max()),
            "advantage": float(all_of_it.advantage.std(unbiased=False)),
            "baseline": float(all_of_it.target.mean()),
        }

    def _by_autograd(self, b: Batch, clip_range: float) -> Losses:
        now = losses(self.actor(b.see), self.critic(b.see).squeeze(1), b, clip_range, self.o.normalise)
        self.adam.gradient.zero_()
        (now.policy + self.o.value * now.value - self.o.entropy * now.entropy).backward()
        return now

    def _by_hand(self, actor: Perceptron, critic: Perceptron, slopes: Slopes, clip_range: float) -> Slopes:
        with torch.inference_mode():
            for net in (actor, critic):
                *hidden, out = layers(slopes.batch.see, net.weights)
                if net is actor:
                    g = slopes.at_logits(out, clip_range, self.o.entropy)
                else:
                    g = slopes.at_values(out, self.o.value)
                gradients(
                    hidden,
                    net.weights,
                    torch.from_numpy(g),
                    [p.grad for p in net.weights if p.grad is not None],
                )
        return slopes

    def _batches(self, all_of_it: Batch) -> Iterator[Batch]:
        n, size = len(all_of_it.action), self.o.batch
        for _ in range(self.o.epochs):
            if n <= size:
                yield all_of_it
                continue
            order = torch.from_numpy(self.rng.permutation(n))
            mixed = Batch(*(x[order] for x in all_of_it))
            for at in range(0, n, size):
                if n - at > 1 or not at:  # one step alone has no deviation
                    yield Batch(*(x[at : at + size] for x in mixed))


KIND = PPO
