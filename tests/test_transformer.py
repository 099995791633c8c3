"""Attention against a plain implementation, the memory against the full pass, and what positions do."""

import math

import pytest
import torch
from torch import Tensor, nn

from likeness.parts.transformer import Attention, Past, Transformer, rotation

GRID = torch.cartesian_prod(torch.arange(3), torch.arange(4))


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with weights large enough for everything to matter."""
    g = torch.Generator().manual_seed(seed)
    for p in net.double().parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=p.dtype) * (0.5 if p.ndim > 1 else 1)
    return net


def tokens(n: int = 12, width: int = 12, batch: int = 2) -> Tensor:
    return torch.randn(batch, n, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def plain(net: Attention, x: Tensor, positions: Tensor, causal: bool) -> Tensor:
    """One image and one head at a time, rotations as products of complex numbers, the future at minus
    infinity."""
    n, width = x.shape[1:]
    d = width // net.heads
    q, k, v = (x @ w.T for w in net.qkv.weight.chunk(3))
    cos, sin = rotation(positions, d).double()
    spin = torch.complex(cos, sin)

    def spun(a: Tensor) -> Tensor:
        return torch.complex(a[:, : d // 2], a[:, d // 2 :]) * spin

    heads = []
    for h in range(net.heads):
        part = slice(h * d, (h + 1) * d)
        rows = []
        for one_q, one_k, one_v in zip(q[..., part], k[..., part], v[..., part]):
            scores = (spun(one_q)[:, None] * spun(one_k)[None].conj()).real.sum(-1) / math.sqrt(d)
            if causal:
                scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
            rows.append(torch.exp(scores - scores.logsumexp(1, keepdim=True)) @ one_v)
        heads.append(torch.stack(rows))
    return torch.cat(heads, -1) @ net.out.weight.T


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_that_of_the_plain_formula(causal):
    net, x = lively(Attention(12, 3, causal)), tokens()
    got = net(x, rotation(GRID, 4))
    assert torch.allclose(got, plain(net, x, GRID, causal), atol=1e-12)
    assert (got - plain(net, x, GRID, not causal)).abs().max() > 0.01
    assert (got - plain(net, x, GRID.flip(1), causal)).abs().max() > 0.01  # columns for rows
    assert torch.allclose(net(x), plain(net, x, GRID * 0, causal), atol=1e-12)


def jacobian(net: nn.Module, by: Tensor) -> Tensor:
    """Whether output i depends on input j, (T, T)."""
    found = torch.autograd.functional.jacobian(lambda x: net(x, by).sum((0, 2)), tokens(batch=1))
    return found.abs().sum((1, 3)) != 0


def test_a_causal_one_depends_on_exactly_what_came_before_and_any_other_on_all():
    by, n = rotation(GRID, 4), len(GRID)
    assert torch.equal(
        jacobian(lively(Transformer(12, 2, 3, causal=True)), by), torch.ones(n, n).tril().bool()
    )
    assert bool(jacobian(lively(Transformer(12, 2, 3, causal=False)), by).all())


@pytest.mark.parametrize("steps", [[1] * 12, [5, 1, 4, 2], [12]])
def test_with_its_past_it_answers_as_for_the_whole_sequence(steps):
    net, x, by = lively(Transformer(12, 2, 3, causal=True)), tokens(), rotation(GRID, 4)
    past, parts = Past(12), []
    for part, turns in zip(x.split(steps, 1), by.split(steps, 1)):
        parts.append(net(part, turns, past))
    assert past.fed == 12 and torch.allclose(torch.cat(parts, 1), net(x, by), atol=1e-12)


def test_the_test_of_the_past_sees_a_lost_token_and_a_wrong_place():
    net, x, by = lively(Transformer(12, 2, 3, causal=True)), tokens(), rotation(GRID, 4)
    for lost in (False, True):
        past = Past(12)
        net(x[:, :11], by[:, :11], past)
        if lost:
            past.fed -= 1
        last = net(x[:, 11:], by[:, 11:] if lost else by[:, :1], past)
        assert (last - net(x, by)[:, 11:]).abs().max() > 0.01


def test_several_new_tokens_do_not_see_each_others_future():
    net, by = lively(Transformer(12, 2, 3, causal=True)), rotation(GRID, 4)
    x, other = tokens(), tokens()
    other[:, -1] += 1
    answers = []
    for given in (x, other):
        past = Past(12)
        net(given[:, :6], by[:, :6], past)
        answers.append(net(given[:, 6:], by[:, 6:], past))
    assert torch.equal(answers[0][:, :-1], answers[1][:, :-1]) and not torch.equal(
        answers[0][:, -1], answers[1][:, -1]
    )


def test_attention_knows_how_far_apart_two_tokens_are_and_not_where():
    """Along each axis: without a mask the whole grid may be moved, but not stretched, turned over, or its
    axes exchanged."""
    net, x = lively(Attention(16, 2, causal=False)), tokens(width=16)
    cos_sin = rotation(torch.cartesian_prod(torch.arange(9), torch.arange(9)), 8).double().view(2, 9, 9, 4)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        return net(x, cos_sin[:, rows, columns])

    rows, columns = GRID.unbind(1)
    here = at(rows, columns)
    assert torch.allclose(here, at(rows + 5, columns + 3), atol=1e-5)  # angles are kept in float32
    for fake in (
        at(2 * rows, columns),
        at(2 - rows, columns),
        at(rows, 2 * columns),
        at(rows, 3 - columns),
        at(columns, rows),
    ):
        assert (here - fake).abs().max() > 0.01


def test_a_rotation_is_one_and_no_two_places_have_the_same():
    by = rotation(torch.cartesian_prod(torch.arange(28), torch.arange(28)), 24)
    assert torch.allclose(by.square().sum(0), torch.ones(784, 12), atol=1e-6)
    assert torch.pdist(by.permute(1, 0, 2).flatten(1)).min() > 0.1
    # one axis too few pairs; a single place
    assert rotation(GRID, 2).isfinite().all() and rotation(GRID[:1], 4).isfinite().all()


def test_it_runs_in_bfloat16():
    net, by = Transformer(16, 2, 2, causal=True), rotation(GRID, 8)
    x = tokens(width=16).float()
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x, by)
    assert torch.allclose(low.float(), net(x, by), atol=0.05)
    low.float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
