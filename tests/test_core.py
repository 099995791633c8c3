"""The vocabulary's own small tools."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from likeness.core import final


def test_only_the_last_state_is_kept():
    """And not a thousand of them until the end."""
    alive = weakref.WeakSet[Tensor]()
    most = []

    def states() -> Iterator[Tensor]:
        for i in range(100):
            alive.add(x := torch.full((1,), float(i)))
            most.append(len(alive))
            yield x

    assert final(states()).item() == 99
    assert max(most) <= 3
