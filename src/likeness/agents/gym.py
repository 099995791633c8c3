"""Any environment of gymnasium (the extra [rl]) with a box to see and discrete actions.

Gymnasium's environments cannot be written down.  But an episode is a function of its seed and actions, so
those are kept, and replayed where a run goes on; what is seen then must be what was seen, or the run is not
resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ..core import BadData, Refusal
from . import minatar
from .world import Arrays, Moved, Space, World, packed, unpacked


def package() -> Any:
    """gymnasium.  Raises Refusal where it is not installed."""
    try:
        return import_module("gymnasium")
    except ImportError:
        raise Refusal(
            "environments of gymnasium need it: pip install 'likeness[rl]'.  Without it there are the worlds "
            "grid and CartPole-v1."
        ) from None


def make(name: str, **how: Any) -> Any:
    """An environment by its registered name.  Raises Refusal for one that there is not."""
    gymnasium = package()
    if name.startswith(minatar.PREFIX):
        minatar.register(gymnasium)
    try:
        env = gymnasium.make(name, disable_env_checker=True, **how)
        return minatar.MinAtar(env) if name.startswith(minatar.PREFIX) else env
    except gymnasium.error.DependencyNotInstalled as error:
        raise Refusal(f"{name} needs another package: {error}") from None
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise Refusal(
            f"gymnasium has no environment {name!r} ({error}); built in are: grid, CartPole-v1."
        ) from None


def space_of(name: str, observation: Any, action: Any) -> Space:
    """Raises Refusal for what agents here cannot see or do."""
    if not hasattr(action, "n") or getattr(action, "start", 0) != 0:
        raise Refusal(
            f"{name} has actions {action}, and agents here choose one of a few; take an environment with "
            "discrete actions, such as CartPole-v1."
        )
    shape = tuple(getattr(observation, "shape", None) or ())
    if type(observation).__name__ != "Box" or len(shape) not in (1, 3):
        raise Refusal(f"{name} shows {observation}; agents here see a vector of numbers or an image.")
    kind = str(observation.dtype) if observation.dtype in (np.uint8, bool) else "float32"
    if len(shape) == 3:
        shape = (shape[2], *shape[:2])  # gymnasium's channels are last
    return Space(shape, int(action.n), kind, 256 if kind == "uint8" else 2)


def seen(space: Space, observation: Any) -> np.ndarray:
    """What is seen as agents take it: one, or many of them with an axis more; channels first."""
    array = np.asarray(observation, space.dtype)
    return np.ascontiguousarray(np.moveaxis(array, -1, -3)) if len(space.shape) == 3 else array


class Gym(World):
    """n environments, stepped one after the other."""

    def __init__(self, name: str, n: int, seed: int, environments: Sequence[Any] | None = None):
        """environments: n of them, instead of those of the name."""
        super().__init__(n, seed)
        self.name = name
        self.envs = list(environments or (make(name) for _ in range(n)))
        self.space = space_of(name, self.envs[0].observation_space, self.envs[0].action_space)
        self.see = np.zeros((n, *self.space.shape), self.space.dtype)
        self.done: list[list[int]] = [[] for _ in range(n)]
        """actions of the episode that each is in"""
        self.restart()

    def _reset(self, copy: int) -> np.ndarray:
        self.done[copy] = []
        return seen(self.space, self.envs[copy].reset(seed=self._next_seed(copy))[0])

    def restart(self) -> None:
        self.see = np.stack([self._reset(i) for i in range(self.n)])
        self._forget()

    def _move(self, actions: np.ndarray) -> Moved:
        raw: list[Any] = []
        reward, ended = np.zeros(self.n), np.zeros((2, self.n), bool)
        for i, action in enumerate(actions.tolist()):
            try:
                sight, reward[i], terminated, truncated, _ = self.envs[i].step(action)
            except Exception as error:
                raise Refusal(
                    f"{self.name} has failed in step {len(self.done[i]) + 1} of an episode "
                    f"({type(error).__name__}: {error}); what was saved before is intact."
                ) from error
            self.done[i].append(action)
            raw.append(sight)
            if terminated or truncated:
                ended[:, i] = terminated, truncated
        after = self.see = seen(self.space, raw)
        if over := np.flatnonzero(ended.any(0)).tolist():
            self.see = after.copy()
            for i in over:
                self.see[i] = self._reset(i)
        return Moved(after, reward, ended[0], ended[1] & ~ended[0], self._real)

    def frame(self, copy: int) -> np.ndarray:
        try:
            picture = self.envs[copy].render()
        except Exception as error:  # each package has its own for a library that is not there
            raise Refusal(f"{self.name} cannot be drawn: {error}") from None
        return np.asarray(picture, np.uint8)

    def solved(self) -> float | None:
        threshold = getattr(getattr(self.envs[0], "spec", None), "reward_threshold", None)
        return None if threshold is None else float(threshold)

    def _state(self) -> Arrays:
        actions, lengths = packed(self.done)
        return dict(see=self.see, actions=actions, lengths=lengths)

    def _restore(self, arrays: Arrays) -> None:
        self.episode -= 1
        for i, actions in enumerate(unpacked(arrays["actions"], arrays["lengths"])):
            sight = self._reset(i)
            for action in actions:
                sight = seen(self.space, self.envs[i].step(action)[0])
            self.done[i] = actions
            self.see[i] = sight
        if not np.array_equal(self.see, arrays["see"]):
            raise BadData(
                f"{self.name} cannot be resumed exactly: the same seed and the same actions lead elsewhere "
                "than they did.  Begin in another folder; this one can still be shown and evaluated."
            )


class Vector(World):
    """An environment of gymnasium that is many at once, with whatever autoreset it has.

    By the default, NEXT_STEP, the step after an ending ignores its action and shows the first sight of the
    next episode: it is not real.  By SAME_STEP the last sight of an episode is in info["final_obs"].  Its
    place cannot be written down, so a run in it is not resumed.
    """

    def __init__(self, name: str, envs: Any, seed: int):
        super().__init__(envs.num_envs, seed)
        self.name, self.envs = name, envs
        self.space = space_of(name, envs.single_observation_space, envs.single_action_space)
        self.same_step = "same" in str(getattr(envs, "metadata", {}).get("autoreset_mode", "")).lower()
        self.restart()

    def restart(self) -> None:
        """All begin anew.  Copies are seeded together, and far from those of the next seed."""
        self.episode += 1
        self.see = seen(self.space, self.envs.reset(seed=episode_base(self.seed, int(self.episode[0])))[0])
        self.over = np.zeros(self.n, bool)
        """whose next step begins an episode and is not real"""
        self._forget()

    def _move(self, actions: np.ndarray) -> Moved:
        sight, reward, terminated, truncated, info = self.envs.step(actions)
        self.see = after = seen(self.space, sight)
        ended, real = terminated | truncated, ~self.over
        if self.same_step and ended.any():
            after = after.copy()
            for i in np.flatnonzero(ended):
                after[i] = seen(self.space, info["final_obs"][i])
        self.over = np.zeros_like(ended) if self.same_step else ended
        reward = np.asarray(reward, np.float64)
        return Moved(after, reward, np.asarray(terminated), truncated & ~terminated, real)

    def frame(self, copy: int) -> np.ndarray:
        raise Refusal(f"{self.name} as a vector cannot be drawn.")

    def _state(self) -> Arrays:
        raise Refusal(
            f"{self.name} as a vector cannot be written down, so a run in it is not resumed exactly."
        )

    def _restore(self, arrays: Arrays) -> None:
        self._state()


def episode_base(seed: int, number: int) -> int:
    """A seed of all copies, which gymnasium seeds with it + i: those of two seeds hardly ever meet."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)
