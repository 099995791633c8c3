"""A run whose codes another model learns: found, checked, measured.

    likeness train vqvae mnist                   runs/vqvae-mnist
    likeness train pixelcnn runs/vqvae-mnist     runs/pixelcnn-vqvae-mnist, with a copy of the first in its folder inside/

The new run depends on its own folder alone: the first may be moved, deleted or trained on.
"""  # noqa: E501

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import engine
from ..backbones import hub
from ..core import Compresses, Refusal, answers
from ..data import Data
from ..data.source import Source
from . import latent_model, origin
from .run import INSIDE, Config, Run, Stage, read_config
from .source import parse

MEASURED = 10_000
"""training images whose codes say what mean and variance the codes have"""


def find(source: str | Source) -> Run | None:
    """The trained run that `source` is, or None if that is no run: a folder of images may hold a config.json,
    too.

    Raises Refusal for a run that has no code which can be learnt.
    """
    asked = parse(source)
    folder = asked.path
    if asked.kind != "run" or folder is None:
        return None
    if not ((folder / "state").exists() or (folder / ".lock").exists()):
        return None
    config = read_config(folder)
    if config.inside:
        raise Refusal(
            f"{folder} learns the codes of a run itself, and codes of codes are not learnt; name the run "
            f"that it learns: {config.inside['source']}"
        )
    first = Run.open(folder)
    able, data = set(answers(first.model)), config.data.get("source", "DATA")
    if "compress" not in able and not {"encode", "decode"} <= able:
        raise Refusal(
            f"{folder} holds a {config.model}, which has no code that images can be made from; name a run "
            "of vqvae, vae or ae, or a set of images."
        )
    if not first.seen:
        raise Refusal(
            f"{folder} has no saved state, so its codes mean nothing yet; train it first: likeness train "
            f"{config.model} {data} {folder}"
        )
    return first


def reading(first: Run, typed: dict[str, Any]) -> dict[str, Any]:
    """How the first stage's images were read; whoever types anything else is told."""
    if lines := first.config.differences(dict(data=typed)):
        raise Refusal(
            f"{first.folder} was trained on images that were read with {'; '.join(lines)}.  Leave that out, "
            "or train an autoencoder anew."
        )
    return first.config.reading


def stage(first: Run, data: Data) -> Stage:
    """The first stage; its codes are measured on training images where it does not say itself
    what they are."""
    if why := origin.changed(first.config, first.folder, data):
        raise Refusal(
            f"{why}.  Say where what it has learnt lies now, with --data PLACE, or train that model anew, "
            "into another folder, and then this one."
        )
    if isinstance(first.model, Compresses):
        return Stage(first, first.model)
    rows = np.sort(np.random.default_rng(0).permutation(data.train)[:MEASURED])
    images = (engine.put(data.take(part)).x for part in np.array_split(rows, -(-len(rows) // 256)))
    return Stage(first, latent_model.measured(first.model, images))


def identity(first: Run) -> dict[str, Any]:
    """What a run writes down about its first stage."""
    name = type(first.model).__name__.lower() if first.config.model.endswith(".py") else first.config.model
    return dict(
        source=str(first.folder.resolve()),
        model=name,
        seen=first.seen,
        sha256=hub.digest(first.model.state_dict()),
    )


def compare(folder: Path, config: Config, model: str, source: str, first: Run | None) -> None:
    """Refuse to go on with images where codes are learnt, with codes where images are, or with codes of
    another state."""
    there, asked = config.inside, {} if first is None else identity(first)
    if there.get("sha256") == asked.get("sha256"):
        return
    if not there:
        raise Refusal(
            f"{folder} learns images, not the codes of {asked['source']}; name another folder for that."
        )
    other = (
        (f"{asked['source']} at image {asked['seen']:,} makes other codes")
        if asked
        else f"{source} is images"
    )
    raise Refusal(
        f"{folder} learns the codes of {there['source']} at image {there['seen']:,}, and {other}.  To go on "
        f"with those it has: likeness train {model} {folder / INSIDE} {folder}; for others name another "
        "folder."
    )
