"""Clips are written as what moves, and are read back as what was to be seen, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small_run
from likeness import cli, figures
from likeness.core import Refusal
from likeness.data import frames
from likeness.reports.notebook import Pictures
from likeness.training.loop import fit


def clips(n: int = 3) -> torch.Tensor:
    """(n, 3, 6, 8, 8): blocks of pure colours, of which frames 2 and 3 are equal."""
    x = -torch.ones(n, 3, 6, 8, 8)
    for i in range(n):
        for t, place in enumerate((0, 1, 2, 2, 3, 4)):
            x[i, i % 3, t, :, place : place + 3] = 1
    return x


@pytest.mark.parametrize("ending", [".gif", ".apng", ".webp"])
def test_a_grid_of_clips_shows_every_frame_at_its_time(tmp_path, ending):
    x, path = clips(), tmp_path / f"a{ending}"
    Pictures(x, dict(seed=5)).save(path)
    film = frames.read(path)
    assert film.length == pytest.approx(0.6) and len(film.frames) == 5, "equal frames are merged"
    want = np.stack([figures.grid(frame) for frame in x.unbind(2)])
    assert np.array_equal(frames.clip(film, 6), want) and np.array_equal(figures.moving(x), want)
    assert not np.array_equal(frames.clip(film, 6), want[[0, 1, 2, 4, 5, 5]]), "a fake that lost a time"
    assert figures.read_recipe(path)["seed"] == 5


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_a_video_is_written_and_read_through_pyav(tmp_path, ending):
    pytest.importorskip("av")
    x, path = clips().repeat(1, 1, 1, 4, 4), tmp_path / f"a{ending}"
    Pictures(x).save(path)
    film, want = frames.read(path), figures.moving(x)
    assert film.length == pytest.approx(0.6, abs=0.02) and film.frames.shape[1] % 2 == 0
    seen = frames.clip(film, 6)[:, : want.shape[1], : want.shape[2]].astype(int)
    assert abs(seen - want).mean() < 16 < abs(seen - want[::-1]).mean()


def test_without_pyav_that_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(Refusal, match=r"pip install 'likeness\[video\]'; .gif"):
        Pictures(clips()).save(tmp_path / "a.mp4")


def test_arrays_folders_and_strips(tmp_path):
    x = clips()
    Pictures(x).save(tmp_path / "a.npy")
    levels = np.load(tmp_path / "a.npy")
    assert levels.shape == (3, 6, 8, 8, 3) and np.array_equal(levels.transpose(0, 4, 1, 2, 3) > 0, x > 0)
    Pictures(x).save(tmp_path / "each")
    one = frames.clip(frames.read(tmp_path / "each" / "000001.webp"), 6)
    assert np.array_equal(one, levels[1])
    Pictures(x).save(tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as strip:
        assert np.array_equal(np.asarray(strip), figures.shown(x)) and strip.width > strip.height
    with pytest.raises(Refusal, match="clips are written as"):
        Pictures(x).save(tmp_path / "a.tiff")
    with pytest.raises(Refusal, match="images are written as"):
        Pictures(x[:, :, 0]).save(tmp_path / "a.gif")
    with pytest.raises(Refusal, match="a clip is no picture"):
        Pictures(x).pil()


def test_sample_writes_what_moves(tmp_path, capsys):
    run, data = small_run("video", tmp_path / "run", images=16)
    for _ in fit(run, data):
        pass
    run.save()
    run.close()
    home = str(tmp_path / "run")
    assert cli.main(["sample", home, "-n", "2"]) == 0 and "2 clips" in capsys.readouterr().out
    assert len(frames.clip(frames.read(tmp_path / "run/samples/seed-0-n-2.gif"), 3)) == 3
    assert cli.main(["sample", home, "-n", "2", "-o", str(tmp_path / "a.npy")]) == 0
    assert np.load(tmp_path / "a.npy").shape == (2, 3, 16, 16, 1)
    assert cli.main(["sample", home, "-n", "1", "--nearest"]) != 0
