"""A pole on a cart: Barto, Sutton & Anderson 1983, in the constants and the order of operations of
gymnasium's CartPole-v1, so that states are equal to its bit by bit (tests/test_agents_worlds.py), and many
at once.

A step is worth 1; the episode terminates where |x| > 2.4 or |angle| > 12 degrees, and is cut off after 500
steps.
"""

from __future__ import annotations

import math

import numpy as np

from .world import Arrays, Moved, Space, World

G, MASS, POLE, LENGTH, FORCE, TAU, LIMIT = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02, 500
TOTAL, MOMENT = POLE + MASS, POLE * LENGTH
FAR, STEEP = 2.4, 12 * 2 * math.pi / 360
PUSH, BOUNDS = np.array([-FORCE, FORCE]), np.array([[FAR], [STEEP]])


class Cart(World):
    """CartPole-v1, n times."""

    space = Space((4,), 2)
    pace = 50

    def __init__(self, n: int, seed: int):
        super().__init__(n, seed)
        self.at = np.zeros((4, n))
        """x, its speed, the angle, and its speed"""
        self._ones = np.ones(n)
        self.restart()

    def _begin(self, copy: int) -> None:
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self._next_seed(copy))))
        self.at[:, copy] = rng.uniform(-0.05, 0.05, 4)

    def restart(self) -> None:
        for i in range(self.n):
            self._begin(i)
        self._forget()
        self.see = self._look()

    def _look(self) -> np.ndarray:
        return np.ascontiguousarray(self.at.T, np.float32)

    def _move(self, actions: np.ndarray) -> Moved:
        at, (angle, turn) = self.at, self.at[2:]
        cos, sin = np.cos(angle), np.sin(angle)
        push = (PUSH[actions] + MOMENT * (turn * turn) * sin) / TOTAL
        bend = (G * sin - cos * push) / (LENGTH * (4.0 / 3.0 - POLE * (cos * cos) / TOTAL))
        change = np.empty_like(at)
        change[0::2] = at[1::2]
        change[1], change[3] = push - MOMENT * bend * cos / TOTAL, bend
        change *= TAU
        self.at = at + change
        terminated = np.logical_or(*(np.abs(self.at[::2]) > BOUNDS))
        truncated = self._age >= LIMIT - 1
        after = self.see = self._look()
        ended = terminated | truncated
        if np.count_nonzero(ended):
            for i in ended.nonzero()[0].tolist():
                self._begin(i)
            self.see = self._look()
        return Moved(after, self._ones, terminated, truncated, self._real)

    def frame(self, copy: int) -> np.ndarray:
        from PIL import Image, ImageDraw

        wide, high, fine = 300, 150, 2
        x, _, angle, _ = self.at[:, copy].tolist()
        page = Image.new("RGB", (wide * fine, high * fine), (245, 243, 238))
        draw, scale = ImageDraw.Draw(page), wide * fine / (2 * FAR)
        middle, ground, long = wide * fine / 2 + x * scale, high * fine * 0.8, 2 * LENGTH * scale
        draw.line([(0, ground), (wide * fine, ground)], (150, 150, 150), fine)
        draw.rectangle([middle - 26 * fine / 2, ground - 8 * fine, middle + 26 * fine / 2, ground + 8 * fine],
                       (70, 74, 82))  # fmt: skip
        tip = (middle + long * math.sin(angle), ground - 8 * fine - long * math.cos(angle))
        draw.line([(middle, ground - 8 * fine), tip], (203, 90, 24), 5 * fine)
        return np.asarray(page.resize((wide, high), Image.Resampling.BOX))

    def best(self) -> float:
        return float(LIMIT)

    def _state(self) -> Arrays:
        return dict(at=self.at)

    def _restore(self, arrays: Arrays) -> None:
        self.at = arrays["at"].copy()
        self.see = self._look()
