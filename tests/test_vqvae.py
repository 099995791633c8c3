"""The VQ-VAE: its codebook by hand and against k-means, its gradient, what it tells a second model."""

import math
from itertools import pairwise

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor

from likeness.core import Batch, Noise, Refusal, Spec, answers
from likeness.models.vqvae import VQVAE, ladder
from likeness.parts.codebook import EPS, Codebook
from likeness.parts.conditionals import level, value

# The codebook


class Unrevived(Codebook):
    """The fake: a code that nothing is near stays where it is for ever."""

    def revive(self) -> None:
        pass


def learn(book: Codebook, z: Tensor) -> None:
    book.note(z, book.nearest(z))
    book.step()


def blobs(n: int) -> Tensor:
    """REFERENCE 1.25: sixteen of them in two dimensions; the mean squared distance to the own
    centre is 0.04."""
    g = torch.Generator().manual_seed(0)
    centres = 4 * torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    return centres[torch.randint(0, 16, (n,), generator=g)] + math.sqrt(0.02) * torch.randn(n, 2, generator=g)


def start(book: Codebook, codes: Tensor, count: float) -> None:
    """Codes that stand somewhere and are used alike."""
    book.codes.copy_(codes)
    book.mean.copy_(
        torch.cat([torch.full((len(codes), 1), count), torch.ones(len(codes), 1), count * codes], 1)
    )


def error(book: Codebook, x: Tensor) -> float:
    return (x - book.vectors(book.nearest(x))).square().sum(1).mean().item()


@pytest.mark.parametrize("where", ["untrained", "points", "corner"])
@pytest.mark.parametrize("kind", [Codebook, Unrevived])
def test_the_codebook_is_as_good_as_k_means_from_any_start_if_idle_codes_are_put_elsewhere(
    kind: type[Codebook], where: str
) -> None:
    x = blobs(4096)
    floor = KMeans(16, n_init=10, random_state=0).fit(x.numpy()).inertia_ / len(x)
    torch.manual_seed(0)
    book = kind(16, 2)
    if where != "untrained":
        start(book, x[:16] if where == "points" else torch.rand(16, 2) - 3, 16.0)
    for part in x.repeat(40, 1).split(256):
        learn(book, part)
    assert floor == pytest.approx(0.04, abs=0.002)
    if kind is Codebook:
        assert error(book, x) < 1.1 * floor and book.perplexity() > 15.5
    else:
        assert error(book, x) > 0.5 and book.perplexity() < 15.5


def test_the_running_means_are_those_of_the_paper() -> None:
    """Appendix A.1, eq. 6 to 8, in a loop over codes and vectors; and a decay on the wrong side, which is
    not."""
    torch.manual_seed(0)
    book, wrong, k = Unrevived(5, 3, decay=0.9).double(), Unrevived(5, 3, decay=0.1).double(), 5
    count, total = torch.zeros(k, dtype=torch.double), torch.zeros(k, 3, dtype=torch.double)
    for _ in range(4):
        z = torch.randn(40, 3, dtype=torch.double)
        number = torch.stack([(book.codes - v).square().sum(1).argmin() for v in z])
        assert torch.equal(book.nearest(z), number)
        for i in range(k):
            count[i] = 0.9 * count[i] + 0.1 * (number == i).sum()
            total[i] = 0.9 * total[i] + 0.1 * z[number == i].sum(0)
        learn(book, z)
        learn(wrong, z)
        n = count.sum()
        expected = total / ((count + EPS) / (n + k * EPS) * n)[:, None]
        assert torch.allclose(book.codes, expected, atol=1e-12)
    assert torch.allclose(book.used, count) and not book.tally.any()
    assert not torch.allclose(wrong.used, count, rtol=0.1)


