"""Options: declared once, they become the flag, the slider, the line of config.json and the row
of the docs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any

import numpy as np

from .errors import Refusal


def option(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    *,
    choices: Sequence[str] | None = None,
    live: bool = False,
    file: bool = False,
) -> Any:
    """Declare an option once: flag, slider, line of config.json and row of the docs all come from here.

    A live option may be turned on a trained model; any other is fixed when the model is built.  One that
    names a file is kept as its whole path, so that the run finds it from any folder.
    """
    return field(
        default=default, metadata=dict(help=help, low=low, high=high, choices=choices, live=live, file=file)
    )


def check_options(owner: str, thing: Any) -> None:
    """Refuse a value of the wrong kind or out of its range."""
    for f in fields(thing):
        if "help" not in f.metadata:
            continue
        value, low, high, choices = (
            getattr(thing, f.name),
            *(f.metadata[k] for k in ("low", "high", "choices")),
        )
        if isinstance(value, np.generic):  # what a notebook holds
            value = value.item()
            object.__setattr__(thing, f.name, value)
        flag = f"{owner}: --{f.name.replace('_', '-')} {value!r}"
        if choices and value not in choices:
            raise Refusal(f"{flag} is none of: {', '.join(choices)}.")
        kinds = (int, float) if isinstance(f.default, float) else (type(f.default),)
        if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(f.default, bool)):
            raise Refusal(f"{flag} should be {'a number' if float in kinds else type(f.default).__name__}.")
        if isinstance(value, (int, float)) and not (
            value >= (-math.inf if low is None else low) and value <= (math.inf if high is None else high)
        ):
            raise Refusal(f"{owner}: --{f.name.replace('_', '-')} {_span(low, high)}; {value:,} was given.")


def _span(low: float | None, high: float | None) -> str:
    """What a value in this range must be, whole numbers without a point."""
    a, b = ("" if end is None else f"{int(end) if end == int(end) else end:,}" for end in (low, high))
    return (
        f"must be between {a} and {b}"
        if a and b
        else f"must be at least {a}"
        if a
        else f"must be at most {b}"
    )


def option_fields(kind: type, live: bool = False) -> list[Any]:
    """Everything declared with core.option in a model, in Training or in Reading."""
    return [f for f in fields(kind) if "help" in f.metadata and (not live or f.metadata["live"])]
