"""PixelRNN: nothing is seen too early, all is seen that should be, and the scan is the recurrence of the paper."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from likeness.core import Noise, Refusal, Spec
from likeness.models.pixelrnn import LSTM, DiagonalLayer, PixelRNN, RowLayer
from likeness.parts import causal

NETS = ("diagonal", "row")
every_net = pytest.mark.parametrize("net", NETS)


def model(spec: Spec, net: str, seed: int = 0, **options: object) -> PixelRNN:
    torch.manual_seed(seed)
    made = PixelRNN(spec=spec, net=net, **dict(dict(width=6, depth=2, first=3), **options)).double()
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return made.eval()


def images(spec: Spec, n: int, seed: int = 0) -> Tensor:
    k = torch.randint(0, spec.levels, (n, *spec.shape), generator=torch.Generator().manual_seed(seed))
    return k.double() * 2 / (spec.levels - 1) - 1


def seen(spec: Spec, net: str, **options: object) -> Tensor:
    """|d log p(sub-pixel i) / d sub-pixel j| in the order of drawing, summed over a few weights: a relu may hide a path."""
    total = torch.zeros(spec.dims, spec.dims, dtype=torch.float64)
    for seed in range(4):
        made = model(spec, net, seed, **options)
        found = torch.autograd.functional.jacobian(lambda x, made=made: made.log_probs(x), images(spec, 1, seed))
        total += found[0].abs().sum(3)[:, :, :, 0].permute(1, 2, 0, 4, 5, 3).reshape(spec.dims, spec.dims)
    return total


@every_net
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_depends_on_itself_or_on_what_is_later(net, channels):
    assert float(seen(Spec(channels, 5, levels=4), net).triu().max()) == 0.0


@pytest.mark.parametrize("channels", [1, 3])
def test_the_diagonal_one_sees_every_earlier_sub_pixel(channels):
    found = seen(Spec(channels, 5, levels=4), "diagonal") != 0
    assert bool(found.tril(-1).sum() == len(found) * (len(found) - 1) // 2)


def test_the_row_lstm_sees_a_triangle():
    """Of the row r - d the columns up to c + d and no more."""
    size = 7
    found = (seen(Spec(1, size, levels=4), "row", depth=1) != 0).view(size, size, size, size)
    for r, c, i, j in itertools.product(range(size), repeat=4):
        if (i, j) >= (r, c):
            continue
        # the state of (r, c) is that of (r - d, c + d) d rows above, whose features see one pixel up and right
        reach = c + (r - i)
        if j > reach:
            assert not bool(found[r, c, i, j]), ((r, c), (i, j))
    assert bool(found[4, 3, 3, 4]) and bool(found[4, 2, 2, 4]) and not bool(found[4, 2, 3, 4])


@every_net
@pytest.mark.parametrize("spec", [Spec(1, 5, levels=4), Spec(3, 4, levels=4), Spec(1, 4, levels=8, symbols=True), Spec(1, 4, labels=3, levels=2)], ids=str)
def test_drawn_images_are_the_naive_ones(net, spec):
    made = model(spec, net, conditional=spec.labels > 0)
    y = torch.arange(3) % spec.labels if spec.labels else None
    nothing = torch.zeros(spec.size, spec.size, dtype=torch.bool)
    black = torch.zeros(3, *spec.shape)
    *_, fast = made.sample(Noise(range(3)), y)
    *_, slow = made.complete(black, nothing, Noise(range(3)), y, naive=True)
    assert torch.equal(fast, slow) and float(fast.std()) > 0.1


def reference(lstm: LSTM, x: Tensor, before: list[list[list[tuple[int, int]]]], order: list[tuple[int, int]]) -> Tensor:
    """(3), pixel by pixel: before[r][c] are the pixels whose states reach (r, c), the middle or the last being that of c."""
    sums, h = lstm.inputs(x), lstm.h
    hs, cs = {}, {}
    for r, c in order:
        zero = torch.zeros(len(x), h, dtype=x.dtype)
        told = torch.cat([hs.get(place, zero) for place in before[r][c]], -1)
        o, f, i, g = (sums[:, :, r, c] + told @ lstm.states.weight.T).chunk(4, -1)
        carried = before[r][c][1]
        cs[r, c] = f.sigmoid() * cs.get(carried, zero) + i.sigmoid() * g.tanh()
        hs[r, c] = o.sigmoid() * cs[r, c].tanh()
    return torch.stack([torch.stack([hs[r, c] for c in range(x.shape[3])], -1) for r in range(x.shape[2])], 2)


def test_the_scan_of_rows_is_the_recurrence():
    torch.manual_seed(0)
    size = 4
    lstm = RowLayer(3, 1, 1, size).double().lstm
    x = torch.randn(2, 6, size, size, dtype=torch.float64)
    before = [[[(r - 1, c - 1), (r - 1, c), (r - 1, c + 1)] for c in range(size)] for r in range(size)]
    assert torch.allclose(lstm(x), reference(lstm, x, before, list(itertools.product(range(size), repeat=2))), atol=1e-12)


def test_the_scan_of_diagonals_is_the_recurrence():
    torch.manual_seed(0)
    size = 4
    layer = DiagonalLayer(3, 1, 1, size).double()
    x = torch.randn(2, 6, size, size, dtype=torch.float64)
    before = [[[(r - 1, c), (r, c - 1)] for c in range(size)] for r in range(size)]
    assert torch.allclose(layer.right(x), reference(layer.right, x, before, list(itertools.product(range(size), repeat=2))), atol=1e-12)
    wrong = [[[(r, c - 1), (r - 1, c)] for c in range(size)] for r in range(size)]
    assert not torch.allclose(layer.right(x), reference(layer.right, x, wrong, list(itertools.product(range(size), repeat=2))), atol=1e-3)


@every_net
def test_all_images_of_2x2_share_a_probability_of_one(net, monkeypatch):
    spec = Spec(1, 2, levels=4)
    every = torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 1, 2, 2).double() * 2 / 3 - 1
    assert float((-model(spec, net).surprise(every).sum((1, 2, 3))).exp().sum()) == pytest.approx(1, abs=1e-5)
    right = causal.order
    monkeypatch.setattr("likeness.models.pixelrnn.order", lambda outside, inside, kind: right(outside, inside, "B"))
    fake = float((-model(spec, net).surprise(every).sum((1, 2, 3))).exp().sum())
    assert abs(fake - 1) > 1e-3, "a first layer that sees its own pixel"


def test_what_cannot_be_is_refused():
    with pytest.raises(Refusal, match="two classes"):
        PixelRNN(spec=Spec(1, 5), conditional=True)
    with pytest.raises(Refusal, match="none was said"):
        model(Spec(1, 4, labels=3), "row", conditional=True).surprise(torch.zeros(1, 1, 4, 4).double())
