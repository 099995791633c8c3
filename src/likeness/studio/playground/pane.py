"""One square of the playground: a run in memory, stepped by the training loop's own step, and what is to be
seen of it.

Everything drawn is a function of the weights and of fixed noise, so that two panes differ by their weights
alone, and a snapshot that is put back gives the same points to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ... import engine
from ...core import Batch, Condition, Decodes, Denoises, Model, Noise, Samples, Scores
from ...data import Data
from ...parts.adversarial import GAMES, packed
from ...runs.run import Config, Run
from ...training import loop
from . import dirac, meters, points

DRAWN = 512
"""points of each kind that are shown and measured"""
SIDE = 48
"""of the heat map"""
MESH = 13
"""lines of the warped grid in each direction"""
REST = 40
"""frames between two densities that are slow to compute"""
ARROWS = 14
"""a side of the lattice at which a denoiser's arrows stand"""
SLOPES = ("minimax", "nonsaturating")
"""the games whose pull on G is compared under one D"""


@runtime_checkable
class Duel(Protocol):
    """A model of two networks, the second of which judges what the first draws."""

    G: nn.Module
    D: nn.Module


@dataclass(frozen=True)
class Snapshot:
    """Where a pane is: its numbers in one piece, and how many of them each optimiser had by then."""

    seen: int
    numbers: Tensor
    moved: tuple[str, ...]
    """players whose optimiser has a memory already"""
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return self.numbers.numel() * 4


