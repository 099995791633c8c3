"""Seconds of a Frechet distance from moments: ours, and as it is usually computed, by scipy.linalg.sqrtm(C1 @
C2).

    OMP_NUM_THREADS=2 python benchmarks/frechet.py

Both get the same means and covariances of the same features (correlated, not negative, of very different
variances, as those of networks are) in the same process, in turns.  The truth is a third way: singular values
of products of triangular factors of the centred features themselves, without covariances.  Below it, what
else a card needs, from 10,000 images a side.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import scipy
import torch
from measure import heading, machine, spread, table
from scipy.linalg import sqrtm

from likeness.metrics.kernels import gaussian, kid, median_distance, p_value
from likeness.metrics.moments import Moments, frechet, frechet_infinity, frechet_interval

T = TypeVar("T")


def features(n: int, d: int, seed: int) -> np.ndarray:
    weights = np.random.default_rng(0).normal(size=(d, d)) * np.geomspace(1, 1e-3, d)
    return np.maximum(np.random.default_rng(seed).normal(size=(n, d)) @ weights + 0.02 * seed, 0).astype(
        np.float32
    )


def usual(a: Moments, b: Moments) -> float:
    """As in the scripts that most papers cite (Heusel et al. 2017)."""
    c1, c2, gap = a.covariance, b.covariance, a.mean - b.mean
    root = sqrtm(c1 @ c2)
    if not np.isfinite(root).all():
        little = np.eye(len(c1)) * 1e-6
        root = sqrtm((c1 + little) @ (c2 + little))
    return float(gap @ gap + np.trace(c1) + np.trace(c2) - 2 * np.trace(root.real))


def truth(x: np.ndarray, y: np.ndarray) -> float:
    a, b = (torch.from_numpy(z).double() for z in (x, y))
    r1, r2 = (torch.linalg.qr(z - z.mean(0), mode="r").R / (len(z) - 1) ** 0.5 for z in (a, b))
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + (r1**2).sum() + (r2**2).sum() - 2 * torch.linalg.svdvals(r1 @ r2.T).sum())


def seconds(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    value = work()
    return time.perf_counter() - began, value


def row(d: int, n: int, repeats: int) -> list[str]:
    x, y = features(n, d, 1), features(n, d, 2)
    a, b, true = Moments.of(x), Moments.of(y), truth(x, y)
    theirs, ours, values = [], [], (0.0, 0.0)
    for _ in range(repeats):
        (t1, v1), (t2, v2) = seconds(lambda: usual(a, b)), seconds(lambda: frechet(a, b))
        theirs.append(t1)
        ours.append(t2)
        values = v1, v2
    ratio = statistics.median(theirs) / statistics.median(ours)
    wrong = [f"{abs(v - true) / true:.0e}" for v in values]
    return [str(d), f"{n:,}", spread(theirs, 3), spread(ours, 3), f"{ratio:.1f}", *wrong]


def others(d: int, n: int = 10_000) -> list[str]:
    x, y = features(n, d, 1), features(n, d, 2)
    first, real = seconds(lambda: Moments.of(x))
    h = median_distance(x)
    works: list[Callable[[], object]] = [
        lambda: frechet_interval(real, y),
        lambda: frechet_infinity(real, y),
        lambda: kid(x, y),
        lambda: p_value(x[:2000], y[:2000], gaussian(h)),
    ]
    return [str(d), f"{first:.2f}", *(f"{seconds(work)[0]:.2f}" for work in works)]


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--features", type=int, nargs="+", default=[64, 512, 2048])
    parse.add_argument("--repeats", type=int, default=3)
    said = parse.parse_args(sys.argv[1:])
    print(
        machine(),
        f"numpy {np.__version__}, scipy {scipy.__version__}, {os.environ.get('OMP_NUM_THREADS', 'all')} "
        "threads",
        sep=", ",
    )
    print(heading("moments to distance, seconds, median (min-max)"), "", sep="\n")
    sizes = [(d, n) for d in said.features for n in (max(1000, 5 * d), d // 2)]
    head = ["features", "images a side", "sqrtm", "ours", "ratio", "error of sqrtm", "error of ours"]
    print(table(head, [row(d, n, said.repeats) for d, n in sizes]), "", sep="\n", flush=True)
    head = [
        "features",
        "moments of one side",
        "interval",
        "unlimited",
        "KID with its error",
        "permutation test of 2,000",
    ]
    print(table(head, [others(d) for d in said.features]))


if __name__ == "__main__":
    main()
