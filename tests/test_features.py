"""Features: a row an image, the same numbers as a program that takes one image after another, and the same
bytes after a kill."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from PIL import Image

from likeness.cli.features import features as verb
from likeness.core import BadData, Busy, DiskTrouble, Refusal
from likeness.features import extract as extraction
from likeness.features import images as gallery
from likeness.features.extract import Output, extract, header
from likeness.features.images import Pictures, ahead, pictures
from likeness.features.opening import load

LAYERS = ("conv_pw_3_relu", "global_average_pooling2d")


@pytest.fixture(scope="module")
def net():
    return load("mobilenet", "none")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twenty pictures of two classes, of several formats and sizes, and one file that is none."""
    folder, chance = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(20):
        w, h = chance.integers(20, 200, 2)
        image = Image.fromarray(
            np.kron(chance.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((50, 50, 1), np.uint8))[
                :h, :w
            ]
        )
        place = folder / ("cats" if i % 2 else "dogs") / f"{i:02}.{'jpg' if i % 3 else 'png'}"
        place.parent.mkdir(exist_ok=True)
        (image.convert("L") if i == 7 else image).save(place)
    (folder / "cats" / "05b.jpg").write_bytes(b"\xff\xd8\xff damaged")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(extraction, "AT_ONCE", dict(cpu=4, cuda=4))


def done(net, source, out: Path, layers=LAYERS[:1], **options):
    *_, at = extract(net, str(source), layers, out, size=options.pop("size", 64), **options)
    return at


def one_by_one(net, folder: Path, layer: str, size: int) -> np.ndarray:
    """What a program in Keras does: load_img, preprocess_input, predict, flatten, for one file after another,
    channels last."""
    out = []
    for path in sorted(folder.rglob("*.*")):
        if path.name != "05b.jpg":
            x = (
                np.asarray(
                    Image.open(path).convert("RGB").resize((size, size), Image.Resampling.NEAREST), np.float32
                )
                / 127.5
                - 1
            )
            y = net(torch.from_numpy(x).permute(2, 0, 1)[None], [layer])[layer]
            out.append(y.movedim(1, -1).flatten().numpy())
    return np.stack(out)


