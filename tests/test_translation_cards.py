"""The cards of models that translate: known answers of toy models, each beside what costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from likeness.core import Condition, Model, Noise, Refusal
from likeness.data import Data, picture
from likeness.evaluation import exam as evaluation
from likeness.evaluation import translation as part
from likeness.features import networks
from likeness.features.networks import Network
from likeness.metrics import translation as measures
from likeness.metrics.card import Score
from test_evaluate import named, trained


class Negative(Model):
    """The right answer, both ways, of pairs and domains that are each other's negative."""

    takes = ("image",)

    def build(self) -> None:
        pass

    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        return -x


class OneWay(Negative):
    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        if back:
            raise Refusal("one way only.")
        return x


class Hides(Negative):
    """A grey of which one level in a hundred tells the source: perfect there and back, and of no use."""

    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        return x / 0.02 if back else x * 0.02


class Draws(Model):
    """Translates by drawing: the negative of what it is told, and a noise that the seed decides."""

    takes = ("image",)

    def build(self) -> None:
        pass

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        assert y is not None and y.image is not None
        yield (-y.image + 0.04 * (noise.uniform(*self.spec.shape) - 0.5)).clamp(-1, 1)


class Enlarges(Model):
    takes = ("image",)

    def build(self) -> None:
        pass

    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


