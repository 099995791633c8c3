"""Views: distortions after which an image still shows what it shows.

Two views of one image are what a joint-embedding method calls equal: what they are decides what its features
ignore.  Whatever is drawn comes from the images' own noise, so that a view depends on the image and its seed
alone.

resized() and recoloured() are those of Chen et al., "A Simple Framework for Contrastive Learning of Visual
Representations", 2020, appendix A, with the solarisation of Grill et al. 2020, appendix B, but for: a window
of 0.4 of the area and more by default (0.08 there), nearer to a square where it would reach beyond the image
(they draw again); colours at half strength, in the order brightness, contrast, saturation, hue (random
there); hue turned in the plane of YIQ (HSV there); a wider blur; and no mirror, blur or solarisation unless
asked for. seen_from(), lit() and cut() are milder, for digits and drawings.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Model, Noise, option


class Views(Model):
    """A model that learns from windows on an image in other colours."""

    crop: float = option(0.4, "least share of the area that a view shows", 0.05, 1.0)
    jitter: float = option(0.5, "how far colours, brightness and contrast of a view may change", 0.0, 1.0)
    blur: float = option(0.0, "share of the views that are blurred", 0.0, 1.0)
    solarise: float = option(0.0, "share of the views whose bright half is inverted", 0.0, 1.0)
    flip: bool = option(False, "views may be mirrored: right for photographs, wrong for digits")

    def view(self, batch: Batch, least: float = 0.0, most: float = 1.0, size: int = 0) -> Tensor:
        """A distortion of every image of its own, (B, C, size, size), by the batch's noise alone; least:
        share of the area, 0 for --crop."""
        # eight bits are what an image has: their products take more
        with torch.autocast(batch.x.device.type, enabled=False):
            x = resized(batch.x, batch.noise, least or self.crop, most, self.flip, size)
            return recoloured(x, batch.noise, self.jitter, self.blur, self.solarise)


# Where one looks from


def seen_from(x: Tensor, noise: Noise, crop: float, turn: float, flip: bool) -> Tensor:
    """A window on each image: its sides, place and angle are drawn, and it is scaled back to the image's
    size; black beyond the image."""
    scale = 1 - crop * noise.uniform(2)
    place = (2 * noise.uniform(2) - 1) * (1 - scale)
    angle = torch.deg2rad((2 * noise.uniform() - 1) * turn)
    if flip:
        scale = mirrored(scale, noise)
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    grid = F.affine_grid(
        torch.cat([turned * scale[:, None], place[..., None]], 2), list(x.shape), align_corners=False
    )
    return F.grid_sample(x + 1, grid, "bilinear", "zeros", align_corners=False) - 1


def resized(
    x: Tensor, noise: Noise, least: float, most: float = 1.0, flip: bool = False, size: int = 0
) -> Tensor:
    """A window on each image, `least` to `most` of its area, scaled to `size` pixels a side (0: as many as it
    has).

    It is 3:4 to 4:3 in shape, or nearer to a square where it would else reach beyond the image.
    """
    area = least + (most - least) * noise.uniform(1)
    stretch = torch.exp((2 * noise.uniform(1) - 1) * area.reciprocal().clamp(max=4 / 3).log())
    scale = torch.cat([area * stretch, area / stretch], 1).sqrt()
    place = (2 * noise.uniform(2) - 1) * (1 - scale)
    if flip:
        scale = mirrored(scale, noise)
    size = size or x.shape[-1]
    grid = F.affine_grid(
        torch.cat([torch.diag_embed(scale), place[..., None]], 2),
        [*x.shape[:2], size, size],
        align_corners=False,
    )
    return F.grid_sample(x, grid, "bilinear", "border", align_corners=False)


def mirrored(scale: Tensor, noise: Noise) -> Tensor:
    """Half of the windows (B, 2) seen from behind."""
    across = (noise.uniform() < 0.5).float() * 2 - 1
    return scale * torch.stack([across, torch.ones_like(across)], 1)


def cut(x: Tensor, noise: Noise, most: float) -> Tensor:
    """A square of each view, of a drawn side and place, made grey."""
    size = x.shape[-1]
    half, middle = noise.uniform(1) * most * size / 2, noise.uniform(2) * size
    near = (torch.arange(size, device=x.device) + 0.5 - middle[..., None]).abs() < half[..., None]
    return x.masked_fill((near[:, 0, :, None] & near[:, 1, None, :])[:, None], 0.0)


# In what light


def lit(x: Tensor, noise: Noise, most: float) -> Tensor:
    """Contrast multiplied and brightness added to, by draws up to `most` either way."""
    contrast, brightness = (most * (2 * noise.uniform(2, 1, 1, 1) - 1)).unbind(1)
    return x * (1 + contrast) + brightness


JITTERED, DRAINED = 0.8, 0.2
"""share of the views with other colours, and share without colours"""


def recoloured(x: Tensor, noise: Noise, colour: float, blur: float = 0.0, solarise: float = 0.0) -> Tensor:
    """Each of x (B, C, H, W) in other colours, by `colour` s; blurred, and solarised, with these
    probabilities."""
    if colour:
        x = sometimes(x, jittered(x, noise, colour), noise, JITTERED)
        if x.shape[1] == 3:
            x = sometimes(x, grey(x).expand_as(x), noise, DRAINED)
    if blur:
        x = sometimes(x, blurred(x, noise), noise, blur)
    if solarise:
        x = sometimes(x, torch.where(x >= 0, -x, x), noise, solarise)
    return x


def sometimes(x: Tensor, changed: Tensor, noise: Noise, share: float) -> Tensor:
    return torch.where(noise.uniform(1, 1, 1) < share, changed, x)


YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""brightness, and the plane of colours, in which a turn is another hue, of red, green and blue"""


