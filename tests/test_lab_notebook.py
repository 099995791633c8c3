"""The notebook of the lab runs from top to bottom, on embedded data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "docs" / "lab" / "lab.ipynb"


@pytest.mark.skipif(not NOTEBOOK.exists(), reason="installed without its docs")
def test_from_top_to_bottom(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        assert not cell["outputs"] and cell["execution_count"] is None, (
            "it is kept without outputs, which nobody would hold true"
        )
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    matrix = names["matrix"]
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
