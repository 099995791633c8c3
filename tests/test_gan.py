"""The GAN: every option does what its paper says, by hand; and they go together."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import small_run, toy
from likeness import engine
from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.data import Data
from likeness.models.gan import GAN, STRIDE
from likeness.parts import mlp
from likeness.parts.adversarial import GAMES, Chain, chain, slopes, weighed
from likeness.runs.run import Run
from likeness.training.loop import fit, halflife, only

POINTS, IMAGES = Spec(2, 1, 2, levels=0), Spec(1, 16, 2)
SIZES = dict(latent=4, hidden=16, depth=2, width=4)


def points(n: int = 256, apart: float = 1.0) -> Data:
    """Two Gaussians, each a class."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    x = np.stack([apart * (2 * y - 1), np.zeros(n)], 1) + 0.1 * rng.standard_normal((n, 2))
    return Data(
        "two",
        "two-1",
        x.astype(np.float32).reshape(n, 2, 1, 1),
        np.arange(n // 4, n),
        np.arange(n // 4),
        y=y,
        classes=("left", "right"),
        levels=0,
    )


def made(spec: Spec = POINTS, **options: object) -> GAN:
    torch.manual_seed(0)
    return GAN(spec=spec, **(SIZES | options)).train()


def batch(spec: Spec = POINTS, n: int = 8, key: int = 0, **more: object) -> Batch:
    x = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (n, *spec.shape))).float()
    return Batch(x, Condition(torch.arange(n) % 2), Noise(range(n), key), **more)


class Line(nn.Module):
    """D(x) = <w, x> + b, so that its slope is w everywhere."""

    def __init__(self, *w: float, b: float = 0.25):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(w)), nn.Parameter(torch.tensor(b))
        self.saw: list[Tensor] = []

    def forward(self, x: Tensor, y: Condition | None = None) -> Tensor:
        self.saw.append(x.detach())
        return x.flatten(1) @ self.w + self.b


def with_line(*w: float, spec: Spec = POINTS, **options: object) -> GAN:
    model = made(spec, **options)
    model.D = Line(*w)
    return model


def gradient(loss: Tensor, module: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])


# Networks


@pytest.mark.parametrize(
    ("channels", "size", "conditional"), [(1, 8, False), (1, 28, True), (3, 32, False), (3, 50, True)]
)
def test_the_convolutions_fit_images_of_any_size_and_are_those_of_dcgan(channels, size, conditional):
    spec = Spec(channels, size, 3)
    model = made(spec, width=8, conditional=conditional)
    b = Batch(torch.zeros(4, *spec.shape), Condition(torch.zeros(4, dtype=torch.int64)), Noise(range(4)))
    assert (
        model.draw(b).shape == b.x.shape
        and float(model.draw(b).detach().abs().max()) <= 1
        and model.judge(b, model.D)(b.x).shape == (4,)
    )
    kinds = [type(m) for m in model.G.modules()]
    assert kinds[-1] is nn.ConvTranspose2d and nn.ReLU in kinds and nn.BatchNorm2d in kinds, (
        "no normalisation of what G draws"
    )
    inside = [type(m) for m in model.D.trunk.children()]
    assert inside[:2] == [nn.Conv2d, nn.LeakyReLU] and nn.MaxPool2d not in inside, "nor of what D sees"
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.weight.numel() > 500:
            assert float(m.weight.detach().std()) == pytest.approx(0.02, rel=0.15)


def test_batch_normalisation_is_not_in_d_where_a_slope_is_looked_at():
    for options, there in (
        ({}, True),
        (dict(r1=1.0), False),
        (dict(gradient_penalty=1.0), False),
        (dict(spectral=True), False),
        (dict(norm="none"), False),
    ):
        assert any(isinstance(m, nn.BatchNorm2d) for m in made(IMAGES, **options).D.modules()) == there
    assert any(isinstance(m, nn.BatchNorm2d) for m in made(IMAGES, r1=1.0).G.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in made(IMAGES, norm="none").modules())


@pytest.mark.parametrize("spec", [POINTS, Spec(1, 4), Spec(3, 7, levels=0)])
def test_points_codes_and_small_images_get_fully_connected_networks(spec):
    model = made(spec)
    assert not any(isinstance(m, nn.Conv2d) for m in model.modules())
    with torch.no_grad():
        for p in model.G.parameters():
            p.mul_(30)
    drawn = model.draw(batch(spec)).detach()
    assert (float(drawn.abs().max()) <= 1) == bool(spec.levels), (
        "numbers that are no brightness have no bound"
    )


