"""Clips whose truth is known: what is drawn is where the attributes say, at every size, and the combinations
that are held out are in no training example."""

import numpy as np
import pytest

from likeness.core import BadData, Refusal
from likeness.data import load, moving_shapes, shapes
from likeness.data.split import without_new
from likeness.data.writer import as_colour


def test_centres_of_mass_move_as_the_attributes_say():
    clips = moving_shapes.invent(200, 32)
    x = np.concatenate(list(moving_shapes.draw(clips)))
    assert x.shape == (200, 3, 16, 32, 32) and x.dtype == np.uint8
    axis = np.arange(32) + 0.5
    alone = np.flatnonzero((clips.many == 1) & (clips.form[:, 0] != shapes.FORMS.index("star")))[:40]
    for i in alone:
        truth = clips[int(i)]["objects"][0]
        weight = np.abs(x[i].astype(float) - x[i][:, :1, :1, :1]).sum(0)
        mass = weight.sum((1, 2))
        for name, sums in (("x", weight.sum(1) @ axis), ("y", weight.sum(2) @ axis)):
            assert np.abs(sums / mass - truth[name]).max() < 0.25
        v = np.array([truth["vx"], truth["vy"]])
        k = moving_shapes.DIRECTIONS.index(truth["direction"])
        way = moving_shapes.SPEEDS[truth["speed"]] * 32 / 15
        assert np.allclose(v / np.hypot(*v), [np.cos(k * np.pi / 4), np.sin(k * np.pi / 4)], atol=1e-3)
        assert abs(np.hypot(*v) / way - 1) <= moving_shapes.VARIED + 1e-3


def test_objects_stay_inside_and_apart_and_differ_in_colour():
    clips = moving_shapes.invent(3000, 32)
    r, path = clips.radius / 32, clips.path
    there = np.arange(2) < clips.many[:, None]
    inside = (path >= r[..., None, None] - 1e-9) & (path <= 1 - r[..., None, None] + 1e-9)
    assert inside.all((2, 3))[there].all()
    two = clips.many == 2
    gap = np.hypot(*np.moveaxis(path[:, 0] - path[:, 1], -1, 0)).min(1) - r.sum(1)
    assert gap[two].min() >= moving_shapes.GAP - 1e-9 and 0.4 < two.mean() < 0.5
    assert (clips.colour[:, 0] != clips.colour[:, 1])[two].all()


def test_a_clip_is_a_function_of_its_number_and_a_window_draws_what_the_whole_does(monkeypatch):
    few, many = moving_shapes.invent(5, 32), moving_shapes.invent(50, 32)
    assert few[3] == many[3] and moving_shapes.invent(5, 32, seed=1)[3] != few[3]
    a = np.concatenate(list(moving_shapes.draw(many, most=7)))
    assert np.array_equal(a, np.concatenate(list(moving_shapes.draw(many))))
    monkeypatch.setattr(moving_shapes.np, "ceil", lambda v: np.float64(40))  # windows of the whole picture
    assert np.array_equal(a, np.concatenate(list(moving_shapes.draw(many))))


def test_it_is_a_set_with_a_name():
    data = load("moving-shapes:60")
    assert data.spec.shape == (3, 16, 32, 32) and data.spec.vocabulary > 20 and data.spec.labels == 8
    assert isinstance(data.x, np.memmap) and "60 clips" in data.verdict
    first = data.attributes[0]["objects"][0]
    assert f"{first['colour']} {first['shape']} moving {first['speed']} {first['direction']}" in data.texts[0]
    assert load("moving-shapes:12", size=20).x.shape == (12, 3, 16, 20, 20)
    grey = load("moving-shapes:12", colour="grey")
    assert np.array_equal(grey.x[:, 0], as_colour(np.array(load("moving-shapes:12").x), "grey")[:, 0])
    assert np.array_equal(grey.x[:, :, 3], as_colour(np.array(load("moving-shapes:12").x[:, :, 3]), "grey"))
    with pytest.raises(Refusal, match="moving-shapes:50000"):
        load("moving-shapes:many")


@pytest.mark.parametrize(
    "name, pair", [("shapes", ("shape", "colour")), ("moving-shapes", ("shape", "direction"))]
)
def test_new_combinations_are_in_no_other_part(name, pair):
    whole, data = load(f"{name}:600"), load(f"{name}:600:combinations")
    assert whole.combinations is None and whole.fingerprint != data.fingerprint
    assert np.array_equal(whole.x, data.x)

    def seen(rows):
        return {tuple(o[k] for k in pair) for i in rows for o in data.attributes[int(i)]["objects"]}

    parts = data.train, data.held_out, data.combinations
    assert sum(map(len, parts)) == 600 and len(np.unique(np.concatenate(parts))) == 600
    new = seen(data.combinations) - seen(data.train)
    assert len(new) == 8 and not new & seen(data.held_out)
    assert all(seen([i]) & new for i in data.combinations)
    for k in (0, 1):  # each attribute alone is learnt
        assert {c[k] for c in seen(data.train)} == {c[k] for c in seen(range(600))}
    assert set(data.train) <= set(whole.train) and set(data.held_out) <= set(whole.held_out)
    assert "more are of combinations that are never learnt" in data.verdict


def test_a_set_without_combinations_has_none_to_hold_out():
    with pytest.raises(Refusal, match="faces:50000"):
        load("faces:100:combinations")
    with pytest.raises(BadData, match="ask for more"):
        without_new(np.array([0]), np.array([1]), np.array([True, False]))
