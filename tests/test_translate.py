"""Photos through a run from image to image: names, files, sizes, tasks, and what is refused."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from likeness import api, cli, engine, figures
from likeness.core import Condition, Model, Refusal, Spec
from likeness.data import photos, tasks
from likeness.inference import strips, tiles, translate

INVERT = '''"""The negative of an image."""

import torch
from torch import nn
from likeness.core import Loss, Model, Refusal


class Negative(Model):
    takes = ("image",)

    def build(self):
        self.p, self.stride = nn.Parameter(torch.zeros(1)), 4

    def loss(self, batch):
        return Loss((self.p - 1).square().sum())

    def translate(self, x, back=False):
        if back:
            raise Refusal("negative has no way back; leave --back out.")
        assert x.shape[2] % 4 == x.shape[3] % 4 == 0
        return -x
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs: `neg`, which answers with the negative, and small ones of tasks."""
    here = tmp_path_factory.mktemp("translate")
    (here / "negative.py").write_text(INVERT)
    likeness.train(
        str(here / "negative.py"), "hidden-map", here / "neg", size=16, images=8, batch=8, progress=False
    )
    return here


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    return tmp_path


def photo(path, w=30, h=21, mode="RGB", **more):
    levels = np.random.default_rng(w * h).integers(0, 256, (h, w, 4), dtype=np.uint8)
    image = Image.fromarray({"RGB": levels[..., :3], "L": levels[..., 0], "RGBA": levels}[mode])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **more)
    return np.asarray(image)


def asked(*words):
    return cli.main(["translate", *map(str, words)])


def test_a_photo_is_translated_at_its_own_size_under_its_own_name(here, capsys):
    levels = photo(here / "in" / "sub" / "a.png")
    assert asked("neg", here / "in", "-o", here / "out", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    out = here / "out" / "sub" / "a.png"
    assert (np.asarray(Image.open(out)) == 255 - levels).all()
    recipe = figures.read_recipe(out)
    assert (
        recipe["run"] == "neg"
        and recipe["photo"] == "sub/a.png"
        and recipe["command"].startswith("likeness translate neg")
    )
    assert result["schema"] == 2 and result["images"][0]["path"] == str(out) and result["images"][0]["new"]
    assert Image.open(result["page"]).size[1] > 200


def test_exif_is_kept_and_its_turn_applied_once(here):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0xA002] = 30
    photo(here / "p.jpg", exif=exif, quality=100, subsampling=0)
    upright = np.asarray(Image.open(here / "p.jpg").transpose(Image.Transpose.ROTATE_270)).astype(int)
    for kind in ("same", "png", "webp"):
        assert asked("neg", here / "p.jpg", "-o", here / kind, "--format", kind) == 0
        out = here / kind / f"p.{'jpg' if kind == 'same' else kind}"
        with Image.open(out) as image:
            there = image.getexif()
            assert image.size == (21, 30) and there.get(0x0112, 1) == 1 and there[0x010F] == "Maker"
            assert there.get_ifd(0x8769)[0xA002] == 21
            far = abs(np.asarray(image).astype(int) - (255 - upright))
            assert far.max() <= (0 if kind != "same" else 40) and far.mean() < 6
        assert figures.read_recipe(out)["model"] == "method.py"


def test_transparency_is_put_back_and_lies_on_the_background(here, capsys):
    levels = photo(here / "p.png", mode="RGBA").astype(float)
    assert asked("neg", here / "p.png", "-o", here / "out") == 0
    out = np.asarray(Image.open(here / "out" / "p.png")).astype(float)
    clear = levels[..., 3:] / 255
    assert (out[..., 3] == levels[..., 3]).all()
    assert abs(out[..., :3] - (255 - levels[..., :3] * clear - 255 * (1 - clear))).max() <= 1.5
    assert "opacity is put back" in capsys.readouterr().err
    assert asked("neg", here / "p.png", "-o", here / "jpg", "--format", "jpg") == 0
    assert "--format png keeps it" in capsys.readouterr().err


