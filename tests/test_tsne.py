"""t-SNE: perplexities by entropy, the gradient by finite differences and pair by pair, the map against
scikit-learn's by KL at the same P."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE

from likeness.core import Refusal
from likeness.maps import embedding, tsne


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_digits().data.astype(np.float32)


@pytest.fixture(scope="module")
def few(digits) -> np.ndarray:
    return embedding.principal(digits[:450]).of(digits[:450])


def blob(n: int = 60, d: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d))).to(dtype)


def run(x: np.ndarray, **how: object) -> torch.Tensor:
    *_, last = embedding.arrange(x, **how)
    return last.y


# P


@pytest.mark.parametrize("perplexity", [2.0, 5.0, 30.0])
def test_every_row_has_the_perplexity_that_was_asked_for(perplexity):
    x = blob(200) * torch.logspace(-3, 3, 200, dtype=torch.float64)[:, None]  # rows of very different density
    squared, _ = tsne.nearest(x, tsne.neighbours_for(200, perplexity))
    p = tsne.conditionals(squared, perplexity)
    assert p.sum(1).numpy() == pytest.approx(1)
    assert tsne.entropy(p).exp().numpy() == pytest.approx(perplexity, rel=1e-9)
    one_width = torch.softmax(-squared / squared.mean(), 1)  # the fake: the same width for all
    assert np.abs(tsne.entropy(one_width).exp().numpy() - perplexity).max() > 0.5


def test_P_is_symmetric_and_sums_to_one(few):
    near = tsne.affinities(torch.from_numpy(few).double(), 20)
    dense = torch.zeros(450, 450, dtype=torch.float64)
    dense[near.rows.long(), near.columns.long()] = near.p
    assert (
        torch.equal(dense, dense.T) and float(dense.sum()) == pytest.approx(1) and not dense.diagonal().any()
    )
    assert (near.starts == np.searchsorted(near.rows.numpy(), np.arange(450))).all()


def test_neighbours_are_those_of_brute_force():
    x = blob(300, 3) + 1000  # far from zero, where products round
    squared, found = tsne.nearest(x.float(), 7)
    d = torch.cdist(x.float().double(), x.float().double()).fill_diagonal_(torch.inf)
    assert torch.equal(found, d.argsort(1)[:, :7])
    assert squared.sqrt().numpy() == pytest.approx(d.sort(1).values[:, :7].numpy(), rel=1e-4)


def test_copies_share_alike_and_break_nothing():
    x = torch.cat([torch.zeros(20, 4), blob(20, 4, dtype=torch.float32)])
    given = tsne.conditionals(*tsne.nearest(x, 12)[:1], 4.0)
    assert given.isfinite().all() and given[0].numpy() == pytest.approx(1 / 12)
    y = run(x.numpy(), perplexity=4.0, random=True)
    assert y.isfinite().all() and len(torch.unique(y, dim=0)) == 40


# The gradient


def dense_kl(near: tsne.Affinities, y: torch.Tensor) -> torch.Tensor:
    """As in the paper: all pairs, no trick."""
    w = 1 / (1 + torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist").square())
    q = w * (1 - torch.eye(len(y), dtype=y.dtype)) / (w.sum() - len(y))
    rows, columns = near.rows.long(), near.columns.long()
    return (near.p * (near.p / q[rows, columns]).log()).sum()


def test_gradient_is_that_of_finite_differences():
    near, y, h = tsne.affinities(blob(), 8.0), blob(60, 2, seed=1), 1e-5
    slope, kl = tsne.gradient(near, y, tsne.pair_by_pair)
    assert float(kl) == pytest.approx(float(dense_kl(near, y)), rel=1e-12)
    numeric = torch.empty_like(y)
    for i in range(len(y)):
        for k in range(2):
            step = torch.zeros_like(y)
            step[i, k] = h
            numeric[i, k] = (dense_kl(near, y + step) - dense_kl(near, y - step)) / (2 * h)
    assert slope.numpy() == pytest.approx(numeric.numpy(), abs=1e-9, rel=1e-6)
    assert np.abs(slope.numpy() / 4 - numeric.numpy()).max() > 1e-3  # the fake: without the factor 4


@pytest.mark.parametrize("spread, n", [(1e-4, 500), (1.0, 500), (15.0, 1000)])
def test_forces_on_the_grid_are_those_pair_by_pair(spread, n):
    y = spread * blob(n, 2)
    exact = tsne.pair_by_pair(y)

    def wrong(found: tsne.Force) -> tuple[float, float]:
        return float((found.on - exact.on).norm() / exact.on.norm()), abs(
            float(found.total / exact.total) - 1
        )

    force, total = wrong(tsne.on_grid(y))
    assert (force < 0.04 and total < 0.003) if spread > 10 else (force < 1e-3 and total < 1e-5)
    finer = wrong(tsne.on_grid(y, 0.125))
    # it is an approximation of the right thing: the finer the grid the nearer
    assert finer[0] < 1e-3 and finer[1] < 1e-4
    assert wrong(tsne.on_grid(y + 1234.5))[0] == pytest.approx(force, rel=1e-3)  # wherever the map lies
    narrow = tsne.on_grid(y.float())
    assert wrong(tsne.Force(narrow.on.double(), narrow.total.double()))[0] < 0.04


def test_the_grid_does_not_wrap_around():
    y = torch.tensor([[0.0, 0.0], [100.0, 0.0]], dtype=torch.float64)
    found, exact = tsne.on_grid(y, 0.2), tsne.pair_by_pair(y)
    assert (
        float(found.on[1, 0]) == pytest.approx(float(exact.on[1, 0]), abs=1e-6) and float(exact.on[1, 0]) > 0
    )


# The way down


def test_a_map_of_digits_is_as_good_as_that_of_scikit_learn(few):
    near = tsne.affinities(torch.from_numpy(few), 30.0)
    steps = list(embedding.arrange(few, perplexity=30.0))
    theirs = torch.from_numpy(TSNE(random_state=0, perplexity=30.0).fit_transform(few))
    mine, their = (float(tsne.gradient(near, y, tsne.pair_by_pair)[1]) for y in (steps[-1].y, theirs))
    assert mine < their + 0.02
    assert steps[-1].kl == pytest.approx(mine, abs=0.01)  # Z on the grid
    assert steps[-1].step == tsne.EARLY + tsne.LATE and steps[0].kl > 2 > steps[-1].kl
    assert steps[-1].kl <= min(s.kl for s in steps) + 1e-3
    pca = next(embedding.arrange(few, "pca")).y
    assert float(tsne.gradient(near, pca, tsne.pair_by_pair)[1]) > mine + 0.3  # the fake: a PCA plot


def test_same_seed_same_bits_and_another_seed_another_map(few):
    x = few
    near = tsne.affinities(torch.from_numpy(x), 20)
    for random in (False, True):
        a, b, c = (
            list(tsne.descend(near, tsne.start(torch.from_numpy(x), seed, random), 20, 20))[-1].y
            for seed in (1, 1, 2)
        )
        assert torch.equal(a, b) and not torch.equal(a, c)


def test_the_order_of_rows_does_not_matter_to_P(few):
    x = torch.from_numpy(few[:100]).double()
    turn = torch.from_numpy(np.random.default_rng(0).permutation(100))
    a, b = tsne.affinities(x, 10), tsne.affinities(x[turn], 10)
    assert b.p.sort().values.numpy() == pytest.approx(a.p.sort().values.numpy())


def test_few_points_are_summed_pair_by_pair_and_many_on_the_grid(monkeypatch):
    called = []
    monkeypatch.setattr(
        tsne, "pair_by_pair", lambda y: called.append(len(y)) or tsne.Force(y, y.new_ones(()))
    )
    monkeypatch.setattr(tsne, "on_grid", lambda y: called.append(-len(y)) or tsne.Force(y, y.new_ones(())))
    for n in (tsne.FEW, tsne.FEW + 1):
        tsne.gradient(tsne.affinities(blob(n), 3), blob(n, 2))
    assert called == [tsne.FEW, -tsne.FEW - 1]


def test_what_nobody_is_told_is_not_computed_and_changes_nothing(few, monkeypatch):
    near, y = tsne.affinities(torch.from_numpy(few), 20), blob(450, 2, dtype=torch.float32)
    (slope, kl), (same, nothing) = (tsne.gradient(near, y, with_kl=with_kl) for with_kl in (True, False))
    assert torch.equal(slope, same) and kl.isfinite() and nothing.isnan()
    asked, attraction = [], tsne.attraction
    monkeypatch.setattr(
        tsne, "attraction", lambda near, y, told: asked.append(told) or attraction(near, y, told)
    )
    steps = list(tsne.descend(near, tsne.start(torch.from_numpy(few)), 12, 13))
    assert sum(asked) == len(steps) == 4 and len(asked) == 26 and all(math.isfinite(s.kl) for s in steps)


def test_neighbours_that_are_known_give_the_same_P(few):
    x = torch.from_numpy(few)
    a, b = tsne.affinities(x, 20), tsne.affinities(x, 20, tsne.nearest(x, 60))
    assert torch.equal(a.p, b.p) and torch.equal(a.columns, b.columns)
    assert float(a.entropy) == pytest.approx(-float((a.p * a.p.log()).sum()), rel=1e-5) and float(
        a.mass
    ) == pytest.approx(1)


# Lessons


def test_too_large_a_perplexity_is_a_lesson():
    with pytest.raises(
        Refusal,
        match=r"looks at 90 neighbours of each image, and "
        r"there are 49 "
        r"others; type "
        r"--perplexity 16.3 or less",
    ):
        tsne.affinities(blob(50), 30)
    with pytest.raises(Refusal, match="bring 5 or more"):
        tsne.affinities(blob(4), 1.1)
    with pytest.raises(
        Refusal, match=r"counts no neighbour at all; type " r"one above " r"1, up to " r"--perplexity 16.3"
    ):
        tsne.affinities(blob(50), 0.5)
    largest = math.floor(10 * 49 / 3) / 10
    assert len(tsne.affinities(blob(50), largest)) == 50  # what the lesson says is true
