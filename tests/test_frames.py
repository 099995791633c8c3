"""Time counts, and not frames of a file: whatever a program merged, a clip shows what was seen."""

import sys
import types
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from likeness.core import BadData, Refusal
from likeness.data import frames

N = 16
FORMATS = {"GIF": ".gif", "PNG": ".png", "WEBP": ".webp"}


def moving(still: tuple[int, ...] = (5, 6, 7)) -> np.ndarray:
    """uint8 (16, 12, 12, 3): a bar that goes right; frames `still` are equal to the one before."""
    x, place = np.zeros((N, 12, 12, 3), np.uint8), 0
    for i in range(N):
        place += i not in still
        x[i, :, place % 12, :2] = 255
    return x


def saved(x: np.ndarray, path, format: str, duration=100) -> None:
    pictures = [Image.fromarray(a) for a in x]
    lossless = dict(lossless=True) if format == "WEBP" else {}
    pictures[0].save(
        path, format, save_all=True, append_images=pictures[1:], duration=duration, loop=0, **lossless
    )


def naive(path, n: int) -> np.ndarray:
    """The fake: n frames of the file at equal distances in its list."""
    film = frames.read(path)
    return film.frames[np.linspace(0, len(film.frames) - 1, n).round().astype(int)]


@pytest.mark.parametrize("format", FORMATS)
def test_frames_that_were_merged_come_back_by_their_time(tmp_path, format):
    x, path = moving(), tmp_path / f"a{FORMATS[format]}"
    saved(x, path, format)
    film = frames.read(path)
    assert len(film.frames) == 13 and film.length == pytest.approx(1.6)
    assert np.array_equal(frames.clip(film, N), x)
    assert not np.array_equal(naive(path, N), x)
    assert np.array_equal(frames.clip(film, 8), x[1::2])


def test_unequal_times_are_kept(tmp_path):
    x = moving(())[:3]
    saved(x, tmp_path / "a.gif", "GIF", [100, 300, 400])
    film = frames.read(tmp_path / "a.gif")
    assert film.seconds.tolist() == [0.1, 0.3, 0.4] and film.begins.tolist() == pytest.approx([0, 0.1, 0.4])
    assert np.array_equal(frames.clip(film, 8), x[[0, 1, 1, 1, 2, 2, 2, 2]])


def test_durations_of_zero_are_told_and_shown_as_browsers_do(tmp_path):
    x = moving(())
    saved(x, tmp_path / "a.gif", "GIF", 0)
    film = frames.read(tmp_path / "a.gif")
    assert np.all(film.seconds == frames.DEFAULT) and np.array_equal(frames.clip(film, N), x)
    assert "16 of 16 frames say no time" in film.notes[0]


def test_one_frame_stands_still(tmp_path):
    x = moving()[:1]
    Image.fromarray(x[0]).save(tmp_path / "a.png")
    saved(np.repeat(x, N, 0), tmp_path / "b.gif", "GIF")
    for name in ("a.png", "b.gif"):
        film = frames.read(tmp_path / name)
        assert len(film.frames) == 1 and np.array_equal(frames.clip(film, 4), np.repeat(x, 4, 0))
    assert frames.read(tmp_path / "b.gif").length == pytest.approx(1.6)
    with pytest.raises(Refusal, match="ask for 1 or more"):
        frames.clip(film, 0)


def test_a_picture_for_those_who_know_no_animations_is_none_of_its_frames(tmp_path):
    x = moving(())
    first, *rest = [Image.fromarray(a) for a in (np.full_like(x[0], 99), *x)]
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, duration=50, default_image=True)
    film = frames.read(tmp_path / "a.png")
    assert np.array_equal(film.frames, x) and film.length == pytest.approx(0.8)


