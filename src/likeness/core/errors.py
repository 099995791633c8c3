"""Errors that are lessons: what was asked, why not, what to type instead; each with an exit status."""

from __future__ import annotations

import difflib
from typing import ClassVar


class Refusal(Exception):
    """The request cannot be met as asked.  The text is one sentence for a person; `code` is the
    exit status."""

    code: ClassVar[int] = 2

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it: the sentence, and not the way through our code."""
        return [f"{type(self).__name__}: {self}"]


class Diverged(Refusal):
    code = 3


class BadData(Refusal):
    code = 65


class Offline(Refusal):
    code = 69


class DiskTrouble(Refusal):
    code = 74


class Busy(Refusal):
    code = 75


class NotAllowed(Refusal):
    code = 77


def closest(name: str, names: tuple[str, ...]) -> str:
    """The end of a refusal: what was probably meant, or all there is."""
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}."
