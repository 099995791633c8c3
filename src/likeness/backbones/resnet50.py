"""ResNet-50, version 1: each block adds to what it was given.

He et al., "Deep Residual Learning for Image Recognition", 2016, table 1.  As in keras.applications the stride
is that of a block's first convolution, 1x1, and every convolution has a bias; names, order and epsilon are
Keras'.
"""

from __future__ import annotations

from torch import nn

from .layers import CAFFE, LOGITS, Add, Conv, Dense, Graph, MeanPool, Norm, Pad, Relu, Softmax

EPS = 1.001e-5
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""width and blocks"""


def resnet50() -> Graph:
    net = Graph("resnet50", 224, CAFFE)
    net.add("conv1_pad", Pad(3, 3, 3, 3))
    _conv(net, "conv1", Conv(3, 64, 7, 2, pad=0), net.last)
    net.add("pool1_pad", Pad(1, 1, 1, 1))
    net.add("pool1_pool", nn.MaxPool2d(3, 2))
    inside = 64
    for stage, (width, blocks) in enumerate(STAGES, 2):
        for i in range(1, blocks + 1):
            _block(net, f"conv{stage}_block{i}", inside, width, 2 if i == 1 and stage > 2 else 1)
            inside = 4 * width
    net.add("avg_pool", MeanPool())
    net.add(LOGITS, Dense(inside, 1000))
    net.add("predictions", Softmax())
    return net


def _block(net: Graph, name: str, inside: int, width: int, stride: int) -> None:
    """Three convolutions, added to the input, or to a projection of it where the width changes."""
    before = net.last
    _conv(net, f"{name}_1", Conv(inside, width, 1, stride), before)
    _conv(net, f"{name}_2", Conv(width, width, 3), net.last)
    # Keras sorts layers by their distance from the end: those of the two branches alternate.
    branch, project = net.last, inside != 4 * width
    if project:
        net.add(f"{name}_0_conv", Conv(inside, 4 * width, 1, stride), before)
    net.add(f"{name}_3_conv", Conv(width, 4 * width, 1), branch)
    past = net.add(f"{name}_0_bn", Norm(4 * width, EPS), f"{name}_0_conv") if project else before
    net.add(f"{name}_3_bn", Norm(4 * width, EPS), f"{name}_3_conv")
    net.add(f"{name}_add", Add(), past, net.last)
    net.add(f"{name}_out", Relu())


def _conv(net: Graph, name: str, conv: Conv, before: str) -> None:
    net.add(f"{name}_conv", conv, before)
    net.add(f"{name}_bn", Norm(conv.out_channels, EPS))
    net.add(f"{name}_relu", Relu())
