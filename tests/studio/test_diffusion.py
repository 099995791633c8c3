"""Diffusion: the server's side against the command line's own functions, and the page by keys and pointer."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from likeness import figures
from likeness.core import Refusal
from likeness.inference import diffusion_process
from likeness.parts.schedules import mixed
from likeness.studio.screens import diffusion
from likeness.studio.worker import Desk

RUN = "ddpm-digits"


@pytest.fixture(scope="module")
def desk(runs: Path) -> Desk:
    return Desk(runs)


def every(desk: Desk, method: str, args: dict[str, Any] | None = None, **arrays: np.ndarray) -> list[Any]:
    return list(diffusion.ASKS[method](desk, dict(run=RUN) | (args or {}), arrays))


def one(desk: Desk, method: str, args: dict[str, Any] | None = None, **arrays: np.ndarray) -> Any:
    return every(desk, method, args, **arrays)[-1]


def frames(answers: list[Any], lane: int = 0) -> tuple[list[int], np.ndarray]:
    """Steps and x_t of a lane."""
    rows = [
        (row["step"], a.arrays["x"][i])
        for a in answers
        for i, row in enumerate(a.data["frames"])
        if row["lane"] == lane
    ]
    return [step for step, _ in rows], np.stack([x for _, x in rows])


def test_about(desk: Desk) -> None:
    about = one(desk, "about")
    assert {"ddim", "heun"} <= set(about.data["samplers"]) and about.data["usual"]["steps"] > 0
    snr = about.arrays["log_snr"]
    assert len(snr) == diffusion.TABLE and (np.diff(snr) > 0).all()


def test_forward_is_the_library_s_closed_form(desk: Desk) -> None:
    about, given = one(desk, "about").arrays, one(desk, "forward", dict(held=2, seed=3)).arrays
    schedule = desk.run(RUN).model.schedule
    for i in (0, 100, 256, 400, 512):
        mine = about["alpha"][i] * given["x_0"] + about["sigma"][i] * given["eps"]
        x_0, eps = (torch.from_numpy(given[name])[None] for name in ("x_0", "eps"))
        library = mixed(schedule, x_0, eps, torch.tensor([float(about["t"][i])], dtype=torch.float64))
        assert np.abs(mine - library[0].numpy()).max() < 1e-3


def test_reverse_ends_at_what_sample_draws_in_each_lane(desk: Desk) -> None:
    lanes = [dict(sampler="ddim", steps=10, eta=0.5), dict(sampler="heun", steps=4)]
    answers = every(desk, "reverse", dict(seed=5, lanes=lanes))
    run = desk.run(RUN)
    for i, lane in enumerate(lanes):
        steps, x = frames(answers, i)
        assert steps == list(range(lane["steps"] + 1))
        assert np.array_equal(x[-1].clip(-1, 1), run.sample(1, seed=5, **lane).x[0].numpy())
    assert np.array_equal(frames(answers, 0)[1][0], frames(answers, 1)[1][0]), "both begin at one noise"
    assert answers[-1].data["share"] == 1 and answers[-1].data["counts"] == [11, 5]


def test_what_was_missed_is_sent_again(desk: Desk) -> None:
    ask = dict(seed=5, lanes=[dict(sampler="ddim", steps=10)])
    _, x = frames(every(desk, "reverse", ask))
    again = one(desk, "again", ask | dict(first=3))
    assert [row["step"] for row in again.data["frames"]] == list(range(3, 11))
    assert np.array_equal(again.arrays["x"], x[3:])
    other = one(desk, "again", ask | dict(seed=6))
    assert other.data["frames"] == [] and other.data["counts"] == [0]


def test_a_branch_shares_what_came_before(desk: Desk) -> None:
    lane = dict(sampler="ddim", steps=10)
    _, main = frames(every(desk, "reverse", dict(lanes=[lane])))
    _, other = frames(every(desk, "reverse", dict(lanes=[lane | dict(branches=[[6, 1]])])))
    assert np.array_equal(main[:6], other[:6]) and not np.isclose(main[6:], other[6:]).all()


def test_of_many_steps_a_hundred_frames_are_kept(desk: Desk) -> None:
    steps, _ = frames(every(desk, "reverse", dict(lanes=[dict(sampler="ddim", steps=120)])))
    assert len(steps) == 100 and steps[0] == 0 and steps[-1] == 120


def test_a_way_that_is_cancelled_keeps_its_frames(desk: Desk) -> None:
    ask = dict(seed=8, lanes=[dict(sampler="ddim", steps=100)])
    way = diffusion.reverse(desk, dict(run=RUN) | ask, {})
    seen = sum(len(a.data["frames"]) for a in islice(way, 3))
    way.close()
    assert 0 < seen < 100
    saved = one(desk, "keep", ask)
    with np.load(saved.data["paths"][1]) as file:
        assert len(file["t"]) == seen == saved.data["frames"]
    assert (
        len(saved.data["paths"]) == 2 and figures.read_recipe(Path(saved.data["paths"][0]))["whole"] is False
    )


def test_the_last_frame_is_the_picture_that_is_saved(desk: Desk) -> None:
    ask = dict(seed=9, lanes=[dict(steps=6)])
    _, x = frames(every(desk, "reverse", ask))
    paths = one(desk, "keep", ask).data["paths"]
    assert (
        np.asarray(Image.open(paths[2]))[..., 0] == figures.pixels(torch.from_numpy(x[-1:]))[0, ..., 0]
    ).all()


def test_levels_are_those_of_the_picture_rate(desk: Desk) -> None:
    got, run = one(desk, "levels", dict(n=1)), desk.run(RUN)
    log_snr, error, _ = diffusion_process.by_log_snr(run.run, run.data, 1, 0, None)
    assert np.allclose(got.arrays["log_snr"], log_snr) and np.allclose(got.arrays["error"], error)


def test_expect_is_denoise(desk: Desk) -> None:
    run, x = desk.run(RUN), np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32)
    got = one(desk, "expect", dict(t=300.0), x=x)
    with torch.no_grad():
        want = run.model.denoise(torch.from_numpy(x)[None], torch.tensor([300.0], dtype=torch.float64))
    assert np.allclose(got.arrays["x_0"], want[0], atol=1e-6)


@pytest.mark.parametrize(
    "method, args",
    [
        ("reverse", dict(lanes=[])),
        ("reverse", dict(lanes=[{}] * 3)),
        ("reverse", dict(lanes=[dict(steps=0)])),
        ("reverse", dict(lanes=[dict(steps=10**6)])),
        ("reverse", dict(lanes=[dict(sampler="x")])),
        ("reverse", dict(lanes=[dict(sampler="jump")])),
        ("reverse", dict(lanes=[dict(eta=2)])),
        ("reverse", dict(lanes=[dict(steps=4, branches=[[4, 0]])])),
        ("reverse", dict(lanes=[dict(branches=[7])])),
        ("reverse", dict(lanes=[dict(guidance=3)])),
        ("expect", dict(t=1.0)),
        ("forward", dict(held=-1)),
        ("about", dict(run="pixelcnn-digits")),
    ],
)
def test_what_a_page_must_not_ask_is_refused(desk: Desk, method: str, args: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        every(desk, method, args)
