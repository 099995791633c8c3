"""Frames a CPU-second of DQN on a game of MinAtar: ours and Stable-Baselines3's in one run.

    pip install --no-deps --target /tmp/sb3 stable-baselines3==2.9.2 pandas cloudpickle python-dateutil pytz \
      six tzdata minatar==1.0.15
    PYTHONPATH=src:/tmp/sb3 OMP_NUM_THREADS=1 python benchmarks/dqn_speed.py [frames] [repeats] [game]

Both have the network of MinAtar's authors (a convolution of 16 channels, a layer of 128), one gradient of 32
steps per 4 frames, a memory of 100,000 steps of bools, a target that is copied every 1,000 frames, Adam and
Huber's loss.  Copies of the game: ours 64; theirs 1, as in its zoo, and as many as ours, by its DummyVecEnv.
The seconds are those of the processor from the first frame to the last, of one thread; runs alternate.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from likeness.agents import gym, load, minatar, opening
from likeness.agents.run import learn

COPIES, BATCH, EVERY, MEMORY, BEGIN, TARGET, RATE = 64, 32, 4, 100_000, 1_000, 1_000, 2.5e-4


def ours(game: str, seed: int, frames: int) -> float:
    kind = load("dqn")
    options = kind.Options(
        steps=frames, worlds=COPIES, batch=BATCH, every=COPIES, gradients=COPIES // EVERY, memory=MEMORY,
        begin=BEGIN, target_every=TARGET, rate=RATE,
    )  # fmt: skip
    world = opening.world(game, COPIES, seed)
    agent = kind(world.space, options, seed)
    began = time.process_time()
    for _ in learn(agent, world, frames):
        pass
    return frames / (time.process_time() - began)


def theirs(game: str, seed: int, frames: int, copies: int = 1) -> float:
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class Features(BaseFeaturesExtractor):
        def __init__(self, space: Any):
            super().__init__(space, 128)
            channels, high, wide = space.shape
            self.layers = nn.Sequential(
                nn.Conv2d(channels, 16, 3), nn.ReLU(), nn.Flatten(),
                nn.Linear(16 * (high - 2) * (wide - 2), 128), nn.ReLU(),
            )  # fmt: skip

        def forward(self, see: Tensor) -> Tensor:
            out: Tensor = self.layers(see)
            return out

    minatar.register(gym.package())
    how = dict(features_extractor_class=Features, net_arch=[], normalize_images=False)
    worlds = make_vec_env(lambda: ChannelsFirst(game), copies, seed=seed)
    model = DQN("CnnPolicy", worlds, learning_rate=RATE, buffer_size=MEMORY, learning_starts=BEGIN,
                batch_size=BATCH, train_freq=max(1, EVERY // copies), gradient_steps=max(1, copies // EVERY),
                target_update_interval=TARGET, exploration_fraction=0.2, exploration_final_eps=0.05,
                policy_kwargs=how, device="cpu", seed=seed)  # fmt: skip
    began = time.process_time()
    model.learn(frames)
    return frames / (time.process_time() - began)


def ChannelsFirst(game: str) -> Any:
    gymnasium = gym.package()

    class First(gymnasium.ObservationWrapper):  # type: ignore[misc, name-defined]
        """MinAtar's planes as a network of torch takes them."""

        def __init__(self) -> None:
            super().__init__(gymnasium.make(game, disable_env_checker=True))
            high, wide, channels = self.observation_space.shape
            self.observation_space = gymnasium.spaces.Box(0, 1, (channels, high, wide), bool)

        def observation(self, see: Any) -> Any:
            return np.moveaxis(see, -1, 0)

    return First()


def main(frames: int = 50_000, repeats: int = 3, game: str = "MinAtar/Breakout-v1") -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    ways = {
        f"likeness, {COPIES} copies": ours,
        "Stable-Baselines3, 1 copy": theirs,
        f"Stable-Baselines3, {COPIES} copies": lambda *a: theirs(*a, copies=COPIES),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(repeats):
        for name, train in ways.items():
            speeds[name].append(train(game, seed, frames))
            print(f"{game} seed {seed}, {name}: {speeds[name][-1]:,.0f} frames a CPU-second", flush=True)
    own, *others = speeds
    for name in others:
        ratios = [a / b for a, b in zip(speeds[own], speeds[name])]
        print(f"ours beside {name}: {np.median(ratios):.1f} times as many "
              f"({min(ratios):.1f} to {max(ratios):.1f})")  # fmt: skip


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*map(int, given[:2]), *given[2:])
