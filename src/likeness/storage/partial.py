"""A download: a file that grows beside its place, and takes it when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .atomic import fsync
from .cache import explained

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def partial(path: Path, what: str) -> Iterator[IO[bytes]]:
    """A file to write, which becomes `path` at the end of the block, and goes if the block fails.  Raises
    DiskTrouble or NotAllowed, in which `what` is written."""
    with explained(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        file = path.with_name(f"{path.name}.part-{os.getpid()}").open("wb")
        temporary = Path(file.name)
        try:
            with file:
                is_free(file)  # so that no other process takes it for one that a killed process has left
                yield file
                file.flush()
                fsync(temporary)
            os.replace(temporary, path)
        except BaseException:  # also Ctrl-C
            temporary.unlink(missing_ok=True)
            raise


def sweep(folder: Path) -> None:
    """Delete the parts that killed processes left, at which nobody would ever look again."""
    for left in folder.glob("*.part-*"):
        with suppress(OSError), left.open("rb+") as file:
            if is_free(file):
                left.unlink()


def is_free(file: IO[bytes]) -> bool:
    """Lock a file, and say whether it was free; nothing is deleted where a file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (OSError, AttributeError):
        return False
