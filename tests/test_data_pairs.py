"""Two kinds of pictures that belong together are told from classes, by names."""

from __future__ import annotations

import itertools
import shlex
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import photo
from likeness.data import Reading, load
from likeness.data.check import check
from likeness.data.pairs import partners, recognise
from likeness.runs.run import _spelled_out


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(seed).save(path)


WORDS = ["street", "harbour", "old bridge", "tower", "market", "park"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))


def in_both(a: str, b: str, stems: list[str], second: str = "{}.png") -> list[str]:
    return [f"{a}/{s}.jpg" for s in stems] + [f"{b}/{second.format(s)}" for s in stems]


NUMBERED = [f"{i:04}" for i in range(20)]


@pytest.mark.parametrize(
    ("names", "kind", "a", "b", "tests"),
    [
        (in_both("images", "masks", NUMBERED), "pairs", ["images"], ["masks"], []),
        (in_both("masks", "Images", NUMBERED), "pairs", ["Images"], ["masks"], []),
        (
            in_both("set/images", "set/masks", NUMBERED, "{}_mask.png"),
            "pairs",
            ["set/images"],
            ["set/masks"],
            [],
        ),
        ([*in_both("inputs", "targets", NUMBERED), "inputs/more.jpg"], "pairs", ["inputs"], ["targets"], []),
        (
            in_both("train/images", "train/labels", NUMBERED) + in_both("val/images", "val/labels", ["7"]),
            "pairs",
            ["train/images"],
            ["train/labels"],
            ["val"],
        ),
        (in_both("images/train", "masks/train", NUMBERED), "pairs", ["images/train"], ["masks/train"], []),
        (in_both("A", "B", NUMBERED), "pairs", ["A"], ["B"], []),
        (in_both("lr", "HR", NUMBERED), "pairs", ["lr"], ["HR"], []),
        (in_both("HR", "LR", NUMBERED), "pairs", ["LR"], ["HR"], []),
        (
            [f"leftImg8bit/train/aachen_{s}_leftImg8bit.png" for s in NUMBERED]
            + [
                f"gtFine/train/aachen_{s}_gtFine_{w}.png"
                for s in NUMBERED
                for w in ("color", "instanceIds", "labelTrainIds")
            ],
            "pairs",
            ["leftImg8bit/train"],
            ["gtFine/train"],
            [],
        ),
        (in_both("trainA", "trainB", NUMBERED), "domains", ["trainA"], ["trainB"], []),
        (in_both("trainA", "trainB", WORDS), "pairs", ["trainA"], ["trainB"], []),
        (
            [*in_both("trainA", "trainB", NUMBERED), "testA/x.jpg", "testB/y.jpg"],
            "domains",
            ["trainA"],
            ["trainB"],
            ["testA", "testB"],
        ),
        (
            in_both("train/A", "train/B", NUMBERED) + in_both("test/A", "test/B", NUMBERED),
            "pairs",
            ["train/A"],
            ["train/B"],
            ["test"],
        ),
    ],
)
def test_known_layouts(names, kind, a, b, tests):
    found = recognise(names)
    assert found is not None and (found.kind, list(found.a), list(found.b)) == (kind, a, b) and found.known
    held = (*found.test_a, *found.test_b)
    assert bool(held) == bool(tests) and all(any(f.startswith(t) for t in tests) for f in held)


@pytest.mark.parametrize(
    "names",
    [
        in_both("cat", "dog", NUMBERED),  # classes number their files alike
        in_both("cat", "dog", [f"IMG_{i:04}" for i in range(20)]),
        in_both("healthy", "ill", ["scan_left_1", "scan_right_1", "scan_left_2", "scan_right_2"]),
        [f"images/{i}.jpg" for i in range(9)] + [f"masks/{i}.jpg" for i in range(20, 29)],
        in_both("A", "B", NUMBERED) + in_both("C", "D", NUMBERED),
        [f"images/{s}.jpg" for s in NUMBERED],
        NUMBERED,
        [*in_both("images", "masks", NUMBERED), "loose.jpg"],
        ["train/x.jpg", "test/y.jpg"],
        ["A/horse1.jpg", "A/horse2.jpg", "B/zebra1.jpg"],  # a name of one letter is a name
        ["train/A/x.jpg", "train/B/y.jpg", "test/A/z.jpg", "test/B/w.jpg"],
        [],
    ],
)
def test_what_is_something_else(names):
    assert recognise(names) is None


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("abc01", min_size=1, max_size=4), min_size=1, max_size=30, unique=True),
    st.randoms(),
    st.integers(0, 29),
)
def test_partners_are_those_of_an_enumeration_in_whatever_order(stems, random, missing):
    names = in_both("images", "masks", stems)
    names = (
        [n for n in names if n != f"masks/{stems[missing % len(stems)]}.png"]
        if missing % 5 == 0 and len(stems) > 12
        else names
    )
    random.shuffle(names)
    found = recognise(names)
    if len(stems) < 2:
        assert found is None
        return
    bare = [n.split("/")[1].split(".")[0] for n in names]
    want = [
        (i, j) for i, j in itertools.product(range(len(names)), repeat=2) if names[i][0] == "i" and names[j][0] == "m" and bare[i] == bare[j]  # noqa: E501
    ]  # fmt: skip
    assert (
        found is not None
        and partners(found, names) == want
        and found.matched == len(want)
        and found.alone == len(names) - 2 * len(want)
    )


