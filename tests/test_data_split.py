"""What is held out, what is a copy, and what `check` says about it."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import likeness
from data_helpers import encoded, no_leak, photo, write_photos
from likeness.core import BadData, Refusal
from likeness.data import Reading, load, near_duplicates
from likeness.data.check import check
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


@anyway
@given(st.lists(st.integers(0, 60), min_size=2, max_size=300), st.booleans(), st.randoms())
def test_a_split_never_has_one_picture_on_both_sides(contents, official, random):
    hashes = np.array(
        [int.from_bytes(hashlib.blake2b(bytes([c]), digest_size=8).digest(), "little") for c in contents],
        np.uint64,
    )
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


def random_hashes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


@pytest.mark.parametrize(("n", "held"), [(90, 30), (120, 40), (192, 64), (300, 64), (360, 64), (500, 64)])
def test_a_small_folder_holds_out_enough_to_compare_samples_with_and_never_more_than_a_third(n, held):
    assert all(len(split(random_hashes(n, seed))[1]) == held for seed in range(20))


@pytest.mark.parametrize("n", [12, 60, 89])
def test_where_a_third_is_too_few_a_tenth_is_held_out(n):
    assert all(1 <= len(split(random_hashes(n, seed))[1]) <= n // 5 for seed in range(20))


def test_of_a_large_folder_a_tenth_is_held_out_as_ever():
    hashes = random_hashes(5000)
    assert np.array_equal(split(hashes)[1], split(hashes, share=0.1)[1]) and 400 < len(split(hashes)[1]) < 600


def a_tenth(hashes: np.ndarray, keys: np.ndarray) -> set[int]:
    """Rows held out by the rule that there was before shares: one picture after another, in Python's
    integers."""
    lowest, copies = dict[int, int](), dict[int, int]()
    for h, k in zip(hashes.tolist(), keys.tolist()):
        lowest[h], copies[h] = min(lowest.get(h, k), k), copies.get(h, 0) + 1
    order = sorted(lowest, key=lambda h: (lowest[h], h))
    rare = [h for h in order if copies[h] <= max(1, 0.1 * len(hashes))] or order[:-1]
    below = sum(10 * lowest[h] < 2**64 for h in rare)
    chosen = set(rare[: min(max(below, 1), MOST, max(1, len(order) // 5), len(order) - 1)])
    return {i for i, h in enumerate(hashes.tolist()) if h in chosen}


@anyway
@given(st.integers(0, 10**6), st.integers(2, 400), st.integers(1, 400))
def test_a_share_of_a_tenth_is_the_rule_of_older_runs(seed, n, kinds):
    rng = np.random.default_rng(seed)
    hashes, keys = (
        rng.integers(0, 2**64, kinds, dtype=np.uint64)[rng.integers(0, kinds, n)],
        rng.integers(0, 2**64, n, dtype=np.uint64),
    )
    if len(set(hashes.tolist())) > 1:
        assert set(split(hashes, keys=keys, share=0.1)[1].tolist()) == a_tenth(hashes, keys)


@anyway
@given(st.integers(0, 10**6), st.integers(2, 900), st.floats(0.0, 0.5))
def test_an_image_that_is_added_moves_one_across_at_most(seed, n, share):
    hashes = random_hashes(n, seed)
    before, after = (
        (set(h[split(h, share=share)[1]].tolist()) for h in (hashes[:-1], hashes))
        if n > 2
        else (set(), set())
    )
    assert n < 91 or len(before - after) <= 1


@pytest.mark.parametrize(("share", "low", "high"), [(0.05, 35, 65), (0.3, 270, 330), (0.5, 460, 540)])
def test_the_share_that_is_asked_for_is_held_out_about(share, low, high):
    assert low < len(split(random_hashes(1000), share=share)[1]) < high


def test_an_older_run_keeps_its_split(tmp_path):
    write_photos(tmp_path / "photos", 120)
    how = dict(size=8, width=8, latent=4, batch=8, progress=False)
    old = likeness.train("ae", tmp_path / "photos", tmp_path / "run", images=16, held_out=0.1, **how)
    config = tmp_path / "run" / "config.json"
    said = json.loads(config.read_text())
    assert said["data"].pop("held_out") == 0.1  # older ones do not say it
    config.write_text(json.dumps(said))
    again = likeness.train("ae", tmp_path / "photos", tmp_path / "run", images=32, **how)
    assert (
        again.run.seen == 32
        and np.array_equal(again.data.held_out, old.data.held_out)
        and len(again.data.held_out) <= 24
    )
    assert again.data.fingerprint == said["data"]["fingerprint"]
    new = likeness.train("ae", tmp_path / "photos", tmp_path / "new", images=16, **how)
    assert (
        len(new.data.held_out) == 40
        and "; 40 are held out" in new.data.verdict
        and new.run.config.data["held_out"] == 0.0
    )
    with pytest.raises(Refusal, match=r"made with --held-out 0\.0, not --held-out 0\.1"):
        likeness.train("ae", tmp_path / "photos", tmp_path / "new", images=32, held_out=0.1, **how)


def test_a_placeholder_that_fills_the_folder_is_not_what_models_are_judged_on():
    hashes = np.concatenate(
        [np.zeros(500, np.uint64), np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)]
    )
    assert 0 not in hashes[split(hashes)[1]]


def test_copies_in_a_folder_stay_on_one_side(photos):
    for i in range(12):
        Image.open(photos / f"photo{i:03}.png").save(photos / f"copy{i}.bmp")
    data = load(photos, size=40)
    assert len(data.x) == 24 and no_leak(data)


def test_the_split_is_the_same_at_every_size_and_colour(tmp_path):
    write_photos(tmp_path / "photos", 300)
    held = []
    for how in (dict(size=16), dict(size=24), dict(size=16, colour="grey"), dict(size=16, binarize=True)):
        data = load(tmp_path / "photos", **how)
        held.append({data.names[i] for i in data.held_out})
    assert len(held[0]) > 15 and all(h == held[0] for h in held)


def test_the_split_of_arrays_and_drawn_sets_is_the_same_at_every_size(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (300, 3, 12, 12), np.uint8))
    for source, sizes in ((tmp_path / "a.npy", (12, 8)), ("digits", (8, 12)), ("shapes:200", (32, 16))):
        first, second = (load(source, size=size).held_out.tolist() for size in sizes)
        assert first == second and len(first) > 5


def test_copies_share_the_smallest_of_their_keys():
    hashes = np.arange(100, dtype=np.uint64) // np.uint64(2) + np.uint64(2**63)
    keys = np.full(100, 2**64 - 1, np.uint64) - np.arange(100, dtype=np.uint64)
    keys[41] = 1  # with 40 it shows one picture
    train, held_out = split(hashes, None, keys)
    assert held_out.tolist() == [40, 41] and len(train) == 98


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Train", "Test"),
        ("TRAIN", "TEST"),
        ("training", "testing"),
        ("train", "dev"),
        ("train", "eval"),
        ("Training", "Valid"),
    ],
)
def test_an_official_split_is_seen_however_it_is_spelled(tmp_path, a, b):
    for i, name in enumerate(("cat", "dog")):
        write_photos(tmp_path / "d" / a / name, 5, 10 * i)
        write_photos(tmp_path / "d" / b / name, 2, 50 + 10 * i)
    data = load(tmp_path / "d", size=16)
    assert {data.names[i].split("/")[0] for i in data.held_out} == {b} and len(data.held_out) == 4
    assert len(data.train) == 10 and data.classes == ("cat", "dog")


def test_images_beside_an_official_split_are_trained_on_and_the_verdict_says_so(tmp_path):
    write_photos(tmp_path / "d" / "train", 5)
    write_photos(tmp_path / "d" / "test", 3, 50)
    photo(90).save(tmp_path / "d" / "cover.png")
    data = load(tmp_path / "d", size=16)
    assert {data.names[i] for i in data.held_out} == {f"test/photo05{i}.png" for i in range(3)} and len(
        data.train
    ) == 6
    assert (
        "the 3 of the official test split are held out; 1 outside of its folders are trained on"
    ) in data.verdict


# Check


def test_check_counts_what_is_there(photos):
    Image.open(photos / "photo000.png").save(photos / "exact.bmp")
    Image.open(photos / "photo001.png").save(photos / "near.jpg", quality=90)
    Image.new("RGB", (100, 50), "red").save(photos / "plain.png")
    photo(70).convert("CMYK").save(photos / "print.jpg")
    (photos / "bad.png").write_bytes(b"no")
    report = check(photos, Reading(size=32))
    assert report.images == 16 and report.shape == (3, 32, 32) and report.train + report.held_out == 16
    assert (
        report.skipped == {"not images": 1}
        and report.verdict.endswith(report.full_list)
        and "bad.png" in Path(report.full_list).read_text()
    )
    assert (
        report.exact.groups == 1
        and report.exact.images == 2
        and report.exact.examples == (("exact.bmp", "photo000.png"),)
    )
    assert report.near.groups == 1 and set(report.near.examples[0]) == {"near.jpg", "photo001.png"}
    assert (
        report.original_sizes == {"40x40": 15, "100x50": 1}
        and report.short_sides == {"32-63": 16}
        and report.enlarged == 0
    )
    assert report.modes == {"RGB": 15, "CMYK": 1} and report.converted == {"CMYK": 1} and report.blank == 1
    assert check(photos).enlarged == 16
    assert json.loads(json.dumps(report.describe()))["images"] == 16


def test_check_of_sets_that_are_no_files():
    report = check("shapes:200")
    assert (
        sum(report.classes.values()) == 200
        and report.captions == 200
        and report.original_sizes == {}
        and report.full_list == ""
    )
    assert check("digits").classes["0"] == 178


def test_near_copies_are_found_and_strangers_are_not():
    def version(image: Image.Image, k: int) -> Image.Image:
        if k == 1:
            return Image.open(io.BytesIO(encoded(image, "JPEG", quality=50)))
        return (
            image.resize((32, 32), Image.Resampling.LANCZOS).resize((64, 64), Image.Resampling.BICUBIC)
            if k == 2
            else image
        )

    x = np.stack(
        [np.asarray(version(photo(i, 64, 64), k)).transpose(2, 0, 1) for k in range(3) for i in range(200)]
    )
    groups = near_duplicates.near_groups(x, np.arange(600, dtype=np.uint64))
    # only versions of one picture
    assert sum(sorted(g % 200)[0] == sorted(g % 200)[-1] for g in groups) == len(groups)
    assert sum(len(g) for g in groups) > 0.95 * 600
    pale = np.concatenate([x[:200], x[:200] // 4 + 96])  # the same hash, and clearly another picture
    assert (
        near_duplicates.dct_hash(pale, np.arange(200)) ^ near_duplicates.dct_hash(pale, np.arange(200, 400))
        == 0
    ).mean() > 0.5
    assert near_duplicates.near_groups(pale, np.arange(400, dtype=np.uint64)) == []


def crowd(n: int, side: int) -> np.ndarray:
    """Frames of one film: all alike, none equal."""
    frame = np.asarray(photo(3, side, side)).transpose(2, 0, 1).astype(int)
    return np.clip(frame + np.random.default_rng(0).integers(-3, 4, (n, 3, side, side)), 0, 255).astype(
        np.uint8
    )


def test_the_frames_of_a_film_are_each_shrunk_once_and_hardly_compared_twice(monkeypatch):
    shrunk: list[int] = []
    pairs: list[int] = []
    make, alike = near_duplicates.Coarse.make, near_duplicates.Coarse.alike
    monkeypatch.setattr(
        near_duplicates.Coarse,
        "make",
        lambda self, which: (shrunk.extend(which.tolist()), make(self, which))[1],
    )
    monkeypatch.setattr(
        near_duplicates.Coarse, "alike", lambda self, a, b: (pairs.extend(a.tolist()), alike(self, a, b))[1]
    )
    (group,) = near_duplicates.near_groups(crowd(300, 64), np.arange(300, dtype=np.uint64))
    assert len(group) == 300 and len(shrunk) == len(set(shrunk)) == 300
    assert 299 <= len(pairs) < 3 * 300


def test_strangers_with_one_hash_are_compared_with_no_more_than_their_share(monkeypatch):
    x = np.zeros((1000, 1, 8, 8), np.uint8)
    x[:, 0, 0, 0] = np.arange(1000) % 256  # one hash for all, and blank as they are each stays alone
    pairs: list[int] = []
    shrunk: list[int] = []
    make, alike = near_duplicates.Coarse.make, near_duplicates.Coarse.alike
    monkeypatch.setattr(
        near_duplicates.Coarse,
        "make",
        lambda self, which: (shrunk.extend(which.tolist()), make(self, which))[1],
    )
    monkeypatch.setattr(
        near_duplicates.Coarse,
        "alike",
        lambda self, a, b: (pairs.extend(a.tolist()), alike(self, a, b))[1] & False,
    )
    monkeypatch.setattr(near_duplicates, "CROWD", 5)
    assert near_duplicates.near_groups(x, np.arange(1000, dtype=np.uint64)) == []
    assert len(shrunk) == len(set(shrunk)) and 0 < len(pairs) <= 5 * 1000 * near_duplicates.BANDS


def test_few_large_pictures_are_worked_on_at_once(monkeypatch):
    sizes: list[int] = []
    real = near_duplicates._shrink
    monkeypatch.setattr("likeness.data.pixels.AT_ONCE", 2 * 3 * 64 * 64)

    class Watched(np.ndarray):
        def __getitem__(self, rows):
            found = np.asarray(self)[rows]
            sizes.append(len(found))
            return found

    near_duplicates.near_groups(crowd(20, 64).view(Watched), np.arange(20, dtype=np.uint64))
    assert real(64, 16).shape == (16, 64) and sizes and max(sizes) == 2
