"""A sequence whose items are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

T = TypeVar("T", covariant=True)


class Lazy(Sequence[T]):
    """item(i) is asked for 0 <= i < len(self) alone; a slice is a tuple."""

    @abstractmethod
    def item(self, i: int) -> T: ...

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[T, ...]: ...
    def __getitem__(self, i: int | slice) -> T | tuple[T, ...]:
        places = range(len(self))
        return tuple(self.item(k) for k in places[i]) if isinstance(i, slice) else self.item(places[i])
