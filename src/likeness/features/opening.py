"""A network by its name, ready to be asked.

load("vgg19")                     with the published weights
load("mobilenet", "mine.h5")      with those in a file
load("resnet50", "none")          with random ones, which a seed decides
load("runs/vicreg-photos")        any run of ours that encodes
load("dinov2"), load("timm:...")  of other people's packages: backbones/packages.py
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .. import engine
from ..backbones import catalogue, hub, packages
from ..backbones.layers import LOGITS, Hooked, Probe
from ..core import Classifies, Model, Refusal, ask
from ..data.dataset import Reading
from ..runs.run import Run
from ..storage.cache import Progress
from .named import LAYERS, parse

LUMA = (19595, 38470, 7471)
"""of red, green and blue, of 65536: that of data.writer.as_colour, by which colours became grey
for training"""


class OfRun(Hooked):
    """A run of ours."""

    folder: Path
    """absolute"""
    reading: Reading
    """of its training images"""


def load(
    what: str, weights: str = "", layers: Sequence[str] = (), seed: int = 0, progress: Progress | None = None
) -> Probe:
    """The network called `what`, which named.parse explains, on this machine's device, its weights fixed.

    The other arguments and the errors are those of backbones.catalogue.load; weights can be named for those
    that are built here, and for timm's.
    """
    asked = parse(what, LAYERS)
    if asked.kind == "graph":
        return catalogue.load(what, weights, layers, seed, progress)
    if weights and asked.name != "timm":
        graphs = ", ".join(catalogue.GRAPHS)
        raise Refusal(
            f"{what} has its own weights; leave --weights out, or name one of {graphs}, or of timm."
        )
    net = of_run(asked.path) if asked.kind == "run" else packages.load(asked.name, asked.where, weights, seed)
    net.check(layers)
    return net.eval().requires_grad_(False).to(engine.device())


def of_run(folder: Path) -> Probe:
    """A run of ours: its code is the layer `code`, and the sub-modules that lead there are layers, too."""
    run = Run.open(folder)
    model = run.model
    if model.spec.points or model.spec.channels not in (1, 3):
        raise Refusal(
            f"{folder} has learnt no images but points or codes; name a run of images that encodes."
        )
    answers = {
        "code": ask(model, "encode", "Name a run of a model that encodes, such as vae, simclr or classifier.")
    }
    if isinstance(model, Classifies):
        answers[LOGITS] = model.classify
    net = OfRun(
        folder.name,
        model,
        {name: _rows(answer) for name, answer in answers.items()},
        _shown(folder, model),
        (3, model.spec.size, model.spec.size),
    )
    net.folder = folder.resolve()
    net.reading = Reading(
        **run.config.reading
        | {"size": model.spec.size, "colour": "grey" if model.spec.channels == 1 else "rgb"}
    )
    net.least, net.sha256 = model.spec.size, hub.digest(model.state_dict())
    net.scaling = "fit"
    net.source = f"{run.config.model} after {run.seen:,} images"
    net.labels = tuple(run.config.classes) or tuple(map(str, range(model.spec.labels)))
    return net


def again(net: Probe) -> str:
    """What opens this network once more, from any folder; of a file of weights the hash must tell whether it
    is the same."""
    if isinstance(net, OfRun):
        return str(net.folder)
    if net.name in hub.HUB and os.path.isdir(place := os.path.expanduser(net.source)):
        return f"{net.name}:{os.path.abspath(place)}"
    return net.name


def _rows(answer: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: answer(x).flatten(1)


def _shown(folder: Path, model: Model) -> Callable[[Tensor], Tensor]:
    """Colours and size as in training."""
    channels, size, _ = model.spec.shape

    def prepare(x: Tensor) -> Tensor:
        if x.shape[2:] != (size, size):
            raise Refusal(
                f"{folder} was trained on images of {size}x{size} and cannot look at "
                f"{x.shape[3]}x{x.shape[2]}; type --size {size}."
            )
        x = _grey(x) if channels == 1 else x.expand(-1, 3, -1, -1)
        return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x

    return prepare


def _grey(x: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) to (B, 1, H, W): bytes become the very bytes of training, and floats are not rounded,
    so that a gradient goes through."""
    if x.shape[1] == 1:
        return x
    if x.dtype == torch.uint8:
        return (
            (x.int() * x.new_tensor(LUMA, dtype=torch.int32).view(3, 1, 1)).sum(1, keepdim=True) + 0x8000
            >> 16
        ).to(torch.uint8)
    return (x * (x.new_tensor(LUMA) / 65536).view(3, 1, 1)).sum(1, keepdim=True)
