"""A part of an image is given, and the rest is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import ask, refused
from conftest import small_run, toy
from likeness import api, figures
from likeness.cli import main
from likeness.core import Refusal
from likeness.figures import read_recipe
from likeness.inference import complete

TINY = ["--width", "8", "--depth", "1", "--precision", "fp32", "--images", "640", "--no-report"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Runs of two kinds of pixelcnn and of a vae on the digits."""
    torch.set_num_threads(1)
    here = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_CACHE", str(here.parent / "cache"))
        assert main(["train", "pixelcnn", "digits", str(here / "g"), *TINY]) == 0
        assert main(["train", "pixelcnn", "digits", str(here / "c"), "--conditional", *TINY]) == 0
        assert main(["train", "vae", "digits", str(here / "v"), "--latent", "2", *TINY]) == 0
    return here


@pytest.fixture
def here(trained, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in "gcv":
        (tmp_path / name).symlink_to(trained / name)
    return tmp_path


def draw_mask(path: str, known: np.ndarray) -> None:
    Image.fromarray(np.where(known, 255, 0).astype(np.uint8)).save(path)


# From Python


@pytest.fixture
def run(tmp_path) -> api.Trained:
    return api.Trained(*small_run("pixelcnn", tmp_path / "r", toy(size=8)))


def test_what_is_given_keeps_every_bit_and_the_rest_is_drawn(run):
    x = run.data.take(run.data.held_out[:5]).x
    for keep, rows in ((0.0, 0), (0.5, 4), (0.25, 2), (0.9, 7)):
        drawn = run.complete(x, keep=keep, draws=2).x.view(5, 2, 1, 8, 8)
        assert torch.equal(drawn[..., :rows, :], x[:, None, :, :rows].expand(5, 2, 1, rows, 8))
        assert not torch.equal(drawn[..., rows:, :], x[:, None, :, rows:].expand(5, 2, 1, 8 - rows, 8)), (
            "nothing was drawn"
        )
        assert not torch.equal(drawn[:, 0], drawn[:, 1]), "all draws are the same"


def test_draw_k_of_image_i_does_not_depend_on_company(run):
    x = run.data.take(run.data.held_out[:6]).x
    drawn = run.complete(x, draws=3, seed=5).x.view(6, 3, 1, 8, 8)
    fewer = run.complete(x[:2], draws=2, seed=5).x.view(2, 2, 1, 8, 8)
    assert torch.equal(drawn[:2, :2], fewer)
    assert not torch.equal(drawn[:2, :2], run.complete(x[:2], draws=2, seed=6).x.view(2, 2, 1, 8, 8)), (
        "the seed is not used"
    )


def test_draws_in_several_goes_are_those_in_one(run, monkeypatch):
    once = run.complete(n=5, draws=3).x
    monkeypatch.setattr(complete, "AT_ONCE", 4)
    assert torch.allclose(run.complete(n=5, draws=3).x, once)


def test_temperature_changes_draws(run):
    x = run.data.take(run.data.held_out[:1]).x
    same, colder = (run.complete(x, draws=40, temperature=t).x[:, :, 4:] for t in (1.0, 0.01))
    assert float(colder.std(0).mean()) < 0.5 * float(same.std(0).mean())
    assert torch.equal(run.complete(x, draws=40).x[:, :, 4:], same)


def test_images_of_ones_own_are_put_on_the_grid(tmp_path):
    run = api.Trained(*small_run("pixelcnn", tmp_path / "r", toy(size=8, levels=2)))
    drawn = run.complete(torch.full((2, 1, 8, 8), 0.3), keep=0.5).x
    assert set(drawn.unique().tolist()) <= {-1.0, 1.0} and bool((drawn[:, :, :4] == 1).all())


def test_a_mask_in_python(run):
    known = torch.arange(64).view(8, 8) < 19
    x = run.data.take(run.data.held_out[:3]).x
    drawn = run.complete(x, known=known)
    assert torch.equal(drawn.x[:, 0, known], x[:, 0, known]) and drawn.recipe["known"] == 19
    with pytest.raises(Refusal, match=r"shape \(4, 4\), and the images are 8x8"):
        run.complete(x, known=known[:4, :4])
    for keep in (1.0, 0.99):
        with pytest.raises(Refusal, match="nothing is left to draw"):
            run.complete(x, keep=keep)
    for keep in (-0.1, 1.1, float("nan")):
        with pytest.raises(Refusal, match="from 0 to 1"):
            run.complete(x, keep=keep)
    with pytest.raises(Refusal, match=r"an array of \(2, 3, 8, 8\) was given; make it \(B, 1, 8, 8\)"):
        run.complete(torch.zeros(2, 3, 8, 8))


def test_the_picture_shows_original_given_and_draws(run):
    x = run.data.take(run.data.held_out[:2]).x
    drawn = run.complete(x, keep=0.5, draws=2)
    page = complete.page(x, torch.arange(8)[:, None].expand(8, 8) < 4, drawn.x.view(2, 2, 1, 8, 8))
    assert np.array_equal(page, drawn.page)
    tinted = (page == np.array(figures.TINT)).all(-1)
    assert int(tinted.sum()) == 2 * 64 * 32, "half of the two tiles in which something is unknown"
    assert drawn._repr_png_().startswith(b"\x89PNG")


# On the command line


def test_held_out_images_are_completed(here, capsys):
    said = ask(
        capsys,
        "complete",
        "g",
        "-n",
        "3",
        "--draws",
        "2",
        "-o",
        "out.png",
        "--seed",
        "4",
        "--temperature",
        "0.8",
    )
    assert said == dict(
        said, run="g", n=3, draws=2, known=32, seed=4, temperature=0.8, path="out.png", model="pixelcnn"
    )
    assert (
        read_recipe(Path("out.png")).items()
        >= {k: v for k, v in said.items() if k not in ("schema", "path")}.items()
    )
    assert ask(capsys, "complete", "g", "-n", "2")["path"] == "g/samples/completions.png"


def test_images_of_ones_own_in_folders_with_bad_files_among_them(here, capsys):
    (here / "mine" / "deep").mkdir(parents=True)
    for i in range(5):
        Image.fromarray(np.full((20, 20), 40 * i, np.uint8)).save(here / "mine" / "deep" / f"{i}.png")
    (here / "mine" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert main(["complete", "g", "mine", "-n", "4", "--draws", "2", "-o", "all.npy", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["n"] == 4 and "1 skipped" in err and "first 4 of 5 images; -n 5 takes all" in err
    array = np.load("all.npy")
    assert array.shape == (8, 8, 8, 1)
    grid = np.round(np.round(40 * np.arange(4) / 255 * 16) * 255 / 16)  # the digits know 17 levels
    assert np.array_equal(array[::2, :4, :, 0], np.broadcast_to(grid[:, None, None], (4, 4, 8)))
    assert ask(capsys, "complete", "g", "mine/deep/3.png", "-o", "one.png")["n"] == 1


def test_a_mask_says_what_is_given(here, capsys):
    known = np.arange(64).reshape(8, 8) < 27
    draw_mask("mask.png", known)
    assert ask(capsys, "complete", "g", "-n", "2", "--mask", "mask.png", "-o", "m.npy")["known"] == 27
    assert ask(capsys, "complete", "g", "-n", "2", "--keep", "0", "-o", "m.npy")["known"] == 0


def test_what_cannot_be_completed_is_refused_with_a_lesson(here, capsys):
    draw_mask("bottom.png", np.arange(64).reshape(8, 8) >= 32)
    draw_mask("large.png", np.arange(400).reshape(20, 20) < 100)
    draw_mask("all.png", np.ones((8, 8), bool))
    Path("text.png").write_text("no picture")
    cases = {
        (
            "g",
            "--mask",
            "bottom.png",
        ): "in row 1 something is to be drawn before something that is given; let all that is unknown "
        "come last",
        ("g", "--mask", "large.png"): "large.png is 20 pixels wide and 20 high, and the images are 8x8",
        ("g", "--mask", "all.png"): "nothing is left to draw",
        ("g", "--mask", "nothing.png"): "nothing.png cannot be read (No such file",
        ("g", "--mask", "all.png", "--keep", "0.5"): "name one of them",
        ("g", "--keep", "1.5"): "from 0 to 1",
        ("g", "--draws", "0"): "0 is not between 1",
        ("g", "-o", "x.bmp"): "should end in .png or .jpg or .jpeg or .webp or .npy",
        ("g", "nowhere"): "there is no folder, file or set called 'nowhere'",
        ("g", "--label", "3"): "is not class-conditional, so that it has no class 3",
        ("c", "--label", "3"): "held-out images have classes of their own",
        ("g", "--temperature", "0"): "--temperature must be between",
        ("v",): "vae cannot complete an image (likeness complete); it can: draw images (sample), say how ",
    }
    for argv, lesson in cases.items():
        assert lesson in refused(capsys, "complete", *argv), argv
    assert "pixelcnn" in refused(capsys, "complete", "v")
    assert (
        main(["complete", "g", "--mask", "text.png"]) == 65
        and "text.png cannot be used" in capsys.readouterr().err
    )


def test_a_class_conditional_model_is_told_the_class_or_draws_one(here, capsys):
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save("grey.png")
    for label in ("0", "9"):
        ask(capsys, "complete", "c", "grey.png", "--label", label, "--draws", "20", "-o", f"{label}.npy")
    ask(capsys, "complete", "c", "grey.png", "--draws", "20", "-o", "any.npy")
    drawn = {name: np.load(f"{name}.npy") for name in ("0", "9", "any")}
    assert not np.array_equal(drawn["0"], drawn["9"]) and not np.array_equal(drawn["0"], drawn["any"])
    assert "no label 10" in refused(capsys, "complete", "c", "grey.png", "--label", "10")
    assert ask(capsys, "complete", "c", "-n", "2")["n"] == 2
