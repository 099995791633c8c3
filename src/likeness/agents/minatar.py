"""MinAtar: Young & Tian, "MinAtar: An Atari-Inspired Testbed for Thorough and Reproducible Reinforcement
Learning Experiments", 2019; `pip install minatar`, and a name such as MinAtar/Breakout-v1.

Version 1.0.15 leaves three things to whoever uses it with gymnasium 1.x, which no longer loads what
packages register: to register; to forget the last action at a reset (it is repeated with probability 0.1, so
an episode would depend on the one before and could not be resumed); and to draw, which it does with seaborn
only.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import numpy as np

from ..core import Refusal

PREFIX, SCALE = "MinAtar/", 24
COLOURS = np.array(
    [[24, 26, 30], [86, 156, 214], [222, 165, 74], [120, 120, 128], [196, 92, 72], [106, 176, 104],
     [176, 122, 190], [230, 214, 110], [92, 190, 190], [220, 130, 160], [150, 150, 220]], np.uint8,
)  # fmt: skip
"""of the ground, and of each plane; a later one covers an earlier one"""


def register(gymnasium: Any) -> None:
    """Its games by their names.  Raises Refusal where the package is not installed."""
    if f"{PREFIX}Breakout-v1" in gymnasium.registry:
        return
    logging.disable(logging.WARNING)  # it warns that seaborn is missing, by which nothing here is drawn
    try:
        import_module("minatar.gym").register_envs()
    except ModuleNotFoundError:
        raise Refusal("the games of MinAtar need a package: pip install minatar") from None
    finally:
        logging.disable(logging.NOTSET)


class MinAtar:
    """A game whose episodes are functions of their seed and actions."""

    def __init__(self, env: Any):
        self.env, self.spec = env.unwrapped, env.spec
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, seed: int) -> Any:
        self.env.game.last_action = 0
        return self.env.reset(seed=seed)

    def step(self, action: int) -> Any:
        return self.env.step(action)

    def render(self) -> np.ndarray:
        planes = self.env.game.state().astype(np.int64)
        kind = (planes * np.arange(1, planes.shape[2] + 1)).max(2)
        return COLOURS[kind].repeat(SCALE, 0).repeat(SCALE, 1)
