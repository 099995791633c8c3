"""Convolutions that see only what comes before: against a loop over the kernel, of an image at once and as it
is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from likeness.parts.autoregressive import Planes
from likeness.parts.causal import CausalConv, Memory, centre, groups, order, shift_down, shift_right

SIZE, INSIDE, OUTSIDE = 5, 3, 4
KERNELS = [(0, 0, 0), (0, 3, 0), (2, 0, 0), (1, 1, 1), (3, 3, 3), (1, 2, 0), (2, 0, 1), (6, 1, 1)]
kernels = pytest.mark.parametrize("above, left, right", KERNELS)


def conv(above: int, left: int, right: int, mask: Tensor | None = None, bias: bool = True) -> CausalConv:
    torch.manual_seed(0)
    return CausalConv(INSIDE, OUTSIDE, above, left, right, mask, bias).double()


def picture(n: int = 2) -> Tensor:
    return torch.randn(n, INSIDE, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_hand(layer: CausalConv, x: Tensor, above: int, left: int, right: int, mask: Tensor | None) -> Tensor:
    """Every product by itself; what lies beyond the image is zero."""
    weight = layer.weight if mask is None else layer.weight * mask
    out = torch.zeros(len(x), OUTSIDE, SIZE, SIZE, dtype=x.dtype)
    if layer.bias is not None:
        out += layer.bias[:, None, None]
    for r in range(SIZE):
        for c in range(SIZE):
            for i in range(above + 1):
                for j in range(left + 1 + right):
                    row, column = r - above + i, c - left + j
                    if 0 <= row < SIZE and 0 <= column < SIZE:
                        out[:, :, r, c] += x[:, :, row, column] @ weight[:, :, i, j].T
    return out


def some(above: int, left: int, right: int) -> Tensor:
    return (
        torch.rand(OUTSIDE, INSIDE, above + 1, left + 1 + right, generator=torch.Generator().manual_seed(2))
        < 0.5
    ).double()


@kernels
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_a_pass_is_the_sum_over_the_kernel(
    above: int, left: int, right: int, masked: bool, bias: bool
) -> None:
    mask, x = some(above, left, right) if masked else None, picture()
    layer = conv(above, left, right, mask, bias)
    expected = by_hand(layer, x, above, left, right, mask)
    assert torch.allclose(layer(x), expected, atol=1e-12)
    if left or right:
        # the fake: left taken for right
        mirrored = by_hand(layer, x.flip(-1), above, left, right, mask).flip(-1)
        assert not torch.allclose(layer(x), mirrored, atol=1e-3)


@kernels
@pytest.mark.parametrize("n", [1, 2])
@torch.no_grad()
def test_row_after_row_is_the_same_as_the_whole(above: int, left: int, right: int, n: int) -> None:
    layer, x, memory = conv(above, left, right, some(above, left, right)), picture(n), Memory(SIZE)
    rows = []
    for r in range(SIZE):
        memory.row = r
        rows.append(layer(x[:, :, r : r + 1], memory))
    assert torch.allclose(torch.cat(rows, 2), layer(x), atol=1e-12)


def past(above: int, left: int, right: int) -> Tensor:
    return centre(torch.ones(OUTSIDE, INSIDE, 1, 1), above, left, right).double()


def pixel_by_pixel(layer: CausalConv, x: Tensor) -> Tensor:
    memory, out = Memory(SIZE), []
    for memory.row in range(SIZE):
        for memory.column in range(SIZE):
            here = memory.here(x)
            # said too early, and corrected, as the channels of a pixel are
            layer(torch.full_like(here, 9.0), memory)
            out.append(layer(here, memory))
    return torch.cat(out, 3).unflatten(3, (SIZE, SIZE)).squeeze(2)


@kernels
@pytest.mark.parametrize("n", [1, 2])
@torch.no_grad()
def test_pixel_after_pixel_is_the_same_as_the_whole(above: int, left: int, right: int, n: int) -> None:
    layer, x = conv(above, left, right, past(above, left, right)), picture(n)
    assert torch.allclose(pixel_by_pixel(layer, x), layer(x), atol=1e-12)
    if right:
        early = conv(above, left, right)  # the fake: no mask, so that a full pass sees what is not drawn yet
        assert not torch.allclose(pixel_by_pixel(early, x), early(x), atol=1e-3)


def test_a_kernel_of_one_pixel_keeps_nothing_of_the_image() -> None:
    layer, memory = conv(0, 0, 0), Memory(SIZE)
    layer(picture()[:, :, :1], memory)
    assert [tuple(t.shape) for t in memory.kept.values()] == [(INSIDE, OUTSIDE)]


@torch.no_grad()
def test_a_memory_that_is_told_later_forgets_what_it_was_told_before() -> None:
    layer, x, memory = conv(0, 1, 0), picture(), Memory(SIZE)
    layer(x[:, :, :1, :1], memory)
    layer.write(2 * x[:, :, :1, :1], memory)
    memory.column = 1
    expected = layer(torch.cat([2 * x[:, :, :1, :1], x[:, :, :1, 1:2]], 3))[:, :, :, 1:]
    assert torch.allclose(layer(x[:, :, :1, 1:2], memory), expected, atol=1e-12)


def test_a_weight_behind_the_mask_never_moves() -> None:
    mask = some(1, 1, 1)
    layer = conv(1, 1, 1, mask)
    layer(picture()).square().sum().backward()
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad != 0, mask.bool())


def test_channels_share_the_features_evenly() -> None:
    assert groups(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert groups(4, 3).tolist() == [0, 0, 1, 2]
    assert groups(3, 1).tolist() == [0, 0, 0]
    assert groups(2, 2, 2).tolist() == [0, 1, 0, 1]
    for width in range(3, 40):
        assert torch.bincount(groups(width, 3), minlength=3).min() >= width // 3


def test_masks_a_and_b_of_a_pixel() -> None:
    rgb = torch.arange(3)
    assert order(rgb, rgb, "A")[:, :, 0, 0].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert order(rgb, rgb, "B")[:, :, 0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert order(torch.tensor([0, 2]), torch.tensor([0, 0, 1]), "A")[:, :, 0, 0].tolist() == [
        [0, 0, 0],
        [1, 1, 1],
    ]


def test_the_mask_of_a_kernel() -> None:
    own = torch.tensor([[0.0, 1.0]])[:, :, None, None]
    a, b = centre(own, 1, 1, 1)[0]
    assert a.tolist() == [[1, 1, 1], [1, 0, 0]] and b.tolist() == [[1, 1, 1], [1, 1, 0]]
    a, b = centre(own, 0, 2, 0)[0]
    assert a.tolist() == [[1, 1, 0]] and b.tolist() == [[1, 1, 1]]
    a, b = centre(own, 1, 2, 1)[0]
    assert a.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]] and b.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_shifts() -> None:
    x = torch.arange(1.0, 5).view(1, 1, 2, 2)
    assert shift_down(x).tolist() == [[[[0, 0], [1, 2]]]]
    assert shift_right(x).tolist() == [[[[0, 1], [0, 3]]]]


def test_a_network_sees_brightness_or_a_vector_for_each_name() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0])[
        torch.randint(3, (2, 2, 4, 4), generator=torch.Generator().manual_seed(0))
    ]
    assert torch.equal(Planes(2, 3, symbols=False)(x), x)
    planes = Planes(2, 3, symbols=True, width=5)
    seen = planes(x).view(2, 2, 5, 4, 4)
    assert planes.channels == 10
    codes = {(c, float(v)): seen[:, c].movedim(1, -1)[x[:, c] == v] for c in range(2) for v in (-1, 0, 1)}
    assert all((vectors == vectors[0]).all() for vectors in codes.values())
    assert len({tuple(vectors[0].tolist()) for vectors in codes.values()}) == 6, "two names look alike"
