"""Style transfer: closed forms of its losses, its gradient by finite differences, the walk, and the command.

The network is VGG16 with random weights of a known seed, so no file is needed.  Each promise is checked once more on
a fake that breaks it.
"""  # noqa: E501

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Adam

from likeness import api
from likeness.cli import main
from likeness.core import Refusal, final
from likeness.data import user_images
from likeness.engine.minimize import LBFGS, minimize
from likeness.figures import read_recipe
from likeness.inference import arbitrary, style_loss
from likeness.inference import style as transfer
from likeness.inference.style import How
from likeness.inference.style_loss import Goal, Objective
from likeness.parts import perceptual
from likeness.parts.perceptual import Perceptual

LAYERS = ("block1_conv2", "block2_conv1")
HOW = How(style_layers=LAYERS, content_layer=LAYERS[1], coarse=False, precision="fp32", steps=10)


def image(high: int, wide: int, seed: int) -> Tensor:
    """Blots of colour, (1, 3, H, W)."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, high // 4 + 1, wide // 4 + 1, generator=g) * 2 - 1
    return F.interpolate(coarse, (high, wide), mode="bilinear").contiguous()


@pytest.fixture(scope="module")
def net() -> Perceptual:
    torch.set_num_threads(1)
    return Perceptual("vgg16", LAYERS, weights="none", pooling="average")


def goal(net: Perceptual, content: Tensor, painting: Tensor, **how: float) -> Goal:
    return transfer.aim(net, content, [painting], [1.0], replace(HOW, **how), 0)


# Losses


def test_the_gram_matrix_of_a_constant_map_is_the_product_of_its_values():
    """G_cd = a_c a_d / C, at any size; without the division by H W it grows with the image."""
    a = torch.tensor([0.5, -2.0, 3.0])
    for size in ((4, 5), (8, 10)):
        h = a.view(1, 3, 1, 1).expand(1, 3, *size)
        assert torch.allclose(perceptual.gram(h)[0], torch.outer(a, a) / 3)
        fake = h.flatten(2) @ h.flatten(2).mT / 3
        assert not torch.allclose(fake[0], torch.outer(a, a) / 3)


def test_losses_by_hand():
    h, other = torch.arange(8.0).view(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    assert float(perceptual.content(h, other)) == pytest.approx(140 / 8)
    grams, ones = {"a": perceptual.gram(h)}, {"a": torch.ones(1, 2, 2)}
    by_hand = torch.tensor([[14.0, 38.0], [38.0, 126.0]]) / 8
    assert float(perceptual.style(grams, ones, {"a": 3.0})) == pytest.approx(
        3 * float((by_hand - 1).square().sum()) / 4
    )
    flat = torch.zeros(1, 1, 3, 4)
    flat[..., 2:] = 1
    assert float(perceptual.total_variation(flat)) == pytest.approx(
        3 / 9
    )  # one of three columns of differences


def double(net: Perceptual) -> Perceptual:
    twin = Perceptual("vgg16", LAYERS, weights="none", pooling="average")
    twin.net = twin.net.double()
    return twin


def slope_of(objective: Objective, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(objective(x).sum(), x)[0]


def test_the_gradient_is_that_of_finite_differences(net):
    twin = double(net)
    x, content, painting = (image(16, 12, seed).double() for seed in (0, 1, 2))
    objective = Objective(twin, goal(twin, content, painting, variation=0.3))
    slope, g = slope_of(objective, x), torch.Generator().manual_seed(3)
    for _ in range(3):
        way = torch.randn(x.shape, generator=g, dtype=torch.float64)
        by_steps = float(objective(x + 1e-5 * way) - objective(x - 1e-5 * way)) / 2e-5
        assert float((slope * way).sum()) == pytest.approx(by_steps, rel=1e-5)
        assert float((slope * way).sum()) / 2 != pytest.approx(by_steps, rel=1e-2), (
            "of a G taken for constant"
        )


def test_beyond_black_and_white_it_pulls_back_and_within_does_nothing(net):
    x, content, painting = (image(16, 12, seed) for seed in (0, 1, 2))
    free = goal(net, content, painting)._replace(outside=0.0)
    held, far = free._replace(outside=2.0), x.clone()
    far[0, 1, 3, 4], far[0, 2, 0, 0] = 1.5, -3.0
    assert torch.equal(slope_of(Objective(net, held), x), slope_of(Objective(net, free), x))
    more = float(Objective(net, held)(far) - Objective(net, free)(far))
    assert more == pytest.approx(2 * (0.5**2 + 2.0**2) / x.numel(), rel=1e-3)
    pull = slope_of(Objective(net, held), far) - slope_of(Objective(net, free), far)
    expected = torch.zeros_like(x)
    expected[0, 1, 3, 4], expected[0, 2, 0, 0] = (2 * 2 * d / x.numel() for d in (0.5, -2.0))
    assert torch.allclose(pull, expected, atol=1e-6)
    assert goal(net, content, painting).outside > 0


def test_the_gradient_of_the_gram_matrix_alone_is_that_of_finite_differences():
    h = torch.randn(1, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.eye(3, dtype=torch.float64)[None]
    assert torch.autograd.gradcheck(
        lambda h: perceptual.style({"a": perceptual.gram(h)}, {"a": target}), h.requires_grad_()
    )


def test_strips_give_what_the_whole_image_gives(net, monkeypatch):
    x, content, painting = image(52, 22, 0), image(52, 22, 1), image(40, 30, 2)
    aim = goal(net, content, painting, variation=0.1)
    whole = Objective(net, aim)
    loss, slope = whole(x), slope_of(whole, x)
    for rows in (8, 20):
        apart = Objective(net, aim, rows)
        assert torch.allclose(apart(x), loss, rtol=1e-5)
        assert float((slope_of(apart, x) - slope).norm() / slope.norm()) < 1e-5
    monkeypatch.setattr(Perceptual, "halo", lambda *_: 0)
    assert float((slope_of(Objective(net, aim, 8), x) - slope).norm() / slope.norm()) > 1e-3, "without a rim"


class Circular:
    """A network of circular convolutions and pools: what is shifted by its stride comes out shifted."""

    layers = LAYERS

    def __init__(self, net: Perceptual):
        self.net = net

    def features(self, x: Tensor, layers: tuple[str, ...] = ()) -> dict[str, Tensor]:
        y, out = self.net.net.prepare(x), {}
        for name, layer in self.net.net.nodes.items():
            if name.endswith("pool"):
                y = layer(y)
            else:
                y = F.conv2d(F.pad(y, [1] * 4, mode="circular"), layer.weight, layer.bias).relu()
            out[name] = y
            if name == LAYERS[-1]:
                return {n: out[n] for n in LAYERS}
        raise AssertionError


def test_the_style_loss_does_not_see_a_circular_shift_of_the_style(net):
    """Exactly so where borders are circular too, for shifts by whole places of the deepest layer; with zeros
    around the image the Gram matrices differ by what the borders contribute."""

    def grams(of: Perceptual | Circular, x: Tensor) -> list[Tensor]:
        return [perceptual.gram(h) for h in of.features(x).values()]

    def apart(of: Perceptual | Circular, x: Tensor, y: Tensor) -> float:
        both = zip(grams(of, x), grams(of, y))
        return max(float((a - b).norm() / a.norm()) for a, b in both)

    x = image(48, 64, 0)
    moved = x.roll((6, 10), (2, 3))
    with torch.no_grad():
        assert apart(Circular(net), x, moved) < 1e-5
        assert 1e-4 < apart(net, x, moved) < 0.05
        assert apart(Circular(net), x, x.flip(3)) > 1e-2, "a mirrored painting has another style"
        pixels = x - moved
        assert float(pixels.norm() / x.norm()) > 0.5, "what the content loss sees"


def test_the_content_loss_of_the_content_is_nothing(net):
    content, painting = image(32, 32, 0), image(32, 32, 1)
    objective = Objective(net, goal(net, content, painting, style_weight=0.0))
    assert float(objective(content)) == 0 and not slope_of(objective, content).any()
    assert float(objective(content.roll(2, 3))) > 1e-3


# The walk


def falls(net: Perceptual, optimizer, rate: float, steps: int, start: Tensor, aim: Goal) -> list[float]:
    return [
        float(s.loss.sum()) for s in minimize([start], Objective(net, aim), steps, rate, optimizer=optimizer)
    ]


def test_fifty_steps_of_lbfgs_take_a_twentieth_and_adam_takes_less(net):
    content, painting = image(32, 32, 0), image(32, 32, 1)
    aim = goal(net, content, painting, content_weight=1e-3)
    noise = transfer.started(content, replace(HOW, start="noise"))
    lbfgs, adam = (falls(net, *how, 50, noise, aim) for how in ((LBFGS, 0.1), (Adam, 0.05)))
    assert len(lbfgs) == len(adam) == 51 and lbfgs[0] == adam[0]
    assert min(lbfgs) < lbfgs[0] / 20 and min(lbfgs) < min(adam)
    steepest = falls(net, partial(LBFGS, history=0), 0.1, 50, noise, aim)
    assert min(steepest) > min(lbfgs) * 1.5, "without its pairs it is steepest descent"


def test_lbfgs_finds_the_minimum_of_a_bowl_and_takes_back_what_rises():
    g = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=g, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(12), torch.randn(12, generator=g, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return ((x - target) @ matrix @ (x - target))[None] / 2

    states = list(minimize([torch.zeros(12, dtype=torch.float64)], loss, 60, 0.1, optimizer=LBFGS))
    assert torch.allclose(states[-1].at[0], target, atol=1e-5)

    def rosenbrock(x: Tensor) -> Tensor:
        return ((1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)[None]

    *_, last = minimize([torch.tensor([-1.2, 1.0]).double()], rosenbrock, 80, 0.1, optimizer=LBFGS)
    assert torch.allclose(last.at[0], torch.ones(2).double(), atol=1e-4)


def test_style_alone_reproduces_the_gram_matrices(net):
    """Of one layer, within 150 steps; the photograph is far from that, and so is the start."""
    content, painting = image(32, 32, 0), image(32, 32, 1) / 2
    how = replace(HOW, content_weight=0.0, start="noise", steps=150, style_layers=LAYERS[:1])
    one = Perceptual("vgg16", how.layers, weights="none", pooling="average")
    state = final(transfer.style(one, content, [painting], how))
    (wanted,), (before,) = (style_loss.grams(one, x, LAYERS[:1]).values() for x in (painting, content))
    (made,) = style_loss.grams(one, state.x, LAYERS[:1]).values()
    assert float((made - wanted).norm() / wanted.norm()) < 0.01
    assert state.terms.style**0.5 < 0.01 < float((before - wanted).norm() / wanted.norm())


def test_shares_are_those_of_the_gram_matrices(net):
    content, a, b = (image(32, 32, seed) for seed in range(3))
    how = replace(HOW, shares=(3.0, 1.0))
    blended = transfer.aim(net, content, [a, b], transfer.shared(how, 2), how, 0).grams
    for name in LAYERS:
        one, other = (style_loss.grams(net, x, LAYERS)[name] for x in (a, b))
        assert torch.allclose(blended[name], 0.75 * one + 0.25 * other, rtol=1e-4)
    with pytest.raises(Refusal, match="2 paintings have 3 --shares"):
        transfer.shared(replace(HOW, shares=(1.0, 1.0, 1.0)), 2)


def test_luminance_keeps_the_colours_of_the_content(net):
    content, painting = image(32, 40, 0) / 2, image(32, 32, 1)
    kept = transfer.coloured(painting[:, :, :, :32], content[..., :32], replace(HOW, colour="luminance"))
    yiq = torch.tensor(transfer.YIQ)
    both = [torch.einsum("oc,bchw->bohw", yiq, x) for x in (kept, content[..., :32], painting)]
    assert torch.allclose(both[0][:, 1:], both[1][:, 1:], atol=1e-5)
    assert torch.allclose(both[0][:, :1], both[2][:, :1], atol=1e-5)
    grey = transfer.grey_of(painting)
    moved = transfer.like_luminance(grey, content)
    assert float(moved.mean()) == pytest.approx(float(content.mean()), abs=1e-5)


def test_histogram_gives_the_style_the_content_s_mean_and_covariance():
    content, painting = image(64, 64, 0) / 3, image(64, 48, 1) / 2
    a, b = (x[0].flatten(1) for x in (transfer.like_colours(painting, content), content))
    assert torch.allclose(a.mean(1), b.mean(1), atol=1e-3) and torch.allclose(
        torch.cov(a), torch.cov(b), atol=1e-3
    )


def test_sizes_double_and_strips_fit_into_the_memory(net):
    large = transfer.planned(net, (1536, 2048), replace(HOW, coarse=True, memory=30.0))
    assert large.sizes[-1] == (1536, 2048) and large.rows[-1] == 0
    assert [b[0] / a[0] for a, b in zip(large.sizes, large.sizes[1:])] == [2.0] * (len(large.sizes) - 1)
    tight = transfer.planned(net, (1536, 2048), replace(HOW, coarse=True, memory=3.0))
    assert 0 < tight.rows[-1] < 1536 and tight.gigabytes <= 3.0 < large.gigabytes


def test_the_same_seed_gives_the_same_bits(net):
    how = replace(HOW, start="noise", steps=3)
    one, two, other = (
        final(transfer.style(net, image(32, 32, 0), [image(32, 32, 1)], h)).x
        for h in (how, how, replace(how, seed=1))
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


# At once


def test_adain_and_wct_move_mean_and_covariance():
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(2, 4, 4, generator=g)
    c, s = (
        torch.einsum("oc,bchw->bohw", m, torch.randn(1, 4, 40, n, generator=g)) + i
        for i, (m, n) in enumerate(zip(mix, (40, 30)))
    )
    flat = {
        name: move(c, s)[0].flatten(1) for name, move in (("adain", arbitrary.adain), ("wct", arbitrary.wct))
    }
    wanted = s[0].flatten(1)
    for x in flat.values():
        assert torch.allclose(x.mean(1), wanted.mean(1), atol=1e-3)
        assert torch.allclose(x.var(1, correction=0), wanted.var(1, correction=0), rtol=2e-3)
    assert torch.allclose(torch.cov(flat["wct"]), torch.cov(wanted), atol=2e-2)
    assert not torch.allclose(torch.cov(flat["adain"]), torch.cov(wanted), atol=2e-2)
    assert torch.allclose(arbitrary.wct(c, c), c, atol=1e-3) and torch.allclose(
        arbitrary.adain(c, c), c, atol=1e-3
    )


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    for name, seed, size in (("photo", 0, (40, 56)), ("painting", 1, (48, 48)), ("tiny", 2, (12, 12))):
        pixels = ((image(*size, seed)[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
        Image.fromarray(pixels).save(f"{name}.png")
    Image.fromarray(pixels[..., 0]).resize((64, 64)).save("ink.png")
    Image.new("RGB", (1, 1)).save("dot.png")
    return tmp_path


def networks(folder) -> list[str]:
    """Files as those of the distilled VGG19 and its decoders are, with random weights two channels wide."""
    g, encoders, decoders = torch.Generator().manual_seed(0), {}, {}

    def conv(into, name: str, inside: int, out: int, kernel: int = 3) -> None:
        into[f"{name}.weight"] = (
            torch.randn(out, inside, kernel, kernel, generator=g) / (inside * kernel**2) ** 0.5
        )
        into[f"{name}.bias"] = torch.zeros(out)

    for level in range(1, 6):
        conv(encoders, f"e{level}.conv0", 3, 3, 1)
        inside = 3
        for block in range(1, level + 1):
            for i in range(1, (1 if block == level else arbitrary.DEPTHS[block - 1]) + 1):
                conv(encoders, f"e{level}.conv{block}{i}", inside, 4)
                conv(decoders, f"d{level}.conv{block}{i}", 4, 3 if block == i == 1 else 4)
                inside = 4
    save_file(encoders, folder / "e.safetensors")
    save_file(decoders, folder / "d.safetensors")
    return ["--encoders", "e.safetensors", "--decoders", "d.safetensors"]


def test_at_once_on_the_command_line(there, capsys):
    files = networks(there)
    for kind in ("adain", "wct"):
        typed = ["style", "photo.png", "painting.png", "--arbitrary", kind, "-o", f"{kind}.png", *files]
        assert main(typed) == 0 and Image.open(f"{kind}.png").size == (56, 40)
        assert read_recipe(there / f"{kind}.png")["arbitrary"] == kind
    assert main(["style", "photo.png", "painting.png", "--arbitrary", "wct"]) == 69
    assert "type --encoders FILE" in capsys.readouterr().err


# The command


QUICK = ["--weights", "none", "--steps", "3", "--size", "48"]


def test_a_picture_with_its_recipe_a_film_and_frames(there, capsys):
    typed = ["style", "photo.png", "painting.png", "ink.png", "--shares", "2", "1", *QUICK]
    assert (
        main([*typed, "-o", "out.png", "--film", "out.gif", "--frames", "f", "--every", "2", "--json"]) == 0
    )
    held = json.loads(capsys.readouterr().out)
    recipe = read_recipe(there / "out.png")
    assert Image.open("out.png").size == (48, 34) and Image.open("out.gif").n_frames > 1
    assert recipe["style"] == ["painting.png", "ink.png"] and recipe["shares"] == [2.0, 1.0]
    assert held["loss"] == recipe["loss"] and sorted(p.name for p in (there / "f").iterdir())
    before = (there / "out.png").read_bytes()
    assert main([*typed, "-o", "out.png"]) == 2 and "nothing is overwritten" in capsys.readouterr().err
    assert (there / "out.png").read_bytes() == before
    assert main(typed) == 0 and main(typed) == 0
    assert len(list((there / "styled").iterdir())) == 2


def test_a_sheet_shows_nine(there):
    assert main(["style", "photo.png", "painting.png", "--sheet", "-o", "sheet.png", *QUICK]) == 0
    wide, high = Image.open("sheet.png").size
    assert wide > 3 * 56 and high > 3 * 40 and read_recipe(there / "sheet.png")["sheet"]


@pytest.mark.parametrize(
    ("typed", "why", "code"),
    [
        ("photo.png gone.png", "there is no image gone.png", 65),
        ("tiny.png painting.png", "tiny.png has 12x12 pixels, which is too small", 2),
        ("photo.png painting.png --colour sepia", "--colour is one of style, luminance, histogram", 2),
        ("photo.png painting.png --optimizer sgd", "--optimizer is one of lbfgs, adam", 2),
        ("photo.png painting.png --network resnet50", "--network is one of vgg16, vgg19", 2),
        ("photo.png painting.png --content-weight -1", "is not 0 or more", 2),
        ("photo.png painting.png --content-layer block9", "has no layer 'block9'", 2),
        ("photo.png painting.png --film film.mp4", "should end in .gif", 2),
        ("photo.png", "arguments are required: STYLE", 2),
        ("photo.png painting.png --shares nan", "--shares nan are not all numbers", 2),
        ("photo.png painting.png --shares 0", "not all 0", 2),
        ("photo.png painting.png --style-weight 1e300", "no finite number at step 0 (style ", 3),
        ("photo.png painting.png --arbitrary wct --film f.gif", "--weights, --film: of the opt", 2),
        ("photo.png painting.png --sheet --film f.gif", "--film: not of --sheet", 2),
        ("photo.png painting.png --strength 0.5 --encoders x", "--strength, --encoders: of --arbitrary", 2),
        ("photo.png dot.png", "dot.png cannot be used (too small: 1x1", 65),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(there, typed, why, code, capsys):
    quick = [] if "weights" in typed else ["--weights", "none", "--steps", "1"]
    assert main(["style", *typed.split(), *quick]) == code
    error = capsys.readouterr().err
    assert why in error and "Traceback" not in error


def test_notes_on_a_grey_painting_and_on_what_is_transparent(there, capsys):
    clear = Image.open("photo.png").convert("RGBA")
    clear.putalpha(100)
    clear.save("clear.png")
    assert main(["style", "clear.png", "ink.png", *QUICK]) == 0
    error = capsys.readouterr().err
    assert "ink.png is grey" in error and "clear.png: what is transparent is laid on white" in error


def test_an_image_that_was_turned_is_turned_back(there):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open("photo.png").save("turned.jpg", exif=exif)
    own = user_images.whole("turned.jpg")
    assert own.x.shape[2:] == (56, 40) and any("EXIF" in note for note in own.notes)


def test_in_python(there):
    made = api.style("photo.png", image(40, 40, 1)[0], size=48, weights="none", steps=2)
    assert made.x.shape == (1, 3, 34, 48) and made.recipe["content_weight"] == transfer.CONTENT_WEIGHT
    with pytest.raises(Refusal, match="unexpected keyword argument 'weight'"):
        api.style("photo.png", "painting.png", weights="none", weight=2)


def test_exif_and_profile_of_the_photo_are_kept_but_for_its_orientation(there):
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    Image.open("photo.png").save("turned.jpg", exif=exif, icc_profile=profile)
    for name in ("a.png", "a.jpg", "a.webp"):
        assert main(["style", "turned.jpg", "painting.png", "-o", name, *QUICK[:2], "--steps", "1"]) == 0
        with Image.open(name) as made:
            assert made.size == (40, 56) and made.info["icc_profile"] == profile
            assert made.getexif()[0x010F] == "Camera" and 0x0112 not in made.getexif()


def test_a_painting_larger_than_the_picture_counts_as_memory(net, monkeypatch):
    """Its Gram matrices are those of the whole, in strips that fit; and nothing keeps a graph of it."""
    large, small = (
        transfer.planned(net, (768, 1024), replace(HOW, memory=50, strokes=s)) for s in (8.0, 1.0)
    )
    assert large.gigabytes > 2 * small.gigabytes
    content, painting, asked = image(32, 32, 0), image(320, 320, 1), []
    tight = replace(HOW, memory=transfer.BASE + net.weights_gb() + 0.05)
    seen = Objective._seen
    monkeypatch.setattr(Objective, "_seen", lambda *a: asked.append(a[3]) or seen(*a))
    strips, whole = (transfer.aim(net, content, [painting], [1.0], how, 0).grams for how in (tight, HOW))
    assert len(asked) > 4 and not any(asked)
    for name in LAYERS:
        assert torch.allclose(strips[name], whole[name], rtol=1e-4)


def test_adam_yields_the_best_so_far(net):
    states = transfer.style(
        net, image(32, 32, 0), [image(32, 32, 1)], replace(HOW, optimizer="adam", steps=6)
    )
    losses = [state.loss for state in states]
    assert losses == sorted(losses, reverse=True)


def test_at_once_in_python(there):
    files = dict(zip(("encoders", "decoders"), networks(there)[1::2]))
    made = api.style("photo.png", "painting.png", arbitrary="wct", strength=0.5, **files)
    assert made.x.shape == (1, 3, 40, 56) and made.recipe["strength"] == 0.5
    with pytest.raises(Refusal, match="steps: of the optimisation"):
        api.style("photo.png", "painting.png", arbitrary="wct", steps=3, **files)
    with pytest.raises(Refusal, match="do nothing without it"):
        api.style("photo.png", "painting.png", strength=0.5)
