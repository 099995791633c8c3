"""The closed-form denoiser of patches: against sums that are written out, and at its limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import small_run, toy
from likeness import engine, models
from likeness.core import Batch, Condition, Model, Noise, Refusal, Spec, final
from likeness.models import localscore
from likeness.training.loop import fit


def made(x: Tensor, labels: list[int] | None = None, **options: object) -> Model:
    """A model that remembers images x (N, C, H, W)."""
    spec = Spec(*x.shape[1:3], labels=len(set(labels or [])))
    model = models.load("localscore")(spec=spec, memory=16, **options)
    model.train()
    y = None if labels is None else Condition(label=torch.tensor(labels))
    model.loss(Batch(x, y, Noise(range(len(x)))))
    model.after_step()
    return model.eval().requires_grad_(False)


def images(n: int, size: int = 5, channels: int = 2) -> Tensor:
    whole = torch.randint(0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(0))
    return whole.float() * (2 / 255) - 1


def noisy(x: Tensor, sigma: float) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


def enumerated(z: Tensor, x: Tensor, sigma: float, k: int, shift: int = 0) -> Tensor:
    """E_k of one noisy image (C, H, W), pixel by pixel, in float64."""
    z, x = z.double().numpy(), x.double().numpy()
    size, out, moves = z.shape[1], np.zeros(z.shape), range(-shift, shift + 1)
    for p, q in itertools.product(range(size), repeat=2):
        logs, values = [], []
        for image, di, dj in itertools.product(x, moves, moves):
            if not (0 <= p + di < size and 0 <= q + dj < size):
                continue
            apart = 0.0
            for i, j in itertools.product(
                range(p - k // 2, p + k // 2 + 1), range(q - k // 2, q + k // 2 + 1)
            ):
                if 0 <= i < size and 0 <= j < size:
                    there = 0 <= i + di < size and 0 <= j + dj < size
                    apart += ((z[:, i, j] - (image[:, i + di, j + dj] if there else 0)) ** 2).sum()
            logs.append(-apart / (2 * sigma**2))
            values.append(image[:, p + di, q + dj])
        w = np.exp(np.array(logs) - max(logs))
        out[:, p, q] = (w[:, None] * np.array(values)).sum(0) / w.sum()
    return torch.from_numpy(out)


@pytest.mark.parametrize("shift", [0, 1, 4])
@pytest.mark.parametrize(("sigma", "k"), [(0.3, 1), (0.8, 3), (2.0, 5), (5.0, 9)])
def test_it_is_the_sum_that_the_paper_writes(sigma, k, shift, monkeypatch):
    monkeypatch.setattr(localscore, "BLOCK", 3 * 25 * localscore.ROWS)  # three remembered images at a time
    x = images(7)
    model, z = made(x, shift=shift), noisy(images(2), sigma)
    out = model.expected(z, torch.full((2,), sigma), k, model.filled()[0])
    want = torch.stack([enumerated(one, x, sigma, k, shift) for one in z])
    assert torch.allclose(out.double(), want, atol=2e-5)
    other = torch.stack([enumerated(one, x, sigma, k + 2 if k < 9 else 3, shift) for one in z])
    assert not torch.allclose(out.double(), other, atol=1e-3)


def test_a_patch_of_one_pixel_knows_that_pixel_alone_and_one_of_all_knows_every_other():
    x = images(6)
    model, z = made(x), noisy(images(1), 3.0)
    changed = z.clone()
    changed[..., 0, 0] += 1
    sigma = torch.tensor([3.0])
    for k, reach in ((1, 1), (3, 2), (9, 5)):
        one, two = (model.expected(v, sigma, k, model.filled()[0]) for v in (z, changed))
        differs = ((one - two).abs().amax(1)[0] > 1e-7).nonzero().amax(0) + 1
        assert differs.tolist() == [reach, reach]


def test_whole_images_draw_copies_and_patches_do_not():
    """The limit of the ideal score; and that the knob is what leads away from it."""
    data = toy(24, held_out=4)
    x = data.take(data.train).x
    model = models.load("localscore")(spec=data.spec, memory=16 + 8, coherence=100.0).train()
    model.loss(Batch(x, None, Noise(range(len(x)))))
    model.after_step()
    noise = engine.sampling_noise(0, 0, 8).to("cpu")
    near = [
        (final(model.sample(noise[:]))[:, None] - x).abs().amax((2, 3, 4)).amin(1)
        for model.coherence in (100.0, 0.1)
    ]
    assert float(near[0].max()) < 1e-3 and float(near[1].min()) > 0.1


def test_an_image_is_left_out_of_its_own_sum():
    x = images(6)
    model = made(x)
    kept = model.on_grid(x)
    sigma = torch.full((6,), 0.05, dtype=torch.float64)
    z = noisy(x, 0.05)
    for i in range(6):
        others = made(x[torch.arange(6) != i])
        want = others.errors(x[i : i + 1], z[i : i + 1], sigma[:1], others.key(kept[i : i + 1]), None)
        got = model.errors(x[i : i + 1], z[i : i + 1], sigma[:1], model.key(kept[i : i + 1]), None)
        assert torch.allclose(got, want, rtol=1e-4)
        itself = model.errors(x[i : i + 1], z[i : i + 1], sigma[:1], torch.zeros(1, dtype=torch.long), None)
        assert float(itself[0, -1]) < 1e-6 < float(got[0, -1]), "with itself it would be its own best answer"


def test_a_class_is_drawn_from_its_own_images():
    x = images(6)
    model = made(x, labels=[0, 1, 0, 1, 0, 1], conditional=True)
    t = torch.full((2,), 0.5)
    z = noisy(images(2), 0.5)
    y = Condition(label=torch.tensor([1, 0]))
    both = model.predict(z, t, y)
    for row, of in ((0, x[1::2]), (1, x[::2])):
        assert torch.allclose(both[row], made(of).predict(z, t)[row], atol=1e-5)
    assert torch.allclose(model.predict(z, t), made(x).predict(z, t), atol=1e-5)


def test_each_image_is_remembered_once_and_no_more_than_there_is_room():
    x = images(20)
    model = made(torch.cat([x[:4], x[2:6]]))
    assert torch.equal(model.off_grid(model.filled()[0]), x[:6])
    model.loss(Batch(x, None, Noise(range(20))))
    model.after_step()
    assert int(model.count) == 6, "what is only asked remembers nothing"
    model.train().loss(Batch(x, None, Noise(range(20))))
    model.after_step()
    assert int(model.count) == 16 and torch.allclose(model.off_grid(model.images), x[:16], atol=1e-6)


def test_the_patch_grows_with_the_noise(tmp_path):
    """On discs and squares, as on photographs: of loud noise only what is far away says anything."""
    run, data = small_run("localscore", tmp_path, toy(64, held_out=8), images=1600, batch=32, rate=0.1)
    list(fit(run, data))
    run.student.coherence = 1.0
    loud, quiet = run.student.patch(torch.tensor([10.0, 0.03], dtype=torch.float64))
    assert loud > 2 * quiet and int(run.model.count) == len({one.tobytes() for one in data.x[data.train]})


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(engine, "world", lambda: 2)
    with pytest.raises(Refusal, match="one memory, and 2 processes"):
        made(images(3)).prepare()


def test_a_batch_of_which_no_image_is_scored_is_no_defect(monkeypatch):
    model = made(images(6)).train().requires_grad_(True)
    monkeypatch.setattr(localscore, "COMPARED", 1e-9)
    loss = model.loss(Batch(images(2), None, Noise(range(2)))).total
    loss.backward()
    assert float(loss.detach()) == 0 and all(not p.grad.any() for p in model.parameters())
