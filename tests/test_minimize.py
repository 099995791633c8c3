"""Minimising over something else than weights: codes of images by search, pictures of codes, and the nearest
training image."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from conftest import small_run, toy
from likeness import models
from likeness.cli import main
from likeness.core import Condition, Model, Noise, Refusal, Spec, option
from likeness.data import Data
from likeness.engine import minimize
from likeness.figures import read_recipe
from likeness.inference import inversion, latent_space, nearest
from likeness.inference.inversion import Codes, project
from likeness.metrics.reconstruction import psnr

SPEC = Spec(1, 6)


class Linear(Model):
    """x = W z + b"""

    latent: int = option(5, "numbers in z", 1, 99)

    def build(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.W, self.b = (
            nn.Parameter(torch.randn(*shape, generator=g) / 4)
            for shape in ((self.spec.dims, self.latent), (self.spec.dims,))
        )

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.W.T + self.b).view(-1, *self.spec.shape)


class Curved(Model):
    """A generator with random weights, told the class if it is conditional, and a guess that is off."""

    latent: int = option(4, "numbers in z", 1, 99)
    conditional: bool = option(False, "of a class")
    off: float = option(0.0, "of the guess from a code that is near; 0 is no guess", 0.0, 9.0)

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("label",) if self.conditional else ()

    def build(self) -> None:
        torch.manual_seed(3)
        told = self.latent + self.spec.labels * self.conditional
        self.net = nn.Sequential(
            nn.Linear(told, 64),
            nn.Tanh(),
            nn.Linear(64, self.spec.dims),
            nn.Tanh(),
            nn.Unflatten(1, self.spec.shape),
        )
        self.back = nn.Linear(self.spec.dims, self.latent)

    def decode(self, z: Tensor) -> Tensor:
        out: Tensor = self.net(z)
        return out

    def guess(self, x: Tensor) -> Tensor | None:
        return self.off * self.back(x.flatten(1)) if self.off else None


def codes(n: int, latent: int, key: int = 9) -> Tensor:
    return Noise(range(n), key).normal(latent)


def found(model: Model, x: Tensor, **how) -> Codes:
    noise = how.pop("noise", None) or Noise(range(200), 1)
    *_, last = project(model, x, noise, how.pop("y", None), **how)
    return last


def at_least_squares(model: Linear, x: Tensor, weight: Tensor | float = 0.0) -> Tensor:
    """Closed form of argmin |W z + b - x|^2 + weight |z|^2, for each row."""
    W, wanted = model.W.detach().double(), (x.flatten(1) - model.b.detach()).double()
    return torch.stack(
        [
            torch.linalg.solve(W.T @ W + w * torch.eye(W.shape[1]), W.T @ r)
            for r, w in zip(wanted, torch.as_tensor(weight).expand(len(x)))
        ]
    )


# The walk


def test_every_step_is_yielded_with_the_loss_of_its_place():
    start, goal = torch.zeros(3, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]])
    states = list(minimize.minimize([start], lambda z: (z - goal).square().sum(1), 200, 0.3))
    assert (
        [s.step for s in states] == list(range(201))
        and torch.equal(states[0].at[0], start)
        and torch.equal(start, torch.zeros(3, 2))
    )
    assert all(torch.equal(s.loss, (s.at[0] - goal).square().sum(1)) for s in states)
    assert torch.allclose(states[-1].at[0], goal, atol=0.01) and not states[-1].loss.requires_grad


def test_the_rate_falls_along_half_a_cosine():
    states = minimize.minimize([torch.zeros(1)], lambda z: z, 8, 0.5, optimizer=torch.optim.SGD)
    walked = -torch.cat([s.at[0] for s in states]).diff()
    assert torch.allclose(
        walked, torch.tensor([0.25 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]), atol=1e-6
    )


def test_several_tensors_move_together_and_are_held():
    def loss(a: Tensor, b: Tensor) -> Tensor:
        return (a + b - 3).square() + (a - b).square()

    def hold(a: Tensor, b: Tensor) -> None:
        a.clamp_(max=1.0)

    *_, free = minimize.minimize([torch.zeros(1), torch.ones(1)], loss, 200, 0.2)
    *_, held = minimize.minimize([torch.full((1,), 5.0), torch.ones(1)], loss, 200, 0.2, hold=hold)
    assert [float(t) for t in free.at] == pytest.approx([1.5, 1.5], abs=1e-3)
    assert [float(t) for t in held.at] == pytest.approx([1.0, 1.5], abs=1e-3), (
        "argmin over b of the same where a is 1"
    )


@pytest.mark.parametrize(
    "loss", [lambda z: z.round().detach().square(), lambda z: torch.ones(2, requires_grad=True) * 2]
)
def test_without_a_slope_it_is_refused(loss):
    with pytest.raises(Refusal, match="no slope"):
        list(minimize.minimize([torch.ones(2)], loss, 3, 0.1))


# Projection


def test_a_linear_decoder_gives_least_squares():
    model = Linear(spec=SPEC)
    x = Noise(range(6), 5).normal(*SPEC.shape) * 0.5
    exact = at_least_squares(model, x)
    assert (exact.norm(dim=1) < inversion.Ball.of_prior(5).radius).all(), "or the ball would matter"
    last = found(model, x)
    assert torch.allclose(last.z.double(), exact, atol=2e-3)
    assert torch.allclose(
        last.error, (model.decode(exact.float()) - x).square().flatten(1).mean(1), rtol=1e-5
    )


def test_where_least_squares_is_outside_of_the_ball_the_nearest_on_it_is_found():
    """Karush-Kuhn-Tucker: |z| = R, and z solves the least squares with a weight on |z|^2, which bisection
    finds."""
    model, limit = Linear(spec=SPEC), inversion.Ball.of_prior(5).radius
    x = model.decode(8 * torch.nn.functional.normalize(codes(4, 5), dim=1)).detach()
    assert (at_least_squares(model, x).norm(dim=1) > limit).all()
    low, high = torch.zeros(4, dtype=torch.float64), torch.full((4,), 1e3, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        too_long = at_least_squares(model, x, middle).norm(dim=1) > limit
        low, high = torch.where(too_long, middle, low), torch.where(too_long, high, middle)
    exact, last = at_least_squares(model, x, low), found(model, x)
    assert torch.allclose(last.z.norm(dim=1), torch.full((4,), limit), atol=1e-3)
    best = (model.decode(exact.float()) - x).square().flatten(1).mean(1)
    assert torch.allclose(last.error, best, rtol=1e-4) and torch.allclose(last.z.double(), exact, atol=0.02)


@pytest.mark.parametrize("latent", [1, 2, 64])
def test_the_ball_holds_what_it_says(latent):
    inside = (codes(40_000, latent).norm(dim=1) < inversion.Ball.of_prior(latent).radius).double().mean()
    assert float(inside) == pytest.approx(0.99, abs=0.003)


def test_an_image_of_the_generator_is_found_again():
    model = Curved(spec=SPEC)
    x = model.decode(codes(12, 4)).detach()
    value, before = (psnr(x, model.decode(found(model, x, steps=steps).z).detach()) for steps in (200, 0))
    assert float(value.min()) > 60 and float(before.mean()) < 35
    assert torch.allclose(
        found(model, x).error,
        inversion.error(model.decode(found(model, x).z).flatten(1), x.flatten(1)),
        rtol=1e-4,
        atol=1e-8,
    )


def test_several_starts_find_what_one_misses():
    model = Curved(spec=Spec(1, 6), latent=8)
    x = model.decode(codes(24, 8)).detach()
    one, four = (found(model, x, starts=k, steps=80).error for k in (1, 4))
    assert (four <= one + 1e-9).all() and float(four.mean()) < 0.8 * float(one.mean())


def test_the_hybrid_is_never_worse_than_either_alone(monkeypatch):
    """A network that is nearly right for every other image: each way alone fails where the other does not."""
    model = Curved(spec=SPEC, latent=8, off=1.0)
    z = codes(24, 8)
    x, hint = (
        model.decode(z).detach(),
        torch.where(torch.arange(24)[:, None] % 2 == 0, z + 0.3, 2 * codes(24, 8, key=77)),
    )
    monkeypatch.setattr(model, "guess", lambda x: hint, raising=False)
    hybrid, network, refined = (
        found(model, x, starts=k, steps=n).error for k, n in ((1, 60), (0, 0), (0, 60))
    )
    monkeypatch.setattr(model, "guess", lambda x: None, raising=False)
    optimised = found(model, x, starts=1, steps=60).error
    assert all((hybrid <= other + 1e-7).all() for other in (optimised, network, refined))
    assert float(hybrid.mean()) < 0.8 * min(
        float(optimised.mean()), float(network.mean()), float(refined.mean())
    )


def test_errors_never_rise_along_the_way():
    model = Curved(spec=SPEC)
    errors = torch.stack(
        [
            c.error
            for c in project(
                model, Noise(range(4), 5).normal(*SPEC.shape), Noise(range(50)), steps=40, rate=1.5
            )
        ]
    )
    assert (errors.diff(dim=0) <= 0).all() and len(errors) == 41


def test_an_image_fares_the_same_in_any_company():
    model = Curved(spec=SPEC)
    x = Noise(range(4), 5).normal(*SPEC.shape)
    every, alone = (
        found(model, x, steps=60).z,
        torch.cat([found(model, one, steps=60).z for one in x.split(1)]),
    )
    assert torch.allclose(every, alone, atol=1e-3) and torch.allclose(
        found(model, x.flip(0), steps=60).z.flip(0), every, atol=1e-3
    )
    assert torch.equal(found(model, x, steps=60).z, every) and not torch.equal(
        found(model, x, steps=60, noise=Noise(range(200), 2)).z, every
    )


def test_the_model_is_left_as_it_was():
    model = Curved(spec=SPEC)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        found(model, codes(2, 36).view(2, 1, 6, 6), steps=5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and all(
        p.grad is None for p in model.parameters()
    )


def test_the_search_is_never_worse_than_the_nearest_sample_though_that_may_lie_outside_of_the_ball():
    model = Linear(spec=SPEC, latent=2)
    x = model.decode(20 * nn.functional.normalize(codes(6, 2), dim=1)).detach()
    nearest_one = inversion.drawn(model, x, Noise(range(200), 1))
    assert (nearest_one.z[:, 0].norm(dim=1) > inversion.Ball.of_prior(2).radius).any()
    assert (found(model, x).error <= nearest_one.error[:, 0] * (1 + 1e-5)).all()


def test_other_features_can_be_compared():
    """Seen at half the size, only that half is fitted: the error is that of the means of 2x2 pixels."""
    model, x = Linear(spec=SPEC), Noise(range(3), 5).normal(*SPEC.shape) / 2

    def halved(x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 2).flatten(1)

    last = found(model, x, see=halved)
    W = halved(model.W.detach().T.view(5, 1, 6, 6)).T
    exact = torch.linalg.lstsq(W, (halved(x) - halved(model.b.detach().view(1, 1, 6, 6))).T).solution.T
    assert torch.allclose(last.z, exact, atol=0.02) and not torch.allclose(
        last.z, found(model, x).z, atol=0.1
    )


def test_a_class_is_kept_or_found():
    model = Curved(spec=Spec(1, 6, labels=3), conditional=True)
    y, wrong = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2, 0, 0])
    told = torch.cat([codes(4, 4), nn.functional.one_hot(y, 3).float()], 1)
    x = model.decode(told).detach()
    assert all(found(model, x, y=Condition(label)).z[:, 4:].argmax(1).equal(label) for label in (y, wrong))
    assert found(model, x).z[:, 4:].argmax(1).equal(y), "the class under which the image is nearest"
    guessing = Curved(spec=Spec(1, 6, labels=3), conditional=True, off=0.5)
    assert found(guessing, x, starts=0, steps=0).z.shape == (4, 7) and found(
        guessing, x, starts=0, y=Condition(y)
    ).z[:, 4:].argmax(1).equal(y)


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_a_model_that_encodes_is_refined_from_there(name):
    data = toy()
    model = models.load(name)(spec=data.spec, latent=8, width=8, depth=1)
    x = data.take(data.held_out[:4]).x
    with torch.no_grad():
        own = model.encode(x)
    first, *_, last = project(model, x, Noise(()), steps=30)
    assert torch.allclose(first.z, own, atol=1e-5) and (last.error < first.error).all()


def test_points_work_too():
    model = Curved(spec=Spec(2, 1, levels=0), latent=2)
    x = model.decode(codes(20, 2)).detach()
    assert float(found(model, x).error.max()) < 1e-5


@pytest.mark.parametrize(
    ("name", "why"), [("pixelcnn", "cannot make an image of a code"), ("vqvae", "no slope to walk down")]
)
def test_models_without_a_smooth_code_are_refused(name, why):
    data = toy()
    known = dict(width=8) if name == "pixelcnn" else dict(width=8, depth=1)
    with pytest.raises(Refusal, match=why):
        found(models.load(name)(spec=data.spec, **known), data.take(data.held_out[:2]).x)


def test_many_images_are_searched_in_parts(monkeypatch):
    model, x = Curved(spec=Spec(1, 6, labels=2), conditional=True), codes(7, 36).view(7, 1, 6, 6)
    y = Condition(torch.arange(7) % 2)
    whole = inversion.codes(model, x, y, steps=20)
    monkeypatch.setattr(inversion, "AT_ONCE", 3)
    steps = list(inversion.search(model, x, y, 20))
    assert (
        torch.allclose(steps[-1].z, whole, atol=1e-3)
        and [len(s.z) for s in steps] == [3] * 21 + [6] * 21 + [7] * 21
    )
    assert steps[-1].share == 1 and all(a.share <= b.share for a, b in pairwise(steps))
    with pytest.raises(Refusal, match="no image"):
        list(inversion.search(model, x[:0]))


def test_the_nearest_sample_is_a_sample_and_the_nearest():
    model, x = Curved(spec=SPEC), codes(3, 36).view(3, 1, 6, 6)
    z = inversion.draws(model, inversion.engine.sampling_noise(0, 0, inversion.DRAWN))
    every = (inversion.decoded(model, z)[None] - x[:, None]).square().flatten(2).mean(2)
    assert torch.allclose(inversion.nearest_samples(model, x), inversion.decoded(model, z[every.argmin(1)]))


# Pictures of codes


def test_an_arc_keeps_the_length_that_a_straight_line_loses():
    a, b = codes(2, 512)
    way = torch.linspace(0, 1, 9)
    arc, line = (
        go(a, b, way).norm(dim=1) / math.sqrt(512) for go in (latent_space.arc, latent_space.straight)
    )
    assert torch.allclose(latent_space.arc(a, b, way)[[0, -1]], torch.stack([a, b]), atol=1e-4)
    assert float((arc - 1).abs().max()) < 0.1 and float(line[4]) < 0.8
    unit = nn.functional.normalize(latent_space.arc(a / a.norm(), b / b.norm(), way), dim=1)
    turns = (unit[:-1] * unit[1:]).sum(1).arccos()
    assert torch.allclose(turns, turns.mean().expand(8), atol=1e-3), "equal steps of the angle"
    assert latent_space.arc(a, a, way).isfinite().all() and latent_space.arc(a, -a, way).isfinite().all()


def test_directions_of_a_linear_decoder_are_its_singular_vectors():
    model = Linear(spec=SPEC)
    subject = latent_space.Subject("linear", model, toy(), codes(40, 5))
    expected = torch.linalg.svd(model.W.detach()).Vh[:3]
    assert torch.allclose((latent_space.directions(subject, 3) @ expected.T).abs(), torch.eye(3), atol=1e-2)


@pytest.fixture(scope="module")
def gan(tmp_path_factory) -> tuple[Path, Data]:
    """A run on digits that has hardly begun, and its data."""
    torch.set_num_threads(1)
    here = tmp_path_factory.mktemp("gan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_CACHE", str(here / "cache"))
        patch.chdir(here)
        small = [
            "--latent",
            "4",
            "--width",
            "4",
            "--precision",
            "fp32",
            "--images",
            "640",
            "--no-report",
            "--encoder",
        ]
        assert main(["train", "gan", "digits", "runs/g", *small]) == 0
    return here / "runs" / "g", toy()


def test_reconstruct_searches_where_a_model_only_decodes(gan, tmp_path, capsys):
    run, _ = gan
    capsys.readouterr()
    assert (
        main(["reconstruct", str(run), "-n", "3", "--steps", "20", "-o", str(tmp_path / "r.png"), "--json"])
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert (
        said["n"] == 3
        and said["steps"] == 20
        and len(said["images"]) == 3
        and said["before_is"] == "the nearest of 1,000 samples"
    )
    assert all(row["psnr"] > row["before"] for row in said["images"]) and said["psnr"] == pytest.approx(
        np.mean([r["psnr"] for r in said["images"]])
    )
    assert read_recipe(tmp_path / "r.png")["steps"] == 20
    Image.fromarray(np.full((9, 9), 200, np.uint8)).save(tmp_path / "mine.png")
    assert (
        main(
            [
                "reconstruct",
                str(run),
                str(tmp_path / "mine.png"),
                "--steps",
                "2",
                "-o",
                str(tmp_path / "m.png"),
            ]
        )
        == 0
    )
    assert "mine.png: " in capsys.readouterr().out


@pytest.mark.parametrize("picture", ["random", "interpolation", "traversal", "arithmetic"])
def test_pictures_of_a_code_that_is_searched(gan, tmp_path, picture, monkeypatch):
    monkeypatch.setattr(inversion, "STEPS", 5)
    assert main(["latent", str(gan[0]), "--picture", picture, "-n", "2", "-o", str(tmp_path / "p.png")]) == 0
    assert (
        np.asarray(Image.open(tmp_path / "p.png")).std() > 5
        and read_recipe(tmp_path / "p.png")["picture"] == picture
    )


def test_arithmetic_with_ones_own_images(gan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inversion, "STEPS", 2)
    files = []
    for shade in (50, 120, 250):
        files.append(str(tmp_path / f"{shade}.png"))
        Image.fromarray(np.full((8, 8), shade, np.uint8)).save(files[-1])
    out = str(tmp_path / "p.png")
    assert main(["latent", str(gan[0]), "--picture", "arithmetic", "--images", *files, "-o", out]) == 0
    assert (
        main(["latent", str(gan[0]), "--images", *files, "-o", out]) == 2
        and ("--picture arithmetic") in capsys.readouterr().err
    )


def test_arithmetic_of_linear_codes_is_that_of_pixels(monkeypatch):
    """On images that a linear decoder can make, mean codes add up to what means of pixels do."""
    model = Linear(spec=Spec(1, 6, labels=3))
    x = np.clip(np.rint((inversion.decoded(model, codes(60, 5) / 3).numpy() + 1) * 127.5), 0, 255).astype(
        np.uint8
    )
    data = Data(
        "linear", "l", x, np.arange(30), np.arange(30, 60), y=np.arange(60) % 3, classes=("a", "b", "c")
    )
    shown = []
    monkeypatch.setattr(
        latent_space.figures,
        "sheet",
        lambda columns, *about: shown.extend([columns, *about]) or np.zeros((9, 9, 3), np.uint8),
    )
    latent_space.arithmetic(latent_space.Subject("linear", model, data, codes(9, 5)), 4, 0)
    columns, titles, notes = shown
    assert titles[-2:] == ["A - B + C", "in pixels"] and len(notes) == 4
    means = {name: some.mean(0) for name, some in latent_space.members(data, 0)}
    for i, note in enumerate(notes):
        a, b, c = note[0], note[4], note[8]
        wanted = latent_space.figures.pixels((means[a] - means[b] + means[c])[None])[0]
        assert sorted([a, b, c]) == ["a", "b", "c"] and note == f"{a} - {b} + {c}"
        for column in columns[-2:]:
            assert np.abs(column[i].astype(int) - wanted).max() < 6


def test_arithmetic_is_refused_where_it_means_nothing(tmp_path):
    two_classes, points = toy(), Spec(2, 1, levels=0)
    with pytest.raises(Refusal, match="--images A B C"):
        latent_space.members(two_classes, 0)
    told = latent_space.Subject(
        "told", Curved(spec=Spec(1, 6, labels=3), conditional=True), two_classes, codes(9, 7)
    )
    with pytest.raises(Refusal, match="without --conditional"):
        latent_space.arithmetic(told, 1, 0)
    x = np.zeros((4, 2, 1, 1), np.float32)
    scattered = latent_space.Subject(
        "points", Curved(spec=points), Data("p", "p", x, np.arange(2), np.arange(2, 4), levels=0), codes(9, 4)
    )
    with pytest.raises(Refusal, match="points"):
        latent_space.arithmetic(scattered, 1, 0)


def test_without_held_out_images_drawn_codes_take_their_place(tmp_path):
    run, data = small_run("gan", tmp_path / "g", toy(held_out=0), images=16)
    x, z = latent_space.Subject("g", run.model, data, codes(4, 8)).held_out(3, 0)
    assert torch.equal(inversion.decoded(run.model, z), x) and len(z) == 3


# The nearest training image beside samples


def test_the_framed_image_is_the_nearest_and_stands_beside_its_sample():
    data, rng = toy(n=64, size=48), np.random.default_rng(0)
    x = data.take(data.train[:7]).x + 0.2 * torch.from_numpy(rng.standard_normal((7, 1, 48, 48))).float()
    beside = nearest.beside(x, data)
    assert beside.row == data.train[[2, 5, 6]].tolist(), "the last of rows of 3, 3 and 1"
    tiles = [
        beside.page[2 + 50 * row : 50 + 50 * row, 2 + 50 * column : 50 + 50 * column, 0]
        for row, column in ((0, 3), (1, 3), (2, 1))
    ]
    assert all(np.array_equal(tile, data.x[i, 0]) for tile, i in zip(tiles, beside.row))
    assert (
        (beside.page[0, 151:200] == nearest.FRAME).all()
        and (beside.page[0, :149] == 238).all()
        and (beside.page[100:151, 51] == nearest.FRAME).all()
    )
    levels = [
        math.sqrt(np.square(np.rint((x[k].clamp(-1, 1).numpy() + 1) * 127.5) - data.x[i]).mean())
        for k, i in zip((2, 5, 6), beside.row)
    ]
    assert beside.distance == pytest.approx(levels)


def test_samples_with_their_nearest_on_the_command_line(gan, tmp_path, capsys):
    run, out = str(gan[0]), tmp_path / "n.png"
    assert main(["sample", run, "-n", "4", "--nearest", "-o", str(out)]) == 0
    assert len(read_recipe(out)["nearest"]) == 2 and "levels from the sample" in capsys.readouterr().out
    assert (
        main(["sample", run, "--nearest", "-o", str(tmp_path / "n.npy")]) == 2
        and "should end in .png" in capsys.readouterr().err
    )
    with pytest.raises(Refusal, match="points"):
        nearest.beside(
            torch.zeros(4, 2, 1, 1),
            Data("p", "p", np.zeros((4, 2, 1, 1), np.float32), np.arange(2), np.arange(2, 4), levels=0),
        )
