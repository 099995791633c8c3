"""How near the translation of an image is to the truth, and the translations that cost nothing.

Images are float tensors (B, C, H, W) in [-1, 1]; sources may have other channels and another size than
targets.  Measures are taken image by image, (B,).  Raises Refusal where two sides differ in shape.

    identity             the source itself, brought to the channels and the size of the target
    HistogramMatch       each channel's histogram made that of the targets: monotone, blind to places
    Affine               y = M x + c of the channels of a pixel: least squares over pairs; of two domains the map of least
                         transport between Gaussians, M = A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2 with A, B the covariances
                         (Pitie & Kokaram, "The Linear Monge-Kantorovitch Linear Colour Mapping", 2007)
    Nearest              the target of the nearest training source; of two domains the nearest training target
    resized              bicubic and Lanczos enlargement
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..core import Refusal
from . import reconstruction

LEVEL = 2 / 255
"""one of 256 levels of an image in [-1, 1]"""
Kernel = Literal["bicubic", "lanczos"]
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


# Measures


def mae(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute error of each image, in levels of 0 ... 255."""
    reconstruction.alike(x, y)
    return (x.double() - y.double()).abs().flatten(1).mean(1) / LEVEL


def luma(x: Tensor) -> Tensor:
    """Y of ITU-R BT.601 in studio range, (B, 1, H, W), whole numbers from 16 to 235, of images rounded to 256
    levels: that of MATLAB's rgb2ycbcr of uint8, on which papers on super-resolution take PSNR.  Without the
    second rounding bicubic interpolation has 28.430 dB on Set5 x4, with it 28.418, and 28.42 in papers.
    Grey images count as equal R, G, B."""
    if x.shape[1] not in (1, 3):
        raise Refusal(f"luminance is of grey or RGB images, and these have {x.shape[1]} channels.")
    levels = ((x.double() + 1) * 127.5).round().clamp(0, 255) / 255
    weights = levels.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return (16 + (levels.expand(-1, 3, -1, -1) * weights).sum(1, keepdim=True)).round()


def shaved(x: Tensor, border: int) -> Tensor:
    """x (B, C, H, W) without `border` pixels at each side.  Raises Refusal where none would be left."""
    if 2 * border >= min(x.shape[-2:]):
        raise Refusal(
            f"a border of {border} pixels at each side leaves nothing of images of "
            f"{x.shape[-2]}x{x.shape[-1]}; give larger ones."
        )
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def psnr_y(x: Tensor, y: Tensor, border: int = 0) -> Tensor:
    """10 log10(255^2 / mean squared error of luma()), in dB, at most reconstruction.BEST_PSNR."""
    a, b = (shaved(luma(side), border) for side in (x, y))
    reconstruction.alike(a, b)
    error = (a - b).square().flatten(1).mean(1)
    return (10 * torch.log10(255**2 / error)).clamp(max=reconstruction.BEST_PSNR)


def ssim_y(x: Tensor, y: Tensor, border: int = 0) -> Tensor:
    """reconstruction.ssim of luma()."""
    return reconstruction.ssim(*(shaved(luma(side), border) / 127.5 - 1 for side in (x, y)))


def relative(x: np.ndarray, y: np.ndarray, typical: float) -> np.ndarray:
    """Distances (n,) of features x and y, (n, d) each, as shares of a typical distance between images."""
    return np.linalg.norm(x.astype(np.float64) - y, axis=1) / max(typical, 1e-12)


def perturbed(x: Tensor, seed: int = 0) -> Tensor:
    """x on 256 levels, and one level added to or taken off each value, by chance: what nobody sees."""
    g = torch.Generator().manual_seed(seed)
    sign = torch.randint(0, 2, x.shape, generator=g).to(x) * 2 - 1
    levels = ((x + 1) / LEVEL).round()
    sign = torch.where(levels <= 0, 1, torch.where(levels >= 255, -1, sign))
    return (levels + sign) * LEVEL - 1


# What costs nothing


