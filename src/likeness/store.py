"""States on disk: either the old one or the new one is there, never half of one.

    state/000000012800/state.safetensors    tensors
    state/000000012800/manifest.json        size and sha256 of that file, and what else must be remembered

A state is written into a temporary folder, flushed to the disk, and renamed; the two newest good ones
are kept.  There is no pointer to the newest that could be wrong: it is the newest whose manifest verifies.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import load
from safetensors.torch import save as serialise
from torch import Tensor

from .core import BadData, DiskTrouble, NotAllowed, Refusal

KEEP = 2
_verified: set[tuple[Path, str]] = set()
"""the state that this process wrote last: reading it back at every save would take as long as writing it"""


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush(path: Path) -> None:
    """What a file holds is on the disk, if there is such a file."""
    try:
        if path.exists():
            fsync(path)
    except OSError as error:
        raise trouble(error, path) from error


def write(path: Path, content: bytes) -> None:
    """Replace a file: after a crash at any moment it holds the old content or the new."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_bytes(content)
        fsync(temporary)
        os.replace(temporary, path)
        fsync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise trouble(error, path) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes that were killed.  Whoever calls holds the run's lock."""
    for left in folder.glob(".*.tmp-*"):
        left.unlink(missing_ok=True)


def make(folder: Path) -> None:
    """A folder to write into; raises NotAllowed or DiskTrouble."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise trouble(error, folder) from error


def trouble(error: OSError, path: Path) -> Refusal:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskTrouble(f"the disk is full: {path} could not be written; what was saved before is intact.  Make room, then run the same command again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowed(f"{path} may not be used ({error.strerror}); name another folder.")
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG):
        return Refusal(f"{path} cannot be a folder ({error.strerror}); name another.")
    return DiskTrouble(f"{path} could not be written ({error.strerror or error}); what was saved before is intact.")


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
    """What a killed process left half-written.  Whoever saves holds the run's lock, so nobody else is writing."""
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
        whole = len(payload) == manifest["bytes"] and hashlib.sha256(payload).hexdigest() == manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (payload, manifest) if whole else None


def newest(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
    """Tensors and facts of the newest good state, and the names of damaged newer ones; None if there is no state yet."""
    damaged: list[str] = []
    for state in _states(folder):
        if (found := _read(state)) is not None:
            return load(found[0]), found[1], damaged
        damaged.append(state.name)
    if damaged:
        raise BadData(f"every saved state in {folder} is damaged ({', '.join(damaged)}).  Restore one from a copy, or remove the folder to begin again.")
    return None
