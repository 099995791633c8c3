"""What style transfer minimises, and its gradient, in strips of the image that fit into a memory.

Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, eq. 7, with F,
P, G and A of parts/perceptual.py:

    L(x) = a |F - P|^2 / |P|^2  +  b mean_l |G_l - A_l|_F^2 / |A_l|_F^2  +  c TV(x)
           +  d mean max(|x| - 1, 0)^2

Departures: each term is divided by what it would be for features that are all zero.  So a and b mean the
same for every network, layer, size and painting; the square root of a style term is the relative error of
that Gram matrix.  Gatys' w_l are then 1 / (L |A_l|^2) up to a constant.  The last term is ours: values beyond
black and white are cut off when the picture is written, and with it the loss of what is written was 1 to 4 %
lower after 100 gradients.

The gradient with respect to features is written down here (Gatys eq. 2 and 6 with these weights), and the
network carries it on to the image:

    dL/dF = 2 a (F - P) / |P|^2                       of the content layer
    dL/dF = 4 b / (L |A|^2) (G - A) F / (C H W)       of a style layer, since G is symmetric

It needs G, a sum over the whole image, but F only of the place at hand.  So an image that is too large is
walked through twice in strips: once for all G, without a graph, and once for the gradient.  Each strip is
seen with as many rows around it as its features depend on, and gives the same numbers as the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..parts import perceptual
from ..parts.perceptual import Perceptual, total_variation


class Goal(NamedTuple):
    """What the image should be like."""

    grams: Mapping[str, Tensor]
    """of the style, (C, C) for each layer"""
    content: Mapping[str, Tensor]
    """features of the content image, (1, C, H, W) for each layer"""
    style_weight: float
    content_weight: float
    variation: float
    layer_weights: Mapping[str, float]
    """of the style layers, of mean 1"""
    outside: float = 0.0
    """weight of what lies beyond black and white"""


class Terms(NamedTuple):
    """The parts of a loss, before their weights."""

    style: float
    """mean over layers of the squared relative error of the Gram matrix"""
    content: float
    """squared relative error of the features"""
    variation: float


class Strip(NamedTuple):
    """Rows of an image, `top` to `bottom`, and with those around them `first` to `last`."""

    first: int
    top: int
    bottom: int
    last: int


def strips(high: int, rows: int, halo: int, stride: int) -> Iterator[Strip]:
    """Cut an image of that height into strips of about `rows` rows that begin at whole places of every
    layer."""
    rows, halo = max(stride, rows // stride * stride), -(-halo // stride) * stride
    tops = list(range(0, max(1, high // stride * stride), rows))
    for top, bottom in zip(tops, [*tops[1:], high]):
        yield Strip(max(0, top - halo), top, bottom, min(high, bottom + halo))


class Objective:
    """L(x) of images (1, 3, H, W), with its gradient; called, it is a loss that minimize() takes."""

    def __init__(self, net: Perceptual, goal: Goal, rows: int = 0, bf16: bool = False):
        """rows: of a strip, or 0 for the whole image at once.  bf16: convolutions in bfloat16."""
        self.net, self.goal, self.rows, self.bf16 = net, goal, rows, bf16
        self.terms = Terms(0.0, 0.0, 0.0)
        """of the last image"""

    def __call__(self, x: Tensor) -> Tensor:
        """(1,)"""
        result: Tensor = _Known.apply(x, self)
        return result

    def measured(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """L (1,) and its gradient, of the shape of x."""
        goal, high, slope = self.goal, x.shape[2], torch.zeros_like(x, memory_format=torch.contiguous_format)
        parts = list(strips(high, self.rows or high, self.halo(), self.stride()))
        grams, apart, known = self._sums(x, parts)
        error = {name: grams[name] - goal.grams[name] for name in goal.grams}
        shares = {name: w / len(goal.grams) for name, w in goal.layer_weights.items()}
        gains = {
            name: 4 * goal.style_weight * shares[name] / goal.grams[name].square().sum() * e
            for name, e in error.items()
        }
        for part in parts:
            with torch.enable_grad():
                seen = known or self._seen(x, part, True)
            self._add_slope(slope, seen, gains, part, high)
            known = None
        with torch.enable_grad():
            flat = x.detach().requires_grad_()
            rough = total_variation(flat).sum()
            if goal.variation:
                slope += goal.variation * torch.autograd.grad(rough, flat)[0]
        rough = rough.detach()
        beyond = x.detach() - x.detach().clamp(-1, 1)
        slope += 2 * goal.outside / x.numel() * beyond
        zero = x.new_zeros(())
        s = perceptual.style(grams, goal.grams, goal.layer_weights) if goal.grams else zero
        c = torch.stack([*apart.values(), zero]).sum()
        self.terms = Terms(float(s), float(c), float(rough))
        loss = goal.style_weight * s + goal.content_weight * c + goal.variation * rough
        loss = loss + goal.outside * beyond.square().mean()
        return loss.to(x.dtype).view(1), slope

    def halo(self) -> int:
        return max(self.net.halo(name) for name in self.net.layers)

    def stride(self) -> int:
        return max(self.net.stride(name) for name in self.net.layers)

    def _sums(
        self, x: Tensor, parts: Sequence[Strip], gradient: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], _Seen | None]:
        """Gram matrices, squared relative errors of the content layers, and, where there is one strip, what
        was seen for it, with its graph if a gradient is to follow."""
        grams, apart, seen = dict[str, Tensor](), dict[str, Tensor](), None
        graph = gradient and len(parts) == 1
        for part in parts:
            with torch.set_grad_enabled(graph):
                seen = self._seen(x, part, graph)
            with torch.no_grad():
                for name in self.goal.grams:
                    f = seen.core(name)
                    grams[name] = grams.get(name, 0) + f.flatten(2)[0] @ f.flatten(2)[0].T
                for name, target in self.goal.content.items():
                    error = (seen.core(name) - seen.same_rows(target, name)).square().sum()
                    apart[name] = apart.get(name, 0) + error / target.square().sum()
        for name in grams:
            places = (x.shape[2] // self.net.stride(name)) * (x.shape[3] // self.net.stride(name))
            grams[name] = grams[name] / (grams[name].shape[0] * places)
        return grams, apart, seen if len(parts) == 1 else None

    def _seen(self, x: Tensor, part: Strip, graph: bool) -> _Seen:
        rows = x.detach()[:, :, part.first : part.last].requires_grad_(graph)
        with self._precision(x):
            features = self.net.features(rows)
        return _Seen(rows, features, part, {name: self.net.stride(name) for name in features})

    def _precision(self, x: Tensor) -> AbstractContextManager[Any]:
        return torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def _add_slope(
        self, slope: Tensor, seen: _Seen, gains: Mapping[str, Tensor], part: Strip, high: int
    ) -> None:
        """Add what this strip's own features say of the rows that they depend on."""
        outputs, slopes = list[Tensor](), list[Tensor]()
        with torch.no_grad():
            for name, h in seen.features.items():
                g, f = torch.zeros_like(h), seen.core(name)
                at = seen.rows_of(name)
                if name in gains:
                    whole = f.shape[1] * (high // seen.strides[name]) * f.shape[3]
                    g[:, :, at] = (gains[name] / whole @ f.flatten(2)[0]).view_as(f).to(g.dtype)
                if name in self.goal.content:
                    target = self.goal.content[name]
                    error = f - seen.same_rows(target, name)
                    gain = 2 * self.goal.content_weight / target.square().sum()
                    g[:, :, at] += (gain * error).to(g.dtype)
                outputs.append(h)
                slopes.append(g)
        (inner,) = torch.autograd.grad(outputs, seen.x, slopes)
        slope[:, :, part.first : part.last] += inner


class _Seen(NamedTuple):
    """A strip's features, with those of the rows around it."""

    x: Tensor
    features: dict[str, Tensor]
    part: Strip
    strides: dict[str, int]

    def rows_of(self, name: str) -> slice:
        """Its own rows among the features."""
        s = self.strides[name]
        begin = (self.part.top - self.part.first) // s
        return slice(begin, begin + self._many(name))

    def _many(self, name: str) -> int:
        s = self.strides[name]
        return self.part.bottom // s - self.part.top // s

    def core(self, name: str) -> Tensor:
        h = self.features[name].detach()[:, :, self.rows_of(name)]
        return h if h.dtype == torch.float64 else h.float()

    def same_rows(self, whole: Tensor, name: str) -> Tensor:
        """The rows of the whole image's features that are this strip's own."""
        top = self.part.top // self.strides[name]
        return whole[:, :, top : top + self._many(name)]


class _Known(torch.autograd.Function):
    """A loss whose gradient has been worked out with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, objective: Objective) -> Tensor:
        loss, slope = objective.measured(x.detach())
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    def backward(ctx: Any, gain: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gain.view(-1, 1, 1, 1) * slope, None


@torch.no_grad()
def grams(net: Perceptual, x: Tensor, layers: Sequence[str], rows: int = 0) -> dict[str, Tensor]:
    """Gram matrices (C, C) of an image (1, 3, H, W), in strips of that many rows."""
    goal = Goal(dict.fromkeys(layers, x.new_zeros(())), {}, 0, 0, 0, {})
    one = Objective(net, goal, rows)
    parts = list(strips(x.shape[2], rows or x.shape[2], one.halo(), one.stride()))
    return {name: g.detach() for name, g in one._sums(x, parts, gradient=False)[0].items()}


@torch.no_grad()
def features(net: Perceptual, x: Tensor, layers: Sequence[str], rows: int = 0) -> dict[str, Tensor]:
    """Features (1, C, H', W') of an image (1, 3, H, W), in strips of that many rows."""
    one = Objective(net, Goal({}, {}, 0, 0, 0, {}), rows)
    parts = list(strips(x.shape[2], rows or x.shape[2], one.halo(), one.stride()))
    seen = [{name: s.core(name) for name in layers} for s in (one._seen(x, part, False) for part in parts)]
    return {name: torch.cat([some[name] for some in seen], 2) for name in layers}
