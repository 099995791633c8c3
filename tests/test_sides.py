"""Pairs and two domains reach a model from folders, archives, metadata, arrays and by code."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import small_run
from likeness.core import BadData, Refusal
from likeness.data import Reading, drawn, load, picture
from likeness.data.beside import together
from likeness.data.check import check
from likeness.data.dataset import Images
from likeness.data.writer import content_hash
from likeness.runs import origin


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))


def blocks(seed: int, channels: int = 3, size: int = 16, cells: int = 4) -> np.ndarray:
    """Coloured squares of 4 x 4 pixels, which no scaling by whole numbers changes."""
    x = np.random.default_rng(seed).integers(0, 256, (cells, cells, channels)).astype(np.uint8)
    return np.repeat(np.repeat(x, size // cells, 0), size // cells, 1).squeeze()


def save(path: Path, x: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(x).save(path)


def pairs_of(root: Path, n: int = 12, a: str = "images/{}.png", b: str = "masks/{}_mask.png") -> None:
    for i in range(n):
        save(root / a.format(i), blocks(i))
        save(root / b.format(i), blocks(1000 + i, 1))


def held(data) -> set[int]:
    return set(data.held_out.tolist())


def test_pairs_of_a_folder_are_those_of_equal_names_with_channels_of_their_own(tmp_path):
    pairs_of(tmp_path / "d")
    data = load(tmp_path / "d", size=16)
    assert data.pairs.shape == (12, 3, 16, 16) and data.x.shape == (12, 1, 16, 16)
    assert data.spec.source == (3, 16) and data.spec.channels == 1 and data.settings["colour"] == "auto"
    for row, name in enumerate(data.names):
        i = int(Path(name).stem.split("_")[0])
        assert np.array_equal(data.x[row, 0], blocks(1000 + i, 1))
        assert np.array_equal(data.pairs[row], blocks(i).transpose(2, 0, 1))
    batch = data.batch(0, 0, 8)
    rows = data.train[data.order(0, np.arange(8))]
    assert np.array_equal(batch.y.image, picture(data.pairs[rows]))
    assert "a model that takes no image learns B alone" in data.verdict
    again = load(tmp_path / "d", **data.settings)
    assert again.fingerprint == data.fingerprint
    back = load(tmp_path / "d", size=16, swap=True)
    assert np.array_equal(back.x, data.pairs) and np.array_equal(back.pairs, data.x)
    assert load(tmp_path / "d", **back.settings).fingerprint == back.fingerprint != data.fingerprint


CLASSES = 0, 40, 41, 200


def maps_of(root: Path, a: str, b: str, n: int = 6, indexed: bool = False) -> None:
    for i in range(n):
        rng = np.random.default_rng(i)
        save(root / a / f"{i}.png", rng.integers(0, 256, (37, 45, 3)).astype(np.uint8))
        classes = np.array(CLASSES, np.uint8)[rng.integers(0, len(CLASSES), (37, 45))]
        picture = Image.fromarray(classes)
        if indexed:
            picture = Image.fromarray(classes, "P")
            picture.putpalette([v for c in range(256) for v in (c, 255 - c, 7)])
        (root / b).mkdir(parents=True, exist_ok=True)
        picture.save(root / b / f"{i}.png")


@pytest.mark.parametrize("a, b, indexed", [("images", "masks", False), ("A", "B", False), ("A", "B", True)])
def test_label_maps_are_scaled_without_values_in_between(tmp_path, a, b, indexed):
    """By the folder's name, and by their few values; never the photographs beside them."""
    maps_of(tmp_path / "d", a, b, indexed=indexed)
    data = load(tmp_path / "d", size=16)
    values = {tuple(v) for v in data.x.transpose(0, 2, 3, 1).reshape(-1, data.x.shape[1]).tolist()}
    assert values == {(c, 255 - c, 7) if indexed else (c,) for c in CLASSES}
    assert "side B is label maps" in data.verdict and "side A is label maps" not in data.verdict
    for row, name in enumerate(data.names):  # each pixel is one of those that it lies on
        classes = np.asarray(Image.open(tmp_path / "d" / name).convert("RGB" if indexed else "L"))[:, 4:41]
        at = (np.arange(16) + 0.5) * 37 / 16
        near = classes[np.ix_(at.astype(int), at.astype(int))].reshape(16, 16, -1)
        assert np.array_equal(data.x[row], near.transpose(2, 0, 1))
    photos = load(tmp_path / "d" / a, size=16)
    assert {p.tobytes() for p in data.pairs} == {p.tobytes() for p in photos.x}


