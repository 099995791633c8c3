"""What two networks that play against each other want, and what keeps them from circling.

D(x) is the logit of the discriminator, or the value of a critic; r = D(x) on real images, f = D(G(z)) on
drawn ones.

    game           D minimises                          G minimises
    minimax        softplus(-r) + softplus(f)           -softplus(f)          Goodfellow et al. 2014, eq. 1
    nonsaturating  softplus(-r) + softplus(f)           softplus(-f)          Goodfellow et al. 2014, section 3
    least-squares  (r - 1)^2 / 2 + f^2 / 2              (f - 1)^2 / 2         Mao et al. 2017, eq. 9
    hinge          relu(1 - r) + relu(1 + f)            -f                    Lim & Ye 2017; Miyato et al. 2018, eq. 16
    wasserstein    f - r                                -f                    Arjovsky, Chintala & Bottou 2017, eq. 2
    relativistic   softplus(f - r)                      softplus(r - f)       Jolicoeur-Martineau 2019, paired as in Huang et al. 2024, eq. 2

log sigmoid(r) is -softplus(-r), and log(1 - sigmoid(f)) is -softplus(f).
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

from ..core import Refusal, eagerly
from .mlp import Waves


@runtime_checkable
class Packs(Protocol):
    """A model whose discriminator judges several images at once."""

    pack: int
    """images that one logit is of"""


@runtime_checkable
class Penalises(Protocol):
    """A model whose discriminator may be under a gradient penalty."""

    gradient_penalty: float
    """its weight; 0 for none"""


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
    "least-squares": Game(
        lambda r, f: ((r - 1).square() + f.square()) / 2, lambda r, f: (f - 1).square() / 2
    ),
    "hinge": Game(lambda r, f: F.relu(1 - r) + F.relu(1 + f), lambda r, f: -f),
    "wasserstein": Game(lambda r, f: f - r, lambda r, f: -f),
    "relativistic": Game(lambda r, f: F.softplus(f - r), lambda r, f: F.softplus(r - f), paired=True),
}


UNDECIDED: dict[str, float] = {
    "minimax": 2 * math.log(2),
    "nonsaturating": 2 * math.log(2),
    "least-squares": 0.25,
    "hinge": 2.0,
    "wasserstein": 0.0,
    "relativistic": math.log(2),
}
"""what D minimises, at its best, where it says the same of real and of drawn images: log 4 is -V of
Goodfellow et al. 2014, theorem 1.  One that knows nothing is there, and so is any against a generator that
has learnt all: it is no sign of either."""


def undecided(game: str, smooth: float = 0.0) -> float:
    """UNDECIDED, with one-sided smoothing: softplus(-c) + softplus(c) + smooth c is least where sigmoid(c) is
    p = (1 - smooth) / 2, and then twice the entropy of p."""
    if not smooth:
        return UNDECIDED[game]
    p = (1 - smooth) / 2
    return -2 * (p * math.log(p) + (1 - p) * math.log(1 - p))


def smoothed(r: Tensor, share: float) -> Tensor:
    """What one-sided label smoothing adds to softplus(-r): real images are to be called real with probability
    1 - share (Salimans et al. 2016, section 3.4)."""
    return share * r  # (1 - s) softplus(-r) + s softplus(r) = softplus(-r) + s r


@eagerly  # what is compiled cannot be differentiated twice
def slopes(judge: Judge, x: Tensor, pack: int = 1) -> tuple[Tensor, Tensor]:
    """D(x) and the squared norm of its gradient with respect to x, (B,) each; both can be differentiated.  Of
    packs of images: (B // pack,) each."""
    x = x if x.requires_grad else x.detach().requires_grad_()
    logits = judge(x)
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return logits, packed(slope, pack).square().flatten(1).sum(1)


class Chain(NamedTuple):
    """A discriminator that is matrices with a rectifier between each two, and nothing else."""

    waves: Waves | None
    """what becomes of an image before the first"""
    linear: list[nn.Linear]
    leaks: list[float]
    """slopes of the rectifiers below 0"""

    def values(self, x: Tensor) -> list[Tensor]:
        """Of x (B, F): phi(x), what each rectifier makes of what comes before it, and the logits (B, 1)."""
        result = [self.waves(x) if self.waves else x]
        for layer, leak in zip(self.linear, self.leaks):
            result.append(F.leaky_relu_(layer(result[-1]), leak))
        return [*result, self.linear[-1](result[-1])]

    def slopes(self, values: list[Tensor]) -> list[Tensor]:
        """Of the logit by phi(x), and by what each matrix gives."""
        result = [torch.ones_like(values[-1])]
        for layer, value, leak in zip(self.linear[:0:-1], values[-2:0:-1], self.leaks[::-1]):
            result.append(_held(result[-1] @ layer.weight, value, leak))
        return [result[-1] @ self.linear[0].weight, *result[::-1]]

    def derivative(self, a: Tensor, push: Tensor, values: list[Tensor], slopes: list[Tensor]) -> list[Tensor]:
        """Of sum push D by each weight and bias, where D goes through `a` (B, ...) times 1 / push, its
        rectifiers held where they were: see weighed()."""
        result = list[Tensor]()
        for k, slope in enumerate(slopes):
            if k:
                below = self.linear[k - 1]
                a = _held((a @ below.weight.t()).addcmul_(push, below.bias), values[k], self.leaks[k - 1])
            result += [slope.t() @ a, (push.t() @ slope)[0]]
        return result

    def parameters(self) -> list[Tensor]:
        return [p for layer in self.linear for p in (layer.weight, layer.bias)]


def _held(x: Tensor, value: Tensor, leak: float) -> Tensor:
    """x times the slopes that a rectifier had where it gave `value`."""
    scaled: Tensor = torch.ops.aten.leaky_relu_backward(x, value, leak, True)
    return scaled


def chain(D: object) -> Chain | None:
    """D taken apart, or None if it is anything else."""
    if not isinstance(D, nn.Module):
        return None
    leaves = [m for m in D.modules() if not isinstance(m, nn.Flatten) and next(m.children(), None) is None]
    first = leaves[0] if leaves else None
    waves = first if isinstance(first, Waves) else None
    rest = leaves[1:] if waves else leaves
    linear, bends = (
        [m for m in rest[::2] if type(m) is nn.Linear],
        [m for m in rest[1::2] if isinstance(m, nn.ReLU | nn.LeakyReLU)],
    )
    if len(linear) + len(bends) < len(rest) or len(linear) != len(bends) + 1 or linear[-1].out_features != 1:
        return None
    return Chain(waves, linear, [m.negative_slope if isinstance(m, nn.LeakyReLU) else 0.0 for m in bends])


class Weighed(NamedTuple):
    loss: Tensor
    """penalty included, with its derivative by the weights of D"""
    penalty: Tensor
    r: Tensor
    f: Tensor


@eagerly  # it leaves no graph
def weighed(
    D: Chain,
    real: Tensor,
    fake: Tensor,
    want: Callable[[Tensor, Tensor], Tensor],
    gammas: tuple[float, float],
) -> Weighed:
    """want(D(real), D(fake)) + mean of gammas[0] / 2 |grad D(real)|^2 + gammas[1] / 2 |grad D(fake)|^2, of
    images (B, ...) each.

    The derivative is done by hand.  While its rectifiers keep their sides, D is linear in phi(x).  With s the
    slope of D at x, held fixed, and l' that of the loss by the logit, the derivative of l + gamma / 2 |s|^2
    by the weights is that of l' D + gamma <s, grad D>. With J = d phi / dx, W_k and b_k the layers, m_k the
    slopes of the rectifiers, and g_k that of D by what W_k gives,

        d / d W_k = g_k a_(k-1)^T,    d / d b_k = l' g_k,    a_0 = l' phi(x) + gamma J s,    a_k = m_k (W_k a_(k-1) + l' b_k)

    These are four products with each matrix, where to differentiate twice takes six; and no copies.
    """  # noqa: E501
    n, x = len(real), torch.cat([real, fake]).detach().flatten(1)
    with torch.no_grad():
        values = D.values(x)
    logits = values[-1].requires_grad_()
    with torch.enable_grad():
        r, f = logits[:, 0].split(n)
        loss = want(r, f)
        (push,) = torch.autograd.grad(loss, logits)
    with torch.no_grad():
        by_phi, *by_each = D.slopes(values)
        jacobian = (D.waves.slopes(x) if D.waves else torch.ones_like(x)).view(2 * n, -1, x.shape[1])
        slope = (by_phi.view_as(jacobian) * jacobian).sum(1)
        strong = torch.cat([gamma / n * half for gamma, half in zip(gammas, slope.split(n))])
        penalty = (slope * strong).sum() / 2
        a = (jacobian * strong[:, None]).flatten(1).addcmul_(push, values[0])
        grads = D.derivative(a, push, values, by_each)
    total: Tensor = _Known.apply(loss.detach() + penalty, grads, *D.parameters())
    return Weighed(total, penalty, r.detach(), f.detach())


class _Known(torch.autograd.Function):
    """A number whose derivatives are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, grads: list[Tensor], *params: Tensor) -> Tensor:
        ctx.save_for_backward(*grads)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(up * g for g in ctx.saved_tensors))


def between(real: Tensor, fake: Tensor, where: Tensor) -> Tensor:
    """A point on the line from each drawn image to a real one; where (B,) in (0, 1) (Gulrajani et al. 2017,
    algorithm 1)."""
    return torch.lerp(fake, real, where.view(-1, *[1] * (real.ndim - 1)))


def lipschitz(squared: Tensor, one_sided: bool) -> Tensor:
    """How far a slope is from 1 (Gulrajani et al. 2017, eq. 3), or above it (Petzka, Fischer & Lukovnikov
    2018, eq. 8), squared, (B,).

    squared: (B,) squared norms of gradients.
    """
    excess = (squared + 1e-12).sqrt() - 1  # the root has no slope at 0
    return (excess.relu() if one_sided else excess).square()


def pair_accuracy(r: Tensor, f: Tensor) -> Tensor:
    """The share of pairs in which the real image gets the higher logit: 1/2 is a guess, 1 is no contest.
    Means the same in every game."""
    return ((r > f).float() + (r == f).float() / 2).mean()


def pull(game: Game, r: Tensor, f: Tensor) -> Tensor:
    """Mean |d loss of G / d D(G(z))|: how much of the discriminator's slope reaches the generator; near 0 it
    has vanished."""
    with torch.enable_grad():
        at = f.detach().float().requires_grad_()
        (slope,) = torch.autograd.grad(game.generator(r.detach().float(), at).sum(), at)
    return slope.abs().mean()


class Spread(nn.Module):
    """Features, and how much they differ within groups of images, which shows a discriminator that all are
    alike.

    Karras et al., "Progressive Growing of GANs", 2018, section 3: the mean over features of their standard
    deviation, at the end of each image's features.  Over groups of four, as in their later code, where a
    batch can be divided so; else over all.
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


class Spectral(nn.Module):
    """A weight (n, ...) divided by its largest singular value as a matrix (n, rest), which is u^T W v for the
    vectors at hand (Miyato et al. 2018, eq. 8).

    To look is not to change: a forward leaves u and v as they are, so that the pieces of a batch, its real
    and its drawn images, and an evaluation all meet one and the same network.  They follow the weight in
    iterate().
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, iterations: int = 15):
        super().__init__()
        matrix = weight.detach().flatten(1)
        for name, size in zip(("_u", "_v"), matrix.shape):
            self.register_buffer(name, F.normalize(matrix.new_empty(size).normal_(), dim=0))
        self.iterate(weight, iterations)

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight / torch.dot(self._u, torch.mv(weight.flatten(1), self._v))

    @torch.no_grad()
    def iterate(self, weight: Tensor, times: int = 1) -> None:
        """Steps of the power iteration (Miyato et al. 2018, algorithm 1)."""
        matrix = weight.flatten(1)
        for _ in range(times):
            self._u.copy_(F.normalize(torch.mv(matrix, self._v), dim=0))
            self._v.copy_(F.normalize(torch.mv(matrix.t(), self._u), dim=0))


def spectral(network: nn.Module) -> None:
    """Divide each layer's weight by its largest singular value, which iterate() follows: one step after each
    move of the network.

    It is known to a few percent while the weights move.  Of a convolution it is that of the weight as a
    matrix (channels out, the rest), which is not the norm of the map: such a network need not have a slope of
    at most 1.
    """
    for layer in [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)]:
        register_parametrization(layer, "weight", Spectral(layer.weight))


def iterate(network: nn.Module) -> None:
    """What follows each move of a network with spectral() layers: a step of their power iteration, with the
    weights that the next move begins with."""
    for layer in network.modules():
        if isinstance(layer, ParametrizationList) and isinstance(norm := layer[0], Spectral):
            norm.iterate(layer.original)


def packed(x: Tensor, m: int) -> Tensor:
    """m images as one of m times the channels, (B, C, H, W) to (B // m, m C, H, W) (Lin et al., "PacGAN",
    2018, section 2); what is left over is left out.

    Raises Refusal if they are fewer than m.
    """
    b, c, *size = x.shape
    if b < m:
        raise Refusal(
            f"a batch of {b} cannot be judged {m} at once; use a larger --batch, or a smaller --pack."
        )
    return x[: b // m * m].reshape(b // m, m * c, *size)
