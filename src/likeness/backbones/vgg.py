"""VGG: 3x3 convolutions in five blocks, and three layers that are fully connected.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015, table 1,
columns D and E. Names and order are those of keras.applications, where a convolution and its ReLU are one
layer.
"""

from __future__ import annotations

from torch import nn

from .layers import CAFFE, LOGITS, Conv, Dense, Flatten, Graph, Softmax

WIDTHS = (64, 128, 256, 512, 512)


def vgg16() -> Graph:
    return _vgg("vgg16", (2, 2, 3, 3, 3))


def vgg19() -> Graph:
    return _vgg("vgg19", (2, 2, 4, 4, 4))


def _vgg(name: str, depths: tuple[int, ...]) -> Graph:
    net, inside = Graph(name, 224, CAFFE), 3
    for block, (depth, width) in enumerate(zip(depths, WIDTHS), 1):
        for i in range(1, depth + 1):
            net.add(f"block{block}_conv{i}", Conv(inside, width, 3, relu=True))
            inside = width
        net.add(f"block{block}_pool", nn.MaxPool2d(2))
    net.add("flatten", Flatten())
    net.add("fc1", Dense(7 * 7 * 512, 4096, relu=True))
    net.add("fc2", Dense(4096, 4096, relu=True))
    net.add(LOGITS, Dense(4096, 1000))
    net.add("predictions", Softmax())
    return net