@lru_cache
def colours(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """From red, green and blue, and back: moved once, since moving waits for a GPU."""
    return YIQ.to(device, dtype), torch.linalg.inv(YIQ).to(device, dtype)


def grey(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 1, H, W)."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    yiq, _ = colours(x.device, x.dtype)
    return torch.einsum("c,bchw->bhw", yiq[0], x)[:, None]


def jittered(x: Tensor, noise: Noise, s: float) -> Tensor:
    """Brightness, contrast and saturation times 1 - 0.8 s to 1 + 0.8 s, and the hue turned by up to 0.2 s of
    the circle, one after another."""
    draws = (2 * noise.uniform(4) - 1)[:, :, None, None, None]
    brightness, contrast, saturation = (1 + 0.8 * s * draws[:, :3]).clamp(min=0).unbind(1)
    bright = ((x + 1) / 2 * brightness).clamp(0, 1)
    mean = grey(bright).mean((2, 3), keepdim=True)
    out = (mean + (bright - mean) * contrast).clamp(0, 1)
    if x.shape[1] == 3:
        pale = grey(out)
        out = (pale + (out - pale) * saturation).clamp(0, 1)
        out = turned(out, 2 * math.pi * 0.2 * s * draws[:, 3].flatten()).clamp(0, 1)
    return 2 * out - 1


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Colours (B, 3, H, W) about the grey axis, by (B,) radians."""
    turn = torch.eye(3, device=x.device, dtype=x.dtype).repeat(len(x), 1, 1)
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 2, 1] = angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    yiq, rgb = colours(x.device, x.dtype)
    return torch.einsum("bij,bjhw->bihw", rgb @ turn @ yiq, x)


WIDEST = 2 / 64
"""standard deviation of the widest blur, as a share of the side: the paper's, 2 pixels of 224, would be none
at 32, and is a third of this"""


def blurred(x: Tensor, noise: Noise) -> Tensor:
    """Under a Gaussian of drawn width, from a twentieth of the widest on; beyond the image its border goes
    on."""
    widest = WIDEST * x.shape[-1]
    sigma = widest * (0.05 + 0.95 * noise.uniform(1))
    reach = max(1, round(2 * widest))
    kernel = torch.softmax(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma) ** 2, 1).to(
        x.dtype
    )
    each = kernel.repeat_interleave(x.shape[1], 0)  # a channel of an image is a group of its own
    rows = F.pad(x, (reach,) * 4, "replicate").flatten(0, 1)[None]
    across = F.conv2d(rows, each[:, None, None], groups=len(each))
    return F.conv2d(across, each[:, None, :, None], groups=len(each)).view_as(x)