@pytest.mark.parametrize(
    ("spec", "precision"),
    [
        *itertools.product(
            [POINTS, Spec(1, 16, 2, levels=2), Spec(1, 8, 2, levels=17), Spec(3, 16, 2)], ["fp32", "bf16"]
        )
    ],
)
def test_it_learns_whatever_the_kind_of_data_and_the_precision(spec, precision, tmp_path):
    data = points() if not spec.levels else toy(32, spec.size, spec.channels, spec.levels)
    options = SIZES | dict(r1=0.1, gradient_penalty=0.1, spectral=True, encoder=True)
    run, _ = small_run("gan", tmp_path, data, options=options, images=48, precision=precision)
    for step in fit(run, data):
        assert all(map(math.isfinite, step.losses.values()))
    *_, x = run.model.sample(engine.sampling_noise(0, 0, 3))
    assert x.shape == (3, *spec.shape) and x.dtype == torch.float32


# What the players minimise


def test_the_losses_are_those_of_the_game():
    for game in GAMES:
        model = with_line(0.6, -0.8, game=game)
        with torch.no_grad():
            fake = model.draw(batch())
        b = batch()
        r, f = (x.flatten(1) @ torch.tensor([0.6, -0.8]) + 0.25 for x in (b.x, fake))
        loss = model.discriminator_loss(batch())
        assert float(loss.total) == pytest.approx(float(GAMES[game].discriminator(r, f).mean()), rel=1e-5)
        assert float(loss.terms["on real"]) == pytest.approx(float(r.mean()), rel=1e-5)
        assert float(model.generator_loss(batch()).total) == pytest.approx(
            float(GAMES[game].generator(r, f).mean()), rel=1e-5
        )


def test_smoothing_changes_the_target_of_real_images_alone():
    plain, smooth = (with_line(0.6, -0.8, smooth=s).discriminator_loss(batch()) for s in (0.0, 0.1))
    assert float(smooth.total - plain.total) == pytest.approx(0.1 * float(plain.terms["on real"]), rel=1e-4)
    assert float(smooth.terms["on fake"]) == float(plain.terms["on fake"])


@pytest.mark.parametrize(
    ("options", "right"),
    [
        (dict(r1=3.0), 3 / 2 * 25),
        (dict(r2=3.0), 3 / 2 * 25),
        (dict(r1=1.0, r2=2.0, lazy=4), 4 * 3 / 2 * 25),
        (dict(gradient_penalty=10.0), 10 * 16),
        (dict(gradient_penalty=10.0, one_sided=True), 10 * 16),
        (dict(gradient_penalty=2.0, r1=1.0), 2 * 16 + 25 / 2),
    ],
)
def test_a_penalty_is_that_of_its_paper(options, right):
    loss, plain = (with_line(3.0, 4.0, **o).discriminator_loss(batch()) for o in (options, {}))
    assert loss.terms["penalty"].item() == pytest.approx(right, rel=1e-5)
    assert float(loss.total - plain.total) == pytest.approx(right, rel=1e-4) and "penalty" not in plain.terms
    flat = with_line(0.3, 0.4, **options).discriminator_loss(batch())
    if options.get("one_sided"):
        assert float(flat.terms["penalty"]) == 0, "a slope below 1 costs nothing"


def test_r1_is_at_real_images_and_r2_at_drawn_ones():
    class Bowl(nn.Module):
        def forward(self, x: Tensor, y: Condition | None = None) -> Tensor:
            return x.flatten(1).square().sum(1) / 2

    model = made(r1=2.0)
    model.D, b = Bowl(), batch()
    fake = model.draw(batch()).detach()
    assert float(model.discriminator_loss(batch()).terms["penalty"]) == pytest.approx(
        float(b.x.flatten(1).square().sum(1).mean()), rel=1e-5
    )
    model.r1, model.r2 = 0.0, 2.0
    assert float(model.discriminator_loss(batch()).terms["penalty"]) == pytest.approx(
        float(fake.flatten(1).square().sum(1).mean()), rel=1e-5
    )


