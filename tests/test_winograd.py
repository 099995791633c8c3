"""The shorter way to a 3x3 convolution, held against the plain one."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from likeness.backbones import winograd
from likeness.backbones.layers import Conv
from likeness.features.extract import MANY, extract
from likeness.features.opening import load


def case(n: int, c: int, k: int, h: int, w: int) -> tuple[torch.Tensor, ...]:
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(n, c, h, w, generator=chance).contiguous(memory_format=torch.channels_last)
    return x, torch.randn(k, c, 3, 3, generator=chance) / (9 * c) ** 0.5, torch.randn(k, generator=chance)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize(
    "shape",
    [(1, 5, 7, 4, 4), (2, 64, 96, 9, 14), (3, 300, 8, 6, 5), (1, 3, 2, 1, 1), (5, 16, 16, 33, 8)],
    ids=str,
)
@pytest.mark.parametrize("relu", [True, False], ids=["rectified", "not"])
def test_it_is_the_convolution(shape, relu, monkeypatch):
    """In strips of one row of tiles, and in one piece; more images than fit at once, sides that are no
    multiple of four."""
    x, weight, bias = case(*shape)
    plain = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    plain = plain.relu() if relu else plain
    whole = winograd.convolve(x, winograd.kernels(weight), bias, relu)
    monkeypatch.setattr(winograd, "CACHE", 1)
    monkeypatch.setattr(winograd, "AHEAD", 1)
    strips = winograd.convolve(x, winograd.kernels(weight), bias, relu)
    assert apart(whole.double(), plain) < 2e-5 and apart(strips.double(), plain) < 2e-5
    assert (
        apart(
            winograd.convolve(x, winograd.kernels(weight), None, False).double(),
            F.conv2d(x.double(), weight.double(), padding=1),
        )
        < 2e-5
    )


def test_several_threads_share_the_images_and_leave_torch_as_it_was():
    x, weight, bias = case(5, 16, 8, 24, 9)
    kernels, before = winograd.kernels(weight), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        several = winograd.convolve(x, kernels, bias, True)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        assert apart(winograd.convolve(x, kernels, bias, True), several) < 1e-6
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [(5, 24, 9), (1, 40, 12)], ids=["images", "strips of one"])
def test_threads_work_within_inference_mode(size, monkeypatch):
    monkeypatch.setattr(winograd, "CACHE", 1)
    x, weight, bias = case(size[0], 16, 8, *size[1:])
    kernels, before = winograd.kernels(weight), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch.inference_mode():
            found = winograd.convolve(x * 1, kernels, bias, False)
        assert apart(found, F.conv2d(x, weight, bias, padding=1)) < 2e-5
    finally:
        torch.set_num_threads(before)


def test_a_child_process_has_threads_of_its_own():
    winograd.pool(2)
    child = os.fork()
    if child == 0:
        os._exit(winograd.pool.cache_info().currsize)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_room_for_an_image_some_are_done_at_once(monkeypatch):
    x, weight, bias = case(5, 8, 8, 8, 8)
    monkeypatch.setattr(winograd, "AHEAD", 2 * 4 * 36 * 4 * 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    at_once = []
    strip = winograd.Work.strip
    monkeypatch.setattr(
        winograd.Work, "strip", lambda self, x, *rest: (at_once.append(len(x)), strip(self, x, *rest))[1]
    )
    found = winograd.convolve(x, winograd.kernels(weight), bias, False)
    assert at_once == [2, 2, 1] and apart(found, F.conv2d(x, weight, bias, padding=1)) < 2e-5


def test_a_wrong_constant_would_be_seen(monkeypatch):
    x, weight, bias = case(1, 8, 8, 12, 12)
    rows = [list(row) for row in winograd.A]
    rows[2][3] = 2.0
    monkeypatch.setattr(winograd, "A", tuple(map(tuple, rows)))
    assert (
        apart(
            winograd.convolve(x, winograd.kernels(weight), bias, False), F.conv2d(x, weight, bias, padding=1)
        )
        > 0.05
    )


def test_only_convolutions_that_gain_go_the_shorter_way():
    gain = Conv(64, 64, 3)
    for conv in (gain, Conv(64, 64, 1), Conv(64, 64, 3, 2), Conv(32, 64, 3), Conv(64, 64, 3, groups=64)):
        conv.hurry()
        assert (conv.kernels is not None) == (conv is gain)


def test_gradients_and_half_precision_and_small_images_go_the_plain_way(monkeypatch):
    monkeypatch.setattr(winograd, "LEAST", 9 * 64 * 64 * 64)
    conv = Conv(64, 64, 3, relu=True)
    conv.hurry()
    x = torch.randn(1, 64, 8, 8)
    with torch.no_grad():
        assert apart(conv(x), F.relu(F.conv2d(x, conv.weight, conv.bias, padding=1))) < 2e-5
    monkeypatch.setattr(winograd, "convolve", lambda *_: pytest.fail("the shorter way was taken"))
    x.requires_grad_()
    conv(x).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        conv(x.detach()[:, :, :7])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert conv(x.detach()).dtype == torch.bfloat16


def test_layers_that_nobody_asks_for_are_left_as_they_are():
    net = load("vgg16", "none")
    with net.hurried(["block3_pool"]):
        assert net.nodes["block3_conv3"].kernels is not None and net.nodes["block4_conv1"].kernels is None
    assert net.nodes["block3_conv3"].kernels is None


def test_many_images_take_the_shorter_way_and_few_do_not(tmp_path, monkeypatch):
    folder, calls = tmp_path / "photos", []
    folder.mkdir()
    for i in range(MANY):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
            folder / f"{i:02}.png"
        )
    monkeypatch.setattr(winograd, "LEAST", 1)
    short = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *given: (calls.append(len(given[0])), short(*given))[1])
    net = load("vgg16", "none")
    *_, _ = extract(net, str(folder), ["block3_pool"], tmp_path / "few.npy", "avg", 40, n=MANY - 1)
    assert not calls
    *_, _ = extract(net, str(folder), ["block3_pool"], tmp_path / "many.npy", "avg", 40)
    assert calls and not any(
        layer.kernels is not None for layer in net.nodes.values() if isinstance(layer, Conv)
    ), "new weights would not be heard of"
    few, many = (np.load(tmp_path / f"{name}.npy") for name in ("few", "many"))
    rows = [int(line.split(",")[1][:2]) for line in (tmp_path / "few.csv").read_text().split()[1:]]
    assert np.abs(few - many[rows]).max() < 1e-5 * np.abs(many).max()


def test_a_gradient_goes_through_to_the_image_as_through_the_plain_convolution():
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 64, 3, 3, generator=g) / 24, torch.randn(96, generator=g)
    x, way = torch.randn(1, 64, 18, 21, generator=g), torch.randn(1, 96, 18, 21, generator=g)
    both, back = (winograd.kernels(w) for w in (weight, winograd.transposed(weight)))
    for relu in (True, False):
        at = x.clone().requires_grad_()
        plain = torch.nn.functional.conv2d(at, weight, bias, padding=1)
        plain = plain.relu() if relu else plain
        (wanted,) = torch.autograd.grad((plain * way).sum(), at)
        short = winograd.Through.apply(at, both, back, bias, relu)
        (slope,) = torch.autograd.grad((short * way).sum(), at)
        assert torch.allclose(short, plain, atol=1e-3) and torch.allclose(slope, wanted, atol=1e-3)
        fake = winograd.Through.apply(at, both, winograd.kernels(weight.transpose(0, 1)), bias, relu)
        (wrong,) = torch.autograd.grad((fake * way).sum(), at)
        assert not torch.allclose(wrong, wanted, atol=1e-1), "kernels that were not turned round"
