"""Small data and small runs for every test; one thread, so that bits do not depend on the machine's cores."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import likeness  # noqa: F401  (sets the environment before torch is imported)
from likeness import engine, models
from likeness.data import Data
from likeness.runs.run import Config, Run

SMALL = dict(latent=8, width=8, hidden=32, depth=1, scale=0.25, steps=3, blocks=1, pool=8)
"""options by name, for any model that has them"""

OWN: dict[str, dict] = {"faststyle": dict(network="random", style_size=32), "adain": dict(network="random")}
"""options of one model, so that it needs no file"""


def toy(n: int = 64, size: int = 16, channels: int = 1, levels: int = 256, held_out: int = 16) -> Data:
    """Discs and squares of random place and brightness."""
    rng = np.random.default_rng(0)
    grid = np.arange(size)
    cx, cy = rng.uniform(size / 4, size * 3 / 4, (2, n, 1, 1))
    r, label = rng.uniform(size / 8, size / 4, (n, 1, 1)), rng.integers(0, 2, n)
    dx, dy = np.abs(grid[None, None, :] - cx), np.abs(grid[None, :, None] - cy)
    inside = np.where(label[:, None, None] == 0, dx**2 + dy**2 < r**2, np.maximum(dx, dy) < r)
    shade = rng.integers(128, 256, (n, channels, 1, 1)) if levels == 256 else 255
    x = (inside[:, None] * shade * np.ones((1, channels, 1, 1))).astype(np.uint8)
    return Data(
        "toy",
        "toy-1",
        x,
        np.arange(held_out, n),
        np.arange(held_out),
        y=label,
        classes=("disc", "square"),
        levels=levels,
    )


def moving(data: Data, frames: int = 3) -> Data:
    """Clips in which each image of the set moves to the right, by a pixel a frame."""
    return replace(data, x=np.stack([np.roll(data.x, k, -1) for k in range(frames)], 2))


def suited(name: str, data: Data) -> Data:
    """Clips for a model of videos.  With another image for each, its negative of half the brightness, where
    the model needs one; and of half the size, where it enlarges."""
    if models.load(name).videos and not data.spec.frames:
        return moving(data)
    if not models.load(name).needs or data.spec.source[0]:
        return data
    return data.with_pairs(255 - (data.x[..., ::2, ::2] if name == "superres" else data.x) // 2)


def small_run(
    name: str, folder: Path, data: Data | None = None, *, options: dict | None = None, **training: object
) -> tuple[Run, Data]:
    """A run of a small version of the model, in fp32."""
    kind, data = models.load(name), suited(name, data or toy())
    known = {f.name: f.default for f in fields(kind)}
    settings = replace(
        kind.defaults, **(dict(images=128, batch=16, precision="fp32", warmup=32, ema=64) | training)
    )
    chosen = {k: v for k, v in SMALL.items() if k in known and type(v) is type(known[k])}
    chosen |= OWN.get(name, {}) | (options or {})
    source, options = dict(source="toy", fingerprint="toy-1"), kind(spec=data.spec, **chosen).options()
    config = Config(name, data.spec, settings, options, source, engine.facts(), classes=list(data.classes))
    return Run.create(folder, config), data


@pytest.fixture(autouse=True)
def one_thread(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    here = tmp_path_factory.getbasetemp()
    # a feature network is trained once for all workers
    shared = here.parent if "PYTEST_XDIST_WORKER" in os.environ else here
    monkeypatch.setenv("LIKENESS_CACHE", str(shared / "cache"))
