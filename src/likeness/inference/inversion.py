"""Minimise over pixels or codes instead of weights; and, by that, find the code of an image in a model that
only decodes.

    z* = argmin_z  |see(G(z)) - see(x)|^2

Zhu, Krähenbühl, Shechtman & Efros, "Generative Visual Manipulation on the Natural Image Manifold", 2016,
section 3.1: by optimisation, by a network that was taught to guess, or, better than both, by optimisation
from where the network points.

The error has many minima.  So the search of each image begins at several places: the codes, among many drawn
ones, whose images are nearest to it, and the guess; it ends at the best that was met.

Left to itself a search leaves the region where G was ever asked anything: the code grows, on MNIST to 1.4
times the length of a drawn one in 400 steps, and to 1.8 in 200 where the generator was worse.  Here each step
ends within the ball that holds 99 % of the prior, which costs 0.1 dB of 27.4.  A penalty on its length would
need a weight of its own for each model, and moves every minimum; a fixed length, which drawn codes have
nearly in many dimensions, is wrong in two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import engine
from ..core import Condition, Encodes, Guesses, Model, Noise, Refusal, ask, final, label_of
from ..engine.minimize import minimize

STEPS = 200
DRAWN = 1000
"""samples of a run, or more, that are looked through for a place to begin"""
AT_ONCE = 64
"""images in one go"""
BALL = 0.99
"""share of the prior within which a code stays"""


# The code of an image


class Codes(NamedTuple):
    z: Tensor
    """(B, latent), and the one-hot class behind it if the model is conditional: as decode() takes them"""
    error: Tensor
    """(B,) mean squared difference between what is seen of the image and of its decoding"""


def pixels(x: Tensor) -> Tensor:
    return x.flatten(1)


def project(
    model: Model,
    x: Tensor,
    noise: Noise,
    y: Condition | None = None,
    *,
    steps: int = STEPS,
    starts: int = 4,
    rate: float = 0.3,
    see: Callable[[Tensor], Tensor] = pixels,
    guess: Callable[[Tensor], Tensor | None] | None = None,
) -> Iterator[Codes]:
    """Yield the best code met so far of each image x (B, C, H, W), first before any step; the last counts.

    The model answers decode, and is in evaluation mode.  One that encodes is refined from what it says.  For
    any other the codes that `noise` draws, those of sample() with the same noise, are looked through, and the
    search begins at the `starts` best of them and at model.guess(x) where there is one.  The code of an image
    depends on the image and `noise` alone.
    y: the classes for a conditional model; where they are not told they are searched as well.
    see: what is compared, (B, C, H, W) to (B, F): pixels, or features of any network with a gradient, in one
    row if at several scales.  guess: an encoder that was taught later, in place of model.guess.
    Raises Refusal where the model does not decode, or where a small change of a
    code changes nothing.
    """
    decode, latent = ask(model, "decode"), _latent(model)
    with torch.no_grad():
        target, first = see(x), _starts(model, x, noise, y, starts, see, guess)
    b, k, _ = first.shape
    z, y_hot = first.flatten(0, 1).split([latent, first.shape[2] - latent], 1)
    scale, ball = (
        (size(z), Ball(math.inf))
        if isinstance(model, Encodes)
        else (torch.ones_like(z[:, :1]), Ball.of_prior(latent))
    )

    def whole(u: Tensor) -> Tensor:
        return torch.cat([scale * u, y_hot], 1)

    def loss(u: Tensor) -> Tensor:
        return error(see(decode(whole(ball.slide(u)))), target.repeat_interleave(k, 0))

    best = Codes(first[:, 0], torch.full((b,), torch.inf, device=x.device))
    for state in minimize([z / scale], loss, steps, rate, hold=ball.hold):
        best = _better(best, whole(state.at[0]).unflatten(0, (b, k)), state.loss.view(b, k))
        yield best


def size(z: Tensor) -> Tensor:
    """Of the numbers of each code, (B, 1): those of an encoder have any, and steps are to be in
    proportion."""
    return z.square().mean(1, keepdim=True).sqrt().clamp(min=1e-3)


def error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of rows, (B, F) and (B, F) to (B,)."""
    return (a - b).square().mean(1)


