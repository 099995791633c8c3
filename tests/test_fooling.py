"""Images that fool a network: within their budget and on the levels of a file, as that file says itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from likeness import figures
from likeness.core import BadData, Refusal
from likeness.explain import fooling
from likeness.explain.fooling import Budget, fool, judge, levels
from likeness.explain.saliency import likeliest, odds
from tiny_probe import curved, images, linear

LINF, L2 = Budget("linf", 6.0), Budget("l2", 0.35)


def on_levels(x: Tensor) -> Tensor:
    return levels(x) / 127.5 - 1


def saved(x: Tensor, path: Path) -> Path:
    figures.write_png(path, figures.pixels(x)[0], {})
    return path


def size(change: Tensor, norm: str) -> float:
    return float(change.abs().max()) if norm == "linf" else float(change.double().norm()) / 255


# Budgets


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(("linf", "l2")), st.floats(1, 20), st.floats(0.1, 60), st.integers(0, 99))
def test_whole_changes_are_within_and_near(norm: str, room: float, spread: float, seed: int):
    budget = Budget(norm, room if norm == "linf" else room / 30)
    change = spread * torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(seed))
    held = budget.hold(change)
    whole = budget.settle(held)
    for a, b in zip(held, whole):
        assert size(a, norm) <= budget.size * (1 + 1e-5) and size(b, norm) <= budget.size * (1 + 1e-9)
    assert torch.equal(whole, whole.round()) and float((whole - held).abs().max()) <= 1 + 1e-4
    assert (whole * held >= 0).all()


def test_what_is_within_is_only_rounded():
    change = torch.tensor([[1.4, -2.6, 0.2]])
    assert Budget("linf", 3).settle(Budget("linf", 3).hold(change)).tolist() == [[1, -3, 0]]
    assert Budget("l2", 1).settle(Budget("l2", 1).hold(change)).tolist() == [[1, -3, 0]]


def test_rounding_alone_would_leave_the_budget():
    change = torch.full((1, 100), 0.6)
    budget = Budget("l2", 0.6 * 10 / 255)
    assert size(change.round(), "l2") > budget.size
    whole = budget.settle(change)
    assert whole.sum() == 36 and size(whole, "l2") <= budget.size
    assert Budget("linf", 2.7).settle(torch.tensor([[2.7, -2.7]])).tolist() == [[2, -2]]


@pytest.mark.parametrize(
    "norm, size, says",
    [
        ("l1", 1, "one of linf, l2"),
        ("linf", 0.5, "least is 1"),
        ("l2", 0.001, "least is 0.00392"),
        ("l2", math.nan, "no room"),
    ],
)
def test_budgets_that_make_no_sense(norm: str, size: float, says: str):
    with pytest.raises(Refusal, match=says):
        Budget(norm, size).check()


# Searching


@pytest.mark.parametrize("budget", [LINF, L2])
@pytest.mark.parametrize("aim", [True, False])
def test_the_search_stays_within_and_ends_better(budget: Budget, aim: bool):
    net, x = curved(), on_levels(images(1))
    first, _ = likeliest(net, x)
    y = (first + 1) % 4 if aim else first
    states = list(fool(net, x, y, budget, aim, steps=15))
    losses = [s.loss for s in states]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.01
    for s in states:
        assert size(levels(s.x) - levels(x), budget.norm) <= budget.size * (1 + 1e-9)
        torch.testing.assert_close(on_levels(s.x), s.x)
    sign = -1 if aim else 1
    assert states[0].loss == pytest.approx(sign * float(odds(net, x, y))) and losses[-1] == pytest.approx(
        sign * float(odds(net, states[-1].x, y))
    )


def test_against_a_linear_network_the_best_is_known():
    """Between two classes that are linear the best within linf is a step of the whole budget along the sign
    of their difference."""
    net = linear(2)
    x, y = on_levels(images(1, 4) * 0.5), torch.tensor([1])
    w = net.nodes["conv"].weight
    *_, found = fool(net, x, y, LINF, True, steps=25)
    best = levels(x) + 6 * (w[1] - w[0]).sign()
    assert torch.equal(levels(found.x), best)
    *_, found = fool(net, x, y, L2, True, steps=60)
    gain = float((w[1] - w[0]).norm()) * L2.size * 2
    assert 0.97 * gain < float(odds(net, found.x, y) - odds(net, x, y)) <= gain * (1 + 1e-9)


def test_brightness_stays_within_that_of_a_file():
    net, x = curved(), torch.where(images(1) > 0, 1.0, -1.0).double()
    for budget in (LINF, Budget("l2", 2.0)):
        *_, found = fool(net, x, torch.tensor([1]), budget, True, steps=10)
        assert float(found.x.abs().max()) <= 1 and not torch.equal(found.x, x)


def test_the_same_again():
    net, x = curved(), on_levels(images(1))
    a, b = (list(fool(net, x, torch.tensor([1]), L2, True, steps=5))[-1] for _ in range(2))
    assert torch.equal(a.x, b.x)


# The verdict


def test_the_verdict_is_that_of_the_file(tmp_path: Path):
    net = linear(2)
    w, x = net.nodes["conv"].weight, on_levels(images(1, 4) * 0.5)
    middle = float(net.classify(x)[0, 1] - net.classify(x)[0, 0])
    # half of the budget is needed
    net.nodes["conv"].bias[1] -= middle + 0.5 * float((w[1] - w[0]).abs().sum()) * 6 * 2 / 255
    y = torch.tensor([1])
    *_, found = fool(net, x, y, LINF, True, steps=20)
    file = saved(found.x, tmp_path / "a.png")
    said = judge(net, x, 1, True, LINF, file)
    assert said.fooled and said.within and (said.before, said.after) == (0, 1) and said.linf == 6
    read = torch.from_numpy(np.asarray(Image.open(file)).transpose(2, 0, 1).astype(np.float64))[None]
    assert (
        said.sure_after
        == said.sure_of_y
        == pytest.approx(float(net.classify(read / 127.5 - 1).softmax(1)[0, 1]))
    )
    assert said.l2 == pytest.approx(float((read - levels(x)).norm()) / 255)
    assert not judge(net, x, 0, True, LINF, file).fooled and not judge(net, x, 1, False, LINF, file).fooled
    assert judge(net, x, 0, False, LINF, file).fooled
    untouched = judge(net, x, 1, True, LINF, saved(x, tmp_path / "b.png"))
    assert (untouched.linf, untouched.l2, untouched.within, untouched.fooled) == (0, 0.0, True, False)


@pytest.mark.parametrize("budget", [LINF, L2])
def test_a_file_that_leaves_the_budget_has_fooled_nobody(budget: Budget, tmp_path: Path):
    net = linear(2)
    w, x = net.nodes["conv"].weight, on_levels(images(1, 4) * 0.5)
    net.nodes["conv"].bias[1] -= float(net.classify(x)[0, 1] - net.classify(x)[0, 0]) + 1e-3
    *_, found = fool(net, x, torch.tensor([1]), budget, True, steps=20)
    assert judge(net, x, 1, True, budget, saved(found.x, tmp_path / "a.png")).fooled
    cheat = found.x + 7 * 2 / 255 * (w[1] - w[0]).sign()
    said = judge(net, x, 1, True, budget, saved(cheat, tmp_path / "b.png"))
    assert said.after == 1 and not said.within and not said.fooled


def test_what_lives_between_the_levels_is_gone_in_the_file(tmp_path: Path):
    net = linear(2)
    w, x = net.nodes["conv"].weight, on_levels(images(1, 4) * 0.5)
    net.nodes["conv"].bias[1] -= float(net.classify(x)[0, 1] - net.classify(x)[0, 0]) + 1e-9
    between = x + 0.3 * 2 / 255 * (w[1] - w[0]).sign()
    assert int(likeliest(net, between)[0]) == 1
    assert not judge(net, x, 1, True, LINF, saved(between, tmp_path / "a.png")).fooled


def test_a_file_that_is_none_is_no_verdict(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(BadData, match="cannot be used"):
        judge(curved(), images(1), 0, True, LINF, tmp_path / "a.png")


def test_the_page_shows_what_was_added():
    net, x = curved(), on_levels(images(1))
    *_, found = fool(net, x, torch.tensor([1]), LINF, True, steps=3)
    verdict = fooling.Verdict(0, 1, 0.5, 0.5, 0.5, 6, 0.3, True, True)
    assert fooling.page(net, x, found.x, verdict).shape[1] > 3 * 200
