"""DDPM: its processes against Bayes' rule, its bound against a law on a grid whose entropy is known."""

from __future__ import annotations

import math

import pytest
import torch

from likeness.core import Batch, Noise, Refusal, Spec
from likeness.models.ddpm import DDPM
from likeness.parts import samplers
from likeness.parts.schedules import mixed
from mixture_truth import THREE, Mixture

TINY = dict(scale=0.25)
POINTS = Spec(2, 1, levels=24)
"""pairs of one of 24 levels: a space of 576 examples"""


def on_a_grid(spec: Spec) -> Mixture:
    """A law on all pairs of levels, as a mixture of points: its optimal denoiser and its entropy are sums."""
    line = torch.linspace(-1, 1, spec.levels, dtype=torch.float64)
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2)
    law = Mixture([1.0], [[0.0, 0.0]], [0.0])
    law.w, law.mu, law.v = (
        THREE.log_density(places).softmax(0),
        places,
        torch.zeros(len(places), dtype=torch.float64),
    )
    return law


class Perfect(DDPM):
    """Knows the law instead of learning it."""

    def image(self, said, x_t, t):
        return on_a_grid(self.spec).denoiser(self.schedule)(x_t, t)


def entropy(law: Mixture) -> float:
    """Nats a dimension."""
    return -float(law.w @ law.w.clamp(min=1e-300).log()) / 2


def bound_of(model: DDPM, n: int = 300) -> float:
    x = on_a_grid(POINTS).draw(n).float().view(n, 2, 1, 1)
    return float(model.terms(Batch(x, None, Noise(range(n)))).total.mean()) / 2


@pytest.mark.parametrize("beta", ["linear", "cosine"])
def test_the_forward_process_step_by_step_is_the_closed_form(beta):
    model = DDPM(spec=Spec(1, 8), T=50, beta=beta, **TINY)
    scale, variance = 1.0, 0.0
    for t, step in enumerate(model.schedule.beta.tolist(), 1):
        scale, variance = scale * math.sqrt(1 - step), variance * (1 - step) + step
        at = torch.tensor([float(t)], dtype=torch.float64)
        assert model.schedule.alpha(at).item() == pytest.approx(scale, rel=1e-9)
        assert model.schedule.sigma(at).item() == pytest.approx(math.sqrt(variance), rel=1e-9)
    x_0, noise = torch.full((20_000, 1, 1, 1), 0.7), Noise(range(20_000))
    *_, x = (x for x, _ in zip(model.q(x_0, noise), range(20)))
    at = torch.full((20_000,), 20.0)
    closed = mixed(model.schedule, x_0, noise.normal(1, 1, 1), at)
    assert x.mean() == pytest.approx(closed.mean().item(), abs=0.02) and x.std() == pytest.approx(
        closed.std().item(), abs=0.02
    )


def test_the_reverse_of_a_step_is_bayes_rule():
    """q(x_{t-1} | x_t, x_0) on a fine grid of x_{t-1}, from (2) and (4) alone."""
    model = DDPM(spec=Spec(1, 8), T=20, **TINY)
    grid = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    for t in (2, 9, 19):
        a, s = (f(torch.tensor([t - 1.0])).item() for f in (model.schedule.alpha, model.schedule.sigma))
        beta, x_0, x_t = model.schedule.beta[t - 1].item(), 0.4, -0.3
        log_q = -((grid - a * x_0) ** 2) / (2 * s**2) - (x_t - math.sqrt(1 - beta) * grid) ** 2 / (2 * beta)
        q = log_q.softmax(0)
        mean = (q * grid).sum().item()
        variance = (q * (grid - mean) ** 2).sum().item()
        mine = samplers.posterior(model.schedule.level(t), model.schedule.level(t - 1))
        assert mean == pytest.approx(mine.of_x * x_t + mine.of_x_0 * x_0, abs=1e-6)
        assert variance == pytest.approx(mine.small, rel=1e-5) and beta == pytest.approx(mine.large, rel=1e-9)
        table = [values[t - 1].item() for values in (model.of_x_0, model.small, model.large)]
        assert table == pytest.approx([mine.of_x_0, mine.small, mine.large], rel=1e-9)


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_what_the_network_should_say_is_the_image(predicts):
    model = DDPM(spec=Spec(1, 8), T=100, predicts=predicts, **TINY)
    x_0, eps, t = torch.rand(5, 1, 8, 8) * 2 - 1, torch.randn(5, 1, 8, 8), torch.tensor([1, 20, 50, 80, 95])
    said = model.target(x_0, eps, t)
    assert torch.allclose(model.image(said, mixed(model.schedule, x_0, eps, t), t), x_0, atol=1e-4)


