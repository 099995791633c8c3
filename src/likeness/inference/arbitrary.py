"""The style of any painting at once: the statistics of features are moved, and a decoder makes an image of them.

    adain    deviation(s) (c - mean(c)) / deviation(c) + mean(s)      Huang & Belongie, "Arbitrary Style Transfer in
             of each channel                                          Real-time with Adaptive Instance Normalization",
                                                                      ICCV 2017, eq. 8
    wct      the covariance of all channels as well: E_s D_s^1/2 E_s' E_c D_c^-1/2 E_c' (c - mean(c)) + mean(s)
                                                                      Li et al., "Universal Style Transfer via Feature
                                                                      Transforms", NeurIPS 2017, eq. 1, 2

wct goes from the deepest of five encoders to the first, each time on the image that the last decoder made (their
section 3.3).  adain does the same here, since these decoders belong to one encoder each; Huang & Belongie have one
decoder.  The networks are VGG19 and its decoders, distilled to a sixteenth by Wang et al. ("Collaborative
Distillation for Ultra-Resolution Universal Style Transfer", CVPR 2020): nothing is trained here.  A run of
models/adain.py does the same with the one decoder that it has learnt.
"""  # noqa: E501

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .. import engine
from ..backbones.weights import places
from ..core import BadData, Offline, Refusal, Stylises, ask
from ..runs.run import Run, is_run
from . import style as optimised

KINDS = ("adain", "wct")
ENCODERS, DECODERS = (
    "wct_distilled_vgg19_encoders_f16.safetensors",
    "wct_distilled_decoders_f16.safetensors",
)
SOURCE = (
    "github.com/MingSun-Tse/Collaborative-Distillation, trained_models/wct_se_16x_new and wct_se_16x_new_sd"
)
DEPTHS = (2, 2, 4, 4, 4)
"""convolutions of each block"""
EIGENVALUE = 1e-5
"""below which a direction of the features counts as absent (Li et al.'s code)"""


@dataclass(frozen=True)
class Trained:
    """A model that was trained for it."""

    model: Stylises
    source: str


@dataclass(frozen=True)
class Networks:
    kind: str
    encoders: Mapping[str, Tensor]
    decoders: Mapping[str, Tensor]
    source: str


def opened(what: str, encoders: str = "", decoders: str = "") -> Networks | Trained:
    """The networks of one of KINDS, or the run in a folder, which has its own.  Raises what opening these
    raises, and Refusal for files beside a run."""
    if what in KINDS:
        return open_networks(what, encoders, decoders)
    if encoders or decoders:
        raise Refusal(
            f"--encoders and --decoders belong to --arbitrary {' or '.join(KINDS)}; a run has its own, so "
            "leave them out."
        )
    return open_run(what)


def open_run(folder: str) -> Trained:
    """Raises Refusal for what is no run, and for one of a model that does not stylise."""
    if not is_run(Path(os.path.expanduser(folder))):
        raise Refusal(
            f"--arbitrary is one of {', '.join(KINDS)}, or the folder of a run of adain; "
            f"{folder!r} is neither."
        )
    run = Run.open(Path(os.path.expanduser(folder)))
    ask(run.model, "stylise", "likeness train adain photos/ --to paintings/ makes one that does.")
    assert isinstance(run.model, Stylises)
    return Trained(run.model, f"{run.folder.name}, {run.seen} images seen")


def open_networks(kind: str, encoders: str = "", decoders: str = "") -> Networks:
    """Raises Refusal for another kind, Offline where the files are not named and not there, BadData for files
    that are something else."""
    if kind not in KINDS:
        raise Refusal(f"--arbitrary is one of {', '.join(KINDS)}, and not {kind!r}.")
    files = [_file(encoders, ENCODERS, "--encoders"), _file(decoders, DECODERS, "--decoders")]
    both = [_tensors(file) for file in files]
    for tensors, file, first in zip(both, files, ("e5.conv51.weight", "d5.conv51.weight")):
        if first not in tensors:
            raise BadData(f"{file} has no {first}: it holds other networks; name one from {SOURCE}.")
    return Networks(kind, both[0], both[1], ", ".join(file.name for file in files))


