"""What a loss is of one that knows nothing: by a model's own loss with the ideal answer of such a one; and
runs broken on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from conftest import OWN, SMALL, small_run, suited, toy
from likeness import data, engine, models
from likeness.core import Batch, Condition, KnowsChance, Model, Noise, Spec
from likeness.models import byol, vicreg
from likeness.models.classifier import Classifier
from likeness.models.ddpm import DDPM
from likeness.models.edm import EDM
from likeness.models.flowmatching import FlowMatching
from likeness.models.meanflow import CLOCK, MeanFlow
from likeness.models.vae import VAE
from likeness.parts import chance
from likeness.parts.adversarial import GAMES, smoothed, undecided
from likeness.parts.likelihoods import Bernoulli, Logistic
from likeness.runs.run import Run
from likeness.training import doctor, loop, symptoms
from likeness.training.loop import fit

# In closed form


class Says(nn.Module):
    """A network that is a function of the noisy image and what it is told of the time."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, t: Tensor, y: Condition | None, noise: Noise | None) -> Tensor:
        return self.answer(x, t)


def gaussian(n: int = 40_000) -> Batch:
    """Images of two independent Gaussian pixels by four, each with a variance of its own."""
    v = torch.linspace(0.02, 0.9, 16).view(1, 4, 4)
    noise = Noise(range(n), 7)
    return Batch(v.sqrt() * noise.normal(1, 4, 4), None, noise)


def column(t: Tensor) -> Tensor:
    return t.double().view(-1, 1, 1, 1)


def wiener(alpha: Tensor, sigma: Tensor, of_eps: Tensor, of_x: Tensor, v: Tensor) -> Tensor:
    """What the noisy value is to be multiplied with, by the normal equation of least squares."""
    return (of_eps * sigma + of_x * alpha * v) / (alpha**2 * v + sigma**2)


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_the_chance_of_ddpm_is_its_loss_with_the_ideal_answer_of_independent_pixels(predicts):
    batch = gaussian()
    model = DDPM(spec=Spec(1, 4), predicts=predicts, scale=0.25)
    v = chance.variances(batch.x).view(1, 4, 4)

    def ideal(x: Tensor, t: Tensor) -> Tensor:
        a, s = (column(part(t + 1)) for part in (model.schedule.alpha, model.schedule.sigma))
        one, none = torch.ones_like(a), torch.zeros_like(a)
        return wiener(a, s, *dict(eps=(one, none), x0=(none, one), v=(a, -s))[predicts], v) * x

    model.network = Says(ideal)
    said = model.chance(batch)["model"]
    assert float(model.loss(batch).total) == pytest.approx(said, rel=0.02)
    model.network = Says(lambda x, t: 0.8 * ideal(x, t))
    assert float(model.loss(batch).total) > 1.005 * said, "no other linear answer is as good"


def test_the_chance_of_edm_and_of_flow_matching_is_theirs():
    batch = gaussian()
    v = chance.variances(batch.x).view(1, 4, 4)
    edm = EDM(spec=Spec(1, 4), scale=0.25)

    def preconditioned(x: Tensor, c_noise: Tensor) -> Tensor:
        sigma = (c_noise.double() / 250).exp()
        c = [column(part) for part in edm.scales(sigma)]
        s = column(sigma)
        return wiener(torch.ones_like(s), s, -c[0] * s / c[1], (1 - c[0]) / c[1], v) * x / c[2]

    edm.network = Says(preconditioned)
    flow = FlowMatching(spec=Spec(1, 4), scale=0.25)

    def straight(x: Tensor, t: Tensor) -> Tensor:
        t = column(t) / 1000
        return wiener(1 - t, t, torch.ones_like(t), -torch.ones_like(t), v) * x

    flow.network = Says(straight)
    for model in (edm, flow):
        assert float(model.loss(batch).total) == pytest.approx(model.chance(batch)["model"], rel=0.02)
    flow.times = "logit-normal"
    assert float(flow.loss(batch).total) == pytest.approx(flow.chance(batch)["model"], rel=0.02)


