"""The gradients screen: the maps and pictures of `likeness look`, and the tabs by keys and pointer."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from likeness import api
from likeness.cli import main
from likeness.core import Refusal
from likeness.explain import saliency
from likeness.studio.screens import gradients
from likeness.studio.worker import Desk

from .conftest import end, opened, start, until

RUN = dict(network="classifier-digits", pick=3)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gradients") / "runs"
    torch.set_num_threads(1)
    how: dict[str, Any] = dict(images=256, width=8, size=8, batch=32, progress=False, precision="fp32")
    api.train("classifier", "digits", root / "classifier-digits", **how)
    return root


@pytest.fixture
def desk(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    shutil.copytree(taught, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path / "runs")


def asked(desk: Desk, method: str, arrays: dict | None = None, **args: Any) -> list:
    return list(gradients.ASKS[method](desk, args, arrays or {}))


def test_maps_are_complete_and_those_of_the_command(desk, capsys):
    last = asked(desk, "saliency", **RUN, samples=3)[-1]
    complete = last.data["numbers"]["complete"]
    assert abs(complete["sum"] - complete["difference"]) < 0.01 * abs(complete["difference"])
    assert main([*shlex.split(last.data["command"])[1:], "-o", "cli.png"]) == 0
    with np.load("cli.npz") as known:
        maps = [torch.tensor(known[m.replace(" ", "_")])[None] for m in saliency.METHODS]
    order = [last.data["methods"].index(m) for m in saliency.METHODS]
    for at, m in zip(order, maps):
        assert np.array_equal(last.arrays["strength"][at], saliency.strength(m)[0])
        assert np.array_equal(last.arrays["sign"][at], saliency.sign(m)[0])


@pytest.mark.parametrize(
    "method, args",
    [("saliency", dict(samples=2, steps=8)), ("class", dict(of="3", steps=3)), ("dream", dict(steps=2)),
     ("fool", dict(budget=30, steps=5))],
)  # fmt: skip
def test_a_saved_look_is_the_file_of_its_command(desk, method, args, capsys):
    last = asked(desk, method, **RUN, **args)[-1]
    (saved,) = asked(desk, "save", key=last.data["key"], command=last.data["command"])
    path = Path(saved.data["saved"])
    before = path.read_bytes()
    path.unlink()
    assert main(shlex.split(saved.data["command"])[1:]) == 0
    assert path.read_bytes() == before


def test_what_fools_stays_within_its_levels_in_a_file(desk):
    last = asked(desk, "fool", **RUN, budget=7, steps=10)[-1]
    (saved,) = asked(desk, "save", key=last.data["key"], command="x")
    path = Path(saved.data["saved"])
    again = np.array(Image.open(path.with_name("fool-image.png")).convert("RGB")).astype(int)
    assert np.abs(again - last.arrays["input"][0]).max() == last.data["numbers"]["linf"] <= 7
    assert np.array_equal(again, last.arrays["result"][0])
    tests = {r["name"]: r for r in last.data["retests"]}
    assert len(tests) == 5 and tests["PNG"]["p"] == pytest.approx(
        last.data["numbers"]["sure_after"], abs=1e-5
    )


def test_random_weights_leave_the_network_as_it_was(desk):
    plain = asked(desk, "saliency", **RUN, samples=2, steps=8)[-1]
    checked = asked(desk, "saliency", **RUN, samples=2, steps=8, sanity=True)[-1]
    after = asked(desk, "saliency", **RUN, samples=2, steps=8)[-1]
    assert len(checked.data["checks"]) >= 2
    for name in ("strength", "sign"):
        assert np.array_equal(plain.arrays[name], checked.arrays[name])
        assert np.array_equal(plain.arrays[name], after.arrays[name])


HOSTILE = [
    ("saliency", dict(network="../elsewhere")), ("saliency", dict(network="/etc")),
    ("saliency", dict(network=3)),
    ("saliency", dict(RUN, image="../../x.png")), ("saliency", dict(RUN, pick=-1)),
    ("saliency", dict(RUN, samples=10**9)), ("saliency", dict(RUN, of="99")),
    ("saliency", dict(RUN, layer="x")),
    ("saliency", dict(RUN, random=True)), ("class", RUN), ("fool", dict(RUN, budget=float("nan"))),
    ("dream", dict(RUN, octaves="4")), ("own", {}), ("save", dict(key="0")), ("about", dict(network="gone")),
]  # fmt: skip


@pytest.mark.parametrize("method, args", HOSTILE)
def test_whatever_a_page_may_send_is_a_refusal_at_most(desk, method, args):
    with pytest.raises(Refusal):
        asked(desk, method, **args)


def test_a_missing_file_of_weights_is_named(desk, monkeypatch):
    monkeypatch.setattr(gradients.weights, "lookup", lambda file: None)
    with pytest.raises(Refusal, match=r"mobilenet_.*h5 is missing"):
        asked(desk, "about", network="mobilenet")
    assert "random" in asked(desk, "about", network="mobilenet", random=True)[0].data["source"]


def test_the_tabs_by_keys_and_pointer(browser, taught, axe):
    served = start(taught)
    try:
        with opened(browser, served) as page:
            page.set_default_timeout(150_000)
            until(lambda: page.evaluate("studio.runs.some(r => r.answers.length)"), 150)
            few = "{net: 'classifier-digits', pick: 3, set: {steps: 4, samples: 2}}"
            page.evaluate(f"studio.hash.set({few}, 'gradients')")
            page.evaluate("studio.go('gradients')")
            ready = page.locator("main[data-gradients=ready]")
            ready.wait_for()
            page.locator("#work").get_by_text("integrated gradients sum to").wait_for()
            page.get_by_role("button", name="Do the maps know").press("Enter")
            page.get_by_role("heading", name="Rank correlation").wait_for()
            ready.wait_for()
            page.keyboard.press("s")
            page.wait_for_function("() => / -o /.test(studio.command)")
            assert axe(page) == []
            page.locator("main").focus()
            page.keyboard.press("4")
            page.get_by_role("heading", name="Is it still taken for that?").wait_for()
            page.get_by_role("tab", name="DeepDream").click()
            page.wait_for_function("() => /what dream/.test(studio.command)")
            ready.wait_for()
            assert page.get_by_role("slider", name="the image as it comes, frame").is_enabled()
            assert axe(page) == []
            page.set_viewport_size(dict(width=420, height=800))
            assert page.evaluate("document.scrollingElement.scrollWidth") <= 420
    finally:
        end(served)
