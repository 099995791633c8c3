"""Classes by their names, in their order; images without a class; and classes that nobody learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import likeness
from commands import ask, refused
from data_helpers import photo, write_photos
from likeness.cli import main
from likeness.core import Refusal
from likeness.data import labels, load
from likeness.evaluation.scores import load_scores
from likeness.inference import sampling
from likeness.training import symptoms

SMALL = dict(size=16, batch=16, latent=4, width=8, depth=1, precision="fp32", progress=False, images=32)


def noise(seed: int, path: Path) -> None:
    """A picture that needs no scaling: its pixels, and what is made of them, are the same everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8)).save(path)


def folders(root: Path, names: tuple[object, ...] = (1, 2, 10), split: bool = True, n: int = 10) -> Path:
    for place, name in enumerate(names):
        first = 100 * (int(name) if str(name).isdecimal() else place)
        for i in range(n):
            noise(first + i, root / ("train" if split else "") / str(name) / f"{i}.png")
        for i in range(4 * split):
            noise(first + 50 + i, root / "test" / str(name) / f"{i}.png")
    return root


# Order


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "1", "2"], ["1", "2", "10"]),
        (["180", "0", "90", "270"], ["0", "90", "180", "270"]),
        (["90", "-90", "0"], ["-90", "0", "90"]),
        (["0.5", "10", "2"], ["0.5", "2", "10"]),
        (["class10", "class9", "class1"], ["class1", "class9", "class10"]),
        (["zebra", "ant"], ["ant", "zebra"]),
        (["b", "2", "a10", "a9"], ["2", "a9", "a10", "b"]),
    ],
)
def test_numbers_are_in_the_order_of_numbers(names, order):
    assert labels.natural(names) == order


def test_folders_and_texts_are_in_natural_order(tmp_path):
    data = load(folders(tmp_path / "n"), size=16)
    assert data.classes == ("1", "2", "10")
    assert [data.classes[k] for k in data.y] == [name.split("/")[1] for name in data.names]
    x, y = np.zeros((6, 8, 8), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None], ["a10", "a9"] * 3
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = load(tmp_path / "a.npz")
    assert data.classes == ("a9", "a10") and data.y.tolist() == [1, 0] * 3


OLD = {
    "n": (("1", "10", "2"), "5dc7c85e9a47aa9ae11b069f1af307fb"),
    "s": ((), "544bf8f76fdb068d3cd71b4ec1ee6031"),
    "u": (("1", "10", "2", "unknown"), "07bb868a35666e215988e589cd4c6d99"),
    "nan.npz": (("0", "1", "2", "nan"), "3dcb35616e2d6b323d457dc757a97b0f"),
    "neg.npz": (("-1", "0", "1", "2"), "627fd610170a3df8e9eb93635fc6ba21"),
    "half.npz": ((), "fde2b08c0d3e741006de22528cb91871"),
}
"""classes and fingerprints that commit 8b5fccf wrote down of the sets that old_sets() makes"""


def old_sets(root: Path) -> None:
    folders(root / "n")
    folders(root / "s")
    noise(7, root / "s" / "train" / "stray.png")
    for i in range(10):
        for k in (1, 2, 10):
            noise(100 * k + i, root / "u" / "train" / str(k) / f"{i}.png")
    for i in range(4):
        noise(900 + i, root / "u" / "test" / "unknown" / f"{i}.png")
    x, y = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 3
    none = np.arange(30) % 8 == 0
    test = dict(x_test=x[30:], y_test=y[30:])
    np.savez(root / "nan.npz", x=x[:30], y=np.where(none, np.nan, y[:30]), **test)
    np.savez(root / "neg.npz", x=x[:30], y=np.where(none, -1, y[:30]), **test)
    np.savez(root / "half.npz", x=x[:30], y=y[:30], x_test=x[30:])


def test_a_run_of_before_keeps_its_classes(tmp_path):
    old_sets(tmp_path)
    for name, (classes, fingerprint) in OLD.items():
        size = 8 if name.endswith("npz") else 16
        data = load(tmp_path / name, size=size, classes=classes)
        assert (name, data.classes, data.fingerprint) == (name, classes, fingerprint)
        new = load(tmp_path / name, size=size)
        assert (new.classes != classes) and new.fingerprint != fingerprint


