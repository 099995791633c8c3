"""What a loss is of one that knows nothing of the image before it: how low it goes without any network.

A model that has the method chance(batch) names terms of its own loss and what each would then be, in the mean
over images like those of the batch; the doctor compares (symptoms.nothing_learnt).  It is a method, and no
further term of the loss, so that a step costs nothing for it and many images tell more than those of one
step.

    squared error      the mean image: the variance of each value
    noise taken away   the best linear answer for each pixel by itself, if its mean and its variance are all
    that is known
    p(x|z)             a distribution for each pixel, the same for every image
    p(x_i | x_<i)      a distribution of levels for each channel, the same for all pixels: what a last bias can say alone
"""  # noqa: E501

from __future__ import annotations

import math

import torch
from torch import Tensor

from .conditionals import level
from .likelihoods import NARROWEST, Bernoulli, Discretised

TIMES = 512
"""midpoints of equal shares of a law of times, over which a mean is taken"""
SHARPEST, WIDEST, WIDTHS = 0.1, 2.0, 12
"""scales tried for a pixel, as shares of its standard deviation: of two tones the best is a narrow one about
the commoner"""
IMAGES, PIXELS = 512, 2048
"""of which distributions are tried, at most: two seconds"""
LEAST = 1e-4
"""probability of a level that no image had"""


def variances(x: Tensor) -> Tensor:
    """Of each value of the law that images x (n, ...) come from, without bias: (dims,), float64,
    on the CPU."""
    return x.flatten(1).double().var(0, correction=min(1, len(x) - 1)).cpu()


def shares(n: int = TIMES) -> Tensor:
    """Midpoints of n equal parts of 0 ... 1, float64."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def unexplained(x: Tensor, alpha: Tensor, sigma: Tensor, of_eps: Tensor, of_x: Tensor, linear: bool) -> float:
    """Mean squared error of the best answer to `of_eps eps + of_x x` by alpha x + sigma eps, where eps ~ N(0,
    1).

    x: images (n, ...), of which the variance v of each value is used; the others (T,), one for each time,
    over which the mean is taken.  Where the covariance with the noisy value is made use of, v (alpha of_eps -
    sigma of_x)^2 / (alpha^2 v + sigma^2) is left of the target's variance.  Not linear: by an answer that is
    the same for all, as for codes, which a first stage may have made so nearly Gaussian that a healthy model
    can do no better than linearly.
    """
    v, law = variances(x), [t.double().cpu() for t in (alpha, sigma, of_eps, of_x)]
    if not linear:
        return (of_eps.double().square().mean() + of_x.double().square().mean() * v.mean()).item()
    # one time after another
    lefts = (v * (a * e - s * b) ** 2 / (a * a * v + s * s).clamp(min=1e-30) for a, s, e, b in zip(*law))
    return torch.stack([left.mean() for left in lefts]).mean().item()


def described(p: Bernoulli | Discretised, x: Tensor) -> float:
    """Nats of an image of x (n, C, H, W) by p(x|z) where the decoder says the same of every image: for each
    pixel the best tried."""
    dims = x[0].numel()
    some = torch.randperm(dims, generator=torch.Generator().manual_seed(0))[:PIXELS].to(x.device)
    flat = x[:IMAGES].flatten(1)[:, some].double()
    return _described(p, flat) * dims / len(some)


def _described(p: Bernoulli | Discretised, flat: Tensor) -> float:
    """The same of all values of flat (n, dims)."""
    mean, std = flat.mean(0), flat.std(0, correction=0)
    if isinstance(p, Bernoulli):
        white = ((mean + 1) / 2).clamp(LEAST, 1 - LEAST)
        return _cost(p, flat, torch.logit(white)[:, None]).sum().item()
    half = (p.levels - 1) / 2
    widths = torch.logspace(
        math.log10(SHARPEST), math.log10(WIDEST), WIDTHS, dtype=torch.float64, device=flat.device
    )
    scales = (std * widths[:, None]).clamp(min=NARROWEST / half)
    middles = mean, flat.median(0).values
    # 0 is a scale of a quarter
    parameters = (torch.stack([m, (4 * s).log()], 1) for m in middles for s in scales)
    return torch.stack([_cost(p, flat, out) for out in parameters]).amin(0).sum().item()


def _cost(p: Bernoulli | Discretised, flat: Tensor, out: Tensor) -> Tensor:
    """-log p of each value of flat (n, dims), (dims,) in the mean over images; out: (dims, outputs), of each
    value by itself."""
    each = out.repeat(len(flat), 1)[..., None, None]
    return -p.log_prob(flat.reshape(-1, 1, 1, 1), each).double().view(flat.shape).mean(0)


def levels_alone(x: Tensor, levels: int) -> float:
    """Bits/dim of images x (n, C, H, W) by a distribution of levels for each channel: the entropy of their
    counts."""
    k = level(x, levels).movedim(1, 0).flatten(1)
    return float(torch.stack([entropy(each.bincount(minlength=levels)) for each in k]).mean() / math.log(2))


def entropy(counts: Tensor) -> Tensor:
    """Nats, of counts (K,)."""
    p = counts.double() / counts.sum()
    return -torch.special.xlogy(p, p).sum()
