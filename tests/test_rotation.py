"""Rotation prediction: the four turns and their labels, and an easy set on which they are told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from conftest import small_run, toy
from likeness import engine
from likeness.core import Batch, Noise, Spec
from likeness.models.rotation import Rotation, turns, which
from likeness.training.loop import fit


def test_each_image_is_turned_four_ways_and_labelled_by_its_turn():
    x = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    all_of_them, y = turns(x), which(2, x.device)
    assert y.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and all_of_them.shape == (8, 3, 4, 4)
    for image, turn, row in zip([0, 1] * 4, y.tolist(), all_of_them):
        assert np.array_equal(row.numpy(), np.rot90(x[image].numpy(), turn, (1, 2))), turn


def test_one_that_knows_nothing_loses_log_4():
    model = Rotation(spec=Spec(1, 16), width=4)
    torch.nn.init.zeros_(model.head[-1].weight)
    torch.nn.init.zeros_(model.head[-1].bias)
    loss = model.loss(Batch(torch.zeros(5, 1, 16, 16), None, Noise(range(5))))
    assert (
        abs(float(loss.total.detach()) - math.log(4)) < 1e-6
        and abs(float(loss.terms["chance"]) - math.log(4)) < 1e-6
    )


def test_it_tells_the_turns_of_images_that_are_light_above(tmp_path):
    rng = np.random.default_rng(0)
    light = np.linspace(200, 40, 16)[None, None, :, None] + rng.normal(0, 20, (200, 1, 16, 16))
    data = replace(toy(200), x=light.clip(0, 255).astype(np.uint8))
    run, _ = small_run("rotation", tmp_path, data, images=3200, batch=32, rate=3e-3, ema=300)
    (_, before, _), *_ = run.model.diagnose(engine.put(data.take(data.held_out)))
    list(fit(run, data))
    (_, right, warning), *_ = run.model.diagnose(engine.put(data.take(data.held_out)))
    assert before < 0.6 and right > 0.95 and not warning


def test_noise_that_has_no_way_up_is_said_to_have_none(tmp_path):
    data = replace(
        toy(200, held_out=100), x=np.random.default_rng(0).integers(0, 256, (200, 1, 16, 16), dtype=np.uint8)
    )
    run, _ = small_run("rotation", tmp_path, data, images=160)
    list(fit(run, data))
    (_, right, warning), *_ = run.model.diagnose(engine.put(data.take(data.held_out)))
    assert abs(right - 0.25) < 0.1 and "no way up" in warning
