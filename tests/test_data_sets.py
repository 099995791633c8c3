"""The sets that have a name: what shapes shows, and where the others are found, fetched and verified."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import http.client
import http.server
import io
import os
import re
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_helpers import encoded, idx_bytes, no_leak, same, write_idx_set
from likeness.core import BadData, DiskTrouble, Offline, Refusal
from likeness.data import downloads, faces, load, named, shapes


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_DATA", raising=False)
    return tmp_path / "cache"


# Shapes


def test_shapes_are_reproducible_and_image_i_depends_on_i_alone():
    few, many = load("shapes:50"), load("shapes:700")
    assert (
        np.array_equal(few.x, many.x[:50])
        and list(few.texts) == list(many.texts[:50])
        and few.y.tolist() == many.y[:50].tolist()
    )
    other = np.concatenate(list(shapes.draw(shapes.invent(50, 32, seed=1))))
    assert not np.array_equal(other, few.x)
    assert load("shapes:50", size=64).x.shape == (50, 3, 64, 64) and no_leak(many)


@pytest.mark.parametrize("side", [32, 64])
def test_shapes_show_what_their_attributes_and_captions_say(side):
    data = load("shapes:300", size=side)
    for i in range(300):
        scene, picture, text = data.attributes[i], data.x[i].astype(int), data.texts[i]
        assert text.endswith(f"on a {scene['background']} background") and len(
            re.findall(r"\ba (?:small|large)", text)
        ) == len(scene["objects"])
        assert data.classes[data.y[i]] == scene["objects"][0]["shape"]
        assert len({o["place"] for o in scene["objects"]}) == len(scene["objects"])
        # large ones first
        assert [o["size"] for o in scene["objects"]] == sorted(o["size"] for o in scene["objects"])
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
    area = [
        np.clip(0.5 - d(axis[None, :], axis[:, None], np.float64(r)), 0, 1).sum() / r**2
        for d in shapes.DISTANCES
    ]
    star = 5 * 0.48 * np.sin(np.pi / 5)
    want = [np.pi, 4 * 0.82**2, 3 * 3**0.5 / 4, star, 4 * (2 * 0.4 - 0.4**2)]
    assert np.allclose(area, want, rtol=0.02)


def test_captions_and_scenes_can_be_sliced():
    data = load("shapes:20")
    assert (
        data.texts[-1] == data.texts[19]
        and len(data.texts[3:7]) == 4
        and data.attributes[3:5] == (data.attributes[3], data.attributes[4])
    )
    with pytest.raises(IndexError):
        data.attributes[20]


# Faces


def test_faces_are_reproducible_and_image_i_depends_on_i_alone():
    few, many = load("faces:50"), load("faces:700")
    assert np.array_equal(few.x, many.x[:50]) and list(few.texts) == list(many.texts[:50])
    other = np.concatenate(list(faces.draw(faces.invent(50, 32, seed=1))))
    assert not np.array_equal(other, few.x) and no_leak(many)
    assert (
        load("faces:50", size=16).x.shape == (50, 3, 16, 16) and load("faces:2", size=600).x.shape[2] == 600
    )
    counts = np.bincount(faces.invent(4000, 32).eyes) / 4000
    assert np.allclose(counts, [0.6, 0.2, 0.2], atol=0.03)


def test_faces_show_what_their_attributes_and_captions_say():
    """Looked at through the pose: forehead, cheek, jaw, rim of the eye, mouth, shirt and corner."""
    data = load("faces:200", size=192)

    def at(i: int, u: float, v: float) -> np.ndarray:
        f = data.attributes[i]
        u, v = u * f["size"], (v - faces.CHIN) * f["size"]
        x = u * np.cos(f["tilt"]) - v * np.sin(f["tilt"]) + f["x"]
        y = v * np.cos(f["tilt"]) + u * np.sin(f["tilt"]) + faces.CHIN + f["y"]
        return data.x[i][:, int((y + 1) * 96), int((x + 1) * 96)].astype(int)

    for i in range(200):
        f, text, w = data.attributes[i], data.texts[i], data.attributes[i]["width"]
        skin, hair = np.array(faces.SKINS[f["skin"]]), np.array(faces.COLOURS[f["colour"]])
        near = lambda seen, colour: abs(seen - np.array(colour)).max() <= 1  # noqa: E731
        assert near(at(i, 0, -0.55), skin if f["hair"] == "bald" else hair), (i, f)
        assert near(at(i, 0.35 * w, 0.12), skin)
        assert near(at(i, 0.22, 0.36), 0.95 * hair if f["beard"] == "beard" else skin), (i, f)
        dark = near(at(i, 0.19 * w + 0.125, -0.03), faces.INK)
        assert dark == (f["eyes"] == "sunglasses"), (i, f)
        lips = {"serious": 0.33, "smiling": 0.37, "sad": 0.29, "laughing": 0.4}
        assert near(at(i, 0, lips[f["mouth"]]), faces.LIPS), (i, f)
        assert near(data.x[i][:, 187, int((f["x"] + 1) * 96)].astype(int), faces.SHIRTS[f["shirt"]])
        assert near(data.x[i][:, 2, 2].astype(int), faces.GROUNDS[f["background"]])
        assert data.classes[data.y[i]] == f["hair"] and f["mouth"] in text and f"{f['shirt']} shirt" in text
        assert ("glasses" in text) == (f["eyes"] != "open") and ("bald" in text) == (f["hair"] == "bald")
        assert f["beard"] == "none" or f"a {f['colour']} {f['beard']}" in text


def test_a_folder_by_the_name_of_a_set_is_remarked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "built-in" not in load("digits").verdict
    (tmp_path / "digits").mkdir()
    assert "digits is a built-in set, and what is called so here is ./digits" in load("digits").verdict


@pytest.mark.parametrize(
    "name", ["shapes:", "shapes:1", "shapes:-5", "shapes:x", "shapes:99999999999999999999", "shapes:²"]
)
def test_a_number_of_shapes_that_makes_no_sense_is_refused(name):
    if name == "shapes:":
        assert len(load(name).x) == named.COUNTED["shapes"]
        return
    with pytest.raises(Refusal, match="shapes:50000"):
        load(name)


# Named sets, with a lock table of the test's own


def locked_set(
    monkeypatch, folder: Path, url: str = "https://nowhere.invalid/", pack: bool = True
) -> tuple[np.ndarray, ...]:
    parts = write_idx_set(folder, pack=pack)
    table = []
    for old, x in zip(downloads.FILES["mnist"], parts):
        fetched = gzip.compress(idx_bytes(x), mtime=0)
        table.append(
            downloads.Locked(
                old.name,
                f"{url}{old.name}.gz",
                len(fetched),
                len(idx_bytes(x)),
                hashlib.sha256(idx_bytes(x)).hexdigest(),
            )
        )
    monkeypatch.setitem(downloads.FILES, "mnist", tuple(table))
    return parts


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
def test_a_named_set_is_found_under_likeness_data(tmp_path, monkeypatch, folder, pack):
    x, y, tx, _ = locked_set(monkeypatch, tmp_path / "sets" / folder, pack=pack)
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "sets"))
    data = load("mnist")
    assert (
        np.array_equal(data.x[:, 0], np.concatenate([x, tx]))
        and data.held_out.tolist() == list(range(30, 40))
        and data.y[:30].tolist() == y.tolist()
    )
    monkeypatch.delenv("LIKENESS_DATA")
    assert same(load("mnist"), data) and same(load("mnist", **data.settings), data)  # from the cache


def test_a_copy_that_is_not_what_the_table_says_is_refused(tmp_path, monkeypatch):
    locked_set(monkeypatch, tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path))
    blob = gzip.decompress(path.read_bytes())
    for bad in (
        gzip.compress(blob[:-1] + bytes([blob[-1] ^ 1])),
        gzip.compress(blob + b"more"),
        path.read_bytes()[:-20],
        b"junk",
    ):
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
            assert (
                refusal.value.code == 69
                and downloads.FILES[name][0].url in text
                and str(place / "downloads" / name) in text
                and "LIKENESS_DATA" in text
            )
    assert not list(place.rglob("downloads/*/*"))


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
    for locked, x in zip(downloads.FILES["mnist"], parts):
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
        os.truncate(entry / "x.u8", 100) if entry.is_dir() else None
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


def test_a_killed_download_leaves_nothing_and_another_process_keeps_its_own(
    tmp_path, monkeypatch, server, place
):
    serve(tmp_path, locked_set(monkeypatch, tmp_path / "made", server))
    folder = place / "downloads" / "mnist"
    folder.mkdir(parents=True)
    killed, other = (folder / f"train-images-idx3-ubyte.gz.part-{n}" for n in (1, 2))
    killed.write_bytes(b"half")
    with other.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert len(load("mnist").x)
        assert not killed.exists() and other.exists()
    assert len(list(folder.iterdir())) == 5


def test_a_download_that_breaks_off_says_how_far_it_came_and_to_run_again(tmp_path, monkeypatch, place):
    locked_set(monkeypatch, tmp_path / "made", "http://127.0.0.1:9/")

    class Body(io.BytesIO):
        def read(self, n=-1):
            if part := super().read(min(n, 50)):
                return part
            raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: Body(b"x" * 100))
    with pytest.raises(Offline, match=r"broke off after 100 of [\d,]+ bytes.*; run the same command again"):
        load("mnist")
    assert not list((place / "downloads" / "mnist").iterdir())


@pytest.mark.parametrize("where", ["fsync", "os.replace"])
def test_a_disk_that_is_full_when_a_download_ends_says_so(tmp_path, monkeypatch, server, place, where):
    serve(tmp_path, locked_set(monkeypatch, tmp_path / "made", server))

    def full(*path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"likeness.storage.partial.{where}", full)
    with pytest.raises(DiskTrouble, match=r"writing the download.*No space left"):
        load("mnist")
    assert not list((place / "downloads" / "mnist").iterdir())


def cifar_row(label: int, image: np.ndarray) -> bytes:
    return bytes([label]) + image.tobytes()


def write_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """The six files of the authors' archive, each with n images."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (6 * n, 3, 32, 32), np.uint8), np.arange(6 * n) % 10
    folder.mkdir(parents=True)
    for k, name in enumerate(downloads.BATCHES):
        blob = b"".join(cifar_row(y[i], x[i]) for i in range(k * n, k * n + n))
        (folder / name).write_bytes(blob)
        monkeypatch.setitem(downloads.BATCHES, name, hashlib.sha1(blob).hexdigest())
    return x, y


