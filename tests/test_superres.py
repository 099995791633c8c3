"""superres against Keys' kernel, enumerated symmetries, formulas, and images whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from conftest import small_run
from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.data import Data
from likeness.models import superres
from likeness.models.superres import SuperRes, Upscaler, bicubic, over_symmetries, symmetric
from likeness.runs.run import Run
from likeness.training.loop import fit

GREY = Spec(1, 16, source=(1, 4))


def model(spec: Spec = GREY, **options: object) -> SuperRes:
    torch.manual_seed(0)
    return SuperRes(spec=spec, **(dict(width=8, depth=1) | options))


def moved(m: SuperRes) -> SuperRes:
    """Weights that no longer are bicubic interpolation."""
    nn.init.normal_(m.net.last.weight, std=0.1)
    return m


def batch(n: int = 6, spec: Spec = GREY) -> Batch:
    noise = Noise(range(n), key=1)
    x = noise.uniform(spec.channels, spec.size, spec.size) * 2 - 1
    small = noise.uniform(spec.source[0], spec.source[1], spec.source[1]) * 2 - 1
    return Batch(x, Condition(image=small), Noise(range(n)))


# Interpolation


def keys(t: np.ndarray, a: float) -> np.ndarray:
    """Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, eq. 15, for any a."""
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def interpolated(x: np.ndarray, scale: int, a: float) -> np.ndarray:
    """Along one axis, (n,) to (scale n,); wrong at the ends, where a kernel is cut off."""
    at = (np.arange(scale * len(x)) + 0.5) / scale - 0.5
    return keys(at[:, None] - np.arange(len(x)), a) @ x


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_interpolation_is_that_of_matlab_and_pillow(scale):
    x = np.random.default_rng(0).uniform(-1, 1, (7, 9))
    out = bicubic(torch.from_numpy(x)[None, None], scale)[0, 0].numpy()
    inner = np.s_[2 * scale : -2 * scale, 2 * scale : -2 * scale]

    def expected(a: float) -> np.ndarray:
        rows = np.stack([interpolated(row, scale, a) for row in x])
        return np.stack([interpolated(column, scale, a) for column in rows.T]).T

    assert np.allclose(out[inner], expected(-0.5)[inner], atol=1e-5)
    assert not np.allclose(out[inner], expected(-0.75)[inner], atol=1e-2), "torch's own has a = -3/4"
    pillow = Image.fromarray(x.astype(np.float32)).resize((9 * scale, 7 * scale), Image.Resampling.BICUBIC)
    assert np.allclose(out, np.asarray(pillow), atol=1e-5)


def test_it_begins_as_interpolation_and_enlarges_any_size():
    m, x = model(), torch.rand(2, 1, 5, 9) * 2 - 1
    assert torch.allclose(m.translate(x), bicubic(x, 4).clamp(-1, 1), atol=1e-6)
    assert moved(m).translate(x).shape == (2, 1, 20, 36) and float(m.translate(x).abs().max()) <= 1
    assert not torch.allclose(m.translate(x), bicubic(x, 4).clamp(-1, 1), atol=1e-2)


def test_channels_of_the_last_convolution_become_squares_of_pixels():
    """Shi et al. 2016, eq. 4: channel r^2 c + r dy + dx is the pixel (dy, dx) of its square in colour c."""
    net = Upscaler(3, 4, 1, 2)
    net.last.bias.data = torch.arange(12.0)
    out = net(torch.zeros(1, 3, 2, 2))
    for c, dy, dx in itertools.product(range(3), range(2), range(2)):
        assert (out[0, c, dy::2, dx::2] == 4 * c + 2 * dy + dx).all()


# Symmetries


def eight(x: np.ndarray) -> list[np.ndarray]:
    """All symmetries of a square, by numpy."""
    return [np.rot90(side, k) for side in (x, np.fliplr(x)) for k in range(4)]


def test_the_symmetric_versions_are_the_eight_of_a_square():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    chosen = torch.tensor(list(itertools.product((False, True), repeat=3)))
    versions = symmetric(x.expand(8, -1, -1, -1), chosen)[:, 0].numpy()
    assert {v.tobytes() for v in versions} == {
        np.ascontiguousarray(v).tobytes() for v in eight(x[0, 0].numpy())
    }
    assert len({v.tobytes() for v in versions}) == 8


def test_both_sides_of_a_pair_are_turned_alike_as_the_noise_of_each_says():
    m = model()
    large = torch.rand(64, 1, 16, 16)
    b = Batch(large, Condition(image=F.avg_pool2d(large, 4)), Noise(range(64)))
    x, y = m.pair(b)
    assert torch.allclose(F.avg_pool2d(y, 4), x, atol=1e-6)
    assert not torch.allclose(F.avg_pool2d(large, 4), x, atol=1e-2), "nothing was turned"
    alone = m.pair(Batch(b.x[5:9], b.y[5:9], Noise(range(5, 9))))
    assert torch.equal(alone[0], m.pair(Batch(b.x, b.y, Noise(range(64))))[0][5:9])


def test_the_mean_over_symmetries_turns_with_the_image():
    m, x = moved(model()), torch.rand(2, 1, 5, 7) * 2 - 1
    once = m.translate(x)
    m.ensemble = True
    mean = m.translate(x)
    for change in (lambda x: x.mT, lambda x: x.flip(2), lambda x: x.flip(3).mT):
        assert torch.allclose(m.translate(change(x)), change(mean), atol=1e-5)
    assert not torch.allclose(mean, once, atol=1e-2)
    turns = [(side, k) for side in (lambda x: x, lambda x: x.flip(3)) for k in range(4)]
    answers = [side(m.net(side(x).rot90(k, (2, 3))).rot90(-k, (2, 3))) for side, k in turns]
    by_hand = torch.stack(answers).mean(0)
    assert torch.allclose(over_symmetries(m.net, x), by_hand, atol=1e-5)


# Reach


@pytest.mark.parametrize("depth", [1, 3])
def test_a_pixel_depends_on_as_many_to_each_side_as_is_stated(depth):
    m = moved(model(Spec(1, 64, source=(1, 32)), depth=depth))
    size = 2 * m.halo + 9
    x = torch.rand(1, 1, size, size, requires_grad=True)
    middle = size // 2
    out = m.net(x)[..., 2 * middle : 2 * middle + 2, 2 * middle : 2 * middle + 2]
    (slope,) = torch.autograd.grad(out.square().sum(), x)
    seen = (slope[0, 0].abs().sum(0) > 0).nonzero()[:, 0] - middle
    assert (int(seen.min()), int(seen.max())) == (-m.halo, m.halo)


# Losses


def test_the_pixel_loss_is_the_mean_absolute_difference():
    """Untrained it is that of interpolation, whichever way a pair is turned."""
    b = batch()
    wanted = np.abs(bicubic(b.y.image, 4).numpy() - b.x.numpy()).mean()
    loss = model(pixel=3.0).loss(b)
    assert loss.total.item() == pytest.approx(3 * wanted, rel=1e-5)
    assert model().chance(b)["pixel"] == pytest.approx(wanted, rel=1e-5) == loss.terms["pixel"].item()


class Eye:
    """Stands for VGG: three features of each pixel, one of them bent."""

    sha256 = "ab" * 32
    source = "eye"

    def __init__(self, *_: object, **more: object):
        pass

    def features(self, x: Tensor) -> dict[str, Tensor]:
        return {"layer": F.relu(100 * x[:, :, ::2])}


def test_the_perceptual_loss_is_that_of_the_paper(monkeypatch):
    """Johnson, Alahi & Fei-Fei 2016, eq. 2, of grey images shown as RGB."""
    monkeypatch.setattr(superres, "Perceptual", Eye)
    m, b = model(pixel=0.5, perceptual=2.0), batch()
    m.prepare()
    noise = Noise(range(6))
    x, y = m.pair(Batch(b.x, b.y, noise))
    shift = noise.uniform(2).mul(4).long()
    sides = (superres.rolled(side, shift).numpy() for side in (bicubic(x, 4), y))
    phi = [np.maximum(100 * side.repeat(3, 1)[:, :, ::2], 0) for side in sides]
    feature = ((phi[0] - phi[1]) ** 2).sum((1, 2, 3)) / phi[0][0].size / 255**2
    loss = m.loss(b)
    assert loss.terms["perceptual"].item() == pytest.approx(feature.mean(), rel=1e-5)
    assert loss.total.item() == pytest.approx(0.5 * loss.terms["pixel"].item() + 2 * feature.mean(), rel=1e-5)


def test_a_run_goes_on_with_the_features_it_began_with(monkeypatch):
    monkeypatch.setattr(superres, "Perceptual", Eye)
    m = model(perceptual=1.0)
    m.prepare()
    m.prepare()
    assert "known" in m.state_dict() and not any(k.startswith("eye") for k in m.state_dict())
    monkeypatch.setattr(Eye, "sha256", "cd" * 32)
    with pytest.raises(Refusal, match="not those that this run has been trained with"):
        m.prepare()


def test_the_game_is_the_relativistic_one_of_pairs():
    m, b = moved(model(pixel=0.0, adversarial=0.3)), batch()
    judge, upscaler = m.players()
    assert (judge.name, upscaler.name) == ("discriminator", "upscaler")
    x, y = m.pair(Batch(b.x, b.y, Noise(range(6))))
    with torch.no_grad():
        r, f = m.D(y), m.D(m.net(x))
    loss, wanted = m.loss(b), torch.log1p((r - f).exp()).mean()
    assert loss.total.item() == pytest.approx(0.3 * float(wanted), rel=1e-4)
    b = Batch(b.x, b.y, Noise(range(6)))
    judged = m.discriminator_loss(b)
    assert judged.total.item() == pytest.approx(float(torch.log1p((f - r).exp()).mean()), rel=1e-4)
    judged.total.backward()
    assert all(p.grad is None for p in m.net.parameters()), "the upscaler moves when it is judged"


def test_the_smallest_images_of_a_game_can_be_learnt():
    spec = Spec(1, 6, source=(1, 3))
    m, b = model(spec, adversarial=0.1), batch(4, spec)
    assert m.train().discriminator_loss(b).total.isfinite() and m.loss(b).total.isfinite()


def test_in_a_game_with_features_every_weight_moves(monkeypatch, tmp_path):
    monkeypatch.setattr(superres, "Perceptual", Eye)
    options = dict(perceptual=1.0, adversarial=0.1, d_width=4)
    run, data = small_run("superres", tmp_path, stripes(48), options=options, images=64)
    before = {k: v.clone() for k, v in run.student.named_parameters()}
    steps = [s.losses for s in fit(run, data)]
    assert {"upscaler", "discriminator", "pixel", "perceptual", "adversarial"} <= steps[-1].keys()
    assert all(not torch.equal(v, before[k]) for k, v in run.student.named_parameters())


def test_features_are_compared_of_images_that_are_moved_alike(monkeypatch):
    """A lattice at one place of the squares of 4 x 4 is at any of the 16 for the network of features."""
    x, shift = torch.rand(3, 2, 8, 12), torch.tensor([[0, 0], [1, 3], [2, 0]])
    for one, by, moved in zip(x, shift.tolist(), superres.rolled(x, shift)):
        assert torch.equal(moved, one.roll((-by[0], -by[1]), (1, 2)))
    shown = []
    monkeypatch.setattr(Eye, "features", lambda _, x: (shown.append(x), {"layer": x})[1])
    monkeypatch.setattr(superres, "Perceptual", Eye)
    m = model(perceptual=1.0)
    m.prepare()
    lattice = torch.zeros(64, 1, 16, 16)
    lattice[..., ::4, ::4] = 1
    loss = m.loss(Batch(lattice, Condition(image=torch.zeros(64, 1, 4, 4)), Noise(range(64))))
    places = {divmod(int(x[0].argmax()), 16) for x in shown[0]}
    assert len(places) == 16 and all(0 <= i < 4 and 0 <= j < 4 for i, j in places)
    assert loss.terms["perceptual"].item() == pytest.approx(float(lattice.square().mean()) / 255**2, rel=1e-4)


# Where it begins


def test_it_begins_with_the_average_of_another_run_and_goes_on_without_it(tmp_path):
    data = stripes(48)
    first, _ = small_run("superres", tmp_path / "first", data, images=64)
    for _ in fit(first, data):
        pass
    learnt = {k: v.clone() for k, v in first.model.net.state_dict().items()}
    options = dict(begin=str(tmp_path / "first"), adversarial=0.1, d_width=4)
    run, _ = small_run("superres", tmp_path / "second", data, options=options, images=64)
    run.student.prepare()
    assert all(torch.equal(v, learnt[k]) for k, v in run.student.net.state_dict().items())
    for _ in itertools.islice(fit(run, data), 2):
        pass
    run.save()
    moved = {k: v.clone() for k, v in run.student.net.state_dict().items()}
    assert not torch.equal(moved["last.weight"], learnt["last.weight"])
    run.close()
    first.close()
    (tmp_path / "first").rename(tmp_path / "gone")
    again = Run.resume(tmp_path / "second")
    again.student.prepare()
    assert all(torch.equal(v, moved[k]) for k, v in again.student.net.state_dict().items())
    with pytest.raises(Refusal, match=r"--begin .*first: no trained run is there"):
        model(begin=str(tmp_path / "first")).prepare()
    with pytest.raises(Refusal, match=r"the network of that run is another \(.* and .* here\)"):
        model(begin=str(tmp_path / "gone"), width=12).prepare()


# A known answer


def stripes(n: int, size: int = 16, scale: int = 4) -> Data:
    """Upright edges between black and white: how grey a small pixel is tells where in it the edge lies, so
    that the large image can be known exactly, and is no smooth one."""
    rng = np.random.default_rng(0)
    edge, flip = rng.integers(2, size - 1, (n, 1)), rng.integers(0, 2, (n, 1))
    row = ((np.arange(size) < edge) ^ flip).astype(np.uint8) * 255
    large = np.broadcast_to(row[:, None, None], (n, 1, size, size)).copy()
    small = (
        large.reshape(n, 1, size // scale, scale, size // scale, scale).mean((3, 5)).round().astype(np.uint8)
    )
    held_out = n // 4
    return Data("stripes", "stripes-1", large, np.arange(held_out, n), np.arange(held_out), pairs=small)


def test_it_learns_edges_that_interpolation_blurs(tmp_path):
    data = stripes(96, scale=2)
    run, _ = small_run(
        "superres", tmp_path, data, options=dict(width=16, depth=2), images=16 * 250, ema=400, rate=5e-3
    )
    for _ in fit(run, data):
        pass
    b = data.take(data.held_out)
    error = (run.model.translate(b.y.image) - b.x).abs().mean()
    blurred = (bicubic(b.y.image, 2).clamp(-1, 1) - b.x).abs().mean()
    assert float(error) < 0.4 * float(blurred)


# Refusals


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (Spec(1, 16), {}, r"small image beside each large one; type --task upscale4"),
        (Spec(1, 15, source=(1, 4)), {}, r"15 pixels a side and the small ones 4, which is not 2, 3, 4"),
        (Spec(1, 16, source=(1, 16)), {}, r"16 pixels a side and the small ones 16"),
        (Spec(1, 8, source=(1, 16)), {}, r"8 pixels a side and the small ones 16"),
        (Spec(3, 16, source=(1, 4)), {}, r"1 colour channels and the large ones 3.*--colour"),
        (Spec(1, 16, levels=0, source=(1, 4)), {}, r"points or codes"),
        (Spec(1, 4, source=(1, 2)), dict(adversarial=0.1), r"of 6 pixels and more, and these have 4; take"),
        (GREY, dict(pixel=0.0), r"one of --pixel, --perceptual and --adversarial"),
        (Spec(2, 16, source=(2, 4)), dict(perceptual=1.0), r"--perceptual looks at grey or RGB"),
    ],
)
def test_what_cannot_be_enlarged_is_refused_in_words(spec, options, words):
    with pytest.raises(Refusal, match=words):
        model(spec, **options)


def test_questions_that_it_cannot_answer_are_refused_in_words():
    m, b = model(), batch()
    with pytest.raises(Refusal, match="resize it"):
        m.translate(b.y.image, back=True)
    for ask in (m.loss, m.chance):
        with pytest.raises(Refusal, match=r"no small images.*upscale4"):
            ask(Batch(b.x, None, b.noise))
    with pytest.raises(Refusal, match="no small images"):
        next(m.sample(Noise(range(2))))
