"""p(x|z): the probability of an image on its grid of brightness levels, given the output of a decoder.

Every class turns `out`, (B, channels * outputs, H, W), into probabilities of x, (B, C, H, W) on the grid
2k/(levels-1) - 1.

    log_prob(x, out)   nats of each image, (B,): the logarithm of a probability, so never above zero
    mean(out)          the image to show, in [-1, 1]: the mean of two levels; of more the centre of the density, which is
                       its mean but for what lies beyond black and white
    draw(out, noise)   an image drawn from p(x|z), on the grid

A level's probability is the mass of a continuous density between the midpoints to its two neighbours; the
lowest and the highest level take the open tails (Salimans et al., "PixelCNN++", 2017, section 2.1).  All
arithmetic is done in units of
levels: there the midpoints are exact, so what one level ends with is what the next begins with, and the sum
is one.
"""  # noqa: E501

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Noise

FAR = 2.0**20
"""levels; a mean further off is moved here, where midpoints are still told apart in float32"""
NARROWEST, WIDEST = 0.05, 2.0**16
"""levels; at a scale of 0.05 the level of the mean has all the mass to 1e-4"""


class Bernoulli(nn.Module):
    """Two levels; `out` is the logit of the upper one."""

    outputs = 1

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return F.logsigmoid(x * out.float()).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return 2 * out.float().sigmoid() - 1

    def draw(self, out: Tensor, noise: Noise) -> Tensor:
        return 2.0 * (noise.uniform(*out.shape[1:]) < out.float().sigmoid()) - 1


class Discretised(nn.Module):
    """`out` is a mean and the logarithm of a scale for each pixel."""

    outputs = 2

    def __init__(self, levels: int):
        super().__init__()
        self.levels = levels

    def parameters_of(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale in levels.  An output of zero is a mean in the middle, and a scale of an eighth of
        the range."""
        half = (self.levels - 1) / 2
        mean, log_scale = out.float().chunk(2, 1)
        low, high = (math.log(4 * s / half) for s in (NARROWEST, WIDEST))
        return ((mean + 1) * half).clamp(-FAR, FAR), log_scale.clamp(low, high).exp() * half / 4

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        mean, scale = self.parameters_of(out)
        k = ((x + 1) * ((self.levels - 1) / 2)).round()
        below = self.log_cdf((k + 0.5 - mean) / scale)
        above = self.log_cdf((mean - k + 0.5) / scale)
        inside = self.log_mass((k - mean) / scale, 1 / scale)
        return torch.where(k <= 0, below, torch.where(k >= self.levels - 1, above, inside)).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return out.float().chunk(2, 1)[0].clamp(-1, 1)

    def draw(self, out: Tensor, noise: Noise) -> Tensor:
        mean, scale = self.parameters_of(out)
        k = (mean + scale * self.standard(noise, *mean.shape[1:])).round().clamp(0, self.levels - 1)
        return k * (2 / (self.levels - 1)) - 1

    def log_cdf(self, a: Tensor) -> Tensor:
        """Of the standard density, which is symmetric."""
        raise NotImplementedError

    def log_mass(self, c: Tensor, d: Tensor) -> Tensor:
        """log of the standard density's mass between c - d/2 and c + d/2."""
        raise NotImplementedError

    def standard(self, noise: Noise, *shape: int) -> Tensor:
        raise NotImplementedError


class Logistic(Discretised):
    def log_cdf(self, a: Tensor) -> Tensor:
        return F.logsigmoid(a)

    def log_mass(self, c: Tensor, d: Tensor) -> Tensor:
        """sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): a product, in which nothing
        cancels."""
        return F.logsigmoid(c + d / 2) + F.logsigmoid(d / 2 - c) + torch.log(-torch.expm1(-d))

    def standard(self, noise: Noise, *shape: int) -> Tensor:
        return torch.logit(noise.uniform(*shape))


def log_ndtr(a: Tensor) -> Tensor:
    """log of the normal CDF.  torch.special.log_ndtr has the same values, but far out its gradient is 0 or
    infinite (torch 2.13)."""
    tail = a < -1
    y = torch.where(tail, -a, 1.0) / math.sqrt(2)
    body = torch.log1p(-torch.special.erfc(torch.where(tail, -1.0, a) / math.sqrt(2)) / 2)
    return torch.where(tail, torch.log(torch.special.erfcx(y) / 2) - y * y, body)


class Gaussian(Discretised):
    def log_cdf(self, a: Tensor) -> Tensor:
        return log_ndtr(a)

    def log_mass(self, c: Tensor, d: Tensor) -> Tensor:
        """The difference of two values of the CDF in the lower tail; where the level is so narrow that they
        cancel, a series in its width."""
        c = -c.abs()
        narrow = d * (1 - c) < 0.2
        e = torch.where(narrow, d, 0.1)
        series = (
            -c * c / 2
            - math.log(2 * math.pi) / 2
            + e.log()
            + torch.log1p(e * e * ((c * c).clamp(max=4 / (e * e)) - 1) / 24)
        )
        w = torch.where(narrow, 1.0, d)
        upper, lower = log_ndtr(c + w / 2), log_ndtr(c - w / 2)
        return torch.where(narrow, series, upper + torch.log(-torch.expm1(lower - upper)))

    def standard(self, noise: Noise, *shape: int) -> Tensor:
        return noise.normal(*shape)


class Squared(Gaussian):
    """One scale for every pixel, a 32nd of the range: the logarithm is squared error, so that a plain ground,
    which a scale of its own would make as sure as anything, does not outweigh what is small and drawn on
    it."""

    outputs = 1

    def parameters_of(self, out: Tensor) -> tuple[Tensor, Tensor]:
        half = (self.levels - 1) / 2
        mean = ((out.float() + 1) * half).clamp(-FAR, FAR)
        return mean, torch.full_like(mean, half / 16)

    def mean(self, out: Tensor) -> Tensor:
        return out.float().clamp(-1, 1)


LIKELIHOODS = {"logistic": Logistic, "gaussian": Gaussian, "squared": Squared}
