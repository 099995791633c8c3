"""t-SNE: points in the plane whose neighbours are those of the rows of x.

    p_j|i = exp(-b_i |x_i - x_j|^2) / sum_k exp(-b_i |x_i - x_k|^2),    p_ij = (p_j|i + p_i|j) / 2n
    q_ij  = w_ij / Z,    w_ij = 1 / (1 + |y_i - y_j|^2),    Z = sum of w_kl over k != l
    KL(P || Q) = sum p_ij log(p_ij / q_ij),    dKL / dy_i = 4 sum_j (p_ij - q_ij) w_ij (y_i - y_j)

van der Maaten & Hinton, "Visualizing Data using t-SNE", 2008, sections 2 and 3.  b_i is such that row i has
the same perplexity as any
other: so many neighbours, softly counted.  P is sparse, 3 neighbours for each unit of perplexity (van der
Maaten 2014, section 4.1), so the pull of neighbours is a sum over few pairs.  What pushes apart is a sum over
all, and a convolution: of one charge a point with the kernel d / (1 + |d|^2)^2, which is done on a grid by
Fourier transforms, as Linderman et al. ("Fast interpolation-based t-SNE for improved visualization of
single-cell RNA-seq data", 2019) showed.  Here the grid does not change with the map, and the kernel is
interpolated by cubic splines instead of polynomials that break at the borders of cells; Z is a sum over the
spectrum that is there already.  A step takes three transforms instead of eight, on a coarser grid with
smaller errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core import Refusal

PERPLEXITY = 30.0
NEIGHBOURS = 3
"""for each unit of perplexity: beyond these a Gaussian has next to nothing"""
EARLY, LATE, EXAGGERATION = 250, 500, 12.0
"""steps with attraction so many times too strong, which lets islands find their places, and steps without"""
FEW = 400
"""points up to which what pushes apart is summed pair by pair: for so few that is quicker, too"""
SPACING, NODES = 0.4, 96
"""of the grid, in units of the map: the kernel falls to one half at distance 1; a half or a quarter of it
where the map has fewer nodes a side"""
KL_EVERY = 10
"""steps between two that are told"""
LEAST = 5
"""points that can be arranged: fewer have no neighbours to choose from"""
BLOCK = 2**23
"""distances at once in memory"""
USUAL = 1e9
"""numbers whose squares, and sums of these, float32 holds without a thought; and one over it"""
FARTHEST = 5.0
"""that a point may go in one step"""


class Step(NamedTuple):
    step: int
    """steps made; 0 is the start itself"""
    y: Tensor
    """(n, 2), about zero"""
    kl: float
    """KL(P || Q) at this place, in nats, whatever the exaggeration"""


class Affinities(NamedTuple):
    """P, symmetric and of sum 1, by its numbers that are not 0; row i is p[starts[i] : starts[i + 1]]."""

    p: Tensor
    """(E,)"""
    rows: Tensor
    """int32 (E,), rising"""
    columns: Tensor
    """int32 (E,)"""
    starts: np.ndarray
    """int64 (n,)"""
    entropy: Tensor
    """(): -sum p log p"""
    mass: Tensor
    """(): sum p, which is 1 but for rounding"""

    def __len__(self) -> int:
        return len(self.starts)


class Force(NamedTuple):
    on: Tensor
    """(n, 2)"""
    total: Tensor
    """(): of attraction sum p log w, nan where it was not asked for; of repulsion Z"""


Repulsion = Callable[[Tensor], Force]


def unit(largest: float) -> float:
    """1, or where numbers up to `largest` have squares that float32 cannot hold, or hardly: the power of two
    by which they are to be divided."""
    return (
        1.0
        if not largest or 1 / USUAL < largest < USUAL
        else 2.0 ** max(-149, math.floor(math.log2(largest)))
    )


# Who is near


def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances (n, k), rising, and rows (n, k) of the k others nearest to each row of x (n, d).

    Candidates are found by products of numbers, which round; the distances are those of the differences.
    """
    n = len(x)
    x = x - x.mean(0)
    norms = x.square().sum(1)
    result = torch.empty(n, k, dtype=torch.int64)
    for i in range(0, n, step := max(1, BLOCK // n)):
        d = torch.addmm(norms.expand(len(x[i : i + step]), n), x[i : i + step], x.T, alpha=-2)
        d[torch.arange(len(d)), torch.arange(i, i + len(d))] = torch.inf
        result[i : i + step] = d.topk(k, largest=False).indices
    squared = torch.stack([(x - x[column]).square().sum(1) for column in result.T], 1)
    order = squared.argsort(dim=1, stable=True)
    return squared.gather(1, order), result.gather(1, order)


def conditionals(squared: Tensor, perplexity: float) -> Tensor:
    """p_j|i (n, k) of squared distances (n, k) to the nearest, the entropy of each row being log(perplexity).

    Found by bisection of log b.  Where more than `perplexity` neighbours are equally near, as copies are,
    they share alike.
    """
    apart = (squared - squared.min(1, keepdim=True).values).double()
    apart /= apart.mean(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    low, high = (
        torch.full((len(apart), 1), -30.0, dtype=torch.float64),
        torch.full((len(apart), 1), 30.0, dtype=torch.float64),
    )
    for _ in range(60):
        middle = (low + high) / 2
        wide = entropy(torch.softmax(-middle.exp() * apart, 1)) > math.log(perplexity)
        low, high = torch.where(wide, middle, low), torch.where(wide, high, middle)
    return torch.softmax(-((low + high) / 2).exp() * apart, 1).to(squared.dtype)


def entropy(p: Tensor) -> Tensor:
    """Of each row, in nats: (n, k) to (n, 1)."""
    return torch.special.entr(p).sum(1, keepdim=True)


def neighbours_for(n: int, perplexity: float) -> int:
    """How many neighbours of each of n rows have a share in P.  Raises Refusal where there are
    not that many."""
    if n < LEAST:
        raise Refusal(f"t-SNE arranges {n} images no better than you do by hand: bring {LEAST} or more.")
    most, wanted = (n - 1) / NEIGHBOURS, math.ceil(NEIGHBOURS * perplexity)
    typed = f"--perplexity {math.floor(10 * most) / 10:g}"
    if perplexity > most:
        raise Refusal(
            f"a perplexity of {perplexity:g} looks at {wanted} neighbours of each image, and there are "
            f"{n - 1} others; type {typed} or less."
        )
    if perplexity <= 1:
        raise Refusal(
            f"a perplexity of {perplexity:g} counts no neighbour at all; type one above 1, up to {typed}."
        )
    return min(n - 1, math.ceil(NEIGHBOURS * perplexity))


def affinities(
    x: Tensor, perplexity: float = PERPLEXITY, near: tuple[Tensor, Tensor] | None = None
) -> Affinities:
    """P of rows x (n, d).  Raises Refusal where the perplexity is too large for n.

    near: what nearest(x, neighbours_for(n, perplexity)) says, where somebody knows it already.
    """
    from scipy.sparse import csr_array

    k = neighbours_for(len(x), perplexity)
    x = x / unit(float(x.abs().max()))
    squared, result = nearest(x, k) if near is None else near
    n = len(x)
    inputs = conditionals(squared, perplexity).numpy()
    one_way = csr_array(
        (inputs.reshape(-1), result.numpy().reshape(-1), np.arange(0, n * k + 1, k)), shape=(n, n)
    )
    both = (one_way + one_way.T).tocsr()
    both.sort_indices()
    rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(both.indptr))
    p, columns = torch.from_numpy(both.data / (2 * n)), torch.from_numpy(both.indices.astype(np.int32))
    return Affinities(
        p,
        torch.from_numpy(rows),
        columns,
        both.indptr[:-1].astype(np.int64),
        torch.special.entr(p).sum(),
        p.sum(),
    )


# What pulls together, and what pushes apart


def attraction(near: Affinities, y: Tensor, with_kl: bool = True) -> Force:
    """sum_j p_ij w_ij (y_i - y_j), and, if it is told, sum p log w."""
    across, up = (c.index_select(0, near.rows) - c.index_select(0, near.columns) for c in y.T.contiguous())
    away = across.square().addcmul_(up, up).add_(1)
    pull = near.p / away
    on = [torch.from_numpy(np.add.reduceat(part.mul_(pull).numpy(), near.starts)) for part in (across, up)]
    return Force(torch.stack(on, 1), -(near.p * away.log_()).sum() if with_kl else y.new_full((), math.nan))


def pair_by_pair(y: Tensor) -> Force:
    """sum_j w_ij^2 (y_i - y_j), and Z, with no approximation; the truth for few points."""
    parts, z = [], y.new_zeros(())
    for some in y.split(max(1, BLOCK // len(y))):
        w = 1 / (1 + (some[:, None] - y).square().sum(2))
        z += w.sum()
        w.square_()
        parts.append(w.sum(1, keepdim=True) * some - w @ y)
    return Force(torch.cat(parts), z - len(y))


def on_grid(y: Tensor, spacing: float = 0.0) -> Force:
    """The same by convolution on a grid; at the usual spacing the forces of real maps are right within 1 %, Z
    within 0.1 %."""
    from scipy.fft import next_fast_len

    n, spacing = len(y), spacing or _spacing(float((y.amax(0) - y.amin(0)).max()))
    # the spline of a point reaches one node to one side and two to the other
    at = (y - y.amin(0)) / spacing + 1
    # twice the map, and some nodes for the spline of a kernel that ends there to come to rest
    size = next_fast_len(2 * (int(at.max()) + 10), real=True)
    size += size % 2
    places, weights = _stencil(at, size)
    charge = (
        torch.zeros(size * size, dtype=y.dtype)
        .index_add_(0, places.view(-1), weights.view(-1))
        .view(size, size)
    )
    spectrum = torch.fft.rfft2(charge)
    kernel = _kernels(size, spacing, y.dtype)
    z = (torch.view_as_real(spectrum).square().sum(-1) * kernel.w).sum() - n
    fields = (torch.fft.irfft2(spectrum * push, s=(size, size)) for push in (kernel.down, kernel.across))
    on = [(field.reshape(-1)[places] * weights).sum(1) for field in fields]
    return Force(torch.stack(on, 1), z)


def _spacing(span: float) -> float:
    return next((s for s in (SPACING, SPACING / 2) if span >= NODES * s), SPACING / 4)


def _stencil(at: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Nodes (n, 16) of a grid of size x size about places (n, 2), counted in nodes, and the cubic B-splines
    of each there."""
    first = at.floor()
    t = (at - first)[..., None]
    s = 1 - t
    splines = torch.cat([s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3], 2) / 6  # (n, 2, 4)
    nodes = first.long()[..., None] + torch.arange(-1, 3)
    return (nodes[:, 0, :, None] * size + nodes[:, 1, None, :]).flatten(1), (
        splines[:, 0, :, None] * splines[:, 1, None, :]
    ).flatten(1)


class Kernels(NamedTuple):
    """Spectra (size, size // 2 + 1) of what a unit charge does at a distance (down, across)."""

    w: Tensor
    """1 / (1 + |d|^2), with what turns |charge|^2 times it into the sum over all pairs"""
    down: Tensor
    across: Tensor
    """d / (1 + |d|^2)^2"""


@lru_cache(4)
def _kernels(size: int, spacing: float, dtype: torch.dtype) -> Kernels:
    """Divided by the transform of the spline's values at nodes, (2 + cos) / 3, once for each end: then the
    splines meet the kernel at each node."""
    steps = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    d = steps * spacing
    w = 1 / (1 + d[:, None] ** 2 + d**2)
    node = ((2 + torch.cos(2 * math.pi * steps / size)) / 3) ** 2
    ends = node[:, None] * node[: size // 2 + 1]
    twice = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)
    twice[[0, -1]] = 1  # the other half of a real image's spectrum mirrors this one
    down = torch.fft.rfft2(d[:, None] * w**2) / ends
    across = torch.fft.rfft2(d * w**2) / ends
    narrow = torch.complex64 if dtype == torch.float32 else torch.complex128
    return Kernels(
        (torch.fft.rfft2(w).real / ends * twice / size**2).to(dtype), down.to(narrow), across.to(narrow)
    )


def gradient(
    near: Affinities,
    y: Tensor,
    repulsion: Repulsion | None = None,
    exaggeration: float = 1.0,
    with_kl: bool = True,
) -> tuple[Tensor, Tensor]:
    """dKL / dy (n, 2), with P multiplied by `exaggeration`, and KL(P || Q) itself without, or nan where it is
    not told."""
    pull, push = attraction(near, y, with_kl), (repulsion or (pair_by_pair if len(y) <= FEW else on_grid))(y)
    kl = -near.entropy - pull.total + near.mass * push.total.log()
    return 4 * (exaggeration * pull.on - push.on / push.total), kl


# The way down


def start(x: Tensor, seed: int = 0, random: bool = False) -> Tensor:
    """Where the points begin, (n, 2): the two largest principal components, the first of deviation 1e-4; or
    Gaussian with that deviation.

    x: rows by principal components, the largest first.  From these the large-scale shape of a map comes, and
    it is the same again (Kobak & Berens 2019); `seed` then only keeps copies from lying on each other.
    """
    drawn = torch.from_numpy(np.random.default_rng((seed, 0x75)).normal(size=(len(x), 2))).to(x.dtype)
    if random:
        return 1e-4 * drawn
    x = x / unit(float(x.abs().max()))
    wide = x[:, :2] if x.shape[1] > 1 else torch.cat([x, x.new_zeros(len(x), 1)], 1)
    return 1e-4 * (wide / wide[:, 0].std().clamp(min=1e-30) + 0.01 * drawn)


def descend(near: Affinities, y: Tensor, early: int = EARLY, late: int = LATE) -> Iterator[Step]:
    """Yield the start y (n, 2), and the map after every tenth step down the gradient; the last counts.

    The rate is n / exaggeration (Belkina et al. 2019), of a gradient without its factor 4, or 50 where that
    is less; with momentum, and a gain for each number (Jacobs 1988), as van der Maaten & Hinton have them.
    """
    y, speed, gain = y.clone(), torch.zeros_like(y), torch.ones_like(y)
    for step in range(early + late + 1):
        last = step == early + late
        with_kl = last or step % KL_EVERY == 0
        exaggeration, momentum = (EXAGGERATION, 0.5) if step < early else (1.0, 0.8)
        slope, kl = gradient(near, y, exaggeration=exaggeration, with_kl=with_kl)
        if with_kl:
            yield Step(step, y.clone(), float(kl))
        if last:
            return
        gain = torch.where((slope > 0) == (speed > 0), gain * 0.8, gain + 0.2).clamp_(min=0.01)
        speed = momentum * speed - max(len(y) / exaggeration / 4, 50.0) * gain * slope
        speed *= FARTHEST / speed.norm(dim=1, keepdim=True).clamp(min=FARTHEST)
        y += speed
        y -= y.mean(0)
