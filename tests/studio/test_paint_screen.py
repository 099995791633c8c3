"""The paint screen: the files of `likeness paint`, a search that takes new strokes and gives
old ones back, the same pixels on the page as in the library, and the screen by pointer and by keys."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from likeness.cli import main
from likeness.core import Refusal
from likeness.inference import constraints, strokes
from likeness.inference.live import Live
from likeness.inference.manifold import How
from likeness.inference.strokes import GRID, Stroke
from likeness.studio import hub
from likeness.studio.screens import paint
from likeness.studio.worker import Desk

from .conftest import opened, until
from .test_runs import drop

PAGE = Path(paint.__file__).parents[1] / "page" / "paint" / "strokes.js"
TOUCH = dict(kind="colour", count=1, radius=0.2, colour="#ffffff")
MIDDLE = np.array([[2048, 2048]], np.int32)


@pytest.fixture
def desk(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    shutil.copytree(runs, tmp_path / "runs", ignore=shutil.ignore_patterns(".studio", "edits"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paint, "LONG", 4)
    monkeypatch.setattr("likeness.inference.live.LONG", 4)
    paint.SESSIONS.clear()
    paint.FOUND.clear()
    yield Desk(tmp_path / "runs")


def wish(run: str = "gan-digits", **more: Any) -> dict[str, Any]:
    return dict(run=run, key="k", strokes=[TOUCH], steps=2, n=2) | more


def asked(desk: Desk, method: str, points: np.ndarray = MIDDLE, **args: Any) -> list[Any]:
    return list(paint.ASKS[method](desk, args, dict(points=points)))


# The library


def test_the_page_draws_the_pixels_of_the_library():
    """Of each brush, at two sizes, by the page's own file."""
    if shutil.which("node") is None:
        pytest.skip("there is no JavaScript here")
    rng = np.random.default_rng(0)
    cases = [
        Stroke("colour", ((0.5, 0.4),), 0.1, (255, 0, 0)),
        Stroke("sketch", ((0.0, 0.0), (1.0, 1.0), (0.25, 0.75)), 0.02),
        Stroke("warp", ((0.25, 0.25), (1.0, 0.5)), 0.17),
        Stroke("keep", tuple(map(tuple, rng.integers(0, GRID + 1, (30, 2)) / GRID)), 0.001),
        Stroke("erase", tuple(map(tuple, rng.integers(0, GRID + 1, (9, 2)) / GRID)), 0.07),
    ]
    facts = [
        dict(kind=s.kind, radius=s.radius, points=[round(GRID * c) for p in s.points for c in p])
        for s in cases
    ]
    code = (
        f"import {{covers}} from {json.dumps(PAGE.as_uri())};"
        f"const all = {json.dumps(facts)}.map(s => [32, 45].map(n => Array.from(covers(s, n))));"
        "console.log(JSON.stringify(all))"
    )
    run = ["node", "--input-type=module", "-e", code]
    out = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    for stroke, sizes in zip(cases, out):
        for size, pixels in zip((32, 45), sizes):
            assert np.array_equal(np.array(pixels, bool).reshape(size, size), stroke.covers(size)), (
                stroke.kind
            )


def test_a_stroke_that_weighs_more_counts_more_and_one_of_weight_1_as_ever():
    x, start = torch.rand(2, 3, 16, 16) * 2 - 1, torch.zeros(3, 16, 16)
    plain = [
        "colour:red:0.3,0.3:0.1", "sketch:line:0.1,0.9 0.9,0.9", "warp:0.3,0.7:0.6,0.7:0.1",
        "erase:0.8,0.2:0.1", "keep:0.5,0.5:0.05",
    ]  # fmt: skip
    known = [s.facts() for s in strokes.some(plain)]
    one = constraints.compiled(strokes.some(known), 3, 16, start).terms(x)
    three = constraints.compiled(strokes.some([k | dict(weight=3) for k in known]), 3, 16, start).terms(x)
    for name in ("colour", "sketch", "warp", "keep"):
        assert torch.allclose(three[name], 3 * one[name]), name
    assert torch.equal(three["rest"], one["rest"])
    (again,) = strokes.some([known[0] | dict(weight=3)])
    assert again.facts()["weight"] == 3 and "weight" not in known[0]
    with pytest.raises(Refusal, match="weight"):
        strokes.some([known[0] | dict(weight=float("nan"))])


