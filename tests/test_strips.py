"""A network over an image in strips of rows is the network over the whole image."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness.inference import strips


class Block(nn.Module):
    def __init__(self, c, norm):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1, padding_mode="reflect"),
            norm(c),
            nn.ReLU(True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(c, c, 3),
            norm(c),
        )

    def forward(self, x):
        return x + self.layers(x)


class Written(nn.Module):
    """Instance normalisation as people write it by hand."""

    def __init__(self, c):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(1, c, 1, 1) + 0.5)

    def forward(self, x):
        variance, mean = torch.var_mean(x, (2, 3), keepdim=True, correction=0)
        return (x - mean) * torch.rsqrt(variance + 1e-5) * self.gain


class OneByOne(nn.Module):
    """Batch normalisation of one image at a time, as parts/norms.py does it on a processor."""

    def __init__(self, c):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(c) + 0.5), nn.Parameter(torch.rand(c))

    def forward(self, x):
        return torch.cat([F.batch_norm(i, None, None, self.weight, self.bias, True) for i in x.split(1)])


def resnet(norm, width=4, blocks=5):
    w = width
    return nn.Sequential(
        *(nn.ReflectionPad2d(3), nn.Conv2d(3, w, 7), norm(w), nn.ReLU(True)),
        *(nn.Conv2d(w, 2 * w, 3, 2, 1), norm(2 * w), nn.ReLU(True)),
        *(nn.Conv2d(2 * w, 4 * w, 3, 2, 1), norm(4 * w), nn.ReLU(True)),
        *[Block(4 * w, norm) for _ in range(blocks)],
        *(nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, 1, 1), norm(2 * w), nn.ReLU(True)),
        *(nn.ConvTranspose2d(2 * w, w, 4, 2, 1), norm(w), nn.ReLU(True)),
        *(nn.ReflectionPad2d(3), nn.Conv2d(w, 3, 7), nn.Tanh()),
    )


class UNet(nn.Module):
    def __init__(self, norm, w=4, depth=3):
        super().__init__()
        c = [3, *[w << k for k in range(depth)]]
        self.down = nn.ModuleList([nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(c)])
        self.norms = nn.ModuleList([norm(b) for b in c[1:]])
        ups = [(c[k] * (1 + (k < depth)), c[k - 1]) for k in range(depth, 0, -1)]
        self.up = nn.ModuleList([nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ups])

    def forward(self, x):
        skips = []
        for conv, norm in zip(self.down, self.norms):
            x = norm(conv(F.leaky_relu(x, 0.2)))
            skips.append(x)
        h = skips.pop()
        for conv in self.up:
            h = conv(F.relu(h))
            h = torch.cat([h, skips.pop()], 1) if skips else h
        return h.tanh()


class Upscaler(nn.Module):
    def __init__(self, w=6, depth=6):
        super().__init__()
        self.head, self.last = nn.Conv2d(3, w, 3, 1, 1), nn.Conv2d(w, 12, 3, padding="same")
        self.blocks = nn.ModuleList([nn.Conv2d(w, w, 3, 1, 1) for _ in range(depth)])

    def forward(self, x):
        h = start = self.head(x)
        for conv in self.blocks:
            h = h + F.relu_(conv(h))
        h += start
        large = F.interpolate(x.float(), scale_factor=2, mode="bicubic", antialias=True)
        return (F.pixel_shuffle(self.last(h), 2) + large).clamp(-1, 1)


NETWORKS = {
    "instance": lambda: resnet(nn.InstanceNorm2d),
    "written": lambda: resnet(Written, blocks=2),
    "one by one": lambda: resnet(OneByOne, blocks=2),
    "none": lambda: resnet(lambda c: nn.Identity()),
    "batch": lambda: resnet(nn.BatchNorm2d, blocks=2),
    "group": lambda: resnet(lambda c: nn.GroupNorm(2, c), blocks=2),
    "unet": lambda: UNet(nn.InstanceNorm2d),
    "unet, none": lambda: UNet(lambda c: nn.Identity()),
    "upscaler": Upscaler,
}


def striped(network, x: Tensor, limit: float = math.inf):
    """What run() makes of it, and how many strips it took."""
    out, rows = list[Tensor](), 0

    def use(span, part):
        nonlocal rows
        assert span[0] == rows and part.shape[2] == span[1] - span[0]
        rows = span[1]
        out.append(part.clone())

    with torch.no_grad():
        plan = strips.Plan(limit, 1.0, 0)
        strips.run(network, x.shape, lambda a, b: x[:, :, a:b], use, plan)
    return torch.cat(out, 2), len(out)


@pytest.fixture
def little(monkeypatch):
    """A strip has a few rows only."""
    monkeypatch.setattr(strips, "WORKING", 40_000)
    monkeypatch.setattr(strips, "SUMMED", 3_000)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(96, 32), (40, 160), (16, 16)])
def test_strips_make_the_whole(name, size, little):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    for p in network.parameters():  # so that what is computed wrongly shows
        p.data *= 1.5
    x = torch.rand(1, 3, *size) * 2 - 1
    with torch.no_grad():
        whole = network(x)
    assert whole.std() > 0.02
    for limit in (math.inf, 5_000, 0):  # all is kept, some, nothing
        out, count = striped(network, x, limit)
        assert (out - whole).abs().max() < 1e-5 * max(1, whole.abs().max())
        assert count > 1 or size == (16, 16)


def test_statistics_are_those_of_the_whole_image_and_not_of_a_strip(little):
    """The fake: each strip by itself."""
    torch.manual_seed(0)
    network = resnet(nn.InstanceNorm2d)
    x = torch.linspace(-1, 1, 96)[:, None] * torch.rand(1, 3, 96, 32)
    with torch.no_grad():
        whole, parts = network(x), torch.cat([network(part) for part in x.split(32, 2)], 2)
    assert (whole - parts).abs().max() > 0.1
    assert (striped(network, x)[0] - whole).abs().max() < 1e-5


def test_a_mean_far_from_zero_costs_no_digits(little):
    """Sums of squares would lose them: variance 1 beside a mean of 10,000."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 200, 40, dtype=torch.float64)
    near = (x + 1e4).float()
    mean, variance = near.double().mean((2, 3)), near.double().var((2, 3), correction=0)
    job = strips.Job()
    got = strips.moments(job.source(near.shape, lambda a, b: near[:, :, a:b]).node)
    assert torch.allclose(got[0], mean, rtol=1e-7) and torch.allclose(got[1], variance, rtol=1e-3)


