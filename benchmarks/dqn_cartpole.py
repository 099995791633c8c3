"""DQN on CartPole-v1, seed by seed: the last policy, and the best one on the way.

    PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/dqn_cartpole.py FIRST SEEDS [option=value ...]

50,000 steps.  The last policy is what a run comes to: 100 episodes by its best actions.  About every 2,000
steps 20 other episodes are played; the best policy is that of their largest mean, and has 100 more: whoever
names it alone has chosen it by its luck.  `held` is the share of those looks, of the second half of the
training, that had 475.
"""

from __future__ import annotations

import ast
import copy
import sys
import time
from typing import Any

import numpy as np
import torch

from likeness.agents import load, opening, playing
from likeness.agents.run import learn

WORLD, STEPS, LOOK = "CartPole-v1", 50_000, 2_000


def tested(agent: Any, episodes: int, seed: int) -> float:
    played = playing.episodes(opening.world(WORLD, episodes, seed), agent.choose)
    return float(np.mean([e.total for e in played]))


def trained(seed: int, **typed: Any) -> tuple[float, float, int, float, float]:
    """Return of the last policy, of the best and its step, share held, CPU-seconds of learning."""
    kind = load("dqn")
    options = kind.Options(**kind.settings[WORLD] | dict(steps=STEPS) | typed)
    world = opening.world(WORLD, options.worlds, seed)
    agent: Any = kind(world.space, options, seed)
    looks: list[tuple[float, int]] = []
    best: dict[str, Any] = {}
    seconds, began = 0.0, time.process_time()
    for step in learn(agent, world, STEPS):
        if step.steps >= LOOK * (len(looks) + 1):
            seconds += time.process_time() - began
            value = tested(agent, 20, 1_000_000 + len(looks))
            if not looks or value > max(looks)[0]:
                best = copy.deepcopy(agent.net.state_dict())
            looks.append((value, step.steps))
            began = time.process_time()
    seconds += time.process_time() - began
    last = tested(agent, 100, 12_345)
    at = min(step for value, step in looks if value == max(looks)[0])
    agent.net.load_state_dict(best)
    late = [value for value, step in looks if step > STEPS / 2]
    return last, tested(agent, 100, 12_345), at, float(np.mean(np.array(late) >= 475)), seconds


def main(first: int = 0, seeds: int = 10, *typed: str) -> None:
    torch.set_num_threads(1)
    options = {k: ast.literal_eval(v) for k, v in (one.split("=") for one in typed)}
    rows = []
    for seed in range(int(first), int(first) + int(seeds)):
        rows.append(trained(seed, **options))
        last, best, at, held, seconds = rows[-1]
        print(f"seed {seed}: last {last:.1f}, best {best:.1f} (step {at:,}), held {held:.0%}, "
              f"{seconds:.1f} CPU-s", flush=True)  # fmt: skip
    last, best, held = (np.array([row[i] for row in rows]) for i in (0, 1, 3))
    for name, x in (("last", last), ("best", best)):
        low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
        print(f"{name}: mean {x.mean():.1f}, median {middle:.1f}, quartiles {low:.1f} and {high:.1f}, "
              f"{x.min():.1f} to {x.max():.1f}; 475 or more in {np.sum(x >= 475)} of {len(x)}")  # fmt: skip
    print(f"held {held.mean():.0%}; {np.mean([row[4] for row in rows]):.1f} CPU-s a run")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
