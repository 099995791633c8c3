"""Known modes: counts, shares and divergences against closed forms; and the cards of runs on points, averaged
and raw."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor

from commands import refused
from likeness import cli, data, storage
from likeness.api import open as open_run
from likeness.core import Batch, Bits, Condition, Model, Noise, Refusal, Training
from likeness.data import Data
from likeness.evaluation import exam, known_modes
from likeness.features import networks
from likeness.inference import sampling
from likeness.metrics import modes
from likeness.metrics.card import Score
from likeness.runs.run import Config, Run
from likeness.training.loop import fit

ONE_PLACE = str(Path(__file__).parent / "one_place.py")
UNIFORM = np.full(8, 1 / 8)


def lattice(k: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(k), np.arange(k)), -1).reshape(-1, 2).astype(float)


# Points to modes


def test_high_quality_is_what_a_circle_of_three_sigmas_holds():
    rng, centres, sigma = np.random.default_rng(0), lattice(5), 0.05
    y = rng.integers(0, 25, 100_000)
    found = modes.of_points(
        (centres[y] + sigma * rng.standard_normal((len(y), 2))).astype(np.float32), centres, sigma
    )
    expected = 1 - math.exp(-9 / 2)  # P(chi2 of 2 degrees < 9)
    assert (found != modes.NONE).mean() == pytest.approx(
        expected, abs=4 * math.sqrt(expected * (1 - expected) / len(y))
    )
    assert (found == y)[found != modes.NONE].all()


def test_the_border_lies_at_three_sigmas():
    x = np.array([[0.299, 0.0], [0.0, -0.301], [0.22, 0.22], [1.0, 0.9]])
    assert modes.of_points(x, np.array([[0.0, 0.0], [1.0, 1.0]]), 0.1).tolist() == [
        0,
        modes.NONE,
        modes.NONE,
        1,
    ]


def test_a_sample_that_is_no_number_is_of_no_mode():
    assert (
        modes.of_points(np.array([[np.nan, 0.0], [np.inf, 0.0]]), np.zeros((1, 2)), 0.1).tolist()
        == [modes.NONE] * 2
    )


def test_counts_leave_out_what_is_of_no_mode():
    many = np.random.default_rng(0).integers(-1, 4, (3, 5, 50))
    naive = np.array([[[(row == k).sum() for k in range(4)] for row in rows] for rows in many])
    assert np.array_equal(modes.counts(many, 4), naive) and np.array_equal(
        modes.counts(many[0, 0], 4), naive[0, 0]
    )


# Divergence


@pytest.mark.parametrize(
    "counted, value",
    [
        ([5] * 8, 0.0),
        ([1, 1, 1, 1, 0, 0, 0, 0], math.log(2)),  # half of the modes
        ([7, 0, 0, 0, 0, 0, 0, 0], math.log(8)),
        ([2, 1, 1, 0, 0, 0, 0, 0], math.log(8) - 1.5 * math.log(2)),
    ],
)
def test_reverse_divergence_of_known_counts(counted, value):
    assert float(modes.reverse_kl(np.array(counted), UNIFORM)) == pytest.approx(value, abs=1e-12)


def test_it_is_the_reverse_one():
    p, q = np.array([3, 1, 0]), np.array([0.2, 0.3, 0.5])
    assert float(modes.reverse_kl(p, q)) == pytest.approx(
        0.75 * math.log(0.75 / 0.2) + 0.25 * math.log(0.25 / 0.3)
    )
    assert np.isinf(modes.reverse_kl(np.array([1, 1]), np.array([1.0, 0.0]))) and np.isnan(
        modes.reverse_kl(np.zeros(2, int), q[:2])
    )
    assert modes.reverse_kl(np.tile(p, (4, 5, 1)), q).shape == (4, 5)


def test_a_perfect_model_has_the_divergence_of_chance():
    """(K - 1) / 2n nats: 2n times it is nearly chi-squared (Wilks 1938)."""
    rng, n = np.random.default_rng(0), 26_000
    values = modes.reverse_kl(rng.multinomial(n, np.full(1000, 1e-3), 200), np.full(1000, 1e-3))
    assert values.mean() == pytest.approx(999 / (2 * n), rel=0.02)
    counted = rng.multinomial(n, np.full(1000, 1e-3))
    low, high = modes.interval(counted, n, lambda c: modes.reverse_kl(c, np.full(1000, 1e-3)))
    assert low < float(modes.reverse_kl(counted, np.full(1000, 1e-3))) < high
    assert (high - low) / 3.92 == pytest.approx(math.sqrt(3) * values.std(), rel=0.15), (
        "too wide, as its docstring says"
    )


def test_the_interval_of_a_divergence_is_as_wide_as_other_samples_scatter():
    rng, n, p = np.random.default_rng(0), 2500, np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05, 0, 0])
    scatter = modes.reverse_kl(rng.multinomial(n, p, 2000), UNIFORM).std()
    low, high = modes.interval(rng.multinomial(n, p), n, lambda c: modes.reverse_kl(c, UNIFORM))
    assert (high - low) / 3.92 == pytest.approx(scatter, rel=0.1)


def test_the_interval_of_modes_found_is_as_wide_as_other_samples_scatter():
    rng, n, p = np.random.default_rng(0), 26_000, np.exp(1.3 * np.random.default_rng(1).standard_normal(1000))
    scatter = modes.covered(rng.multinomial(n, p / p.sum(), 500)).std()
    widths = [
        np.subtract(*modes.interval(c, n, modes.covered, repeats=300)[::-1]) / 3.92
        for c in rng.multinomial(n, p / p.sum(), 5)
    ]
    assert np.mean(widths) == pytest.approx(scatter, rel=0.3)


# Cards


def named(cards, name: str, of: str = "model") -> Score:
    (found,) = [c for c in cards if c.name == name and c.of == of]
    return found


def test_one_sample_finds_a_mode_and_the_cards_tell_how_little_that_is():
    y = np.r_[np.zeros(992, int), np.arange(8)]
    real = np.random.default_rng(0).integers(0, 8, 1000)
    cards = list(modes.cards(y, real, UNIFORM, True))
    found, quality, divergence = (
        named(cards, name) for name in ("modes covered", "high-quality samples", "reverse KL")
    )
    assert (
        found.value == 8
        and found.unit == "of 8"
        and found.high == 8
        and quality.value == 1
        and quality.unit == "share"
    )
    p = np.bincount(y) / 1000
    assert (
        divergence.value == pytest.approx(rel_entr(p, UNIFORM).sum())
        and divergence.low < divergence.value < divergence.high
    )
    assert (
        divergence.beyond
        and "worse than real" in divergence.verdict
        and divergence.floor == pytest.approx(float(modes.reverse_kl(np.bincount(real), UNIFORM)))
    )


def test_nothing_of_any_mode_is_refused_a_divergence():
    found, quality, divergence = modes.cards(np.full(200, modes.NONE), None, UNIFORM, True)
    assert (
        found.value == quality.value == 0
        and divergence.refused
        and ("no sample is of any mode") in divergence.warning
    )


def test_a_few_samples_of_any_mode_have_a_divergence_without_an_interval():
    y = np.full(1000, modes.NONE)
    y[:3] = 2
    card = named(modes.cards(y, None, UNIFORM, True), "reverse KL")
    assert (
        card.value == pytest.approx(math.log(8))
        and card.low is None
        and ("only 3 samples are of any mode") in card.warning
    )
    y[:40] = 2
    assert named(modes.cards(y, None, UNIFORM, True), "reverse KL").low == pytest.approx(math.log(8))


# Runs on points


class Ideal(Model):
    """Draws from the law itself, of `few` of its modes."""

    few = 8

    def build(self) -> None:
        self.register_buffer("angle", torch.arange(self.few) * (math.pi / 4))

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        at = self.angle[(noise.uniform(1)[:, 0] * len(self.angle)).long()]
        yield (torch.stack([at.cos(), at.sin()], 1) + 0.01 * noise.normal(2))[:, :, None, None]


class Collapsed(Ideal):
    few = 3


class Dense(Ideal):
    """A density of points may exceed 1."""

    latent = 1

    def bits_per_dim(self, batch: Batch) -> Bits:
        return Bits(torch.full((len(batch),), -4.0), "exact")

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :1]

    def decode(self, z: Tensor) -> Tensor:
        return torch.cat([z, z], 1)[:, :, None, None] * 2.0


@pytest.fixture(scope="module")
def ring() -> Data:
    return data.load("ring:40000")


def asked(
    kind: type[Model], ring: Data, raw: type[Model] | None = None, seen: int = 0, **said
) -> list[Score]:
    model, other = (k(spec=ring.spec).eval().requires_grad_(False) for k in (kind, raw or kind))
    config = Config(
        "toy",
        ring.spec,
        Training(precision="fp32"),
        {},
        dict(source=ring.source, fingerprint=ring.fingerprint),
    )
    run = SimpleNamespace(
        folder=Path("r"),
        config=config,
        model=model,
        seen=seen,
        seconds=1.0,
        weights="EMA",
        raw=lambda: other,
        log=lambda: [],
    )
    return list(exam.evaluate(run, ring, 300, **said))


def test_the_law_itself_is_as_good_as_real_points_and_a_collapsed_model_is_not(ring):
    ideal, few = asked(Ideal, ring), asked(Collapsed, ring)
    for name, value in (("modes covered", 8), ("high-quality samples", 0.989), ("reverse KL", 0.0014)):
        card = named(ideal, name)
        assert (
            card.n == card.against == 2500
            and card.value == pytest.approx(value, abs=0.01)
            and not card.beyond
        ), name
        assert named(ideal, name, "held-out points").value == pytest.approx(value, abs=0.01) == card.floor
    assert named(few, "modes covered").value == 3 and named(few, "modes covered").beyond
    assert (
        named(few, "reverse KL").value == pytest.approx(math.log(8 / 3), abs=0.01)
        and named(few, "reverse KL").beyond
    )


def test_what_the_doctor_finds_is_on_a_card(ring):
    ill, well = (named(asked(kind, ring, seen=10**6), "findings") for kind in (Collapsed, Ideal))
    assert (
        ill.value == 1
        and ill.warning.startswith(("mode collapse", "dropped modes"))
        and well.value == 0
        and not well.warning
    )


def test_raw_weights_have_cards_of_their_own(ring):
    cards = asked(Ideal, ring, raw=Collapsed)
    assert (
        named(cards, "modes covered").value == 8 and named(cards, "modes covered", "raw weights").value == 3
    )
    assert (
        named(cards, "reverse KL", "raw weights").settings["weights"] == "raw weights"
        and "weights" not in named(cards, "reverse KL").settings
    )


def test_sets_of_points_are_compared_by_their_coordinates(ring):
    ideal, few = asked(Ideal, ring), asked(Collapsed, ring)
    for name in (
        "Fréchet distance",
        "KID",
        "precision",
        "recall",
        "density",
        "coverage",
        "C2ST accuracy",
        "AuthPct",
        "sliced Wasserstein",
    ):
        card = named(ideal, name)
        assert card.floor is not None and not card.beyond and not card.refused, name
        assert "coordinates" in card.network or name == "sliced Wasserstein"
    assert not named(ideal, "sliced Wasserstein").unit
    assert all(
        named(few, name).beyond
        for name in ("Fréchet distance", "KID", "recall", "coverage", "sliced Wasserstein")
    )
    told = {card.name for card in ideal}
    assert not told & {
        "brightness histogram",
        "near-duplicates",
        "exact duplicates",
        "distance to nearest training image",
        "missing classes",
        "bits/dim",
        "PSNR",
        "SSIM",
    }


def test_a_density_and_a_code_of_points_are_judged_by_what_makes_sense(ring):
    cards = asked(Dense, ring)
    assert (
        named(cards, "bits/dim").value == -4
        and not named(cards, "bits/dim").warning
        and "density" in named(cards, "bits/dim").note
    )
    assert {c.of for c in cards if c.name == "bits/dim"} == {"model"} and not any(
        c.name in ("PSNR", "SSIM") for c in cards
    )
    x = ring.x[exam.prepare(SimpleNamespace(**vars(_run(ring))), ring, 300, 0).rows].reshape(-1, 2)
    error = ((x - 2 * x[:, :1]) ** 2).mean()
    assert named(cards, "squared error").value == pytest.approx(error, rel=1e-5), (
        "nothing is clipped to [-1, 1]"
    )


def _run(ring: Data) -> SimpleNamespace:
    model = Dense(spec=ring.spec)
    return SimpleNamespace(
        config=Config("toy", ring.spec, Training(), {}, dict(source="ring")),
        model=model,
        seen=0,
        weights="EMA",
    )


def test_networks_of_images_are_refused_points_and_the_other_way_round(ring):
    with pytest.raises(Refusal, match="leave --network out"):
        networks.load("classifier", ring)
    with pytest.raises(Refusal, match="holds images; leave --network out"):
        networks.load("points", replace(ring, levels=256, x=np.zeros((4, 2, 1, 1), np.uint8)))
    network = networks.load("auto", ring)
    assert network.label == "coordinates" and np.array_equal(
        network.features(ring.x[:5]), ring.x[:5].reshape(5, 2)
    )


def test_what_lies_outside_the_square_stays_there(ring):
    class Far(Ideal):
        def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
            yield torch.full((len(noise), 2, 1, 1), 3.0)

    assert float(sampling.samples(Far(spec=ring.spec), 3, 0).min()) == 3.0


# Raw weights of real runs


@pytest.fixture
def placed(tmp_path) -> Path:
    """A run whose weights have just been thrown far from their average."""
    points = data.load("ring:2000")
    settings = Training(batch=50, images=5000, rate=0.05, ema=1000, warmup=0, precision="fp32")
    run = Run.create(tmp_path / "run", Config(ONE_PLACE, points.spec, settings, {}, points.identity))
    for step in fit(run, points, images=5000):
        if step.seen == 5000:
            run.student.place.data += 3
    run.close()
    return tmp_path / "run"


def test_raw_weights_are_those_that_training_left(placed):
    state = storage.newest(placed / "state")[0]
    average, raw = Run.open(placed), Run.open(placed, raw=True)
    assert torch.equal(average.model.place, state["model/place"]) and torch.equal(
        raw.model.place, state["student/place"]
    )
    assert torch.equal(average.raw().place, raw.model.place) and not average.raw().place.requires_grad
    assert float((raw.model.place - average.model.place - 3).abs().max()) < 0.2
    assert float(average.model.place.abs().max()) < 0.1, "training has arrived at the mean of a ring"
    assert (average.weights, raw.weights) == ("EMA", "raw weights")


def test_a_run_in_training_is_asked_for_the_weights_of_the_moment(placed):
    run = Run.resume(placed)
    with torch.no_grad():
        run.student.place.fill_(7.0)
    raw = run.raw()
    run.student.place.data.fill_(8.0)
    run.close()
    assert float(raw.place[0]) == 7.0 and not raw.training and run.student.place.requires_grad


def test_raw_weights_that_were_not_kept_are_refused(placed):
    state, facts, _ = storage.newest(placed / "state")
    storage.save(
        placed / "state", facts["seen"] + 1, {k: v for k, v in state.items() if k.startswith("model/")}, facts
    )
    assert float(Run.open(placed).model.place.abs().max()) < 0.1
    with pytest.raises(Refusal, match="leave --raw out"):
        Run.open(placed, raw=True)


def test_every_card_and_every_picture_of_raw_weights_says_so(placed, capsys):
    def scored(*flags: str) -> list[dict]:
        assert cli.main(["evaluate", str(placed), "-n", "100", "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)["runs"][str(placed)]

    plain, raw = scored(), scored("--raw")
    assert all(c["settings"]["weights"] == "raw weights" for c in raw if c["of"] == "model")
    assert not any("weights" in c["settings"] for c in plain if c["of"] == "model")
    distances = [
        next(c["value"] for c in cards if c["name"] == "Fréchet distance" and c["of"] == "model")
        for cards in (plain, raw)
    ]
    assert distances[1] == pytest.approx(distances[0] + 18, abs=1), "which is thrown by 3 along both axes"
    assert [c["of"] for c in plain if c["name"] == "modes covered"] == ["model", "raw weights", "real points"]
    assert [c["of"] for c in raw if c["name"] == "modes covered"] == ["model", "real points"]

    pictures = [open_run(placed, raw=asked).sample(2) for asked in (False, True)]
    assert (
        "weights" not in pictures[0].recipe
        and pictures[1].recipe["weights"] == "raw weights"
        and not torch.equal(pictures[0].x, pictures[1].x)
    )


def test_a_card_of_raw_weights_reads_so():
    card = Score("high-quality samples", 0.5, settings={"weights": "raw weights"})
    assert card.text.startswith("high-quality samples of raw weights: ")
    assert replace(card, settings={}).text.startswith("high-quality samples of model: ")


# Stacked digits


def stacks(n: int = 1500, held: int = 300) -> Data:
    """Three columns a channel, of which one pixel in ten tells the digit."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 1000, n)
    x = rng.integers(0, 60, (n, 3, 8, 8))
    for c, digit in enumerate(known_modes.digits(y)):
        x[np.arange(n), c, digit // 5 * 4 + 1, digit % 5 + 1] = 255
    return Data(
        "stacked-mnist",
        "stacks-1",
        x.astype(np.uint8),
        np.arange(held, n),
        np.arange(held),
        y=y,
        classes=tuple(f"{k:03}" for k in range(1000)),
    )


def test_a_channel_is_a_digit():
    sets = stacks()
    grey = known_modes.channel(sets)
    assert (
        grey.x.shape == (4500, 1, 8, 8)
        and grey.spec.labels == 10
        and len(grey.train) == 3600
        and len(grey.held_out) == 900
    )
    assert set(grey.train) | set(grey.held_out) == set(range(4500)) and not set(grey.train) & set(
        grey.held_out
    )
    for row in (0, 700):
        assert grey.y[3 * row : 3 * row + 3].tolist() == [int(d) for d in f"{sets.y[row]:03}"]
        assert np.array_equal(grey.x[3 * row + 1, 0], sets.x[row, 1])


def test_stacked_digits_are_told_by_a_classifier_of_one_channel(monkeypatch):
    """The classifier is the peak of each channel: the truth.  What it says becomes hundreds, tens
    and ones."""
    sets, of = stacks(), []

    def own(grey: Data, kind: str, progress: object) -> SimpleNamespace:
        of.append((grey.source, kind))

        def probabilities(x: np.ndarray) -> np.ndarray:
            at = x.reshape(len(x), -1).argmax(1)
            return np.eye(10)[np.clip((at // 8 - 1) // 4 * 5 + at % 8 - 1, 0, 9)]

        return SimpleNamespace(probabilities=probabilities, card=dict(network="peak", network_sha="abc"))

    monkeypatch.setattr(known_modes.networks, "own", own)
    law = known_modes.find(sets)
    assert of == [("a channel of stacked-mnist", "classifier")] and law.n == 1500 and law.who == "real images"
    assert (
        np.array_equal(law.modes_of(sets.x[:50]), sets.y[:50])
        and ("100.00% of 900 held-out channels") in law.note
        and not law.doubt
    )
    assert law.shares.sum() == pytest.approx(1) and not law.quality
    # of the training images
    ones = [np.bincount(d, minlength=10) / 1200 for d in known_modes.digits(sets.y[300:])]
    assert law.shares[357] == pytest.approx(ones[0][3] * ones[1][5] * ones[2][7])
    monkeypatch.setattr(known_modes.networks, "own", lambda *_: replace_probabilities(own(*_)))
    assert "it finds modes by mistake" in known_modes.find(sets).doubt


def replace_probabilities(network: SimpleNamespace) -> SimpleNamespace:
    network.probabilities = lambda x: np.eye(10)[np.zeros(len(x), int)]
    return network


def test_only_data_with_known_modes_are_asked_for_them(ring):
    assert (
        known_modes.known(ring)
        and known_modes.samples(ring) == 2500
        and known_modes.known(stacks())
        and known_modes.samples(stacks()) == 1500
    )
    moons = data.load("moons:1000")
    assert (
        not known_modes.known(moons)
        and known_modes.samples(moons) == 0
        and not known_modes.known(replace(stacks(), source="photos"))
    )


def test_a_parzen_window_of_points_is_refused_in_a_sentence(placed, capsys):
    assert "leave --parzen out" in refused(capsys, "evaluate", str(placed), "--parzen")


def test_a_network_of_images_is_refused_points_in_a_sentence(placed, capsys):
    assert cli.main(["evaluate", str(placed), "-n", "50", "--network", "vicreg"]) == 2
    assert "leave --network out" in capsys.readouterr().err
