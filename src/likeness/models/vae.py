"""Variational autoencoder: an autoencoder whose code is a distribution that one can sample from.

Kingma & Welling, "Auto-Encoding Variational Bayes", 2014.  The encoder is q(z|x), a Gaussian with diagonal
covariance; the decoder is p(x|z); the prior p(z) is a standard Gaussian.

    log p(x) >= E_{q(z|x)} [log p(x|z)] - KL(q(z|x) || p(z))                              (3)
    z = mu + sigma * eps,  eps ~ N(0, I)                                                  (4), section 2.4
    KL = 1/2 sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2)                               (10), appendix B

The first term of (3), negated, is the distortion: nats to describe the image once z is known.  The KL is the
rate: nats to describe z.  More draws of z make the bound tighter (Burda, Grosse & Salakhutdinov, "Importance
Weighted Autoencoders", 2016):

    log p(x) >= E log 1/k sum_i w_i,   w_i = p(x|z_i) p(z_i) / q(z_i|x)                   (IWAE 8)

With --conditional both networks are told the class, q(z|x, y) and p(x|z, y), and every bound above is one on
log p(x|y): model M2 of Kingma, Rezende, Mohamed & Welling, "Semi-Supervised Learning with Deep Generative
Models", 2014, for images whose class is known.  The encoder sees the class as one more plane, learnt; the
decoder as a one-hot vector beside z.

With --grid h the code is an image, latent / h^2 numbers at each of h x h places, and a second model learns
how such codes are
distributed (runs/latent_model.py): Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion
Models", 2022, section 3.1.  The prior of (3) then need not be a good one, and a small --beta only keeps the
codes from growing and from lying in far-off places.

Departures: Adam in place of Adagrad; convolutions with residual blocks unless --net mlp; brightness has a
discretised logistic law in place of a Gaussian one (--likelihood gaussian).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..core import Batch, Bits, Condition, Loss, Model, Noise, Refusal, Training, label_of, option
from ..parts import chance, classes, mlp, resnet
from ..parts.conditioning import Labels
from ..parts.likelihoods import LIKELIHOODS, Bernoulli, Discretised

ROWS = 512
"""codes decoded at a time by bits_per_dim"""
DRAWS = 16
"""codes drawn for each image at a time: a fixed number, or an image's noise would depend on its company"""


class Gauss(NamedTuple):
    """q(z|x): a Gaussian for each image, (B, latent) each."""

    mu: Tensor
    log_var: Tensor

    def draw(self, eps: Tensor) -> Tensor:
        """(4)"""
        return self.mu + (self.log_var / 2).exp() * eps

    def kl(self) -> Tensor:
        """(10) for every dimension, (B, latent): nats to tell z to somebody who knows only p(z)."""
        return (self.mu.square() + self.log_var.exp() - 1 - self.log_var) / 2

    def log_ratio(self, eps: Tensor) -> Tensor:
        """log p(z) - log q(z|x) at z = draw(eps), (..., B) for eps (..., B, latent)."""
        return (eps.square() + self.log_var - self.draw(eps).square()).sum(-1) / 2


