"""The VAE against closed forms: probabilistic PCA, where log p(x) and the best posterior are known."""

import math
from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from likeness.core import Batch, Noise, Refusal, Samples, Scores, Spec, answers
from likeness.models.vae import ROWS, VAE, Gauss, iwae, log_weights
from likeness.parts.resnet import Image

# Probabilistic PCA (Tipping & Bishop 1999): z ~ N(0, I), x = W z + s e, so that x ~ N(0, W W' + s^2 I).

D, L, S = 9, 3, 0.5


def weights(orthogonal: bool, seed: int = 0) -> Tensor:
    w = torch.randn(D, L, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(w)[0] * torch.tensor([2.0, 1.2, 0.7]) if orthogonal else w


def evidence(w: Tensor, x: Tensor) -> Tensor:
    return torch.distributions.MultivariateNormal(
        torch.zeros(D, dtype=w.dtype), w @ w.T + S**2 * torch.eye(D, dtype=w.dtype)
    ).log_prob(x)


def posterior(w: Tensor, x: Tensor) -> Gauss:
    """The best diagonal Gaussian: exact when the columns of w are orthogonal, mean field otherwise."""
    precision = w.T @ w / S**2 + torch.eye(L, dtype=w.dtype)
    mu = x @ w @ torch.linalg.inv(precision) / S**2
    return Gauss(mu, -precision.diag().log().expand_as(mu))


def elbo(w: Tensor, x: Tensor, q: Gauss) -> Tensor:
    """Distortion in closed form, rate by the model's own kl()."""
    error = (x - q.mu @ w.T).square().sum(1) + (q.log_var.exp() @ w.square().sum(0))
    return -(error / S**2 + D * math.log(2 * math.pi * S**2)) / 2 - q.kl().sum(1)


def drawn(w: Tensor, n: int = 200) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, L, generator=g, dtype=w.dtype) @ w.T + S * torch.randn(
        n, D, generator=g, dtype=w.dtype
    )


