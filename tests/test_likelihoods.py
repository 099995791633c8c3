"""Probabilities of pixels sum to one, whatever a network says; each check is seen to fail with the classical
mistake."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from likeness.core import Noise
from likeness.parts.likelihoods import Bernoulli, Discretised, Gaussian, Logistic

BOTH = [Logistic, Gaussian]
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def grid(levels: int) -> Tensor:
    return torch.arange(levels) * (2 / (levels - 1)) - 1


def table(p: Discretised, mean: float, log_scale: float) -> tuple[Tensor, Tensor]:
    """log P of every level, and the output it is a function of."""
    out = torch.tensor([mean, log_scale]).repeat(p.levels, 1)[:, :, None, None].requires_grad_()
    return p.log_prob(grid(p.levels)[:, None, None, None], out), out


class ForgetsEdges(Logistic):
    """The fake: the lowest and the highest level do not take the tails."""

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        mean, scale = self.parameters_of(out)
        k = ((x + 1) * ((self.levels - 1) / 2)).round()
        return self.log_mass((k - mean) / scale, 1 / scale).flatten(1).sum(1)


@pytest.mark.parametrize("kind", BOTH)
@given(
    mean=finite | st.floats(-1.5, 1.5),
    log_scale=finite | st.floats(-12, 4),
    levels=st.sampled_from([2, 3, 16, 256]),
)
@example(mean=0.999, log_scale=-2.0, levels=256)
@example(mean=1e30, log_scale=1e30, levels=256)
@example(mean=-1e30, log_scale=-1e30, levels=256)
@example(mean=0.0, log_scale=1e30, levels=256)
@settings(max_examples=300, deadline=None)
def test_sums_to_one_with_finite_gradients_for_hostile_parameters(
    kind: type[Discretised], mean: float, log_scale: float, levels: int
) -> None:
    log_p, out = table(kind(levels), mean, log_scale)
    assert torch.isfinite(log_p).all() and log_p.max() <= 1e-6
    assert abs(log_p.double().exp().sum().item() - 1) < 1e-5
    log_p.sum().backward()
    assert out.grad is not None and torch.isfinite(out.grad).all()


def test_sum_notices_forgotten_edges() -> None:
    assert abs(table(ForgetsEdges(256), 0.9, 0.0)[0].exp().sum().item() - 1) > 0.01


@pytest.mark.parametrize("kind", BOTH)
@given(mean=st.floats(-1.2, 1.2), log_scale=st.floats(-8, 3))
@settings(max_examples=50, deadline=None)
def test_agrees_with_float64_cdf_differences(kind: type[Discretised], mean: float, log_scale: float) -> None:
    p = kind(256)
    mean32, scale32 = (
        t.double().item() for t in p.parameters_of(torch.tensor([mean, log_scale])[None, :, None, None])
    )
    cdf = torch.sigmoid if kind is Logistic else torch.special.ndtr
    c = cdf((torch.arange(255, dtype=torch.float64) + 0.5 - mean32) / scale32)
    exact = torch.cat([c[:1], c.diff(), 1 - c[-1:]])
    assert torch.allclose(table(p, mean, log_scale)[0].double().exp(), exact, atol=1e-6)


@pytest.mark.parametrize("kind", BOTH)
def test_gradient_is_that_of_finite_differences(kind: type[Discretised]) -> None:
    p = kind(16)
    p.parameters_of = lambda out: tuple(out.chunk(2, 1))  # type: ignore[method-assign,assignment]  # keeps float64
    x = grid(16).double()[:, None, None, None]
    out = (
        torch.stack([torch.linspace(-3, 18, 16), torch.linspace(0.3, 9, 16)], 1)
        .double()[:, :, None, None]
        .requires_grad_()
    )
    assert torch.autograd.gradcheck(lambda o: p.log_prob(x, o), out)


def test_units() -> None:
    """REFERENCE 1.4: a uniform 256-way pixel is 8 bits; zero logits on 28x28 black and white are 784 ln 2
    nats."""
    zeros = torch.zeros(1, 1, 28, 28)
    nats = -Bernoulli().log_prob(zeros + 1, zeros).item()
    assert nats == pytest.approx(784 * math.log(2), rel=1e-6) and nats == pytest.approx(543.43, abs=0.005)
    for wrong in (nats / 784, nats / math.log(2)):
        assert wrong != pytest.approx(543.43, abs=1)
    wide = torch.cat([zeros, zeros + 100], 1)
    inside = (torch.randint(1, 255, (1, 1, 28, 28)) / 127.5) - 1
    p = Logistic(256)
    per_level = p.log_prob(inside, wide).item() / 784
    # density of a wide logistic at its middle
    assert per_level == pytest.approx(-math.log(4 * p.parameters_of(wide)[1].max().item()), rel=1e-3)


def test_uniform_is_eight_bits() -> None:
    """Wide tails with half of the mass below and half above cannot be uniform, but a mixture over
    means is."""
    log_p = torch.stack([table(Logistic(256), m, -20.0)[0] for m in grid(256).tolist()])
    bits = -(log_p.logsumexp(0) - math.log(256)) / math.log(2)
    assert torch.allclose(bits, torch.full((256,), 8.0), atol=1e-3)


def test_bernoulli_is_binary_cross_entropy() -> None:
    x, out = torch.randn(5, 1, 8, 8).sign(), 3 * torch.randn(5, 1, 8, 8)
    bce = F.binary_cross_entropy_with_logits(out, (x + 1) / 2, reduction="none").flatten(1).sum(1)
    assert torch.allclose(-Bernoulli().log_prob(x, out), bce, rtol=1e-5)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("mean", "log_scale"), [(0.2, -1.0), (-0.95, -0.5), (0.5, 2.0)])
def test_draws_have_the_probabilities_they_claim(
    kind: type[Discretised], mean: float, log_scale: float
) -> None:
    p, n = kind(8), 20_000
    out = torch.tensor([mean, log_scale])[:, None, None].expand(n, 2, 1, 1)
    x = p.draw(out, Noise(range(n)))
    k = ((x.flatten() + 1) * 3.5).round().long()
    assert torch.allclose(x.flatten(), grid(8)[k], atol=1e-6)
    share = torch.bincount(k, minlength=8) / n
    assert (share - table(p, mean, log_scale)[0].exp()).abs().max() < 0.015


def test_bernoulli_draws() -> None:
    x = Bernoulli().draw(torch.full((20_000, 1, 1, 1), 1.0), Noise(range(20_000)))
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    assert (x > 0).float().mean().item() == pytest.approx(torch.tensor(1.0).sigmoid().item(), abs=0.01)
