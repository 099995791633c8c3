"""The way from noise to an image: it ends where `sample` does, whatever branches and whatever is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small_run, toy
from likeness import figures
from likeness.api import Trained
from likeness.core import Refusal
from likeness.inference import trajectory
from likeness.inference.trajectory import KEPT, Plan, count, finished, frames, keeps, levels_between
from likeness.parts.schedules import Steps, linear, mixed

DENOISERS = ("ddpm", "edm", "flowmatching", "meanflow", "localscore")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    folder, images = tmp_path_factory.mktemp("runs"), toy(size=8)
    made = {name: Trained(*small_run(name, folder / name, images)) for name in DENOISERS}
    made["told"] = Trained(*small_run("ddpm", folder / "told", images, options=dict(conditional=True)))
    return made


def way(run: Trained, plan: Plan, label: int | None = None) -> list[trajectory.Frame]:
    return list(frames(run.model, plan, run._conditions(plan.number, 1, label)))


@pytest.mark.parametrize(
    "name, live",
    [(name, {}) for name in DENOISERS]
    + [
        ("ddpm", dict(sampler=sampler, steps=5, eta=0.5))
        for sampler in ("ancestral", "ddim", "heun", "dpm2m")
    ]
    + [("told", dict(guidance=3.0, steps=4))],
)
def test_a_way_ends_where_sample_does(runs: dict[str, Trained], name: str, live: dict[str, Any]) -> None:
    run = runs[name]
    kept = way(run, Plan(seed=7, number=1, live=live))
    assert torch.equal(finished(kept[-1], run.model), run.sample(1, seed=7, first=1, **live).x)
    assert [frame.step for frame in kept] == list(range(count(run.model, Plan(live=live)) + 1))
    assert kept[0].at.sigma > 0 == kept[-1].at.sigma


def test_a_branch_shares_what_led_there_and_nothing_else(runs: dict[str, Trained]) -> None:
    run, live = runs["ddpm"], dict(sampler="ddim", steps=8)
    main, other = way(run, Plan(live=live)), way(run, Plan(live=live, branches=((3, 1),)))
    third = way(run, Plan(live=live, branches=((3, 1), (6, 2))))
    assert [f.step for f in main] == [f.step for f in other] == [f.step for f in third] == list(range(9))
    assert all(torch.equal(a.x, b.x) for a, b in zip(main[:3], other))
    assert not any(torch.equal(a.x, b.x) for a, b in zip(main[3:], other[3:]))
    assert all(torch.equal(a.x, b.x) for a, b in zip(other[:6], third))
    assert not torch.equal(other[6].x, third[6].x)
    at, eps = main[3].at, (other[3].x - main[3].at.alpha * main[3].x_0) / main[3].at.sigma
    assert abs(float(eps.mean())) < 0.5 and 0.7 < float(eps.std()) < 1.3 and at == other[3].at


@pytest.mark.parametrize("branches", [((8, 1),), ((3, 1), (3, 2)), ((-1, 0),)])
def test_a_branch_beyond_the_way_is_refused(runs: dict[str, Trained], branches: Any) -> None:
    with pytest.raises(Refusal, match="steps 0 to 7"):
        way(runs["ddpm"], Plan(live=dict(steps=8), branches=branches))


def test_who_takes_no_noise_away_is_refused(tmp_path) -> None:
    with pytest.raises(Refusal, match="ddpm"):
        frames(Trained(*small_run("vae", tmp_path / "v")).model, Plan())


@pytest.mark.parametrize("steps", [1, 50, 99, 100, 101, 250, 1000])
def test_a_hundred_frames_are_kept_with_both_ends(steps: int) -> None:
    kept = [i for i in range(steps + 1) if keeps(i, steps)]
    assert kept[0] == 0 and kept[-1] == steps and len(kept) == min(steps + 1, KEPT)
    assert np.ptp(np.diff(kept)) <= 1


def test_what_is_saved(runs: dict[str, Trained], tmp_path) -> None:
    run, plan = runs["ddpm"], Plan(seed=3, live=dict(steps=6))
    kept = way(run, plan)
    written = trajectory.save(kept, run.model, tmp_path / "w.png", run._recipe(**plan.facts()))
    assert [p.name for p in written] == ["w.png", "w.npz", "w-image.png"]
    assert figures.read_recipe(written[0])["steps"] == 6 and figures.read_recipe(written[2])["whole"]
    saved = np.asarray(Image.open(written[2]))
    assert (saved == figures.pixels(run.sample(1, seed=3, steps=6).x)[0]).all()
    with np.load(written[1]) as file:
        assert file["x_t"].shape == file["x_0"].shape == (7, 1, 1, 8, 8) and file["sigma"][-1] == 0
        assert (file["x_0"][-1, 0, 0] == saved[..., 0]).all()
        assert np.allclose(file["x_t"][2], kept[2].x, atol=2e-3 * float(kept[2].x.abs().max()))
    partial = trajectory.save(kept[:3], run.model, tmp_path / "p.png", {})
    with np.load(partial[1]) as file:
        assert len(partial) == 2 and len(file["t"]) == 3 and not figures.read_recipe(partial[0])["whole"]


def test_levels_evenly_spread_in_log_snr() -> None:
    schedule = Steps(linear(1000))
    levels = levels_between(schedule, -8.0, 8.0, 33)
    assert [level.log_snr for level in levels] == pytest.approx(np.linspace(-8, 8, 33).tolist(), abs=0.02)
    x, eps = torch.randn(2, 1, 1, 4, 4)
    expected = mixed(schedule, x, eps, torch.tensor([levels[9].t]))
    assert torch.allclose(levels[9].alpha * x + levels[9].sigma * eps, expected, atol=1e-6)
