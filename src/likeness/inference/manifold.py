"""User edits on the manifold of images that a model has learnt: strokes say what to change, the model says what
an image is.

Zhu, Krähenbühl, Shechtman & Efros, "Generative Visual Manipulation on the Natural Image Manifold", 2016:

    z* = argmin_z  sum_g w_g |f_g(G(z)) - v_g|^2  +  w_s |z - z_0|^2  +  w_r R(G(z), z)                  (5)

What is asked for is constraints.py; what differs from family to family is how images are searched:

codes        gan, vae and others that decode: z by gradient, several candidates in one batch, each from a start of
             its own.  z_0 is that start, in the same numbers as z.  R: how far the discriminator's logit is below
             that of drawn images, in standard deviations, and how far z is longer than drawn ones.
sampling     diffusion and flow: from the painted image under noise (SDEdit, Meng et al. 2022), the noise of the
             first candidate being the image's own (inversion) and of the others ever less so; each step is pulled
             to the strokes by the gradient through the network (Song et al., "Pseudoinverse-Guided Diffusion
             Models", 2023), and what must not change is put in at each step.  R: what the network takes away of
             the result once more at a small noise.
completion   autoregressive: the pixels of the strokes and those that stay are fixed, the rest around the strokes
             is drawn (forced.py).  R: nats of what was drawn, a pixel.

A run of two stages is searched in its codes: the strokes are seen through the first stage.

Candidates are shown best first.  One overtakes another only where it is better by a margin (hysteresis), or
they would change places at each step; the order is never frozen.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import engine, models
from ..core import Compresses, Condition, Decodes, Denoises, Encodes, Model, Noise, Refusal, Samples, final
from ..engine.minimize import LBFGS, minimize
from ..parts import samplers
from ..parts.autoregressive import Autoregressive
from ..parts.denoising import Denoising
from ..parts.schedules import Level
from ..runs.latent_model import Within
from . import forced, inversion
from .constraints import Constraints
from .inversion import Ball, error, pixels, size

STEPS = {"codes": 80, "sampling": 40}
"""gradients, or steps from noise alone"""
CANDIDATES = 8
STRENGTH = 0.6
RATE = 0.15
SPREAD = 0.4
"""standard deviation of where candidates begin around the code of an image"""
LOOKED = 256
"""samples among which a search without an image begins at the best"""
PARTICLES = 4
"""images drawn for each candidate, where pixels are fixed"""
MARGIN = 0.1
"""share by which a candidate must be better to overtake another"""
FRAMES = 16
POLISH = 150
"""gradients of L-BFGS at the end of a projection, at most"""
IDLE = 15
"""of these without a gain, after which it ends"""
FAMILIES = {
    "codes": "a search among codes",
    "sampling": "guided sampling from noise",
    "completion": "completion of fixed pixels",
}


@dataclass(frozen=True)
class How:
    """What was asked for, beside the strokes."""

    n: int = CANDIDATES
    steps: int = 0
    """0: as many as the family usually takes"""
    strength: float = STRENGTH
    """of sampling: the share of the way to noise from which an image is drawn again"""
    seed: int = 0
    pick: int = 1
    """the candidate whose way is shown, and which is carried over to a photograph: 1 is the best"""

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 64:
            raise Refusal(f"{self.n} candidates are not made at once; -n is from 1 to 64.")
        if not 1 <= self.pick <= self.n:
            raise Refusal(f"there is no candidate {self.pick} of {self.n}; --pick is from 1 to {self.n}.")
        if not 0 < self.strength <= 1:
            raise Refusal(
                f"--strength {self.strength:g} is no share of the way to noise; type one above 0, as 0.6."
            )


class State(NamedTuple):
    """Candidates in order, the best first."""

    share: float
    """of the work that is done"""
    x: Tensor
    """(K, C, H, W)"""
    off: Tensor
    """(K,): the loss"""
    order: Tensor
    """(K,): which candidate stands where"""


@dataclass(frozen=True, eq=False)
class Painted:
    """What became of the strokes."""

    x: Tensor
    """(K, C, H, W) in memory, the best first"""
    off: Tensor
    """(K,): what they were ordered by"""
    terms: dict[str, Tensor]
    """(K,) each"""
    way: Callable[[int], Tensor]
    """(T, C, H, W) of the candidate that stands there, from 0 on: how it came about"""
    family: str
    start: Tensor | None
    """(C, H, W): the image that was drawn on"""
    back: Tensor | None
    """(C, H, W): as near as the model comes to it, where it is searched for"""
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    pick: int = 0
    """where the candidate stands that somebody chose"""

    @property
    def film(self) -> Tensor:
        """(T, C, H, W): the chosen candidate on its way"""
        return self.way(self.pick)

    @property
    def wrong(self) -> float | None:
        """Of the projection: root mean square in grey levels of 255."""
        if self.back is None or self.start is None:
            return None
        return float((self.back - self.start).square().mean().sqrt()) * 127.5


# Who can


def stages(model: Model) -> tuple[Model, Any]:
    """The model that is searched, and the first stage in whose codes it is, or None."""
    if isinstance(model, Within):
        turned = isinstance(model._inner, Denoising | Autoregressive)
        return model._turned() if turned else model, model._first
    return model, None


def family(model: Model) -> str:
    """Which of FAMILIES, by what the model answers.  Raises Refusal for the others, with those that can."""
    spec, name = model.spec, type(stages(model)[0]).__name__.lower()
    if spec.points or spec.frames:
        raise Refusal(
            f"strokes are drawn on images, and this {name} has learnt "
            f"{'points' if spec.points else 'videos'}."
        )
    if "image" in spec.parts(model.takes):
        raise Refusal(
            f"this {name} answers about an image beside another; strokes are for single images.  {_who()}"
        )
    inner, _ = stages(model)
    if (result := _family(type(inner))) and (result != "codes" or isinstance(model, Decodes)):
        return result
    if isinstance(model, Compresses) and model.code.symbols:
        raise Refusal(
            f"{name} only compresses: it has no law of images to stay near; train a model of its codes, "
            "likeness train pixelcnn RUN, and name that run."
        )
    raise Refusal(f"{name} cannot draw an image around strokes.  {_who()}")


def _family(kind: type) -> str:
    if issubclass(kind, Denoising) and issubclass(kind, Denoises):
        return "sampling"
    if issubclass(kind, Autoregressive):
        return "completion"
    codes = hasattr(kind, "decode") and not hasattr(kind, "expand") and not hasattr(kind, "compress")
    return "codes" if codes else ""


def _who(*families: str) -> str:
    """The end of a refusal: which models are of these families, or of any."""
    able = [
        name
        for name in models.NAMES
        if (f := _family(kind := models.load(name)))
        and not kind.videos
        and not kind.needs
        and f in (families or FAMILIES)
    ]
    return f"These do: {', '.join(able)}."


def check(model: Model, c: Constraints) -> str:
    """family(), refused where it cannot do these strokes."""
    kind = family(model)
    name = type(stages(model)[0]).__name__.lower()
    if kind == "completion" and c.edges is not None:
        raise Refusal(
            f"a sketch says where edges are, and fixes no pixel; {name} draws around pixels that are fixed.  "
            + _who("codes", "sampling")
        )
    if c.start is None and kind == "codes" and not isinstance(model, Samples):
        raise Refusal(
            f"{name} has no law of codes to draw a first image from; name one: likeness paint RUN IMAGE"
        )
    return kind


# The way there


def painting(
    model: Model,
    c: Constraints,
    how: How = How(),
    guess: Callable[[Tensor], Tensor | None] | None = None,
) -> Iterator[State | Painted]:
    """Yield ever better candidates, and at the end what became of the strokes.  guess: an encoder of the
    run's own, for a model that has none."""
    kind = check(model, c)
    c = c.to(torch.device(engine.device()))
    if kind == "codes":
        states = _in_codes(model, c, how, guess)
    else:
        states = _by_sampling(model, c, how) if kind == "sampling" else _by_completion(model, c, how)
    for at in states:
        yield replace(at, pick=how.pick - 1) if isinstance(at, Painted) else at