def test_new_strokes_go_on_from_the_current_codes_and_old_ones_come_back_to_the_bit(desk):
    run = desk.run("gan-digits")
    live = Live(run.model, None, How(n=3))
    list(live.begin())
    one, two = strokes.some(["colour:white:0.5,0.5:0.2"]), strokes.some(["colour:black:0.5,0.5:0.2"])
    live.ask(one)
    first = live.images.clone()
    live.walk(0.0)
    live.walk(0.0)
    assert float(live.least.min()) < float(live.c.loss(first).min()) + 1 and not torch.equal(
        live.images, first
    )
    there, least = live.images.clone(), live.least.clone()
    live.ask([*one, *two])
    assert torch.equal(live.images, there), "it goes on from where it was"
    live.quick(0.0)
    assert not torch.equal(live.images[live.lead], there[live.lead]), "the first answer has moved"
    others = [k for k in range(3) if k != live.lead]
    assert torch.equal(live.images[others], there[others]), "the first steps are those of the leading one"
    live.ask(one)
    assert torch.equal(live.images, there) and torch.equal(live.least, least), "undo is exact"
    live.ask([])
    assert live.resting


# What the screen asks


@pytest.mark.parametrize(
    "run, start, pick",
    [("gan-digits", dict(kind="none"), 1), ("vae-digits", dict(kind="held", number=2), 0),
     ("ddpm-digits", dict(kind="held", number=1), 1),
     ("pixelcnn-digits", dict(kind="sample", number=1, seed=4), 0)],
)  # fmt: skip
def test_what_is_saved_are_the_files_of_the_command(desk, run, start, pick, capsys):
    last = asked(desk, "answer", **wish(run, start=start, weight=dict(smooth=0.5)))[-1]
    assert last.data["final"] and last.arrays["images"].shape[0] == 2
    (saved,) = asked(desk, "save", run=run, answer=last.data["answer"], at=pick)
    folder = Path(saved.data["saved"])
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert {"strokes.json", "result.png", "candidates.png", "morph.gif", "edits.png"} == set(before)
    result = np.asarray(Image.open(folder / "result.png").convert("RGB"))
    assert np.array_equal(result[..., :1], last.arrays["images"][pick][..., :1])
    for path in folder.iterdir():
        if path.name != "strokes.json":
            path.unlink()
    assert main(shlex.split(saved.data["command"])[1:]) == 0
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_the_search_takes_up_newer_strokes_and_refuses_bad_ones_in_sentences(desk):
    begin = dict(kind="held", number=0)
    answer = paint.set_(desk, wish("vae-digits", start=begin, version=1, rest=True), dict(points=MIDDLE))
    value = next(v for v in answer if "begins" not in v.data)
    assert value.data["version"] == 1
    assert value.arrays["leader"].shape == (8, 8, 3), "while the stroke grows the leading one alone is sent"
    every = next(v for v in answer if "images" in v.arrays)
    assert every.arrays["images"].shape == (2, 8, 8, 3), "then all"
    run = desk.run("vae-digits")
    (end,) = [
        a
        for a in list(
            run.painting(
                ["colour:white:0.5,0.5:0.2"], "runs/edits/start/vae-digits-held-000000.png", How(n=2, steps=1)
            )
        )
        if hasattr(a, "painted")
    ]
    assert value.data["wrong"] == pytest.approx(end.painted.wrong), "the error that the command tells"
    two = wish("vae-digits", start=begin, version=2, strokes=[TOUCH, dict(TOUCH, kind="keep", colour=None)])
    desk.live["k"] = [("set", two, dict(points=np.array([[9, 9], [4000, 4000]], np.int32)))]
    assert next(v for v in answer if v.data.get("version") == 2).data["strokes"] == 2
    desk.live["k"] = [("set", dict(two, version=3, strokes=[dict(TOUCH, radius=-1)]), dict(points=MIDDLE))]
    refused = next(v for v in answer if v.data["refused"][0])
    assert "radius" in refused.data["refused"][1]["what"]
    *_, rest = answer
    assert rest.data["resting"]
    about = asked(desk, "about", run="vae-digits")[0]
    assert about.data["kept"]["start"] == begin and about.data["strokes"][0]["colour"] == "#ffffff"


