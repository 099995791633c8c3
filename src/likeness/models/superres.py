"""Super-resolution: a small image becomes the large one that it was scaled down from, by convolutions alone.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution" (EDSR), 2017.  Residual blocks
of two 3x3 convolutions and a ReLU, without batch normalisation (section 3.1), at the resolution of the small
image x; the last convolution has r^2 channels for each of the image's, which become a square of r x r pixels
(Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
Neural Network", 2016, eq. 4).  What the network adds up is the difference from bicubic interpolation,

    f(x) = bicubic(x) + shuffle(last(h)),   h = head(x) + tail(blocks(head(x)))

so that it begins as bicubic interpolation: `last` is zero at first.

    loss = pixel mean|f(x) - y|  +  perceptual |phi(f(x)) - phi(y)|^2 / (C H W 255^2)  +  adversarial L_G

--pixel alone (L1: EDSR, section 3.3) has the best PSNR: what lies between all large images that x may be of,
and is blurred where these differ.  --perceptual compares features phi of a network that knows photographs
(Johnson, Alahi & Fei-Fei 2016, eq. 2; with pixel 0 their "l_feat").  --adversarial asks of each patch to look
real (Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network",
2017, eq. 3), in the relativistic game (Wang et al., "ESRGAN", 2018, section 3.2).  Both cost PSNR: no network
has the best of both (Blau & Michaeli, "The Perception-Distortion Tradeoff", 2018, theorem 2).

--begin RUN starts from a network that was trained by pixels, as both papers on games do (Ledig et al. 2017,
section 3.2; Wang et al. 2018, section 4.1): features and games alone are slow to find what pixels teach, and
leave a stronger lattice in the squares of r x r pixels.  The network of features halves images by squares
of 2 x 2, so that a lattice of the squares of r x r may please it where both grids lie alike: both sides of a
pair are moved by up to r - 1 pixels before they are compared, by chance.

Each pair is turned and flipped into one of 8 symmetric versions, both sides alike; --ensemble answers with
the mean over the 8 (EDSR, section 3.4, "self-ensemble"), at 8 times the cost.

Departures: 48 channels for 256, 8 blocks for 32 and one shuffle for a cascade of x2; the bicubic skip, which
EDSR has not; residuals are not scaled by 0.1 in each pass, but begin with a last convolution that is 0.1 of
its usual size, which does the same for a start and costs nothing; Adam with a rate of 1e-3 that falls along
half a cosine.  The game is paired, each upscaled image against its own original, where ESRGAN compares means
over a batch: a batch may then be split.  D sees patches (parts/translators.py), not whole images.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from ..core import Batch, Condition, Loss, Model, Noise, Player, Refusal, Training, option
from ..parts.adversarial import GAMES, pair_accuracy
from ..parts.begun import begin
from ..parts.perceptual import NETWORKS, Perceptual, content, recognised, rgb
from ..parts.translators import fitting, patches

SMALL = 0.1
"""size of the first weights that end a block, beside the usual ones"""
GAME = GAMES["relativistic"]
RANGE = 255.0
"""of the images that the network of --perceptual is given; features are measured in it"""
REACH = 2
"""pixels of the small image, to each side, that bicubic interpolation looks at"""
TYPE = "type --task upscale4 (or upscale2) with a folder of photos, or name pairs of images"
"""what to do instead"""


class Block(nn.Module):
    """x plus two convolutions of it (Lim et al. 2017, figure 2 c)."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.second.weight *= SMALL

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(F.relu(self.first(x), inplace=True))
        return y


class Upscaler(nn.Module):
    """(B, C, H, W) to (B, C, scale H, scale W)."""

    def __init__(self, channels: int, width: int, depth: int, scale: int):
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.tail = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h = self.head(x)
        h = h + self.tail(self.blocks(h))
        return bicubic(x, self.scale) + F.pixel_shuffle(self.last(h), self.scale).float()


def bicubic(x: Tensor, scale: int) -> Tensor:
    """Enlarged (B, C, H, W) by Keys' kernel with a = -1/2, that of MATLAB and Pillow; torch has -3/4 unless
    `antialias` is set, which changes nothing else where an image grows."""
    size = (scale * x.shape[2], scale * x.shape[3])
    return F.interpolate(x.float(), size=size, mode="bicubic", antialias=True)


CHANGES = (lambda x: x.mT, lambda x: x.flip(2), lambda x: x.flip(3))
"""of (B, C, H, W), each its own inverse, and together all 8 symmetries of a square: transposed, then upside
down, then mirrored"""


