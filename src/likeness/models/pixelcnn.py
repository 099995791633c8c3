"""PixelCNN: an image is a sequence of pixels, each predicted from those before it.

van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, and van den Oord et al.,
"Conditional Image Generation with PixelCNN Decoders", 2016b.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1})                                                          (2016, eq. 1)
    p(x_i | x_<i) = p(x_R | x_<i) p(x_G | x_R, x_<i) p(x_B | x_R, x_G, x_<i)                          (2016, eq. 2)

A convolution whose kernel is masked sees nothing that comes later, so one pass says all factors at once.

plain   a stack of masked convolutions in residual blocks (2016, figure 5).  Masks leave a blind spot: of the
pixels above and
        to the right a growing wedge is never seen, whatever the depth.
gated   two stacks (2016b, section 2.3): a vertical one sees all rows above, a horizontal one the row so far
and, at each
        layer, the vertical one: no blind spot.  Each layer is y = tanh(W_f * x + V_f h) (.) sigmoid(W_g * x +
        V_g h), with h the class (2016b, eq. 2 and 4).

Departures: Adam in place of RMSProp, 32 features in 10 layers (2016b: 15 layers, more features); the names of
codes are embedded, which the papers do not treat.
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


class PixelCNN(Autoregressive):
    net: str = option(
        "gated", "plain has one stack and a blind spot; gated has two and none", choices=("gated", "plain")
    )
    width: int = option(32, "features of a layer (of plain: twice as many between its blocks)", 3, 1024)
    depth: int = option(10, "layers after the first", 1, 64)
    kernel: int = option(3, "pixels a side of a kernel after the first, odd", 3, 15)
    first: int = option(7, "pixels a side of the first kernel, odd", 3, 31)

    defaults = Training(batch=64, rate=2e-3, images=200_000, warmup=10_000, ema=100_000)

    def build(self) -> None:
        self.refuse()
        spec = self.spec
        if not (self.kernel % 2 and self.first % 2):
            raise Refusal(
                f"pixelcnn: --kernel {self.kernel} and --first {self.first} must be odd, to have a middle."
            )
        self.p = Softmax(spec.channels, spec.levels)
        self.planes = Planes(spec.channels, spec.levels, spec.symbols)
        self.stack: Gated | Plain = Gated(self) if self.net == "gated" else Plain(self)

    def predict(self, x: Tensor, y: Condition | None = None) -> Tensor:
        return self.stack(self.planes(x), self.condition(y))

    def row(self, x: Tensor, memory: Memory, y: Condition | None = None) -> None:
        r = memory.row
        above = x[:, :, r - 1 : r] if r else None
        self.stack.row(None if above is None else self.planes(above), len(x), memory, self.condition(y))

    def pixel(self, x: Tensor, memory: Memory, y: Condition | None = None) -> Tensor:
        return self.stack.pixel(self.planes(memory.here(x)), memory, self.condition(y))

    def note(self, x: Tensor, memory: Memory) -> None:
        self.stack.first.write(self.planes(memory.here(x)), memory)


def gate(a: Tensor) -> Tensor:
    """tanh(a_f) (.) sigmoid(a_g), (2016b, eq. 2)."""
    # halves of pixels are slow to walk through
    f, g = (part.contiguous(memory_format=torch.channels_last) for part in a.chunk(2, 1))
    return f.tanh() * g.sigmoid()


class GatedLayer(nn.Module):
    """2016b, figure 2: the vertical stack above, the horizontal one, and the way from the first to the
    second."""

    def __init__(self, width: int, kernel: int, channels: int, labels: int):
        super().__init__()
        k, own = kernel // 2, groups(width, channels)
        self.vertical = CausalConv(width, 2 * width, k, k, k)
        self.across = CausalConv(2 * width, 2 * width)
        self.horizontal = CausalConv(
            width, 2 * width, 0, k, 0, centre(order(groups(width, channels, 2), own, "B"), 0, k, 0)
        )
        self.out = CausalConv(width, width, mask=order(own, own, "B"))
        self.label = Labels(labels, 4 * width) if labels else None

    def down(self, v: Tensor, y: Condition | None, memory: Memory | None = None) -> tuple[Tensor, Tensor]:
        """The vertical stack's next features, and what the horizontal one is told of them."""
        a = self.vertical(v, memory)
        shift = self.bias(y, 0)
        return gate(a if shift is None else a + shift), self.across(a, memory)

    def along(self, h: Tensor, vertical: Tensor, y: Condition | None, memory: Memory | None = None) -> Tensor:
        a = self.horizontal(h, memory) + vertical
        label = self.bias(y, 1)
        out: Tensor = h + self.out(gate(a if label is None else a + label), memory)
        return out

    def bias(self, y: Condition | None, stack: int) -> Tensor | None:
        """V_f h and V_g h of a stack, (B, 2 width, 1, 1)."""
        return None if self.label is None else self.label(y).chunk(2, 1)[stack][:, :, None, None]