class Pane:
    """A run in memory on some data.  Raises Refusal for options that do not go together."""

    def __init__(self, config: Config, data: Data, draw_seed: int = 0):
        self.run = Run.in_memory(config)
        self.data = data.usable(self.run.student.takes)
        self.run.student.train()
        self.average = False
        """whether the EMA of the weights is shown, and not the weights themselves"""
        self.steps = {p.name: 0 for p in self.run.players}
        self.terms: dict[str, float] = {}
        self.diverged = ""
        self._last: dict[str, Tensor] | None = None
        self._density: tuple[int, np.ndarray] | None = None
        self._seeds = range(DRAWN)
        self._key = engine.derive("sample", draw_seed)
        rows = self.data.train[np.arange(DRAWN) % len(self.data.train)]
        self.real = points.plane(self.data, rows).numpy()
        self._real_masses = (
            meters.masses(points.plane(self.data, self.data.train).numpy(), 1.0) if self.flat else None
        )
        self.floor = (
            meters.js_floor(points.plane(self.data, self.data.train).numpy(), DRAWN) if self.flat else 0.0
        )

    # What it is

    @property
    def model(self) -> Model:
        return self.run.model if self.average else self.run.student

    @property
    def config(self) -> Config:
        return self.run.config

    @property
    def flat(self) -> bool:
        """Its points lie in the plane; those of the Dirac-GAN are on a line."""
        return self.config.spec.dims == 2

    @property
    def step_count(self) -> int:
        return max(self.steps.values())

    @property
    def duel(self) -> bool:
        return isinstance(self.run.student, Duel)

    @property
    def quick(self) -> bool:
        """Whether decode() is one pass through a network, and no way of many steps."""
        return not isinstance(self.run.student, Denoises)

    # Training

    def step(self, who: Collection[str] = ()) -> None:
        """One step of every player, or of some; nothing once a number is no longer one."""
        if self.diverged:
            return
        terms = loop.step(self.run, self.data, who)
        self.run.window = {}
        for player in self.run.players:
            if not who or player.name in who:
                self.steps[player.name] += player.steps
        self._last = terms

    def check(self) -> None:
        """Read the terms of the last step; where one is no number the pane stands still, and says so."""
        terms = self._last
        if terms is None or self.diverged:
            return
        names, values = list(terms), torch.stack([t.float() for t in terms.values()]).tolist()
        self.terms = dict(zip(names, values))
        if bad := [name for name, value in self.terms.items() if not math.isfinite(value)]:
            self.diverged = f"diverged at step {self.step_count:,}: {bad[0]} is no longer a number"

    # The past

    def numbers(self) -> Iterator[Tensor]:
        """All that moves: weights, buffers, the EMA, the optimisers' memories; in an order of their own."""
        for module in (self.run.student, self.run.model):
            yield from module.parameters()
            yield from module.buffers()
        for player in self.run.players:
            state = self.run.optimizers[player.name].state
            for p in player.module.parameters():
                yield from (v for v in state.get(p, {}).values() if isinstance(v, Tensor))

    def snapshot(self) -> Snapshot:
        numbers = torch.cat([t.detach().reshape(-1) for t in self.numbers()])
        moved = tuple(name for name, o in self.run.optimizers.items() if o.state)
        return Snapshot(self.run.seen, numbers, moved, dict(self.steps))

    @torch.no_grad()
    def restore(self, then: Snapshot) -> None:
        """As it was, to the bit."""
        self.diverged = ""
        for name, optimizer in self.run.optimizers.items():
            if name not in then.moved:
                optimizer.state.clear()
            elif not optimizer.state:  # a step makes the memory that the numbers are put into
                with torch.enable_grad():
                    self.step((name,))
        there = list(self.numbers())
        for t, part in zip(there, then.numbers.split([t.numel() for t in there]), strict=True):
            t.copy_(part.view_as(t))
        self.run.seen, self.steps = then.seen, dict(then.steps)
        self._last, self._density = None, None
        self.terms = {}

    def fork(self, config: Config) -> tuple[Pane, list[str]]:
        """Another pane with other options, at the same place: each number that has a counterpart of the same
        shape is taken over, optimisers' memories among them.  And what begins anew."""
        other = Pane(config, self.data)
        other.run.seen, other.steps, other.average = self.run.seen, dict(self.steps), self.average
        fresh = set[str]()
        for mine, yours in ((self.run.student, other.run.student), (self.run.model, other.run.model)):
            fresh |= adopt(mine, yours)
        for player in other.run.players:
            if player.name in self.run.optimizers:
                _adopt_memory(self.run, other.run, player.name)
        return other, sorted(fresh)

    # What is to be seen

    @contextmanager
    def answering(self) -> Iterator[Model]:
        model = self.model
        was = model.training
        model.eval()
        try:
            with torch.no_grad():
                yield model
        finally:
            model.train(was)

    def fakes(self) -> Tensor:
        """(DRAWN, 2), or (DRAWN, 1): of the same noise, whatever the weights."""
        with self.answering() as model:
            x = torch.zeros(0)
            assert isinstance(model, Samples)
            for x in model.sample(Noise(self._seeds, self._key)):  # noqa: B007
                pass
        return points.unit(self.data) * x.flatten(1)

    def logits(self, x: Tensor) -> Tensor:
        """D of points (n, 2), (n,): as it judges, without the noise and the changes of a training step."""
        model: Any = self.run.student
        pack = int(getattr(model, "pack", 1))
        images = (x / points.unit(self.data)).view(-1, *self.config.spec.shape).repeat_interleave(pack, 0)
        y = None
        if "label" in model.takes:
            y = Condition(torch.zeros(len(x), dtype=torch.int64))
        out: Tensor = model.D(packed(images, pack), y)
        return out.view(-1)

    @torch.no_grad()
    def heat(self) -> Tensor:
        """sigmoid D on the lattice of SIDE x SIDE cells, (SIDE, SIDE) from 0 to 1, from the top."""
        return self.logits(points.lattice(SIDE)).sigmoid().view(SIDE, SIDE)

    def pulls(self, fakes: Tensor) -> tuple[dict[str, float], Tensor]:
        """Median |dL_G/dx| at generated points (n, 2) by the losses of SLOPES and by that of the game
        itself, all under the same D; and -dL_G/dx of the game (n, 2).

        L_G of a point alone, as if the batch held no other: the mean over a batch of B has 1/B of it."""
        x = fakes.detach().requires_grad_()
        f = self.logits(x)
        (slope,) = torch.autograd.grad(f.sum(), x)
        logit, norm = f.detach(), slope.norm(dim=1)
        game = str(getattr(self.run.student, "game", "relativistic"))
        with torch.no_grad():
            r = self.logits(torch.from_numpy(self.real[: len(fakes)]))
        by = {name: by_logit(name, logit, r) for name in {*SLOPES, game}}
        return {name: float((b.abs() * norm).median()) for name, b in by.items()}, -by[game][:, None] * slope

    @torch.no_grad()
    def warp(self) -> Tensor | None:
        """Where decode() takes a mesh of codes, (MESH, MESH, 2); None where a code is not two numbers."""
        model = self.run.student
        if not (isinstance(model, Decodes) and model.latent == 2 and self.flat) or "label" in model.takes:
            return None
        return self._decoded(_mesh()).view(MESH, MESH, 2)

    @torch.no_grad()
    def lines(self, n: int = 64) -> Tensor | None:
        """Codes and what decode() makes of them, (n, 2, 2)."""
        model = self.run.student
        if not (isinstance(model, Decodes) and model.latent == 2 and self.flat) or "label" in model.takes:
            return None
        z = Noise(range(n), self._key).normal(2)
        return torch.stack([z / 2, self._decoded(z)], 1)

    def _decoded(self, z: Tensor) -> Tensor:
        with self.answering():
            model: Any = self.model
            return points.unit(self.data) * model.decode(z).flatten(1)

    @torch.no_grad()
    def field(self, share: float = 0.5) -> Tensor | None:
        """Of a denoiser: places of a lattice, and where the point is expected that was there when `share` of
        the way to noise was gone, (n, 2, 2); None of other models."""
        model: Any = self.run.student
        if not isinstance(model, Denoises) or not hasattr(model, "levels"):
            return None
        levels = model.levels(20)
        level = levels[min(len(levels) - 2, round((1 - share) * (len(levels) - 1)))]
        at = points.lattice(ARROWS)
        with self.answering() as answers:
            asked: Any = answers
            images = at.view(-1, *self.config.spec.shape) / points.unit(self.data)
            to = asked.denoise(images, torch.full((len(at),), level.t)).flatten(1)
        return torch.stack([at, points.unit(self.data) * to], 1)

    def density(self) -> np.ndarray | None:
        """How likely each cell of the lattice is, relative to the likeliest, (SIDE, SIDE), of a model of
        brightness that scores images; computed now and then."""
        model = self.run.student
        if not (isinstance(model, Scores) and self.data.levels):
            return None
        if self._density is None or self.run.seen - self._density[0] >= REST * self.config.training.batch:
            x = (points.lattice(SIDE) / points.REACH + 1) * (points.LEVELS - 1) / 2
            images = (x.round() * 2 / (points.LEVELS - 1) - 1).view(-1, 2, 1, 1)
            with self.answering() as model:
                batch = Batch(images, None, Noise(range(len(images)), 7))
                nats = model.bits_per_dim(batch).values * 2 * math.log(2)  # type: ignore[operator]
            self._density = self.run.seen, (nats.min() - nats).exp().view(SIDE, SIDE).numpy()
        return self._density[1]

    # Meters

    def measure(self, fakes: Tensor, pulls: dict[str, float]) -> dict[str, Any]:
        """The meters of the last step: see meters.py; n is DRAWN of each kind."""
        x = fakes.numpy()
        out: dict[str, Any] = dict(step=self.step_count, seen=self.run.seen, n=len(x), losses=self.losses())
        if not self.flat:
            return out
        p, q = meters.masses(x, 1.0), self._real_masses
        assert q is not None
        out |= dict(
            js=meters.js(meters.masses(x), q),
            js_floor=self.floor,
            kl=meters.kl(q, p),
            reverse_kl=meters.kl(p, q),
        )
        out |= dict(w2=meters.sliced_w2(x, self.real), pulls=pulls)
        if (law := self.data.modes) is not None:
            sigma = math.hypot(law.sigma, points.REACH / points.LEVELS if self.data.levels else 0.0)
            hit, share = meters.modes(x, law.centres, sigma)
            out |= dict(modes=hit, of=len(law.centres), on_modes=share)
        if self.duel:
            with torch.no_grad():
                r, f = self.logits(torch.from_numpy(self.real)), self.logits(fakes)
            middle = 0.5 if getattr(self.run.student, "game", "") == "least-squares" else 0.0
            out |= dict(d_real=float((r > middle).float().mean()), d_fake=float((f < middle).float().mean()))
        return out

    def losses(self) -> dict[str, float]:
        names = [p.name for p in self.run.players]
        return {name: self.terms[name] for name in names if name in self.terms}

    def place(self) -> tuple[float, float]:
        """(theta, psi) of the Dirac-GAN."""
        model = self.run.student
        assert isinstance(model, dirac.Dirac)
        return float(model.G.value.detach()), float(model.D.value.detach())


