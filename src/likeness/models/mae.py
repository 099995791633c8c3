"""MAE: an image of which three quarters are hidden is completed from the rest.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.  An image is cut into patches, of
which a random share is hidden.  The encoder, a vision transformer, sees the others and nothing else; a
decoder, smaller, is given what it says and, in each hidden place, one and the same mask token, all with their
positions, and predicts pixels:

    loss = mean over hidden patches of  || p - decoder(encoder(visible)) ||^2 / pixels of a patch

where p is the patch less its mean, over its standard deviation (section 3, "reconstruction target").  Visible
patches are no part of the loss.  Whoever predicts each patch's own mean has "chance" in the log: (n - 1)/n of
patches of n numbers, less what those without any variance save.

encode() sees the whole image, and answers the mean over its patches (appendix A.1, "global average pooling").
Such features hold what an image is made of, and are turned into a class by fine-tuning; nearest neighbours
see little of it, and a linear probe some.

It draws nothing: what it predicts is a mean, of patches whose brightness and contrast it was not asked for.

Departures: small networks and few patches; the weight decay (0.05) is on biases and norms as well; the
authors leave these out, which here would change the bits of runs that are resumed. No token that belongs to
no patch, and no mirrored or cropped images; perceptrons are gated and attention has no biases
(transformer.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from ..core import Batch, Loss, Model, Noise, Player, Training, option
from ..parts import collapse, vit
from ..parts.transformer import Transformer

EPS = 1e-6
"""added to the variance of a patch, in [-1, 1]"""


class MAE(Model):
    width: int = option(96, "features of a patch, whose mean encode() answers", 4, 2048)
    depth: int = option(4, "blocks of the encoder", 1, 64)
    heads: int = option(4, "parts of the features, each of which looks elsewhere", 1, 64)
    decoder_width: int = option(48, "features of a patch in the decoder", 4, 2048)
    decoder_depth: int = option(2, "blocks of the decoder", 1, 64)
    patch: int = option(0, "pixels a side of a patch; 0 makes 4 to 16 rows of them", 0, 256)
    masked: float = option(0.75, "share of the patches that is hidden", 0.05, 0.95)

    defaults = Training(batch=64, rate=1e-3, images=400_000, warmup=20_000, schedule="cosine", ema=20_000)

    def build(self) -> None:
        for width in (self.width, self.decoder_width):
            vit.check("mae", width, self.heads)
        self.p = vit.patch_size(self.spec.size, self.patch)
        pixels, rows = self.spec.channels * self.p**2, -(-self.spec.size // self.p)
        self.shown = min(rows**2 - 1, max(1, round((1 - self.masked) * rows**2)))
        """patches that the encoder sees while it trains"""
        self.embed, self.encoder = (
            nn.Linear(pixels, self.width),
            Transformer(self.width, self.depth, self.heads, causal=False),
        )
        self.between = nn.Linear(self.width, self.decoder_width)
        self.token = nn.Parameter(0.02 * torch.randn(self.decoder_width))
        self.decoder = Transformer(self.decoder_width, self.decoder_depth, self.heads, causal=False)
        self.last = nn.Linear(self.decoder_width, pixels)
        self.where = nn.Buffer(vit.positions(rows, self.width, rows), persistent=False)
        self.health = collapse.Health()
        self.decoder_where = nn.Buffer(vit.positions(rows, self.decoder_width, rows), persistent=False)

    def players(self) -> tuple[Player, ...]:
        return (
            Player("model", self, self.loss, optimizer=partial(AdamW, betas=(0.9, 0.95), weight_decay=0.05)),
        )

    def loss(self, batch: Batch) -> Loss:
        p = vit.patches(batch.x, self.p)
        visible, hidden = self.hide(batch.noise)
        h = self.encode_patches(take(p, visible), visible)
        predicted, wanted = self.decode_patches(h, visible), normalised(take(p, hidden))
        health = self.health(h.float().mean(1), batch.step, "feature ")
        return Loss(
            (take(predicted, hidden).float() - wanted).square().mean(),
            {"chance": wanted.square().mean(), **health},
        )

    def hide(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """Numbers of the patches that are seen, (B, V), and of those that are not, (B, T - V): each image's
        own choice."""
        order = noise.uniform(len(self.where)).argsort(dim=1, stable=True)
        return order[:, : self.shown], order[:, self.shown :]

    def encode_patches(self, p: Tensor, places: Tensor) -> Tensor:
        """Features (B, V, width) of patches (B, V, pixels), which lie at `places` (B, V)."""
        h: Tensor = self.encoder(self.embed(p) + self.where[places])
        return h

    def decode_patches(self, h: Tensor, visible: Tensor) -> Tensor:
        """Pixels of all patches, (B, T, pixels), from the features of the visible ones."""
        h = self.between(h)
        full = self.token.to(h).expand(len(h), len(self.where), -1).scatter(1, spread(visible, h), h)
        out: Tensor = self.last(self.decoder(full + self.decoder_where))
        return out

    def encode(self, x: Tensor) -> Tensor:
        """The mean of the features of all patches, (B, width), of (B, C, H, W)."""
        p = vit.patches(x, self.p)
        return (
            self.encode_patches(p, torch.arange(p.shape[1], device=x.device).expand(p.shape[0], -1))
            .float()
            .mean(1)
        )

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards: the error in hidden patches, as a share of what a patch's own mean leaves; and
        what the features are like."""
        errors = [(len(part), *self.loss(part)) for part in batch.split(128)]
        left = float(
            sum(n * total for n, total, _ in errors) / sum(n * terms["chance"] for n, _, terms in errors)
        )
        nothing = "no better than a patch of one colour: it has learnt nothing yet; train longer"
        yield "hidden variance left", left, nothing if left >= 0.99 else ""
        yield from collapse.verdicts(collapse.encoded(self, batch, 128))


def spread(places: Tensor, like: Tensor) -> Tensor:
    """(B, V) to (B, V, as many as `like` has)."""
    return places[..., None].expand(-1, -1, like.shape[-1])


def take(p: Tensor, places: Tensor) -> Tensor:
    """(B, V, n) of (B, T, n)."""
    return p.gather(1, spread(places, p))


def normalised(p: Tensor) -> Tensor:
    """Each patch (..., n) with mean 0 and standard deviation 1."""
    return (p - p.mean(-1, keepdim=True)) * (p.var(-1, keepdim=True) + EPS).rsqrt()
