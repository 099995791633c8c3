"""How near a reconstruction is: squared error, PSNR, SSIM; and what comes for free.

Images are float tensors (B, C, H, W) in [-1, 1], so the data range is 2.  Every measure is taken image by
image, (B,), and averaged later: of an image that is not finite it is nan, of no images there is none.  Raises
Refusal where the two sides differ in shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Refusal
from .card import VERSIONS

RANGE = 2.0
BEST_PSNR = 100.0
"""dB; given for an error below one that no 8-bit image can show, so that one perfect image does not make the
mean infinite"""
SSIM_VERSION = VERSIONS["SSIM"]
SSIM_NOTE = (
    f"on [0, 1], mean over the places of a Gaussian window, and over channels; version {SSIM_VERSION}: not "
    "comparable with version 1, which was on [-1, 1]"
)
"""what must stand on a card of it"""


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each image."""
    alike(x, y)
    return (x.double() - y.double()).square().flatten(1).mean(1)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, 10 log10(range^2 / mse), at most 100."""
    return (10 * torch.log10(RANGE**2 / mse(x, y))).clamp(max=BEST_PSNR)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004, section III.B), K1 = 0.01, K2 = 0.03, mean over
    channels.

    Taken on [0, 1] with a data range of 1, which is the same as on 0 ... 255: its first factor compares
    luminances, amounts of light that are never negative.  On [-1, 1] two greys just above and below the
    middle have means of opposite sign, and count as opposites. The window is a Gaussian of 11x11 pixels and
    sigma 1.5.  An image of fewer than 11 pixels gets the largest odd window that fits, with sigma in
    proportion: comparable among images of that size only.
    """
    alike(x, y)
    window = gaussian(min(x.shape[-2:]))
    a, b = ((image.double() + 1) / RANGE for image in (x, y))
    mean_a, mean_b = _blur(a, window), _blur(b, window)
    var_a, var_b = _blur(a * a, window) - mean_a**2, _blur(b * b, window) - mean_b**2
    cov = _blur(a * b, window) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return (top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).flatten(1).mean(1)


def gaussian(size: int) -> Tensor:
    """The window of `ssim` for images of `size` pixels: its weights along one axis."""
    width = min(11, size - (size + 1) % 2)
    at = torch.arange(width, dtype=torch.float64) - width // 2
    weights = torch.exp(-0.5 * (at / (1.5 * width / 11)) ** 2)
    return weights / weights.sum()


def _blur(x: Tensor, window: Tensor) -> Tensor:
    """Weighted mean under the window, wherever it lies wholly inside."""
    b, c, h, w = x.shape
    kernel = window.to(x.device)
    out = F.conv2d(x.reshape(b * c, 1, h, w), kernel.view(1, 1, -1, 1))
    out = F.conv2d(out, kernel.view(1, 1, 1, -1))
    return out.view(b, c, *out.shape[-2:])


def mean_image(train: Tensor) -> Callable[[Tensor], Tensor]:
    """The reconstruction that needs no code at all: the mean of the training images, whatever the
    image is."""
    _usable(train)
    mean = train.mean(0)
    return lambda x: mean.expand_as(x)


def alike(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.ndim < 2:
        raise Refusal(
            f"images of shapes {tuple(x.shape)} and {tuple(y.shape)} cannot be compared pixel by pixel; "
            "give reconstructions of the same size."
        )


def _usable(train: Tensor) -> None:
    if not len(train) or not train.isfinite().all():
        bad = int((~train.isfinite()).flatten(1).any(1).sum()) if len(train) else 0
        raise Refusal(
            f"a reconstruction is fitted to images of finite numbers; of {len(train)} here {bad} are none: "
            "give others."
        )


@dataclass(frozen=True)
class Linear:
    """A linear code: the part of an image that lies along `axes`, clamped to [-1, 1]."""

    mean: Tensor
    """float64 (dims,)"""
    axes: Tensor
    """float64 (dims, k), orthonormal"""

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(1).cpu().double() - self.mean
        return ((flat @ self.axes) @ self.axes.T + self.mean).float().view(x.shape).clamp(-1, 1)


def pca(train: Tensor, size: int) -> Linear:
    """The best linear reconstruction of `train`, float (N, C, H, W), from `size` numbers: its principal
    components, exactly.

    There are fewer of them where the images, less their mean, span fewer dimensions: at most N - 1.  Raises
    Refusal without images, and where some are not finite.
    """
    _usable(train)
    flat = train.flatten(1)
    mean = flat.mean(0).double()
    n, dims = flat.shape
    if n > dims:
        return Linear(mean, _leading(_products(flat.T, mean[:, None]), size)[1])
    share, weights = _leading(_products(flat, mean), size)
    axes = torch.cat([flat[:, c].double().sub_(mean[c]).T @ weights for c in _slices(dims, n)])
    return Linear(mean, axes.div_(share.sqrt()))


def _products(rows: Tensor, mean: Tensor) -> Tensor:
    """Inner products of all pairs of rows after the mean is taken off, float64 (R, R); `rows` are images, or
    pixels."""
    out = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for c in _slices(rows.shape[1], len(rows)):
        part = rows[:, c].double().sub_(mean.expand(rows.shape)[:, c])
        out.addmm_(part, part.T)
    return out


def _slices(length: int, others: int) -> list[slice]:
    """Pieces of an axis, so that float64 copies stay below 32 MB."""
    step = max(1, 2**22 // others)
    return [slice(i, i + step) for i in range(0, length, step)]


def _leading(products: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The `size` largest eigenvalues (k,) and their vectors (R, k), without those that are zero but for
    rounding."""
    # three times as fast as torch's, for some of the vectors; a third of a second to import
    from scipy.linalg import eigh

    n = len(products)
    values, vectors = (
        torch.from_numpy(a) for a in eigh(products.numpy(), subset_by_index=[max(0, n - size), n - 1])
    )
    # images of float32: a constant one is not quite its own mean
    real = values > 1e-6 + 1e-12 * n * products.diagonal().sum()
    return values[real], vectors[:, real]


def affordable(dims: int) -> int:
    """How many training images `pca` can be fitted on within 256 MB and some seconds."""
    return max(2, min(10_000 if dims <= 3072 else 2048, 2**26 // dims))
