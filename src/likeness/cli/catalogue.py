"""The models as the command line shows them: what each is, what it answers, and what may be set.

Only the classes know that, and to import them is to import torch.  So what they say is kept in the cache
folder, with a digest of the text of likeness, all of it: where a letter of that has changed, they are asked
again.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import sys
from contextlib import suppress
from functools import cache as once
from typing import TYPE_CHECKING, Any, NamedTuple

from .arguments import Declared, declared, undisturbed
from .outline import PACKAGE

if TYPE_CHECKING:
    from ..core import Model

NAMES = tuple(m.name for m in pkgutil.iter_modules([str(PACKAGE / "models")]))
FILE = "models.json"


class Entry(NamedTuple):
    about: str
    """the docstring of its file"""
    answers: list[str]
    options: list[Declared]
    training: list[Declared]
    presets: dict[str, dict[str, Any]]


def entry(name: str) -> Entry:
    """Of a model in likeness/models, by name.  Where the cache cannot be written it works all the same, and
    as slowly as ever."""
    from ..core import Refusal
    from ..storage import cache, write

    digest, known = _digest(), dict[str, Any]()
    with suppress(Refusal, OSError, ValueError):
        known = json.loads((cache.where() / FILE).read_text())
    if not isinstance(known, dict) or known.get("digest") != digest:
        known = dict(digest=digest)
    if name not in known:
        with undisturbed():
            from .. import models
        known[name] = of(models.load(name))
        with suppress(Refusal):
            write(cache.root() / FILE, json.dumps(known).encode())
    about, answers, options, training, presets = known[name]
    options, training = ([Declared(*row) for row in part] for part in (options, training))
    return Entry(about, answers, options, training, presets)


def of(kind: type[Model]) -> Entry:
    """Of a class, by asking it."""
    from ..core import Training, answers

    about = sys.modules[kind.__module__].__doc__ or ""
    options, training = declared(kind, kind), declared(Training, kind.defaults)
    return Entry(about, list(answers(kind)), options, training, kind.presets)


@once
def _digest() -> str:
    """Of all files of likeness, names and text."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE)} {len(text)}\n".encode() + text)
    return digest.hexdigest()
