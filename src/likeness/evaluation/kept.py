"""Data as a key: what was made for a set once is kept for the next model that is judged on the
same images."""

from __future__ import annotations

from ..data import Data


class Same:
    """A data set, equal to another of the same images and split."""

    def __init__(self, data: Data):
        self.data = data

    def __hash__(self) -> int:
        return hash(self.data.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.data.fingerprint == self.data.fingerprint
