"""Data as a key: what was made for a set once is kept for the next model that is judged on the
same images."""

from __future__ import annotations

from collections.abc import Callable

from ..data import Data

Notify = Callable[[str, float], None]
"""of an evaluation: which part is being made, and what share of it is done, 0 to 1"""


class Watch:
    """Who hears how far an evaluation is.  Any two are equal: what is kept does not depend on who
    watched."""

    def __init__(self, notify: Notify | None = None):
        self.notify, self.part = notify, ""

    def __call__(self, done: int, total: int) -> None:
        """Of the part that is being made."""
        if self.notify:
            self.notify(self.part, done / max(total, 1))

    def named(self, part: str) -> Watch:
        """The same, of another part from now on."""
        self.part = part
        self(0, 1)
        return self

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Watch)


class Same:
    """A data set, equal to another of the same images and split."""

    def __init__(self, data: Data):
        self.data = data

    def __hash__(self) -> int:
        return hash(self.data.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.data.fingerprint == self.data.fingerprint
