"""R3GAN: a generative adversarial network whose loss lets it come to rest, so that its networks need no
tricks.

Huang, Gokaslan, Kuleshov & Tompkin, "The GAN is dead; long live the GAN! A Modern Baseline GAN", NeurIPS
2024.

    D minimises  E[softplus(D(G(z)) - D(x))] + gamma/2 E|grad D(x)|^2 + gamma/2 E|grad D(G(z))|^2     (2), R1 and R2
    G minimises  E[softplus(D(x) - D(G(z)))]

Each drawn image is judged against a real one, so that leaving out a kind of image never pays; the penalties
let the game come to rest.  With such a loss the networks may be plain (section 4, config E): residual blocks
with a grouped 3x3 convolution wider than the rest, bilinear resizing, no normalisation and hence a weight of
zero at the end of each block at first (fix-up), and as the first layer of G one picture for each channel,
scaled by z.  D is G in reverse.

What is not the paper's, because a processor is to train it in minutes: no blocks at full resolution, where a
strided convolution takes their place; constant gamma, rate and beta2 at values for such short runs; and tanh
at the end of G, without which black that is not quite black gives the drawn images away.  Tuned on
Fashion-MNIST; photographs may want another gamma. With --features, discriminators that look through a network
which knows photographs join D in the game (parts/projected.py).

The slope of the penalties is half of the work of a step if it is computed as a second derivative.  It need
not be. D bends nowhere but at its rectifiers.  Let D_x be D with each of these held at the side on which x
has put it: D_x is linear in an image and has the value and the slope of D at x, so that for a loss l of the
logit

    d/dw [l(D(x)) + gamma/2 |grad D(x)|^2]  =  l' d/dw D_x(x + gamma/l' grad D(x))                    (*)

with x, l' and grad D(x) held fixed on the right: one more pass there and back, for real and drawn images at
once.

Departures: beside those above, --augment has the changes of Zhao et al. 2020 for those of StyleGAN2.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from ..core import Batch, Condition, Loss, Model, Noise, Player, Refusal, Training, label_of, option
from ..parts import classes
from ..parts.adversarial import GAMES, iterate, pair_accuracy, pull, undecided
from ..parts.augment import POLICIES, augmented
from ..parts.conditioning import Labels
from ..parts.projected import SEEN, Projected
from ..parts.resnet import channels_at, ladder

GAME = GAMES["relativistic"]
LEAK = 0.2
GAIN = math.sqrt(2 / (1 + LEAK**2))
"""what makes up for the size that a leaky rectifier takes away"""
GROUP = 16
"""channels in a group of a 3x3 convolution"""
HIDDEN = 3
"""hidden layers of each network on points"""
L = TypeVar("L", nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)


def scaled(layer: L, gain: float = 1.0, inputs: float = 0.0) -> L:
    """First weights N(0, gain^2 / inputs), which keep the size of what goes through times `gain`; no bias (He
    et al. 2015, eq. 14)."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(inputs or layer.weight[0].numel()))
    if isinstance(bias := getattr(layer, "bias", None), Tensor):
        nn.init.zeros_(bias)
    return layer


class Leaky(nn.Module):
    """Leaky rectifier; or, held, the linear map that it was where it noted its side."""

    mode = "free"
    noted: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "held":
            linear: Tensor = torch.ops.aten.leaky_relu_backward(x, self.noted, LEAK, True)
            return linear
        y = F.leaky_relu(x, LEAK)
        if self.mode == "noting":
            self.noted = y.detach()  # of the sign of x, and kept for the derivative anyway
        return y


@contextmanager
def rectifiers(net: nn.Module, mode: str) -> Iterator[None]:
    """Within, those of `net` are "noting" or "held"; after being held they forget."""
    own = [m for m in net.modules() if isinstance(m, Leaky)]
    for m in own:
        m.mode = mode
    try:
        yield
    finally:
        for m in own:
            m.mode, m.noted = "free", m.noted if mode == "noting" else None


