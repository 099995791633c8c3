"""Differentiable augmentation: each change against a loop over images and pixels, its gradient, and whose
randomness it uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from likeness.core import Noise
from likeness.parts.augment import POLICIES, augmented, colour, cutout, translation

CHANGES = [colour, translation, cutout]


class Fixed(Noise):
    """Noise that always draws the same number."""

    def __init__(self, n: int, value: float):
        super().__init__(range(n))
        self.value = value

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.full((len(self), *shape), self.value)


def images(n: int = 6, channels: int = 3, size: int = 12) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (n, channels, size, size))).float()


def test_colour_is_that_of_a_loop():
    x, u = images(), Noise(range(6)).uniform(3).double().numpy()
    for image, out, (bright, saturated, contrast) in zip(
        x.double().numpy(), colour(x, Noise(range(6))).numpy(), u
    ):
        image = image + bright - 0.5
        grey = image.mean(0)
        image = np.stack([grey + (plane - grey) * 2 * saturated for plane in image])
        image = image.mean() + (image - image.mean()) * (contrast + 0.5)
        assert np.allclose(out, image, atol=1e-6)


@pytest.mark.parametrize("size", [8, 12, 28, 32])
def test_translation_is_that_of_a_loop(size):
    x, noise = images(40, 2, size), Noise(range(40))
    reach, u = round(size / 8), Noise(range(40)).uniform(2).numpy()
    seen = set()
    for image, out, draw in zip(x.numpy(), translation(x, noise).numpy(), u):
        down, right = np.floor(draw * (2 * reach + 1)).astype(int) - reach
        seen |= {down, right}
        for i in range(size):
            for j in range(size):
                inside = 0 <= i - down < size and 0 <= j - right < size
                assert (out[:, i, j] == (image[:, i - down, j - right] if inside else -1)).all()
    assert seen == set(range(-reach, reach + 1)), "every way is as likely"


@pytest.mark.parametrize("size", [9, 12])
def test_cutout_is_that_of_a_loop(size):
    x, u = images(20, 2, size), Noise(range(20)).uniform(2, 1).numpy()
    holes = []
    for image, out, (top, left) in zip(x.numpy(), cutout(x, Noise(range(20))).numpy(), u[:, :, 0] * size):
        for i in range(size):
            for j in range(size):
                hole = abs(i + 0.5 - top) < size / 4 and abs(j + 0.5 - left) < size / 4
                assert (out[:, i, j] == (0 if hole else image[:, i, j])).all()
        holes.append((out[0] == 0).sum())
    assert max(holes) <= (size // 2 + 1) ** 2 and min(holes) < max(holes), "also half outside"


def test_neutral_noise_changes_nothing():
    x = images()
    assert torch.allclose(colour(x, Fixed(6, 0.5)), x, atol=1e-6)
    assert torch.equal(translation(x, Fixed(6, 0.5)), x)
    assert torch.equal(cutout(x, Noise(range(6)), side=0.0), x)
    assert augmented(x, Noise(range(6)), "none") is x


@pytest.mark.parametrize("change", CHANGES)
def test_its_gradient_is_that_of_finite_differences_twice(change):
    torch.manual_seed(0)
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64, requires_grad=True)

    def judged(x: torch.Tensor) -> torch.Tensor:
        """Something that bends, so that its second derivative tests the change's too."""
        return change(x, Noise(range(2))).sin()

    assert torch.autograd.gradcheck(judged, x) and torch.autograd.gradgradcheck(judged, x)


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "none"])
def test_an_image_is_changed_by_its_own_noise_alone(policy):
    x = images(8)
    whole = augmented(x, Noise(range(8)), policy)
    assert torch.allclose(augmented(x[3:5], Noise([3, 4]), policy), whole[3:5], atol=1e-6)
    other = x.clone()
    other[0] = 0.3
    assert torch.equal(augmented(other, Noise(range(8)), policy)[1:], whole[1:])
    alike = augmented(x[:1].expand(8, -1, -1, -1), Noise(range(8)), policy)
    assert len({out.numpy().tobytes() for out in alike}) > 4, "images are not all changed in the same way"


@pytest.mark.parametrize("policy", POLICIES)
def test_real_and_drawn_images_are_changed_alike_in_distribution_and_each_anew(policy):
    """One after the other, as D sees them: the same kind of change, by other draws."""
    noise, x = Noise(range(2000)), images(1, 3, 8).expand(2000, -1, -1, -1)
    real, drawn = augmented(x, noise, policy), augmented(x, noise, policy)
    spread = real.std(0)
    assert bool(((real.mean(0) - drawn.mean(0)).abs() <= 5 * spread * (2 / 2000) ** 0.5 + 1e-6).all())
    assert bool((drawn.std(0) - spread).abs().max() < 0.1)
    assert torch.equal(real, drawn) == (policy == "none")
