"""How fast the playground is, through a real Chromium: frames that the page has drawn and acknowledged, and
training steps, a second; and the processor time that a step and a frame take in the worker.

    python benchmarks/playground.py --seconds 20

Frames and steps a second are of this machine as loaded as it is; milliseconds of processor time hardly are.
The target is 20 frames and 200 steps a second on two idle cores, which 1000 / 200 = 5 ms a step leave room
for."""

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

from measure import heading, machine, table

CHROMIUM = os.environ.get("LIKENESS_CHROMIUM") or shutil.which("chromium") or ""
MODELS = ("gan", "vae", "flowmatching", "pixelcnn")


def costs(model: str, steps: int = 200) -> tuple[float, float]:
    """Milliseconds of processor time of a step, and of what a frame shows."""
    import torch

    from likeness.studio.playground.session import Session

    torch.set_num_threads(1)
    session = Session(dict(model=model, law="ring"))
    pane = session.panes["a"]
    for _ in range(20):
        pane.step()
    session.view()
    began = time.process_time()
    for _ in range(steps):
        pane.step()
    step = (time.process_time() - began) / steps
    began = time.process_time()
    for _ in range(20):
        pane.check()
        session.remember()
        session.view()
    return 1e3 * step, 1e3 * (time.process_time() - began) / 20


def watched(seconds: float, pace: int) -> dict[str, Any]:
    """What a page sees of the GAN on the ring."""
    from playwright.sync_api import sync_playwright

    root = Path(tempfile.mkdtemp())
    command = [sys.executable, "-m", "likeness", "studio", str(root), "--no-browser"]
    studio = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    try:
        assert studio.stdout is not None
        link = studio.stdout.readline().rpartition(" ")[2].strip()
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
            page.set_default_timeout(300_000)
            page.goto(f"{link}#playground")
            page.locator(".pg-plot[data-step]").wait_for()
            how = dict(key="playground", do="pace", steps=pace)
            page.evaluate("how => studio.ask('playground', 'act', how, {key: 'playground'})", how)
            page.locator("[data-do=run]").click()
            while int(page.locator(".pg-plot").first.get_attribute("data-step")) < 50:
                time.sleep(0.1)  # the policy of the page forbids what would wait within it
            step = "+document.querySelector('.pg-plot').dataset.step"
            look = f"[performance.now() / 1e3, studio.stats.acks, {step}]"
            first = page.evaluate(look)
            time.sleep(seconds)
            last = page.evaluate(look)
            passed = last[0] - first[0]
            return {"frames/s": (last[1] - first[1]) / passed, "steps/s": (last[2] - first[2]) / passed}
    finally:
        studio.terminate()
        studio.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pace", type=int, default=10, help="steps a frame")
    parser.add_argument("--no-browser", action="store_true", help="processor time alone")
    args, load = parser.parse_args(), machine()
    print(f"{heading(load)}\n")
    rows = [[name, *(f"{ms:.2f}" for ms in costs(name))] for name in MODELS]
    print(table(["model", "CPU-ms a step", "CPU-ms a frame"], rows))
    if not args.no_browser:
        seen = watched(args.seconds, args.pace)
        print(
            f"\ngan on the ring, {args.pace} steps a frame: "
            + ", ".join(f"{v:.1f} {k}" for k, v in seen.items())
        )


if __name__ == "__main__":
    main()
