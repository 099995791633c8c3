"""The data of a run move, alone or with the project, or change: it goes on, or says why not."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

import likeness
from commands import ask, refused
from data_helpers import photo, write_photos
from likeness import storage
from likeness.cli import main
from likeness.core import Refusal
from likeness.data import Reading, load
from likeness.runs import origin
from likeness.runs.run import read_config

SMALL = dict(size=16, batch=16, latent=4, width=8, depth=1, precision="fp32", progress=False)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with photos and a run that has learnt them."""
    here = tmp_path / "project"
    write_photos(here / "photos", 40)
    monkeypatch.chdir(here)
    likeness.train("vae", "photos", "runs/v", images=32, **SMALL)
    return here


def goes_on(data: str, images: int, *more: str) -> int:
    return main(["train", "vae", data, "runs/v", "--images", str(images), "--no-report", *more])


def test_equal_data_in_another_place_are_learnt_on_and_remembered(project, tmp_path):
    whole = tmp_path / "whole"
    likeness.train("vae", "photos", whole, images=64, **SMALL)
    os.rename("photos", "pictures")
    assert goes_on("pictures", 64) == 0
    assert read_config(Path("runs/v")).data["source"] == str(project / "pictures")
    here, there = (storage.newest(folder / "state")[0] for folder in (Path("runs/v"), whole))
    assert all(np.array_equal(here[name], there[name]) for name in there)
    assert likeness.open("runs/v").data.fingerprint == read_config(whole).data["fingerprint"]


def test_a_project_moves_with_its_data(project, tmp_path, monkeypatch):
    first = likeness.open("runs/v").reconstruct(n=2)[0]
    monkeypatch.chdir(tmp_path)
    os.rename(project, tmp_path / "else where")
    monkeypatch.chdir(tmp_path / "else where")
    assert np.array_equal(likeness.open("runs/v").reconstruct(n=2)[0], first)
    assert goes_on("photos", 64) == 0


def test_a_run_without_a_relative_place_opens_and_gets_one(project, capsys):
    config = Path("runs/v/config.json")
    old = json.loads(config.read_text())
    del old["origin"]  # as runs were written before
    config.write_text(json.dumps(old))
    assert len(likeness.open("runs/v").data.x) == 40
    os.rename("photos", "pictures")
    hint = refused(capsys, "reconstruct", "runs/v", "-n", "2")
    assert f"lay in {project / 'photos'}, and nothing is there now" in hint and "--data PLACE" in hint
    ask(capsys, "reconstruct", "runs/v", "-n", "2", "--data", "pictures")  # what the hint says
    ask(capsys, "reconstruct", "runs/v", "-n", "2")  # it is remembered
    assert origin.places(read_config(Path("runs/v")), Path("runs/v")) == [str(project / "pictures")]


@pytest.mark.parametrize(
    "verb",
    [
        ["evaluate", "runs/v", "--network", "none", "-n", "2"],
        ["sample", "runs/v", "--nearest", "-n", "2"],
        ["latent", "runs/v", "-n", "2"],
        ["score", "runs/v", "-n", "2"],
        ["neighbours", "0", "runs/v"],
    ],
)
def test_every_verb_that_needs_the_data_takes_their_place(project, capsys, verb):
    os.rename("photos", project.parent / "far away")
    assert "nothing is there now" in refused(capsys, *verb)
    assert main([*verb, "--json", "--data", str(project.parent / "far away")]) == 0


def test_python_takes_their_place(project):
    os.rename("photos", "pictures")
    with pytest.raises(Refusal, match="nothing is there now"):
        likeness.open("runs/v").data  # noqa: B018
    assert likeness.open("runs/v", data="pictures").data.source == str(project / "pictures")


def test_data_that_changed_are_counted(project, capsys):
    kept = Path("photos/photo003.png").read_bytes()
    os.remove("photos/photo003.png")
    gone = refused(capsys, "train", "vae", "photos", "runs/v", "--images", "64")
    assert "there were 40 images, and there are 39 now" in gone
    assert "fingerprint" not in gone and read_config(Path("runs/v")).data["fingerprint"] not in gone
    assert "there were 40 images, and there are 39 now" in caught(likeness.open("runs/v"), capsys)
    photo(99).save("photos/photo003.png")
    edited = refused(capsys, "train", "vae", "photos", "runs/v", "--images", "64")
    assert "there were 40 images and there are as many, but not with the same pixels" in edited
    Path("photos/photo003.png").write_bytes(kept)  # what the refusal says first
    assert goes_on("photos", 48) == 0
    os.remove("photos/photo003.png")
    assert (
        main(["train", "vae", str(Path("photos").resolve()), "other", "--images", "16", "--no-report"]) == 0
    )


def caught(run, capsys) -> str:
    run.data  # noqa: B018
    return capsys.readouterr().err


def test_other_words_beside_the_same_pictures_are_named(project):
    config = read_config(Path("runs/v"))
    data = load("photos", size=16)
    told = replace(data, fingerprint="other", parts=data.parts | {"captions": "other"})
    assert "as many, but with other captions" in origin.changed(config, Path("runs/v"), told)
    assert origin.changed(config, Path("runs/v"), data) == ""


def test_codes_are_learnt_on_where_the_images_have_moved(project, capsys):
    small = ["--images", "16", "--batch", "16", "--no-report"]
    assert main(["train", "ddpm", "runs/v", "runs/c", *small]) == 0
    os.rename("photos", "pictures")
    again = ["train", "ddpm", "runs/v", "runs/c", "--images", "32", "--no-report"]
    capsys.readouterr()
    assert "--data PLACE" in refused(capsys, *again)
    assert main([*again, "--data", "pictures"]) == 0
    assert main(["evaluate", "runs/v", "-n", "2", "--network", "none"]) == 0  # both remember
    inside = read_config(Path("runs/c/inside"))
    assert inside.origin["relative"] == "../../../photos"  # as seen from there
    capsys.readouterr()
    assert "leave it out" in refused(capsys, "train", "vae", "pictures", "--data", "pictures")


def test_a_file_that_an_option_names_moves_with_the_project(tmp_path):
    file = tmp_path / "old" / "weights.pt"
    config = origin.of(load("digits"), tmp_path / "old" / "runs" / "r", {"weights": str(file)})
    assert config["files"] == {"weights": "../../weights.pt"}
    (tmp_path / "new" / "runs" / "r").mkdir(parents=True)
    (tmp_path / "new" / "weights.pt").write_bytes(b"")

    class Moved:
        options, origin = {"weights": str(file)}, config

    there = origin.missing_files(Moved, tmp_path / "new" / "runs" / "r")
    assert there == {"weights": str(tmp_path / "new" / "weights.pt")}


def test_the_origin_is_no_part_of_what_tells_runs_apart(project):
    config = read_config(Path("runs/v"))
    assert set(config.reading) == {f.name for f in fields(Reading)}
    assert asdict(config)["origin"]["images"] == 40
