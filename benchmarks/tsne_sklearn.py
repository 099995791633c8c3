"""t-SNE beside scikit-learn's (and openTSNE's, where it is installed): seconds, KL and neighbours kept, from
the same matrix in the same process.

    OMP_NUM_THREADS=2 LIKENESS_DATA=data python benchmarks/tsne_sklearn.py -n 10000
    OMP_NUM_THREADS=2 python benchmarks/tsne_sklearn.py -n 2000 --repeats 1
    OMP_NUM_THREADS=2 python benchmarks/tsne_sklearn.py -n 100000 --repeats 1 --sides ours openTSNE

The first n images of Fashion-MNIST's training set by their 50 principal components, or, without
LIKENESS_DATA, Gaussian blobs of as many dimensions.  Everybody starts from the two largest components, with
perplexity 30 and defaults otherwise (ours 250 + 500 steps, scikit-learn's 1,000, openTSNE's 250 + 500).
Seconds are from the matrix to the map, with the search for neighbours; CPU seconds, of all threads, are what
is left to compare on a busy machine.  Sides take turns.  KL(P || Q) is of one P, ours in float64, and an
exact Q, up to 20,000 points; neighbours kept are the share of the 10 nearest in 50 dimensions that are among
the 10 nearest in the map, of 2,000 images.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from measure import heading, machine, spread, table

from likeness import data
from likeness.maps import embedding, tsne

PERPLEXITY = 30.0
EXACT = 20_000
"""points of which all pairs are summed"""
Side = Callable[[np.ndarray], np.ndarray]


def matrix(n: int) -> tuple[np.ndarray, str]:
    """float32 (n, 50), and what it is."""
    if os.environ.get("LIKENESS_DATA"):
        x = data.load("fashion-mnist").x[:n]
        return embedding.principal(x.reshape(len(x), -1)).of(x.reshape(len(x), -1)), (
            f"Fashion-MNIST, {n:,} x 50"
        )
    rng = np.random.default_rng(0)
    centres = 4 * rng.normal(size=(20, 50))
    x = (centres[rng.integers(0, 20, n)] + rng.normal(size=(n, 50)) * np.geomspace(3, 0.3, 50)).astype(
        np.float32
    )
    return embedding.principal(x).of(x), f"20 Gaussian blobs, {n:,} x 50"


def ours(x: np.ndarray) -> np.ndarray:
    *_, last = embedding.arrange(x, perplexity=PERPLEXITY)
    return last.y.numpy()


def scikit_learn(x: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    return TSNE(
        perplexity=PERPLEXITY, init="pca", random_state=0, n_jobs=torch.get_num_threads()
    ).fit_transform(x)


def open_tsne(x: np.ndarray) -> np.ndarray:
    from openTSNE import TSNE

    return np.asarray(
        TSNE(perplexity=PERPLEXITY, initialization="pca", random_state=0, n_jobs=torch.get_num_threads()).fit(
            x
        ),
        np.float32,
    )


def sides(wanted: list[str]) -> dict[str, Side]:
    """Those that are wanted, or all that are there."""
    found: dict[str, Side] = {"ours": ours, "scikit-learn": scikit_learn}
    try:
        import openTSNE  # noqa: F401

        found["openTSNE"] = open_tsne
    except ImportError:
        pass
    return {name: side for name, side in found.items() if name in (wanted or found)}


def divergence(near: tsne.Affinities, y: np.ndarray) -> float:
    return float(tsne.gradient(near, torch.from_numpy(y).double(), tsne.pair_by_pair)[1])


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("-n", type=int, default=10_000)
    parse.add_argument("--repeats", type=int, default=3)
    parse.add_argument("--sides", nargs="+", default=[], help="ours, and others to be run")
    said = parse.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    x, what = matrix(said.n)
    print(machine(), f"{torch.get_num_threads()} threads", sep=", ")
    print(
        heading(f"t-SNE of {what}, perplexity {PERPLEXITY:g}, median (min-max) of {said.repeats}"),
        "",
        sep="\n",
    )
    near = tsne.affinities(torch.from_numpy(x).double(), PERPLEXITY) if said.n <= EXACT else None
    chosen = sides(said.sides)
    seconds, worked, made = (
        {name: list[float]() for name in chosen},
        {name: list[float]() for name in chosen},
        dict[str, np.ndarray](),
    )
    for _ in range(said.repeats):
        for name, side in chosen.items():
            gc.collect()
            began, busy = time.perf_counter(), time.process_time()
            made[name] = side(x)
            seconds[name].append(time.perf_counter() - began)
            worked[name].append(time.process_time() - busy)
    rows = []
    kept = embedding.kept(x, made | {"PCA plot": x[:, :2]})
    for name, y in made.items():
        found = kept[name]
        ratios = [
            f"{statistics.median(times[name]) / statistics.median(times['ours']):.2f}"
            for times in (seconds, worked)
        ]
        rows.append(
            [
                name,
                spread(seconds[name], 1),
                ratios[0],
                spread(worked[name], 1),
                ratios[1],
                "" if near is None else f"{divergence(near, y):.4f}",
                f"{found.recall.mean():.3f}",
                f"{found.trust.mean():.4f}",
            ]
        )
    found = kept["PCA plot"]
    rows.append(["PCA plot", "", "", "", "", "", f"{found.recall.mean():.3f}", f"{found.trust.mean():.4f}"])
    print(
        table(
            [
                "",
                "seconds",
                "to ours",
                "CPU seconds",
                "to ours",
                "KL at the same P",
                "neighbours kept",
                "trustworthiness",
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()