def _file(named: str, usual: str, flag: str) -> Path:
    if named:
        return Path(os.path.expanduser(named))
    there = next((place / usual for place in places() if (place / usual).is_file()), None)
    if there is None:
        raise Offline(
            f"--arbitrary needs {usual}, which is not on this machine; make it from {SOURCE}, put it into "
            f"weights/ of the folder that LIKENESS_DATA names, or type {flag} FILE; without --arbitrary the "
            "style is optimised instead."
        )
    return there


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return {name: x.float().to(engine.device()) for name, x in load_file(path).items()}
    except (OSError, SafetensorError, ValueError) as why:
        raise BadData(f"{path} cannot be read as weights ({str(why)[:200]}); name another file.") from None


def _conv(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    pad = weight.shape[2] // 2
    return F.conv2d(F.pad(x, [pad] * 4, mode="reflect") if pad else x, weight, bias)


def encode(nets: Networks, x: Tensor, level: int) -> Tensor:
    """The output of relu<level>_1, (1, C, H', W'), for an image in [-1, 1]."""
    e, y = f"e{level}", (x + 1) / 2
    y = _conv(y, nets.encoders, f"{e}.conv0")
    for block in range(1, level + 1):
        for i in range(1, (1 if block == level else DEPTHS[block - 1]) + 1):
            y = F.relu_(_conv(y, nets.encoders, f"{e}.conv{block}{i}"))
        y = F.max_pool2d(y, 2) if block < level else y
    return y


def decode(nets: Networks, y: Tensor, level: int) -> Tensor:
    """An image in [-1, 1] of features of that level."""
    for block in range(level, 0, -1):
        first = 1 if block == level else DEPTHS[block - 1]
        for i in range(first, 0, -1):
            y = _conv(y, nets.decoders, f"d{level}.conv{block}{i}")
            y = y if block == i == 1 else F.relu_(y)
        y = F.interpolate(y, scale_factor=2, mode="nearest") if block > 1 else y
    return y * 2 - 1


@torch.no_grad()
def stylise(
    nets: Networks | Trained,
    content: Tensor,
    styles: Sequence[Tensor],
    shares: Sequence[float] = (),
    strength: float = 1.0,
    colour: str = "style",
) -> Tensor:
    """The content (1, 3, H, W) in the styles (1, 3, h, w), all in [-1, 1]; strength 0 leaves the features as
    they are.  Raises Refusal for shares or a strength that do not fit."""
    if not 0 <= strength <= 1:
        raise Refusal(f"--strength {strength:g} is not between 0 and 1.")
    how = optimised.How(shares=tuple(shares), colour=colour)
    parts = optimised.shared(how, len(styles))
    grey, paintings = optimised.prepared(content, styles, colour)
    if isinstance(nets, Trained):
        x = nets.model.stylise(grey, paintings, parts, strength).expand(-1, 3, -1, -1)
        return optimised.coloured(x, content, how).clamp(-1, 1)
    x, (high, wide) = grey, content.shape[2:]
    move = adain if nets.kind == "adain" else wct
    for level in (5, 4, 3, 2, 1):
        c = encode(nets, x, level)
        moved = sum(share * move(c, encode(nets, s, level)) for share, s in zip(parts, paintings) if share)
        assert isinstance(moved, Tensor)
        x = decode(nets, strength * moved + (1 - strength) * c, level).clamp(-1, 1)
        x = F.pad(x, [0, max(0, wide - x.shape[3]), 0, max(0, high - x.shape[2])], mode="replicate")
        x = x[:, :, :high, :wide]
    return optimised.coloured(x, content, how).clamp(-1, 1)


def adain(c: Tensor, s: Tensor) -> Tensor:
    """Each channel of c (1, C, H, W) with mean and deviation of that of s (1, C, h, w)."""
    a, b = c.flatten(2), s.flatten(2)
    unit = (a - a.mean(2, keepdim=True)) / (a.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    moved = unit * (b.var(2, correction=0, keepdim=True) + 1e-5).sqrt() + b.mean(2, keepdim=True)
    return moved.view_as(c)


def wct(c: Tensor, s: Tensor) -> Tensor:
    """c (1, C, H, W) with mean and covariance of s (1, C, h, w); in double precision, since it divides by
    small eigenvalues."""
    a, b = c[0].flatten(1).double(), s[0].flatten(1).double()
    centred = a - a.mean(1, keepdim=True)
    moved = _power(torch.cov(b), 0.5) @ (_power(torch.cov(a), -0.5) @ centred) + b.mean(1, keepdim=True)
    return moved.to(c).view_as(c)


def _power(covariance: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > EIGENVALUE
    return vectors[:, kept] @ torch.diag(values[kept] ** power) @ vectors[:, kept].T
