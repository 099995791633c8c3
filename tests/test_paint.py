"""Strokes as losses, and the search for images that meet them: against closed forms, enumeration, and models
whose every image is known."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import likeness
from conftest import OWN, SMALL, small_run, toy
from likeness import cli, engine
from likeness.core import BadData, Batch, Condition, Loss, Model, Noise, Refusal, Spec, final
from likeness.figures import read_recipe
from likeness.inference import constraints, forced, hog, inversion, manifold, strokes, taught, transfer
from likeness.inference.strokes import GRID, Stroke
from likeness.models import load
from likeness.runs import latent_model
from likeness.training.loop import fit

DOCS = Path(__file__).parents[1] / "docs" / "painting.md"
RED, BLUE = (1.0, -0.7, -0.7), (-0.7, -0.7, 1.0)


class Discs(Model):
    """z = (x, y, red, green, blue) to one soft disc on white: what an edit does to it can be computed."""

    latent = 5

    def build(self) -> None:
        self.scale = torch.nn.Parameter(torch.ones(()))

    def decode(self, z: Tensor) -> Tensor:
        size = self.spec.size
        at = (torch.arange(size) + 0.5) / size
        x, y = ((0.5 + 0.15 * z[:, i])[:, None, None] for i in (0, 1))
        far = ((at - x).square() + (at[:, None] - y).square() + 1e-8).sqrt()
        cover = torch.sigmoid((0.2 - far) * 40)[:, None]
        return 1 + cover * (torch.tanh(z[:, 2:, None, None]) - 1) * self.scale

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield self.decode(noise.normal(5))

    def loss(self, batch: Batch) -> Loss:
        raise NotImplementedError


class Linear(Discs):
    """An image is W z."""

    latent = 6

    def build(self) -> None:
        self.W = torch.nn.Parameter(
            torch.randn(6, self.spec.dims, generator=torch.Generator().manual_seed(0))
        )

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.W).view(-1, *self.spec.shape)

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield self.decode(noise.normal(6))


@pytest.fixture(scope="module")
def discs() -> Discs:
    return Discs(spec=Spec(3, 32)).eval()


def disc(discs: Discs, x: float = 0.0, y: float = 0.0, colour: tuple[float, ...] = BLUE) -> Tensor:
    z = torch.tensor([[x, y, *colour]])
    z[:, 2:] = torch.atanh(z[:, 2:].clamp(-0.99, 0.99))
    return discs.decode(z)[0].detach()


def asked(
    texts: list[str], start: Tensor | None, size: int = 32, **weights: float
) -> constraints.Constraints:
    return constraints.compiled(strokes.some(texts), 3, size, start, weights)


# Strokes


def slowly(stroke: Stroke, size: int) -> np.ndarray:
    """The rule of strokes.py once more, in whole numbers of Python, pixel by pixel."""
    q = [(int(np.floor(GRID * x + 0.5)), int(np.floor(GRID * y + 0.5))) for x, y in stroke.points]
    reach = max(int(np.floor(GRID * stroke.radius + 0.5)), -(-3 * GRID // (4 * size)))
    centres = [q[0]]
    for (ax, ay), (bx, by) in itertools.pairwise(q if stroke.kind != "warp" else q[:1]):
        n = max(1, -(-max(abs(bx - ax), abs(by - ay)) // max(1, reach // 4)))
        centres += [
            tuple(p + (2 * k * d + n) // (2 * n) for p, d in ((ax, bx - ax), (ay, by - ay)))
            for k in range(n + 1)
        ]
    result = np.zeros((size, size), bool)
    for i, j in itertools.product(range(size), repeat=2):
        result[i, j] = any(
            (2 * size * x - (2 * j + 1) * GRID) ** 2 + (2 * size * y - (2 * i + 1) * GRID) ** 2
            <= (2 * size * reach) ** 2
            for x, y in centres
        )
    return result


SCRIBBLES = [
    Stroke("keep", ((0.5, 0.4),), 0.1),
    Stroke("keep", ((0.0, 0.0), (1.0, 1.0)), 0.02),
    Stroke("keep", ((0.11, 0.93), (0.87, 0.31), (0.2, 0.2), (0.2, 0.2)), 0.001),
    Stroke("warp", ((0.3, 0.31), (0.9, 0.9)), 0.17),
    Stroke("keep", ((1 / 3, 2 / 3), (0.9999, 0.123456)), 0.05),
]


@pytest.mark.parametrize("size", [7, 32])
@pytest.mark.parametrize("stroke", SCRIBBLES)
def test_a_stroke_covers_the_pixels_of_the_rule(stroke, size):
    assert np.array_equal(stroke.covers(size), slowly(stroke, size))
    assert stroke.covers(size).any()


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript here")
def test_a_browser_draws_the_same_pixels():
    (script,) = re.findall(r"```js\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    cases = [dict(points=s.points[:1] if s.kind == "warp" else s.points, radius=s.radius) for s in SCRIBBLES]
    program = (
        f"{script}\nconsole.log(JSON.stringify({json.dumps(cases)}.map(s => Array.from(covers(s, 45)))))"
    )
    out = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True).stdout
    for stroke, pixels in zip(SCRIBBLES, json.loads(out)):
        assert np.array_equal(np.array(pixels, bool).reshape(45, 45), stroke.covers(45))


def test_a_typed_stroke_is_that_of_a_file(tmp_path):
    typed = [
        "colour:red:0.5,0.4 0.6,0.4:0.1",
        "sketch:line:0.2,0.8 0.5,0.2:0.02",
        "warp:0.3,0.3:0.6,0.3:0.15",
        "keep:0.7,0.7",
        "erase:0.1,0.1:0.2",
    ]
    first = strokes.some(typed)
    file = tmp_path / "strokes.json"
    file.write_text(json.dumps(dict(schema=1, strokes=[s.facts() for s in first])))
    assert strokes.load(file) == first
    assert first[0].colour == (255, 0, 0) and first[3].radius == 0.1 and first[2].shift(32) == (10, 0)


@pytest.mark.parametrize(
    ("stroke", "why"),
    [
        ("colour:red:nan,0.4:0.1", "is no place"),
        ("colour:red:0.5,1.4:0.1", "outside of the image"),
        ("colour:redd:0.5,0.4:0.1", "is no colour"),
        ("colour:red:0.5,0.4:-1", "radius -1"),
        ("colour:red:0.5,0.4:inf", "radius inf"),
        ("colour:red:0.5:0.1", "is no place"),
        ("warp:0.5,0.5:0.1", "is no place"),
        ("warp:0.5,0.5", "is typed as"),
        ("scribble:0.5,0.5", "no stroke 'scribble'"),
        ("sketch:blob:0.5,0.5", "made of lines"),
        ({"kind": "keep", "points": [[0.5, 0.5]] * 10**6}, "1,000,000 points"),
        ({"kind": "keep", "points": [[float("nan"), 0.5]]}, "is no place"),
        ({"kind": "colour", "points": [[0.5, 0.5]], "colour": [1, 2, 999]}, "0 to 255"),
        ({"kind": "keep", "points": 7}, "not understood"),
        ({"kind": "keep", "points": []}, "no point"),
        ({"kind": "colour", "points": [[0.5, 0.5]]}, "needs a colour"),
        ([], "not understood"),
    ],
)
def test_what_is_no_stroke_is_told_in_a_sentence(stroke, why):
    with pytest.raises((Refusal, BadData), match=re.escape(why)):
        strokes.some([stroke])


def test_a_scribble_without_end_is_told():
    long = Stroke("keep", tuple((i % 2, i % 3 / 2) for i in range(10_000)), 0.001)
    with pytest.raises(Refusal, match="too long to be drawn"):
        long.covers(64)
    with pytest.raises(Refusal, match="201 strokes"):
        strokes.some(["keep:0.5,0.5"] * 201)
    with pytest.raises(Refusal, match="nothing is asked for"):
        strokes.some([])


# HOG


def test_votes_are_for_the_direction_of_the_gradient_and_add_up_to_its_length():
    y, x = torch.meshgrid(*[torch.arange(12.0)] * 2, indexing="ij")
    for angle in (0.0, 10.0, 47.0, 100.0, 170.0, 200.0):
        a = np.deg2rad(angle)
        ramp = 0.05 * (np.cos(a) * x + np.sin(a) * y)[None, None]
        v = hog.votes(ramp)[0, :, 5, 5]
        at = (angle % 180) / 20
        expected = torch.zeros(9)
        expected[int(at) % 9], expected[(int(at) + 1) % 9] = 0.05 * (1 - at % 1), 0.05 * (at % 1)
        assert torch.allclose(v, expected, atol=2e-4)
        assert torch.allclose(hog.votes(-ramp)[0, :, 5, 5], v, atol=1e-5), "unsigned"


def test_hog_has_the_gradient_of_differences_and_none_that_is_no_number():
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda a: hog.hog(a, 4), x.requires_grad_(), atol=1e-4)
    flat = torch.zeros(1, 1, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(hog.hog(flat, 4).sum(), flat)
    assert slope.isfinite().all()


# Constraints


def test_a_hole_is_closed_by_what_is_around_it():
    y, x = torch.meshgrid(*[torch.arange(16.0)] * 2, indexing="ij")
    plane = (0.03 * x - 0.05 * y)[None]
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[4:9, 5:12] = True
    spoilt = torch.where(hole, 9.0, plane)
    assert torch.allclose(constraints.closed(spoilt, hole), plane, atol=1e-5), "a plane is harmonic"


def test_each_term_is_zero_for_what_was_asked_and_counts_the_later_stroke():
    start = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    c = asked(["colour:#ff0000:0.5,0.5:0.1", "keep:0.5,0.5:0.05", "warp:0.2,0.2:0.8,0.2:0.1"], start)
    x = c.painted(start[None])
    terms = c.terms(x)
    assert set(terms) == {"colour", "keep", "warp", "erase", "rest"}
    assert all(float(t) < 1e-6 for t in terms.values())
    assert float(c.terms(start[None])["colour"]) > 0.1
    (dx, dy), old = strokes.parse("warp:0.2,0.2:0.8,0.2:0.1").shift(32), start
    assert torch.equal(x[0, :, 6, 6 + dx], old[:, 6, 6]) and dy == 0
    assert (c.kept & c.areas[0].mask).sum() == 0


# Codes


def test_the_colour_around_a_pixel_is_the_mean_of_the_strokes_pixels_in_its_window():
    c = constraints.compiled([strokes.parse("colour:red:0.05,0.1 0.7,0.4:0.2")], 3, 16)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    (area,) = c.areas
    half, inside = int(0.2 * 16 / 2), area.mask.tolist()
    want = []
    for image in x.tolist():
        apart = []
        for i, j in itertools.product(range(16), repeat=2):
            if not inside[i][j]:
                continue
            rows, columns = (range(max(0, k - half), min(16, k + half + 1)) for k in (i, j))
            near = [(a, b) for a, b in itertools.product(rows, columns) if inside[a][b]]
            apart += [
                (sum(plane[a][b] for a, b in near) / len(near) - wanted) ** 2
                for plane, wanted in zip(image, area.colour.tolist())
            ]
        want.append(sum(apart) / len(apart))
    assert c.terms(x)["colour"].tolist() == pytest.approx(want, rel=1e-4)


def test_a_stroke_that_stays_is_not_drawn_again(monkeypatch):
    known = strokes.some(["colour:red:0.31,0.42 0.62,0.43:0.11", "keep:0.9,0.9:0.05"])
    first = [stroke.covers(16) for stroke in known]
    monkeypatch.setattr(strokes, "discs", lambda *_: pytest.fail("drawn again"))
    for stroke, mask in zip(known, first):
        mask[:] = False  # a copy
        assert stroke.covers(16).any()


def test_the_projection_of_a_linear_generator_is_least_squares():
    model = Linear(spec=Spec(1, 8, levels=0)).eval()
    W = model.W.detach().T
    x = (W @ (0.5 * torch.randn(6, 3, generator=torch.Generator().manual_seed(3)))).T + 0.3 * torch.randn(
        3, 64, generator=torch.Generator().manual_seed(4)
    )
    best = torch.linalg.lstsq(W, x.T).solution.T
    noise = engine.sampling_noise(0, 0, 64)
    z = manifold.project(model, x.view(3, 1, 8, 8), noise, steps=20).z
    assert torch.allclose(z, best, atol=1e-4)
    only = final(inversion.project(model, x.view(3, 1, 8, 8), noise, steps=20)).z
    assert not torch.allclose(only, best, atol=1e-4), "without the last part it is not there yet"


def test_own_samples_are_found_again(discs):
    x = final(discs.sample(Noise(range(4), 99)))
    codes = manifold.project(discs, x, engine.sampling_noise(0, 0, 500), steps=100)
    assert float(codes.error.max()) < 1e-6
    stranger = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert float(manifold.project(discs, stranger, engine.sampling_noise(0, 0, 500), steps=20).error) > 0.1


def test_a_colour_stroke_changes_the_colour_and_leaves_the_rest(discs):
    start = disc(discs)
    c = asked(["colour:#ff2626:0.5,0.5:0.15"], start)
    made = manifold.paint(discs, c, manifold.How(n=2))
    before, after = float(c.terms(start[None])["colour"]), float(made.terms["colour"][0])
    assert after < 0.5 * before
    assert float(made.terms["rest"][0]) ** 0.5 < 0.05, "root mean square, in units of [-1, 1]"
    fake = manifold.paint(discs, asked(["colour:#ff2626:0.5,0.5:0.15"], start, colour=0), manifold.How(n=1))
    assert float(fake.terms["colour"][0]) > 0.5 * before
    assert made.wrong is not None and made.wrong < 1 and made.film.shape == (manifold.FRAMES, 3, 32, 32)
    assert torch.allclose(made.film[-1], made.x[0], atol=1e-4)


def test_what_a_model_cannot_make_is_said(discs):
    start = disc(discs)
    wish = ["colour:#ff2626:0.5,0.5:0.15", "colour:#0000ff:0.05,0.05:0.04"]
    made = manifold.paint(discs, c := asked(wish, start), manifold.How(n=2))
    (said,) = constraints.unmet(c, start, made.x[0])
    assert "#0000ff is not met: its pixels are #f" in said, "discs are drawn on white"
    assert not constraints.unmet(asked(wish[:1], start), start, made.x[0])
    two = constraints.unmet(c, start, start)
    assert len(two) == 2, "nothing has been done"
    drag = asked(["warp:0.35,0.5:0.65,0.6:0.25"], start)
    assert "0% of its error is gone" in constraints.unmet(drag, start, start)[0]


def centroid(x: Tensor) -> Tensor:
    weight = (1 - x.mean(0)).clamp(min=0)
    at = torch.arange(len(weight)) + 0.5
    return torch.stack([(weight.sum(0) * at).sum(), (weight.sum(1) * at).sum()]) / weight.sum()


def test_a_drag_moves_the_shape_by_as_much(discs):
    start = disc(discs, -1, 0)
    drag = ["warp:0.35,0.5:0.65,0.6:0.25"]
    made = manifold.paint(discs, asked(drag, start), manifold.How(n=2))
    way = centroid(made.x[0]) - centroid(start)
    assert float((way - torch.tensor([0.3 * 32, 0.1 * 32])).norm()) < 2
    fake = manifold.paint(discs, asked(drag, start, warp=0, erase=0), manifold.How(n=1))
    assert float((centroid(fake.x[0]) - centroid(start)).norm()) < 2


def test_a_sketch_raises_the_agreement_of_edges(discs):
    ring = [(0.7 + 0.2 * np.cos(a), 0.5 + 0.2 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 13)]
    line = "sketch:line:" + " ".join(f"{x:.3f},{y:.3f}" for x, y in ring) + ":0.02"
    start = disc(discs, 0.3, 0)
    c = asked([line], start, rest=0, smooth=0)
    made = manifold.paint(discs, c, manifold.How(n=4))
    before, after = float(c.agreement(start[None])), float(c.agreement(made.x[:1]))
    assert after > before + 0.1
    assert float((centroid(made.x[0]) / 32 - torch.tensor([0.7, 0.5])).norm()) < 0.05


def test_each_candidate_is_smooth_to_its_own_start_and_does_not_know_the_others(discs):
    start = disc(discs)
    c = asked(["colour:#ff2626:0.5,0.5:0.1"], start)
    alone, several = (manifold.paint(discs, c, manifold.How(n=n, steps=10)) for n in (1, 3))
    assert min(float((x - alone.x[0]).abs().max()) for x in several.x) < 1e-4


def test_without_an_image_the_best_of_drawn_ones_are_where_it_begins(discs):
    c = asked(["colour:#2626ff:0.3,0.3:0.05"], None)
    made = manifold.paint(discs, c, manifold.How(n=3))
    assert float(made.terms["colour"][0]) < 0.05 and made.start is None and made.back is None
    with pytest.raises(Refusal, match="a warp stroke is about an image"):
        asked(["warp:0.2,0.2:0.4,0.4"], None)
    with pytest.raises(Refusal, match="nothing is to change"):
        asked(["keep:0.2,0.2"], disc(discs))


def test_candidates_change_places_only_for_a_margin():
    order, off = torch.tensor([0, 1, 2]), torch.tensor([1.0, 0.95, 0.8])
    assert manifold.reordered(order, off, 0.1).tolist() == [0, 2, 1] or manifold.reordered(
        order, off, 0.1
    ).tolist() == [2, 0, 1]
    jitter = torch.Generator().manual_seed(0)
    for _ in range(20):
        assert manifold.reordered(order, 1 + 0.04 * torch.rand(3, generator=jitter)).tolist() == [0, 1, 2]
    assert manifold.reordered(order, torch.tensor([1.0, 0.5, 0.1])).tolist() == [2, 1, 0], "never frozen"
    assert manifold.reordered(order, torch.tensor([float("nan"), 0.5, 1.0])).tolist() == [1, 2, 0]


# Completion


@pytest.fixture(scope="module")
def binary() -> Model:
    """A PixelCNN of 3 x 3 pixels of two levels, of which all 512 images can be written down."""
    torch.manual_seed(3)
    model = load("pixelcnn")(spec=Spec(1, 3, levels=2), width=6, depth=2).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.9 * torch.randn(p.shape) * max(1, p[0].numel()) ** -0.5)
    return model


def test_fixed_pixels_stay_and_the_rest_follows_the_conditional_law(binary):
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=9))).view(-1, 1, 3, 3)
    with torch.no_grad():
        p = (-binary.surprise(every).flatten(1).sum(1)).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-4)
    fixed = torch.zeros(3, 3, dtype=torch.bool)
    fixed[1, 1] = fixed[2, 0] = fixed[2, 2] = True
    x = torch.tensor([[-1.0, -1, -1], [-1, 1, -1], [1, -1, -1]])[None]
    there = (every[:, :, fixed] == x[:, fixed]).flatten(1).all(1)
    law = p * there / p[there].sum()
    truth = (law[:, None, None, None] * (every > 0)).sum(0)[0]
    out = final(forced.conditioned(binary, x, fixed, Noise(range(4000), 5)))
    assert torch.equal(out.x[:, :, fixed], x[:, fixed].expand(4000, -1, -1))
    weight = out.log_weight.softmax(0)
    marginal = (weight[:, None, None, None] * (out.x > 0)).sum(0)[0]
    assert float((marginal - truth).abs().max()) < 0.05
    unaware = (
        torch.where(fixed, x[0] > 0, final(binary.sample(Noise(range(4000), 5)))[:, 0] > 0).float().mean(0)
    )
    assert float((unaware - truth).abs().max()) > 0.1, "drawing without weights is another law"


def test_a_model_that_draws_in_order_keeps_what_is_fixed(tmp_path):
    model = load("pixelcnn")(spec=Spec(3, 8, levels=4), width=6, depth=1).eval()
    start = torch.randint(0, 4, (3, 8, 8), generator=torch.Generator().manual_seed(0)) * (2 / 3) - 1
    c = constraints.compiled(strokes.some(["colour:#ff0000:0.5,0.5:0.12"]), 3, 8, start)
    made = manifold.paint(model, c, manifold.How(n=2))
    known = ~c.free
    assert torch.allclose(made.x[:, :, known], start[:, known].expand(2, -1, -1), atol=1e-5)
    assert float(made.terms["colour"].max()) < 1e-6 and made.family == "completion"
    assert float((made.x - c.painted(start[None])).abs().max()) > 0.1, "around the stroke it is drawn"
    with pytest.raises(Refusal, match=r"fixes no pixel.*These do: ae, .*flowmatching, gan, "):
        manifold.paint(model, constraints.compiled(strokes.some(["sketch:line:0,0 1,1"]), 3, 8, start))


# Sampling


def test_guided_sampling_meets_the_stroke_and_keeps_what_is_far(tmp_path):
    """By a denoiser that knows one law exactly: each image is a flat colour, N(0, s^2) in each channel."""
    from likeness.parts.denoising import Denoising
    from likeness.parts.schedules import Straight

    class Flat(Denoising):
        def build(self) -> None:
            self.schedule = Straight()
            self.one = torch.nn.Parameter(torch.ones(()))

        def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
            a, s = (v.view(-1, 1, 1, 1).float() for v in (self.schedule.alpha(t), self.schedule.sigma(t)))
            n, var = x_t.shape[-1] ** 2, 0.16
            mean = a * var * x_t.mean((2, 3), keepdim=True) * n / (a * a * var * n + s * s)
            return self.one * mean.expand_as(x_t)

    model = Flat(spec=Spec(3, 8)).eval()
    stroke = ["colour:#c04040:0.5,0.5:0.2"]
    c = constraints.compiled(strokes.some(stroke), 3, 8)
    made = manifold.paint(model, c, manifold.How(n=4))
    off = constraints.compiled(strokes.some(stroke), 3, 8, weights=dict(colour=0.0))
    fake = manifold.paint(model, off, manifold.How(n=4))
    assert float(made.terms["colour"].mean()) < 0.5 * float(fake.terms["colour"].mean())
    corner, middle = made.x[:, :, 0, 0], made.x[:, :, 4, 4]
    assert float((corner - middle).abs().max()) < 0.1, (
        "the whole image takes the colour: the gradient goes through the model"
    )
    start = torch.zeros(3, 8, 8)
    small = constraints.compiled(strokes.some(["colour:#c04040:0.1,0.1:0.05"]), 3, 8, start)
    kept = manifold.paint(model, small, manifold.How(n=2))
    assert torch.allclose(kept.x[:, :, ~small.free], torch.zeros(()), atol=1e-5)


# Who can


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("vqvae", {}, "train a model of its codes"),
        ("simclr", {}, r"cannot draw an image around strokes.  These do: .*gan"),
        ("classifier", {}, "These do"),
    ],
)
def test_who_cannot_names_those_who_can(name, options, why):
    model = load(name)(spec=Spec(3, 16, labels=2), **options)
    with pytest.raises(Refusal, match=why):
        manifold.family(model)


def test_families_are_told_by_what_a_model_answers():
    spec = Spec(1, 16)
    kinds = {
        name: manifold.family(load(name)(spec=spec))
        for name in ("gan", "vae", "ae", "flowmatching", "pixelcnn")
    }
    assert kinds == dict(gan="codes", vae="codes", ae="codes", flowmatching="sampling", pixelcnn="completion")


# Transfer


def test_what_has_not_changed_leaves_the_photograph_as_it_is(discs):
    photo = torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(0)) * 2 - 1
    a = disc(discs)
    assert torch.equal(transfer.applied(photo, transfer.change(a, a)).x, photo)


def test_a_change_of_colour_takes_its_edges_from_the_photograph(discs):
    a, b = disc(discs, colour=BLUE), disc(discs, colour=RED)
    made = transfer.change(a, b)
    assert float(made.share.max()) < 0.05 and float(made.flow.abs().max()) < 0.5
    fine = Discs(spec=Spec(3, 256))
    out = transfer.applied(disc(fine, colour=BLUE), made)
    assert float((out.x - disc(fine, colour=RED)).abs().mean()) < 0.02
    enlarged = torch.nn.functional.interpolate(b[None], 256, mode="bilinear")[0]
    assert float((out.x - disc(fine, colour=RED)).abs().max()) < float(
        (enlarged - disc(fine, colour=RED)).abs().max()
    )


def test_a_motion_is_a_flow_and_the_detail_moves_along(discs):
    way = [disc(discs, x) for x in np.linspace(-0.5, 0.5, 7)]
    made = transfer.change(way[0], way[-1], way[1:-1])
    inside = (way[-1].mean(0) < 0) & (way[0].mean(0) < 2)
    moved = made.flow[0][inside].mean()
    assert float(moved) == pytest.approx(-0.15 * 32, abs=1.5)
    assert float(transfer.off(transfer.warped(way[0], made.flow), way[-1])) < 0.5 * transfer.off(
        way[0], way[-1]
    )


def test_only_the_middle_square_changes_and_the_share_says_how_much_is_model(discs):
    photo = torch.ones(3, 64, 96)
    empty = torch.ones(3, 32, 32)
    made = transfer.change(empty, disc(discs))  # something of which the photograph knows nothing
    out = transfer.applied(photo, made)
    assert torch.equal(out.x[:, :, :16], photo[:, :, :16]) and torch.equal(out.x[:, :, 80:], photo[:, :, 80:])
    assert float(out.share.max()) > 0.9 and float(out.share[2, 18]) < 0.05, "new edges are the model's"
    assert float((out.x[:, 32, 48] - disc(discs)[:, 16, 16]).abs().max()) < 0.2


# The verb


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    run, data = small_run(
        "gan", tmp_path_factory.mktemp("paint") / "g", toy(64, channels=3), options=dict(latent=4)
    )
    for _ in fit(run, data):
        pass
    run.close()
    return run.folder


def test_the_verb_writes_all_with_their_recipe(run, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(photo)
    out = tmp_path / "out"
    line = [
        "paint",
        str(run),
        str(photo),
        "--stroke",
        "colour:red:0.5,0.4:0.1",
        "-n",
        "2",
        "--steps",
        "3",
        "-o",
        str(out),
    ]
    assert cli.main(line) == 0
    names = {
        "edits.png",
        "result.png",
        "candidates.png",
        "morph.gif",
        "photo.png",
        "share.png",
        "before-after.png",
    }
    assert {p.name for p in out.iterdir()} == names
    for path in out.iterdir():
        recipe = read_recipe(path)
        assert (
            recipe["strokes"][0]["colour"] == "#ff0000"
            and recipe["run"] == run.name
            and "projection_rms" in recipe
        )
    assert Image.open(out / "photo.png").size == (64, 48) and Image.open(out / "result.png").size == (16, 16)
    assert cli.main([*line[:-1], str(tmp_path / "one.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.strip().split("\n")[-1] or "{}") is not None
    here = likeness.open(run).paint(["colour:red:0.5,0.4:0.1"], photo, n=2, steps=3)
    assert np.array_equal(here.page, np.asarray(Image.open(tmp_path / "one.png")))


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["gone", "--stroke", "colour:red:0.5,0.4"], 2, "gone is not a run"),
        (["RUN"], 2, "nothing is asked for"),
        (["RUN", "--strokes", "none.json"], 65, "there are no strokes in none.json"),
        (["RUN", "--stroke", "keep:0.5,0.5"], 2, "is about an image"),
        (["RUN", "--stroke", "colour:red:0.5,0.5", "--weight", "shape=1"], 2, "no weight of shape"),
        (["RUN", "--stroke", "colour:red:0.5,0.5", "--weight", "colour"], 2, "--weight colour=2"),
        (["RUN", "no.png", "--stroke", "colour:red:0.5,0.5"], 2, "no folder, file or set called 'no.png'"),
        (["RUN", "--stroke", "colour:red:0.5,0.5", "-n", "100"], 2, "-n is from 1 to 64"),
        (["RUN", "--stroke", "colour:red:0.5,0.5", "--strength", "0"], 2, "--strength 0"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(words, code, why, run, capsys):
    assert cli.main(["paint", *(str(run) if w == "RUN" else w for w in words)]) == code
    err = capsys.readouterr().err
    assert why in err and "Traceback" not in err


def test_an_encoder_is_taught_on_request_and_asked_afterwards(run):
    trained = likeness.open(run)
    trained._data = toy(64, channels=3)
    result = trained.teach_encoder(3)
    facts = taught.facts(trained.model, trained.run.seen)
    assert taught.kept(trained.model, run, facts) is not None and result["off"] > 0
    assert taught.kept(trained.model, run, facts | dict(seen=1)) is None, "of another state of the run"
    guess = taught.kept(trained.model, run, facts)
    x = trained.data.take(np.arange(4)).x
    errors = taught.errors(trained.model, x, guess, steps=10)
    assert set(errors) == {"guess", "optimisation", "both"}
    assert (errors["both"] <= errors["guess"] + 1e-6).all(), (
        "the search begins at the guess, and keeps the best"
    )
    (run / taught.FOLDER).rename(run / "away")


@pytest.mark.parametrize("name", likeness.models.NAMES)
def test_every_model_paints_or_says_why_not(name):
    """Small and untrained: what counts is that the way is walked to its end."""
    kind = load(name)
    known = {f.name: f for f in fields(kind)}
    chosen = {k: v for k, v in SMALL.items() if k in known and isinstance(v, type(known[k].default))}
    options = chosen | OWN.get(name, {})
    try:
        model = kind(spec=Spec(3, 16, labels=2, levels=8), **options).eval()
        c = asked(["colour:#ff2626:0.5,0.5:0.1"], torch.zeros(3, 16, 16), 16)
        made = manifold.paint(model, c, manifold.How(n=2, steps=2))
    except Refusal as why:
        assert "Traceback" not in str(why) and len(str(why)) > 20
        assert name not in (
            "gan",
            "r3gan",
            "vae",
            "ae",
            "ddpm",
            "edm",
            "flowmatching",
            "meanflow",
            "pixelcnn",
            "imagegpt",
        )
        return
    assert made.x.shape == (2, 3, 16, 16) and made.x.isfinite().all() and "colour" in made.terms


@pytest.mark.parametrize(("inner", "first"), [("flowmatching", "vae"), ("pixelcnn", "vqvae"), ("gan", "vae")])
def test_a_run_of_two_stages_is_searched_in_its_codes(inner, first):
    spec = Spec(3, 16)
    torch.manual_seed(0)
    stage: Any = load(first)(
        spec=spec, width=8, depth=1, **({"latent": 8} if first == "vae" else {"codes": 8})
    ).eval()
    if first == "vae":
        stage = latent_model.Numbers(stage, torch.zeros(8), torch.ones(8))
    small = {"width": 8, "depth": 1} if inner == "pixelcnn" else {"net": "mlp"}
    model = latent_model.make(load(inner), spec, small, stage).eval()
    c = asked(["colour:#ff2626:0.2,0.2:0.1"], torch.zeros(3, 16, 16), 16)
    made = manifold.paint(model, c, manifold.How(n=2, steps=2))
    assert made.x.shape == (2, 3, 16, 16) and made.x.isfinite().all()


def test_of_codes_those_under_a_stroke_are_fixed_however_small_it_is():
    c = asked(["colour:#ff2626:0.52,0.52:0.03"], torch.zeros(3, 32, 32))
    fixed = manifold._fixed_codes(c, 8)
    assert fixed[4, 4] and not fixed[3, 3] and fixed[0, 0] and fixed[7, 7]