def test_rows_are_those_of_one_image_after_another(net, photos, tmp_path):
    at = done(net, photos, tmp_path / "f.npy")
    x = np.load(tmp_path / "f.npy", mmap_mode="r")
    with torch.no_grad():
        wanted = one_by_one(net, photos, LAYERS[0], 64)
    assert x.dtype == np.float32 and x.shape == wanted.shape == (20, 16 * 16 * 128)
    np.testing.assert_allclose(x, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    listed = list(csv.DictReader((tmp_path / "f.csv").open()))
    names = sorted(str(p.relative_to(photos)) for p in photos.rglob("*.*") if p.name != "05b.jpg")
    assert [(int(r["row"]), r["file"], r["label"]) for r in listed] == [
        (i, n, n[:4]) for i, n in enumerate(names)
    ]
    assert [(n, why) for n, why, _ in at.done.skipped] == [("cats/05b.jpg", "damaged")]
    assert extraction.verdict(at.done).startswith(
        "21 images: 20 used, 1 skipped (1 damaged, such as cats/05b.jpg: "
    )


def test_pools(net, photos, tmp_path):
    done(net, photos, tmp_path / "all.npy")
    places = np.load(tmp_path / "all.npy").reshape(20, 16 * 16, 128)
    for pool, wanted in (("avg", places.mean(1)), ("max", places.max(1))):
        done(net, photos, tmp_path / f"{pool}.npy", pool=pool)
        np.testing.assert_allclose(np.load(tmp_path / f"{pool}.npy"), wanted, rtol=1e-5, atol=1e-6)


def test_layers_in_one_pass_are_those_one_at_a_time(net, photos, tmp_path):
    done(net, photos, tmp_path / "both.npy", LAYERS)
    done(net, photos, tmp_path / "folder", LAYERS)
    for layer in LAYERS:
        done(net, photos, tmp_path / f"{layer}.npy", [layer])
        alone = np.load(tmp_path / f"{layer}.npy")
        for path in (tmp_path / f"both-{layer}.npy", tmp_path / "folder" / f"{layer}.npy"):
            np.testing.assert_allclose(np.load(path), alone, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "both.csv").read_bytes() == (tmp_path / "folder" / "features.csv").read_bytes()


# Killed, and going on


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".json"}


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_after_a_kill_the_bytes_are_the_same(net, photos, tmp_path, monkeypatch, chunks):
    """What lies on the disk when a process is killed: a save, and behind it part of what came after."""
    monkeypatch.setattr(extraction, "SAVE", 0.0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done(net, photos, whole, LAYERS)
    work = iter(extract(net, str(photos), LAYERS, tmp_path / "cut", size=64))
    for _ in range(chunks + 1):
        at = next(work)
    shutil.copytree(tmp_path / "cut", killed)
    work.close()
    for path in killed.iterdir():
        if path.suffix != ".json":
            with path.open("ab") as file:
                file.write(b"half a row")
    assert np.load(tmp_path / "cut" / f"{LAYERS[1]}.npy", mmap_mode="r").shape == (at.done.rows, 1024)
    *_, end = extract(net, str(photos), LAYERS, killed, size=64)
    assert end.fresh == 20 - at.done.rows < 20
    assert content(killed) == content(whole)
    *_, again = extract(net, str(photos), LAYERS, killed, size=64)
    assert again.fresh == 0 and content(killed) == content(whole)


def test_a_kill_before_the_first_save(net, photos, tmp_path):
    work = iter(extract(net, str(photos), LAYERS[:1], tmp_path / "a", size=64))
    next(work)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    work.close()
    assert json.loads((tmp_path / "b" / "features.json").read_text())["done"]["rows"] == 0
    for name in "ab":
        done(net, photos, tmp_path / name)
    assert len(content(tmp_path / "a")) == 2
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_another_request_is_refused_with_the_difference(net, photos, tmp_path):
    done(net, photos, tmp_path / "f.npy", LAYERS[1:])
    for options, says in (
        (dict(pool="avg"), "pool '' there, 'avg' asked for"),
        (dict(size=96), "size 64 there, 96 asked for"),
    ):
        with pytest.raises(Refusal, match=f"holds other features: {says}"):
            done(net, photos, tmp_path / "f.npy", LAYERS[1:], **options)
    with pytest.raises(Refusal, match=r"sha256 .* there, .* asked for"):
        done(load("mobilenet", "none", seed=1), photos, tmp_path / "f.npy", LAYERS[1:])
    other = tmp_path / "photos"
    shutil.copytree(photos, other)
    with pytest.raises(Refusal, match=r"holds other features: data '.* there"):
        done(net, other, tmp_path / "f.npy", LAYERS[1:])


def test_a_changed_folder_is_another_request(net, photos, tmp_path):
    other = tmp_path / "photos"
    shutil.copytree(photos, other)
    done(net, other, tmp_path / "f.npy", LAYERS[1:])
    (other / "dogs" / "00.png").unlink()
    with pytest.raises(Refusal, match="other features: data '"):
        done(net, other, tmp_path / "f.npy", LAYERS[1:])


def test_files_that_are_not_ours_are_left_alone(net, photos, tmp_path):
    (tmp_path / "f.npy").write_bytes(b"mine")
    with pytest.raises(Refusal, match=r"f.npy exists, and there is no f.json"):
        done(net, photos, tmp_path / "f.npy")
    assert (tmp_path / "f.npy").read_bytes() == b"mine"
    done(net, photos, tmp_path / "g.npy", LAYERS[1:])
    (tmp_path / "g.csv").unlink()
    with pytest.raises(BadData, match=r"g.csv is gone"):
        done(net, photos, tmp_path / "g.npy", LAYERS[1:])
    (tmp_path / "g.json").write_text("{")
    with pytest.raises(BadData, match=r"g.json is damaged"):
        done(net, photos, tmp_path / "g.npy", LAYERS[1:])
    with pytest.raises(Refusal, match=r"should end in .npy"):
        done(net, photos, tmp_path / "f.csv")


def test_two_processes_do_not_write_one_file(net, photos, tmp_path):
    work = iter(extract(net, str(photos), LAYERS[1:], tmp_path / "f.npy", size=64))
    next(work)
    with pytest.raises(Busy, match="another process"):
        done(net, photos, tmp_path / "f.npy", LAYERS[1:])
    assert len(list(work)) > 1
    assert np.load(tmp_path / "f.npy").shape == (20, 1024)


@contextmanager
def no_room_behind(size: int) -> Iterator[None]:
    """Files that this process writes end there, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_what_could_not_be_written(net, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SAVE", 0.0)
    done(net, photos, tmp_path / "whole")
    with no_room_behind(128 + 9 * 4 * 16 * 16 * 128 + 1000), pytest.raises(DiskTrouble):
        done(net, photos, tmp_path / "cut")
    told = json.loads((tmp_path / "cut" / "features.json").read_text())["done"]
    # The damaged file is the sixth: the second chunk has three rows, and the third one did not fit.
    assert (told["files"], told["rows"], told["finished"], len(told["skipped"])) == (8, 7, False, 1)
    assert done(net, photos, tmp_path / "cut").fresh == 13
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_what_is_broken_off_within_a_chunk_counts_for_nothing(net, photos, tmp_path, monkeypatch):
    done(net, photos, tmp_path / "whole")
    work = extract(net, str(photos), LAYERS[:1], tmp_path / "cut", size=64)
    walk = iter(work)
    next(walk)

    class Struck:
        def __init__(self, file: IO[bytes]):
            self.file = file

        def write(self, _: object) -> None:
            raise KeyboardInterrupt

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    work.output.files = {name: Struck(file) for name, file in work.output.files.items()}
    monkeypatch.setattr(
        Output, "save", lambda self, finished=False, save=Output.save: (unstruck(self), save(self, finished))
    )
    with pytest.raises(KeyboardInterrupt):
        next(walk)
    monkeypatch.undo()
    monkeypatch.setattr(extraction, "AT_ONCE", dict(cpu=4, cuda=4))
    done(net, photos, tmp_path / "cut")
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def unstruck(output: Output) -> None:
    output.files = {name: getattr(file, "file", file) for name, file in output.files.items()}


@pytest.mark.parametrize("part", ["npy", "csv"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_file_that_lost_its_end_is_not_filled_with_zeros(
    net, photos, tmp_path, part, finished, monkeypatch
):
    monkeypatch.setattr(extraction, "SAVE", 0.0)
    work = iter(extract(net, str(photos), LAYERS[1:], tmp_path / "f.npy", size=64))
    for _ in work if finished else range(3):
        next(work, None)
    work.close()
    path = tmp_path / f"f.{part}"
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    with pytest.raises(
        BadData,
        match=rf"f.{part} is shorter than .*f.json says; remove " r"both and " r"run the " r"command again",
    ):
        done(net, photos, tmp_path / "f.npy", LAYERS[1:])
    assert path.read_bytes() == half


def test_what_is_finished_is_not_written_again(net, photos, tmp_path):
    done(net, photos, tmp_path, LAYERS[1:])
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.iterdir()}
    done(net, photos, tmp_path, LAYERS[1:])
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.iterdir()} == before


def test_a_folder_may_be_called_otherwise_on_the_way(net, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos.parent)
    next(work := iter(extract(net, photos.name, LAYERS[1:], tmp_path / "f.npy", size=64)))
    work.close()
    assert json.loads((tmp_path / "f.json").read_text())["asked"]["source"] == str(photos)
    for name in (f"{photos.name}/", str(photos)):
        assert done(net, name, tmp_path / "f.npy", LAYERS[1:]).done.rows == 20


def test_a_header_is_as_long_for_any_number_of_rows():
    assert len({len(header(rows, 100_352)) for rows in (0, 1, 999, 10**9)}) == 1


# Reading


def test_every_thread_decodes_and_only_so_many_images_ahead():
    """As many at the same time as there are threads, or all of them would wait for each other for ever."""
    threads, begun, lock = os.cpu_count() or 1, [], threading.Lock()
    together = threading.Barrier(threads)

    def get(i: int) -> np.ndarray:
        with lock:
            begun.append(i)
        if i < threads:
            together.wait(timeout=60)
        return np.zeros((3, 1, 1), np.uint8)

    work = ahead(Pictures(1000, "", get, str, str), 0, 4)
    assert [i for i, _ in next(work)] == [0, 1, 2, 3]
    assert max(begun) < 2 * 4 + threads
    assert [i for part in work for i, _ in part] == list(range(4, 1000))


def test_only_pillow_is_hushed_and_only_while_a_file_is_decoded(tmp_path, recwarn):
    for i in range(6):
        Image.fromarray(np.full((20, 20), i, np.uint8)).save(tmp_path / f"{i}.png")
    before, images = list(warnings.filters), pictures(str(tmp_path), 16, "nearest")

    def scaled(i: int) -> np.ndarray:
        with gallery.HUSHED:
            warnings.warn_explicit("odd file", UserWarning, "TiffImagePlugin.py", 1, "PIL.TiffImagePlugin")
            warnings.warn_explicit("another thread's", UserWarning, "walker.py", 1, "walker")
        return images.get(i)

    for _ in ahead(replace(images, get=scaled), 0, 2):
        warnings.warn("mine", stacklevel=1)
    assert {str(w.message) for w in recwarn} == {"mine", "another thread's"}
    assert list(warnings.filters) == before


def test_so_many_are_chosen_before_any_is_looked_at(net, photos, tmp_path):
    done(net, photos, tmp_path / "all.npy", LAYERS[1:])
    at = done(net, photos, tmp_path / "few.npy", LAYERS[1:], n=7, seed=3)
    lines, few = (list(csv.DictReader((tmp_path / f"{name}.csv").open())) for name in ("all", "few"))
    rows = [int(line["row"]) for line in lines if line["file"] in {line["file"] for line in few}]
    assert at.total == 7 == at.done.files and len(rows) == at.done.rows >= 6
    assert [lines[i]["file"] for i in rows] == [line["file"] for line in few]
    np.testing.assert_allclose(
        np.load(tmp_path / "few.npy"), np.load(tmp_path / "all.npy")[rows], rtol=1e-4, atol=1e-6
    )
    with pytest.raises(Refusal, match=r"chosen \[7, 21, 3\] there, \[7, 21, 4\] asked for"):
        done(net, photos, tmp_path / "few.npy", LAYERS[1:], n=7, seed=4)


def test_a_large_jpeg_is_read_pixel_by_pixel(tmp_path):
    """Decoding it at half its size first would be quicker, and give other nearest pixels."""
    x = np.random.default_rng(0).integers(0, 256, (1500, 1400, 3), dtype=np.uint8)
    Image.fromarray(x).save(tmp_path / "a.jpg")
    found = pictures(str(tmp_path), 100, "nearest").get(0)
    assert np.array_equal(
        found.transpose(1, 2, 0),
        np.asarray(Image.open(tmp_path / "a.jpg").resize((100, 100), Image.Resampling.NEAREST)),
    )
    for name in ("bilinear", "lanczos", "fit"):
        assert pictures(str(tmp_path / "a.jpg"), 100, name).get(0).shape == (3, 100, 100)


def test_pictures_are_turned_and_opaque_and_of_eight_bits(tmp_path):
    grey = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "ink.jpg")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(
        np.repeat(np.arange(64, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 3), np.uint8), 1, 1)
    ).save(tmp_path / "turned.png", exif=exif)
    found = pictures(str(tmp_path), 64, "nearest")
    images = {found.name(i): found.get(i) for i in range(found.total)}
    assert np.array_equal(images["deep.png"][1], np.rint(grey / 257))
    assert (images["clear.png"] == 255).all()
    assert images["ink.jpg"][:, 5, 5].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert images["turned.png"][0, :, 0].tolist() == list(range(63, -1, -1))


def test_sets_that_have_a_name_and_arrays(net, tmp_path, monkeypatch):
    at = done(net, "shapes:8", tmp_path / "s.npy", LAYERS[1:])
    assert at.done.rows == 8 and {r["label"] for r in csv.DictReader((tmp_path / "s.csv").open())} == {
        "cross",
        "square",
        "star",
        "triangle",
    }
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (6, 10, 10), dtype=np.uint8))
    assert done(net, tmp_path / "x.npy", tmp_path / "a.npy", LAYERS[1:]).done.rows == 6
    one = pictures(str(tmp_path / "x.npy"), 20, "nearest")
    assert np.array_equal(one.get(2)[0], np.kron(np.load(tmp_path / "x.npy")[2], np.ones((2, 2), np.uint8)))
    with pytest.raises(Refusal, match="holds points"):
        done(net, "ring", tmp_path / "p.npy")


def test_what_cannot_be_done_is_refused_before_anything_is_written(net, photos, tmp_path):
    cases = [
        (dict(layers=["conv_pw_33"]), "has no layer 'conv_pw_33'"),
        (dict(pool="median"), "--pool median is none of: avg, max"),
        (dict(interpolation="cubic"), "--interpolation cubic is none of: nearest"),
        (dict(size=8), "32 pixels a side"),
    ]
    for options, says in cases:
        with pytest.raises(Refusal, match=says):
            done(net, photos, tmp_path / "f.npy", **options)
    with pytest.raises(Refusal, match="there is no folder, file or set called"):
        done(net, tmp_path / "nowhere", tmp_path / "f.npy")
    (tmp_path / "none").mkdir()
    with pytest.raises(BadData, match="holds no images"):
        done(net, tmp_path / "none", tmp_path / "f.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["none"]
    (tmp_path / "none" / "a.png").write_bytes(b"no picture")
    with pytest.raises(BadData, match=r"none of the 1 files of .* can be used .1 not images, such as a.png"):
        done(net, tmp_path / "none", tmp_path / "f.npy")


# The verb


def test_the_verb_writes_and_goes_on(photos, tmp_path, capsys):
    argv = [
        str(photos),
        "--network",
        "squeezenet",
        "--weights",
        "none",
        "--layer",
        "fire2/concat",
        "--layer",
        "pool10",
        "--size",
        "64",
    ]
    argv += ["--pool", "max", "-o", str(tmp_path / "f.npy"), "--json"]
    for _ in range(2):
        assert verb(argv) == 0
        said = json.loads(capsys.readouterr().out)
        assert [(r["layer"], r["shape"]) for r in said["layers"]] == [
            ("fire2/concat", [20, 128]),
            ("pool10", [20, 1000]),
        ]
        assert len(said["sha256"]) == 64 and said["skipped"][0][0] == "cats/05b.jpg"
        assert np.load(said["layers"][0]["path"]).shape == (20, 128)


def test_the_verb_shows_the_layers(capsys):
    assert verb(["--layers", "vgg19"]) == 0
    said = capsys.readouterr().out
    assert "block4_pool" in said and "14 x 14 x 512" in said and "124 px" in said
    assert verb(["--layers", "mobilenet", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["layers"]
    assert (
        rows[0] == dict(layer="input_layer", output="224 x 224 x 3", sees="1 px")
        and rows[-1]["output"] == "1000"
    )
    with pytest.raises(Refusal, match="which layers"):
        verb(["photos"])
