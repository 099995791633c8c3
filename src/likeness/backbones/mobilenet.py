"""MobileNets: a convolution in each channel for itself, then one across the channels in each place.

Version 1: Howard et al., "MobileNets", 2017, table 1.  Version 2: Sandler et al., "MobileNetV2: Inverted
Residuals and Linear Bottlenecks", 2018, table 2.  Both at width 1; names, order, padding and epsilons are
those of keras.applications.
"""

from __future__ import annotations

from torch import nn

from .layers import (
    LOGITS,
    UNIT,
    Add,
    Conv,
    Dense,
    Flatten,
    Graph,
    MeanPool,
    Norm,
    Pad,
    PadForStride,
    Relu,
    Softmax,
)

EPS = 1e-3
V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""width and stride of each block"""
V2 = (
    (16, 1, 1, 1),
    (24, 2, 2, 6),
    (32, 3, 2, 6),
    (64, 4, 2, 6),
    (96, 3, 1, 6),
    (160, 3, 2, 6),
    (320, 1, 1, 6),
)
"""width, blocks, stride of the first of them, expansion"""


def mobilenet() -> Graph:
    net = Graph("mobilenet", 224, UNIT)
    _conv(net, "conv1", Conv(3, 32, 3, 2, bias=False))
    inside = 32
    for i, (width, stride) in enumerate(V1, 1):
        if stride == 2:
            net.add(f"conv_pad_{i}", Pad(0, 1, 0, 1))
        _conv(net, f"conv_dw_{i}", _depthwise(inside, stride))
        _conv(net, f"conv_pw_{i}", Conv(inside, width, 1, bias=False))
        inside = width
    net.add("global_average_pooling2d", MeanPool(keep=True))
    net.add("dropout", nn.Identity())
    net.add("conv_preds", Conv(inside, 1000, 1))
    net.add("reshape_2", Flatten())
    net.add(LOGITS, nn.Identity())
    net.add("predictions", Softmax())
    return net


def _conv(net: Graph, name: str, conv: Conv) -> None:
    net.add(name, conv)
    net.add(f"{name}_bn", Norm(conv.out_channels, EPS))
    net.add(f"{name}_relu", Relu(6))


def _depthwise(width: int, stride: int) -> Conv:
    return Conv(width, width, 3, stride, pad="same" if stride == 1 else 0, groups=width, bias=False)


def mobilenet_v2() -> Graph:
    net = Graph("mobilenet_v2", 224, UNIT)
    net.add("Conv1", Conv(3, 32, 3, 2, bias=False))
    net.add("bn_Conv1", Norm(32, EPS))
    net.add("Conv1_relu", Relu(6))
    inside, block = 32, 0
    for width, blocks, first, expansion in V2:
        for i in range(blocks):
            _inverted(net, block, inside, width, first if i == 0 else 1, expansion)
            inside, block = width, block + 1
    net.add("Conv_1", Conv(inside, 1280, 1, bias=False))
    net.add("Conv_1_bn", Norm(1280, EPS))
    net.add("out_relu", Relu(6))
    net.add("global_average_pooling2d", MeanPool())
    net.add(LOGITS, Dense(1280, 1000))
    net.add("predictions", Softmax())
    return net


def _inverted(net: Graph, block: int, inside: int, width: int, stride: int, expansion: int) -> None:
    """Wide between two narrow ends, which alone are joined past it (section 3.3)."""
    before, wide, name = net.last, expansion * inside, f"block_{block}" if block else "expanded_conv"
    if block:
        _named(net, f"{name}_expand", Conv(inside, wide, 1, bias=False), relu=True)
    if stride == 2:
        net.add(f"{name}_pad", PadForStride())
    _named(net, f"{name}_depthwise", _depthwise(wide, stride), relu=True)
    _named(net, f"{name}_project", Conv(wide, width, 1, bias=False), relu=False)
    if inside == width and stride == 1:
        net.add(f"{name}_add", Add(), before, net.last)


def _named(net: Graph, name: str, conv: Conv, relu: bool) -> None:
    net.add(name, conv)
    net.add(f"{name}_BN", Norm(conv.out_channels, EPS))
    if relu:
        net.add(f"{name}_relu", Relu(6))
