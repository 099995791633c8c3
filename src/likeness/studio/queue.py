"""What has been asked for and is not drawn yet: a file, so that a reload of the page, a worker that dies or
a studio that is started anew costs at most the images under way.

One process writes it, the worker that draws."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from .. import storage
from ..core import Refusal
from .library import read_json

MOST = 100
"""entries"""


class Queue:
    """Entries in their order: id, run, args as a page has asked them, command; and why, where it failed."""

    def __init__(self, file: Path):
        self.file = file
        entries = read_json(file).get("entries", [])
        self.entries: list[dict[str, Any]] = (
            [e for e in entries if _whole(e)][:MOST] if isinstance(entries, list) else []
        )

    def add(self, run: str, args: dict[str, Any], command: str) -> str:
        """Its id.  Raises Refusal where there is no more room."""
        if len(self.entries) >= MOST:
            raise Refusal(f"{MOST} questions wait already; let some be drawn, or cancel some.")
        name = secrets.token_hex(4)
        self.entries.append(dict(id=name, run=run, args=args, command=command, why=""))
        self._save()
        return name

    def next(self) -> dict[str, Any] | None:
        """The first that has not failed."""
        return next((e for e in self.entries if not e["why"]), None)

    def __contains__(self, name: str) -> bool:
        return any(e["id"] == name for e in self.entries)

    def drop(self, name: str) -> None:
        """It is drawn, or no longer wanted."""
        self.entries = [e for e in self.entries if e["id"] != name]
        self._save()

    def fail(self, name: str, why: str) -> None:
        for entry in self.entries:
            if entry["id"] == name:
                entry["why"] = why
        self._save()

    def first(self, name: str) -> None:
        """To the head: it is drawn next, or again where it has failed."""
        chosen = [e for e in self.entries if e["id"] == name]
        for entry in chosen:
            entry["why"] = ""
        self.entries = chosen + [e for e in self.entries if e["id"] != name]
        self._save()

    def _save(self) -> None:
        storage.make(self.file.parent)
        storage.write(self.file, json.dumps(dict(entries=self.entries)).encode())


def _whole(entry: Any) -> bool:
    texts = ("id", "run", "command", "why")
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(k), str) for k in texts)
        and isinstance(entry.get("args"), dict)
    )
