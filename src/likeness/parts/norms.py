"""Instance normalisation: each channel of each image has mean 0 and variance 1.

Ulyanov, Vedaldi & Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016,
eq. 4.  It is what networks from image to image use that learn from few images at once: an image does not
depend on its company.

PyTorch's own rearranges images that lie channels last, twice in each pass.  On a processor, batch
normalisation of one image at a time is the same function in the layout that convolutions want: 0.9 to 3
times as fast as F.instance_norm, the more the larger the images are (benchmarks/cyclegan_speed.py --norms).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, mean and biased variance of each channel over H
    and W."""

    def __init__(self, channels: int, affine: bool = True, eps: float = 1e-5):
        super().__init__()
        self.channels, self.eps = channels, eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), H * W > 1, to the same shape and layout."""
        if x.is_cuda or not x.is_contiguous(memory_format=torch.channels_last):
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        return torch.cat([self._alone(image) for image in x.split(1)])

    def _alone(self, image: Tensor) -> Tensor:
        """Of one image, (1, C, H, W)."""
        return F.batch_norm(image, None, None, self.weight, self.bias, True, 0.0, self.eps)

    def extra_repr(self) -> str:
        return f"{self.channels}, affine={self.weight is not None}"
