"""PixelCNN++: causal, exact, and drawn from a memory the same images as from the whole network."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.models import load
from likeness.models import pixelcnnpp as module
from likeness.parts.causal import CausalConv, Memory
from likeness.parts.conditionals import Softmax, value
from likeness.parts.mixture import LogisticMixture
from likeness.parts.strided import Double, Halve

PixelCNNpp = load("pixelcnnpp")
DATA = [
    (7, 1, 256, False),
    (8, 3, 17, False),
    (9, 1, 2, False),
    (12, 3, 256, False),
    (7, 1, 32, True),
    (2, 1, 4, False),
    (1, 3, 4, False),
]
"""size, channels, levels, symbols"""


def wild(spec: Spec, seed: int = 0, std: float = 0.3, **options: object) -> torch.nn.Module:
    """A model of large random weights, in float64."""
    model = PixelCNNpp(spec=spec, **(dict(width=6, depth=1) | options)).double().eval()
    g = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.data.normal_(0, std, generator=g)
    return model


def images(n: int, spec: Spec) -> Tensor:
    return value(
        torch.randint(0, spec.levels, (n, *spec.shape), generator=torch.Generator().manual_seed(1)),
        spec.levels,
    ).double()


def dependence(model: torch.nn.Module, x: Tensor) -> Tensor:
    """Which pixels' distributions depend on which pixels, (pixels, pixels), by the Jacobian; the first is
    what depends."""
    mix = torch.linspace(0.5, 1.5, model.p.outputs, dtype=torch.float64)[:, None, None]
    j = torch.autograd.functional.jacobian(lambda x: (model.predict(x) * mix).sum((0, 1)).flatten(), x)
    return j[:, 0].abs().sum(1).flatten(1) != 0


@pytest.mark.parametrize(
    ("size", "channels", "options"),
    [(7, 1, {}), (8, 3, dict(depth=2)), (9, 1, dict(depth=2)), (7, 1, dict(resolutions=1, depth=2))],
)
def test_sees_every_pixel_before_and_none_after(size: int, channels: int, options: dict[str, int]) -> None:
    """REFERENCE 1.2: exactly 0.0 for a pixel itself and all later ones; no blind spot."""
    spec = Spec(channels, size)
    seen = torch.zeros(size**2, size**2, dtype=torch.bool)
    for seed in range(2):  # the slope of a path may vanish at one set of weights
        seen |= dependence(wild(spec, seed, 0.5, **options), images(1, spec))
    assert torch.equal(seen, torch.ones_like(seen).tril(-1))


def test_dependence_notices_a_stream_that_is_not_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("shift_down", "shift_right"):
        with monkeypatch.context() as m:
            m.setitem(PixelCNNpp.predict.__globals__, name, lambda x: x)
            seen = dependence(wild(Spec(1, 4)), images(1, Spec(1, 4)))
        assert (seen & ~torch.ones_like(seen).tril(-1)).any(), name


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("size", "channels", "levels", "symbols"), DATA)
def test_memory_draws_what_the_whole_network_draws(
    size: int, channels: int, levels: int, symbols: bool, conditional: bool
) -> None:
    spec = Spec(channels, size, labels=3, levels=levels, symbols=symbols)
    model, n = wild(spec, conditional=conditional), 3
    y = Condition(torch.tensor([2, 0, 1])) if conditional else None
    known = (
        torch.arange(size**2).view(size, size) < size + size // 2
        if size > 2
        else torch.zeros(size, size, dtype=torch.bool)
    )
    given = images(n, spec)
    *_, fast = model.complete(given, known, Noise(range(n)), y)
    *_, slow = model.complete(given, known, Noise(range(n)), y, naive=True)
    assert torch.equal(fast, slow) and torch.equal(fast[:, :, known], given[:, :, known])
    assert size < 3 or len(fast.unique()) > min(levels, 6) / 2


@pytest.mark.parametrize("size", [7, 8, 9, 13])
def test_each_pixel_from_the_memory_is_that_of_the_whole(size: int) -> None:
    """Not only the drawn levels but every number that the network says."""
    spec = Spec(3, size)
    model, x, memory = wild(spec, depth=2), images(2, spec), Memory(size)
    with torch.no_grad():
        out = model.predict(x)
        for r, c in itertools.product(range(size), repeat=2):
            memory.row, memory.column = r, 0
            if c == 0:
                model.row(x, memory)
            memory.column = c
            whole = out[:, :, r : r + 1, c : c + 1]
            wrong = (model.pixel(x, memory) - whole).abs().max() / whole.abs().max()
            # of the largest: a small output may be the difference of large ones, by other kernels in another
            # order
            assert wrong < 1e-9, (r, c, wrong)


def test_a_low_resolution_feature_is_computed_once() -> None:
    """A quarter of the pixels at half the resolution, a sixteenth at a quarter."""
    size = 16
    model, calls = wild(Spec(1, size), resolutions=3), dict[int, int]()
    assert model.count_resolutions() == 3
    stream, level = model.horizontal, 0
    while stream is not None:
        stream.register_forward_hook(
            lambda *_, level=level: calls.__setitem__(level, calls.get(level, 0) + 1)
        )
        stream, level = stream.below.stream if stream.below is not None else None, level + 1
    *_, _ = model.sample(Noise([0]))
    assert calls == {0: 256, 1: 64, 2: 16}


@pytest.mark.parametrize("vertical", [True, False])
@pytest.mark.parametrize("skips", [True, False])
@torch.no_grad()
def test_a_block_is_what_the_paper_says(vertical: bool, skips: bool) -> None:
    """x + a (.) sigmoid(b), [a, b] = W_2 * f(W_1 * f(x) + V f(heard)) + U y, f(x) = [elu(x), elu(-x)]; with a
    skip another V f(opposite)."""
    model = wild(Spec(1, 6, 3), conditional=True, resolutions=1)
    stream = model.vertical if vertical else model.horizontal
    block = (stream.back if skips else stream.there)[0]
    x, heard, opposite = torch.randn(
        3, 2, 6, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    y = torch.tensor([2, 0])

    def f(x: Tensor) -> Tensor:
        return torch.cat([torch.where(s > 0, s, s.exp() - 1) for s in (x, -x)], 1)

    def seen(layer: CausalConv, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, int(vertical), 1, 0)), layer.weight, layer.bias)

    h = seen(block.first, f(x))
    if skips:
        h = h + F.conv2d(f(opposite), block.skip.weight)
    if not vertical:
        h = h + heard
    a, b = (seen(block.second, f(h)) + block.label.weight[y][:, :, None, None]).chunk(2, 1)
    expected = x + a * torch.sigmoid(b)
    go = module.Way(Condition(y), heard={} if vertical else {block.place: heard})
    out = block(module.features(x), go, f(opposite) if skips else None)
    assert torch.allclose(out.x, expected, atol=1e-12) and torch.allclose(out.f, f(expected), atol=1e-12)
    if vertical:  # V f(heard), on the way to the block of the horizontal stream
        assert torch.allclose(go.heard[block.place], F.conv2d(f(expected), block.across.weight), atol=1e-12)


@pytest.mark.parametrize("size", [2, 7, 8])
def test_halving_and_doubling_say_the_same_of_rows_and_pixels(size: int) -> None:
    torch.manual_seed(0)
    shrink, grow, x = (
        Halve(3, 4, 1, 1, 1).double(),
        Double(4, 2).double(),
        torch.randn(2, 3, size, size).double(),
    )
    low = shrink(x)
    assert low.shape[2:] == ((size + 1) // 2,) * 2
    whole, memory = grow.onto(x, low), Memory(size)
    assert whole.shape == (2, 2, size, size)
    for r in range(size):
        memory.row = r
        row = x[:, :, r : r + 1]
        found = shrink(row, memory)
        assert found.shape[3] == (0 if r % 2 else low.shape[3])
        assert r % 2 or torch.allclose(found, low[:, :, r // 2 : r // 2 + 1])
        assert torch.allclose(grow.onto(row, found, memory), whole[:, :, r : r + 1])


@pytest.mark.parametrize("std", [0.1, 1.0, 30.0])
def test_all_images_of_2x2_and_4_levels_sum_to_one(std: float) -> None:
    """REFERENCE 1.1, in the arithmetic that training uses."""
    every = value(torch.tensor(list(itertools.product(range(4), repeat=4))), 4).view(256, 1, 2, 2)
    model = wild(Spec(1, 2, levels=4), std=std).float()
    nats = model.bits_per_dim(Batch(every, None, Noise(range(256)))).values.double() * 4 * math.log(2)
    assert (-nats).exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["shift_down", "shift_right"])
def test_the_sum_notices_a_pixel_that_sees_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    every = value(torch.tensor(list(itertools.product(range(4), repeat=4))), 4).view(256, 1, 2, 2)
    monkeypatch.setitem(PixelCNNpp.predict.__globals__, name, lambda x: x)
    nats = (
        wild(Spec(1, 2, levels=4)).bits_per_dim(Batch(every.double(), None, Noise(range(256)))).values
        * 4
        * math.log(2)
    )
    assert abs((-nats).exp().sum().item() - 1) > 0.01


def test_learns_a_known_distribution() -> None:
    """KL(data || model) < 0.01 nats over all 256 images of 2x2 pixels and 4 levels."""
    torch.manual_seed(0)
    every = value(torch.tensor(list(itertools.product(range(4), repeat=4))), 4).view(256, 1, 2, 2)
    p = torch.rand(256, generator=torch.Generator().manual_seed(0))
    p = p / p.sum()
    model = PixelCNNpp(spec=Spec(1, 2, levels=4), width=24, depth=1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    kls = []
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 200)
        log_q = -model.surprise(every).flatten(1).sum(1)
        kl = (p * (p.log() - log_q)).sum()
        optimizer.zero_grad()
        kl.backward()
        optimizer.step()
        kls.append(kl.item())
    assert kls[0] > 0.1 and kls[-1] < 0.01


def test_dropout_is_of_the_batchs_noise_and_of_training_alone() -> None:
    torch.manual_seed(0)
    model = PixelCNNpp(spec=Spec(1, 8), width=6, depth=1, dropout=0.5)
    batch = Batch(images(6, model.spec).float(), None, Noise(range(6)))
    model.train()
    pieces = batch.split(2)
    before = torch.get_rng_state()
    first, second = model.loss(batch).total, model.loss(batch).total
    parts = torch.stack([model.loss(piece).total for piece in pieces]).mean()
    assert torch.equal(before, torch.get_rng_state()) and first != second
    assert parts.item() == pytest.approx(first.item(), rel=1e-6), "a split batch drops others"
    exact = model.bits_per_dim(batch).values
    assert torch.equal(exact, model.bits_per_dim(batch).values) and exact.mean().item() == pytest.approx(
        model.eval().loss(batch).total.item(), rel=1e-6
    )
    *_, drawn = model.train().sample(Noise(range(2)))
    *_, again = model.eval().sample(Noise(range(2)))
    assert torch.equal(drawn, again)


@pytest.mark.parametrize("share", [1 / 256, 0.1, 0.5])
def test_dropout_leaves_out_that_share_and_keeps_the_mean(share: float) -> None:
    Way = PixelCNNpp.predict.__globals__["Way"]
    x = torch.ones(4, 7, 15, 15)
    n = x[0].numel()

    def thinned(x: Tensor, noise: Noise) -> Tensor:
        return Way(None, noise.bits(-(-n // 8)).view(torch.uint8)).thin(x, share, slice(0, n))

    thin = thinned(x, Noise(range(4)))
    assert 0 < (thin == 0).float().mean().item() == pytest.approx(
        share, abs=0.015
    ) and thin.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(thinned(x[:1], Noise([2])), thin[2:3]) and not torch.equal(thin[0], thin[1])


def test_temperature() -> None:
    model = wild(Spec(1, 6, levels=8), std=0.1)
    spread = []
    for temperature in (0.05, 1.0, 20.0):
        model.temperature = temperature
        *_, x = model.sample(Noise(range(64)))
        spread.append(x.std(0).mean().item())
    assert spread[0] < 0.7 * spread[1] < spread[1] < spread[2]


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (Spec(1, 28), LogisticMixture),
        (Spec(3, 32), LogisticMixture),
        (Spec(1, 8, levels=17), LogisticMixture),
        (Spec(3, 8, levels=2), LogisticMixture),
        (Spec(1, 28, levels=2), Softmax),
        (Spec(1, 7, levels=512, symbols=True), Softmax),
    ],
)
def test_which_distribution_a_pixel_has(spec: Spec, kind: type) -> None:
    assert isinstance(PixelCNNpp(spec=spec, width=4, depth=1).p, kind)


@pytest.mark.parametrize(
    ("size", "resolutions"),
    [(1, 1), (2, 1), (6, 1), (7, 2), (8, 2), (12, 2), (13, 3), (25, 3), (28, 3), (32, 3)],
)
def test_every_size(size: int, resolutions: int) -> None:
    model = PixelCNNpp(spec=Spec(1, size), width=4, depth=1)
    assert model.count_resolutions() == resolutions
    model.loss(Batch(images(2, model.spec).float(), None, Noise(range(2)))).total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_class_matters() -> None:
    spec = Spec(1, 7, labels=2)
    model, x = wild(spec, conditional=True), images(2, spec)
    one, other = (model.surprise(x, Condition(torch.full((2,), k))) for k in (0, 1))
    assert (one - other).abs().min() > 0
    with pytest.raises(Refusal, match="none was said"):
        model.surprise(x)


@pytest.mark.parametrize(
    ("spec", "options", "lesson"),
    [
        (Spec(3, 7, levels=32, symbols=True), {}, "use pixelcnn"),
        (Spec(4, 7, levels=0), {}, "take those of a vqvae"),
        (Spec(1, 7), dict(conditional=True), "leave it out"),
        (Spec(1, 7), dict(dropout=1.0), "must be between"),
    ],
)
def test_refusals(spec: Spec, options: dict[str, object], lesson: str) -> None:
    with pytest.raises(Refusal, match=lesson):
        PixelCNNpp(spec=spec, **options)