def identity(a: Tensor, channels: int, size: int) -> Tensor:
    """The source as a target of so many channels and pixels a side: grey thrice, or the luminance of colours;
    a channel more than colours have, such as that of a hole, left out."""
    if a.shape[1] > 3 and channels <= 3:
        a = a[:, :3]
    if a.shape[1] == 2:
        a = a[:, :1]
    if a.shape[1] == 3 and channels == 1:
        a = (a * a.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if a.shape[1] != channels:
        a = a[:, :1].expand(-1, channels, -1, -1)
    return resized(a, size)


def resized(a: Tensor, size: int, kernel: Kernel = "bicubic") -> Tensor:
    """Images (B, C, H, H) at another size, by Pillow's filters (with antialiasing, a = -1/2, as MATLAB's
    imresize); on 256 levels where anything changes."""
    if a.shape[-1] == size:
        return a
    levels = ((a + 1) / LEVEL).round().clamp(0, 255).byte().numpy()
    out = np.stack(
        [
            [np.asarray(Image.fromarray(plane).resize((size, size), FILTERS[kernel])) for plane in image]
            for image in levels
        ]
    )
    return torch.from_numpy(out).float() * LEVEL - 1


@dataclass(frozen=True)
class HistogramMatch:
    table: np.ndarray
    """float32 (C, 256): what each level of a channel becomes, in [-1, 1]"""

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> HistogramMatch:
        """Of sources as identity() makes them, and targets: the level at which the targets' distribution is
        where the middle of a source's level is in its own."""
        tables = []
        for channel in range(b.shape[1]):
            ours, others = (_counts(side[:, channel]) for side in (a, b))
            middle = ours.cumsum() - ours / 2
            at = np.searchsorted(others.cumsum(), middle - 1e-12)
            tables.append(np.minimum(at, 255) * LEVEL - 1)
        return cls(np.stack(tables).astype(np.float32))

    def __call__(self, a: Tensor) -> Tensor:
        at = ((a + 1) / LEVEL).round().clamp(0, 255).long()
        table = torch.from_numpy(self.table)
        return torch.stack([table[c][at[:, c]] for c in range(a.shape[1])], 1)


def _counts(x: Tensor) -> np.ndarray:
    """Shares of the 256 levels, (256,)."""
    at = ((x + 1) / LEVEL).round().clamp(0, 255).long().flatten()
    return torch.bincount(at, minlength=256).double().numpy() / max(at.numel(), 1)


@dataclass(frozen=True)
class Affine:
    weight: Tensor
    """float64 (C', C)"""
    bias: Tensor
    """float64 (C',)"""

    @classmethod
    def of_pairs(cls, a: Tensor, b: Tensor) -> Affine:
        """The least squared error over all pixels of pairs, (n, C, H, W) and (n, C', H, W)."""
        x, y = _pixels(a), _pixels(b)
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        # minimum norm where channels are equal, as of grey in three channels
        w = torch.linalg.pinv(x.T @ x, hermitian=True) @ (x.T @ y)
        return cls(w[:-1].T, w[-1])

    @classmethod
    def of_domains(cls, a: Tensor, b: Tensor) -> Affine:
        """Means and covariances of the pixels of a, (n, C, H, W), become those of b, (m, C, H', W'), by the
        map that moves colours least."""
        (mean_a, cov_a), (mean_b, cov_b) = (_moments(_pixels(side)) for side in (a, b))
        root, back = _power(cov_a, 0.5), _power(cov_a, -0.5)
        weight = back @ _power(root @ cov_b @ root, 0.5) @ back
        return cls(weight, mean_b - weight @ mean_a)

    def __call__(self, a: Tensor) -> Tensor:
        out = torch.einsum("oc,bchw->bohw", self.weight, a.double()) + self.bias.view(1, -1, 1, 1)
        return out.float().clamp(-1, 1)


def _pixels(x: Tensor) -> Tensor:
    """float64 (n H W, C)."""
    return x.movedim(1, -1).reshape(-1, x.shape[1]).double()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric matrix with no negative eigenvalue; what is zero stays zero."""
    values, vectors = torch.linalg.eigh(matrix)
    real = values > 1e-10 * values.max().clamp(min=1e-12)
    powers = torch.where(real, values.clamp(min=1e-30).pow(exponent), torch.zeros_like(values))
    return (vectors * powers) @ vectors.T


@dataclass(frozen=True)
class Nearest:
    sources: Tensor
    """float32 (N, d): training sources, or training targets, as they are compared"""
    targets: Callable[[Tensor], Tensor]
    """what some of them stand for, (n,) to (n, C', H', W')"""

    @classmethod
    def of(cls, sources: Tensor, targets: Tensor) -> Nearest:
        """sources (N, ...), targets (N, C', H', W')."""
        return cls(cls.small(sources), lambda rows: targets[rows])

    @staticmethod
    def small(x: Tensor) -> Tensor:
        """Means over squares, at most 16 a side: what resembles what shows at that size."""
        return F.adaptive_avg_pool2d(x.float(), min(16, x.shape[-1])).flatten(1)

    def __call__(self, a: Tensor) -> Tensor:
        rows = torch.cat([torch.cdist(part, self.sources).argmin(1) for part in self.small(a).split(256)])
        return self.targets(rows)
