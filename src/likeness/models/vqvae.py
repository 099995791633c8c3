"""VQ-VAE: an autoencoder whose code is a small image of symbols out of a codebook.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017.  The encoder gives a
vector z_e at each place of a grid h x h, and each is replaced by the nearest of K codes e:

    z_q = e_k,  k = argmin_j || z_e - e_j ||                                                          (1), (2)
    L = -log p(x|z_q) + beta || z_e - sg[e] ||^2                                                      (3)

argmin has no gradient, so that of z_q is handed to z_e as it is ("straight through"): z_q = z_e + sg[e -
z_e].  sg stops a gradient.  The middle term of (3), which draws the codes to the vectors, is not needed: here
each code is the running mean of its vectors (appendix A.1; parts.codebook), and one that is of no use is put
elsewhere.  As in the authors' code both terms are
means: of nats over the numbers of the image, and of squares over the numbers of z_e.

What is learnt is a compressor.  How its codes are distributed is not: a second model learns that, from what
compress() says, and

    -log p(x) <= -log p(x|z) - log p(z)

since p(x) is a sum over all z, of which one is kept.  Without p(z) there is nothing to draw from and no
bound, so this model neither samples nor says bits per dimension.

Departures: codes follow by running means, which is the paper's appendix and not its text, --decay a step as
there, whatever the batch: unlike --ema, which counts images, it remembers fewer of them with a smaller batch.
Codes of no use are put elsewhere, and at first split until there are K; both are not in the paper. A
discretised logistic in place of squared error (--likelihood squared); strided convolutions of 64 features
for 256; 128 codes for 512.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..core import Batch, Loss, Model, Refusal, Spec, Training, option
from ..parts import chance
from ..parts.codebook import Codebook, perplexity
from ..parts.conditionals import level, value
from ..parts.likelihoods import LIKELIHOODS, Bernoulli, Discretised
from ..parts.resnet import Block

FEWEST = 4
"""pixels a side below which an image is not halved: a smaller grid of symbols says too little"""


class VQVAE(Model):
    width: int = option(64, "channels at the size of the code, half as many at each size above", 4, 1024)
    depth: int = option(2, "residual blocks of each network", 0, 16)
    codes: int = option(128, "codes in the codebook, K", 2, 8192)
    code_width: int = option(32, "numbers in a code, D", 1, 1024)
    halvings: int = option(2, "how often the image is halved, as long as 4 pixels a side are left", 0, 8)
    beta: float = option(0.25, "weight of the commitment", 0.0, 100.0)
    decay: float = option(0.99, "of the codebook's running means, a step", 0.0, 0.99999)
    likelihood: str = option(
        "auto",
        "p(x|z); auto is bernoulli for two levels, else logistic; squared, of one width for all pixels, for "
        "small things on plain grounds",
        choices=("auto", "bernoulli", "logistic", "gaussian", "squared"),
    )

    defaults = Training(batch=128, rate=2e-3, images=200_000, warmup=10_000, ema=10_000)
    units = {"distortion": "nats"}

    def build(self) -> None:
        spec = self.spec
        self.p = self.choose_likelihood()
        sizes = ladder(spec.size, self.halvings)
        self.encoder = encoder(spec.channels, sizes, self.code_width, self.width, self.depth)
        self.book = Codebook(self.codes, self.code_width, self.decay)
        self.decoder = decoder(self.code_width, self.p.outputs * spec.channels, sizes, self.width, self.depth)

    @property
    def code(self) -> Spec:
        """What its codes are to a second model."""
        return Spec(
            1,
            ladder(self.spec.size, self.halvings)[-1],
            self.spec.labels,
            levels=self.codes,
            symbols=True,
            absent=self.spec.absent,
        )

    @property
    def latent(self) -> int:
        """Numbers of z_q."""
        return self.code_width * self.code.size**2

    def choose_likelihood(self) -> Bernoulli | Discretised:
        levels = self.spec.levels
        if levels < 2 or self.spec.symbols:
            raise Refusal(
                "vqvae: it compresses images, and these are codes already; train a model of codes on them, "
                "such as pixelcnn."
            )
        name = self.likelihood if self.likelihood != "auto" else "bernoulli" if levels == 2 else "logistic"
        if name != "bernoulli":
            return LIKELIHOODS[name](levels)
        if levels != 2:
            raise Refusal(
                "vqvae: --likelihood bernoulli asks for two brightness levels and these images have "
                f"{levels}, on which cross-entropy is no likelihood; type --likelihood logistic, or make "
                "the images black and white with --binarize."
            )
        return Bernoulli()

    def quantise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z_e (B, h, h, D) and the number of the nearest code, (B, h, h)."""
        z: Tensor = self.encoder(x).to(self.book.codes.dtype).movedim(1, -1)
        return z, self.book.nearest(z)

    def picture(self, z: Tensor) -> Tensor:
        """What the decoder says of vectors (B, h, h, D)."""
        out: Tensor = self.decoder(z.movedim(-1, 1))
        return out

    def loss(self, batch: Batch) -> Loss:
        z, k = self.quantise(batch.x)
        if self.training:
            self.book.note(z, k)
        e = self.book.vectors(k)
        distortion = -self.p.log_prob(batch.x, self.picture(z + (e - z).detach())).mean()
        commitment = (z - e).square().mean()
        total = distortion / self.spec.dims + self.beta * commitment
        return Loss(
            total, {"distortion": distortion, "commitment": commitment, "perplexity": self.book.perplexity()}
        )

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: of one that says the same of every image."""
        return {"distortion": chance.described(self.p, batch.x)}

    def tallies(self) -> tuple[Tensor, ...]:
        return (self.book.tally,)

    def after_step(self) -> None:
        self.book.step()

    # Vectors

    def encode(self, x: Tensor) -> Tensor:
        """z_q, (B, latent): D numbers for each place of the grid."""
        return self.book.vectors(self.quantise(x)[1]).movedim(-1, 1).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean image of vectors as encode() makes them, each moved to its nearest code."""
        grid = z.view(-1, self.code_width, self.code.size, self.code.size).movedim(1, -1)
        return self.p.mean(self.picture(self.book.vectors(self.book.nearest(grid))))

    # Symbols, for a second model

    @torch.no_grad()
    def compress(self, x: Tensor) -> Tensor:
        """z, (B, 1, h, h): which code stands where, as values in [-1, 1] on the grid of `code`."""
        return value(self.quantise(x)[1][:, None], self.codes)

    @torch.no_grad()
    def expand(self, z: Tensor) -> Tensor:
        """The mean image of what compress() makes, (B, C, H, W)."""
        return self.p.mean(self.likelihood_of(z))

    @torch.no_grad()
    def distortion(self, x: Tensor, z: Tensor) -> Tensor:
        """-log p(x|z) in nats, (B,), of what compress() makes."""
        return -self.p.log_prob(x, self.likelihood_of(z))

    def likelihood_of(self, z: Tensor) -> Tensor:
        return self.picture(self.book.vectors(level(z, self.codes).clamp(0, self.codes - 1)[:, 0]))

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards: how much of the codebook the images make use of."""
        k = torch.cat([self.quantise(part.x)[1].flatten() for part in batch.split(512)])
        counts = k.bincount(minlength=self.codes)
        used = int((counts > 0).sum())
        verdict = ""
        if len(k) >= 8 * self.codes and used < self.codes / 2:
            large = f"it is too large; train longer, or type --codes {max(2, 2 ** (used - 1).bit_length())}"
            few = f"it has collapsed; type --rate {self.defaults.rate:g} or less, or train longer"
            verdict = (
                f"only {used} of {self.codes} codes of the codebook are used: "
                f"{few if used < self.codes / 8 else large}."
            )
        yield "codes used", float(used), verdict
        yield "code perplexity", float(perplexity(counts.double())), ""


def ladder(size: int, halvings: int) -> list[int]:
    """The widths in pixels that an image of `size` passes through: 28, 14, 7 or 25, 13, 7."""
    sizes = [size]
    while len(sizes) <= halvings and (sizes[-1] + 1) // 2 >= FEWEST:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def channels(sizes: list[int], width: int) -> list[int]:
    """At each size: `width` at the last, half as many at each before it."""
    return [max(4, width >> above) for above in range(len(sizes) - 1, -1, -1)]


def encoder(inside: int, sizes: list[int], out: int, width: int, depth: int) -> nn.Sequential:
    """(B, inside, size, size) to (B, out, h, h)."""
    layers: list[nn.Module] = []
    for (large, _), c in zip(pairwise(sizes), channels(sizes, width)[1:]):
        layers += [nn.Conv2d(inside, c, 4 - large % 2, stride=2, padding=1), nn.ReLU()]
        inside = c
    blocks = [Block(width) for _ in range(depth)]
    return nn.Sequential(
        *layers, nn.Conv2d(inside, width, 3, padding=1), *blocks, nn.ReLU(), nn.Conv2d(width, out, 1)
    )


def decoder(inside: int, out: int, sizes: list[int], width: int, depth: int) -> nn.Sequential:
    """(B, inside, h, h) to (B, out, size, size), without a bound on the values."""
    layers: list[nn.Module] = [nn.Conv2d(inside, width, 3, padding=1), *(Block(width) for _ in range(depth))]
    if len(sizes) == 1:
        return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, out, 3, padding=1))
    steps = [*channels(sizes, width)[::-1][:-1], out]
    for (a, b), (_, large) in zip(pairwise(steps), pairwise(sizes[::-1])):
        layers += [nn.ReLU(), nn.ConvTranspose2d(a, b, 4 - large % 2, stride=2, padding=1)]
    return nn.Sequential(*layers)
