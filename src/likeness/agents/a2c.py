"""A2C: an actor and a critic that learn once from their latest steps.

Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", 2016, algorithm S3, with its actors in
step.

    dtheta = grad log pi(a_t | s_t) (R_t - V(s_t)) + beta grad H(pi(s_t)),  R_t = r_t + gamma R_{t+1}

It is PPO that takes one gradient of all its steps, where the ratio is 1 and nothing is clipped, with rewards
summed to the end of the record (trace 1) and advantages as they are (Huang et al. 2022).

Departures: all copies are stepped together; Adam for RMSprop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..core import option
from .agent import Options as Common
from .ppo import PPO


@dataclass
class A2COptions(Common):
    rate: float = option(1e-3, "learning rate of Adam, falling to 0", 0.0, 1.0)
    horizon: int = option(8, "steps of each copy before an update", 1)
    trace: float = option(1.0, "lambda of the advantages: 0 is the critic's word, 1 the rewards'", 0.0, 1.0)
    entropy: float = option(0.0, "beta: weight of the policy's entropy", 0.0)
    value: float = option(0.5, "weight of the critic's error", 0.0)
    normalise: bool = option(False, "advantages to mean 0 and deviation 1 in a batch")
    # what makes PPO of it
    batch: ClassVar[int] = 2**31
    epochs: ClassVar[int] = 1
    clip_range: ClassVar[float] = 1.0


class A2C(PPO):
    Options: ClassVar[type[Common]] = A2COptions
    settings = {"CartPole-v1": dict(), "grid": dict(entropy=0.01)}


KIND = A2C
