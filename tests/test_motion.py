"""What moves is measured: rendered truth is right, and those who know no motion are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from likeness import data as datasets
from likeness.evaluation import captions, clips, scenes


@pytest.fixture(scope="module")
def world():
    data = datasets.load("moving-shapes:60")
    rows = np.arange(40)
    return data, rows, np.array(data.x[rows]), captions.wanted_of(data, rows)


def test_true_clips_move_as_their_texts_say_and_fakes_do_not(world):
    _, _, x, texts = world
    side = x.shape[-1]
    true = clips.motion(scenes.watch(x), texts, side)
    assert true["direction right"].mean() > 0.97 and true["identity kept"].mean() > 0.95
    # a way is off by up to a tenth: of 0.3 and 0.6 sides in 15 steps
    assert true["velocity error"].mean() < 0.1 * 0.6 * side / 15
    still = clips.motion(scenes.watch(clips.static(x)), texts, side)
    assert still["direction right"].mean() < 0.3
    speeds = [math.hypot(*clips.velocity(o, side)) for t in texts for o in t["objects"]]
    assert still["velocity error"].mean() == pytest.approx(np.mean(speeds), rel=0.3)
    loose = clips.motion(scenes.watch(clips.independent(x)), texts, side)
    assert loose["identity kept"].mean() < 0.5 and loose["direction right"].mean() < 0.4


def test_the_velocity_of_a_text_is_that_of_the_drawing(world):
    data, _, x, texts = world
    for row in range(20):
        for o, t in zip(data.attributes[row]["objects"], texts[row]["objects"]):
            v = clips.velocity(t, x.shape[-1])
            assert math.hypot(v[0] - o["vx"], v[1] - o["vy"]) < 0.11 * math.hypot(*v)
    back = [dict(o, direction="left") for o in texts[0]["objects"]]
    assert clips.velocity(back[0], 32)[0] < 0


def test_change_is_the_difference_of_neighbours():
    x = np.zeros((2, 3, 4, 5, 5), np.uint8)
    x[1, :, 1::2] = 10
    assert clips.changes(x).tolist() == [0, 10]
    assert clips.changes(clips.static(x)).tolist() == [0, 0]
    mixed = clips.independent(x)
    assert (mixed[0, :, 1] == 10).all() and (mixed[0, :, 0] == 0).all() and (mixed[0, :, 2] == 0).all()


def test_a_still_of_each_clip_is_one_of_its_frames(world):
    data, _, x, _ = world
    stills = clips.stills(data)
    assert stills.x.shape == (60, 3, 32, 32) and stills.spec.frames == 0
    at = clips.moment(np.arange(60), 16)
    assert all(np.array_equal(stills.x[i], data.x[i, :, at[i]]) for i in range(60)) and len(set(at)) > 8
    assert np.array_equal(clips.some_frames(x), stills.x[:40])
    assert stills.fingerprint != data.fingerprint and np.array_equal(stills.held_out, data.held_out)
