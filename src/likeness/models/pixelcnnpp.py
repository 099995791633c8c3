"""PixelCNN++: a pixel's channels at once, from a mixture of logistics, by a network of three resolutions.

Salimans, Karpathy, Chen & Kingma, "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
Likelihood and Other Modifications", 2017.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1}),        i a pixel with all of its channels                   (2017, section 2.2)

What p is where brightness is an amount, parts/mixture.py says (2017, eq. 2 and 3); of black and white, and of
the codes of a VQ-VAE, which are names, each level has a number of its own.

Two streams go through the image.  The vertical one sees the rows above, the horizontal one these and what is
left in the row, of which it hears from the vertical one at each block.  Each is a U: blocks at ever lower
resolution, then back, and each block on the way back sees what the one opposite has made (2017, sections 2.3
and 2.4).  A block is x + a (.) sigmoid(b), where

    [a, b] = W_2 * dropout(f(W_1 * f(x) + V f(heard))) + U y,        f(x) = [elu(x), elu(-x)]

with the class y.  The authors' weight normalisation is left out: a first pass over data sets it, and then
weights would be no function of the seed.  As with them, what a block adds is small at first: W_2 begins ten
times smaller than is usual.

Departures: no weight normalisation and none of the first weights that it takes from data (above), no dropout
unless --dropout (0.5 there), two blocks of 32 features for five of 160; the rate does not fall by 0.999995 a
step, and the EMA forgets by images, not by steps (0.9995).
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Condition, Loss, Refusal, Training, option
from ..parts.autoregressive import Autoregressive, Planes
from ..parts.causal import CausalConv, Memory, shift_down, shift_right
from ..parts.conditionals import Conditional, Softmax
from ..parts.conditioning import Labels
from ..parts.mixture import LogisticMixture
from ..parts.strided import Double, Halve, half

SMALLEST = 4
"""pixels a side, below which an image is not halved"""


class PixelCNNpp(Autoregressive):
    width: int = option(32, "features of a layer; the paper has 160", 2, 1024)
    depth: int = option(2, "blocks of a resolution, each way; the paper has 5", 1, 32)
    resolutions: int = option(3, "the image's own, half of it, and so on, as far as 4 pixels a side", 1, 8)
    components: int = option(10, "logistics that a pixel's distribution is mixed of", 1, 256)
    dropout: float = option(
        0.0,
        "share of features left out while training, in steps of 1/256; the paper has 0.5, which helps "
        "where images are few",
        0.0,
        0.9,
    )

    defaults = Training(batch=64, rate=1e-3, images=200_000, warmup=10_000, ema=100_000)

    def build(self) -> None:
        self.refuse()
        spec, w = self.spec, self.width
        self.p = self.choose_conditional()
        self.planes = Planes(spec.channels, spec.levels, spec.symbols)
        inside = self.planes.channels + 1
        self.above = CausalConv(inside, w, 1, 1, 1)
        self.before = CausalConv(inside, w, 0, 1, 1)
        self.left = CausalConv(inside, w, 1)
        self.vertical, self.horizontal = (
            Stream(self, down, self.count_resolutions(), spec.size) for down in (True, False)
        )
        self.head = nn.Conv2d(2 * w, self.p.outputs, 1)
        self.chances = 0
        for block in (m for m in self.modules() if isinstance(m, Block)):
            block.chances = slice(self.chances, self.chances + 2 * w * block.size**2)
            self.chances = block.chances.stop

    def choose_conditional(self) -> Conditional:
        c, levels, symbols = self.spec.channels, self.spec.levels, self.spec.symbols
        if symbols and c > 1:
            raise Refusal(
                f"pixelcnnpp: the {c} channels of a pixel are drawn together, which asks for amounts and "
                "these levels are names; use pixelcnn."
            )
        return (
            Softmax(c, levels)
            if symbols or (levels == 2 and c == 1)
            else LogisticMixture(c, levels, self.components)
        )

    def count_resolutions(self) -> int:
        size, n = self.spec.size, 1
        while n < self.resolutions and (size := (size + 1) // 2) >= SMALLEST:
            n += 1
        return n

    def loss(self, batch: Batch) -> Loss:
        """As of every autoregressive model, with dropout while the model is in training."""
        drawn = (
            batch.noise.bits(-(-self.chances // 8)).view(torch.uint8)
            if self.training and self.dropout
            else None
        )
        return self.cost(batch.x, self.predict(batch.x, batch.y, drawn))

    def predict(self, x: Tensor, y: Condition | None = None, drawn: Tensor | None = None) -> Tensor:
        """drawn: for dropout, a random byte (B, chances) for every feature of every block."""
        go = Way(self.condition(y), drawn)
        x = self.seen(x)
        above = shift_down(x)
        self.vertical(features(self.above(above)), go)
        h = self.horizontal(features(self.before(above) + self.left(shift_right(x))), go)
        out: Tensor = self.head(h.f)
        return out

    def seen(self, x: Tensor) -> Tensor:
        """An image and a plane of ones, by which a border is told from grey."""
        return F.pad(self.planes(x), (0, 0, 0, 0, 0, 1), value=1.0)

    def row(self, x: Tensor, memory: Memory, y: Condition | None = None) -> None:
        """The vertical stream needs the rows above alone, so it goes through a whole row at once."""
        r, go = memory.row, Way(self.condition(y), memory=memory)
        above = self.seen(x[:, :, r - 1 : r]) if r else self.nothing(x, self.spec.size)
        self.vertical(features(self.above(above, memory)), go)
        memory.kept[self] = go.heard | {self: self.before(above, memory)}

    def pixel(self, x: Tensor, memory: Memory, y: Condition | None = None) -> Tensor:
        r, c = memory.row, memory.column
        left = self.seen(x[:, :, r : r + 1, max(c - 1, 0) : c - 1 + memory.width])
        left = left if c else torch.cat([self.nothing(x, 1), left], 3)
        go = Way(self.condition(y), memory=memory, heard=memory.kept[self])
        h = self.horizontal(features(go.hear(self) + self.left(left, memory)), go)
        out: Tensor = self.head(h.f)
        return out

    def nothing(self, x: Tensor, width: int) -> Tensor:
        """What is seen beyond the border."""
        return x.new_zeros(len(x), self.above.in_channels, 1, width)


class Features(NamedTuple):
    x: Tensor
    f: Tensor
    """[elu(x), elu(-x)], what every layer sees of x"""


def concat_elu(x: Tensor) -> Tensor:
    # its slope is then told from its value: no second exponential
    return F.elu(torch.cat([x, -x], 1), inplace=True)


def gate(h: Tensor) -> Tensor:
    """a (.) sigmoid(b); each half is copied first, since on a processor arithmetic on half of the channels is
    many times slower."""
    a, b = (part.contiguous(memory_format=torch.channels_last) for part in h.chunk(2, 1))
    return a * b.sigmoid()


def features(x: Tensor) -> Features:
    return Features(x, concat_elu(x))


@dataclass(frozen=True)
class Way:
    """What goes with the features through a stream."""

    y: Condition | None
    drawn: Tensor | None = None
    memory: Memory | None = None
    heard: dict[Any, Tensor] = field(default_factory=dict)
    """what the vertical stream says to the block of this number"""

    def hear(self, place: Any) -> Tensor:
        """(B, C, H, W); with a memory, of its pixel or row."""
        whole = self.heard[place]
        return whole if self.memory is None else whole[..., self.memory.columns]

    def lower(self) -> Way:
        return self if self.memory is None else replace(self, memory=half(self.memory))

    def thin(self, x: Tensor, share: float, chances: slice) -> Tensor:
        """Dropout: a byte of an image's own noise decides about each feature."""
        if self.drawn is None:
            return x
        b, c, h, w = x.shape
        limit = round(256 * share)
        chance = self.drawn[:, chances].view(b, h, w, c).permute(0, 3, 1, 2)
        return x * (chance >= limit).to(x.dtype).mul_(256 / (256 - limit))