def drawn(
    model: Model,
    x: Tensor,
    noise: Noise,
    y: Condition | None = None,
    k: int = 1,
    see: Callable[[Tensor], Tensor] = pixels,
) -> Codes:
    """Of the codes that `noise` draws, the k whose images are nearest to each image: z (B, k, ...) and errors
    (B, k), rising.

    Where y tells the class an image of a conditional model only gets those of its own class.
    """
    decode, target, z, apart = ask(model, "decode"), see(x), draws(model, noise), list[Tensor]()
    with torch.no_grad():
        for some in z.split(AT_ONCE):
            # that of products rounds
            apart.append(torch.cdist(target, see(decode(some)), compute_mode="donot_use_mm_for_euclid_dist"))
    far = torch.cat(apart, 1)
    if (label := label_of(y)) is not None and "label" in model.takes:
        far = far.masked_fill(_turns(model, len(z), label.device) != label[:, None], torch.inf)
    nearest, which = far.sort(stable=True)
    return Codes(z[which[:, :k]], nearest[:, :k].square() / target.shape[1])


def draws(model: Model, noise: Noise) -> Tensor:
    """Codes (B, ...) from the prior N(0, I), as decode() takes them; of a conditional model they have the
    classes that it has learnt in turns."""
    y = Condition(_turns(model, len(noise), noise.device)) if "label" in model.takes else None
    return _coded(model, noise.normal(_latent(model)), y)


def _turns(model: Model, n: int, device: torch.device | str) -> Tensor:
    """The class (n,) of each drawn code."""
    learnt = torch.tensor(model.spec.learnt, device=device)
    return learnt[torch.arange(n, device=device) % len(learnt)]


@torch.no_grad()
def _starts(
    model: Model,
    x: Tensor,
    noise: Noise,
    y: Condition | None,
    k: int,
    see: Callable[[Tensor], Tensor],
    taught: Callable[[Tensor], Tensor | None] | None = None,
) -> Tensor:
    """Codes (B, K, ...) at which the search of each image begins."""
    if isinstance(model, Encodes):
        return model.encode(x).float()[:, None]
    asked = taught or (model.guess if isinstance(model, Guesses) else None)
    guess = None if asked is None else asked(x)
    result = [drawn(model, x, noise, y, k, see).z] if k or guess is None else []
    return torch.cat([*result, *([] if guess is None else [_of_class(model, x, guess, y, see)[:, None]])], 1)


def _of_class(
    model: Model, x: Tensor, z: Tensor, y: Condition | None, see: Callable[[Tensor], Tensor]
) -> Tensor:
    """Codes z (B, latent) with the classes y behind them; with those that fit x best where they are not
    known."""
    if label_of(y) is not None or "label" not in model.takes:
        return _coded(model, z, y)
    decode, target = ask(model, "decode"), see(x)
    each = torch.stack(
        [_coded(model, z, Condition(torch.full((len(z),), c, device=z.device))) for c in model.spec.learnt]
    )
    fits = torch.stack([error(see(decode(codes)), target) for codes in each]).argmin(0)
    return each[fits, torch.arange(len(z), device=z.device)]


def _coded(model: Model, z: Tensor, y: Condition | None) -> Tensor:
    """As decode() takes it."""
    label = label_of(y)
    if label is None or "label" not in model.takes:
        return z
    return torch.cat([z, F.one_hot(label, model.spec.labels).to(z.dtype)], 1)


def _latent(model: Model) -> int:
    return int(ask(model, "decode").__self__.latent)


def _better(best: Codes, z: Tensor, errors: Tensor) -> Codes:
    """The best of what is known and of z (B, K, ...); what is no number is never better."""
    least, which = errors.nan_to_num(torch.inf).min(1)
    better = least < best.error
    return Codes(
        torch.where(better[:, None], z[torch.arange(len(z), device=z.device), which], best.z),
        torch.where(better, least, best.error),
    )