def test_the_bound_lies_above_the_entropy_and_the_variance_decides_how_far():
    """REFERENCE row 10b: no variance comes below, and with few steps beta tilde costs most."""
    truth = entropy(on_a_grid(POINTS))
    found = {
        v: bound_of(Perfect(spec=POINTS, T=50, variance=v, net="mlp", evaluations=49, **TINY))
        for v in ("small", "large")
    }
    assert all(value > truth for value in found.values())
    assert found["small"] - truth > 2 * (found["large"] - truth)


def test_all_steps_and_some_of_them_have_the_same_mean():
    some, every = (
        bound_of(Perfect(spec=POINTS, T=30, net="mlp", evaluations=evaluations, **TINY), 1500)
        for evaluations in (4, 29)
    )
    assert some == pytest.approx(every, rel=0.03)


def test_a_bound_that_forgets_a_step_falls_below():
    """The fake: the last step, in which the levels are told apart, counts for nothing."""
    law, model = (
        on_a_grid(POINTS),
        Perfect(spec=POINTS, T=50, variance="large", net="mlp", evaluations=40, **TINY),
    )
    x = law.draw(600).float().view(-1, 2, 1, 1)
    terms = model.terms(Batch(x, None, Noise(range(600))))
    assert float((terms.prior + terms.diffusion).mean()) / 2 < entropy(law)


def test_a_learnt_variance_lies_between_the_two():
    model = DDPM(spec=Spec(1, 8), T=50, variance="learned", **TINY)
    t, v = torch.full((3,), 20), torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    found = model.log_variance(t, v).flatten()
    small, large = model.small[19].log(), model.large[19].log()
    assert found.tolist() == pytest.approx([float(small), float(small + large) / 2, float(large)], rel=1e-6)
    q = samplers.posterior(model.schedule.level(20), model.schedule.level(19))
    assert torch.allclose(model.deviation(q, v).flatten().double().log() * 2, found.double(), atol=1e-5)


def test_the_bound_is_the_sum_of_its_steps_and_what_is_expected_comes_nearer():
    """Section 4.3: rate by rate from T to 1, and how far the expected image still is."""
    model, n = Perfect(spec=POINTS, T=50, variance="large", net="mlp", evaluations=49, **TINY), 600
    batch = Batch(on_a_grid(POINTS).draw(n).float().view(n, 2, 1, 1), None, Noise(range(n)))
    rate, distortion = model.by_step(batch, range(1, 51))
    terms = model.terms(batch)
    assert float(rate[1:].sum()) == pytest.approx(float(terms.diffusion.mean()), rel=0.05)
    assert float(rate[0]) == pytest.approx(float(terms.reconstruction.mean()), abs=0.2)
    assert (
        (rate[1:] > 0).all()
        and (distortion.diff() > -0.02).all()
        and distortion[0] < 0.01 < 0.2 < distortion[-1]
    )
    model.image = lambda said, x_t, t: 0 * x_t  # type: ignore[method-assign]
    blind, far = model.by_step(batch, range(1, 51))
    assert (blind[1:] > rate[1:]).all() and torch.allclose(far, far[:1].expand(50), atol=1e-6), (
        "who expects nothing pays more at every step"
    )


