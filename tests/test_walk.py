"""Images of chosen codes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from conftest import small_run, toy
from likeness.api import Trained
from likeness.core import Refusal
from likeness.figures import read_recipe
from likeness.inference.latent_space import arc
from likeness.inference.walk import Space, Walk, corners, film, moves, number, spread
from likeness.runs.run import Run


def trained(name: str, folder: Path, **options: object) -> Trained:
    run, data = small_run(name, folder, options=options)
    run.save()
    run.close()
    return Trained(Run.open(folder), data)


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained("gan", tmp_path_factory.mktemp("g") / "gan")


@pytest.fixture(scope="module")
def ae(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained("ae", tmp_path_factory.mktemp("a") / "ae", latent=3)


def test_the_spiral_counts_every_place_once():
    places = {number(x, y): (x, y) for x, y in itertools.product(range(-9, 10), repeat=2)}
    assert sorted(places) == list(range(19**2)) and places[0] == (0, 0)
    steps = [math.dist(places[i], places[i + 1]) for i in range(8)]
    assert max(steps) < 1.5, "neighbours in number are neighbours"


def test_whole_places_of_the_plane_are_the_samples_to_the_bit(gan):
    space, seed = Space(gan), 5
    drawn = gan.sample(9, seed).x
    for x, y in itertools.product((-1, 0, 1), repeat=2):
        z = space.plane([(x, y)], seed)
        k = number(x, y)
        alone = space.images(space.drawn([k], seed))
        assert torch.equal(space.images(z), alone)
        assert torch.allclose(alone[0], drawn[k], atol=1e-5), "the codes are those of sample()"


def test_between_whole_places_codes_are_as_long_as_drawn_ones(tmp_path):
    """A mixture of independent N(0, I) is divided by the root of its squared weights: its variance is 1."""
    space = Space(trained("gan", tmp_path / "g", latent=512))
    rng = np.random.default_rng(0)
    z = space.plane([tuple(v) for v in rng.uniform(-40, 40, (64, 2))], 0)
    assert float(z.var()) == pytest.approx(1, abs=0.05)
    straight = [sum(w * w for *_, w in corners(x, y)) for x, y in rng.uniform(-40, 40, (64, 2))]
    assert np.mean(straight) < 0.6, "without the root it would be about half"


def test_corners_weigh_one_and_meet_at_whole_places():
    assert corners(3, -2) == [(3, -2, 1.0)]
    assert sum(w for *_, w in corners(0.3, -7.8)) == pytest.approx(1)
    assert {(x, y) for x, y, _ in corners(-0.5, 0.25)} == {(-1, 0), (0, 0), (-1, 1), (0, 1)}
    assert spread(0, 0, 3, 1)[0] == (-1, 1) and spread(2, 5, 3, 0.5)[4] == (2, 5)


def test_the_plane_of_a_code_of_two_numbers_is_that_plane(tmp_path):
    space = Space(trained("ae", tmp_path / "two", latent=2))
    assert space.plane([(0.25, -3.5)], 0).tolist() == [[0.25, -3.5]]


def test_a_path_meets_its_stops_to_the_bit_and_runs_along_arcs(gan):
    space = Space(gan)
    stops = space.drawn([3, 1, 4], 0)
    z = space.path(stops, 9)
    assert torch.equal(z[[0, 4, 8]], stops)
    assert torch.allclose(z[1], arc(stops[0], stops[1], torch.tensor([0.25]))[0])
    ring = space.path(stops, 6, "line", loop=True)
    assert torch.equal(ring[[0, 2, 4]], stops) and torch.allclose(ring[5], (stops[2] + stops[0]) / 2)
    with pytest.raises(Refusal, match="two or more"):
        space.path(stops[:1], 5)


def test_arithmetic_is_the_sum_of_means(gan):
    space = Space(gan)
    a, b, c = (space.drawn(range(k, k + 3), 0) for k in (0, 3, 6))
    assert torch.allclose(space.sum([a, b, c], 0.5), (a.mean(0) + 0.5 * (c.mean(0) - b.mean(0)))[None])
    assert torch.allclose(space.sum([a, b[:0], c[:0]]), a.mean(0)[None])
    with pytest.raises(Refusal, match="into A"):
        space.sum([a[:0], b, c])


def test_directions_are_those_of_greatest_variance(ae):
    space = Space(ae)
    axes = space.axes
    assert torch.allclose(axes @ axes.T, torch.eye(3), atol=1e-4)
    spreads = [space.sigma(axis) for axis in axes]
    assert spreads == sorted(spreads, reverse=True)
    _, s, _ = torch.linalg.svd(space.subject.codes - space.subject.codes.mean(0), full_matrices=False)
    assert spreads == pytest.approx((s / math.sqrt(len(space.subject.codes) - 1)).tolist(), rel=1e-3)
    z = space.drawn([0], 0)
    moved = space.slid(z, {"1": 2.0, "3": -1.0})
    assert torch.allclose(moved - z, (2 * spreads[0] * axes[0] - spreads[2] * axes[2])[None], atol=1e-5)


def test_a_direction_is_saved_by_name_and_moves_as_its_sum_did(ae):
    space = Space(ae)
    path = space.save("smile", {"1": 2.0, "2": -1.0})
    assert path == ae.folder / "directions/smile.npz" and space.named() == ["smile"]
    z = space.drawn([0], 0)
    way, whole = space.slid(z, {"smile": 1.0}) - z, space.slid(z, {"1": 2.0, "2": -1.0}) - z
    assert float(torch.cosine_similarity(way, whole)) == pytest.approx(1, abs=1e-5)
    assert float(way.norm()) == pytest.approx(space.sigma(way[0] / way.norm()), rel=1e-4), (
        "in sigmas of its own"
    )
    for bad in ("../x", "7", "", "a/b", ".hidden"):
        with pytest.raises(Refusal):
            space.save(bad, {"1": 1.0})
    with pytest.raises(Refusal, match="no slider"):
        space.save("none", {})
    with pytest.raises(Refusal, match="smile"):
        space.slid(z, {"smlie": 1.0})


def test_the_code_of_a_file_is_that_of_its_image(ae, tmp_path):
    x = ae.data.take(ae.data.held_out[:1]).x
    file = tmp_path / "own.png"
    Image.fromarray(ae.data.x[ae.data.held_out[0], 0]).save(file)
    assert torch.allclose(Space(ae).of_file(str(file)), ae.encode(x), atol=1e-5)
    with pytest.raises(Refusal, match="names no code"):
        ae.walk("images", [str(tmp_path / "none.png")])


WALKS = [
    Walk("plane", n=3, seed=2, at=(0.5, -1.25), step=0.25),
    Walk("plane", n=2, at=(1e-7, -2.5e-6), step=1 / 3),
    Walk("images", ("0", "3:4")),
    Walk("path", ("0", "2"), n=5, way="line", loop=True),
    Walk("sum", ("0", "1"), less=("2",), plus=("3",), strength=0.75),
    Walk("slide", ("4",), along={"1": 1.5, "2": -0.125}),
]


@pytest.mark.parametrize("walk", WALKS, ids=lambda w: w.kind)
def test_flags_say_the_walk_and_the_command_line_makes_the_same_pixels(walk, tmp_path, monkeypatch):
    """What the studio copies for the user is what it has shown."""
    import shlex

    from likeness.cli import main

    small_run("gan", tmp_path / "g")[0].close()
    run = Trained(Run.open(tmp_path / "g"), toy())
    monkeypatch.setattr(Trained, "data", property(lambda self: toy()))
    words = shlex.split(walk.flags())
    out = tmp_path / "o.npz"
    assert main(["walk", str(tmp_path / "g"), *words, "-o", str(out), "--json"]) == 0
    how = {
        k: getattr(walk, k)
        for k in ("n", "seed", "at", "step", "along", "way", "loop", "less", "plus", "strength")
    }
    assert np.array_equal(np.load(out)["x"], run.walk(walk.kind, walk.codes, **how).numpy())


def test_a_path_is_written_as_a_film_with_its_recipe(gan, tmp_path):
    from likeness.cli import main

    frames = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for ending in (".gif", ".apng"):
        out = tmp_path / f"p{ending}"
        out.write_bytes(film(out, frames, {}, 0.2))
        with Image.open(out) as opened:
            assert opened.n_frames == 7 and opened.size == (48, 48) and opened.info["duration"] == 200
        assert main(["walk", str(gan.folder), "path", "0", "5", "-n", "7", "-o", str(out), "--json"]) == 0
        recipe = read_recipe(out)
        assert recipe["codes"] == ["0", "5"] and recipe["picture"] == "walk path" and recipe["n"] == 7


def test_what_cannot_be_walked_is_refused(gan, tmp_path):
    with pytest.raises(Refusal, match="plane"):
        gan.walk("plan")
    for bad in (dict(n=41), dict(step=0), dict(step=math.nan), dict(at=(math.inf, 0))):
        with pytest.raises(Refusal):
            gan.walk("plane", **bad)
    with pytest.raises(Refusal, match="lists what there is"):
        gan.walk("plane", colour=1)
    with pytest.raises(Refusal, match="along"):
        moves(["smile"])
    assert moves(["a:b:-2", "1:0.5"]) == {"a:b": -2.0, "1": 0.5}
    with pytest.raises(Refusal, match="make an image of a code"):
        trained("pixelcnn", tmp_path / "p").walk("images")
    assert likeness.Trained.walk