class Ball:
    """The codes (B, latent) that are no longer than `radius`."""

    def __init__(self, radius: float):
        self.radius = radius

    @classmethod
    def of_prior(cls, latent: int) -> Ball:
        """That holds the share BALL of what is drawn from N(0, I): squared lengths have a chi-squared law."""
        from scipy.special import chdtri

        return cls(math.sqrt(chdtri(latent, 1 - BALL)))

    def hold(self, z: Tensor) -> None:
        """Bring codes that are outside back to the surface, straight towards zero."""
        z.mul_((self.radius / z.norm(dim=1, keepdim=True)).clamp(max=1))

    def slide(self, z: Tensor) -> Tensor:
        """The same codes, but the gradient of one at the surface that wants out is only its part along the
        surface.

        With all of it Adam, which scales each number's gradient by itself, would come to rest elsewhere than
        at the minimum within the ball.
        """

        def along(slope: Tensor) -> Tensor:
            outwards = z.detach() / z.detach().norm(dim=1, keepdim=True).clamp(min=1e-12)
            part = (slope * outwards).sum(1, keepdim=True)
            leaving = (z.detach().norm(dim=1, keepdim=True) > (1 - 1e-5) * self.radius) & (part < 0)
            return torch.where(leaving, slope - part * outwards, slope)

        same = z.view_as(z)
        if same.requires_grad:
            same.register_hook(along)
        return same


# The codes of a run's images


class Searched(NamedTuple):
    share: float
    """of the work that is done"""
    z: Tensor
    """(B, ...) codes in memory: of the images that were come to so far"""


def search(
    model: Model, x: Tensor, y: Condition | None = None, steps: int = STEPS, seed: int = 0
) -> Iterator[Searched]:
    """project() for any number of images x (B, C, H, W) in memory, told y if that is known; the
    last counts."""
    if not len(x):
        raise Refusal("there is no image to find the code of; name one or more, or hold some out.")
    done = torch.empty(0)
    for images, known in _some(x, y):
        for step, best in enumerate(project(model, *_placed(images, known, model, seed), steps=steps)):
            both = torch.cat([done, best.z.cpu()])
            yield Searched((len(done) + len(images) * step / max(steps, 1)) / len(x), both)
        done = both


@torch.no_grad()
def codes(
    model: Model, x: Tensor, y: Condition | None = None, steps: int | None = None, seed: int = 0
) -> Tensor:
    """Codes (B, ...) in memory of images x (B, C, H, W): as the model says if it encodes and no `steps` are
    asked for, else as search() finds them."""
    if steps is None and isinstance(model, Encodes):
        return torch.cat([model.encode(part.to(engine.device())).float().cpu() for part in x.split(AT_ONCE)])
    result = final(search(model, x, y, STEPS if steps is None else steps, seed))
    return result.z


def nearest_samples(model: Model, x: Tensor, y: Condition | None = None, seed: int = 0) -> Tensor:
    """For each image x (B, C, H, W) that one of the first among(model) samples of `seed` which is nearest to
    it: what a search has to beat."""
    return decoded(
        model, torch.cat([drawn(model, *_placed(*part, model, seed)).z[:, 0].cpu() for part in _some(x, y)])
    )


def among(model: Model) -> int:
    """How many samples are looked through: some of each class, if the model is conditional."""
    return max(DRAWN, 8 * model.spec.labels) if "label" in model.takes else DRAWN


def _some(x: Tensor, y: Condition | None) -> Iterator[tuple[Tensor, Condition | None]]:
    """A number of images at a time."""
    for i in range(0, len(x), AT_ONCE):
        rows = slice(i, i + AT_ONCE)
        yield x[rows], None if y is None else y[rows]


def _placed(
    x: Tensor, y: Condition | None, model: Model, seed: int
) -> tuple[Tensor, Noise, Condition | None]:
    noise = engine.sampling_noise(seed, 0, among(model))
    return x.to(engine.device()), noise, None if y is None else y.to(engine.device())


@torch.no_grad()
def decoded(model: Model, z: Tensor) -> Tensor:
    """Images (B, C, H, W) of codes (B, ...), both in memory."""
    decode = ask(model, "decode")
    return torch.cat([decode(part.to(engine.device())).float().cpu() for part in z.split(AT_ONCE)])
