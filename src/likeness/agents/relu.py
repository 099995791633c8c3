"""Small networks with ReLU, and their gradients by hand.

A gradient of 32 steps is so little work that autograd's nodes and the convolution's choice of a way take
longer than the products.  Here a convolution is one product of all its windows, and each layer of the way
back two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Relu:
    """The layers of a network: linear ones, of images after one convolution; ReLU between them."""

    def __init__(self, net: nn.Sequential):
        layers = [m for m in net if not isinstance(m, nn.ReLU | nn.Flatten)]
        self.conv = layers[0] if isinstance(layers[0], nn.Conv2d) else None
        self.weights = [m.get_parameter(name) for m in layers for name in ("weight", "bias")]

    @classmethod
    def of(cls, net: nn.Module) -> Relu | None:
        """None where a network is not such a one."""
        if not isinstance(net, nn.Sequential) or not isinstance(net[-1], nn.Linear):
            return None
        first, *others = net
        plain = isinstance(first, nn.Linear) or (
            isinstance(first, nn.Conv2d) and first.stride == (1, 1) and first.padding == (0, 0)
        )
        inner = [type(m) for m in others if not isinstance(m, nn.Flatten)]
        chain = plain and inner == [nn.ReLU, nn.Linear] * (len(inner) // 2)
        return cls(net) if chain else None

    def windows(self, see: Tensor) -> Tensor:
        """(n, channels x 3 x 3, places) float32: what the convolution multiplies."""
        assert self.conv is not None
        n, channels, high, wide = see.shape
        a, b = self.conv.kernel_size
        y, x = high - a + 1, wide - b + 1
        strides = (see.stride(0), see.stride(1), see.stride(2), see.stride(3), see.stride(2), see.stride(3))
        return see.float().as_strided((n, channels, a, b, y, x), strides).reshape(n, channels * a * b, y * x)

    def forward(self, see: Tensor) -> list[Tensor]:
        """What each layer takes, and the result: windows or vectors, hidden layers, (n, outputs)."""
        weights = self.weights
        if self.conv is None:
            out = [see.float()]
        else:
            filters, bias, *weights = weights
            out = [self.windows(see.contiguous())]
            # matmul() would copy the filters for each sight
            h = torch.bmm(filters.flatten(1).expand(len(see), -1, -1), out[0]).add_(bias[:, None])
            out.append(h.flatten(1))
        for weight, bias in zip(weights[::2], weights[1::2]):
            if len(out) > 1:
                out[-1].relu_()
            out.append(torch.addmm(bias, out[-1], weight.t()))
        return out

    def answer(self, see: Tensor) -> Tensor:
        """(n, outputs) alone.  Layers are bent in place: of many sights, memory that is new each time takes
        longer than the products."""
        h, weights = see.float(), self.weights
        if self.conv is not None:
            h, weights = F.conv2d(h, weights[0], weights[1]).relu_().flatten(1), weights[2:]
        for i, (weight, bias) in enumerate(zip(weights[::2], weights[1::2])):
            h = torch.addmm(bias, h.relu_() if i else h, weight.t())
        return h

    def gradient(self, sights: Sequence[Tensor], g: Tensor) -> None:
        """Into .grad of each weight: that of a number whose gradient at the result is g (n, outputs).

        sights: as forward() has them."""
        out = [p.grad for p in self.weights]
        for i in range(len(sights) - 2, -1, -1):
            weight, to, bias = self.weights[2 * i], out[2 * i], out[2 * i + 1]
            assert to is not None and bias is not None
            if i == 0 and self.conv is not None:
                g = g.view(len(g), len(bias), -1)
                torch.sum(torch.bmm(g, sights[0].transpose(1, 2)), 0, out=to.flatten(1))
                torch.sum(g, (0, 2), out=bias)
                return
            torch.mm(g.t(), sights[i], out=to)
            torch.sum(g, 0, out=bias)
            if i:
                g = torch.ops.aten.threshold_backward(torch.mm(g, weight), sights[i], 0)
