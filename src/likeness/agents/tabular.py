"""Values in a table: Bellman 1957; Watkins & Dayan, "Q-learning", Machine Learning 8, 1992.

A world is three arrays (states, actions): the next state, its reward, and whether the episode terminates
there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..core import Refusal


def value_iteration(
    to: np.ndarray, reward: np.ndarray, ends: np.ndarray, gamma: float, tolerance: float = 1e-12
) -> np.ndarray:
    """Q* (states, actions): Q(s, a) = r + gamma max_b Q(s', b) to a fixed point.

    Raises Refusal where there is none, as with gamma 1 and a reward that may be had for ever.
    """
    q = np.zeros(reward.shape)
    # without discount a way that pays has no circle, so its steps are fewer than the states
    most = len(to) + 1 if gamma == 1 else 10**7
    for _ in range(most):
        new = reward + gamma * np.where(ends, 0.0, q.max(1)[to])
        if np.abs(new - q).max() < tolerance:
            return new
        q = new
    raise Refusal("value iteration does not settle; take a discount below 1.")


def q_learning(
    to: np.ndarray,
    reward: np.ndarray,
    ends: np.ndarray,
    gamma: float,
    steps: int,
    rng: np.random.Generator,
    exploration: float = 1.0,
) -> Iterator[np.ndarray]:
    """Q after each step, the same array: Q(s, a) += rate (r + gamma max_b Q(s', b) - Q(s, a)).

    The rate is 1 / visits^0.6 (of the pair): its sum diverges and that of its squares does not, as
    convergence needs.
    exploration: share of actions that are drawn; the others are the best known.
    """
    q, visits = np.zeros(reward.shape), np.zeros(reward.shape)
    states, actions = reward.shape
    s = int(rng.integers(states))
    for _ in range(steps):
        a = int(rng.integers(actions)) if rng.random() < exploration else int(q[s].argmax())
        visits[s, a] += 1
        ahead = 0.0 if ends[s, a] else q[to[s, a]].max()
        q[s, a] += (reward[s, a] + gamma * ahead - q[s, a]) / visits[s, a] ** 0.6
        s = int(rng.integers(states)) if ends[s, a] else int(to[s, a])
        yield q
