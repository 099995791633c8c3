"""What an agent is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import engine
from ..core import check_options, option
from ..metrics.card import Score
from . import playing
from .adam import Adam
from .playing import Choose
from .world import Space, World


@dataclass
class Options:
    """What every agent has; each adds its own."""

    steps: int = option(100_000, "steps in the world, in all", 1)
    worlds: int = option(8, "copies of the world that are stepped together", 1, 4096)
    gamma: float = option(0.99, "discount of the next step's value", 0.0, 1.0)
    rate: float = option(1e-3, "learning rate of Adam", 0.0, 1.0)
    hidden: int = option(64, "width of a layer", 1, 4096)
    clip: float = option(0.5, "norm that a gradient is cut to", 0.0)

    def __post_init__(self) -> None:
        check_options(type(self).__module__.rpartition(".")[2], self)


class Agent(ABC):
    """Updates itself in a world; all its randomness is of `rng`, and of the seed for the first weights."""

    Options: ClassVar[type[Options]]
    settings: ClassVar[dict[str, dict[str, Any]]] = {}
    """options that suit a world, by its name"""
    by_chance: ClassVar[bool] = False
    """returns in the log are those of chance, not of what it has learnt so far"""
    longer: ClassVar[str] = "steps"
    """the option that may grow where a run goes on"""
    units: ClassVar[str]
    """what the terms of update() are"""

    def __init__(self, space: Space, options: Any, seed: int):
        self.space, self.rng = space, np.random.default_rng(engine.derive("agent", seed))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(engine.derive("weights", seed))
            self.build(options)

    @abstractmethod
    def build(self, options: Any) -> None:
        """Networks at their first weights."""

    @abstractmethod
    def update(self, world: World) -> dict[str, float]:
        """Act for a while, learn from it, and say how that went."""

    @abstractmethod
    def scores(self, see: np.ndarray) -> Tensor:
        """(n, actions): of each the logit, or the value."""

    def choose(self, see: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Actions (n,): drawn from the policy, or without `rng` its best."""
        with torch.inference_mode():
            scores = self.scores(see)
        return scores.numpy().argmax(1) if rng is None else drawn(scores.numpy(), rng)

    def clock(self, world: World) -> int:
        """How far a run is: it grows with every update, to whole(steps)."""
        return world.steps

    def whole(self, steps: int) -> int:
        return steps

    def playing(self, rng: np.random.Generator | None = None) -> Choose:
        """choose() through whole episodes; whoever acts by a memory has it there (playing.Remembers)."""
        return lambda see: self.choose(see, rng)

    def frames(self, world: World, choose: Choose, count: int) -> Iterator[np.ndarray]:
        """Of a film of so many episodes."""
        return playing.frames(world, choose, count)

    def cards(self, world: World, seed: int) -> list[Score]:
        """What an evaluation says beside the return; `world` is a new one of 16 copies."""
        return []

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def facts(self) -> dict[str, Any]: ...

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """From what tensors() and facts() wrote down, and nothing else."""


class Descending(Agent):
    """An agent that is no more than what one Adam moves, and its randomness."""

    adam: Adam

    def tensors(self) -> dict[str, Tensor]:
        return self.adam.tensors()

    def facts(self) -> dict[str, Any]:
        return dict(updates=self.adam.number, rng=self.rng.bit_generator.state)

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.adam.restore(tensors, facts["updates"])
        self.rng.bit_generator.state = facts["rng"]


def drawn(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An action of each row by softmax(logits): where the cumulative probability passes a uniform number."""
    p = np.exp(logits - logits.max(1, keepdims=True)).cumsum(1)
    return np.minimum((p <= rng.random((len(p), 1)) * p[:, -1:]).sum(1), p.shape[1] - 1)


def falling(steps: int, share: float, end: float) -> float:
    """A share of random actions that falls from 1 to its end in a straight line, in so many steps."""
    return max(end, 1 + steps / max(1.0, share) * (end - 1))


def mostly(best: np.ndarray, epsilon: float, actions: int, rng: np.random.Generator) -> np.ndarray:
    """The best actions (n,), but for the share epsilon, which is uniform."""
    any_of = rng.integers(actions, size=len(best))
    return np.where(rng.random(len(best)) < epsilon, any_of, best)
