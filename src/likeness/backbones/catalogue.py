"""The networks that are built here, by name, with their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .. import engine
from ..storage.cache import Progress
from . import weights as stored
from .layers import Graph
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
CODES = dict(
    vgg16="fc2",
    vgg19="fc2",
    mobilenet="global_average_pooling2d",
    mobilenet_v2="global_average_pooling2d",
    squeezenet="fire9/concat",
    resnet50="avg_pool",
)
"""the deepest layer of each that is not yet of its classes"""


def named(what: str) -> Graph:
    """One of GRAPHS without weights: its tensors have shapes and no values."""
    with torch.device("meta"):
        net = GRAPHS[what]()
        net.layers = net.measured()
    return net


def load(
    what: str, weights: str = "", layers: Sequence[str] = (), seed: int = 0, progress: Progress | None = None
) -> Graph:
    """The one of GRAPHS called `what`, on this machine's device, its weights fixed.

    weights: a file (.safetensors, .npz, .h5 as Keras writes it, SqueezeNet's .pth), "none" for random ones
    that `seed` decides, or nothing for the published ones, which are looked for on this machine and then
    downloaded.  layers: those that will be used, so that no more is fetched than these need.  Raises Refusal
    for an unknown layer, Offline where the weights are not at hand, BadData where they are not what they
    should be.
    """
    net = named(what)
    net.check(layers)
    stored.fill(net, weights, layers, seed, progress)
    net.check(layers)
    return net.eval().requires_grad_(False).to(engine.device())