@pytest.mark.parametrize("options", [dict(r1=1.0, r2=0.5), dict(gradient_penalty=10.0, r1=0.3)])
def test_lazy_penalties_have_the_same_gradient_over_a_cycle(options):
    plain, lazy = made(**options), made(**options, lazy=4)
    each = [gradient(lazy.discriminator_loss(batch(step=step)).total, lazy.D) for step in range(8)]
    whole = gradient(plain.discriminator_loss(batch()).total, plain.D)
    assert torch.allclose(sum(each) / 8, whole, atol=1e-6)
    assert [i for i in range(8) if not torch.equal(each[i], each[1])] == [0, 4]


def test_clipped_weights_never_leave_their_range_whatever_the_number_of_steps(tmp_path):
    c = 0.02
    options = SIZES | dict(weight_clip=c, game="wasserstein", k=3)
    run, data = small_run("gan", tmp_path / "a", points(), options=options, images=16 * 12, rate=1e-2)
    largest, loss = [], run.players[0].loss

    def watched(b: Batch):
        largest.append(max(float(p.detach().abs().max()) for p in run.student.D.parameters()))
        return loss(b)

    run.players = (replace(run.players[0], loss=watched), run.players[1])
    list(fit(run, data))
    assert len(largest) == 12 and largest[0] > c and max(largest[1:]) == pytest.approx(c)
    assert max(float(p.abs().max()) for p in run.student.G.parameters()) > c


SPLIT = {
    "spectral": dict(spectral=True),
    "spectral, convolutions and classes": dict(
        spectral=True, net="dcgan", norm="none", conditional=True, k=2
    ),
    "spectral, all penalties": dict(
        spectral=True, net="mlp", r1=1.0, r2=1.0, gradient_penalty=1.0, lazy=2, noise=0.1, encoder=True
    ),
}


@pytest.mark.parametrize("name", SPLIT)
def test_splitting_a_batch_of_a_spectral_discriminator_optimises_the_same(name, tmp_path):
    """Of each player at each of three steps: what the power iteration of --spectral knows is a matter of
    steps, not of pieces."""
    options = SIZES | dict(net="mlp", norm="none") | SPLIT[name]
    runs = [
        small_run("gan", tmp_path / str(micro), toy(32), options=options, micro=micro, clip=0.0, rate=0.0)
        for micro in (0, 5)
    ]
    for run, _ in runs:
        torch.manual_seed(0)
        with torch.no_grad():  # the singular vectors then lag behind the weights, as they do in training
            for p in run.student.D.parameters():
                p.add_(0.1 * torch.randn_like(p))
    for steps in itertools.islice(zip(*(fit(run, data) for run, data in runs)), 3):
        assert steps[1].losses == pytest.approx(steps[0].losses, rel=1e-4, abs=1e-6)
        grads = [
            torch.cat([p.grad.flatten() for p in run.student.parameters() if p.grad is not None])
            for run, _ in runs
        ]
        assert torch.allclose(*grads, rtol=1e-4, atol=1e-6 * float(grads[0].abs().max()))


def test_looking_at_a_spectral_discriminator_does_not_change_it():
    D = made(IMAGES, spectral=True).D
    before = {name: value.clone() for name, value in D.state_dict().items()}
    with torch.no_grad():
        one, two = (D(torch.ones(1, 1, 16, 16)) for _ in range(2))
    assert torch.equal(one, two) and all(
        torch.equal(value, before[name]) for name, value in D.state_dict().items()
    )


RESUMED = {
    "spectral": dict(spectral=True, net="mlp", k=2),
    "clipped": dict(weight_clip=0.02, game="wasserstein", k=3),
    "images": dict(
        spectral=True,
        conditional=True,
        encoder=True,
        augment="full",
        noise=0.3,
        noise_images=100,
        r1=1.0,
        lazy=3,
        spread=True,
    ),
    "unrolled": dict(unroll=2, d_rate=4.0, smooth=0.1, net="mlp"),
}


