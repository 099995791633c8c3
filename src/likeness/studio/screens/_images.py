"""The images that a screen is asked about: held-out ones of a run, or a file that was dropped on the page."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import Refusal
from ...data import user_images
from ...inference import inputs
from ..protocol import text, whole

if TYPE_CHECKING:
    from ...api import Trained

LARGEST = 32 << 20
"""bytes of a file"""


def chosen(args: dict[str, Any]) -> str:
    """The path of the run that is asked."""
    return text(args, "run", 1000)


def given(run: Trained, args: dict[str, Any], arrays: dict[str, np.ndarray]) -> inputs.Inputs:
    """The file in arrays, read as the command line reads it, or held-out image number args["held"] of those
    in chance order.  Raises Refusal, and BadData for a file that is no image."""
    if (file := arrays.get("file")) is None:
        at = whole(args, "held", 0, 10**9, 0)
        there = inputs.held_out(run.data, at + 1, 0)
        at %= len(there.names)
        return inputs.Inputs(there.batch[at : at + 1], there.names[at : at + 1])
    if file.dtype != np.uint8 or file.ndim != 1 or not 0 < file.size <= LARGEST:
        raise Refusal(f"a file has 1 to {LARGEST:,} bytes.")
    name = Path(text(args, "name", 200, "image")).name or "image"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(file.tobytes())
        own = user_images.images(str(path), run.config.spec, run.config.data, 1)
    return inputs.own(own.x, None, (name,), run.config.spec, 0, run.config.data.get("binarize", False))
