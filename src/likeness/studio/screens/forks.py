"""Which of the doctor's remedies a fork can take: what a net is with other options its model alone knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...core import Refusal
from ...training import fork
from .. import protocol
from ..protocol import Answer
from ..worker import Desk

MOST = 40
"""remedies, and options of each"""


def fits(desk: Desk, args: dict[str, Any], arrays: dict[str, np.ndarray]) -> Iterator[Answer]:
    """For each of the `remedies`, objects of options by name, whether the run's weights fit that model."""
    run = protocol.path(args, "run", desk.root)
    remedies = args.get("remedies")
    if not isinstance(remedies, list) or len(remedies) > MOST or not all(map(_options, remedies)):
        raise Refusal(f"remedies are up to {MOST} objects of up to {MOST} options each.")
    yield Answer(dict(fits=[fork.fits(run, one) for one in remedies]))


def _options(remedy: Any) -> bool:
    """Names with numbers, words, or true and false."""
    plain = isinstance(remedy, dict) and len(remedy) <= MOST
    return plain and all(isinstance(value, int | float | str) for value in remedy.values())


ASKS = {"fits": fits}
