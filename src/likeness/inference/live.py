"""A search among codes that goes on while strokes are drawn.

manifold.py minimises eq. 5 of Zhu et al. 2016 for strokes that are known; here they change under way, and each new
one is taken into the running search: the candidates go on from where they are, and their start z_0, which they are
held to, stays.  The first steps after a change are those of the leading candidate alone, since it is looked at; then
all move in one batch.  Each walks by Adam (Kingma & Ba 2015), begun anew with every change, at a rate that falls to
nothing along half a cosine of LONG steps: then the search is at rest, until something is drawn.

What the candidates were under the same strokes before comes back to the bit: undo is exact.
"""  # noqa: E501

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .. import engine
from ..core import Decodes, Model
from . import inversion
from .constraints import Constraints, compiled
from .manifold import LOOKED, RATE, How, Search, around, as_seen, check, projecting, reordered
from .strokes import Stroke

LONG = 240
"""steps after a change, until the search is at rest"""
LOOKED_SMALL = 96
"""samples among which a search without an image begins, of more than 32 pixels a side"""
REMEMBERED = 64 << 20
"""bytes of images of the states that undo may lead back to"""
NOTHING: Any = ((), ())
"""what is asked before the first stroke"""
BETAS, TINY = (0.9, 0.999), 1e-8


class Began(NamedTuple):
    """An image, as far as it is projected."""

    share: float
    """of the work that is done"""
    x: Tensor
    """(C, H, W): as the model has it so far"""


class _State(NamedTuple):
    """Where all candidates are, under some strokes."""

    best: Tensor
    least: Tensor
    order: Tensor
    age: Tensor
    images: Tensor
    search: Search


