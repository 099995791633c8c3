"""DQN: a network of values that learns from remembered steps, towards a copy of itself that stands still.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015.

    y = r + gamma max_a Q(s', a; target),  loss = huber(y - Q(s, a))                 algorithm 1

As options: van Hasselt, Guez & Silver, "Deep RL with Double Q-learning", 2016 (the network chooses a, the
target values it, (4)); Wang et al., "Dueling Network Architectures", 2016 (Q = V + A - mean A, (9));
rewards of n steps before the value (Sutton 1988).

Departures: gradients are taken together after a number of steps, as many copies of the world are stepped
at once.  The learning rate falls to 0, or the last policy of a training would be a matter of luck.  The time
limit of an episode is no ending of it: there the value of the last sight counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import Refusal, option
from .adam import Adam
from .agent import Agent, falling, mostly
from .agent import Options as Common
from .networks import linear, network, tensor, torso
from .relu import Relu
from .world import Moved, Space, World


@dataclass
class DQNOptions(Common):
    hidden: int = option(128, "width of a layer", 1, 4096)
    rate: float = option(2.5e-4, "learning rate of Adam, falling to 0", 0.0, 1.0)
    clip: float = option(10.0, "norm that a gradient is cut to", 0.0)
    memory: int = option(100_000, "steps that are remembered", 64)
    batch: int = option(64, "steps in a gradient", 1)
    begin: int = option(1_000, "steps before the first gradient", 1)
    every: int = option(64, "steps between two rounds of gradients", 1)
    gradients: int = option(16, "gradients in a round", 1)
    target_every: int = option(1_000, "steps after which the target becomes the network", 1)
    exploration: float = option(0.2, "share of all steps in which random actions become rare", 0.0, 1.0)
    epsilon: float = option(0.05, "share of random actions after that", 0.0, 1.0)
    double: bool = option(False, "the network chooses the next action, the target values it")
    dueling: bool = option(False, "value and advantages apart")
    n_step: int = option(1, "rewards before the value", 1, 100)


class Dueling(nn.Module):
    """Q = V + A - mean A, (9) of Wang et al."""

    def __init__(self, space: Space, hidden: int):
        super().__init__()
        self.torso = torso(space, nn.ReLU, hidden)
        self.value, self.advantage = linear(hidden, 1, 1.0), linear(hidden, space.actions, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.torso(x)
        a = self.advantage(h)
        return self.value(h) + a - a.mean(1, keepdim=True)


def ahead(target: Tensor, online: Tensor | None = None) -> Tensor:
    """The value of the next state (n,) by Q of the target (n, actions): its largest, or by double
    Q-learning that of the action which the network, `online`, thinks best."""
    if online is None:
        return target.amax(1)
    return target.gather(1, online.argmax(1, keepdim=True)).squeeze(1)


def loss(q: Tensor, action: Tensor, y: Tensor) -> Tensor:
    """Huber's of y - Q(s, a); q (n, actions)."""
    return F.smooth_l1_loss(q.gather(1, action[:, None]).squeeze(1), y)


