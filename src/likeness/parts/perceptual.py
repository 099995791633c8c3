"""How far images are apart as a network sees them that has learnt to tell photographs apart.

Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, and Johnson,
Alahi & Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016.  F is the
output of a layer for an image, (C, H, W):

    gram             G_cd = sum_hw F_chw F_dhw / (C H W)      Gatys eq. 3, with the norm of Johnson eq. 3
    content          |F - P|^2 / (C H W)                      Johnson eq. 2; Gatys eq. 1 is half of the sum
    style            mean_l w_l |G_l - A_l|_F^2 / |A_l|_F^2   Johnson eq. 4, Gatys eq. 4 and 5, with each
                                                              layer divided by what G = 0 would have
    total_variation  mean squared difference of neighbours    Mahendran & Vedaldi 2015, eq. 3, beta = 2

F are outputs after the ReLU.  Images are (B, 3, H, W) in [-1, 1]; the network's own preprocessing is done
here.  Since layers of style are relative errors, weights mean the same for every painting, layer and size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .. import engine
from ..backbones import catalogue
from ..backbones import weights as stored
from ..backbones.layers import Conv, Graph
from ..core import Refusal

NETWORKS = ("vgg16", "vgg19")
"""those whose early layers both papers measure with"""


class Perceptual:
    """A fixed network that is asked for a few of its layers, and no deeper than these need.

    It is no nn.Module: a model that holds one neither saves nor averages nor trains it.  Nothing is read
    before the constructor, which a model therefore calls in prepare(), not in build().
    """

    def __init__(
        self,
        network: str,
        layers: Sequence[str],
        *,
        weights: str = "",
        seed: int = 0,
        pooling: str = "max",
    ):
        """network: vgg16 or vgg19.  layers: names such as block3_conv3.  weights: a file, "none" for random
        ones that `seed` decides, or nothing for the published ones (backbones/weights.py says where these are
        looked for). pooling: max, or average as Gatys has it (section 2).

        Raises Refusal for another network, layer or pooling, Offline where there are no weights, BadData for
        a bad file.
        """
        if network not in NETWORKS:
            raise Refusal(
                f"perceptual losses are measured with {' or '.join(NETWORKS)}, and not with {network!r}."
            )
        if pooling not in ("max", "average"):
            raise Refusal(f"--pooling is max or average, and not {pooling!r}.")
        self.layers = tuple(layers)
        self.net: Graph = _cut(network, weights, self.layers, seed)
        self.seen = self.net.fields()
        """pixels a side that a place of each layer depends on"""
        if pooling == "average":
            for name, layer in self.net.nodes.items():
                if isinstance(layer, nn.MaxPool2d):
                    self.net.nodes[name] = nn.AvgPool2d(layer.kernel_size)

    def hurry(self) -> None:
        """Ready for many gradients: the weights are fixed, so convolutions to 128 channels and more go the
        way of winograd.py, in fp32 on a processor (to 64 it was no faster at 512 pixels)."""
        for layer in self.net.nodes.values():
            if isinstance(layer, Conv) and layer.out_channels >= 128:
                layer.hurry(gradient=True)

    @property
    def source(self) -> str:
        """Where the weights come from, in a line."""
        return self.net.source

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return self.net.sha256

    def stride(self, layer: str) -> int:
        """Pixels from one place of this layer to the next."""
        order = list(self.net.nodes)
        pools = (nn.MaxPool2d, nn.AvgPool2d)
        before = order[: order.index(layer) + 1]
        return int(2 ** sum(isinstance(self.net.nodes[name], pools) for name in before))

    def halo(self, layer: str) -> int:
        """Pixels to each side of its own that a place of this layer depends on."""
        return self.seen[layer] // 2

    def width(self, layer: str) -> int:
        """Channels of this layer."""
        return self.net.layers[layer][0]

    def bytes_a_pixel(self, bf16: bool = False, gradient: bool = True) -> float:
        """Memory for each pixel of an image.  Where a gradient goes through it: every layer's output, the
        slopes of those that are asked for, and three of the largest on the way back; a third more was
        measured.  Without a gradient: the outputs that are asked for, and two of the largest, in fp32."""
        names = [step.name for step in self.net.steps(self.layers)]
        each = {name: self.width(name) / self.stride(name) ** 2 for name in names}
        asked, largest = sum(each[name] for name in self.layers), max(each.values())
        if not gradient:
            return 4 * (asked + 2 * largest)
        held = sum(each.values()) + asked + 3 * largest
        return 1.35 * (2 if bf16 else 4) * held + (4 * max(each.values()) if bf16 else 0)

    def weights_gb(self) -> float:
        return sum(w.numel() for w in self.net.used(self.layers).values()) * 4 / 1e9

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Of images (B, 3, H, W) in [-1, 1], for each layer (B, C, H / stride, W / stride); a gradient goes
        through.

        Raises Refusal for images that are smaller than one place of the deepest layer.
        """
        asked = tuple(layers) or self.layers
        least = max(map(self.stride, asked))
        if min(x.shape[2:]) < least:
            raise Refusal(
                f"{asked[-1]} looks at images of {least} pixels a side or more, and these have "
                f"{x.shape[3]}x{x.shape[2]}; enlarge them, or name layers that come before."
            )
        result: dict[str, Tensor] = self.net(self.net.prepare(x), asked)
        return result


def rgb(x: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) to (B, 3, H, W)."""
    return x.expand(-1, 3, -1, -1)


def recognised(known: Tensor, sha256: str) -> bool:
    """Whether a file has the digest that `known` remembers, uint8 (32,): a buffer of a model, zeros at first,
    which from then on remembers this one."""
    now = torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8, device=known.device)
    if known.any() and not torch.equal(known, now):
        return False
    known.copy_(now)
    return True


def _cut(network: str, weights: str, layers: Sequence[str], seed: int) -> Graph:
    """The network without what comes after the deepest of these layers, which is most of its weights."""
    if weights == "none":  # nothing is drawn that is not used
        net = catalogue.named(network)
        net.check(layers)
        _drop(net, layers)
        stored.fill(net, weights, layers, seed)
        return net.eval().requires_grad_(False).to(engine.device())
    net = catalogue.load(network, weights, layers, seed)
    _drop(net, layers)
    return net


def _drop(net: Graph, layers: Sequence[str]) -> None:
    order = list(net.nodes)
    for name in order[max(map(order.index, layers)) + 1 :]:
        del net.nodes[name], net.parents[name]


def gram(h: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, C), divided by C H W; in fp32 at least, whatever h is."""
    f = h.flatten(2)
    f = f if f.dtype == torch.float64 else f.float()
    return f @ f.mT / (h.shape[1] * f.shape[2])


def content(h: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of features of one shape, (B, C, H, W) to (B,)."""
    return (h - target).square().flatten(1).mean(1)


def style(
    grams: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Mapping[str, float] | None = None
) -> Tensor:
    """The squared relative error of Gram matrices (..., C, C), the mean over the layers of `targets`, one at
    least, each times its weight (1): (...,)."""
    each = [
        (weights or {}).get(name, 1.0)
        * (grams[name] - target).square().sum((-2, -1))
        / target.square().sum((-2, -1))
        for name, target in targets.items()
    ]
    return torch.stack(each).mean(0)


def total_variation(x: Tensor) -> Tensor:
    """Mean squared difference of neighbours below and to the right, (B, C, H, W) to (B,)."""
    down, right = x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    return down.square().mean((1, 2, 3)) + right.square().mean((1, 2, 3))
