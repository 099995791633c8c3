"""The ending of -o decides what is written, wherever that makes sense."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from likeness import figures
from likeness.cli import main
from likeness.cli.arguments import target
from likeness.core import Refusal
from likeness.reports.notebook import PICTURES, Pictures


@pytest.fixture
def pictures() -> Pictures:
    return Pictures(torch.linspace(-1, 1, 3 * 64).view(3, 1, 8, 8), dict(run="r", seed=4))


def test_images_are_written_as_their_ending_says(tmp_path, pictures):
    for ending in PICTURES:
        pictures.save(tmp_path / f"x{ending}")
    want = np.load(tmp_path / "x.npy")
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(file["x"], want) and json.loads(str(file["recipe"])) == dict(run="r", seed=4)
    assert want.shape == (3, 8, 8, 1) and len(list((tmp_path / "x").glob("*.png"))) == 3
    assert all(figures.read_recipe(tmp_path / f"x{e}")["seed"] == 4 for e in figures.ENDINGS)
    with Image.open(tmp_path / "x.png") as png, Image.open(tmp_path / "x.webp") as webp:
        assert np.array_equal(np.asarray(png.convert("RGB")), np.asarray(webp)), "lossless"
        assert json.loads(webp.getexif()[0x010E])["run"] == "r"
    with Image.open(tmp_path / "x.png") as png, Image.open(tmp_path / "x.jpg") as jpg:
        assert png.size == jpg.size and json.loads(jpg.info["comment"])["seed"] == 4
    with pytest.raises(Refusal, match=r"\.npz, or into a folder"):
        pictures.save(tmp_path / "x.bmp")


def test_a_map_may_be_named_by_its_page_or_its_coordinates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for ending in (".html", ".npz"):
        assert main(["map", "digits", "-n", "40", "--method", "pca", "-o", f"maps/m{ending}"]) == 0
        assert {".png", ".html", ".npz"} <= {p.suffix for p in (tmp_path / "maps").iterdir()}
    assert main(["map", "digits", "-o", "m.pdf"]) == 2
    assert "should end in .png or .jpg or .jpeg or .webp or .html or .npz" in capsys.readouterr().err


def test_an_ending_may_be_in_capitals(tmp_path, pictures):
    assert target(Path("X.PNG"), Path("y.png"), ".png") == Path("X.PNG")
    for ending, kind in ((".PNG", "PNG"), (".JPG", "JPEG"), (".WebP", "WEBP")):
        with Image.open(pictures.save(tmp_path / f"X{ending}")) as image:
            assert image.format == kind
    assert np.load(pictures.save(tmp_path / "X.NPY")).shape == (3, 8, 8, 1)


def test_a_recipe_is_read_only_where_there_is_one(tmp_path):
    image = np.zeros((4, 4), np.uint8)
    for name, file in (("x.jpg", figures.jpeg(image, {"n": 1})), ("x.webp", figures.webp(image, {"n": 1}))):
        path = tmp_path / name
        for cut in range(0, len(file), 7):  # a damaged file is refused, and never a traceback
            path.write_bytes(file[:cut])
            with contextlib.suppress(Refusal):
                figures.read_recipe(path)
        Image.fromarray(image).save(path)
        with pytest.raises(Refusal, match="carries no recipe"):
            figures.read_recipe(path)


def test_a_picture_too_large_for_its_format_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"WebP allows 16,383 a side; name a \.png"):
        figures.write(tmp_path / "x.webp", np.zeros((1, 16_384), np.uint8), {})
    assert not list(tmp_path.iterdir())