class Judged(NamedTuple):
    loss: Tensor
    """of (2), penalties included; its derivative is (*)"""
    penalty: Tensor
    r: Tensor
    f: Tensor


def judged(D: nn.Module, real: Tensor, fake: Tensor, y: Condition | None, gamma: float) -> Judged:
    """What D wants, of pairs of a real and a drawn image (B, C, H, W), each of class y (B,) if there are any.

    D must be piecewise linear in an image, with Leaky as all that bends.
    """
    n, y = len(real), None if y is None else y.repeat(2)
    x = torch.cat([real, fake]).detach().requires_grad_()
    with rectifiers(D, "noting"):
        logits = D(x, y)
    (slope,) = torch.autograd.grad(logits.sum(), x)
    r, f = logits.detach().requires_grad_().split(n)
    loss = GAME.discriminator(r, f)
    push = torch.cat(torch.autograd.grad(loss.sum(), [r, f]))  # l' in (*)
    push = torch.copysign(push.abs().clamp(min=1e-12), push)  # where it vanishes, the penalty remains
    with rectifiers(D, "held"):
        same_slope = (push * D(x.detach() + gamma / push.view(-1, *[1] * (x.ndim - 1)) * slope, y)).sum() / n
    penalty = gamma / 2 * slope.square().sum() / n
    return Judged(
        same_slope + (loss.detach().mean() + penalty - same_slope.detach()), penalty, r.detach(), f.detach()
    )


# Networks


