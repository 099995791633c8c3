"""The data package: sources, split, cache, arrays, the sets that have a name, and what `check` says."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import re
import tarfile
import threading
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import encoded, idx_bytes, photo, write_idx_set, write_photos
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from likeness.core import BadData, DiskTrouble, NotAllowed, Offline, Refusal
from likeness.data import Data, Reading, cache, load, lock, named, near, shapes
from likeness.data.binary import binarized
from likeness.data.check import check
from likeness.data.dataset import Images, Lines
from likeness.data.formats import read_idx
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


def same(a: Data, b: Data) -> bool:
    return a.fingerprint == b.fingerprint and np.array_equal(a.x, b.x) and np.array_equal(a.train, b.train) and a.settings == b.settings


def no_leak(data: Data) -> bool:
    held = {data.x[i].tobytes() for i in data.held_out}
    return bool(held) and all(data.x[i].tobytes() not in held for i in data.train)


# Data and Reading


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data, theirs = load("digits"), load_digits()
    assert np.array_equal(data.x[:, 0], np.rint(theirs.images * 255 / 16)) and np.array_equal(data.y, theirs.target)
    assert data.spec.shape == (1, 8, 8) and data.spec.labels == 10 and data.spec.levels == 256 and data.classes[3] == "3"
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
    assert "1 copies of held-out images are left out of training" in data.verdict


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
    os.utime(photos / "photo003.png", ns=(s.st_atime_ns, s.st_mtime_ns + 1))
    (photos / "photo004.png").rename(photos / "renamed.png")
    again = load(photos, size=16)
    assert "renamed.png" in again.names and set(again.x.tobytes()[i : i + 768] for i in range(0, 12 * 768, 768)) == {a.tobytes() for a in first.x}


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


# Arrays


def rows(n: int = 12, side: int = 10, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, side, side), np.uint8)


def saved(tmp_path: Path, x: np.ndarray, name: str = "a.npy") -> Path:
    np.save(tmp_path / name, x)
    return tmp_path / name


def test_layouts_are_told_apart(tmp_path):
    x = rows()
    for y in (x, x.transpose(0, 2, 3, 1)):
        assert np.array_equal(load(saved(tmp_path, y)).x, x)
    assert np.array_equal(load(saved(tmp_path, x[:, 0])).x, x[:, :1])
    for shape in ((12, 3, 10, 3), (12, 100), (12, 5, 10, 10), (0, 3, 8, 8)):
        with pytest.raises(Refusal, match="channels"):
            load(saved(tmp_path, np.zeros(shape, np.uint8)))


def test_a_plain_npy_is_mapped_and_nothing_is_copied(tmp_path, place):
    data = load(saved(tmp_path, rows()))
    assert np.array_equal(data.x, rows()) and not list(place.glob("*/x.u8"))
    assert same(data, load(tmp_path / "a.npy", **data.settings))
    assert np.array_equal(load(saved(tmp_path, np.asfortranarray(rows()), "f.npy")).x, rows())


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (lambda u: u / 255, {}),
        (lambda u: u.astype(np.float32) / 255, {}),
        (lambda u: u / 127.5 - 1, {}),
        (lambda u: u.astype(np.int64), {}),
        (lambda u: u.astype(np.float32), dict(white=255.0)),
        (lambda u: u.astype(np.uint16) * 257, dict(white=65535.0)),
    ],
)
def test_numbers_of_any_type_become_the_same_bytes(tmp_path, make, how):
    u = rows()
    assert np.array_equal(load(saved(tmp_path, make(u)), **how).x, u)


@pytest.mark.parametrize(
    "x",
    [
        rows().astype(np.float32),  # 0 to 255 as floats
        rows().astype(np.uint16) * 200,
        (rows() > 128).astype(np.uint8),  # 0 and 1 as bytes
        rows() / 50 - 2,
    ],
)
def test_what_could_mean_two_things_is_refused_and_the_flag_named(tmp_path, x):
    with pytest.raises(Refusal, match="--white"):
        load(saved(tmp_path, x))


def test_bits_are_black_and_white(tmp_path):
    bits = rows() > 128
    data = load(saved(tmp_path, bits))
    assert np.array_equal(data.x, bits * np.uint8(255)) and data.spec.levels == 2
    assert np.array_equal(load(saved(tmp_path, bits.astype(np.uint8), "b.npy"), white=1.0).x, data.x)


def test_values_outside_a_declared_range_or_not_finite_are_bad(tmp_path):
    with pytest.raises(BadData, match="lie from"):
        load(saved(tmp_path, rows().astype(np.float32)), white=100.0)
    with pytest.raises(BadData, match="finite"):
        load(saved(tmp_path, np.full((4, 8, 8), np.nan), "n.npy"))


def test_size_and_colour_of_arrays(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (9, 3, 20, 30), np.uint8)
    data = load(saved(tmp_path, x))
    assert np.array_equal(data.x, x[..., 5:25])
    small = load(saved(tmp_path, x), size=10, colour="grey")
    want = np.stack([np.asarray(fit(Image.fromarray(a.transpose(1, 2, 0)), 10).convert("L")) for a in x])
    assert small.x.shape == (9, 1, 10, 10) and abs(small.x[:, 0].astype(int) - want).max() <= 1
    grey = load(saved(tmp_path, x), colour="grey").x[:, 0]
    assert np.array_equal(grey, np.stack([np.asarray(Image.fromarray(a.transpose(1, 2, 0)).convert("L")) for a in x])[:, :, 5:25])


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("arr_0", "arr_1")])
def test_npz_with_labels(tmp_path, keys):
    y = np.arange(12) % 3 * 5
    np.savez_compressed(tmp_path / "a.npz", **dict(zip(keys, (rows(), y))))
    data = load(tmp_path / "a.npz")
    assert np.array_equal(data.x, rows()) and data.classes == ("0", "5", "10") and np.array_equal(data.y, y // 5)


def test_npz_with_text_labels_and_a_test_split(tmp_path):
    x = rows()
    np.savez(tmp_path / "a.npz", x_train=x[:8], y_train=np.array(["b", "a"] * 4), x_test=x[6:], y_test=np.array(["a", "b"] * 3))
    data = load(tmp_path / "a.npz")
    assert data.classes == ("a", "b") and data.held_out.tolist() == list(range(8, 14)) and data.train.tolist() == list(range(6))
    assert "2 copies of held-out images are left out" in data.verdict


def test_labels_that_do_not_fit_are_refused(tmp_path):
    for y in (np.arange(5), np.arange(12), np.zeros((12, 3)), np.array([b"a"] * 12)):
        np.savez(tmp_path / "a.npz", x=rows(), y=y)
        with pytest.raises(BadData):
            load(tmp_path / "a.npz")


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress, lzma.compress])
def test_idx_plain_and_compressed(tmp_path, pack):
    x = rows(channels=1)[:, 0]
    (tmp_path / "some-images-idx3-ubyte").write_bytes(pack(idx_bytes(x)))
    (tmp_path / "some-labels-idx1-ubyte").write_bytes(pack(idx_bytes(np.arange(12) % 4)))
    data = load(tmp_path / "some-images-idx3-ubyte")
    assert np.array_equal(data.x[:, 0], x) and data.y.tolist() == [0, 1, 2, 3] * 3


def test_a_folder_of_the_four_idx_files(tmp_path):
    x, y, tx, ty = write_idx_set(tmp_path / "set")
    data = load(tmp_path / "set")
    assert np.array_equal(data.x[:, 0], np.concatenate([x, tx])) and np.array_equal(data.y, np.concatenate([y, ty]))
    assert data.held_out.tolist() == list(range(30, 40))
    (tmp_path / "set" / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(BadData):
        load(tmp_path / "set")


def npy_with(header: bytes, body: bytes = b"\0" * 100) -> bytes:
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + body


HOSTILE = {
    "promises a petabyte": npy_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 1024)}"),
    "holds objects": npy_with(b"{'descr': '|O', 'fortran_order': False, 'shape': (10,)}"),
    "has a negative size": npy_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 8, 8)}"),
    "has nested brackets": npy_with(b"(" * 5000),
    "calls a function": npy_with(b"__import__('os').system('true')"),
    "is cut off": npy_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (40, 8, 8)}"),
    "has an unknown version": b"\x93NUMPY\x09\0" + b"\0" * 90,
    "is only its magic": b"\x93NUMPY",
    "idx promises a petabyte": b"\0\0\x08\3" + b"\xff" * 12,
    "idx is cut off": idx_bytes(np.zeros((4, 8, 8)))[:-5],
    "idx is too long": idx_bytes(np.zeros((4, 8, 8))) + b"more",
    "zip of nothing": b"PK\5\6" + bytes(18),
    "zip that is broken": b"PK\3\4" + b"\xff" * 60,
    "gzip that is broken": gzip.compress(idx_bytes(np.zeros((4, 8, 8))))[:-9],
    "xz that is broken": lzma.compress(idx_bytes(np.zeros((4, 8, 8))))[:-9],
    "an empty file": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_array_is_refused_politely(tmp_path, name):
    (tmp_path / "a").write_bytes(HOSTILE[name])
    with pytest.raises(BadData, match="cannot be read as"):
        load(tmp_path / "a")


def test_a_pickle_in_npz_is_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadData, match="object"):
        load(tmp_path / "a.npz")


def test_a_zip_bomb_is_read_no_further_than_its_header_promises(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 8, 8), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", buffer.getvalue() + bytes(50_000_000))
    with pytest.raises(BadData, match="holds more"):
        load(tmp_path / "a.npz")


@anyway
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY\1\0\x36\0", b"PK\3\4", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"\0\0\x08\3", b"\0\0\x0d\1"]))
def test_random_bytes_give_nothing_but_a_refusal(tmp_path, blob, magic):
    (tmp_path / "a").write_bytes(magic + blob)
    try:
        load(tmp_path / "a")
    except Refusal:
        pass


@anyway
@given(st.binary(max_size=60))
def test_random_npy_headers_give_nothing_but_a_refusal(tmp_path, header):
    (tmp_path / "a").write_bytes(npy_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + header + b"}"))
    with pytest.raises(Refusal):
        load(tmp_path / "a")


@anyway
@given(st.sampled_from([8, 9, 11, 12, 13, 14]), st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_idx_of_every_type_and_shape_comes_back(code, shape):
    kind = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}[code]
    x = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    blob = bytes([0, 0, code, len(shape)]) + np.array(shape, ">u4").tobytes() + x.tobytes()
    assert np.array_equal(read_idx(io.BytesIO(blob)), x)


# Sources that are not there


@pytest.mark.parametrize(
    ("source", "hint"),
    [("digit", "did you mean 'digits'"), ("fashion_mnist", "did you mean 'fashion-mnist'"), ("qqq", "the sets are"), ("\0", "the sets are"), ("x" * 5000, "the")],
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


# Shapes


def test_shapes_are_reproducible_and_image_i_depends_on_i_alone():
    few, many = load("shapes:50"), load("shapes:700")
    assert np.array_equal(few.x, many.x[:50]) and list(few.texts) == list(many.texts[:50]) and few.y.tolist() == many.y[:50].tolist()
    other = np.concatenate(list(shapes.draw(shapes.invent(50, 32, seed=1))))
    assert not np.array_equal(other, few.x)
    assert load("shapes:50", size=64).x.shape == (50, 3, 64, 64) and no_leak(many)


@pytest.mark.parametrize("side", [32, 64])
def test_shapes_show_what_their_attributes_and_captions_say(side):
    data = load("shapes:300", size=side)
    for i in range(300):
        scene, picture, text = data.attributes[i], data.x[i].astype(int), data.texts[i]
        assert text.endswith(f"on a {scene['background']} background") and len(re.findall(r"\ba (?:small|large)", text)) == len(scene["objects"])
        assert data.classes[data.y[i]] == scene["objects"][0]["shape"]
        assert len({o["place"] for o in scene["objects"]}) == len(scene["objects"])
        for o in scene["objects"]:
            assert f"a {o['size']} {o['colour']} {o['shape']} {o['place']}" in text
            seen = picture[:, int(o["y"]), int(o["x"])]
            assert abs(seen - shapes.COLOURS[o["colour"]]).max() <= 1, (i, o)
            column, row = int(3 * o["x"] / side), int(3 * o["y"] / side)
            assert shapes.PLACES[3 * row + column] == o["place"]


def test_objects_keep_to_their_cells_and_do_not_overlap():
    scenes = shapes.invent(400, 33)
    cells = np.concatenate(list(shapes.draw(scenes))).reshape(400, 3, 3, 11, 3, 11)
    grounds = np.array(list(shapes.GROUNDS.values()))[scenes.ground]
    touched = (cells != grounds[:, :, None, None, None, None]).any((1, 3, 5)).reshape(400, 9)
    assert np.array_equal(touched.sum(1), scenes.many)


def test_forms_have_their_areas():
    """Coverage summed over pixels is the area of the form; a star is no circle."""
    r, axis = 20.0, np.arange(64) + 0.5 - 32
    area = [np.clip(0.5 - d(axis[None, :], axis[:, None], np.float64(r)), 0, 1).sum() / r**2 for d in shapes.DISTANCES]
    star = 5 * 0.48 * np.sin(np.pi / 5)
    want = [np.pi, 4 * 0.82**2, 3 * 3**0.5 / 4, star, 4 * (2 * 0.4 - 0.4**2)]
    assert np.allclose(area, want, rtol=0.02)


def test_captions_and_scenes_can_be_sliced():
    data = load("shapes:20")
    assert data.texts[-1] == data.texts[19] and len(data.texts[3:7]) == 4 and data.attributes[3:5] == (data.attributes[3], data.attributes[4])
    with pytest.raises(IndexError):
        data.attributes[20]


@pytest.mark.parametrize("name", ["shapes:", "shapes:1", "shapes:-5", "shapes:x", "shapes:99999999999999999999", "shapes:²"])
def test_a_number_of_shapes_that_makes_no_sense_is_refused(name):
    if name == "shapes:":
        assert len(load(name).x) == named.SHAPES
        return
    with pytest.raises(Refusal, match="shapes:50000"):
        load(name)


# Named sets, with a lock table of the test's own


def locked_set(monkeypatch, folder: Path, url: str = "https://nowhere.invalid/", pack: bool = True) -> tuple[np.ndarray, ...]:
    parts = write_idx_set(folder, pack=pack)
    table = []
    for old, x in zip(lock.FILES["mnist"], parts):
        fetched = gzip.compress(idx_bytes(x), mtime=0)
        table.append(lock.Locked(old.name, f"{url}{old.name}.gz", len(fetched), len(idx_bytes(x)), hashlib.sha256(idx_bytes(x)).hexdigest()))
    monkeypatch.setitem(lock.FILES, "mnist", tuple(table))
    return parts


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
def test_a_named_set_is_found_under_likeness_data(tmp_path, monkeypatch, folder, pack):
    x, y, tx, _ = locked_set(monkeypatch, tmp_path / "sets" / folder, pack=pack)
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "sets"))
    data = load("mnist")
    assert np.array_equal(data.x[:, 0], np.concatenate([x, tx])) and data.held_out.tolist() == list(range(30, 40)) and data.y[:30].tolist() == y.tolist()
    monkeypatch.delenv("LIKENESS_DATA")
    assert same(load("mnist"), data) and same(load("mnist", **data.settings), data)  # from the cache


def test_a_copy_that_is_not_what_the_table_says_is_refused(tmp_path, monkeypatch):
    locked_set(monkeypatch, tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path))
    blob = gzip.decompress(path.read_bytes())
    for bad in (gzip.compress(blob[:-1] + bytes([blob[-1] ^ 1])), gzip.compress(blob + b"more"), path.read_bytes()[:-20], b"junk"):
        path.write_bytes(bad)
        with pytest.raises(BadData, match="good copy"):
            load("mnist")


def test_offline_names_the_address_the_place_and_the_variable(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
        for name in ("mnist", "fashion-mnist", "cifar10"):
            with pytest.raises(Offline) as refusal:
                load(name)
            text = str(refusal.value)
            assert refusal.value.code == 69 and lock.FILES[name][0].url in text and str(place / "downloads" / name) in text and "LIKENESS_DATA" in text
    assert not [p for p in place.rglob("downloads/*/*")]


@pytest.fixture
def server(tmp_path):
    """Serves tmp_path/web on loopback."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a, **k):
            super().__init__(*a, directory=str(tmp_path / "web"), **k)

        def log_message(self, *a):
            pass

    (tmp_path / "web").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()
        thread.join()


