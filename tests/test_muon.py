"""Muon: what is done to a matrix, and a few steps against the same written out plainly."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from likeness.engine.muon import A, B, C, Muon, matrices, orthogonal

RATE, MOMENTUM = 3e-3, 0.95


def plainly(x: Tensor) -> Tensor:
    """The polynomial as it is published, a matrix at a time, in float64."""
    wide = x.double().T if len(x) > x.shape[1] else x.double()
    wide = wide / wide.norm()
    for _ in range(5):
        s = wide @ wide.T
        wide = A * wide + (B * s + C * s @ s) @ wide
    return wide.T if len(x) > x.shape[1] else wide


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def apart(x: Tensor, y: Tensor) -> float:
    return float((x.double() - y.double()).norm().detach() / y.norm().detach())


def thin(rows: int, columns: int) -> Tensor:
    """Eight directions a thousand times as strong as the rest."""
    return draw(rows, 8) @ draw(8, columns, seed=1) + 1e-2 * draw(rows, columns, seed=2)


@pytest.mark.parametrize(
    "x", [draw(16, 40), draw(40, 16), thin(32, 64), draw(24, 24)], ids=lambda x: str(x.shape)
)
def test_the_short_way_through_the_smaller_matrix_is_the_polynomial(x: Tensor) -> None:
    made = orthogonal(torch.stack([x, 1e3 * x, -x]))
    for row, sign in zip(made, (1, 1, -1)):
        assert apart(sign * row, plainly(x)) < 5e-4
    assert apart(x / x.norm(), plainly(x)) > 0.5


def test_directions_come_to_weigh_the_same_and_stay_what_they_are() -> None:
    x = draw(64, 576)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    made = orthogonal(x[None])[0]
    kept = torch.linalg.svdvals(made)
    assert s[0] / s[-1] > 1.8 and kept[-1] > 0.6 and kept[0] < 1.25
    assert torch.corrcoef(torch.stack([made.flatten(), (u @ v).flatten()]))[0, 1] > 0.97
    assert torch.corrcoef(torch.stack([x.flatten(), (u @ v).flatten()]))[0, 1] < 0.99


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.inner = nn.Conv2d(16, 32, 3, padding=1)
        self.other = nn.Conv2d(32, 32, 3, padding=1)
        self.twin = nn.Conv2d(32, 32, 3, padding=1)
        self.down = nn.Linear(32, 24)
        self.last = nn.Linear(24, 2)
        self.words = nn.Embedding(40, 24)

    def forward(self, x: Tensor) -> Tensor:
        h = self.other(self.inner(self.first(x)).relu()).relu()
        return self.last(self.down(self.twin(h).relu().mean((2, 3))).relu() + self.words.weight.mean(0))


def test_matrices_are_the_weights_that_are_large_both_ways() -> None:
    net = Net()
    hidden = {id(p) for p in matrices(net)}
    names = [name for name, p in net.named_parameters() if id(p) in hidden]
    assert names == ["inner.weight", "other.weight", "twin.weight", "down.weight"]
    net.down.weight.requires_grad_(False)
    assert len(matrices(net)) == 3


@pytest.mark.parametrize("channels_last", [False, True])
def test_steps_are_those_written_out_one_by_one(channels_last: bool) -> None:
    torch.manual_seed(0)
    net = Net()
    twin = copy.deepcopy(net)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ours = Muon(net.parameters(), RATE, matrices(net))
    hidden = {id(p) for p in matrices(twin)}
    adam = torch.optim.Adam([p for p in twin.parameters() if id(p) not in hidden], lr=RATE)
    memory: dict[Tensor, Tensor] = {}
    for k in range(4):
        x = draw(6, 1, 8, 8, seed=k)
        for one in (net, twin):
            one.zero_grad()
            one(x).square().mean().backward()
        ours.step()
        for p in matrices(twin):
            assert p.grad is not None
            memory[p] = MOMENTUM * memory.get(p, torch.zeros_like(p)) + (1 - MOMENTUM) * p.grad
            ahead = MOMENTUM * memory[p] + (1 - MOMENTUM) * p.grad
            step = plainly(ahead.flatten(1)).float().view_as(p)
            with torch.no_grad():
                p -= RATE * max(len(p), p[0].numel()) ** 0.5 * step
        adam.step()
    torch.manual_seed(0)
    for (name, p), q, begun in zip(net.named_parameters(), twin.parameters(), Net().parameters()):
        assert apart(p.detach() - begun, q.detach() - begun) < 2e-2, name


def test_a_step_moves_a_number_by_the_rate() -> None:
    torch.manual_seed(0)
    net = Net()
    before = net.twin.weight.detach().clone()
    net(draw(6, 1, 8, 8)).square().mean().backward()
    Muon(net.parameters(), RATE, matrices(net)).step()
    moved = (net.twin.weight.detach() - before).square().mean().sqrt()
    assert 0.6 * RATE < float(moved) < 1.2 * RATE


def test_what_has_no_gradient_stays() -> None:
    net = Net()
    net(draw(2, 1, 8, 8)).sum().backward()
    net.other.weight.grad = None
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    Muon(net.parameters(), RATE, matrices(net)).step()
    same = [name for name, p in net.named_parameters() if torch.equal(p, before[name])]
    assert same == ["other.weight"]
