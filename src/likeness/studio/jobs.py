"""Trainings: processes of the command line that live on when the studio ends.

A job is a folder, root/.studio/jobs/NUMBER:

    job.json     the command, the run, the nice level, when it began pids.json    the process that watches
    over it, and the training itself, each with the time it was started at out          what it prints
    ended.json   its exit status; not there while it runs

Between the studio and the training stands a small process (python -m likeness.studio.jobs FOLDER) that
waits for its exit status: nobody else could be told of it once the studio has been started anew."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import storage
from ..core import Refusal

LINES = 50
"""of the output of a job that died"""
MOST = 8
"""trainings at once: a laptop has no room for more"""
SHOWN = 40
"""jobs that are remembered"""
NICE = (0, 19)
"""training first, page first"""


class Jobs:
    """The trainings of one studio, read off its folder each time: a restart finds what is there."""

    def __init__(self, root: Path):
        self.root, self.folder = root, root / ".studio" / "jobs"

    def start(self, command: Sequence[str], run: str, nice: int) -> str:
        """Begin `likeness COMMAND...`; returns the number of the job.  Raises Refusal where too many run."""
        if sum(job["state"] in ALIVE for job in self.all()) >= MOST:
            raise Refusal(f"{MOST} trainings run already; pause one.")
        storage.make(self.folder)
        self._sweep()
        number = f"{max([0, *(int(p.name) for p in self._folders())]) + 1:06d}"
        folder = self.folder / number
        storage.make(folder)
        about = dict(command=list(command), run=run, nice=nice, began=time.time())
        storage.write(folder / "job.json", json.dumps(about).encode())
        self._watch_over(folder)
        return number

    def again(self, number: str) -> None:
        """The same command once more, which goes on bit by bit where the run was stopped."""
        folder = self._of(number)
        if self.one(folder)["state"] in ALIVE:
            raise Refusal("that training runs; pause it first.")
        os.utime(folder / "job.json")  # it is starting from now on, for whoever asks next
        (folder / "ended.json").unlink(missing_ok=True)
        (folder / "pids.json").unlink(missing_ok=True)
        self._watch_over(folder)

    @staticmethod
    def _watch_over(folder: Path) -> None:
        code = [sys.executable, "-m", "likeness.studio.jobs", str(folder.resolve())]
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(
            code, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
        _children.append(process)  # reaped by all(), as long as we live

    def stop(self, number: str, state: str = "paused") -> None:
        """Ask the training to save and end; what it has learnt stays.  state: paused or stopped."""
        folder = self._of(number)
        job = self.one(folder)
        if job["state"] not in ALIVE or not job["pid"]:
            raise Refusal("that training does not run.")
        storage.write(folder / "asked.json", json.dumps(dict(state=state)).encode())
        with contextlib.suppress(ProcessLookupError):
            os.kill(job["pid"], signal.SIGTERM)

    def nice(self, number: str, level: int) -> bool:
        """Give the training that nice level, with all its threads.  False where the system only lets it be
        raised: then it holds from the next start on."""
        folder = self._of(number)
        about = _json(folder / "job.json")
        storage.write(folder / "job.json", json.dumps(about | dict(nice=level)).encode())
        watcher = _json(folder / "pids.json").get("watcher", {})
        if not _alive(watcher):
            return True
        try:
            os.setpriority(os.PRIO_PGRP, int(watcher["pid"]), level)
        except (PermissionError, ProcessLookupError):
            return False
        return True

    def output(self, number: str, lines: int = LINES) -> list[str]:
        """The last lines that it printed."""
        try:
            with (self._of(number) / "out").open("rb") as f:
                f.seek(max(0, os.fstat(f.fileno()).st_size - (1 << 16)))
                text = f.read().decode(errors="replace")
        except OSError:
            return []
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        return [line.rpartition("\r")[2][:500] for line in plain.split("\n") if line.strip()][-lines:]

    def all(self) -> list[dict[str, Any]]:
        """Newest first."""
        _children[:] = [child for child in _children if child.poll() is None]
        return [self.one(folder) for folder in self._folders()[:SHOWN]]

    def one(self, folder: Path) -> dict[str, Any]:
        """A job as the page shows it.  state: starting, training, done, paused, stopped, or failed."""
        about, pids, ended = (_json(folder / name) for name in ("job.json", "pids.json", "ended.json"))
        asked, code = _json(folder / "asked.json").get("state"), ended.get("code")
        alive = _alive(pids.get("training", {}))
        if code == 0:
            state = "done"
        elif "code" in ended:
            state = str(asked) if asked and code in (130, 143, -15) else "failed"
        elif alive:
            state = "training"
        else:  # nobody wrote down how it ended: the machine went down, or the watcher was killed
            young = not pids and time.time() - _stamp(folder / "job.json") < 20
            state = "starting" if young or _alive(pids.get("watcher", {})) else "failed"
        return dict(
            id=folder.name,
            run=str(about.get("run", "")),
            name=Path(str(about.get("run", ""))).name,
            command=shlex.join(["likeness", *map(str, about.get("command", []))]),
            nice=about.get("nice", 0),
            pid=pids.get("training", {}).get("pid") if alive else None,
            state=state,
            code=code,
            lines=self.output(folder.name) if state == "failed" else [],
        )

    def _folders(self) -> list[Path]:
        try:
            return sorted((p for p in self.folder.iterdir() if p.name.isdecimal()), reverse=True)
        except OSError:
            return []

    def _sweep(self) -> None:
        import shutil

        for folder in self._folders()[SHOWN:]:
            if self.one(folder)["state"] not in ALIVE:
                shutil.rmtree(folder, ignore_errors=True)

    def _of(self, number: str) -> Path:
        if not re.fullmatch(r"\d{1,9}", number) or not (self.folder / number / "job.json").is_file():
            raise Refusal(f"there is no training number {number}.")
        return self.folder / number


ALIVE = ("starting", "training")
_children = list[subprocess.Popen[bytes]]()


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _stamp(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _mark(pid: int) -> dict[str, Any]:
    """A process by its number and its start, since numbers are used again."""
    return dict(pid=pid, start=_start(pid))


def _start(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _alive(mark: Any) -> bool:
    pid = mark.get("pid") if isinstance(mark, dict) else None
    if not isinstance(pid, int) or pid <= 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    with contextlib.suppress(OSError, IndexError):  # of a zombie nothing more is to be expected
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
    return _start(pid) == mark.get("start", "")


def watch_over(folder: Path) -> None:
    """Run the command of a job, and write down how it ended."""
    about = _json(folder / "job.json")
    with contextlib.suppress(OSError):
        os.nice(int(about.get("nice", 0)))
    (folder / "asked.json").unlink(missing_ok=True)
    code = [sys.executable, "-m", "likeness", *about["command"]]
    with (folder / "out").open("ab") as out:
        child = subprocess.Popen(code, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        marks = dict(watcher=_mark(os.getpid()), training=_mark(child.pid))
        storage.write(folder / "pids.json", json.dumps(marks).encode())
        ended = dict(code=child.wait(), at=time.time())
    storage.write(folder / "ended.json", json.dumps(ended).encode())


if __name__ == "__main__":
    watch_over(Path(sys.argv[1]))