class Live:
    """The search of one run from one image (C, H, W), or from samples.  begin() first."""

    def __init__(self, model: Model, start: Tensor | None, how: How, guess: Any = None):
        self.model, self.how, self.guess = model, how, guess
        self.device = torch.device(engine.device())
        self.start = None if start is None else start.to(self.device)
        self.back: Tensor | None = None
        """(C, H, W): the image as the model has it"""
        self.note = ""
        self.lead = 0
        """the candidate that is looked at, if somebody has picked it; else the best is"""
        self.picked = False
        self.c: Constraints | None = None
        self.key: Any = NOTHING
        self.kept = OrderedDict[Any, _State]()

    @property
    def wrong(self) -> float | None:
        """Of the projection: root mean square in grey levels of 255."""
        if self.back is None or self.start is None:
            return None
        return float((self.back - self.start.cpu()).square().mean().sqrt()) * 127.5

    def begin(self) -> Iterator[Began]:
        """Find where the candidates begin: projection of the image, or the drawing of samples."""
        decode, seed = cast(Decodes, self.model).decode, self.how.seed
        with torch.no_grad():
            if self.start is None:
                many = LOOKED if self.model.spec.size <= 32 else LOOKED_SMALL
                self.pool = inversion.draws(self.model, engine.sampling_noise(seed, 0, many))
                self.drawn = torch.cat([decode(part) for part in self.pool.split(inversion.AT_ONCE)])
                self._from(self.pool[: self.how.n], self.drawn[: self.how.n])
                return
            noise = engine.sampling_noise(seed, 0, inversion.among(self.model))
            steps = inversion.STEPS
            for at, code in enumerate(projecting(self.model, self.start[None], noise, steps, self.guess)):
                if at % 10 == 0:
                    yield Began(min(at / (1.5 * steps), 1.0), decode(code.z)[0].float().cpu())
            self.back, self.note = as_seen(self.model, code, self.start, self.guess)
            z = around(self.model, code.z, self.how)
            self._from(z, decode(z))

    def _from(self, z: Tensor, x: Tensor) -> None:
        self.search, n = Search(self.model, z), len(z)
        self.u, self.best = self.search.u0.clone(), self.search.u0.clone()
        self.images = x.float()
        self.least = torch.full((n,), math.inf, device=z.device)
        self.order = torch.arange(n)
        self._anew()

    def _anew(self) -> None:
        """Adam without a memory."""
        self.m, self.v = torch.zeros_like(self.u), torch.zeros_like(self.u)
        self.age = torch.zeros(len(self.u), 1, device=self.u.device)

    # What is asked

    def ask(self, strokes: Sequence[Stroke], weights: Mapping[str, float] | None = None) -> None:
        """Search for these from now on.  Raises Refusal, and goes on with what was asked before."""
        key = (tuple(strokes), tuple(sorted((weights or {}).items()))) if strokes else NOTHING
        if key == self.key:
            return
        c = None
        if strokes:
            spec, start = self.model.spec, self.start if self.back is None else self.back
            start = None if start is None else start.cpu()
            c = compiled(strokes, spec.channels, spec.size, start, dict(weights or {})).to(self.device)
            check(self.model, c)
        self._keep()
        first, self.c, self.key = self.c is None, c, key
        if key in self.kept:
            self._return(self.kept[key])
        else:
            if first and self.start is None and c is not None:
                self._choose(c)
            self.u = self.best.clone()
            self.least = torch.full_like(self.least, math.inf)
            self._anew()

    def _keep(self) -> None:
        best, least, age, images = (t.clone() for t in (self.best, self.least, self.age, self.images))
        state = _State(best, least, self.order, age, images, self.search)
        self.kept[self.key] = state
        self.kept.move_to_end(self.key)
        while len(self.kept) > max(4, REMEMBERED // (self.images.numel() * 4)):
            self.kept.pop(next(key for key in self.kept if key != NOTHING))

    def _return(self, state: _State) -> None:
        best, least, order, age, images, self.search = state
        self.best, self.least, self.order, self.images = best.clone(), least.clone(), order, images.clone()
        self.u = self.best.clone()
        self._anew()
        self.age = age.clone()

    @torch.no_grad()
    def _choose(self, c: Constraints) -> None:
        """Of drawn codes those that are nearest to what is asked: a guess that costs no step."""
        off = torch.cat([c.loss(part) for part in self.drawn.split(inversion.AT_ONCE)])
        first = off.argsort()[: self.how.n]
        self.search = Search(self.model, self.pool[first], self.search.judge)
        self.best, self.images = self.search.u0.clone(), self.drawn[first].float()

    def pick(self, k: int | None) -> None:
        """Let candidate k lead, by where it began; None: the best."""
        self.picked, self.lead = k is not None, int(self.order[0]) if k is None else k

    # The way

    @property
    def resting(self) -> bool:
        return self.c is None or bool((self.age > LONG).all())

    def quick(self, seconds: float) -> None:
        """The leading candidate alone, for so long, but two looks at least: the first shows where it was."""
        if not self.picked:
            self.lead = int(self.order[0])
        self._walk(seconds, torch.tensor([self.lead], device=self.u.device), 2)

    def walk(self, seconds: float) -> None:
        """All candidates, for so long, but one step at least."""
        self._walk(seconds, torch.arange(len(self.u), device=self.u.device), 1)
        if not self.picked:
            self.lead = int(self.order[0])

    def _walk(self, seconds: float, rows: Tensor, least: int) -> None:
        end, looks = time.perf_counter() + seconds, 0
        while not self.resting and (looks < least or time.perf_counter() < end):
            self._look(rows)
            looks += 1
        if len(rows) > 1:
            self.order = reordered(self.order, self.least.cpu())

    def _look(self, rows: Tensor) -> None:
        """The loss where these candidates are, and a step from there."""
        assert self.c is not None
        u = self.u[rows]
        with torch.enable_grad():
            at = u.detach().requires_grad_()
            loss, x = self.search.loss(self.c, at, rows)
            (slope,) = torch.autograd.grad(loss.sum(), at)
        loss = loss.detach()
        better = loss.nan_to_num(math.inf) < self.least[rows]
        gained = rows[better]
        self.least[gained], self.best[gained], self.images[gained] = (
            loss[better],
            u[better],
            x[better].float(),
        )
        self.age[rows] += 1
        age, m, v = self.age[rows], self.m[rows], self.v[rows]
        m = BETAS[0] * m + (1 - BETAS[0]) * slope
        v = BETAS[1] * v + (1 - BETAS[1]) * slope.square()
        rate = RATE * (1 + torch.cos(math.pi * (age / LONG).clamp(max=1))) / 2
        u = u - rate * (m / (1 - BETAS[0] ** age)) / ((v / (1 - BETAS[1] ** age)).sqrt() + TINY)
        self.search.ball.hold(u)
        self.u[rows], self.m[rows], self.v[rows] = u, m, v

    def way(self, k: int) -> Tensor:
        """Images from the start of candidate k to where it is: (T, C, H, W)."""
        return self.search.way(k, self.best[k])
