"""A few steps of every copy, as those learn from them who keep no memory: arrays (T, n), time by copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .world import World


class Rollout(NamedTuple):
    see: np.ndarray
    """(T + 1, n, *shape): what each action was chosen by, and what would be the next"""
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    real: np.ndarray
    """False where the action was ignored: not to be learnt from"""
    cut: list[tuple[int, np.ndarray, np.ndarray]]
    """time, copies, and last sights of episodes that were truncated"""

    @property
    def ended(self) -> np.ndarray:
        return self.terminated | self.truncated

    @property
    def flat(self) -> np.ndarray:
        """Everything that was seen in a row, ((T + 1) n, *shape)."""
        return self.see.reshape(-1, *self.see.shape[2:])

    def ahead(self, value: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The value of what each step led to (T, n): 0 where the episode terminated, that of its last sight
        where it was truncated.  value: (T + 1, n) of all that was seen; of: the values of other sights."""
        out = np.where(self.terminated, 0.0, value[1:])
        for t, copies, sight in self.cut:
            out[t, copies] = of(sight)
        return out


def rollout(world: World, steps: int, act: Callable[[np.ndarray], np.ndarray]) -> Rollout:
    T, n = steps, world.n
    see = np.empty((T + 1, n, *world.space.shape), world.space.dtype)
    action, reward = np.empty((T, n), np.int64), np.empty((T, n))
    terminated, truncated, real = np.empty((3, T, n), bool)
    cut = list[tuple[int, np.ndarray, np.ndarray]]()
    for t in range(T):
        see[t] = world.see
        action[t] = act(world.see)
        after, reward[t], terminated[t], truncated[t], real[t] = world.step(action[t])
        if np.count_nonzero(truncated[t]):
            copies = np.flatnonzero(truncated[t])
            cut.append((t, copies, after[copies]))
    see[T] = world.see
    return Rollout(see, action, reward, terminated, truncated, real, cut)