def paint(model: Model, c: Constraints, how: How = How(), **more: Any) -> Painted:
    """The end of painting()."""
    result = final(painting(model, c, how, **more))
    assert isinstance(result, Painted)
    return result


def reordered(order: Tensor, off: Tensor, margin: float = MARGIN) -> Tensor:
    """Candidates in order of their loss off (K,), beginning with the order there was, int64 (K,): a candidate
    passes the one before it only where its loss is less by `margin` of that one's."""
    result, losses = order.tolist(), off.nan_to_num(math.inf).tolist()
    moved = True
    while moved:
        moved = False
        for i in range(len(result) - 1):
            ahead, behind = losses[result[i]], losses[result[i + 1]]
            if behind < (1 - margin) * ahead:
                result[i], result[i + 1], moved = result[i + 1], result[i], True
    return torch.tensor(result, dtype=torch.int64)


def _painted(
    c: Constraints, x: Tensor, off: Tensor, kind: str, way: Callable[[int], Tensor], **more: Any
) -> Painted:
    terms = {name: term.cpu() for name, term in c.terms(x).items()}
    start = None if c.start is None else c.start.cpu()
    return Painted(x.cpu(), off.cpu(), terms, way, kind, start, more.pop("back", None), **more)


# Among codes


@torch.no_grad()
def project(
    model: Model,
    x: Tensor,
    noise: Noise,
    steps: int = inversion.STEPS,
    guess: Callable[[Tensor], Tensor | None] | None = None,
) -> inversion.Codes:
    """The end of projecting()."""
    return final(projecting(model, x, noise, steps, guess))


