"""What parts/translators.Residual answers, in about half of its time on a processor; without a gradient.

The same function of the same weights, written otherwise:

    normalise, then ReLU    s (y - m) + b rectified is s max(y, t) + k with t = m - b / s, k = -s t (min for s < 0).  So one
                            pass is left, max(y, t) for each channel; s goes into the weights of the next convolution,
                            and k, since the image goes on in reflections, is a constant of what that one gives.  The
                            mean of the normalisation after it takes all constants away
    pad by reflection       that pass writes into the middle of an image with a frame, which is then filled
    enlarge and convolve    a 3x3 convolution of repeated pixels has four kinds of places, each with 2x2 weights on the
                            small image: one 2x2 convolution with four times the channels (Shi et al. 2016), 16/36 of
                            the work
    the last, 7x7           three channels fill a fifth of a vector register; four pixels of them together, at
                            stride 2 with 8x8 weights, three quarters
    3x3 in fp32             by Winograd's way (backbones/winograd.py)

In bf16, where autocast asks for it, activations and weights are bf16, statistics and constants fp32.
"""  # noqa: E501

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones import winograd
from .norms import InstanceNorm
from .translators import Bend, Block, Nearest, Residual


class Image(NamedTuple):
    """Activations gain * stored + constant, channel by channel."""

    stored: Tensor
    """(1, C, H + 2 frame, W + 2 frame), channels last; what the frame holds is up to whoever reads it"""
    gain: Tensor
    """(C,)"""
    constant: Tensor
    """(C,)"""
    frame: int


def suits(net: nn.Module, x: Tensor) -> bool:
    """Whether answer() can take the place of net(x); not where x stands for numbers that are yet to come, as
    for a photo that is walked through in strips."""
    return (
        isinstance(net, Residual)
        and type(x) is Tensor
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and x.dtype == torch.float32
        and all(isinstance(n, InstanceNorm) and n.weight is not None for n in norms(net))
        and not any(isinstance(m, nn.ConvTranspose2d) for m in net.layers)
        and not any(m.leak for m in net.modules() if isinstance(m, Bend))
    )


def norms(net: Residual) -> list[nn.Module]:
    """What follows its convolutions, but for the last."""
    blocks = [part for m in net.layers for part in (m.layers if isinstance(m, Block) else [m])]
    inner = (nn.Conv2d, nn.ConvTranspose2d, Nearest, Bend)
    return [m for m in blocks if not isinstance(m, inner)]


def answer(net: Residual, x: Tensor) -> Tensor:
    """net(x) for images (B, C, H, W), where suits() is true: float32."""
    return torch.cat([_one(net, image) for image in x.split(1)])


def _one(net: Residual, x: Tensor) -> Tensor:
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    with torch.autocast("cpu", enabled=False):
        parts, c = list(net.layers), x.shape[1]
        now = Image(_room(x.to(dtype), _frame(parts[0])), x.new_ones(c), x.new_zeros(c), _frame(parts[0]))
        _inside(now).copy_(x)
        while len(parts) > 1:
            layer = parts.pop(0)
            if isinstance(layer, Block):
                now = _added(layer, now)
            elif isinstance(layer, Nearest):
                y = _enlarged(layer, now)
                now = _rectified(parts.pop(0), y, _frame(parts[1]), 2)
                parts.pop(0)
            else:
                assert isinstance(layer, nn.Conv2d)
                y = _convolved(layer, now)
                now = _rectified(parts.pop(0), y, _frame(parts[1]), 1)
                parts.pop(0)
        return _last(parts[0], now)


def _frame(layer: nn.Module) -> int:
    """Pixels around that a layer wants."""
    return int(layer.kernel_size[0]) // 2 if isinstance(layer, nn.Conv2d) else 1


def _room(like: Tensor, frame: int, scale: int = 1, channels: int = 0) -> Tensor:
    """Memory for an image, `scale` times as large as `like`, with a frame."""
    high, wide = (scale * side + 2 * frame for side in like.shape[2:])
    size = (1, channels or like.shape[1], high, wide)
    return torch.empty(size, dtype=like.dtype, memory_format=torch.channels_last)


