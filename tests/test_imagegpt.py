"""Image GPT: every image has a probability, each sub-pixel sees exactly those before it, and the memory draws
what the full pass draws."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.models.imagegpt import LONGEST, ImageGPT
from likeness.parts.causal import Memory

SPECS = {
    "grey": Spec(1, 4, levels=5),
    "colour": Spec(3, 3, levels=4),
    "symbols": Spec(1, 4, levels=7, symbols=True),
    "two codes": Spec(2, 3, levels=5, symbols=True),
    "black and white": Spec(1, 5, levels=2),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


class Sighted(ImageGPT):
    """The fake: attention sees the future."""

    def build(self) -> None:
        super().build()
        for block in self.net.blocks:
            block.attention.causal = False


class Unshifted(ImageGPT):
    """The fake: each place is given its own sub-pixel."""

    def inputs(self, x: Tensor, begin: int, end: int, y: Condition | None) -> Tensor:
        return super().inputs(x, begin, end, y).roll(-1, 1)


def made(spec: Spec, kind: type[ImageGPT] = ImageGPT, depth: int = 2, **options: object) -> ImageGPT:
    """In float64, with weights large enough for everything to matter."""
    model = kind(spec=spec, width=16, depth=depth, heads=2, **options).double()
    g = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=p.dtype) * 0.4
    return model


def images(spec: Spec, n: int = 3) -> Tensor:
    k = torch.randint(0, spec.levels, (n, *spec.shape), generator=torch.Generator().manual_seed(2))
    return k.double() * (2 / (spec.levels - 1)) - 1


def in_order(model: ImageGPT, x: Tensor, y: Condition | None = None) -> Tensor:
    """predict(), (B, sub-pixels, levels) in the order of drawing."""
    return model.predict(x, y).unflatten(1, (model.spec.channels, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)


# Likelihood


def every_image() -> Tensor:
    return (
        torch.tensor(list(itertools.product(range(4), repeat=4)), dtype=torch.float64).view(256, 1, 2, 2)
        * (2 / 3)
        - 1
    )


def log_p(model: ImageGPT, x: Tensor, y: Condition | None = None) -> Tensor:
    return -model.bits_per_dim(Batch(x, y, Noise(range(len(x))))).values * math.log(2) * model.spec.dims


def total(model: ImageGPT, y: Condition | None = None) -> float:
    return float(log_p(model, every_image(), y).exp().sum())


def test_the_probabilities_of_all_images_add_up_to_one():
    spec = Spec(1, 2, labels=3, levels=4)
    assert total(made(spec)) == pytest.approx(1, abs=1e-10)
    assert total(made(Spec(1, 2, levels=4, symbols=True))) == pytest.approx(1, abs=1e-10)
    for label in range(3):
        assert total(made(spec, conditional=True), Condition(torch.full((256,), label))) == pytest.approx(
            1, abs=1e-10
        )
    for fake in (Sighted, Unshifted):
        assert abs(total(made(spec, fake)) - 1) > 0.01


def test_it_learns_any_distribution_of_small_images():
    q = torch.rand(256, generator=torch.Generator().manual_seed(0)).pow(4)
    q, x = q / q.sum(), every_image().float()
    torch.manual_seed(0)
    model = ImageGPT(spec=Spec(1, 2, levels=4), width=32, depth=1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 200)
        optimizer.zero_grad()
        (q @ model.surprise(x).sum((1, 2, 3))).backward()
        optimizer.step()
    kl = float(q @ (q.log() - log_p(model, x)))
    independent = float(q @ q.log()) + sum(entropy_of_one(q, i) for i in range(4))
    assert -1e-6 < kl < 0.01 < 0.1 < independent


def entropy_of_one(q: Tensor, i: int) -> float:
    """Of a pixel alone, in nats."""
    p = q.view(4, 4, 4, 4).sum([j for j in range(4) if j != i])
    return -float(p @ p.log())


# What depends on what


def dependence(model: ImageGPT) -> Tensor:
    """Whether the prediction of sub-pixel i changes in any bit with that of sub-pixel j, (i, j)."""
    spec, x = model.spec, images(model.spec, 1)
    before, columns = in_order(model, x)[0], []
    for j in range(spec.dims):
        other = x.permute(0, 2, 3, 1).flatten(1).clone()
        other[0, j] = -1 if other[0, j] > 0 else 1
        after = in_order(model, other.view(1, spec.size, spec.size, spec.channels).permute(0, 3, 1, 2))[0]
        columns.append((after != before).any(1))
    return torch.stack(columns, 1)


@every_spec
def test_each_subpixel_depends_on_exactly_those_before_it(spec):
    past = torch.ones(spec.dims, spec.dims).tril(-1).bool()
    with torch.no_grad():
        assert torch.equal(dependence(made(spec)), past)
        for fake in (Sighted, Unshifted):
            assert bool((dependence(made(spec, fake)) & ~past).any())


@pytest.mark.parametrize("without", ["nothing", "learned places", "rotation", "either"])
def test_where_a_pixel_lies_matters(without):
    """One layer of attention without positions sees a set: two earlier pixels exchanged would
    change nothing."""
    model = made(SPECS["grey"], depth=1)
    if without in ("learned places", "either"):
        for place in model.places:
            place.weight.data.zero_()
    if without in ("rotation", "either"):
        model.turns[0], model.turns[1] = 1, 0
    x = images(model.spec, 1)
    x[0, 0, 0, 1], x[0, 0, 1, 2] = -1, 1
    other = x.clone()
    other[0, 0, 0, 1], other[0, 0, 1, 2] = 1, -1
    change = (in_order(model, other) - in_order(model, x))[0, -1].abs().max()
    assert change < 1e-12 if without == "either" else change > 1e-3


def test_symbols_are_names_and_brightness_is_not():
    """Other names for the same symbols, and the same vectors under the new names, make no difference."""
    for symbols in (True, False):
        model = made(Spec(1, 4, levels=7, symbols=symbols))
        x, names = images(model.spec), torch.randperm(7, generator=torch.Generator().manual_seed(3))
        renamed = names[((x + 1) * 3).round().long()].double() / 3 - 1
        before = model.predict(x)
        model.table.weight.data[names] = model.table.weight.data.clone()
        assert torch.allclose(model.predict(renamed), before, atol=1e-12) == symbols


def test_a_class_changes_what_is_predicted_from_the_first_pixel_on():
    spec = Spec(1, 4, labels=3, levels=5)
    x, y, other = images(spec), Condition(torch.tensor([0, 1, 2])), Condition(torch.tensor([1, 2, 0]))
    told, untold = made(spec, conditional=True), made(spec)
    differs = (in_order(told, x, y) != in_order(told, x, other)).any(-1)
    assert bool(differs.all()) and torch.equal(untold.predict(x, y), untold.predict(x))


# Drawing


@every_spec
@pytest.mark.parametrize("given", [0, 5, 9])
def test_the_memory_draws_what_the_full_pass_draws(spec, given):
    model, x, n = made(spec), images(spec), spec.size
    known = (torch.arange(n * n) < given).view(n, n)
    fast = list(model.complete(x, known, Noise(range(3))))
    slow = list(model.complete(x, known, Noise(range(3)), naive=True))
    assert len(fast) == len(slow) and all(torch.equal(a, b) for a, b in zip(fast, slow))
    assert torch.equal(fast[-1][..., known], x[..., known])
    assert not torch.equal(fast[-1], x) or bool(known.all())


def test_the_memory_draws_what_the_full_pass_draws_of_each_class():
    model = made(Spec(1, 4, labels=3, levels=5), conditional=True)
    x, nothing, y = (
        images(model.spec),
        torch.zeros(4, 4, dtype=torch.bool),
        Condition(torch.tensor([2, 0, 1])),
    )
    drawn = [list(model.complete(x, nothing, Noise(range(3)), y, naive))[-1] for naive in (False, True)]
    other = list(model.complete(x, nothing, Noise(range(3)), Condition(torch.tensor([0, 1, 2]))))[-1]
    assert torch.equal(*drawn) and not torch.equal(drawn[0], other)
    assert torch.equal(list(model.sample(Noise(range(3)), y))[-1], drawn[0])


@every_spec
def test_what_is_asked_with_the_memory_is_what_the_full_pass_says(spec):
    model, x, memory = made(spec), images(spec), Memory(spec.size)
    whole = in_order(model, x)
    for i, (memory.row, memory.column, k) in enumerate(
        itertools.product(range(spec.size), range(spec.size), range(spec.channels))
    ):
        said = model.pixel(x, memory).view(3, spec.channels, spec.levels)
        assert torch.allclose(said[:, k], whole[:, i], atol=1e-12)
    assert memory.kept[model.net].fed == spec.dims


@every_spec
@pytest.mark.parametrize("given", [0, 5])
def test_no_token_is_fed_twice(spec, given):
    """A picture costs as many tokens as it has sub-pixels, however many are known; a row that is known is fed
    at once."""
    model, fed = made(spec), []
    model.net.register_forward_hook(lambda _, inputs, out: fed.append(out.shape[1]))
    known = (torch.arange(spec.size**2) < given).view(spec.size, spec.size)
    list(model.complete(images(spec), known, Noise(range(3))))
    rows = given // spec.size
    assert sum(fed) == spec.dims and max(fed) <= spec.channels * (spec.size if rows else 1)
    assert len(fed) <= rows + (spec.size**2 - rows * spec.size) * spec.channels


def test_its_own_images_are_as_surprising_as_it_says():
    """The mean surprise of what it draws is the mean of its entropies on the same images."""
    model = made(SPECS["grey"])
    *_, x = model.sample(Noise(range(1000)))
    with torch.no_grad():
        difference = (model.surprise(x) - model.entropy(x)).flatten(1).sum(1)
        half_as_bold = (model.surprise(x) - model.entropy(x) / 2).flatten(1).sum(1)
    error = float(difference.std()) / math.sqrt(1000)
    assert abs(float(difference.mean())) < 4 * error < abs(float(half_as_bold.mean()))


# Requests that cannot be met


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(
        Refusal, match="--conditional asks for images of two classes or more and these have 0"
    ):
        ImageGPT(spec=Spec(1, 8), conditional=True)
    with pytest.raises(Refusal, match="take those of a vqvae"):
        ImageGPT(spec=Spec(4, 7, levels=0))
    with pytest.raises(Refusal, match=r"--width 100 .* use --width 96"):
        ImageGPT(spec=Spec(1, 8), width=100, heads=8)
    with pytest.raises(Refusal, match=r"4,225.*train vqvae DATA.*train imagegpt runs/vqvae"):
        ImageGPT(spec=Spec(1, 65))
    assert ImageGPT(spec=Spec(1, math.isqrt(LONGEST)), width=8).spec.dims == LONGEST
    with pytest.raises(Refusal, match="none was said"):
        made(Spec(1, 4, labels=2, levels=5), conditional=True).predict(images(SPECS["grey"]))


@pytest.mark.parametrize("width,heads", [(5, 3), (4, 64), (97, 4)])
def test_the_width_that_a_refusal_names_will_do(width, heads):
    with pytest.raises(Refusal) as refused:
        ImageGPT(spec=Spec(1, 4), width=width, heads=heads)
    named = int(str(refused.value).rpartition(" ")[2].rstrip("."))
    ImageGPT(spec=Spec(1, 4), width=named, heads=heads)


def test_the_loss_is_finite_in_bfloat16_and_for_one_image():
    model = ImageGPT(spec=Spec(3, 4, levels=256), width=16, depth=1)
    x = images(model.spec, 1).float()
    with torch.autocast("cpu", torch.bfloat16):
        low = model.loss(Batch(x, None, Noise([0])))
    low.total.backward()
    full = model.bits_per_dim(Batch(x, None, Noise([0]))).values
    assert low.total.item() == pytest.approx(full.item(), abs=0.02)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    # before it has learned anything all levels are alike
    assert low.total.item() == pytest.approx(8, abs=0.3)