def test_cifar10_from_its_files_and_from_its_archive(tmp_path, monkeypatch):
    x, y = write_cifar(tmp_path / "sets" / "cifar-10-batches-bin", monkeypatch)
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "sets"))
    data = load("cifar10")
    assert (
        np.array_equal(data.x, x)
        and np.array_equal(data.y, y)
        and data.held_out.tolist() == list(range(100, 120))
        and data.classes[3] == "cat"
    )
    archive = tmp_path / "packed" / "cifar10" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "sets" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    blob = archive.read_bytes()
    old = downloads.FILES["cifar10"][0]
    monkeypatch.setitem(
        downloads.FILES, "cifar10", (replace(old, bytes=len(blob), digest=hashlib.sha256(blob).hexdigest()),)
    )
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "packed"))
    assert same(load("cifar10"), data)


def test_a_damaged_file_of_cifar10_is_refused(tmp_path, monkeypatch):
    write_cifar(tmp_path / "cifar10", monkeypatch)
    (tmp_path / "cifar10" / "data_batch_2.bin").write_bytes(b"\0" * 3073 * 20)
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path))
    with pytest.raises(BadData, match="data_batch_2"):
        load("cifar10")


def write_sheets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Contact sheets of noise, which the lock table is made to know."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    x, labels = (
        rng.integers(0, 256, (1000 * len(names), 3, 32, 32), np.uint8),
        np.random.default_rng(0).integers(0, 10, 51_000).astype(np.uint8),
    )
    for k, name in enumerate(names):
        sheet = (
            x[1000 * k : 1000 * (k + 1)]
            .reshape(25, 40, 3, 32, 32)
            .transpose(0, 3, 1, 4, 2)
            .reshape(800, 1280, 3)
        )
        (folder / name).write_bytes(
            encoded(Image.fromarray(sheet), "WEBP", lossless=True, quality=0, method=0)
        )
    labels.tofile(folder / downloads.LABELS)
    for name in (*names, downloads.LABELS):
        monkeypatch.setitem(downloads.SHEETS, name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
    return x, labels


def test_part_of_cifar10_from_contact_sheets_says_that_it_is_a_part(tmp_path, monkeypatch):
    x, labels = write_sheets(
        tmp_path / "cifar10", monkeypatch, ("train_07.webp", "train_40.webp", "test_00.webp")
    )
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path))
    data = load("cifar10")
    assert np.array_equal(data.x, x) and np.array_equal(
        data.y, np.concatenate([labels[7000:8000], labels[40_000:41_000], labels[50_000:]])
    )
    assert (
        "a part of CIFAR-10: 2,000 of its 50,000 training images and 1,000 of its 10,000 test images"
    ) in data.verdict
    write_sheets(tmp_path / "cifar10", monkeypatch, ("train_08.webp",), seed=1)
    assert "3,000 of its 50,000 training images" in load("cifar10").verdict  # one more is noticed