def serve(tmp_path: Path, parts: tuple[np.ndarray, ...]) -> None:
    for locked, x in zip(lock.FILES["mnist"], parts):
        (tmp_path / "web" / f"{locked.name}.gz").write_bytes(gzip.compress(idx_bytes(x), mtime=0))


def test_a_download_happens_once_and_is_verified(tmp_path, monkeypatch, server, place):
    parts = locked_set(monkeypatch, tmp_path / "made", server)
    serve(tmp_path, parts)
    data = load("mnist")
    data = replace(data, x=np.array(data.x))
    assert np.array_equal(data.x[:30, 0], parts[0])
    for file in (tmp_path / "web").iterdir():
        file.unlink()
    for entry in place.glob("mnist-*"):
        DAMAGE["truncated pixels"](entry) if entry.is_dir() else None
    assert same(load("mnist"), data)  # decoded again, not fetched again


def test_a_download_of_another_length_or_content_is_never_used(tmp_path, monkeypatch, server, place):
    parts = locked_set(monkeypatch, tmp_path / "made", server)
    serve(tmp_path, parts)
    first = tmp_path / "web" / "train-images-idx3-ubyte.gz"
    good = first.read_bytes()
    for bad in (good[:-10], good + b"more"):
        first.write_bytes(bad)
        with pytest.raises(Offline, match="bytes long"):
            load("mnist")
    assert not list(place.rglob("downloads/mnist/*"))
    first.write_bytes(good[:-12] + bytes(12))
    with pytest.raises(BadData, match="good copy"):
        load("mnist")


