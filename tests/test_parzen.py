"""The Parzen-window estimate: against the Gaussian's own formula and a double loop; its bandwidth; and its
flaw."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from torch import Tensor

from conftest import toy
from likeness.core import Condition, Noise, Refusal
from likeness.data import Data, picture
from likeness.evaluation import exam, likelihood
from likeness.metrics import parzen
from test_evaluate import Copier, named, trained


def images(n: int, seed: int = 0, size: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 2, size, size)).astype(np.uint8)


def test_one_kernel_is_the_gaussian():
    x, kernel, sigmas = images(7), images(1, 1), np.array([0.1, 0.5])
    found = parzen.log_density(x, kernel, sigmas)
    for row, sigma in zip(found, sigmas):
        squared = ((x / 255 - kernel / 255) ** 2).sum((1, 2, 3))
        assert row == pytest.approx(
            -squared / (2 * sigma**2) - 25 * math.log(2 * math.pi * sigma**2), rel=1e-9
        )


def test_many_kernels_are_the_double_loop(monkeypatch):
    monkeypatch.setattr(parzen, "CHUNK", 40)  # several chunks, the last one shorter
    x, kernels, sigma = images(11), images(13, 1), 0.7
    for i, value in enumerate(parzen.log_density(x, kernels, np.array([sigma]))[0]):
        terms = [
            math.prod(
                math.exp(-((float(a) - float(b)) ** 2) / 255**2 / (2 * sigma**2))
                / math.sqrt(2 * math.pi * sigma**2)
                for a, b in zip(x[i].flat, k.flat)
            )
            for k in kernels
        ]
        assert value == pytest.approx(math.log(sum(terms) / len(terms)), rel=1e-6)


def test_far_from_every_kernel_nothing_underflows():
    black, white = np.zeros((1, 1, 28, 28), np.uint8), np.full((2, 1, 28, 28), 255, np.uint8)
    (value,) = parzen.log_density(black, white, np.array([0.02]))[0]
    assert value == pytest.approx(-784 / (2 * 0.02**2) - 392 * math.log(2 * math.pi * 0.02**2))


def test_the_bandwidth_is_the_likeliest_for_validation_images():
    """Of points about one kernel it is their standard deviation, as for any Gaussian."""
    rng, middle = np.random.default_rng(0), np.full((1, 1, 16, 16), 128, np.uint8)
    near = (128 + 255 * 0.12 * rng.standard_normal((500, 1, 16, 16))).round().clip(0, 255).astype(np.uint8)
    assert parzen.bandwidth(middle, near) == pytest.approx(0.12, rel=0.06)


def test_centres_are_means_of_their_images():
    blobs = np.repeat(np.array([20, 120, 220], np.uint8), 40)[:, None, None, None] + np.random.default_rng(
        0
    ).integers(0, 3, (120, 1, 4, 4)).astype(np.uint8)
    found = np.sort(parzen.centres(blobs, 3, seed=1).mean((1, 2, 3)))
    assert len(found) == 3 and found.min() >= 20 and found.max() <= 222
    few = parzen.centres(blobs, 1)
    assert few[0] == pytest.approx(blobs.mean(0), abs=0.51)
    assert (
        parzen.affordable(60_000, 10_000, 784) == pytest.approx(8500, rel=0.01)
        and parzen.affordable(200, 10_000, 784) == 100
    )


class Blurred(Copier):
    """Training images with noise."""

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        (x,) = super().sample(noise, y)
        yield (x + 0.3 * noise.normal(*self.spec.shape)).clamp(-1, 1)


def test_it_is_asked_for_and_its_flaw_stands_on_the_card(monkeypatch):
    monkeypatch.setattr(likelihood, "KERNELS", 400)
    data = toy(n=1200, size=8, held_out=200)
    monkeypatch.setattr(Blurred, "shelf", picture(data.x[data.train]))
    run = trained(Blurred, data)
    assert not any(card.name == "Parzen window" for card in exam.evaluate(run, data, 150, network="none"))
    cards = [
        card
        for card in exam.evaluate(run, data, 150, network="none", parzen=True)
        if card.name == "Parzen window"
    ]
    model, centres, train = (
        named(cards, "Parzen window", of) for of in ("model", "k-means centres", "training images")
    )
    assert (
        {c.unit for c in cards} == {"nats"}
        and {c.n for c in cards} == {150}
        and model.against == train.against == 400
        and not model.better
    )
    assert (
        model.low < model.value < model.high
        and "standard error" in model.note
        and "1,000" not in model.note
        and "on 200 training images" in model.note
    )
    assert centres.value > train.value > model.value, "centres of k-means are above real images"
    assert (
        "says nothing" in model.warning
        and ("prefers the centres of k-means to real images") in model.warning
        and not centres.warning
    )


def test_bandwidths_are_chosen_on_training_images_that_are_no_kernels(monkeypatch):
    x, seen, fitted = images(600), [], []
    data = Data("noise", "noise-1", x, np.arange(100, 600), np.arange(100))
    monkeypatch.setattr(Blurred, "shelf", picture(x[100:]))
    monkeypatch.setattr(
        likelihood.parzen, "bandwidth", lambda kernels, choosing: seen.append((kernels, choosing)) or 0.2
    )
    monkeypatch.setattr(
        likelihood.parzen, "centres", lambda known, k, seed: fitted.append(known) or known[:k]
    )
    list(likelihood.window(exam.prepare(trained(Blurred, data), data, 50, 0, "none", True)))
    own, held = ({image.tobytes() for image in part} for part in (x[100:], x[:100]))
    choosing = {image.tobytes() for image in seen[0][1]}
    assert len(choosing) == 100 and choosing < own
    for known in (seen[1][0], fitted[0]):
        known = {image.tobytes() for image in known}
        assert len(known) == 400 and known < own and not known & choosing and not known & held


def test_too_few_images_are_refused_in_a_sentence():
    data = toy(n=80, size=8)
    with pytest.raises(Refusal, match="leave --parzen out"):
        exam.prepare(trained(Copier, data), data, 10, 0, parzen=True)
