"""The data package: sources, split, cache, arrays, the sets that have a name, and what `check` says."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_helpers import encoded, no_leak, photo, same, write_photos
from likeness.core import BadData, DiskTrouble, NotAllowed, Refusal
from likeness.data import Data, Reading, cache, load, near
from likeness.data.binary import binarized
from likeness.data.check import check
from likeness.data.dataset import Images, Lines
from likeness.data.listing import walk
from likeness.data.pixels import fit
from likeness.data.split import MOST, split

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
    assert np.array_equal(data.x[:, 0], np.rint(theirs.images * 255 / 16)) and np.array_equal(data.y, theirs.target)
    assert data.spec.shape == (1, 8, 8) and data.spec.labels == 10 and data.spec.levels == 17 and data.classes[3] == "3"
    assert len(data.train) + len(data.held_out) == 1797 and 0.08 < len(data.held_out) / 1797 < 0.12 and no_leak(data)


def test_digits_need_no_cache(monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", "/dev/null/nowhere")
    assert len(load("digits", binarize=True).x) == 1797


def test_a_batch_is_floats_and_depends_on_its_place_alone():
    data = load("digits")
    whole, part = data.batch(1, 5000, 64), data.batch(1, 5000, 64, slice(10, 20))
    assert whole.x.min() >= -1 and whole.x.max() <= 1 and whole.x.dtype == torch.float32
    assert torch.equal(whole.x[10:20], part.x) and torch.equal(whole.y[10:20], part.y)
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
    for source, how in ((str(photos), {}), ("digits", dict(size=12, colour="rgb", binarize=True)), ("shapes:40", dict(colour="grey"))):
        data = load(source, **how)
        assert set(data.settings) == {f.name for f in fields(Reading)}
        assert same(data, load(source, **data.settings))
        assert data.settings["size"] and data.settings["colour"] in ("grey", "rgb")


def test_every_field_of_reading_is_an_option_with_help():
    assert all(f.metadata["help"] for f in fields(Reading))


def test_the_fingerprint_changes_with_an_image_a_label_and_the_reading(photos):
    seen = {load(photos, size=s).fingerprint for s in (16, 24)} | {load(photos, size=16, binarize=True).fingerprint}
    photo(500).save(photos / "photo000.png")
    seen.add(load(photos, size=16).fingerprint)
    (photos / "metadata.jsonl").write_text('{"file_name": "photo001.png", "text": "a thing"}')
    seen.add(load(photos, size=16).fingerprint)
    assert len(seen) == 5


def test_lines_hold_texts_compactly():
    texts = ["", "a", "", "ünï 图", "x" * 50]
    blob = "".join(texts).encode()
    lines = Lines(blob, np.cumsum([len(t.encode()) for t in texts]))
    assert list(lines) == texts and lines[-2] == texts[-2] and lines[1:4] == tuple(texts[1:4]) and len(lines) == 5
    with pytest.raises(IndexError):
        lines[5]


# Split


@anyway
@given(st.lists(st.integers(0, 60), min_size=2, max_size=300), st.booleans(), st.randoms())
def test_a_split_never_has_one_picture_on_both_sides(contents, official, random):
    hashes = np.array([int.from_bytes(hashlib.blake2b(bytes([c]), digest_size=8).digest(), "little") for c in contents], np.uint64)
    test = np.array([random.random() < 0.3 for _ in contents]) if official else None
    try:
        train, held_out = split(hashes, test)
    except BadData:
        assert len(set(contents)) < 2 or official
        return
    assert len(train) and len(held_out) and not set(hashes[train]) & set(hashes[held_out])
    if official:
        assert np.array_equal(held_out, np.flatnonzero(test))
    else:
        assert len(train) + len(held_out) == len(hashes)


def test_a_split_is_a_function_of_content_not_of_place_and_stays_when_images_are_added():
    hashes = np.random.default_rng(0).integers(0, 2**64, 3000, dtype=np.uint64)
    first = set(hashes[split(hashes[:2000])[1]])
    shuffled = np.random.default_rng(1).permutation(hashes[:2000])
    assert set(shuffled[split(shuffled)[1]]) == first
    assert first <= set(hashes[split(hashes)[1]])
    assert 150 < len(first) < 250


def test_a_split_is_sensible_at_both_ends():
    assert [len(part) for part in split(np.array([5, 2**63], np.uint64))] == [1, 1]
    assert len(split(np.arange(9).astype(np.uint64))[1]) == 1  # all of them small: no more than a fifth goes
    huge = np.random.default_rng(0).integers(0, 2**64, 300_000, dtype=np.uint64)
    assert len(split(huge)[1]) == MOST
    with pytest.raises(BadData, match="two at least"):
        split(np.zeros(10, np.uint64))


def test_a_placeholder_that_fills_the_folder_is_not_what_models_are_judged_on():
    hashes = np.concatenate([np.zeros(500, np.uint64), np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)])
    assert 0 not in hashes[split(hashes)[1]]


def test_copies_in_a_folder_stay_on_one_side(photos):
    for i in range(12):
        Image.open(photos / f"photo{i:03}.png").save(photos / f"copy{i}.bmp")
    data = load(photos, size=40)
    assert len(data.x) == 24 and no_leak(data)


# Folder


def test_a_folder_is_scaled_cropped_and_named(photos):
    photo(50, 90, 60).save(photos / "wide.jpg", quality=95)
    data = load(photos, size=20)
    row = list(data.names).index("wide.jpg")
    want = np.asarray(fit(photo(50, 90, 60), 20)).transpose(2, 0, 1)
    assert data.x.shape == (13, 3, 20, 20) and abs(data.x[row].astype(int) - want).max() < 12
    assert data.verdict == "13 images: 13 used, 0 skipped" and data.y is None and data.texts is None
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
    both = load(tmp_path / "g", size=16)
    assert grey.spec.channels == 1 and both.spec.channels == 3
    assert all(np.array_equal(both.x[:300, c], grey.x[:, 0]) for c in range(3))
    assert check(tmp_path / "g", Reading(size=16)).exact.images == 3  # the same picture, grey, grey as RGB, and from before
    assert same(replace(load(tmp_path / "g", size=16, colour="grey"), x=both.x[:, :1]), load(tmp_path / "g", size=16, colour="grey"))


def test_sub_folders_are_classes_in_sorted_order(tmp_path):
    for name in ("zebra", "ant", "cat"):
        write_photos(tmp_path / "d" / name, 3, len(name) * 10 + ord(name[0]))
    (tmp_path / "d" / "readme.txt").write_text("no image")
    data = load(tmp_path / "d", size=16)
    assert data.classes == ("ant", "cat", "zebra") and data.y.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    photo(1).save(tmp_path / "d" / "loose.png")
    assert load(tmp_path / "d", size=16).classes == ()  # an image that is in no class


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
    assert data.verdict.startswith("15 images: 15 used, 0 skipped; the 4 of the official test split are held out")
    assert "left out of training as copies of held-out images: 1" in data.verdict


def test_captions_are_kept_with_their_images(photos):
    rows = [dict(file_name=f"photo{i:03}.png", text=f"picture {i} ünï") for i in range(0, 12, 2)] + [dict(file_name="../../etc/passwd", text="no")]
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    data = load(photos, size=16)
    assert list(data.texts) == [f"picture {i} ünï" if i % 2 == 0 else "" for i in range(12)]
    assert "6 have captions" in data.verdict and check(photos, Reading(size=16)).captions == 6


# Cache


def test_a_second_start_decodes_nothing(photos, monkeypatch):
    first = load(photos, size=16)
    monkeypatch.setattr("likeness.data.folder.decode", lambda *a: pytest.fail("decoded again"))
    again, spelled_out = load(photos, size=16), load(photos, **first.settings)
    assert same(first, again) and same(first, spelled_out) and list(first.names) == list(again.names)
    assert isinstance(again.x.base, np.memmap) or isinstance(again.x, np.memmap)
    assert not again.x.flags.writeable


def entry_of(place: Path) -> Path:
    (found,) = (p for p in place.iterdir() if p.is_dir() and p.name.startswith("folder"))
    return found


DAMAGE = {
    "truncated pixels": lambda e: os.truncate(e / "x.u8", 100),
    "longer pixels": lambda e: (e / "x.u8").open("ab").write(b"x"),
    "overwritten pixels": lambda e: (e / "x.u8").write_bytes(bytes((e / "x.u8").stat().st_size)),
    "a flipped bit in the names": lambda e: (e / "names.bin").write_bytes(b"q" + (e / "names.bin").read_bytes()[1:]),
    "a flipped bit in the hashes": lambda e: (e / "hashes.u64").write_bytes(b"12345678" + (e / "hashes.u64").read_bytes()[8:]),
    "a missing file": lambda e: (e / "sizes.i32").unlink(),
    "an empty manifest": lambda e: (e / "entry.json").write_text(""),
    "another manifest": lambda e: (e / "entry.json").write_text("[1, 2]"),
    "half a manifest": lambda e: os.truncate(e / "entry.json", 40),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_entry_is_made_again(photos, place, how):
    first = load(photos, size=16)
    before = (first.fingerprint, np.array(first.x), list(first.names))
    del first
    DAMAGE[how](entry_of(place))
    again = load(photos, size=16)
    assert again.fingerprint == before[0] and np.array_equal(again.x, before[1]) and list(again.names) == before[2]
    assert not list(place.glob("*.tmp-*"))


def test_any_change_of_a_listing_is_noticed(photos):
    first = load(photos, size=16)
    s = (photos / "photo003.png").stat()
    before = walk(photos).digest()
    os.utime(photos / "photo003.png", ns=(s.st_atime_ns, s.st_mtime_ns + 1))
    assert walk(photos).digest() != before
    (photos / "photo004.png").rename(photos / "renamed.png")
    again = load(photos, size=16)
    assert "renamed.png" in again.names and {again.x.tobytes()[i : i + 768] for i in range(0, 12 * 768, 768)} == {a.tobytes() for a in first.x}


def test_an_interrupted_decoding_leaves_nothing_behind(photos, place, monkeypatch):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(photos, size=16, progress=stop)
    assert [p.name for p in place.iterdir() if not p.name.endswith(".lock")] == []
    (place / "folder-x.tmp-dead").mkdir()
    assert len(load(photos, size=16).x) == 12


def test_progress_reaches_its_total(photos):
    calls: list[tuple[int, int]] = []
    load(photos, size=16, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (12, 12)


def test_decoding_works_where_no_thread_can_be_made(photos, monkeypatch):
    first = np.array(load(photos, size=16).x)

    def no_thread(*a, **k):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    monkeypatch.setenv("LIKENESS_CACHE", str(photos.parent / "other"))
    assert np.array_equal(load(photos, size=16).x, first)


def test_a_cache_that_cannot_be_written_says_what_to_do(photos, monkeypatch):
    with pytest.raises(NotAllowed, match="LIKENESS_CACHE"):
        load(photos, cache="/dev/null/cache")
    monkeypatch.setattr("shutil.disk_usage", lambda p: type("Usage", (), dict(free=10)))
    with pytest.raises(DiskTrouble, match="smaller --size"):
        load(photos)


def test_a_full_disk_is_reported_as_such(photos, place, monkeypatch):
    def full(self, x):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.Writer, "add", full)
    with pytest.raises(DiskTrouble, match="No space left"):
        load(photos)
    assert not list(place.glob("*.tmp-*"))


def test_two_processes_that_start_together_decode_once(photos):
    calls: list[int] = []
    threads = [threading.Thread(target=lambda: load(photos, size=16, progress=lambda d, t: calls.append(d))) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert calls == [1, 12]


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("LIKENESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg" / "likeness" and cache.root(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.root() == tmp_path / ".cache" / "likeness"


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
    x = np.repeat(np.arange(256, dtype=np.uint8), 4000).reshape(256, 1, 40, 100).transpose(2, 1, 0, 3)  # (40, 1, 256, 100)
    found = binarized(Images(np.ascontiguousarray(x), np.arange(40, dtype=np.uint64), ""), lambda: pytest.fail("small data stay in memory"))
    share = (found.x == 255).mean((0, 1, 3))
    grey = np.arange(256) / 255
    assert found.levels == 2 and cache.is_binary(found.x) and share[0] == 0 and share[255] == 1
    assert np.abs(share - grey).max() < 5 * 0.5 / 4000**0.5
    assert np.abs((x[:, 0] > 127).mean((0, 2)) - grey).max() > 0.4  # the fake: a threshold


def test_binarised_data_are_reproducible_and_keep_the_split():
    grey, binary = load("digits"), load("digits", binarize=True)
    assert binary.spec.levels == 2 and np.array_equal(grey.held_out, binary.held_out) and np.array_equal(grey.y, binary.y)
    assert same(binary, load("digits", binarize=True)) and no_leak(binary)
    assert not binary.x[grey.x == 0].any() and binary.x[grey.x == 255].all()


def test_large_data_are_binarised_through_the_cache(monkeypatch, place):
    small = np.array(load("digits", binarize=True).x)
    monkeypatch.setattr("likeness.data.binary.SMALL", 0)
    assert np.array_equal(load("digits", binarize=True).x, small) and list(place.glob("binary-*/x.u8"))


# Check


def test_check_counts_what_is_there(photos):
    Image.open(photos / "photo000.png").save(photos / "exact.bmp")
    Image.open(photos / "photo001.png").save(photos / "near.jpg", quality=90)
    Image.new("RGB", (100, 50), "red").save(photos / "plain.png")
    photo(70).convert("CMYK").save(photos / "print.jpg")
    (photos / "bad.png").write_bytes(b"no")
    report = check(photos, Reading(size=32))
    assert report.images == 16 and report.shape == (3, 32, 32) and report.train + report.held_out == 16
    assert report.skipped == {"not images": 1} and report.verdict.endswith(report.full_list) and "bad.png" in Path(report.full_list).read_text()
    assert report.exact.groups == 1 and report.exact.images == 2 and report.exact.examples == (("exact.bmp", "photo000.png"),)
    assert report.near.groups == 1 and set(report.near.examples[0]) == {"near.jpg", "photo001.png"}
    assert report.original_sizes == {"40x40": 15, "100x50": 1} and report.short_sides == {"32-63": 16} and report.enlarged == 0
    assert report.modes == {"RGB": 15, "CMYK": 1} and report.converted == {"CMYK": 1} and report.blank == 1
    assert check(photos).enlarged == 16
    assert json.loads(json.dumps(report.describe()))["images"] == 16


def test_check_of_sets_that_are_no_files():
    report = check("shapes:200")
    assert sum(report.classes.values()) == 200 and report.captions == 200 and report.original_sizes == {} and report.full_list == ""
    assert check("digits").classes["0"] == 178


def test_near_copies_are_found_and_strangers_are_not():
    def version(image: Image.Image, k: int) -> Image.Image:
        if k == 1:
            return Image.open(io.BytesIO(encoded(image, "JPEG", quality=50)))
        return image.resize((32, 32), Image.Resampling.LANCZOS).resize((64, 64), Image.Resampling.BICUBIC) if k == 2 else image

    x = np.stack([np.asarray(version(photo(i, 64, 64), k)).transpose(2, 0, 1) for k in range(3) for i in range(200)])
    groups = near.near_groups(x, np.arange(600, dtype=np.uint64))
    assert sum(sorted(g % 200)[0] == sorted(g % 200)[-1] for g in groups) == len(groups)  # only versions of one picture
    assert sum(len(g) for g in groups) > 0.95 * 600
    pale = np.concatenate([x[:200], x[:200] // 4 + 96])  # the same hash, and clearly another picture
    assert (near.dct_hash(pale, np.arange(200)) ^ near.dct_hash(pale, np.arange(200, 400)) == 0).mean() > 0.5
    assert near.near_groups(pale, np.arange(400, dtype=np.uint64)) == []


def test_a_crowd_of_equal_hashes_takes_no_more_than_its_share():
    x = np.zeros((3000, 1, 8, 8), np.uint8)
    x[:, 0, 0, 0] = np.arange(3000) % 256
    groups = near.near_groups(x, np.arange(3000, dtype=np.uint64))
    assert sum(map(len, groups)) <= 3000
