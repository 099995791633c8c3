"""An image that is drawn sub-pixel by sub-pixel: against enumeration, the model's own likelihood, and what
`sample` and `complete` draw."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from conftest import small_run, toy
from likeness import figures
from likeness.api import Trained
from likeness.core import Batch, Noise, Predicts, Refusal, Spec, answers
from likeness.inference.pixel_by_pixel import Drawing, Place, Plan, possible, save
from likeness.models import load
from likeness.parts.conditionals import level
from test_autoregressive import COLOUR, drawn, every_image, every_model, log_probabilities, make


@every_model
def test_what_is_predicted_adds_up_to_the_bits(name: str, options: dict[str, Any]) -> None:
    """Sum of -log2 p of the levels that stand there = bits_per_dim, of images that nobody changes."""
    spec = Spec(3, 4, levels=5)
    model, x = make(name, spec, options), drawn(spec, 3)
    asked = torch.stack([logits.log_softmax(-1) for logits in model.predictive(x.clone())], 1)
    assert asked.shape == (3, spec.dims, spec.levels)
    k = level(x, spec.levels).permute(0, 2, 3, 1).flatten(1)
    nats = -asked.gather(2, k[..., None]).sum((1, 2))
    bits = model.bits_per_dim(Batch(x, None, Noise(range(3)))).values
    assert torch.allclose(nats / math.log(2) / spec.dims, bits, rtol=1e-9)
    later = torch.stack([logits.log_softmax(-1) for logits in model.predictive(x.clone(), 6)], 1)
    assert torch.allclose(later, asked[:, 6 * 3 :], atol=1e-9)


@every_model
def test_what_is_predicted_is_the_ratio_of_sums_over_all_images(name: str, options: dict[str, Any]) -> None:
    """p(x_i = k | before) = sum of p(x) over the images that agree so far, and have k there, over those that
    agree; by enumeration of 2x2 pixels of three channels."""
    model, every = make(name, COLOUR, options), every_image(COLOUR)
    p = log_probabilities(model, every).exp()
    k = level(every, 2).permute(0, 2, 3, 1).flatten(1)
    x = every[1234:1235].clone()
    for place, logits in enumerate(model.predictive(x)):
        agree = (k[:, :place] == k[1234, :place]).all(1)
        expected = torch.stack([p[agree & (k[:, place] == one)].sum() for one in (0, 1)]) / p[agree].sum()
        assert torch.allclose(logits[0].softmax(-1), expected, atol=1e-9)
        at = Place.number(place, 3, 2)
        assert torch.allclose(possible(model, x, at)[0].exp(), expected, atol=1e-9)


def test_who_answers() -> None:
    assert "predictive" in answers(load("pixelcnn")) and "predictive" not in answers(load("ddpm"))
    assert issubclass(load("imagegpt"), Predicts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    images = toy(size=6, levels=256, channels=3)
    return Trained(*small_run("pixelcnn", tmp_path_factory.mktemp("runs") / "p", images))


def drawing(run: Trained, plan: Plan, **how: Any) -> Drawing:
    return Drawing(run.model, plan, run._conditions(plan.number, 1, None), **how)


def test_a_drawing_ends_at_what_sample_draws(run: Trained) -> None:
    for number in (0, 3):
        done = drawing(run, Plan(seed=5, number=number)).to(10**9)
        assert done.done and torch.equal(done.x, run.sample(1, seed=5, first=number).x)
    cold = drawing(run, Plan(seed=5, heat=((0, 0.5),))).to(10**9)
    assert torch.equal(cold.x, run.sample(1, seed=5, temperature=0.5).x)


def test_its_bits_are_those_of_score(run: Trained) -> None:
    done = drawing(run, Plan(seed=1)).to(10**9)
    scored = run.score(done.x)
    assert done.total[0] / run.config.spec.dims == pytest.approx(scored.bits[0], abs=1e-4)
    assert scored.surprise is not None and scored.entropy is not None
    assert torch.allclose(done.bits, scored.surprise, atol=1e-3)
    assert torch.allclose(done.entropy, scored.entropy, atol=1e-3)


def test_interrupted_and_resumed_it_is_the_same(run: Trained) -> None:
    plan = Plan(seed=2, heat=((0, 1.0), (40, 0.7)))
    whole = drawing(run, plan).to(10**9)
    for k in (1, 18, 55):
        half = drawing(run, plan).to(k)
        assert half.place == k and (half.levels == np.where(half.drawn, whole.levels, -1)).all()
        again = drawing(run, plan)
        order = half.levels[0].transpose(1, 2, 0).ravel()
        for at in range(k):
            again.put(torch.tensor([order[at]]))
        assert torch.equal(again.to(10**9).x, whole.x)
    other = drawing(run, Plan(seed=2)).to(10**9).levels[0].transpose(1, 2, 0).ravel()
    mine = whole.levels[0].transpose(1, 2, 0).ravel()
    assert (other[:40] == mine[:40]).all() and (other[40:] != mine[40:]).any()


def test_a_fixed_sub_pixel_stays_and_what_comes_before_does_not_know(run: Trained) -> None:
    free = drawing(run, Plan(seed=3)).to(10**9).levels[0].transpose(1, 2, 0).ravel()
    at = 31
    done = drawing(run, Plan(seed=3, fixed={at: 255 - int(free[at])})).to(10**9)
    kept = done.levels[0].transpose(1, 2, 0).ravel()
    assert kept[at] == 255 - free[at] and (kept[:at] == free[:at]).all()
    scored = run.score(done.x)
    assert done.total[0] / run.config.spec.dims == pytest.approx(scored.bits[0], abs=1e-4)


def test_branches_are_what_complete_draws(run: Trained) -> None:
    start, known = run.data.take(np.arange(1)).x[0], 20
    plan = Plan(seed=4, known=known, start=start)
    done = Drawing(run.model, plan, None, draws=4).to(10**9)
    mask = (torch.arange(36) < known).view(6, 6)
    assert torch.equal(done.x, run.complete(start[None], known=mask, draws=4, seed=4).x)
    assert done.total / 108 == pytest.approx(run.score(done.x).bits, abs=1e-4)


def test_what_is_saved_says_all_of_it(run: Trained, tmp_path) -> None:
    done = drawing(run, Plan(seed=6, fixed={3: 7})).to(50)
    picture, numbers = save(done, tmp_path / "a" / "x.png", run._recipe())
    recipe = figures.read_recipe(picture)
    assert recipe["seed"] == 6 and recipe["fixed"] == {"3": 7} and recipe["drawn"] == 50
    with np.load(numbers) as kept:
        assert kept["levels"].shape == kept["nats"].shape == (3, 6, 6)
        assert (kept["levels"] >= 0).sum() == 50 and kept["order"][7].tolist() == [0, 2, 1]
        assert np.nansum(kept["nats"]) / math.log(2) == pytest.approx(recipe["bits"], rel=1e-5)
        assert json.loads(str(kept["recipe"]))["run"] == "p"


@pytest.mark.parametrize(
    "plan, says",
    [
        (Plan(known=36), "something must be left"),
        (Plan(known=3), "image of shape"),
        (Plan(fixed={108: 0}), "sub-pixels 0 to 107"),
        (Plan(fixed={0: 256}), "levels 0 to 255"),
        (Plan(heat=((0, 0.0),)), "between 0.01 and 100"),
    ],
)
def test_what_does_not_fit_is_refused(run: Trained, plan: Plan, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        drawing(run, plan)


def test_another_model_is_refused_by_who_can(tmp_path) -> None:
    other = Trained(*small_run("vae", tmp_path / "v"))
    with pytest.raises(Refusal, match="pixelcnn"):
        drawing(other, Plan())