def test_a_folder_is_read_in_the_order_of_its_numbers_and_sizes_become_one(tmp_path):
    x = moving(())[:11]
    for i, a in enumerate(x, 1):
        Image.fromarray(a).resize((24, 12) if i == 3 else (12, 12), Image.Resampling.NEAREST).save(
            tmp_path / f"frame{i}.png"
        )
    film = frames.read(tmp_path, fps=20)
    assert film.frames.shape == x.shape and film.length == pytest.approx(0.55)
    same = [i for i in range(11) if np.array_equal(film.frames[i], x[i])]
    assert same == [0, 1, *range(3, 11)] and "unequal size (12x12, 24x12)" in film.notes[0]
    assert frames.read(tmp_path, size=6).frames.shape == (11, 6, 6, 3)
    (tmp_path / "frame4.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(BadData, match=r"frame4\.png .* time would jump"):
        frames.read(tmp_path)


def test_transparent_pixels_have_the_background(tmp_path):
    a = np.zeros((2, 8, 8, 4), np.uint8)
    a[0, :4], a[1, 4:] = (255, 0, 0, 255), (0, 0, 255, 255)
    pictures = [Image.fromarray(p) for p in a]
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:], duration=40)
    film = frames.read(tmp_path / "a.png", background="lime")
    assert film.frames[0, 7, 0].tolist() == [0, 255, 0] and film.frames[1, 0, 0].tolist() == [0, 255, 0]
    assert film.frames[1, 7, 0].tolist() == [0, 0, 255]


def test_a_long_film_gives_clips_one_after_another():
    x = moving(())
    film = frames.Film(np.concatenate([x, x[:4]]), np.full(20, 0.1))
    assert np.array_equal(frames.clips(film, 8, 0.1), np.stack([x[:8], x[8:16]]))
    assert np.array_equal(frames.clips(film, 5, 0.2), np.stack([x[1:10:2], film.frames[11::2]]))
    assert np.array_equal(frames.clips(film, 20)[0], film.frames) and len(frames.clips(film, 50, 0.1)) == 1


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(Refusal, match="there is no video"):
        frames.read(tmp_path / "none.gif")
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + b"\0" * 40)
    with pytest.raises(BadData, match="not what its first bytes say"):
        frames.read(tmp_path / "a.gif")
    (tmp_path / "a.txt").write_bytes(b"hello")
    with pytest.raises(BadData, match="no animation and no video"):
        frames.read(tmp_path / "a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="holds no frames"):
        frames.read(tmp_path / "empty")


def test_a_film_cut_off_gives_the_frames_before(tmp_path):
    x, path = moving(()), tmp_path / "a.gif"
    saved(x, path, "GIF")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    film = frames.read(path)
    assert 0 < len(film.frames) < N and np.array_equal(film.frames, x[: len(film.frames)])
    assert "damaged after frame" in film.notes[0]


class _Picture:
    def __init__(self, x: np.ndarray, time: float):
        self.x, self.time, self.duration, self.time_base = x, time, 2, Fraction(1, 20)

    def to_image(self) -> Image.Image:
        return Image.fromarray(self.x)


class _Container:
    streams = types.SimpleNamespace(video=[1])

    def __init__(self, x: np.ndarray):
        self.x = x

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def decode(self, video: int):
        times = [0.0, 0.05, 0.15, 0.2]
        return (_Picture(a, t) for a, t in zip(self.x, times))


def test_a_video_is_read_by_the_times_of_its_frames(tmp_path, monkeypatch):
    path, x = tmp_path / "a.mp4", moving(())[:4]
    path.write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 32)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(Refusal, match=r"pip install 'likeness\[video\]'"):
        frames.read(path)
    monkeypatch.setitem(sys.modules, "av", types.SimpleNamespace(open=lambda blob: _Container(x)))
    film = frames.read(path)
    assert film.seconds.tolist() == pytest.approx([0.05, 0.1, 0.05, 0.1])
    assert np.array_equal(frames.clip(film, 6), x[[0, 1, 1, 2, 3, 3]])
