"""The classifier: its score, what it is shown while training, whether it knows what it knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import small_run
from likeness import data as datasets
from likeness import engine
from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.models.classifier import Classifier, calibration, shifted
from likeness.training.loop import fit


def classes(channels: int = 1, size: int = 16, labels: int = 3, **options: object) -> Classifier:
    return Classifier(spec=Spec(channels, size, labels), width=8, **options)


def batch(n: int = 6, channels: int = 1, size: int = 16, labels: int = 3) -> Batch:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-1, 1, (n, channels, size, size))).float()
    return Batch(x, Condition(torch.from_numpy(rng.integers(0, labels, n))), Noise(range(n), 5))


@pytest.mark.parametrize("labels", [0, 1])
def test_it_needs_classes(labels):
    with pytest.raises(Refusal, match="folder of their own, or train vicreg"):
        Classifier(spec=Spec(1, 16, labels))


@pytest.mark.parametrize("channels, size", [(1, 8), (3, 9), (1, 28), (3, 128)])
def test_images_of_any_size_become_64_numbers_and_probabilities(channels, size):
    model, b = classes(channels, size), batch(2, channels, size)
    h, log_p = model.encode(b.x), model.classify(b.x)
    assert h.shape == (2, 64) and bool((h >= 0).all())
    assert torch.allclose(log_p.exp().sum(1), torch.ones(2)) and torch.allclose(
        log_p, model.last(h).log_softmax(1)
    )


def test_the_loss_is_cross_entropy_in_nats():
    model, b = classes(shift=0.0), batch()
    logits = model.last(model.encode(b.x)).detach().double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right, loss = p[np.arange(6), b.y.label.numpy()], float(model.loss(b).total.detach())
    assert loss == pytest.approx(-np.log(right).mean(), rel=1e-5)
    smoothed = -(0.9 * np.log(right) + 0.1 * np.log(p).mean(1)).mean()
    assert loss != pytest.approx(smoothed, rel=1e-4), "smoothed labels bend the probabilities"


def test_all_chance_comes_from_the_batch():
    model, b = classes(shift=0.2).train(), batch()
    torch.manual_seed(1)
    one = model.loss(b).total
    torch.manual_seed(2)
    again = model.loss(batch()).total
    assert torch.equal(one, again) and not torch.equal(
        one, model.loss(Batch(b.x, b.y, Noise(range(6), 6))).total
    )


def by_hand(x: np.ndarray, down: int, right: int, most: int) -> np.ndarray:
    wide = np.pad(x, ((0, 0), (most, most), (most, most)), mode="edge")
    return wide[:, most + down : most + down + x.shape[1], most + right : most + right + x.shape[2]]


def test_each_image_is_moved_by_whole_pixels_and_its_border_repeated():
    x, most, moves = batch(200, 3, 9).x, 2, []
    for before, after in zip(x.numpy(), shifted(x, Noise(range(200), 1), most).numpy()):
        found = [
            (d, r)
            for d in range(-most, most + 1)
            for r in range(-most, most + 1)
            if np.array_equal(after, by_hand(before, d, r, most))
        ]
        assert len(found) == 1
        moves += found
        circular = np.roll(before, [-m for m in found[0]], (1, 2))
        assert found[0] == (0, 0) or not np.array_equal(after, circular), (
            "what leaves on one side must not come back on the other"
        )
    counts = np.unique(moves, axis=0, return_counts=True)[1]
    assert len(counts) == 25 and counts.max() < 25, "all 25 moves are equally likely"
    assert torch.equal(shifted(x, Noise(range(200), 1), 0), x)
    assert torch.equal(shifted(x, Noise(range(200), 1), most)[7:8], shifted(x[7:8], Noise([7], 1), most)), (
        "a move depends on the image alone"
    )


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    rng = np.random.default_rng(0)
    sure = torch.from_numpy(rng.uniform(0.2, 1, 100_000))
    honest = torch.from_numpy(rng.uniform(0, 1, 100_000)) < sure
    boastful = torch.from_numpy(rng.uniform(0, 1, 100_000)) < sure - 0.2
    assert calibration(sure, honest.double()) < 0.01
    assert calibration(sure, boastful.double()) == pytest.approx(0.2, abs=0.01)
    one_by_one = float((sure - honest.double()).abs().mean())
    assert one_by_one > 0.2, "the mean over single answers would blame an honest classifier"


def test_it_learns_digits_and_is_calibrated(tmp_path):
    data = datasets.load("digits")
    run, _ = small_run("classifier", tmp_path, data, images=12_000, batch=64, warmup=2_000, ema=2_000)
    held = engine.put(data.take(data.held_out))
    before = {name: (value, warning) for name, value, warning in run.model.diagnose(held)}
    assert before["accuracy"][0] < 0.4 and before["accuracy"][1].endswith("nothing of new images")
    list(fit(run, data))
    after = {name: (value, warning) for name, value, warning in run.model.diagnose(held)}
    assert after["accuracy"][0] > 0.9 and not after["accuracy"][1]
    assert after["calibration error"][0] < 0.05 and not after["calibration error"][1]
    assert list(run.model.diagnose(Batch(held.x, None, held.noise))) == []


def test_probabilities_that_are_too_sure_are_called_so():
    model, b = classes(), batch(400)
    with torch.no_grad():
        model.last.weight.zero_()
        model.last.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
    (_, _, useless), (name, error, warning) = model.diagnose(b)
    assert (
        useless
        and name == "calibration error"
        and error > 0.5
        and ("cannot be taken at their word") in warning
    )
