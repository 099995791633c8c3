"""What two networks that play against each other want, and what keeps them from circling.

D(x) is the logit of the discriminator, or the value of a critic; r = D(x) on real images, f = D(G(z)) on drawn ones.

    game           D minimises                          G minimises
    minimax        softplus(-r) + softplus(f)           -softplus(f)          Goodfellow et al. 2014, eq. 1
    nonsaturating  softplus(-r) + softplus(f)           softplus(-f)          Goodfellow et al. 2014, section 3
    least-squares  (r - 1)^2 / 2 + f^2 / 2              (f - 1)^2 / 2         Mao et al. 2017, eq. 9
    hinge          relu(1 - r) + relu(1 + f)            -f                    Lim & Ye 2017; Miyato et al. 2018, eq. 16
    wasserstein    f - r                                -f                    Arjovsky, Chintala & Bottou 2017, eq. 2
    relativistic   softplus(f - r)                      softplus(r - f)       Jolicoeur-Martineau 2019, paired as in Huang et al. 2024, eq. 2

log sigmoid(r) is -softplus(-r), and log(1 - sigmoid(f)) is -softplus(f).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..core import Refusal

Judge = Callable[[Tensor], Tensor]
"""images (B, C, H, W) to a logit each, (B,)"""


class Game(NamedTuple):
    """Both losses of each pair of logits, (B,), from those of real and of drawn images, (B,) each."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    logits: bool = False
    """sigmoid(D) is a probability, so that its target may be smoothed"""
    paired: bool = False
    """what G wants depends on the real images, too"""


def _tells(r: Tensor, f: Tensor) -> Tensor:
    return F.softplus(-r) + F.softplus(f)


GAMES: dict[str, Game] = {
    "minimax": Game(_tells, lambda r, f: -F.softplus(f), logits=True),
    "nonsaturating": Game(_tells, lambda r, f: F.softplus(-f), logits=True),
    "least-squares": Game(lambda r, f: ((r - 1).square() + f.square()) / 2, lambda r, f: (f - 1).square() / 2),
    "hinge": Game(lambda r, f: F.relu(1 - r) + F.relu(1 + f), lambda r, f: -f),
    "wasserstein": Game(lambda r, f: f - r, lambda r, f: -f),
    "relativistic": Game(lambda r, f: F.softplus(f - r), lambda r, f: F.softplus(r - f), paired=True),
}


def smoothed(r: Tensor, share: float) -> Tensor:
    """What one-sided label smoothing adds to softplus(-r): real images are to be called real with probability 1 - share (Salimans et al. 2016, section 3.4)."""
    return share * r  # (1 - s) softplus(-r) + s softplus(r) = softplus(-r) + s r


@torch.compiler.disable  # type: ignore[untyped-decorator]  # what is compiled cannot be differentiated twice
def slopes(judge: Judge, x: Tensor, pack: int = 1) -> tuple[Tensor, Tensor]:
    """D(x) and the squared norm of its gradient with respect to x, (B,) each; both can be differentiated.  Of packs of images: (B // pack,) each."""
    x = x if x.requires_grad else x.detach().requires_grad_()
    logits = judge(x)
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return logits, packed(slope, pack).square().flatten(1).sum(1)


def between(real: Tensor, fake: Tensor, where: Tensor) -> Tensor:
    """A point on the line from each drawn image to a real one; where (B,) in (0, 1) (Gulrajani et al. 2017, algorithm 1)."""
    return torch.lerp(fake, real, where.view(-1, *[1] * (real.ndim - 1)))


def lipschitz(squared: Tensor, one_sided: bool) -> Tensor:
    """How far a slope is from 1 (Gulrajani et al. 2017, eq. 3), or above it (Petzka, Fischer & Lukovnikov 2018, eq. 8), squared, (B,).

    squared: (B,) squared norms of gradients.
    """
    excess = (squared + 1e-12).sqrt() - 1  # the root has no slope at 0
    return (excess.relu() if one_sided else excess).square()


def told_apart(r: Tensor, f: Tensor) -> Tensor:
    """The share of pairs in which the real image gets the higher logit: 1/2 is a guess, 1 is no contest.  Means the same in every game."""
    return ((r > f).float() + (r == f).float() / 2).mean()


def pull(game: Game, r: Tensor, f: Tensor) -> Tensor:
    """Mean |d loss of G / d D(G(z))|: how much of the discriminator's slope reaches the generator; near 0 it has vanished."""
    with torch.enable_grad():
        at = f.detach().float().requires_grad_()
        (slope,) = torch.autograd.grad(game.generator(r.detach().float(), at).sum(), at)
    return slope.abs().mean()


class Spread(nn.Module):
    """Features, and how much they differ within groups of images, which shows a discriminator that all are alike.

    Karras et al., "Progressive Growing of GANs", 2018, section 3: the mean over features of their standard deviation, at the
    end of each image's features.  Over groups of four, as in their later code, where a batch can be divided so; else over all.
    """

    def __init__(self, group: int = 4):
        super().__init__()
        self.group = group

    def forward(self, h: Tensor) -> Tensor:
        """(B, F) to (B, F + 1)"""
        group = len(h) if len(h) % self.group else self.group
        variance = h.float().view(-1, group, h.shape[1]).var(1, correction=0)
        spread = (variance + 1e-8).sqrt().mean(1).repeat_interleave(group)  # the root has no slope at 0
        return torch.cat([h, spread[:, None].to(h.dtype)], 1)


def spectral(network: nn.Module) -> None:
    """Divide each layer's weight by its largest singular value, from a step of the power iteration at each pass (Miyato et al. 2018, algorithm 1).

    It is known to a few percent while the weights move.  Of a convolution it is that of the weight as a matrix (channels
    out, the rest), which is not the norm of the map: such a network need not have a slope of at most 1.
    """
    for layer in [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)]:
        spectral_norm(layer)


def packed(x: Tensor, m: int) -> Tensor:
    """m images as one of m times the channels, (B, C, H, W) to (B // m, m C, H, W) (Lin et al., "PacGAN", 2018, section 2); what is left over is left out.

    Raises Refusal if they are fewer than m.
    """
    b, c, *size = x.shape
    if b < m:
        raise Refusal(f"a batch of {b} cannot be judged {m} at once; use a larger --batch, or a smaller --pack.")
    return x[: b // m * m].reshape(b // m, m * c, *size)
