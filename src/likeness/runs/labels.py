"""The classes of a run, by name and by number."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core import Refusal
from ..data.labels import SHOWN, some

if TYPE_CHECKING:
    from .run import Config


def names(config: Config) -> tuple[str, ...]:
    """Of the classes 0 ... K-1: those of the data, else their numbers."""
    known = tuple(config.classes)
    return known if len(known) == config.spec.labels else tuple(map(str, range(config.spec.labels)))


def number(config: Config, label: str | int, folder: object) -> int:
    """The class that a label means: a text is a name first, in capitals or not, and a number from 0 only
    where no class has a number for a name; a whole number is that of a class.

    Raises Refusal, which lists the names, for what is none of them, for a number that could mean two classes,
    and for a class that no training image has.
    """
    known, text = names(config), str(label).strip()
    result = by_name(known, text) if isinstance(label, str) else by_number(label, len(known))
    if result is None:
        raise Refusal(f"there is no label {text} in {folder}; {listed(config)}")
    if not isinstance(label, str) and text in known and known[result] != text:
        raise Refusal(
            f"label={text} could be the class called {text!r} or number {text}, which is called "
            f"{known[result]!r}; name it: label={text!r} or label={known[result]!r}"
        )
    if result in config.spec.absent:
        raise Refusal(
            f"no training image of {folder} is of class {known[result]}, so nothing was learnt of it; "
            f"{listed(config)}"
        )
    return result


def by_name(known: tuple[str, ...], text: str) -> int | None:
    """The class of this name; or of this number, where no name is one."""
    counted = text.isascii() and text.isdecimal()
    ways: list[Callable[[str], bool]] = [text.__eq__, lambda name: name.casefold() == text.casefold()]
    if counted:
        ways.append(lambda name: name.isascii() and name.isdecimal() and int(name) == int(text))
    for way in ways:
        if len(alike := [k for k, name in enumerate(known) if way(name)]) == 1:
            return alike[0]
    if not counted or any(name.lstrip("+-").isdecimal() for name in known):
        return None
    return by_number(int(text), len(known))


def by_number(value: Any, count: int) -> int | None:
    """The class of this number, if it is one."""
    try:
        result = operator.index(value)
    except TypeError:
        return None
    return result if 0 <= result < count else None


def listed(config: Config) -> str:
    """The end of a refusal: the classes that may be asked for."""
    known = names(config)
    learnt = [known[k] for k in config.spec.learnt]
    if known == tuple(map(str, range(len(known)))) and len(learnt) == len(known) > SHOWN:
        return f"name one of 0 to {len(known) - 1}."
    return f"name one of: {some(learnt)}."


def named(config: Config, label: int | None) -> dict[str, Any]:
    """What a recipe says of the class: its name and its number."""
    return {} if label is None else {"label": names(config)[label], "label_number": label}