def by_logit(name: str, f: Tensor, r: Tensor) -> Tensor:
    """d L_G / d D(x) at generated points of logits f (n,), r those of real ones, for each as if it were
    alone."""
    at = f.detach().requires_grad_()
    with torch.enable_grad():
        loss = GAMES[name].generator(r[: len(f)].detach(), at).sum()
        (slope,) = torch.autograd.grad(loss, at)
    return slope


def adopt(source: nn.Module, target: nn.Module) -> set[str]:
    """Copy what both have in the same shape; the names of the rest of the target.  A weight that --spectral
    keeps under another name is the same weight."""
    there = {plain(name): t for name, t in source.state_dict().items()}
    fresh = set[str]()
    with torch.no_grad():
        for name, t in target.state_dict().items():
            other = there.get(plain(name))
            if other is not None and other.shape == t.shape:
                t.copy_(other)
            elif "parametrizations" not in name or name.endswith("original"):
                fresh.add(plain(name))
    return fresh


def plain(name: str) -> str:
    """Of a weight, whether it is divided by its largest singular value or not."""
    if name.endswith(".original"):
        return name.replace("parametrizations.", "").removesuffix(".original")
    return name


def _adopt_memory(source: Run, target: Run, player: str) -> None:
    modules = [{p.name: p.module for p in run.players}[player] for run in (source, target)]
    own = {plain(name): p for name, p in modules[0].named_parameters()}
    before, after = source.optimizers[player].state, target.optimizers[player].state
    for name, p in modules[1].named_parameters():
        other = own.get(plain(name))
        if other is not None and other.shape == p.shape and other in before:
            after[p] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in before[other].items()}


def _mesh() -> Tensor:
    along = torch.linspace(-2, 2, MESH)
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)