def levels(size: int, scale: int) -> list[tuple[int, int]]:
    """Pixels a side and channels wherever there are blocks, largest first: below full resolution, and down to
    3 or 4 pixels."""
    sizes = ladder(size)[1:]
    if sizes[-1] > 4:
        sizes.append((sizes[-1] + 1) // 2)
    return [(pixels, channels_at(pixels, 16 * scale) << (pixels <= 4)) for pixels in sizes]


def depth(scale: int) -> int:
    """Blocks a level."""
    return (scale + 1) // 2


class Block(nn.Module):
    """x plus three convolutions of it; nothing but x at first."""

    def __init__(self, channels: int, gain: float):
        super().__init__()
        wide = 2 * channels
        self.change = nn.Sequential(
            scaled(nn.Conv2d(channels, wide, 1), gain),
            Leaky(),
            scaled(nn.Conv2d(wide, wide, 3, padding=1, groups=max(1, wide // GROUP)), gain),
            Leaky(),
            scaled(nn.Conv2d(wide, channels, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.change(x)
        return x + change


def several(channels: int, scale: int, among: int) -> list[nn.Module]:
    """The blocks of one of `among` levels.  The more there are in all, the smaller each begins (Zhang,
    Dauphin & Ma 2019, section 3)."""
    return [Block(channels, GAIN * (among * depth(scale)) ** -0.25) for _ in range(depth(scale))]


class Resize(nn.Module):
    """Bilinear, to `size` pixels a side."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=(self.size, self.size), mode="bilinear")


class Show(nn.Module):
    """(B, channels) to (B, channels, size, size): a picture for each channel, as strong as the
    number says."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.pictures = nn.Parameter(torch.randn(channels, size, size))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, :, None, None] * self.pictures).contiguous(memory_format=torch.channels_last)


class Find(nn.Module):
    """And back: how much of its picture is in each channel.  A depthwise convolution that fits once, as a
    product: bf16 has no fast one."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.pictures = nn.Parameter(torch.randn(channels, size, size) / size)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.pictures).sum((2, 3))


def generator(latent: int, channels: int, size: int, scale: int) -> nn.Sequential:
    """(B, latent) to (B, channels, size, size), without a bound on the values."""
    steps = levels(size, scale)[::-1]
    smallest, c = steps[0]
    layers: list[nn.Module] = [
        scaled(nn.Linear(latent, c, bias=False)),
        Show(c, smallest),
        *several(c, scale, len(steps)),
    ]
    for pixels, after in steps[1:]:
        layers += [
            scaled(nn.Conv2d(c, after, 1, bias=False)),
            Resize(pixels),
            *several(after, scale, len(steps)),
        ]
        c = after
    last = nn.ConvTranspose2d(c, channels, 4 - size % 2, stride=2, padding=1)
    return nn.Sequential(*layers, scaled(last, inputs=4 * c))


def trunk(channels: int, size: int, scale: int) -> tuple[nn.Sequential, int]:
    """(B, channels, size, size) to features (B, F), and F."""
    steps = levels(size, scale)
    pixels, c = steps[0]
    layers: list[nn.Module] = [
        scaled(nn.Conv2d(channels, c, 4 - size % 2, stride=2, padding=1)),
        *several(c, scale, len(steps)),
    ]
    for pixels, after in steps[1:]:
        layers += [
            Resize(pixels),
            scaled(nn.Conv2d(c, after, 1, bias=False)),
            *several(after, scale, len(steps)),
        ]
        c = after
    return nn.Sequential(*layers, Find(c, pixels)), c


def dense(inside: int, scale: int) -> tuple[list[nn.Module], int]:
    """Hidden layers of what are no images, and the units of each."""
    units, layers = 128 * scale, list[nn.Module]()
    for _ in range(HIDDEN):
        layers += [scaled(nn.Linear(inside, units), GAIN), Leaky()]
        inside = units
    return layers, units


class Discriminator(nn.Module):
    """D(x) = w h(x), and with classes + e_y h(x) (Miyato & Koyama 2018, eq. 3)."""

    def __init__(self, trunk: nn.Module, features: int, labels: int):
        super().__init__()
        self.trunk = trunk
        self.last = scaled(nn.Linear(features, 1))
        self.classes = scaled(Labels(labels, features)) if labels else None

    def forward(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """(B, C, H, W) to (B,)."""
        h = self.trunk(x)
        logit: Tensor = self.last(h)[:, 0]
        return (logit if self.classes is None else logit + (self.classes(y) * h).sum(1)).float()


class R3GAN(Model):
    scale: int = option(
        1,
        "size of both networks: channels and blocks together; a step up takes two to three times as long",
        1,
        6,
    )
    latent: int = option(64, "numbers in z", 1, 4096)
    gamma: float = option(
        1.0, "weight of D's squared slope at real and at drawn images: more is calmer and slower", 0.0, 1e4
    )
    augment: str = option(
        "none", "how images are changed before D sees them, for small folders", choices=tuple(POLICIES)
    )
    features: str = option(
        "none",
        "a network that knows photographs, through which D looks as well: for small folders",
        choices=("none", *SEEN),
    )
    weights: str = option(
        "", "a file of its weights, or none for random ones; left out, the published ones", file=True
    )
    conditional: bool = option(False, "draw images of a class, learnt from labelled ones")

    defaults = Training(batch=32, rate=2e-3, images=400_000, warmup=0, ema=10_000, clip=0.0)
    presets = {
        "photographs": dict(
            features="squeezenet",
            augment="translation",
            gamma=0.02,
            scale=2,
            mirror=True,
            batch=16,
            rate=1e-3,
            schedule="cosine",
        )
    }

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("label",) if self.conditional else ()

    def build(self) -> None:
        self.check()
        c, size, labels = (
            self.spec.channels,
            self.spec.size,
            classes.several("r3gan", self.spec) if self.conditional else 0,
        )
        if size < 8:
            layers, units = dense(self.latent + labels, self.scale)
            self.G = nn.Sequential(
                *layers, scaled(nn.Linear(units, self.spec.dims)), nn.Unflatten(1, self.spec.shape)
            )
            layers, features = dense(self.spec.dims, self.scale)
            seen: nn.Module = nn.Sequential(nn.Flatten(), *layers)
        else:
            self.G = generator(self.latent + labels, c, size, self.scale)
            seen, features = trunk(c, size, self.scale)
        self.D = Discriminator(seen, features, labels)
        self.P = Projected(self.features, self.weights, size, labels) if self.features != "none" else None

    def check(self) -> None:
        """Refuse what cannot be learnt."""
        size = self.spec.size
        for wrong, why in (
            (
                self.augment != "none" and not self.spec.levels,
                "--augment changes brightness and place, and these are points or codes; leave it out.",
            ),
            (
                self.features != "none" and (size < 8 or not self.spec.levels),
                "--features looks at pictures of 8 pixels a side or more; leave it out.",
            ),
            (
                self.weights and self.features == "none",
                "--weights are those of a network; name it with --features as well.",
            ),
            (
                self.spec.symbols or self.spec.levels == 1,
                "it draws brightness, and these are the names of codes; train pixelcnn on them.",
            ),
        ):
            if wrong:
                raise Refusal(f"r3gan: {why}")

    def prepare(self) -> None:
        if self.P is not None:
            self.P.prepare()

    # The game

    def players(self) -> tuple[Player, ...]:
        adam = partial(Adam, betas=(0.0, 0.9))
        judges = self.D if self.P is None else nn.ModuleList([self.D, self.P])
        after = None if self.P is None else partial(iterate, self.P)
        return (
            Player("discriminator", judges, self.discriminator_loss, optimizer=adam, after=after),
            Player("generator", self.G, self.generator_loss, optimizer=adam),
        )

    def discriminator_loss(self, batch: Batch) -> Loss:
        with torch.no_grad():
            fake = self.draw(batch)
        real, fake = (augmented(x, batch.noise, self.augment) for x in (batch.x, fake))
        loss, penalty, r, f = judged(self.D, real, fake, self.classes(batch), self.gamma)
        terms = {
            "on real": r.mean(),
            "on fake": f.mean(),
            "told apart": pair_accuracy(r, f),
            "penalty": penalty,
        }
        # whoever asks a trained model, as the doctor does, need not have it
        chance = undecided("relativistic")
        if self.P is not None and self.P.net is not None:
            chance += len(self.P.heads) * undecided("hinge")
            seen, terms["told apart by features"] = self.P.discriminator(real, fake, self.classes(batch))
            loss = loss + seen
        return Loss(loss, terms | {"chance": r.new_tensor(chance, dtype=torch.float32)})

    def generator_loss(self, batch: Batch) -> Loss:
        y = self.classes(batch)
        real, fake = (augmented(x, batch.noise, self.augment) for x in (batch.x, self.draw(batch)))
        r, f = self.D(real, y), self.D(fake, y)
        loss = GAME.generator(r, f).mean()
        if self.P is not None and self.P.net is not None:
            loss = loss + self.P.generator(fake, y)
        return Loss(loss, {"pull": pull(GAME, r, f)})

    def draw(self, batch: Batch) -> Tensor:
        """As many images as the batch has, of its classes."""
        return self.decode(self.coded(batch.noise.normal(self.latent), self.classes(batch)))

    def classes(self, batch: Batch) -> Condition | None:
        return batch.y if self.conditional else None

    # Answers

    def coded(self, z: Tensor, y: Condition | None) -> Tensor:
        """What G is told: z (B, latent), and the one-hot class if the model is conditional."""
        return (
            classes.beside(z, classes.required("r3gan", label_of(y)), self.spec.labels)
            if self.conditional
            else z
        )

    def decode(self, z: Tensor) -> Tensor:
        """G(z): images (B, C, H, W) of codes (B, latent); of a conditional model (B, latent + labels), z and
        then the one-hot class."""
        x: Tensor = self.G(
            classes.measured("r3gan", z, self.latent, self.spec.labels if self.conditional else 0)
        ).float()
        return x.tanh() if self.spec.levels else x

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """Of classes y (B,); a conditional model draws the class as well where none is said."""
        if self.conditional and y is None:
            y = Condition(classes.drawn(noise, self.spec))
        yield self.decode(self.coded(noise.normal(self.latent), y))
