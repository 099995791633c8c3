"""likeness trace: what the screens of the studio do, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from conftest import small_run, toy
from likeness import cli, figures
from likeness.core import Refusal


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, images = tmp_path_factory.mktemp("runs"), toy(size=6, channels=3)
    for name in ("pixelcnn", "ddpm", "vae"):
        run, _ = small_run(name, folder / name, images if name == "pixelcnn" else toy(size=8))
        run.save()
    return folder


def say(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert cli.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_pixels(runs: Path, tmp_path: Path, capsys) -> None:
    run, out = str(runs / "pixelcnn"), str(tmp_path / "a.png")
    done = say(capsys, "trace", run, "--seed", "3", "--number", "1", "-o", out)
    sample = likeness.open(runs / "pixelcnn").sample(1, seed=3, first=1)
    assert (np.asarray(Image.open(out)) == figures.pixels(sample.x)[0]).all() and done["upto"] == 108
    with np.load(tmp_path / "a.npz") as kept:
        free = kept["levels"]
    fixed = ["--fix", f"2,3,1={255 - free[0, 1, 2]}", "--heat", "4,1=0.5"]
    say(capsys, "trace", run, "--seed", "3", "--number", "1", *fixed, "-o", out)
    with np.load(tmp_path / "a.npz") as kept:
        assert kept["levels"][0, 1, 2] == 255 - free[0, 1, 2]
        assert (kept["levels"][:, 0] == free[:, 0]).all()
        recipe = json.loads(str(kept["recipe"]))
    assert recipe["heat"] == [[0, 1.0], [54, 0.5]] and list(recipe["fixed"]) == [str((6 + 2) * 3)]
    done = say(capsys, "trace", run, out, "--known", "12", "--until", "40", "-o", str(tmp_path / "b.png"))
    with np.load(tmp_path / "b.npz") as more, np.load(tmp_path / "a.npz") as kept:
        assert done["upto"] == 40 and (more["levels"][:, :2] == kept["levels"][:, :2]).all()


def test_frames(runs: Path, tmp_path: Path, capsys) -> None:
    run, out = str(runs / "ddpm"), tmp_path / "w.png"
    done = say(
        capsys,
        "trace",
        run,
        "--seed",
        "4",
        "--sampler",
        "ddim",
        "--steps",
        "6",
        "--branch",
        "2=9",
        "-o",
        str(out),
    )
    assert [Path(p).name for p in done["paths"]] == ["w.png", "w.npz", "w-image.png"] and done[
        "branches"
    ] == [[2, 9]]
    plain = say(
        capsys,
        "trace",
        run,
        "--seed",
        "4",
        "--sampler",
        "ddim",
        "--steps",
        "6",
        "-o",
        str(tmp_path / "v.png"),
    )
    assert plain["branches"] == []
    with np.load(tmp_path / "w.npz") as one, np.load(tmp_path / "v.npz") as other:
        assert (one["x_t"][:2] == other["x_t"][:2]).all() and (one["x_t"][2:] != other["x_t"][2:]).any()


@pytest.mark.parametrize(
    "words, says",
    [
        (["vae"], "pixelcnn"),
        (["ddpm", "--known", "3"], "pixel by pixel"),
        (["pixelcnn", "--branch", "1=2"], "--known"),
        (["pixelcnn", "--fix", "1,7,1=0"], "up to 6,6,3"),
        (["pixelcnn", "--fix", "1,1,1=x"], "no whole number"),
        (["pixelcnn", "--heat", "1,1=x"], "no number"),
        (["pixelcnn", "--fix", "1,1,1=300"], "levels 0 to 255"),
        (["ddpm", "--branch", "x"], "STEP=SEED"),
        (["ddpm", "--branch", "99=1"], "steps 0 to"),
    ],
)
def test_what_cannot_be_traced_is_refused(runs: Path, words: list[str], says: str, capsys) -> None:
    assert cli.main(["trace", str(runs / words[0]), *words[1:]]) == 2
    assert says in capsys.readouterr().err


def test_in_python(runs: Path) -> None:
    run = likeness.open(runs / "pixelcnn")
    traced = run.trace(seed=2)
    assert torch.equal(traced.x, run.sample(1, seed=2).x) and "108 sub-pixels" in traced.says
    with pytest.raises(Refusal):
        run.trace(steps=3)