def test_the_chance_of_meanflow_is_twice_its_error_with_the_mean_velocity_of_a_gaussian():
    batch = gaussian(20_000)
    v = chance.variances(batch.x).view(1, 4, 4)

    def mean_velocity(z: Tensor, told: Tensor) -> Tensor:
        t, apart = (told / CLOCK).double().unbind(1)
        t, apart = t.view(-1, 1, 1, 1), apart.view(-1, 1, 1, 1)
        r, near = t - apart, apart < 1e-6
        s_t, s_r = (1 - t) ** 2 * v + t**2, (1 - r) ** 2 * v + r**2
        jump = (1 - (s_r / s_t).sqrt()) / torch.where(near, 1.0, apart)
        return torch.where(near, (t - (1 - t) * v) / s_t, jump) * z  # r = t: half the derivative of log S_t

    model = MeanFlow(spec=Spec(1, 4), scale=0.25)
    model.network = Says(mean_velocity)
    assert 2 * float(model.loss(batch).terms["error"]) == pytest.approx(
        model.chance(batch)["error"], rel=0.03
    )


def test_a_distribution_the_same_for_every_image_is_nearly_the_best_there_is():
    rng = np.random.default_rng(0)
    x = (
        np.stack(
            [rng.normal(128, 30, 400), np.where(rng.uniform(size=400) < 0.9, 0, 250), np.full(400, 17)], 1
        )
        .clip(0, 255)
        .round()
    )
    x = torch.from_numpy(x / 127.5 - 1)[:, None, :, None]
    p = Logistic(256)

    def cost(out: np.ndarray, pixel: int) -> float:
        said = torch.from_numpy(out).view(1, 2, 1, 1).expand(len(x), -1, -1, -1)
        return float(-p.log_prob(x[:, :, pixel : pixel + 1], said).mean())

    starts = [(m, s) for m in (-1.0, -0.5, 0.0) for s in (-4.0, -1.0)]
    best = sum(
        min(minimize(cost, start, (i,), method="Nelder-Mead").fun for start in starts) for i in range(3)
    )
    assert best - 1e-3 < chance.described(p, x) < best + 0.5, (
        "the second pixel's best mean is far below black"
    )