def test_squared_errors_are_added_up_by_code() -> None:
    torch.manual_seed(0)
    book = Codebook(4, 2)
    start(book, torch.randn(4, 2), 1.0)
    z = torch.randn(50, 2)
    k = book.nearest(z)
    book.note(z, k)
    far = (z - book.codes[k]).square().sum(1)
    assert torch.allclose(book.tally[:, 1], torch.stack([far[k == i].sum() for i in range(4)]), atol=1e-5)


def test_an_idle_code_takes_half_of_the_worst_and_nobody_else_moves() -> None:
    book = Codebook(4, 2)
    start(book, torch.tensor([[0.0, 0], [10, 0], [0, 10], [0, 10.001]]), 100.0)
    book.mean[:, 1] = torch.tensor([50.0, 200, 60, 1])
    book.mean[3, :1] = 1e-3
    before = book.mean.clone()
    book.revive()
    assert torch.equal(book.mean[[0, 2]], before[[0, 2]])
    assert torch.equal(book.mean[1], before[1] / 2) and torch.equal(book.mean[3, :2], before[1, :2] / 2)
    moved = book.mean[3, 2:] / book.used[3] - torch.tensor([10.0, 0])
    assert 0.1 < moved.norm() < 4  # a standard deviation is 1 here
    again = book.mean.clone()
    book.mean.copy_(before)
    book.revive()
    assert torch.equal(book.mean, again), "the same step splits in the same way"
    book.mean.copy_(before)
    book.steps += 1
    book.revive()
    assert not torch.equal(book.mean[3], again[3]), "another step in another direction"


def test_nearest_is_in_full_precision_whatever_autocast_says_and_in_parts() -> None:
    torch.manual_seed(0)
    book = Codebook(300, 8)
    book.codes.copy_(100 + 0.01 * torch.randn(300, 8))
    z = 100 + 0.01 * torch.randn(70000, 8)
    with torch.autocast("cpu", torch.bfloat16):
        k = book.nearest(z)
    exact = torch.cdist(z[-500:].double(), book.codes.double())
    chosen = exact.gather(1, k[-500:, None]).squeeze(1)
    assert (chosen / exact.amin(1)).max() < 1.2
    # the fake
    coarse = (
        book.codes.bfloat16().square().sum(1) / 2 - z[-500:].bfloat16() @ book.codes.bfloat16().T
    ).argmin(1)
    assert (exact.gather(1, coarse[:, None]).squeeze(1) / exact.amin(1)).max() > 1.2


# The model


def model(size: int = 8, levels: int = 256, **options: object) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(
        spec=Spec(1, size, levels=levels), **(dict(width=8, depth=1, codes=16, code_width=4) | options)
    )  # type: ignore[arg-type]


def digits(levels: int = 17) -> Tensor:
    x = torch.tensor(load_digits().images[:1024]).float()[:, None] / 8 - 1
    return x.sign() + (x == 0) if levels == 2 else x


def batch_of(x: Tensor) -> Batch:
    return Batch(x, None, Noise(range(len(x))))


def train(m: VQVAE, x: Tensor, steps: int, rate: float = 5e-3, batch: int = 128) -> None:
    optimizer = torch.optim.Adam(m.parameters(), rate)
    for step in range(steps):
        at = torch.arange(step * batch, (step + 1) * batch) % len(x)
        optimizer.zero_grad()
        m.loss(batch_of(x[at])).total.backward()
        optimizer.step()
        m.after_step()


def test_the_gradient_goes_straight_through() -> None:
    """Of the encoder's weights it is that of the decoder at z_q, and nothing else without a commitment (eq.
    3)."""
    m = model(beta=0.0).double()
    m.book.codes.normal_()
    x = digits()[:6].double()
    z, k = m.quantise(x)
    e = m.book.vectors(k).requires_grad_()
    distortion = -m.p.log_prob(x, m.picture(e)).mean() / m.spec.dims
    (slope,) = torch.autograd.grad(distortion, e)
    expected = torch.autograd.grad(z, list(m.encoder.parameters()), slope)
    loss = m.loss(batch_of(x)).total
    found = torch.autograd.grad(loss, list(m.encoder.parameters()), retain_graph=True)
    assert loss.item() == pytest.approx(distortion.item())
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-12) for a, b in zip(found, expected))
    # the fake: no quantisation on the way
    (at_z,) = torch.autograd.grad(-m.p.log_prob(x, m.picture(z)).mean() / m.spec.dims, z)
    assert not torch.allclose(at_z, slope, rtol=1e-2)


