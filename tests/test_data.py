"""The data package: sources, split, cache, arrays, the sets that have a name, and what `check` says."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_helpers import counted, no_leak, photo, same, write_photos
from likeness.cli import main
from likeness.core import Refusal
from likeness.data import Data, Reading, load, writer
from likeness.data.binarize import binarized
from likeness.data.check import check
from likeness.data.dataset import Images, Lines
from likeness.data.pixels import fit

anyway = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 12)
    return tmp_path / "photos"


# Data and Reading


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data, theirs = load("digits"), load_digits()
    assert np.array_equal(data.x[:, 0], np.rint(theirs.images * 255 / 16)) and np.array_equal(
        data.y, theirs.target
    )
    assert (
        data.spec.shape == (1, 8, 8)
        and data.spec.labels == 10
        and data.spec.levels == 17
        and data.classes[3] == "3"
    )
    assert (
        len(data.train) + len(data.held_out) == 1797
        and 0.08 < len(data.held_out) / 1797 < 0.12
        and no_leak(data)
    )


def test_digits_need_no_cache(monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", "/dev/null/nowhere")
    assert len(load("digits", binarize=True).x) == 1797


def test_a_batch_is_floats_and_depends_on_its_place_alone():
    data = load("digits")
    whole, part = data.batch(1, 5000, 64), data.batch(1, 5000, 64, slice(10, 20))
    assert whole.x.min() >= -1 and whole.x.max() <= 1 and whole.x.dtype == torch.float32
    assert torch.equal(whole.x[10:20], part.x) and torch.equal(whole.y.label[10:20], part.y.label)
    assert torch.equal(whole.noise.normal(3)[10:20], part.noise.normal(3))


@anyway
@given(st.integers(0, 2**31 - 1), st.integers(1, 40), st.integers(0, 500))
def test_an_epoch_of_the_walk_is_a_permutation(seed, n, epoch):
    data = Data("", "", np.zeros((n + 1, 1, 2, 2), np.uint8), np.arange(n), np.array([n]))
    walk = data.order(seed, np.arange(n * epoch, n * (epoch + 1)))
    assert sorted(walk) == list(range(n))
    late = np.arange(n * epoch + n // 2, n * epoch + n)
    assert np.array_equal(data.order(seed, late), walk[n // 2 :])  # whatever was asked for before


def test_settings_give_the_same_data_again(photos):
    for source, how in (
        (str(photos), {}),
        ("digits", dict(size=12, colour="rgb", binarize=True)),
        ("shapes:40", dict(colour="grey")),
    ):
        data = load(source, **how)
        assert set(data.settings) == {f.name for f in fields(Reading)}
        assert same(data, load(source, **data.settings))
        assert data.settings["size"] and data.settings["colour"] in ("grey", "rgb")


def test_every_field_of_reading_is_an_option_with_help():
    assert all(f.metadata["help"] for f in fields(Reading))


def test_the_fingerprint_changes_with_an_image_a_label_and_the_reading(photos):
    seen = {load(photos, size=s).fingerprint for s in (16, 24)} | {
        load(photos, size=16, binarize=True).fingerprint
    }
    photo(500).save(photos / "photo000.png")
    seen.add(load(photos, size=16).fingerprint)
    (photos / "metadata.jsonl").write_text('{"file_name": "photo001.png", "text": "a thing"}')
    seen.add(load(photos, size=16).fingerprint)
    assert len(seen) == 5


def test_lines_hold_texts_compactly():
    texts = ["", "a", "", "ünï 图", "x" * 50]
    blob = "".join(texts).encode()
    lines = Lines(blob, np.cumsum([len(t.encode()) for t in texts]))
    assert (
        list(lines) == texts
        and lines[-2] == texts[-2]
        and lines[1:4] == tuple(texts[1:4])
        and len(lines) == 5
    )
    with pytest.raises(IndexError):
        lines[5]


# Folder


def test_a_folder_is_scaled_cropped_and_named(photos):
    photo(50, 90, 60).save(photos / "wide.jpg", quality=95)
    data = load(photos, size=20)
    row = list(data.names).index("wide.jpg")
    want = np.asarray(fit(photo(50, 90, 60), 20)).transpose(2, 0, 1)
    assert data.x.shape == (13, 3, 20, 20) and abs(data.x[row].astype(int) - want).max() < 12
    assert (
        counted(data) == ("13 images: 13 used, 0 skipped")
        and (f"; {len(data.held_out)} are held out") in data.verdict
        and data.y is None
        and data.texts is None
    )
    assert load(photos).spec.size == 64


def test_the_middle_is_kept():
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 255
    assert (np.asarray(fit(Image.fromarray(stripes), 10)) == 255).all()
    assert (np.asarray(fit(Image.fromarray(stripes.transpose(1, 0, 2)), 10)) == 255).all()


def test_colour_is_grey_only_if_every_image_is(tmp_path):
    (tmp_path / "g").mkdir()
    for i in range(300):  # the one in colour comes after many were written
        photo(i).convert("L").save(tmp_path / "g" / f"a{i:03}.bmp")
    grey = load(tmp_path / "g", size=16)
    photo(1).convert("L").save(tmp_path / "g" / "b.png")
    Image.merge("RGB", [photo(1).convert("L")] * 3).save(tmp_path / "g" / "c.png")
    assert load(tmp_path / "g", size=16).spec.channels == 1  # in colour by its mode alone
    photo(1).save(tmp_path / "g" / "d.png")
    both = load(tmp_path / "g", size=16)
    assert grey.spec.channels == 1 and both.spec.channels == 3
    assert all(np.array_equal(both.x[:300, c], grey.x[:, 0]) for c in range(3))
    # the same picture, grey, grey as RGB, and from before
    assert check(tmp_path / "g", Reading(size=16)).exact.images == 3
    assert same(
        replace(load(tmp_path / "g", size=16, colour="grey"), x=writer.as_colour(both.x, "grey")),
        load(tmp_path / "g", size=16, colour="grey"),
    )


def stored_in_colour(folder: Path, form: str, apart: int, **how: object) -> Path:
    """Sixteen grey pictures as RGB, whose channels differ by up to `apart` levels before they are packed."""
    folder.mkdir()
    for i in range(16):
        x = np.asarray(photo(i).convert("L"), np.int64)[..., None] + np.random.default_rng(i).integers(
            0, apart + 1, (40, 40, 3)
        )
        Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(folder / f"{i:02}.{form}", **how)
    return folder


@pytest.mark.parametrize(
    ("form", "apart", "how"),
    [
        ("png", 0, {}),
        ("png", 2, {}),
        ("jpg", 0, dict(quality=50)),
        ("jpg", 1, dict(quality=95)),
        ("webp", 0, dict(quality=75)),
        ("avif", 0, dict(quality=75)),
    ],
)
def test_what_is_grey_in_every_pixel_is_read_as_grey_and_told(tmp_path, form, apart, how):
    source = stored_in_colour(tmp_path / "g", form, apart, **how)
    data = load(source, size=40)
    assert (
        data.spec.channels == 1
        and data.settings["colour"] == "grey"
        and ("stored in colour, grey in every pixel") in data.verdict
    )
    assert (
        same(data, load(source, **data.settings))
        and "stored in colour" in check(source, Reading(size=40)).verdict
    )
    spelled = load(source, size=40, colour="rgb")
    assert spelled.spec.channels == 3 and "stored in colour" not in spelled.verdict
    assert np.array_equal(writer.as_colour(spelled.x, "grey"), data.x)
    made = np.asarray(Image.open(source / f"00.{form}").convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(spelled.x[0], made)  # as runs have it that were made before


def test_a_faint_tint_in_one_picture_is_colour(tmp_path):
    source = stored_in_colour(tmp_path / "g", "png", 0)
    x = np.asarray(Image.open(source / "07.png")).copy()
    for apart, channels in ((4, 1), (5, 3)):
        x[20, 20] = (100, 100, 100 + apart)
        Image.fromarray(x).save(source / "07.png")
        data = load(source, size=40)
        assert data.spec.channels == channels and data.settings["colour"] == ("grey", "rgb")[channels == 3]


def test_black_and_white_stored_in_colour_has_two_levels(tmp_path):
    (tmp_path / "g").mkdir()
    for i in range(4):
        photo(i).convert("1").convert("RGB").save(tmp_path / "g" / f"{i}.png")
    assert (
        load(tmp_path / "g", size=40).spec.shape == (1, 40, 40)
        and load(tmp_path / "g", size=40).spec.levels == 2
    )


def test_sub_folders_are_classes_in_sorted_order(tmp_path):
    for name in ("zebra", "ant", "cat"):
        write_photos(tmp_path / "d" / name, 3, len(name) * 10 + ord(name[0]))
    (tmp_path / "d" / "readme.txt").write_text("no image")
    data = load(tmp_path / "d", size=16)
    assert data.classes == ("ant", "cat", "zebra") and data.y.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    photo(1).save(tmp_path / "d" / "loose.png")
    loose = load(tmp_path / "d", size=16)  # an image that is in no class
    assert loose.classes == data.classes and sorted(loose.y) == [-1, *sorted(data.y)]


def test_one_sub_folder_or_deeper_ones_are_no_classes(tmp_path):
    write_photos(tmp_path / "one" / "a", 3)
    write_photos(tmp_path / "deep" / "a" / "b", 3)
    write_photos(tmp_path / "deep" / "c", 3, 9)
    assert load(tmp_path / "one", size=16).y is None and load(tmp_path / "deep", size=16).y is None


@pytest.mark.parametrize("test", ["test", "validation"])
def test_an_official_split_is_kept_and_its_copies_leave_training(tmp_path, test):
    for i, name in enumerate(("cat", "dog")):
        write_photos(tmp_path / "d" / "train" / name, 5, 10 * i)
        write_photos(tmp_path / "d" / test / name, 2, 50 + 10 * i)
    photo(50).save(tmp_path / "d" / "train" / "dog" / "copy.png")
    data = load(tmp_path / "d", size=16)
    assert {data.names[i].split("/")[0] for i in data.held_out} == {test} and len(data.held_out) == 4
    assert len(data.train) == 10 and no_leak(data) and data.classes == ("cat", "dog")
    assert data.verdict.startswith(
        "15 images: 15 used, 0 skipped; the 4 of the official test split are held out"
    )
    assert "left out of training as copies of held-out images: 1" in data.verdict


def test_captions_are_kept_with_their_images(photos):
    rows = [dict(file_name=f"photo{i:03}.png", text=f"picture {i} ünï") for i in range(0, 12, 2)] + [
        dict(file_name="../../etc/passwd", text="no")
    ]
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    data = load(photos, size=16)
    assert list(data.texts) == [f"picture {i} ünï" if i % 2 == 0 else "" for i in range(12)]
    assert "6 have captions" in data.verdict and check(photos, Reading(size=16)).captions == 6


@pytest.mark.parametrize("command", [["data"], ["train", "--help"]])
def test_the_command_line_names_every_kind_of_file(command, capsys):
    with contextlib.suppress(SystemExit):
        main(command)
    words = " ".join(capsys.readouterr().out.split())
    assert "a .zip, .tar, Parquet, .npy, .npz or idx file" in words


# Sources that are not there


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("digit", "did you mean 'digits'"),
        ("fashion_mnist", "did you mean 'fashion-mnist'"),
        ("qqq", "the sets are"),
        ("\0", "the sets are"),
        ("x" * 5000, "the"),
    ],
)
def test_an_unknown_source_is_refused_with_what_was_probably_meant(source, hint):
    with pytest.raises(Refusal, match=hint):
        load(source)


def test_a_path_that_is_nearly_right_is_suggested(photos):
    with pytest.raises(Refusal, match="photos"):
        load(str(photos)[:-1])


def test_one_image_or_a_pipe_is_no_data(photos):
    os.mkfifo(photos / "pipe")
    for name, hint in (("photo000.png", "one image"), ("pipe", "neither")):
        with pytest.raises(Refusal, match=hint):
            load(photos / name)


# Binarisation


def test_binarisation_draws_each_pixel_by_its_brightness_once():
    # (40, 1, 256, 100)
    x = np.repeat(np.arange(256, dtype=np.uint8), 4000).reshape(256, 1, 40, 100).transpose(2, 1, 0, 3)
    found = binarized(
        Images(np.ascontiguousarray(x), np.arange(40, dtype=np.uint64), ""),
        lambda: pytest.fail("small data stay in memory"),
    )
    share = (found.x == 255).mean((0, 1, 3))
    grey = np.arange(256) / 255
    assert found.levels == 2 and writer.is_binary(found.x) and share[0] == 0 and share[255] == 1
    assert np.abs(share - grey).max() < 5 * 0.5 / 4000**0.5
    assert np.abs((x[:, 0] > 127).mean((0, 2)) - grey).max() > 0.4  # the fake: a threshold


def test_binarised_data_are_reproducible_and_keep_the_split():
    grey, binary = load("digits"), load("digits", binarize=True)
    assert (
        binary.spec.levels == 2
        and np.array_equal(grey.held_out, binary.held_out)
        and np.array_equal(grey.y, binary.y)
    )
    assert same(binary, load("digits", binarize=True)) and no_leak(binary)
    assert not binary.x[grey.x == 0].any() and binary.x[grey.x == 255].all()


def test_large_data_are_binarised_through_the_cache(monkeypatch, place):
    small = np.array(load("digits", binarize=True).x)
    monkeypatch.setattr("likeness.data.binarize.SMALL", 0)
    assert np.array_equal(load("digits", binarize=True).x, small) and list(place.glob("binary-*/x.u8"))
