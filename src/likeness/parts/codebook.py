"""A codebook that follows what it stands for: k-means, a batch at a time, by moving averages.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017, appendix A.1: of the n_i
vectors of a batch that are nearest to code i,

    N_i <- decay N_i + (1 - decay) n_i                                                                (A.1, eq. 6)
    m_i <- decay m_i + (1 - decay) sum of those vectors                                               (A.1, eq. 7)
    e_i = m_i / N_i                                                                                   (A.1, eq. 8)

a step of any batch, as there: with a smaller batch the means remember fewer vectors, unlike the EMA of the
weights, which counts images; with N_i smoothed where it divides, (N_i + eps) / (n + K eps) n for n = sum N_i,
as in the authors' code (Sonnet).

A code to which nothing is near never moves again, and two may share what one would do for.  So one of no use
is put beside the code with the largest squared error, whose vectors they then share: the splitting of Linde,
Buzo & Gray, "An Algorithm for Vector Quantizer Design", 1980.  The same rule places all codes at first: those
that the first batch meets are split until there are as many as asked for.
"""  # noqa: E501

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Noise

IDLE = 0.1
"""of an even share of the vectors: a code with less of them is put elsewhere"""
TWIN = 0.3
"""of the mean error in one of its numbers: so is a code without which the error would grow by less"""
EPS = 1e-5
TOGETHER = 2**24
"""distances computed at once"""
STREAM = 0xC0DEB00C
"""keeps the noise of splitting apart from all other"""


class Codebook(nn.Module):
    """K codes of D numbers each.

    note() adds a batch up in `tally`, step() takes it in and clears it.  Both `tally` and `mean` hold, for
    each code, a count, a sum of squared errors and a sum of vectors: (K, 2 + D).  Sums over parts of a batch
    are those over the batch, so it may be split, or shared among processes if they add up `tally` before
    step().
    """

    codes: Tensor
    mean: Tensor
    tally: Tensor
    steps: Tensor

    def __init__(self, codes: int, width: int, decay: float = 0.99):
        super().__init__()
        self.decay = decay
        # near 0 a vector's direction decides
        self.register_buffer("codes", torch.empty(codes, width).uniform_(-1 / codes, 1 / codes))
        self.register_buffer("mean", torch.zeros(codes, 2 + width))
        # empty whenever a run is saved
        self.register_buffer("tally", torch.zeros(codes, 2 + width), persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def used(self) -> Tensor:
        """N_i, (K,): vectors of a batch that belong to each code, on average."""
        return self.mean[:, 0]

    @property
    def error(self) -> Tensor:
        """(K,): their squared distances to it, added up, on average."""
        return self.mean[:, 1]

    def nearest(self, z: Tensor) -> Tensor:
        """The number of the code next to each vector, (..., D) to (...), in full precision whatever autocast
        says."""
        # far from the origin the differences of products would be lost in rounding
        middle = self.codes.mean(0)
        codes, flat = self.codes - middle, z.flatten(0, -2)
        half = codes.square().sum(1) / 2
        with torch.autocast(z.device.type, enabled=False):
            parts = flat.split(max(1, TOGETHER // len(self.codes)))
            return torch.cat(
                [torch.addmm(half, part - middle, codes.T, alpha=-1).argmin(1) for part in parts]
            ).view(z.shape[:-1])

    def vectors(self, k: Tensor) -> Tensor:
        """The codes of these numbers, (...) to (..., D)."""
        return F.embedding(k, self.codes)

    @torch.no_grad()
    def note(self, z: Tensor, k: Tensor) -> None:
        """Vectors (..., D) belong to the codes of number k (...): remember it for step()."""
        z, k = z.flatten(0, -2), k.flatten()
        error = (z - self.vectors(k)).square().sum(1, keepdim=True)
        add_rows(self.tally, k, torch.cat([torch.ones_like(error), error, z], 1))

    @torch.no_grad()
    def step(self) -> None:
        """(A.1, eq. 6 to 8), then codes of little use are put elsewhere."""
        self.mean.lerp_(self.tally, 1 - self.decay)
        self.tally.zero_()
        self.steps += 1
        self.codes.copy_(self.centres())
        self.revive()
        self.codes.copy_(self.centres())

    def centres(self) -> Tensor:
        """(A.1, eq. 8)"""
        n = self.used.sum()
        smooth = (self.used + EPS) / (n + len(self.codes) * EPS) * n
        return self.mean[:, 2:] / smooth[:, None]

    def idle(self) -> Tensor:
        """(K,): codes of little use: few vectors are theirs, or these would fare nearly as well with the code
        next to it, which has more."""
        apart, near = torch.cdist(self.codes, self.codes).fill_diagonal_(torch.inf).min(1)
        number = torch.arange(len(near), device=near.device)
        lighter = (self.used < self.used[near]) | ((self.used == self.used[near]) & (number > near))
        spare = self.used * apart.square() < TWIN * self.error.mean() / self.codes.shape[1]
        return (self.used < IDLE * self.used.mean()) | (lighter & spare)

    def revive(self) -> None:
        """Each idle code takes over half of what another stands for: of the one with the largest error, the
        next, and so on."""
        idle = self.idle()
        child = idle.int().argsort(descending=True, stable=True)
        mother = self.error.masked_fill(idle, -1).argsort(descending=True, stable=True)
        pair = (idle[child] & ~idle[mother])[:, None]
        half = self.mean[mother] / 2
        self.mean[mother] = torch.where(pair, half, self.mean[mother])
        self.mean[child] = torch.where(pair, self.beside(half, child), self.mean[child])

    def beside(self, mean: Tensor, child: Tensor) -> Tensor:
        """The same, its vectors shifted in a random direction by about their standard deviation
        in any one."""
        count, error = mean[:, :1], mean[:, 1:2]
        width = self.codes.shape[1]
        distance = (error / count.clamp(min=1e-30)).sqrt() / width
        noise = Noise(self.steps * len(child) + child, STREAM).normal(width)
        return torch.cat([count, error, mean[:, 2:] + count * distance * noise], 1)

    def perplexity(self) -> Tensor:
        """exp of the entropy of how often each code is used: K if all are used alike, 1 if only one is."""
        return perplexity(self.used)


def perplexity(counts: Tensor) -> Tensor:
    return torch.special.entr(counts / counts.sum().clamp(min=1e-30)).sum().exp()


def add_rows(into: Tensor, k: Tensor, rows: Tensor) -> None:
    """into[k[j]] += rows[j] for every j, in the same order every time: index_add_ is that on a processor
    alone, index_put_ on a GPU alone."""
    if into.is_cuda:
        into.index_put_((k,), rows, accumulate=True)
    else:
        into.index_add_(0, k, rows)