def test_two_levels_have_the_entropy_of_each_pixel():
    x = torch.tensor([[1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])[:, None, :, None]
    assert chance.described(Bernoulli(), x) == pytest.approx(math.log(2), abs=1e-3)
    free = VAE(spec=Spec(1, 8, levels=2), latent=8, net="mlp", hidden=8, free_bits=0.5).chance(
        Batch(torch.ones(4, 1, 8, 8), None, Noise(range(4)))
    )
    assert free["model"] == pytest.approx(8 * 0.5 / 64, abs=1e-3), (
        "what costs nothing to tell is in its loss all the same"
    )


def test_levels_of_a_channel_and_classes_have_the_entropy_of_their_shares():
    x = torch.tensor([0.0, 0, 1, 2]).view(1, 1, 2, 2).repeat(5, 2, 1, 1) - 1
    x[:, 1] = 1
    assert chance.levels_alone(x, 3) == pytest.approx((1.5 + 0) / 2)
    told = Batch(torch.zeros(4, 1, 8, 8), Condition(torch.tensor([0, 0, 0, 1])), Noise(range(4)))
    wanted = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert Classifier(spec=Spec(1, 8, labels=2), width=4).chance(told)["model"] == pytest.approx(wanted)


# Every family


def made(name: str, spec: Spec) -> Model:
    kind = models.load(name)
    known = {f.name: f.default for f in fields(kind)}
    small = {k: v for k, v in SMALL.items() if k in known and type(v) is type(known[k])}
    return kind(spec=spec, **small, **OWN.get(name, {}))


@pytest.mark.parametrize("name", models.NAMES)
def test_every_model_has_something_by_which_one_sees_that_it_has_learnt_nothing(name):
    images = suited(name, toy(24, size=8))
    model = made(name, images.spec)
    batch = engine.put(images.take(images.train[:8], Noise(range(8))))
    players = model.players()
    if len(players) > 1:
        assert any("chance" in player.loss(batch).terms for player in players)
        return  # no sign of health in a game: what is drawn is compared with what the first weights draw
    terms = players[0].loss(batch).terms
    if isinstance(model, KnowsChance):
        said = model.chance(batch)
        assert (
            said
            and said.keys() <= {"model", *terms}
            and all(math.isfinite(v) and v > 0 for v in said.values())
        )
        assert "chance" not in terms
    else:
        assert terms.keys() & {"chance", "RankMe"}, (
            "a value of chance, or features that are compared with those of the first weights"
        )


@pytest.mark.parametrize("smooth", [0.0, 0.2])
@pytest.mark.parametrize("game", list(GAMES))
def test_a_discriminator_that_cannot_tell_has_the_least_loss_of_equal_logits(game, smooth):
    """By trying all of them; where least is what Goodfellow et al. 2014 say, log 4."""
    c = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    loss = GAMES[game].discriminator(c, c)
    if not GAMES[game].logits:
        assert float(loss.min()) == pytest.approx(undecided(game), abs=1e-7)
        return
    assert float((loss + smoothed(c, smooth)).min()) == pytest.approx(undecided(game, smooth), abs=1e-7)
    assert undecided(game) == pytest.approx(math.log(4))


@pytest.mark.parametrize("name", ["gan", "r3gan", "pix2pix", "cyclegan"])
def test_a_discriminator_that_says_nothing_is_at_chance(name):
    images = suited(name, toy(24, size=8))
    model = made(name, images.spec)
    player = next(p for p in model.players() if p.name == "discriminator")
    for weight in player.module.parameters():
        weight.data.zero_()
    if name == "cyclegan":  # whose judges say 1 of images and 0 of translations
        for judge in model.discriminators.values():
            judge[-1].bias.data.fill_(0.5)
    batch = engine.put(images.take(images.train[:8], Noise(range(8))))
    loss = player.loss(batch)
    assert float(loss.total) == pytest.approx(float(loss.terms["chance"]), abs=1e-6)


def test_the_chance_of_byol_is_the_best_answer_that_is_the_same_for_all():
    """Found by descent: no constant is nearer to these targets."""
    z = torch.randn(32, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3
    p = torch.ones(6, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([p], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        descent.zero_grad()
        loss = byol.distance(p.expand_as(z), z)
        loss.backward()
        return loss

    descent.step(closure)
    assert float(byol.distance(p.expand_as(z), z)) == pytest.approx(float(byol.unseen(z)), abs=1e-8)
    collapsed = torch.ones(8, 6) * torch.arange(1.0, 9)[:, None]
    assert float(byol.unseen(collapsed)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("weights", [(25.0, 25.0), (1.0, 25.0), (25.0, 1e-3), (10.0, 3.0)])
def test_the_chance_of_vicreg_is_the_least_of_embeddings_that_know_nothing(weights):
    """Of every scale; and by the loss itself of many such embeddings."""
    of_s, of_v = weights
    a = torch.linspace(0, 2, 200_001, dtype=torch.float64)
    each = of_s * 2 * a * a + of_v * (1 - (a * a + vicreg.EPS).sqrt()).relu()
    assert vicreg.unseen(*weights) == pytest.approx(float(each.min()), rel=1e-5)
    draws = torch.Generator().manual_seed(0)
    z, other = (float(a[each.argmin()]) * torch.randn(200_000, 4, generator=draws) for _ in range(2))
    v = (vicreg.variance(z) + vicreg.variance(other)) / 2
    total = of_s * vicreg.invariance(z, other) + of_v * v + vicreg.covariance(z) + vicreg.covariance(other)
    assert float(total) == pytest.approx(vicreg.unseen(*weights), rel=0.01)
    if weights == (25.0, 25.0):
        assert vicreg.unseen(*weights) == pytest.approx(21.87, abs=0.01)


@pytest.mark.parametrize("name", ["byol", "vicreg"])
def test_a_run_that_learns_falls_below_chance(name, tmp_path, often):
    run = watched(tmp_path / name, name, 240, dict(width=8), batch=64)
    lines = [line["losses"] for line in run.log() if "losses" in line][-4:]
    assert all(line["model"] < 0.8 * line["chance"] for line in lines), lines
    assert not [note for note in run.notes if "loss at chance" in note]


# Runs that are ill, and the same at the model's own rate


def watched(folder: Path, name: str, steps: int, options: dict | None = None, **training: object) -> Run:
    """A run on digits that the doctor has watched."""
    digits = data.load("digits")
    settings = dict(batch=16, warmup=0) | training
    run, _ = small_run(name, folder, digits, options=options, images=steps * settings["batch"], **settings)
    for _ in doctor.watch(run, digits, fit(run, digits)):
        pass
    return run


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of the log every ten steps."""
    monkeypatch.setattr(loop, "LOG_EVERY", 10)


ILL = [
    ("ddpm", 0.3),
    ("edm", 0.3),
    ("flowmatching", 0.3),
    ("vae", 0.3),
    ("vqvae", 1.0),
    ("ae", 1.0),
    ("pixelcnn", 1.0),
    ("classifier", 1.0),
]
DENOISERS = ("ddpm", "edm", "flowmatching")


@pytest.mark.parametrize("name, rate", ILL, ids=[name for name, _ in ILL])
def test_a_rate_too_high_is_named_and_so_is_the_model_s_own(tmp_path, often, name, rate):
    ill = watched(
        tmp_path, name, 280, dict(net="mlp", optimizer="adam") if name in DENOISERS else {}, rate=rate
    )
    said = {noted.name: noted.text for noted in doctor.history(ill)}
    assert said.keys() & {"loss at chance", "training instability"}, said
    text = said.get("loss at chance") or said["training instability"]
    assert f"--rate {models.load(name).defaults.rate:g}" in text and text in ill.notes


@pytest.mark.parametrize("name", [name for name, _ in ILL if name not in DENOISERS])
def test_at_a_model_s_own_rate_nothing_is_said(tmp_path, often, name):
    well = watched(tmp_path, name, 280, rate=models.load(name).defaults.rate)
    assert doctor.history(well) == [] and well.notes == []


def test_a_healthy_denoiser_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 25)
    well = watched(tmp_path, "ddpm", 520, dict(net="mlp", scale=1.0), batch=32, rate=1e-3)
    assert (
        doctor.history(well) == []
        and well.log()[-1]["losses"]["model"] < doctor.guessed(well, data.load("digits"))["model"]
    )


def test_a_rate_too_low_is_told_to_rise(tmp_path, often):
    run = watched(tmp_path, "classifier", 270, rate=1e-6)
    (noted,) = doctor.history(run)
    assert noted.name == "loss at chance" and "--rate 0.002" in noted.text


# Rules on numbers that are known


def curve(*losses: float) -> list[symptoms.Line]:
    return [dict(seen=800 * (i + 1), losses=dict(model=loss)) for i, loss in enumerate(losses)]


def test_blown_up_is_a_loss_that_has_risen_tenfold_and_stays_above_its_best():
    said = symptoms.relapse(curve(1.0, 0.5, 0.2, 90.0, 5.0, *[0.7] * 8))
    assert (
        said.name == "training instability"
        and ("0.2 at image 2,400, rose to 90 by image 3,200, and has been 0.7 or more") in said.evidence
    )
    assert symptoms.relapse(curve(1.0, 0.5, 0.2, 90.0, 5.0, *[0.7] * 8, 0.22)) is None, "it has come back"
    assert symptoms.relapse(curve(1.0, 0.5, 0.2, 90.0, *[0.7] * 5)) is None, "it may come back"
    assert symptoms.relapse(curve(1.0, 0.5, 0.2, *[1.5] * 12)) is None, "worse, and by less than ten times"
    assert symptoms.relapse(curve(2.3, 0.5, 1e-4, 5e-3, *[1e-3] * 12)) is None, (
        "near 0 a tenfold rise is nothing"
    )
    assert symptoms.relapse(curve(1.0)) is None and symptoms.relapse([]) is None
    assert symptoms.relapse([dict(seen=i, losses=dict(generator=1.0)) for i in range(20)]) is None


def game(*losses: float, player: str = "generator", pull: float = 0.5) -> list[symptoms.Line]:
    both = {f"{name} gradient": 1.0 for name in ("discriminator", "generator")}
    calm = dict(discriminator=1.4, generator=0.7) | both
    return [
        dict(seen=800 * i, losses=calm | {player: loss, "pull": pull}) for i, loss in enumerate(losses, 1)
    ]


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_any_player_of_a_game_may_have_blown_up(player):
    said = symptoms.relapse(game(1.4, 0.7, 400.0, *[5.0] * 9, player=player))
    assert (
        said.name == "training instability"
        and (
            f"the loss of the {player} was 0.7 at image 1,600, rose to 400 by image 2,400, and has been 5 or "
            "more"
        )
        in said.evidence
    )
    assert "--d-rate 1" in said.remedies
    assert symptoms.relapse(game(1.4, 0.7, 400.0, *[5.0] * 7, player=player)) is None, "it may come back"
    assert symptoms.relapse(game(1.4, 0.7, 400.0, *[1.0] * 9, player=player)) is None, "it has come back"
    assert symptoms.relapse(game(1.4, 0.7, 25.0, *[3.0] * 9, player=player)) is None, (
        "while the discriminator is ahead, a healthy generator loses as much"
    )


def test_the_mean_logit_of_a_critic_is_no_measure_of_its_generator():
    log = game(0.0, -0.5, 400.0, *[50.0] * 9, pull=1.0)
    assert symptoms.relapse(log) is None
    assert symptoms.relapse(game(0.0, -0.5, 400.0, *[50.0] * 9, player="discriminator", pull=1.0))


def test_a_loss_below_0_blows_up_as_any_other():
    """By ratios to the best, which was below 0, it never did."""
    said = symptoms.relapse(curve(1.4, -2.0, 500.0, *[-0.3] * 9))
    assert said.name == "training instability" and "was -2 at image 1,600, rose to 500" in said.evidence
    assert symptoms.relapse(curve(1.4, -2.0, 500.0, *[-1.5] * 9)) is None, "it has come back"
    assert symptoms.relapse(curve(1.4, -2.0, 4.0, *[-0.3] * 9)) is None, "less than twice what it learnt"
    shifted = [loss - 1000 for loss in (1000.0, 998.0, 1500.0, *[999.0] * 9)]
    assert symptoms.relapse(curve(*shifted)), "what is added to a loss does not matter"


def test_a_loss_that_falls_far_below_0_has_not_diverged():
    falls = [
        line | {"losses": line["losses"] | {"model gradient": 1.0}} for line in curve(*range(0, -4000, -200))
    ]
    assert symptoms.divergence(falls) is None
    rises = [
        line | {"losses": line["losses"] | {"model gradient": 1.0}} for line in curve(*range(0, 4000, 200))
    ]
    assert symptoms.divergence(rises).name == "divergence"


def test_what_is_kept_of_a_game_says_the_same_as_all_of_it():
    rng, verdicts = np.random.default_rng(1), set()
    for _ in range(30):
        walk = np.cumsum(rng.standard_t(1.5, 80) * 20)
        log = [
            line | {"losses": line["losses"] | {"discriminator": float(loss)}}
            for line, loss in zip(game(*(walk[::-1] / 3).tolist()), walk)
        ]
        kept: list[symptoms.Line] = []
        for i, line in enumerate(log):
            kept = symptoms.milestones([*kept, line], doctor.MEMORY)
            assert len(kept) <= doctor.MEMORY + 7 and symptoms.relapse(kept) == symptoms.relapse(log[: i + 1])
            verdicts.add(symptoms.relapse(kept) is None)
    assert verdicts == {True, False}


def test_what_is_kept_of_a_long_log_says_the_same_as_all_of_it():
    rng = np.random.default_rng(0)
    verdicts = set()
    for _ in range(60):
        log = curve(*np.exp(np.cumsum(rng.normal(0, 0.7, 120)) * rng.choice([0.5, 1.0])).tolist())
        kept: list[symptoms.Line] = []
        for i, line in enumerate(log):
            kept = symptoms.milestones([*kept, line], doctor.MEMORY)
            assert (
                len(kept) <= doctor.MEMORY + 4
                and kept[-doctor.MEMORY :] == log[max(0, i + 1 - doctor.MEMORY) : i + 1]
            )
            assert symptoms.relapse(kept) == symptoms.relapse(log[: i + 1])
            verdicts.add(symptoms.relapse(kept) is None)
    assert verdicts == {True, False}


def test_nothing_learnt_compares_the_terms_that_a_model_names():
    log = [dict(seen=800 * i, losses=dict(model=0.5, error=0.3)) for i in range(1, 21)]
    assert symptoms.nothing_learnt(log, {"error": 0.3}).name == "loss at chance"
    assert symptoms.nothing_learnt(log, {"error": 0.31}) is None and symptoms.nothing_learnt(log) is None
    assert symptoms.nothing_learnt(log[:10], {"error": 0.3}) is None, "too early"
    told = [dict(line, losses=dict(line["losses"], chance=0.4)) for line in log]
    assert "would have 0.4" in symptoms.nothing_learnt(told, {"error": 9.0}).evidence, (
        "what the log says comes first"
    )
