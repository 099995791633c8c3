"""The translate screen: the files of the command line from a queue, and what is compared with what."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likeness import api, figures
from likeness.cli import main
from likeness.core import Refusal
from likeness.studio import orders
from likeness.studio.protocol import Answer
from likeness.studio.screens import translate
from likeness.studio.worker import Desk

from .conftest import end, opened, start, until

HOW: dict[str, Any] = dict(progress=False, precision="fp32", size=16, images=8, batch=8)
RANDOM = dict(weights="none", size=48, steps=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("translate") / "runs"
    api.train("pix2pix", "shapes:48", root / "grey-colour", task="colourise", width=4, **HOW)
    api.train("superres", "shapes:48", root / "larger", task="upscale2", width=8, **HOW)
    api.train("cyclegan", "shapes:48", root / "both", to="digits", width=4, **HOW)
    return root


@pytest.fixture
def desk(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Over copies, which may be changed."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path / "runs")


def photo(h: int = 20, w: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def png(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


def asked(desk: Desk, method: str, arrays: dict | None = None, **args: Any) -> Answer:
    (*_, last) = translate.ASKS[method](desk, args, arrays or {})
    return last


def brought(desk: Desk, *images: np.ndarray, name: str = "own") -> list[dict[str, str]]:
    out = []
    for i, image in enumerate(images):
        there = asked(desk, "bring", dict(file=png(image)), name=f"{name}-{i}.png")
        out.append(dict(photo=there.data["photo"], name=there.data["name"]))
    return out


def worked(desk: Desk, method: str, **args: Any) -> dict[str, Any]:
    """An order, when all its photos are done."""
    name = asked(desk, method, **args).data["order"]
    (*_, last) = translate.queue(desk, {}, {})
    return next(o for o in last.data["orders"] if o["name"] == name)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".png", ".gif")}


def the_same_by_command(folder: Path, order: dict[str, Any]) -> None:
    """The files of an order are those of its commands, made once more where nothing is."""
    before = files(folder)
    for name in before:
        (folder / name).unlink()
    for command in dict.fromkeys(r["command"] for r in order["results"]):
        assert main(shlex.split(command)[1:]) == 0
    after = files(folder)
    after.pop("before-after.png", None)
    assert after == before and before


@pytest.mark.parametrize(
    "run, more", [("grey-colour", {}), ("larger", {}), ("both", {}), ("both", dict(back=True, size=18))]
)
def test_results_are_the_files_of_the_command(desk, run, more, capsys):
    images = photo(), photo(17, 16, 1)
    order = worked(desk, "translate", run=run, photos=brought(desk, *images), **more)
    assert order["state"] == "done" and [r["photo"] for r in order["results"]] == ["own-0.png", "own-1.png"]
    folder = desk.root / "out" / order["name"]
    view = asked(desk, "view", order=order["name"], number=0)
    after = np.array(Image.open(folder / "own-0.png").convert("RGB"))
    assert np.array_equal(view.arrays["after"], after)
    if run == "larger":
        assert np.array_equal(view.arrays["before"], images[0]) and view.data["scale"] == 2
        bicubic = Image.fromarray(images[0]).resize((56, 40), Image.Resampling.BICUBIC)
        assert np.array_equal(view.arrays["bicubic"], np.array(bicubic))
    elif run == "both" and not more:
        assert np.array_equal(view.arrays["before"], images[0])
    assert asked(desk, "thumbs", order=order["name"]).arrays["images"].shape == (2, 72, 72, 3)
    the_same_by_command(folder, order)


def test_nothing_is_overwritten_and_a_second_order_has_a_folder_of_its_own(desk):
    photos = brought(desk, photo())
    one, two = (worked(desk, "translate", run="larger", photos=photos * 2) for _ in range(2))
    assert one["name"] == "translate-1" and two["name"] == "translate-2"
    assert [r["file"] for r in one["results"]] == ["own-0-2.png", "own-0.png"]


def test_there_and_back_is_what_two_commands_make(desk, capsys):
    order = worked(desk, "translate", run="both", photos=brought(desk, photo()))
    back = asked(desk, "cycle", order=order["name"], number=0)
    assert main([*shlex.split(back.data["command"])[1:], "-o", "back"]) == 0
    again = np.array(Image.open("back/own-0.png").convert("RGB"))
    assert np.array_equal(back.arrays["again"], again)
    error = np.sqrt(((again.astype(float) - photo()) ** 2).mean())
    assert back.data["error"] == pytest.approx(error, abs=1e-9)
    with pytest.raises(Refusal, match="enlarges"):
        order = worked(desk, "translate", run="larger", photos=brought(desk, photo()))
        asked(desk, "cycle", order=order["name"], number=0)


def test_a_style_its_film_and_its_sheet_are_those_of_the_command(desk, capsys):
    photos, paintings = brought(desk, photo(50, 60)), brought(desk, photo(40, 40, 1), name="painting")
    order = worked(desk, "styled", photos=photos, paintings=paintings, strokes=0.8, **RANDOM)
    assert order["state"] == "done", order
    folder = desk.root / "out" / order["name"]
    shown = asked(desk, "view", order=order["name"])
    assert shown.arrays["before"].shape == shown.arrays["after"].shape == (40, 48, 3)
    frame = asked(desk, "frame", order=order["name"], at=0)
    assert frame.data["frames"] >= 3 and frame.arrays["image"].shape == (320, 384, 3)
    the_same_by_command(folder, order)
    few = dict(RANDOM, steps=1)
    order = worked(desk, "styled", photos=photos, paintings=paintings, sheet=True, **few)
    made = asked(desk, "cells", order=order["name"])
    assert made.arrays["images"].shape == (9, 40, 48, 3)
    assert made.data["settings"][5] == dict(content_weight=0.3, strokes=1.0)
    the_same_by_command(desk.root / "out" / order["name"], order)


def test_the_queue_outlives_the_process_that_works(desk, monkeypatch):
    order = worked(desk, "translate", run="larger", photos=brought(desk, photo(), photo(seed=1)))
    folder = desk.root / "out" / order["name"]
    kept, second = json.loads((folder / "order.json").read_text()), folder / "own-1.png"
    before = second.read_bytes()
    second.unlink()  # as if it had died after the first
    (folder / "order.json").write_text(json.dumps(kept | dict(state="working", results=kept["results"][:1])))
    monkeypatch.setattr(translate, "QUEUES", {})
    (*_, last) = translate.queue(desk, {}, {})
    (row,) = last.data["orders"]
    assert row["state"] == "done" and second.read_bytes() == before
    assert [r["new"] for r in row["results"]] == [False, True]
    asked(desk, "hide", order=order["name"])
    assert asked(desk, "queue").data["orders"] == [] and second.is_file()


def test_there_is_work_until_how_an_order_ended_is_on_the_disk(tmp_path, monkeypatch):
    import threading

    free, saving, save = threading.Event(), threading.Event(), orders.Queue.save

    def slowly(queue: orders.Queue, order: orders.Order) -> None:
        if order.state == "done":
            saving.set()
            free.wait(20)
        save(queue, order)

    monkeypatch.setattr(orders.Queue, "save", slowly)
    queue = orders.Queue(tmp_path, lambda queue, order: None)
    order = queue.add("translate", lambda o, f: None, photos=["x.png"])
    saving.wait(20)
    assert order.state == "done" and queue.wait(-1, 0)[1]
    free.set()
    until(lambda: not queue.wait(-1, 0)[1])
    assert json.loads((queue.folder / order.name / "order.json").read_text())["state"] == "done"


def test_an_order_is_stopped_and_goes_on(tmp_path):
    import threading

    begun, free = threading.Event(), threading.Event()

    def work(queue: orders.Queue, order: orders.Order) -> None:
        for i in range(1000):
            begun.set()
            free.wait(5)
            queue.progress(order, i / 1000)
            if order.settings.get("short"):
                return

    queue = orders.Queue(tmp_path, work)
    order = queue.add("translate", lambda o, f: None, photos=["x.png"])
    begun.wait(5)
    with pytest.raises(Refusal, match="stop it first"):
        queue.hide(order.name)
    queue.stop(order.name)
    free.set()
    until(lambda: order.state == "stopped")
    order.settings["short"] = True
    queue.again(order.name)
    until(lambda: order.state == "done")


@pytest.mark.parametrize(
    "method, args",
    [
        ("translate", dict(run="../x", photos=[])),
        ("translate", dict(run="larger", photos=[])),
        ("translate", dict(run="larger", photos=[dict(photo="../../etc/passwd", name="x")])),
        ("translate", dict(run="larger", photos=[dict(photo=f"{'0' * 24}.png", name="x")])),
        ("translate", dict(run="larger", photos=["x"], size=1e9)),
        ("about", dict(run="nothing")),
        ("view", dict(order="../translate-1")),
        ("view", dict(order="translate-9")),
        ("frame", dict(order="style-1", at=-1)),
        ("cycle", dict(order=3)),
        ("stop", dict(order="x" * 99)),
        ("bring", {}),
    ],
)
def test_whatever_a_page_may_send_is_a_refusal_at_most(desk, method, args):
    with pytest.raises(Refusal):
        asked(desk, method, **args)
    assert not (desk.root / "out").exists()


def test_hostile_settings_and_names_do_no_harm(desk):
    photos = brought(desk, photo())
    for bad in (dict(size=10**9), dict(seed=-1), dict(format="exe"), dict(back=True), dict(back="yes")):
        with pytest.raises(Refusal):
            asked(desk, "translate", run="larger", photos=photos, **bad)
    for bad in (
        dict(weights="/etc/passwd"),
        dict(strokes=float("nan")),
        dict(arbitrary="../x"),
        dict(steps=0),
    ):
        with pytest.raises(Refusal):
            asked(desk, "styled", photos=photos, paintings=photos, **bad)
    with pytest.raises(Refusal, match="no image"):
        asked(desk, "bring", dict(file=np.frombuffer(b"#!/bin/sh\nexit 0\n" * 9, np.uint8)))
    taken: set[str] = set()
    names = [orders.safe(n, taken, "png") for n in ("../../a.png", "-o.png", "a.PNG", "\u202e/..", "x" * 999)]
    assert names == ["a.png", "o.png", "a-2.png", "photo.png", "x" * 60 + ".png"]
    photos[0]["name"] = "-o ../x;rm.png"
    order = worked(desk, "translate", run="larger", photos=photos)
    assert order["results"][0]["photo"] == "x_rm.png" and figures.read_recipe(
        desk.root / "out" / order["name"] / "x_rm.png"
    )


# In a browser


@pytest.fixture(scope="module")
def served(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("page") / "runs"
    shutil.copytree(trained, root)
    one = start(root)
    yield one
    end(one)


@contextlib.contextmanager
def visit(browser: Any, served: Any, more: str = "", **how: Any) -> Any:
    with opened(browser, served, **how) as page:
        page.set_default_timeout(60_000)
        until(lambda: page.evaluate("studio.runs.some(r => r.answers.length)"), 60)
        page.evaluate(f"location.hash = '#translate{more}'")
        page.locator("main[data-translate=ready]").wait_for()
        yield page


def canvas(page: Any) -> np.ndarray:
    seen = page.evaluate(
        """() => { const c = document.querySelector(".t-view");
             const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
             return [c.height, c.width, ...d]; }"""
    )
    return np.array(seen[2:], np.uint8).reshape(*seen[:2], 4)[..., :3]


def test_photos_are_translated_compared_and_still_there_after_a_reload(browser, served, axe, tmp_path):
    names = [tmp_path / "one.png", tmp_path / "two.png"]
    for i, name in enumerate(names):
        Image.fromarray(photo(20, 28, i)).save(name)
    with visit(browser, served) as page:
        page.get_by_label("Photos to translate (or").set_input_files(names[:1])
        page.get_by_role("button", name="take off one.png").wait_for()
        file = page.evaluate_handle(
            """raw => { const data = new DataTransfer();
                 data.items.add(new File([new Uint8Array(raw)], "two.png", {type: "image/png"}));
                 return data; }""",
            list(names[1].read_bytes()),
        )
        page.dispatch_event("section[aria-label='Photos to translate']", "drop", dict(dataTransfer=file))
        page.get_by_role("button", name="take off two.png").wait_for()
        page.get_by_role("combobox", name="model", exact=True).select_option("both")
        page.get_by_role("button", name="Translate them").press("Enter")
        page.locator("main[data-shown='translate-1/one.png']").wait_for()
        page.get_by_role("button", name="result of two.png").wait_for()
        folder = served.root / "out/translate-1"
        result = np.array(Image.open(folder / "one.png").convert("RGB"))
        left, right = np.s_[:, :14], np.s_[:, 14:]
        both = canvas(page)
        assert np.array_equal(both[left], photo()[left]) and np.array_equal(both[right], result[right])
        divider = page.get_by_role("slider", name="divider of original and result")
        divider.press("Home")
        assert np.array_equal(canvas(page), result)
        divider.press("End")
        assert np.array_equal(canvas(page), photo())
        box = page.locator(".t-view").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 9)
        assert divider.get_attribute("aria-valuetext") == "25 % original"
        page.locator("main").focus()
        page.keyboard.down("Space")
        assert np.array_equal(canvas(page), photo())
        page.keyboard.up("Space")
        page.get_by_role("button", name="Difference").click()
        apart = 4 * np.abs(result.astype(int) - photo())
        assert np.array_equal(canvas(page), apart.clip(0, 255))
        page.locator("main").focus()
        page.keyboard.press("ArrowRight")
        page.locator("main[data-shown='translate-1/two.png']").wait_for()
        page.get_by_role("button", name="There and back").click()
        page.get_by_text("of 255 levels away").wait_for()
        assert axe(page) == []
        page.reload()
        page.locator("main[data-shown='translate-1/two.png']").wait_for()
        page.get_by_role("button", name="take off two.png").wait_for()
        page.set_viewport_size(dict(width=420, height=800))
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 420
        recipe = figures.read_recipe(folder / "one.png")
        back = page.evaluate(
            "async r => (await import('/page/screens/translate.js')).default.open(r)", recipe
        )
        assert back["order"] == "translate-1" and back["photo"] == "one.png"


def test_a_style_is_chosen_from_its_sheet(browser, served, axe, tmp_path):
    Image.fromarray(photo(40, 40)).save(tmp_path / "a.png")
    asked = '&tab=style&style={"weights":"none","size":32,"steps":1}'
    with visit(browser, served, asked) as page:
        for label in ("Photos (or drop", "Paintings, one to four (or"):
            page.get_by_label(label).set_input_files(tmp_path / "a.png")
        until(lambda: page.get_by_role("button", name="take off a.png").count() == 2)
        page.get_by_role("button", name="Sheet of nine").press("Enter")
        box = page.get_by_role("listbox", name="Nine settings")
        until(lambda: box.get_by_role("option").count() == 9, 100)
        box.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.get_by_text("content weight 0.03, strokes 0.5: as set above").wait_for()
        page.get_by_role("button", name="Paint them").press("Enter")
        page.locator("main[data-shown='style-1/a.png']").wait_for()
        page.wait_for_function("() => /style .*--strokes 0.5/.test(studio.command)")
        page.wait_for_function("() => document.querySelector('.w-film').dataset.frame !== undefined")
        assert axe(page) == []
