"""The probability of each level of a sub-pixel, given what an autoregressive network says and the channels
before it.

A network says `outputs` numbers a pixel, (B, outputs, H, W).  A conditional turns them into

    log_prob(x, out)    nats of each sub-pixel, (B, C, H, W), x on the grid 2k/(levels-1) - 1
    logits(x, out, c)   log-probabilities but for a constant of all levels of channel c, (B, H, W, levels),
    given the channels
                        before c of x
    sequential          whether `out` itself depends on the channels of its own pixel: the network must then be asked anew for
                        each of them while an image is drawn
"""  # noqa: E501

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn


class Conditional(Protocol):
    outputs: int
    sequential: bool

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor: ...
    def logits(self, x: Tensor, out: Tensor, c: int) -> Tensor: ...


def level(x: Tensor, levels: int) -> Tensor:
    """Which level each value of [-1, 1] is, as a whole number (int64)."""
    return ((x + 1) * ((levels - 1) / 2)).round().long()


def value(k: Tensor, levels: int) -> Tensor:
    """The value in [-1, 1] of level k."""
    return k * (2 / (levels - 1)) - 1


class Softmax(nn.Module):
    """A number for each level of each channel (van den Oord et al. 2016, section 2.3): it knows nothing of
    which levels are near."""

    sequential = True

    def __init__(self, channels: int, levels: int):
        super().__init__()
        self.channels, self.levels = channels, levels
        self.outputs = channels * levels

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        # as channels-last features lie in memory
        each = out.unflatten(1, (self.channels, self.levels)).permute(0, 3, 4, 1, 2)
        k = level(x, self.levels).permute(0, 2, 3, 1)
        nats = F.cross_entropy(each.reshape(-1, self.levels).to(x.dtype), k.reshape(-1), reduction="none")
        return -nats.view(k.shape).permute(0, 3, 1, 2)

    def logits(self, x: Tensor, out: Tensor, c: int) -> Tensor:
        return out[:, c * self.levels : (c + 1) * self.levels].permute(0, 2, 3, 1)
