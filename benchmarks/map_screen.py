"""How fast the map screen pans, in a real Chromium without a GPU: frames that the Worker has drawn a second
while a pointer drags the map in every frame, and what a drawing of it takes.

    python benchmarks/map_screen.py --seconds 8

Blobs of 10 labels, 1280 x 860.  "auto" shows what the screen itself chooses, which is density where there is
a point for every four pixels; "points" shows each as a square.  Frames a second are of this machine as loaded
as it is.  The targets are 60 at 100,000 points and 20 at 1,000,000."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import heading, machine, table

from likeness.maps.embedding import Axes, Map

CHROMIUM = os.environ.get("LIKENESS_CHROMIUM") or shutil.which("chromium") or ""
DRAG = """() => {
    const plot = document.querySelector('.m-plot'), box = plot.getBoundingClientRect();
    let turn = 0;
    window.dragging = true;
    const step = () => {
        turn += 0.03;
        const clientX = box.left + box.width / 2 + 150 * Math.sin(turn);
        const clientY = box.top + box.height / 2 + 90 * Math.cos(turn);
        const how = { pointerId: 1, clientX, clientY, bubbles: true };
        plot.dispatchEvent(new PointerEvent('pointermove', how));
        if (window.dragging) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
}"""


def blobs(path: Path, n: int) -> None:
    """A map of n points."""
    rng = np.random.default_rng(0)
    of = rng.integers(0, 10, n)
    middle = np.stack([np.cos(0.628 * of), np.sin(0.628 * of)], 1) * 30
    y = (middle + 6 * rng.normal(size=(n, 2))).astype(np.float32)
    settings = dict(method="pca", seed=0, data="gone.npy", features="blobs", dimensions=2)
    axes = Axes(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), 1.0)
    names, labels = tuple(map(str, range(n))), tuple(f"blob {i}" for i in of)
    path.parent.mkdir(parents=True, exist_ok=True)
    Map(y, np.arange(n), names, labels, settings, axes, y).save(path)


def panned(page: Any, seconds: float) -> tuple[float, float]:
    """Frames a second, and the milliseconds that the last one took the Worker."""
    box = page.locator(".m-plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.evaluate(DRAG)
    time.sleep(1)
    look = "[performance.now() / 1e3, +document.querySelector('.m-plot').dataset.drawn]"
    first = page.evaluate(look)
    time.sleep(seconds)
    last = page.evaluate(look)
    page.evaluate("window.dragging = false")
    page.mouse.up()
    took = float(page.locator(".m-plot").get_attribute("data-ms"))
    return (last[1] - first[1]) / (last[0] - first[0]), took


def measured(root: Path, sizes: list[int], seconds: float) -> list[list[str]]:
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "likeness", "studio", str(root), "--no-browser"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    rows = []
    try:
        assert studio.stdout is not None
        link = studio.stdout.readline().rpartition(" ")[2].strip()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport=dict(width=1280, height=860))
            page.set_default_timeout(300_000)
            page.goto(link)
            page.locator("html[data-ready=yes]").wait_for(state="attached")
            for n in sizes:
                began = time.perf_counter()
                page.evaluate(f"location.hash = '#map&map=maps/blobs-{n}.npz'")
                page.get_by_role("heading", name=f"of {n:,}").wait_for()
                page.locator(".m-plot[data-drawn]").wait_for()
                ready = time.perf_counter() - began
                for shown in ("auto", "points"):
                    page.get_by_role("combobox", name="show").select_option(shown)
                    frames, took = panned(page, seconds)
                    mode = page.locator(".m-plot").get_attribute("data-mode")
                    rows.append([f"{n:,}", mode, f"{frames:.0f}", f"{took:.1f}", f"{ready:.1f}"])
    finally:
        studio.terminate()
        studio.wait(20)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    for n in args.sizes:
        blobs(root / f"maps/blobs-{n}.npz", n)
    print(heading(machine()))
    head = ["points", "shown as", "frames/s", "ms a drawing", "seconds to open"]
    print(table(head, measured(root, args.sizes, args.seconds)))
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
