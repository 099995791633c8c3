"""R3GAN: its loss against eq. 2 written out, its one-pass penalties against second derivatives, its blocks,
its dial."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conftest import small_run, toy
from likeness import engine
from likeness.core import Batch, Condition, Decodes, Noise, Refusal, Samples, Spec
from likeness.data import load
from likeness.models.r3gan import R3GAN, Block, Discriminator, Leaky, Show, judged, levels, trunk
from likeness.training.loop import fit

POINTS = Spec(2, 1, levels=0)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def awake(net: nn.Module, seed: int = 0) -> nn.Module:
    """No weight at zero, so that every block does something; double precision."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=g))
    return net.double()


def written_out(D: nn.Module, real: Tensor, fake: Tensor, y: Condition | None, gamma: float) -> Tensor:
    """Eq. 2 with R1 and R2, each by a second derivative of its own and no part of the program."""
    slopes = []
    for x in (real, fake):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
        slopes.append(slope.pow(2).sum((1, 2, 3)).mean())
    pair = -F.logsigmoid(D(real, y) - D(fake, y)).mean()
    return pair + gamma / 2 * slopes[0] + gamma / 2 * slopes[1]


def judge_and_pairs(
    spec: Spec, n: int = 5, labels: int = 0
) -> tuple[nn.Module, Tensor, Tensor, Condition | None]:
    model = R3GAN(spec=replace(spec, labels=labels), conditional=bool(labels))
    g = torch.Generator().manual_seed(1)
    real, fake = torch.randn(2, n, *spec.shape, generator=g, dtype=torch.float64)
    return awake(model.D), real, fake, Condition(torch.arange(n) % labels) if labels else None


@pytest.mark.parametrize(
    "spec", [Spec(1, 8), Spec(3, 9), Spec(1, 28), POINTS], ids=["8", "9 rgb", "28", "points"]
)
@pytest.mark.parametrize("labels", [0, 3])
def test_one_more_pass_has_the_loss_and_the_derivative_of_second_derivatives(spec: Spec, labels: int) -> None:
    D, real, fake, y = judge_and_pairs(spec, labels=labels)
    params = list(D.parameters())
    ours, theirs = judged(D, real, fake, y, 0.7).loss, written_out(D, real, fake, y, 0.7)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    got = torch.autograd.grad(ours, params)
    want = torch.autograd.grad(theirs, params, allow_unused=True)
    for a, b in zip(got, want, strict=True):
        assert torch.allclose(
            a,
            torch.zeros_like(a) if b is None else b,
            rtol=1e-4,
            atol=1e-6 * max(map(float, (g.abs().max() for g in got))),
        )
    without = torch.autograd.grad(judged(D, real, fake, y, 0.0).loss, params)
    assert any(not torch.allclose(a, b, rtol=0.05) for a, b in zip(got, without)), (
        "the penalties do not matter here, so nothing was tested"
    )


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = awake(
            nn.Sequential(nn.Flatten(), nn.Linear(4, 6), Leaky(), nn.Linear(6, 6), Leaky(), nn.Linear(6, 1))
        )

    def forward(self, x: Tensor, y: None) -> Tensor:
        return self.net(x)[:, 0]


