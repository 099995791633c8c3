"""What a loss is of one that knows nothing of the image before it: how low it goes without any network.

A model that has the method chance(batch) names terms of its own loss and what each would be of such a one, in the mean over images like
those of the batch; the doctor compares (symptoms.nothing_learnt).  It is a method, not one more term of the loss, so that a step costs
nothing for it, and many images tell more than those of a step.

    squared error      the mean image: the variance of each value
    noise taken away   the best linear answer for each pixel by itself, if its mean and its variance are all that is known
    p(x|z)             a distribution for each pixel, the same for every image
    p(x_i | x_<i)      one distribution of levels for all pixels of a channel: what a network says that has a last bias alone

All of them are within reach of the method's own networks, but for the second by a rounding of what they can say.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .conditionals import level
from .likelihoods import Bernoulli, Discretised

TIMES = 512
"""at which a mean over times is taken: midpoints of equal shares of their law"""
SHARPEST, WIDEST, WIDTHS = 0.1, 2.0, 12
"""scales that are tried for a pixel, as shares of its standard deviation: of two tones only, the best is a narrow one about the commoner"""


def variances(x: Tensor) -> Tensor:
    """Of each value of images x (n, ...), over the images: (dims,), float64."""
    return x.flatten(1).double().var(0, correction=0)


def shares(n: int = TIMES) -> Tensor:
    """Midpoints of n equal parts of 0 ... 1, float64."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def unexplained(v: Tensor, alpha: Tensor, sigma: Tensor, of_eps: Tensor, of_x: Tensor, linear: bool = True) -> Tensor:
    """Mean squared error of the best answer to `of_eps eps + of_x x`, asked of alpha x + sigma eps with eps ~ N(0, 1): (T,).

    v: variances (dims,) of independent values x; the four others (T,), one for each time.  What is left of the variance of the target once
    its covariance with the noisy value is made use of is v (alpha of_eps - sigma of_x)^2 / (alpha^2 v + sigma^2).  Not linear: of an answer
    that is the same for every noisy image.
    """
    if not linear:
        return of_eps.square() + of_x.square() * v.mean()
    crossed = (alpha * of_eps - sigma * of_x).square()[:, None]
    return (v * crossed / (alpha.square()[:, None] * v + sigma.square()[:, None]).clamp(min=1e-30)).mean(1)


def described(p: Bernoulli | Discretised, x: Tensor) -> float:
    """Nats of an image of x (n, C, H, W) by p(x|z) where what the decoder says is the same for every image, pixel by pixel the best of some."""
    flat = x.flatten(1).double()
    mean, std = flat.mean(0), flat.std(0, correction=0)
    if isinstance(p, Bernoulli):
        return _cost(p, flat, torch.logit(((mean + 1) / 2).clamp(1e-4, 1 - 1e-4))[:, None]).sum().item()
    half = (p.levels - 1) / 2
    widths = torch.logspace(math.log10(SHARPEST), math.log10(WIDEST), WIDTHS, dtype=torch.float64)
    scale = (std * widths[:, None]).clamp(min=0.05 / half)
    middles = (mean, flat.median(0).values)
    said = (torch.stack([m, (4 * s).log()], 1) for m in middles for s in scale)  # an output of 0 is a quarter: see likelihoods.py
    return torch.stack([_cost(p, flat, out) for out in said]).amin(0).sum().item()


def _cost(p: Bernoulli | Discretised, flat: Tensor, out: Tensor) -> Tensor:
    """-log p of each value of flat (n, dims), in the mean over images, (dims,): out (dims, outputs), each value an image by itself."""
    each = out.repeat(len(flat), 1)[..., None, None]
    return -p.log_prob(flat.reshape(-1, 1, 1, 1), each).double().view(flat.shape).mean(0)


def levels_alone(x: Tensor, levels: int) -> float:
    """Bits/dim of images x (n, C, H, W) by one distribution of levels for each channel: the entropy of their counts."""
    k = level(x, levels).movedim(1, 0).flatten(1)
    return float(torch.stack([entropy(each.bincount(minlength=levels)) for each in k]).mean() / math.log(2))


def entropy(counts: Tensor) -> Tensor:
    """Nats, of counts (K,)."""
    p = counts.double() / counts.sum()
    return -torch.special.xlogy(p, p).sum()
