"""From an image to another, learnt from pairs: a U-Net, and a discriminator of patches.

Isola, Zhu, Zhou & Efros, "Image-to-Image Translation with Conditional Adversarial Networks", 2017.

    L_cGAN(G, D) = E_{x,y}[log D(x, y)] + E_{x,z}[log(1 - D(x, G(x, z)))]                 (1)
    L_GAN(G, D)  = E_y[log D(y)] + E_{x,z}[log(1 - D(G(x, z)))]                           (2)
    L_L1(G)      = E_{x,y,z}[|y - G(x, z)|]                                               (3)
    G* = arg min_G max_D L_cGAN(G, D) + lambda L_L1(G)                                    (4)

The source x of the paper is the image of the Condition here, and y is what the data are of.  G maximises
log D(x, G(x, z)) instead, and what D minimises is halved (section 3.3).

The options are the parts of table 1: --adversarial cgan, gan or none, and --l1 0 for no L1.

Departures: instance normalisation, which is what theirs is at a batch of one, so that a larger batch may be
split.  The noise z is dropout, as there, but is left out unless --dropout says otherwise: section 4 found
that G ignores it.  The U-Net halves an image until 4 pixels are left, not 1, and D judges patches of 16
pixels in images below 64, of 34 below 128, then 70 as there: so that both fit small images and G takes any
size.  Layers have half of their channels.  G moves before D, which learns from what was drawn before that
move.  No random crop of an enlarged image; --mirror flips both.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.optim import Adam

from ..core import Batch, Condition, Loss, Model, Noise, Player, Refusal, Training, option
from ..parts import translators
from ..parts.adversarial import GAMES, pair_accuracy, pull, undecided


class Pix2Pix(Model):
    l1: float = option(100.0, "lambda, weight of the error of pixels; 0 is none", 0.0, 1e6)
    adversarial: str = option(
        "cgan",
        "what D judges: target and source together (cgan), the target alone (gan); none is no D",
        choices=("cgan", "gan", "none"),
    )
    game: str = option(
        "nonsaturating", "GAN loss", choices=("nonsaturating", "least-squares", "hinge", "relativistic")
    )
    width: int = option(32, "channels of the first layers", 4, 256)
    depth: int = option(0, "halvings of the U-Net; 0 is down to 4 pixels", 0, 10)
    layers: int = option(0, "of D, 1 to 5: patches of 16, 34, 70, 142, 286 pixels; 0 is by the size", 0, 5)
    norm: str = option(
        "instance", "normalisation; batch as in the paper", choices=("instance", "batch", "none")
    )
    dropout: float = option(0.0, "share of values dropped in the first layers of the way back", 0.0, 0.9)

    defaults = Training(batch=8, rate=5e-4, images=60_000, warmup=0, ema=2_000, clip=0.0, schedule="cosine")
    takes = ("image",)
    needs = "pairs"
    scale = 1

    def build(self) -> None:
        self.check()
        inside, outside, size = self.spec.source[0], self.spec.channels, self.spec.size
        norm = translators.NORMS[self.norm]
        self.G = translators.UNet(
            inside, outside, self.width, self.depth or depth_for(size), norm, self.dropout
        )
        if self.adversarial != "none":
            seen = outside + inside * (self.adversarial == "cgan")
            self.D = translators.patches(seen, self.width, self.layers or translators.fitting(size), norm)
        self.stride, self.halo = self.G.stride, self.G.halo
        self.drawn = translators.Kept()

    def check(self) -> None:
        """Refuse options that do not go together, each with the reason."""
        spec, size = self.spec, self.spec.size
        depth = self.depth or depth_for(size)
        layers = self.layers or translators.fitting(size)
        for wrong, why in (
            (
                not spec.source[0],
                "it makes an image of another and needs pairs to learn from; name a folder of pairs, the "
                "built-in set outlines, or any folder with --task colourise.",
            ),
            (
                spec.source[0] and spec.source[1] != size,
                f"it makes images as large as their sources, and these are of {size} pixels, their sources "
                f"of {spec.source[1]}; superres enlarges.",
            ),
            (
                self.adversarial == "none" and not self.l1,
                "--adversarial none and --l1 0 leave nothing to learn; leave one of them out.",
            ),
            (
                spec.symbols,
                "it draws brightness, and these are the names of codes.",
            ),
            (
                size % (1 << depth) or size >> depth < 2,
                f"a U-Net of {depth} halving{'s'[: depth != 1]} takes images of a multiple of {1 << depth} "
                f"pixels, {2 << depth} at least, and these have {size}; read them with --size "
                f"{max(2, round(size / (1 << depth))) << depth}.",
            ),
            (
                (size >> layers) < 3,
                f"--layers {layers} judges patches of images of {3 << layers} pixels and more, and these "
                f"have {size}; take fewer layers or a larger --size.",
            ),
        ):
            if wrong:
                raise Refusal(f"pix2pix: {why}")

    # The game

    def players(self) -> tuple[Player, ...]:
        beta = partial(Adam, betas=(0.5, 0.999))
        G = Player("generator", self.G, self.generator_loss, optimizer=beta)
        if self.adversarial == "none":
            return (G,)
        return (G, Player("discriminator", self.D, self.discriminator_loss, optimizer=beta))

    def generator_loss(self, batch: Batch) -> Loss:
        source = translators.source_of("pix2pix", batch.y)
        fake = self.made(source, batch.noise)
        error = (batch.x - fake).abs().mean()  # (3)
        loss, terms = self.l1 * error, {"L1": error}
        if self.adversarial != "none":
            game, f = GAMES[self.game], self.judge(source, fake)
            r = self.judge(source, batch.x) if game.paired else torch.zeros_like(f)
            fools = game.generator(r, f).mean()
            loss, terms = loss + fools, terms | {"fools": fools, "pull": pull(game, r, f)}
            if self.training:
                self.drawn.put(batch, source, fake)
        return Loss(loss, terms)

    def discriminator_loss(self, batch: Batch) -> Loss:
        source = translators.source_of("pix2pix", batch.y)
        with torch.no_grad():
            kept = self.drawn.take(batch) if self.training else None
            of, fake = kept or (source, self.made(source, batch.noise))
        r, f = self.judge(torch.cat([source, of]), torch.cat([batch.x, fake])).chunk(2)
        loss = GAMES[self.game].discriminator(r, f).mean()
        terms = {"on real": r.mean(), "on fake": f.mean(), "told apart": pair_accuracy(r, f)}
        terms["chance"] = r.new_tensor(undecided(self.game) / 2, dtype=torch.float32)
        return Loss(loss / 2, terms)

    def made(self, source: Tensor, noise: Noise | None = None) -> Tensor:
        """G(x, z)."""
        x: Tensor = self.G(source, noise).float()
        return x.tanh() if self.spec.levels else x

    def judge(self, source: Tensor, x: Tensor) -> Tensor:
        """The logit of each patch, (B, patches)."""
        seen = torch.cat([source, x], 1) if self.adversarial == "cgan" else x
        logits: Tensor = self.D(seen).flatten(1).float()
        return logits

    def after_step(self) -> None:
        self.drawn.kept.clear()

    # Answers

    @torch.no_grad()
    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        """(B, C, H, W) in [-1, 1] of any multiple of `stride` to (B, C', H, W)."""
        if back:
            raise Refusal(
                "pix2pix translates one way; train another with --swap for the way back, or cyclegan for "
                "both."
            )
        translators.check("pix2pix", x, self.spec.source[0], self.stride)
        return self.made(x)

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """Translations of the images of y; each drops what its noise has it drop."""
        yield self.made(translators.source_of("pix2pix", y), noise)


def depth_for(size: int) -> int:
    """Halvings down to 4 pixels, or to what is no longer even."""
    depth = 0
    while size % 2 == 0 and size > 4:
        size, depth = size // 2, depth + 1
    return max(1, depth)
