"""A folder of videos becomes clips: their frames by time, their classes, captions and faults as of images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likeness import data as datasets
from likeness.core import BadData, Refusal
from likeness.data import frames, moving_shapes
from likeness.data.clips import listed
from test_frames import moving, saved


def folder(path: Path, n: int = 4) -> Path:
    """Videos of a bar that moves, each in other colours and formats."""
    path.mkdir()
    for i in range(n):
        x = np.roll(moving((5, 6)), 3 * i, -1) // (i + 1)
        saved(x, path / f"v{i}{('.gif', '.png', '.webp')[i % 3]}", ("GIF", "PNG", "WEBP")[i % 3])
    return path


def framed(path: Path, x: np.ndarray) -> None:
    path.mkdir()
    for i, frame in enumerate(x):
        Image.fromarray(frame).save(path / f"frame{i}.png")


def test_a_clip_of_each_video_has_what_is_seen_at_its_time(tmp_path):
    home = folder(tmp_path / "videos")
    data = datasets.load(home, size=12, frames=16)
    assert data.x.shape == (4, 3, 16, 12, 12) and data.spec.frames == 16 and data.settings["frames"] == 16
    assert list(data.names) == ["v0.gif", "v1.png", "v2.webp", "v3.gif"]
    for i in range(4):
        want = frames.clip(frames.read(home / data.names[i], 12), 16).transpose(3, 0, 1, 2)
        assert np.array_equal(data.x[i], want)
    # one merged frame that lasted 0.2 s fills two of a clip: the fake counts frames of the file
    film = frames.read(home / "v1.png", 12)
    assert len(film.frames) == 14
    fake = film.frames[np.linspace(0, 13, 16).round().astype(int)].transpose(3, 0, 1, 2)
    assert not np.array_equal(data.x[1], fake)
    other = datasets.load(home, size=12, frames=8)
    assert other.x.shape == (4, 3, 8, 12, 12) and other.fingerprint != data.fingerprint
    assert datasets.load(home, **data.settings).fingerprint == data.fingerprint


def test_a_folder_of_frames_is_a_clip_and_folders_around_are_classes(tmp_path):
    for k, name in enumerate(("left", "right")):
        (tmp_path / name).mkdir()
        for i in range(3):
            framed(tmp_path / name / f"take{i}", np.roll(moving((5 + i,)), 2 * i + k, 2))
        saved(moving((k,)), tmp_path / name / "more.gif", "GIF")
    data = datasets.load(tmp_path, size=12, frames=16)
    assert data.classes == ("left", "right") and data.y.tolist() == [0] * 4 + [1] * 4
    assert data.names[1] == "left/take0" and "8 videos: 8 used" in data.verdict
    assert np.array_equal(data.x[1], moving((5,)).transpose(3, 0, 1, 2))


def test_a_folder_of_animated_pictures_is_no_folder_of_frames(tmp_path):
    (tmp_path / "all").mkdir()
    for i in range(3):
        saved(moving((i,)), tmp_path / "all" / f"{i}.png", "PNG")
    assert len(listed(tmp_path)) == 3


def test_captions_lie_beside_or_in_a_table(tmp_path):
    home = folder(tmp_path / "videos")
    (home / "v0.txt").write_text("a bar on its way\n")
    (home / "notes.txt").write_text("of no video")
    framed(home / "walk", moving())
    rows = [dict(file_name="v1.png", text="half as bright"), dict(file_name="walk", text="frame by frame")]
    (home / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = datasets.load(home, size=12, frames=4)
    assert list(data.texts) == ["a bar on its way", "half as bright", "", "", "frame by frame"]
    assert data.spec.vocabulary and "3 have captions" in data.verdict
    (home / "v0.txt").write_text("another text")
    assert datasets.load(home, size=12, frames=4).texts[0] == "another text"


def test_grey_videos_are_grey(tmp_path):
    home = tmp_path / "grey"
    home.mkdir()
    for i in range(3):
        saved(np.repeat(np.roll(moving(), i, 2)[..., :1], 3, -1), home / f"{i}.png", "PNG")
    data = datasets.load(home, size=12, frames=4)
    assert data.x.shape == (3, 1, 4, 12, 12) and "read as grey" in data.verdict
    assert datasets.load(folder(tmp_path / "c"), size=12, frames=4).x.shape[1] == 3


def test_what_is_odd_about_a_video_is_counted(tmp_path):
    home = folder(tmp_path / "videos", 10)
    saved(moving()[:1], home / "still.gif", "GIF")
    saved(moving(), home / "timeless.gif", "GIF", 0)
    frames_of = [Image.fromarray(a) for a in moving()[:4]]
    (home / "unequal").mkdir()
    for i, frame in enumerate(frames_of):
        frame.resize((12 + 4 * i, 12)).save(home / "unequal" / f"{i}.png")
    (home / "broken.gif").write_bytes(b"GIF89a" + bytes(40))
    (home / "text.webp").write_text("no picture")
    data = datasets.load(home, size=12, frames=4)
    assert len(data.x) == 13
    for what in ("1 of one frame, which stands still", "1 with frames of unequal size", "2 damaged"):
        assert what in data.verdict, data.verdict
    still = data.x[list(data.names).index("still.gif")]
    assert (still == still[:, :1]).all()
    assert "1 with frames of no time, each shown 0.1 s" in data.verdict


def test_a_folder_that_is_no_set_of_videos_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match=r"videos end in .gif"):
        datasets.load(tmp_path / "empty", frames=4)
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(Refusal, match="name the folder that they"):
        datasets.load(tmp_path / "a.gif", frames=4)
    with pytest.raises(Refusal, match="shapes:20 has still images; leave it out"):
        datasets.load("shapes:20", frames=4)
    with pytest.raises(Refusal, match="has clips of 16 frames"):
        datasets.load("moving-shapes:20", frames=4)
    home = tmp_path / "videos"
    home.mkdir()
    for i in range(3):
        (home / f"{i}.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(20))
    with pytest.raises(BadData, match=r"3 videos.*--frames 16"):
        datasets.load(home)


def test_stills_are_read_as_they_were(tmp_path):
    """The key of what is in the cache for stills has not changed."""
    reading = datasets.Reading(size=8)
    assert reading.key() == (8, "auto", "white", 0.0) and replace(reading, frames=4).key() != reading.key()
    assert datasets.load("moving-shapes:20", frames=16).spec.frames == moving_shapes.FRAMES


def test_mp4_through_pyav(tmp_path):
    av = pytest.importorskip("av")
    home = tmp_path / "films"
    home.mkdir()
    whole = moving(()).repeat(4, 1).repeat(4, 2)
    for i in range(3):
        with av.open(str(home / f"{i}.mp4"), "w") as file:
            stream = file.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 48
            stream.bit_rate = 4_000_000
            for frame in np.roll(whole, 4 * i, 2):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            file.mux(stream.encode())
    data = datasets.load(home, size=48, frames=16)
    want = np.stack([np.roll(whole, 4 * i, 2).transpose(3, 0, 1, 2) for i in range(3)]).astype(int)
    assert abs(data.x - want).mean() < 12
    assert abs(data.x - np.roll(want, 1, 2)).mean() > 24, "one frame later is another picture"