def test_the_derivative_is_that_of_the_value() -> None:
    """By finite differences of the value alone, in a net so small that no rectifier turns over in between."""
    D = Tiny()
    real, fake = torch.randn(2, 5, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    params = list(D.parameters())
    slope = torch.autograd.grad(judged(D, real, fake, None, 2.0).loss, params)
    g = torch.Generator().manual_seed(2)
    way = [torch.randn(p.shape, generator=g, dtype=p.dtype) for p in params]

    def value(h: float) -> float:
        with torch.no_grad():
            torch._foreach_add_(params, way, alpha=h)
        found = judged(D, real, fake, None, 2.0).loss.item()
        with torch.no_grad():
            torch._foreach_add_(params, way, alpha=-h)
        return found

    measured = (value(1e-6) - value(-1e-6)) / 2e-6
    assert measured == pytest.approx(sum(float((s * w).sum()) for s, w in zip(slope, way)), rel=1e-5)


def test_penalties_remain_where_one_side_has_won() -> None:
    """Logits so far apart that the derivative of the loss is zero in every bit."""
    D, real, fake, _ = judge_and_pairs(Spec(1, 8))
    with torch.no_grad():
        D.last.weight.mul_(1e4)
    real, fake = (real, fake) if D(real).mean() > D(fake).mean() else (fake, real)
    keep = D(real) - D(fake) > 1000
    assert keep.any()
    real, fake, params = real[keep], fake[keep], list(D.parameters())
    got = torch.autograd.grad(judged(D, real, fake, None, 1.0).loss, params)
    want = torch.autograd.grad(written_out(D, real, fake, None, 1.0), params, allow_unused=True)
    for a, b in zip(got, want, strict=True):
        assert torch.allclose(
            a, torch.zeros_like(a) if b is None else b, rtol=1e-4, atol=1e-5 * float(a.abs().max()) + 1e-5
        )


def test_rectifiers_forget() -> None:
    D, real, fake, _ = judge_and_pairs(Spec(1, 8))
    before = D(real)
    judged(D, real, fake, None, 1.0)
    assert all(m.mode == "free" and m.noted is None for m in D.modules() if isinstance(m, Leaky))
    assert torch.equal(D(real), before)


def test_the_generator_minimises_the_other_side_of_the_pair() -> None:
    model = R3GAN(spec=Spec(1, 8))
    awake(model).float()
    x, z = torch.randn(6, 1, 8, 8), Noise(range(6)).normal(64)
    loss = model.generator_loss(Batch(x, None, Noise(range(6))))
    r, f = model.D(x), model.D(model.G(z).tanh())
    assert loss.total.item() == pytest.approx(torch.log1p(torch.exp(r - f)).mean().item(), rel=1e-5)
    assert loss.terms["pull"].item() == pytest.approx(torch.sigmoid(r - f).mean().item(), rel=1e-5)
    assert set(model.discriminator_loss(Batch(x, None, Noise(range(6)))).terms) == {
        "on real",
        "on fake",
        "told apart",
        "penalty",
        "chance",
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 9, 28, 32, 33, 64])
def test_images_of_any_size(size: int, channels: int) -> None:
    model = R3GAN(spec=Spec(channels, size))
    with torch.no_grad():
        images = model.decode(torch.randn(2, 64))
        assert images.shape == (2, channels, size, size) and images.abs().max() <= 1
        assert model.D(images).shape == (2,)
    assert isinstance(model, Samples) and isinstance(model, Decodes) and model.latent == 64
    smallest = levels(size, 1)[-1][0]
    assert (
        smallest in (3, 4) and next(m for m in model.G if isinstance(m, Show)).pictures.shape[1] == smallest
    )


@pytest.mark.parametrize("spec", [POINTS, Spec(1, 4), Spec(3, 7)], ids=["points", "4 pixels", "7 pixels"])
def test_points_and_very_small_images(spec: Spec) -> None:
    model = R3GAN(spec=spec, latent=2)
    *_, x = model.sample(Noise(range(50)))
    assert x.shape == (50, *spec.shape) and model.D(x).shape == (50,)
    with torch.no_grad():
        far = model.decode(1e3 * torch.randn(50, 2))
    assert (float(far.abs().max()) > 1) == (spec.levels == 0)


def test_blocks_are_the_identity_at_first() -> None:
    block, x = Block(32, 1.0), torch.randn(2, 32, 7, 7)
    assert torch.equal(block(x), x)
    assert all(
        torch.equal(m(h), h)
        for m in R3GAN(spec=Spec(1, 28), scale=3).D.modules()
        if isinstance(m, Block)
        for h in [torch.randn(1, m.change[0].in_channels, 5, 5)]
    )


def test_there_is_no_normalisation_and_signals_keep_their_size() -> None:
    torch.manual_seed(0)
    for size, scale in ((28, 1), (64, 2), (28, 6)):
        model = R3GAN(spec=Spec(1, size), scale=scale)
        assert not any("Norm" in type(m).__name__ for m in model.modules()) and not model.whole_batch
        with torch.no_grad():
            drawn = model.G(torch.randn(64, 64))
            assert (
                0.2 < float(drawn.std()) < 2
                and 0.05 < float(model.D(torch.randn(64, 1, size, size)).std()) < 5
            )