@pytest.mark.parametrize("name", RESUMED)
def test_stopping_and_resuming_changes_no_bit(name, tmp_path):
    data = toy(48)
    straight, _ = small_run("gan", tmp_path / "a", data, options=SIZES | RESUMED[name], images=16 * 12)
    list(fit(straight, data))
    broken, _ = small_run("gan", tmp_path / "b", data, options=SIZES | RESUMED[name], images=16 * 12)
    list(itertools.islice(fit(broken, data), 2))
    broken.save()
    list(itertools.islice(fit(broken, data), 1))
    broken.close()
    broken = Run.resume(tmp_path / "b")
    list(fit(broken, data))
    one, two = straight.tensors(), broken.tensors()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_the_rates_and_the_numbers_of_steps_are_those_asked_for(tmp_path):
    run, data = small_run(
        "gan", tmp_path, points(), options=SIZES | dict(k=3, d_rate=4.0), rate=1e-3, warmup=0, images=16 * 9
    )
    taken = dict.fromkeys(run.optimizers, 0)
    for name, optimizer in run.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: taken.__setitem__(name, taken[name] + 1))
    list(fit(run, data))
    assert taken == {"discriminator": 9, "generator": 3} and run.seen == 16 * 9
    assert [run.optimizers[name].param_groups[0]["lr"] for name in taken] == pytest.approx([4e-3, 1e-3])
    assert run.optimizers["generator"].param_groups[0]["betas"] == (0.5, 0.99)


# Penalties by hand


def judge_of_points(octaves: int, hidden: int = 7) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        mlp.encoder((2, 1, 1), hidden, hidden, 2, octaves), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
    ).double()