def iwae(log_w: Tensor) -> Tensor:
    """(IWAE 8): log of the mean of k importance weights, from their logarithms (k, B) to (B,)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def log_weights(q: Gauss, log_likelihood: Callable[[Tensor], Tensor], noise: Noise, k: int) -> Tensor:
    """log w_1 ... log w_k for each image, (k, B).  `log_likelihood` maps codes (n * B, latent), n draws for
    all images, to (n * B,)."""
    out, together = [], max(1, ROWS // len(q.mu))
    for i in range(0, k, DRAWS):
        eps = noise.normal(min(DRAWS, k - i), q.mu.shape[1]).transpose(0, 1)
        for part in eps.split(together):
            log_p = log_likelihood(q.draw(part).flatten(0, 1)).view(len(part), -1)
            out.append(log_p + q.log_ratio(part))
    return torch.cat(out)


class Units(NamedTuple):
    """What each dimension of the code is used for."""

    kl: Tensor
    """(latent,) nats, mean over the images"""
    spread: Tensor
    """(latent,) Var_x E_q[z]; a unit is active above 0.01 (Burda et al. 2016, section 5.2)"""
    active: int
    verdict: str
    """empty, or what is wrong"""


class VAE(Model):
    latent: int = option(32, "numbers in the code z", 1, 4096)
    grid: int = option(
        0, "height and width of a code that is an image, latent numbers in all; 0 is a vector", 0, 1024
    )
    net: str = option("conv", "kind of both networks", choices=("conv", "mlp"))
    width: int = option(16, "channels at 14 pixels, when net is conv", 4, 512)
    hidden: int = option(400, "units of a hidden layer, when net is mlp", 4, 8192)
    depth: int = option(2, "residual blocks a level, or hidden layers", 0, 16)
    likelihood: str = option(
        "auto",
        "p(x|z); auto is bernoulli for two levels, else logistic",
        choices=("auto", "bernoulli", "logistic", "gaussian"),
    )
    beta: float = option(1.0, "weight of the rate; 1 is the bound itself", 0.0, 1000.0)
    free_bits: float = option(0.0, "nats of each dimension's rate that cost nothing", 0.0, 10.0)
    k: int = option(1, "importance samples of bits_per_dim; 1 is the ELBO", 1, 100_000, live=True)
    draw: bool = option(False, "sample draws the pixels too, instead of showing their mean", live=True)
    conditional: bool = option(
        False, "p(x|z,y) and q(z|x,y): learn what each class looks like, from labelled images"
    )

    defaults = Training(batch=128, rate=2e-3, images=200_000, warmup=10_000, ema=200_000)

    @property
    def units(self) -> dict[str, str]:  # type: ignore[override]
        bound = {} if self.beta != 1 or self.free_bits else {"model": "nats/dim"}
        return bound | {"distortion": "nats", "rate": "nats"}

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("label",) if self.conditional else ()

    def build(self) -> None:
        self.p = self.choose_likelihood()
        self.whole_batch = self.free_bits > 0  # they are counted on the mean over a batch
        c, size, out = self.spec.channels, self.spec.size, self.p.outputs * self.spec.channels
        if self.grid:
            self.check_grid()
        c, code = (
            (c + 1, self.latent + classes.several("vae", self.spec)) if self.conditional else (c, self.latent)
        )
        if self.net == "mlp":
            self.encoder = mlp.encoder((c, size, size), 2 * self.latent, self.hidden, self.depth)
            self.decoder = mlp.decoder(code, (out, size, size), self.hidden, self.depth)
        else:
            self.encoder = resnet.encoder(c, size, 2 * self.latent, self.width, self.depth, self.grid)
            self.decoder = resnet.decoder(code, out, size, self.width, self.depth, self.grid)
        if self.conditional:
            self.planes = Labels(self.spec.labels, size * size)

    def check_grid(self) -> None:
        resnet.check_grid("vae", self.net, self.spec.size, self.latent, self.grid)
        if self.conditional:
            raise Refusal(
                "vae: the class of --conditional has no place in a code that is an image; tell it to the "
                "model that learns the codes, and leave it out here."
            )

    def choose_likelihood(self) -> Bernoulli | Discretised:
        levels = self.spec.levels
        if levels < 2 or self.spec.symbols:
            raise Refusal(
                "vae cannot be trained on latent codes; use a model that can, such as pixelcnn on those of a "
                "vqvae."
            )
        name = self.likelihood if self.likelihood != "auto" else "bernoulli" if levels == 2 else "logistic"
        if name != "bernoulli":
            return LIKELIHOODS[name](levels)
        if levels != 2:
            raise Refusal(
                "vae: --likelihood bernoulli asks for two brightness levels and these images have "
                f"{levels}, on which cross-entropy is no likelihood; type --likelihood logistic, or make "
                "the images black and white with --binarize."
            )
        return Bernoulli()

    def shown(self, x: Tensor, y: Condition | None) -> Tensor:
        """What the encoder sees: the image, and a plane of its class if the model is conditional."""
        if not self.conditional:
            return x
        return torch.cat([x, self.planes(y).view(-1, 1, *x.shape[2:]).to(x.dtype)], 1)

    def code(self, z: Tensor, y: Condition | None) -> Tensor:
        """What the decoder is told: z (n, latent), and the one-hot class if the model is conditional."""
        return (
            classes.beside(z, classes.required("vae", label_of(y)), self.spec.labels)
            if self.conditional
            else z
        )

    def posterior(self, x: Tensor) -> Gauss:
        """q(z|x) of what shown() gives."""
        mu, log_var = self.encoder(x).float().chunk(2, 1)
        return Gauss(mu, log_var)

    def loss(self, batch: Batch) -> Loss:
        q = self.posterior(self.shown(batch.x, batch.y))
        z = q.draw(batch.noise.normal(self.latent))
        distortion = -self.p.log_prob(batch.x, self.decoder(self.code(z, batch.y))).mean()
        kl = q.kl().mean(0)
        total = (distortion + self.beta * kl.clamp(min=self.free_bits).sum()) / self.spec.dims
        return Loss(total, {"distortion": distortion, "rate": kl.sum()})

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: of one that says the same of every image, and has nothing to tell in z."""
        free = self.beta * self.free_bits * self.latent
        return {"model": (chance.described(self.p, batch.x) + free) / self.spec.dims}

    @torch.no_grad()
    def bits_per_dim(self, batch: Batch) -> Bits:
        """(3) for k = 1, (IWAE 8) for more; exactly k codes are decoded for each image.  Conditional: of
        p(x|y), y that of the batch."""
        nats = torch.cat([self.bound(part) for part in batch.split(ROWS)])
        return Bits(-nats / (self.spec.dims * math.log(2)), "upper bound")

    def bound(self, batch: Batch) -> Tensor:
        """A lower bound on log p(x), or log p(x|y), in nats, (B,)."""
        q = self.posterior(self.shown(batch.x, batch.y))
        log_p = partial(self.log_likelihood, batch.x, y=batch.y)
        if self.k == 1:
            return log_p(q.draw(batch.noise.normal(self.latent))) - q.kl().sum(1)
        return iwae(log_weights(q, log_p, batch.noise, self.k))

    def log_likelihood(self, x: Tensor, z: Tensor, y: Condition | None = None) -> Tensor:
        """log p(x|z), (n * B,), of codes (n * B, latent) that belong to images (B, C, H, W) of classes y
        (B,)."""
        n = len(z) // len(x)
        return self.p.log_prob(
            x.repeat(n, 1, 1, 1), self.decoder(self.code(z, None if y is None else y.repeat(n)))
        )

    def encode(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """Mean of q(z|x), (B, latent): with a grid the channels of an image, one after another.

        Conditional: (B, latent + labels), z and then the one-hot class, the likeliest where y is not said.
        """
        if self.conditional and y is None:
            y = Condition(self.likeliest(x))
        return self.code(self.posterior(self.shown(x, y)).mu, y)

    @torch.no_grad()
    def likeliest(self, x: Tensor) -> Tensor:
        """The class (B,) under which the image is likeliest by the bound at the mean of q, which needs no
        noise; all classes equally likely beforehand."""
        result = []
        for c in range(self.spec.labels):
            y = Condition(torch.full((len(x),), c, device=x.device))
            q = self.posterior(self.shown(x, y))
            result.append(self.log_likelihood(x, q.mu, y) - q.kl().sum(1))
        return classes.learnt(torch.stack(result, 1), self.spec).argmax(1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean image of codes as encode() makes them; of the numbers of the class the largest counts, so
        that any code can be decoded."""
        classes.measured("vae", z, self.latent, self.spec.labels if self.conditional else 0)
        if not self.conditional:
            return self.p.mean(self.decoder(z))
        return self.p.mean(
            self.decoder(self.code(z[:, : self.latent], Condition(z[:, self.latent :].argmax(1))))
        )

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """Of classes y (B,); a conditional model draws the class as well where none is said."""
        if self.conditional and y is None:
            y = Condition(classes.drawn(noise, self.spec))
        out = self.decoder(self.code(noise.normal(self.latent), y))
        yield self.p.draw(out, noise) if self.draw else self.p.mean(out)

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards: how the bound divides, and what the code is used for."""
        units = self.active_units(batch.x, batch.y)
        yield "rate in nats", float(units.kl.sum()), ""
        yield "active units", float(units.active), units.verdict

    @torch.no_grad()
    def active_units(self, x: Tensor, y: Condition | None = None) -> Units:
        """Which dimensions of the code say anything about the images x, and whether that looks like a
        collapse."""
        q = self.posterior(self.shown(x, y))
        if len(x) < 2:
            return Units(
                q.kl().mean(0), torch.zeros_like(q.mu[0]), 0, "one image has no spread of codes: take two"
            )
        spread = q.mu.var(0)
        active = int((spread > 0.01).sum())
        verdict = ""
        if active < min(5, self.latent):
            used = f"only {active} of {self.latent} dimensions of the code are used"
            remedy = "--beta 1" if self.beta > 1 else f"--free-bits {max(0.1, 2 * self.free_bits):g}"
            verdict = f"{used}: the posterior has collapsed to the prior; type {remedy}."
        # a code for a second model is meant to be full
        elif self.latent >= 50 and active == self.latent and not self.grid:
            verdict = (
                f"all {self.latent} dimensions of the code are used: it has too few of them, or --beta is "
                "too low to make any superfluous."
            )
        return Units(q.kl().mean(0), spread, active, verdict)
