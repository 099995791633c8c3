"""PixelRNN: an image is a sequence of pixels, and a recurrent network remembers those before.

van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, whose sections, equations
and figures these are.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1})                                                          (1)
    p(x_i | x_<i) = p(x_R | x_<i) p(x_G | x_R, x_<i) p(x_B | x_R, x_G, x_<i)                          (2)

    [o, f, i, g] = sigma(K^ss * h_before + K^is * x)         g by tanh, the others by the logistic function
    c = f (.) c_before + i (.) g
    h = o (.) tanh(c)                                                                                 (3)

K^is, input to state, is masked so that it sees nothing that comes later, and is applied to the whole image at
once.  K^ss, state to state, sees earlier pixels alone and needs no mask; it is what has to wait for the step
before.

row        a step is a row (section 3.2).  K^ss covers three pixels of the row above, K^is the pixel and the one to its left, so the
           states see a triangle.  With F = first // 2, the prediction at (r, c) depends exactly on the
           columns c - F - depth ... c - 1 of its own row, and on c - F - depth - m ... c + F - 1 + m of the
           row m above.
diagonal   a step is a diagonal, the pixels of one r + c (section 3.3): in the skewed map of figure 3 a
column.  K^ss covers the pixel
           above and the one before it in its row.  One LSTM goes through rows to the right and one to the
           left; what the second says of a row is told to the next one alone.  All that comes before is seen.

One thing is not in the paper.  The first layer hides each pixel from itself, and so the last pixel of a row,
which has none to its right, from all of that row: the far left of the next row would know nothing of it.  The
LSTM that goes to the left speaks only to the next row, so here it is given the pixels themselves beside the
features of the layer below.

Departures: Adam in place of RMSProp; 16 features in 4 layers (128 in 12 on CIFAR-10 there); not the
multi-scale network; and what the LSTM to the left is given (above).
"""  # noqa: E501

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Condition, Refusal, Training, option
from ..parts.autoregressive import Autoregressive, Planes
from ..parts.causal import CausalConv, Memory, centre, groups, order, shift_down
from ..parts.conditionals import Softmax
from ..parts.conditioning import Labels


class PixelRNN(Autoregressive):
    net: str = option(
        "diagonal",
        "diagonal sees all pixels before, row a triangle of them and is faster",
        choices=("diagonal", "row"),
    )
    width: int = option(16, "features h of an LSTM; between its layers are twice as many", 3, 1024)
    depth: int = option(4, "layers of LSTM", 1, 64)
    first: int = option(7, "pixels a side of the first kernel, odd", 3, 31)

    defaults = Training(batch=32, rate=2e-3, images=200_000, warmup=10_000, ema=100_000)

    def build(self) -> None:
        self.refuse()
        spec, wide, f = self.spec, 2 * self.width, self.first // 2
        if self.first % 2 == 0:
            raise Refusal(f"pixelrnn: --first {self.first} must be odd, to have a middle.")
        self.p = Softmax(spec.channels, spec.levels)
        self.planes = Planes(spec.channels, spec.levels, spec.symbols)
        inside = self.planes.channels
        mask = order(groups(wide, spec.channels), groups(inside, spec.channels), "A")
        self.conv = CausalConv(inside, wide, f, f, f, centre(mask, f, f, f))
        kind = {"diagonal": DiagonalLayer, "row": RowLayer}[self.net]
        self.layers = nn.ModuleList(
            kind(self.width, inside, spec.channels, spec.size) for _ in range(self.depth)
        )
        self.head = Head(wide, self.p.outputs, spec.channels)
        self.label = Labels(spec.labels, wide) if self.conditional else None

    def predict(self, x: Tensor, y: Condition | None = None) -> Tensor:
        image = self.planes(x)
        h = self.features(image, y)
        for layer in self.layers:
            h = layer(h, image)
        return self.head(h)

    def features(self, image: Tensor, y: Condition | None, memory: Memory | None = None) -> Tensor:
        """What the first LSTM is given, (B, 2h, H, W)."""
        h: Tensor = self.conv(image, memory)
        return h if self.label is None else h + self.label(self.condition(y))[:, :, None, None]

    def row(self, x: Tensor, memory: Memory, y: Condition | None = None) -> None:
        above = self.planes(x[:, :, memory.row - 1 : memory.row]) if memory.row else None
        for layer in self.layers:
            layer.row(above, len(x), memory)  # type: ignore[operator]

    def pixel(self, x: Tensor, memory: Memory, y: Condition | None = None) -> Tensor:
        h = self.features(self.planes(memory.here(x)), y, memory)
        for layer in self.layers:
            h = layer.pixel(h, memory)  # type: ignore[operator]
        return self.head(h, memory)

    def take(self, x: Tensor, memory: Memory, y: Condition | None = None) -> None:
        """A state waits for the one before it in its row, so a row that is known is gone through as one that
        is drawn."""
        for memory.column in range(self.spec.size):
            self.pixel(x, memory, y)

    def note(self, x: Tensor, memory: Memory) -> None:
        self.conv.write(self.planes(memory.here(x)), memory)