def test_it_goes_on_with_them(tmp_path):
    source = folders(tmp_path / "n")
    likeness.train("vae", source, tmp_path / "r", conditional=True, **SMALL)
    config = tmp_path / "r" / "config.json"
    old = json.loads(config.read_text())
    assert old["classes"] == ["1", "2", "10"]
    old["classes"], old["data"]["fingerprint"] = map(list_or_text, OLD["n"])
    del old["origin"]
    config.write_text(json.dumps(old))
    run = likeness.train("vae", source, tmp_path / "r", images=48, progress=False)
    names = [name.split("/")[1] for name in run.data.names]
    assert [("1", "10", "2")[k] for k in run.data.y] == names and run.classes == ("1", "10", "2")
    assert run.sample(2, label="10").recipe["label_number"] == 1
    assert likeness.open(tmp_path / "r").data.fingerprint == OLD["n"][1]


def list_or_text(value):
    return list(value) if isinstance(value, tuple) else value


# Names


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("numbered")
    likeness.train("pixelcnn", folders(folder / "n"), folder / "r", conditional=True, **small_pixels())
    return folder / "r"


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    source = folders(folder / "n", ("Cat", "dog"))
    likeness.train("ddpm", source, folder / "r", conditional=True, **small_ddpm())
    return folder / "r"


def small_pixels() -> dict:
    return dict(size=16, batch=16, width=4, depth=1, precision="fp32", progress=False, images=16)


def small_ddpm() -> dict:
    return dict(size=16, batch=16, scale=0.25, steps=3, precision="fp32", progress=False, images=16)


def test_a_label_is_a_name_first(numbered, capsys, tmp_path):
    run = likeness.open(numbered)
    drawn = {name: run.sample(2, label=name).x for name in ("1", "2", "10")}
    for k, name in enumerate(("1", "2", "10")):
        (own,) = sampling.batches(
            sampling.draw(run.model, sampling.conditions(run.model, np.arange(2), label=k), 2, 0)
        )
        assert np.array_equal(drawn[name], own)
        said = ask(capsys, "sample", str(numbered), "-n", "2", "--label", name, "-o", str(tmp_path / "x.npy"))
        assert (said["label"], said["label_number"]) == (name, k)
    assert "name one of: 1, 2, 10" in refused(capsys, "sample", str(numbered), "--label", "0")
    assert "name one of: 1, 2, 10" in refused(capsys, "sample", str(numbered), "--label", "dog")
    with pytest.raises(Refusal, match=r"label='1' or label='2'"):
        run.sample(2, label=1)  # number 1 is called 2
    for bad in ("3", 3, -1, 0.5):
        with pytest.raises(Refusal, match="no label"):
            run.sample(2, label=bad)


def test_every_verb_takes_names(named, numbered, capsys, tmp_path):
    own, out = str(named.parent / "n" / "train" / "Cat"), str(tmp_path / "x.npy")
    for label in ("dog", "DOG", "1"):
        said = ask(capsys, "sample", str(named), "-n", "2", "--label", label, "-o", out)
        assert (said["label"], said["label_number"]) == ("dog", 1)
        edited = ask(capsys, "edit", str(named), own, "-n", "2", "--draws", "1", "--label", label, "-o", out)
        assert (edited["label"], edited["label_number"]) == ("dog", 1)
    files = str(numbered.parent / "n" / "train" / "10")
    for verb in (["score"], ["complete", "--draws", "1", "-o", out]):
        said = ask(capsys, verb[0], str(numbered), files, "-n", "2", "--label", "10", *verb[1:])
        assert (said["label"], said["label_number"]) == ("10", 2)
    assert "name one of: Cat, dog" in refused(capsys, "export", str(named), "--label", "emu")
    run = likeness.open(named)
    assert run.classes == ("Cat", "dog")
    assert np.array_equal(run.sample(2, label="dog").x, run.sample(2, label=1).x)


def test_a_run_without_names_counts(tmp_path):
    run = likeness.train(
        "vae", folders(tmp_path / "n", ("ant", "bee")), tmp_path / "r", conditional=True, **SMALL
    )
    config = tmp_path / "r" / "config.json"
    old = json.loads(config.read_text())
    del old["classes"], old["origin"]  # as version 0.1 wrote it
    config.write_text(json.dumps(old))
    again = likeness.open(tmp_path / "r")
    assert again.classes == ("0", "1") and again.data.classes == ("ant", "bee")
    assert np.array_equal(again.sample(2, label=1).x, run.sample(2, label="bee").x)


def test_the_doctor_names_missing_classes():
    found = symptoms.dropped(np.zeros(128, int), np.repeat([0, 1, 2], 100), "classes", ("90", "180", "270"))
    assert found is not None and "(180, 270)" in found.evidence


# Images without a class


