"""faststyle: losses against formulas, its quick answer against the plain one, a style that it must learn."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import likeness
from conftest import small_run, toy
from likeness import engine
from likeness.core import BadData, Batch, Noise, Refusal, Spec
from likeness.evaluation import exam as evaluation
from likeness.evaluation import stylisation
from likeness.models import faststyle
from likeness.models.faststyle import FastStyle
from likeness.parts import painting as paintings
from likeness.parts import quick_residual
from likeness.parts.norms import InstanceNorm
from likeness.parts.painting import mosaic, painting
from likeness.parts.translators import Residual
from likeness.runs.run import Run
from likeness.training.loop import fit

RGB = Spec(3, 16)


def model(spec: Spec = RGB, **options: object) -> FastStyle:
    torch.manual_seed(0)
    small = dict(width=4, blocks=1, network="random", style_size=32)
    return FastStyle(spec=spec, **(small | options))


def photos(n: int = 3, channels: int = 3, size: int = 16) -> Batch:
    return Batch(Noise(range(n), key=1).uniform(channels, size, size) * 2 - 1, None, Noise(range(n)))


# Losses


def random_features(x: np.ndarray) -> dict[str, np.ndarray]:
    """The network of --network random, once more, by unfolding."""
    eye, out, h = faststyle.RandomBlocks(), {}, torch.from_numpy(x).float()
    for name, kernel in eye.kernels.items():
        if name in ("block2_conv1", "block3_conv1"):
            h = h.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
        columns = F.unfold(h, 3, padding=1)
        h = (kernel.flatten(1) @ columns).clamp(min=0).view(len(h), len(kernel), *h.shape[2:])
        out[name] = h.double().numpy()
    return out


def by_hand(made: np.ndarray, x: np.ndarray, s: np.ndarray) -> tuple[float, float, float]:
    """Content, style and variation of one picture, all (1, 3, H, W)."""
    f, p, a = (random_features(v) for v in (made, x, s))
    content = ((f["block2_conv2"] - p["block2_conv2"]) ** 2).sum() / (p["block2_conv2"] ** 2).sum()
    errors = []
    for name in ("block1_conv2", "block2_conv2", "block3_conv3"):
        grams = [np.einsum("chw,dhw->cd", h[0], h[0]) / h[0].size for h in (f[name], a[name])]
        errors.append(((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum())
    rough = (np.diff(made, axis=2) ** 2).mean() + (np.diff(made, axis=3) ** 2).mean()
    return content, float(np.mean(errors)), rough


def test_the_loss_is_that_of_the_paper_in_relative_errors():
    m, b = model(content_weight=2.0, style_weight=3.0, tv_weight=5.0), photos()
    m.prepare()
    with torch.no_grad():
        made = m.net(b.x).tanh().numpy()
    s = mosaic(32)[None]
    terms = np.array([by_hand(made[i : i + 1], b.x.numpy()[i : i + 1], s) for i in range(3)]).mean(0)
    loss = m.loss(b)
    for name, value in zip(("content", "style", "variation"), terms):
        assert loss.terms[name].item() == pytest.approx(value, rel=1e-3), name
    assert loss.total.item() == pytest.approx(terms @ np.array([2.0, 3.0, 5.0]), rel=1e-3)
    assert m.chance(b)["style"] == pytest.approx(
        np.mean([by_hand(x, x, s)[1] for x in b.x.numpy()[:, None]]), rel=1e-3
    )


def test_the_painting_itself_has_its_style_and_a_photo_its_content():
    m = model()
    m.prepare()
    s = torch.from_numpy(mosaic(32))[None]
    assert m.terms(s, s)["style"].item() < 1e-9 and m.terms(s, s)["content"].item() == 0
    moved = m.terms(s.roll((8, 4), (2, 3)), s)
    assert moved["style"].item() < 0.05 < moved["content"].item(), "where things are is no style"
    assert m.terms(-s, s)["style"].item() > 0.05


def test_grey_photos_are_painted_in_grey():
    m, b = model(Spec(1, 16)), photos(channels=1)
    m.prepare()
    assert m.loss(b).total.isfinite() and m.translate(b.x).shape == b.x.shape


# The painting travels with the run


def test_a_run_goes_on_and_answers_without_the_file_of_the_painting(tmp_path):
    file = tmp_path / "painting.png"
    Image.fromarray(((mosaic(40).transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)).save(file)
    run, data = small_run("faststyle", tmp_path / "a", options=dict(style=str(file)), images=64)
    for _ in itertools.islice(fit(run, data), 2):
        pass
    run.save()
    known = {name: g.clone() for name, g in run.student.painting().items()}
    run.close()
    file.unlink()
    again = Run.resume(tmp_path / "a")
    for _ in fit(again, data):
        pass
    assert all(torch.equal(g, known[name]) and bool(g.any()) for name, g in again.student.painting().items())
    assert again.model.translate(engine.put(data.take(data.held_out[:1])).x).isfinite().all()
    with pytest.raises(BadData, match=r"--style: there is no image .*painting.png"):
        model(style=str(file)).prepare()


def test_a_painting_is_scaled_turned_upright_and_laid_on_white(tmp_path):
    clear = Image.new("RGBA", (60, 30), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 30, 30))
    clear.save(tmp_path / "clear.png")
    x = painting(str(tmp_path / "clear.png"), 20)
    assert x.shape == (1, 3, 20, 40)
    assert torch.allclose(x[0, :, 10, 5], torch.tensor([-1.0, -1, 1])) and float(x[0, :, 10, 35].min()) == 1
    assert painting(str(tmp_path / "clear.png"), 100).shape == (1, 3, 30, 60), "enlarged for nothing"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 30)).save(tmp_path / "turned.jpg", exif=exif)
    assert painting(str(tmp_path / "turned.jpg"), 100).shape == (1, 3, 60, 30)
    Image.new("RGB", (60, 4)).save(tmp_path / "thin.png")
    with pytest.raises(BadData, match=r"too small|60x4"):
        painting(str(tmp_path / "thin.png"), 100)


def saved(x: np.ndarray, file: Path) -> str:
    """A picture (3, H, W) in [-1, 1] as a file."""
    Image.fromarray(((x.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)).save(file)
    return str(file)


def test_a_grey_painting_of_16_bits_is_no_white_one(tmp_path):
    deep = np.linspace(0, 65535, 32 * 24).reshape(24, 32).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    x = painting(str(tmp_path / "deep.png"), 24)
    assert x.shape == (1, 3, 24, 32) and torch.equal(x[:, 0], x[:, 1])
    assert np.allclose(x[0, 0].numpy(), deep / 32767.5 - 1, atol=0.01)


def test_a_file_that_is_no_painting_is_refused_as_among_training_images(tmp_path):
    (tmp_path / "drawing.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(99))
    (tmp_path / "cut.png").write_bytes(Path(saved(mosaic(40), tmp_path / "a.png")).read_bytes()[:-400])
    for name in ("drawing.eps", "cut.png", "."):
        with pytest.raises(BadData, match=r"--style: .*cannot be used"):
            painting(str(tmp_path / name), 24)


def test_a_run_has_one_painting_wherever_it_lies(tmp_path):
    one, other = saved(mosaic(40), tmp_path / "one.png"), saved(-mosaic(40), tmp_path / "other.png")
    small = dict(network="random", width=4, blocks=1, size=16, style_size=32, batch=4)

    def go_on(images: int, **options: object) -> None:
        likeness.train("faststyle", "shapes:40", tmp_path / "run", images=images, progress=False, **options)

    go_on(8, style=one, **small)
    written = (tmp_path / "run/config.json").read_bytes()
    with pytest.raises(Refusal, match=r"other.png is not the painting that this run has been trained with"):
        go_on(12, style=other)
    with pytest.raises(Refusal, match=r"there is no file .*gone.png; leave --style out"):
        go_on(12, style=str(tmp_path / "gone.png"))
    assert (tmp_path / "run/config.json").read_bytes() == written, "it says what it has not learnt"
    moved = tmp_path / "elsewhere.png"
    Path(one).rename(moved)
    go_on(12, style=str(moved))
    assert json.loads((tmp_path / "run/config.json").read_text())["options"]["style"] == str(moved)
    moved.unlink()
    go_on(16)
    go_on(20, style=str(moved))


def test_a_run_goes_on_with_the_network_it_began_with(monkeypatch):
    m = model()
    m.prepare()
    again = model()
    again.load_state_dict(m.state_dict())
    again.prepare()
    monkeypatch.setattr(faststyle.RandomBlocks, "sha256", "cd" * 32)
    with pytest.raises(Refusal, match="not those that this run has been trained with"):
        again.prepare()


def test_a_run_from_before_files_were_remembered_goes_on(tmp_path):
    m = model()
    m.prepare()
    old = {k: v for k, v in m.state_dict().items() if k not in ("painted", "known")}
    again = model()
    again.load_state_dict(old)
    again.prepare()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in m.state_dict().items())


def test_its_scores_stand_between_the_photo_and_the_painting(tmp_path):
    """The photo has all of its content, the painting all of its style; what a run has learnt is between."""
    data = toy(48, channels=3)
    options = dict(style=saved(mosaic(40), tmp_path / "a.png"), network="random", content_weight=0.1)
    run, _ = small_run(
        "faststyle", tmp_path / "run", data, options=options, images=8 * 60, batch=8, rate=1e-2
    )
    for _ in fit(run, data):
        pass
    exam = evaluation.prepare(run, data, 8, 0, "none")
    cards = {(s.name, s.of): s for s in stylisation.cards(exam)}
    assert len(cards) == 6 and all(s.n == 8 for s in cards.values())
    value = {k: s.value for k, s in cards.items()}
    assert value["content error", "photo"] == 0 < value["content error", "model"]
    x = engine.put(data.take(exam.rows)).x
    assert value["style error", "photo"] == pytest.approx(
        run.model.chance(data.take(exam.rows))["style"], rel=1e-4
    )
    with torch.no_grad():
        made = run.model.terms(run.model.translate(x), x)
    assert value["style error", "model"] == pytest.approx(float(made["style"]), rel=1e-3)
    assert value["style error", "model"] < value["style error", "photo"]
    assert "random, which it has learnt with" in cards["style error", "model"].note
    (tmp_path / "a.png").unlink()
    assert {s.of for s in stylisation.cards(exam)} == {"model", "photo"}


# The quick answer


def network(blocks: int = 2, width: int = 8, outside: int = 3) -> Residual:
    """With normalisations of every kind: weights above, below and at 0."""
    torch.manual_seed(1)
    net = Residual(3, outside, width, blocks, resize=True)
    for m in net.modules():
        if isinstance(m, InstanceNorm):
            nn.init.normal_(m.weight, 0.5, 1.0)
            nn.init.normal_(m.bias)
            m.weight.data[0] = 0
    nn.init.normal_(net.layers[-1].bias)
    return engine.place(net)


@pytest.mark.parametrize(("blocks", "size"), [(2, (16, 16)), (0, (12, 28)), (1, (40, 8))])
@torch.no_grad()
def test_the_quick_answer_is_that_of_the_network(blocks, size):
    net, x = network(blocks), engine.put(photos(2)).x.new_empty(2, 3, *size).uniform_(-1, 1)
    assert quick_residual.suits(net, x)
    assert torch.allclose(quick_residual.answer(net, x), net(x), atol=1e-4)


@torch.no_grad()
def test_the_quick_answer_is_the_same_by_winograd_and_in_bf16(monkeypatch):
    net, x = network(1, 32), torch.rand(1, 3, 32, 32) * 2 - 1
    monkeypatch.setattr(quick_residual.winograd, "LEAST", 0)
    plain = net(x).tanh()
    assert torch.allclose(quick_residual.answer(net, x).tanh(), plain, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        usual, quick = net(x).float().tanh(), quick_residual.answer(net, x).tanh()
    off = [float((y - plain).square().mean().sqrt()) for y in (usual, quick)]
    assert quick.dtype == torch.float32 and off[1] < 1.5 * off[0] < 0.1


class Stands(torch.Tensor):
    """Numbers that are not there yet, as in inference/strips.py."""


def test_the_quick_answer_knows_what_it_is_for():
    net, x = network(), torch.zeros(1, 3, 16, 16)
    assert not quick_residual.suits(net, x), "a gradient is wanted"
    with torch.no_grad():
        assert not quick_residual.suits(net, x.as_subclass(Stands)), "a tensor that only stands for one"
        assert not quick_residual.suits(Residual(3, 3, 8, 1), x), "transposed convolutions"
        assert not quick_residual.suits(Residual(3, 3, 8, 1, norm=nn.BatchNorm2d, resize=True), x)


# Answers and refusals


def test_any_size_of_the_stride_is_painted_and_others_are_refused_in_words():
    m = model()
    assert m.translate(torch.zeros(2, 3, 20, 8)).shape == (2, 3, 20, 8)
    for size in ((18, 16), (16, 15), (4, 16)):
        with pytest.raises(Refusal, match=r"multiples of 4 from 8 on, and this has \d+x\d+"):
            m.translate(torch.zeros(1, 3, *size))
    with pytest.raises(Refusal, match="take the paint off"):
        m.translate(torch.zeros(1, 3, 16, 16), back=True)


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (Spec(3, 18), {}, r"18 pixels are not a multiple of 4.*--size 16"),
        (Spec(3, 4), {}, r"--size 8"),
        (Spec(2, 16), {}, "grey or RGB"),
        (RGB, dict(style_layers="block1_conv2,nothing"), "has no layer 'nothing'"),
        (RGB, dict(style_layers="block4_conv1"), "random has no layer 'block4_conv1'"),
        (RGB, dict(style_layers=" , "), "names no layer"),
        (RGB, dict(style="x.png", style_weight=0.0), "not seen; leave --style out"),
    ],
)
def test_what_cannot_be_painted_is_refused_in_words(spec, options, words):
    with pytest.raises(Refusal, match=words):
        model(spec, **options)


def test_a_black_painting_has_no_style(tmp_path, monkeypatch):
    Image.new("RGB", (32, 32), "black").save(tmp_path / "black.png")
    monkeypatch.setattr(paintings, "painting", lambda *_: torch.zeros(1, 3, 32, 32))
    with pytest.raises(Refusal, match="has nothing that block1_conv2 sees"):
        model(style=str(tmp_path / "black.png")).prepare()


# A known answer


def test_a_style_of_one_colour_makes_photos_of_that_colour(tmp_path):
    """The texture of a red wall is red: its Gram matrices are met by no other constant colour."""
    Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / "red.png")
    data = toy(48, channels=3)
    options = dict(style=str(tmp_path / "red.png"), content_weight=0.0, blocks=1, width=8)
    run, _ = small_run("faststyle", tmp_path / "a", data, options=options, images=8 * 120, batch=8, rate=1e-2)
    before = run.model.chance(data.take(data.held_out[:8]))["style"]
    for _ in fit(run, data):
        pass
    x = engine.put(data.take(data.held_out[:8])).x
    with torch.no_grad():
        made = run.model.translate(x)
        after = run.student.terms(made, x)["style"].item()
    red = torch.tensor([200, 30, 30]) / 127.5 - 1
    colour = made.mean((0, 2, 3)).cpu()
    assert after < 0.1 * before and float((colour - red).abs().max()) < 0.35
    assert float((x.mean((0, 2, 3)).cpu() - red).abs().max()) > 0.7, "the photos were red already"


def test_brightness_and_contrast_of_a_photo_are_taken_away():
    """What docs/faststyle.md says fails: a dark photo of little contrast is painted as the photo itself."""
    torch.manual_seed(0)
    model = FastStyle(spec=Spec(3, 16), width=8, blocks=1, network="random")
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    painted = model.translate(x)
    assert (painted - model.translate(0.3 * x - 0.6)).abs().max() < 0.01 < painted.std() / 3
    assert (painted - model.translate(x.mT)).abs().max() > 0.05, "it is no constant"