class Block(nn.Module):
    """Of one of the streams.  One that skips sees what the block opposite has made as well."""

    chances: slice
    """this block's part of the bytes that dropout is decided by"""

    def __init__(self, m: PixelCNNpp, place: int, vertical: bool, skips: bool, size: int):
        super().__init__()
        w, right = m.width, int(vertical)
        self.place, self.dropout, self.size = place, m.dropout, size
        self.first = CausalConv(2 * w, w, 1, 1, right)
        self.second = CausalConv(2 * w, 2 * w, 1, 1, right)
        nn.init.normal_(self.second.weight, std=0.1 * (2 * w * self.second.weight[0, 0].numel()) ** -0.5)
        self.skip = nn.Conv2d(2 * w, w, 1, bias=False) if skips else None
        self.across = nn.Conv2d(2 * w, w, 1, bias=False) if vertical else None
        self.label = (
            Labels(m.spec.labels, 2 * w, weight=torch.zeros(m.spec.labels, 2 * w)) if m.conditional else None
        )

    def forward(self, x: Features, go: Way, opposite: Tensor | None = None) -> Features:
        h = self.first(x.f, go.memory)
        if self.skip is not None:
            h = h + self.skip(opposite)
        if self.across is None:
            h = h + go.hear(self.place)
        h = self.second(go.thin(concat_elu(h), self.dropout, self.chances), go.memory)
        if self.label is not None:
            h = h + self.label(go.y)[:, :, None, None]
        x = features(x.x + gate(h))
        if self.across is not None:
            go.heard[self.place] = self.across(x.f)
        return x


class Stream(nn.Module):
    """One resolution, and all lower ones within it.  Its blocks are numbered from `first` on."""

    def __init__(self, m: PixelCNNpp, vertical: bool, resolutions: int, size: int, first: int = 0):
        super().__init__()
        there, back = m.depth, m.depth + int(resolutions > 1)
        self.there = nn.ModuleList(Block(m, first + i, vertical, False, size) for i in range(there))
        self.back = nn.ModuleList(Block(m, first + there + i, vertical, True, size) for i in range(back))
        self.below = (
            Below(m, vertical, resolutions - 1, (size + 1) // 2, first + there + back)
            if resolutions > 1
            else None
        )

    def forward(self, x: Features, go: Way) -> Features:
        made = [x]
        for block in self.there:
            made.append(block(made[-1], go))
        x = made.pop() if self.below is None else self.below(made[-1].x, go)
        for block in self.back:
            x = block(x, go, made.pop().f)
        return x


class Below(nn.Module):
    """A stream at half the resolution; with a memory, only where something new is due there."""

    def __init__(self, m: PixelCNNpp, vertical: bool, resolutions: int, size: int, first: int):
        super().__init__()
        self.shrink = Halve(m.width, m.width, 1, 1, int(vertical))
        self.stream = Stream(m, vertical, resolutions, size, first)
        self.grow = Double(m.width, m.width)

    def forward(self, x: Tensor, go: Way) -> Features:
        low = self.shrink(x, go.memory)
        if low.shape[3]:
            low = self.stream(features(low), go.lower()).x
        return features(self.grow.onto(x, low, go.memory))
