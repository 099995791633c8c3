"""Instance normalisation against its formula; how far each network sees, by its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from likeness.core import Noise
from likeness.parts import translators
from likeness.parts.norms import InstanceNorm

LAYOUTS = {"plain": torch.contiguous_format, "channels last": torch.channels_last}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_is_its_formula_and_so_are_its_gradients(layout, affine):
    torch.manual_seed(0)
    norm = InstanceNorm(3, affine)
    if affine:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = (torch.randn(4, 3, 5, 6) * 3 + 1).to(memory_format=layout)
    up = torch.randn(4, 3, 5, 6)
    results = []
    for f in (norm, lambda x: by_formula(x, norm)):
        at = x.clone().requires_grad_()
        y = f(at)
        weights = [norm.weight, norm.bias] if affine else []
        results.append([y, *torch.autograd.grad((y * up).sum(), [at, *weights])])
    for one, other in zip(*results):
        assert torch.allclose(one, other, atol=2e-5)
    assert results[0][0].is_contiguous(memory_format=layout)


def by_formula(x, norm):
    mean = x.mean((2, 3), keepdim=True)
    y = (x - mean) / torch.sqrt((x - mean).square().mean((2, 3), keepdim=True) + 1e-5)
    return y if norm.weight is None else y * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


def test_an_image_does_not_depend_on_its_company():
    norm = InstanceNorm(4)
    x = torch.randn(3, 4, 6, 6).to(memory_format=torch.channels_last)
    assert torch.equal(norm(x)[1:2], norm(x[1:2].to(memory_format=torch.channels_last)))


def seen_by(net, size, row, column, channels=2):
    """First and last row and column of the input on which output (row, column) of `net` depends."""
    x = torch.rand(1, channels, size, size, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x)[0, :, row, column].sum(), x)
    rows, columns = (slope[0].abs().sum((0, d)).nonzero().flatten() for d in (2, 1))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_logit_sees_a_patch_as_large_as_in_the_paper(layers):
    assert [translators.reach(n) for n in (1, 2, 3, 4, 5)] == [16, 34, 70, 142, 286]
    net, size = translators.patches(2, 2, layers, translators.NORMS["none"]).double(), 128
    middle = net(torch.zeros(1, 2, size, size, dtype=torch.float64)).shape[-1] // 2
    top, bottom, left, right = seen_by(net, size, middle, middle)
    assert bottom - top + 1 == right - left + 1 == translators.reach(layers)


NETS = {
    "residual": lambda norm: translators.Residual(2, 2, 2, blocks=1, norm=norm),
    "two blocks": lambda norm: translators.Residual(2, 2, 2, blocks=2, norm=norm),
    "resized": lambda norm: translators.Residual(2, 2, 2, blocks=1, norm=norm, resize=True),
    "one halving": lambda norm: translators.Residual(2, 2, 2, blocks=1, halvings=1, norm=norm),
    "unet 1": lambda norm: translators.UNet(2, 2, 2, 1, norm),
    "unet 2": lambda norm: translators.UNet(2, 2, 2, 2, norm),
    "unet 3": lambda norm: translators.UNet(2, 2, 2, 3, norm),
}


@pytest.mark.parametrize("name", NETS)
def test_the_halo_is_exactly_as_far_as_a_pixel_sees(name):
    torch.manual_seed(0)
    net = NETS[name](translators.NORMS["none"]).double()
    net.apply(positive)
    size = 2 * net.stride * -(-(net.halo + net.stride) // net.stride)
    middle, most = size // 2, 0
    for o in range(middle, middle + net.stride):
        top, bottom, left, right = seen_by(net, size, o, o)
        assert (top, bottom) == (left, right)
        most = max(most, o - top, bottom - o)
    assert most == net.halo


def positive(layer):
    """Weights under which no rectifier is shut, and nothing cancels."""
    for p in layer.parameters(recurse=False):
        p.data.abs_()
    if isinstance(layer, translators.Bend):
        layer.leak = 0.5


@pytest.mark.parametrize("name", NETS)
def test_the_size_may_be_any_multiple_of_the_stride(name):
    net = NETS[name](InstanceNorm)
    s = net.stride
    assert net(torch.randn(2, 2, 4 * s, 6 * s)).shape == (2, 2, 4 * s, 6 * s)


def test_blocks_begin_as_the_identity():
    net = translators.Residual(1, 1, 4, blocks=3)
    none = translators.Residual(1, 1, 4, blocks=0)
    none.load_state_dict(
        {
            f"layers.{i - 3 * (i > 8)}.{k.split('.', 2)[2]}": v
            for k, v in net.state_dict().items()
            if not 9 <= (i := int(k.split(".")[1])) < 12
        }
    )
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(net(x), none(x)), "with all blocks left out it is the same function"
    assert torch.equal(translators.Block(4)(h := torch.randn(1, 4, 6, 6)), h)


def test_dropout_is_a_function_of_the_noise_alone():
    net = translators.UNet(1, 1, 4, 3, dropout=0.5)
    x = torch.randn(3, 1, 16, 16)
    a, b = net(x, Noise(range(3))), net(x, Noise(range(3)))
    assert torch.equal(a, b) and not torch.equal(a, net(x, Noise(range(3), key=1)))
    alone = net(x[1:2], Noise([1]))
    assert torch.allclose(alone, a[1:2], atol=1e-6), "image i drops what it drops in any company"
    assert torch.equal(net(x), net(x)) and not torch.equal(net(x), a)
