"""The verb: pictures with recipes, numbers that agree with them, frames of the way, and wrong requests told
in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small_run, toy
from likeness import figures
from likeness.cli.look import look
from likeness.core import BadData, Refusal
from likeness.features import opening
from likeness.reports import looks
from likeness.training.loop import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "classifier-toy"
    made, data = small_run("classifier", folder, toy(256, channels=3), images=640, batch=32)
    for _ in fit(made, data):
        pass
    made.close()
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "disc.png"
    Image.fromarray(toy(8, channels=3).x[0].transpose(1, 2, 0)).resize(
        (48, 32), Image.Resampling.NEAREST
    ).save(path)
    return path


def asked(capsys, *argv: object) -> dict:
    def unknown(name: str) -> None:
        raise AssertionError(name)

    assert look([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=unknown)


def test_saliency_writes_a_picture_and_all_its_numbers(run, photo, tmp_path, capsys):
    out = tmp_path / "new" / "a.png"
    said = asked(capsys, photo, "--network", run, "--samples", 3, "--steps", 30, "--sanity", "-o", out)
    recipe = figures.read_recipe(out)
    assert (
        recipe["look"] == "saliency"
        and recipe["of"] == said["of"]
        and recipe["samples"] == 3
        and recipe["weights"] == said["weights"]
    )
    with np.load(said["maps"]) as found:
        total = float(found["integrated_gradients"].sum(dtype=np.float64))
        assert (
            found["gradient"].shape == (3, 16, 16)
            and found["Grad-CAM"].shape == (1, 16, 16)
            and found["image"].shape == (3, 16, 16)
        )
        assert json.loads(str(found["recipe"]))["steps"] == said["complete"]["gradients"] <= 30
    assert said["complete"]["sum"] == pytest.approx(total, rel=1e-4, abs=1e-4)
    assert said["complete"]["error"] == pytest.approx(
        abs(total / said["complete"]["difference"] - 1), abs=1e-3
    )
    assert len(said["sanity"]) >= 2 and set(said["sanity"][0]["signed"]) == set(said["sanity"][0]["absolute"])
    other = asked(
        capsys,
        photo,
        "--network",
        run,
        "--samples",
        3,
        "--steps",
        30,
        "--class",
        1 - said["of"],
        "-o",
        tmp_path / "b.png",
    )
    assert other["of"] == 1 - said["of"] and other["probability"] == pytest.approx(
        1 - said["probability"], abs=1e-3
    )


def test_a_black_image_is_told_in_numbers(run, tmp_path, capsys):
    Image.new("RGB", (16, 16)).save(tmp_path / "black.png")
    said = asked(
        capsys,
        tmp_path / "black.png",
        "--network",
        run,
        "--samples",
        1,
        "--steps",
        8,
        "-o",
        tmp_path / "a.png",
    )
    assert said["complete"]["error"] == said["complete"]["difference"] == 0


def test_an_image_is_looked_at_before_weights_are_fetched(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "load", lambda *a: pytest.fail("fetched"))
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "folder.png").mkdir()
    for argv, says in (
        (["nowhere.png"], "no folder, file or set called 'nowhere.png'"),
        ([str(tmp_path / "a.png"), "--what", "dream"], "cannot be used|cannot be read|no image"),
        (
            [str(photo), "--what", "dream", "--guide", "nowhere.png"],
            "no folder, file or set called 'nowhere.png'",
        ),
        ([str(photo), "-o", str(tmp_path / "folder.png")], "is a folder; name another file with -o"),
    ):
        with pytest.raises(Refusal, match=says):
            look(["--network", "vgg16", *argv])


def test_numbers_are_those_of_single_precision(run, photo, tmp_path, capsys, monkeypatch):
    seen, usual = [], torch.backends.cudnn.allow_tf32
    monkeypatch.setitem(
        looks.LOOKS,
        "saliency",
        lambda *a: looks.Way(
            iter(
                seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic))
                for _ in range(1)
            ),
            str,
            lambda state: looks.Look(np.zeros((8, 8, 3), np.uint8)),
            {},
        ),
    )
    asked(capsys, photo, "--network", run, "-o", tmp_path / "a.png")
    assert seen == [(False, True)] and torch.backends.cudnn.allow_tf32 is usual


def test_fooling_is_told_by_the_file_that_is_written(run, photo, tmp_path, capsys):
    out = tmp_path / "f.png"
    said = asked(capsys, photo, "--network", run, "--what", "fool", "--budget", 60, "-o", out)
    assert said["within"] and said["linf"] <= 60 and said["fooled"] and said["after"] != said["before"]
    again = asked(
        capsys, said["image"], "--network", run, "--samples", 1, "--steps", 1, "-o", tmp_path / "g.png"
    )
    assert again["of"] == said["after"] and again["probability"] == pytest.approx(
        said["sure_after"], abs=1e-4
    )
    assert (
        figures.read_recipe(Path(said["image"]))["away"] == said["before"]
        and figures.read_recipe(out)["fooled"] is True
    )
    few = asked(
        capsys,
        photo,
        "--network",
        run,
        "--what",
        "fool",
        "--norm",
        "l2",
        "--budget",
        0.01,
        "--class",
        said["after"],
        "-o",
        out,
    )
    assert few["within"] and not few["fooled"] and few["aim"] == said["after"]
    with pytest.raises(Refusal, match="takes this image for"):
        look(
            [
                str(photo),
                "--network",
                str(run),
                "--what",
                "fool",
                "--class",
                str(said["before"]),
                "-o",
                str(out),
            ]
        )


def test_frames_are_kept_with_their_recipes(run, photo, tmp_path, capsys):
    frames, out = tmp_path / "frames", tmp_path / "c.png"
    asked(
        capsys,
        "--what",
        "class",
        "--class",
        1,
        "--network",
        run,
        "--steps",
        7,
        "--frames",
        frames,
        "--every",
        3,
        "--seed",
        5,
        "-o",
        out,
    )
    names = sorted(p.name for p in frames.iterdir())
    assert names == ["000000.png", "000003.png", "000006.png", "000007.png"]
    recipes = [figures.read_recipe(frames / name) for name in names]
    assert [r["frame"] for r in recipes] == [0, 3, 6, 7] and all(
        r["seed"] == 5 and r["steps"] == 7 for r in recipes
    )
    assert recipes[-1]["loss"] < recipes[0]["loss"]
    assert np.array_equal(np.asarray(Image.open(frames / names[-1])), np.asarray(Image.open(out)))


def test_frames_of_a_dream_are_all_of_one_size(photo, tmp_path, capsys):
    frames = tmp_path / "frames"
    how = (
        "--network",
        "squeezenet",
        "--weights",
        "none",
        "--layer",
        "pool1",
        "--octaves",
        2,
        "--steps",
        1,
        "--size",
        64,
    )
    asked(capsys, photo, "--what", "dream", *how, "--frames", frames, "--every", 1, "-o", tmp_path / "d.png")
    assert {Image.open(p).size for p in frames.iterdir()} == {(48, 32)} and len(list(frames.iterdir())) == 2


def test_the_same_command_makes_the_same_bytes(run, photo, tmp_path, capsys):
    for what, *more in (
        ("class", "--class", "0"),
        ("invert", str(photo), "--layer", "code"),
        ("dream", str(photo)),
    ):
        a, b, c = (tmp_path / f"{what}-{i}.png" for i in "abc")
        for path, seed in ((a, 1), (b, 1), (c, 2)):
            asked(capsys, "--what", what, *more, "--network", run, "--steps", 3, "--seed", seed, "-o", path)
        assert a.read_bytes() == b.read_bytes() and not np.array_equal(
            np.asarray(Image.open(a)), np.asarray(Image.open(c))
        )


def test_an_image_of_a_set_by_its_number(run, tmp_path, capsys):
    x = toy(6, channels=3).x
    np.save(tmp_path / "set.npy", x.transpose(0, 2, 3, 1))
    said = asked(
        capsys,
        tmp_path / "set.npy",
        "--pick",
        4,
        "--network",
        run,
        "--samples",
        1,
        "--steps",
        1,
        "-o",
        tmp_path / "a.png",
    )
    with np.load(said["maps"]) as found:
        np.testing.assert_allclose(found["image"], x[4] / 127.5 - 1, atol=1e-6)
    with pytest.raises(Refusal, match="has 6 images, numbered from 0, and none is number 6"):
        look([str(tmp_path / "set.npy"), "--pick", "6", "--network", str(run)])


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--what", "dreem"], "no look 'dreem'; did you mean 'dream'"),
        ([], "saliency asks for an image"),
        (["--what", "class"], "class asks for --class NAME"),
        (["PHOTO", "--what", "invert"], "invert asks for --layer NAME"),
        (["PHOTO", "--what", "class", "--class", "1"], "class has no use for the image"),
        (["PHOTO", "--budget", "3"], "saliency has no use for --budget, which is for fool"),
        (
            ["PHOTO", "--what", "dream", "--class", "1"],
            "no use for --class, which is for saliency, fool, class",
        ),
        (["PHOTO", "--frames", "x"], "saliency has no use for --frames"),
        (["PHOTO", "--layer", "trunk.0.99"], "no layer 'trunk.0.99'; did you mean 'trunk.0."),
        (["PHOTO", "--class", "9"], "no class 9: its 2 classes are numbered 0 to 1"),
        (["PHOTO", "--class", "cat"], "no class 'cat'"),
        (["PHOTO", "--what", "fool", "--norm", "l7"], "one of linf, l2"),
        (["PHOTO", "--what", "fool", "--budget", "0.5"], "least is 1"),
        (["PHOTO", "--what", "dream", "--size", "8"], "type --size 16"),
        (["PHOTO", "-o", "a.bmp"], "should end in .png"),
        (["nowhere.png"], "no folder, file or set called 'nowhere.png'"),
    ],
)
def test_wrong_requests_are_told_in_a_sentence(argv, says, run, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match=says):
        look([str(photo) if a == "PHOTO" else a for a in argv] + ["--network", str(run)])
    assert not list(tmp_path.glob("**/*.png"))


def test_a_hostile_file_is_refused(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    for what in ("saliency", "dream"):
        with pytest.raises(BadData, match="cannot be used"):
            look([str(tmp_path / "a.png"), "--what", what, "--network", str(run)])
    with pytest.raises(BadData, match="cannot be used"):
        look([str(tmp_path / "a.png"), "--what", "dream", "--network", "squeezenet", "--weights", "none"])


def test_networks_without_classes_are_told_apart(photo, tmp_path):
    made, _ = small_run("ae", tmp_path / "ae", toy(channels=3))
    made.save()
    made.close()
    with pytest.raises(Refusal, match="ae does not tell classes apart: it was never taught any"):
        look([str(photo), "--network", str(tmp_path / "ae")])


def test_a_run_that_sees_grey_is_looked_into_as_well(tmp_path, capsys):
    made, _ = small_run("classifier", tmp_path / "grey", toy(size=8))
    made.save()
    made.close()
    said = asked(
        capsys,
        "--what",
        "class",
        "--class",
        0,
        "--network",
        tmp_path / "grey",
        "--steps",
        3,
        "-o",
        tmp_path / "a.png",
    )
    page = np.asarray(Image.open(said["path"]))
    assert (page[..., 0] == page[..., 2]).all() and torch.isfinite(torch.tensor(said["probability"]))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(
        tmp_path / "p.png"
    )
    how = (
        "--what",
        "invert",
        "--layer",
        "code",
        "--network",
        tmp_path / "grey",
        "--steps",
        3,
        "--frames",
        tmp_path / "frames",
    )
    asked(capsys, tmp_path / "p.png", *how, "-o", tmp_path / "b.png")
    frame = np.asarray(Image.open(tmp_path / "frames" / "000003.png"))
    assert (frame[..., 0] == frame[..., 2]).all()
