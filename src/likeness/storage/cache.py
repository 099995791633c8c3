"""The folder for what is made once and kept: where it is, and the names of its entries."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core import DiskTrouble, NotAllowed, Refusal

VERSION = 2
Progress = Callable[[int, int], None]


def root(chosen: Path | str | None = None) -> Path:
    """The cache folder, made where it is missing.  Raises NotAllowed where it cannot be."""
    path = where(chosen)
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
        return path.resolve()


def where(chosen: Path | str | None = None) -> Path:
    """The cache folder: as given, else LIKENESS_CACHE, else XDG_CACHE_HOME/likeness, else ~/.cache/likeness.
    Raises Refusal for the home of nobody."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(chosen or os.environ.get("LIKENESS_CACHE") or Path(base) / "likeness")
    try:
        return path.expanduser()
    except RuntimeError:
        raise Refusal(
            f"decoded images cannot be written to {path}, since there is no such home folder; set "
            "LIKENESS_CACHE to a folder."
        ) from None


IN_THE_WAY = tuple(
    getattr(errno, n)
    for n in ["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "ENOENT", "ELOOP", "ENAMETOOLONG", "EISDIR"]
)


@contextmanager
def explained(path: Path, what: str = "decoded images") -> Iterator[None]:
    """Turn what can go wrong with writing under `path` into a sentence."""
    try:
        yield
    except OSError as trouble:
        hint = "set LIKENESS_CACHE to a folder on a disk with space that you may write to."
        if trouble.errno in IN_THE_WAY:
            raise NotAllowed(f"{what} cannot be written to {path} ({trouble.strerror}); {hint}") from trouble
        if trouble.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            raise DiskTrouble(f"writing {what} to {path} failed ({trouble.strerror}); {hint}") from trouble
        raise
    except (RuntimeError, ValueError) as trouble:
        if "Symlink loop" not in str(trouble) and "null byte" not in str(trouble):
            raise
        raise NotAllowed(
            f"{what} cannot be written to {str(path)!r} ({trouble}); set LIKENESS_CACHE to another folder."
        ) from None


def key_of(kind: str, *parts: object) -> str:
    """The name of an entry that depends on `parts`."""
    return f"{kind}-{hashlib.blake2b(repr((VERSION, *parts)).encode('utf-8', 'surrogatepass'), digest_size=12).hexdigest()}"  # noqa: E501


def family_of(kind: str, source: object) -> str:
    """What the keys of all entries made from one source begin with."""
    return (
        f"{kind}-{hashlib.blake2b(repr(source).encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"
    )
