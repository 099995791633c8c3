"""The networks of denoising models against plain formulas, counts and differences; each image for itself;
what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness.core import NONE, Condition, Noise, Refusal, Spec
from likeness.parts.denoisers import MLP, Patched, network
from likeness.parts.dit import DiT, patch_size, positions
from likeness.parts.unet import Attention, Grow, Norm, Plan, UNet, forward_mode, thin, waves

KINDS = {"unet": Spec(2, 9), "patches": Spec(2, 9), "dit": Spec(2, 9), "mlp": Spec(3, 1, levels=0)}
"""an odd size each, where there is one"""


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """With weights of which none is at its first value, least of all at zero."""
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=p.dtype) * (
            p[0].numel() ** -0.5 if p.ndim > 1 else 0.3
        )
    return net


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(kind: str, labels: int = 0, times: int = 1, dropout: float = 0.0) -> nn.Module:
    spec = KINDS[kind]
    return lively(network(kind, spec, 0.25, spec.channels, labels, times, dropout))


def given(kind: str, n: int = 3, times: int = 1) -> tuple[Tensor, Tensor]:
    spec, t = KINDS[kind], torch.tensor([3.0, 400.0, 990.0, 120.0])[:n]
    return drawn(n, *spec.shape), t if times == 1 else torch.stack([t, t / 2], 1)


# Against plain formulas


def plain_unet(net: UNet, x: Tensor, t: Tensor) -> Tensor:
    """As one would write it, with none of what makes ours fast: norm, silu, doubling and convolution each for
    itself, in NCHW."""
    p, half = net.plan, net.plan.channels[0] // 2
    angle = t[:, None] * 10_000 ** (-torch.arange(half, dtype=x.dtype) / half)
    e = net.time(torch.cat([angle.cos(), angle.sin()], 1))
    told = iter((F.silu(e) @ net.told.weight.T + net.told.bias).split(net.widths, 1))

    def norm(layer: nn.GroupNorm, x: Tensor) -> Tensor:
        return F.group_norm(x, p.groups, layer.weight, layer.bias, p.eps)

    def block(b: nn.Module, x: Tensor) -> Tensor:
        h = b.conv1(F.silu(norm(b.norm1, x))) + next(told)[:, :, None, None]
        return b.skip(x) + b.conv2(F.silu(norm(b.norm2, h)))

    def attention(a: nn.Module, x: Tensor) -> Tensor:
        if isinstance(a, nn.Identity):
            return x
        b, c, h, w = x.shape
        q, k, v = a.heads.qkv(norm(a.norm, x).view(b, c, h * w).mT).chunk(3, 2)
        d = p.head or c
        parts = [
            torch.softmax(q[..., i : i + d] @ k[..., i : i + d].mT / math.sqrt(d), -1) @ v[..., i : i + d]
            for i in range(0, c, d)
        ]
        return x + a.heads.out(torch.cat(parts, 2)).mT.reshape(b, c, h, w)

    def through(level: nn.Module, h: Tensor, made: list[Tensor], back: bool = False) -> Tensor:
        for b, a in zip(level.blocks, level.attentions):
            h = attention(a, block(b, torch.cat([h, made.pop()], 1) if back else h))
            if not back:
                made.append(h)
        return h

    h = net.first(x)
    made = [h]
    for level in net.down:
        h = through(level, h, made)
        if level.resize is not None:
            h = F.conv2d(h, level.resize.weight, level.resize.bias, stride=2, padding=1)
            made.append(h)
    h = through(net.middle, h, [])
    for level in net.up:
        h = through(level, h, made, back=True)
        if level.resize is not None:
            h = F.conv2d(
                F.interpolate(h, scale_factor=2, mode="nearest"),
                level.resize.weight,
                level.resize.bias,
                padding=1,
            )
    return net.last(F.silu(norm(net.norm, h)))


@pytest.mark.parametrize("head", [None, 4])
def test_the_unet_is_the_plain_formula(head):
    net = lively(UNet(Plan(2, 3, (8, 16, 24), (False, True, True), blocks=2, groups=2, head=head)).double())
    x, t = drawn(2, 2, 12, 12).double(), torch.tensor([3.0, 500.0]).double()
    want = plain_unet(net, x, t).detach()
    assert torch.allclose(net(x, t), want.float(), atol=1e-5 * float(want.abs().max()))
    fast = net.float().to(memory_format=torch.channels_last)(
        x.float().to(memory_format=torch.channels_last), t.float()
    )
    assert torch.allclose(fast, want.float(), atol=1e-4 * float(want.abs().max()))


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_and_all_its_derivatives_are_those_of_torch(act, told, layout):
    norm = lively(Norm(3, 12).double())
    x = (2 * drawn(4, 12, 5, 7) + 3).double().to(memory_format=layout).requires_grad_()
    e = drawn(4, 12, seed=2).double().requires_grad_() if told else None
    inputs, weight = [t for t in (x, e, norm.weight, norm.bias) if t is not None], drawn(4, 12, 5, 7, seed=3)
    want = F.group_norm(x if e is None else x + e[:, :, None, None], 3, norm.weight, norm.bias, norm.eps)
    want = F.silu(want) if act else want
    got = norm(x, e, act)
    assert torch.allclose(got, want, atol=1e-10)
    for a, b in zip(torch.autograd.grad(got, inputs, weight), torch.autograd.grad(want, inputs, weight)):
        assert torch.allclose(a, b, atol=1e-9)


def test_norm_in_bf16_is_as_exact_as_its_input():
    norm, x = lively(Norm(2, 16)), 5 + drawn(3, 16, 6, 6)
    want = F.silu(F.group_norm(x.bfloat16().float(), 2, norm.weight, norm.bias))
    got = norm(x.bfloat16())
    assert got.dtype == torch.bfloat16 and torch.allclose(got.float(), want, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("size", [4, 7])
def test_growing_is_doubling_and_then_a_convolution(size):
    grow, x = lively(Grow(6).double()), drawn(2, 6, size, size).double()
    want = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), grow.weight, grow.bias, padding=1)
    assert torch.allclose(grow.onto(x, want), want, atol=1e-12)
    assert grow.onto(x, want[:, :, 1:, 1:]).shape[2:] == (2 * size - 1, 2 * size - 1)


def test_waves_begin_at_a_radian_and_end_near_a_ten_thousandth():
    w = waves(torch.tensor([0.0, 2.0]), 64)
    assert w[0].tolist() == [1.0] * 32 + [0.0] * 32
    assert torch.allclose(w[1, 32], torch.tensor(2.0).sin()) and torch.allclose(
        w[1, -1], torch.tensor(2 * 10_000 ** (-31 / 32)).sin()
    )
    assert torch.allclose(waves(torch.tensor([2.0]), 64, shift=1)[0, -1], torch.tensor(2e-4).sin())


def conv(a: int, b: int, k: int = 3) -> int:
    return k * k * a * b + b


def test_the_unet_has_as_many_weights_as_the_paper_counts():
    """One level by hand: 32 channels, one block down, two in the middle, two on the way back, attention after
    all but the last of the middle."""
    net, c, e = UNet(Plan(1, 1, (32,), (True,), blocks=1, groups=8, labels=10)), 32, 128

    def block(inside: int) -> int:
        skip = 0 if inside == c else conv(inside, c, 1)
        return 2 * inside + conv(inside, c) + (e * c + c) + 2 * c + conv(c, c) + skip

    attention = 2 * c + conv(c, 3 * c, 1) + conv(c, c, 1)
    time = (c * e + e) + (e * e + e) + 11 * e
    want = conv(1, c) + time + 3 * block(c) + 2 * block(2 * c) + 4 * attention + 2 * c + conv(c, 1)
    assert sum(p.numel() for p in net.parameters()) == want


def test_attention_hears_every_pixel_and_leaves_the_channels_in_place():
    attention, x = (
        lively(Attention(8, Plan(1, 1, (8,), (True,), groups=2))),
        drawn(1, 8, 3, 3).requires_grad_(),
    )
    (slope,) = torch.autograd.grad(attention(x)[0, 0, 0, 0], x)
    assert bool((slope[0].abs().sum(0) > 0).all())
    nn.init.zeros_(attention.heads.out.weight), nn.init.zeros_(attention.heads.out.bias)
    assert torch.equal(attention(x), x)


# The transformer


def test_a_dit_without_blocks_sees_in_a_pixel_its_own_patch_alone():
    net = lively(DiT(2, 3, 7, 16, 0, 1, patch=3))
    x = drawn(1, 2, 7, 7).requires_grad_()
    for row, column in ((0, 0), (2, 5), (6, 6), (4, 1)):
        (slope,) = torch.autograd.grad(net(x, torch.tensor([5.0]))[0, :, row, column].sum(), x)
        seen = slope[0].abs().sum(0) > 0
        want = torch.zeros(7, 7, dtype=torch.bool)
        want[row // 3 * 3 : row // 3 * 3 + 3, column // 3 * 3 : column // 3 * 3 + 3] = True
        assert torch.equal(seen, want)


def test_a_dit_puts_each_pixel_of_a_patch_where_it_belongs():
    """The last layer says which of its outputs it is: channel, row and column within the patch."""
    net = DiT(1, 2, 8, 16, 1, 1, patch=4)
    net.last.bias.data = torch.arange(32.0)
    image = net(drawn(1, 1, 8, 8), torch.tensor([5.0]))[0]
    assert torch.equal(image, torch.arange(32.0).view(2, 4, 4).repeat(1, 2, 2))


def test_the_blocks_of_a_dit_are_the_identity_at_first():
    net, shallow = DiT(1, 1, 8, 16, 3, 2, patch=2), DiT(1, 1, 8, 16, 0, 2, patch=2)
    lively(net.last), net.told.bias.data[-32:].normal_()
    same = {k: v for k, v in net.state_dict().items() if not k.startswith(("blocks", "told"))}
    shallow.load_state_dict(
        same | {"told.weight": net.told.weight[-32:].detach(), "told.bias": net.told.bias[-32:].detach()}
    )
    x, t = drawn(2, 1, 8, 8), torch.tensor([5.0, 700.0])
    assert torch.equal(net(x, t), shallow(x, t)) and net(x, t).abs().max() > 0
    lively(net.told)
    assert not torch.allclose(net(x, t), shallow(x, t), atol=0.1)


def test_patches_make_49_to_256_tokens_and_positions_tell_them_apart():
    for size in range(7, 257):
        assert 49 <= math.ceil(size / patch_size(size)) ** 2 <= 256
    assert [patch_size(n) for n in (3, 7, 8, 25, 28, 32, 64)] == [1, 1, 1, 4, 4, 4, 8]
    p = positions(16, 96)
    assert p.shape == (256, 96) and float((torch.cdist(p, p) + 9 * torch.eye(256)).min()) > 0.1


# Every kind of network


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_reached(kind):
    net, (x, t) = small(kind, labels=4), given(kind, 4)
    net(x, t, Condition(torch.tensor([0, 1, 2, 3]))).square().sum().backward()
    net(x, t).square().sum().backward()
    for name, p in net.named_parameters():
        reached = p.grad.view(len(p), -1).abs().sum(1) > 0
        if name.endswith("qkv.bias"):
            # that of keys cancels in the softmax
            reached = torch.cat([reached[: len(p) // 3], reached[2 * len(p) // 3 :]])
        assert bool(reached.all()), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("autocast", [False, True])
def test_forward_derivatives_are_differences(kind, autocast):
    """By the image and by both times, as the identity of MeanFlow asks for."""
    net, (x, t) = small(kind, times=2).double(), given(kind, times=2)
    x, t = x.double(), t.double() / 100
    by_x, by_t = drawn(*x.shape, seed=4).double(), drawn(*t.shape, seed=5).double()
    with torch.no_grad():
        want = (net(x + 1e-3 * by_x, t + 1e-3 * by_t) - net(x - 1e-3 * by_x, t - 1e-3 * by_t)) / 2e-3
    if autocast:
        net, x, t, by_x, by_t = net.float(), x.float(), t.float(), by_x.float(), by_t.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.no_grad():
        _, got = torch.func.jvp(net, (x, t), (by_x, by_t))
    far = float((got - want).abs().max() / want.abs().max())
    assert far < (0.1 if autocast else 1e-3)


def test_forward_mode_is_seen_where_it_is_and_nowhere_else():
    x, seen = torch.ones(2), []
    torch.func.jvp(lambda x: seen.append(forward_mode(x)) or x, (x,), (x,))
    assert seen == [True] and not forward_mode(x)


def test_the_derivative_by_weights_is_the_same_in_forward_mode():
    """MeanFlow takes one through the other."""
    net, (x, t) = small("unet"), given("unet")
    plain = torch.autograd.grad(net(x, t).square().sum(), list(net.parameters()))
    both, _ = torch.func.jvp(net, (x, t), (x, t))
    for a, b in zip(torch.autograd.grad(both.square().sum(), list(net.parameters())), plain):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_is_for_itself(kind):
    net, (x, t) = small(kind, labels=4), given(kind)
    y = Condition(torch.tensor([0, NONE, 2]))
    want = net(x, t, y)
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    assert torch.allclose(alone, want, atol=1e-5)
    x[1], t[1], y.label[1] = 1000.0, 1.0, 1
    assert torch.allclose(net(x, t, y)[[0, 2]], want[[0, 2]], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_class_is_one_more(kind):
    net, (x, t) = small(kind, labels=4), given(kind)
    nothing = net(x, t)
    assert torch.equal(nothing, net(x, t, Condition(torch.full((3,), NONE))))
    assert all(
        not torch.allclose(nothing, net(x, t, Condition(torch.full((3,), i))), atol=1e-3) for i in range(4)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_time_matters(kind):
    net, (x, t) = small(kind, times=2), given(kind, times=2)
    for i in range(2):
        other = t.clone()
        other[:, i] += 1
        assert not torch.allclose(net(x, t), net(x, other), atol=1e-3)
    single, (x, t) = small(kind), given(kind)
    assert torch.equal(single(x, t), single(x, t[:, None]))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_a_matter_of_each_images_noise(kind):
    net, (x, t) = small(kind, dropout=0.5), given(kind)
    want = net(x, t, None, Noise([5, 6, 7]))
    assert torch.equal(net(x, t), net(x, t)) and not torch.allclose(want, net(x, t), atol=1e-2)
    assert torch.allclose(net(x[1:], t[1:], None, Noise([6, 7])), want[1:], atol=1e-5)


def test_dropout_keeps_the_mean_and_leaves_out_its_share():
    x = thin(torch.ones(2, 5, 40, 41), 0.25, Noise([1, 2]))
    assert abs(float((x == 0).float().mean()) - 0.25) < 0.02 and abs(float(x.mean()) - 1) < 0.02


@pytest.mark.parametrize(
    "kind, channels, size",
    [
        ("unet", 1, 28),
        ("unet", 3, 25),
        ("unet", 16, 7),
        ("unet", 64, 4),
        ("unet", 3, 2),
        ("dit", 1, 28),
        ("dit", 3, 25),
        ("patches", 1, 28),
        ("patches", 3, 25),
    ],
)
@pytest.mark.parametrize("scale", [0.25, 0.7])
def test_any_size_goes_through(kind, channels, size, scale):
    net = lively(network(kind, Spec(channels, size), scale, 2 * channels, 0))
    with torch.autocast("cpu", torch.bfloat16):
        out = net(drawn(2, channels, size, size), torch.tensor([1.0, 2.0]))
    assert (
        out.shape == (2, 2 * channels, size, size)
        and out.dtype == torch.float32
        and bool(out.isfinite().all())
    )


def test_auto_depends_on_the_examples():
    assert isinstance(network("auto", Spec(1, 28), 0.25, 1, 0), Patched)
    assert isinstance(network("auto", Spec(1, 8), 0.25, 1, 0), UNet)
    assert isinstance(network("auto", Spec(4, 28, levels=0), 0.25, 4, 0), UNet), "codes"
    assert isinstance(network("auto", Spec(2, 1, levels=0), 0.25, 2, 0), MLP)
    assert isinstance(network("mlp", Spec(1, 8), 0.25, 1, 0), MLP)


@pytest.mark.parametrize(
    "kind, spec",
    [("unet", Spec(1, 28)), ("patches", Spec(1, 28)), ("dit", Spec(1, 28)), ("mlp", Spec(2, 1, levels=0))],
)
def test_the_dial(kind, spec):
    """Scale 1 is for a laptop; twice the scale is about twice the width, and four times the weights or a
    little more."""
    one, two = (
        sum(p.numel() for p in network(kind, spec, scale, spec.channels, 0).parameters()) for scale in (1, 2)
    )
    assert 0.5e6 < one < 1.5e6 and 3.5 < two / one < 6.5


@pytest.mark.parametrize("net, says", [("unet", "--net mlp"), ("dit", "--net mlp"), ("vit", "--net auto")])
def test_what_makes_no_sense_is_refused(net, says):
    with pytest.raises(Refusal, match=says):
        network(net, Spec(2, 1, levels=0), 1, 2, 0)
