"""The video model: what each of its inputs is for, and that frames know of each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import small_run, toy
from likeness.core import Batch, Condition, Noise, Refusal, Spec, final
from likeness.data import Data, tasks
from likeness.models.video import FIRST, Video, fitted, shown
from likeness.training.loop import fit

SPEC = Spec(1, 8, 2, 256, False, 4, 6, 3)


def model(spec: Spec = SPEC, **options) -> Video:
    torch.manual_seed(0)
    made = Video(spec=spec, scale=0.25, steps=3, **options)
    with torch.no_grad():  # layers that begin at zero say something
        for p in made.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return made.eval()


def noisy(n: int = 2, spec: Spec = SPEC) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, *spec.shape, generator=torch.Generator().manual_seed(1)), torch.full((n,), 500)


def test_a_fresh_network_sees_every_frame_alone_and_a_trained_one_all():
    x, t = noisy()
    other = x.clone()
    other[:, :, 3] += 1
    fresh = Video(spec=SPEC, scale=0.25)
    torch.nn.init.normal_(fresh.network.last.weight)  # which is zero at first
    for net, alone in ((fresh.eval(), True), (model(), False)):
        a, b = (net.predict(v, t) for v in (x, other))
        assert torch.allclose(a[:, :, 0], b[:, :, 0], atol=1e-6) == alone
        assert not torch.allclose(a[:, :, 3], b[:, :, 3])


def test_time_has_a_direction():
    """Convolution along time and the numbers of frames: a clip backwards is no clip forwards."""
    x, t = noisy()
    net = model()
    assert not torch.allclose(net.predict(x.flip(2), t).flip(2), net.predict(x, t), atol=1e-3)


def test_class_words_and_known_frames_change_what_is_seen():
    x, t = noisy()
    net, words = model(conditional=True), torch.tensor([[2, 3, 0], [4, 0, 0]])
    label = torch.tensor([0, 1])
    base = net.predict(x, t, Condition(label, words))
    assert not torch.allclose(base, net.predict(x, t, Condition(1 - label, words)), atol=1e-4)
    assert not torch.allclose(base, net.predict(x, t, Condition(label, words.flip(0))), atol=1e-4)
    longer = torch.nn.functional.pad(words, (0, 0))
    assert torch.allclose(base, net.predict(x, t, Condition(label, longer)))
    known = torch.tensor([True, False, False, False]).view(1, 1, 4, 1, 1)
    told = net.clean(x, t, Condition(label, words), torch.ones_like(x), known)
    assert not torch.allclose(base, told, atol=1e-4)
    hidden = torch.ones_like(x)
    hidden[:, :, 1:] = 7
    assert torch.equal(told, net.clean(x, t, Condition(label, words), hidden, known)), (
        "a frame not known is seen"
    )


def test_which_frames_are_told():
    known = shown(Noise(range(20_000)), 6, 0.5)[:, 0, :, 0, 0]
    any_ = known.any(1)
    first = known[:, 0] & ~known[:, 1:].any(1)
    prefix = (known.long().diff(dim=1) <= 0).all(1) & any_
    # one first frame: FIRST, a third of the 0.4 that take 1 to 3, and a few of any
    assert float(first.float().mean()) == pytest.approx(0.5 * (FIRST + 0.4 / 3), abs=0.02)
    assert float(prefix.float().mean()) > 0.5 * 0.8 and float(any_.float().mean()) < 0.5 + 1e-2
    assert not shown(Noise(range(100)), 6, 0.0).any()


def test_known_frames_stay_and_the_rest_is_drawn():
    net, x = model(), noisy()[0].clamp(-1, 1)
    known = torch.tensor([True, True, False, False])
    out = final(net.complete(x, known, Noise(range(2))))
    assert torch.equal(out[:, :, :2], x[:, :, :2]) and not torch.allclose(out[:, :, 2:], x[:, :, 2:])
    moving = net.animate(x[:, :, 0], Noise(range(2)))
    assert moving.shape == x.shape and torch.equal(moving[:, :, 0], x[:, :, 0])
    long = net.extend(x, 9, Noise(range(2)))
    assert long.shape == (2, 1, 9, 8, 8) and torch.equal(long[:, :, :4], x)
    with pytest.raises(Refusal, match="--prompts 0"):
        final(model(prompts=0.0).complete(x, known, Noise(range(2))))
    pixels = torch.zeros(8, 8, dtype=torch.bool)
    pixels[:4] = True
    out = final(model(repeats=1).complete(x, pixels, Noise(range(2))))
    assert torch.equal(out[..., :4, :], x[..., :4, :])


def test_a_smaller_or_slower_clip_is_brought_to_size():
    x = torch.arange(4.0).view(1, 1, 2, 2, 1).expand(1, 1, 2, 2, 2) / 4
    slow = fitted(x, (1, 4, 2, 2))
    assert torch.equal(slow[:, :, ::2], x) and torch.equal(slow[:, :, 1::2], x)
    large = fitted(x, (1, 2, 4, 4))
    assert large.shape == (1, 1, 2, 4, 4) and torch.allclose(large.mean((3, 4)), x.mean((3, 4)), atol=0.05)
    with pytest.raises(Refusal, match="must divide"):
        fitted(x, (1, 3, 2, 2))


def videos(n: int = 40, frames: int = 4) -> Data:
    data = toy(n, size=8, held_out=8)
    return replace(data, x=np.stack([np.roll(data.x, k, -1) for k in range(frames)], 2))


@pytest.mark.parametrize("name", ["slow2", "slow4", "upscale2"])
def test_super_resolution_learns_from_what_the_task_makes(name, tmp_path):
    data = videos()
    task = tasks.of(name, "videos", data.x)
    data = data.with_pairs(tasks.made(task, data.x), name)
    source = data.take(np.arange(3)).y.image
    if name == "upscale2":
        assert source.shape == (3, 1, 4, 4, 4)
        assert torch.allclose(source[:, :, 1], replace_still(data, 1), atol=1e-6)
    else:
        factor = int(name[-1])
        assert torch.equal(source, data.take(np.arange(3)).x[:, :, ::factor])
    run, _ = small_run("video", tmp_path, data, images=32)
    assert all(np.isfinite(step.losses["model"]) for step in fit(run, data))
    y = data.take(data.held_out[:2]).y
    out = final(run.model.sample(Noise(range(2)), y))
    other = final(run.model.sample(Noise(range(2)), Condition(y.label, image=-y.image)))
    assert out.shape == (2, *data.spec.shape) and not torch.equal(out, other)
    with pytest.raises(Refusal, match="image beside"):
        final(run.model.sample(Noise(range(2))))


def replace_still(data: Data, t: int) -> torch.Tensor:
    still = replace(data, x=np.ascontiguousarray(data.x[:, :, t]))
    return (
        still.with_pairs(tasks.made(tasks.of("upscale2", "x", still.x), still.x), "u")
        .take(np.arange(3))
        .y.image
    )


def test_stills_are_refused():
    with pytest.raises(Refusal, match="--frames 16"):
        Video(spec=Spec(1, 16))
    with pytest.raises(Refusal, match="4 pixels a side"):
        Video(spec=Spec(1, 2, frames=4))


def test_it_learns_which_way_things_move(tmp_path):
    """Two classes of the same frames, in order and backwards: only a look along time tells them."""
    data = videos(64)
    x = np.concatenate([data.x, data.x[:, :, ::-1]])
    y = np.repeat([0, 1], 64).astype(np.int64)
    both = replace(data, x=np.ascontiguousarray(x), y=y, train=np.arange(128), classes=("on", "back"))
    run, _ = small_run(
        "video", tmp_path, both, images=800, rate=3e-3, options=dict(conditional=True, prompts=0.0)
    )
    for _ in fit(run, both):
        pass
    some = np.concatenate([np.arange(32), 64 + np.arange(32)])
    batch = both.take(some)

    def error(y: torch.Tensor) -> float:
        with torch.no_grad():
            return float(run.student.eval().loss(Batch(batch.x, Condition(y), Noise(range(64)))).total)

    right, wrong = error(batch.y.label), error(1 - batch.y.label)
    assert right < wrong
