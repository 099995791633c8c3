"""What every autoregressive model of images has in common.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1})

The sub-pixels x_i are ordered by rows, then columns, then channels.  One pass over a whole image says all
factors at once: the likelihood is exact and cheap.  Drawing an image takes as many steps as there are
sub-pixels; each step asks for the next factor alone, from what a memory has kept of the ones before, and so
costs the work of one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..core import Batch, Bits, Condition, Loss, Model, Noise, Refusal, final, label_of, option
from . import chance, classes
from .causal import Memory
from .conditionals import Conditional, level, value

OWN, KEY = 32, 0x0E7
"""samples that a model judges of its own, and the stream of their noise"""
VALUES = 2**24
"""log-probabilities held at once while they are averaged"""


class Autoregressive(Model):
    """A model says `p`, a conditional, and how its network answers: predict() for an image, pixel() for the
    next of one that is being drawn."""

    temperature: float = option(
        1.0,
        "of samples: below 1 likelier and more alike, above 1 more varied; 1 is the model itself",
        0.01,
        100.0,
        live=True,
    )
    conditional: bool = option(False, "p(x|y): learn what each class looks like, from labelled images")

    units = {"model": "bits/dim"}

    if TYPE_CHECKING:
        p: Conditional

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("label",) if self.conditional else ()

    def refuse(self) -> None:
        """What no autoregressive model can learn: for build() to begin with."""
        name = type(self).__name__.lower()
        if self.conditional:
            classes.several(name, self.spec)
        if self.spec.levels < 2:
            raise Refusal(
                f"{name}: it draws one of a number of levels, and these are codes that may be any number; "
                "take those of a vqvae."
            )

    def condition(self, y: Condition | None) -> Condition | None:
        """What the network is told of classes: none unless it is conditional, and then there must be some."""
        if self.conditional and label_of(y) is None:
            raise Refusal(
                f"{type(self).__name__.lower()}: a class-conditional model judges an image of a class, and "
                "none was said."
            )
        return y if self.conditional else None

    # What a model gives

    def predict(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """What the network says about every pixel of (B, C, H, W), each from those before it alone: (B,
        p.outputs, H, W)."""
        raise NotImplementedError

    def row(self, x: Tensor, memory: Memory, y: Condition | None = None) -> None:
        """What can be computed of the memory's row as soon as those above it are known: called once, before
        its first pixel."""

    def pixel(self, x: Tensor, memory: Memory, y: Condition | None = None) -> Tensor:
        """predict() at the memory's row and column alone, (B, p.outputs, 1, 1).  Called for each pixel in
        turn, and again for each channel if p.sequential; x (B, C, H, W) is only known before that.  Of a
        row that is known take() may ask all at once."""
        raise NotImplementedError

    def take(self, x: Tensor, memory: Memory, y: Condition | None = None) -> None:
        """All of the memory's row is known: let every layer take note of it, in one pass of which nothing
        else is asked."""
        memory.width = self.spec.size
        self.pixel(x, memory, y)
        memory.width = 1

    def note(self, x: Tensor, memory: Memory) -> None:
        """The memory's pixel is drawn, and will not change: for a layer that sees the image itself."""

    # What follows from it

    def surprise(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """-log p(x_i | x_1 ... x_{i-1}) in nats, (B, C, H, W)."""
        return -self.p.log_prob(x, self.predict(x, y))

    def loss(self, batch: Batch) -> Loss:
        return self.cost(batch.x, self.predict(batch.x, batch.y))

    def cost(self, x: Tensor, out: Tensor) -> Loss:
        """Bits a dimension of images (B, C, H, W) by what the network says about them, (B,
        p.outputs, H, W)."""
        nats = -self.p.log_prob(x, out).mean()
        return Loss(nats / math.log(2), {"nats": nats.detach() * self.spec.dims})

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: bits/dim of one that says the same of every pixel."""
        return {"model": chance.levels_alone(batch.x, self.spec.levels)}

    @torch.no_grad()
    def bits_per_dim(self, batch: Batch) -> Bits:
        return Bits(self.surprise(batch.x, batch.y).flatten(1).mean(1) / math.log(2), "exact")

    def log_probs(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """log p(x_i = each level | x_1 ... x_{i-1}), (B, C, H, W, levels)."""
        out = self.predict(x, y)
        return torch.stack([self.p.logits(x, out, c).log_softmax(-1) for c in range(self.spec.channels)], 1)

    def entropy(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """How undecided the model is before it sees each sub-pixel: the mean of its surprise, in nats, (B, C,
        H, W)."""
        rows = max(1, VALUES // (self.spec.dims * self.spec.levels))
        parts = range(0, len(x), rows)
        return torch.cat(
            [self._entropy(x[i : i + rows], None if y is None else y[i : i + rows]) for i in parts]
        )

    def _entropy(self, x: Tensor, y: Condition | None) -> Tensor:
        log_p = self.log_probs(x, y)
        return -(log_p.exp() * log_p.clamp(min=-1e4)).sum(-1)

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """Yields after each row; what is not drawn yet is black."""
        size = self.spec.size
        nothing = torch.zeros(size, size, dtype=torch.bool)
        yield from self.complete(torch.full((len(noise), *self.spec.shape), -1.0), nothing, noise, y)

    @torch.no_grad()
    def complete(
        self, x: Tensor, known: Tensor, noise: Noise, y: Condition | None = None, naive: bool = False
    ) -> Iterator[Tensor]:
        """Draw the rest of images of which the first pixels are known, from p(rest | known); yields after
        each row.

        x: (B, C, H, W).  known: bool (H, W); a pixel that is not known must not come before one that is.  y:
        classes; where a conditional model is told none, they are drawn by how well each fits what is known.
        naive: ask the whole network anew for each sub-pixel; the same images, hundreds of times slower: it is
        there to test against.
        """
        first, known = self._first_unknown(known), known.to(noise.device).bool()
        x = torch.where(known, x.to(noise.device, next(self.parameters()).dtype), -1.0)
        if first == self.spec.size**2:
            yield x
            return
        y = self.choose_class(noise, x, known) if y is None else y
        # a pixel's own, however many are known
        chance = noise.uniform(self.spec.size, self.spec.size, self.spec.channels)
        asked = self.predictive(x, first, y, naive)
        for r in range(first // self.spec.size, self.spec.size):
            for c in range(max(0, first - r * self.spec.size), self.spec.size):
                for k in range(self.spec.channels):
                    result = choose(next(asked) / self.temperature, chance[:, r, c, k])
                    x[:, k, r, c] = value(result, self.spec.levels).to(x.dtype)
            yield x.clone()

    @torch.no_grad()
    def predictive(
        self, x: Tensor, known: int = 0, y: Condition | None = None, naive: bool = False
    ) -> Iterator[Tensor]:
        """What each next sub-pixel may be: logits of all its levels, (B, levels), which are log p(x_i |
        x_1 ... x_{i-1}) but for a constant.

        x: (B, C, H, W), where the model is and of its type, of which the first `known` pixels count.  Each
        number is of what stands in x when it is asked for: whoever draws writes a sub-pixel into x before
        asking for the next one; an x that nobody changes is judged as it is.  naive: as in complete().
        """
        memory = Memory(self.spec.size)
        for r in range(self.spec.size):
            memory.row, memory.column = r, 0
            unknown = (r + 1) * self.spec.size > known
            if not naive:
                self.row(x, memory, y)
                if not unknown:
                    self.take(x, memory, y)
            for memory.column in range(self.spec.size) if unknown else ():
                if r * self.spec.size + memory.column >= known:
                    yield from self._channels(x, memory, y, naive)
                elif not naive:
                    self.pixel(x, memory, y)
                if not naive:
                    self.note(x, memory)

    def _channels(self, x: Tensor, memory: Memory, y: Condition | None, naive: bool) -> Iterator[Tensor]:
        """Those of the memory's pixel."""
        for k in range(self.spec.channels):
            if k == 0 or self.p.sequential:
                out = self.answer(x, memory, y, naive)
            yield self.p.logits(memory.here(x), out, k)[:, 0, 0]

    def answer(self, x: Tensor, memory: Memory, y: Condition | None, naive: bool) -> Tensor:
        """What is drawn from at the memory's pixel, (B, p.outputs, 1, 1): what the network says, or, in a
        model that guides its samples, what it makes of that."""
        return memory.here(self.predict(x, y)) if naive else self.pixel(x, memory, y)

    def _first_unknown(self, known: Tensor) -> int:
        """How many pixels are known: in the order of drawing nothing known may follow what is not."""
        flat = known.flatten().bool()
        n = int(flat.sum())
        if not bool(flat[:n].all()):
            row = int((~flat[:n]).nonzero()[0]) // self.spec.size
            raise Refusal(
                f"{type(self).__name__.lower()} draws from left to right and from top to bottom, and in row "
                f"{row + 1} something is to be drawn before something that is given; let all that is "
                "unknown come last, such as the lower half."
            )
        return n

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """Whether it draws what it describes: over its own samples the surprise must on average be what it
        expected it to be, its entropy."""
        noise = Noise(range(OWN), KEY, device=batch.x.device)
        y = self.choose_class(noise)
        x = final(self.sample(noise, y))
        met, expected = (
            (nats.flatten(1).mean(1) / math.log(2)).double()
            for nats in (self.surprise(x, y), self.entropy(x, y))
        )
        gap = met - expected
        off = float(gap.mean().abs()) > 4 * float(gap.std()) / math.sqrt(OWN) + 1e-4
        verdict = (
            (f"its samples are not drawn from what it describes (temperature {self.temperature:g})")
            if off
            else ""
        )
        yield "entropy", float(expected.mean()), ""
        yield "bits/dim of own samples", float(met.mean()), verdict

    def choose_class(
        self, noise: Noise, x: Tensor | None = None, known: Tensor | None = None
    ) -> Condition | None:
        """Classes for a conditional model that is told none.

        All are as likely as each other before anything is known, and so p(y | known) ~ p(known | y): a
        product over the known pixels of x (B, C, H, W), bool (H, W), none of which depends on one that is not
        known.
        """
        if not self.conditional:
            return None
        logits = torch.zeros(len(noise), self.spec.labels, device=noise.device)
        if x is not None and known is not None and known.any():
            for c in range(self.spec.labels):
                nats = self.surprise(x, Condition(torch.full((len(x),), c, device=x.device)))
                logits[:, c] = -nats[:, :, known].flatten(1).sum(1)
        return Condition(noise.choose(classes.learnt(logits, self.spec)))


def choose(logits: Tensor, chance: Tensor) -> Tensor:
    """The level of softmax(logits) (B, levels) at which the sum of the probabilities reaches chance (B,) in
    (0, 1).

    What they add up to is nearly 1, and a chance beyond that would be given to the last level however
    unlikely it is.
    """
    upto = logits.softmax(-1).cumsum(-1)
    return (upto < chance[:, None] * upto[:, -1:]).sum(-1)


class Planes(nn.Module):
    """What a network sees of an image: its brightness, or, where levels are names and not amounts, a learned
    vector for each.

    Planes of a channel lie side by side, so that masks may tell channels apart.
    """

    def __init__(self, channels: int, levels: int, symbols: bool, width: int = 32):
        super().__init__()
        self.levels = levels
        self.table = nn.Embedding(channels * levels, width) if symbols else None
        self.channels = channels * (width if symbols else 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, channels, H, W)."""
        if self.table is None:
            return x
        first = torch.arange(x.shape[1], device=x.device) * self.levels
        result: Tensor = self.table(level(x, self.levels) + first[:, None, None])  # (B, C, H, W, width)
        return result.movedim(-1, 2).flatten(1, 2)
