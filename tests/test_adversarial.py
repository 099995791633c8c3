"""Losses and penalties of the adversarial models against closed forms; each check is also made of a fake,
which must fail it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import small_run, toy
from likeness.core import Batch, Noise, Refusal, Spec
from likeness.data import Data
from likeness.models import gan
from likeness.models.gan import GAN
from likeness.parts.adversarial import (
    GAMES,
    Game,
    Spread,
    between,
    iterate,
    lipschitz,
    packed,
    pair_accuracy,
    pull,
    slopes,
    smoothed,
    spectral,
)
from likeness.training.loop import fit, only

LOGITS = torch.tensor([-3.0, -0.5, 0.0, 1.0, 4.0], dtype=torch.float64)


def points(n: int = 256) -> Data:
    """A ring of 8, as `ring` is."""
    rng = np.random.default_rng(0)
    angle = rng.integers(0, 8, n) * np.pi / 4
    x = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.01 * rng.standard_normal((n, 2))
    return Data(
        "ring",
        "ring-1",
        x.astype(np.float32).reshape(n, 2, 1, 1),
        np.arange(n // 4, n),
        np.arange(n // 4),
        levels=0,
    )


# What both want, as each paper writes it


def test_each_game_is_that_of_its_paper():
    r, f = LOGITS, LOGITS.flip(0).roll(1)
    D, G = r.sigmoid(), f.sigmoid()  # probabilities, as in Goodfellow et al.
    value = D.log() + (1 - G).log()
    papers = {
        "minimax": (-value, (1 - G).log()),
        "nonsaturating": (-value, -G.log()),
        "least-squares": ((r - 1) ** 2 / 2 + f**2 / 2, (f - 1) ** 2 / 2),
        "hinge": (-(-1 + r).clamp(max=0) - (-1 - f).clamp(max=0), -f),
        "wasserstein": (-(r - f), -f),
        "relativistic": (-(r - f).sigmoid().log(), -(f - r).sigmoid().log()),
    }
    assert papers.keys() == GAMES.keys()
    for name, (d, g) in papers.items():
        assert torch.allclose(GAMES[name].discriminator(r, f), d), name
        assert torch.allclose(GAMES[name].generator(r, f), g), name
        moved = GAMES[name].generator(r + 1, f)
        assert GAMES[name].paired == (not torch.allclose(moved, g)), name


def test_smoothing_is_cross_entropy_with_a_target_below_one_for_real_images_alone():
    target = torch.full_like(LOGITS, 0.9)
    entropy = nn.functional.binary_cross_entropy_with_logits(LOGITS, target, reduction="none")
    assert torch.allclose(
        GAMES["nonsaturating"].discriminator(LOGITS, 0 * LOGITS) - math.log(2) + smoothed(LOGITS, 0.1),
        entropy,
    )


def test_pull_is_the_slope_of_the_generators_loss():
    f = torch.tensor([-6.0, 0.0, 2.0])
    closed = {
        "minimax": f.sigmoid(),
        "nonsaturating": (-f).sigmoid(),
        "wasserstein": torch.ones(3),
        "least-squares": (f - 1).abs(),
        "hinge": torch.ones(3),
    }
    for name, slope in closed.items():
        assert float(pull(GAMES[name], 0 * f, f)) == pytest.approx(float(slope.mean()), rel=1e-5), name
    r = torch.tensor([1.0, 0.0, 5.0])
    assert float(pull(GAMES["relativistic"], r, f)) == pytest.approx(
        float((r - f).sigmoid().mean()), rel=1e-5
    )


def test_told_apart_is_the_share_of_pairs_in_the_right_order():
    assert (
        float(pair_accuracy(torch.tensor([2.0, 1.0, 0.0, 5.0]), torch.tensor([1.0, 1.0, 1.0, 1.0])))
        == (1 + 0.5 + 0 + 1) / 4
    )


# Dirac-GAN (Mescheder, Geiger & Nowozin 2018): data at 0, G at theta, D(x) = psi x, rate 0.1, from distance
# sqrt 2, 500 steps

Penalty = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
H, STEPS = 0.1, 500


def distance(game: Game, together: bool = False, penalty: Penalty | None = None) -> float:
    """From the equilibrium (0, 0), after both have descended, at the same time or in turn."""
    theta, psi = torch.ones(2, dtype=torch.float64).unbind()
    for _ in range(STEPS):
        t, p = theta.clone().requires_grad_(), psi.clone().requires_grad_()
        real, fake = torch.zeros(1, 1, 1, 1, dtype=torch.float64), theta.view(1, 1, 1, 1)

        def judge(x: Tensor, p: Tensor = p) -> Tensor:
            return p * x.flatten()

        loss = game.discriminator(judge(real), judge(fake)).mean() + (
            penalty(judge, real, fake) if penalty else 0
        )
        moved = psi - H * torch.autograd.grad(loss, p)[0]
        loss = game.generator(torch.zeros(1), (psi if together else moved) * t.view(1)).mean()
        theta, psi = theta - H * torch.autograd.grad(loss, t)[0], moved
    return float(torch.hypot(theta, psi))


def r1(judge: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    return 1.0 / 2 * slopes(judge, real)[1].mean()


ORBITS = {
    "minimax": (2.18, 1.40, 0, 0),
    "nonsaturating": (0.52, 0.39, 0, 0),
    "relativistic": (0.52, 0.39, 0, 0),
    "wasserstein": (math.sqrt(2) * (1 + H**2) ** (STEPS / 2), 1.41, 0, 0),
    "hinge": (1.44, 1.41, 0, 0),
    "least-squares": (1.33, 1.32, 1.20, 1.19),
}
"""at the same time and in turn, plain; and with R1: the table of docs/adversarial.md"""


@pytest.mark.parametrize("name", ORBITS)
def test_dirac_gan_ends_where_it_should(name):
    game = GAMES[name]
    found = [distance(game, together, penalty) for penalty in (None, r1) for together in (True, False)]
    assert found == pytest.approx(ORBITS[name], abs=0.006)


def test_dirac_gan_without_the_right_penalty_does_not_converge():
    def of_parameters(judge, real, fake):
        """The slope with respect to psi instead of x, which is 0 on the data."""
        return judge(real).square().mean() / 2

    assert distance(GAMES["minimax"], True, of_parameters) == pytest.approx(2.18, abs=0.005)
    assert distance(GAMES["minimax"], True, lambda *_: _[0](torch.zeros(1)).sum()) > 2, (
        "a slope that nobody squares"
    )
    two_sided = distance(
        GAMES["wasserstein"],
        False,
        lambda judge, real, fake: 10 * lipschitz(slopes(judge, (real + fake) / 2)[1], False).mean(),
    )
    assert two_sided > 1, (
        "a penalty that wants the slope to be 1 keeps both away from the equilibrium, where it is 0"
    )


# The optimal discriminator (Goodfellow et al. 2014, proposition 1 and theorem 1)

X = torch.linspace(-12, 15, 4001, dtype=torch.float64)


def density(mean: float) -> Tensor:
    p = torch.exp(-((X - mean) ** 2) / 2)
    return p / p.sum()


def best(p: Tensor, q: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The logit at every x that minimises sum p, q loss(logit, logit), by Newton's method."""
    logit = torch.zeros_like(X)
    for _ in range(100):
        z = logit.clone().requires_grad_()
        (slope,) = torch.autograd.grad((loss(z, 0 * z) * p + loss(0 * z, z) * q).sum(), z, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), z)
        logit = logit - (slope.detach() / bend.clamp(min=1e-300)).clamp(-1, 1)
    return logit


