"""The cache: made once, noticed when damaged, swept and pruned, and never in the way."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data_helpers import counted, same, write_photos
from likeness.core import DiskTrouble, NotAllowed, Refusal
from likeness.data import cache as entries
from likeness.data import load, writer
from likeness.data.listing import walk
from likeness.data.writer import content_hash
from likeness.storage import cache


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 12)
    return tmp_path / "photos"


def test_a_second_start_decodes_nothing(photos, monkeypatch):
    first = load(photos, size=16)
    monkeypatch.setattr("likeness.data.folder.decoded", lambda *a: pytest.fail("decoded again"))
    again, spelled_out = load(photos, size=16), load(photos, **first.settings)
    assert same(first, again) and same(first, spelled_out) and list(first.names) == list(again.names)
    assert isinstance(again.x.base, np.memmap) or isinstance(again.x, np.memmap)
    assert not again.x.flags.writeable


def entry_of(place: Path) -> Path:
    (found,) = (p for p in place.iterdir() if p.is_dir() and p.name.startswith("folder"))
    return found


def overwrite(path: Path, at: int, junk: bytes) -> None:
    with path.open("rb+") as file:
        file.seek(at)
        file.write(junk)


DAMAGE = {
    "truncated pixels": lambda e: os.truncate(e / "x.u8", 100),
    "longer pixels": lambda e: (e / "x.u8").open("ab").write(b"x"),
    "overwritten pixels": lambda e: (e / "x.u8").write_bytes(bytes((e / "x.u8").stat().st_size)),
    "pixels overwritten in the middle": lambda e: overwrite(e / "x.u8", 5 * 768, bytes(768)),
    "a flipped bit in the names": lambda e: (e / "names.bin").write_bytes(
        b"q" + (e / "names.bin").read_bytes()[1:]
    ),
    "a flipped bit in the hashes": lambda e: (e / "hashes.u64").write_bytes(
        b"12345678" + (e / "hashes.u64").read_bytes()[8:]
    ),
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
    assert (
        again.fingerprint == before[0]
        and np.array_equal(again.x, before[1])
        and list(again.names) == before[2]
    )
    assert not list(place.glob("*.tmp-*"))


def test_any_change_of_a_listing_is_noticed(photos):
    first = load(photos, size=16)
    s = (photos / "photo003.png").stat()
    before = walk(photos).digest()
    os.utime(photos / "photo003.png", ns=(s.st_atime_ns, s.st_mtime_ns + 1))
    assert walk(photos).digest() != before
    (photos / "photo004.png").rename(photos / "renamed.png")
    again = load(photos, size=16)
    assert "renamed.png" in again.names and {
        again.x.tobytes()[i : i + 768] for i in range(0, 12 * 768, 768)
    } == {a.tobytes() for a in first.x}


def test_an_interrupted_decoding_leaves_nothing_behind(photos, place, monkeypatch):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(photos, size=16, progress=stop)
    assert [p.name for p in place.iterdir() if not p.name.endswith(".lock")] == []


def test_what_killed_processes_left_is_swept_and_what_others_are_making_is_not(photos, place):
    for name in ("folder-x.tmp-dead", "array-y.tmp-busy"):
        (place / name / "entry").mkdir(parents=True)
    with (place / "array-y.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        load(photos, size=16)
        assert [p.name for p in place.glob("*.tmp-*")] == ["array-y.tmp-busy"]
    load(photos, size=24)
    assert not list(place.glob("*.tmp-*"))


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
    def full(self, x, keys=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.Writer, "add", full)
    with pytest.raises(DiskTrouble, match="No space left"):
        load(photos)
    assert not list(place.glob("*.tmp-*"))


DECODE = """
import sys, time
from pathlib import Path
from likeness.data import load
calls = []
Path(sys.argv[2]).touch()
while not Path(sys.argv[3]).exists():
    time.sleep(0.01)
