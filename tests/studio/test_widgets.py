"""The widgets of the studio: what they compute in node, what they do under keys and pointer in a browser."""

# ruff: noqa: E501  (lines of JavaScript)

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
WIDGETS = HERE.parents[1] / "src/likeness/studio/page/widgets"
PAGE = """<!doctype html><html lang="en"><title>widgets</title><main><h1>Widgets</h1><div id="place"></div></main>
<script type="module">
import * as dom from "/widgets/dom.js"; import {slider} from "/widgets/slider.js"; import {tabs} from "/widgets/tabs.js";
import {tiles} from "/widgets/tiles.js"; import {chart} from "/widgets/chart.js"; import {film} from "/widgets/film.js";
import {form} from "/widgets/form.js"; import {bars} from "/widgets/bars.js"; import {painted} from "/widgets/pixels.js";
window.w = {...dom, slider, tabs, tiles, chart, film, form, bars, painted, place: document.getElementById("place"), heard: []};
</script></html>"""


def test_what_widgets_compute() -> None:
    if not (node := shutil.which("node", path="/usr/bin") or shutil.which("node")):
        pytest.skip("needs node")
    done = subprocess.run([node, "--test", str(HERE / "node")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


def test_widgets_are_small_and_need_nobody() -> None:
    for file in WIDGETS.glob("*.js"):
        lines = file.read_text().splitlines()
        assert len(lines) <= 260, file.name
        imported = re.findall(r"""from\s+["']([^"']+)""", "\n".join(lines))
        assert all(name.startswith("./") for name in imported), file.name
        assert "innerHTML" not in file.read_text(), file.name


@pytest.fixture
def bench(browser: Any) -> Iterator[Any]:
    """A page with every widget at hand as `w`, served from the folder; any error fails the test."""
    view = browser.new_page(viewport={"width": 800, "height": 700})
    errors: list[str] = []
    view.on("pageerror", lambda e: errors.append(str(e)))
    view.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)

    def serve(route: Any) -> None:
        path = route.request.url.removeprefix("http://bench.test/")
        if path == "":
            route.fulfill(body=PAGE, content_type="text/html")
        elif path == "favicon.ico":
            route.fulfill(status=204)
        else:
            route.fulfill(path=str(WIDGETS.parent / path))

    view.route("**/*", serve)
    view.goto("http://bench.test/")
    view.wait_for_function("() => window.w")
    yield view
    view.close()
    assert not errors


def test_a_slider_by_keys(bench: Any) -> None:
    bench.evaluate(
        """() => { const s = w.slider({label: "Strength", min: 0, max: 10, step: 0.5, value: 2, unit: "sigma",
             onInput: v => w.heard.push(v)}); w.s = s; w.place.append(s.root); }"""
    )
    it = bench.get_by_role("slider", name="Strength")
    it.focus()
    bench.keyboard.press("ArrowRight")
    bench.keyboard.press("Shift+ArrowRight")
    bench.keyboard.press("Home")
    assert bench.evaluate("w.heard") == [2.5, 7.5, 0]
    assert it.get_attribute("aria-valuetext") == "0 sigma"
    bench.evaluate("w.s.value = 3.5")
    assert bench.evaluate("w.s.value") == 3.5


def test_a_logarithmic_slider_comes_back_to_what_was_set(bench: Any) -> None:
    values = [1e-4, 3e-4, 0.01, 1]
    out = bench.evaluate(
        """(values) => { const s = w.slider({label: "Rate", min: 1e-4, max: 1, value: 1e-4, log: true});
             w.place.append(s.root); return values.map(v => { s.value = v; return s.value; }); }""",
        values,
    )
    assert out == pytest.approx(values, rel=0.01)


def test_tabs_by_keys_and_pointer(bench: Any) -> None:
    bench.evaluate(
        """() => { const t = w.tabs({label: "Views", tabs: ["a", "b", "c"].map(id => ({id, title: id.toUpperCase(),
             panel: w.h("p", {text: "panel " + id})})), onChange: id => w.heard.push(id)}); w.place.append(t.root); }"""
    )
    bench.get_by_role("tab", name="A").focus()
    bench.keyboard.press("ArrowLeft")
    bench.keyboard.press("Home")
    bench.get_by_role("tab", name="B").click()
    assert bench.evaluate("w.heard") == ["c", "a", "b"]
    assert bench.get_by_role("tabpanel").inner_text() == "panel b"


MADE = """async (n) => { const t = w.tiles({label: "Samples", columns: 4, tile: 40, onPick: i => w.heard.push(i)});
  w.t = t; w.place.append(t.root);
  const pixels = new Uint8Array(n * 4 * 4); pixels.forEach((_, k) => pixels[k] = 10 * Math.floor(k / 16));
  await t.set({pixels, n, height: 4, width: 4, channels: 1}, {names: Array.from({length: n}, (_, i) => "sample " + i)});
  await new Promise(requestAnimationFrame); }"""


def test_tiles_by_keys(bench: Any) -> None:
    bench.evaluate(MADE, 10)
    box = bench.get_by_role("listbox", name="Samples")
    assert box.get_by_role("option").count() == 10
    box.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter", "End", " ", "ArrowRight", "Home", "Enter"):
        bench.keyboard.press(key)
    assert bench.evaluate("w.heard") == [5, 9, 0]
    bench.evaluate("w.t.mark(new Map([[3, 'kept']]))")
    assert box.get_by_role("option", selected=True).all_inner_texts() == ["sample 3, kept"]


def test_tiles_by_pointer_and_wheel(bench: Any) -> None:
    """Every image is where a click reaches it, also zoomed, and has its own pixels."""
    bench.evaluate(MADE, 10)
    box = bench.locator(".w-tiles canvas").bounding_box()
    for i in (0, 6, 9):
        bench.mouse.click(box["x"] + 2 + i % 4 * 42 + 20, box["y"] + 2 + i // 4 * 42 + 20)
    assert bench.evaluate("w.heard") == [0, 6, 9]
    seen = bench.evaluate(
        """() => { const r = devicePixelRatio, c = w.t.canvas.getContext("2d");
             return [0, 6, 9].map(i => c.getImageData((2 + i % 4 * 42 + 20) * r, (2 + Math.floor(i / 4) * 42 + 20) * r, 1, 1).data[0]); }"""
    )
    assert seen == [0, 60, 90]
    x, y = box["x"] + 2 + 2 * 42 + 20, box["y"] + 2 + 42 + 20  # the middle of image 6
    bench.mouse.move(x, y)
    for _ in range(4):
        bench.mouse.wheel(0, -100)
    bench.wait_for_function("() => w.t.view.scale > 2.4")
    bench.mouse.click(x, y)
    bench.mouse.click(x + 30, y)  # 12 pixels before zooming: still the same image
    assert bench.evaluate("w.heard.slice(3)") == [6, 6]


def test_of_two_sets_of_tiles_the_later_stays(bench: Any) -> None:
    shown = bench.evaluate(
        """async () => { const t = w.tiles({label: "x"}); w.place.append(t.root);
             const file = async v => { const c = w.h("canvas", {width: 300, height: 300}); const g = c.getContext("2d");
               g.fillStyle = v; g.fillRect(0, 0, 300, 300);
               return new Uint8Array(await (await new Promise(r => c.toBlob(r, "image/png"))).arrayBuffer()); };
             const slow = t.set([await file("red"), await file("blue"), await file("red")]);
             const fast = t.set({pixels: new Uint8Array(4), n: 1, height: 2, width: 2, channels: 1});
             await Promise.all([slow, fast]); return t.length; }"""
    )
    assert shown == 1


def test_a_chart_reads_out_by_keys_and_has_its_table(bench: Any) -> None:
    bench.evaluate(
        """() => { const c = w.chart({label: "Losses", xName: "images"}); w.place.append(c.root);
             c.set([{name: "loss", x: [0, 10, 20], y: [5, 3, 1]}, {name: "other", x: [0, 20], y: [1, 100]}]); }"""
    )
    bench.get_by_role("img", name="Losses").focus()
    bench.keyboard.press("ArrowLeft")
    bench.keyboard.press("ArrowLeft")
    assert bench.locator(".w-reading").inner_text() == "images 10 · loss 3 · other 1"
    bench.get_by_text("data table").click()
    bench.get_by_role("row").nth(
        5
    ).wait_for()  # a table is made when it is opened, which the page hears later
    assert bench.get_by_role("row").count() == 6
    bench.get_by_label("logarithmic").check()
    assert "loss ends at 1" in bench.get_by_role("img").get_attribute("aria-label")


def test_a_film_is_scrubbed_by_keys(bench: Any) -> None:
    bench.evaluate(
        """() => { w.loads = []; const f = w.film({label: "Film", caption: i => "image " + i * 100, perSecond: 100, load: async i => {
             w.loads.push(i); return (await w.painted({pixels: new Uint8Array(4).fill(i), n: 1, height: 2, width: 2, channels: 1}))[0]; }});
             w.f = f; w.place.append(f.root); f.set(5); }"""
    )
    bench.wait_for_function("() => w.f.canvas.dataset.frame === '4'")
    bench.get_by_role("slider").focus()
    bench.keyboard.press("ArrowLeft")
    bench.wait_for_function("() => w.f.canvas.dataset.frame === '3'")
    bench.keyboard.press("Home")
    bench.wait_for_function("() => w.f.canvas.dataset.frame === '0'")
    assert bench.evaluate("w.f.canvas.getContext('2d').getImageData(0, 0, 1, 1).data[0]") == 0
    bench.get_by_role("button", name="Play").click()
    bench.wait_for_function("() => w.f.canvas.dataset.frame === '4' && !w.f.playing")
    loads = bench.evaluate("w.loads")
    assert sorted(loads) == sorted(set(loads))
    bench.evaluate("w.f.set(6)")  # it was at the end and goes on to the new one
    bench.wait_for_function("() => w.f.canvas.dataset.frame === '5'")


def test_a_form_from_descriptions(bench: Any) -> None:
    bench.evaluate(
        """() => { const f = w.form({options: [
             {name: "batch_size", default: 16, whole: true, low: 1, high: 64, help: "images a step"},
             {name: "rate", default: 0.001, low: 0, high: 1}, {name: "kind", default: "a", choices: ["a", "b"], group: "More"},
             {name: "mirror", default: false}, {name: "text", default: ""}], onChange: (n, v) => w.heard.push([n, v])});
             w.f = f; w.place.append(f.root); }"""
    )
    bench.get_by_label("batch size").fill("100")
    assert bench.get_by_role("alert").filter(has_text="at most 64").count() == 1
    assert not bench.evaluate("w.f.valid")
    bench.get_by_label("batch size").fill("32")
    bench.get_by_label("kind").select_option("b")
    bench.get_by_label("mirror").press("Space")
    assert bench.evaluate("w.heard") == [["batch_size", 32], ["kind", "b"], ["mirror", True]]
    assert bench.evaluate("w.f.flags()") == "--batch-size 32 --kind b --mirror"
    assert bench.evaluate("w.f.values()") == dict(batch_size=32, rate=0.001, kind="b", mirror=True, text="")


def test_bars_say_their_numbers(bench: Any) -> None:
    bench.evaluate(
        """() => { const b = w.bars({label: "Next value", onPick: i => w.heard.push(i)}); w.place.append(b.root);
             b.set({values: [0.1, 0.7, 0.2], mark: 2}); }"""
    )
    canvas = bench.get_by_role("img", name="Next value")
    assert "highest 1: 0.7" in canvas.get_attribute("aria-label")
    box = canvas.bounding_box()
    bench.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 20)
    assert bench.evaluate("w.heard") == [1]
    bench.get_by_text("numbers").click()
    bench.get_by_role("row").nth(3).wait_for()
    assert bench.get_by_role("row").all_inner_texts()[1:] == ["0\t0.1", "1\t0.7", "2\t0.2"]
