"""What every autoregressive model promises, by the mere presence of its file: against sums over
every image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from conftest import SMALL, small_run
from likeness import models
from likeness.core import Batch, Condition, Model, Noise, Refusal, Spec
from likeness.data import Data
from likeness.parts import autoregressive
from likeness.parts.autoregressive import Autoregressive, choose
from likeness.parts.conditionals import Softmax, level, value
from likeness.training.loop import fit

TINY: dict[str, dict[str, Any]] = {"pixelcnn": dict(first=3, depth=2, width=12)}
"""options of the small networks below, beside conftest.SMALL"""
LEARNS: dict[str, dict[str, Any]] = {
    "pixelcnn": dict(width=32, depth=2, first=3),
    "pixelrnn": dict(width=32, first=3),
    "pixelcnnpp": dict(width=32, dropout=0.0),
    "imagegpt": dict(width=32),
    "dalle": dict(width=32),
}
"""options with which a model learns any distribution over images of 2x2 pixels"""
PATIENCE: dict[str, dict[str, Any]] = {
    "pixelcnnpp": dict(rate=1e-2, images=512 * 200),
    "imagegpt": dict(images=512 * 100),
    "dalle": dict(rate=1e-2, images=512 * 200),
}
"""how long and how fast, where it is not as for the others"""


def variants() -> Iterator[Any]:
    """Each autoregressive model, once for every choice of every option that has choices."""
    for name in models.NAMES:
        kind = models.load(name)
        if issubclass(kind, Autoregressive):
            choices = {f.name: f.metadata["choices"] for f in fields(kind) if f.metadata.get("choices")}
            for chosen in itertools.product(*choices.values()):
                yield pytest.param(name, dict(zip(choices, chosen)), id="-".join((name, *chosen)))


every_model = pytest.mark.parametrize("name, options", list(variants()))


def make(name: str, spec: Spec, options: dict[str, Any], seed: int = 0) -> Autoregressive:
    """A small network in float64, with weights larger than first ones are, so that nothing is
    nearly uniform."""
    kind: type[Model] = models.load(name)
    known = {f.name for f in fields(kind)}
    torch.manual_seed(seed)
    model = (
        kind(spec=spec, **{k: v for k, v in (SMALL | TINY.get(name, {})).items() if k in known} | options)
        .double()
        .eval()
    )
    assert isinstance(model, Autoregressive)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 2 / math.sqrt(p[0].numel()) if p.dim() > 1 else 0.5)
    return model


@lru_cache(maxsize=4)
def every_image(spec: Spec) -> Tensor:
    k = torch.cartesian_prod(*[torch.arange(spec.levels)] * spec.dims)
    return value(k.double(), spec.levels).view(-1, *spec.shape)


def drawn(spec: Spec, n: int, seed: int = 0) -> Tensor:
    """Images of noise on the grid of levels, (n, C, H, W)."""
    return value(
        torch.randint(spec.levels, (n, *spec.shape), generator=torch.Generator().manual_seed(seed)).double(),
        spec.levels,
    )


@torch.no_grad()
def log_probabilities(model: Autoregressive, x: Tensor, y: int | None = None) -> Tensor:
    parts = x.split(4096)
    return -torch.cat(
        [
            model.surprise(part, None if y is None else Condition(torch.full((len(part),), y)))
            .flatten(1)
            .sum(1)
            for part in parts
        ]
    )


def last(steps: Iterator[Tensor]) -> Tensor:
    *_, x = steps
    return x


def index(x: Tensor, levels: int) -> np.ndarray:
    """Which of every_image() each one is."""
    k = level(x, levels).flatten(1)
    return (k * levels ** torch.arange(k.shape[1] - 1, -1, -1)).sum(1).numpy()


def chance_of(x: Tensor, levels: int, p: Tensor) -> float:
    """p-value of Pearson's test that x (N, C, H, W) are drawn from p over every_image(); what is rare is
    thrown together."""
    counts, expected = np.bincount(index(x, levels), minlength=len(p)), p.numpy() * len(x)
    common = expected >= 5
    seen = np.append(counts[common], counts[~common].sum())
    due = np.append(expected[common], expected[~common].sum())
    if due[-1] < 1e-9:
        assert seen[-1] == 0, "something impossible was drawn"
        seen, due = seen[:-1], due[:-1]
    return float(stats.chisquare(seen, due).pvalue)


GREY, COLOUR, BINARY, NAMES = (
    Spec(1, 2, levels=4),
    Spec(3, 2, levels=2),
    Spec(1, 3, levels=2),
    Spec(1, 2, levels=4, symbols=True),
)


def peeking(predict: Callable[..., Tensor], how: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, *y: predict(x, *y) * (1 + 0.5 * how(x))


@pytest.mark.parametrize("spec", [GREY, COLOUR, BINARY, NAMES], ids=["grey", "colour", "binary", "names"])
@every_model
def test_probabilities_of_all_images_sum_to_one(name: str, options: dict[str, Any], spec: Spec) -> None:
    """REFERENCE 1.1, with a fake that sees the pixel it predicts."""
    model = make(name, spec, options)
    log_p = log_probabilities(model, every_image(spec))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert log_p.max() - log_p.min() > 1, "all images are alike: nothing is tested"
    model.predict = peeking(model.predict, lambda x: x[:, :1])  # type: ignore[method-assign]
    assert abs(log_probabilities(model, every_image(spec)).exp().sum().item() - 1) > 1e-3


@every_model
def test_probabilities_of_all_images_of_4x4_sum_to_one(name: str, options: dict[str, Any]) -> None:
    """REFERENCE 1.1: 65,536 black-and-white images, in the arithmetic that training uses."""
    model = make(
        name, Spec(1, 4, levels=2), options | (dict(width=6, depth=1) if name == "pixelcnn" else {}), 1
    ).float()
    every = every_image(model.spec).float()
    log_p = log_probabilities(model, every).double()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5) and log_p.max() - log_p.min() > 5


def in_order(x: Tensor) -> Tensor:
    """(B, C, H, W, ...) to (B, sub-pixels in the order of drawing, ...)."""
    return x.movedim(1, 3).flatten(1, 3)


def jacobian(model: Autoregressive, x: Tensor, y: Condition | None = None) -> Tensor:
    """How what is said of each sub-pixel (rows) changes with each (columns), both in the order of drawing:
    |d/dx| of all levels, mixed at random."""
    mix = torch.rand(model.spec.levels, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    said = torch.autograd.functional.jacobian(lambda x: in_order(model.log_probs(x, y) @ mix)[0], x)
    return in_order(said[:, 0]).abs()


@torch.no_grad()
def changes(model: Autoregressive, x: Tensor) -> Tensor:
    """The same by trying: whether anything that is said of a sub-pixel changes with another level of each."""
    n, levels = model.spec.dims, model.spec.levels
    places = torch.arange(n).view(model.spec.size, model.spec.size, -1).permute(2, 0, 1)
    other = value((level(x, levels) + 1) % levels, levels).to(x.dtype)
    tried = torch.where(places == torch.arange(n)[:, None, None, None], other, x)
    # one by one: a product of another shape may round otherwise
    said = in_order(torch.cat([model.log_probs(one[None]) for one in (x[0], *tried)]))
    return (said[1:] != said[:1]).any(-1).T


def influence(model: Autoregressive, seed: int) -> tuple[Tensor, Tensor]:
    x = drawn(model.spec, 1, seed)
    return jacobian(model, x), changes(model, x)


def neighbours(spec: Spec) -> Tensor:
    """Which sub-pixels (columns) are to the left of each (rows), above it, or another channel of its pixel
    before it."""
    c, line = spec.channels, spec.channels * spec.size
    i, j = torch.meshgrid(*[torch.arange(spec.dims)] * 2, indexing="ij")
    left = (i - j == c) & (i // line == j // line)
    return left | (i - j == line) | ((i // c == j // c) & (j < i))


@pytest.mark.parametrize("spec", [Spec(1, 4, levels=5), Spec(3, 4, levels=5)], ids=["grey", "colour"])
@every_model
def test_nothing_depends_on_itself_or_on_what_comes_later(
    name: str, options: dict[str, Any], spec: Spec
) -> None:
    """REFERENCE 1.2: exactly 0.0, no tolerance; and every neighbour before is seen."""
    unseen = neighbours(spec)
    for seed in range(9):
        model = make(name, spec, options, seed)
        slope, changed = influence(model, seed)
        assert bool((slope.triu() == 0).all()) and not bool(changed.triu().any())
        unseen &= ~changed  # what one draw of the weights hides, another shows
        if not unseen.any():
            break
    assert not unseen.any(), f"sub-pixels that do not see a neighbour: {unseen.nonzero().tolist()}"
    model.predict = peeking(model.predict, lambda x: 1e-6 * x[:, :1].roll(-1, -1))  # type: ignore[method-assign]
    slope, changed = influence(model, 0)
    assert bool((slope.triu() != 0).any()) and bool(changed.triu().any())


@every_model
def test_units(name: str, options: dict[str, Any]) -> None:
    """REFERENCE 1.4: bits = nats / (D ln 2), and the loss is the mean of the bits."""
    spec = Spec(3, 4, levels=7)
    model, n, x = make(name, spec, options), 5, drawn(spec, 5)
    batch = Batch(x, None, Noise(range(n)))
    bits, loss = model.bits_per_dim(batch), model.loss(batch)
    assert bits.kind == "exact" and bits.values.shape == (n,) and not bits.values.requires_grad
    assert torch.allclose(bits.values, -log_probabilities(model, x) / (spec.dims * math.log(2)), rtol=1e-12)
    assert loss.total.item() == pytest.approx(bits.values.mean().item(), rel=1e-6)
    assert loss.terms["nats"].item() == pytest.approx(loss.total.item() * spec.dims * math.log(2), rel=1e-6)


@every_model
def test_a_network_of_zeros_is_uniform(name: str, options: dict[str, Any]) -> None:
    for levels, size, expected in ((256, 8, 8.0), (5, 8, math.log2(5)), (2, 28, 1.0)):
        model = make(name, Spec(1, size, levels=levels), options)
        if not isinstance(model.p, Softmax):
            continue
        for p in model.parameters():
            p.data.zero_()
        batch = Batch(torch.ones(2, *model.spec.shape, dtype=torch.float64), None, Noise(range(2)))
        assert torch.allclose(
            model.bits_per_dim(batch).values, torch.tensor(expected, dtype=torch.float64), rtol=1e-12
        )
        if levels == 2:
            assert (
                model.loss(batch).terms["nats"].item()
                == pytest.approx(784 * math.log(2))
                == pytest.approx(543.43, abs=0.01)
            )


@pytest.mark.parametrize("spec", [Spec(1, 4, levels=5), Spec(3, 4, levels=3)], ids=["grey", "colour"])
@every_model
def test_entropy_is_the_mean_surprise(name: str, options: dict[str, Any], spec: Spec) -> None:
    """Each sub-pixel takes every level in turn, the ones before held fixed."""
    model, x = make(name, spec, options), drawn(spec, 2)
    entropy = model.entropy(x)
    assert entropy.shape == x.shape and torch.allclose(entropy[1:], model.entropy(x[1:]), atol=1e-9)
    for c, i, j in itertools.product(range(spec.channels), range(4), range(4)):
        mean = torch.zeros(2, dtype=torch.float64)
        for k in range(spec.levels):
            other = x.clone()
            other[:, c, i, j] = value(torch.tensor(k).double(), spec.levels)
            with torch.no_grad():
                nats = model.surprise(other)[:, c, i, j]
            mean += nats * (-nats).exp()
        assert torch.allclose(entropy[:, c, i, j], mean, atol=1e-9)


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
@every_model
def test_samples_are_as_surprising_and_as_frequent_as_the_model_claims(
    name: str, options: dict[str, Any], spec: Spec
) -> None:
    model = make(name, spec, options)
    every, n = every_image(spec), 2000
    log_p = log_probabilities(model, every)
    entropy = -(log_p.exp() * log_p).sum()
    error = ((log_p.exp() * (log_p + entropy).square()).sum() / n).sqrt()

    def off() -> tuple[float, float]:
        """How many standard errors the samples' mean surprise lies off the entropy; and how likely such
        frequencies are."""
        x = last(model.sample(Noise(range(n))))
        return float((log_p[index(x, spec.levels)].mean() + entropy).abs() / error), chance_of(
            x, spec.levels, log_p.exp()
        )

    errors, chance = off()
    assert errors < 4 and chance > 1e-3
    model.temperature = 0.7
    errors, chance = off()
    assert errors > 4 and chance < 1e-6


def prefix(spec: Spec, n: int) -> Tensor:
    return (torch.arange(spec.size**2) < n).view(spec.size, spec.size)


@pytest.mark.parametrize("spec", [GREY, BINARY, COLOUR], ids=["grey", "binary", "colour"])
@every_model
def test_completions_follow_the_exact_conditional(name: str, options: dict[str, Any], spec: Spec) -> None:
    model, n, known = make(name, spec, options), 2000, prefix(spec, spec.size**2 // 2)
    every = every_image(spec)
    p = log_probabilities(model, every).exp()
    begins = level(every, spec.levels)[:, :, known].flatten(1).unique(dim=0, return_inverse=True)[1]
    joint = torch.stack([p[begins == i] for i in range(int(begins.max()) + 1)])
    telling = (joint / joint.sum(1, keepdim=True) - joint.sum(0)).abs().sum(1).argmax()
    start = every[begins == telling][0]  # whose first pixels say most about the others
    p = torch.where(begins == telling, p, 0.0)
    x = last(model.complete(start.expand(n, -1, -1, -1), known, Noise(range(n))))
    assert ((x == start) | ~known).all()
    assert chance_of(x, spec.levels, p / p.sum()) > 1e-3
    # the fake: what is given laid over a sample that never saw it
    pasted = torch.where(known, start, last(model.sample(Noise(range(n)))))
    assert chance_of(pasted, spec.levels, p / p.sum()) < 1e-6


@every_model
def test_a_pixel_meets_the_same_chance_however_many_are_known(name: str, options: dict[str, Any]) -> None:
    spec = Spec(3, 3, levels=4)
    model = make(name, spec, options)
    drawn = list(model.sample(Noise(range(4))))
    assert len(drawn) == 3 and all(
        (x[:, :, r + 1 :] == -1).all() and (x[:, :, : r + 1] == drawn[-1][:, :, : r + 1]).all()
        for r, x in enumerate(drawn)
    )
    for n in range(10):
        known = prefix(spec, n)
        steps = list(model.complete(torch.where(known, drawn[-1], math.nan), known, Noise(range(4))))
        assert torch.equal(steps[-1], drawn[-1]) and len(steps) == max(1, 3 - n // 3)
    assert not torch.equal(last(model.sample(Noise(range(4), key=1))), drawn[-1])


@every_model
def test_a_row_that_is_given_is_gone_through_at_once(name: str, options: dict[str, Any]) -> None:
    """But for a PixelRNN, whose states wait for each other: elsewhere a drawing costs what is drawn."""
    model, places = make(name, Spec(1, 5, levels=4), options), list[tuple[int, int, int]]()
    pixel = model.pixel
    model.pixel = lambda x, m, y=None: (places.append((m.row, m.column, m.width)), pixel(x, m, y))[1]  # type: ignore[method-assign]
    last(model.complete(drawn(model.spec, 2), prefix(model.spec, 12), Noise(range(2))))
    alone = [(r, c, 1) for r in range(5) for c in range(5)]
    assert places == (alone if name == "pixelrnn" else [(0, 0, 5), (1, 0, 5), *alone[10:]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_impossible_is_not_drawn(dtype: torch.dtype) -> None:
    """Sums of 256 probabilities end below 1 as often as above, and there may be a chance beyond their end."""
    logits = 3 * torch.randn(4096, 256, generator=torch.Generator().manual_seed(0), dtype=dtype)
    logits[:, -1] = -200
    top = torch.full((4096,), 1 - 2.0**-24)  # the largest that Noise.uniform gives
    fake = (logits.softmax(-1).cumsum(-1) < top[:, None]).sum(-1).clamp(max=255)
    assert dtype == torch.float64 or bool((fake == 255).any()), "nothing is tested"
    found = choose(logits, top)
    assert bool((logits.softmax(-1)[torch.arange(4096), found] > 0).all()) and found.max() < 255
    assert torch.equal(choose(logits.flip(1), torch.full((4096,), 2.0**-24)) > 0, torch.ones(4096).bool()), (
        "the first level is as impossible"
    )


@every_model
def test_what_is_drawn_before_what_is_given_is_refused(name: str, options: dict[str, Any]) -> None:
    model, x = make(name, GREY, options), torch.zeros(2, 1, 2, 2)
    for row, known in ((1, [[0, 0], [1, 1]]), (2, [[1, 1], [0, 1]]), (1, [[0, 1], [0, 0]])):
        with pytest.raises(Refusal, match=f"in row {row} something is to be drawn before"):
            next(model.complete(x, torch.tensor(known).bool(), Noise(range(2))))


def same_by_full_passes(
    model: Autoregressive, x: Tensor, known: Tensor, y: Condition | None = None
) -> list[Tensor]:
    quick, slow = (list(model.complete(x, known, Noise(range(len(x))), y, naive)) for naive in (False, True))
    assert len(quick) == len(slow) and all(map(torch.equal, quick, slow))
    return slow


@pytest.mark.parametrize(
    "spec",
    [Spec(1, 8, levels=4), Spec(3, 4, levels=3), Spec(1, 5, levels=4, symbols=True)],
    ids=["grey", "colour", "names"],
)
@every_model
@torch.no_grad()
def test_drawing_from_memory_is_drawing_by_full_passes(
    name: str, options: dict[str, Any], spec: Spec
) -> None:
    """Row by row, value by value, whatever is known; and not so for a memory that never hears
    what was drawn."""
    model, blank = make(name, spec, options), torch.zeros(2, *spec.shape, dtype=torch.float64)
    for n, temperature in ((0, 1.0), (2 * spec.size + 2, 2.0)):
        model.temperature, known = temperature, prefix(spec, n)
        slow = same_by_full_passes(model, blank, known)
    row, pixel, note = model.row, model.pixel, model.note
    model.row, model.pixel = (
        (lambda x, m, y=None: row(-torch.ones_like(x), m, y)),
        (lambda x, m, y=None: pixel(-torch.ones_like(x), m, y)),
    )  # type: ignore[method-assign]
    model.note = lambda x, m: note(-torch.ones_like(x), m)  # type: ignore[method-assign]
    assert not torch.equal(last(model.complete(blank, known, Noise(range(2)))), slow[-1])


def made_for_classes(name: str, options: dict[str, Any], spec: Spec) -> Autoregressive:
    return make(name, spec, options | dict(conditional=True), seed=1)


@every_model
def test_every_class_has_probability_one_and_one_that_is_not_told_is_drawn_evenly(
    name: str, options: dict[str, Any]
) -> None:
    spec, n = Spec(1, 2, 3, 3), 3000
    model, every = made_for_classes(name, options, spec), every_image(spec)
    p = torch.stack([log_probabilities(model, every, y).exp() for y in range(3)])
    assert torch.allclose(p.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-9)
    assert (p[0] - p[1]).abs().sum() > 0.2, "the class says nothing"
    x = last(model.sample(Noise(range(n)), Condition(torch.arange(n) % 3)))
    assert all(chance_of(x[y::3], 3, p[y]) > 1e-3 for y in range(3))
    assert chance_of(x[0::3], 3, p[1]) < 1e-6  # the fake: another class
    assert chance_of(last(model.sample(Noise(range(n)))), 3, p.mean(0)) > 1e-3


@every_model
def test_a_class_that_is_not_told_is_drawn_by_how_well_it_fits_what_is_known(
    name: str, options: dict[str, Any]
) -> None:
    """p(rest | known) = sum_y p(y | known) p(rest | known, y); the fake draws the class evenly."""
    spec, n, known = Spec(1, 2, 3, 3), 6000, prefix(Spec(1, 2), 2)
    model, every = made_for_classes(name, options, spec), every_image(spec)
    p = torch.stack([log_probabilities(model, every, y).exp() for y in range(3)])
    begins = level(every, 3)[:, :, known].flatten(1).unique(dim=0, return_inverse=True)[1]

    def conditionals(k: int) -> tuple[Tensor, Tensor]:
        """p(image | it begins as k) as it is, and with every class as likely as before."""
        joint = torch.where(begins == k, p, 0.0)
        return joint.sum(0) / joint.sum(), (joint / joint.sum(1, keepdim=True)).mean(0)

    apart = torch.stack([(exact - even).abs().sum() for exact, even in map(conditionals, range(9))])
    telling = int(apart.argmax())
    start, (exact, even) = every[begins == telling][:1].expand(n, -1, -1, -1), conditionals(telling)
    assert chance_of(last(model.complete(start, known, Noise(range(n)))), 3, exact) > 1e-3
    fake = last(model.complete(start, known, Noise(range(n)), Condition(torch.arange(n) % 3)))
    assert chance_of(fake, 3, even) > 1e-3 and chance_of(fake, 3, exact) < 1e-6
    nothing, noise = torch.zeros(2, 2, dtype=torch.bool), Noise(range(50))
    assert torch.equal(
        last(model.complete(start[:50], nothing, noise)), last(model.sample(Noise(range(50))))
    ), "nothing is known"


@every_model
def test_the_entropy_in_pieces_is_that_of_the_whole(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image with its own class."""
    spec, y = Spec(1, 4, 2, 3), Condition(torch.tensor([0, 1, 0]))
    model, x = made_for_classes(name, options, spec), drawn(spec, 3)
    whole = model.entropy(x, y)
    assert not torch.allclose(whole, model.entropy(x, Condition(torch.tensor([1, 0, 1]))), atol=1e-3), (
        "the class says nothing"
    )
    for rows in (1, 2):
        monkeypatch.setattr(autoregressive, "VALUES", rows * spec.dims * spec.levels)
        assert (
            torch.allclose(model.entropy(x, y), whole, atol=1e-12)
            and model.entropy(x, y).shape == whole.shape
        )


