"""A sequence whose items, and an array whose images, are made when they are asked for."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import numpy as np

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


class Made:
    """Images that are made when they are asked for, as an array of them is indexed: rows first.

    make(rows) is asked for int64 (n,) rows and answers uint8 (n, *shape[1:]), the same ones every time.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, make: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]):
        """shape: (N, C, H, W)"""
        self.make, self.shape, self.ndim = make, shape, len(shape)

    @property
    def nbytes(self) -> int:
        """Of all of them, if they were made at once."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """By a number, a slice, numbers or a mask; more than rows are taken of what is made."""
        first, rest = (rows[0], rows[1:]) if isinstance(rows, tuple) else (rows, ())
        at = np.arange(len(self))[first]
        made = self.make(np.atleast_1d(at))
        made = made if np.ndim(at) else made[0]
        return made[(slice(None), *rest) if np.ndim(at) else rest] if rest else made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        made = self.make(np.arange(len(self)))
        return made if dtype is None else made.astype(dtype)
