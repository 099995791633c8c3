"""CPU-seconds of PPO on CartPole-v1, and steps/s of 64 copies of it under random actions: ours and
Stable-Baselines3's (its zoo's settings, its DummyVecEnv) in one run.

    pip install --no-deps --target /tmp/sb3 stable-baselines3==2.9.2 pandas cloudpickle python-dateutil
    pytz six tzdata PYTHONPATH=src:/tmp/sb3 OMP_NUM_THREADS=1 python benchmarks/ppo_speed.py [seeds] [steps]

Both have 8 copies, 32 steps, batches of 256, 20 epochs, lambda 0.8, discount 0.98 and the same schedules.
The return is that of the last policy over 100 episodes, by its best actions; `steps/s` is of the processor.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from likeness.agents import load, opening, playing
from likeness.agents.run import learn

WORLD = "CartPole-v1"


def tested(choose: playing.Choose) -> float:
    return float(np.mean([e.total for e in playing.episodes(opening.world(WORLD, 100, 12_345), choose)]))


def ours(seed: int, steps: int) -> tuple[float, float, float]:
    """CPU-seconds to the end, those until ten lines of 100 episodes would have shown 475, and the return."""
    kind = load("ppo")
    options = kind.Options(**kind.settings[WORLD] | dict(steps=steps))
    world = opening.world(WORLD, options.worlds, seed)
    agent = kind(world.space, options, seed)
    began, lately, reached = time.process_time(), list[float](), float("nan")
    for step in learn(agent, world, steps):
        lately = (lately + [e.total for e in step.episodes])[-20:]
        if len(lately) == 20 and np.mean(lately) >= 475 and np.isnan(reached):
            reached = time.process_time() - began
    return time.process_time() - began, reached, tested(agent.choose)


def theirs(seed: int, steps: int) -> tuple[float, float, float]:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    class Watch(BaseCallback):
        reached = float("nan")

        def _on_step(self) -> bool:
            lately = [one["r"] for one in self.model.ep_info_buffer][-20:]
            if len(lately) == 20 and np.mean(lately) >= 475 and np.isnan(self.reached):
                self.reached = time.process_time() - began
            return True

    model = PPO("MlpPolicy", make_vec_env(WORLD, 8, seed=seed * 8), n_steps=32, batch_size=256,
                gae_lambda=0.8, gamma=0.98, n_epochs=20, learning_rate=lambda left: 1e-3 * left,
                clip_range=lambda left: 0.2 * left, device="cpu", seed=seed)  # fmt: skip
    watch, began = Watch(), time.process_time()
    model.learn(steps, callback=watch)
    return (
        time.process_time() - began,
        watch.reached,
        tested(lambda see: model.predict(see, deterministic=True)[0]),
    )


def stepped(copies: int = 64, rounds: int = 2_000) -> tuple[float, float]:
    """Steps of the world in a second of processor, ours and theirs; the same number of endings, nearly."""
    from stable_baselines3.common.env_util import make_vec_env

    ours, theirs = opening.world(WORLD, copies, 0), make_vec_env(WORLD, copies, seed=0)
    theirs.reset()
    speeds = []
    for step in (ours.step, theirs.step):
        rng, began = np.random.default_rng(0), time.process_time()
        for _ in range(rounds):
            step(rng.integers(2, size=copies))
        speeds.append(rounds * copies / (time.process_time() - began))
    return speeds[0], speeds[1]


def main(seeds: int = 3, steps: int = 100_000) -> None:
    torch.set_num_threads(1)
    a, b = stepped()
    print(f"64 copies: {a:,.0f} steps/s, Stable-Baselines3 {b:,.0f}: {a / b:.1f} times as many", flush=True)
    means = {}
    for name, train in (("likeness", ours), ("Stable-Baselines3", theirs)):
        rows = []
        for seed in range(seeds):
            rows.append(train(seed, steps))
            cpu, reached, total = rows[-1]
            print(f"{name} seed {seed}: {cpu:.1f} CPU-s ({steps / cpu:,.0f} steps/s), 475 in training after "
                  f"{reached:.1f} CPU-s, last policy {total:.1f}", flush=True)  # fmt: skip
        means[name] = np.mean([row[0] for row in rows])
    print(f"ours takes {means['Stable-Baselines3'] / means['likeness']:.1f} times fewer CPU-seconds")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
