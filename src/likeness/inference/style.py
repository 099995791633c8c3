"""A picture with the content of a photograph in the style of a painting, by walking down a loss.

Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016: x* = argmin
L(x), with L of style_loss.py, from the photograph or from noise.

    small to large   each size begins with the result of half of it (Gatys et al., "Controlling Perceptual
                     Factors in Neural Style Transfer", 2017, section 6): strokes are as wide as the smallest
                     size allows
    several styles   A = sum_k share_k A_k; up to a constant that is the sum of their losses
    colours kept     Gatys et al., "Preserving Color in Neural Artistic Style Transfer", 2016: only luminance
                     is transferred; or the style's colours are first moved to the mean and the covariance of
                     the content's, by the symmetric root
    pooling          the mean instead of the maximum, as in the paper

Departure: pixels are cut off at black and white only in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from .. import engine
from ..backbones.resize import resized
from ..core import Diverged, Noise, Refusal, final
from ..engine.minimize import LBFGS, minimize
from ..parts.perceptual import Perceptual
from . import style_loss
from .style_loss import Goal, Objective, Terms

LAYERS: dict[str, tuple[tuple[str, ...], str]] = {
    "vgg16": (("block1_conv2", "block2_conv2", "block3_conv3"), "block3_conv3"),
    "vgg19": (
        ("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1"),
        "block4_conv2",
    ),
}
"""of the style and of the content: Gatys' of VGG19, and of VGG16 the first three that Johnson measures style
with"""
OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], float]] = dict(lbfgs=(LBFGS, 0.1), adam=(Adam, 0.05))
"""with the first step of a pixel, black to white being 2"""
NETWORKS = ("vgg16", "vgg19")
COLOURS = ("style", "luminance", "histogram")
STARTS = ("content", "noise")
OPTIMIZED = ("lbfgs", "adam")
SMALLEST = 128
"""pixels of the long side of the first size"""
LEAST = 32
"""pixels a side that an image must have"""
PAIRS, FEWER = 20, 8
"""of vectors that L-BFGS keeps, of images of up to MANY pixels and of larger ones"""
MANY = 512 * 512
OUTSIDE = 1.0
"""weight of what lies beyond black and white: 0.1 does less, 10 no more"""
STEPS = 60
CONTENT_WEIGHT = 0.03
SHEET_WEIGHTS, SHEET_STROKES = (0.003, 0.03, 0.3), (0.5, 1.0, 2.0)
"""of the sheet's columns and rows"""
SHEET_SIDE, SHEET_STEPS = 192, 40
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""rows: luminance, and the two colours of NTSC"""


@dataclass(frozen=True)
class How:
    """Settings of a transfer; the flags of `likeness style`."""

    content_weight: float = CONTENT_WEIGHT
    style_weight: float = 1.0
    variation: float = 0.0
    """weight of the total variation"""
    shares: tuple[float, ...] = ()
    """of the styles; equal where there are none"""
    strokes: float = 1.0
    """long side of a painting over that of the result: larger widens its strokes"""
    steps: int = STEPS
    """evaluations of the gradient at each size"""
    optimizer: str = "lbfgs"
    start: str = "content"
    colour: str = "style"
    coarse: bool = True
    """from small to large"""
    style_layers: tuple[str, ...] = ()
    content_layer: str = ""
    network: str = "vgg16"
    seed: int = 0
    memory: float = 2.0
    """GB that the process may hold"""
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZED),
            ("colour", self.colour, COLOURS),
            ("start", self.start, STARTS),
            ("network", self.network, NETWORKS),
            ("precision", self.precision, ("auto", "fp32", "bf16")),
        ):
            if value not in known:
                raise Refusal(f"style: --{name} is one of {', '.join(known)}, and not {value!r}.")
        weights = dict(
            content_weight=self.content_weight, style_weight=self.style_weight, variation=self.variation
        )
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise Refusal(f"style: --{name.replace('_', '-')} {weight} is not 0 or more.")
        if not self.content_weight and not self.style_weight:
            raise Refusal("style: with neither --content-weight nor --style-weight there is nothing to do.")
        if not 0.1 <= self.strokes <= 8:
            raise Refusal(f"style: --strokes {self.strokes:g} is not between 0.1 and 8.")
        if not 0 < self.memory < math.inf:
            raise Refusal(f"style: --memory {self.memory:g} is not above 0; type GB, such as --memory 2.")
        if not all(0 <= share < math.inf for share in self.shares):
            raise Refusal(
                f"style: --shares {' '.join(f'{share:g}' for share in self.shares)} are not all numbers of 0 "
                "or more; type one for each painting, such as --shares 2 1."
            )

    @property
    def of_style(self) -> tuple[str, ...]:
        return self.style_layers or LAYERS[self.network][0]

    @property
    def of_content(self) -> str:
        return self.content_layer or LAYERS[self.network][1]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.of_style, *([self.of_content] if self.content_weight else [])]))

    def open(self, weights: str = "") -> Perceptual:
        """The network; weights as in Perceptual.  Raises what that raises."""
        net = Perceptual(self.network, self.layers, weights=weights, seed=self.seed, pooling="average")
        net.hurry()
        return net


class State(NamedTuple):
    """A place on the way."""

    share: float
    """of the way that is behind"""
    x: Tensor
    """(1, 3, H, W) in [-1, 1]: the best so far of its size, with its colours"""
    step: int
    """evaluations made, over all sizes"""
    loss: float
    terms: Terms
    size: tuple[int, int]
    """(H, W) of this stage"""


@dataclass
class Plan:
    """What a transfer will take."""

    sizes: list[tuple[int, int]]
    rows: list[int]
    """of the strips of each size; 0 is the whole image at once"""
    gigabytes: float
    """the most that the process will hold, about"""
    bf16: bool
    beside: float = 0.0
    """GB of the paintings as they were opened"""


def style(
    net: Perceptual, content: Tensor, styles: Sequence[Tensor], how: How, plan: Plan | None = None
) -> Iterator[State]:
    """Yield the picture as it turns into `content` (1, 3, H, W) in the styles (1, 3, h, w), all in [-1, 1].

    Raises Refusal for images that are too small for the network and shares that do not fit.
    """
    shares, x, done = shared(how, len(styles)), None, 0
    for image in (content, *styles):
        large_enough(image)
    high, wide = content.shape[2:]
    plan = plan or planned(net, (high, wide), how, [s.shape[2:] for s in styles])
    grey, paintings = prepared(content, styles, how.colour)
    for size, rows in zip(plan.sizes, plan.rows):
        target = resized(grey, size)
        x = started(target, how) if x is None else resized(x, size)
        side = painted(size, how)
        goal = aim(net, target, (with_long_side(s, side) for s in paintings), shares, how, rows, plan.beside)
        objective = Objective(net, goal, rows, plan.bf16)
        optimizer, rate = OPTIMIZERS[how.optimizer]
        options = dict(history=pairs(size)) if how.optimizer == "lbfgs" else {}
        lowest, terms = math.inf, Terms(math.nan, math.nan, math.nan)
        for state in minimize([x], objective, how.steps, rate, optimizer=partial(optimizer, **options)):
            loss = float(state.loss.sum())
            if loss < lowest:
                lowest, x, terms = loss, state.at[0], objective.terms
            if not math.isfinite(lowest):
                raise Diverged(no_number(objective.terms, how, done + state.step, plan.bf16))
            share = (done + state.step) / max(1, how.steps * len(plan.sizes))
            shown = coloured(x, resized(content, size), how).clamp(-1, 1)
            yield State(share, shown, done + state.step, lowest, terms, size)
        done += how.steps


def no_number(terms: Terms, how: How, step: int, bf16: bool) -> str:
    """What to say where the loss of a place is no finite number, and neither was any before it."""
    weights = (how.style_weight, how.content_weight, how.variation)
    parts = [(name, x, w) for (name, x), w in zip(terms._asdict().items(), weights)]
    bad = [part for part in parts if not abs(part[1] * part[2]) <= torch.finfo(torch.float32).max] or parts
    terms_of = ", ".join(f"{name} {x:g} at weight {w:g}" for name, x, w in bad)
    cure = "; --precision fp32 holds larger numbers" if bf16 else ""
    return (
        f"style: the loss is no finite number at step {step} ({terms_of}).  Type lower weights, or name "
        f"other images, or another file with --weights{cure}."
    )


def aim(
    net: Perceptual,
    target: Tensor,
    paintings: Iterable[Tensor],
    shares: Sequence[float],
    how: How,
    rows: int,
    beside: float = 0.0,
) -> Goal:
    """Gram matrices of the paintings, each by its share, and the content's features: both in fp32.  rows: of
    the strips of the content; a painting has its own, by its size.  beside: as Plan has it."""
    blended = dict[str, Tensor]()
    for share, painting in zip(shares, paintings):
        held = beside + IMAGES * image_gb(target.shape[2:])
        strip, _ = strip_of_painting(net, painting.shape[2:], how, held)
        for name, g in style_loss.grams(net, painting, how.of_style, strip).items():
            blended[name] = blended.get(name, 0) + share * g
    content = (
        style_loss.features(net, target, [how.of_content], rows)
        if how.content_weight
        else dict[str, Tensor]()
    )
    equal = dict.fromkeys(how.of_style, 1.0)
    return Goal(blended, content, how.style_weight, how.content_weight, how.variation, equal, OUTSIDE)


def started(target: Tensor, how: How) -> Tensor:
    if how.start == "content":
        return target.clone()
    noise = Noise([how.seed], engine.derive("style"), target.device)
    return 0.3 * noise.normal(*target.shape[1:]).to(target)


def shared(how: How, n: int) -> list[float]:
    """The shares of n styles, which add up to 1."""
    given = list(how.shares) or [1.0] * n
    if len(given) != n or not 0 < sum(given) < math.inf:
        raise Refusal(
            f"style: {n} painting{'s have' if n > 1 else ' has'} {len(given)} --shares; type one number "
            "for each, 0 or more and not all 0, such as --shares 2 1."
        )
    return [share / sum(given) for share in given]


def large_enough(x: Tensor, name: str = "an image") -> None:
    if min(x.shape[2:]) < LEAST:
        raise Refusal(
            f"{name} has {x.shape[3]}x{x.shape[2]} pixels, which is too small to have a style or a content; "
            f"{LEAST} a side are needed."
        )


# Sizes and memory


def planned(
    net: Perceptual, size: tuple[int, int], how: How, paintings: Sequence[Sequence[int]] = ((1, 1),)
) -> Plan:
    """Sizes (H, W) up to `size`, each of them in strips that fit into the memory.  paintings: sizes (h, w) as
    they were opened; what the network sees of each is `strokes` times as long as the result at hand."""
    sizes, bf16 = [size], how.precision == "bf16" or (how.precision == "auto" and engine.native_bf16())
    while how.coarse and max(sizes[0]) > SMALLEST * 1.5 and min(sizes[0]) // 2 >= LEAST:
        high, wide = sizes[0]
        sizes.insert(0, (round(high / 2), round(wide / 2)))
    beside = (1 if how.colour == "style" else 2) * sum(map(image_gb, paintings))
    rows, most = list[int](), 0.0
    for one in sizes:
        strip, held = strip_for(net, one, how, bf16, beside)
        rows.append(0 if strip >= one[0] else strip)
        shown = (scaled(painting, painted(one, how)) for painting in paintings)
        other = beside + IMAGES * image_gb(one)
        most = max(most, held, *(strip_of_painting(net, painting, how, other)[1] for painting in shown))
    return Plan(sizes, rows, most, bf16, beside)


BASE = 0.45
"""GB of the process before it has an image: PyTorch itself, and buffers of its products"""


IMAGES = 14
"""of the size at hand that the optimiser, the walk and its states hold beside these pairs"""


def pairs(size: tuple[int, int]) -> int:
    return PAIRS if size[0] * size[1] <= MANY else FEWER


def strip_for(
    net: Perceptual, size: tuple[int, int], how: How, bf16: bool, beside: float = 0.0
) -> tuple[int, float]:
    """The most rows that may be looked at together, and the GB that the process then holds."""
    high, wide = size
    fixed = BASE + beside + net.weights_gb() + image_gb(size) * (2 * pairs(size) + IMAGES)
    if how.content_weight:
        fixed += net.width(how.of_content) * high * wide / net.stride(how.of_content) ** 2 * 4 / 1e9
    return _strip(net, size, fixed, net.bytes_a_pixel(bf16), how.memory)


def strip_of_painting(net: Perceptual, size: Sequence[int], how: How, held: float) -> tuple[int, float]:
    """The same for the Gram matrices of a painting of this size (h, w), through which no gradient goes.
    held: GB of the images that are there meanwhile."""
    fixed = BASE + held + net.weights_gb() + 2 * image_gb(size)
    return _strip(net, size, fixed, net.bytes_a_pixel(gradient=False), how.memory)


def image_gb(size: Sequence[int]) -> float:
    """Of an image (H, W) of three channels in fp32."""
    return 12 * size[0] * size[1] / 1e9


def _strip(
    net: Perceptual, size: Sequence[int], fixed: float, bytes_a_pixel: float, memory: float
) -> tuple[int, float]:
    """Rows and GB, where `fixed` GB are held besides what the network has of the rows."""
    high, wide = size
    each = bytes_a_pixel * wide / 1e9
    halo = 2 * max(net.halo(name) for name in net.layers)
    stride = max(net.stride(name) for name in net.layers)
    if fixed + high * each <= memory:
        return high, fixed + high * each
    rows = int(((memory - fixed) / each - halo) // stride * stride)
    if rows < 2 * halo:  # below that most of the work is on rows around
        rows = max(stride, min(2 * halo // stride * stride, high))
    return rows, fixed + min(high, rows + halo) * each


# Colours


def grey_of(x: Tensor) -> Tensor:
    """Luminance in each of the three channels."""
    weights = x.new_tensor(YIQ[0]).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()


def like_luminance(style: Tensor, content: Tensor) -> Tensor:
    """With the mean and the deviation of the content's (Gatys 2016b, eq. 10)."""
    return (style - style.mean()) / style.std().clamp(min=1e-6) * content.std() + content.mean()