@pytest.mark.parametrize("name", ["train_07.webp", "test_00.webp", "labels_51000.u8", "train_20.webp"])
def test_a_contact_sheet_that_is_not_in_the_table_is_refused(tmp_path, monkeypatch, name):
    write_sheets(tmp_path / "cifar10", monkeypatch, ("train_07.webp", "test_00.webp"))
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path))
    (tmp_path / "cifar10" / name).write_bytes(b"other")
    with pytest.raises(BadData, match=name):
        load("cifar10")


def test_whether_a_set_is_here_is_told_by_its_files_and_makes_nothing(tmp_path, monkeypatch, place):
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "sets"))
    for folder in ("mnist", "cifar10"):
        (tmp_path / "sets" / folder).mkdir(parents=True)
    away = {"mnist", "stacked-mnist", "fashion-mnist", "cifar10"}
    assert {row["name"]: row["here"] for row in named.listed()} == {
        n: "after a download" if n in away else "yes" for n in named.NAMES
    } and not place.exists()
    locked_set(monkeypatch, tmp_path / "sets" / "mnist")
    write_sheets(tmp_path / "sets" / "cifar10", monkeypatch, ("train_07.webp", "test_00.webp"))
    assert [downloads.complete(name) for name in ("mnist", "fashion-mnist", "cifar10")] == [True, False, True]
    next((tmp_path / "sets" / "mnist").iterdir()).unlink()
    assert not downloads.complete("mnist") and not place.exists()


def test_a_server_that_speaks_no_http_is_like_no_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(http.client.BadStatusLine("junk"))
        )
        with pytest.raises(Offline):
            load("mnist")


def test_the_lock_table_is_whole():
    for name, files in downloads.FILES.items():
        assert name in downloads.FOLDERS and name in downloads.LICENCES and name in named.NAMES
        assert all(
            f.url.startswith("https://") and re.fullmatch("[0-9a-f]{64}", f.digest) and f.bytes and f.fetched
            for f in files
        )
    assert len(downloads.SHEETS) == 32 and all(
        re.fullmatch("[0-9a-f]{64}", digest) for digest in downloads.SHEETS.values()
    )