def test_partners_of_one_split_are_not_looked_for_in_another():
    names = in_both("train/images", "train/masks", ["1", "2"]) + in_both(
        "test/images", "test/masks", ["1", "3"]
    )
    found = recognise(names)
    assert found is not None and partners(found, names) == [(0, 2), (1, 3), (4, 6), (5, 7)]


def test_equal_names_alone_take_no_classes_away(tmp_path):
    found = recognise(in_both("smile", "neutral", WORDS))
    assert found is not None and found.kind == "pairs" and not found.known
    for k, name in enumerate(("smile", "neutral")):
        for i, person in enumerate(("alice", "bob", "carol", "dora")):
            save(tmp_path / "d" / name / f"{person}.png", 10 * k + i)
    data = load(tmp_path / "d", size=16)
    assert data.classes == ("neutral", "smile") and sorted(data.y.tolist()) == [0] * 4 + [1] * 4
    assert (
        "neutral and smile are taken for classes, though all 4 names are in both: if these are pairs, call "
        "the folders A and B"
    ) in data.verdict
    (tmp_path / "d" / "smile").rename(tmp_path / "d" / "B")
    (tmp_path / "d" / "neutral").rename(tmp_path / "d" / "A")
    pairs = load(tmp_path / "d", size=16)
    assert pairs.y is None and len(pairs.x) == len(pairs.pairs) == 4 and pairs.settings["layout"] == "pairs"
    mixed = load(tmp_path / "d", size=16, layout="together")
    assert mixed.y is None and "A and B look like pairs, of which 4 are called alike" in mixed.verdict


@pytest.mark.parametrize("form", ["{}/{}", "train{}/{}"])
def test_a_flag_makes_classes_of_folders_named_like_pairs_or_domains(tmp_path, form):
    for k, name in enumerate("AB"):
        for i in range(4):
            save(tmp_path / "d" / (form.format(name, i) + ".png"), 10 * k + i)
    without = load(tmp_path / "d", size=16, layout="together")
    assert without.y is None and "; if they are classes: --layout classes; " in without.verdict
    data = load(tmp_path / "d", size=16, layout="classes")
    assert data.classes == tuple(form.format(name, "").rstrip("/") for name in "AB")
    assert data.y.tolist() == [0] * 4 + [1] * 4 and "look like" not in data.verdict
    assert load(tmp_path / "d", **data.settings).fingerprint == data.fingerprint
    assert load(tmp_path / "d", **without.settings).fingerprint == without.fingerprint != data.fingerprint


def test_a_run_that_names_no_layout_has_the_classes_that_it_wrote_down(tmp_path):
    for k, name in enumerate("AB"):
        for i in range(4):
            save(tmp_path / "d" / name / f"{i}.png", 10 * k + i)
    old = _spelled_out(dict(size=16, colour="rgb"))
    assert old["layout"] == "classes"  # made before pairs were recognised, or since, when there were none
    assert load(tmp_path / "d", **old, classes=["A", "B"]).y.tolist() == [0] * 4 + [1] * 4
    since = load(tmp_path / "d", **old, classes=[])
    together = load(tmp_path / "d", **old | dict(layout="together"))
    assert since.y is None and since.fingerprint == together.fingerprint
    later = _spelled_out(dict(source=str(tmp_path / "d"), size=16, colour="rgb", layout="auto"))
    assert later["layout"] == "together"  # made when pairs were one set of images
    assert _spelled_out(dict(source="mnist", size=16, layout="auto"))["layout"] == "auto"
    assert _spelled_out(later | dict(layout="auto"))["layout"] == "auto"  # made since, and is what it says


def test_pairs_are_told_and_are_no_classes(tmp_path):
    for i in range(6):
        for k, name in enumerate(("images", "masks")):
            (tmp_path / "my photos" / name).mkdir(parents=True, exist_ok=True)
            photo(10 * k + i).save(tmp_path / "my photos" / name / f"{i}.png")
    data = load(tmp_path / "my photos", size=16, layout="together")
    assert data.y is None and data.classes == ()
    assert (
        "images and masks look like pairs, of which 6 are called alike: they are no classes, and a model "
        "of both mixes two kinds"
    ) in data.verdict
    command = data.verdict.split("one of them (")[1].split(")")[0]
    assert shlex.split(command) == ["likeness", "train", "vae", str(tmp_path / "my photos" / "images")]
    one = load(shlex.split(command)[-1], size=16)
    assert len(one.x) == 6 and "pairs" not in one.verdict
    assert "pairs" in check(tmp_path / "my photos", Reading(size=16)).verdict
    (tmp_path / "my photos" / "metadata.csv").write_text(
        "file_name,label\n" + "".join(f"{n}/{i}.png,{i % 2}\n" for n in ("images", "masks") for i in range(6))
    )
    assert load(tmp_path / "my photos", size=16).classes == ("0", "1")  # somebody says what they are


def test_domains_in_an_archive_are_told_with_another_remedy(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as file:
        for i in range(4):
            photo(i).save(tmp_path / "x.png")
            file.write(tmp_path / "x.png", f"set/train{'AB'[i % 2]}/{i}.png")
    verdict = load(tmp_path / "d.zip", size=16, layout="together").verdict
    assert ("trainA and trainB look like two domains") in verdict and (
        "unpack it, and name one of these folders"
    ) in verdict