def test_a_pen_that_moves_never_waits_for_all_candidates(desk, monkeypatch):
    steps = []
    monkeypatch.setattr(Live, "walk", lambda self, seconds: steps.append("all"))
    monkeypatch.setattr(Live, "quick", lambda self, seconds: steps.append("leader"))
    monkeypatch.setattr(paint, "PEN", 1e9)
    answer = paint.set_(desk, wish("gan-digits", version=1), dict(points=MIDDLE))
    next(v for v in answer if "begins" not in v.data)
    for version in range(2, 6):
        desk.live["k"] = [("set", wish("gan-digits", version=version), dict(points=MIDDLE + version))]
        assert next(answer).data["version"] == next(answer).data["version"] == version
    assert set(steps) == {"leader"}
    monkeypatch.setattr(paint, "PEN", 0.0)
    next(answer)
    assert steps[-1] == "all"


FAR = np.zeros((10**6, 2), np.int32)
HOSTILE = [
    (dict(strokes=[dict(TOUCH, count=10**6)]), FAR, "10,000 points are the most"),
    (dict(strokes=[dict(TOUCH, count=10)]), FAR, "1,000,000 points"),
    (dict(strokes=[dict(TOUCH, radius=float("nan"))]), MIDDLE, "radius"),
    (dict(strokes=[dict(TOUCH, weight="x")]), MIDDLE, "not understood"),
    ({}, np.array([[2048, 9000]], np.int32), "outside of the image"),
    ({}, MIDDLE.astype(np.float32), "points"),
    (dict(strokes=[dict(TOUCH, count=2)]), MIDDLE, "more points"),
    (dict(strokes=[TOUCH] * 201), MIDDLE, "200 strokes"),
    (dict(strokes=[dict(TOUCH, kind="warp")]), MIDDLE, "warp"),
    (dict(strokes=[dict(TOUCH, kind="keep", colour=None)]), MIDDLE, "."),
    (dict(start=dict(kind="file", file="../../x.png")), MIDDLE, "no longer here"),
    (dict(weight=dict(rest=float("inf"))), MIDDLE, "rest"),
    (dict(weight=dict(nothing=1)), MIDDLE, "weight"),
    (dict(run="../elsewhere"), MIDDLE, "not in the folder"),
    (dict(run="gone"), MIDDLE, "gone"),
    (dict(n=99), MIDDLE, "n is"),
    (dict(run="pixelcnn-digits", strokes=[dict(TOUCH, kind="sketch", colour=None)]), MIDDLE, "These do"),
]


@pytest.mark.parametrize("args, points, says", HOSTILE)
def test_whatever_a_page_may_send_is_a_refusal_at_most(desk, args, points, says):
    for method in ("set", "answer"):
        with pytest.raises(Refusal, match=says):
            for value in asked(desk, method, points, **wish() | args):
                if (value.data.get("refused") or [0])[0]:
                    raise Refusal(value.data["refused"][1]["what"])


