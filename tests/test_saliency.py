"""Maps of what an answer depends on: against differences, closed forms and enumeration; and what a sanity
check can be fooled by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from likeness import data
from likeness.backbones.layers import LOGITS, UNIT, Conv, Dense, Graph, Hooked, MeanPool, Relu
from likeness.core import Noise, Refusal
from likeness.explain import saliency
from likeness.explain.saliency import How, cascade, explain, gradient, integrated, rank_correlation, smooth
from tiny_probe import curved, images, linear, probe

HOW = How(samples=3, steps=12)


def classes(n: int, of: int = 4) -> torch.Tensor:
    return torch.arange(n) % of


# Gradients


def test_the_gradient_is_that_of_differences():
    net, x, y, h = curved(), images(2), classes(2), 1e-5
    found, by = gradient(net, x, y), torch.zeros_like(x)
    for i in range(x[0].numel()):
        step = torch.zeros_like(x)
        step.flatten(1)[:, i] = h
        up, down = (net.classify(x + s).gather(1, y[:, None])[:, 0] for s in (step, -step))
        by.flatten(1)[:, i] = (up - down) / (2 * h)
    assert float((found - by).abs().max() / found.abs().max()) < 1e-8


def test_the_odds_are_those_of_the_probability():
    net, x, y = curved(), images(5), classes(5)
    p = net.classify(x).softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(saliency.odds(net, x, y), (p / (1 - p)).log())


def test_without_noise_smoothgrad_is_the_gradient_and_with_it_it_is_their_mean():
    net, x, y = curved(), images(2), classes(2)
    *_, still = smooth(net, x, y, Noise(range(2)), 3, 0.0)
    torch.testing.assert_close(still, gradient(net, x, y))
    *_, found = smooth(net, x, y, Noise(range(2)), 4, 0.2)
    noise, reach = Noise(range(2)), (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).view(-1, 1, 1, 1)
    by = torch.stack(
        [gradient(net, x + 0.2 * reach * noise.normal(3, 8, 8).double(), y) for _ in range(4)]
    ).mean(0)
    torch.testing.assert_close(found, by)


def test_the_maps_of_an_image_do_not_depend_on_those_beside_it():
    net, x, y = curved(), images(3), classes(3)
    *_, all_of_them = explain(net, x, y, HOW)
    *_, alone = explain(net, x[:1], y[:1], HOW)
    for name in saliency.METHODS:
        torch.testing.assert_close(all_of_them.maps[name][:1], alone.maps[name])
    *_, both = integrated(net, x, y, 400, enough=1e-3)
    each = [list(integrated(net, x[i : i + 1], y[i : i + 1], 400, enough=1e-3))[-1] for i in range(3)]
    torch.testing.assert_close(both.map, torch.cat([path.map for path in each]))
    assert both.used == sum(path.used for path in each) and float(both.error.max()) <= 1e-3


def test_the_way_is_walked_several_places_at_a_time(monkeypatch):
    net, x, y, rows = curved(), images(1), classes(1), []
    monkeypatch.setattr(saliency, "logits", lambda net, x: rows.append(len(x)) or net.classify(x))
    *_, path = integrated(net, x, y, 64)
    assert rows[:5] == [8, 8, 1, 8, 8] and rows[5:] == [2] * 48 and path.used == 64


def test_a_black_image_is_told_exactly():
    net = curved()
    *_, path = integrated(net, torch.full((1, 3, 8, 8), -1.0).double(), classes(1), 12)
    assert path.error.tolist() == [0] and not path.map.any()


# Integrated gradients


def test_integrated_gradients_sum_to_the_difference_and_ever_better():
    net, x, y = curved(), images(3), classes(3)
    with torch.no_grad():
        difference = (net.classify(x) - net.classify(torch.full_like(x, -1))).gather(1, y[:, None])[:, 0]
    errors = []
    for steps in (10, 50, 300):
        *_, path = integrated(net, x, y, steps)
        torch.testing.assert_close(path.difference, difference)
        torch.testing.assert_close(
            path.error, (path.map.sum((1, 2, 3)) - difference).abs() / difference.abs()
        )
        errors.append(float(path.error.max()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2] and errors[1] < 0.01 and errors[2] < 1e-3, errors


def test_where_the_network_bends_sharply_the_parts_lie_where_it_does():
    """F(x) = relu(mean(x) - 0.8): all that happens lies in a tenth of the way, and even parts of it would
    miss by more."""

    def build() -> Graph:
        net = Graph("late", 4, UNIT, least=4)
        net.add("conv", Conv(3, 2, 4, pad=0))
        net.add("relu", Relu())
        net.add(LOGITS, MeanPool())
        return net

    net = probe(build)
    net.nodes["conv"].weight.copy_(torch.full((2, 3, 4, 4), 100 / 48))
    net.nodes["conv"].bias.fill_(-77.0)
    x, y = torch.full((1, 3, 4, 4), 0.8137, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    *_, path = integrated(net, x, y, 40)
    at = (torch.arange(40) + 0.5) / 40 * 1.8137 - 1
    even = float((100.0 * (at > 0.77)).mean() * 1.8137)
    exact = 100 * (0.8137 - 0.77)
    assert float(path.difference) == pytest.approx(exact)
    assert float(path.error) < 0.02 < abs(even / exact - 1)


def test_a_linear_network_is_told_exactly_by_one_step():
    net, x, y = linear(), images(2, 4), classes(2, 3)
    *_, path = integrated(net, x, y, 1)
    assert float(path.error.max()) < 1e-12
    torch.testing.assert_close(path.map, (x + 1) * gradient(net, x, y))


def test_no_more_gradients_are_taken_than_asked_for(monkeypatch):
    net, x, y, calls = curved(), images(1), classes(1), []
    monkeypatch.setattr(saliency, "gradient", lambda net, x, y: calls.extend(x) or gradient(net, x, y))
    for steps in (1, 2, 3, 10, 21):
        calls.clear()
        list(integrated(net, x, y, steps))
        assert steps - 1 <= len(calls) <= steps
    calls.clear()
    *_, path = integrated(net, x, y, 400, enough=1e-3)
    assert 100 <= len(calls) == path.used < 400 and float(path.error) <= 1e-3


# Grad-CAM


def test_grad_cam_by_hand():
    """After the mean over all places and a product with W, a_k = W_yk / (h w)."""

    def build() -> Graph:
        net = Graph("cam", 6, UNIT, least=4)
        net.add("conv", Conv(3, 5, 3))
        net.add("relu", Relu())
        net.add("pool", MeanPool())
        net.add(LOGITS, Dense(5, 3))
        return net

    net, x, y = probe(build), images(2, 6), torch.tensor([2, 0])
    a = net.outputs(x, ["relu"])["relu"]
    by = torch.einsum("bk,bkhw->bhw", net.nodes[LOGITS].weight[y], a)[:, None] / 36
    torch.testing.assert_close(saliency.grad_cam(net, x, y), by)
    assert saliency.last_with_places(net) == "relu"
    before = net.outputs(x, ["conv"])["conv"]
    # no slope goes through where relu gives zero
    a_k = net.nodes[LOGITS].weight[y] * (before > 0).double().mean((2, 3)) / 36
    torch.testing.assert_close(
        saliency.grad_cam(net, x, y, "conv"), torch.einsum("bk,bkhw->bhw", a_k, before)[:, None]
    )
    with pytest.raises(Refusal, match="pool of cam has none; name one before it, such as relu"):
        saliency.grad_cam(net, x, y, "pool")
    with pytest.raises(Refusal, match="no layer 'rel'; did you mean 'relu'"):
        saliency.grad_cam(net, x, y, "rel")


def test_grad_cam_is_enlarged_to_the_image():
    net, x = curved(), images(1)
    assert net.layers["bend2"] == (6, 4, 4) and saliency.grad_cam(net, x, classes(1)).shape == (1, 1, 8, 8)


# Whether maps know the network


def test_rank_correlation_is_spearmans():
    g = torch.Generator().manual_seed(0)
    a, b = (
        torch.randint(0, 9, (4, 50), generator=g).double(),
        torch.randint(0, 5, (4, 50), generator=g).double(),
    )
    by = [spearmanr(u, v).statistic for u, v in zip(a.numpy(), b.numpy())]
    np.testing.assert_allclose(rank_correlation(a, b), by, atol=1e-6)
    assert (
        rank_correlation(a, 3 * a).tolist() == pytest.approx([1] * 4)
        and float(rank_correlation(a[:1], torch.ones(1, 50))) == 0
    )


def test_the_absolute_correlation_takes_an_empty_background_for_agreement():
    """Digits are black for the most part, where gradient x input is nothing whatever the weights; of signed
    values nothing is left."""
    digits = data.load("digits")
    x = digits.take(digits.held_out[:24]).x.double().expand(-1, 3, -1, -1)
    net = curved(10)
    y, _ = saliency.likeliest(net, x)
    *_, before = explain(net, x, y, HOW)
    *_, last = saliency.sanity(net, x, y, before.maps, HOW)
    assert last.layer == "conv1"
    fooled = {name: float(v.mean()) for name, v in last.absolute.items()}
    honest = {name: abs(float(v.mean())) for name, v in last.signed.items()}
    assert fooled["gradient x input"] > 0.6 and fooled["integrated gradients"] > 0.6, fooled
    assert fooled["gradient"] < 0.4, fooled
    assert max(honest["gradient x input"], honest["integrated gradients"]) < 0.25, honest


def test_weights_become_random_from_the_top_and_are_given_back():
    net, x = curved(), images(2)
    kept, as_it_was = {n: v.clone() for n, v in net.state_dict().items()}, net.classify(x)
    seen = []
    for name in cascade(net, seed=3):
        changed = {n.split(".")[1] for n, v in net.state_dict().items() if not torch.equal(v, kept[n])}
        seen.append((name, changed))
    assert seen == [(LOGITS, {LOGITS}), ("conv2", {LOGITS, "conv2"}), ("conv1", {LOGITS, "conv2", "conv1"})]
    assert torch.equal(net.classify(x), as_it_was)
    walk = cascade(net, seed=3)
    assert next(walk) == LOGITS and not torch.allclose(net.classify(x), as_it_was)
    walk.close()
    assert torch.equal(net.classify(x), as_it_was)
    assert list(cascade(net, stages=2)) == [LOGITS, "conv1"]


def test_the_same_seed_makes_the_same_random_network():
    net, x = curved(), images(2)

    def ends(seed: int) -> list[torch.Tensor]:
        return [net.classify(x) for _ in cascade(net, seed)]

    assert all(map(torch.equal, ends(1), ends(1))) and not torch.allclose(ends(1)[0], ends(2)[0])


# Classes


def test_classes_by_name_and_number():
    net = curved()
    net.labels = ("Crane", "tabby cat", "crane", "7")
    assert (
        saliency.class_of(net, "Tabby Cat") == 1
        and saliency.class_of(net, "2") == 2
        and saliency.class_of(net, "7") == 3
    )
    assert saliency.label(net, 1) == "tabby cat" and saliency.label(net, 9) == "9"
    with pytest.raises(Refusal, match="2 classes of curved are called 'crane'; name one by its number: 0, 2"):
        saliency.class_of(net, "crane")
    with pytest.raises(Refusal, match="no class 'taby cat'; did you mean 'tabby cat'"):
        saliency.class_of(net, "taby cat")
    with pytest.raises(Refusal, match="no class 'cat'; did you mean 'tabby cat'"):
        saliency.class_of(net, "cat")
    with pytest.raises(Refusal, match="no class 12: its 4 classes are numbered 0 to 3"):
        saliency.class_of(net, "12")
    with pytest.raises(Refusal, match="no class 'zzz'; there are 4, such as crane"):
        saliency.class_of(net, "zzz")


def test_a_network_without_classes_says_so():
    module = nn.Conv2d(3, 2, 3)
    net = Hooked("mine", module, {"code": lambda x: module(x).flatten(1)}, lambda x: x, (3, 8, 8))
    with pytest.raises(
        Refusal, match="mine does not tell classes apart: it was never taught any; name a network that does"
    ):
        saliency.likeliest(net, torch.zeros(1, 3, 8, 8))
    with pytest.raises(Refusal, match="does not tell classes apart"):
        saliency.grad_cam(net, torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64))
    half = curved()
    half.lost[LOGITS] = "half.npz has no weights for it"
    with pytest.raises(Refusal, match=r"half\.npz has no weights for it"):
        gradient(half, images(1), classes(1))


# Pictures


def test_colours_say_how_much_and_in_which_direction():
    m = torch.zeros(1, 3, 10, 10)
    m[0, :, :, :4], m[0, :, :, 6:] = 1.0, -1.0
    how_much, direction = saliency.strength(m)[0], saliency.sign(m)[0]
    assert (how_much[:, 0] == how_much[:, 9]).all() and how_much[0, 0].sum() > how_much[0, 5].sum()
    assert (
        tuple(direction[0, 0]) == saliency.FOR
        and tuple(direction[0, 5]) == saliency.NOTHING
        and tuple(direction[0, 9]) == saliency.AGAINST
    )
    cam = saliency.strength(m[:, :1])[0]
    assert (cam[:, 9] == cam[:, 5]).all() and cam[0, 0].sum() > cam[0, 5].sum()
    assert np.isfinite(saliency.strength(torch.zeros(1, 3, 4, 4))).all()


def test_the_page_holds_the_maps_and_the_checks():
    net, x, y = curved(), images(1), classes(1)
    *_, found = explain(net, x, y, HOW)
    checks = list(saliency.sanity(net, x, y, found.maps, HOW, stages=2))
    above, both = saliency.page(x, found.maps, "kind 0"), saliency.page(x, found.maps, "kind 0", checks)
    assert set(found.maps) == set(saliency.METHODS) and 0 < found.share <= 1
    assert both.shape[0] > 1.7 * above.shape[0] and above.dtype == np.uint8
