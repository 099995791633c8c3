"""Learning curves of a run for a page: few points, which lose no peak."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

POINTS = 300
"""of a curve: buckets, each with its lowest, highest and mean value"""
LONGEST = 64 << 20
"""bytes of a log that are read, from its end"""
TERMS = 60
"""curves of a run, at most"""


def of(folder: Path) -> dict[str, dict[str, list[float | None]]]:
    """By term: at = images seen, low, high, mean.  Beside the losses stand images/s, from the time between
    two lines, and MB."""
    lines = _lines(folder / "log.jsonl")
    series = dict[str, list[tuple[float, float]]]()
    before: tuple[float, float] | None = None
    for line in lines:
        seen: Any = line.get("seen", line.get("steps"))
        time = line.get("time", {})
        if not _is_number(seen):
            continue
        losses = line.get("losses", line.get("terms", {}))
        own = {k: v for k, v in losses.items() if _is_number(v)} if isinstance(losses, dict) else {}
        own |= {k: v for k, v in line.items() if k not in ("seen", "steps") and _is_number(v)}
        if isinstance(time, dict):
            if _is_number(time.get("memory_mb")):
                own["memory, MB"] = time["memory_mb"]
            if _is_number(time.get("seconds")):
                if before is not None and time["seconds"] > before[1]:
                    own["images/s"] = (seen - before[0]) / (time["seconds"] - before[1])
                before = (seen, time["seconds"])
        for name, value in own.items():
            if name in series or len(series) < TERMS:
                series.setdefault(name, []).append((float(seen), float(value)))
    return {name: envelope(points) for name, points in series.items()}


def _is_number(value: Any) -> bool:
    """Of those that a float holds; nan and the infinities are."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 1000)


def envelope(points: list[tuple[float, float]], most: int = POINTS) -> dict[str, list[float | None]]:
    """The points in at most so many buckets of equally many: the last place of each, and the lowest, highest
    and mean of its finite values (None where it has none)."""
    size = max(1, math.ceil(len(points) / most))
    out: dict[str, list[float | None]] = dict(at=[], low=[], high=[], mean=[])
    for first in range(0, len(points), size):
        part = points[first : first + size]
        known = [y for _, y in part if math.isfinite(y)]
        out["at"].append(part[-1][0])
        out["low"].append(min(known, default=None))
        out["high"].append(max(known, default=None))
        out["mean"].append(sum(known) / len(known) if known else None)
    return out


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        with file.open("rb") as f:
            f.seek(max(0, file.stat().st_size - LONGEST))
            texts = f.read().splitlines()
    except OSError:
        return []
    out = list[dict[str, Any]]()
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):  # torn by a crash, or cut by the seek
            continue
        if isinstance(line, dict):
            out.append(line)
    return out
