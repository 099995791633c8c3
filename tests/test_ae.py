"""The autoencoder: linear, it is principal component analysis; corrupted or sparse, it learns otherwise."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from likeness.core import Batch, Noise, Refusal, Spec, answers
from likeness.models.ae import AE


def train(model: nn.Module, x: Tensor, steps: int, rate: float, batch: int) -> None:
    """Adam, its rate falling to zero."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        at = torch.arange(step * batch, (step + 1) * batch)
        optimizer.zero_grad()
        model.loss(Batch(x[at % len(x)], None, Noise(at))).total.backward()
        optimizer.step()


def digits() -> Tensor:
    return torch.tensor(load_digits().images[:1024]).float()[:, None] / 8 - 1


def angle(a: Tensor, b: Tensor) -> float:
    """The largest angle between two subspaces, in radians."""
    cosines = torch.linalg.svdvals(torch.linalg.qr(a)[0].T @ torch.linalg.qr(b)[0])
    return cosines.min().clamp(max=1).acos().item()


def test_linear_is_principal_component_analysis() -> None:
    """REFERENCE 1.6: the error is the sum of the trailing eigenvalues, the decoder spans the leading ones."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    x = (
        torch.randn(512, 9, generator=g)
        * torch.tensor([3.0, 2.5, 2, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
        @ torch.linalg.qr(torch.randn(9, 9, generator=g))[0]
    )
    x = x - x.mean(0)
    model = AE(spec=Spec(1, 3), net="linear", latent=3)
    train(model, x.view(-1, 1, 3, 3), 1500, 1e-2, 512)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    error = model.loss(Batch(x.view(-1, 1, 3, 3), None, Noise(range(512)))).total.item() * 9
    assert error == pytest.approx(values[:6].sum().item(), rel=1e-3) and error > values[:6].sum().item() * (
        1 - 1e-5
    )
    weight = next(m.weight for m in model.decoder.modules() if isinstance(m, nn.Linear))
    assert angle(weight, vectors[:, -3:]) < 0.02
    assert angle(weight, vectors[:, 2:5]) > 0.5  # the fake: other components


def test_reconstructs_better_than_pca_of_the_same_size() -> None:
    torch.manual_seed(0)
    x = digits()
    model = AE(spec=Spec(1, 8), latent=6, width=8, depth=1)
    train(model, x, 500, 5e-3, 128)
    flat = x.flatten(1)
    pca = torch.linalg.svdvals(flat - flat.mean(0))[6:].square().sum().item() / x.numel()
    assert (model.decode(model.encode(x)) - x).square().mean().item() < pca


def test_denoising_restores_what_a_plain_one_does_not() -> None:
    x = digits()
    noise = Noise(range(len(x)), key=9)
    errors = {}
    for corruption in ("none", "gaussian", "masking"):
        torch.manual_seed(0)
        model = AE(
            spec=Spec(1, 8), net="mlp", hidden=128, depth=1, latent=48, corruption=corruption, amount=0.5
        )
        train(model, x, 400, 5e-3, 128)
        judge = AE(spec=Spec(1, 8), net="mlp", corruption="gaussian", amount=0.5)
        errors[corruption] = (
            (model.decode(model.encode(judge.corrupt(x, noise[:]))) - x).square().mean().item()
        )
    assert errors["gaussian"] < 0.8 * errors["none"]


def test_corruption() -> None:
    x = torch.rand(64, 3, 8, 8)
    masked = AE(spec=Spec(3, 8), corruption="masking", amount=0.25).corrupt(x, Noise(range(64)))
    gone = masked == -1
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.02) and torch.equal(gone[:, 0], gone[:, 2])
    assert torch.equal(masked[~gone], x[~gone])
    noisy = AE(spec=Spec(3, 8), corruption="gaussian", amount=0.25).corrupt(x, Noise(range(64)))
    assert (noisy - x).std().item() == pytest.approx(0.25, rel=0.05)
    plain = AE(spec=Spec(3, 8))
    assert plain.corrupt(x, Noise(range(64))) is x


def test_sparsity_empties_the_code() -> None:
    x, used = digits(), []
    for sparsity in (1e-4, 1.0):
        torch.manual_seed(0)
        model = AE(spec=Spec(1, 8), net="mlp", hidden=64, depth=1, latent=64, sparsity=sparsity)
        train(model, x, 400, 5e-3, 128)
        z = model.encode(x)
        assert (z >= 0).all()
        used.append((z > 0).float().mean().item())
    assert used[1] < 0.5 * used[0]


def test_sparsity_cannot_be_cheated_by_scale() -> None:
    model = AE(spec=Spec(1, 8), net="mlp", latent=8, sparsity=1.0)
    z = torch.rand(5, 8)
    before = model.code_size(z)
    first = next(m for m in model.decoder.modules() if isinstance(m, nn.Linear))
    first.weight.data.mul_(10)
    assert torch.allclose(model.code_size(z / 10), before, rtol=1e-5)


def test_sparsity_cannot_be_cheated_by_the_scale_of_one_channel_of_a_grid() -> None:
    model = AE(spec=Spec(1, 8), latent=32, grid=4, sparsity=1.0)
    z = torch.rand(5, 2, 4, 4)
    before = model.code_size(z.flatten(1))
    first = next(m for m in model.decoder.modules() if isinstance(m, nn.Conv2d))
    by_hand = (z.sum((2, 3)) @ first.weight.transpose(0, 1).flatten(1).norm(dim=1)).mean()
    assert torch.allclose(before, by_hand, rtol=1e-5)
    first.weight.data[:, 1].mul_(10)
    z[:, 1] /= 10
    assert torch.allclose(model.code_size(z.flatten(1)), before, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(corruption="masking"),
        dict(corruption="gaussian"),
        dict(sparsity=0.1),
        dict(net="linear"),
        dict(grid=4),
    ],
)
def test_splitting_a_batch_leaves_the_loss(options: dict[str, object]) -> None:
    model = AE(spec=Spec(1, 8), **options)
    batch = Batch(digits()[:8], None, Noise(range(8)))
    parts = torch.stack([model.loss(b).total for b in batch.split(2)]).mean()
    assert parts.item() == pytest.approx(
        model.loss(Batch(batch.x, None, Noise(range(8)))).total.item(), rel=1e-6
    )


def test_has_no_density_and_says_so_by_having_no_method() -> None:
    assert answers(AE(spec=Spec(1, 8))) == ("encode", "decode")


@pytest.mark.parametrize("size", [8, 13, 28, 64, 100])
def test_every_size(size: int) -> None:
    model = AE(spec=Spec(3, size), width=4, depth=1, latent=5)
    x = torch.rand(2, 3, size, size)
    assert model.encode(x).shape == (2, 5) and model.decode(model.encode(x)).shape == x.shape


# A code that is an image


@pytest.mark.parametrize(("size", "grid"), [(8, 4), (28, 14), (28, 7), (45, 12), (64, 32), (100, 7)])
def test_every_size_and_grid(size: int, grid: int) -> None:
    model = AE(spec=Spec(3, size), width=4, depth=1, latent=2 * grid**2, grid=grid)
    x = torch.rand(2, 3, size, size)
    assert model.encode(x).shape == (2, 2 * grid**2) and model.decode(model.encode(x)).shape == x.shape
    model.loss(Batch(x, None, Noise(range(2)))).total.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    assert not any(isinstance(m, nn.Linear) for m in model.modules())


def test_a_place_of_the_code_is_a_place_of_the_image() -> None:
    """Both ways by derivative: a corner pixel and the code of the corner reach each other, the opposite
    corner neither; the order is (c, h, w)."""
    torch.manual_seed(0)
    model = AE(spec=Spec(1, 64), width=8, depth=0, latent=3 * 16**2, grid=16).double()
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.uniform_(m.weight, 0.1, 1)  # a rectifier closes no way
    with torch.no_grad():
        for row, column in ((0, 0), (0, 63), (63, 0)):
            x = torch.rand(1, 1, 64, 64, dtype=torch.double)
            x[0, 0, row, column] += 1
            base = x.clone()
            base[0, 0, row, column] -= 1
            moved = (model.encode(x) - model.encode(base)).view(3, 16, 16).abs().amax(0)
            assert (
                moved[row // 4, column // 4] > 0
                and float(moved[5:11].max()) == float(moved[:, 5:11].max()) == 0
            )
            assert float(moved[15 - row // 4, 15 - column // 4]) == 0
            z = torch.rand(1, 3, 16, 16, dtype=torch.double)
            other = z.clone()
            other[0, 2, row // 4, column // 4] += 1
            changed = (model.decoder(z.flatten(1)) - model.decoder(other.flatten(1)))[0, 0].abs()
            assert (
                changed[row, column] > 0
                and float(changed[20:44].max())
                == float(changed[:, 20:44].max())
                == float(changed[63 - row, 63 - column])
                == 0
            )


def test_a_grid_reconstructs() -> None:
    torch.manual_seed(0)
    x = digits()
    model = AE(spec=Spec(1, 8), latent=32, grid=4, width=8, depth=1)
    train(model, x, 300, 5e-3, 128)
    assert (model.decode(model.encode(x)) - x).square().mean().item() < 0.2 * x.var(0).mean().item()


@pytest.mark.parametrize(
    ("options", "lesson"),
    [
        (
            dict(latent=196, grid=8),
            "--grid 8 is no width that images of 28 pixels are halved to; type --grid 7 or 14",
        ),
        (dict(latent=784, grid=28), "type --grid 7 or 14"),
        (
            dict(grid=7),
            "--latent 32 numbers cannot be shared among the 49 places of --grid 7; type --latent 49 for 1 "
            "at each, or --latent 98 for 2",
        ),
        (dict(latent=200, grid=7), "type --latent 196 for 4 at each, or --latent 245 for 5"),
        (
            dict(latent=49, grid=7, net="linear"),
            "asks for a convolutional network, which knows where in the image it is; leave --net linear out",
        ),
    ],
)
def test_refusals_of_a_grid(options: dict[str, object], lesson: str) -> None:
    with pytest.raises(Refusal, match=lesson):
        AE(spec=Spec(1, 28), **options)
