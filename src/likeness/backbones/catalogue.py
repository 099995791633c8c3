"""The networks that are built here, by name, with their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .. import engine
from ..core import Refusal, closest
from ..storage.cache import Progress
from . import hub, packages
from . import weights as stored
from .layers import Graph, Probe
from .mobilenet import mobilenet, mobilenet_v2
from .resnet50 import resnet50
from .squeezenet import squeezenet
from .vgg import vgg16, vgg19

GRAPHS: dict[str, Callable[[], Graph]] = dict(
    vgg16=vgg16,
    vgg19=vgg19,
    mobilenet=mobilenet,
    mobilenet_v2=mobilenet_v2,
    squeezenet=squeezenet,
    resnet50=resnet50,
)
NAMES = (*GRAPHS, *hub.HUB, *(f"{kind}:NAME" for kind in packages.EXAMPLES))


def named(what: str) -> Graph:
    """One of GRAPHS without weights: its tensors have shapes and no values."""
    with torch.device("meta"):
        net = GRAPHS[what]()
        net.layers = net.measured()
    return net


def load(
    what: str, weights: str = "", layers: Sequence[str] = (), seed: int = 0, progress: Progress | None = None
) -> Probe:
    """The network called `what`, on this machine's device, its weights fixed.

    weights: a file (.safetensors, .npz, .h5 as Keras writes it, SqueezeNet's .pth), "none" for random ones
    that `seed` decides, or nothing for the published ones, which are looked for on this machine and then
    downloaded.  layers: those that will be used, so that no more is fetched than these need.  Raises Refusal
    for an unknown network or layer, Offline where the weights are not at hand, BadData where they are not
    what they should be.
    """
    kind, _, place = what.partition(":")
    if kind in packages.KINDS:
        net: Probe = packages.load(kind, place, weights, seed)
    elif what in GRAPHS:
        graph = named(what)
        graph.check(layers)
        stored.fill(graph, weights, layers, seed, progress)
        net = graph
    else:
        raise Refusal(
            f"there is no network {what!r}; {closest(what, NAMES)}  A run that encodes is named by its "
            "folder."
        )
    if weights and what not in GRAPHS and kind != "timm":
        raise Refusal(f"{what} has its own weights; leave --weights out, or name one of {', '.join(GRAPHS)}.")
    net.check(layers)
    return net.eval().requires_grad_(False).to(engine.device())