@pytest.mark.parametrize("conditional", [False, True])
@every_model
def test_the_diagnosis_hears_a_temperature(name: str, options: dict[str, Any], conditional: bool) -> None:
    """Own samples must cost what is claimed as entropy."""
    spec = Spec(1, 6, 2 * conditional, levels=4)
    model = make(name, spec, options | dict(conditional=conditional), seed=2)
    batch = Batch(drawn(spec, 1), None, Noise([0]))
    for temperature, off in ((1.0, False), (0.7, True), (1.5, True)):
        model.temperature = temperature
        entropy, bits = model.diagnose(batch)
        assert bits[2] == (
            f"its samples are not drawn from what it describes (temperature {temperature:g})" if off else ""
        )
        assert not off or (bits[1] < entropy[1]) == (temperature < 1)


@every_model
def test_a_class_is_asked_for(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="images of two classes or more"):
        made_for_classes(name, options, GREY)
    with pytest.raises(Refusal, match="none was said"):
        made_for_classes(name, options, Spec(1, 4, 2)).bits_per_dim(
            Batch(torch.zeros(1, 1, 4, 4).double(), None, Noise([0]))
        )


@every_model
def test_numbers_that_are_no_levels_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="codes that may be any number"):
        make(name, Spec(4, 8, levels=0), options)


