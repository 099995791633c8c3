"""Run folders as a table shows them, read off their files: no torch, no model, and nothing is changed.

What a model answers, and what its options are, its class alone knows: `likeness models NAME --json` says
it, in a process of its own, once (Catalogue)."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import storage
from ..core import Refusal
from ..runs.folder import CONFIG
from ..storage import cache

DEEP = 3
"""folders below the root in which runs are looked for"""
MANY = 2000
"""run folders that are looked at"""
LARGEST = 4 << 20
"""bytes of a config.json, at most"""
RECENT = 15.0
"""seconds since a log was written within which a run counts as in training, where locks cannot be seen"""


def runs(root: Path) -> list[Path]:
    """Run folders below the root, by path; without those within others, and hidden ones."""
    out, level = list[Path](), [root]
    for _ in range(DEEP):
        below = list[Path]()
        for folder in level:
            for one in _folders(folder):
                (out if (one / CONFIG).is_file() else below).append(one)
                if len(out) + len(below) > MANY:
                    return sorted(out)
        level = below
    return sorted(out)


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as there:
            return sorted(
                Path(e.path) for e in there if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")
            )
    except OSError:
        return []


WATCHED = ("config.json", "log.jsonl", "state", "report.html")
"""files of a run by which its row changes"""


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def read_json(file: Path) -> dict[str, Any]:
    """An object; empty where the file is none, is damaged or too large."""
    try:
        if file.stat().st_size > LARGEST:
            return {}
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def row(root: Path, folder: Path, catalogue: Catalogue) -> dict[str, Any]:
    """A run, as the table and the screens know it."""
    config, last = read_json(folder / CONFIG), last_line(folder / "log.jsonl")
    agent = "agent" in config
    model = str(config.get("agent" if agent else "model", ""))
    training, data = _part(config, "training"), _part(config, "data")
    time = _part(last, "time")
    return dict(
        path=folder.relative_to(root).as_posix(),
        name=folder.name,
        kind="agent" if agent else "model",
        model=model,
        data=str(config.get("world", "") if agent else data.get("source", "")),
        answers=[] if agent else catalogue.answers(folder, model),
        options=_part(config, "options"),
        training=training,
        spec=_part(config, "spec"),
        images=training.get("images", 0),
        seen=max([last.get("seen", last.get("steps", 0)), *map(int, states(folder)[-1:])]),
        losses=_part(last, "losses"),
        rate=time.get("images_per_second"),
        memory=time.get("memory_mb"),
        seconds=time.get("seconds"),
        state="idle",
        report=(folder / "report.html").is_file(),
    )


def _part(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def last_line(file: Path, tail: int = 1 << 16) -> dict[str, Any]:
    """The last whole line of a file of JSON lines; empty where there is none."""
    try:
        with file.open("rb") as f:
            f.seek(max(0, file.stat().st_size - tail))
            lines = f.read().splitlines()
    except OSError:
        return {}
    for text in reversed(lines[-3:]):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}


def locks() -> frozenset[int]:
    """Inodes of the files that some process has locked.  To try a lock would keep a trainer out that begins
    at that moment; the kernel says it without."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return frozenset()
    found = [word for line in lines for word in line.split() if word.count(":") == 2]
    return frozenset(int(word.rpartition(":")[2]) for word in found)


def in_training(folder: Path, locked: frozenset[int]) -> bool:
    """Whether a process holds the lock of the run."""
    file = folder / ".lock"
    try:
        if locked or Path("/proc/locks").exists():
            return file.stat().st_ino in locked
        import time

        return time.time() - (folder / "log.jsonl").stat().st_mtime < RECENT
    except OSError:
        return False


class Catalogue:
    """What `likeness models` says of each model, and of files that runs carry.  Until a class has been asked,
    nothing.  What was said of the models that come with likeness is in the cache folder until a file of
    likeness changes: it takes a process with torch several seconds to say it."""

    def __init__(self) -> None:
        package = Path(__file__).parents[1] / "models"
        self.names = tuple(m.name for m in pkgutil.iter_modules([str(package)]))
        self.known = dict[str, dict[str, Any]]()
        self._asked = set[str]()
        self._lock = threading.Lock()

    def ask(self, names: Sequence[str]) -> None:
        """Ask for the entries of models, or of files; takes seconds where torch must be imported.  Whoever
        asks meanwhile waits."""
        with self._lock:
            if not self._asked:
                self.known |= remembered(self.names)
            self._ask([name for name in names if name not in self._asked])

    def _ask(self, new: list[str]) -> None:
        self._asked.update(new)
        new = [name for name in new if name not in self.known]
        if not new:
            return
        code = [sys.executable, "-m", "likeness", "models", *new, "--json"]
        done = subprocess.run(code, capture_output=True, text=True, check=False)
        try:
            listed = json.loads(done.stdout)["models"]
        except (ValueError, KeyError):
            for name in new if len(new) > 1 else ():  # one file that cannot be read takes no other along
                self._ask([name])
            return
        self.known |= {entry["name"]: entry for entry in listed}
        remember({name: self.known[name] for name in self.names if name in self.known})

    def wanted(self, root: Path) -> list[str]:
        """All models, and the files of runs that carry their own."""
        files = [str(f / "method.py") for f in runs(root) if (f / "method.py").is_file()]
        return [name for name in (*self.names, *files) if name not in self._asked]

    def answers(self, folder: Path, model: str) -> list[str]:
        """The questions that a run answers."""
        return list(self.entry(folder, model).get("answers", []))

    def entry(self, folder: Path, model: str) -> dict[str, Any]:
        return self.known.get(str(folder / model) if model.endswith(".py") else model, {})


