"""likeness from Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import likeness
from likeness.core import Refusal

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
    with pytest.raises(Refusal, match="augment is 'none' there, 'full' was asked for"):
        likeness.train("r3gan", "digits", tmp_path / "run", **few, augment="full")
