"""The discretised mixture of logistics: it sums to one whatever a network says, and is what the paper's
equations say."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from likeness.parts import mixture
from likeness.parts.conditionals import value
from likeness.parts.likelihoods import Logistic
from likeness.parts.mixture import LogisticMixture

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
hostile = finite | st.floats(-1.5, 1.5) | st.floats(-12, 12)


class ForgetsEdges(LogisticMixture):
    """The fake: the lowest and the highest level do not take the tails."""

    def edges(self, k: Tensor) -> tuple[Tensor, Tensor]:
        return k - 0.5, k + 0.5


class ForgetsWhatItSaw(LogisticMixture):
    """The fake: each channel is mixed with the weights of the first."""

    def see(self, x: Tensor, c: int, weights: Tensor, mean: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        return super().see(x, c, weights, mean, sharp)[0], weights


def table(p: LogisticMixture, out: Tensor) -> Tensor:
    """log P of every level of one channel, from log_prob()."""
    x = value(torch.arange(p.levels), p.levels)[:, None, None, None]
    return p.log_prob(x, out.expand(p.levels, -1)[:, :, None, None]).flatten()


def every(p: LogisticMixture) -> Tensor:
    """All pixels that there are, (levels^C, C, 1, 1)."""
    return value(torch.tensor(list(itertools.product(range(p.levels), repeat=p.channels))), p.levels)[
        :, :, None, None
    ]


def total(p: LogisticMixture, out: Tensor) -> float:
    x = every(p).to(out.dtype)
    return p.log_prob(x, out.expand(len(x), -1)[:, :, None, None]).double().sum(1).exp().sum().item()


@given(numbers=st.lists(hostile, min_size=6, max_size=6), levels=st.sampled_from([2, 4, 17, 256]))
@example(numbers=[0, 0, 0.999, 0.999, -2.0, 5.0], levels=256)
@example(numbers=[0, 0, 1e30, -1e30, 1e30, -1e30], levels=256)
@example(numbers=[3e38, -3e38, 0.0, 1e38, -1e38, 1e38], levels=17)
@example(numbers=[0, 0, 3.0, -3.0, -30.0, -30.0], levels=4)
@settings(max_examples=200, deadline=None)
def test_sums_to_one_with_finite_gradients_for_hostile_parameters(numbers: list[float], levels: int) -> None:
    p, out = LogisticMixture(1, levels, 2), torch.tensor(numbers, requires_grad=True)
    log_p = table(p, out)
    assert torch.isfinite(log_p).all() and log_p.max() <= 1e-6
    assert log_p.double().exp().sum().item() == pytest.approx(1, abs=1e-5)
    log_p.mean().backward()
    assert out.grad is not None and torch.isfinite(out.grad).all()


@pytest.mark.parametrize(("channels", "levels"), [(2, 17), (3, 4), (4, 3)])
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0, 1e4, 1e30])
def test_all_pixels_sum_to_one_and_gradients_are_finite(channels: int, levels: int, scale: float) -> None:
    """Where a channel is unlikely under all components, the next must still be told how likely each has
    become."""
    p, g = LogisticMixture(channels, levels), torch.Generator().manual_seed(0)
    for _ in range(5):
        out = (scale * torch.randn(p.outputs, generator=g)).requires_grad_()
        assert total(p, out) == pytest.approx(1, abs=1e-5)
        x = every(p)
        p.log_prob(x, out.expand(len(x), -1)[:, :, None, None]).mean().backward()
        assert out.grad is not None and torch.isfinite(out.grad).all()


def test_sum_notices_forgotten_edges() -> None:
    """REFERENCE 1.3: 0.19 is missing where the edges do not take the tails."""
    out = torch.tensor([0.0, 0.0, 0.95, -0.99, -0.5, 0.0])
    assert total(LogisticMixture(1, 256, 2), out) == pytest.approx(1, abs=1e-5)
    assert total(ForgetsEdges(1, 256, 2), out) < 1 - 0.19


def by_the_paper(x: Tensor, out: Tensor, levels: int, k: int) -> Tensor:
    """Equations 2 and 3 for three channels, word by word, in float64: (N,)."""
    half, n = (levels - 1) / 2, len(x)
    logits, m, s, coefficient = out.split([k, 3 * k, 3 * k, 3 * k], 1)
    m, s, coefficient = m.view(n, 3, k), s.view(n, 3, k), coefficient.view(n, 3, k).tanh()
    r, g = x[:, :1], x[:, 1:2]
    mean = torch.stack(
        [m[:, 0], m[:, 1] + coefficient[:, 0] * r, m[:, 2] + coefficient[:, 1] * r + coefficient[:, 2] * g], 1
    )
    mu, scale, level = (mean + 1) * half, s.exp() * half / 4, (x[:, :, None] + 1) * half
    upper = torch.where(level > levels - 1.5, 1.0, torch.sigmoid((level + 0.5 - mu) / scale))
    lower = torch.where(level < 0.5, 0.0, torch.sigmoid((level - 0.5 - mu) / scale))
    return (logits.softmax(1) * (upper - lower).prod(1)).sum(1).log()


@pytest.mark.parametrize("levels", [4, 17, 256])
def test_is_equations_2_and_3(levels: int) -> None:
    g, p = torch.Generator().manual_seed(1), LogisticMixture(3, levels, 5)
    x = value(torch.randint(0, levels, (200, 3), generator=g), levels).double()
    # no scale so small that it is made larger
    out = torch.randn(200, p.outputs, generator=g, dtype=torch.float64).clamp(min=-1.5)
    found = p.log_prob(x[:, :, None, None], out[:, :, None, None])
    assert found.dtype == torch.float64 and torch.allclose(
        found.sum((1, 2, 3)), by_the_paper(x, out, levels, 5), atol=1e-9
    )
    fake = ForgetsWhatItSaw(3, levels, 5).log_prob(x[:, :, None, None], out[:, :, None, None])
    assert torch.equal(fake[:, 0], found[:, 0]) and (fake - found).sum((1, 2, 3)).abs().max() > 0.5
    in_bf16 = p.log_prob(x.float()[:, :, None, None], out.bfloat16()[:, :, None, None])
    assert in_bf16.dtype == torch.float32 and (in_bf16.double() - found).abs().median() < 0.02


def test_levels_of_a_channel_have_the_probabilities_that_log_prob_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    g, p = torch.Generator().manual_seed(2), LogisticMixture(3, 17, 4)
    x = value(torch.randint(0, 17, (2, 3, 4, 4), generator=g), 17)
    out = 2 * torch.randn(2, p.outputs, 4, 4, generator=g)
    for c in range(3):
        log_p = p.logits(x, out, c)
        assert log_p.shape == (2, 4, 4, 17) and torch.allclose(
            log_p.exp().sum(-1), torch.ones(2, 4, 4), atol=1e-5
        )
        for k in range(17):
            y = x.clone()
            y[:, c] = value(torch.tensor(k), 17)
            assert torch.allclose(p.log_prob(y, out)[:, c], log_p[..., k], atol=1e-4)
        monkeypatch.setattr(mixture, "VALUES", 17 * 4 * 3)
        assert torch.equal(p.logits(x, out, c), log_p), "it matters how many pixels are done at once"
        later = x.clone()
        later[:, c:] = 0
        assert torch.equal(p.logits(later, out, c), log_p), "a channel depends on itself or a later one"


def test_gradient_is_that_of_finite_differences() -> None:
    g, p = torch.Generator().manual_seed(3), LogisticMixture(3, 8, 2)
    x = value(torch.randint(0, 8, (6, 3, 1, 1), generator=g), 8).double()
    out = torch.randn(6, p.outputs, 1, 1, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda o: p.log_prob(x, o), out)


def test_one_component_of_one_channel_is_the_discretised_logistic() -> None:
    g, p = torch.Generator().manual_seed(4), LogisticMixture(1, 256, 1)
    x, out = value(torch.arange(256), 256)[:, None, None, None], torch.randn(256, 2, 1, 1, generator=g)
    assert torch.allclose(
        p.log_prob(x, torch.cat([out[:, :1], out], 1)).flatten(), Logistic(256).log_prob(x, out), atol=1e-4
    )


def test_numbers_a_pixel() -> None:
    assert (
        LogisticMixture(3, 256).outputs == 100
        and LogisticMixture(1, 256).outputs == 30
        and LogisticMixture(4, 256, 2).outputs == 30
    )
