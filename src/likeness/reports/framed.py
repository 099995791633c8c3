"""The studio inside a notebook: a frame that holds the page of a server of its own."""

from __future__ import annotations

import atexit
import html
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from urllib.parse import quote

from ..core import Refusal


class Frame:
    """The page, from a studio that lives as long as this process, or until close()."""

    def __init__(self, runs: Path, run: str = "", screen: str = "samples", height: int = 800):
        """runs: the folder of runs.  run: the one that is open, seen from there.  Raises Refusal where the
        studio does not start."""
        code = [
            sys.executable,
            "-m",
            "likeness",
            "studio",
            str(runs),
            "--no-browser",
            "--frame",
            "--port",
            "0",
        ]
        self.process = subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        atexit.register(self.close)
        assert self.process.stdout is not None and self.process.stderr is not None
        self.link = self.process.stdout.readline().rpartition(" ")[2].strip()
        if not self.link.startswith("http"):
            raise Refusal(self.process.stderr.read().strip().removeprefix("likeness: ") or "no studio began.")
        # what its workers print would fill the pipe, and stop them
        threading.Thread(target=deque, args=(self.process.stderr, 0), daemon=True).start()
        self.link += f"#{quote(screen)}" + (f"&run={quote(run, safe='')}" if run else "")
        self.height = height

    def close(self) -> None:
        """End the server; trainings that it has begun go on."""
        self.process.terminate()
        atexit.unregister(self.close)

    def _repr_html_(self) -> str:
        size = f'width="100%" height="{self.height}"'
        return f'<iframe src="{html.escape(self.link)}" {size} title="likeness studio"></iframe>'

    def __repr__(self) -> str:
        return self.link