def like_colours(style: Tensor, content: Tensor) -> Tensor:
    """The style's pixels with mean and covariance of the content's (Gatys 2016b, eq. 5)."""
    a, b = (x[0].flatten(1).double() for x in (style, content))
    matrix = _root(torch.cov(b)) @ _root(torch.cov(a), -0.5)
    result = matrix @ (a - a.mean(1, keepdim=True)) + b.mean(1, keepdim=True)
    return result.to(style).view_as(style).clamp(-1, 1)


def _root(covariance: Tensor, power: float = 0.5) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values.clamp(min=1e-5) ** power) @ vectors.T


def prepared(content: Tensor, styles: Sequence[Tensor], colour: str) -> tuple[Tensor, list[Tensor]]:
    """Content and styles as they are compared, where colours are kept in one of COLOURS."""
    if colour == "luminance":
        grey = grey_of(content)
        return grey, [like_luminance(grey_of(one), grey) for one in styles]
    return content, [like_colours(one, content) for one in styles] if colour == "histogram" else list(styles)


def coloured(x: Tensor, content: Tensor, how: How) -> Tensor:
    """Luminance of x with the colours of the content, where these are kept so."""
    if how.colour != "luminance":
        return x
    yiq = x.new_tensor(YIQ)
    both = torch.einsum("oc,bchw->bohw", yiq, content)
    both[:, :1] = torch.einsum("c,bchw->bhw", yiq[0], x)[:, None]
    return torch.einsum("oc,bchw->bohw", torch.linalg.inv(yiq), both)


