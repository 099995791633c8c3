"""How near a reconstruction is: squared error, PSNR, SSIM; and what comes for free.

Images are float tensors (B, C, H, W) in [-1, 1], so the data range is 2.  Every measure is taken image by image, (B,), and averaged later.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 2.0
BEST_PSNR = 100.0
"""dB; given for an error below one that no 8-bit image can show, so that one perfect image does not make the mean infinite"""


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each image."""
    return (x.double() - y.double()).square().flatten(1).mean(1)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, 10 log10(range^2 / mse), at most 100."""
    return (10 * torch.log10(RANGE**2 / mse(x, y))).clamp(max=BEST_PSNR)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004, section III.B), K1 = 0.01, K2 = 0.03, mean over channels.

    The window is a Gaussian of 11x11 pixels and sigma 1.5.  An image of fewer than 11 pixels gets the
    largest odd window that fits, with sigma in proportion: comparable among images of that size only.
    """
    window = gaussian(min(x.shape[-2:]))
    a, b = x.double(), y.double()
    mean_a, mean_b = _blur(a, window), _blur(b, window)
    var_a, var_b = _blur(a * a, window) - mean_a**2, _blur(b * b, window) - mean_b**2
    cov = _blur(a * b, window) - mean_a * mean_b
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
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
    """The reconstruction that needs no code at all: the mean of the training images, whatever the image is."""
    mean = train.mean(0)
    return lambda x: mean.expand_as(x)


def pca(train: Tensor, size: int, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """The best linear reconstruction from `size` numbers: principal components of `train` (N, C, H, W), clamped to [-1, 1].

    With fewer than `size` training images or dimensions there are that many components.
    """
    from sklearn.decomposition import PCA  # a second to import, which only this baseline should cost

    known = train.flatten(1).numpy()
    fitted = PCA(min(size, *known.shape), random_state=seed).fit(known)

    def rebuild(x: Tensor) -> Tensor:
        out = fitted.inverse_transform(fitted.transform(x.flatten(1).cpu().numpy()))
        return torch.from_numpy(np.asarray(out, np.float32)).view_as(x).clamp(-1, 1)

    return rebuild


def affordable(dims: int, most: int = 10_000) -> int:
    """How many training images `pca` can be fitted on within 256 MB."""
    return max(2, min(most, 2**26 // dims))
