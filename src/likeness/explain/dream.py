"""Images that please a network: of a class, of what a layer has kept of an image, and of what a layer sees in
one.

    class_image   x* = argmin  -S_y(x) + R(x), S the logits                  Simonyan, Vedaldi & Zisserman 2014, section 2
    invert        x* = argmin  |A(x) - A(x_0)|^2 / |A(x_0)|^2 + R(x)         Mahendran & Vedaldi 2015, eq. 1, 4
    dream         x  <- x + eta g / mean|g|,  g = d/dx mean A(x)^2           Mordvintsev, Olah & Tyka, "Inceptionism", 2015

A is the output of a layer.  All are walks of minimize() over an image instead of weights.

Single pixels have a way of pleasing a network that nobody would call an image: high frequencies without end.
Against them stand
    the spectrum       an image is moved along its frequencies, each in proportion to what photographs have of it, and along three axes
                       of colour (Olah, Mordvintsev & Schubert, "Feature Visualization", 2017, appendix)
    R(x)               total variation and mean |x|^6 (Mahendran & Vedaldi 2015, eq. 2, 3)
    moving             the network meets the image a little shifted, and larger or smaller, at every step, and what it likes must survive that
    octaves            a dream begins small, and what was found is enlarged before details are added
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from .. import engine
from ..backbones.layers import LOGITS, Flatten, Graph, Probe, becomes_tokens
from ..backbones.resize import resized
from ..core import Noise, Refusal
from ..engine.minimize import minimize
from .saliency import logits


class State(NamedTuple):
    """A place on the way."""

    share: float
    """of the way that is behind"""
    x: Tensor
    """(1, 3, H, W) in [-1, 1]"""
    loss: float
    """what gets smaller, as the function that yields it says"""


# Steps


class Steepest(Optimizer):
    """Steps of length `lr` down the slope in some norm, however steep it is: of each row by itself.

    linf: every number moves by lr (Goodfellow, Shlens & Szegedy 2015).  l2: the row moves by lr.  mean: its
    numbers move by lr on average.
    """

    def __init__(self, params: Any, lr: float, norm: str):
        super().__init__(params, dict(lr=lr, norm=norm))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * direction(p.grad, group["norm"]))


def direction(slope: Tensor, norm: str) -> Tensor:
    """(B, ...), each row of length 1 in the norm's own sense; where there is no slope there is no
    direction."""
    if norm == "linf":
        return slope.sign()
    rows = slope.flatten(1)
    size = rows.norm(dim=1) if norm == "l2" else rows.abs().mean(1)
    return slope / size.clamp(min=1e-20).view(-1, *[1] * (slope.ndim - 1))


# An image by its frequencies

AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
"""of colour: brightness, red against blue, green against both (Ohta, Kanade & Sakai 1980), nearly
uncorrelated in photographs"""
SPREADS = (1.0, 0.27, 0.14)
"""standard deviations along them, beside that of brightness; .27, .15 in the 24 Kodak photographs and .28,
.12 in 360 of Caltech-101"""


FALL = 1.2
"""amplitudes in photographs fall as f to the power of minus this (Tolhurst, Tadmor & Chao 1992: 1.2 on
average; 1.13 in the 24 Kodak photographs)"""


class Spectrum:
    """Images (B, 3, H, W) in [-1, 1] as numbers that are all of one size: x = bounded(colour F^-1(z f^-1.2)),
    z (B, 3, H, W // 2 + 1, 2).

    blur: standard deviation in pixels of a Gaussian that the image has been through.  grey: without the two
    axes of colour.
    """

    def __init__(self, size: tuple[int, int], blur: float, like: Tensor, grey: bool = False):
        self.size = size
        down, right = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])[None]
        f = (down.square() + right.square()).sqrt()
        amplitude = f.clamp(min=1 / max(size)) ** -FALL * torch.exp(-2 * (math.pi * blur * f).square())
        self.amplitude = amplitude.to(like)
        spreads = torch.tensor((SPREADS[0], 0.0, 0.0) if grey else SPREADS)
        self.colour = (F.normalize(AXES, dim=1) * spreads[:, None]).T.to(like)

    def image(self, z: Tensor) -> Tensor:
        waves = torch.view_as_complex(z.contiguous()) * self.amplitude
        u = torch.einsum("oc,bchw->bohw", self.colour, torch.fft.irfft2(waves, s=self.size, norm="ortho"))
        return bounded(u)

    def start(self, noise: Noise, size: float) -> Tensor:
        """Grey, with differences of brightness drawn for it."""
        z = self.amplitude.new_zeros(len(noise), 3, *self.amplitude.shape, 2)
        z[:, 0] = size * noise.normal(*self.amplitude.shape, 2).to(z)
        return z


ZOOM = 5


def bounded(u: Tensor) -> Tensor:
    """u cut off at -1 and 1, with a slope that leads back from beyond them, but no further out.

    One that ended there would keep a pixel that has once gone astray, as that of tanh nearly does: an image
    of 12x12 stuck at 27 dB.
    """

    def inwards(slope: Tensor) -> Tensor:
        return torch.where((u.detach().abs() > 1) & (u.detach() * slope < 0), 0, slope)

    same = u.view_as(u)
    if same.requires_grad:
        same.register_hook(inwards)
    return same + (same.clamp(-1, 1) - same).detach()


# What an image should be, whatever is in it


@dataclass(frozen=True)
class Rules:
    """What holds an image down that is made to please."""

    variation: float = 0.0
    """weight of the mean squared difference of neighbours"""
    bound: float = 0.0
    """weight of mean |x|^6, which keeps pixels from black and white"""
    blur: float = 0.0
    """standard deviation of the Gaussian blur, in pixels"""
    jitter: float = 0.0
    """how restless the view of the network is: largest shift, as a share of the side; sizes change by ZOOM
    times that share"""

    def penalty(self, x: Tensor) -> Tensor:
        """(B,)"""
        return self.variation * variation(x) + self.bound * x.pow(6).mean((1, 2, 3))


def variation(x: Tensor) -> Tensor:
    """Mean squared difference of neighbours below and to the right, (B, C, H, W) to (B,): total variation
    with beta = 2."""
    down, right = x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    return down.square().mean((1, 2, 3)) + right.square().mean((1, 2, 3))


def moved(x: Tensor, jitter: float, noise: Noise, least: int | None = None) -> Tensor:
    """Images (B, C, H, W) shifted in a circle, all of them the same way, and made larger or smaller, but no
    smaller than `least`; None leaves their size."""
    if not jitter:
        return x
    high, wide = x.shape[2:]
    down, right, zoom = (jitter * (2 * noise.uniform(3)[0] - 1)).tolist()
    x = x.roll((round(down * high), round(right * wide)), (2, 3))
    if least is None:
        return x
    size = [max(least, round(side * (1 + ZOOM * zoom))) for side in (high, wide)]
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def walk(
    loss: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    rules: Rules,
    steps: int,
    rate: float,
    seed: int,
    like: Tensor,
    least: int | None = None,
    grey: bool = False,
) -> Iterator[State]:
    """Minimise the loss (1,) of an image (1, 3, H, W) and what the rules say of it, along its frequencies,
    from near grey.

    least: smallest side at which the loss may be shown the image; None where it must be `size`.  grey: there
    are no colours to find.
    """
    spectrum, noise = (
        Spectrum(size, rules.blur, like, grey),
        Noise([seed], engine.derive("walk"), like.device),
    )

    def whole(z: Tensor) -> Tensor:
        x = spectrum.image(z)
        return loss(moved(x, rules.jitter, noise, least)) + rules.penalty(x)

    for state in minimize([spectrum.start(noise, START)], whole, steps, rate):
        yield State(state.step / max(steps, 1), spectrum.image(state.at[0]), float(state.loss))


START = 0.005
"""size of the first waves"""


def sees_grey(net: Probe, x: Tensor) -> bool:
    """Whether images such as x lose their colours before the network begins: then to find some would only be
    to make brightness of them."""
    return net.prepare(x).shape[1] == 1


def fixed(net: Probe, layer: str) -> bool:
    """Whether it answers for this layer only where an image has the size of those it was trained on: all
    places are then numbers of one row."""
    if not isinstance(net, Graph):
        return True
    sees, before = net.fields(), {layer}
    for name in reversed(list(net.nodes)):
        if name in before:
            before.update(net.parents[name])
    return any(
        isinstance(net.nodes[name], Flatten) and sees[net.parents[name][0]]
        for name in before & set(net.nodes)
    )


# A class

CLASS_STEPS, CLASS_RATE = 200, 0.01
CLASS_RULES = Rules(jitter=0.05)


def class_image(
    net: Probe,
    y: int,
    size: tuple[int, int],
    *,
    steps: int = CLASS_STEPS,
    rate: float = CLASS_RATE,
    rules: Rules = CLASS_RULES,
    seed: int = 0,
) -> Iterator[State]:
    """Yield ever better images of class number y; the loss is minus its logit, with what the rules say.

    Not its probability, which other classes made less likely would raise as well (section 2 there).
    """
    like = torch.zeros((), device=engine.device())
    least = None if fixed(net, LOGITS) else net.least
    yield from walk(
        lambda x: -logits(net, x)[:, y],
        size,
        rules,
        steps,
        rate,
        seed,
        like,
        least,
        sees_grey(net, like.expand(1, 3, *size)),
    )


# What a layer has kept

INVERT_STEPS, INVERT_RATE = 300, 0.02
INVERT_RULES = Rules(variation=1.0)


def invert(
    net: Probe,
    x: Tensor,
    layer: str,
    *,
    steps: int = INVERT_STEPS,
    rate: float = INVERT_RATE,
    rules: Rules = INVERT_RULES,
    seed: int = 0,
) -> Iterator[State]:
    """Yield ever better images of which the layer says what it says of x (1, 3, H, W); the loss is their
    relative squared distance there, with the rules."""
    with torch.no_grad():
        wanted = net.outputs(x, [layer])[layer]
    scale = wanted.square().sum().clamp(min=1e-20)

    def far(x: Tensor) -> Tensor:
        return ((net.outputs(x, [layer])[layer] - wanted).square().sum() / scale)[None]

    yield from walk(far, (x.shape[2], x.shape[3]), rules, steps, rate, seed, x, grey=sees_grey(net, x))


def apart(net: Probe, a: Tensor, b: Tensor, layer: str) -> float:
    """How far what a layer says of b is from what it says of a, as a share of the latter's length."""
    with torch.no_grad():
        one, other = (net.outputs(x, [layer])[layer] for x in (a, b))
        return float((one - other).norm() / one.norm().clamp(min=1e-20))


# Dreams

OCTAVES, SCALE = 4, 1.4
DREAM_STEPS, DREAM_RATE = 12, 0.03
"""of each octave; pixels of [-1, 1] move by that much on average in the first step of each, and by nothing in
the last"""
JITTER = 32
"""largest shift in pixels, as there, but never more than an eighth of the side"""
WISHES = ("l2", "mean")
PAIRS = 2**24
"""places of a dream and of its guide, compared at once in memory"""


def dream(
    net: Probe,
    x: Tensor,
    layer: str,
    *,
    steps: int = DREAM_STEPS,
    rate: float = DREAM_RATE,
    octaves: int = OCTAVES,
    wish: str = "l2",
    guide: Tensor | None = None,
    seed: int = 0,
) -> Iterator[State]:
    """Yield x (1, 3, H, W) as it turns into what the layer sees in it; the loss is minus what is to be large.

    wish: l2, the mean squared activation, or mean, the mean one.  guide: an image whose features the dream
    takes up instead, each place those of the guide that it is most like already.
    """
    net.check([layer])
    sizes, noise = (
        octave_sizes(net, layer, (x.shape[2], x.shape[3]), octaves),
        Noise([seed], engine.derive("dream"), x.device),
    )
    like, result = _wish(net, layer, wish, guide), torch.zeros_like(x[..., :1, :1])
    for i, size in enumerate(sizes):
        base = resized(x, size)
        far = min(JITTER, min(size) // 8)

        def loss(at: Tensor, far: int = far) -> Tensor:
            down, right = ((noise.uniform(2)[0] * 2 - 1) * far).round().long().tolist()
            return -like(at.roll((down, right), (2, 3)))

        start = (base + resized(result, size)).clamp(-1, 1)
        for state in minimize(
            [start],
            loss,
            steps,
            rate,
            optimizer=partial(Steepest, norm="mean"),
            hold=lambda at: at.clamp_(-1, 1),
        ):
            yield State((i + state.step / max(steps, 1)) / len(sizes), state.at[0], float(state.loss))
        result = state.at[0] - base


def pleased(net: Probe, x: Tensor, layer: str, wish: str = "l2", guide: Tensor | None = None) -> float:
    """What a dream of this layer wants to be large."""
    with torch.no_grad():
        return float(_wish(net, layer, wish, guide)(x))


def usual_layer(net: Probe) -> str:
    """Two thirds of the way down, where a network sees parts of things."""
    whole = [name for name in net.layers if name not in net.lost]
    able = [name for name in whole if len(net.layers[name]) == 3]
    if not able or becomes_tokens(net, able[-1]):
        able = [name for name in whole if "norm" not in name] or whole  # what is normalised cannot grow
    return able[len(able) * 2 // 3]


def octave_sizes(net: Probe, layer: str, size: tuple[int, int], octaves: int) -> list[tuple[int, int]]:
    """From small to `size` (height, width), each SCALE times the one before, and none smaller than the
    network can look at for this layer."""
    if fixed(net, layer):
        return [size]
    sizes = [(round(size[0] / SCALE**k), round(size[1] / SCALE**k)) for k in range(octaves)]
    return [s for s in sizes if s == size or min(s) >= net.least][::-1]


def _wish(net: Probe, layer: str, wish: str, guide: Tensor | None) -> Callable[[Tensor], Tensor]:
    """What is to be large, (1,)."""
    if wish not in WISHES:
        raise Refusal(
            f"a dream wants a layer's activations large as one of {', '.join(WISHES)}, and not as {wish!r}."
        )
    if guide is None:
        power = 2 if wish == "l2" else 1
        return lambda x: net.outputs(x, [layer])[layer].pow(power).flatten(1).mean(1)
    with torch.no_grad():
        others = _places(net.outputs(guide, [layer])[layer])

    def alike(x: Tensor) -> Tensor:
        own = _places(net.outputs(x, [layer])[layer])
        # who is most alike has no slope, and all pairs of places of an early layer would be 27 GB
        with torch.no_grad():
            best = torch.cat(
                [(some @ others.T).argmax(1) for some in own.split(max(1, PAIRS // len(others)))]
            )
        return (own * others[best]).sum(1).mean()[None]

    return alike


def _places(y: Tensor) -> Tensor:
    """(1, C, ...) to a row for each place."""
    return y[0].flatten(1).T if y.ndim > 2 else y
