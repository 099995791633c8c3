"""How long something takes, in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """ "< 1 s", "40 s", "12 min", "2.5 h": two figures or three, since no estimate is good for more.  The
    unit changes where one and a half of the next are full, by what is shown: 89.6 s are "1 min"."""
    if seconds < 1:
        return "< 1 s"
    if round(seconds) < 90:
        return f"{seconds:.0f} s"
    if round(seconds / 60) < 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