def twice(
    D: nn.Module, real: Tensor, fake: Tensor, game: str, gammas: tuple[float, float]
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The loss, the penalty and the logits, and the loss's derivative, by differentiating twice."""
    (r, steep_r), (f, steep_f) = (slopes(lambda x: D(x)[:, 0], x) for x in (real, fake))
    penalty = gammas[0] / 2 * steep_r.mean() + gammas[1] / 2 * steep_f.mean()
    loss = GAMES[game].discriminator(r, f).mean() + penalty
    return [t.detach() for t in (loss, penalty, r, f)], torch.autograd.grad(loss, list(D.parameters()))


def by_hand(
    taken: Chain | None, D: nn.Module, real: Tensor, fake: Tensor, game: str, gammas: tuple[float, float]
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    assert taken is not None
    found = weighed(taken, real, fake, lambda r, f: GAMES[game].discriminator(r, f).mean(), gammas)
    return [t.detach() for t in found], torch.autograd.grad(found.loss, list(D.parameters()))


def apart(one: tuple[Tensor, ...], two: tuple[Tensor, ...]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(
    ("octaves", "gammas"), [(0, (0.7, 0.7)), (3, (0.7, 0.4)), (2, (0.0, 0.7)), (1, (0.7, 0.0))]
)
def test_penalties_by_hand_have_the_derivative_of_differentiating_twice(game, octaves, gammas):
    D = judge_of_points(octaves)
    real, fake = torch.randn(2, 9, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (right, slope), (found, hand) = (
        twice(D, real, fake, game, gammas),
        by_hand(chain(D), D, real, fake, game, gammas),
    )
    assert apart(tuple(right), tuple(found)) < 1e-12 and apart(slope, hand) < 1e-12 * max(
        1.0, max(float(g.abs().max()) for g in slope)
    )
    assert max(float(g.abs().max()) for g in slope) > 1e-2


class Forgetful(mlp.Waves):
    """Whose derivative is not that of its waves."""

    def slopes(self, x: Tensor) -> Tensor:
        return super().slopes(x).abs()


def test_wrong_penalties_by_hand_are_told_from_right_ones():
    D = judge_of_points(2)
    real, fake = torch.randn(2, 9, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    _, slope = twice(D, real, fake, "relativistic", (0.7, 0.4))
    taken = chain(D)
    assert taken is not None and taken.leaks == [0.0, 0.0, 0.2] and taken.waves is not None
    for wrong, gammas in (
        (taken, (0.4, 0.7)),
        (taken._replace(leaks=[0.0] * 3), (0.7, 0.4)),
        (taken._replace(waves=Forgetful(2)), (0.7, 0.4)),
    ):
        assert apart(slope, by_hand(wrong, D, real, fake, "relativistic", gammas)[1]) > 1e-3
    with pytest.raises(RuntimeError, match="does not require grad"):
        loss = weighed(taken, real, fake, lambda r, f: (f - r).mean(), (1.0, 1.0)).loss
        (again, *_) = torch.autograd.grad(loss, list(D.parameters()), create_graph=True)
        again.sum().backward()


@pytest.mark.parametrize(
    "options",
    [
        dict(r1=1.0, r2=0.5),
        dict(r1=1.0, octaves=3, game="relativistic", lazy=3),
        dict(r2=0.3, pack=2, smooth=0.1, octaves=2),
        dict(r1=0.3, gradient_penalty=5.0, noise=0.2, game="hinge"),
    ],
)
def test_a_model_has_the_same_losses_and_derivatives_either_way(options, monkeypatch):
    model, found = made(**options), []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(model, "by_hand", lambda *_: None)
        loss = model.discriminator_loss(batch(step=6))
        found.append(
            (
                gradient(loss.total, model.D),
                torch.stack([loss.total.detach(), *(t.detach() for t in loss.terms.values())]),
            )
        )
    (hand, losses), (slope, right) = found
    assert torch.allclose(losses, right, rtol=1e-5, atol=1e-6) and torch.allclose(
        hand, slope, rtol=1e-4, atol=1e-6 * float(slope.abs().max())
    )


def test_only_matrices_with_rectifiers_between_them_are_taken_apart():
    taken = {
        name: chain(made(**options).D)
        for name, options in {"plain": {}, "waves": dict(octaves=2), "packs": dict(pack=3)}.items()
    }
    assert all(taken.values()) and [len(c.linear) for c in taken.values() if c] == [3, 3, 3]
    for D in (
        made(spread=True).D,
        made(spectral=True).D,
        made(conditional=True).D,
        made(IMAGES).D,
        Line(1.0, 1.0),
        lambda x: x,
        nn.Sequential(),
    ):
        assert chain(D) is None
    smooth = made()
    smooth.D.trunk[1] = nn.SiLU()
    assert chain(smooth.D) is None, "its slope changes with x"
    with torch.autocast("cpu", torch.bfloat16):
        assert smooth.by_hand(batch(), made().D) is None
    changed = made(IMAGES, net="mlp", augment="gentle")
    assert chain(changed.D) and changed.by_hand(batch(IMAGES), changed.D) is None, (
        "the slope is that before the changes"
    )


def test_d_is_told_waves_of_the_coordinates():
    x = torch.tensor([[0.25, -0.5]], dtype=torch.float64)
    waves = mlp.Waves(2)
    half = math.sqrt(0.5)
    assert waves(x.view(1, 2, 1, 1))[0].tolist() == pytest.approx(
        [0.25, -0.5, half, -1, 1, 0, half, 0, 0, -1], abs=1e-12
    )
    rows = torch.autograd.functional.jacobian(lambda x: waves(x)[0], x)[:, 0]
    assert torch.allclose(rows.sum(1), waves.slopes(x)[0], atol=1e-12), (
        "each number depends on its own coordinate alone"
    )
    assert torch.equal(rows != 0, torch.eye(2, dtype=torch.bool).repeat(5, 1) & (rows != 0))
    assert (
        made(octaves=3).D.trunk[0][1][0].in_features == 14
        and made(octaves=3, pack=2).D.trunk[0][1][0].in_features == 28
    )


# What D sees


def test_the_noise_on_all_that_d_sees_fades_with_the_images_seen():
    model = with_line(1.0, 1.0, noise=0.8, noise_images=1000, gradient_penalty=1.0)
    assert [model.level(seen) for seen in (0, 500, 1000, 5000)] == pytest.approx([0.8, 0.4, 0, 0])
    assert made(noise=0.8).level(10**9) == 0.8
    for seen, right in ((0, 0.8), (750, 0.2), (1000, 0.0)):
        b = batch(n=4000, seen=seen)
        fake = model.draw(batch(n=4000)).detach()
        model.D.saw.clear()
        model.discriminator_loss(b)
        assert len(model.D.saw) == 3
        for x, before in zip(model.D.saw, (b.x, fake)):
            assert float((x - before).std()) == pytest.approx(right, abs=0.02)


def test_packs_are_of_one_kind_and_penalised_as_one():
    model = with_line(*[0.5] * 6, pack=3, r1=1.0, gradient_penalty=1.0)
    loss = model.discriminator_loss(batch(n=8))
    fake = model.draw(batch(n=8)).detach()
    real, drawn, middle = model.D.saw
    share = (middle - drawn) / (real - drawn)
    assert (
        torch.allclose(share, share[:, :1].expand_as(share), atol=1e-3)
        and 0 < float(share.min()) < float(share.max()) < 1
    ), "on the line between packs"
    assert not torch.allclose(share[0], share[1], atol=1e-3)
    assert (
        real.shape == (2, 6, 1, 1)
        and torch.equal(real[1], batch(n=8).x[3:6].reshape(6, 1, 1))
        and torch.equal(drawn[0], fake[:3].reshape(6, 1, 1))
    )
    squared = 6 * 0.25
    assert loss.terms["penalty"].item() == pytest.approx(
        squared / 2 + (math.sqrt(squared) - 1) ** 2, rel=1e-5
    )
    with pytest.raises(Refusal, match="larger --batch"):
        model.discriminator_loss(batch(n=2))


def test_d_sees_the_spread_of_a_batch():
    model = made(spread=True)
    alike = batch().x[:1].expand(8, -1, -1, -1)
    with torch.no_grad():
        model.D.last.weight.zero_()
        model.D.last.weight[0, -1] = 1.0
    logits = model.D(torch.cat([alike[:4], batch().x[:4]])).detach() - model.D.last.bias.detach()
    assert bool((logits[:4].abs() < 1e-3).all()) and bool((logits[4:] > 1e-2).all())


def test_the_class_is_projected_on_the_features():
    model = made(conditional=True)
    b = batch()
    h = model.D.trunk(b.x)
    e = model.D.classes.weight
    left, right = (model.D(b.x, Condition(torch.full((8,), y))) for y in (0, 1))
    assert torch.allclose(right - left, h @ (e[1] - e[0]), atol=1e-6)
    assert torch.allclose(left, model.D.last(h)[:, 0] + h @ e[0], atol=1e-6)


# Looking ahead


def unrolled_by_hand(model: GAN, b: Batch, k: int) -> float:
    """G's loss against a copy of D that has taken k steps of its own loss against G as it is."""
    D, fake = copy.deepcopy(model.D), model.draw(b).detach()
    for _ in range(k):
        loss = GAMES[model.game].discriminator(D(b.x), D(fake)).mean() + model.r1 / 2 * steep(D, b.x)
        grads = torch.autograd.grad(loss, list(D.parameters()))
        rate = STRIDE * math.sqrt(
            sum(float(p.square().sum()) for p in D.parameters()) / sum(float(g.square().sum()) for g in grads)
        )
        with torch.no_grad():
            for p, g in zip(D.parameters(), grads):
                p -= rate * g
    return float(GAMES[model.game].generator(D(b.x), D(fake)).mean())


def steep(D: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(D(x).sum(), x, create_graph=True)[0].flatten(1).square().sum(1).mean()


@pytest.mark.parametrize(("game", "r1"), [("minimax", 0.0), ("nonsaturating", 0.7), ("relativistic", 0.7)])
def test_the_unrolled_gradient_is_that_of_the_unrolled_objective(game, r1):
    model = made(game=game, unroll=3, hidden=6, r1=r1).double()
    for m in list(model.modules()):  # differences need a loss without corners
        for child, layer in m.named_children():
            if isinstance(layer, nn.ReLU | nn.LeakyReLU):
                setattr(m, child, nn.Tanh())

    def b() -> Batch:
        noise = Noise(range(8))
        normal, uniform = noise.normal, noise.uniform
        noise.normal, noise.uniform = (lambda *s: normal(*s).double()), (lambda *s: uniform(*s).double())  # type: ignore[method-assign]
        return Batch(batch().x.double(), None, noise)

    model.decode = lambda z: model.G(z)  # type: ignore[method-assign]  # in double precision
    model.D.forward = lambda x, y=None: model.D.last(model.D.trunk(x))[:, 0]  # type: ignore[method-assign]
    with only(model.G, model):
        loss = model.generator_loss(b()).total
        slope = torch.autograd.grad(loss, list(model.G.parameters()))
        assert all(not p.requires_grad for p in model.D.parameters())
    by_hand = copy.deepcopy(model)
    del by_hand.D.forward, by_hand.decode
    by_hand.decode = lambda z: by_hand.G(z)  # type: ignore[method-assign]
    by_hand.D = nn.Sequential(by_hand.D.trunk, by_hand.D.last, nn.Flatten(0))
    assert float(loss) == pytest.approx(unrolled_by_hand(by_hand, b(), 3), rel=1e-9)
    e, weight = 1e-5, next(model.G.parameters())
    for i in ((0, 0), (3, 2)):
        ends = []
        for way in (e, -e):
            with torch.no_grad():
                weight[i] += way
            ends.append(float(model.generator_loss(b()).total.detach()))
            with torch.no_grad():
                weight[i] -= way
        assert float(slope[0][i]) == pytest.approx((ends[0] - ends[1]) / (2 * e), rel=1e-4, abs=1e-9)
    model.unroll = 0
    assert not torch.allclose(
        slope[0], torch.autograd.grad(model.generator_loss(b()).total, weight)[0], rtol=1e-2
    ), "it looks ahead"
    assert torch.allclose(model.ahead(b(), model.draw(b()))(b().x, None), model.D(b().x)), (
        "by no step, it is D"
    )


def test_looking_ahead_leaves_d_where_it_is(tmp_path):
    model = made(unroll=4)
    before = copy.deepcopy(model.D.state_dict())
    model.generator_loss(batch()).total.backward()
    assert all(torch.equal(v, before[k]) for k, v in model.D.state_dict().items()) and all(
        p.grad is None for p in model.D.parameters()
    )
    with pytest.raises(Refusal, match="use a smaller --batch"):
        run, data = small_run("gan", tmp_path, points(), options=SIZES | dict(unroll=1), micro=5)
        next(fit(run, data))


# Classes and codes


def test_a_conditional_one_draws_the_class_that_is_asked_for(tmp_path):
    data = points()
    run, _ = small_run(
        "gan",
        tmp_path,
        data,
        options=dict(latent=2, hidden=32, depth=2, conditional=True, r1=0.1),
        images=64 * 250,
        batch=64,
        rate=3e-3,
        ema=1000,
    )
    list(fit(run, data))
    for y in (0, 1):
        *_, x = run.model.sample(engine.sampling_noise(0, 0, 200), Condition(torch.full((200,), y)))
        assert float((x[:, 0].sign() == 2 * y - 1).float().mean()) > 0.95
    *_, x = run.model.sample(engine.sampling_noise(0, 0, 200))
    assert 0.3 < float((x[:, 0] > 0).float().mean()) < 0.7, "the class is drawn where none is said"


def test_codes_of_a_conditional_model_end_in_the_class():
    model = made(conditional=True)
    z, y = torch.randn(3, 4), Condition(torch.tensor([1, 0, 1]))
    assert torch.equal(model.coded(z, y)[:, 4:], torch.tensor([[0.0, 1], [1, 0], [0, 1]]))
    assert model.decode(model.coded(z, y)).shape == (3, 2, 1, 1)
    with pytest.raises(Refusal, match=r"has 4 \+ 2 numbers, z and the class, and not 4"):
        model.decode(z)
    with pytest.raises(Refusal, match="give labelled images"):
        model.discriminator_loss(replace(batch(), y=None))


def test_the_encoder_finds_its_way_back_and_nothing_else_learns_from_it(tmp_path):
    data = toy(64)
    run, _ = small_run(
        "gan", tmp_path, data, options=dict(latent=4, width=8, encoder=True), images=16 * 80, rate=1e-3
    )
    losses = [step.losses["encoder"] for step in fit(run, data)]
    model, b = run.student, data.batch(0, 0, 16, slice(None), 0)
    assert run.model.guess(b.x).shape == (16, 4) and made().guess(b.x) is None
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    before = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("E.")}
    model.encoder_loss(b).total.backward()
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items()), (
        "codes that were not drawn moved G's batch normalisation"
    )
    assert model.G.training


# Together


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        (IMAGES, dict(smooth=0.1, game="hinge"), "--game nonsaturating"),
        (IMAGES, dict(one_sided=True), "--gradient-penalty 10"),
        (IMAGES, dict(lazy=4), "--r1 1"),
        (IMAGES, dict(noise_images=100), "--noise 0.1"),
        (IMAGES, dict(pack=2, conditional=True), "leave one of them out"),
        (IMAGES, dict(spectral=True, weight_clip=0.1), "leave one of them out"),
        (IMAGES, dict(norm="batch", r1=1.0), "leave --norm out"),
        (POINTS, dict(augment="gentle"), "leave it out"),
        (Spec(1, 4), dict(octaves=3), "points in the plane, and these are none"),
        (Spec(4, 8, levels=0), dict(augment="gentle"), "leave it out"),
        (Spec(1, 16, 1), dict(conditional=True), "make a sub-folder a class"),
        (Spec(1, 8, levels=512, symbols=True), {}, "train pixelcnn"),
        (Spec(1, 4), dict(net="dcgan"), "--net mlp"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_to_type(spec, options, says):
    with pytest.raises(Refusal, match=says):
        made(spec, **options)


CHOICES: dict[str, tuple] = {
    "game": tuple(GAMES),
    "norm": ("auto", "none"),
    "net": ("auto", "mlp"),
    "augment": ("none", "full"),
    **dict.fromkeys(("one_sided", "spectral", "spread", "conditional", "encoder"), (False, True)),
    **dict.fromkeys(("r1", "r2", "gradient_penalty"), (0.0, 5.0)),
    **dict.fromkeys(("weight_clip", "noise", "smooth"), (0.0, 0.1)),
    **dict.fromkeys(("lazy", "k", "pack"), (1, 2)),
    **dict.fromkeys(("unroll", "noise_images"), (0, 2)),
    "d_rate": (1.0, 2.0),
}
"""the default, and others"""


def allowed(options: dict) -> bool:
    try:
        GAN(spec=IMAGES, **(SIZES | options))
    except Refusal:
        return False
    return True


def rows() -> list[dict]:
    """Few settings in which every two values that go together stand in one of them."""
    rng = np.random.default_rng(0)
    needs: dict[str, dict] = dict(
        one_sided=dict(gradient_penalty=10.0),
        lazy=dict(r1=1.0),
        noise_images=dict(noise=0.1),
        smooth=dict(game="minimax"),
    )

    def pair(a: str, x: object, b: str, y: object) -> dict:
        return {a: x, b: y}

    open_pairs = [
        pair(a, x, b, y)
        for (a, xs), (b, ys) in itertools.combinations(CHOICES.items(), 2)
        for x in xs
        for y in ys
    ]
    changed = [{k: v for k, v in p.items() if v != CHOICES[k][0]} for p in open_pairs]
    left = {tuple(sorted(p.items())) for p in changed if len(p) == 2}
    found: list[dict] = []
    for p in sorted(left, key=str):
        if p not in left:
            continue
        row = {k: v for name, value in p for k, v in needs.get(name, {}).items()} | dict(p)
        if not allowed(row):
            left.discard(p)
            continue
        for name in rng.permutation(list(CHOICES)):
            value = CHOICES[name][rng.integers(1, len(CHOICES[name]))]
            more = row | {k: v for k, v in needs.get(name, {}).items() if k not in row} | {str(name): value}
            if name not in row and allowed(more):
                row = more
        left -= set(itertools.combinations(sorted(row.items()), 2))
        found.append(row)
    return found


def test_options_go_together():
    """One step of every player; every gradient is a number, and some of each player's are not 0."""
    assert CHOICES.keys() | SIZES.keys() | {"octaves", "beta1", "beta2", "spec"} == {
        f.name for f in fields(GAN)
    }
    settings = rows()
    assert 5 < len(settings) < 60
    for options in settings:
        model = made(IMAGES, **options)
        for player in model.players():
            with only(player.module, model):
                loss = player.loss(batch(IMAGES, n=6))
                loss.total.backward()
            norm = nn.utils.get_total_norm([p.grad for p in player.module.parameters()])
            assert bool(loss.total.isfinite()) and 0 < float(norm) < math.inf, (player.name, options)


@pytest.mark.parametrize(
    "options",
    [
        dict(r1=1.0, game="relativistic"),
        dict(gradient_penalty=10.0, noise=0.1, conditional=True),
        dict(encoder=True, smooth=0.1),
    ],
)
def test_splitting_a_batch_optimises_the_same(options, tmp_path):
    runs = [
        small_run("gan", tmp_path / str(micro), toy(), options=SIZES | options | dict(net="mlp"), micro=micro)
        for micro in (0, 5)
    ]
    first, second = (next(fit(run, data)).losses for run, data in runs)
    assert second == pytest.approx(first, rel=1e-4, abs=1e-5)


def test_the_average_has_a_short_memory_at_first():
    assert [halflife(GAN.defaults, seen) for seen in (0, 1000, 100_000, 10**7)] == pytest.approx(
        [0, 50, 5000, 10_000], abs=1e-6
    )