def symmetric(x: Tensor, chosen: Tensor) -> Tensor:
    """Squares (B, C, H, H), each in one of its 8 symmetric versions: chosen, bool (B, 3), says which CHANGES
    are made of it."""
    for i, change in enumerate(CHANGES):
        x = torch.where(chosen[:, i].view(-1, 1, 1, 1), change(x), x)
    return x


def over_symmetries(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The mean of what f answers of the 8 symmetric versions of images x (B, C, H, W), each answer turned
    back."""
    total = torch.zeros((), device=x.device)
    for chosen in itertools.product((False, True), repeat=len(CHANGES)):
        changes = list(itertools.compress(CHANGES, chosen))
        turned = f(reduce(lambda x, change: change(x), changes, x))
        total = total + reduce(lambda x, change: change(x), reversed(changes), turned)
    return total / 2 ** len(CHANGES)


def rolled(x: Tensor, shift: Tensor) -> Tensor:
    """Images (B, C, H, W), each moved up and to the left, in a circle, by a shift (B, 2) of its own."""
    rows, columns = (
        (torch.arange(n, device=x.device) + by[:, None]) % n for n, by in zip(x.shape[2:], shift.T)
    )
    image, channel = (torch.arange(n, device=x.device) for n in x.shape[:2])
    return x[image.view(-1, 1, 1, 1), channel.view(-1, 1, 1), rows[:, None, :, None], columns[:, None, None]]


def small(y: Condition | None) -> Tensor:
    """The small images.  Raises Refusal where there are none."""
    if y is None or y.image is None:
        raise Refusal(f"superres: there are no small images beside the large ones; {TYPE}.")
    return y.image


class SuperRes(Model):
    width: int = option(48, "channels of the network", 4, 1024)
    depth: int = option(8, "residual blocks", 1, 256)
    pixel: float = option(1.0, "weight of the absolute difference of pixels: best PSNR, blurred", 0.0, 1e6)
    perceptual: float = option(
        0.0, "weight of the squared difference of features: sharper, of a lower PSNR", 0.0, 1e6
    )
    network: str = option("vgg16", "that the features are of", choices=NETWORKS)
    layer: str = option("block2_conv2", "of that network, whose features are compared")
    weights: str = option(
        "", "a file of its weights, or none for random ones; left out, the published ones", file=True
    )
    adversarial: float = option(
        0.0, "weight of a discriminator's verdict on patches: invents detail, of a still lower PSNR", 0.0, 1e6
    )
    begin: str = option("", "folder of a run of superres to begin with, such as one trained by pixels alone")
    d_width: int = option(32, "channels of the discriminator's first layer", 4, 1024)
    ensemble: bool = option(
        False, "answer with the mean over the 8 flips and rotations: 8 times the work", live=True
    )

    takes = ("image",)
    needs = "pairs"
    defaults = Training(batch=16, rate=1e-3, images=200_000, warmup=2_000, schedule="cosine", ema=10_000)
    presets = {
        "perceptual": dict(pixel=0.1, perceptual=1.0),
        "adversarial": dict(pixel=0.1, perceptual=1.0, adversarial=0.05),
    }

    def build(self) -> None:
        self.check()
        self.eye: Perceptual | None = None
        """the network of features, once it is at hand; a run does not keep its weights"""
        self.scale = self.spec.size // self.spec.source[1]
        """pixels a side that become of one"""
        self.stride = 1
        """the size of a small image may be any multiple of this"""
        self.halo = max(REACH, 2 * self.depth + 3)
        """pixels of the small image, to each side, that a large pixel depends on"""
        self.net = Upscaler(self.spec.channels, self.width, self.depth, self.scale)
        if self.perceptual:
            self.known = nn.Buffer(torch.zeros(32, dtype=torch.uint8))
        if self.adversarial:
            self.D = patches(self.spec.channels, self.d_width, fitting(self.spec.size))
            self.D[-1].register_parameter("bias", None)  # only differences of logits count

    def check(self) -> None:
        """Refuse what cannot be upscaled."""
        (channels, small), large = self.spec.source, self.spec.size
        for wrong, why in (
            (not channels, f"it learns from a small image beside each large one; {TYPE}."),
            (
                channels and (small < 1 or large % small or large <= small),
                f"the large images have {large} pixels a side and the small ones {small}, which is not 2, 3, "
                f"4 ... times as many; {TYPE}.",
            ),
            (
                channels and channels != self.spec.channels,
                f"the small images have {channels} colour channels and the large ones {self.spec.channels}; "
                "read both alike, with --colour rgb or --colour grey.",
            ),
            (
                not self.spec.levels or self.spec.symbols,
                "it enlarges pictures, and these are points or codes.",
            ),
            (
                not self.pixel + self.perceptual + self.adversarial,
                "one of --pixel, --perceptual and --adversarial must have a weight above 0.",
            ),
            (
                self.adversarial and large >> fitting(large) < 3,
                f"--adversarial judges patches of images of {3 << fitting(large)} pixels and more, and these "
                f"have {large}; take a larger --size, or leave it out.",
            ),
            (
                self.perceptual and self.spec.channels not in (1, 3),
                "--perceptual looks at grey or RGB images; leave it out.",
            ),
        ):
            if wrong:
                raise Refusal(f"superres: {why}")

    def prepare(self) -> None:
        """Have the weights of --begin, where training has not begun, and the network of --perceptual at hand,
        the same as ever.  Raises Offline where its weights are not, Refusal where they are others than when
        training began."""
        if self.begin and not self.net.last.weight.any():  # as build() leaves them
            begin(self.net, self.begin, "net")
        if not self.perceptual:
            return
        eye = Perceptual(self.network, (self.layer,), weights=self.weights)
        if not recognised(self.known, eye.sha256):
            raise Refusal(
                f"the weights of {self.network} in {eye.source} are not those that this run has been trained "
                "with; name the file that it began with: --weights FILE"
            )
        self.eye = eye

    # The game

    def players(self) -> tuple[Player, ...]:
        upscaler = Player("upscaler", self.net, self.loss)
        if not self.adversarial:
            return (upscaler,)
        adam = partial(Adam, betas=(0.5, 0.99))
        judge = Player("discriminator", self.D, self.discriminator_loss, rate=0.2, optimizer=adam)
        return (judge, upscaler)

    def loss(self, batch: Batch) -> Loss:
        x, y = self.pair(batch)
        made = self.net(x)
        terms = {"pixel": (made - y).abs().mean()}
        total = self.pixel * terms["pixel"]
        if self.eye is not None:  # whoever asks a trained model, as the doctor does, need not have it
            shift = batch.noise.uniform(2).mul(self.scale).long()
            terms["perceptual"] = self.distance(rolled(made, shift), rolled(y, shift)).mean()
            total = total + self.perceptual * terms["perceptual"]
        if self.adversarial:
            with torch.no_grad():
                r = self.D(y).float()
            terms["adversarial"] = GAME.generator(r, self.D(made).float()).mean()
            total = total + self.adversarial * terms["adversarial"]
        return Loss(total, terms)

    def distance(self, made: Tensor, y: Tensor) -> Tensor:
        """Of features, (B,): Johnson et al. 2016, eq. 2, in units of the network's range."""
        assert self.eye is not None, "prepare() first"
        with torch.no_grad():
            (target,) = self.eye.features(rgb(y)).values()
        (h,) = self.eye.features(rgb(made)).values()
        return content(h.float(), target.float()) / RANGE**2

    def discriminator_loss(self, batch: Batch) -> Loss:
        x, y = self.pair(batch)
        with torch.no_grad():
            made = self.net(x)
        r, f = self.D(y).float(), self.D(made).float()
        return Loss(GAME.discriminator(r, f).mean(), {"told apart": pair_accuracy(r, f)})

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The small images and the large ones, both in the same of 8 symmetric versions."""
        chosen = batch.noise.uniform(len(CHANGES)) < 0.5
        return symmetric(small(batch.y), chosen), symmetric(batch.x, chosen)

    @torch.no_grad()
    def chance(self, batch: Batch) -> dict[str, float]:
        """What bicubic interpolation has, which needs no learning."""
        return {"pixel": float((bicubic(small(batch.y), self.scale) - batch.x).abs().mean())}

    # Answers

    @torch.no_grad()
    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        """Small images (B, C, H, W) in [-1, 1] of any size to large ones (B, C, scale H, scale W), in [-1, 1]
        as well."""
        if back:
            raise Refusal("superres enlarges; to make an image smaller needs no model: resize it.")
        answer: Tensor = over_symmetries(self.net, x) if self.ensemble else self.net(x)
        return answer.clamp(-1, 1)

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """The small images of y, enlarged; nothing is drawn."""
        yield self.translate(small(y))
