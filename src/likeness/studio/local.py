"""Questions that need no torch: the hub's own process answers them, in a thread: those of the screen
Runs."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core import Refusal
from . import curves, library, protocol
from .hub import Hub, Local, report
from .jobs import NICE, Jobs
from .protocol import Answer, Ask

EVERY = 1.0
"""seconds between two looks at the run folders, while a page watches"""
SOON = 0.1
"""seconds between two looks for a page that watches"""


class Runs:
    """What the screen Runs asks."""

    def __init__(self, root: Path):
        self.root, self.jobs = root, Jobs(root)
        self.catalogue = library.Catalogue()
        self._table = library.Table(root, self.catalogue)
        self._sets: list[dict[str, Any]] = []
        self._starting = threading.Lock()

    async def keep_table(self, hub: Hub) -> None:
        """The value `runs`: published anew when something has changed, while a page watches; and where the
        hub has it no more, since values that nobody watched have to make room."""
        last = None
        while True:
            slot = hub.slots.get("runs")
            if slot is None or not slot.clients:
                await asyncio.sleep(SOON)
                continue
            try:
                new = await asyncio.to_thread(self.table)
            except Exception as error:  # a folder that changes while it is read; the next look is soon
                report(error)
                await asyncio.sleep(EVERY)
                continue
            there = hub.slots.get("runs")
            if new != last or there is None or there.seq == 0:
                hub.publish("runs", new)
                last = new
            if wanted := await asyncio.to_thread(self.catalogue.wanted, self.root):
                await asyncio.to_thread(self.catalogue.ask, wanted)
                continue
            await asyncio.sleep(EVERY)

    def table(self) -> dict[str, Any]:
        """All runs and trainings."""
        rows, jobs = self._table.rows(), self.jobs.all()
        newest = {job["run"]: job for job in reversed(jobs)}
        for row in rows:
            job = newest.get(row["path"])
            row["job"] = None if job is None else job["id"]
            if job is not None and row["state"] == "idle" and job["state"] != "done":
                row["state"] = job["state"]
        return dict(runs=rows, jobs=jobs, root=str(self.root))

    def details(self, args: dict[str, Any]) -> dict[str, Any]:
        """Of one run: curves, samples, findings, scores, and the command that makes it again."""
        folder = self._run(args)
        config = library.read_json(folder / "config.json")
        return dict(
            path=folder.relative_to(self.root.resolve()).as_posix(),
            config=config,
            curves=curves.of(folder),
            samples=library.samples(self.root, folder),
            findings=library.findings(folder),
            scores=library.scores(folder),
            film=library.film(self.root, folder),
            states=library.states(folder),
            fork=library.read_json(folder / "fork.json"),
            command=self._command(folder, config),
        )

    def _command(self, folder: Path, config: dict[str, Any]) -> str:
        """That makes the run; empty as long as nobody knows which options are usual."""
        if not self.catalogue.entry(folder, str(config.get("model", ""))):
            return ""
        shown = self.root / folder.relative_to(self.root.resolve())
        return shlex.join(["likeness", *self.made_by(folder, str(shown))])

    def made_by(self, folder: Path, target: str, more: dict[str, Any] | None = None) -> list[str]:
        """The arguments of `likeness` that make such a run in another folder: those that are not usual."""
        config = library.read_json(folder / "config.json")
        model = str(config.get("model", ""))
        name = str(folder / model) if model.endswith(".py") else model
        self.catalogue.ask([name])
        entry = self.catalogue.entry(folder, model)
        usual = {
            one["name"]: one["here"] for part in PARTS for one in entry.get(part, []) if isinstance(one, dict)
        }
        own = {k: v for part in ("options", "training", "data") for k, v in _part(config, part).items()}
        typed = {k: v for k, v in own.items() if k in usual and v != usual[k] and v is not None}
        inside = _part(config, "inside").get("source")
        source = str(inside or _part(config, "data").get("source", ""))
        return ["train", name, source, target, *flags(typed | (more or {}))]

    def models(self, _: dict[str, Any]) -> dict[str, Any]:
        """What can be trained, with all its options, and the data sets that have a name."""
        self.catalogue.ask([*self.catalogue.names, *self.catalogue.wanted(self.root)])
        if not self._sets:
            code = [sys.executable, "-m", "likeness", "data", "--json"]
            done = subprocess.run(code, capture_output=True, text=True, check=False)
            try:
                self._sets = json.loads(done.stdout)["sets"]
            except (ValueError, KeyError):
                self._sets = []
        entries = [self.catalogue.known[n] for n in self.catalogue.names if n in self.catalogue.known]
        return dict(models=entries, sets=self._sets)

    def start(self, args: dict[str, Any]) -> dict[str, Any]:
        """Begin a training: a new run, or one that goes on, or a fork (`from`)."""
        run = protocol.confined(self.root, protocol.text(args, "run", 200))
        if not re.fullmatch(r"[\w][\w. +=/-]*", run.relative_to(self.root.resolve()).as_posix()):
            raise Refusal("the name of a run is of letters, digits, and . _ + = -")
        more = self._options(args)
        target = str(self.root / run.relative_to(self.root.resolve()))
        if origin := protocol.text(args, "like", 1000, ""):  # as another run, with some options changed
            folder = self._run(dict(path=origin))
            command = self.made_by(folder, target, more)
            if protocol.flag(args, "fork", False):
                command = [
                    *self.made_by(folder, target)[:4],
                    "--from",
                    self._state(folder, args),
                    *flags(more),
                ]
        else:
            known = (*self.catalogue.names, *(str(f / "method.py") for f in library.runs(self.root)))
            model, data = protocol.choice(args, "model", known), protocol.text(args, "data", 1000)
            if not data or data.startswith("-"):
                raise Refusal("data is a folder of images, a file, or the name of a set.")
            command = ["train", model, data, target, *flags(more)]
        if minutes := protocol.number(args, "minutes", 0, 1e6, 0):
            command += ["--minutes", f"{minutes:g}"]
        return self._begin(command, run, args)

    def resume(self, args: dict[str, Any]) -> dict[str, Any]:
        """Go on with a run: by the command of its job, or with a longer budget."""
        folder = self._run(args)
        command = self.made_by(folder, str(folder))[:4]
        if images := protocol.whole(args, "images", 0, 10**12, 0):
            command += ["--images", str(images)]
        return self._begin(command, folder, args)

    def _begin(self, command: list[str], run: Path, args: dict[str, Any]) -> dict[str, Any]:
        shown = shlex.join(["likeness", *command])
        if protocol.flag(args, "show", False):
            return dict(command=shown)
        name = run.relative_to(self.root.resolve()).as_posix()
        with self._starting:
            alive = [
                j for j in self.jobs.all() if j["run"] == name and j["state"] in ("starting", "training")
            ]
            if alive:
                raise Refusal(f"{name} is being trained already; pause that first.")
            job = self.jobs.start(command, name, protocol.whole(args, "nice", *NICE, 0))
        return dict(job=job, run=name, command=shown)

    def _options(self, args: dict[str, Any]) -> dict[str, Any]:
        options = args.get("options", {})
        if not isinstance(options, dict) or len(options) > 200:
            raise Refusal("options are an object.")
        for name, value in options.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,60}", name):
                raise Refusal(f"there is no option {name[:60]!r}.")
            if isinstance(value, str):
                protocol.text(options, name, 1000)
                if value.startswith("-"):
                    raise Refusal(f"{name} does not begin with a dash.")
            elif not isinstance(value, bool):
                protocol.number(options, name, -1e18, 1e18)
        return options

    def _state(self, folder: Path, args: dict[str, Any]) -> str:
        state = protocol.text(args, "state", 20, "")
        if state and state not in library.states(folder):
            raise Refusal(f"that run keeps no state {state}.")
        return str(folder / "state" / state) if state else str(folder)

    def _run(self, args: dict[str, Any]) -> Path:
        folder = protocol.path(args, "path", self.root)
        if not (folder / "config.json").is_file():
            raise Refusal(f"{args['path'][:80]} is not a run any more; choose another.")
        return folder

    def again(self, args: dict[str, Any]) -> dict[str, Any]:
        with self._starting:  # of two pages that ask at once, one is refused
            self.jobs.again(protocol.text(args, "job", 9))
        return {}

    def pause(self, args: dict[str, Any]) -> dict[str, Any]:
        self.jobs.stop(
            protocol.text(args, "job", 9), protocol.choice(args, "state", ("paused", "stopped"), "paused")
        )
        return {}

    def nice(self, args: dict[str, Any]) -> dict[str, Any]:
        """now: whether it holds at once; else from the next start on."""
        level = protocol.whole(args, "level", *NICE)
        return dict(now=self.jobs.nice(protocol.text(args, "job", 9), level))

    def output(self, args: dict[str, Any]) -> dict[str, Any]:
        return dict(lines=self.jobs.output(protocol.text(args, "job", 9), 200))


PARTS = ("options", "training", "reading")


def _part(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def flags(options: dict[str, Any]) -> list[str]:
    """Options as they are typed."""
    out = list[str]()
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            out.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            out += [f"--{flag}", f"{value:g}" if isinstance(value, float) else str(value)]
    return out


def questions(runs: Runs) -> dict[str, dict[str, Local]]:
    """By screen and method."""
    names = ("details", "models", "start", "resume", "again", "pause", "nice", "output")
    return {"runs": {name: _threaded(getattr(runs, name)) for name in names}}


def _threaded(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Local:
    async def ask(args: dict[str, Any], _: Ask) -> Answer:
        return Answer(await asyncio.to_thread(answer, args))

    return ask
