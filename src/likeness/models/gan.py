"""Generative adversarial network: a generator and a discriminator, each learning from the other; and what
keeps it from failing.

Goodfellow et al., "Generative Adversarial Nets", 2014.

    min_G max_D  E_x[log sigmoid D(x)] + E_z[log(1 - sigmoid D(G(z)))]                    (1)

D(x) is a logit here.  While D wins easily the gradient of (1) vanishes, so that G is rather taught to
maximise log sigmoid D(G(z)) (section 3).  That and the games of later papers are those of --game
(parts/adversarial.py).

The networks are fully connected ones, as in the paper (figure 2 a, b and c) but with rectifiers in D instead
of maxout and dropout; or the convolutions of Radford, Metz & Chintala, "Unsupervised Representation Learning
with Deep Convolutional Generative Adversarial Networks", 2016, which took the place of those of figure 2 d.
What later papers add is an option each, and they go together where the mathematics lets them:

    --r1 --r2               gamma/2 |grad D|^2 at real, at drawn images     Mescheder, Geiger & Nowozin 2018, eq. 9 and 10
    --lazy                  penalties only at every so manieth step         Karras et al. 2020, section 3.1 and appendix B
    --gradient-penalty      lambda (|grad D| - 1)^2 in between              Gulrajani et al. 2017, eq. 3
    --one-sided             only what is above 1                            Petzka, Fischer & Lukovnikov 2018
    --weight-clip           weights of D stay within c                      Arjovsky, Chintala & Bottou 2017, algorithm 1
    --spectral              each layer of D divided by its largest singular value   Miyato et al. 2018, eq. 8
    --noise                 on all that D sees, fading                      Sønderby et al. 2017; Arjovsky & Bottou 2017
    --smooth                real images are real with 1 - s                 Salimans et al. 2016, section 3.4
    --d-rate, --k           D learns faster, or more often                  Heusel et al. 2017; Goodfellow et al. 2014, algorithm 1
    --spread                D sees how alike a batch is                     Karras et al. 2018, section 3
    --pack                  D judges m images at once                       Lin et al. 2018, section 2
    --unroll                G looks ahead of D's next steps                 Metz et al. 2017, section 2.2
    --augment               D sees only changed images                      Zhao et al. 2020
    --conditional           projection of the class in D                    Miyato & Koyama 2018, eq. 3
    --encoder               E(x), with G(E(x)) near x                       Zhu et al. 2016

Departures: Adam with beta1 0.5 and beta2 0.99 in every game (SGD with momentum in 2014; 0.999 in DCGAN;
RMSProp for --game wasserstein, Adam (0, 0.9) for the penalty of 2017), one step of D to one of G unless --k
(5 in both of these); z is N(0, I), uniform in DCGAN, and 64 numbers for 100; samples are those of a running
average of G. Fully connected layers begin as PyTorch has them. --lazy leaves Adam's memories as they are,
which StyleGAN2 shortens. --unroll looks along plain gradient steps of a fixed length, not Adam's. --encoder
learns from pixels alone, without the features of a classifier. --augment moves black in, where theirs is
grey.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from ..core import Batch, Condition, Loss, Model, Noise, Player, Refusal, Training, eagerly, label_of, option
from ..parts import classes, mlp
from ..parts.adversarial import (
    GAMES,
    Chain,
    Judge,
    Spread,
    between,
    chain,
    iterate,
    lipschitz,
    packed,
    pair_accuracy,
    pull,
    slopes,
    smoothed,
    spectral,
    undecided,
    weighed,
)
from ..parts.augment import POLICIES, augmented
from ..parts.conditioning import Labels
from ..parts.resnet import Image, halve, ladder

STRIDE = 0.01
"""how long a gradient step is that --unroll looks ahead, as a share of the length of all weights of D: about
as long as one of Adam's at the default rate.  Adam's own would have to be looked through with all it
remembers, and a fixed rate suits one network only"""


class Discriminator(nn.Module):
    """D(x) = w h(x) + b, and with classes + e_y h(x) (Miyato & Koyama 2018, eq. 3)."""

    def __init__(self, trunk: nn.Module, features: int, spread: bool, labels: int):
        super().__init__()
        self.trunk = nn.Sequential(trunk, Spread()) if spread else trunk
        self.last = nn.Linear(features + spread, 1)
        self.classes = Labels(labels, features + spread) if labels else None
        if self.classes:
            nn.init.normal_(self.classes.weight, std=(features + spread) ** -0.5)

    def forward(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """(B, C, H, W) to (B,)."""
        h = self.trunk(x)
        logit: Tensor = self.last(h)[:, 0]
        return (logit if self.classes is None else logit + (self.classes(y) * h).sum(1)).float()


def dcgan_generator(latent: int, channels: int, size: int, width: int, norm: bool) -> nn.Sequential:
    """(B, latent) to (B, channels, size, size) before the tanh; `width` channels in the largest layer but the
    last (Radford et al. 2016, figure 1)."""
    sizes = ladder(size)[::-1]
    c = width << (len(sizes) - 2)
    layers: list[nn.Module] = [nn.Linear(latent, c * sizes[0] ** 2, bias=not norm), Image(c, sizes[0])]
    for large in sizes[1:]:
        after = channels if large == size else c // 2
        layers += [
            *([nn.BatchNorm2d(c)] if norm else []),
            nn.ReLU(),
            halve(large, c, after, nn.ConvTranspose2d, bias=not norm or large == size),
        ]
        c = after
    return nn.Sequential(*layers)


def dcgan_trunk(channels: int, size: int, width: int, norm: bool) -> tuple[nn.Sequential, int]:
    """(B, channels, size, size) to features, and how many they are."""
    layers: list[nn.Module] = []
    sizes, c = ladder(size), width
    for large in sizes[:-1]:
        first = large == size
        layers += [
            halve(large, channels, c, nn.Conv2d, bias=first or not norm),
            *([nn.BatchNorm2d(c)] if norm and not first else []),
            nn.LeakyReLU(0.2),
        ]
        channels, c = c, 2 * c
    return nn.Sequential(*layers, nn.Flatten()), channels * sizes[-1] ** 2


class GAN(Model):
    latent: int = option(64, "numbers in z", 1, 4096)
    net: str = option(
        "auto",
        "kind of both networks; auto is dcgan for images of 8 pixels and more",
        choices=("auto", "mlp", "dcgan"),
    )
    width: int = option(32, "channels of the largest layer, when net is dcgan", 4, 512)
    hidden: int = option(256, "units of a hidden layer, when net is mlp", 4, 8192)
    depth: int = option(3, "hidden layers, when net is mlp", 1, 16)
    octaves: int = option(
        0, "frequencies of a positional encoding of the coordinates, of points: 3 is usual", 0, 12
    )
    norm: str = option(
        "auto",
        "batch normalisation, when net is dcgan; auto leaves it out of D beside a penalty, --spectral or "
        "--game wasserstein",
        choices=("auto", "batch", "none"),
    )
    game: str = option("nonsaturating", "GAN loss", choices=tuple(GAMES))
    r1: float = option(0.0, "gamma, weight of D's squared slope at real images", 0.0, 1e4)
    r2: float = option(0.0, "gamma, weight of D's squared slope at drawn images", 0.0, 1e4)
    lazy: int = option(1, "penalties at every so manieth step of D, as much stronger", 1, 64)
    gradient_penalty: float = option(
        0.0,
        "lambda, weight of how far D's slope between real and drawn images is from 1; 10 is usual",
        0.0,
        1e4,
    )
    one_sided: bool = option(False, "the gradient penalty is on slopes above 1 only")
    weight_clip: float = option(
        0.0, "largest weight of D, as in the first Wasserstein GAN: 0.01 there; 0 is no limit", 0.0, 10.0
    )
    spectral: bool = option(False, "divide each layer of D by its largest singular value")
    noise: float = option(0.0, "standard deviation of noise on all that D sees", 0.0, 2.0)
    noise_images: int = option(0, "images over which that fades to nothing; 0 is never", 0, 10**12)
    smooth: float = option(
        0.0,
        "one-sided label smoothing: real images are to be called real with a probability of 1 minus this",
        0.0,
        0.5,
    )
    d_rate: float = option(1.0, "how many times faster D learns than G (two time-scales)", 0.01, 100.0)
    k: int = option(1, "steps of D to one of G", 1, 100)
    beta1: float = option(0.5, "Adam's memory of the gradient", 0.0, 0.99)
    beta2: float = option(0.99, "Adam's memory of its square", 0.0, 0.9999)
    spread: bool = option(
        False, "tell D how much the images of a batch differ (minibatch standard deviation)"
    )
    pack: int = option(1, "images that D judges at once (PacGAN)", 1, 16)
    unroll: int = option(0, "steps of D that G looks ahead (unrolled GAN)", 0, 20)
    augment: str = option(
        "none", "how images are changed before D sees them, for small folders", choices=tuple(POLICIES)
    )
    conditional: bool = option(False, "draw images of a class, learnt from labelled ones")
    encoder: bool = option(
        False, "train a third network, from an image to its z, as a first guess for projection"
    )

    defaults = Training(batch=64, rate=2e-4, images=400_000, warmup=0, ema=10_000, clip=0.0)

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("label",) if self.conditional else ()

    def build(self) -> None:
        self.check()
        mlps, norm_g = self.is_mlp(), self.norm != "none"
        norm_d = self.norm == "batch" or (
            self.norm == "auto" and not (self.penalised() or self.spectral or self.game == "wasserstein")
        )
        c, size, labels = (
            self.spec.channels,
            self.spec.size,
            classes.several("gan", self.spec) if self.conditional else 0,
        )
        if mlps:
            self.G = mlp.decoder(self.latent + labels, self.spec.shape, self.hidden, self.depth)
            trunk = nn.Sequential(
                mlp.encoder(
                    (c * self.pack, size, size), self.hidden, self.hidden, self.depth - 1, self.octaves
                ),
                nn.LeakyReLU(0.2),
            )
            features = self.hidden
        else:
            self.G = dcgan_generator(self.latent + labels, c, size, self.width, norm_g)
            trunk, features = dcgan_trunk(c * self.pack, size, self.width, norm_d)
        self.D = Discriminator(trunk, features, self.spread, labels)
        if self.encoder:
            self.E = (
                mlp.encoder(self.spec.shape, self.latent, self.hidden, self.depth)
                if mlps
                else self.dcgan_encoder()
            )
        if not mlps:
            self.apply(as_in_dcgan)
        if self.spectral:
            spectral(self.D)
        # batch normalisation is seen by itself
        self.whole_batch = self.spread or self.pack > 1 or self.unroll > 0

    def check(self) -> None:
        """Refuse options that do not go together, each with the reason."""
        for wrong, why in (
            (
                self.smooth and not GAMES[self.game].logits,
                f"--smooth is about probabilities, which D of --game {self.game} does not give; leave it "
                "out, or type --game nonsaturating.",
            ),
            (
                self.one_sided and not self.gradient_penalty,
                "--one-sided is a kind of --gradient-penalty; type --gradient-penalty 10 as well.",
            ),
            (
                self.lazy > 1 and not self.penalised(),
                "--lazy is about penalties and there is none; type --r1 1 as well.",
            ),
            (
                self.noise_images and not self.noise,
                "--noise-images says when --noise ends and there is none; type --noise 0.1 as well.",
            ),
            (
                self.weight_clip and self.spectral,
                "--weight-clip limits weights that --spectral divides afterwards; leave one of them out.",
            ),
            (
                self.pack > 1 and self.conditional,
                "--pack judges images together and --conditional each by its class; leave one of them out.",
            ),
            (
                self.norm == "batch" and self.penalised(),
                "a penalty is on the slope at one image, which --norm batch mixes with those of the "
                "others; leave --norm out.",
            ),
            (
                self.octaves and not self.spec.points,
                "--octaves encodes coordinates of points in the plane, and these are none; leave it out.",
            ),
            (
                self.augment != "none" and not self.spec.levels,
                "--augment changes brightness and place, and these are points or codes; leave it out.",
            ),
            (
                self.spec.symbols or self.spec.levels == 1,
                "it draws brightness, and these are the names of codes; train pixelcnn on them.",
            ),
        ):
            if wrong:
                raise Refusal(f"gan: {why}")

    def penalised(self) -> bool:
        return bool(self.r1 or self.r2 or self.gradient_penalty)

    def is_mlp(self) -> bool:
        return self.net == "mlp" or (self.net == "auto" and self.spec.size < 8)

    def dcgan_encoder(self) -> nn.Module:
        trunk, features = dcgan_trunk(self.spec.channels, self.spec.size, self.width, self.norm != "none")
        return nn.Sequential(trunk, nn.Linear(features, self.latent))

    # The game

    def players(self) -> tuple[Player, ...]:
        adam = partial(Adam, betas=(self.beta1, self.beta2))
        after = self.clip_weights if self.weight_clip else partial(iterate, self.D) if self.spectral else None
        both = (
            Player("discriminator", self.D, self.discriminator_loss, self.k, self.d_rate, adam, after),
            Player("generator", self.G, self.generator_loss, optimizer=adam),
        )
        return (*both, Player("encoder", self.E, self.encoder_loss, optimizer=adam)) if self.encoder else both

    def discriminator_loss(self, batch: Batch) -> Loss:
        with torch.no_grad():
            fake = self.draw(batch)
        return self.telling(batch, fake, self.D)

    def telling(self, batch: Batch, fake: Tensor, D: Callable[..., Tensor]) -> Loss:
        """What D, or one that takes its place, minimises."""
        due = batch.step % self.lazy == 0
        gammas = (self.lazy * self.r1, self.lazy * self.r2) if due else (0.0, 0.0)
        known = self.by_hand(batch, D) if any(gammas) else None
        if known:
            loss, penalty, r, f = weighed(
                known, self.seen(batch, batch.x), self.seen(batch, fake), self.wanted, gammas
            )
        else:
            judge, none = self.judge(batch, D), fake.new_zeros(1)
            r, steep_r = slopes(judge, batch.x, self.pack) if gammas[0] else (judge(batch.x), none)
            f, steep_f = slopes(judge, fake, self.pack) if gammas[1] else (judge(fake), none)
            penalty = gammas[0] / 2 * steep_r.mean() + gammas[1] / 2 * steep_f.mean()
            loss = self.wanted(r, f) + penalty
        terms = {"on real": r.mean(), "on fake": f.mean(), "told apart": pair_accuracy(r, f)}
        terms["chance"] = r.new_tensor(undecided(self.game, self.smooth), dtype=torch.float32)
        if self.gradient_penalty and due:
            # one place for a pack, which is what D sees
            where = batch.noise.uniform()[
                torch.arange(len(fake), device=fake.device) // self.pack * self.pack
            ]
            _, steep = slopes(self.judge(batch, D), between(batch.x, fake, where), self.pack)
            far = self.lazy * self.gradient_penalty * lipschitz(steep, self.one_sided).mean()
            loss, penalty = loss + far, penalty + far
        return Loss(loss, terms | ({"penalty": penalty} if self.penalised() else {}))

    def wanted(self, r: Tensor, f: Tensor) -> Tensor:
        """What D minimises, without penalties, of the logits of real and of drawn images."""
        loss = GAMES[self.game].discriminator(r, f).mean()
        return loss + smoothed(r, self.smooth).mean() if self.smooth else loss

    def by_hand(self, batch: Batch, D: object) -> Chain | None:
        """D, if its slopes can be had without differentiating twice."""
        plain = self.augment == "none" and not torch.is_autocast_enabled(batch.x.device.type)
        return chain(D) if plain else None

    def generator_loss(self, batch: Batch) -> Loss:
        game, fake = GAMES[self.game], self.draw(batch)
        judge = self.judge(batch, self.ahead(batch, fake) if self.unroll else self.D)
        f = judge(fake)
        r = judge(batch.x) if game.paired else torch.zeros_like(f)
        return Loss(game.generator(r, f).mean(), {"pull": pull(game, r, f)})

    def encoder_loss(self, batch: Batch) -> Loss:
        """Between the pixels of x and of G(E(x)).  G is as it will answer: its batch normalisation must not
        learn from codes that were not drawn."""
        with answering(self.G):
            return Loss((self.decode(self.coded(self.E(batch.x), batch.y)) - batch.x).square().mean())

    def draw(self, batch: Batch) -> Tensor:
        """As many images as the batch has, of its classes."""
        return self.decode(self.coded(batch.noise.normal(self.latent), batch.y))

    def judge(self, batch: Batch, D: Callable[..., Tensor]) -> Judge:
        """What gives the logits of images of the batch's classes, (B, C, H, W) to (B // pack,), after noise
        and changes drawn from those of the batch."""
        y = batch.y if self.conditional else None
        return lambda x: D(self.seen(batch, x), y)

    def seen(self, batch: Batch, x: Tensor) -> Tensor:
        """What D sees of images (B, C, H, W): changed, noisy and packed (B // pack, pack C, H, W)."""
        x = augmented(x, batch.noise, self.augment)
        if level := self.level(batch.seen):
            x = x + level * batch.noise.normal(*x.shape[1:])
        return packed(x, self.pack)

    def level(self, seen: int) -> float:
        """Of the noise on all that D sees, after so many images."""
        return self.noise * (max(0.0, 1 - seen / self.noise_images) if self.noise_images else 1.0)

    @eagerly  # what is compiled cannot be differentiated twice
    def ahead(self, batch: Batch, fake: Tensor) -> Callable[..., Tensor]:
        """D as it will be a few steps from now if G stays as it is, a function of `fake` that G's gradient
        flows through (Metz et al. 2017, section 2.2)."""
        weights = {name: p.detach().requires_grad_() for name, p in self.D.named_parameters()}

        def D(*judged: Any) -> Tensor:
            out: Tensor = torch.func.functional_call(self.D, weights, judged)
            return out

        for i in range(self.unroll):
            loss = self.telling(replace(batch, step=batch.step + i), fake, D).total
            slope = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            rate = STRIDE * length(weights.values()) / (length(slope) + 1e-12)
            weights = {name: w - rate * g for (name, w), g in zip(weights.items(), slope)}
        return D

    @torch.no_grad()
    def clip_weights(self) -> None:
        for p in self.D.parameters():
            p.clamp_(-self.weight_clip, self.weight_clip)

    # Answers

    def coded(self, z: Tensor, y: Condition | None) -> Tensor:
        """What G is told: z (B, latent), and the one-hot class if the model is conditional."""
        return (
            classes.beside(z, classes.required("gan", label_of(y)), self.spec.labels)
            if self.conditional
            else z
        )

    def decode(self, z: Tensor) -> Tensor:
        """G(z): images (B, C, H, W) of codes (B, latent); of a conditional model (B, latent + labels), z and
        then the one-hot class."""
        x: Tensor = self.G(
            classes.measured("gan", z, self.latent, self.spec.labels if self.conditional else 0)
        ).float()
        return x.tanh() if self.spec.levels else x

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """Of classes y (B,); a conditional model draws the class as well where none is said."""
        if self.conditional and y is None:
            y = Condition(classes.drawn(noise, self.spec))
        yield self.decode(self.coded(noise.normal(self.latent), y))

    @torch.no_grad()
    def guess(self, x: Tensor) -> Tensor | None:
        """E(x), (B, latent): where a search for the code of an image may begin; None without --encoder."""
        return self.E(x).float() if self.encoder else None


def length(tensors: Iterable[Tensor]) -> Tensor:
    """Of all of them as one vector; can be differentiated, as nn.utils.get_total_norm cannot."""
    return torch.cat([t.flatten() for t in tensors]).norm()


@contextmanager
def answering(module: nn.Module) -> Iterator[None]:
    """Within, it is as it is when it answers: batch normalisation uses its averages and does not
    add to them."""
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)


def as_in_dcgan(layer: nn.Module) -> None:
    """First weights of Radford et al. 2016, section 4: N(0, 0.02^2)."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
