"""Agents: they make their own data in a world, so they have their own loop; one file a paper.

world.py      what an agent acts in: several copies at once, each episode a function of its seed
grid.py       a world of rooms drawn as images, which needs nothing installed
cart.py       CartPole-v1, equal to gymnasium's bit by bit and many at once
gym.py        any environment of gymnasium with discrete actions; minatar.py  what MinAtar leaves to do
agent.py      what an agent is: it updates itself, chooses, and can be written down
returns.py    advantages and returns of what was experienced
tabular.py    value iteration and Q-learning on a table
rollout.py    a few steps of every copy
reinforce.py  dqn.py  pqn.py  ppo.py  a2c.py
world_model.py  a model of the world, and a controller that learns in its dream
mdn_rnn.py  dream.py  cma.py  drawn_cart.py   its parts: what comes next, a world made of it, the
              evolution of the controller, and CartPole as pictures
run.py        the run folder, and the loop
playing.py    episodes of a trained agent: returns, and films
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..core import Refusal, closest

if TYPE_CHECKING:
    from .agent import Agent

NAMES = ("ppo", "dqn", "pqn", "a2c", "reinforce", "world-model")


def load(name: str) -> type[Agent]:
    """The class of an agent.  Raises Refusal for a name that there is not."""
    if name not in NAMES:
        raise Refusal(f"there is no agent {name!r}; {closest(name, NAMES)}")
    kind: type[Agent] = import_module(f".{name.replace('-', '_')}", __name__).KIND
    return kind