def projecting(
    model: Model,
    x: Tensor,
    noise: Noise,
    steps: int = inversion.STEPS,
    guess: Callable[[Tensor], Tensor | None] | None = None,
) -> Iterator[inversion.Codes]:
    """Ever better codes of images x (B, C, H, W): inversion.project, and from the best of its ends on by
    L-BFGS, as far as that stays within the prior's ball."""
    best = inversion.Codes(x.new_zeros(0), x.new_zeros(0))
    for best in inversion.project(model, x, noise, steps=steps, guess=guess):
        yield best
    latent = int(cast(Decodes, model).latent)
    ball = Ball(math.inf) if isinstance(model, Encodes) else Ball.of_prior(latent)
    u, rest = best.z.split([latent, best.z.shape[1] - latent], 1)
    target = pixels(x)

    def loss(z: Tensor) -> Tensor:
        return error(pixels(cast(Decodes, model).decode(torch.cat([z, rest], 1))), target)

    idle = 0
    for state in minimize([u], loss, POLISH, 0.05, optimizer=LBFGS):
        z = state.at[0].clone()
        ball.hold(z)
        off = loss(z) if not torch.equal(z, state.at[0]) else state.loss
        better = off.nan_to_num(math.inf) < best.error
        idle = 0 if bool((off < (1 - 1e-5) * best.error).any()) else idle + 1
        best = inversion.Codes(
            torch.where(better[:, None], torch.cat([z, rest], 1), best.z),
            torch.where(better, off, best.error),
        )
        yield best
        if idle > IDLE:
            break