def scenes(n: int = 120, channels: int = 1, size: int = 8, seed: int = 0) -> np.ndarray:
    """Two classes by turns: bright on the right or on the left; each image has a brightness of its own."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 60, (n, channels, size, size)) + rng.integers(0, 40, (n, 1, 1, 1))
    right = np.arange(n) % 2 == 1
    x[:, :, :, size // 2 :][~right] += 60
    x[:, :, :, : size // 2][right] += 60
    return x.astype(np.uint8)


def data_of(x: np.ndarray, held: int = 40, classes: bool = True) -> Data:
    rows = np.arange(len(x))
    y = rows % 2 if classes else None
    names = ("left", "right") if classes else ()
    return Data("scenes", f"scenes {len(x)} {x.shape}", x, rows[held:], rows[:held], y=y, classes=names)


def pairs() -> Data:
    """B is the negative of A, so that its classes are the other way round: y is the class of B."""
    x = scenes()
    return data_of(x).with_pairs(255 - x)


def domains(truth: bool = True) -> Data:
    a, b = data_of(255 - scenes(seed=1)), data_of(scenes())
    data = b.with_domain(a)
    return replace(data, truth=255 - a.x[a.held_out]) if truth else data


@pytest.fixture
def looks(monkeypatch) -> None:
    """A network of no weights in place of one that is trained: means over quarters are features, and
    the brighter half is the class."""

    def load(name: str, data: Data, progress: object = None) -> Network:
        def judge(x: np.ndarray) -> Tensor:
            half = x.shape[-1] // 2
            left = picture(x)[..., :half].mean((1, 2, 3)) - picture(x)[..., half:].mean((1, 2, 3))
            return torch.stack([-left, left], 1).mul(5).softmax(1)

        def embed(x: np.ndarray) -> Tensor:
            return F.adaptive_avg_pool2d(picture(x), 2).flatten(1)

        size = 4 * data.spec.channels
        return Network("classifier", "abc", size, "none", "only within it", embed, judge, spares=True)

    monkeypatch.setattr(networks, "load", load)
    monkeypatch.setattr(networks, "best", lambda data: "classifier")
    monkeypatch.setattr(networks, "outlook", lambda *_: "")


def cards(kind: type[Model], data: Data, n: int = 40, network: str = "none", **more) -> list[Score]:
    asked = evaluation.prepare(trained(kind, data), data, n, 0, network, **more)
    return list(part.cards(asked))


# Errors to the truth


def test_the_nearest_neighbour_is_looked_for_among_all_images(monkeypatch):
    """Also where colours are fitted to a few of them, as the notes say."""
    monkeypatch.setattr(part, "FITTED", 640)
    data = pairs()
    result = cards(Negative, data)
    n = len(data.train)
    small = measures.Nearest.small(picture(data.pairs[data.train]))
    near = torch.cdist(measures.Nearest.small(picture(data.pairs[data.held_out])), small).argmin(1)
    by_hand = measures.mae(picture(data.x[data.train])[near], picture(data.x[data.held_out])).mean()
    nearest = named(result, "MAE to truth", "nearest neighbour")
    assert nearest.value == pytest.approx(float(by_hand))
    assert f"; of {n} training images" in nearest.note
    few = named(result, "MAE to truth", "histogram matching").note
    assert int(few.rpartition("; of ")[2].split()[0]) < n and few.endswith(f"of {n}")


def test_the_right_answer_has_no_error_and_what_costs_nothing_has_its_own():
    data = pairs()
    result = cards(Negative, data)
    assert {s.group for s in result} == {"translation"} and {s.n for s in result} == {40}
    assert named(result, "MAE to truth").value == pytest.approx(0, abs=1e-4)
    assert named(result, "PSNR to truth").value == 100 and named(
        result, "SSIM to truth"
    ).value == pytest.approx(1)
    a, b = picture(data.pairs[data.held_out]), picture(data.x[data.held_out])
    by_hand = float(measures.mae(a, b).mean())
    assert named(result, "MAE to truth", "identity").value == pytest.approx(by_hand)
    assert named(result, "MAE to truth", "affine colour map").value < 1, "it learns the negative from pairs"
    others = {s.of for s in result if s.name == "MAE to truth"}
    assert others == {"model", "identity", "histogram matching", "affine colour map", "nearest neighbour"}
    wrong = cards(OneWay, data)
    assert named(wrong, "MAE to truth").value == pytest.approx(by_hand) and by_hand > 60


def test_domains_are_judged_by_the_truth_of_held_out_sources_where_it_is_known():
    result = cards(Negative, domains())
    assert named(result, "MAE to truth").value == pytest.approx(0, abs=1e-4)
    affine = named(result, "MAE to truth", "affine colour map")
    assert affine.value > 20 and "Monge-Kantorovich" in affine.note, "no moments tell a negative"
    assert "MAE to truth" not in {s.name for s in cards(Negative, domains(truth=False))}
    few = cards(Negative, domains(), n=10)
    assert named(few, "MAE to truth").n == 10 and named(few, "MAE to truth").value == pytest.approx(
        0, abs=1e-4
    )


def test_a_model_that_draws_is_judged_by_what_it_draws_of_each_source():
    """In the exam's own order; without the source of each it would be as bad as its neighbour."""
    data = pairs()
    exam = evaluation.prepare(trained(Draws, data), data, 25, 3, "none")
    result = list(part.cards(exam))
    assert part.wanted(exam) == 25 == named(result, "MAE to truth").n
    assert (
        named(result, "MAE to truth").value
        < 3
        < 10
        < named(result, "MAE to truth", "nearest neighbour").value
    )
    assert np.array_equal(exam.samples, evaluation.prepare(trained(Draws, data), data, 25, 3, "none").samples)
    assert not any(s.name.startswith("cycle") for s in result)


def test_nothing_is_said_of_models_that_make_no_image_of_another():
    class Encodes(Model):
        def build(self) -> None:
            pass

        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    assert cards(Encodes, pairs()) == [] and cards(Negative, data_of(scenes())) == []
    assert cards(Draws, domains()) == [], "to draw of a source one has to have been shown what belongs to it"


def test_a_model_of_another_size_is_a_card_that_says_so():
    data = data_of(scenes()).with_pairs(scenes(size=8))
    run = trained(Enlarges, data)
    (card,) = [s for s in evaluation.evaluate(run, data, 40, network="none") if s.group == "translation"]
    assert card.refused and "makes 1x16x16 of an image, and targets are 1x8x8" in card.warning


# Enlarging


