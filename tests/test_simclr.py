"""SimCLR: its loss against a plain loop, what it cannot see, and that it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from conftest import small_run
from likeness import data as datasets
from likeness import engine
from likeness.core import Batch, Noise, Spec
from likeness.metrics import probing
from likeness.models.simclr import SimCLR, nt_xent
from likeness.training.loop import fit


def plain(z: np.ndarray, tau: float) -> float:
    """Equation (1), term by term."""
    n = len(z) // 2
    sim = lambda i, j: z[i] @ z[j] / np.sqrt(z[i] @ z[i]) / np.sqrt(z[j] @ z[j])  # noqa: E731
    total = 0.0
    for i in range(2 * n):
        j = i + n if i < n else i - n
        others = sum(math.exp(sim(i, k) / tau) for k in range(2 * n) if k != i)
        total += -math.log(math.exp(sim(i, j) / tau) / others)
    return total / (2 * n)


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_nt_xent_is_that_of_a_plain_loop(tau):
    z = np.random.default_rng(0).normal(size=(14, 5))
    z[7:] += z[:7]
    found, share = nt_xent(torch.from_numpy(z), tau)
    assert float(found) == pytest.approx(plain(z, tau), rel=1e-12) and 0 < float(share) <= 1


def test_the_likest_of_all_is_found_and_an_image_is_not_compared_with_itself():
    z = torch.eye(6, dtype=torch.float64)
    loss, found = nt_xent(torch.cat([z, z]), 0.01)
    assert float(loss) == pytest.approx(0, abs=1e-9) and float(found) == 1
    assert float(nt_xent(torch.cat([z, z.roll(1, 0)]), 0.01)[1]) == 0


def test_chance_stands_beside_the_loss():
    model, x = SimCLR(spec=Spec(3, 16), width=4), torch.zeros(10, 3, 16, 16)
    terms = model.train().loss(Batch(x, None, Noise(range(10)))).terms
    assert float(terms["chance"]) == pytest.approx(math.log(19)) and set(terms) == {
        "found",
        "chance",
        "spread",
        "RankMe",
        "RankMe at most",
    }


def test_what_it_learns_tells_digits_apart(tmp_path):
    data = datasets.load("digits")
    run, _ = small_run(
        "simclr",
        tmp_path,
        data,
        options=dict(width=16, hidden=64),
        images=16_000,
        batch=64,
        rate=2e-3,
        ema=2_000,
    )
    few = data.train[:100]

    def accuracy() -> float:
        with torch.no_grad():
            known, asked = (
                run.model.encode(engine.put(data.take(rows)).x).cpu().numpy() for rows in (few, data.held_out)
            )
        return float((probing.knn(known, data.y[few], asked) == data.y[data.held_out]).mean())

    before = accuracy()
    list(fit(run, data))
    assert accuracy() > before + 0.03 and all(
        not warning for *_, warning in run.model.diagnose(engine.put(data.take(data.held_out)))
    )
