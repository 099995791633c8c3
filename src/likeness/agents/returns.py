"""What an experience was worth, time by copies: arrays (T, n).

Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation", 2016.
"""

from __future__ import annotations

import numpy as np


def advantages(
    reward: np.ndarray,
    value: np.ndarray,
    ahead: np.ndarray,
    ended: np.ndarray,
    gamma: float,
    trace: float,
) -> np.ndarray:
    """Generalised advantages, (16): sum_l (gamma trace)^l delta_{t+l}, delta_t = r_t + gamma V(s_{t+1}) -
    V(s_t).

    ahead: V of what each step led to, 0 where the episode terminated, the last sight's where it was
    truncated. ended: where the sum stops, be it terminated or truncated: beyond is another episode.
    """
    delta = reward + gamma * ahead - value
    on = gamma * trace * ~ended
    out, carry = np.empty_like(delta), np.zeros(delta.shape[1:])
    for t in range(len(delta) - 1, -1, -1):
        carry = delta[t] + on[t] * carry
        out[t] = carry
    return out


def to_go(reward: np.ndarray, ahead: np.ndarray, ended: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted rewards from each step to the end of its episode: R_t = r_t + gamma R_{t+1}, and `ahead`
    takes the place of R_{t+1} where the episode ended or the record does."""
    out, carry = np.empty_like(reward), ahead[-1]
    for t in range(len(reward) - 1, -1, -1):
        carry = reward[t] + gamma * np.where(ended[t], ahead[t], carry)
        out[t] = carry
    return out
