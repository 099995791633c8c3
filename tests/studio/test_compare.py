"""The compare screen: the evaluator's cards and ranks, its page, and eyes as judges."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likeness.core import Refusal
from likeness.evaluation.scores import save_scores, scores_of
from likeness.metrics import neighbours
from likeness.metrics.card import Score
from likeness.reports import compare as pages
from likeness.reports.ranking import read
from likeness.studio.protocol import Answer
from likeness.studio.screens import compare
from likeness.studio.worker import Desk

from .conftest import end, opened, start, until

BOTH = ["vae-digits", "gan-digits"]


def card(value: float, n: int = 500, name: str = "FD", **about: Any) -> Score:
    how = dict(
        low=value - 1, high=value + 1, n=n, against=n, split="samples", better="lower", group="resemblance"
    )
    return Score(name, value, **how | about)


def scored(root: Path, n: int = 500) -> None:
    """Cards that one may be ranked by, and one that is not to be where n differs."""
    shared = dict(split="held out", n=100, against=None, group="reconstruction")
    for run, value, count in (("vae-digits", 10.0, 500), ("gan-digits", 20.0, n)):
        save_scores(root / run, [card(value, count), card(value / 2, name="squared error", **shared)])


@pytest.fixture
def desk(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for run in BOTH:
        shutil.copytree(runs / run, tmp_path / "runs" / run)
    monkeypatch.chdir(tmp_path)
    scored(tmp_path / "runs")
    return Desk(tmp_path / "runs")


def asked(desk: Desk, method: str, **args: Any) -> Answer:
    (*_, last) = compare.ASKS[method](desk, args, {})
    return last


def row(answer: Answer, name: str) -> dict[str, Any]:
    (found,) = [r for r in answer.data["rows"] if r["measure"] == name and r["of"] == "model"]
    return found


def test_the_table_has_the_numbers_and_places_of_the_evaluator(desk):
    answer = asked(desk, "sheet", runs=BOTH)
    runs = [desk.run(name).run for name in BOTH]
    made = pages.compare(runs, [read(run) for run in runs])
    assert [c["name"] for c in answer.data["columns"]] == BOTH and all(
        c["scored"] for c in answer.data["columns"]
    )
    assert len(answer.data["rows"]) == len(made.rows)
    for shown, own in zip(answer.data["rows"], made.rows):
        values = [None if c is None else c["value"] for c in shown["cells"]]
        assert values == [None if c is None else c.as_dict()["value"] for c in own.cells]
        assert [c["place"] for c in shown["cells"] if c] == [p for p, c in zip(own.places, own.cells) if c]
    best = row(answer, "FD")
    assert [c["place"] for c in best["cells"]] == ["best", ""] and best["why"] == ""
    assert best["cells"][0]["sides"] == "n = 500 samples against 500"
    assert [scores_of(run)[0].value for run in runs] == [10.0, 20.0]


def test_distances_of_different_n_or_reference_are_not_ranked(desk):
    scored(desk.root, n=400)
    refused = row(asked(desk, "sheet", runs=BOTH), "FD")
    assert [c["place"] for c in refused["cells"]] == ["", ""] and "different n" in refused["why"]
    assert [c["place"] for c in row(asked(desk, "sheet", runs=BOTH), "squared error")["cells"]] == [
        "best",
        "",
    ]
    scored(desk.root)
    config = desk.root / "gan-digits/config.json"
    fingerprint = desk.run("gan-digits").config.data["fingerprint"]
    config.write_text(config.read_text().replace(fingerprint, "0" * 32))
    refused = row(asked(desk, "sheet", runs=BOTH), "FD")
    assert [c["place"] for c in refused["cells"]] == ["", ""] and "different data" in refused["why"]


def test_the_exported_page_is_that_of_the_evaluator_to_the_byte(desk):
    answer = asked(desk, "export", runs=BOTH)
    page = Path(answer.data["saved"])
    runs = [desk.run(name).run for name in BOTH]
    own = pages.compare(runs, [read(run) for run in runs]).write(desk.root.parent / "own")
    for name in (pages.PAGE, pages.CSV, pages.JSON):
        assert (page.parent / name).read_bytes() == (own.parent / name).read_bytes(), name
    assert desk.root / answer.data["page"] == page.resolve()
    assert (
        answer.data["command"] == f"likeness evaluate runs/{BOTH[0]} runs/{BOTH[1]} -n 500 -o {page.parent}"
    )


def test_the_pairs_are_the_nearest_of_all(desk):
    answer = asked(desk, "pairs", run="gan-digits", k=3)
    run = desk.run("gan-digits")
    x = neighbours.grid(run.sample(64).x.numpy(), run.data.levels).astype(float).reshape(64, -1)
    known = run.data.x[run.data.train].astype(float).reshape(len(run.data.train), -1)
    far = np.sqrt(((x[:, None] - known[None]) ** 2).mean(2)).min(1)
    assert answer.data["distance"] == pytest.approx(sorted(far)[:3], abs=1e-4)
    assert far[answer.data["numbers"]] == pytest.approx(answer.data["distance"], abs=1e-4)


def test_a_quiz_shows_a_real_image_and_a_sample_and_counts_right(desk):
    answer = asked(desk, "quiz", runs=BOTH, seed=7, n=10)
    assert "sides" not in answer.data, "what is real is not said beforehand"
    left, right = answer.arrays["left"], answer.arrays["right"]
    data = desk.run("vae-digits").data
    known = {data.x[i, 0].tobytes() for i in data.held_out}
    real = [0 if np.ascontiguousarray(image[..., 0]).tobytes() in known else 1 for image in left]
    assert [np.ascontiguousarray(image[..., 0]).tobytes() in known for image in right] == [
        r == 1 for r in real
    ]
    assert len(set(real)) == 2
    votes = [*real[:6], 1 - real[6], -1, real[8], real[9]]
    told = asked(desk, "judge", runs=BOTH, seed=7, n=10, votes=votes).data
    assert (told["all"]["right"], told["all"]["n"]) == (8, 9)
    assert [(v["right"], v["n"]) for v in told["runs"]] == [(4, 5), (4, 4)]
    assert told["sides"][7] is None, "what was not voted on stays unsaid"


def test_the_interval_of_a_share_is_that_of_wilson():
    for right, n, says in (
        (20, 20, "told"),
        (10, 20, "not told"),
        (0, 20, "taken for real"),
        (0, 0, "no votes"),
    ):
        v = compare.verdict("r", right, n)
        assert v["says"].startswith(says)
    v = compare.verdict("r", 15, 20)  # Wilson 1927, as tabulated: 0.531 to 0.888
    assert (v["low"], v["high"]) == pytest.approx((0.531, 0.888), abs=5e-4)


HOSTILE = [
    ("sheet", dict(runs=[])),
    ("sheet", dict(runs="x")),
    ("sheet", dict(runs=["vae-digits"] * 2)),
    ("sheet", dict(runs=["../x"])),
    ("sheet", dict(runs=[1, 2])),
    ("export", dict(runs=["vae-digits"])),
    ("quiz", dict(runs=BOTH, n=10**9)),
    ("judge", dict(runs=BOTH, votes=[2])),
    ("judge", dict(runs=BOTH, votes=[True])),
    ("judge", dict(runs=BOTH, votes=[0] * 201)),
    ("evaluate", dict(run="vae-digits", n=0)),
    ("pairs", dict(run="/etc")),
    ("evaluate", dict(run="vae-digits", network="/tmp/evil.onnx")),
    ("sheet", dict(runs=[f"r{i}" for i in range(7)])),
]


@pytest.mark.parametrize("method, args", HOSTILE)
def test_whatever_a_page_may_send_is_a_refusal_at_most(desk, method, args):
    with pytest.raises(Refusal):
        asked(desk, method, **args)


def test_it_is_used_by_keys_and_exports_a_page_that_opens_alone(browser, runs, tmp_path, axe):
    for run in BOTH:
        shutil.copytree(runs / run, tmp_path / "runs" / run)
    scored(tmp_path / "runs", n=400)
    served = start(tmp_path / "runs")
    try:
        with opened(browser, served) as page:
            page.set_default_timeout(150_000)
            page.evaluate("location.hash = '#compare'")
            for run in BOTH:
                page.get_by_label(run, exact=True).press("Space")
            page.get_by_role("row", name="FD").get_by_text("different n").wait_for()
            assert page.get_by_text("n = 400 samples against 400").count() == 1
            assert axe(page) == []
            page.keyboard.press("2")
            for run in BOTH:
                page.get_by_role("listbox", name=f"Samples of {run}").get_by_role("option").nth(15).wait_for(
                    state="attached"
                )
            page.keyboard.press("3")
            page.get_by_role("img", name="vae-digits").first.wait_for()
            page.keyboard.press("5")
            page.get_by_role("button", name="Begin").press("Enter")
            page.get_by_text("pair 1 of 20").wait_for()
            page.get_by_role("tab", name="Which is real?").focus()
            page.evaluate("document.activeElement.blur()")
            for _ in range(20):
                page.keyboard.press("ArrowLeft")
            page.get_by_role("row", name="all").wait_for()
            assert axe(page) == []
            page.keyboard.press("s")
            page.get_by_text("Written:").wait_for()
            (written,) = until(lambda: list((tmp_path / "runs/reports").glob("*/compare.html")))
            asked_for = list[str]()
            page.context.unroute_all()
            page.context.route(
                "http*://**", lambda route: (asked_for.append(route.request.url), route.abort())
            )
            page.goto(written.as_uri())
            assert page.get_by_role("heading", name="2 runs side by side").count() == 1 and asked_for == []
            page.faults.clear()
    finally:
        end(served)
