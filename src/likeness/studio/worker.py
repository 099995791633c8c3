"""A process that answers questions of screens: python -m likeness.studio.worker ROOT, spoken to by the hub.

Answers are generators.  Those of all keys are pulled in turn; between two values the inbox is looked at: a
newer question of a key closes the generator that runs for it, unless the screen says that its method is
LIVE, which the generator itself looks for with desk.inbox(key)."""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..core import Refusal
from . import protocol
from .hub import AHEAD, failed, fault, report
from .protocol import Answer, Ask

if TYPE_CHECKING:
    import numpy as np

    from ..api import Trained

OPEN = 4
"""runs that stay open"""
LIVE_KEPT = 1000
"""live questions that wait for the answer of their key"""


class Desk:
    """What an answer may use: the runs, and the newer questions of its key."""

    def __init__(self, root: Path):
        self.root = root
        self.open: OrderedDict[Path, tuple[Any, Trained]] = OrderedDict()
        self.live: dict[str, list[tuple[str, dict[str, Any], dict[str, np.ndarray]]]] = {}

    def run(self, path: str) -> Trained:
        """The run of that path below the root, opened anew if its weights have changed.  Raises Refusal."""
        folder = protocol.confined(self.root, path)
        mark = marked(folder)
        if folder in self.open and self.open[folder][0] == mark:
            self.open.move_to_end(folder)
            return self.open[folder][1]
        from .. import api

        opened = api.open(folder)
        self.open[folder] = (mark, opened)
        while len(self.open) > OPEN:
            self.open.popitem(last=False)
        return opened

    def fresh(self, path: str) -> bool:
        """Whether what run() opened last is still the newest state: False once training has moved on."""
        folder = protocol.confined(self.root, path)
        return folder in self.open and self.open[folder][0] == marked(folder)

    def inbox(self, key: str) -> list[tuple[str, dict[str, Any], dict[str, np.ndarray]]]:
        """(method, args, arrays) of the live questions of a key since the last look, in their order."""
        return self.live.pop(key, [])


def marked(folder: Path) -> tuple[str, ...]:
    """Changes when the weights or the config of a run do."""
    try:
        states = sorted(p.name for p in (folder / "state").iterdir() if p.name.isdecimal())
        stamp = str((folder / "config.json").stat().st_mtime_ns)
    except OSError:
        return ()
    return (stamp, *states[-1:])


class Worker:
    """Pulls the answers that run, each at most AHEAD values before the pages have drawn them."""

    def __init__(self, root: Path, out: BinaryIO):
        self.desk, self.out = Desk(root), out
        self.inbox: queue.Queue[bytes | None] = queue.Queue()
        self.running = dict[str, tuple[Ask, Iterator[Answer], Any]]()
        self.credit = dict[str, int]()
        self.last = dict[str, Any]()

    def serve(self) -> None:
        """Until the hub is gone."""
        while self._look():
            for key in [k for k in self.running if self.credit[k] > 0]:
                self._pull(key)
                if not self._look(wait=False):
                    return
        for key in list(self.running):
            self._close(key)

    def _look(self, wait: bool = True) -> bool:
        """Take what has come in; wait for it where there is nothing to do."""
        idle = wait and not any(self.credit[k] > 0 for k in self.running)
        while True:
            try:
                frame = self.inbox.get(block=idle)
            except queue.Empty:
                return True
            if frame is None:
                return False
            self._take(frame)
            idle = False

    def _take(self, frame: bytes) -> None:
        header, payload = protocol.unpack(frame)
        key = header["key"]
        if header["type"] == "credit":
            if key in self.credit:
                self.credit[key] += header["values"]
        elif header["type"] == "stop":
            self._close(key)
        else:
            self._ask(
                Ask(header["id"], key, header["screen"], header["method"], header["args"], b""),
                header,
                payload,
            )

    def _ask(self, ask: Ask, header: dict[str, Any], payload: memoryview) -> None:
        try:
            screen = importlib.import_module(f".screens.{ask.screen}", __package__)
            arrays = protocol.arrays_of(header, payload)
            runs = self.running.get(ask.key)
            if ask.method in getattr(screen, "LIVE", ()) and runs is not None and runs[2] is screen:
                waiting = self.desk.live.setdefault(ask.key, [])
                waiting.append((ask.method, ask.args, arrays))
                del waiting[:-LIVE_KEPT]
                self._say(dict(type="live", id=ask.id, key=ask.key))
                return
            self._close(ask.key)
            if ask.method not in screen.ASKS:
                raise Refusal(f"{ask.screen} has no question {ask.method}.")
            self.desk.live.pop(ask.key, None)
            answer = iter(screen.ASKS[ask.method](self.desk, ask.args, arrays))
        except Refusal as refusal:
            self._say(failed(ask, refusal))
        except Exception as error:
            report(error)
            self._say(fault(ask))
        else:
            self.running[ask.key] = (ask, answer, screen)
            self.credit[ask.key] = AHEAD

    def _pull(self, key: str) -> None:
        ask, answer, _ = self.running[key]
        try:
            value = next(answer)
            entries, payload = protocol.described(value.arrays)
            said = dict(type="value", id=ask.id, key=key, data=value.data, arrays=entries)
            frame = protocol.pack(said, payload)
            if len(frame) - len(payload) > protocol.HEADER or len(frame) > protocol.FRAME:
                raise Refusal(f"an answer of {len(frame):,} bytes is too much for a page; ask for less.")
        except StopIteration:
            self._end(key, dict(type="done", id=ask.id, key=key, data=self.last.get(key)))
        except Refusal as refusal:
            self._end(key, failed(ask, refusal))
        except Exception as error:
            report(error)
            self._end(key, fault(ask))
        else:
            self.last[key] = value.data
            self.credit[key] -= 1
            self._write(frame)

    def _end(self, key: str, how: dict[str, Any]) -> None:
        self._close(key)
        self._say(how)

    def _close(self, key: str) -> None:
        if key in self.running:
            _, answer, _ = self.running.pop(key)
            del self.credit[key]
            self.last.pop(key, None)
            try:
                close = getattr(answer, "close", None)
                if close is not None:
                    close()
            except Exception as error:
                report(error)

    def _say(self, header: dict[str, Any]) -> None:
        self._write(protocol.pack(header))

    def _write(self, frame: bytes) -> None:
        self.out.write(len(frame).to_bytes(8, "little") + frame)
        self.out.flush()


def listen(source: BinaryIO, inbox: queue.Queue[bytes | None]) -> None:
    """Frames from the hub, as long as there is one."""
    while len(head := source.read(8)) == 8:
        inbox.put(source.read(int.from_bytes(head, "little")))
    inbox.put(None)


def main() -> None:
    """stdout is for frames alone: whatever else is printed goes to the terminal by stderr."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = Worker(Path(sys.argv[1]), out)
    threading.Thread(target=listen, args=(sys.stdin.buffer, worker.inbox), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        worker.serve()
    os._exit(0)  # torch takes half a second to end, and nothing is left to save


if __name__ == "__main__":
    main()