def test_commitment_pulls_the_encoder_to_its_codes_and_is_weighed() -> None:
    x = digits()[:6]
    plain, weighed = (model(beta=beta).loss(batch_of(x)) for beta in (0.0, 2.0))
    assert weighed.total.item() == pytest.approx(
        plain.total.item() + 2 * weighed.terms["commitment"].item(), rel=1e-5
    )


@pytest.mark.parametrize("pieces", [1, 3, 8])
def test_pieces_of_a_batch_are_the_batch_to_the_codebook_too(pieces: int) -> None:
    whole, parts = model(), model()
    for x in digits()[:96].split(24):
        whole.loss(batch_of(x))
        for part in batch_of(x).split(pieces):
            parts.loss(part)
        assert torch.allclose(whole.tallies()[0], parts.tallies()[0], rtol=1e-5, atol=1e-6)
        for m in (whole, parts):
            m.after_step()
        assert (
            torch.allclose(whole.book.codes, parts.book.codes, rtol=1e-4, atol=1e-6)
            and not whole.tallies()[0].any()
        )
    assert not whole.whole_batch


def test_judging_is_not_learning() -> None:
    m = model().eval()
    m.loss(batch_of(digits()[:8]))
    assert not m.tallies()[0].any()


@pytest.mark.parametrize("levels", [2, 17])
def test_it_learns_digits_and_uses_its_codes(levels: int) -> None:
    x = digits(levels)
    m = model(levels=levels, codes=32, code_width=8)
    before = m.loss(batch_of(x)).terms["distortion"].item()
    train(m, x, 250)
    m.eval()
    after = m.distortion(x, m.compress(x))
    assert after.shape == (len(x),) and after.min() > 0 and after.mean() < 0.75 * before
    said = {name: (figure, warning) for name, figure, warning in m.diagnose(batch_of(x))}
    assert (
        said["codes used"][0] > 24
        and not said["codes used"][1]
        and 8 < said["code perplexity"][0] <= said["codes used"][0]
    )
    pca = x.flatten(1) - x.flatten(1).mean(0)
    assert (m.expand(m.compress(x)) - x).square().mean() < pca.square().mean()


def test_diagnosis_warns_of_a_collapse_and_only_where_there_are_images_enough_to_see_it() -> None:
    m = model(codes=64)
    m.book.codes[3:] = 1e3
    (_, used, warning), (_, perplexity, _) = m.diagnose(batch_of(digits()[:64]))
    assert used <= 3 and "collapsed; type --rate 0.002" in warning and perplexity <= 3
    large = model(codes=64)
    large.book.codes[16:] = 1e3
    (_, used, warning), _ = large.diagnose(batch_of(digits()[:64]))
    assert 8 <= used <= 16 and "too large" in warning and "--codes 16" in warning
    (_, _, warning), _ = m.diagnose(batch_of(digits()[:16]))
    assert not warning, "sixteen images have only four times as many places as there are codes"


def test_symbols_and_vectors_say_the_same() -> None:
    m, x = model(size=13, codes=7), torch.rand(5, 1, 13, 13) * 2 - 1
    m.book.codes.normal_()
    z, vectors = m.compress(x), m.encode(x)
    assert m.code == Spec(1, 4, levels=7, symbols=True)
    assert z.shape == (5, *m.code.shape) and z.abs().max() <= 1 and vectors.shape == (5, m.latent)
    assert torch.allclose(m.expand(z), m.decode(vectors), atol=1e-6)
    assert torch.allclose(
        m.decode(vectors + 1e-3 * torch.randn_like(vectors)), m.decode(vectors), atol=1e-6
    ), "decode() moves to the nearest code"
    loss = m.loss(batch_of(x)).terms["distortion"]
    assert m.distortion(x, z).mean().item() == pytest.approx(loss.item(), rel=1e-5)
    assert m.distortion(x, z.roll(1, 0)).mean() > 0


