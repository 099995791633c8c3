"""What a user types where data are wanted: read once, by everybody the same way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import likeness
from likeness import data
from likeness.cli import main as command
from likeness.data import source
from likeness.features.images import pictures
from likeness.runs import source as runs_too


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with one of everything; digits and ring are folders as well as sets."""
    for folder in ("photos", "digits", "ring", "run"):
        (tmp_path / folder).mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8), np.uint8))
    (tmp_path / "cat.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


WHAT = {
    "mnist": ("name", None, "mnist", "mnist"),
    "shapes:50": ("name", None, "shapes:50", "shapes-50"),
    "digits": ("name", None, "digits", "digits"),
    "./digits": ("folder", "digits", "{here}/digits", "digits"),
    "ring:500": ("points", None, "ring:500", "ring-500"),
    "./ring": ("folder", "ring", "{here}/ring", "ring"),
    "density:cat.png": ("points", "cat.png", "density:{here}/cat.png", "cat"),
    "density:~/cat.png": ("points", "{here}/cat.png", "density:{here}/cat.png", "cat"),
    "density:none.png": ("points", "none.png", "density:none.png", "none"),
    "photos/": ("folder", "photos", "{here}/photos", "photos"),
    "~/photos": ("folder", "{here}/photos", "{here}/photos", "photos"),
    "x.npy": ("file", "x.npy", "{here}/x.npy", "x"),
    "run": ("run", "run", "{here}/run", "run"),
    "phoots": ("nothing", "phoots", "phoots", "phoots"),
}
"""of each text: its kind, its path, the text that finds it from anywhere, and what it is called"""


@pytest.mark.parametrize("text", WHAT)
def test_what_a_text_is(here, text):
    kind, path, anywhere, stem = WHAT[text]
    asked = runs_too.parse(text)
    assert asked == (text, kind, path and Path(path.format(here=here)))
    assert asked.anywhere.text == anywhere.format(here=here) and asked.anywhere.kind == kind
    assert asked.stem == stem and asked.run_folder("mine/gan.py") == Path(f"runs/gan-{stem}")
    assert runs_too.parse(asked) == asked and runs_too.parse(asked.anywhere.text) == asked.anywhere
    assert source.parse(text) == asked._replace(kind="folder" if kind == "run" else kind)


def test_a_run_is_named_by_its_task_and_its_second_place(here):
    photos = source.parse("photos/")
    assert photos.run_folder("pix2pix", "inpaint") == Path("runs/pix2pix-photos-inpaint")
    assert photos.run_folder("cyclegan", to="x.npy") == Path("runs/cyclegan-photos-to-x")
    assert photos.run_folder("cyclegan", to="shapes:50") == Path("runs/cyclegan-photos-to-shapes-50")


def test_two_tasks_of_one_set_are_two_runs(here):
    """By the command, and in Python: the second is not refused for the settings of the first."""
    asked = dict(images=32, depth=2, width=4, batch=16)
    flags = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    command(["train", "pix2pix", "shapes:64", "--task", "colourise", *flags, "--size", "16", "--no-report"])
    likeness.train("pix2pix", "shapes:64", task="inpaint", size=16, progress=False, **asked)
    assert {run.name for run in Path("runs").iterdir()} == {
        "pix2pix-shapes-64-colourise",
        "pix2pix-shapes-64-inpaint",
    }


def test_one_that_has_been_read_is_not_read_again(here, monkeypatch):
    array, digits = source.parse("x.npy").anywhere, source.parse("digits")
    monkeypatch.chdir("/")  # from where the text finds nothing
    monkeypatch.setattr(source.named, "is_named", lambda text: pytest.fail(f"{text} is parsed twice"))
    assert data.read(array, data.Reading()).x.shape == (3, 1, 8, 8)
    assert data.load(digits).spec.shape == (1, 8, 8) and data.load(digits).source == "digits"
    assert pictures(digits, 8, "nearest").total == 1797
