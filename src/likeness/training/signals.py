"""SIGINT and SIGTERM ask a training to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .loop import Stop


class Signalled(Stop):
    """SIGINT and SIGTERM ask to stop; a second one does not wait for a save."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stopping() -> Iterator[Stop]:
    """Within, signals only ask to stop."""
    stop, before = Signalled(), dict[int, Any]()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[int(number)] = signal.signal(number, stop.handle)
    except ValueError:
        pass  # not the main thread: signals go elsewhere
    try:
        yield stop
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