def test_a_file_beside_the_class_folders_takes_no_labels(tmp_path):
    whole = load(folders(tmp_path / "n", split=False), size=16)
    noise(7, tmp_path / "n" / "readme.png")
    data = load(tmp_path / "n", size=16)
    assert data.classes == whole.classes
    assert data.names[int(np.argmin(data.y))] == "readme.png"
    assert sorted(data.y[data.y != -1]) == sorted(whole.y)
    assert "1 unlabelled, in no class folder: readme.png" in data.verdict
    (tmp_path / "n" / "1" / "more").mkdir()
    (tmp_path / "n" / "readme.png").rename(tmp_path / "n" / "1" / "more" / "x.png")
    assert "in no class folder: 1/more/x.png" in load(tmp_path / "n", size=16).verdict
    usable = data.usable(("label",))
    assert (usable.y[np.union1d(usable.train, usable.held_out)] != -1).all() and data.usable(()) is data
    assert len(usable.train) + len(usable.held_out) == 30
    assert "the 1 unlabelled are left out" in usable.verdict


def test_many_files_beside_them_make_no_classes(tmp_path):
    folders(tmp_path / "n", ("ant", "bee"), split=False, n=3)
    for i in range(7):
        noise(700 + i, tmp_path / "n" / f"{i}.png")
    data = load(tmp_path / "n", size=16)
    assert data.y is None and "ant, bee are no classes, since most images lie in none" in data.verdict


@pytest.mark.parametrize("inside", ["", "unknown"])
def test_an_unlabelled_official_test_keeps_the_labels(tmp_path, inside):
    folders(tmp_path / "n", ("ant", "bee"))
    for name in ("ant", "bee"):
        (tmp_path / "n" / "test" / name).rename(tmp_path / name)
    for i in range(4):
        noise(900 + i, tmp_path / "n" / "test" / inside / f"{i}.png")
    data = load(tmp_path / "n", size=16)
    assert data.classes == ("ant", "bee") and (data.y[data.held_out] == -1).all()
    assert sorted(data.y[data.train]) == [0] * 10 + [1] * 10
    assert "4 unlabelled, in no class folder, such as test/" in data.verdict


def test_one_kind_of_test_folder_without_labels_leaves_those_of_the_other(tmp_path):
    folders(tmp_path / "n", ("ant", "bee"))
    for i in range(3):
        noise(900 + i, tmp_path / "n" / "val" / f"{i}.png")
    data = load(tmp_path / "n", size=16)
    of = dict(zip(data.names, data.y))
    assert {k for name, k in of.items() if name.startswith("val/")} == {-1}
    assert {k for name, k in of.items() if name.startswith("test/")} == {0, 1}


def test_a_file_beside_two_folders_of_pairs_makes_no_classes(tmp_path):
    for k, name in enumerate(("images", "masks")):
        for i in range(4):
            noise(100 * k + i, tmp_path / "p" / name / f"scene{'abcd'[i]}.png")
    noise(500, tmp_path / "p" / "cover.png")
    data = load(tmp_path / "p", size=16)
    assert (
        data.y is None and len(data.pairs) == 4 and "4 pairs; 1 image lies in neither folder" in data.verdict
    )
    mixed = load(tmp_path / "p", size=16, layout="together")
    assert mixed.y is None and len(mixed.x) == 9 and "look like pairs" in mixed.verdict


@pytest.mark.parametrize(
    ("y", "classes", "number"),
    [
        (np.where(np.arange(40) % 8 == 0, np.nan, np.arange(40) % 3), ("0", "1", "2"), None),
        (np.where(np.arange(40) % 8 == 0, -1, np.arange(40) % 3), ("0", "1", "2"), None),
        (np.where(np.arange(40) % 8 == 0, "", np.array(["bee", "ant"] * 20)), ("ant", "bee"), [1, 0]),
        (np.where(np.arange(40) % 8 == 0, "nan", np.array(["bee", "ant"] * 20)), ("ant", "bee"), [1, 0]),
    ],
)
def test_a_label_that_says_nothing_is_no_class(tmp_path, y, classes, number):
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = load(tmp_path / "a.npz")
    want = np.arange(40) % 3 if number is None else np.array(number * 20)
    assert data.classes == classes and data.y.tolist() == np.where(np.arange(40) % 8 == 0, -1, want).tolist()
    assert "5 unlabelled" in data.verdict


def test_minus_one_beside_one_is_a_class_and_a_test_set_may_have_no_labels(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2 * 2 - 1)
    assert load(tmp_path / "a.npz").classes == ("-1", "1")
    np.savez(tmp_path / "a.npz", x=x[:30], y=np.arange(30) % 3, x_test=x[30:])
    data = load(tmp_path / "a.npz")
    assert data.y.tolist() == (np.arange(30) % 3).tolist() + [-1] * 10 and data.classes == ("0", "1", "2")