def remembered(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Entries of models by name that an earlier studio kept, of this very likeness, if it did."""
    try:
        there = read_json(_memory())
    except (Refusal, OSError):
        return {}
    return {name: there[name] for name in names if isinstance(there.get(name), dict)}


def remember(entries: dict[str, dict[str, Any]]) -> None:
    """Keep them for the next studio; where they cannot be, it asks again."""
    with contextlib.suppress(Refusal, OSError):
        file = _memory()
        storage.make(file.parent)
        for old in file.parent.glob("models-*.json"):
            old.unlink(missing_ok=True)
        storage.write(file, json.dumps(entries).encode())


def _memory() -> Path:
    """The file of what all models say; another one when any file of likeness is another."""
    package = Path(__file__).parents[1]
    stamps = [
        (str(f.relative_to(package)), f.stat().st_size, _stamp(f)) for f in sorted(package.rglob("*.py"))
    ]
    return cache.where() / "studio" / f"{cache.key_of('models', sys.version, str(package), *stamps)}.json"


class Table:
    """All runs of a folder, each read again only when its files have changed."""

    def __init__(self, root: Path, catalogue: Catalogue):
        self.root, self.catalogue = root, catalogue
        self._kept = dict[Path, tuple[Any, dict[str, Any]]]()

    def rows(self) -> list[dict[str, Any]]:
        locked, now = locks(), dict[Path, tuple[Any, dict[str, Any]]]()
        for folder in runs(self.root):
            mark = (*map(_stamp, (folder / n for n in WATCHED)), len(self.catalogue.known))
            kept = self._kept.get(folder)
            try:
                fresh = row(self.root, folder, self.catalogue) if kept is None or kept[0] != mark else kept[1]
            except (OSError, ValueError, TypeError):  # one damaged or vanishing folder takes no other along
                continue
            now[folder] = (mark, fresh)
        self._kept = now
        return [
            row | dict(state="training" if in_training(folder, locked) else "idle")
            for folder, (_, row) in now.items()
        ]


# Of one run


def samples(root: Path, folder: Path) -> list[dict[str, Any]]:
    """Every picture that training has kept, by images seen: the frames of its film."""
    out = list[dict[str, Any]]()
    for path in sorted((folder / "samples").glob("*.png")):
        if path.stem.isdecimal() and _inside(root, path):
            out.append(dict(seen=int(path.stem), url=address(root, path)))
    return sorted(out, key=lambda one: one["seen"])


def film(root: Path, folder: Path) -> str:
    """Of an agent: the address of its film, if `likeness play` has made one."""
    for name in ("film.gif", "film.webp"):
        if (folder / name).is_file() and _inside(root, folder / name):
            return address(root, folder / name)
    return ""


def _inside(root: Path, file: Path) -> bool:
    """A link that leads out of the studio's folder is shown to nobody."""
    try:
        return file.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def address(root: Path, file: Path) -> str:
    """Where a page finds a file; another one under another address, so that it may keep what it has."""
    from urllib.parse import quote

    inside = file.resolve().relative_to(root.resolve()).as_posix()
    return f"/files/{quote(inside)}?{_stamp(file)}"


REMEDIES = re.compile(r"\.\s+Train anew with (.+)$")


def findings(folder: Path) -> list[dict[str, Any]]:
    """What the doctor has noted: since when, until when (None while it lasts), and the flags that help."""
    open_, out = dict[tuple[Any, Any], int](), list[dict[str, Any]]()
    for line in _json_lines(folder / "doctor.jsonl"):
        key, text = (str(line.get("look")), str(line.get("name"))), line.get("text")
        if isinstance(text, str) and text and key not in open_:
            found = REMEDIES.search(text)
            open_[key] = len(out)
            out.append(
                dict(
                    name=str(line.get("name", "")),
                    text=REMEDIES.sub(".", text),
                    since=line.get("seen"),
                    until=None,
                    remedies=[remedy.strip() for remedy in found[1].split(", or ")] if found else [],
                )
            )
        elif not text and key in open_:
            out[open_.pop(key)]["until"] = line.get("seen")
    return out


def _json_lines(file: Path) -> list[dict[str, Any]]:
    try:
        if file.stat().st_size > LARGEST:
            return []
        texts = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    out = list[dict[str, Any]]()
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            out.append(line)
    return out


def scores(folder: Path) -> list[dict[str, Any]]:
    """The cards of the last evaluation, as they stand in scores.json."""
    cards = read_json(folder / "scores.json").get("cards", [])
    return [card for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []


def states(folder: Path) -> list[str]:
    """States that the run keeps, the newest last: what it can be forked from."""
    try:
        return sorted((p.name for p in (folder / "state").iterdir() if p.name.isdecimal()), key=int)
    except OSError:
        return []
