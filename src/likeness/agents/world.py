"""What an agent acts in: several copies of one environment, stepped together.

An episode is a function of its seed and of the actions in it, and its seed one of (seed of the world,
number of the copy, number of the episode).  So a world's place is remembered exactly by few numbers, and no
generator of an environment has to be written down.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Space:
    """What is seen, and how many actions there are."""

    shape: tuple[int, ...]
    """(features,), or (channels, height, width) of an image"""
    actions: int
    dtype: str = "float32"
    """uint8 or bool where the numbers are small and whole"""
    levels: int = 2
    """of an image of whole numbers: they are below it"""

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


class Moved(NamedTuple):
    """A step of all n copies."""

    after: np.ndarray
    """(n, *shape): what the action led to, the last sight of an episode where it ended"""
    reward: np.ndarray
    """(n,) float64"""
    terminated: np.ndarray
    """(n,) bool: nothing can follow, so the value after is 0"""
    truncated: np.ndarray
    """(n,) bool: a time limit cut it off, so the value after is that of `after`"""
    real: np.ndarray
    """(n,) bool: False where the action was ignored since the step began an episode: not to be learnt from"""

    @property
    def ended(self) -> np.ndarray:
        return self.terminated | self.truncated


class Episode(NamedTuple):
    total: float
    """sum of rewards, undiscounted"""
    length: int


def episode_seed(seed: int, copy: int, episode: int) -> int:
    """Neighbouring seeds share no episodes, as they would if copy i had seed + i."""
    return int(np.random.SeedSequence([seed, copy, episode]).generate_state(1)[0])


class World(ABC):
    """`see` is what the next actions are chosen by; `step` takes them.

    At an ending Moved.after is the last sight of the episode, and `see` the first one of the next.
    """

    space: Space
    see: np.ndarray
    pace = 20
    """frames a second of a film"""

    def __init__(self, n: int, seed: int):
        self.n, self.seed, self.steps = n, seed, 0
        self.episode = np.full(n, -1, np.int64)
        """number of the episode that each copy is in"""
        self._total, self._age = np.zeros(n), np.zeros(n, np.int64)
        self._ended: list[Episode] = []
        self._real = np.ones(n, bool)
        self.counted = np.ones(n, bool)
        """copies whose steps and endings count; the others only keep pace, as one whose episode is over
        does"""

    @abstractmethod
    def _move(self, actions: np.ndarray) -> Moved:
        """Act, begin anew where an episode has ended, and set `see`."""

    @abstractmethod
    def frame(self, copy: int) -> np.ndarray:
        """What a copy looks like, uint8 (height, width, 3)."""

    def _next_seed(self, copy: int) -> int:
        self.episode[copy] += 1
        return episode_seed(self.seed, copy, int(self.episode[copy]))

    def step(self, actions: np.ndarray) -> Moved:
        """actions: (n,) whole numbers below space.actions."""
        moved = self._move(actions)
        self.steps += int(np.count_nonzero(moved.real & self.counted))
        self._total += moved.reward
        self._age += moved.real
        ended = moved.ended
        if np.count_nonzero(ended):  # every call counts: all of a step of 8 poles takes 30 microseconds
            for i in ended.nonzero()[0].tolist():
                if self.counted[i]:
                    self._ended.append(Episode(float(self._total[i]), int(self._age[i])))
                self._total[i] = self._age[i] = 0
        return moved

    def take(self) -> list[Episode]:
        """The episodes that have ended since this was asked last."""
        ended, self._ended = self._ended, []
        return ended

    @abstractmethod
    def restart(self) -> None:
        """Begin a new episode in every copy."""

    def _forget(self) -> None:
        self._total[:], self._age[:], self.counted[:] = 0, 0, True

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and other facts from which restore() goes on exactly here."""
        own = dict(episode=self.episode, total=self._total, age=self._age)
        return own | self._state(), dict(steps=self.steps, ended=[list(e) for e in self._ended])

    def restore(self, arrays: Arrays, facts: dict[str, Any]) -> None:
        self.episode[:], self._total[:], self._age[:] = (arrays[k] for k in ("episode", "total", "age"))
        self.steps, self._ended = facts["steps"], [Episode(*e) for e in facts["ended"]]
        self._restore(arrays)

    @abstractmethod
    def _state(self) -> Arrays: ...

    @abstractmethod
    def _restore(self, arrays: Arrays) -> None: ...

    def best(self) -> float | None:
        """The highest expected return there is, where it is known."""
        return None

    def solved(self) -> float | None:
        """The return at which its makers call it solved, where they do."""
        return None


def packed(items: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of different lengths as one array, and their lengths."""
    return np.array([a for one in items for a in one], np.int64), np.array([len(one) for one in items])


def unpacked(flat: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    ends = np.cumsum(lengths)
    return [flat[end - n : end].tolist() for n, end in zip(lengths.tolist(), ends.tolist())]