def test_a_photo_that_is_too_large_or_none_is_told_and_not_kept(desk, monkeypatch):
    with pytest.raises(Refusal, match="no image file"):
        list(paint.bring(desk, dict(run="gan-digits"), dict(file=np.frombuffer(b"x" * 99, np.uint8))))
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    file = np.frombuffer(buffer.getvalue(), np.uint8)
    with pytest.raises(Refusal) as told:
        list(paint.bring(desk, dict(run="gan-digits", name="huge.png"), dict(file=file)))
    assert "huge.png" in str(told.value) and all(hub.sentences(str(told.value))[::2])
    assert not list(paint._folder(desk).glob("*.png"))
    (read,) = paint.read(
        desk,
        dict(name="s.json"),
        dict(file=np.frombuffer(json.dumps(dict(strokes=["keep:1,0"])).encode(), np.uint8)),
    )
    assert read.arrays["points"].tolist() == [[GRID, 0]]


# The screen


def ready(page: Any) -> None:
    page.locator("main[data-paint=ready]").wait_for(state="attached")


def test_the_screen_by_pointer_and_by_keys(browser, studio, axe, tmp_path):
    with opened(browser, studio) as page:
        page.set_default_timeout(150_000)
        until(lambda: page.evaluate("studio.runs.every(r => r.answers.length)"), 150)
        page.evaluate("location.hash = '#paint&run=gan-digits'")
        ready(page)
        board = page.get_by_role("application")
        layers = page.get_by_role("list", name="Strokes").get_by_role("listitem")
        box = board.bounding_box()
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 150, box["y"] + 90, steps=4)
        page.mouse.up()
        until(lambda: layers.count() == 1)
        ready(page)
        assert page.evaluate("studio.stats.strokes.length") > 0
        page.get_by_role("button", name="warp", exact=True).click()
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 100, box["y"] + 60)
        page.mouse.up()
        until(lambda: layers.count() == 2)
        ready(page)
        assert page.get_by_role("option", name="candidate 8").count() == 1
        assert axe(page) == []
        # by keys alone
        page.locator("main").focus()
        page.keyboard.press("Control+z")
        until(lambda: layers.count() == 1)
        page.keyboard.press("o")
        board.focus()
        for key in ("ArrowRight", "Enter", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        until(lambda: layers.count() == 2)
        page.get_by_text("by form: a stroke").focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Add stroke").focus()
        page.keyboard.press("Enter")
        until(lambda: layers.count() == 3)
        page.get_by_role("button", name="hide stroke 3").focus()
        page.keyboard.press("Enter")
        ready(page)
        before = layers.all_inner_texts()
        page.reload()
        ready(page)
        assert layers.all_inner_texts() == before, "strokes survive a reload"
        page.locator("main").focus()
        page.keyboard.press("s")
        page.wait_for_function("() => /likeness paint .*strokes.json/.test(studio.command)")
        page.get_by_role("slider", name="from the start to the result").focus()
        page.keyboard.press("Home")
        assert axe(page) == []
        folder = studio.root / "edits" / "gan-digits-1"
        for at in (2, 1, 0):
            page.get_by_role("button", name=f"delete stroke {at + 1}").focus()
            page.keyboard.press("Enter")
        until(lambda: layers.count() == 0)
        ready(page)
        page.set_viewport_size(dict(width=420, height=800))
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 420
        drop(page, folder / "result.png")
        until(lambda: layers.count() == 2, 120)
        assert page.evaluate("studio.screen.id") == "paint"
        ready(page)


def test_a_run_that_has_gone_is_a_sentence(browser, runs, tmp_path):
    from .conftest import end, start

    root = tmp_path / "runs"
    shutil.copytree(runs / "ddpm-digits", root / "ddpm-digits")
    served = start(root)
    try:
        with opened(browser, served) as page:
            page.set_default_timeout(150_000)
            until(lambda: page.evaluate("studio.runs.every(r => r.answers.length)"), 150)
            page.evaluate("location.hash = '#paint&run=ddpm-digits'")
            ready(page)
            shutil.rmtree(root / "ddpm-digits")
            page.get_by_role("button", name="Paint", exact=True).click()
            page.locator(".failed").wait_for()
            assert "defect" not in page.locator(".failed").inner_text()
    finally:
        end(served)