def test_the_dial_moves_channels_and_blocks_of_both_networks() -> None:
    sizes = [
        [sum(p.numel() for p in net.parameters()) for net in (m.G, m.D)]
        for m in (R3GAN(spec=Spec(1, 28), scale=s) for s in range(1, 7))
    ]
    assert sizes == sorted(sizes) and all(a[i] < b[i] for a, b in pairwise(sizes) for i in (0, 1))
    assert all(0.5 < g / d < 2 for g, d in sizes), "G and D are about equals"
    blocks = [sum(isinstance(m, Block) for m in trunk(1, 28, s)[0]) for s in (1, 2, 3, 6)]
    assert blocks == [3, 3, 6, 9]
    points = [sum(p.numel() for p in R3GAN(spec=POINTS, scale=s).parameters()) for s in (1, 2)]
    assert points[0] < points[1]


def test_the_class_decides_what_is_drawn_and_how_it_is_judged(tmp_path) -> None:
    """Discs are black and squares are white: after a short training so are the drawn ones."""
    data = toy(256, size=8)
    x = data.x.copy()
    x[:] = (data.y * 255)[:, None, None, None]
    run, data = small_run(
        "r3gan", tmp_path, replace(data, x=x), options=dict(conditional=True), images=3200, batch=32, ema=200
    )
    list(fit(run, data))
    noise = lambda: engine.sampling_noise(0, 0, 20)  # noqa: E731
    means = [float([*run.model.sample(noise(), Condition(torch.full((20,), k)))][-1].mean()) for k in (0, 1)]
    assert means[0] < -0.5 < 0.5 < means[1]
    *_, mixed = run.model.sample(noise())
    assert float(mixed.mean((1, 2, 3)).std()) > 0.5, "the class is drawn as well"
    judge = Discriminator(nn.Flatten(), 4, 3)
    h, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    assert torch.allclose(
        judge(h, Condition(y)),
        F.linear(h, judge.last.weight, judge.last.bias)[:, 0] + (judge.classes.weight[y] * h).sum(1),
    )


def test_it_learns_points_of_eight_modes(tmp_path) -> None:
    """A ring of 8: within seconds it draws in all directions, at about the right distance."""
    options = dict(latent=2, gamma=0.1)
    run, data = small_run(
        "r3gan",
        tmp_path,
        load("ring:2000"),
        options=options,
        images=60_000,
        batch=128,
        ema=2000,
        schedule="cosine",
    )
    list(fit(run, data))
    *_, x = run.model.sample(engine.sampling_noise(0, 0, 1000))
    x = x.flatten(1)
    modes = torch.bincount((torch.atan2(x[:, 1], x[:, 0]) / (math.pi / 4)).round().long() % 8, minlength=8)
    assert int(modes.min()) > 50 and float((x.norm(dim=1) - 1).abs().median()) < 0.1


def test_augmentation_is_on_both_sides_and_the_gradient_goes_through_it() -> None:
    model = R3GAN(spec=Spec(1, 8), augment="gentle")
    plain = R3GAN(spec=Spec(1, 8))
    plain.load_state_dict(model.state_dict())
    x = torch.randn(8, 1, 8, 8).clamp(-1, 1)
    for which in ("discriminator_loss", "generator_loss"):
        one, other = (getattr(m, which)(Batch(x, None, Noise(range(8)))).total for m in (model, plain))
        assert one.item() != pytest.approx(other.item(), rel=1e-4)
    model.generator_loss(Batch(x, None, Noise(range(8)))).total.backward()
    assert float(model.G[0].weight.grad.abs().max()) > 0


@pytest.mark.parametrize(
    "spec, options, words",
    [
        (Spec(1, 28), dict(conditional=True), "two classes or more and these have 0"),
        (Spec(1, 28, labels=1), dict(conditional=True), "two classes or more and these have 1"),
        (POINTS, dict(augment="gentle"), "these are points or codes; leave it out"),
        (Spec(1, 8, levels=512, symbols=True), {}, "train pixelcnn"),
        (Spec(1, 28), dict(scale=7), "--scale must be between 1 and 6; 7 was given"),
        (Spec(1, 28), dict(gamma=-1.0), "--gamma must be between 0 and"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(spec: Spec, options: dict, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        R3GAN(spec=spec, **options)


def test_a_code_of_a_conditional_model_has_its_class_behind_it():
    model = R3GAN(spec=Spec(1, 8, labels=3), conditional=True, latent=4)
    with pytest.raises(Refusal, match=r"has 4 \+ 3 numbers, z and the class, and not 4"):
        model.decode(torch.zeros(2, 4))
    with pytest.raises(Refusal, match="asks for the class of each image"):
        model.coded(torch.zeros(2, 4), None)
