"""MAE: what the encoder sees, what the loss is of, and that hidden patches are told better than by their
mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import small_run, toy
from likeness import engine
from likeness.core import Batch, Noise, Refusal, Spec
from likeness.models.mae import EPS, MAE, normalised, spread, take
from likeness.parts import vit
from likeness.training.loop import fit

SMALL = dict(width=16, depth=2, heads=2, decoder_width=8, decoder_depth=1)


def model_and_patches() -> tuple[MAE, torch.Tensor]:
    torch.manual_seed(0)
    model = MAE(spec=Spec(3, 16), **SMALL)
    return model, vit.patches(torch.rand(5, 3, 16, 16) * 2 - 1, model.p)


def test_three_quarters_are_hidden_and_each_image_hides_its_own():
    model, _ = model_and_patches()
    visible, hidden = model.hide(Noise(range(500)))
    assert visible.shape == (500, 16) and hidden.shape == (500, 48)
    assert torch.equal(torch.cat([visible, hidden], 1).sort(1).values, torch.arange(64).expand(500, -1))
    share = torch.zeros(64).index_add_(0, visible.flatten(), torch.ones(8000)) / 500
    assert float(share.min()) > 0.17 and float(share.max()) < 0.34, "each place as often"
    assert torch.equal(model.hide(Noise([7]))[0][0], visible[7])


def test_the_encoder_cannot_see_what_is_hidden():
    model, p = model_and_patches()
    visible, hidden = model.hide(Noise(range(5)))
    other = p.scatter(1, spread(hidden, p), 7 * torch.randn(5, 48, 12))
    with torch.no_grad():
        one, two = (model.encode_patches(take(x, visible), visible) for x in (p, other))
        assert torch.equal(one, two) and not torch.equal(p, other)
        seen = p.scatter(1, spread(visible[:, :1], p), 7.0)
        assert not torch.allclose(one, model.encode_patches(take(seen, visible), visible)), (
            "and does see what is not"
        )


def test_the_decoder_is_given_every_patch_in_its_place():
    model, p = model_and_patches()
    visible, _ = model.hide(Noise(range(5)))
    given = []
    model.decoder.register_forward_pre_hook(lambda _, x: given.append(x[0]))
    with torch.no_grad():
        h = model.encode_patches(take(p, visible), visible)
        model.decode_patches(h, visible)
        tokens = given[0] - model.decoder_where
        for image in range(5):
            for place in range(64):
                at = (visible[image] == place).nonzero()
                wanted = model.between(h[image, at[0, 0]]) if len(at) else model.token
                assert torch.allclose(tokens[image, place], wanted, atol=1e-5)


def test_the_loss_is_of_hidden_patches_alone():
    model, _ = model_and_patches()
    noise, x = Noise(range(5)), torch.rand(5, 3, 16, 16)
    visible, hidden = model.hide(Noise(range(5)))
    made = torch.randn(5, 64, 12)
    model.decode_patches = lambda h, v: made
    total = float(model.loss(Batch(x, None, noise)).total)
    target = vit.patches(x, 2)
    by_hand = []
    for image in range(5):
        for place in hidden[image]:
            q = target[image, place].double()
            q = (q - q.mean()) / (q.var() + EPS).sqrt()
            by_hand.append(float((q - made[image, place]).square().mean()))
    assert total == pytest.approx(np.mean(by_hand), rel=1e-5)
    made = made.scatter(1, spread(visible, made), 1e6)
    assert float(model.loss(Batch(x, None, Noise(range(5)))).total) == pytest.approx(total)


def test_patches_are_normalised_each_for_itself_and_flat_ones_are_nothing():
    p = torch.randn(3, 4, 12) * 5 + 2
    q = normalised(p)
    assert torch.allclose(q.mean(-1), torch.zeros(3, 4), atol=1e-5) and torch.allclose(
        q.std(-1), torch.ones(3, 4), atol=1e-4
    )
    assert torch.equal(normalised(torch.full((1, 1, 12), 0.5)), torch.zeros(1, 1, 12))


def test_hidden_patches_of_stripes_are_completed(tmp_path):
    """Stripes that lie or stand: a few patches tell which, and all else follows."""
    rng = np.random.default_rng(0)
    at, down = np.arange(16), rng.integers(0, 2, (400, 1, 1))
    wave = np.sin(1.3 * np.where(down, at[None, :, None], at[None, None, :]))
    data = toy(400)
    data = replace(data, x=(127 + 100 * wave[:, None]).astype(np.uint8))
    run, _ = small_run(
        "mae",
        tmp_path,
        data,
        options=SMALL | dict(width=32, decoder_width=32),
        images=6_400,
        batch=64,
        rate=3e-3,
        ema=500,
    )
    (_, before, nothing), *_ = run.model.diagnose(engine.put(data.take(data.held_out)))
    list(fit(run, data))
    (_, after, fine), *_ = run.model.diagnose(engine.put(data.take(data.held_out)))
    assert before > 0.95 and nothing and after < 0.5 and not fine


def test_features_are_a_mean_over_the_whole_image_and_odd_sizes_do():
    for size, channels in ((8, 1), (9, 3), (29, 1)):
        model = MAE(spec=Spec(channels, size), **SMALL).eval()
        x = torch.rand(2, channels, size, size)
        p = vit.patches(x, model.p)
        everywhere = torch.arange(p.shape[1]).expand(2, -1)
        assert torch.allclose(model.encode(x), model.encode_patches(p, everywhere).mean(1)) and model.encode(
            x
        ).shape == (2, 16)
        assert bool(model.loss(Batch(x, None, Noise(range(2)))).total.isfinite())
    with pytest.raises(Refusal, match="shared evenly among 2 heads"):
        MAE(spec=Spec(1, 16), **SMALL | dict(width=18))
