"""Runs that version 0.1 made before a batch had a Condition open, sample the same images and go on as it would have.

`old_runs/` holds two of them as they were written at image 256, the samples that version drew, and what it came to at image
512: a class-conditional VAE, and a model file of a user's own that imports `likeness.core`, `likeness.noise` and
`likeness.parts` and takes classes as tensors.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import likeness
from likeness import engine, storage

HERE = Path(__file__).parent / "old_runs"
EXPECTED = json.loads((HERE / "expected.json").read_text())


def digest(state: dict[str, torch.Tensor]) -> str:
    out = hashlib.sha256()
    for name in sorted(state):
        out.update(name.encode())
        out.update(state[name].contiguous().numpy().tobytes())
    return out.hexdigest()


@pytest.fixture(params=["vae", "mine"])
def run(request, tmp_path) -> Path:
    shutil.copytree(HERE / request.param, tmp_path / request.param)
    return tmp_path / request.param


def same_machine(folder: Path) -> bool:
    """Whether bits must be equal: the run's torch, instructions and threads are those here."""
    return not engine.match(likeness.open(folder).config.facts)


def test_it_opens_and_samples_the_same(run):
    x = likeness.open(run).sample(6, seed=1).x.numpy()
    there = np.load(HERE / f"{run.name}-samples.npy")
    assert np.array_equal(x, there) if same_machine(run) else np.allclose(x, there, atol=1e-4)


def test_it_goes_on_as_it_would_have(run, monkeypatch):
    want, exact = EXPECTED[run.name], same_machine(run)
    model = str(HERE / "mine" / "method.py") if run.name == "mine" else run.name
    likeness.train(model, "digits", run, images=512, progress=False)
    state, facts, _ = storage.newest(run / "state")
    assert facts["seen"] == 512
    if exact:
        assert digest(state) == want["sha256"]
    norms = {name: float(state[name].double().norm()) for name in want["norms"]}
    assert norms == pytest.approx(want["norms"], rel=1e-3, abs=1e-6)
    assert [line["losses"] for line in likeness.open(run).log()] == [
        pytest.approx(losses, rel=1e-3) for losses in want["losses"]
    ]