def test_a_table_may_leave_an_image_without_a_label(tmp_path):
    write_photos(tmp_path / "d", 6)
    rows = [f"photo{i:03}.png,{'dog' if i % 2 else 'cat'}" for i in range(5)]
    (tmp_path / "d" / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    data = load(tmp_path / "d", size=16)
    assert data.classes == ("cat", "dog") and data.y.tolist() == [0, 1, 0, 1, 0, -1]
    assert "1 unlabelled, nothing is written about them: photo005.png" in data.verdict


def test_models_with_and_without_classes_learn_from_them(tmp_path):
    source = folders(tmp_path / "n", ("ant", "bee"))
    noise(7, source / "train" / "stray.png")
    conditional = likeness.train("vae", source, tmp_path / "c", conditional=True, **SMALL)
    free = likeness.train("vae", source, tmp_path / "f", **SMALL)
    assert len(free.data.train) == len(conditional.data.train) + 1 == 21
    (tmp_path / "n" / "test" / "ant").rename(tmp_path / "ant")
    (tmp_path / "n" / "test" / "bee").rename(tmp_path / "bee")
    for i in range(12):
        noise(900 + i, source / "test" / f"{i}.png")
    free = likeness.train("vae", source, tmp_path / "g", **SMALL)
    cards = {card.name: card for card in free.evaluate(n=12, network="none")}
    assert "labelled held-out images, 10 at least, and there are 0" in cards["kNN accuracy"].warnings[0]
    conditional = likeness.train("vae", source, tmp_path / "h", conditional=True, **SMALL)
    bits = next(
        card for card in conditional.evaluate(n=12, network="none") if card.name.startswith("bits/dim")
    )
    assert bits.split == "train" and "no labelled image was held out" in bits.warnings[0]


# Classes that nobody learns


@pytest.fixture(scope="module")
def strange(tmp_path_factory) -> Path:
    """A classifier and a conditional model of data whose class emu lies in the test folder alone."""
    folder = tmp_path_factory.mktemp("strange")
    source = folders(folder / "d", ("cat", "dog"))
    for i in range(4):
        noise(950 + i, source / "test" / "emu" / f"{i}.png")
    likeness.train("vae", source, folder / "v", conditional=True, **SMALL)
    likeness.train("classifier", source, folder / "c", size=16, width=4, images=32, progress=False)
    return folder


def test_it_stands_in_the_verdict_and_the_spec(strange):
    data = load(strange / "d", size=16)
    assert "of emu every image is held out: nobody learns it" in data.verdict
    assert data.spec.absent == (2,) and data.spec.learnt == (0, 1)
    assert "emu" in likeness.open(strange / "v").data.verdict
    rare = load(folders(strange / "all", ("cat", "dog"), split=False), size=16)
    assert rare.spec.absent == () and "nobody learns" not in rare.verdict


def test_it_stands_on_the_cards(strange):
    for run, names in (
        ("c", ["kNN accuracy", "linear accuracy", "accuracy"]),
        ("v", ["bits/dim given the class"]),
    ):
        likeness.open(strange / run).evaluate(n=30, network="none")
        cards = {card.name: card for card in load_scores(strange / run) if card.of == "model"}
        for name in names:
            assert any(
                "4 of 12 images are of a class that no training image has (emu)" in warning
                for warning in cards[name].warnings
            )


def test_it_is_not_offered(strange, capsys):
    run = likeness.open(strange / "v")
    for label in ("emu", "2", 2):
        with pytest.raises(Refusal, match=r"no training image .* is of class emu.*name one of: cat, dog"):
            run.sample(2, label=label)
    assert sampling.conditions(run.model, np.arange(6)).label.tolist() == [0, 1, 0, 1, 0, 1]
    assert set(run.model.likeliest(run.data.take(run.data.held_out).x).tolist()) <= {0, 1}
    assert "name one of: cat, dog" in refused(capsys, "sample", str(strange / "v"), "--label", "fox")


def test_check_counts_only_what_has_a_class(tmp_path, capsys):
    source = folders(tmp_path / "n", ("cat", "dog"), split=False)
    photo(3).save(source / "stray.png")
    said = ask(capsys, "check", str(source), "--size", "16", "--model", "none")
    assert said["classes"] == {"cat": 10, "dog": 10} and main(["check", str(source), "--model", "none"]) == 0
