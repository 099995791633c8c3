"""What a name given to --network is: decided here, for every verb.

    auto, none, points              of scores alone: what suits the data, no comparison, coordinates
    classifier, vicreg              trained on the data at hand, and kept
    inception                       the Inception of 2015, of whose features others publish numbers
    vgg16 ... resnet50              built here
    dinov2, clip                    as published; dinov2:FOLDER for weights that are kept there
    transformers:NAME, timm:NAME    of other people's packages
    a folder                        a run that encodes
    a file that ends in .pt         TorchScript

A name comes before a folder of the same name, as it does among data; ./NAME is the folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

from ..backbones.catalogue import GRAPHS
from ..backbones.hub import HUB
from ..backbones.packages import EXAMPLES
from ..core import Refusal
from ..runs.folder import CONFIG, is_run

Kind = Literal["auto", "none", "points", "own", "inception", "graph", "hub", "package", "run", "script"]
WORDS: dict[Kind, tuple[str, ...]] = {
    "auto": ("auto",),
    "none": ("none",),
    "points": ("points",),
    "own": ("classifier", "vicreg"),
    "inception": ("inception",),
    "graph": tuple(GRAPHS),
    "hub": tuple(HUB),
    "package": tuple(f"{kind}:NAME" for kind in EXAMPLES),
}
FILES: dict[Kind, str] = {"run": "the folder of a run that encodes", "script": "a .pt file of TorchScript"}

SCORES: tuple[Kind, ...] = (*WORDS, *FILES)
"""what samples can be compared by"""
LAYERS: tuple[Kind, ...] = ("graph", "hub", "package", "run")
"""what can be asked for its layers: by features, look, map and neighbours"""


class Named(NamedTuple):
    """A network that has not been opened."""

    kind: Kind
    name: str
    where: str = ""
    """what stands behind the colon"""

    @property
    def path(self) -> Path:
        """Of a run, or of a file."""
        return Path(os.path.expanduser(self.name))


def words(takes: Collection[Kind]) -> tuple[str, ...]:
    """The names of these kinds."""
    return tuple(word for kind in takes for word in WORDS.get(kind, ()))


def choices(takes: Collection[Kind]) -> str:
    """What may be typed, in a line."""
    return ", ".join((*words(takes), *(FILES[kind] for kind in takes if kind in FILES)))


def parse(text: str, takes: Collection[Kind]) -> Named:
    """What is called `text`.  Opens nothing.  Raises Refusal where nothing is, or where it is of a kind that
    is not among `takes`."""
    asked = _read(text)
    if asked is None and os.path.isdir(os.path.expanduser(text)):
        raise Refusal(f"{text} is not a run: it has no {CONFIG}; name one of: {choices(takes)}.")
    if asked is None:
        near = get_close_matches(text, words(takes), 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise Refusal(f"there is no network {text!r}{hint}  There are: {choices(takes)}.")
    if asked.kind not in takes:
        raise Refusal(f"{text!r} is only available for evaluate; for layers use one of: {choices(takes)}.")
    return asked


def _read(text: str) -> Named | None:
    name, _, where = text.partition(":")
    for kind, known in WORDS.items():
        if text in known or (kind == "hub" and name in known):
            return Named(kind, name, where)
    if name in EXAMPLES:
        return Named("package", name, where)
    path = Path(os.path.expanduser(text))
    if os.path.isdir(path) and is_run(path):
        return Named("run", text)
    return Named("script", text) if path.suffix == ".pt" else None