def test_thin_lines_and_photographs_are_scaled_smoothly(tmp_path):
    maps_of(tmp_path / "d", "edges", "photos")
    maps_of(tmp_path / "e", "photos", "edges")
    for place in "d", "e":
        assert "label maps" not in load(tmp_path / place, size=16, layout="pairs").verdict


def test_a_run_that_learnt_masks_scaled_by_lanczos_finds_them_again(tmp_path):
    from likeness.data.folder import LANCZOS
    from likeness.runs import origin
    from likeness.runs.run import Config

    maps_of(tmp_path / "d", "images", "masks")
    before, now = (load(tmp_path / "d", size=16, **more) for more in (dict(about=LANCZOS), {}))
    assert before.fingerprint != now.fingerprint and len(np.unique(before.x)) > len(CLASSES)
    config = Config("pix2pix", before.spec, None, {}, before.identity, {})
    assert np.array_equal(origin.load(config, tmp_path / "run").x, before.x)


@pytest.mark.parametrize("pack", ["zip", "tar"])
def test_an_archive_is_read_as_its_folder(tmp_path, pack):
    pairs_of(tmp_path / "d")
    shutil.make_archive(str(tmp_path / "p"), pack, tmp_path / "d")
    one, other = load(tmp_path / "d", size=16), load(tmp_path / f"p.{pack}", size=16)
    rows, there = (
        np.argsort(list(data.names)) for data in (one, other)
    )  # an archive has an order of its own
    assert np.array_equal(one.x[rows], other.x[there])
    assert np.array_equal(one.pairs[rows], other.pairs[there])
    assert {one.names[row] for row in one.held_out} == {other.names[row] for row in other.held_out}


