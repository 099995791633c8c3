"""The samples screen: the same pixels as the command line, and every tab by keys and by pointer."""

from __future__ import annotations

import io
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio.conftest import opened, until
from PIL import Image

from likeness import figures
from likeness.cli import main
from likeness.core import Refusal
from likeness.inference import walk
from likeness.metrics import neighbours
from likeness.studio.protocol import Answer, Picture
from likeness.studio.screens import samples
from likeness.studio.worker import Desk


@pytest.fixture
def desk(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Over copies, which may be changed."""
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path / "runs")


def asked(desk: Desk, method: str, run: str = "gan-digits", arrays: dict | None = None, **args: Any) -> Answer:
    """The last value of an answer."""
    (*_, last) = samples.ASKS[method](desk, dict(args, run=run), arrays or {})
    return last


def shown(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("run", ["vae-digits", "gan-digits", "pixelcnn-digits", "ddpm-digits"])
def test_a_grid_has_the_pixels_that_its_command_writes(desk, run, capsys):
    answer = asked(desk, "grid", run, n=4, seed=3)
    verb, *words = shlex.split(answer.data["command"])[1:]
    assert main([verb, *words, "-o", "cli.npz"]) == 0
    x = np.load("cli.npz")["x"]
    assert np.array_equal(answer.arrays["images"], np.broadcast_to(x, (*x.shape[:3], 3)))
    assert answer.data["share"] == 1 and answer.data["fresh"]


def test_a_saved_grid_and_a_kept_sample_are_the_files_of_the_command_line(desk, capsys):
    for method, args in (("save", dict(n=6, seed=1)), ("keep", dict(first=5, seed=1))):
        answer = asked(desk, method, **args)
        saved = Path(answer.data["saved"])
        before = saved.read_bytes()
        saved.unlink()
        assert main(shlex.split(answer.data["command"])[1:]) == 0
        assert saved.read_bytes() == before
    assert saved.name == "000005.png" and figures.read_recipe(saved)["first"] == 5


def test_live_options_reach_the_model_and_the_command(desk):
    plain = asked(desk, "grid", "ddpm-digits", n=2)
    fewer = asked(desk, "grid", "ddpm-digits", n=2, live=dict(steps=3.0))
    assert fewer.data["command"].endswith("--steps 3") and "steps" not in plain.data["command"]
    assert not np.array_equal(plain.arrays["images"], fewer.arrays["images"])
    with pytest.raises(Refusal, match="steps"):
        asked(desk, "grid", "ddpm-digits", n=2, live=dict(steps="many"))


def test_the_nearest_training_image_is_the_nearest_by_plain_arithmetic(desk):
    answer = asked(desk, "closest", first=3)
    run = desk.run("gan-digits")
    data = run.data
    x = neighbours.grid(run.sample(1, first=3).x.numpy(), data.levels)[0, 0].astype(float)
    known = np.sqrt(((data.x[data.train, 0].astype(float) - x) ** 2).mean((1, 2)))
    assert known.min() == pytest.approx(answer.data["distance"], abs=1e-6)
    assert answer.data["row"] == data.train[known.argmin()]


def test_a_likelihood_is_that_of_the_kept_file(desk, capsys):
    import json

    answer = asked(desk, "likelihood", "pixelcnn-digits", first=2)
    asked(desk, "keep", "pixelcnn-digits", first=2)
    capsys.readouterr()
    assert main([*shlex.split(answer.data["command"])[1:], "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["images"][0]["bits_per_dim"] == answer.data["bits"] and scored["kind"] == answer.data["kind"]
    assert scored["images"][0]["rank"] == answer.data["rank"]
    assert asked(desk, "likelihood", "gan-digits").data["says"] == "no likelihood"


WALKS = [
    ("plane", dict(x=0.5, y=-1.0, n=3, step=0.25, seed=4)),
    ("slide", dict(codes=["3"], along={"1": 1.5, "2": -0.3})),
    ("path", dict(codes=["3", "2:4"], n=5, way="line", loop=True)),
    ("arithmetic", dict(codes=["1", "2"], less=["3"], plus=["4"], strength=0.5)),
    ("tiles", dict(codes=["7", "1:2"])),
]


@pytest.mark.parametrize("run", ["vae-digits", "gan-digits"])
@pytest.mark.parametrize("method, args", WALKS, ids=[w[0] for w in WALKS])
def test_a_walk_has_the_pixels_of_its_command(desk, run, method, args, capsys):
    answer = asked(desk, method, run, **args)
    assert main([*shlex.split(answer.data["command"])[1:], "-o", "cli.npz"]) == 0
    x = np.load("cli.npz")["x"]
    assert np.array_equal(answer.arrays["images"], np.broadcast_to(x, (*x.shape[:3], 3)))


def test_a_path_is_exported_as_its_command_writes_it(desk, capsys):
    for ending in ("gif", "apng"):
        answer = asked(desk, "export", codes=["0", "5", "9"], n=6, loop=True, format=ending, seconds=0.2)
        saved = Path(answer.data["saved"])
        before = saved.read_bytes()
        assert before == answer.arrays["film"].bytes and saved.with_suffix(".json").is_file()
        saved.unlink()
        assert main(shlex.split(answer.data["command"])[1:]) == 0
        assert saved.read_bytes() == before and figures.read_recipe(saved)["loop"] is True


def png(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.mark.parametrize("run", ["vae-digits", "gan-digits"])
def test_an_own_photo_has_a_code_to_reckon_with(desk, run, monkeypatch):
    monkeypatch.setattr("likeness.inference.inversion.STEPS", 4)
    data = desk.run(run).data
    image = data.x[data.held_out[0], 0]
    answer = asked(desk, "own", run, dict(file=png(image)))
    code = answer.data["code"]
    assert np.array_equal(answer.arrays["image"][0, ..., 0], image)
    back = answer.arrays["back"][0].astype(float)
    away = np.sqrt(((back[..., 0] - image) ** 2).mean())
    assert answer.data["error"] == pytest.approx(away, abs=1.0)
    made = asked(desk, "arithmetic", run, codes=[code])
    assert np.array_equal(made.arrays["images"], answer.arrays["back"])
    assert f"samples/{code}" in made.data["command"]


def test_directions_are_saved_used_and_forgotten(desk):
    assert asked(desk, "directions", "vae-digits").data["named"] == []
    saved = asked(desk, "name_direction", "vae-digits", name="round", along={"1": 2.0})
    assert Path(saved.data["saved"]).name == "round.npz"
    by_name = asked(desk, "slide", "vae-digits", codes=["0"], along={"round": 1.0})
    by_number = asked(desk, "slide", "vae-digits", codes=["0"], along={"1": 1.0})
    assert np.array_equal(by_name.arrays["images"], by_number.arrays["images"])
    assert asked(desk, "forget_direction", "vae-digits", name="round").data["named"] == []


def test_the_atlas_of_a_flat_code_is_where_its_encoder_puts_images(desk):
    answer = asked(desk, "atlas", "vae-digits")
    run = desk.run("vae-digits")
    assert answer.arrays["places"].shape == (answer.data["n"], 2) and answer.data["real"]
    x = run.data.take(np.sort(np.random.default_rng(0).permutation(run.data.train)[:2000])[:3]).x
    assert np.allclose(answer.arrays["places"][:3], run.encode(x).numpy(), atol=1e-5)
    with pytest.raises(Refusal, match="--latent 2"):
        asked(desk, "atlas", "gan-digits")


HOSTILE = [
    ("grid", dict(n=10**9)), ("grid", dict(n="64")), ("grid", dict(seed=-1)), ("grid", dict(label=3)),
    ("grid", dict(live=[1])), ("plane", dict(x=float("nan"))), ("plane", dict(n=0)), ("plane", dict(step=0)),
    ("plane", dict(x=1e300)), ("tiles", dict(codes=["/etc/passwd"])), ("tiles", dict(codes=["own/../../x.png"])),
    ("tiles", dict(codes=["own/0123456789abcdef.png"])), ("tiles", dict(codes=["0"] * 65)), ("tiles", dict(codes=[1])),
    ("path", dict(codes=["0"])), ("path", dict(codes=["0", "1"], way="sideways")), ("path", dict(codes=["0"] * 7)),
    ("export", dict(codes=["0", "1"], format="exe")), ("name_direction", dict(name="../../x", along={"1": 1})),
    ("forget_direction", dict(name="../config")), ("slide", dict(codes=["0"], along={"99": 1})),
    ("slide", dict(codes=["0"], along={"1": "far"})), ("arithmetic", dict(codes=[])), ("own", {}),
]  # fmt: skip


@pytest.mark.parametrize("method, args", HOSTILE)
def test_whatever_a_page_may_send_is_a_refusal_at_most(desk, method, args):
    with pytest.raises(Refusal):
        asked(desk, method, **args)
    with pytest.raises(Refusal):
        asked(desk, method, "../elsewhere", **args)


def test_no_text_is_an_image(desk):
    with pytest.raises(Refusal, match="no image"):
        asked(desk, "own", arrays=dict(file=np.frombuffer(b"#!/bin/sh\nexit 0\n" * 9, np.uint8)))
    assert isinstance(Picture(b"", ""), tuple) and walk.MOST


# In a browser


@pytest.fixture
def place(desk: Desk) -> Path:
    return desk.root


@pytest.fixture
def there(browser: Any, place: Path) -> Any:
    """A page on a studio over copies, by the name of a run and what stands in the address."""
    import contextlib

    from studio.conftest import end, start

    served = start(place)

    @contextlib.contextmanager
    def visit(run: str, hash_: str = "", **how: Any) -> Any:
        with opened(browser, served, **how) as page:
            until(lambda: page.evaluate("studio.runs.every(r => r.kind !== 'model' || r.answers.length)"))
            page.evaluate(f"location.hash = '#samples&run={run}{hash_}'")
            page.locator("main[data-samples=ready]").wait_for()
            yield page

    yield visit
    end(served)


def test_it_is_accessible_in_every_tab(there, axe):
    with there("vae-digits") as page:
        for tab in ("Grid", "Plane", "Sliders", "Path", "Arithmetic"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(300)
            assert axe(page) == [], tab
