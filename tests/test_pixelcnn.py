"""PixelCNN, plain and gated: which sub-pixels it sees, exactly; and its masks, put on wrongly.

That it is an autoregressive model at all is tested in test_autoregressive.py.
"""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from likeness.core import Condition, Noise, Refusal, Spec
from likeness.models.pixelcnn import PixelCNN
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

nets = pytest.mark.parametrize("net", ["plain", "gated"])


def small(net: str, spec: Spec, seed: int = 0, **options: Any) -> PixelCNN:
    model = make("pixelcnn", spec, dict(net=net) | options, seed)
    assert isinstance(model, PixelCNN)
    return model


def unmask_the_first(model: PixelCNN) -> None:
    """The fake of REFERENCE 1.1: mask B where A should be, so that a pixel sees itself."""
    first = next(m for m in model.modules() if isinstance(m, CausalConv) and m.mask is not None)
    assert first.mask is not None
    first.mask[:, :, -1, first.left] = 1


@nets
def test_the_sum_over_all_images_of_4x4_notices_a_wrong_mask(net: str) -> None:
    """REFERENCE 1.1: 65,536 black-and-white images, whose probabilities add up to one
    (test_autoregressive.py)."""
    model = small(net, Spec(1, 4, levels=2), 1, width=6, depth=1).float()
    unmask_the_first(model)
    assert (
        abs(log_probabilities(model, every_image(model.spec).float()).double().exp().sum().item() - 1) > 0.05
    )


# What is seen


def reach(size: int, channels: int, side: int, kind: str) -> Tensor:
    """Sub-pixels (columns) that a masked kernel of side x side lets each (rows) see, both in the order of
    drawing (2016, section 3.4)."""
    seen, half = torch.zeros(size, size, channels, size, size, channels, dtype=torch.bool), side // 2
    for r, c, k, i, j, m in itertools.product(*[range(size), range(size), range(channels)] * 2):
        near = abs(r - i) <= half and abs(c - j) <= half
        own = (i, j) == (r, c) and (m < k or (kind == "B" and m == k))
        seen[r, c, k, i, j, m] = near and ((i, j) < (r, c) or own)
    return seen.flatten(3).flatten(0, 2)


def plain_sees(size: int, channels: int, first: int, kernel: int, depth: int) -> Tensor:
    """A path through the layers' kernels leads from what is said of a sub-pixel (rows) to each (columns)."""
    seen, step = reach(size, channels, first, "A").float(), reach(size, channels, kernel, "B").float()
    for _ in range(depth):
        seen = (step @ seen > 0).float()
    return seen.bool()


def gated_sees(size: int, channels: int, first: int, kernel: int, depth: int) -> Tensor:
    """All that comes before, as far as the kernels reach: no blind spot."""
    far = first // 2 + depth * (kernel // 2)
    n = torch.arange(size**2 * channels)
    row, column = n // (size * channels), n // channels % size
    near = ((row[:, None] - row).abs() <= far) & ((column[:, None] - column).abs() <= far)
    return near & (n[:, None] > n)


SEES = {"plain": plain_sees, "gated": gated_sees}
SHAPES = [(3, 3, 1), (3, 3, 4), (7, 3, 2), (5, 5, 1), (3, 5, 1)]


def looked_at(net: str, spec: Spec, draws: int, **options: Any) -> Tensor:
    """Where the Jacobian of some networks of random weights is not 0.0."""
    seen = torch.zeros(spec.dims, spec.dims, dtype=torch.bool)
    for seed in range(draws):
        model = small(net, spec, seed, **options)
        seen |= jacobian(model, drawn(spec, 1, seed), Condition(torch.zeros(1, dtype=torch.long))) != 0
    return seen


