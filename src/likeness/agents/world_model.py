"""World model: learn what the world looks like and what comes next, and learn to act in the dream of it.

Ha & Schmidhuber, "World Models", 2018.  Four stages, one after the other (section 4):

    a policy that draws any action makes `steps` steps in the world
    V   models/vae.py makes a code z of what is seen                                      section 2.1
    M   mdn_rnn.py learns p(z', r, end | z, a, h)                                         section 2.2
    C   a = argmax W [z h] + b, (1), is evolved by CMA-ES (cma.py) in the dream alone     section 2.3

The world is not asked again after the first stage: of what nobody did by chance there, the dream knows
nothing.

Departures: the VAE is ours, whose pixels have a likelihood.  All of a population are tried in dreams of the
same noise.
The controller that is kept is the mean of the last generation, not the luckiest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Noise, Refusal, Spec, option
from ..metrics.card import Score
from ..models.vae import VAE, Gauss
from . import dream, playing
from .adam import Adam
from .agent import Agent, drawn
from .agent import Options as Common
from .cma import CMAES
from .dream import Dream, beside, picture
from .mdn_rnn import MDNRNN, Ahead
from .playing import Choose
from .world import Moved, Space, World

GRADIENTS = 10
"""in an update"""
TICKS = 10, 100
"""of the clock for a gradient and for a generation, where a step in the world is 1"""
EYES: dict[str, Any] = dict(net="mlp", hidden=256, depth=1, beta=0.01)
"""of the VAE.  At the whole price of the rate, images that differ in one pixel have one code, as that pixel
is worth less than it costs; at a tenth, codes of neighbouring cells overlap, and a dream of draws walks
through walls"""
PANELS = "the world", "dream: same actions", "dream: its own"
FRAMES = 1000
"""of an episode in a film, at most"""
ROWS = 1024
"""images that are encoded at a time"""


@dataclass
class WorldModelOptions(Common):
    steps: int = option(20_000, "steps in the world, all by chance and before anything is learnt", 1)
    worlds: int = option(16, "copies of the world that are stepped together", 1, 4096)
    rate: float = option(2e-3, "learning rate of Adam, of both networks", 0.0, 1.0)
    gamma: float = option(1.0, "discount of rewards in the dream", 0.0, 1.0)
    hidden: int = option(128, "units of the LSTM", 1, 4096)
    latent: int = option(16, "numbers in a code of the VAE", 1, 4096)
    mixtures: int = option(5, "Gaussians that the next code is a mixture of", 1, 1000)
    batch: int = option(64, "frames, or stretches of an episode, in a gradient", 1)
    vae_gradients: int = option(2_000, "gradients of the VAE", 1)
    rnn_gradients: int = option(1_500, "gradients of the MDN-RNN", 1)
    window: int = option(16, "steps in a stretch", 1, 10_000)
    generations: int = option(100, "of controllers", 1)
    population: int = option(32, "controllers in a generation", 4, 10_000)
    rollouts: int = option(8, "dreams that each controller is tried in", 1, 10_000)
    limit: int = option(50, "steps after which a dream is cut off", 1, 2**20 - 1)
    temperature: float = option(1.0, "tau of the dream: 0 is what is likeliest", 0.0, 100.0)


class Foresight(NamedTuple):
    """How far from the next frame: (mean squared error with brightness in [0, 1], share of wrong pixels)."""

    predicted: tuple[float, float]
    copied: tuple[float, float]
    """of the last frame, shown again"""
    coded: tuple[float, float]
    """of the next frame itself after the VAE: the best that a prediction can be"""
    n: int
    """frames"""


class Thought:
    """What is known of n episodes: z (n, latent) of the last sight, and the memory of all before it."""

    def __init__(self, z: Tensor, hidden: int):
        self.z, self.memory = z, z.new_zeros(len(z), 2 * hidden)

    def seen(self) -> Tensor:
        """[z h], what the controller acts by."""
        return torch.cat([self.z, self.memory.chunk(2, 1)[0]], 1)


class Player:
    """Acts in the world through whole episodes, by draws of q(z|x) as it has learnt to in the dream: by the
    means it would walk in a circle for ever where a draw leads out.

    rng: draws the actions as well; the codes of one without it are the same every time."""

    def __init__(self, agent: WorldModel, rng: np.random.Generator | None):
        self.agent, self.rng = agent, rng
        self.codes = np.random.default_rng(0) if rng is None else rng
        self.memory: Tensor | None = None
        self.actions = np.zeros(0, np.int64)

    def __call__(self, see: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            q = self.agent.encode(see)
            eps = torch.from_numpy(self.codes.standard_normal(tuple(q.mu.shape), np.float32))
            now = Thought(q.draw(eps), self.agent.o.hidden)
            if self.memory is not None:
                now.memory = self.memory
            scores = self.agent.act(now.seen()).numpy()
            self.actions = scores.argmax(1) if self.rng is None else drawn(scores, self.rng)
            _, self.memory = self.agent.rnn.step(now.z, torch.from_numpy(self.actions), now.memory)
        return self.actions

    def moved(self, moved: Moved) -> None:
        if self.memory is not None:
            self.memory = self.memory * torch.from_numpy(~moved.ended)[:, None]


class WorldModel(Agent):
    Options: ClassVar[type[Common]] = WorldModelOptions
    longer, by_chance = "generations", True
    settings = {
        "CartPole-drawn": dict(limit=200),
    }

    def build(self, options: WorldModelOptions) -> None:
        o = self.o = options
        self.vae = VAE(spec=_spec(self.space), latent=o.latent, **EYES)
        self.rnn = MDNRNN(o.latent, self.space.actions, o.hidden, o.mixtures)
        self.adams = dict(vae=Adam(self.vae), rnn=Adam(self.rnn))
        width = self.space.actions * (1 + o.latent + o.hidden)
        self.cma = CMAES(np.zeros(width), 1.0, o.population, self.rng)
        length, n = -(-o.steps // o.worlds), o.worlds
        kind = np.dtype(self.space.dtype)
        self.seen = dict(
            see=np.zeros((length, n, *self.space.shape), kind),
            after=np.zeros((length, n, *self.space.shape), kind),
            action=np.zeros((length, n), np.int64),
            reward=np.zeros((length, n), np.float32),
            terminated=np.zeros((length, n), bool),
            ended=np.zeros((length, n), bool),
            real=np.zeros((length, n), bool),
        )
        """what happened in the world"""
        self.filled = 0
        """steps of each copy in it"""

    # How far it is

    def clock(self, world: World) -> int:
        return world.steps + self._ticks(
            self.adams["vae"].number, self.adams["rnn"].number, self.cma.generation
        )

    def whole(self, steps: int) -> int:
        # the last steps of all copies may be more than asked for
        length = len(self.seen["action"]) * self.o.worlds
        return length + self._ticks(self.o.vae_gradients, self.o.rnn_gradients, self.o.generations)

    @staticmethod
    def _ticks(frames: int, stretches: int, generations: int) -> int:
        return TICKS[0] * (frames + stretches) + TICKS[1] * generations

    def update(self, world: World) -> dict[str, float]:
        if self.filled < len(self.seen["action"]):
            return self.collect(world)
        if (left := self.o.vae_gradients - self.adams["vae"].number) > 0:
            return _means([self.learn_frames() for _ in range(min(left, GRADIENTS))])
        if (left := self.o.rnn_gradients - self.adams["rnn"].number) > 0:
            return _means([self.learn_stretches() for _ in range(min(left, GRADIENTS))])
        return self.evolve()

    # The world

    def collect(self, world: World) -> dict[str, float]:
        """A step of each copy, by chance."""
        see, action = world.see, self.rng.integers(self.space.actions, size=world.n)
        moved = world.step(action)
        row = dict(see=see, after=moved.after, action=action, reward=moved.reward, real=moved.real,
                   terminated=moved.terminated, ended=moved.ended)  # fmt: skip
        for name, array in self.seen.items():
            array[self.filled] = row[name]
        self.filled += 1
        return {}

    # V

    def scaled(self, see: np.ndarray) -> Tensor:
        """In [-1, 1], as the VAE takes images."""
        return torch.from_numpy(see).float() * (2 / (self.space.levels - 1)) - 1

    def encode(self, see: np.ndarray) -> Gauss:
        return self.vae.posterior(self.vae.shown(self.scaled(see), None))

    def decode(self, z: Tensor) -> np.ndarray:
        """Images (n, *shape) of brightness in [0, 1]."""
        with torch.inference_mode():
            return ((self.vae.decode(z) + 1) / 2).numpy()

    def learn_frames(self) -> dict[str, float]:
        """One gradient of the bound, on last sights of episodes as well."""
        n = self.seen["action"].size
        rows = self.rng.integers(2 * n, size=self.o.batch)
        see, after = (self.seen[k].reshape(n, *self.space.shape) for k in ("see", "after"))
        images = np.where((rows < n)[:, None, None, None], see[rows % n], after[rows % n])
        noise = Noise(self.rng.integers(2**62, size=self.o.batch).tolist())
        loss = self.vae.loss(Batch(self.scaled(images), None, noise))
        self.adams["vae"].step(loss.total, self.o.rate, self.o.clip)
        return {name: float(term.detach()) for name, term in loss.terms.items()}

    # M

    @cached_property
    def codes(self) -> dict[str, Gauss]:
        """q(z|x) of all that was seen, (steps of a copy, copies, latent)."""
        out = {}
        for name in ("see", "after"):
            array = self.seen[name]
            flat = array.reshape(-1, *self.space.shape)
            with torch.no_grad():
                parts = [self.encode(flat[i : i + ROWS]) for i in range(0, len(flat), ROWS)]
            shape = (*array.shape[:2], self.o.latent)
            out[name] = Gauss(*(torch.cat(each).view(shape) for each in zip(*parts)))
        return out

    @cached_property
    def rewards(self) -> tuple[float, float]:
        """Mean and deviation, by which the reward is a number near 1 to the network."""
        reward = self.seen["reward"]
        return float(reward.mean()), float(reward.std()) or 1.0

    def learn_stretches(self) -> dict[str, float]:
        """One gradient: nats of the next code, squared error of the reward, cross-entropy of the ending."""
        o, (T, n) = self.o, self.seen["action"].shape
        first = self.rng.integers(T, size=(o.batch, 1))
        t, i = first + np.arange(o.window), self.rng.integers(n, size=(o.batch, 1))
        inside, t = t < T, t.clip(max=T - 1)
        over = np.cumsum(self.seen["ended"][t, i], 1) - self.seen["ended"][t, i]
        keep = torch.from_numpy(inside & (over == 0) & self.seen["real"][t, i]).float()
        noise = Noise(self.rng.integers(2**62, size=o.batch).tolist())
        eps = noise.normal(2, o.window, o.latent)
        z, z_after = (
            Gauss(*(x[t, i] for x in self.codes[name])).draw(eps[:, k])
            for k, name in enumerate(("see", "after"))
        )
        action, reward, terminated = (
            torch.from_numpy(self.seen[k][t, i]) for k in ("action", "reward", "terminated")
        )
        ahead, _ = self.rnn(z, action)
        mean, deviation = self.rewards
        expected = torch.where(terminated, ahead.reward[..., 1], ahead.reward[..., 0])
        terms = {
            "code": ahead.nats(z_after),
            "reward": (expected - (reward - mean) / deviation).square(),
            "end": F.binary_cross_entropy_with_logits(ahead.end, terminated.float(), reduction="none"),
        }
        means = {name: (term * keep).sum() / keep.sum() for name, term in terms.items()}
        self.adams["rnn"].step(torch.stack([*means.values()]).sum(), o.rate, o.clip)
        return {name: float(term.detach()) for name, term in means.items()}

    # What may be dreamt of: dream.Model

    @property
    def code(self) -> int:
        return self.o.latent

    @property
    def actions(self) -> int:
        return self.space.actions

    @property
    def hidden(self) -> int:
        return self.o.hidden

    @cached_property
    def beginnings(self) -> Tensor:
        """Codes that episodes have begun with, (episodes, latent)."""
        ended = self.seen["ended"]
        begun = np.vstack([np.ones((1, ended.shape[1]), bool), ended[:-1]]) & self.seen["real"]
        return self.codes["see"].mu[torch.from_numpy(begun)]

    def first(self, seeds: np.ndarray) -> Tensor:
        return self.beginnings[torch.from_numpy(seeds % len(self.beginnings))]

    def step(self, z: Tensor, action: Tensor, memory: Tensor) -> tuple[Ahead, Tensor]:
        ahead, memory = self.rnn.step(z, action, memory)
        mean, deviation = self.rewards
        return ahead._replace(reward=mean + deviation * ahead.reward), memory

    def dream(self, n: int, seed: int, noises: int = 0) -> Dream:
        return Dream(self, n, seed, self.o.limit, self.o.temperature, noises)

    # C

    def evolve(self) -> dict[str, float]:
        """A generation."""
        o = self.o
        solutions = self.cma.ask()
        night = self.dream(o.population * o.rollouts, int(self.rng.integers(2**31)), o.rollouts)
        people = torch.from_numpy(solutions).float().view(o.population, self.actions, -1)
        with torch.inference_mode():
            values = dream.returns(night, people, o.gamma)
        self.cma.tell(solutions, values)
        return {"dream return": float(values.mean()), "best dream return": float(values.max())}

    def act(self, seen: Tensor) -> Tensor:
        """(1), the scores (n, actions) of [z h]."""
        w = torch.from_numpy(self.cma.mean).float().view(self.actions, -1)
        return seen @ w[:, 1:].t() + w[:, 0]

    def scores(self, see: np.ndarray) -> Tensor:
        """Of sights with nothing before them; playing() remembers."""
        return self.act(Thought(self.encode(see).mu, self.o.hidden).seen())

    def playing(self, rng: np.random.Generator | None = None) -> Choose:
        return Player(self, rng)

    # What is shown

    def frames(self, world: World, choose: Choose, count: int) -> Iterator[np.ndarray]:
        """The world; beside it what the model says comes of the same actions, from the first sight on and
        without another look; and a dream in which the controller acts, from the same sight on."""
        for _ in range(count):
            yield from self._episode(world, choose)

    def _episode(self, world: World, choose: Choose) -> Iterator[np.ndarray]:
        assert isinstance(choose, Player)
        with torch.inference_mode():
            z = self.encode(world.see[:1]).mu
        follows, night = Thought(z, self.hidden), self.dream(1, world.seed)
        night.begin_at(z.clone())
        last, asleep, ended, top = world.see, z, False, self.space.levels - 1
        for _ in range(FRAMES):
            images = [last[0] / top, self.decode(follows.z)[0], self.decode(asleep)[0]]
            yield beside(dict(zip(PANELS, map(picture, images))))
            if ended:
                return
            moved = playing.step(world, choose)
            last, ended = moved.after, bool(moved.ended[0])
            with torch.inference_mode():
                action = torch.from_numpy(choose.actions[:1])
                ahead, follows.memory = self.step(follows.z, action, follows.memory)
                follows.z = ahead.code.likeliest()
                if not night.episode[0]:  # where it has ended its last sight stays
                    dreamt = night.step(self.act(torch.from_numpy(night.see)).argmax(1).numpy())
                    asleep = torch.from_numpy(dreamt.after[:, : self.code])

    def foresight(self, world: World, rng: np.random.Generator, steps: int = 50) -> Foresight:
        """How well the next frame is known in `steps` steps of each copy of a new world, by chance."""
        sums, frames = np.zeros((3, 2)), 0
        memory = torch.zeros(world.n, 2 * self.hidden)
        for _ in range(steps):
            z, see = self.encode(world.see).mu.detach(), world.see
            action = rng.integers(self.actions, size=world.n)
            with torch.inference_mode():
                ahead, memory = self.step(z, torch.from_numpy(action), memory)
                guess = self.decode(ahead.code.likeliest())
            moved = world.step(action)
            memory = memory * torch.from_numpy(~moved.ended)[:, None]
            coded = self.decode(self.encode(moved.after).mu.detach())
            full, top = moved.after / (self.space.levels - 1), self.space.levels - 1
            for k, image in enumerate((guess, see / top, coded)):
                far = np.abs(image - full)[moved.real]
                sums[k] += np.square(far).sum(), (far > self.wrong).sum()
            frames += int(moved.real.sum())
        pairs = [(float(a), float(b)) for a, b in sums / (frames * self.space.numbers)]
        return Foresight(pairs[0], pairs[1], pairs[2], frames)

    def cards(self, world: World, seed: int) -> list[Score]:
        seen = self.foresight(world, np.random.default_rng(seed))
        how: dict[str, Any] = dict(n=seen.n, seed=seed, split="episodes", better="lower")
        how["group"] = "reconstruction"
        names = "model", "the last frame, copied", "the next frame, coded"
        return [
            Score(name, row[k], of=of, unit=unit, **how)
            for k, (name, unit) in enumerate((("error of the next frame", ""), ("wrong pixels", "share")))
            for of, row in zip(names, seen[:3])
        ]

    @property
    def wrong(self) -> float:
        """How far a pixel is from the right one where it is a wrong one."""
        return 0.5 if self.space.levels == 2 else 0.1

    # State

    def tensors(self) -> dict[str, Tensor]:
        out = {f"{name}/{k}": t for name, adam in self.adams.items() for k, t in adam.tensors().items()}
        out |= {f"seen/{k}": torch.from_numpy(a[: self.filled]) for k, a in self.seen.items()}
        return out | {f"cma/{k}": torch.from_numpy(a) for k, a in self.cma.arrays().items()}

    def facts(self) -> dict[str, Any]:
        return dict(
            gradients={name: adam.number for name, adam in self.adams.items()},
            cma=self.cma.facts(),
            filled=self.filled,
            rng=self.rng.bit_generator.state,
        )

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}/"): t for k, t in tensors.items() if k.startswith(f"{name}/")}

        for name, adam in self.adams.items():
            adam.restore(part(name), facts["gradients"][name])
        self.filled = facts["filled"]
        for k, array in part("seen").items():
            self.seen[k][: self.filled] = array.numpy()
        self.cma.restore({k: t.numpy() for k, t in part("cma").items()}, facts["cma"])
        self.rng.bit_generator.state = facts["rng"]
        for name in ("codes", "rewards", "beginnings"):
            self.__dict__.pop(name, None)


def _spec(space: Space) -> Spec:
    """Of the images that are seen.  Raises Refusal for a world that shows none."""
    if len(space.shape) != 3 or space.dtype not in ("uint8", "bool"):
        raise Refusal(
            f"world-model learns from images, and this world shows {space.numbers} numbers; take one that is "
            "drawn: grid, CartPole-drawn, MinAtar/Breakout-v1."
        )
    channels, high, wide = space.shape
    if high != wide:
        raise Refusal(f"world-model learns from square images, and these are {high} x {wide}.")
    return Spec(channels, high, levels=space.levels)


def _means(terms: list[dict[str, float]]) -> dict[str, float]:
    return {name: math.fsum(one[name] for one in terms) / len(terms) for name in terms[0]}


KIND = WorldModel