def distribution() -> Data:
    """512 images of 2x2 pixels with 4 levels, each of all that there are as often as a random distribution
    says."""
    rng = np.random.default_rng(0)
    counts = 1 + rng.multinomial(256, rng.dirichlet(np.ones(256)))
    x = np.repeat((level(every_image(GREY), 4) * 85).numpy().astype(np.uint8), counts, 0)
    return Data("toy", "toy-1", x, np.arange(512), np.arange(8), levels=4)


@every_model
def test_any_distribution_can_be_learnt(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """KL(data || model) < 0.01 nats after a real training.  A batch is all of the data, so that nothing but
    the model is in the way."""
    data = distribution()
    settings = dict(
        batch=512, images=512 * 150, rate=2e-2, schedule="cosine", warmup=5120, ema=512
    ) | PATIENCE.get(name, {})
    run, _ = small_run(name, tmp_path, data, options=LEARNS.get(name, {}) | options, **settings)
    x = data.take(data.train).x
    p = torch.from_numpy(np.bincount(index(x, 4), minlength=256) / len(x))
    entropy = -torch.special.xlogy(p, p).sum()
    for _ in fit(run, data):
        pass
    assert isinstance(run.model, Autoregressive)
    run.model.double().eval()
    gap = (-log_probabilities(run.model, x.double()).mean() - entropy).item()
    uniform = (data.spec.dims * math.log(4) - entropy).item()  # the fake: a model that has learnt nothing
    assert -1e-6 < gap < 0.01 < 0.15 < uniform
