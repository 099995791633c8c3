"""Weights that a training begins with, of a run that has learnt something simpler."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor, nn

from .. import storage
from ..core import Refusal

STATE, AVERAGE = "state", "model"
"""where a run keeps its state, and what its EMA is called there (runs/run.py)"""


def begin(net: nn.Module, folder: str, name: str) -> None:
    """Give a network the EMA of that called `name` in the model of the run in `folder`.  Raises Refusal where
    there is none, or one of another shape."""
    known = storage.newest(Path(os.path.expanduser(folder)) / STATE)
    if known is None:
        raise Refusal(f"--begin {folder}: no trained run is there; name the folder of one.")
    prefix = f"{AVERAGE}/{name}."
    weights = {k.removeprefix(prefix): v for k, v in known[0].items() if k.startswith(prefix)}
    if (now := _shapes(net.state_dict())) != (then := _shapes(weights)):
        name, *_ = [k for k in now | then if now.get(k) != then.get(k)]
        raise Refusal(
            f"--begin {folder}: the network of that run is another ({name} is {then.get(name, 'not there')}, "
            f"and {now.get(name, 'not there')} here); name one with the same options and kind of data."
        )
    net.load_state_dict(weights)


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(w.shape) for name, w in weights.items()}
