"""A dream is a world as others are: a model says what comes next, and codes are what is seen.

Ha & Schmidhuber, "World Models", 2018, section 4.  The next code is drawn from the model at a temperature
tau: above 1 the dream is less certain than the world, and what works in it relies less on the mistakes of
the model.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..core import Noise
from .mdn_rnn import Ahead
from .world import Arrays, Moved, Space, World, episode_seed

AGES = 2**20
"""steps of an episode that have their own noise"""


class Model(Protocol):
    """What may be dreamt of.  Memory (n, 2 hidden) begins at zeros; its first half, h, is seen."""

    @property
    def code(self) -> int: ...

    @property
    def actions(self) -> int: ...

    @property
    def hidden(self) -> int: ...

    def first(self, seeds: np.ndarray) -> Tensor:
        """The codes (n, code) that episodes of these seeds begin with."""

    def step(self, z: Tensor, action: Tensor, memory: Tensor) -> tuple[Ahead, Tensor]: ...


class Dream(World):
    """n dreams; what is seen is [z, h] (n, code + hidden), as (1) of the paper shows it to the controller."""

    def __init__(self, model: Model, n: int, seed: int, limit: int, tau: float = 1.0, noises: int = 0):
        """limit: steps after which a dream is cut off.  noises: copies i and i + noises dream with the same
        noise, so that what is done in them can be compared; 0 is each with its own."""
        super().__init__(n, seed)
        self.model, self.limit, self.tau, self.noises = model, limit, tau, noises or n
        self.space = Space((model.code + model.hidden,), model.actions)
        self.seeds = np.zeros(n, np.int64)
        self.z, self.memory = torch.zeros(n, model.code), torch.zeros(n, 2 * model.hidden)
        self.restart()

    def _next_seed(self, copy: int) -> int:
        self.episode[copy] += 1
        return episode_seed(self.seed, copy % self.noises, int(self.episode[copy]))

    def _begin(self, copies: np.ndarray) -> None:
        self.seeds[copies] = [self._next_seed(int(i)) for i in copies]
        self.z[copies] = self.model.first(self.seeds[copies])
        self.memory[copies] = 0

    def restart(self) -> None:
        self._begin(np.arange(self.n))
        self._forget()
        self.see = self._look()

    def begin_at(self, z: Tensor) -> None:
        """The present episodes begin with these codes (n, code)."""
        self.restart()
        self.episode[:], self.z = 0, z
        self.see = self._look()

    def _look(self) -> np.ndarray:
        return torch.cat([self.z, self.memory[:, : self.model.hidden]], 1).numpy()

    def _move(self, actions: np.ndarray) -> Moved:
        with torch.inference_mode():
            noise = Noise(torch.from_numpy(self.seeds * AGES + self._age % AGES))
            ahead, memory = self.model.step(self.z, torch.from_numpy(actions), self.memory)
            chance = noise.uniform(2)
            z = ahead.code.draw(chance[:, 0], noise.normal(self.model.code), self.tau)
            terminated = (chance[:, 1] < ahead.end.sigmoid()).numpy()
        self.z, self.memory = z.clone(), memory.clone()
        truncated = ~terminated & (self._age + 1 >= self.limit)
        after = self.see = self._look()
        if (ended := np.flatnonzero(terminated | truncated)).size:
            self._begin(ended)
            self.see = self._look()
        reward = ahead.reward.double().numpy()[np.arange(self.n), terminated.astype(int)]
        return Moved(after, reward, terminated, truncated, self._real)

    def frame(self, copy: int) -> np.ndarray:
        return picture(self.see[copy].reshape(1, 1, -1))

    def _state(self) -> Arrays:
        return dict(seeds=self.seeds, z=self.z.numpy(), memory=self.memory.numpy())

    def _restore(self, arrays: Arrays) -> None:
        self.seeds = arrays["seeds"].copy()
        self.z, self.memory = (torch.from_numpy(arrays[k].copy()) for k in ("z", "memory"))
        self.see = self._look()


def returns(dream: Dream, controllers: Tensor, gamma: float) -> np.ndarray:
    """The return of each controller (P, actions, 1 + code + hidden), its bias first: the mean over its first
    episode in each of n / P copies.  A whole population is stepped in one batch."""
    people, rollouts = len(controllers), dream.n // len(controllers)
    total, open_, discount = np.zeros(dream.n), np.ones(dream.n, bool), 1.0
    bias, weight = controllers[:, None, :, 0], controllers[..., 1:].transpose(1, 2)
    while open_.any():
        see = torch.from_numpy(dream.see).view(people, rollouts, -1)
        actions = (torch.bmm(see, weight) + bias).argmax(-1).flatten().numpy()
        moved = dream.step(actions)
        total += np.where(open_, discount * moved.reward, 0.0)
        open_ &= ~moved.ended
        dream.counted = open_
        discount *= gamma
    return np.asarray(total.reshape(people, rollouts).mean(1))


# Pictures

COLOURS = np.array(
    [[70, 74, 82], [31, 99, 168], [203, 90, 24], [64, 140, 72], [150, 80, 160], [190, 160, 40],
     [60, 160, 170], [200, 110, 140], [120, 120, 120], [20, 20, 20]], np.float64,
)  # fmt: skip
"""of the planes of an image that is no photograph, one over the other; the first three as in the grid"""
PAPER = np.array([245, 243, 238], np.float64)
SIDE = 216
"""of a picture, about"""


def picture(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) of an image (planes, h, w) of [0, 1]: one plane is brightness, several are colours.
    What is uncertain is pale."""
    if len(image) == 1:
        page = np.repeat(image[0, ..., None] * 255.0, 3, -1)
    else:
        page = np.broadcast_to(PAPER, (*image.shape[1:], 3))
        order = [i for i in range(len(image)) if i != 1] + [1]  # the second plane is whoever acts
        for i in order:
            share = image[i, ..., None].clip(0, 1)
            page = page * (1 - share) + COLOURS[i % len(COLOURS)] * share
    fine = max(1, round(SIDE / max(image.shape[1:])))
    return page.round().clip(0, 255).astype(np.uint8).repeat(fine, 0).repeat(fine, 1)


def beside(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Pictures (h, w, 3) side by side, their names above them."""
    from PIL import Image, ImageDraw

    gap, head = 8, 18
    high, wide, _ = next(iter(panels.values())).shape
    page = Image.new("RGB", (gap + (wide + gap) * len(panels), high + head + gap), (255, 255, 255))
    draw: Any = ImageDraw.Draw(page)
    for i, (name, panel) in enumerate(panels.items()):
        at = gap + i * (wide + gap)
        draw.text((at, 4), name, (40, 40, 40))
        page.paste(Image.fromarray(panel), (at, head))
    return np.asarray(page)