@pytest.mark.parametrize("first, kernel, depth", SHAPES)
@pytest.mark.parametrize("channels, labels", [(1, 0), (3, 0), (1, 2)])
@nets
def test_exactly_these_sub_pixels_are_seen(
    net: str, channels: int, labels: int, first: int, kernel: int, depth: int
) -> None:
    """REFERENCE 1.2: 0.0 for itself and all that is later, R < G < B, and something else for each one that
    should be seen."""
    spec = Spec(channels, 4 if channels == 3 else 6, labels, levels=4)
    expected = SEES[net](spec.size, channels, first, kernel, depth)
    assert not expected.triu().any()
    for draws in (2, 6, 18):  # what one draw of the weights happens to hide, another shows
        seen = looked_at(
            net, spec, draws, width=12, first=first, kernel=kernel, depth=depth, conditional=labels > 0
        )
        assert not (seen & ~expected).any(), (seen & ~expected).nonzero()[:5].tolist()
        if torch.equal(seen, expected):
            return
    raise AssertionError(f"not seen: {(expected & ~seen).nonzero()[:5].tolist()}")


@pytest.mark.parametrize(
    "net, first, share", [("plain", 3, 0.840), ("plain", 7, 0.938), ("gated", 3, 1.0), ("gated", 7, 1.0)]
)
def test_the_blind_spot(net: str, first: int, share: float) -> None:
    """REFERENCE 1.2b: a path through kernels of 3x3 goes up at least as often as to the right, but for what
    the first kernel jumps."""
    spec = Spec(1, 8, levels=4)
    n = torch.arange(64)
    up, right = n[:, None] // 8 - n // 8, n % 8 - n[:, None] % 8
    past = n < n[:, None]
    expected = past & (right <= up + first // 2 - 1) if net == "plain" else past
    assert torch.equal(SEES[net](8, 1, first, 3, 8), expected)
    assert torch.equal(looked_at(net, spec, 4, width=12, first=first, depth=8), expected)
    assert (expected.sum() / past.sum()).item() == pytest.approx(share, abs=5e-4)


# The networks


@pytest.mark.parametrize("labels", [0, 3])
@nets
@torch.no_grad()
def test_the_network_is_that_of_the_papers(net: str, labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is commonly written, with full kernels that are masked, of the same weights.  One class is a
    change of biases (2016b, eq. 4)."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    commonly = importlib.import_module("pixelcnn_training")
    spec = Spec(1, 9, labels, levels=5)
    # theirs are made in float32
    model = small(net, spec, width=8, depth=3, kernel=5, first=7, conditional=labels > 0).float().double()
    x = drawn(spec, 4)
    for k in range(max(labels, 1)):
        theirs = commonly.twin(SimpleNamespace(student=model)).double()
        for ours, block in zip(model.stack.layers, theirs.blocks) if net == "gated" and labels else ():
            vertical, horizontal = ours.label.weight[k].chunk(2)
            block.vertical.bias += vertical
            block.horizontal.bias += horizontal - block.vertical_to_horizontal.weight[:, :, 0, 0] @ vertical
        if net == "plain" and labels:
            theirs.first.bias += model.stack.label.weight[k]
        expected, found = theirs(x), model.predict(x, Condition(torch.full((4,), k)))
        assert torch.allclose(found, expected, rtol=0, atol=1e-10) and expected.std(0).mean() > 0.1


# Drawing

OPTIONS = [
    (Spec(1, 6, levels=4), dict(kernel=5, first=7, depth=1)),
    (Spec(3, 4, levels=3), dict(kernel=3, first=5, depth=3)),
    (Spec(2, 4, 2, 3), dict(kernel=5, first=3, conditional=True)),
    (Spec(1, 6, 2, 4, symbols=True), dict(first=9, conditional=True)),
    (Spec(3, 3, levels=3, symbols=True), dict(first=5, width=13)),
]


@pytest.mark.parametrize("spec, options", OPTIONS)
@nets
@torch.no_grad()
def test_drawing_from_memory_with_every_option(net: str, spec: Spec, options: dict[str, Any]) -> None:
    model, x, y = small(net, spec, **options), drawn(spec, 3), Condition(torch.tensor([0, 1, 1]))
    for known in (spec.size + 1, 0):
        slow = same_by_full_passes(model, x, prefix(spec, known), y)
    model.note = lambda x, memory: None  # type: ignore[method-assign]  # the fake: the first layer is not told what was drawn
    assert not torch.equal(last(model.complete(x, prefix(spec, known), Noise(range(3)), y)), slow[-1])


def test_kernels_without_a_middle_are_refused() -> None:
    for options in (dict(kernel=4), dict(first=8)):
        with pytest.raises(Refusal, match="must be odd"):
            PixelCNN(spec=Spec(1, 8), **options)