@pytest.mark.parametrize(("shift", "value"), [(0.0, -1.3863), (1.0, -1.1635), (3.0, -0.3327)])
def test_the_optimal_discriminator_has_the_logit_log_p_over_q_and_the_value_of_the_jensen_shannon_divergence(
    shift, value
):
    p, q = density(0), density(shift)
    kl = [(a * (a / ((p + q) / 2)).log()).sum() for a in (p, q)]
    jsd = float(sum(kl)) / 2
    assert 2 * jsd - math.log(4) == pytest.approx(value, abs=1e-4)
    near = (X - shift / 2).abs() < 4 + shift / 2
    for name in ("minimax", "nonsaturating"):
        logit = best(p, q, GAMES[name].discriminator)
        assert torch.allclose(logit[near], (p / q).log()[near], atol=1e-6)
        reached = -float(
            (
                p * GAMES[name].discriminator(logit, torch.full_like(X, -1e9))
                + q * GAMES[name].discriminator(torch.full_like(X, 1e9), logit)
            ).sum()
        )
        assert reached == pytest.approx(value, abs=1e-4)
    smooth = best(p, q, lambda r, f: GAMES["minimax"].discriminator(r, f) + smoothed(r, 0.1))
    assert torch.allclose(smooth.sigmoid()[near], (0.9 * p / (p + q))[near], atol=1e-6), (
        "Salimans et al. 2016, section 3.4"
    )
    least = best(p, q, GAMES["least-squares"].discriminator)
    assert torch.allclose(least[near], (p / (p + q))[near], atol=1e-6), "Mao et al. 2017, eq. 11"