def cifar_row(label: int, image: np.ndarray) -> bytes:
    return bytes([label]) + image.tobytes()


def write_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """The six files of the authors' archive, each with n images."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (6 * n, 3, 32, 32), np.uint8), np.arange(6 * n) % 10
    folder.mkdir(parents=True)
    for k, name in enumerate(named.BATCHES):
        blob = b"".join(cifar_row(y[i], x[i]) for i in range(k * n, k * n + n))
        (folder / name).write_bytes(blob)
        monkeypatch.setitem(named.BATCHES, name, hashlib.sha1(blob).hexdigest())
    return x, y


def test_cifar10_from_its_files_and_from_its_archive(tmp_path, monkeypatch):
    x, y = write_cifar(tmp_path / "sets" / "cifar-10-batches-bin", monkeypatch)
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "sets"))
    data = load("cifar10")
    assert np.array_equal(data.x, x) and np.array_equal(data.y, y) and data.held_out.tolist() == list(range(100, 120)) and data.classes[3] == "cat"
    archive = tmp_path / "packed" / "cifar10" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "sets" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    blob = archive.read_bytes()
    old = lock.FILES["cifar10"][0]
    monkeypatch.setitem(lock.FILES, "cifar10", (replace(old, bytes=len(blob), digest=hashlib.sha256(blob).hexdigest()),))
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "packed"))
    assert same(load("cifar10"), data)


def test_a_damaged_file_of_cifar10_is_refused(tmp_path, monkeypatch):
    write_cifar(tmp_path / "cifar10", monkeypatch)
    (tmp_path / "cifar10" / "data_batch_2.bin").write_bytes(b"\0" * 3073 * 20)
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path))
    with pytest.raises(BadData, match="data_batch_2"):
        load("cifar10")


def test_part_of_cifar10_from_contact_sheets_says_that_it_is_a_part(tmp_path, monkeypatch):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 256, (3000, 3, 32, 32), np.uint8), rng.integers(0, 10, 51_000).astype(np.uint8)
    for k, name in enumerate(("train_07", "train_40", "test_00")):
        sheet = x[1000 * k : 1000 * (k + 1)].reshape(25, 40, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(800, 1280, 3)
        (folder / f"{name}.webp").write_bytes(encoded(Image.fromarray(sheet), "WEBP", lossless=True, quality=0, method=0))
    labels.tofile(folder / "labels_51000.u8")
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path))
    data = load("cifar10")
    assert np.array_equal(data.x, x) and np.array_equal(data.y, np.concatenate([labels[7000:8000], labels[40_000:41_000], labels[50_000:]]))
    assert "a part of CIFAR-10: 2,000 of its 50,000 training images and 1,000 of its 10,000 test images" in data.verdict
    (folder / "labels_51000.u8").write_bytes(b"short")
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "fresh"))
    with pytest.raises(BadData, match="contact sheets"):
        load("cifar10")


def test_the_lock_table_is_whole():
    for name, files in lock.FILES.items():
        assert name in lock.FOLDERS and name in lock.LICENCES and name in named.NAMES
        assert all(f.url.startswith("https://") and re.fullmatch("[0-9a-f]{64}", f.digest) and f.bytes and f.fetched for f in files)


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


def test_a_crowd_of_equal_hashes_takes_no_more_than_its_share():
    x = np.zeros((3000, 1, 8, 8), np.uint8)
    x[:, 0, 0, 0] = np.arange(3000) % 256
    groups = near.near_groups(x, np.arange(3000, dtype=np.uint64))
    assert sum(map(len, groups)) <= 3000
