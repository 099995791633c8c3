"""3x3 convolutions with a quarter of the multiplications, in fp32 on a processor.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4, F(4x4, 3x3):

    Y = A' [ (G g G') . (B' d B) ] A                                       (their eq. 8; ' is the transpose)

d are 6x6 pixels of a channel, g is a 3x3 kernel, Y are 4x4 pixels of the result.  The product in the middle
is summed over channels, which makes it 36 products of matrices, and these are where the time goes: 36
multiplications instead of 144 for 16 pixels.  What is around them moves numbers, so images are walked through
in strips that stay in the cache, each by a thread of its own.

The result differs from the plain sum by some 1e-5 of the largest value: the constants of B and A are up to 8,
and fp32 has 24 bits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

OUT, IN = 4, 6
"""pixels a side of a tile of the result, and of what it is made of"""
CACHE = 1 << 21
"""bytes of the 36 matrices on either side of the product that are worked on at once"""
AHEAD = 1 << 23
"""the same where an image has so many channels that reading the kernels takes longer than reading it"""
NARROW = 64
"""channels on either side below which there is nothing to gain"""
LEAST = 10**8
"""multiplications of the plain way, for an image, below which handing it to threads costs more
than it saves"""
B = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
A = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
"""the transposes of B and A, and G, as they stand in the paper"""


@cache
def twice(which: tuple[tuple[float, ...], ...]) -> Tensor:
    """The map of a square that acts so on its rows and on its columns, as one matrix."""
    m = torch.tensor(which, dtype=torch.float64)
    return torch.kron(m, m).float()


def kernels(weight: Tensor) -> Tensor:
    """Of a convolution, (K, C, 3, 3), to (36, C, K)."""
    g = torch.tensor(G, dtype=torch.float64)
    result = torch.kron(g, g) @ weight.detach().double().permute(2, 3, 1, 0).reshape(9, -1)
    return result.float().view(IN * IN, *weight.shape[1::-1])


def convolve(x: Tensor, kernels: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """x (N, C, H, W), zeros around it, by kernels (36, C, K), plus bias (K,) and rectified: (N, K, H, W),
    channels last.  No gradient goes through."""
    n, c, h, w = x.shape
    k, down, across = kernels.shape[2], -(-h // OUT), -(-w // OUT)
    row, threads = 4 * IN * IN * across * max(c, k), torch.get_num_threads()
    tall = max(1, min(down, (CACHE if c < 4 * NARROW else AHEAD) // row))
    several = max(1, min(-(-n // threads), AHEAD // (row * down))) if tall == down else 1
    y, images = x.new_empty(n, OUT * down, OUT * across, k), x.movedim(1, 3)

    inference = torch.is_inference_mode_enabled()  # which each thread says for itself

    def walk(strips: Sequence[tuple[int, int]]) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            work = Work(images, several, tall, across, k)
            for first, top in strips:
                part = slice(first, first + several)
                work.strip(images[part], top, min(tall, down - top), kernels, bias, relu, y[part])

    strips = [(first, top) for first in range(0, n, several) for top in range(0, down, tall)]
    if threads == 1 or len(strips) == 1:
        walk(strips)
    else:
        each = -(-len(strips) // threads)
        list(pool(threads).map(walk, (strips[i : i + each] for i in range(0, len(strips), each))))
    return y[:, :h, :w].movedim(3, 1)


class Through(torch.autograd.Function):
    """convolve() through which a gradient goes to x, and to x alone: the kernels stay as they are."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernels: Tensor, back: Tensor, bias: Tensor | None, relu: bool
    ) -> Tensor:
        """back: kernels() of what `transposed` makes of the weight."""
        y = convolve(x, kernels, bias, relu)
        ctx.relu = relu
        ctx.save_for_backward(back, *([y] if relu else []))
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        back, *seen = ctx.saved_tensors
        slope = torch.where(seen[0] > 0, slope, 0) if ctx.relu else slope
        return convolve(slope, back, None, False), None, None, None, None


def transposed(weight: Tensor) -> Tensor:
    """The weight (C, K, 3, 3) by which slopes go back through a convolution with `weight` (K, C, 3, 3)."""
    return weight.flip(2, 3).transpose(0, 1)


@cache  # but not in a child of this process, where the threads are not
def pool(threads: int) -> ThreadPoolExecutor:
    """Threads that compute by themselves, where torch would divide each single operation among its own."""
    together = Barrier(threads, timeout=60)
    result = ThreadPoolExecutor(threads, "winograd", torch.set_num_threads, (1,))
    list(result.map(lambda _: together.wait(), range(threads)))  # so that all have begun
    torch.set_num_threads(threads)  # the number is each thread's own, but for what a new one begins with
    return result


os.register_at_fork(after_in_child=pool.cache_clear)


class Work:
    """Room for a strip, used again for the next."""

    def __init__(self, x: Tensor, several: int, tall: int, across: int, k: int):
        """Of `several` of images x (n, H, W, C) at once, `tall` tiles high and `across` wide."""
        c, tiles = x.shape[3], several * tall * across
        self.across = across
        self.pixels = x.new_zeros(several, OUT * tall + 2, OUT * across + 2, c)
        self.taken, self.seen = x.new_empty(IN * IN * tiles * c), x.new_empty(IN * IN * tiles * c)
        self.product, self.shown = x.new_empty(IN * IN * tiles * k), x.new_empty(OUT * OUT * tiles * k)

    def strip(
        self, x: Tensor, top: int, tall: int, kernels: Tensor, bias: Tensor | None, relu: bool, y: Tensor
    ) -> None:
        """Of images x (n, H, W, C), the rows of tiles from `top` on, written into y (n, H', W', K)."""
        n, c, k, across = len(x), x.shape[3], y.shape[3], self.across
        tiles = n * tall * across
        self.place(x, OUT * top - 1, OUT * tall + 2)
        high, wide = self.pixels.shape[1:3]
        d = self.pixels.as_strided(
            (IN, IN, n, tall, across, c), (wide * c, c, high * wide * c, OUT * wide * c, OUT * c, 1)
        )
        taken, seen = (room[: IN * IN * tiles * c].view(IN * IN, -1) for room in (self.taken, self.seen))
        product, shown = (
            self.product[: IN * IN * tiles * k].view(IN * IN, -1),
            self.shown[: OUT * OUT * tiles * k].view(OUT * OUT, -1),
        )
        taken.view(d.shape).copy_(d)
        torch.mm(twice(B), taken, out=seen)
        torch.bmm(seen.view(-1, tiles, c), kernels, out=product.view(-1, tiles, k))
        torch.mm(twice(A), product, out=shown)
        if bias is not None:
            shown.view(-1, tiles, k).add_(bias)
        if relu:
            F.relu_(shown)
        into = y[:, OUT * top : OUT * (top + tall)].view(n, tall, OUT, across, OUT, k)
        into.copy_(shown.view(OUT, OUT, n, tall, across, k).permute(2, 3, 0, 4, 1, 5))

    def place(self, x: Tensor, first: int, rows: int) -> None:
        """So many rows of images x (n, H, W, C) from `first` on, which may begin above them and end below,
        between columns of zeros."""
        low, high, n = max(0, first), min(x.shape[1], first + rows), len(x)
        self.pixels[:n, : low - first].zero_()
        self.pixels[:n, low - first : high - first, 1 : x.shape[2] + 1].copy_(x[:, low:high])
        self.pixels[:n, high - first : rows].zero_()