def test_a_pair_with_a_broken_file_and_names_without_partner_are_left_out_and_told(tmp_path):
    pairs_of(tmp_path / "d", 30)
    whole = load(tmp_path / "d", size=16)
    (tmp_path / "d" / "masks" / "7_mask.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    save(tmp_path / "d" / "images" / "lonely.png", blocks(99))
    data = load(tmp_path / "d", size=16)
    assert "29 pairs; " in data.verdict
    assert "1 image without a partner is left out: images/lonely.png" in data.verdict
    assert "1 pair is left out, since one side cannot be used: masks/7_mask.png" in data.verdict
    kept = [row for row, name in enumerate(whole.names) if name != "masks/7_mask.png"]
    assert np.array_equal(data.x, whole.x[kept]) and np.array_equal(data.pairs, whole.pairs[kept])


def test_no_side_of_a_held_out_pair_is_in_training(tmp_path):
    for i in range(40):
        save(tmp_path / "d" / "A" / f"{i}.png", blocks(i // 2))  # each A twice
        save(tmp_path / "d" / "B" / f"{i}.png", blocks(500 + (i + 1) // 2))  # and each B, one on
    for i in range(40, 80):
        save(tmp_path / "d" / "A" / f"{i}.png", blocks(i))
        save(tmp_path / "d" / "B" / f"{i}.png", np.zeros((16, 16, 3), np.uint8) if i % 2 else blocks(600 + i))
    data = load(tmp_path / "d", size=16, held_out=0.3)
    blank = content_hash(np.zeros((3, 16, 16), np.uint8))
    for x in (data.x, np.asarray(data.pairs)):
        sides = [{content_hash(x[row]) for row in rows} - {blank} for rows in (data.train, data.held_out)]
        assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert len(data.train) + len(data.held_out) == 80
    dark = [row for row in range(80) if not data.x[row].any()]
    assert len(dark) == 20 and {*dark} & held(data) and {*dark} & set(data.train.tolist()), (
        "they share nothing"
    )


def test_pairs_that_are_linked_are_those_of_an_enumeration():
    draw = np.random.default_rng(3)
    a, b = (np.stack([blocks(k) for k in draw.integers(0, 14, 20)]).transpose(0, 3, 1, 2) for _ in "ab")
    sides = [Images(x, np.array([content_hash(one) for one in x], np.uint64), "") for x in (a, b)]
    got = together(*sides)
    groups = [{i} for i in range(20)]
    for i in range(20):
        for j in range(i):
            if any(side.hashes[i] == side.hashes[j] for side in sides):
                one, other = (next(g for g in groups if k in g) for k in (i, j))
                if one is not other:
                    groups.remove(other)
                    one |= other
    assert 2 < len(groups) < 20
    assert {frozenset(np.flatnonzero(got == k)) for k in got} == {frozenset(g) for g in groups}


def test_the_official_split_of_pairs_and_domains_is_held_out(tmp_path):
    pairs_of(tmp_path / "p", 10, "train/A/{}.png", "train/B/{}.png")
    for i in range(50, 54):
        save(tmp_path / "p" / "test" / "A" / f"{i}.png", blocks(i))
        save(tmp_path / "p" / "test" / "B" / f"{i}.png", blocks(1000 + i, 1))
    data = load(tmp_path / "p", size=16)
    assert [Path(data.names[row]).parts[0] for row in data.held_out] == ["test"] * 4
    assert "the 4 of the official test split are held out" in data.verdict and len(data.train) == 10
    for side, n, tests in (("A", 9, 3), ("B", 14, 2)):
        for i in range(n):
            save(tmp_path / "d" / f"train{side}" / f"{i}.png", blocks(i + 100 * ord(side)))
        for i in range(tests):
            save(tmp_path / "d" / f"test{side}" / f"{i}.png", blocks(i + 50 + 100 * ord(side)))
    both = load(tmp_path / "d", size=16)
    a = both.other
    assert (len(a.train), len(a.held_out), len(both.train), len(both.held_out)) == (9, 3, 14, 2)
    assert {name.split("/")[0] for name in a.names} == {"trainA", "testA"} and both.pairs is None
    seen = {x.tobytes() for x in a.x[a.train]}
    batch = both.batch(0, 0, 9).y.image
    assert {x.tobytes() for x in ((batch + 1) * 127.5).round().byte().numpy()} == seen
    assert load(tmp_path / "d", **both.settings).fingerprint == both.fingerprint
    back = load(tmp_path / "d", size=16, swap=True)
    assert np.array_equal(back.x, a.x) and np.array_equal(back.other.x, both.x)
    assert back.other.source.endswith("trainB") and a.source.endswith("trainA")


def test_files_that_hold_both_sides(tmp_path):
    for i in range(8):
        save(tmp_path / "s" / f"{i}.png", np.concatenate([blocks(i), blocks(100 + i)], 1))
    data = load(tmp_path / "s", size=16)
    assert (
        "exactly twice as wide as high and most break" in data.verdict and "--layout together" in data.verdict
    )
    assert data.settings["layout"] == "side-by-side"
    assert np.array_equal(data.pairs[3], blocks(3).transpose(2, 0, 1))
    assert np.array_equal(data.x[3], blocks(103).transpose(2, 0, 1))
    again = load(tmp_path / "s", **data.settings)
    assert again.fingerprint == data.fingerprint
    assert load(tmp_path / "s", size=16, layout="together").pairs is None
    save(tmp_path / "s" / "x.png", blocks(9))  # not twice as wide: only who asks has pairs
    assert load(tmp_path / "s", size=16).pairs is None
    asked = load(tmp_path / "s", size=16, layout="side-by-side")
    assert len(asked.x) == 8 and "8 pairs" in asked.verdict
    for cls in ("u", "v"):
        save(tmp_path / "c" / cls / "1.png", np.concatenate([blocks(1), blocks(2)], 1))
        save(tmp_path / "c" / cls / "2.png", np.concatenate([blocks(3), blocks(4)], 1))
    assert load(tmp_path / "c", size=16).classes == ("u", "v"), "classes are what somebody has made"


@pytest.mark.parametrize(
    ("first", "second", "source"),
    [
        ("file_name", "target_file_name", "first"),
        ("file_name", "conditioning_image_file_name", "second"),
        ("output_file_name", "input_file_name", "second"),
        ("one_file_name", "other_file_name", "first"),
        ("image", "conditioning_image", "second"),
    ],
)
@pytest.mark.parametrize("table", ["jsonl", "csv"])
def test_two_columns_of_the_metadata_name_a_pair(tmp_path, first, second, source, table):
    names = [(f"x/{i}.png", f"y/{9 - i}.png") for i in range(10)]
    for i, (one, other) in enumerate(names):
        save(tmp_path / "m" / one, blocks(i))
        save(tmp_path / "m" / other, blocks(100 + i))
    rows = [{first: a, second: b, "text": f"picture {i}"} for i, (a, b) in enumerate(names)]
    if table == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = "".join(",".join(line) + "\n" for line in [rows[0].keys(), *(row.values() for row in rows)])
    (tmp_path / "m" / f"metadata.{table}").write_text(text)
    data = load(tmp_path / "m", size=16)
    a, b = (0, 100) if source == "first" else (100, 0)
    for i in range(10):
        assert np.array_equal(data.pairs[i], blocks(a + i).transpose(2, 0, 1))
        assert np.array_equal(data.x[i], blocks(b + i).transpose(2, 0, 1))
    assert list(data.texts) == [f"picture {i}" for i in range(10)] and "10 have captions" in data.verdict


def test_two_places_are_domains_or_pairs_and_each_may_be_an_array(tmp_path):
    for i in range(8):
        save(tmp_path / "one" / f"{i}.png", blocks(i))
        save(tmp_path / "two" / f"{i}.jpg.png", blocks(i + 50))
        save(tmp_path / "three" / f"{i}.png", blocks(i + 70, 1))
    data = load(tmp_path / "one", to=tmp_path / "two", size=16)
    assert data.source == str(tmp_path / "one") and data.other.source == data.source
    assert np.array_equal(data.other.x[2], blocks(2).transpose(2, 0, 1)) and len(data.x) == 8
    assert load(data.source, **data.settings).fingerprint == data.fingerprint
    paired = load(tmp_path / "one", to=tmp_path / "three", layout="pairs", size=16)
    assert np.array_equal(paired.pairs[5], blocks(5).transpose(2, 0, 1)) and paired.x.shape[1] == 1
    with pytest.raises(Refusal, match="0 pictures of equal names"):
        load(tmp_path / "one", to=tmp_path / "two", layout="pairs", size=16)
    x = np.random.default_rng(0).integers(0, 256, (2, 20, 16, 16, 3)).astype(np.uint8)
    np.save(tmp_path / "a.npy", x[0])
    np.save(tmp_path / "b.npy", x[1])
    arrays = load(tmp_path / "a.npy", to=tmp_path / "b.npy", layout="pairs")
    assert np.array_equal(arrays.pairs[7], x[0, 7].transpose(2, 0, 1))
    np.save(tmp_path / "b.npy", x[1, :9])
    with pytest.raises(Refusal, match=r"holds 20 images and .* 9"):
        load(tmp_path / "a.npy", to=tmp_path / "b.npy", layout="pairs")
    assert len(load(tmp_path / "a.npy", to=tmp_path / "b.npy").other.x) == 20
    with pytest.raises(BadData, match="same --size"):
        load("digits", to="shapes:20")


def test_a_domain_without_images_is_told_or_refused(tmp_path):
    for i in range(6):
        save(tmp_path / "d" / "trainA" / f"{i}.png", blocks(i))
    (tmp_path / "d" / "trainB").mkdir()
    assert "there is no image of domain B (trainB/)" in load(tmp_path / "d", size=16).verdict
    with pytest.raises(Refusal, match="has images in trainA"):
        load(tmp_path / "d", size=16, layout="domains")
    with pytest.raises(BadData, match="trainB holds 0 usable images"):
        load(tmp_path / "d" / "trainA", to=tmp_path / "d" / "trainB", size=16)
    for i in range(6):
        (tmp_path / "d" / "trainB" / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(BadData, match="trainB holds 0 usable images and 6 others"):
        load(tmp_path / "d", size=16)


@pytest.mark.parametrize(
    ("source", "how", "why"),
    [
        ("shapes:20", dict(swap=True), "has one"),
        ("shapes:20", dict(layout="pairs"), "DATA --to OTHER"),
        ("shapes:20", dict(tiles=True, size=16), "name a folder of photos"),
        ("outlines:20", dict(task="edges"), "outlines:20 speaks of another source"),
        ("outlines:20", dict(to="digits"), "two sides of its own"),
        ("outlines:20", dict(binarize=True), "--binarize is for one set"),
        ("outlines:20", dict(colour="grey"), "a lesson in colours"),
        ("digits", dict(to="digits", task="edges"), "--to speaks of another source"),
    ],
)
def test_what_does_not_go_together_is_refused(source, how, why):
    with pytest.raises(Refusal, match=why):
        load(source, **how)


# Drawn by code


@pytest.mark.parametrize("size", [0, 48])
def test_outlines_are_pairs_of_one_scene(size):
    data = load("outlines:60", size=size)
    side = size or 32
    assert data.pairs.shape == (60, 1, side, side) and data.x.shape == (60, 3, side, side)
    assert data.classes == drawn.FORMS and data.truth is None
    ground = data.x[:, :, 0, :1].reshape(60, 3, 1, 1)  # the corner
    inside = (data.x.astype(int) != ground).any(1)
    line = data.pairs[:, 0] < 100
    # a line lies on the border of what is coloured: within two pixels of it, and in most of its places
    near = np.zeros_like(inside)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            near |= np.roll(inside, (dy, dx), (1, 2))
    assert line.any((1, 2)).all() and not (line & ~near).any()
    for k, name in enumerate(drawn.OF_FORM):  # the class tells the colour that is there
        rows = np.flatnonzero(data.y == k)
        colour = np.array(drawn.COLOURS[name], np.uint8).reshape(1, 3, 1, 1)
        assert len(rows) and (data.x[rows] == colour).all(1).any((1, 2)).all()


def test_the_hidden_map_of_held_out_images_is_their_truth_and_nobody_else_sees_it():
    data = load("hidden-map:80", size=40)
    a = data.other
    assert data.truth.shape == (len(a.held_out), 3, 40, 40)
    assert not {x.tobytes() for x in data.truth} & {x.tobytes() for x in data.x}, "other scenes"
    scenes = drawn.invent("hidden-map", a.held_out)
    thick = np.rint(drawn._plain(scenes, 40, drawn.THICK))
    low, scale = (np.array(part).reshape(1, 3, 1, 1) for part in drawn.TINT)
    assert abs(data.truth - (low + scale * (255 - thick))).max() <= 0.51  # of rounding
    line = (a.x[a.held_out].max(1) < 60).sum(), (data.truth.min(1) > 195).sum()
    assert line[1] > 1.5 * line[0] > 0, "the outlines are thicker"
    assert np.array_equal(a.y[a.held_out], scenes.y) and data.classes == a.classes
    back = load("hidden-map:80", size=40, swap=True)
    assert np.array_equal(back.x, a.x) and np.array_equal(back.other.x, data.x)
    fresh = np.concatenate([*drawn.draw(drawn.invent("hidden-map", 80 + back.other.held_out), "plain", 40)])
    assert np.array_equal(back.truth, fresh)


def test_a_scene_depends_on_its_number_alone():
    few, many = (drawn.invent("day-night", np.arange(n)) for n in (3, 50))
    for style in ("day", "night"):
        one, other = (np.concatenate([*drawn.draw(s, style, 24)])[:3] for s in (few, many))
        assert np.array_equal(one, other)
    data = load("day-night:30")
    assert len(data.x) == len(data.other.x) == 30
    assert data.x.mean() < 70 < 130 < data.other.x.mean()
    assert load("day-night:30", **data.settings).fingerprint == data.fingerprint


# What is told


def test_check_says_what_both_sides_are(tmp_path):
    pairs_of(tmp_path / "d")
    result = check(tmp_path / "d", Reading(size=16))
    assert result.kind == "pairs" and result.source_shape == (3, 16, 16) and result.images == 12
    result, a = check("hidden-map:40"), load("hidden-map:40").other
    assert result.kind == "two domains" and (result.others, result.others_held_out) == (40, len(a.held_out))
    assert check("digits").kind == ""


# Domains whose files are called alike


def drawn_twice(root: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        save(root / "one" / f"{name}.png", blocks(i))
        save(root / "two" / f"{name}.png", 255 - blocks(i))


CODE_POINTS = [f"{0x2600 + 37 * i:x}" for i in range(60)] + [f"{0x1F300 + 5 * i:x}" for i in range(60)]


def test_domains_with_equal_names_hold_out_the_same_and_know_the_truth_of_these(tmp_path):
    drawn_twice(tmp_path, CODE_POINTS)
    save(tmp_path / "one" / "alone.png", blocks(5_000))
    data = load(tmp_path / "one", to=tmp_path / "two", size=16)
    a = data.other
    held = [[Path(side.names[row]).stem for row in side.held_out] for side in (a, data)]
    assert len(held[0]) >= 30 and sorted(held[0]) == sorted(held[1])
    assert np.array_equal(data.truth, 255 - a.x[a.held_out])
    for truth in data.truth:
        assert not (data.x[data.train] == truth).all((1, 2, 3)).any()
    assert "120 names are in both" in data.verdict and data.pairs is None
    assert len(a.train) + len(a.held_out) == 121
    images = ((data.batch(0, 0, 40).y.image + 1) * 127.5).round().byte().numpy()
    beside = ((data.batch(0, 0, 40).x + 1) * 127.5).round().byte().numpy()
    assert (images == 255 - beside).all((1, 2, 3)).sum() < 5, "partners do not meet"
    assert load(data.source, **data.settings).fingerprint == data.fingerprint
    back = load(tmp_path / "one", to=tmp_path / "two", size=16, swap=True)
    assert np.array_equal(back.truth, 255 - back.other.x[back.other.held_out])
    apart = load(tmp_path / "one", to=tmp_path / "two", size=16, apart=True)
    assert apart.truth is None and apart.fingerprint != data.fingerprint


@pytest.mark.parametrize("name", ["{:04d}", "frame_{}", "{:x}", "cat_{}"])
def test_two_heaps_that_are_both_numbered_have_no_partners(tmp_path, name):
    drawn_twice(tmp_path, [name.format(i) for i in range(60)])
    data = load(tmp_path / "one", to=tmp_path / "two", size=16)
    assert data.truth is None and "names are in both" not in data.verdict


def test_an_official_split_of_one_domain_holds_out_its_partners(tmp_path):
    for i, name in enumerate(CODE_POINTS):
        save(tmp_path / ("testA" if i < 12 else "trainA") / f"{name}.png", blocks(i))
        save(tmp_path / "trainB" / f"{name}.png", 255 - blocks(i))
    data = load(tmp_path, size=16, layout="domains")
    assert len(data.held_out) == len(data.other.held_out) == 12
    assert np.array_equal(data.truth, 255 - data.other.x[data.other.held_out])


def test_images_that_lie_in_both_domains_are_told(tmp_path):
    drawn_twice(tmp_path, [str(i) for i in range(20)])
    save(tmp_path / "two" / "x.png", blocks(3))
    assert "1 image of A lies in B, too" in load(tmp_path / "one", to=tmp_path / "two", size=16).verdict


def panorama(seed: int, high: int = 32) -> np.ndarray:
    """A landscape that goes on: smooth, and two times as wide as high."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 12, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((2 * high, high), Image.Resampling.BICUBIC))


def test_panoramas_are_no_pairs_and_pairs_are(tmp_path):
    for i in range(9):
        save(tmp_path / "wide" / f"{i}.png", panorama(i))
        one, other = (panorama(100 * k + i)[:, :32] for k in (1, 2))
        save(tmp_path / "both" / f"{i}.png", np.concatenate([one, other], 1))
        ink = np.full((32, 64, 3), 255, np.uint8)
        y, x = np.random.default_rng(i).integers(4, 16, 2)
        ink[y : y + 9, x : x + 12], ink[y : y + 9, 32 + x : 44 + x] = (200, 40, 40), (0, 0, 0)
        ink[y + 1 : y + 8, 33 + x : 43 + x] = 255
        save(tmp_path / "ink" / f"{i}.png", ink)  # an outline beside, all on white paper
        word = np.full((32, 64, 3), 255, np.uint8)
        word[y : y + 9, x : x + 12], word[25:30, 50:60] = 0, 0
        save(tmp_path / "words" / f"{i}.png", word)  # as wide, white in the middle
    for name, paired in (("wide", False), ("both", True), ("ink", True), ("words", False)):
        assert (load(tmp_path / name, size=16).pairs is not None) == paired, name
    assert load(tmp_path / "wide", size=16, layout="side-by-side").pairs is not None


def test_a_run_from_when_each_domain_was_split_for_itself_finds_that_split(tmp_path):
    drawn_twice(tmp_path, CODE_POINTS)
    how = dict(to=tmp_path / "two", size=16)
    then, now = (load(tmp_path / "one", **how, apart=apart) for apart in (True, False))
    for data in (then, now):
        run, _ = small_run("cyclegan", tmp_path / f"run-{data is now}", data)
        config = replace(run.config, data=data.identity)
        assert origin.load(config, run.folder).fingerprint == data.fingerprint
        run.close()
    assert then.fingerprint != now.fingerprint
