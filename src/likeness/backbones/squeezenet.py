"""SqueezeNet 1.1: few channels squeezed, then many expanded.

Iandola et al., "SqueezeNet", 2016, section 3, in the cheaper version 1.1 that its authors released as a Caffe
model.  Names are those of that model; its pools round up, as Caffe's do.
"""

from __future__ import annotations

from torch import nn

from .layers import LOGITS, Concat, Conv, Flatten, Graph, Input, MeanPool, Relu, Softmax

FIRES = {
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
"""channels squeezed, and expanded in either half"""
INPUT = Input(bgr=True, mean=(104.0, 117.0, 123.0))


def squeezenet() -> Graph:
    net = Graph("squeezenet", 227, INPUT)
    net.add("conv1", Conv(3, 64, 3, 2, pad=0))
    net.add("relu_conv1", Relu())
    _pool(net, 1)
    inside = 64
    for i, (squeezed, expanded) in FIRES.items():
        _fire(net, f"fire{i}", inside, squeezed, expanded)
        inside = 2 * expanded
        if i in (3, 5):
            _pool(net, i)
    net.add("drop9", nn.Identity())
    net.add("conv10", Conv(inside, 1000, 1))
    net.add("relu_conv10", Relu())
    net.add("pool10", MeanPool(keep=True))
    net.add(LOGITS, Flatten())
    net.add("prob", Softmax())
    return net


def _pool(net: Graph, i: int) -> None:
    net.add(f"pool{i}", nn.MaxPool2d(3, 2, ceil_mode=True))


def _fire(net: Graph, name: str, inside: int, squeezed: int, expanded: int) -> None:
    net.add(f"{name}/squeeze1x1", Conv(inside, squeezed, 1))
    narrow = net.add(f"{name}/relu_squeeze1x1", Relu())
    halves = []
    for kernel in (1, 3):
        net.add(f"{name}/expand{kernel}x{kernel}", Conv(squeezed, expanded, kernel), narrow)
        halves.append(net.add(f"{name}/relu_expand{kernel}x{kernel}", Relu()))
    net.add(f"{name}/concat", Concat(), *halves)
