"""kill -9 at any moment, also in the middle of a save, loses nothing but time."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
from pathlib import Path

import pytest
import torch

from conftest import small_run, toy
from likeness import models
from likeness.runs.run import CONFIG, Run
from likeness.training.loop import fit
from lives import images, live

KILLS = 4
"""of each model; every other one falls into a save"""


def one_life(name: str, folder: Path, rng: random.Random, in_a_save: bool) -> None:
    """Start a process that trains, and kill it: at a random moment, or at a random place within the saving of
    a state."""
    context = multiprocessing.get_context("forkserver")
    # torch's optimisers import the last, which takes longer than a life
    context.set_forkserver_preload(
        ["likeness.training.loop", "likeness.runs.run", "conftest", "torch._dynamo"]
    )
    here, there = context.Pipe()
    process = context.Process(
        target=live, args=(name, folder, 0.0, there, rng.randint(1, 30) if in_a_save else 0)
    )
    process.start()
    assert here.poll(60), "it never began to train"
    here.recv()
    time.sleep(rng.uniform(0.0, 0.12))
    if in_a_save:
        assert here.poll(60), "it never came to save"
    process.kill()
    process.join(30)
    assert not in_a_save or list((folder / "state").glob("*.tmp-*")), (
        "a save was killed and left nothing half-written: where was it?"
    )


@pytest.mark.parametrize("name", models.NAMES)
def test_killed_at_random_moments_it_ends_in_the_same_bits(name, tmp_path):
    straight, data = small_run(name, tmp_path / "straight", toy(size=8), images=images(name))
    list(fit(straight, data))
    rng, folder = random.Random(name), tmp_path / "killed"
    for number in range(KILLS):
        one_life(name, folder, rng, in_a_save=number % 2 == 1)
    seen = Run.open(folder).seen if (folder / CONFIG).exists() else 0
    assert seen < images(name), (
        "it was done before the last kill: more steps are needed for this test to mean anything"
    )
    last = Run.resume(folder)
    assert len(list(itertools.islice(fit(last, data, save_every=1e9), 10**6))) > 0
    one, two = straight.tensors(), last.tensors()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert [dict(s, time=0) for s in straight.log()] == [dict(s, time=0) for s in last.log()]
    assert not list((folder / "state").glob("*.tmp-*"))
