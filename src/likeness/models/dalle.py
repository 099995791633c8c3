"""DALL-E: text and the codes of an image in one sequence, and a transformer predicts each from all before it.

Ramesh et al., "Zero-Shot Text-to-Image Generation", 2021, section 2.

    log p(x, text) >= log p(x|z) + log p(text, z)                                                     (eq. 1)
    p(text, z) = prod_i p(text_i | text_1 ... text_i-1)  prod_j p(z_j | text, z_1 ... z_j-1)

z are the codes of a first stage that is trained before and stays as it is: a VQ-VAE here, `likeness train
vqvae DATA`, then `likeness train dalle runs/vqvae-...`.  Small images of few levels need none: their
sub-pixels are the sequence.  Places behind the last word hold a learned vector each, as there (section 2.2),
and a text of no word is made of these alone.  The words are learned too, but count for little (--text, the
paper's 1/7 of the image's weight); what is judged is p(z | text).

Samples are drawn from p(z | text)^g p(z)^(1-g), guidance as in diffusion (Ho & Salimans, "Classifier-Free
Diffusion Guidance", 2022; for tokens Gafni et al., "Make-A-Scene", 2022, section 3.4): the text of some
examples is left out in training, and both answers come from one pass of twice the batch.  Keys and values of
all tokens before are kept, so that a code costs one token's work.

Departures: a VQ-VAE's codes for a discrete VAE's, words of the training captions for byte pairs; guidance in
place of drawing 512 images and keeping those that CLIP ranks first; full causal attention for the paper's
sparse kinds; places are learned, and turned by row and column; gated perceptrons, no biases (transformer.py).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import PAD, Batch, Condition, Loss, Refusal, Training, label_of, option
from ..parts.autoregressive import Autoregressive
from ..parts.causal import Memory
from ..parts.conditionals import Softmax, level
from ..parts.conditioning import told_and_not
from ..parts.transformer import Past, Transformer, rotation

LONGEST = 4096
"""words and codes together; attention compares each with each"""


class DALLE(Autoregressive):
    width: int = option(128, "features of a token", 4, 2048)
    depth: int = option(4, "blocks of attention and a perceptron", 1, 64)
    heads: int = option(4, "parts of the features, each of which looks elsewhere", 1, 64)
    text: float = option(0.14, "weight of the words' likelihood beside the codes'", 0.0, 10.0)
    drop_text: float = option(
        0.1,
        "probability of leaving the text out in training: for guidance, and for images of no text",
        0.0,
        0.9,
    )
    guidance: float = option(
        1.0,
        "how strictly samples follow the text: 1 is the model itself, 0 as if none were said, more agree "
        "more and vary less",
        0.0,
        100.0,
        live=True,
    )

    defaults = Training(batch=32, rate=2e-3, images=200_000, warmup=10_000, schedule="cosine", ema=20_000)

    negative: ClassVar[Tensor | None] = None
    """int64 (1, T), a text that guidance leads away from in place of none"""

    def against(self, negative: Tensor) -> DALLE:
        """The same model, guided away from that text."""
        twin = copy.copy(self)
        twin.__dict__["negative"] = negative
        return twin

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("label", "tokens") if self.conditional else ("tokens",)

    def build(self) -> None:
        self.refuse()
        spec = self.spec
        c, n, levels, words = spec.channels, spec.size, spec.levels, spec.tokens
        self.p = Softmax(c, levels)
        self.table = self.embedding(c * levels)
        self.first = self.embedding(spec.labels if self.conditional else 1)
        self.words = self.embedding(spec.vocabulary) if words else None
        self.nothing = self.embedding(words) if words else None  # at each place that no word takes
        self.places = nn.ModuleList(self.embedding(size) for size in (*([words] if words else []), n, n, c))
        self.slope = None if spec.symbols else self.embedding(c)
        self.net = Transformer(self.width, self.depth, self.heads, causal=True)
        self.head = nn.Linear(self.width, levels)
        self.speller = nn.Linear(self.width, spec.vocabulary) if words and self.text else None
        for head in filter(None, (self.head, self.speller)):
            nn.init.normal_(head.weight, std=0.02)
        where = torch.cartesian_prod(torch.arange(n), torch.arange(n), torch.arange(c))
        self.where = nn.Buffer(where, persistent=False)
        # a word stands nowhere in the image
        turned = torch.cat([torch.zeros(words, 2, dtype=torch.int64), where[:, :2]])
        self.turns = nn.Buffer(rotation(turned, self.width // self.heads), persistent=False)

    def embedding(self, things: int) -> nn.Embedding:
        made = nn.Embedding(things, self.width)
        nn.init.normal_(made.weight, std=0.2)
        return made

    def refuse(self) -> None:
        super().refuse()
        spec = self.spec
        if self.width % (2 * self.heads):
            fit = max(1, round(self.width / (2 * self.heads))) * 2 * self.heads
            raise Refusal(
                f"dalle: --width {self.width} does not give each of --heads {self.heads} an even number of "
                f"features; use --width {fit}."
            )
        if spec.dims + spec.tokens > LONGEST:
            raise Refusal(
                f"dalle: {spec.size}x{spec.size} pixels of {spec.channels} channels and {spec.tokens} words "
                f"are a sequence of {spec.dims + spec.tokens:,}, and beyond {LONGEST:,} attention is slow; "
                "learn codes first, `likeness train vqvae DATA`, and then these, `likeness train dalle "
                "runs/vqvae-...`."
            )

    # The sequence: words, a start, and all codes but the last

    def sequence(self, x: Tensor, begin: int, end: int, y: Condition | None) -> Tensor:
        """What the transformer is given at places begin ... end - 1 of the sequence, (B, end - begin,
        width): the words, and at place tokens + j what comes before code j of x (B, C, H, W)."""
        words = self.spec.tokens
        parts = [self.said(len(x), y)[:, begin:end]] if begin < words else []
        if end > words:
            parts.append(self.codes(x, max(begin - words, 0), end - words, y))
        return torch.cat(parts, 1)

    def said(self, n: int, y: Condition | None) -> Tensor:
        """The text, (B, tokens, width)."""
        assert self.words is not None and self.nothing is not None
        tokens, places = self.tokens(n, y), cast(nn.Embedding, self.places[0]).weight
        nothing = self.nothing.weight + places
        return torch.where((tokens != PAD)[..., None], self.words(tokens) + places, nothing)

    def tokens(self, n: int, y: Condition | None) -> Tensor:
        """int64 (n, tokens), nothing where no text is told; what is too long was cut by the vocabulary."""
        told = None if y is None else y.tokens
        if told is None:
            return torch.full((n, self.spec.tokens), PAD, device=self.where.device)
        return F.pad(told[:, : self.spec.tokens], (0, max(0, self.spec.tokens - told.shape[1])), value=PAD)

    def codes(self, x: Tensor, begin: int, end: int, y: Condition | None) -> Tensor:
        """What comes before codes begin ... end - 1, and which these are."""
        before = slice(max(begin - 1, 0), end - 1)
        values, channel = x.permute(0, 2, 3, 1).flatten(1)[:, before], self.where[before, 2]
        h = self.table(level(values, self.spec.levels) + channel * self.spec.levels)
        if self.slope is not None:
            h = h + values[..., None] * self.slope(channel)
        if begin == 0:
            h = torch.cat([self.first(self.beginning(x, y))[:, None], h], 1)
        for place, at in zip(self.places[-3:], self.where[begin:end].unbind(1)):
            h = h + place(at)
        return h

    def beginning(self, x: Tensor, y: Condition | None) -> Tensor:
        """Which of the first inputs each image begins with."""
        label = label_of(self.condition(y)) if self.conditional else None
        return torch.zeros(len(x), dtype=torch.int64, device=x.device) if label is None else label

    def condition(self, y: Condition | None) -> Condition | None:
        super().condition(y)  # a class must be there where one is needed
        return y

    # Likelihood

    def features(self, x: Tensor, y: Condition | None) -> Tensor:
        """(B, tokens + codes, width): what is known at each place of all up to it."""
        out: Tensor = self.net(self.sequence(x, 0, self.spec.tokens + self.spec.dims, y), self.turns)
        return out

    def predict(self, x: Tensor, y: Condition | None = None) -> Tensor:
        return self.as_image(self.features(x, y))

    def as_image(self, h: Tensor) -> Tensor:
        """The levels of every code, (B, C * levels, H, W), from features()."""
        out = self.head(h[:, self.spec.tokens :])
        return out.view(len(h), self.spec.size, self.spec.size, -1).permute(0, 3, 1, 2)

    def loss(self, batch: Batch) -> Loss:
        y = batch.y
        if y is not None and y.tokens is not None and self.drop_text:
            left_out = Condition(tokens=y.tokens).dropped(batch.noise.uniform() < self.drop_text)
            y = Condition(y.label, left_out.tokens)
        h = self.features(batch.x, y)
        result = self.cost(batch.x, self.as_image(h))
        if self.speller is None:
            return result
        spelling = self.spelling(h, self.tokens(len(h), y))
        return Loss(result.total + self.text * spelling, result.terms | {"bits a word": spelling.detach()})

    def spelling(self, h: Tensor, tokens: Tensor) -> Tensor:
        """Bits that each next word takes, the end of a text among them; a mean over all words of a text and
        all texts, so that a batch may be split."""
        assert self.speller is not None
        if tokens.shape[1] < 2:
            return h.sum() * 0
        out, next_word = self.speller(h[:, : tokens.shape[1] - 1]), tokens[:, 1:]
        nats = F.cross_entropy(out.flatten(0, 1).float(), next_word.flatten(), reduction="none")
        there = (tokens[:, :-1] != PAD).float()
        each = (nats.view(there.shape) * there).sum(1) / there.sum(1).clamp(min=1)
        return each.mean() / math.log(2)

    # Drawing

    def answer(self, x: Tensor, memory: Memory, y: Condition | None, naive: bool) -> Tensor:
        if naive:
            return self.guided(lambda x, y: memory.here(self.predict(x, y)), x, y)
        return self.pixel(x, memory, y)

    def guided(
        self, ask: Callable[[Tensor, Condition | None], Tensor], x: Tensor, y: Condition | None
    ) -> Tensor:
        """What ask(x, y) says, led away from what it says without the text: both in one pass."""
        if self.guidance == 1 or y is None or y.tokens is None:
            return ask(x, y)
        if not self.drop_text:
            raise Refusal(
                f"--guidance {self.guidance:g} leads away from what is drawn without a text, and this model "
                "has never learnt that; train it with --drop-text 0.1."
            )
        both = told_and_not(Condition(y.label, y.tokens), ("tokens",), self.negative)
        told, nothing = ask(torch.cat([x, x]), both).chunk(2)
        return torch.lerp(nothing, told, self.guidance)

    def pixel(self, x: Tensor, memory: Memory, y: Condition | None = None) -> Tensor:
        """Of the first channel, and, called again, of each next one; zeros stand for the others."""
        return self.guided(lambda x, y: self.next(x, memory, y), x, y)

    def next(self, x: Tensor, memory: Memory, y: Condition | None) -> Tensor:
        """The same without guidance, from the keys and values of all before."""
        words, c = self.spec.tokens, self.spec.channels
        past: Past = memory.kept.setdefault(self.net, Past(words + self.spec.dims))
        here = (memory.row * self.spec.size + memory.column) * c
        # of a pixel that was known only the first channel has been asked for
        place = max(past.fed - words, here)
        begin, end = past.fed, words + place + 1
        h = self.net(self.sequence(x, begin, end, y), self.turns[:, begin:end], past)
        out: Tensor = h.new_zeros(len(x), c, self.spec.levels)
        out[:, place - here] = self.head(h[:, -1])
        return out.flatten(1)[:, :, None, None]
