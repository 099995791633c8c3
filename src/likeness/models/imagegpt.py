"""Image GPT: an image is a sequence of sub-pixels, and a transformer predicts each from all before it.

Chen et al., "Generative Pretraining from Pixels", 2020, section 2.1 and 3.2 (after Radford et al. 2019;
Parmar et al., "Image Transformer", 2018).

    p(x) = prod_i p(x_pi_i | x_pi_1, ..., x_pi_i-1, theta)                                            (eq. 1)

in raster order, channel after channel.  Nothing is masked but the future: no pixel is out of sight, however
far away it lies, and the price is that work grows with the square of the number of sub-pixels.  Large images
are learned as the codes of a VQ-VAE, in whose place the paper has a palette of 512 colours.

Departures: levels of brightness or the codes of a VQ-VAE in place of a palette of 512 colours, and each
channel is a token of its own; the learned vectors of a position are those of the sub-pixel to be predicted,
of its row, its column and its channel, and begin at a deviation of 0.2 for 0.02; attention is also turned by
row and column, perceptrons are gated and layers have no biases (transformer.py); Adam's beta2 is 0.999 for
0.95; and, since levels of brightness are amounts, near ones start near. No second training objective (BERT).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import Condition, Refusal, Training, label_of, option
from ..parts.autoregressive import Autoregressive
from ..parts.causal import Memory
from ..parts.conditionals import Softmax, level
from ..parts.transformer import Past, Transformer, rotation

LONGEST = 4096
"""sub-pixels of an image; attention compares each with each"""


class ImageGPT(Autoregressive):
    width: int = option(96, "features of a sub-pixel", 4, 2048)
    depth: int = option(4, "blocks of attention and a perceptron", 1, 64)
    heads: int = option(4, "parts of the features, each of which looks elsewhere", 1, 64)

    defaults = Training(batch=32, rate=2e-3, images=200_000, warmup=10_000, ema=100_000)

    def build(self) -> None:
        self.refuse()
        c, n, levels = self.spec.channels, self.spec.size, self.spec.levels
        self.p = Softmax(c, levels)
        self.table, self.first = (
            self.embedding(c * levels),
            self.embedding(self.spec.labels if self.conditional else 1),
        )
        self.slope = None if self.spec.symbols else self.embedding(c)
        self.places = nn.ModuleList(self.embedding(size) for size in (n, n, c))
        self.net = Transformer(self.width, self.depth, self.heads, causal=True)
        self.head = nn.Linear(self.width, levels)
        nn.init.normal_(self.head.weight, std=0.02)
        where = torch.cartesian_prod(torch.arange(n), torch.arange(n), torch.arange(c))
        self.where = nn.Buffer(where, persistent=False)
        self.turns = nn.Buffer(rotation(where[:, :2], self.width // self.heads), persistent=False)

    def embedding(self, things: int) -> nn.Embedding:
        made = nn.Embedding(things, self.width)
        nn.init.normal_(made.weight, std=0.2)  # the usual 0.02 learns more slowly at first
        return made

    def refuse(self) -> None:
        super().refuse()
        spec = self.spec
        if self.width % (2 * self.heads):
            fit = max(1, round(self.width / (2 * self.heads))) * 2 * self.heads
            raise Refusal(
                f"imagegpt: --width {self.width} does not give each of --heads {self.heads} an even number "
                f"of features; use --width {fit}."
            )
        if spec.dims > LONGEST:
            raise Refusal(
                f"imagegpt: {spec.size}x{spec.size} pixels of {spec.channels} channels are a sequence of "
                f"{spec.dims:,}, and beyond {LONGEST:,} attention is too slow; learn codes first, `likeness "
                "train vqvae DATA`, and then these, `likeness train imagegpt runs/vqvae-...`."
            )

    def predict(self, x: Tensor, y: Condition | None = None) -> Tensor:
        out = self.head(self.net(self.inputs(x, 0, self.spec.dims, y), self.turns))
        # a position's channels lie side by side
        return out.view(len(x), self.spec.size, self.spec.size, -1).permute(0, 3, 1, 2)

    def inputs(self, x: Tensor, begin: int, end: int, y: Condition | None) -> Tensor:
        """What the transformer is given at places begin ... end - 1, (B, end - begin, width): at each the
        sub-pixel before it, or the class or a start, and which sub-pixel is to be predicted."""
        before = slice(max(begin - 1, 0), end - 1)
        values, channel = x.permute(0, 2, 3, 1).flatten(1)[:, before], self.where[before, 2]
        h = self.table(level(values, self.spec.levels) + channel * self.spec.levels)
        if self.slope is not None:
            h = h + values[..., None] * self.slope(channel)
        if begin == 0:
            h = torch.cat([self.first(self.beginning(x, y))[:, None], h], 1)
        for place, at in zip(self.places, self.where[begin:end].unbind(1)):
            h = h + place(at)
        return h

    def beginning(self, x: Tensor, y: Condition | None) -> Tensor:
        """Which of the first inputs each image begins with."""
        label = label_of(self.condition(y))
        return torch.zeros(len(x), dtype=torch.int64, device=x.device) if label is None else label

    def pixel(self, x: Tensor, memory: Memory, y: Condition | None = None) -> Tensor:
        """Of the first channel, and, called again, of each next one; zeros stand for the others."""
        past: Past = memory.kept.setdefault(self.net, Past(self.spec.dims))
        c, here = self.spec.channels, (memory.row * self.spec.size + memory.column) * self.spec.channels
        place = max(past.fed, here)  # of a pixel that was known only the first channel has been asked for
        h = self.net(self.inputs(x, past.fed, place + 1, y), self.turns[:, past.fed : place + 1], past)
        out: Tensor = h.new_zeros(len(x), c, self.spec.levels)
        out[:, place - here] = self.head(h[:, -1])
        return out.flatten(1)[:, :, None, None]
