"""Judging through a fixed network: its losses written out, what is trained of it and what is not, and what a
run needs to go on."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import likeness
from conftest import small_run, toy
from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.features import opening
from likeness.models.r3gan import R3GAN
from likeness.parts.projected import SEEN, WIDTH, Projected, even
from likeness.runs.run import Run
from likeness.training import doctor
from likeness.training.loop import fit, only, refuse

RANDOM = dict(features="squeezenet", weights="none")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def P() -> Projected:
    return judges("squeezenet", labels=3)


def judges(network: str, size: int = 16, labels: int = 0) -> Projected:
    with torch.no_grad():  # a run may be opened by who wants no gradient
        P = Projected(network, "none", size, labels)
    P.prepare()
    return P


def images(n: int, channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    return 2 * torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) - 1


@pytest.mark.parametrize("network", SEEN)
def test_of_every_network_four_resolutions_are_seen_finest_first(network):
    P = judges(network)
    seen = P.project(images(2, channels=1))
    sizes = [p.shape[2] for p in seen]
    assert all(p.shape[:2] == (2, WIDTH) for p in seen)
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4 and sizes[-1] >= 3
    assert [logits.shape[0] for logits in P(images(2))] == [2] * 4


def test_the_losses_are_hinges_summed_over_the_scales(P):
    real, fake, y = images(4), images(4, seed=1), Condition(torch.tensor([0, 1, 2, 0]))
    with torch.no_grad():
        loss, apart = P.discriminator(real, fake, y)
        r, f = P(real, y), P(fake, y)
        by_hand = sum((1 - a).clamp(min=0).mean() + (1 + b).clamp(min=0).mean() for a, b in zip(r, f))
        ahead = sum(a.mean(1) for a in r) > sum(b.mean(1) for b in f)
        assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
        assert apart.item() == pytest.approx(ahead.float().mean().item())
        assert P.generator(fake, y).item() == pytest.approx(-sum(b.mean() for b in f).item(), rel=1e-4)


def test_what_one_image_is_to_them_does_not_depend_on_the_others(P):
    x, y = images(6), Condition(torch.arange(6) % 3)
    with torch.no_grad():
        for whole, alone in zip(P(x, y), P(x[2:3], y[2:3])):
            assert torch.allclose(whole[2:3], alone, atol=1e-4)


def test_classes_matter_where_there_are_any(P):
    with torch.no_grad():
        a, b = (P(images(1), Condition(torch.tensor([y]))) for y in (0, 1))
    assert all(not torch.allclose(m, n) for m, n in zip(a, b))


def test_how_large_the_features_of_a_network_are_means_nothing():
    x = torch.randn(3, 5, 4, 4)
    assert torch.allclose(even(x).square().mean((1, 2, 3)), torch.ones(3), atol=1e-5)
    assert torch.allclose(even(1000 * x), even(x), atol=1e-5)


def test_only_the_discriminators_learn_and_the_slope_reaches_the_image(P):
    learns = {name for name, p in P.named_parameters() if p.requires_grad}
    assert learns and all(name.startswith("heads.") for name in learns)
    x = images(2).requires_grad_()
    P.generator(x, Condition(torch.tensor([0, 1]))).backward()
    assert x.grad is not None and bool((x.grad.abs().sum((1, 2, 3)) > 0).all())
    assert all(p.grad is None and not p.requires_grad for p in P.net.parameters())
    assert not any(name.startswith("net") for name in P.state_dict())


def test_they_learn_to_tell_bright_discs_from_noise(P):
    data = toy(size=16)
    real, fake = data.take(data.train[:16]).x, images(16, channels=1)
    adam = torch.optim.Adam(P.parameters(), 2e-3)
    y = Condition(torch.zeros(16, dtype=torch.long))
    losses = []
    for _ in range(25):
        loss, apart = P.discriminator(real, fake, y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0] and apart == 1


def test_a_generator_hears_what_its_features_say():
    """The slope of its loss differs from that of the pixels' judge alone, and in its move nobody else gets
    one."""
    spec = Spec(1, 16)
    batch = Batch(images(4, channels=1), None, Noise(range(4)))
    slopes = []
    for options in ({}, RANDOM):
        torch.manual_seed(0)
        model = R3GAN(spec=spec, **options)
        model.prepare()
        with only(model.G, model):
            model.generator_loss(batch).total.backward()
        assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("G."))
        slopes.append(torch.cat([p.grad.flatten() for p in model.G.parameters() if p.grad is not None]))
    assert slopes[0].shape == slopes[1].shape and not torch.allclose(*slopes)


def test_it_is_trained_and_resumed_bit_by_bit(tmp_path):
    run, data = small_run("r3gan", tmp_path / "whole", options=RANDOM, images=64)
    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    lines = [step.losses for step in fit(run, data)]
    assert {"told apart", "told apart by features"} <= lines[-1].keys()
    after = run.student.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert not any(".across." in name or ".scales." in name for name in moved)
    assert (
        any(name.startswith("P.heads") for name in moved)
        and any(name.startswith("D.") for name in moved)
        and any(name.startswith("G.") for name in moved)
    )
    killed, _ = small_run("r3gan", tmp_path / "killed", options=RANDOM, images=64)
    list(itertools.islice(fit(killed, data), 2))
    killed.save()
    killed.close()
    again = Run.resume(tmp_path / "killed")
    list(fit(again, data))
    assert all(torch.equal(v, again.tensors()[k]) for k, v in run.tensors().items())


def test_splitting_a_batch_optimises_the_same(tmp_path):
    """The power iteration goes on with the steps, not with the pieces."""
    grads = []
    for name, micro in (("whole", 0), ("pieces", 5)):
        run, data = small_run("r3gan", tmp_path / name, options=RANDOM, clip=0.0, rate=0.0, micro=micro)
        list(itertools.islice(fit(run, data), 2))
        grads.append(torch.cat([p.grad.flatten() for p in run.student.parameters() if p.grad is not None]))
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-6 * float(grads[0].abs().max()))


def weights_file(path, seed: int) -> str:
    net = opening.load("squeezenet", "none", seed=seed)
    save_file({k.removeprefix("nodes."): v.contiguous() for k, v in net.state_dict().items()}, path)
    return str(path)


def judge_of_real_images(opened) -> list[float]:
    """What the doctor asks: logits of the judge of pixels."""
    run, data = opened.run, opened.data
    return list(doctor.logits(run, data, run.model.players()[0], data.train[:16]))


def test_without_the_weights_a_run_answers_and_does_not_train(tmp_path):
    path = tmp_path / "w.safetensors"
    options = dict(features="squeezenet", weights=weights_file(path, 1))
    run = likeness.train("r3gan", "digits", tmp_path / "run", images=64, progress=False, size=8, **options)
    path.unlink()
    alone = likeness.open(tmp_path / "run")
    assert len(alone.sample(2)) == 2
    assert list(judge_of_real_images(alone)) == list(judge_of_real_images(run)) != []
    with pytest.raises(Refusal, match=r"w\.safetensors"):
        likeness.train("r3gan", "digits", tmp_path / "run", images=128, progress=False)
    weights_file(path, 2)
    with pytest.raises(Refusal, match="not those that this run has been trained with"):
        likeness.train("r3gan", "digits", tmp_path / "run", images=128, progress=False)
    weights_file(path, 1)
    assert likeness.train("r3gan", "digits", tmp_path / "run", images=128, progress=False).run.seen == 128
    assert run.run.seen == 64


def test_a_run_goes_on_from_another_folder_and_with_a_file_that_has_moved(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    weights_file(tmp_path / "kept.safetensors", 1)
    # as downloads lie in some caches, under names without an end
    Path("w.safetensors").symlink_to(tmp_path / "kept.safetensors")
    options = dict(features="squeezenet", size=8, progress=False)

    def seen(images: int, **more) -> tuple[int, str]:
        run = likeness.train("r3gan", "digits", tmp_path / "run", images=images, **more)
        return run.run.seen, run.config.options["weights"]

    assert seen(32, weights="w.safetensors", **options) == (32, str(tmp_path / "here" / "w.safetensors"))
    assert seen(64, weights="w.safetensors", **options)[0] == 64  # the same command goes on
    monkeypatch.chdir(tmp_path / "there")
    assert seen(96, progress=False)[0] == 96
    Path("v.safetensors").write_bytes((tmp_path / "kept.safetensors").read_bytes())
    (tmp_path / "kept.safetensors").unlink()
    with pytest.raises(Refusal, match=r"no file .*w\.safetensors"):
        seen(128, progress=False)
    with pytest.raises(Refusal, match=r"no file .*u\.safetensors"):
        seen(128, weights="u.safetensors", **options)
    assert seen(128, weights="v.safetensors", **options) == (128, str(tmp_path / "there" / "v.safetensors"))
    assert seen(160, progress=False)[0] == 160
    with pytest.raises(Refusal, match=r"--weights .*, not --weights none"):
        seen(192, weights="none", **options)
    weights_file("u.safetensors", 2)
    with pytest.raises(
        Refusal, match="not those that this run has been trained with; name the file that it began with"
    ):
        seen(192, weights="u.safetensors", **options)
    assert seen(192, progress=False) == (192, str(tmp_path / "there" / "v.safetensors"))


def test_a_file_moves_with_the_project(tmp_path):
    (tmp_path / "old").mkdir()
    options = dict(features="squeezenet", weights=weights_file(tmp_path / "old" / "w.safetensors", 1), size=8)
    likeness.train("r3gan", "digits", tmp_path / "old" / "run", images=32, progress=False, **options)
    (tmp_path / "old").rename(tmp_path / "new")
    run = likeness.train("r3gan", "digits", tmp_path / "new" / "run", images=64, progress=False)
    assert run.config.options["weights"] == str(tmp_path / "new" / "w.safetensors") and run.run.seen == 64


@pytest.mark.parametrize("value", [None, 5])
def test_a_file_is_named_by_a_text(value, tmp_path):
    with pytest.raises(Refusal, match="--weights"):
        likeness.train(
            "r3gan",
            "digits",
            tmp_path / "run",
            images=32,
            progress=False,
            size=8,
            features="squeezenet",
            weights=value,
        )


def test_a_file_with_more_layers_than_are_looked_at_is_the_same_network(tmp_path):
    whole, part = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    weights_file(whole, 1)
    save_file({k: v for k, v in load_file(whole).items() if not k.startswith("conv10")}, part)
    P = Projected("squeezenet", str(whole), 16)
    P.prepare()
    P.weights = str(part)
    P.prepare()
    P.weights = weights_file(whole, 2)
    with pytest.raises(Refusal, match=r"whole\.safetensors are not those"):
        P.prepare()


def test_a_network_that_is_nowhere_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.delenv("LIKENESS_DATA", raising=False)
    for name in ("LIKENESS_CACHE", "KERAS_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network here"))
    )
    with pytest.raises(Refusal, match="squeezenet needs https://"):
        likeness.train("r3gan", "digits", tmp_path / "run", images=64, progress=False, features="squeezenet")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("spec", "options", "lesson"),
    [
        (Spec(2, 1, levels=0), RANDOM, "--features looks at pictures of 8 pixels"),
        (Spec(1, 16), dict(weights="none"), "name it with --features"),
        (Spec(1, 16), dict(features="alexnet"), "is none of"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(spec, options, lesson):
    with pytest.raises(Refusal, match=lesson):
        refuse("r3gan", R3GAN.defaults, R3GAN(spec=spec, **options))
