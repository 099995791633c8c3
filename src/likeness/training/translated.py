"""What goes wrong where a model makes images of others: rules over sources, outputs and targets, and the probe.

    inverted colours    luminance runs against that of the source, where pairs, or the two domains, say that it
                        runs along with it; or the other way round
    copies its source   the output is the source, where there is something to change
    collapsed output    outputs of different sources are the same
    checkerboard        outputs have a period of two or four pixels that real images have not (Odena, Dumoulin & Olah 2016)
    style weight too low, content weight too low    of style transfer, by the terms of its loss

No rule knows a model.  Images are float tensors (n, C, H, W) in [-1, 1].
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import engine
from ..core import Condition, Model, Samples, Translates, final
from ..data import Data, picture
from ..metrics import translation
from .symptoms import FEW, LASTING, LONGER, SLOWER, Finding, Line, course, energy

SHOWN, DRAWN = 128, 32
"""sources that are translated, and those for which a sampler of many steps draws"""
SMALL = 8
"""pixels a side at which luminance is compared: shapes, not texture"""
AGAINST = 0.3
"""correlation of luminances, at least, on either side, before two of other signs are called inverted"""
NEARER = 0.5
"""times the distance of sources from targets in the one polarity, at most, that in the other"""
COPY, NEAR = 0.25, 0.1
"""of the change that pairs ask for, and of the usual difference between domains, that a copy has at most"""
CHANGE = 2.0
"""levels that targets differ from sources, at least, and times the distance of real targets from others: else
a copy is the answer"""
SAME = 0.02
"""variance over sources of outputs against that of targets, at most: blurred ones have a tenth and more"""
PEAK, VISIBLE = 6.0, 0.25
"""power at a period of 2 or 4 pixels in that of nearby frequencies, in terms of real images, and levels of
its amplitude, at least"""
UNHEARD, INTACT = 0.8, 0.3
"""of the style distance that photos themselves have, at least, at so much content lost, at most"""
LOST, MET = 3.0, 0.02
"""times a photo's own content that is lost, at least, at so much of that style distance, at most: 1 and 0.06
in a run that is well"""


class Translated(NamedTuple):
    source: Tensor
    """(n, C', H', W'), in the form of a target (translation.identity)"""
    output: Tensor
    """of each"""
    target: Tensor
    """of each where `paired`, else real targets (m, C', H', W')"""
    paired: bool
    enlarged: bool = False
    """sources were smaller"""
    told: bool = True
    """targets are what outputs should look like; not so of style transfer, which has sources alone"""


def probe(data: Data, model: Model, draws: bool) -> Translated | None:
    """What a model makes of held-out sources (training ones where none were held out); None of one that makes
    no image of another.  draws: also by drawing, in as many steps as that takes."""
    spec = model.spec
    told = "image" in spec.parts(model.takes)
    if not spec.levels or spec.frames or spec.symbols:
        return None
    if not isinstance(model, Translates) and not (draws and told and isinstance(model, Samples)):
        return None
    n = SHOWN if isinstance(model, Translates) else DRAWN
    rows = _chosen(data.held_out if len(data.held_out) >= FEW else data.train, n)
    target = picture(np.asarray(data.x[rows]))
    if told and data.pairs is None:
        assert data.other is not None
        there = data.other.held_out if len(data.other.held_out) >= FEW else data.other.train
        source = picture(np.asarray(data.other.x[_chosen(there, n)]))
    else:
        source = picture(np.asarray(data.pairs[rows])) if told and data.pairs is not None else target
    alike = translation.identity(source, spec.channels, spec.size)
    output = _made(model, source, data, rows)
    if output.shape[1:] != target.shape[1:] or not output.isfinite().all():
        return None
    return Translated(
        alike, output, target, told and data.pairs is not None, told and spec.source[1] < spec.size, told
    )


@torch.no_grad()
def _made(model: Any, source: Tensor, data: Data, rows: np.ndarray) -> Tensor:
    parts = []
    for i in range(0, len(source), DRAWN):
        part = source[i : i + DRAWN].to(engine.device())
        if isinstance(model, Translates):
            out = model.translate(part)
        else:
            told = data.take(rows[i : i + DRAWN]).y
            label = told.label if told is not None and "label" in model.takes else None
            y = Condition(label, image=source[i : i + DRAWN]).to(engine.device())
            out = final(model.sample(engine.sampling_noise(0, i, len(part)), y))
        parts.append(out.float().cpu().clamp(-1, 1))
    return torch.cat(parts)


def _chosen(rows: np.ndarray, n: int) -> np.ndarray:
    return rows if len(rows) <= n else np.random.default_rng(0xD0C).permutation(rows)[:n]


def findings(t: Translated) -> Iterator[Finding | None]:
    """Of what is the same for every source nothing more is said."""
    if len(t.output) < FEW or len(t.target) < FEW:
        return
    alike = collapsed(t)
    yield alike
    if alike is None:
        yield copied(t)
        yield inverted(t)
    if t.told:
        yield checkered(t.output, t.target)


# Rules of images


def collapsed(t: Translated) -> Finding | None:
    """Variance over sources, summed over pixels."""
    ours, wanted = (float(x.double().var(0).sum()) for x in (t.output, t.target))
    if ours > SAME * wanted:
        return None
    evidence = (
        f"translations of {len(t.output)} sources have {ours / max(wanted, 1e-12):.2g} of the variance of "
        "real targets: each becomes the same image"
    )
    remedies = ("--parts full", "--cycle 10", "--adversarial cgan", "--l1 100", SLOWER, LONGER)
    return Finding("collapsed output", evidence, remedies)


def copied(t: Translated) -> Finding | None:
    """Of an enlargement nothing is said: to keep the source is what it is for."""
    if t.enlarged:
        return None
    if t.paired:
        moved, wanted = (float(translation.mae(x, t.source).mean()) for x in (t.output, t.target))
        if wanted < CHANGE or moved > COPY * wanted:
            return None
        evidence = (
            f"outputs are {moved:.2g} levels from their sources, and targets {wanted:.2g}: nothing is changed"
        )
    else:
        n = min(len(t.source), len(t.target))
        moved = float(translation.mae(t.output, t.source).mean())
        usual = float(translation.mae(t.source[:n], t.target[:n]).mean())
        half = len(t.target) // 2
        a, b = _rows(t.source), _rows(t.target)
        apart, floor = energy(a, b), abs(energy(b[:half], b[half:]))
        if moved > NEAR * usual or apart <= CHANGE * floor or usual < CHANGE:
            return None
        evidence = (
            f"outputs are {moved:.2g} levels from their sources, and images of the two domains {usual:.2g} "
            "from each other: nothing is changed"
        )
    return Finding(
        "copies its source",
        evidence,
        ("--parts full", "--identity 0", "--adversarial cgan", "--l1 100", LONGER),
    )


def inverted(t: Translated) -> Finding | None:
    ours, wanted, why = along(t.source, t.output), 0.0, ""
    if t.paired:
        wanted = along(t.source, t.target)
        why = f"that of their targets by {wanted:+.2f}"
    elif (sign := polarity(t.source, t.target)) != 0:
        wanted = float(sign)
        why = f"and the domains fit each other {'upright' if sign > 0 else 'inverted'}"
    if ours * wanted >= 0 or min(abs(ours), abs(wanted)) < AGAINST:
        return None
    evidence = f"the luminance of outputs goes with that of their sources by {ours:+.2f}, {why}"
    return Finding("inverted colours", evidence, ("--identity 5", "--l1 100", SLOWER, LONGER))


def along(a: Tensor, b: Tensor) -> float:
    """The mean correlation of the luminances of two images, (n, C, H, W) each, over SMALL x SMALL places; 0
    where one of them is flat."""
    x, y = (_grey(side).flatten(1).double() for side in (a, b))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    size = x.norm(dim=1) * y.norm(dim=1)
    there = size > 1e-4 * x.shape[1]
    return float(((x * y).sum(1) / size.clamp(min=1e-12) * there).mean())


def polarity(a: Tensor, b: Tensor) -> int:
    """1 where images of a are like those of b as they are, -1 where their negatives are, 0 where that makes
    no difference, or two signs disagree: which levels of luminance are frequent, and where it is bright."""
    half, signs = len(b) // 2, 0
    ways = zip(_unlike(a, b), _unlike(-a, b), _unlike(b[:half], b[half:]))
    for upright, negative, chance in ways:
        if abs(upright - negative) > chance and min(upright, negative) < NEARER * max(upright, negative):
            signs += 1 if upright < negative else -1
    return (signs > 0) - (signs < 0)


def _unlike(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Wasserstein distance of the luminances, and mean difference of the mean images, each with mean 0 and
    variance 1."""
    x, y = ((side - side.mean()) / side.std().clamp(min=1e-6) for side in map(_grey, (a, b)))
    at = torch.linspace(0, 1, 200)
    levels = (x.flatten()[:100_000].quantile(at) - y.flatten()[:100_000].quantile(at)).abs().mean()
    return float(levels), float((x.mean(0) - y.mean(0)).abs().mean())


def checkered(output: Tensor, real: Tensor) -> Finding | None:
    """A period of two pixels, or of four where images have 32 and more: transposed convolutions of a stride,
    whose kernels overlap unevenly, leave it."""
    # the longer first: its second harmonic has the shorter one
    for period in (4, 2) if output.shape[-1] >= 32 else (2,):
        ours, amplitude = peak(output, period)
        usual = max(1.0, peak(real, period)[0])
        if ours > PEAK * usual and amplitude > VISIBLE:
            evidence = (
                f"outputs have {ours:.3g} times the power of nearby frequencies at a period of {period} "
                f"pixels (real images {usual:.3g}), an amplitude of {amplitude:.2g} levels"
            )
            return Finding("checkerboard", evidence, ("--l1 100", LONGER, SLOWER))
    return None


def peak(x: Tensor, period: int) -> tuple[float, float]:
    """The most power of the luminance at frequencies of 0 or 1 / period in either direction, but for 0 in
    both, as a share of the median power 2 to 4 places away; and its amplitude in levels.  0 and 0 of images
    below 16 pixels."""
    size = min(x.shape[-2:]) // period * period
    if size < 16:
        return 0.0, 0.0
    window = torch.hann_window(size, dtype=torch.float64)
    grey = x[..., :size, :size].double().mean(1)
    grey = (grey - grey.mean((1, 2), keepdim=True)) * window * window[:, None]
    power = torch.fft.fft2(grey).abs().square().mean(0)
    k, best, amplitude = size // period, 0.0, 0.0
    offsets = [(i, j) for i in range(-4, 5) for j in range(-4, 5) if max(abs(i), abs(j)) >= 2]
    for u, v in ((0, k), (k, 0), (k, k)):
        around = [
            power[(u + i) % size, (v + j) % size]
            for i, j in offsets
            if min((u + i) % size, size - (u + i) % size) + min((v + j) % size, size - (v + j) % size) > 3
        ]
        share = float(power[u, v] / torch.stack(around).median().clamp(min=1e-12))
        if share > best:
            best = share
            amplitude = float(power[u, v].sqrt() / window.sum() ** 2) / translation.LEVEL
    return best, amplitude


def _grey(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x.float().mean(1, keepdim=True), min(SMALL, x.shape[-1]))


def _rows(x: Tensor) -> np.ndarray:
    """float64 (n, d) at SMALL pixels a side."""
    return F.adaptive_avg_pool2d(x.float(), min(SMALL, x.shape[-1])).flatten(1).double().numpy()


# Rules of the log


def weighed(lines: Sequence[Line], guess: Mapping[str, float] = {}) -> Finding | None:
    """Of the terms "content" and "style", both relative: 0 is met.  guess: the style distance of photos as
    they are."""
    content, style = (course(lines[-LASTING:], name) for name in ("content", "style"))
    if min(len(content), len(style)) < LASTING:
        return None
    if (chance := guess.get("style")) and (style > UNHEARD * chance).all() and content.max() < INTACT:
        evidence = (
            f"the style is {style.mean():.3g} away, photos as they are {chance:.3g}, and contents "
            f"{content.mean():.2g}: pictures stay photos"
        )
        return Finding("style weight too low", evidence, ("--style-weight {heavier:g}", LONGER))
    if chance and (content > LOST).all() and style.max() < MET * chance:
        evidence = (
            f"contents are {content.mean():.2g} times themselves away, and the style is {style.mean():.2g} "
            f"away, of {chance:.2g} in photos as they are: nothing is left of the photo"
        )
        return Finding("content weight too low", evidence, ("--content-weight {fuller:g}", SLOWER))
    return None
