"""A studio from its start to its end."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import webbrowser
from pathlib import Path

from .. import storage
from ..core import Refusal
from . import gate, local, server
from .hub import Hub


def run(root: Path, host: str, port: int | None, browser: bool, framed: bool = False) -> int:
    """Serve the runs below root until Ctrl-C.  port: None is that of the last time, or a free one.  Raises
    Refusal."""
    storage.make(root)
    folder = root / ".studio"
    storage.make(folder)
    sock = _socket(host, port, folder / "port")
    number = sock.getsockname()[1]
    storage.write(folder / "port", f"{number}\n".encode())
    secret = gate.token(folder)
    runs = local.Runs(root)
    hub = Hub(root, local.questions(runs), [runs.keep_table])
    app = server.application(hub, secret, server.names(host, number), framed)
    name = "localhost" if framed else f"[{host}]" if ":" in host else host
    link = f"http://{name}:{number}/?token={secret}"

    def started() -> None:
        print(f"studio of {root}: {link}\nCtrl-C ends it; trainings go on", flush=True)
        if browser:  # which may take long, or print what it likes
            threading.Thread(target=_open, args=(link,), daemon=True).start()

    with contextlib.suppress(KeyboardInterrupt):
        server.serve(app, sock, started)
    return 0


def _socket(host: str, port: int | None, last: Path) -> server.socket.socket:
    if port is None:
        with contextlib.suppress(Refusal, OSError, ValueError):
            return server.listening(host, int(last.read_text()))
    return server.listening(host, port or 0)


def _open(link: str) -> None:
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(link)