class Gated(nn.Module):
    def __init__(self, m: PixelCNN):
        super().__init__()
        w, n, f, inside = m.width, m.spec.channels, m.first // 2, m.planes.channels
        own = groups(w, n)
        self.first_v = CausalConv(inside, w, f - 1, f, f)
        self.first = CausalConv(inside, w, 0, f, 0, centre(order(own, groups(inside, n), "A"), 0, f, 0))
        self.layers = nn.ModuleList(
            GatedLayer(w, m.kernel, n, m.spec.labels if m.conditional else 0) for _ in range(m.depth)
        )
        self.head = Head(w, m.p.outputs, n)

    def forward(self, x: Tensor, y: Condition | None) -> Tensor:
        v, h = self.first_v(shift_down(x)), self.first(x)
        for layer in self.layers:
            v, shift = layer.down(v, y)  # type: ignore[operator]
            h = layer.along(h, shift, y)  # type: ignore[operator]
        out: Tensor = self.head(h)
        return out

    def row(self, above: Tensor | None, n: int, memory: Memory, y: Condition | None) -> None:
        """The vertical stack needs the rows above alone, so it goes through a whole row at once."""
        weight = self.first_v.weight
        v = self.first_v(
            weight.new_zeros(n, weight.shape[1], 1, memory.size) if above is None else above, memory
        )
        for layer in self.layers:
            v, memory.kept[layer] = layer.down(v, y, memory)  # type: ignore[operator]

    def pixel(self, here: Tensor, memory: Memory, y: Condition | None) -> Tensor:
        h = self.first(here, memory)
        for layer in self.layers:
            h = layer.along(h, memory.kept[layer][..., memory.columns], y, memory)  # type: ignore[operator]
        out: Tensor = self.head(h, memory)
        return out


class Head(nn.Module):
    """Two layers of one pixel each (2016, table 1), up to a number for every level."""

    def __init__(self, width: int, outputs: int, channels: int):
        super().__init__()
        own, out = groups(width, channels), groups(outputs, channels)
        self.hidden = CausalConv(width, width, mask=order(own, own, "B"))
        self.out = CausalConv(width, outputs, mask=order(out, own, "B"))

    def forward(self, h: Tensor, memory: Memory | None = None) -> Tensor:
        out: Tensor = self.out(F.relu(self.hidden(F.relu(h), memory)), memory)
        return out


class Block(nn.Module):
    """2016, figure 5 left: from 2h features to h, a masked kernel, and back."""

    def __init__(self, h: int, kernel: int, channels: int):
        super().__init__()
        k, narrow, wide = kernel // 2, groups(h, channels), groups(2 * h, channels)
        self.shrink = CausalConv(2 * h, h, mask=order(narrow, wide, "B"))
        self.conv = CausalConv(h, h, k, k, k, centre(order(narrow, narrow, "B"), k, k, k))
        self.grow = CausalConv(h, 2 * h, mask=order(wide, narrow, "B"))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        h = self.conv(F.relu(self.shrink(F.relu(x), memory)), memory)
        out: Tensor = x + self.grow(F.relu(h), memory)
        return out


class Plain(nn.Module):
    def __init__(self, m: PixelCNN):
        super().__init__()
        h, n, f, inside = m.width, m.spec.channels, m.first // 2, m.planes.channels
        self.first = CausalConv(
            inside, 2 * h, f, f, f, centre(order(groups(2 * h, n), groups(inside, n), "A"), f, f, f)
        )
        self.blocks = nn.ModuleList(Block(h, m.kernel, n) for _ in range(m.depth))
        self.head = Head(2 * h, m.p.outputs, n)
        self.label = Labels(m.spec.labels, 2 * h) if m.conditional else None

    def forward(self, x: Tensor, y: Condition | None, memory: Memory | None = None) -> Tensor:
        h = self.first(x, memory)
        if self.label is not None:
            h = h + self.label(y)[:, :, None, None]
        for block in self.blocks:
            h = block(h, memory)
        out: Tensor = self.head(h, memory)
        return out

    def row(self, above: Tensor | None, n: int, memory: Memory, y: Condition | None) -> None:
        """There is nothing to be computed of a row beforehand: its features depend on its own pixels."""

    def pixel(self, here: Tensor, memory: Memory, y: Condition | None) -> Tensor:
        return self(here, y, memory)