def _inside(image: Image) -> Tensor:
    """Without its frame."""
    f, s = image.frame, image.stored
    return s[:, :, f : s.shape[2] - f, f : s.shape[3] - f]


def _reflected(image: Image) -> Tensor:
    """With the frame filled as in a mirror."""
    f = image.frame
    for s in (image.stored, image.stored.mT):
        n = s.shape[2] - 2 * f
        s[:, :, :f] = s[:, :, f + 1 : 2 * f + 1].flip(2)
        s[:, :, f + n :] = s[:, :, n - 1 : n + f - 1].flip(2)
    return image.stored


def _repeated(image: Image) -> Tensor:
    """With the frame of one pixel filled with its neighbours: a mirror beside pixels that are repeated."""
    for s in (image.stored, image.stored.mT):
        s[:, :, 0], s[:, :, -1] = s[:, :, 1], s[:, :, -2]
    return image.stored


def _weights(weight: Tensor, image: Image) -> Tensor:
    """Of a convolution of `stored`, for those of what it stands for."""
    scaled = weight * image.gain.view(1, -1, 1, 1)
    return scaled.to(image.stored.dtype).contiguous(memory_format=torch.channels_last)


def _constant(conv: nn.Conv2d, image: Image) -> Tensor:
    """What a convolution of constants gives, (K,)."""
    k = conv.weight.sum((2, 3)) @ image.constant
    return k if conv.bias is None else k + conv.bias


def _convolved(conv: nn.Conv2d, image: Image) -> Tensor:
    """But for a constant of each channel, which the normalisation that follows takes away."""
    x, weight = _reflected(image), conv.weight
    large = x.shape[2] * x.shape[3] * weight.numel() >= winograd.LEAST
    square = conv.kernel_size == (3, 3) and conv.stride == (1, 1)
    if square and large and x.dtype == torch.float32 and min(weight.shape[:2]) >= winograd.NARROW:
        kernels = winograd.kernels(weight) * image.gain.view(1, -1, 1)
        y = winograd.convolve(x, kernels, None, False)[:, :, 1:-1, 1:-1]
        y = y.contiguous(memory_format=torch.channels_last)
    else:
        y = F.conv2d(x, _weights(weight, image), None, conv.stride)
    return y


def _enlarged(layer: Nearest, image: Image) -> Tensor:
    """As _convolved(), at the corners of pixels, (1, 4 K, H + 1, W + 1): around each the values of the four
    pixels that it touches, from the same 2x2 places."""
    w = layer.conv.weight
    four = [_halved(_halved(w, 2, dy), 3, dx) for dy in (0, 1) for dx in (0, 1)]
    return F.conv2d(_repeated(image), _weights(torch.cat(four), image))


def _halved(w: Tensor, axis: int, odd: int) -> Tensor:
    """Three weights of repeated pixels along an axis, as two of the pixels themselves: of a place that is the
    first of its pair, or the second."""
    a, b, c = w.split(1, axis)
    return torch.cat([a + b, c] if odd else [a, b + c], axis)