# Images


def with_long_side(x: Tensor, side: int) -> Tensor:
    """In its own proportions, its short side no shorter than LEAST."""
    return resized(x, scaled(x.shape[2:], side))


def scaled(size: Sequence[int], side: int) -> tuple[int, int]:
    """(H, W) of an image of this size with that long side, in its own proportions, no side shorter than
    LEAST."""
    high, wide = size
    share = max(side / max(high, wide), LEAST / min(high, wide))
    return max(1, round(high * share)), max(1, round(wide * share))


def painted(size: tuple[int, int], how: How) -> int:
    """Pixels of the long side of the paintings that belong to a result of this size."""
    return round(max(size) * how.strokes)


def is_grey(x: Tensor) -> bool:
    """Whether its channels are one."""
    return float((x.amax(1) - x.amin(1)).max()) < 3 / 127.5


def sheet(
    net: Perceptual, content: Tensor, styles: Sequence[Tensor], how: How
) -> Iterator[tuple[How, Tensor]]:
    """Small results for each of SHEET_WEIGHTS (columns) and SHEET_STROKES (rows), row by row, with the
    settings of each."""
    small = with_long_side(content, min(SHEET_SIDE, max(content.shape[2:])))
    for strokes in SHEET_STROKES:
        for weight in SHEET_WEIGHTS:
            one = replace(how, content_weight=weight, strokes=strokes, steps=min(how.steps, SHEET_STEPS))
            yield one, final(style(net, small, styles, one)).x