def test_a_wrong_discriminators_loss_has_another_optimum():
    p, q = density(0), density(1)
    twice = best(p, q, lambda r, f: 2 * nn.functional.softplus(-r) + nn.functional.softplus(f))
    assert float((twice - (p / q).log()).abs().max()) > 0.5


def test_a_discriminator_that_is_trained_comes_near_the_optimum():
    """Our network, our loss and fresh samples: 0.02 is the noise of the last 64 batches."""
    torch.manual_seed(0)
    model = GAN(spec=Spec(1, 1, levels=0), latent=1, hidden=64, depth=2)
    adam = torch.optim.Adam(model.D.parameters(), 3e-3)
    kept = []
    for step in range(700):
        real, fake = torch.randn(512, 1, 1, 1), torch.randn(512, 1, 1, 1) + 1
        loss = model.telling(Batch(real, None, Noise(range(512), step)), fake, model.D).total
        adam.zero_grad()
        loss.backward()
        adam.step()
        for group in adam.param_groups:
            group["lr"] = 3e-3 * (1 - step / 700)
        kept.append(float(loss.detach()))
    assert -np.mean(kept[-64:]) == pytest.approx(-1.1635, abs=0.02)
    x = torch.linspace(-1, 2, 31).view(-1, 1, 1, 1)
    assert float((model.D(x).detach() - (0.5 - x.flatten())).abs().max()) < 0.25, "log p/q = 1/2 - x"


# A critic and the distance of Wasserstein