def _moments(y: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (K,) of what is stored in y; scale 2: of the pixels around corners."""
    mean, variance = (m.double() for m in _over_places(y))
    if scale == 1:
        return mean.float(), variance.float()
    n, k = y.shape[2] * y.shape[3], y.shape[1] // 4
    first, second = n * mean, n * (variance + mean.square())
    for phase in range(4):  # a corner at the border touches pixels that there are not
        part, out = slice(phase * k, (phase + 1) * k), y[0, phase * k : (phase + 1) * k].double()
        row, column = (0 if phase & 2 else -1), (0 if phase & 1 else -1)
        for power, total in ((1, first), (2, second)):
            lines = out[:, row].pow(power).sum(1) + out[:, :, column].pow(power).sum(1)
            total[part] -= lines - out[:, row, column].pow(power)
    many = 4 * (y.shape[2] - 1) * (y.shape[3] - 1)
    mean = first.view(4, k).sum(0) / many
    return mean.float(), (second.view(4, k).sum(0) / many - mean.square()).clamp(min=0).float()


def _over_places(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (K,) of y (1, K, H, W), fp32."""
    k = y.shape[1]  # averages of fp32, though nobody wants them, make what comes back fp32 for bf16 as well
    mean, variance = torch.ops.aten.batch_norm_update_stats(y, torch.zeros(k), torch.ones(k), 1.0)
    return mean, variance


def _scaled(norm: InstanceNorm, variance: Tensor) -> Tensor:
    assert norm.weight is not None
    return norm.weight * (variance + norm.eps).rsqrt()


def _rectified(norm: nn.Module, y: Tensor, frame: int, scale: int) -> Image:
    """relu(norm(y)), with room for a frame."""
    assert isinstance(norm, InstanceNorm) and norm.bias is not None
    mean, variance = _moments(y, scale)
    s = _scaled(norm, variance)
    flat = s == 0
    t = (mean - norm.bias / torch.where(flat, torch.ones_like(s), s)).to(y.dtype)
    k = torch.where(flat, norm.bias.relu(), -s * t if y.dtype == torch.float32 else torch.zeros_like(s))
    size = y if scale == 1 else y[:, :, 1:, 1:]
    result = Image(_room(size, frame, scale, len(s)), s, k, frame)
    inside = _inside(result)
    for dy in range(scale):
        for dx in range(scale):
            part = slice((scale * dy + dx) * len(s), (scale * dy + dx + 1) * len(s))
            from_y = y[:, part, dy : dy + size.shape[2], dx : dx + size.shape[3]]
            _bent(from_y, t, s, inside[:, :, dy::scale, dx::scale])
    return result


def _bent(y: Tensor, t: Tensor, s: Tensor, out: Tensor) -> None:
    """max(y, t), or min(y, t) in channels where s is below 0; less t in bf16, which has too few digits for a
    constant."""
    t = t.view(1, -1, 1, 1)
    if y.dtype != torch.float32:
        torch.sub(y, t, out=out)
        y, t = out, torch.zeros_like(t)
    if bool((s >= 0).all()):
        torch.maximum(y, t, out=out)
        return
    top, up = torch.full_like(t, torch.inf), (s >= 0).view(1, -1, 1, 1)
    torch.clamp(y, torch.where(up, t, -top), torch.where(up, top, t), out=out)


def _added(block: Block, image: Image) -> Image:
    """The image plus two convolutions of it, in place."""
    first, norm, _, second, last = block.layers
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d) and isinstance(last, InstanceNorm)
    assert last.bias is not None
    if not bool((image.gain == 1).all()):
        image.stored.mul_(image.gain.to(image.stored.dtype).view(1, -1, 1, 1))
        image = image._replace(gain=torch.ones_like(image.gain))
    y = _convolved(first, image)
    y = _convolved(second, _rectified(norm, y, 1, 1))
    mean, variance = _moments(y, 1)
    s, inside = _scaled(last, variance).to(y.dtype), _inside(image)
    if y.dtype != torch.float32:
        y, mean = y.sub_(mean.to(y.dtype).view(1, -1, 1, 1)), mean - mean.to(y.dtype)
    torch.addcmul(inside, y, s.view(1, -1, 1, 1), out=inside)
    return image._replace(constant=image.constant + last.bias - s * mean)


def _last(conv: nn.Module, image: Image) -> Tensor:
    """The last convolution: of squares of 2x2 pixels at once, where there are whole ones."""
    assert isinstance(conv, nn.Conv2d)
    x, w, k = _reflected(image), conv.weight, conv.weight.shape[2]
    inside = _inside(image)
    if inside.shape[2] % 2 or inside.shape[3] % 2:
        y = F.conv2d(x, _weights(w, image))
    else:
        wide = w.new_zeros(len(w), 2, 2, w.shape[1], k + 1, k + 1)
        for dy in range(2):
            for dx in range(2):
                wide[:, dy, dx, :, dy : dy + k, dx : dx + k] = w
        y = F.conv2d(x, _weights(wide.flatten(0, 2), image), None, 2)
        y = F.pixel_shuffle(y, 2)
    return y.float() + _constant(conv, image).view(1, -1, 1, 1)
