"""How far a training or a scoring is, in words: time left, and what the terms of a loss are measured in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..core import duration

if TYPE_CHECKING:
    from ..runs.run import Run

KNOWN = 2.0
"""seconds of which a speed is believed"""


def left(run: Run, budget: dict[str, Any]) -> Callable[[], str]:
    """Says how long the training goes on, by the speed since it was asked first: "3 min left", or nothing
    while that is not known."""
    from ..training import loop

    minutes = budget.get("minutes", math.inf)
    last = loop.last_image(run.config.training, budget.get("images"), minutes)
    since: tuple[int, float] | None = None

    def say() -> str:
        nonlocal since
        # a first step is slow: memory is claimed, code compiled
        since = since or (run.seen, run.seconds)
        seen, seconds = run.seen - since[0], run.seconds - since[1]
        by_time = 60 * minutes - run.seconds
        by_images = (last - run.seen) * seconds / seen if seen and seconds >= KNOWN else math.inf
        least = min(by_time, by_images)
        return "" if math.isinf(least) else f"{duration(least)} left"

    return say


LOGGED = ("on real", "on fake", "chance", "penalty", "pull", "told apart by features")
"""terms, and those whose names end in "gradient", that the doctor reads in log.jsonl and a line has no room
for"""


def terms(losses: Mapping[str, float], units: Mapping[str, str]) -> str:
    """The terms of a loss that are watched, each with its unit where it has one: "model 7.974 bits/dim  rate
    8.98 nats"."""
    watched = {k: v for k, v in losses.items() if k not in LOGGED and not k.endswith(" gradient")}
    return "  ".join(
        f"{name} {value:.4g} {unit}".rstrip()
        for name, value, unit in (measured(name, value, units) for name, value in watched.items())
    )


def measured(name: str, value: Any, units: Mapping[str, str]) -> tuple[str, Any, str]:
    """A term (a number, or an array of them) as it is shown: its name, its value, its unit.  Nats a dimension
    are shown in bits, which score cards are in, too."""
    unit = units.get(name, "")
    if unit != "nats/dim":
        return name, value, unit
    return "bound" if name == unit else name, value / math.log(2), "bits/dim"


class Parts:
    """Of something that is made of parts, one after another: how far each is, and how long it goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock, self.part, self.began = clock, "", clock()

    def text(self, part: str, share: float) -> str:
        """ "40%  drawing samples, 30 s left" of a part of which this share, 0 to 1, is done; one that has not
        begun, or has come to its end and to what follows from it, is only named."""
        now = self.clock()
        if part != self.part:
            self.part, self.began = part, now
        if not 0 < share < 1:
            return part
        spent = now - self.began
        rest = f", {duration(spent * (1 - share) / share)} left" if spent >= KNOWN else ""
        return f"{share:4.0%}  {part}{rest}"