def test_enlargements_are_judged_on_y_inside_the_border_beside_bicubic_and_lanczos():
    x = scenes(channels=3, size=16)
    x[:, :, ::2] = 255 - x[:, :, ::2]
    small = x.reshape(-1, 3, 8, 2, 8, 2).mean((3, 5)).astype(np.uint8)
    data = data_of(x).with_pairs(small)
    result = cards(Enlarges, data)
    assert {s.of for s in result} == {"model", "bicubic", "Lanczos"}
    truth, a = picture(x[:40]), picture(small[:40])
    for of, out in (
        ("model", F.interpolate(a, scale_factor=2)),
        ("bicubic", measures.resized(a, 16, "bicubic")),
        ("Lanczos", measures.resized(a, 16, "lanczos")),
    ):
        want = measures.psnr_y(out, truth, 2)
        assert named(result, "PSNR on Y", of).value == pytest.approx(float(want.mean()), rel=1e-5), of
        assert named(result, "SSIM on Y", of).unit == ""
    assert "PSNR on Y" not in {s.name for s in cards(Negative, pairs())}


# Classes and sets


def test_the_class_is_kept_by_who_translates_it_and_real_targets_stand_beside(looks):
    """A and B have the other side dark, so that only a negative keeps the class."""
    data = domains()
    result, wrong = cards(Negative, data, network="auto"), cards(OneWay, data, network="auto")
    assert named(result, "class kept").value == 1 and named(wrong, "class kept").value == 0
    assert named(result, "class kept", "identity").value == 0
    assert named(result, "class kept", "held-out images").value == 1
    assert named(result, "class kept").network == "classifier"
    other = replace(data, other=replace(data.other, classes=("left", "middle")))
    half = named(cards(Negative, other, network="auto"), "class kept")
    assert half.n == int((data.other.y[data.other.held_out] == 0).sum()), "of classes that both sides have"
    apart = replace(data, other=replace(data.other, classes=("a", "b")))
    assert "class kept" not in {s.name for s in cards(Negative, apart, network="auto")}


def test_sets_are_compared_at_the_same_n_beside_the_source_and_beside_real_targets(looks):
    result = cards(Negative, domains(), network="auto")
    for law in ("Fréchet distance of translations", "KID of translations"):
        rows = {s.of: s for s in result if s.name == law}
        assert {"model", "identity", "real images"} <= rows.keys() and {s.n for s in rows.values()} == {40}
    kid = {s.of: s.value for s in result if s.name == "KID of translations"}
    assert kid["identity"] > 10 * max(abs(kid["model"]), abs(kid["real images"]))
    far = {s.of: s.value for s in result if s.name == "feature distance to truth"}
    assert far["model"] < 1e-5 and far["identity"] > 0.5
    few = cards(Negative, domains(), n=20, network="auto")
    refused = named(few, "Fréchet distance of translations")
    assert refused.refused and "compared from 30 images each, and there are 20" in refused.warning


def test_a_network_that_cannot_be_had_takes_no_other_card_with_it():
    result = cards(Negative, replace(domains(), y=None, classes=(), fingerprint="without"), network="auto")
    refused = named(result, "Fréchet distance of translations")
    assert refused.refused and "80 training images are too few to learn features from" in refused.warning
    assert named(result, "MAE to truth").value == pytest.approx(0, abs=1e-4)


# What comes back


def test_what_is_hidden_in_the_last_levels_is_taken_away_by_one_level_of_noise():
    honest, fake = cards(Negative, domains()), cards(Hides, domains())
    assert named(honest, "cycle error").value == pytest.approx(0, abs=1e-3)
    assert named(honest, "cycle error with noise").value == pytest.approx(1, abs=1e-3)
    assert named(honest, "steganography").value == pytest.approx(1, abs=1e-3)
    assert not any("hidden" in s.warning for s in honest)
    assert named(fake, "cycle error").value == pytest.approx(0, abs=1e-3)
    ratio = named(fake, "steganography")
    assert ratio.value > 20 and "sources are hidden in what nobody sees" in ratio.warning
    assert ratio.low < ratio.value < ratio.high and ratio.unit == "times"
    assert not any(s.name.startswith(("cycle", "stegano")) for s in cards(OneWay, domains()))