def weights_of(w: Tensor, x: Tensor, q: Gauss, k: int) -> Tensor:
    def log_p(z: Tensor) -> Tensor:
        return (
            torch.distributions.Normal(z.to(w.dtype) @ w.T, S).log_prob(x.repeat(len(z) // len(x), 1)).sum(1)
        )

    return log_weights(q, log_p, Noise(range(len(x))), k)


def test_elbo_of_the_exact_posterior_is_the_evidence_and_mean_field_lies_below() -> None:
    for orthogonal in (True, False):
        w = weights(orthogonal)
        x = drawn(w)
        gap = (evidence(w, x) - elbo(w, x, posterior(w, x))).mean().item()
        assert abs(gap) < 1e-9 if orthogonal else gap > 1e-3
    w, x = weights(True), drawn(weights(True))
    q = posterior(w, x)
    wrong_sign = elbo(w, x, q) + 2 * q.kl().sum(1)
    no_constant = elbo(w, x, q) + D * math.log(2 * math.pi * S**2) / 2
    for fake in (wrong_sign, no_constant):
        assert (fake - evidence(w, x)).mean().abs() > 0.1


def test_every_weight_of_the_exact_posterior_is_the_evidence() -> None:
    w = weights(True)
    x = drawn(w, 50)
    # noise is float32
    assert torch.allclose(weights_of(w, x, posterior(w, x), 7), evidence(w, x).expand(7, -1), atol=1e-4)


def test_iwae_rises_to_the_evidence() -> None:
    w = weights(False)
    x = drawn(w, 100)
    q, exact = posterior(w, x), evidence(w, x).mean().item()
    bounds = [elbo(w, x, q).mean().item()] + [
        iwae(weights_of(w, x, q, k)).mean().item() for k in (4, 32, 1024)
    ]
    assert bounds == sorted(bounds) and exact - bounds[0] > 0.03
    assert bounds[-1] == pytest.approx(exact, abs=0.005)
    averaged_logs = weights_of(w, x, q, 1024).mean(0).mean().item()  # the fake: mean of logs
    assert exact - averaged_logs > 0.03


class Continuous(nn.Module):
    """N(x; out, S^2), a density, in place of a probability on a grid."""

    outputs = 1

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return torch.distributions.Normal(out, S).log_prob(x).flatten(1).sum(1)


class LinearVAE(VAE):
    """Of two levels, so that the decoder has one output a pixel."""

    def build(self) -> None:
        super().build()
        self.p = Continuous()  # type: ignore[assignment]


def train(model: nn.Module, x: Tensor, steps: int, rate: float = 3e-3, batch: int = 64) -> None:
    """Adam, its rate falling to zero."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        at = torch.arange(step * batch, (step + 1) * batch)
        optimizer.zero_grad()
        model.loss(Batch(x[at % len(x)], None, Noise(at))).total.backward()
        optimizer.step()


def test_linear_vae_learns_probabilistic_pca() -> None:
    """Lucas et al. 2019: its optimum is the maximum likelihood of probabilistic PCA, whose bound is tight."""
    torch.manual_seed(0)
    x = drawn(weights(True), 2048).float()
    model = LinearVAE(spec=Spec(1, 3, levels=2), net="mlp", depth=0, latent=L)
    train(model, x.view(-1, 1, 3, 3), 1500, 2e-2, 256)
    model.k = 1
    nats = (
        -model.bits_per_dim(Batch(x.view(-1, 1, 3, 3), None, Noise(range(len(x))))).values.double()
        * D
        * math.log(2)
    )
    # The maximum of the likelihood, with S known (Tipping & Bishop, section 3.2): W = U (lambda - S^2)^(1/2).
    values, vectors = torch.linalg.eigh(x.double().T @ x.double() / len(x))
    best = evidence(vectors[:, -L:] * (values[-L:] - S**2).sqrt(), x.double()).mean().item()
    assert nats.mean().item() == pytest.approx(best, abs=0.05)
    assert nats.mean().item() < best + 0.02
    # without a code
    assert evidence(torch.zeros(D, L, dtype=torch.float64), x.double()).mean().item() < best - 1


def test_the_bound_of_a_grid_is_the_evidence_where_the_posterior_is_exact() -> None:
    """An image of 2x2 patches, each a probabilistic PCA of its own: the evidence is the sum of theirs, and so
    is every importance weight."""
    turned = torch.linalg.qr(
        torch.randn(4, L, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )[0]
    w = turned * torch.tensor([2.0, 1.2, 0.7])
    model = LinearVAE(spec=Spec(1, 8, levels=2), grid=4, latent=16 * L, k=7)
    model.encoder = nn.Sequential(nn.Conv2d(1, 2 * L, 2, 2), nn.Flatten())
    model.decoder = nn.Sequential(Image(L, 4), nn.ConvTranspose2d(L, 1, 2, 2, bias=False))
    precision = w.T @ w / S**2 + torch.eye(L, dtype=w.dtype)
    with torch.no_grad():
        model.encoder[0].weight[:L] = (torch.linalg.inv(precision) @ w.T / S**2).view(L, 1, 2, 2)
        model.encoder[0].weight[L:], model.encoder[0].bias[:L], model.encoder[0].bias[L:] = (
            0,
            0,
            -precision.diag().log(),
        )
        model.decoder[1].weight[:] = w.T.reshape(L, 1, 2, 2)
    g = torch.Generator().manual_seed(1)
    patches = torch.randn(20, 4, 4, L, generator=g, dtype=w.dtype) @ w.T + S * torch.randn(
        20, 4, 4, 4, generator=g, dtype=w.dtype
    )
    x = patches.view(20, 4, 4, 2, 2).permute(0, 1, 3, 2, 4).reshape(20, 1, 8, 8).float()
    law = torch.distributions.MultivariateNormal(
        torch.zeros(4, dtype=w.dtype), w @ w.T + S**2 * torch.eye(4, dtype=w.dtype)
    )
    exact = law.log_prob(patches).sum((1, 2))
    nats = -model.bits_per_dim(Batch(x, None, Noise(range(20)))).values * 64 * math.log(2)
    assert torch.allclose(nats.double(), exact, atol=1e-3)
    with torch.no_grad():
        model.encoder[0].bias[L:] += 1  # the fake: another posterior, and a bound that is not tight
    model.k = 1
    assert (
        float((exact + model.bits_per_dim(Batch(x, None, Noise(range(20)))).values * 64 * math.log(2)).mean())
        > 10
    )


def binary(n: int, size: int = 8) -> Tensor:
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(3)).sign()


def digits() -> Tensor:
    return torch.tensor(load_digits().images[:1024] > 7.5).float()[:, None] * 2 - 1


def test_zero_logits_are_one_bit_and_784_ln_2_nats() -> None:
    model = VAE(spec=Spec(1, 28, levels=2))
    for p in model.parameters():
        p.data.zero_()
    batch = Batch(binary(3, 28), None, Noise(range(3)))
    assert torch.allclose(model.bits_per_dim(batch).values, torch.ones(3))
    terms = model.loss(batch).terms
    assert terms["distortion"].item() == pytest.approx(543.43, abs=0.01) and terms["rate"].item() == 0


def test_evidence_of_all_images_sums_to_one_and_is_never_exceeded() -> None:
    """REFERENCE 1.1: with one latent dimension log p(x) is a sum over a line, for each of the 512 images of
    3x3 pixels."""
    torch.manual_seed(1)
    model = VAE(spec=Spec(1, 3, levels=2), net="mlp", latent=1, hidden=8)
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.normal_()
        for p in model.encoder[-1][-1].parameters():
            p.mul_(0.1)  # q(z|x) near the prior: no importance weight is extreme
        every = torch.tensor([[(i >> j & 1) * 2.0 - 1 for j in range(9)] for i in range(512)]).view(
            -1, 1, 3, 3
        )
        z = torch.linspace(-8, 8, 801)[:, None]
        log_p = torch.stack(
            [model.log_likelihood(every, v.expand(512, 1)) for v in z]
        ) + torch.distributions.Normal(0, 1).log_prob(z)
        exact = log_p.logsumexp(0) + math.log(0.02)
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-4)
    bounds = []
    for k in (1, 10, 1000):
        model.k = k
        nats = -model.bits_per_dim(Batch(every, None, Noise(range(512)))).values * 9 * math.log(2)
        bounds.append((exact.exp() * nats).sum().item())
    best = (exact.exp() * exact).sum().item()
    assert (
        bounds[0] < bounds[1] - 0.1 and bounds[1] < best + 0.02 and bounds[2] == pytest.approx(best, abs=0.02)
    )


def test_k_codes_are_decoded_for_each_image_and_no_graph_is_kept() -> None:
    model = VAE(spec=Spec(1, 8, levels=2), latent=4, width=4, depth=1)
    rows: list[int] = []
    model.decoder.register_forward_hook(lambda module, inputs, out: rows.append(len(out)))
    encoded: list[int] = []
    model.encoder.register_forward_hook(lambda module, inputs, out: encoded.append(len(out)))
    for n, k in ((3, 1), (3, 10), (7, 333), (ROWS + 5, 2)):
        rows.clear(), encoded.clear()
        model.k = k
        values = model.bits_per_dim(Batch(binary(n), None, Noise(range(n)))).values
        assert sum(rows) == n * k and max(rows) <= ROWS and sum(encoded) == n
        assert len(values) == n and not values.requires_grad


@pytest.mark.parametrize("k", [1, 20])
def test_an_image_has_the_same_bits_alone_and_in_company(k: int) -> None:
    model = VAE(spec=Spec(1, 8), latent=4, k=k)
    batch = Batch(torch.rand(6, 1, 8, 8) * 2 - 1, None, Noise(range(6)))
    together = model.bits_per_dim(batch).values
    assert torch.equal(together, model.bits_per_dim(batch).values)
    assert torch.allclose(
        together, torch.cat([model.bits_per_dim(b).values for b in batch.split(1)]), atol=1e-5
    )


def test_sample_is_the_same_alone_and_in_company() -> None:
    for draw in (False, True):
        model = VAE(spec=Spec(1, 8), latent=4, draw=draw)
        together = list(model.sample(Noise(range(5))))[-1]
        alone = torch.cat([list(model.sample(Noise([i])))[-1] for i in range(5)])
        assert together.shape == (5, 1, 8, 8) and together.abs().max() <= 1
        assert torch.allclose(together, alone, atol=1e-5)


def test_splitting_a_batch_leaves_the_loss_and_its_gradient() -> None:
    model = VAE(spec=Spec(3, 8), latent=4)
    batch = Batch(torch.rand(8, 3, 8, 8) * 2 - 1, None, Noise(range(8)))
    pieces = batch.split(2)  # before the whole batch's noise moves on
    parts, whole = torch.stack([model.loss(b).total for b in pieces]).mean(), model.loss(batch).total
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)
    for a, b in zip(
        torch.autograd.grad(whole, list(model.parameters())),
        torch.autograd.grad(parts, list(model.parameters())),
    ):
        assert torch.allclose(a, b, atol=1e-7)


def rate_and_distortion(beta: float, x: Tensor) -> tuple[float, float, VAE]:
    torch.manual_seed(0)
    model = VAE(spec=Spec(1, 8, levels=2), net="mlp", hidden=64, depth=1, latent=6, beta=beta)
    train(model, x, 500, 1e-2, 128)
    terms = model.loss(Batch(x, None, Noise(range(len(x))))).terms
    return terms["rate"].item(), terms["distortion"].item(), model


def test_beta_trades_rate_for_distortion() -> None:
    x = digits()
    rates, distortions, models = zip(*[rate_and_distortion(beta, x) for beta in (0.0, 0.3, 1.0, 3.0, 100.0)])
    assert all(a > b for a, b in pairwise(rates)) and all(a < b for a, b in pairwise(distortions))
    frequency = ((x + 1) / 2).mean(0)
    floor = torch.distributions.Bernoulli(frequency).entropy().sum().item()
    # no code: a pixel's own frequency
    assert rates[-1] < 0.05 and distortions[-1] == pytest.approx(floor, rel=0.02)
    assert "collapsed" in models[-1].active_units(x).verdict
    units = models[1].active_units(x)
    assert units.active >= 5 and not units.verdict and units.kl.shape == (6,)
    assert distortions[0] < 0.75 * distortions[2]


def test_beta_zero_reconstructs_like_an_autoencoder() -> None:
    x = digits()
    vae = rate_and_distortion(0.0, x)[2]
    torch.manual_seed(0)
    plain = VAE(spec=Spec(1, 8, levels=2), net="mlp", hidden=64, depth=1, latent=6, beta=0.0)
    plain.posterior = lambda x: Gauss(plain.encoder(x)[:, :6], torch.full((len(x), 6), -30.0))  # type: ignore[method-assign]  # no noise in the code
    train(plain, x, 500, 1e-2, 128)
    errors = [(m.decode(m.encode(x)) - x).square().mean().item() for m in (vae, plain)]
    assert errors[0] < 1.15 * errors[1]


@pytest.mark.parametrize(
    "options, told",
    [({}, "--free-bits 0.1"), (dict(free_bits=0.5), "--free-bits 1."), (dict(beta=4.0), "--beta 1.")],
)
def test_a_collapse_is_answered_with_more_of_what_helps(options: dict, told: str) -> None:
    model = VAE(spec=Spec(1, 8, levels=2), latent=8, **options)
    model.posterior = lambda x: Gauss(torch.zeros(300, 8), torch.zeros(300, 8))  # type: ignore[method-assign]
    assert told in model.active_units(binary(300)).verdict


def test_active_units() -> None:
    model = VAE(spec=Spec(1, 8, levels=2), latent=50)
    g = torch.Generator().manual_seed(0)
    for active, word in ((3, "collapsed"), (20, ""), (50, "all 50")):
        used = torch.arange(50) < active
        q = Gauss(torch.randn(300, 50, generator=g) * used, torch.where(used, -3.0, 0.0).expand(300, 50))
        model.posterior = lambda x, q=q: q  # type: ignore[method-assign,misc]
        units = model.active_units(binary(300))
        assert units.active == active and (word in units.verdict if word else units.verdict == "")
        assert units.kl[active:].abs().max() < 1e-6 if active < 50 else units.kl.min() > 0.1


def test_free_bits_leave_unused_dimensions_alone_and_forbid_splitting() -> None:
    batch = Batch(binary(4), None, Noise(range(4)))
    model = VAE(spec=Spec(1, 8, levels=2), latent=4, free_bits=10.0)
    loss = model.loss(batch)
    assert loss.total.item() == pytest.approx((loss.terms["distortion"].item() + 40) / 64, rel=1e-5)
    assert model.whole_batch and not VAE(spec=Spec(1, 8), free_bits=0.0).whole_batch


def test_kl_is_that_of_torch_distributions() -> None:
    q = Gauss(torch.randn(5, 3), torch.randn(5, 3))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(q.mu, (q.log_var / 2).exp()), normal(0.0, 1.0))
    assert torch.allclose(q.kl(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [8, 9, 16, 28, 32, 45, 48, 64, 100, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size(size: int, channels: int) -> None:
    model = VAE(spec=Spec(channels, size), width=4, depth=1, latent=3)
    x = torch.rand(2, channels, size, size) * 2 - 1
    model.loss(Batch(x, None, Noise(range(2)))).total.backward()
    assert model.decode(model.encode(x)).shape == x.shape
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(("size", "grid"), [(8, 4), (28, 14), (28, 7), (45, 12), (64, 32)])
def test_every_size_and_grid(size: int, grid: int) -> None:
    model = VAE(spec=Spec(3, size), width=4, depth=1, latent=2 * grid**2, grid=grid)
    x = torch.rand(3, 3, size, size) * 2 - 1
    batch = Batch(x, None, Noise(range(3)))
    model.loss(batch).total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.encode(x).shape == (3, 2 * grid**2) and model.decode(model.encode(x)).shape == x.shape
    together = model.bits_per_dim(Batch(x, None, Noise(range(3)))).values
    assert torch.allclose(
        together,
        torch.cat([model.bits_per_dim(b).values for b in Batch(x, None, Noise(range(3))).split(1)]),
        atol=1e-5,
    )
    *_, drawn = model.sample(Noise(range(2)))
    assert drawn.shape == (2, 3, size, size) and answers(model) == answers(VAE(spec=Spec(1, 8)))


def test_a_grid_that_is_full_is_no_fault() -> None:
    model = VAE(spec=Spec(1, 8, levels=2), latent=64, grid=4)
    full = Gauss(torch.randn(300, 64), torch.full((300, 64), -3.0))
    model.posterior = lambda x: full  # type: ignore[method-assign]
    assert model.active_units(binary(300)).verdict == ""
    model.posterior = lambda x: Gauss(torch.zeros(300, 64), torch.zeros(300, 64))  # type: ignore[method-assign]
    assert "collapsed" in model.active_units(binary(300)).verdict


@pytest.mark.parametrize(
    ("options", "lesson"),
    [
        # twice as many could
        (
            dict(latent=98, grid=14),
            "cannot be shared among the 196 places of --grid 14; type --latent 196 for 1 at each",
        ),
        (dict(latent=196, grid=7, net="mlp"), "leave --net mlp out"),
        (dict(latent=196, grid=5), "type --grid 7 or 14"),
        (
            dict(latent=196, grid=7, conditional=True),
            "no place in a code that is an image; tell it to the model that learns the codes",
        ),
    ],
)
def test_refusals_of_a_grid(options: dict[str, object], lesson: str) -> None:
    with pytest.raises(Refusal, match=lesson):
        VAE(spec=Spec(1, 28, 10), **options)


@pytest.mark.parametrize(
    "options",
    [
        dict(net="mlp"),
        dict(likelihood="gaussian"),
        dict(depth=0),
        dict(latent=1),
        dict(likelihood="logistic"),
    ],
)
def test_options(options: dict[str, object]) -> None:
    model = VAE(spec=Spec(1, 28), **options)
    bits = model.bits_per_dim(Batch(torch.rand(2, 1, 28, 28) * 2 - 1, None, Noise(range(2))))
    assert bits.kind == "upper bound" and 4 < bits.values.mean() < 12


@pytest.mark.parametrize(
    "options",
    [dict(likelihood="bernoulli"), dict(k=0), dict(likelihood="mse"), dict(latent=0), dict(beta=-1.0)],
)
def test_refusals(options: dict[str, object]) -> None:
    with pytest.raises(Refusal) as refusal:
        VAE(spec=Spec(1, 28), **options)
    if options == dict(likelihood="bernoulli"):
        assert "--likelihood logistic" in str(refusal.value) and "--binarize" in str(refusal.value)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(Refusal, match="8"):
        VAE(spec=Spec(1, 6))
    VAE(spec=Spec(1, 6), net="mlp")


def test_questions() -> None:
    model = VAE(spec=Spec(1, 8))
    assert isinstance(model, Samples) and isinstance(model, Scores)
    assert answers(model) == ("sample", "bits_per_dim", "encode", "decode")
