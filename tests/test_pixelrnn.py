"""PixelRNN, by rows and by diagonals: which sub-pixels it sees, exactly; and its scans against the
recurrence, pixel by pixel.

That it is an autoregressive model at all is tested in test_autoregressive.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.models.pixelrnn import LSTM, DiagonalLayer, PixelRNN, RowLayer
from likeness.parts.causal import CausalConv
from test_autoregressive import (
    drawn,
    every_image,
    jacobian,
    last,
    log_probabilities,
    make,
    prefix,
    same_by_full_passes,
)

nets = pytest.mark.parametrize("net", ["diagonal", "row"])
Place = tuple[int, int]


def small(net: str, spec: Spec, seed: int = 0, **options: Any) -> PixelRNN:
    model = make("pixelrnn", spec, dict(net=net, first=3) | options, seed)
    assert isinstance(model, PixelRNN)
    return model


@nets
def test_probabilities_of_all_images_of_2x2_sum_to_one(net: str) -> None:
    """REFERENCE 1.1, with its fake: mask B where A should be, so that a pixel sees itself."""
    model = small(net, Spec(1, 2, levels=4)).float()
    every = every_image(model.spec).float()
    assert log_probabilities(model, every).double().exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert model.conv.mask is not None
    model.conv.mask[:, :, -1, model.conv.left] = 1
    assert abs(log_probabilities(model, every).double().exp().sum().item() - 1) > 0.02


# What is seen


def diagonal_sees(spec: Spec, first: int, depth: int) -> Tensor:
    """All that comes before."""
    return torch.ones(spec.dims, spec.dims, dtype=torch.bool).tril(-1)


def row_sees(spec: Spec, first: int, depth: int) -> Tensor:
    """A triangle, wider by what the first kernel and the masked convolutions of each layer add: as the
    model's own page says."""
    seen, f = torch.zeros(spec.dims, spec.dims, dtype=torch.bool), first // 2
    places = list(itertools.product(range(spec.size), range(spec.size), range(spec.channels)))
    for (n, (r, c, k)), (m, (i, j, q)) in itertools.product(enumerate(places), repeat=2):
        up = r - i
        own = c - f - depth <= j < c or (j == c and q < k)
        seen[n, m] = own if up == 0 else up > 0 and c - f - depth - up <= j <= c + f - 1 + up
    return seen


SEES: dict[str, Callable[[Spec, int, int], Tensor]] = {"diagonal": diagonal_sees, "row": row_sees}


def looked_at(net: str, spec: Spec, draws: int, hide: bool = False, **options: Any) -> Tensor:
    """Where the Jacobian of some networks of random weights is not 0.0.  hide: the LSTM to the left is not
    given the image."""
    seen = torch.zeros(spec.dims, spec.dims, dtype=torch.bool)
    for seed in range(draws):
        model = small(net, spec, seed, **options)
        for layer in model.layers if hide else ():
            layer.left.inputs.weight.data[:, -model.planes.channels :] = 0
        seen |= jacobian(model, drawn(spec, 1, seed), Condition(torch.zeros(1, dtype=torch.long))) != 0
    return seen


@pytest.mark.parametrize("first, depth", [(3, 1), (3, 3), (5, 1), (7, 2)])
@pytest.mark.parametrize("channels, labels", [(1, 0), (3, 0), (1, 2)])
@nets
def test_exactly_these_sub_pixels_are_seen(
    net: str, channels: int, labels: int, first: int, depth: int
) -> None:
    """REFERENCE 1.2: 0.0 for itself and all that is later, R < G < B, and something else for each one that
    should be seen."""
    spec = Spec(channels, 4 if channels == 3 else 7, labels, levels=4)
    expected = SEES[net](spec, first, depth)
    assert not expected.triu().any()
    for draws in (2, 6, 18):  # what one draw of the weights happens to hide, another shows
        seen = looked_at(net, spec, draws, width=12, first=first, depth=depth, conditional=labels > 0)
        assert not (seen & ~expected).any(), (seen & ~expected).nonzero()[:5].tolist()
        if torch.equal(seen, expected):
            return
    raise AssertionError(f"not seen: {(expected & ~seen).nonzero()[:5].tolist()}")


def test_without_the_image_the_last_sub_pixel_of_a_row_is_missing_in_the_next() -> None:
    """Why the LSTM to the left is given more than in the paper: nothing in a row has seen its last pixel, but
    what the first kernel of the next row covers."""
    spec = Spec(3, 4, levels=4)
    missing = [
        (3 * (4 * r + c) + k, 3 * 4 * r - 1)
        for r in (1, 2, 3)
        for c in range(3)
        for k in range(3)
        if c < 3 - 3 // 2
    ]
    unseen = diagonal_sees(spec, 3, 2) & ~looked_at("diagonal", spec, 6, hide=True, width=12, depth=2)
    assert sorted(map(tuple, unseen.nonzero().tolist())) == missing


# The scans


def one_by_one(lstm: LSTM, x: Tensor, places: list[Place], told: list[Place], before: Place) -> Tensor:
    """(3) at one place (r, c) after another.  told: whence, from there, the states come that K^ss covers;
    before: whence c comes."""
    n, zero = x.shape[3], x.new_zeros(len(x), lstm.h)
    h: dict[Place, Tensor] = {}
    cells: dict[Place, Tensor] = {}
    for r, c in places:
        o, f, i, g = (lstm.inputs(x)[:, k * lstm.h : (k + 1) * lstm.h, r, c] for k in range(4))
        for k, (down, across) in enumerate(told):
            weight = lstm.states.weight[:, k * lstm.h : (k + 1) * lstm.h]
            o, f, i, g = (
                s + t
                for s, t in zip((o, f, i, g), (h.get((r + down, c + across), zero) @ weight.T).chunk(4, 1))
            )
        cells[r, c] = torch.sigmoid(f) * cells.get((r + before[0], c + before[1]), zero) + torch.sigmoid(
            i
        ) * torch.tanh(g)
        h[r, c] = torch.sigmoid(o) * torch.tanh(cells[r, c])
    return torch.stack([torch.stack([h[r, c] for c in range(n)], -1) for r in range(n)], -2)


