"""What the studio costs: its page, its websocket beside a training, a reload, a page that does not read,
and what an open, idle page takes from a training.

    python benchmarks/studio.py --seconds 30

Chromium is Debian's (or LIKENESS_CHROMIUM).  The training is `likeness train vae digits`, in a process of
its own. Images a second with and without the page take turns, and the ratio is that of their medians."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

from likeness.studio import protocol

TRAIN = ["train", "vae", "digits", "{run}", "--images", "1000000000", "--no-report", "--seed", "1", "--json"]
LIKENESS = [sys.executable, "-m", "likeness"]


def studio(root: Path) -> tuple[subprocess.Popen[str], str]:
    """The process, and its link."""
    process = subprocess.Popen(
        [*LIKENESS, "studio", str(root), "--no-browser"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().rpartition(" ")[2].strip()


def wire(link: str) -> Any:
    """A websocket of a page that is no browser."""
    from websockets.sync.client import connect

    place = urllib.parse.urlparse(link)
    token = urllib.parse.parse_qs(place.query)["token"][0]
    headers = {"Cookie": f"likeness-{place.port}={token}"}
    own = f"http://{place.netloc}"
    return connect(f"ws://{place.netloc}/wire", origin=own, additional_headers=headers, max_size=None)


def round_trips(link: str, n: int = 500) -> list[float]:
    """Milliseconds of questions with 16 kB, one after the other, 50 a second."""
    out = list[float]()
    with wire(link) as page:
        page.send(protocol.pack(dict(type="keep", key="bench", value="x" * 16_000)))
        for _ in range(n):
            began = time.perf_counter()
            page.send(protocol.pack(dict(type="recall", key="bench")))
            while protocol.unpack(page.recv())[0].get("key") != "bench":
                pass
            out.append(1000 * (time.perf_counter() - began))
            time.sleep(0.02)
        page.send(protocol.pack(dict(type="keep", key="bench", value=None)))
    return out


def training(root: Path, name: str) -> subprocess.Popen[bytes]:
    command = [word.format(run=root / name) for word in TRAIN]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen([*LIKENESS, *command], stdout=nothing, stderr=nothing)
    while not (root / name / "log.jsonl").exists():
        time.sleep(0.1)
        assert process.poll() is None, "the training has ended"
    return process


def speed(root: Path, name: str, seconds: float) -> float:
    """Images a second of wall time of a new training, over so many seconds after its first."""
    process = training(root, name)
    time.sleep(3)
    first, began = _seen(root / name), time.perf_counter()
    time.sleep(seconds)
    result = (_seen(root / name) - first) / (time.perf_counter() - began)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(root / name)
    return result


def _seen(folder: Path) -> float:
    """Images seen now: of the last line of the log, and what has been since at its pace."""
    *_, before, last = (json.loads(x) for x in (folder / "log.jsonl").read_text().splitlines()[-2:])
    pace = (last["seen"] - before["seen"]) / max(1e-9, last["time"]["seconds"] - before["time"]["seconds"])
    return last["seen"] + pace * (time.time() - (folder / "log.jsonl").stat().st_mtime)


def rss(pid: int) -> float:
    """MB of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def stuck(link: str, pid: int, seconds: float) -> float:
    """MB that the server grows by while a page asks and asks and reads nothing."""
    import socket

    before = rss(pid)
    with wire(link) as page:
        page.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        page.send(protocol.pack(dict(type="keep", key="stuck", value="x" * 60_000)))
        end, most = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            try:
                page.send(protocol.pack(dict(type="recall", key="stuck")))
            except Exception:  # it was cut off, which is right
                break
            most = max(most, rss(pid) - before)
            time.sleep(0.005)
    return max(most, rss(pid) - before)


def ready(browser: Any, link: str) -> tuple[float, float, float]:
    """Milliseconds until the page is ready, kB that it loaded, and milliseconds of a reload with a run
    open."""
    context = browser.new_context(viewport=dict(width=1280, height=800))
    page, sizes = context.new_page(), list[int]()
    page.on("response", lambda r: sizes.append(int(r.headers.get("content-length", 0))))
    began = time.perf_counter()
    page.goto(link)
    page.locator("html[data-ready=yes]").wait_for(state="attached")
    first = 1000 * (time.perf_counter() - began)
    kilobytes = sum(sizes) / 1000
    page.locator("[data-run]").first.click()
    page.locator("section.panel h2").wait_for()
    began = time.perf_counter()
    page.reload()
    page.locator("section.panel h2").wait_for()
    again = 1000 * (time.perf_counter() - began)
    context.close()
    return first, kilobytes, again


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement of speed")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("LIKENESS_CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        root = Path(temporary) / "runs"
        root.mkdir()
        subprocess.run(
            [
                *LIKENESS,
                "train",
                "vae",
                "digits",
                str(root / "small"),
                "--images",
                "2000",
                "--no-report",
                "--json",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        server, link = studio(root)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            pages = [ready(browser, link) for _ in range(5)]
            first, kilobytes, again = (statistics.median(x) for x in zip(*pages))
            print(f"page ready: {first:.0f} ms, {kilobytes:.0f} kB (medians of 5)")
            print(f"a reload restores a run: {again:.0f} ms (median of 5)")
            busy = training(root, "busy")
            trips = sorted(round_trips(link))
            busy.kill()
            busy.wait()
            shutil.rmtree(root / "busy")
            middle, late = trips[len(trips) // 2], trips[int(0.95 * len(trips))]
            print(
                f"websocket beside a training, 16 kB: p50 {middle:.1f} ms, p95 {late:.1f} ms (n {len(trips)})"
            )
            held = stuck(link, server.pid, args.seconds)
            print(f"a page that does not read for {args.seconds:g} s: {held:.1f} MB")
            alone, beside = list[float](), list[float]()
            for turn in range(args.turns):
                alone.append(speed(root, f"alone{turn}", args.seconds))
                page = browser.new_page()
                page.goto(link)
                page.locator("html[data-ready=yes]").wait_for(state="attached")
                beside.append(speed(root, f"beside{turn}", args.seconds))
                page.close()
            a, b = statistics.median(alone), statistics.median(beside)
            print(f"training: {a:.0f} images/s alone, {b:.0f} beside an open page: {b / a:.3f}")
        finally:
            browser.close()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