def test_the_bound_of_two_stages_holds() -> None:
    """-log p(x) <= distortion - log p(z), here with all 2^4 codes of a grid summed, and p(z) uniform."""
    m = model(size=2, codes=2, code_width=1)
    m.book.codes.copy_(torch.tensor([[-1.0], [1.0]]))
    assert m.code.size == 2
    x = value(torch.randint(0, 256, (6, 1, 2, 2)), 256)
    every = value(torch.cartesian_prod(*[torch.arange(2)] * 4).view(16, 1, 1, 2, 2), 2)
    each = torch.stack([-m.distortion(x, z.expand(6, -1, -1, -1)) for z in every])
    exact = -(each - math.log(16)).logsumexp(0)
    bound = m.distortion(x, m.compress(x)) + math.log(16)
    assert (bound >= exact - 1e-4).all()
    assert not (bound - math.log(16) >= exact).all(), "without what z costs it is no bound"


@pytest.mark.parametrize("codes", [2, 3, 128, 1000, 4097, 8192])
def test_every_symbol_survives_float32(codes: int) -> None:
    k = torch.arange(codes)
    z = value(k, codes)
    assert (
        z.dtype == torch.float32
        and torch.equal(level(z, codes), k)
        and z.min() == -1
        and z.max() == pytest.approx(1, abs=1e-6)
    )


@pytest.mark.parametrize(
    ("size", "halvings", "code"),
    [
        (8, 2, 4),
        (7, 2, 4),
        (28, 2, 7),
        (100, 2, 25),
        (25, 2, 7),
        (25, 3, 4),
        (28, 0, 28),
        (3, 2, 3),
        (64, 4, 4),
    ],
)
def test_every_size(size: int, halvings: int, code: int) -> None:
    m = model(size=size, halvings=halvings, width=16)
    x = torch.rand(1, 1, size, size) * 2 - 1
    m.loss(batch_of(x)).total.backward()
    assert (
        m.code.size == code
        and m.compress(x).shape == (1, 1, code, code)
        and m.expand(m.compress(x)).shape == x.shape
    )
    assert m.encode(x).shape == (1, m.latent) and m.decode(m.encode(x)).shape == x.shape
    assert all(a == (b + 1) // 2 for b, a in pairwise(ladder(size, halvings)))


def test_colour_and_double() -> None:
    m = VQVAE(spec=Spec(3, 9, labels=4), width=8, depth=1, likelihood="gaussian").double()
    x = torch.rand(2, 3, 9, 9, dtype=torch.double) * 2 - 1
    m.loss(batch_of(x)).total.backward()
    m.after_step()
    assert m.code.labels == 4 and m.expand(m.compress(x)).shape == x.shape


@pytest.mark.parametrize(
    "options",
    [
        dict(codes=1),
        dict(codes=8193),
        dict(beta=-1.0),
        dict(decay=1.0),
        dict(likelihood="bernoulli"),
        dict(halvings=-1),
    ],
)
def test_refusals(options: dict[str, object]) -> None:
    with pytest.raises(Refusal):
        VQVAE(spec=Spec(1, 28), **options)  # type: ignore[arg-type]


def test_codes_of_codes_are_refused() -> None:
    for spec in (Spec(1, 7, levels=128, symbols=True), Spec(1, 7, levels=0)):
        with pytest.raises(Refusal, match="codes already"):
            VQVAE(spec=spec)


def test_it_has_no_prior_and_says_so_by_having_no_method() -> None:
    assert answers(model())[:2] == ("encode", "decode") and not {"sample", "bits_per_dim"} & set(
        answers(model())
    )
