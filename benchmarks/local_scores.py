"""Pictures from photographs without any training: the closed-form denoiser that looks at patches alone.

    python benchmarks/local_scores.py DATA --size 32 -n 16 -o out.png

Kamb & Ganguli, "An Analytic Theory of Creativity in Convolutional Diffusion Models", 2024: the best denoiser
whose answer for a pixel depends on the patch about it alone is, with x_i the training images,

    E[x_0 at p | patch of x_t at p] = sum_i w_i x_i(p),    w = softmax_i of -|patch of x_t - patch of x_i|^2 / 2 sigma^2

Each pixel follows the photographs that fit about it, so that what is drawn is a mosaic of several of them (of
one, where the patch is the whole image: a copy).  The patch shrinks from --wide to --narrow on the way from
noise to an image; 30 steps of DDIM.  All in one process; says the seconds.
"""  # noqa: E501

from __future__ import annotations

import argparse
import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from likeness import data as datasets
from likeness import figures
from likeness.metrics import neighbours

STEPS, LOUD, QUIET = 30, 20.0, 0.02
SHRUNK = 0.77
"""of the steps are over when the patch is at its smallest"""


def box(x: Tensor, k: int) -> Tensor:
    """Sums over the k x k pixels about each, (N, H, W), of what lies within the image."""
    p = k // 2
    c = F.pad(x[:, None], (p + 1, p, p + 1, p)).cumsum(2).cumsum(3)[:, 0]
    return c[:, k:, k:] - c[:, :-k, k:] - c[:, k:, :-k] + c[:, :-k, :-k]


def expected(z: Tensor, sigma: float, x: Tensor, k: int) -> Tensor:
    """E[x_0] (C, H, W) of z = x_0 + sigma eps (C, H, W), by patches of k x k pixels of x (N, C, H, W)."""
    apart = box((z - x).square().sum(1), k).clamp(min=0)
    return ((-apart / (2 * sigma**2)).softmax(0)[:, None] * x).sum(0)


def draw(x: Tensor, wide: int, narrow: int, seed: int) -> Tensor:
    """An image (C, H, W)."""
    sigma = torch.logspace(math.log10(LOUD), math.log10(QUIET), STEPS + 1).tolist()
    z = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed)) * sigma[0]
    for i, (here, there) in enumerate(pairwise(sigma)):
        at = min(1.0, i / (STEPS - 1) / SHRUNK)
        x_0 = expected(z, here, x, round(wide + (narrow - wide) * at) | 1)
        z = x_0 + there / here * (z - x_0)
    return x_0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("-n", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wide", type=int, default=21)
    parser.add_argument("--narrow", type=int, default=3)
    parser.add_argument("-o", type=Path, default=Path("local-scores.png"))
    asked = parser.parse_args()
    data = datasets.load(asked.data, size=asked.size)
    x = data.take(data.train).x.float()
    began = time.monotonic()
    drawn = torch.stack([draw(x, asked.wide, asked.narrow, asked.seed + i) for i in range(asked.n)])
    seconds = time.monotonic() - began
    near = neighbours.grid(drawn.numpy(), data.levels).reshape(len(drawn), -1).astype(np.float32)
    train = data.x[data.train].reshape(len(data.train), -1).astype(np.float32)
    rms = np.sqrt(((near[:, None] - train) ** 2).mean(2)).min(1)
    print(
        f"{len(drawn)} images in {seconds:.1f} s; levels from the nearest photograph: {np.sort(rms).round(1)}"
    )
    figures.write(asked.o, figures.shown(drawn), dict(data=asked.data, seed=asked.seed, wide=asked.wide))


if __name__ == "__main__":
    main()
