"""The ending of -o decides what is written, wherever that makes sense."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from likeness.cli import main
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
    assert "should end in .png or .html or .npz" in capsys.readouterr().err