def operations():
    draw = random.Random(0)
    w, t = torch.randn(6, 4, 3, 5), torch.randn(4, 6, 4, 3)
    yield lambda x: F.conv2d(x, w, torch.ones(6), (2, 1), (1, 2), (2, 1))
    yield lambda x: F.conv2d(x, torch.randn(4, 1, 3, 3, generator=torch.manual_seed(1)), groups=4)
    yield lambda x: F.conv_transpose2d(x, t, torch.ones(6), (3, 2), (1, 0), (2, 1))
    yield lambda x: F.conv_transpose2d(x, t[:, :, :1], None, 3, 0, 2)
    for mode in ("reflect", "replicate", "constant"):
        pads = [draw.randint(0, 4) for _ in range(4)]
        yield lambda x, m=mode, p=pads: F.pad(F.pad(x, p, m), p[::-1], m) + 1
    for mode in ("nearest", "bilinear", "bicubic"):
        yield lambda x, m=mode: F.interpolate(x, scale_factor=3, mode=m)
    yield lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2)[:, 1:3]
    yield lambda x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2, 2)
    yield lambda x: torch.cat([x.chunk(2, 1)[1], x[:, :1]], 1) * x.mean((2, 3), keepdim=True)[:, :3]
    yield lambda x: 1 - x / 2 + F.adaptive_avg_pool2d(x, 1).sigmoid() ** 2
    yield lambda x: x.mT.flip(2).mT * 2 + F.unfold(x, 1).view_as(x)  # given the whole image


@pytest.mark.parametrize("operation", [*operations()])
def test_each_operation(operation, little):
    torch.manual_seed(0)
    x = torch.rand(1, 4, 70, 18).contiguous(memory_format=torch.channels_last)
    out, _ = striped(operation, x)
    whole = operation(x)
    assert out.shape == whole.shape and torch.allclose(out, whole, atol=1e-4)


def test_in_place_operations_are_seen_by_those_that_hold_the_tensor(little):
    def network(x):
        h = x * 2
        same = h
        h += 1
        h.clamp_(0, 2)
        return same - x

    x = torch.rand(1, 3, 50, 20) * 2 - 1
    assert torch.equal(striped(network, x)[0], (x * 2 + 1).clamp(0, 2) - x)


def test_the_plan_stays_within_the_budget_if_that_is_not_too_slow(monkeypatch):
    """And the share that is done ends at 1, so that what was planned is what was walked."""
    torch.manual_seed(0)
    network = resnet(nn.InstanceNorm2d, width=8)
    x, shares = torch.rand(1, 3, 160, 128) * 2 - 1, list[float]()
    monkeypatch.setattr(strips, "WORKING", 400_000)
    free = strips.planned(network, x.shape)
    monkeypatch.setattr(strips, "BUDGET", 1_200_000)
    plan = strips.planned(network, x.shape)
    assert plan.memory <= 1_200_000 < free.memory and plan.work <= 2 * free.work
    monkeypatch.setattr(strips, "BUDGET", 1_000)  # nothing will do: then not the slowest of all ways
    least = strips.planned(network, x.shape)
    assert least.memory <= plan.memory and least.work <= 2 * free.work
    out = torch.empty_like(x)
    with torch.no_grad():
        strips.run(
            network,
            x.shape,
            lambda a, b: x[:, :, a:b],
            lambda span, rows: out[:, :, slice(*span)].copy_(rows),
            plan,
            shares.append,
        )
        assert (out - network(x)).abs().max() < 1e-5
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0, abs=1e-6)


def test_what_is_kept_lets_go_of_what_came_before():
    job = strips.Job(dry=True)
    x = job.source((1, 4, 64, 64), lambda a, b: torch.empty(0))
    for _ in range(5):
        x = F.instance_norm(F.conv2d(x, torch.randn(4, 4, 3, 3), padding=1))
    strips.walk(x.node, lambda span, rows: None)
    assert job.holding <= 2 * 4 * 64 * 64 * 4