class Search:
    """Candidates on their way among codes: their numbers u (K, latent), each in units of its own size."""

    def __init__(self, model: Model, z: Tensor, judge: Callable[[Tensor, Tensor], Tensor] | None = None):
        """z (K, ...): where they begin, as decode() takes them.  judge: realism() of this model."""
        self.decode, latent = cast(Decodes, model).decode, int(cast(Decodes, model).latent)
        prior = isinstance(model, Samples)
        u, self.rest = z.split([latent, z.shape[1] - latent], 1)
        self.scale = torch.ones_like(u[:, :1]) if prior else size(u)
        drawn = prior and not isinstance(model, Encodes)
        self.ball = Ball.of_prior(latent) if drawn else Ball(math.inf)
        self.u0 = u / self.scale
        self.judge = (judge or realism(model)) if prior else None

    def whole(self, u: Tensor, rows: Any = slice(None)) -> Tensor:
        """As decode() takes them; u may be of some rows alone."""
        return torch.cat([self.scale[rows] * u, self.rest[rows]], 1)

    def loss(self, c: Constraints, u: Tensor, rows: Any = slice(None)) -> tuple[Tensor, Tensor]:
        """Of candidates u (B, latent), the rows of all: (B,), and their images (B, C, H, W)."""
        whole = self.whole(self.ball.slide(u), rows)
        x = self.decode(whole)
        total = c.loss(x) + c.weights["smooth"] * (u - self.u0[rows]).square().mean(1)
        return total + c.weights["realism"] * self.judge(x, whole) if self.judge else total, x.detach()

    def way(self, k: int, u: Tensor) -> Tensor:
        """Images on the straight line from the start of candidate k to u (latent,): (FRAMES, C, H, W)."""
        share = torch.linspace(0, 1, FRAMES, device=u.device)[:, None]
        path = self.scale[k] * torch.lerp(self.u0[k], u, share)
        with torch.no_grad():
            return self.decode(torch.cat([path, self.rest[k].expand(FRAMES, -1)], 1)).float().cpu()


def _in_codes(
    model: Model, c: Constraints, how: How, guess: Callable[[Tensor], Tensor | None] | None
) -> Iterator[State | Painted]:
    with torch.no_grad():
        z, back, notes = _first_codes(model, c, how, guess)
        photo = c.start
        if back is not None:  # what stays is what the model has of the image; how far that is off is told
            c = c.on(back).to(z.device)
    search, shown = Search(model, z), dict[str, Tensor]()
    u0 = search.u0

    def loss(u: Tensor) -> Tensor:
        total, shown["x"] = search.loss(c, u)
        return total

    steps, order = how.steps or STEPS["codes"], torch.arange(len(u0))
    least, best, images = torch.full((len(u0),), math.inf, device=u0.device), u0, None
    for state in minimize([u0], loss, steps, RATE, hold=search.ball.hold):
        better = state.loss.nan_to_num(math.inf) < least
        least = torch.where(better, state.loss, least)
        best = torch.where(better[:, None], state.at[0], best)
        images = (
            shown["x"] if images is None else torch.where(better[:, None, None, None], shown["x"], images)
        )
        order = reordered(order, least.cpu())
        yield State(state.step / max(1, steps), images[order], least[order], order)
    assert images is not None
    which, ends = order, best

    def way(at: int) -> Tensor:
        k = int(which[at])
        return search.way(k, ends[k])

    made = _painted(c, images[order].float(), least[order], "codes", way, back=back, notes=notes)
    yield replace(made, start=None if photo is None else photo.cpu())


