"""Folders as people have them: 16-bit pictures, films and archives beside images, captions that cannot be
read, paths that lead nowhere."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_helpers import encoded, photo, write_photos
from likeness.core import BadData, DiskTrouble, Refusal, Spec
from likeness.data import Reading, load, user_images
from likeness.data import decode as decoding
from likeness.data.decode import Decoded, Skip, decode, read_bytes


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_DATA", raising=False)


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path / "photos", 20)
    return tmp_path / "photos"


def deep(folder: Path, brightest: int) -> Path:
    """Eight grey pictures of 16 bits."""
    folder.mkdir()
    for i in range(8):
        x = np.random.default_rng(i).integers(0, brightest + 1, (24, 24)).astype(np.uint16)
        x[0, 0] = brightest
        Image.fromarray(x).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(("brightest", "white"), [(200, 255), (4095, 4095), (10_000, 16383)])
def test_dark_16_bit_pictures_are_remarked_on_with_the_remedy(tmp_path, brightest, white):
    data = load(deep(tmp_path / "d", brightest), size=24)
    assert ("8 16-bit, white 65535") in data.verdict and (
        f"the brightest 16-bit value is {brightest:,}"
    ) in data.verdict
    assert f"--white {white}" in data.verdict and data.x.max() < 64
    bright = load(tmp_path / "d", size=24, white=float(white))
    assert (
        bright.x.max() > 150
        and "brightest" not in bright.verdict
        and f"16-bit, white {white}" in bright.verdict
    )


def test_bright_16_bit_pictures_are_as_they_should_be(tmp_path):
    assert "brightest" not in load(deep(tmp_path / "d", 40_000), size=24).verdict


def test_films_and_archives_are_passed_over_and_a_pdf_is_counted(folder):
    for name in (
        "a.mp4",
        "a.mov",
        "a.avi",
        "a.mkv",
        "a.zip",
        "a.tar",
        "a.tar.gz",
        "a.pt",
        "a.safetensors",
        "a.pdf",
    ):
        (folder / name).write_bytes(b"%PDF-1.4" if name == "a.pdf" else b"anything")
    assert load(folder, size=16).verdict.startswith(
        "21 images: 20 used, 1 skipped (1 not images); 9 other files passed over"
    )


def test_no_more_than_the_head_of_what_is_no_image_is_read(tmp_path):
    path = tmp_path / "film"
    with path.open("wb") as file:
        file.truncate(decoding.MOST_BYTES + 10)  # a hole: takes no disk
    status = path.stat()
    found = decode(os.fsencode(path), (status.st_size, status.st_mtime_ns), Reading(size=16))
    assert isinstance(found, Skip) and found.reason == "not images"
    with pytest.raises(Skip, match="too large"):
        read_bytes(os.fsencode(path), (status.st_size, status.st_mtime_ns))


def test_large_pictures_are_decoded_one_at_a_time_and_small_ones_together(tmp_path, monkeypatch):
    inside, most = [0], [0]
    together = threading.Barrier(3)
    real = decoding._eight_bits

    def watched(image, reading):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        if decoding.LARGE:  # each waits for the others, which would never come if they took turns
            together.wait(20)
        time.sleep(0.05)
        found = real(image, reading)
        inside[0] -= 1
        return found

    monkeypatch.setattr(decoding, "_eight_bits", watched)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(1), "PNG"))
    listed = (path.stat().st_size, path.stat().st_mtime_ns)
    for large, expected in ((0, 1), (40 * 40, 3)):
        most[0] = 0
        monkeypatch.setattr(decoding, "LARGE", large)
        threads = [
            threading.Thread(target=decode, args=(os.fsencode(path), listed, Reading(size=16)))
            for _ in range(3)
        ]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert most[0] == expected


def test_the_key_of_a_picture_is_that_of_its_file(tmp_path):
    keys = set()
    for size in (16, 24):
        path = tmp_path / "a.png"
        path.write_bytes(encoded(photo(1), "PNG"))
        found = decode(os.fsencode(path), (path.stat().st_size, path.stat().st_mtime_ns), Reading(size=size))
        assert isinstance(found, Decoded)
        keys.add(found.key)
    assert len(keys) == 1 and keys != {0}


def test_captions_that_cannot_be_read_stop_before_anything_is_decoded(folder, monkeypatch):
    (folder / "metadata.jsonl").write_text(
        json.dumps(dict(file_name="photo000.png", text="ok")) + "\nbroken\n"
    )
    monkeypatch.setattr("likeness.data.folder.decoded", lambda *a: pytest.fail("decoded"))
    with pytest.raises(BadData, match="line 2"):
        load(folder, size=16)


def test_an_empty_file_of_captions_is_no_matter(folder):
    (folder / "metadata.jsonl").touch()
    data = load(folder, size=16)
    assert len(data.x) == 20 and data.texts is None


def test_room_is_asked_for_three_channels(folder, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda p: type("Usage", (), dict(free=2 * 20 * 16 * 16)))
    with pytest.raises(DiskTrouble, match="smaller --size"):
        load(folder, size=16)
    assert len(load(folder, size=16, colour="grey").x) == 20


@pytest.mark.parametrize("source", ["", " ", "~nobody-of-this-name/x", "~nobody-of-this-name"])
def test_a_source_that_names_nothing_is_refused(source, tmp_path, monkeypatch):
    write_photos(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    for ask in (load, lambda s: user_images.images(s, Spec(3, 16), {}, 4)):
        with pytest.raises(Refusal):
            ask(source)
    monkeypatch.setenv("LIKENESS_DATA", source)
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(Refusal):
        load("mnist")
