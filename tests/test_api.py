"""likeness from Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from likeness.cli import VERBS, main
from likeness.core import Refusal
from likeness.reports.notebook import Pictures

TINY = dict(width=8, depth=1, latent=4, precision="fp32", batch=64)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return likeness.train("vae", "digits", "v", images=320, progress=False, **TINY)


def test_three_lines(run, capsys):
    assert (
        run.run.seen == 320
        and run.config.model == "vae"
        and run.log()[-1]["seen"] == 256
        and run.folder.name == "v"
    )
    assert "320 images seen; answers sample, bits_per_dim, encode, decode" in repr(run)
    samples = run.sample(5, seed=3)
    assert (
        np.asarray(samples).shape == (5, 1, 8, 8)
        and len(samples) == 5
        and ("<5 images of 1x8x8") in repr(samples)
    )
    assert np.allclose(np.asarray(run.sample(1, seed=3, first=4)), np.asarray(samples)[4:], atol=1e-5)
    cards = run.evaluate(n=50)
    assert cards["bits/dim"].kind == "upper bound" and (run.folder / "report.html").exists()
    with pytest.raises(KeyError, match="no card is called 'nothing'; there are: bits/dim"):
        cards["nothing"]
    again = likeness.open("v")
    assert np.array_equal(np.asarray(again.sample(5, seed=3)), np.asarray(samples))


def test_results_show_themselves_in_a_notebook(run):
    assert run.sample(3)._repr_png_().startswith(b"\x89PNG")
    assert run._repr_html_().startswith("<p><b>v</b>: vae, 320 images seen</p><img alt=")
    assert "<table" in run.evaluate(n=20)._repr_html_()


def test_it_goes_on_and_numbers_of_a_notebook_will_do(run):
    more = likeness.train("vae", "digits", "v", images=np.int64(640), progress=False, latent=np.int64(4))
    assert more.run.seen == 640


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (dict(minutes=float("nan")), "no time to train for"),
        (dict(minutes=-1), "no time to train for"),
        (dict(minutes="soon"), "is not a number"),
        (dict(images="64"), "should be a whole number"),
        (dict(images=1e4), "should be a whole number"),
        (dict(latent="a"), "should be int"),
        (dict(latnet=4), "has no option 'latnet'; did you mean 'latent'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path, wrong, lesson):
    with pytest.raises(Refusal, match=lesson):
        likeness.train("vae", "digits", tmp_path / "w", progress=False, **wrong)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "wrong", [dict(n=0), dict(n=2.5), dict(n="a"), dict(seed=-1), dict(label=3), dict(k=0), dict(nothing=1)]
)
def test_odd_questions_are_refused(run, wrong):
    with pytest.raises(Refusal):
        run.sample(**wrong)
    with pytest.raises(Refusal):
        list(run.scores(n=5.0))


def test_progress_is_shown_and_notes_are_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("likeness.reports.terminal.EVERY", 0.0)
    likeness.train("ae", "digits", tmp_path / "p", images=256, **TINY)
    err = capsys.readouterr().err
    assert "for 256 images, in fp32" in err and "100%" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_ends_when_it_is_asked_to(tmp_path, number):
    code = "import likeness\nlikeness.train('ae', 'digits', 'a', minutes=5, progress=False)\nprint('went on')"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and not (tmp_path / "a" / "log.jsonl").exists():
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (
        "went on" not in out
        and process.returncode == {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}[number]
    ), err
    assert likeness.open(tmp_path / "a").run.seen > 0


def test_a_run_that_is_older_than_an_option_has_it_at_its_default(tmp_path):
    few = dict(images=32, size=8, progress=False)
    likeness.train("r3gan", "digits", tmp_path / "run", **few)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["options"]["augment"]
    path.write_text(json.dumps(config))
    assert (
        likeness.train("r3gan", "digits", tmp_path / "run", **few | dict(images=64), augment="none").run.seen
        == 64
    )
    with pytest.raises(Refusal, match="--augment none, not --augment full"):
        likeness.train("r3gan", "digits", tmp_path / "run", **few, augment="full")


# What the command line has, Python has


IN_PYTHON = {
    "train": "train",
    "bayes": "bayes",
    "check": "check",
    "style": "style",
    "play": "agents.load",
    "completion": "cli.main",
    "models": "models.NAMES",
    "data": "data.named.listed",
}
"""verbs that ask no run, and where they are in likeness; any other is a method of a run"""


def test_a_run_has_in_python_what_the_command_line_has():
    for verb in set(VERBS) - set(IN_PYTHON):
        assert callable(getattr(likeness.Trained, verb, None)), verb
    for place in IN_PYTHON.values():
        module, _, name = f"likeness.{place}".rpartition(".")
        assert hasattr(import_module(module), name), place


def test_dir_shows_what_there_is_without_importing_it():
    code = "import likeness, sys; print('torch' in sys.modules, *dir(likeness))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, *names = done.stdout.split()
    assert heavy == "False" and {"train", "open", "check", "bayes", "devices", "Trained"} <= set(names)
    assert "import_module" not in names and {"data", "core"} <= set(dir(likeness))
    assert Refusal("no.")._render_traceback_() == ["Refusal: no."]
    assert set(likeness.__all__) <= set(names) and all(hasattr(likeness, name) for name in likeness.__all__)


def test_samples_are_arrays_pictures_and_tensors(run):
    samples = run.sample(3, seed=1)
    levels, pictures, x = samples.numpy(), samples.pil(), samples.tensor()
    assert levels.shape == (3, 8, 8, 1) and levels.dtype == np.uint8 and x.shape == (3, 1, 8, 8)
    assert np.array_equal(np.stack([np.asarray(p) for p in pictures]), levels[..., 0])
    assert np.array_equal(levels[..., 0], ((x[:, 0].clamp(-1, 1) + 1) * 127.5).round().byte().numpy())
    assert torch.equal(samples[2], x[2]) and len(list(samples)) == 3
    with pytest.raises(Refusal, match="a point is no picture"):
        Pictures(torch.zeros(4, 2, 1, 1)).pil()


def test_codes_and_pictures_of_them_are_those_of_the_command_line(run, tmp_path):
    x = run.data.take(run.data.held_out[:5]).x
    assert torch.equal(run.encode(n=5), run.encode(x)) and run.encode(x).shape == (5, 4)
    assert torch.allclose(run.decode(run.encode(x)).tensor(), run.reconstruct(x)[1], atol=1e-6)
    page = run.latent("interpolation", n=2, seed=3)
    assert main(["latent", "v", "--picture", "interpolation", "-n", "2", "--seed", "3", "-o", "l.png"]) == 0
    with Image.open("l.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(page)) and page.pil().size == picture.size
    assert (
        page.save("p.png").exists()
        and page._repr_png_().startswith(b"\x89PNG")
        and "latent" not in page.recipe
    )
    with pytest.raises(Refusal, match=r"written as one of: \.png, \.jpg"):
        page.save("p.npy")
    with pytest.raises(Refusal, match="likeness diffuse"):
        run.diffuse()


def test_features_neighbours_and_a_map_of_a_run(run):
    matrix = run.features()
    assert matrix.shape == (1797, 4) and np.allclose(
        matrix[run.data.held_out[:5]], run.encode(n=5).numpy(), atol=1e-5
    )
    near = run.neighbours("7", k=3)
    far = np.linalg.norm(matrix - matrix[7], axis=1)
    assert list(near.rows) == np.argsort(far, kind="stable")[1:4].tolist()
    assert np.allclose(near.distance, np.sort(far)[1:4], atol=1e-4)
    made = run.map(method="pca", n=60)
    assert made.y.shape == (60, 2) and len(made.names) == 60 and made.scores and np.asarray(made).ndim == 3


def test_data_are_checked_and_a_ddpm_shows_its_way(tmp_path, monkeypatch):
    assert likeness.check("digits").train == 1623
    monkeypatch.chdir(tmp_path)
    small = dict(images=32, scale=0.25, steps=2, progress=False)
    run = likeness.train("ddpm", "digits", "d", **small)
    assert (
        run.diffuse("schedule").image.ndim == 3 and run.diffuse("reverse", n=1, steps=3).recipe["steps"] == 3
    )
    assert run.export().is_dir() and run.nearest(run.sample(2, steps=2)).recipe["distance"]


def test_a_run_that_classifies_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = likeness.train(
        "classifier", "digits", "c", images=256, width=4, schedule="constant", progress=False
    )
    page = run.look(run.data.take(run.data.held_out[:1]).x[0], of=3)
    assert page.recipe["of"] == 3 and page.image.ndim == 3


class Handle:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def update(self, data: dict, raw: bool) -> None:
        assert raw
        self.texts.append(data["text/plain"])


def test_in_a_notebook_one_line_is_replaced_and_none_is_added(tmp_path, monkeypatch, capsys):
    handle = Handle()
    display = SimpleNamespace(display=lambda *a, **k: handle)
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=True))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("likeness.reports.terminal.REPLACED", 0.0)
    monkeypatch.setattr("likeness.reports.terminal.EVERY", 0.0)
    likeness.train("ae", "digits", tmp_path / "p", images=640, **TINY)
    assert len(handle.texts) == 10 and handle.texts[-1].startswith("100%")
    assert "images  " not in capsys.readouterr().err
