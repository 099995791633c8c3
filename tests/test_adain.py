"""adain: statistics and loss against formulas, strips against the whole, a style that it must learn."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from conftest import small_run, toy
from likeness import engine
from likeness.cli import main
from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.data import Data
from likeness.figures import read_recipe
from likeness.inference.translate import cannot
from likeness.models import adain
from likeness.models.adain import AdaIN, Encoder, Statistics, statistics
from likeness.models.faststyle import FastStyle
from likeness.parts.perceptual import Perceptual
from likeness.training import snapshots
from likeness.training.loop import fit

RGB = Spec(3, 16)
TWO = Spec(3, 16, source=(3, 16))


def model(spec: Spec = TWO, **options: object) -> AdaIN:
    torch.manual_seed(0)
    made = engine.place(AdaIN(spec=spec, **(dict(width=4, network="random") | options)))
    made.prepare()
    return made


def images(seed: int, n: int = 1, high: int = 16, wide: int = 16, channels: int = 3) -> Tensor:
    smooth = Noise(range(n), key=seed).normal(channels, high // 4 + 1, wide // 4 + 1)
    x = nn.functional.interpolate(smooth, (high, wide), mode="bilinear")
    return (0.5 * x + 0.1 * Noise(range(n), key=seed + 99).normal(channels, high, wide)).clamp(-1, 1)


def pair(c: Tensor, s: Tensor) -> Batch:
    return Batch(s, Condition(image=c), Noise(range(len(s))))


# Equations


def test_equation_8_moves_mean_and_deviation_of_each_channel():
    c, s = (torch.randn(2, 5, 12, n) * 3 + n for n in (8, 14))
    moved = adain.adain(c, statistics(s)).double().numpy()
    x, y = c.double().numpy(), s.double().numpy()
    for b in range(2):
        for k in range(5):
            unit = (x[b, k] - x[b, k].mean()) / x[b, k].std()
            assert np.allclose(moved[b, k], unit * y[b, k].std() + y[b, k].mean(), atol=1e-4)
    assert torch.allclose(adain.adain(c, statistics(c)), c, atol=1e-4)
    assert not np.allclose(moved.std((2, 3)), x.std((2, 3)), atol=1e-2)


def test_a_channel_without_contrast_takes_the_mean_of_the_style():
    moved = adain.adain(
        torch.full((1, 1, 4, 4), 7.0), Statistics(torch.full((1, 1, 1, 1), -2.0), torch.ones(1))
    )
    assert torch.equal(moved, torch.full((1, 1, 4, 4), -2.0))


def by_hand(m: AdaIN, c: Tensor, s: Tensor) -> tuple[float, float]:
    """Content and style of one pair, in sums over channels and places."""

    def stats(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return h.mean((1, 2)), np.sqrt(h.var((1, 2)) + adain.EPS)

    def seen(x: Tensor) -> list[np.ndarray]:
        return [h[0].double().cpu().numpy() for h in m.encoder(x)]

    deep, styles = seen(c)[-1], [stats(h) for h in seen(s)]
    (mu, sigma), (mu_s, sigma_s) = stats(deep), styles[-1]
    t = (deep - mu[:, None, None]) / sigma[:, None, None] * sigma_s[:, None, None] + mu_s[:, None, None]
    made = seen(m.decoder(torch.from_numpy(t)[None].float().to(c.device)))
    content = ((made[-1] - t) ** 2).sum() / (t**2).sum()
    each = [
        (((a - mu) ** 2).sum() + ((b - sigma) ** 2).sum()) / ((mu**2).sum() + (sigma**2).sum())
        for (a, b), (mu, sigma) in zip(map(stats, made), styles)
    ]
    return content, float(np.mean(each))


@torch.no_grad()
def test_the_loss_is_that_of_equations_11_to_13_in_relative_errors():
    m, c, s = model(style_weight=3.0), images(1, 3), images(2, 3)
    terms = np.array([by_hand(m, c[i : i + 1], s[i : i + 1]) for i in range(3)]).mean(0)
    loss = m.loss(pair(c, s))
    assert loss.terms["content"].item() == pytest.approx(terms[0], rel=1e-3)
    assert loss.terms["style"].item() == pytest.approx(terms[1], rel=1e-3)
    assert loss.total.item() == pytest.approx(terms[0] + 3 * terms[1], rel=1e-3)
    swapped = m.loss(pair(s, c))
    assert swapped.total.item() != pytest.approx(loss.total.item(), rel=1e-3), "A is the content, B the style"
    assert m.chance(pair(c, c))["style"] == 0 < m.chance(pair(c, s))["style"]


@torch.no_grad()
def test_of_one_folder_each_image_has_the_style_of_the_one_before():
    m, x = model(RGB), images(1, 3)
    alone = m.loss(Batch(x, None, Noise(range(3))))
    assert alone.total.item() == m.loss(pair(x, x[[2, 0, 1]])).total.item()
    assert m.whole_batch and not model(TWO).whole_batch


class Bare(nn.Module):
    """In place of a decoder: features as they are, small enough not to be cut off."""

    def forward(self, h: Tensor) -> Tensor:
        return h / 1000


@torch.no_grad()
def test_strength_and_shares_are_those_of_equations_14_and_15():
    m, c, s, r = model(), images(1, 2), images(2), images(3, 1, 24, 12)
    m.decoder = Bare()  # the first H rows of features are all of them
    f = m.encoder(c)[-1]
    to_s, to_r = (adain.adain(f, statistics(m.encoder(x)[-1])) for x in (s, r))

    def out(*args: object) -> Tensor:
        return 1000 * m.stylise(c, *args)  # type: ignore[arg-type]

    for wanted, made in (
        (to_s, out([s])),
        (f, out([s], (), 0.0)),
        (0.3 * to_s + 0.7 * f, out([s], (), 0.3)),
        (0.75 * to_s + 0.25 * to_r, out([s, r], (3, 1))),
        ((to_s + to_r) / 2, out([s, r])),
    ):
        assert torch.allclose(made, wanted, atol=1e-3)
    assert not torch.allclose(out([s]), out([r]), atol=1e-1)


@torch.no_grad()
def test_the_style_of_itself_is_what_the_decoder_makes_of_its_features():
    m, c = model(), images(1)
    assert torch.allclose(m.stylise(c, [c]), m.decoder(m.encoder(c)[-1]).clamp(-1, 1), atol=1e-5)
    assert m.terms(c, c)["content"].item() == pytest.approx(by_hand(m, c, c)[0], rel=1e-3)


# The encoder


@torch.no_grad()
def test_the_encoder_is_vgg_times_a_number_a_layer():
    """Away from the frame, where one has zeros and the other reflections."""
    net = Encoder("vgg16", 3)
    net.fill("none")
    names = [names[0] for names in net.blocks]
    x = images(4, 1, 64, 64)
    plain = Perceptual("vgg16", names, weights="none").features(x.to(engine.device()))
    engine.place(net)
    for name, h in zip(names, net(x.to(engine.device()))):
        inner = [y[..., 4:-4, 4:-4].cpu() for y in (h, plain[name])]
        ratio = float(inner[0].sum() / inner[1].sum())
        assert torch.allclose(inner[0], ratio * inner[1], rtol=1e-3, atol=1e-3 * float(inner[0].max()))
        assert 0.1 < float(h.mean()) < 10


@torch.no_grad()
def test_scaling_a_layer_moves_no_zero():
    net = Encoder("random", 4)
    net.fill("")
    for name, bias in net.named_buffers():
        if name.endswith("bias"):
            bias.copy_(torch.linspace(-0.5, 0.5, len(bias)))
    x = images(5, 1, 32, 32)
    before = net(x)
    net.level_out()
    for a, b in zip(before, net(x)):
        assert torch.allclose(b * float(a.sum() / b.sum()), a, rtol=1e-3, atol=1e-4)


# Photos of any size


@pytest.mark.parametrize("layer", adain.LAYERS)
@torch.no_grad()
def test_strips_are_the_whole_photo(layer, monkeypatch):
    m, c, s = model(layer=layer), images(1, 1, 270, 18), images(2, 1, 150, 33)
    whole = m.stylise(c, [s])
    assert whole.shape == c.shape
    monkeypatch.setattr(adain, "PIXELS", 1)
    assert len(list(m.strips(m.fitting(c), m.halo))) > 1
    assert torch.allclose(m.stylise(c, [s]), whole, atol=1e-4)
    own, halves = m.measured(c), [m.measured(x) for x in c.split(135, 2)]
    assert not torch.allclose(halves[0].mean, own.mean, atol=1e-3), "the statistics of a part would do"
    m.halo = 2 * m.stride
    assert not torch.allclose(m.stylise(c, [s]), whole, atol=1e-4), "it needs no rows around"


@torch.no_grad()
def test_photos_of_any_channels_and_what_is_refused():
    m = model(Spec(1, 16, source=(3, 16)))
    assert m.stylise(images(1), [images(2, channels=1)]).shape == (1, 3, 16, 16)
    assert model(Spec(1, 16)).stylise(images(1, 2, 19, 21, 1), [images(2)]).shape == (2, 1, 19, 21)
    for wrong, words in (
        (lambda: m.stylise(images(1), []), "0 styles have shares"),
        (lambda: m.stylise(images(1), [images(2)], (1, 2)), "one for each"),
        (lambda: m.stylise(images(1), [images(2)], (), 1.5), "not between 0 and 1"),
        (lambda: m.stylise(images(1)[..., :7, :], [images(2)]), "8 pixels a side or more, and this has 16x7"),
        (lambda: model(Spec(3, 18)), "--size 16"),
        (lambda: model(Spec(2, 16)), "grey or RGB"),
    ):
        with pytest.raises(Refusal, match=words):
            wrong()


# A known answer


def walls(n: int = 256) -> Data:
    """Photos of shapes, and paintings of one colour each."""
    colours = np.random.default_rng(1).integers(0, 256, (n, 3, 1, 1))
    paintings = (colours * np.ones((1, 1, 16, 16))).astype(np.uint8)
    return replace(toy(n, channels=3), x=paintings, y=None, classes=()).with_domain(
        replace(toy(n, channels=3), y=None, classes=())
    )


def wall(*colour: int) -> Tensor:
    return (torch.tensor(colour) / 127.5 - 1).view(1, 3, 1, 1).expand(1, 3, 16, 16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("adain") / "run"
    run, data = small_run(
        "adain", folder, walls(), options=dict(width=24), images=8 * 160, batch=8, rate=2e-3
    )
    run.student.prepare()
    first = deepcopy(run.student).eval()
    for _ in fit(run, data):
        pass
    run.save()
    run.close()
    return run, data, first


@torch.no_grad()
def test_paintings_never_seen_give_photos_their_colour(trained):
    run, data, first = trained
    photo = engine.put(data.take(data.held_out[:3])).y.image
    colours = torch.cat([wall(215, 30, 30), wall(30, 60, 200), wall(220, 210, 60)]).to(photo.device)
    made, wanted, own = (x.mean((2, 3)) for x in (run.model.stylise(photo, [colours]), colours, photo))
    assert torch.cdist(made, wanted).argmin(1).tolist() == [0, 1, 2]
    assert torch.cdist(own, wanted).argmin(1).tolist() != [0, 1, 2], "the photos had them already"
    batch = pair(photo, colours)
    assert run.model.loss(batch).terms["style"].item() < 0.35 * run.model.chance(batch)["style"]
    assert first.loss(batch).terms["style"].item() > 0.5 * first.chance(batch)["style"], "nothing was learnt"


def test_a_run_answers_and_shows_without_its_encoder_s_file(trained, monkeypatch, tmp_path):
    run, data, _ = trained
    monkeypatch.setattr(Encoder, "fill", lambda *_: pytest.fail("weights were read again"))
    again = type(run).resume(run.folder)
    again.student.prepare()
    x = images(1).to(engine.device())
    assert torch.equal(again.model.stylise(x, [x.flip(1)]), run.model.stylise(x, [x.flip(1)]))
    again.close()
    content, style, made = snapshots.translated(run, data, 9)
    batch = engine.put(data.take(data.held_out[:3]))
    assert torch.equal(content, batch.y.image) and torch.equal(style, batch.x)
    assert torch.equal(made, run.model.stylise(content, [style]))
    page = snapshots.picture(run, data, 9)
    assert page is not None and page.ndim == 3


def test_on_the_command_line(trained, tmp_path, monkeypatch, capsys):
    run, _, _ = trained
    monkeypatch.chdir(tmp_path)
    for name, seed in (("photo", 1), ("a", 2), ("b", 3)):
        x = (images(seed, 1, 40, 57)[0].permute(1, 2, 0).numpy() + 1) * 127.5
        Image.fromarray(x.astype(np.uint8)).save(f"{name}.png")
    typed = ["style", "photo.png", "a.png", "b.png", "--arbitrary", str(run.folder)]
    assert main([*typed, "--shares", "2", "1", "--strength", "0.5", "-o", "out.png"]) == 0
    recipe = read_recipe(tmp_path / "out.png")
    assert Image.open("out.png").size == (57, 40) and recipe["arbitrary"] == str(run.folder)
    assert "images seen" in recipe["source"] and recipe["strength"] == 0.5
    capsys.readouterr()
    assert main(["style", "photo.png", "a.png", "--arbitrary", "nowhere"]) == 2
    assert "adain, wct, or the folder of a run of adain; 'nowhere' is neither" in capsys.readouterr().err
    assert main([*typed, "--strength", "2", "-o", "two.png"]) == 2
    other, _ = small_run("ae", tmp_path / "ae", images=16)
    other.save()
    other.close()
    capsys.readouterr()
    assert main(["style", "photo.png", "a.png", "--arbitrary", "ae"]) == 2
    assert "ae cannot paint an image in the style of another" in capsys.readouterr().err
    assert main(["translate", str(run.folder), "photo.png", "-o", "there"]) == 2
    assert "likeness style PHOTO PAINTING --arbitrary RUN" in capsys.readouterr().err
    assert "needs a painting" in cannot(run.model)


# Grey styles, and pictures on the way


def test_styles_without_colours_are_named(tmp_path):
    m, c = model(Spec(3, 16, source=(3, 16))), images(1, 2)
    ((_, value, warning),) = m.diagnose(pair(c, images(2, 2, channels=1).expand(-1, 3, -1, -1)))
    assert value == 0 and "will be grey" in warning and "--colour luminance" in warning
    assert not next(m.diagnose(pair(c, images(2, 2))))[2]
    assert not next(m.diagnose(pair(c[:, :1], images(2, 2, channels=1))))[2], "nothing is lost"
    Image.new("L", (32, 32), 90).save(tmp_path / "ink.png")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    for name, grey in (("ink.png", True), ("red.png", False)):
        fast = FastStyle(spec=RGB, style=str(tmp_path / name), width=4, blocks=0, network="random")
        ((_, _, warning),) = fast.diagnose(Batch(c, None, Noise(range(2))))
        assert ("is grey and the photos are not" in warning) == grey


def test_a_model_that_only_translates_shows_photos_beside_what_it_makes(tmp_path):
    run, data = small_run("faststyle", tmp_path / "a", images=32)
    photo, made = snapshots.translated(run, data, 6)
    assert len(photo) == 2 and torch.equal(made, run.model.translate(photo))
    for _ in snapshots.record(run, data, fit(run, data), n=4):
        pass
    assert list((tmp_path / "a" / "samples").glob("*.png"))
