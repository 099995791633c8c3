"""The lock of a run folder: one trainer at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..core import Busy
from .atomic import trouble

FILE = ".lock"


def take(folder: Path) -> int:
    """Keep a second trainer out of `folder`; the lock goes with the process, however it ends.

    Returns what os.close() gives back.  Raises Busy where another process has it, and what storage.trouble()
    says where it cannot be made."""
    held = None
    try:
        held = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return held
    except OSError as error:
        if held is not None:
            os.close(held)
        if isinstance(error, BlockingIOError):
            raise Busy(
                f"{folder} is being trained by another process; wait for it, or name another folder."
            ) from None
        raise trouble(error, folder / FILE) from error