def test_nothing_is_overwritten_and_what_is_done_is_not_done_again(here, capsys):
    photo(here / "a" / "p.png")
    photo(here / "b" / "p.png", 24, 16)
    out = here / "out"
    assert asked("neg", here / "a" / "p.png", "-o", out) == 0
    first = (out / "p.png").read_bytes()
    assert asked("neg", here / "a" / "p.png", here / "b" / "p.png", "-o", out) == 0
    assert "was there already" in capsys.readouterr().out
    assert (out / "p.png").read_bytes() == first and Image.open(out / "p-2.png").size == (24, 16)
    assert not (out / "p-3.png").exists()


MADE = dict(
    pix2pix=("outlines:24", "--width", "4"),
    cyclegan=("day-night:24", "--width", "4", "--blocks", "1"),
    superres=("shapes:24", "--task", "upscale2", "--width", "4", "--depth", "1"),
    faststyle=("shapes:24", "--network", "random", "--width", "4", "--blocks", "1"),
    ddpm=("outlines:24", "--scale", "0.25", "--timesteps", "4"),
)


@pytest.mark.parametrize("model", MADE)
def test_every_model_from_image_to_image_goes_from_training_to_files(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ("--size", "16", "--images", "4", "--batch", "4", "--no-report")
    assert cli.main(["train", model, MADE[model][0], "r", *MADE[model][1:], *few]) == 0
    photo(tmp_path / "p.png")
    for way in ((), ("--back",)) if model == "cyclegan" else ((),):
        assert asked("r", "p.png", *way) == 0
    scale = 2 if model == "superres" else 1
    made = sorted((tmp_path / "r" / "translations").glob("p*.png"))
    assert len(made) == (2 if model == "cyclegan" else 1)
    for path in made:
        assert Image.open(path).size == (30 * scale, 21 * scale)


def test_a_result_of_another_run_of_that_name_or_of_another_question_is_not_this_one(home, here, capsys):
    photo(here / "p.png")
    other = here / "neg"
    few = dict(size=16, images=8, batch=8, progress=False)
    likeness.train(str(home / "negative.py"), "hidden-map", other, rate=0.1, **few)
    out = here / "out"
    for number, words in enumerate([["neg"], [other], ["neg", "--size", "10"], ["neg"]], 1):
        assert asked(*words, here / "p.png", "-o", out) == 0
        assert ("was there already" in capsys.readouterr().out) == (number == 4)
    assert len(list(out.glob("p*.png"))) == 3
    plain, small = figures.read_recipe(out / "p.png"), figures.read_recipe(out / "p-3.png")
    assert small["size"] == 10 and not translate._same(out / "p-3.png", plain)


def test_a_mask_that_was_painted_anew_makes_another_result(tmp_path):
    able, at = able_for("inpaint", mask=tmp_path / "m.png"), photos.Photo("p", np.zeros((3, 8, 8), np.uint8))
    digests = set()
    for level in (0, 255):
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(tmp_path / "m.png")
        digests.add(json.dumps(translate.recipe_of(able, at)))
    assert len(digests) == 2


def test_a_command_of_thousands_of_photos_fits_into_every_file(here):
    from likeness.cli.translate import shortened

    names = [f"photos/a long name of a photo {k}.jpg" for k in range(3_500)]
    text = shortened(["neg", *names, "-o", names[7], "--format", "jpg"], names)
    assert text.startswith("likeness translate neg 'photos/a long name of a photo 0.jpg' ")
    assert text.endswith(f"4.jpg' ... and 3,495 more -o '{names[7]}' --format jpg") and len(text) < 400
    assert shortened(["neg", "a", "--back", "b c"], ["a", "b c"]) == "likeness translate neg a --back 'b c'"


def test_a_recipe_too_long_for_jpeg_is_whole_and_says_what_it_lacks(here):
    photo(here / "p.jpg")
    able, found = api.open("neg").translator(here / "p.jpg", back=False, size=0, mask=None, seed=0)
    recipe = dict(command="x" * 70_000, run="neg")
    (result,) = translate.through(able, found, recipe, here / "out")
    there = figures.read_recipe(result.path)
    assert there["run"] == "neg" and there["left_out"] == ["command"] and "command" not in there
    (again,) = translate.through(able, found, recipe, here / "out")
    assert isinstance(again, translate.Done) and again.path == result.path
    figures.write(here / "sheet.jpg", result.image, recipe)
    assert figures.read_recipe(here / "sheet.jpg")["left_out"] == ["command"]


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_while_a_photo_is_computed_is_not_overwritten(here, monkeypatch, links):
    """Also a link that leads nowhere, on disks with hard links and without."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    photo(here / "p.png")
    out, plain = here / "out", translate.one
    out.mkdir()
    for name in ("p.png", "before-after.png"):
        (out / name).symlink_to(here / "nowhere.png")

    def slow(*args):
        (out / "p-2.png").write_text("of another program")
        return plain(*args)

    monkeypatch.setattr(translate, "one", slow)
    assert asked("neg", here / "p.png", "-o", out) == 0
    assert not (here / "nowhere.png").exists() and (out / "p.png").is_symlink()
    assert (out / "p-2.png").read_text() == "of another program"
    assert figures.read_recipe(out / "p-3.png")["photo"] == "p.png"
    assert figures.read_recipe(out / "before-after-2.png")["photos"] == ["p.png"]
    assert len(list(out.iterdir())) == 5  # and nothing temporary


@pytest.mark.parametrize(
    "words, lesson",
    [
        ("neg", "no photos were named"),
        ("neg nowhere.jpg", "there is no folder, file or set called 'nowhere.jpg'"),
        ("neg {in} -o {in}", "the folder of the photos themselves"),
        ("neg {in} -o {in}/out", "inside the folder of the photos"),
        ("neg {in}/p.png --format bmp", "none of same, png, jpg, webp"),
        ("neg {in}/p.png --back -o {out}", "no way back"),
        ("neg {in}/p.png --mask {in}/p.png", "--task inpaint"),
        ("neg {in}/p.png -o {in}/p.png", "is a file; name a folder"),
        ("neg {in}/empty.png -o {out}", "zero bytes"),
        ("neg {in}/none -o {out}", "holds no photos"),
    ],
)
def test_errors_are_lessons(here, capsys, words, lesson):
    photo(here / "in" / "p.png")
    (here / "in" / "empty.png").touch()
    (here / "in" / "none").mkdir()
    assert asked(*words.replace("{in}", str(here / "in")).replace("{out}", str(here / "out")).split()) in (
        2,
        65,
    )
    err = capsys.readouterr().err
    assert lesson in err and "Traceback" not in err


def test_a_file_that_is_none_among_good_ones_is_skipped_and_told(here, capsys):
    photo(here / "in" / "p.png")
    (here / "in" / "empty.png").touch()
    (here / "in" / "text.png").write_text("hello")
    assert asked("neg", here / "in", "-o", here / "out", "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert [at["name"] for at in result["images"]] == ["p.png"]
    assert {at["name"]: at["reason"] for at in result["skipped"]} == {
        "empty.png": "empty",
        "text.png": "not images",
    }
    assert "empty.png is skipped (empty: zero bytes)" in err


def test_a_run_that_cannot_translate_names_those_that_can(home, here, capsys):
    likeness.train("vae", "digits", home / "vae", images=64, batch=64, progress=False)
    assert asked("vae", "x.png") == 2
    err = capsys.readouterr().err
    assert "vae cannot translate" in err and "cyclegan" in err and "sample" in err


def test_ctrl_c_keeps_what_is_done(here, capsys, monkeypatch):
    for k in range(3):
        photo(here / "in" / f"{k}.png", 20 + k)
    plain, calls = translate.one, []

    def some(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(translate, "one", some)
    assert asked("neg", here / "in", "-o", here / "out") == 130
    assert "2 of 3 photos are done" in capsys.readouterr().err
    assert sorted(p.name for p in (here / "out").iterdir()) == ["0.png", "1.png"]
    monkeypatch.setattr(translate, "one", plain)
    assert asked("neg", here / "in", "-o", here / "out") == 0
    assert {"0.png", "1.png", "2.png"} <= {p.name for p in (here / "out").iterdir()}


def test_a_photo_smaller_than_the_network_is_translated_and_that_is_said(here, capsys):
    spec = Spec(3, 32, source=(3, 32))
    able = translate.Translator(Shifted(spec=spec), {}, translate.How())
    x, _, notes = able.prepared(photos.Photo("p", np.full((3, 9, 40), 7, np.uint8)))
    assert "smaller than the 16 pixels" in notes[0]
    assert able.translate(x).shape == (9, 40, 3)


class Shifted(Model):
    """Fully convolutional, of stride 16, with two scales."""

    takes = ("image",)

    def build(self):
        self.net, self.stride = torch.nn.Conv2d(3, 3, 3, 1, 1), 16

    def translate(self, x, back=False):
        assert x.shape[2] % 16 == x.shape[3] % 16 == 0 and min(x.shape[2:]) >= 32
        return self.net(x)


@pytest.mark.parametrize("size", [(33, 50), (64, 64), (16, 301)])
def test_a_large_photo_is_what_a_small_one_is(size, monkeypatch):
    """In strips and in one piece, cut back to the size of the photo."""
    torch.manual_seed(0)
    able = translate.Translator(Shifted(spec=Spec(3, 32, source=(3, 32))), {}, translate.How())
    x = np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8)
    whole = able.translate(x)
    monkeypatch.setattr(translate, "AT_ONCE", 0)
    monkeypatch.setattr(engine, "native_bf16", lambda: False)
    monkeypatch.setattr(strips, "WORKING", 20_000)
    shares = []
    assert whole.shape == (*size, 3)
    assert abs(able.translate(x, notify=shares.append).astype(int) - whole).max() <= 1  # of 255: rounding
    assert shares[-1] == 1


def test_bf16_is_used_where_it_changes_little(monkeypatch):
    torch.manual_seed(0)
    model = Shifted(spec=Spec(3, 32, source=(3, 32)))
    x = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    monkeypatch.setattr(translate, "AT_ONCE", 0)
    for native, gain, wanted in ((True, 0.1, True), (False, 0.1, False), (True, 30.0, False)):
        monkeypatch.setattr(engine, "native_bf16", lambda native=native: native)
        model.net.weight.data.normal_().mul_(gain)
        assert translate.Translator(model, {}, translate.How()).bf16(x) is wanted


def test_a_mirror_goes_on_and_on():
    x = np.arange(3)[None, None].repeat(2, 1)
    assert translate.mirrored(x, 2, 9)[0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert translate.mirrored(x[:, :1, :1], 3, 2).tolist() == [[[0, 0]] * 3]


# Tasks


def able_for(task, channels=3, **how):
    planes = {"colourise": 1, "edges": 1, "inpaint": channels + 1}.get(task, channels)

    class Same(Model):
        takes = ("image",)

        def build(self):
            pass

        def translate(self, x, back=False):
            return x[:, :1].expand(-1, 3, -1, -1)

    return translate.Translator(
        Same(spec=Spec(channels, 32, source=(planes, 32))), {"task": task}, translate.How(**how)
    )


@pytest.mark.parametrize("task", ["colourise", "edges"])
def test_a_run_of_a_task_is_given_what_the_task_makes_of_the_photo(task):
    x = np.random.default_rng(0).integers(0, 256, (3, 40, 52), dtype=np.uint8)
    given, hole, notes = able_for(task).prepared(photos.Photo("p", x))
    assert hole is None and not notes and given.shape == (1, 40, 52)
    assert (given == tasks.Task(task, (1, 40, 52)).source(x[None])[0]).all() and given.std() > 1


def test_a_hole_is_what_is_transparent_or_what_a_mask_says(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 40, 52), dtype=np.uint8)
    clear = np.full((40, 52), 255, np.uint8)
    clear[5:20, 10:30] = 0
    able = able_for("inpaint")
    given, hole, _ = able.prepared(photos.Photo("p", x, clear))
    assert (
        (hole == (clear == 0)).all()
        and (given[3] == 255 * hole).all()
        and (given[:3, hole] == tasks.HOLE).all()
    )
    done = translate.one(able, photos.Photo("p", x, clear), {})
    kept = x.transpose(1, 2, 0)
    assert (done.image[~hole] == kept[~hole]).all() and (done.image[hole] == tasks.HOLE).all()
    assert done.opacity is None
    Image.fromarray(hole).save(tmp_path / "mask.png")
    masked, same, _ = able_for("inpaint", mask=tmp_path / "mask.png").prepared(photos.Photo("p", x))
    assert (same == hole).all() and (masked == given).all()
    with pytest.raises(Refusal, match="--mask"):
        able.prepared(photos.Photo("p", x))
    with pytest.raises(Refusal, match="52 x 40"):
        able_for("inpaint", mask=tmp_path / "mask.png").prepared(photos.Photo("p", x[:, :20]))


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_half_transparent_beside_the_hole_stays_so(tmp_path, masked):
    x = np.random.default_rng(0).integers(0, 256, (3, 40, 52), dtype=np.uint8)
    opacity = np.full((40, 52), 255, np.uint8)
    opacity[:, 30:], opacity[5:20, 10:35] = 200, 0
    hole = opacity == 0
    if masked:
        hole = np.zeros((40, 52), bool)
        hole[5:30, 10:45] = True
        Image.fromarray(hole).save(tmp_path / "mask.png")
    able = able_for("inpaint", **(dict(mask=tmp_path / "mask.png") if masked else {}))
    done = translate.one(able, photos.Photo("p", x, opacity), {})
    assert (done.opacity == np.where(hole, 255, opacity)).all() and (done.opacity == 200).any()
    assert "the opacity outside the hole is put back" in done.notes[0]


def test_grey_photos_and_colours_are_told():
    grey = np.zeros((1, 40, 40), np.uint8)
    assert "learnt from colours" in able_for("").prepared(photos.Photo("p", grey))[2][0]
    able = translate.Translator(Shifted(spec=Spec(1, 32, source=(1, 32))), {}, translate.How())
    assert "colours are left out" in able.prepared(photos.Photo("p", grey.repeat(3, 0)))[2][0]


def test_size_scales_the_short_side_and_large_photos_are_told_of_it():
    x = np.zeros((3, 300, 200), np.uint8)
    plain, _, notes = able_for("").prepared(photos.Photo("p", x))
    small, _, none = able_for("", size=32).prepared(photos.Photo("p", x))
    assert plain.shape == (3, 300, 200) and "--size 32" in notes[0]
    assert small.shape == (3, 48, 32) and not none


# Denoisers


def test_tiles_cover_all_and_their_weights_blend_to_what_is_there():
    for length, size in ((64, 64), (65, 64), (300, 64), (127, 32)):
        at = tiles.places(length, size)
        assert at[0] == 0 and at[-1] == length - size and max(np.diff(at), default=0) <= size // 2
    x, blend = torch.rand(3, 70, 90), tiles.Blend(3, 70, 90)
    for t in tiles.places(70, 32):
        for left in tiles.places(90, 32):
            blend.add(x[:, t : t + 32, left : left + 32], t, left)
    assert torch.allclose(blend.image, x, atol=1e-5) and blend.disagreement < 1e-3
    blend.add(x[:, :32, :32] + 1, 0, 0)
    assert blend.disagreement > 0.05


def test_noise_belongs_to_the_pixel_and_not_to_the_tile():
    corners = [(0, 0), (8, 0), (3, 20)]
    field = tiles.Field(5, 7, corners, (40, 50), 16)
    first, second = field.normal(3, 16, 16), field.normal(3, 16, 16)
    assert torch.equal(first[0, :, 8:], first[1, :, :8]) and not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    again = tiles.Field(5, 7, corners, (40, 50), 16)[1:]
    assert torch.equal(again.normal(3, 16, 16), first[1:])
    same = field.uniform()
    assert (same == same[0]).all()  # the class of all tiles is one
    whole = tiles.Field(1, 2, [(0, 0)], (256, 256), 256).normal(3, 256, 256)
    assert abs(whole.mean()) < 0.01 and abs(whole.std() - 1) < 0.01
    assert (
        abs((whole[..., 1:] * whole[..., :-1]).mean()) < 0.01
        and abs((whole[0, 0] * whole[0, 1]).mean()) < 0.01
    )


class Drawn(Model):
    """Draws noise plus its source; knows squares of 16 only."""

    takes = ("image",)

    def build(self):
        pass

    def sample(self, noise, y: Condition | None = None):
        assert y is not None and y.image is not None and y.image.shape[2:] == (8, 8)
        yield torch.nn.functional.interpolate(y.image, scale_factor=2.0) + 0.1 * noise.normal(3, 16, 16)


def test_a_denoiser_draws_tiles_that_meet_without_a_seam():
    """One whose pixels see only themselves draws the same in all tiles, so that no seam is left."""
    able = translate.Translator(Drawn(spec=Spec(3, 16, source=(3, 8))), {}, translate.How(seed=3))
    x = np.random.default_rng(0).integers(60, 200, (3, 13, 21), dtype=np.uint8)
    out = able.translate(x, 11)
    assert out.shape == (26, 42, 3) and able.tiles > 4 and able.disagreement < 0.5
    assert (out == able.translate(x, 11)).all() and (out != able.translate(x, 12)).any()
    given = x.repeat(2, 1).repeat(2, 2).transpose(1, 2, 0)
    assert 5 < (out.astype(float) - given).std() < 20
    assert able.translate(x[:, :5, :5], 1).shape == (10, 10, 3)


def test_a_denoiser_without_pairs_and_a_way_back_are_refused():
    with pytest.raises(Refusal, match="cyclegan for both"):
        translate.Translator(Drawn(spec=Spec(3, 16, source=(3, 8))), {}, translate.How(back=True))
    with pytest.raises(Refusal, match="pairs or two domains"):
        translate.Translator(Drawn(spec=Spec(3, 16)), {}, translate.How())


def test_a_run_that_learns_from_single_images_translates_photos(here):
    """As faststyle does, whose source is a photo and nothing beside it."""
    from likeness.models.faststyle import FastStyle

    model = FastStyle(spec=Spec(3, 16), width=4, blocks=0, network="random")
    x = np.random.default_rng(0).integers(0, 256, (3, 19, 26), dtype=np.uint8)
    assert translate.Translator(model, {}, translate.How()).translate(x).shape == (19, 26, 3)


def test_a_way_back_that_is_not_there_is_refused_before_any_photo_is_listed(here, monkeypatch, capsys):
    monkeypatch.setattr(api.photos, "find", lambda *_: pytest.fail("photos were listed"))
    assert asked("neg", here / "p.png", "--back") == 2 and "no way back" in capsys.readouterr().err


# Python


def test_python_translates_files_and_tensors(here):
    levels = photo(here / "p.png")
    run = api.open("neg")
    (result,) = run.translate(here / "p.png", here / "out")
    assert (result.image == 255 - levels).all() and result.path == here / "out" / "p.png"
    assert result._repr_png_().startswith(b"\x89PNG") and result.pil().size == (30, 21)
    x = torch.rand(2, 3, 20, 24) * 2 - 1
    _, two = run.translate(x)
    assert abs(two.image / 127.5 - 1 + x[1].permute(1, 2, 0).numpy()).max() < 0.01
    with pytest.raises(Refusal, match="no way back"):
        run.translate(here / "p.png", back=True)
    with pytest.raises(Refusal, match="photos are"):
        run.translate(torch.zeros(3, 20, 20))


def test_the_question_has_its_verb():
    from likeness.core.questions import ASKED_BY

    assert ASKED_BY["translate"] == ("translate an image", "translate")