load(sys.argv[1], size=16, progress=lambda done, total: (calls.append(done), time.sleep(0.7)))
print(len(calls))
"""


def test_two_processes_that_start_together_decode_once(photos, tmp_path):
    ready = [tmp_path / f"ready{i}" for i in range(2)]
    command = [sys.executable, "-c", DECODE, str(photos)]
    workers = [
        subprocess.Popen([*command, str(r), str(tmp_path / "go")], stdout=subprocess.PIPE, text=True)
        for r in ready
    ]
    while not all(r.exists() for r in ready) and all(w.poll() is None for w in workers):
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert sorted(int(w.communicate(timeout=60)[0]) for w in workers) == [0, 2]


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("LIKENESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert (
        cache.root() == tmp_path / "xdg" / "likeness" and cache.root(tmp_path / "given") == tmp_path / "given"
    )
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.root() == tmp_path / ".cache" / "likeness"


@pytest.mark.parametrize("tiny", [0, entries.TINY])
def test_damage_in_the_middle_is_noticed_by_the_time_of_change_or_by_looking(
    tmp_path, place, monkeypatch, tiny
):
    """Row 100 of 200 is not among the 64 that are always looked at."""
    x = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x=x)
    load(tmp_path / "a.npz")
    monkeypatch.setattr(entries, "TINY", tiny)
    (path,) = place.glob("array-*/x.u8")
    before = path.stat()
    overwrite(path, 100 * 64, bytes(64))
    assert np.linspace(0, 199, 64).astype(int).tolist().count(100) == 0
    if tiny:  # a failing disk changes no time
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert np.array_equal(load(tmp_path / "a.npz").x, x)


def test_a_copied_entry_is_looked_through_once(tmp_path, place, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8), np.uint8))
    load(tmp_path / "a.npz")
    monkeypatch.setattr(entries, "TINY", 0)
    (path,) = place.glob("array-*/x.u8")
    os.utime(path, ns=(1, 1))
    looked: list[int] = []
    monkeypatch.setattr(entries, "content_hash", lambda image: looked.append(1) or content_hash(image))
    load(tmp_path / "a.npz")
    assert len(looked) == 200
    load(tmp_path / "a.npz")
    assert len(looked) == 264


def test_what_is_no_image_and_captions_cost_no_decoding(photos, monkeypatch):
    first = load(photos, size=16)
    monkeypatch.setattr("likeness.data.folder.decoded", lambda *a: pytest.fail("decoded again"))
    (photos / ".DS_Store").write_bytes(b"x")
    (photos / "photo000.txt").write_text("x")
    assert counted(load(photos, size=16)).startswith(
        "12 images: 12 used, 0 skipped; 2 other files passed over ->"
    )
    (photos / "metadata.jsonl").write_text('{"file_name": "photo003.png", "text": "a thing"}')
    told = load(photos, size=16)
    assert told.texts[3] == "a thing" and told.fingerprint != first.fingerprint
    (photos / "metadata.jsonl").write_text('{"file_name": "photo003.png", "text": "another thing"}')
    assert load(photos, size=16).texts[3] == "another thing"
    (photos / "gone.png").symlink_to("nowhere")
    assert "1 skipped (1 dangling links)" in load(photos, size=16).verdict


def test_an_entry_pushes_out_the_one_not_used_for_longest(photos, place, tmp_path):
    write_photos(tmp_path / "others", 4)
    load(tmp_path / "others", size=16)
    for size in (16, 17, 18, 16, 19):  # 17 is the one
        load(photos, size=size, colour="auto")
    sides = sorted(json.loads(p.read_text())["meta"]["shape"][-1] for p in place.glob("folder-*/entry.json"))
    assert sides == [16, 16, 18, 19]
    assert len(list(place.glob("about-*/entry.json"))) == 4
    assert len(list(place.glob("*.same"))) == 4 and all(
        (place / p.read_text()).exists() for p in place.glob("*.same")
    )


def test_an_entry_that_another_process_makes_anew_is_not_pushed_out(photos, place):
    load(photos, size=16)
    with (place / f"{entry_of(place).name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for size in (17, 18, 19, 20):
            load(photos, size=size)
    assert len(list(place.glob("folder-*/entry.json"))) == 4


@pytest.mark.parametrize(
    "where", ["/proc/xx", "n" * 300, "loop/x", "dangling", "~nobody-of-this-name/x", "\0"]
)
def test_a_cache_in_an_impossible_place_is_refused(tmp_path, where):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "no" / "where")
    with pytest.raises(Refusal, match="LIKENESS_CACHE"):
        load("shapes:20", cache=where if where[0] in "/~\0" else tmp_path / where)
