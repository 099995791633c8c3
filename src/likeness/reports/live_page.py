"""report.html while a run is being trained: it is written anew now and then, and an open page reloads itself.

The browser keeps its place on the page, since it is the same address.  A page that is no longer written,
because the process was killed, stops reloading by itself."""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import engine, storage
from ..core import BadData, Refusal
from ..data import Data
from ..evaluation.scores import scores_of
from ..metrics.card import Score
from ..runs.run import Run
from ..training import loop
from ..training.loop import Step, Tick
from . import run_page

AT_MOST = 0.01
"""share of the time that may go into writing the page"""
EVERY, RELOAD = 30.0, 5.0
"""seconds between two pages where there is no new snapshot, and between two looks of the browser"""
PATIENCE = 20
"""times the pause between two pages, after which an open page takes the training for dead"""
SCRIPT = """const written = {written}, wait = {wait}, patience = {patience};
if (Date.now() / 1000 - written < patience) setTimeout(() => location.reload(), 1000 * wait);"""
"""times in seconds; a reload, other than a new visit, leaves the page where it was scrolled to"""


@contextmanager
def kept(run: Run, data: Data, budget: dict[str, Any], tick: Tick, off: bool = False) -> Iterator[Tick]:
    """A tick that also keeps report.html up to date, within AT_MOST of the time.  A training that is stopped
    leaves a page that no longer reloads; one that is done leaves one that waits for its scores, and whoever
    writes these replaces it.  off: write nothing, and pass the tick on."""
    if off or engine.rank() > 0:
        yield tick
        return
    page = Page(run, data, budget)

    def both(step: Step) -> None:
        tick(step)
        page.look(step.seen)

    page.write(live=True)
    try:
        yield both
    except BaseException:
        page.write(live=False)
        raise
    page.write(live=page.share >= 1)


class Page:
    """When to write it, and what it says of how far the training is."""

    def __init__(self, run: Run, data: Data, budget: dict[str, Any]):
        self.run, self.data, self.budget = run, data, budget
        self.written, self.cost = -float("inf"), 0.0
        """by time.monotonic(), and in seconds"""
        self.snapshot = -1
        """images seen at the one that is on the page"""
        self.scores = list[Score]()
        try:
            self.scores = scores_of(run)
        except BadData as damaged:
            run.notes.append(str(damaged))

    def look(self, seen: int) -> None:
        """Write the page if it is due."""
        since = time.monotonic() - self.written
        if since * AT_MOST < self.cost:
            return
        if since > EVERY or self._is_new(seen):
            self.write(live=True)

    def _is_new(self, seen: int) -> bool:
        if (self.run.folder / "samples" / f"{seen:012d}.png").exists():
            self.snapshot = seen
        return self.snapshot == seen

    def write(self, live: bool) -> None:
        """One that cannot be written is no reason to lose the training."""
        began = time.monotonic()
        try:
            text = run_page.draft(self.run, self.data, self._status(live), self.scores)
            path = self.run.folder / run_page.PAGE
            storage.write(path, (reloading(text, self.pause) if live else text).encode())
        except Refusal as refusal:
            self.run.notes.append(str(refusal))
        self.written = time.monotonic()
        self.cost = self.written - began

    @property
    def pause(self) -> float:
        """Seconds between two pages, at least."""
        return max(EVERY, self.cost / AT_MOST)

    @property
    def share(self) -> float:
        """Of the budget, 0 to 1 and a little more."""
        minutes = self.budget.get("minutes", math.inf)
        last = loop.last_image(self.run.config.training, self.budget.get("images"), minutes)
        return max(self.run.seconds / (60 * minutes), self.run.seen / max(last, 1))

    def _status(self, live: bool) -> str:
        minutes, goal = self.budget.get("minutes"), self.budget.get("images", self.run.config.training.images)
        of = f"{self.share:.0%} of " + (f"{minutes:g} minutes" if minutes else f"{goal:,} images")
        if not live:
            return f"stopped at {of}; the same command goes on from here"
        doing = "trained, and being scored" if self.share >= 1 else f"training: {of}"
        return f"{doing}, as of {time.strftime('%H:%M:%S')}; this page reloads itself"


def reloading(page: str, pause: float) -> str:
    """The page with the few lines of script that reload it, which are the only ones that it allows itself.
    pause: seconds between two pages."""
    script = SCRIPT.format(written=round(time.time()), wait=RELOAD, patience=round(PATIENCE * pause))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = page.replace(
        "style-src 'unsafe-inline'", f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'", 1
    )
    return allowed.replace("</head>", f"<script>{script}</script></head>", 1)