def test_a_learnt_variance_has_a_gradient_and_the_mean_has_none_of_the_bounds():
    """Nichol & Dhariwal 2021, section 3.1: the bound moves the variance alone."""
    torch.manual_seed(0)
    model = DDPM(spec=Spec(1, 8), T=50, variance="learned", **TINY)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    x, t = torch.rand(4, 1, 8, 8) * 2 - 1, torch.tensor([1, 2, 20, 50])
    said, v = model.ask(x, t)
    said.retain_grad()
    v.retain_grad()
    nats = model.step_nats(x, model.image(said.detach(), x, t), t, v).sum()
    nats.backward()
    assert said.grad is None and all(float(g.abs().sum()) > 0 for g in v.grad)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_algorithm_2_is_ancestral_sampling(variance):
    model = DDPM(spec=Spec(1, 8), T=20, variance=variance, steps=20, sampler="ancestral", **TINY)
    levels = model.levels()
    x = samplers.start(levels, Noise(range(3)), 1, 8, 8)
    mine = [state.x for state in model.walk(levels, x, Noise(range(3), 1))]
    theirs = [
        state.x
        for state in samplers.ancestral(model.denoise, levels, x, Noise(range(3), 1), variance == "large")
    ]
    assert len(mine) == 20 and all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs))


def test_numbers_without_a_grid_have_no_bound():
    model = DDPM(spec=Spec(2, 1, levels=0), **TINY)
    with pytest.raises(Refusal, match="no probabilities"):
        model.terms(Batch(torch.zeros(2, 2, 1, 1), None, Noise(range(2))))


def lively(**options: object) -> DDPM:
    torch.manual_seed(0)
    model = DDPM(spec=Spec(1, 8), T=50, **options, **TINY)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return model


def gradients(model: DDPM, total: torch.Tensor) -> torch.Tensor:
    return torch.cat(
        [
            g.flatten()
            for g in torch.autograd.grad(
                total, list(model.parameters()), allow_unused=True, retain_graph=True
            )
            if g is not None
        ]
    )


def test_the_hybrid_loss_is_its_two_terms_with_their_weights():
    """(16) of Nichol & Dhariwal 2021: in its own words, with the mean detached in the second term."""
    model = lively(variance="learned", predicts="eps")
    x = torch.rand(32, 1, 8, 8) * 2 - 1
    loss, noise = model.loss(Batch(x, None, Noise(range(32)))), Noise(range(32))
    t = 1 + (noise.uniform() * 50).long()
    eps = noise.normal(1, 8, 8)
    x_t = mixed(model.schedule, x, eps, t)
    said, v = model.ask(x_t, t)
    simple = (said - eps).square().mean()
    bound = model.step_nats(x, model.image(said.detach(), x_t, t), t, v).mean() * 50 / 64
    assert loss.total.item() == pytest.approx((simple + 1e-3 * bound).item(), rel=1e-5)
    assert torch.allclose(
        gradients(model, loss.total), gradients(model, simple + 1e-3 * bound), rtol=1e-3, atol=1e-6
    )
    attached = model.step_nats(x, model.image(said, x_t, t), t, v).mean() * 50 / 64
    assert not torch.allclose(
        gradients(model, loss.total), gradients(model, simple + 1e-3 * attached), rtol=1e-3, atol=1e-6
    ), "the fake"
    assert t.min() < 5 and t.max() > 45


def test_the_loss_that_is_the_bound_has_its_mean():
    """Over many draws of t the loss is (5) without its first term, in nats a dimension."""
    model = lively(objective="bound", predicts="v")
    x = torch.rand(1, 1, 8, 8).mul(255).round().div(127.5).sub(1).expand(4000, 1, 8, 8)
    with torch.no_grad():
        found = float(model.loss(Batch(x, None, Noise(range(4000)))).total)
        model.evaluations = 49
        terms = model.terms(Batch(x[:40], None, Noise(range(40))))
    bound = float((terms.diffusion + terms.reconstruction).mean()) / 64
    assert 0.99 * bound < found < 1.2 * bound, (
        "the bound keeps what is expected within what an image can be, and so lies a little lower"
    )


def test_names_of_codes_are_refused():
    with pytest.raises(Refusal, match="names of codes"):
        DDPM(spec=Spec(1, 7, levels=64, symbols=True))