def slope(q: np.ndarray, action: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The gradient of loss() at q (n, actions), and the loss."""
    rows = np.arange(len(q))
    off = q[rows, action] - y
    small = off.clip(-1, 1)
    out = np.zeros_like(q)
    out[rows, action] = small / np.float32(len(q))
    return out, float((small * (off - 0.5 * small)).mean())


class Memory:
    """A ring of steps: what was seen, the action, n rewards, what it led to, and the discount of that value,
    which is 0 where the episode terminated."""

    def __init__(self, space: Space, size: int, n: int):
        """Raises Refusal where the machine has not so much memory."""
        kind = np.dtype(space.dtype)
        try:
            self.arrays = dict(
                see=np.zeros((size, *space.shape), kind),
                after=np.zeros((size, *space.shape), kind),
                action=np.zeros(size, np.int64),
                reward=np.zeros(size, np.float32),
                discount=np.zeros(size, np.float32),
            )
        except MemoryError:
            need = size * (2 * space.numbers * kind.itemsize + 16)
            raise Refusal(
                f"--memory {size:,} steps of this world need {need / 2**30:,.0f} GiB, which this machine has "
                "not; 100,000 are enough for most."
            ) from None
        self.size, self.at, self.filled = size, 0, 0

    def add(self, **rows: np.ndarray) -> None:
        n = len(rows["action"])
        where = np.arange(self.at, self.at + n) % self.size
        for name, row in rows.items():
            self.arrays[name][where] = row
        self.at, self.filled = (self.at + n) % self.size, min(self.size, self.filled + n)

    def rows(self, index: np.ndarray) -> dict[str, Tensor]:
        return {name: torch.from_numpy(a[index]) for name, a in self.arrays.items()}


class Pending:
    """Steps whose n rewards are not all in yet."""

    def __init__(self, n_step: int, gamma: float):
        self.n, self.gamma = n_step, gamma
        self.held: list[dict[str, np.ndarray]] = []

    def add(self, see: np.ndarray, action: np.ndarray, moved: Moved) -> dict[str, np.ndarray] | None:
        """The rows of the step that is complete by this one, if there is one."""
        blank = np.zeros(len(action), np.float64)
        step = dict(see=see, action=action, reward=blank, discount=blank + 1, after=moved.after)
        self.held.append(step | dict(open=np.ones(len(action), bool), real=moved.real))
        for one in self.held:
            live = one["open"]
            one["reward"] = one["reward"] + np.where(live, one["discount"] * moved.reward, 0.0)
            on = np.where(moved.terminated, 0.0, self.gamma)
            one["discount"] = np.where(live, one["discount"] * on, one["discount"])
            wide = live.reshape(-1, *[1] * (see.ndim - 1))
            one["after"] = np.where(wide, moved.after, one["after"])
            one["open"] = live & ~moved.ended
        if len(self.held) < self.n:
            return None
        done = self.held.pop(0)
        return {k: done[k][done["real"]] for k in ("see", "action", "reward", "discount", "after")}


class DQN(Agent):
    Options: ClassVar[type[Common]] = DQNOptions
    settings = {
        "CartPole-v1": dict(
            steps=50_000, rate=1e-3, memory=10_000, batch=128, target_every=256, double=True, n_step=20
        ),
    }  # fmt: skip

    def build(self, options: DQNOptions) -> None:
        self.o = options
        self.net, self.target = self._network(), self._network()
        self.adam = Adam(self.net, fused=True)
        self.target.requires_grad_(False).load_state_dict(self.net.state_dict())
        self.by_hand = Relu.of(self.net)
        self.falls = True
        """whether the learning rate does"""
        self.memory: Memory | None = None
        self.pending = Pending(options.n_step, options.gamma)
        self.copied = 0
        """the step at which the target became the network"""

    def _network(self) -> nn.Module:
        o = self.o
        if o.dueling:
            return Dueling(self.space, o.hidden)
        return network(self.space, self.space.actions, nn.ReLU, o.hidden, 1.0)

    def scores(self, see: np.ndarray) -> Tensor:
        out: Tensor = self.net(tensor(see))
        return out

    def choose(self, see: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """The best; with `rng` the share epsilon is uniform."""
        return self._explore(see, self.o.epsilon, rng) if rng else super().choose(see)

    def _explore(self, see: np.ndarray, epsilon: float, rng: np.random.Generator) -> np.ndarray:
        return mostly(super().choose(see), epsilon, self.space.actions, rng)

    def epsilon(self, steps: int) -> float:
        return falling(steps, self.o.exploration * self.o.steps, self.o.epsilon)

    def update(self, world: World) -> dict[str, float]:
        memory = self.memory = self.memory or Memory(self.space, self.o.memory, world.n)
        for _ in range(max(1, self.o.every // world.n)):
            see = world.see
            action = self._explore(see, self.epsilon(world.steps), self.rng)
            if rows := self.pending.add(see, action, world.step(action)):
                memory.add(**rows)
        out = {"epsilon": self.epsilon(world.steps)}
        if world.steps - self.copied >= self.o.target_every:
            self.target.load_state_dict(self.net.state_dict())
            self.copied = world.steps
        if world.steps <= self.o.begin:
            return out
        left = max(0.0, 1 - world.steps / self.o.steps) if self.falls else 1.0
        return out | self.learn(memory, self.o.rate * left)

    def learn(self, memory: Memory, rate: float) -> dict[str, float]:
        """The target stands still for the whole round, so its values are computed at once."""
        o = self.o
        rows = memory.rows(self.rng.integers(memory.filled, size=o.gradients * o.batch))
        with torch.inference_mode():
            q_target = self._answer(self.target, rows["after"])
            y = rows["reward"] + rows["discount"] * ahead(q_target)
        errors, values = [], []
        for at in range(0, o.gradients * o.batch, o.batch):
            here = slice(at, at + o.batch)
            if o.double:
                with torch.inference_mode():
                    best = ahead(q_target[here], self._answer(self.net, rows["after"][here]))
                    y[here] = rows["reward"][here] + rows["discount"][here] * best
            descend = self._by_hand if self.by_hand else self._by_autograd
            error, value = descend(rows["see"][here], rows["action"][here], y[here], rate)
            errors.append(error)
            values.append(value)
        return {"loss": float(torch.tensor(errors).mean()), "q": float(torch.tensor(values).mean())}

    def _answer(self, net: nn.Module, see: Tensor) -> Tensor:
        """Q (n, actions) by the network or its target, without a gradient."""
        quick = Relu.of(net) if self.by_hand else None
        out: Tensor = quick.answer(see) if quick else net(see.float())
        return out

    def _by_autograd(self, see: Tensor, action: Tensor, y: Tensor, rate: float) -> tuple[float, float]:
        """One step down the loss; it, and the mean of Q."""
        q = self.net(see.float())
        error = loss(q, action, y.clone())  # no tensor of the inference mode enters a graph
        self.adam.step(error, rate, self.o.clip)
        return float(error.detach()), float(q.detach().mean())

    def _by_hand(self, see: Tensor, action: Tensor, y: Tensor, rate: float) -> tuple[float, float]:
        assert self.by_hand is not None
        with torch.inference_mode():
            sights = self.by_hand.forward(see)
            q = sights[-1].numpy()
            g, error = slope(q, action.numpy(), y.numpy())
            self.by_hand.gradient(sights, torch.from_numpy(g))
        self.adam.descend(rate, self.o.clip)
        return error, float(q.mean())

    def tensors(self) -> dict[str, Tensor]:
        out = self.adam.tensors() | {f"target/{k}": v for k, v in self.target.state_dict().items()}
        if self.memory is not None:
            kept = self.memory.filled
            out |= {f"memory/{k}": torch.from_numpy(a[:kept]) for k, a in self.memory.arrays.items()}
        for i, one in enumerate(self.pending.held):
            out |= {f"pending/{i}/{k}": torch.from_numpy(a.copy()) for k, a in one.items()}
        return out

    def facts(self) -> dict[str, Any]:
        ring = None if self.memory is None else [self.memory.at, self.memory.filled]
        return dict(
            updates=self.adam.number,
            rng=self.rng.bit_generator.state,
            ring=ring,
            pending=len(self.pending.held),
            copied=self.copied,
            falls=self.falls,
        )

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.adam.restore(tensors, facts["updates"])
        self.rng.bit_generator.state, self.copied = facts["rng"], facts["copied"]
        if not facts.get("falls"):  # a run of before that goes on as it would have, bit by bit
            self.falls, self.by_hand, self.adam.fused = False, None, False
        self.target.load_state_dict(
            {k.removeprefix("target/"): v for k, v in tensors.items() if "target/" in k}
        )
        if facts["ring"]:
            self.memory = Memory(self.space, self.o.memory, 0)
            self.memory.at, self.memory.filled = facts["ring"]
            for name, array in self.memory.arrays.items():
                array[: self.memory.filled] = tensors[f"memory/{name}"].numpy()
        names = ("see", "action", "reward", "discount", "after", "open", "real")
        self.pending.held = [
            {k: tensors[f"pending/{i}/{k}"].numpy().copy() for k in names} for i in range(facts["pending"])
        ]


KIND = DQN
