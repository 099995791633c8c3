"""The notebooks of the lab run from top to bottom, on embedded data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

LAB = Path(__file__).parents[1] / "docs" / "lab"
NOTEBOOK = LAB / "lab.ipynb"
FAMILIES = sorted(path.stem for path in LAB.glob("*.ipynb") if path != NOTEBOOK)
FEW = 256
"""images that a model of a notebook sees here"""


MAPPED = 400
"""images in a map"""


def walked(notebook: Path, where: Path, monkeypatch: pytest.MonkeyPatch, images: int) -> dict[str, Any]:
    """The names that a notebook leaves, run in the folder `where` with its budget IMAGES set to `images`."""
    torch.set_num_threads(1)
    monkeypatch.chdir(where)
    monkeypatch.setenv("LIKENESS_CACHE", str(where / "cache"))
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    names: dict[str, Any] = {}
    budgets = 0
    for number, cell in enumerate(cells):
        assert not cell["outputs"] and cell["execution_count"] is None, (
            "it is kept without outputs, which nobody would hold true"
        )
        source = "".join(cell["source"])
        source, changed = re.subn(r"(?m)^IMAGES = .*$", f"IMAGES = {images}", source)
        budgets += changed
        source = re.sub(r"(?m)^N = .*$", f"N = {MAPPED}", source)
        exec(compile(source, f"{notebook.name}, cell {number}", "exec"), names)
    assert budgets == 1
    return names


@pytest.mark.skipif(not NOTEBOOK.exists(), reason="installed without its docs")
def test_from_top_to_bottom(tmp_path, monkeypatch):
    matrix = walked(NOTEBOOK, tmp_path, monkeypatch, 4_000)["matrix"]
    assert matrix.shape == (1797, 64)
    for picture in (
        "map.png",
        "map-points.png",
        "pixels.png",
        "near.png",
        "saliency.png",
        "fooled.png",
        "codes-points.png",
    ):
        assert Image.open(tmp_path / picture).size[0] > 100


@pytest.mark.parametrize("family", FAMILIES)
def test_a_notebook_of_a_family(family, tmp_path, monkeypatch):
    names = walked(LAB / f"{family}.ipynb", tmp_path, monkeypatch, FEW)
    runs = sorted(path.parent.name for path in tmp_path.glob("runs/*/config.json"))
    assert runs, "it trains something"
    if family == "autoregressive":
        assert names["difference"] < 1e-5, "surprise adds up to bits_per_dim"
    if family == "bayes-and-detect":
        total = np.exp(names["by_bayes"]).sum(1)
        assert total == pytest.approx(np.ones_like(total), abs=1e-5)
        assert (tmp_path / "detector" / "scores.json").exists()
    for picture in tmp_path.glob("*.png"):
        assert Image.open(picture).size[0] > 100