def _first_codes(
    model: Model, c: Constraints, how: How, guess: Callable[[Tensor], Tensor | None] | None
) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Where the candidates begin, (K, ...), and the projection of the image, if there is one."""
    if c.start is None:
        z = inversion.draws(model, engine.sampling_noise(how.seed, 0, max(LOOKED, how.n)))
        off = torch.cat([c.loss(cast(Decodes, model).decode(part)) for part in z.split(inversion.AT_ONCE)])
        return z[off.argsort()[: how.n]], None, ()
    noise = engine.sampling_noise(how.seed, 0, inversion.among(model))
    code = project(model, c.start[None], noise, guess=guess)
    back, note = as_seen(model, code, c.start, guess)
    return around(model, code.z, how), back, (note,)


def as_seen(
    model: Model, code: inversion.Codes, start: Tensor, guess: Callable[[Tensor], Tensor | None] | None
) -> tuple[Tensor, str]:
    """What the model has of an image (C, H, W), whose code was searched for, and how far that is off."""
    found_by = "its encoder" if isinstance(model, Encodes) else "optimisation"
    asked = guess or getattr(model, "guess", None)
    if not isinstance(model, Encodes) and asked is not None and asked(start[None]) is not None:
        found_by = "an encoder's guess, then optimisation"
    back = cast(Decodes, model).decode(code.z)[0].float().cpu()
    wrong = float((back - start.cpu()).square().mean().sqrt()) * 127.5
    return back, f"the image is projected by {found_by}, and is {wrong:.1f} grey levels off (rms)"


def around(model: Model, code: Tensor, how: How) -> Tensor:
    """Where the candidates begin (K, ...): a code (1, ...), and others around it."""
    latent = int(cast(Decodes, model).latent)
    z = code.expand(how.n, -1).clone()
    far = Noise(range(how.n), engine.derive("paint", how.seed), z.device).normal(latent)
    step = SPREAD if isinstance(model, Samples) else SPREAD * size(z[:, :latent])
    far[0] = 0
    z[:, :latent] += step * far
    return z


def realism(model: Model) -> Callable[[Tensor, Tensor], Tensor]:
    """R of images (B, C, H, W) and their codes (B, latent ...): (B,), 0 for what is as real as drawn ones."""
    latent = int(cast(Decodes, model).latent)
    judge = getattr(model, "D", None)
    alone = (
        isinstance(judge, nn.Module)
        and getattr(model, "pack", 1) == 1
        and not getattr(model, "spread", False)
    )

    def logits(x: Tensor, z: Tensor) -> Tensor:
        y = Condition(z[:, latent:].argmax(1)) if z.shape[1] > latent else None
        return cast(Tensor, cast(nn.Module, judge)(x, y))

    mean = std = torch.zeros(())
    if alone:
        with torch.no_grad():
            z = inversion.draws(model, engine.sampling_noise(0, 0, inversion.AT_ONCE))
            usual = logits(cast(Decodes, model).decode(z), z)
            mean, std = usual.mean(), usual.std().clamp(min=1e-3)

    def term(x: Tensor, z: Tensor) -> Tensor:
        longer = (z[:, :latent].square().mean(1) - 1).clamp(min=0)
        return longer + ((mean - logits(x, z)) / std).clamp(min=0).square() if alone else longer

    return term


# By sampling


def _by_sampling(model: Model, c: Constraints, how: How) -> Iterator[State | Painted]:
    inner, first = stages(model)
    able = cast(Denoising, inner)
    expand = (lambda z: z) if first is None else first.expand
    compress = _same if first is None else cast(Callable[[Tensor], Tensor], model._compressed)
    levels = able.schedule.levels(how.steps or max(STEPS["sampling"], able.fewest), "even")
    share = 1.0 if c.start is None else how.strength
    ahead = levels[-1 - max(1, round(share * (len(levels) - 1))) :]
    known, z_start, x_t = _noisy(able, c, how, ahead, compress)
    noise = Noise(range(how.n), engine.derive("paint walk", how.seed), engine.device())
    film, order, x, off = list[Tensor](), torch.arange(how.n), None, None
    denoise = _guided(able, c, expand, known, z_start, {level.t: level for level in ahead})
    for number, state in enumerate(samplers.ddim(denoise, ahead, x_t, noise, eta=1.0), 1):
        with torch.no_grad():
            x = expand(state.x if state.at.sigma == 0 else state.x_0).float()
            x = x.clamp(-1, 1) if model.spec.levels else x
            off = c.loss(x)
        order = reordered(order, off.cpu())
        film.append(x.cpu())
        yield State(number / (len(ahead) - 1), x[order], off[order], order)
    assert x is not None and off is not None
    off = off + c.weights["realism"] * _unlikely(able, compress(x))
    order = reordered(order, off.cpu(), 0.0)
    which = order

    def way(at: int) -> Tensor:
        own = torch.stack([frame[which[at]] for frame in film])
        return own if c.start is None else torch.cat([c.start.cpu()[None], own])

    yield _painted(c, x[order], off[order], "sampling", way)


def _same(x: Tensor) -> Tensor:
    return x


def _noisy(
    model: Denoising, c: Constraints, how: How, ahead: list[Level], compress: Callable[[Tensor], Tensor]
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """What is known of the codes, bool (H, W); these, (1, ...); and where the candidates begin, (K, ...)."""
    fresh = Noise(range(how.n), engine.derive("paint noise", how.seed), engine.device())
    if c.start is None:
        return None, None, samplers.start(ahead, fresh, *model.spec.shape)
    with torch.no_grad():
        image = c.start[None]
        z = compress(image)
        painted = compress(c.painted(image))
        eps, shape = fresh.normal(*model.spec.shape), z.shape[-2:]
        if ahead[0].alpha > 0.05:
            own = _own_noise(model, z, ahead)
            turn = torch.linspace(0, math.pi / 2, how.n, device=z.device)[:, None, None, None]
            eps = turn.cos() * own + turn.sin() * eps
        x_t = ahead[0].alpha * painted + ahead[0].sigma * eps
        stays = F.adaptive_max_pool2d(c.free.float()[None, None], shape)[0, 0] == 0
    return (stays if bool(stays.any()) else None), z, x_t


def _own_noise(model: Denoising, z: Tensor, ahead: list[Level]) -> Tensor:
    """The noise that the probability-flow equation leads from to an image (1, ...), at the first of the
    levels: DDIM backwards."""
    up = [level for level in reversed(ahead) if level.sigma]
    x = up[0].alpha * z
    for state in samplers.ddim(lambda x, t: model.denoise(x, t), up, x, Noise([])) if len(up) > 1 else ():
        x = state.x
    own = (x - up[-1].alpha * z) / up[-1].sigma
    return own / own.square().mean().sqrt().clamp(min=1e-3)


def _guided(
    model: Denoising,
    c: Constraints,
    expand: Callable[[Tensor], Tensor],
    known: Tensor | None,
    z_start: Tensor | None,
    levels: dict[float, Level],
) -> samplers.Denoise:
    """What image is expected, pulled to the strokes: x_0 - (alpha^2 + sigma^2) / (2 alpha) d/dx_t sum of
    squares (Song et al. 2023, eq. 7 and 8, with the operator's rows of length 1), no further than a whole
    range of brightness."""
    count = c.fixed.sum() if c.fixed.any() else torch.tensor(float(c.size))

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        here = levels[float(t[0])]
        with torch.enable_grad():
            at = x_t.detach().requires_grad_()
            x_0 = model.denoise(at, t)
            off = c.loss(expand(x_0))
            if not off.requires_grad:
                return x_0.detach()
            (slope,) = torch.autograd.grad(off.sum() * count * model.spec.channels, at)
        pull = (here.alpha**2 + here.sigma**2) / (2 * max(here.alpha, 0.05)) * slope
        longest = pull.abs().flatten(1).amax(1).view(-1, 1, 1, 1).clamp(min=1e-12)
        x_0 = x_0.detach() - pull * (2 / longest).clamp(max=1)
        x_0 = model.kept(x_0)
        return x_0 if known is None or z_start is None else torch.where(known, z_start, x_0)

    return denoise


@torch.no_grad()
def _unlikely(model: Denoising, z: Tensor) -> Tensor:
    """R: mean squared difference between images (K, ...) and what the network expects in them under a little
    noise, in units of that noise; one noise for all."""
    at = model.schedule.at([float(model.schedule.time(torch.tensor([0.3], dtype=torch.float64)))])[0]
    eps = Noise([0], engine.derive("paint realism", 0), z.device).normal(*z.shape[1:])
    expected = samplers.ask(lambda x, t: model.denoise(x, t), at.alpha * z + at.sigma * eps, at)
    return (expected - z).square().flatten(1).mean(1) / at.ratio**2


# By completion


def _by_completion(model: Model, c: Constraints, how: How) -> Iterator[State | Painted]:
    inner, first = stages(model)
    able = cast(Autoregressive, inner)
    nothing = (
        torch.full((1, *model.spec.shape), -1.0, device=c.free.device) if c.start is None else c.start[None]
    )
    painted, fixed = c.painted(nothing), ~c.free | c.fixed
    expand = (lambda z: z) if first is None else first.expand
    if first is None:
        z = _on_grid(painted[0], model.spec.levels)
    else:
        z = model._compressed(painted)[0]  # type: ignore[operator]
        fixed = _fixed_codes(c, z.shape[-1])
    particles = how.n if bool(_in_order(fixed)) else how.n * PARTICLES
    noise = Noise(range(particles), engine.derive("paint", how.seed), engine.device())
    drawn, order = None, torch.arange(how.n)
    free = ~fixed
    rows = free.any(1).nonzero()[:, 0].tolist()
    for number, drawn in enumerate(forced.conditioned(able, z, fixed, noise)):
        x = expand(drawn.x[: how.n]).float()
        yield State(min(1.0, number / max(1, len(rows))), x, c.loss(x), order)
    assert drawn is not None
    picked = _picked(drawn.x, drawn.log_weight, how.n)
    codes, y = drawn.x[picked], None if drawn.y is None else drawn.y[picked]
    x = expand(codes).float()
    nats = able.surprise(codes, y)[:, :, free].flatten(1).mean(1) if rows else x.new_zeros(how.n)
    off = c.loss(x) + c.weights["realism"] * nats
    order = off.argsort()
    notes = (
        ()
        if drawn.effective > 0.1
        else (
            f"what is fixed is surprising to the model: {drawn.effective:.0%} of drawn images counted, so "
            "that the candidates are a rough answer",
        )
    )

    def way(at: int) -> Tensor:
        with torch.no_grad():
            return cast(Tensor, expand(_revealed(codes[order[at]], z, free, rows)).cpu())

    yield _painted(c, x[order], off[order], "completion", way, notes=notes)


def _fixed_codes(c: Constraints, size: int) -> Tensor:
    """Which of size x size codes are those of painted(), bool: where nothing is free, and where strokes cover
    at least half, or more than anywhere else."""
    free, covered = (
        F.adaptive_avg_pool2d(mask.float()[None, None], size)[0, 0] for mask in (c.free, c.fixed)
    )
    there = (covered >= 0.5) | ((covered == covered.max()) & (covered > 0))
    return (free == 0) | there


def _picked(x: Tensor, log_weight: Tensor, n: int) -> Tensor:
    """n of the images (N, ...), int64 (n,): those that drawing by weight chooses, then the heaviest; no two
    alike, as long as there are others."""
    chosen = [*forced.resampled(log_weight, 0.5).tolist(), *log_weight.argsort(descending=True).tolist()]
    _, kind = x.flatten(1).unique(dim=0, return_inverse=True)
    first = {int(kind[i]): i for i in reversed(chosen)}
    apart = [i for i in dict.fromkeys(chosen) if first[int(kind[i])] == i]
    return torch.tensor([*apart, *(i for i in dict.fromkeys(chosen) if i not in apart)][:n], device=x.device)


def _revealed(z: Tensor, before: Tensor, free: Tensor, rows: list[int]) -> Tensor:
    """The way to z (C, H, W), row by row: (T, C, H, W)."""
    line = torch.arange(z.shape[-1], device=z.device)[:, None]
    nothing = torch.where(free, -1.0, before.to(z.dtype))
    return torch.stack([nothing, *(torch.where(free & (line > r), nothing, z) for r in rows)])


def _in_order(fixed: Tensor) -> bool:
    """Whether all that is fixed comes first."""
    flat = fixed.flatten()
    return bool(flat[: int(flat.sum())].all())


def _on_grid(x: Tensor, levels: int) -> Tensor:
    from .inputs import on_grid

    return on_grid(x, levels)
