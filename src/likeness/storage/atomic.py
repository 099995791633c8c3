"""Files and folders that are written whole or not at all, and what went wrong in a sentence."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from threading import get_ident

from ..core import DiskTrouble, NotAllowed, Refusal


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
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{get_ident()}")
    try:
        temporary.write_bytes(content)
        fsync(temporary)
        os.replace(temporary, path)
        fsync(path.parent)
    except BaseException as error:  # also Ctrl-C
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise trouble(error, path) from error
        raise


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
        return DiskTrouble(
            f"the disk is full: {path} could not be written; what was saved before is intact.  Make room, "
            "then run the same command again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowed(f"{path} may not be used ({error.strerror}); name another folder.")
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG):
        return Refusal(f"{path} cannot be a folder ({error.strerror}); name another.")
    return DiskTrouble(
        f"{path} could not be written ({error.strerror or error}); what was saved before is intact."
    )
