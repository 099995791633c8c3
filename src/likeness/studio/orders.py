"""The queue of photos to translate and to style: orders on the disk, and the thread that works through them.

An order is a folder, ROOT/out/NAME-N, made anew for each:

    photos/      the photos as they were brought
    paintings/   of a transfer of style
    order.json   what was asked, how far it is, and what was refused
    *.png ...    the results, those of the command that the order names, to the byte

So it survives a reload, a closed browser and a studio that ends: what was begun goes on where it was, since a
result that is there already is not made again.  The thread is in the worker and needs no page that looks."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from .. import storage
from ..core import Refusal
from .hub import report, sentences
from .library import read_json

OUT = "out"
NAME = re.compile(r"(translate|style|sheet)-[1-9]\d{0,5}")
SHOWN = 50
"""orders that a page is told of, the newest"""
WAITS = ("waiting", "working")
KINDS = ("translate", "style", "sheet")


@dataclass
class Order:
    """What was asked, and how far it is."""

    name: str
    kind: str
    photos: list[str]
    run: str = ""
    """path of the run below the root; of a style only where a run stylises"""
    paintings: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    state: str = "waiting"
    """waiting, working, done, failed, stopped"""
    share: float = 0.0
    results: list[dict[str, Any]] = field(default_factory=list)
    """photo, file, command, notes"""
    skipped: list[dict[str, str]] = field(default_factory=list)
    error: dict[str, str] = field(default_factory=dict)
    hidden: bool = False
    added: float = 0.0
    """seconds since 1970"""


class Stopped(Exception):
    """Somebody has stopped the order that is worked at."""


def near(path: Path) -> str:
    """The path as seen from the folder where the studio was started."""
    there = os.path.relpath(path)
    return str(path) if there.startswith("..") else there


class Queue:
    """The orders below a root, worked through one after the other."""

    def __init__(self, root: Path, work: Callable[[Queue, Order], None]):
        """work: does an order; called in the thread."""
        self.root, self.folder, self.work = root, root / OUT, work
        self.change = threading.Condition()
        self.version, self.preview, self.caption = 0, None, ""
        self.orders = self._read()
        self.now: Order | None = None
        self._stop = False
        self._thread: threading.Thread | None = None

    preview: np.ndarray | None
    """uint8 (H, W, 3) of what is worked at"""

    def _read(self) -> list[Order]:
        known, found = {f.name for f in fields(Order)}, list[Order]()
        names = sorted(p.name for p in self.folder.glob("*-*")) if self.folder.is_dir() else []
        for name in names:
            kept = read_json(self.folder / name / "order.json")
            if not NAME.fullmatch(name) or not {"kind", "photos"} <= kept.keys():
                continue
            order = Order(**{k: v for k, v in kept.items() if k in known} | dict(name=name))
            order.state = "waiting" if order.state == "working" else order.state
            found.append(order)
        return sorted(found, key=lambda o: (o.added, o.name))

    # What pages ask

    def add(self, kind: str, fill: Callable[[Order, Path], None], **asked: Any) -> Order:
        """A new order in a folder of its own, into which `fill` puts the photos; it waits."""
        number = 1
        while True:
            folder = self.folder / f"{kind}-{number}"
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
        order = Order(folder.name, kind, **asked, added=time.time())
        try:
            fill(order, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.save(order)
        with self.change:
            self.orders.append(order)
        self.go()
        return order

    def go(self) -> None:
        """Work, if there is any and nobody is at it."""
        with self.change:
            alive = self._thread is not None and self._thread.is_alive()
            if not alive and any(o.state in WAITS for o in self.orders):
                self._thread = threading.Thread(target=self._serve, daemon=True)
                self._thread.start()
        self.tell()

    def find(self, name: str) -> Order:
        order = next((o for o in self.orders if o.name == name and not o.hidden), None)
        if order is None or not (self.folder / name).is_dir():
            raise Refusal("that order is gone; add its photos once more.")
        return order

    def stop(self, name: str) -> None:
        """End an order that waits or is worked at; results that are there stay."""
        order = self.find(name)
        with self.change:
            if order is self.now:
                self._stop = True
            elif order.state == "waiting":
                order.state = "stopped"
        self.save(order)
        self.tell()

    def again(self, name: str) -> None:
        """Go on with one that was stopped or has failed."""
        order = self.find(name)
        if order.state in ("stopped", "failed"):
            order.state, order.error = "waiting", {}
            self.save(order)
            self.go()

    def hide(self, name: str) -> None:
        """Off the list; its files stay."""
        order = self.find(name)
        if order.state in WAITS:
            raise Refusal("that order is not done yet; stop it first.")
        order.hidden = True
        self.save(order)
        self.tell()

    def said(self) -> dict[str, Any]:
        shown = [o for o in self.orders if not o.hidden][-SHOWN:]
        rows = [asdict(o) | dict(folder=near(self.folder / o.name)) for o in reversed(shown)]
        now = self.now
        return dict(orders=rows, now=now.name if now else "", caption=self.caption)

    def wait(self, seen: int, seconds: float) -> tuple[int, bool]:
        """The version as soon as it is another one or the time is over, and whether there is work: an order
        is worked at until how it ended is on the disk."""
        with self.change:
            self.change.wait_for(lambda: self.version != seen, seconds)
            return self.version, self.now is not None or any(o.state in WAITS for o in self.orders)

    # What the work tells

    def tell(self) -> None:
        with self.change:
            self.version += 1
            self.change.notify_all()

    def progress(
        self, order: Order, share: float, caption: str = "", image: np.ndarray | None = None
    ) -> None:
        """How far it is.  Raises Stopped where somebody has stopped it."""
        if self._stop:
            raise Stopped
        order.share, self.caption = share, caption or self.caption
        self.preview = image if image is not None else self.preview
        self.tell()

    def save(self, order: Order) -> None:
        folder = self.folder / order.name
        if folder.is_dir():
            storage.write(folder / "order.json", json.dumps(asdict(order), indent=1, default=str).encode())

    def _next(self) -> Order | None:
        with self.change:
            self.now = next((o for o in self.orders if o.state in WAITS and not o.hidden), None)
            self._stop, self.preview, self.caption = False, None, ""
            if self.now is None:
                self._thread = None
            return self.now

    def _serve(self) -> None:
        while (order := self._next()) is not None:
            order.state = "working"
            self.tell()
            try:
                self.work(self, order)
                order.state, order.share = "done", 1.0
            except Stopped:
                order.state = "stopped"
            except Refusal as refusal:
                what, why, do = sentences(str(refusal))
                order.state, order.error = "failed", {"what": what, "why": why, "do": do}
            except Exception as error:
                report(error)
                what = "That is a defect of likeness, not of your input."
                why = "Its lines are in the terminal where the studio runs."
                order.state, order.error = "failed", {"what": what, "why": why, "do": ""}
            self._kept(order)
        self.tell()

    def _kept(self, order: Order) -> None:
        try:
            self.save(order)
        except (Refusal, OSError) as why:
            report(why)
        self.tell()


def command(verb: str, *words: str) -> str:
    return shlex.join(["likeness", verb, *words])


def safe(name: str, taken: set[str], ending: str) -> str:
    """A file name of what somebody calls a photo, which is like no other of the order."""
    stem = re.sub(r"[^\w .()+-]", "_", Path(name.replace("\\", "/")).stem)[:60].strip(" .-") or "photo"
    number, out = 1, f"{stem}.{ending}"
    while out.lower() in taken:
        number += 1
        out = f"{stem}-{number}.{ending}"
    taken.add(out.lower())
    return out
