"""What makes a folder a run.  It needs no torch: whoever names a wrong folder is told so at once."""

from __future__ import annotations

import errno
from pathlib import Path

from .. import storage

CONFIG = "config.json"


def is_run(folder: Path) -> bool:
    """Whether there is a run in the folder; raises NotAllowed where that cannot be seen."""
    try:
        return (folder / CONFIG).exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a text that somebody asks for
            return False
        raise storage.trouble(error, folder) from error
