"""The picture of perception against distortion: which runs and baselines are on it, and where."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from likeness.metrics.card import Score
from likeness.reports import perception, ranking

COLOURS = ("#111111", "#222222")


def cards(psnr: float, far: float, **more: float) -> tuple[Score, ...]:
    measures = [("PSNR to truth", psnr, "model"), ("feature distance to truth", far, "model")]
    measures += [("PSNR to truth", 20.0, "bicubic"), ("feature distance to truth", 0.5, "bicubic")]
    return tuple(Score(n, v, of=of, n=100, group="translation") for n, v, of in measures) + tuple(
        Score(n.replace("_", " "), v, n=100, group="translation") for n, v in more.items()
    )


def column(name: str, scores: tuple[Score, ...], data: str = "a") -> ranking.Column:
    fields: dict[str, Any] = dict(
        name=name,
        folder=name,
        model="superres",
        data=(data, ""),
        setup={},
        seen=1,
        cards=scores,
        trouble=(),
        x=None,
        curves={},
        seed=0,
    )
    return ranking.Column(*fields.values())


def picture(*columns: ranking.Column) -> str:
    return perception.picture(columns, list(ranking.rows_of(columns)), COLOURS)


def places(svg: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)".*?<title>([^:]+):', svg)
    return {name: (float(x), float(y)) for x, y, name in found}


def test_each_run_is_a_dot_by_psnr_and_distance_with_baselines_once():
    svg = picture(column("pixels", cards(30.0, 0.4)), column("game", cards(25.0, 0.1)))
    at = places(svg)
    assert at.keys() == {"pixels", "game", "bicubic"} and svg.count("<circle") == 3
    assert at["pixels"][0] > at["game"][0] > at["bicubic"][0], "a higher PSNR is further to the right"
    assert at["bicubic"][1] < at["pixels"][1] < at["game"][1], "what is more like real images is further down"
    shares = np.diff([at[name][0] for name in ("bicubic", "game", "pixels")])
    assert abs(shares[0] - shares[1]) < 0.2, "20, 25 and 30 dB are evenly spaced"


def test_runs_on_other_data_and_one_run_alone_have_no_picture():
    one, other = column("pixels", cards(30.0, 0.4)), column("game", cards(25.0, 0.1), "b")
    assert picture(one) == "" == picture(one, other)
    assert picture(one, column("vae", (Score("bits/dim", 3.0, group="likelihood"),))) == ""


def test_a_distance_of_sets_is_taken_before_one_of_images_where_both_have_it():
    law = "Fréchet distance of translations"
    both = [column(n, cards(30.0 + i, 0.1, **{law.replace(" ", "_"): 7.0 + i})) for i, n in enumerate("ab")]
    assert law in picture(*both)
    refused = column("c", cards(28.0, 0.2, **{law.replace(" ", "_"): float("nan")}))
    assert "feature distance to truth" in picture(both[0], refused)


def test_names_stay_names():
    svg = picture(column("<b>&", cards(30.0, 0.4)), column("game", cards(25.0, 0.1)))
    assert "<b>&" not in svg and "&lt;b&gt;&amp;" in svg