ROW = [(-1, -1), (-1, 0), (-1, 1)], (-1, 0)
RIGHT, LEFT = ([(-1, 0), (0, -1)], (0, -1)), ([(-1, 0), (0, 1)], (0, 1))
SCANS = {"row": (ROW, 1), "right": (RIGHT, 1), "left": (LEFT, -1)}


@pytest.mark.parametrize("size", [1, 2, 5, 6])
@pytest.mark.parametrize("scan", SCANS)
def test_a_scan_is_the_recurrence(scan: str, size: int) -> None:
    """And so is its gradient; not if it went through the row the other way, or took c from elsewhere."""
    torch.manual_seed(0)
    (told, before), way = SCANS[scan]
    layer = (RowLayer if scan == "row" else DiagonalLayer)(4, 2, 2, size).double()
    lstm = layer.get_submodule("lstm" if scan == "row" else scan)
    assert isinstance(lstm, LSTM)
    x = torch.randn(2, lstm.inputs.in_channels, size, size, dtype=torch.float64, requires_grad=True)
    places = [(r, c) for r in range(size) for c in range(size)[::way]]
    mix, weights = torch.randn(2, 4, size, size, dtype=torch.float64), [x, *lstm.parameters()]

    def by_hand(places: list[Place], told: list[Place], before: Place) -> tuple[Tensor, ...]:
        h = one_by_one(lstm, x, places, told, before)
        return h, *torch.autograd.grad((h * mix).sum(), weights, materialize_grads=True)

    h = lstm(x)
    found = h, *torch.autograd.grad((h * mix).sum(), weights, materialize_grads=True)
    assert all(
        torch.allclose(a, b, atol=1e-12) for a, b in zip(found, by_hand(places, told, before), strict=True)
    )
    if size > 1:
        mirrored = [(r, -c) for r, c in told]
        turned = [(r, size - 1 - c) for r, c in places]
        for fake in (
            (turned, mirrored, (before[0], -before[1])),
            (places, told, (-1, 0) if scan != "row" else (0, -1)),
        ):
            assert not torch.allclose(h, by_hand(*fake)[0], atol=1e-3)


@nets
@torch.no_grad()
def test_the_network_is_that_of_figure_5(net: str) -> None:
    """A masked kernel; layers each of which adds what its LSTM says, of as many features as came in, to what
    came in; two kernels of one pixel."""
    model = small(net, Spec(3, 5, 2, levels=3), depth=3, conditional=True)
    x, y = drawn(model.spec, 2), torch.tensor([1, 0])

    def kernel(layer: CausalConv, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (layer.left, layer.right, layer.above, 0)), layer.masked, layer.bias)

    assert model.label is not None
    h = kernel(model.conv, x) + model.label.weight[y][:, :, None, None]
    for layer in model.layers:
        if net == "row":
            states = layer.lstm(h)
        else:
            left = layer.left(torch.cat([h, x], 1))
            states = layer.right(h) + torch.cat([torch.zeros_like(left[:, :, :1]), left[:, :, :-1]], 2)
        h = h + kernel(layer.up, states)
    expected = kernel(model.head.out, kernel(model.head.hidden, h.relu()).relu())
    assert torch.allclose(model.predict(x, Condition(y)), expected, atol=1e-12)


@nets
def test_a_scan_is_in_float32_where_all_else_is_bfloat16(net: str) -> None:
    model = small(net, Spec(1, 8, levels=4)).float()
    batch, sums = Batch(drawn(model.spec, 3).float(), None, Noise(range(3))), torch.randn(3, 64, 32)
    lstm = next(m for m in model.modules() if isinstance(m, LSTM))
    h, exact = lstm.scan(sums), model.loss(batch).total.item()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lstm.scan(sums), h)
        assert model.loss(batch).total.item() == pytest.approx(exact, rel=0.02)


# Drawing

OPTIONS = [
    (Spec(1, 6, levels=4), dict(first=7, depth=1)),
    (Spec(3, 5, levels=3), dict(first=5, depth=3)),
    (Spec(2, 4, 2, 3), dict(conditional=True, depth=2)),
    (Spec(1, 5, 2, 4, symbols=True), dict(first=9, conditional=True)),
    (Spec(3, 3, levels=3, symbols=True), dict(first=5, width=13)),
    (Spec(1, 1, levels=3), dict(depth=2)),
]


@pytest.mark.parametrize("spec, options", OPTIONS)
@nets
@torch.no_grad()
def test_drawing_from_memory_with_every_option(net: str, spec: Spec, options: dict[str, Any]) -> None:
    model, x, y = small(net, spec, **options), drawn(spec, 3), Condition(torch.tensor([0, 1, 1]))
    for known in (min(spec.size + 1, spec.size**2), 0):
        slow = same_by_full_passes(model, x, prefix(spec, known), y)
    model.note = lambda x, memory: None  # type: ignore[method-assign]  # the fake: the first layer is not told what was drawn
    assert spec.size == 1 or not torch.equal(
        last(model.complete(x, prefix(spec, known), Noise(range(3)), y)), slow[-1]
    )


def test_a_kernel_without_a_middle_is_refused() -> None:
    with pytest.raises(Refusal, match="must be odd"):
        PixelRNN(spec=Spec(1, 8), first=8)