def cell(a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(3) from the sums a (..., 4h) and the c (..., h) before; returns h and c."""
    gates, content = a.split((3 * c.shape[-1], c.shape[-1]), -1)
    o, f, i = gates.sigmoid().chunk(3, -1)
    c = torch.addcmul(i * content.tanh(), f, c)
    return o * c.tanh(), c


class LSTM(nn.Module):
    """(3), one step after another, of an image whose features belong to the channels that `inside` says.

    steps: where in the image each step's pixels are.  reach: how many states of the step before each pixel is
    told, its neighbours'.
    left: how many pixels to the left K^is covers.
    """

    order: Tensor
    back: Tensor

    def __init__(self, inside: Tensor, h: int, channels: int, steps: list[Tensor], reach: int, left: int = 0):
        super().__init__()
        self.h, self.reach, self.sizes = h, reach, [len(step) for step in steps]
        mask = order(groups(h, channels, 4), inside, "B")
        self.inputs = CausalConv(len(inside), 4 * h, 0, left, 0, centre(mask, 0, left, 0))
        self.states = nn.Linear(reach * h, 4 * h, bias=False)
        self.order = nn.Buffer(torch.cat(steps), persistent=False)
        self.back = nn.Buffer(self.order.argsort(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, H, W) to h, (B, h, H, W)."""
        # a pixel's features lie side by side, as convolutions like them best
        sums = self.inputs(x).permute(0, 2, 3, 1).flatten(1, 2)
        h = self.scan(sums.index_select(1, self.order)).index_select(1, self.back)
        return h.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)

    def scan(self, sums: Tensor) -> Tensor:
        """K^is * x (B, pixels, 4h), step after step, to h (B, pixels, h).

        Not in bfloat16: with 16 features that is slower, and c would lose what many steps add to it.
        """
        with torch.autocast(sums.device.type, enabled=False):
            h = c = self.states.weight.new_zeros(len(sums), self.sizes[0] + self.reach - 1, self.h)
            out = []
            for a in sums.to(h.dtype).split(self.sizes, 1):
                h, c = self.step(a, h, c)
                out.append(h)
            return torch.cat(out, 1)

    def step(self, a: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """From h and c of the last step those of this one, whose sums but for K^ss are a (B, n, 4h); beyond
        the image they are zero."""
        n = a.shape[1]
        if beyond := (n + self.reach - 1 - h.shape[1]) // 2:
            h, c = (F.pad(s, (0, 0, beyond, beyond)) for s in (h, c))
        return cell(a + self.recurrent(h), c[:, 1 : 1 + n])

    def recurrent(self, h: Tensor) -> Tensor:
        """K^ss * h: from n + reach - 1 states side by side to the sums of n, (B, n, 4h)."""
        n = h.shape[1] - self.reach + 1
        return self.states(torch.cat([h[:, j : j + n] for j in range(self.reach)], -1))

    def begin(self, n: int, memory: Memory) -> tuple[Tensor, Tensor]:
        """Room for h and c of the row that is to be drawn; returns those of the row above, (B, W + 2, h),
        zero beyond both ends."""
        nothing = self.states.weight.new_zeros(2, n, memory.size + 2, self.h)
        above, memory.kept[self] = memory.kept.get(self, nothing), nothing.clone()
        return above[0], above[1]

    def keep(self, h: Tensor, c: Tensor, memory: Memory) -> Tensor:
        """The state of the memory's pixel, in place of what it was when less of the pixel was known; returns
        h as (B, h, 1, 1)."""
        memory.kept[self][:, :, memory.column + 1] = torch.stack([h, c])
        return h[:, :, None, None]


class Layer(nn.Module):
    """Figure 5 right: h features by LSTM, and back to 2h, which are added to what came in."""

    def __init__(self, h: int, channels: int):
        super().__init__()
        wide = groups(2 * h, channels)
        self.up = CausalConv(h, 2 * h, mask=order(wide, groups(h, channels), "B"))

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Features (B, 2h, H, W) of the layer below, and the image as it is given to the network."""
        return x + self.up(self.states(x, image))

    def pixel(self, x: Tensor, memory: Memory) -> Tensor:
        return x + self.up(self.state(x, memory), memory)

    def states(self, x: Tensor, image: Tensor) -> Tensor:
        raise NotImplementedError

    def state(self, x: Tensor, memory: Memory) -> Tensor:
        raise NotImplementedError

    def row(self, above: Tensor | None, n: int, memory: Memory) -> None:
        """What a row of n images can be told beforehand.  above: the image's row above, (B, .., 1, W)."""
        raise NotImplementedError


class RowLayer(Layer):
    def __init__(self, h: int, planes: int, channels: int, size: int):
        super().__init__(h, channels)
        rows = list(torch.arange(size * size).split(size))
        self.lstm = LSTM(groups(2 * h, channels), h, channels, rows, reach=3, left=1)

    def states(self, x: Tensor, image: Tensor) -> Tensor:
        return self.lstm(x)

    def row(self, above: Tensor | None, n: int, memory: Memory) -> None:
        h, c = self.lstm.begin(n, memory)
        memory.kept[self] = self.lstm.recurrent(h), c

    def state(self, x: Tensor, memory: Memory) -> Tensor:
        (recurrent, c), at = memory.kept[self], memory.column
        a = self.lstm.inputs(x, memory)[:, :, 0, 0] + recurrent[:, at]
        return self.lstm.keep(*cell(a, c[:, at + 1]), memory)


class DiagonalLayer(Layer):
    def __init__(self, h: int, planes: int, channels: int, size: int):
        super().__init__(h, channels)
        r, c = torch.arange(size * size) // size, torch.arange(size * size) % size
        steps = range(2 * size - 1)
        wide = groups(2 * h, channels)
        self.right = LSTM(wide, h, channels, [(r + c == d).nonzero()[:, 0] for d in steps], reach=2)
        self.left = LSTM(
            torch.cat([wide, groups(planes, channels)]),
            h,
            channels,
            [(r + size - 1 - c == d).nonzero()[:, 0] for d in steps],
            reach=2,
        )

    def states(self, x: Tensor, image: Tensor) -> Tensor:
        return self.right(x) + shift_down(self.left(torch.cat([x, image], 1)))

    def row(self, above: Tensor | None, n: int, memory: Memory) -> None:
        h, _ = self.right.begin(n, memory)
        memory.kept[self] = h, torch.zeros_like(h) if above is None else self.back(above, memory)

    def back(self, image: Tensor, memory: Memory) -> Tensor:
        """The LSTM that goes to the left, through the row above, whose features the other one has kept: h (B,
        W + 2, h)."""
        x = memory.kept[self.right.inputs][memory.row - 1].permute(1, 2, 0).unsqueeze(2)
        sums = self.left.inputs(torch.cat([x, image], 1))[:, :, 0]
        above, _ = self.left.begin(len(x), memory)
        h = c = torch.zeros_like(above[:, 0])
        for k in reversed(range(memory.size)):
            recurrent = self.left.recurrent(torch.stack([above[:, k + 1], h], 1))[:, 0]
            h, c = cell(sums[:, :, k] + recurrent, c)
            memory.kept[self.left][0, :, k + 1] = h
        return memory.kept[self.left][0]

    def state(self, x: Tensor, memory: Memory) -> Tensor:
        (above, left), at = memory.kept[self], memory.column
        self.right.inputs.write(x, memory)  # for back(): the kernel of one pixel itself has no use for it
        h, c = memory.kept[self.right][:, :, at]
        a = (
            self.right.inputs(x, memory)[:, :, 0, 0]
            + self.right.recurrent(torch.stack([above[:, at + 1], h], 1))[:, 0]
        )
        return self.right.keep(*cell(a, c), memory) + left[:, at + 1, :, None, None]


class Head(nn.Module):
    """Two layers of one pixel each (table 1), up to a number for every level."""

    def __init__(self, width: int, outputs: int, channels: int):
        super().__init__()
        own, out = groups(width, channels), groups(outputs, channels)
        self.hidden = CausalConv(width, width, mask=order(own, own, "B"))
        self.out = CausalConv(width, outputs, mask=order(out, own, "B"))

    def forward(self, h: Tensor, memory: Memory | None = None) -> Tensor:
        return self.out(F.relu(self.hidden(F.relu(h), memory)), memory)