def critic(delta: float, weight: float, penalty: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
    """How far apart the best critic holds data at 0 and drawings at -delta; it is piecewise linear, with 40
    pieces."""
    cells = torch.zeros(40, dtype=torch.float64, requires_grad=True)
    edges = torch.linspace(-delta, 0, 41, dtype=torch.float64)
    real, fake = (
        torch.zeros(40, 1, 1, 1, dtype=torch.float64),
        torch.full((40, 1, 1, 1), -delta, dtype=torch.float64),
    )
    where = (torch.arange(40, dtype=torch.float64) + 0.5) / 40

    def judge(x: Tensor) -> Tensor:
        return (
            (x.view(-1, 1) - edges[:-1]).clamp(min=0).minimum(edges[1:] - edges[:-1]) * (0.5 + cells)
        ).sum(1)

    search = torch.optim.LBFGS(
        [cells], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        _, squared = slopes(judge, between(real, fake, where))
        loss = (
            GAMES["wasserstein"].discriminator(judge(real), judge(fake)).mean()
            + weight * penalty(squared, judge(real), judge(fake)).mean()
        )
        loss.backward()
        return loss

    search.step(closure)
    return float((judge(real) - judge(fake)).mean().detach())


@pytest.mark.parametrize(("delta", "weight"), [(3.0, 10.0), (3.0, 100.0), (0.8, 100.0)])
def test_a_one_sided_critic_reaches_the_shift_and_what_its_penalty_adds(delta, weight):
    right = delta * (1 + delta / (2 * weight))
    assert critic(delta, weight, lambda squared, *_: lipschitz(squared, True)) == pytest.approx(
        right, rel=1e-4
    )


def test_a_critic_with_another_penalty_does_not():
    right = 3 * (1 + 3 / 20)
    assert critic(3, 10, lambda squared, *_: (squared - 1).square()) < right - 0.3, (
        "the square of the slope is not the slope"
    )
    assert critic(3, 10, lambda squared, *_: squared) < 1, "R1 wants no slope at all"


def test_lipschitz_counts_both_sides_or_one_and_has_a_slope_at_nothing():
    squared = torch.tensor([0.0, 0.25, 1.0, 9.0], requires_grad=True)
    assert torch.allclose(lipschitz(squared, False), torch.tensor([1.0, 0.25, 0.0, 4.0]), atol=1e-5)
    assert torch.allclose(lipschitz(squared, True), torch.tensor([0.0, 0.0, 0.0, 4.0]), atol=1e-5)
    assert bool(torch.autograd.grad(lipschitz(squared, False).sum(), squared)[0].isfinite().all())


def test_slopes_are_those_of_finite_differences_and_can_be_differentiated():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    logits, squared = slopes(net, x)
    e, eye = 1e-6, torch.eye(8, dtype=torch.float64).view(8, 2, 2, 2)
    steep = torch.stack([(net(x + e * d) - net(x - e * d)) / (2 * e) for d in eye], 1)
    assert torch.allclose(logits, net(x)) and torch.allclose(squared, steep.square().sum(1), rtol=1e-6)
    weight = net[1].weight
    (slope,) = torch.autograd.grad(squared.sum(), weight)
    ends = []
    for way in (e, -e):
        with torch.no_grad():
            weight[2, 3] += way
        ends.append(float(slopes(net, x)[1].sum().detach()))
        with torch.no_grad():
            weight[2, 3] -= way
    assert float(slope[2, 3]) == pytest.approx((ends[0] - ends[1]) / (2 * e), rel=1e-5)


def test_the_slope_at_a_pack_is_that_of_all_its_images():
    """D(a, b) = a + 2 b has a squared slope of 1 + 4."""
    x = torch.randn(7, 1, 1, 1)
    logits, squared = slopes(lambda x: packed(x, 2).flatten(1) @ torch.tensor([1.0, 2.0]), x, 2)
    assert logits.shape == (3,) and squared.tolist() == [5, 5, 5]


def test_between_is_on_the_line_from_drawn_to_real():
    real, fake = torch.ones(3, 1, 2, 2), -torch.ones(3, 1, 2, 2)
    assert between(real, fake, torch.tensor([0.0, 0.5, 1.0])).flatten(1).tolist() == [
        [-1] * 4,
        [0] * 4,
        [1] * 4,
    ]


# What D sees of a batch


def test_spread_is_that_of_a_loop():
    torch.manual_seed(0)
    for n in (1, 2, 4, 6, 12):
        h = torch.randn(n, 5)
        out = Spread()(h)
        size = 4 if n % 4 == 0 else n
        for i in range(n):
            group = h[i // size * size : i // size * size + size].double().numpy()
            assert float(out[i, 5]) == pytest.approx(np.sqrt(group.var(0) + 1e-8).mean(), rel=1e-5)
        assert torch.equal(out[:, :5], h)
    alike = torch.ones(8, 5, requires_grad=True)
    out = Spread()(alike)[:, 5]
    assert float(out.detach().max()) < 1e-3 and bool(
        torch.autograd.grad(out.sum(), alike)[0].isfinite().all()
    )


def test_packs_hold_images_side_by_side():
    x = torch.arange(7.0 * 2 * 3 * 3).view(7, 2, 3, 3)
    out = packed(x, 3)
    assert (
        out.shape == (2, 6, 3, 3)
        and torch.equal(out[1], torch.cat([x[3], x[4], x[5]]))
        and torch.equal(packed(x, 1), x)
    )
    with pytest.raises(Refusal, match="larger --batch"):
        packed(x, 8)


# Spectral normalisation


def norms(network: nn.Module) -> list[float]:
    """Of the weight of every layer that has one, as a matrix."""
    network.eval()
    return [
        float(torch.linalg.svdvals(m.weight.detach().flatten(1).double())[0])
        for m in network.modules()
        if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)
    ]


def trained(folder: Path, **options: object) -> nn.Module:
    run, data = small_run(
        "gan", folder, options=dict(spectral=True, depth=2, **options), images=16 * 40, rate=2e-3
    )
    list(fit(run, data))
    return run.student.D.train()


@pytest.mark.parametrize("net", ["mlp", "dcgan"])
def test_after_some_training_every_layer_has_spectral_norm_one(net, tmp_path):
    """To a few percent while the weights move, and exactly once the power iteration has caught up
    with them."""
    D = trained(tmp_path, net=net, conditional=True)
    assert norms(D) == pytest.approx([1] * 4, abs=0.15)
    for _ in range(400):
        iterate(D)
    assert norms(D) == pytest.approx([1] * 4, abs=1e-3)


def test_without_the_power_iteration_it_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(gan, "iterate", lambda _: None)
    assert max(abs(norm - 1) for norm in norms(trained(tmp_path, net="mlp"))) > 0.5


def test_a_step_of_the_power_iteration_is_that_of_the_paper():
    """Algorithm 1 of Miyato et al. 2018 in NumPy, from the vectors at hand; to look at the layer changes none
    of them."""
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, bias=False).train()
    spectral(nn.Sequential(layer))
    state = {name.rpartition(".")[2]: p.double().numpy() for name, p in layer.state_dict().items()}
    assert set(layer.state_dict()) == {
        f"parametrizations.weight.{name}" for name in ("original", "0._u", "0._v")
    }, "names in runs that are on disks"
    with torch.no_grad():
        layer.parametrizations.weight.original.add_(0.2)
        layer(torch.ones(1, 2, 4, 4))
    assert np.allclose(layer.parametrizations.weight[0]._u, state["_u"], atol=0)
    iterate(nn.Sequential(layer))
    w = state["original"].reshape(3, -1) + 0.2
    u = w @ state["_v"] / np.linalg.norm(w @ state["_v"])
    v = w.T @ u / np.linalg.norm(w.T @ u)
    assert np.allclose(layer.weight.detach().flatten(1), w / (u @ w @ v), atol=1e-6)


def test_a_convolutions_spectral_norm_is_that_of_its_matrix_and_not_of_the_map():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    spectral(nn.Sequential(conv))
    for _ in range(100):
        iterate(conv)
    whole = torch.autograd.functional.jacobian(lambda x: conv(x).flatten(), torch.zeros(1, 2, 6, 6)).flatten(
        1
    )
    assert (
        norms(nn.Sequential(conv)) == pytest.approx([1], abs=1e-5)
        and float(torch.linalg.svdvals(whole)[0]) > 1.2
    )


# Vanishing gradient


@pytest.mark.parametrize(
    ("data", "options", "rate"),
    [(points(), dict(hidden=128, depth=3), 1e-2), (toy(), {}, 2e-3)],
    ids=["ring", "images"],
)
def test_while_d_is_20_steps_ahead_the_saturating_generator_has_no_gradient(data, options, rate, tmp_path):
    run, _ = small_run("gan", tmp_path, data, options=options, rate=rate, warmup=0)
    model, ahead = run.student, run.players[0]
    for step in range(20):
        batch = data.batch(0, 64 * step, 64, slice(None), step)
        with only(ahead.module, model):
            ahead.loss(batch).total.backward()
        run.optimizers["discriminator"].step()
        run.optimizers["discriminator"].zero_grad()
    steep, pulls = {}, {}
    for name in ("minimax", "nonsaturating"):
        model.game = name
        with only(model.G, model):
            loss = model.generator_loss(data.batch(0, 0, 64, slice(None), 99))
            slopes_of_g = torch.autograd.grad(loss.total, list(model.G.parameters()))
        steep[name], pulls[name] = float(nn.utils.get_total_norm(slopes_of_g)), float(loss.terms["pull"])
    assert 10 * steep["minimax"] < steep["nonsaturating"]
    assert 10 * pulls["minimax"] < pulls["nonsaturating"] and pulls["minimax"] < 0.1
    assert all(math.isfinite(v) for v in itertools.chain(steep.values(), pulls.values()))
