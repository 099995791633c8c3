"""States on disk: either the old one or the new one is there, never half of one.

    state/000000012800/state.safetensors    tensors
    state/000000012800/manifest.json        size and sha256 of that file, and what else must be remembered

A state is written into a temporary folder, flushed to the disk, and renamed; the two newest good ones
are kept.  There is no pointer to the newest that could be wrong: it is the newest whose manifest verifies.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load
from safetensors.torch import save as serialise
from torch import Tensor

from ..core import BadData
from .atomic import fsync, trouble

KEEP = 2
_verified: set[tuple[Path, str]] = set()
"""the state that this process wrote last: reading it back at every save would take as long as writing it"""


def save(folder: Path, number: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Commit a state and remove those that are older than the two newest good ones."""
    final, temporary = folder / f"{number:012d}", folder / f"{number:012d}.tmp-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clean(folder)
        temporary.mkdir()
        payload = serialise({name: t.detach().contiguous() for name, t in tensors.items()})
        (temporary / "state.safetensors").write_bytes(payload)
        fsync(temporary / "state.safetensors")
        manifest = dict(facts, bytes=len(payload), sha256=hashlib.sha256(payload).hexdigest())
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
        fsync(temporary / "manifest.json")
        fsync(temporary)
        if final.exists():
            shutil.rmtree(final)  # the same state once more, or a damaged one
        os.rename(temporary, final)
        fsync(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise trouble(error, final) from error
    _prune(folder, final.name)


def _clean(folder: Path) -> None:
    """What a killed process left half-written.  Whoever saves holds the run's lock, so nobody else is
    writing."""
    for left in folder.glob("*.tmp-*"):
        shutil.rmtree(left, ignore_errors=True)


def _states(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("*") if p.name.isdigit()), key=lambda p: int(p.name), reverse=True)


def _prune(folder: Path, written: str) -> None:
    """Keep the state just written and the newest other one that is good; those before the latter go."""
    good = 0
    for state in _states(folder):
        if good >= KEEP:
            shutil.rmtree(state, ignore_errors=True)
        else:
            good += state.name == written or (folder, state.name) in _verified or _read(state) is not None
    _verified.clear()
    _verified.add((folder, written))


def _read(state: Path) -> tuple[bytes, dict[str, Any]] | None:
    try:
        manifest = json.loads((state / "manifest.json").read_text())
        payload = (state / "state.safetensors").read_bytes()
        whole = (
            len(payload) == manifest["bytes"] and hashlib.sha256(payload).hexdigest() == manifest["sha256"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (payload, manifest) if whole else None


def newest(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
    """Tensors and facts of the newest good state, and the names of damaged newer ones; None if there is no
    state yet."""
    damaged: list[str] = []
    for state in _states(folder):
        if (result := _read(state)) is not None:
            return load(result[0]), result[1], damaged
        damaged.append(state.name)
    if damaged:
        raise BadData(
            f"every saved state in {folder} is damaged ({', '.join(damaged)}).  Restore one from a copy, or "
            "remove the folder to begin again."
        )
    return None
